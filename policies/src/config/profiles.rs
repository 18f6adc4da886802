//! The tables `[mobile_node]` and `[home_agent]`: profiles that expand into remotes and policies.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use toml::de::DeValue;

use super::credentials::{self, Common};
use super::diagnostics::Report;
use super::document::{Read, Section, Value};
use super::gateways;
use super::movements::{self, Side};
use super::nodes::{self, Surroundings};
use super::values::{self, LifetimeOf};
use super::{Draft, RemotePlace, Secrets};
use crate::certificate::Proofs;
use crate::model::Authentication;
use crate::profile::{
    BindingSelector, HomeAgentProfile, MobileNodeProfile, Protected, Reqids, ServedNode, Terms, add_home_agent, add_mobile_node,
};
use crate::{AddressRange, Ask, Identity, Installer, MobilityRole, SecretId};

/// Words for the owner of kernel policies.
pub(super) const INSTALLERS: &[(&str, Installer)] = &[("mip6d", Installer::Other), ("watari", Installer::Us)];

const PROTECTED: &[(&str, Protected)] = &[
    (Protected::Binding.name(), Protected::Binding),
    (Protected::PrefixDiscovery.name(), Protected::PrefixDiscovery),
    (Protected::ReturnRoutability.name(), Protected::ReturnRoutability),
    (Protected::Payload.name(), Protected::Payload),
];

const BINDING_SELECTORS: &[(&str, BindingSelector)] =
    &[("any", BindingSelector::Any), ("typed", BindingSelector::Typed), ("range", BindingSelector::Range)];

/// Reads the profiles of a file and adds their records.
pub(super) fn read<'a>(report: &mut Report<'_>, root: &mut Section<'a>, secrets: &mut Secrets<'_>, draft: &mut Draft) {
    for mut section in sections(report, root, "mobile_node", "[mobile_node]") {
        mobile_node(report, &mut section, secrets, draft);
        section.finish(report);
    }
    if let Some(entry) = root.entry("home_agent")
        && let Some(mut section) = Section::of(report, "[home_agent]", entry.value)
    {
        home_agent(report, &mut section, secrets, draft);
        section.finish(report);
    }
}

/// The tables that stand under a key: one, or a list of them.
pub(super) fn sections<'a>(report: &mut Report<'_>, parent: &mut Section<'a>, key: &'static str, title: &str) -> Vec<Section<'a>> {
    let Some(entry) = parent.entry(key) else { return Vec::new() };
    match entry.value.get_ref() {
        DeValue::Array(elements) => elements.iter().filter_map(|element| Section::of(report, format!("[{title}]"), element)).collect(),
        _ => Section::of(report, title, entry.value).into_iter().collect(),
    }
}

