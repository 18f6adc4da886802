use std::time::Duration;

use super::*;
use crate::model::{Authentication, Endpoints};
use crate::profile::{HomeAgentProfile, MobileNodeProfile, Protected, Reqids, ServedNode, Terms, home_agent, mobile_node};
use crate::{Identity, Installer, Mode, RemoteId, Reqid};

/// Knows one file; holds every numbered secret.
struct Vault;

impl SecretSource for Vault {
    fn file(&self, path: &str) -> Result<Secret, String> {
        if path.starts_with("/etc/watari/") { Ok(Secret::from(&b"test-psk-123\n"[..])) } else { Err("no such file".into()) }
    }

    fn holds(&self, _: SecretId) -> bool {
        true
    }
}

const MOBILE_NODE: &str = r#"[mobile_node]
home_address = "2001:db8:1::abcd"
home_agent = "2001:db8:1::1"
identity = "mn.example"
home_agent_identity = "ha.example"
psk_file = "/etc/watari/mn.psk"
protect = ["binding", "payload"]
reqids = { binding = [1, 2], payload = [7, 8] }
policies = "mip6d"
"#;

const HOME_AGENT: &str = r#"[watari]
control = "/run/watari/control"
cookie_threshold = 100

[home_agent]
address = "2001:db8:1::1"
identity = "ha.example"
protect = ["binding", "prefix-discovery", "payload"]
reqids = { binding = [1, 2], prefix-discovery = 3, payload = [7, 8] }
policies = "watari"
esp = ["aes256gcm16-esn", "aes128-sha256"]
child_lifetime = { hard = "30m", soft = "20m", bytes = 1000000 }

[[home_agent.mobile_node]]
home_address = "2001:db8:1::a"
identity = "mn1.example"
psk = "first secret"

[[home_agent.mobile_node]]
name = "second"
home_address = "2001:db8:1::b"
identity = "mn2@example"
psk_file = "/etc/watari/mn2.psk"
reqids = { binding = [11, 12] }
"#;

const RECORDS: &str = r#"[sa.strong]
proposal = ["aes256gcm16-x25519", "aes256-sha512"]

[sa.integrity]
protocol = "esp"
proposal = "null-sha256"

[ipsec.fast]
sa = ["strong", "integrity"]
lifetime = "10m"
replay_window = 0

[remote.gateway]
local_address = "192.0.2.1"
remote_address = "192.0.2.2"
allowed_from = ["192.0.2.0/24", "198.51.100.7"]
identity = "fqdn:10.1.1.1"
remote_identity = "keyid:0a0b"
secret = 5
ike = "aes128-sha256-x25519"
lifetime = { hard = "1d", soft = "23h30m", jitter = "0s" }
retransmit = { initial = "250ms", factor = 2.0, cap = "10s", tries = 5 }
liveness = "off"
initial_contact = false
start = true

[remote."road.warrior"]
identity = "gw.example"
remote_identity = "rw@example"
may_hold = ["10.9.0.0/16"]
psk = "quite \"secret\" \\ indeed"

[policy.tunnel]
installed_by = "watari"
mode = "tunnel"
endpoints = ["192.0.2.1", "192.0.2.2"]
ipsec = "fast"
remote = "gateway"

[policy.plain]
action = "bypass"
installed_by = "watari"
priority = 1
remote = "gateway"

[policy.host]
mode = "transport"
installed_by = "mip6d"
remote = "road.warrior"

[selector.net]
local = ["10.0.0.0/24", "10.0.2.1-10.0.2.5 tcp 80-90"]
remote = "10.1.0.0/16"
reqid_out = 3
reqid_in = 4
policy = "tunnel"

[selector.ssh]
local = "10.0.0.0/24 tcp 22"
remote = "10.1.0.0/16 tcp"
policy = "plain"

[selector.host]
local = "10.9.1.1"
remote = "10.9.0.7 udp opaque"
policy = "host"
"#;

fn good(text: &str) -> Loaded {
    load(text, "watari.toml", &Vault).unwrap_or_else(|complaints| panic!("{complaints}"))
}

fn bad(text: &str) -> Diagnostics {
    match load(text, "watari.toml", &Vault) {
        Ok(_) => panic!("this loads:\n{text}"),
        Err(complaints) => complaints,
    }
}

