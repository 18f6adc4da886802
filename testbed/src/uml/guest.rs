//! The guest's init (process 1 of the machine): builds a writable root over the host's files, loads modules, runs the task and
//! powers off with its exit code. Whatever happens, panic included, the machine ends.

use std::fs;
use std::os::unix::fs::symlink;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use super::boot::{EXIT_FILE, FAILURE_FILE, OUTPUT_VARIABLE, PLAN_FILE, Plan, TASK_FAILED};
use super::{Context, Failure, Result, output_of};

/// What Debian's kernel keeps as modules and Mobile IPv6 under IPsec needs, in an order that satisfies the dependencies.
const MODULES: &[&str] = &[
    "ipv6",
    "af_key",
    "xfrm_user",
    "esp4",
    "esp6",
    "ah4",
    "ah6",
    "mip6",
    "tunnel6",
    "ip6_tunnel",
    "veth",
    "bridge",
    "sch_netem",
    "gcm",
    "ghash-generic",
    "seqiv",
    "echainiv",
    "authenc",
    "authencesn",
    "cbc",
    "ctr",
    "hmac",
    "sha512_generic",
    "chacha_generic",
    "poly1305_generic",
    "chacha20poly1305",
    "drbg",
    "xfrm6_tunnel",
    "crypto_null",
];

/// A place every Debian root has and nothing of ours needs.
const STAGE: &str = "/mnt";

/// The machine, seen from inside.
pub(crate) struct Guest {
    /// Directory that outlives the machine; the same path on both sides.
    pub(crate) output: PathBuf,
    /// What the machine was booted for.
    pub(crate) plan: Plan,
}

/// Whether this process is the init of a guest.
pub(crate) fn is_guest() -> bool {
    std::process::id() == 1 && std::env::var_os(OUTPUT_VARIABLE).is_some()
}

/// Runs as init: prepares the machine, calls `task` and powers off. Never returns in a guest; elsewhere it is a failure.
pub(crate) fn guest_init(task: impl FnOnce(&Guest) -> Result<i32>) -> Result<()> {
    if !is_guest() {
        return Err(Failure::new("guest-init is only for the init of a guest"));
    }
    let output = PathBuf::from(std::env::var_os(OUTPUT_VARIABLE).unwrap_or_default());
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let guest = prepare(&output)?;
        task(&guest)
    }));
    let code = match outcome {
        Ok(Ok(code)) => code,
        Ok(Err(failure)) => {
            eprintln!("guest: {failure}");
            let _ = fs::write(output.join(FAILURE_FILE), format!("{failure}\n"));
            TASK_FAILED
        }
        Err(_) => {
            let _ = fs::write(output.join(FAILURE_FILE), "the task panicked; see console.log\n");
            TASK_FAILED
        }
    };
    let _ = fs::write(output.join(EXIT_FILE), format!("{code}\n"));
    power_off();
    Ok(())
}

fn power_off() {
    let _ = fs::write("/proc/sysrq-trigger", "o");
    // The power goes a moment later; init must not end before.
    sleep(Duration::from_secs(30));
}

fn prepare(output: &Path) -> Result<Guest> {
    let plan = output.join(PLAN_FILE);
    let plan = fs::read_to_string(&plan).context(plan.display())?;
    let plan: Plan = serde_json::from_str(&plan).context("reading the plan")?;
    let busybox = &plan.busybox;
    mount(busybox, "proc", "proc", "/proc", "")?;
    if let Some(modules) = &plan.modules {
        let overlay = modules.join("kernel/fs/overlayfs/overlay.ko");
        output_of(Command::new(busybox).arg("insmod").arg(overlay))?;
    }
    enter_overlay(&plan, output)?;
    load_modules(&plan)?;
    let guest = Guest { output: output.to_path_buf(), plan };
    guest.quiet_root_namespace()?;
    Ok(guest)
}

fn mount(busybox: &Path, kind: &str, source: &str, target: &str, options: &str) -> Result<()> {
    let mut command = Command::new(busybox);
    command.args(["mount", "-t", kind]);
    if !options.is_empty() {
        command.args(["-o", options]);
    }
    output_of(command.args([source, target])).map(|_| ())
}

