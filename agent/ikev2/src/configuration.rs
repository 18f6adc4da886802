//! Configuration payloads about home addresses: what is asked and what is answered (RFC 7296 3.15 and 2.19, RFC 4877 9, RFC 5026 5.3 and 8.2).
//! Invariant: a payload that says nothing we serve is as if it had not come.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use watari_policies::{Ask, Remote};
use watari_sa::{Assignment, Denial, Wish};
use watari_wire::ikev2::{CfgAttribute, CfgAttributeType, CfgType, Configuration, NotifyType, Payload};

use crate::payloads::{Payloads, notify};
use crate::selectors;

/// Prefix length told where the configuration does not know the home link: addresses of RFC 4291 2.5.4 have an interface identifier of 64 bits.
const USUAL_PREFIX: u8 = 64;
/// Lifetime of a home prefix in seconds: for as long as the IKE SA lives, whose end is not known.
const FOR_EVER: u32 = u32::MAX;

/// The attributes of a configuration payload of this type.
fn attributes(payloads: Payloads<'_>, cfg_type: CfgType) -> Option<&[CfgAttribute]> {
    payloads.0.iter().find_map(|payload| match payload {
        Payload::Configuration(found) if found.cfg_type == cfg_type => Some(found.attributes.as_slice()),
        _ => None,
    })
}

fn of_type(attributes: &[CfgAttribute], wanted: CfgAttributeType) -> impl Iterator<Item = &CfgAttribute> {
    attributes.iter().filter(move |attribute| attribute.attribute_type == wanted)
}

/// The address of INTERNAL_IP6_ADDRESS: 16 octets and the prefix length, which old implementations leave out.
fn address(attribute: &CfgAttribute) -> Option<(Ipv6Addr, Option<u8>)> {
    let octets = attribute.value.first_chunk::<16>().filter(|_| matches!(attribute.value.len(), 16 | 17))?;
    Some((Ipv6Addr::from(*octets), attribute.prefix_length()))
}

/// What a mobile node asks for in its request; `None` if it asks for nothing that we assign.
pub(crate) fn wish(payloads: Payloads<'_>) -> Option<Wish> {
    let asked = attributes(payloads, CfgType::REQUEST)?;
    // Several addresses may be asked for; a node of ours has one, and the first is answered (RFC 7296 3.15.4).
    if let Some(first) = of_type(asked, CfgAttributeType::INTERNAL_IP6_ADDRESS).next() {
        //= rfc7296#3.15.1
        //# an address in a request is a hint; one of no length, or of a length that has no meaning, asks for any
        let hint = address(first).map(|(address, _)| address).filter(|address| !address.is_unspecified());
        return Some(Wish::Address(hint));
    }
    of_type(asked, CfgAttributeType::MIP6_HOME_PREFIX).next().map(|_| Wish::Prefix)
}

/// The home address that the traffic selectors of a mobile node name, where they name exactly one on the node's own side.
pub(crate) fn formed(payloads: Payloads<'_>) -> Option<Ipv6Addr> {
    let items = selectors::from_wire(payloads.traffic_initiator()?);
    let first = items.first()?.range;
    let same = items.iter().all(|item| item.range.start == first.start && item.range.end == first.start);
    match first.start {
        std::net::IpAddr::V6(address) if same && !address.is_unspecified() => Some(address),
        _ => None,
    }
}

/// The payloads that tell a mobile node what became of its wish, and whether a child SA can be made with it.
pub(crate) fn answer(assignment: Assignment, asked: bool) -> (Vec<Payload>, bool) {
    //= rfc7296#2.19
    //# no CFG_REPLY without a CFG_REQUEST
    let reply = |attribute: CfgAttribute| {
        asked.then(|| Payload::Configuration(Configuration { cfg_type: CfgType::REPLY, attributes: vec![attribute] }))
    };
    match assignment {
        Assignment::Address(held) => (reply(internal_address(held)).into_iter().collect(), true),
        // Without an address there is no traffic to protect yet.
        Assignment::Prefix(prefix) => {
            (reply(home_prefix(prefix)).into_iter().chain([notify(NotifyType::TS_UNACCEPTABLE)]).collect(), false)
        }
        //= rfc5026#5.3.2
        //# where addresses may not be formed the answer is USE_ASSIGNED_HoA with the address to be used
        Assignment::UseAssigned(held) => {
            let told = reply(internal_address(held)).into_iter();
            (told.chain([notify(NotifyType::USE_ASSIGNED_HOA)]).collect(), true)
        }
        //= rfc7296#3.15.4
        //# if no address can be assigned the answer is INTERNAL_ADDRESS_FAILURE and there is no child SA
        Assignment::Refused(_) if asked => (vec![notify(NotifyType::INTERNAL_ADDRESS_FAILURE)], false),
        Assignment::Refused(Denial::NotFormed) => (vec![notify(NotifyType::FAILED_CP_REQUIRED)], false),
        Assignment::Refused(_) => (vec![notify(NotifyType::TS_UNACCEPTABLE)], false),
    }
}

