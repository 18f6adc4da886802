//! Per-socket IPsec policies of the KAME stack (IP_IPSEC_POLICY, IPV6_IPSEC_POLICY): a struct sadb_x_policy without requests.
//! BYPASS lets IKE pass where the SPD says protect or discard.

/// SADB_X_EXT_POLICY of net/pfkeyv2.h.
const SADB_X_EXT_POLICY: u16 = 18;
/// IPSEC_POLICY_BYPASS of netipsec/ipsec.h: only the privileged may set it.
const IPSEC_POLICY_BYPASS: u16 = 4;

/// IPSEC_DIR_INBOUND and IPSEC_DIR_OUTBOUND.
pub(crate) const DIRECTIONS: [u8; 2] = [1, 2];

/// struct sadb_x_policy: length in units of eight octets, extension type, policy type, direction, scope, id, priority.
pub(crate) fn bypass_policy(direction: u8) -> [u8; 16] {
    let mut octets = [0; 16];
    octets[..2].copy_from_slice(&2_u16.to_ne_bytes());
    octets[2..4].copy_from_slice(&SADB_X_EXT_POLICY.to_ne_bytes());
    octets[4..6].copy_from_slice(&IPSEC_POLICY_BYPASS.to_ne_bytes());
    octets[6] = direction;
    octets
}

/// Lets everything this socket sends and receives pass without IPsec. Needs PRIV_NETINET_IPSEC.
#[cfg(target_os = "freebsd")]
pub(crate) fn bypass(socket: &impl std::os::fd::AsFd, ipv6: bool) -> std::io::Result<()> {
    /// netinet/in.h and netinet6/in6.h.
    const IP_IPSEC_POLICY: i32 = 21;
    const IPV6_IPSEC_POLICY: i32 = 28;

    let (level, name) = if ipv6 { (libc::IPPROTO_IPV6, IPV6_IPSEC_POLICY) } else { (libc::IPPROTO_IP, IP_IPSEC_POLICY) };
    for direction in DIRECTIONS {
        crate::option::set(socket, level, name, &bypass_policy(direction))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn fields_stand_at_the_offsets_of_the_kernel_header() {
        // length 2 (16 octets), SADB_X_EXT_POLICY 18, IPSEC_POLICY_BYPASS 4, IPSEC_DIR_OUTBOUND 2, scope, id 0, priority 0
        assert_eq!(bypass_policy(DIRECTIONS[1]), [2, 0, 18, 0, 4, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
}
