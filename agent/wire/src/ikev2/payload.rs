//! One value per payload of RFC 7296, and the payload body <-> value dispatch.
//! Invariant: a payload of unknown type is kept with its critical bit unless that bit refuses the message.

use crate::error::{Malformed, Why};
use crate::ikev2::cp::Configuration;
use crate::ikev2::delete::Delete;
use crate::ikev2::eap::EapMessage;
use crate::ikev2::id::Identification;
use crate::ikev2::notify::Notify;
use crate::ikev2::numbers::{AuthMethod, CertEncoding, PayloadType};
use crate::ikev2::sa::Proposal;
use crate::ikev2::sk::{EncryptedFragment, EncryptedPayload};
use crate::ikev2::ts::TrafficSelector;
use crate::ikev2::{auth, cert, cp, delete, eap, id, ke, nonce, notify, sa, sk, ts};
use crate::reader::Reader;
use crate::writer::Writer;

/// A payload of an IKEv2 message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// SA: what is offered or chosen.
    SecurityAssociation(Vec<Proposal>),
    /// KE: a public value.
    KeyExchange {
        /// Number of the key exchange method ([`crate::ikev2::KeyExchangeId`]).
        group: u16,
        /// The public value.
        data: Vec<u8>,
    },
    /// IDi: who the initiator is.
    IdInitiator(Identification),
    /// IDr: who the responder is, or who the initiator wants it to be.
    IdResponder(Identification),
    /// CERT: a certificate or a part of a chain.
    Certificate {
        /// What `data` is.
        encoding: CertEncoding,
        /// The certificate.
        data: Vec<u8>,
    },
    /// CERTREQ: which certificates the sender accepts.
    CertificateRequest {
        /// What is wanted.
        encoding: CertEncoding,
        /// For X.509 the SHA-1 hashes of the accepted authorities' public key infos, 20 octets each.
        authorities: Vec<u8>,
    },
    /// AUTH: the proof of the sender's identity.
    Authentication {
        /// How it was made.
        method: AuthMethod,
        /// The proof.
        data: Vec<u8>,
    },
    /// Ni or Nr, 16 to 256 octets.
    Nonce(Vec<u8>),
    /// N: an error or a status.
    Notify(Notify),
    /// D: SAs the sender has deleted.
    Delete(Delete),
    /// V: which implementation or extension the sender is.
    VendorId(Vec<u8>),
    /// TSi: traffic of the initiator's side.
    TrafficInitiator(Vec<TrafficSelector>),
    /// TSr: traffic of the responder's side.
    TrafficResponder(Vec<TrafficSelector>),
    /// SK: payloads that are still encrypted; always the last payload.
    Encrypted(EncryptedPayload),
    /// SKF: a fragment of an SK payload; always the last payload.
    EncryptedFragment(EncryptedFragment),
    /// CP: addresses and other settings asked or given.
    Configuration(Configuration),
    /// EAP: one message of an EAP conversation.
    Eap(EapMessage),
    /// A payload of a type this codec does not know.
    Unknown {
        /// The type.
        payload_type: PayloadType,
        /// The critical bit to send; always `false` in what was received.
        critical: bool,
        /// Everything behind the generic header.
        body: Vec<u8>,
    },
}

impl Payload {
    /// The type it has on the wire.
    #[must_use]
    pub const fn payload_type(&self) -> PayloadType {
        match self {
            Self::SecurityAssociation(_) => PayloadType::SA,
            Self::KeyExchange { .. } => PayloadType::KE,
            Self::IdInitiator(_) => PayloadType::IDI,
            Self::IdResponder(_) => PayloadType::IDR,
            Self::Certificate { .. } => PayloadType::CERT,
            Self::CertificateRequest { .. } => PayloadType::CERTREQ,
            Self::Authentication { .. } => PayloadType::AUTH,
            Self::Nonce(_) => PayloadType::NONCE,
            Self::Notify(_) => PayloadType::NOTIFY,
            Self::Delete(_) => PayloadType::DELETE,
            Self::VendorId(_) => PayloadType::VENDOR,
            Self::TrafficInitiator(_) => PayloadType::TSI,
            Self::TrafficResponder(_) => PayloadType::TSR,
            Self::Encrypted(_) => PayloadType::SK,
            Self::EncryptedFragment(_) => PayloadType::SKF,
            Self::Configuration(_) => PayloadType::CP,
            Self::Eap(_) => PayloadType::EAP,
            Self::Unknown { payload_type, .. } => *payload_type,
        }
    }

