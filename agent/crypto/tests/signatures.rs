//! Signatures of AUTH: each scheme both ways, AlgorithmIdentifiers of RFC 7427 appendix A, and signatures that OpenSSL made.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod hex;

use hex::hex;
use watari_crypto::auth_signature::{DIGITAL_SIGNATURE, ECDSA_P256, ECDSA_P384, RSA, accepted_hashes, choose, sign, verify};
use watari_crypto::{Hash, Provider, RustCryptoProvider, Scheme, SignatureError};
use watari_policies::Secret;
use watari_policies::certificate::{Certificate, KeyKind, certificates, private_key};

macro_rules! pair {
    ($certificate:literal, $key:literal) => {
        pair(
            include_bytes!(concat!("../../../policies/tests/certificates/", $certificate)),
            include_bytes!(concat!("../../../policies/tests/certificates/", $key)),
        )
    };
}

fn pair(certificate: &[u8], key: &[u8]) -> (Certificate, Secret) {
    let certificate = certificates(certificate).unwrap().remove(0);
    let key = private_key(key, &certificate).unwrap();
    (certificate, key)
}

const OCTETS: &[u8] = b"what both have seen";

fn round(certificate: &Certificate, key: &Secret, how: (u8, Scheme)) -> Vec<u8> {
    let kind = &certificate.content().key;
    let data = sign(&RustCryptoProvider, kind, key, how, OCTETS, &[7; 32]).unwrap();
    assert_eq!(verify(&RustCryptoProvider, certificate, (how.0, &data), OCTETS, true), Ok(()));
    let other = verify(&RustCryptoProvider, certificate, (how.0, &data), b"something else", true);
    assert_eq!(other, Err(SignatureError::Wrong));
    for at in (0..data.len()).step_by(11) {
        let mut forged = data.clone();
        forged[at] ^= 4;
        assert!(verify(&RustCryptoProvider, certificate, (how.0, &forged), OCTETS, true).is_err(), "octet {at}");
    }
    data
}

#[test]
fn every_scheme_verifies_what_it_signed() {
    let (mn, mn_key) = pair!("mn.pem", "mn.key");
    let (mn384, mn384_key) = pair!("mn384.pem", "mn384.key");
    let (ha, ha_key) = pair!("ha.pem", "ha.key");
    for hash in Hash::ACCEPTED {
        round(&mn, &mn_key, (DIGITAL_SIGNATURE, Scheme::Ecdsa(hash)));
        round(&mn384, &mn384_key, (DIGITAL_SIGNATURE, Scheme::Ecdsa(hash)));
        round(&ha, &ha_key, (DIGITAL_SIGNATURE, Scheme::RsaPss(hash, hash.len())));
        round(&ha, &ha_key, (DIGITAL_SIGNATURE, Scheme::RsaPkcs1(hash)));
    }
    //= rfc4754#7
    //# r and s one after the other, each as long as the field
    assert_eq!(round(&mn, &mn_key, (ECDSA_P256, Scheme::EcdsaPlain(Hash::Sha256))).len(), 64);
    assert_eq!(round(&mn384, &mn384_key, (ECDSA_P384, Scheme::EcdsaPlain(Hash::Sha384))).len(), 96);
    assert_eq!(round(&ha, &ha_key, (RSA, Scheme::RsaPkcs1(Hash::Sha1))).len(), 256);
}

