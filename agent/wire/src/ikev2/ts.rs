//! Traffic selector payloads (RFC 7296 section 3.13), with MH types and ICMP types in the port fields (RFC 4301 section 4.4.1.1).
//! Invariant: OPAQUE ports and selectors of unknown type survive decoding and encoding.

use crate::error::{Malformed, Why};
use crate::ikev2::numbers::TsType;
use crate::reader::Reader;
use crate::text::Octets;
use crate::writer::Writer;
use core::fmt;
use core::ops::RangeInclusive;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Largest number of selectors in one payload.
pub const MAX_SELECTORS: usize = 255;

const SELECTOR_HEADER: usize = 4;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const MOBILITY_HEADER: u8 = 135;

/// One selector of a TSi or TSr payload.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TrafficSelector {
    /// TS_IPV4_ADDR_RANGE or TS_IPV6_ADDR_RANGE.
    Address(AddressSelector),
    /// Any other type, kept as it came.
    Unknown {
        /// The form of the selector.
        ts_type: TsType,
        /// The second octet, the upper protocol in the forms that have one.
        protocol: u8,
        /// Everything behind the length field.
        body: Vec<u8>,
    },
}

/// Addresses, upper protocol and ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressSelector {
    /// Upper protocol number, 0 for any.
    pub protocol: u8,
    /// First port; for MH the type in the high octet, for ICMP and ICMPv6 the type in the high and the code in the low octet.
    pub start_port: u16,
    /// Last port; smaller than the first only for OPAQUE.
    pub end_port: u16,
    /// First address.
    pub start: IpAddr,
    /// Last address, of the family of the first.
    pub end: IpAddr,
}

impl AddressSelector {
    /// All ports of a protocol between two addresses.
    #[must_use]
    pub const fn new(protocol: u8, start: IpAddr, end: IpAddr) -> Self {
        //= rfc7296#3.13.1
        //# any port is 0 to 65535, also where the protocol has no ports
        Self { protocol, start_port: 0, end_port: u16::MAX, start, end }
    }

    /// The same with ports.
    #[must_use]
    pub const fn with_ports(self, start_port: u16, end_port: u16) -> Self {
        Self { start_port, end_port, ..self }
    }

    /// The same with OPAQUE ports: 65535 to 0.
    #[must_use]
    pub const fn with_opaque_ports(self) -> Self {
        self.with_ports(u16::MAX, 0)
    }

    /// The same for mobility header messages of a range of types (protocol 135).
    #[must_use]
    pub const fn with_mobility_types(self, first: u8, last: u8) -> Self {
        //= rfc7296#3.13.1
        //# the MH type stands in the high eight bits of the port, the low eight bits are zero
        Self { protocol: MOBILITY_HEADER, ..self }.with_ports(u16::from_be_bytes([first, 0]), u16::from_be_bytes([last, 0]))
    }

    /// The same for ICMP or ICMPv6 (by address family) messages from one type and code to another.
    #[must_use]
    pub const fn with_icmp_types(self, first: (u8, u8), last: (u8, u8)) -> Self {
        //= rfc7296#3.13.1
        //# the ICMP type stands in the high eight bits of the port, the code in the low eight bits
        let protocol = if self.start.is_ipv4() { ICMP } else { ICMPV6 };
        let (first, last) = (u16::from_be_bytes([first.0, first.1]), u16::from_be_bytes([last.0, last.1]));
        Self { protocol, ..self }.with_ports(first, last)
    }

    /// The form it takes on the wire.
    #[must_use]
    pub const fn ts_type(&self) -> TsType {
        if self.start.is_ipv4() { TsType::IPV4_ADDR_RANGE } else { TsType::IPV6_ADDR_RANGE }
    }

    /// Whether every port matches.
    #[must_use]
    pub const fn any_port(&self) -> bool {
        self.start_port == 0 && self.end_port == u16::MAX
    }

    /// Whether only packets without visible ports match (RFC 4301 section 4.4.1.1).
    #[must_use]
    pub const fn opaque(&self) -> bool {
        self.start_port == u16::MAX && self.end_port == 0
    }

    /// The MH types of a selector for protocol 135 that chooses some; `None` for any, OPAQUE and other protocols.
    #[must_use]
    pub const fn mobility_types(&self) -> Option<RangeInclusive<u8>> {
        if self.protocol != MOBILITY_HEADER || self.any_port() || self.opaque() {
            return None;
        }
        Some((self.start_port >> 8) as u8..=(self.end_port >> 8) as u8)
    }

    /// First and last (type, code) of a selector for ICMP or ICMPv6 that chooses some; `None` for any, OPAQUE and other protocols.
    #[must_use]
    pub const fn icmp_types(&self) -> Option<((u8, u8), (u8, u8))> {
        if !matches!(self.protocol, ICMP | ICMPV6) || self.any_port() || self.opaque() {
            return None;
        }
        let ([first, first_code], [last, last_code]) = (self.start_port.to_be_bytes(), self.end_port.to_be_bytes());
        Some(((first, first_code), (last, last_code)))
    }
}

impl TrafficSelector {
    /// The form it takes on the wire.
    #[must_use]
    pub const fn ts_type(&self) -> TsType {
        match self {
            Self::Address(selector) => selector.ts_type(),
            Self::Unknown { ts_type, .. } => *ts_type,
        }
    }

    /// The selector, if its type is known.
    #[must_use]
    pub const fn address(&self) -> Option<&AddressSelector> {
        match self {
            Self::Address(selector) => Some(selector),
            Self::Unknown { .. } => None,
        }
    }
}

