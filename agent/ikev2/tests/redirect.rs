//! Redirects at every moment of RFC 5685, and the list of addresses of RFC 5026 5.1.2, between two endpoints of which B has three addresses.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod pair;

use std::net::IpAddr;
use std::sync::Arc;

use pair::*;
use watari_policies::certificate::{OwnProof, PeerProof, Proofs};
use watari_policies::model::Authentication;
use watari_policies::{Follow, Gateway, Secret, SecretId, SendOn};
use watari_sa::{Cause, IkeId, Keying as _, KeyingEvent};
use watari_wire::ikev2::{GatewayIdentity, Header, Message, NotifyType, Payload, Redirect};

/// A lists these addresses of B.
fn listing(addresses: &[&str]) -> Pair {
    let mut pair = Pair::new();
    pair.a.config.remotes[0].remote_address = Some(ip(addresses[0]));
    pair.a.config.remotes[0].gateways.addresses = addresses.iter().map(|address| ip(address)).collect();
    pair
}

/// A lists B and B2; B sends it on.
fn sending(to: &str, when: SendOn) -> Pair {
    let mut pair = listing(&[B, B2]);
    pair.b.config.remotes[0].gateways.redirect_to = Some((to.parse().unwrap(), when));
    pair
}

fn silent(pair: &mut Pair, addresses: &'static [&'static str]) {
    pair.filter = Some(Box::new(move |_, datagram| !addresses.iter().any(|address| datagram.path.local.ip() == ip(address))));
}

fn started(mut pair: Pair) -> Pair {
    pair.want(Side::A, 0);
    pair.run();
    pair
}

fn peer_of(pair: &Pair) -> Vec<IpAddr> {
    pair.a.established().into_iter().filter_map(|ike| pair.a.ike.path_of(ike)).map(|path| path.remote.ip()).collect()
}

fn downs(pair: &Pair, side: Side, because: Cause) -> usize {
    let host = if side == Side::A { &pair.a } else { &pair.b };
    host.count(|event| matches!(event, KeyingEvent::IkeDown { cause, .. } if *cause == because))
}

fn redirected(pair: &Pair) -> usize {
    pair.a.count(|event| matches!(event, KeyingEvent::Redirected { .. }))
}

/// The notifies of A's IKE_SA_INIT requests, in order.
fn init_notifies(pair: &Pair) -> Vec<Vec<(NotifyType, Vec<u8>)>> {
    let inits = pair.a.sent.iter().filter(|sent| kind(&sent.octets) == (34, 0, false));
    let notifies = |payload: Payload| if let Payload::Notify(notify) = payload { Some((notify.notify_type, notify.data)) } else { None };
    inits.map(|sent| Message::decode(&sent.octets).unwrap().payloads.into_iter().filter_map(notifies).collect()).collect()
}

/// Lets B redirect the IKE SA that stands.
fn redirect(pair: &mut Pair, to: &str) -> Result<(), String> {
    let ike = pair.b.established()[0];
    let now = pair.now;
    let gateway: Gateway = to.parse().unwrap();
    let answer = pair.b.with(now, |endpoint, context| endpoint.redirect(context, ike, &gateway));
    pair.run();
    answer
}

//= rfc5685#3
//# the client begins anew with the gateway that was named, and says who redirected it
#[test]
fn the_first_message_is_answered_with_another_gateway() {
    let pair = started(sending(B2, SendOn::Init));
    pair.assert_healthy(1, 1);
    assert_eq!(peer_of(&pair), [ip(B2)]);
    assert_eq!((redirected(&pair), downs(&pair, Side::A, Cause::REDIRECTED)), (1, 1));
    assert_eq!(pair.b.count(|event| matches!(event, KeyingEvent::IkeUp { .. })), 1, "the first gateway kept nothing");
    let inits = init_notifies(&pair);
    let has = |at: usize, kind: NotifyType| inits[at].iter().any(|(known, _)| *known == kind);
    assert!(has(0, NotifyType::REDIRECT_SUPPORTED) && !has(0, NotifyType::REDIRECTED_FROM));
    let from = inits[1].iter().find(|(kind, _)| *kind == NotifyType::REDIRECTED_FROM).map(|(_, data)| Redirect::decode(data).unwrap());
    assert_eq!(from, Some(Redirect { gateway: GatewayIdentity::Address(ip(B)), nonce: Vec::new() }));
    // What the first gateway answered has no responder's SPI.
    let first = Header::decode(&pair.b.sent[0].octets).unwrap();
    assert_eq!((first.responder_spi, pair.a.config.remotes[0].remote_address), (0, Some(ip(B2))));
}

