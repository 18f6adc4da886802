//! IKE_SA_INIT and IKE_AUTH between two endpoints.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod pair;

use pair::*;
use watari_policies::pad::PadEntry;
use watari_policies::{Identity, Mode, Pad, PolicyId, Ports, Secret, SecretId, Selector, Traffic, TrafficItem};
use watari_sa::{Cause, Datagram, Keying, KeyingEvent, KeyingInput};

#[test]
fn transport_child_in_ike_auth() {
    let pair = Pair::up();
    let sa = pair.a.installed()[0];
    assert_eq!((sa.mode, sa.policy), (Mode::Transport, PolicyId(0)));
    assert_eq!(sa.outbound.endpoints.src, ip(HOA), "transport SAs are between the home address and the home agent");
    // Outbound carries type 5 and inbound type 6: each direction with the type that is sent in it.
    assert_eq!((sa.outbound.selector.sport.value, sa.outbound.selector.sport.mask), (5, 0xffff));
    assert_eq!((sa.inbound.selector.sport.value, sa.inbound.selector.dport.mask), (6, 0));
    assert_eq!(pair.a.inits(), 1);
    assert_eq!(pair.a.sent.len(), 2, "IKE_SA_INIT and IKE_AUTH");
    assert_eq!(pair.a.count(|event| matches!(event, KeyingEvent::IkeUp { .. })), 1);
    assert_eq!(pair.b.count(|event| matches!(event, KeyingEvent::ChildUp(_))), 1);
}

#[test]
fn tunnel_child_uses_the_addresses_of_ike() {
    let mut pair = Pair::new();
    pair.want(Side::A, 2);
    pair.run();
    pair.assert_healthy(1, 1);
    let sa = pair.a.installed()[0];
    assert_eq!((sa.mode, sa.outbound.endpoints.src, sa.outbound.endpoints.dst), (Mode::Tunnel, ip(A), ip(B)));
}

#[test]
fn wishes_for_other_policies_follow_in_create_child_sa() {
    let mut pair = Pair::new();
    for policy in 0..3 {
        pair.want(Side::A, policy);
    }
    pair.want(Side::A, 1);
    pair.run();
    pair.assert_healthy(1, 3);
    assert_eq!((pair.a.inits(), pair.a.sent.len()), (1, 4));
}

#[test]
fn wrong_secret_is_told_to_both() {
    let mut pair = Pair::new();
    pair.b.secrets.insert(SecretId(1), Secret::from(&b"another"[..]));
    pair.want(Side::A, 0);
    pair.run();
    pair.assert_healthy(0, 0);
    for host in [&pair.a, &pair.b] {
        let down = |event: &KeyingEvent| matches!(event, KeyingEvent::IkeDown { cause, .. } if *cause == Cause::AUTHENTICATION_FAILED);
        assert_eq!(host.count(down), 1, "{:#?}", host.events);
    }
    assert_eq!(pair.a.count(|event| matches!(event, KeyingEvent::WantFailed { cause, .. } if *cause == Cause::AUTHENTICATION_FAILED)), 1);
}

#[test]
fn an_address_left_to_the_kernel_is_known_once_the_peer_answers() {
    let mut pair = Pair::new();
    pair.a.places.ike = Some(watari_kernel::KmAddress { local: ip("::"), remote: ip(B) });
    pair.a.places.modes = [(PolicyId(2), watari_policies::Mode::Tunnel)].into();
    pair.b.places.modes.clone_from(&pair.a.places.modes);
    pair.want(Side::A, 2);
    pair.run();
    pair.assert_healthy(1, 1);
    let ike = pair.a.established()[0];
    assert_eq!(pair.a.ike.path_of(ike).map(|path| path.local.ip()), Some(ip(A)));
    let child = pair.a.installed()[0].inbound_id();
    assert_eq!(child.dst, ip(A), "packets to nowhere in particular reach no SA");
}

#[test]
fn packet_that_asked_comes_first_and_is_narrowed_to_the_policy() {
    let mut pair = Pair::new();
    let packet = Selector::between(format!("{HOA}/128").parse().unwrap(), "2001:db8:99::7/128".parse().unwrap()).protocol(6);
    pair.acquire(Side::A, 2, packet);
    pair.run();
    pair.assert_healthy(1, 1);
    assert_eq!(pair.a.installed()[0].policy, PolicyId(2));
}

