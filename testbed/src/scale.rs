//! The runs of many mobile nodes: in the simulator all ends are engines over in-memory kernels; on a real kernel the home agent is
//! watarid there, and the nodes are engines in one process.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use watari_sim::fleet;

use crate::bench::memory::resident;
use crate::real;
use crate::run::BackendName;

/// A run under its name, with as many nodes as each back end takes.
pub(crate) struct Run {
    /// Its name in `list` and `run`.
    pub(crate) name: &'static str,
    /// What it shows.
    pub(crate) sentence: &'static str,
    simulated: u32,
    real: u32,
}

/// Every such run.
pub(crate) const RUNS: [Run; 2] = [
    Run {
        name: "scale",
        sentence: "many mobile nodes of one home agent (1,000 simulated, 20 on a real kernel) all move within a minute",
        simulated: 1_000,
        real: 20,
    },
    Run {
        name: "scale-long",
        sentence: "very many mobile nodes of one home agent (10,000 simulated, 200 on a real kernel) all move within a minute",
        simulated: 10_000,
        real: 200,
    },
];

/// The run that `check` makes, or `check --long`.
pub(crate) const fn of(long: bool) -> &'static Run {
    let [short, very] = &RUNS;
    if long { very } else { short }
}

/// The run of this name.
pub(crate) fn named(name: &str) -> Option<&'static Run> {
    RUNS.iter().find(|run| run.name == name)
}

/// What a run came to.
pub(crate) struct Outcome {
    /// Whether every node kept its SAs and was heard after its move.
    pub(crate) passed: bool,
    /// In one line.
    pub(crate) words: String,
    /// What was not as expected.
    pub(crate) reasons: Vec<String>,
    json: Value,
}

impl Run {
    /// Runs it.
    ///
    /// # Errors
    /// Why it could not be run at all.
    pub(crate) fn run(&self, backend: BackendName, seed: u64) -> Result<Outcome, String> {
        match backend.kernel() {
            None => self.simulate(seed),
            Some(kernel) => Ok(self.told(&real::scale::on(kernel, self.real, seed)?, backend, seed)),
        }
    }

    fn simulate(&self, seed: u64) -> Result<Outcome, String> {
        let (begin, before) = (Instant::now(), resident());
        let nodes = self.simulated;
        let plan = fleet::Plan { nodes, seed, within: Duration::from_secs(60), loss: 10, ike_lifetime: 14_400 };
        let (outcome, thought) = fleet::timed(plan, &mut processor_time)?;
        let per_move = thought.as_micros() as f64 / f64::from(nodes);
        let peak = before.zip(peak()).map(|(before, peak)| peak.saturating_sub(before) / u64::from(nodes));
        let passed = outcome.is_sound(nodes);
        let words = format!(
            "{nodes} nodes moved, {} handshakes, {} SA pairs, none lost; a move takes the home agent {per_move:.0} us of processor, \
             a node {} of memory, both ends together; {:.1} s in all",
            outcome.handshakes,
            outcome.pairs,
            kilobytes(peak),
            begin.elapsed().as_secs_f64()
        );
        let json = json!({
            "run": self.name, "backend": BackendName::Sim.name(), "seed": seed, "nodes": nodes, "passed": passed,
            "handshakes": outcome.handshakes, "sa_pairs": outcome.pairs, "answered_after_move": outcome.confirmed,
            "datagrams": outcome.datagrams.0, "datagrams_lost": outcome.datagrams.1, "memory_per_node": peak,
            "home_agent_us_per_move": per_move, "reasons": outcome.faults,
        });
        let words = if passed { words } else { format!("{outcome:?}") };
        Ok(Outcome { passed, words, reasons: outcome.faults, json })
    }

    fn told(&self, seen: &real::scale::Sights, backend: BackendName, seed: u64) -> Outcome {
        let passed = seen.reasons.is_empty();
        let words = format!(
            "{} nodes moved in {:.1} s, {} handshakes, {} SAs, none lost; watarid takes {} for each node",
            self.real,
            Duration::from_millis(seen.moved_ms).as_secs_f64(),
            seen.handshakes,
            seen.sas,
            kilobytes(seen.memory_per_node),
        );
        let mut json = json!(seen);
        for (key, value) in [("run", json!(self.name)), ("backend", json!(backend.name())), ("seed", json!(seed))] {
            json[key] = value;
        }
        json["nodes"] = json!(self.real);
        json["passed"] = json!(passed);
        let words = if passed { words } else { seen.reasons.join("; ") };
        Outcome { passed, words, reasons: seen.reasons.clone(), json }
    }
}

/// Runs it and prints what it came to.
///
/// # Errors
/// Why it could not be run at all.
pub(crate) fn one(run: &Run, backend: BackendName, seed: u64, as_json: bool) -> Result<bool, String> {
    if !as_json {
        println!("{}: {} ({}, seed {seed})", run.name, run.sentence, backend.name());
    }
    let outcome = run.run(backend, seed)?;
    if as_json {
        println!("{}", outcome.json);
        return Ok(outcome.passed);
    }
    println!("{}", outcome.words);
    outcome.reasons.iter().for_each(|reason| println!("  not as expected: {reason}"));
    println!("{}", if outcome.passed { "passed" } else { "FAILED" });
    Ok(outcome.passed)
}

/// Processor time of this thread.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// The most octets this process ever held, from /proc/self/status; the fleet is gone when it has been run.
fn peak() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

fn kilobytes(octets: Option<u64>) -> String {
    octets.map_or_else(|| "an unknown amount of memory".to_owned(), |octets| format!("{:.1} kB", octets as f64 / 1000.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_fails_a_run_and_is_told() {
        let [short, _] = &RUNS;
        let mut seen = real::scale::Sights { handshakes: 20, sas: 80, moved_ms: 4000, ..Default::default() };
        let good = short.told(&seen, BackendName::Uml, 1);
        assert!(good.passed && good.words.contains("20 nodes moved in 4.0 s"), "{}", good.words);
        seen.reasons.push("mn3.example has no SA".to_owned());
        let bad = short.told(&seen, BackendName::Uml, 1);
        assert!(!bad.passed && bad.words.contains("mn3") && bad.json["passed"] == json!(false), "{}", bad.json);
    }

    #[test]
    fn check_makes_the_small_run_and_its_long_form_the_big_one() {
        assert_eq!([of(false), of(true)].map(|run| (run.simulated, run.real)), [(1_000, 20), (10_000, 200)]);
        assert!(named("scale-long").is_some() && named("scale-short").is_none());
    }
}
