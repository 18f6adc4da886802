//! What can only be seen when all records are there: conflicts between them, and what kernels are known to get wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::diagnostics::Report;
use super::document::Span;
use super::{Draft, RemotePlace};
use crate::algorithm::Cipher;
use crate::model::{Authentication, Endpoints};
use crate::profile::Protected;
use crate::selector::{ICMPV6, MOBILITY_HEADER};
use crate::{
    Action, AddressRange, Installer, KernelInterface, MobilityRole, Mode, Policy, Ports, Remote, RemoteId, Reqid, Secret, SecretId,
    TrafficItem,
};

/// Checks a draft; every complaint goes to the report.
pub(super) fn check(report: &mut Report<'_>, draft: &Draft, secrets: &BTreeMap<SecretId, Secret>) {
    names(report, draft);
    for (remote, place) in draft.config.remotes.iter().zip(&draft.places.remotes) {
        addresses(report, remote, place);
    }
    mobile_nodes(report, draft);
    by_hand(report, draft);
    repeated_spis(report, draft);
    repeated_keys(report, draft, secrets);
    for (policy, span) in draft.config.policies.iter().zip(&draft.places.policies) {
        other_address(report, draft, policy, span);
        let sound = traffic(report, policy, draft.config.in_force(policy), span);
        if sound && policy.action == Action::Protect {
            ciphers(report, draft, policy, span);
            if draft.config.in_force(policy) {
                authorisation(report, draft, policy, span);
            }
        }
    }
    if !report.has_errors() {
        repeated_selectors(report, draft);
    }
    if !report.has_errors() {
        remotes_without_policies(report, draft);
        reqids_over_pf_key(report, draft);
        kernel_limits(report, draft);
    }
}

/// Complains about the second of two records that have one name.
fn unique<'a, K: Ord>(report: &mut Report<'_>, records: impl Iterator<Item = (K, &'a Span)>, message: impl Fn(&K) -> String, help: &str) {
    let mut seen: BTreeMap<K, &Span> = BTreeMap::new();
    for (key, span) in records {
        if let Some(first) = seen.get(&key) {
            report.error(span.clone(), message(&key)).related((*first).clone(), "the other one").help(help);
        } else {
            seen.insert(key, span);
        }
    }
}

fn names(report: &mut Report<'_>, draft: &Draft) {
    let headers = || draft.places.remotes.iter().map(|place| &place.header);
    let remotes = draft.config.remotes.iter().map(|remote| remote.name.as_str()).zip(headers());
    unique(report, remotes, |name| format!("two remotes are called \"{name}\""), "give each its own name = \"...\"");
    let ipsecs = draft.config.ipsecs.iter().map(|ipsec| ipsec.name.as_str()).zip(&draft.places.ipsecs);
    unique(report, ipsecs, |name| format!("two ipsec records are called \"{name}\""), "a profile makes one of that name: rename the other");
    let policies = draft.config.policies.iter().map(|policy| (policy.remote, policy.name.as_str())).zip(&draft.places.policies);
    let message = |(_, name): &(_, &str)| format!("two policies of one remote are called \"{name}\"");
    unique(report, policies, message, "give each its own name");
}