#[test]
fn mobility_header_types_stand_in_the_high_octet() {
    let mut pair = Pair::new().readable();
    pair.want(Side::A, 0);
    pair.run();
    pair.assert_healthy(1, 1);
    let auth = &pair.a.sent[1].octets;
    let (home, agent) = (
        "2001:db8:1::abcd".parse::<std::net::Ipv6Addr>().unwrap().octets(),
        "2001:db8:1::1".parse::<std::net::Ipv6Addr>().unwrap().octets(),
    );
    // TSi: one selector, IPv6 range, Mobility Header, 40 octets, type 5 (binding update), the home address.
    let tsi = [&[1, 0, 0, 0, 0x08, 0x87, 0x00, 0x28, 0x05, 0x00, 0x05, 0x00][..], &home, &home].concat();
    // TSr: type 6 (binding acknowledgement), the home agent.
    let tsr = [&[1, 0, 0, 0, 0x08, 0x87, 0x00, 0x28, 0x06, 0x00, 0x06, 0x00][..], &agent, &agent].concat();
    assert!(holds(auth, &tsi) && holds(auth, &tsr));
    assert!(holds(&pair.b.sent[1].octets, &tsi) && holds(&pair.b.sent[1].octets, &tsr));
}

#[test]
fn a_packet_that_says_no_more_than_the_policy_adds_nothing() {
    let mut pair = Pair::new().readable();
    let net = |address: &str| format!("{address}/128").parse().unwrap();
    pair.acquire(Side::A, 0, Selector::between(net(HOA), net(HA)).protocol(135).message_type(5));
    pair.run();
    pair.assert_healthy(1, 1);
    assert!(holds(&pair.a.sent[1].octets, &[1, 0, 0, 0, 0x08, 0x87, 0x00, 0x28, 0x05, 0x00, 0x05, 0x00]), "one selector, not two");
}

#[test]
fn low_octet_of_the_range_and_unshifted_first_selector_are_taken() {
    // As strongSwan sends it: the packet's type unshifted, then every type.
    let mut pair = Pair::new();
    let policy = &mut pair.a.config.policies[0];
    let item = |address: &str, ports| TrafficItem { range: host(address), protocol: 135, ports };
    policy.traffic = Traffic {
        local: vec![item(HOA, Ports::one(5)), item(HOA, Ports::ANY)],
        remote: vec![item(HA, Ports::one(0)), item(HA, Ports::ANY)],
    };
    pair.want(Side::A, 0);
    pair.run();
    pair.assert_healthy(1, 1);
    assert_eq!(pair.b.installed()[0].traffic, pair.b.config.policies[0].traffic, "narrowed to B's types");
    // A peer that counts the low octet as part of the type.
    let mut pair = Pair::new();
    pair.a.config.policies[0].traffic =
        Traffic::new(item(HOA, Ports { start: 0x0500, end: 0x05ff }), item(HA, Ports { start: 0x0600, end: 0x06ff }));
    pair.want(Side::A, 0);
    pair.run();
    pair.assert_healthy(1, 1);
    assert_eq!(pair.b.installed()[0].policy, PolicyId(0));
}

#[test]
fn protocol_only_and_opaque_selectors_interoperate() {
    for ports in [Ports::ANY, Ports::OPAQUE] {
        let mut pair = Pair::new();
        let item = |address: &str, ports| TrafficItem { range: host(address), protocol: 135, ports };
        pair.b.config.policies[0].traffic = Traffic::new(item(HA, Ports::ANY), item(HOA, Ports::ANY));
        pair.a.config.policies[0].traffic = Traffic::new(item(HOA, Ports::mh_type(5)), item(HA, ports));
        pair.want(Side::A, 0);
        pair.run();
        pair.assert_healthy(1, 1);
    }
}

#[test]
fn kernels_that_do_not_see_the_type_get_protocol_only_inbound_selectors() {
    let mut pair = Pair::new();
    pair.a.capability.inbound_mh_type = Some(false);
    pair.want(Side::A, 0);
    pair.run();
    pair.assert_healthy(1, 1);
    let sa = pair.a.installed()[0];
    assert_eq!((sa.inbound.selector.protocol, sa.inbound.selector.sport.mask), (135, 0));
    assert_eq!((sa.outbound.selector.sport.value, sa.outbound.selector.sport.mask), (5, 0xffff));
}

