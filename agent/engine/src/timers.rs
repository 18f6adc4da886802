//! The engine's own timers, in order of their time.
//! Invariant: a timer fires once; setting one that is set already keeps the earlier or moves it, as the caller says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use watari_policies::{PolicyId, RemoteId};
use watari_sa::{ChildId, Deadline};

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A child SA moved and things are quiet again: see whether the kernel moved it too.
    Verify(ChildId),
    /// A child SA without owner has been replaced: it goes.
    EndAdopted(ChildId),
    /// A child SA without policy has rested for as long as it may.
    Rested(ChildId),
    /// A wish failed: try again.
    Retry(PolicyId),
    /// See whether traffic of this remote flows one way only.
    Liveness(RemoteId),
    /// Copies of MIGRATE that only one socket brought.
    Copies,
    /// State is read again from the kernel.
    Reconcile,
    /// A command waits no longer.
    Command(u64),
}

impl Timer {
    const fn name(self) -> &'static str {
        match self {
            Self::Verify(_) => "verify SAs after a move",
            Self::EndAdopted(_) => "remove replaced SAs",
            Self::Rested(_) => "remove SAs that rest",
            Self::Retry(_) => "try a policy again",
            Self::Liveness(_) => "watch traffic",
            Self::Copies => "copies of MIGRATE",
            Self::Reconcile => "read the kernel's state again",
            Self::Command(_) => "end of a command's wait",
        }
    }
}

/// Timers that are set.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_time: BTreeSet<(Duration, Timer)>,
    by_timer: BTreeMap<Timer, Duration>,
}

impl Timers {
    /// Sets a timer, moving it if it is set already.
    pub(crate) fn set(&mut self, timer: Timer, at: Duration) {
        self.clear(timer);
        self.by_time.insert((at, timer));
        self.by_timer.insert(timer, at);
    }

    /// Sets a timer unless it is set already.
    pub(crate) fn set_once(&mut self, timer: Timer, at: Duration) {
        if !self.by_timer.contains_key(&timer) {
            self.set(timer, at);
        }
    }

    /// Unsets a timer.
    pub(crate) fn clear(&mut self, timer: Timer) {
        if let Some(at) = self.by_timer.remove(&timer) {
            self.by_time.remove(&(at, timer));
        }
    }

    /// Takes the next timer that is due.
    pub(crate) fn due(&mut self, boot: Duration) -> Option<Timer> {
        let (at, timer) = *self.by_time.first()?;
        if at > boot {
            return None;
        }
        self.clear(timer);
        Some(timer)
    }

    /// When the next one is due, and which.
    pub(crate) fn deadline(&self) -> Option<Deadline> {
        let (at, timer) = self.by_time.first()?;
        Some(Deadline { at: *at, timer: timer.name(), whose: "engine".to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_fire_in_order_and_once() {
        let mut timers = Timers::default();
        let at = Duration::from_millis;
        timers.set(Timer::Verify(ChildId(1)), at(20));
        timers.set(Timer::Copies, at(10));
        timers.set(Timer::Verify(ChildId(1)), at(30));
        timers.set_once(Timer::Copies, at(50));
        assert_eq!(timers.deadline().map(|next| next.at), Some(at(10)));
        assert_eq!(timers.due(at(25)), Some(Timer::Copies));
        assert_eq!(timers.due(at(25)), None);
        assert_eq!(timers.due(at(30)), Some(Timer::Verify(ChildId(1))));
        assert_eq!(timers.deadline(), None);
    }
}
