//! Runs one scenario inside a guest: the scenario's steps at their times, signalling nodes and pings in between, the kernels' SADs
//! watched all the time. One thread; what takes long (starting a daemon, moving a link) delays the rest by some milliseconds.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use watari_sim::scenario::{Action, BOOT, CORRESPONDENT, HA, HOME_AGENT, Link, MobilePlan, PingTarget, Rekeyed, Scenario};
use watari_sim::signalling::{HomeAgent, Input, MobileNode, Node, SignalEvent};
use watari_sim::timeline::{Happening, Line};

use super::agent::{self, Agent};
use super::bootstrap::{HomeNews, Lost};
use super::facts::{Facts, Movement};
use super::home_agents::Ear;
use super::network::{self, INTERFACE, Network};
use super::ping::Pinger;
use super::signalling::{self, Correspondent, News, Signalling, unix_micros};
use super::sniffer::Sniffer;
use super::timeline::{self, Moment, stamp_micros};
use crate::judge::pcap::Kind;
use crate::uml::guest::Guest;
use crate::uml::hosts::{Daemon, Namespace};
use crate::uml::links::Capture;
use crate::uml::{Context, Failure, Result};

/// Name of the task in a plan.
pub(crate) const TASK: &str = "real-scenario";
/// File with the facts.
pub(super) const FACTS: &str = "facts.json";
/// Pings stop so long before the end.
const QUIET: Duration = Duration::from_millis(1500);
/// So long beyond the end registrations may take where packets are lost: two more repeats of a binding update.
const PATIENCE: Duration = Duration::from_secs(45);
/// How often the SADs are looked at.
const WATCH: Duration = Duration::from_millis(25);
/// When a ping is tried again whose sender has no home address yet.
const AGAIN: Duration = Duration::from_millis(100);
/// Rest between two rounds.
const REST: Duration = Duration::from_millis(2);

/// What a guest is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Order {
    /// Name of the scenario.
    pub(super) scenario: String,
    /// Seed of everything random.
    pub(super) seed: u64,
    /// Directory of watarid and watari.
    pub(super) programs: PathBuf,
}

enum Due {
    Step(Action),
    Attach { host: usize, link: Link, moves: u32 },
    StartAgent(usize),
    StartHost(usize),
}

pub(super) struct Mobile {
    /// What the scenario says of it.
    pub(super) plan: MobilePlan,
    pub(super) link: Option<Link>,
    last_link: Link,
    pub(super) moves: u32,
    ears: Sniffer,
    ambush: Option<(u8, Link)>,
    /// Just booted: applications run once the Mobile IPv6 daemon has found out where it is.
    pub(super) idle: bool,
    /// Whether its address is still to be assigned.
    pub(super) awaits_address: bool,
    /// Its home address now.
    pub(super) home: Option<IpAddr>,
    /// Every home address that it has or had, and when it found it taken.
    pub(super) homes: BTreeMap<IpAddr, Option<Duration>>,
    /// Since when everything ought to work.
    pub(super) window: Option<Duration>,
    pub(super) windows: Vec<(Duration, Duration)>,
}

/// A host with both its daemons.
pub(super) struct Host {
    pub(super) space: Namespace,
    pub(super) agent: Agent,
    pub(super) signalling: Signalling,
    pub(super) mobile: Option<Mobile>,
    /// What the agent tells of home addresses, where none is configured.
    pub(super) home_news: Option<HomeNews>,
    /// SAs by reqid and selector that stood when last looked.
    standing: BTreeMap<(u32, IpAddr, IpAddr), u32>,
    /// Tells when addresses become usable; ahead of every other process, so that its time stamps are those of the kernel.
    monitor: Daemon,
    /// Keeps what the kernel told of SAs and policies, for whoever looks for a fault.
    record: Daemon,
}

/// A scenario under way.
pub(super) struct Runner<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) guest: &'a Guest,
    pub(super) network: Network<'a>,
    begin: Instant,
    /// The home agent, then the mobile nodes, then a second home agent.
    pub(super) hosts: Vec<Host>,
    /// Who hears on mobile nodes which home agent is in force.
    pub(super) ears: Vec<Ear>,
    correspondent: Correspondent,
    pub(super) pingers: Vec<Pinger>,
    schedule: BTreeMap<(Duration, u64), Due>,
    created: u64,
    pub(super) baseline: Option<Vec<[u64; 3]>>,
    pub(super) lost: Vec<Lost>,
    /// Home addresses that the home agent's daemon serves because its agent gave them.
    pub(super) serves: BTreeMap<&'static str, IpAddr>,
    pub(super) facts: Facts,
    pub(super) lines: Vec<Line>,
}

