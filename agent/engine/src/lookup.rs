//! Policies of the configuration, found by direction, reqid, addresses and upper protocol, as the kernel names them.
//! Invariant: addresses always agree; a lookup costs the same at one policy and at ten thousand.

use std::collections::BTreeMap;

use ipnet::IpNet;
use watari_policies::{Config, Direction, Mode, Policy, PolicyId, RemoteId, Reqid, Selector};

#[derive(Clone, Copy, Debug)]
struct Row {
    policy: PolicyId,
    reqid: Reqid,
    mode: Mode,
    selector: Selector,
}

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// Direction; forward counts as inbound.
    pub(crate) direction: Direction,
    /// Reqid, 0 for the selector alone.
    pub(crate) reqid: Reqid,
    /// Mode, if known.
    pub(crate) mode: Option<Mode>,
    /// Selector.
    pub(crate) selector: Selector,
    /// Whether ports and types of the selector are to be trusted (PF_KEY leaves them out).
    pub(crate) types: bool,
}

/// The index.
#[derive(Debug, Default)]
pub(crate) struct Lookup {
    rows: BTreeMap<(Direction, IpNet, IpNet), Vec<Row>>,
    of_remote: BTreeMap<RemoteId, Vec<PolicyId>>,
}

impl Lookup {
    /// Builds the index of a configuration. A policy without a remote is a retired record: nothing finds it.
    pub(crate) fn new(config: &Config) -> Self {
        let mut lookup = Self::default();
        let alive = |policy: &Policy| config.remote(policy.remote).is_some();
        for (policy, id) in config.policies.iter().zip(0u32..).filter(|(policy, _)| alive(policy)) {
            lookup.of_remote.entry(policy.remote).or_default().push(PolicyId(id));
            lookup.learn(config, &[PolicyId(id)]);
        }
        lookup
    }

    /// Takes policies in that have come into force; one that is not in force is found by its remote alone.
    pub(crate) fn learn(&mut self, config: &Config, policies: &[PolicyId]) {
        let known = policies.iter().filter_map(|id| Some((*id, config.policy(*id)?)));
        for (id, policy) in known.filter(|(_, policy)| config.in_force(policy)) {
            for (direction, reqid, selector) in selectors(policy) {
                let row = Row { policy: id, reqid, mode: policy.mode, selector };
                self.rows.entry((direction, selector.src, selector.dst)).or_default().push(row);
            }
        }
    }

    /// Takes policies out that go out of force, while their records still say what they were.
    pub(crate) fn forget(&mut self, config: &Config, policies: &[PolicyId]) {
        for (id, policy) in policies.iter().filter_map(|id| Some((*id, config.policy(*id)?))) {
            for (direction, _, selector) in selectors(policy) {
                let key = (direction, selector.src, selector.dst);
                let Some(rows) = self.rows.get_mut(&key) else { continue };
                rows.retain(|row| row.policy != id);
                if rows.is_empty() {
                    self.rows.remove(&key);
                }
            }
        }
    }

    /// Policies that fit, in configuration order: those with the very addresses, else those whose addresses cover them on one side.
    pub(crate) fn find(&self, wanted: &Wanted) -> Vec<PolicyId> {
        let direction = if wanted.direction == Direction::Out { Direction::Out } else { Direction::In };
        let (src, dst) = (wanted.selector.src, wanted.selector.dst);
        let exact = self.among(direction, src, dst, wanted);
        if !exact.is_empty() || wanted.reqid.0 == 0 {
            return exact;
        }
        supernets(dst)
            .map(|wider| (src, wider))
            .chain(supernets(src).map(|wider| (wider, dst)))
            .map(|(src, dst)| self.among(direction, src, dst, wanted))
            .find(|found| !found.is_empty())
            .unwrap_or_default()
    }

    /// Policies of a remote, in configuration order.
    pub(crate) fn policies_of(&self, remote: RemoteId) -> &[PolicyId] {
        self.of_remote.get(&remote).map_or(&[], Vec::as_slice)
    }

