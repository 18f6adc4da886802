//! One virtual machine: a User-Mode Linux process that sees the host's files read-only, lays package layers over them and gives
//! results back through one directory. Any number may run at once; none outlives the test bed.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::packages::{self, Layer};
use super::{Context, Failure, Result, testbed_directory};

/// Name of the environment variable that tells the guest's init its output directory.
pub(crate) const OUTPUT_VARIABLE: &str = "WATARI_OUTPUT";
/// File in the output directory that tells the guest what to do.
pub(crate) const PLAN_FILE: &str = "plan.json";
/// File in the output directory that holds the exit code.
pub(crate) const EXIT_FILE: &str = "exit-code";
/// File in the output directory that says why a task failed.
pub(crate) const FAILURE_FILE: &str = "failure.txt";
/// Exit code of a guest whose task failed or panicked.
pub(crate) const TASK_FAILED: i32 = 101;
/// First argument of this binary when it runs as the guest's init.
pub(crate) const GUEST_COMMAND: &str = "guest-init";

/// Which kernel boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kernel {
    /// Debian's package: Linux 6.1, drivers as modules.
    Debian61,
    /// Our own build of Debian's source: Linux 6.12, everything built in. Only there after `testbed kernel`.
    Built612,
}

impl Kernel {
    /// Where the executable of our own build is kept.
    pub(crate) fn built_path() -> PathBuf {
        testbed_directory().join("kernel/linux-6.12")
    }

    /// Whether it can boot without being built first.
    pub(crate) fn is_available(self) -> bool {
        self == Self::Debian61 || Self::built_path().exists()
    }
}

/// What the guest reads when it starts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Name of the work, understood by the function given to [`super::guest::guest_init`].
    pub(crate) task: String,
    /// Whatever the work needs to know.
    pub(crate) argument: serde_json::Value,
    /// The kernel that was booted.
    pub(crate) kernel: Kernel,
    /// Directory to load modules from; none if the kernel has everything built in.
    pub(crate) modules: Option<PathBuf>,
    /// Unpacked package sets, the topmost first.
    pub(crate) layers: Vec<PathBuf>,
    /// A statically linked busybox.
    pub(crate) busybox: PathBuf,
}

/// A machine to boot.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    /// The kernel.
    pub(crate) kernel: Kernel,
    /// Main memory in MiB; 64 is the least that works.
    pub(crate) memory: u32,
    /// Package layers beside the tools, for instance a peer, the topmost first.
    pub(crate) layers: Vec<Layer>,
    /// Directory for everything the guest gives back: new, empty, or of a former run, which is removed.
    pub(crate) output: PathBuf,
    /// How long the machine may run, by the host's clock.
    pub(crate) timeout: Duration,
    /// Let the guest's clock jump over idle time (6.12 only).
    pub(crate) time_travel: bool,
    /// Leave xfrm_interface in where the kernel has it built in (6.12).
    pub(crate) xfrm_interface: bool,
    /// The program that becomes init; it must hand `guest-init` to [`super::guest::guest_init`].
    pub(crate) init: PathBuf,
}

/// How a machine ended.
#[derive(Debug, Clone)]
pub(crate) struct Finish {
    /// What the guest wrote as its exit code.
    pub(crate) exit_code: i32,
    /// Time from start to end by the host's clock.
    pub(crate) elapsed: Duration,
    /// Everything printed on the guest's console.
    pub(crate) console: PathBuf,
}

const SCRATCH_PREFIX: &str = "watari-uml-";
static NUMBER: AtomicU32 = AtomicU32::new(0);

impl Machine {
    /// A machine with Debian's kernel, 256 MiB and two minutes, that runs this very binary.
    pub(crate) fn new(output: impl Into<PathBuf>) -> Result<Self> {
        Ok(Self {
            kernel: Kernel::Debian61,
            memory: 256,
            layers: Vec::new(),
            output: output.into(),
            timeout: Duration::from_secs(120),
            time_travel: false,
            xfrm_interface: false,
            init: super::this_binary()?,
        })
    }

    /// One with `kernel` whose output is the directory `run` among the test bed's runs.
    pub(crate) fn on(kernel: Kernel, run: impl AsRef<Path>) -> Result<Self> {
        Ok(Self { kernel, ..Self::new(testbed_directory().join("runs").join(run))? })
    }

    /// Runs `task` to a good end and reads what the guest wrote into `file` of the output.
    pub(crate) fn result<T: DeserializeOwned>(&self, task: &str, argument: serde_json::Value, file: &str) -> Result<T> {
        let finish = self.run(task, argument)?;
        if finish.exit_code != 0 {
            return Err(Failure(format!("{task} ended with exit code {}; see {}", finish.exit_code, finish.console.display())));
        }
        let text = fs::read_to_string(self.output.join(file)).context(file)?;
        serde_json::from_str(&text).context(file)
    }

