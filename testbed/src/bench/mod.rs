//! Benchmarks: figures to show, not timed tests. Each prints what it measured and against what.

mod handover;
mod handshake;
pub(crate) mod memory;

use std::process::Command;

use crate::uml::this_binary;

/// Measures, prints, and says whether its bound was kept.
type Benchmark = fn() -> Result<bool, String>;

/// Runs one benchmark by name, or all; false if a bound was missed.
pub(crate) fn run(name: Option<&str>) -> Result<bool, String> {
    let known: [(&str, Benchmark); 2] = [("handover", handover::run), ("handshake", handshake::run)];
    if let Some(name) = name {
        let (_, run) = known.iter().find(|(known, _)| *known == name).ok_or_else(|| {
            let names: Vec<&str> = known.iter().map(|(known, _)| *known).collect();
            format!("no benchmark `{name}`; there are {}", names.join(" and "))
        })?;
        return run();
    }
    // Each in a process of its own: memory that one has given back would be missing in what another is seen to take.
    let program = this_binary().map_err(|failure| failure.to_string())?;
    let mut within = true;
    for (name, _) in known {
        let status = Command::new(&program).args(["bench", name]).status();
        within &= status.map_err(|error| format!("bench {name} could not be run: {error}"))?.success();
    }
    Ok(within)
}
