//! Where an IKE datagram came from and goes to.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Both ends of an IKE datagram and the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path {
    /// This host's address and port. An unspecified address leaves the choice to the kernel.
    pub local: SocketAddr,
    /// The other end's address and port.
    pub remote: SocketAddr,
    /// Interface index, 0 for any.
    pub interface: u32,
}

impl Path {
    /// A path between two addresses on one port at both ends.
    pub const fn between(local: IpAddr, remote: IpAddr, port: u16) -> Self {
        Self { local: SocketAddr::new(local, port), remote: SocketAddr::new(remote, port), interface: 0 }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.local, self.remote)
    }
}

/// A UDP payload that arrived. On the port for UDP encapsulation it still carries its non-ESP marker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Its path, seen from this host (`local` is where it arrived).
    pub path: Path,
    /// UDP payload.
    pub octets: Vec<u8>,
}

/// Names a transmission so that a failure to send it can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransmitId(pub u64);

/// A UDP payload to send, marker included where the port needs one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Its name.
    pub id: TransmitId,
    /// Its path.
    pub path: Path,
    /// UDP payload.
    pub octets: Vec<u8>,
}

/// Why a datagram could not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undeliverable {
    /// The source address is absent or still tentative: wait for it.
    Tentative,
    /// No route to the destination.
    NoRoute,
    /// A policy or firewall of this host forbids it.
    Denied,
    /// Larger than the path takes.
    TooBig,
}
