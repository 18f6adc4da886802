use std::net::IpAddr;

use super::*;
use crate::config::{Diagnostics, Loaded, Severity, expand, load};
use crate::model::{Authentication, Endpoints};
use crate::{Config, MobilityRole, Secret};

const GATEWAY: &str = r#"[gateway]
address = "2001:db8:1::1"
identity = "gw.example"
networks = ["2001:db8:b::/64"]
pool = "2001:db8:9::1000-2001:db8:9::1fff"
child_lifetime = "30m"
"#;

const CLIENTS: &str = r#"clients_file = "/etc/watari/clients"
"#;

const TABLE: &str = r#"
[[gateway.client]]
identity = "boss@example"
address = "2001:db8:9::5"
psk_file = "/etc/watari/boss.psk"
networks = ["2001:db8:b::/64", "2001:db8:c::/64"]
child_lifetime = "5m"
ike = "aes256gcm16-prfsha256-x25519"
"#;

const ROAD_WARRIOR: &str = r#"[road_warrior]
address = "assign"
gateway = "2001:db8:1::1"
identity = "laptop.example"
gateway_identity = "gw.example"
psk_file = "/etc/watari/laptop.psk"
networks = ["2001:db8:b::/64"]
"#;

fn read(text: &str) -> Result<Loaded, Diagnostics> {
    let source = |path: &str| {
        let content = if path.ends_with("clients") { "laptop.example assign hush\nphone.example 2001:db8:9::6 silent\n" } else { "key" };
        Ok(Secret::from(content.as_bytes()))
    };
    load(text, "watari.toml", &source)
}

fn good(text: &str) -> Config {
    read(text).unwrap_or_else(|complaints| panic!("{complaints}")).config
}

fn bad(text: &str) -> Vec<String> {
    let complaints = read(text).unwrap_err();
    complaints.iter().filter(|one| one.severity == Severity::Error).map(|one| one.message.clone()).collect()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn one_block_serves_any_number_of_clients_each_with_a_key_and_parameters_of_its_own() {
    let config = good(&format!("{GATEWAY}{CLIENTS}{TABLE}"));
    let names: Vec<_> = config.remotes.iter().map(|remote| remote.name.as_str()).collect();
    assert_eq!(names, ["boss@example", "laptop.example", "phone.example"]);
    let roles: Vec<_> = config.remotes.iter().map(|remote| remote.role).collect();
    assert_eq!(roles[0], MobilityRole::Gateway { inner_address: ip("2001:db8:9::5") });
    assert_eq!(roles[1], MobilityRole::Gateway { inner_address: MobilityRole::UNKNOWN });
    let secrets: std::collections::BTreeSet<_> = config
        .remotes
        .iter()
        .filter_map(|remote| match remote.authentication {
            Authentication::Psk(secret) => Some(secret),
            _ => None,
        })
        .collect();
    assert_eq!(secrets.len(), 3);
    let lifetime = |policy: usize| config.ipsec(config.policies[policy].ipsec).unwrap().lifetime.hard;
    assert_eq!((lifetime(0), lifetime(1), lifetime(2)), (Duration::from_secs(300), Duration::from_secs(1800), Duration::from_secs(1800)));
    assert_eq!(config.policies[0].traffic.local.len(), 2);
    assert_eq!(config.policies[1].traffic.local.len(), 1);
    assert_ne!(config.remotes[0].proposals, config.remotes[1].proposals);
    let reqids: std::collections::BTreeSet<_> = config.policies.iter().flat_map(|policy| [policy.reqid_in, policy.reqid_out]).collect();
    assert_eq!(reqids.len(), 6, "no two share a reqid");
    assert!(config.policies.iter().all(|policy| policy.endpoints == Endpoints::Ike));
}

#[test]
fn a_road_warrior_asks_for_an_address_or_has_one() {
    let config = good(ROAD_WARRIOR);
    assert_eq!(config.remotes[0].role, MobilityRole::RoadWarrior { inner_address: MobilityRole::UNKNOWN });
    assert!(config.remotes[0].start && !config.in_force(&config.policies[0]));
    let own = good(&ROAD_WARRIOR.replace("\"assign\"", "\"2001:db8:9::6\""));
    assert!(own.in_force(&own.policies[0]));
    assert_eq!(own.policies[0].traffic.local, [crate::TrafficItem::any(AddressRange::host(ip("2001:db8:9::6")))]);
    let everything = good(&ROAD_WARRIOR.replace("networks = [\"2001:db8:b::/64\"]", ""));
    assert_eq!(everything.policies[0].traffic.remote[0].range, AddressRange::ANY_V6);
}

#[test]
fn what_is_expanded_loads_again_as_the_same() {
    let text = format!("{}{TABLE}", GATEWAY.replace("pool", "#pool"));
    for text in [text, ROAD_WARRIOR.replace("\"assign\"", "\"2001:db8:9::6\"")] {
        let loaded = read(&text).unwrap_or_else(|complaints| panic!("{complaints}"));
        let printed = expand(&loaded.config, &loaded.origins);
        let again = read(&printed).unwrap_or_else(|complaints| panic!("{complaints}\n{printed}"));
        assert_eq!(loaded.config.without_lines(), again.config.without_lines(), "{printed}");
    }
}

#[test]
fn complaints_say_what_is_wrong() {
    assert_eq!(bad(GATEWAY), ["[gateway] serves no client"]);
    assert_eq!(bad(&format!("{}{TABLE}", GATEWAY.replace("pool", "start"))).len(), 1);
    let no_pool = format!("{}{CLIENTS}", GATEWAY.replace("pool = \"2001:db8:9::1000-2001:db8:9::1fff\"\n", ""));
    assert_eq!(bad(&no_pool), ["/etc/watari/clients, line 1: its address cannot be assigned without \"pool\""]);
    let twice = format!("{GATEWAY}{CLIENTS}{}", TABLE.replace("boss@example", "laptop.example"));
    assert_eq!(bad(&twice), ["/etc/watari/clients, line 1: the identity is that of a [[gateway.client]] already"]);
    let twice = format!("{GATEWAY}{TABLE}{}", TABLE.replace("boss@example", "other@example"));
    assert_eq!(bad(&twice), ["two clients have the address 2001:db8:9::5"]);
    assert_eq!(bad(&ROAD_WARRIOR.replace("gateway = ", "gatewai = ")).len(), 2);
}
