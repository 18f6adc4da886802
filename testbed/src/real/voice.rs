//! A back end on the sockets of one of two hosts that a link joins: what it wants written is written, what the kernel says is read.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use watari_kernel::mirror::acts::{COA1, COA2, HOA};
use watari_kernel::{Backend, BackendOutput, Channel, KernelError, KernelEvent, KernelReply, KernelRequest, Now, RequestId};
use watari_pfkey::{Dialect, KeyBackend};
use watari_sys::{KeySocket, NetlinkFamily, NetlinkSocket, Received};
use watari_xfrm::{GROUPS, XfrmBackend};

use crate::uml::topology::{HostPlan, InterfacePlan, Topology};
use crate::uml::{Context, Failure, Result};

/// The mobile node and, with these addresses, its home agent on one link.
pub(super) fn topology(home_agent: &[IpAddr]) -> Topology {
    let host = |name: &str, addresses: &[IpAddr]| HostPlan {
        name: name.into(),
        interfaces: vec![InterfacePlan {
            name: "eth0".into(),
            link: Some("wire".into()),
            addresses: addresses.iter().map(|address| format!("{address}/128")).collect(),
            ..InterfacePlan::default()
        }],
        routes: vec!["2001:db8::/32 dev eth0".to_owned()],
        ..HostPlan::default()
    };
    Topology { links: vec!["wire".into()], hosts: vec![host("mn", &[HOA, COA1, COA2]), host("ha", home_agent)] }
}

enum Wire {
    Netlink(NetlinkSocket),
    Key(KeySocket),
}

impl Wire {
    fn receive(&self) -> Result<Received> {
        match self {
            Self::Netlink(socket) => socket.receive().context("reading NETLINK_XFRM"),
            Self::Key(socket) => socket.receive().context("reading PF_KEY"),
        }
    }

    fn send(&self, octets: &[u8]) -> Result<()> {
        match self {
            Self::Netlink(socket) => socket.send(octets).context("writing NETLINK_XFRM"),
            Self::Key(socket) => socket.send(octets).context("writing PF_KEY"),
        }
    }
}

/// A back end on its sockets; requests go over the first.
pub(super) struct Voice {
    pub(super) backend: Box<dyn Backend + Send>,
    wires: Vec<(Channel, Wire)>,
    begin: Instant,
    next: u64,
    done: Option<std::result::Result<KernelReply, KernelError>>,
    pub(super) events: VecDeque<KernelEvent>,
}

impl Voice {
    /// Opens the sockets in the calling thread's namespace and probes the kernel.
    pub(super) fn xfrm(release: &str) -> Result<Self> {
        let open = |groups: &[u32]| NetlinkSocket::open(NetlinkFamily::Xfrm, groups, 1 << 20).context("opening NETLINK_XFRM");
        let (requests, broadcasts) = (open(&[])?, open(&GROUPS)?);
        let mut backend = XfrmBackend::new(requests.port().context("netlink port")?);
        backend.probe(Now::default(), RequestId(0), release);
        let wires = vec![(Channel::XfrmRequest, Wire::Netlink(requests)), (Channel::XfrmEvent, Wire::Netlink(broadcasts))];
        Self::probed(Box::new(backend), wires)
    }

    /// The same for PF_KEY.
    pub(super) fn key(release: &str) -> Result<Self> {
        let socket = KeySocket::open().context("opening PF_KEY")?;
        let mut backend = KeyBackend::new(Dialect::Linux, std::process::id());
        backend.probe(Now::default(), RequestId(0), release);
        Self::probed(Box::new(backend), vec![(Channel::Key, Wire::Key(socket))])
    }

    fn probed(backend: Box<dyn Backend + Send>, wires: Vec<(Channel, Wire)>) -> Result<Self> {
        let mut voice = Self { backend, wires, begin: Instant::now(), next: 0, done: None, events: VecDeque::new() };
        voice.finish().map_err(|error| Failure(format!("probing: {error}")))?;
        Ok(voice)
    }

    fn now(&self) -> Now {
        Now { boot: self.begin.elapsed(), wall: SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default() }
    }

    /// Moves bytes until the back end waits and nothing is left to read.
    pub(super) fn pump(&mut self) -> Result<()> {
        loop {
            let now = self.now();
            while self.drain(now)? {}
            let mut anything = false;
            for (channel, wire) in &self.wires {
                match wire.receive()? {
                    Received::Datagram(octets) => self.backend.received(now, *channel, &octets),
                    Received::Overrun => self.backend.overrun(now, *channel),
                    Received::WouldBlock => continue,
                }
                anything = true;
            }
            if !anything {
                while self.drain(now)? {}
                return Ok(());
            }
        }
    }

    fn drain(&mut self, now: Now) -> Result<bool> {
        match self.backend.poll() {
            BackendOutput::Send(_, octets) => {
                let (_, wire) = self.wires.first().ok_or_else(|| Failure::new("a voice without a wire"))?;
                wire.send(&octets)?;
            }
            BackendOutput::Event(event) => self.events.push_back(event),
            BackendOutput::Done(RequestId(id), result) if id == self.next => self.done = Some(result),
            BackendOutput::Done(..) => {}
            BackendOutput::Wait(Some(at)) if at <= now.boot => self.backend.timeout(now),
            BackendOutput::Wait(_) => return Ok(false),
        }
        Ok(true)
    }

    fn finish(&mut self) -> std::result::Result<KernelReply, KernelError> {
        let silence = |text: String| KernelError { errno: 0, text, request: "answer" };
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(15) {
            self.pump().map_err(|failure| silence(failure.to_string()))?;
            if let Some(done) = self.done.take() {
                return done;
            }
            sleep(Duration::from_millis(1));
        }
        Err(silence("no answer in 15 seconds".to_owned()))
    }

    /// What the kernel says to a request; errno 0 if it says nothing.
    pub(super) fn ask(&mut self, request: KernelRequest) -> std::result::Result<KernelReply, KernelError> {
        self.next += 1;
        self.done = None;
        let now = self.now();
        self.backend.submit(now, RequestId(self.next), request);
        self.finish()
    }

    /// Asks for something that the kernel must not refuse.
    pub(super) fn request(&mut self, request: KernelRequest) -> Result<KernelReply> {
        self.ask(request).map_err(|error| Failure(error.to_string()))
    }
}
