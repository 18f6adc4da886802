//! The configuration payload (RFC 7296 section 3.15). Values are kept raw; the accessors read the common forms.

use crate::error::{Malformed, Why};
use crate::ikev2::numbers::{CfgAttributeType, CfgType};
use crate::reader::Reader;
use crate::text::{Octets, Text};
use crate::writer::Writer;
use core::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Largest number of attributes in one payload.
pub const MAX_CFG_ATTRIBUTES: usize = 1024;

const RESERVED_BIT: u16 = 0x8000;

/// Requests or assigns addresses and the like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// Request, reply, set or acknowledgement.
    pub cfg_type: CfgType,
    /// What is asked or given, in the order sent.
    pub attributes: Vec<CfgAttribute>,
}

/// One attribute of a configuration payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CfgAttribute {
    /// Which attribute; 15 bits.
    pub attribute_type: CfgAttributeType,
    /// Its value; empty in a request means "any".
    pub value: Vec<u8>,
}

impl CfgAttribute {
    /// An attribute without value, as in a request.
    #[must_use]
    pub const fn empty(attribute_type: CfgAttributeType) -> Self {
        Self { attribute_type, value: Vec::new() }
    }

    /// The address a value of 4, 16 or 17 (prefix length behind it) octets begins with.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        match self.value.len() {
            4 => <[u8; 4]>::try_from(self.value.as_slice()).ok().map(|octets| Ipv4Addr::from(octets).into()),
            16 | 17 => self.value.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets).into()),
            _ => None,
        }
    }

    /// The prefix length in bits of a value of 17 octets.
    #[must_use]
    pub fn prefix_length(&self) -> Option<u8> {
        self.value.get(16).copied().filter(|bits| self.value.len() == 17 && *bits <= 128)
    }
}

impl fmt::Display for CfgAttribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.attribute_type)?;
        match (self.attribute_type, self.address(), self.prefix_length()) {
            (_, _, _) if self.value.is_empty() => Ok(()),
            (CfgAttributeType::APPLICATION_VERSION, _, _) => write!(f, " {}", Text(&self.value)),
            (_, Some(address), Some(bits)) => write!(f, " {address}/{bits}"),
            (_, Some(address), None) => write!(f, " {address}"),
            _ => write!(f, " {}", Octets(self.value.len())),
        }
    }
}

pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Configuration, Malformed> {
    let cfg_type = CfgType(reader.u8()?);
    //= rfc7296#3.15
    //# the reserved octets are ignored on receipt
    reader.take(3)?;
    let mut attributes = Vec::new();
    while !reader.is_empty() {
        if attributes.len() == MAX_CFG_ATTRIBUTES {
            return Err(reader.fail(Why::TooMany { what: "configuration attributes", limit: MAX_CFG_ATTRIBUTES }));
        }
        //= rfc7296#3.15.1
        //# the reserved bit is ignored on receipt
        let attribute_type = CfgAttributeType(reader.u16()? & !RESERVED_BIT);
        let length = reader.u16()?;
        attributes.push(CfgAttribute { attribute_type, value: reader.take(usize::from(length))?.to_vec() });
    }
    Ok(Configuration { cfg_type, attributes })
}

pub(crate) fn encode(configuration: &Configuration, writer: &mut Writer) {
    writer.u8(configuration.cfg_type.0);
    //= rfc7296#3.15
    //# the reserved octets are sent as zero
    writer.bytes(&[0; 3]);
    for attribute in &configuration.attributes {
        //= rfc7296#3.15.1
        //# the reserved bit is sent as zero
        writer.u16(attribute.attribute_type.0 & !RESERVED_BIT);
        writer.count16(attribute.value.len());
        writer.bytes(&attribute.value);
    }
}
