//! Security policies as a kernel holds them.

use watari_policies::{Direction, Mode, Protocol, Reqid, Selector};

use crate::Endpoints;

/// The kernel's own number of a policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyIndex(pub u32);

/// Linux keeps two policy sets; IPsec lives in main, Mobile IPv6 routing states in sub, and both apply to one packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyKind {
    /// The ordinary set.
    #[default]
    Main,
    /// The set of Mobile IPv6 daemons, looked up first.
    Sub,
}

/// What happens to matching packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyAction {
    /// Pass, transformed by the templates if there are any.
    Allow,
    /// Drop.
    Block,
}

/// One transformation that a policy demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Template {
    /// IPsec protocol, or `None` for Mobile IPv6 states (destination options, routing header).
    pub protocol: Option<Protocol>,
    /// The raw IP protocol number: 50, 51, 60 or 43.
    pub ip_protocol: u8,
    /// Mode; transport also stands for route optimisation of Mobile IPv6 states.
    pub mode: Mode,
    /// Reqid that SAs must carry, 0 for any.
    pub reqid: Reqid,
    /// Outer addresses; unspecified in transport mode.
    pub endpoints: Endpoints,
    /// Whether packets may pass without it.
    pub optional: bool,
}

impl Template {
    /// A required ESP template.
    pub const fn esp(mode: Mode, reqid: Reqid, endpoints: Endpoints) -> Self {
        Self { protocol: Some(Protocol::Esp), ip_protocol: 50, mode, reqid, endpoints, optional: false }
    }
}

/// One policy of the kernel's SPD. Per-socket policies are never reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyEntry {
    /// The packets it applies to.
    pub selector: Selector,
    /// Direction.
    pub direction: Direction,
    /// Policy set.
    pub kind: PolicyKind,
    /// The kernel's number for it; 0 when we ask for a new one.
    pub index: PolicyIndex,
    /// Priority, the lowest number wins.
    pub priority: u32,
    /// Action.
    pub action: PolicyAction,
    /// Transformations in order, innermost first. At most 6.
    pub templates: Vec<Template>,
}
