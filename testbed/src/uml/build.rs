//! Builds the Linux 6.12 kernel for User-Mode Linux from Debian's source, once, into `target/testbed/kernel/`. Everything is
//! built in, so that it boots in a second; the source, flex and bison come as unpacked packages, gcc and make from the host.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use super::boot::{Kernel, last_lines};
use super::packages::{self, Layer};
use super::{Context, Failure, Result, output_of, testbed_directory};

/// Archive in the source package, and the directory it unpacks to.
const SOURCE: &str = "linux-source-6.12";
const DEFAULTS: &str = "x86_64_defconfig";

/// What differs from the defaults of the um architecture; each must be found in the final configuration.
const WANTED: &str = "
    NAMESPACES UTS_NS IPC_NS USER_NS PID_NS NET_NS MAGIC_SYSRQ UML_TIME_TRAVEL_SUPPORT
    HOSTFS OVERLAY_FS TMPFS TMPFS_XATTR DEVTMPFS DEVTMPFS_MOUNT UNIX98_PTYS
    NET PACKET UNIX INET IP_ADVANCED_ROUTER IP_MULTIPLE_TABLES NET_IPIP
    IPV6 IPV6_ROUTER_PREF IPV6_ROUTE_INFO IPV6_OPTIMISTIC_DAD IPV6_MIP6 IPV6_TUNNEL IPV6_MULTIPLE_TABLES IPV6_SUBTREES
    XFRM_USER XFRM_INTERFACE XFRM_SUB_POLICY XFRM_MIGRATE XFRM_STATISTICS NET_KEY NET_KEY_MIGRATE
    INET_AH INET_ESP INET_IPCOMP INET6_AH INET6_ESP INET6_IPCOMP
    NETDEVICES NET_CORE DUMMY VETH TUN BRIDGE NET_SCHED NET_SCH_NETEM
    NETFILTER NETFILTER_ADVANCED NF_CONNTRACK NF_NAT NF_TABLES NF_TABLES_INET NF_TABLES_IPV4 NF_TABLES_IPV6
    NFT_CT NFT_NAT NFT_MASQ NFT_XFRM
    CRYPTO CRYPTO_USER CRYPTO_AES CRYPTO_DES CRYPTO_CBC CRYPTO_CTR CRYPTO_GCM CRYPTO_CCM CRYPTO_CHACHA20POLY1305
    CRYPTO_AUTHENC CRYPTO_SEQIV CRYPTO_ECHAINIV CRYPTO_NULL CRYPTO_HMAC CRYPTO_CMAC CRYPTO_XCBC CRYPTO_MD5
    CRYPTO_SHA1 CRYPTO_SHA256 CRYPTO_SHA512 CRYPTO_DRBG_MENU DEBUG_INFO_NONE
";
const UNWANTED: &str = "MODULES UML_NET_VECTOR SOUND BLK_DEV_UBD DEBUG_INFO";

/// Builds the kernel unless it is there. Takes about eight minutes of processor time and 2 GB under `target/`, freed at the end.
pub(crate) fn kernel() -> Result<()> {
    let target = Kernel::built_path();
    if target.exists() {
        eprintln!("{} is there already", target.display());
        return Ok(());
    }
    for program in ["gcc", "make", "ld"] {
        output_of(Command::new(program).arg("--version")).context("building a kernel needs gcc, make and binutils on this machine")?;
    }
    let begin = Instant::now();
    let tools = packages::provide(&packages::KERNEL_BUILD)?;
    let work = testbed_directory().join("kernel/build");
    if work.exists() {
        fs::remove_dir_all(&work).context(work.display())?;
    }
    fs::create_dir_all(&work).context(work.display())?;
    eprintln!("unpacking the kernel source");
    let archive = tools.path(&format!("usr/src/{SOURCE}.tar.xz"));
    output_of(Command::new("tar").arg("-xJf").arg(archive).arg("-C").arg(&work))?;
    let source = work.join(SOURCE);
    let wrapped = work.join("bin");
    wrap_tools(&tools, &wrapped)?;
    configure(&source, &wrapped)?;
    compile(&source, &wrapped, &work.join("build.log"))?;
    let fresh = target.with_extension("new");
    fs::copy(source.join("linux"), &fresh).context(fresh.display())?;
    output_of(Command::new("strip").arg(&fresh))?;
    fs::rename(&fresh, &target).context(target.display())?;
    fs::remove_dir_all(&work).context(work.display())?;
    eprintln!("built {} in {} s", target.display(), begin.elapsed().as_secs());
    Ok(())
}

