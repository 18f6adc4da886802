//! The Mobile IPv6 signalling node over real sockets: the simulator's state machine decides, the kernel of one namespace does it.
//! Binding messages carry no HAO or RT2 of their own: the kernel adds both, and ESP, as the sub and main policies demand.

use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{SockAddr, Socket};
use watari_kernel::mirror::{Packet, Rebound, Upper};
use watari_mip6::Message;
use watari_policies::selector::{ICMPV6, MOBILITY_HEADER};
use watari_sim::signalling::{Agreement, HomeAddressAt, Input, Node, Output, PREFIX_ADVERTISEMENT, PREFIX_SOLICITATION, SignalEvent};
use watari_sys::{MobilityMessage, MobilitySend, MobilitySocket};

use super::kame::Kame;
use super::kernel::{ENOENT, ESRCH, Kernel};
use super::network::{INTERFACE, Network};
use super::ping::icmp_socket;
use crate::uml::hosts::Namespace;
use crate::uml::{Context, Failure, Result};

/// What a turn brought.
pub(super) enum News {
    /// Something worth a line in the timeline.
    Event(SignalEvent),
    /// The kernel took a MIGRATE.
    Migrated {
        /// When it was sent, in microseconds since 1970.
        at: u64,
    },
    /// The kernel refused something, in words.
    Refused(String),
}

/// A signalling node on one host.
pub(super) struct Signalling {
    host: Namespace,
    /// None while there is nothing that it could start with.
    node: Option<Node>,
    home_address: Option<IpAddr>,
    kernel: Kernel,
    kame: Kame,
    mobility: MobilitySocket,
    discovery: Socket,
    deadline: Option<Duration>,
}

impl Signalling {
    /// Opens the sockets in `host`; the node has not started yet. A mobile node moves `home_address` about.
    pub(super) fn new(host: &Namespace, node: Option<Node>, home_address: Option<IpAddr>) -> Result<Self> {
        let open = || -> Result<_> { Ok((Kernel::open()?, MobilitySocket::open().context("raw MH socket")?, icmp_socket(None)?)) };
        let (kernel, mobility, discovery) = host.enter(open)??;
        Ok(Self { host: host.clone(), node, home_address, kernel, kame: Kame::default(), mobility, discovery, deadline: None })
    }

    /// Tells the node something.
    pub(super) fn tell(&mut self, network: &Network<'_>, now: Duration, input: Input) -> Result<Vec<News>> {
        if let Some(node) = &mut self.node {
            node.handle(now, input);
        }
        self.carry_out(network)
    }

    /// A mobile node's daemon gives up everything that it has for its home address.
    pub(super) fn withdraw(&mut self, network: &Network<'_>) -> Result<Vec<News>> {
        if let Some(Node::Mobile(node)) = &mut self.node {
            node.withdraw();
        }
        self.carry_out(network)
    }

    /// A home agent's daemon agrees on one more home address, and on another one not any more.
    pub(super) fn serve(&mut self, network: &Network<'_>, before: Option<IpAddr>, now: Option<Agreement>) -> Result<Vec<News>> {
        if let Some(Node::Home(home)) = &mut self.node {
            before.into_iter().for_each(|before| home.dismiss(before));
            now.into_iter().for_each(|agreement| home.serve(agreement));
        }
        self.carry_out(network)
    }

    /// A home agent's daemon finds another host with a home address.
    pub(super) fn found_duplicate(&mut self, home_address: IpAddr) {
        if let Some(Node::Home(home)) = &mut self.node {
            home.found_duplicate(home_address);
        }
    }