/// The answer for a remote whose home address stands in the configuration.
pub(crate) fn fixed(remote: &Remote) -> Option<Assignment> {
    match remote.role {
        role if role.assigns() && remote.assigned.is_none() => {
            let Some(std::net::IpAddr::V6(address)) = role.lasting_address() else { return None };
            Ipv6Net::new(address, USUAL_PREFIX).ok().map(Assignment::Address)
        }
        _ => None,
    }
}

fn internal_address(held: Ipv6Net) -> CfgAttribute {
    let mut value = held.addr().octets().to_vec();
    value.push(held.prefix_len());
    CfgAttribute { attribute_type: CfgAttributeType::INTERNAL_IP6_ADDRESS, value }
}

//= rfc5026#8.2
//# MIP6_HOME_PREFIX is 21 octets: lifetime, prefix, length
fn home_prefix(prefix: Ipv6Net) -> CfgAttribute {
    let mut value = FOR_EVER.to_be_bytes().to_vec();
    value.extend(prefix.network().octets());
    value.push(prefix.prefix_len());
    CfgAttribute { attribute_type: CfgAttributeType::MIP6_HOME_PREFIX, value }
}

/// What we ask our home agent for. An address that we hold is asked for again.
pub(crate) fn request(remote: &Remote) -> Option<Payload> {
    let ask = remote.assigned?.ask?;
    let attribute = match (remote.role.lasting_address(), ask) {
        (Some(std::net::IpAddr::V6(held)), _) => hint(held),
        (_, Ask::Address(Some(std::net::IpAddr::V6(wanted)))) => hint(wanted),
        (_, Ask::Address(_)) => CfgAttribute::empty(CfgAttributeType::INTERNAL_IP6_ADDRESS),
        (_, Ask::Prefix(_)) => CfgAttribute::empty(CfgAttributeType::MIP6_HOME_PREFIX),
    };
    Some(Payload::Configuration(Configuration { cfg_type: CfgType::REQUEST, attributes: vec![attribute] }))
}

fn hint(address: Ipv6Addr) -> CfgAttribute {
    Ipv6Net::new(address, USUAL_PREFIX).map_or_else(|_| CfgAttribute::empty(CfgAttributeType::INTERNAL_IP6_ADDRESS), internal_address)
}

/// What our home agent gave us; `None` if nothing we can use.
pub(crate) fn given(payloads: Payloads<'_>) -> Option<Wish> {
    let told = attributes(payloads, CfgType::REPLY)?;
    //= rfc4877#9
    //# the mobile node uses the address of the reply, also if it asked for another
    let addresses = of_type(told, CfgAttributeType::INTERNAL_IP6_ADDRESS).filter_map(address);
    let usable = |address: &Ipv6Addr| {
        !(address.is_unspecified() || address.is_multicast() || address.is_loopback() || address.is_unicast_link_local())
    };
    let held = addresses
        .filter(|(address, _)| usable(address))
        .find_map(|(address, length)| Ipv6Net::new(address, length.unwrap_or(USUAL_PREFIX)).ok());
    if let Some(held) = held {
        return Some(Wish::Given(held));
    }
    of_type(told, CfgAttributeType::MIP6_HOME_PREFIX).find_map(prefix).map(Wish::GivenPrefix)
}

