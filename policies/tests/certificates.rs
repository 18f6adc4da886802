//! Remotes that prove themselves by certificates: what loads, what every mistake is told as, and that an expansion loads again.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use watari_policies::certificate::{OwnProof, PeerProof};
use watari_policies::config::{Loaded, Severity, expand, load};
use watari_policies::model::Authentication;
use watari_policies::{Secret, SecretId};

macro_rules! folder {
    ($($name:literal),+) => {
        &[$(($name, include_bytes!(concat!("certificates/", $name)).as_slice())),+]
    };
}

const FOLDER: &[(&str, &[u8])] = folder!(
    "mn.pem",
    "mn.key",
    "mn.encrypted.key",
    "mn.lonely.key",
    "other.lonely.key",
    "mn384.pem",
    "mn384.key",
    "ha.pem",
    "ha.key",
    "ha.pkcs1.key",
    "wild.pem",
    "root.pem",
    "rsaroot.pem"
);

/// Files of the test folder stand in `/c/`; shared keys in `/k/`.
fn file(path: &str) -> Result<Secret, String> {
    if path.starts_with("/k/") {
        return Ok(Secret::from(&b"hush"[..]));
    }
    let found = FOLDER.iter().find(|(name, _)| path.strip_prefix("/c/") == Some(name));
    found.map(|(_, content)| Secret::from(*content)).ok_or_else(|| "no such file".to_owned())
}

fn good(text: &str) -> Loaded {
    let loaded = load(text, "watari.toml", &file).unwrap_or_else(|complaints| panic!("{complaints}"));
    let text = expand(&loaded.config, &loaded.origins);
    let again = load(&text, "expanded.toml", &file).unwrap_or_else(|complaints| panic!("{text}{complaints}"));
    let numbers = |loaded: &Loaded| loaded.config.remotes.iter().map(|remote| remote.authentication.without_numbers()).collect::<Vec<_>>();
    assert_eq!(numbers(&again), numbers(&loaded), "{text}");
    loaded
}

/// The only error of a configuration, and the line that it names.
fn bad(text: &str) -> (String, String) {
    let complaints = load(text, "watari.toml", &file).unwrap_err();
    assert!(!complaints.to_string().contains("MIG"), "no key in a complaint: {complaints}");
    let errors: Vec<_> = complaints.iter().filter(|one| one.severity == Severity::Error).collect();
    let [error] = errors.as_slice() else { panic!("{complaints}") };
    let whole = complaints.to_string();
    let line = whole.lines().find_map(|line| Some(line.split_once("watari.toml:")?.1.split(':').next()?.to_owned()));
    (error.message.clone(), line.unwrap_or_default())
}

const MOBILE_NODE: &str = r#"[mobile_node]
home_address = "2001:db8:1::abcd"
home_agent = "2001:db8:1::1"
identity = "2001:db8:1::abcd"
home_agent_identity = "ha.example"
certificate = "/c/mn.pem"
private_key = "/c/mn.key"
authorities = ["/c/rsaroot.pem", "/c/root.pem"]
protect = ["binding"]
policies = "mip6d"
"#;

fn with(line: &str, other: &str) -> String {
    assert!(MOBILE_NODE.contains(line));
    MOBILE_NODE.replace(line, other)
}

#[test]
fn a_mobile_node_with_a_certificate() {
    let loaded = good(MOBILE_NODE);
    let remote = &loaded.config.remotes[0];
    let (Some(OwnProof::Certificate(own)), Some(PeerProof::Certificate(trust))) =
        (remote.authentication.ours(), remote.authentication.theirs())
    else {
        panic!("{:?}", remote.authentication)
    };
    assert_eq!((own.chain.len(), trust.authorities.len(), trust.sha1), (1, 2, false));
    assert_eq!(loaded.secrets.keys().copied().collect::<Vec<_>>(), [own.key]);
    assert_eq!(loaded.secrets[&own.key].len(), 32, "the scalar of P-256");
}

#[test]
fn a_key_without_its_public_key_serves_its_own_certificate() {
    let whole = good(MOBILE_NODE);
    let lonely = good(&with("/c/mn.key", "/c/mn.lonely.key"));
    let octets = |loaded: &Loaded| loaded.secrets.values().next().unwrap().expose().to_vec();
    assert_eq!(octets(&lonely), octets(&whole));
}

