//! The agent's back ends on real sockets of one host, driven by hand: XFRM, PF_KEY and rtnetlink.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::net::IpAddr;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use watari_kernel::{
    Backend, BackendOutput, Channel, Endpoints, KernelError, KernelEvent, KernelReply, KernelRequest, Now, PolicyAction, PolicyEntry,
    PolicyIndex, PolicyKind, RequestId, SaId, SaInfo, SaKeys, SaLifetime, SaParameters, Spi, Template,
};
use watari_pfkey::{Dialect, KeyListener};
use watari_policies::algorithm::{ChildSuite, Cipher, Integrity};
use watari_policies::{Direction, Mode, Protocol, Reqid, Secret, Selector};
use watari_route::RouteMonitor;
use watari_sys::{KeySocket, NetlinkFamily, NetlinkSocket, Received};
use watari_xfrm::XfrmBackend;

use super::Finding;
use crate::uml::guest::tool;
use crate::uml::{Context, Failure, Result, output_of};

pub(super) const HOA: &str = "2001:db8:1::abcd";
pub(super) const HA: &str = "2001:db8:1::1";
pub(super) const COA: &str = "2001:db8:f1::e";
pub(super) const COA2: &str = "2001:db8:f2::e";
/// So small that a few hundred events unread are too many.
const EVENT_BUFFER: usize = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(5);

/// What the kernel said to a request.
pub(super) type Answer = std::result::Result<KernelReply, KernelError>;

pub(super) struct World {
    pub(super) backend: XfrmBackend,
    requests: NetlinkSocket,
    events: NetlinkSocket,
    key: KeySocket,
    route: NetlinkSocket,
    pub(super) monitor: RouteMonitor,
    start: Instant,
    next: u64,
    pub(super) done: VecDeque<(RequestId, Answer)>,
    heard: Vec<KernelEvent>,
    pub(super) findings: Vec<Finding>,
}

impl World {
    /// Opens every socket in the calling thread's network namespace.
    pub(super) fn open() -> Result<Self> {
        let netlink = |family, groups: &[u32], buffer| NetlinkSocket::open(family, groups, buffer).context("opening netlink");
        let requests = netlink(NetlinkFamily::Xfrm, &[], 1 << 20)?;
        Ok(Self {
            backend: XfrmBackend::new(requests.port().context("netlink port")?),
            requests,
            events: netlink(NetlinkFamily::Xfrm, &watari_xfrm::GROUPS, EVENT_BUFFER)?,
            key: KeySocket::open().context("opening PF_KEY")?,
            route: netlink(NetlinkFamily::Route, &watari_route::GROUPS, 1 << 20)?,
            monitor: RouteMonitor::new(),
            start: Instant::now(),
            next: 1,
            done: VecDeque::new(),
            heard: Vec::new(),
            findings: Vec::new(),
        })
    }

    pub(super) fn now(&self) -> Now {
        let wall = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Now { boot: self.start.elapsed(), wall }
    }

    fn write(&mut self) -> Result<()> {
        loop {
            match self.backend.poll() {
                BackendOutput::Send(_, octets) => self.requests.send(&octets).context("sending to NETLINK_XFRM")?,
                BackendOutput::Event(event) => self.heard.push(event),
                BackendOutput::Done(id, result) => self.done.push_back((id, result)),
                BackendOutput::Wait(_) => break,
            }
        }
        loop {
            match self.monitor.poll() {
                BackendOutput::Send(_, octets) => self.route.send(&octets).context("sending to NETLINK_ROUTE")?,
                BackendOutput::Event(event) => self.heard.push(event),
                _ => return Ok(()),
            }
        }
    }

    /// Writes octets to the PF_KEY socket as a key manager of the old kind would.
    pub(super) fn write_key(&self, octets: &[u8]) -> Result<()> {
        self.key.send(octets).context("writing PF_KEY")
    }

    /// Reads answers and nothing else, so that events pile up.
    pub(super) fn read_answers(&mut self) -> Result<()> {
        self.write()?;
        while let Received::Datagram(octets) = self.requests.receive().context("reading answers")? {
            self.backend.received(self.now(), Channel::XfrmRequest, &octets);
            self.write()?;
        }
        Ok(())
    }