/// Addresses of one remote that cannot go together.
fn addresses(report: &mut Report<'_>, remote: &Remote, place: &RemotePlace) {
    if let (Some(local), Some(peer)) = (remote.local_address, remote.remote_address)
        && local.is_ipv4() != peer.is_ipv4()
    {
        report
            .error(place.header.clone(), format!("local_address {local} and remote_address {peer} are of different families"))
            .help("write two IPv6 addresses or two IPv4 addresses");
    }
    let home_agent = match remote.role {
        MobilityRole::None => None,
        MobilityRole::MobileNode { .. } | MobilityRole::RoadWarrior { .. } => remote.remote_address,
        MobilityRole::HomeAgent { .. } | MobilityRole::Gateway { .. } => remote.local_address,
    };
    let Some((home_address, home_agent)) = remote.role.lasting_address().zip(home_agent) else { return };
    if !remote.role.is_mobile_ipv6() {
        if home_address == home_agent {
            report
                .error(place.or_header(&place.home_address), format!("the address inside the tunnel is the gateway's own, {home_agent}"))
                .related(place.or_header(&place.home_agent), "the gateway")
                .help("write another address, one that is routed to the gateway");
        }
        return;
    }
    if home_agent.is_ipv4() {
        report
            .error(place.or_header(&place.home_agent), format!("the home address {home_address} is IPv6, the home agent {home_agent} IPv4"))
            .help("write the IPv6 address of the home agent");
    }
    if home_address == home_agent {
        report
            .error(place.or_header(&place.home_address), format!("the home address is the home agent's own address, {home_agent}"))
            .related(place.or_header(&place.home_agent), "the home agent")
            .help("the home address is another address of the home link, the one that the mobile node keeps");
    }
}

/// A policy follows the address of the peer that is in force: one that names another of them could not be told from those any more.
fn other_address(report: &mut Report<'_>, draft: &Draft, policy: &Policy, span: &Span) {
    let Some(remote) = draft.config.remote(policy.remote) else { return };
    let others = remote.gateways.addresses.iter().filter(|address| Some(**address) != remote.remote_address);
    let ends_at = |address: IpAddr| matches!(&policy.endpoints, Endpoints::Fixed { remote, .. } if *remote == address);
    let names = |address: IpAddr| policy.traffic.remote.iter().any(|item| item.range == AddressRange::host(address)) || ends_at(address);
    if let Some(address) = others.copied().find(|address| names(*address)) {
        let message = format!("policy \"{}\" names {address}, which is not the first address of \"{}\"", policy.name, remote.name);
        report
            .error(span.clone(), message)
            .help("name the first one, and the policy follows whichever is in force; or give the other address a remote of its own");
    }
}

/// Mobile nodes of a home agent that cannot be told apart.
fn mobile_nodes(report: &mut Report<'_>, draft: &Draft) {
    for (mobile, peers, address_of) in [(true, "mobile node", "home address"), (false, "client", "address")] {
        let nodes = || {
            let remotes = draft.config.remotes.iter().zip(&draft.places.remotes);
            remotes.filter(move |(remote, _)| remote.role.assigns() && remote.role.is_mobile_ipv6() == mobile)
        };
        let known = |(remote, place): (&Remote, &RemotePlace)| Some((remote.role.lasting_address()?, place.or_header(&place.home_address)));
        let addresses: Vec<_> = nodes().filter_map(known).collect();
        let message = |address: &IpAddr| format!("two {peers}s have the {address_of} {address}");
        let help = format!("each {peers} has an address of its own");
        unique(report, addresses.iter().map(|(address, span)| (*address, span)), message, &help);
        let identities: Vec<_> = nodes().map(|(remote, place)| (&remote.remote_identity, place.or_header(&place.identity))).collect();
        let message = |identity: &&crate::Identity| format!("two {peers}s have the identity {identity}");
        let help = format!("each {peers} has an identity of its own");
        unique(report, identities.iter().map(|(identity, span)| (*identity, span)), message, &help);
    }
}

/// Whether a packet can have the traffic of a policy; complains if not, or if the policy's mode cannot carry it.
fn traffic(report: &mut Report<'_>, policy: &Policy, in_force: bool, span: &Span) -> bool {
    let items = || policy.traffic.local.iter().chain(&policy.traffic.remote);
    let families = items().map(|item| item.range.start.is_ipv4());
    if families.clone().any(|v4| v4) && families.clone().any(|v4| !v4) {
        report
            .error(span.clone(), format!("policy \"{}\" mixes IPv4 and IPv6 addresses: {}", policy.name, policy.traffic))
            .help("write one selector for each family");
        return false;
    }
    let sound = policy.traffic.intersect(&policy.traffic).is_some();
    if !sound {
        report
            .error(span.clone(), format!("no packet fits both sides of policy \"{}\": {}", policy.name, policy.traffic))
            .help("name the same upper protocol on both sides");
    }
    let hosts = || items().all(|item| item.range.start == item.range.end);
    let needs_hosts = policy.action == Action::Protect && policy.mode == Mode::Transport && policy.endpoints == Endpoints::Selector;
    if needs_hosts && in_force && !hosts() {
        report
            .error(span.clone(), format!("policy \"{}\" is in transport mode but not between two hosts: {}", policy.name, policy.traffic))
            .help("write single addresses, use mode = \"tunnel\", or set endpoints = \"ike\"");
    }
    sound
}

