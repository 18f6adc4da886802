//! Two IKEv2 endpoints with in-memory kernels and virtual time; the test decides what the network loses, holds back or repeats.
#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, unreachable_pub)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use watari_crypto::{FakeProvider, Provider, RustCryptoProvider};
use watari_ikev2::Ikev2;
use watari_kernel::{Capability, Endpoints, KernelError, KernelReply, KernelRequest, KmAddress, Now, RequestId, SaId, SaParameters, Spi};
use watari_policies::model::{Authentication, Endpoints as PolicyEndpoints, Retransmit, Settings};
use watari_policies::pad::PadEntry;
use watari_policies::{
    Action as PolicyAction, AddressRange, Config, Identity, Installer, Ipsec, IpsecId, Lifetime, MobilityRole, Mode, Pad, Policy, PolicyId,
    Ports, Protocol, Remote, RemoteId, Reqid, Secret, SecretId, Selector, Traffic, TrafficItem,
};
use watari_sa::{
    Action, Assignment, ChildId, ChildSa, Context, Datagram, Denial, Ids, IkeId, IkeState, Keying, KeyingEvent, KeyingInput, Path, Rng,
    SaTable, Target, Transmit, Trigger, Undeliverable, Want, Whereabouts, Wish, Work, WorkDone, WorkId, work,
};

pub const A: &str = "2001:db8:f1::a";
pub const A2: &str = "2001:db8:f2::a";
pub const A3: &str = "2001:db8:f3::a";
pub const B: &str = "2001:db8::b";
/// Other addresses of B, or of hosts that do not answer.
pub const B2: &str = "2001:db8::b2";
pub const B3: &str = "2001:db8::b3";
/// Home address of A.
pub const HOA: &str = "2001:db8:1::abcd";
pub const HA: &str = "2001:db8:1::1";

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn host(text: &str) -> AddressRange {
    AddressRange::host(ip(text))
}

/// Where a host believes addresses to be.
pub struct Places {
    pub ike: Option<KmAddress>,
    /// End points of tunnels, if not those of IKE.
    pub tunnel: Option<Endpoints>,
    pub transport: Endpoints,
    pub modes: BTreeMap<PolicyId, Mode>,
}

impl Whereabouts for Places {
    fn ike_addresses(&self, _: RemoteId) -> Option<KmAddress> {
        self.ike
    }

    fn sa_endpoints(&self, policy: PolicyId, ike: KmAddress) -> Endpoints {
        match self.modes.get(&policy) {
            Some(Mode::Tunnel) => self.tunnel.unwrap_or(Endpoints { src: ike.local, dst: ike.remote }),
            _ => self.transport,
        }
    }
}

/// A kernel that answers at once and keeps what a real one would.
#[derive(Default)]
pub struct Kernel {
    pub sas: BTreeMap<SaId, SaParameters>,
    pub larval: BTreeSet<SaId>,
    pub next: u32,
    /// How many further `AddSa` succeed before one is refused.
    pub refuse_add: Option<u32>,
    /// Answers are held back while set.
    pub held: bool,
    pub waiting: VecDeque<(RequestId, KernelRequest)>,
    /// In order of insertion, what was ever added.
    pub added: Vec<SaId>,
}

impl Kernel {
    fn answer(&mut self, request: KernelRequest) -> Result<KernelReply, KernelError> {
        let error = |errno, request| KernelError { errno, text: String::new(), request };
        match request {
            KernelRequest::AllocateSpi { endpoints, protocol, .. } => {
                self.next += 1;
                let spi = Spi(0xc000_0000 + self.next);
                self.larval.insert(SaId { dst: endpoints.dst, protocol, spi });
                Ok(KernelReply::Spi(spi))
            }
            KernelRequest::AddSa { parameters, allocated, .. } => {
                if let Some(left) = &mut self.refuse_add {
                    if *left == 0 {
                        self.refuse_add = None;
                        return Err(error(22, "add an SA"));
                    }
                    *left -= 1;
                }
                let id = parameters.id;
                if allocated && !self.larval.remove(&id) {
                    return Err(error(3, "update an SA"));
                }
                if !allocated && self.sas.contains_key(&id) {
                    return Err(error(17, "add an SA"));
                }
                self.added.push(id);
                self.sas.insert(id, *parameters);
                Ok(KernelReply::Done)
            }
            KernelRequest::DeleteSa(id) => {
                self.sas.remove(&id);
                self.larval.remove(&id);
                Ok(KernelReply::Done)
            }
            _ => Ok(KernelReply::Done),
        }
    }
}

