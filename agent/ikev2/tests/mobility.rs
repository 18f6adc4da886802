//! What RFC 4877 demands of the negotiation: the home address in every child, identities, who begins (sections 4.4, 7.2, 7.3).
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod pair;

use std::net::Ipv6Addr;

use pair::*;
use watari_policies::pad::PadEntry;
use watari_policies::{Identity, Mode, Pad, Ports, Traffic};
use watari_sa::KeyingEvent;

/// CREATE_CHILD_SA.
const CREATE_CHILD: u8 = 36;
const EVERY_ADDRESS: ([u8; 16], [u8; 16]) = ([0; 16], [0xff; 16]);

fn one(address: &str) -> ([u8; 16], [u8; 16]) {
    let octets = address.parse::<Ipv6Addr>().unwrap().octets();
    (octets, octets)
}

/// The contents of a TS payload with one IPv6 selector (RFC 7296 3.13).
fn selector(protocol: u8, ports: (u16, u16), (first, last): ([u8; 16], [u8; 16])) -> Vec<u8> {
    let header = [&[1, 0, 0, 0, 8, protocol, 0, 40][..], &ports.0.to_be_bytes(), &ports.1.to_be_bytes()].concat();
    [header, first.to_vec(), last.to_vec()].concat()
}

#[test]
fn every_child_is_made_for_the_home_address() {
    let mut pair = Pair::new().readable();
    for policy in 0..3 {
        pair.want(Side::A, policy);
    }
    pair.run();
    pair.assert_healthy(1, 3);
    let sent: Vec<&[u8]> = pair.a.sent.iter().map(|transmit| &transmit.octets[..]).collect();
    let exchanges: Vec<u8> = sent.iter().map(|octets| kind(octets).0).collect();
    assert_eq!(exchanges, [34, 35, CREATE_CHILD, CREATE_CHILD], "BU and BA in IKE_AUTH, the others in CREATE_CHILD_SA");
    let home_test = [selector(135, (0x0100, 0x0100), one(HOA)), selector(135, (0x0300, 0x0300), EVERY_ADDRESS)];
    let payload = [selector(0, (0, 0xffff), one(HOA)), selector(0, (0, 0xffff), EVERY_ADDRESS)];
    assert!(home_test.iter().all(|wanted| holds(sent[2], wanted)), "TSi: HoTI from the home address; TSr: HoT from anybody");
    assert!(payload.iter().all(|wanted| holds(sent[3], wanted)), "TSi: the home address; TSr: anybody");
    let (care_of, _) = one(A);
    assert!(sent[1..].iter().all(|octets| !holds(octets, &[care_of, care_of].concat())), "no selector names the care-of address");
}

#[test]
fn the_home_agent_may_begin_a_child() {
    let mut pair = Pair::new().readable();
    pair.want(Side::A, 0);
    pair.run();
    pair.want(Side::B, 1);
    pair.run();
    pair.assert_healthy(1, 2);
    assert_eq!((pair.a.inits(), pair.b.inits()), (1, 0), "over the IKE SA that is there");
    let request = pair.b.sent.iter().find(|transmit| kind(&transmit.octets) == (CREATE_CHILD, 0, false)).expect("a request of B");
    // Roles are turned round: the home agent's side is TSi.
    let wanted = [selector(135, (0x0300, 0x0300), EVERY_ADDRESS), selector(135, (0x0100, 0x0100), one(HOA))];
    assert!(wanted.iter().all(|wanted| holds(&request.octets, wanted)));
    let hoti = pair.a.installed().into_iter().find(|sa| sa.mode == Mode::Tunnel).unwrap().clone();
    assert_eq!((hoti.outbound.selector.sport.value, hoti.inbound.selector.sport.value), (1, 3), "each direction its own type");
}

#[test]
fn one_pair_of_sas_for_a_range_of_types() {
    let mut pair = Pair::new().readable();
    let item = |address: &str| watari_policies::TrafficItem { range: host(address), protocol: 135, ports: Ports::mh_types(5, 6) };
    pair.a.config.policies[0].traffic = Traffic::new(item(HOA), item(HA));
    pair.b.config.policies[0].traffic = Traffic::new(item(HA), item(HOA));
    pair.want(Side::A, 0);
    pair.run();
    pair.assert_healthy(1, 1);
    let wanted = [selector(135, (0x0500, 0x0600), one(HOA)), selector(135, (0x0500, 0x0600), one(HA))];
    assert!(wanted.iter().all(|wanted| holds(&pair.a.sent[1].octets, wanted)));
}

#[test]
fn the_identity_need_not_be_the_address_of_the_packet() {
    for identity in [HOA, "user@example.com", "mn.example"] {
        let identity: Identity = identity.parse().unwrap();
        let mut pair = Pair::new();
        pair.a.config.remotes[0].local_identity = identity.clone();
        pair.b.config.remotes[0].remote_identity = identity.clone();
        pair.b.config.pad =
            Pad::from_iter([PadEntry { identity: Some(identity.clone()), prefixes: vec!["2001:db8:1::abcd/128".parse().unwrap()] }]);
        pair.want(Side::A, 0);
        pair.run();
        pair.assert_healthy(1, 1);
        let known = |event: &KeyingEvent| matches!(event, KeyingEvent::IkeUp { identity: peer, path, .. } if *peer == identity && path.remote.ip() == ip(A));
        assert_eq!(pair.b.count(known), 1, "{identity}");
    }
}

/// A second mobile node may not have SAs for the home address of the first, whatever it asks for and whoever begins.
#[test]
fn nobody_gets_sas_for_the_home_address_of_another() {
    let mut pair = Pair::up();
    let identity = pair.b.config.remotes[0].remote_identity.clone();
    let own = |prefix: &str| Pad::from_iter([PadEntry { identity: Some(identity.clone()), prefixes: vec![prefix.parse().unwrap()] }]);
    pair.b.config.pad = own("2001:db8:1::beef/128");
    for policy in [1, 2] {
        pair.want(Side::A, policy);
        pair.run();
    }
    pair.assert_healthy(1, 1);
    pair.b.config.pad = own("2001:db8:1::abcd/128");
    pair.want(Side::A, 2);
    pair.run();
    pair.assert_healthy(1, 2);
}
