//! Policies as SADB_X_SPD* messages. What the kernel would change silently is refused here, in words.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use watari_kernel::{Endpoints, PolicyAction, PolicyEntry, PolicyIndex, PolicyKind, Template};
use watari_policies::{Direction, Mode, Selector};

use crate::convert::{direction, protocol, raw_direction, selector, write_selector};
use crate::dialect::{Dialect, Request};
use crate::extension::{RawPolicy, SATYPE_UNSPEC, X_POLICY};
use crate::message::{Kind, Message, Outgoing};

const POLICY_DISCARD: u16 = 0;
const POLICY_NONE: u16 = 1;
/// IPSEC_POLICY_IPSEC: pass, transformed.
pub(crate) const POLICY_IPSEC: u16 = 2;
/// The most templates a policy can have (XFRM_MAX_DEPTH).
const MAX_TEMPLATES: usize = 6;

/// SADB_X_SPDUPDATE, which also adds.
pub(crate) fn set(dialect: Dialect, policy: &PolicyEntry) -> Result<Outgoing, String> {
    main_set(policy.kind)?;
    if policy.templates.len() > MAX_TEMPLATES {
        return Err(format!("{} templates, a policy can have {MAX_TEMPLATES}", policy.templates.len()));
    }
    let policy_type = match (policy.action, policy.templates.is_empty()) {
        (PolicyAction::Block, _) => POLICY_DISCARD,
        (PolicyAction::Allow, true) => POLICY_NONE,
        (PolicyAction::Allow, false) => POLICY_IPSEC,
    };
    let mut requests = Vec::new();
    for template in policy.templates.iter().filter(|_| policy_type == POLICY_IPSEC) {
        let request = request(template)?;
        request.check_for_policy()?;
        requests.extend(dialect.raw_request(&request)?);
    }
    let priority = match dialect {
        Dialect::Linux => policy.priority,
        // The field is reserved there; the order in which policies were added decides.
        Dialect::Kame => 0,
    };
    let raw = RawPolicy { policy_type, dir: raw_direction(policy.direction), priority, ..RawPolicy::default() };
    let mut out = Outgoing::new(Kind::SpdUpdate, SATYPE_UNSPEC);
    write_selector(dialect, &policy.selector, &mut out)?;
    out.push(X_POLICY, &raw, &requests)?;
    Ok(out)
}

/// SADB_X_SPDDELETE by selector.
pub(crate) fn delete(dialect: Dialect, selector: &Selector, direction: Direction, kind: PolicyKind) -> Result<Outgoing, String> {
    main_set(kind)?;
    let raw = RawPolicy { policy_type: POLICY_IPSEC, dir: raw_direction(direction), ..RawPolicy::default() };
    let mut out = Outgoing::new(Kind::SpdDelete, SATYPE_UNSPEC);
    write_selector(dialect, selector, &mut out)?;
    out.push(X_POLICY, &raw, &[])?;
    Ok(out)
}

/// SADB_X_SPDGET by number.
pub(crate) fn get(index: PolicyIndex) -> Result<Outgoing, String> {
    let raw = RawPolicy { policy_type: POLICY_IPSEC, id: index.0, ..RawPolicy::default() };
    let mut out = Outgoing::new(Kind::SpdGet, SATYPE_UNSPEC);
    out.push(X_POLICY, &raw, &[])?;
    Ok(out)
}

/// SADB_X_SPDDUMP of every main policy.
pub(crate) fn dump() -> Outgoing {
    Outgoing::new(Kind::SpdDump, SATYPE_UNSPEC)
}

/// The number of the policy in a message, if there is one.
pub(crate) fn index(message: &Message<'_>) -> Option<PolicyIndex> {
    let (raw, _) = message.extension(X_POLICY)?.take::<RawPolicy>("X_POLICY").ok()?;
    Some(PolicyIndex(raw.id))
}

fn main_set(kind: PolicyKind) -> Result<(), String> {
    match kind {
        PolicyKind::Main => Ok(()),
        PolicyKind::Sub => Err("PF_KEY knows only the main policies".to_owned()),
    }
}

fn request(template: &Template) -> Result<Request, String> {
    let Template { protocol, ip_protocol, mode, reqid, endpoints, optional } = *template;
    if protocol.is_none() {
        return Err(format!("PF_KEY cannot say a template of Mobile IPv6 (IP protocol {ip_protocol})"));
    }
    Ok(Request { protocol: ip_protocol, mode, optional, reqid, endpoints: (mode == Mode::Tunnel).then_some(endpoints) })
}

/// The policy in a message; `None` for a policy of one socket.
pub(crate) fn read(dialect: Dialect, message: &Message<'_>) -> Result<Option<PolicyEntry>, String> {
    let part = message.required(X_POLICY, "X_POLICY")?;
    let (raw, mut rest) = part.take::<RawPolicy>("X_POLICY")?;
    let Some(direction) = direction(raw.dir) else { return Ok(None) };
    let selector = selector(dialect, message)?;
    let unspecified: IpAddr = if selector.src.addr().is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let nowhere = Endpoints { src: unspecified, dst: unspecified };
    let mut templates = Vec::new();
    while !rest.is_empty() {
        let (Request { protocol: ip_protocol, mode, optional, reqid, endpoints }, behind) = dialect.request(rest)?;
        let endpoints = endpoints.unwrap_or(nowhere);
        templates.push(Template { protocol: protocol(ip_protocol), ip_protocol, mode, reqid, endpoints, optional });
        rest = behind;
    }
    Ok(Some(PolicyEntry {
        selector,
        direction,
        kind: PolicyKind::Main,
        index: PolicyIndex(raw.id),
        priority: match dialect {
            Dialect::Linux => raw.priority,
            Dialect::Kame => 0,
        },
        action: if raw.policy_type == POLICY_DISCARD { PolicyAction::Block } else { PolicyAction::Allow },
        templates,
    }))
}
