//! rtnetlink messages about addresses, links and default routes. Lengths are checked here before octets reach neli, whose header reading subtracts unchecked lengths.

use std::io::Cursor;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use neli::consts::nl::NlType;
use neli::consts::nl::NlmF;
use neli::consts::rtnl::{Ifa, Iff, RtAddrFamily, RtScope, RtTable, Rta, Rtm, RtmF, Rtn};
use neli::nl::{NlPayload, NlmsghdrBuilder};
use neli::rtnl::{Ifaddrmsg, IfaddrmsgBuilder, Ifinfomsg, IfinfomsgBuilder, Rtmsg};
use neli::{FromBytesWithInput, Size, ToBytes};
use watari_kernel::{AddressEvent, AddressFlags, LinkEvent, RouteEvent};

const HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// IFA_F_*.
mod flag {
    pub(super) const TEMPORARY: u32 = 0x01;
    pub(super) const OPTIMISTIC: u32 = 0x04;
    pub(super) const DAD_FAILED: u32 = 0x08;
    pub(super) const HOME_ADDRESS: u32 = 0x10;
    pub(super) const DEPRECATED: u32 = 0x20;
    pub(super) const TENTATIVE: u32 = 0x40;
}

/// What a message says.
#[derive(Debug)]
pub(crate) enum Content {
    /// An address is there, or went.
    Address(AddressEvent),
    /// A link is there, or went.
    Link(LinkEvent),
    /// A default route is there, or went.
    Route(RouteEvent),
    /// A dump ended, with a positive errno or 0.
    End(i32),
    /// Nothing of interest.
    Other,
}

/// One message of a datagram.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// Sequence number.
    pub(crate) seq: u32,
    /// Part of a dump.
    pub(crate) multi: bool,
    /// The table changed while it was dumped.
    pub(crate) interrupted: bool,
    /// What it says.
    pub(crate) content: Result<Content, String>,
}

/// RTM_GETADDR for every address of both families.
pub(crate) fn address_request(seq: u32) -> Option<Vec<u8>> {
    let body = IfaddrmsgBuilder::default()
        .ifa_family(RtAddrFamily::Unspecified)
        .ifa_prefixlen(0)
        .ifa_scope(RtScope::Universe)
        .ifa_index(0)
        .build()
        .ok()?;
    dump_request(Rtm::Getaddr, seq, body)
}

/// RTM_GETLINK for every link.
pub(crate) fn link_request(seq: u32) -> Option<Vec<u8>> {
    let body = IfinfomsgBuilder::default().ifi_family(RtAddrFamily::Unspecified).build().ok()?;
    dump_request(Rtm::Getlink, seq, body)
}

fn dump_request<T: NlType, B: ToBytes + Size>(kind: T, seq: u32, body: B) -> Option<Vec<u8>> {
    let message = NlmsghdrBuilder::default()
        .nl_type(kind)
        .nl_flags(NlmF::REQUEST | NlmF::DUMP)
        .nl_seq(seq)
        .nl_payload(NlPayload::Payload(body))
        .build()
        .ok()?;
    let mut cursor = Cursor::new(Vec::new());
    message.to_bytes(&mut cursor).ok()?;
    Some(cursor.into_inner())
}

/// Takes the first message off a datagram; with it what follows.
pub(crate) fn first(octets: &[u8]) -> Result<(Incoming, &[u8]), String> {
    let word = |at: usize| octets.get(at..at.saturating_add(4)).and_then(|word| word.try_into().ok()).map(u32::from_ne_bytes);
    let half = |at: usize| octets.get(at..at.saturating_add(2)).and_then(|half| half.try_into().ok()).map(u16::from_ne_bytes);
    let (Some(length), Some(kind), Some(flags), Some(seq)) = (word(0), half(4), half(6), word(8)) else {
        return Err(format!("{} octets are no netlink header", octets.len()));
    };
    let length = length as usize;
    let body = octets.get(HEADER..length).ok_or_else(|| format!("netlink length {length} in a datagram of {} octets", octets.len()))?;
    let rest = octets.get(length.next_multiple_of(4)..).unwrap_or_default();
    let has = |flag: NlmF| flags & u16::from(flag) != 0;
    let message = Incoming { seq, multi: has(NlmF::MULTI), interrupted: has(NlmF::DUMP_INTR), content: content(kind, body) };
    Ok((message, rest))
}

fn content(kind: u16, body: &[u8]) -> Result<Content, String> {
    match (kind, Rtm::from(kind)) {
        (NLMSG_ERROR | NLMSG_DONE, _) => {
            let code = body.get(..4).and_then(|code| code.try_into().ok()).map_or(0, i32::from_ne_bytes);
            Ok(Content::End(code.saturating_neg()))
        }
        (_, Rtm::Newaddr) => address(body, true),
        (_, Rtm::Deladdr) => address(body, false),
        (_, Rtm::Newlink) => link(body, true),
        (_, Rtm::Dellink) => link(body, false),
        (_, Rtm::Newroute) => route(body, true),
        (_, Rtm::Delroute) => route(body, false),
        _ => Ok(Content::Other),
    }
}

