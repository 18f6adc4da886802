//! IKE identities (RFC 7296 3.5), compared by type and value; domain names without regard to case.
//! Invariant: text in an identity is printable ASCII, so that a peer cannot write control characters into a log.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// ID types of RFC 7296 3.5.
mod id_type {
    pub(super) const IPV4_ADDR: u8 = 1;
    pub(super) const FQDN: u8 = 2;
    pub(super) const RFC822_ADDR: u8 = 3;
    pub(super) const IPV6_ADDR: u8 = 5;
    pub(super) const KEY_ID: u8 = 11;
}

/// An identity as it stands in IDi and IDr.
#[derive(Clone, Debug)]
pub enum Identity {
    /// ID_IPV4_ADDR or ID_IPV6_ADDR.
    Address(IpAddr),
    /// ID_FQDN, compared without regard to case.
    Fqdn(String),
    /// ID_RFC822_ADDR.
    Email(String),
    /// ID_KEY_ID, opaque octets.
    KeyId(Vec<u8>),
    /// Any other type, and data that do not fit their type, kept as they came.
    Other {
        /// ID type number of RFC 7296 3.5.
        id_type: u8,
        /// Identification data as on the wire.
        data: Vec<u8>,
    },
}

/// Why a text is no identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Nothing, or characters that no identity has.
    #[error("\"{0}\" is no identity: write an IP address, a domain name, user@domain or keyid: with hexadecimal digits")]
    Unreadable(String),
    /// `keyid:` without an even number of hexadecimal digits.
    #[error("\"{0}\" is no key id: after \"keyid:\" an even number of hexadecimal digits is needed, for example keyid:0a1b2c")]
    KeyId(String),
}

impl Identity {
    /// ID_DER_ASN1_DN: a distinguished name.
    pub const DISTINGUISHED_NAME: u8 = 9;

    /// The identity of an ID payload: ID type and identification data. Data that do not fit the type become `Other`, which equals no identity that text can name.
    pub fn from_wire(id_type: u8, data: &[u8]) -> Self {
        let known = match id_type {
            id_type::IPV4_ADDR => <[u8; 4]>::try_from(data).ok().map(|octets| Self::Address(Ipv4Addr::from(octets).into())),
            id_type::IPV6_ADDR => <[u8; 16]>::try_from(data).ok().map(|octets| Self::Address(Ipv6Addr::from(octets).into())),
            id_type::FQDN => printable(data).map(Self::Fqdn),
            id_type::RFC822_ADDR => printable(data).map(Self::Email),
            id_type::KEY_ID => Some(Self::KeyId(data.to_vec())),
            _ => None,
        };
        known.unwrap_or_else(|| Self::Other { id_type, data: data.to_vec() })
    }

    /// ID type and identification data of an ID payload.
    pub fn to_wire(&self) -> (u8, Vec<u8>) {
        match self {
            Self::Address(IpAddr::V4(address)) => (id_type::IPV4_ADDR, address.octets().to_vec()),
            Self::Address(IpAddr::V6(address)) => (id_type::IPV6_ADDR, address.octets().to_vec()),
            Self::Fqdn(name) => (id_type::FQDN, name.as_bytes().to_vec()),
            Self::Email(name) => (id_type::RFC822_ADDR, name.as_bytes().to_vec()),
            Self::KeyId(data) => (id_type::KEY_ID, data.clone()),
            Self::Other { id_type, data } => (*id_type, data.clone()),
        }
    }

    /// An identity that nobody has: its ID type is reserved (RFC 7296 3.5).
    pub const fn nobody() -> Self {
        Self::Other { id_type: 0, data: Vec::new() }
    }

    /// Whether its ID type is the reserved one, under which nobody proves anything.
    pub const fn is_nobody(&self) -> bool {
        matches!(self, Self::Other { id_type: 0, .. })
    }

    /// A number that is the same for equal identities on every host and in every run (FNV-1a). Neither secret nor without collisions.
    pub fn fingerprint(&self) -> u64 {
        let (rank, id_type, data) = self.key();
        fingerprint([rank, id_type].into_iter().chain(data.iter().copied()))
    }

    /// What equality and order look at: rank of the variant, ID type, data in one case.
    fn key(&self) -> (u8, u8, Cow<'_, [u8]>) {
        match self {
            Self::Address(IpAddr::V4(address)) => (0, 0, Cow::Owned(address.octets().to_vec())),
            Self::Address(IpAddr::V6(address)) => (0, 1, Cow::Owned(address.octets().to_vec())),
            // DNS names have no case (RFC 4343).
            Self::Fqdn(name) if name.bytes().any(|octet| octet.is_ascii_uppercase()) => {
                (1, 0, Cow::Owned(name.to_ascii_lowercase().into_bytes()))
            }
            Self::Fqdn(name) => (1, 0, Cow::Borrowed(name.as_bytes())),
            Self::Email(name) => (2, 0, Cow::Borrowed(name.as_bytes())),
            Self::KeyId(data) => (3, 0, Cow::Borrowed(data)),
            Self::Other { id_type, data } => (4, *id_type, Cow::Borrowed(data)),
        }
    }
}

