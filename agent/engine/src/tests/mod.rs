//! The engine driven by hand: a keying module that only writes down what it is asked, a kernel that is this file.

mod acquire;
mod adoption;
mod assign;
mod control;
mod following;
mod home_agents;
mod hostile;
mod key_mobility;
mod manual;
mod movement;
mod overtaken;
mod rereading;
mod routing;
mod timing;
mod verification;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use watari_crypto::FakeProvider;
use watari_kernel::{
    Capability, Endpoints, KernelEvent, KernelReply, KernelRequest, KmAddress, Migrate, MigrateSource, MigrateStep, Now, PolicyAction,
    PolicyEntry, PolicyIndex, PolicyKind, RequestId, SaId, SaInfo, SaKeys, SaParameters, Spi, Template,
};
use watari_policies::algorithm::{ChildSuite, Cipher};
use watari_policies::profile::{HomeAgentProfile, MobileNodeProfile, ServedNode, home_agent, mobile_node};
use watari_policies::selector::MOBILITY_HEADER;
use watari_policies::{Config, Direction, Mode, PolicyId, Protocol, RemoteId, Reqid, Secret, Selector};
use watari_sa::{
    Action, ChildId, ChildSa, ChildState, Context, Deadline, IkeId, IkeState, IkeStatus, Keying, KeyingEvent, KeyingInput, Owner, Path,
    SaHalf, Target, Want,
};

use crate::{Agent, AgentOptions, Event, Input, Output};

pub(super) const HOA: &str = "2001:db8:1::abcd";
pub(super) const HA: &str = "2001:db8:1::1";
pub(super) const COA1: &str = "2001:db8:f1::e";
pub(super) const COA2: &str = "2001:db8:f2::e";
pub(super) const BINDING: PolicyId = PolicyId(0);
pub(super) const PAYLOAD: PolicyId = PolicyId(1);
pub(super) const QUIET: u64 = 75;

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().expect("address")
}

pub(super) fn ends(src: &str, dst: &str) -> Endpoints {
    Endpoints { src: ip(src), dst: ip(dst) }
}

pub(super) fn km(local: &str, remote: &str) -> KmAddress {
    KmAddress { local: ip(local), remote: ip(remote) }
}

pub(super) fn at(millis: u64) -> Now {
    let boot = Duration::from_millis(millis);
    Now { boot, wall: Duration::from_secs(1_700_000_000) + boot }
}

pub(super) fn selector(src: &str, dst: &str) -> Selector {
    let net = |text: &str| if text == "::" { "::/0".parse().expect("net") } else { ip(text).into() };
    Selector::between(net(src), net(dst))
}

pub(super) fn binding_selector(src: &str, dst: &str) -> Selector {
    selector(src, dst).protocol(MOBILITY_HEADER)
}

/// What the keying module was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Input(String),
    Want(Want),
    Rekey(Target),
    Close(Target),
    Retarget(IkeId, KmAddress),
    Probe(IkeId),
    Forget(IkeId),
    Prove(IkeId, KmAddress),
    Switch(RemoteId, Vec<IpAddr>),
    Redirect(IkeId, String),
}

/// What the test and the keying module share.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) asked: Vec<Asked>,
    pub(super) actions: VecDeque<Action>,
    pub(super) ikes: Vec<IkeStatus>,
    /// How often it made a whole status.
    pub(super) whole_statuses: usize,
    /// How many new configurations it was told of.
    pub(super) reconfigured: usize,
}

struct Fake(Arc<Mutex<Shared>>);

impl Fake {
    fn shared<T>(&self, with: impl FnOnce(&mut Shared) -> T) -> T {
        with(&mut self.0.lock().expect("one thread"))
    }
}