/// SAs configured by hand: one pair serves one policy, and a remote without key management has only such.
fn by_hand(report: &mut Report<'_>, draft: &Draft) {
    let mut served: BTreeMap<crate::IpsecId, &Span> = BTreeMap::new();
    let policies = draft.config.policies.iter().zip(&draft.places.policies).filter(|(policy, _)| policy.action == Action::Protect);
    for (policy, span) in policies {
        let manual = draft.config.ipsec(policy.ipsec).is_some_and(|ipsec| ipsec.manual.is_some());
        if manual && let Some(first) = served.insert(policy.ipsec, span) {
            report
                .error(span.clone(), "one pair of SAs configured by hand serves two policies")
                .related(first.clone(), "the other one")
                .help("give each policy an [ipsec.NAME] and an [sa.NAME] of its own, with other SPIs");
        }
        let remote = draft.config.remote(policy.remote);
        if !manual && remote.is_some_and(|remote| remote.authentication == Authentication::Manual) {
            report
                .error(
                    span.clone(),
                    format!("policy \"{}\" has nothing to negotiate its SAs with: the remote is keyed by hand", policy.name),
                )
                .help("name an [ipsec.NAME] whose [sa.NAME] has \"out\" and \"in\", or give the remote identities and a pre-shared key");
        }
        if manual && policy.mode == Mode::Tunnel && policy.endpoints == Endpoints::Ike {
            report
                .error(span.clone(), format!("policy \"{}\" asks IKE for the ends of a tunnel that is keyed by hand", policy.name))
                .help("write endpoints = [\"LOCAL\", \"REMOTE\"], or \"template\" for a tunnel of Mobile IPv6");
        }
    }
}

/// SPIs configured by hand that a kernel could not tell apart: those that arrive here, and those towards one peer.
fn repeated_spis(report: &mut Report<'_>, draft: &Draft) {
    let mut served = BTreeSet::new();
    let (mut inbound, mut outbound) = (Vec::new(), Vec::new());
    for (policy, span) in draft.config.policies.iter().zip(&draft.places.policies) {
        // That one pair serves two policies has been said.
        let Some(manual) = draft.config.manual(policy).filter(|_| served.insert(policy.ipsec)) else { continue };
        let protocol = draft.config.ipsec(policy.ipsec).map(|ipsec| ipsec.protocol);
        // Two remotes may be one host.
        let peer = draft.config.remote(policy.remote).and_then(|remote| remote.remote_address);
        let towards = (peer, peer.is_none().then_some(policy.remote));
        inbound.push(((protocol, manual.inbound.spi), span));
        outbound.push(((protocol, towards, manual.outbound.spi), span));
    }
    let help = "give each policy an [ipsec.NAME] and an [sa.NAME] of its own, with other SPIs";
    unique(report, inbound.into_iter(), |(_, spi)| format!("two SAs configured by hand have the inbound SPI {spi:#x}"), help);
    let message = |(_, _, spi): &(_, _, u32)| format!("two SAs configured by hand towards one remote have the outbound SPI {spi:#x}");
    unique(report, outbound.into_iter(), message, help);
}

