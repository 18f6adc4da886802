//! Identities between the configuration and the ID payloads (RFC 7296 3.5).

use watari_policies::Identity;
use watari_wire::ikev2::{IdType, Identification};

/// The ID payload of an identity.
pub(crate) fn to_wire(identity: &Identity) -> Identification {
    match identity {
        Identity::Address(address) => Identification::from_address(*address),
        Identity::Fqdn(name) => Identification::new(IdType::FQDN, name.as_bytes().to_vec()),
        Identity::Email(name) => Identification::new(IdType::RFC822_ADDR, name.as_bytes().to_vec()),
        Identity::KeyId(data) => Identification::new(IdType::KEY_ID, data.clone()),
        Identity::Other { id_type, data } => Identification::new(IdType(*id_type), data.clone()),
    }
}

/// The identity in an ID payload; what cannot be read as its type says is kept as it came.
pub(crate) fn from_wire(id: &Identification) -> Identity {
    let other = || Identity::Other { id_type: id.id_type.0, data: id.data.clone() };
    let text = || String::from_utf8(id.data.clone()).ok();
    match id.id_type {
        IdType::IPV4_ADDR | IdType::IPV6_ADDR => id.address().map_or_else(other, Identity::Address),
        IdType::FQDN => text().map_or_else(other, Identity::Fqdn),
        IdType::RFC822_ADDR => text().map_or_else(other, Identity::Email),
        IdType::KEY_ID => Identity::KeyId(id.data.clone()),
        _ => other(),
    }
}

/// The form under which identities are compared: names of hosts without regard to case.
pub(crate) fn comparable(identity: &Identity) -> Identity {
    match identity {
        Identity::Fqdn(name) => Identity::Fqdn(name.to_ascii_lowercase()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_survives_the_wire() {
        let identities = [
            Identity::Address("2001:db8::1".parse().unwrap()),
            Identity::Address("192.0.2.1".parse().unwrap()),
            Identity::Fqdn("mn.example".to_owned()),
            Identity::Email("mn@example".to_owned()),
            Identity::KeyId(vec![1, 2]),
            Identity::Other { id_type: 9, data: vec![0x30] },
        ];
        for identity in identities {
            assert_eq!(from_wire(&to_wire(&identity)), identity);
        }
    }

    #[test]
    fn host_names_are_compared_without_case() {
        assert_eq!(comparable(&Identity::Fqdn("MN.Example".to_owned())), Identity::Fqdn("mn.example".to_owned()));
    }
}
