//! What the operator says about movement: who is believed, and whether IKE SAs follow (RFC 6275 10.3.1, 11.7.3; RFC 4877 4.3, 7.4).
//! Invariant: the defaults believe the kernel alone and never give an IKE SA up.

use std::net::IpAddr;

/// Why Mobile IPv6 cannot use an address as that of a home agent or mobile node, at home or away.
#[must_use]
pub const fn no_mobile_address(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(_) => Some("Mobile IPv6 works with IPv6 addresses only"),
        IpAddr::V6(v6) if v6.is_unspecified() => Some("the unspecified address belongs to nobody"),
        IpAddr::V6(v6) if v6.is_multicast() => Some("a multicast address belongs to no single host"),
        IpAddr::V6(v6) if v6.is_loopback() => Some("the loopback address is never seen on a link"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("a link-local address has no meaning on another link"),
        IpAddr::V6(_) => None,
    }
}

/// What the K bit (Key Management Mobility Capability) of binding messages is taken to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyMobility {
    /// As if it were always set: IKE SAs follow.
    #[default]
    Assume,
    /// As if it were always clear: IKE SAs are given up at each movement and made again.
    Never,
    /// As protected binding messages say, seen on a raw socket that admits nothing else; unknown means that IKE SAs follow.
    Observe,
}

impl KeyMobility {
    /// The word in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Assume => "assume",
            Self::Never => "never",
            Self::Observe => "observe",
        }
    }
}

/// Who may say that a mobile node has moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MovementSource {
    /// The kernel, and privileged local clients.
    #[default]
    Kernel,
    /// A protected binding update as well, before the Mobile IPv6 daemon has said anything.
    Observe,
    /// On a mobile node its own address events as well, where the Mobile IPv6 daemon does not tell everything (SHISA: nothing on return
    /// home and nothing of transport policies).
    Addresses,
}

impl MovementSource {
    /// The word in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Observe => "observe",
            Self::Addresses => "addresses",
        }
    }
}

/// What is to be known about the movements of one peer; without effect for a peer that Mobile IPv6 does not govern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Movements {
    /// Where the K bit comes from.
    pub key_mobility: KeyMobility,
    /// Home agent: whether the Mobile IPv6 daemon here answers a binding update that has the K bit with the K bit
    /// (mip6d: `KeyMngMobCapability`). It cannot be seen, because a host's own messages do not reach its raw sockets.
    pub daemon_echoes_k: bool,
    /// Who says that the mobile node has moved.
    pub source: MovementSource,
}

impl Default for Movements {
    fn default() -> Self {
        Self { key_mobility: KeyMobility::Assume, daemon_echoes_k: true, source: MovementSource::Kernel }
    }
}

impl Movements {
    /// Whether protected binding messages of this peer are to be listened to.
    #[must_use]
    pub fn listens(&self) -> bool {
        self.key_mobility == KeyMobility::Observe || self.source == MovementSource::Observe
    }
}