impl Keying for Fake {
    fn handle(&mut self, _: &mut Context<'_>, input: KeyingInput) {
        self.shared(|shared| shared.asked.push(Asked::Input(format!("{input:?}"))));
    }
    fn poll(&mut self) -> Option<Action> {
        self.shared(|shared| shared.actions.pop_front())
    }
    fn deadline(&self) -> Option<Deadline> {
        None
    }
    fn want(&mut self, _: &mut Context<'_>, want: Want) {
        self.shared(|shared| shared.asked.push(Asked::Want(want)));
    }
    fn rekey(&mut self, _: &mut Context<'_>, target: Target) {
        self.shared(|shared| shared.asked.push(Asked::Rekey(target)));
    }
    fn close(&mut self, context: &mut Context<'_>, target: Target) {
        if let Target::Child(child) = target {
            context.children.remove(child);
        }
        self.shared(|shared| shared.asked.push(Asked::Close(target)));
    }
    fn retarget(&mut self, _: &mut Context<'_>, ike: IkeId, addresses: KmAddress) {
        self.shared(|shared| {
            shared.asked.push(Asked::Retarget(ike, addresses));
            for status in shared.ikes.iter_mut().filter(|status| status.id == ike) {
                status.path = Path::between(addresses.local, addresses.remote, 500);
            }
        });
    }
    fn probe(&mut self, _: &mut Context<'_>, ike: IkeId) {
        self.shared(|shared| shared.asked.push(Asked::Probe(ike)));
    }
    fn reconfigured(&mut self) {
        self.shared(|shared| shared.reconfigured += 1);
    }
    fn forget(&mut self, context: &mut Context<'_>, ike: IkeId) {
        let children: Vec<_> = context.children.of_owner(Owner::Ike(ike)).map(|child| child.id).collect();
        for child in children {
            context.children.update(child, |child| child.owner = Owner::None);
        }
        self.shared(|shared| {
            shared.asked.push(Asked::Forget(ike));
            shared.ikes.retain(|status| status.id != ike);
        });
    }
    fn prove(&mut self, _: &mut Context<'_>, ike: IkeId, candidate: KmAddress) {
        self.shared(|shared| shared.asked.push(Asked::Prove(ike, candidate)));
    }
    fn switch(&mut self, _: &mut Context<'_>, remote: RemoteId, addresses: &[IpAddr], cause: watari_sa::Cause) {
        self.shared(|shared| {
            shared.asked.push(Asked::Switch(remote, addresses.to_vec()));
            shared.actions.extend(addresses.first().map(|address| Action::UseAddress { remote, address: *address, cause, for_good: true }));
        });
    }
    fn redirect(&mut self, _: &mut Context<'_>, ike: IkeId, to: &watari_policies::Gateway) -> Result<(), String> {
        self.shared(|shared| shared.asked.push(Asked::Redirect(ike, to.to_string())));
        Ok(())
    }
    fn ike_sas_of(&self, remote: RemoteId) -> Vec<IkeId> {
        self.shared(|shared| shared.ikes.iter().filter(|ike| ike.remote == Some(remote)).map(|ike| ike.id).collect())
    }
    fn path_of(&self, ike: IkeId) -> Option<Path> {
        self.shared(|shared| shared.ikes.iter().find(|status| status.id == ike).map(|status| status.path))
    }
    fn stands(&self, ike: IkeId) -> bool {
        let stands = |status: &IkeStatus| status.id == ike && !matches!(status.state, IkeState::AwaitInit | IkeState::AwaitAuth);
        self.shared(|shared| shared.ikes.iter().any(stands))
    }
    fn status(&self, ike: IkeId) -> Option<IkeStatus> {
        self.shared(|shared| shared.whole_statuses += 1);
        self.shared(|shared| shared.ikes.iter().find(|status| status.id == ike).cloned())
    }
    fn statuses(&self) -> Vec<IkeStatus> {
        self.shared(|shared| shared.ikes.clone())
    }
}

/// An agent, what it is asked to do, and what it said.
pub(super) struct Bench {
    pub(super) agent: Agent,
    pub(super) shared: Arc<Mutex<Shared>>,
    pub(super) requests: Vec<(RequestId, KernelRequest)>,
    pub(super) events: Vec<Event>,
    pub(super) outputs: Vec<Output>,
}

impl Bench {
    /// An agent that has asked for the kernel's state and waits for it.
    pub(super) fn waiting(config: Config, options: AgentOptions) -> Self {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let keying = Box::new(Fake(shared.clone()));
        let agent = Agent::with_keying(config, [7; 32], Arc::new(FakeProvider), Capability::default(), options, keying);
        let mut bench = Self { agent, shared, requests: Vec::new(), events: Vec::new(), outputs: Vec::new() };
        bench.drain();
        bench
    }

    /// An agent that found `policies` and `sas` in the kernel.
    pub(super) fn started(config: Config, policies: Vec<PolicyEntry>, sas: Vec<SaInfo>) -> Self {
        let mut bench = Self::waiting(config, AgentOptions::default());
        bench.answer(0, |request| matches!(request, KernelRequest::DumpPolicies), KernelReply::Policies(policies));
        bench.answer(0, |request| matches!(request, KernelRequest::DumpSas), KernelReply::Sas(sas));
        bench
    }

