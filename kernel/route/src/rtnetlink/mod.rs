//! rtnetlink of Linux: address, link and route messages, and a monitor that keeps dumps and changes together.

mod message;
mod monitor;

pub use monitor::RouteMonitor;

/// RTNLGRP_LINK.
const GROUP_LINK: u32 = 1;
/// RTNLGRP_IPV4_IFADDR.
const GROUP_IPV4_ADDRESS: u32 = 5;
/// RTNLGRP_IPV4_ROUTE.
const GROUP_IPV4_ROUTE: u32 = 7;
/// RTNLGRP_IPV6_IFADDR.
const GROUP_IPV6_ADDRESS: u32 = 9;
/// RTNLGRP_IPV6_ROUTE.
const GROUP_IPV6_ROUTE: u32 = 11;
/// The groups that the socket of `Channel::Route` joins.
pub const GROUPS: [u32; 5] = [GROUP_LINK, GROUP_IPV4_ADDRESS, GROUP_IPV4_ROUTE, GROUP_IPV6_ADDRESS, GROUP_IPV6_ROUTE];
