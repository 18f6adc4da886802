//! Policies that this agent owns: put into the kernel at start-up, kept at the SAs' end points, taken out at the end.
//! Invariant: policies of another daemon are never touched.

use ipnet::{IpNet, Ipv6Net};
use watari_kernel::{Endpoints, KernelRequest, PolicyAction, PolicyEntry, PolicyIndex, PolicyKind, Template};
use watari_policies::selector::ICMPV6;
use watari_policies::{Action, Direction, Installer, Mode, Policy, PolicyId, PortMask, Ports, Selector};
use watari_sa::Whereabouts as _;

use crate::core::{Core, Purpose};

/// One kernel entry of ours.
pub(crate) type Entry = (Direction, Selector);

/// Stands where an entry of ours belongs to no record of the configuration.
pub(crate) const NO_RECORD: PolicyId = PolicyId(u32::MAX);

//= rfc4301#5.1
//# Neighbour Discovery must be able to pass where a policy would otherwise take it
/// ICMPv6 types of Multicast Listener Discovery (130 to 132, 143) and Neighbour Discovery (133 to 137).
const NEIGHBOURS: [PortMask; 5] = [
    PortMask { value: 130, mask: 0xfffe },
    PortMask { value: 132, mask: 0xfffe },
    PortMask { value: 134, mask: 0xfffe },
    PortMask { value: 136, mask: 0xfffe },
    PortMask { value: 143, mask: 0xffff },
];

impl Core {
    /// Installs every policy of ours that can be installed now.
    pub(crate) fn install_policies(&mut self) {
        let ours = (0u32..).zip(&self.config.policies).filter(|(_, policy)| policy.installer == Installer::Us);
        let ours: Vec<_> = ours.map(|(id, _)| PolicyId(id)).collect();
        self.spare_neighbours();
        for id in ours {
            self.install_policy(id, None);
        }
    }

    /// Lets Neighbour Discovery and Multicast Listener Discovery pass in clear where a policy of ours could catch them: without them no
    /// packet finds its next hop, the protected ones included; where none could, nothing is let pass. (IKE passes by the bypass of its own
    /// sockets.)
    fn spare_neighbours(&mut self) {
        let catches = |policy: &&Policy| policy.installer == Installer::Us && policy.action != Action::Bypass && catches_neighbours(policy);
        let Some(first) = self.config.policies.iter().filter(catches).map(|policy| policy.priority).min() else {
            return self.uninstall_policies(Some(NO_RECORD));
        };
        for (direction, message_type) in [Direction::Out, Direction::In].into_iter().flat_map(|way| NEIGHBOURS.map(|types| (way, types))) {
            let everywhere = Selector::between(IpNet::V6(Ipv6Net::default()), IpNet::V6(Ipv6Net::default()));
            let entry = PolicyEntry {
                selector: Selector { sport: message_type, ..everywhere.protocol(ICMPV6) },
                direction,
                kind: PolicyKind::Main,
                index: PolicyIndex(0),
                priority: first.saturating_sub(1),
                action: PolicyAction::Allow,
                templates: Vec::new(),
            };
            let key = (entry.direction, entry.selector);
            if self.installed.get(&key).is_some_and(|(holder, held)| *holder != NO_RECORD || *held == entry) {
                continue;
            }
            self.installed.insert(key, (NO_RECORD, entry.clone()));
            self.ask(Purpose::Housekeeping("install a bypass for Neighbour Discovery"), KernelRequest::SetPolicy(entry));
        }
    }