#[test]
fn the_pad_decides_who_may_have_what() {
    let mut pair = Pair::new();
    let identity = pair.b.config.remotes[0].remote_identity.clone();
    pair.b.config.pad = Pad::from_iter([PadEntry { identity: Some(identity), prefixes: vec!["2001:db8:77::/48".parse().unwrap()] }]);
    pair.want(Side::A, 0);
    pair.run();
    pair.assert_healthy(1, 0);
    let refused = pair.b.events.iter().find_map(|event| match event {
        KeyingEvent::Dropped { cause, detail, .. } if *cause == Cause::NOT_AUTHORISED => Some(detail.clone()),
        _ => None,
    });
    let detail = refused.expect("B tells why");
    assert!(detail.contains("a.example") && detail.contains(HOA), "{detail}");
    assert_eq!(pair.a.count(|event| matches!(event, KeyingEvent::WantFailed { cause, .. } if *cause == Cause::TRAFFIC_UNACCEPTABLE)), 1);
}

#[test]
fn cookies_are_asked_for_and_shown_and_kept_through_another_group() {
    let mut pair = Pair::new();
    pair.b.config.settings.cookie_threshold = 0;
    pair.b.config.remotes[0].proposals = vec!["aes128gcm16-prfsha256-ecp256".parse().unwrap()];
    pair.want(Side::A, 0);
    pair.run();
    pair.assert_healthy(1, 1);
    assert_eq!(pair.a.inits(), 1);
    assert_eq!(pair.a.sent.len(), 4, "plain, with cookie, with cookie and the other group, IKE_AUTH");
    assert_eq!((pair.a.sent[1].octets[16], pair.a.sent[2].octets[16]), (41, 41));
    assert_eq!(pair.a.sent[0].octets[..8], pair.a.sent[2].octets[..8], "the SPI stays");
}

#[test]
fn endless_demands_for_cookies_end() {
    let mut pair = Pair::new();
    pair.b.config.settings.cookie_threshold = 0;
    // Somebody changes every cookie on its way back.
    pair.want(Side::A, 0);
    let mut at_once = 0;
    for tenth in 0..50 {
        for _ in 0..50 {
            pair.settle();
            let Some(mut flying) = pair.wire.pop_front() else { break };
            if flying.to == Side::B && flying.datagram.octets[16] == 41 {
                flying.datagram.octets[40] ^= 1;
            }
            pair.deliver(flying);
        }
        if tenth == 0 {
            at_once = pair.a.sent.len();
        }
        pair.now += std::time::Duration::from_millis(100);
        let now = pair.now;
        pair.a.handle(now, KeyingInput::Timeout);
    }
    assert!(at_once <= 7 && pair.a.sent.len() <= at_once + 2, "{at_once} {}", pair.a.sent.len());
    assert!(pair.a.ike.statuses().is_empty());
    assert_eq!(pair.b.ike.statuses().len(), 0, "and B kept nothing");
}

#[test]
fn too_many_half_open_ike_sas_are_dropped() {
    let mut pair = Pair::new();
    pair.b.config.settings.half_open_limit = 3;
    for round in 0u8..5 {
        let mut one = Pair::seeded(round + 50);
        one.want(Side::A, 0);
        one.settle();
        let flying = one.wire.pop_front().unwrap();
        pair.deliver(flying);
    }
    assert_eq!(pair.b.ike.statuses().len(), 3);
    assert_eq!(pair.b.count(|event| matches!(event, KeyingEvent::Dropped { cause, .. } if *cause == Cause::HALF_OPEN_LIMIT)), 2);
    pair.wire.clear();
    pair.pass_secs(40);
    assert!(pair.b.ike.statuses().is_empty(), "half-open IKE SAs do not stay");
}

