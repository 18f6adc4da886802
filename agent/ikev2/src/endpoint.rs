//! Every IKE SA of this host: who gets a datagram, an answer, a timer (RFC 7296 2.1, 2.3, 2.21, 3.1).
//! Invariant: each step costs O(log n) of the number of IKE SAs; nothing that arrives can end more than what it belongs to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use watari_kernel::{KernelError, KernelReply, KmAddress, RequestId};
use watari_policies::{Gateway, RemoteId};
use watari_sa::{
    Action, Cause, ChildId, ChildState, Context, Datagram, Deadline, IkeId, IkeStatus, Keying, KeyingInput, Owner, Path, Target, Trigger,
    Undeliverable, Want, WorkDone, WorkId,
};
use watari_wire::ikev2::{ExchangeType, Header, Message, NotifyType, Payload};

use crate::backoff::Rest;
use crate::child::ChildBuild;
use crate::cookie::CookieJar;
use crate::directory::Directory;
use crate::forget::Forgotten;
use crate::hints::Limit;
use crate::home::Home;
use crate::install::Kid;
use crate::outbox::{Outbox, RequestFor, WorkFor};
use crate::payloads::{notify, notify_with};
use crate::sk::Unreadable;
use crate::state::{Answering, IkeSa, State};
use crate::task::{RekeyIke, Task};
use crate::timers::{Timer, Timers};

/// IKEv2 of this host.
#[derive(Debug, Default)]
pub struct Ikev2 {
    pub(crate) sas: BTreeMap<IkeId, Box<IkeSa>>,
    pub(crate) by_spi: BTreeMap<u64, IkeId>,
    pub(crate) by_remote: BTreeSet<(RemoteId, IkeId)>,
    pub(crate) inits: BTreeMap<(IpAddr, u64), IkeId>,
    pub(crate) half_open: BTreeMap<IkeId, (IpAddr, u64)>,
    /// The same by address: one host can have many under one initiator SPI.
    pub(crate) half_open_from: BTreeSet<(IpAddr, IkeId)>,
    pub(crate) awaiting: BTreeSet<(IpAddr, IkeId)>,
    pub(crate) builds: BTreeMap<ChildId, ChildBuild>,
    pub(crate) kids: BTreeMap<ChildId, Kid>,
    pub(crate) homes: BTreeMap<IkeId, Home>,
    pub(crate) contacted: BTreeSet<RemoteId>,
    pub(crate) resting: BTreeMap<RemoteId, Rest>,
    /// When redirects were followed, boot time.
    pub(crate) redirects: BTreeMap<RemoteId, VecDeque<Duration>>,
    pub(crate) forgotten: Forgotten,
    pub(crate) directory: Directory,
    pub(crate) cookies: CookieJar,
    pub(crate) limit: Limit,
    pub(crate) timers: Timers,
    pub(crate) out: Outbox,
    pub(crate) reveal_keys: bool,
}

impl Ikev2 {
    /// An endpoint without IKE SAs. With `reveal_keys` it tells the keys of every IKE SA as events, for a test bed's captures.
    pub fn new(reveal_keys: bool) -> Self {
        Self { reveal_keys, ..Self::default() }
    }

    /// Takes in an IKE SA.
    pub(crate) fn add(&mut self, sa: IkeSa) {
        self.by_spi.insert(sa.local_spi(), sa.id);
        if let Some(remote) = sa.remote {
            self.by_remote.insert((remote, sa.id));
        }
        self.sas.insert(sa.id, Box::new(sa));
    }

    /// An SPI that no IKE SA here uses.
    pub(crate) fn fresh_spi(&self, context: &mut Context<'_>) -> u64 {
        loop {
            let spi = context.rng.ike_spi();
            if !self.by_spi.contains_key(&spi) && !self.forgotten.has(spi, context.now.boot) {
                return spi;
            }
        }
    }

