//! Task: replacing the IKE SA; its children are inherited (RFC 7296 1.3.2, 2.8, 2.8.2, 2.18, 2.25.2).
//! Invariant: every child SA belongs to exactly one IKE SA that stands, whichever of two crossing rekeys survives.

use std::collections::VecDeque;

use watari_crypto::{IkeInputs, IkeKeys, KePrivate};
use watari_policies::Secret;
use watari_policies::algorithm::{Group, IkeSuite};
use watari_sa::{Cause, ChildId, Context, IkeId, KeyingEvent, Owner, Work, WorkDone, lifetimes, negotiate};
use watari_wire::ikev2::{ExchangeType, Notify, NotifyType, Payload, ProtocolId};

use super::{MOST_ATTEMPTS, Task};
use crate::child::lowest;
use crate::init::{NONCE_LEN, nonce_fits};
use crate::install::no_more_children;
use crate::outbox::WorkFor;
use crate::payloads::Payloads;
use crate::refusal::Refusal;
use crate::session::MOST_IKE_SAS;
use crate::sk::Crypt;
use crate::state::{Answer, IkeSa, Session, State};
use crate::timers::Timer;
use crate::{Ikev2, LINGER, proposals};

/// Replacing the IKE SA, as initiator.
#[derive(Debug, Default)]
pub(crate) struct RekeyIke {
    /// Our SPI of the new IKE SA.
    spi: u64,
    /// Our nonce.
    ni: Vec<u8>,
    /// Group of our public value.
    group: Option<Group>,
    /// Our key pair.
    key: Option<(KePrivate, Vec<u8>)>,
    /// Whether the request is on its way.
    pub(crate) sent: bool,
    /// The peer's answer, while the shared secret is being computed: algorithms, SPI, nonce.
    answered: Option<(IkeSuite, u64, Vec<u8>)>,
    /// The IKE SA made by the peer's crossing rekey.
    pub(crate) competing: Option<IkeId>,
    /// How often it was tried again.
    attempts: u8,
}

/// Replacing the IKE SA, as responder, while the key exchange is being computed.
#[derive(Debug)]
pub(crate) struct RekeyAnswer {
    number: u8,
    suite: IkeSuite,
    spi_i: u64,
    ni: Vec<u8>,
}

impl Ikev2 {
    pub(super) fn start_rekey_ike(&mut self, context: &mut Context<'_>, ike: IkeId, mut task: Box<RekeyIke>) {
        task.spi = self.fresh_spi(context);
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        let Some(config) = sa.remote.and_then(|remote| context.config.remote(remote)) else { return };
        let first = config.proposals.iter().find_map(|proposal| proposal.groups.first().copied());
        let Some(group) = task.group.or(first) else { return };
        task.ni = context.rng.octets(NONCE_LEN);
        task.group = Some(group);
        sa.current = Some(Task::RekeyIke(task));
        let seed = context.rng.secret(64);
        self.out.work(context, Work::GenerateKey { group, seed }, WorkFor::RekeyKey(ike));
    }

    fn rekey_task(&mut self, ike: IkeId) -> Option<&mut RekeyIke> {
        match &mut self.sas.get_mut(&ike)?.current {
            Some(Task::RekeyIke(task)) => Some(task),
            _ => None,
        }
    }

    /// Our key pair was made: the request leaves.
    pub(crate) fn rekey_key_made(&mut self, context: &mut Context<'_>, ike: IkeId, done: WorkDone) {
        let Some(task) = self.rekey_task(ike).filter(|task| !task.sent) else { return };
        let WorkDone::Key { private, public } = done else { return self.task_done(context, ike) };
        let group = private.group();
        let (spi, ni) = (task.spi.to_be_bytes(), task.ni.clone());
        let value = public.clone();
        task.key = Some((private, public));
        task.sent = true;
        let config = self.sas.get(&ike).and_then(|sa| sa.remote).and_then(|remote| context.config.remote(remote));
        // A remote that is gone from the configuration has nothing to propose.
        let Some(config) = config else { return self.rekey_ike_over(context, ike) };
        //= rfc7296#1.3.2
        //# SA with the new SPI, nonce and key exchange
        let payloads = [
            Payload::SecurityAssociation(proposals::offer_ike(&config.proposals, &spi)),
            Payload::Nonce(ni),
            Payload::KeyExchange { group: group.transform_id(), data: value },
        ];
        self.send_request(context, ike, ExchangeType::CREATE_CHILD_SA, &payloads);
    }

