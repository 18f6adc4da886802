//! Many mobile nodes of one home agent in one process: real engines over in-memory kernels, a switch with delay and loss, virtual time.
//! Lighter than `World`: the Mobile IPv6 daemons are played by hand. The same plan gives the same run.

mod host;
mod people;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use watari_crypto::FakeProvider;
use watari_engine::{Event, Input};
use watari_kernel::{KmAddress, Now, SaInfo};
use watari_policies::config::load;
use watari_policies::{Config, Mode, Secret, SecretId};
use watari_sa::{Datagram, KeyingEvent, Path};

pub use host::{Host, Told, is_fault};
pub use people::{HOME_AGENT, PAIRS, care_of, fixed_home, home_agent_file, name, nodes_file};

/// Boot time of every host when the run begins.
const BOOT: Duration = Duration::from_secs(1000);
/// One way through the switch, before jitter of as much again.
const DELAY: Duration = Duration::from_millis(20);
/// From the mobile node's move until its binding update is accepted.
const REGISTRATION: Duration = Duration::from_millis(150);
/// How long nodes come up one after another, and how long they have to settle before and after they move.
const ARRIVAL: Duration = Duration::from_secs(30);
const SETTLING: Duration = Duration::from_secs(60);
/// What is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Mobile nodes; every second one is assigned its home address.
    pub nodes: u32,
    /// Seed of all randomness.
    pub seed: u64,
    /// All nodes move within this time.
    pub within: Duration,
    /// Datagrams lost, in thousandths.
    pub loss: u32,
    /// Lifetime of IKE SAs in seconds: short ones are rekeyed while their nodes move.
    pub ike_lifetime: u64,
}

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// IKE_SA_INIT exchanges that were begun.
    pub handshakes: usize,
    /// SA pairs that came up at the home agent.
    pub pairs: usize,
    /// Home addresses that were assigned by the home agent.
    pub assigned: usize,
    /// IKE SAs that were replaced by a rekey, at the home agent.
    pub rekeyed: usize,
    /// Moves after which the peer answered on the new path.
    pub confirmed: usize,
    /// Datagrams sent, and how many of them were lost.
    pub datagrams: (usize, usize),
    /// Whatever should not have happened, the first few in words.
    pub faults: Vec<String>,
}

impl Outcome {
    /// Whether each of so many nodes made one handshake, kept its SA pairs, and was heard again after its move.
    pub fn is_sound(&self, nodes: u32) -> bool {
        let nodes = usize::try_from(nodes).unwrap_or(usize::MAX);
        let all = (self.handshakes, self.pairs, self.confirmed) == (nodes, PAIRS.saturating_mul(nodes), nodes);
        all && self.assigned == nodes / 2 && self.faults.is_empty()
    }
}

/// What happens at a time, to a host.
enum Happening {
    Starts,
    Moves,
    Registers { home: IpAddr, old: IpAddr },
    Arrives(Datagram),
}

/// The home agent, its nodes, and the switch between them.
struct Fleet<'a> {
    plan: Plan,
    now: Duration,
    hosts: Vec<Host>,
    queue: BTreeMap<(Duration, u64), (usize, Happening)>,
    /// Hosts by their next deadline.
    timers: BTreeSet<(Duration, usize)>,
    deadlines: Vec<Option<Duration>>,
    at: BTreeMap<IpAddr, usize>,
    sequence: u64,
    random: ChaCha8Rng,
    outcome: Outcome,
    stopwatch: &'a mut dyn FnMut() -> Duration,
    /// What the home agent's engine and kernel have taken, by the stopwatch.
    thought: Duration,
}

/// Runs a plan from the first handshake to the end of the last move.
///
/// # Errors
/// Why the configuration of the home agent does not load.
pub fn run(plan: Plan) -> Result<Outcome, String> {
    timed(plan, &mut || Duration::ZERO).map(|(outcome, _)| outcome)
}

/// The same with a stopwatch, which only measures: also what all moves together took at the home agent, its in-memory kernel included.
///
/// # Errors
/// As for `run`.
pub fn timed(plan: Plan, stopwatch: &mut dyn FnMut() -> Duration) -> Result<(Outcome, Duration), String> {
    let mut fleet = Fleet::new(plan, stopwatch)?;
    let mut order: Vec<usize> = (1..fleet.hosts.len()).collect();
    for last in (1..order.len()).rev() {
        let with = fleet.up_to(last.saturating_add(1));
        order.swap(last, with);
    }
    // The order in which nodes come has nothing to do with their order in the file.
    for node in order {
        let at = fleet.moment(Duration::ZERO, ARRIVAL);
        fleet.plan(at, node, Happening::Starts);
    }
    let moves = ARRIVAL.saturating_add(SETTLING);
    for node in 1..fleet.hosts.len() {
        let at = fleet.moment(moves, plan.within);
        fleet.plan(at, node, Happening::Moves);
    }
    fleet.until(moves);
    fleet.judge("before the moves");
    let before = fleet.thought;
    fleet.until(moves.saturating_add(plan.within).saturating_add(SETTLING));
    fleet.judge("after the moves");
    Ok((fleet.outcome, fleet.thought.saturating_sub(before)))
}

