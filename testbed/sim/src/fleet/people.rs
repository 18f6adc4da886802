//! Who is in a fleet: names, keys, addresses and configurations of the home agent and of the node with each number.
//! Invariant: every second node writes its own home address, the others leave it to the home agent.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use watari_policies::profile::{MobileNodeProfile, Terms, mobile_node};
use watari_policies::{Config, Identity, Installer, Lifetime, MobilityRole, Secret};

/// The home agent.
pub const HOME_AGENT: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1));
/// SA pairs of each node: binding messages and payload.
pub const PAIRS: usize = 2;

/// Name of the node with this number, which is its identity.
pub fn name(node: u32) -> String {
    format!("mn{node}.example")
}

fn key(node: u32) -> String {
    format!("the key of node {node}")
}

/// Its pre-shared key.
pub(super) fn secret(node: u32) -> Secret {
    Secret::from(key(node).as_bytes())
}

/// The node with this number writes its own home address, or leaves it to the home agent.
pub fn fixed_home(node: u32) -> Option<IpAddr> {
    node.is_multiple_of(2).then(|| numbered(&[0x2001, 0xdb8, 1, 0, 1], node))
}

/// Care-of address on a foreign link; those of one link are in `2001:db8:fN::/64`.
pub fn care_of(node: u32, link: u16) -> IpAddr {
    numbered(&[0x2001, 0xdb8, link.saturating_add(0xf0), 0, 1], node)
}

fn numbered(front: &[u16; 5], node: u32) -> IpAddr {
    let [a, b, c, d, e] = *front;
    let [_, _, high, low] = node.to_be_bytes().map(u16::from);
    let whole = high.wrapping_mul(256).wrapping_add(low);
    let upper = u16::try_from(node >> 16).unwrap_or_default();
    IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, 0, upper, whole))
}

/// Configuration file of the home agent: one block serves every node of the file it names. Its policies are installed by `watari` or by
/// `mip6d`; the lifetime of IKE SAs is in seconds.
pub fn home_agent_file(nodes_file: &str, installer: &str, ike_lifetime: u64) -> String {
    format!(
        "[home_agent]\naddress = \"{HOME_AGENT}\"\nidentity = \"ha.example\"\nprotect = [\"binding\", \"payload\"]\n\
         policies = \"{installer}\"\nhome_prefix = \"2001:db8:1::/64\"\npool = \"2001:db8:1::1:0:0/96\"\n\
         mobile_nodes_file = \"{nodes_file}\"\nike_lifetime = \"{ike_lifetime}s\"\n"
    )
}

/// The file with the nodes of a home agent.
pub fn nodes_file(nodes: u32) -> String {
    let line = |node: u32| {
        let home = fixed_home(node).map_or_else(|| "assign".to_owned(), |home| home.to_string());
        format!("{} {home} {}\n", name(node), key(node))
    };
    (0..nodes).map(line).collect()
}

/// Configuration of a node; the lifetime of IKE SAs is in seconds.
pub(super) fn node_config(node: u32, ike_lifetime: u64) -> Config {
    let ike_lifetime = Lifetime::of(Duration::from_secs(ike_lifetime));
    mobile_node(MobileNodeProfile {
        home_address: fixed_home(node).unwrap_or(MobilityRole::UNKNOWN),
        home_agent: HOME_AGENT,
        identity: Identity::Fqdn(name(node)),
        terms: Terms { installer: Installer::Us, start: true, ike_lifetime, ..MobileNodeProfile::default().terms },
        ..MobileNodeProfile::default()
    })
}
