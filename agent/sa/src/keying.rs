//! The contract between the engine and a key-management protocol (IKEv2, IKEv1, KINK).
//! Inputs come with a `Context`; outputs are taken with `poll` until it is empty.

use std::net::IpAddr;
use std::time::Duration;

use watari_crypto::Provider;
use watari_kernel::{Capability, Endpoints, KernelError, KernelReply, KernelRequest, KmAddress, Now, RequestId};
use watari_policies::{Config, Gateway, Identity, PolicyId, RemoteId, Selector};

use crate::{
    Assignment, Cause, ChildId, Datagram, IkeId, Path, Rng, SaTable, Transmit, TransmitId, Undeliverable, Wish, Work, WorkDone, WorkId,
};

/// Source of every id of one agent; an id is never used twice.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ids(u64);

impl Ids {
    fn next(&mut self) -> u64 {
        self.0 = self.0.saturating_add(1);
        self.0
    }
    /// A fresh id for a kernel request.
    pub fn request(&mut self) -> RequestId {
        RequestId(self.next())
    }
    /// A fresh id for a transmission.
    pub fn transmit(&mut self) -> TransmitId {
        TransmitId(self.next())
    }
    /// A fresh id for a piece of work.
    pub fn work(&mut self) -> WorkId {
        WorkId(self.next())
    }
    /// A fresh id for a child SA.
    pub fn child(&mut self) -> ChildId {
        ChildId(self.next())
    }
    /// A fresh id for an IKE SA.
    pub fn ike(&mut self) -> IkeId {
        IkeId(self.next())
    }
}

/// Addresses as they are known now: asked when a negotiation starts and again when an SA is installed.
pub trait Whereabouts {
    /// Addresses for IKE with this remote: what the Mobile IPv6 daemon told last (KMADDRESS), else the configuration. `None` if the peer's
    /// address is not known. An unspecified local address leaves the choice to the kernel's routing.
    fn ike_addresses(&self, remote: RemoteId) -> Option<KmAddress>;
    /// Addresses for IKE with this remote at another of its addresses.
    fn ike_addresses_to(&self, remote: RemoteId, peer: IpAddr) -> Option<KmAddress> {
        self.ike_addresses(remote).map(|addresses| KmAddress { remote: peer, ..addresses })
    }
    /// Outbound end points (this host to peer) of SAs of this policy, for an IKE SA between `ike`'s addresses.
    fn sa_endpoints(&self, policy: PolicyId, ike: KmAddress) -> Endpoints;
}

/// What every call into a protocol gets.
pub struct Context<'a> {
    /// The moment.
    pub now: Now,
    /// The configuration in force.
    pub config: &'a Config,
    /// Every child SA.
    pub children: &'a mut SaTable,
    /// The engine's generator.
    pub rng: &'a mut Rng,
    /// Source of ids.
    pub ids: &'a mut Ids,
    /// Symmetric primitives (public-key ones go out as `Work`).
    pub provider: &'a dyn Provider,
    /// Addresses as known now.
    pub whereabouts: &'a dyn Whereabouts,
    /// What the kernel can do.
    pub capability: &'a Capability,
}

/// What reaches a protocol.
#[derive(Debug)]
pub enum KeyingInput {
    /// A datagram; the non-ESP marker is already off.
    Datagram(Datagram),
    /// A transmission failed.
    Undeliverable(TransmitId, Undeliverable),
    /// A local address became usable (present and past duplicate address detection): what waited for it goes out now.
    AddressUsable(IpAddr),
    /// A kernel request of this protocol was answered.
    Done(RequestId, Result<KernelReply, KernelError>),
    /// A piece of work of this protocol was done.
    WorkDone(WorkId, WorkDone),
    /// What became of a wish about a home address.
    Assigned(IkeId, Assignment),
    /// The deadline came.
    Timeout,
}

/// Why SAs are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// A packet met the policy.
    Acquire {
        /// The packet: goes first into the traffic selectors (RFC 7296 2.9).
        packet: Selector,
        /// Sequence number of the kernel's larval state.
        sequence: u32,
    },
    /// The configuration says so at start-up.
    Start,
    /// The operator asked.
    Command,
    /// An SA without owner is to be replaced before it ends.
    Replace(ChildId),
}

/// A wish for a child SA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// The policy that needs it.
    pub policy: PolicyId,
    /// Why.
    pub trigger: Trigger,
}

/// What a command is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// One IKE SA with its children.
    Ike(IkeId),
    /// One child SA.
    Child(ChildId),
}

/// The next time a protocol wants to be called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline {
    /// Boot time.
    pub at: Duration,
    /// Which timer.
    pub timer: &'static str,
    /// Whose: the name of a remote, or of the agent's own part.
    pub whose: String,
}

