//! The delete payload (RFC 7296 section 3.11).
//! Invariant: a decoded delete names as many SPIs as it says, all of the size it says.

use crate::error::{Malformed, Why};
use crate::ikev2::numbers::ProtocolId;
use crate::reader::Reader;
use crate::text::Hex;
use crate::writer::Writer;
use core::fmt;

/// Largest number of SPIs in one payload.
pub const MAX_DELETED: usize = 4096;

/// SAs that the sender has deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delete {
    /// The protocol of the SAs.
    pub protocol: ProtocolId,
    /// Octets of each SPI: 0 for the IKE SA that carries the message, 4 for AH and ESP.
    pub spi_size: u8,
    /// The SPIs the sender expects in inbound packets, each of `spi_size` octets.
    pub spis: Vec<Vec<u8>>,
}

impl Delete {
    /// Deletes the IKE SA that carries the message.
    #[must_use]
    pub const fn ike_sa() -> Self {
        //= rfc7296#3.11
        //# the deletion of an IKE SA names no SPI
        Self { protocol: ProtocolId::IKE, spi_size: 0, spis: Vec::new() }
    }

    /// Deletes child SAs by the SPIs of the sender's inbound SAs.
    #[must_use]
    pub fn children(protocol: ProtocolId, spis: &[u32]) -> Self {
        Self { protocol, spi_size: 4, spis: spis.iter().map(|spi| spi.to_be_bytes().to_vec()).collect() }
    }

    /// The SPIs that have the four octets of a child SA.
    pub fn child_spis(&self) -> impl Iterator<Item = u32> + '_ {
        self.spis.iter().filter_map(|spi| <[u8; 4]>::try_from(spi.as_slice()).ok().map(u32::from_be_bytes))
    }
}

impl fmt::Display for Delete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.protocol)?;
        self.spis.iter().try_for_each(|spi| write!(f, " {}", Hex(spi)))
    }
}

pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Delete, Malformed> {
    let protocol = ProtocolId(reader.u8()?);
    let spi_size = reader.u8()?;
    let count_at = reader.offset();
    let count = usize::from(reader.u16()?);
    let size = usize::from(spi_size);
    // A size of zero would let two octets ask for 65535 empty SPIs.
    if size == 0 && count != 0 {
        return Err(reader.fail_at(count_at, Why::Disagree { field: "number of SPIs", said: count, found: 0 }));
    }
    if count > MAX_DELETED {
        return Err(reader.fail_at(count_at, Why::TooMany { what: "SPIs", limit: MAX_DELETED }));
    }
    let octets = size.saturating_mul(count);
    let spis = reader.take(octets)?.chunks(size.max(1)).map(<[u8]>::to_vec).collect();
    Ok(Delete { protocol, spi_size, spis })
}

pub(crate) fn encode(delete: &Delete, writer: &mut Writer) {
    writer.u8(delete.protocol.0);
    writer.u8(delete.spi_size);
    writer.count16(delete.spis.len());
    for spi in &delete.spis {
        writer.bytes(spi);
    }
}
