//! Home addresses over IKEv2 between two endpoints: requested, suggested, formed and refused (RFC 4877 9, RFC 5026 5.3, RFC 7296 3.15.4).
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod pair;

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use pair::*;
use watari_policies::profile::{HomeAgentProfile, MobileNodeProfile, ServedNode, home_agent, mobile_node};
use watari_policies::{AddressRange, Ask, Config, MobilityRole, PolicyId, RemoteId, SecretId};
use watari_sa::{Assignment, Cause, Denial, Keying as _, KeyingEvent, Trigger, Want, Wish};

const SECOND: &str = "2001:db8:1::abce";

fn v6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn held(address: &str) -> Ipv6Net {
    Ipv6Net::new(v6(address), 64).unwrap()
}

fn fill(config: &mut Config, remote: RemoteId, address: Ipv6Addr) -> Ipv6Net {
    let policies: Vec<PolicyId> = config.policies_of(remote).map(|(id, _)| id).collect();
    assert!(config.fill(remote, address.into(), &policies));
    Ipv6Net::new(address, 64).unwrap()
}

/// A mobile node that takes what it is given.
fn takes(config: &mut Config, remote: RemoteId, wish: Wish) -> Assignment {
    match wish {
        Wish::Given(given) => Assignment::Address(fill(config, remote, given.addr())),
        Wish::GivenPrefix(prefix) if prefix == held(HOA).trunc() => Assignment::Address(fill(config, remote, v6(HOA))),
        other => panic!("a mobile node is not asked for {other:?}"),
    }
}

/// A home agent that has one address to give, and lets others be formed.
fn gives(config: &mut Config, remote: RemoteId, wish: Wish) -> Assignment {
    match wish {
        Wish::Prefix => Assignment::Prefix(held(HOA).trunc()),
        Wish::Formed(address) => Assignment::Address(fill(config, remote, address)),
        _ => Assignment::Address(fill(config, remote, v6(HOA))),
    }
}

/// A is a mobile node that asks, B a home agent that assigns.
fn bootstrapping(ask: Ask) -> Pair {
    let mut pair = Pair::new();
    let node = MobileNodeProfile { home_address: MobilityRole::UNKNOWN, ask, secret: SecretId(1), ..MobileNodeProfile::default() };
    let served = ServedNode { home_address: MobilityRole::UNKNOWN, secret: SecretId(1), ..ServedNode::default() };
    let profile = HomeAgentProfile {
        mobile_nodes: vec![served],
        home_prefix: Some("2001:db8:1::/64".parse().unwrap()),
        ..HomeAgentProfile::default()
    };
    (pair.a.config, pair.a.assign) = (mobile_node(node), takes);
    (pair.b.config, pair.b.assign) = (home_agent(profile), gives);
    pair.a.places.modes = [(PolicyId(1), watari_policies::Mode::Tunnel)].into();
    pair.b.places.modes = pair.a.places.modes.clone();
    pair
}

fn started(mut pair: Pair) -> Pair {
    pair.want(Side::A, 0);
    pair.run();
    pair
}

fn failed(pair: &Pair, because: Cause) -> usize {
    pair.a.count(|event| matches!(event, KeyingEvent::WantFailed { cause, .. } if *cause == because))
}

//= rfc4877#9
//# the mobile node asks in IKE_AUTH and the child SA of IKE_AUTH is made with the address of the reply
#[test]
fn an_address_is_asked_for_and_used_at_once() {
    let pair = started(bootstrapping(Ask::Address(None)));
    pair.assert_healthy(1, 1);
    assert_eq!((pair.b.wishes.as_slice(), pair.a.wishes.as_slice()), (&[Wish::Address(None)][..], &[Wish::Given(held(HOA))][..]));
    assert_eq!(pair.a.sent.len(), 2, "IKE_SA_INIT and IKE_AUTH are enough");
    assert_eq!(pair.a.installed()[0].traffic.local[0].range, host(HOA));
    assert_eq!(pair.b.installed()[0].traffic.remote[0].range, host(HOA));
    let node = pair.b.config.remotes[0].remote_identity.clone();
    assert!(pair.b.config.pad.may_hold_range(&node, &host(HOA)) && !pair.b.config.pad.may_hold_range(&node, &host(SECOND)));
}

