//! Start-up: the kernel's policies and SAs are read, policies adopted or installed, SAs taken over, negotiations begun.

use watari_kernel::{KernelError, KernelReply, KernelRequest, Now};

use crate::Agent;
use crate::core::Purpose;

impl Agent {
    /// Asks the kernel for what it holds.
    pub(crate) fn begin(&mut self) {
        self.core.ask(Purpose::Policies { moves: 0 }, KernelRequest::DumpPolicies);
        self.core.ask(Purpose::AdoptSas, KernelRequest::DumpSas);
    }

    /// Takes the answer to a request of the engine itself.
    pub(crate) fn answered(&mut self, now: Now, purpose: Purpose, result: Result<KernelReply, KernelError>) {
        let _ = (now, purpose, result);
    }
}
