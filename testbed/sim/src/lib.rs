//! The simulator: hosts, links and virtual time; every host is the real engine over the in-memory kernel. No I/O, no clock.
//! Invariant: the same scenario and seed give the same result, packet for packet.

pub mod signalling;
