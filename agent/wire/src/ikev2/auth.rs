//! The authentication payload (RFC 7296 section 3.8). Contents are checked where the keys are.

use crate::error::Malformed;
use crate::ikev2::Payload;
use crate::ikev2::numbers::AuthMethod;
use crate::reader::Reader;
use crate::writer::Writer;

pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Payload, Malformed> {
    let method = AuthMethod(reader.u8()?);
    //= rfc7296#3.8
    //# the reserved octets are ignored on receipt
    reader.take(3)?;
    Ok(Payload::Authentication { method, data: reader.rest().to_vec() })
}

pub(crate) fn encode(method: AuthMethod, data: &[u8], writer: &mut Writer) {
    writer.u8(method.0);
    //= rfc7296#3.8
    //# the reserved octets are sent as zero
    writer.bytes(&[0; 3]);
    writer.bytes(data);
}