fn prefix(attribute: &CfgAttribute) -> Option<Ipv6Net> {
    let value: &[u8; 21] = attribute.value.as_slice().try_into().ok()?;
    let [_, _, _, _, octets @ .., length] = value;
    let octets: [u8; 16] = *octets;
    let net = Ipv6Net::new(Ipv6Addr::from(octets), *length).ok()?.trunc();
    // An address of its own needs room.
    (net.prefix_len() <= USUAL_PREFIX && !net.addr().is_multicast()).then_some(net)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    fn net(text: &str) -> Ipv6Net {
        text.parse().unwrap()
    }

    fn cp(cfg_type: CfgType, attributes: &[(CfgAttributeType, Vec<u8>)]) -> Vec<Payload> {
        let attributes = attributes.iter().map(|(kind, value)| CfgAttribute { attribute_type: *kind, value: value.clone() }).collect();
        vec![Payload::Configuration(Configuration { cfg_type, attributes })]
    }

    const ADDRESS: CfgAttributeType = CfgAttributeType::INTERNAL_IP6_ADDRESS;
    const PREFIX: CfgAttributeType = CfgAttributeType::MIP6_HOME_PREFIX;

    fn octets(address: &str, length: u8) -> Vec<u8> {
        ip(address).octets().into_iter().chain([length]).collect()
    }

    //= rfc7296#3.15.1
    //# INTERNAL_IP6_ADDRESS has 0 or 17 octets, in a request as a hint
    #[test]
    fn requests_are_read_whatever_their_lengths() {
        let asked = |attributes: &[(CfgAttributeType, Vec<u8>)]| wish(Payloads(&cp(CfgType::REQUEST, attributes)));
        assert_eq!(asked(&[(ADDRESS, Vec::new())]), Some(Wish::Address(None)));
        assert_eq!(asked(&[(ADDRESS, octets("2001:db8::7", 64))]), Some(Wish::Address(Some(ip("2001:db8::7")))));
        assert_eq!(asked(&[(ADDRESS, ip("::7").octets().to_vec())]), Some(Wish::Address(Some(ip("::7")))));
        for length in [1, 15, 18, 21, 4000] {
            assert_eq!(asked(&[(ADDRESS, vec![0x20; length])]), Some(Wish::Address(None)), "{length} octets");
        }
        assert_eq!(asked(&[(ADDRESS, octets("::", 0))]), Some(Wish::Address(None)));
        assert_eq!(asked(&[(PREFIX, Vec::new())]), Some(Wish::Prefix));
        assert_eq!(asked(&[(PREFIX, Vec::new()), (ADDRESS, Vec::new())]), Some(Wish::Address(None)));
        assert_eq!(asked(&[(CfgAttributeType::INTERNAL_IP4_ADDRESS, Vec::new()), (CfgAttributeType(0x7abc), vec![1])]), None);
        assert_eq!(asked(&[]), None);
        for other in [CfgType::REPLY, CfgType::SET, CfgType::ACK, CfgType(99)] {
            assert_eq!(wish(Payloads(&cp(other, &[(ADDRESS, Vec::new())]))), None, "{other:?}");
        }
    }

    //= rfc5026#8.2
    //# MIP6_HOME_PREFIX has 0 or 21 octets
    #[test]
    fn answers_are_laid_out_as_the_rfcs_say_and_read_back() {
        let (told, child) = answer(Assignment::Prefix(net("2001:db8:1::/64")), true);
        assert!(!child);
        let Some(Payload::Configuration(reply)) = told.first() else { panic!("{told:?}") };
        assert_eq!((reply.cfg_type, reply.attributes.len()), (CfgType::REPLY, 1));
        let expected = [&[0xff; 4][..], &[0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 0], &[0; 8], &[64]].concat();
        assert_eq!((reply.attributes[0].attribute_type, &reply.attributes[0].value), (PREFIX, &expected));
        assert_eq!(given(Payloads(&told)), Some(Wish::GivenPrefix(net("2001:db8:1::/64"))));

        let (told, child) = answer(Assignment::Address(net("2001:db8:1::9/64")), true);
        assert!(child);
        let Some(Payload::Configuration(reply)) = told.first() else { panic!("{told:?}") };
        assert_eq!(reply.attributes[0].value, octets("2001:db8:1::9", 64));
        assert_eq!(given(Payloads(&told)), Some(Wish::Given(net("2001:db8:1::9/64"))));

        let (told, child) = answer(Assignment::UseAssigned(net("2001:db8:1::9/64")), true);
        assert!(child && Payloads(&told).notify(NotifyType::USE_ASSIGNED_HOA).is_some());
        assert_eq!(given(Payloads(&told)), Some(Wish::Given(net("2001:db8:1::9/64"))));

        let (told, child) = answer(Assignment::Refused(Denial::PoolExhausted), true);
        assert!(!child && Payloads(&told).error().is_some_and(|error| error.notify_type == NotifyType::INTERNAL_ADDRESS_FAILURE));
        assert_eq!(answer(Assignment::Address(net("2001:db8:1::9/64")), false), (Vec::new(), true), "no reply without a request");
    }

    #[test]
    fn replies_of_no_use_give_nothing() {
        let told = |attributes: &[(CfgAttributeType, Vec<u8>)]| given(Payloads(&cp(CfgType::REPLY, attributes)));
        for address in ["::", "ff02::1", "::1", "fe80::1"] {
            assert_eq!(told(&[(ADDRESS, octets(address, 64))]), None, "{address}");
        }
        assert_eq!(told(&[(ADDRESS, vec![0x20; 15])]), None);
        assert_eq!(told(&[(ADDRESS, octets("2001:db8::7", 200))]), Some(Wish::Given(net("2001:db8::7/64"))));
        assert_eq!(told(&[(PREFIX, vec![0; 20])]), None);
        assert_eq!(told(&[(PREFIX, [&[0; 4][..], &octets("2001:db8::", 129)].concat())]), None);
        assert_eq!(told(&[(PREFIX, [&[0; 4][..], &octets("2001:db8::", 96)].concat())]), None, "no room for an identifier");
        assert_eq!(given(Payloads(&cp(CfgType::REQUEST, &[(ADDRESS, octets("2001:db8::7", 64))]))), None);
        assert_eq!(given(Payloads(&[])), None);
    }
}
