//! A PF_KEY message and its extensions (RFC 2367 section 2): lengths in units of 8 octets, host byte order except for SPIs, ports, addresses.
//! Invariant: every extension lies within the message, and what is wrong is told with its offset; unknown extensions hurt nobody.

use zerocopy::{FromBytes, Immutable, IntoBytes};

const VERSION: u8 = 2;
/// Octets of `struct sadb_msg`.
const HEADER: usize = 16;
/// Room for every message written here, so that keys are not left behind in buffers that grew.
const ROOM: usize = 2048;
/// KEY_AUTH and KEY_ENCRYPT, which are never logged.
const KEYS: [u16; 2] = [8, 9];

/// Message types that are read or written here; the same numbers in every dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    GetSpi,
    Update,
    Add,
    Delete,
    Get,
    Acquire,
    Register,
    Expire,
    Flush,
    Dump,
    SpdUpdate,
    SpdAdd,
    SpdDelete,
    SpdGet,
    SpdDump,
    SpdFlush,
    SpdExpire,
    SpdDelete2,
    Migrate,
    /// Whatever else there is.
    Other(u8),
}

const KINDS: [(u8, Kind); 19] = [
    (1, Kind::GetSpi),
    (2, Kind::Update),
    (3, Kind::Add),
    (4, Kind::Delete),
    (5, Kind::Get),
    (6, Kind::Acquire),
    (7, Kind::Register),
    (8, Kind::Expire),
    (9, Kind::Flush),
    (10, Kind::Dump),
    (13, Kind::SpdUpdate),
    (14, Kind::SpdAdd),
    (15, Kind::SpdDelete),
    (16, Kind::SpdGet),
    (18, Kind::SpdDump),
    (19, Kind::SpdFlush),
    (21, Kind::SpdExpire),
    (22, Kind::SpdDelete2),
    (24, Kind::Migrate),
];

impl Kind {
    fn read(raw: u8) -> Self {
        KINDS.iter().find(|(number, _)| *number == raw).map_or(Self::Other(raw), |(_, kind)| *kind)
    }

    fn number(self) -> u8 {
        match self {
            Self::Other(raw) => raw,
            kind => KINDS.iter().find(|(_, known)| *known == kind).map_or(0, |(number, _)| *number),
        }
    }
}

/// `struct sadb_msg`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
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

/// `struct sadb_ext`, with which every extension begins.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct Head {
    len: u16,
    kind: u16,
}

/// Octets of a message that know where in it they stand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part<'a> {
    at: usize,
    octets: &'a [u8],
}

impl<'a> Part<'a> {
    /// The octets.
    pub(crate) const fn octets(self) -> &'a [u8] {
        self.octets
    }

    /// Whether nothing is left.
    pub(crate) const fn is_empty(self) -> bool {
        self.octets.is_empty()
    }

    /// Takes a structure off the front.
    pub(crate) fn take<T: FromBytes>(self, name: &str) -> Result<(T, Self), String> {
        let (value, octets) = T::read_from_prefix(self.octets)
            .map_err(|_| self.wrong(format!("{name} of {} octets, {} needed", self.octets.len(), size_of::<T>())))?;
        Ok((value, Self { at: self.at.saturating_add(size_of::<T>()), octets }))
    }

    /// The first `length` octets and the rest.
    pub(crate) fn split(self, length: usize, name: &str) -> Result<(Self, Self), String> {
        let (Some(front), Some(rest)) = (self.octets.get(..length), self.octets.get(length..)) else {
            return Err(self.wrong(format!("{name} of {length} octets where {} are left", self.octets.len())));
        };
        Ok((Self { at: self.at, octets: front }, Self { at: self.at.saturating_add(length), octets: rest }))
    }

    /// What is wrong, with the offset.
    pub(crate) fn wrong(self, what: impl std::fmt::Display) -> String {
        format!("{what} at octet {}", self.at)
    }
}

/// One message that arrived.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    /// Message type.
    pub(crate) kind: Kind,
    /// Error number, 0 for none.
    pub(crate) errno: u8,
    /// Type of SA.
    pub(crate) satype: u8,
    /// Sequence number.
    pub(crate) seq: u32,
    /// Process id of whoever asked, 0 for the kernel.
    pub(crate) pid: u32,
    extensions: Vec<(u16, Part<'a>)>,
}

