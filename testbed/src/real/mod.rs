//! The scenarios and the kernel acts on a real Linux kernel: guests are booted here, run their part and give back facts and captures,
//! which are judged here.

mod access;
pub(crate) mod acts;
mod agent;
pub(crate) mod backend;
mod bootstrap;
mod by_hand;
pub(crate) mod conformance;
pub(crate) mod control;
mod elsewhere;
mod facts;
mod home_agents;
mod judgement;
mod kame;
pub(crate) mod kernel;
mod network;
mod ping;
pub(crate) mod run;
mod sas;
pub(crate) mod scale;
mod signalling;
mod sniffer;
mod timeline;
mod verdict;
mod voice;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use watari_sim::report::Report;
use watari_sim::scenario::Scenario;

use self::timeline::Moment;
use crate::judge::tshark;
use crate::run::Timeline;
use crate::uml::boot::{Kernel, Machine};
use crate::uml::{Context, Failure, Result, testbed_directory};

/// Guests at once: they mostly wait.
const GUESTS: usize = 5;
/// Time a guest may take beyond its scenario's own.
const MARGIN: Duration = Duration::from_secs(60);

/// Puts every kernel that is there through the acts; true if each behaved as the mirror does.
pub(crate) fn acts() -> std::result::Result<bool, String> {
    let mut good = true;
    for kernel in [Kernel::Debian61, Kernel::Built612].into_iter().filter(|kernel| kernel.is_available()) {
        let outcomes = acts::on(kernel).map_err(|failure| failure.to_string())?;
        for outcome in outcomes.iter().filter(|outcome| !outcome.differences.is_empty()) {
            good = false;
            println!("Linux {}: {}: {}", release(kernel), outcome.name, outcome.sentence);
            for difference in &outcome.differences {
                println!("    {difference}");
            }
        }
        println!("Linux {}: {} acts", release(kernel), outcomes.len());
    }
    Ok(good)
}

/// Compares PF_KEY with netlink XFRM on every kernel that is there; true if they agree.
pub(crate) fn conformance() -> std::result::Result<bool, String> {
    let mut good = true;
    for kernel in [Kernel::Debian61, Kernel::Built612].into_iter().filter(|kernel| kernel.is_available()) {
        let outcomes = conformance::on(kernel).map_err(|failure| failure.to_string())?;
        for outcome in outcomes.iter().filter(|outcome| !outcome.differences.is_empty()) {
            good = false;
            println!("Linux {}: {}", release(kernel), outcome.name);
            for difference in &outcome.differences {
                println!("    {difference}");
            }
        }
        println!("Linux {}: {} acts through PF_KEY and XFRM", release(kernel), outcomes.len());
    }
    Ok(good)
}

/// Puts the agent's back ends to every kernel that is there; true if nothing was otherwise than expected.
pub(crate) fn back_end() -> std::result::Result<bool, String> {
    findings(backend::on)
}

/// Asks and steers live daemons on every kernel that is there; true if nothing was otherwise than expected.
pub(crate) fn control() -> std::result::Result<bool, String> {
    let programs = Programs::build().map_err(|failure| failure.to_string())?;
    findings(|kernel| control::on(kernel, &programs))
}

fn findings(on: impl Fn(Kernel) -> Result<Vec<backend::Finding>>) -> std::result::Result<bool, String> {
    let mut good = true;
    for kernel in [Kernel::Debian61, Kernel::Built612].into_iter().filter(|kernel| kernel.is_available()) {
        let findings = on(kernel).map_err(|failure| failure.to_string())?;
        for finding in &findings {
            if let Some(complaint) = &finding.complaint {
                good = false;
                println!("Linux {}: {}: {complaint}", release(kernel), finding.act);
            }
        }
        println!("Linux {}: {} findings", release(kernel), findings.len());
    }
    Ok(good)
}

/// Runs scenarios on a kernel, several guests at once; one report each, in order.
pub(crate) fn scenarios(scenarios: &[Scenario], kernel: Kernel, seed: u64) -> std::result::Result<Vec<Report>, String> {
    let programs = Programs::build().map_err(|failure| failure.to_string())?;
    let (next, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        let mut reports = Vec::new();
        while let Some((index, scenario)) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|index| Some((index, scenarios.get(index)?)))
        {
            reports.push((index, one(scenario, kernel, seed, &programs).map(|(report, _)| report)));
            if scenarios.len() > 1 {
                println!("  {:>3} of {}: {}", ended.fetch_add(1, Ordering::Relaxed) + 1, scenarios.len(), scenario.name);
            }
        }
        reports
    };
    let mut all = thread::scope(|scope| {
        let workers: Vec<_> = (0..GUESTS.min(scenarios.len())).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect::<Vec<_>>()
    });
    all.sort_by_key(|(index, _)| *index);
    let name = |index: usize| scenarios.get(index).map_or("", |scenario| scenario.name);
    Ok(all.into_iter().map(|(index, outcome)| outcome.unwrap_or_else(|failure| failed(name(index), seed, &failure))).collect())
}

