//! The network of every case: two hosts on one link, both IP versions, and an address behind each for tunnels.

use std::net::IpAddr;
use std::path::PathBuf;

use super::case::{Family, Mode, Terms, Who};
use crate::uml::guest::Guest;
use crate::uml::hosts::Namespace;
use crate::uml::topology::{HostPlan, InterfacePlan, Topology};
use crate::uml::{Failure, Result};

/// Name of the link.
pub(super) const LINK: &str = "wire";

/// The address a host has on the link.
pub(super) const fn outer(who: Who, family: Family) -> &'static str {
    match (who, family) {
        (Who::Us, Family::V6) => "2001:db8::1",
        (Who::Peer, Family::V6) => "2001:db8::2",
        (Who::Us, Family::V4) => "192.0.2.1",
        (Who::Peer, Family::V4) => "192.0.2.2",
    }
}

/// Another address that a host has on the link.
pub(super) const fn second(who: Who, family: Family) -> &'static str {
    match (who, family) {
        (Who::Us, Family::V6) => "2001:db8::11",
        (Who::Peer, Family::V6) => "2001:db8::12",
        (Who::Us, Family::V4) => "192.0.2.11",
        (Who::Peer, Family::V4) => "192.0.2.12",
    }
}

/// The address behind a host.
pub(super) const fn inner(who: Who, family: Family) -> &'static str {
    match (who, family) {
        (Who::Us, Family::V6) => "2001:db8:a::1",
        (Who::Peer, Family::V6) => "2001:db8:b::1",
        (Who::Us, Family::V4) => "198.51.100.1",
        (Who::Peer, Family::V4) => "203.0.113.1",
    }
}

/// The address whose traffic is protected.
pub(super) const fn protected(who: Who, terms: &Terms) -> &'static str {
    match terms.mode {
        Mode::Transport => outer(who, terms.family),
        Mode::Tunnel => inner(who, terms.family),
    }
}

/// Both protected addresses.
pub(super) fn protected_addresses(terms: &Terms) -> Vec<IpAddr> {
    [Who::Us, Who::Peer].iter().filter_map(|who| protected(*who, terms).parse().ok()).collect()
}

const fn prefix(family: Family) -> u8 {
    match family {
        Family::V6 => 128,
        Family::V4 => 32,
    }
}

/// What `holder` is configured to protect on the side of `who`: that host's address, or its network if the holder is the wide one.
pub(super) fn protected_prefix(who: Who, holder: Who, terms: &Terms) -> String {
    let length = match (terms.wide == Some(holder), terms.family) {
        (false, family) => prefix(family),
        (true, Family::V6) => 64,
        (true, Family::V4) => 24,
    };
    format!("{}/{length}", network(protected(who, terms), length))
}

/// The address, or the network it is in for a prefix that ends where a group of its text does.
fn network(address: &str, length: u8) -> String {
    match length {
        64 => format!("{}::", address.split("::").next().unwrap_or_default()),
        24 => format!("{}.0", address.rsplit_once('.').map_or(address, |(network, _)| network)),
        _ => address.to_owned(),
    }
}

/// The two hosts.
pub(super) struct Hosts {
    us: Namespace,
    peer: Namespace,
    /// Directory of watarid and watari.
    pub(super) programs: PathBuf,
    /// Directory for what outlives the guest.
    pub(super) output: PathBuf,
}

impl Hosts {
    /// Builds the network. Neighbours are entered by hand, so that no discovery runs into a policy for every protocol.
    pub(super) fn build(guest: &Guest, programs: PathBuf) -> Result<Self> {
        Topology { links: vec![LINK.into()], hosts: vec![plan(Who::Us), plan(Who::Peer)] }.build(guest)?;
        let hosts =
            Self { us: guest.namespace(Who::Us.host())?, peer: guest.namespace(Who::Peer.host())?, programs, output: guest.output.clone() };
        for who in [Who::Us, Who::Peer] {
            let other = who.other();
            let shown = hosts.of(other).exec("ip -o link show eth0")?;
            let link_address = shown
                .split("link/ether ")
                .nth(1)
                .and_then(|rest| rest.split(' ').next())
                .ok_or_else(|| Failure(format!("eth0 has no link address: {shown}")))?;
            let lines = [Family::V6, Family::V4].map(|family| {
                let (gateway, ours, theirs) = (outer(other, family), inner(who, family), inner(other, family));
                let prefix = prefix(family);
                let (here, there) = (second(who, family), second(other, family));
                let at_once = if family == Family::V6 { " nodad" } else { "" };
                format!(
                    "addr add {here}/{prefix} dev eth0{at_once}\n\
                     neigh replace {there} lladdr {link_address} dev eth0 nud permanent\n\
                     neigh replace {gateway} lladdr {link_address} dev eth0 nud permanent\n\
                     addr add {ours}/{prefix} dev lo\n\
                     route add {theirs}/{prefix} via {gateway} src {ours}\n"
                )
            });
            hosts.of(who).ip_batch(&lines.concat())?;
        }
        Ok(hosts)
    }

    /// One of them.
    pub(super) const fn of(&self, who: Who) -> &Namespace {
        match who {
            Who::Us => &self.us,
            Who::Peer => &self.peer,
        }
    }

    /// Removes every SA and policy from a host's kernel.
    pub(super) fn flush(&self, who: Who) -> Result<()> {
        self.of(who).ip_batch("xfrm state flush\nxfrm policy flush\n")
    }
}

fn plan(who: Who) -> HostPlan {
    let families = [Family::V6, Family::V4];
    let on_link = families.map(|family| format!("{}/{}", outer(who, family), if family == Family::V6 { 64 } else { 24 }));
    HostPlan {
        name: who.host().into(),
        interfaces: vec![InterfacePlan {
            name: "eth0".into(),
            link: Some(LINK.into()),
            addresses: on_link.into(),
            ..InterfacePlan::default()
        }],
        ..HostPlan::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_its_address_without_the_host_part() {
        assert_eq!(network("2001:db8:a::1", 64), "2001:db8:a::");
        assert_eq!(network("198.51.100.1", 24), "198.51.100.0");
        assert_eq!(network("2001:db8:a::1", 128), "2001:db8:a::1");
    }
}
