//! Binding updates that later ones have overtaken, and those that have overtaken nothing yet.

use super::key_mobility::{OBSERVE, home_agent_with, home_burst};
use super::*;
use watari_policies::{KeyMobility, MovementSource, Movements};
use watari_sa::{Cause, Whereabouts as _};

use crate::vici::Section;

const CN: &str = "2001:db8:b::c";

fn ike_address(bench: &Bench) -> Option<KmAddress> {
    bench.agent.core.places.ike_addresses(RemoteId(0))
}

#[test]
fn a_binding_update_that_a_later_one_has_overtaken_stands_behind_nothing() {
    // There and back; and home, where the lifetime is 0.
    for back in [COA1, HOA] {
        let mut bench = home_agent_with(OBSERVE);
        bench.update(1000, 2, COA2, true);
        bench.burst(1005, home_burst(COA1, COA2));
        bench.update(3000, 3, back, true);
        bench.burst(3005, home_burst(COA2, back));
        bench.asked();
        assert_eq!(ike_address(&bench), Some(km(HA, back)));
        // Somebody forges a binding update in clear for the place that the node has left.
        bench.burst(8000, home_burst(back, COA2));
        assert_eq!(bench.asked(), [Asked::Prove(IkeId(1), km(HA, COA2))]);
        assert_eq!(ike_address(&bench), Some(km(HA, back)));
        // The node itself may go there again.
        bench.update(9000, 4, COA2, true);
        assert_eq!(bench.asked(), [Asked::Retarget(IkeId(1), km(HA, COA2))]);
    }
}

#[test]
fn sequence_numbers_are_compared_modulo_two_to_the_sixteenth() {
    let mut bench = home_agent_with(OBSERVE);
    for (at, sequence, old, new) in [(1000, 0x7000, COA1, COA2), (2000, 0xe000, COA2, COA1), (3000, 0x0001, COA1, CN)] {
        bench.update(at, sequence, new, true);
        bench.burst(at + 5, home_burst(old, new));
        assert_eq!(bench.asked(), [Asked::Retarget(IkeId(1), km(HA, new))]);
    }
    bench.burst(4000, home_burst(CN, COA1));
    assert_eq!(bench.asked(), [Asked::Prove(IkeId(1), km(HA, COA1))]);
}

#[test]
fn a_binding_update_whose_movement_is_still_to_come_overtakes_nothing() {
    // Away to COA2, and on before the first movement is told: elsewhere, home, or back to where the node was.
    for next in [CN, HOA, COA1] {
        let mut bench = home_agent_with(OBSERVE);
        bench.update(1000, 2, COA2, true);
        bench.update(1010, 3, next, true);
        bench.burst(1020, home_burst(COA1, COA2));
        assert_eq!(bench.asked(), [Asked::Retarget(IkeId(1), km(HA, COA2))], "before {next}");
        bench.burst(1030, home_burst(COA2, next));
        assert_eq!(bench.asked(), [Asked::Retarget(IkeId(1), km(HA, next))]);
        bench.burst(1040, home_burst(next, COA2));
        assert_eq!(bench.asked(), [Asked::Prove(IkeId(1), km(HA, COA2))], "after {next}");
    }
    // A later one that the daemon refuses.
    let mut bench = home_agent_with(OBSERVE);
    bench.update(1000, 2, COA2, true);
    bench.update(1010, 3, CN, true);
    bench.burst(1020, home_burst(COA1, COA2));
    bench.asked();
    assert_eq!(ike_address(&bench), Some(km(HA, COA2)));
    // What it sends next from there is accepted without a movement; after a while the refused one is forgotten.
    bench.update(50_000, 5, COA2, true);
    bench.burst(51_000, home_burst(COA2, CN));
    assert_eq!(bench.asked(), [Asked::Prove(IkeId(1), km(HA, CN))]);
}

