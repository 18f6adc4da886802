//! What a peer that proved who it is, but means harm, can ask for: its messages are made by hand under the keys of the IKE SA.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod pair;

use std::net::Ipv6Addr;

use pair::*;
use watari_crypto::{Protection, RustCryptoProvider, Secret};
use watari_kernel::{SaId, Spi};
use watari_policies::Protocol;
use watari_policies::algorithm::{Cipher, Group, IkeSuite, Prf};
use watari_sa::{Cause, ChildState, Datagram, Keying, KeyingEvent, KeyingInput, Path, Target};
use watari_wire::ikev2::{
    AddressSelector, Delete, ExchangeType, Flags, Header, Message, Notify, NotifyType, Payload, Proposal, ProtocolId, TrafficSelector,
    Transform, TransformType, decode_chain, encode_chain, encrypted_prefix,
};

const SUITE: IkeSuite = IkeSuite { cipher: Cipher::AES128GCM16, integrity: None, prf: Prf::HmacSha256, group: Group::Curve25519 };

/// A in the hands of an attacker: SPIs, keys and message ids of its IKE SA.
struct Forger {
    spis: (u64, u64),
    keys: Vec<Secret>,
    next: u32,
}

impl Forger {
    /// Takes the first IKE SA of A over, which has sent IKE_SA_INIT and IKE_AUTH.
    fn of(pair: &Pair) -> Self {
        Self::of_newest(&pair.a)
    }

    /// Takes the newest IKE SA of a host over. The first key is for what its initiator sends, the second for the responder.
    fn of_newest(host: &Host) -> Self {
        let mut lines =
            host.events.iter().filter_map(|event| if let KeyingEvent::Keys { line } = event { Some(line.clone()) } else { None });
        let line = lines.next_back().unwrap();
        let mut fields = line.split(',');
        let mut spi = || u64::from_str_radix(fields.next().unwrap(), 16).unwrap();
        let spis = (spi(), spi());
        let octets = |hex: &str| (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).unwrap()).collect::<Vec<_>>();
        let keys = fields.take(2).map(|hex| Secret::new(octets(hex))).collect();
        Self { spis, keys, next: 2 }
    }

    fn seal(&self, exchange: ExchangeType, flags: Flags, id: u32, payloads: &[Payload]) -> Vec<u8> {
        let (first, text) = encode_chain(payloads);
        let none = Secret::default();
        let key = &self.keys[usize::from(!flags.initiator())];
        let protection = Protection::new(&RustCryptoProvider, &SUITE, key, &none).unwrap();
        let header = Header::new(self.spis.0, self.spis.1, exchange, flags, id);
        let prefix = encrypted_prefix(&header, &[], first, protection.body_len(text.len()));
        let body = protection.protect(&prefix, &(u64::from(id) + 0x1000).to_be_bytes(), &text).unwrap();
        [prefix, body].concat()
    }

    fn open(&self, octets: &[u8]) -> Vec<Payload> {
        let message = Message::decode(octets).unwrap();
        let Some(Payload::Encrypted(sk)) = message.payloads.last() else { panic!("in clear") };
        let none = Secret::default();
        let protection = Protection::new(&RustCryptoProvider, &SUITE, &self.keys[1], &none).unwrap();
        let text = protection.unprotect(&octets[..sk.offset], &sk.body).unwrap();
        decode_chain(sk.first_inner, &text, sk.offset).unwrap()
    }

    /// Sends a request to B; the payloads of B's answer. Whatever else was under way is lost.
    fn ask(&mut self, pair: &mut Pair, exchange: ExchangeType, payloads: &[Payload]) -> Vec<Payload> {
        let octets = self.seal(exchange, Flags::new(true, false), self.next, payloads);
        self.next += 1;
        let (now, before) = (pair.now, pair.b.sent.len());
        let path = Path::between(ip(B), ip(A), 500);
        pair.b.handle(now, KeyingInput::Datagram(Datagram { path, octets }));
        pair.settle();
        pair.wire.clear();
        let id = self.next - 1;
        let answer = pair.b.sent[before..].iter().find(|sent| kind(&sent.octets) == (exchange.0, id, true));
        self.open(&answer.expect("an answer").octets)
    }
}

