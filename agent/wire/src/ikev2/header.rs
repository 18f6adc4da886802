//! The IKE header (RFC 7296 section 3.1), common to all versions of IKE.
//! Invariant: a decoded header fits its datagram: its length is the datagram's.

use crate::MAX_MESSAGE;
use crate::error::{Malformed, Why};
use crate::ikev2::numbers::{ExchangeType, PayloadType};
use crate::reader::Reader;
use crate::writer::Writer;
use core::fmt;

/// Octets of an IKE header.
pub const HEADER_LENGTH: usize = 28;

/// Major 2, minor 0.
pub const VERSION_2_0: u8 = 0x20;

/// Position of the version octet.
pub(crate) const VERSION_AT: usize = 17;
/// Position of the next-payload octet.
const NEXT_PAYLOAD_AT: usize = 16;
/// Position of the four octets of length.
const LENGTH_AT: usize = 24;

/// The flags octet; the reserved bits are ignored on receipt and sent as zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Flags(pub u8);

impl Flags {
    /// Sent by the original initiator of the IKE SA.
    pub const INITIATOR: Self = Self(0x08);
    /// The sender can speak a higher major version; never sent by us.
    pub const VERSION: Self = Self(0x10);
    /// The message is a response.
    pub const RESPONSE: Self = Self(0x20);

    const DEFINED: u8 = 0x38;

    /// The flags of a message, given who sends it.
    #[must_use]
    pub const fn new(from_original_initiator: bool, response: bool) -> Self {
        //= rfc7296#3.1
        //# the version bit is zero in every message we send
        let initiator = if from_original_initiator { Self::INITIATOR.0 } else { 0 };
        Self(initiator | if response { Self::RESPONSE.0 } else { 0 })
    }

    /// Whether the original initiator of the IKE SA sent it.
    #[must_use]
    pub const fn initiator(self) -> bool {
        self.0 & Self::INITIATOR.0 != 0
    }

    /// Whether the sender can speak a higher major version.
    #[must_use]
    pub const fn version(self) -> bool {
        self.0 & Self::VERSION.0 != 0
    }

    /// Whether it is a response.
    #[must_use]
    pub const fn response(self) -> bool {
        self.0 & Self::RESPONSE.0 != 0
    }

    /// The bits that mean something.
    const fn defined(self) -> Self {
        Self(self.0 & Self::DEFINED)
    }
}

impl core::ops::BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// An IKE header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// SPI of the original initiator, never zero.
    pub initiator_spi: u64,
    /// SPI of the original responder, zero in the first message.
    pub responder_spi: u64,
    /// Type of the first payload.
    pub next_payload: PayloadType,
    /// Major version in the high four bits, minor in the low four.
    pub version: u8,
    /// The exchange it belongs to.
    pub exchange: ExchangeType,
    /// Who sent it, and whether it answers.
    pub flags: Flags,
    /// Matches responses to requests.
    pub message_id: u32,
    /// Octets of the whole message with this header.
    pub length: u32,
}

impl Header {
    /// The header of an IKEv2 message; next payload and length are filled in when the message is encoded.
    #[must_use]
    pub const fn new(initiator_spi: u64, responder_spi: u64, exchange: ExchangeType, flags: Flags, message_id: u32) -> Self {
        Self {
            initiator_spi,
            responder_spi,
            next_payload: PayloadType::NONE,
            //= rfc7296#3.1
            //# major version 2, minor version 0
            version: VERSION_2_0,
            exchange,
            flags,
            message_id,
            length: HEADER_LENGTH as u32,
        }
    }

    /// Reads the header of a datagram of any IKE version, without its payloads.
    ///
    /// # Errors
    /// [`Malformed`] if it is cut, if its length is not that of the datagram, or if the initiator's SPI is zero.
    pub fn decode(datagram: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(datagram, 0, "header");
        let initiator_spi = reader.u64()?;
        let responder_spi = reader.u64()?;
        let next_payload = PayloadType(reader.u8()?);
        //= rfc7296#3.1
        //# the minor version is ignored on receipt
        let version = reader.u8()?;
        let exchange = ExchangeType(reader.u8()?);
        //= rfc7296#3.1
        //# reserved flags are ignored on receipt
        let flags = Flags(reader.u8()?).defined();
        let message_id = reader.u32()?;
        let length = reader.u32()?;
        //= rfc7296#3.1
        //# the initiator's SPI is not zero
        if initiator_spi == 0 {
            return Err(reader.fail_at(0, Why::Value { field: "initiator SPI", got: 0 }));
        }
        let said = usize::try_from(length).unwrap_or(usize::MAX);
        if said != datagram.len() {
            return Err(reader.fail_at(LENGTH_AT, Why::DatagramLength { said, datagram: datagram.len() }));
        }
        if said > MAX_MESSAGE {
            return Err(reader.fail_at(LENGTH_AT, Why::TooMany { what: "octets", limit: MAX_MESSAGE }));
        }
        Ok(Self { initiator_spi, responder_spi, next_payload, version, exchange, flags, message_id, length })
    }

    /// The 28 octets of the header, with next payload and length as they stand.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        self.write(&mut writer);
        writer.finish()
    }

    /// Appends the header.
    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.u64(self.initiator_spi);
        writer.u64(self.responder_spi);
        writer.u8(self.next_payload.0);
        writer.u8(self.version);
        writer.u8(self.exchange.0);
        //= rfc7296#3.1
        //# reserved flags are sent as zero
        writer.u8(self.flags.defined().0);
        writer.u32(self.message_id);
        writer.u32(self.length);
    }

    /// The major version: 2 for IKEv2, 1 for IKEv1.
    #[must_use]
    pub const fn major(&self) -> u8 {
        self.version >> 4
    }

    /// The minor version.
    #[must_use]
    pub const fn minor(&self) -> u8 {
        self.version & 0x0f
    }
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.flags.response() { "response" } else { "request" };
        let from = if self.flags.initiator() { "initiator" } else { "responder" };
        write!(f, "{} {kind} {} from {from}, SPIs {:016x} ", self.exchange, self.message_id, self.initiator_spi)?;
        write!(f, "{:016x}, IKE {}.{}, {} octets", self.responder_spi, self.major(), self.minor(), self.length)
    }
}

/// Fills the first payload type and the length into a header written at the start; `more` octets will be appended later.
pub(crate) fn finish(writer: &mut Writer, first: PayloadType, more: usize) {
    let length = u32::try_from(writer.len().saturating_add(more)).unwrap_or(u32::MAX);
    writer.patch(NEXT_PAYLOAD_AT, &[first.0]);
    writer.patch(LENGTH_AT, &length.to_be_bytes());
}
