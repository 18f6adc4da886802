//! Watari at one end: watarid with its configuration, steered with `watari`, its log on its own output.

use std::time::Duration;

use serde_json::Value;

use super::case::{Mode, Terms, Traffic, Who};
use super::certificates;
use super::end::{End, SECRET, View};
use super::net::{Hosts, outer, protected_prefix, second};
use crate::uml::hosts::Daemon;
use crate::uml::{Context as _, Failure, Result};

/// Name of the remote and of its policy.
const REMOTE: &str = "strongswan";
const POLICY: &str = "traffic";
/// The same of a road warrior, which its profile makes.
const ASSIGNED_POLICY: &str = "payload";

/// Levels of watarid's log that are complaints.
const COMPLAINTS: &[&str] = &[" WARN", " ERRO", " CRIT", "panicked"];

/// A running watarid.
pub(super) struct Watari {
    daemon: Daemon,
    policy: &'static str,
    control: String,
}

impl Watari {
    /// Starts watarid; returns when its control socket answers. Keys go to `NAME.keys` in the output directory.
    pub(super) fn start(hosts: &Hosts, who: Who, terms: &Terms, label: &str) -> Result<Self> {
        let host = hosts.of(who);
        host.etc_file("watari/watari.toml", &configuration(who, terms))?;
        certificates::write(hosts, who, terms, false)?;
        let (programs, keys) = (hosts.programs.display(), hosts.output.join(format!("{label}.keys")));
        let words = format!(
            "{programs}/watarid --config /etc/watari/watari.toml --control /run/watari.vici --log-level debug --reveal-keys {}",
            keys.display()
        );
        let daemon = host.spawn(&format!("watarid-{label}"), &words)?;
        let policy = if terms.assigned.is_some() { ASSIGNED_POLICY } else { POLICY };
        let mut end = Self { daemon, policy, control: format!("{programs}/watari --control /run/watari.vici") };
        // A command run before the daemon has its namespaces would look elsewhere for ever.
        end.daemon.wait_for("kernel probed", Duration::from_secs(20))?;
        end.daemon.exec("for i in $(seq 200); do test -S /run/watari.vici && exit 0; sleep 0.02; done; exit 1").map_err(|_| {
            Failure(format!("watarid does not listen on its control socket:\n{}", crate::uml::boot::last_lines(&end.daemon.log)))
        })?;
        Ok(end)
    }

    fn tell(&self, words: &str) -> Result<String> {
        self.daemon.exec(&format!("{} {words}", self.control))
    }
}

impl End for Watari {
    fn initiate(&self) -> Result<()> {
        self.tell(&format!("up {}", self.policy)).map(|_| ())
    }

    fn rekey_child(&self) -> Result<()> {
        self.tell(&format!("rekey {}", self.policy)).map(|_| ())
    }

    fn rekey_ike(&self) -> Result<()> {
        self.tell(&format!("rekey --ike {REMOTE}")).map(|_| ())
    }

    fn redirect(&self, to: &str) -> Result<()> {
        self.tell(&format!("redirect {REMOTE} {to}")).map(|_| ())
    }

    fn delete_child(&self) -> Result<()> {
        self.tell(&format!("down {}", self.policy)).map(|_| ())
    }

    fn delete_ike(&self) -> Result<()> {
        self.tell(&format!("down {REMOTE}")).map(|_| ())
    }

    fn view(&self) -> Result<View> {
        let status = serde_json::from_str(&self.tell("status --json")?).context("watari status --json")?;
        Ok(view(&status))
    }

    fn complaints(&self) -> Vec<String> {
        let log = std::fs::read_to_string(&self.daemon.log).unwrap_or_default();
        log.lines()
            .filter(|line| COMPLAINTS.iter().any(|word| line.contains(word)))
            .map(|line| format!("watarid says: {}", line.trim()))
            .collect()
    }

    fn stop(&mut self) -> Result<()> {
        self.daemon.stop()
    }

    fn crash(&mut self) {
        self.daemon.kill();
    }
}

/// A running watarid that strongSwan's client steers over the control socket, as it steers charon.
pub(super) struct BySwanctl(pub(super) Watari);

impl BySwanctl {
    fn swanctl(&self, words: &str) -> Result<String> {
        let answer = self.0.daemon.exec(&format!("swanctl {words} --uri unix:///run/watari.vici 2>&1"))?;
        match answer.contains("failed") {
            true => Err(Failure(format!("swanctl {words}: {}", answer.trim()))),
            false => Ok(answer),
        }
    }

