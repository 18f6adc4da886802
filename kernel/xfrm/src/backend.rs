//! The back end: sequence numbers, a bounded number of requests under way, dumps one at a time, and resynchronisation after lost events.
//! Invariant: every request submitted is answered by exactly one `Done`; events keep their order, also across a resynchronisation.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use neli::consts::nl::NlmF;
use watari_kernel::errno::{EEXIST, EINTR, ENOENT, ESRCH, ETIMEDOUT};
use watari_kernel::probe::conclude;
use watari_kernel::table::{Dump, Dumps, Owner, Table};
use watari_kernel::{Backend, BackendOutput, Capability, Channel, KernelError, KernelEvent, KernelReply, KernelRequest, Now, RequestId};

use crate::event::{self, Notice};
use crate::layout::{UserPolicyInfo, UserSaInfo};
use crate::message::{Incoming, Outgoing, XfrmMsg};
use crate::probe::{SCRATCH, Step};
use crate::{convert, encode};

/// Requests on their way at once: their acknowledgements must fit into the socket's receive buffer.
const WINDOW: usize = 128;
/// The kernel answers while it is being written to; an answer later than this was lost.
const PATIENCE: Duration = Duration::from_secs(10);
/// A dump during which the table changes is started again this many times.
const DUMP_TRIES: u32 = 16;
const LOGGED_OCTETS: usize = 512;

/// What an answer is for.
#[derive(Debug)]
enum Job {
    /// A caller's request. `again` once it had to be sent twice.
    Request { id: RequestId, request: KernelRequest, again: bool },
    /// A step of the probe.
    Probe { id: RequestId, step: Step, failure: Option<KernelError> },
}

#[derive(Debug)]
struct InFlight {
    job: Job,
    deadline: Duration,
}

/// A dump under way.
#[derive(Debug)]
struct Attempt {
    dump: Dump,
    /// How often it was started again.
    tries: u32,
    /// The table changed meanwhile (NLM_F_DUMP_INTR).
    interrupted: bool,
}

/// NETLINK_XFRM as a `Backend`: requests on one socket (`Channel::XfrmRequest`), multicast messages on another (`Channel::XfrmEvent`),
/// which the runner has joined to [`crate::GROUPS`].
#[derive(Debug)]
pub struct XfrmBackend {
    port: u32,
    next_seq: u32,
    waiting: VecDeque<Job>,
    in_flight: BTreeMap<u32, InFlight>,
    dumps: Dumps,
    dump: Option<Attempt>,
    release: String,
    capability: Capability,
    outputs: VecDeque<BackendOutput>,
}

impl XfrmBackend {
    /// A back end whose request socket has the netlink port `port` (our own removals are told from others by it).
    #[must_use]
    pub fn new(port: u32) -> Self {
        Self {
            port,
            next_seq: 1,
            waiting: VecDeque::new(),
            in_flight: BTreeMap::new(),
            dumps: Dumps::default(),
            dump: None,
            release: String::new(),
            capability: Capability::default(),
            outputs: VecDeque::new(),
        }
    }

    /// Finds out what this kernel can do; answered by `Done(id, Ok(KernelReply::Done))`, after which `capabilities` tells. Adds a
    /// policy for documentation addresses and removes it again. `release` is what `uname -r` prints, empty if unknown.
    pub fn probe(&mut self, now: Now, id: RequestId, release: &str) {
        release.clone_into(&mut self.release);
        self.waiting.push_back(Job::Probe { id, step: Step::Add, failure: None });
        self.send_waiting(now);
    }

    /// Says that the MIGRATE group could not be joined.
    pub fn migrate_is_not_heard(&mut self) {
        self.capability.migrate = false;
    }

    fn sequence(&mut self) -> u32 {
        let seq = self.next_seq;
        // 0 is the number of the kernel's own messages.
        self.next_seq = seq.checked_add(1).unwrap_or(1);
        seq
    }

    fn send_waiting(&mut self, now: Now) {
        while self.in_flight.len() < WINDOW
            && let Some(job) = self.waiting.pop_front()
        {
            self.send(now, job);
        }
        self.start_dump(now);
    }

