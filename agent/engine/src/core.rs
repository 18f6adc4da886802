//! What the engine itself holds, apart from the protocol modules: configuration, child SAs, addresses, policies, timers, counters.
//! Invariant: everything that leaves goes through `outputs`, in order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use watari_crypto::Provider;
use watari_kernel::{Capability, Endpoints, KernelRequest, KmAddress, Now, PolicyEntry, RequestId, SaId, SaParameters, Template};
use watari_policies::{Config, Direction, PolicyId, Protocol, RemoteId};
use watari_sa::{ChildId, Context, Ids, Rng, SaTable, Target, TransmitId, Want};

use crate::CommandId;
use crate::assign::Homes;
use crate::control::Awaited;
use crate::copies::Copies;
use crate::home_agents::Unproved;
use crate::install::Entry;
use crate::key_mobility::Mobility;
use crate::liveness::Traffic;
use crate::lookup::Lookup;
use crate::manual::Manual;
use crate::reload::Retired;
use crate::spd::Spd;
use crate::status::Counters;
use crate::timers::Timers;
use crate::whereabouts::Places;
use crate::{Event, Output};

/// Why the engine itself asked the kernel something.
#[derive(Clone, Debug)]
pub(crate) enum Purpose {
    /// Policies at start-up or for reconciliation; the number of moves known when it was asked.
    Policies { moves: u64 },
    /// SAs at start-up, to be adopted.
    AdoptSas,
    /// SAs, to be compared with the records.
    CompareSas { moves: u64 },
    /// Whether the kernel moved an SA to where it belonged when it was asked.
    Verify { child: ChildId, inbound: bool, wanted: Endpoints },
    /// Packets of a child's two halves, for liveness.
    Traffic { child: ChildId, inbound: bool },
    /// An SPI for the state of an unanswered ACQUIRE, so that it can be named and deleted.
    Withdraw(Endpoints, Protocol),
    /// A half of a child made again where it belongs.
    Recreate { child: ChildId, inbound: bool, sa: SaId },
    /// Octets and packets, for the list that this command waits for.
    Counts(CommandId),
    /// One half of an SA pair configured by hand; the outbound one is the last.
    ByHand(ChildId, Direction),
    /// Something whose refusal is only worth a notice.
    Housekeeping(&'static str),
}

/// What a protocol module asked the kernel, as far as the answer concerns the engine.
#[derive(Clone, Debug)]
pub(crate) enum Forwarded {
    /// A half of a child to be installed: its parameters are kept once the kernel has it.
    Add { child: ChildId, inbound: bool, parameters: SaParameters },
    /// An SA to be removed.
    Delete(SaId),
}

/// A call into a protocol module that waits until the present one is over.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Want(Want),
    Rekey(Target),
    Close(Target),
}

/// The last MIGRATE of a remote that changed something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Migrated {
    /// Its number among all.
    pub(crate) number: u64,
    /// When, boot time.
    pub(crate) at: Duration,
}

/// The last movement of a remote, for status and latency.
#[derive(Clone, Debug)]
pub(crate) struct Movement {
    pub(crate) from: Option<KmAddress>,
    pub(crate) to: KmAddress,
    pub(crate) at: Now,
    pub(crate) first_packet: Option<Duration>,
    pub(crate) transmit: Option<TransmitId>,
    /// Whether a packet could not leave from the new address: until it is usable, another attempt is no news.
    pub(crate) waiting: bool,
}

