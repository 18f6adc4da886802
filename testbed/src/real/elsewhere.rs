//! Binding updates that came through the tunnel SA that they move, from an address that the home agent's kernel did not know yet (RFC 4877 5).
//! Read from the capture of the home agent's link to the world: while a node waits for its acknowledgement nothing but the update is let out,
//! so that the first ESP packet from a new address is one, and the home agent's next MIGRATE is what it brought about.

use std::net::IpAddr;

use watari_sim::scenario::{Link, Scenario};

use super::facts::Facts;
use super::verdict::Captures;
use crate::judge::pcap::{Capture, Kind};

/// Changes of address that the packets of one SPI show: from where it came first, and when.
fn new_sources(capture: &Capture) -> Vec<(u32, IpAddr, u64)> {
    let mut seen: Vec<(u32, IpAddr, u64)> = Vec::new();
    for packet in &capture.packets {
        if let Kind::Esp { spi, .. } = packet.kind
            && !seen.iter().any(|(other, source, _)| (*other, *source) == (spi, packet.source))
        {
            seen.push((spi, packet.source, packet.time_us));
        }
    }
    let is_new =
        |(spi, source, at): &(u32, IpAddr, u64)| seen.iter().any(|(other, from, before)| other == spi && from != source && before < at);
    seen.iter().copied().filter(is_new).collect()
}

/// Whether the home agent's kernel was told of a movement only after this packet had come: not between the movement and the packet.
fn was_news(facts: &Facts, source: IpAddr, at: u64) -> bool {
    let movement = facts.handovers.iter().find(|movement| movement.address == source);
    let Some(left) = movement.and_then(|movement| movement.migrate_at) else { return false };
    let told_before = facts.home_agent_migrates.iter().any(|told| (left..at).contains(told));
    let told_after = facts.home_agent_migrates.iter().any(|told| *told >= at);
    !told_before && told_after
}

impl Captures {
    /// What is wrong about such binding updates, in words.
    pub(super) fn judge_elsewhere(&self, scenario: &Scenario, facts: &Facts) -> Vec<String> {
        let core = self.0.iter().filter(|(link, _)| *link == Link::Core);
        let found = core.flat_map(|(_, capture)| new_sources(capture)).filter(|(_, source, at)| was_news(facts, *source, *at)).count();
        let expected = scenario.expect.updates_from_elsewhere;
        // Data finds a tunnel moved by others just so where the update has an SA of its own.
        let wrong = scenario.tunnels_updates() && found != expected;
        wrong.then(|| format!("{found} binding updates came through the tunnel that they move, {expected} expected")).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::super::facts::Movement;
    use super::*;
    use crate::judge::pcap::tests::{ipv6, pcap};

    const fn at(link: u16) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, link, 0, 0, 0, 0, 0xe)
    }

    #[test]
    fn what_came_after_the_migrate_proves_nothing() {
        let facts = |told: &[u64]| {
            let movement = Movement {
                node: "mn".to_owned(),
                from: "f1".to_owned(),
                to: "f2".to_owned(),
                address: at(0xf2).into(),
                migrate_at: Some(100),
                usable_at: None,
                migrate_events: 1,
                spis: Vec::new(),
                children_moved: 1,
            };
            Facts { handovers: vec![movement], home_agent_migrates: told.to_vec(), ..Facts::default() }
        };
        let source = IpAddr::from(at(0xf2));
        assert!(was_news(&facts(&[50, 205, 206]), source, 200));
        assert!(!was_news(&facts(&[50, 150]), source, 200), "told before it came");
        assert!(!was_news(&facts(&[50]), source, 200), "never told");
        assert!(!was_news(&facts(&[205]), at(0xf3).into(), 200), "nobody moved there");
    }

    #[test]
    fn an_spi_from_a_second_address_is_a_change_and_another_spi_is_not() {
        let esp = |link, spi: u8, sequence: u8| ipv6(50, at(link), at(1), &[0, 0, 0, spi, 0, 0, 0, sequence]);
        let packets = [esp(0xf1, 7, 1), esp(0xf1, 7, 2), esp(0xf2, 7, 3), esp(0xf3, 8, 1)];
        let mut capture = Capture::parse(&pcap(&packets)).expect("a capture");
        for (packet, time) in capture.packets.iter_mut().zip(1_u64..) {
            packet.time_us = time;
        }
        assert_eq!(new_sources(&capture), [(7, at(0xf2).into(), 3)]);
    }
}
