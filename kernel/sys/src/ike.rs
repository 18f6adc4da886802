//! IKE datagrams over UDP: the local address and interface of each datagram are read and chosen explicitly, so that a move
//! needs no new socket. Errors keep their errno: the caller tells a tentative address from a missing route.

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use socket2::{Domain, MsgHdr, Protocol, SockAddr, Socket, Type};

#[cfg(target_os = "linux")]
use crate::policy;
#[cfg(target_os = "freebsd")]
use crate::sadb_policy as policy;
use crate::{control, option};

/// UDP_ENCAP of the uapi header linux/udp.h.
#[cfg(target_os = "linux")]
const UDP_ENCAP: i32 = 100;
/// UDP_ENCAP of netinet/udp.h.
#[cfg(target_os = "freebsd")]
const UDP_ENCAP: i32 = 1;
/// UDP_ENCAP_ESPINUDP: ESP with the non-ESP marker of RFC 3948.
const UDP_ENCAP_ESPINUDP: i32 = 2;
/// A flood of IKE_SA_INIT must not push out the messages of established peers.
const RECEIVE_BUFFER: usize = 1024 * 1024;

/// How an IKE socket is opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IkeSocketOptions {
    /// Exempt the socket from IPsec policies, in and out (IP_XFRM_POLICY, IPV6_XFRM_POLICY; on FreeBSD IP_IPSEC_POLICY,
    /// IPV6_IPSEC_POLICY). Needs CAP_NET_ADMIN or the superuser.
    pub bypass_ipsec: bool,
    /// Let the kernel take ESP in UDP from this socket (UDP_ENCAP, RFC 3948): for port 4500.
    pub udp_encapsulation: bool,
    /// Allow binding to, and sending from, an address that does not exist yet (IP_FREEBIND, IPV6_FREEBIND; on
    /// FreeBSD IP_BINDANY, IPV6_BINDANY).
    pub free_bind: bool,
}

/// Where a datagram goes, and from where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// Source address; `None` leaves it to the kernel. Must be of the socket's family.
    pub local: Option<IpAddr>,
    /// Interface index; 0 leaves it to the routing table.
    pub interface: u32,
    /// Destination. Must be of the socket's family.
    pub remote: SocketAddr,
}

/// A received datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IkeDatagram {
    /// UDP payload; on port 4500 it still begins with the non-ESP marker.
    pub bytes: Vec<u8>,
    /// Address and port of the sender.
    pub remote: SocketAddr,
    /// Our address the datagram was sent to.
    pub local: IpAddr,
    /// Index of the interface it came in on.
    pub interface: u32,
}

/// A non-blocking UDP socket of one address family.
#[derive(Debug)]
pub struct IkeSocket {
    socket: Socket,
    bound: SocketAddr,
}

impl IkeSocket {
    /// Opens and binds. An IPv6 socket never takes IPv4 datagrams. The port may be shared with a dying predecessor
    /// (SO_REUSEADDR), so that a restarted daemon need not wait.
    pub fn open(bind: SocketAddr, options: IkeSocketOptions) -> io::Result<Self> {
        let ipv6 = bind.is_ipv6();
        let domain = Domain::for_address(bind);
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        socket.set_reuse_address(true)?;
        option::set_receive_buffer(&socket, RECEIVE_BUFFER)?;
        if ipv6 {
            socket.set_only_v6(true)?;
            option::set_int(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
            prefer_care_of_address(&socket)?;
        } else {
            ask_for_destination_v4(&socket)?;
        }
        if options.free_bind {
            bind_to_any(&socket, ipv6)?;
        }
        if options.bypass_ipsec {
            policy::bypass(&socket, ipv6)?;
        }
        if options.udp_encapsulation {
            option::set_int(&socket, libc::IPPROTO_UDP, UDP_ENCAP, UDP_ENCAP_ESPINUDP)?;
        }
        socket.bind(&SockAddr::from(bind))?;
        let bound = socket.local_addr()?.as_socket().unwrap_or(bind);
        Ok(Self { socket, bound })
    }

    /// Address and port the socket is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.bound
    }

