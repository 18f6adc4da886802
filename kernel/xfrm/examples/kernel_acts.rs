//! Runs the back end against the kernel it finds: `kernel_acts` as root in a network namespace (or a User-Mode Linux) of its own.
//! Prints one line per act, `ok` or `FAILED`, and exits with the number of failures. Needs `ip` for what others do behind our back.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::expect_used, reason = "a runner, for tests only")]
#![allow(missing_docs, reason = "a program")]

use std::collections::VecDeque;
use std::net::IpAddr;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use watari_kernel::{
    AddressEvent, Backend, BackendOutput, Channel, Encapsulation, Endpoints, KernelError, KernelEvent, KernelReply, KernelRequest,
    KmAddress, Migrate, MigrateSource, MigrateStep, Now, PolicyAction, PolicyEntry, PolicyIndex, PolicyKind, RequestId, SaId, SaInfo,
    SaKeys, SaLifetime, SaParameters, Spi, Template,
};
use watari_pfkey::{Dialect, KeyListener};
use watari_policies::algorithm::{ChildSuite, Cipher, Integrity};
use watari_policies::{Direction, Mode, Protocol, Reqid, Secret, Selector};
use watari_route::RouteMonitor;
use watari_sys::{KeySocket, NetlinkFamily, NetlinkSocket, Received};
use watari_xfrm::XfrmBackend;

const HOA: &str = "2001:db8:1::abcd";
const HA: &str = "2001:db8:1::1";
const COA: &str = "2001:db8:f1::e";
const COA2: &str = "2001:db8:f2::e";

struct World {
    backend: XfrmBackend,
    requests: NetlinkSocket,
    events: NetlinkSocket,
    key: Option<KeySocket>,
    route: NetlinkSocket,
    monitor: RouteMonitor,
    start: Instant,
    next: u64,
    done: VecDeque<(RequestId, Result<KernelReply, KernelError>)>,
    heard: Vec<KernelEvent>,
    failures: i32,
}

impl World {
    fn open() -> Self {
        let requests = NetlinkSocket::open(NetlinkFamily::Xfrm, &[], 1 << 20).expect("request socket");
        let events = NetlinkSocket::open(NetlinkFamily::Xfrm, &watari_xfrm::GROUPS, 64 << 10).expect("event socket");
        let route = NetlinkSocket::open(NetlinkFamily::Route, &watari_route::GROUPS, 1 << 20).expect("route socket");
        Self {
            backend: XfrmBackend::new(requests.port().expect("port")),
            requests,
            events,
            key: KeySocket::open().ok(),
            route,
            monitor: RouteMonitor::new(),
            start: Instant::now(),
            next: 1,
            done: VecDeque::new(),
            heard: Vec::new(),
            failures: 0,
        }
    }

    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Now { boot: self.start.elapsed(), wall }
    }

    fn write(&mut self) {
        loop {
            match self.backend.poll() {
                BackendOutput::Send(_, octets) => self.requests.send(&octets).expect("send"),
                BackendOutput::Event(event) => self.heard.push(event),
                BackendOutput::Done(id, result) => self.done.push_back((id, result)),
                BackendOutput::Wait(_) => break,
            }
        }
        loop {
            match self.monitor.poll() {
                BackendOutput::Send(_, octets) => self.route.send(&octets).expect("send"),
                BackendOutput::Event(event) => self.heard.push(event),
                _ => break,
            }
        }
    }

    /// Reads whatever there is.
    fn read(&mut self) {
        self.write();
        while let Ok(Received::Datagram(octets)) = self.requests.receive() {
            self.backend.received(self.now(), Channel::XfrmRequest, &octets);
            self.write();
        }
        loop {
            match self.events.receive() {
                Ok(Received::Datagram(octets)) => self.backend.received(self.now(), Channel::XfrmEvent, &octets),
                Ok(Received::Overrun) => self.backend.overrun(self.now(), Channel::XfrmEvent),
                _ => break,
            }
            self.write();
        }
        while let Ok(Received::Datagram(octets)) = self.route.receive() {
            self.monitor.received(&octets);
        }
        if let Some(key) = &self.key {
            while let Ok(Received::Datagram(octets)) = key.receive() {
                self.heard.extend(KeyListener::new(Dialect::Linux).received(&octets));
            }
        }
        self.backend.timeout(self.now());
        self.write();
    }

    fn wait_for(&mut self, id: RequestId) -> Result<KernelReply, KernelError> {
        loop {
            if let Some(at) = self.done.iter().position(|(done, _)| *done == id) {
                return self.done.remove(at).unwrap().1;
            }
            self.read();
        }
    }

    fn submit(&mut self, request: KernelRequest) -> RequestId {
        let id = RequestId(self.next);
        self.next += 1;
        let now = self.now();
        self.backend.submit(now, id, request);
        self.write();
        id
    }

    fn ask(&mut self, request: KernelRequest) -> Result<KernelReply, KernelError> {
        let id = self.submit(request);
        self.wait_for(id)
    }

    fn sas(&mut self) -> Vec<SaInfo> {
        match self.ask(KernelRequest::DumpSas) {
            Ok(KernelReply::Sas(sas)) => sas,
            other => panic_with(&other),
        }
    }

    fn policies(&mut self) -> Vec<PolicyEntry> {
        match self.ask(KernelRequest::DumpPolicies) {
            Ok(KernelReply::Policies(policies)) => policies,
            other => panic_with(&other),
        }
    }

    fn query(&mut self, id: SaId) -> Option<SaInfo> {
        match self.ask(KernelRequest::QuerySa(id)) {
            Ok(KernelReply::Sa(sa)) => sa,
            other => panic_with(&other),
        }
    }

    /// Listens until an event fits or `patience` is over; takes every event heard so far.
    fn hear(&mut self, patience: Duration, fits: impl Fn(&KernelEvent) -> bool) -> Vec<KernelEvent> {
        let until = Instant::now() + patience;
        loop {
            self.read();
            if self.heard.iter().any(&fits) || Instant::now() > until {
                return std::mem::take(&mut self.heard);
            }
            sleep(Duration::from_millis(5));
        }
    }

    fn check(&mut self, act: &str, good: bool, detail: impl std::fmt::Debug) {
        if good {
            println!("ok      {act}");
        } else {
            self.failures += 1;
            println!("FAILED  {act}: {detail:?}");
        }
    }
}

