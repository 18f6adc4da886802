//! The agent: routes inputs to the protocol modules, mobility decisions and the kernel, and collects their outputs.
//! The only place where the others meet. After every `handle`, call `poll` until `Wait`.

mod adopt;
mod agent;
mod assign;
mod care_of;
mod control;
mod copies;
mod core;
mod dormant;
mod doubts;
pub mod event;
mod following;
mod home_agents;
mod install;
pub mod io;
mod kernel_events;
mod key_mobility;
mod liveness;
mod lookup;
mod manual;
mod movement;
mod notes;
mod reconcile;
mod reload;
mod route;
mod rows;
mod spd;
mod start;
pub mod status;
mod timers;
mod usage;
mod verification;
pub mod vici;
mod whereabouts;

pub use agent::{Agent, AgentOptions};
pub use control::DOWN_ALREADY;
pub use event::{Event, Reply};
pub use io::{Command, CommandId, Input, Output};
pub use key_mobility::{Heard, Listen, MobilityInput};
pub use watari_mip6::Role;

#[cfg(test)]
mod tests;
