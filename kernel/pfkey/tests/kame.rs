//! The KAME dialect on octets laid out by hand after sys/net/pfkeyv2.h and netinet6/ipsec.h as described in the project's facts: a
//! sockaddr begins with its length and its family (28 for IPv6 in FreeBSD), an ipsecrequest has 8 octets and a reqid of 16 bits, the
//! policy has no priority, numbers 25 and 27 are X_TAG and X_PACKET. Little-endian, as those kernels run on i386 and amd64.

#![cfg(target_endian = "little")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

mod support;

use support::*;
use watari_kernel::{
    Backend, Endpoints, KernelEvent, KernelReply, KernelRequest, KmAddress, Migrate, MigrateSource, MigrateStep, PolicyAction, PolicyEntry,
    PolicyIndex, PolicyKind, RequestId, SaId, SaKeys, SaLifetime, SaParameters, Spi, Template,
};
use watari_pfkey::{Dialect, KeyBackend, KeyListener, TriggeringPacket, migrate_request};
use watari_policies::algorithm::{ChildSuite, Cipher, Integrity};
use watari_policies::{Direction, Mode, Protocol, Reqid, Selector};

/// SADB_X_MIGRATE of 240 octets as key_setmigrate() lays it out when the mobile node hoA = 2001:db8:1::abcd moves from care-of address
/// 2001:db8:f1::1 to 2001:db8:f2::1; home agent 2001:db8:1::1, outbound tunnel policy of reqid 5 with the number 0x1f.
const MIGRATE: &str = "
    02 18 00 00 1e00 0000 00000000 00000000                       / version 2, type 24, no error, UNSPEC, 30 units, seq 0, pid 0
    0500 0500 ff 80 0000                                          / ADDRESS_SRC: 5 units, any protocol, /128
      1c 1c 0000 00000000 20010db800010000000000000000abcd 00000000 00000000
    0500 0600 ff 00 0000                                          / ADDRESS_DST: /0
      1c 1c 0000 00000000 00000000000000000000000000000000 00000000 00000000
    1200 1200 0200 02 00 1f000000 00000000                        / X_POLICY: 18 units, IPSEC, outbound, number, reserved2
      4000 3200 02 03 0500                                        / old: 64 octets, ESP, tunnel, unique, reqid 5
        1c 1c 0000 00000000 20010db800f100000000000000000001 00000000
        1c 1c 0000 00000000 20010db8000100000000000000000001 00000000
      4000 3200 02 03 0500                                        / new
        1c 1c 0000 00000000 20010db800f200000000000000000001 00000000
        1c 1c 0000 00000000 20010db8000100000000000000000001 00000000";

/// SADB_X_SPDADD of the same policy as key_setdumpsp() lays it out.
const POLICY: &str = "
    02 0e 00 00 1600 0000 00000000 00000000
    0500 0500 ff 80 0000 1c 1c 0000 00000000 20010db800010000000000000000abcd 00000000 00000000
    0500 0600 ff 00 0000 1c 1c 0000 00000000 00000000000000000000000000000000 00000000 00000000
    0a00 1200 0200 02 00 1f000000 00000000
      4000 3200 02 03 0500
        1c 1c 0000 00000000 20010db800f100000000000000000001 00000000
        1c 1c 0000 00000000 20010db8000100000000000000000001 00000000";

/// SADB_ACQUIRE for it: end points, X_POLICY with the number, and at the end X_PACKET with the packet that caused it: a binding update
/// with a home address option, 40 + 24 + 16 octets.
const ACQUIRE: &str = "
    02 06 00 03 1900 0000 09000000 00000000
    0500 0500 ff 80 0000 1c 1c 0000 00000000 20010db800f100000000000000000001 00000000 00000000
    0500 0600 ff 80 0000 1c 1c 0000 00000000 20010db8000100000000000000000001 00000000 00000000
    0200 1200 0200 02 00 1f000000 00000000
    0b00 1b00 50000000                                            / X_PACKET: 11 units, type 27, 80 octets copied
      60000000 0028 3c 40 20010db800f100000000000000000001 20010db8000100000000000000000001
      87 02 01 02 0000 c9 10 20010db800010000000000000000abcd     / destination options: PadN, home address
      3b 01 05 00 0000 0001 c000 0010 0102 0000                   / MH: BU, sequence 1, A and H";

fn address(text: &str) -> std::net::IpAddr {
    text.parse().unwrap()
}

fn ends(src: &str, dst: &str) -> Endpoints {
    Endpoints { src: address(src), dst: address(dst) }
}

fn selector() -> Selector {
    Selector::between("2001:db8:1::abcd/128".parse().unwrap(), "::/0".parse().unwrap())
}

