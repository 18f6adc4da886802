//! The descriptors Watari reads and writes, all non-blocking: regular files, PF_KEY and IKE datagrams everywhere, netlink and raw Mobility Header packets
//! on Linux, the routing socket on FreeBSD.
//! It moves bytes and addresses and decides nothing. The only crate with `unsafe`; every such block states why it is sound.

mod control;
mod file;
mod ike;
mod key;
#[cfg(target_os = "linux")]
mod mobility;
#[cfg(target_os = "linux")]
mod namespace;
#[cfg(target_os = "linux")]
mod netlink;
mod option;
#[cfg(target_os = "linux")]
mod policy;
mod received;
#[cfg(target_os = "freebsd")]
mod route;
#[cfg(any(test, target_os = "freebsd"))]
mod sadb_policy;

pub use file::read_regular;
pub use ike::{IkeDatagram, IkeSocket, IkeSocketOptions, Path};
pub use key::KeySocket;
#[cfg(target_os = "linux")]
pub use mobility::{MobilityMessage, MobilitySend, MobilitySocket};
#[cfg(target_os = "linux")]
pub use namespace::{current_network_namespace, enter_network_namespace};
#[cfg(target_os = "linux")]
pub use netlink::{NetlinkFamily, NetlinkSocket};
#[cfg(target_os = "linux")]
pub use policy::ProtectedMobility;
#[cfg(target_os = "freebsd")]
pub use route::{RouteSocket, address_flags, interface_list};

#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
compile_error!("watari-sys knows the kernels of Linux and FreeBSD");

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
