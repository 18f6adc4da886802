//! Which local address IKE is sent from when neither the configuration nor the Mobile IPv6 daemon names one.
//! RFC 6724 section 5 with two rules turned: never from a home address, and never from an address that will soon be gone.

use std::cmp::Reverse;
use std::net::IpAddr;

use crate::AddressEvent;

/// The source address for IKE messages to `remote`; `None` leaves the choice to the kernel. `home` is this mobile node's home address.
/// `link_up` tells by interface index whether a link can carry packets.
///
/// What cannot be used: another family; loopback, multicast and unspecified addresses; link-local ones unless `remote` is link-local too;
/// tentative and duplicate addresses; the home address and every address that carries the home flag. Of the rest, in this order: `remote`
/// itself; a link that is up; not deprecated; of the kind of `remote` (unique local or not); not temporary; the longest prefix in common
/// with `remote`; the lowest address.
pub fn source_address<'a>(
    remote: IpAddr,
    home: Option<IpAddr>,
    addresses: impl IntoIterator<Item = &'a AddressEvent>,
    link_up: impl Fn(u32) -> bool,
) -> Option<IpAddr> {
    let usable = addresses.into_iter().filter(|event| is_candidate(event, remote, home));
    usable
        .min_by_key(|event| {
            (
                // RFC 6724 section 5, rule 1.
                event.address != remote,
                !link_up(event.interface),
                // Rule 3.
                event.flags.deprecated,
                // Rule 6, of which the policy table is left what matters here.
                is_unique_local(event.address) != is_unique_local(remote),
                // Rule 7 turned round, as it allows: IKE names its sender anyway, and a temporary address goes away sooner.
                event.flags.temporary,
                // Rule 8.
                Reverse(common_prefix(event.address, remote).min(u32::from(event.prefix_len))),
                event.address,
                event.interface,
            )
        })
        .map(|event| event.address)
}

//= rfc4877#4.4
//# the mobile node uses its care-of address, never the home address, as source address of IKE while away
fn is_candidate(event: &AddressEvent, remote: IpAddr, home: Option<IpAddr>) -> bool {
    let (address, flags) = (event.address, event.flags);
    event.present
        && address.is_ipv4() == remote.is_ipv4()
        && !(address.is_unspecified() || address.is_multicast())
        && (!address.is_loopback() || remote.is_loopback())
        && (!is_link_local(address) || is_link_local(remote))
        && !(flags.home || flags.tentative || flags.dad_failed)
        && home != Some(address)
}

const fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

const fn is_unique_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unique_local())
}

fn common_prefix(a: IpAddr, b: IpAddr) -> u32 {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AddressFlags;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// `interface address/length [flag ...]`, one per line.
    fn table(text: &str) -> Vec<AddressEvent> {
        let row = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (address, length) = words[1].split_once('/').unwrap();
            let has = |flag: &str| words[2..].contains(&flag);
            let flags = AddressFlags {
                tentative: has("tentative"),
                dad_failed: has("dad-failed"),
                deprecated: has("deprecated"),
                temporary: has("temporary"),
                home: has("home"),
            };
            AddressEvent {
                interface: words[0].parse().unwrap(),
                address: ip(address),
                prefix_len: length.parse().unwrap(),
                present: true,
                flags,
            }
        };
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(row).collect()
    }

    fn choose(remote: &str, home: Option<&str>, text: &str) -> Option<String> {
        source_address(ip(remote), home.map(ip), &table(text), |link| link != 9).map(|address| address.to_string())
    }

    const AGENT: &str = "2001:db8:1::1";

    #[track_caller]
    fn assert_chosen(expected: &str, text: &str) {
        assert_eq!(choose(AGENT, Some("2001:db8:1::abcd"), text).as_deref(), Some(expected), "{text}");
        // The order in which addresses came is of no account.
        let reversed: Vec<&str> = text.lines().rev().collect();
        assert_eq!(choose(AGENT, Some("2001:db8:1::abcd"), &reversed.join("\n")).as_deref(), Some(expected), "{text}");
    }

    #[test]
    fn the_care_of_address_and_never_a_home_address() {
        // The home address stands on the tunnel device of MIPL with its flag, and shares more of its prefix with the home agent.
        assert_chosen("2001:db8:2::5", "4 2001:db8:1::abcd/128 home\n2 2001:db8:2::5/64");
        // SHISA marks every home address; and the one of the configuration counts though the kernel knows no flag.
        assert_chosen("2001:db8:2::5", "4 2001:db8:1::77/128 home\n2 2001:db8:1::abcd/64\n2 2001:db8:2::5/64");
        assert_eq!(choose(AGENT, Some("2001:db8:1::abcd"), "2 2001:db8:1::abcd/64\n1 ::1/128\n2 fe80::1/64"), None);
    }

    #[test]
    fn what_cannot_send_is_never_chosen() {
        for flag in ["tentative", "dad-failed"] {
            assert_eq!(choose(AGENT, None, &format!("2 2001:db8:2::5/64 {flag}")), None);
            assert_chosen("2001:db8:3::5", &format!("2 2001:db8:2::5/64 {flag}\n3 2001:db8:3::5/64 deprecated temporary"));
        }
        for text in ["1 ::1/128", "2 fe80::1/64", "2 192.0.2.1/24", "2 ::/0", "2 ff02::1/8"] {
            assert_eq!(choose(AGENT, None, text), None, "{text}");
        }
        assert_eq!(choose("fe80::2", None, "2 fe80::1/64").as_deref(), Some("fe80::1"));
        assert_eq!(choose("192.0.2.7", None, "2 169.254.0.1/16\n2 192.0.2.1/24\n2 198.51.100.1/24").as_deref(), Some("192.0.2.1"));
    }

    #[test]
    fn deprecated_and_temporary_addresses_come_after_others_and_before_none() {
        assert_chosen("2001:db8:2::5", "2 2001:db8:2::5/64\n2 2001:db8:2::1/64 deprecated\n2 2001:db8:2::2/64 temporary");
        assert_chosen("2001:db8:2::2", "2 2001:db8:2::1/64 deprecated\n2 2001:db8:2::2/64 temporary");
        assert_chosen("2001:db8:2::1", "2 2001:db8:2::1/64 deprecated\n2 2001:db8:2::2/64 deprecated temporary");
    }

    #[test]
    fn a_link_without_carrier_comes_last() {
        assert_chosen("2001:db8:3::5", "9 2001:db8:2::5/64\n3 2001:db8:3::5/64 deprecated");
        assert_chosen("2001:db8:2::5", "9 2001:db8:2::5/64");
    }

    #[test]
    fn kind_and_prefix_decide_between_equals() {
        assert_chosen("2001:db8:8::5", "2 fd00::5/64\n2 2001:db8:8::5/64");
        assert_eq!(choose("fd00::1", None, "2 fd00:1::5/64\n2 2001:db8:8::5/64").as_deref(), Some("fd00:1::5"));
        assert_chosen("2001:db8:1:2::5", "2 2001:db8:1:2::5/64\n2 2001:db8:9::5/64");
        // Beyond its own prefix an address has nothing in common with another (RFC 6724 section 2.2).
        assert_chosen("2001:db8:1::3", "2 2001:db8:1::3/32\n2 2001:db8:1::8/32");
    }
}
