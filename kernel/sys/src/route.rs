//! The routing socket of FreeBSD (PF_ROUTE), and the two questions its messages leave open: what is there, and in which state.
//! The layouts that `watari-route` reads are held against the C library's here.

use std::ffi::CStr;
use std::io;
use std::mem::offset_of;
use std::net::Ipv6Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;

use socket2::{Domain, Socket, Type};

use crate::{Received, option, received};

/// SO_RERROR of sys/socket.h (FreeBSD 14): a full buffer becomes ENOBUFS instead of silence.
const SO_RERROR: i32 = 0x0002_0000;
/// SIOCGIFAFLAG_IN6 of netinet6/in6_var.h: _IOWR('i', 73, struct in6_ifreq).
const SIOCGIFAFLAG_IN6: libc::c_ulong = 0xc120_6949;
/// Octets of a struct in6_ifreq: an interface name and a union as large as its largest member, struct icmp6_ifstat.
const IN6_IFREQ: usize = 16 + 34 * 8;
/// A listing may grow between the question for its size and the question for itself; so often it is asked again.
const TRIES: usize = 8;

const _: () = assert!((SIOCGIFAFLAG_IN6 >> 16) & 0x1fff == IN6_IFREQ as libc::c_ulong);
const _: () = assert!(size_of::<libc::ifa_msghdr>() == 20 && offset_of!(libc::ifa_msghdr, ifam_addrs) == 4);
const _: () = assert!(offset_of!(libc::ifa_msghdr, ifam_index) == 12 && offset_of!(libc::if_msghdr, ifm_index) == 12);
const _: () = assert!(offset_of!(libc::if_msghdr, ifm_flags) == 8 && offset_of!(libc::if_msghdr, ifm_data) == 16);
const _: () = assert!(offset_of!(libc::if_data, ifi_link_state) == 4);
const _: () = assert!(libc::RTM_VERSION == 5 && libc::RTM_NEWADDR == 0x0c && libc::AF_INET6 == 28);
const _: () = assert!(offset_of!(libc::sockaddr_in6, sin6_addr) == 8 && offset_of!(libc::sockaddr_in, sin_addr) == 4);

/// A non-blocking routing socket that hears what the kernel says about every family.
#[derive(Debug)]
pub struct RouteSocket(Socket);

impl RouteSocket {
    /// Opens the socket with a receive buffer of `receive_buffer` octets.
    pub fn open(receive_buffer: usize) -> io::Result<Self> {
        let socket = Socket::new(Domain::from(libc::PF_ROUTE), Type::RAW, None)?;
        socket.set_nonblocking(true)?;
        option::set_receive_buffer(&socket, receive_buffer)?;
        // Before FreeBSD 14 a loss goes unnoticed.
        let _ = option::set_int(&socket, libc::SOL_SOCKET, SO_RERROR, 1);
        Ok(Self(socket))
    }

    /// Takes the next message.
    pub fn receive(&self) -> io::Result<Received> {
        received::whole(&self.0)
    }
}

/// Every interface with its addresses as routing messages, one behind the other (sysctl NET_RT_IFLIST).
pub fn interface_list() -> io::Result<Vec<u8>> {
    let name = [libc::CTL_NET, libc::PF_ROUTE, 0, libc::AF_UNSPEC, libc::NET_RT_IFLIST, 0];
    for _ in 0..TRIES {
        let mut size = 0;
        sysctl(&name, None, &mut size)?;
        let mut octets = vec![0; size];
        match sysctl(&name, Some(&mut octets), &mut size) {
            Ok(()) => {
                octets.truncate(size);
                return Ok(octets);
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::from_raw_os_error(libc::ENOMEM))
}

fn sysctl(name: &[i32], octets: Option<&mut [u8]>, size: &mut usize) -> io::Result<()> {
    let count = u32::try_from(name.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let target = octets.map_or(ptr::null_mut(), |octets| {
        *size = octets.len();
        octets.as_mut_ptr()
    });
    // SAFETY: `name` holds `count` integers; the target is null, or a live slice of `size` octets that nobody else uses during the call.
    let result = unsafe { libc::sysctl(name.as_ptr(), count, target.cast(), size, ptr::null(), 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The IN6_IFF_* flags of an IPv6 address (SIOCGIFAFLAG_IN6); `None` where the interface or the address is gone.
pub fn address_flags(interface: u32, address: Ipv6Addr) -> io::Result<Option<u32>> {
    let Some(name) = interface_name(interface) else { return Ok(None) };
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, None)?;
    // struct in6_ifreq: name, then a sockaddr_in6 on the way in and the flags on the way out.
    let mut request = [0_u8; IN6_IFREQ];
    request[..name.len()].copy_from_slice(&name);
    request[16..18].copy_from_slice(&[28, libc::AF_INET6 as u8]);
    request[24..40].copy_from_slice(&address.octets());
    if address.is_unicast_link_local() {
        request[40..44].copy_from_slice(&interface.to_ne_bytes());
    }
    // SAFETY: the request number says that the kernel reads and writes IN6_IFREQ octets, and that many are there.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGIFAFLAG_IN6, request.as_mut_ptr()) };
    if result == 0 {
        let [.., a, b, c, d] = *request.first_chunk::<20>().unwrap_or(&[0; 20]);
        return Ok(Some(u32::from_ne_bytes([a, b, c, d])));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EADDRNOTAVAIL | libc::ENXIO) => Ok(None),
        _ => Err(error),
    }
}

/// The name of an interface, at most 15 octets.
fn interface_name(interface: u32) -> Option<Vec<u8>> {
    let mut name = [0; libc::IFNAMSIZ];
    // SAFETY: the buffer has the IFNAMSIZ octets that the function asks for.
    let found = unsafe { libc::if_indextoname(interface, name.as_mut_ptr()) };
    if found.is_null() {
        return None;
    }
    // SAFETY: on success the function wrote a string with its terminating zero into the buffer.
    let text = unsafe { CStr::from_ptr(name.as_ptr()) };
    Some(text.to_bytes().to_vec())
}

impl AsRawFd for RouteSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for RouteSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<RouteSocket> for OwnedFd {
    fn from(socket: RouteSocket) -> Self {
        socket.0.into()
    }
}
