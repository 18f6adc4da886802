use super::*;

/// A file that OpenSSL wrote.
macro_rules! pem {
    ($name:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/certificates/", $name)).as_slice()
    };
}

fn one(file: &[u8]) -> Certificate {
    certificates(file).unwrap().remove(0)
}

fn identity(text: &str) -> Identity {
    text.parse().unwrap()
}

#[test]
fn what_openssl_wrote_is_read() {
    let mn = one(pem!("mn.pem"));
    let content = mn.content();
    assert_eq!(mn.to_string(), "CN=mn,O=Watari tests");
    assert_eq!(content.issuer_text, "CN=Root,O=Watari tests");
    assert_eq!(content.key, KeyKind::EcdsaP256);
    // 2020-01-01 and 2120-01-01.
    assert_eq!((content.not_before.as_secs(), content.not_after.as_secs()), (1_577_836_800, 4_733_510_400));
    assert_eq!(content.usage, Some(Usage { signs: true, signs_certificates: false }));
    assert_eq!(content.purposes, Some(vec!["1.3.6.1.5.5.7.3.17".to_owned()]));
    assert_eq!(mn.names_text(), "DNS:mn.example, IP:2001:db8:1::abcd, email:mn@home.example");
    assert_eq!((content.constraints, content.not_understood.len()), (None, 0));
    assert_eq!(one(pem!("middle.pem")).content().constraints, Some((true, Some(0))));
    assert_eq!(one(pem!("ha.pem")).content().key, KeyKind::Rsa(2048));
    assert_eq!(one(pem!("mn384.pem")).content().key, KeyKind::EcdsaP384);
    assert_eq!(one(pem!("strange.pem")).content().not_understood, ["1.2.3.4"]);
    assert!(one(pem!("root.pem")).is_self_issued() && !mn.is_self_issued());
}

#[test]
fn an_identity_is_a_whole_name_of_the_subject_alt_name() {
    let mn = one(pem!("mn.pem"));
    for named in ["mn.example", "MN.Example", "mn@home.example", "2001:db8:1::abcd"] {
        assert!(mn.proves(&identity(named)), "{named}");
    }
    for other in ["example", "n.example", "mn.example.org", "email:mn.example", "fqdn:mn@home.example", "2001:db8:1::abcc", "keyid:6d6e"] {
        assert!(!mn.proves(&identity(other)), "{other}");
    }
    // A wildcard is a name like any other, and the common name is no SubjectAltName.
    let wild = one(pem!("wild.pem"));
    assert!(wild.proves(&identity("2001:db8:1::abce")) && !wild.proves(&identity("mn.example")));
    assert_eq!(wild.names_text(), "DNS:*.example, IP:2001:db8:1::abce, a name of kind 6, a name of kind 4");
    let nameless = one(pem!("nameless.pem"));
    assert!(!nameless.proves(&identity("mn.example")));
    assert_eq!(nameless.names_text(), "nothing");
}

#[test]
fn a_distinguished_name_is_the_subject() {
    let mn = one(pem!("mn.pem"));
    let subject = Identity::Other { id_type: 9, data: mn.content().subject.clone() };
    assert!(mn.proves(&subject) && !one(pem!("ha.pem")).proves(&subject));
    assert!(!mn.proves(&Identity::Other { id_type: 10, data: mn.content().subject.clone() }));
}

#[test]
fn private_keys_of_every_form_are_brought_into_one() {
    let (mn, ha) = (one(pem!("mn.pem")), one(pem!("ha.pem")));
    let bare = private_key(pem!("mn.key"), &mn).unwrap();
    assert_eq!(bare.len(), 32);
    assert_eq!(private_key(pem!("mn.sec1.key"), &mn).unwrap(), bare);
    assert_eq!(private_key(pem!("ha.key"), &ha).unwrap(), private_key(pem!("ha.pkcs1.key"), &ha).unwrap());
    assert_eq!(private_key(pem!("mn384.key"), &one(pem!("mn384.pem"))).unwrap().len(), 48);
}

#[test]
fn private_keys_that_do_not_fit_are_refused() {
    let (mn, ha) = (one(pem!("mn.pem")), one(pem!("ha.pem")));
    let another = |certificate: &Certificate| PrivateKeyError::OfAnother(certificate.to_string());
    assert_eq!(private_key(pem!("ha.key"), &mn), Err(another(&mn)));
    assert_eq!(private_key(pem!("mn.key"), &ha), Err(another(&ha)));
    // The right kind, another key.
    assert_eq!(private_key(pem!("mn.key"), &one(pem!("bare.pem"))), Err(another(&mn)));
    assert_eq!(private_key(pem!("ha.key"), &one(pem!("hapss.pem"))), Err(another(&ha)));
    assert_eq!(private_key(pem!("mn.encrypted.key"), &mn), Err(PrivateKeyError::Encrypted));
    assert_eq!(private_key(pem!("mn.pem"), &mn), Err(PrivateKeyError::None));
    assert_eq!(private_key(b"\x30\x00", &mn), Err(another(&mn)));
    assert_eq!(private_key(b"", &ha), Err(PrivateKeyError::None));
    let short = one(pem!("short.pem"));
    assert_eq!(private_key(pem!("ha.key"), &short), Err(PrivateKeyError::Kind(KeyKind::Rsa(1024))));
}

#[test]
fn a_file_may_hold_a_chain_and_other_text() {
    let chain = [pem!("mn384.pem"), b"\nsubject: whatever\n", pem!("mn384.key"), pem!("middle.pem")].concat();
    let read = certificates(&chain).unwrap();
    assert_eq!(read.iter().map(ToString::to_string).collect::<Vec<_>>(), ["CN=mn,O=Watari tests", "CN=Middle,O=Watari tests"]);
    assert_eq!(certificates(read[0].der()).unwrap(), read[..1]);
    for empty in [&b""[..], b"no certificate", pem!("mn.key"), b"-----BEGIN CERTIFICATE-----", b"\xff\xfe"] {
        assert_eq!(certificates(empty), Err(CertificateError::None));
    }
    assert!(matches!(certificates(b"-----BEGIN CERTIFICATE-----\n%%\n-----END CERTIFICATE-----\n"), Err(CertificateError::Unreadable(_))));
}

#[test]
fn what_is_cut_or_altered_never_panics_and_is_never_the_same() {
    let mn = one(pem!("mn.pem"));
    for length in 0..mn.der().len() {
        assert!(Certificate::from_der(&mn.der()[..length]).is_err());
    }
    assert!(Certificate::from_der(&[mn.der(), &[0]].concat()).is_err());
    for at in 0..mn.der().len() {
        for bit in [1, 0x80] {
            let mut octets = mn.der().to_vec();
            octets[at] ^= bit;
            if let Ok(read) = Certificate::from_der(&octets) {
                assert_ne!(read, mn);
                assert!(read.names_text().is_ascii() && read.to_string().is_ascii());
            }
        }
    }
    assert_eq!(Certificate::from_der(&[0; 20_000]), Err(CertificateError::TooLarge(20_000)));
}
