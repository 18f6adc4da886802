//! A provider for fuzzing and simulation: quick, deterministic, the same lengths as the real algorithms, and NO SECURITY WHATEVER.
//! No algorithm name leads here, so that no configuration can choose it; a program must construct it by this name.
//! Both ends agree because everything is one simple hash; ciphers leave the text readable and add a keyed checksum.

use watari_policies::algorithm::{Cipher, Group, Integrity, Prf};
use watari_policies::secret::Secret;

use crate::provider::check_lengths;
use crate::{
    CipherAlgorithm, CryptoError, IntegrityAlgorithm, KePrivate, KeyExchange, PrfAlgorithm, Provider, RustCryptoProvider, Signatures,
};

/// INSECURE: primitives that only look like cryptography. For simulation, fuzzing and replay.
#[derive(Clone, Copy, Debug, Default)]
pub struct FakeProvider;

impl Provider for FakeProvider {
    fn prf(&self, prf: Prf) -> Option<&dyn PrfAlgorithm> {
        PRFS.iter().find(|fake| fake.0 == prf).map(|fake| fake as &dyn PrfAlgorithm)
    }

    fn integrity(&self, integrity: Integrity) -> Option<&dyn IntegrityAlgorithm> {
        INTEGRITIES.iter().find(|fake| fake.0 == integrity).map(|fake| fake as &dyn IntegrityAlgorithm)
    }

    fn cipher(&self, cipher: Cipher) -> Option<&dyn CipherAlgorithm> {
        CIPHERS.iter().find(|fake| fake.0 == cipher).map(|fake| fake as &dyn CipherAlgorithm)
    }

    fn group(&self, group: Group) -> Option<&dyn KeyExchange> {
        GROUPS.iter().find(|fake| fake.0 == group).map(|fake| fake as &dyn KeyExchange)
    }

    /// The real ones: certificates come from elsewhere, and no pretence could verify them.
    fn signatures(&self) -> Option<&dyn Signatures> {
        RustCryptoProvider.signatures()
    }
}

/// FNV-1a over parts with their lengths, then stretched to any length by the finaliser of SplitMix64.
#[derive(Clone, Copy)]
struct Checksum(u64);

impl Checksum {
    /// `domain` keeps the uses apart, so that a PRF is not an integrity algorithm.
    fn new(domain: &[u8]) -> Self {
        Self(0xcbf2_9ce4_8422_2325).part(domain)
    }

    fn octets(mut self, bytes: &[u8]) -> Self {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self
    }

    fn part(self, bytes: &[u8]) -> Self {
        self.octets(&(bytes.len() as u64).to_be_bytes()).octets(bytes)
    }

    /// The parts count as one: where they are cut makes no difference.
    fn message(self, parts: &[&[u8]]) -> Self {
        parts.iter().fold(self, |sum, part| sum.octets(part))
    }

    fn stretch(self, len: usize) -> Vec<u8> {
        let mut output = Vec::with_capacity(len.saturating_add(8));
        let mut state = self.0;
        while output.len() < len {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = state;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            output.extend_from_slice(&(word ^ (word >> 31)).to_be_bytes());
        }
        output.truncate(len);
        output
    }
}

struct FakePrf(Prf);
static PRFS: [FakePrf; 4] = [FakePrf(Prf::HmacSha1), FakePrf(Prf::HmacSha256), FakePrf(Prf::HmacSha384), FakePrf(Prf::HmacSha512)];

impl PrfAlgorithm for FakePrf {
    fn id(&self) -> Prf {
        self.0
    }

    fn prf(&self, key: &[u8], parts: &[&[u8]]) -> Secret {
        let sum = Checksum::new(self.0.name().as_bytes()).part(key).message(parts);
        Secret::new(sum.stretch(self.output_len()))
    }
}

struct FakeIntegrity(Integrity);
static INTEGRITIES: [FakeIntegrity; 4] = [
    FakeIntegrity(Integrity::HmacSha1_96),
    FakeIntegrity(Integrity::HmacSha256_128),
    FakeIntegrity(Integrity::HmacSha384_192),
    FakeIntegrity(Integrity::HmacSha512_256),
];

impl IntegrityAlgorithm for FakeIntegrity {
    fn id(&self) -> Integrity {
        self.0
    }

