//! The list of kernel acts, put to a real Linux kernel: the agent's own back end on real sockets, the Mobile IPv6 daemon's requests
//! beside it, packets over a real link. The mirror passes the same list in a unit test; here Linux has to.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use watari_kernel::mirror::acts::{self, COA1, COA2, HA, HOA, KernelUnderTest, Sent};
use watari_kernel::mirror::{MigrateRequest, MobilityState, Model, Packet};
use watari_kernel::{
    Backend, BackendOutput, Channel, Endpoints, KernelError, KernelEvent, KernelReply, KernelRequest, Now, PolicyEntry, PolicyKind,
    RequestId, Spi,
};
use watari_policies::selector::MOBILITY_HEADER;
use watari_policies::{Direction, Selector};
use watari_sys::{MobilitySend, MobilitySocket, NetlinkFamily, NetlinkSocket, Received};
use watari_xfrm::{GROUPS, XfrmBackend};

use super::kernel::Kernel;
use super::sniffer::Sniffer;
use crate::judge::pcap::Kind;
use crate::uml::boot::{Kernel as Machine, Machine as Boot};
use crate::uml::guest::Guest;
use crate::uml::hosts::Namespace;
use crate::uml::topology::{HostPlan, InterfacePlan, Topology};
use crate::uml::{Context, Failure, Result, testbed_directory};

/// Name of the task in a plan.
pub(crate) const TASK: &str = "real-acts";
const RESULT: &str = "acts.json";
/// xfrm_acq_expires for the acts, so that nobody waits half a minute.
const LARVAL_SECONDS: u64 = 1;
/// How long a packet may take over the link before it counts as never sent.
const CROSSING: Duration = Duration::from_millis(20);
const UDP: u8 = 17;

/// How one act went.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// The act's name.
    pub(crate) name: String,
    /// What Linux was expected to do.
    pub(crate) sentence: String,
    /// What it did otherwise.
    pub(crate) differences: Vec<String>,
}

/// Boots `kernel` and puts it through every act.
pub(crate) fn on(kernel: Machine) -> Result<Vec<Outcome>> {
    let name = match kernel {
        Machine::Debian61 => "acts-6.1",
        Machine::Built612 => "acts-6.12",
    };
    let output = testbed_directory().join("runs").join(name);
    let mut machine = Boot::new(&output)?;
    machine.kernel = kernel;
    machine.timeout = Duration::from_secs(120);
    let finish = machine.run(TASK, serde_json::Value::Null)?;
    if finish.exit_code != 0 {
        return Err(Failure(format!("the acts ended with exit code {}; see {}", finish.exit_code, finish.console.display())));
    }
    let text = std::fs::read_to_string(output.join(RESULT)).context(RESULT)?;
    serde_json::from_str(&text).context(RESULT)
}

/// The part that runs in the guest.
pub(crate) fn in_guest(guest: &Guest) -> Result<i32> {
    let model = match guest.plan.kernel {
        Machine::Debian61 => Model::Linux6_1,
        Machine::Built612 => Model::Linux6_12,
    };
    let mut linux = Linux::new(guest, model)?;
    let mut outcomes = Vec::new();
    for act in acts::all() {
        let mut differences = (act.run)(&mut linux);
        differences.append(&mut linux.troubles);
        outcomes.push(Outcome { name: act.name.to_owned(), sentence: act.sentence.to_owned(), differences });
    }
    guest.write(RESULT, serde_json::to_string_pretty(&outcomes).context(RESULT)?)?;
    Ok(0)
}

/// A real kernel as the acts see it.
struct Linux {
    model: Model,
    begin: Instant,
    mobile_node: Namespace,
    backend: XfrmBackend,
    requests: NetlinkSocket,
    broadcasts: NetlinkSocket,
    next: u64,
    done: Option<std::result::Result<KernelReply, KernelError>>,
    events: VecDeque<KernelEvent>,
    daemon: Kernel,
    signalling: MobilitySocket,
    peer_signalling: MobilitySocket,
    peer_payload: Namespace,
    link: Sniffer,
    troubles: Vec<String>,
}

fn topology() -> Topology {
    let host = |name: &str, addresses: &[IpAddr], routes: &[&str]| HostPlan {
        name: name.into(),
        interfaces: vec![InterfacePlan {
            name: "eth0".into(),
            link: Some("wire".into()),
            addresses: addresses.iter().map(|address| format!("{address}/128")).collect(),
            ..InterfacePlan::default()
        }],
        routes: routes.iter().map(|route| (*route).to_owned()).collect(),
        ..HostPlan::default()
    };
    Topology {
        links: vec!["wire".into()],
        hosts: vec![host("mn", &[HOA, COA1, COA2], &["2001:db8::/32 dev eth0"]), host("ha", &[HA], &["2001:db8::/32 dev eth0"])],
    }
}

