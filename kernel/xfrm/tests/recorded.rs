//! Multicast messages that real kernels sent say what another decoder says of them, and damaged ones hurt nobody.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

mod support;

use std::fmt::Write as _;

use support::{blocks, events_of, unhex};
use watari_kernel::{KernelEvent, MigrateSource, PolicyAction, PolicyKind, Template};
use watari_policies::{Mode, Selector};

const RECORDED: &str = include_str!("recorded.txt");

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Transport => "transport",
        Mode::Tunnel => "tunnel",
    }
}

fn ports(selector: &Selector) -> String {
    let Selector { src, dst, protocol, sport, dport } = selector;
    format!("{src}>{dst} proto {protocol} {}/{:04x} {}/{:04x}", sport.value, sport.mask, dport.value, dport.mask)
}

fn template(template: &Template) -> String {
    let Template { ip_protocol, mode: tunnel, reqid, endpoints, .. } = template;
    assert!(template.protocol.is_some() && !template.optional);
    format!("[{}>{} proto {ip_protocol} mode {} reqid {}]", endpoints.src, endpoints.dst, mode(*tunnel), reqid.0)
}

fn say(event: &KernelEvent) -> String {
    match event {
        KernelEvent::Migrate(migrate) => {
            assert_eq!(migrate.source, MigrateSource::Netlink);
            let km = migrate.kmaddress.unwrap();
            let mut text = format!("migrate {} {} km {},{} ", migrate.direction, ports(&migrate.selector), km.local, km.remote);
            for step in &migrate.steps {
                let (old, new) = (step.old, step.new);
                write!(text, "[{}>{} {}>{} proto 50 mode {} reqid {}]", old.src, old.dst, new.src, new.dst, mode(step.mode), step.reqid.0)
                    .unwrap();
            }
            text
        }
        KernelEvent::PolicyChanged(policy) => {
            assert_eq!((policy.kind, policy.action), (PolicyKind::Main, PolicyAction::Allow));
            let templates: String = policy.templates.iter().map(template).collect();
            let (direction, selector) = (policy.direction, ports(&policy.selector));
            format!("policy {direction} {selector} prio {} index {} {templates}", policy.priority, policy.index.0)
        }
        KernelEvent::Acquire(acquire) => {
            let (packet, policy) = (ports(&acquire.packet), ports(&acquire.policy));
            let ends = acquire.endpoints;
            let head = format!("acquire seq {} {} {}>{}", acquire.sequence, acquire.direction, ends.src, ends.dst);
            format!("{head} packet {packet} policy {policy} index {} {}", acquire.index.0, template(&acquire.template))
        }
        KernelEvent::Expire(expire) => {
            let hard = if expire.hard { "hard" } else { "soft" };
            format!("expire {hard} {}>{} spi {} reqid {}", expire.src, expire.id.dst, expire.id.spi, expire.reqid.0)
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn every_recorded_message_says_what_it_said() {
    let blocks = blocks(RECORDED);
    assert_eq!(blocks.len(), 44);
    for [name, meaning, octets] in blocks {
        let said: Vec<String> = events_of(&unhex(octets)).iter().map(say).collect();
        assert_eq!(said, [meaning], "{name}");
    }
}

#[test]
fn several_messages_in_one_datagram() {
    let all: Vec<u8> = blocks(RECORDED).iter().flat_map(|[_, _, octets]| unhex(octets)).collect();
    assert_eq!(events_of(&all).len(), 44);
}

#[test]
fn truncation_is_malformed_and_never_more() {
    for [name, _, octets] in blocks(RECORDED) {
        let octets = unhex(octets);
        for length in 1..octets.len() {
            // Cut by the socket: the header promises more than there is.
            let events = events_of(&octets[..length]);
            assert!(matches!(events.as_slice(), [KernelEvent::Malformed { .. }]), "{name} cut to {length}");
            // Cut by the sender: the header is right about a shorter message.
            let mut shorter = octets[..length].to_vec();
            if length >= 16 {
                shorter[..4].copy_from_slice(&u32::try_from(length).unwrap().to_ne_bytes());
                assert_eq!(events_of(&shorter).len(), 1, "{name} cut to {length}");
            }
        }
    }
}

#[test]
fn no_octet_can_do_harm() {
    for [name, _, octets] in blocks(RECORDED).into_iter().step_by(3) {
        let octets = unhex(octets);
        for position in 0..octets.len() {
            for value in [0, 1, 3, 4, 0x7f, 0x80, 0xff, octets[position] ^ 1] {
                let mut changed = octets.clone();
                changed[position] = value;
                assert!(events_of(&changed).len() <= 2, "{name} octet {position} = {value}");
            }
        }
    }
}