#[test]
fn a_mismatch_names_both_sides() {
    let mut pair = Pair::new();
    pair.b.config.remotes[0].proposals = vec!["aes256-sha512-x25519".parse().unwrap()];
    pair.want(Side::A, 0);
    pair.run();
    pair.pass_secs(5);
    pair.assert_healthy(0, 0);
    let detail = pair.b.events.iter().find_map(|event| match event {
        KeyingEvent::Dropped { cause, detail, .. } if *cause == Cause::SUITES_DIFFER => Some(detail.clone()),
        _ => None,
    });
    let detail = detail.expect("B tells");
    assert!(detail.contains("encr ours aes256 | peer aes128gcm16, aes128 -> none in common"), "{detail}");
    assert_eq!(pair.a.count(|event| matches!(event, KeyingEvent::WantFailed { cause, .. } if *cause == Cause::SUITES_DIFFER)), 1);
    // The same for a child.
    let mut pair = Pair::up();
    pair.b.config.ipsecs[0].proposals = vec!["aes256gcm16".parse().unwrap()];
    pair.want(Side::A, 2);
    pair.run();
    pair.assert_healthy(1, 1);
    assert!(
        pair.b.events.iter().any(|event| matches!(event, KeyingEvent::Dropped { detail, .. } if detail.contains("encr ours aes256gcm16")))
    );
}

#[test]
fn a_forged_refusal_does_not_end_an_attempt() {
    let mut pair = Pair::new();
    pair.want(Side::A, 0);
    pair.settle();
    let request = pair.wire[0].datagram.clone();
    // NO_PROPOSAL_CHOSEN from somebody on the path, before the real answer.
    let mut forged = request.octets[..16].to_vec();
    forged.extend([41, 0x20, 34, 0x20, 0, 0, 0, 0, 0, 0, 0, 36, 0, 0, 0, 8, 0, 0, 0, 14]);
    let path = watari_sa::Path { local: request.path.remote, remote: request.path.local, interface: 0 };
    let now = pair.now;
    pair.a.handle(now, KeyingInput::Datagram(Datagram { path, octets: forged }));
    pair.run();
    pair.assert_healthy(1, 1);
}

/// A response to A's IKE_SA_INIT with one notify, as anybody can make it who saw the request.
fn forged_notify(pair: &Pair, kind: u16, data: &[u8]) -> Datagram {
    let request = pair.a.sent.iter().rev().find(|sent| sent.octets[18] == 34).unwrap();
    let mut octets = request.octets[..8].to_vec();
    octets.extend([0; 8]);
    octets.extend([41, 0x20, 34, 0x20, 0, 0, 0, 0, 0, 0, 0, 36 + data.len() as u8, 0, 0, 0, 8 + data.len() as u8, 0, 0]);
    octets.extend(kind.to_be_bytes());
    octets.extend(data);
    Datagram { path: watari_sa::Path { local: request.path.local, remote: request.path.remote, interface: 0 }, octets }
}

fn failed_with(cause: Cause) -> impl Fn(&KeyingEvent) -> bool {
    move |event| matches!(event, KeyingEvent::WantFailed { cause: why, .. } if *why == cause)
}

#[test]
fn unprotected_errors_are_waited_out_and_the_last_is_the_reason() {
    // INVALID_SYNTAX after every repeat, while the peer's own answers are lost: the attempt lives as long as without them.
    let mut pair = Pair::new();
    pair.filter = Some(Box::new(|_, _| false));
    pair.want(Side::A, 0);
    let mut seconds = 0;
    while pair.a.count(|event| matches!(event, KeyingEvent::WantFailed { .. })) == 0 {
        pair.pass_secs(1);
        seconds += 1;
        assert!(seconds < 200);
        let datagram = forged_notify(&pair, 7, &[]);
        let now = pair.now;
        pair.a.handle(now, KeyingInput::Datagram(datagram));
    }
    assert_eq!(pair.a.sent.len(), 6, "the request and all its repeats");
    assert_eq!(pair.a.count(failed_with(Cause::PEER_REFUSED)), 1, "{:#?}", pair.a.events);
    assert_eq!(pair.a.count(|event| matches!(event, KeyingEvent::Dropped { .. })), 1, "told at once, and once");
    // The peer answers at last: all is well.
    let mut pair = Pair::new();
    pair.filter = Some(Box::new(|_, _| false));
    pair.want(Side::A, 0);
    for _ in 0..20 {
        pair.pass_secs(1);
        let datagram = forged_notify(&pair, 7, &[]);
        let now = pair.now;
        pair.a.handle(now, KeyingInput::Datagram(datagram));
    }
    pair.filter = None;
    pair.pass_secs(20);
    pair.assert_healthy(1, 1);
    assert_eq!(pair.a.inits(), 1);
}

