//! Key derivation against NIST CAVP for IKEv2 (SP 800-135); what that lacks was computed with Python's hmac module.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

mod hex;

use hex::hex;
use watari_crypto::derive::{psk_auth, signed_octets};
use watari_crypto::{ChildKeys, IkeInputs, IkeKeys, RustCryptoProvider, Secret};
use watari_policies::algorithm::{ChildSuite, Cipher, Group, IkeSuite, Integrity, Prf};

const NI: &str = "32b50d5f4a3763f3";
const NR: &str = "9206a04b26564cb1";
const SPI_I: &str = "34c9e7c188868785";
const SPI_R: &str = "3ff77d760d2b2199";
const SHARED: &str = "4b2c1f971981a8ad8d0abeafabf38cf75fc8349c148142465ed9c8b516b8be52";
const SHARED_NEW: &str = "863f3c9d06efd39d2b907b97f8699e5dd5251ef64a2a176f36ee40c87d4f9330";
/// The keying material of the IKE SA, 132 octets; SK_d is its first 20.
const DKM: &str = "\
    a14293677cc80ff8f9cc0eee30d895da9d8f405666e30ef0dfcb63c634a46002a2a63080e514a062768b76606f9fa5e992204fc5\
    a670bde3f10d6b027113936a5c55b648a194ae587b0088d52204b702c979fa280870d2ed41efa9c549fd11198af1670b143d384b\
    d275c5f594cf266b05ebadca855e4249520a441a81157435a7a56cc4";
const DKM_CHILD: &str = "\
    8059e3ee8810e6c3a91bc8bcd2a7a41151b8d0e6ae239c7b38093ad85ef4c5811a8e7b5d1cdabd9560b2d5e092d1f24e2d4b85ec\
    cdf0ad0dc9abd94b51ee71814ca6dbc8bb51b6309f5b9545c7eb35cf5580b1e521a8fe20754a2d883ba0c2cf285f524aea6545b3\
    3106bc03e614296d319d41d4b50b3f510b1c0a22f3e664994d234cb4";
const DKM_CHILD_WITH_KEY_EXCHANGE: &str = "\
    bb43244c1860ad65ee1e211ffe8bb3661750c8f89cb9f547df7f4fa61d37301628190e38c66232eab4b3ab14c400a5197dd3730e\
    d4820a8a10394d51e1c0400052f63ebd36b0e7ef53aaed31eba4a5080d7d4b5666023a8bbb5ffb7857240f9a05884d1b7d2f9337\
    08450b7b3288f1fc863ab49fa901227cffc06e27899c7054d56fd74c";

fn secret(digits: &str) -> Secret {
    Secret::new(hex(digits))
}

fn spi(digits: &str) -> [u8; 8] {
    hex(digits).try_into().unwrap()
}

fn suite(cipher: Cipher, prf: Prf) -> IkeSuite {
    let integrity = if cipher.is_aead() { None } else { Some(Integrity::HmacSha1_96) };
    IkeSuite { cipher, integrity, prf, group: Group::Curve25519 }
}

/// The keys in the order of RFC 7296 2.14, as one string.
fn joined(keys: &IkeKeys) -> Vec<u8> {
    [&keys.d, &keys.ai, &keys.ar, &keys.ei, &keys.er, &keys.pi, &keys.pr].map(Secret::expose).concat()
}