#[test]
fn whoever_does_not_announce_it_is_not_redirected() {
    let mut pair = sending(B2, SendOn::Init);
    pair.a.config.remotes[0].gateways.follow = Follow::Never;
    let pair = started(pair);
    pair.assert_healthy(1, 1);
    assert_eq!(peer_of(&pair), [ip(B)]);
    let mut plain = Pair::new();
    plain.b.config.remotes[0].gateways.redirect_to = Some((B2.parse().unwrap(), SendOn::Auth));
    let plain = started(plain);
    plain.assert_healthy(1, 1);
    assert!(init_notifies(&plain)[0].iter().all(|(kind, _)| *kind != NotifyType::REDIRECT_SUPPORTED), "nowhere to go, nothing to announce");
}

//= rfc5685#3
//# a redirect without the nonce of the request is discarded and another response is waited for
#[test]
fn a_forged_redirect_changes_nothing() {
    let mut pair = listing(&[B, B2]);
    pair.want(Side::A, 0);
    pair.settle();
    let request = Message::decode(&pair.wire[0].datagram.octets).unwrap();
    for nonce in [vec![7; 32], Vec::new()] {
        let redirect = Redirect { gateway: GatewayIdentity::Address(ip(B2)), nonce };
        let notify = watari_wire::ikev2::Notify::new(NotifyType::REDIRECT, redirect.encode());
        let header = Header::new(request.header.initiator_spi, 0, request.header.exchange, watari_wire::ikev2::Flags::new(false, true), 0);
        let octets = Message { header, payloads: vec![Payload::Notify(notify)] }.encode();
        let path = watari_sa::Path { local: (ip(A), 500).into(), remote: (ip(B), 500).into(), interface: 0 };
        pair.deliver(Flying { to: Side::A, datagram: watari_sa::Datagram { path, octets } });
    }
    assert_eq!(pair.a.count(|event| matches!(event, KeyingEvent::Dropped { cause: Cause::UNEXPECTED, .. })), 2);
    pair.run();
    pair.assert_healthy(1, 1);
    assert_eq!((peer_of(&pair), redirected(&pair)), (vec![ip(B)], 0));
}

//= rfc5685#6
//# both prove who they are, no child SA is made, and the client closes the IKE SA
#[test]
fn a_proved_peer_is_sent_on_in_ike_auth() {
    let pair = started(sending(B2, SendOn::Auth));
    pair.assert_healthy(1, 1);
    assert_eq!(peer_of(&pair), [ip(B2)]);
    assert_eq!((redirected(&pair), downs(&pair, Side::A, Cause::REDIRECTED)), (1, 1));
    assert_eq!((pair.b.ike.statuses().len(), downs(&pair, Side::B, Cause::PEER_CLOSED)), (1, 1));
    assert_eq!(pair.b.kernel.added.len(), 2, "the first gateway made no child SA");
    assert_eq!(pair.a.inits(), 2);
}

//= rfc5685#5
//# the client answers, makes its SAs with the new gateway and deletes the old ones
#[test]
fn a_session_moves_over_make_before_break() {
    let mut pair = listing(&[B, B2]);
    for policy in 0..3 {
        pair.want(Side::A, policy);
    }
    pair.run();
    pair.assert_healthy(1, 3);
    let old = pair.a.established()[0];
    silent(&mut pair, &[B2]);
    redirect(&mut pair, B2).unwrap();
    assert_eq!(peer_of(&pair), [ip(B)], "the old one serves until the new one stands");
    // What is wanted meanwhile waits for the new one.
    pair.close(Side::A, watari_sa::Target::Child(pair.first_child(Side::A)));
    pair.filter = None;
    pair.pass_secs(2);
    let ups: Vec<IkeId> = pair.a.established();
    assert!(ups.len() == 2 && pair.a.installed().len() >= 5, "both stand for a moment{}", pair.story());
    pair.pass_secs(5);
    assert_eq!(peer_of(&pair), [ip(B2)]);
    assert!(!pair.a.established().contains(&old));
    pair.assert_healthy(1, 3);
    assert_eq!(downs(&pair, Side::B, Cause::PEER_CLOSED), 1, "the client deletes the old IKE SA");
}

