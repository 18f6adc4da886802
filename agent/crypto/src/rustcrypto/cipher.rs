//! AES-CBC (RFC 3602), AES-GCM (RFC 4106, RFC 5282) and ChaCha20-Poly1305 (RFC 7634). Nonce of the AEADs: salt | explicit IV.

use std::marker::PhantomData;

use aes::{Aes128, Aes192, Aes256};
use aes_gcm::AesGcm;
use aes_gcm::aead::consts::{U8, U12, U16};
use aes_gcm::aead::{AeadInOut, KeyInit, Nonce, Tag};
use cbc::cipher::block_padding::NoPadding;
use cbc::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, BlockSizeUser, KeyIvInit};
use chacha20poly1305::ChaCha20Poly1305;
use watari_policies::algorithm::{Cipher, Encryption};
use zeroize::Zeroizing;

use crate::provider::check_lengths;
use crate::{CipherAlgorithm, CryptoError};

pub(super) fn find(cipher: Cipher) -> Option<&'static dyn CipherAlgorithm> {
    macro_rules! table {
        ($($algorithm:ident $bits:literal => $type:ty,)+) => {
            match (cipher.algorithm, cipher.key_bits) {
                $((Encryption::$algorithm, $bits) => {
                    static FOUND: $type = <$type>::new(Cipher { algorithm: Encryption::$algorithm, key_bits: $bits });
                    Some(&FOUND)
                })+
                _ => None,
            }
        };
    }
    table! {
        AesCbc 128 => Cbc<Aes128>,
        AesCbc 192 => Cbc<Aes192>,
        AesCbc 256 => Cbc<Aes256>,
        AesGcm8 128 => Aead<AesGcm<Aes128, U12, U8>>,
        AesGcm8 192 => Aead<AesGcm<Aes192, U12, U8>>,
        AesGcm8 256 => Aead<AesGcm<Aes256, U12, U8>>,
        AesGcm12 128 => Aead<AesGcm<Aes128, U12, U12>>,
        AesGcm12 192 => Aead<AesGcm<Aes192, U12, U12>>,
        AesGcm12 256 => Aead<AesGcm<Aes256, U12, U12>>,
        AesGcm16 128 => Aead<AesGcm<Aes128, U12, U16>>,
        AesGcm16 192 => Aead<AesGcm<Aes192, U12, U16>>,
        AesGcm16 256 => Aead<AesGcm<Aes256, U12, U16>>,
        ChaCha20Poly1305 256 => Aead<ChaCha20Poly1305>,
    }
}

struct Aead<A>(Cipher, PhantomData<fn() -> A>);

impl<A> Aead<A> {
    const fn new(id: Cipher) -> Self {
        Self(id, PhantomData)
    }
}

impl<A: KeyInit + AeadInOut> Aead<A> {
    /// Key schedule and nonce from keying material (key | salt) and explicit IV.
    fn prepare(&self, key: &[u8], iv: &[u8]) -> Result<(A, Nonce<A>), CryptoError> {
        check_lengths(self.0, key, iv)?;
        let wrong = |what, found, expected| CryptoError::Length { what, algorithm: self.0.name(), found, expected };
        let (key, salt) = key.split_at_checked(self.0.key_len()).unwrap_or_default();
        let aead = A::new_from_slice(key).map_err(|_| wrong("key", key.len(), self.0.key_len()))?;
        //= rfc5282#4
        //# The nonce is the salt followed by the IV of the payload.
        let nonce = Zeroizing::new([salt, iv].concat());
        let nonce = Nonce::<A>::try_from(&nonce[..]).map_err(|_| wrong("nonce", nonce.len(), 12))?;
        Ok((aead, nonce))
    }
}

impl<A: KeyInit + AeadInOut> CipherAlgorithm for Aead<A> {
    fn id(&self) -> Cipher {
        self.0
    }

    fn seal(&self, key: &[u8], iv: &[u8], aad: &[u8], buffer: &mut Vec<u8>) -> Result<(), CryptoError> {
        let (aead, nonce) = self.prepare(key, iv)?;
        let tag =
            aead.encrypt_inout_detached(&nonce, aad, buffer.as_mut_slice().into()).map_err(|_| CryptoError::TooLong(self.0.name()))?;
        buffer.extend_from_slice(&tag);
        Ok(())
    }

    fn open(&self, key: &[u8], iv: &[u8], aad: &[u8], buffer: &mut Vec<u8>) -> Result<(), CryptoError> {
        let (aead, nonce) = self.prepare(key, iv)?;
        let too_short = CryptoError::TooShort { found: buffer.len(), least: self.icv_len() };
        let end = buffer.len().checked_sub(self.icv_len()).ok_or(too_short.clone())?;
        let (text, tag) = buffer.split_at_mut_checked(end).ok_or(too_short.clone())?;
        let tag = Tag::<A>::try_from(&*tag).map_err(|_| too_short)?;
        aead.decrypt_inout_detached(&nonce, aad, text.into(), &tag).map_err(|_| CryptoError::Integrity)?;
        buffer.truncate(end);
        Ok(())
    }
}

struct Cbc<C>(Cipher, PhantomData<fn() -> C>);

impl<C> Cbc<C> {
    const fn new(id: Cipher) -> Self {
        Self(id, PhantomData)
    }

    fn check(&self, key: &[u8], iv: &[u8], text: &[u8]) -> Result<(), CryptoError> {
        check_lengths(self.0, key, iv)?;
        let block = self.0.block_len();
        if text.len().is_multiple_of(block) { Ok(()) } else { Err(CryptoError::BlockLength { found: text.len(), block }) }
    }
}

impl<C> CipherAlgorithm for Cbc<C>
where
    C: KeyInit + BlockCipherEncrypt + BlockCipherDecrypt + BlockSizeUser,
    cbc::Encryptor<C>: KeyIvInit + BlockModeEncrypt,
    cbc::Decryptor<C>: KeyIvInit + BlockModeDecrypt,
{
    fn id(&self) -> Cipher {
        self.0
    }

    fn seal(&self, key: &[u8], iv: &[u8], _aad: &[u8], buffer: &mut Vec<u8>) -> Result<(), CryptoError> {
        self.check(key, iv, buffer)?;
        let block_length = CryptoError::BlockLength { found: buffer.len(), block: self.block_len() };
        let len = buffer.len();
        let cbc = cbc::Encryptor::<C>::new_from_slices(key, iv).map_err(|_| block_length.clone())?;
        cbc.encrypt_padded::<NoPadding>(buffer, len).map_err(|_| block_length)?;
        Ok(())
    }

    fn open(&self, key: &[u8], iv: &[u8], _aad: &[u8], buffer: &mut Vec<u8>) -> Result<(), CryptoError> {
        self.check(key, iv, buffer)?;
        let block_length = CryptoError::BlockLength { found: buffer.len(), block: self.block_len() };
        let cbc = cbc::Decryptor::<C>::new_from_slices(key, iv).map_err(|_| block_length.clone())?;
        cbc.decrypt_padded::<NoPadding>(buffer).map_err(|_| block_length)?;
        Ok(())
    }
}
