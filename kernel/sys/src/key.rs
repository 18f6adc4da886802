//! PF_KEY version 2 (RFC 2367): whole datagrams to and from the kernel.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use socket2::{Domain, Protocol, Socket, Type};

use crate::{Received, option, received};

/// Protocol number of PF_KEY version 2 (RFC 2367 section 1.3).
const PF_KEY_V2: i32 = 2;
/// Broadcasts of a whole hand-over arrive in one burst, and Linux drops silently what does not fit.
const RECEIVE_BUFFER: usize = 1024 * 1024;

/// A non-blocking PF_KEY socket; needs CAP_NET_ADMIN.
#[derive(Debug)]
pub struct KeySocket(Socket);

impl KeySocket {
    /// Opens the socket; EAFNOSUPPORT where the kernel has no PF_KEY (module `af_key`).
    pub fn open() -> io::Result<Self> {
        let socket = Socket::new(Domain::from(libc::PF_KEY), Type::RAW, Some(Protocol::from(PF_KEY_V2)))?;
        socket.set_nonblocking(true)?;
        option::set_receive_buffer(&socket, RECEIVE_BUFFER)?;
        Ok(Self(socket))
    }

    /// Sends one message to the kernel. Its answer, error or not, arrives as a message.
    pub fn send(&self, bytes: &[u8]) -> io::Result<()> {
        self.0.send_with_flags(bytes, libc::MSG_DONTWAIT).map(|_| ())
    }

    /// Takes the next message. Linux never reports an overrun here, it only loses the message; the netlink socket beside it does report.
    pub fn receive(&self) -> io::Result<Received> {
        received::whole(&self.0)
    }
}

impl AsRawFd for KeySocket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for KeySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<KeySocket> for OwnedFd {
    fn from(socket: KeySocket) -> Self {
        socket.0.into()
    }
}
