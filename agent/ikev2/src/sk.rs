//! Messages under the keys of an IKE SA: sealed on their way out, verified and opened on their way in (RFC 7296 3.14).
//! Invariant: an IV is never used twice under one key; nothing is read before its ICV is verified.

use watari_crypto::{CryptoError, IkeKeys, Provider};
use watari_policies::algorithm::IkeSuite;
use watari_sa::Rng;
use watari_wire::Malformed;
use watari_wire::ikev2::{Header, Message, Payload, decode_chain, encode_chain, encrypted_prefix};

/// Keys and algorithms of an IKE SA.
#[derive(Clone, Debug)]
pub(crate) struct Crypt {
    /// Algorithms.
    pub(crate) suite: IkeSuite,
    /// The seven keys.
    pub(crate) keys: IkeKeys,
    /// Whether this host is the original initiator of the IKE SA.
    initiator: bool,
    sent: u64,
}

/// Why a message could not be opened.
#[derive(Debug)]
pub(crate) enum Unreadable {
    /// It has no encrypted payload.
    Plain,
    /// Its ICV is wrong.
    Forged(CryptoError),
    /// Its ICV is right but its content is not well-formed: the peer's fault.
    Malformed(Malformed),
}

impl Crypt {
    /// Keys and algorithms from this host's role.
    pub(crate) const fn new(suite: IkeSuite, keys: IkeKeys, initiator: bool) -> Self {
        Self { suite, keys, initiator, sent: 0 }
    }

    /// The octets of a message whose payloads go into SK.
    pub(crate) fn seal(
        &mut self,
        provider: &dyn Provider,
        rng: &mut Rng,
        header: &Header,
        payloads: &[Payload],
    ) -> Result<Vec<u8>, CryptoError> {
        let (first, plaintext) = encode_chain(payloads);
        let protection = self.keys.protection(provider, &self.suite, self.initiator)?;
        let prefix = encrypted_prefix(header, &[], first, protection.body_len(plaintext.len()));
        self.sent = self.sent.saturating_add(1);
        //= rfc5282#3.1
        //# the IV of an AEAD never repeats under one key: a counter; that of CBC cannot be foreseen
        let iv = if self.suite.cipher.is_aead() { self.sent.to_be_bytes().to_vec() } else { rng.octets(protection.iv_len()) };
        let body = protection.protect(&prefix, &iv, &plaintext)?;
        Ok([prefix, body].concat())
    }

    /// The payloads inside the SK payload of a message from the peer.
    pub(crate) fn open(&self, provider: &dyn Provider, octets: &[u8], message: &Message) -> Result<Vec<Payload>, Unreadable> {
        let Some(Payload::Encrypted(sk)) = message.payloads.last() else { return Err(Unreadable::Plain) };
        let prefix = octets.get(..sk.offset).ok_or(Unreadable::Plain)?;
        let protection = self.keys.protection(provider, &self.suite, !self.initiator).map_err(Unreadable::Forged)?;
        let plaintext = protection.unprotect(prefix, &sk.body).map_err(Unreadable::Forged)?;
        decode_chain(sk.first_inner, &plaintext, sk.offset).map_err(Unreadable::Malformed)
    }
}
