//! Cryptography for the key-management protocols: a table of primitives by algorithm id, and what IKEv2 builds from them.
//! Sans-IO: randomness (seeds, IVs) is always an argument, so that a run can be repeated.
//! Invariant: keys leave and enter only as [`Secret`]; ICVs are compared in constant time; nothing is decrypted before its ICV is verified.

pub mod auth_signature;
pub mod derive;
pub mod digest;
mod fake;
pub mod path;
mod provider;
mod rustcrypto;
mod signature;
pub mod sk;

pub use derive::{ChildKeys, IkeInputs, IkeKeys};
pub use fake::FakeProvider;
pub use provider::{CipherAlgorithm, IntegrityAlgorithm, KePrivate, KeyExchange, Layered, PrfAlgorithm, Provider, Signatures};
pub use rustcrypto::RustCryptoProvider;
pub use signature::{Hash, Scheme, SignatureError};
pub use sk::Protection;
pub use watari_policies::secret::Secret;

/// Why a cryptographic operation did not happen. None of the texts holds key material.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CryptoError {
    /// No provider in use has this algorithm.
    #[error("the algorithm {0} is not available in this build")]
    Unsupported(&'static str),
    /// The ICV does not match: wrong key or altered message.
    #[error("integrity check failed: the message was altered or the keys differ")]
    Integrity,
    /// An encrypted body is shorter than its IV, pad length and ICV.
    #[error("an encrypted body of {found} octets is shorter than the least possible {least}")]
    TooShort {
        /// Octets present.
        found: usize,
        /// Octets that the algorithms need at least.
        least: usize,
    },
    /// The ciphertext is not a whole number of cipher blocks, although its ICV is right or there is none.
    #[error("{found} octets are not a multiple of the cipher block of {block}")]
    BlockLength {
        /// Octets present.
        found: usize,
        /// Block length of the cipher.
        block: usize,
    },
    /// The Pad Length octet claims more than there is, although the ICV is right.
    #[error("a pad length of {pad_length} does not fit into {found} octets of plaintext")]
    Padding {
        /// What the last octet says.
        pad_length: u8,
        /// Octets of decrypted text, Pad Length included.
        found: usize,
    },
    /// A key, IV or nonce has the wrong length: a fault of the caller.
    #[error("the {what} for {algorithm} has {found} octets instead of {expected}")]
    Length {
        /// "key" or "IV".
        what: &'static str,
        /// The algorithm.
        algorithm: &'static str,
        /// Octets given.
        found: usize,
        /// Octets wanted.
        expected: usize,
    },
    /// The peer's public value must not be used (RFC 6989, RFC 8031).
    #[error("the peer's public value for {group} is not valid: {why}")]
    PublicValue {
        /// The group.
        group: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The seed cannot give a private value (all zero): the random source is broken.
    #[error("the random seed for {0} gives no private value: the random source is broken")]
    Seed(&'static str),
    /// A private value is used with another group than it was made for: a fault of the caller.
    #[error("a private value of {made} is used with {used}")]
    WrongGroup {
        /// The group it was made for.
        made: &'static str,
        /// The group it is used with.
        used: &'static str,
    },
    /// More octets than the algorithm can produce or protect.
    #[error("{0} cannot produce or protect so many octets")]
    TooLong(&'static str),
}
