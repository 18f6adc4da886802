//! `watari`: asks a running agent, steers it, and checks configurations offline.
//! Exit status: 0 done, 1 refused or wrong, 2 the daemon or a file cannot be reached.

mod check;
mod client;
mod file;
mod mip6d;
mod status;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use structopt::StructOpt;

use crate::client::{Client, scalar};

/// Asks and steers a Watari daemon.
#[derive(Debug, StructOpt)]
#[structopt(name = "watari")]
struct Args {
    /// Control socket of the daemon.
    #[structopt(long, parse(from_os_str), default_value = "/run/watari.vici")]
    control: PathBuf,
    #[structopt(subcommand)]
    command: Verb,
}

#[derive(Debug, StructOpt)]
enum Verb {
    /// Check a configuration file, or with --kernel what the kernel can do.
    Check {
        /// Configuration file.
        #[structopt(parse(from_os_str), required_unless = "kernel")]
        file: Option<PathBuf>,
        /// Report what the kernel can do: MH types inbound, xfrm_interface, MIGRATE.
        #[structopt(long)]
        kernel: bool,
        /// Compare with the policies of a mip6d.conf.
        #[structopt(long, parse(from_os_str))]
        mip6d_conf: Option<PathBuf>,
        /// Print the five records the configuration expands into.
        #[structopt(long)]
        expand: bool,
        /// Print JSON.
        #[structopt(long)]
        json: bool,
    },
    /// Show remotes, IKE SAs, child SAs, the last move and the next deadline.
    Status {
        /// Print JSON.
        #[structopt(long)]
        json: bool,
    },
    /// Bring up a policy's SAs (by its name), or everything of a remote.
    Up {
        /// Policy or remote.
        name: String,
    },
    /// Close a policy's SAs (by its name), or everything of a remote.
    Down {
        /// Policy or remote.
        name: String,
    },
    /// Replace the SAs of a policy or remote by new ones, make before break.
    Rekey {
        /// Policy or remote.
        name: String,
        /// Rekey the IKE SA of the remote of this name rather than child SAs.
        #[structopt(long)]
        ike: bool,
    },
    /// Tell how a registration with a home agent ended; for Mobile IPv6 daemons that do not speak to the kernel about it.
    Mobility {
        /// Home address.
        home_address: IpAddr,
        /// Care-of address; the home address again at the end of a binding.
        care_of_address: IpAddr,
        /// Whether the acknowledgement has the K bit: key management follows movements.
        #[structopt(long)]
        k: bool,
        /// Status of the acknowledgement.
        #[structopt(long, default_value = "0")]
        status: u8,
    },
    /// Say that the home address of this mobile node is in use elsewhere (binding acknowledgement with status 134): another one is formed.
    HomeAddressTaken {
        /// Home address that this host may not use.
        home_address: IpAddr,
    },
    /// Send the peers of a remote's IKE SAs on to another gateway (RFC 5685); they have to have announced that they follow.
    Redirect {
        /// Remote.
        name: String,
        /// Address or domain name of the gateway.
        to: String,
    },
    /// Go over to another address of a remote that has several, on a mobile node to another home agent.
    UseAddress {
        /// Remote.
        name: String,
        /// The address; without it the next one of the list.
        address: Option<IpAddr>,
    },
    /// Make the daemon read its configuration again.
    Reload,
    /// List IKE SAs with their children in strongSwan's field names.
    Sas {
        /// Print JSON, one object a row.
        #[structopt(long)]
        json: bool,
    },
    /// Print events as they happen.
    Watch,
    /// Stop the daemon politely.
    Stop,
}

/// Why a command failed, and the exit status it deserves.
enum Trouble {
    /// The daemon said no, or a file is wrong.
    Refused(String),
    /// The daemon or a file cannot be reached.
    Unreachable(String),
}

