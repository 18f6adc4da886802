//! Where this host and its peers are now: what the Mobile IPv6 daemon told, local addresses, tunnel templates, configuration.
//! Invariant: the last word about a policy or a remote wins; the home address is never chosen for IKE while away unless the daemon says so.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use watari_kernel::source::source_address;
use watari_kernel::{AddressEvent, Endpoints, KmAddress, LinkEvent};
use watari_policies::model::Endpoints as Source;
use watari_policies::{Config, MobilityRole, PolicyId, Remote, RemoteId};
use watari_sa::Whereabouts;

use crate::reload::Changed;

#[derive(Clone, Debug)]
struct RemotePlace {
    local: Option<IpAddr>,
    remote: Option<IpAddr>,
    role: MobilityRole,
    remembered: Option<KmAddress>,
    /// The care-of address that a packet which asked for an SA left from; forgotten when addresses change.
    left_from: Option<IpAddr>,
}

#[derive(Clone, Debug)]
struct PolicyPlace {
    source: Source,
    remote: RemoteId,
    hosts: Option<Endpoints>,
    template: Option<Endpoints>,
    remembered: Option<KmAddress>,
}

/// Addresses as known now.
#[derive(Debug, Default)]
pub(crate) struct Places {
    remotes: Vec<RemotePlace>,
    policies: Vec<PolicyPlace>,
    addresses: BTreeMap<(IpAddr, u32), AddressEvent>,
    /// Links by interface index, up or not.
    links: BTreeMap<u32, bool>,
}

impl Places {
    /// What the configuration says; addresses and memories of `before` are kept for records that kept their ids.
    pub(crate) fn new(config: &Config, before: Self, changed: &Changed) -> Self {
        // A remote whose record changed gets a new id, but the node behind it has not moved.
        let homes = before.remotes.iter().filter_map(|place| Some((place.role.lasting_address()?, place.remembered?)));
        let homes: BTreeMap<IpAddr, KmAddress> = homes.collect();
        let remotes = (0u32..).zip(&config.remotes).map(|(id, remote)| RemotePlace {
            local: remote.local_address,
            remote: remote.remote_address,
            role: remote.role,
            left_from: None,
            remembered: match before.remotes.get(id as usize).filter(|_| !changed.remotes.contains(&id)) {
                Some(place) => place.remembered,
                None => remote.role.lasting_address().and_then(|home| homes.get(&home)).map(|known| of_record(remote, *known)),
            },
        });
        let known = |id: u32| before.policies.get(id as usize).filter(|_| !changed.policies.contains(&id));
        let policies = (0u32..).zip(&config.policies).map(|(id, policy)| PolicyPlace {
            source: policy.endpoints,
            remote: policy.remote,
            hosts: hosts(policy),
            template: known(id).and_then(|place| place.template),
            remembered: known(id).and_then(|place| place.remembered),
        });
        Self { remotes: remotes.collect(), policies: policies.collect(), addresses: before.addresses, links: before.links }
    }

    /// The home address of a remote is another one: what its policies say is read again, what was known of their tunnels is void.
    pub(crate) fn rehome(&mut self, config: &Config, remote: RemoteId, policies: &[PolicyId]) {
        if let (Some(place), Some(record)) = (self.remotes.get_mut(remote.0 as usize), config.remote(remote)) {
            place.role = record.role;
        }
        for id in policies {
            if let (Some(place), Some(policy)) = (self.policies.get_mut(id.0 as usize), config.policy(*id)) {
                (place.hosts, place.template, place.remembered) = (hosts(policy), None, None);
            }
        }
    }

    /// Another address of a remote is in force: what named the old one names the new one.
    pub(crate) fn readdress(&mut self, config: &Config, remote: RemoteId, (old, new): (IpAddr, IpAddr), policies: &[PolicyId]) {
        let follow = |address: &mut IpAddr| {
            if *address == old {
                *address = new;
            }
        };
        if let Some(place) = self.remotes.get_mut(remote.0 as usize) {
            place.remote = Some(new);
            place.remembered.iter_mut().for_each(|known| follow(&mut known.remote));
        }
        for id in policies {
            if let (Some(place), Some(policy)) = (self.policies.get_mut(id.0 as usize), config.policy(*id)) {
                (place.source, place.hosts) = (policy.endpoints, hosts(policy));
                place.template.iter_mut().for_each(|tunnel| follow(&mut tunnel.dst));
                place.remembered.iter_mut().for_each(|known| follow(&mut known.remote));
            }
        }
    }

