//! Requirements that only show between hosts: where IKE comes from, whose addresses SAs carry, who owns the policies, who begins.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use support::played;
use watari_kernel::{PolicyEntry, PolicyKind};
use watari_policies::{Mode, Protocol};
use watari_sim::scenario::{Action, HOME_AGENT, Link, MobilePlan, PingTarget};
use watari_sim::{Scenario, World, scenarios};

const PLAN: MobilePlan = MobilePlan::first(Link::F1);
/// CREATE_CHILD_SA.
const CREATE_CHILD: u8 = 36;

fn run<T>(scenario: &Scenario, look: impl FnOnce(&World<'_>) -> T) -> T {
    played(scenario, 1, |world, report| {
        assert!(report.passed, "{}: {:?}", scenario.name, report.reasons);
        look(world)
    })
}

#[test]
fn ike_comes_from_the_care_of_address_of_every_link_and_from_the_home_address_at_home() {
    run(&scenarios::find("roam").unwrap(), |world| {
        let sources = |from: u64, to: u64| -> BTreeSet<IpAddr> {
            let (from, to) = (Duration::from_millis(from), Duration::from_millis(to));
            let of_node = world.ike_datagrams().iter().filter(|datagram| datagram.src.ip() != HOME_AGENT);
            of_node.filter(|datagram| (from..to).contains(&datagram.at)).map(|datagram| datagram.src.ip()).collect()
        };
        let spans = [(0, 10_000, Link::F1), (10_000, 16_000, Link::F2), (16_000, 22_000, Link::F3), (28_000, 36_000, Link::F1)];
        for (from, to, link) in spans {
            assert_eq!(sources(from, to), BTreeSet::from([PLAN.care_of(link)]), "on {link}");
        }
        assert_eq!(sources(22_000, 28_000), BTreeSet::from([PLAN.home_address()]), "at home");
    });
}

#[test]
fn transport_sas_stay_between_home_address_and_home_agent_and_tunnels_follow() {
    run(&scenarios::find("roam").unwrap(), |world| {
        for host in ["mn", "ha"] {
            let ends = |mode: Mode| -> BTreeSet<(IpAddr, IpAddr)> {
                let esp = world.sas().filter(|(name, sa)| *name == host && sa.protocol == 50 && !sa.larval && sa.mode == Some(mode));
                esp.map(|(_, sa)| (sa.src, sa.dst)).collect()
            };
            let both = |place: IpAddr| BTreeSet::from([(place, HOME_AGENT), (HOME_AGENT, place)]);
            assert_eq!(ends(Mode::Transport), both(PLAN.home_address()), "{host}");
            assert_eq!(ends(Mode::Tunnel), both(PLAN.care_of(Link::F1)), "{host}");
        }
    });
}

/// Selectors, templates and priorities of the main policies with ESP, as they stand in the mobile node's kernel in the end.
fn policies(world: &World<'_>) -> Vec<PolicyEntry> {
    let esp = |entry: &&PolicyEntry| {
        entry.kind == PolicyKind::Main && entry.templates.iter().any(|template| template.protocol == Some(Protocol::Esp))
    };
    let mut policies: Vec<PolicyEntry> = world.policies("mn").iter().filter(esp).cloned().collect();
    policies.sort_by_key(|entry| (entry.direction, entry.index));
    policies
}

#[test]
fn the_mobile_ipv6_daemons_policies_are_left_as_it_made_them() {
    let roam = scenarios::find("register-away").unwrap();
    let with = run(&roam, policies);
    assert_eq!(with.len(), 4, "{with:#?}");
    // The same host without the agent: killed before the node has a link.
    let dead = roam.then(0, Action::RestartDaemon { host: "mn", down: Duration::from_secs(3600) });
    let without = played(&dead, 1, |world, report| {
        assert!(!report.passed, "nobody is registered without keys");
        policies(world)
    });
    assert_eq!(with, without);
}

#[test]
fn the_home_agent_begins_the_child_that_a_correspondent_asks_for() {
    let every = Duration::from_millis(100);
    let mut scenario = Scenario::new("correspondent-first", "A correspondent speaks first: the home agent asks for the payload SAs.")
        .then(6_000, Action::Ping { node: "mn", target: PingTarget::FromCorrespondent, every });
    scenario.expect.answered = 40;
    run(&scenario, |world| {
        let requests =
            world.ike_datagrams().iter().filter(|datagram| (datagram.octets[18], datagram.octets[19] & 0x20) == (CREATE_CHILD, 0));
        let from: Vec<IpAddr> = requests.map(|datagram| datagram.src.ip()).collect();
        assert_eq!(from, [HOME_AGENT]);
    });
}