    /// The mobile node away at `coa`, policies in the kernel, one IKE SA and one child SA per policy.
    pub(super) fn mobile_node(coa: &str) -> Self {
        let mut bench = Self::started(mobile_node(MobileNodeProfile::default()), mobile_node_policies(coa), Vec::new());
        bench.ike(1, 0, coa, HA);
        bench.child(11, BINDING, 0x11, Mode::Transport, ends(HOA, HA));
        bench.child(12, PAYLOAD, 0x12, Mode::Tunnel, ends(coa, HA));
        bench
    }

    fn drain(&mut self) {
        loop {
            match self.agent.poll() {
                Output::Wait(_) => return,
                Output::Kernel(id, request) => self.requests.push((id, request)),
                Output::Event(event) => self.events.push(event),
                other => self.outputs.push(other),
            }
        }
    }

    pub(super) fn input(&mut self, millis: u64, input: Input) {
        self.agent.handle(at(millis), input);
        self.drain();
    }

    pub(super) fn kernel(&mut self, millis: u64, event: KernelEvent) {
        self.input(millis, Input::Kernel(event));
    }

    /// Makes the keying module do something.
    pub(super) fn act(&mut self, millis: u64, action: Action) {
        self.shared.lock().expect("one thread").actions.push_back(action);
        self.input(millis, Input::WorkDone(watari_sa::WorkId(0), watari_sa::WorkDone::Mac(Vec::new())));
        self.asked();
    }

    /// Answers the first request that fits.
    pub(super) fn answer(&mut self, millis: u64, fits: impl Fn(&KernelRequest) -> bool, reply: KernelReply) {
        let position = self.requests.iter().position(|(_, request)| fits(request)).expect("a request that fits");
        let (id, _) = self.requests.remove(position);
        self.input(millis, Input::Done(id, Ok(reply)));
    }

    /// What the keying module was asked since the last look.
    pub(super) fn asked(&mut self) -> Vec<Asked> {
        std::mem::take(&mut self.shared.lock().expect("one thread").asked)
    }

