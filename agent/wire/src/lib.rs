//! IKE messages: bytes <-> values, both ways, side by side. Sans-IO, no keys, no policy.
//! Decoding never panics and never allocates more than a small multiple of the datagram;
//! every number that is not known is kept, so that what was decoded can be encoded again.

mod codes;
mod error;
pub mod ikev2;
mod marker;
mod reader;
mod text;
mod writer;

pub use error::{Malformed, Why};
pub use marker::{NON_ESP_MARKER, NotIke, strip_non_esp_marker, with_non_esp_marker};

/// Largest IKE message accepted, in octets: what a UDP datagram can hold at most.
pub const MAX_MESSAGE: usize = 65_535;
