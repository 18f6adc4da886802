//! Policies of the configuration, found by direction, reqid, addresses and upper protocol, as the kernel names them.
//! Invariant: addresses always agree; a lookup costs the same at one policy and at ten thousand.

use std::collections::BTreeMap;

use ipnet::IpNet;
use watari_policies::selector::{ICMP, ICMPV6, MOBILITY_HEADER};
use watari_policies::{AddressRange, Config, Direction, Mode, Policy, PolicyId, PortMask, Ports, Reqid, Selector};

/// Most prefixes an address range is cut into before it is covered by one.
const MAX_PREFIXES: usize = 8;

/// The kernel selectors of a policy in one direction.
pub(crate) fn selectors(policy: &Policy, direction: Direction, inbound_mh_type: bool) -> Vec<Selector> {
    let mut selectors = Vec::new();
    for local in &policy.traffic.local {
        for remote in &policy.traffic.remote {
            let protocol = match (local.protocol, remote.protocol) {
                (0, protocol) | (protocol, 0) => protocol,
                (local, remote) if local == remote => local,
                _ => continue,
            };
            let (src, dst) = if direction == Direction::Out { (local, remote) } else { (remote, local) };
            let (sport, dport) = ports(protocol, src.ports, dst.ports, direction == Direction::Out || inbound_mh_type);
            for src in prefixes(src.range) {
                for dst in prefixes(dst.range) {
                    selectors.push(Selector { src, dst, protocol, sport, dport });
                }
            }
        }
    }
    selectors.sort_unstable();
    selectors.dedup();
    selectors
}

fn prefixes(range: AddressRange) -> Vec<IpNet> {
    let prefixes = range.prefixes();
    if prefixes.is_empty() || prefixes.len() > MAX_PREFIXES { vec![range.covering_prefix()] } else { prefixes }
}

/// Masked ports as the kernel lays them out: message types in `sport`, each direction with the type that is sent in it.
fn ports(protocol: u8, src: Ports, dst: Ports, types_seen: bool) -> (PortMask, PortMask) {
    match protocol {
        MOBILITY_HEADER if !types_seen => (PortMask::ANY, PortMask::ANY),
        MOBILITY_HEADER if src.start == src.end => (PortMask::exact(src.start >> 8), PortMask::ANY),
        MOBILITY_HEADER => (PortMask::ANY, PortMask::ANY),
        ICMP | ICMPV6 if src.start == src.end => (PortMask::exact(src.start >> 8), PortMask::exact(src.start & 0xff)),
        ICMP | ICMPV6 if src.start >> 8 == src.end >> 8 && src.start <= src.end => (PortMask::exact(src.start >> 8), PortMask::ANY),
        ICMP | ICMPV6 | 0 => (PortMask::ANY, PortMask::ANY),
        _ => (mask(src), mask(dst)),
    }
}

fn mask(ports: Ports) -> PortMask {
    let span = ports.start ^ ports.end;
    let aligned = ports.start <= ports.end && span & span.wrapping_add(1) == 0 && ports.start & span == 0;
    if aligned { PortMask { value: ports.start, mask: !span } } else { PortMask::ANY }
}

#[derive(Clone, Copy, Debug)]
struct Row {
    policy: PolicyId,
    reqid: Reqid,
    mode: Mode,
    selector: Selector,
}

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// Direction; forward counts as inbound.
    pub(crate) direction: Direction,
    /// Reqid, 0 for the selector alone.
    pub(crate) reqid: Reqid,
    /// Mode, if known.
    pub(crate) mode: Option<Mode>,
    /// Selector.
    pub(crate) selector: Selector,
    /// Whether ports and types of the selector are to be trusted (PF_KEY leaves them out).
    pub(crate) types: bool,
}

/// The index.
#[derive(Debug, Default)]
pub(crate) struct Lookup {
    rows: BTreeMap<(Direction, IpNet, IpNet), Vec<Row>>,
}

