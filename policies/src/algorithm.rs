//! Algorithms, once: what each is called in the configuration, in IKEv2 (RFC 7296 3.3.2) and in the kernel, and how long its keys are.
//! Every name and number stands in one table row; proposals are read from and written as strings in strongSwan's style.
//! Invariant: a proposal that parsed is consistent: AEAD ciphers are never mixed with others, and have no integrity algorithm.

use std::fmt;
use std::str::FromStr;

/// Why an algorithm name or a proposal string was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AlgorithmError {
    /// No algorithm of that name exists here.
    #[error("there is no {kind} called \"{name}\"{}", suggest(*.nearest))]
    UnknownName {
        /// What was looked for ("cipher", "PRF", ...).
        kind: &'static str,
        /// The name as written.
        name: String,
        /// The known name closest to it, if one is close.
        nearest: Option<&'static str>,
    },
    /// AEAD and other ciphers stand in one proposal.
    #[error("\"{aead}\" protects integrity itself and \"{other}\" does not, so one proposal cannot hold both: write two proposals")]
    MixedAead {
        /// An AEAD cipher of the proposal.
        aead: &'static str,
        /// A cipher of the proposal that needs an integrity algorithm.
        other: &'static str,
    },
    /// An integrity algorithm stands beside an AEAD cipher.
    #[error("\"{aead}\" protects integrity itself: leave out \"{integrity}\"")]
    IntegrityWithAead {
        /// The AEAD cipher.
        aead: &'static str,
        /// The superfluous integrity algorithm.
        integrity: &'static str,
    },
    /// A kind of algorithm that the proposal needs is not in it.
    #[error("the proposal \"{proposal}\" names no {kind}: add for example \"{example}\"")]
    Missing {
        /// The proposal as written.
        proposal: String,
        /// What is missing.
        kind: &'static str,
        /// A name that would do.
        example: &'static str,
    },
    /// An algorithm that this kind of proposal cannot use.
    #[error("\"{name}\" does not belong into an {protocol} proposal: {why}")]
    OutOfPlace {
        /// The algorithm.
        name: &'static str,
        /// "IKE" or "ESP".
        protocol: &'static str,
        /// The reason, as half a sentence.
        why: &'static str,
    },
    /// The same algorithm twice.
    #[error("\"{name}\" stands twice in the proposal")]
    Repeated {
        /// The algorithm.
        name: String,
    },
}

fn suggest(nearest: Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean \"{name}\"?"))
}