    /// Reads whatever there is.
    fn read(&mut self) -> Result<()> {
        self.read_answers()?;
        loop {
            match self.events.receive().context("reading events")? {
                Received::Datagram(octets) => self.backend.received(self.now(), Channel::XfrmEvent, &octets),
                Received::Overrun => self.backend.overrun(self.now(), Channel::XfrmEvent),
                Received::WouldBlock => break,
            }
            self.write()?;
        }
        while let Received::Datagram(octets) = self.route.receive().context("reading NETLINK_ROUTE")? {
            self.monitor.received(&octets);
        }
        while let Received::Datagram(octets) = self.key.receive().context("reading PF_KEY")? {
            self.heard.extend(KeyListener::new(Dialect::Linux).received(&octets));
        }
        self.backend.timeout(self.now());
        self.write()
    }

    pub(super) fn wait_for(&mut self, id: RequestId) -> Result<Answer> {
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            if let Some(at) = self.done.iter().position(|(done, _)| *done == id) {
                return self.done.remove(at).map(|(_, answer)| answer).ok_or_else(|| Failure::new("an answer vanished"));
            }
            self.read()?;
        }
        Err(Failure::new("the kernel did not answer a request"))
    }

    pub(super) fn submit(&mut self, request: KernelRequest) -> Result<RequestId> {
        let id = RequestId(self.next);
        self.next += 1;
        let now = self.now();
        self.backend.submit(now, id, request);
        self.write()?;
        Ok(id)
    }

    pub(super) fn ask(&mut self, request: KernelRequest) -> Result<Answer> {
        let id = self.submit(request)?;
        self.wait_for(id)
    }

    /// Asks for something that cannot fail.
    pub(super) fn order(&mut self, request: KernelRequest) -> Result<()> {
        self.ask(request)?.map(|_| ()).context("a request that had to work")
    }

    pub(super) fn sas(&mut self) -> Result<Vec<SaInfo>> {
        match self.ask(KernelRequest::DumpSas)? {
            Ok(KernelReply::Sas(sas)) => Ok(sas),
            other => Err(Failure(format!("a dump of SAs answered {other:?}"))),
        }
    }

    pub(super) fn policies(&mut self) -> Result<Vec<PolicyEntry>> {
        match self.ask(KernelRequest::DumpPolicies)? {
            Ok(KernelReply::Policies(policies)) => Ok(policies),
            other => Err(Failure(format!("a dump of policies answered {other:?}"))),
        }
    }

    pub(super) fn query(&mut self, id: SaId) -> Result<Option<SaInfo>> {
        match self.ask(KernelRequest::QuerySa(id))? {
            Ok(KernelReply::Sa(sa)) => Ok(sa),
            other => Err(Failure(format!("a query answered {other:?}"))),
        }
    }

    /// Listens until an event fits or `patience` is over; takes every event heard so far.
    pub(super) fn hear(&mut self, patience: Duration, fits: impl Fn(&KernelEvent) -> bool) -> Result<Vec<KernelEvent>> {
        let until = Instant::now() + patience;
        loop {
            self.read()?;
            if self.heard.iter().any(&fits) || Instant::now() > until {
                return Ok(std::mem::take(&mut self.heard));
            }
            sleep(Duration::from_millis(5));
        }
    }

    /// Enters whether the kernel did what was expected; `detail` is what it did instead.
    pub(super) fn check(&mut self, act: &str, good: bool, detail: impl Debug) {
        let complaint = (!good).then(|| format!("{detail:?}"));
        self.findings.push(Finding { act: act.to_owned(), complaint });
    }
}

pub(super) fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED))
}

pub(super) fn ends(src: &str, dst: &str) -> Endpoints {
    Endpoints { src: address(src), dst: address(dst) }
}

pub(super) fn between(src: &str, dst: &str) -> Selector {
    Selector::between(src.parse().unwrap(), dst.parse().unwrap())
}

pub(super) fn host(address: &str) -> String {
    format!("{address}/{}", if address.contains(':') { 128 } else { 32 })
}

/// What others do behind the agent's back, in the words of `ip`.
pub(super) fn ip(arguments: &str) -> Result<()> {
    output_of(tool("ip").args(arguments.split_whitespace())).map(|_| ())
}

pub(super) fn sa(cipher: Cipher, integrity: Option<Integrity>, esn: bool, mode: Mode, (src, dst): (&str, &str), spi: u32) -> SaParameters {
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

pub(super) fn add(parameters: &SaParameters) -> KernelRequest {
    KernelRequest::AddSa { parameters: Box::new(parameters.clone()), allocated: false, sequence: 0 }
}

pub(super) fn policy(selector: Selector, direction: Direction, priority: u32, templates: Vec<Template>) -> PolicyEntry {
    PolicyEntry { selector, direction, kind: PolicyKind::Main, index: PolicyIndex(0), priority, action: PolicyAction::Allow, templates }
}
