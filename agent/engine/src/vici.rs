//! VICI, strongSwan's control protocol: messages as values and as octets, both ways.
//! Invariant: sections and lists are balanced; names fit 255 octets, values 65,535; a packet fits 512 KiB.

/// Largest packet in octets, type octet included, length field excluded.
pub const MAX_PACKET: usize = 512 * 1024;
/// Deepest nesting of sections that is read.
const MAX_DEPTH: usize = 32;

const SECTION_START: u8 = 1;
const SECTION_END: u8 = 2;
const KEY_VALUE: u8 = 3;
const LIST_START: u8 = 4;
const LIST_ITEM: u8 = 5;
const LIST_END: u8 = 6;

/// A value in a section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text or octets.
    Scalar(Vec<u8>),
    /// A list of scalars.
    List(Vec<Vec<u8>>),
    /// A nested section.
    Section(Section),
}

/// Named values in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section(pub Vec<(String, Value)>);

/// One packet of the control protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// A command with its arguments.
    Request {
        /// Command name.
        name: String,
        /// Arguments.
        arguments: Section,
    },
    /// The answer to a command.
    Response(Section),
    /// There is no such command.
    UnknownCommand,
    /// Wants events of this name.
    Register(String),
    /// No longer wants them.
    Unregister(String),
    /// Registration or its end is confirmed.
    Confirm,
    /// There are no such events.
    UnknownEvent,
    /// An event.
    Event {
        /// Event name.
        name: String,
        /// Content.
        content: Section,
    },
}

/// A packet that could not be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ViciError {
    /// The octets end in the middle of something.
    #[error("the packet ends too early")]
    Short,
    /// A packet or element type that does not exist.
    #[error("unknown type {0}")]
    Type(u8),
    /// An element stands where it may not, or something is left open.
    #[error("sections or lists are not balanced")]
    Unbalanced,
    /// A name is not UTF-8.
    #[error("a name is not text")]
    Name,
    /// Sections are nested too deep.
    #[error("sections are nested too deep")]
    Depth,
    /// A name, value or packet is longer than its field can say.
    #[error("a name, value or packet is too long")]
    TooLong,
}

impl Section {
    /// An empty section.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The same section with one more text value.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.0.push((name.to_owned(), Value::Scalar(value.to_string().into_bytes())));
        self
    }

    /// The same section with one more list.
    #[must_use]
    pub fn with_list(mut self, name: &str, items: impl IntoIterator<Item = String>) -> Self {
        self.0.push((name.to_owned(), Value::List(items.into_iter().map(String::into_bytes).collect())));
        self
    }

    /// The same section with one more section.
    #[must_use]
    pub fn with_section(mut self, name: &str, section: Self) -> Self {
        self.0.push((name.to_owned(), Value::Section(section)));
        self
    }

    /// The value of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// The text of this name; `None` if it is absent or no text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Value::Scalar(octets) => std::str::from_utf8(octets).ok(),
            Value::List(_) | Value::Section(_) => None,
        }
    }

    fn encode(&self, octets: &mut Vec<u8>) -> Result<(), ViciError> {
        for (name, value) in &self.0 {
            match value {
                Value::Scalar(value) => {
                    element(KEY_VALUE, name, octets)?;
                    put_value(value, octets)?;
                }
                Value::List(items) => {
                    element(LIST_START, name, octets)?;
                    for item in items {
                        octets.push(LIST_ITEM);
                        put_value(item, octets)?;
                    }
                    octets.push(LIST_END);
                }
                Value::Section(section) => {
                    element(SECTION_START, name, octets)?;
                    section.encode(octets)?;
                    octets.push(SECTION_END);
                }
            }
        }
        Ok(())
    }

    /// Reads a whole message.
    fn decode(octets: &[u8]) -> Result<Self, ViciError> {
        let mut reader = Reader(octets);
        let mut open: Vec<(String, Self)> = Vec::new();
        let mut section = Self::new();
        while !reader.0.is_empty() {
            match reader.octet()? {
                KEY_VALUE => {
                    let name = reader.name()?;
                    section.0.push((name, Value::Scalar(reader.value()?)));
                }
                LIST_START => {
                    let name = reader.name()?;
                    section.0.push((name, Value::List(reader.list()?)));
                }
                SECTION_START if open.len() >= MAX_DEPTH => return Err(ViciError::Depth),
                SECTION_START => open.push((reader.name()?, std::mem::take(&mut section))),
                SECTION_END => {
                    let (name, outer) = open.pop().ok_or(ViciError::Unbalanced)?;
                    let inner = std::mem::replace(&mut section, outer);
                    section.0.push((name, Value::Section(inner)));
                }
                LIST_ITEM | LIST_END => return Err(ViciError::Unbalanced),
                other => return Err(ViciError::Type(other)),
            }
        }
        if open.is_empty() { Ok(section) } else { Err(ViciError::Unbalanced) }
    }
}

