//! Mobility Header messages (RFC 6275 6.1): octets <-> values, side by side. The checksum is a matter of its own.
//! Invariant: decoding what `encode` made gives the same value; unknown types are kept as they stand.

use std::net::Ipv6Addr;

use crate::option::{self, MobilityOption};

/// Payload protocol of every Mobility Header: nothing follows (IPPROTO_NONE).
const NO_NEXT_HEADER: u8 = 59;
/// Octets before the message data.
const HEAD: usize = 6;
/// Most addresses that the length of a Home Agent Switch message leaves room for.
const MOST_HOME_AGENTS: usize = 127;

/// Numbers of Mobility Header types (RFC 6275 6.1).
pub mod message_type {
    /// Binding Refresh Request.
    pub const BINDING_REFRESH_REQUEST: u8 = 0;
    /// Home Test Init.
    pub const HOME_TEST_INIT: u8 = 1;
    /// Care-of Test Init.
    pub const CARE_OF_TEST_INIT: u8 = 2;
    /// Home Test.
    pub const HOME_TEST: u8 = 3;
    /// Care-of Test.
    pub const CARE_OF_TEST: u8 = 4;
    /// Binding Update.
    pub const BINDING_UPDATE: u8 = 5;
    /// Binding Acknowledgement.
    pub const BINDING_ACKNOWLEDGEMENT: u8 = 6;
    /// Binding Error.
    pub const BINDING_ERROR: u8 = 7;
    /// Home Agent Switch (RFC 5142).
    pub const HOME_AGENT_SWITCH: u8 = 12;
}

/// A message that could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed Mobility Header at octet {offset}: {why}")]
pub struct Malformed {
    /// Where, in octets from the start.
    pub offset: usize,
    /// What is wrong.
    pub why: &'static str,
}

/// Flags of a binding update, unknown bits kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpdateFlags(pub u16);

impl UpdateFlags {
    /// A: an acknowledgement is wanted.
    pub const ACKNOWLEDGE: u16 = 0x8000;
    /// H: home registration.
    pub const HOME: u16 = 0x4000;
    /// L: the link-local address has the home address's interface identifier.
    pub const LINK_LOCAL: u16 = 0x2000;
    /// K: key management follows movement (RFC 6275 11.7.1).
    pub const KEY_MOBILITY: u16 = 0x1000;

    /// Whether every bit of `flag` is set.
    #[must_use]
    pub const fn has(self, flag: u16) -> bool {
        self.0 & flag == flag
    }
}

/// Flags of a binding acknowledgement, unknown bits kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AckFlags(pub u8);

impl AckFlags {
    /// K: both ends' key management follows movement.
    pub const KEY_MOBILITY: u8 = 0x80;

    /// Whether every bit of `flag` is set.
    #[must_use]
    pub const fn has(self, flag: u8) -> bool {
        self.0 & flag == flag
    }
}

/// A Mobility Header message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Binding Refresh Request (6.1.2).
    RefreshRequest {
        /// Options.
        options: Vec<MobilityOption>,
    },
    /// Home Test Init (6.1.3) or Care-of Test Init (6.1.4).
    TestInit {
        /// Whether the home address is tested rather than the care-of address.
        home: bool,
        /// Init cookie.
        cookie: [u8; 8],
        /// Options.
        options: Vec<MobilityOption>,
    },
    /// Home Test (6.1.5) or Care-of Test (6.1.6).
    Test {
        /// Whether the home address is tested rather than the care-of address.
        home: bool,
        /// Nonce index.
        nonce_index: u16,
        /// Init cookie, returned.
        cookie: [u8; 8],
        /// Keygen token.
        token: [u8; 8],
        /// Options.
        options: Vec<MobilityOption>,
    },
    /// Binding Update (6.1.7).
    Update {
        /// Sequence number.
        sequence: u16,
        /// Flags.
        flags: UpdateFlags,
        /// Lifetime in units of four seconds; 0 ends the binding.
        lifetime: u16,
        /// Options.
        options: Vec<MobilityOption>,
    },
    /// Binding Acknowledgement (6.1.8).
    Acknowledgement {
        /// Status; below 128 the binding update was accepted.
        status: u8,
        /// Flags.
        flags: AckFlags,
        /// Sequence number.
        sequence: u16,
        /// Lifetime in units of four seconds.
        lifetime: u16,
        /// Options.
        options: Vec<MobilityOption>,
    },
    /// Binding Error (6.1.9).
    Error {
        /// Status.
        status: u8,
        /// The home address of the message that caused it.
        home_address: Ipv6Addr,
        /// Options.
        options: Vec<MobilityOption>,
    },
    /// Home Agent Switch (RFC 5142 4).
    HomeAgentSwitch {
        /// Other home agents in order of preference; none means that the mobile node finds one itself.
        addresses: Vec<Ipv6Addr>,
        /// Options.
        options: Vec<MobilityOption>,
    },
    /// A type that is not known here, with its message data as it stands.
    Other {
        /// MH type.
        number: u8,
        /// Message data after the checksum.
        data: Vec<u8>,
    },
}

