//! Routing messages laid out by hand from FreeBSD's net/route.h, net/if.h and net/if_dl.h and from KAME's, little-endian; then the monitor
//! against a kernel that answers its questions, and damage.

#![cfg(target_endian = "little")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use watari_kernel::{AddressFlags, KernelEvent, LinkEvent, RouteEvent};
use watari_route::rtsock::{Content, Dialect, Layout, Query, RtsockMonitor, RtsockOutput, first};

const FREEBSD: Layout = Layout { dialect: Dialect::FreeBsd, long: 8 };
const KAME: Layout = Layout { dialect: Dialect::Kame, long: 4 };

/// Hex with `;` comments to the end of a line.
fn unhex(text: &str) -> Vec<u8> {
    let bare: String = text.lines().map(|line| line.split(';').next().unwrap()).collect();
    let digits: Vec<u8> = bare.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16).unwrap() as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// 2001:db8:1::5/64 on interface 2 of a 64-bit FreeBSD.
const NEW_ADDRESS: &str = "
    8800 05 0c              ; ifam_msglen 136, version 5, RTM_NEWADDR
    34000000                ; ifam_addrs: RTA_NETMASK | RTA_IFP | RTA_IFA
    00000000                ; ifam_flags
    0200 0000 00000000      ; ifam_index 2, spare, ifam_metric
    1c1c 0000 00000000      ; netmask: sockaddr_in6 of 28 octets, family 28
    ffffffffffffffff 0000000000000000
    00000000 00000000       ; scope, filled up to 32
    3612 0200 06 03 06 00   ; interface: sockaddr_dl of 54 octets, AF_LINK, index 2, type 6, name 3, address 6
    656d30 020000000001     ; em0, 02:00:00:00:00:01
    000000000000000000000000000000000000000000000000000000000000000000000000000000
                            ; sdl_data up to 54 and filled up to 56: 8 + 9 + 39
    1c1c 0000 00000000      ; address: sockaddr_in6
    20010db8000100000000000000000005
    00000000                ; scope; the last one is not filled up
";

/// fe80::1 with the interface index 2 in its second 16 bits, as KAME writes it; 32-bit, a mask cut after its last octet.
const KAME_LINK_LOCAL: &str = "
    4000 05 0c              ; ifam_msglen 64, version 5, RTM_NEWADDR
    24000000                ; RTA_NETMASK | RTA_IFA
    00000000
    0200 0000 00000000      ; index 2
    1000 0000 00000000      ; netmask: 16 octets, no family, cut
    ffffffffffffffff
    1c1c 0000 00000000      ; address
    fe800002000000000000000000000001
    02000000                ; sin6_scope_id
";

/// 192.0.2.9/24 went from interface 3.
const IPV4_GONE: &str = "
    2c00 05 0d              ; ifam_msglen 44, RTM_DELADDR
    24000000 00000000
    0300 0000 00000000      ; index 3
    0702 ffff ffffff 00     ; netmask: 7 octets and family 2, as the radix tree keeps it: 255.255.255 at 4
    1002 0000 c0000209      ; sockaddr_in of 16 octets
    0000000000000000
";

fn link(flags: &str, state: &str) -> Vec<u8> {
    let data = "00".repeat(147);
    unhex(&format!(
        "
        a800 05 0e          ; ifm_msglen 168, RTM_IFINFO
        00000000            ; no sockaddrs
        {flags}
        0200 0000           ; index 2
        06 00 06 0e {state} {data}   ; if_data: type, physical, lengths, link state, the rest of 152
        "
    ))
}

/// A default route over fe80::1 on interface 2, 64-bit FreeBSD.
const DEFAULT_ROUTE: &str = "
    f800 05 01              ; rtm_msglen 248, RTM_ADD
    0200 0000               ; index 2, spare
    03080000                ; RTF_UP | RTF_GATEWAY | RTF_STATIC
    07000000                ; RTA_DST | RTA_GATEWAY | RTA_NETMASK
    d2040000 01000000       ; pid, seq
    00000000 00000000       ; errno, fmask
    0000000000000000        ; inits
    00000000000000000000000000000000000000000000000000000000
    00000000000000000000000000000000000000000000000000000000
    00000000000000000000000000000000000000000000000000000000
    00000000000000000000000000000000000000000000000000000000 ; rt_metrics: 14 longs
    1c1c 0000 00000000 00000000000000000000000000000000 00000000 00000000 ; ::
    1c1c 0000 00000000 fe800000000000000000000000000001 02000000 00000000 ; fe80::1
    1c1c 0000 00000000 00000000000000000000000000000000 00000000 00000000 ; mask of nothing
";

