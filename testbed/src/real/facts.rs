//! What a guest saw in one scenario, for the host to judge together with the captures.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::timeline::Moment;

/// Everything seen.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Facts {
    /// When the scenario's clock began, in microseconds since 1970.
    pub(super) begin_us: u64,
    /// The timeline, sorted.
    pub(super) timeline: Vec<Moment>,
    /// Movements.
    pub(super) handovers: Vec<Movement>,
    /// When the home agent's kernel took each MIGRATE, in microseconds since 1970.
    pub(super) home_agent_migrates: Vec<u64>,
    /// Pings sent.
    pub(super) pings_sent: u32,
    /// Pings without answer.
    pub(super) pings_lost: u32,
    /// Pings without answer, sent while everything ought to work.
    pub(super) pings_lost_in_window: u32,
    /// Growth of the kernels' drop counters since the bootstrap: host and counter, packets.
    pub(super) dropped_for_key: BTreeMap<String, u64>,
    /// Every home address that a mobile node has or had.
    pub(super) homes: BTreeSet<IpAddr>,
    /// SA pairs that vanished from a kernel without successor, in words.
    pub(super) lost_sas: Vec<String>,
    /// Differences between agents and their kernels, and between the two ends.
    pub(super) differences: Vec<String>,
    /// ESP SAs of each host in the end, in words.
    pub(super) sas: BTreeMap<String, Vec<String>>,
    /// Child SA pairs of each mobile node in the end.
    pub(super) children: BTreeMap<String, u32>,
    /// SPIs of the SAs that binding updates travel under.
    pub(super) update_spis: BTreeSet<u32>,
    /// Every drop counter that is not zero, by host.
    pub(super) drops: BTreeMap<String, Vec<String>>,
    /// Home Tests that came back.
    pub(super) home_tests: u32,
    /// Prefix advertisements that came back.
    pub(super) prefix_advertisements: u32,
    /// IKE SAs that came up on mobile nodes.
    pub(super) established: u32,
    /// Whatever should not have happened.
    pub(super) troubles: Vec<String>,
}

/// A movement as the guest saw it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Movement {
    /// The mobile node.
    pub(super) node: String,
    /// The link it left.
    pub(super) from: String,
    /// The link it came to.
    pub(super) to: String,
    /// The address that IKE uses from now on.
    pub(super) address: IpAddr,
    /// The first MIGRATE, in microseconds since 1970.
    pub(super) migrate_at: Option<u64>,
    /// When the address became usable, in microseconds since 1970.
    pub(super) usable_at: Option<u64>,
    /// MIGRATE messages that the kernel took and told.
    pub(super) migrate_events: u32,
    /// Inbound SPIs at the old address when the link went.
    pub(super) spis: Vec<u32>,
    /// How many of them the kernel holds at the new address.
    pub(super) children_moved: u32,
}
