//! How the two ends of a remote prove who they are: `psk`, `psk_file`, `secret`, `certificate`, `private_key`, `authorities`, `peer_certificate`.
//! Invariant: what loads can work: the private key is that of the certificate, and certificates name the identities they stand for.

use std::sync::Arc;

use toml::de::DeValue;

use super::diagnostics::Report;
use super::document::{Entry, Section, Span, Value, printable};
use super::values;
use super::{SecretOrigin, Secrets};
use crate::Identity;
use crate::certificate::{Certificate, Credential, OwnProof, PeerProof, Proofs, Trust, certificates, private_key};
use crate::model::Authentication;

/// Keys that only mean something with certificates.
pub(super) const KEYS: [&str; 5] = ["certificate", "private_key", "authorities", "peer_certificate", "sha1_signatures"];

/// Most certificates of a chain that is sent: all of it has to fit into one message.
const LONGEST_CHAIN: usize = 4;

/// Whether a table names a pre-shared key.
fn has_psk(section: &Section<'_>) -> bool {
    ["psk", "psk_file", "secret"].iter().any(|key| section.contains(key))
}

/// Reads every proof of a table in which both ends stand.
pub(super) fn read(
    report: &mut Report<'_>,
    section: &mut Section<'_>,
    secrets: &mut Secrets<'_>,
    ours: Option<&Identity>,
    theirs: Option<&Identity>,
) -> Option<Authentication> {
    if !KEYS.iter().any(|key| section.contains(key)) {
        // Known keys all the same, so that a misspelt one finds its neighbour.
        for key in KEYS {
            let _ = section.entry(key);
        }
        return secrets.read(report, section).map(Authentication::Psk);
    }
    let by_certificate = section.contains("certificate") || section.contains("private_key");
    let by_trust = section.contains("authorities") || section.contains("peer_certificate");
    let own = by_certificate.then(|| own(report, section, secrets, ours));
    let sha1 = sha1_signatures(report, section);
    let trust = trust(report, section, secrets, theirs, sha1);
    if !by_trust {
        section.without_effect(report, "sha1_signatures", "the peer proves itself by a pre-shared key");
    }
    let psk = match (by_certificate, by_trust) {
        (true, true) => {
            for key in ["psk_file", "psk", "secret"] {
                section.without_effect(report, key, "both ends prove themselves by certificates");
            }
            None
        }
        (certificate, _) if !has_psk(section) => {
            let (whose, help) = match certificate {
                true => ("the peer proves itself", "add authorities = [\"/etc/watari/ca.pem\"], or psk_file for a peer with a shared key"),
                false => ("this end proves itself", "add certificate and private_key, or psk_file for a shared key"),
            };
            report.error(section.span.clone(), format!("{} does not say how {whose}", section.title)).help(help);
            return None;
        }
        _ => Some(secrets.read(report, section)?),
    };
    let ours = match own {
        Some(own) => OwnProof::Certificate(own?),
        None => OwnProof::Psk(psk?),
    };
    let theirs = match by_trust {
        true => PeerProof::Certificate(trust?),
        false => PeerProof::Psk(psk?),
    };
    Some(Authentication::Each(Arc::new(Proofs { ours, theirs })))
}

/// What a home agent and all its mobile nodes with certificates have in common.
#[derive(Default)]
pub(super) struct Common {
    own: Option<Arc<Credential>>,
    trust: Option<Arc<Trust>>,
    sha1: bool,
}

/// Reads the certificates of a home agent.
pub(super) fn common(report: &mut Report<'_>, section: &mut Section<'_>, secrets: &mut Secrets<'_>, identity: Option<&Identity>) -> Common {
    let by_certificate = section.contains("certificate") || section.contains("private_key");
    let own = if by_certificate { own(report, section, secrets, identity) } else { None };
    section.without_effect(report, "peer_certificate", "write it in the table of the mobile node");
    let _ = (section.entry("certificate"), section.entry("private_key"));
    // It counts for nodes with nothing but a `peer_certificate` as well, where there is no other trust in common.
    let sha1 = sha1_signatures(report, section);
    let trust = trust(report, section, secrets, None, sha1);
    Common { own, trust, sha1 }
}

