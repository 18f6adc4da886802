//! PF_KEY version 2 (RFC 2367): whole datagrams to and from the kernel.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
#[cfg(target_os = "linux")]
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{Domain, Protocol, Socket, Type};

use crate::{Received, option, received};

/// Protocol number of PF_KEY version 2 (RFC 2367 section 1.3).
const PF_KEY_V2: i32 = 2;
/// Broadcasts of a whole hand-over arrive in one burst, and Linux drops silently what does not fit.
const RECEIVE_BUFFER: usize = 16 * 1024 * 1024;

/// A non-blocking PF_KEY socket; needs CAP_NET_ADMIN.
#[derive(Debug)]
pub struct KeySocket {
    socket: Socket,
    /// Whether the buffer was full when last looked at: told once.
    #[cfg(target_os = "linux")]
    full: AtomicBool,
}

impl KeySocket {
    /// Opens the socket; EAFNOSUPPORT where the kernel has no PF_KEY (module `af_key`).
    pub fn open() -> io::Result<Self> {
        let socket = Socket::new(Domain::from(libc::PF_KEY), Type::RAW, Some(Protocol::from(PF_KEY_V2)))?;
        socket.set_nonblocking(true)?;
        option::set_receive_buffer(&socket, RECEIVE_BUFFER)?;
        Ok(Self {
            socket,
            #[cfg(target_os = "linux")]
            full: AtomicBool::new(false),
        })
    }

    /// Sends one message to the kernel. Its answer, error or not, arrives as a message.
    pub fn send(&self, bytes: &[u8]) -> io::Result<()> {
        self.socket.send_with_flags(bytes, libc::MSG_DONTWAIT).map(|_| ())
    }

    /// Takes the next message. Linux never says that it lost one; but it loses one only while the buffer is full, and a buffer found
    /// full, or nearly so, is reported as an overrun, once until it has room again.
    pub fn receive(&self) -> io::Result<Received> {
        #[cfg(target_os = "linux")]
        if self.is_nearly_full() {
            if !self.full.swap(true, Ordering::Relaxed) {
                return Ok(Received::Overrun);
            }
        } else {
            self.full.store(false, Ordering::Relaxed);
        }
        received::whole(&self.socket)
    }

    /// Whether more than seven eighths of the receive buffer are taken. A dump of the kernel stops at two thirds and waits.
    #[cfg(target_os = "linux")]
    fn is_nearly_full(&self) -> bool {
        let Some((taken, size)) = option::receive_memory(&self.socket) else { return false };
        taken > size.saturating_sub(size / 8)
    }
}

impl AsRawFd for KeySocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for KeySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl From<KeySocket> for OwnedFd {
    fn from(socket: KeySocket) -> Self {
        socket.socket.into()
    }
}
