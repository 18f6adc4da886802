//! The simulator: hosts, links and virtual time; every host is the real engine over the in-memory kernel. No I/O, no clock.
//! Invariant: the same scenario and seed give the same result, packet for packet.

pub mod access;
pub mod bootstrap;
mod by_hand;
pub mod fleet;
pub mod home_agents;
pub mod kame;
pub mod report;
pub mod scenario;
pub mod scenarios;
pub mod signalling;
pub mod timeline;
pub mod world;

pub use report::{Handover, Report};
pub use scenario::Scenario;
pub use world::{IkeDatagram, Setting, World, forged_update};