/// The part that runs in the guest.
pub(crate) fn in_guest(guest: &Guest) -> Result<i32> {
    let order: Order = serde_json::from_value(guest.plan.argument.clone()).context("order")?;
    let scenario = watari_sim::scenarios::find(&order.scenario).ok_or_else(|| Failure(format!("no scenario {}", order.scenario)))?;
    let network = Network::build(guest, &scenario)?;
    let captures = Link::ALL.iter().map(|link| guest.capture(link.name(), &format!("{link}.pcap"))).collect::<Result<Vec<Capture>>>()?;
    let mut runner = Runner::new(guest, &scenario, network, &order)?;
    runner.run()?;
    let facts = runner.finish()?;
    for capture in captures {
        capture.stop()?;
    }
    guest.write(FACTS, serde_json::to_string_pretty(&facts).context(FACTS)?)?;
    Ok(0)
}

/// The daemon that a host boots with; none on a mobile node that has no home address yet.
fn signalling_node(scenario: &Scenario, mobile: Option<&MobilePlan>, name: &str) -> Option<Node> {
    match mobile {
        Some(_) if scenario.bootstrap.is_some() => None,
        Some(plan) => Some(Node::Mobile(Box::new(MobileNode::new(scenario.mobile_signalling(plan))))),
        None => Some(Node::Home(HomeAgent::new(scenario.home_signalling_of(name)))),
    }
}

impl<'a> Runner<'a> {
    /// Hosts with their daemons' configurations; nothing runs yet.
    pub(super) fn new(guest: &'a Guest, scenario: &'a Scenario, network: Network<'a>, order: &Order) -> Result<Self> {
        let mut hosts = Vec::new();
        let monitor = |space: &Namespace| space.spawn("addresses", "chrt -f 50 ip -ts monitor address");
        let record = |space: &Namespace| space.spawn("xfrm", "ip -ts xfrm monitor all");
        let home_agent = |space: &Namespace| -> Result<Host> {
            let configuration = agent::home_configuration_of(scenario, &space.name);
            Ok(Host {
                agent: Agent::new(guest, space.clone(), &order.programs, order.seed, &configuration)?.blind(scenario.blind),
                signalling: Signalling::new(space, signalling_node(scenario, None, &space.name), None)?,
                monitor: monitor(space)?,
                record: record(space)?,
                space: space.clone(),
                mobile: None,
                home_news: None,
                standing: BTreeMap::new(),
            })
        };
        hosts.push(home_agent(&network.home_agent)?);
        for plan in &scenario.mobile_nodes {
            let space = network.mobile_node(scenario, plan)?;
            let home = scenario.bootstrap.is_none().then(|| plan.home_address());
            let mobile = Mobile {
                plan: plan.clone(),
                link: None,
                last_link: plan.boots_on,
                moves: 0,
                ears: space.enter(Sniffer::open)??,
                ambush: None,
                idle: true,
                awaits_address: scenario.is_assigned(plan),
                home,
                homes: home.map(|home| (home, None)).into_iter().collect(),
                window: None,
                windows: Vec::new(),
            };
            hosts.push(Host {
                agent: Agent::new(guest, space.clone(), &order.programs, order.seed, &agent::mobile_configuration(scenario, plan))?
                    .blind(scenario.blind),
                signalling: Signalling::new(&space, signalling_node(scenario, Some(plan), plan.name), home)?,
                monitor: monitor(&space)?,
                record: record(&space)?,
                mobile: Some(mobile),
                home_news: None,
                space,
                standing: BTreeMap::new(),
            });
        }
        if let Some(space) = &network.second_home_agent {
            hosts.push(home_agent(space)?);
        }
        let correspondent = Correspondent::new(&network.correspondent)?;
        Ok(Self {
            scenario,
            guest,
            network,
            begin: Instant::now(),
            hosts,
            ears: Vec::new(),
            correspondent,
            pingers: Vec::new(),
            schedule: BTreeMap::new(),
            created: 0,
            baseline: None,
            lost: Vec::new(),
            serves: BTreeMap::new(),
            facts: Facts::default(),
            lines: Vec::new(),
        })
    }

