//! The sockets against the kernel of this machine. What the machine does not offer is skipped, in words.

#![cfg(target_os = "linux")]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread::sleep;
use std::time::Duration;

use watari_sys::{
    IkeDatagram, IkeSocket, IkeSocketOptions, KeySocket, MobilitySend, MobilitySocket, NetlinkFamily, NetlinkSocket, Path,
    ProtectedMobility, Received,
};

fn open(address: IpAddr, options: IkeSocketOptions) -> Option<IkeSocket> {
    match IkeSocket::open(SocketAddr::new(address, 0), options) {
        Ok(socket) => Some(socket),
        Err(error) => {
            eprintln!("skipped: no socket on {address} here: {error}");
            None
        }
    }
}

fn wait_for<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    for _ in 0..200 {
        if let Some(value) = attempt() {
            return value;
        }
        sleep(Duration::from_millis(5));
    }
    panic!("nothing arrived within a second");
}

fn round_trip(any: IpAddr, source: IpAddr, target: IpAddr) {
    let (Some(a), Some(b)) = (open(any, IkeSocketOptions::default()), open(any, IkeSocketOptions::default())) else {
        return;
    };
    let path = Path { local: Some(source), interface: 0, remote: SocketAddr::new(target, b.local_addr().port()) };
    assert_eq!(b.receive().unwrap(), None);
    a.send(b"one", &path).unwrap();
    let got: IkeDatagram = wait_for(|| b.receive().unwrap());
    assert_eq!(got.bytes, b"one");
    assert_eq!(got.remote, SocketAddr::new(source, a.local_addr().port()));
    assert_eq!(got.local, target);
    assert_ne!(got.interface, 0);
    // and back, over the interface it came in on
    let back = Path { local: Some(got.local), interface: got.interface, remote: got.remote };
    b.send(&[7; 9000], &back).unwrap();
    assert_eq!(wait_for(|| a.receive().unwrap()).bytes, vec![7; 9000]);
}

#[test]
fn local_address_and_interface_are_chosen_and_read_v4() {
    let source = Ipv4Addr::new(127, 0, 0, 5);
    let target = Ipv4Addr::new(127, 0, 0, 9);
    round_trip(Ipv4Addr::UNSPECIFIED.into(), source.into(), target.into());
}

#[test]
fn local_address_and_interface_are_chosen_and_read_v6() {
    let address = IpAddr::V6(Ipv6Addr::LOCALHOST);
    round_trip(Ipv6Addr::UNSPECIFIED.into(), address, address);
}

#[test]
fn a_foreign_source_address_is_refused_with_its_errno() {
    let Some(socket) = open(Ipv6Addr::UNSPECIFIED.into(), IkeSocketOptions::default()) else {
        return;
    };
    let path =
        Path { local: Some("2001:db8::77".parse().unwrap()), interface: 0, remote: SocketAddr::new(Ipv6Addr::LOCALHOST.into(), 500) };
    let errno = socket.send(b"x", &path).unwrap_err().raw_os_error();
    assert!([libc::EINVAL, libc::EADDRNOTAVAIL].map(Some).contains(&errno), "{errno:?}");
    let other_family = Path { local: Some(Ipv4Addr::LOCALHOST.into()), ..path };
    let errno = socket.send(b"x", &other_family).unwrap_err().raw_os_error();
    assert_eq!(errno, Some(libc::EAFNOSUPPORT));
}

#[test]
fn the_kernel_takes_the_bypass_policy() {
    for address in [IpAddr::V4(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        let options = IkeSocketOptions { bypass_ipsec: true, ..IkeSocketOptions::default() };
        match IkeSocket::open(SocketAddr::new(address, 0), options) {
            Ok(_) => {}
            Err(error) if unavailable(&error) => eprintln!("skipped on {address}: {error}"),
            Err(error) => panic!("{address}: {error}"),
        }
    }
}

fn unavailable(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::EPERM
                | libc::EACCES
                | libc::EAFNOSUPPORT
                | libc::EPROTONOSUPPORT
                | libc::ENOPROTOOPT
                | libc::EADDRNOTAVAIL
                | libc::EOPNOTSUPP
        )
    )
}

