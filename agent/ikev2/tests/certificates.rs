//! IKE_AUTH by certificate between two endpoints: each kind of key, each reason to refuse, seen by both sides. The certificates are OpenSSL's.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod pair;

use std::sync::Arc;
use std::time::Duration;

use pair::*;
use watari_policies::certificate::{Certificate, Credential, OwnProof, PeerProof, Proofs, Trust, certificates, private_key};
use watari_policies::model::Authentication;
use watari_policies::{Identity, SecretId};
use watari_sa::{Cause, Keying, KeyingEvent, KeyingInput, Work};
use watari_wire::ikev2::{Message, NotifyType, Payload};

macro_rules! file {
    ($name:literal) => {
        include_bytes!(concat!("../../../policies/tests/certificates/", $name)).as_slice()
    };
}

/// Number of every host's private key.
const KEY: SecretId = SecretId(9);
const PSK: SecretId = SecretId(1);

fn read(file: &[u8]) -> Certificate {
    certificates(file).unwrap().remove(0)
}

fn trust(authority: &[u8]) -> PeerProof {
    PeerProof::Certificate(Arc::new(Trust { authorities: vec![read(authority)], ..Trust::default() }))
}

/// Gives a host a chain of certificates with the key of the first, and says how the peer proves itself.
fn equip(host: &mut Host, name: &str, chain: &[&[u8]], key: &[u8], theirs: PeerProof) {
    let chain: Vec<Certificate> = chain.iter().map(|file| read(file)).collect();
    host.secrets.insert(KEY, private_key(key, &chain[0]).unwrap());
    let own = Credential { chain, key: KEY, path: String::new() };
    prove(host, OwnProof::Certificate(Arc::new(own)), theirs);
    host.config.remotes[0].local_identity = name.parse().unwrap();
}

fn prove(host: &mut Host, ours: OwnProof, theirs: PeerProof) {
    host.config.remotes[0].authentication = Authentication::Each(Arc::new(Proofs { ours, theirs }));
}

fn expect(host: &mut Host, name: &str) {
    let identity: Identity = name.parse().unwrap();
    host.config.pad.allow(Some(identity.clone()), ["::/0".parse().unwrap()]);
    host.config.remotes[0].remote_identity = identity;
}

/// A is `mn.example` with an ECDSA certificate, B `ha.example` with an RSA one; each trusts the other's root.
fn certified() -> Pair {
    let mut pair = Pair::new();
    equip(&mut pair.a, "mn.example", &[file!("mn.pem")], file!("mn.key"), trust(file!("rsaroot.pem")));
    equip(&mut pair.b, "ha.example", &[file!("ha.pem")], file!("ha.key"), trust(file!("root.pem")));
    expect(&mut pair.a, "ha.example");
    expect(&mut pair.b, "mn.example");
    pair
}

/// What a host said of the end of its IKE SA for this cause.
fn down(host: &Host, cause: Cause) -> String {
    let told = host.events.iter().filter_map(|event| match event {
        KeyingEvent::IkeDown { cause: why, detail, .. } if *why == cause => Some(detail.clone()),
        _ => None,
    });
    let told: Vec<String> = told.collect();
    assert_eq!(told.len(), 1, "{:#?}", host.events);
    told[0].clone()
}

/// A calls, nothing may come of it; what each side said.
fn refused(mut pair: Pair) -> (String, String) {
    pair.want(Side::A, 0);
    pair.run();
    pair.assert_healthy(0, 0);
    (down(&pair.a, Cause::AUTHENTICATION_FAILED), down(&pair.b, Cause::AUTHENTICATION_FAILED))
}

/// B refuses A: A learns no more than that, B says why.
fn refused_by_b(pair: Pair) -> String {
    let (a, b) = refused(pair);
    assert_eq!(a, "AUTHENTICATION_FAILED from ha.example to us, mn.example");
    b
}

/// A refuses B: B is told by AUTHENTICATION_FAILED.
fn refused_by_a(mut pair: Pair) -> String {
    pair.want(Side::A, 0);
    pair.run();
    pair.assert_healthy(0, 0);
    assert!(pair.b.events.iter().any(|event| matches!(event, KeyingEvent::IkeDown { .. })), "{:#?}", pair.b.events);
    down(&pair.a, Cause::AUTHENTICATION_FAILED)
}

fn up(pair: &mut Pair) {
    pair.want(Side::A, 0);
    pair.run();
    pair.assert_healthy(1, 1);
}