    /// What was told since the last look.
    pub(super) fn told(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    pub(super) fn ike(&mut self, id: u64, remote: u32, local: &str, peer: &str) {
        let status = IkeStatus {
            id: IkeId(id),
            remote: Some(RemoteId(remote)),
            state: IkeState::Established,
            initiator: true,
            initiator_spi: id,
            responder_spi: id,
            path: Path::between(ip(local), ip(peer), 500),
            suite: "aes256gcm16-prfsha384-ecp384".into(),
            created: Duration::ZERO,
            rekey_at: None,
            tasks: Vec::new(),
            negotiating: Vec::new(),
            nat: Default::default(),
        };
        self.shared.lock().expect("one thread").ikes.push(status);
    }

    /// A child SA whose SAs passed by the engine on their way to the kernel; inbound SPI `spi`, outbound `spi + 0x100`.
    pub(super) fn child(&mut self, id: u64, policy: PolicyId, spi: u32, mode: Mode, outbound: Endpoints) {
        let config = self.agent.core.config.policy(policy).expect("policy").clone();
        let suite = ChildSuite { cipher: Cipher::AES128GCM16, integrity: None, esn: false };
        let half = |spi, endpoints, direction, reqid| SaHalf {
            spi: Spi(spi),
            endpoints,
            selector: config.traffic.kernel_selectors(direction, true).sa,
            reqid,
            installed: true,
        };
        let child = ChildSa {
            id: ChildId(id),
            owner: Owner::Ike(IkeId(1)),
            policy,
            remote: config.remote,
            protocol: Protocol::Esp,
            mode,
            traffic: config.traffic.clone(),
            inbound: half(spi, outbound.reversed(), Direction::In, config.reqid_in),
            outbound: half(spi + 0x100, outbound, Direction::Out, config.reqid_out),
            suite,
            encapsulation: None,
            created: Duration::ZERO,
            rekey_at: None,
            expires_at: None,
            state: ChildState::Installed,
        };
        self.agent.core.children.insert(child.clone());
        for half in [&child.inbound, &child.outbound] {
            let parameters = SaParameters {
                id: SaId { dst: half.endpoints.dst, protocol: Protocol::Esp, spi: half.spi },
                src: half.endpoints.src,
                mode,
                reqid: half.reqid,
                selector: half.selector,
                keys: SaKeys { suite, encryption: Secret::new(vec![spi as u8; 20]), integrity: Secret::default() },
                replay_window: 64,
                lifetime: Default::default(),
                encapsulation: None,
            };
            let request = KernelRequest::AddSa { parameters: Box::new(parameters), allocated: false, sequence: 0 };
            let id = RequestId(1_000_000 + u64::from(half.spi.0));
            self.act(0, Action::Kernel(id, request));
            self.input(0, Input::Done(id, Ok(KernelReply::Done)));
        }
        self.requests.clear();
        self.asked();
    }

    pub(super) fn child_at(&self, id: u64) -> (Endpoints, Endpoints) {
        let child = self.agent.core.children.get(ChildId(id)).expect("child");
        (child.inbound.endpoints, child.outbound.endpoints)
    }

    pub(super) fn event(&mut self, millis: u64, event: KeyingEvent) {
        self.act(millis, Action::Event(event));
    }
}

pub(super) fn entry(selector: Selector, direction: Direction, index: u32, template: Template) -> PolicyEntry {
    PolicyEntry {
        selector,
        direction,
        kind: PolicyKind::Main,
        index: PolicyIndex(index),
        priority: 10,
        action: PolicyAction::Allow,
        templates: vec![template],
    }
}

pub(super) fn payload_policies(coa: &str) -> Vec<PolicyEntry> {
    let out = Template::esp(Mode::Tunnel, Reqid(7), ends(coa, HA));
    let inbound = Template::esp(Mode::Tunnel, Reqid(8), ends(HA, coa));
    vec![entry(selector(HOA, "::"), Direction::Out, 3, out), entry(selector("::", HOA), Direction::In, 4, inbound)]
}

pub(super) fn mobile_node_policies(coa: &str) -> Vec<PolicyEntry> {
    let transport = |reqid| Template::esp(Mode::Transport, Reqid(reqid), ends("::", "::"));
    let mut policies = vec![
        entry(binding_selector(HOA, HA), Direction::Out, 1, transport(1)),
        entry(binding_selector(HA, HOA), Direction::In, 2, transport(2)),
    ];
    policies.extend(payload_policies(coa));
    policies
}

fn migrate(
    selector: Selector,
    direction: Direction,
    (mode, reqid): (Mode, u32),
    (old, new): (Endpoints, Endpoints),
    km: KmAddress,
) -> Migrate {
    let step = MigrateStep { protocol: Protocol::Esp, mode, reqid: Reqid(reqid), old, new };
    Migrate { selector, direction, steps: vec![step], kmaddress: Some(km), source: MigrateSource::Netlink }
}

/// The messages mip6d sends on a mobile node that moves.
pub(super) fn burst(old: &str, new: &str) -> Vec<Migrate> {
    let none = ends("::", "::");
    let km = km(new, HA);
    let (there, back) = ((ends(old, HA), ends(new, HA)), (ends(HA, old), ends(HA, new)));
    vec![
        migrate(binding_selector(HOA, HA), Direction::Out, (Mode::Transport, 1), (none, ends(new, HA)), km),
        migrate(binding_selector(HA, HOA), Direction::In, (Mode::Transport, 2), (none, ends(HA, new)), km),
        migrate(selector(HOA, "::"), Direction::Out, (Mode::Tunnel, 7), there, km),
        migrate(selector("::", HOA), Direction::In, (Mode::Tunnel, 8), back, km),
    ]
}

/// A home agent that serves `nodes` mobile nodes with the same reqids.
pub(super) fn home_agent_config(nodes: u16) -> Config {
    let node = |number: u16| ServedNode {
        name: format!("mn{number}"),
        home_address: home_address(number),
        identity: watari_policies::Identity::Fqdn(format!("mn{number}.example")),
        ..ServedNode::default()
    };
    home_agent(HomeAgentProfile { mobile_nodes: (0..nodes).map(node).collect(), ..HomeAgentProfile::default() })
}

pub(super) fn home_address(number: u16) -> IpAddr {
    [0x2001, 0xdb8, 1, 0, 0, 0, 1, number].into()
}

/// An SA as the kernel shows it.
pub(super) fn sa(spi: u32, endpoints: Endpoints, mode: Mode, reqid: u32, selector: Selector) -> SaInfo {
    SaInfo {
        dst: endpoints.dst,
        src: endpoints.src,
        protocol: 50,
        spi: Spi(spi),
        mode: Some(mode),
        reqid: Reqid(reqid),
        selector: Some(selector),
        care_of: None,
        larval: false,
        bytes: 0,
        packets: 0,
        added: u64::from(spi),
        used: 0,
    }
}
