//! The policies, states and MIGRATE messages of mip6d (FACTS 2.1 to 2.3), as values.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};
use watari_kernel::mirror::{HAO, MigrateRequest, MobilityState, ROUTE2};
use watari_kernel::{Endpoints, KmAddress, MigrateStep, PolicyAction, PolicyEntry, PolicyIndex, PolicyKind, Template};
use watari_policies::profile::{BindingSelector, Protected};
use watari_policies::selector::{ICMPV6, MOBILITY_HEADER};
use watari_policies::{Direction, Mode, Protocol, Reqid, Selector};

use super::{Agreement, PREFIX_ADVERTISEMENT, PREFIX_SOLICITATION, Personality};

pub(super) const ANY: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
pub(super) const NOWHERE: Endpoints = Endpoints { src: ANY, dst: ANY };

pub(super) fn any_net() -> IpNet {
    IpNet::V6(Ipv6Net::default())
}

fn everything() -> Selector {
    Selector::between(any_net(), any_net())
}

fn entry(kind: PolicyKind, selector: Selector, direction: Direction, priority: u32, templates: Vec<Template>) -> PolicyEntry {
    PolicyEntry { selector, direction, kind, index: PolicyIndex(0), priority, action: PolicyAction::Allow, templates }
}

fn mobility_template(ip_protocol: u8, optional: bool) -> Template {
    Template { protocol: None, ip_protocol, mode: Mode::Transport, reqid: Reqid(0), endpoints: NOWHERE, optional }
}

/// Which way a policy's packets go, whoever looks at it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    ToHomeAgent,
    ToMobileNode,
}

/// Which end installs the policy.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    MobileNode,
    HomeAgent,
}

/// Selectors towards home agent and mobile node. A type stands in the source port in either direction.
fn selectors(agreement: &Agreement, what: Protected) -> (Selector, Selector) {
    let (node, agent) = (agreement.home_address.into(), agreement.home_agent.into());
    let there = Selector::between(node, agent);
    let wide = Selector::between(node, any_net());
    match what {
        Protected::Binding => {
            let (out, back) = (there.protocol(MOBILITY_HEADER), there.reversed_addresses().protocol(MOBILITY_HEADER));
            match agreement.binding {
                BindingSelector::Any => (out, back),
                // A range of types has no mask: mip6d writes one policy per type.
                BindingSelector::Typed | BindingSelector::Range => (out.message_type(5), back.message_type(6)),
            }
        }
        Protected::PrefixDiscovery => {
            let typed = |selector: Selector, number: u16| selector.protocol(ICMPV6).message_type(u8::try_from(number).unwrap_or(u8::MAX));
            (typed(there, PREFIX_SOLICITATION), typed(there.reversed_addresses(), PREFIX_ADVERTISEMENT))
        }
        Protected::ReturnRoutability => {
            let (out, back) = (wide.protocol(MOBILITY_HEADER), wide.reversed_addresses().protocol(MOBILITY_HEADER));
            // `TunnelMh` beside any-type binding policies, `TunnelHomeTesting` beside typed ones.
            if agreement.binding == BindingSelector::Any { (out, back) } else { (out.message_type(1), back.message_type(3)) }
        }
        Protected::Payload => (wide, wide.reversed_addresses()),
    }
}

/// Payload of the home address and of the networks behind the mobile node.
fn payload(agreement: &Agreement) -> Vec<(Selector, Selector)> {
    let networks = agreement.networks.iter().map(|network| Selector::between(*network, any_net()));
    let home = selectors(agreement, Protected::Payload).0;
    std::iter::once(home).chain(networks).map(|there| (there, there.reversed_addresses())).collect()
}

/// One IPsec policy of the table, with its way.
pub(super) struct Ipsec {
    pub(super) way: Way,
    pub(super) entry: PolicyEntry,
}

impl Ipsec {
    pub(super) fn template(&self) -> Option<Template> {
        self.entry.templates.first().copied()
    }
}