fn says(payloads: &[Payload], kind: NotifyType) -> bool {
    payloads.iter().any(|payload| matches!(payload, Payload::Notify(notify) if notify.notify_type == kind))
}

fn offer(spi: u32) -> Payload {
    let transforms = vec![Transform::with_key_length(TransformType::ENCR, 20, 128), Transform::new(TransformType::ESN, 0)];
    Payload::SecurityAssociation(vec![Proposal { number: 1, protocol: ProtocolId::ESP, spi: spi.to_be_bytes().to_vec(), transforms }])
}

fn selector(protocol: u8, start: &str, end: Ipv6Addr, ports: (u16, u16)) -> Vec<TrafficSelector> {
    vec![AddressSelector::new(protocol, ip(start), end.into()).with_ports(ports.0, ports.1).into()]
}

fn host_of(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// The binding updates' child SA (policy 0) once more, as a rekey of the one under `old` or beside it.
fn binding_updates(spi: u32, old: Option<u32>) -> Vec<Payload> {
    let mut payloads: Vec<Payload> =
        old.map(|old| Payload::Notify(Notify::about_child(NotifyType::REKEY_SA, ProtocolId::ESP, old))).into_iter().collect();
    payloads.push(Payload::Notify(Notify::new(NotifyType::USE_TRANSPORT_MODE, Vec::new())));
    payloads.push(offer(spi));
    payloads.push(Payload::Nonce(spi.to_be_bytes().repeat(8)));
    payloads.push(Payload::TrafficInitiator(selector(135, HOA, host_of(HOA), (0x0500, 0x0500))));
    payloads.push(Payload::TrafficResponder(selector(135, HA, host_of(HA), (0x0600, 0x0600))));
    payloads
}

/// A tunnel for everything (policy 2).
fn tunnel(spi: u32) -> Vec<Payload> {
    vec![
        offer(spi),
        Payload::Nonce(spi.to_be_bytes().repeat(8)),
        Payload::TrafficInitiator(selector(0, HOA, host_of(HOA), (0, 65535))),
        Payload::TrafficResponder(selector(0, "::", Ipv6Addr::from_bits(u128::MAX), (0, 65535))),
    ]
}

#[test]
fn a_second_rekey_of_one_child_is_put_off() {
    let mut pair = Pair::up();
    let mut forger = Forger::of(&pair);
    let old = pair.a.installed()[0].inbound.spi.0;
    let first = forger.ask(&mut pair, ExchangeType::CREATE_CHILD_SA, &binding_updates(0x1001, Some(old)));
    assert!(first.iter().any(|payload| matches!(payload, Payload::SecurityAssociation(_))), "{first:?}");
    // The first successor waits for its outbound half; later it has it, and the old one is still not deleted.
    for wait in [0, 10] {
        pair.pass_secs(wait);
        let second = forger.ask(&mut pair, ExchangeType::CREATE_CHILD_SA, &binding_updates(0x1002, Some(old)));
        assert!(says(&second, NotifyType::TEMPORARY_FAILURE), "{second:?}");
        assert_eq!(pair.b.children.len(), 2);
    }
    assert_eq!(pair.b.installed().len(), 1);
    assert!(pair.b.kernel.larval.is_empty());
    // The successor itself may be rekeyed, and what nobody knows is named.
    let third = forger.ask(&mut pair, ExchangeType::CREATE_CHILD_SA, &binding_updates(0x1003, Some(0x1001)));
    assert!(third.iter().any(|payload| matches!(payload, Payload::SecurityAssociation(_))), "{third:?}");
    let fourth = forger.ask(&mut pair, ExchangeType::CREATE_CHILD_SA, &binding_updates(0x1004, Some(0x7777)));
    assert!(says(&fourth, NotifyType::CHILD_SA_NOT_FOUND), "{fourth:?}");
}

#[test]
fn an_spi_that_another_peer_uses_costs_that_peer_nothing() {
    for known in [false, true] {
        let mut pair = Pair::up();
        let mut forger = Forger::of(&pair);
        // An SA to the same address that A's peer-to-be-harmed has: alone in the kernel, or known to the table too.
        let victim = SaId { dst: ip(A), protocol: Protocol::Esp, spi: Spi(0x0bad_cafe) };
        let mut parameters = pair.b.kernel.sas.values().next().unwrap().clone();
        parameters.id = victim;
        pair.b.kernel.sas.insert(victim, parameters);
        if known {
            let mut child = pair.b.installed()[0].clone();
            child.id = pair.b.ids.child();
            child.owner = watari_sa::Owner::None;
            child.inbound.spi = Spi(0x0bad_f00d);
            child.inbound.installed = false;
            (child.outbound.spi, child.outbound.endpoints.dst) = (victim.spi, victim.dst);
            pair.b.children.insert(child);
        }
        let (sas, children) = (pair.b.kernel.sas.len(), pair.b.children.len());
        let answer = forger.ask(&mut pair, ExchangeType::CREATE_CHILD_SA, &tunnel(victim.spi.0));
        assert!(says(&answer, NotifyType::NO_PROPOSAL_CHOSEN), "{answer:?}");
        assert!(pair.b.kernel.sas.contains_key(&victim), "the other peer's SA stands");
        assert_eq!((pair.b.kernel.sas.len(), pair.b.children.len()), (sas, children));
        assert!(pair.b.kernel.larval.is_empty());
    }
}

#[test]
fn a_freed_spi_may_serve_again_at_once() {
    let mut pair = Pair::up();
    let mut forger = Forger::of(&pair);
    let old = pair.a.installed()[0].inbound.spi.0;
    forger.ask(&mut pair, ExchangeType::CREATE_CHILD_SA, &binding_updates(0x1001, Some(old)));
    let delete = [Payload::Delete(Delete::children(ProtocolId::ESP, &[old]))];
    forger.ask(&mut pair, ExchangeType::INFORMATIONAL, &delete);
    // While the old one still receives what is under way, its number is taken for another child SA to the same address.
    forger.ask(&mut pair, ExchangeType::CREATE_CHILD_SA, &binding_updates(old, None));
    pair.pass_secs(10);
    assert_eq!(pair.b.installed().len(), 2);
    pair.b.assert_kernel_matches();
}

#[test]
fn child_sas_are_not_endless() {
    let mut pair = Pair::up();
    let mut forger = Forger::of(&pair);
    let mut refused = false;
    for spi in 0x2000..0x2400 {
        let answer = forger.ask(&mut pair, ExchangeType::CREATE_CHILD_SA, &tunnel(spi));
        refused = says(&answer, NotifyType::NO_ADDITIONAL_SAS);
        if refused {
            break;
        }
    }
    assert!(refused, "{} child SAs", pair.b.children.len());
    assert!(pair.b.children.len() >= 256, "{} are enough for nobody", pair.b.children.len());
    // One that goes makes room.
    let delete = [Payload::Delete(Delete::children(ProtocolId::ESP, &[0x2000, 0x2001]))];
    forger.ask(&mut pair, ExchangeType::INFORMATIONAL, &delete);
    pair.pass_secs(5);
    let answer = forger.ask(&mut pair, ExchangeType::CREATE_CHILD_SA, &tunnel(0x3000));
    assert!(answer.iter().any(|payload| matches!(payload, Payload::SecurityAssociation(_))), "{answer:?}");
}

#[test]
fn ike_sas_of_one_peer_are_not_endless() {
    let mut pair = Pair::up();
    for _ in 0..40 {
        restart(&mut pair, Side::A, true);
        pair.want(Side::A, 0);
        pair.run();
    }
    assert_eq!(pair.b.established().len(), 16);
    assert_eq!(pair.b.children.len(), 16, "each with its child SA");
    pair.b.assert_kernel_matches();
    let newest = pair.a.ike.statuses()[0].initiator_spi;
    assert!(pair.b.ike.statuses().iter().any(|status| status.initiator_spi == newest), "the newest stands");
}

#[test]
fn one_neighbourhood_cannot_take_every_half_open_place() {
    let mut pair = Pair::new();
    pair.b.config.settings.half_open_limit = 64;
    pair.b.config.settings.cookie_threshold = 64;
    let call = |pair: &mut Pair, seed: u8, from: String| {
        let mut one = Pair::seeded(seed);
        one.want(Side::A, 0);
        one.settle();
        let mut flying = one.wire.pop_front().unwrap();
        flying.datagram.path.remote.set_ip(ip(&from));
        pair.deliver(flying);
        pair.wire.clear();
    };
    for seed in 0..20u8 {
        call(&mut pair, seed, format!("2001:db8:bad::{seed:x}"));
    }
    assert_eq!(pair.b.ike.statuses().len(), 16);
    assert_eq!(pair.b.count(|event| matches!(event, KeyingEvent::Dropped { cause, .. } if *cause == Cause::HALF_OPEN_LIMIT)), 4);
    call(&mut pair, 30, A.to_owned());
    assert_eq!(pair.b.ike.statuses().len(), 17, "others are served");
}

#[test]
fn one_initiator_spi_is_no_way_around_the_share_of_a_neighbourhood() {
    let mut pair = Pair::new();
    pair.b.config.settings.half_open_limit = 64;
    pair.b.config.settings.cookie_threshold = 64;
    for seed in 0..20u8 {
        let mut one = Pair::seeded(seed);
        one.want(Side::A, 0);
        one.settle();
        let mut flying = one.wire.pop_front().unwrap();
        flying.datagram.path.remote.set_ip(ip("2001:db8:bad::1"));
        // Another request, with another nonce, under the very same SPI.
        flying.datagram.octets[..8].copy_from_slice(&[7; 8]);
        pair.deliver(flying);
        pair.wire.clear();
    }
    assert_eq!(pair.b.ike.statuses().len(), 16, "no more than its share");
}

#[test]
fn an_answer_without_a_nonce_makes_no_child_sa() {
    let mut pair = Pair::up();
    let child = pair.first_child(Side::B);
    // B asks; A's answer is made by hand.
    pair.rekey(Side::B, Target::Child(child));
    pair.settle();
    pair.wire.clear();
    let forger = Forger::of(&pair);
    let payloads: Vec<Payload> =
        binding_updates(0x4001, None).into_iter().filter(|payload| !matches!(payload, Payload::Nonce(_))).collect();
    // TSi is the side of whoever asked, B.
    let swapped = |payload| match payload {
        Payload::TrafficInitiator(list) => Payload::TrafficResponder(list),
        Payload::TrafficResponder(list) => Payload::TrafficInitiator(list),
        other => other,
    };
    let payloads: Vec<Payload> = payloads.into_iter().map(swapped).collect();
    let octets = forger.seal(ExchangeType::CREATE_CHILD_SA, Flags::new(true, true), 0, &payloads);
    let now = pair.now;
    pair.b.handle(now, KeyingInput::Datagram(Datagram { path: Path::between(ip(B), ip(A), 500), octets }));
    pair.settle();
    assert_eq!(pair.b.count(|event| matches!(event, KeyingEvent::WantFailed { .. })), 1, "{}", pair.story());
    assert_eq!(pair.b.installed().len(), 1);
    assert!(pair.b.children.iter().all(|sa| sa.state != ChildState::Installing));
}

#[test]
fn a_peer_that_failed_to_prove_who_it_is_deletes_nothing() {
    let mut pair = Pair::up();
    let spi = pair.a.installed()[0].outbound.spi.0;
    // A believes that it must call B afresh; somebody who does not know the secret answers in B's place.
    restart(&mut pair, Side::B, true);
    let before = pair.a.ike.statuses()[0].clone();
    pair.filter = Some(Box::new(|_, datagram| kind(&datagram.octets).0 != 35));
    pair.probe(Side::A);
    pair.pass_secs(4);
    let now = pair.now;
    let impostor = Forger::of_newest(&pair.a);
    assert_ne!(impostor.spis.0, before.initiator_spi, "a second handshake has keys");
    // Its IKE_AUTH response has a proof that is wrong.
    let proof = [
        Payload::IdResponder(watari_wire::ikev2::Identification::new(watari_wire::ikev2::IdType::FQDN, b"b.example".to_vec())),
        Payload::Authentication { method: watari_wire::ikev2::AuthMethod::SHARED_KEY, data: vec![7; 32] },
    ];
    let path = Path::between(ip(A), ip(B), 500);
    let delete = [Payload::Delete(Delete::children(ProtocolId::ESP, &[spi]))];
    let messages = [
        impostor.seal(ExchangeType::IKE_AUTH, Flags::new(false, true), 1, &proof),
        impostor.seal(ExchangeType::INFORMATIONAL, Flags::new(false, false), 0, &delete),
    ];
    for octets in messages {
        pair.a.handle(now, KeyingInput::Datagram(Datagram { path, octets }));
        pair.settle();
    }
    assert!(pair.a.count(|event| matches!(event, KeyingEvent::IkeDown { cause, .. } if *cause == Cause::AUTHENTICATION_FAILED)) >= 1);
    assert_eq!(pair.a.installed().len(), 1, "the child SA with the real peer stands{}", pair.story());
    assert_eq!(pair.a.established(), [before.id]);
}

#[test]
fn a_peer_that_wants_no_more_child_sas_is_not_called_again_and_again() {
    let mut pair = Pair::up();
    let refuse = |pair: &mut Pair, id: u32| {
        pair.want(Side::A, 2);
        pair.settle();
        assert_eq!(kind(&pair.wire.pop_front().unwrap().datagram.octets), (36, id, false));
        let refusal = [Payload::Notify(Notify::new(NotifyType::NO_ADDITIONAL_SAS, Vec::new()))];
        let octets = Forger::of(pair).seal(ExchangeType::CREATE_CHILD_SA, Flags::new(false, true), id, &refusal);
        let now = pair.now;
        pair.a.handle(now, KeyingInput::Datagram(Datagram { path: Path::between(ip(A), ip(B), 500), octets }));
        pair.run();
    };
    refuse(&mut pair, 2);
    assert_eq!(pair.a.inits(), 1, "an IKE SA that was just made is not made again");
    assert_eq!(pair.a.count(|event| matches!(event, KeyingEvent::WantFailed { .. })), 1);
    // Later another IKE SA takes its place, and the wish with it.
    pair.pass_secs(100);
    refuse(&mut pair, 3);
    assert_eq!(pair.a.inits(), 2);
    assert_eq!(pair.a.installed().iter().filter(|sa| sa.policy == watari_policies::PolicyId(2)).count(), 1, "{}", pair.story());
}

#[test]
fn a_renewal_that_fails_everywhere_leaves_the_address_of_what_stands_in_force() {
    let mut pair = Pair::up();
    // B is the second of two addresses, and the IKE SA stands there.
    pair.a.config.remotes[0].remote_address = Some(ip(B));
    pair.a.config.remotes[0].gateways.addresses = vec![ip(B2), ip(B)];
    pair.pass_secs(100);
    let before = pair.a.established();
    pair.want(Side::A, 2);
    pair.settle();
    pair.wire.clear();
    let refusal = [Payload::Notify(Notify::new(NotifyType::NO_ADDITIONAL_SAS, Vec::new()))];
    let octets = Forger::of(&pair).seal(ExchangeType::CREATE_CHILD_SA, Flags::new(false, true), 2, &refusal);
    pair.filter = Some(Box::new(|_, _| false));
    let now = pair.now;
    pair.a.handle(now, KeyingInput::Datagram(Datagram { path: Path::between(ip(A), ip(B), 500), octets }));
    pair.pass_secs(400);
    assert_eq!((pair.a.inits(), pair.a.established()), (3, before), "both were tried{}", pair.story());
    assert_eq!(pair.a.config.remotes[0].remote_address, Some(ip(B)));
}
