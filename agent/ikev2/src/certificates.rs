//! Certificates on the wire (RFC 7296 3.6, 3.7; RFC 7427 4): what is sent and asked for, and what of the peer's goes to the key keeper.
//! Invariant: nothing of this is in the messages between ends that share a key.

use watari_crypto::auth_signature::{accepted_hashes, choose, is_signature};
use watari_crypto::digest::sha1;
use watari_policies::Remote;
use watari_policies::certificate::{Credential, OwnProof, PeerProof, Trust};
use watari_policies::model::Authentication;
use watari_sa::{PeerClaim, Work};
use watari_wire::ikev2::{AuthMethod, CertEncoding, Message, NotifyType, Payload};

use crate::payloads::{Payloads, notify_with};

/// Our certificates for IKE_AUTH, if we prove ourselves by them.
pub(crate) fn own_chain(config: &Remote) -> Vec<Payload> {
    let Some(OwnProof::Certificate(own)) = config.authentication.ours() else { return Vec::new() };
    //= rfc7296#3.6
    //# the certificate whose key signs comes first, each in a payload of its own
    let payload = |certificate: &watari_policies::certificate::Certificate| Payload::Certificate {
        encoding: CertEncoding::X509_SIGNATURE,
        data: certificate.der().to_vec(),
    };
    own.chain.iter().map(payload).collect()
}

/// What the initiator asks for in IKE_AUTH, if the peer proves itself by a certificate.
pub(crate) fn request(config: &Remote) -> Option<Payload> {
    let Some(PeerProof::Certificate(trust)) = config.authentication.theirs() else { return None };
    Some(request_for(hashes(&trust).flatten().collect()))
}

/// CERTREQ with the hashes of CAs.
pub(crate) const fn request_for(authorities: Vec<u8>) -> Payload {
    Payload::CertificateRequest { encoding: CertEncoding::X509_SIGNATURE, authorities }
}

/// The CAs as CERTREQ names them: by the SHA-1 of their SubjectPublicKeyInfo.
pub(crate) fn hashes(trust: &Trust) -> impl Iterator<Item = [u8; 20]> {
    //= rfc7296#3.7
    //# SHA-1 hashes of the public keys of trusted CAs, one after the other
    trust.authorities.iter().map(|authority| sha1(&[&authority.content().public_key_info]))
}

/// SIGNATURE_HASH_ALGORITHMS: which hashes we accept.
pub(crate) fn hash_algorithms() -> Payload {
    notify_with(NotifyType::SIGNATURE_HASH_ALGORITHMS, accepted_hashes())
}

/// Whether either side of a remote signs.
pub(crate) const fn signs(config: &Remote) -> bool {
    matches!(config.authentication, Authentication::Each(_))
}

/// What the sender of this IKE_SA_INIT message accepts, if it said so.
pub(crate) fn accepted_by(init: &[u8]) -> Option<Vec<u8>> {
    let message = Message::decode(init).ok()?;
    Payloads(&message.payloads).notify(NotifyType::SIGNATURE_HASH_ALGORITHMS).map(|notify| notify.data.clone())
}

/// The work of our signature over `octets`, for a peer that sent `init`.
pub(crate) fn signature_work(
    config: &Remote,
    own: &Credential,
    init: &[u8],
    octets: Vec<u8>,
    seed: watari_policies::Secret,
) -> Result<Work, String> {
    let Some(certificate) = own.chain.first() else { return Err("there is no certificate of ours".to_owned()) };
    let kind = certificate.content().key.clone();
    let sha1 = matches!(config.authentication.theirs(), Some(PeerProof::Certificate(trust)) if trust.sha1);
    let (method, scheme) =
        choose(&kind, accepted_by(init).as_deref(), sha1).map_err(|why| format!("nothing to sign with for this peer: {why}"))?;
    Ok(Work::Sign { key: own.key, kind, method, scheme, octets, seed })
}

/// Whether the AUTH method is the one that the peer must use.
pub(crate) fn method_fits(config: &Remote, method: u8) -> Result<(), String> {
    match config.authentication.theirs() {
        Some(PeerProof::Certificate(_)) if is_signature(method) => Ok(()),
        Some(PeerProof::Certificate(_)) => Err(format!("authentication method {} instead of a signature", AuthMethod(method))),
        _ if method == AuthMethod::SHARED_KEY.0 => Ok(()),
        _ => Err(format!("authentication method {} instead of a shared key", AuthMethod(method))),
    }
}

/// What a peer with a certificate sent to prove itself.
pub(crate) fn claim(payloads: Payloads<'_>) -> PeerClaim {
    let (method, data) = payloads.authentication().unwrap_or_default();
    PeerClaim { certificates: payloads.certificates(), method, data: data.to_vec() }
}
