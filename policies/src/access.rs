//! Road warrior and gateway in one struct each, turned into remotes, policies and PAD entries: one tunnel for each client, no Mobile IPv6.
//! Both ends write the networks behind the gateway, and their policies are mirror images; the agent owns the SPD on both sides.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use ipnet::{IpNet, Ipv6Net};

use crate::model::{Authentication, Endpoints};
use crate::profile::{self, Protected, Reqids, Terms};
use crate::{
    Action, AddressRange, Ask, Assigned, Block, BlockId, Config, Identity, Installer, IpsecId, MobilityRole, Mode, Policy, RemoteId,
    SecretId, Traffic, TrafficItem,
};

/// Name of the one policy of a road warrior, and of each client of a gateway.
pub const TUNNEL: &str = Protected::Payload.name();
/// Kernel priority of the policies.
const PRIORITY: u32 = 100;
/// Idle time after which a road warrior looks whether its gateway lives, and the reverse.
const LIVENESS: Duration = Duration::from_secs(60);

/// The terms of road warriors and gateways: one tunnel, policies of our own, liveness checks.
#[must_use]
pub fn terms() -> Terms {
    let protect = [(Protected::Payload, Protected::Payload.usual_reqids())].into();
    Terms { protect, installer: Installer::Us, liveness: Some(LIVENESS), ..Terms::default() }
}

/// A host that reaches networks behind a gateway from wherever it is.
#[derive(Clone, Debug, PartialEq)]
pub struct RoadWarriorProfile {
    /// Name of the remote, for logs and commands.
    pub name: String,
    /// Our address inside the tunnel; unspecified if the gateway assigns it.
    pub inner_address: IpAddr,
    /// The address to ask for if the gateway assigns it; `None` for any.
    pub hint: Option<IpAddr>,
    /// Address of the gateway.
    pub gateway: IpAddr,
    /// Our identity.
    pub identity: Identity,
    /// Identity that the gateway must prove.
    pub gateway_identity: Identity,
    /// Shared secret of the two.
    pub secret: SecretId,
    /// What is reached through the tunnel; empty for everything.
    pub networks: Vec<IpNet>,
    /// Proposals, lifetimes and so on; of what is protected only the reqids of payload count.
    pub terms: Terms,
    /// Line of the configuration, 0 when made by a program.
    pub line: u32,
}

impl Default for RoadWarriorProfile {
    /// The addresses of the documentation's examples, with an address that the gateway assigns; negotiated at start-up.
    fn default() -> Self {
        Self {
            name: "gateway".into(),
            inner_address: MobilityRole::UNKNOWN,
            hint: None,
            gateway: IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1)),
            identity: Identity::Fqdn("client.example".into()),
            gateway_identity: Identity::Fqdn("gw.example".into()),
            secret: SecretId(0),
            networks: Vec::new(),
            terms: Terms { start: true, ..terms() },
            line: 0,
        }
    }
}

/// One client of a gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct Client {
    /// Name of the remote, for logs and commands.
    pub name: String,
    /// Its address inside the tunnel, the only one it may hold SAs for; unspecified if we assign it.
    pub inner_address: IpAddr,
    /// Identity that the client must prove.
    pub identity: Identity,
    /// Shared secret of the two.
    pub secret: SecretId,
    /// What it reaches; empty for everything.
    pub networks: Vec<IpNet>,
    /// Its own parameters: what it is held to once its identity is known. The reqids of payload are its own.
    pub terms: Terms,
    /// Line of the configuration, 0 when made by a program.
    pub line: u32,
}

/// A gateway and the clients that may call it from anywhere.
#[derive(Clone, Debug, PartialEq)]
pub struct GatewayProfile {
    /// Address of the gateway.
    pub address: IpAddr,
    /// Our identity.
    pub identity: Identity,
    /// The clients.
    pub clients: Vec<Client>,
    /// Addresses that are assigned to clients.
    pub pool: Option<AddressRange>,
    /// Line of the configuration, 0 when made by a program.
    pub line: u32,
}

/// The configuration of a road warrior.
#[must_use]
pub fn road_warrior(profile: &RoadWarriorProfile) -> Config {
    let mut config = Config::default();
    add_road_warrior(&mut config, profile);
    config
}

/// The configuration of a gateway.
#[must_use]
pub fn gateway(profile: &GatewayProfile) -> Config {
    let mut config = Config::default();
    add_gateway(&mut config, profile);
    config
}

