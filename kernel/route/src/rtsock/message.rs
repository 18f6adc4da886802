//! Messages of a routing socket (PF_ROUTE) as FreeBSD and KAME lay them out: net/route.h, net/if.h, netinet6/in6_var.h.
//! Invariant: every length is checked against the octets that are there before anything behind it is read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use watari_kernel::{AddressFlags, LinkEvent, RouteEvent};

/// RTM_VERSION.
const VERSION: u8 = 5;

/// RTM_*.
mod kind {
    pub(super) const ADD: u8 = 0x01;
    pub(super) const DELETE: u8 = 0x02;
    pub(super) const CHANGE: u8 = 0x03;
    pub(super) const NEWADDR: u8 = 0x0c;
    pub(super) const DELADDR: u8 = 0x0d;
    pub(super) const IFINFO: u8 = 0x0e;
    pub(super) const IFANNOUNCE: u8 = 0x11;
}

/// Positions of sockaddrs in a message (RTAX_*); bit N of a message's `addrs` says whether N is there (RTA_*).
mod position {
    pub(super) const DESTINATION: usize = 0;
    pub(super) const GATEWAY: usize = 1;
    pub(super) const NETMASK: usize = 2;
    pub(super) const ADDRESS: usize = 5;
    pub(super) const COUNT: usize = 8;
}

const IFF_UP: u32 = 0x1;
/// IFF_DRV_RUNNING.
const IFF_RUNNING: u32 = 0x40;
const LINK_STATE_DOWN: u8 = 1;
/// `what` of an if_announcemsghdr: the interface went.
const IFAN_DEPARTURE: u16 = 1;
/// An entry of the neighbour table and no route.
const RTF_LLDATA: u32 = 0x400;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 28;

/// Octets before the sockaddrs of an ifa_msghdr, and before the `if_data` of an if_msghdr at 16.
const ADDRESS_HEADER: usize = 20;
const LINK_HEADER: usize = 16;

/// Whose messages they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// FreeBSD of today: `if_data` holds the link state; no home addresses.
    FreeBsd,
    /// KAME on FreeBSD with SHISA: no link state; IN6_IFF_HOME.
    Kame,
}

/// How messages are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Whose messages they are.
    pub dialect: Dialect,
    /// Octets of a C `long`, 4 or 8: sockaddrs fill a multiple of it, and metrics are counted in it.
    pub long: usize,
}

impl Layout {
    /// FreeBSD on the processor that this program was built for.
    pub const NATIVE: Self = Self { dialect: Dialect::FreeBsd, long: size_of::<usize>() };

    /// Octets of an rt_msghdr: ten fixed fields and `rtm_inits` with the fourteen words of `rt_metrics`.
    const fn route_header(self) -> usize {
        32_usize.saturating_add(self.long.saturating_mul(15))
    }

    /// What SIOCGIFAFLAG_IN6 answered, in our words; `None` for an anycast address, which belongs to no host and is nobody's source.
    #[must_use]
    pub fn address_flags(self, bits: u32) -> Option<AddressFlags> {
        let has = |flag: u32| bits & flag != 0;
        if has(flag::ANYCAST) {
            return None;
        }
        Some(AddressFlags {
            // The prefix of a detached address has no router: the kernel does not send from it, and checks it anew when one comes back.
            tentative: has(flag::TENTATIVE) || has(flag::DETACHED),
            dad_failed: has(flag::DUPLICATED),
            deprecated: has(flag::DEPRECATED),
            temporary: has(flag::TEMPORARY),
            // The same bit is IN6_IFF_PREFER_SOURCE on FreeBSD. A deregistering home address (SHISA, 0x200) carries both.
            home: has(flag::HOME) && self.dialect == Dialect::Kame,
        })
    }
}

/// IN6_IFF_*.
mod flag {
    pub(super) const ANYCAST: u32 = 0x01;
    pub(super) const TENTATIVE: u32 = 0x02;
    pub(super) const DUPLICATED: u32 = 0x04;
    pub(super) const DETACHED: u32 = 0x08;
    pub(super) const DEPRECATED: u32 = 0x10;
    pub(super) const TEMPORARY: u32 = 0x80;
    pub(super) const HOME: u32 = 0x100;
}

