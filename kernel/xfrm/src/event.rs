//! What the kernel's multicast messages mean.
//! Invariant: reports on per-socket policies and on Mobile IPv6's own states and policies raise no event of IPsec.

use std::net::IpAddr;

use watari_kernel::{
    Acquire, Expire, KernelEvent, KmAddress, Migrate, MigrateSource, MigrateStep, PolicyAction, PolicyEntry, PolicyIndex, PolicyKind, SaId,
    Spi,
};
use watari_policies::{Mode, Reqid};

use crate::convert::{address, direction, endpoints, kind, mode, packet_selector, policy, protocol, selector, template};
use crate::layout::{
    UserAcquire, UserExpire, UserKmAddress, UserMigrate, UserPolicyExpire, UserPolicyId, UserPolicyInfo, UserSaId, UserTemplate,
};
use crate::message::{Incoming, XfrmMsg, Xfrma};

/// IPPROTO_RAW, which a flush uses for "every IPsec protocol".
const ANY_IPSEC_PROTOCOL: u8 = 255;

/// What a multicast message asks for.
#[derive(Debug)]
pub(crate) enum Notice {
    /// Tell it.
    Event(KernelEvent),
    /// A part of a table was flushed: read the tables again.
    Resynchronise,
    /// Nothing of interest.
    Nothing,
}

impl From<Option<KernelEvent>> for Notice {
    fn from(event: Option<KernelEvent>) -> Self {
        event.map_or(Self::Nothing, Self::Event)
    }
}

/// Reads one multicast message. `port` is the number in our own requests, whose removals are no news.
pub(crate) fn read(message: &Incoming<'_>, port: u32) -> Result<Notice, String> {
    Ok(match message.kind {
        XfrmMsg::Acquire => acquire(message)?.map(KernelEvent::Acquire).into(),
        XfrmMsg::Expire => expire(message)?.map(KernelEvent::Expire).into(),
        XfrmMsg::Migrate => migrate(message)?.map(KernelEvent::Migrate).into(),
        XfrmMsg::NewPolicy | XfrmMsg::UpdPolicy => {
            let (raw, attributes) = message.fixed::<UserPolicyInfo>()?;
            policy(&raw, &attributes)?.map(KernelEvent::PolicyChanged).into()
        }
        XfrmMsg::DelPolicy => removed_policy(message)?.map(KernelEvent::PolicyRemoved).into(),
        XfrmMsg::PolExpire => {
            let (raw, attributes) = message.fixed::<UserPolicyExpire>()?;
            policy(&raw.policy, &attributes)?.filter(|_| raw.hard != 0).map(KernelEvent::PolicyRemoved).into()
        }
        XfrmMsg::DelSa if port != 0 && message.port == port => Notice::Nothing,
        XfrmMsg::DelSa => removed_sa(message)?.map(KernelEvent::SaRemoved).into(),
        XfrmMsg::FlushSa => match message.fixed::<u8>().map_or(0, |(protocol, _)| protocol) {
            0 | ANY_IPSEC_PROTOCOL => Notice::Event(KernelEvent::Flushed { policies: false }),
            _ => Notice::Resynchronise,
        },
        XfrmMsg::FlushPolicy => match kind(&message.fixed::<()>()?.1) {
            PolicyKind::Main => Notice::Event(KernelEvent::Flushed { policies: true }),
            PolicyKind::Sub => Notice::Resynchronise,
        },
        _ => Notice::Nothing,
    })
}

fn acquire(message: &Incoming<'_>) -> Result<Option<Acquire>, String> {
    let (raw, attributes) = message.fixed::<UserAcquire>()?;
    let Some(direction) = direction(raw.policy.dir) else { return Ok(None) };
    if protocol(raw.id.proto).is_none() {
        return Ok(None);
    }
    let asked = attributes.array::<UserTemplate>(Xfrma::Tmpl)?;
    let wanted = asked.iter().find(|template| asks_for(template, &raw)).ok_or("no template for the SA that is asked for")?;
    let policy = selector(&raw.policy.sel)?;
    Ok(Some(Acquire {
        sequence: raw.seq,
        packet: if raw.sel.family == 0 { policy } else { packet_selector(&raw.sel)? },
        policy,
        index: PolicyIndex(raw.policy.index),
        direction,
        template: template(wanted)?,
        endpoints: endpoints(&raw.saddr, &raw.id.daddr, wanted.family)?,
        care_of: None,
    }))
}

