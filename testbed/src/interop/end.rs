//! One end of a case, whatever program it is: what it can be told to do and what it shows.

use super::case::{Program, Terms, Who};
use super::net::Hosts;
use super::strongswan::Strongswan;
use super::watari::{BySwanctl, Watari};
use crate::uml::Result;

/// The shared secret of both ends.
pub(super) const SECRET: &str = "four migratory birds 1248";

/// SAs in use as an end shows them; those being deleted are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct View {
    /// SPIs of initiator and responder of every established IKE SA, hexadecimal.
    pub(super) ike_sas: Vec<(String, String)>,
    /// SPIs inbound and outbound of every child SA, hexadecimal.
    pub(super) children: Vec<(String, String)>,
}

impl View {
    /// Whether two ends hold the same SAs.
    pub(super) fn mirrors(&self, other: &Self) -> bool {
        let sorted = |mut pairs: Vec<(String, String)>| {
            pairs.sort();
            pairs
        };
        let turned = other.children.iter().map(|(inbound, outbound)| (outbound.clone(), inbound.clone())).collect();
        sorted(self.ike_sas.clone()) == sorted(other.ike_sas.clone()) && sorted(self.children.clone()) == sorted(turned)
    }
}

/// A running program.
pub(super) trait End: Sync {
    /// Brings the child SA up.
    fn initiate(&self) -> Result<()>;
    /// Starts the replacement of the child SA.
    fn rekey_child(&self) -> Result<()>;
    /// Starts the replacement of the IKE SA.
    fn rekey_ike(&self) -> Result<()>;
    /// Sends the other end on to another gateway.
    fn redirect(&self, to: &str) -> Result<()>;
    /// Deletes the child SA.
    fn delete_child(&self) -> Result<()>;
    /// Deletes the IKE SA.
    fn delete_ike(&self) -> Result<()>;
    /// What it holds now.
    fn view(&self) -> Result<View>;
    /// Lines of its log that should not be there.
    fn complaints(&self) -> Vec<String>;
    /// Ends it politely.
    fn stop(&mut self) -> Result<()>;
    /// Ends it without a word.
    fn crash(&mut self);
}

/// Starts the program of one end, ready to be told what to do.
pub(super) fn start(hosts: &Hosts, program: Program, who: Who, terms: &Terms, label: &str) -> Result<Box<dyn End>> {
    Ok(match program {
        Program::Watari => Box::new(Watari::start(hosts, who, terms, label)?),
        Program::WatariBySwanctl => Box::new(BySwanctl(Watari::start(hosts, who, terms, label)?)),
        Program::Strongswan => Box::new(Strongswan::start(hosts, who, terms, label)?),
    })
}
