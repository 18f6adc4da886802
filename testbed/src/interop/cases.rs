//! The cases against strongSwan 5.9.8.

use std::time::Duration;

use super::case::{Case, Family, Mode, Program, Proof, Step, Suite, Terms, Traffic, Who};
use Step::{
    Acquire, CollideChild, CollideIke, Crash, DeleteChild, DeleteIke, HalfOpen, Initiate, Liveness, Lossy, Mobility, NoticeDeath, Outlive,
    Ping, Recovered, Redirect, Refused, RekeyChild, RekeyIke, Restart, Wait,
};
use Who::{Peer, Us};

/// What most cases use: everything tshark can read and the kernel does fast.
const USUAL: Suite = Suite::same("aes128gcm16-prfsha256-x25519", "aes128gcm16");

const PLAIN: Terms = Terms {
    family: Family::V6,
    mode: Mode::Transport,
    traffic: Traffic::Any,
    suite: USUAL,
    proof: Proof::SharedKey,
    mobike: false,
    liveness: None,
    peer_traps: false,
    cookies: None,
    wide: None,
    redirects: false,
    short_lived: false,
    unaddressed: false,
    assigned: None,
    wrong_secret: false,
};

fn case(name: impl Into<String>, says: &'static str, terms: Terms, steps: impl Into<Vec<Step>>) -> Case {
    Case { name: name.into(), says, left: Program::Watari, terms, steps: steps.into(), ike_sa_init: 1, excused: &[] }
}

/// A case in which strongSwan speaks of a group that will not do.
fn invalid(case: Case) -> Case {
    Case { excused: &["INVAL_KE", "INVALID_KE", "didn't accept", "unacceptable"], ..case }
}

/// A case in which Watari answers so fast that charon, still at the first answer, may drop the second and has to ask again.
fn hasty(case: Case) -> Case {
    Case { excused: &["already processing", "retransmit", "INVAL_KE", "INVALID_KE", "didn't accept", "unacceptable"], ..case }
}

/// Every case, in the order in which they run.
pub(super) fn all() -> Vec<Case> {
    [control(), lifecycles(), rekeys(), ends(), redirects(), liveness(), selectors(), suites(), certificates(), troubles()].concat()
}

/// strongSwan with itself through a whole life: proves the harness.
fn control() -> Vec<Case> {
    let terms = Terms { mode: Mode::Tunnel, mobike: true, liveness: Some(Us), ..PLAIN };
    let steps = [
        Initiate(Us),
        Ping,
        RekeyChild(Us),
        RekeyChild(Peer),
        RekeyIke(Us),
        RekeyIke(Peer),
        Liveness(Us),
        DeleteChild(Peer),
        DeleteIke(Us),
    ];
    let control = case("control-tunnel", "strongSwan with itself: the harness can pass", terms, steps);
    let typed = Terms { traffic: Traffic::MobilityHeader, peer_traps: true, ..PLAIN };
    let steps = [Acquire(Peer), Mobility(Us, 6), Mobility(Peer, 5), DeleteIke(Us)];
    let selectors = case("control-mobility-header", "strongSwan with itself: protocol 135 by a trap policy", typed, steps);
    [control, selectors].map(|case| Case { left: Program::Strongswan, ..case }).into()
}