impl<'a> Message<'a> {
    /// Reads a datagram.
    pub(crate) fn read(octets: &'a [u8]) -> Result<Self, String> {
        let whole = Part { at: 0, octets };
        let (header, _) = whole.take::<RawMessage>("PF_KEY message")?;
        if header.version != VERSION {
            return Err(whole.wrong(format!("PF_KEY version {}", header.version)));
        }
        let (message, _) = whole.split(usize::from(header.len).saturating_mul(8), "a message")?;
        let (_, mut rest) = message.split(HEADER, "the header")?;
        let mut extensions = Vec::new();
        while !rest.is_empty() {
            let (head, _) = rest.take::<Head>("the header of an extension")?;
            let length = usize::from(head.len).saturating_mul(8);
            if length == 0 {
                return Err(rest.wrong(format!("extension {} without a length", head.kind)));
            }
            let (this, next) = rest.split(length, "an extension")?;
            extensions.push((head.kind, this));
            rest = next;
        }
        let RawMessage { kind, errno, satype, seq, pid, .. } = header;
        Ok(Self { kind: Kind::read(kind), errno, satype, seq, pid, extensions })
    }

    /// The first extension of a type, its header included.
    pub(crate) fn extension(&self, kind: u16) -> Option<Part<'a>> {
        self.extensions.iter().find(|(known, _)| *known == kind).map(|(_, part)| *part)
    }

    /// The first extension of a type, which has to be there.
    pub(crate) fn required(&self, kind: u16, name: &str) -> Result<Part<'a>, String> {
        self.extension(kind).ok_or_else(|| format!("no extension {name} ({kind})"))
    }

    /// Whether the message is its header and nothing else, as an error is.
    pub(crate) const fn is_bare(&self) -> bool {
        self.extensions.is_empty()
    }
}

/// What may be logged of a datagram: at most `limit` octets, nothing of a key, and nothing at all behind a header that cannot be read.
pub(crate) fn loggable(octets: &[u8], limit: usize) -> Vec<u8> {
    let mut shown = octets.get(..HEADER).unwrap_or(octets).to_vec();
    let mut rest = octets.get(HEADER..).unwrap_or_default();
    while let Ok((head, _)) = Head::read_from_prefix(rest)
        && let Some((this, next)) = rest.split_at_checked(usize::from(head.len).saturating_mul(8).max(8))
    {
        match this.split_at_checked(8).filter(|_| KEYS.contains(&head.kind)) {
            Some((front, key)) => {
                shown.extend_from_slice(front);
                shown.resize(shown.len().saturating_add(key.len()), 0);
            }
            None => shown.extend_from_slice(this),
        }
        rest = next;
    }
    shown.truncate(limit);
    shown
}

/// A message being written. Not `Debug`: it may hold keys.
pub(crate) struct Outgoing {
    kind: Kind,
    errno: u8,
    satype: u8,
    octets: Vec<u8>,
}

impl Outgoing {
    /// A message without extensions yet.
    pub(crate) fn new(kind: Kind, satype: u8) -> Self {
        let mut octets = Vec::with_capacity(ROOM);
        octets.resize(HEADER, 0);
        Self { kind, errno: 0, satype, octets }
    }

    /// Makes it say an error.
    pub(crate) const fn refuse(&mut self, errno: u8) {
        self.errno = errno;
    }

    /// The message type.
    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }

    /// Appends an extension: its structure, whose head is filled in here, and what follows it, padded to 8 octets.
    pub(crate) fn push(&mut self, kind: u16, fixed: &(impl IntoBytes + Immutable), tail: &[u8]) -> Result<(), String> {
        let begin = self.octets.len();
        self.octets.extend_from_slice(fixed.as_bytes());
        self.octets.extend_from_slice(tail);
        self.octets.resize(self.octets.len().next_multiple_of(8), 0);
        let length = self.octets.len().saturating_sub(begin);
        let len = u16::try_from(length / 8).map_err(|_| format!("extension {kind} of {length} octets"))?;
        self.fill(begin, &Head { len, kind });
        Ok(())
    }

    /// The octets, with the header filled in.
    pub(crate) fn into_octets(mut self, seq: u32, pid: u32) -> Result<Vec<u8>, String> {
        let length = self.octets.len();
        let len = u16::try_from(length / 8).map_err(|_| format!("a message of {length} octets"))?;
        let header =
            RawMessage { version: VERSION, kind: self.kind.number(), errno: self.errno, satype: self.satype, len, reserved: 0, seq, pid };
        self.fill(0, &header);
        Ok(self.octets)
    }

    fn fill(&mut self, at: usize, value: &(impl IntoBytes + Immutable)) {
        let room = self.octets.iter_mut().skip(at);
        for (octet, new) in room.zip(value.as_bytes()) {
            *octet = *new;
        }
    }
}
