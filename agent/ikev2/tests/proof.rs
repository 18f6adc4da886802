//! Where is the peer? Asked at two places with the same octets.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod pair;

use pair::*;
use watari_kernel::KmAddress;
use watari_policies::MobilityRole;
use watari_sa::{Keying, KeyingEvent};

fn up() -> Pair {
    let mut pair = Pair::new();
    pair.a.config.remotes[0].role = MobilityRole::MobileNode { home_address: ip(HOA) };
    pair.b.config.remotes[0].role = MobilityRole::HomeAgent { home_address: ip(HOA) };
    pair.want(Side::A, 0);
    pair.run();
    pair
}

fn prove(pair: &mut Pair, remote: &str) {
    let now = pair.now;
    let ike = pair.b.established()[0];
    pair.b.with(now, |endpoint, context| endpoint.prove(context, ike, KmAddress { local: ip(B), remote: ip(remote) }));
}

/// Nothing goes to or from these addresses of A.
fn cut(pair: &mut Pair, addresses: &'static [&'static str]) {
    let cut = |address| addresses.iter().any(|text| ip(text) == address);
    pair.filter = Some(Box::new(move |_, datagram| !cut(datagram.path.local.ip()) && !cut(datagram.path.remote.ip())));
}

fn verdicts(pair: &Pair) -> Vec<(bool, std::net::IpAddr)> {
    let verdict = |event: &KeyingEvent| match event {
        KeyingEvent::PathProved { path, .. } => Some((true, path.remote.ip())),
        KeyingEvent::PathRefuted { path, .. } => Some((false, path.remote.ip())),
        _ => None,
    };
    pair.b.events.iter().filter_map(verdict).collect()
}

fn path_of_b(pair: &Pair) -> std::net::IpAddr {
    pair.b.ike.statuses()[0].path.remote.ip()
}

#[test]
fn a_peer_that_answers_where_it_was_has_not_moved() {
    let mut pair = up();
    cut(&mut pair, &[A3]);
    let before = pair.b.sent.len();
    prove(&mut pair, A3);
    pair.settle();
    let [here, there] = &pair.b.sent[before..] else { panic!("{}", pair.story()) };
    assert_eq!((here.path.remote.ip(), there.path.remote.ip()), (ip(A), ip(A3)));
    assert_eq!(here.octets, there.octets);
    pair.run();
    assert_eq!(verdicts(&pair), [(false, ip(A))]);
    assert_eq!(path_of_b(&pair), ip(A));
    pair.probe(Side::B);
    pair.run();
    assert_eq!(verdicts(&pair).len(), 1, "one question, one answer");
    assert_eq!(pair.b.sent.last().unwrap().path.remote.ip(), ip(A));
    pair.assert_healthy(1, 1);
}

#[test]
fn a_peer_that_answers_from_there_is_there_and_the_path_is_left_to_whoever_asked() {
    let mut pair = up();
    cut(&mut pair, &[A]);
    pair.retarget(Side::A, A2, B);
    pair.run();
    prove(&mut pair, A2);
    pair.run();
    assert_eq!(verdicts(&pair), [(true, ip(A2))]);
    assert_eq!(path_of_b(&pair), ip(A));
    pair.retarget(Side::B, B, A2);
    pair.run();
    pair.assert_healthy(1, 1);
}

#[test]
fn silence_decides_nothing_and_repeats_go_to_both_places() {
    let mut pair = up();
    cut(&mut pair, &[A, A2]);
    prove(&mut pair, A2);
    pair.pass_secs(3);
    let to = |pair: &Pair, address| pair.b.sent.iter().filter(|sent| sent.path.remote.ip() == ip(address)).count();
    assert!(to(&pair, A2) >= 3, "{}", pair.story());
    assert_eq!(verdicts(&pair), []);
    pair.filter = None;
    cut(&mut pair, &[A2]);
    pair.pass_secs(30);
    assert_eq!(verdicts(&pair), [(false, ip(A))]);
    pair.assert_healthy(1, 1);
}

#[test]
fn an_answer_to_an_older_request_may_have_left_before_the_peer_did() {
    let mut pair = up();
    pair.probe(Side::B);
    pair.settle();
    let request = pair.wire.pop_front().unwrap();
    pair.deliver(request);
    let late = pair.wire.pop_front().unwrap();
    pair.retarget(Side::A, A2, B);
    cut(&mut pair, &[A]);
    prove(&mut pair, A2);
    pair.settle();
    pair.filter = None;
    // What is under way to A2 is slower than the old answer.
    let under_way = std::mem::take(&mut pair.wire);
    pair.deliver(late);
    assert_eq!(verdicts(&pair), [], "{}", pair.story());
    cut(&mut pair, &[A]);
    pair.wire.extend(under_way);
    pair.run();
    assert_eq!(verdicts(&pair), [(true, ip(A2))], "{}", pair.story());
}

