//! AUTH by signature (RFC 7296 3.8, RFC 4754, RFC 7427): which method and scheme a key is used with, and what the data of each look like.
//! Invariant: SHA-1 is signed with and believed only where the operator allows it and the peer knows nothing else.

use watari_policies::Secret;
use watari_policies::certificate::{Certificate, KeyKind};

use crate::{Hash, Provider, Scheme, SignatureError};

/// RSA with SHA-1.
pub const RSA: u8 = 1;
/// ECDSA with SHA-256 on P-256.
pub const ECDSA_P256: u8 = 9;
/// ECDSA with SHA-384 on P-384.
pub const ECDSA_P384: u8 = 10;
/// RFC 7427.
pub const DIGITAL_SIGNATURE: u8 = 14;

/// What neither side does unless the operator allows it.
const WITH_SHA1: &str = "RSA with SHA-1 (AUTH method 1, without RFC 7427; `sha1_signatures` allows it)";

/// Whether an AUTH method is a signature.
#[must_use]
pub const fn is_signature(method: u8) -> bool {
    matches!(method, RSA | ECDSA_P256 | ECDSA_P384 | DIGITAL_SIGNATURE)
}

/// The data of SIGNATURE_HASH_ALGORITHMS: every hash that is accepted.
#[must_use]
pub fn accepted_hashes() -> Vec<u8> {
    Hash::ACCEPTED.iter().flat_map(|hash| hash.number().to_be_bytes()).collect()
}

/// Method and scheme for a key of ours. `accepted` is the data of the peer's SIGNATURE_HASH_ALGORITHMS, if it sent one; `sha1` allows method 1.
///
/// # Errors
/// [`SignatureError`] if the key cannot sign, or the peer accepts no hash that we have.
pub fn choose(kind: &KeyKind, accepted: Option<&[u8]>, sha1: bool) -> Result<(u8, Scheme), SignatureError> {
    //= rfc7427#3
    //# the method is used only with a peer that has sent SIGNATURE_HASH_ALGORITHMS
    let Some(accepted) = accepted else {
        return match kind {
            //= rfc7296#3.8
            //# a peer that knows no other gets RSASSA-PKCS1-v1_5 with SHA-1
            KeyKind::Rsa(_) if !sha1 => Err(SignatureError::Algorithm(WITH_SHA1.to_owned())),
            KeyKind::Rsa(_) => Ok((RSA, Scheme::RsaPkcs1(Hash::Sha1))),
            KeyKind::EcdsaP256 => Ok((ECDSA_P256, Scheme::EcdsaPlain(Hash::Sha256))),
            KeyKind::EcdsaP384 => Ok((ECDSA_P384, Scheme::EcdsaPlain(Hash::Sha384))),
            KeyKind::Other(_) => Err(SignatureError::Key(kind.clone())),
        };
    };
    let takes = |hash: &Hash| accepted.chunks_exact(2).any(|pair| pair == hash.number().to_be_bytes());
    // As strong as the key, else whatever the peer takes.
    let fitting = match kind {
        KeyKind::EcdsaP384 => [Hash::Sha384, Hash::Sha512, Hash::Sha256],
        _ => [Hash::Sha256, Hash::Sha384, Hash::Sha512],
    };
    let Some(hash) = fitting.into_iter().find(takes) else {
        return Err(SignatureError::Algorithm("any hash that the peer accepts".to_owned()));
    };
    match kind {
        //= rfc8247#3.2
        //# with RSA, RSASSA-PSS is the one that everybody has
        KeyKind::Rsa(_) => Ok((DIGITAL_SIGNATURE, Scheme::RsaPss(hash, hash.len()))),
        KeyKind::EcdsaP256 | KeyKind::EcdsaP384 => Ok((DIGITAL_SIGNATURE, Scheme::Ecdsa(hash))),
        KeyKind::Other(_) => Err(SignatureError::Key(kind.clone())),
    }
}

/// The authentication data of an AUTH payload: a signature over `octets`.
///
/// # Errors
/// [`SignatureError`] if the private key does not fit.
pub fn sign(
    provider: &dyn Provider,
    kind: &KeyKind,
    private: &Secret,
    (method, scheme): (u8, Scheme),
    octets: &[u8],
    seed: &[u8; 32],
) -> Result<Vec<u8>, SignatureError> {
    let signature = provider.signatures().ok_or(SignatureError::Unavailable)?.sign(kind, private, scheme, octets, seed)?;
    if method != DIGITAL_SIGNATURE {
        return Ok(signature);
    }
    //= rfc7427#3
    //# the signature follows the AlgorithmIdentifier in DER, and that its own length in one octet
    let identifier = scheme.identifier().ok_or_else(|| SignatureError::Scheme(kind.clone()))?;
    let length = u8::try_from(identifier.len()).map_err(|_| SignatureError::Scheme(kind.clone()))?;
    Ok([&[length][..], &identifier, &signature].concat())
}

/// Verifies the authentication data of a peer's AUTH payload with its certificate; `sha1` allows method 1.
///
/// # Errors
/// [`SignatureError`] if it is wrong, or of a kind that is not accepted.
pub fn verify(
    provider: &dyn Provider,
    certificate: &Certificate,
    (method, data): (u8, &[u8]),
    octets: &[u8],
    sha1: bool,
) -> Result<(), SignatureError> {
    let signatures = provider.signatures().ok_or(SignatureError::Unavailable)?;
    let content = certificate.content();
    let (scheme, signature) = match (method, &content.key) {
        //= rfc8247#3.1
        //# method 1 is there for interoperability; it stays off until the operator wants it, as SHA-1 is what 3.2 forbids with method 14
        (RSA, _) if !sha1 => return Err(SignatureError::Algorithm(WITH_SHA1.to_owned())),
        (RSA, KeyKind::Rsa(_)) => (Scheme::RsaPkcs1(Hash::Sha1), data),
        (ECDSA_P256, KeyKind::EcdsaP256) => (Scheme::EcdsaPlain(Hash::Sha256), data),
        (ECDSA_P384, KeyKind::EcdsaP384) => (Scheme::EcdsaPlain(Hash::Sha384), data),
        (DIGITAL_SIGNATURE, _) => {
            let malformed = || SignatureError::Algorithm("a malformed algorithm identifier".to_owned());
            let (length, rest) = data.split_first().ok_or_else(malformed)?;
            let (identifier, signature) = rest.split_at_checked(usize::from(*length)).ok_or_else(malformed)?;
            (Scheme::from_identifier(identifier)?, signature)
        }
        _ => return Err(SignatureError::Scheme(content.key.clone())),
    };
    signatures.verify(&content.key, &content.public_key, scheme, octets, signature)
}
