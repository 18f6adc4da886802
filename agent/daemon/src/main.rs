//! `watarid`: sockets, clocks, threads and privileges around the engine.

mod addresses;
mod args;
mod clock;
mod control;
mod descriptor;
mod drops;
mod events;
mod keeper;
mod kernel;
mod log;
#[cfg_attr(not(target_os = "linux"), path = "mobility/absent.rs")]
mod mobility;
mod run;
mod sockets;
mod start;

use std::process::ExitCode;

use structopt::StructOpt;

use crate::args::Args;
use crate::run::Daemon;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::from_args();
    let (log, _flush) = log::logger(args.log_level, args.log_json);
    if args.probe_kernel {
        return start::probe_and_print().await;
    }
    let setup = match start::setup(args, &log) {
        Ok(setup) => setup,
        Err(failure) => return failure.report(),
    };
    let daemon = match Daemon::start(setup, log.clone()).await {
        Ok(daemon) => daemon,
        Err(failure) => return failure.report(),
    };
    match daemon.run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            slog::crit!(log, "the event loop ended"; "error" => %error);
            ExitCode::FAILURE
        }
    }
}
