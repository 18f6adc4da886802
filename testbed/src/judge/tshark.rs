//! tshark as the judge of every IKE message: what it decodes, and what it calls malformed, with the keys of each IKE SA.

use std::path::Path;

use crate::uml::packages::{self, Layer};
use crate::uml::{Context, Failure, Result, output_of};

/// One line of Wireshark's `ikev2_decryption_table`. Keys and SPIs as bytes; algorithms by Wireshark's own names.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct DecryptionKeys {
    /// Initiator's IKE SPI.
    pub(crate) spi_i: [u8; 8],
    /// Responder's IKE SPI.
    pub(crate) spi_r: [u8; 8],
    /// SK_ei; for an AEAD with its salt.
    pub(crate) sk_ei: Vec<u8>,
    /// SK_er; for an AEAD with its salt.
    pub(crate) sk_er: Vec<u8>,
    /// The encryption algorithm.
    pub(crate) encryption: Encryption,
    /// SK_ai; empty for an AEAD.
    pub(crate) sk_ai: Vec<u8>,
    /// SK_ar; empty for an AEAD.
    pub(crate) sk_ar: Vec<u8>,
    /// The integrity algorithm.
    pub(crate) integrity: Integrity,
}

/// Encryption algorithms tshark 4.0 can decrypt. It cannot ChaCha20-Poly1305.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encryption {
    /// AES-CBC with 128, 192 or 256 bits.
    AesCbc(u16),
    /// AES-GCM with 128, 192 or 256 bits and an ICV of 8, 12 or 16 octets.
    AesGcm(u16, u8),
}

impl Encryption {
    fn name(self) -> String {
        match self {
            Self::AesCbc(bits) => format!("AES-CBC-{bits} [RFC3602]"),
            Self::AesGcm(bits, octets) => {
                format!("AES-GCM-{bits} with {octets} octet ICV [RFC5282]")
            }
        }
    }
}

/// Integrity algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Integrity {
    /// None: the encryption is an AEAD.
    None,
    /// HMAC-SHA1-96.
    HmacSha1,
    /// HMAC-SHA2-256-128.
    HmacSha256,
    /// HMAC-SHA2-384-192.
    HmacSha384,
    /// HMAC-SHA2-512-256.
    HmacSha512,
}

impl Integrity {
    fn name(self) -> &'static str {
        match self {
            Self::None => "NONE [RFC4306]",
            Self::HmacSha1 => "HMAC_SHA1_96 [RFC2404]",
            Self::HmacSha256 => "HMAC_SHA2_256_128 [RFC4868]",
            Self::HmacSha384 => "HMAC_SHA2_384_192 [RFC4868]",
            Self::HmacSha512 => "HMAC_SHA2_512_256 [RFC4868]",
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|octet| format!("{octet:02x}")).collect()
}

impl DecryptionKeys {
    /// The line as a preference on tshark's command line.
    fn preference(&self) -> String {
        let fields = [
            hex(&self.spi_i),
            hex(&self.spi_r),
            hex(&self.sk_ei),
            hex(&self.sk_er),
            self.encryption.name(),
            hex(&self.sk_ai),
            hex(&self.sk_ar),
            self.integrity.name().into(),
        ];
        let quoted: Vec<String> = fields.iter().map(|text| format!("\"{text}\"")).collect();
        format!("uat:ikev2_decryption_table:{}", quoted.join(","))
    }
}

/// One IKE message as tshark reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IkeMessage {
    /// Number of the packet in the capture, from 1.
    pub(crate) number: usize,
    /// Seconds since 1970.
    pub(crate) time: f64ish::Seconds,
    /// Outermost source address.
    pub(crate) source: String,
    /// Outermost destination address.
    pub(crate) destination: String,
    /// Exchange type (34 is IKE_SA_INIT).
    pub(crate) exchange: u8,
    /// Message id.
    pub(crate) message_id: u32,
    /// Whether the response flag is set.
    pub(crate) response: bool,
    /// Payload types in order, those of the decrypted content included.
    pub(crate) payloads: Vec<u8>,
    /// Notify message types in order.
    pub(crate) notifies: Vec<u16>,
    /// Whether the content of the encrypted payload was readable; true where nothing is encrypted.
    pub(crate) decrypted: bool,
    /// tshark's summary line.
    pub(crate) summary: String,
    /// What tshark complains about: malformed, a wrong checksum, a warning or an error.
    pub(crate) complaints: Vec<String>,
}

/// Reads every IKE message of a capture.
pub(crate) fn read(file: &Path, keys: &[DecryptionKeys]) -> Result<Vec<IkeMessage>> {
    let layer = packages::provide(&packages::TSHARK)?;
    run(&layer, file, keys)
}
