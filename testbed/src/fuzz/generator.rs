//! Seeded input for the fuzz targets: fresh octets, and known messages bent at random places.
//! Invariant: the same seed gives the same inputs.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};

/// Numbers that decoders stumble over.
const EDGES: &[u8] = &[0, 1, 2, 3, 4, 7, 8, 15, 16, 127, 128, 254, 255];

/// A seeded source of inputs.
pub(crate) struct Generator(ChaCha20Rng);

impl Generator {
    pub(crate) fn new(seed: u64) -> Self {
        Self(ChaCha20Rng::seed_from_u64(seed))
    }

    /// A number below `limit`; 0 if `limit` is 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        let number = usize::try_from(self.0.next_u64() >> 1).unwrap_or(0);
        number.checked_rem(limit).unwrap_or(0)
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0.next_u64()
    }

    pub(crate) fn octets(&mut self, longest: usize) -> Vec<u8> {
        let mut octets = vec![0; self.below(longest + 1)];
        self.0.fill_bytes(&mut octets);
        octets
    }

    /// One of `choices`.
    pub(crate) fn choice<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    /// A known message with one to eight changes: an octet, an edge value, a piece cut out, doubled, swapped or appended.
    pub(crate) fn bent(&mut self, known: &[u8]) -> Vec<u8> {
        let mut octets = known.to_vec();
        for _ in 0..=self.below(8) {
            if octets.is_empty() {
                octets = self.octets(64);
                octets.push(0);
            }
            let at = self.below(octets.len());
            match self.below(6) {
                0 => octets[at] = u8::try_from(self.below(256)).unwrap_or(0),
                1 => octets[at] = *self.choice(EDGES),
                2 => octets.truncate(at),
                3 => {
                    let end = at + self.below(octets.len() - at + 1);
                    octets.drain(at..end);
                }
                4 => {
                    let end = at + self.below((octets.len() - at).min(64) + 1);
                    let piece = octets[at..end].to_vec();
                    octets.splice(at..at, piece);
                }
                _ => {
                    let more = self.octets(32);
                    octets.extend(more);
                }
            }
        }
        octets
    }
}
