//! PF_KEY octets as KAME's kernel lays them out and takes them (net/pfkeyv2.h, netinet6/ipsec.h): written apart from the back end that
//! they are for, from the headers alone, so that an error in one is not made good by the same error in the other.

use std::net::{IpAddr, Ipv6Addr};

use watari_kernel::Endpoints;

/// errno of what makes no sense.
pub(super) const EINVAL: u8 = 22;
/// Octets of the message header.
const HEADER: usize = 16;
const AF_INET: u8 = 2;
/// As in FreeBSD.
const AF_INET6: u8 = 28;

/// Message types.
pub(super) mod kind {
    pub(crate) const GETSPI: u8 = 1;
    pub(crate) const UPDATE: u8 = 2;
    pub(crate) const ADD: u8 = 3;
    pub(crate) const DELETE: u8 = 4;
    pub(crate) const GET: u8 = 5;
    pub(crate) const ACQUIRE: u8 = 6;
    pub(crate) const REGISTER: u8 = 7;
    pub(crate) const EXPIRE: u8 = 8;
    pub(crate) const FLUSH: u8 = 9;
    pub(crate) const DUMP: u8 = 10;
    pub(crate) const SPDUPDATE: u8 = 13;
    pub(crate) const SPDADD: u8 = 14;
    pub(crate) const SPDDELETE: u8 = 15;
    pub(crate) const SPDGET: u8 = 16;
    pub(crate) const SPDDUMP: u8 = 18;
    pub(crate) const SPDFLUSH: u8 = 19;
    pub(crate) const MIGRATE: u8 = 24;
}

/// Extension types.
pub(super) mod ext {
    pub(crate) const SA: u16 = 1;
    pub(crate) const LIFETIME_CURRENT: u16 = 2;
    pub(crate) const LIFETIME_HARD: u16 = 3;
    pub(crate) const LIFETIME_SOFT: u16 = 4;
    pub(crate) const SRC: u16 = 5;
    pub(crate) const DST: u16 = 6;
    pub(crate) const KEY_AUTH: u16 = 8;
    pub(crate) const KEY_ENCRYPT: u16 = 9;
    pub(crate) const PROPOSAL: u16 = 13;
    pub(crate) const SUPPORTED_AUTH: u16 = 14;
    pub(crate) const SUPPORTED_ENCRYPT: u16 = 15;
    pub(crate) const SPIRANGE: u16 = 16;
    pub(crate) const POLICY: u16 = 18;
    pub(crate) const SA2: u16 = 19;
    pub(crate) const PACKET: u16 = 27;
    /// What key_align() lets a user send; the NAT traversal of later kernels is not among it.
    pub(crate) const TAKEN: &[u16] = &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 16, 18, 19];
}

/// An extension: its type and the octets behind the four of its header.
pub(super) type Part = (u16, Vec<u8>);

/// A message from a user: what key_parse() has made sure of.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) kind: u8,
    pub(super) satype: u8,
    pub(super) seq: u32,
    pub(super) pid: u32,
    pub(super) parts: Vec<Part>,
}