/// What a protocol wants done.
#[derive(Debug)]
pub enum Action {
    /// Send a datagram; the engine puts the non-ESP marker on where the local port needs it.
    Transmit(Transmit),
    /// Ask the kernel.
    Kernel(RequestId, KernelRequest),
    /// Hand out work.
    Work(WorkId, Work),
    /// Decide about the home address of a remote and make its policies; the answer is `KeyingInput::Assigned`.
    Assign {
        /// The IKE SA in which it was asked.
        ike: IkeId,
        /// Whose address it is.
        remote: RemoteId,
        /// What is wished for.
        wish: Wish,
    },
    /// Another of the peer's addresses is in force from now on: records that name the old one follow. To be done before the next input.
    /// Unless it is chosen for good, policies in the kernel and the Mobile IPv6 daemon follow once the peer has proved itself there.
    UseAddress {
        /// The peer.
        remote: RemoteId,
        /// The address; it may be in force already.
        address: IpAddr,
        /// Why.
        cause: Cause,
        /// Whether nobody has to prove anything there first.
        for_good: bool,
    },
    /// Tell what happened.
    Event(KeyingEvent),
}

/// What happened, for the engine, the log and the control socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyingEvent {
    /// An IKE_SA_INIT request was sent for the first time (not a repeat); counts handshakes.
    InitSent {
        /// The IKE SA being made.
        ike: IkeId,
        /// The peer.
        remote: RemoteId,
        /// Over this path.
        path: Path,
    },
    /// An IKE SA stands.
    IkeUp {
        /// The IKE SA.
        ike: IkeId,
        /// The peer.
        remote: RemoteId,
        /// Over this path.
        path: Path,
        /// Who the peer proved to be.
        identity: Identity,
    },
    /// An IKE SA ended.
    IkeDown {
        /// The IKE SA.
        ike: IkeId,
        /// The peer, if it was known yet.
        remote: Option<RemoteId>,
        /// Why.
        cause: Cause,
        /// Details, both sides' view.
        detail: String,
    },
    /// An IKE SA was replaced, its children moved over.
    IkeRekeyed {
        /// The old one.
        old: IkeId,
        /// The new one.
        new: IkeId,
    },
    /// An IKE SA follows a new path.
    IkeMoved {
        /// The IKE SA.
        ike: IkeId,
        /// From.
        old: Path,
        /// To.
        new: Path,
    },
    /// The peer answered on the present path after a move.
    PathConfirmed {
        /// The IKE SA.
        ike: IkeId,
        /// The path.
        path: Path,
    },
    /// The peer answered from where it was doubted to be: it is there.
    PathProved {
        /// The IKE SA.
        ike: IkeId,
        /// The path of the answer.
        path: Path,
    },
    /// The peer answered on the path of the IKE SA and not from where it was doubted to be.
    PathRefuted {
        /// The IKE SA.
        ike: IkeId,
        /// The path of the IKE SA, or of the answer.
        path: Path,
    },
    /// Where the peer is could not be learnt: it answered from neither place. The path and the IKE SA stay.
    PathUndecided {
        /// The IKE SA.
        ike: IkeId,
    },
    /// A child SA is installed both ways.
    ChildUp(ChildId),
    /// A child SA ended and left the table.
    ChildDown {
        /// The child SA.
        child: ChildId,
        /// The policy it served.
        policy: PolicyId,
        /// Why.
        cause: Cause,
    },
    /// A child SA was replaced.
    ChildRekeyed {
        /// The old one.
        old: ChildId,
        /// The new one.
        new: ChildId,
    },
    /// A wish failed.
    WantFailed {
        /// The policy.
        policy: PolicyId,
        /// Why.
        cause: Cause,
        /// Details, both sides' view.
        detail: String,
    },
    /// The peer sent us on to another gateway, and we go there (RFC 5685).
    Redirected {
        /// The IKE SA that ends, at once or when the next one stands.
        ike: IkeId,
        /// The peer.
        remote: RemoteId,
        /// Its address until now.
        from: IpAddr,
        /// The address it named.
        to: IpAddr,
    },
    /// We sent a peer on to another gateway.
    SentOn {
        /// Where it called from.
        path: Path,
        /// The peer, if it is known yet.
        remote: Option<RemoteId>,
        /// The gateway it was told.
        to: String,
    },
    /// A message was dropped and counted.
    Dropped {
        /// Where it came from.
        path: Path,
        /// Why.
        cause: Cause,
        /// Details.
        detail: String,
    },
    /// Keys of an IKE SA, for a capture's decryption table. Made only when the configuration of a test asks for them.
    Keys {
        /// Line in tshark's `ikev2_decryption_table` form.
        line: String,
    },
}

/// Where an IKE SA stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IkeState {
    /// IKE_SA_INIT is under way.
    AwaitInit,
    /// IKE_AUTH is under way.
    AwaitAuth,
    /// In use.
    Established,
    /// A successor took over.
    Replaced,
    /// A delete exchange is under way.
    Closing,
}