/// Line and text of each error.
fn errors(complaints: &Diagnostics) -> Vec<(u32, &str)> {
    complaints.iter().filter(|one| one.severity == Severity::Error).map(|one| (one.line, one.message.as_str())).collect()
}

/// Asserts that the text has exactly one error, on this line, with these words in message or help.
fn one_error(text: &str, line: u32, words: &[&str]) {
    let complaints = bad(text);
    let all = complaints.to_string();
    assert_eq!(errors(&complaints).iter().map(|(line, _)| *line).collect::<Vec<_>>(), [line], "{all}");
    for word in words {
        assert!(all.contains(word), "{word:?} is missing in:\n{all}");
    }
    assert!(all.contains(&format!("watari.toml:{line}:")), "{all}");
}

/// Asserts one error after a line of the mobile node's configuration is replaced.
fn edited(old: &str, new: &str, line: u32, words: &[&str]) {
    assert!(MOBILE_NODE.contains(old));
    one_error(&MOBILE_NODE.replace(old, new), line, words);
}

#[test]
fn ten_lines_make_a_mobile_node() {
    let loaded = good(MOBILE_NODE);
    assert!(MOBILE_NODE.lines().count() <= 10);
    let profile = mobile_node(MobileNodeProfile::default());
    assert_eq!(loaded.config.clone().without_lines(), profile);
    assert_eq!(loaded.config.remotes[0].line, 1);
    assert_eq!(loaded.secrets[&SecretId(0)].expose(), b"test-psk-123");
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
}

#[test]
fn a_home_agent_serves_several_nodes() {
    let loaded = good(HOME_AGENT);
    let config = &loaded.config;
    assert_eq!(config.settings.control.as_deref(), Some("/run/watari/control"));
    assert_eq!(config.settings.cookie_threshold, 100);
    assert_eq!(
        config.remotes.iter().map(|remote| (remote.name.as_str(), remote.line)).collect::<Vec<_>>(),
        [("mn1.example", 14), ("second", 19)]
    );
    let second: Vec<_> = config.policies_of(RemoteId(1)).map(|(_, policy)| (policy.reqid_out, policy.reqid_in)).collect();
    assert_eq!(second, [(Reqid(12), Reqid(11)), (Reqid(3), Reqid(3)), (Reqid(8), Reqid(7))]);
    assert!(config.policies.iter().all(|policy| policy.installer == Installer::Us));
    assert_eq!(config.ipsecs[0].lifetime.bytes, 1_000_000);
    assert_eq!(loaded.secrets[&SecretId(0)].expose(), b"first secret");
    assert_eq!(loaded.origins[&SecretId(1)], SecretOrigin::File("/etc/watari/mn2.psk".into()));
    let node = Identity::Email("mn2@example".into());
    assert!(config.pad.may_hold(&node, &config.policies[3].traffic));
    assert!(!config.pad.may_hold(&node, &config.policies[0].traffic));
}

#[test]
fn reqids_that_are_not_written_are_the_defaults_of_who_installs() {
    let text = MOBILE_NODE.replace("reqids = { binding = [1, 2], payload = [7, 8] }\n", "");
    assert!(good(&text).config.policies.iter().all(|policy| policy.reqid_out == Reqid(0) && policy.reqid_in == Reqid(0)));
    let ours = good(&text.replace("\"mip6d\"", "\"watari\""));
    assert_eq!(ours.config.policies.iter().map(|policy| policy.reqid_out.0).collect::<Vec<_>>(), [1, 7]);
}

#[test]
fn the_five_records_say_everything() {
    let loaded = good(RECORDS);
    let config = &loaded.config;
    assert_eq!(config.remotes.len(), 2);
    assert_eq!(config.policies.iter().map(|policy| policy.name.as_str()).collect::<Vec<_>>(), ["net", "ssh", "host"]);
    assert_eq!(
        config.policies[0].endpoints,
        Endpoints::Fixed { local: "192.0.2.1".parse().unwrap(), remote: "192.0.2.2".parse().unwrap() }
    );
    assert_eq!(config.policies[2].mode, Mode::Transport);
    assert_eq!(config.policies[2].endpoints, Endpoints::Ike);
    assert_eq!(config.ipsec(config.policies[0].ipsec).unwrap().proposals.len(), 3);
    assert_eq!(config.remotes[0].authentication, Authentication::Psk(SecretId(5)));
    assert_eq!(loaded.secrets.len(), 1);
    assert_eq!(loaded.secrets[&SecretId(0)].expose(), b"quite \"secret\" \\ indeed");
    assert_eq!(config.pad.prefixes_of(&config.remotes[0].remote_identity).len(), 1);
    assert_eq!(config.pad.prefixes_of(&config.remotes[1].remote_identity), ["10.9.0.0/16".parse().unwrap()]);
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
}