/// The default route of IPv4 went, 32-bit KAME: the mask is an empty sockaddr, which takes one long.
const KAME_DEFAULT_GONE: &str = "
    8000 05 02              ; rtm_msglen 128, RTM_DELETE
    0300 0000               ; index 3
    03080000 07000000       ; flags, addrs
    00000000 00000000 00000000 00000000 ; pid, seq, errno, use
    00000000                ; inits
    00000000000000000000000000000000000000000000000000000000
    00000000000000000000000000000000000000000000000000000000 ; 14 longs of 4
    1002 0000 00000000 0000000000000000 ; 0.0.0.0
    1002 0000 c00002fe 0000000000000000 ; 192.0.2.254
    00000000                ; netmask of length 0
";

/// em0 was pulled out.
const DEPARTURE: &str = "
    1800 05 11              ; ifan_msglen 24, RTM_IFANNOUNCE
    0200                    ; index 2
    656d3000000000000000000000000000
    0100                    ; IFAN_DEPARTURE
";

fn one(octets: &[u8], layout: Layout) -> Content {
    let (content, rest) = first(octets, layout).unwrap();
    assert!(rest.is_empty());
    content.unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn address(interface: u32, text: &str, prefix_len: u8, present: bool) -> Content {
    Content::Address { interface, address: ip(text), prefix_len, present }
}

#[test]
fn addresses_are_read_from_both_layouts() {
    assert_eq!(one(&unhex(NEW_ADDRESS), FREEBSD), address(2, "2001:db8:1::5", 64, true));
    assert_eq!(one(&unhex(KAME_LINK_LOCAL), KAME), address(2, "fe80::1", 64, true));
    assert_eq!(one(&unhex(IPV4_GONE), FREEBSD), address(3, "192.0.2.9", 24, false));
}

#[test]
fn links_are_up_with_flags_and_carrier() {
    let (up, no_carrier) = ("43880000", "03880000");
    let told = |up| Content::Link(LinkEvent { interface: 2, present: true, up });
    // LINK_STATE_UP, LINK_STATE_UNKNOWN (a device without a notion of it), LINK_STATE_DOWN.
    assert_eq!(one(&link(up, "02"), FREEBSD), told(true));
    assert_eq!(one(&link(up, "00"), FREEBSD), told(true));
    assert_eq!(one(&link(up, "01"), FREEBSD), told(false));
    assert_eq!(one(&link(no_carrier, "02"), FREEBSD), told(false));
    // KAME has something else at that place.
    assert_eq!(one(&link(up, "01"), KAME), told(true));
    assert_eq!(one(&unhex(DEPARTURE), FREEBSD), Content::Link(LinkEvent { interface: 2, present: false, up: false }));
}

#[test]
fn routes_are_read_from_both_layouts() {
    let route = RouteEvent { destination: ip("::"), prefix_len: 0, gateway: Some(ip("fe80::1")), interface: 2, present: true };
    assert_eq!(one(&unhex(DEFAULT_ROUTE), FREEBSD), Content::Route(route));
    let route = RouteEvent { destination: ip("0.0.0.0"), prefix_len: 0, gateway: Some(ip("192.0.2.254")), interface: 3, present: false };
    assert_eq!(one(&unhex(KAME_DEFAULT_GONE), KAME), Content::Route(route));
    // A refused request is heard by everybody; an entry of the neighbour table is no route.
    let mut refused = unhex(DEFAULT_ROUTE);
    refused[24] = 17;
    assert_eq!(one(&refused, FREEBSD), Content::Other);
    let mut neighbour = unhex(DEFAULT_ROUTE);
    neighbour[9] = 0x04;
    assert_eq!(one(&neighbour, FREEBSD), Content::Other);
    // A host route has no mask.
    let mut host = unhex(DEFAULT_ROUTE);
    host[12] = 3;
    host[152 + 8..152 + 24].copy_from_slice(&"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
    let Content::Route(route) = one(&host, FREEBSD) else { panic!() };
    assert_eq!((route.destination, route.prefix_len, route.is_default()), (ip("2001:db8::7"), 128, false));
}

#[test]
fn flags_are_those_of_in6_var_h() {
    let read = |layout: Layout, bits| layout.address_flags(bits).unwrap();
    let none = AddressFlags::default();
    assert_eq!(read(FREEBSD, 0), none);
    assert_eq!(read(FREEBSD, 0x02), AddressFlags { tentative: true, ..none });
    assert_eq!(read(FREEBSD, 0x04), AddressFlags { dad_failed: true, ..none });
    assert_eq!(read(FREEBSD, 0x08), AddressFlags { tentative: true, ..none });
    assert_eq!(read(FREEBSD, 0x10 | 0x40), AddressFlags { deprecated: true, ..none });
    assert_eq!(read(FREEBSD, 0x80), AddressFlags { temporary: true, ..none });
    assert_eq!(FREEBSD.address_flags(0x01), None);
    // IN6_IFF_HOME of SHISA is IN6_IFF_PREFER_SOURCE of FreeBSD.
    assert_eq!(read(FREEBSD, 0x100), none);
    assert_eq!(read(KAME, 0x100), AddressFlags { home: true, ..none });
    assert_eq!(read(KAME, 0x100 | 0x200 | 0x20), AddressFlags { home: true, ..none });
}

/// What a monitor said and asked since last time.
fn drain(monitor: &mut RtsockMonitor) -> (Vec<String>, Vec<Query>, Option<Duration>) {
    let (mut said, mut asked) = (Vec::new(), Vec::new());
    loop {
        match monitor.poll() {
            RtsockOutput::Ask(query) => asked.push(query),
            RtsockOutput::Event(KernelEvent::Address(event)) => {
                let sign = if event.present { '+' } else { '-' };
                let set = |flag, name: &'static str| if flag { name } else { "" };
                let flags = event.flags;
                let names = [set(flags.tentative, " tentative"), set(flags.deprecated, " deprecated"), set(flags.home, " home")].concat();
                said.push(format!("{sign} {} {}/{}{names}", event.interface, event.address, event.prefix_len));
            }
            RtsockOutput::Event(event) => said.push(format!("{event:?}")),
            RtsockOutput::Wait(deadline) => return (said, asked, deadline),
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);
const ADDRESS: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 5);
const ASK_ADDRESS: Query = Query::Flags { interface: 2, address: ADDRESS };

/// A monitor that has read an empty list of interfaces.
fn started(layout: Layout) -> RtsockMonitor {
    let mut monitor = RtsockMonitor::new(layout);
    assert_eq!(drain(&mut monitor), (vec![], vec![Query::Interfaces], None));
    monitor.interfaces(SECOND, Some(&[]));
    assert_eq!(drain(&mut monitor), (vec![], vec![], None));
    monitor
}

#[test]
fn an_address_is_told_with_its_flags_and_followed_through_duplicate_address_detection() {
    let mut monitor = started(FREEBSD);
    monitor.received(SECOND, &unhex(NEW_ADDRESS));
    let (said, asked, _) = drain(&mut monitor);
    assert_eq!((said, asked), (vec![], vec![ASK_ADDRESS]), "nothing is told before the kernel named the flags");
    monitor.flags(SECOND, 2, ADDRESS, Some(0x02));
    let (said, _, deadline) = drain(&mut monitor);
    assert_eq!((said.as_slice(), deadline), (["+ 2 2001:db8:1::5/64 tentative".to_owned()].as_slice(), Some(Duration::from_millis(1500))));
    // Too early: nothing; then it is asked again until it is settled.
    monitor.timeout(SECOND);
    assert_eq!(drain(&mut monitor).1, []);
    monitor.timeout(deadline.unwrap());
    assert_eq!(drain(&mut monitor).1, [ASK_ADDRESS]);
    monitor.flags(2 * SECOND, 2, ADDRESS, Some(0));
    let (said, _, deadline) = drain(&mut monitor);
    assert_eq!(said, ["+ 2 2001:db8:1::5/64"]);
    // Repeated news are none.
    monitor.received(2 * SECOND, &unhex(NEW_ADDRESS));
    monitor.flags(2 * SECOND, 2, ADDRESS, Some(0));
    assert_eq!(drain(&mut monitor).0, Vec::<String>::new());
    // Nobody says that it became deprecated: it is asked now and then.
    let (mut now, mut asked) = (deadline.unwrap(), Vec::new());
    while asked.is_empty() && now < 60 * SECOND {
        monitor.timeout(now);
        let (_, next, deadline) = drain(&mut monitor);
        (now, asked) = (deadline.unwrap(), next);
    }
    assert_eq!(asked, [ASK_ADDRESS]);
    monitor.flags(now, 2, ADDRESS, Some(0x10));
    assert_eq!(drain(&mut monitor).0, ["+ 2 2001:db8:1::5/64 deprecated"]);
    // Gone before the kernel could be asked.
    monitor.flags(now, 2, ADDRESS, None);
    let (said, _, deadline) = drain(&mut monitor);
    assert_eq!((said, deadline), (vec!["- 2 2001:db8:1::5/64".to_owned()], None));
}

#[test]
fn a_home_address_of_shisa_is_one_and_an_anycast_address_is_none() {
    let mut monitor = started(KAME);
    let home = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    monitor.received(SECOND, &unhex(KAME_LINK_LOCAL));
    monitor.flags(SECOND, 2, home, Some(0x100 | 0x20));
    assert_eq!(drain(&mut monitor).0, ["+ 2 fe80::1/64 home"]);
    monitor.flags(SECOND, 2, home, Some(0x01));
    assert_eq!(drain(&mut monitor).0, ["- 2 fe80::1/64"]);
    monitor.flags(SECOND, 2, home, Some(0x01));
    assert_eq!(drain(&mut monitor).0, Vec::<String>::new());
}

#[test]
fn a_list_after_a_loss_finds_what_vanished_and_repeats_nothing() {
    let mut monitor = started(FREEBSD);
    // The list of NET_RT_IFLIST: an interface, then its addresses.
    let list = [link("43880000", "02"), unhex(NEW_ADDRESS)].concat();
    monitor.interfaces(SECOND, Some(&list));
    monitor.flags(SECOND, 2, ADDRESS, Some(0));
    let told = format!("{:?}", KernelEvent::Link(LinkEvent { interface: 2, present: true, up: true }));
    assert_eq!(drain(&mut monitor).0, [told, "+ 2 2001:db8:1::5/64".to_owned()]);
    monitor.overrun();
    monitor.overrun();
    assert_eq!(drain(&mut monitor).1, [Query::Interfaces]);
    monitor.interfaces(SECOND, Some(&list));
    monitor.flags(SECOND, 2, ADDRESS, Some(0));
    assert_eq!(drain(&mut monitor).0, Vec::<String>::new());
    // A list that breaks off proves nothing.
    monitor.interfaces(SECOND, Some(&list[..40]));
    let said = drain(&mut monitor).0;
    assert!(said.len() == 1 && said[0].contains("Malformed"), "{said:?}");
    monitor.interfaces(SECOND, Some(&[]));
    let gone = format!("{:?}", KernelEvent::Link(LinkEvent { interface: 2, present: false, up: false }));
    assert_eq!(drain(&mut monitor).0, ["- 2 2001:db8:1::5/64".to_owned(), gone]);
}

#[test]
fn a_list_that_failed_is_asked_for_again() {
    let mut monitor = RtsockMonitor::new(FREEBSD);
    drain(&mut monitor);
    monitor.interfaces(SECOND, None);
    let (_, asked, deadline) = drain(&mut monitor);
    assert_eq!((asked, deadline), (vec![], Some(Duration::from_millis(1500))));
    monitor.timeout(deadline.unwrap());
    assert_eq!(drain(&mut monitor).1, [Query::Interfaces]);
    monitor.interfaces(2 * SECOND, Some(&[]));
    assert_eq!(drain(&mut monitor), (vec![], vec![], None));
}

#[test]
fn only_default_routes_are_told() {
    let mut monitor = started(FREEBSD);
    let mut other = unhex(DEFAULT_ROUTE);
    other[152 + 64 + 8] = 0xff;
    monitor.received(SECOND, &[unhex(DEFAULT_ROUTE), other].concat());
    let said = drain(&mut monitor).0;
    assert!(said.len() == 1 && said[0].starts_with("Route("), "{said:?}");
}

#[test]
fn a_message_that_cannot_be_read_does_not_hide_the_next() {
    let mut monitor = started(FREEBSD);
    let mut older = unhex(NEW_ADDRESS);
    older[2] = 3;
    monitor.received(SECOND, &[older, link("43880000", "02")].concat());
    let said = drain(&mut monitor).0;
    assert!(said.len() == 2 && said[0].contains("version 3") && said[1].starts_with("Link("), "{said:?}");
}

#[test]
fn damage_is_an_error_or_another_message() {
    for (text, layout) in [
        (unhex(NEW_ADDRESS), FREEBSD),
        (unhex(KAME_LINK_LOCAL), KAME),
        (unhex(IPV4_GONE), FREEBSD),
        (unhex(DEFAULT_ROUTE), FREEBSD),
        (unhex(KAME_DEFAULT_GONE), KAME),
        (unhex(DEPARTURE), FREEBSD),
        (link("43880000", "02"), FREEBSD),
    ] {
        for position in 0..text.len() {
            assert!(first(&text[..position], layout).is_err(), "cut to {position}");
            // The length says that nothing is missing, yet it is.
            let mut short = text[..position].to_vec();
            if position >= 4 {
                short[..2].copy_from_slice(&(position as u16).to_ne_bytes());
                let _ = first(&short, layout);
            }
            for value in 0..=255 {
                let mut changed = text.clone();
                changed[position] = value;
                let mut monitor = RtsockMonitor::new(layout);
                monitor.received(SECOND, &changed);
                drain(&mut monitor);
            }
        }
    }
    for length in [0_u16, 1, 3] {
        let mut looping = unhex(DEPARTURE);
        looping[..2].copy_from_slice(&length.to_ne_bytes());
        assert!(first(&looping, FREEBSD).is_err(), "a length of {length} would never end");
    }
}
