//! The notify payload (RFC 7296 section 3.10).
//! Only the layout and the size of a cookie are checked; other contents are read by the accessors, which may say `None`.

use crate::error::{Malformed, Why};
use crate::ikev2::numbers::{NotifyType, PayloadType, ProtocolId};
use crate::ikev2::redirect::Redirect;
use crate::reader::Reader;
use crate::text::{Hex, Octets};
use crate::writer::Writer;
use core::fmt;

/// Largest cookie, in octets; the smallest has one.
pub const MAX_COOKIE: usize = 64;

/// An error or a status that a peer reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notify {
    /// The protocol of the SA it is about; means nothing when there is no SPI.
    pub protocol: ProtocolId,
    /// The SPI of the SA it is about, empty if it is about none or about the IKE SA.
    pub spi: Vec<u8>,
    /// What is reported.
    pub notify_type: NotifyType,
    /// Data, as the type defines.
    pub data: Vec<u8>,
}

impl Notify {
    /// A notify that is about no SA or about the IKE SA.
    #[must_use]
    pub const fn new(notify_type: NotifyType, data: Vec<u8>) -> Self {
        //= rfc7296#3.10
        //# without an SPI the protocol is sent as zero
        Self { protocol: ProtocolId::NONE, spi: Vec::new(), notify_type, data }
    }

    /// A notify about a child SA, such as REKEY_SA and CHILD_SA_NOT_FOUND.
    #[must_use]
    pub fn about_child(notify_type: NotifyType, protocol: ProtocolId, spi: u32) -> Self {
        Self { protocol, spi: spi.to_be_bytes().to_vec(), notify_type, data: Vec::new() }
    }

    /// The SPI of a child SA, if it names one.
    #[must_use]
    pub fn child_spi(&self) -> Option<u32> {
        <[u8; 4]>::try_from(self.spi.as_slice()).ok().map(u32::from_be_bytes)
    }

    /// The two octets of data that INVALID_KE_PAYLOAD carries: the group the peer wants.
    #[must_use]
    pub fn wanted_group(&self) -> Option<u16> {
        let group = <[u8; 2]>::try_from(self.data.as_slice()).ok()?;
        (self.notify_type == NotifyType::INVALID_KE_PAYLOAD).then_some(u16::from_be_bytes(group))
    }
}

impl fmt::Display for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.notify_type)?;
        if !self.spi.is_empty() {
            write!(f, " {} SPI {}", self.protocol, Hex(&self.spi))?;
        }
        if let Some(group) = self.wanted_group() {
            return write!(f, " wants group {group}");
        }
        match (self.notify_type, self.data.as_slice()) {
            (_, []) => Ok(()),
            (NotifyType::REDIRECT | NotifyType::REDIRECTED_FROM, data) => match Redirect::decode(data) {
                Some(redirect) => write!(f, " {}", redirect.gateway),
                None => write!(f, " {}", Octets(data.len())),
            },
            (NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD, [payload]) => write!(f, " type {}", PayloadType(*payload)),
            _ => write!(f, " {}", Octets(self.data.len())),
        }
    }
}

pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Notify, Malformed> {
    let protocol = ProtocolId(reader.u8()?);
    let spi_size = reader.u8()?;
    let notify_type = NotifyType(reader.u16()?);
    let spi = reader.take(usize::from(spi_size))?.to_vec();
    //= rfc7296#2.6
    //# a cookie has 1 to 64 octets
    if notify_type == NotifyType::COOKIE && !(1..=MAX_COOKIE).contains(&reader.left()) {
        return Err(reader.fail(Why::Size { what: "cookie", got: reader.left(), least: 1, most: MAX_COOKIE }));
    }
    Ok(Notify { protocol, spi, notify_type, data: reader.rest().to_vec() })
}

pub(crate) fn encode(notify: &Notify, writer: &mut Writer) {
    writer.u8(notify.protocol.0);
    writer.count8(notify.spi.len());
    writer.u16(notify.notify_type.0);
    writer.bytes(&notify.spi);
    writer.bytes(&notify.data);
}
