//! KAME's octets: the back end's KAME dialect against a kernel that lays its messages out by itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::time::Duration;

use support::played;
use watari_kernel::mirror::acts::{self, COA1, COA2, HA, HOA, HOA2, KernelUnderTest, Sent};
use watari_kernel::mirror::{Arrival, MigrateRequest, Mirror, MobilityState, Model, Packet, Rebound};
use watari_kernel::{
    AddressEvent, AddressFlags, Backend, BackendOutput, Capability, Channel, Endpoints, KernelError, KernelEvent, KernelReply,
    KernelRequest, Migrate, MigrateSource, MigrateStep, Now, PolicyAction, PolicyEntry, PolicyIndex, PolicyKind, RequestId, SaId,
    SaParameters, Spi, Template,
};
use watari_pfkey::{Dialect, KeyBackend, migrate_request};
use watari_policies::algorithm::Integrity;
use watari_policies::{Direction, Mode, Protocol, Reqid, Secret, Selector};
use watari_sim::kame::{KameKernel, KeySocket};
use watari_sim::{Report, Scenario, scenarios};

const PID: u32 = 99;

/// The mirror behind octets.
struct Kame {
    mirror: Mirror,
    kernel: KameKernel,
    socket: KeySocket,
    backend: KeyBackend,
    peer: Mirror,
    now: Now,
    events: Vec<KernelEvent>,
    done: Vec<Result<KernelReply, KernelError>>,
}

impl Kame {
    fn new() -> Self {
        let mut kernel = KameKernel::new(true);
        let socket = kernel.open();
        let mut kame = Self {
            mirror: Mirror::new(Model::Linux6_1, 0x100),
            kernel,
            socket,
            backend: KeyBackend::new(Dialect::Kame, PID),
            peer: Mirror::new(Model::Linux6_1, 0x100),
            now: Now::default(),
            events: Vec::new(),
            done: Vec::new(),
        };
        let event = |address| AddressEvent { interface: 2, address, prefix_len: 64, present: true, flags: AddressFlags::default() };
        [HOA, COA1, COA2].into_iter().for_each(|address| kame.mirror.address(event(address)));
        [HA, HOA2].into_iter().for_each(|address| kame.peer.address(event(address)));
        kame.backend.probe(kame.now, RequestId(0), "");
        kame.exchange();
        assert_eq!(kame.done, [Ok(KernelReply::Done)]);
        kame.done.clear();
        kame
    }

    fn exchange(&mut self) {
        loop {
            self.kernel.announce(&mut self.mirror);
            while let Some(octets) = self.kernel.read(self.socket) {
                self.backend.received(self.now, Channel::Key, &octets);
            }
            let mut wrote = false;
            loop {
                match self.backend.poll() {
                    BackendOutput::Send(_, octets) => {
                        self.kernel.write(&mut self.mirror, self.now, self.socket, &octets);
                        wrote = true;
                    }
                    BackendOutput::Event(event) => {
                        assert!(!matches!(event, KernelEvent::Malformed { .. }), "{event:?}");
                        self.events.push(event);
                    }
                    BackendOutput::Done(_, result) => self.done.push(result),
                    BackendOutput::Wait(_) => break,
                }
            }
            if !wrote {
                return;
            }
        }
    }

    fn ask(&mut self, request: KernelRequest) -> Result<KernelReply, KernelError> {
        self.backend.submit(self.now, RequestId(1), request);
        self.exchange();
        self.done.pop().expect("an answer without time passing")
    }
}

