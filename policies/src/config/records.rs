//! The five records of the racoon2 line: `[sa]`, `[ipsec]`, `[remote]`, `[policy]`, `[selector]`.
//! Read from the one that is referred to towards the one that refers, so that every reference is resolved when it is met.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::credentials;
use super::diagnostics::Report;
use super::document::{Read, Section, Span, Value, printable};
use super::gateways;
use super::manual::{SaRecord, manual};
use super::movements::{self, Side};
use super::profiles::INSTALLERS;
use super::values::{self, LifetimeOf};
use super::{Draft, RemotePlace, Secrets};
use crate::algorithm::{ChildProposal, default_child_proposals, nearest};
use crate::model::{Authentication, Endpoints};
use crate::profile::Terms;
use crate::{
    Action, Identity, Installer, Ipsec, IpsecId, MobilityRole, Mode, Policy, Protocol, Remote, RemoteId, Reqid, Traffic, TrafficItem,
};

/// Name of the ipsec record that policies have which name none.
const DEFAULT_IPSEC: &str = "default";

/// Kernel priority of policies that name none: behind all of mip6d's.
const DEFAULT_PRIORITY: u32 = 1000;

/// Most characters of a record's key: an expanded one may be made of two names.
const LONGEST_KEY: usize = 3 * values::LONGEST_NAME;

/// Records of one kind by name; `None` for one that is there but wrong.
struct Named<T> {
    kind: &'static str,
    records: BTreeMap<String, (Span, Option<T>)>,
    used: BTreeSet<String>,
}

impl<T: Clone> Named<T> {
    const fn new(kind: &'static str) -> Self {
        Self { kind, records: BTreeMap::new(), used: BTreeSet::new() }
    }

    /// The record that a value names; complains if there is none.
    fn find(&mut self, report: &mut Report<'_>, value: &Value<'_>) -> Option<T> {
        let name = values::text(report, value)?;
        self.used.insert(name.to_owned());
        if let Some((_, record)) = self.records.get(name) {
            return record.clone();
        }
        let near = nearest(name, self.records.keys().map(String::as_str));
        let help =
            near.map_or_else(|| format!("add a table [{}.{}]", self.kind, printable(name)), |near| format!("did you mean \"{near}\"?"));
        report.error(value.span(), format!("there is no [{}.{}]", self.kind, printable(name))).help(help);
        None
    }

    /// Warns about records that nothing refers to.
    fn warn_unused(&self, report: &mut Report<'_>) {
        for (name, (span, _)) in self.records.iter().filter(|(name, _)| !self.used.contains(*name)) {
            report.warn(span.clone(), format!("nothing refers to [{}.{name}]", self.kind));
        }
    }
}

/// Reads the records of a file.
pub(super) fn read<'a>(report: &mut Report<'_>, root: &mut Section<'a>, secrets: &mut Secrets<'_>, draft: &mut Draft) {
    let mut sas = Named::new("sa");
    for (name, mut section) in tables(report, root, "sa") {
        let record = sa(report, &mut section, secrets);
        sas.records.insert(name, (section.span.clone(), record));
        section.finish(report);
    }
    let mut ipsecs = Named::new("ipsec");
    for (name, mut section) in tables(report, root, "ipsec") {
        let record = ipsec(report, &mut section, &name, &mut sas);
        let id = record.map(|record| add_ipsec(draft, record, section.span.clone()));
        ipsecs.records.insert(name, (section.span.clone(), id));
        section.finish(report);
    }
    let mut remotes = Named::new("remote");
    let mut held = Vec::new();
    for (name, mut section) in tables(report, root, "remote") {
        let record = remote(report, &mut section, &name, secrets);
        let id = record.map(|(record, place, may_hold)| {
            held.push(may_hold);
            add_remote(draft, record, place)
        });
        remotes.records.insert(name, (section.span.clone(), id));
        section.finish(report);
    }
    let mut policies = Named::new("policy");
    for (name, mut section) in tables(report, root, "policy") {
        let record = policy(report, &mut section, draft, &mut ipsecs, &mut remotes);
        policies.records.insert(name, (section.span.clone(), record));
        section.finish(report);
    }
    for (name, mut section) in tables(report, root, "selector") {
        if let Some(record) = selector(report, &mut section, name, &mut policies) {
            draft.config.policies.push(record);
            draft.places.policies.push(section.span.clone());
        }
        section.finish(report);
    }
    fill_pad(draft, held);
    if !report.has_errors() {
        sas.warn_unused(report);
        ipsecs.warn_unused(report);
        remotes.warn_unused(report);
        policies.warn_unused(report);
    }
}