fn mobile_node(report: &mut Report<'_>, section: &mut Section<'_>, secrets: &mut Secrets<'_>, draft: &mut Draft) {
    let usual = MobileNodeProfile::default();
    let name = section.read(report, "name", values::name);
    let home_address = section.required(report, "home_address", "home_address = \"2001:db8:1::abcd\"", own_home_address);
    let ask = ask(report, section, home_address.as_ref().map(|read| read.value));
    let home_agent = section.required(report, "home_agent", "home_agent = \"2001:db8:1::1\"", |report, value| {
        gateways::addresses(report, value, values::unicast_v6)
    });
    let several = home_agent.as_ref().map_or((None, Vec::new()), |read| (Some(read.value.0), read.value.1.clone()));
    let gateways = gateways::read(report, section, several, None);
    let identity = section.required(report, "identity", "identity = \"mn.example\"", values::parsed::<Identity>);
    let peer = section.required(report, "home_agent_identity", "home_agent_identity = \"ha.example\"", values::parsed::<Identity>);
    let (ours, theirs) = (identity.as_ref().map(|read| &read.value), peer.as_ref().map(|read| &read.value));
    let authentication = credentials::read(report, section, secrets, ours, theirs);
    let start = section.read(report, "start", values::flag);
    let terms = terms(report, section, usual.terms.liveness, Side::MobileNode);
    let networks = networks(report, section, terms.as_ref().map(|terms| &terms.protect));
    let (Some(home_address), Some(home_agent), Some(identity), Some(peer), Some(authentication), Some(mut terms)) =
        (home_address, home_agent, identity, peer, authentication, terms)
    else {
        return;
    };
    terms.start = start.as_ref().is_some_and(|start| start.value);
    let (secret, proofs) = split(authentication);
    let profile = MobileNodeProfile {
        name: name.map_or(usual.name, |name| name.value),
        home_address: if let Home::Fixed(address) = home_address.value { address } else { MobilityRole::UNKNOWN },
        ask: ask.map_or(Ask::Prefix(identity.value.fingerprint()), Ask::Address),
        home_agent: home_agent.value.0,
        gateways,
        identity: identity.value,
        home_agent_identity: peer.value,
        secret,
        proofs,
        networks,
        terms,
        settings: usual.settings,
        line: report.line(section.span.start),
    };
    add_mobile_node(&mut draft.config, &profile);
    if let (Some(start), Some(remote)) = (start, draft.config.remotes.last_mut()) {
        remote.start = start.value;
    }
    draft.places.remotes.push(RemotePlace {
        header: section.span.clone(),
        home_address: Some(home_address.span),
        identity: Some(peer.span),
        home_agent: Some(home_agent.span),
    });
    mark(draft, &section.span);
}

/// A shared secret, or what stands in its place.
fn split(authentication: Authentication) -> (SecretId, Option<Arc<Proofs>>) {
    match authentication {
        Authentication::Psk(secret) => (secret, None),
        Authentication::Each(proofs) => (SecretId(0), Some(proofs)),
        Authentication::Manual => (SecretId(0), None),
    }
}

/// Reads the networks behind a mobile router (RFC 3963); they travel in the payload tunnel.
fn networks(report: &mut Report<'_>, section: &mut Section<'_>, protect: Option<&BTreeMap<Protected, Reqids>>) -> Vec<IpNet> {
    if protect.is_some_and(|protect| !protect.contains_key(&Protected::Payload)) {
        section.without_effect(report, "networks", "payload is not protected; add \"payload\" to protect");
        return Vec::new();
    }
    let one = |report: &mut Report<'_>, value| {
        let network = values::prefix(report, value)?;
        if network.prefix_len() == 0 || !matches!(network, IpNet::V6(_)) {
            report
                .error(value.span(), format!("{network} is no mobile network: an IPv6 prefix is needed, for example \"2001:db8:5::/48\""));
            return None;
        }
        Some(network)
    };
    section.read(report, "networks", |report, value| values::list(report, value, one)).map_or_else(Vec::new, |read| read.value)
}

/// What a mobile node writes for its home address.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Home {
    /// The address itself.
    Fixed(IpAddr),
    /// The home agent assigns one.
    Assign,
    /// The home agent tells the prefix, the address is formed here.
    Autoconfigure,
}

fn own_home_address(report: &mut Report<'_>, value: &Value<'_>) -> Option<Home> {
    match value.get_ref() {
        DeValue::String(text) if text == values::ASSIGN => Some(Home::Assign),
        DeValue::String(text) if text == "autoconfigure" => Some(Home::Autoconfigure),
        _ => values::unicast_v6(report, value).map(Home::Fixed),
    }
}

/// The address to ask for, if one is asked for; `None` where the prefix is.
fn ask(report: &mut Report<'_>, section: &mut Section<'_>, home: Option<Home>) -> Option<Option<IpAddr>> {
    match home {
        Some(Home::Fixed(_)) => section.without_effect(report, "home_address_hint", "the home address is fixed"),
        Some(Home::Autoconfigure) => section.without_effect(report, "home_address_hint", "the address is formed here"),
        Some(Home::Assign) | None => {}
    }
    let hint = section.read(report, "home_address_hint", values::unicast_v6);
    (home != Some(Home::Autoconfigure)).then(|| hint.map(|hint| hint.value))
}

