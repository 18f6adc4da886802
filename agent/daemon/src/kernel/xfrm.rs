//! Netlink XFRM, with a PF_KEY listener for MIGRATE beside it: requests on one descriptor, multicast events on another.

use std::io;

use tokio::io::unix::AsyncFd;
use watari_engine::Input;
use watari_kernel::{Backend, Channel, Now, RequestId};
use watari_pfkey::{Dialect, KeyListener};
use watari_sys::{KeySocket, NetlinkFamily, NetlinkSocket, Received};
use watari_xfrm::{GROUP_MIGRATE, GROUPS, XfrmBackend};
use zeroize::Zeroize as _;

use crate::descriptor::{read_some, watch};

/// Room for a burst of moves: ten thousand MIGRATE messages of 216 octets, counted as the kernel counts them.
const RECEIVE_BUFFER: usize = 16 * 1024 * 1024;

/// The descriptors with their back end.
pub(super) struct Xfrm {
    backend: XfrmBackend,
    key: Option<(AsyncFd<KeySocket>, KeyListener)>,
    requests: AsyncFd<NetlinkSocket>,
    events: AsyncFd<NetlinkSocket>,
    /// Whether the netlink MIGRATE group could be joined: it then decides, and PF_KEY's copies are consumed.
    pub(super) hears_migrate: bool,
}

impl Xfrm {
    /// Opens the descriptors and begins the probe. PF_KEY is optional.
    pub(super) fn open(now: Now, probe: RequestId, release: &str, warn: &mut dyn FnMut(String)) -> io::Result<Self> {
        let requests = NetlinkSocket::open(NetlinkFamily::Xfrm, &[], RECEIVE_BUFFER)?;
        let mut backend = XfrmBackend::new(requests.port()?);
        let (events, hears_migrate) = match NetlinkSocket::open(NetlinkFamily::Xfrm, &GROUPS, RECEIVE_BUFFER) {
            Ok(socket) => (socket, true),
            Err(error) => {
                warn(format!("this kernel does not offer the netlink MIGRATE group ({error}): PF_KEY decides"));
                let without: Vec<u32> = GROUPS.into_iter().filter(|group| *group != GROUP_MIGRATE).collect();
                backend.migrate_is_not_heard();
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
        backend.probe(now, probe, release);
        Ok(Self { backend, key, requests: watch(requests)?, events: watch(events)?, hears_migrate })
    }

    pub(super) const fn backend(&self) -> &XfrmBackend {
        &self.backend
    }

    pub(super) const fn backend_mut(&mut self) -> &mut XfrmBackend {
        &mut self.backend
    }

    pub(super) fn send(&self, octets: &[u8]) -> io::Result<()> {
        self.requests.get_ref().send(octets)
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        let key = async {
            match &self.key {
                Some((socket, _)) => socket.readable().await.map(|mut guard| guard.retain_ready()),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ready = self.requests.readable() => ready.map(|mut guard| guard.retain_ready()),
            ready = self.events.readable() => ready.map(|mut guard| guard.retain_ready()),
            ready = key => ready,
        }
    }

    /// Netlink: answers to requests come before events.
    pub(super) fn read(&mut self, now: Now) {
        read_some(&self.requests, NetlinkSocket::receive, |received| match received {
            Received::Datagram(octets) => self.backend.received(now, Channel::XfrmRequest, &octets),
            _ => self.backend.overrun(now, Channel::XfrmRequest),
        });
        read_some(&self.events, NetlinkSocket::receive, |received| match received {
            Received::Datagram(octets) => self.backend.received(now, Channel::XfrmEvent, &octets),
            _ => self.backend.overrun(now, Channel::XfrmEvent),
        });
    }

    /// PF_KEY's copies of what netlink has told already.
    pub(super) fn read_copies(&mut self, now: Now, inputs: &mut Vec<Input>) {
        let Some((socket, listener)) = &mut self.key else { return };
        let mut lost = false;
        read_some(socket, KeySocket::receive, |received| match received {
            Received::Datagram(mut octets) => {
                inputs.extend(listener.received(&octets).into_iter().map(Input::Kernel));
                // Linux sends an SA's keys to every PF_KEY socket.
                octets.zeroize();
            }
            _ => lost = true,
        });
        if lost && !self.hears_migrate {
            self.backend.overrun(now, Channel::XfrmEvent);
        }
    }
}
