//! Octets from hexadecimal digits.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

/// Two digits an octet, nothing else.
pub(crate) fn hex(digits: &str) -> Vec<u8> {
    assert_eq!(digits.len() % 2, 0, "an odd number of digits");
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}
