//! The back end: sequence numbers, a bounded number of requests under way, dumps one at a time, ACQUIREs that wait for their policy, and
//! resynchronisation. Linux drops silently what does not fit into the socket: an answer that does not come is taken for such a loss.
//! Invariant: every request submitted is answered by exactly one `Done`; events keep their order, also across a resynchronisation.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use watari_kernel::errno::{EBUSY, EEXIST, EINVAL, ENOENT, ESRCH, ETIMEDOUT};
use watari_kernel::probe::conclude;
use watari_kernel::table::{Dump, Dumps, Owner, Rows, Table};
use watari_kernel::{
    Backend, BackendOutput, Capability, Channel, KernelError, KernelEvent, KernelReply, KernelRequest, Now, PolicyIndex, RequestId, SaId,
};
use watari_policies::Direction;

use crate::dialect::Dialect;
use crate::event::{self, Notice, Wanted};
use crate::job::{InFlight, Job};
use crate::listener::malformed;
use crate::message::{Kind, Message};
use crate::policies::Policies;
use crate::probe::{SCRATCH, Step};
use crate::sources::Sources;
use crate::{algorithm, policy, sa};

/// Requests on their way at once: their answers must fit into the socket's receive buffer.
const WINDOW: usize = 128;
/// As many after a loss, and one more with every answer: what overran the socket once would do it again.
const WINDOW_AFTER_LOSS: usize = 4;
/// The kernel answers while it is being written to; what it has not answered by now was lost and is asked again.
const PATIENCE: Duration = Duration::from_secs(2);
/// So long a request asked again may take.
const LAST_PATIENCE: Duration = Duration::from_secs(8);
/// A kernel that is still busy with a dump that was given up is asked again after this time, so many times.
const BUSY_PAUSE: Duration = Duration::from_millis(100);
const BUSY_TRIES: u32 = 50;
/// Our numbers begin here, far from those that the kernel gives to its ACQUIREs.
const FIRST_SEQUENCE: u32 = 0x8000_0000;

/// An event in its place behind others.
#[derive(Debug)]
enum Queued {
    Event(KernelEvent),
    Acquire(Wanted),
}

/// PF_KEY as a `Backend`: everything goes over one socket (`Channel::Key`).
#[derive(Debug)]
pub struct KeyBackend {
    dialect: Dialect,
    pid: u32,
    next_seq: u32,
    /// What waits for room, and whether it was sent before.
    waiting: VecDeque<(Job, bool)>,
    window: usize,
    in_flight: BTreeMap<u32, InFlight>,
    dumps: Dumps,
    dump: Option<Dump>,
    /// When the kernel, busy with another dump, is asked again, and how often it was busy.
    busy: (Option<Duration>, u32),
    policies: Policies,
    sources: Sources,
    queue: VecDeque<Queued>,
    resolving: BTreeSet<PolicyIndex>,
    release: String,
    capability: Capability,
    outputs: VecDeque<BackendOutput>,
}

impl KeyBackend {
    /// A back end for one kernel's dialect; `pid` is the number of this process, by which its own removals are told from others.
    #[must_use]
    pub fn new(dialect: Dialect, pid: u32) -> Self {
        Self {
            dialect,
            pid,
            next_seq: FIRST_SEQUENCE,
            waiting: VecDeque::new(),
            window: WINDOW,
            in_flight: BTreeMap::new(),
            dumps: Dumps::default(),
            dump: None,
            busy: (None, 0),
            policies: Policies::default(),
            sources: Sources::default(),
            queue: VecDeque::new(),
            resolving: BTreeSet::new(),
            release: String::new(),
            capability: algorithm::capability(dialect),
            outputs: VecDeque::new(),
        }
    }