/// Notes where the records just added come from.
pub(super) fn mark(draft: &mut Draft, span: &super::Span) {
    draft.places.policies.resize(draft.config.policies.len(), span.clone());
    draft.places.ipsecs.resize(draft.config.ipsecs.len(), span.clone());
}

fn home_agent(report: &mut Report<'_>, section: &mut Section<'_>, secrets: &mut Secrets<'_>, draft: &mut Draft) {
    let address = section.required(report, "address", "address = \"2001:db8:1::1\"", values::unicast_v6);
    let identity = section.required(report, "identity", "identity = \"ha.example\"", values::parsed::<Identity>);
    section.without_effect(report, "start", "a home agent waits for its mobile nodes");
    let terms = terms(report, section, None, Side::HomeAgent);
    let pool = pool(report, section);
    let redirect_to = gateways::redirect(report, section);
    let common = credentials::common(report, section, secrets, identity.as_ref().map(|read| &read.value));
    let mut served = tables(report, section, secrets, (terms.as_ref(), &common), pool.prefix);
    let reqids = draft.config.policies.iter().flat_map(|policy| [policy.reqid_in.0, policy.reqid_out.0]).collect();
    let around = Surroundings {
        words: nodes::MOBILE_NODES,
        home_agent: address.as_ref().map(|read| read.value),
        home_prefix: pool.prefix,
        terms: terms.as_ref(),
        tables: &served.iter().map(|(node, _)| node.clone()).collect::<Vec<_>>(),
        reqids,
    };
    let listed = nodes::read(report, section, secrets, &around);
    let (Some(address), Some(identity), Some(terms)) = (address, identity, terms) else { return };
    if let Some(listed) = listed {
        let place = RemotePlace { header: listed.span, ..RemotePlace::default() };
        served.extend(listed.value.into_iter().map(|node| (node, place.clone())));
    }
    let count = terms.protect.len();
    for (node, place) in &served {
        draft.places.remotes.push(RemotePlace { home_agent: Some(address.span.clone()), ..place.clone() });
        draft.places.policies.extend(std::iter::repeat_n(place.header.clone(), count.saturating_add(node.networks.len())));
    }
    let profile = HomeAgentProfile {
        home_agent: address.value,
        identity: identity.value,
        mobile_nodes: served.into_iter().map(|(node, _)| node).collect(),
        home_prefix: pool.prefix,
        pool: pool.range,
        autoconfiguration: pool.autoconfiguration,
        redirect_to,
        line: report.line(section.span.start),
        terms,
        ..HomeAgentProfile::default()
    };
    add_home_agent(&mut draft.config, &profile);
    mark(draft, &section.span);
}

/// Where the home addresses that we assign come from.
struct Pool {
    prefix: Option<IpNet>,
    range: Option<AddressRange>,
    autoconfiguration: bool,
}

fn pool(report: &mut Report<'_>, section: &mut Section<'_>) -> Pool {
    let prefix = section.read(report, "home_prefix", values::prefix);
    let range = section.read(report, "pool", values::range);
    let autoconfiguration = section.read(report, "autoconfiguration", values::flag).is_none_or(|read| read.value);
    if let Some(prefix) = &prefix
        && prefix.value.addr().is_ipv4()
    {
        report
            .error(prefix.span.clone(), "Mobile IPv6 works with IPv6 addresses only")
            .help("write for example home_prefix = \"2001:db8:1::/64\"");
    }
    if let Some(range) = &range {
        let within = |prefix: &Read<IpNet>| prefix.value.contains(&range.value.start) && prefix.value.contains(&range.value.end);
        match &prefix {
            Some(prefix) if within(prefix) => {}
            Some(prefix) => {
                report
                    .error(range.span.clone(), "the pool is not within the home prefix")
                    .related(prefix.span.clone(), "the home prefix")
                    .help("every home address lies in the prefix of the home link");
            }
            None => {
                report
                    .error(range.span.clone(), "a pool needs the prefix of the home link")
                    .help("add for example: home_prefix = \"2001:db8:1::/64\"");
            }
        }
    }
    Pool { prefix: prefix.map(|read| read.value), range: range.map(|read| read.value), autoconfiguration }
}

