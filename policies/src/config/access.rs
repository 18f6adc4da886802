//! The tables `[road_warrior]` and `[gateway]`: profiles without Mobile IPv6 that expand into remotes and policies.

use std::time::Duration;

use ipnet::IpNet;

use super::diagnostics::Report;
use super::document::{Section, Value};
use super::nodes::{self, Numbers, Surroundings};
use super::profiles::{mark, sections};
use super::values::{self, LifetimeOf};
use super::{Draft, RemotePlace, Secrets};
use crate::access::{self, Client, GatewayProfile, RoadWarriorProfile, add_gateway, add_road_warrior};
use crate::profile::{Protected, Reqids, ServedNode, Terms};
use crate::{AddressRange, Identity};

/// Reads the profiles of a file and adds their records.
pub(super) fn read<'a>(report: &mut Report<'_>, root: &mut Section<'a>, secrets: &mut Secrets<'_>, draft: &mut Draft) {
    for mut section in sections(report, root, "road_warrior", "[road_warrior]") {
        road_warrior(report, &mut section, secrets, draft);
        section.finish(report);
    }
    if let Some(entry) = root.entry("gateway")
        && let Some(mut section) = Section::of(report, "[gateway]", entry.value)
    {
        gateway(report, &mut section, secrets, draft);
        section.finish(report);
    }
}

fn road_warrior(report: &mut Report<'_>, section: &mut Section<'_>, secrets: &mut Secrets<'_>, draft: &mut Draft) {
    let usual = RoadWarriorProfile::default();
    let name = section.read(report, "name", values::name);
    let address = section.required(report, "address", "address = \"assign\"", values::home_address);
    if address.as_ref().is_some_and(|read| !read.value.is_unspecified()) {
        section.without_effect(report, "address_hint", "the address is fixed");
    }
    let hint = section.read(report, "address_hint", values::unicast_v6);
    let gateway = section.required(report, "gateway", "gateway = \"2001:db8:1::1\"", values::unicast_v6);
    let identity = section.required(report, "identity", "identity = \"client.example\"", values::parsed::<Identity>);
    let peer = section.required(report, "gateway_identity", "gateway_identity = \"gw.example\"", values::parsed::<Identity>);
    let secret = secrets.read(report, section);
    let networks = networks(report, section);
    let start = section.read(report, "start", values::flag);
    let reqids = section.read(report, "reqids", values::reqid_pair);
    let mut terms = terms(report, section, &usual.terms);
    terms.start = start.is_none_or(|read| read.value);
    if let Some(read) = reqids {
        let (to_home_agent, to_mobile_node) = read.value;
        terms.protect = [(Protected::Payload, Reqids { to_home_agent, to_mobile_node })].into();
    }
    let (Some(address), Some(gateway), Some(identity), Some(peer), Some(secret)) = (address, gateway, identity, peer, secret) else {
        return;
    };
    let profile = RoadWarriorProfile {
        name: name.map_or(usual.name, |read| read.value),
        inner_address: address.value,
        hint: hint.map(|read| read.value),
        gateway: gateway.value,
        identity: identity.value,
        gateway_identity: peer.value,
        secret,
        networks: networks.unwrap_or_default(),
        terms,
        line: report.line(section.span.start),
    };
    add_road_warrior(&mut draft.config, &profile);
    draft.places.remotes.push(RemotePlace {
        header: section.span.clone(),
        home_address: Some(address.span),
        identity: Some(peer.span),
        home_agent: Some(gateway.span),
    });
    mark(draft, &section.span);
}

