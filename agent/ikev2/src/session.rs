//! The life of an authenticated IKE SA beside its tasks: it stands, it crosses another one, its peer restarts or falls silent.
//! Invariant: children go only after their replacement stands, or when nobody can use them any more (make before break).

use std::collections::VecDeque;
use std::time::Duration;

use watari_policies::{PolicyId, RemoteId};
use watari_sa::{Cause, ChildId, Context, IkeId, KeyingEvent, Owner, Trigger, Want, lifetimes};

use crate::Ikev2;
use crate::child::lowest;
use crate::state::{IkeSa, Session, State};
use crate::task::Task;
use crate::timers::Timer;

/// How long a child SA that lost its owner waits for its replacement.
const ORPHAN_LIFE: Duration = Duration::from_secs(120);
/// How long the children of a redundant IKE SA have to find their place on the surviving one.
pub(crate) const REDUNDANT_LIFE: Duration = Duration::from_secs(3);
/// How many IKE SAs that stand one peer may have; more are none that it still knows.
pub(crate) const MOST_IKE_SAS: usize = 16;
/// A packet that asks for a child SA so soon after one was made was on its way before.
const SETTLING: Duration = Duration::from_secs(2);

impl Ikev2 {
    /// Both sides have proved who they are: the IKE SA stands.
    pub(crate) fn establish(&mut self, context: &mut Context<'_>, ike: IkeId) {
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        let (State::AwaitAuth(attempt), Some(remote)) = (&mut sa.state, sa.remote) else { return };
        let Some(config) = context.config.remote(remote) else { return self.remote_gone(context, ike) };
        let Some(identity) = attempt.identity.take() else { return };
        let schedule = lifetimes::schedule(&config.lifetime, context.now.boot, context.rng);
        let session = Session {
            crypt: attempt.crypt.clone(),
            remote,
            identity: identity.clone(),
            lowest_nonce: lowest(&attempt.ni, &attempt.nr),
            authenticated_here: true,
            established: context.now.boot,
            rekey_at: schedule.rekey_at,
            heard: context.now.boot,
            confirmed: true,
            predecessor: None,
        };
        sa.state = State::Established(Box::new(session));
        let (path, supersedes, outlived) = (sa.path, std::mem::take(&mut sa.supersedes), sa.onward.outlived);
        self.no_longer_half_open(ike);
        self.timers.clear(Timer::HalfOpen(ike));
        self.timers.set_or_clear(Timer::RekeyIke(ike), schedule.rekey_at);
        self.timers.set_or_clear(Timer::ExpireIke(ike), schedule.expires_at);
        self.timers.set_or_clear(Timer::Liveness(ike), config.liveness.map(|idle| context.now.boot.saturating_add(idle)));
        self.contacted.insert(remote);
        self.out.event(KeyingEvent::IkeUp { ike, remote, path, identity });
        for (old, polite) in supersedes {
            if polite {
                self.timers.set(Timer::CloseRedundant(old), context.now.boot.saturating_add(outlived));
            } else {
                self.abandon(context, old, Cause::PEER_RESTARTED);
            }
        }
        self.drop_others(context, ike);
        self.drop_surplus(context, ike, remote);
        self.settle_crossing(context, ike);
        let wants = self.sas.get_mut(&ike).map(|sa| std::mem::take(&mut sa.wants)).unwrap_or_default();
        for want in wants {
            self.push_task(ike, Task::create(want));
        }
        self.inherit_forgotten(context, ike);
        self.run_tasks(context, ike);
    }

    /// INITIAL_CONTACT was said: there is no other IKE SA between these two (RFC 7296 2.4).
    fn drop_others(&mut self, context: &mut Context<'_>, ike: IkeId) {
        let Some(sa) = self.sas.get(&ike).filter(|sa| sa.only_one) else { return };
        let (Some(remote), created, initiator) = (sa.remote, sa.created, sa.initiator) else { return };
        for other in self.ike_ids(remote) {
            //= rfc7296#2.4
            //# other IKE SAs with the same authenticated identity are dropped without a word; not one that was being made at the same time
            if other != ike && !self.crossed(other, created, initiator) {
                self.abandon(context, other, Cause::PEER_RESTARTED);
            }
        }
    }

