//! IKE SAs that do not survive a movement: forgotten without a word, their children replaced under the next one (K bit 0).
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod pair;

use std::collections::BTreeSet;
use std::time::Duration;

use pair::*;
use watari_policies::{MobilityRole, PolicyId};
use watari_sa::{Cause, ChildId, Keying, KeyingEvent, Owner, Target, Trigger, Want};

/// A mobile node (A) and its home agent with an IKE SA and two child SAs; whoever calls is the initiator.
fn mobile(caller: Side) -> Pair {
    let mut pair = Pair::new().readable();
    pair.a.config.remotes[0].role = MobilityRole::MobileNode { home_address: ip(HOA) };
    pair.b.config.remotes[0].role = MobilityRole::HomeAgent { home_address: ip(HOA) };
    for host in [&mut pair.a, &mut pair.b] {
        host.config.remotes[0].initial_contact = true;
    }
    pair.want(caller, 0);
    pair.run();
    pair.want(caller, 2);
    pair.run();
    pair.assert_healthy(1, 2);
    pair
}

fn forget(pair: &mut Pair, side: Side) {
    let now = pair.now;
    let host = pair.host(side);
    for status in host.ike.statuses() {
        host.with(now, |ike, context| ike.forget(context, status.id));
    }
}

/// As the engine wishes for a mobile node that has given an IKE SA up.
fn replace(pair: &mut Pair, side: Side, only: Option<u32>) {
    let now = pair.now;
    let host = pair.host(side);
    let orphans: Vec<(PolicyId, ChildId)> =
        host.children.iter().filter(|sa| sa.owner == Owner::None).map(|sa| (sa.policy, sa.id)).collect();
    for (policy, child) in orphans {
        if only.is_none_or(|only| policy == PolicyId(only)) {
            host.with(now, |ike, context| ike.want(context, Want { policy, trigger: Trigger::Replace(child) }));
        }
    }
}

fn orphans(host: &Host) -> usize {
    host.children.iter().filter(|sa| sa.owner == Owner::None).count()
}

/// Policies that can be used in both directions right now.
fn served(host: &Host) -> BTreeSet<PolicyId> {
    let works = |sa: &&watari_sa::ChildSa| {
        [sa.inbound_id(), sa.outbound_id()].iter().all(|id| host.kernel.sas.contains_key(id)) && sa.outbound.installed
    };
    host.children.iter().filter(works).map(|sa| sa.policy).collect()
}

#[test]
fn both_sides_forget_and_everything_is_replaced_make_before_break() {
    for before in [Side::A, Side::B] {
        for after in [Side::A, Side::B] {
            let mut pair = mobile(before);
            let (sent, old) = ((pair.a.sent.len(), pair.b.sent.len()), pair.a.kernel.sas.keys().copied().collect::<BTreeSet<_>>());
            forget(&mut pair, Side::A);
            forget(&mut pair, Side::B);
            pair.run();
            assert_eq!(sent, (pair.a.sent.len(), pair.b.sent.len()), "not a word");
            assert!(pair.a.ike.statuses().is_empty() && pair.b.ike.statuses().is_empty());
            assert_eq!((orphans(&pair.a), orphans(&pair.b)), (2, 2));
            assert_eq!(pair.a.kernel.sas.keys().copied().collect::<BTreeSet<_>>(), old, "the kernel notices nothing");
            pair.pass_secs(300);
            assert_eq!((served(&pair.a).len(), served(&pair.b).len()), (2, 2), "they go on working");
            // One wish is enough: the rest goes along.
            replace(&mut pair, after, Some(0));
            for _ in 0..100 {
                pair.settle();
                assert_eq!((served(&pair.a).len(), served(&pair.b).len()), (2, 2), "never a gap{}", pair.story());
                let Some(flying) = pair.wire.pop_front() else { break };
                pair.deliver(flying);
            }
            pair.pass_secs(4);
            assert_eq!((orphans(&pair.a), orphans(&pair.b)), (0, 0), "{}", pair.story());
            pair.assert_healthy(1, 2);
            pair.pass_secs(20);
            pair.assert_healthy(1, 2);
            assert!(old.iter().all(|id| !pair.a.kernel.sas.contains_key(id)));
            assert_eq!(pair.a.inits() + pair.b.inits(), 2, "one before, one after");
            let news = pair.host(after).sent.iter().rev().find(|sent| kind(&sent.octets) == (35, 1, false)).unwrap();
            let initial_contact = [0, 8, 0, 0, 0x40, 0];
            assert!(!news.octets.windows(6).any(|window| window == initial_contact), "no INITIAL_CONTACT");
            let downs = |event: &KeyingEvent| matches!(event, KeyingEvent::IkeDown { .. } | KeyingEvent::WantFailed { .. });
            assert_eq!((pair.a.count(downs), pair.b.count(downs)), (0, 0));
        }
    }
}

