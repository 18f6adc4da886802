//! Scenarios by name and back end: `list`, `run`, and every one of them for `check`.

use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use watari_crypto::RustCryptoProvider;
use watari_kernel::mirror::Model;
use watari_sim::scenario::RunsOn;
use watari_sim::timeline::{Happening, Line};
use watari_sim::{Report, Scenario, Setting, World, scenarios};

use crate::uml::boot::Kernel;
use crate::{real, scale};

/// How much of what happened is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timeline {
    /// Nothing.
    None,
    /// What a person wants to read.
    Story,
    /// Also what only somebody who looks for a fault wants to read.
    Everything,
}

impl Timeline {
    fn shows(self, line: &Line) -> bool {
        self.shows_detail(matches!(&line.what, Happening::Agent(words) if words.detail))
    }

    /// Whether a line is printed that is a detail or not.
    pub(crate) const fn shows_detail(self, detail: bool) -> bool {
        match self {
            Self::None => false,
            Self::Story => !detail,
            Self::Everything => true,
        }
    }
}

/// Where a scenario runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BackendName {
    /// The simulator.
    Sim,
    /// Debian's Linux 6.1 in User-Mode Linux.
    Uml,
    /// Linux 6.12 in User-Mode Linux.
    Uml612,
}

impl FromStr for BackendName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "sim" => Ok(Self::Sim),
            "uml" | "uml-6.1" => Ok(Self::Uml),
            "uml-6.12" => Ok(Self::Uml612),
            other => Err(format!("no back end `{other}`: sim, uml, uml-6.12")),
        }
    }
}

impl BackendName {
    /// The kernel it boots; none for the simulator.
    pub(crate) fn kernel(self) -> Option<Kernel> {
        match self {
            Self::Sim => None,
            Self::Uml => Some(Kernel::Debian61),
            Self::Uml612 => Some(Kernel::Built612),
        }
    }

    fn suits(self, scenario: &Scenario) -> bool {
        match self {
            Self::Sim => true,
            Self::Uml => !matches!(scenario.runs_on, RunsOn::SimulatorOnly(_)),
            Self::Uml612 => scenario.runs_on == RunsOn::Everywhere,
        }
    }

    /// Its name on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Sim => "sim",
            Self::Uml => "uml",
            Self::Uml612 => "uml-6.12",
        }
    }
}

/// Prints the scenarios.
pub(crate) fn list(as_json: bool) -> Result<bool, String> {
    let every = [BackendName::Sim, BackendName::Uml, BackendName::Uml612];
    let scenarios = scenarios::all();
    let of_scenario = |scenario: &Scenario| every.into_iter().filter(|backend| backend.suits(scenario)).collect::<Vec<_>>();
    let scenarios = scenarios.iter().map(|scenario| (scenario.name, of_scenario(scenario), scenario.sentence));
    for (name, backends, sentence) in scenarios.chain(scale::RUNS.iter().map(|run| (run.name, every.to_vec(), run.sentence))) {
        let backends: Vec<&str> = backends.into_iter().map(BackendName::name).collect();
        if as_json {
            println!("{}", json!({ "name": name, "backends": backends, "sentence": sentence }));
        } else {
            println!("{name:<34} {:<18} {sentence}", backends.join(" "));
        }
    }
    Ok(true)
}

/// The scenario of this name.
pub(crate) fn named(name: &str) -> Result<Scenario, String> {
    let all = scenarios::all();
    let names: Vec<&str> = all.iter().map(|scenario| scenario.name).collect();
    let close = names.iter().filter(|known| known.contains(name) || name.contains(*known)).copied().collect::<Vec<_>>().join(", ");
    let hint = if close.is_empty() { "`testbed list` shows them".to_owned() } else { format!("did you mean {close}?") };
    all.into_iter().find(|scenario| scenario.name == name).ok_or_else(|| format!("no scenario `{name}`; {hint}"))
}

/// Runs one scenario and prints what it came to.
pub(crate) fn one(name: &str, backend: BackendName, seed: u64, as_json: bool, timeline: Timeline) -> Result<bool, String> {
    if let Some(run) = scale::named(name) {
        return scale::one(run, backend, seed, as_json);
    }
    let scenario = named(name)?;
    if !backend.suits(&scenario) {
        return Err(format!("`{name}` does not run on {}; `testbed list` shows where it does", backend.name()));
    }
    if !as_json {
        println!("{}: {} ({}, seed {seed})", scenario.name, scenario.sentence, backend.name());
    }
    let report = report(&scenario, backend, seed, if as_json { Timeline::None } else { timeline })?;
    if as_json {
        println!("{}", report.to_json());
    } else {
        for line in summary(&report) {
            println!("{line}");
        }
    }
    Ok(report.passed)
}

