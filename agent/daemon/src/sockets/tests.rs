//! The daemon's sockets in a network namespace whose addresses come and go after they were opened, against a peer in another one.
//! Where no namespace can be made the test is skipped, in words.

#![cfg(target_os = "linux")]

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path as FilePath, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use watari_engine::Input;
use watari_kernel::KernelEvent;
use watari_policies::model::Settings;
use watari_sa::{Path, Transmit, TransmitId, Undeliverable};
use watari_sys::{IkeSocket, IkeSocketOptions, enter_network_namespace};

use super::IkeSockets;
use crate::addresses::Addresses;
use crate::clock;

const PATIENCE: Duration = Duration::from_secs(4);
const PEER: &str = "2001:db8:5::2";

/// A network namespace that lives as long as a process in it.
struct Namespace(Child);

impl Namespace {
    fn new() -> Option<Self> {
        let own = fs::read_link("/proc/self/ns/net").ok()?;
        let mut this = Self(Command::new("unshare").args(["--net", "sleep", "60"]).spawn().ok()?);
        let until = Instant::now() + PATIENCE;
        while fs::read_link(this.file()).is_ok_and(|link| link == own) {
            if Instant::now() > until || this.0.try_wait().is_ok_and(|status| status.is_some()) {
                return None;
            }
            thread::sleep(Duration::from_millis(2));
        }
        Some(this)
    }