#[test]
fn algorithm_identifiers_are_those_of_rfc_7427() {
    let known = [
        (Scheme::RsaPkcs1(Hash::Sha256), "300d06092a864886f70d01010b0500"),
        (Scheme::RsaPkcs1(Hash::Sha384), "300d06092a864886f70d01010c0500"),
        (Scheme::RsaPkcs1(Hash::Sha512), "300d06092a864886f70d01010d0500"),
        (Scheme::Ecdsa(Hash::Sha256), "300a06082a8648ce3d040302"),
        (Scheme::Ecdsa(Hash::Sha384), "300a06082a8648ce3d040303"),
        (Scheme::Ecdsa(Hash::Sha512), "300a06082a8648ce3d040304"),
        // A.4.3
        (
            Scheme::RsaPss(Hash::Sha256, 32),
            "304106092a864886f70d01010a3034a00f300d06096086480165030402010500a11c301a06092a864886f70d010108300d06096086480165030402010500a203020120",
        ),
    ];
    for (scheme, octets) in known {
        assert_eq!(scheme.identifier(), Some(hex(octets)), "{scheme:?}");
        assert_eq!(Scheme::from_identifier(&hex(octets)), Ok(scheme));
    }
    for hash in Hash::ACCEPTED {
        let scheme = Scheme::RsaPss(hash, hash.len());
        assert_eq!(Scheme::from_identifier(&scheme.identifier().unwrap()), Ok(scheme));
    }
    // Without NULL it is taken too; SHA-1, RSASSA-PSS by default (SHA-1) and what is unknown are not.
    assert_eq!(Scheme::from_identifier(&hex("300b06092a864886f70d01010b")), Ok(Scheme::RsaPkcs1(Hash::Sha256)));
    for refused in
        ["300d06092a864886f70d0101050500", "300906072a8648ce3d0401", "300d06092a864886f70d01010a3000", "300506032b6570", "3000", ""]
    {
        assert!(matches!(Scheme::from_identifier(&hex(refused)), Err(SignatureError::Algorithm(_))), "{refused}");
    }
}

#[test]
fn the_method_depends_on_what_the_peer_knows() {
    let rsa = KeyKind::Rsa(2048);
    let all = accepted_hashes();
    assert_eq!(all, [0, 2, 0, 3, 0, 4]);
    assert_eq!(choose(&rsa, Some(&all), false), Ok((DIGITAL_SIGNATURE, Scheme::RsaPss(Hash::Sha256, 32))));
    assert_eq!(choose(&rsa, Some(&[0, 1, 0, 4]), false), Ok((DIGITAL_SIGNATURE, Scheme::RsaPss(Hash::Sha512, 64))));
    assert_eq!(choose(&rsa, None, true), Ok((RSA, Scheme::RsaPkcs1(Hash::Sha1))));
    let refused = choose(&rsa, None, false).unwrap_err().to_string();
    assert!(refused.contains("RSA with SHA-1") && refused.contains("sha1_signatures"), "{refused}");
    assert_eq!(choose(&rsa, Some(&all), true), Ok((DIGITAL_SIGNATURE, Scheme::RsaPss(Hash::Sha256, 32))), "never with a better peer");
    assert_eq!(choose(&KeyKind::EcdsaP256, None, false), Ok((ECDSA_P256, Scheme::EcdsaPlain(Hash::Sha256))));
    assert_eq!(choose(&KeyKind::EcdsaP384, None, false), Ok((ECDSA_P384, Scheme::EcdsaPlain(Hash::Sha384))));
    assert_eq!(choose(&KeyKind::EcdsaP384, Some(&all), false), Ok((DIGITAL_SIGNATURE, Scheme::Ecdsa(Hash::Sha384))));
    assert!(choose(&rsa, Some(&[0, 1]), false).is_err(), "SHA-1 alone is nothing in common");
}

#[test]
fn what_does_not_go_together_is_refused() {
    let (mn, _) = pair!("mn.pem", "mn.key");
    let (ha, ha_key) = pair!("ha.pem", "ha.key");
    let at = |certificate: &Certificate, method, data: &[u8], sha1| verify(&RustCryptoProvider, certificate, (method, data), OCTETS, sha1);
    let sha1 = sign(&RustCryptoProvider, &KeyKind::Rsa(2048), &ha_key, (RSA, Scheme::RsaPkcs1(Hash::Sha1)), OCTETS, &[1; 32]).unwrap();
    assert!(matches!(at(&ha, RSA, &sha1, false), Err(SignatureError::Algorithm(_))), "SHA-1 unless it is allowed");
    assert!(matches!(at(&mn, RSA, &sha1, true), Err(SignatureError::Scheme(_))));
    assert!(matches!(at(&ha, ECDSA_P256, &[0; 64], true), Err(SignatureError::Scheme(_))));
    assert!(matches!(at(&mn, ECDSA_P384, &[0; 96], true), Err(SignatureError::Scheme(_))));
    assert_eq!(at(&mn, ECDSA_P256, &[0; 64], true), Err(SignatureError::Wrong), "zeros are no signature");
    for malformed in [&[][..], &[5], &[0], &[200, 1, 2]] {
        assert!(at(&ha, DIGITAL_SIGNATURE, malformed, true).is_err());
    }
    let short = certificates(include_bytes!("../../../policies/tests/certificates/short.pem")).unwrap().remove(0);
    let data = [&[15][..], &hex("300d06092a864886f70d01010b0500"), &[1; 128]].concat();
    assert_eq!(at(&short, DIGITAL_SIGNATURE, &data, true), Err(SignatureError::Key(KeyKind::Rsa(1024))));
}

