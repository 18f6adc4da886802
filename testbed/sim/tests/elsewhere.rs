//! Binding updates through the tunnel that they move (RFC 4877 5).

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use watari_sim::{Report, World, scenarios};

/// The report of the scenario and what kernels dropped; those that compare outer sources are not Linux.
fn played(compares: bool) -> (Report, Vec<String>) {
    let scenario = scenarios::find("update-in-tunnel").unwrap();
    let mut still = || Duration::ZERO;
    let mut world = World::new(&scenario, 3, support::setting(), &mut still);
    if compares {
        world.compare_outer_sources();
    }
    let report = world.run();
    (report, world.counters())
}

/// The scenario sees what it is about: where kernels compare the outer source with that of the SA, the node never registers again.
#[test]
fn a_kernel_that_compares_outer_sources_drops_every_update_from_a_new_place() {
    let (report, _) = played(false);
    assert_eq!(report.reasons, Vec::<String>::new());
    let (report, counters) = played(true);
    let said = |words: &str| report.reasons.iter().any(|reason| reason.contains(words));
    assert!(!report.passed && said("0 binding updates came through the tunnel that they move, 2 expected"), "{:?}", report.reasons);
    assert!(said("mn: a registration is still under way"), "{:?}", report.reasons);
    let dropped = counters.iter().find_map(|counter| counter.strip_prefix("ha XfrmInStateMismatch ")).map(str::parse);
    assert!(matches!(dropped, Some(Ok(2_u32..))), "{counters:?}");
}
