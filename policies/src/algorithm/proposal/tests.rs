use super::super::*;

#[test]
fn names_read_back_as_what_they_name() {
    for cipher in Cipher::all() {
        assert_eq!(cipher.name().parse::<Cipher>(), Ok(cipher));
        assert_eq!(Cipher::from_transform(cipher.transform_id(), cipher.key_length_attribute()), Some(cipher));
    }
    assert_eq!(Cipher::all().count(), 14);
    for prf in Prf::ALL {
        assert_eq!(prf.name().parse::<Prf>(), Ok(*prf));
        assert_eq!(Prf::from_transform(prf.transform_id()), Some(*prf));
    }
    for integrity in Integrity::ALL {
        assert_eq!(integrity.name().parse::<Integrity>(), Ok(*integrity));
        assert_eq!(Integrity::from_transform(integrity.transform_id()), Some(*integrity));
    }
    for group in Group::ALL {
        assert_eq!(group.name().parse::<Group>(), Ok(*group));
        assert_eq!(Group::from_transform(group.transform_id()), Some(*group));
    }
}

#[test]
fn aliases_and_case_are_understood() {
    assert_eq!("AES256GCM128".parse(), Ok(Cipher::AES256GCM16));
    assert_eq!("aes".parse(), Ok(Cipher::AES128));
    assert_eq!("curve25519".parse(), Ok(Group::Curve25519));
}

#[test]
fn key_length_attribute_must_stand_only_where_it_belongs() {
    assert_eq!(Cipher::from_transform(12, None), None);
    assert_eq!(Cipher::from_transform(12, Some(100)), None);
    assert_eq!(Cipher::from_transform(28, Some(256)), None);
    assert_eq!(Cipher::from_transform(28, None), Some(Cipher::CHACHA20POLY1305));
    assert_eq!(Cipher::from_transform(3, None), None);
}

#[test]
fn an_unknown_name_comes_with_a_suggestion() {
    let error = "aes256gmc16".parse::<Cipher>().unwrap_err();
    assert_eq!(error.to_string(), "there is no cipher called \"aes256gmc16\"; did you mean \"aes256gcm16\"?");
    let error = IkeProposal::parse("aes128-sha265-x25519").unwrap_err();
    assert_eq!(error.to_string(), "there is no algorithm called \"sha265\"; did you mean \"sha256\"?");
    let error = "rot13".parse::<Cipher>().unwrap_err();
    assert_eq!(error.to_string(), "there is no cipher called \"rot13\"");
    let error = IkeProposal::parse("").unwrap_err();
    assert!(matches!(error, AlgorithmError::UnknownName { nearest: None, .. }), "{error}");
}

#[test]
fn missing_prf_comes_from_the_integrity_algorithm() {
    let proposal = IkeProposal::parse("aes128-sha256-sha1-x25519").unwrap();
    assert_eq!(proposal.prfs, [Prf::HmacSha256, Prf::HmacSha1]);
    assert_eq!(proposal.integrities, [Integrity::HmacSha256_128, Integrity::HmacSha1_96]);
    let proposal = IkeProposal::parse("aes128gcm16-sha384-x25519").unwrap();
    assert_eq!((proposal.prfs, proposal.integrities), (vec![Prf::HmacSha384], vec![]));
}

#[test]
fn what_cannot_be_one_proposal_is_refused_with_the_reason() {
    let said = |text: &str| IkeProposal::parse(text).unwrap_err().to_string();
    assert!(said("aes128gcm16-aes128-sha256-x25519").contains("write two proposals"));
    assert!(said("aes128gcm16-sha256-prfsha256-x25519").contains("leave out \"sha256\""));
    assert!(said("aes128gcm16-x25519").contains("names no PRF"));
    assert!(said("aes128gcm16-prfsha256").contains("names no key exchange group"));
    assert!(said("aes128-prfsha256-x25519").contains("names no integrity algorithm"));
    assert!(said("sha256-x25519").contains("names no cipher"));
    assert!(said("null-sha256-x25519").contains("always encrypted"));
    assert!(said("aes128-sha256-x25519-esn").contains("sequence numbers"));
    assert!(said("aes128-sha256-x25519-curve25519").contains("twice"));
    let said = |text: &str| ChildProposal::parse(text).unwrap_err().to_string();
    assert!(said("aes128gcm16-sha256").contains("leave out \"sha256\""));
    assert!(said("null").contains("names no integrity algorithm"));
    assert!(said("aes128-sha256-prfsha256").contains("the PRF of its IKE SA"));
}

#[test]
fn proposals_print_as_they_are_written() {
    for text in ["aes128-sha256-x25519", "aes256gcm16-prfsha384-ecp384", "aes256-aes128-sha512-prfsha256-modp2048"] {
        let proposal = IkeProposal::parse(text).unwrap();
        assert_eq!(proposal.to_string(), text);
    }
    for text in ["aes128gcm16", "aes256-sha256-ecp256", "null-sha1", "aes256gcm16-esn-noesn", "aes128gcm16-esn"] {
        assert_eq!(ChildProposal::parse(text).unwrap().to_string(), text);
    }
    for proposal in default_ike_proposals() {
        assert_eq!(IkeProposal::parse(&proposal.to_string()), Ok(proposal));
    }
    for proposal in default_child_proposals() {
        assert_eq!(ChildProposal::parse(&proposal.to_string()), Ok(proposal));
    }
}

#[test]
fn a_proposal_allows_what_it_lists() {
    let proposal = IkeProposal::parse("aes128-aes256-sha256-x25519").unwrap();
    let suite =
        IkeSuite { cipher: Cipher::AES256, integrity: Some(Integrity::HmacSha256_128), prf: Prf::HmacSha256, group: Group::Curve25519 };
    assert!(proposal.allows(&suite));
    assert_eq!(suite.to_string(), "aes256-sha256-prfsha256-x25519");
    assert!(!proposal.allows(&IkeSuite { integrity: None, ..suite }));
    assert!(!proposal.allows(&IkeSuite { group: Group::Ecp256, ..suite }));
    let proposal = ChildProposal::parse("aes128gcm16-esn").unwrap();
    let suite = ChildSuite { cipher: Cipher::AES128GCM16, integrity: None, esn: true };
    assert!(proposal.allows(&suite));
    assert!(!proposal.allows(&ChildSuite { esn: false, ..suite }));
    assert!(!proposal.allows(&ChildSuite { integrity: Some(Integrity::HmacSha1_96), ..suite }));
}

#[test]
fn serde_uses_the_text_form() {
    #[derive(serde::Deserialize)]
    struct Offer {
        ike: Vec<IkeProposal>,
    }
    let offer: Offer = toml::from_str("ike = [\"aes128gcm16-prfsha256-x25519\"]").unwrap();
    assert_eq!(offer.ike.len(), 1);
    let error = toml::from_str::<Offer>("ike = [\"aes129\"]").err().unwrap().to_string();
    assert!(error.contains("did you mean \"aes128\"?"), "{error}");
}