/// Runs every scenario that the back end suits; returns how many and which failed.
pub(crate) fn every(backend: BackendName, seed: u64) -> Result<(usize, Vec<String>), String> {
    let all: Vec<Scenario> = scenarios::all().into_iter().filter(|scenario| backend.suits(scenario)).collect();
    let mut failures = Vec::new();
    let reports = match backend.kernel() {
        None => all.iter().map(|scenario| simulated(scenario, seed, Timeline::None)).collect::<Result<Vec<_>, _>>()?,
        Some(kernel) => once_more(&all, real::scenarios(&all, kernel, seed)?, kernel, seed)?,
    };
    for report in &reports {
        let verdict = if report.passed { "passed" } else { "FAILED" };
        println!("  {verdict}  {:<34} {}", report.scenario, in_short(report));
        for reason in &report.reasons {
            println!("          {reason}");
        }
        if !report.passed {
            failures.push(report.scenario.clone());
        }
    }
    if reports.len() != all.len() {
        failures.push(format!("{} of {} scenarios gave a result", reports.len(), all.len()));
    }
    Ok((reports.len(), failures))
}

/// Guests share this machine's processors in real time, so that a stalled guest may miss a count of pings. What failed is run once
/// more, alone, and both outcomes are printed; what fails again has failed.
fn once_more(all: &[Scenario], mut reports: Vec<Report>, kernel: Kernel, seed: u64) -> Result<Vec<Report>, String> {
    for report in reports.iter_mut().filter(|report| !report.passed) {
        println!("  again   {:<34} {} (alone on the machine this time)", report.scenario, report.reasons.join("; "));
        let Some(scenario) = all.iter().find(|scenario| scenario.name == report.scenario) else { continue };
        if let Some(second) = real::scenarios(std::slice::from_ref(scenario), kernel, seed)?.into_iter().next() {
            *report = second;
        }
    }
    Ok(reports)
}

fn report(scenario: &Scenario, backend: BackendName, seed: u64, timeline: Timeline) -> Result<Report, String> {
    match backend.kernel() {
        None => simulated(scenario, seed, timeline),
        Some(kernel) => real::shown(scenario, kernel, seed, timeline),
    }
}

/// Runs a scenario in the simulator, wall time taken by this process's clock.
pub(crate) fn simulated(scenario: &Scenario, seed: u64, timeline: Timeline) -> Result<Report, String> {
    let start = Instant::now();
    let mut stopwatch = || -> Duration { start.elapsed() };
    let setting = Setting { provider: Arc::new(RustCryptoProvider), model: Model::Linux6_1 };
    let mut world = World::new(scenario, seed, setting, &mut stopwatch);
    let report = world.run();
    for line in world.timeline().iter().filter(|line| timeline.shows(line)) {
        println!("{line}");
    }
    Ok(report)
}

fn in_short(report: &Report) -> String {
    format!(
        "IKE_SA_INIT {}, SAs lost {}, in clear {}, pings {}/{} lost, {} for want of a key",
        report.ike_sa_init, report.sas_lost, report.cleartext_packets, report.pings_lost, report.pings_sent, report.pings_lost_for_key
    )
}

/// What a run came to, for people.
pub(crate) fn summary(report: &Report) -> Vec<String> {
    let mut lines = vec![
        String::new(),
        format!(
            "{} IKE_SA_INIT in all, {} SAs lost, {} packets in clear that had to be protected",
            report.ike_sa_init, report.sas_lost, report.cleartext_packets
        ),
        format!(
            "{} pings: {} without answer while there was no link or no binding, {} for want of a key",
            report.pings_sent, report.pings_lost, report.pings_lost_for_key
        ),
    ];
    for handover in &report.handovers {
        let first = handover
            .event_to_first_ike_us
            .map_or_else(|| "no IKE packet needed".to_owned(), |us| format!("first IKE packet after {us} us in the agent"));
        let wait = if handover.address_wait_us > 0 {
            format!(" ({} ms were spent waiting for the address)", handover.address_wait_us / 1000)
        } else {
            String::new()
        };
        lines.push(format!(
            "  {} -> {}: {} MIGRATE messages, tunnel SA pairs that followed: {}, {first}{wait}",
            handover.from, handover.to, handover.migrate_events, handover.children_moved
        ));
    }
    lines.push(if report.sad_matches_kernel {
        "agents and kernels hold the same SAs".to_owned()
    } else {
        "AGENTS AND KERNELS DIFFER".to_owned()
    });
    lines.extend(report.reasons.iter().map(|reason| format!("  not as expected: {reason}")));
    lines.push(if report.passed { "passed".to_owned() } else { "FAILED".to_owned() });
    lines
}
