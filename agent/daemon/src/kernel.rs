//! The kernel's descriptors and the back ends that read them: netlink XFRM or PF_KEY, whichever the configuration chose, and addresses.
//! Bytes go in, requests' answers and events come out as engine inputs.

mod pfkey;
#[cfg(target_os = "linux")]
mod xfrm;

use std::io;
use std::time::Duration;

use watari_engine::Input;
use watari_kernel::{Backend, BackendOutput, Capability, KernelRequest, Now, RequestId};
use watari_policies::KernelInterface;
use zeroize::Zeroize as _;

use crate::addresses::Addresses;

/// The probe's own request; the engine counts its requests from 1.
const PROBE: RequestId = RequestId(u64::MAX);

/// The IPsec back end with its descriptors.
enum Ipsec {
    #[cfg(target_os = "linux")]
    Xfrm(Box<xfrm::Xfrm>),
    Key(Box<pfkey::Key>),
}

impl Ipsec {
    fn backend(&self) -> &dyn Backend {
        match self {
            #[cfg(target_os = "linux")]
            Self::Xfrm(xfrm) => xfrm.backend(),
            Self::Key(key) => key.backend(),
        }
    }

    fn backend_mut(&mut self) -> &mut dyn Backend {
        match self {
            #[cfg(target_os = "linux")]
            Self::Xfrm(xfrm) => xfrm.backend_mut(),
            Self::Key(key) => key.backend_mut(),
        }
    }

    fn send(&self, octets: &[u8]) -> io::Result<()> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Xfrm(xfrm) => xfrm.send(octets),
            Self::Key(key) => key.send(octets),
        }
    }

    async fn readable(&self) -> io::Result<()> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Xfrm(xfrm) => xfrm.readable().await,
            Self::Key(key) => key.readable().await,
        }
    }
}

/// Every kernel descriptor with its back end.
pub(crate) struct Kernel {
    ipsec: Ipsec,
    addresses: Addresses,
    /// Whether the netlink MIGRATE group could be joined: it then decides, and PF_KEY's copies are consumed.
    pub(crate) netlink_migrate: bool,
    probed: bool,
}

impl Kernel {
    /// Opens the descriptors of the chosen interface; where there is no netlink XFRM, those of PF_KEY.
    pub(crate) fn open(now: Now, interface: KernelInterface, warn: &mut dyn FnMut(String)) -> io::Result<Self> {
        let addresses = Addresses::open()?;
        let (ipsec, netlink_migrate) = open_ipsec(now, interface, warn)?;
        Ok(Self { ipsec, addresses, netlink_migrate, probed: false })
    }

    /// Whether the kernel has answered the probe.
    pub(crate) const fn is_probed(&self) -> bool {
        self.probed
    }

    /// What the kernel can do, as far as it is known by now.
    pub(crate) fn capabilities(&self) -> &Capability {
        self.ipsec.backend().capabilities()
    }

    /// Asks the kernel.
    pub(crate) fn submit(&mut self, now: Now, id: RequestId, request: KernelRequest) {
        self.ipsec.backend_mut().submit(now, id, request);
    }

    /// Moves bytes until every back end waits; returns what they reported and the next time one wants to be called.
    pub(crate) fn drain(&mut self, now: Now, inputs: &mut Vec<Input>) -> Option<Duration> {
        loop {
            match self.ipsec.backend_mut().poll() {
                BackendOutput::Send(channel, mut octets) => {
                    let sent = self.ipsec.send(&octets);
                    // The octets of an SA hold its keys.
                    octets.zeroize();
                    if sent.is_err() {
                        self.ipsec.backend_mut().overrun(now, channel);
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
        self.ipsec.backend_mut().timeout(now);
        self.addresses.timeout(now);
    }

    /// Waits until a descriptor can be read.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        tokio::select! {
            ready = self.ipsec.readable() => ready,
            ready = self.addresses.readable() => ready,
        }
    }

    /// Reads what waits. Netlink events come before PF_KEY's copies of them.
    pub(crate) fn read(&mut self, now: Now, inputs: &mut Vec<Input>) {
        match &mut self.ipsec {
            #[cfg(target_os = "linux")]
            Ipsec::Xfrm(xfrm) => xfrm.read(now),
            Ipsec::Key(key) => key.read(now),
        }
        self.addresses.read(now);
        self.drain(now, inputs);
        #[cfg(target_os = "linux")]
        if let Ipsec::Xfrm(xfrm) = &mut self.ipsec {
            xfrm.read_copies(now, inputs);
        }
    }
}

#[cfg(target_os = "linux")]
fn open_ipsec(now: Now, interface: KernelInterface, warn: &mut dyn FnMut(String)) -> io::Result<(Ipsec, bool)> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Ok(match interface {
        KernelInterface::Xfrm => {
            let xfrm = xfrm::Xfrm::open(now, PROBE, release.trim(), warn)?;
            let hears_migrate = xfrm.hears_migrate;
            (Ipsec::Xfrm(Box::new(xfrm)), hears_migrate)
        }
        KernelInterface::PfKey => (Ipsec::Key(Box::new(pfkey::Key::open(now, PROBE, release.trim())?)), false),
    })
}

#[cfg(not(target_os = "linux"))]
fn open_ipsec(now: Now, interface: KernelInterface, warn: &mut dyn FnMut(String)) -> io::Result<(Ipsec, bool)> {
    if interface == KernelInterface::Xfrm {
        warn("this system has no netlink XFRM: PF_KEY is used".to_owned());
    }
    Ok((Ipsec::Key(Box::new(pfkey::Key::open(now, PROBE, "")?)), false))
}
