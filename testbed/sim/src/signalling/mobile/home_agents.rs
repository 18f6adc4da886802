//! Another home agent: what a Home Agent Switch message (RFC 5142) and the word of the key manager make a mobile node do.
//! Invariant: the binding with the old home agent has ended, or has been given up, before the new one is asked for any.

use std::net::IpAddr;
use std::time::Duration;

use watari_policies::Mode;

use super::super::spd::{self, Bound, End};
use super::super::{Output, SignalEvent};
use super::{MobileNode, Place, Timer};

/// Repeats of a binding update that ends a binding before the node goes on without the answer.
const MOST_FAREWELLS: u32 = 2;

impl MobileNode {
    //= rfc5142#6.1
    //# the home agent is used no longer, and the binding is deleted by a binding update, which answers the message
    pub(super) fn sent_away(&mut self, now: Duration, from: IpAddr) {
        if from == self.settings.agreement.home_agent {
            self.leave(now);
        }
    }

    /// The key manager has SAs with this home agent, and with no other before long.
    pub(super) fn home_agent_is(&mut self, now: Duration, address: IpAddr) {
        self.next = Some(address).filter(|address| *address != self.settings.agreement.home_agent);
        if self.next.is_some() && !self.leaving {
            self.leave(now);
        }
        // There is no binding to end, or its end has been acknowledged.
        if !self.leaving || self.pending.is_none() {
            self.go_over(now);
        }
    }

    fn leave(&mut self, now: Duration) {
        let Place::Away(care_of) = self.place else { return };
        if self.leaving || self.registered.is_none() {
            return;
        }
        self.leaving = true;
        self.agenda.event(SignalEvent::Leaving { home_agent: self.settings.agreement.home_agent });
        self.agenda.clear(&Timer::Refresh);
        self.block(true);
        self.update(now, care_of, true);
    }

    /// Whether the end of a binding was asked for often enough.
    pub(super) fn gives_up_farewell(&self) -> bool {
        self.leaving && self.next.is_some() && self.pending.is_some_and(|update| update.ends && update.repeats >= MOST_FAREWELLS)
    }

    /// The binding with the old home agent is no more.
    pub(super) fn left(&mut self, now: Duration) {
        (self.pending, self.registered, self.keys_stay) = (None, None, false);
        self.agenda.clear(&Timer::Repeat);
        self.go_over(now);
    }

    /// Everything that stands for the old home agent goes, and the new one is registered with from where the node is.
    fn go_over(&mut self, now: Duration) {
        let Some(next) = self.next.take() else { return };
        let old = self.settings.agreement.clone();
        self.settings.agreement.home_agent = next;
        let new = self.settings.agreement.clone();
        (self.pending, self.registered, self.leaving) = (None, None, false);
        self.agenda.clear(&Timer::Repeat);
        self.agenda.clear(&Timer::Refresh);
        // Nothing may slip out between the policies of one and those of the other.
        for policy in spd::blocks(&new).into_iter().filter(|_| self.blocked) {
            self.agenda.put(Output::SetPolicy(policy));
        }
        let at = self.tunnels_at.take();
        let bound = [Bound::Signalling, Bound::Data].map(|what| spd::bound(&old, End::MobileNode, what));
        let modes = [Mode::Transport, Mode::Tunnel].map(|mode| spd::ipsec(&old, End::MobileNode, mode, old.home_address));
        let ipsec = modes.into_iter().flatten().map(|policy| policy.entry);
        let standing = spd::mobile_start(&new);
        let gone = spd::mobile_start(&old).into_iter().filter(|policy| !standing.contains(policy));
        // The block towards the old one has the selector of its policy for data.
        for policy in bound.into_iter().flatten().filter(|_| at.is_some()).chain(ipsec).chain(gone) {
            self.delete(&policy);
        }
        for state in at.into_iter().flat_map(|at| spd::states(&old, at)) {
            self.agenda.put(Output::DeleteState(state));
        }
        let transport = spd::ipsec(&new, End::MobileNode, Mode::Transport, new.home_address);
        for policy in transport.into_iter().map(|policy| policy.entry).chain(standing) {
            self.agenda.put(Output::SetPolicy(policy));
        }
        if let Place::Away(care_of) = self.place {
            self.move_away(now, care_of);
        }
    }
}
