//! Reads the words in which traffic is displayed: `2001:db8:1::1 mobility-header BA`, `10.0.0.0/8 tcp 80-90`.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use super::words::{ICMPV6_TYPES, MH_TYPES, PROTOCOLS};
use super::{AddressRange, Ports, TrafficItem};
use crate::algorithm::nearest;
use crate::selector::{ICMP, ICMPV6, MOBILITY_HEADER};

/// Why a text describes no traffic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrafficError {
    /// The first word is no address.
    #[error("\"{0}\" is no address: write an address, a prefix such as 2001:db8::/64 or a range such as 10.0.0.1-10.0.0.9")]
    Address(String),
    /// A prefix with bits behind its length.
    #[error("\"{prefix}\" has bits set behind its length: the prefix is {trimmed}")]
    HostBits {
        /// The prefix as written.
        prefix: String,
        /// The prefix without those bits.
        trimmed: IpNet,
    },
    /// A range that ends before it starts, or in the other address family.
    #[error("the range \"{0}\" holds no address: both ends must be of one family, the lower first")]
    Range(String),
    /// The second word is no protocol.
    #[error("there is no upper protocol called \"{name}\"{}; write a name such as mobility-header, icmpv6, tcp, udp or a number", suggest(*.nearest))]
    Protocol {
        /// The word as written.
        name: String,
        /// A known name close to it.
        nearest: Option<&'static str>,
    },
    /// The rest is no message type of the protocol.
    #[error("\"{name}\" is no {what}: write {example}")]
    Type {
        /// The words as written.
        name: String,
        /// What was expected.
        what: &'static str,
        /// Words that would do.
        example: &'static str,
    },
}

fn suggest(nearest: Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |name| format!(", did you mean \"{name}\"?"))
}

/// Names and numbers of a protocol's message types.
type Names = &'static [(u8, &'static str)];

/// Reads an address, a prefix or a range of addresses.
pub(crate) fn address_range(text: &str) -> Result<AddressRange, TrafficError> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(AddressRange::host(address));
    }
    if let Some((start, end)) = text.split_once('-') {
        let (Ok(start), Ok(end)) = (start.trim().parse(), end.trim().parse()) else { return Err(TrafficError::Address(text.to_owned())) };
        let range = AddressRange { start, end };
        return if range.is_valid() { Ok(range) } else { Err(TrafficError::Range(text.to_owned())) };
    }
    prefix(text).map(AddressRange::from)
}

/// Reads a prefix; an address is a prefix of full length.
pub(crate) fn prefix(text: &str) -> Result<IpNet, TrafficError> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.into());
    }
    let net: IpNet = text.parse().map_err(|_| TrafficError::Address(text.to_owned()))?;
    if net.trunc() == net { Ok(net) } else { Err(TrafficError::HostBits { prefix: text.to_owned(), trimmed: net.trunc() }) }
}

impl FromStr for TrafficItem {
    type Err = TrafficError;

    /// Reads `ADDRESS [PROTOCOL [TYPES or PORTS]]`, as `Display` writes it.
    fn from_str(text: &str) -> Result<Self, TrafficError> {
        let mut words = text.split_whitespace();
        let range = address_range(words.next().unwrap_or_default())?;
        let mut rest: Vec<&str> = words.collect();
        if rest.first() == Some(&"protocol") && rest.len() > 1 {
            rest.remove(0);
        }
        let Some((name, ports)) = rest.split_first() else { return Ok(Self::any(range)) };
        let protocol = protocol(name)?;
        Ok(Self { range, protocol, ports: read_ports(protocol, &ports.join(" "))? })
    }
}

fn protocol(name: &str) -> Result<u8, TrafficError> {
    let known = PROTOCOLS.iter().find(|(_, known)| known.eq_ignore_ascii_case(name)).map(|(number, _)| *number);
    known
        .or_else(|| name.parse().ok())
        .or_else(|| (name == "any").then_some(0))
        .ok_or_else(|| TrafficError::Protocol { name: name.to_owned(), nearest: nearest(name, PROTOCOLS.iter().map(|(_, known)| *known)) })
}

