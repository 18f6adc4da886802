//! The table of primitives: one trait per transform type, and `Provider`, which hands them out by algorithm id.
//! A provider may lack algorithms; `Layered` asks a second one for those.

use watari_policies::algorithm::{ChildSuite, Cipher, Group, IkeSuite, Integrity, Prf};
use watari_policies::certificate::KeyKind;
use watari_policies::secret::Secret;

use crate::{CryptoError, Scheme, SignatureError};

/// A table of primitives by algorithm id; `None` where it lacks the algorithm.
pub trait Provider: Send + Sync {
    /// The pseudo-random function of this id.
    fn prf(&self, prf: Prf) -> Option<&dyn PrfAlgorithm>;

    /// The integrity algorithm of this id.
    fn integrity(&self, integrity: Integrity) -> Option<&dyn IntegrityAlgorithm>;

    /// The cipher of this id and key length.
    fn cipher(&self, cipher: Cipher) -> Option<&dyn CipherAlgorithm>;

    /// The key exchange group of this id.
    fn group(&self, group: Group) -> Option<&dyn KeyExchange>;

    /// Signatures; `None` in a provider that has none.
    fn signatures(&self) -> Option<&dyn Signatures> {
        None
    }

    /// [`Provider::prf`], or the error that names what is missing.
    ///
    /// # Errors
    /// [`CryptoError::Unsupported`]
    fn need_prf(&self, prf: Prf) -> Result<&dyn PrfAlgorithm, CryptoError> {
        self.prf(prf).ok_or(CryptoError::Unsupported(prf.name()))
    }

    /// [`Provider::integrity`], or the error that names what is missing.
    ///
    /// # Errors
    /// [`CryptoError::Unsupported`]
    fn need_integrity(&self, integrity: Integrity) -> Result<&dyn IntegrityAlgorithm, CryptoError> {
        self.integrity(integrity).ok_or(CryptoError::Unsupported(integrity.name()))
    }

    /// [`Provider::cipher`], or the error that names what is missing.
    ///
    /// # Errors
    /// [`CryptoError::Unsupported`]
    fn need_cipher(&self, cipher: Cipher) -> Result<&dyn CipherAlgorithm, CryptoError> {
        self.cipher(cipher).ok_or(CryptoError::Unsupported(cipher.name()))
    }

    /// [`Provider::group`], or the error that names what is missing.
    ///
    /// # Errors
    /// [`CryptoError::Unsupported`]
    fn need_group(&self, group: Group) -> Result<&dyn KeyExchange, CryptoError> {
        self.group(group).ok_or(CryptoError::Unsupported(group.name()))
    }

    /// Whether an IKE SA with this suite can be run.
    fn supports(&self, suite: &IkeSuite) -> bool {
        self.cipher(suite.cipher).is_some()
            && suite.integrity.is_none_or(|integrity| self.integrity(integrity).is_some())
            && self.prf(suite.prf).is_some()
            && self.group(suite.group).is_some()
    }
}

/// A pseudo-random function with a key of any length (RFC 7296 2.13).
pub trait PrfAlgorithm: Send + Sync {
    /// Which one it is.
    fn id(&self) -> Prf;

    /// Output length in octets.
    fn output_len(&self) -> usize {
        self.id().output_len()
    }

    /// Preferred key length in octets: that of SK_d, SK_pi and SK_pr.
    fn key_len(&self) -> usize {
        self.id().output_len()
    }

    /// prf(key, the parts one after the other).
    fn prf(&self, key: &[u8], parts: &[&[u8]]) -> Secret;