#[test]
fn rsa_and_ecdsa_certificates_prove_both_sides() {
    let mut pair = certified();
    up(&mut pair);
    let identity = |host: &Host| {
        host.events.iter().find_map(|event| match event {
            KeyingEvent::IkeUp { identity, .. } => Some(identity.to_string()),
            _ => None,
        })
    };
    assert_eq!((identity(&pair.a), identity(&pair.b)), (Some("ha.example".to_owned()), Some("mn.example".to_owned())));
    // And with the roles the other way round.
    let mut pair = certified();
    pair.want(Side::B, 0);
    pair.run();
    pair.assert_healthy(1, 1);
}

#[test]
fn a_chain_leads_from_p384_over_another_ca_to_the_root() {
    let mut pair = certified();
    let key = file!("mn384.key");
    equip(&mut pair.a, "mn.example", &[file!("mn384.pem"), file!("middle.pem")], key, trust(file!("rsaroot.pem")));
    up(&mut pair);
    let mut pair = certified();
    equip(&mut pair.a, "mn.example", &[file!("mn384.pem")], key, trust(file!("rsaroot.pem")));
    let why = refused_by_b(pair);
    assert!(why.contains("issued by CN=Middle,O=Watari tests, which is no trusted CA"), "{why}");
}

#[test]
fn one_side_by_certificate_the_other_by_a_shared_key() {
    let mut pair = certified();
    prove(&mut pair.a, OwnProof::Psk(PSK), trust(file!("rsaroot.pem")));
    let own = pair.b.config.remotes[0].authentication.ours().unwrap();
    prove(&mut pair.b, own, PeerProof::Psk(PSK));
    up(&mut pair);
    // Each insists on what it was told.
    let mut again = certified();
    prove(&mut again.a, OwnProof::Psk(PSK), trust(file!("rsaroot.pem")));
    assert_eq!(refused_by_b(again), "authentication method SHARED_KEY instead of a signature");
    let mut again = certified();
    again.b.config.remotes[0].authentication = Authentication::Psk(PSK);
    let why = refused_by_b(again);
    assert_eq!(
        why, "authentication method ECDSA_SHA256_P256 instead of a shared key",
        "B has no use for RFC 7427 and does not say that it has it"
    );
}

#[test]
fn the_wrong_ca_is_refused_by_either_side() {
    let mut pair = certified();
    prove_peer(&mut pair.b, trust(file!("stranger.pem")));
    let why = refused_by_b(pair);
    assert!(why.contains("issued by CN=Root,O=Watari tests, which is no trusted CA; trusted: CN=Root,O=Somebody else"), "{why}");
    let mut pair = certified();
    prove_peer(&mut pair.b, trust(file!("double.pem")));
    assert!(refused_by_b(pair).ends_with("cannot be traced to CN=Root,O=Watari tests: the signature is wrong"));
    let mut pair = certified();
    prove_peer(&mut pair.a, trust(file!("root.pem")));
    assert!(refused_by_a(pair).contains("issued by CN=RSA Root,O=Watari tests, which is no trusted CA"));
}

fn prove_peer(host: &mut Host, theirs: PeerProof) {
    let ours = host.config.remotes[0].authentication.ours().unwrap();
    prove(host, ours, theirs);
}

#[test]
fn a_clock_before_or_after_the_life_of_a_certificate_refuses_it() {
    let mut pair = certified();
    pair.b.born = Duration::from_secs(1_577_836_800 - 5000);
    assert!(refused_by_b(pair).contains("is not valid before 2020-01-01T00:00:00Z"));
    let mut pair = certified();
    pair.b.born = Duration::from_secs(4_733_510_400);
    assert!(refused_by_b(pair).contains("expired at 2120-01-01T00:00:00Z"));
    let mut pair = certified();
    pair.a.born = Duration::from_secs(4_733_510_400);
    assert!(refused_by_a(pair).contains("CN=ha,O=Watari tests expired at"));
}

#[test]
fn a_home_address_as_identity_must_be_in_the_subject_alt_name() {
    //= rfc4877#7.3
    //# with certificates a home address as IDi is in the SubjectAltName
    let mut pair = certified();
    pair.a.config.remotes[0].local_identity = HOA.parse().unwrap();
    expect(&mut pair.b, HOA);
    up(&mut pair);
    // The home address of somebody else is not in it, whoever signs.
    let mut pair = certified();
    pair.a.config.remotes[0].local_identity = "2001:db8:1::bad".parse().unwrap();
    expect(&mut pair.b, "2001:db8:1::bad");
    let (a, b) = refused(pair);
    assert_eq!(a, "AUTHENTICATION_FAILED from ha.example to us, 2001:db8:1::bad");
    assert_eq!(
        b,
        "the certificate of CN=mn,O=Watari tests does not prove the identity 2001:db8:1::bad: \
         its SubjectAltName holds DNS:mn.example, IP:2001:db8:1::abcd, email:mn@home.example"
    );
}

