//! Debian packages as unpacked directories under `target/testbed/packages/`: apt's own resolver and signatures, with all its
//! state redirected, so that neither root nor anything installed is needed. A finished set is never fetched again.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use super::{Context, Failure, Result, output_of, testbed_directory};

/// The release every measurement was made on. The host may be any Debian at least as new.
const RELEASE: &str = "bookworm";
/// Changes when the way sets are unpacked changes, so that old ones are made again.
const FORMAT: &str = "1";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Where a layer keeps its shared libraries.
pub(crate) const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// What every Debian system has, or what only a package's installation scripts need.
const BASE_SYSTEM: &[&str] = &[
    "adduser",
    "cdebconf",
    "debconf",
    "dpkg",
    "gcc-12-base",
    "init-system-helpers",
    "install-info",
    "libc6",
    "libc-bin",
    "libdb5.3",
    "libgcc-s1",
    "libpam-modules",
    "libpam-modules-bin",
    "libpam-runtime",
    "libpam0g",
    "libperl5.36",
    "libsemanage-common",
    "libsemanage2",
    "libsepol2",
    "lsb-base",
    "passwd",
    "perl",
    "perl-base",
    "perl-modules-5.36",
    "sysvinit-utils",
    "tar",
    "tpm-udev",
    "udev",
    "usrmerge",
];

/// A set of packages that is unpacked together into one directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PackageSet {
    /// Name of the directory.
    pub(crate) name: &'static str,
    /// The packages asked for; what they depend on comes with them.
    pub(crate) packages: &'static [&'static str],
}

/// The kernel and its modules.
pub(crate) const KERNEL: PackageSet = PackageSet { name: "kernel", packages: &["user-mode-linux"] };

/// What the guest needs to make and watch networks.
pub(crate) const TOOLS: PackageSet =
    PackageSet { name: "tools", packages: &["busybox-static", "iproute2", "iputils-ping", "radvd", "tcpdump"] };

/// The independent reader of captures.
pub(crate) const TSHARK: PackageSet = PackageSet { name: "tshark", packages: &["tshark"] };

/// strongSwan 5.9.8 with its plugins.
pub(crate) const STRONGSWAN: PackageSet = PackageSet {
    name: "strongswan",
    packages: &[
        "charon-systemd",
        "libcharon-extauth-plugins",
        "libcharon-extra-plugins",
        "libstrongswan",
        "libstrongswan-extra-plugins",
        "libstrongswan-standard-plugins",
        "strongswan-charon",
        "strongswan-libcharon",
        "strongswan-pki",
        "strongswan-swanctl",
    ],
};

/// What building a kernel needs beyond a compiler and make.
pub(crate) const KERNEL_BUILD: PackageSet =
    PackageSet { name: "kernel-build", packages: &["bc", "bison", "flex", "linux-source-6.12", "m4"] };

/// An unpacked set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layer {
    /// Root of the unpacked tree: holds `usr/`, `etc/`, never a real `bin/` or `lib/`.
    pub(crate) root: PathBuf,
}

impl Layer {
    /// A file of the layer.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// A command of the layer to be run on the host, with the layer's libraries.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.path(program));
        command.env("LD_LIBRARY_PATH", self.path(LIBRARIES));
        command
    }
}

/// Returns the unpacked set, downloading it first if it is not there yet. Says what it does, because that takes seconds.
pub(crate) fn provide(set: &PackageSet) -> Result<Layer> {
    let home = testbed_directory().join("packages");
    fs::create_dir_all(&home).context(home.display())?;
    let root = home.join(set.name);
    let stamp = home.join(format!("{}.stamp", set.name));
    let wanted = format!("{FORMAT} {RELEASE} {}\n", set.packages.join(" "));
    // Several test beds may run at once: the first fetches, the others wait for it.
    let lock = home.join("lock");
    let lock = File::create(&lock).context(lock.display())?;
    lock.lock().context("waiting for another test bed's download")?;
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) && root.is_dir() {
        return Ok(Layer { root });
    }
    let begin = Instant::now();
    eprintln!("fetching Debian packages: {}", set.name);
    let apt = Apt::new(&home)?;
    let names = apt.closure(set)?;
    let archives = apt.download(set.name, &names)?;
    let fresh = home.join(format!("{}.partial", set.name));
    remove_tree(&fresh)?;
    fs::create_dir_all(&fresh).context(fresh.display())?;
    for archive in &archives {
        output_of(Command::new("dpkg-deb").arg("-x").arg(archive).arg(&fresh))?;
    }
    merge_usr(&fresh)?;
    // Unpacked, the archives are of no more use.
    remove_tree(&apt.archives(set.name))?;
    remove_tree(&root)?;
    fs::rename(&fresh, &root).context(root.display())?;
    fs::write(&stamp, wanted).context(stamp.display())?;
    eprintln!("fetched {}: {} packages in {:.1} s", set.name, archives.len(), begin.elapsed().as_secs_f32());
    Ok(Layer { root })
}