    /// Keeps the addresses for key management that a MIGRATE named; whether that is news for this policy.
    pub(crate) fn remember(&mut self, policy: PolicyId, addresses: KmAddress) -> bool {
        let Some(place) = self.policies.get_mut(policy.0 as usize) else { return false };
        let news = place.remembered != Some(addresses);
        place.remembered = Some(addresses);
        if let Some(remote) = self.remotes.get_mut(place.remote.0 as usize) {
            remote.remembered = Some(addresses);
        }
        news
    }

    /// Keeps addresses for key management of a whole remote, found by other means than MIGRATE.
    pub(crate) fn remember_remote(&mut self, remote: RemoteId, addresses: KmAddress) {
        if let Some(place) = self.remotes.get_mut(remote.0 as usize) {
            place.remembered = Some(addresses);
        }
    }

    /// Forgets the addresses for key management of a remote; what its IKE SAs and the configuration say stays.
    pub(crate) fn forget_remote(&mut self, remote: RemoteId) {
        if let Some(place) = self.remotes.get_mut(remote.0 as usize) {
            place.remembered = None;
        }
    }

    /// Forgets the addresses for key management of a policy, and its tunnel end points if `tunnel` says so.
    pub(crate) fn forget_policy(&mut self, policy: PolicyId, tunnel: bool) {
        if let Some(place) = self.policies.get_mut(policy.0 as usize) {
            place.remembered = None;
            place.template = place.template.filter(|_| !tunnel);
        }
    }

    /// What was remembered for a remote.
    pub(crate) fn remembered(&self, remote: RemoteId) -> Option<KmAddress> {
        self.remotes.get(remote.0 as usize)?.remembered
    }

    /// What was remembered for a policy.
    pub(crate) fn remembered_for(&self, policy: PolicyId) -> Option<KmAddress> {
        self.policies.get(policy.0 as usize)?.remembered
    }

    /// The outbound tunnel end points of a policy, from the kernel's template or a MIGRATE.
    pub(crate) fn template(&self, policy: PolicyId) -> Option<Endpoints> {
        self.policies.get(policy.0 as usize)?.template
    }

    /// The outbound tunnel end points of a policy whose SAs stand where its template says.
    pub(crate) fn template_of_sas(&self, policy: PolicyId) -> Option<Endpoints> {
        let place = self.policies.get(policy.0 as usize)?;
        if place.source == Source::Template { place.template } else { None }
    }

    /// The hosts at both ends of a policy's traffic, this host's first, if each is a single address.
    pub(crate) fn hosts(&self, policy: PolicyId) -> Option<Endpoints> {
        self.policies.get(policy.0 as usize)?.hosts
    }

    /// Keeps the outbound tunnel end points of a policy.
    pub(crate) fn set_template(&mut self, policy: PolicyId, outbound: Endpoints) {
        if let Some(place) = self.policies.get_mut(policy.0 as usize)
            && !outbound.src.is_unspecified()
            && !outbound.dst.is_unspecified()
        {
            place.template = Some(outbound);
        }
    }

    /// Takes an address event; `Some(usable)` if the standing of the address changed.
    pub(crate) fn address(&mut self, event: &AddressEvent) -> Option<bool> {
        let before = self.usable(event.address);
        let key = (event.address, event.interface);
        if event.present {
            self.addresses.insert(key, *event);
        } else {
            self.addresses.remove(&key);
        }
        let after = self.usable(event.address);
        if before != after {
            self.remotes.iter_mut().for_each(|remote| remote.left_from = None);
        }
        (before != after).then_some(after)
    }

