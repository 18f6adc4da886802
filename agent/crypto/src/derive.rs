//! Keys of IKE SAs and child SAs, and the octets that authenticate an IKE SA (RFC 7296 2.13 to 2.18).
//! SKEYSEED is HKDF-Extract and prf+ is HKDF-Expand (RFC 5869) under other names.

use watari_policies::algorithm::{ChildSuite, IkeSuite, Integrity, Prf};
use watari_policies::secret::Secret;

use crate::provider::child_key_lengths;
use crate::{CryptoError, Protection, Provider};

/// What both sides of an IKE_SA_INIT, or of a rekey of the IKE SA, have sent each other in the open.
#[derive(Clone, Copy, Debug)]
pub struct IkeInputs<'a> {
    /// Nonce of the initiator, without its payload header.
    pub ni: &'a [u8],
    /// Nonce of the responder.
    pub nr: &'a [u8],
    /// SPI of the initiator of the SA that gets the keys.
    pub spi_i: [u8; 8],
    /// SPI of the responder of the SA that gets the keys.
    pub spi_r: [u8; 8],
}

/// The seven keys of an IKE SA (RFC 7296 2.14).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IkeKeys {
    /// SK_d: child SAs and the next IKE SA grow from it.
    pub d: Secret,
    /// SK_ai: integrity of what the original initiator sends; empty with an AEAD.
    pub ai: Secret,
    /// SK_ar: integrity of what the original responder sends; empty with an AEAD.
    pub ar: Secret,
    /// SK_ei: encryption of what the original initiator sends, salt included.
    pub ei: Secret,
    /// SK_er: encryption of what the original responder sends, salt included.
    pub er: Secret,
    /// SK_pi: goes into the AUTH payload of the initiator.
    pub pi: Secret,
    /// SK_pr: goes into the AUTH payload of the responder.
    pub pr: Secret,
}

impl IkeKeys {
    /// The keys after IKE_SA_INIT; `shared` is g^ir.
    ///
    /// # Errors
    /// [`CryptoError::Unsupported`] if the provider lacks the PRF.
    pub fn initial(provider: &dyn Provider, suite: &IkeSuite, shared: &Secret, inputs: &IkeInputs<'_>) -> Result<Self, CryptoError> {
        //= rfc7296#2.14
        //# SKEYSEED = prf(Ni | Nr, g^ir)
        let nonces = Secret::new([inputs.ni, inputs.nr].concat());
        let skeyseed = provider.need_prf(suite.prf)?.prf(nonces.expose(), &[shared.expose()]);
        Self::expand(provider, suite, &skeyseed, inputs)
    }

    /// The keys of an IKE SA that replaces another; `old_prf` and `old_d` are those of the replaced SA, `shared` is the new g^ir.
    ///
    /// # Errors
    /// [`CryptoError::Unsupported`] if the provider lacks one of the PRFs.
    pub fn rekeyed(
        provider: &dyn Provider,
        suite: &IkeSuite,
        old_prf: Prf,
        old_d: &Secret,
        shared: &Secret,
        inputs: &IkeInputs<'_>,
    ) -> Result<Self, CryptoError> {
        //= rfc7296#2.18
        //# SKEYSEED = prf(SK_d (old), g^ir (new) | Ni | Nr), with the PRF of the old IKE SA; all else with that of the new one.
        let old_prf = provider.need_prf(old_prf)?;
        let skeyseed = old_prf.prf(old_d.expose(), &[shared.expose(), inputs.ni, inputs.nr]);
        Self::expand(provider, suite, &skeyseed, inputs)
    }

    fn expand(provider: &dyn Provider, suite: &IkeSuite, skeyseed: &Secret, inputs: &IkeInputs<'_>) -> Result<Self, CryptoError> {
        //= rfc7296#2.14
        //# {SK_d | SK_ai | SK_ar | SK_ei | SK_er | SK_pi | SK_pr} = prf+ (SKEYSEED, Ni | Nr | SPIi | SPIr)
        let prf = provider.need_prf(suite.prf)?;
        let integrity = suite.integrity.map_or(0, Integrity::key_len);
        let encryption = suite.cipher.keymat_len();
        let key = prf.key_len();
        let lengths = [key, integrity, integrity, encryption, encryption, key, key];
        let seed = [inputs.ni, inputs.nr, &inputs.spi_i, &inputs.spi_r];
        let stream = prf.prf_plus(skeyseed.expose(), &seed, lengths.iter().sum())?;
        let [d, ai, ar, ei, er, pi, pr] = split(&stream, lengths);
        Ok(Self { d, ai, ar, ei, er, pi, pr })
    }