/// The IPsec policies of one mode in the order in which they are migrated; tunnels between `care_of` and the home agent.
pub(super) fn ipsec(agreement: &Agreement, end: End, mode: Mode, care_of: IpAddr) -> Vec<Ipsec> {
    let mut policies = Vec::new();
    for (what, reqids) in agreement.protect.iter().filter(|(what, _)| what.mode() == mode) {
        let pairs = if *what == Protected::Payload { payload(agreement) } else { vec![selectors(agreement, *what)] };
        for (there, back) in pairs {
            let policy = |way, direction| {
                let (selector, reqid, endpoints) = match way {
                    Way::ToHomeAgent => (there, reqids.to_home_agent, Endpoints { src: care_of, dst: agreement.home_agent }),
                    Way::ToMobileNode => (back, reqids.to_mobile_node, Endpoints { src: agreement.home_agent, dst: care_of }),
                };
                let endpoints = if mode == Mode::Tunnel { endpoints } else { NOWHERE };
                let template = Template::esp(mode, reqid, endpoints);
                Ipsec { way, entry: entry(PolicyKind::Main, selector, direction, what.priority(), vec![template]) }
            };
            match end {
                End::MobileNode => {
                    policies.push(policy(Way::ToHomeAgent, Direction::Out));
                    policies.push(policy(Way::ToMobileNode, Direction::In));
                }
                End::HomeAgent => {
                    policies.push(policy(Way::ToHomeAgent, Direction::In));
                    if mode == Mode::Tunnel {
                        policies.push(policy(Way::ToHomeAgent, Direction::Forward));
                    }
                    policies.push(policy(Way::ToMobileNode, Direction::Out));
                }
            }
        }
    }
    policies
}

/// Home agent: what stands before the first binding where the binding update itself comes through the tunnel, from nobody knows where.
pub(super) fn awaiting(agreement: &Agreement) -> Vec<PolicyEntry> {
    let inbound = |policy: &Ipsec| policy.entry.direction != Direction::Out && agreement.tunnels_updates();
    ipsec(agreement, End::HomeAgent, Mode::Tunnel, ANY).into_iter().filter(inbound).map(|policy| policy.entry).collect()
}

/// One MIGRATE per policy: transport policies from nowhere, tunnels from `old`, all to `new`.
pub(super) fn migrates(agreement: &Agreement, end: End, mode: Mode, old: IpAddr, new: IpAddr) -> Vec<MigrateRequest> {
    let kmaddress = match end {
        End::MobileNode => KmAddress { local: new, remote: agreement.home_agent },
        End::HomeAgent => KmAddress { local: agreement.home_agent, remote: new },
    };
    let between = |way, care_of| match way {
        Way::ToHomeAgent => Endpoints { src: care_of, dst: agreement.home_agent },
        Way::ToMobileNode => Endpoints { src: agreement.home_agent, dst: care_of },
    };
    ipsec(agreement, end, mode, old)
        .into_iter()
        .filter_map(|policy| {
            let template = policy.template()?;
            let old = if mode == Mode::Tunnel { between(policy.way, old) } else { NOWHERE };
            let step = MigrateStep { protocol: Protocol::Esp, mode, reqid: template.reqid, old, new: between(policy.way, new) };
            Some(MigrateRequest {
                selector: policy.entry.selector,
                direction: policy.entry.direction,
                kind: PolicyKind::Main,
                steps: vec![step],
                kmaddress: (agreement.personality == Personality::Mip6d).then_some(kmaddress),
            })
        })
        .collect()
}

