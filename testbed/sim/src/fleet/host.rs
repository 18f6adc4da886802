//! One host of a fleet: a real engine over an in-memory kernel, its Mobile IPv6 daemon played by hand.
//! Invariant: after `settle` engine and kernel both wait; what left meanwhile is told in order.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use watari_crypto::Provider;
use watari_engine::{Agent, AgentOptions, Event, Input, Output};
use watari_kernel::mirror::{MigrateRequest, Mirror, Model};
use watari_kernel::{
    AddressEvent, AddressFlags, Backend, BackendOutput, Endpoints, KmAddress, MigrateStep, Now, PolicyEntry, PolicyKind, SaInfo,
};
use watari_policies::{Config, Direction, Mode, Protocol, Secret, SecretId};
use watari_sa::{Cause, KeyingEvent, Transmit, work};

use super::people::{HOME_AGENT, care_of, node_config, secret};

/// What left an engine.
#[derive(Clone, Debug)]
pub enum Told {
    /// A datagram to send.
    Send(Transmit),
    /// Something for people.
    Event(Event),
}

/// An engine with its kernel, and what was heard of it.
pub struct Host {
    agent: Agent,
    mirror: Mirror,
    provider: Arc<dyn Provider>,
    secrets: BTreeMap<SecretId, Secret>,
    inputs: VecDeque<Input>,
    /// Home address, once there is one.
    pub home: Option<IpAddr>,
    /// Where it is.
    pub care_of: IpAddr,
    /// IKE_SA_INIT exchanges begun.
    pub initiated: usize,
    /// SA pairs that came up.
    pub up: usize,
    /// Paths over which the peer answered after a move.
    pub confirmed: usize,
}

impl Host {
    /// A host that is nowhere yet.
    pub fn new(config: Config, secrets: BTreeMap<SecretId, Secret>, care_of: IpAddr, seed: [u8; 32], provider: Arc<dyn Provider>) -> Self {
        let mirror = Mirror::new(Model::default(), 0x1000);
        let home = config.remotes.first().and_then(|remote| remote.role.home_address());
        let agent = Agent::new(config, seed, Arc::clone(&provider), mirror.capabilities().clone(), AgentOptions::default());
        Self { agent, mirror, provider, secrets, inputs: VecDeque::new(), home, care_of, initiated: 0, up: 0, confirmed: 0 }
    }

    /// The mobile node with this number, which will come up on the first link; the lifetime of IKE SAs is in seconds.
    pub fn node(number: u32, ike_lifetime: u64, seed: [u8; 32], provider: Arc<dyn Provider>) -> Self {
        let secrets = BTreeMap::from([(SecretId(0), secret(number))]);
        Self::new(node_config(number, ike_lifetime), secrets, care_of(number, 1), seed, provider)
    }

    /// Gives the engine something at the next `settle`.
    pub fn take(&mut self, input: Input) {
        self.inputs.push_back(input);
    }

    /// An address comes (true) or goes.
    pub fn address(&mut self, address: IpAddr, present: bool) {
        self.mirror.address(AddressEvent { interface: 2, address, prefix_len: 64, present, flags: AddressFlags::default() });
    }

    /// The node leaves its link for another one, as its Mobile IPv6 daemon tells its kernel; returns its home address and where it was.
    ///
    /// # Errors
    /// There is no home address yet, or the kernel refused to migrate.
    pub fn moves_to(&mut self, new: IpAddr) -> Result<(IpAddr, IpAddr), String> {
        let home = self.home.ok_or("no home address when it moves")?;
        let old = std::mem::replace(&mut self.care_of, new);
        self.address(new, true);
        self.address(old, false);
        self.migrate(home, KmAddress { local: old, remote: HOME_AGENT }, KmAddress { local: new, remote: HOME_AGENT })?;
        Ok((home, old))
    }

    /// Moves every policy of a home address in this kernel.
    ///
    /// # Errors
    /// What the kernel refused, in words.
    pub fn migrate(&mut self, home: IpAddr, old: KmAddress, new: KmAddress) -> Result<(), String> {
        let requests: Vec<_> = self.mirror.policies_of(IpNet::from(home)).filter_map(|entry| migration(entry, old, new)).collect();
        let mut refused = Ok(());
        for request in requests {
            let done = self.mirror.migrate(&request);
            refused = done.map_err(|error| format!("{} {}: {error}", request.direction, request.selector)).and(refused);
        }
        refused
    }

