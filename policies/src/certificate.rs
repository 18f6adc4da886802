//! X.509 certificates as far as IKE needs them (RFC 5280, RFC 4945): what one says, read once, and whom it names.
//! Reading judges nothing: whether to believe a certificate is decided where signatures are verified.
//! Invariant: texts are printable ASCII of bounded length, so that a peer cannot write control characters into a log.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use der::asn1::{AnyRef, ObjectIdentifier};
use der::{Decode, Encode, Reader, SliceReader};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage};

use crate::Identity;

mod credential;
mod file;
mod private_key;

pub use credential::{Credential, OwnProof, PeerProof, Proofs, Trust};
pub use file::certificates;
pub use private_key::{PrivateKeyError, private_key};

/// Most octets of a certificate that is read at all.
const LARGEST: usize = 16 * 1024;

/// Object identifiers of extensions and algorithms that are read.
mod oid {
    use der::asn1::ObjectIdentifier;

    pub(super) const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
    pub(super) const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
    pub(super) const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
    pub(super) const NAME_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.30");
    pub(super) const CERTIFICATE_POLICIES: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.32");
    pub(super) const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");
    pub(super) const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
    pub(super) const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
    pub(super) const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
    pub(super) const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
}

/// Why octets are no certificate that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The octets are no X.509 certificate in DER.
    #[error("it is no X.509 certificate: {0}")]
    Unreadable(String),
    /// More octets than any certificate of IKE has.
    #[error("it has {0} octets, more than 16 KiB")]
    TooLarge(usize),
    /// An extension stands twice (RFC 5280 4.2 forbids it).
    #[error("the extension {0} stands twice in it")]
    Repeated(String),
    /// The file has no certificate.
    #[error("there is no certificate in it (\"-----BEGIN CERTIFICATE-----\")")]
    None,
}

/// The kind of a public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// RSA, with the length of the modulus in bits.
    Rsa(usize),
    /// ECDSA on NIST P-256.
    EcdsaP256,
    /// ECDSA on NIST P-384.
    EcdsaP384,
    /// Any other, by its object identifier.
    Other(String),
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(bits) => write!(f, "RSA of {bits} bits"),
            Self::EcdsaP256 => f.write_str("ECDSA P-256"),
            Self::EcdsaP384 => f.write_str("ECDSA P-384"),
            Self::Other(oid) => write!(f, "kind {oid}"),
        }
    }
}

/// One name of the SubjectAltName extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AltName {
    /// dNSName.
    Dns(String),
    /// rfc822Name.
    Email(String),
    /// iPAddress of 4 or 16 octets.
    Address(IpAddr),
    /// A name of another kind, by the number of its tag, or one that does not fit its kind.
    Other(u32),
}

impl fmt::Display for AltName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => write!(f, "DNS:{}", printable(name)),
            Self::Email(name) => write!(f, "email:{}", printable(name)),
            Self::Address(address) => write!(f, "IP:{address}"),
            Self::Other(tag) => write!(f, "a name of kind {tag}"),
        }
    }
}

/// What a key may be used for, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// digitalSignature or nonRepudiation.
    pub signs: bool,
    /// keyCertSign.
    pub signs_certificates: bool,
}

/// A certificate, read. Equal if the octets are.
#[derive(Clone)]
pub struct Certificate {
    der: Arc<[u8]>,
    read: Arc<Content>,
}

/// What a certificate says.
#[derive(Debug)]
pub struct Content {
    /// The octets that are signed (tbsCertificate).
    pub signed: Vec<u8>,
    /// The algorithm of the signature, an AlgorithmIdentifier in DER.
    pub signature_algorithm: Vec<u8>,
    /// The signature.
    pub signature: Vec<u8>,
    /// Name of the issuer in DER.
    pub issuer: Vec<u8>,
    /// Name of the subject in DER.
    pub subject: Vec<u8>,
    /// The subject as a person reads it.
    pub subject_text: String,
    /// The issuer as a person reads it.
    pub issuer_text: String,
    /// The SubjectPublicKeyInfo in DER.
    pub public_key_info: Vec<u8>,
    /// The octets of the key itself.
    pub public_key: Vec<u8>,
    /// What kind of key it is.
    pub key: KeyKind,
    /// First second of its life, since the Unix epoch.
    pub not_before: Duration,
    /// Last second of its life, since the Unix epoch.
    pub not_after: Duration,
    /// Whether basicConstraints make it a CA, and how many CAs may stand below it; `None` without that extension.
    pub constraints: Option<(bool, Option<u8>)>,
    /// keyUsage, if it is there.
    pub usage: Option<Usage>,
    /// extKeyUsage, if it is there: object identifiers.
    pub purposes: Option<Vec<String>>,
    /// Names of the subject beside its distinguished name.
    pub names: Vec<AltName>,
    /// Critical extensions that nothing here understands: they forbid the use of the certificate (RFC 5280 4.2).
    pub not_understood: Vec<String>,
}

