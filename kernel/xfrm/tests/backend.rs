//! Sequence numbers, dumps, lost messages, fall-backs: against a kernel played by hand.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

mod support;

use std::time::Duration;

use support::{Drained, PORT, acknowledgement, at, blocks, drain, kind, netlink, seq, unhex};
use watari_kernel::{Backend, Channel, Endpoints, KernelEvent, KernelReply, KernelRequest, RequestId, SaId, Spi};
use watari_policies::{Mode, Protocol, Reqid};
use watari_xfrm::XfrmBackend;

const MULTI: u16 = 2;
const DUMP_INTR: u16 = 0x10;
const RECORDED: &str = include_str!("recorded.txt");
const IPROUTE2: &str = include_str!("iproute2.txt");

fn backend() -> XfrmBackend {
    XfrmBackend::new(PORT)
}

fn sa_id(last: u32) -> SaId {
    SaId { dst: "2001:db8:1::1".parse().unwrap(), protocol: Protocol::Esp, spi: Spi(0x1000 + last) }
}

/// A whole SA as the kernel would show it: iproute2's request for the same one.
fn sa_body() -> Vec<u8> {
    let blocks = blocks(IPROUTE2);
    unhex(blocks.iter().find(|[line, ..]| line.starts_with("state add src 2001")).unwrap()[2])
}

fn policy_message(name: &str) -> Vec<u8> {
    unhex(blocks(RECORDED).iter().find(|[known, ..]| *known == name).unwrap()[2])
}

fn answer(backend: &mut XfrmBackend, octets: &[u8]) -> Drained {
    backend.received(at(1), Channel::XfrmRequest, octets);
    drain(backend)
}

#[test]
fn answers_find_their_requests_in_any_order() {
    let mut backend = backend();
    for i in 0..3 {
        backend.submit(at(0), RequestId(i), KernelRequest::DeleteSa(sa_id(u32::try_from(i).unwrap())));
    }
    let sent = drain(&mut backend).sent;
    assert_eq!(sent.len(), 3);
    let late: Vec<u8> = [2, 0].iter().flat_map(|i| acknowledgement(&sent[*i], 0, "")).collect();
    let done = answer(&mut backend, &late).done;
    assert_eq!(done, [(2, Ok(KernelReply::Done)), (0, Ok(KernelReply::Done))]);
    // The same again, and one that nobody sent, answer nothing.
    assert!(answer(&mut backend, &late).done.is_empty());
    // Absent is no error for a removal.
    assert_eq!(answer(&mut backend, &acknowledgement(&sent[1], 3, "")).done, [(1, Ok(KernelReply::Done))]);
    assert_eq!(drain(&mut backend).wait, None);
}

#[test]
fn refusals_carry_the_kernels_words() {
    let mut backend = backend();
    let endpoints = Endpoints { src: "2001:db8:1::1".parse().unwrap(), dst: "2001:db8:1::abcd".parse().unwrap() };
    let request = KernelRequest::AllocateSpi { endpoints, protocol: Protocol::Esp, mode: Mode::Tunnel, reqid: Reqid(2) };
    backend.submit(at(0), RequestId(1), request.clone());
    let sent = drain(&mut backend).sent;
    let done = answer(&mut backend, &acknowledgement(&sent[0], 22, "Invalid family in selector")).done;
    let Err(error) = &done[0].1 else { panic!("{done:?}") };
    assert_eq!(error.errno, 22);
    assert_eq!(
        error.to_string(),
        "kernel refused to reserve an SPI: error 22 (EINVAL, the kernel finds the request senseless: Invalid family in selector)"
    );
    // An uncapped error quotes the whole request.
    backend.submit(at(0), RequestId(2), request);
    let sent = drain(&mut backend).sent;
    let mut body = (-1_i32).to_ne_bytes().to_vec();
    body.extend(&sent[0]);
    let done = answer(&mut backend, &netlink(2, 0, seq(&sent[0]), PORT, &body)).done;
    assert!(matches!(&done[0], (2, Err(error)) if error.errno == 1 && error.text.starts_with("EPERM")), "{done:?}");
}

