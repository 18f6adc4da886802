//! Offers and choices: the lists of algorithms one proposal offers, and the suite that a negotiation ends with.
//! Text form: algorithm names joined by "-", in order of preference within each kind (`aes256gcm16-prfsha384-ecp384`).

use std::fmt;
use std::str::FromStr;

use super::{AlgorithmError, Cipher, Group, Integrity, Prf, nearest};

/// The algorithms of an IKE SA.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct IkeSuite {
    /// Encryption.
    pub cipher: Cipher,
    /// Integrity; `None` exactly if the cipher is an AEAD.
    pub integrity: Option<Integrity>,
    /// Pseudo-random function.
    pub prf: Prf,
    /// Key exchange.
    pub group: Group,
}

/// The algorithms of a child SA (ESP).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ChildSuite {
    /// Encryption.
    pub cipher: Cipher,
    /// Integrity; `None` if the cipher is an AEAD.
    pub integrity: Option<Integrity>,
    /// Extended sequence numbers (RFC 4303 2.2.1).
    pub esn: bool,
}

impl ChildSuite {
    /// Octets of a key given by hand for one direction: that of the cipher, then that of the integrity algorithm.
    #[must_use]
    pub const fn manual_key_len(&self) -> usize {
        let integrity = match self.integrity {
            Some(integrity) => integrity.key_len(),
            None => 0,
        };
        self.cipher.keymat_len() + integrity
    }
}

/// One proposal for an IKE SA: any one algorithm of each list may be chosen.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct IkeProposal {
    /// Ciphers, the preferred first; all AEAD or none.
    pub ciphers: Vec<Cipher>,
    /// Integrity algorithms; empty exactly if the ciphers are AEADs.
    pub integrities: Vec<Integrity>,
    /// Pseudo-random functions, at least one.
    pub prfs: Vec<Prf>,
    /// Key exchange groups, at least one.
    pub groups: Vec<Group>,
}

/// One proposal for a child SA (ESP).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ChildProposal {
    /// Ciphers, the preferred first; all AEAD or none.
    pub ciphers: Vec<Cipher>,
    /// Integrity algorithms; empty exactly if the ciphers are AEADs.
    pub integrities: Vec<Integrity>,
    /// Key exchange groups for perfect forward secrecy; empty: no key exchange of its own.
    pub groups: Vec<Group>,
    /// Extended sequence numbers that are acceptable, the preferred first; never empty.
    pub esn: Vec<bool>,
}

/// The words of a proposal string, sorted by kind.
#[derive(Default)]
struct Words {
    ciphers: Vec<Cipher>,
    integrities: Vec<Integrity>,
    prfs: Vec<Prf>,
    groups: Vec<Group>,
    esn: Vec<bool>,
}

impl Words {
    fn read(text: &str) -> Result<Self, AlgorithmError> {
        let mut words = Self::default();
        for word in text.split('-').map(str::trim) {
            let fresh = if let Some(cipher) = Cipher::lookup(word) {
                push(&mut words.ciphers, cipher)
            } else if let Some(integrity) = Integrity::lookup(word) {
                push(&mut words.integrities, integrity)
            } else if let Some(prf) = Prf::lookup(word) {
                push(&mut words.prfs, prf)
            } else if let Some(group) = Group::lookup(word) {
                push(&mut words.groups, group)
            } else if let Some((_, esn)) = ESN_NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)) {
                push(&mut words.esn, *esn)
            } else {
                return Err(AlgorithmError::UnknownName { kind: "algorithm", name: word.to_owned(), nearest: nearest(word, all_names()) });
            };
            if !fresh {
                return Err(AlgorithmError::Repeated { name: word.to_owned() });
            }
        }
        Ok(words)
    }

    /// Refuses ciphers that cannot stand in one proposal, or beside the integrity algorithms named.
    fn check_ciphers(&self, text: &str) -> Result<(), AlgorithmError> {
        let aead = self.ciphers.iter().find(|cipher| cipher.is_aead());
        let other = self.ciphers.iter().find(|cipher| !cipher.is_aead());
        match (aead, other) {
            (Some(aead), Some(other)) => Err(AlgorithmError::MixedAead { aead: aead.name(), other: other.name() }),
            (None, None) => Err(missing(text, "cipher", "aes128gcm16")),
            (None, Some(_)) if self.integrities.is_empty() => Err(missing(text, "integrity algorithm", "sha256")),
            (Some(aead), None) => self
                .integrities
                .first()
                .map_or(Ok(()), |integrity| Err(AlgorithmError::IntegrityWithAead { aead: aead.name(), integrity: integrity.name() })),
            (None, Some(_)) => Ok(()),
        }
    }
}

