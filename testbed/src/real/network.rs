//! The network of every scenario inside a guest: one router between all foreign links and the core, the home agent between home
//! link and core, mobile nodes whose one interface is plugged from link to link.

use std::net::IpAddr;

use watari_sim::home_agents::{SECOND, SECOND_HOME_AGENT};
use watari_sim::scenario::{CN, CORRESPONDENT, HA, HOME_AGENT, Link, MobilePlan, Scenario};

use crate::uml::guest::Guest;
use crate::uml::hosts::Namespace;
use crate::uml::links::Impairment;
use crate::uml::topology::{HostPlan, InterfacePlan, Topology};
use crate::uml::{Context, Failure, Result};

/// Name of the router.
const ROUTER: &str = "rt";
/// Interface of a mobile node, and the first of every other host.
pub(super) const INTERFACE: &str = "eth0";
/// Where a mobile node keeps its home address while it is away.
const TUNNEL: &str = "ip6tnl1";
/// Interface of a mobile node to the network behind it.
const INNER: &str = "lan0";
/// Link-layer address of whoever is the router of a link.
const ROUTER_LINK_ADDRESS: &str = "02:00:00:00:00:fe";

/// The hosts of a running scenario.
pub(super) struct Network<'a> {
    guest: &'a Guest,
    /// The home agent.
    pub(super) home_agent: Namespace,
    /// A home agent beside it.
    pub(super) second_home_agent: Option<Namespace>,
    /// The correspondent node.
    pub(super) correspondent: Namespace,
    impairment: Impairment,
    /// Whether there is no Mobile IPv6, and who is assigned an address then.
    access: bool,
    assigned: Vec<&'static str>,
}

fn prefixed(link: Link, host: &str) -> String {
    let prefix = link.prefix().to_string();
    let network = prefix.trim_end_matches("/64").trim_end_matches("::");
    format!("{network}::{host}")
}

/// The address of the router of a link as its hosts see it.
fn gateway(link: Link) -> String {
    match link {
        Link::Home => HOME_AGENT.to_string(),
        other => prefixed(other, "fe"),
    }
}

fn interface(name: &str, link: Link, address: &str) -> InterfacePlan {
    InterfacePlan {
        name: name.into(),
        link: Some(link.name().into()),
        addresses: vec![format!("{address}/64")],
        ..InterfacePlan::default()
    }
}

fn topology(scenario: &Scenario) -> Topology {
    let core_router = prefixed(Link::Core, "fe");
    let core_home_agent = prefixed(Link::Core, "1");
    let to_home = format!("{} via {core_home_agent}", Link::Home.prefix());
    let foreign = [Link::F1, Link::F2, Link::F3];
    let mut home_routes = vec![format!("default via {core_router}")];
    let mut core_routes = vec![to_home];
    // Whatever is behind a mobile node is behind its home address, wherever the node is.
    for plan in scenario.mobile_nodes.iter().filter(|_| scenario.networks) {
        home_routes.push(format!("{} via {}", plan.network(), plan.home_address()));
        core_routes.push(format!("{} via {core_home_agent}", plan.network()));
    }
    let mut router = vec![interface(INTERFACE, Link::Core, &core_router)];
    router.extend(foreign.iter().zip(1..).map(|(link, number)| interface(&format!("eth{number}"), *link, &gateway(*link))));
    let router_routes = core_routes
        .iter()
        .cloned()
        .chain(second_home_agent(scenario).map(|_| format!("{SECOND_HOME_AGENT} via {}", prefixed(Link::Core, "2"))));
    let router_routes = router_routes.collect();
    let mut topology = Topology {
        links: Link::ALL.iter().map(|link| link.name().into()).collect(),
        hosts: vec![
            HostPlan {
                name: HA.into(),
                router: true,
                interfaces: vec![
                    interface(INTERFACE, Link::Home, &HOME_AGENT.to_string()),
                    interface("eth1", Link::Core, &core_home_agent),
                ],
                routes: home_routes,
            },
            HostPlan { name: ROUTER.into(), router: true, interfaces: router, routes: router_routes },
            HostPlan {
                name: CN.into(),
                interfaces: vec![interface(INTERFACE, Link::Core, &CORRESPONDENT.to_string())],
                routes: std::iter::once(format!("default via {core_router}")).chain(core_routes).collect(),
                ..HostPlan::default()
            },
        ],
    };
    topology.hosts.extend(second_home_agent(scenario));
    topology
}