impl KernelUnderTest for Kame {
    fn model(&self) -> Model {
        Model::Linux6_1
    }
    fn capability(&self) -> Capability {
        self.backend.capabilities().clone()
    }
    fn larval_lifetime(&self) -> Duration {
        watari_kernel::mirror::LARVAL_LIFETIME
    }
    fn reset(&mut self) {
        *self = Self::new();
    }
    fn wait(&mut self, time: Duration) {
        self.now.boot += time;
        self.mirror.timeout(self.now);
        self.exchange();
        self.backend.timeout(self.now);
    }
    fn events(&mut self) -> Vec<KernelEvent> {
        self.exchange();
        std::mem::take(&mut self.events)
    }
    fn request(&mut self, mut request: KernelRequest) -> Result<KernelReply, KernelError> {
        if let KernelRequest::AddSa { parameters, .. } = &mut request {
            **parameters = sha1(parameters);
        }
        self.ask(request)
    }
    fn set_policy(&mut self, policy: &PolicyEntry) -> Result<(), i32> {
        self.mirror.set_policy(policy.clone());
        Ok(())
    }
    fn delete_policy(&mut self, selector: &Selector, direction: Direction, kind: PolicyKind) -> Result<(), i32> {
        self.mirror.delete_policy(selector, direction, kind).map_err(|error| error.errno)
    }
    fn set_mobility_state(&mut self, state: &MobilityState) {
        self.mirror.set_mobility_state(self.now, state);
    }
    fn migrate(&mut self, _request: &MigrateRequest) -> Result<(), i32> {
        // No user moves a policy there.
        Err(watari_kernel::errno::EINVAL)
    }
    fn send(&mut self, packet: &Packet) -> Sent {
        self.mirror.output(self.now, packet.clone()).into()
    }
    fn equip_peer(&mut self, policies: &[PolicyEntry], states: &[MobilityState], sa: &SaParameters) {
        policies.iter().for_each(|policy| self.peer.set_policy(policy.clone()));
        states.iter().for_each(|state| self.peer.set_mobility_state(self.now, state));
        let request = KernelRequest::AddSa { parameters: Box::new(sha1(sa)), allocated: false, sequence: 0 };
        self.peer.submit(self.now, RequestId(1), request);
    }
    fn arrive(&mut self, packet: &Packet) -> bool {
        let Some(packet) = self.peer.output(self.now, packet.clone()).packet() else { return false };
        matches!(self.mirror.input(self.now, packet), Arrival::Delivered(_))
    }
    fn forward(&mut self, packet: &Packet) -> Sent {
        match self.mirror.input(self.now, packet.clone()) {
            Arrival::Forward(packet) => self.mirror.output(self.now, packet).into(),
            Arrival::Delivered(_) | Arrival::Dropped(_) => Sent::Nothing,
        }
    }
}

/// The SA with the one integrity algorithm that every KAME installs as its RFC says.
fn sha1(sa: &SaParameters) -> SaParameters {
    let mut sa = sa.clone();
    sa.keys.suite.integrity = Some(Integrity::HmacSha1_96);
    sa.keys.integrity = Secret::new(sa.keys.integrity.expose()[..20].to_vec());
    sa
}

/// The acts of Linux that are not KAME's, and why.
const NOT_KAME: &[(&str, &str)] = &[
    ("migrate-errors", NO_USER_MIGRATE),
    ("migrate-tunnel", NO_USER_MIGRATE),
    ("migrate-newest-only", NO_USER_MIGRATE),
    ("migrate-transport", NO_USER_MIGRATE),
    ("migrate-same", NO_USER_MIGRATE),
    ("migrate-wider", NO_USER_MIGRATE),
    ("migrate-forward", NO_USER_MIGRATE),
    ("migrate-typed", NO_USER_MIGRATE),
    ("migrate-larval", NO_USER_MIGRATE),
    ("migrate-sub", NO_USER_MIGRATE),
    ("acquire-withdrawn", NO_USER_MIGRATE),
    ("query-moved", NO_USER_MIGRATE),
    ("migrate-open-template", NO_USER_MIGRATE),
    ("policy-broadcast", NO_PRIORITY),
    ("policy-replace", NO_PRIORITY),
    ("acquire-once", NO_HARD_EXPIRE),
    ("allocate-expires", NO_HARD_EXPIRE),
    ("lifetime", NO_HARD_EXPIRE),
    ("sa-selector", NO_SA_SELECTOR),
    ("inbound-sa-type", NO_SA_SELECTOR),
    ("inbound-tunnel-sa-type", NO_SA_SELECTOR),
    ("inbound-sa-icmp-type", NO_SA_SELECTOR),
    ("forwarded-sa-type", NO_SA_SELECTOR),
    ("allocate-update", NO_SA_SELECTOR),
    ("probe", "the probe of the MH type is a MIGRATE"),
];
const NO_USER_MIGRATE: &str = "the kernel moves policies itself and takes no MIGRATE";
const NO_PRIORITY: &str = "policies have a place in a list and no priority";
const NO_HARD_EXPIRE: &str = "of the end of an SA or of a larval state nobody is told";
const NO_SA_SELECTOR: &str = "an SA has no selector";