/// One block and one file serve all nodes.
fn home_agent(Plan { nodes, ike_lifetime, .. }: Plan) -> Result<(Config, BTreeMap<SecretId, Secret>), String> {
    let file = nodes_file(nodes);
    let source = move |_: &str| Ok(Secret::from(file.as_bytes()));
    let loaded =
        load(&home_agent_file("/nodes", "watari", ike_lifetime), "fleet.toml", &source).map_err(|complaints| complaints.to_string())?;
    Ok((loaded.config, loaded.secrets))
}

impl<'a> Fleet<'a> {
    fn new(plan: Plan, stopwatch: &'a mut dyn FnMut() -> Duration) -> Result<Self, String> {
        let mut fleet = Self {
            plan,
            now: Duration::ZERO,
            hosts: Vec::new(),
            queue: BTreeMap::new(),
            timers: BTreeSet::new(),
            deadlines: Vec::new(),
            at: BTreeMap::from([(HOME_AGENT, 0)]),
            sequence: 0,
            random: ChaCha8Rng::seed_from_u64(plan.seed),
            outcome: Outcome::default(),
            stopwatch,
            thought: Duration::ZERO,
        };
        let (config, secrets) = home_agent(plan)?;
        let seed = fleet.seed();
        fleet.hosts.push(Host::new(config, secrets, HOME_AGENT, seed, Arc::new(FakeProvider)));
        for node in 0..plan.nodes {
            let seed = fleet.seed();
            fleet.hosts.push(Host::node(node, plan.ike_lifetime, seed, Arc::new(FakeProvider)));
        }
        fleet.deadlines = vec![None; fleet.hosts.len()];
        fleet.address(0, HOME_AGENT, true);
        fleet.pump(0);
        Ok(fleet)
    }

    fn seed(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        self.random.fill_bytes(&mut seed);
        seed
    }