    /// IKE SAs with a remote that have not ended, in the order they were made.
    pub(crate) fn ike_ids(&self, remote: RemoteId) -> Vec<IkeId> {
        let range = self.by_remote.range((remote, IkeId(0))..=(remote, IkeId(u64::MAX)));
        range.map(|(_, ike)| *ike).filter(|ike| self.sas.get(ike).is_some_and(|sa| sa.visible_state().is_some())).collect()
    }

    /// The peer of an IKE SA that has proved who it is, and its suite.
    pub(crate) fn peer_of(&self, ike: IkeId) -> Option<(RemoteId, watari_policies::Identity, watari_policies::algorithm::IkeSuite)> {
        let sa = self.sas.get(&ike)?;
        match &sa.state {
            State::AwaitAuth(attempt) if attempt.verified => Some((sa.remote?, attempt.identity.clone()?, attempt.crypt.suite)),
            State::Established(session) | State::Replaced(session) => Some((session.remote, session.identity.clone(), session.crypt.suite)),
            _ => None,
        }
    }

    /// Stops counting an IKE SA as half-open.
    pub(crate) fn no_longer_half_open(&mut self, ike: IkeId) {
        let Some(key) = self.half_open.remove(&ike) else { return };
        self.half_open_from.remove(&(key.0, ike));
        if self.inits.get(&key) == Some(&ike) {
            self.inits.remove(&key);
        }
    }

    /// Ends whatever is under way in an IKE SA.
    pub(crate) fn release(&mut self, context: &mut Context<'_>, ike: IkeId) {
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        let mut children = Vec::new();
        if let State::AwaitAuth(attempt) = &sa.state {
            children.extend(attempt.child);
        }
        children.extend(sa.first_child.take());
        children.extend(sa.current.take().and_then(|task| task.child()));
        if let Some(crate::state::Answer::Child(child)) = sa.answer.take() {
            children.push(child);
        }
        if let Some(outstanding) = sa.window.outstanding.take() {
            self.out.forget_transmit(outstanding.transmit);
        }
        self.awaiting.remove(&(sa.path.local.ip(), ike));
        self.timers.clear_ike(ike);
        for child in children {
            self.cancel_build(context, child);
        }
    }

    /// Forgets an IKE SA.
    pub(crate) fn remove(&mut self, context: &mut Context<'_>, ike: IkeId) {
        self.release(context, ike);
        self.no_longer_half_open(ike);
        let Some(sa) = self.sas.remove(&ike) else { return };
        self.by_spi.remove(&sa.local_spi());
        self.homes.remove(&ike);
        if let Some(remote) = sa.remote {
            self.by_remote.remove(&(remote, ike));
        }
    }

    fn datagram(&mut self, context: &mut Context<'_>, datagram: &Datagram) {
        let header = match Header::decode(&datagram.octets) {
            Ok(header) => header,
            Err(malformed) => return self.drop_message(datagram.path, Cause::MALFORMED, malformed.to_string()),
        };
        if header.major() != 2 {
            return self.unknown_version(context, datagram.path, &header);
        }
        let message = match Message::decode(&datagram.octets) {
            Ok(message) => message,
            //= rfc7296#2.21
            //# what is malformed and not protected is dropped without an answer
            Err(malformed) => return self.drop_message(datagram.path, Cause::MALFORMED, malformed.to_string()),
        };
        let (initiator, response) = (header.flags.initiator(), header.flags.response());
        if header.exchange == ExchangeType::IKE_SA_INIT && !response && header.responder_spi == 0 {
            if !initiator {
                return self.drop_message(datagram.path, Cause::UNEXPECTED, "IKE_SA_INIT without the initiator flag".to_owned());
            }
            return self.init_requested(context, datagram, &message);
        }
        //= rfc7296#2.6
        //# the SPI of the receiver names the IKE SA; the initiator flag says which of the two that is
        let local = if initiator { header.responder_spi } else { header.initiator_spi };
        let found = self.by_spi.get(&local).copied().filter(|ike| {
            self.sas.get(ike).is_some_and(|sa| {
                let fits = (sa.spi_i, sa.spi_r) == (header.initiator_spi, header.responder_spi);
                sa.initiator != initiator && (fits || matches!(sa.state, State::AwaitInit(_)))
            })
        });
        let Some(ike) = found else { return self.unknown_spi(context, datagram.path, &header) };
        if header.exchange == ExchangeType::IKE_SA_INIT {
            // A late response to a request that was answered before is no news.
            return if response {
                self.init_answered(context, ike, datagram, &message)
            } else {
                self.unknown_spi(context, datagram.path, &header)
            };
        }
        self.protected(context, ike, datagram, &message);
    }