fn round_trip(config: &Config, origins: &BTreeMap<SecretId, SecretOrigin>) {
    let text = expand(config, origins);
    assert!(!text.contains("psk ="), "{text}");
    let again = good(&text);
    assert_eq!(again.config.clone().without_lines(), config.clone().without_lines(), "{text}");
    assert_eq!(expand(&again.config, &again.origins), text);
}

#[test]
fn the_expansion_loads_to_an_equal_configuration() {
    for text in [MOBILE_NODE, HOME_AGENT, RECORDS] {
        let loaded = good(text);
        round_trip(&loaded.config, &loaded.origins);
    }
    let terms = Terms {
        protect: Protected::ALL.map(|what| (what, what.usual_reqids())).into(),
        binding_selector: crate::profile::BindingSelector::Range,
        ..Terms::default()
    };
    round_trip(&mobile_node(MobileNodeProfile { terms: terms.clone(), ..MobileNodeProfile::default() }), &BTreeMap::new());
    let node = |number: u16| ServedNode {
        name: format!("mn {number}").replace(' ', "."),
        home_address: format!("2001:db8:1::{number:x}").parse().unwrap(),
        identity: Identity::Fqdn(format!("mn{number}.example")),
        secret: SecretId(number.into()),
        proofs: None,
        networks: Vec::new(),
        reqids: [(Protected::Payload, Reqids { to_home_agent: Reqid(number.into()), to_mobile_node: Reqid(0) })].into(),
        line: 0,
    };
    let profile = HomeAgentProfile { terms, mobile_nodes: (2..6).map(node).collect(), ..HomeAgentProfile::default() };
    round_trip(&home_agent(profile), &BTreeMap::new());
}

#[test]
fn what_is_believed_about_movements_stands_in_profiles_and_remotes() {
    use crate::{KeyMobility, MovementSource, Movements};
    assert_eq!(good(HOME_AGENT).config.remotes[0].movements, Movements::default());
    let observed = "key_mobility = \"observe\"\ndaemon_echoes_k = false\nmovement = \"observe\"\npolicies = ";
    let loaded = good(&HOME_AGENT.replace("policies = ", observed));
    let expected = Movements { key_mobility: KeyMobility::Observe, daemon_echoes_k: false, source: MovementSource::Observe };
    assert!(loaded.config.remotes.iter().all(|remote| remote.movements == expected));
    round_trip(&loaded.config, &loaded.origins);
    let never = good(&format!("{MOBILE_NODE}key_mobility = \"never\"\n"));
    assert_eq!(never.config.remotes[0].movements.key_mobility, KeyMobility::Never);
    round_trip(&never.config, &never.origins);
    let line = u32::try_from(MOBILE_NODE.lines().count()).unwrap() + 1;
    let wrong = |text: &str, words: &[&str]| one_error(&format!("{MOBILE_NODE}{text}\n"), line, words);
    wrong("key_mobility = \"sometimes\"", &["\"assume\"", "\"never\"", "\"observe\""]);
    wrong("daemon_echoes_k = true", &["no effect here", "the home agent's daemon answers"]);
    wrong("movement = \"observe\"", &["\"kernel\"", "\"addresses\""]);
    let follows = good(&format!("{MOBILE_NODE}movement = \"addresses\"\n"));
    assert_eq!(follows.config.remotes[0].movements.source, MovementSource::Addresses);
    round_trip(&follows.config, &follows.origins);
    let unused = HOME_AGENT.replace("policies = ", "daemon_echoes_k = true\npolicies = ");
    assert!(bad(&unused).to_string().contains("unless key_mobility is \"observe\""));
    one_error(&RECORDS.replace("start = true", "key_mobility = \"never\""), 25, &["the remote has no mobility role"]);
}

