//! Work that the engine hands out: public-key operations, and every use of a long-term secret.
//! Invariant: a long-term secret never enters the engine, only its `SecretId` does.

use std::sync::Arc;
use std::time::Duration;

use watari_crypto::{KePrivate, Provider, Scheme, auth_signature, derive, path};
use watari_kernel::SaKeys;
use watari_policies::algorithm::{ChildSuite, Group, Prf};
use watari_policies::certificate::{KeyKind, Trust};
use watari_policies::{Identity, Secret, SecretId};
use zeroize::Zeroizing;

/// Names a piece of work so that its result can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkId(pub u64);

/// A piece of work.
#[derive(Clone, Debug)]
pub enum Work {
    /// Make an ephemeral key pair from a seed of 64 octets.
    GenerateKey {
        /// Key exchange method.
        group: Group,
        /// Randomness from the engine's generator.
        seed: Secret,
    },
    /// Compute a shared secret as initiator, once the peer's public value is known.
    Agree {
        /// Key exchange method.
        group: Group,
        /// Our ephemeral private key.
        private: KePrivate,
        /// The peer's public value.
        peer: Vec<u8>,
    },
    /// Make a key pair and compute the shared secret in one step, as responder.
    GenerateAndAgree {
        /// Key exchange method.
        group: Group,
        /// Randomness from the engine's generator.
        seed: Secret,
        /// The peer's public value.
        peer: Vec<u8>,
    },
    /// `prf(prf(secret, "Key Pad for IKEv2"), octets)` (RFC 7296 2.15).
    PskMac {
        /// The pre-shared key.
        secret: SecretId,
        /// PRF of the IKE SA.
        prf: Prf,
        /// Signed octets.
        octets: Vec<u8>,
    },
    /// The authentication data of an AUTH payload by signature.
    Sign {
        /// The private key.
        key: SecretId,
        /// What kind of key it is.
        kind: KeyKind,
        /// AUTH method.
        method: u8,
        /// How the signature is made.
        scheme: Scheme,
        /// Signed octets.
        octets: Vec<u8>,
        /// 32 octets from the engine's generator, for blinding and salts.
        seed: Secret,
    },
    /// Whether a peer's certificates prove its identity, and its signature is by the key of the first of them.
    VerifyPeer {
        /// What is believed.
        trust: Arc<Trust>,
        /// What the peer calls itself.
        identity: Identity,
        /// What it sent.
        claim: PeerClaim,
        /// Octets that it must have signed.
        octets: Vec<u8>,
        /// Wall time, since the Unix epoch.
        wall: Duration,
    },
    /// Keys of an SA configured by hand, split as the kernel takes them.
    ManualKeys {
        /// The key: that of the cipher, then that of the integrity algorithm.
        secret: SecretId,
        /// Algorithms.
        suite: ChildSuite,
    },
}

/// What a peer with a certificate shows in IKE_AUTH.
#[derive(Clone, Debug)]
pub struct PeerClaim {
    /// Certificates in DER, in the order in which they came.
    pub certificates: Vec<Vec<u8>>,
    /// AUTH method.
    pub method: u8,
    /// Authentication data.
    pub data: Vec<u8>,
}

/// The result of a piece of work.
#[derive(Clone, Debug)]
pub enum WorkDone {
    /// A key pair.
    Key {
        /// Private key.
        private: KePrivate,
        /// Public value as it goes on the wire.
        public: Vec<u8>,
    },
    /// A shared secret.
    Shared(Secret),
    /// A public value and the shared secret.
    KeyAndShared {
        /// Public value as it goes on the wire.
        public: Vec<u8>,
        /// Shared secret.
        shared: Secret,
    },
    /// A message authentication code.
    Mac(Vec<u8>),
    /// Method and authentication data of an AUTH payload.
    Signature {
        /// AUTH method.
        method: u8,
        /// Authentication data.
        data: Vec<u8>,
    },
    /// The peer is who it says.
    Verified,
    /// Keys of an SA configured by hand.
    ManualKeys(SaKeys),
    /// The work could not be done; for a bad public value that is the peer's fault.
    Failed {
        /// Why, in words.
        why: String,
        /// Whether the peer's input was at fault.
        peer_at_fault: bool,
    },
}

/// Where long-term secrets live: a thread, another process, a smart card.
pub trait SecretStore {
    /// Runs `use_secret` on a secret without letting it out; `None` if there is no such secret.
    fn with_secret(&self, id: SecretId, use_secret: &mut dyn FnMut(&Secret));
}