/// A second home agent stands beside the first one, and depends on it for what the correspondent sends to home addresses alone.
fn second_home_agent(scenario: &Scenario) -> Option<HostPlan> {
    let address = SECOND_HOME_AGENT.to_string();
    let interfaces = vec![interface(INTERFACE, Link::Home, &address), interface("eth1", Link::Core, &prefixed(Link::Core, "2"))];
    let routes = vec![format!("default via {}", prefixed(Link::Core, "fe"))];
    scenario.second_home_agent.map(|_| HostPlan { name: SECOND.into(), router: true, interfaces, routes })
}

impl<'a> Network<'a> {
    /// Builds everything but the mobile nodes' places.
    pub(super) fn build(guest: &'a Guest, scenario: &Scenario) -> Result<Self> {
        topology(scenario).build(guest)?;
        let home_agent = guest.namespace(HA)?;
        let router = guest.namespace(ROUTER)?;
        // Mobile nodes know their routers from advertisements, link-layer address included: mip6d's block policies would stop discovery.
        home_agent.ip_batch(&format!("link set {INTERFACE} address {ROUTER_LINK_ADDRESS}\n"))?;
        let lines: String = (1..=3).map(|number| format!("link set eth{number} address {ROUTER_LINK_ADDRESS}\n")).collect();
        router.ip_batch(&lines)?;
        let second_home_agent = scenario.second_home_agent.map(|_| guest.namespace(SECOND)).transpose()?;
        for (home_agent, interface) in
            std::iter::once(&home_agent).chain(&second_home_agent).flat_map(|host| [(host, "eth0"), (host, "eth1")])
        {
            home_agent.sysctl(&format!("net.ipv6.conf.{interface}.proxy_ndp"), "1")?;
        }
        let conditions = scenario.conditions;
        let percent = |permille: u64| f64::from(u32::try_from(permille).unwrap_or(u32::MAX)) / 10.0;
        let delay_ms = u32::try_from(conditions.delay.as_millis()).unwrap_or_default();
        let impairment = Impairment {
            delay_ms,
            jitter_ms: if conditions.reordered > 0 { delay_ms / 2 } else { 0 },
            loss_percent: percent(conditions.loss),
            duplicate_percent: percent(conditions.duplicates),
        };
        // What mobile nodes send is impaired on its way into the router, what they get on its way out of the link: captures show what was sent.
        for number in 1..=3 {
            guest.impair_towards(&router, &format!("eth{number}"), &impairment)?;
        }
        let assigned = scenario.mobile_nodes.iter().filter(|plan| scenario.is_assigned(plan)).map(|plan| plan.name).collect();
        let access = scenario.access.is_some();
        Ok(Self { guest, home_agent, second_home_agent, correspondent: guest.namespace(CN)?, impairment, access, assigned })
    }

    /// Makes a mobile node, nowhere yet. Its home address exists from the start, on the tunnel interface, unless it is still to be given.
    pub(super) fn mobile_node(&self, scenario: &Scenario, plan: &MobilePlan) -> Result<Namespace> {
        let node = self.guest.namespace(plan.name)?;
        self.guest.attach(&node, INTERFACE, None)?;
        // The kernel's own autoconfiguration would only add addresses and routes that no scenario knows.
        node.sysctl(&format!("net.ipv6.conf.{INTERFACE}.accept_ra"), "0")?;
        if self.access {
            if !self.assigned.contains(&plan.name) {
                self.place_inner_address(&node, plan.home_address())?;
            }
            return Ok(node);
        }
        node.ip_batch(&format!("link add {TUNNEL} type ip6tnl mode ip6ip6 remote {HOME_AGENT} local ::\nlink set {TUNNEL} up\n"))?;
        if scenario.bootstrap.is_none() {
            self.give_home_address(&node, plan.home_address())?;
        }
        if scenario.networks {
            let inner = plan.network_address();
            node.ip_batch(&format!(
                "link add {INNER} type veth peer name {INNER}p\nlink set {INNER} up\naddr add {inner}/64 dev {INNER} nodad\n"
            ))?;
        }
        Ok(node)
    }

    /// Puts a home address on the tunnel interface, where it is while its node is away.
    pub(super) fn give_home_address(&self, node: &Namespace, home_address: IpAddr) -> Result<()> {
        node.ip_batch(&format!("addr add {home_address}/128 dev {TUNNEL} nodad home\n"))
    }

