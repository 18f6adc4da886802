//! HMAC as pseudo-random function and as integrity algorithm (RFC 2104, RFC 2404, RFC 4868), HKDF as prf+ (RFC 5869).

use std::marker::PhantomData;

use hkdf::Hkdf;
use hmac::{EagerHash, Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};
use watari_policies::algorithm::{Integrity, Prf};
use watari_policies::secret::Secret;

use crate::{CryptoError, IntegrityAlgorithm, PrfAlgorithm};

pub(super) fn prf(prf: Prf) -> &'static dyn PrfAlgorithm {
    match prf {
        Prf::HmacSha1 => &HmacPrf::<Sha1>(Prf::HmacSha1, PhantomData),
        Prf::HmacSha256 => &HmacPrf::<Sha256>(Prf::HmacSha256, PhantomData),
        Prf::HmacSha384 => &HmacPrf::<Sha384>(Prf::HmacSha384, PhantomData),
        Prf::HmacSha512 => &HmacPrf::<Sha512>(Prf::HmacSha512, PhantomData),
    }
}

pub(super) fn integrity(integrity: Integrity) -> &'static dyn IntegrityAlgorithm {
    match integrity {
        Integrity::HmacSha1_96 => &HmacIntegrity::<Sha1>(Integrity::HmacSha1_96, PhantomData),
        Integrity::HmacSha256_128 => &HmacIntegrity::<Sha256>(Integrity::HmacSha256_128, PhantomData),
        Integrity::HmacSha384_192 => &HmacIntegrity::<Sha384>(Integrity::HmacSha384_192, PhantomData),
        Integrity::HmacSha512_256 => &HmacIntegrity::<Sha512>(Integrity::HmacSha512_256, PhantomData),
    }
}

#[expect(clippy::expect_used, reason = "HMAC takes a key of any length (RFC 2104 2), so this cannot fail")]
fn hmac<H: EagerHash>(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = <Hmac<H> as KeyInit>::new_from_slice(key).expect("a key of any length");
    for part in parts {
        Mac::update(&mut mac, part);
    }
    mac.finalize().into_bytes().to_vec()
}

struct HmacPrf<H>(Prf, PhantomData<fn() -> H>);

impl<H: EagerHash> PrfAlgorithm for HmacPrf<H> {
    fn id(&self) -> Prf {
        self.0
    }

    fn prf(&self, key: &[u8], parts: &[&[u8]]) -> Secret {
        Secret::new(hmac::<H>(key, parts))
    }

    fn prf_plus(&self, key: &[u8], parts: &[&[u8]], len: usize) -> Result<Secret, CryptoError> {
        // A rekey can change the PRF, so the SKEYSEED of the old one may be shorter than the hash of the new one. HKDF forbids such a
        // key, IKEv2 does not: HMAC fills it up with zeros, and so does this.
        let mut filled = Secret::from(key);
        if key.len() < self.output_len() {
            filled = Secret::new([key, &vec![0; self.output_len().saturating_sub(key.len())]].concat());
        }
        let too_long = CryptoError::TooLong(self.0.name());
        let hkdf = Hkdf::<H>::from_prk(filled.expose()).map_err(|_| too_long.clone())?;
        let mut output = vec![0; len];
        hkdf.expand_multi_info(parts, &mut output).map_err(|_| too_long)?;
        Ok(Secret::new(output))
    }
}

struct HmacIntegrity<H>(Integrity, PhantomData<fn() -> H>);

impl<H: EagerHash> IntegrityAlgorithm for HmacIntegrity<H> {
    fn id(&self) -> Integrity {
        self.0
    }

    fn sign(&self, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
        let mut icv = hmac::<H>(key, parts);
        icv.truncate(self.icv_len());
        icv
    }
}
