//! The security association payload: proposals, transforms, attributes (RFC 7296 section 3.3).
//! Decides nothing about algorithms; unknown transforms and attributes are kept for the negotiation to skip.

use crate::error::{Malformed, Why};
use crate::ikev2::numbers::{AttributeType, ProtocolId, TransformType};
use crate::reader::Reader;
use crate::writer::Writer;

/// Largest number of proposals in one SA payload.
pub const MAX_PROPOSALS: usize = 128;
/// Largest number of attributes in one transform.
pub const MAX_ATTRIBUTES: usize = 16;

const LAST: u8 = 0;
const MORE_PROPOSALS: u8 = 2;
const MORE_TRANSFORMS: u8 = 3;
const TRANSFORM_HEADER: usize = 8;
const PROPOSAL_HEADER: usize = 8;
const FIXED_FORMAT: u16 = 0x8000;

/// One proposal: a protocol and the transforms to choose from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Position in the offer, from 1; an answer repeats the number it chose.
    pub number: u8,
    /// The protocol the SA is for.
    pub protocol: ProtocolId,
    /// The sender's SPI: empty in IKE_SA_INIT, 8 octets in an IKE rekey, 4 octets for AH and ESP.
    pub spi: Vec<u8>,
    /// What may be chosen, of each type in order of preference.
    pub transforms: Vec<Transform>,
}

/// One transform: an algorithm, perhaps with a key length.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Transform {
    /// What is chosen.
    pub transform_type: TransformType,
    /// Which algorithm; the number space depends on the type.
    pub id: u16,
    /// Attributes, normally none or a key length.
    pub attributes: Vec<Attribute>,
}

/// An attribute of a transform.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attribute {
    /// Which attribute; 15 bits.
    pub attribute_type: AttributeType,
    /// Its value, which also says its format.
    pub value: AttributeValue,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum AttributeValue {
    /// Two octets in place of the length (type/value format).
    Short(u16),
    /// Type/length/value format.
    Long(Vec<u8>),
}

impl Transform {
    /// A transform without attributes.
    #[must_use]
    pub const fn new(transform_type: TransformType, id: u16) -> Self {
        Self { transform_type, id, attributes: Vec::new() }
    }

    /// A transform with a key length in bits.
    #[must_use]
    pub fn with_key_length(transform_type: TransformType, id: u16, bits: u16) -> Self {
        //= rfc7296#3.3.5
        //# the key length attribute has the type/value format
        let value = AttributeValue::Short(bits);
        Self { transform_type, id, attributes: vec![Attribute { attribute_type: AttributeType::KEY_LENGTH, value }] }
    }

    /// The key length in bits, if one is given.
    #[must_use]
    pub fn key_length(&self) -> Option<u16> {
        self.attributes.iter().find_map(|attribute| match attribute {
            Attribute { attribute_type: AttributeType::KEY_LENGTH, value: AttributeValue::Short(bits) } => Some(*bits),
            _ => None,
        })
    }

    /// Whether it holds an attribute other than one key length; such a transform must not be chosen (RFC 7296 section 3.3.6).
    #[must_use]
    pub fn has_unknown_attribute(&self) -> bool {
        let understood = usize::from(self.key_length().is_some());
        self.attributes.len() != understood
    }
}

/// Reads the body of an SA payload.
pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Vec<Proposal>, Malformed> {
    let mut proposals = Vec::new();
    loop {
        if proposals.len() == MAX_PROPOSALS {
            return Err(reader.fail(Why::TooMany { what: "proposals", limit: MAX_PROPOSALS }));
        }
        let (mut proposal, more) = substructure(reader, "proposal", PROPOSAL_HEADER, MORE_PROPOSALS)?;
        proposals.push(decode_proposal(&mut proposal)?);
        proposal.end()?;
        if !more {
            return Ok(proposals);
        }
    }
}

