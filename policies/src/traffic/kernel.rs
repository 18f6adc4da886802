//! From traffic to what a kernel can hold and back: prefixes, masks, one direction at a time.
//! Invariant: the SA selector covers every policy selector, and no policy is narrower than the traffic it stands for except where OPAQUE says so.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{AddressRange, Ports, Traffic, TrafficItem, common_protocol};
use crate::selector::{Direction, ICMP, ICMPV6, MOBILITY_HEADER, PortMask, Selector};

/// Most policies that one direction of a traffic description becomes; beyond it the SA's selector is the only policy.
pub const MAX_POLICIES: usize = 512;

/// The selectors of one direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelSelectors {
    /// Selector of the SA: covers all policies, wider than them if one selector cannot say it.
    pub sa: Selector,
    /// Selectors of the policies, without repetition. Empty if nothing is sent in this direction (OPAQUE).
    pub policies: Vec<Selector>,
}

/// Values of the two port fields of a selector.
type PortPair = (PortMask, PortMask);

/// One local and one remote item that have a protocol in common, seen in one direction.
struct Flow {
    src: AddressRange,
    dst: AddressRange,
    protocol: u8,
    ports: Vec<PortPair>,
}

impl Traffic {
    /// The selectors that a kernel needs for one direction; `Forward` has those of `In`.
    ///
    /// Mobility Header and ICMPv6 types go to `sport`, each direction with the type that is sent in it. Without `mh_types_visible`
    /// (kernels that do not see the type of an inbound packet) MH selectors of `In` and `Forward` name the protocol only.
    /// A side that is OPAQUE sends nothing of that kind, so there is no policy for it. Items of another address family than
    /// the first are left out. More than `MAX_POLICIES` policies become one, as wide as the SA's selector.
    pub fn kernel_selectors(&self, direction: Direction, mh_types_visible: bool) -> KernelSelectors {
        let flows = self.flows(direction, mh_types_visible);
        let sa = sa_selector(&flows);
        let crowded = flows.len() > MAX_POLICIES || flows.iter().map(Flow::policy_count).fold(0usize, usize::saturating_add) > MAX_POLICIES;
        let mut policies = Vec::new();
        if crowded {
            policies.push(sa);
        } else {
            for selector in flows.iter().flat_map(Flow::policies) {
                if !policies.contains(&selector) {
                    policies.push(selector);
                }
            }
        }
        KernelSelectors { sa, policies }
    }

    fn flows(&self, direction: Direction, mh_types_visible: bool) -> Vec<Flow> {
        let mut flows: Vec<Flow> = Vec::new();
        // Where the items alone make more policies than are kept, their ports do not matter any more.
        let crowded = self.local.len().saturating_mul(self.remote.len()) > MAX_POLICIES;
        for (local, remote) in self.local.iter().flat_map(|local| self.remote.iter().map(move |remote| (local, remote))) {
            let Some(protocol) = common_protocol(local.protocol, remote.protocol) else { continue };
            let (sender, receiver) = if direction == Direction::Out { (local, remote) } else { (remote, local) };
            let family = flows.first().map_or(sender.range.start.is_ipv4(), |first| first.src.start.is_ipv4());
            if [sender, receiver].iter().any(|item| item.range.start.is_ipv4() != family || !item.range.is_valid()) {
                continue;
            }
            let types_visible = mh_types_visible || direction == Direction::Out;
            let any = || vec![(PortMask::ANY, PortMask::ANY)];
            let ports = if crowded { any() } else { port_pairs(protocol, sender.ports, receiver.ports, types_visible) };
            flows.push(Flow { src: sender.range, dst: receiver.range, protocol, ports });
        }
        flows
    }

    /// The traffic of one packet that a kernel reports with an ACQUIRE, from its outbound selector, in wire form.
    /// For Mobility Header and ICMPv6 the remote side's types are any: the packet says nothing about what the peer sends.
    pub fn from_packet(packet: &Selector) -> Self {
        let (local, remote) = match packet.protocol {
            MOBILITY_HEADER => (masked_types(packet.sport).map_or(Ports::ANY, |(first, last)| Ports::mh_types(first, last)), Ports::ANY),
            ICMPV6 | ICMP => (icmp_ports(packet.sport, packet.dport), Ports::ANY),
            _ => (masked_ports(packet.sport), masked_ports(packet.dport)),
        };
        let item = |net: IpNet, ports| TrafficItem { range: net.into(), protocol: packet.protocol, ports };
        Self::new(item(packet.src, local), item(packet.dst, remote))
    }
}

impl Flow {
    fn policy_count(&self) -> usize {
        let prefixes = self.src.prefixes().len().saturating_mul(self.dst.prefixes().len());
        prefixes.saturating_mul(self.ports.len())
    }

    fn policies(&self) -> Vec<Selector> {
        let (sources, destinations) = (self.src.prefixes(), self.dst.prefixes());
        let mut all = Vec::new();
        for (src, dst) in sources.iter().flat_map(|src| destinations.iter().map(move |dst| (*src, *dst))) {
            all.extend(self.ports.iter().map(|(sport, dport)| Selector {
                src,
                dst,
                protocol: self.protocol,
                sport: *sport,
                dport: *dport,
            }));
        }
        all
    }
}