#[test]
fn a_binding_update_that_the_daemon_refuses_for_its_sequence_number_is_no_evidence() {
    let alone = Movements { key_mobility: KeyMobility::Assume, source: MovementSource::Observe, ..Movements::default() };
    for movements in [OBSERVE, alone] {
        let mut bench = home_agent_with(movements);
        bench.update(1000, 7, COA2, true);
        bench.burst(1005, home_burst(COA1, COA2));
        bench.asked();
        bench.told();
        // Held back on the way, long enough for everybody to have forgotten that others came before it.
        bench.update(40_000, 6, CN, false);
        assert_eq!((bench.asked(), bench.told()), (vec![], vec![]));
        bench.burst(40_005, home_burst(COA2, CN));
        assert_eq!(bench.asked(), [Asked::Prove(IkeId(1), km(HA, CN))]);
        // The binding lives for a minute; without one, any number is taken: the node has lost its own.
        let mut bench = home_agent_with(movements);
        bench.update(1000, 7, COA2, true);
        bench.burst(1005, home_burst(COA1, COA2));
        bench.asked();
        bench.update(62_000, 3, CN, true);
        bench.burst(62_005, home_burst(COA2, CN));
        assert_eq!(bench.asked(), [Asked::Retarget(IkeId(1), km(HA, CN))]);
    }
    // Home ends the binding at once.
    let mut bench = home_agent_with(OBSERVE);
    bench.update(1000, 7, HOA, true);
    bench.burst(1005, home_burst(COA1, HOA));
    bench.update(2000, 3, CN, true);
    bench.asked();
    bench.burst(2005, home_burst(HOA, CN));
    assert_eq!(bench.asked(), [Asked::Retarget(IkeId(1), km(HA, CN))]);
}

#[test]
fn a_movement_without_a_binding_update_leaves_none_of_the_earlier_ones() {
    let mut bench = home_agent_with(OBSERVE);
    bench.update(1000, 2, COA2, true);
    bench.burst(1005, home_burst(COA1, COA2));
    bench.burst(2000, home_burst(COA2, CN));
    bench.asked();
    let path = Path::between(ip(HA), ip(CN), 500);
    bench.event(2100, KeyingEvent::PathProved { ike: IkeId(1), path });
    assert_eq!(ike_address(&bench), Some(km(HA, CN)));
    bench.asked();
    bench.burst(3000, home_burst(CN, COA2));
    assert_eq!(bench.asked(), [Asked::Prove(IkeId(1), km(HA, COA2))]);
}

/// Where nobody can be: everybody's, nobody's, this host's, somewhere on every link, and the home agent itself.
const NOWHERE: [&str; 6] = ["ff02::1", "::", "::1", "fe80::7", "::ffff:192.0.2.1", HA];

#[test]
fn a_protected_binding_update_for_an_address_where_nobody_can_be_is_no_evidence() {
    let alone = Movements { key_mobility: KeyMobility::Assume, source: MovementSource::Observe, ..Movements::default() };
    for (care_of, movements) in NOWHERE.into_iter().flat_map(|care_of| [(care_of, OBSERVE), (care_of, alone)]) {
        let mut bench = home_agent_with(movements);
        bench.update(1000, 2, care_of, true);
        assert_eq!(bench.asked(), [], "{care_of}");
        let told = bench.told();
        let refused = |event: &Event| matches!(event, Event::Notice { cause: Cause::MALFORMED, detail } if detail.contains(care_of));
        assert!(matches!(told.as_slice(), [event] if refused(event)), "{told:?}");
        assert_eq!(bench.agent.core.counters.drops.get(Cause::MALFORMED.code), Some(&1));
        assert_eq!(ike_address(&bench), Some(km(HA, COA1)));
        // And a MIGRATE that tells of it has nothing behind it; one without addresses tells of nothing.
        bench.burst(1005, home_burst(COA1, care_of));
        assert!(!bench.asked().iter().any(|asked| matches!(asked, Asked::Retarget(..))));
        assert_eq!(ike_address(&bench), Some(km(HA, COA1)));
    }
}

#[test]
fn a_daemon_that_tells_of_an_address_where_nobody_can_be_is_refused_in_words() {
    let told = |care_of: &str| Section::new().with("home-address", HOA).with("care-of-address", care_of).with("k", "yes");
    let mut bench = home_agent_with(Movements::default());
    for care_of in NOWHERE.into_iter().chain(["192.0.2.1"]) {
        let answer = bench.tell_registration(1000, told(care_of));
        let why = answer.text("errmsg").unwrap_or_default();
        assert!(answer.text("success") == Some("no") && why.contains(care_of), "{care_of}: {answer:?}");
        assert_eq!((bench.asked(), ike_address(&bench)), (vec![], Some(km(HA, COA1))));
    }
    // Home it may go.
    assert_eq!(bench.tell_registration(2000, told(HOA)).text("success"), Some("yes"));
    assert_eq!(ike_address(&bench), Some(km(HA, HOA)));
}
