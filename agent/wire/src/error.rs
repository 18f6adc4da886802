//! Why bytes are no message. Decides nothing about the answer: `agent/ikev2` turns a `Malformed` into a notify.
//! Invariant: `offset` counts octets from the start of the IKE header, so that a person can find the octet in a capture.

use crate::ikev2::PayloadType;

/// Bytes that are not a well-formed message, with the place and the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed {payload} at offset {offset}: {why}")]
pub struct Malformed {
    /// Octets from the start of the IKE header to the field at fault.
    pub offset: usize,
    /// Name of the payload, or of the structure in it, that was being read.
    pub payload: &'static str,
    /// What is wrong with it.
    pub why: Why,
}

impl Malformed {
    /// The payload type to report in UNSUPPORTED_CRITICAL_PAYLOAD (RFC 7296 section 2.5), if that is what happened.
    #[must_use]
    pub const fn unsupported_critical(&self) -> Option<PayloadType> {
        match self.why {
            Why::UnsupportedCritical(payload_type) => Some(payload_type),
            _ => None,
        }
    }

    /// The major version the peer used, if it is not the one of this codec (RFC 7296 section 2.5, INVALID_MAJOR_VERSION).
    #[must_use]
    pub const fn major_version(&self) -> Option<u8> {
        match self.why {
            Why::MajorVersion(major) => Some(major),
            _ => None,
        }
    }
}

/// The reason inside a [`Malformed`]. All but `UnsupportedCritical` and `MajorVersion` are INVALID_SYNTAX on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Why {
    /// A field reaches past the end of what encloses it.
    #[error("needs {needed} octets but {left} are left")]
    Truncated {
        /// Octets the field takes.
        needed: usize,
        /// Octets that are there.
        left: usize,
    },
    /// Octets are left over after the last field.
    #[error("{0} octets too many")]
    Trailing(usize),
    /// A length field is smaller than the header it counts.
    #[error("length field says {said}, at least {least} is needed")]
    TooShort {
        /// The value of the length field.
        said: usize,
        /// The smallest value that makes sense.
        least: usize,
    },
    /// The length field of the header and the datagram disagree.
    #[error("header says {said} octets but the datagram has {datagram}")]
    DatagramLength {
        /// The value of the length field.
        said: usize,
        /// Octets received.
        datagram: usize,
    },
    /// More of something than this codec accepts.
    #[error("more than {limit} {what}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// The largest number accepted.
        limit: usize,
    },
    /// The length of a value is outside what the RFC allows.
    #[error("{what} has {got} octets, allowed are {least} to {most}")]
    Size {
        /// The value that is measured.
        what: &'static str,
        /// Its octets.
        got: usize,
        /// Smallest allowed.
        least: usize,
        /// Largest allowed.
        most: usize,
    },
    /// A field holds a value that it must not hold.
    #[error("{field} is {got}")]
    Value {
        /// The field.
        field: &'static str,
        /// Its value.
        got: u64,
    },
    /// Two fields that must agree do not.
    #[error("{field} says {said} but {found} are there")]
    Disagree {
        /// The field that counts.
        field: &'static str,
        /// Its value.
        said: usize,
        /// What was counted.
        found: usize,
    },
    /// A payload that must be the last one, or must not be here at all.
    #[error("{0} is not allowed at this place")]
    Misplaced(PayloadType),
    /// An unknown payload whose critical bit is set; the whole message must be refused.
    #[error("critical payload of {0} type")]
    UnsupportedCritical(PayloadType),
    /// The major version is not that of this codec.
    #[error("major version {0}")]
    MajorVersion(u8),
}