    pub(super) fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    fn schedule(&mut self, at: Duration, due: Due) {
        self.created += 1;
        self.schedule.insert((at, self.created), due);
    }

    pub(super) fn say(&mut self, host: usize, what: Happening) {
        let name = self.hosts.get(host).map_or("", |host| host.space.name.as_str()).to_owned();
        self.lines.push(Line { at: self.now(), host: name, what });
    }

    /// Does the scenario's steps until its time is over.
    pub(super) fn run(&mut self) -> Result<()> {
        for host in 0..self.hosts.len() {
            self.start_host(host)?;
        }
        self.listen_for_home_agents()?;
        // Starting daemons takes a real machine a while; the scenario's clock begins when they are up.
        self.begin = Instant::now();
        self.facts.begin_us = unix_micros();
        let scenario = self.scenario;
        for host in 1..self.hosts.len() {
            self.boot_mobile(host);
        }
        for step in &scenario.steps {
            self.schedule(step.at, Due::Step(step.action));
        }
        let mut watched = Duration::ZERO;
        while self.now() < scenario.duration || self.is_unlucky() {
            self.take_due()?;
            self.turn()?;
            if self.now() >= watched + WATCH {
                watched = self.now();
                self.watch()?;
            }
            std::thread::sleep(if self.is_ambushing() { Duration::ZERO } else { REST });
        }
        Ok(())
    }

    /// Whether losses, which are not those of a seed here, still keep a registration under way that will come about.
    fn is_unlucky(&self) -> bool {
        let settled = || self.hosts.iter().all(|host| host.signalling.is_settled());
        self.scenario.conditions.loss > 0 && self.now() < self.scenario.duration + PATIENCE && !settled()
    }

    /// Whether a node waits for the moment at which it must move: then every millisecond counts.
    fn is_ambushing(&self) -> bool {
        self.hosts.iter().filter_map(|host| host.mobile.as_ref()).any(|mobile| mobile.ambush.is_some())
    }

    fn take_due(&mut self) -> Result<()> {
        while let Some(entry) = self.schedule.first_entry() {
            if entry.key().0 > self.begin.elapsed() {
                return Ok(());
            }
            match entry.remove() {
                Due::Step(action) => self.act(action)?,
                Due::Attach { host, link, moves } => self.attach(host, link, moves)?,
                Due::StartAgent(host) => {
                    self.say(host, Happening::DaemonStarted);
                    self.start_agent(host)?;
                }
                Due::StartHost(host) => {
                    self.say(host, Happening::HostUp);
                    self.start_host(host)?;
                    if host == 0 {
                        self.network.connect_home_agent(true)?;
                    } else {
                        self.boot_mobile(host);
                    }
                }
            }
        }
        Ok(())
    }

    fn act(&mut self, action: Action) -> Result<()> {
        let position = |name: &str| self.hosts.iter().position(|host| host.space.name == name);
        let known = |name: &str| position(name).ok_or_else(|| Failure(format!("no host {name}")));
        match action {
            Action::Move { node, to } => {
                let host = known(node)?;
                self.leave(host, to)?;
            }
            Action::MoveDuring { node, to, exchange } => {
                let host = known(node)?;
                if let Some(mobile) = self.hosts.get_mut(host).and_then(|host| host.mobile.as_mut()) {
                    mobile.ears.skip();
                    mobile.ambush = Some((exchange.number(), to));
                }
            }
            Action::Rekey { host, what } => {
                let host = known(host)?;
                self.rekey(host, what)?;
            }
            Action::Ping { node, target, every } => {
                if !self.ping(node, target, every)? {
                    self.schedule(self.now() + AGAIN, Due::Step(action));
                }
            }
            Action::ForgeUpdate { node } => self.forge(node)?,
            Action::Negotiate { node, policy } => self.negotiate(node, policy)?,
            Action::Reload => self.reload()?,
            Action::Redirect => self.redirect()?,
            Action::Switch => self.send_away()?,
            Action::Duplicate { node } => self.duplicate(node),
            Action::RestartDaemon { host, down } => {
                let host = known(host)?;
                self.say(host, Happening::DaemonKilled);
                if let Some(host) = self.hosts.get_mut(host) {
                    host.agent.kill();
                }
                self.schedule(self.now() + down, Due::StartAgent(host));
            }
            Action::RestartHost { host, down } => {
                let host = known(host)?;
                self.say(host, Happening::HostDown);
                self.shut_down(host)?;
                self.schedule(self.now() + down, Due::StartHost(host));
            }
        }
        Ok(())
    }