    /// Registers the socket, without which no ACQUIRE and no EXPIRE is heard, reads the tables, and finds out what this kernel can do;
    /// answered by `Done(id, Ok(KernelReply::Done))`, after which `capabilities` tells. On Linux it adds a policy for documentation
    /// addresses and removes it again. `release` is what `uname -r` prints, empty if unknown.
    pub fn probe(&mut self, now: Now, id: RequestId, release: &str) {
        release.clone_into(&mut self.release);
        self.dumps.resync.learn();
        self.waiting.push_back((Job::Probe { id, step: Step::RegisterEsp, failure: None }, false));
        self.read_again(now);
        self.send_waiting(now);
    }

    fn sequence(&mut self) -> u32 {
        let seq = self.next_seq;
        self.next_seq = seq.checked_add(1).unwrap_or(FIRST_SEQUENCE);
        seq
    }

    /// The number of a job's message. An SA that answers an ACQUIRE carries the ACQUIRE's, one that fills a larval SA of KAME the
    /// GETSPI's: the kernel finds the state to replace by it.
    fn sequence_of(&mut self, job: &Job) -> u32 {
        let named = match job {
            Job::Request { request: KernelRequest::AddSa { parameters, allocated: true, .. }, .. } => self.sources.reserved(&parameters.id),
            Job::Request { request: KernelRequest::AddSa { sequence, .. }, .. } => Some(*sequence),
            _ => None,
        };
        let named = named.filter(|seq| *seq != 0 && !self.in_flight.contains_key(seq));
        named.unwrap_or_else(|| self.sequence())
    }

    fn send_waiting(&mut self, now: Now) {
        while self.in_flight.len() < self.window
            && let Some((job, again)) = self.waiting.pop_front()
        {
            self.send(now, job, again);
        }
        self.start_dump(now);
    }

    fn send(&mut self, now: Now, job: Job, again: bool) {
        let seq = self.sequence_of(&job);
        let sources = &self.sources;
        let written = job.outgoing(self.dialect, &|id| sources.source(id));
        match written.and_then(|outgoing| Ok((outgoing.kind(), outgoing.into_octets(seq, self.pid)?))) {
            Ok((kind, octets)) => {
                let deadline = now.boot.saturating_add(if again { LAST_PATIENCE } else { PATIENCE });
                self.in_flight.insert(seq, InFlight { job, kind, deadline, again });
                self.outputs.push_back(BackendOutput::Send(Channel::Key, octets));
            }
            Err(why) => {
                let error = KernelError { errno: 0, text: why, request: job.name() };
                self.finish(job.id(), Err(error));
            }
        }
    }

    fn start_dump(&mut self, now: Now) {
        if self.dump.is_some() || self.busy.0.is_some_and(|until| now.boot < until) {
            return;
        }
        self.busy.0 = None;
        let Some((owner, table)) = self.dumps.take_next() else { return };
        let seq = self.sequence();
        let outgoing = match table {
            Table::Policies => policy::dump(),
            Table::Sas => sa::dump(),
        };
        if table == Table::Policies {
            self.policies.begin();
        }
        self.dump = Some(Dump::new(seq, owner, table, now.boot.saturating_add(PATIENCE)));
        // Rows repeat the process id of the request and not its number: so the number stands in both.
        match outgoing.into_octets(seq, seq) {
            Ok(octets) => self.outputs.push_back(BackendOutput::Send(Channel::Key, octets)),
            Err(why) => self.end_dump(now, Err(KernelError { errno: 0, text: why, request: table.request() })),
        }
    }

    fn finish(&mut self, id: Option<RequestId>, result: Result<KernelReply, KernelError>) {
        if let Some(id) = id {
            self.outputs.push_back(BackendOutput::Done(id, result));
        }
    }

    /// The number of our request that the message answers.
    fn answered(&self, message: &Message<'_>) -> Option<u32> {
        let ours = |seq: &u32| self.in_flight.get(seq).is_some_and(|request| request.kind == message.kind);
        let numbered = Some(message.seq).filter(ours);
        // KAME answers SPDGET under the number 0: which request was meant is told by the policy's number.
        let by_policy = || {
            let index = policy::index(message)?;
            self.in_flight.iter().find(|(_, request)| matches!(request.job, Job::Resolve(asked) if asked == index)).map(|(seq, _)| *seq)
        };
        let unnumbered = self.dialect == Dialect::Kame && message.kind == Kind::SpdGet && message.seq == 0;
        numbered.or_else(|| if unnumbered { by_policy() } else { None }).filter(|_| message.pid == self.pid)
    }

