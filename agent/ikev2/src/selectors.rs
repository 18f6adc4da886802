//! Traffic between policies and the TSi/TSr payloads: what is proposed, how it is narrowed, which policy serves it (RFC 7296 2.9).
//! Invariant: what is agreed is covered by our policy and by the peer's proposal.

use watari_policies::{AddressRange, Policy, Ports, Selector, Traffic, TrafficItem};
use watari_wire::ikev2::{AddressSelector, TrafficSelector};

/// One side's items as they go into a TS payload.
pub(crate) fn to_wire(items: &[TrafficItem]) -> Vec<TrafficSelector> {
    items
        .iter()
        .map(|item| {
            AddressSelector::new(item.protocol, item.range.start, item.range.end).with_ports(item.ports.start, item.ports.end).into()
        })
        .collect()
}

/// One side's items out of a TS payload; selectors of forms we do not know, and ranges that hold nothing, are left out.
pub(crate) fn from_wire(selectors: &[TrafficSelector]) -> Vec<TrafficItem> {
    let items = selectors.iter().filter_map(TrafficSelector::address).map(|selector| TrafficItem {
        range: AddressRange { start: selector.start, end: selector.end },
        protocol: selector.protocol,
        ports: Ports { start: selector.start_port, end: selector.end_port },
    });
    items.filter(|item| item.range.is_valid()).collect()
}

/// What is proposed for a policy: first the packet that asked for it, if it says more than the policy, then the policy's traffic.
pub(crate) fn proposal(policy: &Traffic, packet: Option<&Selector>) -> Traffic {
    let mut proposal = policy.clone();
    let Some(packet) = packet.map(Traffic::from_packet) else { return proposal };
    //= rfc7296#2.9
    //# the first selector of TSi and of TSr is the very packet that triggered the negotiation
    let Some(first) = policy.intersect(&packet) else { return proposal };
    let put_first = |items: &mut Vec<TrafficItem>, specific: &[TrafficItem]| {
        if let Some(item) = specific.first().filter(|item| !items.contains(item)) {
            items.insert(0, *item);
        }
    };
    // Either both sides get a specific selector or none does: the first of TSi and the first of TSr describe one packet.
    if first.local.first() != policy.local.first() || first.remote.first() != policy.remote.first() {
        put_first(&mut proposal.local, &first.local);
        put_first(&mut proposal.remote, &first.remote);
    }
    proposal
}

/// How well a policy fits a proposal, the largest being the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Fit {
    /// Neither side has to give anything up.
    exact: bool,
    /// The packet that asked for it, the first selector of both sides, is covered.
    serves_first: bool,
    /// The peer gets all it asked for.
    covers_proposal: bool,
    /// The policy is used to its full width.
    covers_policy: bool,
}

/// The policy that serves a proposal best and the traffic both sides agree to; the earlier one where two fit alike.
///
/// `proposed` is from this host's point of view.
pub(crate) fn best_policy<'a, Id: Copy>(policies: impl Iterator<Item = (Id, &'a Policy)>, proposed: &Traffic) -> Option<(Id, Traffic)> {
    let mut best: Option<(Fit, Id, Traffic)> = None;
    for (id, policy) in policies {
        //= rfc7296#2.9
        //# the responder narrows to a non-empty subset of what was proposed, or refuses
        let Some(agreed) = policy.traffic.intersect(proposed) else { continue };
        let fit = fit(&policy.traffic, proposed, &agreed);
        if best.as_ref().is_none_or(|(known, ..)| fit > *known) {
            best = Some((fit, id, agreed));
        }
    }
    best.map(|(_, id, agreed)| (id, agreed))
}

fn fit(policy: &Traffic, proposed: &Traffic, agreed: &Traffic) -> Fit {
    let covers_proposal = agreed.covers(proposed);
    let covers_policy = agreed.covers(policy);
    let first = match (proposed.local.first(), proposed.remote.first()) {
        (Some(local), Some(remote)) => Traffic::new(*local, *remote),
        _ => proposed.clone(),
    };
    Fit { exact: covers_proposal && covers_policy, serves_first: agreed.covers(&first), covers_proposal, covers_policy }
}

/// The traffic in a response to our proposal; `None` if the peer widened it, which it must not.
pub(crate) fn narrowed(offered: &Traffic, answered: &Traffic) -> Option<Traffic> {
    //= rfc7296#2.9
    //# what comes back is a subset of what was proposed
    let within = !answered.local.is_empty() && !answered.remote.is_empty() && offered.covers(answered);
    within.then(|| answered.clone())
}

