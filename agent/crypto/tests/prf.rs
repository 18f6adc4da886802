//! PRF, prf+ and integrity algorithms against known answers: RFC 2202, RFC 4231/4868, NIST CAVP for IKEv2.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

mod hex;

use hex::hex;
use watari_crypto::{CryptoError, PrfAlgorithm, Provider, RustCryptoProvider, Secret};
use watari_policies::algorithm::{Integrity, Prf};

/// Key, data, output.
const PRF: &[(Prf, &str, &str, &str)] = &[
    (Prf::HmacSha1, "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "4869205468657265", "b617318655057264e28bc0b6fb378c8ef146be00"),
    (Prf::HmacSha1, "4a656665", "7768617420646f2079612077616e7420666f72206e6f7468696e673f", "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
    (
        Prf::HmacSha1,
        "0102030405060708090a0b0c0d0e0f10111213141516171819",
        "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd",
        "4c9007f4026250c6bc8414f9bf50c86c2d7235da",
    ),
    (
        Prf::HmacSha1,
        "\
        aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
        aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "\
        54657374205573696e67204c6172676572205468616e20426c6f636b2d53697a65204b657920616e64204c617267657220546861\
        6e204f6e6520426c6f636b2d53697a652044617461",
        "e8e99d0f45237d786d6bbaa7965c7808bbff1a91",
    ),
    (
        Prf::HmacSha256,
        "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",
        "4869205468657265",
        "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
    ),
    (
        Prf::HmacSha384,
        "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",
        "4869205468657265",
        "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59cfaea9ea9076ede7f4af152e8b2fa9cb6",
    ),
    (
        Prf::HmacSha512,
        "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",
        "4869205468657265",
        "\
        87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cdedaa833b7d6b8a702038b274eaea3f4e4be9d914e\
        eb61f1702e696c203a126854",
    ),
    (
        Prf::HmacSha256,
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd",
        "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
    ),
    (
        Prf::HmacSha384,
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd",
        "88062608d3e6ad8a0aa2ace014c8a86f0aa635d947ac9febe83ef4e55966144b2a5ab39dc13814b94e3ab6e101a34f27",
    ),
    (
        Prf::HmacSha512,
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd",
        "\
        fa73b0089d56a284efb0f0756c890be9b1b5dbdd8ee81a3655f83e33b2279d39bf3e848279a722c806b485a47e67c807b946a337\
        bee8942674278859e13292fb",
    ),
    (
        Prf::HmacSha256,
        "\
        aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
        aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
        aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "\
        54657374205573696e67204c6172676572205468616e20426c6f636b2d53697a65204b6579202d2048617368204b657920466972\
        7374",
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
    ),
    (
        Prf::HmacSha384,
        "\
        aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
        aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
        aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "\
        54657374205573696e67204c6172676572205468616e20426c6f636b2d53697a65204b6579202d2048617368204b657920466972\
        7374",
        "4ece084485813e9088d2c63a041bc5b44f9ef1012a2b588f3cd11f05033ac4c60c2ef6ab4030fe8296248df163f44952",
    ),
    (
        Prf::HmacSha512,
        "\
        aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
        aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
        aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "\
        54657374205573696e67204c6172676572205468616e20426c6f636b2d53697a65204b6579202d2048617368204b657920466972\
        7374",
        "\
        80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f3526b56d037e05f2598bd0fd2215d6a1e5295e64f73\
        f63f0aec8b915a985d786598",
    ),
];

/// Key, data, ICV.
const INTEGRITY: &[(Integrity, &str, &str, &str)] = &[
    (Integrity::HmacSha1_96, "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "4869205468657265", "b617318655057264e28bc0b6"),
    (
        Integrity::HmacSha256_128,
        "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",
        "4869205468657265",
        "198a607eb44bfbc69903a0f1cf2bbdc5",
    ),
    (
        Integrity::HmacSha384_192,
        "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",
        "4869205468657265",
        "b6a8d5636f5c6a7224f9977dcf7ee6c7fb6d0c48cbdee973",
    ),
    (
        Integrity::HmacSha512_256,
        "\
        0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b\
        0b0b0b0b0b0b0b0b0b0b0b0b",
        "4869205468657265",
        "637edc6e01dce7e6742a99451aae82df23da3e92439e590e43e761b33e910fb8",
    ),
    (
        Integrity::HmacSha256_128,
        "4a6566654a6566654a6566654a6566654a6566654a6566654a6566654a656665",
        "7768617420646f2079612077616e7420666f72206e6f7468696e673f",
        "167f928588c5cc2eef8e3093caa0e87c",
    ),
    (
        Integrity::HmacSha384_192,
        "4a6566654a6566654a6566654a6566654a6566654a6566654a6566654a6566654a6566654a6566654a6566654a656665",
        "7768617420646f2079612077616e7420666f72206e6f7468696e673f",
        "2c7353974f1842fd66d53c452ca42122b28c0b594cfb184d",
    ),
    (
        Integrity::HmacSha512_256,
        "\
        4a6566654a6566654a6566654a6566654a6566654a6566654a6566654a6566654a6566654a6566654a6566654a6566654a656665\
        4a6566654a6566654a656665",
        "7768617420646f2079612077616e7420666f72206e6f7468696e673f",
        "cb370917ae8a7ce28cfd1d8f4705d6141c173b2a9362c15df235dfb251b15454",
    ),
];

/// Key, seed, output. The first key is shorter than the hash.
const PRF_PLUS: &[(Prf, &str, &str, &str)] = &[
    (
        Prf::HmacSha256,
        "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",
        "4869205468657265",
        "\
        b9bdc08988b4c2b75aa93e596ac84205fa2ddde1bf7a2572067b00e14b237732830509981ad2f94a8c32a47daa2255b660c43634\
        7ae756a6edc023477d809590e682f61d9c04b06b4ad971a34c8147fa66792ff1434b93c722b32e12f48832ebc15ce2369ce71fe9\
        b7b81e5704c14d0f5280a6ec626e992d7a9f",
    ),
    (
        Prf::HmacSha384,
        "54436a9ea95d6ff79b967f4b07f6de976a376e8ea26aa9574709afc60243c9c141da4ca0e158e627a75ea87f6feb07ef",
        "d672b0bc852829b93509f3b7247063640f9a016d7b22223c85f710daf8b982d8",
        "\
        10b00a654643b3b985764f86e23ef62431122fcc96de16e338a372bee49391db1f83a7358c080380abbf4af47cdb83b953034316\
        8f7dbc9221260e1546c6b383e2235d2705a727f0b41aebf6a1b4c61cb460660152a17ba74c20d5191ba6841794945270d829587b\
        7f3294639ea7b77149e1d07230ac16e0cd5ab236fa3212bd569ee70f",
    ),
    (
        Prf::HmacSha512,
        "\
        daf9bd6f2f912da553867966af386e67909a8df0ca7e84b83b355cb7d7f1026f17d8ea34b5d57fd0d1ba389528fca1e81d1c8ce5\
        11b28a2458241143fee30ccc",
        "df7931db9b429e10b8aa8e4d460423939ba40af9157f47925383c7cd3d1046e6",
        "\
        919a75deaeccbd393bebc89615f8a215edb7073b2319d86740221eee7a2deb92509044d7e61fcb1bf9676b3881c7ced49e6bba15\
        49da3113601677a2445d91ac13a597335782dd3a9cf496d9e19b932f27dd35e36f8070d232d0a3b3f4c4a0b4ba4470778dc090f3\
        1f52ab1b6d81e4c7dfb35063ad96c327adcdbde714cc9a6b5ef049b8",
    ),
];

#[test]
fn prf_known_answers() {
    for (id, key, data, output) in PRF {
        let prf = RustCryptoProvider.need_prf(*id).unwrap();
        let (key, data) = (hex(key), hex(data));
        assert_eq!(prf.prf(&key, &[&data]).expose(), hex(output), "{id}");
        let (head, tail) = data.split_at(3);
        assert_eq!(prf.prf(&key, &[head, &[], tail]).expose(), hex(output), "{id}: parts are one message");
        assert_eq!(prf.output_len() * 2, output.len(), "{id}");
    }
    assert!(Prf::ALL.iter().all(|prf| PRF.iter().any(|(id, ..)| id == prf)));
}

#[test]
fn integrity_known_answers() {
    for (id, key, data, icv) in INTEGRITY {
        let integrity = RustCryptoProvider.need_integrity(*id).unwrap();
        let (key, data, icv) = (hex(key), hex(data), hex(icv));
        assert_eq!(integrity.sign(&key, &[&data]), icv, "{id}");
        assert_eq!(integrity.verify(&key, &[&data[..1], &data[1..]], &icv), Ok(()), "{id}");
        assert_eq!((integrity.icv_len(), integrity.key_len()), (icv.len(), key.len()), "{id}");
        for octet in 0..icv.len() {
            let mut wrong = icv.clone();
            wrong[octet] ^= 1;
            assert_eq!(integrity.verify(&key, &[&data], &wrong), Err(CryptoError::Integrity), "{id}");
        }
        for wrong in [&icv[1..], &[], &[&icv[..], &[0]].concat()] {
            assert_eq!(integrity.verify(&key, &[&data], wrong), Err(CryptoError::Integrity), "{id}");
        }
    }
    assert!(Integrity::ALL.iter().all(|integrity| INTEGRITY.iter().any(|(id, ..)| id == integrity)));
}

#[test]
fn prf_plus_known_answers() {
    for (id, key, seed, output) in PRF_PLUS {
        let prf = RustCryptoProvider.need_prf(*id).unwrap();
        let (key, seed, output) = (hex(key), hex(seed), hex(output));
        assert_eq!(prf.prf_plus(&key, &[&seed], output.len()).unwrap().expose(), output, "{id}");
    }
}

/// A second provider's PRF that has no prf+ of its own.
struct Bare<'a>(&'a dyn PrfAlgorithm);

impl PrfAlgorithm for Bare<'_> {
    fn id(&self) -> Prf {
        self.0.id()
    }

    fn prf(&self, key: &[u8], parts: &[&[u8]]) -> Secret {
        self.0.prf(key, parts)
    }
}

#[test]
fn prf_plus_by_hkdf_is_prf_plus_by_its_definition() {
    for id in Prf::ALL {
        let prf = RustCryptoProvider.need_prf(*id).unwrap();
        for key_len in [0, 1, 20, 32, 48, 64, 200] {
            let key = vec![0x5a; key_len];
            for len in [0, 1, id.output_len(), id.output_len() + 1, 255 * id.output_len()] {
                let seed: [&[u8]; 3] = [b"Ni", b"", b"Nr"];
                assert_eq!(prf.prf_plus(&key, &seed, len).unwrap(), Bare(prf).prf_plus(&key, &seed, len).unwrap());
            }
        }
        let too_long = 255 * id.output_len() + 1;
        assert!(matches!(prf.prf_plus(&[1; 64], &[], too_long), Err(CryptoError::TooLong(_))));
        assert!(matches!(Bare(prf).prf_plus(&[1; 64], &[], too_long), Err(CryptoError::TooLong(_))));
    }
}
