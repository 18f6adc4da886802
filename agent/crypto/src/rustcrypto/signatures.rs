//! RSA and ECDSA. Only signing and verifying: nothing here decrypts, so that there is no oracle (RUSTSEC-2023-0071).
//! Private operations are blinded, and a signature is verified before it leaves, against faults of the machine.

use p256::ecdsa::signature::hazmat::{PrehashSigner, PrehashVerifier};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use rsa::pkcs1::{DecodeRsaPrivateKey, DecodeRsaPublicKey};
use rsa::traits::SignatureScheme;
use rsa::{Pkcs1v15Sign, Pss, RsaPrivateKey, RsaPublicKey};
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};
use watari_policies::certificate::KeyKind;
use watari_policies::secret::Secret;

use crate::{Hash, Scheme, SignatureError, Signatures};

/// Signatures of the RustCrypto crates.
pub(super) struct Real;

/// What is done with an RSA key, whatever the padding.
trait WithScheme {
    type Output;
    fn run<S: SignatureScheme>(self, scheme: S) -> Self::Output;
}

/// Runs an operation with the padding of a scheme; `None` for one that is not of RSA.
fn with_scheme<W: WithScheme>(scheme: Scheme, work: W) -> Option<W::Output> {
    Some(match scheme {
        Scheme::RsaPkcs1(Hash::Sha1) => work.run(Pkcs1v15Sign::new::<Sha1>()),
        Scheme::RsaPkcs1(Hash::Sha256) => work.run(Pkcs1v15Sign::new::<Sha256>()),
        Scheme::RsaPkcs1(Hash::Sha384) => work.run(Pkcs1v15Sign::new::<Sha384>()),
        Scheme::RsaPkcs1(Hash::Sha512) => work.run(Pkcs1v15Sign::new::<Sha512>()),
        Scheme::RsaPss(Hash::Sha256, salt) => work.run(Pss::<Sha256>::new_with_salt(salt)),
        Scheme::RsaPss(Hash::Sha384, salt) => work.run(Pss::<Sha384>::new_with_salt(salt)),
        Scheme::RsaPss(Hash::Sha512, salt) => work.run(Pss::<Sha512>::new_with_salt(salt)),
        Scheme::RsaPss(Hash::Sha1, _) | Scheme::Ecdsa(_) | Scheme::EcdsaPlain(_) => return None,
    })
}

const fn hash(scheme: Scheme) -> Hash {
    match scheme {
        Scheme::RsaPkcs1(hash) | Scheme::RsaPss(hash, _) | Scheme::Ecdsa(hash) | Scheme::EcdsaPlain(hash) => hash,
    }
}

struct SignRsa<'a>(&'a RsaPrivateKey, &'a [u8], ChaCha20Rng);

impl WithScheme for SignRsa<'_> {
    type Output = Result<Vec<u8>, SignatureError>;
    fn run<S: SignatureScheme>(mut self, scheme: S) -> Self::Output {
        self.0.sign_with_rng(&mut self.2, scheme, self.1).map_err(|_| SignatureError::PrivateKey)
    }
}

struct VerifyRsa<'a>(&'a RsaPublicKey, &'a [u8], &'a [u8]);

impl WithScheme for VerifyRsa<'_> {
    type Output = Result<(), SignatureError>;
    fn run<S: SignatureScheme>(self, scheme: S) -> Self::Output {
        self.0.verify(scheme, self.1, self.2).map_err(|_| SignatureError::Wrong)
    }
}

