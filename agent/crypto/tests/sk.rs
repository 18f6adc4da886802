//! The body of the Encrypted payload: RFC 7634 B for an AEAD, OpenSSL for CBC and HMAC, and everything that must be refused.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

mod hex;

use hex::hex;
use watari_crypto::{CryptoError, FakeProvider, Protection, Provider, RustCryptoProvider, Secret};
use watari_policies::algorithm::{Cipher, Group, IkeSuite, Integrity, Prf};

fn suite(cipher: Cipher, integrity: Option<Integrity>) -> IkeSuite {
    IkeSuite { cipher, integrity, prf: Prf::HmacSha256, group: Group::Curve25519 }
}

/// Every cipher and integrity algorithm that can protect an IKE SA.
fn suites() -> Vec<IkeSuite> {
    let macs = || Integrity::ALL.iter().map(|integrity| Some(*integrity));
    let ciphers = Cipher::all().filter(|cipher| *cipher != Cipher::NULL);
    ciphers
        .flat_map(|cipher| macs().take(if cipher.is_aead() { 1 } else { 4 }).map(move |integrity| (cipher, integrity)))
        .map(|(cipher, integrity)| suite(cipher, integrity.filter(|_| !cipher.is_aead())))
        .collect()
}

fn keys(suite: &IkeSuite) -> (Secret, Secret) {
    let encryption = (0..suite.cipher.keymat_len()).map(|at| at as u8 ^ 0x33).collect::<Vec<_>>();
    let integrity = (0..suite.integrity.map_or(0, Integrity::key_len)).map(|at| at as u8 ^ 0x77).collect::<Vec<_>>();
    (encryption.into(), integrity.into())
}

const PROVIDERS: [&dyn Provider; 2] = [&RustCryptoProvider, &FakeProvider];