/// PRF, g^ir, Ni | Nr, SPIi | SPIr, keying material: SP 800-135 with SHA-2.
const SHA2: &[(Prf, &str, &str, &str, &str)] = &[
    (
        Prf::HmacSha256,
        "\
        42968e5d0ccc3cfc5a3e4bc1bba370cea1fae0d54c49ccba34b2bee804beeb2e9e8c57a4e01bd45102cf2433aacc6cfec06792f3\
        63e5170e6aa6650274e906648e449d27a8f00b5b44261982c9835c748a751ec5138eaacc5e025661339538a61bf418e454699e19\
        c32db8d9ce5dd86b220f1e89afc5872e68be36cb1a0c8866",
        "ed80dc79912c32a935fb6d1a3feac078",
        "47c1858efc932ea4606fd05609624002",
        "\
        63d018a08f7a29daa7d1f92cb63f45fa39bbaf5e5f1a78139613bb891e3e6bf9d0448f7c74e05b4c1a25c0b61e62c875e852f287\
        e192d4ae536112db5197216400bd5e123470efc15f53161865fe8b19a1416518a157d651ecd2caddab6a9eae6a27a55af088218d\
        5156edaa9789f934d9836ed43edffda553822202ff9f7d4860ca72e0",
    ),
    (
        Prf::HmacSha384,
        "\
        4df040b70978629c49437cff41a0d46cbea68c8d75b370ffc11d7b387144ea83bb5903fbb92e473df50a9b19ea43e9c2f3da9a84\
        9c03864276c6f264ecf02a60d40ba65c06656b633f02a87427e928eb66a2dabd9dc05744717bcaf7ae78c296872f5c48d1a8120c\
        2155b70c565ce271998e3e44af263d487ea3ba7f56132d7d",
        "d672b0bc852829b93509f3b724706364",
        "0f9a016d7b22223c85f710daf8b982d8",
        "\
        10b00a654643b3b985764f86e23ef62431122fcc96de16e338a372bee49391db1f83a7358c080380abbf4af47cdb83b953034316\
        8f7dbc9221260e1546c6b383e2235d2705a727f0b41aebf6a1b4c61cb460660152a17ba74c20d5191ba6841794945270d829587b\
        7f3294639ea7b77149e1d07230ac16e0cd5ab236fa3212bd569ee70f",
    ),
    (
        Prf::HmacSha512,
        "\
        1e3b007d2da913ca60ecc98c25a22db08073d5c35c11b2524b298a922b6abfe6acf7359db66ae5f85d67aacff686419cd8666d05\
        ae7977cefad7f54dd8e312a8e8e5e0370f88142fbdd659dd6fde22bdd531f5402881a8de85c1024e595ec93c575618af7fd3dbac\
        7982919078d71cc13eff1910a032750e1ff428675de189ee",
        "df7931db9b429e10b8aa8e4d46042393",
        "9ba40af9157f47925383c7cd3d1046e6",
        "\
        919a75deaeccbd393bebc89615f8a215edb7073b2319d86740221eee7a2deb92509044d7e61fcb1bf9676b3881c7ced49e6bba15\
        49da3113601677a2445d91ac13a597335782dd3a9cf496d9e19b932f27dd35e36f8070d232d0a3b3f4c4a0b4ba4470778dc090f3\
        1f52ab1b6d81e4c7dfb35063ad96c327adcdbde714cc9a6b5ef049b8",
    ),
];

#[test]
fn ike_keys_with_sha1() {
    let (ni, nr) = (hex(NI), hex(NR));
    let inputs = IkeInputs { ni: &ni, nr: &nr, spi_i: spi(SPI_I), spi_r: spi(SPI_R) };
    // AES-256-GCM makes exactly 132 octets: 3 x 20 and 2 x 36.
    let suite = suite(Cipher::AES256GCM16, Prf::HmacSha1);
    let keys = IkeKeys::initial(&RustCryptoProvider, &suite, &secret(SHARED), &inputs).unwrap();
    assert_eq!(joined(&keys), hex(DKM));
    assert_eq!(keys.d.expose(), &hex(DKM)[..20]);
    assert!(keys.ai.is_empty() && keys.ar.is_empty());
    assert_eq!([keys.ei.len(), keys.er.len(), keys.pi.len(), keys.pr.len()], [36, 36, 20, 20]);
}

#[test]
fn ike_keys_with_a_separate_integrity_algorithm() {
    let (ni, nr) = (hex(NI), hex(NR));
    let inputs = IkeInputs { ni: &ni, nr: &nr, spi_i: spi(SPI_I), spi_r: spi(SPI_R) };
    let suite = suite(Cipher::AES128, Prf::HmacSha1);
    let keys = IkeKeys::initial(&RustCryptoProvider, &suite, &secret(SHARED), &inputs).unwrap();
    let dkm = hex(DKM);
    assert_eq!(joined(&keys), dkm[..132]);
    for (key, range) in [(&keys.d, 0..20), (&keys.ai, 20..40), (&keys.ar, 40..60), (&keys.ei, 60..76), (&keys.er, 76..92)] {
        assert_eq!(key.expose(), &dkm[range]);
    }
    assert_eq!(keys.pi.expose(), &dkm[92..112]);
    assert_eq!(keys.pr.expose(), &dkm[112..132]);
}

