//! What happens inside an established IKE SA: tasks, queued against the message-id window of 1 (DESIGN section 5).
//! Each has a build (start), a finish (the peer's response) and, where the peer may ask the same, a respond.
//! Invariant: one task of ours at a time; what must wait waits in the queue with its time.

mod create_child;
mod delete;
mod liveness;
mod rekey_child;
mod rekey_ike;

use std::time::Duration;

use watari_kernel::Spi;
use watari_policies::algorithm::Group;
use watari_policies::{Gateway, PolicyId, Protocol};
use watari_sa::{Cause, ChildId, Context, IkeId, Want};
use watari_wire::ikev2::{ExchangeType, NotifyType, Payload};

pub(crate) use rekey_ike::{RekeyAnswer, RekeyIke};

use crate::Ikev2;
use crate::payloads::Payloads;
use crate::state::{Answer, State};
use crate::timers::Timer;

/// How long a peer may answer TEMPORARY_FAILURE before the IKE SA is given up (RFC 7296 2.25: several minutes).
const PATIENCE: Duration = Duration::from_secs(240);
/// Shortest wait after TEMPORARY_FAILURE; jitter of as much again comes on top.
const RETRY: Duration = Duration::from_secs(2);
/// The message id, of either side, at which an IKE SA is replaced before its ids are used up.
const IDS_RUN_OUT: u32 = u32::MAX - 1024;
/// The last message id that a request of ours may have: the next one could not be followed by another.
pub(crate) const LAST_ID: u32 = u32::MAX - 1;
/// How often a task is tried again for the same reason.
pub(crate) const MOST_ATTEMPTS: u8 = 8;

/// A task of ours.
#[derive(Debug)]
pub(crate) enum Task {
    /// Make a child SA for a policy.
    CreateChild(CreateChild),
    /// Replace a child SA.
    RekeyChild(RekeyChild),
    /// Replace the IKE SA.
    RekeyIke(Box<RekeyIke>),
    /// Close a child SA.
    DeleteChild {
        /// Which.
        child: ChildId,
        /// Why.
        cause: Cause,
    },
    /// Make the peer forget a child SA that we could not install.
    DeleteSpi {
        /// Protocol.
        protocol: Protocol,
        /// Our inbound SPI.
        spi: Spi,
    },
    /// Close the IKE SA.
    DeleteIke {
        /// Why.
        cause: Cause,
    },
    /// See whether the peer answers.
    Liveness,
    /// Send the peer on to another gateway.
    Redirect {
        /// Where to.
        to: Gateway,
    },
}

/// Making a child SA for a policy.
#[derive(Debug)]
pub(crate) struct CreateChild {
    /// The wish.
    pub(crate) want: Want,
    /// The child SA, once begun.
    pub(crate) child: Option<ChildId>,
    /// The group the peer asked for.
    pub(crate) group: Option<Group>,
    /// How often it was tried again.
    pub(crate) attempts: u8,
}

/// Replacing a child SA.
#[derive(Debug)]
pub(crate) struct RekeyChild {
    /// The child SA to be replaced.
    pub(crate) old: ChildId,
    /// The successor, once begun.
    pub(crate) child: Option<ChildId>,
    /// The group the peer asked for.
    pub(crate) group: Option<Group>,
    /// How often it was tried again.
    pub(crate) attempts: u8,
}

impl Task {
    /// Making a child SA for a wish.
    pub(crate) const fn create(want: Want) -> Self {
        Self::CreateChild(CreateChild { want, child: None, group: None, attempts: 0 })
    }

    /// Replacing a child SA.
    pub(crate) const fn rekey(old: ChildId) -> Self {
        Self::RekeyChild(RekeyChild { old, child: None, group: None, attempts: 0 })
    }

    /// Its name in a status.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::CreateChild(_) => "create child",
            Self::RekeyChild(_) => "rekey child",
            Self::RekeyIke(_) => "rekey IKE SA",
            Self::DeleteChild { .. } | Self::DeleteSpi { .. } => "delete child",
            Self::DeleteIke { .. } => "delete IKE SA",
            Self::Liveness => "liveness",
            Self::Redirect { .. } => "redirect",
        }
    }

    /// The child SA it is making.
    pub(crate) const fn child(&self) -> Option<ChildId> {
        match self {
            Self::CreateChild(task) => task.child,
            Self::RekeyChild(task) => task.child,
            _ => None,
        }
    }

    /// The policy it makes a new child SA for.
    pub(crate) const fn policy(&self) -> Option<PolicyId> {
        match self {
            Self::CreateChild(task) => Some(task.want.policy),
            _ => None,
        }
    }

    /// Whether it is about child SAs, so that the IKE SA cannot be replaced meanwhile (RFC 7296 2.25.1).
    pub(crate) const fn about_children(&self) -> bool {
        matches!(self, Self::CreateChild(_) | Self::RekeyChild(_) | Self::DeleteChild { .. } | Self::DeleteSpi { .. })
    }

    /// Whether an IKE SA that was replaced may still do it.
    const fn suits_replaced(&self) -> bool {
        matches!(self, Self::DeleteIke { .. })
    }
}

