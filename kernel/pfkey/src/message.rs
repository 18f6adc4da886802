//! A PF_KEY message taken apart into its extensions (RFC 2367 section 2): lengths in units of 8 octets.
//! Invariant: every extension lies within the message; unknown ones are kept and hurt nobody.

use zerocopy::{FromBytes, Immutable};

const VERSION: u8 = 2;

/// `struct sadb_msg`.
#[derive(FromBytes, Immutable)]
#[repr(C)]
struct RawMessage {
    version: u8,
    kind: u8,
    errno: u8,
    satype: u8,
    len: u16,
    reserved: u16,
    seq: u32,
    pid: u32,
}

/// `struct sadb_ext`.
#[derive(FromBytes, Immutable)]
#[repr(C)]
struct RawExtension {
    len: u16,
    kind: u16,
}

/// One message.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    /// Message type.
    pub(crate) kind: u8,
    /// Error number, 0 for none.
    pub(crate) errno: u8,
    extensions: Vec<(u16, &'a [u8])>,
}

impl<'a> Message<'a> {
    /// Reads a datagram.
    pub(crate) fn read(octets: &'a [u8]) -> Result<Self, String> {
        let (header, _) = RawMessage::read_from_prefix(octets).map_err(|_| format!("{} octets are no PF_KEY message", octets.len()))?;
        if header.version != VERSION {
            return Err(format!("PF_KEY version {}", header.version));
        }
        let length = usize::from(header.len).saturating_mul(8);
        let mut rest = octets
            .get(size_of::<RawMessage>()..length)
            .ok_or_else(|| format!("a length of {length} octets in a datagram of {}", octets.len()))?;
        let mut extensions = Vec::new();
        while !rest.is_empty() {
            let (extension, _) = RawExtension::read_from_prefix(rest).map_err(|_| "an extension without a header".to_owned())?;
            let length = usize::from(extension.len).saturating_mul(8);
            if length == 0 || length > rest.len() {
                return Err(format!("extension {} of {length} octets where {} are left", extension.kind, rest.len()));
            }
            let (this, next) = rest.split_at(length);
            extensions.push((extension.kind, this));
            rest = next;
        }
        Ok(Self { kind: header.kind, errno: header.errno, extensions })
    }

    /// The first extension of a type, its header included.
    pub(crate) fn extension(&self, kind: u16) -> Option<&'a [u8]> {
        self.extensions.iter().find(|(known, _)| *known == kind).map(|(_, octets)| *octets)
    }

    /// The first extension of a type, which has to be there.
    pub(crate) fn required(&self, kind: u16, name: &str) -> Result<&'a [u8], String> {
        self.extension(kind).ok_or_else(|| format!("no extension {name} ({kind})"))
    }
}

/// Takes a structure off the front.
pub(crate) fn take<'a, T: FromBytes>(octets: &'a [u8], name: &str) -> Result<(T, &'a [u8]), String> {
    T::read_from_prefix(octets).map_err(|_| format!("{name} of {} octets, {} needed", octets.len(), size_of::<T>()))
}