/// Keys configured by hand on a home agent that two mobile nodes share.
fn repeated_keys(report: &mut Report<'_>, draft: &Draft, secrets: &BTreeMap<SecretId, Secret>) {
    type Key<'a> = (Option<&'a [u8]>, Option<SecretId>);
    let mut seen: BTreeMap<Key<'_>, (RemoteId, &Span)> = BTreeMap::new();
    for (policy, span) in draft.config.policies.iter().zip(&draft.places.policies) {
        let node = draft.config.remote(policy.remote).is_some_and(|remote| matches!(remote.role, MobilityRole::HomeAgent { .. }));
        let Some(manual) = draft.config.manual(policy).filter(|_| node) else { continue };
        for id in [manual.outbound.key, manual.inbound.key] {
            let octets = secrets.get(&id).map(Secret::expose);
            let (owner, first) = *seen.entry((octets, octets.is_none().then_some(id))).or_insert((policy.remote, span));
            //= rfc6275#5.1
            //# secrets configured by hand are unique for different mobile nodes
            if owner != policy.remote {
                report
                    .error(span.clone(), "two mobile nodes have one key")
                    .related(first.clone(), "the other one")
                    .help("who has it can speak for both (RFC 6275 5.1): give each node keys of its own, from a good random source");
                break;
            }
        }
    }
}

/// Whether an item holds messages of return routability or only such.
fn is_home_test(item: &TrafficItem) -> bool {
    let type_of = |message_type| TrafficItem::mh_type(item.range, message_type);
    item.protocol == MOBILITY_HEADER && (item.covers(&type_of(1)) || item.covers(&type_of(3)))
}

/// Whether a tunnel for everything carries return routability of its mobile node along, because no policy before it does.
fn carries_home_test(draft: &Draft, policy: &Policy) -> bool {
    let Some(remote) = draft.config.remote(policy.remote).filter(|remote| remote.role != MobilityRole::None) else { return false };
    // A home address that is assigned later may be any of the range.
    let home = remote.role.home_address().filter(|home| !home.is_unspecified());
    let node = match remote.role {
        MobilityRole::HomeAgent { .. } => &policy.traffic.remote,
        _ => &policy.traffic.local,
    };
    let all = node.iter().any(|item| item.protocol == 0 && home.is_none_or(|home| item.range.contains(home)));
    let before = |other: &Policy| {
        let tunnel = other.action == Action::Protect && other.mode == Mode::Tunnel && other.priority < policy.priority;
        tunnel && other.remote == policy.remote && other.traffic.local.iter().chain(&other.traffic.remote).any(is_home_test)
    };
    all && !draft.config.policies.iter().any(before)
}

fn ciphers(report: &mut Report<'_>, draft: &Draft, policy: &Policy, span: &Span) {
    let Some(ipsec) = draft.config.ipsec(policy.ipsec) else { return };
    let home_test = policy.mode == Mode::Tunnel && policy.traffic.local.iter().chain(&policy.traffic.remote).any(is_home_test);
    //= rfc4877#4.3
    //# Home Test Init and Home Test travel through the tunnel with a cipher that is not null.
    let null = policy.mode == Mode::Tunnel && ipsec.proposals.iter().any(|proposal| proposal.ciphers.contains(&Cipher::NULL));
    if null && !home_test && carries_home_test(draft, policy) {
        //= rfc4877#5
        //# one SA for all traffic has the confidentiality that return routability needs
        report
            .error(span.clone(), format!("policy \"{}\" carries return routability messages along but offers the null cipher", policy.name))
            .help("offer only real ciphers, or give return routability a tunnel policy of its own before this one: who reads these messages can forge a binding");
    }
    if home_test && null {
        report
            .error(span.clone(), format!("policy \"{}\" carries return routability messages but offers the null cipher", policy.name))
            .help("who reads these messages can forge a binding (RFC 4877 4.3): offer only real ciphers, for example aes128gcm16");
    }
}

fn authorisation(report: &mut Report<'_>, draft: &Draft, policy: &Policy, span: &Span) {
    let Some(remote) = draft.config.remote(policy.remote) else { return };
    if !draft.config.pad.may_hold(&remote.remote_identity, &policy.traffic) {
        report
            .error(
                span.clone(),
                format!(
                    "policy \"{}\" can never be used: {} may not hold SAs for its side of {}",
                    policy.name, remote.remote_identity, policy.traffic
                ),
            )
            .help(format!("add the addresses to \"may_hold\" of [remote.{}]", remote.name));
    }
}

