//! Values of `watari-kernel` from and to what an extension can say: selectors, directions, protocols.
//! A port of 0 means "any": a type or code 0, and masks other than all or none, cannot be said in PF_KEY.

use ipnet::IpNet;
use watari_policies::selector::MOBILITY_HEADER;
use watari_policies::{Direction, PortMask, Protocol, Selector};

use crate::dialect::Dialect;
use crate::extension::{ADDRESS_DST, ADDRESS_SRC, Address, SATYPE_AH, SATYPE_ESP};
use crate::message::{Message, Outgoing};

/// "Any protocol" in a policy's addresses, which is 0 in a selector.
const ANY_PROTOCOL: u8 = 255;

/// The IPsec protocol of an IP number.
pub(crate) const fn protocol(raw: u8) -> Option<Protocol> {
    match raw {
        50 => Some(Protocol::Esp),
        51 => Some(Protocol::Ah),
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

/// The IPsec protocol of a type of SA.
pub(crate) const fn protocol_of_satype(satype: u8) -> Option<Protocol> {
    match satype {
        SATYPE_ESP => Some(Protocol::Esp),
        SATYPE_AH => Some(Protocol::Ah),
        _ => None,
    }
}

/// The type of SA of a protocol.
pub(crate) const fn satype(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Esp => SATYPE_ESP,
        Protocol::Ah => SATYPE_AH,
    }
}

/// The direction of a number; `None` for the directions of per-socket policies.
pub(crate) const fn direction(raw: u8) -> Option<Direction> {
    match raw {
        1 => Some(Direction::In),
        2 => Some(Direction::Out),
        3 => Some(Direction::Forward),
        _ => None,
    }
}

/// A direction's number.
pub(crate) const fn raw_direction(direction: Direction) -> u8 {
    match direction {
        Direction::In => 1,
        Direction::Out => 2,
        Direction::Forward => 3,
    }
}

/// The selector in a policy's two address extensions.
pub(crate) fn selector(dialect: Dialect, message: &Message<'_>) -> Result<Selector, String> {
    let read = |kind: u16, name: &str| {
        let part = message.required(kind, name)?;
        let address = Address::read(dialect, part)?;
        let net =
            IpNet::new(address.address, address.prefix_len).map_err(|_| part.wrong(format!("prefix length {}", address.prefix_len)))?;
        Ok::<_, String>((address, net))
    };
    let (source, src) = read(ADDRESS_SRC, "ADDRESS_SRC")?;
    let (destination, dst) = read(ADDRESS_DST, "ADDRESS_DST")?;
    let port = |number: u16| if number == 0 { PortMask::ANY } else { PortMask::exact(number) };
    let protocol = if source.protocol == ANY_PROTOCOL { 0 } else { source.protocol };
    Ok(Selector { src, dst, protocol, sport: port(source.port), dport: port(destination.port) })
}

/// Writes a selector as two address extensions.
pub(crate) fn write_selector(dialect: Dialect, selector: &Selector, out: &mut Outgoing) -> Result<(), String> {
    if selector.src.addr().is_ipv4() != selector.dst.addr().is_ipv4() {
        return Err(format!("source and destination of the selector \"{selector}\" are of different families"));
    }
    if selector.protocol == MOBILITY_HEADER && selector.dport != PortMask::ANY {
        return Err(format!("the selector \"{selector}\" has a destination port, a Mobility Header has only a type"));
    }
    let port = |mask: PortMask| match (mask.mask, mask.value) {
        (0, _) => Ok(0),
        (0xffff, value) if value != 0 => Ok(value),
        (_, _) => Err(format!("PF_KEY cannot say the type, code or port {}/{:x} of \"{selector}\"", mask.value, mask.mask)),
    };
    let protocol = if selector.protocol == 0 { ANY_PROTOCOL } else { selector.protocol };
    let address = |net: IpNet, port: u16| Address { protocol, prefix_len: net.prefix_len(), address: net.addr(), port };
    address(selector.src, port(selector.sport)?).write(dialect, ADDRESS_SRC, out)?;
    address(selector.dst, port(selector.dport)?).write(dialect, ADDRESS_DST, out)
}