    fn send(&mut self, now: Now, job: Job) {
        let seq = self.sequence();
        match job.outgoing().and_then(|outgoing| outgoing.into_octets(seq, self.port)) {
            Ok(octets) => {
                self.in_flight.insert(seq, InFlight { job, deadline: now.boot.saturating_add(PATIENCE) });
                self.outputs.push_back(BackendOutput::Send(Channel::XfrmRequest, octets));
            }
            Err(why) => {
                let error = KernelError { errno: 0, text: why, request: job.name() };
                self.finish(job.id(), Err(error));
            }
        }
    }

    fn start_dump(&mut self, now: Now) {
        if self.dump.is_some() {
            return;
        }
        if let Some((owner, table)) = self.dumps.take_next() {
            self.send_dump(now, owner, table, 0);
        }
    }

    fn send_dump(&mut self, now: Now, owner: Owner, table: Table, tries: u32) {
        let seq = self.sequence();
        let outgoing = match table {
            Table::Policies => encode::dump_policies(),
            Table::Sas => encode::dump_sas(),
        };
        let dump = Dump::new(seq, owner, table, now.boot.saturating_add(PATIENCE));
        self.dump = Some(Attempt { dump, tries, interrupted: false });
        match outgoing.into_octets(seq, self.port) {
            Ok(octets) => self.outputs.push_back(BackendOutput::Send(Channel::XfrmRequest, octets)),
            Err(why) => self.end_dump(now, Err(KernelError { errno: 0, text: why, request: table.request() })),
        }
    }

    fn finish(&mut self, id: RequestId, result: Result<KernelReply, KernelError>) {
        self.outputs.push_back(BackendOutput::Done(id, result));
    }

    fn answer(&mut self, now: Now, message: &Incoming<'_>) -> Result<(), String> {
        if self.dump.as_ref().is_some_and(|attempt| attempt.dump.seq == message.seq) {
            return self.dump_part(now, message);
        }
        if !self.in_flight.contains_key(&message.seq) {
            return Ok(());
        }
        match message.kind {
            XfrmMsg::Error => {
                let (errno, text) = message.result()?;
                self.result(now, message.seq, errno, &text);
            }
            XfrmMsg::NewSa => {
                let (raw, attributes) = message.fixed::<UserSaInfo>()?;
                let sa = convert::sa(&raw, &attributes)?;
                if let Some(InFlight { job, .. }) = self.in_flight.remove(&message.seq) {
                    let reply = match &job {
                        Job::Request { request: KernelRequest::AllocateSpi { .. }, .. } => KernelReply::Spi(sa.spi),
                        _ => KernelReply::Sa(Some(sa)),
                    };
                    self.finish(job.id(), Ok(reply));
                }
            }
            _ => {}
        }
        self.send_waiting(now);
        Ok(())
    }

    /// A request got its acknowledgement (errno 0) or was refused.
    fn result(&mut self, now: Now, seq: u32, errno: i32, text: &str) {
        let Some(InFlight { job, .. }) = self.in_flight.remove(&seq) else { return };
        let error = KernelError::refused(errno, text, job.name());
        match job {
            Job::Request { id, mut request, again } => match (&mut request, errno) {
                // The larval state lives 30 s; if it is gone, the SA can still be added.
                (KernelRequest::AddSa { allocated: allocated @ true, .. }, ESRCH) => {
                    *allocated = false;
                    self.send(now, Job::Request { id, request, again });
                }
                (KernelRequest::QuerySa(_), ESRCH) => self.finish(id, Ok(KernelReply::Sa(None))),
                (_, 0) | (KernelRequest::DeleteSa(_), ESRCH) | (KernelRequest::DeletePolicy { .. }, ENOENT) => {
                    self.finish(id, Ok(KernelReply::Done))
                }
                (KernelRequest::AddSa { .. }, EEXIST) if again => self.finish(id, Ok(KernelReply::Done)),
                _ => self.finish(id, Err(error)),
            },
            Job::Probe { id, step: Step::Add, .. } if errno != 0 => self.finish(id, Err(error)),
            Job::Probe { id, step: Step::Add, failure } => self.send(now, Job::Probe { id, step: Step::Migrate, failure }),
            Job::Probe { id, step: Step::Migrate, .. } => {
                conclude(&mut self.capability, errno, &self.release);
                let failure = self.capability.inbound_mh_type.is_none().then_some(error);
                self.send(now, Job::Probe { id, step: Step::Remove, failure });
            }
            Job::Probe { id, step: Step::Remove, failure } => {
                let removal = if matches!(errno, 0 | ENOENT) { Ok(KernelReply::Done) } else { Err(error) };
                self.finish(id, failure.map_or(removal, Err));
            }
        }
    }

