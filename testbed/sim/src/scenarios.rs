//! The list of scenarios, written once for the simulator and the real kernel.

use std::time::Duration;

use crate::scenario::{Action, Expectation, Link, PingTarget, Scenario};

const PING: Duration = Duration::from_millis(100);

/// Every scenario, in the order of `cargo testbed list`.
pub fn all() -> Vec<Scenario> {
    vec![register_away()]
}

/// The scenario of a name.
pub fn find(name: &str) -> Option<Scenario> {
    all().into_iter().find(|scenario| scenario.name == name)
}

fn ping(scenario: Scenario, at_ms: u64, target: PingTarget) -> Scenario {
    scenario.then(at_ms, Action::Ping { node: "mn", target, every: PING })
}

fn register_away() -> Scenario {
    let scenario =
        Scenario::new("register-away", "A mobile node boots on a foreign link: IKE from its care-of address, then BU, BA and payload.");
    let scenario = ping(scenario, 5_000, PingTarget::HomeAgent);
    Scenario { expect: Expectation { answered: 20, ..Expectation::default() }, ..scenario }
}