    /// SAs and states of its kernel.
    pub fn sas(&self) -> Vec<SaInfo> {
        self.mirror.sas()
    }

    /// Boot time of the engine's next deadline.
    pub fn deadline(&self) -> Option<Duration> {
        self.agent.deadline().map(|deadline| deadline.at)
    }

    /// Lets kernel and engine talk until both wait.
    pub fn settle(&mut self, now: Now) -> Vec<Told> {
        let mut told = Vec::new();
        loop {
            // What the kernel would do at a time of its own, such as end a reserved SPI, is hours away or too late to matter here.
            while !self.mirror.is_quiet() {
                match self.mirror.poll() {
                    BackendOutput::Event(event) => self.inputs.push_back(Input::Kernel(event)),
                    BackendOutput::Done(id, result) => self.inputs.push_back(Input::Done(id, result)),
                    BackendOutput::Send(..) | BackendOutput::Wait(_) => {}
                }
            }
            let Some(input) = self.inputs.pop_front() else { return told };
            self.agent.handle(now, input);
            self.drain(now, &mut told);
        }
    }

    fn drain(&mut self, now: Now, told: &mut Vec<Told>) {
        loop {
            match self.agent.poll() {
                Output::Transmit(transmit) => told.push(Told::Send(transmit)),
                Output::Kernel(id, request) => self.mirror.submit(now, id, request),
                Output::Work(id, work) => {
                    let done = work::perform(self.provider.as_ref(), &self.secrets, work);
                    self.inputs.push_back(Input::WorkDone(id, done));
                }
                Output::Event(event) => {
                    self.note(&event);
                    told.push(Told::Event(event));
                }
                Output::Listen(_) | Output::Reply(..) => {}
                Output::Wait(_) => return,
            }
        }
    }

    fn note(&mut self, event: &Event) {
        let count = match event {
            Event::Keying(KeyingEvent::InitSent { .. }) => &mut self.initiated,
            Event::Keying(KeyingEvent::ChildUp(_)) => &mut self.up,
            Event::Keying(KeyingEvent::PathConfirmed { .. }) => &mut self.confirmed,
            _ => return,
        };
        *count = count.saturating_add(1);
    }
}

/// Whether an event tells of something that no fleet that moves well sees. A home address is a matter of its own.
pub fn is_fault(event: &Event) -> bool {
    match event {
        // The end of one that was rekeyed.
        Event::Keying(KeyingEvent::IkeDown { cause, .. }) => ![Cause::REPLACED, Cause::PEER_CLOSED].contains(cause),
        Event::Keying(KeyingEvent::ChildDown { .. } | KeyingEvent::WantFailed { .. }) | Event::Recreated(_) => true,
        Event::HomeAddress { held, .. } => !held,
        Event::Notice { cause, .. } => *cause != Cause::UNEXPECTED,
        _ => false,
    }
}

/// What a Mobile IPv6 daemon asks the kernel for, so that this policy and its SAs follow from `old` to `new`, both as the kernel's own
/// host sees them. Nothing if the policy protects nothing.
fn migration(entry: &PolicyEntry, old: KmAddress, new: KmAddress) -> Option<MigrateRequest> {
    let ends = |addresses: KmAddress| {
        let out = Endpoints { src: addresses.local, dst: addresses.remote };
        if entry.direction == Direction::Out { out } else { out.reversed() }
    };
    let template = entry.templates.first().filter(|_| entry.kind == PolicyKind::Main)?;
    let old = if template.mode == Mode::Tunnel { ends(old) } else { template.endpoints };
    let step = MigrateStep { protocol: Protocol::Esp, mode: template.mode, reqid: template.reqid, old, new: ends(new) };
    Some(MigrateRequest { selector: entry.selector, direction: entry.direction, kind: entry.kind, steps: vec![step], kmaddress: Some(new) })
}
