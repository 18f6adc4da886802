//! Moves of an IKE SA at every moment (DESIGN section 5).
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod pair;

use std::time::Duration;

use pair::*;
use watari_policies::MobilityRole;
use watari_sa::{Cause, ChildState, Datagram, IkeState, Keying, KeyingEvent, KeyingInput, Path, Target};

fn mobile() -> Pair {
    let mut pair = Pair::new();
    pair.a.config.remotes[0].role = MobilityRole::MobileNode { home_address: ip(HOA) };
    pair.b.config.remotes[0].role = MobilityRole::HomeAgent { home_address: ip(HOA) };
    pair
}

fn confirmed(event: &KeyingEvent) -> bool {
    matches!(event, KeyingEvent::PathConfirmed { .. })
}

fn moved(event: &KeyingEvent) -> bool {
    matches!(event, KeyingEvent::IkeMoved { .. })
}

/// Lets A speak from its new address only: what goes to the old one is lost.
fn cut(pair: &mut Pair, address: &'static str) {
    pair.filter = Some(Box::new(move |_, datagram| datagram.path.local.ip() != ip(address) && datagram.path.remote.ip() != ip(address)));
}

#[test]
fn an_idle_ike_sa_tests_its_new_path() {
    let mut pair = mobile();
    pair.want(Side::A, 0);
    pair.run();
    cut(&mut pair, A);
    pair.retarget(Side::A, A2, B);
    pair.settle();
    assert_eq!(pair.a.sent.last().unwrap().path, Path::between(ip(A2), ip(B), 500));
    assert_eq!(kind(&pair.a.sent.last().unwrap().octets).0, 37, "a liveness check");
    pair.run();
    assert_eq!((pair.a.count(moved), pair.a.count(confirmed)), (1, 1));
    // B answered where the request came from but did not store the address; its own MIGRATE tells it.
    assert_eq!(pair.b.ike.statuses()[0].path.remote.ip(), ip(A));
    pair.retarget(Side::B, B, A2);
    pair.run();
    assert_eq!((pair.b.count(moved), pair.b.count(confirmed)), (1, 1));
    // The same again changes nothing.
    let sent = (pair.a.sent.len(), pair.b.sent.len());
    pair.retarget(Side::A, A2, B);
    pair.retarget(Side::B, B, A2);
    pair.run();
    assert_eq!(sent, (pair.a.sent.len(), pair.b.sent.len()));
    pair.assert_healthy(1, 1);
}

#[test]
fn an_unanswered_init_starts_afresh() {
    let mut pair = mobile();
    pair.filter = Some(Box::new(|_, _| false));
    pair.want(Side::A, 0);
    pair.run();
    let old = pair.a.sent[0].octets.clone();
    pair.pass_secs(2);
    cut(&mut pair, A);
    pair.retarget(Side::A, A2, B);
    pair.settle();
    let new = pair.a.sent.last().unwrap().clone();
    assert_eq!(new.path.local.ip(), ip(A2));
    assert_ne!(old[..8], new.octets[..8], "a new SPI");
    pair.run();
    pair.assert_healthy(1, 1);
    assert_eq!(pair.a.inits(), 2, "the abandoned one had left");
    assert_eq!(pair.b.ike.statuses()[0].path.remote.ip(), ip(A2));
    pair.pass_secs(60);
    assert_eq!(pair.b.ike.statuses().len(), 1);
}

#[test]
fn a_cookie_of_the_old_address_is_not_carried_along() {
    let mut pair = mobile();
    pair.b.config.settings.cookie_threshold = 0;
    // The answer to the request with the cookie is lost.
    pair.filter = Some(Box::new(|to, datagram| !(to == Side::A && datagram.octets[16] == 33)));
    pair.want(Side::A, 0);
    pair.run();
    assert_eq!(pair.a.sent.last().unwrap().octets[16], 41, "the second request begins with a cookie");
    cut(&mut pair, A);
    pair.retarget(Side::A, A2, B);
    pair.settle();
    assert_eq!(pair.a.sent.last().unwrap().octets[16], 33, "no cookie from another address");
    pair.run();
    pair.assert_healthy(1, 1);
}

