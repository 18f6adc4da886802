//! The back end against messages of a real kernel: answers, completion of ACQUIRE and MIGRATE, dumps, loss.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

mod support;

use std::time::Duration;

use support::*;
use watari_kernel::{
    Backend, Channel, Encapsulation, Endpoints, KernelEvent, KernelReply, KernelRequest, MigrateSource, PolicyAction, PolicyEntry,
    PolicyIndex, PolicyKind, RequestId, SaId, SaKeys, SaLifetime, SaParameters, Spi, Template,
};
use watari_policies::algorithm::{ChildSuite, Cipher, Encryption, Integrity};
use watari_policies::{Direction, Mode, Protocol, Reqid, Selector};

const POLICIES: &str = include_str!("policies.txt");
const RECORDED: &str = include_str!("recorded.txt");

fn recorded(name: &str) -> Vec<u8> {
    let find = |text: &'static str, skip: usize| {
        let mut lines = text.lines().skip_while(move |line| !line.starts_with(name));
        lines.nth(skip).map(unhex)
    };
    find(POLICIES, 1).or_else(|| find(RECORDED, 2)).unwrap()
}

/// The recorded ACQUIRE of 4152 octets, its combinations zeroed.
fn acquire() -> Vec<u8> {
    let mut octets = recorded("acquire-mn-pf-acquire");
    octets.resize(4152, 0);
    octets
}

fn sa_id(spi: u32) -> SaId {
    SaId { dst: "2001:db8:1::1".parse().unwrap(), protocol: Protocol::Esp, spi: Spi(spi) }
}

fn parameters(integrity: Integrity) -> SaParameters {
    SaParameters {
        id: sa_id(0x1234_5678),
        src: "2001:db8:1::abcd".parse().unwrap(),
        mode: Mode::Transport,
        reqid: Reqid(1),
        selector: Selector::between("2001:db8:1::abcd/128".parse().unwrap(), "2001:db8:1::1/128".parse().unwrap()),
        keys: SaKeys {
            suite: ChildSuite { cipher: Cipher::AES128, integrity: Some(integrity), esn: false },
            encryption: vec![7; 16].into(),
            integrity: vec![9; integrity.key_len()].into(),
        },
        replay_window: 64,
        lifetime: SaLifetime { soft_seconds: 3000, hard_seconds: 3600, hard_packets: 1 << 40, ..SaLifetime::default() },
        encapsulation: None,
    }
}

fn add(integrity: Integrity, allocated: bool, sequence: u32) -> KernelRequest {
    KernelRequest::AddSa { parameters: Box::new(parameters(integrity)), allocated, sequence }
}

fn submit(backend: &mut watari_pfkey::KeyBackend, id: u64, request: KernelRequest) -> Drained {
    backend.submit(at(0), RequestId(id), request);
    drain(backend)
}

#[test]
fn an_acquire_waits_for_its_policy_and_events_wait_behind_it() {
    let mut backend = backend();
    let drained = hear(&mut backend, &acquire());
    assert!(drained.events.is_empty());
    let get = &drained.sent[0];
    assert_eq!((kind(get), get[16..].to_vec()), (16, unhex("0200 1200 0200 00 00 49000000 00000000")));
    // An EXPIRE behind it must not overtake.
    assert!(hear(&mut backend, &recorded("acquire-mn-pf-expire")).events.is_empty());
    let policy = recorded("ipsec-mn-pf-x_spdadd-reqid1-dir2");
    let events = hear(&mut backend, &row(get, &policy, seq(get))).events;
    let [KernelEvent::Acquire(acquire), KernelEvent::Expire(expire)] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((acquire.sequence, acquire.index, acquire.direction), (2, PolicyIndex(73), Direction::Out));
    assert_eq!(acquire.policy.to_string(), "2001:db8:1::abcd/128 -> 2001:db8:1::1/128 mobility-header type 5");
    assert_eq!(acquire.packet, acquire.policy);
    assert_eq!((acquire.template.reqid, acquire.template.mode), (Reqid(1), Mode::Transport));
    assert!(acquire.template.endpoints.is_unspecified());
    assert_eq!(acquire.endpoints.to_string(), "2001:db8:1::abcd -> 2001:db8:1::1");
    assert_eq!((expire.id.spi, expire.reqid, expire.hard), (Spi(0), Reqid(1), true));
}

