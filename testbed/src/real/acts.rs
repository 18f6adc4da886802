//! The list of kernel acts, put to a real Linux kernel: the agent's own back end on real sockets, the Mobile IPv6 daemon's requests
//! beside it, packets over a real link. The mirror passes the same list in a unit test; here Linux has to.

use std::io::Read;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use socket2::{SockAddr, Socket};
use watari_kernel::mirror::acts::{self, COA1, COA2, FAR, HA, HOA, HOA2, KernelUnderTest, Sent};
use watari_kernel::mirror::{MigrateRequest, MobilityState, Model, Packet};
use watari_kernel::{
    Capability, Endpoints, KernelError, KernelEvent, KernelReply, KernelRequest, PolicyEntry, PolicyKind, SaParameters, Spi,
};
use watari_policies::selector::{ICMPV6, MOBILITY_HEADER};
use watari_policies::{Direction, Mode, Selector};
use watari_sys::{MobilitySend, MobilitySocket};

use super::kernel::Kernel;
use super::ping::icmp_socket;
use super::sniffer::Sniffer;
use super::voice::{Voice, topology};
use crate::judge::pcap::Kind;
use crate::uml::boot::{self, Machine};
use crate::uml::guest::Guest;
use crate::uml::hosts::Namespace;
use crate::uml::{Context, Failure, Result};

/// Name of the task in a plan.
pub(crate) const TASK: &str = "real-acts";
const RESULT: &str = "acts.json";
/// xfrm_acq_expires for the acts, so that nobody waits half a minute.
const LARVAL_SECONDS: u64 = 1;
/// How long a packet may take over the link before it counts as never sent.
const CROSSING: Duration = Duration::from_millis(20);
const UDP: u8 = 17;

/// How one act went.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// The act's name.
    pub(crate) name: String,
    /// What Linux was expected to do.
    pub(crate) sentence: String,
    /// What it did otherwise.
    pub(crate) differences: Vec<String>,
}

/// Boots `kernel` and puts it through every act.
pub(crate) fn on(kernel: boot::Kernel) -> Result<Vec<Outcome>> {
    Machine::on(kernel, format!("acts-{}", super::release(kernel)))?.result(TASK, serde_json::Value::Null, RESULT)
}

/// The mirror's name for a kernel.
pub(super) const fn model(kernel: boot::Kernel) -> Model {
    match kernel {
        boot::Kernel::Debian61 => Model::Linux6_1,
        boot::Kernel::Built612 => Model::Linux6_12,
    }
}

/// The part that runs in the guest.
pub(crate) fn in_guest(guest: &Guest) -> Result<i32> {
    let mut linux = Linux::new(guest, model(guest.plan.kernel))?;
    let mut outcomes = Vec::new();
    for act in acts::all() {
        let mut differences = (act.run)(&mut linux);
        differences.append(&mut linux.troubles);
        outcomes.push(Outcome { name: act.name.to_owned(), sentence: act.sentence.to_owned(), differences });
    }
    guest.write(RESULT, serde_json::to_string_pretty(&outcomes).context(RESULT)?)?;
    Ok(0)
}

/// A real kernel as the acts see it.
struct Linux {
    model: Model,
    mobile_node: Namespace,
    voice: Voice,
    daemon: Kernel,
    signalling: MobilitySocket,
    peer: Namespace,
    peer_kernel: Kernel,
    peer_signalling: MobilitySocket,
    link: Sniffer,
    troubles: Vec<String>,
}

impl Linux {
    fn new(guest: &Guest, model: Model) -> Result<Self> {
        topology(&[HA, HOA2]).build(guest)?;
        let mobile_node = guest.namespace("mn")?;
        let home_agent = guest.namespace("ha")?;
        // Permanent neighbours: discovery would be packets of its own, and the policies of an act would catch them.
        let (near, far) = ("02:00:00:00:00:01", "02:00:00:00:00:02");
        mobile_node.ip_batch(&format!("link set eth0 address {near}\nneigh replace {HA} lladdr {far} dev eth0 nud permanent\n"))?;
        // The kernel swaps a type 2 routing header's address in only for an address that is marked as a home address.
        mobile_node
            .ip_batch(&format!("addr change {HOA}/128 dev eth0 home nodad\nneigh replace {FAR} lladdr {far} dev eth0 nud permanent\n"))?;
        mobile_node.sysctl("net.ipv6.conf.all.forwarding", "1")?;
        let mut neighbours = format!("link set eth0 address {far}\n");
        for address in [HOA, COA1, COA2, FAR] {
            neighbours += &format!("neigh replace {address} lladdr {near} dev eth0 nud permanent\n");
        }
        home_agent.ip_batch(&neighbours)?;
        mobile_node.sysctl("net.core.xfrm_acq_expires", &LARVAL_SECONDS.to_string())?;
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        // Of what the back end finds the kernel able to do an act asks whether this kernel is known for it.
        let (voice, daemon, signalling) = mobile_node.enter(|| -> Result<_> {
            Ok((Voice::xfrm(release.trim())?, Kernel::open()?, MobilitySocket::open().context("raw MH socket")?))
        })??;
        let (peer_kernel, peer_signalling, link) = home_agent
            .enter(|| -> Result<_> { Ok((Kernel::open()?, MobilitySocket::open().context("raw MH socket")?, Sniffer::open()?)) })??;
        Ok(Self {
            model,
            mobile_node,
            voice,
            daemon,
            signalling,
            peer: home_agent,
            peer_kernel,
            peer_signalling,
            link,
            troubles: Vec::new(),
        })
    }

