//! What must not hurt: restarts of the peer, hints from strangers, repeats, garbage, malformed but authentic messages.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod pair;

use std::time::Duration;

use pair::*;
use watari_crypto::FakeProvider;
use watari_sa::{Cause, Datagram, Keying, KeyingEvent, KeyingInput, Owner, Path, Target};

fn dropped(cause: Cause) -> impl Fn(&KeyingEvent) -> bool {
    move |event| matches!(event, KeyingEvent::Dropped { cause: why, .. } if *why == cause)
}

#[test]
fn initial_contact_replaces_make_before_break() {
    for kernel_too in [false, true] {
        let mut pair = Pair::new();
        for host in [&mut pair.a, &mut pair.b] {
            host.config.remotes[0].initial_contact = true;
        }
        pair.want(Side::A, 0);
        pair.run();
        pair.want(Side::A, 2);
        pair.run();
        pair.assert_healthy(1, 2);
        restart(&mut pair, Side::A, kernel_too);
        pair.want(Side::A, 0);
        pair.run();
        assert_eq!(pair.b.count(|event| matches!(event, KeyingEvent::IkeDown { cause, .. } if *cause == Cause::PEER_RESTARTED)), 1);
        assert_eq!(pair.b.installed().len(), 2, "the other child serves until it is replaced");
        assert_eq!(pair.b.installed().iter().filter(|sa| sa.owner == Owner::None).count(), 1);
        pair.want(Side::A, 2);
        pair.run();
        pair.assert_healthy(1, 2);
    }
}

#[test]
fn children_of_a_restarted_peer_that_nobody_replaces_go_after_a_while() {
    let mut pair = Pair::new();
    pair.a.config.remotes[0].initial_contact = true;
    pair.want(Side::A, 0);
    pair.want(Side::A, 2);
    pair.run();
    restart(&mut pair, Side::A, true);
    pair.want(Side::A, 0);
    pair.run();
    pair.pass_secs(130);
    pair.assert_healthy(1, 1);
}

#[test]
fn a_peer_that_lost_everything_is_found_out_in_seconds() {
    let mut pair = Pair::new();
    for host in [&mut pair.a, &mut pair.b] {
        host.config.remotes[0].initial_contact = true;
    }
    pair.a.config.remotes[0].liveness = Some(Duration::from_secs(30));
    pair.want(Side::A, 0);
    pair.want(Side::A, 2);
    pair.run();
    pair.assert_healthy(1, 2);
    restart(&mut pair, Side::B, true);
    let old = pair.a.established()[0];
    pair.pass_secs(35);
    pair.assert_healthy(1, 2);
    assert_ne!(pair.a.established()[0], old);
    assert_eq!(pair.a.inits(), 2);
}

#[test]
fn an_ike_sa_that_the_peer_never_used_listens_to_hints_once_it_is_old() {
    for (age, believes) in [(1, false), (40, true)] {
        let mut pair = Pair::up();
        // A replaces the IKE SA and dies before it hears the answer: only B has the new one, and B cannot know.
        let ike = pair.a.established()[0];
        pair.rekey(Side::A, Target::Ike(ike));
        pair.settle();
        let request = pair.wire.pop_front().unwrap();
        pair.deliver(request);
        pair.wire.clear();
        restart(&mut pair, Side::A, true);
        pair.pass_secs(age);
        let new = *pair.b.established().last().unwrap();
        pair.probe(Side::B);
        pair.pass_secs(5);
        assert_eq!(pair.b.inits(), usize::from(believes), "A may yet hear of a young one: its answer may be late{}", pair.story());
        if believes {
            pair.assert_healthy(1, 1);
            assert_ne!(pair.b.established(), [new]);
        }
    }
}