impl Message {
    /// The MH type number.
    #[must_use]
    pub const fn number(&self) -> u8 {
        match self {
            Self::RefreshRequest { .. } => message_type::BINDING_REFRESH_REQUEST,
            Self::TestInit { home: true, .. } => message_type::HOME_TEST_INIT,
            Self::TestInit { home: false, .. } => message_type::CARE_OF_TEST_INIT,
            Self::Test { home: true, .. } => message_type::HOME_TEST,
            Self::Test { home: false, .. } => message_type::CARE_OF_TEST,
            Self::Update { .. } => message_type::BINDING_UPDATE,
            Self::Acknowledgement { .. } => message_type::BINDING_ACKNOWLEDGEMENT,
            Self::Error { .. } => message_type::BINDING_ERROR,
            Self::HomeAgentSwitch { .. } => message_type::HOME_AGENT_SWITCH,
            Self::Other { number, .. } => *number,
        }
    }

    /// Its options; none for an unknown type.
    #[must_use]
    pub fn options(&self) -> &[MobilityOption] {
        match self {
            Self::RefreshRequest { options }
            | Self::TestInit { options, .. }
            | Self::Test { options, .. }
            | Self::Update { options, .. }
            | Self::Acknowledgement { options, .. }
            | Self::Error { options, .. }
            | Self::HomeAgentSwitch { options, .. } => options,
            Self::Other { .. } => &[],
        }
    }

    /// The address of an Alternate Care-of Address option, if there is one.
    #[must_use]
    pub fn alternate_care_of(&self) -> Option<Ipv6Addr> {
        self.options().iter().find_map(|option| match option {
            MobilityOption::AlternateCareOf(address) => Some(*address),
            _ => None,
        })
    }