    fn file(&self) -> PathBuf {
        FilePath::new("/proc").join(self.0.id().to_string()).join("ns/net")
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs `ip` in the namespace of this thread.
#[track_caller]
fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

fn transmit(path: Path, octets: &[u8]) -> Transmit {
    Transmit { id: TransmitId(1), path, octets: octets.to_vec() }
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// A daemon's sockets on one end of a link, a peer's on the other.
struct Bench {
    sockets: IkeSockets,
    addresses: Addresses,
    peer: IkeSocket,
    peer4: IkeSocket,
    told: Vec<String>,
    _namespaces: [Namespace; 2],
}

impl Bench {
    /// Everything is opened before there is any address.
    fn open() -> Option<Self> {
        let (ours, theirs) = (Namespace::new()?, Namespace::new()?);
        enter_network_namespace(&ours.file()).ok()?;
        ip(&format!("link add v0 type veth peer name v1 netns {}", theirs.0.id()));
        let sockets = IkeSockets::open(&Settings::default(), &mut |text| eprintln!("{text}")).unwrap();
        let addresses = Addresses::open().unwrap();
        // Duplicate address detection within a tenth of a second; where that cannot be set it takes its two seconds.
        let _ = fs::write("/proc/sys/net/ipv6/conf/v0/router_solicitation_delay", "0");
        let _ = fs::write("/proc/sys/net/ipv6/neigh/v0/retrans_time_ms", "100");
        ip("link set v0 up");
        enter_network_namespace(&theirs.file()).ok()?;
        let any = |text: &str| IkeSocket::open(text.parse().unwrap(), IkeSocketOptions::default()).unwrap();
        let (peer, peer4) = (any("[::]:500"), any("0.0.0.0:500"));
        ip("link set v1 up");
        ip(&format!("address add {PEER}/64 dev v1 nodad"));
        ip("address add 192.0.2.2/24 dev v1");
        enter_network_namespace(&ours.file()).ok()?;
        Some(Self { sockets, addresses, peer, peer4, told: Vec::new(), _namespaces: [ours, theirs] })
    }

    /// The peer calls an address; what the daemon hears, answered the way it came; the address the answer came from.
    #[track_caller]
    fn call(&self, address: &str) -> Option<IpAddr> {
        let remote = SocketAddr::new(address.parse().unwrap(), 500);
        let peer = if remote.is_ipv6() { &self.peer } else { &self.peer4 };
        peer.send(b"hello", &watari_sys::Path { local: None, interface: 0, remote }).ok()?;
        let heard = patiently(|| self.sockets.receive_ready())?;
        assert_eq!((heard.octets.as_slice(), heard.path.local), (b"hello".as_slice(), remote));
        self.sockets.send(&transmit(heard.path, b"answer")).unwrap();
        let answer = patiently(|| peer.receive().unwrap())?;
        assert_eq!((answer.bytes.as_slice(), answer.remote.port()), (b"answer".as_slice(), 500));
        Some(answer.remote.ip())
    }

    fn send_from(&self, address: &str) -> Result<(), Undeliverable> {
        let local = SocketAddr::new(address.parse().unwrap(), 500);
        let path = Path { local, remote: SocketAddr::new(PEER.parse().unwrap(), 500), interface: 0 };
        self.sockets.send(&transmit(path, b"request")).map_err(|(why, _)| why)
    }

    /// Waits until the kernel told something about an address, as words.
    fn hear(&mut self, address: &str, words: &str) -> bool {
        let wanted = format!("{address} {words}");
        patiently(|| {
            let mut inputs = Vec::new();
            self.addresses.read(clock::now());
            self.addresses.drain(clock::now(), &mut inputs);
            self.told.extend(inputs.iter().filter_map(say));
            self.told.contains(&wanted).then_some(())
        })
        .is_some()
    }
}

fn say(input: &Input) -> Option<String> {
    let Input::Kernel(KernelEvent::Address(event)) = input else { return None };
    let flags = event.flags;
    let words = match (event.present, flags.tentative, flags.deprecated, flags.home) {
        (false, ..) => "gone",
        (_, true, ..) => "tentative",
        (_, _, true, _) => "deprecated",
        (_, _, _, true) => "home",
        _ => "usable",
    };
    Some(format!("{} {words}", event.address))
}

fn patiently<T>(mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    let until = Instant::now() + PATIENCE;
    loop {
        let found = attempt();
        if found.is_some() || Instant::now() > until {
            return found;
        }
        thread::sleep(Duration::from_millis(2));
    }
}

fn told_apart(bench: &Bench, address: &str) {
    assert_eq!(bench.call(address), Some(address.parse().unwrap()), "the answer leaves from the address that was called");
}

/// Addresses of every kind come after the sockets were opened, and go.
fn come_and_go(bench: &mut Bench) {
    for (address, length, how, words) in [
        ("2001:db8:5::1", 64, "nodad", "usable"),
        ("2001:db8:5::77", 64, "nodad", "usable"),
        ("2001:db8:5::abcd", 128, "nodad home", "home"),
        ("2001:db8:5::de", 64, "nodad preferred_lft 0 valid_lft 1000", "deprecated"),
        ("192.0.2.1", 24, "", "usable"),
        ("192.0.2.9", 24, "", "usable"),
    ] {
        ip(&format!("address add {address}/{length} dev v0 {how}"));
        assert!(bench.hear(address, words), "{address} {words}: {:?}", bench.told);
        told_apart(bench, address);
    }
    // Each stays reachable beside the others.
    told_apart(bench, "2001:db8:5::1");
    told_apart(bench, "192.0.2.1");
    // What is gone cannot be sent from, and says so; the others are not touched.
    ip("address delete 2001:db8:5::77/64 dev v0");
    assert!(bench.hear("2001:db8:5::77", "gone"), "{:?}", bench.told);
    assert_eq!(bench.send_from("2001:db8:5::77"), Err(Undeliverable::Tentative));
    told_apart(bench, "2001:db8:5::1");
    // It comes back.
    ip("address add 2001:db8:5::77/64 dev v0 nodad");
    told_apart(bench, "2001:db8:5::77");
}

/// Nothing leaves from an address before its uniqueness is known.
fn duplicate_address_detection(bench: &mut Bench) {
    ip("address add 2001:db8:5::5/64 dev v0");
    assert_eq!(bench.send_from("2001:db8:5::5"), Err(Undeliverable::Tentative));
    assert!(bench.hear("2001:db8:5::5", "tentative") && bench.hear("2001:db8:5::5", "usable"), "{:?}", bench.told);
    assert_eq!(bench.send_from("2001:db8:5::5"), Ok(()));
    let request = patiently(|| bench.peer.receive().unwrap()).unwrap();
    assert_eq!(request.remote, SocketAddr::new("2001:db8:5::5".parse().unwrap(), 500));
}

/// No descriptor is bound to an address, so none is left behind by one.
fn nothing_is_left_behind(bench: &mut Bench) {
    const TIMES: usize = 20;
    let before = descriptors();
    for number in 0..TIMES {
        let address = format!("2001:db8:5::a{number:02}");
        ip(&format!("address add {address}/64 dev v0 nodad"));
        told_apart(bench, &address);
        ip(&format!("address delete {address}/64 dev v0"));
        assert!(bench.hear(&address, "gone"));
    }
    // Other tests of this process open and close some meanwhile, but not one for each address.
    let after = descriptors();
    assert!(after < before + TIMES, "{before} descriptors before, {after} after");
}

#[test]
fn sockets_follow_addresses_as_they_come_and_go() {
    // A thread of its own: it leaves this process's network namespace for good.
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let Some(mut bench) = Bench::open() else {
                return eprintln!("skipped: no network namespace can be made here");
            };
            come_and_go(&mut bench);
            duplicate_address_detection(&mut bench);
            nothing_is_left_behind(&mut bench);
        });
    };
    thread::spawn(run).join().unwrap();
}