#[test]
fn sas_that_rest_are_kept_as_long_as_the_configuration_says() {
    assert!(good(MOBILE_NODE).config.ipsecs.iter().all(|ipsec| ipsec.dormant.is_none()));
    let loaded = good(&format!("{MOBILE_NODE}dormant = \"20m\"\n"));
    assert!(loaded.config.ipsecs.iter().all(|ipsec| ipsec.dormant == Some(Duration::from_secs(1200))));
    round_trip(&loaded.config, &loaded.origins);
}

#[test]
fn complaints_are_drawn_under_the_line() {
    let text = MOBILE_NODE.replace("home_agent = ", "home_agnet = ");
    assert_eq!(
        bad(&text).to_string(),
        "\
error: [mobile_node] has no \"home_agent\"
 --> watari.toml:1:1
  |
1 | [mobile_node]
  | ^^^^^^^^^^^^^
  |
  = help: add for example: home_agent = \"2001:db8:1::1\"

error: [mobile_node] knows no key \"home_agnet\"
 --> watari.toml:3:1
  |
3 | home_agnet = \"2001:db8:1::1\"
  | ^^^^^^^^^^
  |
  = help: did you mean \"home_agent\"?

"
    );
}

#[test]
fn every_error_is_reported_at_once() {
    let text = MOBILE_NODE
        .replace("2001:db8:1::abcd", "2001:db8:1::xyz")
        .replace("\"mn.example\"", "42")
        .replace("/etc/watari", "/nowhere")
        .replace("payload = [7, 8]", "payload = [7]")
        .replace("mip6d", "mipd6");
    let complaints = bad(&text);
    assert_eq!(errors(&complaints).iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 4, 6, 8, 9], "{complaints}");
    assert_eq!(complaints.error_count(), 5);
}

#[test]
fn addresses_that_cannot_be() {
    edited("2001:db8:1::abcd", "2001:db8:1::1", 2, &["the home agent's own address", "another address of the home link"]);
    edited("2001:db8:1::abcd", "192.0.2.1", 2, &["Mobile IPv6 works with IPv6 addresses only"]);
    edited("2001:db8:1::abcd", "fe80::1", 2, &["link-local"]);
    edited("2001:db8:1::abcd", "2001:db8:1::abcd/64", 2, &["no IP address", "leave out the prefix length"]);
    edited("\"2001:db8:1::1\"", "\"ff02::1\"", 3, &["multicast"]);
    edited("\"2001:db8:1::1\"", "2001:db8:1::1", 3, &["written in quotes"]);
}

#[test]
fn identities_and_keys() {
    edited("\"mn.example\"", "\"mn example\"", 4, &["is no identity", "keyid:"]);
    edited("psk_file = \"/etc/watari/mn.psk\"\n", "", 1, &["no pre-shared key", "psk_file ="]);
    edited("psk_file = \"/etc/watari/mn.psk\"", "psk = \"\"", 6, &["empty"]);
    edited("psk_file = \"/etc/watari/mn.psk\"", "psk_file = \"/tmp/x\"", 6, &["\"/tmp/x\" cannot be read: no such file"]);
    edited("psk_file = ", "psk = \"a\"\npsk_file = ", 6, &["two keys for one peer", "the other one"]);
}

#[test]
fn a_secret_is_never_shown() {
    for text in [
        MOBILE_NODE.replace("psk_file = \"/etc/watari/mn.psk\"", "psk = \"hush\"\npsk_file = \"/etc/watari/mn.psk\""),
        MOBILE_NODE.replace("psk_file = \"/etc/watari/mn.psk\"", "psk = [\"hush\"]"),
        MOBILE_NODE.replace("psk_file = \"/etc/watari/mn.psk\"", "psk = \"hush"),
        MOBILE_NODE.replace("psk_file = \"/etc/watari/mn.psk\"", "psk = hush"),
        MOBILE_NODE.replace("psk_file = \"/etc/watari/mn.psk\"", "\"psk\" = \"\"\"\nhush\n\"\" \nx"),
        MOBILE_NODE.replace("[mobile_node]", "[mobile_node]\npsk = \"hush\" # comment\npsk = \"hush\""),
        MOBILE_NODE.replace("[mobile_node]", "psk = \"hush\"\n[mobile_node]"),
    ] {
        let shown = bad(&text).to_string();
        assert!(!shown.contains("hush"), "{shown}");
    }
    assert!(!format!("{:?}", good(HOME_AGENT)).contains("first secret"));
}