/// Both roles, both modes, MOBIKE on and off: up, traffic, every rekey by either side, down.
fn lifecycles() -> Vec<Case> {
    let mut cases = Vec::new();
    for (mode, mode_name) in [(Mode::Transport, "transport"), (Mode::Tunnel, "tunnel")] {
        for (initiator, role) in [(Us, "initiator"), (Peer, "responder")] {
            for mobike in [false, true] {
                let name = format!("{mode_name}-{role}-{}", if mobike { "mobike" } else { "plain" });
                let terms = Terms { mode, mobike, ..PLAIN };
                let other = initiator.other();
                let steps =
                    [Initiate(initiator), Ping, RekeyChild(initiator), RekeyIke(other), RekeyChild(other), Ping, DeleteIke(initiator)];
                cases.push(case(name, "up, traffic, child and IKE rekey, down", terms, steps));
            }
        }
    }
    let v4 = Terms { family: Family::V4, mode: Mode::Tunnel, ..PLAIN };
    let steps = [Initiate(Us), Ping, RekeyChild(Peer), RekeyIke(Us), DeleteIke(Peer)];
    cases.push(case("tunnel-ipv4", "the same over IPv4", v4, steps));
    let client = Terms { assigned: Some(Us), mode: Mode::Tunnel, ..PLAIN };
    let steps = [Recovered, Ping, RekeyChild(Us), RekeyIke(Us), RekeyIke(Peer), RekeyChild(Peer), Ping, DeleteIke(Peer)];
    cases.push(case("road-warrior", "Watari asks for the address inside the tunnel, strongSwan has one in its pool", client, steps));
    let gateway = Terms { assigned: Some(Peer), ..client };
    let steps = [Initiate(Peer), Ping, RekeyChild(Peer), RekeyIke(Peer), RekeyIke(Us), RekeyChild(Us), Ping, DeleteIke(Us)];
    cases.push(case("gateway", "strongSwan asks for the address inside the tunnel, Watari has one in its pool", gateway, steps));
    let unsaid = Terms { unaddressed: true, ..v4 };
    let steps = [Initiate(Us), Ping, RekeyChild(Us), RekeyIke(Peer), Ping, DeleteIke(Us)];
    cases.push(case("own-address-unsaid", "Watari's configuration does not say which address it calls from", unsaid, steps));
    cases
}

/// Rekeys one by one, repeated and crossing.
fn rekeys() -> Vec<Case> {
    let tunnel = Terms { mode: Mode::Tunnel, ..PLAIN };
    // Two threads of charon may take a request and its repeat; it says so.
    let crossing = |name: &str, says, terms, steps: [Step; 4]| Case {
        excused: &["already processing", "retransmit"],
        ..case(name, says, terms, steps)
    };
    let esp = Suite { our_esp: "aes128gcm16-x25519-ecp256", peer_esp: "aes128gcm16-ecp256", ..USUAL };
    let guess = Terms { suite: esp, ..tunnel };
    let pfs = Terms { suite: Suite::same("aes128gcm16-prfsha256-x25519", "aes128gcm16-x25519"), ..tunnel };
    vec![
        case("rekey-child-by-us", "child rekeyed twice by Watari", tunnel, [Initiate(Us), RekeyChild(Us), RekeyChild(Us)]),
        case("rekey-child-by-peer", "child rekeyed twice by strongSwan", tunnel, [Initiate(Us), RekeyChild(Peer), RekeyChild(Peer)]),
        case(
            "rekey-child-pfs",
            "child rekeyed by either side with a key exchange of its own",
            pfs,
            [Initiate(Us), RekeyChild(Us), RekeyChild(Peer)],
        ),
        case("rekey-ike-by-us", "IKE SA rekeyed twice by Watari", tunnel, [Initiate(Peer), RekeyIke(Us), RekeyIke(Us), RekeyChild(Peer)]),
        case(
            "rekey-ike-by-peer",
            "IKE SA rekeyed twice by strongSwan",
            tunnel,
            [Initiate(Peer), RekeyIke(Peer), RekeyIke(Peer), RekeyChild(Us)],
        ),
        case(
            "rekey-ike-alternating",
            "IKE SA rekeyed by each in turn: roles swap",
            tunnel,
            [Initiate(Us), RekeyIke(Peer), RekeyIke(Us), RekeyIke(Peer), Ping],
        ),
        invalid(case(
            "rekey-child-group",
            "Watari's first group for the child is not strongSwan's: INVALID_KE_PAYLOAD",
            guess,
            [Initiate(Us), RekeyChild(Us)],
        )),
        crossing("collide-child", "both sides rekey the child at once", tunnel, [Initiate(Us), CollideChild, CollideChild, Ping]),
        crossing("collide-ike", "both sides rekey the IKE SA at once", tunnel, [Initiate(Us), CollideIke, CollideIke, Ping]),
    ]
}