    /// The peer answered our request.
    pub(super) fn rekey_ike_answered(&mut self, context: &mut Context<'_>, ike: IkeId, payloads: Payloads<'_>) {
        if let Some(error) = payloads.error() {
            return self.rekey_ike_refused(context, ike, error);
        }
        let config = self.sas.get(&ike).and_then(|sa| sa.remote).and_then(|remote| context.config.remote(remote));
        let Some((config, task)) = config.zip(self.rekey_task(ike)) else { return self.rekey_ike_over(context, ike) };
        let accepted = || {
            let (suite, spi) = proposals::chosen_ike(&config.proposals, payloads.proposals()?, 8)?;
            let spi_r = u64::from_be_bytes(spi.try_into().ok()?);
            let (group, value) = payloads.key_exchange()?;
            let nonce = payloads.nonce()?;
            let fits = spi_r != 0
                && group == suite.group.transform_id()
                && Some(suite.group) == task.group
                && value.len() == suite.group.public_len()
                && nonce_fits(nonce, suite.prf.output_len())
                && context.provider.supports(&suite);
            fits.then(|| (suite, spi_r, nonce.to_vec(), value.to_vec()))
        };
        let Some((suite, spi_r, nr, value)) = accepted() else {
            let path = self.sas.get(&ike).map(|sa| sa.path);
            if let Some(path) = path {
                self.drop_message(path, Cause::UNEXPECTED, "an answer to the rekey of the IKE SA that does not fit our offer".to_owned());
            }
            return self.rekey_ike_over(context, ike);
        };
        task.answered = Some((suite, spi_r, nr));
        let Some((private, _)) = task.key.clone() else { return };
        self.out.work(context, Work::Agree { group: suite.group, private, peer: value }, WorkFor::RekeyShared(ike));
    }

    fn rekey_ike_refused(&mut self, context: &mut Context<'_>, ike: IkeId, error: &Notify) {
        let config = self.sas.get(&ike).and_then(|sa| sa.remote).and_then(|remote| context.config.remote(remote));
        let Some((config, task)) = config.zip(self.rekey_task(ike)) else { return self.rekey_ike_over(context, ike) };
        let (attempts, used) = (task.attempts, task.group);
        if task.competing.is_some() || attempts >= MOST_ATTEMPTS {
            return self.rekey_ike_over(context, ike);
        }
        let again = |group| Task::RekeyIke(Box::new(RekeyIke { group, attempts: attempts.saturating_add(1), ..RekeyIke::default() }));
        let group = error.wanted_group().and_then(Group::from_transform);
        let offered = |group: &Group| Some(*group) != used && config.proposals.iter().any(|proposal| proposal.groups.contains(group));
        match error.notify_type {
            NotifyType::INVALID_KE_PAYLOAD if group.as_ref().is_some_and(offered) => self.push_task_first(ike, again(group)),
            NotifyType::TEMPORARY_FAILURE if self.temporarily_refused(context, ike) => self.renew(context, ike, Cause::PEER_REFUSED),
            NotifyType::TEMPORARY_FAILURE => self.put_off(context, ike, again(used), attempts),
            _ if no_more_children(error) || self.ids_are_few(ike) => self.renew(context, ike, Cause::PEER_REFUSED),
            _ => {
                if let Some(path) = self.sas.get(&ike).map(|sa| sa.path) {
                    self.drop_message(path, Cause::PEER_REFUSED, format!("the peer answered {error} to the rekey of the IKE SA"));
                }
                self.rekey_ike_later(context, ike);
            }
        }
        self.task_done(context, ike);
    }

    /// Our rekey came to nothing: the peer's, if there is one, has done the work.
    fn rekey_ike_over(&mut self, context: &mut Context<'_>, ike: IkeId) {
        let rival = self.rekey_task(ike).and_then(|task| task.competing);
        match rival.filter(|rival| self.sas.contains_key(rival)) {
            Some(rival) => {
                if let Some(sa) = self.sas.get_mut(&ike) {
                    sa.current = None;
                }
                self.retire(context, ike, rival);
            }
            None => self.rekey_ike_later(context, ike),
        }
        self.task_done(context, ike);
    }

    fn rekey_ike_later(&mut self, context: &mut Context<'_>, ike: IkeId) {
        let end = self.timers.get(Timer::ExpireIke(ike));
        let Some(half) = end.map(|end| end.saturating_sub(context.now.boot) / 2).filter(|half| half.as_secs() >= 5) else { return };
        self.timers.set(Timer::RekeyIke(ike), context.now.boot.saturating_add(half));
    }