/// Reads the first four octets of a proposal or transform; yields the rest of it and whether another follows.
fn substructure<'a>(reader: &mut Reader<'a>, name: &'static str, least: usize, more_mark: u8) -> Result<(Reader<'a>, bool), Malformed> {
    let start = reader.offset();
    let mark = reader.u8()?;
    //= rfc7296#3.3.1
    //# reserved octets are ignored on receipt
    reader.u8()?;
    let said = usize::from(reader.u16()?);
    if said < least {
        return Err(Malformed { offset: start.saturating_add(2), payload: name, why: Why::TooShort { said, least } });
    }
    let body = reader.inner(said.saturating_sub(4), name)?;
    let more = !reader.is_empty();
    let expected = if more { more_mark } else { LAST };
    if mark != expected {
        let why = Why::Value { field: "last-substructure mark", got: u64::from(mark) };
        return Err(Malformed { offset: start, payload: name, why });
    }
    Ok((body, more))
}

fn decode_proposal(reader: &mut Reader<'_>) -> Result<Proposal, Malformed> {
    let number = reader.u8()?;
    let protocol = ProtocolId(reader.u8()?);
    let spi_size = reader.u8()?;
    let count_at = reader.offset();
    let count = usize::from(reader.u8()?);
    let spi = reader.take(usize::from(spi_size))?.to_vec();
    let mut transforms = Vec::new();
    while !reader.is_empty() {
        let (mut transform, _) = substructure(reader, "transform", TRANSFORM_HEADER, MORE_TRANSFORMS)?;
        transforms.push(decode_transform(&mut transform)?);
        if transforms.len() > count {
            break;
        }
    }
    if transforms.len() != count {
        let why = Why::Disagree { field: "number of transforms", said: count, found: transforms.len() };
        return Err(reader.fail_at(count_at, why));
    }
    Ok(Proposal { number, protocol, spi, transforms })
}

fn decode_transform(reader: &mut Reader<'_>) -> Result<Transform, Malformed> {
    let transform_type = TransformType(reader.u8()?);
    reader.u8()?;
    let id = reader.u16()?;
    let mut attributes = Vec::new();
    while !reader.is_empty() {
        if attributes.len() == MAX_ATTRIBUTES {
            return Err(reader.fail(Why::TooMany { what: "attributes", limit: MAX_ATTRIBUTES }));
        }
        attributes.push(decode_attribute(reader)?);
    }
    Ok(Transform { transform_type, id, attributes })
}

fn decode_attribute(reader: &mut Reader<'_>) -> Result<Attribute, Malformed> {
    let format_and_type = reader.u16()?;
    let attribute_type = AttributeType(format_and_type & !FIXED_FORMAT);
    let field = reader.u16()?;
    let value = if format_and_type & FIXED_FORMAT == 0 {
        AttributeValue::Long(reader.take(usize::from(field))?.to_vec())
    } else {
        AttributeValue::Short(field)
    };
    Ok(Attribute { attribute_type, value })
}

/// Writes the body of an SA payload.
pub(crate) fn encode(proposals: &[Proposal], writer: &mut Writer) {
    for (index, proposal) in proposals.iter().enumerate() {
        let start = writer.len();
        let last = index.saturating_add(1) == proposals.len();
        writer.u8(if last { LAST } else { MORE_PROPOSALS });
        writer.u8(0);
        let length = writer.length16(start);
        writer.u8(proposal.number);
        writer.u8(proposal.protocol.0);
        writer.count8(proposal.spi.len());
        writer.count8(proposal.transforms.len());
        writer.bytes(&proposal.spi);
        encode_transforms(&proposal.transforms, writer);
        writer.close(&length);
    }
}

fn encode_transforms(transforms: &[Transform], writer: &mut Writer) {
    for (index, transform) in transforms.iter().enumerate() {
        let start = writer.len();
        let last = index.saturating_add(1) == transforms.len();
        writer.u8(if last { LAST } else { MORE_TRANSFORMS });
        writer.u8(0);
        let length = writer.length16(start);
        writer.u8(transform.transform_type.0);
        writer.u8(0);
        writer.u16(transform.id);
        for attribute in &transform.attributes {
            encode_attribute(attribute, writer);
        }
        writer.close(&length);
    }
}

fn encode_attribute(attribute: &Attribute, writer: &mut Writer) {
    let attribute_type = attribute.attribute_type.0 & !FIXED_FORMAT;
    match &attribute.value {
        AttributeValue::Short(value) => {
            writer.u16(attribute_type | FIXED_FORMAT);
            writer.u16(*value);
        }
        AttributeValue::Long(value) => {
            writer.u16(attribute_type);
            writer.count16(value.len());
            writer.bytes(value);
        }
    }
}
