//! Messages that a real kernel sent say what another decoder says of them, and damaged ones hurt nobody.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

use std::fmt::Write as _;

use watari_kernel::{KernelEvent, MigrateSource};
use watari_pfkey::{Dialect, KeyListener};
use watari_policies::Mode;

const RECORDED: &str = include_str!("recorded.txt");

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

/// Name, meaning, octets.
fn blocks() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let lines: Vec<&str> = RECORDED.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    lines.chunks(3).map(|block| (block[0], block[1], unhex(block[2]))).collect()
}

fn hear(octets: &[u8]) -> Option<KernelEvent> {
    KeyListener::new(Dialect::Linux).received(octets)
}

fn say(event: Option<KernelEvent>) -> String {
    let Some(event) = event else { return "nothing".to_owned() };
    let KernelEvent::Migrate(migrate) = event else { return format!("{event:?}") };
    assert_eq!(migrate.source, MigrateSource::PfKey);
    let (selector, km) = (migrate.selector, migrate.kmaddress.unwrap());
    let (sport, dport) = (selector.sport, selector.dport);
    let mut text = format!("migrate {} {}>{} proto {} ", migrate.direction, selector.src, selector.dst, selector.protocol);
    write!(text, "{}/{:04x} {}/{:04x} km {},{} ", sport.value, sport.mask, dport.value, dport.mask, km.local, km.remote).unwrap();
    for step in &migrate.steps {
        let mode = if step.mode == Mode::Tunnel { "tunnel" } else { "transport" };
        let (old, new) = (step.old, step.new);
        write!(text, "[{}>{} {}>{} proto 50 mode {mode} reqid {}]", old.src, old.dst, new.src, new.dst, step.reqid.0).unwrap();
    }
    text
}

#[test]
fn every_recorded_message_says_what_it_said() {
    let blocks = blocks();
    assert_eq!(blocks.len(), 24);
    for (name, meaning, octets) in blocks {
        assert_eq!(say(hear(&octets)), meaning, "{name}");
    }
}

fn a_migrate() -> Vec<u8> {
    blocks().into_iter().find(|(name, ..)| name.contains("x_migrate-reqid5")).unwrap().2
}

#[test]
fn without_kmaddress_and_with_an_unknown_extension() {
    let whole = a_migrate();
    let mut octets = whole[..16].to_vec();
    // Extension 77 of 16 octets where KMADDRESS (64 octets) was, and the order turned around.
    octets.extend(&whole[160..]);
    octets.extend([2, 0, 77, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    octets.extend(&whole[80..160]);
    let units = u16::try_from(octets.len() / 8).unwrap();
    octets[4..6].copy_from_slice(&units.to_ne_bytes());
    let (Some(KernelEvent::Migrate(bare)), Some(KernelEvent::Migrate(full))) = (hear(&octets), hear(&whole)) else { panic!() };
    assert_eq!(bare.kmaddress, None);
    assert_eq!((bare.selector, bare.steps), (full.selector, full.steps));
}

#[test]
fn old_end_points_of_no_family() {
    let whole = a_migrate();
    let mut octets = whole[..192].to_vec();
    octets[176..178].copy_from_slice(&16_u16.to_ne_bytes());
    octets.extend(&whole[248..]);
    let units = u16::try_from(octets.len() / 8).unwrap();
    octets[4..6].copy_from_slice(&units.to_ne_bytes());
    octets[160..162].copy_from_slice(&(units - 20).to_ne_bytes());
    let Some(KernelEvent::Migrate(migrate)) = hear(&octets) else { panic!("{:?}", hear(&octets)) };
    assert!(migrate.steps[0].old.is_unspecified() && !migrate.steps[0].new.is_unspecified());
}

#[test]
fn garbage_behind_addresses_does_not_matter() {
    let mut octets = a_migrate();
    let expected = say(hear(&octets));
    for tail in [116..120, 156..160] {
        octets[tail].fill(0x5a);
    }
    assert_eq!(say(hear(&octets)), expected);
}

#[test]
fn refusals_and_strangers_are_no_movement() {
    let mut octets = a_migrate();
    octets[2] = 61;
    assert_eq!(hear(&octets), None);
    assert!(matches!(hear(&[]), Some(KernelEvent::Malformed { .. })));
    octets[0] = 1;
    assert!(matches!(hear(&octets), Some(KernelEvent::Malformed { .. })));
}

#[test]
fn truncation_is_malformed() {
    for (name, _, octets) in blocks() {
        for length in 0..octets.len() {
            assert!(matches!(hear(&octets[..length]), Some(KernelEvent::Malformed { .. })), "{name} cut to {length}");
        }
        for length in (16..octets.len()).step_by(8) {
            let mut shorter = octets[..length].to_vec();
            shorter[4..6].copy_from_slice(&u16::try_from(length / 8).unwrap().to_ne_bytes());
            let event = hear(&shorter);
            assert!(!matches!(event, Some(KernelEvent::Migrate(_))), "{name} cut to {length}");
        }
    }
}

#[test]
fn no_octet_can_do_harm() {
    for (_, _, octets) in blocks().into_iter().step_by(4) {
        for position in 0..octets.len() {
            for value in [0, 1, 3, 7, 8, 0x7f, 0x80, 0xff, octets[position] ^ 1] {
                let mut changed = octets.clone();
                changed[position] = value;
                let _ = hear(&changed);
            }
        }
    }
}