    /// A message for an IKE SA with keys.
    fn protected(&mut self, context: &mut Context<'_>, ike: IkeId, datagram: &Datagram, message: &Message) {
        let Some(crypt) = self.sas.get(&ike).and_then(|sa| sa.state.crypt()) else {
            return self.drop_message(datagram.path, Cause::UNEXPECTED, "a protected message before there are keys".to_owned());
        };
        let opened = crypt.open(context.provider, &datagram.octets, message);
        let response = message.header.flags.response();
        let payloads = match opened {
            Ok(payloads) => Ok(payloads),
            Err(Unreadable::Plain) => return self.hinted(context, ike, datagram.path, message),
            Err(Unreadable::Forged(error)) => return self.drop_message(datagram.path, Cause::INTEGRITY, error.to_string()),
            Err(Unreadable::Malformed(malformed)) => Err(malformed),
        };
        if let Err(malformed) = &payloads {
            self.drop_message(datagram.path, Cause::MALFORMED, malformed.to_string());
        }
        let header = &message.header;
        if response {
            // A response that cannot be read is one without what was asked for.
            self.response(context, ike, datagram, header, &payloads.unwrap_or_default());
        } else {
            let error = payloads.as_ref().err().map(|malformed| match malformed.unsupported_critical() {
                //= rfc7296#2.5
                //# an unknown critical payload is answered with its type
                Some(kind) => notify_with(NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD, vec![kind.0]),
                //= rfc7296#2.21.3
                //# a request that is malformed although its integrity is right is answered with INVALID_SYNTAX
                None => notify(NotifyType::INVALID_SYNTAX),
            });
            self.request(context, ike, datagram, header, payloads.unwrap_or_default(), error);
        }
    }

    fn response(&mut self, context: &mut Context<'_>, ike: IkeId, datagram: &Datagram, header: &Header, payloads: &[Payload]) {
        let Some(sa) = self.sas.get(&ike) else { return };
        let asked =
            sa.window.outstanding.as_ref().is_some_and(|request| request.id == header.message_id && request.exchange == header.exchange);
        // A repeat of a response that was taken before is dropped in silence.
        if !asked || sa.visible_state().is_none() {
            return;
        }
        let question = matches!(sa.current, Some(Task::Liveness));
        self.request_answered(ike);
        self.heard_from(context, ike, &datagram.path, true);
        let Some(sa) = self.sas.get(&ike) else { return };
        match &sa.state {
            State::AwaitAuth(_) => self.auth_answered(context, ike, payloads.to_vec()),
            State::Established(_) | State::Replaced(_) | State::Closing(_) => self.task_answered(context, ike, payloads),
            _ => {}
        }
        self.answered_from(context, ike, (datagram.path, header.message_id), question, payloads);
    }