#[test]
fn what_an_earlier_loss_left_without_owner_is_replaced_with_the_rest() {
    let mut pair = Pair::up();
    pair.want(Side::A, 2);
    pair.run();
    // A's daemon starts afresh and finds both child SAs in the kernel; a packet asks for the first policy only.
    restart(&mut pair, Side::A, false);
    pair.want(Side::A, 0);
    pair.run();
    let orphans = |pair: &Pair| pair.a.installed().iter().filter(|sa| sa.owner == Owner::None).count();
    assert_eq!((orphans(&pair), pair.a.installed().len()), (1, 2));
    // Now B loses everything, the orphan's other end too.
    restart(&mut pair, Side::B, true);
    pair.probe(Side::A);
    pair.pass_secs(10);
    assert_eq!(orphans(&pair), 0, "{}", pair.story());
    pair.assert_healthy(1, 2);
}

#[test]
fn a_hint_alone_changes_nothing() {
    let mut pair = Pair::up();
    let status = pair.a.ike.statuses()[0].clone();
    let now = pair.now;
    pair.probe(Side::A);
    pair.settle();
    // INVALID_IKE_SPI for the outstanding request, from somebody who saw it, three times before the real answer.
    let mut hint = status.initiator_spi.to_be_bytes().to_vec();
    hint.extend(status.responder_spi.to_be_bytes());
    hint.extend([41, 0x20, 37, 0x20, 0, 0, 0, 2, 0, 0, 0, 36, 0, 0, 0, 8, 0, 0, 0, 4]);
    let path = Path::between(ip(A), ip(B), 500);
    for _ in 0..3 {
        pair.a.handle(now, KeyingInput::Datagram(Datagram { path, octets: hint.clone() }));
    }
    pair.run();
    pair.pass_secs(10);
    assert_eq!((pair.a.inits(), pair.a.established().len()), (1, 1));
    // Even when the answers are lost for a while, the old IKE SA stays until another one is authenticated.
    pair.filter = Some(Box::new(|_, _| false));
    pair.probe(Side::A);
    pair.settle();
    hint[23] = 3;
    for second in 0..4 {
        let now = pair.now + Duration::from_secs(second);
        pair.a.handle(now, KeyingInput::Datagram(Datagram { path, octets: hint.clone() }));
        pair.pass_secs(1);
    }
    assert!(pair.a.inits() <= 2, "at most one more");
    assert_eq!(pair.a.installed().len(), 1);
    assert!(pair.a.established().contains(&status.id));
    pair.filter = None;
    pair.pass_secs(60);
    assert_eq!(pair.a.installed().len(), 1);
}

#[test]
fn answers_to_strangers_are_few() {
    let mut pair = Pair::new();
    let path = Path::between(ip(B), ip(A), 500);
    let now = pair.now;
    for number in 0..100u8 {
        let mut octets = vec![number.max(1); 16];
        octets.extend([46, 0x20, 37, 0x08, 0, 0, 0, 5, 0, 0, 0, 60, 0, 0, 0, 32]);
        octets.extend([9; 28]);
        pair.b.handle(now, KeyingInput::Datagram(Datagram { path, octets }));
    }
    pair.settle();
    assert_eq!(pair.b.sent.len(), 10);
    let answer = &pair.b.sent[0].octets;
    assert_eq!((answer[16], answer[18], answer[19] & 0x20), (41, 37, 0x20));
}

#[test]
fn higher_versions_are_told_ours_and_ikev1_is_not_answered() {
    let mut pair = Pair::new();
    let path = Path::between(ip(B), ip(A), 500);
    let now = pair.now;
    for (version, answers) in [(0x30, 1), (0x10, 1)] {
        let mut octets = vec![7; 8];
        octets.extend([0; 8]);
        octets.extend([33, version, 34, 0x08, 0, 0, 0, 0, 0, 0, 0, 28]);
        pair.b.handle(now, KeyingInput::Datagram(Datagram { path, octets }));
        pair.settle();
        assert_eq!(pair.b.sent.len(), answers);
    }
}

/// A small generator for the test itself.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

