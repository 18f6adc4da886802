//! An in-memory kernel that behaves like measured Linux XFRM: the embedded default and the simulator's kernel.
//! It answers requests as a `Backend` without bytes, lets the Mobile IPv6 daemon in by a side door, and moves packets.
//! Invariant: what it tells and drops is what Linux 6.1 (or, by a switch, 6.12) tells and drops in the same case.

pub mod acts;
pub mod counters;
mod input;
mod kame;
mod migrate;
mod output;
pub mod packet;
mod policies;
mod sad;
mod states;

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use watari_policies::{Direction, Mode, Protocol, Reqid, Selector};

pub use counters::{Counter, Counters};
pub use input::Arrival;
pub use kame::Rebound;
pub use migrate::MigrateRequest;
pub use output::Departure;
pub use packet::{Body, Esp, Inner, KeyDigest, Packet, Upper};
pub use states::{HAO, MobilityState, ROUTE2};

use crate::{
    AddressEvent, AddressFlags, Backend, BackendOutput, Capability, Channel, Endpoints, Expire, KernelError, KernelEvent, KernelReply,
    KernelRequest, Now, PolicyEntry, PolicyKind, RequestId, SaId, SaInfo, SaParameters, Spi,
};
use policies::Policies;
use sad::States;
use states::{Standing, State, ip_protocol};

/// How long an unanswered ACQUIRE or a reserved SPI lives (net.core.xfrm_acq_expires).
pub const LARVAL_LIFETIME: Duration = Duration::from_secs(30);

/// errno ENOENT: no such policy.
pub const ENOENT: i32 = 2;
/// errno EEXIST: that SA stands already.
pub const EEXIST: i32 = 17;
/// errno EINVAL: the request makes no sense.
pub const EINVAL: i32 = 22;
/// errno ENODATA: nothing fits the end points or reqid.
pub const ENODATA: i32 = 61;

/// Which kernel the mirror is like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Model {
    /// Linux 6.1: an inbound MH type is read only behind exactly one extension header.
    #[default]
    Linux6_1,
    /// Linux 6.12: an inbound MH type is never read, and MIGRATE cannot find policies with MH or ICMPv6 types.
    Linux6_12,
}

impl Model {
    /// Whether the MH type of an inbound packet is read at all.
    pub const fn reads_inbound_mh_type(self) -> bool {
        matches!(self, Self::Linux6_1)
    }
}

/// The in-memory kernel of one host.
#[derive(Debug)]
pub struct Mirror {
    model: Model,
    capability: Capability,
    policies: Policies,
    states: States,
    addresses: BTreeMap<IpAddr, AddressFlags>,
    counters: Counters,
    outputs: VecDeque<BackendOutput>,
    listening: bool,
    acquire_sequence: u32,
    next_spi: u32,
    compares_outer_source: bool,
}

impl Mirror {
    /// A kernel with empty tables; SPIs are given out upwards from `first_spi`.
    pub fn new(model: Model, first_spi: u32) -> Self {
        Self {
            model,
            capability: Capability { inbound_mh_type: Some(model.reads_inbound_mh_type()), ..Capability::default() },
            policies: Policies::default(),
            states: States::default(),
            addresses: BTreeMap::new(),
            counters: Counters::default(),
            outputs: VecDeque::new(),
            listening: true,
            acquire_sequence: 0,
            next_spi: first_spi.max(0x100),
            compares_outer_source: false,
        }
    }

    /// From now on a packet in a tunnel is dropped whose outer source is not that of its SA, as RFC 4877 5 warns of. Linux does not do so.
    pub const fn compare_outer_source(&mut self) {
        self.compares_outer_source = true;
    }

    /// The key-management daemon is gone (false) or listens again (true): without it nothing is reported and nothing queued.
    pub fn listen(&mut self, listening: bool) {
        self.listening = listening;
        if !listening {
            self.outputs.clear();
        }
    }

    /// Drop counters since the start.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Whether there is nothing to take with `poll` but a time.
    pub fn is_quiet(&self) -> bool {
        self.outputs.is_empty()
    }

    /// Every SA and state, oldest first.
    pub fn sas(&self) -> Vec<SaInfo> {
        self.states.iter().map(State::info).collect()
    }

    /// Every policy, in the order they were added.
    pub fn policies(&self) -> impl Iterator<Item = &PolicyEntry> {
        self.policies.iter()
    }

