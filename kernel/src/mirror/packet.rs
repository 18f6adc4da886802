//! Packets as the mirror sees them: addresses, Mobile IPv6 headers, upper protocol, and symbolic ESP.
//! Invariant: an ESP body opens only under the same suite, keys, salt and SPI that closed it.

use std::net::IpAddr;

use watari_policies::Mode;
use watari_policies::algorithm::ChildSuite;

use crate::{SaKeys, Spi};

/// What a packet carries, before any protection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upper {
    /// Upper protocol number.
    pub protocol: u8,
    /// Source port; for MH and ICMPv6 the message type.
    pub sport: u16,
    /// Destination port; for ICMPv6 the code, 0 for MH.
    pub dport: u16,
    /// Upper-layer octets; the mirror never looks at them.
    pub payload: Vec<u8>,
}

/// A packet on a wire or inside a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source address of the IP header.
    pub src: IpAddr,
    /// Destination address of the IP header.
    pub dst: IpAddr,
    /// Home Address destination option (RFC 6275 6.3).
    pub hao: Option<IpAddr>,
    /// Type 2 routing header (RFC 6275 6.4).
    pub rt2: Option<IpAddr>,
    /// Everything behind the IP and extension headers.
    pub body: Body,
}

/// Everything behind the IP and extension headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// In clear.
    Clear(Upper),
    /// Under ESP.
    Esp(Esp),
}

/// A symbolic ESP packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Esp {
    /// SPI.
    pub spi: Spi,
    /// Sequence number, from 1.
    pub sequence: u64,
    /// Stands for cipher and ICV.
    pub digest: KeyDigest,
    /// What it protects.
    pub inner: Box<Inner>,
}

/// What an ESP packet protects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inner {
    /// Transport mode: the rest of the same packet.
    Transport(Body),
    /// Tunnel mode: a whole packet.
    Tunnel(Packet),
}

impl Inner {
    pub(crate) const fn mode(&self) -> Mode {
        match self {
            Self::Transport(_) => Mode::Transport,
            Self::Tunnel(_) => Mode::Tunnel,
        }
    }
}

/// A digest of suite and keys; equal exactly if both ends hold the same. Not a cryptographic hash: it keeps secrets out of packets, nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyDigest(u64);

impl KeyDigest {
    /// Digest of an SA's keys and algorithms (FNV-1a, 64 bits).
    pub fn of(keys: &SaKeys) -> Self {
        let ChildSuite { cipher, integrity, esn } = keys.suite;
        let names = [cipher.name(), integrity.map_or("", |integrity| integrity.name()), if esn { "esn" } else { "" }];
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut take = |octets: &[u8]| {
            for octet in octets.iter().chain(&[0xff, 0xfe]) {
                hash = (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        names.iter().for_each(|name| take(name.as_bytes()));
        take(keys.encryption.expose());
        take(keys.integrity.expose());
        Self(hash)
    }
}

impl Packet {
    /// A packet in clear.
    pub const fn clear(src: IpAddr, dst: IpAddr, upper: Upper) -> Self {
        Self { src, dst, hao: None, rt2: None, body: Body::Clear(upper) }
    }

    /// What a packet in clear carries; `None` under ESP.
    pub const fn upper(&self) -> Option<&Upper> {
        match &self.body {
            Body::Clear(upper) => Some(upper),
            Body::Esp(_) => None,
        }
    }

    /// The packet that an observer with all keys would see in the end: every ESP header opened, HAO and RT2 put back in place.
    pub fn innermost(&self) -> Self {
        let mut packet = self.clone();
        loop {
            packet.src = packet.hao.take().unwrap_or(packet.src);
            packet.dst = packet.rt2.take().unwrap_or(packet.dst);
            match packet.body {
                Body::Clear(_) => return packet,
                Body::Esp(esp) => match *esp.inner {
                    Inner::Transport(body) => packet.body = body,
                    Inner::Tunnel(inner) => packet = inner,
                },
            }
        }
    }

    /// Whether any ESP header is left on the packet.
    pub const fn is_protected(&self) -> bool {
        matches!(self.body, Body::Esp(_))
    }
}