/// Lays the package layers and a memory file system over the host's files and makes that the root.
fn enter_overlay(plan: &Plan, output: &Path) -> Result<()> {
    let busybox = &plan.busybox;
    mount(busybox, "tmpfs", "tmpfs", STAGE, "")?;
    let stage = |name: &str| format!("{STAGE}/{name}");
    let make = |path: &str| fs::create_dir_all(path).context(path);
    let mut lower = Vec::new();
    for (index, layer) in plan.layers.iter().enumerate() {
        // A layer is a mount of its own: overlayfs refuses a lower directory inside another one.
        let target = stage(&format!("layer{index}"));
        make(&target)?;
        mount(busybox, "hostfs", "none", &target, &layer.display().to_string())?;
        lower.push(target);
    }
    lower.push("/".into());
    for name in ["upper", "work", "root"] {
        make(&stage(name))?;
    }
    let options = format!("lowerdir={},upperdir={},workdir={}", lower.join(":"), stage("upper"), stage("work"));
    let root = stage("root");
    mount(busybox, "overlay", "overlay", &root, &options)?;
    for (kind, place) in [("proc", "proc"), ("sysfs", "sys"), ("devtmpfs", "dev"), ("tmpfs", "run")] {
        make(&format!("{root}/{place}"))?;
        mount(busybox, kind, kind, &format!("{root}/{place}"), "")?;
    }
    for (kind, place) in [("devpts", "dev/pts"), ("tmpfs", "dev/shm")] {
        make(&format!("{root}/{place}"))?;
        mount(busybox, kind, kind, &format!("{root}/{place}"), "")?;
    }
    let inside = format!("{root}{}", output.display());
    make(&inside)?;
    mount(busybox, "hostfs", "none", &inside, &output.display().to_string())?;
    std::os::unix::fs::chroot(&root).context("chroot")?;
    std::env::set_current_dir("/").context("chdir")?;
    link_devices();
    Ok(())
}

/// The links that shells and daemons expect in /dev.
fn link_devices() {
    for (target, link) in [
        ("/proc/self/fd", "/dev/fd"),
        ("/proc/self/fd/0", "/dev/stdin"),
        ("/proc/self/fd/1", "/dev/stdout"),
        ("/proc/self/fd/2", "/dev/stderr"),
    ] {
        if !Path::new(link).exists() {
            let _ = symlink(target, link);
        }
    }
}

fn load_modules(plan: &Plan) -> Result<()> {
    let Some(modules) = &plan.modules else {
        return Ok(());
    };
    let version = modules.file_name().unwrap_or_default();
    let place = Path::new("/lib/modules");
    fs::create_dir_all(place).context(place.display())?;
    let link = place.join(version);
    if !link.exists() {
        symlink(modules, &link).context(link.display())?;
    }
    output_of(Command::new(&plan.busybox).args(["modprobe", "-a"]).args(MODULES))?;
    // From here on a missing algorithm is an answer: without this PF_KEY REGISTER probes every one for half a minute.
    fs::write("/proc/sys/kernel/modprobe", "\n").context("clearing the module loader's path")
}

impl Guest {
    /// The root namespace holds the links only: it must not speak on them.
    fn quiet_root_namespace(&self) -> Result<()> {
        for scope in ["all", "default"] {
            let file = format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6");
            fs::write(&file, "1").context(file)?;
        }
        fs::create_dir_all("/run/netns").context("/run/netns")?;
        fs::create_dir_all("/tmp").context("/tmp")?;
        self.ip("link set lo up").map(|_| ())
    }

    /// Runs `ip` with the given words in the root namespace.
    pub(crate) fn ip(&self, words: &str) -> Result<String> {
        output_of(tool("ip").args(words.split_whitespace()))
    }

    /// Runs several `ip` commands, one per line, in the root namespace, stopping at the first that fails.
    pub(crate) fn ip_batch(&self, lines: &str) -> Result<()> {
        let file = self.output.join("ip-batch");
        fs::write(&file, lines).context(file.display())?;
        output_of(tool("ip").arg("-batch").arg(&file))?;
        fs::remove_file(&file).context(file.display())
    }

    /// Writes a result for the host.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<()> {
        let file = self.output.join(name);
        fs::write(&file, content).context(file.display())
    }
}

/// A command with the environment that a guest's processes expect.
pub(crate) fn tool(program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root")
        .env("LC_ALL", "C.UTF-8");
    command
}
