//! Where Linux and KAME lay out the same extension differently: socket addresses and ipsecrequests.
//! Octets behind a sockaddr may be anything: Linux does not always clear them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use watari_kernel::Endpoints;
use watari_kernel::errno::Numbering;
use watari_policies::{Mode, Reqid};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::extension::{X_KMADDRESS, X_PACKET};
use crate::message::Part;

const AF_INET: u8 = 2;
const LINUX_INET6: u8 = 10;
/// AF_INET6 of FreeBSD, and of NetBSD and OpenBSD.
const BSD_INET6: [u8; 2] = [28, 24];
const MODE_TRANSPORT: u8 = 1;
const MODE_TUNNEL: u8 = 2;
/// The highest reqid that the kernels take from a policy; beyond it they choose one themselves.
const MANUAL_REQID_MAX: u32 = 0x3fff;

/// What a kernel's extensions look like beyond RFC 2367.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// Linux net/key/af_key.c.
    #[default]
    Linux,
    /// KAME netkey as in the BSDs, with the Mobile IPv6 additions of SHISA.
    Kame,
}

/// `struct sockaddr_in`; in KAME the family is preceded by a length.
#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct SockaddrIn {
    family: [u8; 2],
    port: [u8; 2],
    address: [u8; 4],
    zero: [u8; 8],
}

/// `struct sockaddr_in6`.
#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct SockaddrIn6 {
    family: [u8; 2],
    port: [u8; 2],
    flowinfo: u32,
    address: [u8; 16],
    scope: u32,
}

/// `struct sadb_x_ipsecrequest` of Linux; its length is in octets.
#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct LinuxRequest {
    len: u16,
    proto: u16,
    mode: u8,
    level: u8,
    reserved1: u16,
    reqid: u32,
    reserved2: u32,
}

/// `struct sadb_x_ipsecrequest` of KAME; its length is in octets.
#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct KameRequest {
    len: u16,
    proto: u16,
    mode: u8,
    level: u8,
    reqid: u16,
}

/// How strictly a request is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// Packets may pass without it.
    Use,
    /// Any SA will do.
    Require,
    /// Only SAs with the reqid.
    Unique,
}

/// One ipsecrequest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) protocol: u8,
    pub(crate) mode: Mode,
    pub(crate) optional: bool,
    pub(crate) reqid: Reqid,
    /// Absent where none are given, or where the kernel knew no family.
    pub(crate) endpoints: Option<Endpoints>,
}

impl Request {
    const fn level(&self) -> Level {
        match (self.optional, self.reqid.0) {
            (true, _) => Level::Use,
            (false, 0) => Level::Require,
            (false, _) => Level::Unique,
        }
    }

    /// Refuses what a kernel would change silently when it reads a policy.
    pub(crate) fn check_for_policy(&self) -> Result<(), String> {
        if self.reqid.0 > MANUAL_REQID_MAX {
            return Err(format!(
                "reqid {} in a policy: PF_KEY kernels take {MANUAL_REQID_MAX} at most and choose another instead",
                self.reqid.0
            ));
        }
        if self.level() == Level::Use && self.reqid.0 != 0 {
            return Err(format!("an optional template with reqid {}: PF_KEY cannot say both", self.reqid.0));
        }
        Ok(())
    }
}

impl Dialect {
    /// The error numbers of the kernels that speak it.
    pub(crate) const fn numbering(self) -> Numbering {
        match self {
            Self::Linux => Numbering::Linux,
            Self::Kame => Numbering::Bsd,
        }
    }

    /// The number of the extension KMADDRESS, where there is one.
    pub(crate) const fn kmaddress(self) -> Option<u16> {
        match self {
            Self::Linux => Some(X_KMADDRESS),
            Self::Kame => None,
        }
    }

    /// The number of the extension PACKET, where there is one.
    pub(crate) const fn packet(self) -> Option<u16> {
        match self {
            Self::Linux => None,
            Self::Kame => Some(X_PACKET),
        }
    }

    /// Whether policies have a forward direction.
    pub(crate) const fn has_forward(self) -> bool {
        matches!(self, Self::Linux)
    }

    /// The highest direction number; beyond it are policies of sockets.
    pub(crate) const fn inet6(self) -> u8 {
        match self {
            Self::Linux => LINUX_INET6,
            Self::Kame if cfg!(any(target_os = "netbsd", target_os = "openbsd")) => BSD_INET6[1],
            Self::Kame => BSD_INET6[0],
        }
    }

    fn family(self, raw: [u8; 2]) -> u16 {
        match self {
            Self::Linux => u16::from_ne_bytes(raw),
            Self::Kame => raw[1].into(),
        }
    }

    fn raw_family(self, length: u8, family: u8) -> [u8; 2] {
        match self {
            Self::Linux => u16::from(family).to_ne_bytes(),
            Self::Kame => [length, family],
        }
    }

    fn is_inet6(self, family: u16) -> bool {
        match self {
            Self::Linux => family == LINUX_INET6.into(),
            Self::Kame => BSD_INET6.iter().any(|known| family == (*known).into()),
        }
    }

