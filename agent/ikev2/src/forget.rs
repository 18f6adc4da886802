//! IKE SAs that are given up here and now, because they do not survive a movement (RFC 6275 11.7.3, RFC 4877 7.4: K bit 0).
//! Invariant: the peer hears nothing of it; child SAs work until they are replaced under the next IKE SA or reach their hard end.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use watari_policies::{MobilityRole, RemoteId};
use watari_sa::{Cause, ChildId, ChildState, Context, IkeId, Owner, Trigger, Want};

use crate::Ikev2;
use crate::task::{Queued, Task};
use crate::timers::Timer;

/// How long messages for an IKE SA that was forgotten are dropped in silence, if it had no end of its own.
const SILENCE: Duration = Duration::from_secs(3600);
/// How many forgotten SPIs are remembered.
const MOST_SPIS: usize = 65_536;
/// How long the responder of the next IKE SA leaves the replacements to its initiator.
const COURTESY: Duration = Duration::from_secs(5);

/// What is left of IKE SAs that were forgotten.
#[derive(Debug, Default)]
pub(crate) struct Forgotten {
    /// Our SPIs of them, and until which boot time nothing is said to whoever uses them.
    spis: BTreeMap<u64, Duration>,
    /// Remotes whose next IKE SA has to replace what the forgotten one left, and what was wanted of that one besides.
    heirless: BTreeMap<RemoteId, VecDeque<Want>>,
}

impl Forgotten {
    /// Whether an SPI of ours belonged to an IKE SA that was forgotten.
    pub(crate) fn has(&self, spi: u64, now: Duration) -> bool {
        self.spis.get(&spi).is_some_and(|until| *until > now)
    }

    fn remember(&mut self, spi: u64, now: Duration, until: Duration) {
        if self.spis.len() >= MOST_SPIS {
            self.spis.retain(|_, until| *until > now);
        }
        if self.spis.len() < MOST_SPIS {
            self.spis.insert(spi, until);
        }
    }
}

impl Ikev2 {
    /// Forgets an IKE SA without a word. No DELETE is sent, none is needed: the peer forgets it too, or finds out by its liveness check.
    pub(crate) fn forget_ike(&mut self, context: &mut Context<'_>, ike: IkeId) {
        let Some(sa) = self.sas.get(&ike) else { return };
        let (remote, spi) = (sa.remote, sa.local_spi());
        let now = context.now.boot;
        let until = self.timers.get(Timer::ExpireIke(ike)).unwrap_or(now.saturating_add(SILENCE));
        let wants = self.unserved(context, ike);
        for child in self.orphan_children(context, ike) {
            if context.children.get(child).is_none_or(|sa| sa.state != ChildState::Closing) {
                continue;
            }
            if self.has_heir(child) {
                // Whether the peer knows that it was replaced nobody can tell any more: it may send on it.
                context.children.update(child, |sa| sa.state = ChildState::Replaced);
            } else {
                // One that was being closed has nobody left who would end it.
                self.remove_child(context, child, Cause::OPERATOR);
            }
        }
        self.remove(context, ike);
        self.forgotten.remember(spi, now, until);
        let Some(remote) = remote else { return };
        if context.config.remote(remote).is_some_and(|remote| matches!(remote.role, MobilityRole::RoadWarrior { .. })) {
            //= rfc7296#2.4
            //# the child SAs of a road warrior end at an address that is gone: the next IKE SA is the only one, and INITIAL_CONTACT says so
            self.contacted.remove(&remote);
        } else {
            //= rfc7296#2.4
            //# INITIAL_CONTACT would cost the child SAs that still work: this side has lost nothing, and does not say that it has
            self.contacted.insert(remote);
        }
        self.forgotten.heirless.entry(remote).or_default().extend(wants);
    }

    /// An IKE SA stands: what a forgotten one left is replaced under it, make before break. Its initiator does so at once; its responder
    /// a little later, with what is left then, so that the two do not make everything twice.
    pub(crate) fn inherit_forgotten(&mut self, context: &Context<'_>, ike: IkeId) {
        let Some(sa) = self.sas.get(&ike) else { return };
        let (Some(remote), initiator) = (sa.remote, sa.initiator) else { return };
        let Some(mut wants) = self.forgotten.heirless.remove(&remote) else { return };
        for sa in context.children.of_owner(Owner::None).filter(|sa| sa.remote == remote && sa.state == ChildState::Installed) {
            if !wants.iter().any(|want| want.policy == sa.policy) {
                wants.push_back(Want { policy: sa.policy, trigger: Trigger::Replace(sa.id) });
            }
        }
        let not_before = if initiator { Duration::ZERO } else { context.now.boot.saturating_add(COURTESY) };
        for want in wants {
            if !self.negotiates(ike, want.policy)
                && let Some(sa) = self.sas.get_mut(&ike)
            {
                sa.tasks.push_back(Queued { not_before, task: Task::create(want) });
            }
        }
    }

    /// Whether a child SA that a wish is to replace has been replaced already: by another one whose IKE SA is not about to go.
    pub(crate) fn replaced_already(&self, context: &Context<'_>, want: &Want) -> bool {
        let Trigger::Replace(old) = want.trigger else { return false };
        let serves = |child: ChildId| context.children.get(child).is_some_and(|sa| sa.owner == Owner::None && !self.drains(child));
        let lasts = |owner: Owner| matches!(owner, Owner::Ike(ike) if self.timers.get(Timer::CloseRedundant(ike)).is_none());
        !serves(old) && context.children.of_policy(want.policy).any(|sa| sa.id != old && lasts(sa.owner) && !self.drains(sa.id))
    }
}
