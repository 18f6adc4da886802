//! strongSwan at one end: charon in the foreground, steered with swanctl, its log on its own output.

use std::time::Duration;

use super::case::{Mode, Terms, Traffic, Who};
use super::certificates;
use super::end::{End, View};
use super::net::{Hosts, outer, protected_prefix, second};
use crate::uml::hosts::Daemon;
use crate::uml::{Failure, Result};

/// Name of the connection and of its child.
const NAME: &str = "watari";

/// Plugins that matter here: charon starts in a fraction of the time without the others.
const PLUGINS: &str = "random nonce openssl aes sha1 sha2 hmac kdf curve25519 gcm chapoly pem pkcs1 pkcs8 x509 pubkey constraints kernel-netlink socket-default vici";

/// Words that make a line of charon's log a complaint.
const COMPLAINTS: &[&str] = &[
    "error",
    "failed",
    "unable",
    "invalid",
    "unexpected",
    "not found",
    "retransmit",
    "giving up",
    "mismatch",
    "ignor",
    "not supported",
    "unacceptable",
    "no acceptable",
    "deleting half",
    "discard",
    "malformed",
    "NO_PROP",
    "N(TS_UNACCEPT",
];

/// A running charon.
pub(super) struct Strongswan {
    charon: Daemon,
}

impl Strongswan {
    /// Starts charon with the peer's view of `terms`; returns when the connection is loaded.
    pub(super) fn start(hosts: &Hosts, who: Who, terms: &Terms, label: &str) -> Result<Self> {
        let host = hosts.of(who);
        host.etc_file("strongswan.conf", &daemon_settings(terms.cookies == Some(who)))?;
        host.etc_file("swanctl/swanctl.conf", &connection(who, terms))?;
        certificates::write(hosts, who, terms, true)?;
        let charon = host.spawn(&format!("strongswan-{label}"), "/usr/lib/ipsec/charon")?;
        let mut end = Self { charon };
        end.charon.wait_for("spawning", Duration::from_secs(20))?;
        // The control socket opens a moment after that line.
        let script = "for i in $(seq 200); do test -S /run/charon.vici && break; sleep 0.02; done; swanctl --load-all";
        end.charon.exec(script)?;
        Ok(end)
    }

    fn swanctl(&self, words: &str) -> Result<()> {
        let answer = self.charon.exec(&format!("swanctl {words} 2>&1"))?;
        match answer.contains("successfully") {
            true => Ok(()),
            false => Err(Failure(format!("swanctl {words}: {}", answer.trim()))),
        }
    }
}

impl End for Strongswan {
    fn initiate(&self) -> Result<()> {
        self.swanctl(&format!("--initiate --child {NAME} --timeout 20"))
    }

    fn rekey_child(&self) -> Result<()> {
        self.swanctl(&format!("--rekey --child {NAME}"))
    }

    fn rekey_ike(&self) -> Result<()> {
        self.swanctl(&format!("--rekey --ike {NAME}"))
    }

    fn redirect(&self, to: &str) -> Result<()> {
        self.swanctl(&format!("--redirect --ike {NAME} --gateway {to}"))
    }

    fn delete_child(&self) -> Result<()> {
        self.swanctl(&format!("--terminate --child {NAME} --timeout 20"))
    }

    fn delete_ike(&self) -> Result<()> {
        self.swanctl(&format!("--terminate --ike {NAME} --timeout 20"))
    }

    fn view(&self) -> Result<View> {
        Ok(view(&self.charon.exec("swanctl --list-sas --raw 2>&1")?))
    }

    fn complaints(&self) -> Vec<String> {
        let log = std::fs::read_to_string(&self.charon.log).unwrap_or_default();
        // What charon says before it runs is about plugins and files that are not there.
        let running = log.split_once("spawning").map_or("", |(_, rest)| rest);
        let lower = |line: &str| line.to_lowercase();
        running
            .lines()
            .filter(|line| COMPLAINTS.iter().any(|word| lower(line).contains(&lower(word))))
            .map(|line| format!("strongSwan says: {}", line.trim()))
            .collect()
    }

    fn stop(&mut self) -> Result<()> {
        self.charon.stop()
    }

    fn crash(&mut self) {
        self.charon.kill();
    }
}

fn daemon_settings(cookies: bool) -> String {
    let threshold = if cookies { 1 } else { 0 };
    format!(
        "charon {{
  load = {PLUGINS}
  install_routes = no
  install_virtual_ip = no
  delete_rekeyed_delay = 1
  retransmit_timeout = 1.0
  retransmit_tries = 3
  cookie_threshold = {threshold}
  filelog {{ stderr {{ default = 1
    ike_name = yes
    flush_line = yes
    time_format = %T }} }}
}}
swanctl {{ load = random pem pkcs1 pkcs8 x509 openssl }}
"
    )
}

