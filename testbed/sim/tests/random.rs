//! Generated scenarios: moves, rekeys, restarts and bad links in any order, then quiet. Whatever happened, in the end every
//! agent agrees with its kernel, nothing went in clear, and packets flow. WATARI_FIRST_SEED and WATARI_SEEDS choose the seeds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use watari_crypto::FakeProvider;
use watari_kernel::mirror::Model;
use watari_policies::Lifetime;
use watari_policies::profile::Protected;
use watari_sa::Rng;
use watari_sim::scenario::{Action, Conditions, Exchange, Expectation, HA, Link, PingTarget, Rekeyed};
use watari_sim::{Scenario, Setting, World};

/// A renewal that has so long cannot be cut off by trouble: longer than any story keeps a node without link.
const ROOM: Duration = Duration::from_secs(30);
/// Trouble lasts so long.
const TROUBLE: u64 = 60_000;
/// Then it is quiet for so long, because a binding update waits 32 s for its repeat; the last part is measured.
const QUIET: u64 = 140_000;
const MEASURED: u64 = 15_000;

fn pick<T: Copy>(rng: &mut Rng, list: &[T]) -> T {
    list[usize::try_from(rng.u64() % list.len() as u64).unwrap()]
}

fn action(rng: &mut Rng, restarts: bool) -> Action {
    let to = pick(rng, &[Link::F1, Link::F2, Link::F3, Link::Home]);
    let host = pick(rng, &["mn", HA]);
    let what = pick(rng, &[Rekeyed::Ike, Rekeyed::Child(Protected::Payload), Rekeyed::Child(Protected::Binding)]);
    let down = Duration::from_millis(100 + rng.u64() % 3000);
    match rng.u64() % if restarts { 11 } else { 8 } {
        0..=2 => Action::Move { node: "mn", to },
        3 => Action::MoveDuring { node: "mn", to, exchange: pick(rng, &[Exchange::CreateChild, Exchange::Auth, Exchange::Init]) },
        4..=7 => Action::Rekey { host, what },
        8 | 9 => Action::RestartDaemon { host, down },
        _ => Action::RestartHost { host, down },
    }
}

fn generate(seed: u64, restarts: bool) -> Scenario {
    let rng = &mut Rng::new([u8::try_from(seed % 251).unwrap(); 32]);
    let _ = rng.octets(usize::try_from(seed / 251 * 8).unwrap());
    let mut scenario = Scenario::new("random", "Generated.");
    scenario.conditions = match rng.u64() % 4 {
        0 => Conditions { loss: 100, duplicates: 50, reordered: 100, ..Conditions::GOOD },
        1 => Conditions { duplicates: 200, reordered: 300, ..Conditions::GOOD },
        _ => Conditions::GOOD,
    };
    scenario.binding_lifetime = Duration::from_secs(20);
    scenario.liveness = Duration::from_secs(10);
    if rng.u64().is_multiple_of(3) {
        scenario.child_lifetime = Lifetime::of(Duration::from_secs(25));
        scenario.ike_lifetime = Lifetime::of(Duration::from_secs(40));
    }
    let every = Duration::from_millis(400);
    scenario = scenario.then(5_000, Action::Ping { node: "mn", target: PingTarget::HomeAgent, every });
    let mut at = 6_000;
    while at < TROUBLE {
        at += match rng.u64() % 3 {
            0 => rng.u64() % 100,
            1 => rng.u64() % 2_000,
            _ => rng.u64() % 8_000,
        };
        scenario = scenario.then(at, action(rng, restarts));
    }
    // Away in the end, so that the payload tunnel is what is measured.
    scenario = scenario.then(TROUBLE + 8_000, Action::Move { node: "mn", to: Link::F3 });
    let target = pick(rng, &[PingTarget::HomeAgent, PingTarget::Correspondent, PingTarget::FromCorrespondent]);
    let every = Duration::from_millis(50);
    scenario = scenario.then(TROUBLE + QUIET - MEASURED, Action::Ping { node: "mn", target, every });
    scenario.duration = Duration::from_millis(TROUBLE + QUIET);
    if rng.u64().is_multiple_of(2) {
        // Renewed as often as before, but with time to do it in: here no trouble excuses an SA that ended.
        for lifetime in [&mut scenario.child_lifetime, &mut scenario.ike_lifetime] {
            lifetime.hard = lifetime.soft + 2 * ROOM;
        }
    }
    scenario
}

