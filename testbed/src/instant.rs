//! Agents wired back to back with kernels that grant everything at once: what is left to measure is the agent.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use watari_crypto::{Provider, RustCryptoProvider};
use watari_engine::{Agent, AgentOptions, Event, Input, Output};
use watari_kernel::{
    Acquire, Capability, Endpoints, KernelEvent, KernelReply, KernelRequest, KmAddress, Migrate, MigrateSource, MigrateStep, Now,
    PolicyAction, PolicyEntry, PolicyIndex, PolicyKind, SaId, SaInfo, SaParameters, Spi, Template,
};
use watari_policies::profile::{HomeAgentProfile, MobileNodeProfile, Protected, ServedNode, Terms, home_agent, mobile_node};
use watari_policies::{Config, Direction, Identity, Mode, Policy, Protocol, Reqid, Secret, SecretId, Selector};
use watari_sa::work::perform;
use watari_sa::{Datagram, KeyingEvent, Path, Transmit};

/// The home agent of every node.
pub(crate) const HOME_AGENT: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1));
const SECRET: SecretId = SecretId(0);

/// Home address of the node with this number.
pub(crate) fn home_address(node: u32) -> IpAddr {
    let [high, low] = [node >> 16, node & 0xffff].map(|part| u16::try_from(part).unwrap_or(0));
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 1, high, low))
}

/// Care-of address of a node on a foreign link.
pub(crate) fn care_of(node: u32, link: u16) -> IpAddr {
    let [high, low] = [node >> 16, node & 0xffff].map(|part| u16::try_from(part).unwrap_or(0));
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xf0 + link, 0, 0, 1, high, low))
}

/// Six kernel policies a node: binding messages, prefix discovery and payload, each way.
fn terms() -> Terms {
    let protect = [Protected::Binding, Protected::PrefixDiscovery, Protected::Payload].map(|what| (what, what.usual_reqids()));
    Terms { protect: protect.into(), ..Terms::default() }
}

/// One agent with its instant kernel.
pub(crate) struct Host {
    pub(crate) agent: Agent,
    pub(crate) config: Config,
    provider: Arc<dyn Provider>,
    secrets: BTreeMap<SecretId, Secret>,
    next_spi: u32,
    installed: BTreeMap<SaId, SaParameters>,
    /// What left since it was last looked at.
    pub(crate) sent: VecDeque<Transmit>,
    /// Children that came up.
    pub(crate) children: usize,
    /// Every datagram that ever left, for those who want to bend it.
    pub(crate) history: Vec<Transmit>,
    /// Whether `history` is kept.
    pub(crate) keep_history: bool,
    /// Time spent in key exchange work.
    pub(crate) work: Duration,
}

impl Host {
    fn new(config: Config, seed: u64, provider: Arc<dyn Provider>) -> Self {
        let mut octets = [0; 32];
        octets[..8].copy_from_slice(&seed.to_le_bytes());
        let agent = Agent::new(config.clone(), octets, Arc::clone(&provider), Capability::default(), AgentOptions::default());
        let secrets = BTreeMap::from([(SECRET, Secret::new(b"a secret of the benchmark".to_vec()))]);
        let mut host = Self {
            agent,
            config,
            provider,
            secrets,
            next_spi: 0x1000,
            installed: BTreeMap::new(),
            sent: VecDeque::new(),
            children: 0,
            history: Vec::new(),
            keep_history: false,
            work: Duration::ZERO,
        };
        host.drain(now(0));
        host
    }

    /// Feeds one input and lets kernel and key keeper answer until the agent waits.
    pub(crate) fn feed(&mut self, at: Now, input: Input) {
        self.agent.handle(at, input);
        self.drain(at);
    }

    fn drain(&mut self, at: Now) {
        self.settle(at, VecDeque::new());
    }

    /// Answers what the agent asked in `outputs`, then drains it.
    pub(crate) fn settle(&mut self, at: Now, mut outputs: VecDeque<Output>) {
        let mut answers = VecDeque::new();
        loop {
            match outputs.pop_front().unwrap_or_else(|| self.agent.poll()) {
                Output::Transmit(transmit) => {
                    if self.keep_history {
                        self.history.push(transmit.clone());
                    }
                    self.sent.push_back(transmit);
                }
                Output::Kernel(id, request) => answers.push_back(Input::Done(id, Ok(self.grant(request)))),
                Output::Work(id, work) => {
                    let begin = Instant::now();
                    let done = perform(&*self.provider, &self.secrets, work);
                    self.work += begin.elapsed();
                    answers.push_back(Input::WorkDone(id, done));
                }
                Output::Event(Event::Keying(KeyingEvent::ChildUp(_))) => self.children += 1,
                Output::Event(_) | Output::Listen(_) | Output::Reply(..) => {}
                Output::Wait(_) => match answers.pop_front() {
                    Some(answer) => self.agent.handle(at, answer),
                    None => return,
                },
            }
        }
    }

