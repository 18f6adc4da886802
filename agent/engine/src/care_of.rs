//! Which addresses no peer can move to, whoever says so.
//! Invariant: IKE is never led to a group, to this host itself, or to an address that means something else on every link.

use std::net::IpAddr;

use watari_mip6::Role;
use watari_policies::RemoteId;
use watari_policies::mobility::no_mobile_address;
use watari_sa::Whereabouts as _;

use crate::core::Core;

/// Why no host can be at an address.
fn unusable(address: IpAddr) -> Option<&'static str> {
    let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    no_mobile_address(address).or(mapped.then_some("an address that stands for one of IPv4 is never seen on a link"))
}

impl Core {
    /// Why a peer cannot be bound at this care-of address; at home it is the home address.
    //= rfc6275#9.5.1
    //# a care-of address is a unicast routable address
    pub(crate) fn no_care_of_address(&self, remote: RemoteId, role: Role, care_of: IpAddr) -> Option<&'static str> {
        let record = self.config.remote(remote);
        let known = self.places.ike_addresses(remote);
        let home_agents = match role {
            Role::HomeAgent => [record.and_then(|record| record.local_address), known.map(|known| known.local)],
            Role::MobileNode => [record.and_then(|record| record.remote_address), known.map(|known| known.remote)],
        };
        if home_agents.contains(&Some(care_of)) { Some("it is the address of the home agent") } else { unusable(care_of) }
    }
}