/// Reads the proofs of one mobile node of a home agent: a pre-shared key for both directions, or certificates in both.
pub(super) fn of_node(
    report: &mut Report<'_>,
    section: &mut Section<'_>,
    secrets: &mut Secrets<'_>,
    common: &Common,
    node: Option<&Identity>,
) -> Option<Authentication> {
    if has_psk(section) {
        section.without_effect(report, "peer_certificate", "this mobile node has a pre-shared key");
        return secrets.read(report, section).map(Authentication::Psk);
    }
    let pinned = pinned(report, section, secrets, node);
    if !section.contains("peer_certificate") && common.trust.is_none() {
        return secrets.read(report, section).map(Authentication::Psk);
    }
    let Some(own) = &common.own else {
        report
            .error(section.span.clone(), format!("{} has no pre-shared key, and [home_agent] no certificate", section.title))
            .help("add psk_file here, or certificate and private_key to [home_agent]");
        return None;
    };
    if let Some(identity) = node {
        can_stand_in_a_certificate(report, section.span.clone(), identity);
    }
    let trust = common.trust.clone().unwrap_or_else(|| Arc::new(Trust { sha1: common.sha1, ..Trust::default() }));
    let trust = match (section.contains("peer_certificate"), pinned) {
        (true, pinned) => {
            let (path, certificate) = pinned?;
            let paths = (trust.paths.0.clone(), Some(path));
            Arc::new(Trust { pinned: Some(certificate), paths, ..(*trust).clone() })
        }
        (false, _) => trust,
    };
    let proofs = Proofs { ours: OwnProof::Certificate(Arc::clone(own)), theirs: PeerProof::Certificate(trust) };
    Some(Authentication::Each(Arc::new(proofs)))
}

/// Reads `certificate` and `private_key`.
fn own(
    report: &mut Report<'_>,
    section: &mut Section<'_>,
    secrets: &mut Secrets<'_>,
    identity: Option<&Identity>,
) -> Option<Arc<Credential>> {
    let chain = section.required(report, "certificate", "certificate = \"/etc/watari/mn.pem\"", |_, value| Some(value));
    let key = section.required(report, "private_key", "private_key = \"/etc/watari/mn.key\"", |_, value| Some(value));
    let (path, chain) = load(report, secrets, chain?.value)?;
    let (key_value, span) = key.map(|key| (key.value, key.span))?;
    let place = section.entry("certificate").map_or(section.span.clone(), |entry| entry.value.span());
    let first = chain.first()?;
    if chain.len() > LONGEST_CHAIN {
        report
            .error(place, format!("\"{}\" has {} certificates, where at most {LONGEST_CHAIN} can be sent", printable(&path), chain.len()))
            .help("put in your own certificate and those of the CAs between it and the root, not the root itself");
        return None;
    }
    if let Some(identity) = identity
        && !first.proves(identity)
    {
        report
            .error(place.clone(), format!("the certificate of {first} does not prove the identity {identity}: its SubjectAltName holds {}", first.names_text()))
            .help("peers refuse such a certificate (RFC 4945 3.1): have one issued with the identity in the SubjectAltName, or change the identity");
    }
    for pair in chain.windows(2) {
        if let [below, above] = pair
            && below.content().issuer != above.content().subject
        {
            report
                .error(
                    place.clone(),
                    format!("the certificates are in no order: after {below} comes {above}, its issuer is {}", below.content().issuer_text),
                )
                .help("put your own certificate first, then each CA after the certificate that it issued");
        }
    }
    let (key_path, content) = open(report, secrets, key_value)?;
    match private_key(content.expose(), first) {
        Ok(secret) => {
            let key = secrets.keep(secret, SecretOrigin::File(key_path));
            Some(Arc::new(Credential { chain, key, path }))
        }
        Err(why) => {
            let complaint = report.error(span, format!("\"{}\" cannot be used: {why}", printable(&key_path)));
            complaint.help("the file holds one private key in PEM, not encrypted, readable for the agent alone: PKCS#8, PKCS#1 or SEC 1");
            None
        }
    }
}

/// Reads `sha1_signatures`.
fn sha1_signatures(report: &mut Report<'_>, section: &mut Section<'_>) -> bool {
    section.read(report, "sha1_signatures", values::flag).is_some_and(|read| read.value)
}