#[allow(clippy::panic, reason = "the kernel answered something impossible")]
fn panic_with<T>(what: &impl std::fmt::Debug) -> T {
    panic!("{what:?}")
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn ends(src: &str, dst: &str) -> Endpoints {
    Endpoints { src: address(src), dst: address(dst) }
}

fn between(src: &str, dst: &str) -> Selector {
    Selector::between(src.parse().unwrap(), dst.parse().unwrap())
}

fn host(address: &str) -> String {
    format!("{address}/{}", if address.contains(':') { 128 } else { 32 })
}

fn ip(arguments: &str) -> bool {
    Command::new("ip").args(arguments.split_whitespace()).status().is_ok_and(|status| status.success())
}

fn sa(cipher: Cipher, integrity: Option<Integrity>, esn: bool, mode: Mode, (src, dst): (&str, &str), spi: u32) -> SaParameters {
    SaParameters {
        id: SaId { dst: address(dst), protocol: Protocol::Esp, spi: Spi(spi) },
        src: address(src),
        mode,
        reqid: Reqid(1),
        selector: between(&host(src), &host(dst)),
        keys: SaKeys {
            suite: ChildSuite { cipher, integrity, esn },
            encryption: Secret::new(vec![0x11; cipher.keymat_len()]),
            integrity: Secret::new(vec![0x22; integrity.map_or(0, Integrity::key_len)]),
        },
        replay_window: 32,
        lifetime: SaLifetime::default(),
        encapsulation: None,
    }
}

fn add(parameters: &SaParameters) -> KernelRequest {
    KernelRequest::AddSa { parameters: Box::new(parameters.clone()), allocated: false, sequence: 0 }
}

fn policy(selector: Selector, direction: Direction, priority: u32, templates: Vec<Template>) -> PolicyEntry {
    PolicyEntry { selector, direction, kind: PolicyKind::Main, index: PolicyIndex(0), priority, action: PolicyAction::Allow, templates }
}

fn probe(world: &mut World) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let now = world.now();
    world.backend.probe(now, RequestId(0), release.trim());
    let result = world.wait_for(RequestId(0));
    let capability = world.backend.capabilities().clone();
    println!("        {} {capability:?}", release.trim());
    let left: Vec<_> = world.policies();
    world.check("probe ends, leaves nothing", result.is_ok() && left.is_empty(), (result, left));
    let modules = std::fs::read_to_string("/proc/modules").unwrap_or_default();
    let registered = watari_xfrm::xfrm_interface_registered(&modules, "", std::fs::exists("/sys/module/xfrm_interface").unwrap_or(false));
    let symbols = std::fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    let cmdline = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let in_symbols = watari_xfrm::xfrm_interface_in_symbols(&symbols, &cmdline);
    println!("        xfrm_interface registered: {registered}, in symbols: {in_symbols}");
    let heard = world.hear(Duration::from_millis(50), |_| false);
    world.check("probe is not heard of", heard.iter().all(|event| matches!(event, KernelEvent::Address(_) | KernelEvent::Link(_))), heard);
}

