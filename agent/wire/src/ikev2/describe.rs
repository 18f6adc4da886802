//! A message in words: one line for the header, one per payload, nested by indentation.
//! Logs, tests and the decode command share it. Invariant: no nonce, key, AUTH value or ciphertext is printed, only its length.

use crate::ikev2::message::Message;
use crate::ikev2::numbers::{AttributeType, TransformType};
use crate::ikev2::payload::Payload;
use crate::ikev2::sa::{Attribute, AttributeValue, Proposal, Transform};
use crate::ikev2::vendor;
use crate::text::{Hex, Octets};
use core::fmt;

/// The message in words, lines separated by newlines, without one at the end.
#[must_use]
pub fn describe(message: &Message) -> String {
    message.to_string()
}

/// A chain of payloads in words, each line indented by `indent` steps of two spaces.
#[must_use]
pub fn describe_payloads(payloads: &[Payload], indent: usize) -> String {
    let step = "  ".repeat(indent);
    let lines = payloads.iter().flat_map(|payload| {
        let text = payload.to_string();
        text.lines().map(|line| format!("{step}{line}")).collect::<Vec<_>>()
    });
    lines.collect::<Vec<_>>().join("\n")
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.header)?;
        if self.payloads.is_empty() { Ok(()) } else { write!(f, "\n{}", describe_payloads(&self.payloads, 1)) }
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.payload_type())?;
        match self {
            Self::SecurityAssociation(proposals) => nested(f, proposals),
            Self::KeyExchange { group, data } => {
                write!(f, " {} {}", TransformType::KE.transform_name(*group), Octets(data.len()))
            }
            Self::IdInitiator(identity) | Self::IdResponder(identity) => write!(f, " {identity}"),
            Self::Certificate { encoding, data } => write!(f, " {encoding} {}", Octets(data.len())),
            Self::CertificateRequest { encoding, authorities } => {
                write!(f, " {encoding} {}", Octets(authorities.len()))
            }
            Self::Authentication { method, data } => write!(f, " {method} {}", Octets(data.len())),
            Self::Nonce(nonce) => write!(f, " {}", Octets(nonce.len())),
            Self::Notify(notify) => write!(f, " {notify}"),
            Self::Delete(delete) => write!(f, " {delete}"),
            Self::VendorId(id) => vendor::describe(id, f),
            Self::TrafficInitiator(selectors) | Self::TrafficResponder(selectors) => nested(f, selectors),
            Self::Encrypted(sk) => write!(f, " {}, first inside {}", Octets(sk.body.len()), sk.first_inner),
            Self::EncryptedFragment(fragment) => {
                write!(f, " fragment {} of {}, {}", fragment.number, fragment.total, Octets(fragment.body.len()))
            }
            Self::Configuration(configuration) => {
                write!(f, " {}", configuration.cfg_type)?;
                nested(f, &configuration.attributes)
            }
            Self::Eap(message) => write!(f, " {message}"),
            Self::Unknown { body, .. } => write!(f, " {}", Octets(body.len())),
        }
    }
}

fn nested(f: &mut fmt::Formatter<'_>, items: &[impl fmt::Display]) -> fmt::Result {
    items.iter().try_for_each(|item| write!(f, "\n  {item}"))
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "proposal {} {}", self.number, self.protocol)?;
        if !self.spi.is_empty() {
            write!(f, " SPI {}", Hex(&self.spi))?;
        }
        for (index, transform) in self.transforms.iter().enumerate() {
            write!(f, "{}{transform}", if index == 0 { ": " } else { ", " })?;
        }
        Ok(())
    }
}

impl fmt::Display for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.transform_type, self.transform_type.transform_name(self.id))?;
        self.attributes.iter().try_for_each(|attribute| attribute.fmt(f))
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.attribute_type, &self.value) {
            (AttributeType::KEY_LENGTH, AttributeValue::Short(bits)) => write!(f, "-{bits}"),
            (attribute_type, AttributeValue::Short(value)) => write!(f, " {attribute_type}={value}"),
            (attribute_type, AttributeValue::Long(value)) => write!(f, " {attribute_type}={}", Hex(value)),
        }
    }
}