/// A number of two octets in the host's order.
pub(super) fn half(octets: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(octets.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

/// A number of four octets in the host's order.
pub(super) fn word(octets: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(octets.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// A number of eight octets in the host's order.
pub(super) fn long(octets: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(octets.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

impl Request {
    /// Reads a message, or tells the errno with which it is refused.
    pub(super) fn read(octets: &[u8]) -> Result<Self, u8> {
        Self::parse(octets).ok_or(EINVAL)
    }

    fn parse(octets: &[u8]) -> Option<Self> {
        let [version, kind, _, satype, ..] = *octets else { return None };
        let whole = usize::from(half(octets, 4)?).checked_mul(8)?;
        if version != 2 || whole != octets.len() {
            return None;
        }
        let mut parts: Vec<Part> = Vec::new();
        let mut rest = octets.get(HEADER..)?;
        while !rest.is_empty() {
            let (length, number) = (usize::from(half(rest, 0)?).checked_mul(8)?, half(rest, 2)?);
            let (this, behind) = rest.split_at_checked(length).filter(|_| length > 0)?;
            if !ext::TAKEN.contains(&number) || parts.iter().any(|(known, _)| *known == number) {
                return None;
            }
            parts.push((number, this.get(4..)?.to_vec()));
            rest = behind;
        }
        let request = Self { kind, satype, seq: word(octets, 8)?, pid: word(octets, 12)?, parts };
        request.fits_its_type().then_some(request)
    }

    /// Messages about SAs name a type of SA, those about policies none; both addresses are of one family, length and protocol.
    fn fits_its_type(&self) -> bool {
        let about_sas =
            matches!(self.kind, kind::GETSPI | kind::UPDATE | kind::ADD | kind::DELETE | kind::GET | kind::ACQUIRE | kind::EXPIRE);
        let typed = match self.satype {
            0 => !about_sas || (self.kind == kind::ACQUIRE && self.parts.is_empty()),
            2 | 3 => !(13..=22).contains(&self.kind),
            _ => false,
        };
        let addresses = match (self.part(ext::SRC), self.part(ext::DST)) {
            (Some(src), Some(dst)) => match (Address::read(src), Address::read(dst)) {
                (Some(src), Some(dst)) => src.address.is_ipv4() == dst.address.is_ipv4() && src.protocol == dst.protocol,
                _ => false,
            },
            _ => true,
        };
        typed && addresses
    }

    /// What stands in an extension behind its header.
    pub(super) fn part(&self, number: u16) -> Option<&[u8]> {
        self.parts.iter().find(|(known, _)| *known == number).map(|(_, octets)| octets.as_slice())
    }

    /// Source and destination.
    pub(super) fn addresses(&self) -> Option<(Address, Address)> {
        Some((Address::read(self.part(ext::SRC)?)?, Address::read(self.part(ext::DST)?)?))
    }

    /// Source and destination without what belongs to policies.
    pub(super) fn endpoints(&self) -> Option<Endpoints> {
        self.addresses().map(|(src, dst)| Endpoints { src: src.address, dst: dst.address })
    }

    /// The parts of these types in this order, where they are there, as key_gather_mbuf() puts them together.
    pub(super) fn gather(&self, numbers: &[u16]) -> Vec<Part> {
        numbers.iter().filter_map(|number| Some((*number, self.part(*number)?.to_vec()))).collect()
    }
}

/// sadb_address with its sockaddr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) protocol: u8,
    pub(super) prefix: u8,
    pub(super) address: IpAddr,
    pub(super) port: u16,
}

impl Address {
    /// A host of any protocol, as the addresses of an SA are told.
    pub(super) const fn host(address: IpAddr) -> Self {
        Self { protocol: 255, prefix: if address.is_ipv4() { 32 } else { 128 }, address, port: 0 }
    }

    fn read(part: &[u8]) -> Option<Self> {
        let [protocol, prefix, ..] = *part else { return None };
        let (address, port, _) = read_sockaddr(part.get(4..)?)?;
        (prefix <= if address.is_ipv4() { 32 } else { 128 }).then_some(Self { protocol, prefix, address, port })
    }

    /// The extension behind its header.
    pub(super) fn octets(self) -> Vec<u8> {
        let mut octets = vec![self.protocol, self.prefix, 0, 0];
        octets.extend(sockaddr(self.address, self.port));
        octets
    }
}

/// `struct sockaddr_in` or `sockaddr_in6`: its own length comes first.
pub(super) fn sockaddr(address: IpAddr, port: u16) -> Vec<u8> {
    let mut octets = match address {
        IpAddr::V4(_) => vec![16, AF_INET],
        IpAddr::V6(_) => vec![28, AF_INET6],
    };
    octets.extend(port.to_be_bytes());
    match address {
        IpAddr::V4(address) => {
            octets.extend(address.octets());
            octets.extend([0; 8]);
        }
        IpAddr::V6(address) => {
            octets.extend([0; 4]);
            octets.extend(address.octets());
            octets.extend([0; 4]);
        }
    }
    octets
}

/// Address, port and what follows.
fn read_sockaddr(octets: &[u8]) -> Option<(IpAddr, u16, &[u8])> {
    let port = u16::from_be_bytes(octets.get(2..4)?.try_into().ok()?);
    match (octets.first()?, octets.get(1)?) {
        (16, &AF_INET) => {
            let raw: [u8; 4] = octets.get(4..8)?.try_into().ok()?;
            Some((IpAddr::from(raw), port, octets.get(16..)?))
        }
        (28, &AF_INET6) => {
            let raw: [u8; 16] = octets.get(8..24)?.try_into().ok()?;
            Some((IpAddr::V6(Ipv6Addr::from(raw)), port, octets.get(28..)?))
        }
        _ => None,
    }
}

/// `struct sadb_x_ipsecrequest` with its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IpsecRequest {
    pub(super) protocol: u16,
    pub(super) mode: u8,
    /// 1 use, 2 require, 3 unique.
    pub(super) level: u8,
    pub(super) reqid: u16,
    pub(super) endpoints: Option<Endpoints>,
}

impl IpsecRequest {
    /// Takes one off the front.
    pub(super) fn read(octets: &[u8]) -> Option<(Self, &[u8])> {
        let (this, rest) = octets.split_at_checked(half(octets, 0)?.into()).filter(|(this, _)| this.len() >= 8)?;
        let addresses = this.get(8..)?;
        let endpoints = if addresses.is_empty() {
            None
        } else {
            let (src, _, behind) = read_sockaddr(addresses)?;
            let (dst, _, _) = read_sockaddr(behind)?;
            Some(Endpoints { src, dst })
        };
        let request = Self { protocol: half(this, 2)?, mode: *this.get(4)?, level: *this.get(5)?, reqid: half(this, 6)?, endpoints };
        Some((request, rest))
    }

    /// Eight octets, then source and destination without a gap, rounded up to eight; the length counts octets.
    pub(super) fn octets(self) -> Vec<u8> {
        let mut tail = Vec::new();
        if let Some(ends) = self.endpoints {
            tail.extend(sockaddr(ends.src, 0));
            tail.extend(sockaddr(ends.dst, 0));
        }
        tail.resize(tail.len().next_multiple_of(8), 0);
        let length = u16::try_from(tail.len().saturating_add(8)).unwrap_or(u16::MAX);
        let mut octets = length.to_ne_bytes().to_vec();
        octets.extend(self.protocol.to_ne_bytes());
        octets.extend([self.mode, self.level]);
        octets.extend(self.reqid.to_ne_bytes());
        octets.extend(tail);
        octets
    }
}

/// The head of a message that the kernel writes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Head {
    pub(super) kind: u8,
    pub(super) errno: u8,
    pub(super) satype: u8,
    pub(super) seq: u32,
    pub(super) pid: u32,
}

impl Head {
    /// The head of the answer to a request.
    pub(super) const fn answer(request: &Request) -> Self {
        Self { kind: request.kind, errno: 0, satype: request.satype, seq: request.seq, pid: request.pid }
    }

    /// The whole message: every part with its header, rounded up to eight octets.
    pub(super) fn message(self, parts: &[Part]) -> Vec<u8> {
        let units = |octets: usize| u16::try_from(octets / 8).unwrap_or(u16::MAX);
        let mut body = Vec::new();
        for (number, part) in parts {
            let padded = part.len().saturating_add(4).next_multiple_of(8);
            body.extend(units(padded).to_ne_bytes());
            body.extend(number.to_ne_bytes());
            body.extend(part);
            body.resize(body.len().saturating_add(padded.saturating_sub(part.len()).saturating_sub(4)), 0);
        }
        let mut octets = vec![2, self.kind, self.errno, self.satype];
        octets.extend(units(HEADER.saturating_add(body.len())).to_ne_bytes());
        octets.extend([0, 0]);
        octets.extend(self.seq.to_ne_bytes());
        octets.extend(self.pid.to_ne_bytes());
        octets.extend(body);
        octets
    }
}