#[test]
fn spi_and_query() {
    let mut backend = backend();
    let endpoints = Endpoints { src: "2001:db8:1::abcd".parse().unwrap(), dst: "2001:db8:1::1".parse().unwrap() };
    let request = KernelRequest::AllocateSpi { endpoints, protocol: Protocol::Esp, mode: Mode::Transport, reqid: Reqid(1) };
    backend.submit(at(0), RequestId(1), request);
    backend.submit(at(0), RequestId(2), KernelRequest::QuerySa(sa_id(0)));
    backend.submit(at(0), RequestId(3), KernelRequest::QuerySa(sa_id(1)));
    let sent = drain(&mut backend).sent;
    let larval = &sa_body()[..224];
    let done = answer(&mut backend, &netlink(0x10, 0, seq(&sent[0]), PORT, larval)).done;
    assert_eq!(done, [(1, Ok(KernelReply::Spi(Spi(0x1234_5678))))]);
    let done = answer(&mut backend, &netlink(0x10, 0, seq(&sent[1]), PORT, &sa_body())).done;
    let (2, Ok(KernelReply::Sa(Some(sa)))) = &done[0] else { panic!("{done:?}") };
    assert_eq!((sa.spi, sa.reqid, sa.mode, sa.larval), (Spi(0x1234_5678), Reqid(1), Some(Mode::Transport), false));
    assert_eq!(sa.selector.unwrap().to_string(), "2001:db8:1::abcd/128 -> 2001:db8:1::1/128 mobility-header type 5");
    assert_eq!(answer(&mut backend, &acknowledgement(&sent[2], 3, "")).done, [(3, Ok(KernelReply::Sa(None)))]);
}

#[test]
fn the_last_use_of_an_sa_is_told_where_the_kernel_tells_it() {
    let mut backend = backend();
    backend.submit(at(0), RequestId(1), KernelRequest::QuerySa(sa_id(0)));
    let sent = drain(&mut backend).sent;
    // XFRMA_LASTUSED (15): 12 octets, a 64-bit count of seconds.
    let last_used = [&12u16.to_ne_bytes()[..], &15u16.to_ne_bytes(), &1_700_000_042u64.to_ne_bytes()].concat();
    let done = answer(&mut backend, &netlink(0x10, 0, seq(&sent[0]), PORT, &[sa_body(), last_used].concat())).done;
    assert!(matches!(&done[..], [(1, Ok(KernelReply::Sa(Some(sa))))] if sa.used == 1_700_000_042), "{done:?}");
}

#[test]
fn a_larval_state_that_died_does_not_cost_the_sa() {
    let parameters = support_sa();
    let mut backend = backend();
    backend.submit(at(0), RequestId(1), KernelRequest::AddSa { parameters: Box::new(parameters), allocated: true, sequence: 0 });
    let sent = drain(&mut backend).sent;
    assert_eq!(kind(&sent[0]), 0x1a);
    let again = answer(&mut backend, &acknowledgement(&sent[0], 3, "")).sent;
    assert_eq!(kind(&again[0]), 0x10);
    assert_eq!(answer(&mut backend, &acknowledgement(&again[0], 0, "")).done, [(1, Ok(KernelReply::Done))]);
}

fn support_sa() -> watari_kernel::SaParameters {
    use watari_policies::algorithm::{ChildSuite, Cipher};
    watari_kernel::SaParameters {
        id: sa_id(0),
        src: "2001:db8:1::abcd".parse().unwrap(),
        mode: Mode::Transport,
        reqid: Reqid(1),
        selector: watari_policies::Selector::between("2001:db8:1::abcd/128".parse().unwrap(), "2001:db8:1::1/128".parse().unwrap()),
        keys: watari_kernel::SaKeys {
            suite: ChildSuite { cipher: Cipher::AES128GCM16, integrity: None, esn: false },
            encryption: vec![7; 20].into(),
            integrity: watari_policies::Secret::default(),
        },
        replay_window: 0,
        lifetime: watari_kernel::SaLifetime::default(),
        encapsulation: None,
    }
}

