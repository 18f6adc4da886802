//! Who gets which home address, and what comes and goes with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use watari_crypto::FakeProvider;
use watari_kernel::Capability;
use watari_policies::config::load;
use watari_policies::{AddressRange, MobilityRole, Secret};
use watari_sa::{Assign, Assignment, Denial, KeyingEvent, Wish};

use super::*;
use crate::assign::Homes;
use crate::lookup::Lookup;
use crate::{Agent, AgentOptions, Command, CommandId, Input, Output, Reply};

const HEAD: &str = "[home_agent]\naddress = \"2001:db8:1::1\"\nidentity = \"ha.example\"\nprotect = [\"binding\", \"payload\"]\n\
                    home_prefix = \"2001:db8:1::/64\"\nmobile_nodes_file = \"/nodes\"\n";

fn config(more: &str, nodes: &str) -> Config {
    let file = nodes.to_owned();
    let loaded = load(&format!("{HEAD}{more}\n"), "ha.toml", &move |_: &str| Ok(Secret::from(file.as_bytes())));
    loaded.unwrap_or_else(|complaints| panic!("{complaints}")).config
}

fn fleet(nodes: u32) -> String {
    (0..nodes).map(|node| format!("mn{node}.example assign key\n")).collect()
}

fn agent(config: Config) -> Agent {
    let mut agent = Agent::new(config, [7; 32], Arc::new(FakeProvider), Capability::default(), AgentOptions::default());
    drained(&mut agent);
    agent
}

fn drained(agent: &mut Agent) -> Vec<Output> {
    let outputs = std::iter::from_fn(|| Some(agent.poll()).filter(|output| !matches!(output, Output::Wait(_))));
    outputs.collect()
}

fn v6(text: &str) -> std::net::Ipv6Addr {
    text.parse().expect("an IPv6 address")
}

fn wish(agent: &mut Agent, remote: u32, wish: Wish) -> Result<std::net::Ipv6Addr, Denial> {
    match agent.core.assign(RemoteId(remote), wish) {
        Assignment::Address(held) | Assignment::UseAssigned(held) => Ok(held.addr()),
        Assignment::Prefix(prefix) => Ok(prefix.network()),
        Assignment::Refused(denial) => Err(denial),
    }
}

fn hint(address: &str) -> Wish {
    Wish::Address(Some(v6(address)))
}

/// Reloads; what that changed, in words.
fn reload(agent: &mut Agent, new: Config) -> Option<String> {
    agent.handle(watari_kernel::Now::default(), Input::Command(CommandId(1), Command::Reload(Box::new(new))));
    let told = drained(agent);
    told.into_iter().find_map(|output| match output {
        Output::Reply(_, Reply::End(section)) => section.text("changes").map(str::to_owned),
        _ => None,
    })
}

const POOL: &str = "policies = \"mip6d\"\npool = \"2001:db8:1::1000-2001:db8:1::1003\"";

//= rfc4877#9
//# an address that the mobile node asks for is given if it is free, else another one
#[test]
fn what_is_asked_for_is_given_if_it_may_be() {
    let nodes = format!("{}fixed.example 2001:db8:1::1001 key\n", fleet(3));
    let mut agent = agent(config(POOL, &nodes));
    assert_eq!(wish(&mut agent, 0, hint("2001:db8:1::7")), Ok(v6("2001:db8:1::7")), "free and in the prefix, outside of the pool");
    assert_eq!(wish(&mut agent, 0, Wish::Address(None)), Ok(v6("2001:db8:1::7")), "its own again");
    assert_eq!(wish(&mut agent, 0, hint("::8")), Ok(v6("2001:db8:1::8")), "an interface identifier alone");
    // Another node's, a fixed one, ours, the routers', another prefix: one of the pool instead.
    for other in ["2001:db8:1::8", "2001:db8:1::1001", "2001:db8:1::1", "2001:db8:1::", "2001:db8:2::9", "ff02::1"] {
        let given = wish(&mut agent, 1, hint(other)).expect("an address");
        assert!((v6("2001:db8:1::1000")..=v6("2001:db8:1::1003")).contains(&given) && given != v6("2001:db8:1::1001"), "{other}: {given}");
    }
    let ours: Vec<_> = agent.core.config.remotes.iter().filter_map(|remote| remote.role.home_address()).collect();
    assert_eq!(ours.len(), 3);
    assert_eq!(wish(&mut agent, 3, Wish::Address(None)), Err(Denial::NotServed), "a fixed address is not assigned");
    assert_eq!(wish(&mut agent, 1, Wish::Given("2001:db8:1::9/64".parse().expect("net"))), Err(Denial::NotServed), "we give, not take");
}

