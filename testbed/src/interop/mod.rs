//! Interoperability with real peers: cases run in a guest, Watari at one end and the peer at the other, and are judged on the host
//! by programs that share no code with either.

mod case;
mod cases;
mod certificates;
mod drive;
mod end;
mod kernel;
mod net;
mod strongswan;
mod traffic;
mod verdict;
mod watari;

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use self::case::{Case, Program};
use self::drive::Drive;
use self::net::Hosts;
use crate::uml::boot::Machine;
use crate::uml::guest::Guest;
use crate::uml::{Context as _, Failure, Result, packages, testbed_directory};

/// Name of the task in a plan.
const TASK: &str = "interop-strongswan";
/// Most guests at once.
const MOST_GUESTS: usize = 6;

/// What a guest is asked.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    cases: Vec<String>,
    control: bool,
    programs: PathBuf,
}

/// What a guest found out about a case.
#[derive(Debug, Serialize, Deserialize)]
struct Found {
    complaints: Vec<String>,
    elapsed_ms: u64,
}

/// Runs the cases against a peer, those whose name contains `only` if it is given; prints a line for each and the totals. True if
/// all passed. The peer `strongswan-control` puts strongSwan at both ends of every case, to tell a wrong case from a wrong agent.
pub(crate) fn run(peer: &str, only: Option<&str>) -> std::result::Result<bool, String> {
    let control = match peer {
        "strongswan" => false,
        "strongswan-control" => true,
        _ => return Err(format!("the peer `{peer}` is not known: strongswan and strongswan-control are")),
    };
    let cases: Vec<Case> = chosen(control).into_iter().filter(|case| only.is_none_or(|part| case.name.contains(part))).collect();
    if cases.is_empty() {
        return Err(format!("no case has a name with `{}` in it", only.unwrap_or_default()));
    }
    run_cases(&cases).map_err(|failure| failure.to_string())
}

/// The cases, in a control run with strongSwan at the left end too.
fn chosen(control: bool) -> Vec<Case> {
    let mut cases = cases::all();
    if control {
        // strongSwan cannot always ask for a cookie, does not recover by itself after a crash, and repeats requests when two of it
        // rekey all the time.
        let feasible = |case: &Case| {
            case.terms.cookies != Some(case::Who::Us) && !case.terms.short_lived && !case.steps.contains(&case::Step::Recovered)
        };
        cases.retain(feasible);
        for case in &mut cases {
            case.left = Program::Strongswan;
        }
    }
    cases
}

fn run_cases(cases: &[Case]) -> Result<bool> {
    let programs = programs(cases)?;
    packages::provide(&packages::TSHARK)?;
    let strongswan = packages::provide(&packages::STRONGSWAN)?;
    // A guest has one processor.
    let guests = thread::available_parallelism().map_or(1, NonZero::get).min(MOST_GUESTS);
    println!("{} cases against strongSwan 5.9.8, {guests} guests at once; captures and logs under {}", cases.len(), output().display());
    let begin = Instant::now();
    let hands: Vec<Vec<&Case>> = (0..guests).map(|guest| cases.iter().skip(guest).step_by(guests).collect()).collect();
    let outcomes = thread::scope(|scope| {
        let guests: Vec<_> = hands
            .iter()
            .enumerate()
            .filter(|(_, hand)| !hand.is_empty())
            .map(|(number, hand)| {
                let (programs, strongswan) = (&programs, &strongswan);
                scope.spawn(move || one_guest(&output().join(format!("guest{number}")), hand, programs, strongswan))
            })
            .collect();
        guests.into_iter().map(|guest| guest.join().unwrap_or_else(|_| Err(Failure::new("a thread panicked")))).collect::<Vec<_>>()
    });
    let mut failed = Vec::new();
    for outcome in outcomes {
        failed.extend(outcome?);
    }
    // Guests run in real time: where the machine stalled, a peer may have repeated a message. As with scenarios both outcomes are printed.
    if !failed.is_empty() && cases.len() > 1 {
        println!("once more, in one guest: {}", failed.join(", "));
        let again: Vec<&Case> = cases.iter().filter(|case| failed.contains(&case.name)).collect();
        failed = one_guest(&output().join("again"), &again, &programs, &strongswan)?;
    }
    println!("{} passed, {} failed in {:.0} s", cases.len() - failed.len(), failed.len(), begin.elapsed().as_secs_f64());
    if !failed.is_empty() {
        println!("failed: {}", failed.join(", "));
    }
    Ok(failed.is_empty())
}

