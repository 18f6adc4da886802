//! The one generator of nonces, SPIs, IVs, key seeds and jitter.
//! Invariant: everything random in an engine comes from its seed, so that a run can be repeated.

use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng};
use watari_policies::Secret;

/// A seeded cryptographic generator (ChaCha20).
#[derive(Debug)]
pub struct Rng(ChaCha20Rng);

impl Rng {
    /// A generator from a seed of 32 octets.
    pub fn new(seed: [u8; 32]) -> Self {
        Self(ChaCha20Rng::from_seed(seed))
    }

    /// `length` random octets.
    pub fn octets(&mut self, length: usize) -> Vec<u8> {
        let mut octets = vec![0; length];
        self.0.fill_bytes(&mut octets);
        octets
    }

    /// `length` random octets that stay secret.
    pub fn secret(&mut self, length: usize) -> Secret {
        Secret::new(self.octets(length))
    }

    /// A random 32-bit number.
    pub fn u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// A random 64-bit number.
    pub fn u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A random IKE SPI, never zero.
    pub fn ike_spi(&mut self) -> u64 {
        self.u64().max(1)
    }

    /// A random time from zero to `limit`, in whole milliseconds.
    pub fn up_to(&mut self, limit: Duration) -> Duration {
        let span = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        Duration::from_millis(self.u64().checked_rem(span).unwrap_or(0))
    }
}