impl Certificate {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// [`CertificateError`] if it cannot be read, is too large, or has an extension twice.
    pub fn from_der(octets: &[u8]) -> Result<Self, CertificateError> {
        if octets.len() > LARGEST {
            return Err(CertificateError::TooLarge(octets.len()));
        }
        let unreadable = |error: der::Error| CertificateError::Unreadable(error.to_string());
        let certificate = x509_cert::Certificate::from_der(octets).map_err(unreadable)?;
        let signed = signed_part(octets).map_err(unreadable)?;
        let tbs = certificate.tbs_certificate();
        let algorithm = certificate.signature_algorithm();
        if tbs.signature() != algorithm {
            return Err(CertificateError::Unreadable("the algorithm of its signature stands differently in two places".to_owned()));
        }
        let info = tbs.subject_public_key_info();
        let public_key = info.subject_public_key.as_bytes().unwrap_or_default().to_vec();
        let curve = info.algorithm.parameters.as_ref().and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
        let mut content = Content {
            signed: signed.to_vec(),
            signature_algorithm: algorithm.to_der().map_err(unreadable)?,
            signature: certificate.signature().as_bytes().unwrap_or_default().to_vec(),
            issuer: tbs.issuer().to_der().map_err(unreadable)?,
            subject: tbs.subject().to_der().map_err(unreadable)?,
            subject_text: distinguished(&tbs.subject().to_string()),
            issuer_text: distinguished(&tbs.issuer().to_string()),
            public_key_info: info.to_der().map_err(unreadable)?,
            key: key_kind(info.algorithm.oid, curve, &public_key),
            public_key,
            not_before: tbs.validity().not_before.to_unix_duration(),
            not_after: tbs.validity().not_after.to_unix_duration(),
            constraints: None,
            usage: None,
            purposes: None,
            names: Vec::new(),
            not_understood: Vec::new(),
        };
        let mut seen = Vec::new();
        for extension in tbs.extensions().into_iter().flatten() {
            if seen.contains(&extension.extn_id) {
                return Err(CertificateError::Repeated(extension.extn_id.to_string()));
            }
            seen.push(extension.extn_id);
            content.extend(extension).map_err(unreadable)?;
        }
        Ok(Self { der: octets.into(), read: Arc::new(content) })
    }

    /// The octets as they came.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// What it says.
    pub fn content(&self) -> &Content {
        &self.read
    }

    /// Whether issuer and subject are one.
    pub fn is_self_issued(&self) -> bool {
        self.read.issuer == self.read.subject
    }

    /// Whether it names this identity (RFC 4945 3.1): whole names only, addresses octet for octet, a distinguished name as the subject.
    pub fn proves(&self, identity: &Identity) -> bool {
        //= rfc4945#3.1.1
        //# an address in ID is compared bit by bit with iPAddress of the SubjectAltName
        let names = &self.read.names;
        match identity {
            Identity::Address(address) => names.iter().any(|name| matches!(name, AltName::Address(named) if named == address)),
            //= rfc4945#3.1.2
            //# a domain name is compared without case, and never by parts or wildcards
            Identity::Fqdn(wanted) => names.iter().any(|name| matches!(name, AltName::Dns(named) if named.eq_ignore_ascii_case(wanted))),
            //= rfc4945#3.1.3
            //# a name of a mailbox is compared without case with rfc822Name
            Identity::Email(wanted) => names.iter().any(|name| matches!(name, AltName::Email(named) if named.eq_ignore_ascii_case(wanted))),
            //= rfc4945#3.1.5
            //# a distinguished name is that of the subject
            Identity::Other { id_type: Identity::DISTINGUISHED_NAME, data } => *data == self.read.subject,
            Identity::KeyId(_) | Identity::Other { .. } => false,
        }
    }