//= rfc5685#8
//# in a session a redirect updates no state of Mobile IPv6: the SAs of the binding stay, for a Home Agent Switch message too
#[test]
fn what_protects_a_binding_outlives_a_redirect_in_the_session() {
    for sent_away in [true, false] {
        let mut pair = listing(&[B, B2]);
        pair.a.config.remotes[0].role = watari_policies::MobilityRole::MobileNode { home_address: ip("2001:db8:1::abcd") };
        let mut pair = started(pair);
        redirect(&mut pair, B2).unwrap();
        pair.pass_secs(60);
        assert_eq!(peer_of(&pair), [ip(B), ip(B2)]);
        // What is new is with the new one.
        pair.want(Side::A, 1);
        pair.run();
        let children = |ike| pair.a.children.of_owner(watari_sa::Owner::Ike(ike)).count();
        assert_eq!(pair.a.established().into_iter().map(children).collect::<Vec<_>>(), [1, 2]);
        if sent_away {
            let (remote, now) = (watari_policies::RemoteId(0), pair.now);
            pair.a.with(now, |endpoint, context| endpoint.switch(context, remote, &[ip(B2)], Cause::HOME_AGENT_SWITCH));
            pair.pass_secs(5);
        } else {
            pair.pass_secs(300);
        }
        assert_eq!(peer_of(&pair), [ip(B2)], "{sent_away}");
        pair.assert_healthy(1, 2);
    }
}

#[test]
fn a_session_whose_new_gateway_is_silent_stays() {
    let mut pair = started(listing(&[B, B2]));
    let before = pair.a.established();
    silent(&mut pair, &[B2]);
    redirect(&mut pair, B2).unwrap();
    pair.pass_secs(200);
    assert_eq!((peer_of(&pair), pair.a.established()), (vec![ip(B)], before));
    assert_eq!(pair.a.config.remotes[0].remote_address, Some(ip(B)));
    pair.want(Side::A, 1);
    pair.run();
    pair.assert_healthy(1, 2);
}

//= rfc5685#10
//# only the original responder can redirect the original initiator, after rekeys too
#[test]
fn only_the_first_responder_redirects() {
    let mut pair = started(listing(&[B, B2]));
    let (ours, now) = (pair.a.established()[0], pair.now);
    let to: Gateway = B2.parse().unwrap();
    assert!(pair.a.with(now, |endpoint, context| endpoint.redirect(context, ours, &to)).unwrap_err().contains("responder"));
    // B rekeys, and is the initiator of the new IKE SA.
    let theirs = pair.b.established()[0];
    pair.rekey(Side::B, watari_sa::Target::Ike(theirs));
    pair.run();
    redirect(&mut pair, B2).unwrap();
    pair.pass_secs(10);
    assert_eq!(peer_of(&pair), [ip(B2)]);
    pair.assert_healthy(1, 1);
    let mut deaf = Pair::up();
    assert!(redirect(&mut deaf, B2).unwrap_err().contains("does not follow"));
}

//= rfc5685#7
//# no more than five redirects within five minutes
#[test]
fn circles_are_left() {
    let mut pair = started(listing(&[B, B2]));
    for turn in 0..6 {
        redirect(&mut pair, if turn % 2 == 0 { B2 } else { B }).unwrap();
        pair.pass_secs(10);
    }
    assert_eq!((redirected(&pair), peer_of(&pair)), (5, vec![ip(B2)]));
    assert_eq!(pair.a.count(|event| matches!(event, KeyingEvent::Dropped { cause: Cause::REDIRECT_REFUSED, .. })), 1);
    pair.assert_healthy(1, 1);
    pair.pass_secs(300);
    redirect(&mut pair, B).unwrap();
    pair.pass_secs(10);
    assert_eq!(peer_of(&pair), [ip(B)], "later it is no circle any more");
}