#[test]
fn options_without_effect_are_errors() {
    edited("[\"binding\", \"payload\"]", "[\"binding\"]", 8, &["these reqids have no effect", "add \"payload\" to protect"]);
    let payload_only = MOBILE_NODE.replace("\"binding\", ", "").replace("binding = [1, 2], ", "");
    one_error(&format!("{payload_only}binding_selector = \"typed\"\n"), 10, &["\"binding_selector\" has no effect here"]);
    one_error(
        &HOME_AGENT.replace("policies =", "start = true\npolicies ="),
        10,
        &["\"start\" has no effect here", "waits for its mobile nodes"],
    );
    one_error(&RECORDS.replace("start = true", "home_address = \"2001:db8::1\""), 25, &["no mobility role"]);
    one_error(&RECORDS.replace("priority = 1", "mode = \"tunnel\""), 43, &["\"mode\" has no effect here"]);
    one_error(&RECORDS.replace("jitter = \"0s\"", "bytes = 5"), 21, &["an IKE SA counts no octets"]);
}

#[test]
fn unknown_names_come_with_suggestions() {
    edited("\"payload\"]", "\"payloads\"]", 7, &["did you mean \"payload\"?"]);
    one_error(&MOBILE_NODE.replace("[mobile_node]", "[mobile_nod]"), 1, &["knows no key \"mobile_nod\"", "did you mean \"mobile_node\"?"]);
    one_error(&format!("{MOBILE_NODE}[gatewa]\n"), 10, &["knows no key \"gatewa\"", "did you mean \"gateway\"?"]);
    one_error(
        &RECORDS.replace("remote = \"gateway\"\n\n[policy.plain]", "remote = \"gatway\"\n\n[policy.plain]"),
        38,
        &["there is no [remote.gatway]", "did you mean \"gateway\"?"],
    );
    one_error(&RECORDS.replace("\"strong\", ", "\"string\", "), 9, &["there is no [sa.string]", "did you mean \"strong\"?"]);
    one_error(
        &RECORDS.replace("policy = \"host\"", "policy = \"nothing\""),
        66,
        &["there is no [policy.nothing]", "add a table [policy.nothing]"],
    );
    one_error(&RECORDS.replace("aes256-sha512", "aes256-sha521"), 2, &["sha521"]);
}

#[test]
fn proposals_that_contradict_themselves() {
    let with = |line: &str| format!("{MOBILE_NODE}{line}\n");
    one_error(&with("esp = \"aes128gcm16-aes128-sha256\""), 10, &["one proposal cannot hold both"]);
    one_error(&with("ike = [\"aes128gcm16-prfsha256\"]"), 10, &["names no key exchange group"]);
    one_error(&with("ike = []"), 10, &["list is empty"]);
    let home_test = MOBILE_NODE.replace("payload", "return-routability");
    assert_eq!(good(&home_test).config.policies[1].mode, Mode::Tunnel);
    one_error(&format!("{home_test}esp = [\"aes128gcm16\", \"null-sha256\"]\n"), 1, &["offers the null cipher", "RFC 4877 4.3"]);
    // Where one tunnel carries everything, return routability is in it too.
    one_error(&with("esp = [\"aes128gcm16\", \"null-sha256\"]"), 1, &["carries return routability messages along", "null cipher"]);
    one_error(&RECORDS.replace("protocol = \"esp\"", "protocol = \"ah\""), 5, &["AH is not available", "null cipher"]);
}

