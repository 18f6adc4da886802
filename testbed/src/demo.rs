//! The main job, to look at: one mobile node, three foreign links, home, and away again.

use std::time::Instant;

use crate::uml::boot::Kernel;
use crate::{real, run};

/// The scenario shown.
const SCENARIO: &str = "roam";

/// Shows it on the simulated or on a real kernel.
pub(crate) fn run(on_real_kernel: bool, seed: u64) -> Result<bool, String> {
    let scenario = run::named(SCENARIO)?;
    println!("{}", scenario.sentence);
    println!("seconds   host  what happened\n");
    let begin = Instant::now();
    let report = if on_real_kernel {
        real::shown(&scenario, Kernel::Debian61, seed, run::Timeline::Story)?
    } else {
        run::simulated(&scenario, seed, run::Timeline::Story)?
    };
    for line in run::summary(&report) {
        println!("{line}");
    }
    println!(
        "({} kernel, seed {seed}, shown in {:.1} s)",
        if on_real_kernel { "real" } else { "simulated" },
        begin.elapsed().as_secs_f64()
    );
    Ok(report.passed)
}