    /// The octets, padded to a multiple of 8, with a checksum of zero.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut octets = vec![NO_NEXT_HEADER, 0, self.number(), 0, 0, 0];
        match self {
            Self::RefreshRequest { .. } => octets.extend([0, 0]),
            Self::TestInit { cookie, .. } => {
                octets.extend([0, 0]);
                octets.extend(cookie);
            }
            Self::Test { nonce_index, cookie, token, .. } => {
                octets.extend(nonce_index.to_be_bytes());
                octets.extend(cookie);
                octets.extend(token);
            }
            Self::Update { sequence, flags, lifetime, .. } => {
                octets.extend([*sequence, flags.0, *lifetime].map(u16::to_be_bytes).as_flattened());
            }
            Self::Acknowledgement { status, flags, sequence, lifetime, .. } => {
                octets.extend([*status, flags.0]);
                octets.extend([*sequence, *lifetime].map(u16::to_be_bytes).as_flattened());
            }
            Self::Error { status, home_address, .. } => {
                octets.extend([*status, 0]);
                octets.extend(home_address.octets());
            }
            Self::HomeAgentSwitch { addresses, .. } => {
                let listed = || addresses.iter().take(MOST_HOME_AGENTS);
                octets.extend([u8::try_from(listed().count()).unwrap_or_default(), 0]);
                octets.extend(listed().flat_map(Ipv6Addr::octets));
            }
            Self::Other { data, .. } => octets.extend(data),
        }
        option::encode(self.options(), &mut octets);
        let units = u8::try_from((octets.len() / 8).saturating_sub(1)).unwrap_or(u8::MAX);
        if let Some(length) = octets.get_mut(1) {
            *length = units;
        }
        octets
    }

    /// Reads a message; octets after its own length are refused, the checksum is not looked at.
    ///
    /// # Errors
    /// [`Malformed`] with the offset of what is wrong.
    pub fn decode(octets: &[u8]) -> Result<Self, Malformed> {
        let at = |offset, why| Malformed { offset, why };
        let Some((&[payload, units, number, _, _, _], data)) = octets.split_first_chunk::<HEAD>() else {
            return Err(at(octets.len(), "too short for a Mobility Header"));
        };
        //= rfc6275#9.2
        //# a payload protocol other than IPPROTO_NONE makes the message unacceptable
        if payload != NO_NEXT_HEADER {
            return Err(at(0, "the payload protocol is not 59"));
        }
        if octets.len() != usize::from(units).saturating_add(1).saturating_mul(8) {
            return Err(at(1, "the header length is not the message's length"));
        }
        let short = at(octets.len(), "too short for its type");
        let mut fields = Fields { rest: data, short };
        let message = match number {
            message_type::BINDING_REFRESH_REQUEST => {
                fields.take::<2>()?;
                Self::RefreshRequest { options: fields.options(octets.len())? }
            }
            message_type::HOME_TEST_INIT | message_type::CARE_OF_TEST_INIT => {
                fields.take::<2>()?;
                let cookie = fields.take()?;
                Self::TestInit { home: number == message_type::HOME_TEST_INIT, cookie, options: fields.options(octets.len())? }
            }
            message_type::HOME_TEST | message_type::CARE_OF_TEST => Self::Test {
                nonce_index: fields.number()?,
                home: number == message_type::HOME_TEST,
                cookie: fields.take()?,
                token: fields.take()?,
                options: fields.options(octets.len())?,
            },
            message_type::BINDING_UPDATE => Self::Update {
                sequence: fields.number()?,
                flags: UpdateFlags(fields.number()?),
                lifetime: fields.number()?,
                options: fields.options(octets.len())?,
            },
            message_type::BINDING_ACKNOWLEDGEMENT => {
                let [status, flags] = fields.take()?;
                let (sequence, lifetime) = (fields.number()?, fields.number()?);
                Self::Acknowledgement { status, flags: AckFlags(flags), sequence, lifetime, options: fields.options(octets.len())? }
            }
            message_type::BINDING_ERROR => {
                let [status, _] = fields.take()?;
                let home_address = Ipv6Addr::from(fields.take::<16>()?);
                Self::Error { status, home_address, options: fields.options(octets.len())? }
            }
            message_type::HOME_AGENT_SWITCH => {
                let [count, _] = fields.take()?;
                let addresses = (0..count).map(|_| fields.take::<16>().map(Ipv6Addr::from)).collect::<Result<_, _>>()?;
                Self::HomeAgentSwitch { addresses, options: fields.options(octets.len())? }
            }
            _ => Self::Other { number, data: data.to_vec() },
        };
        Ok(message)
    }
}

