//! A mip6d.conf against our configuration: policies that mip6d installs and we negotiate for must agree in addresses, type and reqids.
//! So must the switches that say whether mip6d uses IPsec at all, and whether it echoes the K bit.
//! Invariant: what is not understood of a mip6d.conf is passed over.

use std::collections::BTreeMap;
use std::net::IpAddr;

use watari_policies::profile::{BindingSelector, Protected};
use watari_policies::{Config, Installer, KeyMobility, MobilityRole, Policy};

/// A word of the file and its line, from 1.
type Word<'a> = (&'a str, u32);

/// What a policy is about: the home address, the home agent, and the word of mip6d.conf for its traffic.
type About = (IpAddr, IpAddr, &'static str);

/// Reqids to the home agent and to the mobile node, and the line they come from.
type Found = (u32, u32, u32);

/// Words of mip6d.conf for traffic, and the policy of ours that has the same selector.
const TYPES: &[(&str, Protected, BindingSelector)] = &[
    ("Mh", Protected::Binding, BindingSelector::Any),
    ("HomeRegBinding", Protected::Binding, BindingSelector::Typed),
    ("MobPfxDisc", Protected::PrefixDiscovery, BindingSelector::Any),
    ("TunnelHomeTesting", Protected::ReturnRoutability, BindingSelector::Any),
    ("TunnelPayload", Protected::Payload, BindingSelector::Any),
];

/// Every difference, in words, with the lines of both files; none if they agree.
pub(crate) fn differences(config: &Config, ours: &str, text: &str, theirs: &str) -> Vec<String> {
    let (mine, mut said) = policies_of(config, ours);
    let (installed, passed_over) = policies_in(text);
    said.extend(switches(config, ours, text, theirs));
    said.extend(passed_over.into_iter().map(|(word, line)| {
        format!("{theirs} line {line}: no policy of ours is like \"{word}\"; write Mh, HomeRegBinding, MobPfxDisc, TunnelHomeTesting or TunnelPayload")
    }));
    for ((home, agent, word), (to_agent, to_node, line)) in &mine {
        let here = format!("{ours} line {line}: {word} of {home} with {agent}");
        match installed.get(&(*home, *agent, word)) {
            Some((out, back, _)) if (out, back) == (to_agent, to_node) => {}
            Some((out, back, there)) => said.push(format!(
                "{here} has the reqids {to_agent} {to_node} (to the home agent, to the mobile node), {theirs} line {there} has {out} {back}"
            )),
            None => {
                let other =
                    installed.iter().find(|((address, host, other), _)| (address, host) == (home, agent) && kind(other) == kind(word));
                said.push(match other {
                    Some(((_, _, other), (_, _, there))) => format!("{here}, but {theirs} line {there} says {other}"),
                    None => format!("{here} has no counterpart in {theirs}"),
                });
            }
        }
    }
    for ((home, agent, word), (_, _, line)) in &installed {
        let known = mine.keys().any(|(address, host, other)| (address, host) == (home, agent) && kind(other) == kind(word));
        if !known {
            said.push(format!("{theirs} line {line}: nothing in {ours} negotiates for {word} of {home} with {agent}"));
        }
    }
    said
}

/// Whether a switch is on, and its line; `None` if it stands nowhere. The last one counts.
fn switch(text: &str, name: &str) -> Option<(bool, u32)> {
    let words = words(text);
    let mut set = words.windows(2).filter_map(|pair| match pair {
        [(word, _), (value, line)] if *word == name => Some((*value != "disabled", *line)),
        _ => None,
    });
    set.next_back()
}

/// What mip6d does not do, though our configuration counts on it.
fn switches(config: &Config, ours: &str, text: &str, theirs: &str) -> Vec<String> {
    let mut said = Vec::new();
    let installed = config.policies.iter().find(|policy| policy.installer == Installer::Other);
    if let (Some((false, line)), Some(policy)) = (switch(text, "UseMnHaIPsec"), installed) {
        said.push(format!(
            "{theirs} line {line}: with \"UseMnHaIPsec disabled\" mip6d installs no policy and protects nothing, but {ours} line {} leaves \
             the policies to it; write \"UseMnHaIPsec enabled\"",
            policy.line
        ));
    }
    let k = switch(text, "KeyMngMobCapability");
    let counts_on_k = config.remotes.iter().filter(|remote| remote.role.is_mobile_ipv6()).find_map(|remote| {
        let home_agent = matches!(remote.role, MobilityRole::HomeAgent { .. });
        let key = match (remote.movements.key_mobility, k) {
            (KeyMobility::Assume, Some((false, _))) => "key_mobility = \"assume\"",
            // Where nothing is written mip6d has it disabled.
            (KeyMobility::Observe, None | Some((false, _))) if home_agent && remote.movements.daemon_echoes_k => "daemon_echoes_k = true",
            _ => return None,
        };
        Some((remote, key))
    });
    if let Some((remote, key)) = counts_on_k {
        let there = match k {
            Some((_, line)) => format!("{theirs} line {line}: with \"KeyMngMobCapability disabled\""),
            None => format!("{theirs}: without \"KeyMngMobCapability enabled\""),
        };
        said.push(format!(
            "{there} mip6d never sets the K bit, but {ours} line {} has {key} (\"{}\"); enable it there, or change the key here",
            remote.line, remote.name
        ));
    }
    said
}

fn kind(word: &str) -> Option<Protected> {
    TYPES.iter().find(|(known, ..)| *known == word).map(|(_, what, _)| *what)
}

/// The policies of ours that mip6d is to install, and those that it has no word for.
fn policies_of(config: &Config, ours: &str) -> (BTreeMap<About, Found>, Vec<String>) {
    let mut found = BTreeMap::new();
    let mut said = Vec::new();
    for policy in config.policies.iter().filter(|policy| policy.installer == Installer::Other && config.in_force(policy)) {
        let Some(remote) = config.remote(policy.remote) else { continue };
        let (node, home, agent) = match remote.role {
            MobilityRole::None | MobilityRole::RoadWarrior { .. } | MobilityRole::Gateway { .. } => continue,
            MobilityRole::MobileNode { home_address } => (true, home_address, remote.remote_address),
            MobilityRole::HomeAgent { home_address } => (false, home_address, remote.local_address),
        };
        let Some(agent) = agent else { continue };
        match word_for(policy, node, home, agent) {
            Some(word) => {
                let (to_agent, to_node) = if node { (policy.reqid_out, policy.reqid_in) } else { (policy.reqid_in, policy.reqid_out) };
                found.insert((home, agent, word), (to_agent.0, to_node.0, policy.line));
            }
            None => said.push(format!("{ours} line {}: mip6d has no word for the traffic of policy \"{}\"", policy.line, policy.name)),
        }
    }
    (found, said)
}

fn word_for(policy: &Policy, node: bool, home: IpAddr, agent: IpAddr) -> Option<&'static str> {
    let seen = if node { policy.traffic.clone() } else { policy.traffic.reversed() };
    TYPES.iter().find(|(_, what, width)| what.traffic(home, agent, *width) == seen).map(|(word, ..)| *word)
}

