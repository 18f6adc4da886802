//! The drop counters of /proc/net/xfrm_stat that the mirror keeps.

use std::collections::BTreeMap;
use std::fmt;

/// Why a packet was dropped, under the kernel's own name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Counter {
    /// No state for an inbound packet (unknown SPI, no hao or route2 state).
    XfrmInNoStates,
    /// The ICV is wrong.
    XfrmInStateProtoError,
    /// The packet's mode is not the SA's.
    XfrmInStateModeError,
    /// Outside the replay window, or seen before.
    XfrmInStateSeqError,
    /// The packet is not one of the SA's selector.
    XfrmInStateMismatch,
    /// The SPI is only reserved.
    XfrmAcquireError,
    /// What was applied to the packet is not what the policy's templates demand.
    XfrmInTmplMismatch,
    /// A tunnelled packet for which there is no policy.
    XfrmInNoPols,
    /// A policy says block.
    XfrmInPolBlock,
    /// A policy demands an SA and there is none.
    XfrmOutNoStates,
    /// A policy says block.
    XfrmOutPolBlock,
}

impl fmt::Display for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// How often each reason occurred.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters(BTreeMap<Counter, u64>);

impl Counters {
    pub(crate) fn count(&mut self, counter: Counter) {
        let value = self.0.entry(counter).or_default();
        *value = value.saturating_add(1);
    }

    /// How often this reason occurred.
    pub fn get(&self, counter: Counter) -> u64 {
        self.0.get(&counter).copied().unwrap_or(0)
    }

    /// Every reason that occurred, by name.
    pub fn iter(&self) -> impl Iterator<Item = (Counter, u64)> {
        self.0.iter().map(|(counter, value)| (*counter, *value))
    }
}