#[test]
fn ike_auth_goes_out_again_octet_for_octet() {
    let mut pair = mobile();
    pair.filter = Some(Box::new(|_, datagram| kind(&datagram.octets).0 != 35));
    pair.want(Side::A, 0);
    pair.run();
    let auth = pair.a.sent.last().unwrap().octets.clone();
    assert_eq!(kind(&auth).0, 35);
    cut(&mut pair, A);
    pair.retarget(Side::A, A2, B);
    pair.settle();
    assert_eq!(pair.a.sent.last().unwrap().octets, auth);
    assert_eq!(pair.a.sent.last().unwrap().path.local.ip(), ip(A2));
    pair.run();
    pair.assert_healthy(1, 1);
    assert_eq!(pair.a.inits(), 1);
    // The responder took the peer's address from the authenticated IKE_AUTH.
    assert_eq!(pair.b.ike.statuses()[0].path.remote.ip(), ip(A2));
    assert_eq!(pair.a.count(confirmed), 1);
}

#[test]
fn tunnel_end_points_are_read_again_at_installation() {
    let mut pair = mobile();
    pair.want(Side::A, 0);
    pair.run();
    pair.b.kernel.held = true;
    pair.want(Side::A, 2);
    pair.run();
    cut(&mut pair, A);
    pair.retarget(Side::A, A2, B);
    pair.retarget(Side::B, B, A2);
    release_kernel(&mut pair, Side::B);
    pair.run();
    pair.assert_healthy(1, 2);
    let tunnel = pair.a.installed()[1];
    assert_eq!(tunnel.outbound.endpoints.src, ip(A2), "the SPI was reserved for the old address");
}

#[test]
fn rekeys_survive_a_move_in_the_middle() {
    // The move comes when A's request, or B's response, has just been lost.
    for ike in [false, true] {
        for lose in [Side::A, Side::B] {
            let mut pair = mobile();
            pair.want(Side::A, 0);
            pair.run();
            let target = if ike { Target::Ike(pair.a.established()[0]) } else { Target::Child(pair.first_child(Side::A)) };
            pair.filter = Some(Box::new(move |to, _| to != lose));
            pair.rekey(Side::A, target);
            pair.run();
            cut(&mut pair, A);
            let request = pair.a.sent.last().unwrap().octets.clone();
            pair.retarget(Side::A, A2, B);
            pair.settle();
            assert_eq!(pair.a.sent.last().unwrap().octets, request, "at once, octet for octet");
            pair.retarget(Side::B, B, A2);
            pair.run();
            pair.pass_secs(60);
            pair.assert_healthy(1, 1);
            assert_eq!(pair.a.inits(), 1);
            assert_eq!(pair.a.count(|event| matches!(event, KeyingEvent::IkeDown { .. })), 0);
        }
    }
}

#[test]
fn two_moves_in_a_row_the_last_wins() {
    let mut pair = mobile();
    pair.want(Side::A, 0);
    pair.run();
    pair.retarget(Side::A, A2, B);
    pair.settle();
    pair.wire.clear();
    pair.retarget(Side::A, A3, B);
    pair.settle();
    assert_eq!(pair.a.sent.last().unwrap().path.local.ip(), ip(A3));
    pair.run();
    assert_eq!((pair.a.count(moved), pair.a.count(confirmed)), (2, 1));
}

#[test]
fn repeats_after_a_move_do_not_count_for_a_minute() {
    let mut pair = mobile();
    pair.want(Side::A, 0);
    pair.run();
    pair.filter = Some(Box::new(|_, _| false));
    pair.retarget(Side::A, A2, B);
    pair.pass_secs(59);
    assert_eq!(pair.a.established().len(), 1);
    pair.pass_secs(120);
    assert!(pair.a.count(|event| matches!(event, KeyingEvent::IkeDown { cause, .. } if *cause == Cause::PEER_SILENT)) >= 1);
}

