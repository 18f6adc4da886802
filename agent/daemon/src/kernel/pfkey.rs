//! PF_KEY alone: one descriptor for requests, answers and events.

use std::io;

use tokio::io::unix::AsyncFd;
use watari_kernel::{Backend, Channel, Now, RequestId};
use watari_pfkey::{Dialect, KeyBackend};
use watari_sys::{KeySocket, Received};
use zeroize::Zeroize as _;

use crate::descriptor::{read_some, watch};

/// What the kernel of this system speaks.
const DIALECT: Dialect = if cfg!(target_os = "linux") { Dialect::Linux } else { Dialect::Kame };

/// The descriptor with its back end.
pub(super) struct Key {
    backend: KeyBackend,
    socket: AsyncFd<KeySocket>,
}

impl Key {
    /// Opens the descriptor and begins the probe.
    pub(super) fn open(now: Now, probe: RequestId, release: &str) -> io::Result<Self> {
        let in_words = |error: io::Error| io::Error::new(error.kind(), format!("PF_KEY: {error} (on Linux the module is called af_key)"));
        let socket = watch(KeySocket::open().map_err(in_words)?)?;
        let mut backend = KeyBackend::new(DIALECT, std::process::id());
        backend.probe(now, probe, release);
        Ok(Self { backend, socket })
    }

    pub(super) const fn backend(&self) -> &KeyBackend {
        &self.backend
    }

    pub(super) const fn backend_mut(&mut self) -> &mut KeyBackend {
        &mut self.backend
    }

    pub(super) fn send(&self, octets: &[u8]) -> io::Result<()> {
        self.socket.get_ref().send(octets)
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await.map(|mut guard| guard.retain_ready())
    }

    pub(super) fn read(&mut self, now: Now) {
        read_some(&self.socket, KeySocket::receive, |received| match received {
            Received::Datagram(mut octets) => {
                self.backend.received(now, Channel::Key, &octets);
                // Linux sends an SA's keys to every PF_KEY socket.
                octets.zeroize();
            }
            _ => self.backend.overrun(now, Channel::Key),
        });
    }
}