    /// Reads a body that fills `reader`; `next` is the type in its generic header, which SK uses for its content.
    pub(crate) fn decode(payload_type: PayloadType, critical: bool, next: PayloadType, reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let payload = match payload_type {
            PayloadType::SA => Self::SecurityAssociation(sa::decode(reader)?),
            PayloadType::KE => ke::decode(reader)?,
            PayloadType::IDI => Self::IdInitiator(id::decode(reader)?),
            PayloadType::IDR => Self::IdResponder(id::decode(reader)?),
            PayloadType::CERT => cert::decode(reader)?,
            PayloadType::CERTREQ => cert::decode_request(reader)?,
            PayloadType::AUTH => auth::decode(reader)?,
            PayloadType::NONCE => Self::Nonce(nonce::decode(reader)?),
            PayloadType::NOTIFY => Self::Notify(notify::decode(reader)?),
            PayloadType::DELETE => Self::Delete(delete::decode(reader)?),
            PayloadType::VENDOR => Self::VendorId(reader.rest().to_vec()),
            PayloadType::TSI => Self::TrafficInitiator(ts::decode(reader)?),
            PayloadType::TSR => Self::TrafficResponder(ts::decode(reader)?),
            PayloadType::SK => Self::Encrypted(sk::decode(next, reader)),
            PayloadType::SKF => Self::EncryptedFragment(sk::decode_fragment(next, reader)?),
            PayloadType::CP => Self::Configuration(cp::decode(reader)?),
            PayloadType::EAP => Self::Eap(eap::decode(reader)?),
            //= rfc7296#2.5
            //# an unknown payload with the critical bit set refuses the whole message
            _ if critical => return Err(reader.fail(Why::UnsupportedCritical(payload_type))),
            //= rfc7296#2.5
            //# an unknown payload without the critical bit is skipped
            _ => Self::Unknown { payload_type, critical, body: reader.rest().to_vec() },
        };
        reader.end()?;
        Ok(payload)
    }

    /// Writes the body.
    pub(crate) fn encode(&self, writer: &mut Writer) {
        match self {
            Self::SecurityAssociation(proposals) => sa::encode(proposals, writer),
            Self::KeyExchange { group, data } => ke::encode(*group, data, writer),
            Self::IdInitiator(identity) | Self::IdResponder(identity) => id::encode(identity, writer),
            Self::Certificate { encoding, data } => cert::encode(*encoding, data, writer),
            Self::CertificateRequest { encoding, authorities } => cert::encode(*encoding, authorities, writer),
            Self::Authentication { method, data } => auth::encode(*method, data, writer),
            Self::Nonce(value) | Self::VendorId(value) => writer.bytes(value),
            Self::Notify(value) => notify::encode(value, writer),
            Self::Delete(value) => delete::encode(value, writer),
            Self::TrafficInitiator(selectors) | Self::TrafficResponder(selectors) => ts::encode(selectors, writer),
            Self::Encrypted(sk) => writer.bytes(&sk.body),
            Self::EncryptedFragment(fragment) => sk::encode_fragment(fragment, writer),
            Self::Configuration(configuration) => cp::encode(configuration, writer),
            Self::Eap(message) => eap::encode(message, writer),
            Self::Unknown { body, .. } => writer.bytes(body),
        }
    }
}