    fn answer(&mut self, now: Now, message: &Message<'_>, seq: u32) -> Result<(), String> {
        let Some(InFlight { job, again, .. }) = self.in_flight.remove(&seq) else { return Ok(()) };
        self.window = self.window.saturating_add(1).min(WINDOW);
        let read = self.reply(&job, message);
        match &read {
            Ok(Some(reply)) => self.finish(job.id(), Ok(reply.clone())),
            Ok(None) => self.result(now, job, self.dialect.numbering().read(message.errno), again),
            Err(why) => {
                self.finish(job.id(), Err(KernelError { errno: 0, text: why.clone(), request: job.name() }));
                if let Job::Resolve(index) = job {
                    self.resolved(index);
                }
            }
        }
        self.send_waiting(now);
        read.map(|_| ())
    }

    /// What an answer says beyond that the request was done.
    fn reply(&mut self, job: &Job, message: &Message<'_>) -> Result<Option<KernelReply>, String> {
        if message.errno != 0 {
            return Ok(None);
        }
        match job {
            Job::Request { request: KernelRequest::AllocateSpi { endpoints, protocol, reqid, .. }, .. } => {
                let spi = sa::spi(message)?;
                if self.dialect == Dialect::Kame {
                    let id = SaId { dst: endpoints.dst, protocol: *protocol, spi };
                    self.sources.reserve(id, message.seq, endpoints.src, *reqid);
                }
                return Ok(Some(KernelReply::Spi(spi)));
            }
            Job::Request { request: KernelRequest::QuerySa(_), .. } => {
                let mut sa = sa::info(self.dialect, message)?;
                sa.iter_mut().for_each(|sa| self.policies.select(sa));
                return Ok(Some(KernelReply::Sa(sa)));
            }
            Job::Resolve(_) => {
                if let Some(policy) = policy::read(self.dialect, message)? {
                    self.policies.set(&policy);
                }
            }
            Job::Probe { step: Step::RegisterEsp, .. } => algorithm::restrict(&mut self.capability, message)?,
            _ => {}
        }
        Ok(None)
    }

    /// A request was done (errno 0) or refused.
    fn result(&mut self, now: Now, job: Job, errno: i32, again: bool) {
        let error = KernelError::refused(errno, "", job.name());
        match job {
            Job::Request { id, mut request } => match (&mut request, errno) {
                // The larval state lives 30 s; if it is gone, the SA can still be added. What is not there is EINVAL to some of KAME.
                (KernelRequest::AddSa { allocated: allocated @ true, .. }, ESRCH | ENOENT | EINVAL)
                    if errno != EINVAL || self.dialect == Dialect::Kame =>
                {
                    *allocated = false;
                    self.send(now, Job::Request { id, request }, again);
                }
                (KernelRequest::DeletePolicy { .. }, EINVAL) if self.dialect == Dialect::Kame => {
                    self.finish(Some(id), Ok(KernelReply::Done));
                }
                (KernelRequest::QuerySa(_), ESRCH | ENOENT) => self.finish(Some(id), Ok(KernelReply::Sa(None))),
                (_, 0) | (KernelRequest::DeleteSa(_) | KernelRequest::DeletePolicy { .. }, ESRCH | ENOENT) => {
                    self.finish(Some(id), Ok(KernelReply::Done));
                }
                (KernelRequest::AddSa { .. }, EEXIST) if again => self.finish(Some(id), Ok(KernelReply::Done)),
                _ => self.finish(Some(id), Err(error)),
            },
            Job::Probe { id, step, failure } => self.probed(now, id, step, errno, failure),
            Job::Resolve(index) => self.resolved(index),
        }
    }

