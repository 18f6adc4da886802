//! The nodes of a fleet in one process: engines by the real clock, their datagrams through two sockets that may use every care-of
//! address. A datagram that comes to an address which its node has left is heard by nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use watari_crypto::{Provider, RustCryptoProvider};
use watari_engine::{Event, Input};
use watari_kernel::{Now, SaInfo};
use watari_sa::{Datagram, KeyingEvent, Path, Transmit};
use watari_sim::fleet::{Host, PAIRS, Told, care_of, is_fault, name};
use watari_sys::{IkeSocket, IkeSocketOptions};

use super::mobility::{Daemon, Update};
use crate::uml::{Context, Result};

/// From a node's move, or its first SAs, until its binding update arrives.
const REGISTRATION: Duration = Duration::from_millis(50);
/// When nothing was to be done.
const PAUSE: Duration = Duration::from_millis(1);
const PORTS: [u16; 2] = [500, 4500];

enum Happening {
    Starts,
    Moves,
    Registers,
}

/// Every node.
pub(super) struct Nodes {
    hosts: Vec<Host>,
    sockets: Vec<IkeSocket>,
    at: BTreeMap<IpAddr, usize>,
    begin: Instant,
    queue: BTreeMap<(Duration, u64), (usize, Happening)>,
    planned: u64,
    timers: BTreeSet<(Duration, usize)>,
    deadlines: Vec<Option<Duration>>,
    random: ChaCha8Rng,
    datagrams: (usize, usize),
    complaints: Vec<String>,
}

