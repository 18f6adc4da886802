//! What the operator wants: selectors, policies, remotes, authorisation, algorithm names, secrets.
//! Plain values with typed ids; a loaded `Config` cannot dangle. Depends on none of our crates.

pub mod access;
pub mod algorithm;
pub mod assigned;
pub mod certificate;
pub mod config;
pub mod gateways;
pub mod identity;
pub mod mobility;
pub mod model;
pub mod pad;
pub mod profile;
pub mod secret;
pub mod selector;
pub mod traffic;

pub use assigned::{Ask, Assigned, Block, BlockId};
pub use gateways::{Follow, Gateway, Gateways, SendOn};
pub use identity::Identity;
pub use mobility::{KeyMobility, MovementSource, Movements};
pub use model::{
    Action, Config, Installer, Ipsec, IpsecId, KernelInterface, Lifetime, ManualHalf, ManualSa, MobilityRole, Mode, Policy, PolicyId,
    Protocol, Remote, RemoteId, Reqid,
};
pub use pad::{Pad, PadEntry};
pub use secret::{Secret, SecretId};
pub use selector::{Direction, PortMask, Selector};
pub use traffic::{AddressRange, KernelSelectors, Ports, Traffic, TrafficItem};
