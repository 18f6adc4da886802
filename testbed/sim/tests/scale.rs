//! A home agent at scale: nobody loses an SA, one IKE_SA_INIT each, whatever the order in which nodes come.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use watari_sim::fleet::{Outcome, Plan, run};

fn plan(nodes: u32) -> Plan {
    Plan { nodes, seed: 7, within: Duration::from_secs(60), loss: 10, ike_lifetime: 14_400 }
}

fn sound(plan: Plan) -> Outcome {
    let outcome = run(plan).unwrap();
    assert!(outcome.is_sound(plan.nodes), "{outcome:#?}");
    outcome
}

#[test]
fn a_hundred_nodes_come_in_any_order_and_all_move_within_a_minute() {
    let outcome = sound(plan(100));
    assert!(outcome.datagrams.1 > 0, "something was lost, and repeated");
    assert_eq!(outcome, run(plan(100)).unwrap(), "the same plan gives the same run");
    sound(Plan { seed: 8, ..plan(100) });
}

//= rfc7296#2.19
//# an assigned address persists at least until the IKE SA and its successors are gone
#[test]
fn ike_sas_are_rekeyed_while_their_nodes_move_and_addresses_stay() {
    let outcome = sound(Plan { ike_lifetime: 40, ..plan(50) });
    assert!(outcome.rekeyed >= 150, "{outcome:?}");
}

#[test]
fn a_fleet_that_cannot_keep_its_sas_is_found_out() {
    // Everything is lost: nothing comes up, and the judge says so.
    let outcome = run(Plan { loss: 1000, ..plan(3) }).unwrap();
    assert!(!outcome.faults.is_empty());
    assert_eq!(outcome.pairs, 0);
}

/// In `check --long`, in a build of its own, ten thousand: `cargo testbed check --long scale`.
#[test]
fn a_thousand_nodes_move_within_a_minute() {
    sound(plan(1000));
}
