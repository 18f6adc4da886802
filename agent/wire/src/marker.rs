//! What arrives on UDP port 4500: IKE behind four zero octets, ESP, or a keepalive (RFC 3948 section 2).
//! Invariant: `strip_non_esp_marker(&with_non_esp_marker(m)) == Ok(m)`.

/// The four zero octets that stand where the SPI of an ESP packet would be.
pub const NON_ESP_MARKER: [u8; 4] = [0; 4];

/// Why a datagram from port 4500 is no IKE message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotIke {
    /// One octet 0xff: a NAT keepalive (RFC 3948 section 2.3).
    #[error("NAT keepalive")]
    Keepalive,
    /// Fewer than four octets that are no keepalive.
    #[error("{0} octets are too few for a non-ESP marker")]
    TooShort(usize),
    /// A UDP-encapsulated ESP packet with this SPI.
    #[error("ESP packet with SPI {0:#010x}")]
    Esp(u32),
}

/// The IKE message in a datagram received on port 4500.
///
/// # Errors
/// [`NotIke`] when the datagram does not begin with four zero octets.
pub fn strip_non_esp_marker(datagram: &[u8]) -> Result<&[u8], NotIke> {
    if datagram == [0xff] {
        return Err(NotIke::Keepalive);
    }
    //= rfc7296#2.23
    //# four octets of zero precede the IKE header on port 4500; they are no part of the message or of its length
    match datagram.split_first_chunk::<4>() {
        None => Err(NotIke::TooShort(datagram.len())),
        Some((marker, message)) if *marker == NON_ESP_MARKER => Ok(message),
        Some((spi, _)) => Err(NotIke::Esp(u32::from_be_bytes(*spi))),
    }
}

/// The datagram that carries an IKE message on port 4500.
#[must_use]
pub fn with_non_esp_marker(message: &[u8]) -> Vec<u8> {
    [NON_ESP_MARKER.as_slice(), message].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_ike_from_esp_and_keepalives() {
        assert_eq!(strip_non_esp_marker(&with_non_esp_marker(b"ike")), Ok(b"ike".as_slice()));
        assert_eq!(with_non_esp_marker(b"ike"), b"\0\0\0\0ike");
        assert_eq!(strip_non_esp_marker(&[0xff]), Err(NotIke::Keepalive));
        assert_eq!(strip_non_esp_marker(&[]), Err(NotIke::TooShort(0)));
        assert_eq!(strip_non_esp_marker(&[0, 0, 0]), Err(NotIke::TooShort(3)));
        assert_eq!(strip_non_esp_marker(&[0, 0, 16, 1, 9]), Err(NotIke::Esp(0x1001)));
    }
}