fn main() -> ExitCode {
    let args = Args::from_args();
    match run(&args.control, args.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Trouble::Refused(why)) => {
            eprintln!("watari: {why}");
            ExitCode::from(1)
        }
        Err(Trouble::Unreachable(why)) => {
            eprintln!("watari: {why}");
            ExitCode::from(2)
        }
    }
}

fn run(control: &Path, command: Verb) -> Result<(), Trouble> {
    match command {
        Verb::Check { kernel: true, json, .. } => check::kernel(control, json),
        Verb::Check { file, mip6d_conf: Some(conf), .. } => check::mip6d_conf(&file.unwrap_or_default(), &conf),
        Verb::Check { file, expand, json, .. } => check::file(&file.unwrap_or_default(), expand, json),
        Verb::Status { json } => status::show(control, json),
        Verb::Up { name } => steer(control, "initiate", &name, false),
        Verb::Down { name } => down(steer(control, "terminate", &name, false)),
        Verb::Rekey { name, ike } => steer(control, "rekey", &name, ike),
        Verb::Mobility { home_address, care_of_address, k, status } => {
            let k = if k { "yes" } else { "no" };
            let (home, care_of) = (home_address.to_string(), care_of_address.to_string());
            let arguments = [("home-address", home.as_str()), ("care-of-address", &care_of), ("k", k), ("status", &status.to_string())];
            told(control, "mobility", arguments.map(|(name, value)| scalar(name, value)).into())
        }
        Verb::HomeAddressTaken { home_address } => {
            told(control, "home-address-taken", vec![scalar("home-address", &home_address.to_string())])
        }
        Verb::Redirect { name, to } => told(control, "redirect", vec![scalar("ike", &name), scalar("gateway", &to)]),
        Verb::UseAddress { name, address } => {
            let address = address.map(|address| scalar("address", &address.to_string()));
            told(control, "use-address", std::iter::once(scalar("ike", &name)).chain(address).collect())
        }
        Verb::Reload => told(control, "watari-reload", Vec::new()),
        Verb::Stop => stop(control),
        Verb::Sas { json } => status::sas(control, json),
        Verb::Watch => status::watch(control),
    }
}

/// A name may be a policy or a remote: the daemon is asked for the policy first.
fn steer(control: &Path, command: &str, name: &str, ike_only: bool) -> Result<(), Trouble> {
    if !ike_only {
        match told(control, command, vec![scalar("child", name)]) {
            Err(Trouble::Refused(why)) if why.contains("of this name") => {}
            done => return done,
        }
    }
    match told(control, command, vec![scalar("ike", name)]) {
        Err(Trouble::Refused(why)) if why.contains("of this name") => {
            Err(Trouble::Refused(format!("there is no policy or remote `{name}`; `watari status` shows them")))
        }
        done => done,
    }
}

/// What is down already is no failure, as what is up already is none.
fn down(ended: Result<(), Trouble>) -> Result<(), Trouble> {
    match ended {
        Err(Trouble::Refused(why)) if why == watari_engine::DOWN_ALREADY => {
            println!("{why}");
            Ok(())
        }
        ended => ended,
    }
}

/// The daemon may be gone before its answer is written: then it has done what it was told.
fn stop(control: &Path) -> Result<(), Trouble> {
    let mut client = Client::connect(control).map_err(Trouble::Unreachable)?;
    client.command_or_end("watari-stop").map_err(Trouble::Refused)
}

fn told(control: &Path, command: &str, arguments: Vec<(String, watari_engine::vici::Value)>) -> Result<(), Trouble> {
    let mut client = Client::connect(control).map_err(Trouble::Unreachable)?;
    let answer = client.command(command, arguments).map_err(Trouble::Refused)?;
    match answer.end.text("success") {
        Some("no") => Err(Trouble::Refused(answer.end.text("errmsg").unwrap_or("the daemon refused without a reason").to_owned())),
        _ => {
            if let Some(message) = answer.end.text("message") {
                println!("{message}");
            }
            Ok(())
        }
    }
}