    fn request(
        &mut self,
        context: &mut Context<'_>,
        ike: IkeId,
        datagram: &Datagram,
        header: &Header,
        payloads: Vec<Payload>,
        error: Option<Payload>,
    ) {
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        let id = header.message_id;
        if id.checked_add(1) == Some(sa.window.expected) {
            //= rfc7296#2.1
            //# a repeated request gets the same response again, and nothing else happens; one being worked on is dropped
            if let (None, Some(octets)) = (sa.window.answering, sa.window.answered.clone()) {
                self.out.transmit(context, datagram.path, octets);
            }
            return;
        }
        // Before both sides are proved only IKE_AUTH of the initiator has a place; a peer whose IKE_AUTH response is still under way
        // will repeat what it wants.
        let unproven = matches!(sa.state, State::AwaitAuth(_)) && (sa.initiator || header.exchange != ExchangeType::IKE_AUTH);
        // One that is being closed because the peer was not who it claimed to be listens to nothing of it.
        let dead = unproven || matches!(sa.state, State::Closing(_) | State::Gone(_));
        //= rfc7296#2.3
        //# a message id outside the window is dropped
        // The last id has no successor: taken, it could be repeated for ever (RFC 7296 2.2).
        let used_up = id == u32::MAX;
        if id != sa.window.expected || used_up || sa.window.answering.is_some() || dead {
            let asks_too_early = unproven && sa.initiator;
            if asks_too_early {
                self.peer_elsewhere(context, ike, &datagram.path);
            }
            let Some(sa) = self.sas.get(&ike) else { return };
            let detail = format!("{} {id}, expected was {}", header.exchange, sa.window.expected);
            return self.drop_message(datagram.path, Cause::UNEXPECTED, detail);
        }
        sa.window.expected = id.saturating_add(1);
        sa.window.answered = None;
        sa.window.answering = Some(Answering { id, exchange: header.exchange, path: datagram.path });
        let unauthenticated = matches!(sa.state, State::AwaitAuth(_));
        if let Some(error) = error {
            return self.answer(context, ike, &[error]);
        }
        self.heard_from(context, ike, &datagram.path, false);
        match (header.exchange, unauthenticated) {
            (ExchangeType::IKE_AUTH, true) => self.auth_requested(context, ike, payloads),
            (ExchangeType::CREATE_CHILD_SA, false) => {
                self.homes.remove(&ike);
                self.create_child_requested(context, ike, &payloads);
            }
            (ExchangeType::INFORMATIONAL, false) => self.informed(context, ike, &payloads),
            _ => {
                let detail = format!("{} in a state that has no place for it", header.exchange);
                self.drop_message(datagram.path, Cause::UNEXPECTED, detail);
                self.answer(context, ike, &[notify(NotifyType::INVALID_SYNTAX)]);
            }
        }
    }

    fn work_done(&mut self, context: &mut Context<'_>, id: WorkId, done: WorkDone) {
        match self.out.work_done(id) {
            Some(WorkFor::InitKey(ike)) => self.init_key_made(context, ike, done),
            Some(WorkFor::InitShared(ike)) => self.init_shared(context, ike, done),
            Some(WorkFor::InitAnswer(ike)) => self.init_answer_ready(context, ike, done),
            Some(WorkFor::OwnProof(ike)) => self.own_proof_made(context, ike, done),
            Some(WorkFor::PeerProof(ike)) => self.peer_proof_known(context, ike, done),
            Some(WorkFor::ChildKey(child)) => self.child_key_made(context, child, done),
            Some(WorkFor::ChildShared(child)) => self.child_shared(context, child, done),
            Some(WorkFor::RekeyKey(ike)) => self.rekey_key_made(context, ike, done),
            Some(WorkFor::RekeyShared(ike)) => self.rekey_shared(context, ike, done),
            Some(WorkFor::RekeyAnswer(ike)) => self.rekey_answer_ready(context, ike, done),
            None => {}
        }
    }

    fn kernel_done(&mut self, context: &mut Context<'_>, id: RequestId, reply: Result<KernelReply, KernelError>) {
        match self.out.request_done(id) {
            Some(RequestFor::Spi { child, endpoints, protocol }) => self.spi_reserved(context, child, endpoints, protocol, reply),
            Some(RequestFor::Inbound(child, id)) => self.inbound_done(context, child, id, reply),
            Some(RequestFor::Outbound(child, id)) => self.outbound_done(context, child, id, reply),
            Some(RequestFor::Nobody) | None => {}
        }
    }

