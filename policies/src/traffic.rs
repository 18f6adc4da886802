//! Traffic of a policy or child SA as IKE sees it: local and remote address ranges, upper protocol, ports or message types.
//! Ports are in wire form: MH type in the high octet, ICMPv6 type and code in the two octets (RFC 7296 3.13.1).

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

use crate::selector::MOBILITY_HEADER;

mod kernel;
pub(crate) mod parse;
mod words;

pub use kernel::{KernelSelectors, MAX_POLICIES};
pub use parse::TrafficError;

#[cfg(test)]
mod tests;

/// Most items of one side that an intersection keeps: what one traffic selector payload can hold (RFC 7296 3.13).
const MAX_ITEMS: usize = 255;

/// An inclusive range of addresses of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressRange {
    /// First address.
    pub start: IpAddr,
    /// Last address, of the same family and not below `start`.
    pub end: IpAddr,
}

impl AddressRange {
    /// The range of one address.
    pub const fn host(address: IpAddr) -> Self {
        Self { start: address, end: address }
    }

    /// The range of every IPv6 address.
    pub const ANY_V6: Self = Self { start: IpAddr::V6(Ipv6Addr::UNSPECIFIED), end: IpAddr::V6(Ipv6Addr::from_bits(u128::MAX)) };

    /// Whether both ends are of one family and in order.
    pub fn is_valid(&self) -> bool {
        self.start.is_ipv4() == self.end.is_ipv4() && self.start <= self.end
    }

    /// Whether `address` lies in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.start.is_ipv4() == address.is_ipv4() && self.start <= address && address <= self.end
    }

    /// Whether every address of `other` lies in this range.
    pub fn covers(&self, other: &Self) -> bool {
        self.contains(other.start) && self.contains(other.end)
    }

    /// The addresses that both ranges hold.
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        let range = Self { start: self.start.max(other.start), end: self.end.min(other.end) };
        (self.start.is_ipv4() == other.start.is_ipv4() && range.is_valid()).then_some(range)
    }

    /// The smallest set of prefixes that makes up the range.
    pub fn prefixes(&self) -> Vec<IpNet> {
        match (self.start, self.end) {
            (IpAddr::V4(start), IpAddr::V4(end)) => Ipv4Subnets::new(start, end, 0).map(IpNet::V4).collect(),
            (IpAddr::V6(start), IpAddr::V6(end)) => Ipv6Subnets::new(start, end, 0).map(IpNet::V6).collect(),
            _ => Vec::new(),
        }
    }

    /// The smallest single prefix that covers the range.
    pub fn covering_prefix(&self) -> IpNet {
        let full: u8 = if self.start.is_ipv4() { 32 } else { 128 };
        let host = IpNet::from(self.start);
        (0..=full)
            .rev()
            .filter_map(|length| IpNet::new(self.start, length).ok())
            .map(|net| net.trunc())
            .find(|net| net.contains(&self.end))
            .unwrap_or(host)
    }
}

impl From<IpNet> for AddressRange {
    fn from(net: IpNet) -> Self {
        Self { start: net.network(), end: net.broadcast() }
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefixes().as_slice() {
            [one] => write!(f, "{one}"),
            _ => write!(f, "{}-{}", self.start, self.end),
        }
    }
}

/// Port range in wire form; `OPAQUE` is start 65535, end 0 (RFC 7296 3.13.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ports {
    /// First port.
    pub start: u16,
    /// Last port.
    pub end: u16,
}

impl Ports {
    /// Every port, and packets without ports.
    pub const ANY: Self = Self { start: 0, end: 65535 };
    /// Only packets whose port field is hidden or absent.
    pub const OPAQUE: Self = Self { start: 65535, end: 0 };

    /// One port.
    pub const fn one(port: u16) -> Self {
        Self { start: port, end: port }
    }

    /// One Mobility Header type: type in the high octet, low octet zero.
    pub const fn mh_type(message_type: u8) -> Self {
        Self::one((message_type as u16) << 8)
    }

    /// One ICMPv6 type, with one code or with every code.
    pub const fn icmp(message_type: u8, code: Option<u8>) -> Self {
        let base = (message_type as u16) << 8;
        match code {
            Some(code) => Self::one(base | code as u16),
            None => Self { start: base, end: base | 0xff },
        }
    }

    /// An inclusive range of Mobility Header types, low octets zero (RFC 7296 3.13.1).
    pub const fn mh_types(first: u8, last: u8) -> Self {
        Self { start: (first as u16) << 8, end: (last as u16) << 8 }
    }

    /// Whether every port, and packets without ports, are meant.
    pub const fn is_any(self) -> bool {
        self.start == 0 && self.end == 65535
    }

    /// Whether only packets without visible ports are meant.
    pub const fn is_opaque(self) -> bool {
        self.start == 65535 && self.end == 0
    }

    /// Whether a packet with this port is in the range; never for OPAQUE.
    pub const fn contains(self, port: u16) -> bool {
        self.start <= port && port <= self.end
    }

    /// Whether everything that `other` describes is in this range. ANY covers OPAQUE (RFC 4301 4.4.1.1), a range does not.
    pub const fn covers(self, other: Self) -> bool {
        if other.is_opaque() {
            self.is_any() || self.is_opaque()
        } else {
            self.start <= other.start && other.start <= other.end && other.end <= self.end
        }
    }

