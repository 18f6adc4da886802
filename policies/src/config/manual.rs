//! SAs keyed by hand, `[sa.NAME]` with `out` and `in`: one suite, an SPI and a key for each direction.
//! Invariant: what a manual SA cannot do safely (counter modes, extended sequence numbers, a rekey) never loads.

use super::Secrets;
use super::diagnostics::Report;
use super::document::{Section, Span, Value};
use super::values;
use crate::algorithm::{ChildProposal, ChildSuite};
use crate::identity::fingerprint;
use crate::model::{ManualHalf, ManualSa};
use crate::{Secret, SecretId};

/// The smallest SPI that is nobody's special value (RFC 4303 2.1).
const FIRST_SPI: u32 = 256;

/// What a `[sa.NAME]` holds.
#[derive(Clone)]
pub(super) struct SaRecord {
    pub(super) proposals: Vec<ChildProposal>,
    pub(super) manual: Option<ManualSa>,
}

/// Reads `out` and `in` of an SA record; `None` if neither stands there, or if something is wrong with them.
pub(super) fn manual(
    report: &mut Report<'_>,
    section: &mut Section<'_>,
    secrets: &mut Secrets<'_>,
    proposals: (&[ChildProposal], Span),
) -> Option<ManualSa> {
    let (out, inward) = (section.entry("out"), section.entry("in"));
    let (out, inward) = match (out, inward) {
        (None, None) => return None,
        (Some(out), Some(inward)) => (out, inward),
        (Some(only), None) | (None, Some(only)) => {
            report
                .error(only.key.span(), format!("{} has a manual key for one direction only", section.title))
                .help("write both: out = { spi = 0x1001, key_file = \"/etc/watari/out.key\" } and in = { ... }");
            return None;
        }
    };
    let suite = suite(report, proposals)?;
    let mut half = |name: &str, value| half(report, secrets, suite, &format!("{}.{name}", section.title), value);
    let (outbound, inbound) = (half("out", out.value), half("in", inward.value));
    Some(ManualSa { suite, outbound: outbound?, inbound: inbound? })
}

/// The one suite that the proposals allow, if it may be keyed by hand.
fn suite(report: &mut Report<'_>, (proposals, span): (&[ChildProposal], Span)) -> Option<ChildSuite> {
    let one = match proposals {
        [only] if only.ciphers.len() == 1 && only.integrities.len() <= 1 => Some(only),
        _ => None,
    };
    let Some((proposal, cipher)) = one.and_then(|only| Some((only, *only.ciphers.first()?))) else {
        report
            .error(span, "a manual SA has one cipher and one integrity algorithm")
            .help("write for example: proposal = \"aes128-sha256\"");
        return None;
    };
    //= rfc4106#2
    //# keys configured by hand repeat nonces after a restart: GCM is never keyed by hand
    if cipher.is_aead() {
        report
            .error(span, format!("{} must not be keyed by hand: after a restart it would repeat its nonces (RFC 4106)", cipher.name()))
            .help("write for example: proposal = \"aes128-sha256\"");
        return None;
    }
    if proposal.esn.contains(&true) || !proposal.groups.is_empty() {
        report
            .error(span, "a manual SA has no extended sequence numbers and no key exchange")
            .help("leave only cipher and integrity: proposal = \"aes128-sha256\"");
        return None;
    }
    Some(ChildSuite { cipher, integrity: proposal.integrities.first().copied(), esn: false })
}

fn half(report: &mut Report<'_>, secrets: &mut Secrets<'_>, suite: ChildSuite, title: &str, value: &Value<'_>) -> Option<ManualHalf> {
    let mut section = Section::of(report, title, value)?;
    let spi = section.required(report, "spi", "spi = 0x1001", values::number32(FIRST_SPI));
    let key = key(report, secrets, &mut section, suite);
    section.finish(report);
    Some(ManualHalf { spi: spi?.value, key: key? })
}

fn key(report: &mut Report<'_>, secrets: &mut Secrets<'_>, section: &mut Section<'_>, suite: ChildSuite) -> Option<SecretId> {
    let present: Vec<_> = ["key_file", "key", "secret"].into_iter().filter_map(|name| section.entry(name)).collect();
    let [only] = present.as_slice() else {
        report
            .error(section.span.clone(), format!("{} needs exactly one of \"key_file\", \"key\" and \"secret\"", section.title))
            .help("add for example: key_file = \"/etc/watari/out.key\"");
        return None;
    };
    match only.key.get_ref().as_ref() {
        "secret" => secrets.held(report, only.value),
        "key" => {
            let text = values::text(report, only.value)?;
            let octets = octets(report, only.value, text.as_bytes(), suite)?;
            Some(secrets.keep_for(fingerprint(section.title.bytes()), octets, super::SecretOrigin::Inline))
        }
        _ => {
            let (path, content) = secrets.content(report, only.value)?;
            let octets = octets(report, only.value, content.expose(), suite)?;
            Some(secrets.keep_for(fingerprint(section.title.bytes()), octets, super::SecretOrigin::File(path)))
        }
    }
}

