//! What must not be accepted, each with the place and the reason that are reported.

use super::vectors::{self, octets};
use crate::error::{Malformed, Why};
use crate::ikev2::*;

/// The message with other octets at `at`.
fn patched(hex: &str, at: usize, with: &[u8]) -> Vec<u8> {
    let mut bytes = octets(hex);
    bytes[at..at + with.len()].copy_from_slice(with);
    bytes
}

fn refusal(bytes: &[u8]) -> Malformed {
    Message::decode(bytes).unwrap_err()
}

/// The refusal of one payload inside SK.
fn inner(payload_type: PayloadType, body: &[u8]) -> Malformed {
    let length = u16::try_from(body.len() + 4).unwrap().to_be_bytes();
    let bytes = [&[0, 0], length.as_slice(), body].concat();
    decode_chain(payload_type, &bytes, 100).unwrap_err()
}

#[test]
fn a_critical_payload_of_unknown_type_names_itself() {
    let error = refusal(&octets(vectors::CRITICAL));
    assert_eq!(error.unsupported_critical(), Some(PayloadType(200)));
    assert_eq!(error.to_string(), "malformed unknown payload at offset 40: critical payload of unknown(200) type");
    let harmless = patched(vectors::CRITICAL, 37, &[0]);
    let payloads = Message::decode(&harmless).unwrap().payloads;
    assert_eq!(payloads[1], Payload::Unknown { payload_type: PayloadType(200), critical: false, body: b"what".to_vec() });
}

#[test]
fn headers() {
    assert_eq!(refusal(&octets(vectors::LIVENESS)[..27]).why, Why::Truncated { needed: 4, left: 3 });
    assert_eq!(refusal(&[]), Malformed { offset: 0, payload: "header", why: Why::Truncated { needed: 8, left: 0 } });
    let longer = [octets(vectors::LIVENESS), vec![0]].concat();
    assert_eq!(refusal(&longer).why, Why::DatagramLength { said: 28, datagram: 29 });
    assert_eq!(refusal(&patched(vectors::LIVENESS, 27, &[27])).offset, 24);
    assert_eq!(refusal(&patched(vectors::LIVENESS, 17, &[0x30])).major_version(), Some(3));
    assert_eq!(refusal(&patched(vectors::LIVENESS, 17, &[0x10])).major_version(), Some(1));
    assert_eq!(refusal(&patched(vectors::LIVENESS, 0, &[0; 8])).why, Why::Value { field: "initiator SPI", got: 0 });
    let mut huge = octets(vectors::LIVENESS);
    huge.resize(65_536, 0);
    huge[24..28].copy_from_slice(&65_536_u32.to_be_bytes());
    assert_eq!(refusal(&huge).why, Why::TooMany { what: "octets", limit: 65_535 });
}

#[test]
fn chains() {
    let error = refusal(&patched(vectors::SA_INIT_REQUEST, 30, &[0, 3]));
    assert_eq!(error, Malformed { offset: 30, payload: "SA", why: Why::TooShort { said: 3, least: 4 } });
    let beyond = refusal(&patched(vectors::COOKIE, 30, &[0, 33]));
    assert_eq!(beyond, Malformed { offset: 32, payload: "N", why: Why::Truncated { needed: 29, left: 28 } });
    assert_eq!(refusal(&patched(vectors::COOKIE, 16, &[0])).why, Why::Trailing(32));
    assert_eq!(refusal(&patched(vectors::COOKIE, 28, &[41])).why, Why::Truncated { needed: 4, left: 0 });

    let chain = [41, 0, 0, 8, 0, 0, 0x40, 0].repeat(129);
    let error = decode_chain(PayloadType::NOTIFY, &chain, 0).unwrap_err();
    assert_eq!(error.why, Why::TooMany { what: "payloads", limit: 128 });
    let mut chain = chain[..128 * 8].to_vec();
    chain[127 * 8] = 0;
    assert_eq!(decode_chain(PayloadType::NOTIFY, &chain, 0).unwrap().len(), 128);
}

#[test]
fn encrypted_payloads_out_of_place() {
    assert_eq!(inner(PayloadType::SK, &[0; 40]).why, Why::Misplaced(PayloadType::SK));
    assert_eq!(inner(PayloadType::SKF, &[0, 1, 0, 1]).why, Why::Misplaced(PayloadType::SKF));
    // A payload behind SK, inside the length of the message.
    let mut bytes = octets(vectors::ENCRYPTED);
    bytes[30..32].copy_from_slice(&[0, 52]);
    assert_eq!(refusal(&bytes).why, Why::Trailing(8));
    assert_eq!(refusal(&patched(vectors::FRAGMENT, 32, &[0, 0])).why, Why::Value { field: "fragment number", got: 0 });
    assert_eq!(refusal(&patched(vectors::FRAGMENT, 32, &[0, 4])).why, Why::Value { field: "fragment number", got: 4 });
}