/// One end.
pub struct Host {
    pub ike: Ikev2,
    pub config: Config,
    /// What was wished for about home addresses, and who decides.
    pub wishes: Vec<Wish>,
    pub assign: fn(&mut Config, RemoteId, Wish) -> Assignment,
    pub children: SaTable,
    pub rng: Rng,
    pub ids: Ids,
    pub provider: Box<dyn Provider>,
    pub places: Places,
    pub capability: Capability,
    pub kernel: Kernel,
    /// Wall time at the start of virtual time, since the Unix epoch.
    pub born: Duration,
    pub secrets: BTreeMap<SecretId, Secret>,
    pub events: Vec<KeyingEvent>,
    /// Work is held back while set.
    pub hold_work: bool,
    pub works: VecDeque<(WorkId, Work)>,
    /// Local addresses that cannot be sent from.
    pub tentative: BTreeSet<IpAddr>,
    /// What left, in order.
    pub sent: Vec<Transmit>,
}

macro_rules! context {
    ($host:expr, $now:expr) => {
        Context {
            now: Now { boot: $now, wall: $host.born + $now },
            config: &$host.config,
            children: &mut $host.children,
            rng: &mut $host.rng,
            ids: &mut $host.ids,
            provider: &*$host.provider,
            whereabouts: &$host.places,
            capability: &$host.capability,
        }
    };
}

impl Host {
    pub fn handle(&mut self, now: Duration, input: KeyingInput) {
        let mut context = context!(self, now);
        self.ike.handle(&mut context, input);
    }

