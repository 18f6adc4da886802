//! Values of `watari-kernel` from and to the structures of the kernel: addresses, selectors, templates, policies, SAs.
//! Invariant: for what both sides can say, reading what was written gives the same value.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use watari_kernel::{Endpoints, PolicyAction, PolicyEntry, PolicyIndex, PolicyKind, SaInfo, Spi, Template};
use watari_policies::{Direction, Mode, PortMask, Protocol, Reqid, Selector};

use crate::layout::{Address, LifetimeLimits, RawId, RawSelector, UserPolicyInfo, UserSaInfo, UserTemplate};
use crate::message::{Attributes, Xfrma};

pub(crate) const AF_INET: u16 = 2;
pub(crate) const AF_INET6: u16 = 10;
const MODE_TRANSPORT: u8 = 0;
const MODE_TUNNEL: u8 = 1;
const MODE_ROUTE_OPTIMISATION: u8 = 2;
/// The most templates a policy can have (XFRM_MAX_DEPTH).
pub(crate) const MAX_TEMPLATES: usize = 6;
/// "No limit" in octets and packets.
const UNLIMITED: u64 = u64::MAX;

/// The address family number of an address.
pub(crate) const fn family(address: IpAddr) -> u16 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}

/// An address as 16 octets.
pub(crate) fn raw_address(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// An address of a family.
pub(crate) fn address(raw: &Address, family: u16) -> Result<IpAddr, String> {
    let [a, b, c, d, ..] = *raw;
    match family {
        AF_INET => Ok(Ipv4Addr::new(a, b, c, d).into()),
        AF_INET6 => Ok(Ipv6Addr::from(*raw).into()),
        other => Err(format!("address family {other}")),
    }
}

/// Both addresses of one family.
pub(crate) fn endpoints(src: &Address, dst: &Address, family: u16) -> Result<Endpoints, String> {
    Ok(Endpoints { src: address(src, family)?, dst: address(dst, family)? })
}

/// A selector for the kernel.
pub(crate) fn raw_selector(selector: &Selector) -> Result<RawSelector, String> {
    let (src, dst) = (selector.src.addr(), selector.dst.addr());
    if family(src) != family(dst) {
        return Err(format!("source and destination of the selector \"{selector}\" are of different families"));
    }
    Ok(RawSelector {
        daddr: raw_address(dst),
        saddr: raw_address(src),
        dport: selector.dport.value.into(),
        dport_mask: selector.dport.mask.into(),
        sport: selector.sport.value.into(),
        sport_mask: selector.sport.mask.into(),
        family: family(src),
        prefixlen_d: selector.dst.prefix_len(),
        prefixlen_s: selector.src.prefix_len(),
        proto: selector.protocol,
        ..RawSelector::default()
    })
}

/// A selector from the kernel, octet for octet.
pub(crate) fn selector(raw: &RawSelector) -> Result<Selector, String> {
    let prefix =
        |octets: &Address, length: u8| IpNet::new(address(octets, raw.family)?, length).map_err(|_| format!("prefix length {length}"));
    Ok(Selector {
        src: prefix(&raw.saddr, raw.prefixlen_s)?,
        dst: prefix(&raw.daddr, raw.prefixlen_d)?,
        protocol: raw.proto,
        sport: PortMask { value: raw.sport.get(), mask: raw.sport_mask.get() },
        dport: PortMask { value: raw.dport.get(), mask: raw.dport_mask.get() },
    })
}

/// A selector from a report on a packet. For MH the kernel shows a destination port 0/ffff, and a sender may have to put the type there
/// too; a Mobility Header has no second number.
pub(crate) fn packet_selector(raw: &RawSelector) -> Result<Selector, String> {
    let mut selector = selector(raw)?;
    if selector.protocol == watari_policies::selector::MOBILITY_HEADER {
        selector.dport = PortMask::ANY;
    }
    Ok(selector)
}

/// A direction's number.
pub(crate) const fn raw_direction(direction: Direction) -> u8 {
    match direction {
        Direction::In => 0,
        Direction::Out => 1,
        Direction::Forward => 2,
    }
}

/// The direction of a number; `None` for the directions of per-socket policies.
pub(crate) const fn direction(raw: u8) -> Option<Direction> {
    match raw {
        0 => Some(Direction::In),
        1 => Some(Direction::Out),
        2 => Some(Direction::Forward),
        _ => None,
    }
}

/// A mode's number.
pub(crate) const fn raw_mode(mode: Mode) -> u8 {
    match mode {
        Mode::Transport => MODE_TRANSPORT,
        Mode::Tunnel => MODE_TUNNEL,
    }
}

/// The mode of a number; `None` for route optimisation, BEET and others.
pub(crate) const fn mode(raw: u8) -> Option<Mode> {
    match raw {
        MODE_TRANSPORT => Some(Mode::Transport),
        MODE_TUNNEL => Some(Mode::Tunnel),
        _ => None,
    }
}

/// A protocol's IP number.
pub(crate) const fn raw_protocol(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Esp => 50,
        Protocol::Ah => 51,
    }
}

