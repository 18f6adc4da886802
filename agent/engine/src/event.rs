//! What an agent tells: one enum for log, timeline, control events and tests.

use std::net::IpAddr;
use std::time::Duration;

use watari_kernel::{KmAddress, MigrateSource};
use watari_mip6::Evidence;
use watari_policies::{PolicyId, RemoteId};
use watari_sa::{Cause, ChildId, IkeId, KeyingEvent};

/// Something happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// In a key-management protocol.
    Keying(KeyingEvent),
    /// A MIGRATE was heard and acted on.
    Moved {
        /// The remote whose path moved.
        remote: RemoteId,
        /// Addresses of IKE before.
        old: Option<KmAddress>,
        /// Addresses of IKE now.
        new: KmAddress,
        /// IKE SAs that moved, also those still in the making.
        ike: Vec<IkeId>,
        /// Child SAs whose records moved.
        children: Vec<ChildId>,
        /// The socket it was heard on.
        source: MigrateSource,
    },
    /// A MIGRATE changed nothing: a copy, a repeat, or old equal to new.
    MigrateIdle {
        /// Why nothing changed.
        why: &'static str,
    },
    /// A peer is elsewhere by other evidence than MIGRATE; SAs of the kernel are not concerned.
    Relocated {
        /// The remote.
        remote: RemoteId,
        /// Addresses of IKE before.
        old: Option<KmAddress>,
        /// Addresses of IKE now.
        new: KmAddress,
        /// IKE SAs that moved.
        ike: Vec<IkeId>,
        /// The evidence, in words.
        by: &'static str,
    },
    /// A protected binding message was seen, or its outcome was told.
    BindingMessage {
        /// The remote.
        remote: RemoteId,
        /// The care-of address it is about, or the home address at the end of a binding.
        care_of: IpAddr,
        /// What it says about key management.
        evidence: Evidence,
    },
    /// Addresses for key management were remembered for a policy without SAs.
    Remembered {
        /// The policy.
        policy: PolicyId,
        /// The addresses.
        addresses: KmAddress,
    },
    /// A home address was assigned to a remote or, on a mobile node, to this host; or taken back. For the Mobile IPv6 daemon.
    HomeAddress {
        /// The remote.
        remote: RemoteId,
        /// The home address.
        address: IpAddr,
        /// Whether it holds from now on; if not, it has ended.
        held: bool,
    },
    /// Another address of a peer that has several is in force: on a mobile node, another home agent. For the Mobile IPv6 daemon.
    PeerAddress {
        /// The remote.
        remote: RemoteId,
        /// Its address until now.
        old: IpAddr,
        /// Its address from now on.
        new: IpAddr,
        /// Why.
        cause: Cause,
        /// Whether the Mobile IPv6 daemon should register there (RFC 5685 8).
        register: bool,
    },
    /// An SA that the kernel left behind was made again at the new addresses.
    Recreated(ChildId),
    /// The kernel asked for an SA.
    Acquired {
        /// The policy that asked, if it is one of ours.
        policy: Option<PolicyId>,
    },
    /// A local address changed its standing.
    Address {
        /// The address.
        address: IpAddr,
        /// Whether it can be sent from.
        usable: bool,
    },
    /// SAs found in the kernel at start-up were taken over.
    Adopted(Vec<ChildId>),
    /// State was read again.
    Reconciled {
        /// Whether events had been lost; else there was another reason, as policies that the other daemon is to have made.
        lost: bool,
        /// Differences found and mended, in words.
        differences: Vec<String>,
    },
    /// The first IKE packet after a move left this host.
    FirstPacketAfterMove {
        /// The remote.
        remote: RemoteId,
        /// Boot time since the MIGRATE, of which some may have been spent waiting for the address.
        since_migrate: Duration,
    },
    /// Something needs a human, or was dropped.
    Notice {
        /// Why.
        cause: Cause,
        /// Details.
        detail: String,
    },
}

/// A part of the answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// One row of a streamed answer (list-sa, list-conn, ...), before the end.
    Row {
        /// Event name.
        event: &'static str,
        /// Its content.
        section: crate::vici::Section,
    },
    /// The end of the answer.
    End(crate::vici::Section),
    /// JSON text, the end of the answer to `Status`.
    Json(String),
    /// No such command, the end of the answer.
    Unknown,
}