fn inbound_pair(world: &mut World) {
    let request = KernelRequest::AllocateSpi { endpoints: ends(HA, HOA), protocol: Protocol::Esp, mode: Mode::Transport, reqid: Reqid(2) };
    let reply = world.ask(request);
    let Ok(KernelReply::Spi(spi)) = reply else { return world.check("SPI", false, reply) };
    let mut inbound = sa(Cipher::AES128GCM16, None, false, Mode::Transport, (HA, HOA), spi.0);
    inbound.reqid = Reqid(2);
    inbound.selector = between(&host(HA), &host(HOA)).protocol(135).message_type(6);
    let larval = world.query(inbound.id);
    world.check("SPI allocated is larval", spi.0 > 255 && larval.as_ref().is_some_and(|sa| sa.larval), larval);
    let request = KernelRequest::AddSa { parameters: Box::new(inbound.clone()), allocated: true, sequence: 0 };
    let result = world.ask(request);
    let installed = world.query(inbound.id);
    let good = installed.as_ref().is_some_and(|sa| {
        !sa.larval && sa.selector == Some(inbound.selector) && sa.reqid == Reqid(2) && sa.added > 0 && sa.mode == Some(Mode::Transport)
    });
    world.check("inbound SA took its place", result == Ok(KernelReply::Done) && good, (result, installed));
    let gone = world.ask(KernelRequest::DeleteSa(inbound.id));
    let again = world.ask(KernelRequest::DeleteSa(inbound.id));
    let query = world.query(inbound.id);
    world.check("SA removed, twice", gone.is_ok() && again.is_ok() && query.is_none(), (gone, again, query));
    // A larval state that is not there any more.
    let request = KernelRequest::AddSa { parameters: Box::new(inbound.clone()), allocated: true, sequence: 0 };
    let result = world.ask(request);
    let exists = world.ask(add(&inbound));
    world.check("installed though its larval state is gone", result.is_ok(), &result);
    let refused = matches!(&exists, Err(error) if error.errno == 17);
    if let Err(error) = &exists {
        println!("        {error}");
    }
    world.check("the same once more is refused", refused, exists);
    world.ask(KernelRequest::DeleteSa(inbound.id)).unwrap();
    let heard = world.hear(Duration::from_millis(50), |_| false);
    world.check("own removals are no news", !heard.iter().any(|event| matches!(event, KernelEvent::SaRemoved(_))), heard);
}