/// One enumeration whose names and numbers stand in one table; further spellings follow the name.
macro_rules! algorithms {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $($(#[$row_doc:meta])* $variant:ident = $id:literal, $name:literal $(| $alias:literal)*;)+) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum $type { $($(#[$row_doc])* $variant,)+ }

        impl $type {
            /// All of them, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            const NAMES: &'static [(&'static str, Self)] = &[$(($name, Self::$variant), $(($alias, Self::$variant),)*)+];

            /// The IKEv2 transform id (IANA registry "Internet Key Exchange Version 2 (IKEv2) Parameters").
            #[must_use]
            pub const fn transform_id(self) -> u16 {
                match self { $(Self::$variant => $id,)+ }
            }

            /// The algorithm of an IKEv2 transform id; `None` if it is not one of ours.
            #[must_use]
            pub fn from_transform(id: u16) -> Option<Self> {
                match id { $($id => Some(Self::$variant),)+ _ => None }
            }

            /// The name in configuration and output.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }

        named!($type, $kind);
    };
}

/// `FromStr`, `Display` and serde by name, for a type with `NAMES` and `name()`.
macro_rules! named {
    ($type:ident, $kind:literal) => {
        impl $type {
            fn lookup(name: &str) -> Option<Self> {
                Self::NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
            }
        }

        impl FromStr for $type {
            type Err = AlgorithmError;

            fn from_str(name: &str) -> Result<Self, AlgorithmError> {
                Self::lookup(name).ok_or_else(|| AlgorithmError::UnknownName {
                    kind: $kind,
                    name: name.to_owned(),
                    nearest: nearest(name, Self::NAMES.iter().map(|(known, _)| *known)),
                })
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }

        as_text!($type);
    };
}

/// serde as the text that `Display` writes and `FromStr` reads.
macro_rules! as_text {
    ($type:ident) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// An encryption algorithm without its key length (transform type 1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Encryption {
    /// AES in CBC mode, RFC 3602.
    AesCbc,
    /// AES in GCM mode with an ICV of 8 octets, RFC 4106 and RFC 5282.
    AesGcm8,
    /// AES in GCM mode with an ICV of 12 octets, RFC 4106 and RFC 5282.
    AesGcm12,
    /// AES in GCM mode with an ICV of 16 octets, RFC 4106 and RFC 5282.
    AesGcm16,
    /// ChaCha20 with Poly1305, RFC 7634.
    ChaCha20Poly1305,
    /// No encryption, RFC 2410; for ESP only.
    Null,
}

impl Encryption {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::AesGcm16, Self::ChaCha20Poly1305, Self::AesCbc, Self::AesGcm12, Self::AesGcm8, Self::Null];

    /// What does not depend on the key length: transform id, IV, salt, ICV and block length in octets, kernel name.
    const fn row(self) -> EncryptionRow {
        const fn row(id: u16, iv: usize, salt: usize, icv: usize, block: usize, kernel: &'static str) -> EncryptionRow {
            EncryptionRow { id, iv, salt, icv, block, kernel }
        }
        match self {
            Self::AesCbc => row(12, 16, 0, 0, 16, "cbc(aes)"),
            Self::AesGcm8 => row(18, 8, 4, 8, 1, "rfc4106(gcm(aes))"),
            Self::AesGcm12 => row(19, 8, 4, 12, 1, "rfc4106(gcm(aes))"),
            Self::AesGcm16 => row(20, 8, 4, 16, 1, "rfc4106(gcm(aes))"),
            Self::ChaCha20Poly1305 => row(28, 8, 4, 16, 1, "rfc7539esp(chacha20,poly1305)"),
            Self::Null => row(11, 0, 0, 0, 1, "ecb(cipher_null)"),
        }
    }

    /// The IKEv2 transform id of type 1.
    #[must_use]
    pub const fn transform_id(self) -> u16 {
        self.row().id
    }
}

struct EncryptionRow {
    id: u16,
    iv: usize,
    salt: usize,
    icv: usize,
    block: usize,
    kernel: &'static str,
}

/// An encryption algorithm with its key length.
///
/// Use the constants or a name; a combination outside the table (AES with 77 bits) is no algorithm and has the name "unknown".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Cipher {
    /// The algorithm.
    pub algorithm: Encryption,
    /// Key length in bits without the salt: 128, 192 or 256 for AES, 256 for ChaCha20, 0 for null.
    pub key_bits: u16,
}

const fn cipher(algorithm: Encryption, key_bits: u16) -> Cipher {
    Cipher { algorithm, key_bits }
}

impl Cipher {
    /// AES-CBC with 128 bits.
    pub const AES128: Self = cipher(Encryption::AesCbc, 128);
    /// AES-CBC with 256 bits.
    pub const AES256: Self = cipher(Encryption::AesCbc, 256);
    /// AES-GCM with 128 bits and an ICV of 16 octets.
    pub const AES128GCM16: Self = cipher(Encryption::AesGcm16, 128);
    /// AES-GCM with 256 bits and an ICV of 16 octets.
    pub const AES256GCM16: Self = cipher(Encryption::AesGcm16, 256);
    /// ChaCha20 with Poly1305.
    pub const CHACHA20POLY1305: Self = cipher(Encryption::ChaCha20Poly1305, 256);
    /// No encryption.
    pub const NULL: Self = cipher(Encryption::Null, 0);

    /// The first row of each algorithm is its name, a later one another spelling.
    const NAMES: &'static [(&'static str, Self)] = &[
        ("aes128gcm16", Self::AES128GCM16),
        ("aes192gcm16", cipher(Encryption::AesGcm16, 192)),
        ("aes256gcm16", Self::AES256GCM16),
        ("chacha20poly1305", Self::CHACHA20POLY1305),
        ("aes128", Self::AES128),
        ("aes192", cipher(Encryption::AesCbc, 192)),
        ("aes256", Self::AES256),
        ("aes128gcm12", cipher(Encryption::AesGcm12, 128)),
        ("aes192gcm12", cipher(Encryption::AesGcm12, 192)),
        ("aes256gcm12", cipher(Encryption::AesGcm12, 256)),
        ("aes128gcm8", cipher(Encryption::AesGcm8, 128)),
        ("aes192gcm8", cipher(Encryption::AesGcm8, 192)),
        ("aes256gcm8", cipher(Encryption::AesGcm8, 256)),
        ("null", Self::NULL),
        ("aes", Self::AES128),
        ("aes128gcm128", Self::AES128GCM16),
        ("aes192gcm128", cipher(Encryption::AesGcm16, 192)),
        ("aes256gcm128", Self::AES256GCM16),
        ("aes128gcm96", cipher(Encryption::AesGcm12, 128)),
        ("aes192gcm96", cipher(Encryption::AesGcm12, 192)),
        ("aes256gcm96", cipher(Encryption::AesGcm12, 256)),
        ("aes128gcm64", cipher(Encryption::AesGcm8, 128)),
        ("aes192gcm64", cipher(Encryption::AesGcm8, 192)),
        ("aes256gcm64", cipher(Encryption::AesGcm8, 256)),
    ];

    /// Every cipher with every key length, once.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::NAMES.iter().filter(|(name, cipher)| cipher.name() == *name).map(|(_, cipher)| *cipher)
    }

    /// The name in configuration and output; "unknown" for a combination that does not exist.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, known)| *known == self).map_or("unknown", |(name, _)| *name)
    }

    /// The IKEv2 transform id of type 1.
    #[must_use]
    pub const fn transform_id(self) -> u16 {
        self.algorithm.row().id
    }

    /// The value of the Key Length attribute (bits) that goes with the transform, if one goes with it (RFC 7296 3.3.5).
    #[must_use]
    pub const fn key_length_attribute(self) -> Option<u16> {
        match self.algorithm {
            Encryption::ChaCha20Poly1305 | Encryption::Null => None,
            _ => Some(self.key_bits),
        }
    }

    /// The cipher of a transform id and its Key Length attribute in bits; `None` if it is not one of ours, or if the
    /// attribute is missing where it must stand or stands where it must not (RFC 7296 3.3.5, RFC 7634 2).
    #[must_use]
    pub fn from_transform(id: u16, key_length: Option<u16>) -> Option<Self> {
        Self::all().find(|known| known.transform_id() == id && known.key_length_attribute() == key_length)
    }

    /// Whether the cipher protects integrity itself, so that no integrity algorithm goes with it.
    #[must_use]
    pub const fn is_aead(self) -> bool {
        self.algorithm.row().icv > 0
    }

    /// Key length in octets, without the salt.
    #[must_use]
    pub const fn key_len(self) -> usize {
        self.key_bits as usize / 8
    }

    /// Salt in octets that follows the key in the keying material (RFC 5282 7.1), 0 where there is none.
    #[must_use]
    pub const fn salt_len(self) -> usize {
        self.algorithm.row().salt
    }

    /// Octets of keying material for one direction: key and salt.
    #[must_use]
    pub const fn keymat_len(self) -> usize {
        self.key_len() + self.salt_len()
    }

    /// Explicit IV in octets, as sent in the packet.
    #[must_use]
    pub const fn iv_len(self) -> usize {
        self.algorithm.row().iv
    }

    /// ICV in octets of an AEAD cipher, 0 for others.
    #[must_use]
    pub const fn icv_len(self) -> usize {
        self.algorithm.row().icv
    }

    /// Block length in octets to which the plaintext is padded; 1 where any length will do.
    #[must_use]
    pub const fn block_len(self) -> usize {
        self.algorithm.row().block
    }

    /// The name in Linux's crypto layer, as `XFRMA_ALG_AEAD` or `XFRMA_ALG_CRYPT` takes it.
    #[must_use]
    pub const fn xfrm_name(self) -> &'static str {
        self.algorithm.row().kernel
    }
}

