//! The keys about several addresses of one peer and about redirects, the same in profiles and in remotes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::net::IpAddr;

use super::diagnostics::Report;
use super::document::{Read, Section, Value, printable};
use super::values;
use crate::{Follow, Gateway, Gateways, SendOn};

const FOLLOW: &[(&str, Follow)] =
    &[(Follow::Never.name(), Follow::Never), (Follow::Listed.name(), Follow::Listed), (Follow::Any.name(), Follow::Any)];
const SEND_ON: &[(&str, SendOn)] = &[(SendOn::Init.name(), SendOn::Init), (SendOn::Auth.name(), SendOn::Auth)];

/// Reads the addresses of a peer, the first one and all of several.
pub(super) fn addresses(
    report: &mut Report<'_>,
    value: &Value<'_>,
    one: impl Fn(&mut Report<'_>, &Value<'_>) -> Option<IpAddr>,
) -> Option<(IpAddr, Vec<IpAddr>)> {
    let list = values::list(report, value, one)?;
    let first = *list.first()?;
    let distinct: BTreeSet<_> = list.iter().collect();
    if distinct.len() < list.len() {
        report.error(value.span(), "an address stands twice in this list").help("keep one of them");
        return None;
    }
    if list.iter().any(|address| address.is_ipv4() != first.is_ipv4()) {
        report.error(value.span(), "this list has addresses of both families").help("write IPv6 addresses or IPv4 addresses");
        return None;
    }
    Some((first, if list.len() > 1 { list } else { Vec::new() }))
}

/// Reads what an initiator does with several addresses and with redirects; `passive` says why nothing of it has an effect.
pub(super) fn read(
    report: &mut Report<'_>,
    section: &mut Section<'_>,
    (first, mut addresses): (Option<IpAddr>, Vec<IpAddr>),
    passive: Option<&str>,
) -> Gateways {
    let usual = Gateways::default();
    if let Some(why) = passive {
        for key in ["retry_after", "follow_redirects", "gateway_names"] {
            section.without_effect(report, key, why);
        }
        return usual;
    }
    if addresses.is_empty() {
        section.without_effect(report, "retry_after", "the peer has one address, which is called again as `retransmit` says");
    }
    let pause = section.read(report, "retry_after", values::duration);
    let follow = section.read(report, "follow_redirects", |report, value| values::choice(report, value, FOLLOW));
    let follow = follow.map_or(usual.follow, |read| read.value);
    if follow == Follow::Any && addresses.is_empty() {
        // Wherever a redirect leads, the way back is kept.
        addresses.extend(first);
    }
    let names = names(report, section);
    Gateways { addresses, pause: pause.map_or(usual.pause, |read| read.value), follow, names, redirect_to: None }
}

fn names(report: &mut Report<'_>, section: &mut Section<'_>) -> BTreeMap<String, IpAddr> {
    let mut found = BTreeMap::new();
    let Some(entry) = section.entry("gateway_names") else { return found };
    let Some(table) = Section::of(report, "gateway_names", entry.value) else { return found };
    for child in table.children() {
        let name = child.key.get_ref().as_ref();
        match name.parse::<Gateway>() {
            Ok(Gateway::Name(name)) => found.extend(values::address(report, child.value).map(|address| (name, address))),
            _ => {
                report
                    .error(child.key.span(), format!("\"{}\" is no domain name", printable(name)))
                    .help("write for example gateway_names = { \"ha2.example\" = \"2001:db8:1::2\" }");
            }
        }
    }
    found
}

/// Reads where a peer is sent that calls us, and when.
pub(super) fn redirect(report: &mut Report<'_>, section: &mut Section<'_>) -> Option<(Gateway, SendOn)> {
    if !section.contains("redirect_to") {
        section.without_effect(report, "redirect_in", "nobody is sent anywhere; \"redirect_to\" says where to");
    }
    let to: Option<Read<Gateway>> = section.read(report, "redirect_to", values::parsed);
    let when = section.read(report, "redirect_in", |report, value| values::choice(report, value, SEND_ON));
    to.map(|to| (to.value, when.map_or_else(SendOn::default, |read| read.value)))
}

