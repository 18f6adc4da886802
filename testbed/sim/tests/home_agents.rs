//! One mobile node and two home agents, whole agents over mirror kernels: a silent home agent, redirects at every moment, a Home Agent Switch.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use watari_crypto::FakeProvider;
use watari_engine::{Agent, AgentOptions, Command, CommandId, Event, Heard, Input, Listen, MobilityInput, Output, Role, vici::Section};
use watari_kernel::mirror::{Mirror, Model};
use watari_kernel::{AddressEvent, AddressFlags, Backend, BackendOutput, Now};
use watari_mip6::Message;
use watari_policies::profile::{HomeAgentProfile, MobileNodeProfile, Reqids, ServedNode, Terms, home_agent, mobile_node};
use watari_policies::{Config, Direction, Gateway, Gateways, Installer, KeyMobility, Mode, Movements, Reqid, Secret, SecretId, SendOn};
use watari_sa::{Cause, Datagram, KeyingEvent, Path, work};

const NODE: usize = 0;
const FIRST: usize = 1;
const SECOND: usize = 2;
/// Care-of address and the two home agents.
const ADDRESSES: [&str; 3] = ["2001:db8:f1::e", "2001:db8:1::1", "2001:db8:1::2"];
const HOME: &str = "2001:db8:1::abcd";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

struct Host {
    agent: Agent,
    mirror: Mirror,
    inputs: VecDeque<Input>,
    events: Vec<Event>,
    listens: Vec<Listen>,
}

struct Hosts {
    hosts: Vec<Host>,
    now: Duration,
    wire: VecDeque<(usize, Datagram)>,
    silent: BTreeSet<usize>,
}

fn terms() -> Terms {
    let movements = Movements { key_mobility: KeyMobility::Observe, ..Movements::default() };
    Terms { installer: Installer::Us, movements, ..Terms::default() }
}

fn node_config() -> Config {
    let gateways = Gateways { addresses: ADDRESSES[1..].iter().map(|address| ip(address)).collect(), ..Gateways::default() };
    mobile_node(MobileNodeProfile { gateways, terms: Terms { start: true, ..terms() }, ..MobileNodeProfile::default() })
}

fn home_agent_config(host: usize, redirect_to: Option<(Gateway, SendOn)>) -> Config {
    let profile = HomeAgentProfile {
        home_agent: ip(ADDRESSES[host]),
        mobile_nodes: vec![ServedNode::default()],
        redirect_to,
        terms: terms(),
        ..HomeAgentProfile::default()
    };
    home_agent(profile)
}

impl Hosts {
    fn new(redirect_to: Option<SendOn>, silent: &[usize]) -> Self {
        let to = redirect_to.map(|when| (Gateway::Address(ip(ADDRESSES[SECOND])), when));
        let configs = [node_config(), home_agent_config(FIRST, to), home_agent_config(SECOND, None)];
        let hosts = configs.into_iter().zip(1u8..).map(|(config, number)| {
            let mirror = Mirror::new(Model::default(), u32::from(number) << 16);
            let agent = Agent::new(config, [number; 32], Arc::new(FakeProvider), mirror.capabilities().clone(), AgentOptions::default());
            Host { agent, mirror, inputs: VecDeque::new(), events: Vec::new(), listens: Vec::new() }
        });
        let mut all = Self {
            hosts: hosts.collect(),
            now: Duration::from_secs(1000),
            wire: VecDeque::new(),
            silent: silent.iter().copied().collect(),
        };
        for (host, address) in ADDRESSES.iter().enumerate() {
            let event = AddressEvent { interface: 2, address: ip(address), prefix_len: 64, present: true, flags: AddressFlags::default() };
            all.hosts[host].mirror.address(event);
            all.drain(host);
        }
        all.run();
        all
    }

    fn clock(&self) -> Now {
        Now { boot: self.now, wall: Duration::from_secs(1_800_000_000) + self.now }
    }

    fn drain(&mut self, host: usize) {
        let (now, this) = (self.clock(), &mut self.hosts[host]);
        loop {
            match this.agent.poll() {
                Output::Transmit(transmit) => {
                    let path = Path { local: transmit.path.remote, remote: transmit.path.local, interface: 0 };
                    let to = ADDRESSES.iter().position(|address| ip(address) == path.local.ip());
                    self.wire.extend(to.map(|to| (to, Datagram { path, octets: transmit.octets })));
                }
                Output::Kernel(id, request) => this.mirror.submit(now, id, request),
                Output::Work(id, work) => {
                    let secrets = BTreeMap::from([(SecretId(0), Secret::from(&b"key"[..]))]);
                    this.inputs.push_back(Input::WorkDone(id, work::perform(&FakeProvider, &secrets, work)));
                }
                Output::Event(event) => this.events.push(event),
                Output::Listen(sockets) => this.listens = sockets,
                Output::Reply(..) => {}
                Output::Wait(_) => return,
            }
        }
    }