fn suites(world: &mut World) {
    let v6 = (HOA, HA);
    let cbc = Some(Integrity::HmacSha256_128);
    let mut all = Vec::new();
    let mut spi = 0x2000;
    for cipher in Cipher::all() {
        for esn in [false, true] {
            for window in [0, 32, 64, 4096] {
                let integrity = if cipher.is_aead() { None } else { cbc };
                let mut one = sa(cipher, integrity, esn, if esn { Mode::Tunnel } else { Mode::Transport }, v6, spi);
                one.replay_window = window;
                all.push((format!("{cipher} esn {esn} window {window}"), one));
                spi += 1;
            }
        }
    }
    for integrity in Integrity::ALL {
        all.push((format!("null with {integrity}"), sa(Cipher::NULL, Some(*integrity), false, Mode::Tunnel, v6, spi)));
        let mut ah = sa(Cipher::NULL, Some(*integrity), false, Mode::Transport, v6, spi);
        ah.id.protocol = Protocol::Ah;
        all.push((format!("AH with {integrity}"), ah));
        spi += 1;
    }
    let v4 = ("192.0.2.1", "198.51.100.2");
    let mut udp = sa(Cipher::AES256, cbc, false, Mode::Tunnel, v4, spi);
    udp.encapsulation = Some(Encapsulation { source_port: 4500, destination_port: 4500 });
    udp.selector = between("2001:db8:7::/64", "::/0");
    all.push(("IPv6 in UDP-encapsulated IPv4".to_owned(), udp));
    let mut limits = sa(Cipher::AES256GCM16, None, false, Mode::Tunnel, v4, spi + 1);
    limits.lifetime = SaLifetime {
        soft_seconds: 3000,
        hard_seconds: 3600,
        soft_bytes: 1 << 30,
        hard_bytes: 1 << 31,
        soft_packets: 1 << 30,
        hard_packets: 1 << 31,
    };
    all.push(("limits".to_owned(), limits));
    let before = world.failures;
    for (name, parameters) in &all {
        let result = world.ask(add(parameters));
        if result.is_err() {
            world.check(name, false, result.map_err(|error| error.to_string()));
        }
    }
    let dumped = world.sas();
    let found = all
        .iter()
        .filter(|(_, one)| dumped.iter().any(|sa| sa.id() == Some(one.id) && !sa.larval && sa.selector == Some(one.selector)))
        .count();
    let (all_good, amounts) = (world.failures == before && found == all.len(), (all.len(), found));
    world.check(&format!("{} suites installed and dumped with their selectors", all.len()), all_good, amounts);
    for (_, parameters) in &all {
        world.submit(KernelRequest::DeleteSa(parameters.id));
    }
    let left = world.sas();
    world.check("all removed", left.is_empty(), left);
    world.hear(Duration::from_millis(50), |_| false);
    world.done.clear();
}

fn policies(world: &mut World) {
    let nowhere = ends("::", "::");
    let binding_update = between(&host(HOA), &host(HA)).protocol(135).message_type(5);
    let mut typed = policy(binding_update, Direction::Out, 2, vec![Template::esp(Mode::Transport, Reqid(1), nowhere)]);
    let result = world.ask(KernelRequest::SetPolicy(typed.clone()));
    let heard = world.hear(Duration::from_secs(1), |event| matches!(event, KernelEvent::PolicyChanged(_)));
    let Some(KernelEvent::PolicyChanged(told)) = heard.iter().find(|event| matches!(event, KernelEvent::PolicyChanged(_))) else {
        return world.check("policy added", false, (result, heard));
    };
    typed.index = told.index;
    world.check("policy added, told as it was given", result.is_ok() && *told == typed && told.index.0 != 0, (told, &typed));
    typed.priority = 7;
    let replaced = world.ask(KernelRequest::SetPolicy(PolicyEntry { index: PolicyIndex(0), ..typed.clone() }));
    let dumped = world.policies();
    let good = matches!(dumped.as_slice(), [one] if PolicyEntry { index: typed.index, ..one.clone() } == typed);
    world.check("policy replaced", replaced.is_ok() && good, (replaced, dumped));
    let mut set = vec![
        policy(between("::/0", &host(HOA)), Direction::Forward, 10, vec![Template::esp(Mode::Tunnel, Reqid(6), ends(HA, COA))]),
        policy(
            between("10.0.0.0/8", "10.1.0.0/16"),
            Direction::In,
            11,
            vec![Template::esp(Mode::Transport, Reqid(0), ends("0.0.0.0", "0.0.0.0"))],
        ),
        policy(between("::/0", "::/0").protocol(58).message_type(135), Direction::In, 3, Vec::new()),
        policy(between("10.0.0.0/8", "2001:db8::/32"), Direction::In, 3, Vec::new()),
    ];
    let mixed = world.ask(KernelRequest::SetPolicy(set.pop().unwrap()));
    world.check("a policy of two families is refused", matches!(mixed, Err(KernelError { errno: 0, .. })), mixed);
    let block = policy(between(&host(HOA), &host(HA)), Direction::Out, 4, Vec::new());
    set.push(PolicyEntry { kind: PolicyKind::Sub, action: PolicyAction::Block, ..block });
    let hao = Template { protocol: None, ip_protocol: 60, optional: true, ..Template::esp(Mode::Transport, Reqid(0), ends("::", "::")) };
    let mut sub = policy(between(&host(HOA), &host(HA)).protocol(135).message_type(5), Direction::Out, 2, vec![hao]);
    sub.kind = PolicyKind::Sub;
    set.push(sub);
    for one in &set {
        let result = world.ask(KernelRequest::SetPolicy(one.clone()));
        world.check(&format!("policy {} {}", one.direction, one.selector), result.is_ok(), result);
    }
    let dumped: Vec<PolicyEntry> = world.policies().into_iter().map(|one| PolicyEntry { index: PolicyIndex(0), ..one }).collect();
    let missing: Vec<_> = set.iter().filter(|one| !dumped.contains(one)).collect();
    world.check("policies dumped as given", missing.is_empty() && dumped.len() == set.len() + 1, (&missing, &dumped));
    world.hear(Duration::from_millis(20), |_| false);
    set.push(typed);
    for one in &set {
        let removal = KernelRequest::DeletePolicy { selector: one.selector, direction: one.direction, kind: one.kind };
        let (first, second) = (world.ask(removal.clone()), world.ask(removal));
        world.check(&format!("removed, twice: {} {}", one.direction, one.selector), first.is_ok() && second.is_ok(), (first, second));
    }
    let heard = world.hear(Duration::from_millis(50), |_| false);
    let removed = heard.iter().filter(|event| matches!(event, KernelEvent::PolicyRemoved(one) if one.priority > 0)).count();
    let left = world.policies();
    world.check("removals told whole", removed == set.len() && left.is_empty(), (removed, heard, left));
}