impl Linux {
    fn new(guest: &Guest, model: Model) -> Result<Self> {
        topology().build(guest)?;
        let mobile_node = guest.namespace("mn")?;
        let home_agent = guest.namespace("ha")?;
        // Permanent neighbours: discovery would be packets of its own, and the policies of an act would catch them.
        let (near, far) = ("02:00:00:00:00:01", "02:00:00:00:00:02");
        mobile_node.ip_batch(&format!("link set eth0 address {near}\nneigh replace {HA} lladdr {far} dev eth0 nud permanent\n"))?;
        let mut neighbours = format!("link set eth0 address {far}\n");
        for address in [HOA, COA1, COA2] {
            neighbours += &format!("neigh replace {address} lladdr {near} dev eth0 nud permanent\n");
        }
        home_agent.ip_batch(&neighbours)?;
        mobile_node.sysctl("net.core.xfrm_acq_expires", &LARVAL_SECONDS.to_string())?;
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let (requests, broadcasts, daemon, signalling) = mobile_node.enter(|| -> Result<_> {
            let open = |groups: &[u32]| NetlinkSocket::open(NetlinkFamily::Xfrm, groups, 1 << 20).context("opening NETLINK_XFRM");
            Ok((open(&[])?, open(&GROUPS)?, Kernel::open()?, MobilitySocket::open().context("raw MH socket")?))
        })??;
        let (peer_signalling, link) =
            home_agent.enter(|| -> Result<_> { Ok((MobilitySocket::open().context("raw MH socket")?, Sniffer::open()?)) })??;
        let backend = XfrmBackend::new(requests.port().context("netlink port")?);
        let mut linux = Self {
            model,
            begin: Instant::now(),
            mobile_node,
            backend,
            requests,
            broadcasts,
            next: 0,
            done: None,
            events: VecDeque::new(),
            daemon,
            signalling,
            peer_signalling,
            peer_payload: home_agent,
            link,
            troubles: Vec::new(),
        };
        linux.probe(release.trim())?;
        Ok(linux)
    }

    fn now(&self) -> Now {
        Now { boot: self.begin.elapsed(), wall: std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default() }
    }

    /// Lets the back end find out what the kernel can do, and checks that it finds what this kernel is known for.
    fn probe(&mut self, release: &str) -> Result<()> {
        self.next += 1;
        let now = self.now();
        self.backend.probe(now, RequestId(self.next), release);
        self.finish("probe").map_err(|error| Failure(format!("probing the kernel: {error}")))?;
        Ok(())
    }

    /// Moves bytes until the back end waits and nothing is left to read.
    fn pump(&mut self) {
        loop {
            let now = self.now();
            while self.drain(now) {}
            let waiting = [(Channel::XfrmRequest, self.requests.receive()), (Channel::XfrmEvent, self.broadcasts.receive())];
            let mut anything = false;
            for (channel, received) in waiting {
                match received {
                    Ok(Received::Datagram(octets)) => {
                        self.backend.received(now, channel, &octets);
                        anything = true;
                    }
                    Ok(Received::Overrun) => self.backend.overrun(now, channel),
                    Ok(Received::WouldBlock) => {}
                    Err(error) => self.troubles.push(format!("reading {channel:?}: {error}")),
                }
            }
            if !anything {
                while self.drain(now) {}
                return;
            }
        }
    }

    fn drain(&mut self, now: Now) -> bool {
        match self.backend.poll() {
            BackendOutput::Send(_, octets) => {
                if let Err(error) = self.requests.send(&octets) {
                    self.troubles.push(format!("sending to the kernel: {error}"));
                }
            }
            BackendOutput::Event(event) => self.events.push_back(event),
            BackendOutput::Done(RequestId(id), result) if id == self.next => self.done = Some(result),
            BackendOutput::Done(..) => {}
            BackendOutput::Wait(Some(at)) if at <= now.boot => self.backend.timeout(now),
            BackendOutput::Wait(_) => return false,
        }
        true
    }

    fn finish(&mut self, request: &'static str) -> std::result::Result<KernelReply, KernelError> {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(5) {
            self.pump();
            if let Some(done) = self.done.take() {
                return done;
            }
            sleep(Duration::from_millis(1));
        }
        Err(KernelError { errno: 0, text: "no answer in five seconds".into(), request })
    }

    fn trouble<T>(&mut self, what: &str, result: Result<T>) -> Option<T> {
        result.map_err(|failure| self.troubles.push(format!("{what}: {failure}"))).ok()
    }

    fn answer(&mut self, what: &str, errno: Result<i32>) -> std::result::Result<(), i32> {
        match self.trouble(what, errno) {
            Some(0) => Ok(()),
            Some(errno) => Err(errno),
            None => Err(-1),
        }
    }

    /// Sends a packet in clear from `from`; the local kernel may protect, hold or drop it.
    fn emit(&self, from: &Namespace, signalling: &MobilitySocket, packet: &Packet) -> Result<()> {
        let Some(upper) = packet.upper() else {
            return Err(Failure::new("an act sends only packets in clear"));
        };
        let (IpAddr::V6(source), IpAddr::V6(destination)) = (packet.src, packet.dst) else {
            return Err(Failure::new("an act sends only IPv6"));
        };
        match upper.protocol {
            MOBILITY_HEADER => {
                let message = MobilitySend {
                    bytes: &upper.payload,
                    source,
                    destination,
                    interface: 0,
                    home_address: packet.hao.and_then(v6),
                    routing: packet.rt2.and_then(v6),
                };
                // A block or a missing SA comes back as an error: that nothing left is what the act asks about.
                let _ = signalling.send(&message);
                Ok(())
            }
            UDP => from.enter(|| -> Result<()> {
                let socket = UdpSocket::bind(SocketAddr::from((source, upper.sport))).context("binding")?;
                let _ = socket.send_to(&upper.payload, SocketAddr::from((destination, upper.dport)));
                Ok(())
            })?,
            other => Err(Failure(format!("no socket for protocol {other}"))),
        }
    }
}