#[test]
fn a_refusal_of_every_proposal_counts_when_a_repeat_is_refused_too() {
    for forged in [1, 2] {
        let mut pair = Pair::new();
        pair.filter = Some(Box::new(|_, _| false));
        pair.want(Side::A, 0);
        pair.settle();
        for round in 0..3 {
            if round < forged {
                // However often it comes for one and the same request.
                for _ in 0..5 {
                    let datagram = forged_notify(&pair, 14, &[]);
                    let now = pair.now;
                    pair.a.handle(now, KeyingInput::Datagram(datagram));
                }
            }
            pair.pass_secs(if round == 0 { 1 } else { 2 });
        }
        assert_eq!(pair.a.count(failed_with(Cause::SUITES_DIFFER)), forged - 1);
        pair.filter = None;
        pair.pass_secs(20);
        pair.assert_healthy(2 - forged, 2 - forged);
    }
}

#[test]
fn a_public_value_that_must_not_be_used_is_ignored() {
    let mut pair = Pair::new();
    pair.want(Side::A, 0);
    pair.settle();
    let request = pair.wire.pop_front().unwrap();
    pair.deliver(request.clone());
    let answer = pair.wire.pop_front().unwrap();
    // An all-zero X25519 value in the real answer's place, again and again: no storm of requests comes of it.
    let mut forged = answer.datagram.clone();
    let value = forged.octets.windows(8).position(|window| window[2..8] == [0, 40, 0, 31, 0, 0]).unwrap() + 8;
    forged.octets[value..value + 32].fill(0);
    let (now, sent) = (pair.now, pair.a.sent.len());
    for _ in 0..20 {
        pair.a.handle(now, KeyingInput::Datagram(forged.clone()));
        pair.settle();
    }
    assert_eq!(pair.a.sent.len(), sent, "{}", pair.story());
    // The real answer, which was lost, comes with the next repeat.
    pair.pass_secs(2);
    pair.assert_healthy(1, 1);
    assert_eq!(pair.a.inits(), 1);
    // Without it the reason is told.
    let mut pair = Pair::new();
    pair.filter = Some(Box::new(|_, _| false));
    pair.want(Side::A, 0);
    pair.settle();
    forged.octets[..8].copy_from_slice(&pair.a.sent[0].octets[..8]);
    let now = pair.now;
    pair.a.handle(now, KeyingInput::Datagram(forged));
    pair.pass_secs(100);
    assert_eq!(pair.a.count(failed_with(Cause::MALFORMED)), 1, "{:#?}", pair.a.events);
}

#[test]
fn the_initiator_too_asks_its_pad_what_the_responder_may_have() {
    let mut pair = Pair::new();
    let identity = pair.a.config.remotes[0].remote_identity.clone();
    pair.a.config.pad = Pad::from_iter([PadEntry { identity: Some(identity), prefixes: vec![format!("{HA}/128").parse().unwrap()] }]);
    pair.want(Side::A, 0);
    pair.run();
    pair.assert_healthy(1, 1);
    // The tunnel would give the responder every address.
    pair.want(Side::A, 2);
    pair.run();
    pair.assert_healthy(1, 1);
    let told = pair.a.events.iter().find_map(|event| match event {
        KeyingEvent::WantFailed { cause, detail, .. } if *cause == Cause::NOT_AUTHORISED => Some(detail.clone()),
        _ => None,
    });
    assert!(told.is_some_and(|detail| detail.contains("b.example")), "{:#?}", pair.a.events);
    // In IKE_AUTH the IKE SA stands without its child SA.
    let mut pair = Pair::new();
    pair.a.config.pad = Pad::default();
    pair.want(Side::A, 0);
    pair.run();
    pair.assert_healthy(1, 0);
}