    /// Takes what arrived and what is due.
    pub(super) fn turn(&mut self, network: &Network<'_>, now: Duration) -> Result<Vec<News>> {
        let mut news = Vec::new();
        while let Some(message) = self.mobility.receive().context("reading the MH socket")? {
            news.extend(self.tell(network, now, Input::Packet(mobility_packet(message)))?);
        }
        while let Some(packet) = self.discovery_packet() {
            news.extend(self.tell(network, now, Input::Packet(packet))?);
        }
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            news.extend(self.tell(network, now, Input::Timeout)?);
        }
        Ok(news)
    }

    /// Removes everything from the kernel of this host, as a reboot would.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.kernel.flush()
    }

    /// Whether a mobile node has an acknowledged place and nothing under way.
    pub(super) fn is_settled(&self) -> bool {
        match &self.node {
            Some(Node::Mobile(node)) => node.is_settled(),
            Some(Node::Home(_)) => true,
            None => false,
        }
    }

    /// The sequence number with which a home agent would accept a binding update for this home address.
    pub(super) fn next_sequence(&self, home_address: IpAddr) -> u16 {
        match &self.node {
            Some(Node::Home(node)) => node.next_sequence(home_address),
            Some(Node::Mobile(_)) | None => 0,
        }
    }

    /// The kernel of this host.
    pub(super) fn kernel(&mut self) -> &mut Kernel {
        &mut self.kernel
    }

    fn carry_out(&mut self, network: &Network<'_>) -> Result<Vec<News>> {
        let mut news = Vec::new();
        loop {
            let Some(output) = self.node.as_mut().map(Node::poll) else { return Ok(news) };
            let what = format!("{output:?}");
            let errno = match output {
                Output::Wait(deadline) => {
                    self.deadline = deadline;
                    return Ok(news);
                }
                Output::Event(event) => {
                    news.push(News::Event(event));
                    0
                }
                Output::Migrate(request) => {
                    let at = unix_micros();
                    let errno = self.kernel.migrate(&request)?;
                    if errno == 0 {
                        news.push(News::Migrated { at });
                    }
                    errno
                }
                Output::Rebind(request, tells) => {
                    let at = unix_micros();
                    let errno = self.kame.rebind(&mut self.kernel, &request, tells)?;
                    if errno == 0 && tells == Rebound::Migrate {
                        news.push(News::Migrated { at });
                    }
                    errno
                }
                Output::SetAside(policy) => self.kame.set_aside(&mut self.kernel, policy)?,
                Output::PutBack(policy) => self.kame.put_back(&mut self.kernel, policy)?,
                Output::SetPolicy(policy) => self.kernel.set_policy(&policy)?,
                Output::DeletePolicy { selector, direction, kind } => match self.kernel.delete_policy(&selector, direction, kind)? {
                    ENOENT => 0,
                    errno => errno,
                },
                Output::SetState(state) => self.kernel.set_mobility_state(&state)?,
                Output::DeleteState(state) => match self.kernel.delete_mobility_state(&state)? {
                    ESRCH => 0,
                    errno => errno,
                },
                Output::Send(packet) => self.send(&packet)?,
                Output::HomeAddress(place) => {
                    self.place_home_address(network, place)?;
                    0
                }
                Output::Proxy { home_address, on } => {
                    self.proxy(home_address, on)?;
                    0
                }
            };
            if errno != 0 {
                news.push(News::Refused(format!("the kernel refuses with errno {errno}: {what}")));
            }
        }
    }

    fn place_home_address(&self, network: &Network<'_>, place: HomeAddressAt) -> Result<()> {
        let Some(home_address) = self.home_address else { return Ok(()) };
        network.place_home_address(&self.host, home_address, place == HomeAddressAt::Link)
    }

    fn proxy(&self, home_address: IpAddr, on: bool) -> Result<()> {
        let word = if on { "replace" } else { "del" };
        self.host.ip_batch(&format!("neigh {word} proxy {home_address} dev {INTERFACE}\n"))
    }

    /// Hands a packet to the kernel; 0 or why it did not want it. A block or a missing SA is the network's business, not ours.
    fn send(&self, packet: &Packet) -> Result<i32> {
        let (Some(upper), IpAddr::V6(source), IpAddr::V6(destination)) = (packet.upper(), packet.src, packet.dst) else {
            return Err(Failure(format!("a signalling node sends only IPv6 in clear: {packet:?}")));
        };
        let sent = match upper.protocol {
            MOBILITY_HEADER => self.mobility.send(&MobilitySend {
                bytes: &upper.payload,
                source,
                destination,
                interface: 0,
                home_address: None,
                routing: None,
            }),
            _ => {
                let mut message = vec![u8::try_from(upper.sport).unwrap_or(u8::MAX), 0, 0, 0];
                message.extend_from_slice(&upper.payload);
                let socket = self.host.enter(|| icmp_socket(Some(packet.src)))??;
                socket.send_to(&message, &SockAddr::from(SocketAddr::new(packet.dst, 0))).map(|_| ())
            }
        };
        Ok(sent.err().and_then(|error| error.raw_os_error()).unwrap_or(0))
    }

    /// A mobile prefix solicitation or advertisement, if one waits.
    fn discovery_packet(&mut self) -> Option<Packet> {
        loop {
            let sender = self.discovery.peek_sender().ok()?;
            let mut buffer = [0; 2048];
            let length = self.discovery.read(&mut buffer).ok()?;
            let message = buffer.get(..length)?;
            let kind = u16::from(*message.first()?);
            let source = sender.as_socket().map(|sender| sender.ip());
            if let (PREFIX_SOLICITATION | PREFIX_ADVERTISEMENT, Some(source)) = (kind, source) {
                let payload = message.get(4..).unwrap_or_default().to_vec();
                return Some(Packet::clear(source, source, Upper { protocol: ICMPV6, sport: kind, dport: 0, payload }));
            }
        }
    }
}