#[test]
fn times_that_cannot_be() {
    let with = |line: &str| format!("{MOBILE_NODE}{line}\n");
    one_error(&with("child_lifetime = { hard = \"10m\", soft = \"10m\" }"), 10, &["soft lifetime is not shorter", "the hard lifetime"]);
    one_error(&with("child_lifetime = { soft = \"10m\" }"), 10, &["the lifetime has no \"hard\""]);
    one_error(&with("ike_lifetime = { hard = \"10m\", jitter = \"1h\" }"), 10, &["jitter is not shorter"]);
    one_error(&with("ike_lifetime = 3600"), 10, &["has no unit", "3600s"]);
    one_error(&with("ike_lifetime = \"0s\""), 10, &["a time of zero", "for example \"30s\""]);
    one_error(&with("liveness = 0"), 10, &["a time of zero", "write \"off\" for never"]);
    one_error(&with("liveness = \"0s\""), 10, &["a time of zero", "write \"off\" for never"]);
    one_error(&with("ike_lifetime = { hard = \"10m\", jitter = 0 }"), 10, &["a time of zero", "write \"0s\" for none"]);
    one_error(&with("ike_lifetime = \"99999999999999999999h\""), 10, &["is no time"]);
    one_error(&with("retransmit = { initial = \"1m\", cap = \"2s\" }"), 10, &["longer than the longest one"]);
    one_error(&with("retransmit = { factor = 0.5 }"), 10, &["out of range"]);
    one_error(&with("liveness = \"never\""), 10, &["is no time"]);
}

#[test]
fn settings_that_cannot_be() {
    one_error("[watari]\nport = 4500\n", 1, &["port and natt_port are both 4500"]);
    one_error("[watari]\nport = 70000\n", 2, &["70000 is out of range"]);
    one_error("[watari]\ncontrol = \"run/x\"\n", 2, &["is not an absolute path", "begins with /"]);
    one_error("[watari]\nhalf_open_limit = 10\ncookie_threshold = 10\n", 3, &["no cookie would ever be asked for"]);
    one_error("watari = 5\n", 1, &["a whole number, where a table is needed"]);
    assert_eq!(good("").config, Config::default());
}

#[test]
fn records_that_conflict() {
    let served = |home: &str, identity: &str| {
        format!(
            "{HOME_AGENT}\n[[home_agent.mobile_node]]\nname = \"third\"\nhome_address = \"{home}\"\nidentity = \"{identity}\"\npsk = \"x\"\n"
        )
    };
    one_error(&served("2001:db8:1::c", "MN1.example"), 29, &["two mobile nodes have the identity", "the other one"]);
    let complaints = bad(&served("2001:db8:1::a", "mn3.example"));
    assert_eq!(errors(&complaints)[0], (28, "two mobile nodes have the home address 2001:db8:1::a"), "{complaints}");
    one_error(&served("2001:db8:1::c", "mn3.example").replace("third", "second"), 26, &["two remotes are called \"second\""]);
    one_error(&format!("{HOME_AGENT}{}", "[home_agent]\n"), 25, &["duplicate key", "each name may stand once"]);
    let again = "[selector.again]\nlocal = \"10.9.1.1\"\nremote = \"10.9.0.7 udp opaque\"\npolicy = \"host\"\n";
    one_error(&format!("{RECORDS}{again}"), 67, &["two policies have the same traffic and the reqid 0", "different reqids"]);
}

#[test]
fn policies_that_no_packet_or_peer_can_use() {
    let with = |old: &str, new: &str| {
        assert!(RECORDS.contains(old));
        RECORDS.replace(old, new)
    };
    one_error(&with("remote = \"10.9.0.7 udp opaque\"", "remote = \"2001:db8::1\""), 63, &["mixes IPv4 and IPv6"]);
    one_error(&with("local = \"10.9.1.1\"", "local = \"10.9.1.1 tcp\""), 63, &["no packet fits both sides"]);
    one_error(&with("10.9.0.7 udp", "10.8.0.7 udp"), 63, &["rw@example may not hold", "\"may_hold\" of [remote.road.warrior]"]);
    one_error(&with("local = \"10.9.1.1\"", "local = \"10.9.1.1/16\""), 64, &["the prefix is 10.9.0.0/16"]);
    one_error(
        &with("endpoints = [\"192.0.2.1\", \"192.0.2.2\"]", "endpoints = \"template\""),
        36,
        &["do not fit", "nobody moves the template"],
    );
    one_error(&with("endpoints = [\"192.0.2.1\", \"192.0.2.2\"]", "endpoints = [\"192.0.2.1\", \"::1\"]"), 36, &["different families"]);
    one_error(&with("local_address = \"192.0.2.1\"", "local_address = \"::2\""), 13, &["of different families"]);
    one_error(&with("remote_address = \"192.0.2.2\"\n", ""), 24, &["cannot be called at start-up"]);
    let transport =
        with("mode = \"transport\"", "mode = \"transport\"\nendpoints = \"selector\"").replace("\"10.9.1.1\"", "\"10.9.1.0/24\"");
    one_error(&transport, 64, &["not between two hosts"]);
}