/// The tables `[kind.NAME]` in the order of the file.
fn tables<'a>(report: &mut Report<'_>, root: &mut Section<'a>, kind: &'static str) -> Vec<(String, Section<'a>)> {
    let Some(entry) = root.entry(kind) else { return Vec::new() };
    let Some(parent) = Section::of(report, format!("[{kind}.NAME]"), entry.value) else { return Vec::new() };
    let mut found = Vec::new();
    for child in parent.children() {
        let name = child.key.get_ref().as_ref();
        let title = format!("[{kind}.{}]", printable(name));
        if let Some(why) = values::bad_name(name, LONGEST_KEY) {
            report.error(child.key.span(), format!("\"{}\" cannot be a name: {why}", printable(name)));
        } else if !matches!(child.value.get_ref(), toml::de::DeValue::Table(_)) {
            report
                .error(child.key.span(), format!("\"{name}\" is no table"))
                .help(format!("give the record a name: [{kind}.NAME], and write its keys below"));
        } else if let Some(section) = Section::of(report, title, child.value) {
            found.push((name.to_owned(), section));
        }
    }
    found
}

fn add_ipsec(draft: &mut Draft, record: Ipsec, span: Span) -> IpsecId {
    let id = IpsecId(u32::try_from(draft.config.ipsecs.len()).unwrap_or(u32::MAX));
    draft.config.ipsecs.push(record);
    draft.places.ipsecs.push(span);
    id
}

fn add_remote(draft: &mut Draft, record: Remote, place: RemotePlace) -> RemoteId {
    let id = RemoteId(u32::try_from(draft.config.remotes.len()).unwrap_or(u32::MAX));
    draft.config.remotes.push(record);
    draft.places.remotes.push(place);
    id
}

fn sa(report: &mut Report<'_>, section: &mut Section<'_>, secrets: &mut Secrets<'_>) -> Option<SaRecord> {
    if let Some(entry) = section.entry("protocol") {
        if entry.value.get_ref().as_str() == Some("ah") {
            report
                .error(entry.value.span(), "AH is not available")
                .help("ESP with the null cipher protects integrity alone: protocol = \"esp\" and proposal = \"null-sha256\"");
        } else {
            values::choice(report, entry.value, &[("esp", Protocol::Esp)]);
        }
    }
    let proposals = section.required(report, "proposal", "proposal = \"aes128gcm16\"", |report, value| {
        values::list(report, value, values::parsed::<ChildProposal>)
    });
    let Some(proposals) = proposals else {
        // Known keys all the same, so that only what is missing is complained of.
        let _ = (section.entry("out"), section.entry("in"));
        return None;
    };
    let by_hand = section.contains("out") || section.contains("in");
    let manual = manual(report, section, secrets, (&proposals.value, proposals.span));
    (by_hand == manual.is_some()).then_some(SaRecord { proposals: proposals.value, manual })
}

fn ipsec(report: &mut Report<'_>, section: &mut Section<'_>, name: &str, sas: &mut Named<SaRecord>) -> Option<Ipsec> {
    let usual = Terms::default();
    let mut broken = false;
    let mut proposals = Vec::new();
    let mut manual = None;
    if let Some(entry) = section.entry("sa") {
        let names = match entry.value.get_ref() {
            toml::de::DeValue::Array(elements) => elements.iter().collect(),
            _ => vec![entry.value],
        };
        if names.is_empty() {
            report.error(entry.value.span(), "this list is empty, so nothing could be negotiated").help("name at least one [sa.NAME]");
        }
        for name in &names {
            match sas.find(report, name) {
                Some(found) => {
                    proposals.extend(found.proposals);
                    manual = manual.or(found.manual);
                }
                None => broken = true,
            }
        }
        if manual.is_some() && names.len() > 1 {
            report
                .error(entry.value.span(), "an SA configured by hand is not negotiated, so nothing can stand beside it")
                .help("name the manual SA alone, or only negotiated ones");
            broken = true;
        }
        broken |= proposals.is_empty();
    } else {
        proposals = default_child_proposals();
    }
    let lifetime = section.read(report, "lifetime", values::lifetime(LifetimeOf::Child));
    if manual.is_some() {
        for key in ["lifetime", "replay_window", "dormant"] {
            section.without_effect(report, key, "an SA configured by hand does not end and cannot tell replayed packets");
        }
    }
    let replay_window = section.read(report, "replay_window", values::replay_window);
    let dormant = section.read(report, "dormant", values::duration_or_off);
    //= rfc4303#3.4.3
    //# no anti-replay for SAs keyed by hand: their counters start again after a restart
    let usual_window = if manual.is_some() { 0 } else { usual.replay_window };
    (!broken).then(|| Ipsec {
        name: name.to_owned(),
        protocol: Protocol::Esp,
        proposals,
        lifetime: lifetime.map_or(usual.child_lifetime, |read| read.value),
        replay_window: replay_window.map_or(usual_window, |read| read.value),
        dormant: dormant.map_or(usual.dormant, |read| read.value),
        manual,
    })
}