    /// Boots, runs `task` in the guest and waits for the end. A guest that dies without an exit code is a failure that quotes
    /// the last lines of its console; one whose task failed is a failure in the task's own words.
    pub(crate) fn run(&self, task: &str, argument: serde_json::Value) -> Result<Finish> {
        let (executable, modules) = self.kernel_files()?;
        let tools = packages::provide(&packages::TOOLS)?;
        let output = self.prepare_output()?;
        let plan = Plan {
            task: task.into(),
            argument,
            kernel: self.kernel,
            modules,
            busybox: tools.path("usr/bin/busybox"),
            layers: self.layers.iter().chain([&tools]).map(|l| l.root.clone()).collect(),
        };
        let text = serde_json::to_string_pretty(&plan).context("writing the plan")?;
        fs::write(output.join(PLAN_FILE), text).context(PLAN_FILE)?;
        let console = output.join("console.log");
        let scratch = Scratch::new()?;
        let begin = Instant::now();
        let mut process = self.spawn(&executable, &output, &console, &scratch.0)?;
        let in_time = process.wait(self.timeout);
        drop(process);
        let elapsed = begin.elapsed();
        if !in_time {
            return Err(Failure(format!(
                "the guest was stopped after {} s; its last words:\n{}",
                self.timeout.as_secs(),
                last_lines(&console)
            )));
        }
        let code = fs::read_to_string(output.join(EXIT_FILE)).unwrap_or_default();
        match code.trim().parse() {
            Ok(TASK_FAILED) => {
                let why = fs::read_to_string(output.join(FAILURE_FILE)).unwrap_or_default();
                Err(Failure(format!("in the guest: {}", why.trim())))
            }
            Ok(exit_code) => Ok(Finish { exit_code, elapsed, console }),
            Err(_) => Err(Failure(format!("the guest ended without an exit code; its last words:\n{}", last_lines(&console)))),
        }
    }

    fn kernel_files(&self) -> Result<(PathBuf, Option<PathBuf>)> {
        match self.kernel {
            Kernel::Debian61 if self.time_travel => Err(Failure::new("Debian's 6.1 kernel knows no time travel: boot 6.12")),
            Kernel::Debian61 => {
                let layer = packages::provide(&packages::KERNEL)?;
                let versions = layer.path("usr/lib/uml/modules");
                let mut entries = fs::read_dir(&versions).context(versions.display())?;
                let version =
                    entries.next().ok_or_else(|| Failure::new("the kernel package holds no modules"))?.context(versions.display())?;
                Ok((layer.path("usr/bin/linux.uml"), Some(version.path())))
            }
            Kernel::Built612 => {
                let path = Kernel::built_path();
                match path.exists() {
                    true => Ok((path, None)),
                    false => Err(Failure::new("there is no 6.12 kernel yet: build it with `cargo testbed kernel`")),
                }
            }
        }
    }

    /// Makes an empty output directory and returns its canonical path, which is the same inside and outside.
    fn prepare_output(&self) -> Result<PathBuf> {
        if self.output.exists() {
            // A mistyped path must not cost anybody's files.
            let is_ours =
                self.output.join(PLAN_FILE).exists() || fs::read_dir(&self.output).is_ok_and(|mut entries| entries.next().is_none());
            if !is_ours {
                return Err(Failure(format!("{}: holds something other than a former run", self.output.display())));
            }
            fs::remove_dir_all(&self.output).context(self.output.display())?;
        }
        fs::create_dir_all(&self.output).context(self.output.display())?;
        let output = self.output.canonicalize().context(self.output.display())?;
        for path in [&output, &self.init] {
            if path.to_string_lossy().contains(char::is_whitespace) {
                return Err(Failure(format!("{}: a kernel command line cannot hold a path with blanks", path.display())));
            }
        }
        Ok(output)
    }

    fn spawn(&self, executable: &Path, output: &Path, console: &Path, scratch: &Path) -> Result<Process> {
        let log = File::create(console).context(console.display())?;
        let errors = log.try_clone().context(console.display())?;
        let mut command = Command::new(executable);
        command
            .args(self.command_line(output, scratch))
            .env_clear()
            .env("TMPDIR", scratch)
            .env("HOME", scratch)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .current_dir(scratch)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .process_group(0);
        let kernel = command.spawn().context("starting User-Mode Linux")?;
        Process::guarded(kernel)
    }

