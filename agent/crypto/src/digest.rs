//! What needs no provider: the unkeyed hash that NAT detection uses, and comparison that gives nothing away by its duration.

use sha1::{Digest, Sha1};
use subtle::ConstantTimeEq;

/// SHA-1 over the parts one after the other, as NAT detection (RFC 7296 2.23) and cookies that need no secrecy use it; never for integrity.
#[must_use]
pub fn sha1(parts: &[&[u8]]) -> [u8; 20] {
    let mut hash = Sha1::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// Compares in a time that depends on the lengths only.
#[must_use]
pub fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha1_of_parts_is_sha1_of_the_whole() {
        // FIPS 180-4, "abc".
        let abc = [0xa9, 0x99, 0x3e, 0x36, 0x47, 0x06, 0x81, 0x6a, 0xba, 0x3e, 0x25, 0x71, 0x78, 0x50, 0xc2, 0x6c, 0x9c, 0xd0, 0xd8, 0x9d];
        assert_eq!(sha1(&[b"abc"]), abc);
        assert_eq!(sha1(&[b"a", b"", b"bc"]), abc);
    }

    #[test]
    fn comparison_sees_every_difference() {
        assert!(constant_time_eq(b"", b""));
        assert!(constant_time_eq(b"abc", b"abc"));
        assert!(!constant_time_eq(b"abc", b"abd"));
        assert!(!constant_time_eq(b"abc", b"ab"));
    }
}
