//! Task: a new child SA over an established IKE SA (RFC 7296 1.3.1).

use std::time::Duration;

use watari_policies::algorithm::Group;
use watari_sa::{Cause, ChildId, Context, IkeId, KeyingEvent};
use watari_wire::ikev2::{Notify, NotifyType};

use super::{CreateChild, MOST_ATTEMPTS, RekeyChild, Task};
use crate::Ikev2;
use crate::child::{Asked, ChildBuild, ChildPlan, Competing, Step};
use crate::init::NONCE_LEN;
use crate::install::no_more_children;
use crate::payloads::Payloads;
use crate::refusal::{Refusal, cause_of};
use crate::state::Answer;

/// How old an IKE SA is at least when it is given up because the peer wants no more child SAs in it.
const RENEWAL_PAUSE: Duration = Duration::from_secs(60);

impl Ikev2 {
    pub(super) fn start_create_child(&mut self, context: &mut Context<'_>, ike: IkeId, mut task: CreateChild) {
        if self.replaced_already(context, &task.want) {
            return;
        }
        let plan = ChildPlan { group: task.group, ..ChildPlan::new(&task.want) };
        let policy = task.want.policy;
        task.child = self.start_child(context, ike, plan);
        if task.child.is_none() {
            let detail = "the policy is gone from the configuration".to_owned();
            self.out.event(KeyingEvent::WantFailed { policy, cause: Cause::UNEXPECTED, detail });
            return;
        }
        if let Some(sa) = self.sas.get_mut(&ike) {
            sa.current = Some(Task::CreateChild(task));
        }
    }

    /// A child SA of ours is installed both ways.
    pub(crate) fn child_made(&mut self, context: &mut Context<'_>, build: &ChildBuild) {
        let ike = build.ike;
        let ours = build.lowest_nonce();
        // The competing exchange counts only if its child SA came to be.
        let rival = build.competing.as_ref().filter(|rival| context.children.get(rival.child).is_some());
        //= rfc7296#2.8.1
        //# of two SAs from crossing exchanges the one with the lowest of the four nonces is closed by its creator
        let redundant = rival.is_some_and(|rival| ours < rival.lowest_nonce);
        if redundant {
            self.push_task_first(ike, Task::DeleteChild { child: build.id, cause: Cause::REPLACED });
        } else if let Some((old, _)) = build.replaces {
            self.child_replaced(context, old, build.id);
            //= rfc7296#2.8
            //# whoever began the surviving rekey deletes the old child SA
            self.push_task_first(ike, Task::DeleteChild { child: old, cause: Cause::REPLACED });
        }
        if build.in_auth { self.run_tasks(context, ike) } else { self.task_done(context, ike) }
    }

    /// A child SA failed for a reason of ours.
    pub(crate) fn child_task_failed(&mut self, context: &mut Context<'_>, build: &ChildBuild) {
        let current = self.sas.get(&build.ike).and_then(|sa| sa.current.as_ref()).and_then(Task::child);
        if current == Some(build.id) {
            if build.initiator
                && let Some((old, _)) = build.replaces
            {
                self.rekey_later(context, old);
            }
            self.task_done(context, build.ike);
        } else {
            self.run_tasks(context, build.ike);
        }
    }

    /// The peer refused a child SA that we asked for in CREATE_CHILD_SA.
    pub(crate) fn create_child_refused(&mut self, context: &mut Context<'_>, build: &ChildBuild, error: &Notify) {
        let ike = build.ike;
        let Some(task) = self.sas.get_mut(&ike).and_then(|sa| sa.current.take()) else { return };
        let rival_stands = build
            .competing
            .as_ref()
            .is_some_and(|rival| context.children.get(rival.child).is_some() || self.builds.contains_key(&rival.child));
        let attempts = match &task {
            Task::CreateChild(task) => task.attempts,
            Task::RekeyChild(task) => task.attempts,
            _ => 0,
        };
        match error.notify_type {
            // The peer's own exchange has made what we wanted.
            _ if rival_stands => {}
            NotifyType::INVALID_KE_PAYLOAD if attempts < MOST_ATTEMPTS => {
                let group = error.wanted_group().and_then(Group::from_transform);
                let offered = |group: &Group| build.offer.iter().any(|proposal| proposal.groups.contains(group));
                //= rfc7296#1.3
                //# the request is repeated with the group asked for, if it is one of those offered
                match group.filter(|group| Some(*group) != build.group && offered(group)) {
                    Some(group) => self.push_task_first(ike, again(task, Some(group))),
                    None => self.child_lost(context, build, error),
                }
            }
            NotifyType::TEMPORARY_FAILURE => {
                if self.temporarily_refused(context, ike) || attempts >= MOST_ATTEMPTS {
                    self.push_task_first(ike, again(task, None));
                    self.renew(context, ike, Cause::PEER_REFUSED);
                } else {
                    self.put_off(context, ike, again(task, build.group), attempts);
                }
            }
            NotifyType::CHILD_SA_NOT_FOUND => self.old_child_unknown(context, build),
            // In an IKE SA that was just made the next one would be told the same.
            _ if no_more_children(error) && self.has_stood(context, ike) => {
                self.push_task_first(ike, again(task, None));
                self.renew(context, ike, Cause::PEER_REFUSED);
            }
            _ => self.child_lost(context, build, error),
        }
        self.run_tasks(context, ike);
    }