    fn up_to(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.random.next_u64().checked_rem(end).unwrap_or_default()).unwrap_or_default()
    }

    fn moment(&mut self, from: Duration, within: Duration) -> Duration {
        let micros = usize::try_from(within.as_micros()).unwrap_or(usize::MAX);
        from.saturating_add(Duration::from_micros(u64::try_from(self.up_to(micros)).unwrap_or_default()))
    }

    fn plan(&mut self, at: Duration, host: usize, what: Happening) {
        self.sequence = self.sequence.saturating_add(1);
        self.queue.insert((at, self.sequence), (host, what));
    }

    fn clock(&self) -> Now {
        Now { boot: BOOT.saturating_add(self.now), wall: Duration::from_secs(1_800_000_000).saturating_add(self.now) }
    }

    fn fault(&mut self, what: impl FnOnce() -> String) {
        if self.outcome.faults.len() < 10 {
            let at = self.now.as_secs_f64();
            self.outcome.faults.push(format!("{at:.3} s: {}", what()));
        }
    }

    /// Goes on until a moment.
    fn until(&mut self, end: Duration) {
        loop {
            let timer = self.timers.first().copied();
            let event = self.queue.first_key_value().map(|((at, _), _)| *at);
            let next = [timer.map(|(at, _)| at), event].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            if event == Some(next) {
                if let Some((_, (host, what))) = self.queue.pop_first() {
                    self.happen(host, what);
                }
            } else if let Some((_, host)) = timer {
                self.timeout(host);
            }
        }
        self.now = end;
    }

    fn timeout(&mut self, host: usize) {
        if let Some(this) = self.hosts.get_mut(host) {
            this.take(Input::Timeout);
        }
        self.pump(host);
    }

    fn happen(&mut self, host: usize, what: Happening) {
        match what {
            Happening::Starts => {
                let Some(care_of) = self.hosts.get(host).map(|host| host.care_of) else { return };
                self.at.insert(care_of, host);
                self.address(host, care_of, true);
            }
            Happening::Moves => self.moves(host),
            Happening::Registers { home, old } => {
                let remote = |remote| KmAddress { local: HOME_AGENT, remote };
                let Some(new) = self.hosts.get(host).map(|node| node.care_of) else { return };
                let done = self.hosts.first_mut().map_or(Ok(()), |home_agent| home_agent.migrate(home, remote(old), remote(new)));
                if let Err(why) = done {
                    self.fault(|| format!("the home agent cannot migrate {home}: {why}"));
                }
                self.pump(0);
            }
            Happening::Arrives(datagram) => {
                if let Some(this) = self.hosts.get_mut(host) {
                    this.take(Input::Datagram(datagram));
                }
            }
        }
        self.pump(host);
    }

    fn address(&mut self, host: usize, address: IpAddr, present: bool) {
        if let Some(this) = self.hosts.get_mut(host) {
            this.address(address, present);
        }
    }

    /// The node leaves its link for another one; its binding is registered some time later.
    fn moves(&mut self, host: usize) {
        let node = u32::try_from(host.saturating_sub(1)).unwrap_or_default();
        let Some(this) = self.hosts.get_mut(host) else { return };
        match this.moves_to(care_of(node, 2)) {
            Ok((home, old)) => {
                self.at.remove(&old);
                self.at.insert(care_of(node, 2), host);
                let accepted = self.now.saturating_add(REGISTRATION);
                self.plan(accepted, host, Happening::Registers { home, old });
            }
            Err(why) => self.fault(|| format!("{}: {why}", name(node))),
        }
    }

    /// Lets kernel and agent of a host talk until both wait.
    fn pump(&mut self, host: usize) {
        let now = self.clock();
        let begin = (self.stopwatch)();
        let Some(this) = self.hosts.get_mut(host) else { return };
        let told = this.settle(now);
        if host == 0 {
            self.thought = self.thought.saturating_add((self.stopwatch)().saturating_sub(begin));
        }
        for told in told {
            match told {
                Told::Send(transmit) => {
                    let path = Path { local: transmit.path.remote, remote: transmit.path.local, interface: 0 };
                    self.send(Datagram { path, octets: transmit.octets });
                }
                Told::Event(event) => self.event(host, &event),
            }
        }
        let agent = self.hosts.get(host).and_then(Host::deadline);
        let next = agent.map(|at| at.saturating_sub(BOOT).max(self.now));
        let Some(deadline) = self.deadlines.get_mut(host) else { return };
        if let Some(before) = std::mem::replace(deadline, next).filter(|before| Some(*before) != next) {
            self.timers.remove(&(before, host));
        }
        self.timers.extend(next.map(|at| (at, host)));
    }

    fn send(&mut self, datagram: Datagram) {
        let thousandth = self.up_to(1000);
        let lost = thousandth < usize::try_from(self.plan.loss).unwrap_or_default();
        self.outcome.datagrams.0 = self.outcome.datagrams.0.saturating_add(1);
        let at = self.now.saturating_add(DELAY);
        let at = self.moment(at, DELAY);
        match self.at.get(&datagram.path.local.ip()).copied().filter(|_| !lost) {
            Some(host) => self.plan(at, host, Happening::Arrives(datagram)),
            None => self.outcome.datagrams.1 = self.outcome.datagrams.1.saturating_add(1),
        }
    }

    fn event(&mut self, host: usize, event: &Event) {
        let Some(this) = self.hosts.get_mut(host) else { return };
        let count = match event {
            Event::HomeAddress { address, held: true, .. } if host != 0 => {
                this.home = Some(*address);
                return;
            }
            Event::HomeAddress { held: true, .. } => &mut self.outcome.assigned,
            Event::Keying(KeyingEvent::InitSent { .. }) => &mut self.outcome.handshakes,
            Event::Keying(KeyingEvent::ChildUp(_)) if host == 0 => &mut self.outcome.pairs,
            Event::Keying(KeyingEvent::PathConfirmed { .. }) if host != 0 && this.confirmed == 1 => &mut self.outcome.confirmed,
            Event::Keying(KeyingEvent::IkeRekeyed { .. }) if host == 0 => &mut self.outcome.rekeyed,
            event if is_fault(event) => return self.fault(|| format!("host {host}: {event:?}")),
            _ => return,
        };
        *count = count.saturating_add(1);
    }

    /// Every node has one IKE SA of one handshake and its SA pairs, and the home agent's kernel has the very same SAs.
    fn judge(&mut self, when: &str) {
        let at_home: BTreeMap<_, SaInfo> = self.hosts.first().map_or_else(BTreeMap::new, |host| by_name(&host.sas()));
        let mut faults = Vec::new();
        let mut known = 0usize;
        for (host, number) in self.hosts.iter().skip(1).zip(0u32..) {
            let sas = by_name(&host.sas());
            let same =
                sas.iter().filter(|(id, sa)| at_home.get(*id).is_some_and(|other| other.src == sa.src && other.mode == sa.mode)).count();
            let tunnels = sas.values().filter(|sa| sa.mode == Some(Mode::Tunnel));
            let here = tunnels.filter(|sa| sa.src == host.care_of || sa.dst == host.care_of).count();
            known = known.saturating_add(same);
            let sound = host.initiated == 1 && host.up == PAIRS && sas.len() == 2 * PAIRS && same == 2 * PAIRS && here == 2;
            if !sound {
                let seen = (host.initiated, host.up, sas.len(), same, here);
                faults.push(format!("{when}: {} has (handshakes, pairs, SAs, of these at home, tunnels in place) {seen:?}", name(number)));
            }
        }
        if at_home.len() != known {
            faults.push(format!("{when}: the home agent has {} SAs, its nodes {known} of them", at_home.len()));
        }
        for fault in faults {
            self.fault(|| fault);
        }
    }
}

/// SAs with keys, by destination and SPI.
fn by_name(sas: &[SaInfo]) -> BTreeMap<(IpAddr, u32), SaInfo> {
    sas.iter().filter(|sa| !sa.larval && sa.protocol == 50).map(|sa| ((sa.dst, sa.spi.0), sa.clone())).collect()
}
