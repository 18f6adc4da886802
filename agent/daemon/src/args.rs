//! The command line.

use std::path::PathBuf;

use structopt::StructOpt;

/// Keeps IPsec security associations alive while hosts move.
#[derive(Debug, StructOpt)]
#[structopt(name = "watarid")]
pub(crate) struct Args {
    /// Configuration file (TOML).
    #[structopt(long, parse(from_os_str), required_unless = "probe-kernel")]
    pub(crate) config: Option<PathBuf>,
    /// Control socket; overrides the configuration.
    #[structopt(long, parse(from_os_str))]
    pub(crate) control: Option<PathBuf>,
    /// Log as JSON, one object a line.
    #[structopt(long)]
    pub(crate) log_json: bool,
    /// Least level that is logged: error, warning, info, debug or trace.
    #[structopt(long, default_value = "info", parse(try_from_str = level))]
    pub(crate) log_level: slog::Level,
    /// Write IKE SA keys to this file in tshark's form. Whoever reads it can read the traffic: test beds only.
    #[structopt(long, parse(from_os_str))]
    pub(crate) reveal_keys: Option<PathBuf>,
    /// Seed of every nonce, SPI and jitter, as a number: makes keys predictable. Test beds only.
    #[structopt(long)]
    pub(crate) insecure_seed: Option<u64>,
    /// Report what this kernel can do as JSON and stop.
    #[structopt(long)]
    pub(crate) probe_kernel: bool,
}

fn level(text: &str) -> Result<slog::Level, String> {
    text.parse().map_err(|()| format!("`{text}` is no level: error, warning, info, debug or trace"))
}