    /// The correspondent sends a binding update in a node's name, with the number the home agent waits for.
    fn forge(&mut self, node: &str) -> Result<()> {
        let home = self.home_of(node).ok_or_else(|| Failure(format!("no home address on {node}")))?;
        let sequence = self.hosts.first().map_or(0, |home_agent| home_agent.signalling.next_sequence(home));
        let what = Happening::Forged { node: node.to_owned() };
        self.lines.push(Line { at: self.now(), host: watari_sim::scenario::CN.to_owned(), what });
        signalling::forge(&self.network.correspondent, &watari_sim::forged_update(home, sequence, self.scenario.binding_lifetime))
    }

    fn rekey(&mut self, host: usize, what: Rekeyed) -> Result<()> {
        let Some(host) = self.hosts.get(host) else { return Ok(()) };
        match (what, &host.mobile) {
            (Rekeyed::Child(what), _) => host.agent.tell(&["rekey", what.name()]),
            (Rekeyed::Ike, Some(_)) => host.agent.tell(&["rekey", "--ike", agent::REMOTE]),
            (Rekeyed::Ike, None) => self.scenario.mobile_nodes.iter().try_for_each(|plan| host.agent.tell(&["rekey", "--ike", plan.name])),
        }
    }

    /// False while the node has no home address to ping from.
    fn ping(&mut self, node: &'static str, target: PingTarget, every: Duration) -> Result<bool> {
        let plan = self.scenario.mobile_node(node).ok_or_else(|| Failure(format!("no node {node}")))?;
        let (Some(home), inner) = (self.home_of(node), plan.network_address()) else { return Ok(false) };
        let mobile = self.guest.namespace(node)?;
        let identifier = u16::try_from(self.pingers.len() + 1).unwrap_or(u16::MAX);
        let now = self.now();
        let (space, source, destination) = match target {
            PingTarget::HomeAgent => (&mobile, home, HOME_AGENT),
            PingTarget::Correspondent => (&mobile, home, CORRESPONDENT),
            PingTarget::FromCorrespondent => (&self.network.correspondent, CORRESPONDENT, home),
            PingTarget::FromNetwork => (&mobile, inner, CORRESPONDENT),
        };
        let pinger = space
            .enter(|| Pinger::open((node, target != PingTarget::FromCorrespondent), source, destination, identifier, every, now))??;
        self.pingers.push(pinger);
        Ok(true)
    }

    fn start_agent(&mut self, host: usize) -> Result<()> {
        self.hosts.get_mut(host).map_or(Ok(()), |host| host.agent.start())?;
        self.listen_for_homes(host)
    }

    fn start_host(&mut self, host: usize) -> Result<()> {
        self.start_agent(host)?;
        self.signal(host, Input::Start)
    }

    fn boot_mobile(&mut self, host: usize) {
        let Some(mobile) = self.hosts.get(host).and_then(|host| host.mobile.as_ref()) else { return };
        let (link, moves) = (mobile.last_link, mobile.moves);
        let at = self.now() + BOOT + self.scenario.attach;
        self.schedule(at, Due::Attach { host, link, moves });
    }

    /// Power off: links down, daemons gone, kernel tables empty, Mobile IPv6 state forgotten.
    fn shut_down(&mut self, index: usize) -> Result<()> {
        let now = self.now();
        if index == 0 {
            self.network.connect_home_agent(false)?;
            for mobile in self.hosts.iter_mut().filter_map(|host| host.mobile.as_mut()) {
                mobile.close_window(now);
            }
        }
        let Some(host) = self.hosts.get_mut(index) else { return Ok(()) };
        host.agent.kill();
        if let Some(mobile) = &mut host.mobile {
            mobile.close_window(now);
            mobile.moves += 1;
            mobile.idle = true;
            if let Some(link) = mobile.link.take() {
                self.network.detach(&host.space, &mobile.plan, link)?;
            }
            if let Some(home) = mobile.home {
                self.network.place_home_address(&host.space, home, false)?;
            }
        }
        host.signalling.flush()?;
        host.standing.clear();
        let plan = host.mobile.as_ref().map(|mobile| mobile.plan.clone());
        let home = host.mobile.as_ref().and_then(|mobile| mobile.home);
        host.signalling = Signalling::new(&host.space, signalling_node(self.scenario, plan.as_ref(), &host.space.name), home)?;
        Ok(())
    }

