//! Messages of a real kernel, recorded while `ip` did what stands above each; then losses, and damage.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

use std::fmt::Write as _;

use watari_kernel::{AddressEvent, BackendOutput, Channel, KernelEvent};
use watari_route::RouteMonitor;

const RECORDED: &str = include_str!("recorded.txt");
const MULTI: u16 = 2;
const DUMP_INTR: u16 = 0x10;

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

/// What was done, and the octets.
fn blocks() -> Vec<(&'static str, Vec<u8>)> {
    let lines: Vec<&str> = RECORDED.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
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
    // The dump agrees with the changes: nothing to tell.
    assert!(hear(&mut monitor, &dump()).said.is_empty());
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
    // EBUSY, and then a loss while the dump runs: no second dump beside it, another one after it.
    let third = hear(&mut monitor, &done(seq(&second[0]), 0, -16)).sent;
    monitor.overrun();
    assert!(drain(&mut monitor).sent.is_empty());
    let fourth = hear(&mut monitor, &done(seq(&third[0]), 0, 0)).sent;
    assert_eq!(fourth.len(), 1);
    assert!(hear(&mut monitor, &done(seq(&fourth[0]), 0, 0)).sent.is_empty());
    // A late part of the first dump says nothing about now.
    let mut late = blocks()[0].1.clone();
    late[6..8].copy_from_slice(&MULTI.to_ne_bytes());
    late[8..12].copy_from_slice(&first.to_ne_bytes());
    assert!(hear(&mut monitor, &late).said.is_empty());
}

#[test]
fn damage_is_malformed_or_nothing() {
    for (_, octets) in blocks() {
        for position in 0..octets.len() {
            let mut monitor = RouteMonitor::new();
            let cut = hear(&mut monitor, &octets[..position]);
            assert!(position == 0 || octets.len() > 400 || cut.malformed == 1, "cut to {position}: {cut:?}");
            for value in [0, 1, 3, 4, 0x7f, 0x80, 0xff, octets[position] ^ 1] {
                let mut changed = octets.clone();
                changed[position] = value;
                hear(&mut RouteMonitor::new(), &changed);
            }
        }
    }
}
