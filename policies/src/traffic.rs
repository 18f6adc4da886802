//! Traffic of a policy or child SA as IKE sees it: local and remote address ranges, upper protocol, ports or message types.
//! Ports are in wire form: MH type in the high octet, ICMPv6 type and code in the two octets (RFC 7296 3.13.1).

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

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
    pub const ANY_V6: Self =
        Self { start: IpAddr::V6(Ipv6Addr::UNSPECIFIED), end: IpAddr::V6(Ipv6Addr::from_bits(u128::MAX)) };

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

/// The traffic of a policy or a child SA, from this host's point of view.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Traffic {
    /// What this side sends from and receives at. Never empty.
    pub local: Vec<TrafficItem>,
    /// What the other side sends from and receives at. Never empty.
    pub remote: Vec<TrafficItem>,
}