//= rfc5026#5.3.2
//# addresses that mobile nodes form are valid within the prefix, unless the home agent has pools only
#[test]
fn nodes_form_addresses_where_they_may() {
    let mut open = agent(config(POOL, &fleet(2)));
    assert_eq!(open.core.assign(RemoteId(0), Wish::Prefix), Assignment::Prefix("2001:db8:1::/64".parse().expect("net")));
    assert_eq!(open.core.config.remotes[0].role.home_address(), None, "none is bound by asking for the prefix");
    assert_eq!(wish(&mut open, 0, Wish::Formed(v6("2001:db8:1::77"))), Ok(v6("2001:db8:1::77")));
    assert_eq!(wish(&mut open, 1, Wish::Formed(v6("2001:db8:1::77"))), Err(Denial::Taken(v6("2001:db8:1::77"))));
    assert_eq!(wish(&mut open, 1, Wish::Formed(v6("2001:db8:3::77"))), Err(Denial::Outside(v6("2001:db8:3::77"))));
    let mut closed = agent(config(&format!("{POOL}\nautoconfiguration = false"), &fleet(2)));
    assert!(matches!(closed.core.assign(RemoteId(0), Wish::Prefix), Assignment::UseAssigned(_)));
    assert_eq!(wish(&mut closed, 1, Wish::Formed(v6("2001:db8:1::77"))), Err(Denial::NotFormed));
    let given = wish(&mut closed, 1, hint("2001:db8:1::77")).expect("one of the pool");
    assert_ne!(given, v6("2001:db8:1::77"));
    assert_eq!(wish(&mut closed, 1, Wish::Formed(given)), Ok(given), "what it was given it may name");
}

#[test]
fn an_empty_pool_refuses_and_what_is_released_is_given_again() {
    let mut agent = agent(config(POOL, &fleet(5)));
    let given: Vec<_> = (0..5).map(|node| wish(&mut agent, node, Wish::Address(None))).collect();
    assert_eq!(given[4], Err(Denial::PoolExhausted));
    let distinct: std::collections::BTreeSet<_> = given.iter().flatten().collect();
    assert_eq!(distinct.len(), 4);
    agent.core.release(RemoteId(2));
    assert_eq!(wish(&mut agent, 4, Wish::Address(None)), given[2]);
}

//= rfc4877#7.2.1
//# policies of a node are found by its home address once it is known, and no longer than that
#[test]
fn records_and_indexes_are_as_before_after_ten_thousand_comings_and_goings() {
    let mut agent = agent(config("policies = \"mip6d\"", &fleet(100)));
    let (before, rows) = (agent.core.config.clone(), format!("{:?}", agent.core.lookup));
    let identity = |node: u32| before.remotes[node as usize].remote_identity.clone();
    let mut first = BTreeMap::new();
    for round in 0..100u32 {
        for node in 0..100 {
            let given = wish(&mut agent, node, Wish::Address(None)).expect("an address");
            assert_eq!(*first.entry(node).or_insert(given), given, "who comes again gets the same address");
            let range = AddressRange::host(given.into());
            assert!(agent.core.config.pad.may_hold_range(&identity(node), &range));
            if round % 2 == 0 {
                assert!(!agent.core.config.pad.may_hold_range(&identity((node + 1) % 100), &range));
            }
        }
        for node in (0..100).rev() {
            agent.core.release(RemoteId(node));
        }
    }
    assert_eq!(agent.core.config, before);
    assert_eq!(format!("{:?}", agent.core.lookup), rows);
    assert_eq!(format!("{:?}", agent.core.homes), format!("{:?}", Homes::new(&before, Homes::default())));
}

