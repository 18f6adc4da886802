//! Peer authorisation database (RFC 4301 4.4.3, RFC 4877 7.1): which identity may hold SAs for which addresses.
//! Invariant: what no entry allows is refused.

use crate::{Identity, Traffic};
use ipnet::IpNet;

/// One identity and the addresses it may hold SAs for on its own side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PadEntry {
    /// The authenticated identity of the peer; `None` allows every authenticated peer of the remote that made the entry.
    pub identity: Option<Identity>,
    /// Prefixes the peer may name as its own side of a child SA.
    pub prefixes: Vec<IpNet>,
}

/// The database; temporary entries are bound to an IKE SA by the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pad {
    /// Entries; order does not matter.
    pub entries: Vec<PadEntry>,
}

impl Pad {
    /// Whether `identity` may hold SAs whose remote side is `traffic.remote`.
    pub fn may_hold(&self, identity: &Identity, traffic: &Traffic) -> bool {
        traffic.remote.iter().all(|item| {
            self.entries
                .iter()
                .filter(|entry| entry.identity.as_ref().is_none_or(|owner| owner == identity))
                .flat_map(|entry| &entry.prefixes)
                .any(|prefix| crate::AddressRange::from(*prefix).covers(&item.range))
        })
    }
}