    /// Takes a link event: it decides between addresses that could be chosen, and nothing else.
    pub(crate) fn link(&mut self, event: &LinkEvent) {
        if event.present {
            self.links.insert(event.interface, event.up);
        } else {
            self.links.remove(&event.interface);
        }
    }

    /// Whether packets can be sent from a local address.
    pub(crate) fn usable(&self, address: IpAddr) -> bool {
        self.addresses.range((address, 0)..=(address, u32::MAX)).any(|(_, event)| !event.flags.tentative && !event.flags.dad_failed)
    }

    /// Whether a local address is there, usable or not.
    pub(crate) fn exists(&self, address: IpAddr) -> bool {
        self.addresses.range((address, 0)..=(address, u32::MAX)).next().is_some()
    }

    /// Local addresses as last reported.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = &AddressEvent> {
        self.addresses.values()
    }

    /// Where a remote is called whose configuration says it, from wherever this host is.
    pub(crate) fn called_at(&self, remote: RemoteId) -> Option<KmAddress> {
        let peer = self.remotes.get(remote.0 as usize)?.remote?;
        Some(KmAddress { local: unspecified_like(peer), remote: peer })
    }

    /// Addresses for IKE of a mobile node as they are chosen when nobody has told any.
    pub(crate) fn chosen(&self, remote: RemoteId) -> Option<KmAddress> {
        let place = self.remotes.get(remote.0 as usize)?;
        let (Some(home_address), Some(peer)) = (moving(place.role), place.remote) else { return None };
        let told = place.local.filter(|local| *local != home_address);
        Some(KmAddress { local: told.or_else(|| self.care_of(place, home_address, peer))?, remote: peer })
    }

    /// A packet from `home` asked for an SA and left from `care_of`: where this is a usable address of ours, IKE with the remote leaves from
    /// it too when nobody tells better.
    pub(crate) fn left_from(&mut self, remote: RemoteId, home: IpAddr, care_of: IpAddr) {
        let usable = self.usable(care_of);
        if let Some(place) = self.remotes.get_mut(remote.0 as usize)
            && place.role.home_address() == Some(home)
            && usable
        {
            place.left_from = Some(care_of);
        }
    }

    /// The address that IKE is sent to `peer` from, of a mobile node with this home address: the one of the packet that asked, else the best
    /// there is. A link that nothing is known of is up.
    fn care_of(&self, place: &RemotePlace, home: IpAddr, peer: IpAddr) -> Option<IpAddr> {
        if place.left_from.is_some() {
            return place.left_from;
        }
        source_address(peer, Some(home), self.addresses(), |link| self.links.get(&link).copied().unwrap_or(true))
    }
}

/// The lasting address of this host, if it is the end that moves: never a source of IKE while away.
const fn moving(role: MobilityRole) -> Option<IpAddr> {
    match role {
        MobilityRole::MobileNode { home_address: address } | MobilityRole::RoadWarrior { inner_address: address } => Some(address),
        _ => None,
    }
}

/// What was learnt of the end that moves, with the other end as the record says it.
fn of_record(remote: &Remote, known: KmAddress) -> KmAddress {
    match moving(remote.role) {
        Some(_) => KmAddress { remote: remote.remote_address.unwrap_or(known.remote), ..known },
        None => KmAddress { local: remote.local_address.unwrap_or(known.local), ..known },
    }
}

/// The hosts at both ends of the first traffic item, if each is a single address.
fn hosts(policy: &watari_policies::Policy) -> Option<Endpoints> {
    let (local, remote) = (policy.traffic.local.first()?.range, policy.traffic.remote.first()?.range);
    (local.start == local.end && remote.start == remote.end).then_some(Endpoints { src: local.start, dst: remote.start })
}

