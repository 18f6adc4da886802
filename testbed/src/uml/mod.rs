//! User-Mode Linux: a real kernel as an ordinary process, without root and without installing anything.
//! `packages` fetches, `boot` starts a machine, `guest` is its init, `hosts` and `links` are the network inside.

pub(crate) mod boot;
pub(crate) mod build;
pub(crate) mod guest;
pub(crate) mod hosts;

pub(crate) mod links;
pub(crate) mod packages;
pub(crate) mod smoke;
mod sockets;
pub(crate) mod topology;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What went wrong, as a sentence that names the command or the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure(pub(crate) String);

impl Failure {
    /// A failure with the given sentence.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

/// This program's file. Cargo may have put a new one in its place meanwhile (`check` runs `cargo test`): Linux then marks the old name.
pub(crate) fn this_binary() -> Result<PathBuf> {
    let executable = std::env::current_exe().context("finding this binary")?;
    Ok(unmarked(executable))
}

fn unmarked(executable: PathBuf) -> PathBuf {
    let name = executable.to_str().and_then(|name| name.strip_suffix(" (deleted)")).map(PathBuf::from);
    name.filter(|_| !executable.exists()).unwrap_or(executable)
}

/// Outcome of everything in this module.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// Turns any error into a [`Failure`] that says what was being done.
pub(crate) trait Context<T> {
    /// Puts `doing` in front of the error.
    fn context(self, doing: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, doing: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Failure(format!("{doing}: {error}")))
    }
}

/// Runs a command to its end and returns what it printed; anything but exit status 0 is a failure with its complaint.
pub(crate) fn output_of(command: &mut Command) -> Result<String> {
    let name = format!("{command:?}");
    let output = command.output().context(&name)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(Failure(format!("{name}: {}: {}", output.status, complaint.trim())))
}

/// Cargo's target directory: the one this binary was built into.
pub(crate) fn target_directory() -> PathBuf {
    let executable = this_binary().unwrap_or_default();
    executable
        .ancestors()
        .skip(1)
        .find(|directory| directory.join("CACHEDIR.TAG").exists() || directory.ends_with("target"))
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), Path::to_path_buf)
}

/// Where the test bed keeps what it downloaded, built and recorded.
pub(crate) fn testbed_directory() -> PathBuf {
    target_directory().join("testbed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_that_cargo_replaced_is_found_under_its_name() {
        assert_eq!(unmarked(PathBuf::from("/nowhere/debug/testbed (deleted)")), PathBuf::from("/nowhere/debug/testbed"));
        assert_eq!(unmarked(PathBuf::from("/nowhere/debug/testbed")), PathBuf::from("/nowhere/debug/testbed"));
        assert!(this_binary().unwrap().exists());
    }
}