/// What one message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// An address is there, or went. The message holds no flags: [`Layout::address_flags`] reads what SIOCGIFAFLAG_IN6 answers.
    Address {
        /// Interface index.
        interface: u32,
        /// The address, without the scope that KAME writes into link-local ones.
        address: IpAddr,
        /// Prefix length.
        prefix_len: u8,
        /// Whether it is there now.
        present: bool,
    },
    /// A link came, changed or went.
    Link(LinkEvent),
    /// A route came, changed or went.
    Route(RouteEvent),
    /// Nothing of interest.
    Other,
}

/// Takes the first message off what a routing socket or the sysctl NET_RT_IFLIST gave; with it the octets that follow. An error in a header
/// leaves no way to go on; an error inside a message is the message's own.
pub fn first(octets: &[u8], layout: Layout) -> Result<(Result<Content, String>, &[u8]), String> {
    let &[_, _, version, kind, ..] = octets else {
        return Err(format!("{} octets are no routing message", octets.len()));
    };
    let length = usize::from(half(octets, 0)?);
    let rest = octets.get(length..).filter(|_| length >= 4);
    let (Some(message), Some(rest)) = (octets.get(..length), rest) else {
        return Err(format!("routing message length {length} in {} octets", octets.len()));
    };
    if version != VERSION {
        return Ok((Err(format!("routing message version {version}, not {VERSION}")), rest));
    }
    Ok((content(kind, message, layout), rest))
}

fn content(kind: u8, message: &[u8], layout: Layout) -> Result<Content, String> {
    match kind {
        kind::NEWADDR => address(message, layout, true),
        kind::DELADDR => address(message, layout, false),
        kind::IFINFO => link(message, layout),
        kind::IFANNOUNCE => announcement(message),
        kind::ADD | kind::CHANGE => route(message, layout, true),
        kind::DELETE => route(message, layout, false),
        _ => Ok(Content::Other),
    }
}

/// struct ifa_msghdr: length 2, version, type, addrs 4, flags 4, index 2, spare 2, metric 4.
fn address(message: &[u8], layout: Layout, present: bool) -> Result<Content, String> {
    let interface = u32::from(half(message, 12)?);
    let sockaddrs = Sockaddrs::read(message, ADDRESS_HEADER, word(message, 4)?, layout)?;
    let sockaddr = sockaddrs.at(position::ADDRESS).ok_or("an address message without an address")?;
    let Some(address) = ip(sockaddr)? else { return Ok(Content::Other) };
    let prefix_len = prefix_len(address, sockaddrs.at(position::NETMASK));
    Ok(Content::Address { interface, address, prefix_len, present })
}

/// struct if_msghdr: length 2, version, type, addrs 4, flags 4, index 2, spare 2, and if_data with the link state at its fifth octet.
fn link(message: &[u8], layout: Layout) -> Result<Content, String> {
    let (flags, interface) = (word(message, 8)?, u32::from(half(message, 12)?));
    let state = match layout.dialect {
        Dialect::FreeBsd => *message.get(LINK_HEADER.saturating_add(4)).ok_or("an interface message without its data")?,
        Dialect::Kame => 0,
    };
    let up = flags & IFF_UP != 0 && flags & IFF_RUNNING != 0 && state != LINK_STATE_DOWN;
    Ok(Content::Link(LinkEvent { interface, present: true, up }))
}

/// struct if_announcemsghdr: length 2, version, type, index 2, name 16, what 2. An arrival is followed by an RTM_IFINFO.
fn announcement(message: &[u8]) -> Result<Content, String> {
    let (interface, what) = (u32::from(half(message, 4)?), half(message, 22)?);
    let gone = LinkEvent { interface, present: false, up: false };
    Ok(if what == IFAN_DEPARTURE { Content::Link(gone) } else { Content::Other })
}

/// struct rt_msghdr: length 2, version, type, index 2, spare 2, flags 4, addrs 4, pid 4, seq 4, errno 4, fmask 4, inits, metrics.
fn route(message: &[u8], layout: Layout, present: bool) -> Result<Content, String> {
    let (interface, flags, addrs, errno) = (u32::from(half(message, 4)?), word(message, 8)?, word(message, 12)?, word(message, 24)?);
    let sockaddrs = Sockaddrs::read(message, layout.route_header(), addrs, layout)?;
    // Every listener hears a request that the kernel refused, too.
    if errno != 0 || flags & RTF_LLDATA != 0 {
        return Ok(Content::Other);
    }
    let sockaddr = sockaddrs.at(position::DESTINATION).ok_or("a route message without a destination")?;
    let Some(destination) = ip(sockaddr)? else { return Ok(Content::Other) };
    let prefix_len = prefix_len(destination, sockaddrs.at(position::NETMASK));
    let gateway = sockaddrs.at(position::GATEWAY).map_or(Ok(None), ip)?;
    Ok(Content::Route(RouteEvent { destination, prefix_len, gateway, interface, present }))
}