    /// Every name of its SubjectAltName, for a person.
    pub fn names_text(&self) -> String {
        const MOST: usize = 16;
        let names = &self.read.names;
        if names.is_empty() {
            return "nothing".to_owned();
        }
        let more = if names.len() > MOST { ", ..." } else { "" };
        let list: Vec<String> = names.iter().take(MOST).map(ToString::to_string).collect();
        format!("{}{more}", list.join(", "))
    }
}

impl Content {
    /// Takes in what one extension says.
    fn extend(&mut self, extension: &Extension) -> Result<(), der::Error> {
        let value = extension.extn_value.as_bytes();
        match extension.extn_id {
            oid::BASIC_CONSTRAINTS => {
                let read = BasicConstraints::from_der(value)?;
                self.constraints = Some((read.ca, read.path_len_constraint));
            }
            oid::KEY_USAGE => {
                let read = KeyUsage::from_der(value)?;
                let signs = read.digital_signature() || read.non_repudiation();
                self.usage = Some(Usage { signs, signs_certificates: read.key_cert_sign() });
            }
            oid::EXTENDED_KEY_USAGE => {
                self.purposes = Some(ExtendedKeyUsage::from_der(value)?.0.iter().map(ToString::to_string).collect());
            }
            oid::SUBJECT_ALT_NAME => self.names = Vec::<AnyRef<'_>>::from_der(value)?.iter().map(alt_name).collect(),
            // Any policy will do here, so that there is nothing to refuse.
            oid::CERTIFICATE_POLICIES => {}
            oid::NAME_CONSTRAINTS if extension.critical => self.not_understood.push("name constraints (2.5.29.30)".to_owned()),
            other if extension.critical => self.not_understood.push(other.to_string()),
            _ => {}
        }
        Ok(())
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({}, {} octets)", self.read.subject_text, self.der.len())
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.read.subject_text)
    }
}

/// The octets of tbsCertificate, header included.
fn signed_part(der: &[u8]) -> Result<&[u8], der::Error> {
    let mut reader = SliceReader::new(der)?;
    reader.sequence(|inner| {
        let signed = inner.tlv_bytes()?;
        // The algorithm and the signature have been read elsewhere.
        let _ = (inner.tlv_bytes()?, inner.tlv_bytes()?);
        Ok(signed)
    })
}

fn key_kind(algorithm: ObjectIdentifier, curve: Option<ObjectIdentifier>, key: &[u8]) -> KeyKind {
    match (algorithm, curve) {
        (oid::RSA, _) => KeyKind::Rsa(private_key::rsa_public(key).map_or(0, |(modulus, _)| private_key::bits(modulus))),
        (oid::EC, Some(oid::P256)) => KeyKind::EcdsaP256,
        (oid::EC, Some(oid::P384)) => KeyKind::EcdsaP384,
        (oid::EC, Some(curve)) => KeyKind::Other(curve.to_string()),
        (other, _) => KeyKind::Other(other.to_string()),
    }
}

/// A GeneralName; those that matter are of implicit tags.
fn alt_name(name: &AnyRef<'_>) -> AltName {
    let number = match der::Tagged::tag(name) {
        der::Tag::ContextSpecific { number, .. } => number.value(),
        _ => u32::MAX,
    };
    let octets = name.value();
    let text = || std::str::from_utf8(octets).ok().filter(|text| text.is_ascii() && !text.is_empty()).map(str::to_owned);
    let known = match number {
        1 => text().map(AltName::Email),
        2 => text().map(AltName::Dns),
        7 => <[u8; 4]>::try_from(octets)
            .map(IpAddr::from)
            .or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from))
            .ok()
            .map(AltName::Address),
        _ => None,
    };
    known.unwrap_or(AltName::Other(number))
}

fn distinguished(name: &str) -> String {
    if name.is_empty() { "(no subject)".to_owned() } else { printable(name) }
}

/// The text without what is not printable ASCII, at most a line of it.
fn printable(text: &str) -> String {
    text.chars().take(120).map(|letter| if letter.is_ascii_graphic() || letter == ' ' { letter } else { '?' }).collect()
}

#[cfg(test)]
mod tests;