#[test]
fn a_message_of_more_than_8_kib_is_read_whole_and_keeps_its_place() {
    let mut large = acquire();
    // The proposals of an ACQUIRE grow with the algorithms that the kernel has: 130 combinations of 72 octets instead of 56.
    let proposals = 8 + 130 * 72;
    large[112..114].copy_from_slice(&u16::try_from(proposals / 8).unwrap().to_ne_bytes());
    large.resize(112 + proposals, 0);
    let units = u16::try_from(large.len() / 8).unwrap();
    large[4..6].copy_from_slice(&units.to_ne_bytes());
    assert!(large.len() > 8 * 1024, "{}", large.len());
    let mut backend = backend();
    let get = hear(&mut backend, &large).sent.remove(0);
    assert!(hear(&mut backend, &recorded("acquire-mn-pf-expire")).events.is_empty(), "in order");
    let events = hear(&mut backend, &row(&get, &recorded("ipsec-mn-pf-x_spdadd-reqid1-dir2"), seq(&get))).events;
    let [KernelEvent::Acquire(acquire), KernelEvent::Expire(_)] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((acquire.sequence, acquire.index), (2, PolicyIndex(73)));
    // Cut at 8 KiB, it is no message.
    let events = hear(&mut backend, &large[..8 * 1024]).events;
    assert!(matches!(events.as_slice(), [KernelEvent::Malformed { .. }]), "{events:?}");
}

#[test]
fn a_known_policy_answers_at_once_and_a_lost_one_never() {
    let mut backend = backend();
    let events = hear(&mut backend, &recorded("ipsec-mn-pf-x_spdadd-reqid1-dir2")).events;
    assert!(matches!(events.as_slice(), [KernelEvent::PolicyChanged(policy)] if policy.index == PolicyIndex(73) && policy.priority == 2));
    assert!(matches!(hear(&mut backend, &self::acquire()).events.as_slice(), [KernelEvent::Acquire(_)]));
    let mut unknown = self::acquire();
    unknown[104] = 74;
    let get = hear(&mut backend, &unknown).sent.remove(0);
    assert!(hear(&mut backend, &recorded("acquire-mn-pf-expire")).events.is_empty());
    let events = hear(&mut backend, &refused(&get, 2)).events;
    assert!(matches!(events.as_slice(), [KernelEvent::Expire(_)]), "{events:?}");
}

#[test]
fn a_migrate_gets_its_type_from_the_policy_and_moves_the_table() {
    let mut backend = backend();
    for name in ["ipsec-mn-pf-x_spdadd-reqid1-dir2", "ipsec-mn-pf-x_spdadd-reqid5-dir2"] {
        hear(&mut backend, &recorded(name));
    }
    let mut moved = |name: &str| match hear(&mut backend, &recorded(name)).events.remove(0) {
        KernelEvent::Migrate(migrate) => migrate,
        other => panic!("{other:?}"),
    };
    let transport = moved("ipsec-mn-pf-x_migrate-reqid1-dir2");
    assert_eq!(transport.selector.to_string(), "2001:db8:1::abcd/128 -> 2001:db8:1::1/128 mobility-header type 5");
    assert_eq!(transport.source, MigrateSource::PfKey);
    let tunnel = moved("ipsec-mn-pf-x_migrate-reqid5-dir2");
    assert_eq!(tunnel.selector.to_string(), "2001:db8:1::abcd/128 -> ::/0 mobility-header type 1");
    // The policy's end points followed: an ACQUIRE now finds its template by the new ones.
    let index = recorded("ipsec-mn-pf-x_spdadd-reqid5-dir2")[200..204].to_vec();
    let mut acquire = self::acquire();
    acquire[104..108].copy_from_slice(&index);
    let events = hear(&mut backend, &acquire).events;
    let [KernelEvent::Acquire(acquire)] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(acquire.template.endpoints, tunnel.steps[0].new);
    // Without a policy the type stays unknown.
    let other = moved_alone("ipsec-mn-pf-x_migrate-reqid5-dir2");
    assert_eq!(other.selector.to_string(), "2001:db8:1::abcd/128 -> ::/0 mobility-header");
}

