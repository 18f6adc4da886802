//! Choosing algorithms: our proposals against what the peer offers, neutral between the protocols.
//! A refusal is a `Mismatch` with both sides per kind of algorithm, so that the person reading it sees what to change.
//! Invariant: what is chosen stands in one proposal of each side.

use std::fmt;

use watari_kernel::Capability;
use watari_policies::algorithm::{ChildProposal, ChildSuite, Cipher, Group, IkeProposal, IkeSuite, Integrity, Prf};

/// One proposal as the peer sent it, sorted by kind. Algorithms we do not know stand in `unknown` by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offered {
    /// Its number, from 1; an answer repeats it.
    pub number: u8,
    /// Ciphers.
    pub ciphers: Vec<Cipher>,
    /// Integrity algorithms; NONE is left out, which means the same to an AEAD cipher (FACTS E 21).
    pub integrities: Vec<Integrity>,
    /// Pseudo-random functions.
    pub prfs: Vec<Prf>,
    /// Key exchange groups without NONE.
    pub groups: Vec<Group>,
    /// Whether the peer would do without a key exchange of its own: no group at all, or NONE among them.
    pub no_group: bool,
    /// Extended sequence numbers.
    pub esn: Vec<bool>,
    /// What we do not know, by kind and name.
    pub unknown: Vec<(Kind, String)>,
    /// Whether it holds a kind of transform that we do not know, so that none of it may be chosen (RFC 7296 3.3.6).
    pub unusable: bool,
}

/// Kinds of algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Encryption.
    Encryption,
    /// Pseudo-random function.
    Prf,
    /// Integrity.
    Integrity,
    /// Key exchange.
    Group,
    /// Extended sequence numbers.
    Esn,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Encryption => "encr",
            Self::Prf => "prf",
            Self::Integrity => "integ",
            Self::Group => "ke",
            Self::Esn => "esn",
        }
    }
}

/// Both sides' algorithms of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Kind.
    pub kind: Kind,
    /// What we allow.
    pub ours: Vec<String>,
    /// What the peer offers.
    pub theirs: Vec<String>,
}

impl Row {
    fn agrees(&self) -> bool {
        self.ours.iter().any(|name| self.theirs.contains(name)) || (self.ours.is_empty() && self.theirs.is_empty())
    }
}

/// Why nothing could be chosen: both sides' view per kind of algorithm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mismatch {
    /// One row per kind that either side names.
    pub rows: Vec<Row>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |names: &[String]| if names.is_empty() { "(none)".to_owned() } else { names.join(", ") };
        let mut every_row_agrees = true;
        for (index, row) in self.rows.iter().enumerate() {
            let mark = if row.agrees() { "" } else { " -> none in common" };
            every_row_agrees &= row.agrees();
            let gap = if index == 0 { "" } else { "; " };
            write!(f, "{gap}{} ours {} | peer {}{mark}", row.kind.name(), side(&row.ours), side(&row.theirs))?;
        }
        if every_row_agrees { f.write_str("; each kind has something in common, but no single proposal has all of it") } else { Ok(()) }
    }
}

/// The first of `ours` that the peer offers too.
fn first_common<T: PartialEq + Copy>(ours: &[T], theirs: &[T]) -> Option<T> {
    ours.iter().copied().find(|item| theirs.contains(item))
}

fn common_integrity(cipher: Cipher, ours: &[Integrity], theirs: &[Integrity]) -> Option<Option<Integrity>> {
    if cipher.is_aead() { Some(None) } else { first_common(ours, theirs).map(Some) }
}

/// Chooses an IKE suite, ours preferred; `sent_group` is the group of the public value that came along and saves a round trip if it will do.
///
/// # Errors
/// [`Mismatch`] if no proposal of ours meets one of theirs.
pub fn choose_ike(ours: &[IkeProposal], theirs: &[Offered], sent_group: Option<Group>) -> Result<(u8, IkeSuite), Box<Mismatch>> {
    for proposal in ours {
        for offered in theirs.iter().filter(|offered| !offered.unusable) {
            let sent = sent_group.filter(|group| proposal.groups.contains(group) && offered.groups.contains(group));
            let found = || {
                let cipher = first_common(&proposal.ciphers, &offered.ciphers)?;
                let integrity = common_integrity(cipher, &proposal.integrities, &offered.integrities)?;
                let prf = first_common(&proposal.prfs, &offered.prfs)?;
                let group = sent.or_else(|| first_common(&proposal.groups, &offered.groups))?;
                Some(IkeSuite { cipher, integrity, prf, group })
            };
            if let Some(suite) = found() {
                return Ok((offered.number, suite));
            }
        }
    }
    Err(Box::new(ike_mismatch(ours, theirs)))
}

