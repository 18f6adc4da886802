//! Mobile node and home agent in one struct each, turned into remotes, policies and PAD entries (RFC 4877 7).
//! Both ends of a pair come from the same `Terms`, so that the home agent's policies are the mirror image of the mobile node's.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::algorithm::{ChildProposal, IkeProposal, default_child_proposals, default_ike_proposals};
use crate::certificate::Proofs;
use crate::model::{Authentication, Endpoints, Retransmit, Settings};
use crate::selector::{ICMPV6, MOBILITY_HEADER};
use crate::{
    Action, AddressRange, Ask, Assigned, Block, BlockId, Config, Follow, Gateway, Gateways, Identity, Installer, Ipsec, IpsecId, Lifetime,
    MobilityRole, Mode, Movements, Policy, Ports, Protocol, Remote, RemoteId, Reqid, SecretId, SendOn, Traffic, TrafficItem,
};

/// Traffic between a mobile node and its home agent that IPsec may protect (RFC 4877 4.1), in order of kernel priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protected {
    /// Binding updates and acknowledgements, ESP in transport mode.
    Binding,
    /// Mobile prefix solicitations and advertisements, ESP in transport mode.
    PrefixDiscovery,
    /// Home test messages to any correspondent node, ESP in tunnel mode.
    ReturnRoutability,
    /// Everything else to and from the home address, ESP in tunnel mode.
    Payload,
}

impl Protected {
    /// All kinds, in order of kernel priority.
    pub const ALL: [Self; 4] = [Self::Binding, Self::PrefixDiscovery, Self::ReturnRoutability, Self::Payload];

    /// The name in configuration and output, and of the policy made for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Binding => "binding",
            Self::PrefixDiscovery => "prefix-discovery",
            Self::ReturnRoutability => "return-routability",
            Self::Payload => "payload",
        }
    }

    /// Encapsulation mode (RFC 4877 4.1).
    pub const fn mode(self) -> Mode {
        match self {
            Self::Binding | Self::PrefixDiscovery => Mode::Transport,
            Self::ReturnRoutability | Self::Payload => Mode::Tunnel,
        }
    }

    /// Kernel priority of the policies, the numbers mip6d uses.
    pub const fn priority(self) -> u32 {
        match self {
            Self::Binding => 2,
            Self::PrefixDiscovery => 5,
            Self::ReturnRoutability => 10,
            Self::Payload => 13,
        }
    }

    /// The reqids of mip6d's own examples, 1 and 2 to 7 and 8.
    pub const fn usual_reqids(self) -> Reqids {
        let to_home_agent = match self {
            Self::Binding => 1,
            Self::PrefixDiscovery => 3,
            Self::ReturnRoutability => 5,
            Self::Payload => 7,
        };
        Reqids { to_home_agent: Reqid(to_home_agent), to_mobile_node: Reqid(to_home_agent + 1) }
    }

    /// The traffic as the mobile node sees it; an unspecified home address stands for every address it may turn out to be.
    pub fn traffic(self, home_address: IpAddr, home_agent: IpAddr, binding: BindingSelector) -> Traffic {
        let item = |range, protocol, ports| TrafficItem { range, protocol, ports };
        let node = if home_address.is_unspecified() { AddressRange::ANY_V6 } else { AddressRange::host(home_address) };
        let agent = AddressRange::host(home_agent);
        match self {
            Self::Binding => {
                let (sent, received) = binding.ports();
                Traffic::new(item(node, MOBILITY_HEADER, sent), item(agent, MOBILITY_HEADER, received))
            }
            Self::PrefixDiscovery => Traffic::new(item(node, ICMPV6, Ports::icmp(146, None)), item(agent, ICMPV6, Ports::icmp(147, None))),
            Self::ReturnRoutability => Traffic::new(TrafficItem::mh_type(node, 1), TrafficItem::mh_type(AddressRange::ANY_V6, 3)),
            Self::Payload => Traffic::new(TrafficItem::any(node), TrafficItem::any(AddressRange::ANY_V6)),
        }
    }
}

/// How narrow the selector of binding messages is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BindingSelector {
    /// Every Mobility Header message between home address and home agent (UMIP `Mh`); works on every kernel.
    #[default]
    Any,
    /// Binding update one way, acknowledgement the other (RFC 4877 7.2.1, UMIP `HomeRegBinding`).
    Typed,
    /// Types 5 to 6 both ways, in one pair (RFC 4877 7.3).
    Range,
}

