//! Ancillary data (cmsg(3)): bytes <-> values, and one recvmsg that returns datagram, sender and ancillary data together.
//! Written on plain byte slices, so that nothing here depends on alignment.

use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{MaybeUninitSlice, MsgHdrMut, SockAddr, Socket};

use crate::MAX_DATAGRAM;

/// The length field is a `size_t` on Linux and a `socklen_t` on FreeBSD.
#[cfg(target_os = "linux")]
type Length = usize;
#[cfg(not(target_os = "linux"))]
type Length = libc::socklen_t;

const LENGTH: usize = size_of::<Length>();
/// Payloads and headers begin at multiples of this.
const ALIGNMENT: usize = size_of::<usize>();
/// Octets before a payload: length, level, type, and what fills them up.
const HEADER: usize = size_of::<libc::cmsghdr>().next_multiple_of(ALIGNMENT);

/// One ancillary message: level, type and payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Control {
    pub(crate) level: i32,
    pub(crate) kind: i32,
    pub(crate) payload: Vec<u8>,
}

const fn aligned(length: usize) -> usize {
    length.next_multiple_of(ALIGNMENT)
}

/// Appends one ancillary message.
pub(crate) fn push(out: &mut Vec<u8>, level: i32, kind: i32, payload: &[u8]) {
    let start = out.len();
    let length = (HEADER + payload.len()) as Length;
    out.extend_from_slice(&length.to_ne_bytes());
    out.extend_from_slice(&level.to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.resize(start + HEADER, 0);
    out.extend_from_slice(payload);
    out.resize(aligned(out.len()), 0);
}

/// Appends the IPV6_PKTINFO that chooses source address (`::` = kernel's choice) and interface (0 = kernel's choice).
pub(crate) fn push_source_v6(out: &mut Vec<u8>, source: Ipv6Addr, interface: u32) {
    let mut info = source.octets().to_vec();
    info.extend_from_slice(&interface.to_ne_bytes());
    push(out, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
}

/// Appends the IP_PKTINFO that chooses source address (0.0.0.0 = kernel's choice) and interface (0 = kernel's choice).
#[cfg(target_os = "linux")]
pub(crate) fn push_source_v4(out: &mut Vec<u8>, source: Ipv4Addr, interface: u32) {
    let mut info = interface.to_ne_bytes().to_vec();
    info.extend_from_slice(&source.octets());
    info.extend_from_slice(&[0; 4]);
    push(out, libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
}

/// Appends the IP_SENDSRCADDR that chooses the source address (0.0.0.0 = kernel's choice). The interface is always the kernel's choice.
#[cfg(not(target_os = "linux"))]
pub(crate) fn push_source_v4(out: &mut Vec<u8>, source: Ipv4Addr, _interface: u32) {
    if !source.is_unspecified() {
        push(out, libc::IPPROTO_IP, libc::IP_SENDSRCADDR, &source.octets());
    }
}

/// Splits ancillary data; stops at the first message whose length does not fit.
pub(crate) fn parse(mut data: &[u8]) -> Vec<Control> {
    let mut found = Vec::new();
    while let Some((length, rest)) = data.split_first_chunk::<LENGTH>() {
        let Some((level, rest)) = rest.split_first_chunk::<4>() else {
            break;
        };
        let Some((kind, _)) = rest.split_first_chunk::<4>() else {
            break;
        };
        #[allow(clippy::unnecessary_cast, reason = "the length is 32 bits long on FreeBSD")]
        let length = Length::from_ne_bytes(*length) as usize;
        let Some(payload) = data.get(HEADER..length) else {
            break;
        };
        found.push(Control { level: i32::from_ne_bytes(*level), kind: i32::from_ne_bytes(*kind), payload: payload.to_vec() });
        data = data.get(aligned(length)..).unwrap_or_default();
    }
    found
}

/// Reads an in6_pktinfo: destination address of the received packet and the interface it came in on.
pub(crate) fn destination_v6(payload: &[u8]) -> Option<(Ipv6Addr, u32)> {
    let (address, rest) = payload.split_first_chunk::<16>()?;
    let interface = rest.first_chunk::<4>()?;
    Some((Ipv6Addr::from(*address), u32::from_ne_bytes(*interface)))
}

/// Takes from ancillary data of an IPv4 datagram what it says of destination address and interface.
#[cfg(target_os = "linux")]
pub(crate) fn note_v4(control: &Control, address: &mut Option<Ipv4Addr>, interface: &mut u32) {
    // struct in_pktinfo: interface, local address, destination in the header.
    if (control.level, control.kind) == (libc::IPPROTO_IP, libc::IP_PKTINFO)
        && let (Some(index), Some(octets)) =
            (control.payload.first_chunk::<4>(), control.payload.get(8..).and_then(|rest| rest.first_chunk::<4>()))
    {
        (*address, *interface) = (Some(Ipv4Addr::from(*octets)), u32::from_ne_bytes(*index));
    }
}

/// Takes from ancillary data of an IPv4 datagram what it says of destination address and interface.
#[cfg(not(target_os = "linux"))]
pub(crate) fn note_v4(control: &Control, address: &mut Option<Ipv4Addr>, interface: &mut u32) {
    match (control.level, control.kind) {
        (libc::IPPROTO_IP, libc::IP_RECVDSTADDR) => *address = control.payload.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets)),
        // struct sockaddr_dl: length, family, index.
        (libc::IPPROTO_IP, libc::IP_RECVIF) => {
            *interface =
                control.payload.get(2..4).and_then(|index| index.try_into().ok()).map_or(0, |index| u16::from_ne_bytes(index).into());
        }
        _ => {}
    }
}

/// A datagram with everything the kernel said about it.
pub(crate) struct Incoming {
    pub(crate) bytes: Vec<u8>,
    pub(crate) sender: Option<SocketAddr>,
    pub(crate) control: Vec<Control>,
    pub(crate) truncated: bool,
}

/// Receives one datagram without blocking; `None` when nothing waits.
pub(crate) fn receive(socket: &Socket) -> io::Result<Option<Incoming>> {
    let mut bytes: Vec<u8> = Vec::with_capacity(MAX_DATAGRAM);
    let mut control = [MaybeUninit::<u8>::zeroed(); 1024];
    // The kernel overwrites this; it only has to be large enough for both families.
    let mut sender = SockAddr::from(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)));
    let (length, control_length, truncated) = {
        let mut buffers = [MaybeUninitSlice::new(bytes.spare_capacity_mut())];
        let mut header = MsgHdrMut::new().with_addr(&mut sender).with_buffers(&mut buffers).with_control(&mut control);
        match socket.recvmsg(&mut header, libc::MSG_DONTWAIT) {
            Ok(length) => (length, header.control_len(), header.flags().is_truncated()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
    };
    // SAFETY: recvmsg wrote `length` octets into the spare capacity, which is at least that long since MSG_TRUNC was not asked for.
    unsafe { bytes.set_len(length.min(bytes.capacity())) };
    let control: Vec<u8> = control
        .iter()
        .take(control_length)
        // SAFETY: the array was created zeroed, so every octet is initialised whether or not the kernel wrote it.
        .map(|octet| unsafe { octet.assume_init() })
        .collect();
    Ok(Some(Incoming { bytes, sender: sender.as_socket(), control: parse(&control), truncated }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ancillary_data_survives_a_round_trip() {
        let address: Ipv6Addr = "2001:db8::5".parse().unwrap();
        let mut bytes = Vec::new();
        push_source_v6(&mut bytes, address, 7);
        push(&mut bytes, 41, 99, &[1, 2, 3]);
        let parsed = parse(&bytes);
        assert_eq!(parsed.len(), 2);
        assert_eq!(destination_v6(&parsed[0].payload), Some((address, 7)));
        assert_eq!(parsed[1], Control { level: 41, kind: 99, payload: vec![1, 2, 3] });
    }

    #[test]
    fn a_length_beyond_the_buffer_ends_the_list() {
        let mut bytes = Vec::new();
        push(&mut bytes, 1, 2, &[0; 4]);
        bytes[0] = 200;
        assert!(parse(&bytes).is_empty());
        bytes[0] = 3; // shorter than its own header
        assert!(parse(&bytes).is_empty());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn layouts_agree_with_the_c_library() {
        assert_eq!(HEADER, 16);
        let mut v4 = Vec::new();
        push_source_v4(&mut v4, Ipv4Addr::LOCALHOST, 1);
        assert_eq!(v4.len(), aligned(HEADER + size_of::<libc::in_pktinfo>()));
        let mut v6 = Vec::new();
        push_source_v6(&mut v6, Ipv6Addr::LOCALHOST, 1);
        assert_eq!(v6.len(), aligned(HEADER + size_of::<libc::in6_pktinfo>()));
    }

    #[test]
    fn destination_and_interface_of_ipv4_are_taken() {
        let mut bytes = Vec::new();
        push_source_v4(&mut bytes, Ipv4Addr::LOCALHOST, 7);
        // What is sent as "local address" comes back as "destination": the field behind it.
        #[cfg(target_os = "linux")]
        bytes.copy_within(HEADER + 4..HEADER + 8, HEADER + 8);
        let (mut address, mut interface) = (None, 0);
        note_v4(&parse(&bytes)[0], &mut address, &mut interface);
        assert_eq!(address, Some(Ipv4Addr::LOCALHOST));
        #[cfg(target_os = "linux")]
        assert_eq!(interface, 7);
    }
}
