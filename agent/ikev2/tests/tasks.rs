//! Tasks inside an established IKE SA: new children, rekeys, deletes, liveness, lifetimes.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod pair;

use std::time::Duration;

use pair::*;
use watari_policies::MobilityRole;
use watari_sa::{Cause, ChildState, IkeState, Keying, KeyingEvent, Owner, Target};

fn child_gone(cause: Cause) -> impl Fn(&KeyingEvent) -> bool {
    move |event| matches!(event, KeyingEvent::ChildDown { cause: why, .. } if *why == cause)
}

#[test]
fn child_rekey_replaces_without_a_gap() {
    for side in [Side::A, Side::B] {
        let mut pair = Pair::up();
        let old = pair.first_child(side);
        let before = pair.a.kernel.added.len();
        pair.rekey(side, Target::Child(old));
        pair.run();
        // The old one still receives what is under way, then goes.
        assert!(pair.a.children.iter().any(|sa| sa.state == ChildState::Closing));
        pair.pass_secs(5);
        pair.assert_healthy(1, 1);
        assert_ne!(pair.first_child(side), old);
        assert_eq!(pair.a.kernel.added.len() - before, 2);
        for host in [&pair.a, &pair.b] {
            assert_eq!(host.count(|event| matches!(event, KeyingEvent::ChildRekeyed { .. })), 1, "{side:?} {:#?}", host.events);
            assert_eq!(host.count(child_gone(Cause::REPLACED)), 1);
        }
    }
}

#[test]
fn child_rekey_with_a_key_exchange_of_its_own_and_another_group() {
    let mut pair = Pair::up();
    pair.a.config.ipsecs[0].proposals = vec!["aes128gcm16-ecp256-x25519".parse().unwrap()];
    pair.b.config.ipsecs[0].proposals = vec!["aes128gcm16-x25519".parse().unwrap()];
    let old = pair.first_child(Side::A);
    pair.rekey(Side::A, Target::Child(old));
    pair.run();
    pair.pass_secs(5);
    pair.assert_healthy(1, 1);
    assert_ne!(pair.first_child(Side::A), old);
}

#[test]
fn key_exchange_for_a_child_where_the_peer_insists() {
    let mut pair = Pair::up();
    pair.a.config.ipsecs[0].proposals = vec!["aes128gcm16-x25519".parse().unwrap()];
    pair.want(Side::A, 2);
    pair.run();
    pair.assert_healthy(1, 2);
}

#[test]
fn ike_rekey_hands_the_children_over() {
    for side in [Side::A, Side::B] {
        let mut pair = Pair::up();
        pair.want(Side::A, 2);
        pair.run();
        let old = pair.host(side).established()[0];
        let spis: Vec<u64> = pair.a.ike.statuses().iter().map(|status| status.initiator_spi).collect();
        pair.rekey(side, Target::Ike(old));
        pair.run();
        pair.pass_secs(60);
        pair.assert_healthy(1, 2);
        let status = pair.a.ike.statuses();
        assert_eq!(status.len(), 1, "the old IKE SA is gone");
        assert_ne!(status[0].initiator_spi, spis[0]);
        assert_eq!(status[0].initiator, side == Side::A, "whoever rekeys is the initiator of the new one");
        for host in [&pair.a, &pair.b] {
            let ike = host.established()[0];
            assert!(host.children.iter().all(|sa| sa.owner == Owner::Ike(ike)));
            assert_eq!(host.count(|event| matches!(event, KeyingEvent::IkeRekeyed { .. })), 1);
            assert_eq!(host.count(|event| matches!(event, KeyingEvent::IkeDown { .. })), 0);
        }
        // Message ids start afresh and the new IKE SA works in both directions.
        pair.probe(Side::A);
        pair.run();
        pair.probe(Side::B);
        pair.run();
        let child = pair.first_child(Side::B);
        pair.rekey(Side::B, Target::Child(child));
        pair.run();
        pair.pass_secs(5);
        pair.assert_healthy(1, 2);
    }
}