impl Lookup {
    /// Builds the index of a configuration.
    pub(crate) fn new(config: &Config) -> Self {
        let mut lookup = Self::default();
        for (policy, id) in config.policies.iter().zip(0u32..) {
            for (direction, reqid) in [(Direction::Out, policy.reqid_out), (Direction::In, policy.reqid_in)] {
                for selector in selectors(policy, direction, true) {
                    let row = Row { policy: PolicyId(id), reqid, mode: policy.mode, selector };
                    lookup.rows.entry((direction, selector.src, selector.dst)).or_default().push(row);
                }
            }
        }
        lookup
    }

    /// Policies that fit, in configuration order: those with the very addresses, else those whose addresses cover them on one side.
    pub(crate) fn find(&self, wanted: &Wanted) -> Vec<PolicyId> {
        let direction = if wanted.direction == Direction::Out { Direction::Out } else { Direction::In };
        let (src, dst) = (wanted.selector.src, wanted.selector.dst);
        let exact = self.among(direction, src, dst, wanted);
        if !exact.is_empty() || wanted.reqid.0 == 0 {
            return exact;
        }
        supernets(dst)
            .map(|wider| (src, wider))
            .chain(supernets(src).map(|wider| (wider, dst)))
            .map(|(src, dst)| self.among(direction, src, dst, wanted))
            .find(|found| !found.is_empty())
            .unwrap_or_default()
    }

    fn among(&self, direction: Direction, src: IpNet, dst: IpNet, wanted: &Wanted) -> Vec<PolicyId> {
        let Some(rows) = self.rows.get(&(direction, src, dst)) else { return Vec::new() };
        let fitting = || rows.iter().filter(|row| fits(row, wanted));
        // An entry for the very protocol is meant before one that only covers it.
        let exact = fitting().filter(|row| row.selector.protocol == wanted.selector.protocol);
        let mut found: Vec<_> = exact.map(|row| row.policy).collect();
        if found.is_empty() && wanted.reqid.0 != 0 {
            found = fitting().filter(|row| row.selector.protocol == 0 && row.reqid == wanted.reqid).map(|row| row.policy).collect();
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

fn fits(row: &Row, wanted: &Wanted) -> bool {
    let reqid = row.reqid == wanted.reqid || row.reqid.0 == 0 || wanted.reqid.0 == 0;
    let mode = wanted.mode.is_none_or(|mode| mode == row.mode);
    let (ours, theirs) = (row.selector, wanted.selector);
    let typed = wanted.types && ours.protocol == theirs.protocol && ours.sport.mask != 0 && theirs.sport.mask != 0;
    reqid && mode && (!typed || ours.sport == theirs.sport)
}

fn supernets(net: IpNet) -> impl Iterator<Item = IpNet> {
    std::iter::successors(net.supernet(), |wider| wider.supernet())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_ranges_become_masks_where_they_can() {
        assert_eq!(mask(Ports::ANY), PortMask::ANY);
        assert_eq!(mask(Ports::one(443)), PortMask::exact(443));
        assert_eq!(mask(Ports { start: 1024, end: 2047 }), PortMask { value: 1024, mask: 0xfc00 });
        assert_eq!(mask(Ports { start: 1000, end: 1003 }), PortMask { value: 1000, mask: 0xfffc });
        assert_eq!(mask(Ports { start: 1001, end: 1004 }), PortMask::ANY);
        assert_eq!(mask(Ports::OPAQUE), PortMask::ANY);
    }

    #[test]
    fn message_types_stand_in_the_source_port() {
        let (bu, ba) = (Ports::mh_type(5), Ports::mh_type(6));
        assert_eq!(ports(MOBILITY_HEADER, bu, ba, true), (PortMask::exact(5), PortMask::ANY));
        assert_eq!(ports(MOBILITY_HEADER, ba, bu, false), (PortMask::ANY, PortMask::ANY));
        assert_eq!(ports(ICMPV6, Ports::icmp(146, None), Ports::icmp(147, None), true), (PortMask::exact(146), PortMask::ANY));
        assert_eq!(ports(ICMPV6, Ports::icmp(1, Some(4)), Ports::ANY, true), (PortMask::exact(1), PortMask::exact(4)));
    }
}