#[test]
fn a_peer_that_has_not_forgotten_talks_to_nobody() {
    for caller in [Side::A, Side::B] {
        let mut pair = mobile(caller);
        forget(&mut pair, Side::B);
        let (sent, drops) = (pair.b.sent.len(), pair.b.count(|event| matches!(event, KeyingEvent::Dropped { .. })));
        pair.probe(Side::A);
        pair.pass_secs(10);
        assert_eq!(pair.b.sent.len(), sent, "no answer, no hint");
        let now_dropped = pair.b.count(|event| matches!(event, KeyingEvent::Dropped { .. }));
        assert!(now_dropped >= drops + 3, "each is counted");
        // Its requests to close or replace something are as little heard; the children stand.
        let child = pair.first_child(Side::A);
        pair.close(Side::A, Target::Child(child));
        pair.pass_secs(5);
        assert_eq!((pair.b.sent.len(), orphans(&pair.b), served(&pair.b).len()), (sent, 2, 2));
        // A stranger still gets its hint.
        let mut stranger = pair.a.sent.last().unwrap().octets.clone();
        stranger[..16].fill(9);
        let path = watari_sa::Path::between(ip(B), ip(A), 500);
        let now = pair.now;
        pair.b.handle(now, watari_sa::KeyingInput::Datagram(watari_sa::Datagram { path, octets: stranger }));
        pair.settle();
        assert_eq!(pair.b.sent.len(), sent + 1);
    }
}

#[test]
fn without_a_next_ike_sa_the_children_reach_their_hard_end() {
    let mut pair = mobile(Side::A);
    for host in [&mut pair.a, &mut pair.b] {
        host.config.ipsecs[0].lifetime = lifetime(500, 0);
    }
    let child = pair.first_child(Side::A);
    pair.rekey(Side::A, Target::Child(child));
    pair.run();
    pair.pass_secs(10);
    forget(&mut pair, Side::A);
    forget(&mut pair, Side::B);
    pair.pass_secs(480);
    assert_eq!((served(&pair.a).len(), served(&pair.b).len()), (2, 2));
    pair.pass_secs(20);
    for host in [&pair.a, &pair.b] {
        assert_eq!(served(host).len(), 1, "the other one has no end");
        assert_eq!(host.count(|event| matches!(event, KeyingEvent::ChildDown { cause, .. } if *cause == Cause::EXPIRED)), 1);
        host.assert_kernel_matches();
    }
}

#[test]
fn what_was_under_way_is_served_by_the_next_ike_sa() {
    // A wish, a rekey or the rekey of the IKE SA, at each of its stages.
    for task in 0..3 {
        for delivered in 0..3 {
            let mut pair = mobile(Side::A);
            let (ike, child) = (pair.a.established()[0], pair.first_child(Side::A));
            match task {
                0 => pair.want(Side::A, 1),
                1 => pair.rekey(Side::A, Target::Child(child)),
                _ => pair.rekey(Side::A, Target::Ike(ike)),
            }
            for _ in 0..delivered {
                pair.settle();
                let Some(flying) = pair.wire.pop_front() else { break };
                pair.deliver(flying);
            }
            pair.settle();
            forget(&mut pair, Side::A);
            forget(&mut pair, Side::B);
            pair.wire.clear();
            replace(&mut pair, Side::A, None);
            pair.run();
            pair.pass_secs(30);
            let wanted: BTreeSet<PolicyId> = if task == 0 { [0, 1, 2].map(PolicyId).into() } else { [0, 2].map(PolicyId).into() };
            assert_eq!(served(&pair.a), wanted, "task {task} after {delivered}{}", pair.story());
            assert_eq!((orphans(&pair.a), orphans(&pair.b)), (0, 0), "task {task} after {delivered}{}", pair.story());
            pair.assert_healthy(1, wanted.len());
        }
    }
}