//= rfc4877#9
//# the mobile node may suggest an address and uses the one of the reply, also if it is another
#[test]
fn a_suggestion_may_be_answered_with_another_address() {
    for hint in [HOA, SECOND] {
        let pair = started(bootstrapping(Ask::Address(Some(ip(hint)))));
        pair.assert_healthy(1, 1);
        assert_eq!(pair.b.wishes, [Wish::Address(Some(v6(hint)))]);
        assert_eq!(pair.a.config.remotes[0].role.home_address(), Some(ip(HOA)));
    }
}

//= rfc7296#3.15.4
//# without an address there is no child SA; the initiator closes the IKE SA and tries again later
#[test]
fn a_refusal_is_told_and_ends_the_attempt() {
    let mut pair = bootstrapping(Ask::Address(None));
    pair.b.assign = |_, _, _| Assignment::Refused(Denial::PoolExhausted);
    let pair = started(pair);
    pair.assert_healthy(0, 0);
    assert_eq!(failed(&pair, Cause::HOME_ADDRESS), 1, "{}", pair.story());
    let words =
        |event: &KeyingEvent| matches!(event, KeyingEvent::WantFailed { detail, .. } if detail.contains("INTERNAL_ADDRESS_FAILURE"));
    assert_eq!(pair.a.count(words), 1);
    assert_eq!(pair.b.count(|event| matches!(event, KeyingEvent::IkeUp { .. })), 1, "the IKE SA stood all the same");
}

//= rfc4877#9
//# who is refused an address ends the exchange and takes another home agent
#[test]
fn refused_by_one_home_agent_the_next_one_of_the_list_is_asked() {
    let mut pair = bootstrapping(Ask::Address(None));
    pair.a.config.remotes[0].remote_address = Some(ip(B));
    pair.a.config.remotes[0].gateways.addresses = [B, B2].map(ip).into();
    // The second home agent is the same host here, by its other address, and has an address to give.
    pair.b.assign = |_, _, _| Assignment::Refused(Denial::PoolExhausted);
    pair.want(Side::A, 0);
    pair.settle();
    while let Some(flying) = pair.wire.pop_front() {
        if flying.datagram.path.local.ip() == ip(B2) {
            pair.b.assign = gives;
        }
        pair.deliver(flying);
    }
    assert_eq!(pair.b.wishes.len(), 2, "both were asked{}", pair.story());
    assert_eq!(failed(&pair, Cause::HOME_ADDRESS), 0, "{}", pair.story());
    pair.assert_healthy(1, 1);
    assert_eq!(pair.a.config.remotes[0].role.home_address(), Some(ip(HOA)));
}

//= rfc5026#5.3.2
//# the mobile node forms an address in the prefix of the reply and makes its SAs by CREATE_CHILD_SA
#[test]
fn an_address_is_formed_in_the_home_prefix() {
    let pair = started(bootstrapping(Ask::Prefix(0xabcd)));
    pair.assert_healthy(1, 1);
    assert_eq!(pair.b.wishes, [Wish::Prefix, Wish::Formed(v6(HOA))]);
    assert_eq!(pair.a.wishes, [Wish::GivenPrefix(held(HOA).trunc())]);
    assert_eq!(pair.a.sent.len(), 3, "IKE_SA_INIT, IKE_AUTH, CREATE_CHILD_SA");
    assert_eq!(failed(&pair, Cause::TRAFFIC_UNACCEPTABLE), 0);
    assert_eq!(pair.b.installed()[0].traffic.remote[0].range, host(HOA));
}

//= rfc5026#5.3.2
//# a home agent that lets no addresses be formed says USE_ASSIGNED_HoA and which one to use
#[test]
fn a_home_agent_may_insist_on_its_own_choice() {
    let mut pair = bootstrapping(Ask::Prefix(7));
    pair.b.assign = |config, remote, wish| {
        assert_eq!(wish, Wish::Prefix);
        Assignment::UseAssigned(fill(config, remote, v6(HOA)))
    };
    let pair = started(pair);
    pair.assert_healthy(1, 1);
    assert_eq!(pair.a.wishes, [Wish::Given(held(HOA))]);
    assert_eq!(pair.a.config.remotes[0].role.home_address(), Some(ip(HOA)));
}

