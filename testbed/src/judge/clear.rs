//! Says which packets of a capture must not have been there in clear: Mobility Header messages and payload of protected
//! addresses. What bootstraps a link (neighbour discovery, IKE itself) is never counted.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::pcap::{Capture, Kind, Packet};

/// What a scenario demands of a link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Protected {
    /// Mobility Header types that may only appear inside ESP; RFC 4877: BU (5), BA (6), and by option HoTI (1), HoT (3).
    pub(crate) mobility_types: Vec<u8>,
    /// ICMPv6 types that may only appear inside ESP, 146 and 147 for mobile prefix discovery for instance.
    pub(crate) icmpv6_types: Vec<u8>,
    /// Addresses whose payload, from or to, may only appear inside ESP: the home addresses, on a foreign link.
    pub(crate) payload_addresses: Vec<IpAddr>,
}

impl Protected {
    /// The packets that should have been protected and were not.
    pub(crate) fn violations<'a>(&self, capture: &'a Capture) -> Vec<&'a Packet> {
        capture.packets.iter().filter(|packet| self.is_violated_by(packet)).collect()
    }

    fn is_violated_by(&self, packet: &Packet) -> bool {
        match &packet.kind {
            Kind::Esp { .. } | Kind::Ike { .. } | Kind::NatKeepalive | Kind::Link { .. } => false,
            Kind::MobilityHeader { kind } => self.mobility_types.contains(kind),
            Kind::Icmpv6 { kind, .. } if self.icmpv6_types.contains(kind) => true,
            Kind::Icmpv6 { kind: 130..=137 | 143, .. } => false,
            // Nobody can say what a later fragment held: its addresses decide.
            _ => self.concerns_protected_address(packet),
        }
    }

    fn concerns_protected_address(&self, packet: &Packet) -> bool {
        let hidden = [packet.home_address, packet.routing];
        [packet.source, packet.destination]
            .into_iter()
            .chain(hidden.into_iter().flatten().map(IpAddr::V6))
            .any(|address| self.payload_addresses.contains(&address))
    }
}

/// How many packets of each kind crossed, in words, sorted by the words.
pub(crate) fn summary(capture: &Capture) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for packet in &capture.packets {
        *counts.entry(packet.kind.to_string()).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::super::pcap::tests::{ipv6, pcap};
    use super::*;

    const HOA: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 5);
    const COA: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xf1, 0, 0, 0, 0, 5);
    const HA: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);

    #[test]
    fn clear_signalling_and_clear_payload_are_violations_and_discovery_is_not() {
        let capture = Capture::parse(&pcap(&[
            ipv6(135, COA, HA, &[59, 0, 5, 0, 0, 0, 0, 0]),
            ipv6(135, COA, HA, &[59, 0, 1, 0, 0, 0, 0, 0]),
            ipv6(41, COA, HA, &ipv6(58, HOA, HA, &[128, 0, 0, 0])),
            ipv6(58, COA, HA, &[128, 0, 0, 0]),
            ipv6(58, HOA, HA, &[135, 0, 0, 0]),
            ipv6(50, COA, HA, &[0; 8]),
        ]))
        .unwrap();
        let protected = Protected { mobility_types: vec![5, 6], payload_addresses: vec![HOA.into()], ..Protected::default() };
        let numbers: Vec<usize> = protected.violations(&capture).iter().map(|p| p.number).collect();
        assert_eq!(numbers, [1, 3]);
        assert_eq!(summary(&capture)["ICMPv6 type 128"], 2);
    }
}