/// Whether a template of the policy is the one that lacks an SA: a policy may name several, a message shows them all.
fn asks_for(template: &UserTemplate, acquire: &UserAcquire) -> bool {
    let unspecified = template.id.daddr == [0; 16];
    template.id.proto == acquire.id.proto
        && (mode(template.mode) != Some(Mode::Tunnel) || unspecified || template.id.daddr == acquire.id.daddr)
}

fn expire(message: &Incoming<'_>) -> Result<Option<Expire>, String> {
    let (raw, _) = message.fixed::<UserExpire>()?;
    let Some(protocol) = protocol(raw.state.id.proto) else { return Ok(None) };
    let dst = address(&raw.state.id.daddr, raw.state.family)?;
    Ok(Some(Expire {
        id: SaId { dst, protocol, spi: Spi(raw.state.id.spi.get()) },
        src: address(&raw.state.saddr, raw.state.family)?,
        reqid: Reqid(raw.state.reqid),
        hard: raw.hard != 0,
    }))
}

fn migrate(message: &Incoming<'_>) -> Result<Option<Migrate>, String> {
    let (raw, attributes) = message.fixed::<UserPolicyId>()?;
    let Some(direction) = direction(raw.dir) else { return Ok(None) };
    if kind(&attributes) == PolicyKind::Sub {
        return Ok(None);
    }
    let kmaddress = match attributes.one::<UserKmAddress>(Xfrma::KmAddress)? {
        Some(raw) => Some(KmAddress { local: address(&raw.local, raw.family)?, remote: address(&raw.remote, raw.family)? }),
        None => None,
    };
    let raw_steps = attributes.array::<UserMigrate>(Xfrma::Migrate)?;
    let steps = raw_steps.iter().filter_map(|raw| step(raw).transpose()).collect::<Result<Vec<_>, _>>()?;
    if raw_steps.is_empty() {
        return Err("a MIGRATE without end points".to_owned());
    }
    let migrate = Migrate { selector: packet_selector(&raw.sel)?, direction, steps, kmaddress, source: MigrateSource::Netlink };
    Ok(Some(migrate).filter(|migrate| !migrate.steps.is_empty()))
}

/// One step; `None` for a Mobile IPv6 state.
fn step(raw: &UserMigrate) -> Result<Option<MigrateStep>, String> {
    let Some(protocol) = protocol(raw.proto) else { return Ok(None) };
    let mode = mode(raw.mode).ok_or_else(|| format!("mode {} in a MIGRATE", raw.mode))?;
    let new = endpoints(&raw.new_saddr, &raw.new_daddr, raw.new_family)?;
    // A transport template may have no family at all.
    let old_family = if raw.old_family == 0 { raw.new_family } else { raw.old_family };
    let old = endpoints(&raw.old_saddr, &raw.old_daddr, old_family)?;
    Ok(Some(MigrateStep { protocol, mode, reqid: Reqid(raw.reqid), old, new }))
}

fn removed_policy(message: &Incoming<'_>) -> Result<Option<PolicyEntry>, String> {
    let (id, attributes) = message.fixed::<UserPolicyId>()?;
    if let Some(whole) = attributes.one::<UserPolicyInfo>(Xfrma::Policy)? {
        return policy(&whole, &attributes);
    }
    let Some(direction) = direction(id.dir) else { return Ok(None) };
    Ok(Some(PolicyEntry {
        selector: selector(&id.sel)?,
        direction,
        kind: kind(&attributes),
        index: PolicyIndex(id.index),
        priority: 0,
        action: PolicyAction::Allow,
        templates: Vec::new(),
    }))
}

fn removed_sa(message: &Incoming<'_>) -> Result<Option<SaId>, String> {
    let (id, _) = message.fixed::<UserSaId>()?;
    let Some(protocol) = protocol(id.proto) else { return Ok(None) };
    let dst: IpAddr = address(&id.daddr, id.family)?;
    Ok(Some(SaId { dst, protocol, spi: Spi(id.spi.get()) }))
}