#[test]
fn what_is_filled_in_is_found_as_if_it_had_been_written() {
    let mut agent = agent(config("policies = \"watari\"", "a.example assign key\nb.example assign key\n"));
    wish(&mut agent, 1, hint("2001:db8:1::b")).expect("an address");
    let written = config("policies = \"watari\"", "a.example assign key\nb.example 2001:db8:1::b key\n");
    assert_eq!(format!("{:?}", agent.core.lookup), format!("{:?}", Lookup::new(&written)));
    assert_eq!(agent.core.config.policies, written.policies);
}

#[test]
fn an_address_goes_with_the_last_sa_of_its_node_and_not_before() {
    let mut agent = agent(config("policies = \"mip6d\"", &fleet(2)));
    wish(&mut agent, 0, Wish::Address(None)).expect("an address");
    wish(&mut agent, 1, Wish::Address(None)).expect("an address");
    let down = |remote| KeyingEvent::IkeDown {
        ike: watari_sa::IkeId(1),
        remote: Some(RemoteId(remote)),
        cause: watari_sa::Cause::PEER_CLOSED,
        detail: String::new(),
    };
    agent.home_after(&down(0));
    assert_eq!(agent.core.config.remotes[0].role, MobilityRole::HomeAgent { home_address: MobilityRole::UNKNOWN });
    assert!(agent.core.config.remotes[1].role.home_address().is_some());
    let told = drained(&mut agent);
    let ended = told.iter().filter(|output| matches!(output, Output::Event(Event::HomeAddress { remote: RemoteId(0), held: false, .. })));
    assert_eq!(ended.count(), 1);
}

#[test]
fn an_address_goes_too_where_sas_end_without_a_word() {
    let children = |number: u64| (0..number).map(|id| ChildId(11 + id)).collect::<Vec<_>>();
    let lent = |number: u64| {
        let mut bench = Bench::started(config("policies = \"mip6d\"", &fleet(1)), Vec::new(), Vec::new());
        let home = wish(&mut bench.agent, 0, Wish::Address(None)).expect("an address").to_string();
        bench.ike(1, 0, HA, COA1);
        for child in children(number) {
            bench.child(child.0, BINDING, u32::try_from(child.0).expect("small"), Mode::Transport, ends(HA, &home));
            bench.agent.core.traffic.entry(child).or_default();
        }
        bench.agent.give_up(at(10), RemoteId(0), &[IkeId(1)]);
        bench
    };
    let holds = |bench: &Bench| bench.agent.core.config.remotes[0].role.home_address().is_some();
    assert!(!holds(&lent(0)), "the IKE SA was all there was");
    let mut bench = lent(2);
    assert!(holds(&bench));
    let arguments = crate::vici::Section::new().with("child-id", 11);
    bench.input(20, Input::Command(CommandId(9), Command::Vici { name: "terminate".into(), arguments }));
    assert!(holds(&bench), "one child SA is left");
    bench.agent.core.timers.set(crate::timers::Timer::EndAdopted(ChildId(12)), at(30).boot);
    bench.input(30, Input::Timeout);
    assert!(!holds(&bench));
    assert!(bench.agent.core.traffic.is_empty(), "nothing is kept about what went");
    let mut bench = lent(1);
    bench.agent.lost(ChildId(11));
    assert!(!holds(&bench));
}

#[test]
fn assignments_outlive_a_new_configuration_with_the_same_block() {
    let mut agent = agent(config("policies = \"watari\"", &fleet(3)));
    let given = wish(&mut agent, 2, Wish::Address(None)).expect("an address");
    drained(&mut agent);
    // The first node leaves the file, another comes at its end.
    let file = format!("{}new.example assign key\n", fleet(3).split_once('\n').expect("lines").1);
    assert_eq!(reload(&mut agent, config("policies = \"watari\"", &file)).as_deref(), Some("3 records retired, 3 new"));
    let holder = agent.core.config.remotes.iter().find(|remote| remote.role.home_address() == Some(given.into())).expect("kept");
    assert_eq!(holder.name, "mn2.example");
    assert_eq!(wish(&mut agent, 2, Wish::Address(None)), Ok(given));
    // Another prefix: what was given out of the old one ends.
    let moved = HEAD.replace("2001:db8:1::/64", "2001:db8:7::/64");
    let loaded = load(&format!("{moved}policies = \"watari\"\n"), "ha.toml", &move |_: &str| Ok(Secret::from(file.as_bytes())));
    reload(&mut agent, loaded.expect("a configuration").config);
    assert!(!agent.core.config.remotes.iter().any(|remote| remote.role.home_address().is_some() && !remote.name.contains('\0')));
}