/// RTM_GETLINK (18) with NLM_F_REQUEST | NLM_F_DUMP (0x301) and an empty ifinfomsg.
fn link_dump() -> Vec<u8> {
    let mut request = Vec::new();
    request.extend_from_slice(&32u32.to_ne_bytes());
    request.extend_from_slice(&18u16.to_ne_bytes());
    request.extend_from_slice(&0x301u16.to_ne_bytes());
    request.extend_from_slice(&77u32.to_ne_bytes());
    request.extend_from_slice(&[0; 4 + 16]);
    request
}

#[test]
fn netlink_answers_a_dump_with_whole_datagrams() {
    let socket = match NetlinkSocket::open(NetlinkFamily::Route, &[1], 256 * 1024) {
        Ok(socket) => socket,
        Err(error) => return eprintln!("skipped: no rtnetlink here: {error}"),
    };
    assert_eq!(socket.receive().unwrap(), Received::WouldBlock);
    assert_ne!(socket.port().unwrap(), 0);
    socket.send(&link_dump()).unwrap();
    let Received::Datagram(first) = wait_for(|| match socket.receive().unwrap() {
        Received::WouldBlock => None,
        other => Some(other),
    }) else {
        panic!("overrun by one dump");
    };
    assert_eq!(first[4..6], 16u16.to_ne_bytes(), "RTM_NEWLINK");
    assert_eq!(first[8..12], 77u32.to_ne_bytes(), "our sequence number");
}

#[test]
fn netlink_says_when_the_buffer_overflowed() {
    let socket = match NetlinkSocket::open(NetlinkFamily::Route, &[], 1) {
        Ok(socket) => socket,
        Err(error) => return eprintln!("skipped: no rtnetlink here: {error}"),
    };
    // Refused requests are answered at once; unread answers fill the smallest possible buffer.
    let mut request = link_dump();
    request[4..6].copy_from_slice(&0x7fffu16.to_ne_bytes());
    for _ in 0..200 {
        socket.send(&request).unwrap();
    }
    let seen = (0..400).map(|_| socket.receive().unwrap()).find(|r| !matches!(r, Received::Datagram(_)));
    assert_eq!(seen, Some(Received::Overrun));
}

#[test]
fn messages_of_other_processes_are_not_the_kernels() {
    let open = || NetlinkSocket::open(NetlinkFamily::Route, &[], 65_536);
    let (victim, forger) = match (open(), netlink_sys::Socket::new(0)) {
        (Ok(victim), Ok(forger)) => (victim, forger),
        _ => return eprintln!("skipped: no rtnetlink here"),
    };
    let address = netlink_sys::SocketAddr::new(victim.port().unwrap(), 0);
    if let Err(error) = forger.send_to(&link_dump(), &address, 0) {
        return eprintln!("skipped: the kernel lets nobody forge here: {error}");
    }
    assert_eq!(victim.receive().unwrap(), Received::WouldBlock);
}

#[test]
fn the_xfrm_groups_of_movement_can_be_joined() {
    match NetlinkSocket::open(NetlinkFamily::Xfrm, &[1, 2, 3, 4, 7], 1 << 20) {
        Ok(socket) => assert_eq!(socket.receive().unwrap(), Received::WouldBlock),
        Err(error) => eprintln!("skipped: no XFRM groups here: {error}"),
    }
}