/// One curve: signing with a scalar, verifying with a point.
macro_rules! ecdsa {
    ($sign:ident, $verify:ident, $curve:ident) => {
        fn $sign(private: &Secret, plain: bool, digest: &[u8]) -> Result<Vec<u8>, SignatureError> {
            let key = $curve::ecdsa::SigningKey::from_slice(private.expose()).map_err(|_| SignatureError::PrivateKey)?;
            let signature: $curve::ecdsa::Signature = key.sign_prehash(digest).map_err(|_| SignatureError::PrivateKey)?;
            key.verifying_key().verify_prehash(digest, &signature).map_err(|_| SignatureError::PrivateKey)?;
            Ok(if plain { signature.to_bytes().to_vec() } else { signature.to_der().as_bytes().to_vec() })
        }

        fn $verify(public: &[u8], plain: bool, digest: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
            let key = $curve::ecdsa::VerifyingKey::from_sec1_bytes(public).map_err(|_| SignatureError::PublicKey)?;
            let read = if plain { $curve::ecdsa::Signature::from_slice(signature) } else { $curve::ecdsa::Signature::from_der(signature) };
            let signature = read.map_err(|_| SignatureError::Wrong)?;
            key.verify_prehash(digest, &signature).map_err(|_| SignatureError::Wrong)
        }
    };
}

ecdsa!(sign_p256, verify_p256, p256);
ecdsa!(sign_p384, verify_p384, p384);

impl Signatures for Real {
    fn sign(&self, kind: &KeyKind, private: &Secret, scheme: Scheme, octets: &[u8], seed: &[u8; 32]) -> Result<Vec<u8>, SignatureError> {
        let digest = hash(scheme).digest(octets);
        let plain = matches!(scheme, Scheme::EcdsaPlain(_));
        match (kind, scheme) {
            (KeyKind::Rsa(2048..=8192), Scheme::RsaPkcs1(_) | Scheme::RsaPss(..)) => {
                let key = RsaPrivateKey::from_pkcs1_der(private.expose()).map_err(|_| SignatureError::PrivateKey)?;
                let work = SignRsa(&key, &digest, ChaCha20Rng::from_seed(*seed));
                let signature = with_scheme(scheme, work).ok_or_else(|| SignatureError::Scheme(kind.clone()))??;
                let verify = VerifyRsa(key.as_public_key(), &digest, &signature);
                with_scheme(scheme, verify).ok_or(SignatureError::PrivateKey)?.map_err(|_| SignatureError::PrivateKey)?;
                Ok(signature)
            }
            (KeyKind::EcdsaP256, Scheme::Ecdsa(_) | Scheme::EcdsaPlain(_)) => sign_p256(private, plain, &digest),
            (KeyKind::EcdsaP384, Scheme::Ecdsa(_) | Scheme::EcdsaPlain(_)) => sign_p384(private, plain, &digest),
            _ => Err(unfit(kind)),
        }
    }

    fn verify(&self, kind: &KeyKind, public: &[u8], scheme: Scheme, octets: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        let digest = hash(scheme).digest(octets);
        let plain = matches!(scheme, Scheme::EcdsaPlain(_));
        match (kind, scheme) {
            (KeyKind::Rsa(2048..=8192), Scheme::RsaPkcs1(_) | Scheme::RsaPss(..)) => {
                let key = RsaPublicKey::from_pkcs1_der(public).map_err(|_| SignatureError::PublicKey)?;
                with_scheme(scheme, VerifyRsa(&key, &digest, signature)).ok_or_else(|| SignatureError::Scheme(kind.clone()))?
            }
            (KeyKind::EcdsaP256, Scheme::Ecdsa(_) | Scheme::EcdsaPlain(_)) => verify_p256(public, plain, &digest, signature),
            (KeyKind::EcdsaP384, Scheme::Ecdsa(_) | Scheme::EcdsaPlain(_)) => verify_p384(public, plain, &digest, signature),
            _ => Err(unfit(kind)),
        }
    }
}

/// Whether it is the key or the scheme that does not fit.
fn unfit(kind: &KeyKind) -> SignatureError {
    match kind {
        KeyKind::Rsa(2048..=8192) | KeyKind::EcdsaP256 | KeyKind::EcdsaP384 => SignatureError::Scheme(kind.clone()),
        other => SignatureError::Key(other.clone()),
    }
}