    /// What protects the messages of one direction: those of the original initiator of this IKE SA, or those of its responder.
    ///
    /// # Errors
    /// [`CryptoError::Unsupported`] if the provider lacks the cipher or the integrity algorithm.
    pub fn protection<'a>(
        &'a self,
        provider: &'a dyn Provider,
        suite: &IkeSuite,
        sent_by_initiator: bool,
    ) -> Result<Protection<'a>, CryptoError> {
        let (encryption, integrity) = if sent_by_initiator { (&self.ei, &self.ai) } else { (&self.er, &self.ar) };
        Protection::new(provider, suite, encryption, integrity)
    }
}

/// The keys of a pair of child SAs (RFC 7296 2.17); "initiator" is who began the exchange that made them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChildKeys {
    /// Encryption of what the initiator sends, salt included.
    pub initiator_encryption: Secret,
    /// Integrity of what the initiator sends; empty with an AEAD.
    pub initiator_integrity: Secret,
    /// Encryption of what the responder sends, salt included.
    pub responder_encryption: Secret,
    /// Integrity of what the responder sends; empty with an AEAD.
    pub responder_integrity: Secret,
}

impl ChildKeys {
    /// The keys of a child SA under the IKE SA with `prf` and SK_d `d`; `shared` is g^ir if the exchange had a key exchange of its own.
    ///
    /// The nonces are those of IKE_SA_INIT for the first child, else those of the CREATE_CHILD_SA exchange.
    ///
    /// # Errors
    /// [`CryptoError::Unsupported`] if the provider lacks the PRF.
    pub fn derive(
        provider: &dyn Provider,
        prf: Prf,
        d: &Secret,
        suite: &ChildSuite,
        shared: Option<&Secret>,
        ni: &[u8],
        nr: &[u8],
    ) -> Result<Self, CryptoError> {
        //= rfc7296#2.17
        //# KEYMAT = prf+(SK_d, [ g^ir (new) | ] Ni | Nr)
        let (encryption, integrity) = child_key_lengths(suite);
        //= rfc7296#2.17
        //# Keys for the direction of the initiator come first; within a direction encryption comes before integrity.
        let lengths = [encryption, integrity, encryption, integrity];
        let seed = [shared.map_or(&[][..], Secret::expose), ni, nr];
        let stream = provider.need_prf(prf)?.prf_plus(d.expose(), &seed, lengths.iter().sum())?;
        let [initiator_encryption, initiator_integrity, responder_encryption, responder_integrity] = split(&stream, lengths);
        Ok(Self { initiator_encryption, initiator_integrity, responder_encryption, responder_integrity })
    }
}

/// Cuts `stream` into pieces of the given lengths; the caller made it long enough.
fn split<const N: usize>(stream: &Secret, lengths: [usize; N]) -> [Secret; N] {
    let mut rest = stream.expose();
    lengths.map(|len| {
        let (piece, tail) = rest.split_at_checked(len).unwrap_or_default();
        rest = tail;
        Secret::from(piece)
    })
}

/// The octets that a peer authenticates (RFC 7296 2.15): its first message, the other's nonce, and prf(SK_p, its ID payload body).
///
/// `sk_p` is SK_pi for the initiator's octets and SK_pr for the responder's; `id_body` is the ID payload without its generic header.
///
/// # Errors
/// [`CryptoError::Unsupported`] if the provider lacks the PRF.
pub fn signed_octets(
    provider: &dyn Provider,
    prf: Prf,
    first_message: &[u8],
    other_nonce: &[u8],
    sk_p: &Secret,
    id_body: &[u8],
) -> Result<Vec<u8>, CryptoError> {
    //= rfc7296#2.15
    //# InitiatorSignedOctets = RealMessage1 | NonceRData | MACedIDForI, and likewise for the responder.
    let maced_id = provider.need_prf(prf)?.prf(sk_p.expose(), &[id_body]);
    Ok([first_message, other_nonce, maced_id.expose()].concat())
}

/// The AUTH data for a shared secret (PSK, or the MSK of an EAP method): prf(prf(secret, "Key Pad for IKEv2"), octets).
///
/// # Errors
/// [`CryptoError::Unsupported`] if the provider lacks the PRF.
pub fn psk_auth(provider: &dyn Provider, prf: Prf, secret: &Secret, octets: &[u8]) -> Result<Vec<u8>, CryptoError> {
    //= rfc7296#2.15
    //# AUTH = prf( prf(Shared Secret, "Key Pad for IKEv2"), <SignedOctets>), the pad being 17 ASCII characters without null.
    let prf = provider.need_prf(prf)?;
    let padded = prf.prf(secret.expose(), &[b"Key Pad for IKEv2"]);
    Ok(prf.prf(padded.expose(), &[octets]).expose().to_vec())
}