#[test]
fn either_side_may_share_a_key_instead() {
    let own = good(&with("authorities = [\"/c/rsaroot.pem\", \"/c/root.pem\"]", "psk_file = \"/k/ha\""));
    let authentication = &own.config.remotes[0].authentication;
    assert!(matches!((authentication.ours(), authentication.theirs()), (Some(OwnProof::Certificate(_)), Some(PeerProof::Psk(_)))));
    let text = with("certificate = \"/c/mn.pem\"\nprivate_key = \"/c/mn.key\"", "psk_file = \"/k/mn\"\nsha1_signatures = true");
    let peer = good(&text);
    let authentication = &peer.config.remotes[0].authentication;
    let Some(PeerProof::Certificate(trust)) = authentication.theirs() else { panic!() };
    assert!(trust.sha1 && matches!(authentication.ours(), Some(OwnProof::Psk(_))));
    let shared = good(&with(
        "certificate = \"/c/mn.pem\"\nprivate_key = \"/c/mn.key\"\nauthorities = [\"/c/rsaroot.pem\", \"/c/root.pem\"]",
        "psk_file = \"/k/mn\"",
    ));
    assert_eq!(shared.config.remotes[0].authentication, Authentication::Psk(SecretId(0)));
}

#[test]
fn every_mistake_names_its_line() {
    let cases = [
        (
            "identity = \"2001:db8:1::abcd\"",
            "identity = \"2001:db8:1::abcc\"",
            "6",
            "does not prove the identity 2001:db8:1::abcc: its SubjectAltName holds DNS:mn.example, IP:2001:db8:1::abcd",
        ),
        ("/c/mn.pem", "/c/none.pem", "6", "the file \"/c/none.pem\" cannot be read: no such file"),
        ("/c/mn.pem", "/c/mn.key", "6", "\"/c/mn.key\" cannot be used: there is no certificate in it"),
        ("/c/mn.key", "/c/ha.key", "7", "is not that of the certificate of CN=mn,O=Watari tests"),
        ("/c/mn.key", "/c/mn.encrypted.key", "7", "the private key in it is encrypted"),
        // A key of the same curve without its public key: the point is computed.
        ("/c/mn.key", "/c/other.lonely.key", "7", "is not that of the certificate of CN=mn,O=Watari tests"),
        ("/c/mn.key", "/c/mn.pem", "7", "there is no private key in it"),
        ("/c/mn.key", "-----BEGIN PRIVATE KEY-----MIGHAgEA", "7", "this is not the absolute path of a file"),
        ("/c/mn.key", "MIGHAgEA", "7", "this is not the absolute path of a file"),
        ("\"/c/rsaroot.pem\", ", "\"/c/mn.pem\", ", "8", "CN=mn,O=Watari tests is no CA"),
        ("[\"/c/rsaroot.pem\", \"/c/root.pem\"]", "[]", "8", "this list is empty"),
        (
            "home_agent_identity = \"ha.example\"",
            "home_agent_identity = \"keyid:0a\"",
            "8",
            "no certificate can prove the identity keyid:0a",
        ),
        ("protect =", "psk = \"hush\"\nprotect =", "9", "\"psk\" has no effect here"),
        ("protect =", "peer_certificate = \"/c/mn.pem\"\nprotect =", "9", "can never prove the identity ha.example"),
        ("authorities = [\"/c/rsaroot.pem\", \"/c/root.pem\"]\n", "", "1", "[mobile_node] does not say how the peer proves itself"),
        ("certificate = \"/c/mn.pem\"\nprivate_key = \"/c/mn.key\"\n", "", "1", "[mobile_node] does not say how this end proves itself"),
        ("private_key = \"/c/mn.key\"\n", "", "1", "[mobile_node] has no \"private_key\""),
        ("certificate = \"/c/mn.pem\"\n", "", "1", "[mobile_node] has no \"certificate\""),
        ("authorities", "authority", "8", ""),
    ];
    for (line, other, place, part) in cases {
        if part.is_empty() {
            // A misspelt key is named, whatever else is missing then.
            let text = load(&with(line, other), "watari.toml", &file).unwrap_err().to_string();
            assert!(text.contains("did you mean \"authorities\""), "{text}");
            continue;
        }
        let (message, at) = bad(&with(line, other));
        assert!(message.contains(part), "{message}");
        assert_eq!(at, place, "{message}");
    }
}

const HOME_AGENT: &str = r#"[home_agent]
address = "2001:db8:1::1"
identity = "ha.example"
certificate = "/c/ha.pem"
private_key = "/c/ha.pkcs1.key"
authorities = "/c/root.pem"
protect = ["binding"]
policies = "watari"

[[home_agent.mobile_node]]
home_address = "2001:db8:1::abcd"
identity = "mn.example"

[[home_agent.mobile_node]]
home_address = "2001:db8:1::b"
identity = "second.example"
psk_file = "/k/second"
reqids = { binding = [11, 12] }