/// Deletes by either side, and what comes after.
fn ends() -> Vec<Case> {
    let again = |says, name: &str, steps: &[Step], inits| Case { ike_sa_init: inits, ..case(name, says, PLAIN, steps) };
    let steered = [Initiate(Us), Ping, RekeyChild(Us), RekeyIke(Us), RekeyChild(Peer), DeleteChild(Us), Initiate(Us), DeleteIke(Us)];
    let terms = Terms { mode: Mode::Tunnel, ..PLAIN };
    let by_swanctl = case("swanctl", "strongSwan's own client steers Watari over the control socket and reads its lists", terms, steered);
    vec![
        Case { left: Program::WatariBySwanctl, ..by_swanctl },
        again(
            "child deleted by Watari, made again on the same IKE SA",
            "delete-child-by-us",
            &[Initiate(Us), DeleteChild(Us), Initiate(Us), Ping],
            1,
        ),
        again(
            "child deleted by strongSwan, made again on the same IKE SA",
            "delete-child-by-peer",
            &[Initiate(Us), DeleteChild(Peer), Initiate(Peer), Ping],
            1,
        ),
        again("IKE SA deleted by Watari, made again", "delete-ike-by-us", &[Initiate(Us), DeleteIke(Us), Initiate(Us), Ping], 2),
        again(
            "IKE SA deleted by strongSwan, made again by it",
            "delete-ike-by-peer",
            &[Initiate(Us), DeleteIke(Peer), Initiate(Peer), Ping],
            2,
        ),
    ]
}

/// Redirects in a session (RFC 5685), by either side.
fn redirects() -> Vec<Case> {
    let terms = Terms { mode: Mode::Tunnel, redirects: true, ..PLAIN };
    let moved = |name: &str, says, initiator: Who| {
        let steps = [Initiate(initiator), Ping, Redirect(initiator.other()), Ping, RekeyIke(Us), RekeyChild(Peer), DeleteIke(initiator)];
        Case { ike_sa_init: 2, ..case(name, says, terms, steps) }
    };
    vec![
        moved("redirect-by-peer", "strongSwan sends Watari on to its second address", Us),
        moved("redirect-by-us", "Watari sends strongSwan on to its second address", Peer),
    ]
}

/// Liveness checks, and a peer that is gone.
fn liveness() -> Vec<Case> {
    let by = |who| Terms { mode: Mode::Tunnel, liveness: Some(who), ..PLAIN };
    let crash = |name: &str, says, steps: &[Step], terms, inits| Case {
        ike_sa_init: inits,
        excused: &["retransmit", "giving up"],
        ..case(name, says, terms, steps)
    };
    vec![
        case("liveness-by-us", "Watari checks an idle peer", by(Us), [Initiate(Us), Liveness(Us), Ping]),
        case("liveness-by-peer", "strongSwan checks an idle Watari", by(Peer), [Initiate(Us), Liveness(Peer), Ping]),
        crash("dead-us", "strongSwan notices that Watari died", &[Initiate(Us), Crash(Us), NoticeDeath(Peer)], by(Peer), 1),
        crash("dead-peer", "Watari notices that strongSwan died", &[Initiate(Us), Crash(Peer), NoticeDeath(Us)], by(Us), 1),
        crash(
            "restart-us",
            "Watari starts again beside its old SAs, which go",
            &[Initiate(Us), Crash(Us), Restart(Us), Recovered, Ping],
            PLAIN,
            2,
        ),
        crash(
            "restart-peer",
            "strongSwan starts again and says so: INITIAL_CONTACT",
            &[Initiate(Us), Crash(Peer), Restart(Peer), Initiate(Peer), Ping],
            PLAIN,
            2,
        ),
    ]
}