fn warnings(text: &str) -> Vec<(u32, String)> {
    let loaded = good(text);
    assert!(loaded.warnings.iter().all(|one| one.severity == Severity::Warning));
    loaded.warnings.iter().map(|one| (one.line, one.message.clone())).collect()
}

#[test]
fn what_kernels_cannot_do_is_warned_of() {
    let typed = format!("{MOBILE_NODE}binding_selector = \"typed\"\n");
    let found = warnings(&typed);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].1.contains("Linux 6.1") && found[0].1.contains("de-registration"));
    assert!(found[1].1.contains("6.12"));
    let binding_only = typed.replace(", \"payload\"", "").replace(", payload = [7, 8]", "");
    assert_eq!(warnings(&binding_only).len(), 1);
    let overlapping = MOBILE_NODE.replace("\"payload\"]", "\"payload\", \"return-routability\", \"prefix-discovery\"]");
    let found = warnings(&overlapping);
    assert!(found.iter().any(|(_, message)| message.contains("TunnelHomeTesting")), "{found:?}");
    assert!(found.iter().any(|(_, message)| message.contains("ICMPv6 type")), "{found:?}");
    // One home agent with many typed nodes says it once.
    let many = HOME_AGENT.replace("policies = ", "binding_selector = \"typed\"\npolicies = ");
    assert_eq!(warnings(&many).len(), 2);
}

#[test]
fn records_that_nothing_uses_are_warned_of() {
    let found = warnings(&format!("{RECORDS}[sa.spare]\nproposal = \"aes128gcm16\"\n"));
    assert_eq!(found, [(67, "nothing refers to [sa.spare]".to_owned())]);
}

#[test]
fn a_home_agent_with_ten_thousand_nodes_loads() {
    let mut text = HOME_AGENT.to_owned();
    for number in 0x100..0x2810 {
        text.push_str(&format!(
            "[[home_agent.mobile_node]]\nhome_address = \"2001:db8:1::{number:x}\"\nidentity = \"n{number}.example\"\npsk = \"secret {number}\"\n"
        ));
    }
    let loaded = good(&text);
    assert_eq!(loaded.config.remotes.len(), 10_002);
    assert_eq!(loaded.config.policies.len(), 30_006);
    assert_eq!(loaded.secrets.len(), 10_002);
}

#[test]
fn the_kernel_is_talked_to_by_xfrm_unless_pf_key_is_chosen() {
    assert_eq!(good(HOME_AGENT).config.settings.backend, crate::KernelInterface::Xfrm);
    let chosen = good(&HOME_AGENT.replace("[watari]\n", "[watari]\nbackend = \"pfkey\"\n"));
    assert_eq!(chosen.config.settings.backend, crate::KernelInterface::PfKey);
    one_error("[watari]\nbackend = \"pf_key\"\n", 2, &["is not understood here", "did you mean \"pfkey\""]);
}

#[test]
fn reqids_that_pf_key_cannot_put_into_a_policy_are_refused_at_load() {
    let over = |backend: &str, reqids: &str| {
        let text = HOME_AGENT.replace("[watari]\n", &format!("[watari]\nbackend = \"{backend}\"\n"));
        text.replace("esp = [\"aes256gcm16-esn\", \"aes128-sha256\"]", "esp = \"aes128-sha512\"").replace("binding = [11, 12]", reqids)
    };
    let line = 1 + over("pfkey", "").lines().position(|line| line.starts_with("home_address = \"2001:db8:1::b\"")).unwrap();
    let found = bad(&over("pfkey", "binding = [11, 16384]"));
    let all = found.to_string();
    assert!(all.contains("has the reqid 16384") && all.contains("16383 is the highest"), "{line} {all}");
    assert_eq!(errors(&found).len(), 1, "{all}");
    good(&over("pfkey", "binding = [11, 16383]"));
    good(&over("xfrm", "binding = [11, 16384]"));
    // What another daemon installs by netlink is not ours to refuse.
    good(&over("pfkey", "binding = [11, 16384]").replace("policies = \"watari\"", "policies = \"mip6d\""));
}

