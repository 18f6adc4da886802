//! Every scenario in the simulator; a failure prints the reasons and the timeline.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use watari_crypto::{FakeProvider, Provider, RustCryptoProvider};
use watari_kernel::mirror::Model;
use watari_sim::scenario::RunsOn;
use watari_sim::{Report, Scenario, Setting, World, scenarios};

fn run(scenario: &Scenario, seed: u64, provider: Arc<dyn Provider>, model: Model) -> (Report, String) {
    let mut still = || Duration::ZERO;
    let mut world = World::new(scenario, seed, Setting { provider, model }, &mut still);
    let report = world.run();
    let mut timeline = String::new();
    for line in world.timeline() {
        let _ = writeln!(timeline, "{line}");
    }
    (report, timeline)
}

fn must_pass(scenario: &Scenario, seed: u64, provider: Arc<dyn Provider>, model: Model) -> Option<String> {
    let (report, timeline) = run(scenario, seed, provider, model);
    let why = report.reasons.join("\n  ");
    (!report.passed).then(|| format!("{} seed {seed} as {model:?}:\n  {why}\n{timeline}", scenario.name))
}

fn all_pass(seeds: std::ops::RangeInclusive<u64>, model: Model) {
    let mut failures = Vec::new();
    for scenario in scenarios::all() {
        if model == Model::Linux6_12 && scenario.runs_on == RunsOn::NotOnNewer {
            continue;
        }
        failures.extend(seeds.clone().find_map(|seed| must_pass(&scenario, seed, Arc::new(FakeProvider), model)));
    }
    let names: Vec<&str> = failures.iter().filter_map(|failure| failure.lines().next()).collect();
    assert!(failures.is_empty(), "{}\nfailed: {names:#?}", failures.join("\n"));
}

#[test]
fn every_scenario_passes_as_6_1() {
    all_pass(1..=10, Model::Linux6_1);
}

#[test]
fn every_scenario_passes_as_6_12() {
    all_pass(1..=1, Model::Linux6_12);
}

#[test]
fn the_main_job_with_real_cryptography() {
    let roam = scenarios::find("roam").unwrap();
    assert_eq!(must_pass(&roam, 7, Arc::new(RustCryptoProvider), Model::Linux6_1), None);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for name in ["roam", "loss", "duplicates"] {
        let scenario = scenarios::find(name).unwrap();
        let once = run(&scenario, 5, Arc::new(FakeProvider), Model::Linux6_1);
        assert_eq!(once, run(&scenario, 5, Arc::new(FakeProvider), Model::Linux6_1), "{name}");
    }
    let loss = scenarios::find("loss").unwrap();
    let lost = |seed| run(&loss, seed, Arc::new(FakeProvider), Model::Linux6_1).0.pings_lost;
    assert_ne!((lost(1), lost(2), lost(3)), (lost(4), lost(5), lost(6)), "the seed must matter");
}

#[test]
fn scenario_names_are_unique_and_found() {
    for scenario in scenarios::all() {
        assert_eq!(scenarios::find(scenario.name).map(|found| found.sentence), Some(scenario.sentence));
    }
    assert!(scenarios::find("nothing").is_none());
}
