//! Reads captures (pcap, Ethernet or raw IP) and names what each packet is, behind tunnels, destination options and routing
//! headers. Deliberately independent of the agent's codecs.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use crate::uml::{Context, Failure, Result};

/// What a packet is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// ESP, or ESP in UDP port 4500.
    Esp { spi: u32, sequence: u32, in_udp: bool },
    /// AH (its content is in clear).
    Ah { spi: u32 },
    /// An IKE message on port 500 or 4500, without the non-ESP marker.
    Ike { message: Vec<u8> },
    /// The single octet 0xff on port 4500.
    NatKeepalive,
    /// A Mobility Header message (RFC 6275) of the given type, in clear.
    MobilityHeader { kind: u8 },
    /// ICMPv6.
    Icmpv6 { kind: u8, code: u8 },
    /// ICMP.
    Icmp { kind: u8 },
    /// UDP other than IKE.
    Udp { from: u16, to: u16 },
    /// TCP.
    Tcp { from: u16, to: u16 },
    /// A fragment other than the first, of the given upper protocol.
    Fragment { protocol: u8 },
    /// Another upper protocol.
    Other { protocol: u8 },
    /// Not IP.
    Link { ethertype: u16 },
    /// Cut short or malformed.
    Broken,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Esp { in_udp: false, .. } => f.write_str("ESP"),
            Self::Esp { .. } => f.write_str("ESP in UDP"),
            Self::Ah { .. } => f.write_str("AH"),
            Self::Ike { .. } => f.write_str("IKE"),
            Self::NatKeepalive => f.write_str("NAT keepalive"),
            Self::MobilityHeader { kind } => write!(f, "MH type {kind}"),
            Self::Icmpv6 { kind, .. } => write!(f, "ICMPv6 type {kind}"),
            Self::Icmp { kind } => write!(f, "ICMP type {kind}"),
            Self::Udp { from, to } => write!(f, "UDP {from} > {to}"),
            Self::Tcp { from, to } => write!(f, "TCP {from} > {to}"),
            Self::Fragment { protocol } => write!(f, "fragment of protocol {protocol}"),
            Self::Other { protocol } => write!(f, "protocol {protocol}"),
            Self::Link { ethertype } => write!(f, "ethertype {ethertype:#06x}"),
            Self::Broken => f.write_str("broken packet"),
        }
    }
}

/// One packet of a capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packet {
    /// Place in the file, from 1, as tshark counts.
    pub(crate) number: usize,
    /// Capture time in microseconds since 1970.
    pub(crate) time_us: u64,
    /// Source in the innermost IP header that is readable.
    pub(crate) source: IpAddr,
    /// Destination in the innermost IP header that is readable.
    pub(crate) destination: IpAddr,
    /// Address in a home address destination option.
    pub(crate) home_address: Option<Ipv6Addr>,
    /// Address in a type 2 routing header.
    pub(crate) routing: Option<Ipv6Addr>,
    /// Source and destination of the IP headers around it, outermost first.
    pub(crate) tunnels: Vec<(IpAddr, IpAddr)>,
    /// What it is.
    pub(crate) kind: Kind,
}

/// A whole capture.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Capture {
    /// Its packets in the order of the file.
    pub(crate) packets: Vec<Packet>,
}

const ETHERNET: u32 = 1;
const RAW_IP: [u32; 3] = [12, 101, 228];
const RAW_IPV6: u32 = 229;

impl Capture {
    /// Reads a file.
    pub(crate) fn read(file: &Path) -> Result<Self> {
        let bytes = std::fs::read(file).context(file.display())?;
        Self::parse(&bytes).context(file.display())
    }

    /// Reads the content of a file. A last record cut short (the writer was killed) ends the list.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let magic: [u8; 4] = field(bytes, 0).ok_or_else(|| Failure::new("empty capture"))?;
        let (little, nanoseconds) = match u32::from_le_bytes(magic) {
            0xa1b2_c3d4 => (true, false),
            0xa1b2_3c4d => (true, true),
            0xd4c3_b2a1 => (false, false),
            0x4d3c_b2a1 => (false, true),
            other => return Err(Failure(format!("no pcap file: magic number {other:#010x}"))),
        };
        let word = |at: usize| -> Option<u32> {
            let raw: [u8; 4] = field(bytes, at)?;
            Some(if little { u32::from_le_bytes(raw) } else { u32::from_be_bytes(raw) })
        };
        let link_type = word(20).ok_or_else(|| Failure::new("capture header cut short"))? & 0xffff;
        let mut packets = Vec::new();
        let mut at = 24;
        while let (Some(seconds), Some(fraction), Some(length)) = (word(at), word(at + 4), word(at + 8)) {
            let from = at + 16;
            let Some(data) = bytes.get(from..from.saturating_add(length as usize)) else {
                break;
            };
            let fraction = if nanoseconds { fraction / 1000 } else { fraction };
            let mut packet = Packet {
                number: packets.len() + 1,
                time_us: u64::from(seconds) * 1_000_000 + u64::from(fraction),
                source: Ipv6Addr::UNSPECIFIED.into(),
                destination: Ipv6Addr::UNSPECIFIED.into(),
                home_address: None,
                routing: None,
                tunnels: Vec::new(),
                kind: Kind::Broken,
            };
            packet.kind = packet.dissect(link_type, data).unwrap_or(Kind::Broken);
            packets.push(packet);
            at = from + data.len();
        }
        Ok(Self { packets })
    }

    /// The IKE messages, in order.
    pub(crate) fn ike_messages(&self) -> impl Iterator<Item = (&Packet, &[u8])> {
        self.packets.iter().filter_map(|packet| match &packet.kind {
            Kind::Ike { message } => Some((packet, message.as_slice())),
            _ => None,
        })
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    field(bytes, at).map(u16::from_be_bytes)
}

