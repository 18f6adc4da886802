//! Child SAs that rest while a mobile node is at home (RFC 4877 4.2).
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod pair;

use pair::*;
use watari_sa::{Cause, ChildId, ChildState, KeyingEvent};

const PAYLOAD: u32 = 2;

fn set(pair: &mut Pair, child: ChildId, state: ChildState) {
    let now = pair.now;
    pair.a.with(now, |_, context| {
        context.children.update(child, |sa| sa.state = state);
    });
}

fn rekeyed(event: &KeyingEvent) -> bool {
    matches!(event, KeyingEvent::ChildRekeyed { .. })
}

fn expired(event: &KeyingEvent) -> bool {
    matches!(event, KeyingEvent::ChildDown { cause, .. } if *cause == Cause::EXPIRED)
}

/// A tunnel child that is due for renewal after 100 s and ends after 300 s, renewed by A only.
fn tunnel() -> Pair {
    let mut pair = Pair::new();
    pair.a.config.ipsecs[0].lifetime = lifetime(300, 100);
    pair.b.config.ipsecs[0].lifetime = lifetime(3000, 2000);
    pair.want(Side::A, PAYLOAD);
    pair.run();
    pair
}

#[test]
fn a_renewal_that_came_due_at_home_is_made_good_after_leaving() {
    let mut pair = tunnel();
    let child = pair.first_child(Side::A);
    set(&mut pair, child, ChildState::Dormant);
    pair.pass_secs(150);
    assert_eq!(pair.a.count(rekeyed), 0, "nothing is renewed that rests");
    set(&mut pair, child, ChildState::Installed);
    pair.pass_secs(145);
    assert_eq!((pair.a.count(rekeyed), pair.a.count(expired)), (1, 0), "renewed before its end");
    pair.assert_healthy(1, 1);
}

#[test]
fn what_rests_to_its_end_goes_without_a_renewal() {
    let mut pair = tunnel();
    let child = pair.first_child(Side::A);
    set(&mut pair, child, ChildState::Dormant);
    pair.pass_secs(310);
    assert_eq!((pair.a.count(rekeyed), pair.a.count(expired)), (0, 1));
    pair.assert_healthy(1, 0);
}