fn restarts(scenario: &Scenario) -> bool {
    scenario.steps.iter().any(|step| matches!(step.action, Action::RestartDaemon { .. } | Action::RestartHost { .. }))
}

/// What went wrong, with the timeline.
fn verdict(scenario: &Scenario, seed: u64, model: Model) -> Option<String> {
    let mut still = || Duration::ZERO;
    let mut world = World::new(scenario, seed, Setting { provider: Arc::new(FakeProvider), model }, &mut still);
    let report = world.run();
    let answered = report.pings_sent - report.pings_lost;
    let lossy = scenario.conditions.loss > 0;
    // Every twentieth of a second, four fifths of them where one in ten is lost at each of four crossings would be too many.
    let least = u32::try_from((MEASURED - 1_500) / 50).unwrap() * if lossy { 1 } else { 9 } / if lossy { 2 } else { 10 };
    let mut wrong: Vec<String> = Vec::new();
    let counted = ["in clear", "IKE left", "only the", "spins"];
    wrong.extend(report.reasons.iter().filter(|reason| counted.iter().any(|words| reason.contains(words))).cloned());
    if !restarts(scenario) {
        // Nobody lost its state: one handshake serves the whole story, besides those that a move cut off before they were answered.
        let inits = 1 + world.cut_off();
        if (report.ike_sa_init, report.reauthentications) != (inits, 0) {
            wrong.push(format!("{} IKE_SA_INIT ({inits} expected), {} re-authentications", report.ike_sa_init, report.reauthentications));
        }
        if scenario.child_lifetime.hard - scenario.child_lifetime.soft > ROOM {
            wrong.extend(world.lost().iter().cloned());
        }
    }
    if answered < least {
        wrong.push(format!("{answered} pings answered, {least} expected"));
    }
    if wrong.is_empty() {
        return None;
    }
    let mut text = format!("seed {seed} as {model:?}: {}\n", wrong.join("; "));
    for step in &scenario.steps {
        let _ = writeln!(text, "  {:?} {:?}", step.at, step.action);
    }
    for line in world.timeline() {
        let _ = writeln!(text, "{line}");
    }
    for datagram in world.ike_datagrams() {
        let octets = &datagram.octets;
        let (exchange, response, id) = (octets[18], octets[19] & 0x20 != 0, u32::from_be_bytes(octets[20..24].try_into().unwrap()));
        let spi = u16::from_be_bytes(octets[..2].try_into().unwrap());
        let _ = writeln!(
            text,
            "ike {:?} {} -> {} {spi:04x} exchange {exchange} id {id} response {response}",
            datagram.at, datagram.src, datagram.dst
        );
    }
    for (host, sa) in world.sas() {
        let _ = writeln!(text, "{host} {} {} -> {} reqid {} {} packets", sa.spi, sa.src, sa.dst, sa.reqid.0, sa.packets);
    }
    Some(text)
}

fn all_settle(restarts: bool) {
    let seeds = std::env::var("WATARI_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(40);
    let first = std::env::var("WATARI_FIRST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let failures: Vec<String> = (first..=seeds)
        .filter_map(|seed| {
            let scenario = Scenario { expect: Expectation::USUAL, ..generate(seed, restarts) };
            verdict(&scenario, seed, if seed % 2 == 0 { Model::Linux6_1 } else { Model::Linux6_12 })
        })
        .collect();
    let heads: Vec<&str> = failures.iter().filter_map(|failure| failure.lines().next()).collect();
    assert!(failures.is_empty(), "{}\n{} of {seeds} failed: {heads:#?}", failures.join("\n"), failures.len());
}

#[test]
fn moves_and_rekeys_settle() {
    all_settle(false);
}

#[test]
fn restarts_settle() {
    all_settle(true);
}