/// Selectors of Mobile IPv6 as strongSwan understands them.
fn selectors() -> Vec<Case> {
    let mobility = Terms { traffic: Traffic::MobilityHeader, ..PLAIN };
    let trap = Terms { peer_traps: true, ..mobility };
    let both = [Mobility(Us, 5), Mobility(Peer, 6)];
    let with = |first: Step| [[first].as_slice(), &both, &[RekeyChild(Us), Mobility(Us, 5), RekeyChild(Peer), Mobility(Peer, 6)]].concat();
    let wide = |who| Terms { mode: Mode::Tunnel, wide: Some(who), ..PLAIN };
    let icmp = Terms { traffic: Traffic::Icmpv6, ..PLAIN };
    vec![
        case("mobility-header-initiator", "protocol 135, every type, proposed by Watari", mobility, with(Initiate(Us))),
        case("mobility-header-responder", "protocol 135, every type, proposed by strongSwan", mobility, with(Initiate(Peer))),
        case("mobility-header-acquire", "a binding update makes Watari negotiate", mobility, with(Acquire(Us))),
        case(
            "mobility-header-trap",
            "strongSwan's trap puts an unshifted type first: narrowed to the second selector",
            trap,
            with(Acquire(Peer)),
        ),
        case("acquire-transport", "the first packet makes Watari negotiate", PLAIN, [Acquire(Us), Ping]),
        case(
            "acquire-tunnel",
            "the first packet makes Watari negotiate a tunnel",
            Terms { mode: Mode::Tunnel, ..PLAIN },
            [Acquire(Us), Ping],
        ),
        case(
            "trap-transport",
            "strongSwan's trap puts the packet's own selector first",
            Terms { peer_traps: true, ..PLAIN },
            [Acquire(Peer), Ping],
        ),
        case(
            "narrowed-by-peer",
            "Watari proposes networks, strongSwan narrows to two addresses",
            wide(Us),
            [Initiate(Us), Ping, RekeyChild(Us), RekeyChild(Peer)],
        ),
        case(
            "narrowed-by-us",
            "strongSwan proposes networks, Watari narrows to two addresses",
            wide(Peer),
            [Initiate(Peer), Ping, RekeyChild(Us), RekeyChild(Peer)],
        ),
        case("icmpv6", "protocol 58, every type and code", icmp, [Initiate(Us), Ping, RekeyChild(Peer), DeleteIke(Us)]),
    ]
}

/// Algorithms; a first guess of the group that is wrong; cookies.
fn suites() -> Vec<Case> {
    let (one_group, two_groups) = ("aes128gcm16-prfsha256-ecp256", "aes128gcm16-prfsha256-x25519-ecp256");
    let we_guess = Terms { suite: Suite { our_ike: two_groups, peer_ike: one_group, ..USUAL }, ..PLAIN };
    let peer_guesses = Terms { suite: Suite { our_ike: one_group, peer_ike: two_groups, ..USUAL }, ..PLAIN };
    let inits = |number, case| Case { ike_sa_init: number, ..case };
    let cookies = Terms { cookies: Some(Us), ..PLAIN };
    // The stranger's datagram must not meet a policy; strongSwan takes no cookie in its first ten seconds (an underflow).
    let busy = Terms { mode: Mode::Tunnel, cookies: Some(Peer), ..PLAIN };
    let patience = Wait(Duration::from_secs(12));
    let one = |name: &str, suite| {
        case(format!("suite-{name}"), "these algorithms, both roles", Terms { suite, ..PLAIN }, [Initiate(Us), Ping, DeleteIke(Peer)])
    };
    let same = |name: &str, ike, esp| one(name, Suite::same(ike, esp));
    vec![
        same("cbc128-sha256-modp2048", "aes128-sha256-modp2048", "aes128-sha256"),
        same("cbc256-sha384-ecp384", "aes256-sha384-ecp384", "aes256-sha384"),
        same("cbc256-sha512-modp3072", "aes256-sha512-modp3072", "aes256-sha512"),
        same("cbc192-sha1-modp4096", "aes192-sha1-modp4096", "aes192-sha1"),
        same("gcm256-sha384-ecp256", "aes256gcm16-prfsha384-ecp256", "aes256gcm16"),
        one("chacha20-x25519", Suite { readable: false, ..Suite::same("chacha20poly1305-prfsha512-x25519", "chacha20poly1305") }),
        same("gcm8-modp2048", "aes128gcm8-prfsha1-modp2048", "aes128gcm8"),
        same("gcm12-ecp384", "aes256gcm12-prfsha512-ecp384", "aes256gcm12"),
        same("null-sha256", "aes128-sha256-x25519", "null-sha256"),
        same("gcm128-esn", "aes128gcm16-prfsha256-x25519", "aes128gcm16-esn"),
        invalid(inits(2, case("group-by-us", "Watari's first group is not strongSwan's", we_guess, [Initiate(Us), Ping]))),
        hasty(inits(2, case("group-by-peer", "strongSwan's first group is not Watari's", peer_guesses, [Initiate(Peer), Ping]))),
        inits(3, case("cookie-by-peer", "strongSwan asks for a cookie", busy, [patience, HalfOpen, Initiate(Us), Ping])),
        hasty(inits(2, case("cookie-by-us", "Watari asks for a cookie", cookies, [Initiate(Peer), Ping]))),
    ]
}