#[test]
fn mode_must_agree() {
    let mut pair = Pair::new();
    pair.b.config.policies[0].mode = Mode::Tunnel;
    pair.b.places.modes.insert(PolicyId(0), Mode::Tunnel);
    pair.want(Side::A, 0);
    pair.run();
    pair.assert_healthy(1, 0);
    assert_eq!(pair.a.count(|event| matches!(event, KeyingEvent::WantFailed { cause, .. } if *cause == Cause::TRANSPORT_REFUSED)), 1);
    let mut pair = Pair::new();
    pair.b.config.policies[2].mode = Mode::Transport;
    pair.b.config.policies[1].mode = Mode::Transport;
    pair.want(Side::A, 2);
    pair.run();
    pair.assert_healthy(1, 0);
}

#[test]
fn nobody_calls_under_a_name_that_is_not_known() {
    let mut pair = Pair::new();
    pair.a.config.remotes[0].local_identity = Identity::Fqdn("mallory.example".to_owned());
    pair.want(Side::A, 0);
    pair.run();
    pair.assert_healthy(0, 0);
    assert_eq!(pair.b.count(|event| matches!(event, KeyingEvent::IkeDown { cause, .. } if *cause == Cause::IDENTITY_UNKNOWN)), 1);
    // And the initiator does not take anybody else for its peer.
    let mut pair = Pair::new();
    pair.b.config.remotes[0].local_identity = Identity::Fqdn("mallory.example".to_owned());
    pair.want(Side::A, 0);
    pair.run();
    pair.pass_secs(60);
    pair.assert_healthy(0, 0);
    assert_eq!(pair.a.count(|event| matches!(event, KeyingEvent::IkeDown { cause, .. } if *cause == Cause::IDENTITY_UNKNOWN)), 1);
    // Nor is the reserved ID type anybody, although records that are no longer in force have it.
    for kept in [vec![], vec![7]] {
        let mut pair = Pair::new();
        let nobody = Identity::Other { id_type: 0, data: kept };
        pair.a.config.remotes[0].local_identity = nobody.clone();
        pair.b.config.remotes[0].remote_identity = nobody;
        pair.want(Side::A, 0);
        pair.run();
        pair.assert_healthy(0, 0);
        assert!(pair.b.established().is_empty() && pair.b.count(|event| matches!(event, KeyingEvent::IkeUp { .. })) == 0);
    }
    // Names of hosts are compared without case.
    let mut pair = Pair::new();
    pair.a.config.remotes[0].local_identity = Identity::Fqdn("A.Example".to_owned());
    pair.want(Side::A, 0);
    pair.run();
    pair.assert_healthy(1, 1);
}

#[test]
fn every_suite_and_group() {
    let suites = [
        "aes128-sha1-modp2048",
        "aes256-sha384-ecp384",
        "aes192-sha512-x25519",
        "aes256gcm8-prfsha384-ecp256",
        "aes128gcm12-prfsha1-x25519",
        "aes256gcm16-prfsha512-x25519",
        "chacha20poly1305-prfsha256-x25519",
    ];
    for suite in suites {
        let mut pair = Pair::new();
        for host in [&mut pair.a, &mut pair.b] {
            host.config.remotes[0].proposals = vec![suite.parse().unwrap()];
            host.config.ipsecs[0].proposals = vec!["aes256-sha512-esn".parse().unwrap(), "chacha20poly1305".parse().unwrap()];
        }
        pair.want(Side::A, 0);
        pair.run();
        pair.assert_healthy(1, 1);
        let line = pair.a.events.iter().find_map(|event| match event {
            KeyingEvent::Keys { line } => Some(line.clone()),
            _ => None,
        });
        assert_eq!(line.unwrap().split(',').count(), 8, "{suite}");
    }
}

#[test]
fn nat_sends_the_initiator_to_port_4500() {
    let mut pair = Pair::new();
    pair.want(Side::A, 0);
    pair.settle();
    // The network changes the source port on the way.
    let mut flying = pair.wire.pop_front().unwrap();
    flying.datagram.path.remote.set_port(1024);
    pair.deliver(flying);
    let mut flying = pair.wire.pop_front().unwrap();
    assert_eq!(flying.datagram.path.local.port(), 1024);
    flying.datagram.path.local.set_port(500);
    pair.deliver(flying);
    let auth = pair.a.sent.last().unwrap();
    assert_eq!((auth.path.local.port(), auth.path.remote.port()), (4500, 4500));
    pair.run();
    pair.assert_healthy(1, 1);
    assert_eq!(pair.b.ike.statuses()[0].path.local.port(), 4500);
}
