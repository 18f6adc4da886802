//! One mobile node moves while the home agent serves 1, 100, 1,000 and 10,000: time from the MIGRATE event entering the engine to
//! the first IKE packet leaving. Invariant to show: the size of the table does not matter.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use watari_engine::{Input, Output};

use crate::instant::{World, care_of, home_address, migrate, now};

const TABLES: [u32; 4] = [1, 100, 1_000, 10_000];
const WARM_UP: u32 = 50;
const MOVES: u32 = 400;
/// Largest allowed ratio of the medians at 10,000 nodes and at one.
const BOUND: f64 = 2.0;

/// Measures and prints; false if the ratio reaches the bound.
pub(super) fn run() -> Result<bool, String> {
    println!("handover: six policies and three children a node; MIGRATE event in -> first IKE packet out, at the home agent");
    println!("{:>8}  {:>10}  {:>10}  {:>12}", "nodes", "median us", "p99 us", "all 6 events");
    let mut medians = Vec::new();
    for nodes in TABLES {
        let begin = Instant::now();
        let mut world = World::registered(nodes)?;
        let prepared = begin.elapsed();
        let (mut first, mut whole) = measure(&mut world, nodes)?;
        first.sort_unstable();
        whole.sort_unstable();
        let median = percentile(&first, 50);
        println!(
            "{nodes:>8}  {:>10.1}  {:>10.1}  {:>12.1}   (table made in {:.1} s)",
            micros(median),
            micros(percentile(&first, 99)),
            micros(percentile(&whole, 50)),
            prepared.as_secs_f64()
        );
        medians.push(micros(median));
    }
    let ratio = match (medians.first(), medians.last()) {
        (Some(one), Some(many)) if *one > 0.0 => many / one,
        _ => return Err("nothing was measured".to_owned()),
    };
    println!("ratio 10,000 : 1 = {ratio:.2} (must stay below {BOUND})");
    Ok(ratio < BOUND)
}

fn measure(world: &mut World, nodes: u32) -> Result<(Vec<Duration>, Vec<Duration>), String> {
    let (mut first, mut whole) = (Vec::new(), Vec::new());
    let mut links = vec![1_u16; usize::try_from(nodes).unwrap_or(0)];
    for number in 0..WARM_UP + MOVES {
        // One node moves again and again: what the others cost is the size of the tables, not a cold cache.
        let node = nodes / 2;
        let index = usize::try_from(node).unwrap_or(0);
        let (from, to) = (links[index], if links[index] == 1 { 2 } else { 1 });
        links[index] = to;
        let (old, new) = (care_of(node, from), care_of(node, to));
        let at = now(1_000 * u64::from(number + 1));
        let home = home_address(node);
        let config = &world.nodes[index].config;
        let own = migrate(config, home, old, new, true);
        let events = mirrored(own, new);
        let begin = Instant::now();
        let mut first_packet = None;
        let mut outputs = VecDeque::new();
        for event in events {
            let agent = &mut world.home_agent.agent;
            agent.handle(at, Input::Kernel(event));
            loop {
                match agent.poll() {
                    Output::Wait(_) => break,
                    output => {
                        if matches!(output, Output::Transmit(_)) {
                            first_packet.get_or_insert_with(|| begin.elapsed());
                        }
                        outputs.push_back(output);
                    }
                }
            }
        }
        let all = begin.elapsed();
        let first_packet = first_packet.ok_or_else(|| format!("no IKE packet left when node {node} moved"))?;
        world.home_agent.settle(at, outputs);
        world.follow(index, old, new, at);
        if number >= WARM_UP {
            first.push(first_packet);
            whole.push(all);
        }
    }
    Ok((first, whole))
}

/// The home agent's view of the same messages: its policies are the other direction of the node's.
fn mirrored(events: Vec<watari_kernel::KernelEvent>, new: std::net::IpAddr) -> Vec<watari_kernel::KernelEvent> {
    use watari_kernel::{KernelEvent, KmAddress};
    use watari_policies::Direction;
    events
        .into_iter()
        .map(|event| match event {
            KernelEvent::Migrate(mut migrate) => {
                migrate.direction = if migrate.direction == Direction::Out { Direction::In } else { Direction::Out };
                migrate.kmaddress = Some(KmAddress { local: crate::instant::HOME_AGENT, remote: new });
                KernelEvent::Migrate(migrate)
            }
            other => other,
        })
        .collect()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let at = sorted.len().saturating_sub(1) * percent / 100;
    sorted.get(at).copied().unwrap_or_default()
}