fn the_migrate() -> Migrate {
    Migrate {
        selector: selector(),
        direction: Direction::Out,
        steps: vec![MigrateStep {
            protocol: Protocol::Esp,
            mode: Mode::Tunnel,
            reqid: Reqid(5),
            old: ends("2001:db8:f1::1", "2001:db8:1::1"),
            new: ends("2001:db8:f2::1", "2001:db8:1::1"),
        }],
        kmaddress: None,
        source: MigrateSource::PfKey,
    }
}

fn the_policy() -> PolicyEntry {
    PolicyEntry {
        selector: selector(),
        direction: Direction::Out,
        kind: PolicyKind::Main,
        index: PolicyIndex(0x1f),
        priority: 0,
        action: PolicyAction::Allow,
        templates: vec![Template::esp(Mode::Tunnel, Reqid(5), ends("2001:db8:f1::1", "2001:db8:1::1"))],
    }
}

fn backend() -> KeyBackend {
    KeyBackend::new(Dialect::Kame, PID)
}

#[test]
fn a_migrate_is_read_and_written() {
    let octets = unhex(MIGRATE);
    assert_eq!(octets.len(), 240);
    assert_eq!(KeyListener::new(Dialect::Kame).received(&octets), Some(KernelEvent::Migrate(the_migrate())));
    let mut written = migrate_request(Dialect::Kame, &the_migrate(), 0, 0).unwrap();
    // Only the kernel knows its number of the policy.
    written[104] = 0x1f;
    assert_eq!(written, octets);
    let kmaddress = Some(KmAddress { local: address("::1"), remote: address("::2") });
    assert!(migrate_request(Dialect::Kame, &Migrate { kmaddress, ..the_migrate() }, 0, 0).is_err());
    // The other dialect does not take it for something else.
    assert!(matches!(KeyListener::new(Dialect::Linux).received(&octets), Some(KernelEvent::Malformed { .. })));
    let linux = migrate_request(Dialect::Linux, &Migrate { kmaddress, ..the_migrate() }, 0, 0).unwrap();
    assert_eq!(linux.len(), 320);
    let read = KeyListener::new(Dialect::Linux).received(&linux);
    assert_eq!(read, Some(KernelEvent::Migrate(Migrate { kmaddress, ..the_migrate() })));
}

#[test]
fn extension_25_is_a_tag_and_no_kmaddress() {
    let mut octets = unhex(MIGRATE);
    octets.extend(unhex("0300 1900 7461670000000000 00000000 00000000 00000000"));
    octets[4] = 33;
    assert_eq!(KeyListener::new(Dialect::Kame).received(&octets), Some(KernelEvent::Migrate(the_migrate())));
}

#[test]
fn netbsd_numbers_the_family_otherwise() {
    let octets: Vec<u8> = unhex(&MIGRATE.replace("1c 1c", "1c 18"));
    assert_eq!(KeyListener::new(Dialect::Kame).received(&octets), Some(KernelEvent::Migrate(the_migrate())));
}

#[test]
fn a_policy_is_read_and_written() {
    let mut backend = backend();
    assert_eq!(hear(&mut backend, &unhex(POLICY)).events, [KernelEvent::PolicyChanged(the_policy())]);
    let mut entry = the_policy();
    entry.priority = 77;
    backend.submit(at(0), RequestId(1), KernelRequest::SetPolicy(entry.clone()));
    let sent = drain(&mut backend).sent;
    let mut expected = unhex(POLICY);
    expected[1] = 13;
    expected[104] = 0;
    assert_eq!(sent[0][16..], expected[16..]);
    assert_eq!(kind(&sent[0]), 13);
    // There is no forward direction: the inbound policy covers it.
    entry.direction = Direction::Forward;
    backend.submit(at(0), RequestId(2), KernelRequest::SetPolicy(entry));
    let drained = drain(&mut backend);
    assert_eq!((drained.sent.len(), drained.done), (0, vec![(2, Ok(KernelReply::Done))]));
}

#[test]
fn an_update_of_the_policy_is_what_moves_when_migrate_is_off() {
    let mut backend = backend();
    hear(&mut backend, &unhex(POLICY));
    let mut update = unhex(&POLICY.replace("f100000000000000000001", "f200000000000000000001"));
    update[1] = 13;
    let events = hear(&mut backend, &update).events;
    let [KernelEvent::PolicyChanged(policy)] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(policy.templates[0].endpoints, ends("2001:db8:f2::1", "2001:db8:1::1"));
}