/// Mobile node: what stands besides IPsec from the start.
pub(super) fn mobile_start(agreement: &Agreement) -> Vec<PolicyEntry> {
    let back = Selector::between(agreement.home_agent.into(), agreement.home_address.into());
    let neighbour =
        |kind, number, priority| entry(kind, everything().protocol(ICMPV6).message_type(number), Direction::Out, priority, Vec::new());
    let mut policies = vec![
        entry(PolicyKind::Sub, everything().protocol(MOBILITY_HEADER), Direction::Out, 12, Vec::new()),
        entry(PolicyKind::Sub, everything().protocol(MOBILITY_HEADER).message_type(7), Direction::Out, 3, Vec::new()),
        neighbour(PolicyKind::Sub, 135, 12),
        neighbour(PolicyKind::Sub, 136, 3),
        neighbour(PolicyKind::Main, 135, 12),
        neighbour(PolicyKind::Main, 136, 3),
        entry(PolicyKind::Sub, everything(), Direction::In, 19, vec![mobility_template(ROUTE2, true)]),
    ];
    if agreement.binding != BindingSelector::Any {
        // With any-type binding policies the same selector is taken: this one would replace them.
        policies.push(entry(PolicyKind::Main, back.protocol(MOBILITY_HEADER), Direction::In, 3, Vec::new()));
    }
    policies
}

/// Home agent: what stands from the start for binding updates with a home address option. Kernels that do not read inbound types need the
/// untyped form, which helps on the others too.
pub(super) fn home_start(home_agent: IpAddr) -> Vec<PolicyEntry> {
    let updates = Selector::between(any_net(), home_agent.into()).protocol(MOBILITY_HEADER);
    vec![
        entry(PolicyKind::Sub, updates, Direction::In, 9, vec![mobility_template(HAO, true)]),
        entry(PolicyKind::Sub, everything().protocol(MOBILITY_HEADER), Direction::Out, 12, Vec::new()),
    ]
}

/// Traffic between home address and home agent that carries home address option and routing header.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    /// Mobility Header messages, from the first binding update on.
    Signalling,
    /// Everything, once the binding is acknowledged: until then the mobile node's block policy has this selector.
    Data,
}

/// Sub policies between home address and home agent: home address option one way, routing header the other. Where all of it is tunnelled
/// they only let pass, under what the main policies demand, what the block policies would stop.
pub(super) fn bound(agreement: &Agreement, end: End, what: Bound) -> [PolicyEntry; 2] {
    let there = Selector::between(agreement.home_address.into(), agreement.home_agent.into());
    let (there, priority) = match what {
        Bound::Signalling => (there.protocol(MOBILITY_HEADER), 2),
        Bound::Data => (there, 6),
    };
    let back = there.reversed_addresses();
    let (out, incoming) = match end {
        End::MobileNode => ((there, HAO), (back, ROUTE2)),
        End::HomeAgent => ((back, ROUTE2), (there, HAO)),
    };
    let header = |number, optional| if agreement.tunnels_updates() { Vec::new() } else { vec![mobility_template(number, optional)] };
    [
        entry(PolicyKind::Sub, out.0, Direction::Out, priority, header(out.1, false)),
        entry(PolicyKind::Sub, incoming.0, Direction::In, priority, header(incoming.1, true)),
    ]
}

/// States between home address and home agent while a binding stands; none where all of it is tunnelled.
pub(super) fn states(agreement: &Agreement, care_of: IpAddr) -> Vec<MobilityState> {
    if agreement.tunnels_updates() {
        return Vec::new();
    }
    let there = Endpoints { src: agreement.home_address, dst: agreement.home_agent };
    vec![
        MobilityState { ip_protocol: HAO, endpoints: there, care_of },
        MobilityState { ip_protocol: ROUTE2, endpoints: there.reversed(), care_of },
    ]
}

/// The state that lets binding updates from anywhere in.
pub(super) const fn any_update(home_agent: IpAddr) -> MobilityState {
    MobilityState { ip_protocol: HAO, endpoints: Endpoints { src: ANY, dst: home_agent }, care_of: ANY }
}

/// What the mobile node blocks while its binding update is out.
pub(super) fn blocks(agreement: &Agreement) -> Vec<PolicyEntry> {
    let there = Selector::between(agreement.home_address.into(), agreement.home_agent.into());
    let block = |selector| PolicyEntry { action: PolicyAction::Block, ..entry(PolicyKind::Sub, selector, Direction::Out, 4, Vec::new()) };
    vec![block(there), block(everything())]
}
