//! Files that `check` is given or that a configuration names: regular ones of bounded size, so that nothing is waited for.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// Reads a regular file of at most `most` octets.
///
/// # Errors
/// If it cannot be read, is longer, or is a FIFO or a device, of which some never end.
pub(crate) fn read(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
    if !std::fs::metadata(path)?.is_file() {
        return Err(invalid("it is not a regular file".to_owned()));
    }
    let limit = u64::try_from(most).unwrap_or(u64::MAX);
    let mut content = Vec::new();
    File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut content)?;
    if content.len() > most { Err(invalid(format!("it is longer than {most} octets"))) } else { Ok(content) }
}