    fn probed(&mut self, now: Now, id: RequestId, step: Step, errno: i32, failure: Option<KernelError>) {
        let error = KernelError::refused(errno, "", "probe what it can do");
        let failure = match step {
            Step::RegisterEsp | Step::Add if !matches!(errno, 0 | EEXIST) => return self.finish(Some(id), Err(error)),
            Step::Migrate => {
                conclude(&mut self.capability, errno, &self.release);
                self.capability.inbound_mh_type.is_none().then_some(error)
            }
            Step::Remove if !matches!(errno, 0 | ENOENT) => failure.or(Some(error)),
            _ => failure,
        };
        match step.next(self.dialect) {
            Some(step) => self.send(now, Job::Probe { id, step, failure }, false),
            None => self.finish(Some(id), failure.map_or(Ok(KernelReply::Done), Err)),
        }
    }

    fn dump_part(&mut self, now: Now, message: &Message<'_>) -> Result<(), String> {
        let Some(dump) = self.dump.as_mut() else { return Ok(()) };
        dump.deadline = now.boot.saturating_add(PATIENCE);
        let (table, errno) = (dump.table, self.dialect.numbering().read(message.errno));
        let read = match table {
            _ if message.is_bare() => Ok(()),
            Table::Policies => policy::read(self.dialect, message)
                .map(|policy| dump.policies.extend(policy.filter(|policy| policy.selector != SCRATCH.selector()))),
            Table::Sas => sa::info(self.dialect, message).map(|sa| dump.sas.extend(sa)),
        };
        match (message.is_bare(), errno, message.seq) {
            // An empty table is no error.
            (true, ENOENT, _) | (false, 0, 0) => self.end_dump(now, Ok(())),
            (true, EBUSY, _) if matches!(dump.owner, Owner::Caller(_)) && self.busy.1 < BUSY_TRIES => self.dump_later(now),
            (true, _, _) | (false, _, 0) => self.end_dump(now, Err(KernelError::refused(errno, "", table.request()))),
            _ => {}
        }
        read
    }

    /// An earlier dump that was given up still runs in the kernel.
    fn dump_later(&mut self, now: Now) {
        self.busy = (Some(now.boot.saturating_add(BUSY_PAUSE)), self.busy.1.saturating_add(1));
        if let Some(Dump { owner, table, .. }) = self.dump.take() {
            if table == Table::Policies {
                self.policies.give_up();
            }
            self.dumps.want(owner, table);
        }
    }

    fn end_dump(&mut self, now: Now, result: Result<(), KernelError>) {
        let Some(dump) = self.dump.take() else { return };
        // A resynchronisation that is refused says nothing of how long the caller's dump has waited.
        if result.is_ok() || matches!(dump.owner, Owner::Caller(_)) {
            self.busy = (None, 0);
        }
        let (owner, mut rows) = dump.into_rows();
        match (&mut rows, &result) {
            (Rows::Policies(policies), Ok(())) => self.policies.replace(policies),
            (Rows::Sas(sas), Ok(())) => {
                sas.iter_mut().for_each(|sa| self.policies.select(sa));
                if self.dialect == Dialect::Kame {
                    self.sources.replace(sas);
                }
            }
            (Rows::Policies(_), Err(_)) => self.policies.give_up(),
            (Rows::Sas(_), Err(_)) => {}
        }
        self.outputs.extend(self.dumps.ended(now.boot, owner, result.map(|()| rows)));
        self.start_dump(now);
    }

    /// Starts a resynchronisation if one is wanted and none is running.
    fn read_again(&mut self, now: Now) {
        if self.dumps.begin(now.boot) {
            self.start_dump(now);
        }
    }

