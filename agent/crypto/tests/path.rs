//! Path validation with certificates that OpenSSL made: what leads to a trusted CA, and every reason why something does not.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::slice;
use std::time::Duration;

use watari_crypto::path::{PathError, validate};
use watari_crypto::{RustCryptoProvider, SignatureError};
use watari_policies::Identity;
use watari_policies::certificate::{Certificate, Trust, certificates};

macro_rules! pem {
    ($name:literal) => {
        read(include_bytes!(concat!("../../../policies/tests/certificates/", $name, ".pem")))
    };
}

/// In the middle of the certificates' lives: 2026.
const NOW: Duration = Duration::from_secs(1_780_000_000);

fn read(file: &[u8]) -> Certificate {
    certificates(file).unwrap().remove(0)
}

fn trust(authorities: &[Certificate]) -> Trust {
    Trust { authorities: authorities.to_vec(), ..Trust::default() }
}

fn check_at(trust: &Trust, sent: &[Certificate], identity: &str, now: Duration) -> Result<(), PathError> {
    let sent: Vec<Vec<u8>> = sent.iter().map(|certificate| certificate.der().to_vec()).collect();
    let identity: Identity = identity.parse().unwrap();
    validate(&RustCryptoProvider, trust, &sent, &identity, now).map(|_| ())
}

fn check(authorities: &[Certificate], sent: &[Certificate]) -> Result<(), PathError> {
    check_at(&trust(authorities), sent, "mn.example", NOW)
}

#[test]
fn direct_and_by_way_of_another_ca() {
    let root = pem!("root");
    assert_eq!(check(slice::from_ref(&root), &[pem!("mn")]), Ok(()));
    assert_eq!(check(slice::from_ref(&root), &[pem!("mn384"), pem!("middle")]), Ok(()), "ECDSA with SHA-384 by a P-256 key");
    // The root may come along, and so may what has nothing to do with it.
    assert_eq!(check(slice::from_ref(&root), &[pem!("mn384"), pem!("rsaroot"), root.clone(), pem!("middle")]), Ok(()));
    assert_eq!(check(&[pem!("middle")], &[pem!("mn384")]), Ok(()), "a CA need not be a root to be trusted");
    assert_eq!(check(&[root], &[pem!("bare")]), Ok(()), "without keyUsage and extKeyUsage");
    for signed in [pem!("ha"), pem!("hapss")] {
        assert_eq!(check_at(&trust(&[pem!("rsaroot")]), &[signed], "ha.example", NOW), Ok(()), "RSA, both paddings");
    }
}

#[test]
fn a_ca_of_the_same_name_is_another_one() {
    let Err(PathError::Signature { subject, issuer, why }) = check(&[pem!("double")], &[pem!("mn")]) else { panic!() };
    assert_eq!((subject.as_str(), issuer.as_str(), why), ("CN=mn,O=Watari tests", "CN=Root,O=Watari tests", SignatureError::Wrong));
    // Beside the right one it does no harm.
    assert_eq!(check(&[pem!("double"), pem!("root")], &[pem!("mn")]), Ok(()));
}

#[test]
fn a_stranger_is_not_trusted() {
    let refused = check(&[pem!("stranger")], &[pem!("mn")]).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the certificate of CN=mn,O=Watari tests was issued by CN=Root,O=Watari tests, which is no trusted CA; trusted: CN=Root,O=Somebody else"
    );
    // A root that the peer brings along proves nothing.
    let refused = check(&[pem!("stranger")], &[pem!("mn"), pem!("root")]).unwrap_err();
    assert!(matches!(refused, PathError::Untrusted { .. }), "{refused}");
    // Neither does the absence of the CA in between.
    assert!(matches!(check(&[pem!("root")], &[pem!("mn384")]), Err(PathError::Untrusted { .. })));
    assert_eq!(check(&[pem!("root")], &[]), Err(PathError::None));
}

#[test]
fn time_is_looked_at_in_every_certificate() {
    let at = |seconds| check_at(&trust(&[pem!("root")]), &[pem!("mn384"), pem!("middle")], "mn.example", Duration::from_secs(seconds));
    assert_eq!((at(1_577_836_800), at(4_733_510_400)), (Ok(()), Ok(())), "the first and the last second count");
    let early = at(1_577_836_799).unwrap_err().to_string();
    assert_eq!(
        early,
        "the certificate of CN=mn,O=Watari tests is not valid before 2020-01-01T00:00:00Z, and it is 2019-12-31T23:59:59Z here"
    );
    let late = at(4_733_510_401).unwrap_err().to_string();
    assert_eq!(late, "the certificate of CN=mn,O=Watari tests expired at 2120-01-01T00:00:00Z, and it is 2120-01-01T00:00:01Z here");
}

#[test]
fn only_a_ca_issues_certificates() {
    let subject = "CN=mn,O=Watari tests".to_owned();
    assert_eq!(check(&[pem!("root")], &[pem!("below"), pem!("mn")]), Err(PathError::NoAuthority(subject.clone())));
    assert_eq!(check(&[pem!("mn")], &[pem!("below")]), Err(PathError::NoAuthority(subject)), "not even if it is configured");
    let refused = check(&[pem!("root")], &[pem!("undernosign"), pem!("nosign")]);
    assert_eq!(refused, Err(PathError::CannotSign("CN=No signer,O=Watari tests".to_owned())));
}