/// Sends a Mobility Header packet whose source address is not ours, in clear and without extension header.
pub(super) fn forge(host: &Namespace, packet: &Packet) -> Result<()> {
    let (Some(upper), IpAddr::V6(source), IpAddr::V6(destination)) = (packet.upper(), packet.src, packet.dst) else {
        return Err(Failure("only IPv6 in clear is forged".to_owned()));
    };
    let send = || {
        let socket = MobilitySocket::open()?;
        // Bound freely, the socket may use an address that this host does not have.
        socket.bind(source)?;
        socket.send(&MobilitySend { bytes: &upper.payload, source, destination, interface: 0, home_address: None, routing: None })
    };
    host.enter(send)?.context("forging a binding update")
}

/// Wall time, as captures count it.
pub(super) fn unix_micros() -> u64 {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

fn mobility_packet(message: MobilityMessage) -> Packet {
    let kind = message.bytes.get(2).copied().unwrap_or(u8::MAX);
    let upper = Upper { protocol: MOBILITY_HEADER, sport: u16::from(kind), dport: 0, payload: message.bytes };
    Packet::clear(message.source.into(), message.destination.into(), upper)
}

/// A correspondent node as far as Home Tests go (RFC 6275 5.2.5): it answers each Home Test Init.
pub(super) struct Correspondent(MobilitySocket);

impl Correspondent {
    /// Opens the socket in `host`.
    pub(super) fn new(host: &Namespace) -> Result<Self> {
        host.enter(MobilitySocket::open)?.map(Self).context("raw MH socket")
    }

    /// Answers what arrived.
    pub(super) fn turn(&self) -> Result<()> {
        while let Some(message) = self.0.receive().context("reading the correspondent's MH socket")? {
            let Ok(Message::TestInit { home: true, cookie, .. }) = Message::decode(&message.bytes) else { continue };
            let answer = Message::Test { home: true, nonce_index: 1, cookie, token: [7; 8], options: Vec::new() };
            let sent = self.0.send(&MobilitySend {
                bytes: &answer.encode(),
                source: message.destination,
                destination: message.source,
                interface: 0,
                home_address: None,
                routing: None,
            });
            sent.context("answering a Home Test Init")?;
        }
        Ok(())
    }
}