named!(Cipher, "cipher");

algorithms! {
    /// A pseudo-random function (transform type 2).
    Prf, "PRF",
    /// HMAC-SHA-1, RFC 2104.
    HmacSha1 = 2, "prfsha1";
    /// HMAC-SHA-256, RFC 4868.
    HmacSha256 = 5, "prfsha256";
    /// HMAC-SHA-384, RFC 4868.
    HmacSha384 = 6, "prfsha384";
    /// HMAC-SHA-512, RFC 4868.
    HmacSha512 = 7, "prfsha512";
}

impl Prf {
    /// Output length in octets, which for HMAC is the preferred key length too (RFC 7296 2.13).
    #[must_use]
    pub const fn output_len(self) -> usize {
        match self {
            Self::HmacSha1 => 20,
            Self::HmacSha256 => 32,
            Self::HmacSha384 => 48,
            Self::HmacSha512 => 64,
        }
    }
}

algorithms! {
    /// An integrity algorithm (transform type 3).
    Integrity, "integrity algorithm",
    /// HMAC-SHA-1 cut to 96 bits, RFC 2404.
    HmacSha1_96 = 2, "sha1" | "sha";
    /// HMAC-SHA-256 cut to 128 bits, RFC 4868.
    HmacSha256_128 = 12, "sha256" | "sha2_256";
    /// HMAC-SHA-384 cut to 192 bits, RFC 4868.
    HmacSha384_192 = 13, "sha384" | "sha2_384";
    /// HMAC-SHA-512 cut to 256 bits, RFC 4868.
    HmacSha512_256 = 14, "sha512" | "sha2_512";
}