const fn unspecified_like(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

impl Whereabouts for Places {
    fn ike_addresses(&self, remote: RemoteId) -> Option<KmAddress> {
        let place = self.remotes.get(remote.0 as usize)?;
        if let Some(addresses) = place.remembered {
            return Some(addresses);
        }
        self.addresses_to(place, place.remote?)
    }

    fn ike_addresses_to(&self, remote: RemoteId, peer: IpAddr) -> Option<KmAddress> {
        let place = self.remotes.get(remote.0 as usize)?;
        match place.remembered {
            Some(known) => Some(KmAddress { local: known.local, remote: peer }),
            None => self.addresses_to(place, peer),
        }
    }

    fn sa_endpoints(&self, policy: PolicyId, ike: KmAddress) -> Endpoints {
        let ike = Endpoints { src: ike.local, dst: ike.remote };
        let Some(place) = self.policies.get(policy.0 as usize) else { return ike };
        match place.source {
            Source::Selector => place.hosts.unwrap_or(ike),
            Source::Ike => ike,
            Source::Fixed { local, remote } => Endpoints { src: local, dst: remote },
            Source::Template => place.template.unwrap_or(ike),
        }
    }
}

impl Places {
    /// Addresses for IKE towards a peer of which nothing is remembered.
    fn addresses_to(&self, place: &RemotePlace, peer: IpAddr) -> Option<KmAddress> {
        let local = match (place.local, moving(place.role)) {
            (Some(local), Some(home_address)) if local == home_address => self.care_of(place, home_address, peer),
            (Some(local), _) => Some(local),
            (None, Some(home_address)) => self.care_of(place, home_address, peer),
            (None, None) => None,
        };
        // What the kernel would choose for a road warrior may be the address inside the tunnel.
        if local.is_none() && matches!(place.role, MobilityRole::RoadWarrior { .. }) {
            return None;
        }
        Some(KmAddress { local: local.unwrap_or(unspecified_like(peer)), remote: peer })
    }
}

#[cfg(test)]
mod tests {
    use watari_kernel::AddressFlags;
    use watari_policies::profile::{MobileNodeProfile, mobile_node};

    use super::*;
    use crate::tests::{HA, HOA, ip};

    fn places() -> Places {
        let mut places = Places::new(&mobile_node(MobileNodeProfile::default()), Places::default(), &Changed::default());
        for (interface, address, prefix_len, home) in
            [(2, "2001:db8:2::5", 64, false), (3, "2001:db8:3::5", 64, false), (4, HOA, 128, true)]
        {
            let flags = AddressFlags { home, ..AddressFlags::default() };
            places.address(&AddressEvent { interface, address: ip(address), prefix_len, present: true, flags });
        }
        places
    }

    fn source(places: &Places) -> IpAddr {
        let addresses = places.ike_addresses(RemoteId(0)).unwrap();
        assert_eq!(addresses.remote, ip(HA));
        addresses.local
    }

    #[test]
    fn a_mobile_node_sends_from_a_care_of_address_on_a_link_that_is_up() {
        let mut places = places();
        assert_eq!(source(&places), ip("2001:db8:2::5"));
        places.link(&LinkEvent { interface: 2, present: true, up: false });
        assert_eq!(source(&places), ip("2001:db8:3::5"));
        places.link(&LinkEvent { interface: 3, present: true, up: false });
        assert_eq!(source(&places), ip("2001:db8:2::5"), "better a link that is down than a home address");
        places.link(&LinkEvent { interface: 3, present: false, up: false });
        assert_eq!(source(&places), ip("2001:db8:3::5"));
    }

    #[test]
    fn the_word_of_the_mobile_ipv6_daemon_goes_before_the_choice() {
        let mut places = places();
        let told = KmAddress { local: ip("2001:db8:3::5"), remote: ip(HA) };
        places.remember_remote(RemoteId(0), told);
        assert_eq!(places.ike_addresses(RemoteId(0)), Some(told));
    }

    #[test]
    fn with_the_home_address_alone_the_kernel_chooses() {
        let mut places = places();
        for (interface, address) in [(2, "2001:db8:2::5"), (3, "2001:db8:3::5")] {
            let flags = AddressFlags { tentative: true, ..AddressFlags::default() };
            places.address(&AddressEvent { interface, address: ip(address), prefix_len: 64, present: true, flags });
        }
        assert_eq!(source(&places), ip("::"));
    }
}