/// A task in the queue.
#[derive(Debug)]
pub(crate) struct Queued {
    /// Not before this boot time.
    pub(crate) not_before: Duration,
    /// The task.
    pub(crate) task: Task,
}

impl Ikev2 {
    /// Queues a task behind the others.
    pub(crate) fn push_task(&mut self, ike: IkeId, task: Task) {
        if let Some(sa) = self.sas.get_mut(&ike) {
            sa.tasks.push_back(Queued { not_before: Duration::ZERO, task });
        }
    }

    /// Queues a task before the others.
    pub(crate) fn push_task_first(&mut self, ike: IkeId, task: Task) {
        if let Some(sa) = self.sas.get_mut(&ike) {
            sa.tasks.push_front(Queued { not_before: Duration::ZERO, task });
        }
    }

    /// Queues a task for later, with jitter.
    pub(crate) fn put_off(&mut self, context: &mut Context<'_>, ike: IkeId, task: Task, attempts: u8) {
        //= rfc7296#2.25
        //# TEMPORARY_FAILURE is not followed by an immediate retry
        let base = RETRY.saturating_mul(1u32.checked_shl(u32::from(attempts.min(4))).unwrap_or(16));
        let delay = base.saturating_add(context.rng.up_to(base));
        if let Some(sa) = self.sas.get_mut(&ike) {
            sa.tasks.push_back(Queued { not_before: context.now.boot.saturating_add(delay), task });
        }
    }

    /// Starts the next task if nothing is under way.
    pub(crate) fn run_tasks(&mut self, context: &mut Context<'_>, ike: IkeId) {
        loop {
            let Some(sa) = self.sas.get_mut(&ike) else { return };
            let replaced = match sa.state {
                State::Established(_) => false,
                State::Replaced(_) => true,
                _ => return,
            };
            // While the peer replaces the IKE SA everything waits for the new one (FACTS E 6).
            if sa.window.outstanding.as_ref().is_some_and(|request| request.rests) {
                self.wake(context, ike);
                return;
            }
            if sa.current.is_some() || sa.window.outstanding.is_some() || matches!(sa.answer, Some(Answer::RekeyIke(_))) {
                return;
            }
            if !replaced && self.ids_are_few(ike) && self.ids_run_out(context, ike) {
                return;
            }
            let Some(sa) = self.sas.get_mut(&ike) else { return };
            let now = context.now.boot;
            let ready = sa.tasks.iter().position(|queued| queued.not_before <= now && (!replaced || queued.task.suits_replaced()));
            let Some(task) = ready.and_then(|index| sa.tasks.remove(index)) else {
                let next = sa.tasks.iter().map(|queued| queued.not_before).filter(|at| *at > now).min();
                self.timers.set_or_clear(Timer::Tasks(ike), next);
                return;
            };
            self.start_task(context, ike, task.task);
        }
    }

    /// Whether one side of an IKE SA has few message ids left.
    fn ids_are_few(&self, ike: IkeId) -> bool {
        self.sas.get(&ike).is_some_and(|sa| sa.window.next_request.max(sa.window.expected) >= IDS_RUN_OUT)
    }

    /// The message ids of an IKE SA run out: it is replaced while it still can be. True if nothing more may be asked in it.
    fn ids_run_out(&mut self, context: &mut Context<'_>, ike: IkeId) -> bool {
        let Some(sa) = self.sas.get(&ike) else { return true };
        let next = sa.window.next_request;
        let closes = sa.tasks.iter().any(|queued| matches!(queued.task, Task::DeleteIke { .. }));
        let replacing = sa.tasks.iter().any(|queued| matches!(queued.task, Task::RekeyIke(_)));
        //= rfc7296#2.2
        //# the IKE SA is closed or rekeyed before a message id would have to be used a second time
        if next > LAST_ID {
            self.end(context, ike, Cause::EXPIRED, "its message ids are used up".to_owned());
            return true;
        }
        if next == LAST_ID && !closes {
            // Not even a rekey came through: another IKE SA takes its place, and the last id is kept to close this one.
            self.renew(context, ike, Cause::EXPIRED);
            return true;
        }
        if !closes && !replacing && self.superseding(ike).is_none() {
            self.push_task_first(ike, Task::RekeyIke(Box::<RekeyIke>::default()));
        }
        false
    }