/// FNV-1a: the same for equal octets on every host and in every run.
pub(crate) fn fingerprint(octets: impl IntoIterator<Item = u8>) -> u64 {
    let step = |hash: u64, octet: u8| (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3);
    octets.into_iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// The text of printable ASCII without spaces, not empty.
fn printable(data: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(data).ok()?;
    (!text.is_empty() && text.bytes().all(|octet| octet.is_ascii_graphic())).then(|| text.to_owned())
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Identity {}

impl PartialOrd for Identity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Identity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl Hash for Identity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

/// The identity that a text without a prefix means.
fn parse_plain(text: &str) -> Option<Identity> {
    if let Ok(address) = text.parse() {
        return Some(Identity::Address(address));
    }
    let name = |part: &str| !part.is_empty() && part.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-._".contains(&octet));
    match text.rsplit_once('@') {
        Some((user, domain)) => {
            (!user.is_empty() && name(domain) && printable(user.as_bytes()).is_some()).then(|| Identity::Email(text.to_owned()))
        }
        None => name(text).then(|| Identity::Fqdn(text.to_owned())),
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    /// Reads an IP address, `name.example`, `user@name.example` or `keyid:0a1b`; `fqdn:` and `email:` in front force the type.
    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let unreadable = || IdentityError::Unreadable(text.to_owned());
        if let Some(digits) = text.strip_prefix("keyid:") {
            return hex(digits).map(Self::KeyId).ok_or_else(|| IdentityError::KeyId(text.to_owned()));
        }
        if let Some(name) = text.strip_prefix("fqdn:") {
            return printable(name.as_bytes()).map(Self::Fqdn).ok_or_else(unreadable);
        }
        if let Some(name) = text.strip_prefix("email:") {
            return printable(name.as_bytes()).map(Self::Email).ok_or_else(unreadable);
        }
        parse_plain(text).ok_or_else(unreadable)
    }
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    let nibbles = digits.chars().map(|digit| digit.to_digit(16).and_then(|value| u8::try_from(value).ok())).collect::<Option<Vec<u8>>>()?;
    let pairs = nibbles.chunks_exact(2);
    let even = pairs.remainder().is_empty() && !nibbles.is_empty();
    even.then(|| pairs.map(|pair| pair.iter().fold(0u8, |octet, nibble| octet << 4 | nibble)).collect())
}

fn write_hex(f: &mut fmt::Formatter<'_>, data: &[u8]) -> fmt::Result {
    data.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
}

impl fmt::Display for Identity {
    /// The text that reads back as this identity; `Other`, which no text means, as its type and hexadecimal data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Fqdn(name) | Self::Email(name) if parse_plain(name).as_ref() == Some(self) => f.write_str(name),
            Self::Fqdn(name) => write!(f, "fqdn:{name}"),
            Self::Email(name) => write!(f, "email:{name}"),
            Self::KeyId(data) => {
                f.write_str("keyid:")?;
                write_hex(f, data)
            }
            Self::Other { id_type, data } => {
                write!(f, "id-type-{id_type}:")?;
                write_hex(f, data)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Identity {
        text.parse().unwrap()
    }

    #[test]
    fn text_has_one_meaning_and_reads_back() {
        assert_eq!(read("192.0.2.1").to_wire(), (1, vec![192, 0, 2, 1]));
        assert_eq!(read("2001:db8::1").to_wire().0, 5);
        assert_eq!(read("mn.example").to_wire(), (2, b"mn.example".to_vec()));
        assert_eq!(read("mn@home.example").to_wire(), (3, b"mn@home.example".to_vec()));
        assert_eq!(read("keyid:00FFa1").to_wire(), (11, vec![0, 255, 0xa1]));
        assert_eq!(read("fqdn:192.0.2.1").to_wire(), (2, b"192.0.2.1".to_vec()));
        for text in
            ["192.0.2.1", "2001:db8::1", "mn.example", "mn@home.example", "keyid:00ffa1", "fqdn:192.0.2.1", "email:nobody", "fqdn:a b"]
        {
            if let Ok(identity) = text.parse::<Identity>() {
                assert_eq!(identity.to_string(), text);
                let (id_type, data) = identity.to_wire();
                assert_eq!(Identity::from_wire(id_type, &data), identity);
            } else {
                assert_eq!(text, "fqdn:a b");
            }
        }
    }

    #[test]
    fn what_is_no_identity_is_refused() {
        for text in ["", "a b", "2001:db8::zz", "@example", "user@", "keyid:", "keyid:abc", "keyid:zz", "mn.example\n"] {
            assert!(text.parse::<Identity>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn names_compare_without_case_in_every_way() {
        let (upper, lower) = (read("MN.Example"), read("mn.example"));
        assert_eq!(upper, lower);
        assert_eq!(upper.cmp(&lower), Ordering::Equal);
        assert!(std::collections::BTreeSet::from([upper.clone()]).contains(&lower));
        assert_eq!(upper.to_string(), "MN.Example");
        assert_ne!(read("email:mn.example"), lower);
        assert_ne!(Identity::KeyId(b"mn.example".to_vec()), lower);
    }

    #[test]
    fn wire_data_that_do_not_fit_equal_nothing_readable() {
        assert_eq!(Identity::from_wire(1, &[1, 2, 3]), Identity::Other { id_type: 1, data: vec![1, 2, 3] });
        assert_eq!(Identity::from_wire(2, b"mn.example\x1b[2J").to_string(), "id-type-2:6d6e2e6578616d706c651b5b324a");
        assert_eq!(Identity::from_wire(9, &[0x30]).to_wire(), (9, vec![0x30]));
        assert_ne!(Identity::from_wire(5, &[0; 4]), Identity::from_wire(1, &[0; 4]));
    }
}