    fn pump(&mut self) {
        let pumped = self.voice.pump();
        self.trouble("the back end", pumped);
    }

    fn trouble<T>(&mut self, what: &str, result: Result<T>) -> Option<T> {
        result.map_err(|failure| self.troubles.push(format!("{what}: {failure}"))).ok()
    }

    fn answer(&mut self, what: &str, errno: Result<i32>) -> std::result::Result<(), i32> {
        match self.trouble(what, errno) {
            Some(0) => Ok(()),
            Some(errno) => Err(errno),
            None => Err(-1),
        }
    }

    /// Waits for ESP on the link, or for a packet in clear that `ours` takes for the one that was sent.
    fn seen_leaving(&mut self, ours: impl Fn(&crate::judge::pcap::Packet) -> bool) -> Sent {
        let begin = Instant::now();
        while begin.elapsed() < CROSSING {
            for seen in self.link.packets() {
                match seen.kind {
                    Kind::Esp { spi, .. } => {
                        return Sent::Esp(Endpoints { src: seen.source, dst: seen.destination }, Spi(spi));
                    }
                    Kind::MobilityHeader { .. } | Kind::Udp { .. } if ours(&seen) => return Sent::Clear,
                    _ => {}
                }
            }
            sleep(Duration::from_millis(1));
        }
        Sent::Nothing
    }

    /// Sends a packet in clear from `from`; the local kernel may protect, hold or drop it.
    fn emit(&self, from: &Namespace, signalling: &MobilitySocket, packet: &Packet) -> Result<()> {
        let Some(upper) = packet.upper() else {
            return Err(Failure::new("an act sends only packets in clear"));
        };
        let (IpAddr::V6(source), IpAddr::V6(destination)) = (packet.src, packet.dst) else {
            return Err(Failure::new("an act sends only IPv6"));
        };
        match upper.protocol {
            MOBILITY_HEADER => {
                let message = MobilitySend {
                    bytes: &upper.payload,
                    source,
                    destination,
                    interface: 0,
                    home_address: packet.hao.and_then(v6),
                    routing: packet.rt2.and_then(v6),
                };
                // A block or a missing SA comes back as an error: that nothing left is what the act asks about.
                let _ = signalling.send(&message);
                Ok(())
            }
            UDP => from.enter(|| -> Result<()> {
                let socket = UdpSocket::bind(SocketAddr::from((source, upper.sport))).context("binding")?;
                let _ = socket.send_to(&upper.payload, SocketAddr::from((destination, upper.dport)));
                Ok(())
            })?,
            ICMPV6 => from.enter(|| -> Result<()> {
                let mut message = vec![upper.sport.to_be_bytes()[1], upper.dport.to_be_bytes()[1], 0, 0];
                message.extend_from_slice(&upper.payload);
                let _ = icmp_socket(Some(packet.src))?.send_to(&message, &SockAddr::from(SocketAddr::new(packet.dst, 0)));
                Ok(())
            })?,
            other => Err(Failure(format!("no socket for protocol {other}"))),
        }
    }
}

fn v6(address: IpAddr) -> Option<Ipv6Addr> {
    match address {
        IpAddr::V6(address) => Some(address),
        IpAddr::V4(_) => None,
    }
}

impl KernelUnderTest for Linux {
    fn model(&self) -> Model {
        self.model
    }

    fn capability(&self) -> Capability {
        self.voice.backend.capabilities().clone()
    }

    fn larval_lifetime(&self) -> Duration {
        Duration::from_secs(LARVAL_SECONDS)
    }

    fn reset(&mut self) {
        let flushed = self.daemon.flush().and_then(|()| self.peer_kernel.flush());
        self.trouble("flush", flushed);
        self.pump();
        self.voice.events.clear();
        self.link.skip();
    }

    fn wait(&mut self, time: Duration) {
        let begin = Instant::now();
        while begin.elapsed() < time {
            self.pump();
            sleep(Duration::from_millis(20).min(time.saturating_sub(begin.elapsed())));
        }
        self.pump();
    }

    fn events(&mut self) -> Vec<KernelEvent> {
        self.pump();
        self.voice.events.drain(..).collect()
    }

