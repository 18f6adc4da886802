//! From the command line to a running daemon: configuration, seed, kernel probe, and failures a person can act on.

use std::fmt::Display;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use slog::{Logger, info, warn};
use watari_engine::Input;
use watari_engine::vici::Section;
use watari_kernel::Capability;
use watari_policies::algorithm::{Cipher, Integrity};
use watari_policies::config::{self, Loaded};
use watari_policies::model::Settings;
use watari_policies::{Config, KernelInterface, Secret};
use watari_sa::negotiate;

use crate::args::Args;
use crate::clock;
use crate::kernel::Kernel;
use crate::run::Setup;

/// Where the control socket is when nobody says otherwise.
const DEFAULT_CONTROL: &str = "/run/watari.vici";
/// What talking to the kernel's IPsec needs.
#[cfg(target_os = "linux")]
const NEEDS: &str = "CAP_NET_ADMIN is needed, and a kernel with XFRM_USER (try `modprobe xfrm_user`).";
#[cfg(not(target_os = "linux"))]
const NEEDS: &str = "The superuser is needed, and a kernel with IPsec (try `kldload ipsec`).";
/// How long the kernel may take to answer the probe.
const PROBE_PATIENCE: Duration = Duration::from_secs(2);
/// Exit status for a wrong configuration.
const EXIT_CONFIGURATION: u8 = 2;
/// Exit status for a socket that could not be opened.
const EXIT_SOCKET: u8 = 3;

/// Why the daemon could not start.
pub(crate) struct Failure {
    text: String,
    status: u8,
}

impl Failure {
    pub(crate) fn socket(error: &io::Error) -> Self {
        let text = format!(
            "watarid: cannot open the IKE sockets: {error}\n  Is another IKE daemon running? Ports below 1024 need CAP_NET_BIND_SERVICE."
        );
        Self { text, status: EXIT_SOCKET }
    }

    pub(crate) fn kernel(error: &io::Error) -> Self {
        let text = format!("watarid: cannot talk to the kernel's IPsec: {error}\n  {NEEDS}");
        Self { text, status: EXIT_SOCKET }
    }

    pub(crate) fn control(path: &Path, error: &io::Error) -> Self {
        let text = format!(
            "watarid: cannot open the control socket {}: {error}\n  Is another watarid running? `--control` chooses another path.",
            path.display()
        );
        Self { text, status: EXIT_SOCKET }
    }

    pub(crate) fn configuration(text: String) -> Self {
        Self { text, status: EXIT_CONFIGURATION }
    }

    /// Prints the reason and gives the exit status.
    pub(crate) fn report(&self) -> ExitCode {
        eprintln!("{}", self.text);
        ExitCode::from(self.status)
    }
}

/// Reads the configuration and chooses seed and control socket.
pub(crate) fn setup(args: Args, log: &Logger) -> Result<Setup, Failure> {
    let config_file = args.config.unwrap_or_default();
    let loaded = load(&config_file).map_err(Failure::configuration)?;
    let control =
        args.control.or_else(|| loaded.config.settings.control.clone().map(PathBuf::from)).unwrap_or_else(|| DEFAULT_CONTROL.into());
    let mut seed = [0; 32];
    if let Some(number) = args.insecure_seed {
        warn!(log, "every key of this run can be predicted: --insecure-seed is for test beds only"; "seed" => number);
        for (octet, value) in seed.iter_mut().zip(number.to_le_bytes()) {
            *octet = value;
        }
    } else {
        getrandom::fill(&mut seed).map_err(|error| Failure::configuration(format!("watarid: the system gives no randomness: {error}")))?;
    }
    Ok(Setup { config_file, loaded, control, seed, reveal_keys: args.reveal_keys })
}

/// Reads and checks a configuration file with the secrets it names.
pub(crate) fn load(file: &Path) -> Result<Loaded, String> {
    let unread = |error: &dyn Display| format!("watarid: cannot read {}: {error}", file.display());
    let octets = watari_sys::read_regular(file, config::LONGEST_FILE).map_err(|error| unread(&error))?;
    let text = String::from_utf8(octets).map_err(|error| unread(&error.utf8_error()))?;
    let directory = file.parent().unwrap_or_else(|| Path::new(""));
    let read = |name: &str| watari_sys::read_regular(&directory.join(name), config::LONGEST_FILE);
    let read_secret = |name: &str| read(name).map(Secret::new).map_err(|error| error.to_string());
    config::load(&text, &file.display().to_string(), &read_secret).map_err(|diagnostics| diagnostics.to_string())
}

