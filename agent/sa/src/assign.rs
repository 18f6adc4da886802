//! The contract about home addresses that are assigned when an identity has proved itself (RFC 4877 9, RFC 5026 5.3).
//! A protocol asks with what its peer asked for; the engine decides, makes the policies of the remote, and answers.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use watari_policies::RemoteId;

/// What is to become of a remote's home address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// The peer asks for an address, this one if possible. An address whose upper half is zero is an interface identifier alone.
    Address(Option<Ipv6Addr>),
    /// The peer asks for the home prefix, to form an address itself.
    Prefix,
    /// The peer names an address by its traffic selectors, without asking: one that it formed, or holds already.
    Formed(Ipv6Addr),
    /// The peer is our home agent and gave us this address, within this prefix.
    Given(Ipv6Net),
    /// The peer is our home agent and told us the home prefix: an address is formed here.
    GivenPrefix(Ipv6Net),
}

/// What became of a wish. With an address the policies of the remote are made, and stay until the address is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignment {
    /// The address of the remote, with the length of the home prefix.
    Address(Ipv6Net),
    /// The prefix within which the peer may form its address.
    Prefix(Ipv6Net),
    /// The peer may not form an address and has this one.
    UseAssigned(Ipv6Net),
    /// None, and why.
    Refused(Denial),
}

/// Why there is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// Every address of the pool is taken.
    PoolExhausted,
    /// Another node holds it.
    Taken(Ipv6Addr),
    /// It is not an address of the home link that a node may have.
    Outside(Ipv6Addr),
    /// Mobile nodes may not form addresses here.
    NotFormed,
    /// The node has left other addresses, and the SAs for those are still there.
    TooManyLeft,
    /// Home addresses of this remote are not assigned.
    NotServed,
}

impl std::fmt::Display for Denial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::PoolExhausted => f.write_str("no home address is left in the pool"),
            Self::Taken(address) => write!(f, "{address} is the home address of another mobile node"),
            Self::Outside(address) => write!(f, "{address} is no address of the home link that a mobile node may have"),
            Self::NotFormed => f.write_str("mobile nodes do not form their home addresses here (autoconfiguration = false)"),
            Self::TooManyLeft => {
                f.write_str("SAs for the addresses that the node had before are still there: it gets no other one until they are gone")
            }
            Self::NotServed => f.write_str("the home address of this remote is not assigned at run time"),
        }
    }
}

/// Who decides about home addresses.
pub trait Assign {
    /// Decides about a wish of an authenticated remote. A remote that holds an address gets the same one again, unless it wants another.
    fn assign(&mut self, remote: RemoteId, wish: Wish) -> Assignment;
    /// Takes the address back.
    fn release(&mut self, remote: RemoteId);
}
