//! Mobile IPv6 for a key-management agent: what a MIGRATE means (pure decisions) and the Mobility Header codec.
//! No I/O, no state: what is known comes in as arguments, what is to be done comes out as a value.

pub mod checksum;
pub mod key_mobility;
pub mod message;
pub mod migration;
pub mod option;

pub use checksum::{checksum, is_valid, set_checksum};
pub use key_mobility::{Connections, Decision, Evidence, Known, Registration, Role, decide};
pub use message::{AckFlags, Malformed, Message, UpdateFlags, message_type};
pub use migration::{
    Associations, Belief, ChildView, Discard, Idle, MigrationPlan, MovedChild, Outcome, PolicyQuery, RemoteMove, Retarget, plan_migration,
};
pub use option::{MobilityOption, alternate_care_of};