#[test]
fn a_tentative_address_is_waited_for() {
    let mut pair = mobile();
    pair.want(Side::A, 0);
    pair.run();
    pair.a.tentative.insert(ip(A2));
    pair.retarget(Side::A, A2, B);
    pair.run();
    let sent = pair.a.sent.len();
    pair.pass_secs(2);
    assert_eq!(pair.a.sent.len(), sent, "nothing can leave");
    pair.a.tentative.clear();
    let now = pair.now;
    pair.a.handle(now, KeyingInput::AddressUsable(ip(A2)));
    pair.run();
    assert_eq!(pair.a.count(confirmed), 1, "the moment it is usable");
    // Without being told, the poll finds out within a tenth of a second.
    pair.a.tentative.insert(ip(A3));
    pair.retarget(Side::A, A3, B);
    pair.pass_secs(5);
    pair.a.tentative.clear();
    pair.pass(Duration::from_millis(100));
    assert_eq!(pair.a.count(confirmed), 2);
}

#[test]
fn an_init_that_never_left_is_no_handshake_given_up() {
    let mut pair = mobile();
    pair.a.tentative.insert(ip(A));
    pair.want(Side::A, 0);
    pair.pass_secs(1);
    assert_eq!(pair.a.sent.len(), 0);
    pair.retarget(Side::A, A2, B);
    pair.run();
    pair.assert_healthy(1, 1);
    assert_eq!(pair.a.inits(), 1);
    assert_eq!(pair.a.ike.statuses()[0].state, IkeState::Established);
}

#[test]
fn a_peer_that_goes_over_to_port_4500_is_followed() {
    let mut pair = Pair::up();
    // A MOBIKE peer changes ports in a request of its own.
    let now = pair.now;
    let ike = pair.a.established()[0];
    pair.a.with(now, |endpoint, context| endpoint.probe(context, ike));
    pair.settle();
    let mut flying = pair.wire.pop_front().unwrap();
    flying.datagram.path.local.set_port(4500);
    flying.datagram.path.remote.set_port(4500);
    pair.deliver(flying);
    let path = pair.b.ike.statuses()[0].path;
    assert_eq!((path.local.port(), path.remote.port()), (4500, 4500));
    assert_eq!(pair.b.sent.last().unwrap().path.local.port(), 4500, "and answered there");
    pair.run();
}

/// What a host sent to an address from the `from`th message on.
fn sent_to(host: &Host, from: usize, address: &str) -> Vec<Vec<u8>> {
    host.sent[from..].iter().filter(|sent| sent.path.remote.ip() == ip(address)).map(|sent| sent.octets.clone()).collect()
}

/// The home agent has called; the mobile node has answered, but its IKE_AUTH response was lost, and it has moved.
fn moved_before_its_answer_arrived() -> Pair {
    let mut pair = mobile();
    pair.filter = Some(Box::new(|to, datagram| !(to == Side::B && kind(&datagram.octets).0 == 35)));
    pair.want(Side::B, 0);
    pair.run();
    assert_eq!((pair.a.established().len(), pair.b.established().len()), (1, 0));
    cut(&mut pair, A);
    pair
}

#[test]
fn the_initiator_of_ike_auth_reaches_a_responder_that_moved() {
    let mut pair = moved_before_its_answer_arrived();
    let auth = pair.b.sent.last().unwrap().octets.clone();
    let sent = pair.b.sent.len();
    pair.retarget(Side::A, A2, B);
    pair.run();
    assert_eq!(sent_to(&pair.b, sent, A2).first(), Some(&auth), "IKE_AUTH once more, octet for octet{}", pair.story());
    assert_eq!((pair.b.established().len(), pair.b.installed().len()), (1, 1), "{}", pair.story());
    // The child SA that carries the binding update stands; where the peer is, MIGRATE says, not the peer.
    assert_eq!(pair.b.ike.statuses()[0].path.remote.ip(), ip(A));
    assert_eq!(pair.b.count(moved), 0);
    pair.retarget(Side::B, B, A2);
    pair.run();
    pair.assert_healthy(1, 1);
    assert_eq!((pair.b.inits(), pair.b.count(confirmed)), (1, 1));
}

