//! The K bit: whether IKE SAs follow a movement or are given up (RFC 6275 10.3.1, 11.7.3).
//! Invariant: nothing is given up without protected evidence.

/// What is known of the K bit between mobile node and home agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyMobility {
    /// Nobody reads it: MIGRATE is taken for K = 1.
    #[default]
    Assumed,
}

/// What to do with the IKE SAs of a peer that moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Movement {
    /// They follow to the new addresses.
    Follow,
}

//= rfc6275#11.7.3
//# with K = 1 the mobile node moves its end of the IKE connection to the new care-of address
/// What the K bit means for the IKE SAs of a peer that moved.
#[must_use]
pub const fn decide(known: KeyMobility) -> Movement {
    match known {
        KeyMobility::Assumed => Movement::Follow,
    }
}
