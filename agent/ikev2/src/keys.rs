//! Keys as a capture's decryption table wants them (tshark's `ikev2_decryption_table`); for test beds only.

use watari_policies::algorithm::{Cipher, Encryption, IkeSuite, Integrity};

use crate::sk::Crypt;

/// One line: SPIs, SK_ei, SK_er, cipher, SK_ai, SK_ar, integrity.
pub(crate) fn decryption_line(spi_i: u64, spi_r: u64, crypt: &Crypt) -> String {
    let keys = &crypt.keys;
    format!(
        "{spi_i:016x},{spi_r:016x},{},{},\"{}\",{},{},\"{}\"",
        hex(keys.ei.expose()),
        hex(keys.er.expose()),
        cipher_name(crypt.suite.cipher),
        hex(keys.ai.expose()),
        hex(keys.ar.expose()),
        integrity_name(&crypt.suite),
    )
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn cipher_name(cipher: Cipher) -> String {
    let bits = cipher.key_bits;
    match cipher.algorithm {
        Encryption::AesCbc => format!("AES-CBC-{bits} [RFC3602]"),
        Encryption::AesGcm8 => format!("AES-GCM-{bits} with 8 octet ICV [RFC5282]"),
        Encryption::AesGcm12 => format!("AES-GCM-{bits} with 12 octet ICV [RFC5282]"),
        Encryption::AesGcm16 => format!("AES-GCM-{bits} with 16 octet ICV [RFC5282]"),
        Encryption::ChaCha20Poly1305 => "ChaCha20-Poly1305 with 16 octet ICV [RFC7634]".to_owned(),
        Encryption::Null => "NULL [RFC2410]".to_owned(),
    }
}

const fn integrity_name(suite: &IkeSuite) -> &'static str {
    match suite.integrity {
        None => "NONE [RFC4306]",
        Some(Integrity::HmacSha1_96) => "HMAC_SHA1_96 [RFC2404]",
        Some(Integrity::HmacSha256_128) => "HMAC_SHA2_256_128 [RFC4868]",
        Some(Integrity::HmacSha384_192) => "HMAC_SHA2_384_192 [RFC4868]",
        Some(Integrity::HmacSha512_256) => "HMAC_SHA2_512_256 [RFC4868]",
    }
}