#[test]
fn an_acquire_with_a_packet_of_more_than_8_kib_is_read_whole() {
    let mut octets = unhex(ACQUIRE);
    // The packet begins at 120: a jumbo frame of 9,000 octets instead of 80.
    octets.resize(120 + 9_000, 0);
    octets[4..6].copy_from_slice(&(9_120_u16 / 8).to_ne_bytes());
    octets[112..114].copy_from_slice(&(9_008_u16 / 8).to_ne_bytes());
    octets[116..120].copy_from_slice(&9_000_u32.to_ne_bytes());
    octets[124..126].copy_from_slice(&8_960_u16.to_be_bytes());
    let mut backend = backend();
    hear(&mut backend, &unhex(POLICY));
    let events = hear(&mut backend, &octets).events;
    let [KernelEvent::Acquire(acquire)] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(acquire.packet.to_string(), "2001:db8:1::abcd/128 -> 2001:db8:1::1/128 mobility-header type 5");
    assert_eq!((acquire.sequence, acquire.index), (9, PolicyIndex(0x1f)));
}

#[test]
fn the_packet_in_an_acquire_tells_home_address_and_type() {
    let octets = unhex(ACQUIRE);
    let mut backend = backend();
    hear(&mut backend, &unhex(POLICY));
    let events = hear(&mut backend, &octets).events;
    let [KernelEvent::Acquire(acquire)] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(acquire.packet.to_string(), "2001:db8:1::abcd/128 -> 2001:db8:1::1/128 mobility-header type 5");
    assert_eq!((acquire.sequence, acquire.policy, acquire.index), (9, selector(), PolicyIndex(0x1f)));
    let packet = TriggeringPacket::read(&octets[octets.len() - 80..]).unwrap();
    assert_eq!(packet.source.to_string(), "2001:db8:f1::1");
    assert_eq!(packet.home.unwrap().to_string(), "2001:db8:1::abcd");
    // Cut short, it tells nothing, and the policy speaks for it.
    let whole = &octets[octets.len() - 80..];
    for length in 0..64 {
        assert_eq!(TriggeringPacket::read(&whole[..length]), None, "{length}");
    }
    let mut cut = octets.clone();
    cut[116] = 60;
    let events = hear(&mut backend, &cut).events;
    assert!(matches!(events.as_slice(), [KernelEvent::Acquire(acquire)] if acquire.packet == selector()), "{events:?}");
    cut[116] = 81;
    let events = hear(&mut backend, &cut).events;
    assert!(matches!(events.as_slice(), [KernelEvent::Malformed { why, .. }] if why.contains("at octet 120")), "{events:?}");
}

fn inbound() -> SaParameters {
    SaParameters {
        id: SaId { dst: address("2001:db8:f1::1"), protocol: Protocol::Esp, spi: Spi(0xabcd) },
        src: address("2001:db8:1::1"),
        mode: Mode::Tunnel,
        reqid: Reqid(6),
        selector: selector(),
        keys: SaKeys {
            suite: ChildSuite { cipher: Cipher::AES128, integrity: Some(Integrity::HmacSha1_96), esn: false },
            encryption: vec![7; 16].into(),
            integrity: vec![9; 20].into(),
        },
        replay_window: 64,
        lifetime: SaLifetime::default(),
        encapsulation: None,
    }
}