    fn dump_part(&mut self, now: Now, message: &Incoming<'_>) -> Result<(), String> {
        let Some(Attempt { dump, interrupted, .. }) = self.dump.as_mut() else { return Ok(()) };
        dump.deadline = now.boot.saturating_add(PATIENCE);
        *interrupted |= message.has(NlmF::DUMP_INTR);
        match message.kind {
            XfrmMsg::NewSa => {
                let (raw, attributes) = message.fixed::<UserSaInfo>()?;
                dump.sas.push(convert::sa(&raw, &attributes)?);
            }
            XfrmMsg::NewPolicy => {
                let (raw, attributes) = message.fixed::<UserPolicyInfo>()?;
                let scratch = SCRATCH.selector();
                dump.policies.extend(convert::policy(&raw, &attributes)?.filter(|policy| policy.selector != scratch));
            }
            XfrmMsg::Done | XfrmMsg::Error => self.dump_result(now, message),
            _ => {}
        }
        Ok(())
    }

    fn dump_result(&mut self, now: Now, message: &Incoming<'_>) {
        let Some(attempt) = self.dump.take() else { return };
        let Attempt { dump, tries, interrupted } = &attempt;
        // Old kernels end a dump without a result code.
        let (errno, text) = message.result().unwrap_or_default();
        let interrupted = *interrupted || errno == EINTR;
        if interrupted && *tries < DUMP_TRIES {
            self.send_dump(now, dump.owner, dump.table, tries.saturating_add(1));
        } else {
            let request = dump.table.request();
            let result = match errno {
                0 if interrupted => Err(KernelError::refused(EINTR, "", request)),
                errno if errno > 0 => Err(KernelError::refused(errno, &text, request)),
                _ => Ok(()),
            };
            self.dump = Some(attempt);
            self.end_dump(now, result);
        }
    }

    fn end_dump(&mut self, now: Now, result: Result<(), KernelError>) {
        let Some(Attempt { dump, .. }) = self.dump.take() else { return };
        let (owner, rows) = dump.into_rows();
        self.outputs.extend(self.dumps.ended(now.boot, owner, result.map(|()| rows)));
        self.start_dump(now);
    }

    /// Starts a resynchronisation if one is wanted and none is running.
    fn read_again(&mut self, now: Now) {
        if self.dumps.begin(now.boot) {
            self.start_dump(now);
        }
    }

    fn multicast(&mut self, now: Now, message: &Incoming<'_>) -> Result<(), String> {
        match event::read(message, self.port)? {
            Notice::Event(KernelEvent::PolicyChanged(policy) | KernelEvent::PolicyRemoved(policy))
                if policy.selector == SCRATCH.selector() => {}
            Notice::Event(event) => self.tell(event),
            Notice::Resynchronise => {
                self.dumps.resync.want();
                self.read_again(now);
            }
            Notice::Nothing => {}
        }
        Ok(())
    }

    fn tell(&mut self, event: KernelEvent) {
        if let Some(event) = self.dumps.resync.hold(event) {
            self.outputs.push_back(BackendOutput::Event(event));
        }
    }

    fn malformed(&mut self, channel: Channel, why: String, octets: &[u8]) {
        let octets = Incoming::loggable(octets, LOGGED_OCTETS);
        self.outputs.push_back(BackendOutput::Event(KernelEvent::Malformed { channel, why, octets }));
    }

    /// Answers were lost: what was under way is sent again under new numbers, so that a late answer finds nobody.
    fn send_again(&mut self, now: Now) {
        for InFlight { job, .. } in std::mem::take(&mut self.in_flight).into_values() {
            let job = match job {
                Job::Request { id, request, .. } => Job::Request { id, request, again: true },
                probe @ Job::Probe { .. } => probe,
            };
            self.send(now, job);
        }
        // The kernel answers EBUSY to a second dump beside the first, and never loses parts of one: let it end, then read again.
        if let Some(attempt) = self.dump.as_mut() {
            attempt.interrupted = true;
        }
    }
}