fn remove_tree(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory).context(directory.display())?;
    }
    Ok(())
}

/// Moves `bin`, `sbin`, `lib` and `lib64` into `usr`: laid over a merged-/usr root, real ones would hide the host's links.
fn merge_usr(root: &Path) -> Result<()> {
    for name in ["bin", "sbin", "lib", "lib64"] {
        let old = root.join(name);
        if old.is_dir() && !old.is_symlink() {
            move_into(&old, &root.join("usr").join(name))?;
        }
    }
    Ok(())
}

fn move_into(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).context(to.display())?;
    for entry in fs::read_dir(from).context(from.display())? {
        let entry = entry.context(from.display())?;
        let (old, new) = (entry.path(), to.join(entry.file_name()));
        if old.is_dir() && !old.is_symlink() && new.is_dir() {
            move_into(&old, &new)?;
        } else {
            fs::rename(&old, &new).context(new.display())?;
        }
    }
    fs::remove_dir(from).context(from.display())
}

/// apt with its state, cache, sources and package status in a directory of our own.
struct Apt {
    home: PathBuf,
    options: Vec<String>,
}

impl Apt {
    fn new(packages: &Path) -> Result<Self> {
        let home = packages.join("apt");
        for directory in ["state/lists/partial", "cache/archives/partial", "etc", "archives"] {
            let directory = home.join(directory);
            fs::create_dir_all(&directory).context(directory.display())?;
        }
        let status = home.join("state/status");
        fs::write(&status, "").context(status.display())?;
        let sources = home.join("etc/sources.list");
        fs::write(&sources, sources_list()?).context(sources.display())?;
        let options = [
            format!("Dir::State={}", home.join("state").display()),
            format!("Dir::State::status={}", status.display()),
            format!("Dir::Cache={}", home.join("cache").display()),
            format!("Dir::Etc::sourcelist={}", sources.display()),
            "Dir::Etc::sourceparts=-".into(),
            "Dir::Etc::preferences=/nonexistent".into(),
            "Dir::Etc::preferencesparts=/nonexistent".into(),
            "APT::Sandbox::User=".into(),
            "APT::Architecture=amd64".into(),
            "APT::Architectures=amd64".into(),
            "APT::Default-Release=".into(),
            "Acquire::Retries=3".into(),
        ];
        Ok(Self { home, options: options.into_iter().flat_map(|option| ["-o".to_owned(), option]).collect() })
    }

    fn get(&self) -> Command {
        let mut command = Command::new("apt-get");
        command.args(&self.options).env("LC_ALL", "C.UTF-8");
        command
    }

    /// The packages of the set and all they depend on, less the base system.
    fn closure(&self, set: &PackageSet) -> Result<Vec<String>> {
        output_of(self.get().args(["-qq", "update"]))?;
        let plan = output_of(self.get().args(["-s", "-y", "--no-install-recommends", "install"]).args(set.packages))?;
        let names = planned(&plan);
        match names.is_empty() {
            true => Err(Failure(format!("apt offers nothing for {}", set.name))),
            false => Ok(names),
        }
    }

    /// Where a set's archives lie while they are unpacked.
    fn archives(&self, set: &str) -> PathBuf {
        self.home.join("archives").join(set)
    }

    /// Downloads the named packages and returns the archives.
    fn download(&self, set: &str, names: &[String]) -> Result<Vec<PathBuf>> {
        let directory = self.archives(set);
        remove_tree(&directory)?;
        fs::create_dir_all(&directory).context(directory.display())?;
        output_of(self.get().args(["-qq", "download"]).args(names).current_dir(&directory))?;
        let mut archives = Vec::new();
        for entry in fs::read_dir(&directory).context(directory.display())? {
            archives.push(entry.context(directory.display())?.path());
        }
        archives.sort();
        Ok(archives)
    }
}