    pub fn with<T>(&mut self, now: Duration, act: impl FnOnce(&mut Ikev2, &mut Context<'_>) -> T) -> T {
        let mut context = context!(self, now);
        act(&mut self.ike, &mut context)
    }

    pub fn count(&self, what: impl Fn(&KeyingEvent) -> bool) -> usize {
        self.events.iter().filter(|event| what(event)).count()
    }

    pub fn inits(&self) -> usize {
        self.count(|event| matches!(event, KeyingEvent::InitSent { .. }))
    }

    pub fn established(&self) -> Vec<IkeId> {
        self.ike.statuses().into_iter().filter(|status| status.state == IkeState::Established).map(|status| status.id).collect()
    }

    pub fn installed(&self) -> Vec<&ChildSa> {
        self.children.iter().filter(|sa| sa.state == watari_sa::ChildState::Installed).collect()
    }

    /// Whether the kernel holds exactly the halves of the table and no larval states.
    pub fn assert_kernel_matches(&self) {
        let mut expected = BTreeSet::new();
        for sa in self.children.iter() {
            if sa.inbound.installed {
                expected.insert(sa.inbound_id());
            }
            if sa.outbound.installed {
                expected.insert(sa.outbound_id());
            }
        }
        assert_eq!(self.kernel.sas.keys().copied().collect::<BTreeSet<_>>(), expected, "kernel and table differ");
        assert!(self.kernel.larval.is_empty(), "larval states are left: {:?}", self.kernel.larval);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    A,
    B,
}

/// A datagram under way.
#[derive(Clone, Debug)]
pub struct Flying {
    pub to: Side,
    pub datagram: Datagram,
}

/// Decides what becomes of a datagram: true delivers it.
pub type Filter = Box<dyn FnMut(Side, &Datagram) -> bool>;

pub fn holds(octets: &[u8], wanted: &[u8]) -> bool {
    octets.windows(wanted.len()).any(|window| window == wanted)
}

pub struct Pair {
    pub a: Host,
    pub b: Host,
    pub now: Duration,
    pub wire: VecDeque<Flying>,
    pub filter: Option<Filter>,
    /// Everything in order, for the message of a failed test.
    pub log: Vec<String>,
}

pub fn retransmit() -> Retransmit {
    Retransmit { initial: Duration::from_secs(1), base_tenths: 18, cap: Duration::from_secs(20), tries: 5 }
}

pub fn lifetime(hard: u64, soft: u64) -> Lifetime {
    Lifetime { hard: Duration::from_secs(hard), soft: Duration::from_secs(soft), jitter: Duration::ZERO, bytes: 0, packets: 0 }
}

pub fn remote(name: &str, ours: &str, theirs: &str) -> Remote {
    Remote {
        name: name.to_owned(),
        local_address: None,
        remote_address: None,
        gateways: Default::default(),
        allowed_from: Vec::new(),
        local_identity: Identity::Fqdn(ours.to_owned()),
        remote_identity: Identity::Fqdn(theirs.to_owned()),
        authentication: Authentication::Psk(SecretId(1)),
        role: MobilityRole::None,
        assigned: None,
        proposals: vec!["aes128gcm16-prfsha256-x25519-ecp256".parse().unwrap(), "aes128-sha256-x25519".parse().unwrap()],
        lifetime: lifetime(0, 0),
        retransmit: retransmit(),
        liveness: None,
        initial_contact: false,
        start: false,
        movements: Default::default(),
        line: 0,
    }
}

pub fn policy(name: &str, mode: Mode, local: TrafficItem, remote: TrafficItem, reqid: u32) -> Policy {
    Policy {
        name: name.to_owned(),
        traffic: Traffic::new(local, remote),
        action: PolicyAction::Protect,
        mode,
        reqid_out: Reqid(reqid),
        reqid_in: Reqid(reqid + 1),
        priority: 1,
        endpoints: PolicyEndpoints::Ike,
        installer: Installer::Other,
        ipsec: IpsecId(0),
        remote: RemoteId(0),
        line: 0,
    }
}

pub fn mh(address: &str, message_type: u8) -> TrafficItem {
    TrafficItem { range: host(address), protocol: 135, ports: Ports::mh_type(message_type) }
}

pub fn any(address: &str) -> TrafficItem {
    TrafficItem::any(host(address))
}

/// The policies of A; B's are their mirror image.
pub fn policies() -> Vec<Policy> {
    vec![
        policy("bu", Mode::Transport, mh(HOA, 5), mh(HA, 6), 1),
        policy("hoti", Mode::Tunnel, mh(HOA, 1), TrafficItem { range: AddressRange::ANY_V6, protocol: 135, ports: Ports::mh_type(3) }, 5),
        policy("payload", Mode::Tunnel, any(HOA), TrafficItem::any(AddressRange::ANY_V6), 7),
    ]
}

fn make_host(policies: Vec<Policy>, remote: Remote, seed: u8, places: Places) -> Host {
    let ipsec = Ipsec {
        name: "esp".to_owned(),
        protocol: Protocol::Esp,
        proposals: vec!["aes128gcm16".parse().unwrap(), "aes128-sha256".parse().unwrap()],
        lifetime: lifetime(0, 0),
        replay_window: 64,
        dormant: None,
        manual: None,
    };
    let pad = Pad::from_iter([PadEntry { identity: Some(remote.remote_identity.clone()), prefixes: vec!["::/0".parse().unwrap()] }]);
    Host {
        ike: Ikev2::new(true),
        config: Config { remotes: vec![remote], policies, ipsecs: vec![ipsec], pad, settings: Settings::default(), ..Config::default() },
        wishes: Vec::new(),
        assign: |_, _, _| Assignment::Refused(Denial::NotServed),
        children: SaTable::default(),
        rng: Rng::new([seed; 32]),
        ids: Ids::default(),
        provider: Box::new(RustCryptoProvider),
        places,
        capability: Capability::default(),
        kernel: Kernel::default(),
        born: Duration::from_secs(1_780_000_000),
        secrets: BTreeMap::from([(SecretId(1), Secret::from(&b"test-psk-123"[..]))]),
        events: Vec::new(),
        hold_work: false,
        works: VecDeque::new(),
        tentative: BTreeSet::new(),
        sent: Vec::new(),
    }
}

impl Pair {
    pub fn new() -> Self {
        Self::seeded(1)
    }

    pub fn seeded(seed: u8) -> Self {
        let ours = policies();
        let modes: BTreeMap<PolicyId, Mode> = ours.iter().zip(0..).map(|(policy, id)| (PolicyId(id), policy.mode)).collect();
        let mirrored = ours
            .iter()
            .map(|policy| Policy {
                traffic: policy.traffic.reversed(),
                reqid_out: policy.reqid_in,
                reqid_in: policy.reqid_out,
                ..policy.clone()
            })
            .collect();
        let transport = Endpoints { src: ip(HOA), dst: ip(HA) };
        let at = |local: &str, remote: &str, transport| Places {
            ike: Some(KmAddress { local: ip(local), remote: ip(remote) }),
            tunnel: None,
            transport,
            modes: modes.clone(),
        };
        let a = make_host(ours, remote("b", "a.example", "b.example"), seed, at(A, B, transport));
        let b = make_host(mirrored, remote("a", "b.example", "a.example"), seed.wrapping_add(100), at(B, A, transport.reversed()));
        Self { a, b, now: Duration::from_secs(1000), wire: VecDeque::new(), filter: None, log: Vec::new() }
    }

    /// Both ends with the fake provider, under which the text in SK can be read on the wire; it is also the fastest.
    pub fn readable(mut self) -> Self {
        for host in [&mut self.a, &mut self.b] {
            host.provider = Box::new(FakeProvider);
        }
        self
    }

    pub fn host(&mut self, side: Side) -> &mut Host {
        match side {
            Side::A => &mut self.a,
            Side::B => &mut self.b,
        }
    }

    fn side_of(&self, address: IpAddr) -> Side {
        if [B, B2, B3].map(ip).contains(&address) { Side::B } else { Side::A }
    }

    /// Takes everything a host wants; true if there was anything.
    fn drain(&mut self, side: Side) -> bool {
        let now = self.now;
        let mut any = false;
        while let Some(action) = self.host(side).ike.poll() {
            any = true;
            match action {
                Action::Transmit(transmit) => self.transmit(side, transmit),
                Action::Kernel(id, request) => {
                    let host = self.host(side);
                    if host.kernel.held {
                        host.kernel.waiting.push_back((id, request));
                    } else {
                        let reply = host.kernel.answer(request);
                        host.handle(now, KeyingInput::Done(id, reply));
                    }
                }
                Action::Work(id, work) => {
                    let host = self.host(side);
                    if host.hold_work {
                        host.works.push_back((id, work));
                    } else {
                        let done = work::perform(&*host.provider, &host.secrets, work);
                        host.handle(now, KeyingInput::WorkDone(id, done));
                    }
                }
                Action::Assign { ike, remote, wish } => {
                    let host = self.host(side);
                    host.wishes.push(wish);
                    let assignment = (host.assign)(&mut host.config, remote, wish);
                    host.handle(now, KeyingInput::Assigned(ike, assignment));
                }
                Action::UseAddress { remote, address, .. } => {
                    let host = self.host(side);
                    let policies: Vec<_> = host.config.policies_of(remote).map(|(id, _)| id).collect();
                    host.config.set_address(remote, address, &policies);
                    host.places.ike = host.places.ike.map(|known| KmAddress { remote: address, ..known });
                }
                Action::Event(event) => {
                    if !matches!(event, KeyingEvent::Keys { .. }) {
                        self.log.push(format!("{:>9.3} {side:?} {event:?}", now.as_secs_f64()));
                    }
                    self.host(side).events.push(event);
                }
            }
        }
        any
    }

    fn transmit(&mut self, side: Side, transmit: Transmit) {
        let now = self.now;
        let local = transmit.path.local.ip();
        if self.host(side).tentative.contains(&local) {
            return self.host(side).handle(now, KeyingInput::Undeliverable(transmit.id, Undeliverable::Tentative));
        }
        self.host(side).sent.push(transmit.clone());
        self.log.push(format!("{:>9.3} {side:?} sends {} via {}", now.as_secs_f64(), name(&transmit.octets), transmit.path));
        let mut path = Path { local: transmit.path.remote, remote: transmit.path.local, interface: 0 };
        if local.is_unspecified() {
            // As the kernel chooses.
            path.remote.set_ip(if side == Side::A { ip(A) } else { ip(B) });
        }
        let to = self.side_of(path.local.ip());
        self.wire.push_back(Flying { to, datagram: Datagram { path, octets: transmit.octets } });
    }

    /// Lets both hosts act until they only wait for the network or for time.
    pub fn settle(&mut self) {
        while self.drain(Side::A) | self.drain(Side::B) {}
    }

    /// Delivers everything under way until nothing moves any more.
    pub fn run(&mut self) {
        for _ in 0..10_000 {
            self.settle();
            let Some(flying) = self.wire.pop_front() else { return };
            self.deliver(flying);
        }
        panic!("the two endpoints never stop talking");
    }

    /// Delivers one datagram.
    pub fn deliver(&mut self, flying: Flying) {
        let (now, to) = (self.now, flying.to);
        let passes = self.filter.as_mut().is_none_or(|filter| filter(to, &flying.datagram));
        let verb = if passes { "gets" } else { "misses" };
        self.log.push(format!("{:>9.3} {to:?} {verb} {}", now.as_secs_f64(), name(&flying.datagram.octets)));
        if passes {
            self.host(to).handle(now, KeyingInput::Datagram(flying.datagram));
        }
        self.settle();
    }

    /// Lets time pass, with every timer on the way.
    pub fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            self.run();
            let next = [self.a.ike.deadline(), self.b.ike.deadline()].into_iter().flatten().map(|deadline| deadline.at).min();
            match next.filter(|at| *at <= end) {
                Some(at) => {
                    self.now = self.now.max(at);
                    let now = self.now;
                    self.a.handle(now, KeyingInput::Timeout);
                    self.b.handle(now, KeyingInput::Timeout);
                }
                None => break,
            }
        }
        self.now = end;
    }