#[test]
fn ike_keys_with_sha2() {
    for (prf, shared, nonces, spis, dkm) in SHA2 {
        let (nonces, dkm) = (hex(nonces), hex(dkm));
        let inputs = IkeInputs { ni: &nonces[..8], nr: &nonces[8..], spi_i: spi(&spis[..16]), spi_r: spi(&spis[16..]) };
        let suite = suite(Cipher::AES256GCM16, *prf);
        let keys = IkeKeys::initial(&RustCryptoProvider, &suite, &secret(shared), &inputs).unwrap();
        assert_eq!(joined(&keys)[..dkm.len()], dkm, "{prf}");
    }
}

#[test]
fn child_keys() {
    let (ni, nr, dkm) = (hex(NI), hex(NR), hex(DKM));
    let d = Secret::from(&dkm[..20]);
    let suite = ChildSuite { cipher: Cipher::AES256, integrity: Some(Integrity::HmacSha1_96), esn: false };
    let new = secret(SHARED_NEW);
    for (shared, expected) in [(None, DKM_CHILD), (Some(&new), DKM_CHILD_WITH_KEY_EXCHANGE)] {
        let expected = hex(expected);
        let keys = ChildKeys::derive(&RustCryptoProvider, Prf::HmacSha1, &d, &suite, shared, &ni, &nr).unwrap();
        assert_eq!(keys.initiator_encryption.expose(), &expected[..32]);
        assert_eq!(keys.initiator_integrity.expose(), &expected[32..52]);
        assert_eq!(keys.responder_encryption.expose(), &expected[52..84]);
        assert_eq!(keys.responder_integrity.expose(), &expected[84..104]);
    }
    let suite = ChildSuite { cipher: Cipher::AES128GCM16, integrity: None, esn: true };
    let keys = ChildKeys::derive(&RustCryptoProvider, Prf::HmacSha1, &d, &suite, None, &ni, &nr).unwrap();
    assert_eq!(keys.initiator_encryption.expose(), &hex(DKM_CHILD)[..20]);
    assert_eq!(keys.responder_encryption.expose(), &hex(DKM_CHILD)[20..40]);
    assert!(keys.initiator_integrity.is_empty() && keys.responder_integrity.is_empty());
}

#[test]
fn a_rekeyed_ike_sa_uses_the_old_prf_for_skeyseed_and_the_new_one_for_the_rest() {
    let (ni, nr) = (hex(NI), hex(NR));
    let inputs = IkeInputs { ni: &ni, nr: &nr, spi_i: spi(SPI_I), spi_r: spi(SPI_R) };
    let d = Secret::from(&hex(DKM)[..20]);
    // The SKEYSEED of CAVP, 63e81194946ebd05df7df5ebf5d8750056bf1f1d, stretched with SHA-256.
    let expected = hex("\
        caefcb454de31a24ca35512457371a8ea2a3961a4daba31eb4c016f4cad70d142a41448875fc324d76449def2aa396b2ded4e080\
        195f7023269bbb8d45cada954beabed245b2720658237922b6a86826b1272de31f5efd126e39323dcf322eeaccc8f2b1f2865e7d\
        fdfe643599e868c0374173c224b3a1c0e129fc85234ae23d4f17f9079d835b46b94df99b25edba60bf4efed511f550b14e286824\
        f0953b79f742c31fd1187890");
    let suite = suite(Cipher::AES256GCM16, Prf::HmacSha256);
    let keys = IkeKeys::rekeyed(&RustCryptoProvider, &suite, Prf::HmacSha1, &d, &secret(SHARED_NEW), &inputs).unwrap();
    assert_eq!(joined(&keys), expected);
}

#[test]
fn authentication_with_a_shared_secret() {
    let sk_p = Secret::from(&hex(DKM)[..20]);
    let message = [&[0x11; 28][..], b"IKE_SA_INIT"].concat();
    let id_body = b"\x02\x00\x00\x00mn.example";
    let octets = signed_octets(&RustCryptoProvider, Prf::HmacSha1, &message, &hex(NR), &sk_p, id_body).unwrap();
    assert_eq!(octets.len(), message.len() + 8 + 20);
    assert!(octets.starts_with(&message));
    let psk = Secret::from(&b"secret that nobody guesses"[..]);
    let auth = psk_auth(&RustCryptoProvider, Prf::HmacSha1, &psk, &octets).unwrap();
    assert_eq!(auth, hex("06b6872b5164f8361014fe350e4b78305918af23"));
}