fn output() -> PathBuf {
    testbed_directory().join("runs/interop-strongswan")
}

/// Boots a guest for some cases and judges each as soon as the guest is done with it; returns the names of those that failed.
fn one_guest(output: &Path, cases: &[&Case], programs: &Path, strongswan: &packages::Layer) -> Result<Vec<String>> {
    let mut machine = Machine::new(output)?;
    machine.layers = vec![strongswan.clone()];
    machine.timeout = Duration::from_secs(60 + 60 * cases.len() as u64);
    // What an earlier run left must not be taken for an answer.
    if output.exists() {
        std::fs::remove_dir_all(output).context(output.display())?;
    }
    let order = Order {
        cases: cases.iter().map(|case| case.name.clone()).collect(),
        control: cases.iter().all(|case| case.left == Program::Strongswan),
        programs: programs.to_path_buf(),
    };
    let order = serde_json::to_value(order).context("order")?;
    thread::scope(|scope| {
        let guest = scope.spawn(|| machine.run(TASK, order));
        let mut failed = Vec::new();
        for case in cases {
            let file = output.join(format!("{}.json", case.name));
            while !file.exists() && !guest.is_finished() {
                thread::sleep(Duration::from_millis(20));
            }
            if !report(case, &file, output) {
                failed.push(case.name.clone());
            }
        }
        let finish = guest.join().unwrap_or_else(|_| Err(Failure::new("the thread of the guest panicked")));
        match finish {
            Ok(finish) if finish.exit_code == 0 => Ok(failed),
            Ok(finish) => Err(Failure(format!("the guest ended with exit code {}; see {}", finish.exit_code, finish.console.display()))),
            Err(failure) => Err(failure),
        }
    })
}

/// Prints how a case ended; whether it passed.
fn report(case: &Case, file: &Path, directory: &Path) -> bool {
    let found = std::fs::read_to_string(file).context("the guest ended before this case");
    let found = found.and_then(|text| serde_json::from_str::<Found>(&text).context(file.display()));
    let (mut complaints, seconds) = match found {
        Ok(found) => (found.complaints, Duration::from_millis(found.elapsed_ms).as_secs_f64()),
        Err(failure) => (vec![failure.to_string()], 0.0),
    };
    let seen = match verdict::of(case, directory) {
        Ok((more, seen)) => {
            complaints.extend(more);
            seen
        }
        Err(failure) => {
            complaints.push(failure.to_string());
            String::new()
        }
    };
    let word = if complaints.is_empty() { "passed" } else { "FAILED" };
    let mut text = format!("{word} {seconds:5.1} s  {:28} {} ({seen})\n", case.name, case.says);
    for complaint in &complaints {
        text += &format!("         {}\n", complaint.trim_end().replace('\n', "\n         "));
    }
    print!("{text}");
    complaints.is_empty()
}

/// Directory of watarid and watari, built now so that they are those of this source.
fn programs(cases: &[Case]) -> Result<PathBuf> {
    let executable = crate::uml::this_binary()?;
    let directory = executable.parent().map(Path::to_path_buf).unwrap_or_default();
    if cases.iter().all(|case| case.left == Program::Strongswan) {
        return Ok(directory);
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--locked", "--manifest-path", manifest, "-p", "watari-daemon", "-p", "watari-ctl"]);
    let status = command.status().context("cargo build")?;
    match status.success() {
        true => Ok(directory),
        false => Err(Failure::new("watarid could not be built")),
    }
}

/// The part that runs in the guest.
pub(crate) fn in_guest(guest: &Guest) -> Result<i32> {
    let order: Order = serde_json::from_value(guest.plan.argument.clone()).context("order")?;
    let hosts = Hosts::build(guest, order.programs)?;
    for case in chosen(order.control).iter().filter(|case| order.cases.contains(&case.name)) {
        let begin = Instant::now();
        let complaints = Drive::run(guest, &hosts, case);
        let elapsed_ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        let text = serde_json::to_string(&Found { complaints, elapsed_ms }).context("result")?;
        // Complete under its name at once: the host reads it as soon as it is there.
        let partial = format!("{}.partial", case.name);
        guest.write(&partial, text)?;
        let name = guest.output.join(format!("{}.json", case.name));
        std::fs::rename(guest.output.join(partial), &name).context(name.display())?;
    }
    Ok(0)
}
