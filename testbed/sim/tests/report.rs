//! The result of a run: its exact fields, and that a run which misses an expectation says so.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod support;

use std::time::Duration;

use support::setting;
use watari_sim::scenario::{Action, Expectation, HA};
use watari_sim::{Report, Scenario, World, scenarios};

fn run(scenario: &Scenario) -> Report {
    let mut still = || Duration::ZERO;
    World::new(scenario, 1, setting(), &mut still).run()
}

#[test]
fn the_json_object_has_exactly_the_agreed_fields() {
    let report = run(&scenarios::find("roam").unwrap());
    let value: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
    let mut fields: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    fields.sort_unstable();
    let mut agreed = vec![
        "scenario",
        "backend",
        "seed",
        "passed",
        "ike_sa_init",
        "reauthentications",
        "sas_lost",
        "cleartext_packets",
        "pings_sent",
        "pings_lost",
        "pings_lost_for_key",
        "sad_matches_kernel",
        "handovers",
        "reasons",
    ];
    agreed.sort_unstable();
    assert_eq!(fields, agreed);
    let handovers = value["handovers"].as_array().unwrap();
    let places: Vec<(&str, &str)> =
        handovers.iter().map(|handover| (handover["from"].as_str().unwrap(), handover["to"].as_str().unwrap())).collect();
    assert_eq!(places, [("f1", "f2"), ("f2", "f3"), ("f3", "home"), ("home", "f1")]);
    for (handover, foreign) in handovers.iter().zip([true, true, false, true]) {
        assert_eq!(handover["migrate_events"], 4);
        assert_eq!(handover["address_wait_us"], if foreign { 1_700_000 } else { 0 });
        assert_eq!(handover["children_moved"], 1, "the transport pair stays where it is");
        assert!(handover["event_to_first_ike_us"].is_u64());
    }
}

#[test]
fn the_stopwatch_is_read_only_around_the_agent() {
    let scenario = scenarios::find("roam").unwrap();
    let mut readings = 0_u64;
    let mut ticking = || {
        readings += 1;
        Duration::from_micros(readings)
    };
    let report = World::new(&scenario, 1, setting(), &mut ticking).run();
    assert!(report.passed, "{:?}", report.reasons);
    for handover in &report.handovers {
        // Every call into the agent takes one tick here; a handful of calls lie between the event and the first packet.
        let ticks = handover.event_to_first_ike_us.unwrap();
        assert!((1..100).contains(&ticks), "{handover:?}");
    }
}

#[test]
fn missed_expectations_fail_the_run_with_their_reason() {
    let usual = scenarios::find("register-away").unwrap();
    let expect = Expectation { ike_sa_init: 2, children: 5, answered: 10_000, home_tests: 1, ..usual.expect };
    let report = run(&Scenario { expect, ..usual.clone() });
    assert!(!report.passed);
    for words in ["IKE_SA_INIT", "child SAs in the end", "pings answered", "Home Tests"] {
        assert!(report.reasons.iter().any(|reason| reason.contains(words)), "{words}: {:?}", report.reasons);
    }
    // A home agent that goes away for good is not talked away.
    let down = Duration::from_secs(3600);
    let report = run(&usual.then(8_000, Action::RestartHost { host: HA, down }));
    assert!(!report.passed, "pings stop: {report:?}");
}

#[test]
fn every_ike_datagram_and_its_keys_are_kept_for_a_capture() {
    let scenario = scenarios::find("register-away").unwrap();
    let mut still = || Duration::ZERO;
    let mut world = World::new(&scenario, 1, setting(), &mut still);
    assert!(world.run().passed);
    let exchanges: Vec<u8> = world.ike_datagrams().iter().map(|datagram| datagram.octets[18]).collect();
    assert_eq!(exchanges, [34, 34, 35, 35, 36, 36], "one handshake and one more child");
    assert!(world.ike_datagrams().iter().zip(world.ike_datagrams().iter().skip(1)).all(|(one, next)| one.at <= next.at));
    assert!(!world.keys().is_empty());
    let text: Vec<String> = world.timeline().iter().map(ToString::to_string).collect();
    assert!(text.iter().any(|line| line.contains("BA: registered at f1")), "{text:#?}");
}