#[test]
fn damage_and_replay_of_everything_ever_sent_changes_nothing() {
    let mut pair = Pair::up();
    pair.want(Side::A, 2);
    pair.run();
    let child = pair.first_child(Side::A);
    pair.rekey(Side::A, Target::Child(child));
    pair.run();
    pair.pass_secs(10);
    let seen: Vec<_> = pair.a.sent.iter().chain(&pair.b.sent).cloned().collect();
    let mut dice = Dice(5);
    let before = (pair.a.children.len(), pair.b.children.len());
    for round in 0..4000 {
        let sent = &seen[dice.roll(seen.len())];
        let mut octets = sent.octets.clone();
        match round % 4 {
            0 => {}
            1 => octets.truncate(dice.roll(octets.len())),
            2 => {
                let at = dice.roll(octets.len());
                octets[at] ^= 1 << dice.roll(8);
            }
            _ => {
                for _ in 0..4 {
                    let at = dice.roll(octets.len());
                    octets[at] = dice.roll(256) as u8;
                }
            }
        }
        let path = Path { local: sent.path.remote, remote: sent.path.local, interface: 0 };
        let now = pair.now;
        let to = if path.local.ip() == ip(B) { Side::B } else { Side::A };
        pair.host(to).handle(now, KeyingInput::Datagram(Datagram { path, octets }));
        pair.settle();
        pair.wire.clear();
    }
    pair.pass_secs(100);
    assert_eq!(before, (pair.a.children.len(), pair.b.children.len()));
    pair.assert_healthy(1, 2);
    assert!(pair.b.count(dropped(Cause::INTEGRITY)) > 10);
    pair.want(Side::B, 1);
    pair.run();
    pair.assert_healthy(1, 3);
}

#[test]
fn what_a_peer_with_the_keys_sends_cannot_cost_the_ike_sa() {
    // Under the fake provider the checksum can be made right by sealing through a second copy of A.
    let mut dice = Dice(9);
    for seed in 0..300 {
        let mut pair = Pair::seeded(seed as u8).readable();
        pair.want(Side::A, 0);
        pair.run();
        let child = pair.first_child(Side::A);
        match seed % 4 {
            0 => pair.want(Side::A, 2),
            1 => pair.rekey(Side::A, Target::Child(child)),
            2 => {
                let ike = pair.a.established()[0];
                pair.rekey(Side::A, Target::Ike(ike));
            }
            _ => pair.close(Side::A, Target::Child(child)),
        }
        pair.settle();
        let keys = keys_of(&pair.a);
        let mut flying = pair.wire.pop_front().unwrap();
        damage_inside(&mut flying.datagram.octets, &keys, &mut dice);
        pair.deliver(flying);
        pair.settle();
        pair.wire.clear();
        assert_eq!(pair.b.ike.statuses().iter().filter(|status| status.remote.is_some()).count().min(1), 1, "seed {seed}");
        assert!(pair.b.sent.len() >= 3, "seed {seed}: answered, protected");
    }
}

/// SK_ei of the fake suite, from the keys that the test bed is told.
fn keys_of(host: &Host) -> Vec<u8> {
    let line = host.events.iter().find_map(|event| match event {
        KeyingEvent::Keys { line } => Some(line.clone()),
        _ => None,
    });
    let line = line.unwrap();
    let key = line.split(',').nth(2).unwrap();
    (0..key.len() / 2).map(|index| u8::from_str_radix(&key[index * 2..index * 2 + 2], 16).unwrap()).collect()
}

/// Changes octets inside the SK payload of a message and makes its checksum right again.
fn damage_inside(octets: &mut [u8], key: &[u8], dice: &mut Dice) {
    use watari_crypto::Provider;
    let cipher = FakeProvider.cipher("aes128gcm16".parse().unwrap()).unwrap();
    let (prefix, body) = octets.split_at_mut(32);
    let (iv, text) = body.split_at_mut(8);
    let mut buffer = text.to_vec();
    cipher.open(key, iv, prefix, &mut buffer).expect("the key is right");
    for _ in 0..1 + dice.roll(3) {
        // The pad length, the last octet, stays.
        let at = dice.roll(buffer.len() - 1);
        buffer[at] = dice.roll(256) as u8;
    }
    cipher.seal(key, iv, prefix, &mut buffer).unwrap();
    text.copy_from_slice(&buffer);
}

