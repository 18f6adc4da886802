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

/// A host's protected address as a prefix of one address.
pub(super) fn protected_prefix(who: Who, terms: &Terms) -> String {
    format!("{}/{}", protected(who, terms), prefix(terms.family))
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
        let hosts = Self {
            us: guest.namespace(Who::Us.host())?,
            peer: guest.namespace(Who::Peer.host())?,
            programs,
            output: guest.output.clone(),
        };
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
                format!(
                    "neigh replace {gateway} lladdr {link_address} dev eth0 nud permanent\n\
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