/// A side for a log line.
pub(crate) fn describe(items: &[TrafficItem]) -> String {
    to_wire(items).iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipnet::IpNet;
    use watari_policies::model::Endpoints;
    use watari_policies::{Action, Installer, IpsecId, Mode, RemoteId, Reqid};

    fn net(text: &str) -> AddressRange {
        AddressRange::from(text.parse::<IpNet>().unwrap())
    }

    fn item(range: &str, protocol: u8, ports: Ports) -> TrafficItem {
        TrafficItem { range: net(range), protocol, ports }
    }

    fn policy(traffic: Traffic) -> Policy {
        Policy {
            name: String::new(),
            traffic,
            action: Action::Protect,
            mode: Mode::Tunnel,
            reqid_out: Reqid(0),
            reqid_in: Reqid(0),
            priority: 0,
            endpoints: Endpoints::Ike,
            installer: Installer::Other,
            ipsec: IpsecId(0),
            remote: RemoteId(0),
            line: 0,
        }
    }

    #[test]
    fn the_packet_comes_first_unless_it_says_no_more() {
        let wide = Traffic::new(item("2001:db8:1::/64", 0, Ports::ANY), item("::/0", 0, Ports::ANY));
        let packet =
            Selector::between("2001:db8:1::7/128".parse().unwrap(), "2001:db8:9::1/128".parse().unwrap()).protocol(58).message_type(128);
        let offer = proposal(&wide, Some(&packet));
        assert_eq!(offer.local.len(), 2);
        assert_eq!((offer.local[0].range, offer.local[0].protocol), (net("2001:db8:1::7/128"), 58));
        assert_eq!((offer.remote[0].range, offer.remote[0].protocol), (net("2001:db8:9::1/128"), 58));
        assert_eq!(offer.local[1], wide.local[0]);
        // A packet that is none of the policy's, and no packet at all.
        let stranger = Selector::between("2001:db8:2::7/128".parse().unwrap(), "2001:db8:9::1/128".parse().unwrap());
        assert_eq!(proposal(&wide, Some(&stranger)), wide);
        assert_eq!(proposal(&wide, None), wide);
    }

    #[test]
    fn the_policy_that_fits_exactly_is_preferred_then_the_one_for_the_packet() {
        let hosts = ("2001:db8:1::1/128", "2001:db8:1::abcd/128");
        let any_type = policy(Traffic::new(item(hosts.0, 135, Ports::ANY), item(hosts.1, 135, Ports::ANY)));
        let typed = policy(Traffic::new(item(hosts.0, 135, Ports::mh_type(6)), item(hosts.1, 135, Ports::mh_type(5))));
        let everything = policy(Traffic::new(item("::/0", 0, Ports::ANY), item(hosts.1, 0, Ports::ANY)));
        let policies = [(1, &everything), (2, &any_type), (3, &typed)];
        let choose = |proposed: &Traffic| best_policy(policies.into_iter(), proposed).map(|(id, _)| id);
        assert_eq!(choose(&typed.traffic), Some(3));
        assert_eq!(choose(&any_type.traffic), Some(2));
        assert_eq!(choose(&everything.traffic), Some(1));
        // A first selector for TCP, then anything: only the wide policy serves the packet.
        let tcp = Traffic {
            local: vec![item(hosts.0, 6, Ports::one(80)), item(hosts.0, 0, Ports::ANY)],
            remote: vec![item(hosts.1, 6, Ports::one(4000)), item(hosts.1, 0, Ports::ANY)],
        };
        assert_eq!(choose(&tcp), Some(1));
        let nothing = Traffic::new(item("2001:db8:5::/64", 0, Ports::ANY), item("2001:db8:6::/64", 0, Ports::ANY));
        assert_eq!(choose(&nothing), None);
    }

    #[test]
    fn an_answer_may_narrow_but_not_widen() {
        let offered = Traffic::new(item("2001:db8:1::/64", 0, Ports::ANY), item("::/0", 0, Ports::ANY));
        let narrow = Traffic::new(item("2001:db8:1::7/128", 17, Ports::one(53)), item("2001:db8:9::/64", 17, Ports::ANY));
        assert_eq!(narrowed(&offered, &narrow), Some(narrow.clone()));
        assert_eq!(narrowed(&narrow, &offered), None);
        assert_eq!(narrowed(&offered, &Traffic { local: Vec::new(), remote: Vec::new() }), None);
    }
}
