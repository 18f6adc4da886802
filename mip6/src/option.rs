//! Mobility options (RFC 6275 6.2). Padding is kept as an option so that what was decoded can be encoded again octet for octet.

use std::net::Ipv6Addr;

use crate::Malformed;

const PAD1: u8 = 0;
const PADN: u8 = 1;
const ALTERNATE_CARE_OF: u8 = 3;

/// A mobility option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MobilityOption {
    /// One octet of padding.
    Pad1,
    /// Padding: this many octets of data after the two of the option's head.
    PadN(u8),
    /// Alternate Care-of Address (RFC 6275 6.2.5), aligned to 8n+6.
    AlternateCareOf(Ipv6Addr),
    /// Any other, by number, with its data as it stands (at most 255 octets).
    Other {
        /// Option type.
        number: u8,
        /// Option data.
        data: Vec<u8>,
    },
}

impl MobilityOption {
    fn encode(&self, octets: &mut Vec<u8>) {
        match self {
            Self::Pad1 => octets.push(PAD1),
            Self::PadN(length) => {
                octets.extend([PADN, *length]);
                octets.resize(octets.len().saturating_add(usize::from(*length)), 0);
            }
            Self::AlternateCareOf(address) => {
                octets.extend([ALTERNATE_CARE_OF, 16]);
                octets.extend(address.octets());
            }
            Self::Other { number, data } => {
                let length = u8::try_from(data.len()).unwrap_or(u8::MAX);
                octets.extend([*number, length]);
                octets.extend(data.iter().take(usize::from(length)));
            }
        }
    }
}

/// Reads options to the end of the message.
pub(crate) fn decode(mut rest: &[u8], mut offset: usize) -> Result<Vec<MobilityOption>, Malformed> {
    let mut options = Vec::new();
    while let Some((&number, after)) = rest.split_first() {
        if number == PAD1 {
            options.push(MobilityOption::Pad1);
            rest = after;
            offset = offset.saturating_add(1);
            continue;
        }
        let malformed = Malformed { offset, why: "a mobility option reaches past the end of the message" };
        let (&length, after) = after.split_first().ok_or(malformed)?;
        let (data, after) = after.split_at_checked(usize::from(length)).ok_or(malformed)?;
        options.push(one(number, length, data));
        rest = after;
        offset = offset.saturating_add(2).saturating_add(data.len());
    }
    Ok(options)
}

fn one(number: u8, length: u8, data: &[u8]) -> MobilityOption {
    match (number, <[u8; 16]>::try_from(data)) {
        (ALTERNATE_CARE_OF, Ok(address)) => MobilityOption::AlternateCareOf(Ipv6Addr::from(address)),
        (PADN, _) if data.iter().all(|octet| *octet == 0) => MobilityOption::PadN(length),
        _ => MobilityOption::Other { number, data: data.to_vec() },
    }
}

/// Writes options after a head of `start` octets and fills up to a multiple of 8.
pub(crate) fn encode(options: &[MobilityOption], octets: &mut Vec<u8>) {
    for option in options {
        option.encode(octets);
    }
    let missing = octets.len().next_multiple_of(8).saturating_sub(octets.len());
    pad(missing, octets);
}

fn pad(length: usize, octets: &mut Vec<u8>) {
    match u8::try_from(length).unwrap_or(0) {
        0 => {}
        1 => MobilityOption::Pad1.encode(octets),
        length => MobilityOption::PadN(length.saturating_sub(2)).encode(octets),
    }
}

/// The options of a binding update that names a care-of address, with the padding its alignment demands.
#[must_use]
pub fn alternate_care_of(address: Ipv6Addr) -> Vec<MobilityOption> {
    // The head of a binding update ends at octet 12; 8n+6 comes at 14.
    vec![MobilityOption::PadN(0), MobilityOption::AlternateCareOf(address)]
}