/// Certificates, with an address as IDi that stands in the SubjectAltName. strongSwan sends its own only because Watari asks for it.
fn certificates() -> Vec<Case> {
    let with = |proof| Terms { mode: Mode::Tunnel, proof, ..PLAIN };
    let steps = |who: Who| [Initiate(who), Ping, RekeyIke(who.other()), RekeyChild(who), DeleteIke(who)];
    vec![
        case(
            "certificate-initiator",
            "Watari by ECDSA and its address over a CA in between, strongSwan by RSA",
            with(Proof::EcdsaAndRsa),
            steps(Us),
        ),
        case("certificate-responder", "strongSwan by ECDSA and its address, Watari by RSA", with(Proof::RsaAndEcdsa), steps(Peer)),
        case("certificate-and-key", "Watari by a certificate, strongSwan by a shared key", with(Proof::EcdsaAndKey), steps(Us)),
    ]
}

/// Short lives, a bad link, and peers that cannot agree.
fn troubles() -> Vec<Case> {
    let tunnel = Terms { mode: Mode::Tunnel, ..PLAIN };
    let short = Terms { short_lived: true, ..tunnel };
    let stranger = Terms { wrong_secret: true, ..tunnel };
    let other_ike = Terms { suite: Suite { our_ike: "aes256gcm16-prfsha384-ecp384", ..USUAL }, ..tunnel };
    let other_esp = Terms { suite: Suite { our_esp: "aes256-sha512", ..USUAL }, ..tunnel };
    // Without a common child the IKE SA stands all the same (RFC 7296 1.3).
    let refused = |name: &str, says, terms: Terms, who| Case {
        excused: &[
            "WARN",
            "NO_PROP",
            "NO_PROPOSAL",
            "AUTH_FAILED",
            "AUTHENTICATION_FAILED",
            "failed",
            "mismatch",
            "unacceptable",
            "no acceptable",
        ],
        ..case(name, says, terms, [Refused(who, usize::from(terms == other_esp))])
    };
    vec![
        Case {
            excused: &[
                "TEMP_FAIL",
                "TEMPORARY_FAILURE",
                "NO_CHILD",
                "CHILD_SA_NOT_FOUND",
                "CHILD_NOT_FOUND",
                "not found for",
                "already processing",
            ],
            ..case(
                "lifetimes",
                "both rekey child and IKE SA every few seconds, under traffic",
                short,
                [Initiate(Us), Outlive(Duration::from_secs(10)), DeleteIke(Us)],
            )
        },
        Case {
            excused: &["retransmit", "already processing", "ignor", "unexpected"],
            ..case(
                "lossy-link",
                "every rekey although a fifth of all packets is lost each way",
                tunnel,
                [Initiate(Us), Lossy(20), RekeyChild(Us), RekeyChild(Peer), RekeyIke(Us), RekeyIke(Peer), Lossy(0), Ping, DeleteIke(Us)],
            )
        },
        refused("wrong-secret-initiator", "strongSwan has another secret: Watari is told", stranger, Us),
        refused("wrong-secret-responder", "strongSwan has another secret: it is told", stranger, Peer),
        refused("no-ike-proposal-initiator", "no common IKE algorithms: Watari is told", other_ike, Us),
        refused("no-ike-proposal-responder", "no common IKE algorithms: strongSwan is told", other_ike, Peer),
        refused("no-esp-proposal-initiator", "no common ESP algorithms: Watari is told", other_esp, Us),
        refused("no-esp-proposal-responder", "no common ESP algorithms: strongSwan is told", other_esp, Peer),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_fit_file_names() {
        let names: Vec<String> = all().into_iter().map(|case| case.name).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        assert!(
            names.iter().all(|name| name.bytes().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == b'-'))
        );
    }
}