fn migrate(world: &mut World) {
    let selector = between(&host(HOA), "::/0");
    let tunnel = Template::esp(Mode::Tunnel, Reqid(5), ends(COA, HA));
    world.ask(KernelRequest::SetPolicy(policy(selector, Direction::Out, 10, vec![tunnel]))).unwrap();
    let mut moving = sa(Cipher::AES128, Some(Integrity::HmacSha1_96), false, Mode::Tunnel, (COA, HA), 0x5005);
    (moving.reqid, moving.selector) = (Reqid(5), selector);
    world.ask(add(&moving)).unwrap();
    let step = MigrateStep { protocol: Protocol::Esp, mode: Mode::Tunnel, reqid: Reqid(5), old: ends(COA, HA), new: ends(COA2, HA) };
    let mut told = Migrate {
        selector,
        direction: Direction::Out,
        steps: vec![step],
        kmaddress: Some(KmAddress { local: address(COA2), remote: address(HA) }),
        source: MigrateSource::Netlink,
    };
    let daemon = NetlinkSocket::open(NetlinkFamily::Xfrm, &[], 1 << 16).unwrap();
    daemon.send(&watari_xfrm::migrate_request(&told, 77).unwrap()).unwrap();
    let from = |source| move |event: &KernelEvent| matches!(event, KernelEvent::Migrate(migrate) if migrate.source == source);
    let mut heard = world.hear(Duration::from_secs(1), from(MigrateSource::Netlink));
    if !heard.iter().any(from(MigrateSource::PfKey)) {
        heard.extend(world.hear(Duration::from_millis(200), from(MigrateSource::PfKey)));
    }
    world.check("MIGRATE heard on netlink", heard.contains(&KernelEvent::Migrate(told.clone())), &heard);
    told.source = MigrateSource::PfKey;
    world.check("MIGRATE heard on PF_KEY", world.key.is_none() || heard.contains(&KernelEvent::Migrate(told)), &heard);
    let moved = world.query(moving.id);
    world.check("the kernel moved the SA", moved.as_ref().is_some_and(|sa| sa.src == address(COA2)), moved);
    let template = world.policies().first().and_then(|policy| policy.templates.first().copied());
    world.check("the kernel moved the template", template.is_some_and(|template| template.endpoints == ends(COA2, HA)), template);
    ip("xfrm state flush");
    ip("xfrm policy flush");
    let flushed = |policies| move |event: &KernelEvent| *event == KernelEvent::Flushed { policies };
    let heard = world.hear(Duration::from_secs(1), flushed(true));
    world.check("flushes heard", heard.iter().any(flushed(true)) && heard.iter().any(flushed(false)), heard);
}

