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