    /// A peer that authenticates again and again loses its own oldest IKE SAs, so that what it costs here stays bounded.
    fn drop_surplus(&mut self, context: &mut Context<'_>, ike: IkeId, remote: RemoteId) {
        let stands = |other: &IkeId| *other != ike && self.sas.get(other).is_some_and(|sa| sa.session().is_some());
        let others: Vec<IkeId> = self.ike_ids(remote).into_iter().filter(stands).collect();
        let surplus = others.len().saturating_add(1).saturating_sub(MOST_IKE_SAS);
        for oldest in others.into_iter().take(surplus) {
            let detail = format!("the peer has more than {MOST_IKE_SAS} IKE SAs");
            self.end(context, oldest, Cause::REPLACED, detail);
        }
    }

    /// Whether another IKE SA with the same peer was being made by the other side while one that began at `created` was.
    pub(crate) fn crossed(&self, other: IkeId, created: Duration, began_by_us: bool) -> bool {
        let Some(sa) = self.sas.get(&other) else { return false };
        let opposite = sa.initiator != began_by_us;
        match &sa.state {
            State::AwaitInit(_) | State::Answering(_) | State::AwaitAuth(_) => opposite,
            State::Established(session) => opposite && session.authenticated_here && session.established >= created,
            _ => false,
        }
    }

    /// Both ends started an IKE SA at once (FACTS E 7): one is kept, the same at both ends.
    fn settle_crossing(&mut self, context: &mut Context<'_>, new: IkeId) {
        let Some((remote, created, initiator)) = self.sas.get(&new).and_then(|sa| Some((sa.remote?, sa.created, sa.initiator))) else {
            return;
        };
        for other in self.ike_ids(remote) {
            if other == new || !self.crossed(other, created, initiator) {
                continue;
            }
            let Some(sa) = self.sas.get(&other) else { continue };
            match &sa.state {
                // Ours was not even answered: the peer's serves as well.
                State::AwaitInit(attempt) if sa.initiator && attempt.answered.is_none() && sa.supersedes.is_empty() => {
                    let wants = self.unserved(context, other);
                    self.out.event(KeyingEvent::IkeDown {
                        ike: other,
                        remote: Some(remote),
                        cause: Cause::REPLACED,
                        detail: String::new(),
                    });
                    self.remove(context, other);
                    if let Some(sa) = self.sas.get_mut(&new) {
                        sa.wants.extend(wants);
                    }
                }
                State::Established(_) => self.close_lower(context, new, other),
                _ => {}
            }
        }
    }

    /// Of two IKE SAs from crossing handshakes the one with the lowest nonce is closed by its creator.
    fn close_lower(&mut self, context: &mut Context<'_>, one: IkeId, other: IkeId) {
        let nonce = |ike: &IkeId| self.sas.get(ike).and_then(|sa| sa.session()).map(|session| session.lowest_nonce.clone());
        let (Some(a), Some(b)) = (nonce(&one), nonce(&other)) else { return };
        let (redundant, survivor) = if a < b { (one, other) } else { (other, one) };
        if self.sas.get(&redundant).is_none_or(|sa| !sa.initiator) {
            return;
        }
        // Its children find their place on the surviving one first.
        let mut policies: Vec<PolicyId> = context.children.of_owner(Owner::Ike(redundant)).map(|sa| sa.policy).collect();
        let mut wants: VecDeque<Want> = self.take_wishes(redundant).into();
        policies.extend(self.negotiating(redundant));
        wants.extend(policies.into_iter().map(|policy| Want { policy, trigger: Trigger::Command }));
        for want in wants {
            let served = context.children.of_policy(want.policy).any(|sa| sa.owner == Owner::Ike(survivor));
            if !served && !self.negotiates(survivor, want.policy) {
                self.push_task(survivor, Task::create(want));
            }
        }
        self.timers.set(Timer::CloseRedundant(redundant), context.now.boot.saturating_add(REDUNDANT_LIFE));
        self.run_tasks(context, survivor);
    }

