//! The kernel's descriptors and the back ends that read them: netlink XFRM, a PF_KEY listener for MIGRATE, rtnetlink addresses.
//! Bytes go in, requests' answers and events come out as engine inputs.

use std::io;
use std::time::Duration;

use zeroize::Zeroize as _;

use crate::addresses::Addresses;
use crate::descriptor::{read_some, watch};
use tokio::io::unix::AsyncFd;
use watari_engine::Input;
use watari_kernel::{Backend, BackendOutput, Capability, Channel, KernelRequest, Now, RequestId};
use watari_pfkey::{Dialect, KeyListener};
use watari_sys::{KeySocket, NetlinkFamily, NetlinkSocket, Received};
use watari_xfrm::{GROUP_MIGRATE, GROUPS, XfrmBackend};

/// Room for a burst of moves: ten thousand MIGRATE messages of 216 octets, counted as the kernel counts them.
const RECEIVE_BUFFER: usize = 16 * 1024 * 1024;
/// The probe's own request; the engine counts its requests from 1.
const PROBE: RequestId = RequestId(u64::MAX);

/// Every kernel descriptor with its back end.
pub(crate) struct Kernel {
    xfrm: XfrmBackend,
    key: Option<(AsyncFd<KeySocket>, KeyListener)>,
    requests: AsyncFd<NetlinkSocket>,
    events: AsyncFd<NetlinkSocket>,
    addresses: Addresses,
    /// Whether the netlink MIGRATE group could be joined: it then decides, and PF_KEY's copies are consumed.
    pub(crate) netlink_migrate: bool,
    probed: bool,
}

impl Kernel {
    /// Opens the descriptors. PF_KEY is optional.
    pub(crate) fn open(now: Now, warn: &mut dyn FnMut(String)) -> io::Result<Self> {
        let requests = NetlinkSocket::open(NetlinkFamily::Xfrm, &[], RECEIVE_BUFFER)?;
        let mut xfrm = XfrmBackend::new(requests.port()?);
        let (events, netlink_migrate) = match NetlinkSocket::open(NetlinkFamily::Xfrm, &GROUPS, RECEIVE_BUFFER) {
            Ok(socket) => (socket, true),
            Err(error) => {
                warn(format!("this kernel does not offer the netlink MIGRATE group ({error}): PF_KEY decides"));
                let without: Vec<u32> = GROUPS.into_iter().filter(|group| *group != GROUP_MIGRATE).collect();
                xfrm.migrate_is_not_heard();
                (NetlinkSocket::open(NetlinkFamily::Xfrm, &without, RECEIVE_BUFFER)?, false)
            }
        };
        let key = match KeySocket::open() {
            Ok(socket) => Some((watch(socket)?, KeyListener::new(Dialect::Linux))),
            Err(error) => {
                warn(format!("no PF_KEY socket ({error}): MIGRATE is heard on netlink alone"));
                None
            }
        };
        let addresses = Addresses::open()?;
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        xfrm.probe(now, PROBE, release.trim());
        Ok(Self { xfrm, key, requests: watch(requests)?, events: watch(events)?, addresses, netlink_migrate, probed: false })
    }

    /// Whether the kernel has answered the probe.
    pub(crate) const fn is_probed(&self) -> bool {
        self.probed
    }

    /// What the kernel can do, as far as it is known by now.
    pub(crate) fn capabilities(&self) -> &Capability {
        self.xfrm.capabilities()
    }

    /// Asks the kernel.
    pub(crate) fn submit(&mut self, now: Now, id: RequestId, request: KernelRequest) {
        self.xfrm.submit(now, id, request);
    }

    /// Moves bytes until every back end waits; returns what they reported and the next time one wants to be called.
    pub(crate) fn drain(&mut self, now: Now, inputs: &mut Vec<Input>) -> Option<Duration> {
        loop {
            match self.xfrm.poll() {
                BackendOutput::Send(channel, mut octets) => {
                    let sent = self.requests.get_ref().send(&octets);
                    // The octets of an SA hold its keys.
                    octets.zeroize();
                    if sent.is_err() {
                        self.xfrm.overrun(now, channel);
                    }
                }
                BackendOutput::Event(event) => inputs.push(Input::Kernel(event)),
                BackendOutput::Done(PROBE, _) => self.probed = true,
                BackendOutput::Done(id, result) => inputs.push(Input::Done(id, result)),
                BackendOutput::Wait(deadline) => {
                    let addresses = self.addresses.drain(now, inputs);
                    return [deadline, addresses].into_iter().flatten().min();
                }
            }
        }
    }

    /// A time given by a back end has come.
    pub(crate) fn timeout(&mut self, now: Now) {
        self.xfrm.timeout(now);
        self.addresses.timeout(now);
    }

    /// Waits until a descriptor can be read.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        let key = async {
            match &self.key {
                Some((socket, _)) => socket.readable().await.map(|mut guard| guard.retain_ready()),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ready = self.requests.readable() => ready.map(|mut guard| guard.retain_ready()),
            ready = self.events.readable() => ready.map(|mut guard| guard.retain_ready()),
            ready = self.addresses.readable() => ready,
            ready = key => ready,
        }
    }

    /// Reads what waits. Netlink events come before PF_KEY's copies of them, answers to requests before both.
    pub(crate) fn read(&mut self, now: Now, inputs: &mut Vec<Input>) {
        read_some(&self.requests, NetlinkSocket::receive, |received| match received {
            Received::Datagram(octets) => self.xfrm.received(now, Channel::XfrmRequest, &octets),
            _ => self.xfrm.overrun(now, Channel::XfrmRequest),
        });
        read_some(&self.events, NetlinkSocket::receive, |received| match received {
            Received::Datagram(octets) => self.xfrm.received(now, Channel::XfrmEvent, &octets),
            _ => self.xfrm.overrun(now, Channel::XfrmEvent),
        });
        self.addresses.read(now);
        self.drain(now, inputs);
        let Some((socket, listener)) = &mut self.key else { return };
        let mut lost = false;
        read_some(socket, KeySocket::receive, |received| match received {
            Received::Datagram(octets) => inputs.extend(listener.received(&octets).into_iter().map(Input::Kernel)),
            _ => lost = true,
        });
        if lost && !self.netlink_migrate {
            self.xfrm.overrun(now, Channel::Key);
        }
    }
}
