//! Decoded values are compared field by field with what scapy was told to encode; then encoded again, bit by bit.

use super::vectors::{self, octets};
use crate::ikev2::*;
use std::net::{IpAddr, Ipv6Addr};

const INITIATOR: u64 = 0xa1b2_c3d4_e5f6_0718;
const RESPONDER: u64 = 0x1122_3344_5566_7788;

/// The counting bytes of the vectors.
fn counting(count: usize, start: u8) -> Vec<u8> {
    (0..count).map(|i| start.wrapping_add((i as u8).wrapping_mul(7))).collect()
}

fn aes_cbc(bits: u16) -> Transform {
    Transform::with_key_length(TransformType::ENCR, EncryptionId::AES_CBC.0, bits)
}

fn v6(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn every_known_message_encodes_to_the_same_bytes() {
    for hex in vectors::MESSAGES {
        let bytes = octets(hex);
        assert_eq!(Message::decode(&bytes).unwrap().encode(), bytes, "{hex}");
    }
    for (first, hex) in [(PayloadType::IDI, vectors::AUTH_INNER), (PayloadType::DELETE, vectors::INFORMATIONAL_INNER)] {
        let bytes = octets(hex);
        assert_eq!(encode_chain(&decode_chain(first, &bytes, 32).unwrap()), (first, bytes), "{hex}");
    }
}

#[test]
fn sa_init_request() {
    let message = Message::decode(&octets(vectors::SA_INIT_REQUEST)).unwrap();
    let header = &message.header;
    assert_eq!((header.initiator_spi, header.responder_spi), (INITIATOR, 0));
    assert_eq!((header.exchange, header.next_payload), (ExchangeType::IKE_SA_INIT, PayloadType::SA));
    assert_eq!((header.major(), header.minor(), header.message_id, header.length), (2, 0, 0, 306));
    assert!(header.flags.initiator() && !header.flags.response() && !header.flags.version());

    let first = Proposal {
        number: 1,
        protocol: ProtocolId::IKE,
        spi: vec![],
        transforms: vec![
            aes_cbc(256),
            aes_cbc(128),
            Transform::new(TransformType::INTEG, IntegrityId::HMAC_SHA2_256_128.0),
            Transform::new(TransformType::PRF, PrfId::HMAC_SHA2_256.0),
            Transform::new(TransformType::KE, KeyExchangeId::CURVE25519.0),
            Transform::new(TransformType::KE, KeyExchangeId::MODP2048.0),
        ],
    };
    let second = Proposal {
        number: 2,
        protocol: ProtocolId::IKE,
        spi: vec![],
        transforms: vec![
            Transform::with_key_length(TransformType::ENCR, EncryptionId::AES_GCM_16.0, 256),
            Transform::new(TransformType::ENCR, EncryptionId::CHACHA20_POLY1305.0),
            Transform::new(TransformType::PRF, PrfId::HMAC_SHA2_512.0),
            Transform::new(TransformType::KE, KeyExchangeId::ECP256.0),
        ],
    };
    let notify = |notify_type, data| Payload::Notify(Notify::new(notify_type, data));
    let expected = vec![
        Payload::SecurityAssociation(vec![first, second]),
        Payload::KeyExchange { group: 31, data: counting(32, 3) },
        Payload::Nonce(counting(32, 9)),
        notify(NotifyType::NAT_DETECTION_SOURCE_IP, counting(20, 1)),
        notify(NotifyType::NAT_DETECTION_DESTINATION_IP, counting(20, 2)),
        notify(NotifyType::FRAGMENTATION_SUPPORTED, vec![]),
        notify(NotifyType::SIGNATURE_HASH_ALGORITHMS, vec![0, 2, 0, 3, 0, 4, 0, 5]),
        Payload::VendorId(b"watari".to_vec()),
    ];
    assert_eq!(message.payloads, expected);
    assert_eq!(aes_cbc(256).key_length(), Some(256));
    assert_eq!(Transform::new(TransformType::PRF, 5).key_length(), None);
}

#[test]
fn sa_init_answers() {
    let response = Message::decode(&octets(vectors::SA_INIT_RESPONSE)).unwrap();
    assert!(response.header.flags.response() && !response.header.flags.initiator());
    assert_eq!(response.header.responder_spi, RESPONDER);
    assert_eq!(response.payloads[1], Payload::KeyExchange { group: 19, data: counting(64, 3) });
    let request = Payload::CertificateRequest { encoding: CertEncoding::X509_SIGNATURE, authorities: counting(40, 4) };
    assert_eq!(response.payloads[3], request);

    let cookie = Message::decode(&octets(vectors::COOKIE)).unwrap();
    assert_eq!(cookie.payloads, [Payload::Notify(Notify::new(NotifyType::COOKIE, counting(24, 5)))]);

    let invalid_ke = Message::decode(&octets(vectors::INVALID_KE)).unwrap();
    let [Payload::Notify(notify)] = invalid_ke.payloads.as_slice() else { panic!("{invalid_ke:?}") };
    assert_eq!(notify.wanted_group(), Some(19));
    assert!(notify.notify_type.is_error());
}

#[test]
fn what_is_inside_ike_auth() {
    let payloads = decode_chain(PayloadType::IDI, &octets(vectors::AUTH_INNER), 32).unwrap();
    let [id_i, cert, notify, id_r, auth, cp, transport, sa, tsi, tsr] = payloads.as_slice() else { panic!("{payloads:?}") };
    assert_eq!(*id_i, Payload::IdInitiator(Identification::from_address(v6("2001:db8:1::2"))));
    let Payload::IdInitiator(identity) = id_i else { panic!() };
    assert_eq!(identity.address(), Some(v6("2001:db8:1::2")));
    assert_eq!(identity.body(), octets("0500000020010db8000100000000000000000002"));

    let url = [counting(20, 7), b"http://example.org/mn.der".to_vec()].concat();
    assert_eq!(*cert, Payload::Certificate { encoding: CertEncoding::HASH_AND_URL_X509, data: url });
    assert_eq!(*notify, Payload::Notify(Notify::new(NotifyType::INITIAL_CONTACT, vec![])));
    assert_eq!(*id_r, Payload::IdResponder(Identification::new(IdType::FQDN, b"ha.example.org".to_vec())));
    assert_eq!(*auth, Payload::Authentication { method: AuthMethod::SHARED_KEY, data: counting(32, 6) });
    assert_eq!(*transport, Payload::Notify(Notify::new(NotifyType::USE_TRANSPORT_MODE, vec![])));

    let dns: Ipv6Addr = "2001:db8::53".parse().unwrap();
    let attributes = vec![
        CfgAttribute::empty(CfgAttributeType::INTERNAL_IP6_ADDRESS),
        CfgAttribute::empty(CfgAttributeType::MIP6_HOME_PREFIX),
        CfgAttribute { attribute_type: CfgAttributeType::INTERNAL_IP6_DNS, value: dns.octets().to_vec() },
    ];
    assert_eq!(attributes[2].address(), Some(dns.into()));
    assert_eq!(*cp, Payload::Configuration(Configuration { cfg_type: CfgType::REQUEST, attributes }));

    let esp = Proposal {
        number: 1,
        protocol: ProtocolId::ESP,
        spi: vec![0xc0, 0xde, 0, 1],
        transforms: vec![
            aes_cbc(256),
            Transform::new(TransformType::INTEG, 12),
            Transform::new(TransformType::ESN, SequenceNumbersId::SHORT.0),
            Transform::new(TransformType::ESN, SequenceNumbersId::EXTENDED.0),
        ],
    };
    let ah = Proposal {
        number: 2,
        protocol: ProtocolId::AH,
        spi: vec![0xc0, 0xde, 0, 2],
        transforms: vec![Transform::new(TransformType::INTEG, 14), Transform::new(TransformType::ESN, 0)],
    };
    assert_eq!(*sa, Payload::SecurityAssociation(vec![esp, ah]));
    check_selectors(tsi, tsr);
}

fn check_selectors(tsi: &Payload, tsr: &Payload) {
    let (home, prefix) = (v6("2001:db8:1::2"), v6("2001:db8:1::"));
    let everything = v6("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    let binding_update = AddressSelector::new(0, home, home).with_mobility_types(5, 5);
    let echo_request = AddressSelector::new(0, prefix, v6("2001:db8:1::ffff")).with_icmp_types((128, 0), (128, 255));
    let opaque = AddressSelector::new(17, v6("::"), everything).with_opaque_ports();
    assert_eq!(*tsi, Payload::TrafficInitiator(vec![binding_update.into(), echo_request.into(), opaque.into()]));
    assert_eq!((binding_update.protocol, binding_update.start_port, binding_update.end_port), (135, 0x0500, 0x0500));
    assert_eq!(binding_update.mobility_types(), Some(5..=5));
    assert_eq!((echo_request.start_port, echo_request.end_port), (0x8000, 0x80ff));
    assert_eq!(echo_request.icmp_types(), Some(((128, 0), (128, 255))));
    assert_eq!((opaque.start_port, opaque.end_port, opaque.opaque()), (65535, 0, true));
    assert_eq!(opaque.with_mobility_types(0, 255).with_opaque_ports().mobility_types(), None);

    let (first, last) = (v6("192.0.2.0"), v6("192.0.2.255"));
    let tcp = AddressSelector { protocol: 6, start_port: 22, end_port: 80, start: first, end: last };
    let label = TrafficSelector::Unknown { ts_type: TsType::SECLABEL, protocol: 0, body: b"label_u:label_r".to_vec() };
    assert_eq!(*tsr, Payload::TrafficResponder(vec![tcp.into(), label]));
    let ping = AddressSelector::new(0, first, last).with_icmp_types((8, 0), (8, 0));
    assert_eq!((ping.protocol, ping.start_port, ping.ts_type()), (1, 0x0800, TsType::IPV4_ADDR_RANGE));
}

#[test]
fn selector_bytes_of_a_strongswan_acquire() {
    // The head of the first selector that charon 5.9.8 sends for a trapped MH packet: its port is the unshifted type.
    let head = octets("0887002800050005");
    let home = octets("20010db8000000000000000000000001");
    let chain = [octets("0000003001000000"), head, home.clone(), home].concat();
    let payloads = decode_chain(PayloadType::TSI, &chain, 0).unwrap();
    let [Payload::TrafficInitiator(selectors)] = payloads.as_slice() else { panic!() };
    let selector = selectors[0].address().unwrap();
    assert_eq!((selector.protocol, selector.start_port, selector.end_port), (135, 5, 5));
    assert_eq!(selector.mobility_types(), Some(0..=0), "in RFC 7296 form that is type 0");
    assert_eq!(selectors[0].to_string(), "2001:db8::1 MH port 5");
    assert_eq!(encode_chain(&payloads).1, chain);
}

#[test]
fn what_is_inside_informational() {
    let payloads = decode_chain(PayloadType::DELETE, &octets(vectors::INFORMATIONAL_INNER), 32).unwrap();
    let address = [octets("20010db8000100000000000000000002"), vec![64]].concat();
    let attributes = vec![
        CfgAttribute { attribute_type: CfgAttributeType::INTERNAL_IP4_ADDRESS, value: vec![198, 51, 100, 7] },
        CfgAttribute { attribute_type: CfgAttributeType::INTERNAL_IP6_ADDRESS, value: address },
    ];
    assert_eq!(attributes[0].address(), Some(v6("198.51.100.7")));
    assert_eq!((attributes[1].address(), attributes[1].prefix_length()), (Some(v6("2001:db8:1::2")), Some(64)));
    let request = EapMessage { code: EapCode::REQUEST, identifier: 7, data: b"\x1ahello".to_vec() };
    assert_eq!(request.eap_type(), Some(26));
    let success = EapMessage { code: EapCode::SUCCESS, identifier: 8, data: vec![] };
    assert_eq!(success.eap_type(), None);
    let rekey = Notify::about_child(NotifyType::REKEY_SA, ProtocolId::ESP, 0xc0de_0004);
    assert_eq!(rekey.child_spi(), Some(0xc0de_0004));
    let children = Delete::children(ProtocolId::ESP, &[0xc0de_0001, 0xc0de_0003]);
    assert_eq!(children.child_spis().collect::<Vec<_>>(), [0xc0de_0001, 0xc0de_0003]);
    let expected = [
        Payload::Delete(children),
        Payload::Delete(Delete::ike_sa()),
        Payload::Notify(rekey),
        Payload::Configuration(Configuration { cfg_type: CfgType::REPLY, attributes }),
        Payload::Eap(request),
        Payload::Eap(success),
        Payload::Unknown { payload_type: PayloadType::PS, critical: false, body: counting(9, 1) },
    ];
    assert_eq!(payloads, expected);
}

#[test]
fn encrypted_payloads_and_their_associated_data() {
    let bytes = octets(vectors::ENCRYPTED);
    let message = Message::decode(&bytes).unwrap();
    let sk = EncryptedPayload { first_inner: PayloadType::IDI, body: counting(56, 8), offset: 32 };
    assert_eq!(message.payloads, [Payload::Encrypted(sk.clone())]);
    assert_eq!(bytes[sk.offset..], sk.body);
    let header = Header::new(INITIATOR, RESPONDER, ExchangeType::IKE_AUTH, Flags::INITIATOR, 1);
    assert_eq!(encrypted_prefix(&header, &[], PayloadType::IDI, 56), bytes[..32]);

    let bytes = octets(vectors::FRAGMENT);
    let message = Message::decode(&bytes).unwrap();
    let [Payload::EncryptedFragment(fragment)] = message.payloads.as_slice() else { panic!() };
    assert_eq!((fragment.number, fragment.total, fragment.offset, fragment.first_inner), (1, 3, 36, PayloadType::IDI));
    assert_eq!(fragment_prefix(&header, &[], PayloadType::IDI, (1, 3), 40), bytes[..36]);
    let second = fragment_prefix(&header, &[], PayloadType::IDI, (2, 3), 40);
    assert_eq!((second[28], &second[32..36]), (0, [0, 2, 0, 3].as_slice()));
}

#[test]
fn prefix_with_cleartext_payloads_is_the_head_of_the_whole_message() {
    let header = Header::new(INITIATOR, RESPONDER, ExchangeType::INFORMATIONAL, Flags::new(false, true), 7);
    let cleartext = [Payload::VendorId(b"x".to_vec()), Payload::Notify(Notify::new(NotifyType::COOKIE2, vec![1; 8]))];
    let body = vec![0x5a; 33];
    let prefix = encrypted_prefix(&header, &cleartext, PayloadType::NONE, body.len());
    let decoded = Message::decode(&[prefix.clone(), body].concat()).unwrap();
    assert_eq!(decoded.payloads[..2], cleartext);
    let Payload::Encrypted(sk) = &decoded.payloads[2] else { panic!() };
    assert_eq!((sk.offset, sk.first_inner), (prefix.len(), PayloadType::NONE));
    assert_eq!(decoded.encode()[..prefix.len()], prefix);
}

#[test]
fn reserved_fields_and_the_critical_bit_of_known_payloads_are_ignored() {
    let canonical = octets(vectors::SA_INIT_REQUEST);
    let mut bytes = canonical.clone();
    bytes[19] |= 0xc7; // reserved flags
    bytes[29] = 0xff; // critical bit and reserved bits of the SA payload
    bytes[33] = 0xff; // reserved octet of the proposal
    bytes[41] = 0xff; // reserved octet of the transform
    bytes[45] = 0xff; // second reserved octet of the transform
    assert_eq!(Message::decode(&bytes).unwrap().encode(), canonical);

    let mut bytes = canonical.clone();
    bytes[17] = 0x2f; // a minor version to come
    assert_eq!(Message::decode(&bytes).unwrap().payloads, Message::decode(&canonical).unwrap().payloads);
}

#[test]
fn reserved_octets_of_an_identity_stay_because_auth_covers_them() {
    let body = octets("02abcdef6d6e");
    let chain = [octets("0000000a"), body.clone()].concat();
    let payloads = decode_chain(PayloadType::IDI, &chain, 0).unwrap();
    let [Payload::IdInitiator(identity)] = payloads.as_slice() else { panic!() };
    assert_eq!(identity.body(), body);
    assert_eq!(encode_chain(&payloads).1, chain);
}

#[test]
fn long_attributes_survive() {
    let mut transform = Transform::new(TransformType(240), 0xffff);
    assert!(!transform.has_unknown_attribute());
    let value = AttributeValue::Long(vec![1, 2, 3]);
    transform.attributes.push(Attribute { attribute_type: AttributeType(15), value });
    assert!(transform.has_unknown_attribute());
    let proposal = Proposal { number: 1, protocol: ProtocolId(9), spi: vec![7; 8], transforms: vec![transform] };
    let payloads = [Payload::SecurityAssociation(vec![proposal])];
    let (first, bytes) = encode_chain(&payloads);
    // By hand from RFC 7296 figures 7, 8 and 9.
    let expected = "00000023 0000001f 01090801 0707070707070707 0000000f f000ffff 000f0003 010203";
    assert_eq!(bytes, octets(&expected.replace(' ', "")));
    assert_eq!(decode_chain(first, &bytes, 0).unwrap(), payloads);
}

#[test]
fn descriptions_nest_and_keep_secrets() {
    let text = describe(&Message::decode(&octets(vectors::SA_INIT_REQUEST)).unwrap());
    let expected = "\
IKE_SA_INIT request 0 from initiator, SPIs a1b2c3d4e5f60718 0000000000000000, IKE 2.0, 306 octets
  SA
    proposal 1 IKE: ENCR AES_CBC-256, ENCR AES_CBC-128, INTEG HMAC_SHA2_256_128, PRF HMAC_SHA2_256, KE CURVE25519, KE MODP2048
    proposal 2 IKE: ENCR AES_GCM_16-256, ENCR CHACHA20_POLY1305, PRF HMAC_SHA2_512, KE ECP256
  KE CURVE25519 32 octets
  Nonce 32 octets
  N NAT_DETECTION_SOURCE_IP 20 octets
  N NAT_DETECTION_DESTINATION_IP 20 octets
  N IKEV2_FRAGMENTATION_SUPPORTED
  N SIGNATURE_HASH_ALGORITHMS 8 octets
  V \"watari\"";
    assert_eq!(text, expected);

    let inner = decode_chain(PayloadType::IDI, &octets(vectors::AUTH_INNER), 32).unwrap();
    let expected = "    IDi ID_IPV6_ADDR 2001:db8:1::2
    CERT HASH_AND_URL_X509 45 octets
    N INITIAL_CONTACT
    IDr ID_FQDN \"ha.example.org\"
    AUTH SHARED_KEY 32 octets
    CP CFG_REQUEST
      INTERNAL_IP6_ADDRESS
      MIP6_HOME_PREFIX
      INTERNAL_IP6_DNS 2001:db8::53
    N USE_TRANSPORT_MODE
    SA
      proposal 1 ESP SPI c0de0001: ENCR AES_CBC-256, INTEG HMAC_SHA2_256_128, ESN 32_BIT, ESN ESN
      proposal 2 AH SPI c0de0002: INTEG HMAC_SHA2_512_256, ESN 32_BIT
    TSi
      2001:db8:1::2 MH type 5
      2001:db8:1::-2001:db8:1::ffff ICMPv6 type 128
      ::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff UDP OPAQUE
    TSr
      192.0.2.0-192.0.2.255 TCP port 22-80
      TS_SECLABEL 15 octets";
    assert_eq!(describe_payloads(&inner, 2), expected);

    let inner = decode_chain(PayloadType::DELETE, &octets(vectors::INFORMATIONAL_INNER), 32).unwrap();
    let expected = "\
D ESP c0de0001 c0de0003
D IKE
N REKEY_SA ESP SPI c0de0004
CP CFG_REPLY
  INTERNAL_IP4_ADDRESS 198.51.100.7
  INTERNAL_IP6_ADDRESS 2001:db8:1::2/64
EAP Request 7 type 26
EAP Success 8
PS 9 octets";
    assert_eq!(describe_payloads(&inner, 0), expected);
}

#[test]
fn a_peer_cannot_write_control_characters_into_a_log() {
    let identity = Identification::new(IdType::FQDN, b"a\nroot logged in".to_vec());
    assert!(!identity.to_string().contains('\n'));
    assert_eq!(Payload::VendorId(b"\x1b[2J".to_vec()).to_string(), "V 1b5b324a");
}
