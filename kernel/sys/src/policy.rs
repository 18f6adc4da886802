//! Per-socket IPsec policies as octets: struct xfrm_userpolicy_info (168) and struct xfrm_user_tmpl (64).
//! A template-less "allow" lets IKE pass where the SPD says protect or block; a policy with templates demands protection and fails closed.

use std::io;
use std::os::fd::AsFd;

use crate::option;

/// IP_XFRM_POLICY of the uapi header linux/in.h.
const IP_XFRM_POLICY: i32 = 17;
/// IPV6_XFRM_POLICY of the uapi header linux/in6.h.
const IPV6_XFRM_POLICY: i32 = 35;

const DIRECTION_IN: u8 = 0;
const DIRECTION_OUT: u8 = 1;
const ACTION_ALLOW: u8 = 0;
const MODE_TRANSPORT: u8 = 0;
const MODE_ROUTE_OPTIMISATION: u8 = 2;

/// Which Mobile IPv6 state may stand beside the ESP SA on a protected Mobility Header socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtectedMobility {
    /// Home agent: binding updates may carry a home address destination option (protocol 60).
    HomeAddressOption,
    /// Mobile node: binding acknowledgements may carry a type 2 routing header (protocol 43).
    RoutingHeader,
}

/// Octets of an `xfrm_userpolicy_info` that matches every packet of the socket and never expires.
fn policy_info(family: u16, direction: u8) -> Vec<u8> {
    let mut info = vec![0; 40]; // selector: addresses and ports
    info.extend_from_slice(&family.to_ne_bytes());
    info.extend_from_slice(&[0; 14]); // prefix lengths, protocol, interface, user: any
    info.extend_from_slice(&[0xff; 32]); // byte and packet limits: none
    info.extend_from_slice(&[0; 32]); // add and use lifetimes: none
    info.extend_from_slice(&[0; 32]); // current lifetime
    info.extend_from_slice(&[0; 8]); // priority, index
    info.extend_from_slice(&[direction, ACTION_ALLOW, 0, 0]);
    info.extend_from_slice(&[0; 4]); // padding of the struct to a multiple of eight
    info
}

/// Octets of an `xfrm_user_tmpl` for IPv6 with any algorithm.
fn template(protocol: u8, reqid: u32, mode: u8, optional: bool) -> Vec<u8> {
    let family = libc::AF_INET6 as u16;
    let mut tmpl = vec![0; 20]; // destination and SPI: any
    tmpl.extend_from_slice(&[protocol, 0, 0, 0]);
    tmpl.extend_from_slice(&family.to_ne_bytes());
    tmpl.extend_from_slice(&[0; 2 + 16]); // padding, source: any
    tmpl.extend_from_slice(&reqid.to_ne_bytes());
    tmpl.extend_from_slice(&[mode, 0, u8::from(optional), 0]);
    tmpl.extend_from_slice(&[0xff; 12]); // every algorithm
    tmpl
}

/// Lets everything this socket sends and receives pass without IPsec. Needs CAP_NET_ADMIN.
pub(crate) fn bypass(socket: &impl AsFd, ipv6: bool) -> io::Result<()> {
    let (level, name, family) =
        if ipv6 { (libc::IPPROTO_IPV6, IPV6_XFRM_POLICY, libc::AF_INET6) } else { (libc::IPPROTO_IP, IP_XFRM_POLICY, libc::AF_INET) };
    for direction in [DIRECTION_IN, DIRECTION_OUT] {
        option::set(socket, level, name, &policy_info(family as u16, direction))?;
    }
    Ok(())
}

/// Lets an IPv6 socket receive only what came in ESP transport mode through an SA of `reqid` (0: any). Needs CAP_NET_ADMIN.
pub(crate) fn require_esp(socket: &impl AsFd, reqid: u32, beside: ProtectedMobility) -> io::Result<()> {
    let companion = match beside {
        ProtectedMobility::HomeAddressOption => 60,
        ProtectedMobility::RoutingHeader => 43,
    };
    let mut bytes = policy_info(libc::AF_INET6 as u16, DIRECTION_IN);
    bytes.extend(template(50, reqid, MODE_TRANSPORT, false));
    bytes.extend(template(companion, 0, MODE_ROUTE_OPTIMISATION, true));
    option::set(socket, libc::IPPROTO_IPV6, IPV6_XFRM_POLICY, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_kernel_header() {
        assert_eq!(policy_info(10, DIRECTION_OUT).len(), 168);
        assert_eq!(template(50, 7, MODE_TRANSPORT, false).len(), 64);
    }

    #[test]
    fn fields_stand_at_the_offsets_of_the_kernel_header() {
        let info = policy_info(10, DIRECTION_OUT);
        assert_eq!(info[40..42], 10u16.to_ne_bytes());
        assert_eq!(info[56..64], [0xff; 8]);
        assert_eq!(info[160], DIRECTION_OUT);
        let tmpl = template(60, 0x0102_0304, MODE_ROUTE_OPTIMISATION, true);
        assert_eq!(tmpl[20], 60);
        assert_eq!(tmpl[24..26], 10u16.to_ne_bytes());
        assert_eq!(tmpl[44..48], 0x0102_0304u32.to_ne_bytes());
        assert_eq!(tmpl[48..51], [MODE_ROUTE_OPTIMISATION, 0, 1]);
        assert_eq!(tmpl[52..64], [0xff; 12]);
    }
}
