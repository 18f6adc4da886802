//! Raw Mobility Header packets (RFC 6275, protocol 135) with the addresses that Mobile IPv6 hides in extension headers.
//! What a plain socket receives is not proof of anything: only `require_esp` makes it so.

use std::io::{self, IoSlice};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use socket2::{Domain, MsgHdr, Protocol, SockAddr, SockFilter, Socket, Type};

use crate::policy::{self, ProtectedMobility};
use crate::{control, option};

/// IP protocol number of the Mobility Header (RFC 6275 section 6.1.1).
const MOBILITY_HEADER: i32 = 135;
/// Home address destination option (RFC 6275 section 6.3).
const HOME_ADDRESS_OPTION: u8 = 0xc9;
const PAD1: u8 = 0;
const RECEIVE_BUFFER: usize = 256 * 1024;

/// A received Mobility Header message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MobilityMessage {
    /// The message, from its payload-protocol octet on.
    pub bytes: Vec<u8>,
    /// Source, after the kernel exchanged it with the home address option: the home address.
    pub source: Ipv6Addr,
    /// Destination, after the type 2 routing header was worked off: the home address on a mobile node.
    pub destination: Ipv6Addr,
    /// Index of the interface it came in on.
    pub interface: u32,
    /// What the home address option holds now: the care-of address the packet really came from.
    pub came_from: Option<Ipv6Addr>,
    /// What the type 2 routing header holds now: the care-of address the packet was really sent to.
    pub sent_to: Option<Ipv6Addr>,
}

/// A Mobility Header message to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MobilitySend<'a> {
    /// The message, from its payload-protocol octet on, a multiple of eight octets.
    pub bytes: &'a [u8],
    /// Source address; `::` leaves it to the kernel.
    pub source: Ipv6Addr,
    /// Final destination: the home address when `routing` is given.
    pub destination: Ipv6Addr,
    /// Interface index; 0 leaves it to the routing table.
    pub interface: u32,
    /// Home address to put into a destination option. The kernel's checksum then covers `source`, not the home address:
    /// see [`MobilitySocket::set_kernel_checksum`].
    pub home_address: Option<Ipv6Addr>,
    /// Care-of address to route through (type 2 routing header).
    pub routing: Option<Ipv6Addr>,
}

/// A non-blocking raw socket for Mobility Header messages; needs CAP_NET_RAW.
#[derive(Debug)]
pub struct MobilitySocket(Socket);

impl MobilitySocket {
    /// Opens the socket. The kernel checks and fills the checksum.
    pub fn open() -> io::Result<Self> {
        let protocol = Protocol::from(MOBILITY_HEADER);
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(protocol))?;
        socket.set_nonblocking(true)?;
        option::set_receive_buffer(&socket, RECEIVE_BUFFER)?;
        for name in [libc::IPV6_RECVPKTINFO, libc::IPV6_RECVDSTOPTS, libc::IPV6_RECVRTHDR] {
            option::set_int(&socket, libc::IPPROTO_IPV6, name, 1)?;
        }
        Ok(Self(socket))
    }

    /// Opens a socket that receives only messages of these types (fewer than 255) that came through an ESP transport SA of `reqid` (0: of any reqid).
    /// Needs CAP_NET_RAW and CAP_NET_ADMIN.
    pub fn protected(reqid: u32, beside: ProtectedMobility, message_types: &[u8]) -> io::Result<Self> {
        let socket = Self::open()?;
        socket.require_esp(reqid, beside)?;
        socket.only_types(message_types)?;
        // What came in before the policy stood was admitted by nobody.
        while socket.receive()?.is_some() {}
        Ok(socket)
    }

    /// From now on receives only messages of these types.
    fn only_types(&self, message_types: &[u8]) -> io::Result<()> {
        /// Offset of the MH type (RFC 6275 6.1.1); the kernel hands a filter the message from its first octet.
        const MH_TYPE: u32 = 2;
        let step = |code: u32, jump_if: u8, k: u32| SockFilter::new(code as u16, jump_if, 0, k);
        let mut program = vec![step(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, MH_TYPE)];
        for (wanted, after) in message_types.iter().zip((0..message_types.len()).rev()) {
            // To the last step, over the types that are left and the refusal.
            let jump = u8::try_from(after.saturating_add(1)).unwrap_or(u8::MAX);
            program.push(step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, jump, u32::from(*wanted)));
        }
        program.push(step(libc::BPF_RET | libc::BPF_K, 0, 0));
        program.push(step(libc::BPF_RET | libc::BPF_K, 0, u32::MAX));
        self.0.attach_filter(&program)
    }

    /// Receives only messages sent to `address`, which need not exist yet.
    pub fn bind(&self, address: Ipv6Addr) -> io::Result<()> {
        self.0.set_freebind_v6(true)?;
        let address = SocketAddr::from((address, 0));
        self.0.bind(&SockAddr::from(address))
    }

    /// From now on receives only what came through an ESP transport SA of `reqid` (0: of any reqid). Needs CAP_NET_ADMIN.
    pub fn require_esp(&self, reqid: u32, beside: ProtectedMobility) -> io::Result<()> {
        policy::require_esp(&self.0, reqid, beside)
    }

    /// Whether the kernel checks and fills the checksum (it does by default). Off, the caller fills it.
    pub fn set_kernel_checksum(&self, on: bool) -> io::Result<()> {
        let offset = if on { 4 } else { -1 };
        option::set_int(&self.0, libc::IPPROTO_IPV6, libc::IPV6_CHECKSUM, offset)
    }

    /// Sends one message. Errors by errno as for an IKE socket.
    pub fn send(&self, message: &MobilitySend<'_>) -> io::Result<()> {
        let mut ancillary = Vec::new();
        control::push_source_v6(&mut ancillary, message.source, message.interface);
        if let Some(care_of) = message.routing {
            let header = routing_header(care_of);
            control::push(&mut ancillary, libc::IPPROTO_IPV6, libc::IPV6_RTHDR, &header);
        }
        if let Some(home) = message.home_address {
            let header = home_address_header(home);
            control::push(&mut ancillary, libc::IPPROTO_IPV6, libc::IPV6_DSTOPTS, &header);
        }
        let destination = SocketAddrV6::new(message.destination, 0, 0, 0);
        let destination = SockAddr::from(destination);
        let buffers = [IoSlice::new(message.bytes)];
        let header = MsgHdr::new().with_addr(&destination).with_buffers(&buffers).with_control(&ancillary);
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        self.0.sendmsg(&header, flags).map(|_| ())
    }

    /// Takes the next message; `None` when nothing waits.
    pub fn receive(&self) -> io::Result<Option<MobilityMessage>> {
        loop {
            let Some(incoming) = control::receive(&self.0)? else {
                return Ok(None);
            };
            let Some(SocketAddr::V6(sender)) = incoming.sender else {
                continue;
            };
            let mut message = MobilityMessage {
                bytes: incoming.bytes,
                source: *sender.ip(),
                destination: Ipv6Addr::UNSPECIFIED,
                interface: 0,
                came_from: None,
                sent_to: None,
            };
            for control in &incoming.control {
                if control.level == libc::IPPROTO_IPV6 {
                    message.note(control.kind, &control.payload);
                }
            }
            return Ok(Some(message));
        }
    }
}