impl From<AddressSelector> for TrafficSelector {
    fn from(selector: AddressSelector) -> Self {
        Self::Address(selector)
    }
}

impl fmt::Display for AddressSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.start)?;
        if self.start != self.end {
            write!(f, "-{}", self.end)?;
        }
        match self.protocol {
            0 => f.write_str(" any protocol")?,
            MOBILITY_HEADER => f.write_str(" MH")?,
            ICMP => f.write_str(" ICMP")?,
            ICMPV6 => f.write_str(" ICMPv6")?,
            6 => f.write_str(" TCP")?,
            17 => f.write_str(" UDP")?,
            other => write!(f, " protocol {other}")?,
        }
        if self.any_port() {
            return Ok(());
        }
        if self.opaque() {
            return f.write_str(" OPAQUE");
        }
        match (self.mobility_types(), self.icmp_types()) {
            (Some(types), _) if self.start_port.trailing_zeros() >= 8 && self.end_port.trailing_zeros() >= 8 => {
                range(f, "type", *types.start(), *types.end())
            }
            (_, Some(((first, 0), (last, 255)))) => range(f, "type", first, last),
            (_, Some(((first, first_code), (last, last_code)))) => {
                range(f, "type/code", format_args!("{first}/{first_code}"), format_args!("{last}/{last_code}"))
            }
            _ => range(f, "port", self.start_port, self.end_port),
        }
    }
}

fn range(f: &mut fmt::Formatter<'_>, name: &str, first: impl fmt::Display, last: impl fmt::Display) -> fmt::Result {
    let (first, last) = (first.to_string(), last.to_string());
    if first == last { write!(f, " {name} {first}") } else { write!(f, " {name} {first}-{last}") }
}

impl fmt::Display for TrafficSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(selector) => selector.fmt(f),
            Self::Unknown { ts_type, body, .. } => write!(f, "{ts_type} {}", Octets(body.len())),
        }
    }
}

pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Vec<TrafficSelector>, Malformed> {
    let count_at = reader.offset();
    let count = usize::from(reader.u8()?);
    //= rfc7296#3.13
    //# the reserved octets are ignored on receipt
    reader.take(3)?;
    let mut selectors = Vec::new();
    while !reader.is_empty() && selectors.len() < count {
        selectors.push(decode_selector(reader)?);
    }
    //= rfc7296#2.9
    //# a payload holds at least one selector
    if selectors.len() != count || count == 0 {
        let why = Why::Disagree { field: "number of selectors", said: count, found: selectors.len() };
        return Err(reader.fail_at(count_at, why));
    }
    Ok(selectors)
}

fn decode_selector(reader: &mut Reader<'_>) -> Result<TrafficSelector, Malformed> {
    let ts_type = TsType(reader.u8()?);
    let protocol = reader.u8()?;
    let length_at = reader.offset();
    let said = usize::from(reader.u16()?);
    if said < SELECTOR_HEADER {
        return Err(reader.fail_at(length_at, Why::TooShort { said, least: SELECTOR_HEADER }));
    }
    let mut body = reader.inner(said.saturating_sub(SELECTOR_HEADER), "traffic selector")?;
    if ts_type != TsType::IPV4_ADDR_RANGE && ts_type != TsType::IPV6_ADDR_RANGE {
        return Ok(TrafficSelector::Unknown { ts_type, protocol, body: body.rest().to_vec() });
    }
    let (start_port, end_port) = (body.u16()?, body.u16()?);
    let (start, end) = if ts_type == TsType::IPV4_ADDR_RANGE {
        (Ipv4Addr::from(body.array::<4>()?).into(), Ipv4Addr::from(body.array::<4>()?).into())
    } else {
        (Ipv6Addr::from(body.array::<16>()?).into(), Ipv6Addr::from(body.array::<16>()?).into())
    };
    body.end()?;
    Ok(TrafficSelector::Address(AddressSelector { protocol, start_port, end_port, start, end }))
}

pub(crate) fn encode(selectors: &[TrafficSelector], writer: &mut Writer) {
    writer.count8(selectors.len());
    //= rfc7296#3.13
    //# the reserved octets are sent as zero
    writer.bytes(&[0; 3]);
    for selector in selectors {
        let start = writer.len();
        let (ts_type, protocol) = match selector {
            TrafficSelector::Address(selector) => (selector.ts_type(), selector.protocol),
            TrafficSelector::Unknown { ts_type, protocol, .. } => (*ts_type, *protocol),
        };
        writer.u8(ts_type.0);
        writer.u8(protocol);
        let length = writer.length16(start);
        match selector {
            TrafficSelector::Address(selector) => encode_addresses(selector, writer),
            TrafficSelector::Unknown { body, .. } => writer.bytes(body),
        }
        writer.close(&length);
    }
}

fn encode_addresses(selector: &AddressSelector, writer: &mut Writer) {
    writer.u16(selector.start_port);
    writer.u16(selector.end_port);
    match (selector.start, selector.end) {
        (IpAddr::V4(start), IpAddr::V4(end)) => {
            writer.bytes(&start.octets());
            writer.bytes(&end.octets());
        }
        (IpAddr::V6(start), IpAddr::V6(end)) => {
            writer.bytes(&start.octets());
            writer.bytes(&end.octets());
        }
        // Families that differ are a mistake of the caller; a range of one address is the narrow reading of it.
        (IpAddr::V4(start), IpAddr::V6(_)) => writer.bytes(&[start.octets(), start.octets()].concat()),
        (IpAddr::V6(start), IpAddr::V4(_)) => writer.bytes(&[start.octets(), start.octets()].concat()),
    }
}
