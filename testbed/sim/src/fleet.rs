//! Many mobile nodes of one home agent in one process: real engines over in-memory kernels, a switch with delay and loss, virtual time.
//! Lighter than `World`: the Mobile IPv6 daemons are played by hand. The same plan gives the same run.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use watari_crypto::FakeProvider;
use watari_engine::{Agent, AgentOptions, Event, Input, Output};
use watari_kernel::mirror::{MigrateRequest, Mirror, Model};
use watari_kernel::{AddressEvent, AddressFlags, Backend, BackendOutput, Endpoints, KmAddress, MigrateStep, Now, PolicyEntry, SaInfo};
use watari_policies::config::load;
use watari_policies::profile::{MobileNodeProfile, Terms, mobile_node};
use watari_policies::{Config, Direction, Identity, Installer, Lifetime, MobilityRole, Mode, Protocol, Secret, SecretId};
use watari_sa::{Cause, Datagram, KeyingEvent, Path, work};

/// The home agent.
const HOME_AGENT: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1));
/// One way through the switch, before jitter of as much again.
const DELAY: Duration = Duration::from_millis(20);
/// From the mobile node's move until its binding update is accepted.
const REGISTRATION: Duration = Duration::from_millis(150);
/// How long nodes come up one after another, and how long they have to settle before and after they move.
const ARRIVAL: Duration = Duration::from_secs(30);
const SETTLING: Duration = Duration::from_secs(60);
/// SA pairs of each node: binding messages and payload.
const PAIRS: usize = 2;

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

struct Host {
    agent: Agent,
    mirror: Mirror,
    secrets: BTreeMap<SecretId, Secret>,
    inputs: VecDeque<Input>,
    deadline: Option<Duration>,
    home: Option<IpAddr>,
    care_of: IpAddr,
    initiated: usize,
    up: usize,
    confirmed: usize,
}

/// What happens at a time, to a host.
enum Happening {
    Starts,
    Moves,
    Registers { old: IpAddr },
    Arrives(Datagram),
}

/// The home agent, its nodes, and the switch between them.
struct Fleet {
    plan: Plan,
    now: Duration,
    hosts: Vec<Host>,
    queue: BTreeMap<(Duration, u64), (usize, Happening)>,
    /// Hosts by their next deadline.
    timers: BTreeSet<(Duration, usize)>,
    at: BTreeMap<IpAddr, usize>,
    sequence: u64,
    random: ChaCha8Rng,
    outcome: Outcome,
}

/// Runs a plan from the first handshake to the end of the last move.
///
/// # Errors
/// Why the configuration of the home agent does not load.
pub fn run(plan: Plan) -> Result<Outcome, String> {
    let mut fleet = Fleet::new(plan)?;
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
    fleet.until(moves.saturating_add(plan.within).saturating_add(SETTLING));
    fleet.judge("after the moves");
    Ok(fleet.outcome)
}

fn name(node: u32) -> String {
    format!("mn{node}.example")
}

fn key(node: u32) -> String {
    format!("the key of node {node}")
}

/// The node with this number writes its own home address, or leaves it to the home agent.
fn fixed_home(node: u32) -> Option<IpAddr> {
    node.is_multiple_of(2).then(|| numbered(&[0x2001, 0xdb8, 1, 0, 1], node))
}

fn care_of(node: u32, link: u16) -> IpAddr {
    numbered(&[0x2001, 0xdb8, link.saturating_add(0xf0), 0, 1], node)
}

fn numbered(front: &[u16; 5], node: u32) -> IpAddr {
    let [a, b, c, d, e] = *front;
    let [_, _, high, low] = node.to_be_bytes().map(u16::from);
    let whole = high.wrapping_mul(256).wrapping_add(low);
    let upper = u16::try_from(node >> 16).unwrap_or_default();
    IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, 0, upper, whole))
}

/// One block and one file serve all nodes.
fn home_agent(Plan { nodes, ike_lifetime, .. }: Plan) -> Result<(Config, BTreeMap<SecretId, Secret>), String> {
    let text = format!(
        "[home_agent]\naddress = \"2001:db8:1::1\"\nidentity = \"ha.example\"\nprotect = [\"binding\", \"payload\"]\n\
                policies = \"watari\"\nhome_prefix = \"2001:db8:1::/64\"\npool = \"2001:db8:1::1:0:0/96\"\nmobile_nodes_file = \"/nodes\"\nike_lifetime = \"{ike_lifetime}s\"\n"
    );
    let line = |node: u32| {
        let home = fixed_home(node).map_or_else(|| "assign".to_owned(), |home| home.to_string());
        format!("{} {home} {}\n", name(node), key(node))
    };
    let file: String = (0..nodes).map(line).collect();
    let source = move |_: &str| Ok(Secret::from(file.as_bytes()));
    let loaded = load(&text, "fleet.toml", &source).map_err(|complaints| complaints.to_string())?;
    Ok((loaded.config, loaded.secrets))
}