    /// What both describe; `None` if nothing is, or if one of them is a backward range other than OPAQUE.
    pub fn intersect(self, other: Self) -> Option<Self> {
        if self.is_opaque() || other.is_opaque() {
            return (self.covers(Self::OPAQUE) && other.covers(Self::OPAQUE)).then_some(Self::OPAQUE);
        }
        let range = Self { start: self.start.max(other.start), end: self.end.min(other.end) };
        (range.start <= range.end).then_some(range)
    }

    /// The range with the low octets that a Mobility Header type has, so that `0x0500..0x05ff` is type 5 and nothing else.
    /// `None` if no whole type is in it.
    fn as_mh_types(self) -> Option<Self> {
        if self.is_any() || self.is_opaque() {
            return Some(self);
        }
        let first = self.start.div_ceil(256);
        let last = self.end >> 8;
        (first <= last).then_some(Self { start: first << 8, end: last << 8 })
    }
}

/// One side's entry of a traffic selector payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrafficItem {
    /// Addresses of that side.
    pub range: AddressRange,
    /// Upper protocol, 0 for any.
    pub protocol: u8,
    /// Ports or message types that this side sends from, in wire form.
    pub ports: Ports,
}

impl TrafficItem {
    /// Every packet of a range of addresses.
    pub const fn any(range: AddressRange) -> Self {
        Self { range, protocol: 0, ports: Ports::ANY }
    }

    /// One Mobility Header type sent by the addresses of a range.
    pub const fn mh_type(range: AddressRange, message_type: u8) -> Self {
        Self { range, protocol: MOBILITY_HEADER, ports: Ports::mh_type(message_type) }
    }

    /// The item with its ports in the one form that the set operations compare; `None` if it describes no packet.
    fn normalised(&self, protocol: u8) -> Option<Self> {
        let ports = if protocol == MOBILITY_HEADER { self.ports.as_mh_types()? } else { self.ports };
        (ports.start <= ports.end || ports.is_opaque()).then_some(Self { protocol, ports, ..*self })
    }

    /// The packets that both items describe. An item of protocol 0 takes the protocol of the other.
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        let protocol = common_protocol(self.protocol, other.protocol)?;
        let (this, that) = (self.normalised(protocol)?, other.normalised(protocol)?);
        let range = this.range.intersect(&that.range)?;
        //= rfc7296#3.13.1
        //# ANY is 0 to 65535 and OPAQUE is 65535 to 0; ANY holds OPAQUE, a range of ports does not.
        let ports = this.ports.intersect(that.ports)?;
        Some(Self { range, protocol, ports })
    }

    /// Whether every packet of `other` is described by this item.
    pub fn covers(&self, other: &Self) -> bool {
        let Some(that) = other.normalised(other.protocol) else { return false };
        let Some(this) = self.normalised(other.protocol) else { return false };
        (self.protocol == 0 || self.protocol == other.protocol) && this.range.covers(&that.range) && this.ports.covers(that.ports)
    }
}

/// The protocol that two items have in common, 0 being any.
const fn common_protocol(one: u8, other: u8) -> Option<u8> {
    match (one, other) {
        (0, other) => Some(other),
        (one, 0) => Some(one),
        (one, other) if one == other => Some(one),
        _ => None,
    }
}

/// The traffic of a policy or a child SA, from this host's point of view.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Traffic {
    /// What this side sends from and receives at. Never empty.
    pub local: Vec<TrafficItem>,
    /// What the other side sends from and receives at. Never empty.
    pub remote: Vec<TrafficItem>,
}

impl Traffic {
    /// Traffic of one item on each side.
    pub fn new(local: TrafficItem, remote: TrafficItem) -> Self {
        Self { local: vec![local], remote: vec![remote] }
    }

    /// The same traffic as the other end sees it.
    pub fn reversed(&self) -> Self {
        Self { local: self.remote.clone(), remote: self.local.clone() }
    }

    /// The packets that both describe, each side without repetition and of at most 255 items; `None` if there is no packet.
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        let local = intersect_items(&self.local, &other.local);
        let remote = intersect_items(&self.remote, &other.remote);
        let partnered = |item: &TrafficItem, partners: &[TrafficItem]| {
            partners.iter().any(|partner| common_protocol(item.protocol, partner.protocol).is_some())
        };
        let both = Self {
            local: local.iter().copied().filter(|item| partnered(item, &remote)).collect(),
            remote: remote.iter().copied().filter(|item| partnered(item, &local)).collect(),
        };
        (!both.local.is_empty() && !both.remote.is_empty()).then_some(both)
    }

    /// Whether each item of `other` is covered by one item of the same side here.
    pub fn covers(&self, other: &Self) -> bool {
        let side = |wide: &[TrafficItem], narrow: &[TrafficItem]| narrow.iter().all(|item| wide.iter().any(|cover| cover.covers(item)));
        side(&self.local, &other.local) && side(&self.remote, &other.remote)
    }
}

/// Intersects each with each, leaving out what another result already covers.
fn intersect_items(ours: &[TrafficItem], theirs: &[TrafficItem]) -> Vec<TrafficItem> {
    let mut found: Vec<TrafficItem> = Vec::new();
    for item in ours.iter().flat_map(|one| theirs.iter().filter_map(|other| one.intersect(other))) {
        if found.iter().any(|known| known.covers(&item)) {
            continue;
        }
        found.retain(|known| !item.covers(known));
        if found.len() < MAX_ITEMS {
            found.push(item);
        }
    }
    found
}