impl BindingSelector {
    /// The types that mobile node and home agent send.
    const fn ports(self) -> (Ports, Ports) {
        match self {
            Self::Any => (Ports::ANY, Ports::ANY),
            Self::Typed => (Ports::mh_type(5), Ports::mh_type(6)),
            Self::Range => (Ports::mh_types(5, 6), Ports::mh_types(5, 6)),
        }
    }
}

/// The reqids of the two directions, named so that both ends write the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reqids {
    /// Mobile node to home agent.
    pub to_home_agent: Reqid,
    /// Home agent to mobile node.
    pub to_mobile_node: Reqid,
}

/// What mobile node and home agent configure alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// What is protected, under which reqids.
    pub protect: BTreeMap<Protected, Reqids>,
    /// Width of the selector of binding messages.
    pub binding_selector: BindingSelector,
    /// Who owns the kernel policies.
    pub installer: Installer,
    /// IKE proposals, never empty.
    pub ike: Vec<IkeProposal>,
    /// ESP proposals, never empty.
    pub esp: Vec<ChildProposal>,
    /// Lifetime of IKE SAs.
    pub ike_lifetime: Lifetime,
    /// Lifetime of child SAs.
    pub child_lifetime: Lifetime,
    /// Retransmission of requests.
    pub retransmit: Retransmit,
    /// Idle time before a liveness check; `None` for never.
    pub liveness: Option<Duration>,
    /// Negotiate at start-up instead of at the first packet.
    pub start: bool,
    /// Say INITIAL_CONTACT in the first IKE_AUTH.
    pub initial_contact: bool,
    /// Anti-replay window in packets.
    pub replay_window: u32,
    /// How long SAs are kept whose policy left the kernel; `None` for as long as they live.
    pub dormant: Option<Duration>,
    /// What is believed about movements, and whether IKE SAs follow them.
    pub movements: Movements,
}

impl Default for Terms {
    /// Binding and payload protected under mip6d's usual reqids and policies, default proposals, IKE SAs of 4 h, child SAs of 1 h.
    fn default() -> Self {
        Self {
            protect: [Protected::Binding, Protected::Payload].map(|what| (what, what.usual_reqids())).into(),
            binding_selector: BindingSelector::Any,
            installer: Installer::Other,
            ike: default_ike_proposals(),
            esp: default_child_proposals(),
            ike_lifetime: Lifetime::of(Duration::from_secs(4 * 3600)),
            child_lifetime: Lifetime::of(Duration::from_secs(3600)),
            retransmit: Retransmit::default(),
            liveness: None,
            start: false,
            initial_contact: true,
            replay_window: 64,
            dormant: None,
            movements: Movements::default(),
        }
    }
}

/// A mobile node with one home address and one home agent.
#[derive(Clone, Debug, PartialEq)]
pub struct MobileNodeProfile {
    /// Name of the remote, for logs and commands.
    pub name: String,
    /// Our home address; unspecified if the home agent assigns it.
    pub home_address: IpAddr,
    /// What the home agent is asked for if it assigns the home address.
    pub ask: Ask,
    /// Address of the home agent, the first one of several.
    pub home_agent: IpAddr,
    /// Several home agents, and redirects to others.
    pub gateways: Gateways,
    /// Our identity.
    pub identity: Identity,
    /// Identity that the home agent must prove, whichever of several it is.
    pub home_agent_identity: Identity,
    /// Shared secret of the two.
    pub secret: SecretId,
    /// How both prove themselves, if not by that secret alone.
    pub proofs: Option<Arc<Proofs>>,
    /// Networks behind us that move with us (RFC 3963), protected like payload.
    pub networks: Vec<IpNet>,
    /// What both ends configure alike.
    pub terms: Terms,
    /// Settings of the agent as a whole.
    pub settings: Settings,
    /// Line of the configuration, 0 when made by a program.
    pub line: u32,
}

impl Default for MobileNodeProfile {
    /// The addresses of the documentation's examples; liveness is checked after 60 s.
    fn default() -> Self {
        Self {
            name: "home-agent".into(),
            home_address: IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0xabcd)),
            ask: Ask::Address(None),
            home_agent: IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1)),
            gateways: Gateways::default(),
            identity: Identity::Fqdn("mn.example".into()),
            home_agent_identity: Identity::Fqdn("ha.example".into()),
            secret: SecretId(0),
            proofs: None,
            networks: Vec::new(),
            terms: Terms { liveness: Some(Duration::from_secs(60)), ..Terms::default() },
            settings: Settings::default(),
            line: 0,
        }
    }
}