#[test]
fn pf_key_answers_a_register() {
    let socket = match KeySocket::open() {
        Ok(socket) => socket,
        Err(error) => return eprintln!("skipped: no PF_KEY here: {error}"),
    };
    assert_eq!(socket.receive().unwrap(), Received::WouldBlock);
    // SADB_REGISTER (7) for ESP (3), RFC 2367 section 3.1.6
    socket.send(&[2, 7, 0, 3, 2, 0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0]).unwrap();
    let answer = wait_for(|| match socket.receive().unwrap() {
        Received::Datagram(bytes) => Some(bytes),
        _ => None,
    });
    assert_eq!(answer[..2], [2, 7]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_pf_key_buffer_is_an_overrun_told_once() {
    let (listener, talker) = match (KeySocket::open(), KeySocket::open()) {
        (Ok(listener), Ok(talker)) => (listener, talker),
        (Err(error), _) | (_, Err(error)) => return eprintln!("skipped: no PF_KEY here: {error}"),
    };
    socket2::SockRef::from(&listener).set_recv_buffer_size(4096).unwrap();
    // X_PROMISC (11) on: every message of anybody comes here too.
    listener.send(&[2, 11, 0, 1, 2, 0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0]).unwrap();
    for _ in 0..100 {
        talker.send(&[2, 11, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 9, 0, 0, 0]).unwrap();
    }
    assert_eq!(listener.receive().unwrap(), Received::Overrun);
    let rest: Vec<Received> =
        std::iter::from_fn(|| Some(listener.receive().unwrap())).take_while(|got| *got != Received::WouldBlock).collect();
    assert!(!rest.is_empty() && rest.len() < 100 && !rest.contains(&Received::Overrun), "{}", rest.len());
}

#[cfg(target_os = "linux")]
#[test]
fn a_pf_key_message_of_more_than_8_kib_is_taken_whole() {
    let (listener, talker) = match (KeySocket::open(), KeySocket::open()) {
        (Ok(listener), Ok(talker)) => (listener, talker),
        (Err(error), _) | (_, Err(error)) => return eprintln!("skipped: no PF_KEY here: {error}"),
    };
    listener.send(&[2, 11, 0, 1, 2, 0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0]).unwrap();
    // A SADB_REGISTER with 9,984 octets behind its header: whatever the kernel makes of it, X_PROMISC shows it to others first.
    let mut message = vec![2, 7, 0, 3];
    message.extend(1_250_u16.to_ne_bytes());
    message.resize(10_000, 0);
    talker.send(&message).unwrap();
    let heard: Vec<Received> =
        std::iter::from_fn(|| Some(listener.receive().unwrap())).take_while(|got| *got != Received::WouldBlock).collect();
    assert!(heard.contains(&Received::Datagram(message)), "{:?}", heard.len());
}

#[test]
fn a_mobility_message_crosses_the_loopback_with_its_addresses() {
    let socket = match MobilitySocket::open() {
        Ok(socket) => socket,
        Err(error) => return eprintln!("skipped: no raw Mobility Header socket here: {error}"),
    };
    let any = Ipv6Addr::UNSPECIFIED;
    // Binding refresh request (RFC 6275 section 6.1.2)
    let message = MobilitySend {
        bytes: &[59, 0, 0, 0, 0, 0, 0, 0],
        source: any,
        destination: Ipv6Addr::LOCALHOST,
        interface: 0,
        home_address: None,
        routing: None,
    };
    if let Err(error) = socket.send(&message) {
        return eprintln!("skipped: no IPv6 loopback here: {error}");
    }
    let got = wait_for(|| socket.receive().unwrap());
    assert_eq!(got.source, Ipv6Addr::LOCALHOST);
    assert_eq!(got.destination, Ipv6Addr::LOCALHOST);
    assert_eq!(got.bytes.len(), 8);
    assert_ne!(got.bytes[4..6], [0, 0], "the kernel filled the checksum");
    match socket.require_esp(7, ProtectedMobility::HomeAddressOption) {
        Ok(()) => {
            socket.send(&message).unwrap();
            sleep(Duration::from_millis(50));
            assert_eq!(socket.receive().unwrap(), None, "nothing unprotected passes");
        }
        Err(error) => eprintln!("skipped: no per-socket policy here: {error}"),
    }
}

#[test]
fn a_protected_mobility_socket_hears_nothing_in_clear() {
    let protected = match MobilitySocket::protected(0, ProtectedMobility::HomeAddressOption, &[5]) {
        Ok(socket) => socket,
        Err(error) => return eprintln!("skipped: no protected Mobility Header socket here: {error}"),
    };
    let plain = MobilitySocket::open().unwrap();
    // A binding update (RFC 6275 section 6.1.7) without options.
    let message = MobilitySend {
        bytes: &[59, 1, 5, 0, 0, 0, 0, 1, 0xd0, 0, 0, 15, 1, 2, 0, 0],
        source: Ipv6Addr::UNSPECIFIED,
        destination: Ipv6Addr::LOCALHOST,
        interface: 0,
        home_address: None,
        routing: None,
    };
    if let Err(error) = plain.send(&message) {
        return eprintln!("skipped: no IPv6 loopback here: {error}");
    }
    // Other tests send messages of other types over the same loopback.
    wait_for(|| plain.receive().unwrap().filter(|got| got.bytes[2] == 5));
    assert_eq!(protected.receive().unwrap(), None);
}
