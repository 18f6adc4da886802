//! Home addresses, and inner addresses of road warriors, that are assigned at run time: named SPD entries of RFC 4301 4.4.1.1, filled once the identity is authenticated (RFC 4877 7, 9).
//! Invariant: the policies of such a remote keep their ids for ever; while no address is assigned nothing is in force for it.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::profile::{Protected, Terms};
use crate::{AddressRange, Config, MobilityRole, Policy, PolicyId, Remote, RemoteId, Traffic, TrafficItem};

/// Index of a block in `Config::blocks`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(pub u32);

/// What the remotes of one configuration block have in common, so that their policies can be made when their home address is known.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// What both ends configure alike.
    pub terms: Terms,
    /// Address of the home agent or gateway: ours, or on the end that moves the peer's.
    pub home_agent: IpAddr,
    /// Behind a gateway: what its tunnels lead to; empty for everything, and under Mobile IPv6.
    pub networks: Vec<IpNet>,
    /// On a home agent: the prefix of the home link, within which every home address lies. On a gateway: one that holds the pool.
    pub home_prefix: Option<IpNet>,
    /// On a home agent: the addresses it hands out of its own accord; `None` for the whole prefix.
    pub pool: Option<AddressRange>,
    /// Whether mobile nodes may form home addresses of their own within the prefix (RFC 5026 5.3.2).
    pub autoconfiguration: bool,
    /// Line of the configuration that defines the block, from 1; 0 when made by a program.
    pub line: u32,
}

/// What a mobile node asks its home agent for (RFC 5026 5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// An address, this one if possible.
    Address(Option<IpAddr>),
    /// The home prefix, to form an address with this interface identifier.
    Prefix(u64),
}

/// How the home address of a remote comes at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// The block it belongs to.
    pub block: BlockId,
    /// On a mobile node: what it asks for. A home agent only answers.
    pub ask: Option<Ask>,
}

impl Block {
    /// The traffic of a policy for this home address, seen from the side of `role`.
    fn traffic(&self, what: Protected, home_address: IpAddr, role: MobilityRole) -> Traffic {
        let mut traffic = what.traffic(home_address, self.home_agent, self.terms.binding_selector);
        if !self.networks.is_empty() {
            traffic.remote = self.networks.iter().map(|network| TrafficItem::any(AddressRange::from(*network))).collect();
        }
        if role.assigns() { traffic.reversed() } else { traffic }
    }
}

impl Config {
    /// The block with this id; `None` only for an id of another configuration.
    pub fn block(&self, id: BlockId) -> Option<&Block> {
        self.blocks.get(id.0 as usize)
    }

    /// The block of a remote whose home address is assigned at run time.
    pub fn block_of(&self, remote: &Remote) -> Option<&Block> {
        self.block(remote.assigned?.block)
    }

    /// Whether a policy says something about packets now: its record is not retired, and the home address it waits for is known.
    pub fn in_force(&self, policy: &Policy) -> bool {
        self.remote(policy.remote).is_some_and(|remote| !remote.awaits_home_address())
    }

    /// Makes the policies of a remote say `home_address`, and lets its identity hold SAs for it until `withdraw`.
    ///
    /// `policies` are the remote's own, as `policies_of` lists them. Whether anything was filled: only a remote with `assigned` can be.
    pub fn fill(&mut self, remote: RemoteId, home_address: IpAddr, policies: &[PolicyId]) -> bool {
        self.shape(remote, home_address, policies)
    }

    /// Takes an assigned home address back from a remote: its policies wait again, and its identity may hold nothing more.
    pub fn withdraw(&mut self, remote: RemoteId, policies: &[PolicyId]) -> bool {
        self.shape(remote, MobilityRole::UNKNOWN, policies)
    }

    fn shape(&mut self, id: RemoteId, home_address: IpAddr, policies: &[PolicyId]) -> bool {
        let Some(remote) = self.remotes.get_mut(id.0 as usize) else { return false };
        let Some(block) = remote.assigned.and_then(|assigned| self.blocks.get(assigned.block.0 as usize)) else { return false };
        remote.role = remote.role.with_address(home_address);
        let role = remote.role;
        for policy in policies {
            let Some(policy) = self.policies.get_mut(policy.0 as usize).filter(|policy| policy.remote == id) else { continue };
            if let Some(what) = Protected::ALL.into_iter().find(|what| what.name() == policy.name) {
                policy.traffic = block.traffic(what, home_address, role);
            }
        }
        if role.assigns() {
            //= rfc4877#9
            //# after the assignment there is a temporary PAD entry that links the identity with the home address
            let held = (!home_address.is_unspecified()).then(|| IpNet::from(home_address));
            self.pad.lend(&remote.remote_identity, held);
        }
        true
    }
}
