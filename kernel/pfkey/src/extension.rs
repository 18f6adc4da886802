//! Extension numbers and the structures that both dialects share.

use std::net::IpAddr;

use watari_kernel::{Encapsulation, Endpoints, SaLifetime};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::dialect::Dialect;
use crate::message::{Head, Message, Outgoing, Part};

pub(crate) const SA: u16 = 1;
pub(crate) const LIFETIME_CURRENT: u16 = 2;
pub(crate) const LIFETIME_HARD: u16 = 3;
pub(crate) const LIFETIME_SOFT: u16 = 4;
pub(crate) const ADDRESS_SRC: u16 = 5;
pub(crate) const ADDRESS_DST: u16 = 6;
pub(crate) const ADDRESS_PROXY: u16 = 7;
pub(crate) const KEY_AUTH: u16 = 8;
pub(crate) const KEY_ENCRYPT: u16 = 9;
pub(crate) const SUPPORTED_AUTH: u16 = 14;
pub(crate) const SUPPORTED_ENCRYPT: u16 = 15;
pub(crate) const SPIRANGE: u16 = 16;
pub(crate) const X_POLICY: u16 = 18;
pub(crate) const X_SA2: u16 = 19;
pub(crate) const X_NAT_T_TYPE: u16 = 20;
pub(crate) const X_NAT_T_SPORT: u16 = 21;
pub(crate) const X_NAT_T_DPORT: u16 = 22;
/// Linux only; KAME uses the number for X_TAG.
pub(crate) const X_KMADDRESS: u16 = 25;
/// KAME only.
pub(crate) const X_PACKET: u16 = 27;

pub(crate) const SATYPE_UNSPEC: u8 = 0;
pub(crate) const SATYPE_AH: u8 = 2;
pub(crate) const SATYPE_ESP: u8 = 3;

/// UDP_ENCAP_ESPINUDP.
const ESP_IN_UDP: u8 = 2;

/// `struct sadb_sa`.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct RawSa {
    pub(crate) head: Head,
    pub(crate) spi: [u8; 4],
    pub(crate) replay: u8,
    pub(crate) state: u8,
    pub(crate) auth: u8,
    pub(crate) encrypt: u8,
    pub(crate) flags: u32,
}

/// `struct sadb_lifetime`.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct RawLifetime {
    pub(crate) head: Head,
    pub(crate) allocations: u32,
    pub(crate) bytes: u64,
    pub(crate) addtime: u64,
    pub(crate) usetime: u64,
}

/// `struct sadb_key` up to the key.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct RawKey {
    pub(crate) head: Head,
    pub(crate) bits: u16,
    pub(crate) reserved: u16,
}

/// `struct sadb_spirange`.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct RawSpiRange {
    pub(crate) head: Head,
    pub(crate) min: u32,
    pub(crate) max: u32,
    pub(crate) reserved: u32,
}

/// `struct sadb_x_sa2`.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct RawSa2 {
    pub(crate) head: Head,
    pub(crate) mode: u8,
    pub(crate) reserved1: u8,
    pub(crate) reserved2: u16,
    pub(crate) sequence: u32,
    pub(crate) reqid: u32,
}

/// `struct sadb_x_policy`.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct RawPolicy {
    pub(crate) head: Head,
    pub(crate) policy_type: u16,
    pub(crate) dir: u8,
    pub(crate) reserved: u8,
    pub(crate) id: u32,
    /// The priority in Linux, reserved in KAME.
    pub(crate) priority: u32,
}

/// `struct sadb_x_kmaddress` up to the addresses, `struct sadb_supported`, `struct sadb_x_packet` up to the packet.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct RawWord {
    pub(crate) head: Head,
    pub(crate) value: u32,
}

/// `struct sadb_alg`.
#[derive(Clone, Copy, FromBytes, Immutable)]
#[repr(C)]
pub(crate) struct RawAlgorithm {
    pub(crate) id: u8,
    pub(crate) iv: u8,
    pub(crate) min_bits: u16,
    pub(crate) max_bits: u16,
    pub(crate) reserved: u16,
}