#[test]
fn ike_rekey_with_another_group_is_asked_for_and_given() {
    let mut pair = Pair::up();
    pair.b.config.remotes[0].proposals = vec!["aes128gcm16-prfsha256-ecp256".parse().unwrap()];
    let old = pair.a.established()[0];
    pair.rekey(Side::A, Target::Ike(old));
    pair.run();
    pair.pass_secs(60);
    pair.assert_healthy(1, 1);
    assert!(pair.a.ike.statuses()[0].suite.ends_with("ecp256"));
}

#[test]
fn deletes() {
    let mut pair = Pair::up();
    let child = pair.first_child(Side::B);
    pair.close(Side::B, Target::Child(child));
    pair.run();
    pair.assert_healthy(1, 0);
    assert_eq!(pair.a.count(child_gone(Cause::PEER_CLOSED)), 1);
    assert_eq!(pair.b.count(child_gone(Cause::OPERATOR)), 1);
    pair.want(Side::B, 0);
    pair.run();
    pair.assert_healthy(1, 1);
    let ike = pair.a.established()[0];
    pair.close(Side::A, Target::Ike(ike));
    pair.run();
    pair.assert_healthy(0, 0);
    assert_eq!(pair.b.count(|event| matches!(event, KeyingEvent::IkeDown { cause, .. } if *cause == Cause::PEER_CLOSED)), 1);
    pair.pass_secs(60);
    assert!(pair.a.ike.deadline().is_none() && pair.b.ike.deadline().is_none(), "no timer is left");
}

#[test]
fn deletes_that_cross() {
    let mut pair = Pair::up();
    let (ours, theirs) = (pair.first_child(Side::A), pair.first_child(Side::B));
    pair.close(Side::A, Target::Child(ours));
    pair.close(Side::B, Target::Child(theirs));
    pair.run();
    pair.assert_healthy(1, 0);
    let (ours, theirs) = (pair.a.established()[0], pair.b.established()[0]);
    pair.close(Side::A, Target::Ike(ours));
    pair.close(Side::B, Target::Ike(theirs));
    pair.run();
    pair.pass_secs(120);
    pair.assert_healthy(0, 0);
    assert!(pair.a.ike.statuses().is_empty() && pair.b.ike.statuses().is_empty());
}

#[test]
fn lifetimes_are_our_own_timers_and_leave_no_gap() {
    let mut pair = Pair::new();
    for host in [&mut pair.a, &mut pair.b] {
        host.config.remotes[0].lifetime = lifetime(1000, 800);
        host.config.ipsecs[0].lifetime = lifetime(100, 80);
    }
    pair.a.config.ipsecs[0].lifetime.jitter = Duration::from_secs(10);
    pair.want(Side::A, 0);
    pair.run();
    for _ in 0..2000 {
        pair.pass_secs(1);
        assert!(!pair.a.installed().is_empty() && !pair.b.installed().is_empty(), "a gap at {:?}", pair.now);
    }
    pair.pass_secs(70);
    assert_eq!((pair.a.established().len(), pair.b.established().len()), (1, 1));
    assert_eq!(pair.a.inits(), 1, "never authenticated again");
    assert_eq!(pair.a.count(|event| matches!(event, KeyingEvent::IkeDown { .. })), 0);
    assert_eq!(pair.a.count(child_gone(Cause::EXPIRED)), 0);
    let rekeyed = |event: &KeyingEvent| matches!(event, KeyingEvent::ChildRekeyed { .. });
    assert!(pair.a.count(rekeyed) >= 20, "{}", pair.a.count(rekeyed));
    assert!(pair.a.count(|event| matches!(event, KeyingEvent::IkeRekeyed { .. })) >= 2);
}

#[test]
fn hard_end_without_a_rekey() {
    let mut pair = Pair::new();
    pair.a.config.ipsecs[0].lifetime = lifetime(50, 0);
    pair.a.config.remotes[0].lifetime = lifetime(100, 0);
    pair.want(Side::A, 0);
    pair.run();
    pair.pass_secs(51);
    pair.assert_healthy(1, 0);
    assert_eq!(pair.a.count(child_gone(Cause::EXPIRED)), 1);
    pair.pass_secs(100);
    pair.assert_healthy(0, 0);
}