/// Adds the records of a road warrior.
pub(crate) fn add_road_warrior(config: &mut Config, profile: &RoadWarriorProfile) {
    let terms = &profile.terms;
    let mut remote = profile::remote(
        terms,
        &profile.name,
        profile.identity.clone(),
        profile.gateway_identity.clone(),
        Authentication::Psk(profile.secret),
    );
    remote.role = MobilityRole::RoadWarrior { inner_address: profile.inner_address };
    remote.remote_address = Some(profile.gateway);
    remote.allowed_from = vec![IpNet::from(profile.gateway)];
    remote.line = profile.line;
    let traffic = traffic(profile.inner_address, &profile.networks);
    if profile.inner_address.is_unspecified() {
        let block = block(profile.gateway, &profile.networks, None, profile.line);
        remote.assigned = Some(Assigned { block: find_block(config, block), ask: Some(Ask::Address(profile.hint)) });
        // No packet has an inner address to ask with.
        remote.start = true;
    }
    config.pad.allow(Some(profile.gateway_identity.clone()), traffic.remote.iter().flat_map(|item| item.range.prefixes()));
    let ipsec = profile::add_ipsec(config, terms, &profile.name);
    let remote = profile::add_remote(config, remote);
    let Reqids { to_home_agent, to_mobile_node } = reqids(terms);
    config.policies.push(Policy { reqid_out: to_home_agent, reqid_in: to_mobile_node, ..policy(traffic, remote, ipsec, profile.line) });
}

/// Adds the records of a gateway.
pub(crate) fn add_gateway(config: &mut Config, profile: &GatewayProfile) {
    let mut ipsecs: Vec<(&Terms, IpsecId)> = Vec::new();
    for client in &profile.clients {
        let terms = &client.terms;
        let mut remote =
            profile::remote(terms, &client.name, profile.identity.clone(), client.identity.clone(), Authentication::Psk(client.secret));
        remote.role = MobilityRole::Gateway { inner_address: client.inner_address };
        //= rfc4301#4.4.3
        //# whoever calls from an unknown address is known by the identity it proves, and held to what that identity may have
        remote.local_address = Some(profile.address);
        remote.line = client.line;
        if client.inner_address.is_unspecified() {
            let block = block(profile.address, &client.networks, profile.pool, profile.line);
            remote.assigned = Some(Assigned { block: find_block(config, block), ask: None });
        } else {
            config.pad.allow(Some(client.identity.clone()), [IpNet::from(client.inner_address)]);
        }
        let alike = |other: &Terms| {
            (&other.esp, other.child_lifetime, other.replay_window) == (&terms.esp, terms.child_lifetime, terms.replay_window)
        };
        let ipsec = match ipsecs.iter().find(|(other, _)| alike(other)) {
            Some((_, ipsec)) => *ipsec,
            None => {
                let name = if ipsecs.is_empty() { "clients".to_owned() } else { format!("clients-{}", ipsecs.len().saturating_add(1)) };
                let ipsec = profile::add_ipsec(config, terms, &name);
                ipsecs.push((terms, ipsec));
                ipsec
            }
        };
        let remote = profile::add_remote(config, remote);
        let Reqids { to_home_agent, to_mobile_node } = reqids(terms);
        let traffic = traffic(client.inner_address, &client.networks).reversed();
        config.policies.push(Policy { reqid_out: to_mobile_node, reqid_in: to_home_agent, ..policy(traffic, remote, ipsec, client.line) });
    }
}

fn reqids(terms: &Terms) -> Reqids {
    terms.protect.get(&Protected::Payload).copied().unwrap_or_default()
}

/// The traffic as the road warrior sees it; an unspecified address stands for every address it may turn out to be.
fn traffic(inner_address: IpAddr, networks: &[IpNet]) -> Traffic {
    let own = if inner_address.is_unspecified() { AddressRange::ANY_V6 } else { AddressRange::host(inner_address) };
    let mut traffic = Traffic::new(TrafficItem::any(own), TrafficItem::any(AddressRange::ANY_V6));
    if !networks.is_empty() {
        traffic.remote = networks.iter().map(|network| TrafficItem::any(AddressRange::from(*network))).collect();
    }
    traffic
}

fn policy(traffic: Traffic, remote: RemoteId, ipsec: IpsecId, line: u32) -> Policy {
    Policy {
        name: TUNNEL.to_owned(),
        traffic,
        action: Action::Protect,
        mode: Mode::Tunnel,
        reqid_out: crate::Reqid::default(),
        reqid_in: crate::Reqid::default(),
        priority: PRIORITY,
        endpoints: Endpoints::Ike,
        installer: Installer::Us,
        ipsec,
        remote,
        line,
    }
}

fn block(gateway: IpAddr, networks: &[IpNet], pool: Option<AddressRange>, line: u32) -> Block {
    // Only what shapes the traffic: the rest differs from client to client, and may change while addresses are assigned.
    let terms = Terms { protect: [(Protected::Payload, Reqids::default())].into(), installer: Installer::Us, ..Terms::default() };
    let home_prefix = pool.and_then(covering);
    Block { terms, home_agent: gateway, networks: networks.to_vec(), home_prefix, pool, autoconfiguration: false, line }
}

/// The place of an equal block, or of a new one.
fn find_block(config: &mut Config, block: Block) -> BlockId {
    match (0u32..).zip(&config.blocks).find(|(_, other)| **other == block) {
        Some((id, _)) => BlockId(id),
        None => profile::add_block(config, block),
    }
}