    /// A redundant IKE SA is closed, unless it serves and what was to replace it does not.
    pub(crate) fn close_redundant(&mut self, context: &mut Context<'_>, ike: IkeId) {
        if self.stays_after_all(context, ike) {
            return;
        }
        self.push_task_first(ike, Task::DeleteIke { cause: Cause::REPLACED });
        self.run_tasks(context, ike);
    }

    /// Makes a child SA for a policy, over an IKE SA that stands or a new one.
    pub(crate) fn want_child(&mut self, context: &mut Context<'_>, want: Want) {
        let Some(policy) = context.config.policy(want.policy) else { return };
        let remote = policy.remote;
        let ikes = self.ike_ids(remote);
        if ikes.iter().any(|ike| self.negotiates(*ike, want.policy)) || self.served_just_now(context, &want) {
            return;
        }
        // A peer that already calls for the same policy is served by that call.
        if ikes.iter().filter_map(|ike| self.sas.get(ike)).any(|sa| self.answering_policy(sa) == Some(want.policy)) {
            return;
        }
        let usable = |ike: &&IkeId| {
            self.timers.get(Timer::CloseRedundant(**ike)).is_none()
                && self.sas.get(ike).is_some_and(|sa| {
                    sa.is_established()
                        && !sa.onward.leaving
                        && !matches!(sa.current, Some(Task::DeleteIke { .. }))
                        && !sa.tasks.iter().any(|queued| matches!(queued.task, Task::DeleteIke { .. }))
                })
        };
        if let Some(ike) = ikes.iter().rev().find(usable).copied() {
            self.push_task(ike, Task::create(want));
            return self.run_tasks(context, ike);
        }
        let attempt = ikes.iter().rev().find(|ike| self.sas.get(ike).is_some_and(|sa| sa.is_attempt())).copied();
        if let Some(sa) = attempt.and_then(|ike| self.sas.get_mut(&ike)) {
            sa.wants.push_back(want);
            return;
        }
        // An operator who asks waits for nothing.
        let at_once = matches!(want.trigger, Trigger::Command);
        let want = if at_once { Some(want) } else { self.put_to_rest(context, remote, want) };
        if let Some(want) = want {
            self.start_ike(context, remote, VecDeque::from([want]), Vec::new());
        }
    }

    /// A packet's wish that was on its way when its child SA was made, or one of the configuration that is fulfilled already.
    fn served_just_now(&self, context: &Context<'_>, want: &Want) -> bool {
        let now = context.now.boot;
        let mut owned = context.children.of_policy(want.policy).filter(|sa| matches!(sa.owner, Owner::Ike(_)) && !self.drains(sa.id));
        match &want.trigger {
            Trigger::Acquire { packet, .. } => {
                let packet = watari_policies::Traffic::from_packet(packet);
                owned.any(|sa| now.saturating_sub(sa.created) < SETTLING && sa.traffic.intersect(&packet).is_some())
            }
            Trigger::Start => owned.next().is_some(),
            Trigger::Command | Trigger::Replace(_) => false,
        }
    }

    /// The policy of the child SA that the peer is asking for right now.
    fn answering_policy(&self, sa: &IkeSa) -> Option<PolicyId> {
        match &sa.answer {
            Some(crate::state::Answer::Child(child)) => self.builds.get(child).map(|build| build.policy),
            _ => None,
        }
    }

    /// Whether a wish for a policy is being served, or queued, in an IKE SA.
    pub(crate) fn negotiates(&self, ike: IkeId, policy: PolicyId) -> bool {
        self.negotiating(ike).contains(&policy)
    }

    /// Policies whose negotiation is under way or queued in an IKE SA.
    pub(crate) fn negotiating(&self, ike: IkeId) -> Vec<PolicyId> {
        let Some(sa) = self.sas.get(&ike) else { return Vec::new() };
        let first = match &sa.state {
            State::AwaitAuth(attempt) => attempt.child,
            _ => None,
        };
        let installing = sa.first_child.or(first).and_then(|child| self.builds.get(&child)).map(|build| build.policy);
        let mut policies: Vec<PolicyId> = sa.wants.iter().map(|want| want.policy).collect();
        policies.extend(installing);
        policies.extend(sa.current.iter().filter_map(Task::policy));
        policies.extend(sa.tasks.iter().filter_map(|queued| queued.task.policy()));
        policies.sort_unstable();
        policies.dedup();
        policies
    }