fn acquire_and_expire(world: &mut World) {
    std::fs::write("/proc/sys/net/core/xfrm_acq_expires", "2").unwrap();
    ip("link set lo up");
    ip("link add dummy0 type dummy");
    for arguments in ["link set dummy0 up", "address add 2001:db8:1::abcd/64 dev dummy0 nodad"] {
        world.check(arguments, ip(arguments), "ip refused");
    }
    let selector = between(&host(HOA), &host(HA)).protocol(17);
    let template = Template::esp(Mode::Transport, Reqid(3), ends("::", "::"));
    world.ask(KernelRequest::SetPolicy(policy(selector, Direction::Out, 2, vec![template]))).unwrap();
    let socket = std::net::UdpSocket::bind((address(HOA), 4000)).unwrap();
    let is_acquire = |event: &KernelEvent| matches!(event, KernelEvent::Acquire(_));
    let _ = socket.send_to(b"x", (address(HA), 5000));
    let heard = world.hear(Duration::from_secs(1), is_acquire);
    let Some(KernelEvent::Acquire(acquire)) = heard.iter().find(|event| is_acquire(event)) else {
        return world.check("ACQUIRE", false, heard);
    };
    let packet = acquire.packet.matches(address(HOA), address(HA), 17, 4000, 5000)
        && !acquire.packet.matches(address(HOA), address(HA), 17, 4001, 5000);
    let good =
        packet && acquire.policy == selector && acquire.endpoints == ends(HOA, HA) && acquire.template == template && acquire.sequence != 0;
    world.check("ACQUIRE with packet, policy, template", good, acquire);
    let larval = world.sas();
    world.check("larval state in the dump", matches!(larval.as_slice(), [one] if one.larval && one.spi == Spi(0)), &larval);
    let mut outbound = sa(Cipher::AES128GCM16, None, false, Mode::Transport, (HOA, HA), 0x6006);
    (outbound.reqid, outbound.selector) = (Reqid(3), selector);
    outbound.replay_window = 0;
    outbound.lifetime = SaLifetime { soft_seconds: 1, hard_seconds: 2, ..SaLifetime::default() };
    let request = KernelRequest::AddSa { parameters: Box::new(outbound.clone()), allocated: false, sequence: acquire.sequence };
    let result = world.ask(request);
    let left = world.sas();
    world.check(
        "outbound SA replaces the larval state",
        result.is_ok() && matches!(left.as_slice(), [one] if one.id() == Some(outbound.id)),
        (result, left),
    );
    let _ = socket.send_to(b"x", (address(HA), 5000));
    sleep(Duration::from_millis(100));
    let used = world.query(outbound.id);
    world.check("counters and first use", used.as_ref().is_some_and(|sa| sa.packets == 1 && sa.bytes > 0 && sa.used > 0), used);
    let expires = |hard| move |event: &KernelEvent| matches!(event, KernelEvent::Expire(expire) if expire.hard == hard && expire.id.spi == Spi(0x6006));
    let soft = world.hear(Duration::from_secs(3), expires(false));
    world.check("soft EXPIRE", soft.iter().any(expires(false)), soft);
    let hard = world.hear(Duration::from_secs(3), expires(true));
    world.check("hard EXPIRE", hard.iter().any(expires(true)), hard);
    let _ = socket.send_to(b"x", (address(HA), 5000));
    let dead = |event: &KernelEvent| matches!(event, KernelEvent::Expire(expire) if expire.hard && expire.id.spi == Spi(0));
    let heard = world.hear(Duration::from_secs(5), dead);
    world.check("ACQUIRE again, then EXPIRE with SPI 0", heard.iter().any(is_acquire) && heard.iter().any(dead), heard);
}