/// The nodes that have a table of their own.
fn tables(
    report: &mut Report<'_>,
    section: &mut Section<'_>,
    secrets: &mut Secrets<'_>,
    (terms, common): (Option<&Terms>, &Common),
    prefix: Option<IpNet>,
) -> Vec<(ServedNode, RemotePlace)> {
    let nodes = sections(report, section, "mobile_node", "[home_agent.mobile_node]");
    if nodes.is_empty() && !section.contains("mobile_node") && !section.contains("mobile_nodes_file") {
        report
            .error(section.span.clone(), "[home_agent] serves no mobile node")
            .help("add a table [[home_agent.mobile_node]] with home_address, identity and psk_file for each of them, or mobile_nodes_file");
    }
    let mut served = Vec::new();
    for mut node in nodes {
        served.extend(served_node(report, &mut node, secrets, (terms.map(|terms| &terms.protect), common)));
        node.finish(report);
    }
    for (node, place) in &served {
        let home = place.home_address.clone().unwrap_or_else(|| place.header.clone());
        match prefix {
            None if node.home_address.is_unspecified() => {
                report
                    .error(home, "this home address cannot be assigned: the prefix of the home link is not known")
                    .help("add to [home_agent] for example: home_prefix = \"2001:db8:1::/64\"");
            }
            Some(prefix) if !node.home_address.is_unspecified() && !prefix.contains(&node.home_address) => {
                report
                    .error(home, format!("the home address {} is not in the home prefix, {prefix}", node.home_address))
                    .help("every home address lies in the prefix of the home link");
            }
            _ => {}
        }
    }
    served
}

fn served_node(
    report: &mut Report<'_>,
    section: &mut Section<'_>,
    secrets: &mut Secrets<'_>,
    (protect, common): (Option<&BTreeMap<Protected, Reqids>>, &Common),
) -> Option<(ServedNode, RemotePlace)> {
    let name = section.read(report, "name", values::name);
    let home_address = section.required(report, "home_address", "home_address = \"2001:db8:1::abcd\"", values::home_address);
    let identity = section.required(report, "identity", "identity = \"mn.example\"", values::parsed::<Identity>);
    let authentication = credentials::of_node(report, section, secrets, common, identity.as_ref().map(|read| &read.value));
    let networks = networks(report, section, protect);
    let reqids = reqids(report, section, protect);
    let (home_address, identity) = (home_address?, identity?);
    let place = RemotePlace {
        header: section.span.clone(),
        home_address: Some(home_address.span),
        identity: Some(identity.span),
        home_agent: None,
    };
    let name = name.map_or_else(|| identity.value.to_string(), |name| name.value);
    if values::bad_name(&name, values::LONGEST_NAME).is_some() {
        report
            .error(section.span.clone(), format!("{} needs a name, its identity cannot serve as one", section.title))
            .help("add for example: name = \"mn1\"");
        return None;
    }
    let (secret, proofs) = split(authentication?);
    let node = ServedNode {
        name,
        home_address: home_address.value,
        identity: identity.value,
        secret,
        proofs,
        networks,
        reqids,
        line: report.line(section.span.start),
    };
    Some((node, place))
}