#[test]
fn a_waiting_request_is_copied_to_a_governed_peer_that_asks_from_elsewhere() {
    let mut pair = mobile();
    pair.want(Side::A, 0);
    pair.run();
    cut(&mut pair, A);
    pair.want(Side::B, 2);
    pair.run();
    let request = pair.b.sent.last().unwrap().octets.clone();
    let sent = pair.b.sent.len();
    assert_eq!(kind(&request).0, 36);
    pair.retarget(Side::A, A2, B);
    pair.settle();
    let question = pair.wire.pop_front().unwrap();
    assert_eq!(kind(&question.datagram.octets).0, 37, "A asks from its new address");
    // It may arrive more than once.
    pair.deliver(question.clone());
    pair.deliver(question);
    let there = sent_to(&pair.b, sent, A2);
    assert_eq!(there.iter().filter(|octets| **octets == request).count(), 1, "one copy");
    assert_eq!(there.iter().filter(|octets| kind(octets) == (37, kind(octets).1, true)).count(), 2, "each repeat is answered");
    assert_eq!(pair.b.ike.statuses()[0].path.remote.ip(), ip(A), "the address is not stored");
    pair.run();
    pair.assert_healthy(1, 2);
    assert_eq!(pair.b.count(moved), 0);
    assert!(pair.b.installed().iter().all(|sa| sa.state == ChildState::Installed && sa.outbound.endpoints.dst != ip(A2)));
}

#[test]
fn a_copy_goes_out_no_more_often_than_the_request_itself() {
    let mut pair = moved_before_its_answer_arrived();
    pair.retarget(Side::A, A2, B);
    pair.settle();
    let question = pair.wire.pop_front().unwrap();
    // Somebody caught it and repeats it from many addresses: the window does not take it, so each looks new.
    let (now, sent) = (pair.now, pair.b.sent.len());
    for last in 1..100u16 {
        let mut datagram = question.datagram.clone();
        datagram.path.remote.set_ip(ip(&format!("2001:db8:bad::{last:x}")));
        pair.b.handle(now, KeyingInput::Datagram(datagram));
    }
    pair.settle();
    assert_eq!(pair.b.sent.len(), sent + 1);
    assert_eq!(pair.b.count(moved), 0);
}

#[test]
fn nothing_unauthenticated_draws_a_copy() {
    for established in [false, true] {
        let mut pair = if established { mobile() } else { moved_before_its_answer_arrived() };
        if established {
            pair.want(Side::A, 0);
            pair.run();
            cut(&mut pair, A);
            pair.want(Side::B, 2);
            pair.run();
        }
        pair.retarget(Side::A, A2, B);
        pair.settle();
        let question = pair.wire.pop_front().unwrap().datagram;
        let status = pair.b.ike.statuses()[0].clone();
        // The peer's own message with one bit changed, one without its ICV, the bare header, and hints in clear about the waiting request.
        let mut flipped = question.octets.clone();
        *flipped.last_mut().unwrap() ^= 1;
        let mut cut_short = question.octets[..question.octets.len() - 16].to_vec();
        let length = (cut_short.len() as u32).to_be_bytes();
        cut_short[24..28].copy_from_slice(&length);
        let bare = [&question.octets[..16], &[0, 0x20, 37, question.octets[19], 0, 0, 0, 0, 0, 0, 0, 28]].concat();
        let waiting = pair.b.sent.iter().rev().find(|sent| !kind(&sent.octets).2).unwrap().octets.clone();
        let mut hint = waiting[..16].to_vec();
        hint.extend([41, 0x20, waiting[18], 0x20 | (question.octets[19] & 0x08)]);
        hint.extend(&waiting[20..24]);
        hint.extend([0, 0, 0, 36, 0, 0, 0, 8, 0, 0, 0, 4]);
        let (now, sent, children) = (pair.now, pair.b.sent.len(), pair.b.children.len());
        for octets in [flipped, cut_short, bare, hint] {
            let datagram = Datagram { path: Path::between(ip(B), ip("2001:db8:bad::1"), 500), octets };
            pair.b.handle(now, KeyingInput::Datagram(datagram));
            pair.settle();
        }
        assert_eq!(pair.b.sent.len(), sent, "nothing is sent{}", pair.story());
        assert_eq!((pair.b.ike.statuses()[0].clone(), pair.b.children.len()), (status, children));
        assert!(pair.b.count(|event| matches!(event, KeyingEvent::Dropped { .. })) >= 3);
        // And the peer itself is still heard.
        pair.b.handle(now, KeyingInput::Datagram(question));
        pair.settle();
        assert!(pair.b.sent.len() > sent);
    }
}