/// Lets this process have as many descriptors as it may: a home agent has a socket for each reqid. Says in words if it cannot.
pub(crate) fn raise_descriptor_limit() -> Result<(), String> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let now = getrlimit(Resource::Nofile);
    if now.current == now.maximum {
        return Ok(());
    }
    let raised = Rlimit { current: now.maximum, maximum: now.maximum };
    setrlimit(Resource::Nofile, raised).map_err(|error| format!("the limit of open files stays at {:?}: {error}", now.current))
}

/// Lets the kernel answer the probe; what it does not answer in time stays unknown. What else the kernel said meanwhile, addresses and
/// links that it had at the start among it, is for the agent, in that order.
pub(crate) async fn await_probe(kernel: &mut Kernel) -> Vec<Input> {
    let mut heard = Vec::new();
    let answered = async {
        kernel.drain(clock::now(), &mut heard);
        while !kernel.is_probed() {
            if kernel.readable().await.is_err() {
                return;
            }
            kernel.read(clock::now(), &mut heard);
            kernel.drain(clock::now(), &mut heard);
        }
    };
    // A kernel that does not answer is reported as "not known"; the daemon runs all the same.
    let _ = tokio::time::timeout(PROBE_PATIENCE, answered).await;
    heard
}

/// Says once, in words, what the kernel cannot do and what to change.
pub(crate) fn report_kernel(capability: &Capability, log: &Logger) {
    if capability.inbound_mh_type == Some(false) {
        warn!(
            log,
            "this kernel does not see the MH type of inbound packets: SAs and policies of ours use protocol-only selectors, types stay on \
            the wire. Give the Mobile IPv6 daemon any-type policies (UMIP: `IPsecPolicy Mh UseESP`), typed ones match nothing inbound"
        );
    }
    if xfrm_interface() {
        warn!(
            log,
            "xfrm_interface is loaded: binding updates that carry a home address option and ESP are dropped before decryption. \
            Unload the module (`modprobe -r xfrm_interface`), or boot with initcall_blacklist=xfrmi_init where it is built in"
        );
    }
    info!(log, "kernel probed"; "migrate" => capability.migrate, "inbound_mh_type" => ?capability.inbound_mh_type,
        "esp" => esp_algorithms(capability));
}

/// What the kernel can install for ESP, in the words of the configuration. Netlink XFRM tells nothing of it before an SA is installed.
fn esp_algorithms(capability: &Capability) -> String {
    if capability.aead && capability.esn && capability.encryption.is_none() && capability.integrity.is_none() {
        return "all, assumed".to_owned();
    }
    let fits = |cipher: &Cipher| match cipher.is_aead() {
        true => capability.aead,
        false => capability.encryption.as_ref().is_none_or(|known| known.contains(&cipher.algorithm)),
    };
    let ciphers: Vec<&str> = Cipher::all().filter(fits).map(Cipher::name).collect();
    let known = |integrity: &&Integrity| capability.integrity.as_ref().is_none_or(|known| known.contains(integrity));
    let integrities: Vec<&str> = Integrity::ALL.iter().filter(known).map(|integrity| integrity.name()).collect();
    let esn = if capability.esn { "" } else { ", no extended sequence numbers" };
    format!("{} with {}{esn}", ciphers.join(" "), integrities.join(" "))
}

/// Compares the proposals for child SAs with what the kernel can install: in words, those that are offered otherwise than written.
///
/// # Errors
/// In words, if a record has none left: with it no child SA could ever be made.
pub(crate) fn check_proposals(config: &Config, capability: &Capability) -> Result<Vec<String>, String> {
    let mut notes = Vec::new();
    for record in &config.ipsecs {
        let names = |proposals: &[_]| proposals.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let left = negotiate::installable(&record.proposals, capability);
        if left.is_empty() {
            return Err(format!(
                "watarid: this kernel can install none of the proposals of \"{}\": {}\n  It can: {}. Write for example esp = [\"aes256-sha512\"].",
                record.name,
                names(&record.proposals),
                esp_algorithms(capability)
            ));
        }
        if left != record.proposals {
            notes.push(format!("{}: of {} this kernel can install {}", record.name, names(&record.proposals), names(&left)));
        }
    }
    Ok(notes)
}