/// Writes the keys that have an effect.
pub(super) fn write(out: &mut String, gateways: &Gateways, calls: bool) -> fmt::Result {
    if calls {
        if gateways.addresses.len() > 1 {
            writeln!(out, "retry_after = \"{}\"", values::duration_text(gateways.pause))?;
        }
        writeln!(out, "follow_redirects = \"{}\"", gateways.follow.name())?;
        if !gateways.names.is_empty() {
            let names: Vec<_> = gateways.names.iter().map(|(name, address)| format!("\"{name}\" = \"{address}\"")).collect();
            writeln!(out, "gateway_names = {{ {} }}", names.join(", "))?;
        }
    }
    match &gateways.redirect_to {
        Some((to, when)) => writeln!(out, "redirect_to = \"{to}\"\nredirect_in = \"{}\"", when.name()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::config::{Loaded, expand, load};
    use crate::{Gateway, Secret, SendOn};

    const NODE: &str = r#"[mobile_node]
home_address = "2001:db8:1::abcd"
home_agent = ["2001:db8:1::1", "2001:db8:9::2"]
identity = "mn.example"
home_agent_identity = "ha.example"
psk_file = "/mn.psk"
protect = ["binding"]
policies = "mip6d"
retry_after = "90s"
follow_redirects = "any"
gateway_names = { "ha2.example" = "2001:db8:9::2" }
"#;

    const AGENT: &str = r#"[home_agent]
address = "2001:db8:1::1"
identity = "ha.example"
protect = ["binding"]
policies = "mip6d"
redirect_to = "ha2.example"
redirect_in = "init"
[[home_agent.mobile_node]]
home_address = "2001:db8:1::a"
identity = "mn1.example"
psk_file = "/mn.psk"
"#;

    fn read(text: &str) -> Result<Loaded, String> {
        load(text, "test.toml", &|_: &str| Ok(Secret::from(&b"key"[..]))).map_err(|complaints| complaints.to_string())
    }

    #[test]
    fn several_addresses_and_redirects_load_and_are_written_again() {
        let node = read(NODE).unwrap();
        let remote = &node.config.remotes[0];
        assert_eq!(remote.remote_address, Some("2001:db8:1::1".parse().unwrap()));
        assert_eq!((remote.gateways.addresses.len(), remote.gateways.pause), (2, Duration::from_secs(90)));
        assert_eq!(remote.allowed_from.len(), 2);
        let agent = read(AGENT).unwrap();
        assert_eq!(agent.config.remotes[0].gateways.redirect_to, Some((Gateway::Name("ha2.example".into()), SendOn::Init)));
        for loaded in [node, agent] {
            let again = read(&expand(&loaded.config, &loaded.origins)).unwrap();
            assert_eq!(again.config.without_lines(), loaded.config.without_lines());
        }
        let one = read(&NODE.replace(", \"2001:db8:9::2\"]", "]").replace("retry_after = \"90s\"\n", "")).unwrap();
        let gateways = &one.config.remotes[0].gateways;
        assert_eq!((gateways.addresses.len(), gateways.follows()), (1, true), "the way home is known wherever a redirect leads");
    }

    #[test]
    fn what_cannot_be_is_complained_of() {
        let node = |from: &str, to: &str| read(&NODE.replace(from, to)).unwrap_err();
        assert!(node("2001:db8:9::2\"]", "2001:db8:1::1\"]").contains("twice"));
        assert!(node("\"2001:db8:9::2\"]", "\"192.0.2.1\"]").contains("IPv6"));
        assert!(node(", \"2001:db8:9::2\"]", "]").contains("retry_after"));
        assert!(node("\"any\"", "\"always\"").contains("listed"));
        assert!(node("\"ha2.example\" =", "\"ff02::1\" =").contains("domain name"));
        let agent = |from: &str, to: &str| read(&AGENT.replace(from, to)).unwrap_err();
        assert!(agent("redirect_to = \"ha2.example\"\n", "").contains("redirect_in"));
        assert!(agent("ha2.example", "::").contains("no address of a gateway"));
    }

    #[test]
    fn a_policy_names_the_first_address_and_follows() {
        let loaded = read(NODE).unwrap();
        let whole = expand(&loaded.config, &loaded.origins);
        let policy = "remote = \"2001:db8:1::1/128 mobility-header\"";
        let other = whole.replace(policy, &policy.replace("1::1", "9::2"));
        assert_ne!(whole, other);
        let complaint = read(&other).unwrap_err();
        assert!(complaint.contains("names 2001:db8:9::2") && complaint.contains("first address of \"home-agent\""), "{complaint}");
    }
}