    fn among(&self, direction: Direction, src: IpNet, dst: IpNet, wanted: &Wanted) -> Vec<PolicyId> {
        let Some(rows) = self.rows.get(&(direction, src, dst)) else { return Vec::new() };
        let fitting = || rows.iter().filter(|row| fits(row, wanted));
        // An entry for the very protocol is meant before one that only covers it.
        let exact = fitting().filter(|row| row.selector.protocol == wanted.selector.protocol);
        let mut found: Vec<_> = exact.map(|row| row.policy).collect();
        if found.is_empty() && wanted.reqid.0 != 0 {
            found = fitting().filter(|row| row.selector.protocol == 0 && row.reqid == wanted.reqid).map(|row| row.policy).collect();
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

fn fits(row: &Row, wanted: &Wanted) -> bool {
    let reqid = row.reqid == wanted.reqid || row.reqid.0 == 0 || wanted.reqid.0 == 0;
    let mode = wanted.mode.is_none_or(|mode| mode == row.mode);
    let (ours, theirs) = (row.selector, wanted.selector);
    let typed = wanted.types && ours.protocol == theirs.protocol && ours.sport.mask != 0 && theirs.sport.mask != 0;
    reqid && mode && (!typed || ours.sport == theirs.sport)
}

/// The kernel selectors of a policy in both directions, with the reqid of each.
fn selectors(policy: &Policy) -> impl Iterator<Item = (Direction, Reqid, Selector)> {
    [(Direction::Out, policy.reqid_out), (Direction::In, policy.reqid_in)].into_iter().flat_map(|(direction, reqid)| {
        policy.traffic.kernel_selectors(direction, true).policies.into_iter().map(move |selector| (direction, reqid, selector))
    })
}

fn supernets(net: IpNet) -> impl Iterator<Item = IpNet> {
    std::iter::successors(net.supernet(), |wider| wider.supernet())
}

#[cfg(test)]
mod tests {
    use watari_policies::profile::{HomeAgentProfile, ServedNode, home_agent};
    use watari_policies::selector::MOBILITY_HEADER;

    use super::*;

    fn config(nodes: u16) -> Config {
        let node = |number: u16| {
            let home_address = std::net::IpAddr::from([0x2001, 0xdb8, 1, 0, 0, 0, 1, number]);
            ServedNode { name: format!("mn{number}"), home_address, ..ServedNode::default() }
        };
        home_agent(HomeAgentProfile { mobile_nodes: (0..nodes).map(node).collect(), ..HomeAgentProfile::default() })
    }

    fn wanted(src: &str, dst: &str, protocol: u8, reqid: u32) -> Wanted {
        let net = |text: &str| text.parse().expect("prefix");
        let selector = Selector::between(net(src), net(dst)).protocol(protocol);
        Wanted { direction: Direction::Out, reqid: Reqid(reqid), mode: None, selector, types: true }
    }

    #[test]
    fn addresses_reqid_and_protocol_agree() {
        let config = config(3);
        let lookup = Lookup::new(&config);
        let payload = |node: u32| lookup.find(&wanted("::/0", &format!("2001:db8:1::1:{node}/128"), 0, 8));
        assert_eq!(payload(1).len(), 1);
        assert_eq!(config.policy(payload(1)[0]).map(|policy| policy.remote), Some(RemoteId(1)));
        assert_ne!(payload(1), payload(2));
        let ha = "2001:db8:1::1/128";
        assert_eq!(lookup.find(&wanted(ha, "2001:db8:1::1:1/128", MOBILITY_HEADER, 99)), [], "another reqid");
        assert_eq!(lookup.find(&wanted(ha, "2001:db8:1::1:1/128", MOBILITY_HEADER, 0)).len(), 1, "the selector alone");
        assert_eq!(lookup.find(&wanted("::/0", "2001:db8:1::9:9/128", 0, 8)), [], "another address");
        assert_eq!(lookup.find(&wanted("2001:db8:b::c/128", "2001:db8:1::1:1/128", 6, 8)), payload(1), "a narrower selector");
    }

    #[test]
    fn forward_is_found_as_inbound_and_types_must_agree_where_both_are_told() {
        let mut config = config(1);
        let binding = config.policies.iter_mut().find(|policy| policy.name.contains("binding")).expect("binding policy");
        binding.traffic.local[0].ports = watari_policies::Ports::mh_type(6);
        binding.traffic.remote[0].ports = watari_policies::Ports::mh_type(5);
        let lookup = Lookup::new(&config);
        let base = wanted("2001:db8:1::1:0/128", "2001:db8:1::1/128", MOBILITY_HEADER, 1);
        let typed = |number| Wanted { direction: Direction::Forward, selector: base.selector.message_type(number), ..base };
        assert_eq!(lookup.find(&typed(5)).len(), 1);
        assert_eq!(lookup.find(&typed(1)), []);
        assert_eq!(lookup.find(&Wanted { types: false, ..typed(1) }).len(), 1);
        assert_eq!(lookup.find(&Wanted { direction: Direction::In, ..base }).len(), 1, "a policy of any type");
    }
}
