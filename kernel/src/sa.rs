//! Security associations as a kernel holds them.

use std::fmt;
use std::net::IpAddr;

use watari_policies::algorithm::ChildSuite;
use watari_policies::{Mode, Protocol, Reqid, Secret, Selector};

/// Security parameter index; 0 is never a real SA (RFC 4303 2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spi(pub u32);

impl fmt::Display for Spi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// The outer addresses of an SA or template, in the direction of its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoints {
    /// Address the packets leave from.
    pub src: IpAddr,
    /// Address the packets go to.
    pub dst: IpAddr,
}

impl Endpoints {
    /// The end points of the opposite direction.
    pub const fn reversed(self) -> Self {
        Self { src: self.dst, dst: self.src }
    }

    /// Whether both ends are the unspecified address, as in a transport template.
    pub fn is_unspecified(&self) -> bool {
        self.src.is_unspecified() && self.dst.is_unspecified()
    }
}

impl fmt::Display for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.src, self.dst)
    }
}

/// What names an SA uniquely: destination, protocol, SPI (RFC 4301 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SaId {
    /// Destination address of the SA's packets.
    pub dst: IpAddr,
    /// IPsec protocol.
    pub protocol: Protocol,
    /// Security parameter index.
    pub spi: Spi,
}

/// Keys of one direction; AEAD keys carry their salt at the end.
#[derive(Clone, Debug, PartialEq)]
pub struct SaKeys {
    /// Algorithms and extended sequence numbers.
    pub suite: ChildSuite,
    /// Encryption key, with the salt for AEAD.
    pub encryption: Secret,
    /// Integrity key, empty for AEAD.
    pub integrity: Secret,
}

/// Limits handed to the kernel as a safety net; zero means none. The agent's own timers come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SaLifetime {
    /// Age in seconds at which a soft EXPIRE is reported.
    pub soft_seconds: u64,
    /// Age in seconds at which the kernel removes the SA.
    pub hard_seconds: u64,
    /// Octets for a soft EXPIRE.
    pub soft_bytes: u64,
    /// Octets at which the kernel removes the SA.
    pub hard_bytes: u64,
    /// Packets for a soft EXPIRE.
    pub soft_packets: u64,
    /// Packets at which the kernel removes the SA.
    pub hard_packets: u64,
}

/// UDP encapsulation of ESP (RFC 3948).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encapsulation {
    /// UDP source port of the SA's packets.
    pub source_port: u16,
    /// UDP destination port of the SA's packets.
    pub destination_port: u16,
}

/// Everything needed to install one SA.
#[derive(Clone, Debug, PartialEq)]
pub struct SaParameters {
    /// Destination, protocol and SPI.
    pub id: SaId,
    /// Source address of the SA's packets.
    pub src: IpAddr,
    /// Encapsulation mode.
    pub mode: Mode,
    /// Ties the SA to its policy.
    pub reqid: Reqid,
    /// The packets the SA may carry; SAs are always installed with it.
    pub selector: Selector,
    /// Algorithms and keys.
    pub keys: SaKeys,
    /// Anti-replay window in packets; 0 for outbound SAs.
    pub replay_window: u32,
    /// Kernel-side limits.
    pub lifetime: SaLifetime,
    /// UDP encapsulation, if any.
    pub encapsulation: Option<Encapsulation>,
}

impl SaParameters {
    /// The SA's end points in its own direction.
    pub const fn endpoints(&self) -> Endpoints {
        Endpoints { src: self.src, dst: self.id.dst }
    }
}

/// An SA or state as a query or dump shows it, without keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaInfo {
    /// Destination address.
    pub dst: IpAddr,
    /// Source address.
    pub src: IpAddr,
    /// IP protocol number: 50 ESP, 51 AH, 60 destination options, 43 routing header (Mobile IPv6 states).
    pub protocol: u8,
    /// Security parameter index, 0 for larval states of an ACQUIRE and for Mobile IPv6 states.
    pub spi: Spi,
    /// Mode, `None` for modes that are neither transport nor tunnel (Mobile IPv6 route optimisation).
    pub mode: Option<Mode>,
    /// Reqid.
    pub reqid: Reqid,
    /// Selector; `None` where the kernel holds none (family 0).
    pub selector: Option<Selector>,
    /// Care-of address of a Mobile IPv6 state.
    pub care_of: Option<IpAddr>,
    /// Whether the state still waits for keys (an SPI allocated, or an ACQUIRE under way).
    pub larval: bool,
    /// Octets carried.
    pub bytes: u64,
    /// Packets carried.
    pub packets: u64,
    /// Seconds since the Unix epoch at which it was added; 0 if unknown.
    pub added: u64,
    /// Seconds since the Unix epoch of its last use, or of its first where the kernel tells no more (PF_KEY); 0 if never used.
    pub used: u64,
}

impl SaInfo {
    /// The id of the SA, if it is an ESP or AH SA.
    pub const fn id(&self) -> Option<SaId> {
        let protocol = match self.protocol {
            50 => Protocol::Esp,
            51 => Protocol::Ah,
            _ => return None,
        };
        Some(SaId { dst: self.dst, protocol, spi: self.spi })
    }
}