    fn command_line(&self, output: &Path, scratch: &Path) -> Vec<String> {
        let mut line = vec![
            format!("mem={}M", self.memory),
            format!("uml_dir={}", scratch.display()),
            "umid=guest".into(),
            "root=/dev/root".into(),
            "rootfstype=hostfs".into(),
            "rootflags=/".into(),
            "ro".into(),
            "con=null".into(),
            "con0=null,fd:1".into(),
            "quiet".into(),
            "panic=-1".into(),
            format!("{OUTPUT_VARIABLE}={}", output.display()),
            format!("init={}", self.init.display()),
        ];
        if self.kernel == Kernel::Built612 {
            // xfrm_interface drops BU and BA that carry HAO or RT2 in ESP; jitterentropy never ends under time travel.
            let kept_out = if self.xfrm_interface { "jent_mod_init" } else { "xfrmi_init,jent_mod_init" };
            line.push(format!("initcall_blacklist={kept_out}"));
            if self.time_travel {
                line.push("time-travel=inf-cpu".into());
            }
        }
        line.extend(["--".into(), GUEST_COMMAND.into()]);
        line
    }
}

/// A running machine: the kernel, which leads a process group of its own, and a guardian in that group.
struct Process {
    kernel: Child,
    guardian: Child,
}

impl Process {
    /// Adds the guardian: it reads a pipe that only we hold open, and when we are gone, however we ended, it kills the whole
    /// group. The kernel's helper processes would otherwise outlive both.
    fn guarded(mut kernel: Child) -> Result<Self> {
        let group = i32::try_from(kernel.id()).unwrap_or_default();
        let guardian = Command::new("/bin/sh").args(["-c", "read gone; kill -KILL 0"]).stdin(Stdio::piped()).process_group(group).spawn();
        match guardian {
            Ok(guardian) => Ok(Self { kernel, guardian }),
            Err(error) => {
                let _ = kernel.kill();
                let _ = kernel.wait();
                Err(Failure(format!("starting the machine's guardian: {error}")))
            }
        }
    }

    /// Waits for the end; false when `timeout` passed first.
    fn wait(&mut self, timeout: Duration) -> bool {
        let begin = Instant::now();
        while begin.elapsed() < timeout {
            match self.kernel.try_wait() {
                Ok(None) => sleep(Duration::from_millis(5)),
                _ => return true,
            }
        }
        false
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Closing its pipe makes the guardian end the group, itself included.
        drop(self.guardian.stdin.take());
        let _ = self.guardian.wait();
        let _ = self.kernel.wait();
    }
}

/// A directory in memory for the machine's memory file and control socket; removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{SCRATCH_PREFIX}{}-{number}", std::process::id());
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let base = ["/dev/shm", "/tmp", "/var/tmp"]
            .into_iter()
            .find(|place| Path::new(place).is_dir() && !forbids_execution(&mounts, place))
            .ok_or_else(|| Failure::new("User-Mode Linux needs a directory without noexec: /dev/shm or /tmp"))?;
        remove_abandoned(Path::new(base));
        let path = Path::new(base).join(name);
        fs::create_dir_all(&path).context(path.display())?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Removes what test beds that were killed left behind: their process is gone.
fn remove_abandoned(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(SCRATCH_PREFIX)?.split('-').next()?.parse::<u32>().ok());
        if owner.is_some_and(|id| !Path::new("/proc").join(id.to_string()).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Whether the mount table says that `place` is mounted noexec.
fn forbids_execution(mounts: &str, place: &str) -> bool {
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            Some((fields.next()?, fields.nth(1)?))
        })
        .filter(|(point, _)| *point == place)
        .any(|(_, options)| options.split(',').any(|option| option == "noexec"))
}

/// The end of a console log.
pub(crate) fn last_lines(file: &Path) -> String {
    let text = fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(25);
    lines.get(from..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_noexec_mount_is_recognised() {
        let mounts = "tmpfs /dev/shm tmpfs rw,nosuid,nodev,noexec 0 0\n/dev/vda /tmp ext4 rw 0 0\n";
        assert!(forbids_execution(mounts, "/dev/shm"));
        assert!(!forbids_execution(mounts, "/tmp"));
    }

    #[test]
    fn only_the_built_kernel_gets_the_blacklist() {
        let mut machine = Machine::new("/nowhere").unwrap();
        let line = |m: &Machine| m.command_line(Path::new("/o"), Path::new("/s")).join(" ");
        assert!(!line(&machine).contains("blacklist"));
        machine.kernel = Kernel::Built612;
        machine.time_travel = true;
        assert!(line(&machine).contains("initcall_blacklist=xfrmi_init,jent_mod_init time-travel=inf-cpu"));
        assert!(line(&machine).ends_with("-- guest-init"));
    }
}