    /// Installs one policy of ours, with the end points of a child SA if there is one; does nothing if all of it stands already.
    pub(crate) fn install_policy(&mut self, id: PolicyId, child: Option<Endpoints>) {
        let Some(policy) =
            self.config.policy(id).filter(|policy| policy.installer == Installer::Us && self.config.in_force(policy)).cloned()
        else {
            return;
        };
        // What is known with proof stays as it is.
        if child.is_none() && self.is_unproved(policy.remote) {
            return;
        }
        let Some(endpoints) = child.or_else(|| self.template_endpoints(id, &policy)) else { return };
        for entry in entries(&policy, endpoints, self.capability.inbound_mh_type != Some(false)) {
            let key = (entry.direction, entry.selector);
            if self.installed.get(&key) == Some(&(id, entry.clone())) {
                continue;
            }
            self.installed.insert(key, (id, entry.clone()));
            self.spd.set(&self.lookup, entry.clone());
            self.ask(Purpose::Housekeeping("install a policy"), KernelRequest::SetPolicy(entry));
        }
    }

    /// Removes policies of ours from the kernel: those of one record, or all.
    pub(crate) fn uninstall_policies(&mut self, only: Option<PolicyId>) {
        let gone: Vec<Entry> =
            self.installed.iter().filter(|(_, (id, _))| only.is_none_or(|only| only == *id)).map(|(key, _)| *key).collect();
        for (direction, selector) in gone {
            self.installed.remove(&(direction, selector));
            self.spd.remove(direction, &selector, PolicyKind::Main);
            let request = KernelRequest::DeletePolicy { selector, direction, kind: PolicyKind::Main };
            self.ask(Purpose::Housekeeping("remove a policy"), request);
        }
    }

    /// Outbound end points of a policy's template; `None` as long as the peer's end is not known.
    fn template_endpoints(&self, id: PolicyId, policy: &Policy) -> Option<Endpoints> {
        // A host without address protects what it cannot send yet all the same.
        let ike = self.places.ike_addresses(policy.remote).or_else(|| self.places.called_at(policy.remote));
        if policy.mode == Mode::Transport || policy.action != Action::Protect {
            return ike.map(|ike| Endpoints { src: ike.local, dst: ike.remote }).or_else(|| self.places.hosts(id));
        }
        let endpoints = match ike {
            Some(ike) => self.places.sa_endpoints(id, ike),
            None => self.places.template(id)?,
        };
        (!endpoints.dst.is_unspecified()).then_some(endpoints)
    }
}

/// Whether a policy could catch Neighbour Discovery: IPv6, and every protocol or every ICMPv6 message.
fn catches_neighbours(policy: &Policy) -> bool {
    let items = || policy.traffic.local.iter().chain(&policy.traffic.remote);
    let v6 = items().all(|item| !item.range.start.is_ipv4());
    v6 && items().all(|item| item.protocol == 0 || (item.protocol == ICMPV6 && item.ports == Ports::ANY))
}

/// The kernel entries of a policy.
fn entries(policy: &Policy, outbound: Endpoints, mh_types_visible: bool) -> Vec<PolicyEntry> {
    let tunnel = policy.mode == Mode::Tunnel && policy.action == Action::Protect;
    let directions = [Direction::Out, Direction::In, Direction::Forward];
    let directions = directions.into_iter().filter(|direction| tunnel || *direction != Direction::Forward);
    directions
        .flat_map(|direction| {
            let (reqid, endpoints) = match direction {
                Direction::Out => (policy.reqid_out, outbound),
                Direction::In | Direction::Forward => (policy.reqid_in, outbound.reversed()),
            };
            let unspecified = match endpoints.dst {
                std::net::IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
                std::net::IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
            };
            let endpoints = if tunnel { endpoints } else { Endpoints { src: unspecified, dst: unspecified } };
            let selectors = policy.traffic.kernel_selectors(direction, mh_types_visible).policies;
            selectors.into_iter().map(move |selector| PolicyEntry {
                selector,
                direction,
                kind: PolicyKind::Main,
                index: PolicyIndex(0),
                priority: policy.priority,
                action: if policy.action == Action::Discard { PolicyAction::Block } else { PolicyAction::Allow },
                templates: match policy.action {
                    Action::Protect => vec![Template::esp(policy.mode, reqid, endpoints)],
                    Action::Bypass | Action::Discard => Vec::new(),
                },
            })
        })
        .collect()
}