/// The IPsec protocol of an IP number.
pub(crate) const fn protocol(raw: u8) -> Option<Protocol> {
    match raw {
        50 => Some(Protocol::Esp),
        51 => Some(Protocol::Ah),
        _ => None,
    }
}

/// A policy set's number.
pub(crate) const fn raw_kind(kind: PolicyKind) -> u8 {
    match kind {
        PolicyKind::Main => 0,
        PolicyKind::Sub => 1,
    }
}

/// The policy set that a message is about; without an attribute the main set.
pub(crate) fn kind(attributes: &Attributes) -> PolicyKind {
    match attributes.all(Xfrma::PolicyType).next() {
        Some([1, ..]) => PolicyKind::Sub,
        _ => PolicyKind::Main,
    }
}

/// Limits of which none is ever reached.
pub(crate) const fn no_limits() -> LifetimeLimits {
    LifetimeLimits {
        soft_byte_limit: UNLIMITED,
        hard_byte_limit: UNLIMITED,
        soft_packet_limit: UNLIMITED,
        hard_packet_limit: UNLIMITED,
        soft_add_expires_seconds: 0,
        hard_add_expires_seconds: 0,
        soft_use_expires_seconds: 0,
        hard_use_expires_seconds: 0,
    }
}

/// A template for the kernel; `fallback` is the family of one without addresses.
pub(crate) fn raw_template(template: &Template, fallback: u16) -> Result<UserTemplate, String> {
    let Endpoints { src, dst } = template.endpoints;
    if family(src) != family(dst) {
        return Err(format!("end points {} are of different families", template.endpoints));
    }
    let mobility = template.protocol.is_none();
    Ok(UserTemplate {
        id: RawId { daddr: raw_address(dst), proto: template.ip_protocol, ..RawId::default() },
        family: if template.endpoints.is_unspecified() { fallback } else { family(src) },
        saddr: raw_address(src),
        reqid: template.reqid.0,
        mode: if mobility { MODE_ROUTE_OPTIMISATION } else { raw_mode(template.mode) },
        optional: template.optional.into(),
        aalgos: u32::MAX,
        ealgos: u32::MAX,
        calgos: u32::MAX,
        ..UserTemplate::default()
    })
}

/// A template from the kernel.
pub(crate) fn template(raw: &UserTemplate) -> Result<Template, String> {
    Ok(Template {
        protocol: protocol(raw.id.proto),
        ip_protocol: raw.id.proto,
        mode: mode(raw.mode).unwrap_or(Mode::Transport),
        reqid: Reqid(raw.reqid),
        endpoints: endpoints(&raw.saddr, &raw.id.daddr, raw.family)?,
        optional: raw.optional != 0,
    })
}

/// The templates among a message's attributes.
pub(crate) fn templates(attributes: &Attributes) -> Result<Vec<Template>, String> {
    attributes.array::<UserTemplate>(Xfrma::Tmpl)?.iter().map(template).collect()
}

/// A policy from the kernel; `None` for a per-socket policy.
pub(crate) fn policy(raw: &UserPolicyInfo, attributes: &Attributes) -> Result<Option<PolicyEntry>, String> {
    let Some(direction) = direction(raw.dir) else { return Ok(None) };
    Ok(Some(PolicyEntry {
        selector: selector(&raw.sel)?,
        direction,
        kind: kind(attributes),
        index: PolicyIndex(raw.index),
        priority: raw.priority,
        action: if raw.action == 0 { PolicyAction::Allow } else { PolicyAction::Block },
        templates: templates(attributes)?,
    }))
}

/// An SA or state from the kernel.
pub(crate) fn sa(raw: &UserSaInfo, attributes: &Attributes) -> Result<SaInfo, String> {
    let keyless = ![Xfrma::AlgAead, Xfrma::AlgCrypt, Xfrma::AlgAuth, Xfrma::AlgAuthTrunc].into_iter().any(|kind| attributes.has(kind));
    let care_of = attributes.one::<Address>(Xfrma::Coaddr)?.map(|coaddr| address(&coaddr, raw.family)).transpose()?;
    Ok(SaInfo {
        dst: address(&raw.id.daddr, raw.family)?,
        src: address(&raw.saddr, raw.family)?,
        protocol: raw.id.proto,
        spi: Spi(raw.id.spi.get()),
        mode: mode(raw.mode),
        reqid: Reqid(raw.reqid),
        selector: if raw.sel.family == 0 { None } else { Some(selector(&raw.sel)?) },
        care_of: care_of.filter(|address| !address.is_unspecified()),
        larval: keyless && protocol(raw.id.proto).is_some(),
        bytes: raw.curlft.bytes,
        packets: raw.curlft.packets,
        added: raw.curlft.add_time,
        used: attributes.one::<u64>(Xfrma::LastUsed)?.unwrap_or(raw.curlft.use_time),
    })
}