    fn broadcast(&mut self, now: Now, message: &Message<'_>) -> Result<(), String> {
        match event::read(self.dialect, message, self.pid)? {
            // What a process changes moves no SA; what the kernel changes by itself has no process.
            Notice::Event(event) => self.changed(event, message.pid == 0),
            Notice::Migrate(mut migrate) => {
                self.policies.migrate(&mut migrate);
                self.sources.migrate(&migrate);
                self.tell(KernelEvent::Migrate(migrate));
            }
            Notice::Acquire(wanted) => self.acquire(now, wanted),
            Notice::Sa(sa) if self.dialect == Dialect::Kame => self.sources.add(&sa),
            Notice::SasFlushed => {
                self.dumps.resync.flushed();
                self.read_again(now);
            }
            Notice::Sa(_) | Notice::Nothing => {}
        }
        Ok(())
    }

    /// Keeps what is remembered in step with an event, then tells it.
    fn changed(&mut self, event: KernelEvent, by_kernel: bool) {
        match &event {
            KernelEvent::PolicyChanged(policy) | KernelEvent::PolicyRemoved(policy) if policy.selector == SCRATCH.selector() => {
                return;
            }
            KernelEvent::PolicyChanged(policy) => {
                if self.dialect == Dialect::Kame && by_kernel {
                    self.policies.moved(policy).for_each(|template| self.sources.follow(template));
                }
                self.policies.set(policy);
            }
            KernelEvent::PolicyRemoved(policy) => self.policies.remove(policy.index),
            KernelEvent::Flushed { policies: true } => self.policies.clear(),
            KernelEvent::SaRemoved(id) => self.sources.remove(id),
            KernelEvent::Expire(expire) if expire.hard => self.sources.remove(&expire.id),
            _ => {}
        }
        self.tell(event);
    }

    fn acquire(&mut self, now: Now, wanted: Wanted) {
        if let Some(acquire) = self.policies.complete(&wanted) {
            return self.tell(KernelEvent::Acquire(acquire));
        }
        self.queue.push_back(Queued::Acquire(wanted));
        if self.resolving.insert(wanted.index) {
            self.waiting.push_back((Job::Resolve(wanted.index), false));
            self.send_waiting(now);
        }
    }

    /// The kernel told of a policy, or that there is none: events that waited for it go on. An ACQUIRE whose policy is gone is moot.
    fn resolved(&mut self, index: PolicyIndex) {
        self.resolving.remove(&index);
        while let Some(queued) = self.queue.pop_front() {
            match queued {
                Queued::Event(event) => self.deliver(event),
                Queued::Acquire(wanted) if self.resolving.contains(&wanted.index) => {
                    self.queue.push_front(Queued::Acquire(wanted));
                    return;
                }
                Queued::Acquire(wanted) => {
                    if let Some(acquire) = self.policies.complete(&wanted) {
                        self.deliver(KernelEvent::Acquire(acquire));
                    }
                }
            }
        }
    }

    fn tell(&mut self, event: KernelEvent) {
        if self.queue.is_empty() {
            self.deliver(event);
        } else {
            self.queue.push_back(Queued::Event(event));
        }
    }

    fn deliver(&mut self, event: KernelEvent) {
        if let Some(event) = self.dumps.resync.hold(event) {
            self.outputs.push_back(BackendOutput::Event(event));
        }
    }

    /// Messages were lost: what was under way and can have lost its answer is asked again under new numbers, and the tables are read.
    fn lost(&mut self, now: Now) {
        let mut unanswered = Vec::new();
        for (seq, request) in std::mem::take(&mut self.in_flight) {
            if request.again {
                self.in_flight.insert(seq, request);
            } else {
                unanswered.push(request.job);
            }
        }
        self.window = WINDOW_AFTER_LOSS;
        for job in unanswered.into_iter().rev() {
            self.waiting.push_front((job, true));
        }
        self.send_waiting(now);
        // What the tables will tell is newer than an event that waits; only an ACQUIRE is told nowhere else.
        self.queue.retain(|queued| matches!(queued, Queued::Acquire(_)));
        self.dumps.resync.lost();
        self.read_again(now);
    }

