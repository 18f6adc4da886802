//! What overran the socket once is not sent again all at once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

mod support;

use std::collections::VecDeque;

use support::*;
use watari_kernel::{Backend, Channel, KernelRequest, RequestId, SaId, Spi};
use watari_policies::Protocol;

fn query(number: u32) -> KernelRequest {
    KernelRequest::QuerySa(SaId { dst: "2001:db8::1".parse().unwrap(), protocol: Protocol::Esp, spi: Spi(0x1000 + number) })
}

/// GET alone: the dumps of a resynchronisation are not counted.
fn gets(sent: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    sent.into_iter().filter(|octets| kind(octets) == 5).collect()
}

#[test]
fn after_an_overrun_requests_go_out_a_few_at_a_time_and_each_is_answered_once() {
    let mut backend = backend();
    for number in 0..200 {
        backend.submit(at(0), RequestId(number.into()), query(number));
    }
    assert_eq!(gets(drain(&mut backend).sent).len(), 128, "the window before any loss");
    backend.overrun(at(0), Channel::Key);
    let mut under_way: VecDeque<Vec<u8>> = gets(drain(&mut backend).sent).into();
    assert_eq!(under_way.len(), 4, "all 128 at once would overrun the socket again");
    let (mut answered, mut widest) = (Vec::new(), under_way.len());
    while let Some(request) = under_way.pop_front() {
        let drained = hear(&mut backend, &refused(&request, 3));
        answered.extend(drained.done.iter().map(|(id, _)| *id));
        let more = gets(drained.sent);
        assert!(more.len() <= 2, "one answer makes room for two");
        under_way.extend(more);
        widest = widest.max(under_way.len());
    }
    assert_eq!(answered, (0..200).collect::<Vec<u64>>());
    assert!((64..=128).contains(&widest), "the window opens again with the answers: {widest}");
}

#[test]
fn a_second_overrun_in_the_middle_loses_nothing() {
    let mut backend = backend();
    for number in 0..20 {
        backend.submit(at(0), RequestId(number.into()), query(number));
    }
    drain(&mut backend);
    backend.overrun(at(0), Channel::Key);
    let first = gets(drain(&mut backend).sent);
    backend.overrun(at(0), Channel::Key);
    // What was sent twice already is waited for; the rest waits for room.
    assert!(gets(drain(&mut backend).sent).is_empty());
    let (mut under_way, mut answered): (VecDeque<Vec<u8>>, Vec<u64>) = (first.into(), Vec::new());
    while let Some(request) = under_way.pop_front() {
        let drained = hear(&mut backend, &refused(&request, 3));
        answered.extend(drained.done.iter().map(|(id, _)| *id));
        under_way.extend(gets(drained.sent));
    }
    answered.sort_unstable();
    assert_eq!(answered, (0..20).collect::<Vec<u64>>());
}
