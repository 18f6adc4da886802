//! The key exchange payload (RFC 7296 section 3.4).
//! Whether the value has the length its group needs is checked where the group is known, not here.

use crate::error::Malformed;
use crate::ikev2::Payload;
use crate::reader::Reader;
use crate::writer::Writer;

pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Payload, Malformed> {
    let group = reader.u16()?;
    //= rfc7296#3.4
    //# the reserved octets are ignored on receipt
    reader.u16()?;
    Ok(Payload::KeyExchange { group, data: reader.rest().to_vec() })
}

pub(crate) fn encode(group: u16, data: &[u8], writer: &mut Writer) {
    writer.u16(group);
    //= rfc7296#3.4
    //# the reserved octets are sent as zero
    writer.u16(0);
    writer.bytes(data);
}