/// Whether a child SA has a key exchange of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyExchangeRule {
    /// The first child (in IKE_AUTH) never has one.
    Never,
    /// As the proposals say. A peer that insists on one where we want none gets the group of the IKE SA (FACTS E 14).
    AsProposed {
        /// Group of the IKE SA.
        ike: Group,
        /// Group of the public value that came along, if any.
        sent: Option<Group>,
    },
}

/// Chooses a child suite and its key exchange group, ours preferred.
///
/// # Errors
/// [`Mismatch`] if no proposal of ours meets one of theirs.
pub fn choose_child(
    ours: &[ChildProposal],
    theirs: &[Offered],
    rule: KeyExchangeRule,
) -> Result<(u8, ChildSuite, Option<Group>), Box<Mismatch>> {
    for proposal in ours {
        for offered in theirs.iter().filter(|offered| !offered.unusable) {
            let found = || {
                let cipher = first_common(&proposal.ciphers, &offered.ciphers)?;
                let integrity = common_integrity(cipher, &proposal.integrities, &offered.integrities)?;
                let esn = first_common(&proposal.esn, &offered.esn)?;
                let group = child_group(proposal, offered, rule)?;
                Some((offered.number, ChildSuite { cipher, integrity, esn }, group))
            };
            if let Some(found) = found() {
                return Ok(found);
            }
        }
    }
    Err(Box::new(child_mismatch(ours, theirs, rule)))
}

fn child_group(proposal: &ChildProposal, offered: &Offered, rule: KeyExchangeRule) -> Option<Option<Group>> {
    let KeyExchangeRule::AsProposed { ike, sent } = rule else { return Some(None) };
    if !proposal.groups.is_empty() {
        let sent = sent.filter(|group| proposal.groups.contains(group) && offered.groups.contains(group));
        return sent.or_else(|| first_common(&proposal.groups, &offered.groups)).map(Some);
    }
    if offered.no_group {
        return Some(None);
    }
    offered.groups.contains(&ike).then_some(Some(ike))
}

fn names<T: Copy + PartialEq>(lists: impl Iterator<Item = T>, name: impl Fn(T) -> &'static str) -> Vec<String> {
    let mut found = Vec::new();
    for item in lists {
        let text = name(item).to_owned();
        if !found.contains(&text) {
            found.push(text);
        }
    }
    found
}

fn row(kind: Kind, ours: Vec<String>, mut theirs: Vec<String>, offers: &[Offered]) -> Row {
    for (unknown_kind, name) in offers.iter().flat_map(|offered| &offered.unknown) {
        if *unknown_kind == kind && !theirs.contains(name) {
            theirs.push(name.clone());
        }
    }
    Row { kind, ours, theirs }
}

fn ike_mismatch(ours: &[IkeProposal], theirs: &[Offered]) -> Mismatch {
    let ciphers = (names(ours.iter().flat_map(|p| p.ciphers.iter().copied()), Cipher::name), offered_ciphers(theirs));
    let prfs = (
        names(ours.iter().flat_map(|p| p.prfs.iter().copied()), Prf::name),
        names(theirs.iter().flat_map(|o| o.prfs.iter().copied()), Prf::name),
    );
    let integrities = (names(ours.iter().flat_map(|p| p.integrities.iter().copied()), Integrity::name), offered_integrities(theirs));
    let groups = (names(ours.iter().flat_map(|p| p.groups.iter().copied()), Group::name), offered_groups(theirs));
    Mismatch {
        rows: vec![
            row(Kind::Encryption, ciphers.0, ciphers.1, theirs),
            row(Kind::Prf, prfs.0, prfs.1, theirs),
            row(Kind::Integrity, integrities.0, integrities.1, theirs),
            row(Kind::Group, groups.0, groups.1, theirs),
        ],
    }
}