    /// KAME lets the entry that blocks the next ACQUIRE end in its time. Linux would turn its state into one that an SA does not replace
    /// and that MIGRATE still stumbles over (measured): there nothing is said.
    fn refuse_acquire(&mut self, sequence: u32) {
        if self.dialect == Dialect::Kame
            && sequence != 0
            && let Ok(octets) = sa::refuse_acquire(self.dialect).into_octets(sequence, self.pid)
        {
            self.outputs.push_back(BackendOutput::Send(Channel::Key, octets));
        }
    }
}

impl Backend for KeyBackend {
    fn submit(&mut self, now: Now, id: RequestId, request: KernelRequest) {
        let forward = match &request {
            KernelRequest::SetPolicy(policy) => policy.direction == Direction::Forward,
            KernelRequest::DeletePolicy { direction, .. } => *direction == Direction::Forward,
            _ => false,
        };
        match request {
            // Inbound policies there cover what is forwarded.
            _ if forward && !self.dialect.has_forward() => self.finish(Some(id), Ok(KernelReply::Done)),
            KernelRequest::DumpSas => self.dumps.want(Owner::Caller(id), Table::Sas),
            KernelRequest::DumpPolicies => self.dumps.want(Owner::Caller(id), Table::Policies),
            KernelRequest::RefuseAcquire { sequence } => {
                self.refuse_acquire(sequence);
                self.finish(Some(id), Ok(KernelReply::Done));
            }
            request => self.waiting.push_back((Job::Request { id, request }, false)),
        }
        self.send_waiting(now);
    }

    fn received(&mut self, now: Now, channel: Channel, octets: &[u8]) {
        if channel != Channel::Key {
            return;
        }
        let read = Message::read(octets).and_then(|message| {
            let row = self.dump.as_ref().is_some_and(|dump| kind_of(dump.table) == message.kind && dump.seq == message.pid);
            if row {
                return self.dump_part(now, &message);
            }
            let heard = if message.errno == 0 { self.broadcast(now, &message) } else { Ok(()) };
            heard.and(self.answered(&message).map_or(Ok(()), |seq| self.answer(now, &message, seq)))
        });
        if let Err(why) = read {
            self.outputs.push_back(BackendOutput::Event(malformed(why, octets)));
        }
    }

    fn overrun(&mut self, now: Now, channel: Channel) {
        if channel == Channel::Key {
            self.lost(now);
        }
    }

    fn timeout(&mut self, now: Now) {
        let late: Vec<(u32, bool)> =
            self.in_flight.iter().filter(|(_, request)| request.deadline <= now.boot).map(|(seq, request)| (*seq, request.again)).collect();
        for seq in late.iter().filter(|(_, again)| *again).map(|(seq, _)| seq) {
            if let Some(InFlight { job, again, .. }) = self.in_flight.remove(seq) {
                self.result(now, job, ETIMEDOUT, again);
            }
        }
        if late.iter().any(|(_, again)| !again) {
            self.lost(now);
        }
        if let Some(table) = self.dump.as_ref().filter(|dump| dump.deadline <= now.boot).map(|dump| dump.table) {
            self.end_dump(now, Err(KernelError::refused(ETIMEDOUT, "", table.request())));
        }
        self.read_again(now);
        self.send_waiting(now);
    }

    fn poll(&mut self) -> BackendOutput {
        self.outputs.pop_front().unwrap_or_else(|| {
            let requests = self.in_flight.values().map(|request| request.deadline);
            let dump = self.dump.as_ref().map(|dump| dump.deadline);
            BackendOutput::Wait(requests.chain(dump).chain(self.busy.0).chain(self.dumps.resync.deadline()).min())
        })
    }

    fn capabilities(&self) -> &Capability {
        &self.capability
    }
}

/// The type of a dump's request and of its rows.
const fn kind_of(table: Table) -> Kind {
    match table {
        Table::Policies => Kind::SpdDump,
        Table::Sas => Kind::Dump,
    }
}
