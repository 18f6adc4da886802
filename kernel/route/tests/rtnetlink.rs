//! Messages of a real kernel, recorded while `ip` did what stands above each; then losses, and damage.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

use std::fmt::Write as _;

use watari_kernel::{AddressEvent, BackendOutput, Channel, KernelEvent, LinkEvent, RouteEvent};
use watari_route::RouteMonitor;

const ADDRESSES: &str = include_str!("addresses.txt");
const LINKS: &str = include_str!("links.txt");
const MULTI: u16 = 2;
const DUMP_INTR: u16 = 0x10;
const RTM_GETLINK: u16 = 18;
const RTM_GETADDR: u16 = 22;

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

/// What was done, and the octets.
fn blocks() -> Vec<(&'static str, Vec<u8>)> {
    read(ADDRESSES)
}

fn read(recorded: &'static str) -> Vec<(&'static str, Vec<u8>)> {
    let lines: Vec<&str> = recorded.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    lines.chunks(2).map(|block| (block[0], unhex(block[1]))).collect()
}

fn changes() -> impl Iterator<Item = Vec<u8>> {
    blocks().into_iter().filter(|(done, _)| *done != "dump").map(|(_, octets)| octets)
}

fn dump() -> Vec<u8> {
    blocks().into_iter().filter(|(done, _)| *done == "dump").flat_map(|(_, octets)| octets).collect()
}

fn say(event: &AddressEvent) -> String {
    let mut text = format!("{} {} {}/{}", if event.present { "+" } else { "-" }, event.interface, event.address, event.prefix_len);
    let flags = event.flags;
    let names = [
        (flags.tentative, "tentative"),
        (flags.dad_failed, "dad-failed"),
        (flags.deprecated, "deprecated"),
        (flags.temporary, "temporary"),
        (flags.home, "home"),
    ];
    for (_, name) in names.iter().filter(|(set, _)| *set) {
        write!(text, " {name}").unwrap();
    }
    text
}

fn say_link(event: LinkEvent) -> String {
    let state = match (event.present, event.up) {
        (false, _) => "gone",
        (true, false) => "down",
        (true, true) => "up",
    };
    format!("link {} {state}", event.interface)
}

fn say_route(event: RouteEvent) -> String {
    assert!(event.is_default(), "{event:?}");
    let sign = if event.present { "+" } else { "-" };
    let gateway = event.gateway.map_or_else(|| "none".to_owned(), |gateway| gateway.to_string());
    format!("{sign} {}/{} via {gateway} dev {}", event.destination, event.prefix_len, event.interface)
}

#[derive(Debug, Default)]
struct Drained {
    sent: Vec<Vec<u8>>,
    said: Vec<String>,
    malformed: usize,
}

fn drain(monitor: &mut RouteMonitor) -> Drained {
    let mut drained = Drained::default();
    loop {
        match monitor.poll() {
            BackendOutput::Send(channel, octets) => {
                assert_eq!(channel, Channel::Route);
                drained.sent.push(octets);
            }
            BackendOutput::Event(KernelEvent::Address(event)) => drained.said.push(say(&event)),
            BackendOutput::Event(KernelEvent::Link(event)) => drained.said.push(say_link(event)),
            BackendOutput::Event(KernelEvent::Route(event)) => drained.said.push(say_route(event)),
            BackendOutput::Event(KernelEvent::Malformed { .. }) => drained.malformed += 1,
            BackendOutput::Wait(None) => return drained,
            other => panic!("{other:?}"),
        }
    }
}

fn hear(monitor: &mut RouteMonitor, octets: &[u8]) -> Drained {
    monitor.received(octets);
    drain(monitor)
}

fn done(seq: u32, flags: u16, result: i32) -> Vec<u8> {
    let mut octets = 20_u32.to_ne_bytes().to_vec();
    octets.extend(3_u16.to_ne_bytes());
    octets.extend((MULTI | flags).to_ne_bytes());
    octets.extend(seq.to_ne_bytes());
    octets.extend(0_u32.to_ne_bytes());
    octets.extend(result.to_ne_bytes());
    octets
}

fn seq(request: &[u8]) -> u32 {
    u32::from_ne_bytes(request[8..12].try_into().unwrap())
}

fn kind(request: &[u8]) -> u16 {
    u16::from_ne_bytes(request[4..6].try_into().unwrap())
}