//= rfc5685#3
//# the new gateway is one that the PAD allows
#[test]
fn nobody_is_followed_where_the_configuration_does_not_let_us() {
    for to in [B3, "ha3.example"] {
        // In a session: it stays.
        let mut pair = started(listing(&[B, B2]));
        redirect(&mut pair, to).unwrap();
        pair.pass_secs(10);
        assert_eq!((peer_of(&pair), redirected(&pair)), (vec![ip(B)], 0), "{to}");
        // In IKE_AUTH and in IKE_SA_INIT: the attempt goes on to the next address of the list.
        for when in [SendOn::Auth, SendOn::Init] {
            let mut pair = sending(to, when);
            pair.want(Side::A, 0);
            pair.pass_secs(10);
            // B2 is the same host and sends on as well: nothing is left, and the list is begun again later.
            assert_eq!((peer_of(&pair), redirected(&pair)), (vec![], 0), "{to} {when:?}");
            assert_eq!(downs(&pair, Side::A, Cause::REDIRECT_REFUSED), 2, "{to} {when:?}{}", pair.story());
            assert!(pair.a.count(|event| matches!(event, KeyingEvent::WantFailed { cause: Cause::REDIRECT_REFUSED, .. })) == 1);
        }
    }
    let mut pair = sending("ha3.example", SendOn::Auth);
    pair.a.config.remotes[0].gateways.names = [("HA3.example".to_owned(), ip(B2))].into();
    let mut pair = started(pair);
    // B itself still names the gateway by name and sends it on again, which A takes for a redirect to itself.
    pair.pass_secs(10);
    assert_eq!(redirected(&pair), 1);
    let mut anywhere = sending(B3, SendOn::Auth);
    anywhere.a.config.remotes[0].gateways.follow = Follow::Any;
    let anywhere = started(anywhere);
    assert_eq!(peer_of(&anywhere), [ip(B3)]);
    anywhere.assert_healthy(1, 1);
}

/// The new gateway proves the same identity, or nothing is made with it (RFC 5685 3).
#[test]
fn the_new_gateway_has_to_be_the_same_peer() {
    let mut pair = started(listing(&[B, B2]));
    pair.b.secrets.insert(watari_policies::SecretId(1), watari_policies::Secret::from(&b"another"[..]));
    redirect(&mut pair, B2).unwrap();
    pair.pass_secs(30);
    assert_eq!(peer_of(&pair), [ip(B)]);
    assert_eq!(downs(&pair, Side::A, Cause::AUTHENTICATION_FAILED), 1);
}

//= rfc5026#5.1.2
//# if the home agent does not answer IKE_SA_INIT, the next one of the list is tried
#[test]
fn the_next_address_is_tried_when_one_is_silent() {
    let mut pair = listing(&[B, B2, B3]);
    silent(&mut pair, &[B, B2]);
    pair.want(Side::A, 0);
    pair.pass_secs(200);
    pair.assert_healthy(1, 1);
    assert_eq!((peer_of(&pair), pair.a.inits()), (vec![ip(B3)], 3));
    assert_eq!(downs(&pair, Side::A, Cause::PEER_SILENT), 2);
    assert_eq!(pair.a.count(|event| matches!(event, KeyingEvent::WantFailed { .. })), 0, "the wish was served in the end");
}

//= rfc5026#5.1.2
//# or if authentication fails
#[test]
fn the_next_address_is_tried_when_authentication_fails() {
    for wrong in [Side::A, Side::B] {
        let mut pair = listing(&[B, B2]);
        let good = pair.host(wrong).secrets.clone();
        pair.host(wrong).secrets.insert(watari_policies::SecretId(1), watari_policies::Secret::from(&b"another"[..]));
        silent(&mut pair, &[B2]);
        pair.want(Side::A, 0);
        pair.run();
        assert_eq!(downs(&pair, Side::A, Cause::AUTHENTICATION_FAILED), 1, "{}", pair.story());
        pair.host(wrong).secrets = good;
        pair.filter = None;
        pair.pass_secs(10);
        assert_eq!(peer_of(&pair), [ip(B2)]);
        pair.pass_secs(60);
        pair.assert_healthy(1, 1);
    }
}