impl SecretStore for std::collections::BTreeMap<SecretId, Secret> {
    fn with_secret(&self, id: SecretId, use_secret: &mut dyn FnMut(&Secret)) {
        if let Some(secret) = self.get(&id) {
            use_secret(secret);
        }
    }
}

/// Does a piece of work; the same function serves threads of the daemon and the simulator.
pub fn perform(provider: &dyn Provider, secrets: &dyn SecretStore, work: Work) -> WorkDone {
    match work {
        Work::GenerateKey { group, seed } => match provider.group(group) {
            Some(exchange) => match exchange.generate(&seed_octets(&seed)) {
                Ok((private, public)) => WorkDone::Key { private, public },
                Err(error) => failed(&error.to_string(), false),
            },
            None => unsupported(group),
        },
        Work::Agree { group, private, peer } => match provider.group(group) {
            Some(exchange) => match exchange.agree(&private, &peer) {
                Ok(shared) => WorkDone::Shared(shared),
                Err(error) => failed(&error.to_string(), true),
            },
            None => unsupported(group),
        },
        Work::GenerateAndAgree { group, seed, peer } => match provider.group(group) {
            Some(exchange) => match exchange.generate(&seed_octets(&seed)) {
                Ok((private, public)) => match exchange.agree(&private, &peer) {
                    Ok(shared) => WorkDone::KeyAndShared { public, shared },
                    Err(error) => failed(&error.to_string(), true),
                },
                Err(error) => failed(&error.to_string(), false),
            },
            None => unsupported(group),
        },
        Work::PskMac { secret, prf, octets } => {
            let mut mac = None;
            secrets.with_secret(secret, &mut |secret| mac = derive::psk_auth(provider, prf, secret, &octets).ok());
            mac.map_or_else(|| failed("the pre-shared key or its PRF is not available", false), WorkDone::Mac)
        }
        Work::Sign { key, kind, method, scheme, octets, seed } => {
            let mut made = None;
            let seed = Zeroizing::new(seed_octets::<32>(&seed));
            secrets.with_secret(key, &mut |private| {
                made = Some(auth_signature::sign(provider, &kind, private, (method, scheme), &octets, &seed));
            });
            match made {
                Some(Ok(data)) => WorkDone::Signature { method, data },
                Some(Err(error)) => failed(&error.to_string(), false),
                None => failed("the private key is not available", false),
            }
        }
        Work::VerifyPeer { trust, identity, claim, octets, wall } => {
            let verified = path::validate(provider, &trust, &claim.certificates, &identity, wall).map_err(|error| error.to_string());
            let verified = verified.and_then(|certificate| {
                auth_signature::verify(provider, &certificate, (claim.method, &claim.data), &octets, trust.sha1)
                    .map_err(|error| format!("the proof of {certificate} is wrong: {error}"))
            });
            match verified {
                Ok(()) => WorkDone::Verified,
                Err(why) => failed(&why, true),
            }
        }
        Work::ManualKeys { secret, suite } => {
            let mut keys = None;
            secrets.with_secret(secret, &mut |secret| keys = manual_keys(secret, suite));
            let why = || format!("the key configured by hand is not there or has not {} octets", suite.manual_key_len());
            keys.map_or_else(|| failed(&why(), false), WorkDone::ManualKeys)
        }
    }
}

/// A key configured by hand, if it has the length that the suite needs.
fn manual_keys(secret: &Secret, suite: ChildSuite) -> Option<SaKeys> {
    let octets = secret.expose();
    let (encryption, integrity) = octets.split_at_checked(suite.cipher.keymat_len())?;
    let whole = octets.len() == suite.manual_key_len();
    whole.then(|| SaKeys { suite, encryption: Secret::from(encryption), integrity: Secret::from(integrity) })
}

/// The seed as the providers take it; a shorter one is filled with zeros, which they refuse if nothing else is there.
fn seed_octets<const N: usize>(seed: &Secret) -> [u8; N] {
    let mut octets = [0; N];
    octets.iter_mut().zip(seed.expose()).for_each(|(to, from)| *to = *from);
    octets
}

fn unsupported(group: Group) -> WorkDone {
    failed(&format!("key exchange method {} is not available", group.name()), false)
}

fn failed(why: &str, peer_at_fault: bool) -> WorkDone {
    WorkDone::Failed { why: why.to_owned(), peer_at_fault }
}
