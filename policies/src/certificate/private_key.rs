//! Private keys in files: PKCS#8, PKCS#1 and SEC 1, brought into the one form that the key keeper signs with.
//! Invariant: nothing of a key stands in an error, and what is decoded on the way is wiped.

use der::asn1::{ObjectIdentifier, UintRef};
use der::{Decode, Reader, SliceReader};
use pkcs8::PrivateKeyInfoRef;
use sec1::EcPrivateKey;
use zeroize::Zeroizing;

use super::file::blocks;
use super::{Certificate, KeyKind};
use crate::Secret;

/// Why a file has no private key that fits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrivateKeyError {
    /// No PEM block of a private key, and no DER.
    #[error("there is no private key in it (\"-----BEGIN PRIVATE KEY-----\")")]
    None,
    /// It asks for a password.
    #[error("the private key in it is encrypted")]
    Encrypted,
    /// The octets are no private key of the kind that they should be.
    #[error("the private key in it cannot be read")]
    Unreadable,
    /// It belongs to another certificate.
    #[error("the private key in it is not that of the certificate of {0}")]
    OfAnother(String),
    /// Keys of the certificate's kind cannot sign here.
    #[error("the certificate has a key of {0}, where RSA of 2048 to 8192 bits, ECDSA P-256 or ECDSA P-384 is needed")]
    Kind(KeyKind),
}

/// Modulus and exponent of an RSAPublicKey (RFC 8017 A.1.1).
pub(super) fn rsa_public(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut reader = SliceReader::new(octets).ok()?;
    let read = reader.sequence(|inner| Ok::<_, der::Error>((UintRef::decode(inner)?.as_bytes(), UintRef::decode(inner)?.as_bytes())));
    read.ok()
}

/// Significant bits of a number.
pub(super) fn bits(number: &[u8]) -> usize {
    let mut significant = number.iter().skip_while(|octet| **octet == 0);
    let first = significant.next().map_or(0, |octet| 8usize.saturating_sub(octet.leading_zeros() as usize));
    significant.count().saturating_mul(8).saturating_add(first)
}

/// Modulus and exponent of an RSAPrivateKey (RFC 8017 A.1.2).
fn rsa_of_private(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut reader = SliceReader::new(octets).ok()?;
    let read = reader.sequence(|inner| {
        u8::decode(inner)?;
        let public = (UintRef::decode(inner)?.as_bytes(), UintRef::decode(inner)?.as_bytes());
        while !inner.is_finished() {
            inner.tlv_bytes()?;
        }
        Ok::<_, der::Error>(public)
    });
    read.ok()
}

/// The private key of `certificate` out of a file, as the key keeper signs with it: an RSAPrivateKey in DER, or the scalar of an elliptic
/// curve in as many octets as its field has.
///
/// # Errors
/// [`PrivateKeyError`]: there is none, or it does not fit the certificate.
pub fn private_key(content: &[u8], certificate: &Certificate) -> Result<Secret, PrivateKeyError> {
    let of_another = || PrivateKeyError::OfAnother(certificate.to_string());
    let read = certificate.content();
    let (form, octets) = decoded(content)?;
    let bare = unwrapped(form, &octets)?;
    match read.key {
        KeyKind::Rsa(2048..=8192) => {
            let ours = rsa_of_private(&bare).ok_or_else(of_another)?;
            let theirs = rsa_public(&read.public_key).ok_or(PrivateKeyError::Unreadable)?;
            if ours == theirs { Ok(Secret::from(bare.as_slice())) } else { Err(of_another()) }
        }
        KeyKind::EcdsaP256 => scalar(&bare, super::oid::P256, |scalar| {
            let ours = p256::SecretKey::from_slice(scalar).ok()?.public_key();
            Some(ours == p256::PublicKey::from_sec1_bytes(&read.public_key).ok()?)
        })
        .ok_or_else(of_another),
        KeyKind::EcdsaP384 => scalar(&bare, super::oid::P384, |scalar| {
            let ours = p384::SecretKey::from_slice(scalar).ok()?.public_key();
            Some(ours == p384::PublicKey::from_sec1_bytes(&read.public_key).ok()?)
        })
        .ok_or_else(of_another),
        ref other => Err(PrivateKeyError::Kind(other.clone())),
    }
}

/// What the octets of a file are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Pkcs8,
    /// RSAPrivateKey or ECPrivateKey.
    Bare,
}

fn decoded(content: &[u8]) -> Result<(Form, Zeroizing<Vec<u8>>), PrivateKeyError> {
    if content.first() == Some(&0x30) {
        let form = if PrivateKeyInfoRef::try_from(content).is_ok() { Form::Pkcs8 } else { Form::Bare };
        return Ok((form, Zeroizing::new(content.to_vec())));
    }
    for (label, block) in blocks(content) {
        let encrypted = label == "ENCRYPTED PRIVATE KEY" || block.contains("Proc-Type: 4,ENCRYPTED");
        let form = match label {
            _ if encrypted => return Err(PrivateKeyError::Encrypted),
            "PRIVATE KEY" => Form::Pkcs8,
            "RSA PRIVATE KEY" | "EC PRIVATE KEY" => Form::Bare,
            _ => continue,
        };
        let (_, octets) = der::pem::decode_vec(block.as_bytes()).map_err(|_| PrivateKeyError::Unreadable)?;
        return Ok((form, Zeroizing::new(octets)));
    }
    Err(PrivateKeyError::None)
}

/// The RSAPrivateKey or ECPrivateKey itself.
fn unwrapped(form: Form, octets: &[u8]) -> Result<Zeroizing<Vec<u8>>, PrivateKeyError> {
    if form == Form::Bare {
        return Ok(Zeroizing::new(octets.to_vec()));
    }
    let info = PrivateKeyInfoRef::try_from(octets).map_err(|_| PrivateKeyError::Unreadable)?;
    Ok(Zeroizing::new(info.private_key.as_bytes().to_vec()))
}

/// The scalar of an ECPrivateKey (RFC 5915), if its point is that of the certificate. What the file itself says of the point is optional there
/// and proves nothing, so it is computed.
fn scalar(octets: &[u8], curve: ObjectIdentifier, fits: impl Fn(&[u8]) -> Option<bool>) -> Option<Secret> {
    let key = EcPrivateKey::try_from(octets).ok()?;
    let named: Option<ObjectIdentifier> = key.parameters.and_then(|parameters| parameters.named_curve());
    let length = if curve == super::oid::P256 { 32 } else { 48 };
    let sound = key.private_key.len() == length && named.is_none_or(|named| named == curve) && fits(key.private_key) == Some(true);
    sound.then(|| Secret::from(key.private_key))
}
