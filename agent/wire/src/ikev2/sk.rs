//! Framing of the encrypted payload SK (RFC 7296 section 3.14) and of its fragments SKF (RFC 7383 section 2.5).
//! Nothing is decrypted here. Invariant: a prefix is exactly what an AEAD authenticates.

use crate::error::{Malformed, Why};
use crate::ikev2::header::{self, Header};
use crate::ikev2::message::{GENERIC_HEADER, write_payloads};
use crate::ikev2::numbers::PayloadType;
use crate::ikev2::payload::Payload;
use crate::reader::Reader;
use crate::writer::Writer;

/// Octets of fragment number and total in an SKF payload.
const FRAGMENT_HEADER: usize = 4;

/// An SK payload, still encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncryptedPayload {
    /// Type of the first payload inside.
    pub first_inner: PayloadType,
    /// IV, ciphertext and integrity check value.
    pub body: Vec<u8>,
    /// Octets from the start of the message to `body`: an AEAD authenticates exactly `message[..offset]`.
    pub offset: usize,
}

/// An SKF payload, still encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncryptedFragment {
    /// Type of the first payload inside the whole message; meaningful in fragment 1, zero in the others.
    pub first_inner: PayloadType,
    /// Number of this fragment, from 1.
    pub number: u16,
    /// Number of fragments.
    pub total: u16,
    /// IV, ciphertext and integrity check value.
    pub body: Vec<u8>,
    /// Octets from the start of the message to `body`: an AEAD authenticates exactly `message[..offset]`.
    pub offset: usize,
}

pub(crate) fn decode(first_inner: PayloadType, reader: &mut Reader<'_>) -> EncryptedPayload {
    let offset = reader.offset();
    EncryptedPayload { first_inner, body: reader.rest().to_vec(), offset }
}

pub(crate) fn decode_fragment(first_inner: PayloadType, reader: &mut Reader<'_>) -> Result<EncryptedFragment, Malformed> {
    let at = reader.offset();
    let number = reader.u16()?;
    let total = reader.u16()?;
    //= rfc7383#2.5
    //# fragments are numbered from 1 to their total, which is not zero
    if number == 0 || number > total {
        return Err(reader.fail_at(at, Why::Value { field: "fragment number", got: u64::from(number) }));
    }
    let offset = reader.offset();
    Ok(EncryptedFragment { first_inner, number, total, body: reader.rest().to_vec(), offset })
}

pub(crate) fn encode_fragment(fragment: &EncryptedFragment, writer: &mut Writer) {
    writer.u16(fragment.number);
    writer.u16(fragment.total);
    writer.bytes(&fragment.body);
}

/// Everything in front of the body of an SK payload, with all lengths final: the associated data of an AEAD.
/// The caller appends `body_len` octets of IV, ciphertext and integrity check value.
#[must_use]
pub fn encrypted_prefix(header: &Header, cleartext: &[Payload], first_inner: PayloadType, body_len: usize) -> Vec<u8> {
    let sk = EncryptedPayload { first_inner, body: Vec::new(), offset: 0 };
    prefix(header, cleartext, Payload::Encrypted(sk), GENERIC_HEADER, body_len)
}

/// The same for fragment `number` of `total`; `first_inner` is sent in fragment 1 only.
#[must_use]
pub fn fragment_prefix(
    header: &Header,
    cleartext: &[Payload],
    first_inner: PayloadType,
    (number, total): (u16, u16),
    body_len: usize,
) -> Vec<u8> {
    //= rfc7383#2.5
    //# next payload is zero in every fragment but the first
    let first_inner = if number == 1 { first_inner } else { PayloadType::NONE };
    let skf = EncryptedFragment { first_inner, number, total, body: Vec::new(), offset: 0 };
    prefix(header, cleartext, Payload::EncryptedFragment(skf), GENERIC_HEADER.saturating_add(FRAGMENT_HEADER), body_len)
}

fn prefix(ike: &Header, cleartext: &[Payload], last: Payload, framing: usize, body_len: usize) -> Vec<u8> {
    let mut writer = Writer::default();
    let first = cleartext.first().unwrap_or(&last).payload_type();
    ike.write(&mut writer);
    write_payloads(cleartext, last.payload_type(), &mut writer);
    let length_at = writer.len().saturating_add(2);
    write_payloads(core::slice::from_ref(&last), PayloadType::NONE, &mut writer);
    let payload_length = u16::try_from(framing.saturating_add(body_len)).unwrap_or(u16::MAX);
    writer.patch(length_at, &payload_length.to_be_bytes());
    header::finish(&mut writer, first, body_len);
    writer.finish()
}
