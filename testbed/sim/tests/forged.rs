//! A forged movement where nobody verifies: the scenario must be able to fail, and without verification the forgery must succeed.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use support::narrated;
use watari_policies::Movements;
use watari_policies::profile::BindingSelector;
use watari_sim::{Scenario, scenarios};

fn forged() -> Scenario {
    scenarios::find("forged-movement").unwrap()
}

#[test]
fn ike_stays_with_the_mobile_node() {
    let (report, timeline) = narrated(&forged());
    assert!(report.passed, "{:?}\n{timeline}", report.reasons);
    let at = |words: &str| timeline.find(words).unwrap_or_else(|| panic!("{words:?} is missing in\n{timeline}"));
    assert!(at("sends a binding update in the name of mn") < at("binding: 2001:db8:1::abcd is at core"));
    assert!(at("IKE-V01") < at("the peer answers from f2, whatever MIGRATE said"));
}

#[test]
fn typed_policies_are_verified_without_being_asked() {
    let (report, timeline) = narrated(&Scenario { movements: Movements::default(), ..forged() });
    assert!(report.passed, "{:?}\n{timeline}", report.reasons);
    assert!(timeline.contains("IKE-V02"), "{timeline}");
}

#[test]
fn where_nobody_listens_ike_follows_the_forgery_and_the_scenario_says_so() {
    let (report, timeline) = narrated(&Scenario { movements: Movements::default(), blind: true, ..forged() });
    assert!(!report.passed);
    let reasons = report.reasons.join("\n");
    assert!(reasons.contains("0 movements doubted"), "{reasons}\n{timeline}");
    assert!(reasons.contains("2001:db8:b::c"), "IKE is at the attacker's address: {reasons}\n{timeline}");
}

#[test]
fn an_any_type_policy_closes_the_hole() {
    let (report, timeline) = narrated(&Scenario { binding: BindingSelector::Any, ..forged() });
    assert!(report.reasons.join("\n").contains("0 movements doubted"), "{timeline}");
    assert!(!timeline.contains("is at core"), "the kernel drops the forged update: {timeline}");
}
