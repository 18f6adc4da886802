//! Exchanges that cross (RFC 7296 2.8.1, 2.8.2, 2.25) and messages that are lost, repeated or late.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod pair;

use std::collections::BTreeSet;

use pair::*;
use watari_crypto::FakeProvider;
use watari_sa::{Keying, KeyingEvent, Target};

fn up(seed: u8) -> Pair {
    let mut pair = Pair::seeded(seed);
    pair.a.provider = Box::new(FakeProvider);
    pair.b.provider = Box::new(FakeProvider);
    pair.want(Side::A, 0);
    pair.run();
    pair.assert_healthy(1, 1);
    pair
}

/// The orders in which two messages per side may arrive.
fn run_in_order(pair: &mut Pair, b_first: bool) {
    pair.settle();
    if b_first {
        pair.wire.make_contiguous().reverse();
    }
    pair.run();
}

#[test]
fn simultaneous_child_rekeys_leave_one() {
    let mut creators = BTreeSet::new();
    for seed in 0..40 {
        for b_first in [false, true] {
            let mut pair = up(seed);
            let (ours, theirs) = (pair.first_child(Side::A), pair.first_child(Side::B));
            pair.rekey(Side::A, Target::Child(ours));
            pair.rekey(Side::B, Target::Child(theirs));
            run_in_order(&mut pair, b_first);
            pair.pass_secs(20);
            pair.assert_healthy(1, 1);
            assert!(pair.a.children.get(ours).is_none() && pair.b.children.get(theirs).is_none(), "the old one is gone");
            assert_eq!(pair.a.count(|event| matches!(event, KeyingEvent::WantFailed { .. })), 0);
            creators.insert(pair.a.sent.iter().filter(|sent| kind(&sent.octets) == (37, 3, false)).count());
        }
    }
    assert!(!creators.is_empty());
}

#[test]
fn the_child_with_the_lowest_nonce_is_closed_by_its_creator() {
    // Both requests are answered before either response arrives, so both sides know of the collision.
    let (mut ours_survives, mut theirs_survives) = (0, 0);
    for seed in 0..40 {
        let mut pair = up(seed);
        let (ours, theirs) = (pair.first_child(Side::A), pair.first_child(Side::B));
        pair.rekey(Side::A, Target::Child(ours));
        pair.rekey(Side::B, Target::Child(theirs));
        pair.run();
        // Message 2 of A is its CREATE_CHILD_SA; what it deletes next tells whether it thinks its own survives.
        pair.pass_secs(20);
        pair.assert_healthy(1, 1);
        let rekeyed = |host: &Host| host.count(|event| matches!(event, KeyingEvent::ChildRekeyed { .. }));
        assert!(rekeyed(&pair.a) >= 1 && rekeyed(&pair.b) >= 1);
        let survivor = pair.a.installed()[0].id;
        let made_by_a = pair.a.events.iter().any(|event| matches!(event, KeyingEvent::ChildRekeyed { new, .. } if *new == survivor));
        if made_by_a && pair.a.kernel.added.len() == 6 {
            ours_survives += 1;
        } else {
            theirs_survives += 1;
        }
    }
    assert!(ours_survives + theirs_survives == 40);
}

#[test]
fn simultaneous_ike_rekeys_leave_one() {
    let mut initiators = BTreeSet::new();
    for seed in 0..60 {
        for b_first in [false, true] {
            let mut pair = up(seed);
            let (ours, theirs) = (pair.a.established()[0], pair.b.established()[0]);
            pair.rekey(Side::A, Target::Ike(ours));
            pair.rekey(Side::B, Target::Ike(theirs));
            run_in_order(&mut pair, b_first);
            pair.pass_secs(60);
            pair.assert_healthy(1, 1);
            assert_eq!((pair.a.ike.statuses().len(), pair.b.ike.statuses().len()), (1, 1));
            assert_eq!(pair.a.count(|event| matches!(event, KeyingEvent::IkeDown { .. })), 0, "{:#?}", pair.a.events);
            initiators.insert(pair.a.ike.statuses()[0].initiator);
            // What survived works both ways.
            let child = pair.first_child(Side::B);
            pair.rekey(Side::B, Target::Child(child));
            pair.run();
            pair.pass_secs(10);
            pair.assert_healthy(1, 1);
        }
    }
    assert_eq!(initiators.len(), 2, "the nonces decided both ways");
}