    fn request(&mut self, request: KernelRequest) -> std::result::Result<KernelReply, KernelError> {
        self.voice.ask(request)
    }

    fn set_policy(&mut self, policy: &PolicyEntry) -> std::result::Result<(), i32> {
        let errno = self.daemon.set_policy(policy);
        self.answer("set a policy", errno)
    }

    fn delete_policy(&mut self, selector: &Selector, direction: Direction, kind: PolicyKind) -> std::result::Result<(), i32> {
        let errno = self.daemon.delete_policy(selector, direction, kind);
        self.answer("delete a policy", errno)
    }

    fn set_mobility_state(&mut self, state: &MobilityState) {
        let errno = self.daemon.set_mobility_state(state);
        if let Err(errno) = self.answer("set a state", errno) {
            self.troubles.push(format!("setting {state:?}: errno {errno}"));
        }
    }

    fn migrate(&mut self, request: &MigrateRequest) -> std::result::Result<(), i32> {
        let errno = self.daemon.migrate(request);
        self.answer("migrate", errno)
    }

    fn send(&mut self, packet: &Packet) -> Sent {
        self.link.skip();
        let emitted = self.emit(&self.mobile_node, &self.signalling, packet);
        self.trouble("send", emitted);
        self.seen_leaving(|seen| seen.source == packet.src || seen.destination == HA)
    }

    fn equip_peer(&mut self, policies: &[PolicyEntry], states: &[MobilityState], sa: &SaParameters) {
        for policy in policies {
            let errno = self.peer_kernel.set_policy(policy);
            if let Err(errno) = self.answer("set a policy of the peer", errno) {
                self.troubles.push(format!("setting {policy:?} at the peer: errno {errno}"));
            }
        }
        for state in states {
            let errno = self.peer_kernel.set_mobility_state(state);
            if let Err(errno) = self.answer("set a state of the peer", errno) {
                self.troubles.push(format!("setting {state:?} at the peer: errno {errno}"));
            }
        }
        let added = self.peer.ip_batch(&state_words(sa));
        self.trouble("add an SA at the peer", added);
    }

    fn arrive(&mut self, packet: &Packet) -> bool {
        let Some(upper) = packet.upper() else { return false };
        let target = SocketAddr::from((packet.dst, upper.dport));
        let opened = self.mobile_node.enter(|| -> Result<Ear> {
            Ok(match upper.protocol {
                UDP => {
                    let socket = UdpSocket::bind(target).context("binding")?;
                    socket.set_nonblocking(true).context("binding")?;
                    Ear::Payload(socket)
                }
                ICMPV6 => Ear::Icmp(icmp_socket(None)?, upper.sport.to_be_bytes()[1]),
                _ => Ear::Signalling,
            })
        });
        let Some(ear) = self.trouble("arrive", opened.and_then(|ear| ear)) else { return false };
        while let Ok(Some(_)) = self.signalling.receive() {}
        let emitted = self.emit(&self.peer, &self.peer_signalling, packet);
        self.trouble("arrive", emitted);
        let begin = Instant::now();
        while begin.elapsed() < CROSSING {
            let mut message = [0; 64];
            let delivered = match &ear {
                Ear::Payload(socket) => socket.recv(&mut message).is_ok(),
                Ear::Icmp(socket, kind) => (&*socket).read(&mut message).is_ok() && message.first() == Some(kind),
                Ear::Signalling => matches!(self.signalling.receive(), Ok(Some(_))),
            };
            if delivered {
                return true;
            }
            sleep(Duration::from_millis(1));
        }
        false
    }

    fn forward(&mut self, packet: &Packet) -> Sent {
        self.link.skip();
        let emitted = self.emit(&self.peer, &self.peer_signalling, packet);
        self.trouble("forward", emitted);
        // In clear the sniffer hears the peer itself as well, which tells nothing.
        self.seen_leaving(|_| false)
    }
}

/// Where a packet that arrives is waited for.
enum Ear {
    Payload(UdpSocket),
    Icmp(Socket, u8),
    Signalling,
}

/// An SA in the words of `ip`, without a selector, as the peer holds it.
fn state_words(sa: &SaParameters) -> String {
    let hex = |octets: &[u8]| octets.iter().map(|octet| format!("{octet:02x}")).collect::<String>();
    let mode = match sa.mode {
        Mode::Transport => "transport",
        Mode::Tunnel => "tunnel",
    };
    format!(
        "xfrm state add src {} dst {} proto esp spi {:#x} reqid {} mode {mode} enc cbc(aes) 0x{} auth-trunc hmac(sha256) 0x{} 128\n",
        sa.src,
        sa.id.dst,
        sa.id.spi.0,
        sa.reqid.0,
        hex(sa.keys.encryption.expose()),
        hex(sa.keys.integrity.expose())
    )
}