fn node_config(node: u32, ike_lifetime: u64) -> Config {
    let ike_lifetime = Lifetime::of(Duration::from_secs(ike_lifetime));
    mobile_node(MobileNodeProfile {
        home_address: fixed_home(node).unwrap_or(MobilityRole::UNKNOWN),
        home_agent: HOME_AGENT,
        identity: Identity::Fqdn(name(node)),
        terms: Terms { installer: Installer::Us, start: true, ike_lifetime, ..MobileNodeProfile::default().terms },
        ..MobileNodeProfile::default()
    })
}

impl Fleet {
    fn new(plan: Plan) -> Result<Self, String> {
        let mut fleet = Self {
            plan,
            now: Duration::ZERO,
            hosts: Vec::new(),
            queue: BTreeMap::new(),
            timers: BTreeSet::new(),
            at: BTreeMap::from([(HOME_AGENT, 0)]),
            sequence: 0,
            random: ChaCha8Rng::seed_from_u64(plan.seed),
            outcome: Outcome::default(),
        };
        let (config, secrets) = home_agent(plan)?;
        fleet.add(config, secrets, HOME_AGENT);
        for node in 0..plan.nodes {
            let secrets = BTreeMap::from([(SecretId(0), Secret::from(key(node).as_bytes()))]);
            fleet.add(node_config(node, plan.ike_lifetime), secrets, care_of(node, 1));
        }
        fleet.address(0, HOME_AGENT, true);
        fleet.pump(0);
        Ok(fleet)
    }

