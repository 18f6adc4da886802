//! A configuration as the five records, in TOML that loads again to an equal `Config`. No secret is printed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Write};

use super::settings::BACKENDS;
use super::values::duration_text;
use super::{SecretOrigin, gateways, movements};
use crate::certificate::{OwnProof, PeerProof, Proofs};
use crate::model::{Authentication, Endpoints, Retransmit, Settings};
use crate::{Action, Config, Installer, Ipsec, Lifetime, MobilityRole, Mode, Policy, Remote, SecretId, TrafficItem};

/// Writes `config` as the five records, everything said, nothing left to defaults.
///
/// `origins` tells where secrets are to be found; one of unknown origin, or from the file itself, becomes `secret = N`, which
/// loads where the key keeper already holds it. A remote whose home address is assigned at run time becomes a comment. PAD entries of identities without a remote have no place in the records.
pub fn expand(config: &Config, origins: &BTreeMap<SecretId, SecretOrigin>) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write_all(&mut text, config, origins);
    text
}

fn write_all(out: &mut String, config: &Config, origins: &BTreeMap<SecretId, SecretOrigin>) -> fmt::Result {
    settings(out, &config.settings)?;
    for each in &config.remotes {
        remote(out, config, each, origins)?;
    }
    for each in &config.ipsecs {
        ipsec(out, each, origins)?;
    }
    let mut taken = BTreeSet::new();
    for each in config.policies.iter().filter(|policy| config.remote(policy.remote).is_none_or(|remote| remote.assigned.is_none())) {
        policy(out, config, each, &mut taken)?;
    }
    Ok(())
}

/// A TOML string.
struct Text<T>(T);

impl<T: Display> Display for Text<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.to_string().replace('\\', "\\\\").replace('"', "\\\""))
    }
}

/// A TOML list of strings.
struct List<'a, T>(&'a [T]);

impl<T: Display> Display for List<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (index, value) in self.0.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{}", Text(value))?;
        }
        f.write_str("]")
    }
}

/// A name as a key: bare where TOML allows it.
struct Key<'a>(&'a str);

impl Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare = self.0.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_".contains(&octet)) && !self.0.is_empty();
        if bare { f.write_str(self.0) } else { write!(f, "{}", Text(self.0)) }
    }
}

fn settings(out: &mut String, settings: &Settings) -> fmt::Result {
    writeln!(out, "[watari]\nport = {}\nnatt_port = {}", settings.port, settings.natt_port)?;
    writeln!(out, "cookie_threshold = {}\nhalf_open_limit = {}", settings.cookie_threshold, settings.half_open_limit)?;
    for (word, _) in BACKENDS.iter().filter(|(_, backend)| *backend == settings.backend) {
        writeln!(out, "backend = \"{word}\"")?;
    }
    settings.control.iter().try_for_each(|path| writeln!(out, "control = {}", Text(path)))
}

fn lifetime(life: &Lifetime, counters: bool) -> String {
    let [hard, soft, jitter] = [life.hard, life.soft, life.jitter].map(duration_text);
    let counters = if counters { format!(", bytes = {}, packets = {}", life.bytes, life.packets) } else { String::new() };
    format!("{{ hard = \"{hard}\", soft = \"{soft}\", jitter = \"{jitter}\"{counters} }}")
}

fn retransmit(repeat: &Retransmit) -> String {
    let [initial, cap] = [repeat.initial, repeat.cap].map(duration_text);
    let (whole, tenth) = (repeat.base_tenths / 10, repeat.base_tenths % 10);
    format!("{{ initial = \"{initial}\", factor = {whole}.{tenth}, cap = \"{cap}\", tries = {} }}", repeat.tries)
}