fn strangers(world: &mut World) {
    let one = sa(Cipher::AES128GCM16, None, false, Mode::Transport, (HOA, HA), 0x7007);
    world.ask(add(&one)).unwrap();
    ip("xfrm state delete src 2001:db8:1::abcd dst 2001:db8:1::1 proto esp spi 0x7007");
    let heard = world.hear(Duration::from_secs(1), |event| matches!(event, KernelEvent::SaRemoved(_)));
    world.check("a stranger's removal is news", heard.contains(&KernelEvent::SaRemoved(one.id)), heard);
    for (state, spi) in [("proto route2 mode ro coa 2001:db8:f1::e", 43), ("proto hao mode ro coa 2001:db8:f1::e", 60)] {
        ip(&format!("xfrm state add src 2001:db8:1::1 dst 2001:db8:1::abcd {state}"));
        let sas = world.sas();
        let state = sas.iter().find(|sa| sa.protocol == spi);
        let good = state.is_some_and(|sa| sa.care_of == Some(address(COA)) && sa.mode.is_none() && !sa.larval && sa.id().is_none());
        world.check(&format!("Mobile IPv6 state {spi} shows its care-of address"), good, sas);
    }
    ip("xfrm policy add src ::/0 dst ::/0 dir out action block ptype sub");
    ip("xfrm policy flush ptype sub");
    let heard = world.hear(Duration::from_secs(1), |event| matches!(event, KernelEvent::Resynchronised { .. }));
    let good = heard.iter().any(|event| matches!(event, KernelEvent::Resynchronised { sas, .. } if sas.len() == 2));
    world.check("a flush of sub policies makes us look again", good, heard);
    ip("xfrm state flush");
    ip("xfrm policy flush");
    world.hear(Duration::from_millis(100), |_| false);
}

fn crowd(world: &mut World) {
    let template = Template::esp(Mode::Transport, Reqid(3), ends("::", "::"));
    let started = Instant::now();
    for i in 0..3000 {
        let selector = between(&format!("2001:db8:9::{i:x}/128"), &host(HA));
        world.submit(KernelRequest::SetPolicy(policy(selector, Direction::Out, 2, vec![template])));
    }
    // Events pile up unread in a buffer far too small for them.
    while world.done.len() < 3000 {
        world.write();
        while let Ok(Received::Datagram(octets)) = world.requests.receive() {
            world.backend.received(world.now(), Channel::XfrmRequest, &octets);
            world.write();
        }
    }
    let refused = world.done.iter().filter(|(_, result)| result.is_err()).count();
    let took = started.elapsed();
    world.done.clear();
    world.check("3000 policies at once", refused == 0, refused);
    let resynchronised = |event: &KernelEvent| matches!(event, KernelEvent::Resynchronised { policies, .. } if policies.len() == 3000);
    let heard = world.hear(Duration::from_secs(10), resynchronised);
    world.check("lost events end in one whole picture", heard.iter().any(resynchronised), heard.len());
    println!("        3000 policies in {took:?}");
    let started = Instant::now();
    let amount = world.policies().len();
    println!("        dump of {amount} policies in {:?}", started.elapsed());
    ip("xfrm policy flush");
    world.hear(Duration::from_millis(300), |_| false);
}

fn addresses(world: &mut World) {
    ip("address add 2001:db8:2::7/64 dev dummy0");
    let there = |event: &KernelEvent| matches!(event, KernelEvent::Address(AddressEvent { address, present: true, .. }) if *address == "2001:db8:2::7".parse::<IpAddr>().unwrap());
    let heard = world.hear(Duration::from_secs(2), there);
    world.check("address heard", heard.iter().any(there), heard);
    ip("address delete 2001:db8:2::7/64 dev dummy0");
    let gone = |event: &KernelEvent| matches!(event, KernelEvent::Address(AddressEvent { present: false, .. }));
    let heard = world.hear(Duration::from_secs(2), gone);
    world.check("address gone", heard.iter().any(gone), heard);
    world.monitor.overrun();
    let heard = world.hear(Duration::from_millis(200), |_| false);
    world.check("a new dump repeats nothing", heard.is_empty(), heard);
}

fn main() {
    let mut world = World::open();
    println!("        PF_KEY: {}", world.key.is_some());
    ip("xfrm state flush");
    ip("xfrm policy flush");
    world.hear(Duration::from_millis(100), |_| false);
    probe(&mut world);
    inbound_pair(&mut world);
    suites(&mut world);
    policies(&mut world);
    migrate(&mut world);
    acquire_and_expire(&mut world);
    strangers(&mut world);
    crowd(&mut world);
    addresses(&mut world);
    println!("{} failures", world.failures);
    std::process::exit(world.failures.min(100));
}
