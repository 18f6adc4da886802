//! Every timer of the protocol in one ordered set: O(log n) to set, clear and find the next.
//! Invariant: a timer stands at most once; setting it again moves it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use watari_policies::RemoteId;
use watari_sa::{ChildId, IkeId};

/// What a moment is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// When to repeat an unanswered request.
    Retransmit(IkeId),
    /// When to try again to send from an address that is not usable yet.
    AwaitAddress(IkeId),
    /// When to forget an IKE SA that never got authenticated.
    HalfOpen(IkeId),
    /// When to forget an ended IKE SA that still answers repeats of the last request.
    Linger(IkeId),
    /// When to replace an IKE SA.
    RekeyIke(IkeId),
    /// When an IKE SA ends.
    ExpireIke(IkeId),
    /// When to check that the peer lives.
    Liveness(IkeId),
    /// When to go on with tasks that were put off.
    Tasks(IkeId),
    /// When to close a redundant IKE SA.
    CloseRedundant(IkeId),
    /// When to replace a child SA.
    RekeyChild(ChildId),
    /// When a child SA ends.
    ExpireChild(ChildId),
    /// When to send on a new child SA although the peer has not closed the old one.
    Switch(ChildId),
    /// When to stop receiving on a child SA that was replaced.
    Drain(ChildId),
    /// When to remove a child SA that lost its owner and was not replaced.
    Orphan(ChildId),
    /// When to call a peer again that closes every new IKE SA.
    Call(RemoteId),
}

impl Timer {
    /// The name in a deadline.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Retransmit(_) => "retransmit",
            Self::AwaitAddress(_) => "await address",
            Self::HalfOpen(_) => "half-open",
            Self::Linger(_) => "linger",
            Self::RekeyIke(_) => "rekey IKE SA",
            Self::ExpireIke(_) => "expire IKE SA",
            Self::Liveness(_) => "liveness",
            Self::Tasks(_) => "retry task",
            Self::CloseRedundant(_) => "close redundant IKE SA",
            Self::RekeyChild(_) => "rekey child SA",
            Self::ExpireChild(_) => "expire child SA",
            Self::Switch(_) => "switch to new child SA",
            Self::Drain(_) => "drain child SA",
            Self::Orphan(_) => "orphaned child SA",
            Self::Call(_) => "call again",
        }
    }

    /// The IKE SA it belongs to, if it belongs to one.
    pub(crate) const fn ike(self) -> Option<IkeId> {
        match self {
            Self::Retransmit(ike)
            | Self::AwaitAddress(ike)
            | Self::HalfOpen(ike)
            | Self::Linger(ike)
            | Self::RekeyIke(ike)
            | Self::ExpireIke(ike)
            | Self::Liveness(ike)
            | Self::Tasks(ike)
            | Self::CloseRedundant(ike) => Some(ike),
            _ => None,
        }
    }

    /// Every timer an IKE SA may have.
    const fn of_ike(ike: IkeId) -> [Self; 9] {
        [
            Self::Retransmit(ike),
            Self::AwaitAddress(ike),
            Self::HalfOpen(ike),
            Self::Linger(ike),
            Self::RekeyIke(ike),
            Self::ExpireIke(ike),
            Self::Liveness(ike),
            Self::Tasks(ike),
            Self::CloseRedundant(ike),
        ]
    }

    /// Every timer a child SA may have.
    const fn of_child(child: ChildId) -> [Self; 5] {
        [Self::RekeyChild(child), Self::ExpireChild(child), Self::Switch(child), Self::Drain(child), Self::Orphan(child)]
    }
}

/// The set of timers.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    at: BTreeMap<Timer, Duration>,
    order: BTreeSet<(Duration, Timer)>,
}

impl Timers {
    /// Sets a timer, moving it if it stands.
    pub(crate) fn set(&mut self, timer: Timer, at: Duration) {
        if let Some(old) = self.at.insert(timer, at) {
            self.order.remove(&(old, timer));
        }
        self.order.insert((at, timer));
    }

    /// Sets a timer, or clears it for `None`.
    pub(crate) fn set_or_clear(&mut self, timer: Timer, at: Option<Duration>) {
        match at {
            Some(at) => self.set(timer, at),
            None => self.clear(timer),
        }
    }

    /// Removes a timer.
    pub(crate) fn clear(&mut self, timer: Timer) {
        if let Some(at) = self.at.remove(&timer) {
            self.order.remove(&(at, timer));
        }
    }

    /// Removes every timer of an IKE SA.
    pub(crate) fn clear_ike(&mut self, ike: IkeId) {
        Timer::of_ike(ike).into_iter().for_each(|timer| self.clear(timer));
    }

    /// Removes every timer of a child SA.
    pub(crate) fn clear_child(&mut self, child: ChildId) {
        Timer::of_child(child).into_iter().for_each(|timer| self.clear(timer));
    }

    /// Whether a timer stands, and for when.
    pub(crate) fn get(&self, timer: Timer) -> Option<Duration> {
        self.at.get(&timer).copied()
    }

    /// The next moment.
    pub(crate) fn next(&self) -> Option<(Duration, Timer)> {
        self.order.first().copied()
    }

    /// Takes the next timer that is due.
    pub(crate) fn due(&mut self, now: Duration) -> Option<Timer> {
        let (at, timer) = self.next()?;
        if at > now {
            return None;
        }
        self.clear(timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_stands_once_and_comes_in_order() {
        let second = Duration::from_secs;
        let mut timers = Timers::default();
        timers.set(Timer::Retransmit(IkeId(1)), second(5));
        timers.set(Timer::Liveness(IkeId(1)), second(3));
        timers.set(Timer::Retransmit(IkeId(1)), second(1));
        timers.set(Timer::Switch(ChildId(1)), second(2));
        assert_eq!(timers.due(second(0)), None);
        assert_eq!(timers.due(second(9)), Some(Timer::Retransmit(IkeId(1))));
        timers.clear_child(ChildId(1));
        assert_eq!(timers.due(second(9)), Some(Timer::Liveness(IkeId(1))));
        assert_eq!(timers.due(second(9)), None);
    }
}