/// Two policies that one kernel could not tell apart.
fn repeated_selectors(report: &mut Report<'_>, draft: &Draft) {
    one_installed(report, draft);
    if report.has_errors() {
        return;
    }
    for direction in [0, 1] {
        let reqid = |policy: &Policy| if direction == 0 { policy.reqid_out } else { policy.reqid_in };
        let policies = draft.config.policies.iter().zip(&draft.places.policies);
        let in_force = policies.filter(|(policy, _)| draft.config.in_force(policy));
        let keys: Vec<_> = in_force.map(|(policy, span)| ((reqid(policy), &policy.traffic), span)).collect();
        unique(
            report,
            keys.into_iter(),
            |(Reqid(reqid), traffic)| format!("two policies have the same traffic and the reqid {reqid}: {traffic}"),
            "remove one, or give them different reqids",
        );
        if report.has_errors() {
            return;
        }
    }
}

/// A kernel holds one policy for each selector and direction, whatever its reqid: one that we install would be put in the place of another.
fn one_installed(report: &mut Report<'_>, draft: &Draft) {
    let mut seen: BTreeMap<(TrafficItem, TrafficItem), (RemoteId, &Policy, &Span)> = BTreeMap::new();
    for (policy, span) in draft.config.policies.iter().zip(&draft.places.policies).filter(|(policy, _)| draft.config.in_force(policy)) {
        let pairs = policy.traffic.local.iter().flat_map(|local| policy.traffic.remote.iter().map(move |remote| (*local, *remote)));
        for pair in pairs {
            let (remote, first, place) = *seen.entry(pair).or_insert((policy.remote, policy, span));
            let installed = [first, policy].iter().any(|policy| policy.installer == Installer::Us);
            if std::ptr::eq(first, policy) || !installed {
                continue;
            }
            let name = |id: RemoteId| draft.config.remote(id).map_or("", |remote| remote.name.as_str());
            let message = format!(
                "\"{}\" of \"{}\" and \"{}\" of \"{}\" are for the same traffic: {}",
                first.name,
                name(remote),
                policy.name,
                name(policy.remote),
                policy.traffic
            );
            report.error(span.clone(), message).related(place.clone(), "the other one").help(
                "the kernel holds one policy for each traffic and direction, reqids do not tell them apart: remove one. \
                 Several addresses of one home agent or gateway are one list",
            );
            break;
        }
    }
}

/// IPSEC_MANUAL_REQID_MAX: what stands above it in a policy that comes by PF_KEY, Linux and KAME replace by a number of their own.
const PF_KEY_REQID_MAX: u32 = 0x3fff;

fn reqids_over_pf_key(report: &mut Report<'_>, draft: &Draft) {
    if draft.config.settings.backend != KernelInterface::PfKey {
        return;
    }
    let ours = |policy: &Policy| policy.installer == Installer::Us && policy.action == Action::Protect;
    for (policy, span) in draft.config.policies.iter().zip(&draft.places.policies).filter(|(policy, _)| ours(policy)) {
        let reqid = policy.reqid_out.0.max(policy.reqid_in.0);
        if reqid > PF_KEY_REQID_MAX {
            let message =
                format!("policy \"{}\" has the reqid {reqid}, with backend = \"pfkey\" {PF_KEY_REQID_MAX} is the highest", policy.name);
            report
                .error(span.clone(), message)
                .help("the kernel would put a number of its own in its place: write a lower one, or use \"xfrm\"");
        }
    }
}

