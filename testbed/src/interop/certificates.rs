//! Certificates of the two hosts. Those with an ECDSA key stand for a mobile node: they are used with an address as identity, which must be in
//! the SubjectAltName; that of Watari's end comes with a CA between it and the root.

use super::case::{Proof, Terms, Who};
use super::net::{Hosts, outer};
use crate::uml::Result;

/// The root that both ends trust.
const ROOT: &str = include_str!("certificates/root.pem");

/// Whether an end proves itself by a certificate, and by which kind of key.
pub(super) const fn kind(who: Who, terms: &Terms) -> Option<&'static str> {
    match (terms.proof, who) {
        (Proof::EcdsaAndRsa | Proof::EcdsaAndKey, Who::Us) | (Proof::RsaAndEcdsa, Who::Peer) => Some("ecdsa"),
        (Proof::RsaAndEcdsa, Who::Us) | (Proof::EcdsaAndRsa, Who::Peer) => Some("rsa"),
        (Proof::SharedKey, _) | (Proof::EcdsaAndKey, Who::Peer) => None,
    }
}

/// What an end calls itself.
pub(super) fn identity(who: Who, terms: &Terms) -> String {
    match kind(who, terms) {
        Some("ecdsa") => outer(who, terms.family).to_owned(),
        _ => format!("{}.example", who.host()),
    }
}

/// The end's own certificates and private key.
fn own(who: Who, kind: &str) -> (&'static str, &'static str) {
    match (who, kind) {
        (Who::Us, "ecdsa") => (include_str!("certificates/us-ecdsa.pem"), include_str!("certificates/us-ecdsa.key")),
        (Who::Us, _) => (include_str!("certificates/us-rsa.pem"), include_str!("certificates/us-rsa.key")),
        (Who::Peer, "ecdsa") => (include_str!("certificates/peer-ecdsa.pem"), include_str!("certificates/peer-ecdsa.key")),
        (Who::Peer, _) => (include_str!("certificates/peer-rsa.pem"), include_str!("certificates/peer-rsa.key")),
    }
}

/// Files of one end below /etc: Watari's are in one folder, strongSwan's sorted by what they are.
pub(super) fn files(who: Who, terms: &Terms, strongswan: bool) -> Vec<(&'static str, &'static str)> {
    let [own_name, key_name, root_name] = match strongswan {
        true => ["swanctl/x509/own.pem", "swanctl/private/own.key", "swanctl/x509ca/root.pem"],
        false => ["watari/own.pem", "watari/own.key", "watari/root.pem"],
    };
    let own = kind(who, terms).map(|kind| own(who, kind));
    let mut files: Vec<_> = own.into_iter().flat_map(|(certificates, key)| [(own_name, certificates), (key_name, key)]).collect();
    if kind(who.other(), terms).is_some() {
        files.push((root_name, ROOT));
    }
    files
}

/// Writes the files of one end.
pub(super) fn write(hosts: &Hosts, who: Who, terms: &Terms, strongswan: bool) -> Result<()> {
    files(who, terms, strongswan).into_iter().try_for_each(|(name, content)| hosts.of(who).etc_file(name, content))
}
