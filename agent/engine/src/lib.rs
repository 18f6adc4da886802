//! The agent: routes inputs to the protocol modules, mobility decisions and the kernel, and collects their outputs.
//! The only place where the others meet. After every `handle`, call `poll` until `Wait`.

mod agent;
mod core;
pub mod event;
pub mod io;
mod lookup;
mod placeholder;
mod route;
mod spd;
mod start;
pub mod status;
mod timers;
pub mod vici;
mod whereabouts;

pub use agent::{Agent, AgentOptions};
pub use event::{Event, Reply};
pub use io::{Command, CommandId, Input, Output};