#[test]
fn a_certificate_of_somebody_who_is_no_ca_proves_nothing() {
    let mut pair = certified();
    // `below` was issued by `mn`, which is an ordinary certificate; its key is not at hand, so that only the path can be at fault.
    let own = Credential { chain: vec![read(file!("below.pem")), read(file!("mn.pem"))], key: KEY, path: String::new() };
    let theirs = pair.a.config.remotes[0].authentication.theirs().unwrap();
    prove(&mut pair.a, OwnProof::Certificate(Arc::new(own)), theirs);
    assert_eq!(refused_by_b(pair), "CN=mn,O=Watari tests issued a certificate but is no CA (basicConstraints)");
}

#[test]
fn a_certificate_without_its_private_key_proves_nothing() {
    // Whoever saw the certificate of the mobile node on the wire has it, but cannot sign with it.
    let mut pair = certified();
    let stolen = private_key(file!("mn.key"), &read(file!("mn.pem"))).unwrap();
    let mut octets = stolen.expose().to_vec();
    octets[31] ^= 1;
    pair.a.secrets.insert(KEY, octets.into());
    assert_eq!(refused_by_b(pair), "the proof of CN=mn,O=Watari tests is wrong: the signature is wrong");
}

/// A signature costs something: whoever has proved nothing does not get one made.
#[test]
fn a_responder_signs_for_a_proved_peer_only() {
    for honest in [true, false] {
        let mut pair = certified();
        if !honest {
            pair.a.secrets.insert(KEY, private_key(file!("other.lonely.key"), &read(file!("crossed.pem"))).unwrap());
        }
        pair.want(Side::A, 0);
        for _ in 0..2 {
            pair.settle();
            let flying = pair.wire.pop_front().unwrap();
            pair.deliver(flying);
        }
        pair.b.hold_work = true;
        let request = pair.wire.pop_front().unwrap();
        pair.deliver(request);
        let mut asked = Vec::new();
        while let Some((id, work)) = pair.b.works.pop_front() {
            asked.push(matches!(work, Work::Sign { .. }));
            let (done, now) = (watari_sa::work::perform(&*pair.b.provider, &pair.b.secrets, work), pair.now);
            pair.b.handle(now, KeyingInput::WorkDone(id, done));
            pair.settle();
        }
        assert_eq!(asked, if honest { vec![false, true] } else { vec![false] });
        pair.run();
        pair.assert_healthy(usize::from(honest), usize::from(honest));
    }
}

#[test]
fn a_tampered_chain_is_refused() {
    let mut pair = certified();
    let mut octets = read(file!("mn.pem")).der().to_vec();
    // One letter of the name in the SubjectAltName, so that everything still reads.
    let at = octets.windows(10).position(|window| window == b"mn.example").unwrap();
    octets[at] = b'x';
    let forged = Certificate::from_der(&octets).unwrap();
    assert!(forged.names_text().contains("xn.example"));
    let own = Credential { chain: vec![forged], key: KEY, path: String::new() };
    let theirs = pair.a.config.remotes[0].authentication.theirs().unwrap();
    prove(&mut pair.a, OwnProof::Certificate(Arc::new(own)), theirs);
    pair.a.config.remotes[0].local_identity = "xn.example".parse().unwrap();
    expect(&mut pair.b, "xn.example");
    let (_, b) = refused(pair);
    assert!(b.ends_with("cannot be traced to CN=Root,O=Watari tests: the signature is wrong"), "{b}");
}

#[test]
fn another_pinned_certificate_is_refused() {
    let pinned = |file: &[u8]| PeerProof::Certificate(Arc::new(Trust { pinned: Some(read(file)), ..Trust::default() }));
    let mut pair = certified();
    prove_peer(&mut pair.b, pinned(file!("mn.pem")));
    up(&mut pair);
    let mut pair = certified();
    prove_peer(&mut pair.b, pinned(file!("bare.pem")));
    assert!(refused_by_b(pair).contains("`peer_certificate` is another one"));
}

#[test]
fn a_subject_as_identity_is_taken_octet_for_octet() {
    let mut pair = certified();
    let subject = Identity::Other { id_type: Identity::DISTINGUISHED_NAME, data: read(file!("mn.pem")).content().subject.clone() };
    pair.a.config.remotes[0].local_identity = subject.clone();
    pair.b.config.pad.allow(Some(subject.clone()), ["::/0".parse().unwrap()]);
    pair.b.config.remotes[0].remote_identity = subject;
    up(&mut pair);
}