#[test]
fn links_and_default_routes_are_told_as_they_changed() {
    let mut monitor = RouteMonitor::new();
    let changes = read(LINKS).into_iter().filter(|(done, _)| *done != "dump");
    let said: Vec<String> = changes.flat_map(|(_, octets)| hear(&mut monitor, &octets).said).collect();
    let expected = [
        "link 2 down",
        "link 3 down",
        "link 2 up",
        "link 3 up",
        "+ 0.0.0.0/0 via 192.0.2.254 dev 3",
        "+ ::/0 via fe80::1 dev 3",
        "- 0.0.0.0/0 via 192.0.2.254 dev 3",
        "link 2 down",
        "link 3 down",
        "- ::/0 via fe80::1 dev 3",
        "link 3 gone",
        "link 2 gone",
    ];
    assert_eq!(said, expected);
}

#[test]
fn the_list_of_links_finds_what_vanished() {
    let mut monitor = RouteMonitor::new();
    let changes: Vec<Vec<u8>> = read(LINKS).into_iter().filter(|(done, _)| *done != "dump").map(|(_, octets)| octets).collect();
    for octets in &changes[..6] {
        monitor.received(octets);
    }
    let sent = drain(&mut monitor).sent;
    let sent = hear(&mut monitor, &done(seq(&sent[0]), 0, 0)).sent;
    // ifinfomsg: 16 octets of nothing in particular.
    let mut expected = 32_u32.to_ne_bytes().to_vec();
    expected.extend(RTM_GETLINK.to_ne_bytes());
    expected.extend(0x301_u16.to_ne_bytes());
    expected.extend(2_u32.to_ne_bytes());
    expected.extend([0; 4 + 16]);
    assert_eq!(sent, [expected]);
    // The dump of a namespace where only the loopback is.
    let mut said = Vec::new();
    for (_, mut octets) in read(LINKS).into_iter().filter(|(done, _)| *done == "dump") {
        octets[8..12].copy_from_slice(&seq(&sent[0]).to_ne_bytes());
        said.extend(hear(&mut monitor, &octets).said);
    }
    assert_eq!(said, ["link 1 up", "link 2 gone", "link 3 gone"]);
}

#[test]
fn a_port_that_leaves_a_bridge_is_still_there() {
    let mut monitor = RouteMonitor::new();
    let (_, mut gone) = read(LINKS).into_iter().find(|(done, _)| *done == "ip link del v0").unwrap();
    let (_, there) = read(LINKS).into_iter().find(|(done, _)| done.starts_with("v1 is set up")).unwrap();
    monitor.received(&there);
    drain(&mut monitor);
    // AF_BRIDGE as family of the ifinfomsg, and v1's index.
    gone[16] = 7;
    gone[20] = 2;
    assert!(hear(&mut monitor, &gone).said.is_empty());
    gone[16] = 0;
    assert_eq!(hear(&mut monitor, &gone).said, ["link 2 gone"]);
}

#[test]
fn changes_are_told_as_they_were_made() {
    let mut monitor = RouteMonitor::new();
    let said: Vec<String> = changes().flat_map(|octets| hear(&mut monitor, &octets).said).collect();
    let expected = [
        "+ 1 127.0.0.1/8",
        "+ 1 ::1/128",
        "+ 3 fe80::846b:c8ff:fec8:2140/64",
        "+ 2 fe80::e41d:bff:fe6f:655/64",
        "+ 3 2001:db8:1::5/64 tentative",
        "+ 3 2001:db8:1::5/64",
        "+ 3 2001:db8:1::abcd/128 home",
        "+ 3 2001:db8:1::5/64 deprecated",
        "+ 3 2001:db8:2::1/64",
        "+ 3 192.0.2.1/24",
        "+ 3 192.0.2.9/24",
        "+ 3 198.51.100.1/30",
        "- 3 2001:db8:1::abcd/128",
    ];
    assert_eq!(said, expected);
}

#[test]
fn the_request_is_the_one_a_strict_kernel_took() {
    let mut monitor = RouteMonitor::new();
    let sent = drain(&mut monitor).sent;
    let recorded = "18000000160001030100000000000000".to_owned() + "0000000000000000";
    assert_eq!(sent, [unhex(&recorded)]);
}