    /// A command whose success swanctl says in so many words.
    fn successfully(&self, words: &str) -> Result<()> {
        let answer = self.swanctl(words)?;
        match answer.contains("successfully") {
            true => Ok(()),
            false => Err(Failure(format!("swanctl {words}: {}", answer.trim()))),
        }
    }
}

impl End for BySwanctl {
    /// Every other question of the client comes first: it must understand the answers.
    fn initiate(&self) -> Result<()> {
        for (words, part) in [("--version --daemon", "watarid"), ("--stats", "uptime"), ("--list-conns", REMOTE), ("--list-pols", POLICY)] {
            let answer = self.swanctl(words)?;
            if !answer.contains(part) {
                return Err(Failure(format!("swanctl {words} does not say {part}: {}", answer.trim())));
            }
        }
        self.successfully(&format!("--initiate --child {POLICY} --timeout 20"))
    }

    fn rekey_child(&self) -> Result<()> {
        self.successfully(&format!("--rekey --child {POLICY}"))
    }

    fn rekey_ike(&self) -> Result<()> {
        self.successfully(&format!("--rekey --ike {REMOTE}"))
    }

    fn redirect(&self, to: &str) -> Result<()> {
        self.successfully(&format!("--redirect --ike {REMOTE} --gateway {to}"))
    }

    fn delete_child(&self) -> Result<()> {
        self.successfully(&format!("--terminate --child {POLICY} --timeout 20"))
    }

    fn delete_ike(&self) -> Result<()> {
        self.successfully(&format!("--terminate --ike {REMOTE} --timeout 20"))
    }

    fn view(&self) -> Result<View> {
        Ok(super::strongswan::view(&self.swanctl("--list-sas --raw")?))
    }

    fn complaints(&self) -> Vec<String> {
        self.0.complaints()
    }

    fn stop(&mut self) -> Result<()> {
        self.0.stop()
    }

    fn crash(&mut self) {
        self.0.crash();
    }
}

