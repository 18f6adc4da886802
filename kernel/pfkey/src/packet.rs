//! The packet that triggered an ACQUIRE (SADB_X_EXT_PACKET of KAME): addresses, home address option, Mobility Header type.
//! What cannot be read of it is no error: the policy then speaks for the packet.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use watari_policies::Selector;
use watari_policies::selector::{ICMPV6, MOBILITY_HEADER};

use crate::dialect::Dialect;
use crate::extension::RawWord;
use crate::message::Message;

const HEADER: usize = 40;
const NEXT_HEADER: usize = 6;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const DESTINATION_OPTIONS: u8 = 60;
/// Option type of the home address (RFC 6275 6.3).
const HOME_ADDRESS: u8 = 0xc9;
const PAD1: u8 = 0;
/// Extension headers looked through.
const DEPTH: usize = 8;

/// What the triggering packet tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TriggeringPacket {
    /// Source address on the wire: the care-of address of a mobile node that is away.
    pub source: Ipv6Addr,
    /// Destination address on the wire.
    pub destination: Ipv6Addr,
    /// The home address option's address.
    pub home: Option<Ipv6Addr>,
    /// Upper protocol.
    pub protocol: u8,
    /// Type of a Mobility Header or ICMPv6 message.
    pub message_type: Option<u8>,
}

impl TriggeringPacket {
    /// Reads an IPv6 packet as far as it was copied; `None` if it is none or its headers are cut off.
    #[must_use]
    pub fn read(octets: &[u8]) -> Option<Self> {
        if octets.first()? >> 4 != 6 {
            return None;
        }
        let address = |at: usize| octets.get(at..at.checked_add(16)?).and_then(|raw| <[u8; 16]>::try_from(raw).ok()).map(Ipv6Addr::from);
        let (source, destination) = (address(8)?, address(24)?);
        let mut protocol = *octets.get(NEXT_HEADER)?;
        let mut rest = octets.get(HEADER..)?;
        let mut home = None;
        for _ in 0..DEPTH {
            if !matches!(protocol, HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS) {
                let at = if protocol == MOBILITY_HEADER { Some(2) } else { (protocol == ICMPV6).then_some(0) };
                let message_type = at.and_then(|at: usize| rest.get(at)).copied();
                return Some(Self { source, destination, home, protocol, message_type });
            }
            let length = usize::from(*rest.get(1)?).saturating_add(1).saturating_mul(8);
            let (this, behind) = rest.split_at_checked(length)?;
            if protocol == DESTINATION_OPTIONS {
                home = home_address(this).or(home);
            }
            protocol = *this.first()?;
            rest = behind;
        }
        None
    }

    /// The care-of address: where a packet with a home address option leaves from.
    #[must_use]
    pub fn care_of(&self) -> Option<IpAddr> {
        self.home.filter(|home| *home != self.source).map(|_| IpAddr::V6(self.source))
    }

    /// The packet as policies see it: from the home address if one is given.
    #[must_use]
    pub fn selector(&self) -> Selector {
        let host = |address: Ipv6Addr| IpNet::from(IpAddr::from(address));
        let selector = Selector::between(host(self.home.unwrap_or(self.source)), host(self.destination)).protocol(self.protocol);
        self.message_type.map_or(selector, |message_type| selector.message_type(message_type))
    }
}

fn home_address(header: &[u8]) -> Option<Ipv6Addr> {
    let mut options = header.get(2..)?;
    loop {
        let (kind, rest) = options.split_first()?;
        if *kind == PAD1 {
            options = rest;
            continue;
        }
        let (length, rest) = rest.split_first()?;
        let (value, behind) = rest.split_at_checked(usize::from(*length))?;
        if *kind == HOME_ADDRESS {
            return <[u8; 16]>::try_from(value).ok().map(Ipv6Addr::from);
        }
        options = behind;
    }
}

/// The packet in an ACQUIRE.
pub(crate) fn triggering(dialect: Dialect, message: &Message<'_>) -> Result<Option<TriggeringPacket>, String> {
    let Some(part) = dialect.packet().and_then(|kind| message.extension(kind)) else { return Ok(None) };
    let (raw, rest) = part.take::<RawWord>("X_PACKET")?;
    let length = usize::try_from(raw.value).unwrap_or(usize::MAX);
    let (packet, _) = rest.split(length, "the triggering packet")?;
    Ok(TriggeringPacket::read(packet.octets()))
}