    /// Takes a home address away, wherever it is.
    pub(super) fn take_home_address(&self, node: &Namespace, home_address: IpAddr) -> Result<()> {
        self.place_home_address(node, home_address, false)?;
        node.ip_batch(&format!("addr del {home_address}/128 dev {TUNNEL}\n"))
    }

    /// Gives a road warrior its address inside the tunnel, on an interface that is no link.
    pub(super) fn place_inner_address(&self, node: &Namespace, address: IpAddr) -> Result<()> {
        node.ip_batch(&format!("addr replace {address}/128 dev lo nodad\n"))
    }

    /// Takes a mobile node's carrier away at once, without starting a program.
    pub(super) fn cut(&self, node: &str) -> Result<()> {
        let file = format!("/sys/class/net/{node}-{INTERFACE}/ifindex");
        let index: i32 = std::fs::read_to_string(&file).context(&file)?.trim().parse().context(&file)?;
        super::kernel::set_link_down(index)
    }

    /// A mobile node leaves its link: carrier gone, address gone, routes gone. The home address stays where it is until the Mobile IPv6
    /// daemon moves it.
    pub(super) fn detach(&self, node: &Namespace, plan: &MobilePlan, from: Link) -> Result<()> {
        self.guest.unplug(node, INTERFACE)?;
        node.ip_batch(&format!("addr del {}/64 dev {INTERFACE}\nroute del ::/0 via {}\n", plan.care_of(from), gateway(from)))
    }

    /// A mobile node comes up on a link: carrier, router, address (tentative until the kernel's detection is over).
    pub(super) fn attach(&self, node: &Namespace, plan: &MobilePlan, link: Link) -> Result<()> {
        self.guest.move_link(node, INTERFACE, link.name())?;
        let impairment = if link.is_foreign() { self.impairment } else { Impairment { delay_ms: 1, ..Impairment::default() } };
        self.guest.impair_towards(node, INTERFACE, &impairment)?;
        let router = gateway(link);
        node.ip_batch(&format!(
            "neigh replace {router} lladdr {ROUTER_LINK_ADDRESS} dev {INTERFACE} nud permanent\n\
             addr add {}/64 dev {INTERFACE}\n\
             route replace {router}/128 dev {INTERFACE}\n\
             route replace ::/0 via {router} dev {INTERFACE}\n",
            plan.care_of(link)
        ))
    }

    /// Puts a home address on the home link's interface (`true`) or on the tunnel interface.
    pub(super) fn place_home_address(&self, node: &Namespace, home_address: IpAddr, on_link: bool) -> Result<()> {
        let (from, to) = if on_link { (TUNNEL, INTERFACE) } else { (INTERFACE, TUNNEL) };
        let shown = node.exec(&format!("ip addr show dev {from}"))?;
        if !shown.contains(&format!("{home_address}/")) {
            return Ok(());
        }
        node.ip_batch(&format!("addr del {home_address}/128 dev {from}\naddr add {home_address}/128 dev {to} nodad home\n"))
    }

    /// Cuts the home agent off (false) or connects it again.
    pub(super) fn connect_home_agent(&self, on: bool) -> Result<()> {
        for (interface, link) in [(INTERFACE, Link::Home), ("eth1", Link::Core)] {
            match on {
                true => self.guest.move_link(&self.home_agent, interface, link.name())?,
                false => self.guest.unplug(&self.home_agent, interface)?,
            }
        }
        if !on {
            return Ok(());
        }
        // Interface and addresses outlive a pulled cable; the route through it may not.
        let route = format!("route replace ::/0 via {}\n", prefixed(Link::Core, "fe"));
        self.home_agent.ip_batch(&route)
    }
}

/// Where a kernel counts what IPsec dropped.
pub(super) const COUNTERS: [&str; 3] = ["XfrmOutNoStates", "XfrmInNoStates", "XfrmAcquireError"];

/// The drop counters of a host.
pub(super) fn counters(host: &Namespace) -> Result<[u64; 3]> {
    let mut values = [0; 3];
    for (value, name) in values.iter_mut().zip(COUNTERS) {
        *value = host.xfrm_counter(name).map_err(|failure| Failure(format!("{}: {failure}", host.name)))?;
    }
    Ok(values)
}