/// `printf 'what both have seen' | openssl dgst -sha256 ...` with the keys of the test folder.
#[test]
fn signatures_of_openssl_are_verified() {
    let (mn, _) = pair!("mn.pem", "mn.key");
    let (ha, _) = pair!("ha.pem", "ha.key");
    let signatures = RustCryptoProvider.signatures().unwrap();
    let known = [
        (
            &mn,
            Scheme::Ecdsa(Hash::Sha256),
            "3045022100d76027c97d7c2c4ca14f9ed7df2ef927ee4e0c62c37ec94033643a74ff45f22a022051459d5443be26a02ceaf25b17a3ce5770d8816ee8b88ef3395b32675aaea28a",
        ),
        (
            &ha,
            Scheme::RsaPkcs1(Hash::Sha384),
            "c8ce07f54e7c9e5fe0c3a0d27dfc4020533a91d382abd35aed0abce85e997dab58b1d5a42a6c0cc52c8142998e693f1a6005eb46dc5ec04faf55b851ed22f69218b47dc268f6bb665d820c949232d0b5f921dac095fdb7a036eed6fa6011fc6db823989c503e3ee6651a5c207542d9459b606fb4cbcd4dbab604c8ddf2cda6bb55624ae968a4b55d2e9f0efc3da0f0da83b584c3f6b9242b6d852eb7f1f1efeb00bdd03f18da0e0d21515821878d1f77636e9314c5830a9d724831c532f664ad3f27ade06948692c80cdddd29fbbcbf338559d2c19e8a7c73d9ffecfee416a4a4a2e9015d08a70960f5b4223b3e206dd5aefb316950c93b2e6ea883d98a82e75",
        ),
        (
            &ha,
            Scheme::RsaPss(Hash::Sha256, 32),
            "94bd6acfa1634c7f3932a8ffe5ca06ae33b7f195eb38c22dfdee517eebe7d2aa3aa52ba59780fbbf00920b67d70340edb2c80b5c70361d24f622ce193ed39e09dd7cc7a87a9a7789c21ad515f4d537cd1d9b6bf1af2a753b8c92790828a1a7c18aade7507384bd05000d7a62c0cd5638de700e6a3899a7cb892e1220f1e493a420d8367091895f99e3ecdb18baa3084babf4f7afbbbedf3c56e62fb0f4652aae8c95aff7ac41d5ba45091cad7b536bdf8606bceeb4aba43bdb4c54936f6f9c3b236d4e5e12d2687569f72a4c301ee614e19fa980dddea15f4a29cabff35f5808ccc02fd5b10d3a1118d2c026f14e759d093385f9a53e16440f00ece4393035c7",
        ),
    ];
    for (certificate, scheme, signature) in known {
        let content = certificate.content();
        assert_eq!(signatures.verify(&content.key, &content.public_key, scheme, OCTETS, &hex(signature)), Ok(()), "{scheme:?}");
    }
    let content = ha.content();
    let salt = signatures.verify(&content.key, &content.public_key, Scheme::RsaPss(Hash::Sha256, 20), OCTETS, &hex("94bd6acfa1634c7f3932a8ffe5ca06ae33b7f195eb38c22dfdee517eebe7d2aa3aa52ba59780fbbf00920b67d70340edb2c80b5c70361d24f622ce193ed39e09dd7cc7a87a9a7789c21ad515f4d537cd1d9b6bf1af2a753b8c92790828a1a7c18aade7507384bd05000d7a62c0cd5638de700e6a3899a7cb892e1220f1e493a420d8367091895f99e3ecdb18baa3084babf4f7afbbbedf3c56e62fb0f4652aae8c95aff7ac41d5ba45091cad7b536bdf8606bceeb4aba43bdb4c54936f6f9c3b236d4e5e12d2687569f72a4c301ee614e19fa980dddea15f4a29cabff35f5808ccc02fd5b10d3a1118d2c026f14e759d093385f9a53e16440f00ece4393035c7"));
    assert_eq!(salt, Err(SignatureError::Wrong), "the salt has the length that was said");
}
