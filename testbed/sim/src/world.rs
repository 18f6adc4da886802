//! Hosts, links and virtual time: runs one scenario with one seed.
//! Invariant: events are taken in order of time, then of creation; nothing else decides an order, so that a run can be repeated.

mod access;
mod agents;
mod attempts;
mod bootstrap;
mod elsewhere;
mod home_agents;
mod host;
mod judgement;
mod key;
mod mobility;
mod moves;
mod network;
mod pings;
mod verdict;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use watari_crypto::Provider;
use watari_kernel::Now;
use watari_kernel::mirror::Model;
use watari_sa::{Rng, WorkDone, WorkId};

use crate::home_agents::SECOND;
use crate::report::Report;
use crate::scenario::{Action, BOOT, CN, HA, Link, Rekeyed, Scenario, Step};
use crate::signalling;
use crate::timeline::{Happening, Line};
use attempts::Attempt;
use host::{Host, Role};
pub use mobility::forged_update;
use moves::Track;
use network::Wire;
use pings::{Flow, Ping};

/// An IKE datagram as it was handed to a link, for a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IkeDatagram {
    /// Virtual time.
    pub at: Duration,
    /// Source address and port.
    pub src: std::net::SocketAddr,
    /// Destination address and port.
    pub dst: std::net::SocketAddr,
    /// UDP payload.
    pub octets: Vec<u8>,
}

/// How to run, apart from scenario and seed.
#[derive(Clone)]
pub struct Setting {
    /// Cryptography: real, or fake for speed.
    pub provider: Arc<dyn Provider>,
    /// Which kernel the mirrors are like.
    pub model: Model,
}

/// Something that will happen at a known time.
enum Event {
    Step(usize),
    /// A wire item reaches the router.
    Router(Wire),
    /// A wire item reaches a link.
    Arrive(Link, Wire),
    /// Work is done; for the agent of this epoch.
    Work(usize, u32, WorkId, Box<WorkDone>),
    /// A mobile node comes up on a link, unless it has moved since.
    Attach(usize, Link, u32),
    /// Duplicate address detection is over, unless it has moved since.
    Dad(usize, Link, u32),
    /// The next ping of a flow.
    Ping(usize),
    /// A mobile node leaves its link.
    Leave(usize, Link),
    StartAgent(usize),
    StartHost(usize),
}

/// A running scenario.
pub struct World<'a> {
    scenario: &'a Scenario,
    setting: Setting,
    seed: u64,
    stopwatch: &'a mut dyn FnMut() -> Duration,
    now: Duration,
    queue: BTreeMap<(Duration, u64), Event>,
    created: u64,
    rng: Rng,
    hosts: Vec<Host>,
    tracks: Vec<Track>,
    flows: Vec<Flow>,
    pings: Vec<Ping>,
    datagrams: Vec<IkeDatagram>,
    attempts: Vec<Attempt>,
    keys: Vec<String>,
    lines: Vec<Line>,
    cleartext: u32,
    updates_on_links: u32,
    /// IKE datagrams that links lost.
    ike_lost: u32,
    /// Movements that an agent did not believe, and those that the peer's answer refuted.
    doubts: (u32, u32),
    /// Binding updates that came to the home agent through a tunnel SA from another address than the SA had, which follows them.
    elsewhere: Vec<(watari_kernel::Spi, std::net::IpAddr)>,
    /// Child SAs that ended without successor, in words.
    lost: Vec<String>,
    reasons: Vec<String>,
}

/// Wall time at the start of every run.
const EPOCH: Duration = Duration::from_secs(1_795_000_000);
/// More turns than this at one moment mean that something spins.
const MANY_TURNS: u32 = 20_000;