#[test]
fn a_dump_repeats_nothing_and_finds_what_vanished() {
    let mut monitor = RouteMonitor::new();
    for octets in changes() {
        monitor.received(&octets);
    }
    drain(&mut monitor);
    // The dump agrees with the changes: nothing to tell. The links are asked for after it.
    let drained = hear(&mut monitor, &dump());
    assert!(drained.said.is_empty(), "{drained:?}");
    assert!(hear(&mut monitor, &done(seq(&drained.sent[0]), 0, 0)).sent.is_empty());
    // Two hosts' worth of losses later the kernel has nothing but the loopback address.
    monitor.overrun();
    let request = drain(&mut monitor).sent;
    let mut rest = blocks()[0].1.clone();
    rest[6..8].copy_from_slice(&MULTI.to_ne_bytes());
    rest[8..12].copy_from_slice(&seq(&request[0]).to_ne_bytes());
    assert!(hear(&mut monitor, &rest).said.is_empty());
    // An address that comes during the dump is there, whether or not the dump shows it.
    assert_eq!(hear(&mut monitor, &blocks()[6].1).said, ["+ 3 2001:db8:1::abcd/128 home"]);
    let said = hear(&mut monitor, &done(seq(&request[0]), 0, 0)).said;
    assert_eq!(said.len(), 8, "{said:?}");
    assert!(said.iter().all(|event| event.starts_with('-')) && !said.contains(&"- 3 2001:db8:1::abcd/128".to_owned()), "{said:?}");
}

#[test]
fn a_first_dump_alone_tells_everything() {
    let mut monitor = RouteMonitor::new();
    let drained = hear(&mut monitor, &dump());
    assert_eq!((drained.said.len(), drained.malformed), (9, 0), "{drained:?}");
    assert!(drained.said.contains(&"+ 3 2001:db8:1::5/64 deprecated".to_owned()));
}

#[test]
fn disturbed_and_refused_dumps_are_asked_for_again() {
    let mut monitor = RouteMonitor::new();
    let first = seq(&drain(&mut monitor).sent[0]);
    let second = hear(&mut monitor, &done(first, DUMP_INTR, 0)).sent;
    assert_eq!(second.len(), 1);
    // EBUSY, and then a loss while the dump runs: no second dump beside it, both lists after it.
    let third = hear(&mut monitor, &done(seq(&second[0]), 0, -16)).sent;
    monitor.overrun();
    assert!(drain(&mut monitor).sent.is_empty());
    let fourth = hear(&mut monitor, &done(seq(&third[0]), 0, 0)).sent;
    assert_eq!((fourth.len(), kind(&fourth[0])), (1, RTM_GETADDR));
    // A loss between the lists begins with the first one again.
    let links = hear(&mut monitor, &done(seq(&fourth[0]), 0, 0)).sent;
    assert_eq!((links.len(), kind(&links[0])), (1, RTM_GETLINK));
    monitor.overrun();
    let fifth = hear(&mut monitor, &done(seq(&links[0]), 0, 0)).sent;
    assert_eq!((fifth.len(), kind(&fifth[0])), (1, RTM_GETADDR));
    let links = hear(&mut monitor, &done(seq(&fifth[0]), 0, 0)).sent;
    assert!(hear(&mut monitor, &done(seq(&links[0]), 0, 0)).sent.is_empty());
    // A late part of the first dump says nothing about now.
    let mut late = blocks()[0].1.clone();
    late[6..8].copy_from_slice(&MULTI.to_ne_bytes());
    late[8..12].copy_from_slice(&first.to_ne_bytes());
    assert!(hear(&mut monitor, &late).said.is_empty());
}

#[test]
fn damage_is_malformed_or_nothing() {
    // Of a link only the head is read closely; the rest of its 1,500 octets is walked over.
    for (_, octets) in blocks().into_iter().chain(read(LINKS)) {
        for position in 0..octets.len().min(120) {
            let mut monitor = RouteMonitor::new();
            let cut = hear(&mut monitor, &octets[..position]);
            assert!(position == 0 || octets.len() > 400 && octets[4] == 20 || cut.malformed == 1, "cut to {position}: {cut:?}");
            for value in [0, 1, 3, 4, 0x7f, 0x80, 0xff, octets[position] ^ 1] {
                let mut changed = octets.clone();
                changed[position] = value;
                hear(&mut RouteMonitor::new(), &changed);
            }
        }
    }
}