#[test]
fn networks_of_a_mobile_router_load_on_both_sides() {
    let node = MOBILE_NODE.replace("policies =", "networks = [\"2001:db8:5::/48\", \"2001:db8:6::/48\"]\npolicies =");
    let config = load(&node, "mn.toml", &Vault).expect("loads").config;
    let names: Vec<_> = config.policies.iter().map(|policy| policy.name.as_str()).collect();
    assert_eq!(names, ["binding", "payload", "network", "network-2"]);
    let agent = HOME_AGENT.replace("psk = \"first secret\"", "psk = \"first secret\"\nnetworks = \"2001:db8:5::/48\"");
    let config = load(&agent, "ha.toml", &Vault).expect("loads").config;
    assert_eq!(config.policies.iter().filter(|policy| policy.name == "network").count(), 1);
    let complaint = |text: &str| load(text, "x.toml", &Vault).map(|_| ()).expect_err("refused").to_string();
    assert!(complaint(&node.replace("\"2001:db8:6::/48\"", "\"10.0.0.0/8\"")).contains("no mobile network"));
    assert!(complaint(&node.replace(", \"payload\"]", "]").replace("payload = [7, 8] ", "")).contains("networks"));
}

#[test]
fn a_key_file_without_an_end_in_sight_is_refused() {
    let long = |_: &str| Ok(Secret::new(vec![b'k'; LONGEST_KEY_FILE + 1]));
    let told = load(MOBILE_NODE, "watari.toml", &long).unwrap_err().to_string();
    assert!(told.contains("more than a key or certificates need"), "{told}");
    let by_certificate = MOBILE_NODE.replace("psk_file = ", "authorities = \"/ca.pem\"\npsk_file = ");
    assert_eq!(load(&by_certificate, "watari.toml", &long).unwrap_err().error_count(), 2);
}

#[test]
fn reqids_do_not_tell_policies_apart_that_we_install() {
    let node = |name: &str, agent: &str, reqids: &str| {
        let text = MOBILE_NODE.replace("[mobile_node]", &format!("[[mobile_node]]\nname = \"{name}\""));
        text.replace("2001:db8:1::1\"", &format!("2001:db8:1::{agent}\"")).replace("payload = [7, 8]", reqids)
    };
    let two = format!("{}{}", node("one", "1", "payload = [7, 8]"), node("two", "2", "payload = [17, 18]"));
    good(&two);
    let complaints = bad(&two.replace("mip6d", "watari"));
    let told = complaints.to_string();
    assert_eq!(errors(&complaints).len(), 1, "{told}");
    assert!(told.contains("\"payload\" of \"one\" and \"payload\" of \"two\"") && !told.contains("different reqids"), "{told}");
    // One of two is enough: ours would be put in the place of mip6d's.
    bad(&two.replacen("mip6d", "watari", 1));
}

#[test]
fn help_names_each_key_once_and_none_without_effect() {
    let help = |text: &str| {
        let all = bad(text).to_string();
        let line = all.lines().find(|line| line.contains("the keys are: ")).unwrap_or_else(|| panic!("{all}")).to_owned();
        line.split_once("the keys are: ").unwrap().1.split(", ").map(str::to_owned).collect::<Vec<_>>()
    };
    let gateway = "[gateway]\nzzzzzzzz = 1\naddress = \"2001:db8:1::1\"\nidentity = \"gw.example\"\n[[gateway.client]]\nidentity = \"c.example\"\n\
        address = \"2001:db8:9::1\"\npsk = \"k\"\n";
    for text in [gateway.to_owned(), format!("{MOBILE_NODE}zzzzzzzz = 1\n"), HOME_AGENT.replace("protect", "zzzzzzzz = 1\nprotect")] {
        let keys = help(&text);
        let mut once = keys.clone();
        once.dedup();
        assert!(keys == once && keys.contains(&"identity".to_owned()), "{keys:?}");
        assert_eq!(keys.contains(&"start".to_owned()), text == format!("{MOBILE_NODE}zzzzzzzz = 1\n"), "{keys:?}");
    }
}
