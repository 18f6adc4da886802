//! Ciphers against known answers: RFC 3602, SP 800-38A, RFC 4106 / the GCM specification, RFC 7539, RFC 7634.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

mod hex;

use hex::hex;
use watari_crypto::{CryptoError, Provider, RustCryptoProvider};
use watari_policies::algorithm::Cipher;

/// `key` holds the salt too; `sealed` is ciphertext and ICV.
struct Vector {
    name: &'static str,
    key: &'static str,
    iv: &'static str,
    aad: &'static str,
    plain: &'static str,
    sealed: &'static str,
}

/// RFC 3602 4, SP 800-38A F.2.
const CBC: &[Vector] = &[
    Vector {
        name: "aes128",
        key: "06a9214036b8a15b512e03d534120006",
        iv: "3dafba429d9eb430b422da802c9fac41",
        aad: "",
        plain: "53696e676c6520626c6f636b206d7367",
        sealed: "e353779c1079aeb82708942dbe77181a",
    },
    Vector {
        name: "aes128",
        key: "c286696d887c9aa0611bbb3e2025a45a",
        iv: "562e17996d093d28ddb3ba695a2e6f58",
        aad: "",
        plain: "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
        sealed: "d296cd94c2cccf8a3a863028b5e1dc0a7586602d253cfff91b8266bea6d61ab1",
    },
    Vector {
        name: "aes192",
        key: "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b",
        iv: "000102030405060708090a0b0c0d0e0f",
        aad: "",
        plain: "\
            6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445\
            df4f9b17ad2b417be66c3710",
        sealed: "\
            4f021db243bc633d7178183a9fa071e8b4d9ada9ad7dedf4e5e738763f69145a571b242012fb7ae07fa9baac3df102e008b0e279\
            88598881d920a9e64f5615cd",
    },
    Vector {
        name: "aes256",
        key: "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
        iv: "000102030405060708090a0b0c0d0e0f",
        aad: "",
        plain: "\
            6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445\
            df4f9b17ad2b417be66c3710",
        sealed: "\
            f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d39f23369a9d9bacfa530e26304231461b2eb05e2\
            c39be9fcda6c19078c6a9d1b",
    },
];