const ESN_NAMES: &[(&str, bool)] = &[("esn", true), ("noesn", false)];

fn all_names() -> impl Iterator<Item = &'static str> {
    let ciphers = Cipher::NAMES.iter().map(|(name, _)| *name);
    let integrities = Integrity::NAMES.iter().map(|(name, _)| *name);
    let prfs = Prf::NAMES.iter().map(|(name, _)| *name);
    let groups = Group::NAMES.iter().map(|(name, _)| *name);
    ciphers.chain(integrities).chain(prfs).chain(groups).chain(ESN_NAMES.iter().map(|(name, _)| *name))
}

/// Adds `value` unless it is there; false if it was.
fn push<T: PartialEq>(list: &mut Vec<T>, value: T) -> bool {
    let fresh = !list.contains(&value);
    if fresh {
        list.push(value);
    }
    fresh
}

fn missing(text: &str, kind: &'static str, example: &'static str) -> AlgorithmError {
    AlgorithmError::Missing { proposal: text.to_owned(), kind, example }
}

impl IkeProposal {
    /// Reads a proposal such as `aes128-sha256-x25519` or `aes256gcm16-prfsha384-ecp384`.
    ///
    /// Without a PRF the one of each integrity algorithm's hash is meant; beside an AEAD cipher an integrity algorithm may stand for its PRF, as strongSwan allows.
    ///
    /// # Errors
    /// What is wrong with the string, in words for the person who wrote it.
    pub fn parse(text: &str) -> Result<Self, AlgorithmError> {
        let mut words = Words::read(text)?;
        if let Some(esn) = words.esn.first() {
            return Err(out_of_place(esn_name(*esn), "IKE", "an IKE SA has no ESP sequence numbers"));
        }
        if words.ciphers.contains(&Cipher::NULL) {
            return Err(out_of_place("null", "IKE", "an IKE SA is always encrypted (RFC 8247 2.1)"));
        }
        if words.prfs.is_empty() {
            words.prfs = words.integrities.iter().map(|integrity| integrity.prf()).collect();
            if words.ciphers.iter().all(|cipher| cipher.is_aead()) {
                words.integrities.clear();
            }
        }
        words.check_ciphers(text)?;
        if words.prfs.is_empty() {
            return Err(missing(text, "PRF", "prfsha256"));
        }
        if words.groups.is_empty() {
            return Err(missing(text, "key exchange group", "x25519"));
        }
        let Words { ciphers, integrities, prfs, groups, .. } = words;
        Ok(Self { ciphers, integrities, prfs, groups })
    }

    /// Whether `suite` is one that this proposal allows.
    #[must_use]
    pub fn allows(&self, suite: &IkeSuite) -> bool {
        self.ciphers.contains(&suite.cipher)
            && integrity_allowed(&self.integrities, suite.cipher, suite.integrity)
            && self.prfs.contains(&suite.prf)
            && self.groups.contains(&suite.group)
    }
}

impl ChildProposal {
    /// Reads a proposal such as `aes128gcm16`, `aes128-sha256-x25519` or `aes256gcm16-esn-noesn`; without `esn` or `noesn`, `noesn` is meant.
    ///
    /// # Errors
    /// What is wrong with the string, in words for the person who wrote it.
    pub fn parse(text: &str) -> Result<Self, AlgorithmError> {
        let mut words = Words::read(text)?;
        if let Some(prf) = words.prfs.first() {
            return Err(out_of_place(prf.name(), "ESP", "keys of a child SA come from the PRF of its IKE SA"));
        }
        words.check_ciphers(text)?;
        if words.esn.is_empty() {
            words.esn.push(false);
        }
        let Words { ciphers, integrities, groups, esn, .. } = words;
        Ok(Self { ciphers, integrities, groups, esn })
    }

    /// Whether `suite` is one that this proposal allows.
    #[must_use]
    pub fn allows(&self, suite: &ChildSuite) -> bool {
        self.ciphers.contains(&suite.cipher)
            && integrity_allowed(&self.integrities, suite.cipher, suite.integrity)
            && self.esn.contains(&suite.esn)
    }
}

