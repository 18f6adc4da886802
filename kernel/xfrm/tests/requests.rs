//! Requests hold what iproute2 puts into them for the same wish (recorded from it, not written by us).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

mod support;

use std::collections::BTreeMap;

use support::{PORT, at, blocks, drain, flags, kind, seq, unhex, word};
use watari_kernel::{
    Backend, Encapsulation, Endpoints, KernelRequest, PolicyAction, PolicyEntry, PolicyIndex, PolicyKind, RequestId, SaId, SaKeys,
    SaLifetime, SaParameters, Spi, Template,
};
use watari_policies::algorithm::{ChildSuite, Cipher, Integrity};
use watari_policies::{Direction, Mode, PortMask, Protocol, Reqid, Secret, Selector};
use watari_xfrm::XfrmBackend;

const IPROUTE2: &str = include_str!("iproute2.txt");
/// XFRMA_SRCADDR, which iproute2 adds for protocols whose states have no SPI.
const SRCADDR: u16 = 13;

/// The first iproute2 request whose arguments begin so: type, fixed part, attributes.
fn theirs(arguments: &str) -> (u16, Vec<u8>) {
    let block = blocks(IPROUTE2).into_iter().find(|[line, ..]| line.starts_with(arguments)).unwrap();
    (u16::from_str_radix(block[1], 16).unwrap(), unhex(block[2]))
}

fn split(body: &[u8], fixed: usize) -> (Vec<u8>, BTreeMap<u16, Vec<u8>>) {
    let mut attributes = BTreeMap::new();
    let mut rest = &body[fixed..];
    while !rest.is_empty() {
        let length = usize::from(u16::from_ne_bytes([rest[0], rest[1]]));
        let kind = u16::from_ne_bytes([rest[2], rest[3]]);
        assert!(attributes.insert(kind, rest[4..length].to_vec()).is_none());
        rest = &rest[length.next_multiple_of(4)..];
    }
    (body[..fixed].to_vec(), attributes)
}

fn assert_same(request: KernelRequest, arguments: &str, fixed: usize, wanted_flags: u16) {
    let mut backend = XfrmBackend::new(PORT);
    backend.submit(at(0), RequestId(1), request);
    let sent = drain(&mut backend).sent;
    let [ours] = sent.as_slice() else { panic!("{sent:?}") };
    let (their_kind, their_body) = theirs(arguments);
    assert_eq!(word(ours, 0) as usize, ours.len());
    assert_eq!((kind(ours), flags(ours), seq(ours), word(ours, 12)), (their_kind, wanted_flags, 1, PORT));
    let (our_fixed, our_attributes) = split(&ours[16..], fixed);
    let (their_fixed, mut their_attributes) = split(&their_body, fixed);
    assert_eq!(our_fixed, their_fixed, "{arguments}");
    if !our_attributes.contains_key(&SRCADDR) {
        their_attributes.remove(&SRCADDR);
    }
    assert_eq!(our_attributes, their_attributes, "{arguments}");
}

fn counting(first: u8, length: u8) -> Secret {
    Secret::new((first..first + length).collect())
}

fn ends(src: &str, dst: &str) -> Endpoints {
    Endpoints { src: src.parse().unwrap(), dst: dst.parse().unwrap() }
}

fn between(src: &str, dst: &str) -> Selector {
    Selector::between(src.parse().unwrap(), dst.parse().unwrap())
}

fn binding_update() -> Selector {
    between("2001:db8:1::abcd/128", "2001:db8:1::1/128").protocol(135).message_type(5)
}

fn id(dst: &str, spi: u32) -> SaId {
    SaId { dst: dst.parse().unwrap(), protocol: Protocol::Esp, spi: Spi(spi) }
}

fn transport_sa() -> SaParameters {
    SaParameters {
        id: id("2001:db8:1::1", 0x1234_5678),
        src: "2001:db8:1::abcd".parse().unwrap(),
        mode: Mode::Transport,
        reqid: Reqid(1),
        selector: binding_update(),
        keys: SaKeys {
            suite: ChildSuite { cipher: Cipher::AES128, integrity: Some(Integrity::HmacSha256_128), esn: false },
            encryption: counting(0, 16),
            integrity: counting(0x20, 32),
        },
        replay_window: 32,
        lifetime: SaLifetime::default(),
        encapsulation: None,
    }
}

fn add(parameters: SaParameters, allocated: bool, sequence: u32) -> KernelRequest {
    KernelRequest::AddSa { parameters: Box::new(parameters), allocated, sequence }
}

#[test]
fn transport_sa_with_cbc_and_hmac() {
    assert_same(add(transport_sa(), false, 0), "state add src 2001", 224, 0x5);
}

#[test]
fn tunnel_sa_with_gcm_limits_and_sequence() {
    let sa = SaParameters {
        id: id("2001:db8:1::1", 0xc000_0001),
        src: "2001:db8:f1::2".parse().unwrap(),
        mode: Mode::Tunnel,
        reqid: Reqid(7),
        selector: between("2001:db8:1::abcd/128", "::/0"),
        keys: SaKeys {
            suite: ChildSuite { cipher: Cipher::AES128GCM16, integrity: None, esn: false },
            encryption: counting(0, 20),
            integrity: Secret::default(),
        },
        replay_window: 0,
        lifetime: SaLifetime {
            soft_seconds: 3000,
            hard_seconds: 3600,
            soft_bytes: 1000,
            hard_bytes: 2000,
            soft_packets: 10,
            hard_packets: 20,
        },
        encapsulation: None,
    };
    // A number that reads alike in both octet orders: iproute2 swaps it, the kernel does not.
    assert_same(add(sa, true, 0x0900_0009), "state update", 224, 0x5);
}