//= rfc5026#5.1.2
//# if none answers, the mobile node waits before it begins again
#[test]
fn when_nobody_answers_the_list_is_begun_again_after_a_pause() {
    let mut pair = listing(&[B, B2]);
    silent(&mut pair, &[B, B2]);
    pair.want(Side::A, 0);
    while pair.a.count(|event| matches!(event, KeyingEvent::WantFailed { .. })) == 0 {
        pair.pass_secs(1);
        assert!(pair.now.as_secs() < 2000);
    }
    assert_eq!((pair.a.inits(), pair.a.config.remotes[0].remote_address), (2, Some(ip(B))));
    let packet = pair.a.config.policies[0].traffic.kernel_selectors(watari_policies::Direction::Out, true).sa;
    pair.acquire(Side::A, 0, packet);
    pair.filter = None;
    pair.pass_secs(25);
    assert_eq!(pair.a.inits(), 2, "a packet does not shorten the pause");
    pair.pass_secs(10);
    pair.assert_healthy(1, 1);
    assert_eq!(peer_of(&pair), [ip(B)]);
    let mut pair = listing(&[B, B2]);
    silent(&mut pair, &[B, B2]);
    pair.want(Side::A, 0);
    pair.pass_secs(1);
    let attempt = pair.a.ike.statuses()[0].id;
    pair.close(Side::A, watari_sa::Target::Ike(attempt));
    pair.run();
    assert_eq!((pair.a.ike.statuses().len(), pair.a.inits()), (0, 1), "an operator who gives up means it");
}

/// What the home agent or its mobility daemon says (RFC 5142): the IKE SA moves over, and an attempt begins there.
#[test]
fn a_switch_moves_what_stands_and_what_is_being_made() {
    let mut pair = started(listing(&[B, B2]));
    let switch = |pair: &mut Pair, to: &[&str]| {
        let (list, now): (Vec<IpAddr>, _) = (to.iter().map(|address| ip(address)).collect(), pair.now);
        let remote = watari_policies::RemoteId(0);
        pair.a.with(now, |endpoint, context| endpoint.switch(context, remote, &list, Cause::HOME_AGENT_SWITCH));
        pair.run();
    };
    silent(&mut pair, &[B3]);
    switch(&mut pair, &[B3, B2]);
    assert_eq!(peer_of(&pair), [ip(B)]);
    // B3 is silent, the next one of the message is taken.
    pair.pass_secs(100);
    assert_eq!(peer_of(&pair), [ip(B2)]);
    pair.assert_healthy(1, 1);
    let before = pair.a.established();
    switch(&mut pair, &[B2]);
    assert_eq!((pair.a.established(), pair.a.ike.statuses().len()), (before, 1), "it is there already");
    let mut pair = listing(&[B, B2]);
    silent(&mut pair, &[B]);
    pair.want(Side::A, 0);
    pair.run();
    switch(&mut pair, &[B2]);
    assert_eq!(peer_of(&pair), [ip(B2)]);
    pair.assert_healthy(1, 1);
}

#[test]
fn a_move_in_the_middle_takes_both_ike_sas_along() {
    let mut pair = started(listing(&[B, B2]));
    silent(&mut pair, &[B2]);
    redirect(&mut pair, B2).unwrap();
    let paths: Vec<_> = pair.a.ike.statuses().into_iter().map(|status| (status.id, status.path.remote.ip())).collect();
    assert_eq!(paths.len(), 2);
    let now = pair.now;
    for (ike, remote) in paths {
        let addresses = watari_kernel::KmAddress { local: ip(A2), remote };
        pair.a.places.ike = Some(watari_kernel::KmAddress { local: ip(A2), remote: ip(B2) });
        pair.a.with(now, |endpoint, context| endpoint.retarget(context, ike, addresses));
    }
    pair.filter = None;
    pair.pass_secs(10);
    assert_eq!(peer_of(&pair), [ip(B2)]);
    let path = pair.a.ike.path_of(pair.a.established()[0]).unwrap();
    assert_eq!(path.local.ip(), ip(A2));
}

/// How many peers a host sent on.
fn sent_on(host: &Host) -> usize {
    host.count(|event| matches!(event, KeyingEvent::SentOn { .. }))
}