fn gateway(report: &mut Report<'_>, section: &mut Section<'_>, secrets: &mut Secrets<'_>, draft: &mut Draft) {
    let address = section.required(report, "address", "address = \"2001:db8:1::1\"", values::unicast_v6);
    let identity = section.required(report, "identity", "identity = \"gw.example\"", values::parsed::<Identity>);
    let pool = section.read(report, "pool", values::range).filter(|pool| {
        let fits = !pool.value.start.is_ipv4();
        if !fits {
            report.error(pool.span.clone(), "addresses of clients are IPv6").help("write for example pool = \"2001:db8:9::/64\"");
        }
        fits
    });
    section.without_effect(report, "start", "a gateway waits for its clients");
    let networks = networks(report, section).unwrap_or_default();
    let terms = terms(report, section, &access::terms());
    let pool = pool.map(|read| read.value);
    let known = draft.config.policies.iter().flat_map(|policy| [policy.reqid_in.0, policy.reqid_out.0]);
    let mut around = Surroundings {
        words: nodes::CLIENTS,
        home_agent: address.as_ref().map(|read| read.value),
        home_prefix: pool.and_then(access::covering),
        terms: Some(&terms),
        tables: &[],
        reqids: known.collect(),
    };
    let base = Base { networks: &networks, terms: &terms, pool };
    let tables = tables(report, section, secrets, &base, &mut Numbers::new(&terms, &around));
    let listed = served(&tables);
    around.tables = &listed;
    let file = nodes::read(report, section, secrets, &around);
    if tables.is_empty() && file.is_none() && !section.contains("client") && !section.contains("clients_file") {
        report
            .error(section.span.clone(), "[gateway] serves no client")
            .help("add a table [[gateway.client]] with identity, address and psk_file for each of them, or clients_file");
    }
    let (Some(address), Some(identity)) = (address, identity) else { return };
    let (mut clients, mut places): (Vec<Client>, Vec<RemotePlace>) = tables.into_iter().unzip();
    if let Some(file) = file {
        let place = RemotePlace { header: file.span, ..RemotePlace::default() };
        places.extend(std::iter::repeat_n(place, file.value.len()));
        clients.extend(file.value.into_iter().map(|node| base.client(node)));
    }
    draft.places.policies.extend(places.iter().map(|place| place.header.clone()));
    draft.places.remotes.extend(places.into_iter().map(|place| RemotePlace { home_agent: Some(address.span.clone()), ..place }));
    let line = report.line(section.span.start);
    add_gateway(&mut draft.config, &GatewayProfile { address: address.value, identity: identity.value, clients, pool, line });
    mark(draft, &section.span);
}

/// What holds for every client that says nothing else.
struct Base<'a> {
    networks: &'a [IpNet],
    terms: &'a Terms,
    pool: Option<AddressRange>,
}

impl Base<'_> {
    /// A client of which the file says everything that is its own.
    fn client(&self, node: ServedNode) -> Client {
        let mut terms = self.terms.clone();
        terms.protect.extend(node.reqids);
        Client {
            name: node.name,
            inner_address: node.home_address,
            identity: node.identity,
            secret: node.secret,
            networks: self.networks.to_vec(),
            terms,
            line: node.line,
        }
    }
}

/// The clients in the words of the file, so that its lines are compared with them.
fn served(clients: &[(Client, RemotePlace)]) -> Vec<ServedNode> {
    let node = |(client, _): &(Client, RemotePlace)| ServedNode {
        home_address: client.inner_address,
        identity: client.identity.clone(),
        reqids: client.terms.protect.clone(),
        ..ServedNode::default()
    };
    clients.iter().map(node).collect()
}

/// The clients that have a table of their own.
fn tables(
    report: &mut Report<'_>,
    section: &mut Section<'_>,
    secrets: &mut Secrets<'_>,
    base: &Base<'_>,
    numbers: &mut Numbers,
) -> Vec<(Client, RemotePlace)> {
    let mut clients = Vec::new();
    for mut table in sections(report, section, "client", "[gateway.client]") {
        clients.extend(client(report, &mut table, secrets, base, numbers));
        table.finish(report);
    }
    clients
}

