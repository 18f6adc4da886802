//! Every truncation, every changed octet and a deterministic fuzz loop over the known messages: no panic, and whatever
//! decodes encodes to something that decodes to the same value.

use super::vectors::{self, octets};
use crate::ikev2::*;

/// Decodes as a message; if that works, what was encoded must decode to the same.
fn survives(bytes: &[u8]) -> bool {
    let Ok(message) = Message::decode(bytes) else { return false };
    let again = message.encode();
    assert_eq!(Message::decode(&again).as_ref(), Ok(&message), "{bytes:02x?}");
    assert!(!describe(&message).is_empty());
    true
}

/// The same for the content of an encrypted payload.
fn chain_survives(first: PayloadType, bytes: &[u8]) -> bool {
    let Ok(payloads) = decode_chain(first, bytes, 32) else { return false };
    let (type_again, again) = encode_chain(&payloads);
    assert_eq!(decode_chain(type_again, &again, 32).as_ref(), Ok(&payloads), "{bytes:02x?}");
    assert!(payloads.is_empty() || !describe_payloads(&payloads, 0).is_empty());
    true
}

/// Puts the true length into the header, so that what is behind it is reached.
fn with_true_length(mut bytes: Vec<u8>) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
    if let Some(field) = bytes.get_mut(24..28) {
        field.copy_from_slice(&length);
    }
    bytes
}

/// Each bit of an octet flipped, and the values that counts and lengths are likely to trip over.
fn variants(kept: u8) -> impl Iterator<Item = u8> {
    let edges = [0, 1, 2, 3, 4, 5, 0x7f, 0xff, kept.wrapping_add(1), kept.wrapping_sub(1)];
    (0..8).map(move |bit| kept ^ (1 << bit)).chain(edges)
}

const CHAINS: [(PayloadType, &str); 2] = [(PayloadType::IDI, vectors::AUTH_INNER), (PayloadType::DELETE, vectors::INFORMATIONAL_INNER)];

#[test]
fn every_truncation_is_refused() {
    for hex in vectors::MESSAGES {
        let bytes = octets(hex);
        for length in 0..bytes.len() {
            assert!(Message::decode(&bytes[..length]).is_err());
            survives(&with_true_length(bytes[..length].to_vec()));
        }
    }
    for (first, hex) in CHAINS {
        let bytes = octets(hex);
        for length in 0..bytes.len() {
            assert!(!chain_survives(first, &bytes[..length]));
        }
    }
}

#[test]
fn every_changed_octet_is_survived() {
    for hex in vectors::MESSAGES {
        let mut bytes = octets(hex);
        for at in 0..bytes.len() {
            let kept = bytes[at];
            for changed in variants(kept) {
                bytes[at] = changed;
                survives(&bytes);
            }
            bytes[at] = kept;
        }
    }
    for (first, hex) in CHAINS {
        let mut bytes = octets(hex);
        for at in 0..bytes.len() {
            let kept = bytes[at];
            for changed in variants(kept) {
                bytes[at] = changed;
                chain_survives(first, &bytes);
            }
            bytes[at] = kept;
        }
    }
}

/// A linear congruential generator (Knuth's MMIX constants); the high bits are the good ones.
struct Lcg(u64);

impl Lcg {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % below
    }

    /// Interesting octets more often than others.
    fn octet(&mut self) -> u8 {
        const EDGES: [u8; 12] = [0, 1, 2, 3, 4, 7, 8, 16, 41, 0x7f, 0x80, 0xff];
        if self.next(2) == 0 { EDGES[self.next(EDGES.len())] } else { self.next(256) as u8 }
    }

    fn disturb(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.next(4) {
            let at = self.next(bytes.len());
            match self.next(4) {
                0 => bytes.insert(at, self.octet()),
                1 if bytes.len() > 1 => drop(bytes.remove(at)),
                2 => bytes.truncate(at.max(1)),
                _ => bytes[at] = self.octet(),
            }
        }
    }
}

#[test]
fn fuzz_known_messages() {
    let mut random = Lcg(0x7a74_6172_6921);
    let mut decoded = 0;
    for round in 0..20_000 {
        if round % 2 == 0 {
            let mut bytes = octets(vectors::MESSAGES[random.next(vectors::MESSAGES.len())]);
            random.disturb(&mut bytes);
            decoded += usize::from(survives(&with_true_length(bytes)));
        } else {
            let (first, hex) = CHAINS[random.next(CHAINS.len())];
            let mut bytes = octets(hex);
            random.disturb(&mut bytes);
            decoded += usize::from(chain_survives(first, &bytes));
        }
    }
    assert!(decoded > 1_000, "only {decoded} of 20000 got through: the loop tests nothing");
}

#[test]
fn fuzz_payload_bodies_of_every_type() {
    let mut random = Lcg(2);
    let mut decoded = 0;
    for _ in 0..20_000 {
        let payload_type = PayloadType(u8::try_from(30 + random.next(30)).unwrap());
        let mut bytes: Vec<u8> = (0..random.next(48)).map(|_| random.octet()).collect();
        let length = u16::try_from(bytes.len() + 4).unwrap().to_be_bytes();
        bytes.splice(0..0, [0, 0, length[0], length[1]]);
        decoded += usize::from(chain_survives(payload_type, &bytes));
    }
    assert!(decoded > 1_000, "only {decoded} of 20000 got through: the loop tests nothing");
}
