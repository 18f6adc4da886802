//! What the kernel's broadcasts mean.

use watari_kernel::{Endpoints, KernelEvent, Migrate, PolicyIndex, SaInfo};
use watari_policies::Protocol;

use crate::convert::{direction, protocol_of_satype};
use crate::dialect::Dialect;
use crate::extension::{RawPolicy, SATYPE_UNSPEC, X_POLICY, endpoints};
use crate::message::{Kind, Message};
use crate::packet::{self, TriggeringPacket};
use crate::{migrate, policy, sa};

/// An ACQUIRE as PF_KEY tells it: without selector, mode and reqid, which only the policy knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) sequence: u32,
    pub(crate) protocol: Protocol,
    pub(crate) endpoints: Endpoints,
    pub(crate) index: PolicyIndex,
    /// The triggering packet, where the kernel gives it.
    pub(crate) packet: Option<TriggeringPacket>,
}

/// What a broadcast asks for.
#[derive(Debug)]
pub(crate) enum Notice {
    /// Tell it.
    Event(KernelEvent),
    /// Find its policy, then tell it.
    Acquire(Wanted),
    /// Complete it from the policies, then tell it.
    Migrate(Migrate),
    /// An SA came: remember its source.
    Sa(SaInfo),
    /// SAs were flushed, all or those of one protocol: only the table tells.
    SasFlushed,
    /// Nothing of interest.
    Nothing,
}

impl From<Option<KernelEvent>> for Notice {
    fn from(event: Option<KernelEvent>) -> Self {
        event.map_or(Self::Nothing, Self::Event)
    }
}

/// Reads one broadcast. `pid` is the number in our own requests, whose removals are no news.
pub(crate) fn read(dialect: Dialect, message: &Message<'_>, pid: u32) -> Result<Notice, String> {
    let ours = pid != 0 && message.pid == pid;
    Ok(match message.kind {
        Kind::Acquire => acquire(dialect, message)?.map_or(Notice::Nothing, Notice::Acquire),
        Kind::Expire => sa::expire(dialect, message)?.map(KernelEvent::Expire).into(),
        Kind::Migrate => Notice::Migrate(migrate::read(dialect, message)?),
        Kind::SpdAdd | Kind::SpdUpdate => policy::read(dialect, message)?.map(KernelEvent::PolicyChanged).into(),
        Kind::SpdDelete | Kind::SpdDelete2 | Kind::SpdExpire => policy::read(dialect, message)?.map(KernelEvent::PolicyRemoved).into(),
        Kind::SpdFlush => Notice::Event(KernelEvent::Flushed { policies: true }),
        Kind::Add | Kind::Update => sa::info(dialect, message)?.map_or(Notice::Nothing, Notice::Sa),
        Kind::Delete if ours => Notice::Nothing,
        Kind::Delete => sa::id(dialect, message)?.map(|(id, _)| KernelEvent::SaRemoved(id)).into(),
        // A flush of one protocol that PF_KEY has no number for is announced like a flush of all.
        Kind::Flush if message.satype == SATYPE_UNSPEC || protocol_of_satype(message.satype).is_some() => Notice::SasFlushed,
        _ => Notice::Nothing,
    })
}

fn acquire(dialect: Dialect, message: &Message<'_>) -> Result<Option<Wanted>, String> {
    let Some(protocol) = protocol_of_satype(message.satype) else { return Ok(None) };
    let (raw, _) = message.required(X_POLICY, "X_POLICY")?.take::<RawPolicy>("X_POLICY")?;
    if direction(raw.dir).is_none() {
        return Ok(None);
    }
    let packet = packet::triggering(dialect, message)?;
    let endpoints = endpoints(dialect, message)?;
    Ok(Some(Wanted { sequence: message.seq, protocol, endpoints, index: PolicyIndex(raw.id), packet }))
}
