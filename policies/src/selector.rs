//! The selector of one direction, as kernels hold it: prefixes, upper protocol, masked ports.
//! For Mobility Header and ICMPv6 the type sits in `sport` in both directions (RFC 4301 4.4.1.1 as Linux lays it out).

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

/// Upper protocol number of ICMPv6.
pub const ICMPV6: u8 = 58;
/// Upper protocol number of ICMP for IPv4.
pub const ICMP: u8 = 1;
/// Upper protocol number of the IPv6 Mobility Header (RFC 6275 6.1).
pub const MOBILITY_HEADER: u8 = 135;

/// Which packets a policy or an SA looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Packets that arrive for this host.
    In,
    /// Packets that leave this host.
    Out,
    /// Packets that are forwarded (Linux checks them against a policy of their own).
    Forward,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::In => "in",
            Self::Out => "out",
            Self::Forward => "fwd",
        })
    }
}

/// A 16-bit value under a mask; mask 0 matches everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortMask {
    /// The value, in host order.
    pub value: u16,
    /// Bits of the value that count.
    pub mask: u16,
}

impl PortMask {
    /// Matches every value.
    pub const ANY: Self = Self { value: 0, mask: 0 };

    /// Matches one value.
    pub const fn exact(value: u16) -> Self {
        Self { value, mask: 0xffff }
    }

    /// Whether `value` matches.
    pub const fn matches(self, value: u16) -> bool {
        value & self.mask == self.value & self.mask
    }
}

/// The packets of one direction, as a kernel's SPD or SAD describes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector {
    /// Source prefix of the packet.
    pub src: IpNet,
    /// Destination prefix of the packet.
    pub dst: IpNet,
    /// Upper protocol, 0 for any.
    pub protocol: u8,
    /// Source port; for MH and ICMPv6 the message type.
    pub sport: PortMask,
    /// Destination port; for ICMPv6 the code, always any for MH.
    pub dport: PortMask,
}

impl Selector {
    /// A selector for every packet between two prefixes.
    pub const fn between(src: IpNet, dst: IpNet) -> Self {
        Self { src, dst, protocol: 0, sport: PortMask::ANY, dport: PortMask::ANY }
    }

    /// The same selector for one upper protocol.
    pub const fn protocol(mut self, protocol: u8) -> Self {
        self.protocol = protocol;
        self
    }

    /// The same selector for one MH or ICMPv6 message type.
    pub const fn message_type(mut self, message_type: u8) -> Self {
        self.sport = PortMask::exact(message_type as u16);
        self
    }

    /// The selector of the answering direction's addresses: source and destination prefixes exchanged, types and ports left as they are
    /// because a type belongs to the side that sends it.
    pub const fn reversed_addresses(mut self) -> Self {
        (self.src, self.dst) = (self.dst, self.src);
        self
    }

    /// Whether a packet with these fields is covered. For MH and ICMPv6 `sport` is the type, `dport` the code (0 for MH).
    pub fn matches(&self, src: IpAddr, dst: IpAddr, protocol: u8, sport: u16, dport: u16) -> bool {
        self.src.contains(&src)
            && self.dst.contains(&dst)
            && (self.protocol == 0 || self.protocol == protocol)
            && self.sport.matches(sport)
            && self.dport.matches(dport)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.src, self.dst)?;
        match (self.protocol, self.sport.mask) {
            (0, _) => Ok(()),
            (MOBILITY_HEADER, 0) => f.write_str(" mobility-header"),
            (MOBILITY_HEADER, _) => write!(f, " mobility-header type {}", self.sport.value),
            (ICMPV6, 0) => f.write_str(" icmpv6"),
            (ICMPV6, _) if self.dport.mask != 0 => write!(f, " icmpv6 type {} code {}", self.sport.value, self.dport.value),
            (ICMPV6, _) => write!(f, " icmpv6 type {}", self.sport.value),
            (protocol, 0) if self.dport.mask == 0 => write!(f, " protocol {protocol}"),
            (protocol, _) => write!(
                f,
                " protocol {protocol} ports {}/{:x} -> {}/{:x}",
                self.sport.value, self.sport.mask, self.dport.value, self.dport.mask
            ),
        }
    }
}