/// Before IKE_AUTH nobody knows which of the remotes calls: it is left to IKE_AUTH unless all say the same.
#[test]
fn the_rule_of_another_remote_sends_nobody_on_at_the_first_message() {
    let second = |to: Option<&str>, from: &str, ours: Option<&str>| {
        let mut pair = sending(B2, SendOn::Init);
        let mut other = pair.b.config.remotes[0].clone();
        other.remote_identity = "second.example".parse().unwrap();
        other.gateways.redirect_to = to.map(|to| (to.parse().unwrap(), SendOn::Init));
        other.allowed_from = vec![from.parse().unwrap()];
        other.local_address = ours.map(ip);
        pair.b.config.remotes.push(other);
        pair
    };
    let anywhere = "::/0";
    for (to, sent) in [(None, 0), (Some(B3), 0), (Some(B2), 1)] {
        let pair = started(second(to, anywhere, None));
        pair.assert_healthy(1, 1);
        assert_eq!((sent_on(&pair.b), redirected(&pair)), (sent, sent), "{to:?}");
    }
    // Who cannot call from there, or calls another address of ours, has no say.
    for (from, ours) in [("2001:db8:ffff::/48", None), (anywhere, Some(B3))] {
        assert_eq!(sent_on(&started(second(None, from, ours)).b), 1, "{from} {ours:?}");
    }
    assert_eq!(sent_on(&started(second(None, anywhere, Some(B))).b), 0);
    // The other remote first, with a rule that is not for the one that calls.
    let mut pair = second(Some(B2), anywhere, None);
    pair.b.config.remotes[0].gateways.redirect_to = None;
    pair.b.config.remotes.swap(0, 1);
    for policy in &mut pair.b.config.policies {
        policy.remote = watari_policies::RemoteId(1);
    }
    let pair = started(pair);
    assert_eq!((sent_on(&pair.b), peer_of(&pair)), (0, vec![ip(B)]));
}

//= rfc5685#6
//# the gateway's proof is verified before its redirect is acted on, and the client's before there is one
#[test]
fn without_proof_nobody_is_sent_on_in_ike_auth() {
    let wrong = SecretId(2);
    let each = |ours, theirs| Authentication::Each(Arc::new(Proofs { ours: OwnProof::Psk(ours), theirs: PeerProof::Psk(theirs) }));
    for (side, sent) in [(Side::B, 1), (Side::A, 0)] {
        let mut pair = sending(B2, SendOn::Auth);
        pair.host(side).secrets.insert(wrong, Secret::from(&b"another"[..]));
        pair.host(side).config.remotes[0].authentication = each(wrong, SecretId(1));
        let pair = started(pair);
        assert_eq!((sent_on(&pair.b), redirected(&pair), peer_of(&pair)), (sent, 0, vec![]), "{side:?}{}", pair.story());
        assert_eq!(downs(&pair, Side::A, Cause::REDIRECTED), 0);
        assert!(downs(&pair, Side::A, Cause::AUTHENTICATION_FAILED) >= 1);
    }
}

//= rfc5685#6
//# a client that was sent on in IKE_AUTH and does not close the IKE SA has it closed by the gateway
#[test]
fn a_client_that_stays_is_shown_out_after_half_a_minute() {
    let mut pair = sending(B2, SendOn::Auth);
    pair.want(Side::A, 0);
    pair.settle();
    // Both messages of A's to the first gateway arrive, the second of them from another port; then nothing more.
    for port in [500, 4500] {
        let mut flying = pair.wire.pop_front().unwrap();
        flying.datagram.path.remote.set_port(port);
        pair.deliver(flying);
        let answer = pair.wire.pop_front().unwrap();
        if port == 500 {
            pair.deliver(answer);
        }
    }
    pair.filter = Some(Box::new(|_, _| false));
    let ike = pair.b.established()[0];
    let from: Vec<u16> = pair
        .b
        .events
        .iter()
        .filter_map(|event| if let KeyingEvent::SentOn { path, .. } = event { Some(path.remote.port()) } else { None })
        .collect();
    assert_eq!(from, [4500], "the proved peer is where its proof came from");
    let closes = |pair: &Pair| {
        pair.b.sent.iter().filter(|sent| kind(&sent.octets) == (37, 0, false)).map(|sent| sent.path.remote.port()).collect::<Vec<_>>()
    };
    pair.pass_secs(29);
    assert_eq!((pair.b.established(), closes(&pair)), (vec![ike], vec![]));
    pair.pass_secs(2);
    assert_eq!(closes(&pair).first(), Some(&4500), "{}", pair.story());
    pair.pass_secs(300);
    assert!(pair.b.established().is_empty() && pair.b.kernel.added.is_empty());
}