const ROLES: &[(&str, Role)] = &[
    ("none", Role::None),
    ("mobile-node", Role::MobileNode),
    ("home-agent", Role::HomeAgent),
    ("road-warrior", Role::RoadWarrior),
    ("gateway", Role::Gateway),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    None,
    MobileNode,
    HomeAgent,
    RoadWarrior,
    Gateway,
}

/// Who both ends are and how they prove it.
struct Proof {
    identity: Identity,
    remote_identity: Option<Read<Identity>>,
    authentication: Authentication,
}

/// Reads `keying`, the identities and the key; a remote keyed by hand has neither identities nor a pre-shared key.
fn proof(report: &mut Report<'_>, section: &mut Section<'_>, secrets: &mut Secrets<'_>) -> Option<Proof> {
    let words = &[("ike", false), ("manual", true)];
    let manual = section.read(report, "keying", |report, value| values::choice(report, value, words)).is_some_and(|read| read.value);
    if manual {
        for key in [
            "identity",
            "remote_identity",
            "psk_file",
            "psk",
            "secret",
            "certificate",
            "private_key",
            "authorities",
            "peer_certificate",
            "sha1_signatures",
            "ike",
            "lifetime",
            "retransmit",
            "liveness",
            "initial_contact",
            "start",
        ] {
            section.without_effect(report, key, "this remote is keyed by hand");
        }
        return Some(Proof { identity: by_hand("local"), remote_identity: None, authentication: Authentication::Manual });
    }
    let identity = section.required(report, "identity", "identity = \"mn.example\"", values::parsed::<Identity>);
    let remote_identity = section.required(report, "remote_identity", "remote_identity = \"ha.example\"", values::parsed::<Identity>);
    let (ours, theirs) = (identity.as_ref().map(|read| &read.value), remote_identity.as_ref().map(|read| &read.value));
    let authentication = credentials::read(report, section, secrets, ours, theirs);
    Some(Proof { identity: identity?.value, remote_identity: Some(remote_identity?), authentication: authentication? })
}

/// The identity of a remote that never proves one: of the reserved type 0 of RFC 7296 3.5.
fn by_hand(name: &str) -> Identity {
    Identity::Other { id_type: 0, data: name.as_bytes().to_vec() }
}

type RemoteRead = (Remote, RemotePlace, Option<Vec<IpNet>>);