fn address(body: &[u8], present: bool) -> Result<Content, String> {
    let message =
        Ifaddrmsg::from_bytes_with_input(&mut Cursor::new(body), body.len()).map_err(|error| format!("address message: {error}"))?;
    let attribute =
        |kind: Ifa| message.rtattrs().iter().find(|attribute| *attribute.rta_type() == kind).map(|found| found.rta_payload().as_ref());
    // With a peer on the link, IFA_ADDRESS is the peer and IFA_LOCAL is ours; without one IPv6 sends IFA_ADDRESS only.
    let Some(octets) = attribute(Ifa::Local).or_else(|| attribute(Ifa::Address)) else {
        return Err("an address message without an address".to_owned());
    };
    let Some(address) = ip(*message.ifa_family(), octets)? else { return Ok(Content::Other) };
    let bits = attribute(Ifa::Flags)
        .and_then(|flags| flags.try_into().ok())
        .map_or_else(|| u32::from(u8::from(*message.ifa_flags())), u32::from_ne_bytes);
    let flags = if present { flags(bits, address) } else { AddressFlags::default() };
    let (interface, prefix_len) = (*message.ifa_index(), *message.ifa_prefixlen());
    Ok(Content::Address(AddressEvent { interface, address, prefix_len, present, flags }))
}

fn link(body: &[u8], present: bool) -> Result<Content, String> {
    let message = Ifinfomsg::from_bytes_with_input(&mut Cursor::new(body), body.len()).map_err(|error| format!("link message: {error}"))?;
    // A bridge sends messages of its own family about its ports: a port that leaves the bridge is still there.
    if *message.ifi_family() != RtAddrFamily::Unspecified {
        return Ok(Content::Other);
    }
    let interface = u32::try_from(*message.ifi_index()).map_err(|_| format!("interface index {}", message.ifi_index()))?;
    // Running: the operational state is up, or the driver does not know (RFC 2863).
    let up = present && message.ifi_flags().contains(Iff::UP | Iff::RUNNING);
    Ok(Content::Link(LinkEvent { interface, present, up }))
}

fn route(body: &[u8], present: bool) -> Result<Content, String> {
    let message = Rtmsg::from_bytes_with_input(&mut Cursor::new(body), body.len()).map_err(|error| format!("route message: {error}"))?;
    let default = *message.rtm_dst_len() == 0 && *message.rtm_src_len() == 0;
    let ours = *message.rtm_table() == RtTable::Main && *message.rtm_type() == Rtn::Unicast && !message.rtm_flags().contains(RtmF::CLONED);
    let family = *message.rtm_family();
    let destination = match family {
        RtAddrFamily::Inet if default && ours => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        RtAddrFamily::Inet6 if default && ours => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return Ok(Content::Other),
    };
    let attribute =
        |kind: Rta| message.rtattrs().iter().find(|attribute| *attribute.rta_type() == kind).map(|found| found.rta_payload().as_ref());
    let gateway = attribute(Rta::Gateway).map_or(Ok(None), |octets| ip(family, octets))?;
    let interface = attribute(Rta::Oif).and_then(|index| index.try_into().ok()).map_or(0, u32::from_ne_bytes);
    Ok(Content::Route(RouteEvent { destination, prefix_len: 0, gateway, interface, present }))
}

fn ip(family: RtAddrFamily, octets: &[u8]) -> Result<Option<IpAddr>, String> {
    match family {
        RtAddrFamily::Inet => <[u8; 4]>::try_from(octets).map(|octets| Some(Ipv4Addr::from(octets).into())),
        RtAddrFamily::Inet6 => <[u8; 16]>::try_from(octets).map(|octets| Some(Ipv6Addr::from(octets).into())),
        _ => return Ok(None),
    }
    .map_err(|_| format!("an address of {} octets", octets.len()))
}

fn flags(bits: u32, address: IpAddr) -> AddressFlags {
    let has = |flag: u32| bits & flag != 0;
    AddressFlags {
        // An optimistic address may be used while its uniqueness is still being checked (RFC 4429).
        tentative: has(flag::TENTATIVE) && !has(flag::OPTIMISTIC),
        dad_failed: has(flag::DAD_FAILED),
        deprecated: has(flag::DEPRECATED),
        // The same bit says "secondary" for IPv4.
        temporary: has(flag::TEMPORARY) && address.is_ipv6(),
        home: has(flag::HOME_ADDRESS),
    }
}