    /// prf+(key, the parts one after the other), `len` octets of it (RFC 7296 2.13).
    ///
    /// # Errors
    /// [`CryptoError::TooLong`] beyond 255 outputs.
    fn prf_plus(&self, key: &[u8], parts: &[&[u8]], len: usize) -> Result<Secret, CryptoError> {
        //= rfc7296#2.13
        //# prf+ is T1 | T2 | ..., with T1 = prf(K, S | 0x01) and Tn = prf(K, Tn-1 | S | n).
        let mut output = Vec::with_capacity(len.saturating_add(self.output_len()));
        let mut block = Secret::default();
        let mut counter = 0u8;
        while output.len() < len {
            counter = counter.checked_add(1).ok_or(CryptoError::TooLong(self.id().name()))?;
            let counter_octet = [counter];
            let mut input = Vec::with_capacity(parts.len().saturating_add(2));
            input.push(block.expose());
            input.extend_from_slice(parts);
            input.push(&counter_octet);
            block = self.prf(key, &input);
            output.extend_from_slice(block.expose());
        }
        output.truncate(len);
        Ok(Secret::new(output))
    }
}

/// An integrity algorithm: a keyed checksum cut to a fixed length.
pub trait IntegrityAlgorithm: Send + Sync {
    /// Which one it is.
    fn id(&self) -> Integrity;

    /// Key length in octets.
    fn key_len(&self) -> usize {
        self.id().key_len()
    }

    /// ICV length in octets.
    fn icv_len(&self) -> usize {
        self.id().icv_len()
    }

    /// The ICV over the parts one after the other.
    fn sign(&self, key: &[u8], parts: &[&[u8]]) -> Vec<u8>;

    /// Compares `icv` with the one over the parts, in constant time.
    ///
    /// # Errors
    /// [`CryptoError::Integrity`] if it differs, in length too.
    fn verify(&self, key: &[u8], parts: &[&[u8]], icv: &[u8]) -> Result<(), CryptoError> {
        if crate::digest::constant_time_eq(&self.sign(key, parts), icv) { Ok(()) } else { Err(CryptoError::Integrity) }
    }
}

/// A cipher with its key length. Keys are as in the keying material: the key, then the salt where there is one (RFC 5282 7.1).
pub trait CipherAlgorithm: Send + Sync {
    /// Which one it is.
    fn id(&self) -> Cipher;

    /// Key length in octets, the salt included.
    fn key_len(&self) -> usize {
        self.id().keymat_len()
    }

    /// Octets of the explicit IV: 8 for AEAD, which must never repeat under one key, 16 for CBC, which nobody must foresee.
    fn iv_len(&self) -> usize {
        self.id().iv_len()
    }

    /// Plaintext must be a multiple of this many octets.
    fn block_len(&self) -> usize {
        self.id().block_len()
    }

    /// Octets of ICV that an AEAD cipher appends; 0 for a cipher that needs an integrity algorithm beside it.
    fn icv_len(&self) -> usize {
        self.id().icv_len()
    }

    /// Encrypts `buffer` in place and appends the ICV if it is an AEAD; `aad` counts for an AEAD only.
    ///
    /// # Errors
    /// Wrong length of key, IV or plaintext.
    fn seal(&self, key: &[u8], iv: &[u8], aad: &[u8], buffer: &mut Vec<u8>) -> Result<(), CryptoError>;

    /// Decrypts `buffer` in place and removes the ICV if it is an AEAD; on an error the content of `buffer` is of no use.
    ///
    /// # Errors
    /// Wrong length of key, IV or ciphertext; [`CryptoError::Integrity`].
    fn open(&self, key: &[u8], iv: &[u8], aad: &[u8], buffer: &mut Vec<u8>) -> Result<(), CryptoError>;
}

/// The private half of a key exchange, kept until the peer's public value arrives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KePrivate {
    group: Group,
    value: Secret,
}

impl KePrivate {
    /// For providers: `value` is whatever the provider's [`KeyExchange::agree`] wants back.
    #[must_use]
    pub fn new(group: Group, value: Secret) -> Self {
        Self { group, value }
    }

    /// The group it was made for.
    #[must_use]
    pub fn group(&self) -> Group {
        self.group
    }