#[test]
fn lost_answers_are_asked_for_again() {
    let mut backend = backend();
    backend.submit(at(0), RequestId(1), KernelRequest::AddSa { parameters: Box::new(support_sa()), allocated: false, sequence: 0 });
    let first = drain(&mut backend).sent;
    backend.overrun(at(1), Channel::XfrmRequest);
    let second = drain(&mut backend).sent;
    assert_eq!((first.len(), second.len()), (1, 1));
    assert!(answer(&mut backend, &acknowledgement(&first[0], 0, "")).done.is_empty());
    // The first had been done: what is there already is ours.
    assert_eq!(answer(&mut backend, &acknowledgement(&second[0], 17, "")).done, [(1, Ok(KernelReply::Done))]);
}

#[test]
fn no_answer_is_an_answer_after_ten_seconds() {
    let mut backend = backend();
    backend.submit(at(5), RequestId(1), KernelRequest::DeleteSa(sa_id(0)));
    backend.submit(at(6), RequestId(2), KernelRequest::DumpSas);
    assert_eq!(drain(&mut backend).wait, Some(Duration::from_secs(15)));
    backend.timeout(at(16));
    let done = drain(&mut backend).done;
    assert!(matches!(done.as_slice(), [(1, Err(a)), (2, Err(b))] if a.errno == 110 && b.errno == 110), "{done:?}");
}

#[test]
fn many_requests_wait_for_room() {
    let mut backend = backend();
    for i in 0..1000 {
        backend.submit(at(0), RequestId(i), KernelRequest::DeleteSa(sa_id(u32::try_from(i).unwrap())));
    }
    let mut sent = drain(&mut backend).sent;
    let mut answered = Vec::new();
    while !sent.is_empty() {
        assert!(sent.len() <= 128);
        let acknowledgements: Vec<u8> = sent.iter().flat_map(|request| acknowledgement(request, 0, "")).collect();
        let drained = answer(&mut backend, &acknowledgements);
        answered.extend(drained.done.into_iter().map(|(id, _)| id));
        sent = drained.sent;
    }
    assert_eq!(answered, (0..1000).collect::<Vec<_>>());
}

fn rows(kind: u16, flags: u16, seq: u32, bodies: &[Vec<u8>]) -> Vec<u8> {
    bodies.iter().flat_map(|body| netlink(kind, MULTI | flags, seq, PORT, body)).collect()
}

fn done(seq: u32) -> Vec<u8> {
    netlink(3, MULTI, seq, PORT, &0_i32.to_ne_bytes())
}

#[test]
fn dumps_run_one_at_a_time_and_again_when_disturbed() {
    let mut backend = backend();
    backend.submit(at(0), RequestId(1), KernelRequest::DumpSas);
    backend.submit(at(0), RequestId(2), KernelRequest::DumpPolicies);
    let sent = drain(&mut backend).sent;
    assert_eq!((sent.len(), kind(&sent[0])), (1, 0x12));
    let first = seq(&sent[0]);
    assert!(answer(&mut backend, &rows(0x10, DUMP_INTR, first, &[sa_body()])).done.is_empty());
    let sent = answer(&mut backend, &done(first)).sent;
    assert_eq!((sent.len(), kind(&sent[0])), (1, 0x12));
    let second = seq(&sent[0]);
    answer(&mut backend, &rows(0x10, 0, second, &[sa_body(), sa_body()]));
    let drained = answer(&mut backend, &done(second));
    assert!(matches!(drained.done.as_slice(), [(1, Ok(KernelReply::Sas(sas)))] if sas.len() == 2), "{drained:?}");
    let third = seq(&drained.sent[0]);
    assert_eq!(kind(&drained.sent[0]), 0x15);
    // A policy for a socket is no policy of ours.
    let own = policy_message("ipsec-mn-nl-newpolicy-reqid1-dir1")[16..].to_vec();
    let mut socket = own.clone();
    socket[160] = 4;
    answer(&mut backend, &rows(0x13, 0, third, &[own, socket]));
    let drained = answer(&mut backend, &done(third));
    assert!(matches!(drained.done.as_slice(), [(2, Ok(KernelReply::Policies(policies)))] if policies.len() == 1), "{drained:?}");
}

