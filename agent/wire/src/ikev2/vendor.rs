//! The vendor id payload (RFC 7296 section 3.12): an opaque value, shown as text where it is text.

use crate::text::Text;
use core::fmt;

/// Shows a vendor id.
pub(crate) fn describe(id: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, " {}", Text(id))
}