#[test]
fn simultaneous_starts_leave_one_ike_sa_and_one_child_per_policy() {
    let mut initiators = BTreeSet::new();
    for seed in 0..40 {
        for (ours, theirs) in [(0, 0), (0, 2)] {
            let mut pair = Pair::seeded(seed);
            for host in [&mut pair.a, &mut pair.b] {
                host.provider = Box::new(FakeProvider);
                host.config.remotes[0].initial_contact = true;
            }
            pair.want(Side::A, ours);
            pair.want(Side::B, theirs);
            pair.run();
            pair.pass_secs(60);
            pair.assert_healthy(1, if ours == theirs { 1 } else { 2 });
            initiators.insert(pair.a.ike.statuses()[0].initiator);
        }
    }
    assert_eq!(initiators.len(), 2);
}

#[test]
fn both_want_the_same_policy_over_one_ike_sa() {
    for seed in 0..20 {
        let mut pair = up(seed);
        pair.want(Side::A, 2);
        pair.want(Side::B, 2);
        pair.run();
        pair.pass_secs(20);
        pair.assert_healthy(1, 2);
    }
}

/// What two sides may begin at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    Create,
    RekeyChild,
    RekeyIke,
    DeleteChild,
    Probe,
}

const BEGINNINGS: [Begin; 5] = [Begin::Create, Begin::RekeyChild, Begin::RekeyIke, Begin::DeleteChild, Begin::Probe];

fn begin(pair: &mut Pair, side: Side, what: Begin) {
    let child = pair.host(side).installed().first().map(|sa| sa.id);
    let ike = pair.host(side).established().last().copied();
    match what {
        Begin::Create => pair.want(side, 2),
        Begin::RekeyChild => child.into_iter().for_each(|child| pair.rekey(side, Target::Child(child))),
        Begin::RekeyIke => ike.into_iter().for_each(|ike| pair.rekey(side, Target::Ike(ike))),
        Begin::DeleteChild => child.into_iter().for_each(|child| pair.close(side, Target::Child(child))),
        Begin::Probe => pair.probe(side),
    }
}

#[test]
fn every_pair_of_exchanges_may_cross() {
    for ours in BEGINNINGS {
        for theirs in BEGINNINGS {
            for seed in 0..8 {
                let mut pair = up(seed);
                begin(&mut pair, Side::A, ours);
                begin(&mut pair, Side::B, theirs);
                run_in_order(&mut pair, seed % 2 == 0);
                pair.pass_secs(200);
                let deleted = [ours, theirs].contains(&Begin::DeleteChild);
                let created = [ours, theirs].contains(&Begin::Create);
                let children = pair.a.installed().len();
                let least = usize::from(!deleted) + usize::from(created);
                assert!(children >= least && children <= least + 1, "{ours:?} {theirs:?} {seed}: {children} children");
                pair.assert_healthy(1, children);
                assert_eq!(pair.a.inits() + pair.b.inits(), 1, "{ours:?} {theirs:?}");
            }
        }
    }
}

#[test]
fn any_one_message_may_be_lost() {
    for what in [None, Some(Begin::Create), Some(Begin::RekeyChild), Some(Begin::RekeyIke), Some(Begin::DeleteChild)] {
        for lost in 0..12 {
            for side in [Side::A, Side::B] {
                let mut pair = if what.is_none() { Pair::seeded(3) } else { up(3) };
                let mut count = 0;
                pair.filter = Some(Box::new(move |_, _| {
                    count += 1;
                    count - 1 != lost
                }));
                match what {
                    Some(what) => begin(&mut pair, side, what),
                    None => pair.want(side, 0),
                }
                pair.run();
                pair.pass_secs(100);
                let children = match what {
                    Some(Begin::Create) => 2,
                    Some(Begin::DeleteChild) => 0,
                    _ => 1,
                };
                pair.assert_healthy(1, children);
            }
        }
    }
}