fn remote(out: &mut String, config: &Config, remote: &Remote, origins: &BTreeMap<SecretId, SecretOrigin>) -> fmt::Result {
    if remote.assigned.is_some() {
        return writeln!(out, "\n# {}: its home address is assigned at run time, so that records cannot say it", remote.name);
    }
    writeln!(out, "\n[remote.{}]", Key(&remote.name))?;
    remote.local_address.iter().try_for_each(|address| writeln!(out, "local_address = {}", Text(address)))?;
    match (remote.remote_address, remote.gateways.addresses.as_slice()) {
        (Some(address), []) => writeln!(out, "remote_address = {}", Text(address))?,
        (Some(_), several) => writeln!(out, "remote_address = {}", List(several))?,
        (None, _) => {}
    }
    if !remote.allowed_from.is_empty() {
        writeln!(out, "allowed_from = {}", List(&remote.allowed_from))?;
    }
    if remote.authentication != Authentication::Manual {
        writeln!(out, "identity = {}\nremote_identity = {}", Text(&remote.local_identity), Text(&remote.remote_identity))?;
    }
    let held = config.pad.prefixes_of(&remote.remote_identity);
    if !held.is_empty() {
        writeln!(out, "may_hold = {}", List(held))?;
    }
    match &remote.authentication {
        Authentication::Psk(secret) => writeln!(out, "{}", origin("psk_file", *secret, origins))?,
        Authentication::Manual => writeln!(out, "keying = \"manual\"")?,
        Authentication::Each(each) => proofs(out, each, origins)?,
    }
    match remote.role {
        MobilityRole::None => {}
        MobilityRole::MobileNode { home_address } => writeln!(out, "role = \"mobile-node\"\nhome_address = {}", Text(home_address))?,
        MobilityRole::HomeAgent { home_address } => writeln!(out, "role = \"home-agent\"\nhome_address = {}", Text(home_address))?,
        MobilityRole::RoadWarrior { inner_address } => writeln!(out, "role = \"road-warrior\"\ninner_address = {}", Text(inner_address))?,
        MobilityRole::Gateway { inner_address } => writeln!(out, "role = \"gateway\"\ninner_address = {}", Text(inner_address))?,
    }
    if remote.authentication == Authentication::Manual {
        return Ok(());
    }
    writeln!(out, "ike = {}", List(&remote.proposals))?;
    writeln!(out, "lifetime = {}\nretransmit = {}", lifetime(&remote.lifetime, false), retransmit(&remote.retransmit))?;
    let liveness = remote.liveness.map_or_else(|| "off".to_owned(), duration_text);
    writeln!(out, "liveness = \"{liveness}\"\ninitial_contact = {}\nstart = {}", remote.initial_contact, remote.start)?;
    gateways::write(out, &remote.gateways, remote.remote_address.is_some())?;
    movements::write(out, &remote.movements, remote.role)
}

/// Certificates by their files, and the shared key of the side that has none.
fn proofs(out: &mut String, proofs: &Proofs, origins: &BTreeMap<SecretId, SecretOrigin>) -> fmt::Result {
    match &proofs.ours {
        OwnProof::Psk(secret) => writeln!(out, "{}", origin("psk_file", *secret, origins))?,
        OwnProof::Certificate(own) => {
            writeln!(out, "certificate = {}\n{}", Text(&own.path), origin("private_key", own.key, origins))?;
        }
    }
    match &proofs.theirs {
        PeerProof::Psk(secret) => writeln!(out, "{}", origin("psk_file", *secret, origins)),
        PeerProof::Certificate(trust) => {
            if !trust.paths.0.is_empty() {
                writeln!(out, "authorities = {}", List(&trust.paths.0))?;
            }
            trust.paths.1.iter().try_for_each(|path| writeln!(out, "peer_certificate = {}", Text(path)))?;
            if trust.sha1 { writeln!(out, "sha1_signatures = true") } else { Ok(()) }
        }
    }
}

/// Where a secret is found again: its file, or the number under which a key keeper holds it.
fn origin(file_key: &str, secret: SecretId, origins: &BTreeMap<SecretId, SecretOrigin>) -> String {
    match origins.get(&secret) {
        Some(SecretOrigin::File(path)) => format!("{file_key} = {}", Text(path)),
        _ => format!("secret = {}", secret.0),
    }
}