    fn grant(&mut self, request: KernelRequest) -> KernelReply {
        match request {
            KernelRequest::AllocateSpi { .. } => {
                self.next_spi += 1;
                KernelReply::Spi(Spi(self.next_spi))
            }
            KernelRequest::AddSa { parameters, .. } => {
                self.installed.insert(parameters.id, *parameters);
                KernelReply::Done
            }
            KernelRequest::DeleteSa(id) => {
                self.installed.remove(&id);
                KernelReply::Done
            }
            // The kernel of the benchmark moves SAs itself: asked at any address, it has them.
            KernelRequest::QuerySa(id) => KernelReply::Sa(Some(info(id))),
            KernelRequest::DumpSas => KernelReply::Sas(Vec::new()),
            KernelRequest::DumpPolicies => KernelReply::Policies(Vec::new()),
            KernelRequest::SetPolicy(_) | KernelRequest::DeletePolicy { .. } | KernelRequest::RefuseAcquire { .. } => KernelReply::Done,
        }
    }
}

fn info(id: SaId) -> SaInfo {
    SaInfo {
        dst: id.dst,
        src: HOME_AGENT,
        protocol: 50,
        spi: id.spi,
        mode: Some(Mode::Tunnel),
        reqid: Reqid(0),
        selector: None,
        care_of: None,
        larval: false,
        bytes: 0,
        packets: 0,
        added: 0,
        used: 0,
    }
}

/// A moment, in milliseconds since the start.
pub(crate) fn now(milliseconds: u64) -> Now {
    Now { boot: Duration::from_millis(1_000_000 + milliseconds), wall: Duration::from_secs(1_800_000_000) }
}

/// The home agent of `nodes` mobile nodes, none registered yet.
pub(crate) fn home_agent_of(nodes: u32, provider: Arc<dyn Provider>) -> Host {
    let served = (0..nodes).map(|node| ServedNode {
        name: format!("mn{node}"),
        home_address: home_address(node),
        identity: identity(node),
        secret: SECRET,
        ..ServedNode::default()
    });
    let profile =
        HomeAgentProfile { home_agent: HOME_AGENT, mobile_nodes: served.collect(), terms: terms(), ..HomeAgentProfile::default() };
    let mut host = Host::new(home_agent(profile), 1, provider);
    announce_policies(&mut host, |policy| home_of(policy, Direction::In));
    host
}

/// One mobile node.
pub(crate) fn mobile_node_of(node: u32, provider: Arc<dyn Provider>) -> Host {
    let profile = MobileNodeProfile {
        home_address: home_address(node),
        home_agent: HOME_AGENT,
        identity: identity(node),
        secret: SECRET,
        terms: terms(),
        ..MobileNodeProfile::default()
    };
    let mut host = Host::new(mobile_node(profile), 2 + u64::from(node), provider);
    announce_policies(&mut host, |policy| home_of(policy, Direction::Out));
    host
}

/// One node's IKE SA with `wanted` children, negotiated from foreign link 1.
pub(crate) fn register(home_agent: &mut Host, host: &mut Host, node: u32, wanted: usize) -> Result<(), String> {
    let before = home_agent.children;
    let care_of = care_of(node, 1);
    for event in migrate(&host.config, home_address(node), home_address(node), care_of, true) {
        host.feed(now(0), Input::Kernel(event));
    }
    for policy in host.config.policies.iter().take(wanted).cloned().collect::<Vec<_>>() {
        host.feed(now(0), Input::Kernel(KernelEvent::Acquire(acquire(&policy, care_of))));
        exchange(home_agent, host, care_of);
    }
    let made = home_agent.children - before;
    if made == wanted { Ok(()) } else { Err(format!("node {node} has {made} children instead of {wanted}")) }
}

/// Carries datagrams between one node and the home agent until both are silent.
pub(crate) fn exchange(home_agent: &mut Host, node: &mut Host, care_of: IpAddr) {
    loop {
        if let Some(transmit) = node.sent.pop_front() {
            home_agent.feed(now(0), Input::Datagram(arrived(transmit, Some(care_of))));
        } else if let Some(transmit) = home_agent.sent.pop_front() {
            node.feed(now(0), Input::Datagram(arrived(transmit, None)));
        } else {
            return;
        }
    }
}

/// A home agent with `nodes` registered mobile nodes, and the nodes.
pub(crate) struct World {
    pub(crate) home_agent: Host,
    pub(crate) nodes: Vec<Host>,
}

impl World {
    /// Every node negotiates its three children from foreign link 1.
    pub(crate) fn registered(nodes: u32) -> Result<Self, String> {
        let provider: Arc<dyn Provider> = Arc::new(RustCryptoProvider);
        let mut world = Self { home_agent: home_agent_of(nodes, Arc::clone(&provider)), nodes: Vec::new() };
        for node in 0..nodes {
            let mut host = mobile_node_of(node, Arc::clone(&provider));
            register(&mut world.home_agent, &mut host, node, 3)?;
            world.nodes.push(host);
        }
        Ok(world)
    }

