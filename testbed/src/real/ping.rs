//! Pings (ICMPv6 echo) that remember when each was sent and whether it was answered.

use std::fmt;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::uml::hosts::Namespace;
use crate::uml::{Context, Result};

const ICMPV6: i32 = 58;
const ECHO_REQUEST: u8 = 128;
const ECHO_REPLY: u8 = 129;

/// One ping.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ping {
    /// When it was sent, from the scenario's start.
    pub(super) sent: Duration,
    /// When its answer came.
    pub(super) answered: Option<Duration>,
}

/// A host that pings another at a fixed pace.
pub(super) struct Pinger {
    /// The mobile node at one end.
    pub(super) node: &'static str,
    /// Whether it is the mobile node that sends.
    pub(super) sent_by_node: bool,
    socket: Socket,
    source: IpAddr,
    target: SocketAddr,
    identifier: u16,
    every: Duration,
    next: Duration,
    /// Every ping so far.
    pub(super) pings: Vec<Ping>,
}

/// A raw ICMPv6 socket in the calling thread's namespace that sends from `source`, which need not exist yet.
pub(super) fn icmp_socket(source: Option<IpAddr>) -> Result<Socket> {
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::from(ICMPV6))).context("raw ICMPv6 socket")?;
    socket.set_nonblocking(true).context("raw ICMPv6 socket")?;
    if let Some(source) = source {
        socket.set_freebind_v6(true).context("IPV6_FREEBIND")?;
        socket.bind(&SockAddr::from(SocketAddr::new(source, 0))).context("binding a raw ICMPv6 socket")?;
    }
    Ok(socket)
}

impl fmt::Display for Pinger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.source, self.target.ip())
    }
}

impl Pinger {
    /// Opens the socket in the calling thread's namespace.
    pub(super) fn open(
        (node, sent_by_node): (&'static str, bool),
        source: IpAddr,
        target: IpAddr,
        identifier: u16,
        every: Duration,
        now: Duration,
    ) -> Result<Self> {
        let target = SocketAddr::new(target, 0);
        let socket = icmp_socket(Some(source))?;
        Ok(Self { node, sent_by_node, socket, source, target, identifier, every, next: now, pings: Vec::new() })
    }

    /// Goes on with another home address of the mobile node, whose addresses before it were `homes`.
    pub(super) fn rehome(&mut self, node: &Namespace, homes: impl Fn(IpAddr) -> bool, home_address: IpAddr) -> Result<()> {
        if homes(self.target.ip()) {
            self.target.set_ip(home_address);
        }
        if homes(self.source) {
            self.source = home_address;
            self.socket = node.enter(|| icmp_socket(Some(home_address)))??;
        }
        Ok(())
    }

    /// Sends what is due (unless `quiet`) and takes answers.
    pub(super) fn turn(&mut self, now: Duration, quiet: bool) {
        if now >= self.next && !quiet {
            self.next = now.max(self.next + self.every.saturating_sub(Duration::from_millis(1)));
            let sequence = u16::try_from(self.pings.len()).unwrap_or(u16::MAX);
            let mut message = vec![ECHO_REQUEST, 0, 0, 0];
            message.extend_from_slice(&self.identifier.to_be_bytes());
            message.extend_from_slice(&sequence.to_be_bytes());
            message.extend_from_slice(&[0; 32]);
            // A refusal (blocked while the binding update is out) is a ping without answer, like any other loss.
            let _ = self.socket.send_to(&message, &SockAddr::from(self.target));
            self.pings.push(Ping { sent: now, answered: None });
        }
        let mut buffer = [0; 2048];
        while let Ok(length) = self.socket.read(&mut buffer) {
            if let Some(sequence) = buffer.get(..length).and_then(|reply| self.sequence_of(reply))
                && let Some(ping) = self.pings.get_mut(usize::from(sequence))
            {
                ping.answered.get_or_insert(now);
            }
        }
    }

    fn sequence_of(&self, reply: &[u8]) -> Option<u16> {
        let word = |at: usize| reply.get(at..)?.first_chunk::<2>().map(|octets| u16::from_be_bytes(*octets));
        (*reply.first()? == ECHO_REPLY && word(4)? == self.identifier).then(|| word(6))?
    }
}