fn remote(report: &mut Report<'_>, section: &mut Section<'_>, name: &str, secrets: &mut Secrets<'_>) -> Option<RemoteRead> {
    let usual = Terms::default();
    let local_address = section.read(report, "local_address", values::address);
    let remote_address = section.read(report, "remote_address", |report, value| gateways::addresses(report, value, values::address));
    let allowed_from = section.read(report, "allowed_from", |report, value| values::list(report, value, values::prefix));
    let may_hold = section.read(report, "may_hold", |report, value| values::list(report, value, values::prefix));
    let proof = proof(report, section, secrets);
    let role = section.read(report, "role", |report, value| values::choice(report, value, ROLES)).map_or(Role::None, |read| read.value);
    let home_address = home_address(report, section, role);
    let ike = section.read(report, "ike", |report, value| values::list(report, value, values::parsed));
    let lifetime = section.read(report, "lifetime", values::lifetime(LifetimeOf::Ike));
    let retransmit = section.read(report, "retransmit", values::retransmit);
    let liveness = section.read(report, "liveness", values::duration_or_off);
    let initial_contact = section.read(report, "initial_contact", values::flag);
    let start = section.read(report, "start", values::flag);
    let manual = matches!(proof, Some(Proof { authentication: Authentication::Manual, .. }));
    let called = match &remote_address {
        _ if manual => Some("this remote is keyed by hand"),
        None => Some("this remote has no \"remote_address\", it calls us"),
        Some(_) => None,
    };
    let several = remote_address.as_ref().map_or((None, Vec::new()), |read| (Some(read.value.0), read.value.1.clone()));
    if let Some(read) = remote_address.as_ref().filter(|_| manual && !several.1.is_empty()) {
        report.error(read.span.clone(), "SAs configured by hand are with one address").help("keep one of the addresses");
    }
    let mut gateways = gateways::read(report, section, several, called);
    if manual {
        section.without_effect(report, "redirect_to", "this remote is keyed by hand");
    }
    gateways.redirect_to = gateways::redirect(report, section);
    let side = match (&proof, role) {
        (Some(Proof { authentication: Authentication::Manual, .. }), _) => {
            Side::Neither("this remote is keyed by hand, which clears the K bit")
        }
        (_, Role::None | Role::RoadWarrior | Role::Gateway) => Side::Neither("the remote has no mobility role"),
        (_, Role::MobileNode) => Side::MobileNode,
        (_, Role::HomeAgent) => Side::HomeAgent,
    };
    let movements = movements::read(report, section, side);
    if let Some(start) = &start
        && start.value
        && remote_address.is_none()
    {
        report
            .error(start.span.clone(), "this remote cannot be called at start-up: it has no \"remote_address\"")
            .help("add remote_address, or remove \"start\"");
    }
    let (home_address, home_span) = home_address?;
    let Proof { identity, remote_identity, authentication } = proof?;
    let home_agent = match role {
        Role::MobileNode | Role::RoadWarrior => remote_address.as_ref().map(|read| read.span.clone()),
        _ => local_address.as_ref().map(|read| read.span.clone()),
    };
    let place = RemotePlace {
        header: section.span.clone(),
        home_address: home_span,
        identity: remote_identity.as_ref().map(|read| read.span.clone()),
        home_agent,
    };
    let record = Remote {
        name: name.to_owned(),
        local_address: local_address.map(|read| read.value),
        remote_address: remote_address.map(|read| read.value.0),
        gateways,
        allowed_from: allowed_from.map_or_else(Vec::new, |read| read.value),
        local_identity: identity,
        remote_identity: remote_identity.map_or_else(|| by_hand(name), |read| read.value),
        authentication,
        role: home_address,
        assigned: None,
        proposals: ike.map_or(usual.ike, |read| read.value),
        lifetime: lifetime.map_or(usual.ike_lifetime, |read| read.value),
        retransmit: retransmit.map_or(usual.retransmit, |read| read.value),
        liveness: liveness.map_or(usual_liveness(role), |read| read.value),
        initial_contact: initial_contact.is_none_or(|read| read.value),
        start: start.is_some_and(|read| read.value),
        movements,
        line: report.line(section.span.start),
    };
    Some((record, place, may_hold.map(|read| read.value)))
}

/// A home agent does not take a sleeping mobile node for dead; everybody else looks after a minute.
const fn usual_liveness(role: Role) -> Option<Duration> {
    match role {
        Role::HomeAgent => None,
        Role::None | Role::MobileNode | Role::RoadWarrior | Role::Gateway => Some(Duration::from_secs(60)),
    }
}

/// The role with the home address it needs, and where the home address stands.
fn home_address(report: &mut Report<'_>, section: &mut Section<'_>, role: Role) -> Option<(MobilityRole, Option<Span>)> {
    let mobile = matches!(role, Role::MobileNode | Role::HomeAgent);
    if !mobile {
        section.without_effect(report, "home_address", "the remote has no mobility role; write role = \"mobile-node\" or \"home-agent\"");
    }
    if mobile || role == Role::None {
        section.without_effect(report, "inner_address", "write role = \"road-warrior\" or \"gateway\"");
    }
    let (key, example) = if mobile { ("home_address", "2001:db8:1::abcd") } else { ("inner_address", "2001:db8:1::77") };
    if role == Role::None {
        return Some((MobilityRole::None, None));
    }
    let read = section.required(report, key, &format!("{key} = \"{example}\""), values::unicast_v6)?;
    let address = read.value;
    let role = match role {
        Role::None => MobilityRole::None,
        Role::MobileNode => MobilityRole::MobileNode { home_address: address },
        Role::HomeAgent => MobilityRole::HomeAgent { home_address: address },
        Role::RoadWarrior => MobilityRole::RoadWarrior { inner_address: address },
        Role::Gateway => MobilityRole::Gateway { inner_address: address },
    };
    Some((role, Some(read.span)))
}