/// The GCM specification, RFC 7539 A.5, RFC 7634 A and B.
const AEAD: &[Vector] = &[
    Vector {
        name: "aes128gcm16",
        key: "0000000000000000000000000000000000000000",
        iv: "0000000000000000",
        aad: "",
        plain: "",
        sealed: "58e2fccefa7e3061367f1d57a4e7455a",
    },
    Vector {
        name: "aes128gcm8",
        key: "feffe9928665731c6d6a8f9467308308cafebabe",
        iv: "facedbaddecaf888",
        aad: "",
        plain: "\
            d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5\
            aa0de657ba637b391aafd255",
        sealed: "\
            42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa051ba30b39\
            6a0aac973d58e091473f59854d5c2af327cd64a6",
    },
    Vector {
        name: "aes128gcm12",
        key: "feffe9928665731c6d6a8f9467308308cafebabe",
        iv: "facedbaddecaf888",
        aad: "",
        plain: "\
            d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5\
            aa0de657ba637b391aafd255",
        sealed: "\
            42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa051ba30b39\
            6a0aac973d58e091473f59854d5c2af327cd64a62cf35abd",
    },
    Vector {
        name: "aes128gcm16",
        key: "feffe9928665731c6d6a8f9467308308cafebabe",
        iv: "facedbaddecaf888",
        aad: "feedfacedeadbeeffeedfacedeadbeefabaddad2",
        plain: "\
            d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5\
            aa0de657ba637b39",
        sealed: "\
            42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa051ba30b39\
            6a0aac973d58e0915bc94fbc3221a5db94fae95ae7121a47",
    },
    Vector {
        name: "aes192gcm16",
        key: "feffe9928665731c6d6a8f9467308308feffe9928665731ccafebabe",
        iv: "facedbaddecaf888",
        aad: "feedfacedeadbeeffeedfacedeadbeefabaddad2",
        plain: "\
            d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5\
            aa0de657ba637b39",
        sealed: "\
            3980ca0b3c00e841eb06fac4872a2757859e1ceaa6efd984628593b40ca1e19c7d773d00c144c525ac619d18c84a3f4718e2448b\
            2fe324d9ccda27102519498e80f1478f37ba55bd6d27618c",
    },
    Vector {
        name: "aes256gcm16",
        key: "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308cafebabe",
        iv: "facedbaddecaf888",
        aad: "feedfacedeadbeeffeedfacedeadbeefabaddad2",
        plain: "\
            d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5\
            aa0de657ba637b39",
        sealed: "\
            522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e63\
            93ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b",
    },
    Vector {
        name: "aes192gcm8",
        key: "feffe9928665731c6d6a8f9467308308feffe9928665731ccafebabe",
        iv: "facedbaddecaf888",
        aad: "",
        plain: "\
            d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b5251c3c0c95\
            956809532fcf0e2449a6b525b16aedf5aa0d",
        sealed: "\
            3980ca0b3c00e841eb06fac4872a2757859e1ceaa6efd984628593b40ca1e19c7d773d00c144c525ac619d18c84a3f47b5b4a5eb\
            1086cbdd5976520dffa485264b5422a0c6654da84673ecc06168",
    },
    Vector {
        name: "aes192gcm12",
        key: "feffe9928665731c6d6a8f9467308308feffe9928665731ccafebabe",
        iv: "facedbaddecaf888",
        aad: "",
        plain: "\
            d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b5251c3c0c95\
            956809532fcf0e2449a6b525b16aedf5aa0d",
        sealed: "\
            3980ca0b3c00e841eb06fac4872a2757859e1ceaa6efd984628593b40ca1e19c7d773d00c144c525ac619d18c84a3f47b5b4a5eb\
            1086cbdd5976520dffa485264b5422a0c6654da84673ecc061680f000c32",
    },
    Vector {
        name: "aes256gcm8",
        key: "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308cafebabe",
        iv: "facedbaddecaf888",
        aad: "",
        plain: "\
            d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b5251c3c0c95\
            956809532fcf0e2449a6b525b16aedf5aa0d",
        sealed: "\
            522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b105682883868a0ff03\
            acdf950e2965837fda8972ddd5c596a34ae0e62f1ee20480d7b7",
    },
    Vector {
        name: "aes256gcm12",
        key: "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308cafebabe",
        iv: "facedbaddecaf888",
        aad: "",
        plain: "\
            d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b5251c3c0c95\
            956809532fcf0e2449a6b525b16aedf5aa0d",
        sealed: "\
            522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b105682883868a0ff03\
            acdf950e2965837fda8972ddd5c596a34ae0e62f1ee20480d7b75b659aad",
    },
    Vector {
        name: "aes128gcm16",
        key: "feffe9928665731c6d6a8f9467308308cafebabe",
        iv: "facedbaddecaf888",
        aad: "\
            feedfacedeadbeeffeedfacedeadbeefabaddad2feedfacedeadbeeffeedfacedeadbeefdad2feedfacedeadbeeffedad2feedfa\
            cedeadbeeffedad2feedfacedeadbeeffe",
        plain: "\
            d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b5251c3c0c95\
            956809532fcf0e2449a6b525b16aedf5aa0d",
        sealed: "\
            42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa05b6f5ea59\
            556f4393a8f4958c14363ef56cc28a3164ffe92477c3af6b64c78bb9ecb94884a2db",
    },
    Vector {
        name: "chacha20poly1305",
        key: "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f07000000",
        iv: "4041424344454647",
        aad: "50515253c0c1c2c3c4c5c6c7",
        plain: "\
            4c616469657320616e642047656e746c656d656e206f662074686520636c617373206f66202739393a204966204920636f756c64\
            206f6666657220796f75206f6e6c79206f6e652074697020666f7220746865206675747572652c2073756e73637265656e20776f\
            756c642062652069742e",
        sealed: "\
            d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b1a71de0a\
            9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc3ff4def08e4b7a9d\
            e576d26586cec64b61161ae10b594f09e26a7e902ecbd0600691",
    },
    Vector {
        name: "chacha20poly1305",
        key: "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3",
        iv: "1011121314151617",
        aad: "0102030400000005",
        plain: "\
            45000054a6f200004001e778c6336405c000020508005b7a3a080000553bec100007362708090a0b0c0d0e0f1011121314151617\
            18191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363701020204",
        sealed: "\
            24039428b97f417e3c13753a4f05087b67c352e6a7fab1b982d466ef407ae5c614ee8099d52844eb61aa95dfab4c02f72aa71e7c\
            4c4f64c9befe2facc638e8f3cbec163fac469b502773f6fb94e664da9165b82829f641e076aaa8266b7fb0f7b11b369907e1ad43",
    },
    Vector {
        name: "chacha20poly1305",
        key: "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3",
        iv: "1011121314151617",
        aad: "c0c1c2c3c4c5c6c7d0d1d2d3d4d5d6d72e202500000000090000004529000029",
        plain: "0000000c000040010000000a00",
        sealed: "610394701f8d017f7c129248896b71bfe25236efd7cdc67066906315b2",
    },
];