/// Settings of a configuration read again that only a start takes, in words.
pub(crate) fn waits_for_restart(running: &Settings, new: &Settings) -> Vec<String> {
    let backend = |settings: &Settings| config::backend_name(settings.backend).to_owned();
    let control = |settings: &Settings| settings.control.clone().unwrap_or_else(|| "the usual path".to_owned());
    let keys = [
        ("port", running.port.to_string(), new.port.to_string()),
        ("natt_port", running.natt_port.to_string(), new.natt_port.to_string()),
        ("control", control(running), control(new)),
        ("backend", backend(running), backend(new)),
    ];
    let changed = keys.into_iter().filter(|(_, before, after)| before != after);
    changed.map(|(key, before, after)| format!("\"{key}\" of [watari] stays {before} until a restart: {after} was not applied")).collect()
}

/// Whether xfrm_interface is at work: the symbols tell it best, but only to the privileged; else the module lists.
#[cfg(target_os = "linux")]
fn xfrm_interface() -> bool {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let in_symbols = watari_xfrm::xfrm_interface_in_symbols(&read("/proc/kallsyms"), &read("/proc/cmdline"));
    let built_in = read(&format!("/lib/modules/{}/modules.builtin", read("/proc/sys/kernel/osrelease").trim()));
    let in_sys = Path::new("/sys/module/xfrm_interface").exists();
    in_symbols || watari_xfrm::xfrm_interface_registered(&read("/proc/modules"), &built_in, in_sys)
}

/// Other systems have no such thing.
#[cfg(not(target_os = "linux"))]
const fn xfrm_interface() -> bool {
    false
}

/// The kernel report as a control message.
pub(crate) fn kernel_section(capability: &Capability) -> Section {
    let yes_no = |flag: bool| if flag { "yes" } else { "no" };
    Section::new()
        .with("migrate", yes_no(capability.migrate))
        .with("inbound-mh-type", capability.inbound_mh_type.map_or("unknown", yes_no))
        .with("esn", yes_no(capability.esn))
        .with("aead", yes_no(capability.aead))
        .with("esp", esp_algorithms(capability))
        .with("xfrm-interface", yes_no(xfrm_interface()))
}

/// Probes the kernel without a configuration and prints the report as JSON.
pub(crate) async fn probe_and_print() -> ExitCode {
    let mut kernel = match Kernel::open(clock::now(), KernelInterface::default(), &mut |text| eprintln!("watarid: {text}")) {
        Ok(kernel) => kernel,
        Err(error) => return Failure::kernel(&error).report(),
    };
    // There is no agent to tell.
    let _ = await_probe(&mut kernel).await;
    let capability = kernel.capabilities();
    let report = serde_json::json!({
        "migrate": capability.migrate,
        "inbound_mh_type": capability.inbound_mh_type,
        "esn": capability.esn,
        "aead": capability.aead,
        "esp": esp_algorithms(capability),
        "xfrm_interface": xfrm_interface(),
    });
    println!("{report}");
    ExitCode::SUCCESS
}

/// A control answer that says yes.
pub(crate) fn succeeded() -> Section {
    Section::new().with("success", "yes")
}

/// A control answer that says no and why.
pub(crate) fn failed(why: &impl Display) -> Section {
    Section::new().with("success", "no").with("errmsg", why)
}

