//! What the host says about a case's capture: every IKE message readable, nothing in clear, as many IKE_SA_INIT as there should be.

use std::collections::BTreeSet;
use std::path::Path;

use super::case::{Case, Program, Step, Terms, Traffic};
use super::net::{outer, protected_addresses};
use crate::judge::clear::{self, Protected};
use crate::judge::pcap::Capture;
use crate::judge::tshark::{self, DecryptionKeys, Encryption, IkeMessage, Integrity};
use crate::uml::{Failure, Result};

const IKE_SA_INIT: u8 = 34;
const INFORMATIONAL: u8 = 37;
const ENCRYPTED: u8 = 46;

/// Complaints about the capture of a case, and what was seen in one line.
pub(super) fn of(case: &Case, directory: &Path) -> Result<(Vec<String>, String)> {
    let file = directory.join(format!("{}.pcap", case.name));
    let capture = Capture::read(&file)?;
    let keys = keys(case, directory)?;
    let mut messages = tshark::read(&file, &keys)?;
    // tshark also reads the message that an ICMP error quotes.
    messages.retain(|message| octets(&capture, message.number).is_some());
    let mut complaints = Vec::new();
    let ike = capture.ike_messages().count();
    if messages.len() != ike {
        complaints.push(format!("tshark found {} IKE messages where the capture holds {ike}", messages.len()));
    }
    complaints.extend(messages.iter().filter_map(|message| unreadable(case, message)));
    let inits = messages.iter().filter(|message| message.exchange == IKE_SA_INIT && !message.response);
    // A repeat is octet for octet the same; a retry with a cookie or group is not, and counts.
    let inits: BTreeSet<&[u8]> = inits.filter_map(|message| octets(&capture, message.number)).collect();
    if inits.len() != case.ike_sa_init {
        complaints.push(format!("{} IKE_SA_INIT requests crossed the link, {} were expected", inits.len(), case.ike_sa_init));
    }
    complaints.extend(case.steps.iter().filter_map(|step| unchecked(*step, &case.terms, &messages)));
    complaints.extend(protected(&case.terms).violations(&capture).iter().take(5).map(|packet| {
        format!("packet {} crossed in clear: {} from {} to {}", packet.number, packet.kind, packet.source, packet.destination)
    }));
    let seen: Vec<String> = clear::summary(&capture).iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    Ok((complaints, seen.join(", ")))
}

fn octets(capture: &Capture, number: usize) -> Option<&[u8]> {
    capture.ike_messages().find(|(packet, _)| packet.number == number).map(|(_, message)| message)
}

/// What tshark has against a message. strongSwan keeps its keys, so those of a control case stay closed.
fn unreadable(case: &Case, message: &IkeMessage) -> Option<String> {
    let locked = message.decrypted == Some(false) && case.left != Program::Strongswan && case.terms.suite.readable;
    let why = match (message.complaints.is_empty(), locked) {
        (true, false) => return None,
        (true, true) => "not decrypted".to_owned(),
        (false, _) => message.complaints.join(", "),
    };
    Some(format!("tshark on packet {} ({} from {}): {why}", message.number, message.summary, message.source))
}

/// A liveness step without an empty INFORMATIONAL exchange that its end began.
fn unchecked(step: Step, terms: &Terms, messages: &[IkeMessage]) -> Option<String> {
    let Step::Liveness(who) = step else { return None };
    let empty = |message: &IkeMessage| message.exchange == INFORMATIONAL && message.payloads == [ENCRYPTED];
    let asked = messages.iter().find(|message| empty(message) && !message.response && message.source == outer(who, terms.family));
    let Some(asked) = asked else { return Some(format!("no liveness check by {} crossed the link", who.host())) };
    let answered = messages
        .iter()
        .any(|message| empty(message) && message.response && message.message_id == asked.message_id && message.destination == asked.source);
    (!answered).then(|| format!("the liveness check by {} was not answered", who.host()))
}