/// The report of a scenario that came to nothing.
fn failed(scenario: &str, seed: u64, failure: &Failure) -> Report {
    let reasons = vec![failure.to_string()];
    Report { scenario: scenario.to_owned(), backend: BACKEND.to_owned(), seed, reasons, ..Report::default() }
}

/// Runs a scenario on a kernel and prints those lines of what happened that `timeline` shows.
pub(crate) fn shown(scenario: &Scenario, kernel: Kernel, seed: u64, timeline: Timeline) -> std::result::Result<Report, String> {
    let programs = Programs::build().map_err(|failure| failure.to_string())?;
    let outcome = one(scenario, kernel, seed, &programs);
    let (report, moments) = outcome.unwrap_or_else(|failure| (failed(scenario.name, seed, &failure), Vec::new()));
    for moment in moments.iter().filter(|moment| timeline.shows_detail(moment.detail)) {
        println!("{moment}");
    }
    Ok(report)
}

fn release(kernel: Kernel) -> &'static str {
    match kernel {
        Kernel::Debian61 => "6.1",
        Kernel::Built612 => "6.12",
    }
}

/// The scenario whose every IKE message tshark reads with the keys: the main job. It takes seconds a capture; the interop cases are
/// read whole as well.
const READ_BY_TSHARK: &str = "roam";

/// How reports name this back end.
const BACKEND: &str = "uml";

fn output(scenario: &Scenario, kernel: Kernel) -> PathBuf {
    testbed_directory().join("runs").join(format!("{}-{}", scenario.name, release(kernel)))
}

/// Boots a guest for one scenario and judges it; also returns the lines of its timeline.
fn one(scenario: &Scenario, kernel: Kernel, seed: u64, programs: &Programs) -> Result<(Report, Vec<Moment>)> {
    let output = output(scenario, kernel);
    let mut machine = Machine::new(&output)?;
    machine.kernel = kernel;
    machine.init = programs.0.join("testbed");
    machine.timeout = scenario.duration + MARGIN;
    let order = run::Order { scenario: scenario.name.to_owned(), seed, programs: programs.0.clone() };
    let finish = machine.run(run::TASK, serde_json::to_value(order).context("order")?)?;
    if finish.exit_code != 0 {
        let why = std::fs::read_to_string(output.join("failure.txt")).unwrap_or_default();
        return Err(Failure(format!("the guest ended with exit code {}: {}", finish.exit_code, why.trim())));
    }
    let text = std::fs::read_to_string(output.join(run::FACTS)).context(run::FACTS)?;
    let facts: facts::Facts = serde_json::from_str(&text).context(run::FACTS)?;
    let mut report = verdict::report(scenario, BACKEND, seed, &facts, &output)?;
    if scenario.name == READ_BY_TSHARK {
        let malformed = malformed(&output, scenario)?;
        report.passed &= malformed.is_empty();
        report.reasons.extend(malformed);
    }
    std::fs::write(output.join("report.json"), report.to_json()).context("report.json")?;
    let mut timeline = facts.timeline;
    timeline.extend(verdict::first_packets(&facts.handovers, &report, facts.begin_us));
    timeline.sort();
    Ok((report, timeline))
}

/// This binary, watarid and watari as they were when the run began, whatever cargo builds meanwhile.
struct Programs(PathBuf);

impl Programs {
    /// Builds watarid and watari, so that they are those of this source, and keeps a link to each.
    fn build() -> Result<Self> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let executable = crate::uml::this_binary()?;
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
        let mut command = Command::new(cargo);
        command.args(["build", "--quiet", "--locked", "--manifest-path", manifest, "-p", "watari-daemon", "-p", "watari-ctl"]);
        if !command.status().context("cargo build")?.success() {
            return Err(Failure::new("watarid could not be built"));
        }
        let name = format!("programs-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let kept = Self(testbed_directory().join(name));
        std::fs::create_dir_all(&kept.0).context(kept.0.display())?;
        let place = executable.parent().unwrap_or(Path::new(".")).to_path_buf();
        for (from, name) in [(executable, "testbed"), (place.join("watarid"), "watarid"), (place.join("watari"), "watari")] {
            std::fs::hard_link(&from, kept.0.join(name)).context(from.display())?;
        }
        Ok(kept)
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What tshark, with every key, has against the IKE messages of a run; a message in two captures counts once.
fn malformed(output: &Path, scenario: &Scenario) -> Result<Vec<String>> {
    let hosts = scenario.mobile_nodes.iter().map(|plan| plan.name);
    let table: String = hosts.map(|host| std::fs::read_to_string(output.join(format!("{host}.keys"))).unwrap_or_default()).collect();
    let mut complaints = Vec::new();
    for link in watari_sim::scenario::Link::ALL {
        let file = output.join(format!("{link}.pcap"));
        for message in tshark::read_with_table(&file, &table)?.iter().filter(|message| !message.is_good()) {
            let why = match message.complaints.as_slice() {
                [] => "cannot be decrypted".to_owned(),
                some => some.join(", "),
            };
            complaints.push(format!("tshark on {link}.pcap packet {} ({}): {why}", message.number, message.summary));
        }
    }
    Ok(complaints)
}
