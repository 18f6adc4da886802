//! IKE identities (RFC 7296 3.5), compared by type and value.

use std::fmt;
use std::net::IpAddr;

/// An identity as it stands in IDi and IDr.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    /// ID_IPV4_ADDR or ID_IPV6_ADDR.
    Address(IpAddr),
    /// ID_FQDN, compared without regard to case.
    Fqdn(String),
    /// ID_RFC822_ADDR.
    Email(String),
    /// ID_KEY_ID, opaque octets.
    KeyId(Vec<u8>),
    /// Any other type, kept as it came.
    Other {
        /// ID type number of RFC 7296 3.5.
        id_type: u8,
        /// Identification data as on the wire.
        data: Vec<u8>,
    },
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Fqdn(name) | Self::Email(name) => f.write_str(name),
            Self::KeyId(data) | Self::Other { data, .. } => data.iter().try_for_each(|octet| write!(f, "{octet:02x}")),
        }
    }
}