#[test]
fn sizes_that_the_rfc_sets() {
    let size = |what, got, least, most| Why::Size { what, got, least, most };
    assert_eq!(inner(PayloadType::NONCE, &[0; 15]).why, size("nonce", 15, 16, 256));
    assert_eq!(inner(PayloadType::NONCE, &[0; 257]).why, size("nonce", 257, 16, 256));
    let cookie = |octets: usize| [vec![0, 0, 0x40, 0x06], vec![1; octets]].concat();
    assert_eq!(inner(PayloadType::NOTIFY, &cookie(0)).why, size("cookie", 0, 1, 64));
    assert_eq!(inner(PayloadType::NOTIFY, &cookie(65)).why, size("cookie", 65, 1, 64));
    assert_eq!(inner(PayloadType::IDI, &[1, 0, 0, 0, 192, 0, 2]).why, size("address", 3, 4, 4));
    assert_eq!(inner(PayloadType::IDR, &[5, 0, 0, 0, 192, 0, 2, 1]).why, size("address", 4, 16, 16));
    assert_eq!(inner(PayloadType::EAP, &[1, 7, 0, 4]).why, size("EAP message", 4, 5, 65_535));
    assert_eq!(inner(PayloadType::EAP, &[3, 7, 0, 5, 0]).why, size("EAP message", 5, 4, 4));
    assert_eq!(inner(PayloadType::EAP, &[1, 7, 0, 9, 1]).why, Why::Disagree { field: "EAP length", said: 9, found: 5 });
}

#[test]
fn counts_that_lie() {
    let spis = Why::Disagree { field: "number of SPIs", said: 65_535, found: 0 };
    assert_eq!(inner(PayloadType::DELETE, &[1, 0, 0xff, 0xff]), Malformed { offset: 106, payload: "D", why: spis });
    assert_eq!(inner(PayloadType::DELETE, &[3, 4, 0, 2, 1, 2, 3, 4]).why, Why::Truncated { needed: 8, left: 4 });
    assert_eq!(inner(PayloadType::DELETE, &[3, 4, 0, 1, 1, 2, 3, 4, 5]).why, Why::Trailing(1));

    let (_, bytes) = encode_chain(&[Payload::Delete(Delete::children(ProtocolId::ESP, &[7; 4097]))]);
    assert_eq!(inner(PayloadType::DELETE, &bytes[4..]).why, Why::TooMany { what: "SPIs", limit: 4096 });

    let none = Why::Disagree { field: "number of selectors", said: 0, found: 0 };
    assert_eq!(inner(PayloadType::TSI, &[0, 0, 0, 0]).why, none);
    let selector = [7, 0, 0, 16, 0, 0, 0xff, 0xff, 192, 0, 2, 0, 192, 0, 2, 1];
    let with = |count: u8, length: u8| {
        let mut bytes = [[count, 0, 0, 0].as_slice(), &selector].concat();
        bytes[7] = length;
        bytes
    };
    assert_eq!(inner(PayloadType::TSR, &with(2, 16)).why, Why::Disagree { field: "number of selectors", said: 2, found: 1 });
    assert_eq!(inner(PayloadType::TSR, &with(1, 3)).why, Why::TooShort { said: 3, least: 4 });
    assert_eq!(inner(PayloadType::TSR, &with(1, 15)).why, Why::Truncated { needed: 4, left: 3 });
    assert_eq!(inner(PayloadType::TSR, &with(1, 17)).why, Why::Truncated { needed: 13, left: 12 });
    let error = inner(PayloadType::TSR, &[with(1, 16), vec![0]].concat());
    assert_eq!(error, Malformed { offset: 124, payload: "TSr", why: Why::Trailing(1) });
}

#[test]
fn proposals() {
    assert_eq!(inner(PayloadType::SA, &[]).payload, "SA");
    // The number of transforms of the first proposal, one too many and one too few.
    for count in [5, 7] {
        let error = refusal(&patched(vectors::SA_INIT_REQUEST, 39, &[count]));
        let why = Why::Disagree { field: "number of transforms", said: count.into(), found: 6 };
        assert_eq!(error, Malformed { offset: 39, payload: "proposal", why });
    }
    let mark = |at, got| {
        let error = refusal(&patched(vectors::SA_INIT_REQUEST, at, &[got]));
        assert_eq!((error.offset, error.why), (at, Why::Value { field: "last-substructure mark", got: u64::from(got) }));
    };
    mark(32, 0); // first proposal, called the last
    mark(40, 0); // first transform, called the last
    mark(40, 2);
    mark(96, 2); // last proposal, said to be followed by another
    let short = refusal(&patched(vectors::SA_INIT_REQUEST, 42, &[0, 7]));
    assert_eq!(short, Malformed { offset: 42, payload: "transform", why: Why::TooShort { said: 7, least: 8 } });

    let proposal = |number| Proposal { number, protocol: ProtocolId::IKE, spi: vec![], transforms: vec![] };
    let (first, bytes) = encode_chain(&[Payload::SecurityAssociation((0..129).map(proposal).collect())]);
    let error = decode_chain(first, &bytes, 0).unwrap_err();
    assert_eq!(error.why, Why::TooMany { what: "proposals", limit: 128 });
    let attribute = Attribute { attribute_type: AttributeType(1), value: AttributeValue::Short(0) };
    let transform = Transform { transform_type: TransformType(1), id: 1, attributes: vec![attribute; 17] };
    let proposal = Proposal { transforms: vec![transform], ..proposal(1) };
    let (first, bytes) = encode_chain(&[Payload::SecurityAssociation(vec![proposal])]);
    let error = decode_chain(first, &bytes, 0).unwrap_err();
    assert_eq!(error.why, Why::TooMany { what: "attributes", limit: 16 });
}

#[test]
fn lengths_that_fit_no_field_are_refused_by_the_receiver() {
    let header = Header::new(1, 2, ExchangeType::INFORMATIONAL, Flags::default(), 0);
    let message = Message { header, payloads: vec![Payload::VendorId(vec![0; 65_600])] };
    assert!(Message::decode(&message.encode()).is_err());
    let (first, bytes) = encode_chain(&[Payload::VendorId(vec![0; 65_600]), Payload::VendorId(vec![])]);
    assert!(decode_chain(first, &bytes, 0).is_err());
}