/// A road warrior that asks for its address inside the tunnel.
fn road_warrior(who: Who, terms: &Terms) -> String {
    let other = who.other();
    format!(
        "[road_warrior]
name = \"{REMOTE}\"
gateway = \"{}\"
identity = \"{}\"
gateway_identity = \"{}\"
{}address = \"assign\"
networks = [\"{}\"]
ike = \"{}\"
esp = \"{}\"
liveness = \"off\"
",
        outer(other, terms.family),
        certificates::identity(who, terms),
        certificates::identity(other, terms),
        proofs(who, terms),
        protected_prefix(other, who, terms),
        terms.suite.our_ike,
        terms.suite.our_esp,
    )
}

/// A gateway with a pool of one address, for one client.
fn gateway(who: Who, terms: &Terms) -> String {
    let other = who.other();
    format!(
        "[gateway]
address = \"{}\"
identity = \"{}\"
networks = [\"{}\"]
pool = \"{}\"
ike = \"{}\"
esp = \"{}\"
liveness = \"off\"

[[gateway.client]]
name = \"{REMOTE}\"
identity = \"{}\"
address = \"assign\"
{}",
        outer(who, terms.family),
        certificates::identity(who, terms),
        protected_prefix(who, who, terms),
        protected_prefix(other, who, terms),
        terms.suite.our_ike,
        terms.suite.our_esp,
        certificates::identity(other, terms),
        proofs(who, terms),
    )
}

fn configuration(who: Who, terms: &Terms) -> String {
    match terms.assigned {
        Some(client) if client == who => return road_warrior(who, terms),
        Some(_) => return gateway(who, terms),
        None => {}
    }
    let other = who.other();
    let local = match terms.unaddressed {
        true => String::new(),
        false => format!("local_address = \"{}\"\n", outer(who, terms.family)),
    };
    let remote = match terms.redirects {
        true => format!("[\"{}\", \"{}\"]", outer(other, terms.family), second(other, terms.family)),
        false => format!("\"{}\"", outer(other, terms.family)),
    };
    let protocol = match terms.traffic {
        Traffic::Any => "",
        Traffic::MobilityHeader => " mobility-header",
        Traffic::Icmpv6 => " icmpv6",
    };
    let mode = match terms.mode {
        Mode::Transport => "transport",
        Mode::Tunnel => "tunnel",
    };
    let liveness = if terms.liveness == Some(who) { "2s" } else { "off" };
    let life = |hard, soft| match terms.short_lived {
        true => format!("lifetime = {{ hard = \"{hard}\", soft = \"{soft}\", jitter = \"1s\" }}\n"),
        false => String::new(),
    };
    let (ike_life, child_life) = (life("20s", "6s"), life("15s", "4s"));
    let settings = if terms.cookies == Some(who) { "[watari]\ncookie_threshold = 0\n\n" } else { "" };
    format!(
        "{settings}[sa.esp]
proposal = \"{}\"

[ipsec.esp]
sa = \"esp\"
{child_life}
[remote.{REMOTE}]
{local}remote_address = {remote}
identity = \"{}\"
remote_identity = \"{}\"
{}ike = \"{}\"
liveness = \"{liveness}\"
{ike_life}retransmit = {{ initial = \"500ms\", factor = 1.8, cap = \"4s\", tries = 5 }}

[policy.{mode}]
installed_by = \"watari\"
mode = \"{mode}\"
ipsec = \"esp\"
remote = \"{REMOTE}\"

[selector.{POLICY}]
local = \"{}{protocol}\"
remote = \"{}{protocol}\"
policy = \"{mode}\"
",
        terms.suite.our_esp,
        certificates::identity(who, terms),
        certificates::identity(other, terms),
        proofs(who, terms),
        terms.suite.our_ike,
        protected_prefix(who, who, terms),
        protected_prefix(other, who, terms),
    )
}

/// The keys by which both ends prove themselves.
fn proofs(who: Who, terms: &Terms) -> String {
    let (own, peer) = (certificates::kind(who, terms), certificates::kind(who.other(), terms));
    let mut lines = String::new();
    if own.is_some() {
        lines += "certificate = \"/etc/watari/own.pem\"\nprivate_key = \"/etc/watari/own.key\"\n";
    }
    if peer.is_some() {
        lines += "authorities = \"/etc/watari/root.pem\"\n";
    }
    if own.is_none() || peer.is_none() {
        lines += &format!("psk = \"{SECRET}\"\n");
    }
    lines
}

/// Reads `watari status --json`.
fn view(status: &Value) -> View {
    let rows = |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let word = |value: &Value, path: &str| value.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut view = View::default();
    for remote in rows(status, "remotes") {
        for ike in rows(&remote, "ike_sas") {
            if word(&ike, "/state") == "ESTABLISHED" {
                view.ike_sas.push((word(&ike, "/initiator_spi"), word(&ike, "/responder_spi")));
            }
            for child in rows(&ike, "children") {
                if word(&child, "/state") == "INSTALLED" {
                    let spi = |path| word(&child, path).trim_start_matches("0x").to_owned();
                    view.children.push((spi("/inbound/spi"), spi("/outbound/spi")));
                }
            }
        }
    }
    view
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Knows the files of Watari's end.
    struct Files<'a>(&'a Terms);

    impl watari_policies::config::SecretSource for Files<'_> {
        fn file(&self, path: &str) -> std::result::Result<watari_policies::Secret, String> {
            let files = certificates::files(Who::Us, self.0, false);
            let found = files.into_iter().find(|(name, _)| path.strip_prefix("/etc/") == Some(*name));
            found.map(|(_, content)| content.as_bytes().into()).ok_or_else(|| format!("{path} is not there"))
        }

        fn holds(&self, _: watari_policies::SecretId) -> bool {
            false
        }
    }

    #[test]
    fn the_configuration_of_every_case_loads() {
        for case in super::super::cases::all() {
            let text = configuration(Who::Us, &case.terms);
            if let Err(complaints) = watari_policies::config::load(&text, "watari.toml", &Files(&case.terms)) {
                panic!("{}: {complaints}", case.name);
            }
        }
    }

    #[test]
    fn what_is_leaving_is_not_in_the_view() {
        let child =
            |state: &str, spi: &str| serde_json::json!({ "state": state, "inbound": { "spi": spi }, "outbound": { "spi": "0x000000c2" } });
        let status = serde_json::json!({ "remotes": [{ "ike_sas": [
            { "state": "ESTABLISHED", "initiator_spi": "0a", "responder_spi": "0b", "children": [child("INSTALLED", "0x000000c1"), child("REKEYED", "0x1")] },
            { "state": "REKEYED", "initiator_spi": "1", "responder_spi": "2", "children": [] },
        ] }] });
        let view = view(&status);
        assert_eq!(view.ike_sas, [("0a".to_owned(), "0b".to_owned())]);
        assert_eq!(view.children, [("000000c1".to_owned(), "000000c2".to_owned())]);
    }
}