    /// Takes the wishes out of an IKE SA that are not being served yet.
    pub(crate) fn take_wishes(&mut self, ike: IkeId) -> Vec<Want> {
        let Some(sa) = self.sas.get_mut(&ike) else { return Vec::new() };
        let mut wants: Vec<Want> = std::mem::take(&mut sa.wants).into();
        let (creating, rest) = std::mem::take(&mut sa.tasks).into_iter().partition(|queued| queued.task.policy().is_some());
        sa.tasks = rest;
        let creating: VecDeque<crate::task::Queued> = creating;
        wants.extend(creating.into_iter().filter_map(|queued| match queued.task {
            Task::CreateChild(task) => Some(task.want),
            _ => None,
        }));
        wants
    }

    /// Takes every wish out of an IKE SA that ends, also the one being served.
    pub(crate) fn unserved(&mut self, context: &mut Context<'_>, ike: IkeId) -> Vec<Want> {
        let mut wants = self.take_wishes(ike);
        let current = self.sas.get_mut(&ike).filter(|sa| matches!(sa.current, Some(Task::CreateChild(_)))).and_then(|sa| sa.current.take());
        if let Some(Task::CreateChild(task)) = current {
            if let Some(child) = task.child {
                self.cancel_build(context, child);
            }
            wants.insert(0, task.want);
        }
        wants
    }

    /// The IKE SA being made to take the place of another.
    pub(crate) fn superseding(&self, old: IkeId) -> Option<IkeId> {
        let remote = self.sas.get(&old)?.remote?;
        let pending = |ike: &IkeId| self.sas.get(ike).is_some_and(|sa| sa.supersedes.iter().any(|(superseded, _)| *superseded == old));
        self.ike_ids(remote).into_iter().find(pending)
    }

    /// Starts another IKE SA beside this one; when it stands, this one goes. `Cause::PEER_RESTARTED` means that the peer has lost it.
    pub(crate) fn renew(&mut self, context: &mut Context<'_>, old: IkeId, cause: Cause) {
        let Some(remote) = self.sas.get(&old).and_then(|sa| sa.remote) else { return };
        if let Some(next) = self.superseding(old) {
            // What the old one was asked for since is served by the one under way.
            for want in self.take_wishes(old) {
                if let Some(sa) = self.sas.get_mut(&next).filter(|sa| !sa.wants.iter().any(|known| known.policy == want.policy)) {
                    sa.wants.push_back(want);
                }
            }
            return;
        }
        let wants = self.replacements(context, old, remote);
        self.start_ike(context, remote, wants, vec![(old, cause != Cause::PEER_RESTARTED)]);
    }

    /// Wishes for a replacement of every child of an IKE SA, and those it was not asked for yet.
    pub(crate) fn replacements(&mut self, context: &Context<'_>, old: IkeId, remote: RemoteId) -> VecDeque<Want> {
        let mut wants: VecDeque<Want> = VecDeque::new();
        // Children without owner are what an earlier loss left: they are as doubtful as those of this one.
        let orphans = context.children.of_owner(Owner::None).filter(|sa| sa.remote == remote);
        for sa in context.children.of_owner(Owner::Ike(old)).chain(orphans) {
            if !wants.iter().any(|want| want.policy == sa.policy) {
                wants.push_back(Want { policy: sa.policy, trigger: Trigger::Replace(sa.id) });
            }
        }
        for want in self.take_wishes(old) {
            if !wants.iter().any(|known| known.policy == want.policy) {
                wants.push_back(want);
            }
        }
        wants
    }

