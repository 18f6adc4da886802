//! The routing socket of FreeBSD and KAME (PF_ROUTE): pure decoding, and a monitor that adds what messages leave out.

mod message;
mod monitor;

pub use message::{Content, Dialect, Layout, first};
pub use monitor::{Query, RtsockMonitor, RtsockOutput};
