//! The real provider, over the RustCrypto crates: every algorithm of `watari_policies::algorithm` but the null cipher.

mod cipher;
mod ecp;
mod hmac;
mod modp;
mod signatures;
mod x25519;

use watari_policies::algorithm::{Cipher, Group, Integrity, Prf};

use crate::{CipherAlgorithm, IntegrityAlgorithm, KeyExchange, PrfAlgorithm, Provider, Signatures};

/// The provider for real use.
#[derive(Clone, Copy, Debug, Default)]
pub struct RustCryptoProvider;

impl Provider for RustCryptoProvider {
    fn prf(&self, prf: Prf) -> Option<&dyn PrfAlgorithm> {
        Some(hmac::prf(prf))
    }

    fn integrity(&self, integrity: Integrity) -> Option<&dyn IntegrityAlgorithm> {
        Some(hmac::integrity(integrity))
    }

    fn cipher(&self, cipher: Cipher) -> Option<&dyn CipherAlgorithm> {
        cipher::find(cipher)
    }

    fn group(&self, group: Group) -> Option<&dyn KeyExchange> {
        Some(match group {
            Group::Modp2048 => &*modp::MODP2048,
            Group::Modp3072 => &*modp::MODP3072,
            Group::Modp4096 => &*modp::MODP4096,
            Group::Ecp256 => &ecp::Ecp256,
            Group::Ecp384 => &ecp::Ecp384,
            Group::Curve25519 => &x25519::X25519,
        })
    }

    fn signatures(&self) -> Option<&dyn Signatures> {
        Some(&signatures::Real)
    }
}
