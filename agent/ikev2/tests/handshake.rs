//! IKE_SA_INIT and IKE_AUTH between two endpoints.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod pair;

use pair::*;
use watari_policies::{Mode, PolicyId, Secret, SecretId, Selector};
use watari_sa::{Cause, KeyingEvent};

#[test]
fn transport_child_in_ike_auth() {
    let pair = Pair::up();
    let sa = pair.a.installed()[0];
    assert_eq!((sa.mode, sa.policy), (Mode::Transport, PolicyId(0)));
    assert_eq!(sa.outbound.endpoints.src, ip(HOA), "transport SAs are between the home address and the home agent");
    // Outbound carries type 5 and inbound type 6: each direction with the type that is sent in it.
    assert_eq!((sa.outbound.selector.sport.value, sa.outbound.selector.sport.mask), (5, 0xffff));
    assert_eq!((sa.inbound.selector.sport.value, sa.inbound.selector.dport.mask), (6, 0));
    assert_eq!(pair.a.inits(), 1);
    assert_eq!(pair.a.sent.len(), 2, "IKE_SA_INIT and IKE_AUTH");
    assert_eq!(pair.a.count(|event| matches!(event, KeyingEvent::IkeUp { .. })), 1);
    assert_eq!(pair.b.count(|event| matches!(event, KeyingEvent::ChildUp(_))), 1);
}

#[test]
fn tunnel_child_uses_the_addresses_of_ike() {
    let mut pair = Pair::new();
    pair.want(Side::A, 2);
    pair.run();
    pair.assert_healthy(1, 1);
    let sa = pair.a.installed()[0];
    assert_eq!((sa.mode, sa.outbound.endpoints.src, sa.outbound.endpoints.dst), (Mode::Tunnel, ip(A), ip(B)));
}

#[test]
fn wishes_for_other_policies_follow_in_create_child_sa() {
    let mut pair = Pair::new();
    for policy in 0..3 {
        pair.want(Side::A, policy);
    }
    pair.want(Side::A, 1);
    pair.run();
    pair.assert_healthy(1, 3);
    assert_eq!((pair.a.inits(), pair.a.sent.len()), (1, 4));
}

#[test]
fn wrong_secret_is_told_to_both() {
    let mut pair = Pair::new();
    pair.b.secrets.insert(SecretId(1), Secret::from(&b"another"[..]));
    pair.want(Side::A, 0);
    pair.run();
    pair.assert_healthy(0, 0);
    for host in [&pair.a, &pair.b] {
        let down = |event: &KeyingEvent| matches!(event, KeyingEvent::IkeDown { cause, .. } if *cause == Cause::AUTHENTICATION_FAILED);
        assert_eq!(host.count(down), 1, "{:#?}", host.events);
    }
    assert_eq!(pair.a.count(|event| matches!(event, KeyingEvent::WantFailed { cause, .. } if *cause == Cause::AUTHENTICATION_FAILED)), 1);
}

#[test]
fn packet_that_asked_comes_first_and_is_narrowed_to_the_policy() {
    let mut pair = Pair::new();
    let packet = Selector::between(format!("{HOA}/128").parse().unwrap(), "2001:db8:99::7/128".parse().unwrap()).protocol(6);
    pair.acquire(Side::A, 2, packet);
    pair.run();
    pair.assert_healthy(1, 1);
    assert_eq!(pair.a.installed()[0].policy, PolicyId(2));
}