impl Nodes {
    /// Opens the sockets in the calling thread's network namespace; the nodes are nowhere yet.
    pub(super) fn open(amount: u32, seed: u64) -> Result<Self> {
        let options = IkeSocketOptions { free_bind: true, ..IkeSocketOptions::default() };
        let open = |port| IkeSocket::open(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port), options);
        let sockets = PORTS.into_iter().map(open).collect::<std::io::Result<Vec<_>>>().context("IKE sockets of the nodes")?;
        let provider: Arc<dyn Provider> = Arc::new(RustCryptoProvider);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut host = |number| {
            let mut seed = [0; 32];
            random.fill_bytes(&mut seed);
            Host::node(number, super::IKE_LIFETIME, seed, Arc::clone(&provider))
        };
        let hosts: Vec<Host> = (0..amount).map(&mut host).collect();
        Ok(Self {
            deadlines: vec![None; hosts.len()],
            hosts,
            sockets,
            at: BTreeMap::new(),
            begin: Instant::now(),
            queue: BTreeMap::new(),
            planned: 0,
            timers: BTreeSet::new(),
            random,
            datagrams: (0, 0),
            complaints: Vec::new(),
        })
    }

    pub(super) fn amount(&self) -> usize {
        self.hosts.len()
    }

    /// Lets every node come up at a moment of its own within this time from now.
    pub(super) fn arrive(&mut self, within: Duration) {
        (0..self.hosts.len()).for_each(|host| self.plan_within(within, host, Happening::Starts));
    }

    /// Lets every node move at a moment of its own within this time from now.
    pub(super) fn move_within(&mut self, within: Duration) {
        (0..self.hosts.len()).for_each(|host| self.plan_within(within, host, Happening::Moves));
    }

    /// Whether every node has its SAs.
    pub(super) fn all_up(&self) -> bool {
        self.hosts.iter().all(|host| host.up >= PAIRS)
    }

    /// Whether every node has been answered on a new path.
    pub(super) fn all_moved(&self) -> bool {
        self.hosts.iter().all(|host| host.confirmed > 0)
    }

    /// Which nodes are not where they should be, in words.
    pub(super) fn what_is_missing(&self) -> String {
        let lacking = |host: &&Host| host.up < PAIRS || host.confirmed == 0;
        let count = self.hosts.iter().filter(lacking).count();
        let first = self.hosts.iter().zip(0..).find(|(host, _)| lacking(host));
        let first = first.map_or_else(String::new, |(host, number): (_, u32)| {
            format!(
                "; {} began {} IKE SAs, has {} SA pairs, was answered after {} moves",
                name(number),
                host.initiated,
                host.up,
                host.confirmed
            )
        });
        format!("{count} of {} nodes are late{first}; {}", self.hosts.len(), self.complaints().join("; "))
    }

    /// Whether the home agent has bound the home address of every node to where the node is.
    pub(super) fn are_bound(&self, daemon: &Daemon) -> bool {
        self.hosts.iter().all(|host| host.home.is_some_and(|home| daemon.care_of(home) == Some(host.care_of)))
    }

    /// Name, care-of address and kernel of each node.
    pub(super) fn each(&self) -> impl Iterator<Item = (String, IpAddr, Vec<SaInfo>)> {
        self.hosts.iter().zip(0..).map(|(host, number)| (name(number), host.care_of, host.sas()))
    }

    /// IKE_SA_INIT exchanges begun.
    pub(super) fn handshakes(&self) -> usize {
        self.hosts.iter().map(|host| host.initiated).sum()
    }

    /// Datagrams that were sent, and that were heard by nobody.
    pub(super) fn datagrams(&self) -> (usize, usize) {
        self.datagrams
    }

    /// What should not have happened, the first few in words, and who began more than one IKE SA or has too many pairs.
    pub(super) fn complaints(&self) -> Vec<String> {
        let odd = self.hosts.iter().zip(0..).filter(|(host, _)| host.initiated > 1 || host.up > PAIRS);
        let odd = odd.map(|(host, number)| format!("{} began {} IKE SAs and made {} SA pairs", name(number), host.initiated, host.up));
        self.complaints.iter().cloned().chain(odd).take(10).collect()
    }

    /// Takes what is due and what arrived; returns the binding updates that arrive at the home agent now.
    pub(super) fn turn(&mut self) -> Result<Vec<Update>> {
        let mut updates = Vec::new();
        let mut idle = true;
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= self.begin.elapsed()) {
            idle = false;
            let (host, what) = entry.remove();
            match what {
                Happening::Starts => self.starts(host),
                Happening::Moves => self.moves(host),
                Happening::Registers => updates.extend(self.update(host)),
            }
        }
        while let Some((_, host)) = self.timers.first().copied().filter(|(at, _)| *at <= self.begin.elapsed()) {
            idle = false;
            self.give(host, Input::Timeout);
        }
        for socket in 0..self.sockets.len() {
            idle &= !self.receive(socket)?;
        }
        if idle {
            std::thread::sleep(PAUSE);
        }
        Ok(updates)
    }

    fn plan_within(&mut self, within: Duration, host: usize, what: Happening) {
        let micros = u64::try_from(within.as_micros()).unwrap_or(u64::MAX).max(1);
        let after = Duration::from_micros(self.random.next_u64() % micros);
        self.plan(after, host, what);
    }

    fn plan(&mut self, after: Duration, host: usize, what: Happening) {
        self.planned += 1;
        self.queue.insert((self.begin.elapsed() + after, self.planned), (host, what));
    }

    fn update(&self, number: usize) -> Option<Update> {
        let host = self.hosts.get(number)?;
        Some(Update { node: u32::try_from(number).ok()?, home: host.home?, care_of: host.care_of })
    }

    fn starts(&mut self, number: usize) {
        let Some(host) = self.hosts.get_mut(number) else { return };
        self.at.insert(host.care_of, number);
        host.address(host.care_of, true);
        self.settle(number);
    }

    fn moves(&mut self, number: usize) {
        let Some(host) = self.hosts.get_mut(number) else { return };
        let new = care_of(u32::try_from(number).unwrap_or_default(), 2);
        match host.moves_to(new) {
            Ok((_, old)) => {
                self.at.remove(&old);
                self.at.insert(new, number);
                self.plan(REGISTRATION, number, Happening::Registers);
            }
            Err(why) => self.complaints.push(format!("node {number}: {why}")),
        }
        self.settle(number);
    }

    /// Takes what waits at a socket; false if nothing did.
    fn receive(&mut self, socket: usize) -> Result<bool> {
        let mut any = false;
        while let Some(socket) = self.sockets.get(socket) {
            let Some(datagram) = socket.receive().context("reading an IKE socket")? else { break };
            any = true;
            let local = SocketAddr::new(datagram.local, socket.local_addr().port());
            let path = Path { local, remote: datagram.remote, interface: 0 };
            match self.at.get(&datagram.local).copied() {
                Some(host) => self.give(host, Input::Datagram(Datagram { path, octets: datagram.bytes })),
                None => self.datagrams.1 += 1,
            }
        }
        Ok(any)
    }

    fn give(&mut self, number: usize, input: Input) {
        if let Some(host) = self.hosts.get_mut(number) {
            host.take(input);
        }
        self.settle(number);
    }

    fn settle(&mut self, number: usize) {
        let now = Now { boot: self.begin.elapsed(), wall: SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default() };
        let Some(host) = self.hosts.get_mut(number) else { return };
        for told in host.settle(now) {
            match told {
                Told::Send(transmit) => self.send(&transmit),
                Told::Event(event) => self.note(number, &event),
            }
        }
        let next = self.hosts.get(number).and_then(Host::deadline);
        if let Some(before) = self.deadlines.get_mut(number).and_then(|deadline| std::mem::replace(deadline, next)) {
            self.timers.remove(&(before, number));
        }
        self.timers.extend(next.map(|at| (at, number)));
    }

    fn send(&mut self, transmit: &Transmit) {
        self.datagrams.0 += 1;
        let Path { local, remote, interface } = transmit.path;
        let socket = self.sockets.iter().find(|socket| socket.local_addr().port() == local.port());
        let path = watari_sys::Path { local: Some(local.ip()), interface, remote };
        let sent = socket.map(|socket| socket.send(&transmit.octets, &path));
        if !matches!(sent, Some(Ok(()))) {
            self.complaints.push(format!("{} could not be sent: {sent:?}", transmit.path));
        }
    }

    fn note(&mut self, number: usize, event: &Event) {
        match (event, self.hosts.get_mut(number)) {
            (Event::HomeAddress { address, held: true, .. }, Some(host)) => host.home = Some(*address),
            (Event::Keying(KeyingEvent::ChildUp(_)), Some(host)) if host.up == PAIRS => {
                self.plan(REGISTRATION, number, Happening::Registers);
            }
            (event, _) if is_fault(event) => self.complaints.push(format!("node {number}: {event:?}")),
            _ => {}
        }
    }
}