    fn start_task(&mut self, context: &mut Context<'_>, ike: IkeId, task: Task) {
        match task {
            Task::CreateChild(task) => self.start_create_child(context, ike, task),
            Task::RekeyChild(task) => self.start_rekey_child(context, ike, task),
            Task::RekeyIke(task) => self.start_rekey_ike(context, ike, task),
            Task::DeleteChild { child, cause } => self.start_delete_child(context, ike, child, cause),
            Task::DeleteSpi { protocol, spi } => self.start_delete_spi(context, ike, protocol, spi),
            Task::DeleteIke { cause } => self.start_delete_ike(context, ike, cause),
            Task::Liveness => self.start_liveness(context, ike),
            Task::Redirect { to } => self.start_redirect(context, ike, to),
        }
    }

    /// The current task is over: the next one starts.
    pub(crate) fn task_done(&mut self, context: &mut Context<'_>, ike: IkeId) {
        if let Some(sa) = self.sas.get_mut(&ike) {
            sa.current = None;
        }
        self.run_tasks(context, ike);
    }

    /// The peer answered our request.
    pub(crate) fn task_answered(&mut self, context: &mut Context<'_>, ike: IkeId, received: &[Payload]) {
        let payloads = Payloads(received);
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        if payloads.notify(NotifyType::TEMPORARY_FAILURE).is_none() {
            sa.refused_since = None;
        }
        match &sa.current {
            Some(Task::CreateChild(_) | Task::RekeyChild(_)) => {
                let Some(child) = sa.current.as_ref().and_then(Task::child) else { return };
                let nonce = payloads.nonce().unwrap_or_default().to_vec();
                self.child_answered(context, child, payloads, &nonce);
            }
            Some(Task::RekeyIke(_)) => self.rekey_ike_answered(context, ike, payloads),
            Some(Task::DeleteChild { child, cause }) => {
                let (child, cause) = (*child, *cause);
                self.finish_child(context, child, cause);
                self.task_done(context, ike);
            }
            Some(Task::DeleteIke { .. }) => self.delete_ike_answered(context, ike),
            Some(Task::Liveness | Task::DeleteSpi { .. } | Task::Redirect { .. }) => self.task_done(context, ike),
            // The end of an IKE SA whose peer was not who it claimed to be.
            None if matches!(sa.state, State::Closing(_)) => self.remove(context, ike),
            None => self.run_tasks(context, ike),
        }
    }

    /// The peer asks for something in CREATE_CHILD_SA.
    pub(crate) fn create_child_requested(&mut self, context: &mut Context<'_>, ike: IkeId, received: &[Payload]) {
        let payloads = Payloads(received);
        let asks_for_ike = payloads.proposals().and_then(|proposals| proposals.first()).is_some_and(|first| first.protocol.0 == 1);
        let rekey = payloads.notify(NotifyType::REKEY_SA);
        let verdict = match (asks_for_ike, rekey) {
            (true, _) => self.rekey_ike_requested(context, ike, payloads),
            (false, Some(rekey)) => self.rekey_child_requested(context, ike, payloads, rekey),
            (false, None) => self.new_child_requested(context, ike, payloads),
        };
        if let Err(refusal) = verdict {
            if refusal.worth_telling()
                && let Some(path) = self.sas.get(&ike).map(|sa| sa.path)
            {
                self.drop_message(path, refusal.cause(), refusal.detail());
            }
            let (mut told, _) = self.home_told(ike);
            told.push(refusal.notify());
            self.answer(context, ike, &told);
        }
    }

    /// The peer answered TEMPORARY_FAILURE; true if it has done so for too long.
    pub(crate) fn temporarily_refused(&mut self, context: &Context<'_>, ike: IkeId) -> bool {
        let Some(sa) = self.sas.get_mut(&ike) else { return false };
        let since = *sa.refused_since.get_or_insert(context.now.boot);
        //= rfc7296#2.25
        //# TEMPORARY_FAILURE over several minutes means that the two sides are out of step: the IKE SA is closed
        context.now.boot.saturating_sub(since) > PATIENCE
    }

    /// Sends an INFORMATIONAL request.
    pub(crate) fn inform(&mut self, context: &mut Context<'_>, ike: IkeId, payloads: &[Payload]) {
        self.send_request(context, ike, ExchangeType::INFORMATIONAL, payloads);
    }
}