impl<'a> World<'a> {
    /// A world before anything happens. The stopwatch reads wall time; it only measures how long the agent thinks.
    pub fn new(scenario: &'a Scenario, seed: u64, setting: Setting, stopwatch: &'a mut dyn FnMut() -> Duration) -> Self {
        let mut world = Self {
            scenario,
            setting,
            seed,
            stopwatch,
            now: Duration::ZERO,
            queue: BTreeMap::new(),
            created: 0,
            rng: Rng::new(seed_octets(seed, 0)),
            hosts: Vec::new(),
            tracks: Vec::new(),
            flows: Vec::new(),
            pings: Vec::new(),
            datagrams: Vec::new(),
            attempts: Vec::new(),
            keys: Vec::new(),
            lines: Vec::new(),
            cleartext: 0,
            updates_on_links: 0,
            ike_lost: 0,
            doubts: (0, 0),
            elsewhere: Vec::new(),
            lost: Vec::new(),
            reasons: Vec::new(),
        };
        world.hosts.push(Host::new(HA, Role::HomeAgent));
        world.hosts.push(Host::new(CN, Role::Correspondent));
        for plan in &scenario.mobile_nodes {
            world.hosts.push(Host::new(plan.name, Role::Mobile(plan.clone())));
        }
        world.hosts.extend(scenario.second_home_agent.map(|_| Host::new(SECOND, Role::HomeAgent)));
        for host in 0..world.hosts.len() {
            world.boot(host);
        }
        for (index, step) in scenario.steps.iter().enumerate() {
            world.schedule(step.at, Event::Step(index));
        }
        world
    }

    /// Runs to the end of the scenario and judges.
    pub fn run(&mut self) -> Report {
        let mut turns = 0;
        while let Some(next) = self.next_time().filter(|next| *next <= self.scenario.duration) {
            turns = if next > self.now { 0 } else { turns + 1 };
            if turns > MANY_TURNS {
                self.reasons.push(format!("something spins at {:?}", self.now));
                break;
            }
            self.now = self.now.max(next);
            let due = self.queue.first_key_value().is_some_and(|((at, _), _)| *at <= self.now);
            if due && let Some((_, event)) = self.queue.pop_first() {
                self.take(event);
            }
            for host in 0..self.hosts.len() {
                self.tick(host);
            }
        }
        self.now = self.scenario.duration;
        self.judge()
    }

    /// Every IKE datagram handed to a link, in order.
    pub fn ike_datagrams(&self) -> &[IkeDatagram] {
        &self.datagrams
    }

    /// Lines of tshark's IKEv2 decryption table.
    pub fn keys(&self) -> &[String] {
        &self.keys
    }

    /// What happened, for people.
    pub fn timeline(&self) -> &[Line] {
        &self.lines
    }

    /// Drop counters of every kernel that is not zero, in words.
    pub fn counters(&self) -> Vec<String> {
        let of = |host: &Host| {
            host.mirror.counters().iter().map(|(counter, value)| format!("{} {counter} {value}", host.name)).collect::<Vec<_>>()
        };
        self.hosts.iter().flat_map(of).collect()
    }

    /// Child SAs that ended without successor, in words.
    pub fn lost(&self) -> &[String] {
        &self.lost
    }

    /// Every SA and state of every kernel, with the name of its host.
    pub fn sas(&self) -> impl Iterator<Item = (&str, watari_kernel::SaInfo)> {
        self.hosts.iter().flat_map(|host| host.mirror.sas().into_iter().map(|sa| (host.name, sa)))
    }

    /// Every policy of the kernel of a host.
    pub fn policies(&self, name: &str) -> Vec<watari_kernel::PolicyEntry> {
        self.hosts.iter().find(|host| host.name == name).map_or_else(Vec::new, |host| host.mirror.policies().cloned().collect())
    }

    fn schedule(&mut self, at: Duration, event: Event) {
        self.created = self.created.saturating_add(1);
        self.queue.insert((at.max(self.now), self.created), event);
    }

    fn after(&mut self, wait: Duration, event: Event) {
        self.schedule(self.now.saturating_add(wait), event);
    }

    fn clock(&self) -> Now {
        Now { boot: self.now, wall: EPOCH.saturating_add(self.now) }
    }

    fn next_time(&self) -> Option<Duration> {
        let queued = self.queue.first_key_value().map(|((at, _), _)| *at);
        self.hosts.iter().filter_map(Host::deadline).chain(queued).min()
    }

    fn say(&mut self, host: usize, what: Happening) {
        let name = self.hosts.get(host).map_or("", |host| host.name);
        self.lines.push(Line { at: self.now, host: name.to_owned(), what });
    }

