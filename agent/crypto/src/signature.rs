//! Names of signature schemes, and the AlgorithmIdentifiers that stand for them in certificates and in AUTH (RFC 7427 appendix A).
//! Invariant: SHA-1 is a scheme only of the AUTH method that has no other; no AlgorithmIdentifier leads to it.

use der::asn1::ObjectIdentifier;
use der::{Any, Decode};
use rsa::pkcs1::RsaPssParamsOwned;
use sha2::{Digest, Sha256, Sha384, Sha512};
use watari_policies::certificate::KeyKind;
use x509_cert::spki::AlgorithmIdentifierOwned;

/// A hash function for signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hash {
    /// SHA-1: for AUTH method 1 only.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Hash {
    /// Those that are accepted, in the order in which they are told.
    pub const ACCEPTED: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    /// The number in the registry of RFC 7427.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Sha1 => 1,
            Self::Sha256 => 2,
            Self::Sha384 => 3,
            Self::Sha512 => 4,
        }
    }

    /// Output length in octets.
    #[must_use]
    pub const fn len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// Never true; here because there is a length.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        false
    }

    /// The digest of octets.
    #[must_use]
    pub fn digest(self, octets: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha1 => crate::digest::sha1(&[octets]).to_vec(),
            Self::Sha256 => Sha256::digest(octets).to_vec(),
            Self::Sha384 => Sha384::digest(octets).to_vec(),
            Self::Sha512 => Sha512::digest(octets).to_vec(),
        }
    }
}

/// How a signature is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// RSASSA-PKCS1-v1_5.
    RsaPkcs1(Hash),
    /// RSASSA-PSS with MGF1 of the same hash and a salt of so many octets.
    RsaPss(Hash, usize),
    /// ECDSA, the signature as ECDSA-Sig-Value in DER.
    Ecdsa(Hash),
    /// ECDSA, the signature as r | s (RFC 4754).
    EcdsaPlain(Hash),
}

/// Why a signature does not count, or could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// It is not by this key over these octets.
    #[error("the signature is wrong")]
    Wrong,
    /// The key is of a kind or length that is not accepted.
    #[error("a key of {0} is not accepted: RSA of 2048 to 8192 bits, ECDSA P-256 or ECDSA P-384 is needed")]
    Key(KeyKind),
    /// The public key is no such key.
    #[error("the public key is malformed")]
    PublicKey,
    /// The private key cannot be used.
    #[error("the private key cannot be used")]
    PrivateKey,
    /// The scheme is for other keys.
    #[error("the algorithm of the signature is not for a key of {0}")]
    Scheme(KeyKind),
    /// The algorithm is unknown or not accepted.
    #[error("a signature by {0} is not accepted")]
    Algorithm(String),
    /// No provider has signatures.
    #[error("signatures are not available in this build")]
    Unavailable,
}

mod oid {
    use der::asn1::ObjectIdentifier;

    pub(super) const RSA_SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.5");
    pub(super) const RSA_MD5: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.4");
    pub(super) const MGF1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.8");
    pub(super) const RSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");
    pub(super) const RSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
    pub(super) const RSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12");
    pub(super) const RSA_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13");
    pub(super) const ECDSA_SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.1");
    pub(super) const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
    pub(super) const ECDSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
    pub(super) const ECDSA_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.4");
    pub(super) const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
    pub(super) const SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
    pub(super) const SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");
}

impl Scheme {
    /// The scheme that an AlgorithmIdentifier in DER stands for.
    ///
    /// # Errors
    /// [`SignatureError::Algorithm`] if it is unknown, malformed or not accepted.
    pub fn from_identifier(identifier: &[u8]) -> Result<Self, SignatureError> {
        let refused = |name: &str| SignatureError::Algorithm(name.to_owned());
        let read = AlgorithmIdentifierOwned::from_der(identifier).map_err(|_| refused("a malformed algorithm identifier"))?;
        let null = read.parameters.as_ref().is_none_or(Any::is_null);
        let scheme = match read.oid {
            oid::RSA_SHA256 => Self::RsaPkcs1(Hash::Sha256),
            oid::RSA_SHA384 => Self::RsaPkcs1(Hash::Sha384),
            oid::RSA_SHA512 => Self::RsaPkcs1(Hash::Sha512),
            oid::ECDSA_SHA256 => Self::Ecdsa(Hash::Sha256),
            oid::ECDSA_SHA384 => Self::Ecdsa(Hash::Sha384),
            oid::ECDSA_SHA512 => Self::Ecdsa(Hash::Sha512),
            oid::RSA_PSS => return pss(read.parameters.as_ref()).ok_or_else(|| refused("RSASSA-PSS with parameters other than one SHA-2")),
            oid::RSA_SHA1 | oid::ECDSA_SHA1 => return Err(refused("SHA-1")),
            oid::RSA_MD5 => return Err(refused("MD5")),
            other => return Err(refused(&other.to_string())),
        };
        if null { Ok(scheme) } else { Err(refused("an algorithm with parameters that it does not have")) }
    }

    /// The AlgorithmIdentifier in DER as it stands in AUTH (RFC 7427 appendix A); `None` for schemes that it is not used with.
    #[must_use]
    pub fn identifier(self) -> Option<Vec<u8>> {
        let last = |hash| match hash {
            Hash::Sha1 => None,
            Hash::Sha256 => Some(1u8),
            Hash::Sha384 => Some(2),
            Hash::Sha512 => Some(3),
        };
        match self {
            Self::RsaPkcs1(hash) => {
                let octet = last(hash)?.saturating_add(0x0a);
                Some([&[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01][..], &[octet, 0x05, 0x00]].concat())
            }
            Self::Ecdsa(hash) => {
                let octet = last(hash)?.saturating_add(1);
                Some([&[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03][..], &[octet]].concat())
            }
            Self::RsaPss(hash, salt) => {
                let octet = last(hash)?;
                let salt = u8::try_from(salt).ok().filter(|salt| *salt < 0x80)?;
                let hash = [&[0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02][..], &[octet, 0x05, 0x00]].concat();
                let mask =
                    [&[0xa1, 0x1c, 0x30, 0x1a, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08][..], &hash].concat();
                let head = [0x30, 0x41, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a, 0x30, 0x34, 0xa0, 0x0f];
                Some([&head[..], &hash, &mask, &[0xa2, 0x03, 0x02, 0x01, salt]].concat())
            }
            Self::EcdsaPlain(_) => None,
        }
    }
}

/// RSASSA-PSS with one hash for the message and the mask, and a salt no longer than any hash.
fn pss(parameters: Option<&Any>) -> Option<Scheme> {
    let read = parameters?.decode_as::<RsaPssParamsOwned>().ok()?;
    let mask = read.mask_gen.parameters.as_ref()?;
    let known = |identifier: ObjectIdentifier| match identifier {
        oid::SHA256 => Some(Hash::Sha256),
        oid::SHA384 => Some(Hash::Sha384),
        oid::SHA512 => Some(Hash::Sha512),
        _ => None,
    };
    let hash = known(read.hash.oid)?;
    let fits = read.mask_gen.oid == oid::MGF1 && known(mask.oid) == Some(hash) && read.salt_len <= 64;
    fits.then(|| Scheme::RsaPss(hash, usize::from(read.salt_len)))
}