impl MobilityMessage {
    fn note(&mut self, kind: i32, payload: &[u8]) {
        match kind {
            libc::IPV6_PKTINFO => {
                if let Some((address, interface)) = control::destination_v6(payload) {
                    self.destination = address;
                    self.interface = interface;
                }
            }
            libc::IPV6_DSTOPTS => self.came_from = find_home_address(payload).or(self.came_from),
            libc::IPV6_RTHDR => self.sent_to = find_routing_address(payload).or(self.sent_to),
            _ => {}
        }
    }
}

/// A destination options header that holds one home address option, aligned 8n+6 (RFC 6275 section 6.3).
fn home_address_header(home: Ipv6Addr) -> Vec<u8> {
    let mut header = vec![0, 2, 1, 2, 0, 0, HOME_ADDRESS_OPTION, 16];
    header.extend_from_slice(&home.octets());
    header
}

/// A type 2 routing header (RFC 6275 section 6.4).
fn routing_header(care_of: Ipv6Addr) -> Vec<u8> {
    let mut header = vec![0, 2, 2, 1, 0, 0, 0, 0];
    header.extend_from_slice(&care_of.octets());
    header
}

fn find_home_address(header: &[u8]) -> Option<Ipv6Addr> {
    let mut rest = header.get(2..)?;
    while let Some((kind, after)) = rest.split_first() {
        if *kind == PAD1 {
            rest = after;
            continue;
        }
        let (length, after) = after.split_first()?;
        let length = usize::from(*length);
        if *kind == HOME_ADDRESS_OPTION && length == 16 {
            return after.first_chunk::<16>().map(|a| Ipv6Addr::from(*a));
        }
        rest = after.get(length..)?;
    }
    None
}

fn find_routing_address(header: &[u8]) -> Option<Ipv6Addr> {
    if header.get(1) != Some(&2) || header.get(2) != Some(&2) {
        return None;
    }
    header.get(8..)?.first_chunk::<16>().map(|a| Ipv6Addr::from(*a))
}

impl AsRawFd for MobilitySocket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for MobilitySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<MobilitySocket> for OwnedFd {
    fn from(socket: MobilitySocket) -> Self {
        socket.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0xabcd);

    #[test]
    fn extension_headers_are_read_as_they_are_written() {
        assert_eq!(find_home_address(&home_address_header(HOME)), Some(HOME));
        assert_eq!(find_routing_address(&routing_header(HOME)), Some(HOME));
    }

    #[test]
    fn other_options_are_stepped_over_and_short_ones_refused() {
        let mut header = vec![135, 3, 0, 5, 2, 0, 0];
        header.extend_from_slice(&home_address_header(HOME)[2..]);
        assert_eq!(find_home_address(&header), Some(HOME));
        header.truncate(20);
        assert_eq!(find_home_address(&header), None);
        assert_eq!(find_home_address(&[135]), None);
        assert_eq!(find_routing_address(&[135, 2, 0, 1]), None);
    }
}
