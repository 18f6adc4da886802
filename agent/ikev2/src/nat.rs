//! NAT detection (RFC 7296 2.23): hashes of addresses and ports in IKE_SA_INIT.

use std::net::{IpAddr, SocketAddr};

use watari_crypto::digest::{constant_time_eq, sha1};
use watari_sa::{NatSeen, Path};
use watari_wire::ikev2::{Notify, NotifyType, Payload};

fn hash(spi_i: u64, spi_r: u64, end: SocketAddr) -> [u8; 20] {
    //= rfc7296#2.23
    //# SHA-1 of the SPIs in header order, the address and the port the packet is sent with
    let port = end.port().to_be_bytes();
    let (spi_i, spi_r) = (spi_i.to_be_bytes(), spi_r.to_be_bytes());
    match end.ip() {
        IpAddr::V4(address) => sha1(&[&spi_i, &spi_r, &address.octets(), &port]),
        IpAddr::V6(address) => sha1(&[&spi_i, &spi_r, &address.octets(), &port]),
    }
}

/// The two notifies for a message on this path.
pub(crate) fn notifies(spi_i: u64, spi_r: u64, path: &Path) -> [Payload; 2] {
    let notify = |kind, end| Payload::Notify(Notify::new(kind, hash(spi_i, spi_r, end).to_vec()));
    [notify(NotifyType::NAT_DETECTION_SOURCE_IP, path.local), notify(NotifyType::NAT_DETECTION_DESTINATION_IP, path.remote)]
}

/// What the peer's notifies say about a message that arrived on this path; a peer that sends none sees none.
pub(crate) fn evaluate<'a>(spi_i: u64, spi_r: u64, path: &Path, payloads: impl Iterator<Item = &'a Payload> + Clone) -> NatSeen {
    let mismatch = |kind: NotifyType, end: SocketAddr| {
        let expected = hash(spi_i, spi_r, end);
        let mut hashes = payloads.clone().filter_map(|payload| match payload {
            Payload::Notify(notify) if notify.notify_type == kind => Some(notify.data.as_slice()),
            _ => None,
        });
        //= rfc7296#2.23
        //# several source hashes may be sent; a NAT is there only if none of them fits
        hashes.clone().next().is_some() && !hashes.any(|data| constant_time_eq(data, &expected))
    };
    NatSeen {
        peer: mismatch(NotifyType::NAT_DETECTION_SOURCE_IP, path.remote),
        // Whoever sends from the unspecified address does not know its own; the peer's view is taken as it is then.
        us: !path.local.ip().is_unspecified() && mismatch(NotifyType::NAT_DETECTION_DESTINATION_IP, path.local),
    }
}

/// Whether the peer's notifies say that a message left from this address and port; `None` if they say nothing of it.
pub(crate) fn said_source<'a>(spi_i: u64, spi_r: u64, sender: SocketAddr, payloads: impl Iterator<Item = &'a Payload>) -> Option<bool> {
    let expected = hash(spi_i, spi_r, sender);
    let hashes = payloads.filter_map(|payload| match payload {
        Payload::Notify(notify) if notify.notify_type == NotifyType::NAT_DETECTION_SOURCE_IP => Some(notify.data.as_slice()),
        _ => None,
    });
    hashes.fold(None, |said, data| Some(said.unwrap_or(false) | constant_time_eq(data, &expected)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(local: &str, remote: &str) -> Path {
        Path { local: local.parse().unwrap(), remote: remote.parse().unwrap(), interface: 0 }
    }

    #[test]
    fn no_nat_where_both_see_the_same() {
        let sent = notifies(1, 0, &path("[2001:db8::1]:500", "[2001:db8::2]:500"));
        assert_eq!(evaluate(1, 0, &path("[2001:db8::2]:500", "[2001:db8::1]:500"), sent.iter()), NatSeen::default());
    }

    #[test]
    fn a_translated_source_is_in_front_of_the_peer() {
        let sent = notifies(1, 0, &path("192.168.0.2:500", "192.0.2.1:500"));
        let nat = evaluate(1, 0, &path("192.0.2.1:500", "198.51.100.7:1024"), sent.iter());
        assert_eq!(nat, NatSeen { peer: true, us: false });
        assert!(nat.any());
    }

    #[test]
    fn silence_is_no_nat_and_one_of_several_hashes_is_enough() {
        assert_eq!(evaluate(1, 0, &path("192.0.2.1:500", "198.51.100.7:500"), [].iter()), NatSeen::default());
        let mut sent = notifies(1, 0, &path("10.0.0.1:500", "192.0.2.1:500")).to_vec();
        sent.extend(notifies(1, 0, &path("198.51.100.7:500", "192.0.2.1:500")));
        assert_eq!(evaluate(1, 0, &path("192.0.2.1:500", "198.51.100.7:500"), sent.iter()), NatSeen::default());
    }
}