    fn leave(&mut self, index: usize, to: Link) -> Result<()> {
        let now = self.now();
        let Some(host) = self.hosts.get_mut(index) else { return Ok(()) };
        let sas = host.signalling.kernel().esp_sas()?;
        let Some(mobile) = &mut host.mobile else { return Ok(()) };
        let from = mobile.link.take();
        mobile.close_window(now);
        mobile.last_link = to;
        mobile.moves += 1;
        let (plan, moves, home) = (mobile.plan.clone(), mobile.moves, mobile.home);
        if let Some(from) = from {
            self.network.detach(&host.space, &plan, from)?;
            let address_on = |link| home.filter(|_| link == Link::Home).unwrap_or_else(|| plan.care_of(link));
            let spis = sas.iter().filter(|sa| sa.tunnel && sa.destination == address_on(from)).map(|sa| sa.spi).collect();
            self.facts.handovers.push(Movement {
                node: plan.name.to_owned(),
                from: from.name().to_owned(),
                to: to.name().to_owned(),
                address: address_on(to),
                migrate_at: None,
                usable_at: None,
                migrate_events: 0,
                spis,
                children_moved: 0,
            });
            self.say(index, Happening::LinkDown { from, to });
            self.signal(index, Input::Detached(plan.care_of(from)))?;
        }
        let at = now + self.scenario.attach;
        self.schedule(at, Due::Attach { host: index, link: to, moves });
        Ok(())
    }

    fn attach(&mut self, index: usize, link: Link, moves: u32) -> Result<()> {
        let Some(host) = self.hosts.get_mut(index) else { return Ok(()) };
        let Some(mobile) = host.mobile.as_mut().filter(|mobile| mobile.moves == moves) else { return Ok(()) };
        mobile.link = Some(link);
        let address = mobile.plan.care_of(link);
        self.network.attach(&host.space, &mobile.plan, link)?;
        self.say(index, Happening::Attached { link, address });
        self.open_window(index, self.now());
        self.signal(index, Input::Attached { address, home: link == Link::Home })
    }

    pub(super) fn signal(&mut self, host: usize, input: Input) -> Result<()> {
        let now = self.now();
        if self.scenario.access.is_some() {
            return Ok(());
        }
        let Some(this) = self.hosts.get_mut(host) else { return Ok(()) };
        let news = this.signalling.tell(&self.network, now, input)?;
        self.heard(host, news);
        Ok(())
    }

    /// Everything that may have arrived or become due.
    pub(super) fn turn(&mut self) -> Result<()> {
        for index in 0..self.hosts.len() {
            let now = self.now();
            let Some(host) = self.hosts.get_mut(index) else { continue };
            let news = host.signalling.turn(&self.network, now)?;
            self.heard(index, news);
            self.spring(index)?;
        }
        self.correspondent.turn()?;
        let now = self.begin.elapsed();
        let over = now + QUIET > self.scenario.duration;
        for pinger in &mut self.pingers {
            let sender_is_down = |mobile: &Mobile| mobile.idle && pinger.sent_by_node && mobile.plan.name == pinger.node;
            let quiet = over || self.hosts.iter().filter_map(|host| host.mobile.as_ref()).any(sender_is_down);
            pinger.turn(now, quiet);
        }
        Ok(())
    }

    pub(super) fn heard(&mut self, index: usize, news: Vec<News>) {
        let now = self.now();
        let name = self.hosts.get(index).map(|host| host.space.name.clone()).unwrap_or_default();
        let migrates = news.iter().filter(|one| matches!(one, News::Migrated { .. })).count();
        for one in news {
            match one {
                News::Event(event) => {
                    self.say(index, Happening::Signal(event));
                    self.count(index, now, event);
                }
                News::Migrated { at } => {
                    if name == HA {
                        self.facts.home_agent_migrates.push(at);
                    }
                    if let Some(movement) = self.facts.handovers.iter_mut().rev().find(|movement| movement.node == name) {
                        movement.migrate_at.get_or_insert(at);
                        movement.migrate_events += 1;
                    }
                }
                News::Refused(text) => self.note(now, &name, text, true),
            }
        }
        if migrates > 0 {
            self.note(now, &name, format!("MIGRATE: {migrates} messages"), false);
        }
    }

