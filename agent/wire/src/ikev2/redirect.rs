//! The data of REDIRECT and REDIRECTED_FROM (RFC 5685 9.2, 9.3): a gateway, and in an IKE_SA_INIT response the initiator's nonce.
//! Invariant: a name that is read is printable ASCII of at most 255 octets, so that it may stand in a log.

use core::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::ikev2::nonce::{MAX_NONCE, MIN_NONCE};
use crate::writer::Writer;

/// GW Ident Type values.
const IPV4: u8 = 1;
const IPV6: u8 = 2;
const FQDN: u8 = 3;

/// Who a gateway is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GatewayIdentity {
    /// Type 1 or 2.
    Address(IpAddr),
    /// Type 3, a fully qualified domain name.
    Fqdn(String),
}

impl fmt::Display for GatewayIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Fqdn(name) => f.write_str(name),
        }
    }
}

/// Data of REDIRECT, or without nonce of REDIRECTED_FROM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// The new gateway; in REDIRECTED_FROM the one that redirected.
    pub gateway: GatewayIdentity,
    /// The initiator's nonce in an IKE_SA_INIT response, else empty.
    pub nonce: Vec<u8>,
}

impl Redirect {
    /// Reads the data of a notify; `None` if it is not laid out as RFC 5685 says.
    #[must_use]
    pub fn decode(data: &[u8]) -> Option<Self> {
        let (&[kind, length], rest) = data.split_first_chunk::<2>()?;
        let (identity, nonce) = rest.split_at_checked(usize::from(length))?;
        let gateway = match kind {
            IPV4 => GatewayIdentity::Address(Ipv4Addr::from(<[u8; 4]>::try_from(identity).ok()?).into()),
            IPV6 => GatewayIdentity::Address(Ipv6Addr::from(<[u8; 16]>::try_from(identity).ok()?).into()),
            FQDN => {
                //= rfc7296#3.5
                //# the string of an ID_FQDN has no terminator
                let readable = !identity.is_empty() && identity.iter().all(u8::is_ascii_graphic);
                GatewayIdentity::Fqdn(std::str::from_utf8(identity).ok().filter(|_| readable)?.to_owned())
            }
            _ => return None,
        };
        //= rfc5685#9.2
        //# the nonce has 16 to 256 octets; there is none outside IKE_SA_INIT
        let fits = nonce.is_empty() || (MIN_NONCE..=MAX_NONCE).contains(&nonce.len());
        fits.then(|| Self { gateway, nonce: nonce.to_vec() })
    }

    /// The data of a notify. A name of more than 255 octets has no place in it and is cut.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (kind, identity) = match &self.gateway {
            GatewayIdentity::Address(IpAddr::V4(address)) => (IPV4, address.octets().to_vec()),
            GatewayIdentity::Address(IpAddr::V6(address)) => (IPV6, address.octets().to_vec()),
            GatewayIdentity::Fqdn(name) => (FQDN, name.bytes().take(usize::from(u8::MAX)).collect()),
        };
        let mut writer = Writer::default();
        writer.u8(kind);
        writer.count8(identity.len());
        writer.bytes(&identity);
        writer.bytes(&self.nonce);
        writer.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    /// Laid out by hand from the figures of RFC 5685 9.2 and 9.3.
    #[test]
    fn gateways_are_laid_out_as_the_figures_say() {
        let nonce = vec![0xab; 32];
        let address = |text: &str| GatewayIdentity::Address(text.parse().unwrap());
        let known = [
            (address("192.0.2.7"), Vec::new(), "01 04 c0000207".to_owned()),
            (address("192.0.2.7"), nonce.clone(), format!("01 04 c0000207 {}", "ab".repeat(32))),
            (address("2001:db8::2"), nonce.clone(), format!("02 10 20010db8000000000000000000000002 {}", "ab".repeat(32))),
            (GatewayIdentity::Fqdn("ha2.example".into()), nonce, format!("03 0b 6861322e6578616d706c65 {}", "ab".repeat(32))),
        ];
        for (gateway, nonce, hex) in known {
            let redirect = Redirect { gateway, nonce };
            assert_eq!(redirect.encode(), data(&hex));
            assert_eq!(Redirect::decode(&data(&hex)), Some(redirect));
        }
    }

    #[test]
    fn what_does_not_fit_is_nothing() {
        let wrong = [
            "",
            "01",
            "01 04 c00002",
            "01 10 20010db8000000000000000000000002",
            "02 04 c0000207",
            "03 00",
            "03 04 61006200",
            "03 02 6120",
            "00 04 c0000207",
            "04 01 61",
            "03 ff 61",
            "01 04 c0000207 abababababababababababababab",
        ];
        for hex in wrong {
            assert_eq!(Redirect::decode(&data(hex)), None, "{hex}");
        }
        assert_eq!(Redirect::decode(&data(&format!("01 04 c0000207 {}", "ab".repeat(257)))), None);
        let long = Redirect { gateway: GatewayIdentity::Fqdn("a".repeat(300)), nonce: vec![1; 16] };
        assert_eq!(Redirect::decode(&long.encode()).map(|read| read.nonce), Some(vec![1; 16]));
    }
}