/// Fields of fixed size in order.
struct Fields<'a> {
    rest: &'a [u8],
    short: Malformed,
}

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (field, rest) = self.rest.split_first_chunk::<N>().ok_or(self.short)?;
        self.rest = rest;
        Ok(*field)
    }

    fn number(&mut self) -> Result<u16, Malformed> {
        self.take().map(u16::from_be_bytes)
    }

    fn options(&self, whole: usize) -> Result<Vec<MobilityOption>, Malformed> {
        option::decode(self.rest, whole.saturating_sub(self.rest.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unhex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("text"), 16).expect("hex")).collect()
    }

    fn address(text: &str) -> Ipv6Addr {
        text.parse().expect("address")
    }

    /// The header lines of UMIP's messages as a second raw socket saw them (hdrlen, sequence, flags, lifetime, options); zero checksum.
    #[test]
    fn binding_update_as_umip_sends_it() {
        let octets = unhex("3b030500 0000 ba2c d000 000f 0100 0310 20010db800f10000000000fffe00000e");
        let message = Message::decode(&octets).expect("reads");
        let Message::Update { sequence, flags, lifetime, .. } = &message else { panic!("{message:?}") };
        assert_eq!((*sequence, flags.0, *lifetime), (47660, 0xd000, 15));
        assert!(flags.has(UpdateFlags::ACKNOWLEDGE | UpdateFlags::HOME | UpdateFlags::KEY_MOBILITY) && !flags.has(UpdateFlags::LINK_LOCAL));
        assert_eq!(message.alternate_care_of(), Some(address("2001:db8:f1::ff:fe00:e")));
        assert_eq!(message.encode(), octets);
        let made = Message::Update {
            sequence: 47660,
            flags: UpdateFlags(0xd000),
            lifetime: 15,
            options: option::alternate_care_of(address("2001:db8:f1::ff:fe00:e")),
        };
        assert_eq!(made, message);
        assert!(!UpdateFlags(0xc000).has(UpdateFlags::KEY_MOBILITY));
    }

    #[test]
    fn binding_acknowledgement_as_umip_sends_it() {
        let octets = unhex("3b010600 0000 0080 ba2c 000f 01020000");
        let message = Message::decode(&octets).expect("reads");
        let expected = Message::Acknowledgement {
            status: 0,
            flags: AckFlags(0x80),
            sequence: 47660,
            lifetime: 15,
            options: vec![MobilityOption::PadN(2)],
        };
        assert_eq!(message, expected);
        assert_eq!(message.encode(), octets);
    }

    #[test]
    fn every_type_survives_both_ways() {
        let messages = [
            Message::RefreshRequest { options: Vec::new() },
            Message::TestInit { home: true, cookie: *b"cookie!!", options: Vec::new() },
            Message::TestInit { home: false, cookie: *b"cookie!!", options: Vec::new() },
            Message::Test { home: true, nonce_index: 7, cookie: *b"cookie!!", token: *b"token!!!", options: Vec::new() },
            Message::Test { home: false, nonce_index: 9, cookie: *b"cookie!!", token: *b"token!!!", options: Vec::new() },
            Message::Error { status: 1, home_address: address("2001:db8:1::abcd"), options: Vec::new() },
            Message::Other { number: 200, data: vec![1, 2, 3, 4, 5, 6, 7, 8, 9, 10] },
            Message::Update {
                sequence: 1,
                flags: UpdateFlags(0xc000),
                lifetime: 0,
                options: vec![MobilityOption::Other { number: 5, data: vec![0xaa; 8] }, MobilityOption::Pad1, MobilityOption::Pad1],
            },
        ];
        for (message, number) in messages.into_iter().zip([0, 1, 2, 3, 4, 7, 200, 5]) {
            let octets = message.encode();
            assert_eq!((octets.len() % 8, usize::from(octets[1])), (0, octets.len() / 8 - 1), "{message:?}");
            assert_eq!(octets[2], number);
            assert_eq!(Message::decode(&octets), Ok(message));
        }
    }

    /// Laid out by hand from the figure of RFC 5142 4.
    #[test]
    fn home_agent_switch_names_home_agents_or_none() {
        let hex = "3b050c00 0000 02 00 20010db8000100000000000000000002 20010db8000100000000000000000003 0402001e 01020000";
        let message = Message::HomeAgentSwitch {
            addresses: vec![address("2001:db8:1::2"), address("2001:db8:1::3")],
            options: vec![MobilityOption::Other { number: 4, data: vec![0, 30] }, MobilityOption::PadN(2)],
        };
        assert_eq!((message.encode(), Message::decode(&unhex(hex))), (unhex(hex), Ok(message)));
        let none = Message::HomeAgentSwitch { addresses: Vec::new(), options: Vec::new() };
        assert_eq!((none.encode(), Message::decode(&unhex("3b000c00 0000 00 ff"))), (unhex("3b000c00 0000 00 00"), Ok(none)));
        assert!(Message::decode(&unhex("3b020c00 0000 02 00 20010db8000100000000000000000002")).is_err(), "fewer than it says");
        let many = Message::HomeAgentSwitch { addresses: vec![address("2001:db8:1::2"); 300], options: Vec::new() };
        let read = Message::decode(&many.encode());
        assert!(matches!(read, Ok(Message::HomeAgentSwitch { addresses, .. }) if addresses.len() == MOST_HOME_AGENTS));
    }

    #[test]
    fn what_is_cut_or_wrong_is_refused_with_its_place() {
        let good = unhex("3b010600 0000 0080 ba2c 000f 01020000");
        for length in 0..good.len() {
            assert!(Message::decode(&good[..length]).is_err(), "{length} octets");
        }
        let with = |offset: usize, value: u8| {
            let mut octets = good.clone();
            octets[offset] = value;
            Message::decode(&octets).expect_err("refused")
        };
        assert_eq!(with(0, 17).offset, 0);
        assert_eq!(with(1, 2).offset, 1);
        assert_eq!(with(13, 3), Malformed { offset: 12, why: "a mobility option reaches past the end of the message" });
    }
}