fn read_ports(protocol: u8, text: &str) -> Result<Ports, TrafficError> {
    let (what, names, example): (_, Names, _) = match protocol {
        MOBILITY_HEADER => ("Mobility Header type", MH_TYPES, "HoTI, HoT, BU, BA, a number up to 255, a range such as BU-BA, or opaque"),
        ICMPV6 => ("ICMPv6 type", ICMPV6_TYPES, "MPS, MPA, echo, a number up to 255, a range of types, or a type and \"code N\""),
        ICMP => ("ICMP type", &[], "a number up to 255, a range of types, or a type and \"code N\""),
        0 => ("port of every protocol", &[], "a protocol in front of it, or nothing"),
        _ => ("port", &[], "a number up to 65535, a range such as 80-90, or opaque"),
    };
    let read = match text {
        "" | "any" => Some(Ports::ANY),
        _ if protocol == 0 => None,
        "opaque" => Some(Ports::OPAQUE),
        _ => match protocol {
            MOBILITY_HEADER => types(names, text).map(|(first, last)| Ports::mh_types(first, last)),
            ICMPV6 | ICMP => icmp_ports(names, text),
            _ => port_range(text),
        },
    };
    read.ok_or_else(|| TrafficError::Type { name: text.to_owned(), what, example })
}

fn type_number(names: Names, word: &str) -> Option<u8> {
    let named = names.iter().find(|(_, name)| name.eq_ignore_ascii_case(word)).map(|(number, _)| *number);
    named.or_else(|| word.parse().ok())
}

/// One type or a range of types. Names may hold hyphens themselves, so every hyphen is tried as the one of the range.
fn types(names: Names, text: &str) -> Option<(u8, u8)> {
    if let Some(only) = type_number(names, text) {
        return Some((only, only));
    }
    text.match_indices('-').find_map(|(at, _)| {
        let first = type_number(names, text.get(..at)?)?;
        let last = type_number(names, text.get(at.saturating_add(1)..)?)?;
        (first <= last).then_some((first, last))
    })
}

/// `TYPE`, `TYPE-TYPE`, `TYPE code CODE` or `TYPE code CODE to TYPE code CODE`.
fn icmp_ports(names: Names, text: &str) -> Option<Ports> {
    let with_code = |text: &str| {
        let (kind, code) = text.split_once(" code ")?;
        Some(Ports::icmp(type_number(names, kind)?, Some(code.parse().ok()?)))
    };
    if let Some((from, to)) = text.split_once(" to ") {
        let ports = Ports { start: with_code(from)?.start, end: with_code(to)?.start };
        return (ports.start <= ports.end).then_some(ports);
    }
    let whole = |(first, last)| Ports { start: u16::from(first) << 8, end: u16::from(last) << 8 | 0xff };
    with_code(text).or_else(|| types(names, text).map(whole))
}

fn port_range(text: &str) -> Option<Ports> {
    let (start, end) = text.split_once('-').unwrap_or((text, text));
    let ports = Ports { start: start.trim().parse().ok()?, end: end.trim().parse().ok()? };
    (ports.start <= ports.end).then_some(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_displayed_reads_back() {
        for text in [
            "2001:db8:1::abcd/128",
            "2001:db8:1::abcd/128 mobility-header BU",
            "2001:db8:1::abcd/128 mobility-header BU-BA",
            "::/0 mobility-header 200",
            "::/0 mobility-header opaque",
            "::/0 icmpv6 MPS",
            "::/0 icmpv6 echo-echo-reply",
            "::/0 icmpv6 1 code 4",
            "::/0 icmpv6 1 code 254 to 4 code 0",
            "10.0.0.1-10.0.0.4 tcp 80-90",
            "10.0.0.0/8 icmp 8",
            "::/0 protocol 47",
            "::/0 udp 53",
        ] {
            assert_eq!(text.parse::<TrafficItem>().map(|item| item.to_string()), Ok(text.to_owned()));
        }
        let item: TrafficItem = "2001:db8::1 mobility-header bu".parse().unwrap();
        assert_eq!((item.protocol, item.ports), (135, Ports::mh_type(5)));
    }

    #[test]
    fn what_describes_nothing_is_refused_with_a_hint() {
        let refusal = |text: &str| text.parse::<TrafficItem>().unwrap_err().to_string();
        assert!(refusal("nowhere").starts_with("\"nowhere\" is no address"));
        assert!(refusal("2001:db8::1/64").ends_with("the prefix is 2001:db8::/64"));
        assert!(refusal("10.0.0.9-10.0.0.1").contains("holds no address"));
        assert!(refusal("10.0.0.9-2001:db8::1").contains("holds no address"));
        assert!(refusal("::/0 mobilty-header BU").contains("did you mean \"mobility-header\"?"));
        assert!(refusal("::/0 mobility-header BX").contains("write HoTI, HoT, BU, BA"));
        assert!(refusal("::/0 mobility-header 256").contains("no Mobility Header type"));
        assert!(refusal("::/0 tcp 90-80").contains("no port"));
        assert!(refusal("::/0 any 80").contains("a protocol in front"));
    }
}
