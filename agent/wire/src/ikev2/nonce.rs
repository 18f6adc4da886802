//! The nonce payload (RFC 7296 section 3.9).
//! Invariant: a decoded nonce has 16 to 256 octets.

use crate::error::{Malformed, Why};
use crate::reader::Reader;

/// Smallest nonce, in octets.
pub const MIN_NONCE: usize = 16;
/// Largest nonce, in octets.
pub const MAX_NONCE: usize = 256;

pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Vec<u8>, Malformed> {
    //= rfc7296#3.9
    //# a nonce has 16 to 256 octets
    let got = reader.left();
    if !(MIN_NONCE..=MAX_NONCE).contains(&got) {
        return Err(reader.fail(Why::Size { what: "nonce", got, least: MIN_NONCE, most: MAX_NONCE }));
    }
    Ok(reader.rest().to_vec())
}
