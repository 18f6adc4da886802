//! Links and the router between them: delay, loss, duplication, reordering, and who answers for an address.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use watari_engine::Input;
use watari_kernel::mirror::{Arrival, Departure, Packet};
use watari_policies::profile::Protected;
use watari_policies::selector::{ICMPV6, MOBILITY_HEADER};
use watari_sa::{Datagram, Path, Transmit, Undeliverable};

use super::attempts;
use super::host::Role;
use super::{Event, IkeDatagram, World};
use crate::scenario::{Conditions, Exchange, Link};
use crate::signalling::{Input as Signal, PREFIX_ADVERTISEMENT, PREFIX_SOLICITATION};
use crate::timeline::Happening;

/// What travels over links.
#[derive(Clone, Debug)]
pub(super) enum Wire {
    /// A UDP datagram of key management, never subject to policies.
    Ike { src: SocketAddr, dst: SocketAddr, octets: Vec<u8> },
    /// Anything else.
    Packet(Packet),
}

impl Wire {
    const fn destination(&self) -> IpAddr {
        match self {
            Self::Ike { dst, .. } => dst.ip(),
            Self::Packet(packet) => packet.dst,
        }
    }
}

/// Delay of the links that are not foreign.
const WIRED: Duration = Duration::from_millis(1);
/// Packets that wait for one address to be found.
const MOST_HELD: usize = 32;