    /// The node follows its own MIGRATE, and both ends finish what the move started.
    pub(crate) fn follow(&mut self, index: usize, old: IpAddr, new: IpAddr, at: Now) {
        let host = &mut self.nodes[index];
        let home = host.config.remotes.first().and_then(|remote| remote.role.home_address()).unwrap_or(old);
        for event in migrate(&host.config, home, old, new, true) {
            host.feed(at, Input::Kernel(event));
        }
        exchange(&mut self.home_agent, host, new);
        // Verification of what the kernel moved comes after a quiet moment.
        let later = Now { boot: at.boot + Duration::from_millis(500), ..at };
        self.home_agent.feed(later, Input::Timeout);
        host.feed(later, Input::Timeout);
        exchange(&mut self.home_agent, host, new);
    }
}

fn identity(node: u32) -> Identity {
    Identity::Fqdn(format!("mn{node}.example"))
}

/// The same datagram at the other end; an unspecified source is what the kernel would choose.
pub(crate) fn arrived(transmit: Transmit, source: Option<IpAddr>) -> Datagram {
    let mut from = transmit.path.local;
    if let (true, Some(source)) = (from.ip().is_unspecified(), source) {
        from.set_ip(source);
    }
    Datagram { path: Path { local: transmit.path.remote, remote: from, interface: 0 }, octets: transmit.octets }
}

/// The home address of a policy, given the direction in which it is the source.
fn home_of(policy: &Policy, source_in: Direction) -> IpAddr {
    let selector = policy.traffic.kernel_selectors(source_in, true).sa;
    selector.src.addr()
}

/// Tells the agent that the Mobile IPv6 daemon has installed its policies, tunnels still at the home address.
fn announce_policies(host: &mut Host, home: impl Fn(&Policy) -> IpAddr) {
    for policy in host.config.policies.clone() {
        for direction in [Direction::Out, Direction::In] {
            let selector = policy.traffic.kernel_selectors(direction, true).sa;
            let (src, dst) = if selector.src.addr() == home(&policy) { (home(&policy), HOME_AGENT) } else { (HOME_AGENT, home(&policy)) };
            let endpoints = if policy.mode == Mode::Tunnel { Endpoints { src, dst } } else { unspecified() };
            let entry = PolicyEntry {
                selector,
                direction,
                kind: PolicyKind::Main,
                index: PolicyIndex(1),
                priority: policy.priority,
                action: PolicyAction::Allow,
                templates: vec![Template::esp(policy.mode, reqid(&policy, direction), endpoints)],
            };
            host.feed(now(0), Input::Kernel(KernelEvent::PolicyChanged(entry)));
        }
    }
}

fn unspecified() -> Endpoints {
    let any = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    Endpoints { src: any, dst: any }
}

fn reqid(policy: &Policy, direction: Direction) -> Reqid {
    if direction == Direction::Out { policy.reqid_out } else { policy.reqid_in }
}

pub(crate) fn acquire(policy: &Policy, care_of: IpAddr) -> Acquire {
    let selector = policy.traffic.kernel_selectors(Direction::Out, true).sa;
    let host = |net: IpNet| if net.prefix_len() == 128 { net } else { IpNet::from(HOME_AGENT) };
    let packet = Selector { src: host(selector.src), dst: host(selector.dst), ..selector };
    let endpoints = match policy.mode {
        Mode::Tunnel => Endpoints { src: care_of, dst: HOME_AGENT },
        Mode::Transport => Endpoints { src: packet.src.addr(), dst: packet.dst.addr() },
    };
    Acquire {
        sequence: 0,
        packet,
        policy: selector,
        index: PolicyIndex(1),
        direction: Direction::Out,
        template: Template::esp(policy.mode, policy.reqid_out, if policy.mode == Mode::Tunnel { endpoints } else { unspecified() }),
        endpoints,
        care_of: None,
    }
}

/// What mip6d's MIGRATE messages become for one node's move: every policy whose home address it is, both directions.
pub(crate) fn migrate(config: &Config, home: IpAddr, old: IpAddr, new: IpAddr, at_mobile_node: bool) -> Vec<KernelEvent> {
    let kmaddress =
        if at_mobile_node { KmAddress { local: new, remote: HOME_AGENT } } else { KmAddress { local: HOME_AGENT, remote: new } };
    let mut events = Vec::new();
    for policy in &config.policies {
        for direction in [Direction::Out, Direction::In] {
            let selector = policy.traffic.kernel_selectors(direction, true).sa;
            let from_home = selector.src == IpNet::from(home);
            if !from_home && selector.dst != IpNet::from(home) {
                continue;
            }
            let ends =
                |care_of| if from_home { Endpoints { src: care_of, dst: HOME_AGENT } } else { Endpoints { src: HOME_AGENT, dst: care_of } };
            let old = if policy.mode == Mode::Tunnel { ends(old) } else { unspecified() };
            let step = MigrateStep { protocol: Protocol::Esp, mode: policy.mode, reqid: reqid(policy, direction), old, new: ends(new) };
            events.push(KernelEvent::Migrate(Migrate {
                selector,
                direction,
                steps: vec![step],
                kmaddress: Some(kmaddress),
                source: MigrateSource::Netlink,
            }));
        }
    }
    events
}