/// Puts each tool behind a script that gives it its own libraries, which the host's compiler must not see.
fn wrap_tools(tools: &Layer, directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).context(directory.display())?;
    for tool in ["bc", "bison", "flex", "m4"] {
        let program = tools.path(&format!("usr/bin/{tool}"));
        let text = format!(
            "#!/bin/sh\nLD_LIBRARY_PATH={} M4={} BISON_PKGDATADIR={} exec {} \"$@\"\n",
            tools.path(packages::LIBRARIES).display(),
            tools.path("usr/bin/m4").display(),
            tools.path("usr/share/bison").display(),
            program.display()
        );
        let script = directory.join(tool);
        fs::write(&script, text).context(script.display())?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).context(script.display())?;
    }
    Ok(())
}

/// make for the um architecture, with the wrapped tools first in the search path.
fn make(source: &Path, tools: &Path) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("make");
    command.args(["ARCH=um", "-C"]).arg(source).env("PATH", format!("{}:{path}", tools.display())).env("LC_ALL", "C.UTF-8");
    // Settings of the caller's own builds would change ours.
    for variable in ["CFLAGS", "LDFLAGS", "MAKEFLAGS", "CROSS_COMPILE", "SUBARCH", "KBUILD_OUTPUT"] {
        command.env_remove(variable);
    }
    command
}

fn configure(source: &Path, tools: &Path) -> Result<()> {
    output_of(make(source, tools).arg(DEFAULTS))?;
    let file = source.join(".config");
    let mut text = fs::read_to_string(&file).context(file.display())?;
    for option in WANTED.split_whitespace() {
        text += &format!("CONFIG_{option}=y\n");
    }
    for option in UNWANTED.split_whitespace() {
        text += &format!("# CONFIG_{option} is not set\n");
    }
    fs::write(&file, text).context(file.display())?;
    output_of(make(source, tools).arg("olddefconfig"))?;
    let text = fs::read_to_string(&file).context(file.display())?;
    match missing(&text).as_slice() {
        [] => Ok(()),
        names => Err(Failure(format!("this kernel source knows no {}", names.join(", ")))),
    }
}

/// The wanted options that a configuration does not build in.
fn missing(configuration: &str) -> Vec<&'static str> {
    WANTED.split_whitespace().filter(|option| !configuration.lines().any(|line| line == format!("CONFIG_{option}=y"))).collect()
}

fn compile(source: &Path, tools: &Path, log: &Path) -> Result<()> {
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    eprintln!("compiling Linux 6.12 with {jobs} jobs; the log is {}", log.display());
    let output = File::create(log).context(log.display())?;
    let errors = output.try_clone().context(log.display())?;
    let mut command = make(source, tools);
    command.arg(format!("-j{jobs}")).arg("linux").stdin(Stdio::null()).stdout(output).stderr(errors);
    match command.status().context("make")?.success() {
        true => Ok(()),
        false => Err(Failure(format!("the kernel did not compile:\n{}", last_lines(log)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_that_the_source_dropped_is_named() {
        let mut text: String = WANTED.split_whitespace().map(|option| format!("CONFIG_{option}=y\n")).collect();
        assert!(missing(&text).is_empty());
        text = text.replace("CONFIG_NET_KEY=y", "# CONFIG_NET_KEY is not set");
        assert_eq!(missing(&text), ["NET_KEY"]);
    }
}