    fn pump(&mut self, host: usize) {
        loop {
            let now = self.clock();
            let this = &mut self.hosts[host];
            while !this.mirror.is_quiet() {
                match this.mirror.poll() {
                    BackendOutput::Event(event) => this.inputs.push_back(Input::Kernel(event)),
                    BackendOutput::Done(id, result) => this.inputs.push_back(Input::Done(id, result)),
                    BackendOutput::Send(..) | BackendOutput::Wait(_) => {}
                }
            }
            let Some(input) = this.inputs.pop_front() else { return };
            this.agent.handle(now, input);
            self.drain(host);
        }
    }

    /// Until nothing moves any more.
    fn run(&mut self) {
        loop {
            (0..self.hosts.len()).for_each(|host| self.pump(host));
            let Some((to, datagram)) = self.wire.pop_front() else { return };
            if !self.silent.contains(&to) {
                self.hosts[to].inputs.push_back(Input::Datagram(datagram));
            }
        }
    }

    fn pass(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        loop {
            self.run();
            let next = self.hosts.iter().filter_map(|host| host.agent.deadline()).map(|deadline| deadline.at).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            self.hosts.iter_mut().for_each(|host| host.inputs.push_back(Input::Timeout));
        }
        self.now = end;
    }

    fn give(&mut self, host: usize, input: Input) {
        self.hosts[host].inputs.push_back(input);
        self.run();
    }

    fn switch(&mut self, named: &[usize]) {
        let addresses = named.iter().map(|host| ADDRESSES[*host].parse().unwrap()).collect();
        let octets = Message::HomeAgentSwitch { addresses, options: Vec::new() }.encode();
        let socket = self.hosts[NODE].listens.iter().copied().find(|socket| socket.role == Role::MobileNode).expect("a protected socket");
        let source = ip(ADDRESSES[FIRST]);
        let heard = Heard { socket, source, destination: ip(HOME), came_from: None, sent_to: Some(ip(ADDRESSES[NODE])), octets };
        self.give(NODE, Input::Mobility(MobilityInput::Heard(heard)));
    }

    /// SPIs of the SAs with keys in a kernel, and between which addresses the tunnels stand.
    fn sas(&self, host: usize) -> (BTreeSet<u32>, BTreeSet<(IpAddr, IpAddr)>) {
        let sas: Vec<_> = self.hosts[host].mirror.sas().into_iter().filter(|sa| !sa.larval && sa.protocol == 50).collect();
        let tunnels = sas.iter().filter(|sa| sa.mode == Some(Mode::Tunnel)).map(|sa| (sa.src, sa.dst));
        (sas.iter().map(|sa| sa.spi.0).collect(), tunnels.collect())
    }

    /// The binding and payload SAs stand with this home agent and with no other, in the kernels of both, and so do the node's policies.
    fn assert_with(&self, host: usize) {
        let (ours, tunnels) = self.sas(NODE);
        let other = FIRST + SECOND - host;
        let trace = || self.hosts.iter().map(|host| format!("{:#?}\n", host.events)).collect::<String>();
        assert_eq!((ours.len(), &ours), (4, &self.sas(host).0), "{}", trace());
        assert!(self.sas(other).0.is_empty(), "{}", trace());
        let (here, there) = (ip(ADDRESSES[NODE]), ip(ADDRESSES[host]));
        assert_eq!(tunnels, [(here, there), (there, here)].into());
        let policies: Vec<_> = self.hosts[NODE].mirror.policies().collect();
        let transport = policies.iter().filter(|entry| entry.templates.iter().any(|template| template.mode == Mode::Transport));
        let named: BTreeSet<IpAddr> =
            transport.map(|entry| if entry.direction == Direction::Out { entry.selector.dst } else { entry.selector.src }.addr()).collect();
        assert_eq!(named, [there].into(), "policies of the home agent that was left are gone");
        let out =
            policies.iter().find(|entry| entry.direction == Direction::Out && entry.templates.iter().any(|it| it.mode == Mode::Tunnel));
        assert_eq!(out.map(|entry| entry.templates[0].endpoints.dst), Some(there));
    }

