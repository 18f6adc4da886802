//! Whether a chain of certificates leads to a CA that is trusted (RFC 5280 6, RFC 4945 5): one pure function, time is an argument.
//! Invariant: what is not understood is refused, and the work for a chain is bounded whatever a peer sends.
//! Not looked at: revocation (CRL, OCSP). Name constraints are not evaluated: a critical one, as RFC 5280 wants it, refuses the chain.

use std::time::Duration;

use der::DateTime;
use watari_policies::Identity;
use watari_policies::certificate::{Certificate, CertificateError, Trust};

use crate::{Provider, Scheme, SignatureError};

/// Most certificates that a peer may send.
pub const MOST_SENT: usize = 8;
/// Most certificates of a path, the peer's own and the trusted CA's included.
const LONGEST_PATH: usize = 6;
/// Most signatures that are verified for one peer.
const MOST_SIGNATURES: usize = 16;

/// Purposes that fit IKE: id-kp-ipsecIKE and anyExtendedKeyUsage (RFC 4945 5.1.3.12).
const PURPOSES: [&str; 2] = ["1.3.6.1.5.5.7.3.17", "2.5.29.37.0"];

/// Why a peer's certificate is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// No certificate came and none is pinned.
    #[error("the peer sent no certificate")]
    None,
    /// More certificates than a chain can have.
    #[error("the peer sent {0} certificates, at most {MOST_SENT} are read")]
    TooMany(usize),
    /// A certificate cannot be read.
    #[error("a certificate of the peer is not usable: {0}")]
    Malformed(#[from] CertificateError),
    /// The identity stands nowhere in the certificate.
    #[error("the certificate of {subject} does not prove the identity {identity}: its SubjectAltName holds {names}")]
    Identity {
        /// What the peer calls itself.
        identity: Identity,
        /// Subject of the certificate.
        subject: String,
        /// What the certificate names.
        names: String,
    },
    /// The peer showed another certificate than the one that is configured.
    #[error("the peer showed the certificate of {shown}, `peer_certificate` is another one, of {pinned}")]
    NotPinned {
        /// Subject of what came.
        shown: String,
        /// Subject of what was wanted.
        pinned: String,
    },
    /// Not valid yet.
    #[error("the certificate of {subject} is not valid before {from}, and it is {now} here")]
    NotYet {
        /// Whose.
        subject: String,
        /// First second.
        from: String,
        /// Now.
        now: String,
    },
    /// Not valid any more.
    #[error("the certificate of {subject} expired at {until}, and it is {now} here")]
    Expired {
        /// Whose.
        subject: String,
        /// Last second.
        until: String,
        /// Now.
        now: String,
    },
    /// It is not for signatures.
    #[error("the certificate of {0} is not for signatures (keyUsage)")]
    KeyUsage(String),
    /// It is for something other than IKE.
    #[error("the certificate of {0} is for other purposes than IKE: extKeyUsage has {1}")]
    Purpose(String, String),
    /// It has a critical extension that nobody understands.
    #[error("the certificate of {0} has the critical extension {1}, which is not understood")]
    NotUnderstood(String, String),
    /// It issued a certificate without being a CA.
    #[error("{0} issued a certificate but is no CA (basicConstraints)")]
    NoAuthority(String),
    /// Its key may not sign certificates.
    #[error("the key of {0} may not sign certificates (keyUsage)")]
    CannotSign(String),
    /// There are more CAs below it than it allows.
    #[error("{subject} allows {allowed} CAs below itself, there are {below}")]
    PathLength {
        /// Which CA.
        subject: String,
        /// pathLenConstraint.
        allowed: u8,
        /// What there is.
        below: usize,
    },
    /// The signature on a certificate is not its issuer's.
    #[error("the certificate of {subject} cannot be traced to {issuer}: {why}")]
    Signature {
        /// Whose certificate.
        subject: String,
        /// Who should have signed it.
        issuer: String,
        /// What is wrong.
        why: SignatureError,
    },
    /// Neither a trusted CA nor anything the peer sent is its issuer.
    #[error("the certificate of {subject} was issued by {issuer}, which is no trusted CA; trusted: {trusted}")]
    Untrusted {
        /// Whose certificate.
        subject: String,
        /// Its issuer.
        issuer: String,
        /// Subjects of the CAs that are trusted.
        trusted: String,
    },
    /// A path longer than any that makes sense, or too many to try.
    #[error("the path from {0} to a trusted CA is too long")]
    TooLong(String),
}

/// Decides whether the peer's certificates prove `identity` at `now` (since the Unix epoch); the peer's own certificate if they do.
///
/// `sent` are the certificates as they came, in DER, the peer's own first.
///
/// # Errors
/// [`PathError`]: the first reason that speaks against it.
pub fn validate(
    provider: &dyn Provider,
    trust: &Trust,
    sent: &[Vec<u8>],
    identity: &Identity,
    now: Duration,
) -> Result<Certificate, PathError> {
    if sent.len() > MOST_SENT {
        return Err(PathError::TooMany(sent.len()));
    }
    let read = sent.iter().map(|octets| Certificate::from_der(octets)).collect::<Result<Vec<_>, _>>()?;
    //= rfc7296#3.6
    //# the first certificate is the one whose key made the AUTH payload
    let own = read.first().or(trust.pinned.as_ref()).ok_or(PathError::None)?;
    if let Some(pinned) = trust.pinned.as_ref().filter(|pinned| *pinned != own) {
        return Err(PathError::NotPinned { shown: own.to_string(), pinned: pinned.to_string() });
    }
    if !own.proves(identity) {
        let (subject, names) = (own.to_string(), own.names_text());
        return Err(PathError::Identity { identity: identity.clone(), subject, names });
    }
    fit_for_ike(own, now)?;
    if trust.pinned.is_some() && trust.authorities.is_empty() {
        return Ok(own.clone());
    }
    let mut search = Search { provider, trust, sent: &read, now, signatures: 0 };
    search.trace(own, 0, 1)?;
    Ok(own.clone())
}