    /// Every policy whose source or destination is exactly this prefix, in the order they were added.
    pub fn policies_of(&self, net: IpNet) -> impl Iterator<Item = &PolicyEntry> {
        self.policies.of(net)
    }

    /// Adds or replaces a policy, as any process may.
    pub fn set_policy(&mut self, policy: PolicyEntry) {
        let policy = self.policies.set(policy);
        self.report(KernelEvent::PolicyChanged(policy));
    }

    /// Removes a policy, as any process may.
    ///
    /// # Errors
    /// ENOENT if there is none.
    pub fn delete_policy(&mut self, selector: &Selector, direction: Direction, kind: PolicyKind) -> Result<(), KernelError> {
        let policy = self.policies.remove(selector, direction, kind).ok_or_else(|| error(ENOENT, "delete a policy"))?;
        self.report(KernelEvent::PolicyRemoved(policy));
        Ok(())
    }

    /// Adds a Mobile IPv6 state or gives the one with the same addresses a new care-of address.
    pub fn set_mobility_state(&mut self, now: Now, state: &MobilityState) {
        self.delete_mobility_state(state);
        self.states.insert(State::mobility(state, now));
    }

    /// Removes the Mobile IPv6 state with these addresses, if there is one.
    pub fn delete_mobility_state(&mut self, state: &MobilityState) {
        let old = self.states.between(state.endpoints).find(|(_, old)| old.ip_protocol == state.ip_protocol);
        if let Some((at, _)) = old {
            self.states.remove(at);
        }
    }

    /// Flushes every policy.
    pub fn flush_policies(&mut self) {
        self.policies.clear();
        self.report(KernelEvent::Flushed { policies: true });
    }

    /// Flushes every SA and state.
    pub fn flush_sas(&mut self) {
        self.states.clear();
        self.report(KernelEvent::Flushed { policies: false });
    }

    /// Removes one SA behind the key-management daemon's back.
    pub fn delete_sa(&mut self, id: SaId) {
        if let Some(at) = self.states.by_id(id) {
            self.states.remove(at);
            self.report(KernelEvent::SaRemoved(id));
        }
    }

    /// A local address came, changed or went.
    pub fn address(&mut self, event: AddressEvent) {
        if event.present {
            self.addresses.insert(event.address, event.flags);
        } else {
            self.addresses.remove(&event.address);
        }
        self.report(KernelEvent::Address(event));
    }

    /// Flags of a local address; `None` if it is not there.
    pub fn address_flags(&self, address: IpAddr) -> Option<AddressFlags> {
        self.addresses.get(&address).copied()
    }

    /// Every local address with its flags.
    pub fn addresses(&self) -> impl Iterator<Item = (IpAddr, AddressFlags)> {
        self.addresses.iter().map(|(address, flags)| (*address, *flags))
    }

    fn report(&mut self, event: KernelEvent) {
        if self.listening {
            self.outputs.push_back(BackendOutput::Event(event));
        }
    }

    fn expire(&mut self, state: &State, hard: bool) {
        let protocol = if state.ip_protocol == ip_protocol(Protocol::Ah) { Protocol::Ah } else { Protocol::Esp };
        let id = SaId { dst: state.dst, protocol, spi: state.spi };
        self.report(KernelEvent::Expire(Expire { id, src: state.src, reqid: state.reqid, hard }));
    }

    fn allocate(&mut self, now: Now, endpoints: Endpoints, protocol: Protocol, mode: Mode, reqid: Reqid) -> Spi {
        let taken = |spi: u32| self.states.by_id(SaId { dst: endpoints.dst, protocol, spi: Spi(spi) }).is_some();
        let mut spi = self.next_spi;
        while taken(spi) {
            spi = spi.checked_add(1).unwrap_or(0x100);
        }
        self.next_spi = spi.checked_add(1).unwrap_or(0x100);
        // Like Linux: the state of an unanswered ACQUIRE with the same parameters gets the SPI instead of a new one.
        let asked = |state: &State| {
            let same = state.mode == Some(mode) && state.reqid == reqid && state.ip_protocol == ip_protocol(protocol);
            state.is_larval() && state.spi == Spi(0) && same
        };
        let waiting = self.states.between(endpoints).find(|(_, state)| asked(state)).map(|(at, _)| at);
        if waiting.and_then(|at| self.states.change(at, |state| state.spi = Spi(spi))).is_none() {
            let mut state = State::larval(endpoints, protocol, mode, reqid, now.boot.saturating_add(LARVAL_LIFETIME), now);
            state.spi = Spi(spi);
            self.states.insert(state);
        }
        Spi(spi)
    }