#[test]
fn what_stands_on_the_wire() {
    let mut pair = certified().readable();
    up(&mut pair);
    let init = |octets: &[u8]| Message::decode(octets).unwrap().payloads;
    let hashes = |payloads: &[Payload]| {
        payloads.iter().any(|payload| {
            matches!(payload, Payload::Notify(notify) if notify.notify_type == NotifyType::SIGNATURE_HASH_ALGORITHMS && notify.data == [0, 2, 0, 3, 0, 4])
        })
    };
    let (request, response) = (init(&pair.a.sent[0].octets), init(&pair.b.sent[0].octets));
    assert!(hashes(&request) && hashes(&response));
    // The responder does not know yet who calls, and asks for the CA of the only remote: `openssl x509 -pubkey | openssl pkey -pubin -outform DER | sha1sum`.
    let root = watari_crypto::digest::sha1(&[&read(file!("root.pem")).content().public_key_info]);
    let asked = response.iter().find_map(|payload| match payload {
        Payload::CertificateRequest { encoding, authorities } => Some((encoding.0, authorities.clone())),
        _ => None,
    });
    assert_eq!(asked, Some((4, root.to_vec())));
    let (mn, ha) = (read(file!("mn.pem")), read(file!("ha.pem")));
    assert!(holds(&pair.a.sent[1].octets, &[&[4][..], mn.der()].concat()), "CERT with encoding 4");
    assert!(holds(&pair.b.sent[1].octets, &[&[4][..], ha.der()].concat()));
    // AUTH method 14: ecdsa-with-SHA256 by A; RSASSA-PSS by B.
    assert!(holds(&pair.a.sent[1].octets, &[14, 0, 0, 0, 12, 0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]));
    assert!(holds(&pair.b.sent[1].octets, &[14, 0, 0, 0, 67, 0x30, 0x41, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 0x0a]));
    // A names the CA that it trusts in its own CERTREQ.
    let authority = watari_crypto::digest::sha1(&[&read(file!("rsaroot.pem")).content().public_key_info]);
    assert!(holds(&pair.a.sent[1].octets, &[&[4][..], &authority].concat()));
}

#[test]
fn between_shared_keys_nothing_of_it_is_said() {
    let mut pair = Pair::new();
    up(&mut pair);
    for octets in [&pair.a.sent[0].octets, &pair.b.sent[0].octets] {
        let message = Message::decode(octets).unwrap();
        let said = message.payloads.iter().any(|payload| match payload {
            Payload::CertificateRequest { .. } => true,
            Payload::Notify(notify) => notify.notify_type == NotifyType::SIGNATURE_HASH_ALGORITHMS,
            _ => false,
        });
        assert!(!said);
    }
}

/// A peer without RFC 7427: the notify never arrives, and neither does it at the other end, where it would be signed.
fn without_hash_algorithms(octets: &[u8]) -> Vec<u8> {
    let mut message = Message::decode(octets).unwrap();
    message
        .payloads
        .retain(|payload| !matches!(payload, Payload::Notify(notify) if notify.notify_type == NotifyType::SIGNATURE_HASH_ALGORITHMS));
    message.encode()
}

#[test]
fn an_attacker_who_takes_the_hashes_away_is_noticed() {
    // What the sender signs has the notify in it.
    let mut pair = certified();
    pair.want(Side::A, 0);
    pair.settle();
    let mut flying = pair.wire.pop_front().unwrap();
    flying.datagram.octets = without_hash_algorithms(&flying.datagram.octets);
    pair.deliver(flying);
    pair.run();
    pair.assert_healthy(0, 0);
    assert_eq!(down(&pair.b, Cause::AUTHENTICATION_FAILED), "the proof of CN=mn,O=Watari tests is wrong: the signature is wrong");
}

#[test]
fn reconfiguration_takes_new_authorities_into_the_request() {
    let mut pair = certified();
    up(&mut pair);
    let (now, before) = (pair.now, pair.b.sent.len());
    prove_peer(&mut pair.b, trust(file!("stranger.pem")));
    pair.b.ike.reconfigured();
    let ids = pair.a.established();
    pair.a.with(now, |ike, context| ike.close(context, watari_sa::Target::Ike(ids[0])));
    pair.run();
    pair.want(Side::A, 0);
    pair.run();
    let stranger = watari_crypto::digest::sha1(&[&read(file!("stranger.pem")).content().public_key_info]);
    assert!(pair.b.sent[before..].iter().any(|sent| holds(&sent.octets, &stranger)));
}
