//! Identification payloads (RFC 7296 section 3.5).
//! Invariant: the body of a received identity can be rebuilt bit by bit, because AUTH is computed over it.

use crate::error::{Malformed, Why};
use crate::ikev2::numbers::IdType;
use crate::reader::Reader;
use crate::text::{Hex, Octets, Text};
use crate::writer::Writer;
use core::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Who a peer says it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identification {
    /// The form of the identity.
    pub id_type: IdType,
    /// Reserved octets as received; ignored, but AUTH covers them (RFC 7296 section 2.15). Zero in what we send.
    pub reserved: [u8; 3],
    /// The identity.
    pub data: Vec<u8>,
}

impl Identification {
    /// An identity of any form.
    #[must_use]
    pub const fn new(id_type: IdType, data: Vec<u8>) -> Self {
        //= rfc7296#3.5
        //# the reserved octets are sent as zero
        Self { id_type, reserved: [0; 3], data }
    }

    /// An address as identity.
    #[must_use]
    pub fn from_address(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::new(IdType::IPV4_ADDR, address.octets().to_vec()),
            IpAddr::V6(address) => Self::new(IdType::IPV6_ADDR, address.octets().to_vec()),
        }
    }

    /// The address, if the identity is one.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        match self.id_type {
            IdType::IPV4_ADDR => <[u8; 4]>::try_from(self.data.as_slice()).ok().map(|o| Ipv4Addr::from(o).into()),
            IdType::IPV6_ADDR => <[u8; 16]>::try_from(self.data.as_slice()).ok().map(|o| Ipv6Addr::from(o).into()),
            _ => None,
        }
    }

    /// The payload without its generic header: what RFC 7296 section 2.15 calls RestOfInitIDPayload and RestOfRespIDPayload.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        encode(self, &mut writer);
        writer.finish()
    }
}

impl fmt::Display for Identification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.id_type)?;
        if let Some(address) = self.address() {
            return write!(f, "{address}");
        }
        match self.id_type {
            IdType::FQDN | IdType::RFC822_ADDR | IdType::KEY_ID => Text(&self.data).fmt(f),
            IdType::DER_ASN1_DN | IdType::DER_ASN1_GN => Octets(self.data.len()).fmt(f),
            _ => Hex(&self.data).fmt(f),
        }
    }
}

pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Identification, Malformed> {
    let id_type = IdType(reader.u8()?);
    let reserved = reader.array()?;
    let octets = match id_type {
        IdType::IPV4_ADDR => Some(4),
        IdType::IPV6_ADDR => Some(16),
        _ => None,
    };
    if let Some(octets) = octets
        && reader.left() != octets
    {
        let why = Why::Size { what: "address", got: reader.left(), least: octets, most: octets };
        return Err(reader.fail(why));
    }
    Ok(Identification { id_type, reserved, data: reader.rest().to_vec() })
}

pub(crate) fn encode(id: &Identification, writer: &mut Writer) {
    writer.u8(id.id_type.0);
    writer.bytes(&id.reserved);
    writer.bytes(&id.data);
}
