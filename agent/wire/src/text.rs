//! Bytes as text for logs: hexadecimal, or the text itself with everything unprintable escaped.
//! Invariant: what a peer sent can never put a control character into a log.

use core::fmt;

/// Prints at most this many octets before `...`.
const SHOWN: usize = 32;

/// Lower-case hexadecimal, cut after 32 octets.
pub(crate) struct Hex<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.iter().take(SHOWN) {
            write!(f, "{byte:02x}")?;
        }
        if self.0.len() > SHOWN { f.write_str("...") } else { Ok(()) }
    }
}

/// Printable ASCII in quotes, anything else as hexadecimal; cut after 32 octets when it is hexadecimal, 128 when it is text.
pub(crate) struct Text<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let printable = !self.0.is_empty() && self.0.iter().all(|byte| matches!(byte, 0x20..=0x7e));
        if !printable {
            return Hex(self.0).fmt(f);
        }
        let shown = self.0.get(..128).unwrap_or(self.0);
        write!(f, "\"{}\"", shown.escape_ascii())?;
        if shown.len() < self.0.len() { f.write_str("...") } else { Ok(()) }
    }
}

/// A number of octets, spelled out.
pub(crate) struct Octets(pub(crate) usize);

impl fmt::Display for Octets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} octet{}", self.0, if self.0 == 1 { "" } else { "s" })
    }
}
