//! Traffic that flows one way only is a sign that the peer lost its SAs: then its IKE SA is probed (RFC 7296 2.4).
//! Invariant: nothing is ended here; the probe decides.

use watari_kernel::{KernelRequest, Now};
use watari_policies::RemoteId;
use watari_sa::{ChildId, ChildState, Owner};

use crate::agent::Agent;
use crate::core::Purpose;
use crate::timers::Timer;

/// Packets of a child's halves, as last read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    inbound: u64,
    outbound: u64,
    silent: bool,
}

impl Agent {
    /// Starts to watch a remote, if its configuration says so.
    pub(crate) fn watch(&mut self, now: Now, remote: RemoteId) {
        if let Some(idle) = self.core.config.remote(remote).and_then(|remote| remote.liveness) {
            self.core.timers.set_once(Timer::Liveness(remote), now.boot.saturating_add(idle));
        }
    }

    /// Asks for the packet counts of a remote's children.
    pub(crate) fn look_at_traffic(&mut self, now: Now, remote: RemoteId) {
        if self.keying.ike_sas_of(remote).is_empty() {
            return;
        }
        let policies = self.core.lookup.policies_of(remote).to_vec();
        for policy in policies {
            let children = self.core.children.of_policy(policy).filter(|child| child.state == ChildState::Installed);
            let halves: Vec<_> = children.map(|child| (child.id, child.inbound_id(), child.outbound_id())).collect();
            for (child, inbound, outbound) in halves {
                self.core.ask(Purpose::Traffic { child, inbound: true }, KernelRequest::QuerySa(inbound));
                self.core.ask(Purpose::Traffic { child, inbound: false }, KernelRequest::QuerySa(outbound));
            }
        }
        self.watch(now, remote);
    }

    /// Takes a packet count; the outbound one comes second and is judged by.
    pub(crate) fn traffic(&mut self, now: Now, child: ChildId, inbound: bool, packets: u64) {
        let Some(owner) = self.core.children.get(child).map(|child| child.owner) else { return };
        let known = self.core.traffic.entry(child).or_default();
        if inbound {
            known.silent = packets <= known.inbound;
            known.inbound = packets;
            return;
        }
        //= rfc7296#2.4
        //# traffic that only leaves calls for a liveness check
        let one_way = known.silent && packets > known.outbound;
        known.outbound = packets;
        if let (true, Owner::Ike(ike)) = (one_way, owner) {
            self.keying_call(now, |keying, context| keying.probe(context, ike));
        }
    }
}
