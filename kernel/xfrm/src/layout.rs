//! The fixed parts of XFRM messages as they lie in memory (linux/xfrm.h), for every architecture with 8-octet aligned u64.
//! Invariant: sizes and offsets are those of the kernel's header; a test holds them against recorded messages.

use zerocopy::byteorder::big_endian;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// An address of either family; IPv4 takes the first four octets.
pub(crate) type Address = [u8; 16];

/// `struct xfrm_selector`, 56 octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct RawSelector {
    pub(crate) daddr: Address,
    pub(crate) saddr: Address,
    pub(crate) dport: big_endian::U16,
    pub(crate) dport_mask: big_endian::U16,
    pub(crate) sport: big_endian::U16,
    pub(crate) sport_mask: big_endian::U16,
    pub(crate) family: u16,
    pub(crate) prefixlen_d: u8,
    pub(crate) prefixlen_s: u8,
    pub(crate) proto: u8,
    pub(crate) pad: [u8; 3],
    pub(crate) ifindex: i32,
    pub(crate) user: u32,
}

/// `struct xfrm_id`, 24 octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct RawId {
    pub(crate) daddr: Address,
    pub(crate) spi: big_endian::U32,
    pub(crate) proto: u8,
    pub(crate) pad: [u8; 3],
}

/// `struct xfrm_lifetime_cfg`, 64 octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct LifetimeLimits {
    pub(crate) soft_byte_limit: u64,
    pub(crate) hard_byte_limit: u64,
    pub(crate) soft_packet_limit: u64,
    pub(crate) hard_packet_limit: u64,
    pub(crate) soft_add_expires_seconds: u64,
    pub(crate) hard_add_expires_seconds: u64,
    pub(crate) soft_use_expires_seconds: u64,
    pub(crate) hard_use_expires_seconds: u64,
}

/// `struct xfrm_lifetime_cur`, 32 octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct LifetimeSpent {
    pub(crate) bytes: u64,
    pub(crate) packets: u64,
    pub(crate) add_time: u64,
    pub(crate) use_time: u64,
}

/// `struct xfrm_usersa_info`, 224 octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct UserSaInfo {
    pub(crate) sel: RawSelector,
    pub(crate) id: RawId,
    pub(crate) saddr: Address,
    pub(crate) lft: LifetimeLimits,
    pub(crate) curlft: LifetimeSpent,
    pub(crate) stats: [u32; 3],
    pub(crate) seq: u32,
    pub(crate) reqid: u32,
    pub(crate) family: u16,
    pub(crate) mode: u8,
    pub(crate) replay_window: u8,
    pub(crate) flags: u8,
    pub(crate) pad: [u8; 7],
}

/// `struct xfrm_usersa_id`, 24 octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct UserSaId {
    pub(crate) daddr: Address,
    pub(crate) spi: big_endian::U32,
    pub(crate) family: u16,
    pub(crate) proto: u8,
    pub(crate) pad: u8,
}

/// `struct xfrm_userspi_info`, 232 octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct UserSpiInfo {
    pub(crate) info: UserSaInfo,
    pub(crate) min: u32,
    pub(crate) max: u32,
}

/// `struct xfrm_user_expire`, 232 octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct UserExpire {
    pub(crate) state: UserSaInfo,
    pub(crate) hard: u8,
    pub(crate) pad: [u8; 7],
}

/// `struct xfrm_userpolicy_info`, 168 octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct UserPolicyInfo {
    pub(crate) sel: RawSelector,
    pub(crate) lft: LifetimeLimits,
    pub(crate) curlft: LifetimeSpent,
    pub(crate) priority: u32,
    pub(crate) index: u32,
    pub(crate) dir: u8,
    pub(crate) action: u8,
    pub(crate) flags: u8,
    pub(crate) share: u8,
    pub(crate) pad: [u8; 4],
}

/// `struct xfrm_userpolicy_id`, 64 octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct UserPolicyId {
    pub(crate) sel: RawSelector,
    pub(crate) index: u32,
    pub(crate) dir: u8,
    pub(crate) pad: [u8; 3],
}

