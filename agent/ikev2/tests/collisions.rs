//! Exchanges that cross (RFC 7296 2.8.1, 2.8.2, 2.25) and messages that are lost, repeated or late.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod pair;

use std::collections::BTreeSet;

use pair::*;
use watari_sa::{Keying, KeyingEvent, Owner, Target, Trigger, Want};
use watari_wire::ikev2::{Payload, PayloadType, decode_chain};

fn up(seed: u8) -> Pair {
    let mut pair = Pair::seeded(seed).readable();
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

/// The payloads of a CREATE_CHILD_SA message under the fake provider, which leaves the text readable: header, SK header, IV, text, ICV.
fn create_child_payloads(host: &Host) -> Vec<(bool, Vec<Payload>)> {
    let messages = host.sent.iter().filter(|sent| kind(&sent.octets).0 == 36);
    let read = |octets: &[u8]| decode_chain(PayloadType(octets[28]), &octets[40..octets.len() - 17], 40).unwrap();
    messages.map(|sent| (kind(&sent.octets).2, read(&sent.octets))).collect()
}

fn nonce_and_spi(payloads: &[Payload]) -> (Vec<u8>, Vec<u8>) {
    let nonce = payloads.iter().find_map(|payload| if let Payload::Nonce(nonce) = payload { Some(nonce.clone()) } else { None });
    let spi =
        payloads.iter().find_map(|payload| if let Payload::SecurityAssociation(list) = payload { Some(list[0].spi.clone()) } else { None });
    (nonce.unwrap(), spi.unwrap())
}

/// Whether the exchange that A began must survive, and A's SPIs: in its own request, in its response.
fn expectation(pair: &Pair) -> (bool, Vec<u8>, Vec<u8>) {
    let of = |host: &Host, response: bool| {
        let found = create_child_payloads(host).into_iter().find(|(answers, _)| *answers == response);
        nonce_and_spi(&found.unwrap().1)
    };
    let (a_request, a_response) = (of(&pair.a, false), of(&pair.a, true));
    let (b_request, b_response) = (of(&pair.b, false), of(&pair.b, true));
    let ours = a_request.0.min(b_response.0);
    let theirs = b_request.0.min(a_response.0);
    (ours > theirs, a_request.1, a_response.1)
}

#[test]
fn of_two_child_rekeys_the_one_with_the_lowest_nonce_goes() {
    let mut verdicts = BTreeSet::new();
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
            let (a_survives, in_request, in_response) = expectation(&pair);
            let spi = pair.a.installed()[0].inbound.spi.0.to_be_bytes().to_vec();
            assert_eq!(spi, if a_survives { in_request } else { in_response }, "seed {seed}");
            verdicts.insert(a_survives);
        }
    }
    assert_eq!(verdicts.len(), 2, "the nonces decided both ways");
}

