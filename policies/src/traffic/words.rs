//! Traffic in the words of its field, for logs and status.

use std::fmt;

use super::{Ports, Traffic, TrafficItem};
use crate::selector::{ICMP, ICMPV6, MOBILITY_HEADER};

/// Short names of Mobility Header types (RFC 6275 6.1, RFC 5142), by number.
pub(crate) const MH_TYPES: &[(u8, &str)] =
    &[(0, "BRR"), (1, "HoTI"), (2, "CoTI"), (3, "HoT"), (4, "CoT"), (5, "BU"), (6, "BA"), (7, "BE"), (12, "HAS")];

/// Short names of ICMPv6 types (RFC 4443, RFC 6275 6.5 to 6.8), by number.
pub(crate) const ICMPV6_TYPES: &[(u8, &str)] =
    &[(128, "echo"), (129, "echo-reply"), (144, "DHAAD-request"), (145, "DHAAD-reply"), (146, "MPS"), (147, "MPA")];

/// Names of upper protocols in configuration and output.
pub(crate) const PROTOCOLS: &[(u8, &str)] =
    &[(ICMP, "icmp"), (6, "tcp"), (17, "udp"), (ICMPV6, "icmpv6"), (132, "sctp"), (MOBILITY_HEADER, "mobility-header")];

/// The name of a number in one of the tables.
pub(crate) fn name_of(table: &'static [(u8, &'static str)], number: u8) -> Option<&'static str> {
    table.iter().find(|(known, _)| *known == number).map(|(_, name)| *name)
}

/// A message type by name, else by number.
struct Kind(&'static [(u8, &'static str)], u16);

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match u8::try_from(self.1).ok().and_then(|number| name_of(self.0, number)) {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.1),
        }
    }
}

/// The ports of a protocol: message types by name, codes and other ports by number; empty for any.
fn write_ports(f: &mut fmt::Formatter<'_>, protocol: u8, ports: Ports) -> fmt::Result {
    let (first, last) = (ports.start >> 8, ports.end >> 8);
    if ports.is_any() {
        return Ok(());
    }
    if ports.is_opaque() {
        return f.write_str(" opaque");
    }
    match protocol {
        MOBILITY_HEADER if first == last => write!(f, " {}", Kind(MH_TYPES, first)),
        MOBILITY_HEADER => write!(f, " {}-{}", Kind(MH_TYPES, first), Kind(MH_TYPES, last)),
        ICMPV6 | ICMP => {
            let names = if protocol == ICMPV6 { ICMPV6_TYPES } else { &[] };
            match (ports.start & 0xff, ports.end & 0xff) {
                (0, 0xff) if first == last => write!(f, " {}", Kind(names, first)),
                (0, 0xff) => write!(f, " {}-{}", Kind(names, first), Kind(names, last)),
                (code, _) if ports.start == ports.end => write!(f, " {} code {code}", Kind(names, first)),
                (from, to) => write!(f, " {} code {from} to {} code {to}", Kind(names, first), Kind(names, last)),
            }
        }
        _ if ports.start == ports.end => write!(f, " {}", ports.start),
        _ => write!(f, " {}-{}", ports.start, ports.end),
    }
}

impl fmt::Display for TrafficItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.range)?;
        match (self.protocol, name_of(PROTOCOLS, self.protocol)) {
            (0, _) => {}
            (_, Some(name)) => write!(f, " {name}")?,
            (number, None) => write!(f, " protocol {number}")?,
        }
        write_ports(f, self.protocol, self.ports)
    }
}

fn write_side(f: &mut fmt::Formatter<'_>, items: &[TrafficItem]) -> fmt::Result {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        write!(f, "{item}")?;
    }
    Ok(())
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_side(f, &self.local)?;
        f.write_str(" <-> ")?;
        write_side(f, &self.remote)
    }
}