/// `struct xfrm_user_polexpire`, 176 octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct UserPolicyExpire {
    pub(crate) policy: UserPolicyInfo,
    pub(crate) hard: u8,
    pub(crate) pad: [u8; 7],
}

/// `struct xfrm_user_tmpl`, 64 octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct UserTemplate {
    pub(crate) id: RawId,
    pub(crate) family: u16,
    pub(crate) pad: [u8; 2],
    pub(crate) saddr: Address,
    pub(crate) reqid: u32,
    pub(crate) mode: u8,
    pub(crate) share: u8,
    pub(crate) optional: u8,
    pub(crate) pad2: u8,
    pub(crate) aalgos: u32,
    pub(crate) ealgos: u32,
    pub(crate) calgos: u32,
}

/// `struct xfrm_user_acquire`, 280 octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct UserAcquire {
    pub(crate) id: RawId,
    pub(crate) saddr: Address,
    pub(crate) sel: RawSelector,
    pub(crate) policy: UserPolicyInfo,
    pub(crate) aalgos: u32,
    pub(crate) ealgos: u32,
    pub(crate) calgos: u32,
    pub(crate) seq: u32,
}

/// `struct xfrm_user_migrate`, 76 octets: destination before source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct UserMigrate {
    pub(crate) old_daddr: Address,
    pub(crate) old_saddr: Address,
    pub(crate) new_daddr: Address,
    pub(crate) new_saddr: Address,
    pub(crate) proto: u8,
    pub(crate) mode: u8,
    pub(crate) reserved: u16,
    pub(crate) reqid: u32,
    pub(crate) old_family: u16,
    pub(crate) new_family: u16,
}

/// `struct xfrm_user_kmaddress`, 40 octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct UserKmAddress {
    pub(crate) local: Address,
    pub(crate) remote: Address,
    pub(crate) reserved: u32,
    pub(crate) family: u16,
    pub(crate) pad: [u8; 2],
}

/// `struct xfrm_encap_tmpl`, 24 octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct EncapTemplate {
    pub(crate) encap_type: u16,
    pub(crate) sport: big_endian::U16,
    pub(crate) dport: big_endian::U16,
    pub(crate) pad: [u8; 2],
    pub(crate) original: Address,
}

/// `struct xfrm_replay_state_esn` without its bitmap, 24 octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct ReplayStateEsn {
    pub(crate) bmp_len: u32,
    pub(crate) oseq: u32,
    pub(crate) seq: u32,
    pub(crate) oseq_hi: u32,
    pub(crate) seq_hi: u32,
    pub(crate) replay_window: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::{offset_of, size_of};

    #[test]
    fn sizes_and_offsets_are_the_kernels() {
        assert_eq!(size_of::<RawSelector>(), 56);
        assert_eq!(size_of::<RawId>(), 24);
        assert_eq!(size_of::<UserSaInfo>(), 224);
        assert_eq!(size_of::<UserSaId>(), 24);
        assert_eq!(size_of::<UserSpiInfo>(), 232);
        assert_eq!(size_of::<UserExpire>(), 232);
        assert_eq!(size_of::<UserPolicyInfo>(), 168);
        assert_eq!(size_of::<UserPolicyId>(), 64);
        assert_eq!(size_of::<UserPolicyExpire>(), 176);
        assert_eq!(size_of::<UserTemplate>(), 64);
        assert_eq!(size_of::<UserAcquire>(), 280);
        assert_eq!(size_of::<UserMigrate>(), 76);
        assert_eq!(size_of::<UserKmAddress>(), 40);
        assert_eq!(size_of::<EncapTemplate>(), 24);
        assert_eq!(size_of::<ReplayStateEsn>(), 24);
        assert_eq!(offset_of!(UserSaInfo, lft), 96);
        assert_eq!(offset_of!(UserSaInfo, family), 212);
        assert_eq!(offset_of!(UserPolicyInfo, priority), 152);
    }
}