#[test]
fn an_assigned_address_that_is_another_nodes_own_by_now_is_not_carried_over() {
    let mut agent = agent(config("policies = \"watari\"", &fleet(2)));
    let (first, second) = (wish(&mut agent, 0, Wish::Address(None)), wish(&mut agent, 1, Wish::Address(None)));
    let (first, second) = (first.expect("an address"), second.expect("an address"));
    drained(&mut agent);
    for fixed in ["before.example", "z.example"] {
        let file = if fixed < "m" { format!("{fixed} {first} key\n{}", fleet(2)) } else { format!("{}{fixed} {first} key\n", fleet(2)) };
        reload(&mut agent, config("policies = \"watari\"", &file));
        let live = agent.core.config.remotes.iter().filter(|remote| !crate::reload::is_retired(remote));
        let homes: Vec<_> = live.filter_map(|remote| Some((remote.role.home_address()?, remote.name.as_str()))).collect();
        assert_eq!(homes.len(), 2, "{homes:?}");
        assert!(homes.contains(&(first.into(), fixed)) && homes.contains(&(second.into(), "mn1.example")), "{homes:?}");
    }
}

#[test]
fn a_node_that_left_the_file_leaves_its_address_to_others() {
    let mut agent = agent(config(POOL, &fleet(4)));
    for node in 0..4 {
        wish(&mut agent, node, Wish::Address(None)).expect("an address");
    }
    let given = agent.core.config.remotes[0].role.home_address();
    drained(&mut agent);
    let file = format!("{}new.example assign key\n", fleet(4).split_once('\n').expect("lines").1);
    reload(&mut agent, config(POOL, &file));
    let new = (0..).zip(&agent.core.config.remotes).find(|(_, remote)| remote.name == "new.example").expect("the new node").0;
    assert_eq!(wish(&mut agent, new, Wish::Address(None)).ok().map(std::net::IpAddr::V6), given);
}

//= rfc5026#5.3.2
//# after status 134 the mobile node forms another address and asks for its SAs by CREATE_CHILD_SA
#[test]
fn a_mobile_node_that_hears_of_a_duplicate_forms_another_address() {
    let profile = MobileNodeProfile { home_address: MobilityRole::UNKNOWN, ..MobileNodeProfile::default() };
    let mut agent = agent(mobile_node(profile));
    let prefix = "2001:db8:1::/64".parse().expect("net");
    let first = wish(&mut agent, 0, Wish::GivenPrefix(prefix)).expect("an address");
    drained(&mut agent);
    let mut taken = |address: &str| {
        let arguments = crate::vici::Section::new().with("home-address", address);
        let command = Command::Vici { name: "home-address-taken".into(), arguments };
        agent.handle(watari_kernel::Now::default(), Input::Command(CommandId(1), command));
        let told = drained(&mut agent);
        let reply = told.iter().find_map(|output| match output {
            Output::Reply(_, Reply::End(section)) => Some(section.clone()),
            _ => None,
        });
        let reply = reply.expect("an answer");
        (reply.text("success").map(str::to_owned), reply.text("home-address").map(str::to_owned))
    };
    let (yes, second) = taken(&first.to_string());
    let second = second.expect("another address");
    assert_eq!(yes.as_deref(), Some("yes"));
    assert_ne!(second, first.to_string());
    let (_, third) = taken(&second);
    assert!(third.is_some_and(|third| third != second && third != first.to_string()));
    assert_eq!(taken("2001:db8:1::5").0.as_deref(), Some("no"));
    assert_eq!(taken("garbage").0.as_deref(), Some("no"));
    let other = wish(&mut agent, 0, Wish::GivenPrefix("2001:db8:9::/64".parse().expect("net"))).expect("an address");
    assert!(other.to_string().starts_with("2001:db8:9:"), "the home link has another prefix");
}