    fn add_sa(&mut self, now: Now, parameters: &SaParameters, allocated: bool, sequence: u32) -> Result<(), KernelError> {
        match (self.states.by_id(parameters.id), allocated) {
            (Some(at), true) if self.states.get(at).is_some_and(State::is_larval) => {
                self.states.remove(at);
            }
            (Some(_), _) => return Err(error(EEXIST, "add an SA")),
            // A reserved SPI that has expired meanwhile: Linux says ESRCH and the back end adds the SA instead.
            (None, _) => {}
        }
        let answered = |state: &State| match state.standing {
            Standing::Larval { sequence: own, .. } => {
                (sequence != 0 && own == sequence)
                    || (state.src == parameters.src && state.reqid == parameters.reqid && state.mode == Some(parameters.mode))
            }
            Standing::Valid { .. } | Standing::Mobility { .. } => false,
        };
        let answered = self.states.without_spi(parameters.id).find(|(_, state)| answered(state)).map(|(at, _)| at);
        if let Some(at) = answered {
            self.states.remove(at);
        }
        self.states.insert(State::valid(parameters, now));
        Ok(())
    }

    fn answer(&mut self, now: Now, request: KernelRequest) -> Result<KernelReply, KernelError> {
        match request {
            KernelRequest::AllocateSpi { endpoints, protocol, mode, reqid } => {
                Ok(KernelReply::Spi(self.allocate(now, endpoints, protocol, mode, reqid)))
            }
            KernelRequest::AddSa { parameters, allocated, sequence } => {
                self.add_sa(now, &parameters, allocated, sequence)?;
                Ok(KernelReply::Done)
            }
            KernelRequest::DeleteSa(id) => {
                if let Some(at) = self.states.by_id(id) {
                    self.states.remove(at);
                }
                Ok(KernelReply::Done)
            }
            KernelRequest::RefuseAcquire { .. } => Ok(KernelReply::Done),
            KernelRequest::QuerySa(id) => Ok(KernelReply::Sa(self.states.by_id(id).and_then(|at| self.states.get(at)).map(State::info))),
            KernelRequest::DumpSas => Ok(KernelReply::Sas(self.sas())),
            KernelRequest::SetPolicy(policy) => {
                self.set_policy(policy);
                Ok(KernelReply::Done)
            }
            KernelRequest::DeletePolicy { selector, direction, kind } => {
                if let Some(policy) = self.policies.remove(&selector, direction, kind) {
                    self.report(KernelEvent::PolicyRemoved(policy));
                }
                Ok(KernelReply::Done)
            }
            KernelRequest::DumpPolicies => Ok(KernelReply::Policies(self.policies.iter().cloned().collect())),
        }
    }
}

impl Backend for Mirror {
    fn submit(&mut self, now: Now, id: RequestId, request: KernelRequest) {
        self.timeout(now);
        let result = self.answer(now, request);
        if self.listening {
            self.outputs.push_back(BackendOutput::Done(id, result));
        }
    }

    fn received(&mut self, _now: Now, _channel: Channel, _octets: &[u8]) {}

    fn overrun(&mut self, _now: Now, _channel: Channel) {
        self.outputs.retain(|output| !matches!(output, BackendOutput::Event(_)));
        let event = KernelEvent::Resynchronised { policies: self.policies.iter().cloned().collect(), sas: self.sas() };
        self.report(event);
    }

    fn timeout(&mut self, now: Now) {
        while let Some((at, hard)) = self.states.due(now.boot) {
            let state = if hard {
                self.states.remove(at)
            } else {
                self.states.change(at, |state| {
                    if let Standing::Valid { warned, .. } = &mut state.standing {
                        *warned = true;
                    }
                    state.clone()
                })
            };
            if let Some(state) = state {
                self.expire(&state, hard);
            }
        }
    }

    fn poll(&mut self) -> BackendOutput {
        self.outputs.pop_front().unwrap_or_else(|| BackendOutput::Wait(self.states.next_limit()))
    }

    fn capabilities(&self) -> &Capability {
        &self.capability
    }
}

fn error(errno: i32, request: &'static str) -> KernelError {
    let text = match errno {
        ENOENT => "No such file or directory",
        EEXIST => "File exists",
        EINVAL => "Invalid argument",
        ENODATA => "No data available",
        _ => "",
    };
    KernelError { errno, text: text.to_owned(), request }
}

#[cfg(test)]
mod tests;