fn child_mismatch(ours: &[ChildProposal], theirs: &[Offered], rule: KeyExchangeRule) -> Mismatch {
    let esn = |value: bool| if value { "esn" } else { "noesn" };
    let ciphers = names(ours.iter().flat_map(|p| p.ciphers.iter().copied()), Cipher::name);
    let integrities = names(ours.iter().flat_map(|p| p.integrities.iter().copied()), Integrity::name);
    let numbers = names(ours.iter().flat_map(|p| p.esn.iter().copied()), esn);
    let their_numbers = names(theirs.iter().flat_map(|o| o.esn.iter().copied()), esn);
    let mut rows = vec![
        row(Kind::Encryption, ciphers, offered_ciphers(theirs), theirs),
        row(Kind::Integrity, integrities, offered_integrities(theirs), theirs),
        row(Kind::Esn, numbers, their_numbers, theirs),
    ];
    if rule != KeyExchangeRule::Never {
        let none_ours = ours.iter().any(|p| p.groups.is_empty()).then(|| "none".to_owned());
        let none_theirs = theirs.iter().any(|o| o.no_group).then(|| "none".to_owned());
        let mut groups = names(ours.iter().flat_map(|p| p.groups.iter().copied()), Group::name);
        groups.extend(none_ours);
        let mut their_groups = offered_groups(theirs);
        their_groups.extend(none_theirs);
        rows.push(row(Kind::Group, groups, their_groups, theirs));
    }
    Mismatch { rows }
}

fn offered_ciphers(theirs: &[Offered]) -> Vec<String> {
    names(theirs.iter().flat_map(|o| o.ciphers.iter().copied()), Cipher::name)
}

fn offered_integrities(theirs: &[Offered]) -> Vec<String> {
    names(theirs.iter().flat_map(|o| o.integrities.iter().copied()), Integrity::name)
}

fn offered_groups(theirs: &[Offered]) -> Vec<String> {
    names(theirs.iter().flat_map(|o| o.groups.iter().copied()), Group::name)
}