impl World<'_> {
    /// Sends an IKE datagram as a socket with the policy bypass does.
    pub(super) fn send_ike(&mut self, host: usize, transmit: Transmit) -> Result<(), Undeliverable> {
        let this = self.hosts.get(host).ok_or(Undeliverable::NoRoute)?;
        let Path { local, remote, .. } = transmit.path;
        let source = if local.ip().is_unspecified() { this.source().ok_or(Undeliverable::NoRoute)? } else { local.ip() };
        if this.mirror.address_flags(source).is_none_or(|flags| flags.tentative) {
            return Err(Undeliverable::Tentative);
        }
        let link = this.link.ok_or(Undeliverable::NoRoute)?;
        let src = SocketAddr::new(source, local.port());
        let away = this.away;
        self.attempted(host, &transmit.octets, local.port());
        self.datagrams.push(IkeDatagram { at: self.now, src, dst: remote, octets: transmit.octets.clone() });
        if !link.prefix().contains(&source) {
            // Between the new link and the daemon's decision the home address is still where it was: such a packet is only lost.
            if !away {
                return Ok(());
            }
            //= rfc4877#4.4
            //# The mobile node uses its care-of address as source of IKE packets.
            self.reasons.push(format!("IKE left {} from {source}, which is not an address of {link}", link.name()));
            return Ok(());
        }
        self.ike_left(host);
        let exchange = exchange_of(&transmit.octets, local.port());
        self.put(link, Wire::Ike { src, dst: remote, octets: transmit.octets });
        self.spring(host, exchange);
        Ok(())
    }

    /// The ambush of `MoveDuring`: the request has left, now the link goes.
    fn spring(&mut self, host: usize, exchange: Option<(u8, bool)>) {
        let Some((number, false)) = exchange else { return };
        let Some(this) = self.hosts.get_mut(host) else { return };
        if let Some((_, to)) = this.ambush.filter(|(wanted, _)| wanted.number() == number) {
            this.ambush = None;
            self.after(Duration::ZERO, Event::Leave(host, to));
        }
    }

    /// A packet in clear leaves an upper layer of this host.
    pub(super) fn send_packet(&mut self, host: usize, packet: Packet) {
        let now = self.clock();
        let Some(this) = self.hosts.get_mut(host) else { return };
        let forwards = matches!(this.role, Role::HomeAgent);
        if !forwards && this.mirror.address_flags(packet.src).is_none() {
            return;
        }
        let departure = this.mirror.output(now, packet.clone());
        let link = this.link;
        if let Departure::Dropped { counter, .. } = departure {
            self.ping_dropped(&packet, Some(counter));
            return;
        }
        let (Some(wire), Some(link)) = (departure.packet(), link) else { return };
        let network = link == Link::Home && self.scenario.network_of(wire.src).is_some();
        let topological = forwards || network || link.prefix().contains(&wire.src);
        self.look(link, &wire);
        if topological {
            self.put(link, Wire::Packet(wire));
        }
    }

    /// Puts something on a link: to a neighbour, else to the router.
    fn put(&mut self, link: Link, wire: Wire) {
        let neighbour = self.on_link(link, wire.destination()).is_some();
        for delay in self.crossings(link, &wire) {
            let event = if neighbour { Event::Arrive(link, wire.clone()) } else { Event::Router(wire.clone()) };
            self.after(delay, event);
        }
    }

    /// From the router to the link of the destination.
    pub(super) fn route(&mut self, wire: Wire) {
        let network = self.scenario.network_of(wire.destination()).map(|_| Link::Home);
        let Some(link) = Link::of(wire.destination()).or(network) else { return };
        if let Wire::Packet(packet) = &wire {
            let packet = packet.clone();
            self.look(link, &packet);
        }
        for delay in self.crossings(link, &wire) {
            self.after(delay, Event::Arrive(link, wire.clone()));
        }
    }

    /// Delays of the copies that get across a link: none if it is lost, two if it is duplicated.
    fn crossings(&mut self, link: Link, wire: &Wire) -> Vec<Duration> {
        if !link.is_foreign() {
            return vec![WIRED];
        }
        let Conditions { delay, loss, duplicates, reordered } = self.scenario.conditions;
        let mut strikes = |of_thousand: u64| of_thousand > 0 && self.rng.u64() % 1000 < of_thousand;
        if strikes(loss) {
            self.ike_lost = self.ike_lost.saturating_add(u32::from(matches!(wire, Wire::Ike { .. })));
            return Vec::new();
        }
        let mut delays = vec![if strikes(reordered) { delay.saturating_mul(4) } else { delay }];
        if strikes(duplicates) {
            delays.push(delay.saturating_add(delay / 3));
        }
        delays
    }

    /// Who answers for an address on a link: its owner there, else whoever defends it.
    fn on_link(&self, link: Link, address: IpAddr) -> Option<usize> {
        let owner = self.hosts.iter().position(|host| host.answers(link, address));
        let proxy = || self.hosts.iter().position(|host| host.link == Some(link) && host.proxies.contains(&address));
        owner.or_else(proxy).or_else(|| self.router_of(link, address))
    }

    /// Networks behind mobile nodes are routed to the home link: there to the mobile node, or to the home agent while it is away.
    fn router_of(&self, link: Link, address: IpAddr) -> Option<usize> {
        let plan = self.scenario.network_of(address).filter(|_| link == Link::Home)?;
        let node = self.host_named(plan.name).filter(|node| self.hosts.get(*node).is_some_and(|host| host.link == Some(link)));
        node.or_else(|| self.host_named(crate::scenario::HA))
    }

    pub(super) fn arrive(&mut self, link: Link, wire: Wire) {
        let Some(host) = self.on_link(link, wire.destination()) else { return };
        let Some(this) = self.hosts.get_mut(host) else { return };
        if this.is_tentative(wire.destination()) {
            if this.held.len() < MOST_HELD {
                this.held.push(wire);
            }
            return;
        }
        match wire {
            Wire::Ike { src, dst, octets } => {
                let mine = this.mirror.address_flags(dst.ip()).is_some();
                if this.agent.is_some() && mine {
                    attempts::answered(&mut self.attempts, host, &octets, dst.port());
                    let path = Path { local: dst, remote: src, interface: 2 };
                    this.inputs.push_back(Input::Datagram(Datagram { path, octets }));
                    self.pump(host);
                }
            }
            Wire::Packet(packet) => self.receive(host, packet),
        }
    }

    fn receive(&mut self, host: usize, packet: Packet) {
        let now = self.clock();
        let Some(this) = self.hosts.get_mut(host) else { return };
        match this.mirror.input(now, packet.clone()) {
            Arrival::Delivered(delivered) => {
                self.overhear(host, &packet, &delivered);
                self.note_elsewhere(host, &packet, &delivered);
                self.deliver(host, delivered);
            }
            Arrival::Forward(packet) => {
                if matches!(this.role, Role::HomeAgent) {
                    self.send_packet(host, packet);
                }
            }
            Arrival::Dropped(counter) => {
                self.say(host, Happening::Dropped(counter));
                self.ping_dropped(&packet.innermost(), Some(counter));
            }
        }
        self.pump(host);
    }

    fn deliver(&mut self, host: usize, packet: Packet) {
        let Some(upper) = packet.upper() else { return };
        match (upper.protocol, upper.sport) {
            (MOBILITY_HEADER, _) | (ICMPV6, PREFIX_SOLICITATION | PREFIX_ADVERTISEMENT) => {
                if matches!(self.hosts.get(host).map(|host| &host.role), Some(Role::Correspondent)) {
                    if let Some(answer) = super::pings::home_test(&packet) {
                        self.send_packet(host, answer);
                    }
                } else {
                    self.signal(host, Signal::Packet(packet));
                }
            }
            (ICMPV6, _) => self.pinged(host, &packet),
            _ => {}
        }
    }

    /// Judges a packet on a link: what the scenario protects must not be readable away from home.
    fn look(&mut self, link: Link, packet: &Packet) {
        let inner = packet.innermost();
        let Some(upper) = inner.upper() else { return };
        let mobile = |address: IpAddr| self.is_home(address) || self.scenario.network_of(address).is_some();
        if !mobile(inner.src) && !mobile(inner.dst) {
            return;
        }
        let protects = |what: Protected| self.scenario.protect.contains(&what);
        let update = upper.protocol == MOBILITY_HEADER && upper.sport == 5;
        let must = match (upper.protocol, upper.sport) {
            (MOBILITY_HEADER, 5 | 6 | 12) => protects(Protected::Binding) || self.scenario.tunnels_updates(),
            (MOBILITY_HEADER, 1 | 3) => protects(Protected::ReturnRoutability) && link.is_foreign(),
            (ICMPV6, PREFIX_SOLICITATION | PREFIX_ADVERTISEMENT) => protects(Protected::PrefixDiscovery),
            _ => protects(Protected::Payload) && link.is_foreign(),
        };
        if update {
            self.updates_on_links = self.updates_on_links.saturating_add(1);
        }
        if must && !packet.is_protected() {
            self.cleartext = self.cleartext.saturating_add(1);
            self.reasons
                .push(format!("in clear on {link}: {} -> {} protocol {} type {}", inner.src, inner.dst, upper.protocol, upper.sport));
        }
    }
}

/// Exchange type and whether it is a response, from an IKE header.
pub(super) fn exchange_of(octets: &[u8], port: u16) -> Option<(u8, bool)> {
    let marker = if port == 4500 { 4 } else { 0 };
    let header = octets.get(marker..)?;
    Some((*header.get(18)?, header.get(19)? & 0x20 != 0))
}

/// What tells a CREATE_CHILD_SA request from every other: SPI of the initiator, who asks, and the message id.
pub(super) fn creation_of(octets: &[u8], port: u16) -> Option<([u8; 8], u8, [u8; 4])> {
    let marker = if port == 4500 { 4 } else { 0 };
    let header = octets.get(marker..)?;
    let request = exchange_of(octets, port) == Some((Exchange::CreateChild.number(), false));
    request.then_some((*header.first_chunk()?, *header.get(19)?, *header.get(20..)?.first_chunk()?))
}
