//! The way between agent and kernel on a host with SHISA: the back end's KAME dialect on one side, KAME's sockets over the mirror on the
//! other, nothing but octets between them.

use std::time::Duration;

use watari_kernel::mirror::{MigrateRequest, Mirror, Rebound};
use watari_kernel::{Backend, BackendOutput, Capability, Channel, KernelRequest, Now, RequestId};
use watari_pfkey::{Dialect, KeyBackend};

use crate::kame::{KameKernel, KeySocket};

/// The process id of every agent; each has a kernel of its own.
const PID: u32 = 4242;

#[derive(Debug)]
pub(super) struct KeyPath {
    backend: KeyBackend,
    kernel: KameKernel,
    socket: KeySocket,
    /// When the back end or the kernel wants to be called.
    pub(super) deadline: Option<Duration>,
}

impl KeyPath {
    /// Opens and registers a socket; ACQUIREs bring their packet if the kernel was built so.
    pub(super) fn open(now: Now, mirror: &mut Mirror, tells_packets: bool) -> Self {
        let mut kernel = KameKernel::new(tells_packets);
        let socket = kernel.open();
        let mut path = Self { backend: KeyBackend::new(Dialect::Kame, PID), kernel, socket, deadline: None };
        path.backend.probe(now, RequestId(0), "");
        // Nobody waits for the probe but this line, and addresses are told to a new agent anyway.
        path.exchange(now, mirror);
        path
    }

    pub(super) fn capability(&self) -> Capability {
        self.backend.capabilities().clone()
    }

    pub(super) fn submit(&mut self, now: Now, id: RequestId, request: KernelRequest) {
        self.backend.submit(now, id, request);
    }

    pub(super) fn timeout(&mut self, now: Now) {
        self.backend.timeout(now);
    }

    /// What the kernel does by itself when a binding changes; a policy that it does not have is none of its business.
    pub(super) fn rebind(&mut self, mirror: &mut Mirror, request: &MigrateRequest, tells: Rebound) {
        let _ = self.kernel.rebind(mirror, request, tells);
    }

    /// Carries octets until there are none; what the back end makes of them, in order.
    pub(super) fn exchange(&mut self, now: Now, mirror: &mut Mirror) -> Vec<BackendOutput> {
        let mut told = Vec::new();
        loop {
            let (others, kernel_deadline) = self.kernel.announce(mirror);
            told.extend(others.into_iter().map(BackendOutput::Event));
            while let Some(octets) = self.kernel.read(self.socket) {
                self.backend.received(now, Channel::Key, &octets);
            }
            let mut wrote = false;
            loop {
                match self.backend.poll() {
                    BackendOutput::Send(_, octets) => {
                        self.kernel.write(mirror, now, self.socket, &octets);
                        wrote = true;
                    }
                    BackendOutput::Wait(deadline) => {
                        self.deadline = [deadline, kernel_deadline].into_iter().flatten().min();
                        break;
                    }
                    output => told.push(output),
                }
            }
            if !wrote {
                return told;
            }
        }
    }
}
