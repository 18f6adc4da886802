//! `testbed`: everything that shows what Watari does: demo, scenarios, checks, peers, benchmarks.
//! Exit status: 0 passed, 1 failed, 2 asked wrongly.

mod bench;
mod check;
mod demo;
mod fuzz;
mod guest;
mod instant;
mod interop;
mod judge;
mod real;
mod run;
mod scale;
mod uml;

use std::process::ExitCode;

use structopt::StructOpt;

/// The test bed of Watari.
#[derive(Debug, StructOpt)]
#[structopt(name = "testbed")]
enum Verb {
    /// The main job with a readable timeline: a mobile node moves and its security associations follow.
    Demo {
        /// On a real Linux kernel (User-Mode Linux) instead of the simulated one.
        #[structopt(long)]
        real: bool,
        /// Seed of everything random.
        #[structopt(long, default_value = "1")]
        seed: u64,
    },
    /// Everything that must pass. Downloads the Debian packages it needs under target/; needs no root.
    Check {
        /// Also many seeds, scale and long fuzzing.
        #[structopt(long)]
        long: bool,
        /// Only the stages whose name contains this.
        #[structopt(long)]
        only: Option<String>,
    },
    /// The scenarios: name, back ends, one sentence.
    List {
        /// Print JSON.
        #[structopt(long)]
        json: bool,
    },
    /// Run one scenario.
    Run {
        /// Its name; `list` shows them.
        name: String,
        /// Seed of everything random.
        #[structopt(long, default_value = "1")]
        seed: u64,
        /// `sim`, `uml` (Debian's 6.1) or `uml-6.12`.
        #[structopt(long, default_value = "sim")]
        backend: run::BackendName,
        /// End with one JSON object.
        #[structopt(long)]
        json: bool,
        /// Print also what changed nothing.
        #[structopt(long)]
        verbose: bool,
    },
    /// Run the scenarios against a real peer: strongswan.
    Interop {
        /// The peer.
        peer: String,
        /// Only the cases whose name contains this.
        #[structopt(long)]
        only: Option<String>,
    },
    /// Measure: handover, handshake; all without a name.
    Bench {
        /// Name of the benchmark.
        name: Option<String>,
    },
    /// Build the Linux 6.12 kernel for User-Mode Linux (about ten minutes) and keep it under target/.
    Kernel,
    /// Feed generated input to the decoders and the engine.
    Fuzz {
        /// Seconds per target.
        #[structopt(long, default_value = "5")]
        seconds: u64,
        /// Seed of the generator.
        #[structopt(long, default_value = "1")]
        seed: u64,
    },
    /// Init of a User-Mode Linux guest; not for people.
    #[structopt(setting = structopt::clap::AppSettings::Hidden)]
    GuestInit,
}

fn main() -> ExitCode {
    if uml::guest::is_guest() {
        return done(uml::guest::guest_init(guest::task).map(|()| true).map_err(|failure| failure.to_string()));
    }
    done(match Verb::from_args() {
        Verb::Demo { real, seed } => demo::run(real, seed),
        Verb::Check { long, only } => check::run(long, only.as_deref()),
        Verb::List { json } => run::list(json),
        Verb::Run { name, seed, backend, json, verbose } => {
            run::one(&name, backend, seed, json, if verbose { run::Timeline::Everything } else { run::Timeline::Story })
        }
        Verb::Interop { peer, only } => interop::run(&peer, only.as_deref()),
        Verb::Bench { name } => bench::run(name.as_deref()),
        Verb::Kernel => uml::build::kernel().map(|()| true).map_err(|failure| failure.to_string()),
        Verb::Fuzz { seconds, seed } => fuzz::run(seconds, seed),
        Verb::GuestInit => Err("guest-init is only for the init of a guest".to_owned()),
    })
}

fn done(outcome: Result<bool, String>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(why) => {
            eprintln!("testbed: {why}");
            ExitCode::from(2)
        }
    }
}
