//! The descriptors Watari reads and writes: netlink, PF_KEY, IKE datagrams and raw Mobility Header packets, all non-blocking.
//! It moves bytes and addresses and decides nothing. The only crate with `unsafe`; every such block states why it is sound.

mod control;
mod ike;
mod key;
mod mobility;
mod namespace;
mod netlink;
mod option;
mod policy;

pub use ike::{IkeDatagram, IkeSocket, IkeSocketOptions, Path};
pub use key::KeySocket;
pub use mobility::{MobilityMessage, MobilitySend, MobilitySocket};
pub use namespace::{current_network_namespace, enter_network_namespace};
pub use netlink::{NetlinkFamily, NetlinkSocket};
pub use policy::ProtectedMobility;

/// Largest datagram any of these sockets accepts or returns, in octets.
pub const MAX_DATAGRAM: usize = 65_536;

/// What a kernel socket had to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// One whole datagram, never truncated; it may hold several messages.
    Datagram(Vec<u8>),
    /// The receive buffer overflowed and messages were lost: whoever mirrors kernel tables must dump them again.
    Overrun,
    /// Nothing is waiting.
    WouldBlock,
}
