//! How each side of a remote proves who it is: by a shared key or by a certificate, and not necessarily both alike (RFC 7296 2.15).

use std::sync::Arc;

use super::Certificate;
use crate::SecretId;

/// A certificate of ours and the name of its private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Our certificate, then those of the CAs between it and a root, in this order. Never empty.
    pub chain: Vec<Certificate>,
    /// The private key, held by the key keeper.
    pub key: SecretId,
    /// The file of the certificates as the configuration names it; empty when made by a program.
    pub path: String,
}

/// Which certificates of a peer are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Certificates of CAs; with none, the pinned certificate alone counts.
    pub authorities: Vec<Certificate>,
    /// The only certificate that the peer may show.
    pub pinned: Option<Certificate>,
    /// Whether RSA with SHA-1 (AUTH method 1) serves with a peer without RFC 7427, in both directions: RFC 8247 3.1 keeps the method for
    /// interoperability, and 3.2 forbids that hash with method 14.
    pub sha1: bool,
    /// The files as the configuration names them: those of the CAs, and that of the pinned certificate.
    pub paths: (Vec<String>, Option<String>),
}

/// How we prove who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnProof {
    /// By a shared key.
    Psk(SecretId),
    /// By a signature.
    Certificate(Arc<Credential>),
}

/// How the peer must prove who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerProof {
    /// By a shared key.
    Psk(SecretId),
    /// By a signature.
    Certificate(Arc<Trust>),
}

/// The proofs of both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proofs {
    /// Ours.
    pub ours: OwnProof,
    /// The peer's.
    pub theirs: PeerProof,
}