#[test]
fn an_sa_from_reservation_over_movement_to_removal() {
    let mut backend = backend();
    let endpoints = ends("2001:db8:1::1", "2001:db8:f1::1");
    let request = KernelRequest::AllocateSpi { endpoints, protocol: Protocol::Esp, mode: Mode::Tunnel, reqid: Reqid(6) };
    backend.submit(at(0), RequestId(1), request);
    let getspi = drain(&mut backend).sent.remove(0);
    let answer = message(1, 3, seq(&getspi), PID, &unhex("0200 0100 0000abcd 00 00 00 00 00000000"));
    assert_eq!(hear(&mut backend, &answer).done, [(1, Ok(KernelReply::Spi(Spi(0xabcd))))]);
    // The larval SA is found by the GETSPI's number, whatever ACQUIRE it answers.
    backend.submit(at(0), RequestId(2), KernelRequest::AddSa { parameters: Box::new(inbound()), allocated: true, sequence: 9 });
    let update = drain(&mut backend).sent.remove(0);
    let expected = unhex(
        "0200 0100 0000abcd 08 01 03 0c 00000000                  / window of 64 packets in octets
         0500 0500 00 80 0000 1c 1c 0000 00000000 20010db8000100000000000000000001 00000000 00000000
         0500 0600 00 80 0000 1c 1c 0000 00000000 20010db800f100000000000000000001 00000000 00000000
         0400 0800 a000 0000 0909090909090909090909090909090909090909 00000000
         0300 0900 8000 0000 07070707070707070707070707070707
         0200 1300 02 00 0000 00000000 06000000",
    );
    assert_eq!((kind(&update), seq(&update)), (2, seq(&getspi)));
    assert_eq!(update[16..], expected);
    assert_eq!(hear(&mut backend, &echo(&update)).done, [(2, Ok(KernelReply::Done))]);
    // The kernel moves it; its removal then names the addresses it has now.
    let mut moved = the_migrate();
    moved.direction = Direction::In;
    moved.selector = moved.selector.reversed_addresses();
    let step = &mut moved.steps[0];
    (step.reqid, step.old, step.new) = (Reqid(6), step.old.reversed(), step.new.reversed());
    hear(&mut backend, &migrate_request(Dialect::Kame, &moved, 0, 0).unwrap());
    let id = SaId { dst: address("2001:db8:f2::1"), ..inbound().id };
    backend.submit(at(0), RequestId(3), KernelRequest::DeleteSa(id));
    let delete = drain(&mut backend).sent.remove(0);
    let expected = unhex(
        "0200 0100 0000abcd 00 01 00 00 00000000
         0500 0500 00 80 0000 1c 1c 0000 00000000 20010db8000100000000000000000001 00000000 00000000
         0500 0600 00 80 0000 1c 1c 0000 00000000 20010db800f200000000000000000001 00000000 00000000",
    );
    assert_eq!((kind(&delete), &delete[16..]), (4, expected.as_slice()));
}

#[test]
fn an_sa_follows_the_policy_when_migrate_is_off() {
    let mut backend = backend();
    hear(&mut backend, &unhex(POLICY));
    let inbound = SaParameters { reqid: Reqid(5), ..inbound() };
    let id = SaId { dst: address("2001:db8:1::1"), spi: Spi(0xabce), ..inbound.id };
    let outbound = SaParameters { id, src: address("2001:db8:f1::1"), ..inbound.clone() };
    for (number, parameters) in [(1, inbound.clone()), (2, outbound)] {
        let request = KernelRequest::AddSa { parameters: Box::new(parameters), allocated: false, sequence: 0 };
        backend.submit(at(0), RequestId(number), request);
        let add = drain(&mut backend).sent.remove(0);
        hear(&mut backend, &echo(&add));
    }
    let mut update = unhex(&POLICY.replace("f100000000000000000001", "f200000000000000000001"));
    update[1] = 13;
    hear(&mut backend, &update);
    let mut source = |number, id| {
        backend.submit(at(0), RequestId(number), KernelRequest::DeleteSa(id));
        drain(&mut backend).sent[0][48..64].to_vec()
    };
    assert_eq!(source(3, id), unhex("20010db800f200000000000000000001"), "where the policy is now");
    assert_eq!(source(4, inbound.id), unhex("20010db8000100000000000000000001"), "the other direction has a policy of its own");
}

#[test]
fn a_soft_expire_is_all_that_comes() {
    let octets = message(
        8,
        3,
        0,
        0,
        &unhex(
            "0200 0100 0000abcd 08 02 03 0c 00000000
             0200 1300 02 00 0000 00000000 06000000
             0400 0200 05000000 6400000000000000 0000000000000000 0000000000000000
             0400 0400 00000000 0000000000000000 b80b000000000000 0000000000000000
             0500 0500 ff 80 0000 1c 1c 0000 00000000 20010db8000100000000000000000001 00000000 00000000
             0500 0600 ff 80 0000 1c 1c 0000 00000000 20010db800f100000000000000000001 00000000 00000000",
        ),
    );
    let events = hear(&mut backend(), &octets).events;
    let [KernelEvent::Expire(expire)] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((expire.id, expire.hard, expire.reqid), (inbound().id, false, Reqid(6)));
}

#[test]
fn the_probe_registers_and_tries_nothing() {
    let mut backend = backend();
    backend.probe(at(0), RequestId(1), "");
    let sent = drain(&mut backend).sent;
    let ah = hear(&mut backend, &message(7, 3, seq(&sent[1]), PID, &[])).sent;
    let drained = hear(&mut backend, &message(7, 2, seq(&ah[0]), PID, &[]));
    assert_eq!((drained.sent.len(), drained.done), (0, vec![(1, Ok(KernelReply::Done))]));
    let capability = backend.capabilities();
    assert_eq!(capability.inbound_mh_type, None);
    assert_eq!(capability.integrity.as_ref().unwrap().iter().collect::<Vec<_>>(), [&Integrity::HmacSha1_96]);
}