/// Appends a line to a file only its owner can read.
pub(crate) fn append_line(file: &Path, line: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().create(true).append(true).mode(0o600).open(file)?;
    writeln!(file, "{line}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pf_key() -> Capability {
        use watari_kernel::Backend as _;
        watari_pfkey::KeyBackend::new(watari_pfkey::Dialect::Linux, 1).capabilities().clone()
    }

    fn configured(esp: &str) -> Config {
        let text = format!(
            "[mobile_node]\nhome_address = \"2001:db8:1::a\"\nhome_agent = \"2001:db8:1::1\"\nidentity = \"mn.example\"\n\
             home_agent_identity = \"ha.example\"\npsk = \"a secret of some length\"\nprotect = [\"binding\"]\npolicies = \"mip6d\"\nesp = [{esp}]\n"
        );
        let nothing = |name: &str| Err(format!("{name} is not there"));
        config::load(&text, "watari.toml", &nothing).unwrap_or_else(|complaints| panic!("{complaints}")).config
    }

    /// Keeps what is logged.
    #[derive(Clone, Default)]
    struct Kept(std::sync::Arc<std::sync::Mutex<Vec<(slog::Level, String)>>>);

    impl slog::Drain for Kept {
        type Ok = ();
        type Err = slog::Never;

        fn log(&self, record: &slog::Record<'_>, _: &slog::OwnedKVList) -> Result<(), slog::Never> {
            self.0.lock().unwrap().push((record.level(), record.msg().to_string()));
            Ok(())
        }
    }

    fn logged(inbound_mh_type: Option<bool>) -> Vec<String> {
        use slog::Drain as _;

        let kept = Kept::default();
        let log = Logger::root(kept.clone().fuse(), slog::o!());
        report_kernel(&Capability { inbound_mh_type, ..Capability::default() }, &log);
        let lines = kept.0.lock().unwrap();
        lines
            .iter()
            .filter(|(level, text)| *level == slog::Level::Warning && text.contains("MH type"))
            .map(|(_, text)| text.clone())
            .collect()
    }

    #[test]
    fn a_kernel_that_does_not_see_types_is_told_of_once_with_what_to_change() {
        let told = logged(Some(false));
        assert!(matches!(told.as_slice(), [only] if only.contains("IPsecPolicy Mh UseESP")), "{told:?}");
        assert_eq!((logged(Some(true)), logged(None)), (Vec::new(), Vec::new()), "nothing to change, or nothing known");
    }

    #[test]
    fn every_descriptor_that_may_be_had_can_be_had() {
        use rustix::process::{Resource, getrlimit};

        assert_eq!(raise_descriptor_limit(), Ok(()));
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }

    /// A reload happens in the event loop: nothing may be waited for there.
    #[test]
    fn a_configuration_and_the_files_it_names_are_never_waited_for() {
        let directory = std::env::temp_dir().join(format!("watari-load-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let fifo = directory.join("fifo");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(load(&fifo).unwrap_err().contains("a FIFO"));
        assert!(load(Path::new("/dev/zero")).unwrap_err().contains("a device"));
        let file = directory.join("watari.toml");
        let text = format!(
            "[home_agent]\naddress = \"2001:db8:1::1\"\nidentity = \"ha.example\"\nprotect = [\"binding\"]\npolicies = \"watari\"\n\
             mobile_nodes_file = \"{}\"\n",
            fifo.display()
        );
        fs::write(&file, text).unwrap();
        assert!(load(&file).unwrap_err().contains("a FIFO, not a regular file"));
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn what_only_a_restart_applies_is_named_at_a_reload() {
        let running = Settings::default();
        let new = Settings {
            port: 5000,
            natt_port: 5001,
            control: Some("/run/other".to_owned()),
            backend: KernelInterface::PfKey,
            half_open_limit: 7,
            ..Settings::default()
        };
        let told = waits_for_restart(&running, &new);
        assert_eq!(told.len(), 4, "{told:?}");
        for (line, words) in told.iter().zip(["\"port\" of [watari] stays 500", "5001 was", "/run/other was", "stays xfrm until"]) {
            assert!(line.contains(words), "{line}");
        }
        assert_eq!(waits_for_restart(&new, &new), Vec::<String>::new());
    }

    #[test]
    fn a_configuration_that_pf_key_cannot_serve_is_refused_in_words() {
        let whole = configured("\"aes128-sha512\"");
        assert_eq!(check_proposals(&whole, &pf_key()), Ok(Vec::new()));
        let notes = check_proposals(&configured("\"aes128gcm16\", \"aes128-sha256-sha384\""), &pf_key()).unwrap();
        assert!(notes.iter().all(|note| note.ends_with("can install aes128-sha384")) && !notes.is_empty(), "{notes:?}");
        assert!(esp_algorithms(&Capability::default()).contains("assumed"), "XFRM is not asked for its algorithms");
        let why = check_proposals(&configured("\"aes128gcm16\", \"aes256-sha256\""), &pf_key()).unwrap_err();
        assert!(why.contains("none of the proposals") && why.contains("with sha1 sha384 sha512, no extended"), "{why}");
        assert_eq!(check_proposals(&configured("\"aes128gcm16\""), &Capability::default()), Ok(Vec::new()));
    }
}
