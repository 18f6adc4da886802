//! Local addresses by rtnetlink, sans-IO: a dump at the start and after lost messages, multicast changes in between.
//! Invariant: after every dump the events told so far add up to what the kernel holds; nothing is told that did not change.

mod message;
mod monitor;

pub use monitor::RouteMonitor;

/// RTNLGRP_IPV4_IFADDR.
pub const GROUP_IPV4_ADDRESS: u32 = 5;
/// RTNLGRP_IPV6_IFADDR.
pub const GROUP_IPV6_ADDRESS: u32 = 9;
/// The groups that the socket of `Channel::Route` joins.
pub const GROUPS: [u32; 2] = [GROUP_IPV4_ADDRESS, GROUP_IPV6_ADDRESS];