/// The longest IPv6 prefix, but none longer than 64 bits, that holds a whole range.
pub(crate) fn covering(range: AddressRange) -> Option<IpNet> {
    let (IpAddr::V6(start), IpAddr::V6(end)) = (range.start, range.end) else { return None };
    let differing = u128::from(start) ^ u128::from(end);
    let length = u8::try_from(differing.leading_zeros()).unwrap_or(128).min(64);
    Ipv6Net::new(start, length).ok().map(|net| IpNet::V6(net.trunc()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Lifetime;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("address")
    }

    fn net(text: &str) -> IpNet {
        text.parse().expect("prefix")
    }

    fn client(name: &str, inner_address: IpAddr, networks: Vec<IpNet>) -> Client {
        let identity = Identity::Fqdn(name.into());
        Client { name: name.into(), inner_address, identity, secret: SecretId(1), networks, terms: terms(), line: 0 }
    }

    fn serving(clients: Vec<Client>) -> Config {
        let pool = Some(AddressRange { start: ip("2001:db8:1::1000"), end: ip("2001:db8:1::1fff") });
        gateway(&GatewayProfile { address: ip("2001:db8:1::1"), identity: Identity::Fqdn("gw.example".into()), clients, pool, line: 0 })
    }

    #[test]
    fn both_ends_are_mirror_images_and_own_their_policies() {
        let networks = vec![net("2001:db8:b::/64"), net("2001:db8:c::/64")];
        let here = road_warrior(&RoadWarriorProfile {
            inner_address: ip("2001:db8:1::77"),
            networks: networks.clone(),
            ..RoadWarriorProfile::default()
        });
        let there = serving(vec![client("client.example", ip("2001:db8:1::77"), networks)]);
        let (ours, theirs) = (&here.policies[0], &there.policies[0]);
        assert_eq!(ours.traffic, theirs.traffic.reversed());
        assert_eq!(ours.traffic.remote.len(), 2);
        assert_eq!((ours.mode, ours.endpoints, ours.installer), (Mode::Tunnel, Endpoints::Ike, Installer::Us));
        assert_eq!((ours.reqid_out, ours.reqid_in), (theirs.reqid_in, theirs.reqid_out));
        assert_eq!(there.remotes[0].remote_address, None, "it calls from anywhere");
        assert!(there.remotes[0].allowed_from.is_empty());
        assert!(here.remotes[0].start && here.remotes[0].role.home_address().is_none());
        assert!(here.pad.may_hold(&here.remotes[0].remote_identity, &ours.traffic));
        assert!(there.pad.may_hold(&there.remotes[0].remote_identity, &theirs.traffic));
        assert!(!there.pad.may_hold_range(&there.remotes[0].remote_identity, &AddressRange::host(ip("2001:db8:1::78"))));
    }

    #[test]
    fn an_assigned_address_fills_the_policies_of_both_ends() {
        let networks = vec![net("2001:db8:b::/64")];
        let mut here = road_warrior(&RoadWarriorProfile { networks: networks.clone(), ..RoadWarriorProfile::default() });
        let mut there = serving(vec![client("client.example", MobilityRole::UNKNOWN, networks)]);
        assert!(!here.in_force(&here.policies[0]) && !there.in_force(&there.policies[0]));
        let given = ip("2001:db8:1::1234");
        for config in [&mut here, &mut there] {
            assert!(config.fill(RemoteId(0), given, &[crate::PolicyId(0)]));
            assert!(config.in_force(&config.policies[0]));
        }
        assert_eq!(here.policies[0].traffic, there.policies[0].traffic.reversed());
        assert_eq!(here.policies[0].traffic, traffic(given, &[net("2001:db8:b::/64")]));
        assert!(there.pad.may_hold(&there.remotes[0].remote_identity, &there.policies[0].traffic));
        there.withdraw(RemoteId(0), &[crate::PolicyId(0)]);
        assert!(!there.pad.may_hold_range(&there.remotes[0].remote_identity, &AddressRange::host(given)));
    }

    #[test]
    fn clients_share_blocks_and_ipsec_records_where_they_are_alike() {
        let own = Terms { child_lifetime: Lifetime::of(Duration::from_secs(60)), ..terms() };
        let there = serving(vec![
            client("a", MobilityRole::UNKNOWN, Vec::new()),
            client("b", MobilityRole::UNKNOWN, Vec::new()),
            Client { terms: own, ..client("c", MobilityRole::UNKNOWN, Vec::new()) },
        ]);
        assert_eq!((there.blocks.len(), there.ipsecs.len()), (1, 2));
        assert_eq!(there.policies[0].ipsec, there.policies[1].ipsec);
        assert_ne!(there.policies[0].ipsec, there.policies[2].ipsec);
        assert_eq!(there.blocks[0].home_prefix, Some(net("2001:db8:1::/64")));
    }

    #[test]
    fn the_prefix_that_holds_a_pool() {
        let of = |start: &str, end: &str| covering(AddressRange { start: ip(start), end: ip(end) });
        assert_eq!(of("2001:db8:1::1", "2001:db8:1::ff"), Some(net("2001:db8:1::/64")));
        assert_eq!(of("2001:db8:1::", "2001:db8:2::"), Some(net("2001:db8::/46")));
        assert_eq!(of("10.0.0.1", "10.0.0.9"), None);
    }
}