    pub fn pass_secs(&mut self, seconds: u64) {
        self.pass(Duration::from_secs(seconds));
    }

    pub fn want(&mut self, side: Side, policy: u32) {
        let now = self.now;
        let want = Want { policy: PolicyId(policy), trigger: Trigger::Command };
        self.host(side).with(now, |ike, context| ike.want(context, want));
    }

    pub fn acquire(&mut self, side: Side, policy: u32, packet: Selector) {
        let now = self.now;
        let want = Want { policy: PolicyId(policy), trigger: Trigger::Acquire { packet, sequence: 77 } };
        self.host(side).with(now, |ike, context| ike.want(context, want));
    }

    pub fn rekey(&mut self, side: Side, target: Target) {
        let now = self.now;
        self.host(side).with(now, |ike, context| ike.rekey(context, target));
    }

    pub fn close(&mut self, side: Side, target: Target) {
        let now = self.now;
        self.host(side).with(now, |ike, context| ike.close(context, target));
    }

    pub fn retarget(&mut self, side: Side, local: &str, remote: &str) {
        let now = self.now;
        let addresses = KmAddress { local: ip(local), remote: ip(remote) };
        let host = self.host(side);
        host.places.ike = Some(addresses);
        for status in host.ike.statuses() {
            host.with(now, |ike, context| ike.retarget(context, status.id, addresses));
        }
    }