    fn told(&self, because: Cause, registers: bool) -> bool {
        let fits =
            |event: &Event| matches!(event, Event::PeerAddress { cause, register, .. } if (*cause, *register) == (because, registers));
        self.hosts[NODE].events.iter().any(fits)
    }

    /// The least number of tunnel SAs that the node held at a step since it first held both.
    fn never_without(&mut self, seconds: u64) {
        for _ in 0..seconds {
            assert!(self.sas(NODE).1.len() >= 2, "a moment without tunnel");
            self.pass(1);
        }
    }
}

#[test]
fn a_silent_home_agent_is_followed_by_the_next_one() {
    let mut hosts = Hosts::new(None, &[FIRST]);
    hosts.pass(600);
    hosts.assert_with(SECOND);
    assert!(hosts.told(Cause::PEER_SILENT, true));
}

#[test]
fn when_all_are_silent_the_first_one_is_tried_again() {
    let mut hosts = Hosts::new(None, &[FIRST, SECOND]);
    hosts.pass(600);
    hosts.silent.clear();
    hosts.pass(600);
    let up = |event: &Event| matches!(event, Event::Keying(KeyingEvent::IkeUp { .. }));
    assert_eq!(hosts.hosts[NODE].events.iter().filter(|event| up(event)).count(), 1);
    let with = if hosts.sas(FIRST).0.is_empty() { SECOND } else { FIRST };
    hosts.assert_with(with);
}

#[test]
fn a_home_agent_sends_its_nodes_on_before_they_register() {
    for when in [SendOn::Init, SendOn::Auth] {
        let mut hosts = Hosts::new(Some(when), &[]);
        hosts.pass(60);
        hosts.assert_with(SECOND);
        assert!(hosts.told(Cause::REDIRECTED, true), "{when:?}");
    }
}

#[test]
fn an_operator_moves_a_session_to_another_home_agent() {
    let mut hosts = Hosts::new(None, &[]);
    hosts.pass(10);
    hosts.assert_with(FIRST);
    let arguments = Section::new().with("ike", "mn.example").with("gateway", ADDRESSES[SECOND]);
    hosts.give(FIRST, Input::Command(CommandId(1), Command::Vici { name: "redirect".to_owned(), arguments }));
    hosts.never_without(20);
    assert!(hosts.told(Cause::SESSION_REDIRECTED, false), "no registration follows from it");
    let tunnels = hosts.sas(NODE).1;
    let with = |host: usize| tunnels.contains(&(ip(ADDRESSES[NODE]), ip(ADDRESSES[host])));
    assert!(with(FIRST) && with(SECOND), "the binding that stands is protected for a while");
    hosts.never_without(300);
    hosts.assert_with(SECOND);
}

//= rfc5142#6.1
//# the mobile node establishes SAs with the new home agent
#[test]
fn a_home_agent_switch_makes_sas_with_the_new_home_agent_before_the_old_ones_go() {
    let mut hosts = Hosts::new(None, &[]);
    hosts.pass(10);
    hosts.assert_with(FIRST);
    assert!(hosts.hosts[NODE].listens.iter().all(|socket| socket.reqid == Reqids::default().to_mobile_node || socket.reqid == Reqid(2)));
    hosts.switch(&[SECOND]);
    hosts.never_without(20);
    hosts.assert_with(SECOND);
    assert!(hosts.told(Cause::HOME_AGENT_SWITCH, true));
    // It says so again until the binding is deleted: it is nobody any more.
    hosts.switch(&[FIRST]);
    hosts.pass(20);
    hosts.assert_with(SECOND);
}

//= rfc5142#6.1
//# the mobile node deletes its binding with the home agent that it leaves, which takes the SAs of that binding
#[test]
fn what_stands_with_the_home_agent_that_is_left_serves_three_seconds_more() {
    let mut hosts = Hosts::new(None, &[]);
    hosts.pass(10);
    let before = hosts.sas(FIRST).0;
    hosts.switch(&[SECOND]);
    hosts.pass(2);
    assert_eq!(hosts.sas(SECOND).0.len(), 4, "the new ones stand");
    assert!(before.is_subset(&hosts.sas(NODE).0) && hosts.sas(FIRST).0 == before, "the daemon can still end its binding");
    hosts.pass(2);
    hosts.assert_with(SECOND);
}