/// The names in `apt-get -s install`'s plan ("Inst NAME (VERSION ...)") that do not belong to the base system.
fn planned(plan: &str) -> Vec<String> {
    plan.lines()
        .filter_map(|line| line.strip_prefix("Inst ")?.split_whitespace().next())
        .filter(|name| !BASE_SYSTEM.contains(name))
        .map(str::to_owned)
        .collect()
}

/// Mirrors are those of the host's own apt, whatever its release; TESTBED_MIRROR and TESTBED_SECURITY_MIRROR choose others.
fn sources_list() -> Result<String> {
    let known = mirrors(&host_sources());
    let chosen = |variable: &str, security: bool| {
        let own = || known.iter().find(|mirror| mirror.trim_end_matches('/').ends_with("-security") == security).cloned();
        std::env::var(variable).ok().or_else(own)
    };
    let main = chosen("TESTBED_MIRROR", false).ok_or_else(|| {
        Failure::new("no Debian mirror is known: apt on this host names none; set TESTBED_MIRROR (and TESTBED_SECURITY_MIRROR)")
    })?;
    let signed = format!("deb [signed-by={KEYRING}]");
    let mut list = format!("{signed} {main} {RELEASE} main\n{signed} {main} {RELEASE}-updates main\n");
    if let Some(security) = chosen("TESTBED_SECURITY_MIRROR", true) {
        list.push_str(&format!("{signed} {security} {RELEASE}-security main\n"));
    }
    Ok(list)
}

/// The text of every source file of the host's apt.
fn host_sources() -> String {
    let single = PathBuf::from("/etc/apt/sources.list");
    let parts = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|entry| entry.path());
    std::iter::once(single).chain(parts).filter_map(|file| fs::read_to_string(file).ok()).collect::<Vec<_>>().join("\n")
}

/// The mirrors that apt's source files name, one-line or deb822 form, of Debian and not of other projects.
fn mirrors(sources: &str) -> Vec<String> {
    let lines = sources.lines().map(str::trim).filter(|line| line.starts_with("deb ") || line.starts_with("URIs:"));
    let words = lines.flat_map(str::split_whitespace).filter(|word| word.contains("://"));
    words.filter(|mirror| mirror.contains("/debian")).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_of_apt_is_read_without_the_base_system() {
        let plan = "NOTE: This is only a simulation!\n\
            Inst libc6 (2.36-9+deb12u13 Debian:12 [amd64]) []\n\
            Inst libpcap0.8 (1.10.3-1 Debian:12.1/stable [amd64])\n\
            Inst tcpdump (4.99.3-1 Debian:12.1/stable [amd64])\n\
            Conf tcpdump (4.99.3-1 Debian:12.1/stable [amd64])\n";
        assert_eq!(planned(plan), ["libpcap0.8", "tcpdump"]);
    }

    #[test]
    fn mirrors_are_read_from_both_forms_of_apt_sources() {
        let sources = "# deb http://old/debian x main\ndeb [arch=amd64] http://mirror.example/debian bookworm main\n\
            Types: deb\nURIs: http://mirror.example/debian-security\nSuites: bookworm-security\n\
            deb http://other.example/tool stable main\n";
        assert_eq!(mirrors(sources), ["http://mirror.example/debian", "http://mirror.example/debian-security"]);
    }

    #[test]
    fn real_bin_and_lib_move_into_usr() {
        let root = testbed_directory().join(format!("merge-test-{}", std::process::id()));
        let nested = root.join("lib/x86_64-linux-gnu");
        fs::create_dir_all(&nested).unwrap();
        fs::create_dir_all(root.join("usr/lib/x86_64-linux-gnu")).unwrap();
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::write(nested.join("libtest.so"), "").unwrap();
        fs::write(root.join("bin/tool"), "").unwrap();
        merge_usr(&root).unwrap();
        assert!(root.join("usr/lib/x86_64-linux-gnu/libtest.so").exists());
        assert!(root.join("usr/bin/tool").exists());
        assert!(!root.join("lib").exists() && !root.join("bin").exists());
        fs::remove_dir_all(&root).unwrap();
    }
}
