//! The agent: routes inputs to the protocol modules, mobility decisions and the kernel, and collects their outputs.
//! The only place where the others meet. After every `handle`, call `poll` until `Wait`.

pub mod event;
pub mod io;
pub mod vici;

pub use event::{Event, Reply};
pub use io::{Command, CommandId, Input, Output};
