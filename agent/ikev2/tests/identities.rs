//! Who may have what: remotes chosen by identity for callers from anywhere, and home addresses that belong to somebody else.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod pair;

use std::time::Duration;

use pair::*;
use watari_kernel::Endpoints;
use watari_policies::pad::PadEntry;
use watari_policies::{AddressRange, Identity, MobilityRole, Mode, Pad, PolicyId, RemoteId, Secret, SecretId, Traffic, TrafficItem};
use watari_sa::{Cause, Keying, KeyingEvent, Target};

/// The second caller's home address.
const HOA2: &str = "2001:db8:1::abce";

fn fqdn(text: &str) -> Identity {
    Identity::Fqdn(text.to_owned())
}

/// B serves two callers, `w1` and `w2`, from anywhere, each with its own secret, home address and pair of policies: transport for binding
/// updates, a tunnel for everything.
fn gateway() -> Pair {
    let mut pair = Pair::new();
    let everything = TrafficItem::any(AddressRange::ANY_V6);
    let policies = |home: &str| {
        let transport = policy("bu", Mode::Transport, mh(HA, 6), mh(home, 5), 1);
        [transport, policy("tunnel", Mode::Tunnel, everything, any(home), 3)]
    };
    let b = &mut pair.b;
    b.config.remotes = vec![remote("first", "b.example", "w1.example"), remote("second", "b.example", "w2.example")];
    b.config.remotes[1].authentication = watari_policies::model::Authentication::Psk(SecretId(2));
    b.config.policies = policies(HOA).into_iter().chain(policies(HOA2)).collect();
    b.config.policies[2..].iter_mut().for_each(|policy| policy.remote = RemoteId(1));
    b.places.modes = [(1, Mode::Tunnel), (3, Mode::Tunnel)].map(|(id, mode)| (PolicyId(id), mode)).into();
    b.secrets = [(SecretId(1), Secret::from(&b"secret one"[..])), (SecretId(2), Secret::from(&b"secret two"[..]))].into();
    let entry = |name: &str, home: &str| PadEntry { identity: Some(fqdn(name)), prefixes: vec![format!("{home}/128").parse().unwrap()] };
    b.config.pad = Pad::from_iter([entry("w1.example", HOA), entry("w2.example", HOA2)]);
    become_caller(&mut pair, "w1.example", "secret one", HOA);
    pair
}

/// A is a caller of this name, with this secret, who asks for SAs of this home address.
fn become_caller(pair: &mut Pair, name: &str, secret: &str, home: &str) {
    let a = &mut pair.a;
    a.config.remotes[0].local_identity = fqdn(name);
    a.secrets.insert(SecretId(1), Secret::from(secret.as_bytes()));
    let everything = TrafficItem::any(AddressRange::ANY_V6);
    a.config.policies =
        vec![policy("bu", Mode::Transport, mh(home, 5), mh(HA, 6), 2), policy("tunnel", Mode::Tunnel, any(home), everything, 4)];
    a.places.modes = [(PolicyId(1), Mode::Tunnel)].into();
    a.places.transport = Endpoints { src: ip(home), dst: ip(HA) };
    pair.b.places.transport = pair.a.places.transport.reversed();
    pair.a.ike.reconfigured();
}

fn down(host: &Host, cause: Cause) -> Vec<(Option<RemoteId>, String)> {
    let told = host.events.iter().filter_map(|event| match event {
        KeyingEvent::IkeDown { cause: why, remote, detail, .. } if *why == cause => Some((*remote, detail.clone())),
        _ => None,
    });
    told.collect()
}

fn dropped(host: &Host, cause: Cause) -> Vec<String> {
    let told = host.events.iter().filter_map(|event| match event {
        KeyingEvent::Dropped { cause: why, detail, .. } if *why == cause => Some(detail.clone()),
        _ => None,
    });
    told.collect()
}