    /// The shared secret of our rekey is known: the new IKE SA stands.
    pub(crate) fn rekey_shared(&mut self, context: &mut Context<'_>, ike: IkeId, done: WorkDone) {
        let Some(task) = self.rekey_task(ike) else { return };
        let Some((suite, spi_r, nr)) = task.answered.take() else { return };
        let (spi_i, ni, rival) = (task.spi, std::mem::take(&mut task.ni), task.competing);
        let WorkDone::Shared(shared) = done else { return self.rekey_ike_over(context, ike) };
        let made = NewKeys { suite, shared: &shared, ni: &ni, nr: &nr, spi_i, spi_r, initiator: true };
        let Some(new) = self.successor(context, ike, &made) else { return self.rekey_ike_over(context, ike) };
        if let Some(sa) = self.sas.get_mut(&ike) {
            sa.current = None;
        }
        let ours = lowest(&ni, &nr);
        let theirs = rival.and_then(|rival| self.sas.get(&rival)).filter(|sa| sa.is_established());
        let theirs = theirs.and_then(|sa| sa.session()).map(|session| session.lowest_nonce.clone());
        //= rfc7296#2.8.2
        //# the new IKE SA with the lowest of the four nonces is deleted by its creator, the other inherits the children
        // A rival that has been rekeyed in its turn has shown that the peer chose it.
        match rival.filter(|_| theirs.as_ref().is_none_or(|theirs| ours < *theirs)) {
            Some(rival) => {
                if let Some(sa) = self.sas.get_mut(&new) {
                    sa.state.replace();
                }
                self.retire(context, ike, rival);
                self.push_task_first(new, Task::DeleteIke { cause: Cause::REPLACED });
                self.run_tasks(context, new);
            }
            None => {
                if let Some(rival) = rival {
                    self.succeed(context, rival, new, false);
                }
                self.succeed(context, ike, new, true);
                //= rfc7296#2.8
                //# whoever began the surviving rekey deletes the old IKE SA
                self.push_task_first(ike, Task::DeleteIke { cause: Cause::REPLACED });
                self.run_tasks(context, ike);
                self.run_tasks(context, new);
            }
        }
    }

    /// The peer asks to replace the IKE SA.
    pub(super) fn rekey_ike_requested(&mut self, context: &mut Context<'_>, ike: IkeId, payloads: Payloads<'_>) -> Result<(), Refusal> {
        let sa = self.sas.get(&ike).ok_or(Refusal::Temporary("the IKE SA is gone"))?;
        //= rfc7296#2.8.2
        //# a request to rekey an IKE SA that was rekeyed already, or is being closed, gets TEMPORARY_FAILURE
        if !sa.is_established() || matches!(sa.current, Some(Task::DeleteIke { .. })) {
            return Err(Refusal::Temporary("this IKE SA was replaced or is being closed"));
        }
        //= rfc7296#2.25.1
        //# so does one that arrives while a child SA is being created, rekeyed or closed
        if sa.current.as_ref().is_some_and(Task::about_children) {
            return Err(Refusal::Temporary("a child SA is being made or closed"));
        }
        if matches!(&sa.current, Some(Task::RekeyIke(task)) if task.competing.is_some()) {
            return Err(Refusal::Temporary("this IKE SA is being replaced"));
        }
        // Old ones that the peer does not delete go by themselves; faster than that it gets no new ones.
        if sa.remote.is_some_and(|remote| self.ike_ids(remote).len() >= MOST_IKE_SAS.saturating_mul(2)) {
            return Err(Refusal::Temporary("this peer has too many IKE SAs"));
        }
        let lacks = |what: &str| Refusal::Syntax(format!("a rekey of the IKE SA without {what}"));
        let offer = payloads.proposals().ok_or_else(|| lacks("SA"))?;
        let (group, value) = payloads.key_exchange().ok_or_else(|| lacks("KE"))?;
        let ni = payloads.nonce().ok_or_else(|| lacks("nonce"))?;
        let config = sa.remote.and_then(|remote| context.config.remote(remote)).ok_or(Refusal::NoRemote)?;
        let offered = proposals::offered(offer, ProtocolId::IKE, 8);
        let (number, suite) = negotiate::choose_ike(&config.proposals, &offered, Group::from_transform(group)).map_err(Refusal::Suites)?;
        if suite.group.transform_id() != group {
            return Err(Refusal::Group(suite.group));
        }
        let spi_i = proposals::ike_spi(offer, number).ok_or_else(|| lacks("an SPI"))?;
        if !nonce_fits(ni, suite.prf.output_len()) || value.len() != suite.group.public_len() {
            return Err(Refusal::Syntax("nonce or public value of a wrong length".to_owned()));
        }
        let (answer, peer) = (RekeyAnswer { number, suite, spi_i, ni: ni.to_vec() }, value.to_vec());
        if let Some(sa) = self.sas.get_mut(&ike) {
            sa.answer = Some(Answer::RekeyIke(Box::new(answer)));
        }
        let seed = context.rng.secret(64);
        self.out.work(context, Work::GenerateAndAgree { group: suite.group, seed, peer }, WorkFor::RekeyAnswer(ike));
        Ok(())
    }