#[test]
fn silence_is_noticed_and_told_without_a_delete() {
    let mut pair = Pair::up();
    pair.a.config.remotes[0].liveness = Some(Duration::from_secs(30));
    let ike = pair.a.established()[0];
    pair.rekey(Side::A, Target::Ike(ike));
    pair.run();
    // The peer answers: nothing happens.
    pair.pass_secs(100);
    pair.assert_healthy(1, 1);
    pair.filter = Some(Box::new(|_, _| false));
    let sent = pair.a.sent.len();
    pair.pass_secs(120);
    assert_eq!(pair.a.established().len(), 0);
    assert_eq!(pair.a.count(|event| matches!(event, KeyingEvent::IkeDown { cause, .. } if *cause == Cause::PEER_SILENT)), 1);
    assert_eq!(pair.a.sent.len() - sent, 6, "one liveness check and five repeats, no delete");
    assert!(pair.a.sent[sent..].windows(2).all(|pair| pair[0].octets == pair[1].octets), "repeats are the same octets");
    assert_eq!(pair.a.installed().len(), 0);
    assert!(pair.a.kernel.sas.is_empty());
}

#[test]
fn a_silent_peer_that_mobile_ipv6_governs_is_called_afresh_and_its_children_serve_until_then() {
    let mut pair = Pair::new();
    pair.a.config.remotes[0].role = MobilityRole::MobileNode { home_address: ip(HOA) };
    pair.a.config.remotes[0].liveness = Some(Duration::from_secs(30));
    pair.want(Side::A, 0);
    pair.run();
    pair.filter = Some(Box::new(|_, _| false));
    let old = pair.first_child(Side::A);
    while pair.a.inits() < 2 {
        pair.pass_secs(1);
        assert!(pair.now < Duration::from_secs(1500));
    }
    assert_eq!(pair.a.children.get(old).unwrap().owner, Owner::None);
    pair.filter = None;
    pair.pass_secs(60);
    assert!(pair.a.children.get(old).is_none(), "the old child went when the new one stood");
    assert_eq!(pair.a.installed().len(), 1);
}

#[test]
fn rekey_of_a_child_that_the_peer_does_not_know_makes_a_new_one() {
    let mut pair = Pair::up();
    let lost = pair.first_child(Side::B);
    // B loses it without telling.
    let sa = pair.b.children.remove(lost).unwrap();
    pair.b.kernel.sas.remove(&sa.inbound_id());
    pair.b.kernel.sas.remove(&sa.outbound_id());
    let old = pair.first_child(Side::A);
    pair.rekey(Side::A, Target::Child(old));
    pair.run();
    pair.assert_healthy(1, 1);
}

#[test]
fn a_refusing_kernel_is_told_to_the_peer_and_nothing_is_left() {
    // As initiator: inbound or outbound refused.
    for succeed in 0..2 {
        let mut pair = Pair::up();
        pair.a.kernel.refuse_add = Some(succeed);
        pair.want(Side::A, 2);
        pair.run();
        pair.assert_healthy(1, 1);
        assert_eq!(pair.a.count(|event| matches!(event, KeyingEvent::WantFailed { cause, .. } if *cause == Cause::KERNEL_REFUSED)), 1);
    }
    // As responder.
    for succeed in 0..2 {
        let mut pair = Pair::up();
        pair.b.kernel.refuse_add = Some(succeed);
        pair.want(Side::A, 2);
        pair.run();
        pair.assert_healthy(1, 1);
        assert_eq!(pair.a.count(|event| matches!(event, KeyingEvent::WantFailed { .. })), 1);
    }
    // In IKE_AUTH the IKE SA stands nevertheless.
    for side in [Side::A, Side::B] {
        let mut pair = Pair::new();
        pair.host(side).kernel.refuse_add = Some(1);
        pair.want(Side::A, 0);
        pair.run();
        pair.assert_healthy(1, 0);
        pair.want(Side::A, 0);
        pair.run();
        pair.assert_healthy(1, 1);
    }
    // At the rekey, on the responder's outbound half, which comes after its response.
    let mut pair = Pair::up();
    let old = pair.first_child(Side::A);
    pair.b.kernel.refuse_add = Some(1);
    pair.rekey(Side::A, Target::Child(old));
    pair.run();
    pair.pass_secs(10);
    pair.assert_healthy(1, 0);
}

