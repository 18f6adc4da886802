//! The contract of a kernel back end. Sans-IO: it owns sequence numbers, dump assembly, the policy table and resynchronisation,
//! and never touches a descriptor.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use watari_policies::algorithm::{Encryption, Integrity};

use crate::{KernelError, KernelEvent, KernelReply, KernelRequest, Now};

/// Names a request so that its answer can be told from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// A descriptor that the runner owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// NETLINK_XFRM, requests and their answers.
    XfrmRequest,
    /// NETLINK_XFRM, multicast groups.
    XfrmEvent,
    /// PF_KEY.
    Key,
    /// NETLINK_ROUTE or PF_ROUTE.
    Route,
}

/// What a back end wants of its runner.
#[derive(Clone, PartialEq)]
pub enum BackendOutput {
    /// Write these octets to a descriptor.
    Send(Channel, Vec<u8>),
    /// The kernel reported something.
    Event(KernelEvent),
    /// A request was answered.
    Done(RequestId, Result<KernelReply, KernelError>),
    /// Nothing more until an input or, if given, this boot time.
    Wait(Option<Duration>),
}

impl fmt::Debug for BackendOutput {
    /// Octets to send may hold keys: only their number is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send(channel, octets) => write!(f, "Send({channel:?}, {} octets)", octets.len()),
            Self::Event(event) => f.debug_tuple("Event").field(event).finish(),
            Self::Done(id, result) => f.debug_tuple("Done").field(id).field(result).finish(),
            Self::Wait(deadline) => f.debug_tuple("Wait").field(deadline).finish(),
        }
    }
}

/// What a kernel can do. What it cannot do exactly is never negotiated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capability {
    /// Whether MIGRATE is heard.
    pub migrate: bool,
    /// Whether an inbound packet's MH type reaches policies and SA selectors; `None` until probed (FACTS A3 K2).
    pub inbound_mh_type: Option<bool>,
    /// Whether extended sequence numbers can be installed.
    pub esn: bool,
    /// Whether AEAD ciphers can be installed.
    pub aead: bool,
    /// The encryption algorithms that can be installed, beyond what `aead` says; `None` for every one.
    pub encryption: Option<BTreeSet<Encryption>>,
    /// The integrity algorithms that can be installed with the ICV length of their RFC; `None` for every one.
    pub integrity: Option<BTreeSet<Integrity>>,
}

impl Default for Capability {
    fn default() -> Self {
        Self { migrate: true, inbound_mh_type: None, esn: true, aead: true, encryption: None, integrity: None }
    }
}

/// A kernel back end.
pub trait Backend {
    /// Takes a request; its answer comes as `Done` with the same id, exactly once.
    fn submit(&mut self, now: Now, id: RequestId, request: KernelRequest);
    /// Takes what was read from a descriptor: one datagram.
    fn received(&mut self, now: Now, channel: Channel, octets: &[u8]);
    /// A descriptor lost messages: state is read again and `Resynchronised` reported.
    fn overrun(&mut self, now: Now, channel: Channel);
    /// A time given by `Wait` has come.
    fn timeout(&mut self, now: Now);
    /// The next thing wanted; call until `Wait`.
    fn poll(&mut self) -> BackendOutput;
    /// What this kernel can do.
    fn capabilities(&self) -> &Capability;
}