fn integrity_allowed(offered: &[Integrity], cipher: Cipher, integrity: Option<Integrity>) -> bool {
    match integrity {
        None => cipher.is_aead(),
        Some(integrity) => !cipher.is_aead() && offered.contains(&integrity),
    }
}

fn out_of_place(name: &'static str, protocol: &'static str, why: &'static str) -> AlgorithmError {
    AlgorithmError::OutOfPlace { name, protocol, why }
}

fn esn_name(esn: bool) -> &'static str {
    if esn { "esn" } else { "noesn" }
}

/// Writes `names` joined by "-".
fn join(f: &mut fmt::Formatter<'_>, names: impl Iterator<Item = &'static str>) -> fmt::Result {
    for (index, name) in names.enumerate() {
        if index > 0 {
            f.write_str("-")?;
        }
        f.write_str(name)?;
    }
    Ok(())
}

impl fmt::Display for IkeProposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The PRFs are left out where reading the text again brings them back.
        let implied = self.integrities.iter().map(|integrity| integrity.prf()).eq(self.prfs.iter().copied());
        let prfs = if implied { &[][..] } else { &self.prfs[..] };
        let names = self.ciphers.iter().map(|cipher| cipher.name());
        let names = names.chain(self.integrities.iter().map(|integrity| integrity.name()));
        let names = names.chain(prfs.iter().map(|prf| prf.name()));
        join(f, names.chain(self.groups.iter().map(|group| group.name())))
    }
}

impl fmt::Display for ChildProposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let esn = if self.esn == [false] { &[][..] } else { &self.esn[..] };
        let names = self.ciphers.iter().map(|cipher| cipher.name());
        let names = names.chain(self.integrities.iter().map(|integrity| integrity.name()));
        let names = names.chain(self.groups.iter().map(|group| group.name()));
        join(f, names.chain(esn.iter().map(|esn| esn_name(*esn))))
    }
}

impl fmt::Display for IkeSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = std::iter::once(self.cipher.name()).chain(self.integrity.map(Integrity::name));
        join(f, names.chain([self.prf.name(), self.group.name()]))
    }
}

impl fmt::Display for ChildSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = std::iter::once(self.cipher.name()).chain(self.integrity.map(Integrity::name));
        join(f, names.chain(self.esn.then_some("esn")))
    }
}

impl FromStr for IkeProposal {
    type Err = AlgorithmError;

    fn from_str(text: &str) -> Result<Self, AlgorithmError> {
        Self::parse(text)
    }
}

impl FromStr for ChildProposal {
    type Err = AlgorithmError;

    fn from_str(text: &str) -> Result<Self, AlgorithmError> {
        Self::parse(text)
    }
}

as_text!(IkeProposal);
as_text!(ChildProposal);

const AEADS: [Cipher; 3] = [Cipher::AES256GCM16, Cipher::AES128GCM16, Cipher::CHACHA20POLY1305];
const CBCS: [Cipher; 2] = [Cipher::AES256, Cipher::AES128];
const MACS: [Integrity; 3] = [Integrity::HmacSha256_128, Integrity::HmacSha384_192, Integrity::HmacSha512_256];

/// What is offered for an IKE SA where the configuration says nothing: AEAD ciphers, then AES-CBC, in the order of RFC 8247.
#[must_use]
pub fn default_ike_proposals() -> Vec<IkeProposal> {
    let prfs = MACS.map(Integrity::prf).to_vec();
    let groups = vec![Group::Curve25519, Group::Ecp256, Group::Ecp384, Group::Modp3072, Group::Modp4096, Group::Modp2048];
    let aead = IkeProposal { ciphers: AEADS.to_vec(), integrities: Vec::new(), prfs, groups };
    let cbc = IkeProposal { ciphers: CBCS.to_vec(), integrities: MACS.to_vec(), ..aead.clone() };
    vec![aead, cbc]
}

/// What is offered for a child SA where the configuration says nothing: AEAD ciphers, then AES-CBC, in the order of RFC 8221; no key exchange of its own.
#[must_use]
pub fn default_child_proposals() -> Vec<ChildProposal> {
    let aead = ChildProposal { ciphers: AEADS.to_vec(), integrities: Vec::new(), groups: Vec::new(), esn: vec![false] };
    let cbc = ChildProposal { ciphers: CBCS.to_vec(), integrities: MACS.to_vec(), ..aead.clone() };
    vec![aead, cbc]
}

#[cfg(test)]
mod tests;