    pub fn probe(&mut self, side: Side) {
        let now = self.now;
        let host = self.host(side);
        for ike in host.established() {
            host.with(now, |endpoint, context| endpoint.probe(context, ike));
        }
    }

    /// An IKE SA with the first child SA (policy 0).
    pub fn up() -> Self {
        let mut pair = Self::new();
        pair.want(Side::A, 0);
        pair.run();
        pair.assert_healthy(1, 1);
        pair
    }

    /// Both sides hold the same IKE SAs and child SAs, and the kernels what the tables say.
    pub fn assert_healthy(&self, ikes: usize, children: usize) {
        let trace = || self.story();
        assert_eq!((self.a.established().len(), self.b.established().len()), (ikes, ikes), "IKE SAs{}", trace());
        assert_eq!((self.a.installed().len(), self.b.installed().len()), (children, children), "child SAs{}", trace());
        let spis = |host: &Host, swap: bool| -> BTreeSet<(Spi, Spi)> {
            let both = host.installed().into_iter().map(|sa| (sa.inbound.spi, sa.outbound.spi));
            both.map(|(inbound, outbound)| if swap { (outbound, inbound) } else { (inbound, outbound) }).collect()
        };
        assert_eq!(spis(&self.a, false), spis(&self.b, true), "SPIs of the two ends");
        if !self.a.kernel.larval.is_empty() || !self.b.kernel.larval.is_empty() {
            println!("{}", self.story());
        }
        self.a.assert_kernel_matches();
        self.b.assert_kernel_matches();
        for sa in self.a.installed() {
            assert!(sa.outbound.installed && sa.inbound.installed, "both halves of {:?}", sa.id);
            let ours = &self.a.kernel.sas[&sa.outbound_id()];
            let theirs = self.b.kernel.sas.values().find(|other| other.id.spi == sa.outbound.spi && other.id.dst == ours.id.dst).unwrap();
            assert_eq!(ours.keys, theirs.keys, "keys of the two ends");
        }
        for (one, other) in [(&self.a, &self.b), (&self.b, &self.a)] {
            for status in one.ike.statuses() {
                let twin = other.ike.statuses().into_iter().any(|twin| {
                    (twin.initiator_spi, twin.responder_spi) == (status.initiator_spi, status.responder_spi)
                        && twin.initiator != status.initiator
                });
                assert!(twin || status.state != IkeState::Established, "IKE SA on one side only: {status:?}{}", trace());
            }
        }
    }