fn whole(bytes: &[u8], at: usize) -> Option<u32> {
    field(bytes, at).map(u32::from_be_bytes)
}

impl Packet {
    fn dissect(&mut self, link_type: u32, data: &[u8]) -> Option<Kind> {
        match link_type {
            ETHERNET => {
                let mut at = 12;
                let mut ethertype = half(data, at)?;
                while matches!(ethertype, 0x8100 | 0x88a8) {
                    at += 4;
                    ethertype = half(data, at)?;
                }
                let rest = data.get(at + 2..)?;
                match ethertype {
                    0x0800 => self.ipv4(rest),
                    0x86dd => self.ipv6(rest),
                    _ => Some(Kind::Link { ethertype }),
                }
            }
            RAW_IPV6 => self.ipv6(data),
            other if RAW_IP.contains(&other) => match data.first()? >> 4 {
                4 => self.ipv4(data),
                _ => self.ipv6(data),
            },
            _ => None,
        }
    }

    fn enter(&mut self, source: IpAddr, destination: IpAddr, inside: bool) {
        if inside {
            self.tunnels.push((self.source, self.destination));
        }
        self.source = source;
        self.destination = destination;
    }

    fn is_inside(&self) -> bool {
        !self.source.is_unspecified() || !self.destination.is_unspecified()
    }

    fn ipv4(&mut self, data: &[u8]) -> Option<Kind> {
        let header = usize::from(data.first()? & 15) * 4;
        let length = usize::from(half(data, 2)?);
        let protocol = *data.get(9)?;
        let source = Ipv4Addr::from(field::<4>(data, 12)?);
        let destination = Ipv4Addr::from(field::<4>(data, 16)?);
        let inside = self.is_inside();
        self.enter(source.into(), destination.into(), inside);
        if half(data, 6)? & 0x1fff != 0 {
            return Some(Kind::Fragment { protocol });
        }
        // Ethernet pads short frames: what counts is the length in the header.
        self.upper(protocol, data.get(header..length.min(data.len()))?)
    }

    fn ipv6(&mut self, data: &[u8]) -> Option<Kind> {
        let length = usize::from(half(data, 4)?);
        let mut next = *data.get(6)?;
        let source = Ipv6Addr::from(field::<16>(data, 8)?);
        let destination = Ipv6Addr::from(field::<16>(data, 24)?);
        let inside = self.is_inside();
        self.enter(source.into(), destination.into(), inside);
        let mut rest = data.get(40..(40 + length).min(data.len()))?;
        loop {
            let size = match next {
                0 | 43 | 60 => 8 + usize::from(*rest.get(1)?) * 8,
                44 => 8,
                _ => return self.upper(next, rest),
            };
            let header = rest.get(..size)?;
            match next {
                60 => self.home_address = home_address(header).or(self.home_address),
                43 if header.get(2) == Some(&2) => {
                    self.routing = field::<16>(header, 8).map(Ipv6Addr::from);
                }
                44 if half(header, 2)? & 0xfff8 != 0 => {
                    return Some(Kind::Fragment { protocol: *header.first()? });
                }
                _ => {}
            }
            next = *header.first()?;
            rest = rest.get(size..)?;
        }
    }

    fn upper(&mut self, protocol: u8, data: &[u8]) -> Option<Kind> {
        Some(match protocol {
            1 => Kind::Icmp { kind: *data.first()? },
            4 => return self.ipv4(data),
            6 => Kind::Tcp { from: half(data, 0)?, to: half(data, 2)? },
            17 => return udp(data),
            41 => return self.ipv6(data),
            50 => esp(data, false)?,
            51 => Kind::Ah { spi: whole(data, 4)? },
            58 => Kind::Icmpv6 { kind: *data.first()?, code: *data.get(1)? },
            135 => Kind::MobilityHeader { kind: *data.get(2)? },
            _ => Kind::Other { protocol },
        })
    }
}

fn esp(data: &[u8], in_udp: bool) -> Option<Kind> {
    Some(Kind::Esp { spi: whole(data, 0)?, sequence: whole(data, 4)?, in_udp })
}