    fn add(&mut self, config: Config, secrets: BTreeMap<SecretId, Secret>, care_of: IpAddr) {
        let mirror = Mirror::new(Model::default(), 0x1000);
        let mut seed = [0; 32];
        self.random.fill_bytes(&mut seed);
        let home = config.remotes.first().and_then(|remote| remote.role.home_address());
        let agent = Agent::new(config, seed, Arc::new(FakeProvider), mirror.capabilities().clone(), AgentOptions::default());
        let inputs = VecDeque::new();
        self.hosts.push(Host { agent, mirror, secrets, inputs, deadline: None, home, care_of, initiated: 0, up: 0, confirmed: 0 });
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
        Now { boot: Duration::from_secs(1000).saturating_add(self.now), wall: Duration::from_secs(1_800_000_000).saturating_add(self.now) }
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
            this.inputs.push_back(Input::Timeout);
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
            Happening::Registers { old } => {
                let Some((home, new)) = self.hosts.get(host).and_then(|node| Some((node.home?, node.care_of))) else { return };
                self.migrate(0, home, KmAddress { local: HOME_AGENT, remote: old }, KmAddress { local: HOME_AGENT, remote: new });
                self.pump(0);
            }
            Happening::Arrives(datagram) => {
                if let Some(this) = self.hosts.get_mut(host) {
                    this.inputs.push_back(Input::Datagram(datagram));
                }
            }
        }
        self.pump(host);
    }

    fn address(&mut self, host: usize, address: IpAddr, present: bool) {
        let event = AddressEvent { interface: 2, address, prefix_len: 64, present, flags: AddressFlags::default() };
        if let Some(this) = self.hosts.get_mut(host) {
            this.mirror.address(event);
        }
    }

    /// The node leaves its link for another one, as its Mobile IPv6 daemon tells its kernel.
    fn moves(&mut self, host: usize) {
        let node = u32::try_from(host.saturating_sub(1)).unwrap_or_default();
        let new = care_of(node, 2);
        let Some(this) = self.hosts.get_mut(host) else { return };
        let old = std::mem::replace(&mut this.care_of, new);
        let Some(home) = this.home else { return self.fault(|| format!("{} has no home address when it moves", name(node))) };
        self.at.remove(&old);
        self.at.insert(new, host);
        self.address(host, new, true);
        self.address(host, old, false);
        self.migrate(host, home, KmAddress { local: old, remote: HOME_AGENT }, KmAddress { local: new, remote: HOME_AGENT });
        let accepted = self.now.saturating_add(REGISTRATION);
        self.plan(accepted, host, Happening::Registers { old });
    }

    /// Moves every policy of a home address in one kernel.
    fn migrate(&mut self, host: usize, home: IpAddr, old: KmAddress, new: KmAddress) {
        let Some(this) = self.hosts.get_mut(host) else { return };
        let net = IpNet::from(home);
        let entries: Vec<PolicyEntry> = this.mirror.policies_of(net).cloned().collect();
        let mut refused = None;
        for entry in entries {
            let outbound = entry.direction == Direction::Out;
            let ends = |addresses: KmAddress| {
                let out = Endpoints { src: addresses.local, dst: addresses.remote };
                if outbound { out } else { out.reversed() }
            };
            let Some(template) = entry.templates.first() else { continue };
            let old = if template.mode == Mode::Tunnel { ends(old) } else { template.endpoints };
            let step = MigrateStep { protocol: Protocol::Esp, mode: template.mode, reqid: template.reqid, old, new: ends(new) };
            let request = MigrateRequest {
                selector: entry.selector,
                direction: entry.direction,
                kind: entry.kind,
                steps: vec![step],
                kmaddress: Some(new),
            };
            refused =
                this.mirror.migrate(&request).err().map(|error| format!("{} {}: {error}", entry.direction, entry.selector)).or(refused);
        }
        if let Some(why) = refused {
            self.fault(|| format!("host {host} cannot migrate {home}: {why}"));
        }
    }

    /// Lets kernel and agent of a host talk until both wait.
    fn pump(&mut self, host: usize) {
        let now = self.clock();
        loop {
            let Some(this) = self.hosts.get_mut(host) else { return };
            // What the kernel would do at a time of its own, such as end a reserved SPI, is hours away or too late to matter here.
            while !this.mirror.is_quiet() {
                match this.mirror.poll() {
                    BackendOutput::Event(event) => this.inputs.push_back(Input::Kernel(event)),
                    BackendOutput::Done(id, result) => this.inputs.push_back(Input::Done(id, result)),
                    BackendOutput::Send(..) | BackendOutput::Wait(_) => {}
                }
            }
            if let Some(input) = this.inputs.pop_front() {
                this.agent.handle(now, input);
                self.drain(host, now);
                continue;
            }
            let agent = this.agent.deadline().map(|deadline| deadline.at);
            let start = Duration::from_secs(1000);
            let next = agent.map(|at| at.saturating_sub(start).max(self.now));
            let before = std::mem::replace(&mut this.deadline, next);
            if before != next {
                self.timers.extend(next.map(|at| (at, host)));
                if let Some(before) = before {
                    self.timers.remove(&(before, host));
                }
            } else if let Some(at) = next {
                self.timers.insert((at, host));
            }
            return;
        }
    }

    fn drain(&mut self, host: usize, now: Now) {
        loop {
            let Some(this) = self.hosts.get_mut(host) else { return };
            match this.agent.poll() {
                Output::Transmit(transmit) => {
                    let path = transmit.path;
                    let arrived = Path { local: path.remote, remote: path.local, interface: 0 };
                    self.send(Datagram { path: arrived, octets: transmit.octets });
                }
                Output::Kernel(id, request) => this.mirror.submit(now, id, request),
                Output::Work(id, work) => {
                    let done = work::perform(&FakeProvider, &this.secrets, work);
                    this.inputs.push_back(Input::WorkDone(id, done));
                }
                Output::Event(event) => self.event(host, &event),
                Output::Listen(_) | Output::Reply(..) => {}
                Output::Wait(_) => return,
            }
        }
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
        match event {
            Event::HomeAddress { held: true, .. } if host == 0 => {
                self.outcome.assigned = self.outcome.assigned.saturating_add(1);
            }
            Event::HomeAddress { address, held, .. } if host != 0 => this.home = held.then_some(*address),
            Event::Keying(KeyingEvent::InitSent { .. }) => {
                this.initiated = this.initiated.saturating_add(1);
                self.outcome.handshakes = self.outcome.handshakes.saturating_add(1);
            }
            Event::Keying(KeyingEvent::ChildUp(_)) => {
                this.up = this.up.saturating_add(1);
                if host == 0 {
                    self.outcome.pairs = self.outcome.pairs.saturating_add(1);
                }
            }
            Event::Keying(KeyingEvent::PathConfirmed { .. }) if host != 0 => {
                this.confirmed = this.confirmed.saturating_add(1);
                if this.confirmed == 1 {
                    self.outcome.confirmed = self.outcome.confirmed.saturating_add(1);
                }
            }
            Event::Keying(KeyingEvent::IkeRekeyed { .. }) if host == 0 => self.outcome.rekeyed = self.outcome.rekeyed.saturating_add(1),
            // The end of one that was rekeyed.
            Event::Keying(KeyingEvent::IkeDown { cause, .. }) if [Cause::REPLACED, Cause::PEER_CLOSED].contains(cause) => {}
            Event::Keying(KeyingEvent::IkeDown { .. } | KeyingEvent::ChildDown { .. } | KeyingEvent::WantFailed { .. })
            | Event::Recreated(_)
            | Event::HomeAddress { .. } => self.fault(|| format!("host {host}: {event:?}")),
            Event::Notice { cause, detail } if *cause != Cause::UNEXPECTED => self.fault(|| format!("host {host}: {cause} {detail}")),
            _ => {}
        }
    }

    /// Every node has one IKE SA of one handshake and its SA pairs, and the home agent's kernel has the very same SAs.
    fn judge(&mut self, when: &str) {
        let at_home: BTreeMap<_, SaInfo> = self.hosts.first().map_or_else(BTreeMap::new, |host| by_name(&host.mirror.sas()));
        let mut faults = Vec::new();
        let mut known = 0usize;
        for (host, number) in self.hosts.iter().skip(1).zip(0u32..) {
            let sas = by_name(&host.mirror.sas());
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