[[home_agent.mobile_node]]
home_address = "2001:db8:1::abce"
identity = "2001:db8:1::abce"
name = "third"
peer_certificate = "/c/wild.pem"
reqids = { binding = [21, 22] }
"#;

#[test]
fn a_home_agent_serves_nodes_of_both_kinds() {
    let loaded = good(HOME_AGENT);
    let [first, second, third] = loaded.config.remotes.as_slice() else { panic!() };
    let trust = |authentication: &Authentication| match authentication.theirs() {
        Some(PeerProof::Certificate(trust)) => (trust.authorities.len(), trust.pinned.is_some()),
        other => panic!("{other:?}"),
    };
    assert_eq!((trust(&first.authentication), trust(&third.authentication)), ((1, false), (1, true)));
    assert!(matches!(second.authentication, Authentication::Psk(_)), "a shared key is shared in both directions");
    assert_eq!(first.authentication.ours(), third.authentication.ours());
    assert_eq!(loaded.secrets.len(), 2, "one private key for all, and one shared key");
}

#[test]
fn sha1_signatures_of_a_home_agent_count_for_pinned_certificates_alone() {
    let text = HOME_AGENT.replace("authorities = \"/c/root.pem\"", "sha1_signatures = true");
    let text = text.replace("identity = \"mn.example\"", "identity = \"mn.example\"\npeer_certificate = \"/c/mn.pem\"");
    let loaded = good(&text);
    let [first, _, third] = loaded.config.remotes.as_slice() else { panic!() };
    for remote in [first, third] {
        let Some(PeerProof::Certificate(trust)) = remote.authentication.theirs() else { panic!() };
        assert!(trust.sha1 && trust.authorities.is_empty() && trust.pinned.is_some());
    }
}

#[test]
fn a_home_agent_without_a_certificate_cannot_serve_a_node_with_one() {
    let text = HOME_AGENT.replace("certificate = \"/c/ha.pem\"\nprivate_key = \"/c/ha.pkcs1.key\"\n", "");
    let complaints = load(&text, "watari.toml", &file).unwrap_err().to_string();
    assert!(complaints.contains("has no pre-shared key, and [home_agent] no certificate"), "{complaints}");
    let text = HOME_AGENT.replace("authorities = \"/c/root.pem\"\n", "");
    let complaints = load(&text, "watari.toml", &file).unwrap_err().to_string();
    assert!(complaints.contains("[home_agent.mobile_node]] has no pre-shared key"), "{complaints}");
}

#[test]
fn a_remote_of_the_records_names_its_proofs() {
    let text = r#"
[remote.ha]
remote_address = "2001:db8::1"
identity = "mn.example"
remote_identity = "ha.example"
certificate = "/c/mn384.pem"
private_key = "/c/mn384.key"
peer_certificate = "/c/ha.pem"
[policy.net]
installed_by = "watari"
mode = "tunnel"
remote = "ha"
[selector.net]
local = "2001:db8:5::/48"
remote = "2001:db8:6::/48"
policy = "net"
"#;
    let loaded = good(text);
    let Some(PeerProof::Certificate(trust)) = loaded.config.remotes[0].authentication.theirs() else { panic!() };
    assert!(trust.authorities.is_empty() && trust.pinned.is_some());
    let by_hand = text.replace("identity = \"mn.example\"\nremote_identity = \"ha.example\"\n", "keying = \"manual\"\n");
    let complaints = load(&by_hand, "watari.toml", &file).unwrap_err().to_string();
    assert!(complaints.contains("\"certificate\" has no effect here"), "{complaints}");
}

#[test]
fn a_reload_renumbers_private_keys_with_the_shared_ones() {
    // What stood under the same numbers before was something else: both secrets move, and the remotes with them.
    let mut loaded = good(HOME_AGENT);
    let before = loaded.secrets.keys().map(|id| (*id, Secret::from(&b"of another configuration"[..]))).collect();
    let old: Vec<SecretId> = loaded.secrets.keys().copied().collect();
    loaded.renumber(&before);
    let [first, second, third] = loaded.config.remotes.as_slice() else { panic!() };
    let (Some(OwnProof::Certificate(own)), Authentication::Psk(shared)) = (first.authentication.ours(), &second.authentication) else {
        panic!()
    };
    assert!(!old.contains(&own.key) && !old.contains(shared));
    assert_eq!(loaded.secrets[shared].expose(), b"hush");
    assert!(loaded.secrets[&own.key].len() > 1000, "an RSAPrivateKey of 2048 bits");
    assert_eq!(first.authentication.ours(), third.authentication.ours());
}
