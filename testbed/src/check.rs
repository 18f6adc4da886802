//! `check`: the stages that must pass, in order, with the minutes each took. A stage that cannot run is skipped in words;
//! under CI a skip is a failure.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::run::BackendName;
use crate::{bench, fuzz, interop, real, run, scale, uml};

/// How a stage ended.
enum Outcome {
    /// Passed, with a word on what was seen.
    Passed(String),
    /// Failed, with the reason.
    Failed(String),
    /// Could not run, with the reason.
    Skipped(String),
}

struct Stage {
    name: &'static str,
    run: fn(&Depth) -> Outcome,
}

struct Depth {
    long: bool,
}

const STAGES: &[Stage] = &[
    Stage { name: "format", run: |_| cargo(&["fmt", "--all", "--check"]) },
    Stage { name: "clippy", run: |_| cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]) },
    Stage { name: "FreeBSD: cargo check", run: freebsd },
    Stage { name: "unit", run: |_| cargo(&["test", "--workspace", "--locked"]) },
    Stage { name: "simulation", run: simulation },
    Stage { name: "scale", run: |depth| scale(depth, BackendName::Sim) },
    Stage { name: "fuzz", run: |depth| verdict(fuzz::run(if depth.long { 300 } else { 3 }, 1), "no input did harm") },
    Stage { name: "real kernel: smoke", run: smoke },
    Stage { name: "real kernel: acts", run: |_| verdict(real::acts(), "mirror and Linux agree on every act") },
    Stage { name: "real kernel: pfkey conformance", run: |_| verdict(real::conformance(), "PF_KEY and XFRM tell the same") },
    Stage { name: "real kernel: back end", run: |_| verdict(real::back_end(), "requests and events mean on Linux what they say") },
    Stage { name: "real kernel: control", run: |_| verdict(real::control(), "watari does on live daemons what it says") },
    Stage { name: "real kernel: scenarios", run: |_| scenarios(BackendName::Uml) },
    Stage { name: "real kernel: scale", run: |depth| scale(depth, BackendName::Uml) },
    Stage { name: "real kernel 6.12: scenarios", run: newer_kernel },
    Stage { name: "peers: strongSwan", run: |_| verdict(interop::run("strongswan", None), "every case passed") },
];

/// What only `--long` runs.
const LONG_STAGES: &[Stage] = &[Stage { name: "benchmarks", run: |_| verdict(bench::run(None), "within bounds") }];

/// Runs the stages; true if nothing failed.
pub(crate) fn run(long: bool, only: Option<&str>) -> Result<bool, String> {
    let strict = std::env::var_os("CI").is_some();
    let depth = Depth { long };
    let mut lines = Vec::new();
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for stage in STAGES.iter().chain(if long { LONG_STAGES } else { &[] }).filter(|stage| only.is_none_or(|part| stage.name.contains(part)))
    {
        println!("== {}", stage.name);
        let begin = Instant::now();
        let outcome = (stage.run)(&depth);
        let took = minutes(begin.elapsed());
        let line = match outcome {
            Outcome::Passed(words) => {
                passed += 1;
                format!("passed   {took}  {}: {words}", stage.name)
            }
            Outcome::Failed(why) => {
                failed += 1;
                format!("FAILED   {took}  {}: {why}", stage.name)
            }
            Outcome::Skipped(why) if strict && !stage.name.contains("6.12") => {
                failed += 1;
                format!("FAILED   {took}  {}: skipped, which CI does not allow: {why}", stage.name)
            }
            Outcome::Skipped(why) => {
                skipped += 1;
                format!("skipped  {took}  {}: {why}", stage.name)
            }
        };
        println!("{line}");
        lines.push(line);
    }
    println!("\n== summary");
    for line in &lines {
        println!("{line}");
    }
    println!("stages: {passed} passed, {failed} failed, {skipped} skipped");
    Ok(failed == 0)
}

fn minutes(time: Duration) -> String {
    format!("{:4.1} min", time.as_secs_f64() / 60.0)
}