fn v6(address: IpAddr) -> Option<Ipv6Addr> {
    match address {
        IpAddr::V6(address) => Some(address),
        IpAddr::V4(_) => None,
    }
}

impl KernelUnderTest for Linux {
    fn model(&self) -> Model {
        self.model
    }

    fn larval_lifetime(&self) -> Duration {
        Duration::from_secs(LARVAL_SECONDS)
    }

    fn reset(&mut self) {
        let flushed = self.daemon.flush();
        self.trouble("flush", flushed);
        self.pump();
        self.events.clear();
        self.link.skip();
    }

    fn wait(&mut self, time: Duration) {
        let begin = Instant::now();
        while begin.elapsed() < time {
            self.pump();
            sleep(Duration::from_millis(20).min(time.saturating_sub(begin.elapsed())));
        }
        self.pump();
    }

    fn events(&mut self) -> Vec<KernelEvent> {
        self.pump();
        self.events.drain(..).collect()
    }

    fn request(&mut self, request: KernelRequest) -> std::result::Result<KernelReply, KernelError> {
        self.next += 1;
        self.done = None;
        let now = self.now();
        self.backend.submit(now, RequestId(self.next), request);
        self.finish("answer a request")
    }

    fn set_policy(&mut self, policy: &PolicyEntry) -> std::result::Result<(), i32> {
        let errno = self.daemon.set_policy(policy);
        self.answer("set a policy", errno)
    }

    fn delete_policy(&mut self, selector: &Selector, direction: Direction, kind: PolicyKind) -> std::result::Result<(), i32> {
        let errno = self.daemon.delete_policy(selector, direction, kind);
        self.answer("delete a policy", errno)
    }

    fn set_mobility_state(&mut self, state: &MobilityState) {
        let errno = self.daemon.set_mobility_state(state);
        if let Err(errno) = self.answer("set a state", errno) {
            self.troubles.push(format!("setting {state:?}: errno {errno}"));
        }
    }

    fn migrate(&mut self, request: &MigrateRequest) -> std::result::Result<(), i32> {
        let errno = self.daemon.migrate(request);
        self.answer("migrate", errno)
    }

    fn send(&mut self, packet: &Packet) -> Sent {
        self.link.skip();
        let emitted = self.emit(&self.mobile_node, &self.signalling, packet);
        self.trouble("send", emitted);
        let ours = |seen: &crate::judge::pcap::Packet| seen.source == packet.src || seen.destination == HA;
        let begin = Instant::now();
        while begin.elapsed() < CROSSING {
            for seen in self.link.packets() {
                match seen.kind {
                    Kind::Esp { spi, .. } => {
                        let endpoints = Endpoints { src: seen.source, dst: seen.destination };
                        return Sent::Esp(endpoints, Spi(spi));
                    }
                    Kind::MobilityHeader { .. } | Kind::Udp { .. } if ours(&seen) => return Sent::Clear,
                    _ => {}
                }
            }
            sleep(Duration::from_millis(1));
        }
        Sent::Nothing
    }

    fn arrive(&mut self, packet: &Packet) -> bool {
        let Some(upper) = packet.upper() else { return false };
        let target = SocketAddr::from((packet.dst, upper.dport));
        let payload = match upper.protocol {
            UDP => {
                let bound = self.mobile_node.enter(|| UdpSocket::bind(target).context("binding"));
                let Some(socket) = self.trouble("arrive", bound.and_then(|socket| socket)) else { return false };
                let _ = socket.set_nonblocking(true);
                Some(socket)
            }
            _ => None,
        };
        while let Ok(Some(_)) = self.signalling.receive() {}
        let emitted = self.emit(&self.peer_payload, &self.peer_signalling, packet);
        self.trouble("arrive", emitted);
        let begin = Instant::now();
        while begin.elapsed() < CROSSING {
            let delivered = match &payload {
                Some(socket) => socket.recv(&mut [0; 64]).is_ok(),
                None => matches!(self.signalling.receive(), Ok(Some(_))),
            };
            if delivered {
                return true;
            }
            sleep(Duration::from_millis(1));
        }
        false
    }
}
