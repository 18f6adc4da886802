//! Benchmarks: figures to show, not timed tests. Each prints what it measured and against what.

mod handover;
mod handshake;
pub(crate) mod memory;

/// Measures, prints, and says whether its bound was kept.
type Benchmark = fn() -> Result<bool, String>;

/// Runs one benchmark by name, or all; false if a bound was missed.
pub(crate) fn run(name: Option<&str>) -> Result<bool, String> {
    let known: [(&str, Benchmark); 2] = [("handover", handover::run), ("handshake", handshake::run)];
    if let Some(name) = name
        && !known.iter().any(|(known, _)| *known == name)
    {
        return Err(format!("no benchmark `{name}`; there are handover and handshake"));
    }
    let mut within = true;
    for (_, run) in known.iter().filter(|(known, _)| name.is_none_or(|name| name == *known)) {
        within &= run()?;
    }
    Ok(within)
}