/// Runs cargo with the same profile and target directory as this binary.
fn cargo(arguments: &[&str]) -> Outcome {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    match Command::new(program).args(arguments).status() {
        Ok(status) if status.success() => Outcome::Passed(format!("cargo {}", arguments.first().unwrap_or(&""))),
        Ok(status) => Outcome::Failed(format!("cargo {} ended with {status}", arguments.join(" "))),
        Err(error) => Outcome::Failed(format!("cargo could not be run: {error}")),
    }
}

/// Every crate but the back ends of Linux and this test bed, for another system's types and constants.
fn freebsd(_: &Depth) -> Outcome {
    const TARGET: &str = "x86_64-unknown-freebsd";
    const CRATES: &[&str] =
        &["policies", "kernel", "sys", "pfkey", "route", "mip6", "wire", "crypto", "sa", "ikev2", "engine", "daemon", "ctl", "sim"];
    let installed = || {
        let output = Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]).output();
        output.is_ok_and(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir())
    };
    let add = || Command::new("rustup").args(["target", "add", TARGET]).status().is_ok_and(|status| status.success());
    let ready = installed() || (add() && installed());
    if !ready {
        return Outcome::Skipped(format!("no standard library for {TARGET}; `rustup target add {TARGET}` installs it"));
    }
    let packages: Vec<String> = CRATES.iter().map(|name| format!("--package=watari-{name}")).collect();
    let arguments: Vec<&str> = ["check", "--locked", "--target", TARGET].into_iter().chain(packages.iter().map(String::as_str)).collect();
    match cargo(&arguments) {
        Outcome::Passed(_) => Outcome::Passed(format!("{} crates", CRATES.len())),
        other => other,
    }
}

fn verdict(outcome: Result<bool, String>, words: &str) -> Outcome {
    match outcome {
        Ok(true) => Outcome::Passed(words.to_owned()),
        Ok(false) => Outcome::Failed("see above".to_owned()),
        Err(why) => Outcome::Failed(why),
    }
}

fn simulation(depth: &Depth) -> Outcome {
    let seeds = if depth.long { 1..=100 } else { 1..=3 };
    let mut runs = 0;
    for seed in seeds {
        match run::every(BackendName::Sim, seed) {
            Ok((count, failures)) if failures.is_empty() => runs += count,
            Ok((_, failures)) => return Outcome::Failed(format!("seed {seed}: {}", failures.join(", "))),
            Err(why) => return Outcome::Failed(why),
        }
    }
    Outcome::Passed(format!("{runs} runs"))
}

/// Mobile nodes of one home agent that all move within a minute.
fn scale(depth: &Depth, backend: BackendName) -> Outcome {
    match scale::of(depth.long).run(backend, 1) {
        Ok(outcome) if outcome.passed => Outcome::Passed(outcome.words),
        Ok(outcome) => Outcome::Failed(outcome.words),
        Err(why) => Outcome::Failed(why),
    }
}

fn scenarios(backend: BackendName) -> Outcome {
    match run::every(backend, 1) {
        Ok((count, failures)) if failures.is_empty() => Outcome::Passed(format!("{count} scenarios")),
        Ok((_, failures)) => Outcome::Failed(failures.join(", ")),
        Err(why) => Outcome::Failed(why),
    }
}

fn smoke(_: &Depth) -> Outcome {
    match uml::smoke::smoke(uml::boot::Kernel::Debian61) {
        Ok(report) => {
            Outcome::Passed(format!("Linux {}: {} pings, {} ESP packets, none in clear", report.kernel, report.replies, report.esp_packets))
        }
        Err(failure) => Outcome::Failed(failure.to_string()),
    }
}

fn newer_kernel(_: &Depth) -> Outcome {
    if uml::boot::Kernel::Built612.is_available() {
        scenarios(BackendName::Uml612)
    } else {
        Outcome::Skipped("Linux 6.12 is not in the cache; `cargo testbed kernel` builds it".to_owned())
    }
}