/// `struct sadb_x_nat_t_port`.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct RawPort {
    head: Head,
    port: [u8; 2],
    reserved: u16,
}

/// `struct sadb_address` up to the sockaddr.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct RawAddress {
    head: Head,
    proto: u8,
    prefix_len: u8,
    reserved: u16,
}

/// An address extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) protocol: u8,
    pub(crate) prefix_len: u8,
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
}

impl Address {
    /// The address of a host, of no protocol.
    pub(crate) const fn host(address: IpAddr) -> Self {
        Self { protocol: 0, prefix_len: if address.is_ipv4() { 32 } else { 128 }, address, port: 0 }
    }

    /// Reads an address extension.
    pub(crate) fn read(dialect: Dialect, part: Part<'_>) -> Result<Self, String> {
        let (raw, rest) = part.take::<RawAddress>("address extension")?;
        let (address, port, _) = dialect.sockaddr(rest)?;
        Ok(Self { protocol: raw.proto, prefix_len: raw.prefix_len, address, port })
    }

    /// Writes it as an extension.
    pub(crate) fn write(&self, dialect: Dialect, kind: u16, out: &mut Outgoing) -> Result<(), String> {
        let raw = RawAddress { proto: self.protocol, prefix_len: self.prefix_len, ..RawAddress::default() };
        out.push(kind, &raw, &dialect.raw_sockaddr(self.address, self.port))
    }
}

/// Source and destination of an SA.
pub(crate) fn endpoints(dialect: Dialect, message: &Message<'_>) -> Result<Endpoints, String> {
    let src = Address::read(dialect, message.required(ADDRESS_SRC, "ADDRESS_SRC")?)?.address;
    let dst = Address::read(dialect, message.required(ADDRESS_DST, "ADDRESS_DST")?)?.address;
    Ok(Endpoints { src, dst })
}

/// Writes source and destination of an SA.
pub(crate) fn write_endpoints(dialect: Dialect, ends: Endpoints, out: &mut Outgoing) -> Result<(), String> {
    if ends.src.is_ipv4() != ends.dst.is_ipv4() {
        return Err(format!("end points {ends} are of different families"));
    }
    Address::host(ends.src).write(dialect, ADDRESS_SRC, out)?;
    Address::host(ends.dst).write(dialect, ADDRESS_DST, out)
}

/// Writes both limits, or neither: one alone is refused by every kernel.
pub(crate) fn write_lifetime(lifetime: &SaLifetime, out: &mut Outgoing) -> Result<(), String> {
    if *lifetime == SaLifetime::default() {
        return Ok(());
    }
    // A limit of packets that 32 bits cannot hold is none that a kernel could reach early.
    let packets = |limit: u64| u32::try_from(limit).unwrap_or(u32::MAX);
    let hard = RawLifetime {
        allocations: packets(lifetime.hard_packets),
        bytes: lifetime.hard_bytes,
        addtime: lifetime.hard_seconds,
        ..RawLifetime::default()
    };
    let soft = RawLifetime {
        allocations: packets(lifetime.soft_packets),
        bytes: lifetime.soft_bytes,
        addtime: lifetime.soft_seconds,
        ..RawLifetime::default()
    };
    out.push(LIFETIME_HARD, &hard, &[])?;
    out.push(LIFETIME_SOFT, &soft, &[])
}

/// Writes UDP encapsulation (RFC 3948).
pub(crate) fn write_encapsulation(ports: Encapsulation, out: &mut Outgoing) -> Result<(), String> {
    out.push(X_NAT_T_TYPE, &RawWord { value: u32::from_ne_bytes([ESP_IN_UDP, 0, 0, 0]), ..RawWord::default() }, &[])?;
    let port = |number: u16| RawPort { port: number.to_be_bytes(), ..RawPort::default() };
    out.push(X_NAT_T_SPORT, &port(ports.source_port), &[])?;
    out.push(X_NAT_T_DPORT, &port(ports.destination_port), &[])
}