#[test]
fn an_unknown_critical_payload_is_named_in_the_answer() {
    let mut pair = Pair::new().readable();
    pair.want(Side::A, 0);
    pair.run();
    pair.want(Side::A, 2);
    pair.settle();
    let keys = keys_of(&pair.a);
    let mut flying = pair.wire.pop_front().unwrap();
    // The first payload inside becomes one of type 200 with the critical bit.
    flying.datagram.octets[28] = 200;
    {
        use watari_crypto::Provider;
        let cipher = FakeProvider.cipher("aes128gcm16".parse().unwrap()).unwrap();
        let original = {
            let mut octets = flying.datagram.octets.clone();
            octets[28] = 33;
            octets
        };
        let (prefix, body) = original.split_at(32);
        let mut buffer = body[8..].to_vec();
        cipher.open(&keys, &body[..8], prefix, &mut buffer).unwrap();
        buffer[1] = 0x80;
        let prefix = flying.datagram.octets[..32].to_vec();
        cipher.seal(&keys, &body[..8], &prefix, &mut buffer).unwrap();
        flying.datagram.octets[40..].copy_from_slice(&buffer);
    }
    pair.deliver(flying);
    let answer = &pair.b.sent.last().unwrap().octets;
    assert!(answer.windows(5).any(|window| window == [0, 0, 0, 1, 200]), "UNSUPPORTED_CRITICAL_PAYLOAD with the type");
    pair.run();
    pair.assert_healthy(1, 1);
}

#[test]
fn a_peer_that_closes_every_ike_sa_at_once_is_called_ever_more_slowly() {
    let mut pair = Pair::new();
    let net = |text: &str| text.parse().unwrap();
    let packet = watari_policies::Selector::between(net("2001:db8:1::abcd/128"), net("2001:db8:99::7/128")).protocol(6);
    let mut calls = Vec::new();
    let start = pair.now;
    // A packet asks every tenth of a second, for five minutes.
    for _ in 0..3000 {
        pair.acquire(Side::A, 2, packet);
        pair.settle();
        if pair.a.inits() > calls.len() {
            calls.push((pair.now - start).as_secs());
        }
        pair.run();
        for ike in pair.b.established() {
            pair.close(Side::B, Target::Ike(ike));
        }
        pair.run();
        pair.pass(Duration::from_millis(100));
    }
    assert!((7..=12).contains(&pair.a.inits()), "{} calls: {calls:?}", pair.a.inits());
    // The operator waits for nothing.
    let before = pair.a.inits();
    pair.want(Side::A, 0);
    pair.run();
    assert_eq!(pair.a.inits(), before + 1);
    pair.assert_healthy(1, 1);
    // A peer that keeps an IKE SA for a while is called at once when it closes that one.
    pair.pass_secs(60);
    let ike = pair.b.established()[0];
    pair.close(Side::B, Target::Ike(ike));
    pair.run();
    let before = pair.a.inits();
    pair.acquire(Side::A, 2, packet);
    pair.settle();
    assert_eq!(pair.a.inits(), before + 1);
}

#[test]
fn what_was_wanted_during_the_rest_is_asked_for_after_it() {
    let mut pair = Pair::new();
    let net = |text: &str| text.parse().unwrap();
    let packet = watari_policies::Selector::between(net("2001:db8:1::abcd/128"), net("2001:db8:99::7/128")).protocol(6);
    for _ in 0..6 {
        pair.want(Side::A, 0);
        pair.run();
        let ike = pair.b.established()[0];
        pair.close(Side::B, Target::Ike(ike));
        pair.run();
    }
    let before = pair.a.inits();
    pair.acquire(Side::A, 2, packet);
    pair.run();
    assert_eq!(pair.a.inits(), before);
    assert_eq!(pair.a.ike.deadline().unwrap().timer, "call again");
    assert_eq!(pair.a.ike.deadline().unwrap().whose, "b");
    pair.pass_secs(30);
    assert_eq!(pair.a.inits(), before + 1);
    pair.assert_healthy(1, 1);
}