#[test]
fn acts_that_are_the_same_in_kame_pass_through_octets() {
    let mut kernel = Kame::new();
    let mut failed = Vec::new();
    for act in acts::all() {
        let differences = (act.run)(&mut kernel);
        let other = NOT_KAME.iter().any(|(name, _)| *name == act.name);
        if differences.is_empty() == other {
            failed.push(format!("{}: {differences:#?}", act.name));
        }
        if act.name == "allocate-update" {
            assert_eq!(differences.len(), 1, "only the selector: {differences:#?}");
        }
    }
    let unknown = NOT_KAME.iter().filter(|(name, _)| acts::all().iter().all(|act| act.name != *name)).count();
    assert_eq!(unknown, 0);
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

const fn ends(src: std::net::IpAddr, dst: std::net::IpAddr) -> Endpoints {
    Endpoints { src, dst }
}

fn wide() -> Selector {
    Selector::between(HOA.into(), "::/0".parse().unwrap())
}

fn tunnel_policy(direction: Direction) -> PolicyEntry {
    let (selector, endpoints, reqid) = match direction {
        Direction::In => (wide().reversed_addresses(), ends(HA, COA1), 6),
        _ => (wide(), ends(COA1, HA), 5),
    };
    PolicyEntry {
        selector,
        direction,
        kind: PolicyKind::Main,
        index: PolicyIndex(0),
        priority: 0,
        action: PolicyAction::Allow,
        templates: vec![Template::esp(Mode::Tunnel, Reqid(reqid), endpoints)],
    }
}

fn rebinding() -> MigrateRequest {
    let step = MigrateStep { protocol: Protocol::Esp, mode: Mode::Tunnel, reqid: Reqid(5), old: ends(COA1, HA), new: ends(COA2, HA) };
    MigrateRequest { selector: wide(), direction: Direction::Out, kind: PolicyKind::Main, steps: vec![step], kmaddress: None }
}

fn policies(kame: &mut Kame) -> Vec<PolicyEntry> {
    match kame.ask(KernelRequest::DumpPolicies) {
        Ok(KernelReply::Policies(policies)) => policies,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_policy_is_set_read_changed_and_removed() {
    let mut kame = Kame::new();
    assert_eq!(policies(&mut kame), []);
    let mut entry = tunnel_policy(Direction::Out);
    assert_eq!(kame.ask(KernelRequest::SetPolicy(entry.clone())), Ok(KernelReply::Done));
    let first = policies(&mut kame);
    assert_eq!((first.len(), first[0].selector, &first[0].templates), (1, wide(), &entry.templates));
    entry.templates[0].endpoints = ends(COA2, HA);
    assert_eq!(kame.ask(KernelRequest::SetPolicy(entry.clone())), Ok(KernelReply::Done));
    let second = policies(&mut kame);
    assert_eq!((second.len(), &second[0].templates), (1, &entry.templates));
    assert_ne!(first[0].index, second[0].index, "a changed policy is a new one");
    for _ in 0..2 {
        let delete = KernelRequest::DeletePolicy { selector: wide(), direction: Direction::Out, kind: PolicyKind::Main };
        assert_eq!(kame.ask(delete), Ok(KernelReply::Done), "EINVAL is how this kernel says that there is none");
    }
    assert_eq!(policies(&mut kame), []);
}

#[test]
fn an_acquire_of_a_policy_not_seen_before_is_resolved_at_once() {
    let mut kame = Kame::new();
    // Nobody tells of this policy: what the back end knows of it, it has asked for.
    kame.mirror.quietly(|mirror| mirror.set_policy(tunnel_policy(Direction::Out)));
    let hao = MobilityState { ip_protocol: watari_kernel::mirror::HAO, endpoints: ends(HOA, HA), care_of: COA1 };
    kame.mirror.set_mobility_state(kame.now, &hao);
    let upper = watari_kernel::mirror::Upper { protocol: 135, sport: 5, dport: 0, payload: Vec::new() };
    kame.mirror.output(kame.now, Packet::clear(HOA, HA, upper));
    let events = kame.events();
    let [KernelEvent::Acquire(acquire)] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((acquire.template.reqid, acquire.policy, acquire.endpoints), (Reqid(5), wide(), ends(COA1, HA)));
    assert_eq!(acquire.packet, Selector::between(HOA.into(), HA.into()).protocol(135).message_type(5));
    assert_eq!(acquire.care_of, Some(COA1));
}

/// A back end that has not registered hears of policies and of nothing that the kernel does by itself.
#[test]
fn what_the_kernel_does_itself_is_told_to_registered_sockets_alone() {
    let mut kame = Kame::new();
    let deaf = kame.kernel.open();
    for direction in [Direction::Out, Direction::In] {
        kame.mirror.set_policy(tunnel_policy(direction));
    }
    kame.exchange();
    let kinds = |kernel: &mut KameKernel, socket| std::iter::from_fn(|| kernel.read(socket)).map(|octets| octets[1]).collect::<Vec<u8>>();
    assert_eq!(kinds(&mut kame.kernel, deaf), [14, 14]);
    kame.events();
    kame.kernel.rebind(&mut kame.mirror, &rebinding(), Rebound::Migrate).unwrap();
    let events = kame.events();
    let [KernelEvent::Migrate(migrate)] = events.as_slice() else { panic!("{events:?}") };
    let expected =
        Migrate { selector: wide(), direction: Direction::Out, steps: rebinding().steps, kmaddress: None, source: MigrateSource::PfKey };
    assert_eq!(*migrate, expected);
    let back = MigrateStep { old: ends(COA2, HA), new: ends(COA1, HA), ..rebinding().steps[0] };
    kame.kernel.rebind(&mut kame.mirror, &MigrateRequest { steps: vec![back], ..rebinding() }, Rebound::PolicyUpdate).unwrap();
    let events = kame.events();
    assert!(
        matches!(events.as_slice(), [KernelEvent::PolicyChanged(policy)] if policy.templates[0].endpoints == ends(COA1, HA)),
        "{events:?}"
    );
    kame.mirror
        .output(kame.now, Packet::clear(HOA, HA, watari_kernel::mirror::Upper { protocol: 17, sport: 9, dport: 9, payload: Vec::new() }));
    assert!(matches!(kame.events().as_slice(), [KernelEvent::Acquire(_)]));
    assert_eq!(kinds(&mut kame.kernel, deaf), [0_u8; 0], "MIGRATE, SPDUPDATE and ACQUIRE of the kernel are for registered sockets");
}

#[test]
fn no_user_moves_a_policy() {
    let mut kame = Kame::new();
    kame.mirror.set_policy(tunnel_policy(Direction::Out));
    kame.events();
    let wish =
        Migrate { selector: wide(), direction: Direction::Out, steps: rebinding().steps, kmaddress: None, source: MigrateSource::PfKey };
    let octets = migrate_request(Dialect::Kame, &wish, 7, 8).unwrap();
    let socket = kame.kernel.open();
    kame.kernel.write(&mut kame.mirror, kame.now, socket, &octets);
    let answer = kame.kernel.read(socket).unwrap();
    assert_eq!((answer[1], answer[2]), (24, 22), "the entry for SADB_X_MIGRATE is empty: EINVAL");
    assert_eq!(kame.mirror.policies().next().unwrap().templates[0].endpoints, ends(COA1, HA));
}

#[test]
fn an_sa_lives_moves_with_its_tunnel_and_dies() {
    let mut kame = Kame::new();
    kame.mirror.set_policy(tunnel_policy(Direction::In));
    let allocate =
        |reqid| KernelRequest::AllocateSpi { endpoints: ends(HA, COA1), protocol: Protocol::Esp, mode: Mode::Tunnel, reqid: Reqid(reqid) };
    // As the engine reserves: without reqid, so that UPDATE does not find it and ADD takes its place.
    for (reqid, of_sa) in [(6, 6), (0, 6)] {
        let Ok(KernelReply::Spi(spi)) = kame.ask(allocate(reqid)) else { panic!("no SPI") };
        let id = SaId { dst: COA1, protocol: Protocol::Esp, spi };
        let mut parameters = sha1(&SaParameters {
            id,
            src: HA,
            mode: Mode::Tunnel,
            reqid: Reqid(of_sa),
            selector: wide().reversed_addresses(),
            keys: watari_kernel::SaKeys {
                suite: watari_policies::algorithm::ChildSuite {
                    cipher: watari_policies::algorithm::Cipher::AES128,
                    integrity: Some(Integrity::HmacSha1_96),
                    esn: false,
                },
                encryption: Secret::new(vec![1; 16]),
                integrity: Secret::new(vec![2; 20]),
            },
            replay_window: 64,
            lifetime: watari_kernel::SaLifetime::default(),
            encapsulation: None,
        });
        (parameters.lifetime.soft_seconds, parameters.lifetime.hard_seconds) = (10, 20);
        let add = KernelRequest::AddSa { parameters: Box::new(parameters), allocated: true, sequence: 0 };
        assert_eq!(kame.ask(add), Ok(KernelReply::Done));
        let Ok(KernelReply::Sa(Some(sa))) = kame.ask(KernelRequest::QuerySa(id)) else { panic!("not there") };
        assert_eq!((sa.src, sa.reqid, sa.mode, sa.larval, sa.spi), (HA, Reqid(6), Some(Mode::Tunnel), false, spi));
        let step = MigrateStep { reqid: Reqid(6), old: ends(HA, COA1), new: ends(HA, COA2), ..rebinding().steps[0] };
        let request = MigrateRequest { selector: wide().reversed_addresses(), direction: Direction::In, steps: vec![step], ..rebinding() };
        kame.kernel.rebind(&mut kame.mirror, &request, Rebound::Migrate).unwrap();
        kame.exchange();
        let id = SaId { dst: COA2, ..id };
        assert!(matches!(kame.ask(KernelRequest::QuerySa(id)), Ok(KernelReply::Sa(Some(_)))), "KAME compares the source address too");
        kame.events();
        kame.wait(Duration::from_secs(11));
        let events = kame.events();
        assert!(matches!(events.as_slice(), [KernelEvent::Expire(expire)] if !expire.hard && expire.id == id), "{events:?}");
        if reqid == 0 {
            kame.wait(Duration::from_secs(10));
            assert_eq!(kame.events(), [], "of the hard limit nobody is told");
        } else {
            assert_eq!(kame.ask(KernelRequest::DeleteSa(id)), Ok(KernelReply::Done));
        }
        assert_eq!(kame.ask(KernelRequest::QuerySa(id)), Ok(KernelReply::Sa(None)));
        let back = MigrateRequest {
            steps: vec![MigrateStep { old: ends(HA, COA2), new: ends(HA, COA1), ..step }],
            selector: wide().reversed_addresses(),
            direction: Direction::In,
            ..rebinding()
        };
        kame.kernel.rebind(&mut kame.mirror, &back, Rebound::Migrate).unwrap();
    }
    assert_eq!(kame.ask(KernelRequest::DumpSas), Ok(KernelReply::Sas(Vec::new())));
}

#[test]
fn a_refusal_of_an_acquire_is_octets_that_the_kernel_takes_without_a_word() {
    let mut kame = Kame::new();
    kame.mirror.set_policy(tunnel_policy(Direction::Out));
    kame.events();
    let upper = || watari_kernel::mirror::Upper { protocol: 17, sport: 9, dport: 9, payload: Vec::new() };
    kame.mirror.output(kame.now, Packet::clear(HOA, HA, upper()));
    let events = kame.events();
    let [KernelEvent::Acquire(acquire)] = events.as_slice() else { panic!("{events:?}") };
    kame.wait(Duration::from_secs(20));
    assert_eq!(kame.ask(KernelRequest::RefuseAcquire { sequence: acquire.sequence }), Ok(KernelReply::Done));
    // The entry that blocks the next ACQUIRE lives its time from then on.
    for (wait, again) in [(15, false), (20, true)] {
        kame.wait(Duration::from_secs(wait));
        kame.mirror.output(kame.now, Packet::clear(HOA, HA, upper()));
        assert_eq!(!kame.events().is_empty(), again, "{wait}");
    }
}

fn run(scenario: &Scenario) -> (Report, String) {
    played(scenario, 3, |world, report| {
        let datagrams = world.ike_datagrams().iter();
        let sources: std::collections::BTreeSet<String> = datagrams.map(|datagram| datagram.src.ip().to_string()).collect();
        (report, sources.into_iter().collect::<Vec<_>>().join(" "))
    })
}

#[test]
fn ike_leaves_from_where_the_packet_in_the_acquire_left() {
    let mut scenario = scenarios::find("shisa-packet").unwrap();
    let (report, sources) = run(&scenario);
    assert!(report.passed && !sources.contains("2001:db8:1:ff::5"), "{:?} {sources}", report.reasons);
    // Without the packet the address that looks nearer is taken, and no answer comes there.
    scenario.acquire_tells_packet = false;
    let (report, sources) = run(&scenario);
    assert!(!report.passed && sources.contains("2001:db8:1:ff::5"), "{sources}");
}

#[test]
fn spis_are_of_the_kernels_choice() {
    let mut kame = Kame::new();
    let request = KernelRequest::AllocateSpi { endpoints: ends(HA, HOA), protocol: Protocol::Ah, mode: Mode::Transport, reqid: Reqid(0) };
    assert!(matches!(kame.ask(request), Ok(KernelReply::Spi(Spi(256..)))));
}