fn put_name(name: &str, octets: &mut Vec<u8>) -> Result<(), ViciError> {
    octets.push(u8::try_from(name.len()).map_err(|_| ViciError::TooLong)?);
    octets.extend(name.as_bytes());
    Ok(())
}

fn element(kind: u8, name: &str, octets: &mut Vec<u8>) -> Result<(), ViciError> {
    octets.push(kind);
    put_name(name, octets)
}

fn put_value(value: &[u8], octets: &mut Vec<u8>) -> Result<(), ViciError> {
    octets.extend(u16::try_from(value.len()).map_err(|_| ViciError::TooLong)?.to_be_bytes());
    octets.extend(value);
    Ok(())
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn octet(&mut self) -> Result<u8, ViciError> {
        let (first, rest) = self.0.split_first().ok_or(ViciError::Short)?;
        self.0 = rest;
        Ok(*first)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ViciError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(ViciError::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn name(&mut self) -> Result<String, ViciError> {
        let length = usize::from(self.octet()?);
        let name = std::str::from_utf8(self.take(length)?).map_err(|_| ViciError::Name)?;
        Ok(name.to_owned())
    }

    fn value(&mut self) -> Result<Vec<u8>, ViciError> {
        let length = u16::from_be_bytes([self.octet()?, self.octet()?]);
        self.take(usize::from(length)).map(<[u8]>::to_vec)
    }

    fn list(&mut self) -> Result<Vec<Vec<u8>>, ViciError> {
        let mut items = Vec::new();
        loop {
            match self.octet()? {
                LIST_ITEM => items.push(self.value()?),
                LIST_END => return Ok(items),
                _ => return Err(ViciError::Unbalanced),
            }
        }
    }
}

impl Packet {
    /// The octets of a packet without its length field.
    ///
    /// # Errors
    /// [`ViciError::TooLong`] if a name, a value or the packet exceeds its limit.
    pub fn encode(&self) -> Result<Vec<u8>, ViciError> {
        let mut octets = vec![self.kind()];
        match self {
            Self::Request { name, arguments: section } | Self::Event { name, content: section } => {
                put_name(name, &mut octets)?;
                section.encode(&mut octets)?;
            }
            Self::Register(name) | Self::Unregister(name) => put_name(name, &mut octets)?,
            Self::Response(section) => section.encode(&mut octets)?,
            Self::UnknownCommand | Self::Confirm | Self::UnknownEvent => {}
        }
        if octets.len() > MAX_PACKET { Err(ViciError::TooLong) } else { Ok(octets) }
    }

    /// The octets of a packet behind its length field, as they go into the stream.
    ///
    /// # Errors
    /// As [`Packet::encode`].
    pub fn encode_frame(&self) -> Result<Vec<u8>, ViciError> {
        let packet = self.encode()?;
        let length = u32::try_from(packet.len()).map_err(|_| ViciError::TooLong)?;
        Ok([length.to_be_bytes().as_slice(), &packet].concat())
    }

    const fn kind(&self) -> u8 {
        match self {
            Self::Request { .. } => 0,
            Self::Response(_) => 1,
            Self::UnknownCommand => 2,
            Self::Register(_) => 3,
            Self::Unregister(_) => 4,
            Self::Confirm => 5,
            Self::UnknownEvent => 6,
            Self::Event { .. } => 7,
        }
    }

    /// Reads a packet without its length field.
    ///
    /// # Errors
    /// [`ViciError`] with the first thing that is wrong.
    pub fn decode(octets: &[u8]) -> Result<Self, ViciError> {
        if octets.len() > MAX_PACKET {
            return Err(ViciError::TooLong);
        }
        let mut reader = Reader(octets);
        let packet = match reader.octet()? {
            0 => Self::Request { name: reader.name()?, arguments: Section::decode(reader.0)? },
            1 => Self::Response(Section::decode(reader.0)?),
            2 => Self::UnknownCommand,
            3 => Self::Register(reader.name()?),
            4 => Self::Unregister(reader.name()?),
            5 => Self::Confirm,
            6 => Self::UnknownEvent,
            7 => Self::Event { name: reader.name()?, content: Section::decode(reader.0)? },
            other => return Err(ViciError::Type(other)),
        };
        Ok(packet)
    }

    /// Takes one packet off the front of a stream; `None` if it is not complete yet, else the packet and the octets used.
    ///
    /// # Errors
    /// [`ViciError::TooLong`] for a length over the limit, else as [`Packet::decode`]. The stream is of no use after an error.
    pub fn decode_frame(stream: &[u8]) -> Result<Option<(Self, usize)>, ViciError> {
        let Some((length, rest)) = stream.split_first_chunk::<4>() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| ViciError::TooLong)?;
        if length > MAX_PACKET {
            return Err(ViciError::TooLong);
        }
        let Some(packet) = rest.get(..length) else { return Ok(None) };
        Self::decode(packet).map(|packet| Some((packet, length.saturating_add(4))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the README of strongSwan's vici plugin.
    #[test]
    fn the_documented_example() {
        let section = Section::new().with("key1", "value1").with_section(
            "section1",
            Section::new()
                .with_section("sub-section", Section::new().with("key2", "value2"))
                .with_list("list1", ["item1", "item2"].map(str::to_owned)),
        );
        let mut expected = Vec::new();
        expected.extend(b"\x03\x04key1\x00\x06value1");
        expected.extend(b"\x01\x08section1\x01\x0bsub-section\x03\x04key2\x00\x06value2\x02");
        expected.extend(b"\x04\x05list1\x05\x00\x05item1\x05\x00\x05item2\x06\x02");
        let packet = Packet::Response(section);
        assert_eq!(packet.encode(), Ok([b"\x01".as_slice(), &expected].concat()));
        assert_eq!(Packet::decode(&packet.encode().expect("fits")), Ok(packet));
    }

    #[test]
    fn every_packet_survives_both_ways_and_no_cut_one_does() {
        let section =
            Section::new().with("child", "payload").with_list("l", ["a".to_owned()]).with_section("s", Section::new().with("k", 1));
        let packets = [
            Packet::Request { name: "initiate".into(), arguments: section.clone() },
            Packet::Response(section.clone()),
            Packet::UnknownCommand,
            Packet::Register("list-sa".into()),
            Packet::Unregister("list-sa".into()),
            Packet::Confirm,
            Packet::UnknownEvent,
            Packet::Event { name: "list-sa".into(), content: section },
        ];
        for (packet, kind) in packets.into_iter().zip(0u8..) {
            let octets = packet.encode().expect("fits");
            assert_eq!(octets[0], kind);
            assert_eq!(Packet::decode(&octets).as_ref(), Ok(&packet));
            let mut frame = packet.encode_frame().expect("fits");
            for length in 0..frame.len() {
                assert_eq!(Packet::decode_frame(&frame[..length]), Ok(None));
            }
            let length = frame.len();
            frame.extend(b"more");
            assert_eq!(Packet::decode_frame(&frame), Ok(Some((packet, length))));
        }
    }

    #[test]
    fn what_is_unbalanced_too_deep_or_too_long_is_refused() {
        let of = |message: &[u8]| Packet::decode(&[b"\x01", message].concat());
        assert_eq!(of(b"\x02"), Err(ViciError::Unbalanced));
        assert_eq!(of(b"\x01\x01a"), Err(ViciError::Unbalanced));
        assert_eq!(of(b"\x04\x01a\x03"), Err(ViciError::Unbalanced));
        assert_eq!(of(b"\x05\x00\x01a"), Err(ViciError::Unbalanced));
        assert_eq!(of(b"\x03\x04k"), Err(ViciError::Short));
        assert_eq!(of(b"\x03\x01k\x00\x09v"), Err(ViciError::Short));
        assert_eq!(of(b"\x09"), Err(ViciError::Type(9)));
        assert_eq!(of(b"\x03\x01\xff\x00\x00"), Err(ViciError::Name));
        assert_eq!(of(&b"\x01\x01a".repeat(40)), Err(ViciError::Depth));
        assert_eq!(Packet::decode_frame(&[0xff; 8]), Err(ViciError::TooLong));
        let long = Section::new().with("k", "x".repeat(70_000));
        assert_eq!(Packet::Response(long).encode(), Err(ViciError::TooLong));
        assert_eq!(Packet::Register("n".repeat(256)).encode(), Err(ViciError::TooLong));
        assert_eq!(Packet::decode(&[]), Err(ViciError::Short));
    }
}
