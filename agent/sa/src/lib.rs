//! What the key-management protocols share: paths, child SAs and their table, work for the key keeper, the `Keying` contract,
//! negotiation and cause codes. No I/O; time and randomness are arguments.

pub mod assign;
pub mod cause;
pub mod child;
pub mod install;
pub mod keying;
pub mod lifetimes;
pub mod negotiate;
pub mod path;
pub mod rng;
pub mod table;
pub mod work;

pub use assign::{Assign, Assignment, Denial, Wish};
pub use cause::Cause;
pub use child::{ChildId, ChildSa, ChildState, IkeId, Owner, SaHalf};
pub use install::{Agreed, sa_selector};
pub use keying::{
    Action, Context, Deadline, Ids, IkeState, IkeStatus, Keying, KeyingEvent, KeyingInput, NatSeen, Target, Trigger, Want, Whereabouts,
};
pub use negotiate::{Mismatch, Offered};
pub use path::{Datagram, Path, Transmit, TransmitId, Undeliverable};
pub use rng::Rng;
pub use table::SaTable;
pub use work::{PeerClaim, SecretStore, Work, WorkDone, WorkId};