#[test]
fn tunnel_sa_of_ipv4_with_null_cipher_esn_and_encapsulation() {
    let sa = SaParameters {
        id: id("198.51.100.2", 0xc000_0002),
        src: "192.0.2.1".parse().unwrap(),
        mode: Mode::Tunnel,
        reqid: Reqid(8),
        selector: between("10.0.0.0/8", "10.1.0.0/16"),
        keys: SaKeys {
            suite: ChildSuite { cipher: Cipher::NULL, integrity: Some(Integrity::HmacSha1_96), esn: true },
            encryption: Secret::default(),
            integrity: counting(0, 20),
        },
        replay_window: 128,
        lifetime: SaLifetime::default(),
        encapsulation: Some(Encapsulation { source_port: 4500, destination_port: 4500 }),
    };
    assert_same(add(sa, false, 0), "state add src 192", 224, 0x5);
}

#[test]
fn spi_query_and_removal() {
    let endpoints = ends("2001:db8:1::1", "2001:db8:1::abcd");
    let request = KernelRequest::AllocateSpi { endpoints, protocol: Protocol::Esp, mode: Mode::Transport, reqid: Reqid(2) };
    assert_same(request, "state allocspi", 232, 0x1);
    assert_same(KernelRequest::DeleteSa(id("2001:db8:1::1", 0x1234_5678)), "state delete", 24, 0x5);
    assert_same(KernelRequest::QuerySa(id("2001:db8:1::1", 0x1234_5678)), "state get", 24, 0x1);
}

fn policy(selector: Selector, direction: Direction, priority: u32, templates: Vec<Template>) -> PolicyEntry {
    PolicyEntry { selector, direction, kind: PolicyKind::Main, index: PolicyIndex(0), priority, action: PolicyAction::Allow, templates }
}

#[test]
fn policies() {
    let nowhere = ends("::", "::");
    let transport = policy(binding_update(), Direction::Out, 2, vec![Template::esp(Mode::Transport, Reqid(1), nowhere)]);
    assert_same(KernelRequest::SetPolicy(transport), "policy update src 2001:db8:1::abcd/128 dst 2001", 168, 0x5);

    let mut prefix_solicitation = between("2001:db8:1::abcd/128", "::/0").protocol(58).message_type(146);
    prefix_solicitation.dport = PortMask::exact(0);
    let tunnel = Template::esp(Mode::Tunnel, Reqid(5), ends("2001:db8:f1::2", "2001:db8:1::1"));
    let forward = policy(prefix_solicitation, Direction::Forward, 10, vec![tunnel]);
    assert_same(KernelRequest::SetPolicy(forward), "policy update src 2001:db8:1::abcd/128 dst ::", 168, 0x5);

    let mut domain_names = between("10.0.0.0/8", "10.1.0.0/16").protocol(17);
    (domain_names.sport, domain_names.dport) = (PortMask::exact(53), PortMask::exact(5353));
    let optional = Template { optional: true, ..Template::esp(Mode::Transport, Reqid(6), nowhere) };
    assert_same(KernelRequest::SetPolicy(policy(domain_names, Direction::In, 11, vec![optional])), "policy update src 10", 168, 0x5);

    let block = PolicyEntry {
        kind: PolicyKind::Sub,
        action: PolicyAction::Block,
        ..policy(between("::/0", "::/0"), Direction::Out, 4, Vec::new())
    };
    assert_same(KernelRequest::SetPolicy(block), "policy update src ::/0", 168, 0x5);

    let removal = KernelRequest::DeletePolicy { selector: binding_update(), direction: Direction::Out, kind: PolicyKind::Main };
    assert_same(removal, "policy delete", 64, 0x5);
}

#[test]
fn dumps_carry_no_body() {
    for (request, wanted) in [(KernelRequest::DumpSas, 0x12), (KernelRequest::DumpPolicies, 0x15)] {
        let mut backend = XfrmBackend::new(PORT);
        backend.submit(at(0), RequestId(1), request);
        let sent = drain(&mut backend).sent;
        assert_eq!((sent[0].len(), kind(&sent[0]), flags(&sent[0])), (16, wanted, 0x301));
    }
}

#[test]
fn nonsense_is_refused_before_the_kernel_sees_it() {
    let wrong_key = SaParameters { keys: SaKeys { encryption: counting(0, 15), ..transport_sa().keys }, ..transport_sa() };
    let wide = SaParameters { replay_window: 4097, ..transport_sa() };
    let mixed = SaParameters { src: "192.0.2.1".parse().unwrap(), ..transport_sa() };
    for (sa, words) in [(wrong_key, "15 octets for aes128"), (wide, "4097 packets"), (mixed, "different families")] {
        let mut backend = XfrmBackend::new(PORT);
        backend.submit(at(0), RequestId(1), add(sa, false, 0));
        let drained = drain(&mut backend);
        let [(1, Err(error))] = drained.done.as_slice() else { panic!("{drained:?}") };
        assert!(drained.sent.is_empty() && error.errno == 0 && error.text.contains(words), "{error}");
    }
}

#[test]
fn outbound_esn_gets_the_window_that_the_kernel_demands() {
    let mut sa = transport_sa();
    (sa.keys.suite.esn, sa.replay_window) = (true, 0);
    let mut backend = XfrmBackend::new(PORT);
    backend.submit(at(0), RequestId(1), add(sa, false, 0));
    let (_, attributes) = split(&drain(&mut backend).sent[0][16..], 224);
    let esn = &attributes[&23];
    assert_eq!((word(esn, 0), word(esn, 20), esn.len()), (1, 1, 24));
}