/// Where NAT detection saw a NAT (RFC 7296 2.23).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NatSeen {
    /// In front of the peer: its packets do not come from where it thinks.
    pub peer: bool,
    /// In front of this host.
    pub us: bool,
}

impl NatSeen {
    /// Whether there is one at all.
    pub const fn any(self) -> bool {
        self.peer || self.us
    }
}

/// One IKE SA as `status` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IkeStatus {
    /// Its name.
    pub id: IkeId,
    /// The peer, once known.
    pub remote: Option<RemoteId>,
    /// Where it stands.
    pub state: IkeState,
    /// Whether this host started it.
    pub initiator: bool,
    /// SPI of the initiator.
    pub initiator_spi: u64,
    /// SPI of the responder, 0 before it is known.
    pub responder_spi: u64,
    /// Its path.
    pub path: Path,
    /// Algorithms by name, for example `aes256gcm16-prfsha384-ecp384`; empty before they are chosen.
    pub suite: String,
    /// Boot time of creation.
    pub created: Duration,
    /// Boot time at which it is rekeyed.
    pub rekey_at: Option<Duration>,
    /// NATs between the two ends, as its IKE_SA_INIT found them.
    pub nat: NatSeen,
    /// What it is doing now: names of tasks under way or queued.
    pub tasks: Vec<&'static str>,
    /// Policies whose negotiation is under way or queued in it.
    pub negotiating: Vec<PolicyId>,
}

/// A key-management protocol.
pub trait Keying {
    /// Takes an input.
    fn handle(&mut self, context: &mut Context<'_>, input: KeyingInput);
    /// The next thing wanted, until `None`.
    fn poll(&mut self) -> Option<Action>;
    /// When to call with `Timeout`.
    fn deadline(&self) -> Option<Deadline>;
    /// Makes a child SA for a policy, over an IKE SA that stands or a new one. A wish already being served is not served twice.
    fn want(&mut self, context: &mut Context<'_>, want: Want);
    /// Replaces an SA, make before break.
    fn rekey(&mut self, context: &mut Context<'_>, target: Target);
    /// Closes an SA with a delete exchange.
    fn close(&mut self, context: &mut Context<'_>, target: Target);
    /// Moves an IKE SA, established or in the making, to new addresses (ports stay): an outstanding encrypted request is resent at once
    /// and octet for octet, an unanswered IKE_SA_INIT starts afresh, otherwise a liveness check tests the path.
    fn retarget(&mut self, context: &mut Context<'_>, ike: IkeId, addresses: KmAddress);
    /// Checks that the peer lives.
    fn probe(&mut self, context: &mut Context<'_>, ike: IkeId);
    /// Asks the peer, on the path of an established IKE SA and at another address alike, where it is; the first answer is told as
    /// `PathProved` or `PathRefuted`, and the path stays. Silence ends the question (`PathUndecided`), never the IKE SA. A protocol that
    /// cannot do so only probes.
    fn prove(&mut self, context: &mut Context<'_>, ike: IkeId, candidate: KmAddress) {
        let _ = candidate;
        self.probe(context, ike);
    }
    /// Reaches a peer at the first of these addresses that serves: what is being made begins again there, what stands is replaced by an
    /// IKE SA there, make before break. If none serves, what stands stays.
    fn switch(&mut self, context: &mut Context<'_>, remote: RemoteId, addresses: &[IpAddr], cause: Cause) {
        let _ = (context, remote, addresses, cause);
    }
    /// Sends the initiator of an IKE SA on to another gateway.
    ///
    /// # Errors
    /// Why that cannot be done, in words.
    fn redirect(&mut self, context: &mut Context<'_>, ike: IkeId, to: &Gateway) -> Result<(), String> {
        let _ = (context, ike, to);
        Err("the protocol knows no redirects".to_owned())
    }
    /// Drops an IKE SA without a word; its children lose their owner and go on.
    fn forget(&mut self, context: &mut Context<'_>, ike: IkeId);
    /// The IKE SAs with a remote, also those still in the making, newest last.
    fn ike_sas_of(&self, remote: RemoteId) -> Vec<IkeId>;
    /// The path of an IKE SA, without the cost of its whole status.
    fn path_of(&self, ike: IkeId) -> Option<Path>;
    /// Whether an IKE SA is beyond its first exchanges, without the cost of its whole status.
    fn stands(&self, ike: IkeId) -> bool;
    /// One IKE SA, for status and decisions.
    fn status(&self, ike: IkeId) -> Option<IkeStatus>;
    /// Every IKE SA, in the order they were made.
    fn statuses(&self) -> Vec<IkeStatus>;
    /// The configuration of the next context is another one: indexes over the old one are dropped.
    fn reconfigured(&mut self) {}
}
