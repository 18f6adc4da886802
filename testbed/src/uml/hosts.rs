//! Hosts of a scenario: one network namespace each. A thread that enters a namespace, and every process it starts, is that host.
//! Daemons get a /run of their own, so that their control sockets do not collide.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use super::guest::{Guest, tool};
use super::{Context, Failure, Result, boot::last_lines, output_of};

/// A host of the scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Namespace {
    /// Its name, for instance `mn`.
    pub(crate) name: String,
    output: PathBuf,
}

impl Guest {
    /// Makes a host, or returns it if it is there already. Its loopback is up.
    pub(crate) fn namespace(&self, name: &str) -> Result<Namespace> {
        let namespace = Namespace { name: name.into(), output: self.output.clone() };
        if !namespace.file().exists() {
            self.ip(&format!("netns add {name}"))?;
            namespace.exec("ip link set lo up")?;
        }
        Ok(namespace)
    }
}

impl Namespace {
    /// The file that names the namespace.
    pub(crate) fn file(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// Calls `action` on a thread inside the namespace: sockets it opens and processes it starts belong to this host. For
    /// /proc/net use /proc/thread-self/net there.
    pub(crate) fn enter<T: Send>(&self, action: impl FnOnce() -> T + Send) -> Result<T> {
        let file = self.file();
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    watari_sys::enter_network_namespace(&file).context(file.display())?;
                    Ok(action())
                })
                .join()
                .unwrap_or_else(|_| Err(Failure(format!("a thread on {} panicked", self.name))))
        })
    }

    /// Runs a shell command to its end; anything but exit status 0 is a failure.
    pub(crate) fn exec(&self, script: &str) -> Result<String> {
        self.enter(|| output_of(tool("sh").args(["-c", script])))?.map_err(|failure| Failure(format!("on {}: {failure}", self.name)))
    }

    /// Runs several `ip` commands, one per line, stopping at the first that fails.
    pub(crate) fn ip_batch(&self, lines: &str) -> Result<()> {
        let file = self.output.join(format!("{}-ip-batch", self.name));
        fs::write(&file, lines).context(file.display())?;
        self.enter(|| output_of(tool("ip").arg("-batch").arg(&file)))?
            .map_err(|failure| Failure(format!("on {}: {failure}\n{lines}", self.name)))?;
        fs::remove_file(&file).context(file.display())
    }

    /// Sets a kernel parameter, `net.ipv6.conf.all.forwarding` for instance.
    pub(crate) fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        let file = format!("/proc/sys/{}", name.replace('.', "/"));
        self.enter(|| fs::write(&file, value))?.context(file)
    }

    /// A counter of /proc/net/xfrm_stat, `XfrmInNoStates` for instance.
    pub(crate) fn xfrm_counter(&self, name: &str) -> Result<u64> {
        let file = "/proc/thread-self/net/xfrm_stat";
        let table = self.enter(|| fs::read_to_string(file))?.context(file)?;
        counter(&table, name).ok_or_else(|| Failure(format!("{file} has no {name}")))
    }

    /// Writes a file that only processes started with [`Namespace::spawn`] on this host see under /etc.
    pub(crate) fn etc_file(&self, name: &str, content: &str) -> Result<()> {
        let file = Path::new("/etc/netns").join(&self.name).join(name);
        if let Some(directory) = file.parent() {
            fs::create_dir_all(directory).context(directory.display())?;
        }
        // `ip netns exec` binds the top entries over those of /etc, which must therefore exist.
        let top = Path::new(name).iter().next().unwrap_or_default();
        let target = Path::new("/etc").join(top);
        if !target.exists() {
            match Path::new(name).iter().count() {
                1 => fs::write(&target, "").context(target.display())?,
                _ => fs::create_dir_all(&target).context(target.display())?,
            }
        }
        fs::write(&file, content).context(file.display())
    }

    /// Starts a daemon by a shell command, with a private /run and /etc/netns/NAME over /etc. What it prints goes to
    /// `HOST-NAME.log` in the output directory.
    pub(crate) fn spawn(&self, name: &str, script: &str) -> Result<Daemon> {
        let log = self.output.join(format!("{}-{name}.log", self.name));
        let file = File::create(&log).context(log.display())?;
        let errors = file.try_clone().context(log.display())?;
        let mut command = tool("ip");
        command
            .args(["netns", "exec", &self.name, "sh", "-c"])
            .arg(format!("mount -t tmpfs tmpfs /run && exec {script}"))
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors);
        let child = command.spawn().context(script)?;
        Ok(Daemon { name: format!("{name} on {}", self.name), child, log })
    }

    /// Starts a program in the namespace and nothing else around it; the caller arranges its input and output.
    pub(crate) fn start(&self, command: &mut Command) -> Result<Child> {
        self.enter(|| command.spawn())?.context(&self.name)
    }
}

/// Finds "NAME   VALUE" in a table of counters.
fn counter(table: &str, name: &str) -> Option<u64> {
    table.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        (fields.next()? == name).then(|| fields.next()?.parse().ok())?
    })
}

/// A program that runs until it is stopped; killed when dropped.
#[derive(Debug)]
pub(crate) struct Daemon {
    name: String,
    child: Child,
    /// What it printed.
    pub(crate) log: PathBuf,
}

impl Daemon {
    pub(crate) fn of(name: impl Into<String>, child: Child, log: PathBuf) -> Self {
        Self { name: name.into(), child, log }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until its log contains `text`; a failure quotes the log.
    pub(crate) fn wait_for(&mut self, text: &str, timeout: Duration) -> Result<()> {
        let begin = Instant::now();
        loop {
            if fs::read_to_string(&self.log).is_ok_and(|log| log.contains(text)) {
                return Ok(());
            }
            let complaint = if !self.is_running() {
                "ended early"
            } else if begin.elapsed() > timeout {
                "did not come that far"
            } else {
                sleep(Duration::from_millis(10));
                continue;
            };
            return Err(Failure(format!("{} {complaint} (waited for '{text}'):\n{}", self.name, last_lines(&self.log))));
        }
    }

    /// Runs a shell command where the daemon lives, with its /run and /etc: for its control program.
    pub(crate) fn exec(&self, script: &str) -> Result<String> {
        let target = self.id().to_string();
        // setns(2) into a mount namespace forgets our changed root: -r takes the daemon's.
        output_of(tool("nsenter").args(["-t", &target, "-m", "-n", "-r", "-w", "sh", "-c", script]))
            .map_err(|failure| Failure(format!("{}: {failure}", self.name)))
    }

    /// Sends a signal, `TERM` or `HUP` for instance.
    pub(crate) fn signal(&self, signal: &str) -> Result<()> {
        let target = self.id().to_string();
        output_of(tool("sh").args(["-c", &format!("kill -{signal} {target}")])).map(|_| ())
    }

    /// Asks it to end (SIGTERM) and waits up to five seconds before killing it.
    pub(crate) fn stop(&mut self) -> Result<()> {
        if self.is_running() {
            self.signal("TERM")?;
        }
        let begin = Instant::now();
        while self.is_running() {
            if begin.elapsed() > Duration::from_secs(5) {
                self.kill();
            }
            sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Kills it at once (SIGKILL), as a crash would.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_found_by_its_whole_name() {
        let table = "XfrmInNoStates          \t3\nXfrmInNoStatesExtra 9\nXfrmOutNoStates 5\n";
        assert_eq!(counter(table, "XfrmInNoStates"), Some(3));
        assert_eq!(counter(table, "XfrmOutNoStates"), Some(5));
        assert_eq!(counter(table, "XfrmInNo"), None);
    }
}