//= rfc5685#5
//# the redirect of a session is repeated until it is answered, and carries no nonce
#[test]
fn a_lost_redirect_is_repeated() {
    let pair = listing(&[B, B2]).readable();
    // With this provider the text in SK can be read.
    let mut pair = started(pair);
    let before = pair.b.sent.len();
    let mut lost = 0;
    pair.filter = Some(Box::new(move |to, datagram| {
        let this = to == Side::A && kind(&datagram.octets) == (37, 0, false) && lost < 2;
        lost += usize::from(this);
        !this
    }));
    redirect(&mut pair, B2).unwrap();
    assert_eq!((peer_of(&pair), redirected(&pair)), (vec![ip(B)], 0));
    pair.pass_secs(20);
    assert_eq!((peer_of(&pair), redirected(&pair)), (vec![ip(B2)], 1));
    pair.assert_healthy(1, 1);
    let said: Vec<&[u8]> =
        pair.b.sent[before..].iter().filter(|sent| kind(&sent.octets) == (37, 0, false)).map(|sent| &sent.octets[..]).collect();
    assert!(said.len() == 3 && said.iter().all(|octets| *octets == said[0]), "{}", pair.story());
    // Length 8 + 18: the type and length of the address, the address, and nothing after them.
    let Ok(IpAddr::V6(gateway)) = B2.parse() else { panic!() };
    let whole = [&[0, 26, 0, 0, 0x40, 0x17, 2, 16][..], &gateway.octets()].concat();
    assert!(said[0].windows(whole.len()).any(|window| window == whole), "{:02x?}", said[0]);
}

/// Whoever sees IKE_SA_INIT can redirect it with the right nonce to where nobody answers (`follow_redirects = "any"`): it costs that wait.
#[test]
fn after_a_dead_end_without_proof_the_address_that_was_wanted_is_tried_again() {
    for listed in [&[B][..], &[B, B2]] {
        let mut pair = listing(listed);
        pair.a.config.remotes[0].gateways.follow = Follow::Any;
        silent(&mut pair, &[B3]);
        pair.want(Side::A, 0);
        pair.settle();
        for turn in 0..2 {
            let path = watari_sa::Path { local: (ip(A), 500).into(), remote: (ip(B), 500).into(), interface: 0 };
            // The attacker is faster than B each time.
            let request = Message::decode(&pair.a.sent.last().unwrap().octets).unwrap();
            let nonce =
                request.payloads.iter().find_map(|payload| if let Payload::Nonce(nonce) = payload { Some(nonce.clone()) } else { None });
            let forged = Redirect { gateway: GatewayIdentity::Address(ip(B3)), nonce: nonce.unwrap() };
            let notify = watari_wire::ikev2::Notify::new(NotifyType::REDIRECT, forged.encode());
            let header =
                Header::new(request.header.initiator_spi, 0, request.header.exchange, watari_wire::ikev2::Flags::new(false, true), 0);
            let octets = Message { header, payloads: vec![Payload::Notify(notify)] }.encode();
            let onto = pair.wire.iter().filter(|flying| flying.datagram.path.local.ip() == ip(B)).count();
            assert_eq!(onto, 1, "A calls B, turn {turn}");
            pair.deliver(Flying { to: Side::A, datagram: watari_sa::Datagram { path, octets } });
            if turn == 0 {
                // What B answers to a request that was given up is for nobody.
                pair.wire.retain(|flying| flying.datagram.path.local.ip() != ip(B));
                // Nothing of B arrives for now; the wait for B3 ends at the moment when A calls again.
                while pair.a.inits() < 3 {
                    pair.settle();
                    pair.wire.retain(|flying| flying.datagram.path.local.ip() != ip(B3));
                    if pair.a.inits() < 3 {
                        pair.now = pair.a.ike.deadline().unwrap().at;
                        let now = pair.now;
                        pair.a.handle(now, watari_sa::KeyingInput::Timeout);
                        pair.settle();
                    }
                }
            }
        }
        pair.run();
        assert_eq!((peer_of(&pair), redirected(&pair)), (vec![ip(B)], 1), "{}", pair.story());
        pair.assert_healthy(1, 1);
        assert_eq!(pair.a.count(|event| matches!(event, KeyingEvent::WantFailed { .. })), 0, "one wish, served in the end");
        assert_eq!(pair.a.config.remotes[0].remote_address, Some(ip(B)));
    }
}