/// Reads what mobile node and home agent configure alike.
fn terms(report: &mut Report<'_>, section: &mut Section<'_>, liveness: Option<Duration>, side: Side) -> Option<Terms> {
    let usual = Terms::default();
    let list = |report: &mut Report<'_>, value| values::list(report, value, |report, one| values::choice(report, one, PROTECTED));
    let protect = section.required(report, "protect", "protect = [\"binding\", \"payload\"]", list);
    let installer = section.required(report, "policies", "policies = \"mip6d\"", |report, value| values::choice(report, value, INSTALLERS));
    let width = section.read(report, "binding_selector", |report, value| values::choice(report, value, BINDING_SELECTORS));
    let ike = section.read(report, "ike", |report, value| values::list(report, value, values::parsed));
    let esp = section.read(report, "esp", |report, value| values::list(report, value, values::parsed));
    let ike_lifetime = section.read(report, "ike_lifetime", values::lifetime(LifetimeOf::Ike));
    let child_lifetime = section.read(report, "child_lifetime", values::lifetime(LifetimeOf::Child));
    let retransmit = section.read(report, "retransmit", values::retransmit);
    let liveness_read = section.read(report, "liveness", values::duration_or_off);
    let initial_contact = section.read(report, "initial_contact", values::flag);
    let replay_window = section.read(report, "replay_window", values::replay_window);
    let dormant = section.read(report, "dormant", values::duration_or_off);
    let movements = movements::read(report, section, side);
    let installer = installer.map(|read| read.value);
    let protect = protect.and_then(|protect| protected(report, protect, installer));
    if let (Some(protect), Some(width)) = (&protect, &width)
        && !protect.contains_key(&Protected::Binding)
    {
        report
            .error(width.span.clone(), "\"binding_selector\" has no effect here: binding messages are not protected")
            .help("add \"binding\" to protect, or remove \"binding_selector\"");
    }
    let own = reqids(report, section, protect.as_ref());
    let mut protect = protect?;
    protect.extend(own);
    Some(Terms {
        protect,
        binding_selector: width.map_or(usual.binding_selector, |read| read.value),
        installer: installer?,
        ike: ike.map_or(usual.ike, |read| read.value),
        esp: esp.map_or(usual.esp, |read| read.value),
        ike_lifetime: ike_lifetime.map_or(usual.ike_lifetime, |read| read.value),
        child_lifetime: child_lifetime.map_or(usual.child_lifetime, |read| read.value),
        retransmit: retransmit.map_or(usual.retransmit, |read| read.value),
        liveness: liveness_read.map_or(liveness, |read| read.value),
        start: false,
        initial_contact: initial_contact.map_or(usual.initial_contact, |read| read.value),
        replay_window: replay_window.map_or(usual.replay_window, |read| read.value),
        dormant: dormant.map_or(usual.dormant, |read| read.value),
        movements,
    })
}

/// What is protected, with the reqids it has where none are written: none for mip6d's policies, whose default is 0, the usual ones for ours.
fn protected(report: &mut Report<'_>, list: Read<Vec<Protected>>, installer: Option<Installer>) -> Option<BTreeMap<Protected, Reqids>> {
    let mut protect = BTreeMap::new();
    for what in list.value {
        let reqids = if installer == Some(Installer::Us) { what.usual_reqids() } else { Reqids::default() };
        if protect.insert(what, reqids).is_some() {
            report.error(list.span.clone(), format!("\"{}\" stands twice in this list", what.name())).help("keep one of them");
        }
    }
    Some(protect)
}

/// Reads `reqids = { binding = [1, 2], .. }`.
fn reqids(
    report: &mut Report<'_>,
    section: &mut Section<'_>,
    protect: Option<&BTreeMap<Protected, Reqids>>,
) -> BTreeMap<Protected, Reqids> {
    let mut found = BTreeMap::new();
    let Some(entry) = section.entry("reqids") else { return found };
    let Some(mut table) = Section::of(report, "reqids", entry.value) else { return found };
    for what in Protected::ALL {
        let Some(key) = table.entry(what.name()) else { continue };
        if protect.is_some_and(|protect| !protect.contains_key(&what)) {
            report
                .error(key.key.span(), format!("these reqids have no effect: {} is not protected", what.name()))
                .help(format!("add \"{}\" to protect, or remove its reqids", what.name()));
            continue;
        }
        if let Some((to_home_agent, to_mobile_node)) = values::reqid_pair(report, key.value) {
            found.insert(what, Reqids { to_home_agent, to_mobile_node });
        }
    }
    table.finish(report);
    found
}