    /// Key pair and shared secret of the peer's rekey are there: the new IKE SA stands and the response leaves.
    pub(crate) fn rekey_answer_ready(&mut self, context: &mut Context<'_>, ike: IkeId, done: WorkDone) {
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        let Some(Answer::RekeyIke(answer)) = sa.answer.take() else { return };
        let refuse = |endpoint: &mut Self, context: &mut Context<'_>, refusal: Refusal| {
            endpoint.answer(context, ike, &[refusal.notify()]);
            endpoint.run_tasks(context, ike);
        };
        let (public, shared) = match done {
            WorkDone::KeyAndShared { public, shared } => (public, shared),
            WorkDone::Failed { why, .. } => return refuse(self, context, Refusal::Crypto(why)),
            _ => return,
        };
        if !sa.is_established() || sa.current.as_ref().is_some_and(Task::about_children) {
            return refuse(self, context, Refusal::Temporary("this IKE SA was replaced meanwhile"));
        }
        let nr = context.rng.octets(NONCE_LEN);
        let RekeyAnswer { number, suite, spi_i, ni } = *answer;
        let spi_r = self.fresh_spi(context);
        let made = NewKeys { suite, shared: &shared, ni: &ni, nr: &nr, spi_i, spi_r, initiator: false };
        // The new SPI is known here before the peer can use it (FACTS E 5).
        let Some(new) = self.successor(context, ike, &made) else {
            return refuse(self, context, Refusal::Crypto("no keys for the new IKE SA".to_owned()));
        };
        let payloads = [
            Payload::SecurityAssociation(proposals::answer_ike(number, &suite, &spi_r.to_be_bytes())),
            Payload::Nonce(nr),
            Payload::KeyExchange { group: suite.group.transform_id(), data: public },
        ];
        self.answer(context, ike, &payloads);
        let crossing = match self.rekey_task(ike) {
            Some(task) if task.sent => {
                task.competing = Some(new);
                true
            }
            _ => false,
        };
        if crossing {
            // Which one survives is not known yet; the children go along so that the new one can serve them at once.
            self.inherit(context, ike, new);
            if let Some(session) = self.sas.get_mut(&new).and_then(|sa| sa.session_mut()) {
                session.predecessor = Some(ike);
            }
            return;
        }
        if let Some(sa) = self.sas.get_mut(&ike)
            && matches!(sa.current, Some(Task::RekeyIke(_)))
        {
            sa.current = None;
        }
        self.retire(context, ike, new);
        self.run_tasks(context, new);
    }

    /// The old IKE SA is over, `new` made by the peer has taken its place; the peer deletes the old one.
    fn retire(&mut self, context: &mut Context<'_>, old: IkeId, new: IkeId) {
        // The new one may have been replaced in its turn.
        let standing = |ike: &IkeId| *ike != old && self.sas.get(ike).is_some_and(|sa| sa.is_established());
        let remote = self.sas.get(&old).and_then(|sa| sa.remote);
        let latest = remote.and_then(|remote| self.ike_ids(remote).into_iter().rev().find(standing));
        let new = if standing(&new) { new } else { latest.unwrap_or(new) };
        if let Some(session) = self.sas.get_mut(&new).and_then(|sa| sa.session_mut()) {
            session.predecessor = None;
        }
        self.succeed(context, old, new, true);
        self.run_tasks(context, new);
    }

    /// Hands children, wishes and tasks of `old` to `new` and leaves `old` to be deleted.
    fn succeed(&mut self, context: &mut Context<'_>, old: IkeId, new: IkeId, tell: bool) {
        self.inherit(context, old, new);
        let Some(sa) = self.sas.get_mut(&old) else { return };
        let wants = std::mem::take(&mut sa.wants);
        let tasks: VecDeque<_> =
            std::mem::take(&mut sa.tasks).into_iter().filter(|queued| !matches!(queued.task, Task::RekeyIke(_))).collect();
        let (moved, supersedes) = (sa.moved, std::mem::take(&mut sa.supersedes));
        let (leaving, peer) = (sa.onward.leaving, sa.path.remote.ip());
        sa.state.replace();
        self.supersede_instead(old, new);
        // A redundant IKE SA stays redundant under its new keys.
        if let Some(at) = self.timers.get(Timer::CloseRedundant(old)) {
            self.timers.set(Timer::CloseRedundant(new), at);
        }
        for timer in [Timer::RekeyIke(old), Timer::Liveness(old), Timer::Tasks(old), Timer::CloseRedundant(old)] {
            self.timers.clear(timer);
        }
        // Should the peer never delete it, it goes by itself.
        self.timers.set(Timer::ExpireIke(old), context.now.boot.saturating_add(LINGER));
        if let Some(sa) = self.sas.get_mut(&new) {
            sa.wants.extend(wants);
            sa.tasks.extend(tasks);
            sa.supersedes.extend(supersedes);
            sa.moved = sa.moved.or(moved);
            // The attempt to leave may have ended since the successor was made.
            sa.onward.leaving = leaving && sa.path.remote.ip() == peer;
        }
        if tell {
            self.out.event(KeyingEvent::IkeRekeyed { old, new });
        }
    }

    /// Moves the children of one IKE SA to another.
    fn inherit(&mut self, context: &mut Context<'_>, old: IkeId, new: IkeId) {
        //= rfc7296#2.8
        //# the new IKE SA inherits all child SAs of the old one
        let children: Vec<ChildId> = context.children.of_owner(Owner::Ike(old)).map(|sa| sa.id).collect();
        for child in children {
            context.children.update(child, |sa| sa.owner = Owner::Ike(new));
            if let Some(build) = self.builds.get_mut(&child) {
                build.ike = new;
            }
        }
    }

    /// An IKE SA is going away that may have been given the children of another whose own rekey is still undecided: they return.
    pub(super) fn hand_children_back(&mut self, context: &mut Context<'_>, ike: IkeId) {
        // One that was rekeyed in its turn was the peer's choice: its children are elsewhere.
        let standing = self.sas.get(&ike).filter(|sa| sa.is_established());
        let Some(old) = standing.and_then(|sa| sa.session()).and_then(|session| session.predecessor) else { return };
        let undecided = self.rekey_task(old).is_some_and(|task| task.competing == Some(ike));
        if undecided {
            self.inherit(context, ike, old);
            if let Some(task) = self.rekey_task(old) {
                task.competing = None;
            }
        }
    }

    /// A new IKE SA with keys grown from an old one.
    fn successor(&mut self, context: &mut Context<'_>, old: IkeId, made: &NewKeys<'_>) -> Option<IkeId> {
        let sa = self.sas.get(&old)?;
        let session = sa.session()?;
        let inputs = IkeInputs { ni: made.ni, nr: made.nr, spi_i: made.spi_i.to_be_bytes(), spi_r: made.spi_r.to_be_bytes() };
        let (prf, d) = (session.crypt.suite.prf, &session.crypt.keys.d);
        let keys = IkeKeys::rekeyed(context.provider, &made.suite, prf, d, made.shared, &inputs).ok()?;
        let crypt = Crypt::new(made.suite, keys, made.initiator);
        let config = context.config.remote(session.remote)?;
        let schedule = lifetimes::schedule(&config.lifetime, context.now.boot, context.rng);
        let new = Session {
            crypt: crypt.clone(),
            remote: session.remote,
            identity: session.identity.clone(),
            lowest_nonce: lowest(made.ni, made.nr),
            authenticated_here: false,
            established: context.now.boot,
            rekey_at: schedule.rekey_at,
            heard: context.now.boot,
            confirmed: made.initiator,
            predecessor: None,
        };
        let id = context.ids.ike();
        //= rfc7296#2.2
        //# message ids start at zero again
        let begun = IkeSa::new(id, made.initiator, (made.spi_i, made.spi_r), sa.path, context.now.boot, State::Established(Box::new(new)));
        let sa = IkeSa { name: sa.name.clone(), remote: sa.remote, nat: sa.nat, onward: sa.onward.inherited(), ..begun };
        self.add(sa);
        self.timers.set_or_clear(Timer::RekeyIke(id), schedule.rekey_at);
        self.timers.set_or_clear(Timer::ExpireIke(id), schedule.expires_at);
        self.timers.set_or_clear(Timer::Liveness(id), config.liveness.map(|idle| context.now.boot.saturating_add(idle)));
        self.tell_keys((made.spi_i, made.spi_r), &crypt);
        Some(id)
    }
}

/// What a rekey of an IKE SA has agreed on.
struct NewKeys<'a> {
    suite: IkeSuite,
    shared: &'a Secret,
    ni: &'a [u8],
    nr: &'a [u8],
    spi_i: u64,
    spi_r: u64,
    initiator: bool,
}