/// One mobile node that a home agent serves.
#[derive(Clone, Debug, PartialEq)]
pub struct ServedNode {
    /// Name of the remote, for logs and commands.
    pub name: String,
    /// The node's home address, the only one it may hold SAs for; unspecified if we assign it.
    pub home_address: IpAddr,
    /// Identity that the node must prove.
    pub identity: Identity,
    /// Shared secret of the two.
    pub secret: SecretId,
    /// How both prove themselves, if not by that secret alone.
    pub proofs: Option<Arc<Proofs>>,
    /// Networks behind the node that move with it (RFC 3963), protected like payload.
    pub networks: Vec<IpNet>,
    /// Reqids of this node where they are not those of the terms.
    pub reqids: BTreeMap<Protected, Reqids>,
    /// Line of the configuration, 0 when made by a program.
    pub line: u32,
}

impl Default for ServedNode {
    /// The peer of `MobileNodeProfile::default`.
    fn default() -> Self {
        let node = MobileNodeProfile::default();
        Self {
            name: "mn.example".into(),
            home_address: node.home_address,
            identity: node.identity,
            secret: node.secret,
            proofs: None,
            networks: Vec::new(),
            reqids: BTreeMap::new(),
            line: 0,
        }
    }
}

/// A home agent and the mobile nodes it serves.
#[derive(Clone, Debug, PartialEq)]
pub struct HomeAgentProfile {
    /// Address of the home agent.
    pub home_agent: IpAddr,
    /// Our identity.
    pub identity: Identity,
    /// The mobile nodes.
    pub mobile_nodes: Vec<ServedNode>,
    /// Prefix of the home link, for addresses that we assign.
    pub home_prefix: Option<IpNet>,
    /// What we hand out of our own accord; `None` for the whole prefix.
    pub pool: Option<AddressRange>,
    /// Whether mobile nodes may form home addresses within the prefix.
    pub autoconfiguration: bool,
    /// Where mobile nodes that call are sent instead, and when.
    pub redirect_to: Option<(Gateway, SendOn)>,
    /// Line of the configuration, 0 when made by a program.
    pub line: u32,
    /// What both ends configure alike.
    pub terms: Terms,
    /// Settings of the agent as a whole.
    pub settings: Settings,
}

impl Default for HomeAgentProfile {
    /// The home agent of `MobileNodeProfile::default`, serving no node yet; it makes no liveness checks, because a node that sleeps is not gone.
    fn default() -> Self {
        let node = MobileNodeProfile::default();
        Self {
            home_agent: node.home_agent,
            identity: node.home_agent_identity,
            mobile_nodes: Vec::new(),
            home_prefix: None,
            pool: None,
            autoconfiguration: true,
            redirect_to: None,
            line: 0,
            terms: Terms::default(),
            settings: Settings::default(),
        }
    }
}

/// The configuration of a mobile node.
pub fn mobile_node(profile: MobileNodeProfile) -> Config {
    let mut config = Config { settings: profile.settings.clone(), ..Config::default() };
    add_mobile_node(&mut config, &profile);
    config
}

/// The configuration of a home agent.
pub fn home_agent(profile: HomeAgentProfile) -> Config {
    let mut config = Config { settings: profile.settings.clone(), ..Config::default() };
    add_home_agent(&mut config, &profile);
    config
}

