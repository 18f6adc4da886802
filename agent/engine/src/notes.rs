//! What was last heard or told of each care-of address of a peer, and which binding update was the last that a movement bore out.
//! Invariant: on a home agent nothing that a later accepted update has overtaken stands behind a movement. An update whose movement has
//! not come yet overtakes nothing: it may be lost or refused, and the movements before it are told first.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use watari_mip6::Evidence;

/// How long a binding message stands behind a movement: duplicate address detection of a first binding takes a second, repeats come later.
const FRESH: Duration = Duration::from_secs(30);
/// Within this time a lower sequence number is an older message that was overtaken.
const OVERTAKEN: Duration = Duration::from_secs(10);
/// Care-of addresses remembered for each peer.
const CARE_OF_ADDRESSES: usize = 4;

/// What was last seen or told about one care-of address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Note {
    /// The care-of address; the home address where a binding ends.
    pub(crate) care_of: IpAddr,
    /// When it came, boot time.
    pub(crate) at: Duration,
    /// Sequence number of the message, if it was one.
    pub(crate) sequence: Option<u16>,
    /// For how long the message asks for a binding; nothing where it ends one.
    pub(crate) lifetime: Duration,
    /// What it says.
    pub(crate) evidence: Evidence,
}

impl Note {
    fn fresh(&self, at: Duration) -> bool {
        at.saturating_sub(self.at) <= FRESH
    }
}

/// The update behind a binding.
#[derive(Clone, Copy, Debug)]
struct Accepted {
    care_of: IpAddr,
    sequence: u16,
    /// Until when the binding lives without another update: without a binding every sequence number is taken.
    until: Duration,
}

/// The notes about one peer.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    heard: VecDeque<Note>,
    accepted: Option<Accepted>,
}

/// Whether a sequence number is no later than another, modulo 2^16.
//= rfc6275#9.5.1
//# sequence numbers are compared modulo 2^16: a number is behind if it is equal or among the 32,768 before the other
const fn behind(sequence: u16, other: u16) -> bool {
    other.wrapping_sub(sequence) < 0x8000
}

impl Notes {
    /// What stands behind a movement to this care-of address.
    pub(crate) fn behind_movement(&self, now: Duration, care_of: IpAddr) -> Option<&Note> {
        self.heard.iter().find(|note| note.care_of == care_of && note.fresh(now) && !self.is_overtaken(note))
    }

    /// Whether a later update than this one has moved the peer already, so that the home agent's daemon refuses this one, or has forgotten it.
    fn is_overtaken(&self, note: &Note) -> bool {
        let (Some(accepted), Some(sequence)) = (self.accepted, note.sequence) else { return false };
        let same = accepted.care_of == note.care_of && accepted.sequence == sequence;
        !same && behind(sequence, accepted.sequence) && note.at <= accepted.until
    }

    /// Keeps what was seen or told; whether it is news that counts. `bound` is where the peer is, if this is a home agent that knows it.
    pub(crate) fn keep(&mut self, mut note: Note, bound: Option<IpAddr>) -> bool {
        if self.is_overtaken(&note) {
            return false;
        }
        if let Some(at) = self.heard.iter().position(|old| old.care_of == note.care_of)
            && let Some(old) = self.heard.remove(at)
        {
            let overtaken = self.is_overtaken(&old);
            let late = |(old, new): (u16, u16)| new != old && behind(new, old) && !overtaken;
            if old.sequence.zip(note.sequence).is_some_and(late) && note.at.saturating_sub(old.at) < OVERTAKEN {
                self.heard.push_back(old);
                return false;
            }
            // The daemon tells of an update that was heard before: it does not make it another one.
            if note.sequence.is_none() {
                (note.sequence, note.lifetime) = (old.sequence, old.lifetime);
            }
        } else if self.heard.len() >= CARE_OF_ADDRESSES {
            self.heard.pop_front();
        }
        self.heard.push_back(note);
        if bound == Some(note.care_of) && !self.waits_before(&note) {
            self.accept(&note);
        }
        true
    }

    /// Whether the movement of an update between the accepted one and this one may still come.
    fn waits_before(&self, note: &Note) -> bool {
        self.heard.iter().any(|other| {
            let between = other.sequence.zip(note.sequence).is_some_and(|(other, this)| other != this && behind(other, this));
            other.care_of != note.care_of
                && between
                && other.fresh(note.at)
                && !self.is_overtaken(other)
                && self.accepted.is_some_and(|accepted| accepted.care_of != other.care_of || Some(accepted.sequence) != other.sequence)
        })
    }

    fn accept(&mut self, note: &Note) {
        if let Some(sequence) = note.sequence {
            let until = note.at.saturating_add(note.lifetime);
            self.accepted = Some(Accepted { care_of: note.care_of, sequence, until });
        }
    }

    /// The peer of a home agent is at this care-of address now: what stood behind that is the last update that was accepted. Where nothing
    /// did, nothing that was heard before stands behind movements to other addresses.
    pub(crate) fn moved(&mut self, now: Duration, care_of: IpAddr) {
        match self.behind_movement(now, care_of).copied() {
            Some(note) if note.sequence.is_some() => self.accept(&note),
            _ => self.heard.retain(|note| note.care_of == care_of),
        }
    }
}