fn udp(data: &[u8]) -> Option<Kind> {
    let (from, to) = (half(data, 0)?, half(data, 2)?);
    let payload = data.get(8..)?;
    Some(if from == 4500 || to == 4500 {
        match payload {
            [0xff] => Kind::NatKeepalive,
            [0, 0, 0, 0, message @ ..] => Kind::Ike { message: message.to_vec() },
            _ => return esp(payload, true),
        }
    } else if from == 500 || to == 500 {
        Kind::Ike { message: payload.to_vec() }
    } else {
        Kind::Udp { from, to }
    })
}

/// The home address destination option (type 201) in a destination options header.
fn home_address(header: &[u8]) -> Option<Ipv6Addr> {
    let mut rest = header.get(2..)?;
    loop {
        match rest {
            [0, after @ ..] => rest = after,
            [201, 16, after @ ..] => return field::<16>(after, 0).map(Ipv6Addr::from),
            [_, length, after @ ..] => rest = after.get(usize::from(*length)..)?,
            _ => return None,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const COA: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xf1, 0, 0, 0, 0, 5);
    const HOA: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 5);
    const HA: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);

    pub(crate) fn ipv6(next: u8, source: Ipv6Addr, destination: Ipv6Addr, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![0x60, 0, 0, 0];
        out.extend((payload.len() as u16).to_be_bytes());
        out.extend([next, 64]);
        out.extend(source.octets());
        out.extend(destination.octets());
        out.extend(payload);
        out
    }

    /// A pcap file of Ethernet frames around the given IPv6 packets, one second apart.
    pub(crate) fn pcap(packets: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, 1] {
            out.extend(word.to_le_bytes());
        }
        for (second, packet) in packets.iter().enumerate() {
            let length = packet.len() as u32 + 14;
            for word in [second as u32, 7, length, length] {
                out.extend(word.to_le_bytes());
            }
            out.extend([0; 12]);
            out.extend([0x86, 0xdd]);
            out.extend(packet);
        }
        out
    }

    fn one(packet: Vec<u8>) -> Packet {
        Capture::parse(&pcap(&[packet])).unwrap().packets[0].clone()
    }

    #[test]
    fn a_binding_update_is_found_behind_its_home_address_option() {
        let mut payload = vec![135, 2, 1, 2, 0, 0, 201, 16];
        payload.extend(HOA.octets());
        payload.extend([59, 1, 5, 0, 0, 0, 0, 0]);
        let packet = one(ipv6(60, COA, HA, &payload));
        assert_eq!(packet.kind, Kind::MobilityHeader { kind: 5 });
        assert_eq!(packet.home_address, Some(HOA));
        assert_eq!(packet.time_us, 7);
    }

    #[test]
    fn protected_mobility_is_esp_and_keeps_its_routing_header() {
        let mut payload = vec![50, 2, 2, 1, 0, 0, 0, 0];
        payload.extend(HOA.octets());
        payload.extend([0, 0, 0x20, 1, 0, 0, 0, 9]);
        let packet = one(ipv6(43, HA, COA, &payload));
        let esp = Kind::Esp { spi: 0x2001, sequence: 9, in_udp: false };
        assert_eq!((packet.kind, packet.routing), (esp, Some(HOA)));
    }

    #[test]
    fn a_tunnel_shows_what_is_inside() {
        let inner = ipv6(58, HOA, HA, &[128, 0, 0, 0]);
        let packet = one(ipv6(41, COA, HA, &inner));
        assert_eq!(packet.kind, Kind::Icmpv6 { kind: 128, code: 0 });
        assert_eq!(packet.source, IpAddr::V6(HOA));
        assert_eq!(packet.tunnels, [(IpAddr::V6(COA), IpAddr::V6(HA))]);
    }

    #[test]
    fn port_4500_tells_ike_from_esp_from_keepalive() {
        let kind = |payload: &[u8]| {
            let mut udp = vec![0x11, 0x94, 0x11, 0x94, 0, 0, 0, 0];
            udp.extend(payload);
            one(ipv6(17, COA, HA, &udp)).kind
        };
        assert_eq!(kind(&[0xff]), Kind::NatKeepalive);
        assert_eq!(kind(&[0, 0, 0, 0, 1, 2]), Kind::Ike { message: vec![1, 2] });
        assert!(matches!(kind(&[0, 0, 1, 0, 0, 0, 0, 1]), Kind::Esp { in_udp: true, spi: 256, .. }));
    }

    #[test]
    fn a_cut_packet_is_broken_and_a_cut_file_ends() {
        assert_eq!(one(vec![0x60; 20]).kind, Kind::Broken);
        let mut file = pcap(&[ipv6(59, COA, HA, &[]), ipv6(59, COA, HA, &[])]);
        file.truncate(file.len() - 1);
        assert_eq!(Capture::parse(&file).unwrap().packets.len(), 1);
        assert!(Capture::parse(b"nonsense").is_err());
    }
}
