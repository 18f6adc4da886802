//! Linux NETLINK_XFRM as a kernel back end, sans-IO: requests become netlink messages, netlink messages become answers and events.

mod backend;
mod convert;
mod encode;
mod event;
mod layout;
mod message;
mod probe;

pub use backend::XfrmBackend;
pub use probe::{xfrm_interface_in_symbols, xfrm_interface_registered};

/// Multicast group of ACQUIRE.
pub const GROUP_ACQUIRE: u32 = 1;
/// Multicast group of EXPIRE.
pub const GROUP_EXPIRE: u32 = 2;
/// Multicast group of SA changes.
pub const GROUP_SA: u32 = 3;
/// Multicast group of policy changes.
pub const GROUP_POLICY: u32 = 4;
/// Multicast group of MIGRATE.
pub const GROUP_MIGRATE: u32 = 7;

/// The groups that the socket of `Channel::XfrmEvent` joins.
pub const GROUPS: [u32; 5] = [GROUP_ACQUIRE, GROUP_EXPIRE, GROUP_SA, GROUP_POLICY, GROUP_MIGRATE];

/// XFRM_MSG_MIGRATE as a Mobile IPv6 daemon sends it, for the test bed's signalling node: octets for a NETLINK_XFRM socket, or why the
/// values make no such message. The answer is an acknowledgement with `seq`.
pub fn migrate_request(migrate: &watari_kernel::Migrate, seq: u32) -> Result<Vec<u8>, String> {
    encode::migrate(migrate)?.into_octets(seq, 0)
}
