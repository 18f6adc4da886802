//! The K bit: whether IKE SAs follow a movement or are given up (RFC 6275 10.3.1, 10.3.2, 11.7.3; RFC 4877 7.4).
//! Pure. Invariants: what is not known moves and never tears down; nothing is given up before the movement is a fact.

use watari_policies::KeyMobility;

/// Which end of the binding this host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// It moves.
    MobileNode,
    /// The peer moves.
    HomeAgent,
}

/// First status of a binding acknowledgement that refuses (RFC 6275 6.1.8).
pub const REFUSED: u8 = 128;

/// What is known of the K bit for one care-of address. Only what came under ESP, or from a privileged local client, gets here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Evidence {
    /// Nothing.
    #[default]
    None,
    /// A protected binding update, seen by the home agent.
    Update {
        /// Its K bit.
        k: bool,
    },
    /// A protected binding acknowledgement, seen by the mobile node.
    Acknowledgement {
        /// Its status.
        status: u8,
        /// Its K bit.
        k: bool,
    },
    /// The Mobile IPv6 daemon told the outcome through the control socket.
    Told {
        /// Status of the binding acknowledgement.
        status: u8,
        /// K bit of the binding acknowledgement.
        k: bool,
    },
}

/// What a binding update did to the binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// There was no binding before.
    First,
    /// There was one, for this or another care-of address.
    Again,
    /// The binding ended: the home address takes the care-of address's place.
    Ended,
}

/// Everything the decision depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Which end this host is.
    pub role: Role,
    /// What the operator said.
    pub setting: KeyMobility,
    /// Home agent: whether the Mobile IPv6 daemon here answers K with K.
    pub echoes_k: bool,
    /// What was seen or told.
    pub evidence: Evidence,
    /// What happened to the binding.
    pub registration: Registration,
    /// Whether the movement is a fact: MIGRATE came, which on the home agent shows that the binding update was accepted.
    pub moved: bool,
}

/// Which IKE SAs are given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// Home agent: those with the home address.
    WithHomeAddress,
    /// Home agent: those with the care-of address that was left; one that was made at the new address stays.
    WithOldCareOf,
    /// Mobile node: those with the home agent that were made before it came to the new address.
    WithHomeAgent,
}

/// What to do with the IKE SAs of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// They follow to the new addresses.
    Follow,
    /// They are forgotten, without a word to the peer; new ones are made.
    Discard(Connections),
    /// Nothing yet: the movement is not a fact.
    Wait,
}

/// The final value of the K bit, if it is known.
#[must_use]
pub const fn k_bit(known: &Known) -> Option<bool> {
    match (known.setting, known.evidence) {
        // A daemon that tells knows better than any assumption.
        (KeyMobility::Assume | KeyMobility::Observe, Evidence::Told { status, k }) if status < REFUSED => Some(k),
        (KeyMobility::Assume, _) => Some(true),
        (KeyMobility::Never, _) => Some(false),
        (KeyMobility::Observe, evidence) => match (known.role, evidence) {
            //= rfc6275#10.3.1
            //# K in the acknowledgement: set in the update, and the home agent can move its end
            (Role::HomeAgent, Evidence::Update { k }) => Some(k && known.echoes_k),
            //= rfc6275#11.7.3
            //# a refusal says nothing about K: the binding stays as it was
            (Role::MobileNode, Evidence::Acknowledgement { status, k }) if status < REFUSED => Some(k),
            _ => None,
        },
    }
}

//= rfc4877#7.4
//# an end that cannot move its IKE SA makes a new one
/// What becomes of the IKE SAs.
#[must_use]
pub const fn decide(known: &Known) -> Decision {
    if !known.moved {
        return Decision::Wait;
    }
    match (k_bit(known), known.role, known.registration) {
        //= rfc6275#10.3.1
        //# K = 1: the peer's end moves to the new care-of address
        //= rfc6275#11.7.3
        //# K = 1: the mobile node moves its own end to the new care-of address
        (Some(true) | None, ..) => Decision::Follow,
        //= rfc6275#11.7.3
        //# K = 0: the mobile node discards its key management connections with the home agent
        (Some(false), Role::MobileNode, _) => Decision::Discard(Connections::WithHomeAgent),
        //= rfc6275#10.3.1
        //# K = 0 without a binding before: connections with the home address go, not those with the care-of address
        (Some(false), Role::HomeAgent, Registration::First) => Decision::Discard(Connections::WithHomeAddress),
        //= rfc6275#10.3.1
        //# K = 0: connections with the old care-of address go
        //= rfc6275#10.3.2
        //# at the end of a binding the home address is the new care-of address
        (Some(false), Role::HomeAgent, Registration::Again | Registration::Ended) => Decision::Discard(Connections::WithOldCareOf),
    }
}

#[cfg(test)]
mod tests;