    fn note(&mut self, at: Duration, host: &str, text: String, detail: bool) {
        let at_us = u64::try_from(at.as_micros()).unwrap_or(u64::MAX);
        self.facts.timeline.push(Moment { at_us, host: host.to_owned(), text, detail });
    }

    fn count(&mut self, index: usize, now: Duration, event: SignalEvent) {
        match event {
            SignalEvent::UpdateSent { .. } => {
                if let Some(mobile) = self.hosts.get_mut(index).and_then(|host| host.mobile.as_mut()) {
                    mobile.idle = false;
                }
            }
            SignalEvent::Duplicate { home_address } => self.told_of_duplicate(index, home_address),
            SignalEvent::Leaving { .. } => {
                if let Some(mobile) = self.hosts.get_mut(index).and_then(|host| host.mobile.as_mut()) {
                    mobile.close_window(now);
                }
            }
            SignalEvent::HomeTested => self.facts.home_tests += 1,
            SignalEvent::PrefixAdvertised => self.facts.prefix_advertisements += 1,
            SignalEvent::Acknowledged { .. } => {
                if let Some(mobile) = self.hosts.get_mut(index).and_then(|host| host.mobile.as_mut()) {
                    mobile.window.get_or_insert(now);
                }
                self.count_moved(index);
            }
            _ => {}
        }
    }

    /// Counts the SAs that stand at the new address under the SPI they had at the old one.
    fn count_moved(&mut self, index: usize) {
        let Some(host) = self.hosts.get_mut(index) else { return };
        let sas = host.signalling.kernel().esp_sas().unwrap_or_default();
        if let Some(movement) = self.facts.handovers.iter_mut().rev().find(|movement| movement.node == host.space.name) {
            let moved = sas.iter().filter(|sa| sa.destination == movement.address && movement.spis.contains(&sa.spi)).count();
            movement.children_moved = movement.children_moved.max(u32::try_from(moved).unwrap_or(u32::MAX));
        }
    }

    /// `MoveDuring`: the request has left, now the link goes.
    fn spring(&mut self, index: usize) -> Result<()> {
        let Some(mobile) = self.hosts.get_mut(index).and_then(|host| host.mobile.as_mut()) else { return Ok(()) };
        let Some((wanted, to)) = mobile.ambush else { return Ok(()) };
        /// Octet of the exchange type and of the flags, and the flag of a response (RFC 7296 3.1).
        const EXCHANGE: usize = 18;
        const RESPONSE: u8 = 0x20;
        let is_it =
            |message: &[u8]| matches!(message.get(EXCHANGE..), Some([exchange, flags, ..]) if *exchange == wanted && flags & RESPONSE == 0);
        let own = |source: IpAddr| mobile.home == Some(source) || Link::ALL.iter().any(|link| source == mobile.plan.care_of(*link));
        let sent = mobile.ears.packets().iter().any(|packet| match &packet.kind {
            Kind::Ike { message } => own(packet.source) && is_it(message),
            _ => false,
        });
        if sent {
            mobile.ambush = None;
            let name = mobile.plan.name;
            self.network.cut(name)?;
            self.leave(index, to)?;
        }
        Ok(())
    }