/// The policies of every `IPsecPolicySet`, and words for traffic that no policy of ours can have.
fn policies_in(text: &str) -> (BTreeMap<About, Found>, Vec<Word<'_>>) {
    let words = words(text);
    let mut found = BTreeMap::new();
    let mut passed_over = Vec::new();
    let mut rest = words.as_slice();
    while let Some(at) = rest.iter().position(|(word, _)| *word == "IPsecPolicySet") {
        rest = rest.get(at..).unwrap_or_default();
        let end = rest.iter().position(|(word, _)| *word == "}").unwrap_or(rest.len());
        let (set, after) = rest.split_at_checked(end).unwrap_or((rest, &[]));
        rest = after;
        let address = |name: &str| {
            let values = set.windows(2).filter(|pair| matches!(pair, [(word, _), _] if *word == name));
            values.filter_map(|pair| pair.get(1)?.0.split('/').next()?.parse::<IpAddr>().ok()).collect::<Vec<_>>()
        };
        let agents = address("HomeAgentAddress");
        let Some(agent) = agents.first() else { continue };
        for home in address("HomeAddress") {
            for statement in set.split(|(word, _)| matches!(*word, ";" | "{")) {
                let [("IPsecPolicy", line), (word, _), ("UseESP", _), numbers @ ..] = statement else { continue };
                let Some((known, ..)) = TYPES.iter().find(|(known, ..)| known == word) else {
                    passed_over.push((*word, *line));
                    continue;
                };
                let numbers: Vec<u32> = numbers.iter().filter_map(|(number, _)| number.parse().ok()).collect();
                let to_agent = numbers.first().copied().unwrap_or_default();
                let to_node = numbers.get(1).copied().unwrap_or(to_agent);
                found.insert((home, *agent, *known), (to_agent, to_node, *line));
            }
        }
    }
    passed_over.dedup();
    (found, passed_over)
}