/// A policy record before selectors give it traffic.
#[derive(Clone)]
struct PolicyRecord {
    action: Action,
    mode: Mode,
    endpoints: Endpoints,
    installer: Installer,
    priority: u32,
    ipsec: IpsecId,
    remote: RemoteId,
}

fn policy(
    report: &mut Report<'_>,
    section: &mut Section<'_>,
    draft: &mut Draft,
    ipsecs: &mut Named<IpsecId>,
    remotes: &mut Named<RemoteId>,
) -> Option<PolicyRecord> {
    let actions = &[("protect", Action::Protect), ("bypass", Action::Bypass), ("discard", Action::Discard)];
    let action = section.read(report, "action", |report, value| values::choice(report, value, actions));
    let action = action.map_or(Action::Protect, |read| read.value);
    let priority = section.read(report, "priority", values::number32(0));
    let installer =
        section.required(report, "installed_by", "installed_by = \"watari\"", |report, value| values::choice(report, value, INSTALLERS));
    let remote_name = section.required(report, "remote", "remote = \"NAME\"", |_, value| Some(value));
    let remote = remote_name.and_then(|read| remotes.find(report, read.value));
    let role = remote.and_then(|id| draft.config.remote(id)).map_or(MobilityRole::None, |remote| remote.role);
    let mut shape = Some((Mode::Transport, Endpoints::Ike));
    if action == Action::Protect {
        let modes = &[("transport", Mode::Transport), ("tunnel", Mode::Tunnel)];
        let mode = section.required(report, "mode", "mode = \"transport\"", |report, value| values::choice(report, value, modes));
        let endpoints = endpoints(report, section, mode.as_ref().map(|mode| mode.value), role);
        shape = mode.map(|mode| mode.value).zip(endpoints);
    } else {
        for key in ["mode", "endpoints", "ipsec"] {
            section.without_effect(report, key, "the policy does not protect its traffic");
        }
    }
    let ipsec = match section.entry("ipsec") {
        Some(entry) => ipsecs.find(report, entry.value)?,
        None => default_ipsec(section, draft, ipsecs)?,
    };
    let (mode, endpoints) = shape?;
    Some(PolicyRecord {
        action,
        mode,
        endpoints,
        installer: installer?.value,
        priority: priority.map_or(DEFAULT_PRIORITY, |read| read.value),
        ipsec,
        remote: remote?,
    })
}

/// The record called "default", made from the default proposals if the file has none.
fn default_ipsec(section: &Section<'_>, draft: &mut Draft, ipsecs: &mut Named<IpsecId>) -> Option<IpsecId> {
    ipsecs.used.insert(DEFAULT_IPSEC.to_owned());
    if let Some((_, record)) = ipsecs.records.get(DEFAULT_IPSEC) {
        return *record;
    }
    let usual = Terms::default();
    let record = Ipsec {
        name: DEFAULT_IPSEC.to_owned(),
        protocol: Protocol::Esp,
        proposals: usual.esp,
        lifetime: usual.child_lifetime,
        replay_window: usual.replay_window,
        dormant: usual.dormant,
        manual: None,
    };
    let id = add_ipsec(draft, record, section.span.clone());
    ipsecs.records.insert(DEFAULT_IPSEC.to_owned(), (section.span.clone(), Some(id)));
    Some(id)
}

const ENDPOINTS: &[(&str, Endpoints)] = &[("selector", Endpoints::Selector), ("ike", Endpoints::Ike), ("template", Endpoints::Template)];