fn connection(who: Who, terms: &Terms) -> String {
    let other = who.other();
    // Which of its addresses Watari calls from is not known where nobody says it.
    let both = |who| match terms.redirects || ((terms.assigned == Some(Who::Us) || terms.unaddressed) && who == Who::Us) {
        true => format!("{}, {}", outer(who, terms.family), second(who, terms.family)),
        false => outer(who, terms.family).to_owned(),
    };
    let (local, remote) = (both(who), both(other));
    let yes = |truth: bool| if truth { "yes" } else { "no" };
    let selectors = format!("local_ts = {}\n      remote_ts = {}", selector(who, who, terms), selector(other, who, terms));
    let liveness = if terms.liveness == Some(who) { "dpd_delay = 2s\n  " } else { "" };
    // In Watari's place it holds policies from the start, as Watari does.
    let start = if terms.peer_traps || who == Who::Us { "trap" } else { "none" };
    let mode = match terms.mode {
        Mode::Transport => "transport",
        Mode::Tunnel => "tunnel",
    };
    let (ike_life, child_life) = match terms.short_lived {
        true => ("5s\n  over_time = 20s\n  rand_time = 1s", "3s\n      life_time = 20s\n      rand_time = 1s"),
        false => ("0s", "0s"),
    };
    let secret = if terms.wrong_secret && who == Who::Peer { "another secret" } else { super::end::SECRET };
    let (pools, pool) = match terms.assigned {
        Some(client) if client == who => ("vips = ::\n  ", String::new()),
        Some(_) => ("pools = clients\n  ", format!("pools {{ clients {{ addrs = {} }} }}\n", protected_prefix(other, who, terms))),
        None => ("", String::new()),
    };
    let suite = terms.suite;
    let (ike, esp) = if who == Who::Us { (suite.our_ike, suite.our_esp) } else { (suite.peer_ike, suite.peer_esp) };
    format!(
        "connections {{ {NAME} {{
  version = 2
  local_addrs = {local}
  remote_addrs = {remote}
  {pools}proposals = {ike}
  mobike = {}
  fragmentation = no
  rekey_time = {ike_life}
  {liveness}local {{ {}
    id = {} }}
  remote {{ {}
    id = {} }}
  children {{ {NAME} {{
      mode = {mode}
      {selectors}
      esp_proposals = {esp}
      rekey_time = {child_life}
      start_action = {start} }} }}
}} }}
{pool}secrets {{ ike-1 {{ secret = \"{secret}\" }} }}
",
        yes(terms.mobike),
        proof("certs = own.pem", who, terms),
        certificates::identity(who, terms),
        proof("cacerts = root.pem", other, terms),
        certificates::identity(other, terms),
    )
}

/// How one end proves itself; `more` stands beside a certificate.
fn proof(more: &str, of: Who, terms: &Terms) -> String {
    match certificates::kind(of, terms) {
        Some(_) => format!("auth = pubkey\n    {more}"),
        None => "auth = psk".to_owned(),
    }
}

fn selector(who: Who, holder: Who, terms: &Terms) -> String {
    let range = match terms.mode {
        Mode::Transport => "dynamic".into(),
        Mode::Tunnel if terms.assigned == Some(who) => "dynamic".into(),
        Mode::Tunnel => protected_prefix(who, holder, terms),
    };
    match terms.traffic {
        Traffic::Any => range,
        Traffic::MobilityHeader => format!("{range}[135]"),
        Traffic::Icmpv6 => format!("{range}[ipv6-icmp]"),
    }
}

/// Reads `swanctl --list-sas --raw`: nested `key=value` in braces, in a fixed order.
pub(super) fn view(text: &str) -> View {
    let mut view = View::default();
    let mut state = "";
    let mut first = String::new();
    for word in text.split(|letter: char| letter.is_whitespace() || letter == '{' || letter == '}') {
        let Some((key, value)) = word.split_once('=') else { continue };
        match key {
            "state" => state = value,
            "initiator-spi" | "spi-in" => first = value.to_owned(),
            "responder-spi" if state == "ESTABLISHED" => view.ike_sas.push((first.clone(), value.to_owned())),
            "spi-out" if state == "INSTALLED" => view.children.push((first.clone(), value.to_owned())),
            _ => {}
        }
    }
    view
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn established_and_installed_are_counted_and_what_is_leaving_is_not() {
        let text = "list-sa event {watari {uniqueid=2 version=2 state=ESTABLISHED local-host=2001:db8::2 initiator-spi=0a0b responder-spi=0c0d \
            child-sas {watari-3 {name=watari state=DELETED mode=TRANSPORT spi-in=c1 spi-out=c2} watari-4 {name=watari state=INSTALLED spi-in=c3 \
            spi-out=c4}}}} list-sa event {watari {state=REKEYED initiator-spi=01 responder-spi=02}}";
        let view = view(text);
        assert_eq!(view.ike_sas, [("0a0b".to_owned(), "0c0d".to_owned())]);
        assert_eq!(view.children, [("c3".to_owned(), "c4".to_owned())]);
    }
}
