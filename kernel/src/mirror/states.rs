//! What stands in the mirror's SAD: SAs, reserved SPIs, states of unanswered ACQUIREs, Mobile IPv6 hao and route2 states.

use std::net::IpAddr;
use std::time::Duration;

use watari_policies::{Mode, Protocol, Reqid, Selector};

use crate::mirror::packet::KeyDigest;
use crate::{Endpoints, Now, SaInfo, SaLifetime, SaParameters, Spi};

/// IP protocol of a destination-options (Home Address) state.
pub const HAO: u8 = 60;
/// IP protocol of a type 2 routing header state.
pub const ROUTE2: u8 = 43;

/// A state of the Mobile IPv6 daemon; unspecified addresses fit any packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MobilityState {
    /// [`HAO`] or [`ROUTE2`].
    pub ip_protocol: u8,
    /// Addresses as the upper layers see them: home address and correspondent.
    pub endpoints: Endpoints,
    /// Care-of address put into or demanded of the packet; unspecified for any (inbound only).
    pub care_of: IpAddr,
}

/// What a state is good for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Standing {
    /// Waits for keys until this boot time.
    Larval { until: Duration, sequence: u32 },
    /// Protects packets.
    Valid { digest: KeyDigest, window: Window, lifetime: SaLifetime, added: Duration, warned: bool },
    /// Mobile IPv6.
    Mobility { care_of: IpAddr },
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct State {
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) ip_protocol: u8,
    pub(crate) spi: Spi,
    pub(crate) mode: Option<Mode>,
    pub(crate) reqid: Reqid,
    pub(crate) selector: Option<Selector>,
    pub(crate) standing: Standing,
    pub(crate) sent: u64,
    pub(crate) bytes: u64,
    pub(crate) packets: u64,
    pub(crate) added_wall: u64,
    pub(crate) used_wall: u64,
}

pub(crate) const fn ip_protocol(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Esp => 50,
        Protocol::Ah => 51,
    }
}

impl State {
    fn blank(endpoints: Endpoints, ip_protocol: u8, standing: Standing, now: Now) -> Self {
        Self {
            src: endpoints.src,
            dst: endpoints.dst,
            ip_protocol,
            spi: Spi(0),
            mode: None,
            reqid: Reqid(0),
            selector: None,
            standing,
            sent: 0,
            bytes: 0,
            packets: 0,
            added_wall: now.wall.as_secs(),
            used_wall: 0,
        }
    }

    pub(crate) fn larval(endpoints: Endpoints, protocol: Protocol, mode: Mode, reqid: Reqid, until: Duration, now: Now) -> Self {
        let mut state = Self::blank(endpoints, ip_protocol(protocol), Standing::Larval { until, sequence: 0 }, now);
        state.mode = Some(mode);
        state.reqid = reqid;
        state
    }

    pub(crate) fn mobility(state: &MobilityState, now: Now) -> Self {
        Self::blank(state.endpoints, state.ip_protocol, Standing::Mobility { care_of: state.care_of }, now)
    }

    pub(crate) fn valid(parameters: &SaParameters, now: Now) -> Self {
        let standing = Standing::Valid {
            digest: KeyDigest::of(&parameters.keys),
            window: Window::new(parameters.replay_window),
            lifetime: parameters.lifetime,
            added: now.boot,
            warned: false,
        };
        let mut state = Self::blank(parameters.endpoints(), ip_protocol(parameters.id.protocol), standing, now);
        state.spi = parameters.id.spi;
        state.mode = Some(parameters.mode);
        state.reqid = parameters.reqid;
        state.selector = Some(parameters.selector);
        state
    }

    pub(crate) const fn is_larval(&self) -> bool {
        matches!(self.standing, Standing::Larval { .. })
    }

    pub(crate) fn info(&self) -> SaInfo {
        SaInfo {
            dst: self.dst,
            src: self.src,
            protocol: self.ip_protocol,
            spi: self.spi,
            mode: self.mode,
            reqid: self.reqid,
            selector: self.selector,
            care_of: match self.standing {
                Standing::Mobility { care_of } => Some(care_of),
                Standing::Larval { .. } | Standing::Valid { .. } => None,
            },
            larval: self.is_larval(),
            bytes: self.bytes,
            packets: self.packets,
            added: self.added_wall,
            used: self.used_wall,
        }
    }

    /// Boot time of the next thing that happens to this state by itself, and whether it is the end of it.
    pub(crate) fn next_limit(&self) -> Option<(Duration, bool)> {
        match &self.standing {
            Standing::Larval { until, .. } => Some((*until, true)),
            Standing::Valid { lifetime, added, warned, .. } => {
                let at = |seconds: u64| (seconds > 0).then(|| added.saturating_add(Duration::from_secs(seconds)));
                let soft = if *warned { None } else { at(lifetime.soft_seconds) };
                match (soft, at(lifetime.hard_seconds)) {
                    (Some(soft), Some(hard)) if soft < hard => Some((soft, false)),
                    (_, Some(hard)) => Some((hard, true)),
                    (Some(soft), None) => Some((soft, false)),
                    (None, None) => None,
                }
            }
            Standing::Mobility { .. } => None,
        }
    }

    /// Counts a packet; true if a soft limit was crossed for the first time, and whether a hard one was.
    pub(crate) fn count(&mut self, now: Now, octets: u64) -> (bool, bool) {
        self.bytes = self.bytes.saturating_add(octets);
        self.packets = self.packets.saturating_add(1);
        self.used_wall = now.wall.as_secs();
        let Standing::Valid { lifetime, warned, .. } = &mut self.standing else { return (false, false) };
        let over = |limit: u64, value: u64| limit > 0 && value >= limit;
        let hard = over(lifetime.hard_bytes, self.bytes) || over(lifetime.hard_packets, self.packets);
        let soft = over(lifetime.soft_bytes, self.bytes) || over(lifetime.soft_packets, self.packets);
        let first = soft && !*warned;
        *warned |= soft;
        (first, hard)
    }
}

/// An anti-replay window (RFC 4303 3.4.3) of up to 64 packets; 0 switches the check off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    size: u32,
    highest: u64,
    seen: u64,
}

impl Window {
    const fn new(size: u32) -> Self {
        Self { size: if size > 64 { 64 } else { size }, highest: 0, seen: 0 }
    }

    /// Takes a sequence number; false if it is a replay or too old.
    pub(crate) fn accept(&mut self, sequence: u64) -> bool {
        if self.size == 0 {
            return true;
        }
        if sequence > self.highest {
            let shift = sequence.saturating_sub(self.highest);
            self.seen = u32::try_from(shift).ok().and_then(|shift| self.seen.checked_shl(shift)).unwrap_or(0) | 1;
            self.highest = sequence;
            return true;
        }
        let age = self.highest.saturating_sub(sequence);
        if sequence == 0 || age >= u64::from(self.size) {
            return false;
        }
        let bit = u32::try_from(age).ok().and_then(|age| 1_u64.checked_shl(age)).unwrap_or(0);
        let fresh = self.seen & bit == 0;
        self.seen |= bit;
        fresh
    }
}
