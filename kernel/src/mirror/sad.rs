//! The mirror's SAD: states in the order they were put in, found by SPI, by end points and by the time something happens to them.
//! Invariant: every index names every state under what the state says now, so that no request looks at states it is not about.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use watari_policies::Reqid;

use crate::mirror::states::{State, ip_protocol};
use crate::{Endpoints, SaId, Spi};

/// Names a state for as long as it stands; a newer state has a greater one.
pub(crate) type Place = u64;

/// SPI, destination and IP protocol.
type Name = (Spi, IpAddr, u8);

#[derive(Clone, Debug, Default)]
pub(crate) struct States {
    entries: BTreeMap<Place, State>,
    last: Place,
    names: BTreeSet<(Name, Place)>,
    ends: BTreeSet<(IpAddr, IpAddr, Place)>,
    reqids: BTreeSet<(Reqid, Place)>,
    limits: BTreeSet<(Duration, Place)>,
}

impl States {
    /// Puts a state in as the newest.
    pub(crate) fn insert(&mut self, state: State) {
        self.last = self.last.saturating_add(1);
        self.put(self.last, state);
    }

    /// Oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &State> {
        self.entries.values()
    }

    pub(crate) fn get(&self, at: Place) -> Option<&State> {
        self.entries.get(&at)
    }

    /// Changes a state where it stands.
    pub(crate) fn change<T>(&mut self, at: Place, change: impl FnOnce(&mut State) -> T) -> Option<T> {
        let mut state = self.remove(at)?;
        let done = change(&mut state);
        self.put(at, state);
        Some(done)
    }

    pub(crate) fn remove(&mut self, at: Place) -> Option<State> {
        let state = self.entries.remove(&at)?;
        self.names.remove(&(name(&state), at));
        self.ends.remove(&(state.src, state.dst, at));
        self.reqids.remove(&(state.reqid, at));
        if let Some((limit, _)) = state.next_limit() {
            self.limits.remove(&(limit, at));
        }
        Some(state)
    }

    pub(crate) fn clear(&mut self) {
        *self = Self { last: self.last, ..Self::default() };
    }

    /// The SA of this id, larval or not.
    pub(crate) fn by_id(&self, id: SaId) -> Option<Place> {
        self.named(id).next().filter(|_| id.spi != Spi(0))
    }

    /// States without an SPI that have the destination and protocol of this id, oldest first.
    pub(crate) fn without_spi(&self, id: SaId) -> impl Iterator<Item = (Place, &State)> {
        self.named(SaId { spi: Spi(0), ..id }).filter_map(|at| Some((at, self.get(at)?)))
    }

    /// States between these end points, oldest first.
    pub(crate) fn between(&self, ends: Endpoints) -> impl DoubleEndedIterator<Item = (Place, &State)> {
        let (from, to) = ((ends.src, ends.dst, Place::MIN), (ends.src, ends.dst, Place::MAX));
        self.ends.range(from..=to).filter_map(|(_, _, at)| Some((*at, self.get(*at)?)))
    }

    /// Places of the states of a reqid, oldest first.
    pub(crate) fn of_reqid(&self, reqid: Reqid) -> Vec<Place> {
        self.reqids.range((reqid, Place::MIN)..=(reqid, Place::MAX)).map(|(_, at)| *at).collect()
    }

    /// When something happens to a state by itself.
    pub(crate) fn next_limit(&self) -> Option<Duration> {
        self.limits.first().map(|(limit, _)| *limit)
    }

    /// The oldest state to which something happens by itself until `boot`, and whether it is its end.
    pub(crate) fn due(&self, boot: Duration) -> Option<(Place, bool)> {
        let at = self.limits.range(..=(boot, Place::MAX)).map(|(_, at)| *at).min()?;
        Some((at, self.get(at)?.next_limit()?.1))
    }

    fn named(&self, id: SaId) -> impl Iterator<Item = Place> {
        let name = (id.spi, id.dst, ip_protocol(id.protocol));
        self.names.range((name, Place::MIN)..=(name, Place::MAX)).map(|(_, at)| *at)
    }

    fn put(&mut self, at: Place, state: State) {
        self.names.insert((name(&state), at));
        self.ends.insert((state.src, state.dst, at));
        self.reqids.insert((state.reqid, at));
        self.limits.extend(state.next_limit().map(|(limit, _)| (limit, at)));
        self.entries.insert(at, state);
    }
}

const fn name(state: &State) -> Name {
    (state.spi, state.dst, state.ip_protocol)
}

#[cfg(test)]
mod tests {
    use watari_policies::{Mode, Protocol};

    use super::*;
    use crate::Now;

    fn ends(src: u16, dst: u16) -> Endpoints {
        let address = |host| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, host]);
        Endpoints { src: address(src), dst: address(dst) }
    }

    fn larval(ends: Endpoints, reqid: u32, until: u64) -> State {
        let now = Now { boot: Duration::ZERO, wall: Duration::ZERO };
        State::larval(ends, Protocol::Esp, Mode::Tunnel, Reqid(reqid), Duration::from_secs(until), now)
    }

    #[test]
    fn a_changed_state_is_found_under_what_it_says_now_and_keeps_its_age() {
        let mut states = States::default();
        states.insert(larval(ends(1, 2), 1, 30));
        states.insert(larval(ends(1, 2), 1, 20));
        let (at, _) = states.between(ends(1, 2)).next().unwrap();
        let id = SaId { dst: ends(1, 2).dst, protocol: Protocol::Esp, spi: Spi(7) };
        states.change(at, |state| (state.spi, state.reqid) = (id.spi, Reqid(2)));
        assert_eq!((states.by_id(id), states.of_reqid(Reqid(2)), states.without_spi(id).count()), (Some(at), vec![at], 1));
        states.change(at, |state| state.dst = ends(1, 3).dst);
        assert_eq!((states.by_id(id), states.between(ends(1, 3)).count(), states.between(ends(1, 2)).count()), (None, 1, 1));
        assert_eq!(states.iter().map(|state| state.spi).collect::<Vec<_>>(), [Spi(7), Spi(0)], "it is still the older one");
    }

    #[test]
    fn of_those_that_are_due_the_oldest_comes_first() {
        let mut states = States::default();
        for until in [30, 10, 20] {
            states.insert(larval(ends(1, 2), 1, until));
        }
        assert_eq!(states.next_limit(), Some(Duration::from_secs(10)));
        let mut order = Vec::new();
        while let Some((at, true)) = states.due(Duration::from_secs(25)) {
            order.extend(states.remove(at).and_then(|state| state.next_limit()).map(|(limit, _)| limit.as_secs()));
        }
        assert_eq!((order, states.next_limit()), (vec![10, 20], Some(Duration::from_secs(30))));
        states.clear();
        assert_eq!((states.next_limit(), states.iter().count()), (None, 0));
    }
}
