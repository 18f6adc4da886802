//! The EAP payload (RFC 7296 section 3.16): one EAP message of RFC 3748, its method not interpreted.
//! Invariant: requests and responses have a type, success and failure have nothing behind the length.

use crate::error::{Malformed, Why};
use crate::ikev2::numbers::EapCode;
use crate::reader::Reader;
use crate::writer::Writer;
use core::fmt;

const EAP_HEADER: usize = 4;

/// One EAP message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EapMessage {
    /// Request, response, success or failure.
    pub code: EapCode,
    /// Matches a response to its request.
    pub identifier: u8,
    /// Type and type data of a request or response, otherwise empty.
    pub data: Vec<u8>,
}

impl EapMessage {
    /// The EAP method type of a request or response.
    #[must_use]
    pub fn eap_type(&self) -> Option<u8> {
        match self.code {
            EapCode::REQUEST | EapCode::RESPONSE => self.data.first().copied(),
            _ => None,
        }
    }
}

impl fmt::Display for EapMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.identifier)?;
        self.eap_type().map_or(Ok(()), |method| write!(f, " type {method}"))
    }
}

pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<EapMessage, Malformed> {
    let start = reader.offset();
    let octets = reader.left();
    let code = EapCode(reader.u8()?);
    let identifier = reader.u8()?;
    //= rfc7296#3.16
    //# the EAP length is the payload length less the generic header
    let said = usize::from(reader.u16()?);
    if said != octets {
        let why = Why::Disagree { field: "EAP length", said, found: octets };
        return Err(reader.fail_at(start.saturating_add(2), why));
    }
    //= rfc7296#3.16
    //# only requests and responses have a type; other messages have four octets
    let (least, most) = match code {
        EapCode::REQUEST | EapCode::RESPONSE => (EAP_HEADER.saturating_add(1), usize::from(u16::MAX)),
        _ => (EAP_HEADER, EAP_HEADER),
    };
    if !(least..=most).contains(&said) {
        return Err(reader.fail_at(start, Why::Size { what: "EAP message", got: said, least, most }));
    }
    Ok(EapMessage { code, identifier, data: reader.rest().to_vec() })
}

pub(crate) fn encode(message: &EapMessage, writer: &mut Writer) {
    writer.u8(message.code.0);
    writer.u8(message.identifier);
    writer.count16(EAP_HEADER.saturating_add(message.data.len()));
    writer.bytes(&message.data);
}