/// What of our child proposals this kernel can install; what it cannot is never negotiated.
pub fn installable(ours: &[ChildProposal], capability: &Capability) -> Vec<ChildProposal> {
    let fits = |proposal: &ChildProposal| {
        let mut proposal = proposal.clone();
        if !capability.aead {
            proposal.ciphers.retain(|cipher| !cipher.is_aead());
        }
        if let Some(known) = &capability.encryption {
            proposal.ciphers.retain(|cipher| cipher.is_aead() || known.contains(&cipher.algorithm));
        }
        // AEAD ciphers stand without an integrity algorithm, others cannot.
        let bare = proposal.integrities.is_empty();
        if let Some(known) = &capability.integrity {
            proposal.integrities.retain(|integrity| known.contains(integrity));
        }
        if !capability.esn {
            proposal.esn.retain(|esn| !esn);
        }
        let whole = !proposal.ciphers.is_empty() && !proposal.esn.is_empty() && proposal.integrities.is_empty() == bare;
        whole.then_some(proposal)
    };
    ours.iter().filter_map(fits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use watari_policies::algorithm::Encryption;

    fn ike(text: &str) -> IkeProposal {
        text.parse().unwrap()
    }

    fn child(text: &str) -> ChildProposal {
        text.parse().unwrap()
    }

    fn offer_ike(number: u8, text: &str) -> Offered {
        let IkeProposal { ciphers, integrities, prfs, groups } = ike(text);
        Offered { number, ciphers, integrities, prfs, groups, ..Offered::default() }
    }

    fn offer_child(number: u8, text: &str) -> Offered {
        let ChildProposal { ciphers, integrities, groups, esn } = child(text);
        Offered { number, ciphers, integrities, no_group: groups.is_empty(), groups, esn, ..Offered::default() }
    }

    #[test]
    fn the_proposal_that_fits_is_chosen_with_its_number() {
        let ours = [ike("aes256gcm16-prfsha256-x25519"), ike("aes128-sha256-ecp256-modp2048")];
        let theirs = [offer_ike(1, "aes256-sha512-ecp256"), offer_ike(2, "aes128-aes256-sha1-sha256-modp2048-ecp256")];
        let (number, suite) = choose_ike(&ours, &theirs, None).unwrap();
        assert_eq!((number, suite.to_string().as_str()), (2, "aes128-sha256-prfsha256-ecp256"));
        assert_eq!(choose_ike(&ours, &theirs, Some(Group::Modp2048)).unwrap().1.group, Group::Modp2048);
        assert_eq!(choose_ike(&ours, &theirs, Some(Group::Ecp384)).unwrap().1.group, Group::Ecp256);
    }

    #[test]
    fn a_mismatch_names_both_sides() {
        let mut offer = offer_ike(1, "aes128-sha256-x25519");
        offer.unknown.push((Kind::Encryption, "3DES".to_owned()));
        let mismatch = choose_ike(&[ike("aes256-sha256-x25519")], &[offer], None).unwrap_err();
        let text = mismatch.to_string();
        assert!(text.starts_with("encr ours aes256 | peer aes128, 3DES -> none in common; prf ours prfsha256 | peer prfsha256;"), "{text}");
    }

    #[test]
    fn rows_that_agree_without_a_proposal_that_does() {
        let ours = [ike("aes256-sha256-x25519"), ike("aes128-sha512-x25519")];
        let text = choose_ike(&ours, &[offer_ike(1, "aes256-sha512-x25519")], None).unwrap_err().to_string();
        assert!(text.ends_with("but no single proposal has all of it"), "{text}");
    }

    #[test]
    fn an_unusable_proposal_is_never_chosen() {
        let mut offer = offer_ike(1, "aes256-sha256-x25519");
        offer.unusable = true;
        assert!(choose_ike(&[ike("aes256-sha256-x25519")], &[offer], None).is_err());
    }

    #[test]
    fn key_exchange_of_children() {
        let rule = |sent| KeyExchangeRule::AsProposed { ike: Group::Curve25519, sent };
        let plain = [child("aes128gcm16")];
        let pfs = [child("aes128gcm16-ecp256-x25519")];
        let group =
            |ours: &[ChildProposal], theirs: &str, rule| choose_child(ours, &[offer_child(1, theirs)], rule).map(|found| found.2).ok();
        assert_eq!(group(&plain, "aes128gcm16", rule(None)), Some(None));
        assert_eq!(group(&plain, "aes128gcm16-x25519", rule(None)), Some(Some(Group::Curve25519)), "a peer that insists");
        assert_eq!(group(&plain, "aes128gcm16-ecp256", rule(None)), None);
        assert_eq!(group(&pfs, "aes128gcm16-x25519-ecp256", rule(Some(Group::Curve25519))), Some(Some(Group::Curve25519)));
        assert_eq!(group(&pfs, "aes128gcm16", rule(None)), None, "we insist");
        assert_eq!(group(&pfs, "aes128gcm16", KeyExchangeRule::Never), Some(None), "IKE_AUTH has none");
    }

    #[test]
    fn what_the_kernel_lacks_is_not_offered() {
        let ours = [child("aes128gcm16-esn-noesn"), child("aes128-sha256-esn")];
        let capability = Capability { aead: false, esn: true, ..Capability::default() };
        assert_eq!(installable(&ours, &capability), [child("aes128-sha256-esn")]);
        let capability = Capability { aead: true, esn: false, ..Capability::default() };
        assert_eq!(installable(&ours, &capability), [child("aes128gcm16-noesn")]);
        let capability = Capability {
            encryption: Some([Encryption::AesCbc].into()),
            integrity: Some([Integrity::HmacSha1_96, Integrity::HmacSha512_256].into()),
            ..Capability::default()
        };
        let ours = [child("aes128-null-sha256-sha512"), child("aes128-sha256"), child("aes128gcm16")];
        assert_eq!(installable(&ours, &capability), [child("aes128-sha512"), child("aes128gcm16")]);
    }
}