#[test]
fn lost_events_become_one_picture_with_later_events_behind_it() {
    let mut backend = backend();
    backend.overrun(at(0), Channel::XfrmEvent);
    let sent = drain(&mut backend).sent;
    assert_eq!((sent.len(), kind(&sent[0])), (1, 0x15));
    backend.received(at(0), Channel::XfrmEvent, &policy_message("acquire-mn-nl-migrate-reqid1-dir1"));
    assert!(drain(&mut backend).events.is_empty());
    let policies = seq(&sent[0]);
    let own = policy_message("ipsec-mn-nl-newpolicy-reqid1-dir1")[16..].to_vec();
    answer(&mut backend, &rows(0x13, 0, policies, &[own]));
    let sent = answer(&mut backend, &done(policies)).sent;
    let sas = seq(&sent[0]);
    answer(&mut backend, &rows(0x10, 0, sas, &[sa_body()]));
    let events = answer(&mut backend, &done(sas)).events;
    let [KernelEvent::Resynchronised { policies, sas }, KernelEvent::Migrate(_)] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((policies.len(), sas.len()), (1, 1));
    assert_eq!(drain(&mut backend).wait, None);
}

#[test]
fn losing_more_while_reading_reads_again_and_a_refusal_is_tried_again() {
    let mut backend = backend();
    backend.overrun(at(0), Channel::XfrmEvent);
    let first = drain(&mut backend).sent;
    backend.overrun(at(0), Channel::XfrmEvent);
    assert!(drain(&mut backend).sent.is_empty());
    let sas = answer(&mut backend, &done(seq(&first[0]))).sent;
    let drained = answer(&mut backend, &done(seq(&sas[0])));
    assert!(drained.events.is_empty());
    assert_eq!(kind(&drained.sent[0]), 0x15);
    let refused = answer(&mut backend, &acknowledgement(&drained.sent[0], 12, ""));
    assert_eq!((refused.sent.len(), refused.wait), (0, Some(Duration::from_secs(2))));
    backend.timeout(at(2));
    assert_eq!(kind(&drain(&mut backend).sent[0]), 0x15);
}

#[test]
fn removals_and_flushes() {
    let removed = &sa_body()[56..80];
    let mut id = removed[..20].to_vec();
    id.extend(10_u16.to_ne_bytes());
    id.extend([50, 0]);
    let mut backend = backend();
    let mut hear = |octets: &[u8]| {
        backend.received(at(0), Channel::XfrmEvent, octets);
        drain(&mut backend)
    };
    let expected = SaId { dst: "2001:db8:1::1".parse().unwrap(), protocol: Protocol::Esp, spi: Spi(0x1234_5678) };
    assert_eq!(hear(&netlink(0x11, 0, 7, 99, &id)).events, [KernelEvent::SaRemoved(expected)]);
    assert!(hear(&netlink(0x11, 0, 7, PORT, &id)).events.is_empty());
    assert_eq!(hear(&netlink(0x1c, 0, 0, 99, &[255, 0, 0, 0])).events, [KernelEvent::Flushed { policies: false }]);
    assert_eq!(hear(&netlink(0x1d, 0, 0, 99, &[])).events, [KernelEvent::Flushed { policies: true }]);
    // Only Mobile IPv6's policies: look again, do not believe that all went.
    let drained = hear(&netlink(0x1d, 0, 0, 99, &[10, 0, 16, 0, 1, 0, 0, 0, 0, 0, 0, 0]));
    assert!(drained.events.is_empty() && kind(&drained.sent[0]) == 0x15);
}

