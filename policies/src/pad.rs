//! Peer authorisation database (RFC 4301 4.4.3, RFC 4877 7.1): which identity may hold SAs for which addresses.
//! Invariant: what no entry allows is refused. Look-up takes the time of one identity's entries, however many identities there are.

use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::{AddressRange, Identity, Traffic};

/// One identity and the addresses it may hold SAs for on its own side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PadEntry {
    /// The authenticated identity of the peer; `None` allows every authenticated peer.
    pub identity: Option<Identity>,
    /// Prefixes the peer may name as its own side of a child SA.
    pub prefixes: Vec<IpNet>,
}

/// The database; temporary entries are bound to an IKE SA by the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pad {
    /// Aggregated prefixes by identity, `None` for everybody.
    prefixes: BTreeMap<Option<Identity>, Vec<IpNet>>,
    /// What an identity holds beside that for as long as it is assigned to it.
    lent: BTreeMap<Identity, IpNet>,
}

impl Pad {
    /// Allows an identity some more prefixes; `None` for every authenticated peer.
    pub fn allow(&mut self, identity: Option<Identity>, prefixes: impl IntoIterator<Item = IpNet>) {
        let held = self.prefixes.entry(identity).or_default();
        held.extend(prefixes.into_iter().map(|prefix| prefix.trunc()));
        *held = IpNet::aggregate(held);
    }

    /// Takes back everything that an identity was allowed under its own name.
    pub fn withdraw(&mut self, identity: &Identity) {
        self.prefixes.remove(&Some(identity.clone()));
    }

    /// Allows an identity one prefix for a time, in place of the one it was lent before; `None` takes that back.
    pub fn lend(&mut self, identity: &Identity, prefix: Option<IpNet>) {
        match prefix {
            Some(prefix) => self.lent.insert(identity.clone(), prefix.trunc()),
            None => self.lent.remove(identity),
        };
    }

    /// The prefix that an identity was lent.
    pub fn lent(&self, identity: &Identity) -> Option<IpNet> {
        self.lent.get(identity).copied()
    }

    /// Whether `identity` may hold SAs whose remote side is `traffic.remote`.
    pub fn may_hold(&self, identity: &Identity, traffic: &Traffic) -> bool {
        //= rfc4877#4.2
        //# The home agent verifies that the authenticated identity may create SAs for this home address.
        traffic.remote.iter().all(|item| self.may_hold_range(identity, &item.range))
    }

    /// Whether `identity` may hold SAs for every address of `range` on its own side.
    pub fn may_hold_range(&self, identity: &Identity, range: &AddressRange) -> bool {
        let own = self.prefixes.get(&Some(identity.clone()));
        let everybody = self.prefixes.get(&None);
        let lent = self.lent.get(identity);
        let held = || own.into_iter().chain(everybody).flatten().chain(lent);
        let allowed = |part: &IpNet| held().any(|prefix| prefix.contains(part));
        range.is_valid() && range.prefixes().iter().all(allowed)
    }

    /// Everything that an identity may hold under its own name now, with what it was lent.
    pub fn held_by(&self, identity: &Identity) -> Vec<IpNet> {
        self.prefixes_of(identity).iter().copied().chain(self.lent(identity)).collect()
    }

    /// The prefixes that an identity is allowed under its own name.
    pub fn prefixes_of(&self, identity: &Identity) -> &[IpNet] {
        self.prefixes.get(&Some(identity.clone())).map_or(&[], Vec::as_slice)
    }

    /// All entries of the configuration, one per identity; what is lent is not among them.
    pub fn entries(&self) -> impl Iterator<Item = PadEntry> + '_ {
        self.prefixes.iter().map(|(identity, prefixes)| PadEntry { identity: identity.clone(), prefixes: prefixes.clone() })
    }
}

impl FromIterator<PadEntry> for Pad {
    fn from_iter<I: IntoIterator<Item = PadEntry>>(entries: I) -> Self {
        let mut pad = Self::default();
        for entry in entries {
            pad.allow(entry.identity, entry.prefixes);
        }
        pad
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TrafficItem;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn name(text: &str) -> Identity {
        text.parse().unwrap()
    }

    fn towards(remote: &str) -> Traffic {
        Traffic::new(TrafficItem::any(AddressRange::ANY_V6), TrafficItem::any(net(remote).into()))
    }

    #[test]
    fn each_identity_holds_its_own_addresses_only() {
        let mut pad = Pad::default();
        pad.allow(Some(name("mn1.example")), [net("2001:db8:1::a/128")]);
        pad.allow(Some(name("mn2.example")), [net("2001:db8:1::b/128")]);
        assert!(pad.may_hold(&name("MN1.example"), &towards("2001:db8:1::a/128")));
        assert!(!pad.may_hold(&name("mn1.example"), &towards("2001:db8:1::b/128")));
        assert!(!pad.may_hold(&name("mn1.example"), &towards("2001:db8:1::/64")));
        assert!(!pad.may_hold(&name("mn3.example"), &towards("2001:db8:1::a/128")));
        assert!(!Pad::default().may_hold(&name("mn1.example"), &towards("2001:db8:1::a/128")));
        pad.withdraw(&name("mn1.example"));
        assert!(!pad.may_hold(&name("mn1.example"), &towards("2001:db8:1::a/128")));
    }

    #[test]
    fn what_was_lent_is_held_beside_the_own_until_it_is_taken_back() {
        let mut pad = Pad::default();
        pad.allow(Some(name("mn1.example")), [net("2001:db8:5::/64")]);
        pad.lend(&name("mn1.example"), Some(net("2001:db8:1::a/128")));
        assert_eq!(pad.held_by(&name("mn1.example")), [net("2001:db8:5::/64"), net("2001:db8:1::a/128")]);
        pad.lend(&name("mn1.example"), None);
        assert_eq!(pad.held_by(&name("mn1.example")), [net("2001:db8:5::/64")]);
        assert!(pad.held_by(&name("mn2.example")).is_empty());
    }

    #[test]
    fn a_range_may_be_held_by_several_prefixes() {
        let mut pad = Pad::default();
        pad.allow(Some(name("gw.example")), [net("10.0.0.0/25"), net("10.0.0.128/25")]);
        assert!(pad.may_hold(&name("gw.example"), &towards("10.0.0.0/24")));
        let range = AddressRange { start: "10.0.0.127".parse().unwrap(), end: "10.0.0.130".parse().unwrap() };
        assert!(pad.may_hold_range(&name("gw.example"), &range));
        let backward = AddressRange { start: range.end, end: range.start };
        assert!(!pad.may_hold_range(&name("gw.example"), &backward));
    }

    #[test]
    fn an_entry_for_everybody_adds_to_the_own_one() {
        let mut pad = Pad::default();
        pad.allow(None, [net("2001:db8:9::/64")]);
        pad.allow(Some(name("mn1.example")), [net("2001:db8:1::a/128")]);
        assert!(pad.may_hold(&name("mn1.example"), &towards("2001:db8:9::1/128")));
        assert!(pad.may_hold(&name("stranger.example"), &towards("2001:db8:9::1/128")));
        assert!(!pad.may_hold(&name("stranger.example"), &towards("2001:db8:1::a/128")));
        assert_eq!(pad.clone(), pad.entries().collect::<Pad>());
    }
}