fn remotes_without_policies(report: &mut Report<'_>, draft: &Draft) {
    let mut used = vec![false; draft.config.remotes.len()];
    for policy in &draft.config.policies {
        if let Some(flag) = used.get_mut(policy.remote.0 as usize) {
            *flag = true;
        }
    }
    for ((remote, place), _) in draft.config.remotes.iter().zip(&draft.places.remotes).zip(used).filter(|(_, used)| !used) {
        report
            .warn(place.header.clone(), format!("no policy leads to remote \"{}\"", remote.name))
            .help("add a [selector.NAME] and a [policy.NAME]");
    }
}

/// What a policy is to Mobile IPv6, as far as its selector tells.
fn typed(policy: &Policy, protocol: u8) -> bool {
    let types = |item: &TrafficItem| item.protocol == protocol && item.ports != Ports::ANY;
    policy.traffic.local.iter().chain(&policy.traffic.remote).any(types)
}

/// Warns about combinations that Linux or UMIP are known not to carry, once per remote.
fn kernel_limits(report: &mut Report<'_>, draft: &Draft) {
    let mut policies: BTreeMap<_, Vec<(&Policy, &Span)>> = BTreeMap::new();
    for (policy, span) in draft.config.policies.iter().zip(&draft.places.policies) {
        let mobile = draft.config.remote(policy.remote).is_some_and(|remote| remote.role != MobilityRole::None);
        if mobile && policy.action == Action::Protect {
            policies.entry(policy.remote).or_default().push((policy, span));
        }
    }
    let mut said = Vec::new();
    for of_remote in policies.values() {
        for (span, message, help) in limits_of(of_remote) {
            // Mobile nodes of one home agent share their terms; one warning is enough for all.
            if !said.contains(&message) {
                report.warn(span.clone(), message.clone()).help(help);
                said.push(message);
            }
        }
    }
}

type Limit<'a> = (&'a Span, String, &'static str);

fn limits_of<'a>(policies: &[(&'a Policy, &'a Span)]) -> Vec<Limit<'a>> {
    let find = |fits: &dyn Fn(&Policy) -> bool| policies.iter().find(|(policy, _)| fits(policy)).map(|(_, span)| *span);
    let everything = |item: &TrafficItem| *item == TrafficItem::any(AddressRange::ANY_V6);
    let payload = find(&|policy| policy.mode == Mode::Tunnel && policy.traffic.local.iter().chain(&policy.traffic.remote).any(everything));
    let binding = find(&|policy| policy.mode == Mode::Transport && typed(policy, MOBILITY_HEADER));
    let home_test = find(&|policy| policy.mode == Mode::Tunnel && policy.installer == Installer::Other && typed(policy, MOBILITY_HEADER));
    let discovery = find(&|policy| policy.installer == Installer::Other && typed(policy, ICMPV6));
    let mut found = Vec::new();
    if let (Some(span), Some(_)) = (binding, payload) {
        found.push((
            span,
            "typed binding policies beside a payload tunnel: on Linux 6.1 the de-registration sent at home is lost, so that the return home never completes".to_owned(),
            "use any-type binding policies: binding_selector = \"any\", and \"IPsecPolicy Mh\" in mip6d.conf",
        ));
    }
    if let Some(span) = binding {
        found.push((
            span,
            "typed binding policies: Linux since about 6.7 (measured: 6.12) does not see the Mobility Header type of a packet that arrives and refuses to migrate typed policies".to_owned(),
            "use any-type binding policies: binding_selector = \"any\", and \"IPsecPolicy Mh\" in mip6d.conf",
        ));
    }
    if let Some(span) = discovery {
        found.push((
            span,
            format!("policies of {} owned by mip6d: Linux 6.12 refuses to migrate policies with an ICMPv6 type, so that mip6d cannot register there", Protected::PrefixDiscovery.name()),
            "leave out \"prefix-discovery\" (and MobPfxDisc in mip6d.conf) on such kernels",
        ));
    }
    if let (Some(span), Some(_)) = (home_test, payload) {
        found.push((
            span,
            "mip6d refuses TunnelHomeTesting and TunnelPayload together (\"overlapping IPsec policies\")".to_owned(),
            "protect either \"return-routability\" or \"payload\"",
        ));
    }
    found
}