fn protected(terms: &Terms) -> Protected {
    match terms.traffic {
        Traffic::Any => Protected { payload_addresses: protected_addresses(terms), ..Protected::default() },
        Traffic::Icmpv6 => Protected { icmpv6_types: vec![128, 129], ..Protected::default() },
        Traffic::MobilityHeader => Protected { mobility_types: (0..=255).collect(), ..Protected::default() },
    }
}

/// The keys that watarid revealed, of every start in the case.
fn keys(case: &Case, directory: &Path) -> Result<Vec<DecryptionKeys>> {
    let mut keys = Vec::new();
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|extension| extension == "keys")) {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let ours =
            stem.strip_prefix(&case.name).is_some_and(|rest| rest.trim_start_matches(['-']).parse::<u32>().is_ok() || rest.is_empty());
        if ours && case.terms.suite.readable {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            for line in text.lines() {
                keys.push(key_line(line).ok_or_else(|| Failure(format!("{}: not a line of a decryption table: {line}", path.display())))?);
            }
        }
    }
    Ok(keys)
}

/// Reads a line of Wireshark's `ikev2_decryption_table`.
fn key_line(line: &str) -> Option<DecryptionKeys> {
    let fields: Vec<&str> = line.split(',').map(|field| field.trim().trim_matches('"')).collect();
    let [spi_i, spi_r, sk_ei, sk_er, encryption, sk_ai, sk_ar, integrity] = fields.as_slice() else { return None };
    Some(DecryptionKeys {
        spi_i: hex(spi_i)?.try_into().ok()?,
        spi_r: hex(spi_r)?.try_into().ok()?,
        sk_ei: hex(sk_ei)?,
        sk_er: hex(sk_er)?,
        encryption: encryption_named(encryption)?,
        sk_ai: hex(sk_ai)?,
        sk_ar: hex(sk_ar)?,
        integrity: integrity_named(integrity)?,
    })
}

fn hex(text: &str) -> Option<Vec<u8>> {
    text.len().is_multiple_of(2).then_some(())?;
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

/// For instance `AES-CBC-128 [RFC3602]`, `AES-GCM-256 with 16 octet ICV [RFC5282]`.
fn encryption_named(name: &str) -> Option<Encryption> {
    let number = |text: &str| text.split(' ').next().and_then(|word| word.parse().ok());
    match name.strip_prefix("AES-CBC-") {
        Some(bits) => Some(Encryption::AesCbc(number(bits)?)),
        None => {
            let rest = name.strip_prefix("AES-GCM-")?;
            let octets = rest.split("with ").nth(1)?.split(' ').next()?.parse().ok()?;
            Some(Encryption::AesGcm(number(rest)?, octets))
        }
    }
}

fn integrity_named(name: &str) -> Option<Integrity> {
    match name.split(' ').next()? {
        "NONE" => Some(Integrity::None),
        "HMAC_SHA1_96" => Some(Integrity::HmacSha1),
        "HMAC_SHA2_256_128" => Some(Integrity::HmacSha256),
        "HMAC_SHA2_384_192" => Some(Integrity::HmacSha384),
        "HMAC_SHA2_512_256" => Some(Integrity::HmacSha512),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_decryption_table_is_read() {
        let line = "0102030405060708,1112131415161718,aa,bb,\"AES-GCM-128 with 16 octet ICV [RFC5282]\",,,\"NONE [RFC4306]\"";
        let keys = key_line(line).unwrap();
        assert_eq!((keys.sk_ei, keys.encryption, keys.integrity), (vec![0xaa], Encryption::AesGcm(128, 16), Integrity::None));
        let line = "0102030405060708,1112131415161718,aa,bb,\"AES-CBC-256 [RFC3602]\",cc,dd,\"HMAC_SHA2_512_256 [RFC4868]\"";
        let keys = key_line(line).unwrap();
        assert_eq!((keys.sk_ar, keys.encryption, keys.integrity), (vec![0xdd], Encryption::AesCbc(256), Integrity::HmacSha512));
        assert!(key_line("0102,03").is_none());
    }
}