    /// For providers: the value, if it was made for `group`.
    ///
    /// # Errors
    /// [`CryptoError::WrongGroup`]
    pub fn value_for(&self, group: Group) -> Result<&Secret, CryptoError> {
        if self.group == group { Ok(&self.value) } else { Err(CryptoError::WrongGroup { made: self.group.name(), used: group.name() }) }
    }
}

/// A key exchange group.
pub trait KeyExchange: Send + Sync {
    /// Which one it is.
    fn id(&self) -> Group;

    /// The private value that `seed` gives, and the public value as it stands in the KE payload. The same seed gives the same pair:
    /// it must be fresh and secret.
    ///
    /// # Errors
    /// [`CryptoError::Seed`] if the seed gives no usable value, which random seeds do not do.
    fn generate(&self, seed: &[u8; 64]) -> Result<(KePrivate, Vec<u8>), CryptoError>;

    /// The shared secret g^ir as RFC 7296 2.14 wants it, after checking the peer's public value.
    ///
    /// # Errors
    /// [`CryptoError::PublicValue`] if the peer's value must not be used, [`CryptoError::WrongGroup`].
    fn agree(&self, private: &KePrivate, peer_public: &[u8]) -> Result<Secret, CryptoError>;
}

/// Signatures by long-term keys.
pub trait Signatures: Send + Sync {
    /// Signs octets with a private key as [`watari_policies::certificate::private_key`] gives it; `seed` must be fresh and secret.
    ///
    /// # Errors
    /// [`SignatureError`] if the key cannot be read or does not fit the scheme.
    fn sign(&self, kind: &KeyKind, private: &Secret, scheme: Scheme, octets: &[u8], seed: &[u8; 32]) -> Result<Vec<u8>, SignatureError>;

    /// Verifies a signature with the public key of a certificate.
    ///
    /// # Errors
    /// [`SignatureError`] if it is wrong, or the key is unfit.
    fn verify(&self, kind: &KeyKind, public: &[u8], scheme: Scheme, octets: &[u8], signature: &[u8]) -> Result<(), SignatureError>;
}

/// Two providers as one: what the first lacks, the second gives.
#[derive(Clone, Copy, Debug, Default)]
pub struct Layered<A, B> {
    /// Asked first.
    pub first: A,
    /// Asked for what the first lacks.
    pub second: B,
}

impl<A: Provider, B: Provider> Provider for Layered<A, B> {
    fn prf(&self, prf: Prf) -> Option<&dyn PrfAlgorithm> {
        self.first.prf(prf).or_else(|| self.second.prf(prf))
    }

    fn integrity(&self, integrity: Integrity) -> Option<&dyn IntegrityAlgorithm> {
        self.first.integrity(integrity).or_else(|| self.second.integrity(integrity))
    }

    fn cipher(&self, cipher: Cipher) -> Option<&dyn CipherAlgorithm> {
        self.first.cipher(cipher).or_else(|| self.second.cipher(cipher))
    }

    fn group(&self, group: Group) -> Option<&dyn KeyExchange> {
        self.first.group(group).or_else(|| self.second.group(group))
    }

    fn signatures(&self) -> Option<&dyn Signatures> {
        self.first.signatures().or_else(|| self.second.signatures())
    }
}

/// The length check every cipher begins with.
pub(crate) fn check_lengths(cipher: Cipher, key: &[u8], iv: &[u8]) -> Result<(), CryptoError> {
    let algorithm = cipher.name();
    for (what, found, expected) in [("key", key.len(), cipher.keymat_len()), ("IV", iv.len(), cipher.iv_len())] {
        if found != expected {
            return Err(CryptoError::Length { what, algorithm, found, expected });
        }
    }
    Ok(())
}

/// The keys of a child SA need no primitive of ours (the kernel has the ciphers), so any child suite has only lengths to ask for.
pub(crate) fn child_key_lengths(suite: &ChildSuite) -> (usize, usize) {
    (suite.cipher.keymat_len(), suite.integrity.map_or(0, Integrity::key_len))
}
