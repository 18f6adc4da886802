//! The body of the Encrypted payload, SK and SKF: IV | ciphertext (plaintext, padding, pad length) | ICV (RFC 7296 3.14, RFC 5282).
//! The caller makes the message up to the end of the payload's own header (the prefix) and knows the length beforehand by `body_len`.
//! Invariant: no octet is decrypted before the ICV over prefix and body is verified.

use watari_policies::algorithm::IkeSuite;
use watari_policies::secret::Secret;

use crate::{CipherAlgorithm, CryptoError, IntegrityAlgorithm, Provider};

/// What protects the messages of one direction of an IKE SA: algorithms and keys.
#[derive(Clone, Copy)]
pub struct Protection<'a> {
    cipher: &'a dyn CipherAlgorithm,
    integrity: Option<&'a dyn IntegrityAlgorithm>,
    encryption_key: &'a Secret,
    integrity_key: &'a Secret,
}

impl<'a> Protection<'a> {
    /// Algorithms from `suite`; the keys are SK_e (salt included) and SK_a (not looked at with an AEAD) of one direction.
    ///
    /// # Errors
    /// [`CryptoError::Unsupported`] if the provider lacks an algorithm, or if a cipher that is no AEAD has no integrity algorithm beside it;
    /// [`CryptoError::Length`] for keys of another suite.
    pub fn new(
        provider: &'a dyn Provider,
        suite: &IkeSuite,
        encryption_key: &'a Secret,
        integrity_key: &'a Secret,
    ) -> Result<Self, CryptoError> {
        let cipher = provider.need_cipher(suite.cipher)?;
        //= rfc5282#8
        //# An AEAD cipher has no integrity algorithm beside it.
        let integrity = match suite.integrity {
            _ if suite.cipher.is_aead() => None,
            Some(integrity) => Some(provider.need_integrity(integrity)?),
            None => return Err(CryptoError::Unsupported("encryption without integrity")),
        };
        check_key(cipher.id().name(), encryption_key, cipher.key_len())?;
        if let Some(integrity) = integrity {
            check_key(integrity.id().name(), integrity_key, integrity.key_len())?;
        }
        Ok(Self { cipher, integrity, encryption_key, integrity_key })
    }

    /// Octets of the explicit IV that `protect` wants.
    #[must_use]
    pub fn iv_len(&self) -> usize {
        self.cipher.iv_len()
    }

    /// Octets of the ICV at the end of the body.
    #[must_use]
    pub fn icv_len(&self) -> usize {
        self.integrity.map_or_else(|| self.cipher.icv_len(), IntegrityAlgorithm::icv_len)
    }

    /// Octets of padding, without the Pad Length octet, for a plaintext of `plaintext_len`: the least possible.
    #[must_use]
    pub fn padding_len(&self, plaintext_len: usize) -> usize {
        let block = self.cipher.block_len();
        let over = plaintext_len.wrapping_add(1).checked_rem(block).unwrap_or(0);
        block.saturating_sub(over).checked_rem(block).unwrap_or(0)
    }

    /// Octets of the whole body for a plaintext of `plaintext_len`.
    #[must_use]
    pub fn body_len(&self, plaintext_len: usize) -> usize {
        let text = plaintext_len.saturating_add(self.padding_len(plaintext_len)).saturating_add(1);
        text.saturating_add(self.iv_len()).saturating_add(self.icv_len())
    }

    /// Octets of plaintext that fit into a body of at most `body_len` octets, for fragmenting a message; `None` if not even an empty one fits.
    #[must_use]
    pub fn plaintext_room(&self, body_len: usize) -> Option<usize> {
        let text = body_len.checked_sub(self.iv_len())?.checked_sub(self.icv_len())?;
        let over = text.checked_rem(self.cipher.block_len()).unwrap_or(0);
        text.checked_sub(over)?.checked_sub(1)
    }

    /// The body for `plaintext`. `prefix` is the message from the first octet of the IKE header to the last before the body, with all lengths
    /// already final. `iv` is [`Protection::iv_len`] octets: with an AEAD never used before under these keys, with CBC random.
    ///
    /// # Errors
    /// [`CryptoError::Length`] for a wrong IV.
    pub fn protect(&self, prefix: &[u8], iv: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let padding = self.padding_len(plaintext.len());
        let pad_length = u8::try_from(padding).map_err(|_| CryptoError::TooLong(self.cipher.id().name()))?;
        let mut text = Vec::with_capacity(self.body_len(plaintext.len()));
        text.extend_from_slice(plaintext);
        text.resize(plaintext.len().saturating_add(padding), 0);
        text.push(pad_length);
        self.cipher.seal(self.encryption_key.expose(), iv, prefix, &mut text)?;
        let mut body = Vec::with_capacity(self.body_len(plaintext.len()));
        body.extend_from_slice(iv);
        body.extend_from_slice(&text);
        if let Some(integrity) = self.integrity {
            //= rfc7296#3.14
            //# The checksum is computed over the encrypted message, from the IKE header up to the Pad Length.
            let icv = integrity.sign(self.integrity_key.expose(), &[prefix, &body]);
            body.extend_from_slice(&icv);
        }
        Ok(body)
    }

    /// The plaintext of `body`, after verifying it; `prefix` is the message as received up to the last octet before the body.
    ///
    /// # Errors
    /// [`CryptoError::Integrity`] if anything was altered, [`CryptoError::TooShort`]; [`CryptoError::BlockLength`] and
    /// [`CryptoError::Padding`] only for a body whose ICV is right, so that they tell nobody anything who does not have the keys.
    pub fn unprotect(&self, prefix: &[u8], body: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let least = self.body_len(0);
        let too_short = CryptoError::TooShort { found: body.len(), least };
        if body.len() < least {
            return Err(too_short);
        }
        let mut sealed = body;
        if let Some(integrity) = self.integrity {
            let end = body.len().saturating_sub(integrity.icv_len());
            let (signed, icv) = body.split_at_checked(end).ok_or(too_short.clone())?;
            integrity.verify(self.integrity_key.expose(), &[prefix, signed], icv)?;
            sealed = signed;
        }
        let (iv, ciphertext) = sealed.split_at_checked(self.iv_len()).ok_or(too_short)?;
        let mut text = ciphertext.to_vec();
        self.cipher.open(self.encryption_key.expose(), iv, prefix, &mut text)?;
        strip_padding(text)
    }
}

fn check_key(algorithm: &'static str, key: &Secret, expected: usize) -> Result<(), CryptoError> {
    let found = key.len();
    if found == expected { Ok(()) } else { Err(CryptoError::Length { what: "key", algorithm, found, expected }) }
}

/// Removes pad length and padding.
fn strip_padding(mut text: Vec<u8>) -> Result<Vec<u8>, CryptoError> {
    //= rfc7296#3.14
    //# The recipient MUST accept any length that results in proper alignment, and any padding octets.
    let found = text.len();
    let pad_length = text.pop().unwrap_or(0);
    let kept = text.len().checked_sub(usize::from(pad_length)).ok_or(CryptoError::Padding { pad_length, found })?;
    text.truncate(kept);
    Ok(text)
}

impl std::fmt::Debug for Protection<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Protection")
            .field("cipher", &self.cipher.id())
            .field("integrity", &self.integrity.map(IntegrityAlgorithm::id))
            .finish_non_exhaustive()
    }
}
