//! What a kernel reports of its own accord.

use std::net::IpAddr;

use watari_policies::{Direction, Mode, Protocol, Reqid, Selector};

use crate::{Endpoints, PolicyEntry, PolicyIndex, SaId, SaInfo, Template};

/// A packet needs an SA that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acquire {
    /// The kernel's sequence number; an SPI allocated with it replaces the larval state.
    pub sequence: u32,
    /// The very packet: host addresses, protocol, type or ports. Falls back to the policy's selector where the kernel does not tell.
    pub packet: Selector,
    /// Selector of the policy that asked.
    pub policy: Selector,
    /// Index of the policy that asked.
    pub index: PolicyIndex,
    /// Direction of the policy, normally out.
    pub direction: Direction,
    /// The template that lacks an SA: reqid, mode, end points (filled in by the kernel where the template has none).
    pub template: Template,
    /// Addresses of the wanted SA.
    pub endpoints: Endpoints,
    /// The care-of address that the packet leaves from, `packet` having its home address; where the kernel shows the packet (KAME's
    /// SADB_X_EXT_PACKET) and it has a home address option. Linux shows none.
    pub care_of: Option<IpAddr>,
}

/// An SA reached a limit, or a larval state died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expire {
    /// The SA; SPI 0 means the larval state of an ACQUIRE that nobody answered.
    pub id: SaId,
    /// Source address.
    pub src: IpAddr,
    /// Reqid.
    pub reqid: Reqid,
    /// Whether the kernel has removed the SA (hard) or only warns (soft).
    pub hard: bool,
}

/// Addresses that key management shall use, told by the Mobile IPv6 daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KmAddress {
    /// This host's IKE address.
    pub local: IpAddr,
    /// The peer's IKE address.
    pub remote: IpAddr,
}

/// The socket a MIGRATE was heard on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MigrateSource {
    /// Netlink, group MIGRATE: the selector keeps its MH or ICMPv6 type.
    Netlink,
    /// PF_KEY SADB_X_MIGRATE: types and ports are absent from the selector.
    PfKey,
}

/// One template's old and new end points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MigrateStep {
    /// IPsec protocol.
    pub protocol: Protocol,
    /// Mode; a transport step only notifies.
    pub mode: Mode,
    /// Reqid of template and SA.
    pub reqid: Reqid,
    /// End points before; unspecified in transport mode.
    pub old: Endpoints,
    /// End points now.
    pub new: Endpoints,
}

/// A policy's end points moved (SADB_X_MIGRATE, XFRM_MSG_MIGRATE).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrate {
    /// The policy's selector.
    pub selector: Selector,
    /// The policy's direction.
    pub direction: Direction,
    /// One step per template, 1 to 6.
    pub steps: Vec<MigrateStep>,
    /// Addresses for key management, where the sender gave them.
    pub kmaddress: Option<KmAddress>,
    /// The socket it was heard on.
    pub source: MigrateSource,
}

/// What is known of a local address (rtnetlink IFA_F_*).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressFlags {
    /// Duplicate address detection is still running: nothing can be sent from it.
    pub tentative: bool,
    /// Duplicate address detection failed.
    pub dad_failed: bool,
    /// Deprecated: not for new communication.
    pub deprecated: bool,
    /// Temporary (privacy) address.
    pub temporary: bool,
    /// A Mobile IPv6 home address.
    pub home: bool,
}

/// A local address came, changed or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressEvent {
    /// Interface index.
    pub interface: u32,
    /// The address.
    pub address: IpAddr,
    /// Prefix length.
    pub prefix_len: u8,
    /// Whether it is there now.
    pub present: bool,
    /// Flags, where present.
    pub flags: AddressFlags,
}

/// A link came, changed or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkEvent {
    /// Interface index.
    pub interface: u32,
    /// Whether it is there now.
    pub present: bool,
    /// Whether it can carry packets: set up by the administrator and, where the kernel tells, with a carrier.
    pub up: bool,
}

/// A default route came, changed or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteEvent {
    /// Destination; unspecified for a default route.
    pub destination: IpAddr,
    /// Prefix length; 0 for a default route.
    pub prefix_len: u8,
    /// Next hop; none where the interface says it all.
    pub gateway: Option<IpAddr>,
    /// Index of the outgoing interface; 0 where the kernel does not tell.
    pub interface: u32,
    /// Whether it is there now.
    pub present: bool,
}

impl RouteEvent {
    /// Whether the route serves every destination of its family that no other route serves.
    pub const fn is_default(&self) -> bool {
        self.prefix_len == 0 && self.destination.is_unspecified()
    }
}

/// What a kernel reports of its own accord.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelEvent {
    /// A packet needs an SA.
    Acquire(Acquire),
    /// An SA reached a limit.
    Expire(Expire),
    /// A policy's end points moved.
    Migrate(Migrate),
    /// A policy was added or changed, by whomever.
    PolicyChanged(PolicyEntry),
    /// A policy was removed, by whomever.
    PolicyRemoved(PolicyEntry),
    /// Somebody else (or a flush) removed an SA.
    SaRemoved(SaId),
    /// Every policy, or every SA, was flushed.
    Flushed {
        /// Policies rather than SAs.
        policies: bool,
    },
    /// A local address came, changed or went.
    Address(AddressEvent),
    /// A link came, changed or went.
    Link(LinkEvent),
    /// A default route came, changed or went; told as heard, never listed.
    Route(RouteEvent),
    /// Events were lost; this is what the kernel holds now.
    Resynchronised {
        /// Every policy.
        policies: Vec<PolicyEntry>,
        /// Every SA and Mobile IPv6 state.
        sas: Vec<SaInfo>,
    },
    /// A message that could not be read; counted and logged with its octets, nothing else happens.
    Malformed {
        /// Where it came from.
        channel: crate::Channel,
        /// What is wrong, in words.
        why: String,
        /// The octets, cut to 512.
        octets: Vec<u8>,
    },
}
