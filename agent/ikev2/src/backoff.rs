//! Peers that close every new IKE SA as soon as it stands: they are called again, but ever more slowly.
//! Invariant: a wish is never lost by waiting, and an operator's command never waits.

use std::collections::VecDeque;
use std::time::Duration;

use watari_policies::RemoteId;
use watari_sa::{Context, IkeId, Want};

use crate::Ikev2;
use crate::timers::Timer;

/// An IKE SA that stood for longer was not closed at once.
const EARLY: Duration = Duration::from_secs(30);
/// How long after the last early close the peer is called as if nothing had been.
const FORGIVEN: Duration = Duration::from_secs(180);
/// Longest wait, in powers of two of a second.
const LONGEST: u32 = 6;

/// What is remembered of a peer that closes IKE SAs early.
#[derive(Debug)]
pub(crate) struct Rest {
    /// Its name in deadlines.
    pub(crate) name: String,
    /// How often in a row.
    closed: u32,
    /// Boot time of the last time.
    last: Duration,
    /// Boot time until which it is not called.
    until: Duration,
    /// What is wanted of it then.
    wants: VecDeque<Want>,
}

impl Ikev2 {
    /// The peer has closed an IKE SA that stood since `established`; another one that stands shows that it means no harm.
    pub(crate) fn closed_after(&mut self, context: &mut Context<'_>, remote: RemoteId, ike: IkeId, established: Duration) {
        let now = context.now.boot;
        let stands = |other: &IkeId| *other != ike && self.sas.get(other).is_some_and(|sa| sa.is_established());
        if now.saturating_sub(established) >= EARLY || self.ike_ids(remote).iter().any(stands) {
            if let Some(rest) = self.resting.get_mut(&remote) {
                (rest.closed, rest.until) = (0, Duration::ZERO);
            }
            return;
        }
        let name = context.config.remote(remote).map_or_else(String::new, |remote| remote.name.clone());
        let new = Rest { name, closed: 0, last: now, until: Duration::ZERO, wants: VecDeque::new() };
        let rest = self.resting.entry(remote).or_insert(new);
        rest.closed = if now.saturating_sub(rest.last) > FORGIVEN { 1 } else { rest.closed.saturating_add(1) };
        rest.last = now;
        // Once may happen: two ends that meet, an operator who thinks again.
        let Some(power) = rest.closed.checked_sub(2) else { return };
        let wait = Duration::from_secs(1u64.checked_shl(power.min(LONGEST)).unwrap_or(1));
        rest.until = now.saturating_add(wait).saturating_add(context.rng.up_to(wait / 4));
        if !rest.wants.is_empty() {
            self.timers.set(Timer::Call(remote), rest.until);
        }
    }

    /// Leaves a peer in peace for a while that could be reached nowhere.
    pub(crate) fn rest(&mut self, context: &Context<'_>, remote: RemoteId, pause: Duration) {
        let now = context.now.boot;
        let name = context.config.remote(remote).map_or_else(String::new, |remote| remote.name.clone());
        let new = Rest { name, closed: 0, last: now, until: now, wants: VecDeque::new() };
        let rest = self.resting.entry(remote).or_insert(new);
        rest.until = rest.until.max(now.saturating_add(pause));
    }

    /// Keeps a wish that would call a peer that is being rested from; gives it back if it may go on.
    pub(crate) fn put_to_rest(&mut self, context: &Context<'_>, remote: RemoteId, want: Want) -> Option<Want> {
        let Some(rest) = self.resting.get_mut(&remote).filter(|rest| rest.until > context.now.boot) else { return Some(want) };
        if !rest.wants.iter().any(|known| known.policy == want.policy) {
            rest.wants.push_back(want);
        }
        self.timers.set(Timer::Call(remote), rest.until);
        None
    }

    /// The rest is over: what was wanted meanwhile is asked for.
    pub(crate) fn call_again(&mut self, context: &mut Context<'_>, remote: RemoteId) {
        let wants = self.resting.get_mut(&remote).map(|rest| std::mem::take(&mut rest.wants)).unwrap_or_default();
        for want in wants {
            self.want_child(context, want);
        }
    }
}
