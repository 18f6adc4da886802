//! A child SA: a pair of kernel SAs, the traffic they carry, and who keeps them alive.

use std::time::Duration;

use watari_kernel::{Encapsulation, Endpoints, SaId, Spi};
use watari_policies::algorithm::ChildSuite;
use watari_policies::{Mode, PolicyId, Protocol, RemoteId, Reqid, Selector, Traffic};

/// Names a child SA for the life of the agent; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChildId(pub u64);

/// Names an IKE SA for the life of the agent; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IkeId(pub u64);

/// Who keeps a child SA alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// An IKE SA.
    Ike(IkeId),
    /// A KINK peer.
    KinkPeer(u64),
    /// Nobody: orphaned, or found in the kernel after a restart. It serves until it is replaced or expires.
    None,
}

/// One direction of a child SA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaHalf {
    /// SPI.
    pub spi: Spi,
    /// Addresses, in this direction.
    pub endpoints: Endpoints,
    /// The selector it is installed with.
    pub selector: Selector,
    /// Reqid.
    pub reqid: Reqid,
    /// Whether the kernel holds it.
    pub installed: bool,
}

/// Where a child SA stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChildState {
    /// The kernel has not acknowledged both halves yet.
    Installing,
    /// In use.
    Installed,
    /// A successor carries the traffic; inbound stays until the delete exchange is over.
    Replaced,
    /// A delete exchange is under way.
    Closing,
    /// Kept without traffic, to be revived (return home).
    Dormant,
}

/// A pair of kernel SAs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildSa {
    /// Its name.
    pub id: ChildId,
    /// Who keeps it alive.
    pub owner: Owner,
    /// The policy it serves.
    pub policy: PolicyId,
    /// The peer.
    pub remote: RemoteId,
    /// IPsec protocol.
    pub protocol: Protocol,
    /// Mode.
    pub mode: Mode,
    /// Negotiated traffic.
    pub traffic: Traffic,
    /// What arrives.
    pub inbound: SaHalf,
    /// What leaves.
    pub outbound: SaHalf,
    /// Algorithms.
    pub suite: ChildSuite,
    /// UDP encapsulation, if any.
    pub encapsulation: Option<Encapsulation>,
    /// Boot time of creation.
    pub created: Duration,
    /// Boot time at which a replacement is negotiated.
    pub rekey_at: Option<Duration>,
    /// Boot time at which it ends.
    pub expires_at: Option<Duration>,
    /// Where it stands.
    pub state: ChildState,
}

impl ChildSa {
    /// Id of the inbound kernel SA.
    pub const fn inbound_id(&self) -> SaId {
        SaId { dst: self.inbound.endpoints.dst, protocol: self.protocol, spi: self.inbound.spi }
    }

    /// Id of the outbound kernel SA.
    pub const fn outbound_id(&self) -> SaId {
        SaId { dst: self.outbound.endpoints.dst, protocol: self.protocol, spi: self.outbound.spi }
    }
}