/// Adds the records of a mobile node; the profile's settings are left alone.
pub(crate) fn add_mobile_node(config: &mut Config, profile: &MobileNodeProfile) {
    let terms = &profile.terms;
    let mut remote = remote(
        terms,
        &profile.name,
        profile.identity.clone(),
        profile.home_agent_identity.clone(),
        authentication(profile.secret, profile.proofs.as_ref()),
    );
    remote.role = MobilityRole::MobileNode { home_address: profile.home_address };
    remote.remote_address = Some(profile.home_agent);
    let home_agents = || std::iter::once(profile.home_agent).chain(profile.gateways.addresses.iter().copied().skip(1));
    remote.allowed_from = home_agents().map(IpNet::from).collect();
    remote.gateways = profile.gateways.clone();
    remote.line = profile.line;
    if profile.home_address.is_unspecified() {
        let block = Block {
            terms: terms.clone(),
            home_agent: profile.home_agent,
            networks: Vec::new(),
            home_prefix: None,
            pool: None,
            autoconfiguration: false,
            line: profile.line,
        };
        remote.assigned = Some(Assigned { block: add_block(config, block), ask: Some(profile.ask) });
        // No packet has a home address to ask with.
        remote.start = true;
    }
    let ipsec = add_ipsec(config, terms, &profile.name);
    let side = Side { remote: add_remote(config, remote), ipsec, line: profile.line };
    //= rfc4877#7.1
    //# The mobile node's PAD lets the home agent hold children for the home agent's address; its tunnels lead everywhere.
    let mut held: Vec<IpNet> = home_agents().map(IpNet::from).collect();
    if profile.gateways.follow == Follow::Any {
        //= rfc5685#3
        //# A redirect changes no entry of the PAD: where it may lead anywhere, the identity may hold SAs for any address from the start.
        held.extend(AddressRange::ANY_V6.prefixes());
    }
    for (what, reqids) in &terms.protect {
        let traffic = what.traffic(profile.home_address, profile.home_agent, terms.binding_selector);
        held.extend(traffic.remote.iter().flat_map(|item| item.range.prefixes()));
        config.policies.push(policy(*what, terms, traffic, (reqids.to_home_agent, reqids.to_mobile_node), &side));
    }
    let payload = terms.protect.get(&Protected::Payload).map(|reqids| (reqids.to_home_agent, reqids.to_mobile_node));
    for (traffic, number) in profile.networks.iter().map(|network| network_traffic(*network)).zip(1..) {
        let Some(reqids) = payload else { break };
        config.policies.push(network_policy(number, terms, traffic, reqids, &side));
    }
    config.pad.allow(Some(profile.home_agent_identity.clone()), held);
}

/// Adds the records of a home agent; the profile's settings are left alone.
pub(crate) fn add_home_agent(config: &mut Config, profile: &HomeAgentProfile) {
    let terms = &profile.terms;
    let ipsec = add_ipsec(config, terms, "mobile-nodes");
    let block = profile.mobile_nodes.iter().any(|node| node.home_address.is_unspecified()).then(|| {
        let block = Block {
            terms: terms.clone(),
            home_agent: profile.home_agent,
            networks: Vec::new(),
            home_prefix: profile.home_prefix,
            pool: profile.pool,
            autoconfiguration: profile.autoconfiguration,
            line: profile.line,
        };
        add_block(config, block)
    });
    for node in &profile.mobile_nodes {
        let mut remote =
            remote(terms, &node.name, profile.identity.clone(), node.identity.clone(), authentication(node.secret, node.proofs.as_ref()));
        remote.role = MobilityRole::HomeAgent { home_address: node.home_address };
        remote.local_address = Some(profile.home_agent);
        remote.gateways.redirect_to.clone_from(&profile.redirect_to);
        remote.line = node.line;
        let fixed = !node.home_address.is_unspecified();
        remote.assigned = block.filter(|_| !fixed).map(|block| Assigned { block, ask: None });
        let side = Side { remote: add_remote(config, remote), ipsec, line: node.line };
        for (what, usual) in &terms.protect {
            let reqids = node.reqids.get(what).unwrap_or(usual);
            let traffic = what.traffic(node.home_address, profile.home_agent, terms.binding_selector).reversed();
            config.policies.push(policy(*what, terms, traffic, (reqids.to_mobile_node, reqids.to_home_agent), &side));
        }
        if fixed {
            config.pad.allow(Some(node.identity.clone()), [IpNet::from(node.home_address)]);
        }
        let payload = node.reqids.get(&Protected::Payload).or_else(|| terms.protect.get(&Protected::Payload));
        for (network, number) in node.networks.iter().zip(1..) {
            let Some(reqids) = payload else { break };
            let traffic = network_traffic(*network).reversed();
            config.policies.push(network_policy(number, terms, traffic, (reqids.to_mobile_node, reqids.to_home_agent), &side));
            config.pad.allow(Some(node.identity.clone()), [*network]);
        }
    }
}