fn ipsec(out: &mut String, ipsec: &Ipsec, origins: &BTreeMap<SecretId, SecretOrigin>) -> fmt::Result {
    let names: Vec<String> = (1..=ipsec.proposals.len()).map(|number| format!("{}-{number}", ipsec.name)).collect();
    writeln!(out, "\n[ipsec.{}]\nsa = {}", Key(&ipsec.name), List(&names))?;
    if ipsec.manual.is_none() {
        writeln!(out, "lifetime = {}\nreplay_window = {}", lifetime(&ipsec.lifetime, true), ipsec.replay_window)?;
        ipsec.dormant.iter().try_for_each(|time| writeln!(out, "dormant = \"{}\"", duration_text(*time)))?;
    }
    for (name, proposal) in names.iter().zip(&ipsec.proposals) {
        writeln!(out, "\n[sa.{}]\nprotocol = \"esp\"\nproposal = {}", Key(name), Text(proposal))?;
        for (way, half) in ipsec.manual.iter().flat_map(|manual| [("out", manual.outbound), ("in", manual.inbound)]) {
            writeln!(out, "{way} = {{ spi = {:#x}, {} }}", half.spi, origin("key_file", half.key, origins))?;
        }
    }
    Ok(())
}

/// One policy and its selector under one key: the policy's name, with the remote's in front where others have that name too.
fn policy(out: &mut String, config: &Config, policy: &Policy, taken: &mut BTreeSet<String>) -> fmt::Result {
    let remote = config.remote(policy.remote).map_or("", |remote| remote.name.as_str());
    let ipsec = config.ipsec(policy.ipsec).map_or("", |ipsec| ipsec.name.as_str());
    let mut key = policy.name.clone();
    let mut number = 1u32;
    while !taken.insert(key.clone()) {
        key = if number == 1 { format!("{remote}-{}", policy.name) } else { format!("{}-{number}", policy.name) };
        number = number.saturating_add(1);
    }
    writeln!(out, "\n[selector.{}]", Key(&key))?;
    if key != policy.name {
        writeln!(out, "name = {}", Text(&policy.name))?;
    }
    writeln!(out, "local = {}\nremote = {}", side(&policy.traffic.local), side(&policy.traffic.remote))?;
    writeln!(out, "reqid_out = {}\nreqid_in = {}\npolicy = {}", policy.reqid_out.0, policy.reqid_in.0, Text(&key))?;
    writeln!(out, "\n[policy.{}]", Key(&key))?;
    match policy.action {
        Action::Protect => writeln!(out, "action = \"protect\"")?,
        Action::Bypass => writeln!(out, "action = \"bypass\"")?,
        Action::Discard => writeln!(out, "action = \"discard\"")?,
    }
    if policy.action == Action::Protect {
        let mode = if policy.mode == Mode::Transport { "transport" } else { "tunnel" };
        writeln!(out, "mode = \"{mode}\"\nendpoints = {}\nipsec = {}", endpoints(policy.endpoints), Text(ipsec))?;
    }
    let installer = if policy.installer == Installer::Us { "watari" } else { "mip6d" };
    writeln!(out, "installed_by = \"{installer}\"\npriority = {}\nremote = {}", policy.priority, Text(remote))
}

/// One side of the traffic: a text, or a list of them.
fn side(items: &[TrafficItem]) -> String {
    match items {
        [only] => Text(only).to_string(),
        _ => List(items).to_string(),
    }
}

fn endpoints(endpoints: Endpoints) -> String {
    match endpoints {
        Endpoints::Selector => "\"selector\"".to_owned(),
        Endpoints::Ike => "\"ike\"".to_owned(),
        Endpoints::Template => "\"template\"".to_owned(),
        Endpoints::Fixed { local, remote } => List(&[local, remote]).to_string(),
    }
}