/// What the peer's own certificate must be.
fn fit_for_ike(certificate: &Certificate, now: Duration) -> Result<(), PathError> {
    in_force(certificate, now)?;
    let content = certificate.content();
    //= rfc4945#5.1.3.2
    //# with keyUsage at least one of digitalSignature and nonRepudiation is needed
    if content.usage.is_some_and(|usage| !usage.signs) {
        return Err(PathError::KeyUsage(certificate.to_string()));
    }
    //= rfc4945#5.1.3.12
    //# extKeyUsage, where it is, names IKE or any purpose
    match &content.purposes {
        Some(purposes) if !purposes.iter().any(|purpose| PURPOSES.contains(&purpose.as_str())) => {
            let named = purposes.iter().take(8).cloned().collect::<Vec<_>>().join(", ");
            Err(PathError::Purpose(certificate.to_string(), named))
        }
        _ => Ok(()),
    }
}

/// What every certificate of a path must be: understood, and within its time.
fn in_force(certificate: &Certificate, now: Duration) -> Result<(), PathError> {
    let content = certificate.content();
    //= rfc5280#4.2
    //# a certificate with a critical extension that is not recognised is rejected
    if let Some(extension) = content.not_understood.first() {
        return Err(PathError::NotUnderstood(certificate.to_string(), extension.clone()));
    }
    let (subject, seconds) = (|| certificate.to_string(), now.as_secs());
    if seconds < content.not_before.as_secs() {
        return Err(PathError::NotYet { subject: subject(), from: moment(content.not_before), now: moment(now) });
    }
    if seconds > content.not_after.as_secs() {
        return Err(PathError::Expired { subject: subject(), until: moment(content.not_after), now: moment(now) });
    }
    Ok(())
}

/// A moment as date and time of day in UTC.
fn moment(since_epoch: Duration) -> String {
    DateTime::from_unix_duration(since_epoch)
        .map_or_else(|_| format!("{} s since 1970", since_epoch.as_secs()), |moment| moment.to_string())
}

struct Search<'a> {
    provider: &'a dyn Provider,
    trust: &'a Trust,
    sent: &'a [Certificate],
    now: Duration,
    signatures: usize,
}

impl Search<'_> {
    /// Looks for a path from `certificate` upwards; `below` counts the CAs under its issuer, `length` the certificates so far.
    fn trace(&mut self, certificate: &Certificate, below: usize, length: usize) -> Result<(), PathError> {
        // A CA of ours may itself have been shown; what is trusted needs no issuer.
        if length > 1 && self.trust.authorities.contains(certificate) {
            return Ok(());
        }
        if length >= LONGEST_PATH {
            return Err(PathError::TooLong(certificate.to_string()));
        }
        let issuer = &certificate.content().issuer;
        let trusted = self.trust.authorities.iter().filter(|above| above.content().subject == *issuer);
        let shown = self.sent.iter().filter(|above| above.content().subject == *issuer && *above != certificate);
        let mut refused = None;
        // A peer that sends many CAs of one name makes the search no longer than this.
        for (above, known) in trusted.map(|above| (above, true)).chain(shown.map(|above| (above, false))) {
            let above = above.clone();
            let step = self.issued(certificate, &above, below).and_then(|()| {
                let below = if above.is_self_issued() { below } else { below.saturating_add(1) };
                if known { Ok(()) } else { self.trace(&above, below, length.saturating_add(1)) }
            });
            match step {
                Ok(()) => return Ok(()),
                Err(why) => refused = refused.or(Some(why)),
            }
        }
        Err(refused.unwrap_or_else(|| {
            let names: Vec<String> = self.trust.authorities.iter().take(8).map(ToString::to_string).collect();
            let (subject, issuer) = (certificate.to_string(), certificate.content().issuer_text.clone());
            PathError::Untrusted { subject, issuer, trusted: names.join(" / ") }
        }))
    }

    /// Whether `above` may have issued `certificate`, and did.
    fn issued(&mut self, certificate: &Certificate, above: &Certificate, below: usize) -> Result<(), PathError> {
        in_force(above, self.now)?;
        let content = above.content();
        let subject = || above.to_string();
        //= rfc5280#6.1.4
        //# basicConstraints of an issuer say that it is a CA, and its path length is not exceeded
        let Some((true, length)) = content.constraints else { return Err(PathError::NoAuthority(subject())) };
        if content.usage.is_some_and(|usage| !usage.signs_certificates) {
            return Err(PathError::CannotSign(subject()));
        }
        if let Some(allowed) = length.filter(|allowed| usize::from(*allowed) < below) {
            return Err(PathError::PathLength { subject: subject(), allowed, below });
        }
        self.signatures = self.signatures.saturating_add(1);
        if self.signatures > MOST_SIGNATURES {
            return Err(PathError::TooLong(certificate.to_string()));
        }
        let signed = certificate.content();
        let verified = Scheme::from_identifier(&signed.signature_algorithm).and_then(|scheme| {
            let signatures = self.provider.signatures().ok_or(SignatureError::Unavailable)?;
            signatures.verify(&content.key, &content.public_key, scheme, &signed.signed, &signed.signature)
        });
        verified.map_err(|why| PathError::Signature { subject: certificate.to_string(), issuer: subject(), why })
    }
}