    /// Notes SAs that vanished, and the counters once everything works.
    fn watch(&mut self) -> Result<()> {
        let now = self.now();
        self.place_assigned()?;
        self.hear_of_homes()?;
        self.hear_of_home_agents()?;
        for host in &mut self.hosts {
            if !host.agent.is_well() {
                self.facts.troubles.push(format!("watarid on {} ended by itself", host.space.name));
                host.agent.kill();
            }
            let mut standing = BTreeMap::new();
            for sa in host.signalling.kernel().esp_sas()? {
                if !sa.tunnel && sa.selector.1 == HOME_AGENT {
                    self.facts.update_spis.insert(sa.spi);
                }
                *standing.entry((sa.reqid, sa.selector.0, sa.selector.1)).or_default() += 1;
            }
            let left = |(_, src, dst): &(u32, IpAddr, IpAddr)| self.scenario.is_left(&host.space.name, &[*src, *dst]);
            let gone = host.standing.keys().filter(|key| !standing.contains_key(*key) && !left(key));
            self.lost.extend(gone.map(|key| Lost { at: now, host: host.space.name.clone(), key: *key }));
            host.standing = standing;
        }
        let refused = |plan: &MobilePlan| self.scenario.is_refused(plan);
        let works = |node: &str| {
            let mut of_node = self.pingers.iter().filter(|pinger| pinger.node == node).peekable();
            of_node.peek().is_some() && of_node.all(|pinger| pinger.pings.iter().any(|ping| ping.answered.is_some()))
        };
        if self.baseline.is_none() && self.scenario.mobile_nodes.iter().all(|plan| refused(plan) || works(plan.name)) {
            self.baseline = Some(self.hosts.iter().map(|host| network::counters(&host.space)).collect::<Result<_>>()?);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Facts> {
        let now = self.now();
        for pinger in &mut self.pingers {
            pinger.turn(now, true);
        }
        self.judge_pings(now);
        self.judge_lost();
        self.judge_counters()?;
        self.judge_sas()?;
        self.judge_doubts()?;
        self.judge_sockets();
        self.judge_sight();
        self.judge_told();
        self.judge_home_agents()?;
        for host in &self.hosts {
            if self.scenario.access.is_none() && !host.signalling.is_settled() {
                self.facts.troubles.push(format!("{}: a registration is still under way", host.space.name));
            }
        }
        for index in 1..self.hosts.len() {
            self.note_usable(index);
        }
        for host in &mut self.hosts {
            host.agent.kill();
            host.monitor.kill();
            host.record.kill();
        }
        for host in self.hosts.iter().filter(|host| host.mobile.is_some()) {
            let ups =
                host.agent.log().iter().filter(|line| line.get("msg").and_then(serde_json::Value::as_str) == Some("IKE SA up")).count();
            self.facts.established += u32::try_from(ups).unwrap_or(u32::MAX);
        }
        self.tell_timeline();
        Ok(self.facts)
    }

    /// Reads from the address monitor when each new address could be used.
    fn note_usable(&mut self, index: usize) {
        let Some(host) = self.hosts.get(index) else { return };
        let text = std::fs::read_to_string(&host.monitor.log).unwrap_or_default();
        for movement in self.facts.handovers.iter_mut().filter(|movement| movement.node == host.space.name) {
            let wanted = format!("inet6 {}/", movement.address);
            let usable = text.lines().filter(|line| line.contains(&wanted) && line.contains(INTERFACE));
            let mut usable = usable.filter(|line| !line.contains("tentative") && !line.contains("Deleted")).filter_map(monitor_micros);
            movement.usable_at = usable.find(|at| movement.migrate_at.is_some_and(|migrate| *at + 10_000 > migrate));
        }
    }

    fn tell_timeline(&mut self) {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let moment =
            |line: &Line| Moment { at_us: micros(line.at), host: line.host.clone(), text: line.what.to_string(), detail: line.is_detail() };
        self.facts.timeline.extend(self.lines.iter().map(moment));
        let begin = self.facts.begin_us;
        for host in &self.hosts {
            let name = &host.space.name;
            self.facts.timeline.extend(host.agent.log().iter().filter_map(|line| timeline::logged(name, line, begin)));
        }
        for pinger in &self.pingers {
            if let Some(answered) = pinger.pings.iter().filter_map(|ping| ping.answered).min() {
                let text = "a first ping is answered".to_owned();
                self.facts.timeline.push(Moment { at_us: micros(answered), host: pinger.node.to_owned(), text, detail: false });
            }
        }
        self.facts.timeline.sort();
    }
}

impl Mobile {
    pub(super) fn close_window(&mut self, now: Duration) {
        if let Some(from) = self.window.take() {
            self.windows.push((from, now));
        }
    }
}

/// The time stamp of a line of `ip -ts monitor`, `[2026-11-21T13:42:23.123456]`, in microseconds since 1970.
fn monitor_micros(line: &str) -> Option<u64> {
    stamp_micros(line.strip_prefix('[')?.split(']').next()?)
}
