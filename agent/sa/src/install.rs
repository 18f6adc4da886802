//! From an agreed child SA to the two kernel SAs. Inbound is installed first, so that nothing arrives for which there are no keys.
//! Invariant: SAs are always installed with their selectors; end points are those of the moment of installation.

use watari_crypto::ChildKeys;
use watari_kernel::{Encapsulation, Endpoints, SaId, SaKeys, SaLifetime, SaParameters, Spi};
use watari_policies::algorithm::ChildSuite;
use watari_policies::selector::{ICMPV6, MOBILITY_HEADER};
use watari_policies::{Direction, Mode, PortMask, Protocol, Reqid, Selector, Traffic};

/// What two peers agreed on for one child SA.
#[derive(Clone, Debug)]
pub struct Agreed {
    /// IPsec protocol.
    pub protocol: Protocol,
    /// Mode.
    pub mode: Mode,
    /// Negotiated traffic.
    pub traffic: Traffic,
    /// Algorithms.
    pub suite: ChildSuite,
    /// Keys of both directions.
    pub keys: ChildKeys,
    /// Whether this host began the exchange that made them.
    pub initiator: bool,
    /// Our SPI.
    pub inbound_spi: Spi,
    /// The peer's SPI.
    pub outbound_spi: Spi,
    /// Reqid of the inbound SA.
    pub reqid_in: Reqid,
    /// Reqid of the outbound SA.
    pub reqid_out: Reqid,
    /// Anti-replay window in packets.
    pub replay_window: u32,
    /// Limits for the kernel.
    pub lifetime: SaLifetime,
    /// UDP encapsulation of the outbound SA, if any.
    pub encapsulation: Option<Encapsulation>,
}

impl Agreed {
    /// The selector of one direction; without `mh_types_visible` an inbound one names the Mobility Header without its type.
    pub fn selector(&self, direction: Direction, mh_types_visible: bool) -> Selector {
        self.traffic.kernel_selectors(direction, mh_types_visible).sa
    }

    /// The inbound SA; `endpoints` are the outbound ones (this host to peer).
    pub fn inbound(&self, endpoints: Endpoints, mh_types_visible: bool) -> SaParameters {
        let (encryption, integrity) = if self.initiator {
            (&self.keys.responder_encryption, &self.keys.responder_integrity)
        } else {
            (&self.keys.initiator_encryption, &self.keys.initiator_integrity)
        };
        SaParameters {
            id: SaId { dst: endpoints.src, protocol: self.protocol, spi: self.inbound_spi },
            src: endpoints.dst,
            mode: self.mode,
            reqid: self.reqid_in,
            selector: self.selector(Direction::In, mh_types_visible),
            keys: SaKeys { suite: self.suite, encryption: encryption.clone(), integrity: integrity.clone() },
            replay_window: self.replay_window,
            lifetime: self.lifetime,
            encapsulation: self
                .encapsulation
                .map(|ports| Encapsulation { source_port: ports.destination_port, destination_port: ports.source_port }),
        }
    }

    /// The outbound SA; `endpoints` are the outbound ones (this host to peer).
    pub fn outbound(&self, endpoints: Endpoints) -> SaParameters {
        let (encryption, integrity) = if self.initiator {
            (&self.keys.initiator_encryption, &self.keys.initiator_integrity)
        } else {
            (&self.keys.responder_encryption, &self.keys.responder_integrity)
        };
        SaParameters {
            id: SaId { dst: endpoints.dst, protocol: self.protocol, spi: self.outbound_spi },
            src: endpoints.src,
            mode: self.mode,
            reqid: self.reqid_out,
            selector: self.selector(Direction::Out, true),
            keys: SaKeys { suite: self.suite, encryption: encryption.clone(), integrity: integrity.clone() },
            replay_window: 0,
            lifetime: self.lifetime,
            encapsulation: self.encapsulation,
        }
    }
}

/// The selector that one SA is installed with, as the kernel can check it.
///
/// Even a kernel that reads Mobility Header types does so only behind exactly one extension header, and ICMPv6 types only behind none
/// (a kernel act shows it): what a mobile peer sends has an extension header away, none at home or in a tunnel, and what a home agent
/// forwards into a tunnel is read like a packet that arrives. So for a peer that Mobile IPv6 governs (`mobile`) inbound SAs, and tunnel
/// SAs both ways, name the protocol without types.
pub fn sa_selector(traffic: &Traffic, direction: Direction, mode: Mode, mobile: bool, mh_types_visible: bool) -> Selector {
    let mut selector = traffic.kernel_selectors(direction, mh_types_visible || direction == Direction::Out).sa;
    let misread = mobile && (direction != Direction::Out || mode == Mode::Tunnel);
    if misread && matches!(selector.protocol, MOBILITY_HEADER | ICMPV6) {
        (selector.sport, selector.dport) = (PortMask::ANY, PortMask::ANY);
    }
    selector
}
