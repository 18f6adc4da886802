//! Shared by the tests: a scenario played as on Linux 6.1, without ciphers and with no clock that runs.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::sync::Arc;
use std::time::Duration;

use watari_crypto::FakeProvider;
use watari_kernel::mirror::Model;
use watari_sim::{Report, Scenario, Setting, World};

pub(crate) fn setting() -> Setting {
    Setting { provider: Arc::new(FakeProvider), model: Model::Linux6_1 }
}

/// Plays a scenario and looks at the world that it leaves.
pub(crate) fn played<T>(scenario: &Scenario, seed: u64, look: impl FnOnce(&World<'_>, Report) -> T) -> T {
    let mut still = || Duration::ZERO;
    let mut world = World::new(scenario, seed, setting(), &mut still);
    let report = world.run();
    look(&world, report)
}

/// The report of a scenario and its timeline, a line an entry.
pub(crate) fn narrated(scenario: &Scenario) -> (Report, String) {
    played(scenario, 3, |world, report| (report, world.timeline().iter().map(|line| format!("{line}\n")).collect()))
}