#[test]
fn an_address_left_for_another_is_anybodys_once_its_last_sa_is_gone() {
    let mut bench = Bench::started(config("policies = \"mip6d\"", &fleet(2)), Vec::new(), Vec::new());
    let first = wish(&mut bench.agent, 0, Wish::Address(None)).expect("an address");
    bench.ike(1, 0, HA, COA1);
    bench.child(11, BINDING, 0x11, Mode::Transport, ends(HA, &first.to_string()));
    assert_eq!(wish(&mut bench.agent, 0, Wish::Formed(v6("2001:db8:1::77"))), Ok(v6("2001:db8:1::77")));
    assert_eq!(wish(&mut bench.agent, 1, Wish::Formed(first)), Err(Denial::Taken(first)), "an SA for it is still there");
    reload(&mut bench.agent, config("policies = \"mip6d\"", &fleet(3)));
    assert_eq!(wish(&mut bench.agent, 1, Wish::Formed(first)), Err(Denial::Taken(first)), "also after a reload");
    bench.agent.core.children.remove(ChildId(11));
    let down = KeyingEvent::ChildDown { child: ChildId(11), policy: BINDING, cause: watari_sa::Cause::PEER_CLOSED };
    bench.agent.home_after(&down);
    assert_eq!(wish(&mut bench.agent, 1, Wish::Formed(first)), Ok(first));
    assert_eq!(
        wish(&mut bench.agent, 2, Wish::Formed(v6("2001:db8:1::77"))),
        Err(Denial::Taken(v6("2001:db8:1::77"))),
        "the new one is its own"
    );
}

/// A node that has an SA for each address it names and lets none of them go.
fn clinging(nodes: u32, names: &[&str]) -> (Bench, Vec<Result<std::net::Ipv6Addr, Denial>>) {
    let mut bench = Bench::started(config(POOL, &fleet(nodes)), Vec::new(), Vec::new());
    bench.ike(1, 0, HA, COA1);
    let mut given = Vec::new();
    for (id, last) in (11u32..).zip(names) {
        let address = format!("2001:db8:1::{last}");
        given.push(wish(&mut bench.agent, 0, Wish::Formed(v6(&address))));
        bench.child(id.into(), BINDING, id, Mode::Transport, ends(HA, &address));
    }
    (bench, given)
}

#[test]
fn one_node_does_not_take_the_whole_pool_by_changing_its_address() {
    let (mut bench, given) = clinging(2, &["1000", "1001", "1002", "1003", "77"]);
    assert!(given.iter().take(3).all(Result::is_ok), "{given:?}");
    assert_eq!(given.get(3..), Some(&[Err(Denial::TooManyLeft), Err(Denial::TooManyLeft)][..]));
    assert_eq!(wish(&mut bench.agent, 1, Wish::Address(None)), Ok(v6("2001:db8:1::1003")));
    assert_eq!(wish(&mut bench.agent, 0, Wish::Formed(v6("2001:db8:1::1001"))), Ok(v6("2001:db8:1::1001")), "back to one it has left");
}

#[test]
fn an_address_that_was_left_waits_for_its_own_sas_only() {
    let (mut bench, _) = clinging(2, &["1000", "1001", "1002"]);
    bench.agent.core.children.remove(ChildId(12));
    let down = KeyingEvent::ChildDown { child: ChildId(12), policy: BINDING, cause: watari_sa::Cause::PEER_CLOSED };
    bench.agent.home_after(&down);
    let (first, second) = (v6("2001:db8:1::1000"), v6("2001:db8:1::1001"));
    assert_eq!(wish(&mut bench.agent, 1, Wish::Formed(first)), Err(Denial::Taken(first)));
    assert_eq!(wish(&mut bench.agent, 1, Wish::Formed(second)), Ok(second), "the SA of the one before is none of its business");
}

fn holder_of(agent: &Agent, name: &str) -> u32 {
    (0..).zip(&agent.core.config.remotes).find(|(_, remote)| remote.name == name).expect("there").0
}