/// What a network behind a mobile router sends and gets, as the router sees it.
fn network_traffic(network: IpNet) -> Traffic {
    Traffic::new(TrafficItem::any(AddressRange::from(network)), TrafficItem::any(AddressRange::ANY_V6))
}

/// The policy of one network: that of payload, with the network in place of the home address. The reqids are payload's too; addresses tell the SAs apart.
fn network_policy(number: usize, terms: &Terms, traffic: Traffic, reqids: (Reqid, Reqid), side: &Side) -> Policy {
    let name = if number == 1 { "network".to_owned() } else { format!("network-{number}") };
    Policy { name, ..policy(Protected::Payload, terms, traffic, reqids, side) }
}

/// What all policies of one remote have in common.
struct Side {
    remote: RemoteId,
    ipsec: IpsecId,
    line: u32,
}

/// The shared secret, unless there is more to it.
fn authentication(secret: SecretId, proofs: Option<&Arc<Proofs>>) -> Authentication {
    proofs.map_or(Authentication::Psk(secret), |proofs| Authentication::Each(Arc::clone(proofs)))
}

pub(crate) fn remote(
    terms: &Terms,
    name: &str,
    local_identity: Identity,
    remote_identity: Identity,
    authentication: Authentication,
) -> Remote {
    Remote {
        name: name.to_owned(),
        local_address: None,
        remote_address: None,
        gateways: Gateways::default(),
        allowed_from: Vec::new(),
        local_identity,
        remote_identity,
        authentication,
        role: MobilityRole::None,
        assigned: None,
        proposals: terms.ike.clone(),
        lifetime: terms.ike_lifetime,
        retransmit: terms.retransmit,
        liveness: terms.liveness,
        initial_contact: terms.initial_contact,
        start: terms.start,
        movements: terms.movements,
        line: 0,
    }
}

fn policy(what: Protected, terms: &Terms, traffic: Traffic, (reqid_out, reqid_in): (Reqid, Reqid), side: &Side) -> Policy {
    let endpoints = match what.mode() {
        Mode::Transport => Endpoints::Selector,
        Mode::Tunnel => Endpoints::Template,
    };
    Policy {
        name: what.name().to_owned(),
        traffic,
        action: Action::Protect,
        mode: what.mode(),
        reqid_out,
        reqid_in,
        priority: what.priority(),
        endpoints,
        installer: terms.installer,
        ipsec: side.ipsec,
        remote: side.remote,
        line: side.line,
    }
}

pub(crate) fn add_remote(config: &mut Config, remote: Remote) -> RemoteId {
    let id = RemoteId(u32::try_from(config.remotes.len()).unwrap_or(u32::MAX));
    config.remotes.push(remote);
    id
}

pub(crate) fn add_block(config: &mut Config, block: Block) -> BlockId {
    let id = BlockId(u32::try_from(config.blocks.len()).unwrap_or(u32::MAX));
    config.blocks.push(block);
    id
}

