//! Providers among themselves: the fake one behaves like the real one in every length, layers fill each other's gaps, a whole exchange runs.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

use watari_crypto::{
    CipherAlgorithm, CryptoError, FakeProvider, IkeInputs, IkeKeys, IntegrityAlgorithm, KeyExchange, Layered, PrfAlgorithm, Provider,
    RustCryptoProvider,
};
use watari_policies::algorithm::{Cipher, Group, IkeSuite, Integrity, Prf, default_ike_proposals};

#[test]
fn the_fake_provider_has_the_algorithms_and_lengths_of_the_real_one() {
    let (real, fake) = (&RustCryptoProvider, &FakeProvider);
    for id in Prf::ALL {
        let (a, b) = (real.need_prf(*id).unwrap(), fake.need_prf(*id).unwrap());
        assert_eq!((a.id(), b.id()), (*id, *id));
        assert_eq!(a.prf(b"key", &[b"data"]).len(), b.prf(b"key", &[b"data"]).len());
        assert_eq!(a.prf_plus(b"key", &[b"data"], 300).unwrap().len(), b.prf_plus(b"key", &[b"data"], 300).unwrap().len());
    }
    for id in Integrity::ALL {
        let (a, b) = (real.need_integrity(*id).unwrap(), fake.need_integrity(*id).unwrap());
        assert_eq!((a.id(), b.id()), (*id, *id));
        assert_eq!(a.sign(b"key", &[b"data"]).len(), b.sign(b"key", &[b"data"]).len());
    }
    for id in Cipher::all() {
        let (a, b) = (real.cipher(id), fake.cipher(id));
        assert_eq!(
            (a.map(CipherAlgorithm::id), b.map(CipherAlgorithm::id)),
            if id == Cipher::NULL { (None, None) } else { (Some(id), Some(id)) }
        );
    }
    for id in Group::ALL {
        let (a, b) = (real.need_group(*id).unwrap(), fake.need_group(*id).unwrap());
        assert_eq!((a.id(), b.id()), (*id, *id));
        let (private_a, public_a) = a.generate(&[5; 64]).unwrap();
        let (private_b, public_b) = b.generate(&[5; 64]).unwrap();
        assert_eq!(public_a.len(), public_b.len());
        assert_eq!(a.agree(&private_a, &public_a).unwrap().len(), b.agree(&private_b, &public_b).unwrap().len());
        assert!(matches!(b.agree(&private_b, &public_b[1..]), Err(CryptoError::PublicValue { .. })));
        assert!(matches!(b.agree(&private_b, &vec![0; public_b.len()]), Err(CryptoError::PublicValue { .. })));
    }
}

#[test]
fn the_fake_provider_depends_on_every_input() {
    let prf = FakeProvider.need_prf(Prf::HmacSha256).unwrap();
    let base = prf.prf(b"key", &[b"da", b"ta"]);
    assert_eq!(base, prf.prf(b"key", &[b"data"]));
    assert_ne!(base, prf.prf(b"kez", &[b"data"]));
    assert_ne!(base, prf.prf(b"key", &[b"datb"]));
    assert_ne!(base, prf.prf(b"keyd", &[b"ata"]));
    let group = FakeProvider.need_group(Group::Ecp256).unwrap();
    let [(a, public_a), (b, public_b), (_, public_c)] = [1, 2, 3].map(|byte| group.generate(&[byte; 64]).unwrap());
    assert_eq!(group.agree(&a, &public_b).unwrap(), group.agree(&b, &public_a).unwrap());
    assert_ne!(group.agree(&a, &public_b).unwrap(), group.agree(&a, &public_c).unwrap());
}

static FAKE: FakeProvider = FakeProvider;

/// Lacks everything but one PRF.
struct OnlySha256;

impl Provider for OnlySha256 {
    fn prf(&self, prf: Prf) -> Option<&dyn PrfAlgorithm> {
        if prf == Prf::HmacSha256 { FAKE.prf(prf) } else { None }
    }

    fn integrity(&self, _: Integrity) -> Option<&dyn IntegrityAlgorithm> {
        None
    }

    fn cipher(&self, _: Cipher) -> Option<&dyn CipherAlgorithm> {
        None
    }

    fn group(&self, _: Group) -> Option<&dyn KeyExchange> {
        None
    }
}

#[test]
fn layers_ask_the_first_and_then_the_second() {
    let layered = Layered { first: OnlySha256, second: RustCryptoProvider };
    let output = |provider: &dyn Provider, prf| provider.need_prf(prf).unwrap().prf(b"key", &[b"data"]);
    assert_eq!(output(&layered, Prf::HmacSha256), output(&FakeProvider, Prf::HmacSha256));
    assert_eq!(output(&layered, Prf::HmacSha384), output(&RustCryptoProvider, Prf::HmacSha384));
    assert!(layered.group(Group::Ecp384).is_some() && layered.cipher(Cipher::AES128).is_some());
    assert_eq!(OnlySha256.need_group(Group::Ecp384).err(), Some(CryptoError::Unsupported("ecp384")));
    let twice = Layered { first: OnlySha256, second: OnlySha256 };
    assert_eq!(twice.need_prf(Prf::HmacSha1).err(), Some(CryptoError::Unsupported("prfsha1")));
}

#[test]
fn everything_offered_by_default_is_available() {
    for proposal in default_ike_proposals() {
        for (cipher, prf) in proposal.ciphers.iter().flat_map(|cipher| proposal.prfs.iter().map(move |prf| (*cipher, *prf))) {
            for group in &proposal.groups {
                let suite = IkeSuite { cipher, integrity: proposal.integrities.first().copied(), prf, group: *group };
                assert!(RustCryptoProvider.supports(&suite) && FakeProvider.supports(&suite), "{suite}");
            }
        }
    }
}

#[test]
fn two_ends_share_keys_and_read_each_other() {
    for provider in [&RustCryptoProvider as &dyn Provider, &FakeProvider] {
        let suite =
            IkeSuite { cipher: Cipher::AES256, integrity: Some(Integrity::HmacSha512_256), prf: Prf::HmacSha384, group: Group::Ecp256 };
        let group = provider.need_group(suite.group).unwrap();
        let (private_i, public_i) = group.generate(&[0x1f; 64]).unwrap();
        let (private_r, public_r) = group.generate(&[0x2e; 64]).unwrap();
        let inputs = IkeInputs { ni: &[1; 32], nr: &[2; 32], spi_i: [3; 8], spi_r: [4; 8] };
        let keys_i = IkeKeys::initial(provider, &suite, &group.agree(&private_i, &public_r).unwrap(), &inputs).unwrap();
        let keys_r = IkeKeys::initial(provider, &suite, &group.agree(&private_r, &public_i).unwrap(), &inputs).unwrap();
        assert_eq!(keys_i, keys_r);
        let body = keys_i.protection(provider, &suite, true).unwrap().protect(b"prefix", &[6; 16], b"hello").unwrap();
        assert_eq!(keys_r.protection(provider, &suite, true).unwrap().unprotect(b"prefix", &body).unwrap(), b"hello");
        // A message sent back to its sender is not taken for the other's.
        let reflected = keys_i.protection(provider, &suite, false).unwrap().unprotect(b"prefix", &body);
        assert_eq!(reflected, Err(CryptoError::Integrity));
        assert!(!format!("{keys_i:?}").contains('['), "keys are never printed");
    }
}
