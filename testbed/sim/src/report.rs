//! What a run came to: the JSON object that ends `cargo testbed run --json`, and the reasons of a failure.

use serde::Serialize;

/// One movement of a mobile node from link to link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Handover {
    /// The link it left.
    pub from: String,
    /// The link it came to.
    pub to: String,
    /// Wall time spent in the agent, from the later of MIGRATE and the address becoming usable to the first IKE packet; `None` if none left.
    pub event_to_first_ike_us: Option<u64>,
    /// Time from the first MIGRATE until the address was usable.
    pub address_wait_us: u64,
    /// MIGRATE messages heard, copies from the second socket not counted.
    pub migrate_events: u32,
    /// Child SA pairs whose end points changed, each once however many messages named it: tunnel pairs only. Transport pairs (binding
    /// updates, prefix discovery) stay between home address and home agent and are not counted, and neither is a pair whose end
    /// points did not change because it was made after the move.
    pub children_moved: u32,
}

/// The result of one run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Name of the scenario.
    pub scenario: String,
    /// `sim` or `uml`.
    pub backend: String,
    /// Seed of everything random.
    pub seed: u64,
    /// Whether every expectation was met.
    pub passed: bool,
    /// IKE_SA_INIT requests sent in all, repeats not counted.
    pub ike_sa_init: u32,
    /// IKE SAs made although the mobile node had had one already.
    pub reauthentications: u32,
    /// Child SAs that ended without successor.
    pub sas_lost: u32,
    /// Packets on a link in clear that had to be protected.
    pub cleartext_packets: u32,
    /// Pings sent.
    pub pings_sent: u32,
    /// Pings without answer, for whatever reason.
    pub pings_lost: u32,
    /// Pings sent between an acknowledgement and the next link-down, after the bootstrap, and lost for want of a key.
    pub pings_lost_for_key: u32,
    /// Whether agents and kernels hold the same SAs in the end.
    pub sad_matches_kernel: bool,
    /// Movements, in order.
    pub handovers: Vec<Handover>,
    /// What was not as expected; empty when passed.
    pub reasons: Vec<String>,
}

impl Report {
    /// The object as one line of JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| format!("{{\"passed\":false,\"reasons\":[\"{error}\"]}}"))
    }
}