#[test]
fn answers_for_what_is_gone_are_undone() {
    let mut pair = Pair::up();
    pair.a.kernel.held = true;
    pair.want(Side::A, 2);
    pair.settle();
    let ike = pair.a.established()[0];
    let now = pair.now;
    pair.a.with(now, |endpoint, context| endpoint.forget(context, ike));
    release_kernel(&mut pair, Side::A);
    pair.settle();
    assert!(pair.a.kernel.larval.is_empty(), "the SPI was given back");
    assert_eq!(pair.a.children.iter().filter(|sa| sa.owner == Owner::None).count(), 1, "the child goes on without its owner");
}

#[test]
fn status_tells_what_is_under_way() {
    let mut pair = Pair::up();
    pair.a.kernel.held = true;
    pair.want(Side::A, 2);
    pair.want(Side::A, 1);
    pair.settle();
    let status = &pair.a.ike.statuses()[0];
    assert_eq!(status.state, IkeState::Established);
    assert_eq!(status.tasks, ["create child", "create child"]);
    assert_eq!(status.negotiating.len(), 2);
    assert_eq!(status.suite, "aes128gcm16-prfsha256-x25519");
    release_kernel(&mut pair, Side::A);
    pair.run();
    pair.assert_healthy(1, 3);
}

#[test]
fn a_remote_that_leaves_the_configuration_in_the_middle_leaves_nothing_stuck() {
    // The reload comes while A's key pair is being made, while its request is under way, and while a refusal is.
    for moment in 0..3 {
        let mut pair = Pair::up();
        pair.a.hold_work = moment == 0;
        let ike = pair.a.established()[0];
        pair.rekey(Side::A, Target::Ike(ike));
        pair.settle();
        if moment == 2 {
            pair.b.config.remotes[0].proposals = vec!["aes256-sha512-x25519".parse().unwrap()];
        }
        pair.a.config.remotes.clear();
        pair.a.ike.reconfigured();
        release_work(&mut pair, Side::A);
        pair.run();
        let status = pair.a.ike.status(ike).unwrap();
        assert_eq!(status.tasks, [""; 0], "moment {moment}");
        let sent = pair.a.sent.len();
        pair.probe(Side::A);
        pair.run();
        assert_eq!(pair.a.sent.len(), sent + 1, "moment {moment}: the window is free");
    }
}

#[test]
fn a_remote_that_leaves_the_configuration_ends_a_handshake() {
    for messages in 0..4 {
        let mut pair = Pair::new();
        pair.want(Side::A, 0);
        for _ in 0..messages {
            pair.settle();
            let flying = pair.wire.pop_front().unwrap();
            pair.deliver(flying);
        }
        let side = if messages % 2 == 0 { Side::A } else { Side::B };
        let host = pair.host(side);
        host.config.remotes.clear();
        host.ike.reconfigured();
        pair.run();
        pair.pass_secs(200);
        let host = pair.host(side);
        assert!(messages > 3 || host.ike.statuses().len() <= 1, "{messages}");
        assert!(host.ike.statuses().iter().all(|status| status.state == IkeState::Established), "{messages}");
        host.assert_kernel_matches();
    }
}

#[test]
fn status_tells_where_a_nat_is() {
    let pair = Pair::up();
    assert!(!pair.a.ike.statuses()[0].nat.any() && !pair.b.ike.statuses()[0].nat.any());
    let mut pair = Pair::new();
    pair.want(Side::A, 0);
    pair.settle();
    let mut flying = pair.wire.pop_front().unwrap();
    flying.datagram.path.remote.set_port(1024);
    pair.deliver(flying);
    let mut flying = pair.wire.pop_front().unwrap();
    flying.datagram.path.local.set_port(500);
    pair.deliver(flying);
    pair.run();
    let nat = |host: &Host| (host.ike.statuses()[0].nat.us, host.ike.statuses()[0].nat.peer);
    assert_eq!((nat(&pair.a), nat(&pair.b)), ((true, false), (false, true)));
    // A rekey does not forget it.
    let ike = pair.a.established()[0];
    pair.rekey(Side::A, Target::Ike(ike));
    pair.run();
    let ike = pair.a.established()[0];
    assert!(pair.a.ike.status(ike).unwrap().nat.us);
}
