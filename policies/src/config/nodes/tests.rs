use std::net::IpAddr;

use super::*;
use crate::config::{Diagnostics, Loaded, Severity, load};
use crate::{AddressRange, Config, PolicyId, RemoteId};

const HOME_AGENT: &str = r#"[home_agent]
address = "2001:db8:1::1"
identity = "ha.example"
protect = ["binding", "payload"]
policies = "watari"
home_prefix = "2001:db8:1::/64"
pool = "2001:db8:1::1000-2001:db8:1::1fff"
mobile_nodes_file = "/etc/watari/nodes"
"#;

fn read(configuration: &str, nodes: &str) -> Result<Loaded, Diagnostics> {
    let content = nodes.as_bytes().to_vec();
    load(configuration, "watari.toml", &move |_: &str| Ok(Secret::from(content.clone())))
}

fn good(nodes: &str) -> Loaded {
    read(HOME_AGENT, nodes).unwrap_or_else(|complaints| panic!("{complaints}"))
}

fn bad(nodes: &str) -> Vec<String> {
    let complaints = read(HOME_AGENT, nodes).unwrap_err();
    assert!(!complaints.to_string().contains("hush"), "{complaints}");
    complaints.iter().filter(|one| one.severity == Severity::Error).map(|one| one.message.clone()).collect()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn ids(config: &Config, remote: u32) -> Vec<PolicyId> {
    config.policies_of(RemoteId(remote)).map(|(id, _)| id).collect()
}

#[test]
fn each_line_is_a_mobile_node() {
    let text = "# the fleet\n\nmn1.example  2001:db8:1::a1\tfirst hush key \r\nmn2@example assign second#hush\n";
    let loaded = good(text);
    let config = &loaded.config;
    assert_eq!(config.remotes.iter().map(|remote| remote.name.as_str()).collect::<Vec<_>>(), ["mn1.example", "mn2@example"]);
    assert_eq!(config.remotes[0].role.home_address(), Some(ip("2001:db8:1::a1")));
    assert_eq!(config.remotes[1].role, MobilityRole::HomeAgent { home_address: MobilityRole::UNKNOWN });
    let keys: Vec<&[u8]> = config
        .remotes
        .iter()
        .map(|remote| match remote.authentication {
            crate::model::Authentication::Psk(id) => loaded.secrets[&id].expose(),
            _ => panic!("a pre-shared key"),
        })
        .collect();
    assert_eq!(keys, [b"first hush key".as_slice(), b"second#hush"]);
    assert!(loaded.origins.values().any(|origin| *origin == SecretOrigin::Line { path: "/etc/watari/nodes".into(), line: 4 }));
    assert!(config.policies[..2].iter().all(|policy| config.in_force(policy)));
    assert!(!config.policies[2..].iter().any(|policy| config.in_force(policy)));
}

#[test]
fn complaints_name_file_and_line_and_show_nothing_of_it() {
    let cases = [
        ("mn1.example", "line 1: the second word is neither"),
        ("mn1.example hush hush", "line 1: the second word is neither"),
        ("\nmn1.example assign", "line 2: there is no key"),
        ("\"hush\" assign hush", "line 1: the first word is no identity"),
        ("\u{fffd}hush assign hush", "line 1: the first word is no identity"),
        ("a.example assign hush\nA.example assign hush", "line 2: the identity is that of line 1 already"),
        ("a.example 2001:db8:1::7 hush\nb.example 2001:db8:1::7 hush", "line 2: the home address is that of line 1 already"),
        ("a.example 2001:db8:1::1 hush", "line 1: the home address is the home agent's own"),
        ("a.example 2001:db8:2::7 hush", "line 1: the home address is not in the home prefix, 2001:db8:1::/64"),
        ("a.example 192.0.2.1 hush", "line 1: the home address cannot be used: Mobile IPv6"),
    ];
    for (nodes, message) in cases {
        let said = bad(nodes);
        assert_eq!(said.len(), 1, "{nodes:?}: {said:?}");
        assert!(said[0].starts_with("/etc/watari/nodes, ") && said[0].contains(message), "{nodes:?}: {said:?}");
    }
    let said = bad(&"hush\n".repeat(1000));
    assert_eq!(said.len(), MOST_COMPLAINTS + 1);
    assert!(said.last().unwrap().contains("980 more lines"));
}

#[test]
fn a_table_and_a_line_cannot_be_one_node() {
    let table = "[[home_agent.mobile_node]]\nhome_address = \"2001:db8:1::a1\"\nidentity = \"mn1.example\"\npsk = \"hush\"\n";
    let complaints = read(&format!("{HOME_AGENT}{table}"), "mn1.example assign hush").unwrap_err();
    assert!(
        complaints.to_string().contains("/etc/watari/nodes, line 1: the identity is that of a [[home_agent.mobile_node]]"),
        "{complaints}"
    );
}

#[test]
fn addresses_are_assigned_only_where_the_prefix_is_known() {
    let without = HOME_AGENT.replace("home_prefix = \"2001:db8:1::/64\"\n", "");
    let complaints = read(&without, "mn1.example assign hush").unwrap_err().to_string();
    assert!(complaints.contains("a pool needs the prefix") && complaints.contains("line 1: its home address cannot be assigned"));
    let elsewhere = HOME_AGENT.replace("::1000-2001:db8:1::1fff", "::1000-2001:db8:2::1");
    assert!(read(&elsewhere, "").unwrap_err().to_string().contains("the pool is not within the home prefix"));
    let table = format!("{without}[[home_agent.mobile_node]]\nhome_address = \"assign\"\nidentity = \"x.example\"\npsk = \"hush\"\n");
    let table = table.replace("pool = \"2001:db8:1::1000-2001:db8:1::1fff\"\n", "");
    assert!(read(&table, "").unwrap_err().to_string().contains("this home address cannot be assigned"));
}

//= rfc4877#7.2.1
//# named SPD entries per mobile node are filled with its home address once it is known
#[test]
fn policies_are_filled_when_the_address_is_known_and_emptied_again() {
    let mut config = good("mn1.example assign hush").config;
    let empty = config.clone();
    let fixed = good("mn1.example 2001:db8:1::1234 hush").config;
    let (remote, home) = (RemoteId(0), ip("2001:db8:1::1234"));
    let policies = ids(&config, 0);
    assert!(config.fill(remote, home, &policies));
    assert_eq!(config.policies, fixed.policies, "as if the address had been written");
    let identity = config.remotes[0].remote_identity.clone();
    assert!(config.policies.iter().all(|policy| config.in_force(policy) && config.pad.may_hold(&identity, &policy.traffic)));
    assert!(!config.pad.may_hold_range(&identity, &AddressRange::host(ip("2001:db8:1::1235"))));
    // Another address in its place: nothing of the first remains.
    assert!(config.fill(remote, ip("2001:db8:1::1235"), &policies));
    assert!(!config.pad.may_hold_range(&identity, &AddressRange::host(home)));
    assert!(config.withdraw(remote, &policies));
    assert_eq!(config, empty, "ten thousand comings and goings leave nothing behind");
    let mut fixed_too = fixed.clone();
    assert!(!fixed_too.fill(remote, home, &policies));
    assert_eq!(fixed_too, fixed);
}

#[test]
fn a_mobile_node_asks_for_its_address() {
    let text = |home: &str| {
        format!(
            "[mobile_node]\nhome_address = \"{home}\nhome_agent = \"2001:db8:1::1\"\nidentity = \"mn.example\"\n\
             home_agent_identity = \"ha.example\"\npsk = \"hush\"\nprotect = [\"binding\", \"payload\"]\npolicies = \"mip6d\"\n"
        )
    };
    let config = |home: &str| read(&text(home), "").map(|loaded| loaded.config);
    let asks = |home: &str| config(home).unwrap().remotes[0].assigned.unwrap().ask;
    assert_eq!(asks("assign\""), Some(crate::Ask::Address(None)));
    assert_eq!(asks("assign\"\nhome_address_hint = \"2001:db8:1::77\""), Some(crate::Ask::Address(Some(ip("2001:db8:1::77")))));
    assert!(matches!(asks("autoconfigure\""), Some(crate::Ask::Prefix(_))));
    assert!(config("2001:db8:1::9\"\nhome_address_hint = \"2001:db8:1::77\"").unwrap_err().to_string().contains("has no effect"));
    let mut assigned = config("assign\"").unwrap();
    assert!(assigned.remotes[0].start && assigned.remotes[0].awaits_home_address());
    let waits = config("assign\"\nstart = false").unwrap();
    assert!(!waits.remotes[0].start && waits.remotes[0].awaits_home_address(), "an operator says when");
    let policies = ids(&assigned, 0);
    assert!(assigned.fill(RemoteId(0), ip("2001:db8:1::9"), &policies));
    let fixed = config("2001:db8:1::9\"").unwrap();
    assert_eq!(
        assigned.policies.iter().map(|p| &p.traffic).collect::<Vec<_>>(),
        fixed.policies.iter().map(|p| &p.traffic).collect::<Vec<_>>()
    );
    assert_eq!(assigned.pad, fixed.pad);
}

fn fleet(nodes: u32) -> String {
    (0..nodes).map(|node| format!("mn{node}.example assign hush-{node}\n")).collect()
}

#[test]
fn ten_thousand_nodes_have_reqids_of_their_own_that_others_do_not_change() {
    let all = good(&fleet(10_000));
    let reqids = |config: &Config| -> BTreeMap<(Identity, String), (u32, u32)> {
        let key = |policy: &crate::Policy| (config.remote(policy.remote).unwrap().remote_identity.clone(), policy.name.clone());
        config.policies.iter().map(|policy| (key(policy), (policy.reqid_out.0, policy.reqid_in.0))).collect()
    };
    let numbers = reqids(&all.config);
    let distinct: BTreeSet<u32> = numbers.values().flat_map(|(out, inward)| [*out, *inward]).collect();
    assert_eq!((all.config.policies.len(), distinct.len()), (20_000, 40_000));
    assert!(!distinct.contains(&1) && !distinct.contains(&8), "those of the terms belong to whoever wrote them");
    // Without the first of them, nearly all others keep their numbers and the numbers of their secrets.
    let fewer = good(fleet(10_000).split_once('\n').unwrap().1);
    let left = reqids(&fewer.config);
    assert!(left.iter().filter(|(key, pair)| numbers.get(*key) != Some(*pair)).count() <= 2 * 16);
    let secrets = |config: &Config| {
        config.remotes.iter().map(|remote| (remote.name.clone(), remote.authentication.clone())).collect::<BTreeMap<_, _>>()
    };
    let (before, after) = (secrets(&all.config), secrets(&fewer.config));
    assert!(after.iter().filter(|(name, proof)| before.get(*name) != Some(*proof)).count() <= 2);
}

#[test]
fn the_search_for_free_numbers_is_short() {
    let terms = Terms { installer: Installer::Us, ..Terms::default() };
    let around = Surroundings {
        words: MOBILE_NODES,
        home_agent: None,
        home_prefix: None,
        terms: Some(&terms),
        tables: &[],
        reqids: BTreeSet::new(),
    };
    let mut numbers = Numbers::new(&terms, &around);
    let mut walked = 0u64;
    let mut low = 0;
    for node in 0..10_000u32 {
        let fingerprint = format!("mn{node}.example").parse::<Identity>().unwrap().fingerprint();
        let first = numbers.allot(fingerprint)[&Protected::Binding].to_home_agent.0 / Numbers::OF_A_NODE;
        if first < Numbers::LOW.1 {
            low += 1;
            continue;
        }
        let (start, end) = Numbers::HIGH;
        let wanted = start + u32::try_from(fingerprint % u64::from(end - start)).unwrap();
        walked += u64::from(first - wanted);
    }
    assert!(low > 1500, "{low} nodes have numbers that PF_KEY can carry");
    assert!(walked < 1000, "{walked} steps for all of them");
}
