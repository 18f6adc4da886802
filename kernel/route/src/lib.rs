//! Local addresses, links and default routes, sans-IO, as Linux (rtnetlink) and FreeBSD or KAME (PF_ROUTE) tell them.
//! Invariant: what has been told of addresses and links adds up to what the kernel holds; nothing is told that did not change.

#[cfg(target_os = "linux")]
mod rtnetlink;
pub mod rtsock;

#[cfg(target_os = "linux")]
pub use rtnetlink::{GROUPS, RouteMonitor};