    /// What happened on both sides, for the message of a failed test.
    pub fn story(&self) -> String {
        let statuses = |host: &Host| {
            let row = |status: watari_sa::IkeStatus| {
                format!("  {:?} {:?} {} {:?} {}\n", status.id, status.state, status.initiator, status.tasks, status.path)
            };
            let child = |sa: &ChildSa| {
                format!("  {:?} {:?} {:?} {:?} in {} out {}\n", sa.id, sa.policy, sa.state, sa.owner, sa.inbound.spi, sa.outbound.spi)
            };
            host.ike.statuses().into_iter().map(row).chain(host.children.iter().map(child)).collect::<String>()
        };
        format!("\n{}\nat {:?}\nA:\n{}B:\n{}", self.log.join("\n"), self.now, statuses(&self.a), statuses(&self.b))
    }

    pub fn first_child(&self, side: Side) -> ChildId {
        let host = if side == Side::A { &self.a } else { &self.b };
        host.installed()[0].id
    }
}

/// Kind of an IKE message: exchange type, message id, whether it is a response.
pub fn kind(octets: &[u8]) -> (u8, u32, bool) {
    (octets[18], u32::from_be_bytes(octets[20..24].try_into().unwrap()), octets[19] & 0x20 != 0)
}

/// An IKE message in a log line.
fn name(octets: &[u8]) -> String {
    let (exchange, id, response) = kind(octets);
    let exchange = ["INIT", "AUTH", "CREATE_CHILD", "INFORMATIONAL"].get(usize::from(exchange) - 34).unwrap_or(&"?");
    let plain = if octets[16] == 46 { "" } else { " plain" };
    format!("{exchange} {id} {} of {:02x}{:02x}{plain}", if response { "response" } else { "request" }, octets[0], octets[8])
}

/// Does the work of a host that was held back.
pub fn release_work(pair: &mut Pair, side: Side) {
    let now = pair.now;
    let host = pair.host(side);
    host.hold_work = false;
    for (id, work) in std::mem::take(&mut host.works) {
        let done: WorkDone = work::perform(&*host.provider, &host.secrets, work);
        host.handle(now, KeyingInput::WorkDone(id, done));
    }
}

/// Answers the kernel requests of a host that were held back.
pub fn release_kernel(pair: &mut Pair, side: Side) {
    let now = pair.now;
    let host = pair.host(side);
    host.kernel.held = false;
    for (id, request) in std::mem::take(&mut host.kernel.waiting) {
        let reply = host.kernel.answer(request);
        host.handle(now, KeyingInput::Done(id, reply));
    }
}

/// A side as it is after a restart of the host (nothing remains) or of the daemon (kernel SAs remain and are adopted).
pub fn restart(pair: &mut Pair, side: Side, kernel_too: bool) {
    pair.settle();
    let mut fresh = Pair::new();
    let new = if side == Side::A { &mut fresh.a } else { &mut fresh.b };
    let old = pair.host(side);
    std::mem::swap(&mut old.ike, &mut new.ike);
    old.rng = Rng::new(old.rng.octets(32).try_into().unwrap());
    if kernel_too {
        old.children = SaTable::default();
        // A kernel of another life, which chooses other SPIs.
        old.kernel = Kernel { next: old.kernel.next + 1000, ..Kernel::default() };
    } else {
        // Larval states die by themselves; half an SA is not adopted.
        old.kernel.larval.clear();
        let all: Vec<_> = old.children.iter().cloned().collect();
        for sa in all {
            if sa.inbound.installed && sa.outbound.installed {
                old.children.update(sa.id, |sa| sa.owner = watari_sa::Owner::None);
            } else {
                old.children.remove(sa.id);
                old.kernel.sas.remove(&sa.inbound_id());
                old.kernel.sas.remove(&sa.outbound_id());
            }
        }
    }
}