#[test]
fn a_changed_record_without_sas_gives_its_address_back() {
    let pool = "policies = \"mip6d\"\npool = \"2001:db8:1::1000\"";
    let mut agent = agent(config(pool, &fleet(2)));
    let only = wish(&mut agent, 0, Wish::Address(None)).expect("an address");
    reload(&mut agent, config(&format!("{pool}\nredirect_to = \"2001:db8:7::1\""), &fleet(2)));
    let other = holder_of(&agent, "mn1.example");
    assert_eq!(wish(&mut agent, other, Wish::Address(None)), Ok(only));
}

//= rfc7296#2.19
//# an assigned address goes with its last IKE SA, also where that stands under a record that is no longer there
#[test]
fn a_changed_record_gives_its_address_back_once_the_sas_of_the_old_one_are_gone() {
    let pool = "policies = \"mip6d\"\npool = \"2001:db8:1::1000\"";
    let mut bench = Bench::started(config(pool, &fleet(2)), Vec::new(), Vec::new());
    let only = wish(&mut bench.agent, 0, Wish::Address(None)).expect("an address");
    bench.ike(1, 0, HA, COA1);
    for line in ["redirect_to = \"2001:db8:7::1\"", "redirect_to = \"2001:db8:7::2\""] {
        reload(&mut bench.agent, config(&format!("{pool}\n{line}"), &fleet(2)));
        let other = holder_of(&bench.agent, "mn1.example");
        assert_eq!(wish(&mut bench.agent, other, Wish::Address(None)), Err(Denial::PoolExhausted), "an SA of the old record is there");
    }
    bench.agent.give_up(at(10), RemoteId(0), &[IkeId(1)]);
    let (node, other) = (holder_of(&bench.agent, "mn0.example"), holder_of(&bench.agent, "mn1.example"));
    assert_eq!(bench.agent.core.config.remotes[node as usize].role.home_address(), None);
    let identity = &bench.agent.core.config.remotes[node as usize].remote_identity;
    assert!(!bench.agent.core.config.pad.may_hold_range(identity, &AddressRange::host(only.into())), "nor the right to hold SAs for it");
    assert_eq!(wish(&mut bench.agent, other, Wish::Address(None)), Ok(only));
}

#[test]
fn a_mobile_node_whose_record_changed_still_knows_its_home_prefix() {
    let profile = || MobileNodeProfile { home_address: MobilityRole::UNKNOWN, ..MobileNodeProfile::default() };
    let mut agent = agent(mobile_node(profile()));
    let home = wish(&mut agent, 0, Wish::GivenPrefix("2001:db8:1::/64".parse().expect("net"))).expect("an address");
    reload(&mut agent, mobile_node(MobileNodeProfile { name: "renamed".into(), ..profile() })).expect("an answer");
    assert_eq!(
        agent.core.config.remotes.iter().filter(|remote| remote.role.home_address() == Some(home.into())).count(),
        2,
        "retired and new"
    );
    drained(&mut agent);
    let arguments = crate::vici::Section::new().with("home-address", home.to_string());
    let command = Command::Vici { name: "home-address-taken".into(), arguments };
    agent.handle(watari_kernel::Now::default(), Input::Command(CommandId(1), command));
    let formed = drained(&mut agent).into_iter().find_map(|output| match output {
        Output::Reply(_, Reply::End(section)) => section.text("home-address").map(str::to_owned),
        _ => None,
    });
    assert!(formed.is_some_and(|formed| formed != home.to_string() && formed.starts_with("2001:db8:1:")));
}

#[test]
fn hostile_wishes_do_no_harm() {
    let mut agent = agent(config("policies = \"mip6d\"\npool = \"2001:db8:1::2\"", &fleet(3)));
    for address in ["::", "::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fe80::1", "2001:db8:1::1", "2001:db8:1::"] {
        assert!(wish(&mut agent, 0, Wish::Formed(v6(address))).is_err(), "{address}");
        agent.core.release(RemoteId(0));
        let _ = wish(&mut agent, 0, hint(address));
    }
    assert!(wish(&mut agent, 77, Wish::Address(None)).is_err(), "a remote that does not exist");
    agent.core.release(RemoteId(77));
}
