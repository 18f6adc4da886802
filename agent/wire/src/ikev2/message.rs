//! Whole messages and chains of payloads (RFC 7296 sections 3.1 and 3.2).
//! Invariant: an encrypted payload is the last of its message and never inside another.

use crate::error::{Malformed, Why};
use crate::ikev2::header::{self, HEADER_LENGTH, Header};
use crate::ikev2::numbers::PayloadType;
use crate::ikev2::payload::Payload;
use crate::reader::Reader;
use crate::writer::Writer;

/// Largest number of payloads in a message, and in an encrypted payload.
pub const MAX_PAYLOADS: usize = 128;

/// Octets of the generic payload header.
pub(crate) const GENERIC_HEADER: usize = 4;

const CRITICAL: u8 = 0x80;

/// An IKEv2 message; what is inside its encrypted payload is a chain of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The header; next payload and length are set by encoding.
    pub header: Header,
    /// The payloads in the order sent.
    pub payloads: Vec<Payload>,
}

impl Message {
    /// Reads a whole datagram (without non-ESP marker).
    ///
    /// # Errors
    /// [`Malformed`]; [`Malformed::unsupported_critical`] and [`Malformed::major_version`] single out the two that
    /// have a notify of their own, everything else is INVALID_SYNTAX.
    pub fn decode(datagram: &[u8]) -> Result<Self, Malformed> {
        let header = Header::decode(datagram)?;
        //= rfc7296#2.5
        //# a message of another major version is dropped
        if header.major() != 2 {
            let why = Why::MajorVersion(header.major());
            return Err(Malformed { offset: header::VERSION_AT, payload: "header", why });
        }
        let body = datagram.get(HEADER_LENGTH..).unwrap_or_default();
        let payloads = read_payloads(header.next_payload, body, HEADER_LENGTH, Place::Outside)?;
        Ok(Self { header, payloads })
    }

    /// The bytes to send; fills in the next-payload chain and all lengths.
    /// A length that does not fit its field saturates, which every receiver refuses: callers keep messages under 64 KiB.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        self.header.write(&mut writer);
        write_payloads(&self.payloads, PayloadType::NONE, &mut writer);
        header::finish(&mut writer, first_type(&self.payloads), 0);
        writer.finish()
    }
}

/// Reads the decrypted content of an SK payload, without padding; offsets in errors start at `base_offset`.
///
/// # Errors
/// [`Malformed`], also if there is another encrypted payload inside.
pub fn decode_chain(first: PayloadType, bytes: &[u8], base_offset: usize) -> Result<Vec<Payload>, Malformed> {
    read_payloads(first, bytes, base_offset, Place::Encrypted)
}

/// The content of an SK payload before encryption, and the type of its first payload.
#[must_use]
pub fn encode_chain(payloads: &[Payload]) -> (PayloadType, Vec<u8>) {
    let mut writer = Writer::default();
    write_payloads(payloads, PayloadType::NONE, &mut writer);
    (first_type(payloads), writer.finish())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Outside,
    Encrypted,
}

fn first_type(payloads: &[Payload]) -> PayloadType {
    payloads.first().map_or(PayloadType::NONE, Payload::payload_type)
}

fn read_payloads(first: PayloadType, bytes: &[u8], offset: usize, place: Place) -> Result<Vec<Payload>, Malformed> {
    let mut reader = Reader::new(bytes, offset, "payload chain");
    let mut payloads = Vec::new();
    let mut current = first;
    while current != PayloadType::NONE {
        if payloads.len() == MAX_PAYLOADS {
            return Err(reader.fail(Why::TooMany { what: "payloads", limit: MAX_PAYLOADS }));
        }
        let encrypted = current == PayloadType::SK || current == PayloadType::SKF;
        if encrypted && place == Place::Encrypted {
            return Err(reader.fail(Why::Misplaced(current)));
        }
        let (payload, next) = read_payload(current, &mut reader)?;
        payloads.push(payload);
        //= rfc7296#3.14
        //# the encrypted payload is the last; its next-payload field is the type of the first payload inside
        if encrypted {
            break;
        }
        current = next;
    }
    reader.end()?;
    Ok(payloads)
}

fn read_payload(payload_type: PayloadType, reader: &mut Reader<'_>) -> Result<(Payload, PayloadType), Malformed> {
    let label = payload_type.label();
    let start = reader.offset();
    let mut generic = reader.inner(GENERIC_HEADER, label)?;
    let next = PayloadType(generic.u8()?);
    //= rfc7296#3.2
    //# the reserved bits are ignored on receipt, and so is the critical bit of a known type
    let critical = generic.u8()? & CRITICAL != 0;
    let said = usize::from(generic.u16()?);
    if said < GENERIC_HEADER {
        let why = Why::TooShort { said, least: GENERIC_HEADER };
        return Err(Malformed { offset: start.saturating_add(2), payload: label, why });
    }
    let mut body = reader.inner(said.saturating_sub(GENERIC_HEADER), label)?;
    Ok((Payload::decode(payload_type, critical, next, &mut body)?, next))
}

/// Appends payloads; `after` is the type that follows the last one.
pub(crate) fn write_payloads(payloads: &[Payload], after: PayloadType, writer: &mut Writer) {
    for (index, payload) in payloads.iter().enumerate() {
        let start = writer.len();
        let follows = payloads.get(index.saturating_add(1)).map_or(after, Payload::payload_type);
        let next = match payload {
            Payload::Encrypted(sk) => sk.first_inner,
            Payload::EncryptedFragment(fragment) => fragment.first_inner,
            _ => follows,
        };
        //= rfc7296#3.2
        //# the critical bit is zero in payloads of known types, the reserved bits always
        let critical = matches!(payload, Payload::Unknown { critical: true, .. });
        writer.u8(next.0);
        writer.u8(if critical { CRITICAL } else { 0 });
        let length = writer.length16(start);
        payload.encode(writer);
        writer.close(&length);
    }
}