/// Reads `endpoints`; what is usual depends on mode and role.
fn endpoints(report: &mut Report<'_>, section: &mut Section<'_>, mode: Option<Mode>, role: MobilityRole) -> Option<Endpoints> {
    let mobile = role.is_mobile_ipv6();
    let Some(entry) = section.entry("endpoints") else {
        return Some(match mode? {
            Mode::Transport if mobile => Endpoints::Selector,
            Mode::Tunnel if mobile => Endpoints::Template,
            _ => Endpoints::Ike,
        });
    };
    let read = match entry.value.get_ref() {
        toml::de::DeValue::Array(_) => fixed_endpoints(report, entry.value)?,
        _ => values::choice(report, entry.value, ENDPOINTS)?,
    };
    let clash = match (mode?, read) {
        (Mode::Transport, Endpoints::Template) => Some("a transport-mode template has no addresses; write \"selector\" or \"ike\""),
        (Mode::Transport, Endpoints::Fixed { .. }) => Some("transport mode has no addresses of its own; write \"selector\" or \"ike\""),
        (Mode::Tunnel, Endpoints::Selector) => {
            Some("a tunnel between the selector's own addresses hides nothing; write \"template\" or \"ike\"")
        }
        (Mode::Tunnel, Endpoints::Template) if !mobile => {
            Some("nobody moves the template of a remote without mobility role; write \"ike\" or [\"LOCAL\", \"REMOTE\"]")
        }
        _ => None,
    };
    if let Some(why) = clash {
        report.error(entry.value.span(), "these endpoints do not fit the policy's mode").help(why);
        return None;
    }
    Some(read)
}

fn fixed_endpoints(report: &mut Report<'_>, value: &Value<'_>) -> Option<Endpoints> {
    let addresses: Vec<IpAddr> = values::list(report, value, values::address)?;
    let [local, remote] = addresses.as_slice() else {
        report.error(value.span(), "fixed endpoints are two addresses").help("write [\"LOCAL\", \"REMOTE\"]");
        return None;
    };
    if local.is_ipv4() != remote.is_ipv4() {
        report
            .error(value.span(), format!("{local} and {remote} are of different families"))
            .help("both ends of a tunnel are IPv6, or both are IPv4");
        return None;
    }
    Some(Endpoints::Fixed { local: *local, remote: *remote })
}

fn selector(report: &mut Report<'_>, section: &mut Section<'_>, key: String, policies: &mut Named<PolicyRecord>) -> Option<Policy> {
    let side = |report: &mut Report<'_>, value| values::list(report, value, values::parsed::<TrafficItem>);
    let local = section.required(report, "local", "local = \"2001:db8:1::abcd mobility-header BU\"", side);
    let remote = section.required(report, "remote", "remote = \"2001:db8:1::1 mobility-header BA\"", side);
    let reqid_out = section.read(report, "reqid_out", values::number32(0));
    let reqid_in = section.read(report, "reqid_in", values::number32(0));
    let name = section.read(report, "name", values::name);
    let reference = section.required(report, "policy", "policy = \"NAME\"", |_, value| Some(value))?;
    let policy = policies.find(report, reference.value)?;
    let traffic = Traffic { local: local?.value, remote: remote?.value };
    Some(Policy {
        name: name.map_or(key, |read| read.value),
        traffic,
        action: policy.action,
        mode: policy.mode,
        reqid_out: Reqid(reqid_out.map_or(0, |read| read.value)),
        reqid_in: Reqid(reqid_in.map_or(0, |read| read.value)),
        priority: policy.priority,
        endpoints: policy.endpoints,
        installer: policy.installer,
        ipsec: policy.ipsec,
        remote: policy.remote,
        line: report.line(section.span.start),
    })
}

/// Lets each remote hold what its record says, else the remote side of its policies.
fn fill_pad(draft: &mut Draft, held: Vec<Option<Vec<IpNet>>>) {
    let mut sides: Vec<Vec<IpNet>> = vec![Vec::new(); held.len()];
    for policy in draft.config.policies.iter().filter(|policy| policy.action == Action::Protect) {
        if let Some(side) = sides.get_mut(policy.remote.0 as usize) {
            side.extend(policy.traffic.remote.iter().flat_map(|item| item.range.prefixes()));
        }
    }
    for ((remote, may_hold), side) in draft.config.remotes.iter().zip(held).zip(sides) {
        let named = remote.remote_address.is_some_and(|address| side.contains(&IpNet::from(address)));
        // Policies that name the peer name another of its addresses when that one is in force.
        let others = remote.gateways.addresses.iter().filter(|_| named).map(|address| IpNet::from(*address));
        let prefixes = may_hold.unwrap_or_else(|| side.into_iter().chain(others).collect());
        if !prefixes.is_empty() {
            draft.config.pad.allow(Some(remote.remote_identity.clone()), prefixes);
        }
    }
}