/// The words of the file, comments left out; braces and semicolons are words of their own.
fn words(text: &str) -> Vec<Word<'_>> {
    let mut found = Vec::new();
    for (line, number) in text.lines().zip(1u32..) {
        let code = line.split('#').next().unwrap_or_default();
        for part in code.split_inclusive(|letter: char| letter.is_whitespace() || "{};".contains(letter)) {
            let part = part.trim();
            let (word, sign) = part.find(['{', '}', ';']).and_then(|at| part.split_at_checked(at)).unwrap_or((part, ""));
            found.extend([word.trim(), sign].into_iter().filter(|word| !word.is_empty()).map(|word| (word, number)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use watari_policies::{Secret, config};

    const WATARI: &str = r#"[mobile_node]
home_address = "2001:db8:1::abcd"
home_agent = "2001:db8:1::1"
identity = "mn.example"
home_agent_identity = "ha.example"
psk = "key"
protect = ["binding", "payload"]
reqids = { binding = [1, 2], payload = [7, 8] }
policies = "mip6d"
"#;

    const MIP6D: &str = "NodeConfig MN;\nUseMnHaIPsec enabled;\nIPsecPolicySet {\n\tHomeAgentAddress 2001:db8:1::1;\n\
        \tHomeAddress 2001:db8:1::abcd/64;\n\tIPsecPolicy Mh UseESP 1 2; # both\n\tIPsecPolicy TunnelPayload UseESP 7 8;\n}\n";

    fn compare(watari: &str, mip6d: &str) -> Vec<String> {
        let secret = |_: &str| Ok(Secret::from(&b"key"[..]));
        let loaded = config::load(watari, "watari.toml", &secret).unwrap_or_else(|complaints| panic!("{complaints}"));
        differences(&loaded.config, "watari.toml", mip6d, "mip6d.conf")
    }

    #[test]
    fn files_that_agree_have_no_differences() {
        assert_eq!(compare(WATARI, MIP6D), Vec::<String>::new());
        let one_line = MIP6D.replace(['\n', '\t'], " ").replace("# both", "");
        assert_eq!(compare(WATARI, &one_line), Vec::<String>::new());
        let agent = "[home_agent]\naddress = \"2001:db8:1::1\"\nidentity = \"ha.example\"\nprotect = [\"binding\", \"payload\"]\n\
            reqids = { binding = [1, 2], payload = [7, 8] }\npolicies = \"mip6d\"\nmobile_nodes_file = \"/nodes\"\nhome_prefix = \"2001:db8:1::/64\"\n";
        let nodes = |_: &str| Ok(Secret::from(&b"mn.example 2001:db8:1::abcd key\nother.example assign key\n"[..]));
        let loaded = config::load(agent, "watari.toml", &nodes).unwrap_or_else(|complaints| panic!("{complaints}"));
        assert_eq!(differences(&loaded.config, "watari.toml", MIP6D, "mip6d.conf"), Vec::<String>::new(), "one block, any number of nodes");
    }

    #[test]
    fn switches_that_our_configuration_counts_on_are_differences() {
        let one = |watari: &str, mip6d: &str, words: &[&str]| {
            let said = compare(watari, mip6d);
            let [only] = said.as_slice() else { panic!("{said:#?}") };
            assert!(words.iter().all(|word| only.contains(word)), "{only}");
        };
        one(WATARI, &MIP6D.replace("enabled", "disabled"), &["mip6d.conf line 2", "UseMnHaIPsec enabled", "watari.toml line 1"]);
        let no_k = MIP6D.replace("UseMnHa", "KeyMngMobCapability disabled;\nUseMnHa");
        one(WATARI, &no_k, &["mip6d.conf line 2", "KeyMngMobCapability disabled", "watari.toml line 1", "key_mobility = \"assume\""]);
        assert_eq!(compare(&format!("{WATARI}key_mobility = \"never\"\n"), &no_k), Vec::<String>::new());
        assert_eq!(compare(&format!("{WATARI}key_mobility = \"observe\"\n"), &no_k), Vec::<String>::new(), "a node asks by itself");
        let agent = "[home_agent]\naddress = \"2001:db8:1::1\"\nidentity = \"ha.example\"\nprotect = [\"binding\", \"payload\"]\n\
            reqids = { binding = [1, 2], payload = [7, 8] }\npolicies = \"mip6d\"\nkey_mobility = \"observe\"\n\
            [[home_agent.mobile_node]]\nidentity = \"mn.example\"\nhome_address = \"2001:db8:1::abcd\"\npsk = \"key\"\n";
        one(agent, &no_k, &["mip6d.conf line 2", "daemon_echoes_k = true"]);
        one(agent, MIP6D, &["without \"KeyMngMobCapability enabled\"", "daemon_echoes_k = true"]);
        let k = no_k.replace("Capability disabled", "Capability enabled");
        assert_eq!(compare(agent, &k), Vec::<String>::new());
        assert_eq!(compare(&agent.replace("\"observe\"", "\"observe\"\ndaemon_echoes_k = false"), &no_k), Vec::<String>::new());
    }

    #[test]
    fn each_difference_names_the_lines_of_both_files() {
        let cases = [
            ("Mh UseESP 1 2", "Mh UseESP 3", "watari.toml line 1: Mh of 2001:db8:1::abcd with 2001:db8:1::1 has the reqids 1 2"),
            ("Mh UseESP 1 2", "Mh UseESP 3", "mip6d.conf line 6 has 3 3"),
            ("Mh UseESP 1 2", "HomeRegBinding UseESP 1 2", "but mip6d.conf line 6 says HomeRegBinding"),
            (
                "IPsecPolicy TunnelPayload UseESP 7 8;",
                "",
                "TunnelPayload of 2001:db8:1::abcd with 2001:db8:1::1 has no counterpart in mip6d.conf",
            ),
            (
                "TunnelPayload UseESP 7 8;",
                "TunnelPayload UseESP 7 8; IPsecPolicy MobPfxDisc UseESP;",
                "mip6d.conf line 7: nothing in watari.toml negotiates for MobPfxDisc",
            ),
            (
                "Mh UseESP 1 2;",
                "Mh UseESP 1 2; IPsecPolicy TunnelMh UseESP 5 6;",
                "mip6d.conf line 6: no policy of ours is like \"TunnelMh\"",
            ),
        ];
        for (from, to, expected) in cases {
            let said = compare(WATARI, &MIP6D.replace(from, to));
            assert_eq!(said.len(), 1, "{to}: {said:#?}");
            assert!(said[0].contains(expected), "{said:#?}");
        }
        let elsewhere = compare(WATARI, &MIP6D.replace("::abcd/64", "::abce/64"));
        assert_eq!(elsewhere.len(), 4, "two of each side: {elsewhere:#?}");
        assert_eq!(compare(WATARI, "").len(), 2);
        for broken in ["IPsecPolicySet", "IPsecPolicySet {", "IPsecPolicySet { HomeAgentAddress", "}}};;;", "IPsecPolicySet { IPsecPolicy"]
        {
            assert_eq!(compare(WATARI, broken).len(), 2, "{broken}");
        }
    }
}