#[test]
fn the_example_of_rfc_7634() {
    let key = Secret::new(hex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3"));
    let none = Secret::default();
    let sk = Protection::new(&RustCryptoProvider, &suite(Cipher::CHACHA20POLY1305, None), &key, &none).unwrap();
    let prefix = hex("c0c1c2c3c4c5c6c7d0d1d2d3d4d5d6d72e202500000000090000004529000029");
    let plaintext = hex("0000000c000040010000000a");
    let body = hex("1011121314151617610394701f8d017f7c129248896b71bfe25236efd7cdc67066906315b2");
    assert_eq!(sk.body_len(plaintext.len()), body.len());
    assert_eq!(sk.protect(&prefix, &body[..8], &plaintext).unwrap(), body);
    assert_eq!(sk.unprotect(&prefix, &body).unwrap(), plaintext);
}

#[test]
fn aes_cbc_with_hmac_is_what_openssl_makes() {
    let encryption = Secret::from((0x40..0x60).collect::<Vec<u8>>());
    let integrity = Secret::from((0x80..0xa0).collect::<Vec<u8>>());
    let suite = suite(Cipher::AES256, Some(Integrity::HmacSha256_128));
    let sk = Protection::new(&RustCryptoProvider, &suite, &encryption, &integrity).unwrap();
    let prefix = hex("c0c1c2c3c4c5c6c7d0d1d2d3d4d5d6d72e202500000000090000005029000034");
    let plaintext = hex("0000000c0000400101020304");
    let body = hex("101112131415161718191a1b1c1d1e1fa4f71096e94d88c3847b75a2ada5b54e561404d270293b04ad819e776491a554");
    assert_eq!(sk.body_len(plaintext.len()), body.len());
    assert_eq!(sk.protect(&prefix, &body[..16], &plaintext).unwrap(), body);
    assert_eq!(sk.unprotect(&prefix, &body).unwrap(), plaintext);
}

#[test]
fn what_is_protected_comes_back_and_lengths_are_known_beforehand() {
    for provider in PROVIDERS {
        for suite in suites() {
            let (encryption, integrity) = keys(&suite);
            let sk = Protection::new(provider, &suite, &encryption, &integrity).unwrap();
            let iv = vec![9; sk.iv_len()];
            for len in (0..70).chain([1000, 65_000]) {
                let plaintext = (0..len).map(|at| at as u8).collect::<Vec<_>>();
                let body = sk.protect(b"prefix", &iv, &plaintext).unwrap();
                assert_eq!(body.len(), sk.body_len(len), "{suite}");
                assert_eq!(sk.unprotect(b"prefix", &body).unwrap(), plaintext, "{suite}");
                let room = sk.plaintext_room(body.len()).unwrap();
                assert!(room >= len && sk.body_len(room) == body.len() && sk.body_len(room + 1) > body.len(), "{suite}");
                assert!(sk.plaintext_room(body.len() - 1).is_none_or(|room| sk.body_len(room) < body.len()), "{suite}");
            }
            assert_eq!(sk.plaintext_room(sk.body_len(0) - 1), None, "{suite}");
        }
    }
}

#[test]
fn any_changed_or_missing_octet_is_noticed() {
    for provider in PROVIDERS {
        for suite in suites() {
            let (encryption, integrity) = keys(&suite);
            let sk = Protection::new(provider, &suite, &encryption, &integrity).unwrap();
            let body = sk.protect(b"prefix", &vec![9; sk.iv_len()], b"some plaintext").unwrap();
            for octet in 0..body.len() {
                let mut changed = body.clone();
                changed[octet] ^= 0x80;
                assert_eq!(sk.unprotect(b"prefix", &changed), Err(CryptoError::Integrity), "{suite} {octet}");
            }
            assert_eq!(sk.unprotect(b"Prefix", &body), Err(CryptoError::Integrity), "{suite}");
            assert_eq!(sk.unprotect(b"prefix0", &body), Err(CryptoError::Integrity), "{suite}");
            for len in 0..body.len() {
                let expected =
                    if len < sk.body_len(0) { CryptoError::TooShort { found: len, least: sk.body_len(0) } } else { CryptoError::Integrity };
                // What is cut off is noticed before anybody asks whether whole blocks are left.
                assert_eq!(sk.unprotect(b"prefix", &body[..len]), Err(expected), "{suite} {len}");
            }
            let [other, another] =
                [&encryption, &integrity].map(|key| Secret::from(key.expose().iter().rev().copied().collect::<Vec<_>>()));
            let wrong = Protection::new(provider, &suite, &other, &another).unwrap();
            assert_eq!(wrong.unprotect(b"prefix", &body), Err(CryptoError::Integrity), "{suite}");
        }
    }
}

/// A body with a right ICV around any text, as a peer with the keys can make it.
fn sealed(suite: &IkeSuite, text: &[u8]) -> Vec<u8> {
    let (encryption, integrity) = keys(suite);
    let cipher = RustCryptoProvider.need_cipher(suite.cipher).unwrap();
    let iv = vec![9; cipher.iv_len()];
    let mut buffer = text.to_vec();
    if cipher.seal(encryption.expose(), &iv, b"prefix", &mut buffer).is_err() {
        // Not whole blocks: left as it is, under a right ICV.
        buffer = text.to_vec();
    }
    let mut body = [iv, buffer].concat();
    if let Some(id) = suite.integrity {
        let icv = RustCryptoProvider.need_integrity(id).unwrap().sign(integrity.expose(), &[b"prefix", &body]);
        body.extend_from_slice(&icv);
    }
    body
}

#[test]
fn any_padding_that_fits_is_accepted_and_no_other() {
    for suite in [suite(Cipher::AES128GCM16, None), suite(Cipher::AES128, Some(Integrity::HmacSha1_96))] {
        let (encryption, integrity) = keys(&suite);
        let sk = Protection::new(&RustCryptoProvider, &suite, &encryption, &integrity).unwrap();
        let mut text = [7; 32];
        for (pad_length, kept) in [(0, 31), (1, 30), (15, 16), (31, 0)] {
            text[31] = pad_length;
            assert_eq!(sk.unprotect(b"prefix", &sealed(&suite, &text)).unwrap(), vec![7; kept], "{suite}");
        }
        for pad_length in [32, 200, 255] {
            text[31] = pad_length;
            let expected = CryptoError::Padding { pad_length, found: 32 };
            assert_eq!(sk.unprotect(b"prefix", &sealed(&suite, &text)), Err(expected), "{suite}");
        }
    }
}

#[test]
fn ciphertext_must_be_whole_blocks() {
    let suite = suite(Cipher::AES128, Some(Integrity::HmacSha1_96));
    let (encryption, integrity) = keys(&suite);
    let sk = Protection::new(&RustCryptoProvider, &suite, &encryption, &integrity).unwrap();
    let body = sealed(&suite, &[0; 33]);
    assert_eq!(sk.unprotect(b"prefix", &body), Err(CryptoError::BlockLength { found: 33, block: 16 }));
}

#[test]
fn nothing_is_encrypted_without_integrity() {
    let key = Secret::from(vec![1; 16]);
    let without = suite(Cipher::AES128, None);
    assert!(matches!(Protection::new(&RustCryptoProvider, &without, &key, &key), Err(CryptoError::Unsupported(_))));
    let null = suite(Cipher::NULL, Some(Integrity::HmacSha256_128));
    assert_eq!(Protection::new(&RustCryptoProvider, &null, &key, &key).err(), Some(CryptoError::Unsupported("null")));
    assert!(!RustCryptoProvider.supports(&null));
}

#[test]
fn a_wrong_iv_or_key_length_is_an_error() {
    for suite in suites() {
        let (encryption, integrity) = keys(&suite);
        let sk = Protection::new(&RustCryptoProvider, &suite, &encryption, &integrity).unwrap();
        for len in [0, sk.iv_len() - 1, sk.iv_len() + 1] {
            let result = sk.protect(b"prefix", &vec![0; len], b"text");
            assert!(matches!(result, Err(CryptoError::Length { what: "IV", .. })), "{suite}: {result:?}");
        }
        let short = Secret::from(&encryption.expose()[1..]);
        let result = Protection::new(&RustCryptoProvider, &suite, &short, &integrity);
        assert!(matches!(result, Err(CryptoError::Length { what: "key", .. })), "{suite}: {result:?}");
        if suite.integrity.is_some() {
            let long = Secret::new([integrity.expose(), &[0]].concat());
            let result = Protection::new(&RustCryptoProvider, &suite, &encryption, &long);
            assert!(matches!(result, Err(CryptoError::Length { what: "key", .. })), "{suite}: {result:?}");
        }
    }
}