/// Everything but the protocol modules.
pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) provider: Arc<dyn Provider>,
    pub(crate) capability: Capability,
    pub(crate) children: SaTable,
    pub(crate) rng: Rng,
    pub(crate) ids: Ids,
    pub(crate) places: Places,
    pub(crate) lookup: Lookup,
    pub(crate) spd: Spd,
    pub(crate) timers: Timers,
    pub(crate) outputs: VecDeque<Output>,
    pub(crate) calls: VecDeque<Call>,
    pub(crate) purposes: BTreeMap<RequestId, Purpose>,
    /// The last ACQUIRE of each tunnel policy: end points and template of the state that the kernel keeps for it.
    pub(crate) acquired: BTreeMap<PolicyId, (Endpoints, Template)>,
    /// The number of the last ACQUIRE of each policy that was neither served nor refused.
    pub(crate) asked: BTreeMap<PolicyId, u32>,
    /// Parameters of the SAs that the kernel acknowledged, so that one it leaves behind can be made again.
    pub(crate) kept: BTreeMap<SaId, SaParameters>,
    pub(crate) forwarded: BTreeMap<RequestId, Forwarded>,
    pub(crate) movements: BTreeMap<RemoteId, Movement>,
    /// Remotes whose first packet after a move is awaited, by the path it will take; several may share one.
    pub(crate) awaited: BTreeSet<(KmAddress, RemoteId)>,
    pub(crate) sent_after_move: BTreeMap<TransmitId, RemoteId>,
    /// How many plans were applied, and the last one of each remote: what is older than a move is not believed.
    pub(crate) moves: u64,
    pub(crate) migrated: BTreeMap<RemoteId, Migrated>,
    /// Remotes of which the last reading of the kernel was not believed; empty when everything is to be looked at.
    pub(crate) unsettled: BTreeSet<RemoteId>,
    /// Where halves of a child stood before they moved.
    pub(crate) stale: BTreeMap<(ChildId, bool), BTreeSet<SaId>>,
    /// Halves that the kernel did not show where they belong; they are looked for once more before anything is done.
    pub(crate) doubted: BTreeSet<(ChildId, bool)>,
    /// Halves that the kernel once refused to take again where they belong.
    pub(crate) refused: BTreeSet<(ChildId, bool)>,
    pub(crate) copies: Copies,
    /// Policies of ours that are in the kernel.
    pub(crate) installed: BTreeMap<Entry, (PolicyId, PolicyEntry)>,
    pub(crate) differences: Vec<String>,
    pub(crate) traffic: BTreeMap<ChildId, Traffic>,
    pub(crate) commands: BTreeMap<CommandId, Awaited>,
    pub(crate) homes: Homes,
    pub(crate) manual: Manual,
    /// Protected binding messages, what they showed, and movements that are not believed.
    pub(crate) mobility: Mobility,
    pub(crate) retries: BTreeMap<PolicyId, u32>,
    /// Addresses of peers that did not serve or sent us on, and when, boot time.
    pub(crate) unserved: BTreeMap<(RemoteId, IpAddr), Duration>,
    /// Addresses in force at which the peer has not proved itself.
    pub(crate) unproved: BTreeMap<RemoteId, Unproved>,
    /// Home agents with which Mobile IPv6 daemons are registered still, because those were told not to follow IKE.
    pub(crate) unregistered: BTreeMap<RemoteId, IpAddr>,
    pub(crate) retired: Retired,
    pub(crate) counters: Counters,
    pub(crate) started: Option<Now>,
    /// Whether what the kernel held at start-up is known.
    pub(crate) ready: bool,
    pub(crate) stopping: bool,
}

impl Core {
    /// What a call into a protocol gets.
    pub(crate) fn context(&mut self, now: Now) -> Context<'_> {
        Context {
            now,
            config: &self.config,
            children: &mut self.children,
            rng: &mut self.rng,
            ids: &mut self.ids,
            provider: self.provider.as_ref(),
            whereabouts: &self.places,
            capability: &self.capability,
        }
    }

    /// Tells what happened.
    pub(crate) fn tell(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    /// Asks the kernel something for the engine itself.
    pub(crate) fn ask(&mut self, purpose: Purpose, request: KernelRequest) {
        let id = self.ids.request();
        self.purposes.insert(id, purpose);
        self.outputs.push_back(Output::Kernel(id, request));
    }
}
