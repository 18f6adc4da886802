//! Pings between home addresses, home agent and correspondent, and what became of each.

use std::net::IpAddr;
use std::time::Duration;

use watari_kernel::mirror::{Counter, Packet, Upper};
use watari_mip6::Message;
use watari_policies::selector::{ICMPV6, MOBILITY_HEADER};

use super::{Event, World};
use crate::scenario::{CN, CORRESPONDENT, HOME_AGENT, PingTarget};

/// ICMPv6 Echo Request.
const REQUEST: u16 = 128;
/// ICMPv6 Echo Reply.
const REPLY: u16 = 129;
/// Pings stop so long before the end.
const QUIET: Duration = Duration::from_millis(1500);

/// A ping and its answer take no longer than this on links that do not delay.
const ROUND: Duration = Duration::from_millis(20);

/// Pings between two hosts.
pub(super) struct Flow {
    /// The mobile node whose home address is at one end.
    pub(super) node: usize,
    target: PingTarget,
    pub(super) every: Duration,
    /// Whether any of its pings was answered.
    answered: bool,
}

/// One ping.
pub(super) struct Ping {
    pub(super) answered: bool,
    /// Sent while the node was registered.
    pub(super) registered: bool,
    /// Sent while everything ought to work.
    pub(super) counts: bool,
    /// Under way when the link or the home agent went.
    pub(super) cut: bool,
    pub(super) dropped: Option<Counter>,
    pub(super) node: usize,
    flow: usize,
    pub(super) sent: Duration,
}

impl World<'_> {
    pub(super) fn start_flow(&mut self, node: &str, target: PingTarget, every: Duration) {
        let Some(node) = self.host_named(node) else { return };
        self.flows.push(Flow { node, target, every, answered: false });
        let index = self.flows.len().saturating_sub(1);
        self.ping(index);
    }

    /// Who sends a ping now, from where and to where; nobody while the mobile node has no home address.
    fn ends(&self, node: usize, target: PingTarget) -> Option<(usize, IpAddr, IpAddr)> {
        let plan = self.scenario.mobile_node(self.hosts.get(node)?.name)?;
        let home = self.home_of(plan)?;
        Some(match target {
            PingTarget::HomeAgent => (node, home, HOME_AGENT),
            PingTarget::Correspondent => (node, home, CORRESPONDENT),
            PingTarget::FromNetwork => (node, plan.network_address(), CORRESPONDENT),
            PingTarget::FromCorrespondent => (self.host_named(CN).unwrap_or(node), CORRESPONDENT, home),
        })
    }

    pub(super) fn ping(&mut self, index: usize) {
        let Some(Flow { node, target, every, .. }) = self.flows.get(index) else { return };
        let (node, target, every) = (*node, *target, *every);
        if self.now.saturating_add(QUIET) > self.scenario.duration {
            return;
        }
        let Some((sender, src, dst)) = self.ends(node, target) else { return self.after(every, Event::Ping(index)) };
        let (registered, bootstrapped) = self.hosts.get(node).map_or((false, false), |host| (host.window, host.bootstrapped));
        let number = u64::try_from(self.pings.len()).unwrap_or(u64::MAX);
        let (counts, sent) = (registered && bootstrapped, self.now);
        self.pings.push(Ping { answered: false, registered, counts, cut: false, dropped: None, node, flow: index, sent });
        self.send_packet(sender, echo(src, dst, REQUEST, number));
        self.pump(sender);
        self.after(every, Event::Ping(index));
    }

    /// A mobile node has no link, or its home agent no binding, from now on: what is under way is lost for that.
    pub(super) fn close_window(&mut self, node: usize) {
        if let Some(host) = self.hosts.get_mut(node) {
            host.window = false;
        }
        let round = ROUND.saturating_add(self.scenario.conditions.delay.saturating_mul(10));
        let under_way = |ping: &&mut Ping| ping.node == node && !ping.answered && self.now < ping.sent.saturating_add(round);
        self.pings.iter_mut().rev().filter(under_way).for_each(|ping| ping.cut = true);
    }

    /// Flows of which no ping at all was answered, of nodes that are not to be refused. Where packets are lost that may be chance.
    pub(super) fn silent_flows(&self) -> Vec<String> {
        let silent = self.flows.iter().filter(|flow| !flow.answered && !self.is_lossy());
        let named = silent.filter_map(|flow| Some((self.hosts.get(flow.node)?.name, flow.target)));
        let welcome = named.filter(|(name, _)| self.scenario.mobile_node(name).is_some_and(|plan| !self.scenario.is_refused(plan)));
        welcome.map(|(name, target)| format!("{name}: not one ping was answered ({target:?})")).collect()
    }

    /// An echo message reached its host.
    pub(super) fn pinged(&mut self, host: usize, packet: &Packet) {
        let Some(number) = number_of(packet) else { return };
        match packet.upper().map(|upper| upper.sport) {
            Some(REQUEST) => self.send_packet(host, echo(packet.dst, packet.src, REPLY, number)),
            Some(REPLY) => {
                let Some(ping) = usize::try_from(number).ok().and_then(|at| self.pings.get_mut(at)) else { return };
                ping.answered = true;
                let (node, flow) = (ping.node, ping.flow);
                self.flows.iter_mut().skip(flow).take(1).for_each(|flow| flow.answered = true);
                if let Some(host) = self.hosts.get_mut(node) {
                    host.bootstrapped = true;
                }
            }
            _ => {}
        }
    }

    /// A kernel dropped a packet; if it was an echo message, the ping knows why.
    pub(super) fn ping_dropped(&mut self, packet: &Packet, counter: Option<Counter>) {
        if let Some(ping) = number_of(packet).and_then(|number| usize::try_from(number).ok()).and_then(|at| self.pings.get_mut(at)) {
            ping.dropped = ping.dropped.or(counter);
        }
    }
}

fn echo(src: IpAddr, dst: IpAddr, message_type: u16, number: u64) -> Packet {
    Packet::clear(src, dst, Upper { protocol: ICMPV6, sport: message_type, dport: 0, payload: number.to_be_bytes().to_vec() })
}

fn number_of(packet: &Packet) -> Option<u64> {
    let upper = packet.upper().filter(|upper| upper.protocol == ICMPV6 && matches!(upper.sport, REQUEST | REPLY))?;
    upper.payload.first_chunk().map(|octets| u64::from_be_bytes(*octets))
}

/// The Home Test that a correspondent answers a Home Test Init with.
pub(super) fn home_test(packet: &Packet) -> Option<Packet> {
    let upper = packet.upper()?;
    let Ok(Message::TestInit { home: true, cookie, .. }) = Message::decode(&upper.payload) else { return None };
    let message = Message::Test { home: true, nonce_index: 1, cookie, token: [7; 8], options: Vec::new() };
    let answer = Upper { protocol: MOBILITY_HEADER, sport: u16::from(message.number()), dport: 0, payload: message.encode() };
    Some(Packet::clear(packet.dst, packet.src, answer))
}