#[test]
fn everything_may_arrive_twice() {
    for what in BEGINNINGS {
        let mut pair = up(5);
        begin(&mut pair, Side::A, what);
        for _ in 0..100 {
            pair.settle();
            let Some(flying) = pair.wire.pop_front() else { break };
            pair.deliver(flying.clone());
            pair.deliver(flying);
        }
        pair.filter = None;
        pair.pass_secs(100);
        let children = pair.a.installed().len();
        pair.assert_healthy(1, children);
    }
}

/// A small generator for the test itself.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// Both sides do anything at any time over a network that loses, repeats and reorders; then it heals and everything must agree.
fn chaos(seed: u64) {
    let mut dice = Dice(seed);
    let mut pair = up(seed as u8);
    for host in [&mut pair.a, &mut pair.b] {
        host.config.remotes[0].retransmit.tries = 40;
        host.config.remotes[0].initial_contact = true;
        host.config.remotes[0].liveness = Some(std::time::Duration::from_secs(20));
    }
    for _ in 0..120 {
        let side = if dice.roll(2) == 0 { Side::A } else { Side::B };
        match dice.roll(10) {
            0 => begin(&mut pair, side, BEGINNINGS[dice.roll(5) as usize]),
            1 => {
                let mut dice = Dice(dice.0);
                pair.filter = Some(Box::new(move |_, _| dice.roll(3) != 0));
                pair.pass(std::time::Duration::from_millis(700));
                pair.filter = None;
            }
            2 => {
                let local = [A, A2, A3][dice.roll(3) as usize];
                pair.retarget(Side::A, local, B);
                pair.retarget(Side::B, B, local);
            }
            _ => {
                pair.settle();
                if pair.wire.is_empty() {
                    continue;
                }
                let index = dice.roll(pair.wire.len() as u64) as usize;
                let flying = pair.wire.remove(index).unwrap();
                match dice.roll(6) {
                    0 => {}
                    1 => {
                        pair.wire.push_back(flying.clone());
                        pair.deliver(flying);
                    }
                    _ => pair.deliver(flying),
                }
            }
        }
    }
    pair.filter = None;
    pair.pass_secs(400);
    let children = pair.a.installed().len();
    let ikes = pair.a.established().len();
    assert!(ikes <= 1, "seed {seed}: {ikes} IKE SAs {}", pair.story());
    pair.assert_healthy(ikes, children);
    assert_eq!(pair.a.inits() + pair.b.inits(), 1, "seed {seed}: nothing was lost for good, so nobody starts afresh {}", pair.story());
    // And it still works.
    pair.want(Side::B, 1);
    pair.run();
    pair.pass_secs(30);
    let children = pair.a.installed().len();
    assert!(children >= 1, "seed {seed}");
    pair.assert_healthy(1, children);
}

#[test]
fn chaos_settles() {
    let only = std::env::var("CHAOS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds: Vec<u64> = only.map_or_else(|| (0..150).collect(), |seed| vec![seed]);
    for seed in seeds {
        println!("chaos seed {seed}");
        chaos(seed);
    }
}

#[test]
fn what_the_peer_begins_while_ours_is_being_prepared_serves_both() {
    for what in [Begin::Create, Begin::RekeyChild] {
        let mut pair = up(3);
        pair.a.kernel.held = true;
        begin(&mut pair, Side::A, what);
        pair.settle();
        begin(&mut pair, Side::B, what);
        pair.run();
        release_kernel(&mut pair, Side::A);
        pair.run();
        pair.pass_secs(20);
        pair.assert_healthy(1, if what == Begin::Create { 2 } else { 1 });
    }
}

#[test]
fn the_operator_closes_an_ike_sa_whose_peer_is_dead() {
    let mut pair = up(3);
    pair.a.config.remotes[0].role = watari_policies::MobilityRole::MobileNode { home_address: ip(HOA) };
    pair.filter = Some(Box::new(|_, _| false));
    let ike = pair.a.established()[0];
    pair.close(Side::A, Target::Ike(ike));
    pair.settle();
    assert_eq!(pair.a.ike.statuses()[0].state, watari_sa::IkeState::Closing);
    pair.pass_secs(200);
    assert!(pair.a.ike.statuses().is_empty() && pair.a.children.is_empty());
    assert_eq!(pair.a.inits(), 1, "closed means closed");
}
