//! SHISA's silence: what the scenarios show must go wrong where the mobile node does not follow its own addresses.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::narrated;
use watari_crypto::FakeProvider;
use watari_kernel::mirror::Model;
use watari_sim::{Scenario, Setting, World, scenarios};

fn find(name: &str) -> Scenario {
    scenarios::find(name).unwrap()
}

#[test]
fn ike_follows_home_and_away_although_nobody_tells() {
    for name in ["shisa-home", "shisa-home-no-migrate", "shisa-transport"] {
        let (report, timeline) = narrated(&find(name));
        assert!(report.passed, "{name}: {:?}\n{timeline}", report.reasons);
        assert!(timeline.contains("IKE with home-agent goes on at home: this host's own addresses"), "{name}\n{timeline}");
        assert!(report.handovers.iter().filter(|handover| handover.to == "home").all(|handover| handover.migrate_events == 0), "{name}");
    }
}

#[test]
fn a_mobile_node_that_waits_for_migrate_is_left_behind() {
    let mut scenario = find("shisa-transport");
    scenario.follows_addresses = false;
    let (report, timeline) = narrated(&scenario);
    let reasons = report.reasons.join("\n");
    assert!(reasons.contains("mn: IKE is at"), "{reasons}\n{timeline}");
}

#[test]
fn tunnels_are_told_of_after_the_acknowledgement_and_transport_never() {
    let (report, timeline) = narrated(&find("shisa-roam"));
    assert!(report.passed, "{:?}\n{timeline}", report.reasons);
    let told: Vec<u32> = report.handovers.iter().map(|handover| handover.migrate_events).collect();
    assert_eq!(told, [2, 2, 0, 2], "out and in of the payload tunnel; home again to where the tunnel never left is f1\n{timeline}");
    let (_, silent) = narrated(&find("shisa-transport"));
    assert!(!silent.contains("MIGRATE"), "{silent}");
    let (_, updates) = narrated(&find("shisa-no-migrate"));
    assert!(!updates.contains("MIGRATE"), "{updates}");
}

#[test]
fn no_ike_message_where_keys_are_given_by_hand() {
    let scenario = find("manual-keying");
    let mut still = || Duration::ZERO;
    let mut world = World::new(&scenario, 3, Setting { provider: Arc::new(FakeProvider), model: Model::Linux6_12 }, &mut still);
    let report = world.run();
    assert!(report.passed && world.ike_datagrams().is_empty(), "{:?}", report.reasons);
    let kept = world.sas().filter(|(host, sa)| *host == "mn" && sa.protocol == 50).map(|(_, sa)| sa.spi.0).collect::<Vec<_>>();
    assert_eq!(kept.iter().map(|spi| format!("{spi:#x}")).collect::<std::collections::BTreeSet<_>>().len(), 4, "{kept:x?}");
}