#[test]
fn the_responder_replaces_what_the_initiator_has_lost() {
    let mut pair = mobile(Side::A);
    forget(&mut pair, Side::B);
    for host in [&mut pair.a, &mut pair.b] {
        host.config.remotes[0].initial_contact = false;
    }
    restart(&mut pair, Side::A, true);
    pair.want(Side::A, 0);
    pair.pass(Duration::from_secs(4));
    assert_eq!(orphans(&pair.b), 1, "left to the initiator for a moment");
    pair.pass(Duration::from_secs(10));
    assert_eq!(orphans(&pair.b), 0);
    pair.assert_healthy(1, 2);
}

/// Whether what each side sends for a policy right now, on the newest SA that it can send on, is received by the other.
fn flows(pair: &Pair, policy: u32) -> bool {
    let received = |from: &Host, to: &Host| {
        let sends = from.children.of_policy(PolicyId(policy)).filter(|sa| sa.outbound.installed).map(|sa| sa.outbound_id());
        let newest = sends.max_by_key(|id| from.kernel.added.iter().rposition(|added| added == id));
        newest.is_some_and(|id| to.kernel.sas.contains_key(&id))
    };
    received(&pair.a, &pair.b) && received(&pair.b, &pair.a)
}

#[test]
fn a_child_being_replaced_is_kept_with_its_heir_until_both_are_replaced() {
    for rekeying in [Side::A, Side::B] {
        for delivered in 0..6 {
            for loses_answer in [false, true] {
                let mut pair = mobile(Side::A);
                let child = pair.first_child(rekeying);
                pair.rekey(rekeying, Target::Child(child));
                for _ in 0..delivered {
                    pair.settle();
                    let Some(flying) = pair.wire.pop_front() else { break };
                    pair.deliver(flying);
                }
                // What the kernel was asked for last may not be done yet.
                let responder = if rekeying == Side::A { Side::B } else { Side::A };
                pair.host(responder).kernel.held = loses_answer;
                pair.settle();
                assert!(flows(&pair, 0), "before, {delivered}{}", pair.story());
                forget(&mut pair, Side::A);
                forget(&mut pair, Side::B);
                pair.wire.clear();
                release_kernel(&mut pair, responder);
                pair.settle();
                assert!(flows(&pair, 0) && flows(&pair, 2), "{rekeying:?} after {delivered}{}", pair.story());
                pair.pass_secs(60);
                assert!(flows(&pair, 0) && flows(&pair, 2), "{rekeying:?} after {delivered} and a while{}", pair.story());
                replace(&mut pair, Side::A, None);
                pair.run();
                pair.pass_secs(30);
                assert_eq!((orphans(&pair.a), orphans(&pair.b)), (0, 0), "{}", pair.story());
                pair.assert_healthy(1, 2);
            }
        }
    }
}

#[test]
fn an_heir_takes_over_when_what_it_was_to_replace_reaches_its_end() {
    let mut pair = mobile(Side::A);
    for host in [&mut pair.a, &mut pair.b] {
        host.config.ipsecs[0].lifetime = lifetime(500, 0);
    }
    let child = pair.first_child(Side::A);
    pair.rekey(Side::A, Target::Child(child));
    pair.pass_secs(200);
    // The next rekey: B has answered, A has what it needs, and its DELETE is lost.
    let child = pair.a.children.of_policy(PolicyId(0)).next().unwrap().id;
    pair.rekey(Side::A, Target::Child(child));
    for _ in 0..2 {
        pair.settle();
        let flying = pair.wire.pop_front().unwrap();
        pair.deliver(flying);
    }
    pair.settle();
    forget(&mut pair, Side::A);
    forget(&mut pair, Side::B);
    pair.wire.clear();
    pair.pass_secs(320);
    assert_eq!(pair.b.count(|event| matches!(event, KeyingEvent::ChildDown { cause, .. } if *cause == Cause::EXPIRED)), 1);
    assert!(flows(&pair, 0), "{}", pair.story());
    pair.a.assert_kernel_matches();
    pair.b.assert_kernel_matches();
}
