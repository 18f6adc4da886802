//! Secret octets: wiped when dropped, never printed, compared in constant time.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Secret octets (keys, shared secrets, passwords) of any length.
///
/// The memory is zeroised when the value is dropped, `Debug` prints the length only, and comparison takes the same time wherever the octets differ.
#[derive(Clone, Default)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes ownership of `bytes`; the vector must not have been grown (reallocated) after the secret was written to it.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The octets themselves; the caller must not keep or print a copy.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Length in octets.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no octets at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Vec<u8>> for Secret {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(bytes)
    }
}

impl From<&[u8]> for Secret {
    fn from(bytes: &[u8]) -> Self {
        Self::new(bytes.to_vec())
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_slice().ct_eq(other.0.as_slice()).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}

/// Names a long-term secret (pre-shared key, private key) that a key keeper holds; the number means nothing by itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SecretId(pub u32);

impl fmt::Display for SecretId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "secret {}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_only_the_length() {
        let secret = Secret::from(&[0xab; 32][..]);
        assert_eq!(format!("{secret:?}"), "Secret(32 bytes)");
        assert_eq!(format!("{:?}", Some(&secret)), "Some(Secret(32 bytes))");
    }

    #[test]
    fn comparison_sees_content_and_length() {
        let a = Secret::from(&b"abcd"[..]);
        assert_eq!(a, Secret::from(&b"abcd"[..]));
        assert_ne!(a, Secret::from(&b"abce"[..]));
        assert_ne!(a, Secret::from(&b"abc"[..]));
        assert_ne!(a, Secret::default());
        assert!(Secret::default().is_empty());
        assert_eq!(a.len(), 4);
        assert_eq!(a.expose(), b"abcd");
    }
}