#[test]
fn known_answers() {
    for vector in CBC.iter().chain(AEAD) {
        let cipher = RustCryptoProvider.need_cipher(vector.name.parse().unwrap()).unwrap();
        let [key, iv, aad, plain, sealed] = [vector.key, vector.iv, vector.aad, vector.plain, vector.sealed].map(hex);
        let mut buffer = plain.clone();
        cipher.seal(&key, &iv, &aad, &mut buffer).unwrap();
        assert_eq!(buffer, sealed, "{}", vector.name);
        cipher.open(&key, &iv, &aad, &mut buffer).unwrap();
        assert_eq!(buffer, plain, "{}", vector.name);
    }
}

#[test]
fn an_aead_notices_every_changed_octet() {
    for vector in AEAD {
        let cipher = RustCryptoProvider.need_cipher(vector.name.parse().unwrap()).unwrap();
        let inputs = [vector.key, vector.iv, vector.aad, vector.sealed].map(hex);
        for part in 0..inputs.len() {
            for octet in 0..inputs[part].len() {
                let [key, iv, aad, mut sealed] = {
                    let mut changed = inputs.clone();
                    changed[part][octet] ^= 0x10;
                    changed
                };
                // The key of ICV and text, so any change of it shows; nothing may pass.
                assert_eq!(cipher.open(&key, &iv, &aad, &mut sealed), Err(CryptoError::Integrity), "{}", vector.name);
            }
        }
    }
}

#[test]
fn wrong_lengths_are_refused() {
    for id in Cipher::all().filter(|cipher| *cipher != Cipher::NULL) {
        let cipher = RustCryptoProvider.need_cipher(id).unwrap();
        let (key, iv) = (vec![1; cipher.key_len()], vec![2; cipher.iv_len()]);
        for (key, iv) in [(&key[1..], &iv[..]), (&[][..], &iv), (&[7; 99], &iv), (&key, &iv[1..]), (&key, &[]), (&key, &[7; 99])] {
            for result in [cipher.seal(key, iv, &[], &mut vec![0; 32]), cipher.open(key, iv, &[], &mut vec![0; 32])] {
                assert!(matches!(result, Err(CryptoError::Length { .. })), "{id}: {result:?}");
            }
        }
        if id.is_aead() {
            let mut short = vec![0; cipher.icv_len() - 1];
            assert!(matches!(cipher.open(&key, &iv, &[], &mut short), Err(CryptoError::TooShort { .. })), "{id}");
        } else {
            assert!(matches!(cipher.seal(&key, &iv, &[], &mut vec![0; 17]), Err(CryptoError::BlockLength { .. })), "{id}");
            assert!(matches!(cipher.open(&key, &iv, &[], &mut vec![0; 15]), Err(CryptoError::BlockLength { .. })), "{id}");
        }
    }
}

#[test]
fn null_and_nonsense_are_not_offered() {
    assert!(RustCryptoProvider.cipher(Cipher::NULL).is_none());
    assert!(RustCryptoProvider.cipher(Cipher { key_bits: 77, ..Cipher::AES128 }).is_none());
}