pub(crate) fn add_ipsec(config: &mut Config, terms: &Terms, name: &str) -> IpsecId {
    let id = IpsecId(u32::try_from(config.ipsecs.len()).unwrap_or(u32::MAX));
    config.ipsecs.push(Ipsec {
        name: name.to_owned(),
        protocol: Protocol::Esp,
        proposals: terms.esp.clone(),
        lifetime: terms.child_lifetime,
        replay_window: terms.replay_window,
        dormant: terms.dormant,
        manual: None,
    });
    id
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Direction;

    fn everything() -> Terms {
        Terms { protect: Protected::ALL.map(|what| (what, what.usual_reqids())).into(), ..Terms::default() }
    }

    fn pair(terms: &Terms) -> (Config, Config) {
        let node = mobile_node(MobileNodeProfile { terms: terms.clone(), ..MobileNodeProfile::default() });
        let profile = HomeAgentProfile { terms: terms.clone(), mobile_nodes: vec![ServedNode::default()], ..HomeAgentProfile::default() };
        (node, home_agent(profile))
    }

    #[test]
    fn the_home_agent_is_the_mirror_image() {
        let (node, agent) = pair(&everything());
        assert_eq!(node.policies.len(), 4);
        for (here, there) in node.policies.iter().zip(&agent.policies) {
            assert_eq!(here.traffic, there.traffic.reversed());
            assert_eq!((here.reqid_out, here.reqid_in), (there.reqid_in, there.reqid_out));
            assert_eq!((here.mode, here.endpoints, here.priority), (there.mode, there.endpoints, there.priority));
        }
        assert_eq!(node.remotes[0].role.home_address(), agent.remotes[0].role.home_address());
        assert_eq!(node.remotes[0].local_identity, agent.remotes[0].remote_identity);
        assert_eq!(agent.remotes[0].remote_address, None);
    }

    #[test]
    fn policies_are_those_of_mip6d() {
        let terms = Terms { binding_selector: BindingSelector::Typed, ..everything() };
        let (node, _) = pair(&terms);
        let out: Vec<_> = node.policies.iter().map(|policy| policy.traffic.kernel_selectors(Direction::Out, true).sa.to_string()).collect();
        assert_eq!(
            out,
            [
                "2001:db8:1::abcd/128 -> 2001:db8:1::1/128 mobility-header type 5",
                "2001:db8:1::abcd/128 -> 2001:db8:1::1/128 icmpv6 type 146",
                "2001:db8:1::abcd/128 -> ::/0 mobility-header type 1",
                "2001:db8:1::abcd/128 -> ::/0",
            ]
        );
        let reqids: Vec<_> = node.policies.iter().map(|policy| (policy.reqid_out.0, policy.reqid_in.0)).collect();
        assert_eq!(reqids, [(1, 2), (3, 4), (5, 6), (7, 8)]);
    }

    #[test]
    fn each_end_may_hold_what_its_policies_need_and_no_more() {
        let (node, agent) = pair(&everything());
        let (mn, ha) = (Identity::Fqdn("mn.example".into()), Identity::Fqdn("ha.example".into()));
        assert!(node.policies.iter().all(|policy| node.pad.may_hold(&ha, &policy.traffic)));
        assert!(agent.policies.iter().all(|policy| agent.pad.may_hold(&mn, &policy.traffic)));
        assert!(!agent.pad.may_hold_range(&mn, &AddressRange::host("2001:db8:1::abce".parse().unwrap())));
        let terms = Terms { protect: [(Protected::Binding, Reqids::default())].into(), ..Terms::default() };
        let (node, _) = pair(&terms);
        assert!(!node.pad.may_hold_range(&ha, &AddressRange::ANY_V6));
    }

    #[test]
    fn a_served_node_may_have_reqids_of_its_own() {
        let own = Reqids { to_home_agent: Reqid(11), to_mobile_node: Reqid(12) };
        let served = ServedNode { reqids: [(Protected::Binding, own)].into(), ..ServedNode::default() };
        let config = home_agent(HomeAgentProfile { mobile_nodes: vec![served], ..HomeAgentProfile::default() });
        let reqids: Vec<_> = config.policies.iter().map(|policy| (policy.reqid_out.0, policy.reqid_in.0)).collect();
        assert_eq!(reqids, [(12, 11), (8, 7)]);
    }

    #[test]
    fn networks_behind_a_mobile_router_are_protected_like_payload_on_both_sides() {
        let network: IpNet = "2001:db8:5::/48".parse().expect("prefix");
        let node = mobile_node(MobileNodeProfile { networks: vec![network], ..MobileNodeProfile::default() });
        let served = ServedNode { networks: vec![network], ..ServedNode::default() };
        let agent = home_agent(HomeAgentProfile { mobile_nodes: vec![served], ..HomeAgentProfile::default() });
        let find = |config: &Config| config.policies.iter().find(|policy| policy.name == "network").cloned().expect("a policy of its own");
        let (here, there) = (find(&node), find(&agent));
        assert_eq!(here.traffic, there.traffic.reversed());
        assert_eq!((here.mode, here.reqid_out, here.reqid_in), (Mode::Tunnel, there.reqid_in, there.reqid_out));
        let out = here.traffic.kernel_selectors(Direction::Out, true).sa;
        assert_eq!((out.src, out.dst.prefix_len(), out.protocol), (network, 0, 0));
        assert!(agent.pad.may_hold(&Identity::Fqdn("mn.example".into()), &there.traffic));
        let other = Traffic::new(
            TrafficItem::any(AddressRange::ANY_V6),
            TrafficItem::any(AddressRange::host("2001:db8:6::1".parse().expect("address"))),
        );
        assert!(!agent.pad.may_hold(&Identity::Fqdn("mn.example".into()), &other), "no other network");
    }
}