    /// Sends one datagram. Errors by errno: EINVAL or EADDRNOTAVAIL, the source address is tentative or gone (Linux says
    /// EINVAL for a tentative one); ENETUNREACH or EHOSTUNREACH, no route; EPERM, a policy blocks; EMSGSIZE, too big;
    /// EAGAIN, the queue is full.
    pub fn send(&self, bytes: &[u8], path: &Path) -> io::Result<()> {
        let mut ancillary = Vec::new();
        match (path.local, self.bound.is_ipv6()) {
            (Some(IpAddr::V6(source)), true) => {
                control::push_source_v6(&mut ancillary, source, path.interface);
            }
            (Some(IpAddr::V4(source)), false) => {
                control::push_source_v4(&mut ancillary, source, path.interface);
            }
            (None, true) if path.interface != 0 => {
                control::push_source_v6(&mut ancillary, Ipv6Addr::UNSPECIFIED, path.interface);
            }
            (None, false) if path.interface != 0 => {
                control::push_source_v4(&mut ancillary, Ipv4Addr::UNSPECIFIED, path.interface);
            }
            (None, _) => {}
            (Some(_), _) => return Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT)),
        }
        if path.remote.is_ipv6() != self.bound.is_ipv6() {
            return Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT));
        }
        let remote = SockAddr::from(path.remote);
        let buffers = [IoSlice::new(bytes)];
        let mut header = MsgHdr::new().with_addr(&remote).with_buffers(&buffers);
        if !ancillary.is_empty() {
            header = header.with_control(&ancillary);
        }
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        self.socket.sendmsg(&header, flags).map(|_| ())
    }

    /// Takes the next datagram; `None` when nothing waits.
    pub fn receive(&self) -> io::Result<Option<IkeDatagram>> {
        loop {
            let Some(incoming) = control::receive(&self.socket)? else {
                return Ok(None);
            };
            let destination = destination(&incoming.control);
            // Without both addresses a datagram has no path and nobody could answer it.
            if let (Some(remote), Some((local, interface)), false) = (incoming.sender, destination, incoming.truncated) {
                return Ok(Some(IkeDatagram { bytes: incoming.bytes, remote, local, interface }));
            }
        }
    }
}

#[cfg(target_os = "linux")]
fn ask_for_destination_v4(socket: &Socket) -> io::Result<()> {
    option::set_int(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)
}

#[cfg(target_os = "freebsd")]
fn ask_for_destination_v4(socket: &Socket) -> io::Result<()> {
    option::set_int(socket, libc::IPPROTO_IP, libc::IP_RECVDSTADDR, 1)?;
    option::set_int(socket, libc::IPPROTO_IP, libc::IP_RECVIF, 1)
}

//= rfc4877#4.4
//# the mobile node uses its care-of address as source of IKE
/// Where the kernel chooses the source, a care-of address goes before a home address (RFC 5014; Linux with Mobile IPv6 built in does the
/// opposite by itself).
#[cfg(target_os = "linux")]
fn prefer_care_of_address(socket: &Socket) -> io::Result<()> {
    /// IPV6_ADDR_PREFERENCES and IPV6_PREFER_SRC_COA of the uapi header linux/in6.h.
    const ADDRESS_PREFERENCES: i32 = 72;
    const CARE_OF: i32 = 4;
    option::set_int(socket, libc::IPPROTO_IPV6, ADDRESS_PREFERENCES, CARE_OF)
}

/// FreeBSD knows no home addresses.
#[cfg(target_os = "freebsd")]
#[allow(clippy::unnecessary_wraps)]
const fn prefer_care_of_address(_: &Socket) -> io::Result<()> {
    Ok(())
}

#[cfg(target_os = "linux")]
fn bind_to_any(socket: &Socket, ipv6: bool) -> io::Result<()> {
    if ipv6 { socket.set_freebind_v6(true) } else { socket.set_freebind_v4(true) }
}

#[cfg(target_os = "freebsd")]
fn bind_to_any(socket: &Socket, ipv6: bool) -> io::Result<()> {
    let (level, name) = if ipv6 { (libc::IPPROTO_IPV6, libc::IPV6_BINDANY) } else { (libc::IPPROTO_IP, libc::IP_BINDANY) };
    option::set_int(socket, level, name, 1)
}

/// Our address that a datagram was sent to, and the interface it came in on.
fn destination(ancillary: &[control::Control]) -> Option<(IpAddr, u32)> {
    let (mut address, mut interface) = (None, 0);
    for control in ancillary {
        if (control.level, control.kind) == (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) {
            let (destination, index) = control::destination_v6(&control.payload)?;
            return Some((IpAddr::V6(destination), index));
        }
        control::note_v4(control, &mut address, &mut interface);
    }
    address.map(|address| (IpAddr::V4(address), interface))
}

impl AsRawFd for IkeSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for IkeSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl From<IkeSocket> for OwnedFd {
    fn from(socket: IkeSocket) -> Self {
        socket.socket.into()
    }
}