#[test]
fn what_crossing_child_rekeys_replaced_or_made_in_vain_receives_a_while_longer() {
    for seed in 0..10 {
        for b_first in [false, true] {
            let mut pair = up(seed);
            let (ours, theirs) = (pair.first_child(Side::A), pair.first_child(Side::B));
            pair.rekey(Side::A, Target::Child(ours));
            pair.rekey(Side::B, Target::Child(theirs));
            run_in_order(&mut pair, b_first);
            // Both delete exchanges are over; packets on the old one and on the redundant one may still be under way.
            for host in [&pair.a, &pair.b] {
                let inbound = host.children.iter().filter(|sa| sa.inbound.installed && host.kernel.sas.contains_key(&sa.inbound_id()));
                assert_eq!(inbound.count(), 3, "seed {seed}{}", pair.story());
                assert_eq!(host.installed().len(), 1);
            }
            pair.pass_secs(10);
            pair.assert_healthy(1, 1);
            assert_eq!((pair.a.children.len(), pair.b.children.len()), (1, 1), "then they go");
        }
    }
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
            let status = pair.a.ike.statuses().remove(0);
            initiators.insert(status.initiator);
            let (a_survives, ..) = expectation(&pair);
            assert_eq!(status.initiator, a_survives, "seed {seed}");
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
            let mut pair = Pair::seeded(seed).readable();
            for host in [&mut pair.a, &mut pair.b] {
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

/// Both sides start at once over a network that loses a third of everything, several times over.
fn stormy_start(seed: u64) {
    let mut dice = Dice(seed);
    let mut pair = Pair::seeded(seed as u8).readable();
    for host in [&mut pair.a, &mut pair.b] {
        host.config.remotes[0].initial_contact = true;
        host.config.remotes[0].retransmit.tries = 40;
        host.config.remotes[0].liveness = Some(std::time::Duration::from_secs(20));
    }
    let mut network = Dice(seed ^ 0x5555);
    pair.filter = Some(Box::new(move |_, _| network.roll(3) != 0));
    for policy in 0..3 {
        for side in [Side::A, Side::B] {
            if dice.roll(2) == 0 {
                pair.want(side, policy);
            }
            if dice.roll(2) == 0 {
                pair.pass(std::time::Duration::from_millis(dice.roll(1500)));
            }
        }
    }
    pair.want(Side::A, 0);
    pair.pass_secs(100);
    pair.filter = None;
    pair.pass_secs(200);
    let policies: BTreeSet<_> = pair.a.installed().iter().map(|sa| sa.policy).collect();
    assert!(!policies.is_empty());
    pair.assert_healthy(1, pair.a.installed().len());
}

/// Either side restarts at any time, host or daemon, while both go on with their business.
fn restarts(seed: u64) {
    let mut dice = Dice(seed);
    let mut pair = Pair::seeded(seed as u8).readable();
    for host in [&mut pair.a, &mut pair.b] {
        host.config.remotes[0].initial_contact = true;
        host.config.remotes[0].liveness = Some(std::time::Duration::from_secs(20));
    }
    pair.want(Side::A, 0);
    pair.run();
    for _ in 0..30 {
        let side = if dice.roll(2) == 0 { Side::A } else { Side::B };
        match dice.roll(6) {
            0 => {
                let host_too = dice.roll(2) == 0;
                restart(&mut pair, side, host_too);
                let adopted: Vec<_> = pair.host(side).children.iter().map(|sa| (sa.policy, sa.id)).collect();
                let now = pair.now;
                for (policy, child) in adopted {
                    let want = Want { policy, trigger: Trigger::Replace(child) };
                    pair.host(side).with(now, |ike, context| ike.want(context, want));
                }
            }
            1 | 2 => begin(&mut pair, side, BEGINNINGS[dice.roll(5) as usize]),
            3 => {
                let mut network = Dice(dice.0);
                pair.filter = Some(Box::new(move |_, _| network.roll(4) != 0));
                pair.pass(std::time::Duration::from_millis(dice.roll(3000)));
                pair.filter = None;
            }
            4 => pair.pass(std::time::Duration::from_millis(dice.roll(400))),
            _ => {
                pair.settle();
                if let Some(flying) = pair.wire.pop_front() {
                    pair.deliver(flying);
                }
            }
        }
    }
    pair.pass_secs(400);
    pair.want(Side::A, 0);
    pair.run();
    pair.pass_secs(60);
    let children = pair.a.installed().len();
    assert!(children >= 1, "seed {seed} {}", pair.story());
    pair.assert_healthy(1, children);
    assert!(pair.a.installed().iter().all(|sa| sa.owner != Owner::None), "seed {seed} {}", pair.story());
}

#[test]
fn restarts_are_survived() {
    for seed in 0..100 {
        println!("restart seed {seed}");
        restarts(seed);
    }
}

#[test]
fn storms_pass() {
    for seed in 0..100 {
        println!("storm seed {seed}");
        stormy_start(seed);
    }
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
