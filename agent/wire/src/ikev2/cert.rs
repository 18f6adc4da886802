//! Certificate and certificate request payloads (RFC 7296 sections 3.6 and 3.7). Contents are not interpreted.

use crate::error::Malformed;
use crate::ikev2::Payload;
use crate::ikev2::numbers::CertEncoding;
use crate::reader::Reader;
use crate::writer::Writer;

pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Payload, Malformed> {
    Ok(Payload::Certificate { encoding: CertEncoding(reader.u8()?), data: reader.rest().to_vec() })
}

pub(crate) fn decode_request(reader: &mut Reader<'_>) -> Result<Payload, Malformed> {
    Ok(Payload::CertificateRequest { encoding: CertEncoding(reader.u8()?), authorities: reader.rest().to_vec() })
}

pub(crate) fn encode(encoding: CertEncoding, data: &[u8], writer: &mut Writer) {
    writer.u8(encoding.0);
    writer.bytes(data);
}
