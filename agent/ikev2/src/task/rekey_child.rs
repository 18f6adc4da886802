//! Task: replacing a child SA, make before break (RFC 7296 1.3.3, 2.8, 2.8.1, 2.25.1).

use watari_kernel::Spi;
use watari_policies::Protocol;
use watari_sa::{Cause, ChildId, ChildSa, ChildState, Context, IkeId, Owner, Trigger, Want};
use watari_wire::ikev2::{Notify, ProtocolId};

use super::{RekeyChild, Task};
use crate::Ikev2;
use crate::child::{ChildBuild, ChildPlan};
use crate::payloads::Payloads;
use crate::refusal::Refusal;
use crate::timers::Timer;

impl Ikev2 {
    pub(super) fn start_rekey_child(&mut self, context: &mut Context<'_>, ike: IkeId, mut task: RekeyChild) {
        let Some(old) = context.children.get(task.old) else { return };
        if old.state == ChildState::Dormant {
            return self.rekey_later(context, task.old);
        }
        // Replaced by the peer, or being closed, while the task waited.
        if old.owner != Owner::Ike(ike) || old.state != ChildState::Installed || self.has_heir(task.old) {
            return;
        }
        let plan = ChildPlan { group: task.group, ..ChildPlan::successor(old.policy, old.id) };
        task.child = self.start_child(context, ike, plan);
        if let Some(sa) = self.sas.get_mut(&ike).filter(|_| task.child.is_some()) {
            sa.current = Some(Task::RekeyChild(task));
        }
    }

    /// Whether another child SA takes or has taken the place of this one.
    pub(crate) fn has_heir(&self, child: ChildId) -> bool {
        let heir = self.kids.get(&child).and_then(|kid| kid.heir);
        self.has_successor(child) || heir.is_some_and(|heir| self.builds.contains_key(&heir))
    }

    /// Whether another child SA has taken the place of this one.
    fn has_successor(&self, child: ChildId) -> bool {
        self.kids.get(&child).is_some_and(|kid| kid.successor.is_some())
    }

    /// A rekey failed, or came due while the child SA rests at home: it is tried again between now and the end.
    pub(crate) fn rekey_later(&mut self, context: &mut Context<'_>, old: ChildId) {
        let serves = |sa: &&ChildSa| matches!(sa.state, ChildState::Installed | ChildState::Dormant);
        let Some(sa) = context.children.get(old).filter(serves) else { return };
        let Some(end) = sa.expires_at else { return };
        let half = end.saturating_sub(context.now.boot) / 2;
        if half.as_secs() >= 5 {
            self.timers.set(Timer::RekeyChild(old), context.now.boot.saturating_add(half));
        }
    }

    /// The peer does not know the child SA that we want to replace: it is removed here too and made afresh.
    pub(super) fn old_child_unknown(&mut self, context: &mut Context<'_>, build: &ChildBuild) {
        let Some((old, _)) = build.replaces else { return };
        if self.has_successor(old) {
            return;
        }
        let Some(policy) = context.children.get(old).map(|sa| sa.policy) else { return };
        //= rfc7296#2.25
        //# CHILD_SA_NOT_FOUND: the child SA is deleted silently and created from scratch
        self.remove_child(context, old, Cause::PEER_RESTARTED);
        self.push_task(build.ike, Task::create(Want { policy, trigger: Trigger::Command }));
    }

    /// The child SA that the peer names by its own inbound SPI, which is our outbound one. It may have moved to another IKE SA with
    /// the same peer a moment ago.
    pub(super) fn named_by_peer(&self, context: &Context<'_>, ike: IkeId, protocol: ProtocolId, spi: u32) -> Option<ChildId> {
        let wanted = match protocol {
            ProtocolId::ESP => Protocol::Esp,
            ProtocolId::AH => Protocol::Ah,
            _ => return None,
        };
        // Only whoever has proved to be this remote may name its child SAs.
        let remote = self.sas.get(&ike)?.session()?.remote;
        let owners = self.by_remote.range((remote, IkeId(0))..=(remote, IkeId(u64::MAX))).map(|(_, ike)| Owner::Ike(*ike));
        let children = owners.flat_map(|owner| context.children.of_owner(owner));
        let named = children.filter(|sa| sa.outbound.spi == Spi(spi) && sa.protocol == wanted && !self.drains(sa.id));
        named.map(|sa| sa.id).min()
    }

    /// Whether the delete exchange of a child SA is over and it only receives what is still under way.
    pub(crate) fn drains(&self, child: ChildId) -> bool {
        self.timers.get(Timer::Drain(child)).is_some()
    }

    /// The peer asks to replace a child SA.
    pub(super) fn rekey_child_requested(
        &mut self,
        context: &mut Context<'_>,
        ike: IkeId,
        payloads: Payloads<'_>,
        rekey: &Notify,
    ) -> Result<(), Refusal> {
        self.may_touch_children(ike)?;
        let spi = rekey.child_spi().ok_or_else(|| Refusal::Syntax("REKEY_SA without an SPI".to_owned()))?;
        //= rfc7296#2.25.1
        //# a request to rekey a child SA that does not exist gets CHILD_SA_NOT_FOUND
        let Some(old) = self.named_by_peer(context, ike, rekey.protocol, spi) else {
            // The request may have overtaken the answer that makes the child SA known here.
            return Err(match self.in_the_making(ike) {
                Some(_) => Refusal::Temporary("a child SA is being made"),
                None => Refusal::ChildNotFound(rekey.protocol, spi),
            });
        };
        let state = context.children.get(old).map(|sa| sa.state);
        //= rfc7296#2.25.1
        //# a request to rekey a child SA that is being closed gets TEMPORARY_FAILURE
        if state != Some(ChildState::Installed) || self.being_deleted(ike, old) {
            return Err(Refusal::Temporary("this child SA is being replaced or closed"));
        }
        // Never two successors (FACTS E 4): the first one may still wait for its outbound half.
        if self.has_heir(old) {
            return Err(Refusal::Temporary("this child SA has been replaced already"));
        }
        let child = self.child_for_peer(context, ike, payloads, Some(old))?;
        if let Some(kid) = self.kids.get_mut(&old) {
            kid.heir = Some(child);
        }
        //= rfc7296#2.25.1
        //# a request to rekey a child SA that we are rekeying is answered as usual; the nonces decide later
        let ours = self.sas.get(&ike).and_then(|sa| sa.current.as_ref()).and_then(|task| match task {
            Task::RekeyChild(task) if task.old == old => task.child,
            _ => None,
        });
        if let Some(ours) = ours {
            self.note_competition(ours, child);
        }
        Ok(())
    }

    /// Whether we are closing a child SA, or are about to.
    pub(super) fn being_deleted(&self, ike: IkeId, child: ChildId) -> bool {
        let Some(sa) = self.sas.get(&ike) else { return false };
        let deletes = |task: &Task| matches!(task, Task::DeleteChild { child: closing, .. } if *closing == child);
        sa.current.as_ref().is_some_and(deletes) || sa.tasks.iter().any(|queued| deletes(&queued.task))
    }
}
