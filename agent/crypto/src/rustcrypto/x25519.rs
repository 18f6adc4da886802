//! Curve25519 (RFC 7748, RFC 8031).

use watari_policies::algorithm::Group;
use watari_policies::secret::Secret;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::{CryptoError, KePrivate, KeyExchange};

/// Group 31; the private value is the first 32 octets of the seed, clamped when used (RFC 7748 5).
pub(super) struct X25519;

const GROUP: Group = Group::Curve25519;

fn invalid(why: &'static str) -> CryptoError {
    CryptoError::PublicValue { group: GROUP.name(), why }
}

impl KeyExchange for X25519 {
    fn id(&self) -> Group {
        GROUP
    }

    fn generate(&self, seed: &[u8; 64]) -> Result<(KePrivate, Vec<u8>), CryptoError> {
        let scalar: Zeroizing<[u8; 32]> = first_32(seed).ok_or(CryptoError::Seed(GROUP.name()))?;
        if *scalar == [0; 32] {
            return Err(CryptoError::Seed(GROUP.name()));
        }
        let public = PublicKey::from(&StaticSecret::from(*scalar));
        Ok((KePrivate::new(GROUP, Secret::from(&scalar[..])), public.as_bytes().to_vec()))
    }

    fn agree(&self, private: &KePrivate, peer_public: &[u8]) -> Result<Secret, CryptoError> {
        let scalar = first_32(private.value_for(GROUP)?.expose()).ok_or(CryptoError::Seed(GROUP.name()))?;
        //= rfc8031#3.1
        //# A public value of any other length than 32 octets is refused.
        let peer: [u8; 32] = peer_public.try_into().map_err(|_| invalid("it is not 32 octets long"))?;
        let shared = StaticSecret::from(*scalar).diffie_hellman(&PublicKey::from(peer));
        //= rfc7748#6.1
        //# Abort if the shared value is all zero, which only points of small order give.
        if !shared.was_contributory() {
            return Err(invalid("it is a point of small order"));
        }
        Ok(Secret::from(&shared.as_bytes()[..]))
    }
}

fn first_32(bytes: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    bytes.first_chunk().map(|chunk| Zeroizing::new(*chunk))
}