/// The sockaddrs of a message, each filled up to a multiple of a `long`; an empty one takes one `long`.
struct Sockaddrs<'a>([Option<&'a [u8]>; position::COUNT]);

impl<'a> Sockaddrs<'a> {
    fn read(message: &'a [u8], header: usize, present: u32, layout: Layout) -> Result<Self, String> {
        let mut rest = message.get(header..).ok_or_else(|| format!("{} octets where a header has {header}", message.len()))?;
        let mut found = [None; position::COUNT];
        for (index, slot) in found.iter_mut().enumerate() {
            if present & 1_u32.checked_shl(index as u32).unwrap_or(0) == 0 {
                continue;
            }
            let length = usize::from(*rest.first().ok_or_else(|| format!("sockaddr {index} is missing"))?);
            let sockaddr = rest.get(..length).ok_or_else(|| format!("sockaddr {index} of {length} octets in {}", rest.len()))?;
            *slot = Some(sockaddr);
            // The last one need not be filled up.
            rest = rest.get(length.max(1).next_multiple_of(layout.long.max(1))..).unwrap_or_default();
        }
        Ok(Self(found))
    }

    fn at(&self, position: usize) -> Option<&'a [u8]> {
        self.0.get(position).copied().flatten()
    }
}

/// The address of a sockaddr_in or sockaddr_in6; `None` for other families.
fn ip(sockaddr: &[u8]) -> Result<Option<IpAddr>, String> {
    let cut = || format!("a sockaddr of {} octets ends within its address", sockaddr.len());
    match sockaddr.get(1) {
        // length, family, port 2, address 4
        Some(&AF_INET) => {
            let octets: [u8; 4] = sockaddr.get(4..8).and_then(|octets| octets.try_into().ok()).ok_or_else(cut)?;
            Ok(Some(Ipv4Addr::from(octets).into()))
        }
        // length, family, port 2, flow 4, address 16, scope 4
        Some(&AF_INET6) => {
            let octets: [u8; 16] = sockaddr.get(8..24).and_then(|octets| octets.try_into().ok()).ok_or_else(cut)?;
            Ok(Some(without_scope(Ipv6Addr::from(octets)).into()))
        }
        _ => Ok(None),
    }
}

/// KAME keeps the interface index of a link-local address in its second 16 bits.
fn without_scope(address: Ipv6Addr) -> Ipv6Addr {
    let [first, _, rest @ ..] = address.segments();
    if !address.is_unicast_link_local() {
        return address;
    }
    let [a, b, c, d, e, f] = rest;
    Ipv6Addr::new(first, 0, a, b, c, d, e, f)
}

/// A mask is cut after its last octet that is not zero, and its family is not to be relied on. Without one the prefix is the whole address.
fn prefix_len(address: IpAddr, mask: Option<&[u8]>) -> u8 {
    let (offset, size, whole) = if address.is_ipv4() { (4, 4, 32) } else { (8, 16, 128) };
    let Some(mask) = mask else { return whole };
    let mut length: u8 = 0;
    for octet in mask.iter().skip(offset).take(size) {
        let ones = octet.leading_ones() as u8;
        length = length.saturating_add(ones);
        if ones < 8 {
            break;
        }
    }
    length
}

fn half(octets: &[u8], at: usize) -> Result<u16, String> {
    let found = octets.get(at..at.saturating_add(2)).and_then(|half| half.try_into().ok());
    found.map(u16::from_ne_bytes).ok_or_else(|| format!("a routing message of {} octets", octets.len()))
}

fn word(octets: &[u8], at: usize) -> Result<u32, String> {
    let found = octets.get(at..at.saturating_add(4)).and_then(|word| word.try_into().ok());
    found.map(u32::from_ne_bytes).ok_or_else(|| format!("a routing message of {} octets", octets.len()))
}