    fn timeout(&mut self, context: &mut Context<'_>) {
        while let Some(timer) = self.timers.due(context.now.boot) {
            match timer {
                Timer::Retransmit(ike) => self.retransmit_due(context, ike),
                Timer::AwaitAddress(ike) => self.resend(context, ike),
                Timer::HalfOpen(ike) | Timer::Linger(ike) => self.remove(context, ike),
                Timer::RekeyIke(ike) => self.rekey_ike(context, ike),
                Timer::ExpireIke(ike) => self.ike_expired(context, ike),
                Timer::Liveness(ike) => self.liveness_due(context, ike),
                Timer::Tasks(ike) => self.run_tasks(context, ike),
                Timer::CloseRedundant(ike) => self.close_redundant(context, ike),
                Timer::RekeyChild(child) => self.rekey_child(context, child),
                Timer::ExpireChild(child) => self.child_expired(context, child),
                Timer::Switch(child) => self.switch_outbound(context, child),
                Timer::Drain(child) => self.remove_child(context, child, Cause::REPLACED),
                Timer::Orphan(child) => self.orphan_due(context, child),
                Timer::Call(remote) => self.call_again(context, remote),
            }
        }
    }

    fn rekey_ike(&mut self, context: &mut Context<'_>, ike: IkeId) {
        let Some(sa) = self.sas.get(&ike).filter(|sa| sa.is_established()) else { return };
        let under_way = |task: &Task| matches!(task, Task::RekeyIke(_) | Task::DeleteIke { .. });
        if sa.current.as_ref().is_some_and(under_way) || sa.tasks.iter().any(|queued| under_way(&queued.task)) {
            return;
        }
        self.push_task(ike, Task::RekeyIke(Box::<RekeyIke>::default()));
        self.run_tasks(context, ike);
    }

    fn rekey_child(&mut self, context: &mut Context<'_>, child: ChildId) {
        let Some(sa) = context.children.get(child) else { return };
        //= rfc4877#4.2
        //# the tunnel SAs of a mobile node at home may be kept; they serve again when it leaves
        if sa.state == ChildState::Dormant {
            return self.rekey_later(context, child);
        }
        if sa.state != ChildState::Installed {
            return;
        }
        match sa.owner {
            Owner::Ike(ike) => {
                let same = |task: &Task| matches!(task, Task::RekeyChild(task) if task.old == child);
                let Some(sa) = self.sas.get(&ike) else { return };
                if sa.current.as_ref().is_some_and(same) || sa.tasks.iter().any(|queued| same(&queued.task)) {
                    return;
                }
                self.push_task(ike, Task::rekey(child));
                self.run_tasks(context, ike);
            }
            Owner::None => self.want_child(context, Want { policy: sa.policy, trigger: Trigger::Replace(child) }),
            Owner::KinkPeer(_) => {}
        }
    }

    fn child_expired(&mut self, context: &mut Context<'_>, child: ChildId) {
        match context.children.get(child).map(|sa| sa.owner) {
            Some(Owner::Ike(ike)) => {
                self.push_task_first(ike, Task::DeleteChild { child, cause: Cause::EXPIRED });
                self.run_tasks(context, ike);
            }
            Some(Owner::None) => self.orphan_expired(context, child),
            _ => {}
        }
    }

    fn orphan_due(&mut self, context: &mut Context<'_>, child: ChildId) {
        if context.children.get(child).is_some_and(|sa| sa.owner == Owner::None) {
            self.remove_child(context, child, Cause::PEER_RESTARTED);
        }
    }
}

impl Keying for Ikev2 {
    fn handle(&mut self, context: &mut Context<'_>, input: KeyingInput) {
        match input {
            KeyingInput::Datagram(datagram) => self.datagram(context, &datagram),
            KeyingInput::Undeliverable(id, why) => {
                if let (Some(ike), Undeliverable::Tentative) = (self.out.transmit_owner(id), why) {
                    self.address_not_usable(context, ike);
                }
            }
            KeyingInput::AddressUsable(address) => self.address_usable(context, address),
            KeyingInput::Done(id, reply) => self.kernel_done(context, id, reply),
            KeyingInput::WorkDone(id, done) => self.work_done(context, id, done),
            KeyingInput::Assigned(ike, assignment) => self.assigned(context, ike, assignment),
            KeyingInput::Timeout => self.timeout(context),
        }
    }