    /// Takes a sockaddr off the front: address and port.
    pub(crate) fn sockaddr(self, part: Part<'_>) -> Result<(IpAddr, u16, Part<'_>), String> {
        let family = self.family(part.take::<[u8; 2]>("sockaddr")?.0);
        if family == AF_INET.into() {
            let (raw, rest) = part.take::<SockaddrIn>("sockaddr_in")?;
            Ok((Ipv4Addr::from(raw.address).into(), u16::from_be_bytes(raw.port), rest))
        } else if self.is_inet6(family) {
            let (raw, rest) = part.take::<SockaddrIn6>("sockaddr_in6")?;
            Ok((Ipv6Addr::from(raw.address).into(), u16::from_be_bytes(raw.port), rest))
        } else {
            Err(part.wrong(format!("address family {family}")))
        }
    }

    /// A sockaddr, 16 or 28 octets.
    pub(crate) fn raw_sockaddr(self, address: IpAddr, port: u16) -> Vec<u8> {
        let port = port.to_be_bytes();
        match address {
            IpAddr::V4(v4) => {
                SockaddrIn { family: self.raw_family(16, AF_INET), port, address: v4.octets(), zero: [0; 8] }.as_bytes().to_vec()
            }
            IpAddr::V6(v6) => {
                let family = self.raw_family(28, self.inet6());
                SockaddrIn6 { family, port, flowinfo: 0, address: v6.octets(), scope: 0 }.as_bytes().to_vec()
            }
        }
    }

    /// Two sockaddrs one behind the other, without a gap.
    pub(crate) fn pair(self, part: Part<'_>) -> Result<Endpoints, String> {
        let (src, _, rest) = self.sockaddr(part)?;
        let (dst, _, _) = self.sockaddr(rest)?;
        if src.is_ipv4() == dst.is_ipv4() { Ok(Endpoints { src, dst }) } else { Err(part.wrong("addresses of different families")) }
    }

    /// Two sockaddrs without ports.
    pub(crate) fn raw_pair(self, ends: Endpoints) -> Result<Vec<u8>, String> {
        if ends.src.is_ipv4() != ends.dst.is_ipv4() {
            return Err(format!("end points {ends} are of different families"));
        }
        Ok([self.raw_sockaddr(ends.src, 0), self.raw_sockaddr(ends.dst, 0)].concat())
    }

    /// Takes an ipsecrequest off the front.
    pub(crate) fn request(self, part: Part<'_>) -> Result<(Request, Part<'_>), String> {
        let ((len, proto, mode, level, reqid), header) = match self {
            Self::Linux => {
                let (raw, _) = part.take::<LinuxRequest>("ipsecrequest")?;
                ((raw.len, raw.proto, raw.mode, raw.level, raw.reqid), size_of::<LinuxRequest>())
            }
            Self::Kame => {
                let (raw, _) = part.take::<KameRequest>("ipsecrequest")?;
                ((raw.len, raw.proto, raw.mode, raw.level, raw.reqid.into()), size_of::<KameRequest>())
            }
        };
        let (this, rest) = part.split(len.into(), "ipsecrequest")?;
        let (_, addresses) = this.split(header, "ipsecrequest")?;
        let mode = mode_of(mode).ok_or_else(|| part.wrong(format!("mode {mode}")))?;
        let protocol = u8::try_from(proto).map_err(|_| part.wrong(format!("IPsec protocol {proto}")))?;
        let endpoints = if addresses.is_empty() { None } else { Some(self.pair(addresses)?) };
        Ok((Request { protocol, mode, optional: level == 1, reqid: Reqid(reqid), endpoints }, rest))
    }

    /// An ipsecrequest.
    pub(crate) fn raw_request(self, request: &Request) -> Result<Vec<u8>, String> {
        let addresses = request.endpoints.map_or(Ok(Vec::new()), |ends| self.raw_pair(ends))?;
        let header = match self {
            Self::Linux => size_of::<LinuxRequest>(),
            Self::Kame => size_of::<KameRequest>(),
        };
        let padded = header.saturating_add(addresses.len()).next_multiple_of(8);
        let len = u16::try_from(padded).map_err(|_| "an ipsecrequest too long".to_owned())?;
        let (proto, mode) = (request.protocol.into(), raw_mode(request.mode));
        let level = match request.level() {
            Level::Use => 1,
            Level::Require => 2,
            Level::Unique => 3,
        };
        let mut octets = match self {
            Self::Linux => LinuxRequest { len, proto, mode, level, reserved1: 0, reqid: request.reqid.0, reserved2: 0 }.as_bytes().to_vec(),
            Self::Kame => {
                let reqid = u16::try_from(request.reqid.0).map_err(|_| format!("reqid {} needs more than 16 bits", request.reqid.0))?;
                KameRequest { len, proto, mode, level, reqid }.as_bytes().to_vec()
            }
        };
        octets.extend(addresses);
        octets.resize(padded, 0);
        Ok(octets)
    }
}

/// The mode of a number; `None` for "any", BEET and others.
pub(crate) const fn mode_of(raw: u8) -> Option<Mode> {
    match raw {
        MODE_TRANSPORT => Some(Mode::Transport),
        MODE_TUNNEL => Some(Mode::Tunnel),
        _ => None,
    }
}

/// A mode's number.
pub(crate) const fn raw_mode(mode: Mode) -> u8 {
    match mode {
        Mode::Transport => MODE_TRANSPORT,
        Mode::Tunnel => MODE_TUNNEL,
    }
}