fn client(
    report: &mut Report<'_>,
    section: &mut Section<'_>,
    secrets: &mut Secrets<'_>,
    base: &Base<'_>,
    numbers: &mut Numbers,
) -> Option<(Client, RemotePlace)> {
    let name = section.read(report, "name", values::name);
    let address = section.required(report, "address", "address = \"assign\"", values::home_address);
    let identity = section.required(report, "identity", "identity = \"client.example\"", values::parsed::<Identity>);
    let secret = secrets.read(report, section);
    let networks = networks(report, section).unwrap_or_else(|| base.networks.to_vec());
    let reqids = section.read(report, "reqids", values::reqid_pair);
    let mut terms = terms(report, section, base.terms);
    let (address, identity) = (address?, identity?);
    if address.value.is_unspecified() && base.pool.is_none() {
        report
            .error(address.span.clone(), "this address cannot be assigned: there is no pool")
            .help("add to [gateway] for example: pool = \"2001:db8:9::/64\"");
    }
    let name = name.map_or_else(|| identity.value.to_string(), |read| read.value);
    if values::bad_name(&name, values::LONGEST_NAME).is_some() {
        report
            .error(section.span.clone(), format!("{} needs a name, its identity cannot serve as one", section.title))
            .help("add for example: name = \"laptop\"");
        return None;
    }
    terms.protect = match reqids {
        Some(read) => [(Protected::Payload, Reqids { to_home_agent: read.value.0, to_mobile_node: read.value.1 })].into(),
        None => numbers.allot(identity.value.fingerprint()),
    };
    let place =
        RemotePlace { header: section.span.clone(), home_address: Some(address.span), identity: Some(identity.span), home_agent: None };
    let line = report.line(section.span.start);
    let client = Client { name, inner_address: address.value, identity: identity.value, secret: secret?, networks, terms, line };
    Some((client, place))
}

/// Reads the networks behind the gateway; `None` if nothing is said.
fn networks(report: &mut Report<'_>, section: &mut Section<'_>) -> Option<Vec<IpNet>> {
    let one = |report: &mut Report<'_>, value: &Value<'_>| {
        let network = values::prefix(report, value)?;
        if matches!(network, IpNet::V4(_)) {
            report.error(value.span(), format!("{network} is IPv4; tunnels carry IPv6")).help("write for example \"2001:db8:b::/64\"");
            return None;
        }
        Some(network.trunc())
    };
    section.read(report, "networks", |report, value| values::list(report, value, one)).map(|read| read.value)
}

/// Reads proposals, lifetimes and so on; what is not said is as in `usual`.
fn terms(report: &mut Report<'_>, section: &mut Section<'_>, usual: &Terms) -> Terms {
    let ike = section.read(report, "ike", |report, value| values::list(report, value, values::parsed));
    let esp = section.read(report, "esp", |report, value| values::list(report, value, values::parsed));
    let ike_lifetime = section.read(report, "ike_lifetime", values::lifetime(LifetimeOf::Ike));
    let child_lifetime = section.read(report, "child_lifetime", values::lifetime(LifetimeOf::Child));
    let retransmit = section.read(report, "retransmit", values::retransmit);
    let liveness: Option<Option<Duration>> = section.read(report, "liveness", values::duration_or_off).map(|read| read.value);
    let replay_window = section.read(report, "replay_window", values::replay_window);
    Terms {
        ike: ike.map_or_else(|| usual.ike.clone(), |read| read.value),
        esp: esp.map_or_else(|| usual.esp.clone(), |read| read.value),
        ike_lifetime: ike_lifetime.map_or(usual.ike_lifetime, |read| read.value),
        child_lifetime: child_lifetime.map_or(usual.child_lifetime, |read| read.value),
        retransmit: retransmit.map_or(usual.retransmit, |read| read.value),
        liveness: liveness.unwrap_or(usual.liveness),
        replay_window: replay_window.map_or(usual.replay_window, |read| read.value),
        ..usual.clone()
    }
}

#[cfg(test)]
mod tests;