#[test]
fn two_callers_from_one_address_are_told_apart_by_identity() {
    let mut pair = gateway();
    pair.b.config.remotes[0].lifetime = lifetime(1000, 800);
    pair.b.config.remotes[1].lifetime = lifetime(5000, 4000);
    pair.want(Side::A, 1);
    pair.run();
    pair.assert_healthy(1, 1);
    // The same address, another name, another secret.
    restart(&mut pair, Side::A, true);
    become_caller(&mut pair, "w2.example", "secret two", HOA2);
    pair.want(Side::A, 1);
    pair.run();
    assert_eq!(pair.a.installed().len(), 1, "{}", pair.story());
    let statuses = pair.b.ike.statuses();
    assert_eq!(statuses.iter().map(|status| status.remote).collect::<Vec<_>>(), [Some(RemoteId(0)), Some(RemoteId(1))]);
    let children: Vec<_> = pair.b.installed().iter().map(|sa| (sa.remote, sa.policy)).collect();
    assert_eq!(children, [(RemoteId(0), PolicyId(1)), (RemoteId(1), PolicyId(3))], "neither disturbs the other");
    // Everything else is the chosen remote's too.
    let left = |index: usize| statuses[index].rekey_at.unwrap() - pair.now;
    assert_eq!((left(0), left(1)), (Duration::from_secs(800), Duration::from_secs(4000)));
    let who: Vec<_> = pair
        .b
        .events
        .iter()
        .filter_map(|event| if let KeyingEvent::IkeUp { identity, .. } = event { Some(identity.to_string()) } else { None })
        .collect();
    assert_eq!(who, ["w1.example", "w2.example"]);
}

#[test]
fn a_secret_proves_its_own_identity_only() {
    for (name, secret, remote) in [("w1.example", "secret two", 0), ("w2.example", "secret one", 1)] {
        let mut pair = gateway();
        become_caller(&mut pair, name, secret, HOA);
        pair.want(Side::A, 1);
        pair.run();
        pair.assert_healthy(0, 0);
        let told = down(&pair.b, Cause::AUTHENTICATION_FAILED);
        assert_eq!(told.iter().map(|(remote, _)| *remote).collect::<Vec<_>>(), [Some(RemoteId(remote))]);
        assert_eq!(down(&pair.a, Cause::AUTHENTICATION_FAILED).len(), 1);
    }
}

#[test]
fn an_unknown_identity_is_named_and_cannot_be_told_from_a_wrong_secret() {
    let mut answers = Vec::new();
    for (name, cause) in [("w9.example", Cause::IDENTITY_UNKNOWN), ("w1.example", Cause::AUTHENTICATION_FAILED)] {
        let mut pair = gateway();
        become_caller(&mut pair, name, "a guess", HOA);
        pair.want(Side::A, 1);
        pair.run();
        pair.assert_healthy(0, 0);
        let told = down(&pair.b, cause);
        assert_eq!(told.len(), 1, "{:#?}", pair.b.events);
        assert!(cause != Cause::IDENTITY_UNKNOWN || told[0].1.contains("w9.example"), "{told:?}");
        answers.push((pair.b.sent.last().unwrap().octets.len(), down(&pair.a, Cause::AUTHENTICATION_FAILED).len()));
    }
    assert_eq!(answers[0], answers[1], "the caller learns the same");
    assert_eq!(answers[0].1, 1);
}

#[test]
fn algorithms_must_suit_the_remote_that_the_identity_names() {
    let mut pair = gateway();
    pair.b.config.remotes[1].proposals = vec!["aes256gcm16-prfsha384-ecp384".parse().unwrap()];
    // What is agreed on before the name is known suits the first remote only.
    become_caller(&mut pair, "w2.example", "secret two", HOA2);
    pair.want(Side::A, 1);
    pair.run();
    pair.assert_healthy(0, 0);
    let told = down(&pair.b, Cause::SUITES_DIFFER);
    let names = ["w2.example", "second", "aes128gcm16-prfsha256-x25519", "aes256gcm16-prfsha384-ecp384"];
    assert!(told.len() == 1 && names.iter().all(|name| told[0].1.contains(name)), "{told:?}");
    assert_eq!(down(&pair.a, Cause::AUTHENTICATION_FAILED).len(), 1);
    // A caller that offers what its own remote wants is served, though the first remote would refuse it.
    restart(&mut pair, Side::A, true);
    become_caller(&mut pair, "w2.example", "secret two", HOA2);
    pair.a.config.remotes[0].proposals = vec!["aes256gcm16-prfsha384-ecp384".parse().unwrap()];
    pair.want(Side::A, 1);
    pair.run();
    pair.assert_healthy(1, 1);
}