/// A key written in hexadecimal digits: that of the cipher, then that of the integrity algorithm.
fn octets(report: &mut Report<'_>, value: &Value<'_>, text: &[u8], suite: ChildSuite) -> Option<Secret> {
    let digits = text.strip_prefix(b"0x").unwrap_or(text);
    let digits = digits.iter().filter(|octet| !octet.is_ascii_whitespace());
    let nibbles: Option<Vec<u8>> = digits.map(|octet| char::from(*octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let needed = suite.manual_key_len();
    let form = format!("{} octets in hexadecimal digits are needed: {}", needed, words(suite));
    // Digits of a key are as secret as the key.
    let Some(nibbles) = nibbles.map(Secret::from) else {
        report.error(value.span(), "this key holds something else than hexadecimal digits").help(form);
        return None;
    };
    let key: Vec<u8> = nibbles.expose().chunks_exact(2).map(|pair| pair.iter().fold(0, |octet, nibble| octet << 4 | nibble)).collect();
    let key = Secret::from(key);
    if key.len() != needed || nibbles.len() % 2 != 0 {
        report.error(value.span(), format!("this key has {} hexadecimal digits", nibbles.len())).help(form);
        return None;
    }
    Some(key)
}

fn words(suite: ChildSuite) -> String {
    let cipher = format!("{} for {}", suite.cipher.keymat_len(), suite.cipher.name());
    suite.integrity.map_or_else(|| cipher.clone(), |integrity| format!("{cipher}, then {} for {}", integrity.key_len(), integrity.name()))
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::load;
    use crate::{Secret, SecretId};

    pub(in super::super) const RECORDS: &str = r#"
[sa.by-hand]
proposal = "aes128-sha256"
out = { spi = 0x1001, key_file = "/etc/watari/out.key" }
in = { spi = 0x1002, key = "000102030405060708090a0b0c0d0e0f 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f" }

[ipsec.by-hand]
sa = "by-hand"

[remote.ha]
keying = "manual"
remote_address = "2001:db8:1::1"
role = "mobile-node"
home_address = "2001:db8:1::abcd"

[policy.binding]
mode = "transport"
installed_by = "mip6d"
ipsec = "by-hand"
remote = "ha"

[selector.binding]
local = "2001:db8:1::abcd mobility-header"
remote = "2001:db8:1::1 mobility-header"
reqid_out = 1
reqid_in = 2
policy = "binding"
"#;

    pub(in super::super) fn files(path: &str) -> Result<Secret, String> {
        match path {
            "/etc/watari/out.key" => Ok(Secret::from("ab".repeat(48).into_bytes())),
            _ => Err("no such file".to_owned()),
        }
    }

    fn complaint(text: &str) -> String {
        load(text, "x.toml", &files).map(|_| ()).expect_err("must be refused").to_string()
    }

    #[test]
    fn a_manual_sa_loads_with_its_keys() {
        let loaded = load(RECORDS, "x.toml", &files).expect("loads");
        let manual = loaded.config.ipsecs[0].manual.expect("manual");
        assert_eq!((manual.outbound.spi, manual.inbound.spi), (0x1001, 0x1002));
        assert_eq!(loaded.config.ipsecs[0].replay_window, 0, "RFC 4303 3.4.3: no anti-replay where counters start again");
        let key = |id: SecretId| loaded.secrets.get(&id).expect("kept").expose().to_vec();
        assert_eq!(key(manual.outbound.key), vec![0xab; 48]);
        let inward = key(manual.inbound.key);
        assert_eq!((inward.len(), inward[15], inward[16], inward[47]), (48, 15, 0, 31));
        let again = super::super::expand(&loaded.config, &loaded.origins);
        assert!(again.contains("out = { spi = 0x1001, key_file = \"/etc/watari/out.key\" }"), "{again}");
        assert!(again.contains("keying = \"manual\""), "{again}");
        assert!(!again.contains("0001020304"), "no key is printed");
    }

    #[test]
    fn what_a_manual_sa_cannot_do_is_refused() {
        let with = |from: &str, to: &str| complaint(&RECORDS.replace(from, to));
        assert!(with("aes128-sha256", "aes128gcm16").contains("must not be keyed by hand"));
        assert!(with("aes128-sha256", "aes128-sha256-sha512").contains("one cipher and one integrity"));
        assert!(with("aes128-sha256", "aes128-sha256-esn").contains("no extended sequence numbers"));
        assert!(with("\"aes128-sha256\"", "\"aes256-sha256\"").contains("64 octets in hexadecimal digits are needed"));
        assert!(with("0x1002", "255").contains("out of range"));
        let unreadable = with("000102", "0001zz");
        assert!(unreadable.contains("hexadecimal") && !unreadable.contains("0001zz"), "a key is never printed: {unreadable}");
        assert!(with("in = {", "# in = {").contains("one direction only"));
        assert!(with("/etc/watari/out.key", "/nowhere").contains("cannot be read"));
        assert!(with("keying = \"manual\"", "keying = \"manual\"\npsk = \"x\"").contains("no effect"));
    }

    #[test]
    fn a_broken_file_shows_no_key() {
        let comma = RECORDS.replace("0x1002, key", "0x1002 key");
        for broken in [
            comma.clone(),
            comma.replace(" key = ", " \"key\"="),
            comma.replace(" key = ", " psk\t= "),
            comma.replace(" key = ", " key "),
            comma.replace(" key = ", " key: "),
            comma.replace("\" }", " }"),
        ] {
            let said = complaint(&broken);
            assert!(said.contains("0x1002") && !said.contains("00010203") && !said.contains("1e1f"), "{said}");
        }
        let table = RECORDS.replace("in = {", "in.spi = 0x1002\nin.key = \"000102030405060708\n#");
        assert!(!complaint(&table).contains("0001020304"), "{}", complaint(&table));
    }

    #[test]
    fn a_manual_sa_serves_one_policy() {
        let second = "\n[selector.more]\nlocal = \"2001:db8:1::abcd udp\"\nremote = \"2001:db8:1::1 udp\"\npolicy = \"binding\"\n";
        assert!(complaint(&format!("{RECORDS}{second}")).contains("serves two policies"));
    }

    #[test]
    fn two_manual_sas_have_spis_of_their_own() {
        let more = |out: &str, inward: &str, remote: &str| {
            let text = RECORDS.split_once("[remote.ha]").expect("records").0;
            let (_, rest) = RECORDS.split_once("[policy.binding]").expect("records");
            let text = text.replace("by-hand", "more").replace("0x1001", out).replace("0x1002", inward);
            let peer = "[remote.more]\nkeying = \"manual\"\nremote_address = \"2001:db8:1::2\"\n";
            let rest =
                rest.replace("2001:db8:1::1", "2001:db8:1::2").replace("binding", "more").replace("\"ha\"", &format!("\"{remote}\""));
            format!("{RECORDS}{text}{peer}[policy.more]{}", rest.replace("by-hand", "more"))
        };
        let fits = |text: String| load(&text, "x.toml", &files).map(|_| ()).map_err(|complaints| complaints.to_string());
        assert_eq!(fits(more("0x1003", "0x1004", "ha")), Ok(()));
        assert_eq!(fits(more("0x1001", "0x1004", "more")), Ok(()), "the other remote may have chosen the same");
        let said = complaint(&more("0x1003", "0x1002", "more"));
        assert!(said.contains("inbound SPI 0x1002"), "{said}");
        let said = complaint(&more("0x1001", "0x1004", "ha"));
        assert!(said.contains("outbound SPI 0x1001"), "{said}");
        let same = more("0x1003", "0x1004", "more").replace("sa = \"more\"", "sa = \"by-hand\"");
        assert!(complaint(&same).contains("inbound SPI 0x1002"), "two records name one SA");
    }

    /// A home agent with two mobile nodes keyed by hand; the second one's keys are these.
    fn two_nodes(out: &str, inward: &str) -> String {
        let node = |name: &str, home: &str, spis: (u32, u32), (out, inward): (&str, &str)| {
            format!(
                r#"
[sa.{name}]
proposal = "aes128-sha256"
out = {{ spi = {}, key = "{out}" }}
in = {{ spi = {}, key = "{inward}" }}

[ipsec.{name}]
sa = "{name}"

[remote.{name}]
keying = "manual"
local_address = "2001:db8:1::1"
role = "home-agent"
home_address = "{home}"

[policy.{name}]
mode = "transport"
installed_by = "mip6d"
ipsec = "{name}"
remote = "{name}"

[selector.{name}]
local = "2001:db8:1::1 mobility-header"
remote = "{home} mobility-header"
policy = "{name}"
"#,
                spis.0, spis.1
            )
        };
        let first = ["11", "22"].map(|digits| digits.repeat(48));
        let one = node("one", "2001:db8:1::a", (0x1001, 0x1002), (&first[0], &first[1]));
        format!("{one}{}", node("two", "2001:db8:1::b", (0x1003, 0x1004), (&out.repeat(48), &inward.repeat(48))))
    }

    #[test]
    fn two_mobile_nodes_never_share_a_key() {
        let fits = |text: String| load(&text, "x.toml", &files).map(|_| ()).map_err(|complaints| complaints.to_string());
        assert_eq!(fits(two_nodes("33", "44")), Ok(()));
        for (out, inward) in [("11", "44"), ("33", "22"), ("22", "33")] {
            let said = complaint(&two_nodes(out, inward));
            assert!(said.contains("two mobile nodes have one key") && !said.contains("1111"), "{said}");
        }
    }

    #[test]
    fn a_remote_keyed_by_hand_negotiates_nothing() {
        let negotiated = RECORDS.replace("ipsec = \"by-hand\"\n", "");
        assert!(complaint(&negotiated).contains("keyed by hand"), "{}", complaint(&negotiated));
    }
}