    fn sign(&self, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
        Checksum::new(self.0.name().as_bytes()).part(key).message(parts).stretch(self.icv_len())
    }
}

struct FakeCipher(Cipher);

macro_rules! fake_ciphers {
    ($($algorithm:ident $bits:literal),+) => {
        static CIPHERS: [FakeCipher; 13] = [$(FakeCipher(Cipher {
            algorithm: watari_policies::algorithm::Encryption::$algorithm,
            key_bits: $bits,
        })),+];
    };
}
fake_ciphers!(
    AesCbc 128, AesCbc 192, AesCbc 256, AesGcm8 128, AesGcm8 192, AesGcm8 256, AesGcm12 128, AesGcm12 192, AesGcm12 256,
    AesGcm16 128, AesGcm16 192, AesGcm16 256, ChaCha20Poly1305 256
);

impl FakeCipher {
    fn icv(&self, key: &[u8], iv: &[u8], aad: &[u8], text: &[u8]) -> Vec<u8> {
        Checksum::new(self.0.name().as_bytes()).part(key).part(iv).part(aad).part(text).stretch(self.0.icv_len())
    }

    fn check(&self, key: &[u8], iv: &[u8], text: &[u8]) -> Result<(), CryptoError> {
        check_lengths(self.0, key, iv)?;
        let block = self.0.block_len();
        if text.len().is_multiple_of(block) { Ok(()) } else { Err(CryptoError::BlockLength { found: text.len(), block }) }
    }
}

impl CipherAlgorithm for FakeCipher {
    fn id(&self) -> Cipher {
        self.0
    }

    fn seal(&self, key: &[u8], iv: &[u8], aad: &[u8], buffer: &mut Vec<u8>) -> Result<(), CryptoError> {
        self.check(key, iv, buffer)?;
        let icv = self.icv(key, iv, aad, buffer);
        buffer.extend_from_slice(&icv);
        Ok(())
    }

    fn open(&self, key: &[u8], iv: &[u8], aad: &[u8], buffer: &mut Vec<u8>) -> Result<(), CryptoError> {
        let too_short = CryptoError::TooShort { found: buffer.len(), least: self.0.icv_len() };
        let end = buffer.len().checked_sub(self.0.icv_len()).ok_or(too_short.clone())?;
        let (text, icv) = buffer.split_at_checked(end).ok_or(too_short)?;
        self.check(key, iv, text)?;
        if self.icv(key, iv, aad, text) != icv {
            return Err(CryptoError::Integrity);
        }
        buffer.truncate(end);
        Ok(())
    }
}

struct FakeGroup(Group);
static GROUPS: [FakeGroup; 6] = [
    FakeGroup(Group::Modp2048),
    FakeGroup(Group::Modp3072),
    FakeGroup(Group::Modp4096),
    FakeGroup(Group::Ecp256),
    FakeGroup(Group::Ecp384),
    FakeGroup(Group::Curve25519),
];

impl FakeGroup {
    fn public(&self, private: &[u8]) -> Vec<u8> {
        Checksum::new(self.0.name().as_bytes()).part(private).stretch(self.0.public_len())
    }
}

impl KeyExchange for FakeGroup {
    fn id(&self) -> Group {
        self.0
    }

    fn generate(&self, seed: &[u8; 64]) -> Result<(KePrivate, Vec<u8>), CryptoError> {
        Ok((KePrivate::new(self.0, Secret::from(&seed[..])), self.public(seed)))
    }

    fn agree(&self, private: &KePrivate, peer_public: &[u8]) -> Result<Secret, CryptoError> {
        let own = self.public(private.value_for(self.0)?.expose());
        let invalid = |why| CryptoError::PublicValue { group: self.0.name(), why };
        if peer_public.len() != self.0.public_len() {
            return Err(invalid("its length is wrong"));
        }
        // The real groups refuse zero, so a peer that sends it must fail here too.
        if peer_public.iter().all(|byte| *byte == 0) {
            return Err(invalid("it is zero"));
        }
        let (low, high) = if own.as_slice() <= peer_public { (&own[..], peer_public) } else { (peer_public, &own[..]) };
        let sum = Checksum::new(b"agree").part(self.0.name().as_bytes()).part(low).part(high);
        Ok(Secret::new(sum.stretch(self.0.shared_len())))
    }
}