    fn poll(&mut self) -> Option<Action> {
        self.out.pop()
    }

    fn deadline(&self) -> Option<Deadline> {
        let (at, timer) = self.timers.next()?;
        let name = match timer {
            Timer::Call(remote) => self.resting.get(&remote).map(|rest| rest.name.clone()),
            timer => timer.ike().and_then(|ike| self.sas.get(&ike)).map(|sa| sa.name.clone()),
        };
        Some(Deadline { at, timer: timer.name(), whose: name.unwrap_or_else(|| "child SA".to_owned()) })
    }

    fn want(&mut self, context: &mut Context<'_>, want: Want) {
        self.want_child(context, want);
    }

    fn rekey(&mut self, context: &mut Context<'_>, target: Target) {
        match target {
            Target::Ike(ike) => self.rekey_ike(context, ike),
            Target::Child(child) => self.rekey_child(context, child),
        }
    }

    fn close(&mut self, context: &mut Context<'_>, target: Target) {
        match target {
            Target::Ike(ike) => self.close_ike(context, ike),
            Target::Child(child) => match context.children.get(child).map(|sa| sa.owner) {
                Some(Owner::Ike(ike)) => {
                    self.push_task(ike, Task::DeleteChild { child, cause: Cause::OPERATOR });
                    self.run_tasks(context, ike);
                }
                Some(Owner::None) => self.remove_child(context, child, Cause::OPERATOR),
                _ => {}
            },
        }
    }

    fn retarget(&mut self, context: &mut Context<'_>, ike: IkeId, addresses: KmAddress) {
        self.move_ike(context, ike, addresses);
    }

    fn probe(&mut self, context: &mut Context<'_>, ike: IkeId) {
        self.check_liveness(context, ike);
    }

    fn prove(&mut self, context: &mut Context<'_>, ike: IkeId, candidate: KmAddress) {
        self.prove_candidate(context, ike, candidate);
    }

    fn switch(&mut self, context: &mut Context<'_>, remote: RemoteId, addresses: &[IpAddr], cause: Cause) {
        self.switch_address(context, remote, addresses, cause);
    }

    fn redirect(&mut self, context: &mut Context<'_>, ike: IkeId, to: &Gateway) -> Result<(), String> {
        self.redirect_peer(context, ike, to)
    }

    fn forget(&mut self, context: &mut Context<'_>, ike: IkeId) {
        self.forget_ike(context, ike);
    }

    fn ike_sas_of(&self, remote: RemoteId) -> Vec<IkeId> {
        self.ike_ids(remote)
    }

    fn path_of(&self, ike: IkeId) -> Option<Path> {
        self.sas.get(&ike).filter(|sa| sa.visible_state().is_some()).map(|sa| sa.path)
    }

    fn stands(&self, ike: IkeId) -> bool {
        let stands = |state: &State| matches!(state, State::Established(_) | State::Replaced(_) | State::Closing(_));
        self.sas.get(&ike).is_some_and(|sa| stands(&sa.state))
    }

    fn status(&self, ike: IkeId) -> Option<IkeStatus> {
        self.status_of(ike)
    }

    fn statuses(&self) -> Vec<IkeStatus> {
        self.sas.keys().filter_map(|ike| self.status_of(*ike)).collect()
    }

    fn reconfigured(&mut self) {
        self.directory.clear();
    }
}

impl Ikev2 {
    fn close_ike(&mut self, context: &mut Context<'_>, ike: IkeId) {
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        match sa.state {
            State::AwaitInit(_) | State::AwaitAuth(_) if sa.initiator => {
                self.attempt_failed(context, ike, Cause::OPERATOR, String::new());
            }
            State::AwaitInit(_) | State::Answering(_) | State::AwaitAuth(_) => self.remove(context, ike),
            State::Established(_) => {
                sa.tasks.clear();
                self.push_task_first(ike, Task::DeleteIke { cause: Cause::OPERATOR });
                self.run_tasks(context, ike);
            }
            State::Replaced(_) | State::Closing(_) | State::Gone(_) => {}
        }
    }
}