    /// Drops an IKE SA that the peer no longer has, without a word; its children serve until they are replaced.
    pub(crate) fn abandon(&mut self, context: &mut Context<'_>, ike: IkeId, cause: Cause) {
        let Some(sa) = self.sas.get(&ike) else { return };
        let (visible, remote) = (sa.visible_state().is_some() && !matches!(sa.state, State::Replaced(_)), sa.remote);
        let wants = self.unserved(context, ike);
        for child in self.orphan_children(context, ike) {
            self.timers.set(Timer::Orphan(child), context.now.boot.saturating_add(ORPHAN_LIFE));
        }
        if visible {
            self.out.event(KeyingEvent::IkeDown { ike, remote, cause, detail: String::new() });
        }
        self.remove(context, ike);
        for want in wants {
            self.want_child(context, want);
        }
    }

    /// Takes the owner from every child of an IKE SA.
    pub(crate) fn orphan_children(&mut self, context: &mut Context<'_>, ike: IkeId) -> Vec<ChildId> {
        let children: Vec<ChildId> = context.children.of_owner(Owner::Ike(ike)).map(|sa| sa.id).collect();
        let mut kept = Vec::new();
        for child in children {
            if self.serves_peer_already(child) {
                // The peer may send on it, or may never have heard of it: what it replaces is kept as well, and sent on.
                self.timers.clear(Timer::Switch(child));
                context.children.update(child, |sa| sa.owner = Owner::None);
                kept.push(child);
            } else if self.builds.contains_key(&child) {
                self.cancel_build(context, child);
            } else if self.drains(child) {
                self.remove_child(context, child, Cause::REPLACED);
            } else {
                context.children.update(child, |sa| sa.owner = Owner::None);
                kept.push(child);
            }
        }
        kept
    }

    /// The peer has not answered for so long that it is given up.
    pub(crate) fn peer_silent(&mut self, context: &mut Context<'_>, ike: IkeId) {
        let Some(sa) = self.sas.get(&ike) else { return };
        let config = sa.remote.and_then(|remote| context.config.remote(remote));
        let name = config.map_or_else(|| sa.path.remote.to_string(), |remote| format!("{} ({})", remote.name, sa.path.remote));
        let detail = format!("no answer from {name} to {} requests", sa.window.outstanding.as_ref().map_or(0, |request| request.sends));
        if sa.is_attempt() {
            //= rfc7296#2.21.1
            //# an unprotected error is no reason to give up, but when the time has come anyway the last one is the reason to tell
            let refusal = match &sa.state {
                State::AwaitInit(attempt) => attempt.refusal.as_ref().map(|refusal| (refusal.cause, refusal.detail.clone())),
                _ => None,
            };
            let (cause, detail) = refusal.unwrap_or((Cause::PEER_SILENT, detail));
            return self.attempt_failed(context, ike, cause, detail);
        }
        let mobile = config.is_some_and(|remote| remote.role.home_address().is_some());
        if let State::Replaced(_) | State::Closing(_) = sa.state {
            return self.end(context, ike, Cause::PEER_SILENT, detail);
        }
        if let Some(Task::DeleteIke { cause }) = sa.current {
            return self.end(context, ike, cause, detail);
        }
        let mut wants = self.unserved(context, ike);
        // RFC 7296 2.4: no DELETE is sent to a peer that does not answer.
        if mobile {
            for sa in context.children.of_owner(Owner::Ike(ike)) {
                if !wants.iter().any(|want| want.policy == sa.policy) {
                    wants.push(Want { policy: sa.policy, trigger: Trigger::Replace(sa.id) });
                }
            }
            for child in self.orphan_children(context, ike) {
                self.timers.set(Timer::Orphan(child), context.now.boot.saturating_add(ORPHAN_LIFE));
            }
        }
        self.end(context, ike, Cause::PEER_SILENT, detail);
        for want in wants {
            self.want_child(context, want);
        }
    }

    /// An IKE SA has reached its age.
    pub(crate) fn ike_expired(&mut self, context: &mut Context<'_>, ike: IkeId) {
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        if !sa.is_established() {
            // One that was replaced and that the peer never deleted.
            return self.end(context, ike, Cause::REPLACED, String::new());
        }
        if let Some(current) = sa.current.take() {
            if let Some(child) = current.child() {
                self.cancel_build(context, child);
            }
            self.forget_request(ike);
        }
        self.push_task_first(ike, Task::DeleteIke { cause: Cause::EXPIRED });
        self.run_tasks(context, ike);
    }
}