/// Reads `authorities` and `peer_certificate`; `None` if nothing is there or something is wrong.
fn trust(
    report: &mut Report<'_>,
    section: &mut Section<'_>,
    secrets: &Secrets<'_>,
    peer: Option<&Identity>,
    sha1: bool,
) -> Option<Arc<Trust>> {
    let mut trust = Trust { sha1, ..Trust::default() };
    let mut sound = true;
    let mut place = None;
    if let Some(Entry { value, .. }) = section.entry("authorities") {
        place = Some(value.span());
        let files: Vec<&Value<'_>> = match value.get_ref() {
            DeValue::Array(elements) => elements.iter().collect(),
            _ => vec![value],
        };
        if files.is_empty() {
            report.error(value.span(), "this list is empty, so nobody could be believed").help("name at least one file of CA certificates");
            sound = false;
        }
        for file in files {
            let Some((path, found)) = load(report, secrets, file) else {
                sound = false;
                continue;
            };
            for certificate in &found {
                sound &= is_authority(report, file.span(), certificate);
            }
            trust.authorities.extend(found);
            trust.paths.0.push(path);
        }
    }
    if section.contains("peer_certificate") {
        place = place.or_else(|| section.entry("peer_certificate").map(|entry| entry.value.span()));
        match pinned(report, section, secrets, peer) {
            Some((path, certificate)) => {
                trust.pinned = Some(certificate);
                trust.paths.1 = Some(path);
            }
            None => sound = false,
        }
    } else {
        let _ = section.entry("peer_certificate");
    }
    let place = place?;
    if let Some(peer) = peer {
        can_stand_in_a_certificate(report, place, peer);
    }
    sound.then(|| Arc::new(trust))
}

/// Reads `peer_certificate`: path and certificate.
fn pinned(
    report: &mut Report<'_>,
    section: &mut Section<'_>,
    secrets: &Secrets<'_>,
    peer: Option<&Identity>,
) -> Option<(String, Certificate)> {
    let value = section.entry("peer_certificate")?.value;
    let (path, found) = load(report, secrets, value)?;
    let certificate = found.first()?.clone();
    if let Some(peer) = peer
        && !certificate.proves(peer)
    {
        report
            .error(
                value.span(),
                format!(
                    "this certificate of {certificate} can never prove the identity {peer}: its SubjectAltName holds {}",
                    certificate.names_text()
                ),
            )
            .help("write an identity that stands in the certificate");
    }
    Some((path, certificate))
}

fn is_authority(report: &mut Report<'_>, span: Span, certificate: &Certificate) -> bool {
    let authority = certificate.content().constraints.is_some_and(|(ca, _)| ca);
    if !authority {
        report
            .error(span, format!("{certificate} is no CA: its certificate may not issue others (basicConstraints)"))
            .help("name the certificate of the CA; for one that the peer itself shows there is peer_certificate");
    }
    authority
}

/// A key id, for example, stands in no certificate.
fn can_stand_in_a_certificate(report: &mut Report<'_>, span: Span, identity: &Identity) {
    let possible = match identity {
        Identity::Address(_) | Identity::Fqdn(_) | Identity::Email(_) => true,
        Identity::Other { id_type, .. } => *id_type == Identity::DISTINGUISHED_NAME,
        Identity::KeyId(_) => false,
    };
    if !possible {
        report
            .error(span, format!("no certificate can prove the identity {identity}"))
            .help("use an address, a domain name, user@domain or a distinguished name, or a pre-shared key");
    }
}

/// Path and content of a file that is named by `value`.
fn open(report: &mut Report<'_>, secrets: &Secrets<'_>, value: &Value<'_>) -> Option<(String, crate::Secret)> {
    // What is no path may be a key: it is not repeated.
    if value.get_ref().as_str().is_some_and(|text| !text.starts_with('/')) {
        report.error(value.span(), "this is not the absolute path of a file").help("write for example \"/etc/watari/mn.key\"");
        return None;
    }
    let path = values::path(report, value)?;
    match secrets.source.file(path) {
        Ok(content) => super::of_a_key(report, value, (path.to_owned(), content)),
        Err(why) => {
            report
                .error(value.span(), format!("the file \"{}\" cannot be read: {}", printable(path), printable(&why)))
                .help("the file must be there and readable for the agent");
            None
        }
    }
}

/// Path and certificates of a file.
fn load(report: &mut Report<'_>, secrets: &Secrets<'_>, value: &Value<'_>) -> Option<(String, Vec<Certificate>)> {
    let (path, content) = open(report, secrets, value)?;
    match certificates(content.expose()) {
        Ok(found) => Some((path, found)),
        Err(why) => {
            report
                .error(value.span(), format!("\"{}\" cannot be used: {why}", printable(&path)))
                .help("the file holds one or more X.509 certificates in PEM");
            None
        }
    }
}
