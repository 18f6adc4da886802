//! What the simulator allows and what it does not: handshakes cut off by a move, keys after a reboot, renewals due at home.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod support;

use std::time::Duration;

use support::played;
use watari_policies::Lifetime;
use watari_sim::scenario::{Action, Expectation, HA, Link, PingTarget};
use watari_sim::timeline::Happening;
use watari_sim::{Scenario, scenarios};

/// On links that lose everything for a while a move falls into a handshake that nobody has answered: begun afresh, and counted.
#[test]
fn a_second_handshake_is_right_exactly_where_a_move_cut_off_the_first() {
    let loss = scenarios::find("loss").unwrap();
    let (mut seen, mut usual) = (0, 0);
    for seed in 100..400 {
        let (cut_off, report) = played(&loss, seed, |world, report| (world.cut_off(), report));
        assert_eq!(report.ike_sa_init, 1 + cut_off, "seed {seed}");
        assert!(report.passed, "seed {seed}: {:?}", report.reasons);
        if cut_off == 0 { usual += 1 } else { seen += 1 }
    }
    assert!(seen > 0 && usual > 290, "{seen} cut off, {usual} not: the rule must be the exception");
}

/// The same count without a move is a fault: a scenario that expects one handshake too few fails, lossy or not.
#[test]
fn more_handshakes_than_moves_explain_fail_the_run() {
    let loss = scenarios::find("loss").unwrap();
    let none = Scenario { expect: Expectation { ike_sa_init: 0, ..loss.expect }, ..loss };
    let report = played(&none, 1, |_, report| report);
    assert!(report.reasons.iter().any(|reason| reason == "1 IKE_SA_INIT sent, 0 expected"), "{:?}", report.reasons);
    let init = scenarios::find("move-during-init").unwrap();
    let one = Scenario { expect: Expectation { ike_sa_init: 1, ..init.expect }, ..init };
    let (cut_off, report) = played(&one, 1, |world, report| (world.cut_off(), report));
    assert_eq!((cut_off, report.passed), (1, false), "without loss the scenario says how many");
}

/// A host that reboots has its keys back in seconds, long before a liveness check would give up (RFC 7296 2.4: minutes).
#[test]
fn keys_are_back_seconds_after_a_reboot() {
    for (name, host) in [("mn-host-restart", "mn"), ("ha-host-restart", HA)] {
        let scenario = scenarios::find(name).unwrap();
        for seed in 1..=20 {
            played(&scenario, seed, |world, _| {
                let up = world.timeline().iter().find(|line| line.what == Happening::HostUp).expect("it reboots").at;
                let ike = |what: &Happening| matches!(what, Happening::Agent(words) if words.up);
                let back = world.timeline().iter().find(|line| line.host == host && line.at > up && ike(&line.what)).expect("an IKE SA");
                let took = back.at.saturating_sub(up);
                // The mobile node needs its link and DAD; the home agent is missed after five seconds of one-way traffic.
                assert!(took < Duration::from_secs(5), "{name} seed {seed}: {took:?}");
            });
        }
    }
}

/// At home the tunnel rests; a renewal that came due there is made good after leaving, and no ping lacks its key for it.
#[test]
fn a_tunnel_whose_renewal_came_due_at_home_is_renewed_away() {
    let lifetime = Lifetime { hard: Duration::from_secs(60), soft: Duration::from_secs(20), ..Lifetime::of(Duration::from_secs(60)) };
    let go = |to| Action::Move { node: "mn", to };
    let mut scenario = Scenario::new("renewal-due-at-home", "The payload tunnel's soft lifetime ends at home.")
        .then(5_000, Action::Ping { node: "mn", target: PingTarget::HomeAgent, every: Duration::from_millis(100) })
        .then(12_000, go(Link::Home))
        .then(40_000, go(Link::F2));
    scenario.child_lifetime = lifetime;
    scenario.duration = Duration::from_secs(90);
    for seed in 1..=20 {
        played(&scenario, seed, |world, report| {
            assert!(report.passed, "seed {seed}: {:?}", report.reasons);
            assert_eq!((report.ike_sa_init, world.lost()), (1, &[][..]), "seed {seed}");
        });
    }
}
