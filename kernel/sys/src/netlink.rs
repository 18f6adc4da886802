//! Netlink: whole datagrams from the kernel and from nobody else, with extended acknowledgements and strict checking on.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use netlink_sys::{Socket, SocketAddr};

use crate::received::without_data;
use crate::{Received, option};

/// The netlink families Watari speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetlinkFamily {
    /// Links, addresses, routes (NETLINK_ROUTE).
    Route,
    /// Security associations and policies (NETLINK_XFRM).
    Xfrm,
}

impl NetlinkFamily {
    fn number(self) -> isize {
        match self {
            Self::Route => netlink_sys::protocols::NETLINK_ROUTE,
            Self::Xfrm => netlink_sys::protocols::NETLINK_XFRM,
        }
    }
}

/// A dump fills datagrams as large as the largest buffer it has seen, up to this many octets.
const DUMP_BUFFER: usize = 32 * 1024;
const KERNEL: u32 = 0;

/// A non-blocking netlink socket bound to a port of the kernel's choice.
#[derive(Debug)]
pub struct NetlinkSocket(Socket);

impl NetlinkSocket {
    /// Opens a socket of `family`, member of the multicast `groups` (group numbers, not bit masks), with a receive
    /// buffer of `receive_buffer` octets (best effort without CAP_NET_ADMIN). A refused group is an error: the caller
    /// learns from it that this kernel does not offer the group.
    pub fn open(family: NetlinkFamily, groups: &[u32], receive_buffer: usize) -> io::Result<Self> {
        let mut socket = Socket::new(family.number())?;
        socket.set_non_blocking(true)?;
        socket.bind_auto()?;
        option::set_receive_buffer(&Borrowed(&socket), receive_buffer)?;
        // Older kernels know neither option; both only make answers better.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_netlink_get_strict_chk(true);
        for group in groups {
            socket.add_membership(*group)?;
        }
        Ok(Self(socket))
    }

    /// The port (`nlmsg_pid`) that the kernel gave this socket.
    pub fn port(&self) -> io::Result<u32> {
        let mut address = SocketAddr::new(0, 0);
        self.0.get_address(&mut address)?;
        Ok(address.port_number())
    }

    /// Sends one datagram to the kernel.
    pub fn send(&self, bytes: &[u8]) -> io::Result<()> {
        self.0.send_to(bytes, &SocketAddr::new(KERNEL, 0), libc::MSG_DONTWAIT).map(|_| ())
    }

    /// Takes the next datagram. What other processes send to our port is thrown away here.
    pub fn receive(&self) -> io::Result<Received> {
        loop {
            let mut probe: Vec<u8> = Vec::with_capacity(64);
            let flags = libc::MSG_DONTWAIT | libc::MSG_PEEK | libc::MSG_TRUNC;
            let size = match self.0.recv_from(&mut probe, flags) {
                Ok((size, _)) => size,
                Err(error) => return without_data(error),
            };
            let mut bytes: Vec<u8> = Vec::with_capacity(size.max(DUMP_BUFFER));
            match self.0.recv_from(&mut bytes, libc::MSG_DONTWAIT) {
                Ok((_, sender)) if sender.port_number() == KERNEL => {
                    return Ok(Received::Datagram(bytes));
                }
                Ok(_) => {}
                Err(error) => return without_data(error),
            }
        }
    }
}

/// netlink-sys offers only the raw number of its descriptor.
struct Borrowed<'a>(&'a Socket);

impl AsFd for Borrowed<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor belongs to the socket, which outlives the borrow.
        unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
    }
}

impl AsRawFd for NetlinkSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for NetlinkSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor belongs to the socket inside `self` and stays open as long as the borrow of `self`.
        unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
    }
}

impl From<NetlinkSocket> for OwnedFd {
    fn from(socket: NetlinkSocket) -> Self {
        // SAFETY: into_raw_fd hands over ownership of an open descriptor that nothing else will close.
        unsafe { OwnedFd::from_raw_fd(socket.0.into_raw_fd()) }
    }
}