fn moved_alone(name: &str) -> watari_kernel::Migrate {
    match hear(&mut backend(), &recorded(name)).events.remove(0) {
        KernelEvent::Migrate(migrate) => migrate,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_sa_is_laid_out_as_rfc_2367_says() {
    let mut backend = backend();
    let mut request = parameters(Integrity::HmacSha1_96);
    request.encapsulation = Some(Encapsulation { source_port: 4500, destination_port: 0x1234 });
    let sent = submit(&mut backend, 1, KernelRequest::AddSa { parameters: Box::new(request), allocated: false, sequence: 2 }).sent;
    let expected = unhex(
        "02 03 00 03 2700 0000 02000000 51510000        // ADD, ESP, 39 units, the ACQUIRE's number
         0200 0100 12345678 20 01 03 0c 00000000        // SA: SPI, window cut to 32, mature, SHA1HMAC, AES
         0400 0300 ffffffff 0000000000000000 100e000000000000 0000000000000000
         0400 0400 00000000 0000000000000000 b80b000000000000 0000000000000000
         0500 0500 00 80 0000 0a00 0000 00000000 20010db800010000000000000000abcd 00000000 00000000
         0500 0600 00 80 0000 0a00 0000 00000000 20010db8000100000000000000000001 00000000 00000000
         0500 0700 ff 80 0000 0a00 0000 00000000 20010db800010000000000000000abcd 00000000 00000000
         0400 0800 a000 0000 0909090909090909090909090909090909090909 00000000
         0300 0900 8000 0000 07070707070707070707070707070707
         0200 1300 01 00 0000 00000000 01000000         // SA2: transport, reqid 1
         0100 1400 02 000000 0100 1500 1194 0000 0100 1600 1234 0000",
    );
    assert_eq!(sent[0], expected);
    assert_eq!(hear(&mut backend, &echo(&sent[0])).done, [(1, Ok(KernelReply::Done))]);
}

#[test]
fn an_spi_is_reserved_and_used() {
    let mut backend = backend();
    let endpoints = Endpoints { src: "2001:db8::1".parse().unwrap(), dst: "2001:db8::2".parse().unwrap() };
    let request = KernelRequest::AllocateSpi { endpoints, protocol: Protocol::Esp, mode: Mode::Tunnel, reqid: Reqid(7) };
    let sent = submit(&mut backend, 1, request).sent;
    let tail = unhex("0200 1000 00010000 ffffffff 00000000 0200 1300 02 00 0000 00000000 07000000");
    assert_eq!((kind(&sent[0]), &sent[0][96..]), (1, tail.as_slice()));
    let answer = message(1, 3, seq(&sent[0]), PID, &unhex("0200 0100 0000abcd 00 00 00 00 00000000"));
    assert_eq!(hear(&mut backend, &answer).done, [(1, Ok(KernelReply::Spi(Spi(0xabcd))))]);
    // The larval state died: the SA is added instead.
    let sent = submit(&mut backend, 2, add(Integrity::HmacSha1_96, true, 0)).sent;
    assert_eq!(kind(&sent[0]), 2);
    let again = hear(&mut backend, &refused(&sent[0], 3)).sent;
    assert_eq!(kind(&again[0]), 3);
    assert_eq!(hear(&mut backend, &echo(&again[0])).done, [(2, Ok(KernelReply::Done))]);
}

#[test]
fn what_cannot_be_installed_exactly_is_refused_here() {
    let mut backend = backend();
    let why = |drained: Drained| match &drained.done[0].1 {
        Err(error) if drained.sent.is_empty() => error.text.clone(),
        other => panic!("{other:?}"),
    };
    let sha256 = add(Integrity::HmacSha256_128, false, 0);
    assert!(why(submit(&mut backend, 1, sha256)).contains("another ICV length"));
    let mut gcm = parameters(Integrity::HmacSha1_96);
    gcm.keys.suite = ChildSuite { cipher: Cipher::AES128GCM16, integrity: None, esn: false };
    gcm.keys.encryption = vec![1; 20].into();
    assert!(
        why(submit(&mut backend, 2, KernelRequest::AddSa { parameters: Box::new(gcm), allocated: false, sequence: 0 })).contains("gcm")
    );
    let mut esn = parameters(Integrity::HmacSha1_96);
    esn.keys.suite.esn = true;
    assert!(
        why(submit(&mut backend, 3, KernelRequest::AddSa { parameters: Box::new(esn), allocated: false, sequence: 0 }))
            .contains("extended")
    );
    let mut policy = policy();
    policy.templates[0].reqid = Reqid(0x4000);
    assert!(why(submit(&mut backend, 4, KernelRequest::SetPolicy(policy))).contains("16383"));
    let mut sub = self::policy();
    sub.kind = PolicyKind::Sub;
    assert!(why(submit(&mut backend, 5, KernelRequest::SetPolicy(sub))).contains("main policies"));
    let mut typed = self::policy();
    typed.selector = typed.selector.message_type(0);
    assert!(why(submit(&mut backend, 6, KernelRequest::SetPolicy(typed))).contains("cannot say"));
}

fn policy() -> PolicyEntry {
    let ends = Endpoints { src: "2001:db8:1::abcd".parse().unwrap(), dst: "2001:db8:1::1".parse().unwrap() };
    PolicyEntry {
        selector: Selector::between("2001:db8:1::abcd/128".parse().unwrap(), "::/0".parse().unwrap()).protocol(135).message_type(1),
        direction: Direction::Out,
        kind: PolicyKind::Main,
        index: PolicyIndex(0),
        priority: 10,
        action: PolicyAction::Allow,
        templates: vec![Template::esp(Mode::Tunnel, Reqid(5), ends)],
    }
}

#[test]
fn a_policy_written_is_the_policy_read() {
    let mut backend = backend();
    let sent = submit(&mut backend, 1, KernelRequest::SetPolicy(policy())).sent;
    // What mip6d's policy of the same meaning looks like in the kernel's own words, but for the lifetimes and the number.
    let theirs = recorded("ipsec-mn-pf-x_spdadd-reqid5-dir2");
    assert_eq!(kind(&sent[0]), 13);
    assert_eq!(sent[0][16..96], theirs[16..96]);
    assert_eq!(sent[0][96..104], theirs[192..200]);
    assert_eq!(sent[0][108..], theirs[204..]);
    let drained = hear(&mut backend, &echo(&sent[0]));
    assert_eq!(drained.done, [(1, Ok(KernelReply::Done))]);
    assert_eq!(drained.events, [KernelEvent::PolicyChanged(policy())]);
    let selector = policy().selector;
    let sent = submit(&mut backend, 2, KernelRequest::DeletePolicy { selector, direction: Direction::Out, kind: PolicyKind::Main }).sent;
    assert_eq!((kind(&sent[0]), &sent[0][96..]), (15, unhex("0200 1200 0200 02 00 00000000 00000000").as_slice()));
    assert_eq!(hear(&mut backend, &refused(&sent[0], 2)).done, [(2, Ok(KernelReply::Done))]);
}

#[test]
fn removals_and_questions() {
    let mut backend = backend();
    let sent = submit(&mut backend, 1, KernelRequest::QuerySa(sa_id(1))).sent;
    assert_eq!((kind(&sent[0]), sent[0][88..104].to_vec()), (5, unhex("20010db8000100000000000000000001")));
    assert_eq!(hear(&mut backend, &refused(&sent[0], 3)).done, [(1, Ok(KernelReply::Sa(None)))]);
    let sent = submit(&mut backend, 2, KernelRequest::QuerySa(sa_id(0))).sent;
    let done = hear(&mut backend, &row(&sent[0], &recorded("acquire-mn-pf-expire"), seq(&sent[0]))).done;
    let [(2, Ok(KernelReply::Sa(Some(sa))))] = done.as_slice() else { panic!("{done:?}") };
    assert_eq!((sa.reqid, sa.mode, sa.protocol, sa.selector), (Reqid(1), Some(Mode::Transport), 50, None));
    let sent = submit(&mut backend, 3, KernelRequest::DeleteSa(sa_id(5))).sent;
    // Our own removal is no news, another's is.
    let drained = hear(&mut backend, &echo(&sent[0]));
    assert_eq!((drained.done, drained.events.len()), (vec![(3, Ok(KernelReply::Done))], 0));
    let mut other = echo(&sent[0]);
    other[12] = 0x77;
    assert_eq!(hear(&mut backend, &other).events, [KernelEvent::SaRemoved(sa_id(5))]);
    let removed = hear(&mut backend, &recorded("ipsec-mn-pf-x_spddelete-reqid5-dir2")).events;
    assert!(matches!(removed.as_slice(), [KernelEvent::PolicyRemoved(policy)] if policy.templates[0].reqid == Reqid(5)), "{removed:?}");
    assert_eq!(hear(&mut backend, &message(19, 0, 0, 77, &[])).events, [KernelEvent::Flushed { policies: true }]);
}

#[test]
fn an_sa_gets_the_selector_of_the_policy_it_serves() {
    let ask = |policies: &[&str]| {
        let mut backend = backend();
        for name in policies {
            hear(&mut backend, &recorded(name));
        }
        let sent = submit(&mut backend, 1, KernelRequest::QuerySa(sa_id(0))).sent;
        let done = hear(&mut backend, &row(&sent[0], &recorded("acquire-mn-pf-expire"), seq(&sent[0]))).done;
        let [(1, Ok(KernelReply::Sa(Some(sa))))] = done.as_slice() else { panic!("{done:?}") };
        sa.selector
    };
    let typed = "2001:db8:1::abcd/128 -> 2001:db8:1::1/128 mobility-header type 5";
    let all = ["ipsec-mn-pf-x_spdadd-reqid1-dir2", "ipsec-mn-pf-x_spdadd-reqid2-dir1", "ipsec-mn-pf-x_spdadd-reqid5-dir2"];
    assert_eq!(ask(&all).unwrap().to_string(), typed);
    assert_eq!(ask(&all[1..]), None);
}

#[test]
fn a_flush_is_believed_when_the_table_is_empty() {
    for left in [0, 1] {
        let mut backend = backend();
        let drained = hear(&mut backend, &message(9, 0, 0, 77, &[]));
        assert!(drained.events.is_empty());
        let sas = hear(&mut backend, &refused(&drained.sent[0], 2)).sent;
        assert_eq!(kind(&sas[0]), 10);
        let events = match left {
            0 => hear(&mut backend, &refused(&sas[0], 2)).events,
            _ => hear(&mut backend, &row(&sas[0], &recorded("acquire-mn-pf-expire"), 0)).events,
        };
        match events.as_slice() {
            [KernelEvent::Flushed { policies: false }] if left == 0 => {}
            [KernelEvent::Resynchronised { sas, .. }] if sas.len() == left => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn dumps_run_one_at_a_time_and_count_down() {
    let mut backend = backend();
    backend.submit(at(0), RequestId(1), KernelRequest::DumpPolicies);
    backend.submit(at(0), RequestId(2), KernelRequest::DumpSas);
    let sent = drain(&mut backend).sent;
    assert_eq!((sent.len(), kind(&sent[0])), (1, 18));
    let one = recorded("ipsec-mn-pf-x_spdadd-reqid1-dir2");
    let mut socket = recorded("ipsec-mn-pf-x_spdadd-reqid0-dir2");
    socket[192 + 6] = 5;
    assert!(hear(&mut backend, &row(&sent[0], &one, 1)).done.is_empty());
    assert!(hear(&mut backend, &row(&sent[0], &socket, 2)).done.is_empty());
    // A row of an earlier dump, given up long ago, is none of this one.
    let mut stranger = row(&sent[0], &one, 0);
    stranger[12] ^= 1;
    assert!(hear(&mut backend, &stranger).done.is_empty());
    let drained = hear(&mut backend, &row(&sent[0], &recorded("ipsec-mn-pf-x_spdadd-reqid2-dir1"), 0));
    let [(1, Ok(KernelReply::Policies(policies)))] = drained.done.as_slice() else { panic!("{drained:?}") };
    assert_eq!(policies.iter().map(|policy| policy.templates[0].reqid.0).collect::<Vec<_>>(), [1, 2]);
    let drained = hear(&mut backend, &refused(&drained.sent[0], 2));
    assert_eq!(drained.done, [(2, Ok(KernelReply::Sas(Vec::new())))]);
    assert_eq!(drained.wait, None);
}

#[test]
fn a_kernel_busy_with_a_dump_is_asked_again_also_when_nothing_is_heard() {
    let mut backend = backend();
    backend.submit(at(0), RequestId(1), KernelRequest::DumpSas);
    let mut asked = drain(&mut backend).sent;
    for tries in 0..50 {
        let pause = hear(&mut backend, &refused(&asked[0], 16));
        assert!(pause.sent.is_empty() && pause.done.is_empty(), "{pause:?}");
        assert_eq!(pause.wait, Some(at(1).boot + Duration::from_millis(100)), "after {tries}");
        backend.timeout(at(2));
        asked = drain(&mut backend).sent;
        assert_eq!((asked.len(), kind(&asked[0])), (1, 10));
    }
    let done = hear(&mut backend, &refused(&asked[0], 16)).done;
    assert!(matches!(done.as_slice(), [(1, Err(error))] if error.errno == 16), "{done:?}");
}

#[test]
fn silence_is_a_loss_asked_again_and_looked_after() {
    let mut backend = backend();
    let first = submit(&mut backend, 1, add(Integrity::HmacSha1_96, false, 0));
    assert_eq!(first.wait, Some(Duration::from_secs(2)));
    backend.timeout(at(2));
    let second = drain(&mut backend).sent;
    assert_eq!(second.iter().map(|octets| kind(octets)).collect::<Vec<_>>(), [3, 18]);
    // The first had been done: what is there already is ours.
    assert_eq!(hear(&mut backend, &refused(&second[0], 17)).done, [(1, Ok(KernelReply::Done))]);
    hear(&mut backend, &recorded("acquire-mn-pf-x_migrate-reqid5-dir2"));
    let sas = hear(&mut backend, &row(&second[1], &recorded("ipsec-mn-pf-x_spdadd-reqid1-dir2"), 0)).sent;
    let events = hear(&mut backend, &refused(&sas[0], 2)).events;
    let [KernelEvent::Resynchronised { policies, sas }, KernelEvent::Migrate(_)] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((policies.len(), sas.len()), (1, 0));
}

#[test]
fn no_answer_at_all_is_an_answer_after_ten_seconds() {
    let mut backend = backend();
    submit(&mut backend, 1, KernelRequest::DeleteSa(sa_id(0)));
    backend.timeout(at(2));
    drain(&mut backend);
    backend.timeout(at(10));
    let done = drain(&mut backend).done;
    assert!(matches!(done.as_slice(), [(1, Err(error))] if error.errno == 110), "{done:?}");
}

#[test]
fn an_overrun_reads_everything_again() {
    let mut backend = backend();
    backend.overrun(at(0), Channel::Key);
    let sent = drain(&mut backend).sent;
    assert_eq!(kind(&sent[0]), 18);
    backend.overrun(at(0), Channel::Key);
    let sas = hear(&mut backend, &refused(&sent[0], 2)).sent;
    // Lost again meanwhile: nothing is told, everything is read once more.
    let drained = hear(&mut backend, &refused(&sas[0], 2));
    assert!(drained.events.is_empty() && kind(&drained.sent[0]) == 18);
}

#[test]
fn what_waited_before_a_loss_is_not_told_after_it_but_an_acquire_is() {
    let mut backend = backend();
    let get = hear(&mut backend, &acquire()).sent.remove(0);
    hear(&mut backend, &recorded("acquire-mn-pf-expire"));
    backend.overrun(at(1), Channel::Key);
    let sent = drain(&mut backend).sent;
    assert_eq!(sent.iter().map(|octets| kind(octets)).collect::<Vec<_>>(), [16, 18], "asked again, and both tables");
    let policy = recorded("ipsec-mn-pf-x_spdadd-reqid1-dir2");
    assert!(hear(&mut backend, &row(&get, &policy, seq(&sent[0]))).events.is_empty());
    let sas = hear(&mut backend, &row(&sent[1], &policy, 0)).sent;
    let events = hear(&mut backend, &refused(&sas[0], 2)).events;
    assert!(matches!(events.as_slice(), [KernelEvent::Resynchronised { .. }, KernelEvent::Acquire(_)]), "{events:?}");
}

#[test]
fn the_probe_registers_and_learns() {
    for (errno, release, sees) in [(61, "6.1.0-32", Some(true)), (2, "6.12.94", Some(false)), (61, "6.8.0", Some(false))] {
        let mut backend = backend();
        backend.probe(at(0), RequestId(9), release);
        let sent = drain(&mut backend).sent;
        assert_eq!(sent.iter().map(|octets| (kind(octets), octets[3])).collect::<Vec<_>>(), [(18, 0), (7, 3)]);
        // SUPPORTED_AUTH with SHA1 (3) and SHA2-512 (7), SUPPORTED_ENCRYPT with AES (12) and 3DES (3).
        let supported = unhex(
            "0300 0e00 00000000 03 00 a000 a000 0000 07 00 0002 0002 0000
             0300 0f00 00000000 0c 08 8000 0001 0000 03 08 c000 c000 0000",
        );
        let ah = hear(&mut backend, &message(7, 3, seq(&sent[1]), PID, &supported)).sent;
        assert_eq!((kind(&ah[0]), ah[0][3]), (7, 2));
        let add = hear(&mut backend, &refused(&ah[0], 17)).sent;
        let migrate = hear(&mut backend, &echo(&add[0]));
        // The engine never hears of the scratch policy.
        assert!(migrate.events.is_empty());
        let remove = hear(&mut backend, &refused(&migrate.sent[0], errno)).sent;
        assert_eq!([kind(&add[0]), kind(&migrate.sent[0]), kind(&remove[0])], [13, 24, 15]);
        let drained = hear(&mut backend, &echo(&remove[0]));
        assert_eq!(drained.done, [(9, Ok(KernelReply::Done))]);
        let capability = backend.capabilities();
        assert_eq!((capability.inbound_mh_type, capability.esn, capability.aead), (sees, false, false));
        assert_eq!(capability.encryption.as_ref().unwrap().iter().collect::<Vec<_>>(), [&Encryption::AesCbc]);
        assert_eq!(
            capability.integrity.as_ref().unwrap().iter().collect::<Vec<_>>(),
            [&Integrity::HmacSha1_96, &Integrity::HmacSha512_256]
        );
    }
}

#[test]
fn keys_never_reach_a_log_and_offsets_do() {
    let mut backend = backend();
    let sent = submit(&mut backend, 1, add(Integrity::HmacSha1_96, false, 0)).sent;
    let mut damaged = echo(&sent[0]);
    // The family of the source address.
    damaged[16 + 16 + 64 + 8] = 77;
    damaged[12] = 9;
    let events = hear(&mut backend, &damaged).events;
    let [KernelEvent::Malformed { octets, why, .. }] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(why, "address family 77 at octet 104");
    assert_eq!(octets.len(), damaged.len());
    assert!(!octets.windows(4).any(|window| window == [7; 4] || window == [9; 4]));
}

#[test]
fn damaged_messages_do_no_harm() {
    let mut samples = vec![acquire()[..160].to_vec(), recorded("acquire-mn-pf-expire"), recorded("ipsec-mn-pf-x_spdadd-reqid5-dir2")];
    samples[0][4..6].copy_from_slice(&20_u16.to_ne_bytes());
    samples.push(submit(&mut backend(), 1, add(Integrity::HmacSha1_96, false, 0)).sent.remove(0));
    for sample in samples {
        for position in 0..sample.len() {
            for value in [0, 1, 4, 0x7f, 0x80, 0xff] {
                let mut backend = backend();
                let first = submit(&mut backend, 1, add(Integrity::HmacSha1_96, false, 0)).sent.remove(0);
                backend.submit(at(0), RequestId(2), KernelRequest::DumpPolicies);
                let mut changed = sample.clone();
                changed[8..16].copy_from_slice(&first[8..16]);
                changed[position] = value;
                hear(&mut backend, &changed);
                hear(&mut backend, &changed[..position]);
                backend.timeout(at(2));
                backend.timeout(at(20));
                backend.timeout(at(30));
                drain(&mut backend);
            }
        }
    }
}