//= rfc5026#5.3.2
//# after a failed DAD the new address needs CREATE_CHILD_SA only
#[test]
fn another_address_takes_no_new_ike_sa() {
    for ask in [Ask::Prefix(0xabcd), Ask::Address(None)] {
        let mut pair = started(bootstrapping(ask));
        fill(&mut pair.a.config, RemoteId(0), v6(SECOND));
        pair.want(Side::A, 0);
        pair.run();
        assert_eq!((pair.a.established().len(), pair.a.inits()), (1, 1));
        assert_eq!(pair.b.wishes.last(), Some(&Wish::Formed(v6(SECOND))));
        let ranges: Vec<AddressRange> = pair.b.installed().iter().map(|sa| sa.traffic.remote[0].range).collect();
        assert_eq!(ranges, [host(HOA), host(SECOND)], "what served the first address goes by the engine's hand");
    }
}

#[test]
fn a_network_of_one_address_behind_the_node_is_no_home_address_it_formed() {
    let mut pair = Pair::new();
    let networks = vec!["2001:db8:5::f00/128".parse().unwrap()];
    let node =
        MobileNodeProfile { home_address: MobilityRole::UNKNOWN, networks: networks.clone(), secret: SecretId(1), ..Default::default() };
    let served = ServedNode { home_address: MobilityRole::UNKNOWN, networks, secret: SecretId(1), ..ServedNode::default() };
    let prefix = Some("2001:db8:1::/64".parse().unwrap());
    (pair.a.config, pair.a.assign) = (mobile_node(node), takes);
    (pair.b.config, pair.b.assign) =
        (home_agent(HomeAgentProfile { mobile_nodes: vec![served], home_prefix: prefix, ..HomeAgentProfile::default() }), gives);
    let of = |config: &Config| config.policies.iter().position(|policy| policy.traffic.local[0].range == host("2001:db8:5::f00"));
    let network = u32::try_from(of(&pair.a.config).unwrap()).unwrap();
    let tunnels: Vec<u32> = (1..u32::try_from(pair.a.config.policies.len()).unwrap()).collect();
    pair.a.places.modes = tunnels.iter().map(|id| (PolicyId(*id), watari_policies::Mode::Tunnel)).collect();
    pair.b.places.modes = pair.a.places.modes.clone();
    let mut pair = started(pair);
    pair.want(Side::A, network);
    pair.run();
    assert_eq!(pair.b.wishes, [Wish::Address(None)], "{}", pair.story());
    pair.assert_healthy(1, 2);
    assert_eq!(pair.b.config.remotes[0].role.home_address(), Some(ip(HOA)));
}

#[test]
fn an_address_of_the_configuration_is_told_to_who_asks() {
    let mut pair = bootstrapping(Ask::Address(Some(ip(SECOND))));
    let served = ServedNode { secret: SecretId(1), ..ServedNode::default() };
    pair.b.config = home_agent(HomeAgentProfile { mobile_nodes: vec![served], ..HomeAgentProfile::default() });
    let pair = started(pair);
    pair.assert_healthy(1, 1);
    assert!(pair.b.wishes.is_empty());
    assert_eq!(pair.a.config.remotes[0].role.home_address(), Some(ip(HOA)));
}

//= rfc7296#2.19
//# a peer that must ask and does not gets FAILED_CP_REQUIRED and no child SA; the IKE SA stands
#[test]
fn who_must_ask_and_does_not_gets_no_child() {
    let mut pair = bootstrapping(Ask::Address(None));
    pair.a.config.remotes[0].assigned = None;
    let pair = started(pair);
    pair.assert_healthy(1, 0);
    assert!(pair.b.wishes.is_empty());
    assert_eq!(failed(&pair, Cause::PEER_REFUSED), 1, "{}", pair.story());
    // One that names an address by its selectors alone is served if that address may be its own.
    let mut pair = bootstrapping(Ask::Address(None));
    pair.a.config = mobile_node(MobileNodeProfile { secret: SecretId(1), ..MobileNodeProfile::default() });
    let pair = started(pair);
    pair.assert_healthy(1, 1);
    assert_eq!(pair.b.wishes, [Wish::Formed(v6(HOA))]);
    let mut pair = bootstrapping(Ask::Address(None));
    pair.a.config = mobile_node(MobileNodeProfile { secret: SecretId(1), ..MobileNodeProfile::default() });
    pair.b.assign = |_, _, _| Assignment::Refused(Denial::Taken(Ipv6Addr::LOCALHOST));
    let pair = started(pair);
    pair.assert_healthy(1, 0);
    assert_eq!(failed(&pair, Cause::TRAFFIC_UNACCEPTABLE), 1, "{}", pair.story());
}