/// Delivers everything; what A sends from `A` reaches B as if it came from `forged`, where nobody else is.
fn relay(pair: &mut Pair, forged: &str) {
    for _ in 0..40 {
        pair.settle();
        let Some(mut flying) = pair.wire.pop_front() else { return };
        if flying.datagram.path.local.ip() == ip(forged) {
            continue;
        }
        if flying.to == Side::B && flying.datagram.path.remote.ip() == ip(A) {
            flying.datagram.path.remote.set_ip(ip(forged));
        }
        pair.deliver(flying);
    }
    panic!("the question is asked for ever{}", pair.story());
}

#[test]
fn an_answer_that_was_relayed_says_where_the_peer_is() {
    let mut pair = up();
    prove(&mut pair, A3);
    relay(&mut pair, A3);
    assert_eq!(verdicts(&pair), [(false, ip(A))], "{}", pair.story());
    assert_eq!(path_of_b(&pair), ip(A));
    // So it is with a question that was under way when the doubt arose.
    pair.probe(Side::B);
    prove(&mut pair, A3);
    relay(&mut pair, A3);
    assert_eq!(verdicts(&pair), [(false, ip(A)); 2], "{}", pair.story());
    pair.assert_healthy(1, 1);
}

#[test]
fn an_answer_first_given_at_the_old_place_and_repeated_from_the_new_one_has_the_peer_asked_again() {
    let mut pair = up();
    prove(&mut pair, A2);
    // The question reaches the peer where it was, the answer is lost, and it moves.
    pair.settle();
    let here = pair.wire.pop_front().unwrap();
    pair.wire.clear();
    assert_eq!(here.datagram.path.local.ip(), ip(A));
    pair.deliver(here);
    pair.wire.clear();
    pair.retarget(Side::A, A2, B);
    cut(&mut pair, &[A]);
    pair.pass_secs(10);
    assert_eq!(verdicts(&pair), [(true, ip(A2))], "{}", pair.story());
}

#[test]
fn a_peer_that_cannot_say_where_it_is_asked_is_believed_by_where_it_answers_from() {
    let mut pair = up();
    // A holds B for a peer that Mobile IPv6 does not govern and so says nothing, as other implementations do.
    pair.a.config.remotes[0].role = MobilityRole::None;
    cut(&mut pair, &[A]);
    pair.retarget(Side::A, A2, B);
    pair.run();
    prove(&mut pair, A2);
    pair.run();
    assert_eq!(verdicts(&pair), [(true, ip(A2))]);
}

#[test]
fn a_doubted_peer_that_cannot_be_reached_keeps_its_ike_sa_and_its_children() {
    let mut pair = up();
    cut(&mut pair, &[A, A3]);
    prove(&mut pair, A3);
    pair.pass_secs(600);
    let undecided = |pair: &Pair| pair.b.count(|event| matches!(event, KeyingEvent::PathUndecided { .. }));
    assert_eq!((verdicts(&pair).len(), undecided(&pair)), (0, 1), "{}", pair.story());
    pair.assert_healthy(1, 1);
    let sent = pair.b.sent.len();
    pair.pass_secs(600);
    assert_eq!(pair.b.sent.len(), sent, "nobody asks any more");
    // A second forgery changes nothing about it.
    prove(&mut pair, A3);
    pair.pass_secs(600);
    assert_eq!(undecided(&pair), 2);
    pair.assert_healthy(1, 1);
    // Once it can be reached, whatever is asked next gets through, with the same message id; the node notices nothing.
    pair.filter = None;
    pair.rekey(Side::B, watari_sa::Target::Child(pair.first_child(Side::B)));
    pair.pass_secs(10);
    pair.assert_healthy(1, 1);
    assert_eq!(pair.b.count(|event| matches!(event, KeyingEvent::IkeDown { .. })), 0);
}

#[test]
fn ordinary_liveness_decides_about_a_peer_that_could_not_be_asked() {
    let mut pair = up();
    cut(&mut pair, &[A, A3]);
    prove(&mut pair, A3);
    pair.pass_secs(600);
    assert_eq!(pair.b.established().len(), 1);
    pair.probe(Side::B);
    pair.pass_secs(300);
    let end = pair.b.events.iter().find_map(|event| if let KeyingEvent::IkeDown { cause, .. } = event { Some(*cause) } else { None });
    assert_eq!(end, Some(watari_sa::Cause::PEER_SILENT), "{}", pair.story());
}
