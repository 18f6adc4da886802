//! Files that the configuration names: read whole, never waited for, never without an end.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Reads a regular file of at most `most` octets.
///
/// # Errors
/// If it cannot be read, is longer, or is no regular file: a FIFO would be waited for, and a device such as `/dev/zero` never ends.
pub fn read_regular(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    // Opening a device may do something, so that it is looked at before.
    regular(&std::fs::metadata(path)?)?;
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    // Another file may have come into its place meanwhile.
    regular(&metadata)?;
    read(file, usize::try_from(metadata.len()).unwrap_or(usize::MAX), most)
}

/// `length` is what the file says of itself; those of `/proc` say zero.
fn read(file: File, length: usize, most: usize) -> io::Result<Vec<u8>> {
    let too_long = || io::Error::new(io::ErrorKind::InvalidData, format!("it is longer than {most} octets"));
    if length > most {
        return Err(too_long());
    }
    // One octet more, so that what may be a key is not copied when the end is looked for.
    let limit = most.saturating_add(1);
    let mut content = Vec::with_capacity(length.saturating_add(1));
    file.take(u64::try_from(limit).unwrap_or(u64::MAX)).read_to_end(&mut content)?;
    if content.len() > most { Err(too_long()) } else { Ok(content) }
}

fn regular(metadata: &Metadata) -> io::Result<()> {
    let kind = metadata.file_type();
    if kind.is_file() {
        return Ok(());
    }
    let found = match () {
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {found}, not a regular file")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt as _;
    use std::path::PathBuf;

    fn scratch(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("watari-file-{name}-{}", std::process::id()))
    }

    fn why(path: &Path) -> String {
        read_regular(path, 100).unwrap_err().to_string()
    }

    #[test]
    fn a_regular_file_is_read_up_to_its_limit() {
        let path = scratch("regular");
        std::fs::write(&path, [7; 100]).unwrap();
        assert_eq!(read_regular(&path, 100).unwrap(), [7; 100]);
        assert!(read_regular(&path, 99).unwrap_err().to_string().contains("longer than 99 octets"));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(read_regular(&path, 100).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_file_that_does_not_tell_its_length_is_read_all_the_same() {
        let path = Path::new("/proc/self/cmdline");
        if path.exists() {
            assert!(!read_regular(path, 65_536).unwrap().is_empty());
            assert!(read_regular(path, 1).is_err());
        }
    }

    #[test]
    fn what_would_be_waited_for_or_never_ends_is_refused_in_words() {
        let fifo = scratch("fifo");
        let name = CString::new(fifo.as_os_str().as_bytes()).unwrap();
        // SAFETY: the name is a string that ends in a zero octet and outlives the call.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        assert!(why(&fifo).contains("a FIFO, not a regular file"));
        std::fs::remove_file(&fifo).unwrap();
        assert!(why(Path::new("/dev/zero")).contains("a device"));
        assert!(why(Path::new("/")).contains("a directory"));
    }
}