    fn host_named(&self, name: &str) -> Option<usize> {
        self.hosts.iter().position(|host| host.name == name)
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Step(index) => {
                if let Some(Step { action, .. }) = self.scenario.steps.get(index).copied() {
                    self.act(action);
                }
            }
            Event::Router(wire) => self.route(wire),
            Event::Arrive(link, wire) => self.arrive(link, wire),
            Event::Work(host, epoch, id, done) => self.work_done(host, epoch, id, *done),
            Event::Attach(host, link, moves) => self.attach(host, link, moves),
            Event::Dad(host, link, moves) => self.address_usable(host, link, moves),
            Event::Ping(flow) => self.ping(flow),
            Event::Leave(host, to) => self.leave(host, to),
            Event::StartAgent(host) => self.start_agent(host),
            Event::StartHost(host) => self.boot(host),
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Move { node, to } => {
                if let Some(index) = self.host_named(node) {
                    if let Some(host) = self.hosts.get_mut(index) {
                        host.ambush = None;
                    }
                    self.leave(index, to);
                }
            }
            Action::MoveDuring { node, to, exchange } => {
                if let Some(host) = self.hosts.iter_mut().find(|host| host.name == node) {
                    host.ambush = Some((exchange, to));
                }
            }
            Action::Rekey { host, what } => self.rekey(host, what),
            Action::Ping { node, target, every } => self.start_flow(node, target, every),
            Action::ForgeUpdate { node } => self.forge_update(node),
            Action::Negotiate { node, policy } => self.negotiate(node, policy),
            Action::Duplicate { node } => self.duplicate(node),
            Action::Reload => self.reload(),
            Action::Redirect => self.redirect(),
            Action::Switch => self.send_away(),
            Action::RestartDaemon { host, down } => {
                if let Some(host) = self.host_named(host).filter(|host| self.hosts.get(*host).is_some_and(|host| host.agent.is_some())) {
                    self.say(host, Happening::DaemonKilled);
                    self.stop_agent(host);
                    self.after(down, Event::StartAgent(host));
                }
            }
            Action::RestartHost { host, down } => {
                if let Some(host) = self.host_named(host).filter(|host| self.hosts.get(*host).is_some_and(|host| host.up)) {
                    self.say(host, Happening::HostDown);
                    self.shut_down(host);
                    self.after(down, Event::StartHost(host));
                }
            }
        }
    }

    fn rekey(&mut self, name: &str, what: Rekeyed) {
        let Some(host) = self.host_named(name) else { return };
        let remotes: Vec<String> = match self.hosts.get(host).map(|host| &host.role) {
            Some(Role::Mobile(_)) => vec!["home-agent".to_owned()],
            _ => self.scenario.mobile_nodes.iter().map(|plan| plan.name.to_owned()).collect(),
        };
        for remote in remotes {
            let arguments = watari_engine::vici::Section::new().with("ike", remote);
            let arguments = match what {
                Rekeyed::Ike => arguments,
                Rekeyed::Child(protected) => arguments.with("child", protected.name()),
            };
            self.command(host, "rekey", arguments);
        }
        self.pump(host);
    }

    /// A host boots: its kernel is empty, its daemons start.
    fn boot(&mut self, host: usize) {
        let first_spi = self.rng.u32() & 0x3fff_ffff;
        let boots = self.hosts.get(host).map_or(0, |host| host.boots);
        if boots > 0 {
            self.say(host, Happening::HostUp);
        }
        let scenario = self.scenario;
        let model = self.setting.model;
        let Some(this) = self.hosts.get_mut(host) else { return };
        this.boot(scenario, model, first_spi);
        let home = match &this.role {
            Role::Mobile(plan) => Some(plan.boots_on),
            Role::HomeAgent | Role::Correspondent => None,
        };
        let link = this.last_link.or(home);
        let moves = this.moves;
        if !matches!(this.role, Role::Correspondent) {
            self.signal(host, signalling::Input::Start);
            self.start_agent(host);
        }
        if let Some(link) = link {
            self.after(BOOT.saturating_add(self.scenario.attach), Event::Attach(host, link, moves));
        }
    }
}

/// Thirty-two octets from a seed and the number of the generator that gets them.
fn seed_octets(seed: u64, number: u64) -> [u8; 32] {
    let mut octets = [0; 32];
    for (at, octet) in octets.iter_mut().enumerate() {
        let source = if at < 16 { seed.to_be_bytes() } else { number.to_be_bytes() };
        *octet = source.get(at % 8).copied().unwrap_or(0);
    }
    octets
}
