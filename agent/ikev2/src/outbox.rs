//! What the protocol wants done, and what the answers are for.
//! Invariant: every answer finds who asked by its id; an answer for something gone is undone by the dispatcher, never ignored.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use watari_kernel::{Endpoints, KernelRequest, RequestId, SaId};
use watari_policies::{Protocol, RemoteId};
use watari_sa::{Action, Cause, ChildId, Context, IkeId, KeyingEvent, Path, Transmit, TransmitId, Wish, Work, WorkId};

/// Whom a piece of work is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WorkFor {
    /// Our key pair for IKE_SA_INIT.
    InitKey(IkeId),
    /// The shared secret of IKE_SA_INIT, as initiator.
    InitShared(IkeId),
    /// Key pair and shared secret of IKE_SA_INIT, as responder.
    InitAnswer(IkeId),
    /// Our proof of identity.
    OwnProof(IkeId),
    /// What the peer's proof of identity must be.
    PeerProof(IkeId),
    /// Our key pair for a child SA.
    ChildKey(ChildId),
    /// The shared secret of a child SA, as initiator or, with the key pair, as responder.
    ChildShared(ChildId),
    /// Our key pair for the rekey of an IKE SA.
    RekeyKey(IkeId),
    /// The shared secret of the rekey of an IKE SA, as initiator.
    RekeyShared(IkeId),
    /// Key pair and shared secret of the rekey of an IKE SA, as responder.
    RekeyAnswer(IkeId),
}

/// Whom an answer of the kernel is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestFor {
    /// An inbound SPI for a child SA being made.
    Spi {
        /// The child SA.
        child: ChildId,
        /// Inbound end points it was reserved for.
        endpoints: Endpoints,
        /// Protocol.
        protocol: Protocol,
    },
    /// The inbound half of a child SA.
    Inbound(ChildId, SaId),
    /// The outbound half of a child SA.
    Outbound(ChildId, SaId),
    /// Nobody waits for it.
    Nobody,
}

/// The queue of actions and the registers of what is under way.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    actions: VecDeque<Action>,
    works: BTreeMap<WorkId, WorkFor>,
    requests: BTreeMap<RequestId, RequestFor>,
    transmits: BTreeMap<TransmitId, IkeId>,
}

impl Outbox {
    /// The next action.
    pub(crate) fn pop(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Hands out work.
    pub(crate) fn work(&mut self, context: &mut Context<'_>, work: Work, purpose: WorkFor) {
        let id = context.ids.work();
        self.works.insert(id, purpose);
        self.actions.push_back(Action::Work(id, work));
    }

    /// Takes the purpose of a piece of work that was done.
    pub(crate) fn work_done(&mut self, id: WorkId) -> Option<WorkFor> {
        self.works.remove(&id)
    }

    /// Asks the kernel.
    pub(crate) fn kernel(&mut self, context: &mut Context<'_>, request: KernelRequest, purpose: RequestFor) {
        let id = context.ids.request();
        self.requests.insert(id, purpose);
        self.actions.push_back(Action::Kernel(id, request));
    }

    /// Takes the purpose of a kernel request that was answered.
    pub(crate) fn request_done(&mut self, id: RequestId) -> Option<RequestFor> {
        self.requests.remove(&id)
    }

    /// Removes an SA; nobody waits for the answer.
    pub(crate) fn delete_sa(&mut self, context: &mut Context<'_>, id: SaId) {
        self.kernel(context, KernelRequest::DeleteSa(id), RequestFor::Nobody);
    }

    /// Sends a request of an IKE SA; a failure to send it is told to that IKE SA.
    pub(crate) fn transmit_request(&mut self, context: &mut Context<'_>, ike: IkeId, path: Path, octets: Vec<u8>) -> TransmitId {
        let id = self.transmit(context, path, octets);
        self.transmits.insert(id, ike);
        id
    }

    /// Sends what nobody minds losing: responses and unprotected notifies.
    pub(crate) fn transmit(&mut self, context: &mut Context<'_>, path: Path, octets: Vec<u8>) -> TransmitId {
        let id = context.ids.transmit();
        self.actions.push_back(Action::Transmit(Transmit { id, path, octets }));
        id
    }

    /// The IKE SA whose request a transmission was, if it is still the last one of that IKE SA.
    pub(crate) fn transmit_owner(&self, id: TransmitId) -> Option<IkeId> {
        self.transmits.get(&id).copied()
    }

    /// Forgets a transmission: answered, or sent again under another id.
    pub(crate) fn forget_transmit(&mut self, id: TransmitId) {
        self.transmits.remove(&id);
    }

    /// Asks for a decision about a home address.
    pub(crate) fn assign(&mut self, ike: IkeId, remote: RemoteId, wish: Wish) {
        self.actions.push_back(Action::Assign { ike, remote, wish });
    }

    /// Says which of a peer's addresses is in force from now on, until the peer has proved itself there or for good.
    pub(crate) fn use_address(&mut self, remote: RemoteId, address: IpAddr, cause: Cause, for_good: bool) {
        self.actions.push_back(Action::UseAddress { remote, address, cause, for_good });
    }

    /// Tells what happened.
    pub(crate) fn event(&mut self, event: KeyingEvent) {
        self.actions.push_back(Action::Event(event));
    }
}