impl Backend for XfrmBackend {
    fn submit(&mut self, now: Now, id: RequestId, request: KernelRequest) {
        match request {
            KernelRequest::DumpSas => self.dumps.want(Owner::Caller(id), Table::Sas),
            KernelRequest::DumpPolicies => self.dumps.want(Owner::Caller(id), Table::Policies),
            // There is no such message.
            KernelRequest::RefuseAcquire { .. } => self.finish(id, Ok(KernelReply::Done)),
            request => self.waiting.push_back(Job::Request { id, request, again: false }),
        }
        self.send_waiting(now);
    }

    fn received(&mut self, now: Now, channel: Channel, octets: &[u8]) {
        let mut rest = octets;
        while !rest.is_empty() {
            let (message, behind) = match Incoming::first(rest) {
                Ok(taken) => taken,
                Err(why) => return self.malformed(channel, why, rest),
            };
            rest = behind;
            let read = match channel {
                Channel::XfrmRequest => self.answer(now, &message),
                Channel::XfrmEvent => self.multicast(now, &message),
                Channel::Key | Channel::Route => return,
            };
            if let Err(why) = read {
                self.malformed(channel, why, message.octets);
            }
        }
    }

    fn overrun(&mut self, now: Now, channel: Channel) {
        match channel {
            Channel::XfrmRequest => self.send_again(now),
            Channel::XfrmEvent => {
                self.dumps.resync.lost();
                self.read_again(now);
            }
            Channel::Key | Channel::Route => {}
        }
    }

    fn timeout(&mut self, now: Now) {
        let late: Vec<u32> = self.in_flight.iter().filter(|(_, request)| request.deadline <= now.boot).map(|(seq, _)| *seq).collect();
        for seq in late {
            if let Some(InFlight { job, .. }) = self.in_flight.remove(&seq) {
                self.finish(job.id(), Err(KernelError::refused(ETIMEDOUT, "", job.name())));
            }
        }
        if let Some(table) = self.dump.as_ref().filter(|attempt| attempt.dump.deadline <= now.boot).map(|attempt| attempt.dump.table) {
            self.end_dump(now, Err(KernelError::refused(ETIMEDOUT, "", table.request())));
        }
        self.read_again(now);
        self.send_waiting(now);
    }

    fn poll(&mut self) -> BackendOutput {
        self.outputs.pop_front().unwrap_or_else(|| {
            let requests = self.in_flight.values().map(|request| request.deadline);
            let dump = self.dump.as_ref().map(|attempt| attempt.dump.deadline);
            BackendOutput::Wait(requests.chain(dump).chain(self.dumps.resync.deadline()).min())
        })
    }

    fn capabilities(&self) -> &Capability {
        &self.capability
    }
}

impl Job {
    const fn id(&self) -> RequestId {
        match self {
            Self::Request { id, .. } | Self::Probe { id, .. } => *id,
        }
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Probe { .. } => "probe what it can do",
            Self::Request { request, .. } => request.in_words(),
        }
    }

    fn outgoing(&self) -> Result<Outgoing, String> {
        let request = match self {
            Self::Request { request, .. } => request,
            Self::Probe { step, .. } => return step.request(),
        };
        match request {
            KernelRequest::AllocateSpi { endpoints, protocol, mode, reqid } => encode::allocate_spi(*endpoints, *protocol, *mode, *reqid),
            KernelRequest::AddSa { parameters, allocated, sequence } => encode::add_sa(parameters, *allocated, *sequence),
            KernelRequest::DeleteSa(id) => Ok(encode::delete_sa(id)),
            KernelRequest::QuerySa(id) => Ok(encode::query_sa(id)),
            KernelRequest::SetPolicy(policy) => encode::set_policy(policy),
            KernelRequest::DeletePolicy { selector, direction, kind } => encode::delete_policy(selector, *direction, *kind),
            KernelRequest::RefuseAcquire { .. } => Err("netlink XFRM has no refusal of an ACQUIRE".to_owned()),
            KernelRequest::DumpSas => Ok(encode::dump_sas()),
            KernelRequest::DumpPolicies => Ok(encode::dump_policies()),
        }
    }
}