    /// Whether an IKE SA is old enough that another one in its place is no haste.
    fn has_stood(&self, context: &Context<'_>, ike: IkeId) -> bool {
        let session = self.sas.get(&ike).and_then(|sa| sa.session());
        session.is_some_and(|session| context.now.boot.saturating_sub(session.established) >= RENEWAL_PAUSE)
    }

    /// The peer deleted the child SA before its answer arrived here.
    pub(crate) fn child_withdrawn(&mut self, context: &mut Context<'_>, child: ChildId) {
        let Some(build) = self.builds.get(&child) else { return };
        let (ike, policy) = (build.ike, build.policy);
        self.cancel_build(context, child);
        let detail = "the peer closed the child SA at once".to_owned();
        self.out.event(KeyingEvent::WantFailed { policy, cause: Cause::PEER_CLOSED, detail });
        self.task_done(context, ike);
    }

    /// The child SA that our unanswered request is about to make.
    pub(super) fn in_the_making(&mut self, ike: IkeId) -> Option<&mut ChildBuild> {
        let child = self.sas.get(&ike)?.current.as_ref()?.child()?;
        self.builds.get_mut(&child).filter(|build| matches!(build.step, Step::Sent | Step::Agree))
    }

    fn child_lost(&mut self, context: &mut Context<'_>, build: &ChildBuild, error: &Notify) {
        let detail = format!("the peer answered {error}");
        self.out.event(KeyingEvent::WantFailed { policy: build.policy, cause: cause_of(error), detail });
        if let Some((old, _)) = build.replaces {
            self.rekey_later(context, old);
        }
    }

    /// The peer asks for a new child SA.
    pub(super) fn new_child_requested(&mut self, context: &mut Context<'_>, ike: IkeId, payloads: Payloads<'_>) -> Result<(), Refusal> {
        self.may_touch_children(ike)?;
        if !self.home_is_decided(ike) && self.home_requested(context, ike, payloads)? {
            return Ok(());
        }
        let child = self.child_for_peer(context, ike, payloads, None)?;
        // Both ends may want the same policy at once: the nonces decide as for a rekey.
        let policy = self.builds.get(&child).map(|build| build.policy);
        let ours = self.sas.get(&ike).and_then(|sa| sa.current.as_ref()).filter(|task| task.policy().is_some() && task.policy() == policy);
        if let Some(ours) = ours.and_then(Task::child) {
            self.note_competition(ours, child);
        }
        Ok(())
    }

    /// Begins the child SA the peer asks for; its answer waits for it.
    pub(super) fn child_for_peer(
        &mut self,
        context: &mut Context<'_>,
        ike: IkeId,
        payloads: Payloads<'_>,
        replaces: Option<ChildId>,
    ) -> Result<ChildId, Refusal> {
        let ni = payloads.nonce().ok_or_else(|| Refusal::Syntax("CREATE_CHILD_SA without a nonce".to_owned()))?.to_vec();
        let nr = context.rng.octets(NONCE_LEN);
        let child = self.child_requested(context, ike, payloads, Asked { ni, nr, in_auth: false, replaces })?;
        if let Some(sa) = self.sas.get_mut(&ike) {
            sa.answer = Some(Answer::Child(child));
        }
        Ok(child)
    }

    /// Remembers that the peer's exchange crosses ours about the same thing.
    pub(super) fn note_competition(&mut self, ours: ChildId, theirs: ChildId) {
        let Some(lowest_nonce) = self.builds.get(&theirs).map(ChildBuild::lowest_nonce) else { return };
        if let Some(build) = self.builds.get_mut(&ours).filter(|build| build.step != Step::Prepare) {
            build.competing = Some(Competing { child: theirs, lowest_nonce });
        }
    }

    /// Whether the peer has begun the same while our request was being prepared.
    pub(crate) fn peer_was_first(&self, ours: ChildId) -> bool {
        let Some(build) = self.builds.get(&ours) else { return false };
        if let Some((old, _)) = build.replaces {
            return self.has_heir(old);
        }
        let answering = self.sas.get(&build.ike).and_then(|sa| match &sa.answer {
            Some(Answer::Child(child)) => self.builds.get(child),
            _ => None,
        });
        answering.is_some_and(|theirs| theirs.policy == build.policy && theirs.replaces.is_none())
    }

    /// Whether the peer may make or replace child SAs now.
    pub(super) fn may_touch_children(&self, ike: IkeId) -> Result<(), Refusal> {
        let sa = self.sas.get(&ike).ok_or(Refusal::Temporary("the IKE SA is gone"))?;
        if !sa.is_established() {
            return Err(Refusal::Temporary("this IKE SA was replaced or is being closed"));
        }
        match &sa.current {
            //= rfc7296#2.25.2
            //# while the IKE SA is being rekeyed, requests to create or rekey child SAs get TEMPORARY_FAILURE
            Some(Task::RekeyIke(task)) if task.sent => Err(Refusal::Temporary("this IKE SA is being rekeyed")),
            Some(Task::DeleteIke { .. }) => Err(Refusal::Temporary("this IKE SA is being closed")),
            _ => Ok(()),
        }
    }
}

/// The task for another try.
fn again(task: Task, group: Option<Group>) -> Task {
    match task {
        Task::CreateChild(task) => {
            Task::CreateChild(CreateChild { child: None, group, attempts: task.attempts.saturating_add(1), want: task.want })
        }
        Task::RekeyChild(task) => {
            Task::RekeyChild(RekeyChild { child: None, group, attempts: task.attempts.saturating_add(1), old: task.old })
        }
        other => other,
    }
}
