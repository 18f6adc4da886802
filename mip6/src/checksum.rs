//! The checksum of a Mobility Header over an IPv6 pseudo-header (RFC 6275 6.1.1, RFC 8200 8.1).
//! Invariant: `is_valid(src, dst, &m)` after `set_checksum(src, dst, &mut m)`.

use std::net::Ipv6Addr;

use watari_policies::selector::MOBILITY_HEADER;

/// Offset of the checksum field in octets.
const OFFSET: usize = 4;

/// One's complement sum of pseudo-header and message as it stands, folded to 16 bits.
fn sum(src: Ipv6Addr, dst: Ipv6Addr, message: &[u8]) -> u16 {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    let pseudo = [src.octets().as_slice(), dst.octets().as_slice(), &length, &[0, 0, 0, MOBILITY_HEADER]].concat();
    let total: u64 = [pseudo.as_slice(), message]
        .into_iter()
        .flat_map(|part| part.chunks(2))
        .map(|pair| match *pair {
            [high, low] => u64::from(u16::from_be_bytes([high, low])),
            [high] => u64::from(high) << 8,
            _ => 0,
        })
        .sum();
    let mut folded = total;
    while folded > 0xffff {
        folded = (folded & 0xffff) + (folded >> 16);
    }
    u16::try_from(folded).unwrap_or(0)
}

/// The value of the checksum field for a message whose field is zero or is to be ignored.
#[must_use]
pub fn checksum(src: Ipv6Addr, dst: Ipv6Addr, message: &[u8]) -> u16 {
    let mut copy = message.to_vec();
    if let Some(field) = copy.get_mut(OFFSET..OFFSET + 2) {
        field.fill(0);
    }
    !sum(src, dst, &copy)
}

/// Writes the checksum into a message; one too short for the field is left alone.
pub fn set_checksum(src: Ipv6Addr, dst: Ipv6Addr, message: &mut [u8]) {
    let value = checksum(src, dst, message).to_be_bytes();
    if let Some(field) = message.get_mut(OFFSET..OFFSET + 2) {
        field.copy_from_slice(&value);
    }
}

/// Whether a received message's checksum is right.
#[must_use]
pub fn is_valid(src: Ipv6Addr, dst: Ipv6Addr, message: &[u8]) -> bool {
    message.len() >= OFFSET + 2 && sum(src, dst, message) == 0xffff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn right_for_what_we_made_wrong_for_anything_else() {
        let (src, dst) = ("2001:db8:1::abcd".parse().expect("address"), "2001:db8:1::1".parse().expect("address"));
        let mut message = vec![59, 1, 6, 0, 0, 0, 0, 0x80, 0xba, 0x2c, 0, 15, 1, 2, 0, 0];
        set_checksum(src, dst, &mut message);
        // Computed apart, from the definition in RFC 1071.
        assert_eq!(&message[4..6], &0xfb66u16.to_be_bytes());
        assert!(is_valid(src, dst, &message));
        assert!(!is_valid(dst, "2001:db8:1::2".parse().expect("address"), &message));
        for octet in 0..message.len() {
            let mut damaged = message.clone();
            damaged[octet] ^= 1;
            assert!(!is_valid(src, dst, &damaged), "octet {octet}");
        }
        assert!(!is_valid(src, dst, &[59, 0]));
    }
}