/// The narrowest single selector that covers all flows.
fn sa_selector(flows: &[Flow]) -> Selector {
    let cover = |ranges: &mut dyn Iterator<Item = AddressRange>| {
        ranges
            .reduce(|one, other| AddressRange { start: one.start.min(other.start), end: one.end.max(other.end) })
            .unwrap_or(AddressRange::ANY_V6)
            .covering_prefix()
    };
    let src = cover(&mut flows.iter().map(|flow| flow.src));
    let dst = cover(&mut flows.iter().map(|flow| flow.dst));
    let protocol = agreed(flows.iter().map(|flow| flow.protocol)).unwrap_or(0);
    let sport = agreed(flows.iter().flat_map(|flow| flow.ports.iter().map(|(sport, _)| *sport))).unwrap_or(PortMask::ANY);
    let dport = agreed(flows.iter().flat_map(|flow| flow.ports.iter().map(|(_, dport)| *dport))).unwrap_or(PortMask::ANY);
    if protocol == 0 && flows.len() > 1 {
        // Ports of different protocols have nothing in common even where the numbers agree.
        return Selector::between(src, dst);
    }
    Selector { src, dst, protocol, sport, dport }
}

/// The one value that all of them are.
fn agreed<T: PartialEq>(mut values: impl Iterator<Item = T>) -> Option<T> {
    let first = values.next()?;
    values.all(|value| value == first).then_some(first)
}

fn port_pairs(protocol: u8, sent: Ports, received: Ports, types_visible: bool) -> Vec<PortPair> {
    match protocol {
        //= rfc4301#4.4.1.1
        //# OPAQUE on one side says that this message type is sent to that side and not received from it.
        MOBILITY_HEADER | ICMPV6 | ICMP if sent.is_opaque() => Vec::new(),
        MOBILITY_HEADER if !types_visible => vec![(PortMask::ANY, PortMask::ANY)],
        MOBILITY_HEADER => mh_masks(sent).into_iter().map(|mask| (mask, PortMask::ANY)).collect(),
        ICMPV6 | ICMP => icmp_masks(sent),
        _ => {
            let (sports, dports) = (masks(sent.start, sent.end), masks(received.start, received.end));
            sports.iter().flat_map(|sport| dports.iter().map(|dport| (*sport, *dport))).collect()
        }
    }
}

/// One mask if the range of types is one, else a mask for each type.
fn mh_masks(ports: Ports) -> Vec<PortMask> {
    match ports.as_mh_types() {
        None => Vec::new(),
        Some(any) if any.is_any() => vec![PortMask::ANY],
        Some(types) => match masks(types.start >> 8, types.end >> 8).as_slice() {
            [one] => vec![*one],
            _ => (types.start >> 8..=types.end >> 8).map(PortMask::exact).collect(),
        },
    }
}

/// Type and code masks of a range in wire form: the rest of the first type, whole types, the start of the last type.
fn icmp_masks(ports: Ports) -> Vec<PortPair> {
    if ports.is_any() {
        return vec![(PortMask::ANY, PortMask::ANY)];
    }
    let (first, first_code) = (ports.start >> 8, ports.start & 0xff);
    let (last, last_code) = (ports.end >> 8, ports.end & 0xff);
    let codes = |kind: u16, from: u16, to: u16| -> Vec<PortPair> {
        if (from, to) == (0, 0xff) {
            return vec![(PortMask::exact(kind), PortMask::ANY)];
        }
        masks(from, to).into_iter().map(|code| (PortMask::exact(kind), code)).collect()
    };
    if first == last {
        return codes(first, first_code, last_code);
    }
    let whole_from = if first_code == 0 { first } else { first.saturating_add(1) };
    let whole_to = if last_code == 0xff { last } else { last.saturating_sub(1) };
    let mut all = if first_code == 0 { Vec::new() } else { codes(first, first_code, 0xff) };
    all.extend(masks(whole_from, whole_to).into_iter().map(|kind| (kind, PortMask::ANY)));
    if last_code != 0xff && ports.start <= ports.end {
        all.extend(codes(last, 0, last_code));
    }
    all
}

/// The fewest value/mask pairs that make up a range of 16-bit values; empty for a backward range, such as OPAQUE.
fn masks(start: u16, end: u16) -> Vec<PortMask> {
    let (mut next, end) = (u32::from(start), u32::from(end));
    let mut all = Vec::new();
    while next <= end {
        let aligned = if next == 0 { 16 } else { next.trailing_zeros().min(16) };
        let bits = (0..=aligned).rev().find(|bits| next.saturating_add((1u32 << bits).saturating_sub(1)) <= end).unwrap_or(0);
        let size = 1u32 << bits;
        let mask = u16::try_from(0x1_0000u32.saturating_sub(size)).unwrap_or(0);
        all.push(PortMask { value: u16::try_from(next).unwrap_or(u16::MAX), mask });
        next = next.saturating_add(size);
    }
    all
}

/// The range that a mask with its set bits on top describes; ANY for other masks, which no range can say.
fn masked_ports(port: PortMask) -> Ports {
    if port.mask.leading_ones().saturating_add(port.mask.trailing_zeros()) < 16 {
        return Ports::ANY;
    }
    let start = port.value & port.mask;
    Ports { start, end: start | !port.mask }
}

/// First and last message type of a masked `sport`; `None` for any.
fn masked_types(port: PortMask) -> Option<(u8, u8)> {
    let range = masked_ports(port);
    Some((u8::try_from(range.start).ok()?, u8::try_from(range.end).ok()?))
}

fn icmp_ports(kind: PortMask, code: PortMask) -> Ports {
    match masked_types(kind) {
        None => Ports::ANY,
        Some((first, last)) if first != last => Ports { start: u16::from(first) << 8, end: u16::from(last) << 8 | 0xff },
        Some((only, _)) => Ports::icmp(only, (code.mask == 0xffff).then(|| u8::try_from(code.value).ok()).flatten()),
    }
}

impl TrafficItem {
    /// Every packet of one address.
    pub const fn host(address: IpAddr) -> Self {
        Self::any(AddressRange::host(address))
    }
}
