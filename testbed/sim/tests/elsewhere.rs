//! Binding updates through the tunnel that they move (RFC 4877 5).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::sync::Arc;
use std::time::Duration;

use watari_crypto::FakeProvider;
use watari_kernel::mirror::Model;
use watari_sim::{Report, Setting, World, scenarios};

fn run(compares: bool) -> (Report, Vec<String>) {
    let scenario = scenarios::find("update-in-tunnel").unwrap();
    let mut still = || Duration::ZERO;
    let mut world = World::new(&scenario, 3, Setting { provider: Arc::new(FakeProvider), model: Model::Linux6_1 }, &mut still);
    if compares {
        world.compare_outer_sources();
    }
    let report = world.run();
    (report, world.counters())
}

/// The scenario sees what it is about: kernels that compare the outer source with that of the SA never let the node register again.
#[test]
fn a_kernel_that_compares_outer_sources_drops_every_update_from_a_new_place() {
    let (report, _) = run(false);
    assert_eq!(report.reasons, Vec::<String>::new());
    let (report, counters) = run(true);
    let said = |words: &str| report.reasons.iter().any(|reason| reason.contains(words));
    assert!(!report.passed && said("0 binding updates came through the tunnel that they move, 2 expected"), "{:?}", report.reasons);
    assert!(said("mn: a registration is still under way"), "{:?}", report.reasons);
    let dropped = counters.iter().find_map(|counter| counter.strip_prefix("ha XfrmInStateMismatch ")).map(str::parse);
    assert!(matches!(dropped, Some(Ok(2..))), "{counters:?}");
}