impl Integrity {
    /// The PRF of the same hash, which is meant where a proposal names none.
    #[must_use]
    pub const fn prf(self) -> Prf {
        match self {
            Self::HmacSha1_96 => Prf::HmacSha1,
            Self::HmacSha256_128 => Prf::HmacSha256,
            Self::HmacSha384_192 => Prf::HmacSha384,
            Self::HmacSha512_256 => Prf::HmacSha512,
        }
    }

    /// Key length in octets: the length of the hash.
    #[must_use]
    pub const fn key_len(self) -> usize {
        self.prf().output_len()
    }

    /// ICV length in octets.
    #[must_use]
    pub const fn icv_len(self) -> usize {
        match self {
            Self::HmacSha1_96 => 12,
            Self::HmacSha256_128 => 16,
            Self::HmacSha384_192 => 24,
            Self::HmacSha512_256 => 32,
        }
    }

    /// The name in Linux's crypto layer; `XFRMA_ALG_AUTH_TRUNC` takes it with eight times [`Integrity::icv_len`] as truncation.
    #[must_use]
    pub const fn xfrm_name(self) -> &'static str {
        match self {
            Self::HmacSha1_96 => "hmac(sha1)",
            Self::HmacSha256_128 => "hmac(sha256)",
            Self::HmacSha384_192 => "hmac(sha384)",
            Self::HmacSha512_256 => "hmac(sha512)",
        }
    }
}

algorithms! {
    /// A key exchange method (transform type 4, Diffie-Hellman group).
    Group, "key exchange group",
    /// 2048-bit MODP, RFC 3526.
    Modp2048 = 14, "modp2048";
    /// 3072-bit MODP, RFC 3526.
    Modp3072 = 15, "modp3072";
    /// 4096-bit MODP, RFC 3526.
    Modp4096 = 16, "modp4096";
    /// NIST P-256, RFC 5903.
    Ecp256 = 19, "ecp256";
    /// NIST P-384, RFC 5903.
    Ecp384 = 20, "ecp384";
    /// Curve25519, RFC 8031.
    Curve25519 = 31, "x25519" | "curve25519";
}

impl Group {
    /// Length in octets of the public value in the KE payload.
    #[must_use]
    pub const fn public_len(self) -> usize {
        match self {
            Self::Modp2048 => 256,
            Self::Modp3072 => 384,
            Self::Modp4096 => 512,
            Self::Ecp256 => 64,
            Self::Ecp384 => 96,
            Self::Curve25519 => 32,
        }
    }

    /// Length in octets of the shared secret g^ir.
    #[must_use]
    pub const fn shared_len(self) -> usize {
        match self {
            Self::Ecp256 => 32,
            Self::Ecp384 => 48,
            _ => self.public_len(),
        }
    }
}

/// The known name closest to `name`, if few enough letters differ for it to be a likely meaning.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // A configuration word of thousands of letters resembles nothing here; do not spend time on it.
    if name.len() > 40 {
        return None;
    }
    let (distance, best) = known.map(|candidate| (edit_distance(&name.to_ascii_lowercase(), candidate), candidate)).min()?;
    (distance <= 1 + name.len() / 4).then_some(best)
}

/// Levenshtein distance in octets.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i.saturating_add(1);
        for (cell, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let substitution = diagonal.saturating_add(usize::from(x != y));
            diagonal = *cell;
            left = substitution.min(cell.saturating_add(1)).min(left.saturating_add(1));
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i.saturating_add(1);
        }
    }
    row.last().copied().unwrap_or(usize::MAX)
}

mod proposal;
pub use proposal::{ChildProposal, ChildSuite, IkeProposal, IkeSuite, default_child_proposals, default_ike_proposals};