#[test]
fn callers_from_anywhere_stand_beside_remotes_with_an_address() {
    let mut pair = gateway();
    // The first remote calls from one place, with algorithms of its own; the second from anywhere.
    pair.b.config.remotes[0].allowed_from = vec!["2001:db8:77::/64".parse().unwrap()];
    pair.b.config.remotes[0].proposals = vec!["aes256-sha512-ecp384".parse().unwrap()];
    pair.b.ike.reconfigured();
    become_caller(&mut pair, "w2.example", "secret two", HOA2);
    pair.want(Side::A, 1);
    pair.run();
    pair.assert_healthy(1, 1);
    // The first one's name and secret, from elsewhere, are not enough, and the reason says why.
    restart(&mut pair, Side::A, true);
    become_caller(&mut pair, "w1.example", "secret one", HOA);
    pair.want(Side::A, 1);
    pair.run();
    let told = down(&pair.b, Cause::NO_REMOTE);
    assert!(told.len() == 1 && told[0].1.contains("w1.example") && told[0].1.contains(A), "{told:?}");
    // Nobody from anywhere: the first message already is refused.
    let mut pair = gateway();
    for remote in &mut pair.b.config.remotes {
        remote.allowed_from = vec!["2001:db8:77::/64".parse().unwrap()];
    }
    pair.want(Side::A, 1);
    pair.run();
    assert_eq!(dropped(&pair.b, Cause::NO_REMOTE).len(), 1);
    assert!(pair.b.ike.statuses().is_empty());
}

/// What B tells of a refused child SA, and that the identity and the address are both in it.
fn refused(pair: &Pair, who: &str, what: &str) {
    let told = dropped(&pair.b, Cause::NOT_AUTHORISED);
    assert!(told.last().is_some_and(|detail| detail.contains(who) && detail.contains(what)), "{told:?}{}", pair.story());
    let unacceptable =
        |event: &KeyingEvent| matches!(event, KeyingEvent::WantFailed { cause, .. } if *cause == Cause::TRAFFIC_UNACCEPTABLE);
    assert!(pair.a.count(unacceptable) >= 1, "TS_UNACCEPTABLE");
}

#[test]
fn a_node_gets_no_sas_for_the_home_address_of_another() {
    for role in [false, true] {
        for policy in [0, 1] {
            let mut pair = gateway();
            if role {
                pair.b.config.remotes[0].role = MobilityRole::HomeAgent { home_address: ip(HOA) };
                pair.b.config.remotes[1].role = MobilityRole::HomeAgent { home_address: ip(HOA2) };
            }
            // In IKE_AUTH: the first node, under its own name and secret, asks for the second one's home address.
            become_caller(&mut pair, "w1.example", "secret one", HOA2);
            pair.want(Side::A, policy);
            pair.run();
            pair.assert_healthy(1, 0);
            refused(&pair, "w1.example", HOA2);
            // In CREATE_CHILD_SA.
            pair.want(Side::A, policy);
            pair.run();
            pair.assert_healthy(1, 0);
            assert_eq!(dropped(&pair.b, Cause::NOT_AUTHORISED).len(), 2);
            // Its own address it gets over the same IKE SA.
            become_caller(&mut pair, "w1.example", "secret one", HOA);
            pair.want(Side::A, policy);
            pair.run();
            pair.assert_healthy(1, 1);
        }
    }
}

#[test]
fn a_wide_policy_does_not_make_up_for_the_pad() {
    // Even where a policy of the first node's own covers every address.
    let mut pair = gateway();
    pair.b.config.policies[1].traffic = Traffic::new(TrafficItem::any(AddressRange::ANY_V6), TrafficItem::any(AddressRange::ANY_V6));
    become_caller(&mut pair, "w1.example", "secret one", HOA2);
    pair.want(Side::A, 1);
    pair.run();
    pair.assert_healthy(1, 0);
    refused(&pair, "w1.example", HOA2);
    // What the node may have is told along, and asking for everything is asking for others' addresses too.
    assert!(dropped(&pair.b, Cause::NOT_AUTHORISED)[0].contains(&format!("may hold {HOA}/128")));
    pair.a.config.policies[1].traffic = pair.b.config.policies[1].traffic.clone();
    pair.want(Side::A, 1);
    pair.run();
    pair.assert_healthy(1, 0);
    assert_eq!(dropped(&pair.b, Cause::NOT_AUTHORISED).len(), 2);
}

#[test]
fn what_an_identity_may_hold_is_asked_again_at_a_rekey() {
    let mut pair = gateway();
    pair.want(Side::A, 1);
    pair.run();
    pair.assert_healthy(1, 1);
    pair.b.config.pad.withdraw(&fqdn("w1.example"));
    let child = pair.first_child(Side::A);
    pair.rekey(Side::A, Target::Child(child));
    pair.run();
    refused(&pair, "w1.example", HOA);
    assert!(dropped(&pair.b, Cause::NOT_AUTHORISED)[0].contains("may hold nothing"));
}