/// A lists these addresses of B, is with B, and has just been told to go to B2, which does not answer yet.
fn leaving(addresses: &[&str], initial_contact: bool) -> Pair {
    let mut pair = listing(addresses);
    pair.a.config.remotes[0].remote_address = Some(ip(B));
    for host in [&mut pair.a, &mut pair.b] {
        host.config.remotes[0].initial_contact = initial_contact;
    }
    let mut pair = started(pair);
    assert_eq!(peer_of(&pair), [ip(B)]);
    silent(&mut pair, &[B2]);
    switch(&mut pair);
    pair.pass_secs(1);
    assert_eq!(pair.a.config.remotes[0].remote_address, Some(ip(B2)));
    pair
}

fn switch(pair: &mut Pair) {
    let now = pair.now;
    pair.a.with(now, |endpoint, context| endpoint.switch(context, watari_policies::RemoteId(0), &[ip(B2)], Cause::OPERATOR));
    pair.settle();
}

/// The IKE SA that is about to be left gets new keys, whoever wants them: it is its successor that is left, or stays.
#[test]
fn an_ike_sa_rekeyed_while_another_address_is_tried_is_left_or_stays() {
    for (serves, by) in [(true, Side::A), (true, Side::B), (false, Side::A), (false, Side::B)] {
        for addresses in [[B, B2], [B2, B]] {
            let mut pair = leaving(&addresses, false);
            let old = (pair.a.established()[0], pair.b.established()[0]);
            pair.rekey(by, watari_sa::Target::Ike(if by == Side::A { old.0 } else { old.1 }));
            pair.run();
            assert_ne!(pair.a.established()[0], old.0, "it was rekeyed");
            if serves {
                pair.filter = None;
            }
            pair.pass_secs(1200);
            let expected = if serves { B2 } else { B };
            assert_eq!(peer_of(&pair), [ip(expected)], "{serves} {by:?} {addresses:?}{}", pair.story());
            assert_eq!(pair.a.config.remotes[0].remote_address, Some(ip(expected)), "{serves} {by:?} {addresses:?}");
            pair.assert_healthy(1, 1);
            // What is wanted next goes there, and to no third one.
            pair.want(Side::A, 0);
            pair.pass_secs(60);
            assert_eq!((peer_of(&pair), pair.a.inits()), (vec![ip(expected)], 2), "{}", pair.story());
        }
    }
}

/// The peer restarts and calls by itself while another address of it is tried, which leads nowhere: what stands then is in force.
#[test]
fn a_peer_that_restarts_while_another_address_is_tried_is_stayed_with() {
    for addresses in [[B, B2], [B2, B]] {
        let mut pair = leaving(&addresses, true);
        restart(&mut pair, Side::B, true);
        pair.want(Side::B, 0);
        pair.run();
        pair.pass_secs(1200);
        assert_eq!(peer_of(&pair), [ip(B)], "{}", pair.story());
        assert_eq!(pair.a.config.remotes[0].remote_address, Some(ip(B)), "{addresses:?}");
        pair.assert_healthy(1, 1);
    }
}

/// At the other address the peer proves who it is and agrees to no child SA: the IKE SA that serves is not given up for that.
#[test]
fn an_address_where_no_child_comes_up_does_not_cost_the_one_that_serves() {
    let mut pair = started(listing(&[B, B2]));
    let spis = |pair: &Pair| pair.a.installed().into_iter().map(|child| child.inbound.spi).collect::<Vec<_>>();
    let (ikes, children) = (pair.a.established(), spis(&pair));
    for ipsec in &mut pair.b.config.ipsecs {
        ipsec.proposals = vec!["chacha20poly1305".parse().unwrap()];
    }
    switch(&mut pair);
    pair.run();
    assert_eq!(pair.a.established().len(), 2, "the new one stands{}", pair.story());
    pair.pass_secs(30);
    assert_eq!((pair.a.established(), spis(&pair)), (ikes, children), "{}", pair.story());
    assert_eq!(pair.a.config.remotes[0].remote_address, Some(ip(B)));
    pair.assert_healthy(1, 1);
}