//= rfc7296#3.15.4
//# who does not serve configuration payloads ignores them; for who needs an address that is an error
#[test]
fn a_peer_that_serves_no_addresses_ignores_the_question() {
    let mut pair = bootstrapping(Ask::Address(None));
    let served = ServedNode { secret: SecretId(1), ..ServedNode::default() };
    pair.b.config = home_agent(HomeAgentProfile { mobile_nodes: vec![served], ..HomeAgentProfile::default() });
    pair.b.config.remotes[0].role = MobilityRole::None;
    let mut pair = started(pair);
    pair.pass_secs(60);
    assert!(pair.b.wishes.is_empty());
    assert_eq!(failed(&pair, Cause::HOME_ADDRESS), 1, "{}", pair.story());
    pair.assert_healthy(0, 0);
}

#[test]
fn without_proof_nobody_is_asked() {
    let mut pair = bootstrapping(Ask::Address(None));
    pair.a.secrets.insert(SecretId(1), watari_policies::Secret::from(&b"wrong"[..]));
    let pair = started(pair);
    assert!(pair.a.wishes.is_empty() && pair.b.wishes.is_empty());
    assert_eq!(pair.b.config.remotes[0].role.home_address(), None);
}

fn spis(pair: &Pair) -> Vec<watari_kernel::Spi> {
    pair.a.installed().into_iter().map(|child| child.inbound.spi).collect()
}

/// Another home agent refuses the address that is held already: the home agent that gave it goes on to serve.
#[test]
fn a_refusal_after_a_switch_costs_nothing() {
    let mut pair = bootstrapping(Ask::Address(None));
    pair.a.config.remotes[0].remote_address = Some(ip(B));
    pair.a.config.remotes[0].gateways.addresses = [B, B2].map(ip).into();
    let mut pair = started(pair);
    let (ikes, children) = (pair.a.established(), spis(&pair));
    pair.b.assign = |_, _, _| Assignment::Refused(Denial::PoolExhausted);
    let now = pair.now;
    pair.a.with(now, |endpoint, context| endpoint.switch(context, RemoteId(0), &[ip(B2)], Cause::OPERATOR));
    pair.run();
    pair.pass_secs(200);
    assert_eq!((pair.b.wishes.len(), failed(&pair, Cause::HOME_ADDRESS)), (2, 1), "{}", pair.story());
    pair.assert_healthy(1, 1);
    assert_eq!((pair.a.established(), spis(&pair)), (ikes, children), "{}", pair.story());
    assert_eq!(pair.a.config.remotes[0].remote_address, Some(ip(B)));
}

//= rfc5026#5.1.2
//# when all home agents have been tried the mobile node waits before it begins again
#[test]
fn refused_by_all_home_agents_the_list_is_begun_again_after_a_pause() {
    let mut pair = bootstrapping(Ask::Address(None));
    pair.a.config.remotes[0].remote_address = Some(ip(B));
    pair.a.config.remotes[0].gateways.addresses = [B, B2].map(ip).into();
    pair.b.assign = |_, _, _| Assignment::Refused(Denial::PoolExhausted);
    let mut pair = started(pair);
    pair.pass_secs(5);
    pair.assert_healthy(0, 0);
    assert_eq!((pair.a.inits(), pair.b.wishes.len(), failed(&pair, Cause::HOME_ADDRESS)), (2, 2, 1), "{}", pair.story());
    assert_eq!(pair.a.config.remotes[0].remote_address, Some(ip(B)), "the first of the list");
    let pause = pair.a.config.remotes[0].gateways.pause.as_secs();
    let now = pair.now;
    pair.a.with(now, |endpoint, context| endpoint.want(context, Want { policy: PolicyId(0), trigger: Trigger::Start }));
    pair.run();
    assert_eq!(pair.a.inits(), 2, "they are left in peace");
    pair.pass_secs(pause);
    assert_eq!(pair.a.inits(), 4, "{}", pair.story());
}