#[test]
fn the_length_of_a_path_is_what_its_cas_allow() {
    let refused = check(&[pem!("root")], &[pem!("deep"), pem!("lower"), pem!("middle")]);
    assert_eq!(refused, Err(PathError::PathLength { subject: "CN=Middle,O=Watari tests".to_owned(), allowed: 0, below: 1 }));
    assert_eq!(check(&[pem!("lower")], &[pem!("deep")]), Ok(()), "from the CA below it is a path");
}

#[test]
fn usage_and_purpose_must_fit_ike() {
    let subject = "CN=mn,O=Watari tests".to_owned();
    assert_eq!(check(&[pem!("root")], &[pem!("cipher")]), Err(PathError::KeyUsage(subject.clone())));
    assert_eq!(check(&[pem!("root")], &[pem!("web")]), Err(PathError::Purpose(subject, "1.3.6.1.5.5.7.3.1".to_owned())));
}

#[test]
fn what_is_critical_and_not_understood_is_refused() {
    let strange = PathError::NotUnderstood("CN=mn,O=Watari tests".to_owned(), "1.2.3.4".to_owned());
    assert_eq!(check(&[pem!("root")], &[pem!("strange")]), Err(strange));
    let narrow = PathError::NotUnderstood("CN=Narrow,O=Watari tests".to_owned(), "name constraints (2.5.29.30)".to_owned());
    assert_eq!(check(&[pem!("root")], &[pem!("undernarrow"), pem!("narrow")]), Err(narrow.clone()));
    assert_eq!(check(&[pem!("narrow")], &[pem!("undernarrow")]), Err(narrow));
}

#[test]
fn weak_signatures_and_keys_are_refused() {
    let refused = check(&[pem!("rsaroot")], &[pem!("sha1")]).unwrap_err();
    assert!(refused.to_string().ends_with("a signature by SHA-1 is not accepted"), "{refused}");
    // A short key in the peer's own certificate is refused where the signature of AUTH is verified; here it issues nothing.
    assert_eq!(check(&[pem!("root")], &[pem!("short")]), Ok(()));
}

#[test]
fn an_identity_that_is_not_in_the_certificate_is_refused_with_what_is() {
    let refused = check_at(&trust(&[pem!("root")]), &[pem!("mn")], "2001:db8:1::bad", NOW).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the certificate of CN=mn,O=Watari tests does not prove the identity 2001:db8:1::bad: \
         its SubjectAltName holds DNS:mn.example, IP:2001:db8:1::abcd, email:mn@home.example"
    );
    assert_eq!(check_at(&trust(&[pem!("root")]), &[pem!("mn")], "2001:db8:1::abcd", NOW), Ok(()));
    // The common name does not count (RFC 4945 3.1.2).
    assert!(matches!(check(&[pem!("root")], &[pem!("nameless")]), Err(PathError::Identity { .. })));
}

#[test]
fn every_altered_bit_is_noticed() {
    let (root, mn) = (pem!("root"), pem!("mn"));
    let identity: Identity = "mn.example".parse().unwrap();
    for at in 0..mn.der().len() {
        let mut octets = mn.der().to_vec();
        octets[at] ^= 1;
        assert!(validate(&RustCryptoProvider, &trust(slice::from_ref(&root)), &[octets], &identity, NOW).is_err(), "octet {at}");
    }
    // Of a CA in between as well.
    let middle = pem!("middle");
    for at in (0..middle.der().len()).step_by(7) {
        let mut octets = middle.der().to_vec();
        octets[at] ^= 1;
        let sent = [pem!("mn384").der().to_vec(), octets];
        assert!(validate(&RustCryptoProvider, &trust(slice::from_ref(&root)), &sent, &identity, NOW).is_err(), "octet {at}");
    }
}

#[test]
fn a_pinned_certificate_is_the_only_one() {
    let pinned = |authorities: &[Certificate]| Trust { pinned: Some(pem!("mn")), ..trust(authorities) };
    let at = |trust: &Trust, sent: &[Certificate]| check_at(trust, sent, "mn.example", NOW);
    assert_eq!(at(&pinned(&[]), &[pem!("mn")]), Ok(()), "it needs no CA");
    assert_eq!(at(&pinned(&[]), &[]), Ok(()), "it need not be sent");
    assert_eq!(at(&pinned(&[pem!("root")]), &[pem!("mn")]), Ok(()));
    assert!(matches!(at(&pinned(&[pem!("root")]), &[pem!("bare")]), Err(PathError::NotPinned { .. })));
    assert!(matches!(at(&pinned(&[pem!("stranger")]), &[pem!("mn")]), Err(PathError::Untrusted { .. })), "both count if both are there");
    let late = check_at(&pinned(&[]), &[pem!("mn")], "mn.example", Duration::from_secs(4_733_510_401));
    assert!(matches!(late, Err(PathError::Expired { .. })));
}

#[test]
fn the_work_for_a_chain_is_bounded() {
    assert_eq!(check(&[pem!("root")], &vec![pem!("mn"); 9]), Err(PathError::TooMany(9)));
    // Two CAs that issue each other would be walked for ever.
    let refused = check(&[pem!("stranger")], &[pem!("crossed"), pem!("west"), pem!("east")]);
    assert!(matches!(refused, Err(PathError::TooLong(_))), "{refused:?}");
    // Of many CAs with one name sixteen are asked, not a seventeenth.
    let crowd = |others: usize| [vec![pem!("double"); others], vec![pem!("root")]].concat();
    assert_eq!(check(&crowd(15), &[pem!("mn")]), Ok(()));
    assert!(matches!(check(&crowd(16), &[pem!("mn")]), Err(PathError::Signature { .. })));
}