#[test]
fn removed_policy_is_told_whole() {
    let added = policy_message("ipsec-mn-nl-newpolicy-reqid5-dir1");
    let mut body = added[16..72].to_vec();
    body.extend(153_u32.to_ne_bytes());
    body.extend([1, 0, 0, 0]);
    body.extend(172_u16.to_ne_bytes());
    body.extend(7_u16.to_ne_bytes());
    body.extend(&added[16..]);
    let events = support::events_of(&netlink(0x14, 0, 1, 5, &body));
    let [KernelEvent::PolicyRemoved(policy)] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((policy.priority, policy.templates.len(), policy.templates[0].reqid), (10, 1, Reqid(5)));
}

#[test]
fn probe_learns_from_the_impossible_migrate() {
    for (errno, release, sees) in [(61, "6.1.0-32", Some(true)), (2, "6.12.94", Some(false)), (61, "6.8.0", Some(false))] {
        let mut backend = backend();
        backend.probe(at(0), RequestId(9), release);
        let add = drain(&mut backend).sent;
        let migrate = answer(&mut backend, &acknowledgement(&add[0], 0, "")).sent;
        let remove = answer(&mut backend, &acknowledgement(&migrate[0], errno, "")).sent;
        assert_eq!([kind(&add[0]), kind(&migrate[0]), kind(&remove[0])], [0x19, 0x21, 0x14]);
        assert_eq!(answer(&mut backend, &acknowledgement(&remove[0], 0, "")).done, [(9, Ok(KernelReply::Done))]);
        assert_eq!(backend.capabilities().inbound_mh_type, sees);
        // The engine never hears of the scratch policy.
        let mut broadcast = add[0].clone();
        broadcast[4] = 0x13;
        backend.received(at(1), Channel::XfrmEvent, &broadcast);
        assert!(drain(&mut backend).events.is_empty());
    }
}

#[test]
fn keys_never_reach_a_log() {
    let mut body = sa_body();
    body[212] = 77;
    let octets = netlink(0x10, MULTI, 0, 0, &body);
    let mut backend = backend();
    backend.submit(at(0), RequestId(1), KernelRequest::DumpSas);
    let dump = seq(&drain(&mut backend).sent[0]);
    let octets = [&octets[..8], &dump.to_ne_bytes(), &octets[12..]].concat();
    let events = answer(&mut backend, &octets).events;
    let [KernelEvent::Malformed { octets, why, .. }] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((octets.len(), why.as_str()), (240, "address family 77"));
}

#[test]
fn damaged_answers_do_no_harm() {
    let request = netlink(0x12, 0x301, 1, PORT, &[]);
    let samples = [
        acknowledgement(&request, 22, "some words"),
        rows(0x10, 0, 1, &[sa_body()]),
        rows(0x13, 0, 1, &[policy_message("ipsec-mn-nl-newpolicy-reqid5-dir1")[16..].to_vec()]),
        done(1),
    ];
    for sample in samples {
        for position in 0..sample.len() {
            for value in [0, 1, 4, 0x7f, 0x80, 0xff] {
                for request in [KernelRequest::DumpSas, KernelRequest::QuerySa(sa_id(0))] {
                    let mut backend = backend();
                    backend.submit(at(0), RequestId(1), request);
                    drain(&mut backend);
                    let mut changed = sample.clone();
                    changed[position] = value;
                    assert!(answer(&mut backend, &changed).done.len() <= 1);
                    assert!(answer(&mut backend, &changed[..position]).done.len() <= 1);
                }
            }
        }
    }
}
