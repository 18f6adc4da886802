//! SADB_X_MIGRATE as Linux sends it to every PF_KEY socket: optional KMADDRESS, addresses without types or ports, and the policy
//! extension with pairs of ipsecrequests, old before new, whose sockaddrs follow each other without a gap.
//! Octets behind a sockaddr may be anything: Linux does not always clear them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use watari_kernel::{Endpoints, KmAddress, Migrate, MigrateSource, MigrateStep};
use watari_policies::{Direction, Mode, Protocol, Reqid, Selector};
use zerocopy::{FromBytes, Immutable};

use crate::message::{Message, take};

const ADDRESS_SRC: u16 = 5;
const ADDRESS_DST: u16 = 6;
const X_POLICY: u16 = 18;
const X_KMADDRESS: u16 = 25;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
/// XFRM_MAX_DEPTH.
const MAX_STEPS: usize = 6;

/// `struct sadb_address`.
#[derive(FromBytes, Immutable)]
#[repr(C)]
struct RawAddress {
    extension: [u16; 2],
    proto: u8,
    prefix_len: u8,
    reserved: u16,
}

/// `struct sadb_x_kmaddress`.
#[derive(FromBytes, Immutable)]
#[repr(C)]
struct RawKmAddress {
    extension: [u16; 2],
    reserved: u32,
}

/// `struct sadb_x_policy`.
#[derive(FromBytes, Immutable)]
#[repr(C)]
struct RawPolicy {
    extension: [u16; 2],
    policy_type: u16,
    dir: u8,
    reserved: u8,
    id: u32,
    priority: u32,
}

/// `struct sadb_x_ipsecrequest`; its length is in octets.
#[derive(FromBytes, Immutable)]
#[repr(C)]
struct RawRequest {
    len: u16,
    proto: u16,
    mode: u8,
    level: u8,
    reserved1: u16,
    reqid: u32,
    reserved2: u32,
}

#[derive(FromBytes, Immutable)]
#[repr(C)]
struct SockaddrIn {
    family: u16,
    port: u16,
    address: [u8; 4],
    zero: [u8; 8],
}

#[derive(FromBytes, Immutable)]
#[repr(C)]
struct SockaddrIn6 {
    family: u16,
    port: u16,
    flowinfo: u32,
    address: [u8; 16],
    scope: u32,
}

/// One ipsecrequest.
struct Request {
    protocol: u16,
    mode: Mode,
    reqid: Reqid,
    /// Absent where the kernel knew no family.
    endpoints: Option<Endpoints>,
}

/// Reads a MIGRATE.
pub(crate) fn migrate(message: &Message<'_>) -> Result<Migrate, String> {
    let (source, src) = prefix(message.required(ADDRESS_SRC, "ADDRESS_SRC")?)?;
    let (_, dst) = prefix(message.required(ADDRESS_DST, "ADDRESS_DST")?)?;
    let (policy, rest) = take::<RawPolicy>(message.required(X_POLICY, "X_POLICY")?, "X_POLICY")?;
    let direction = match policy.dir {
        1 => Direction::In,
        2 => Direction::Out,
        3 => Direction::Forward,
        other => return Err(format!("direction {other}")),
    };
    let kmaddress = message.extension(X_KMADDRESS).map(kmaddress).transpose()?;
    let selector = Selector::between(src, dst).protocol(upper_protocol(source.proto));
    Ok(Migrate { selector, direction, steps: steps(rest)?, kmaddress, source: MigrateSource::PfKey })
}

/// IPSEC_PROTO_ANY is 255 here and 0 in a selector.
const fn upper_protocol(raw: u8) -> u8 {
    if raw == 255 { 0 } else { raw }
}

fn prefix(extension: &[u8]) -> Result<(RawAddress, IpNet), String> {
    let (raw, rest) = take::<RawAddress>(extension, "address extension")?;
    let (address, _) = sockaddr(rest)?;
    let net = IpNet::new(address, raw.prefix_len).map_err(|_| format!("prefix length {}", raw.prefix_len))?;
    Ok((raw, net))
}

fn kmaddress(extension: &[u8]) -> Result<KmAddress, String> {
    let (_, rest) = take::<RawKmAddress>(extension, "X_KMADDRESS")?;
    let ends = pair(rest)?;
    Ok(KmAddress { local: ends.src, remote: ends.dst })
}

fn steps(mut rest: &[u8]) -> Result<Vec<MigrateStep>, String> {
    let mut steps = Vec::new();
    while !rest.is_empty() {
        let (old, behind) = request(rest)?;
        let (new, behind) = request(behind)?;
        rest = behind;
        steps.push(step(&old, &new)?);
        if steps.len() > MAX_STEPS {
            return Err(format!("more than {MAX_STEPS} pairs of end points"));
        }
    }
    if steps.is_empty() { Err("no end points".to_owned()) } else { Ok(steps) }
}

fn step(old: &Request, new: &Request) -> Result<MigrateStep, String> {
    if (old.protocol, old.mode, old.reqid) != (new.protocol, new.mode, new.reqid) {
        return Err("old and new end points are of different SAs".to_owned());
    }
    let protocol = match new.protocol {
        50 => Protocol::Esp,
        51 => Protocol::Ah,
        other => return Err(format!("IPsec protocol {other}")),
    };
    let ends = new.endpoints.ok_or("new end points of no family")?;
    let unspecified: IpAddr = if ends.src.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let nowhere = Endpoints { src: unspecified, dst: unspecified };
    Ok(MigrateStep { protocol, mode: new.mode, reqid: new.reqid, old: old.endpoints.unwrap_or(nowhere), new: ends })
}

fn request(octets: &[u8]) -> Result<(Request, &[u8]), String> {
    let (raw, _) = take::<RawRequest>(octets, "ipsecrequest")?;
    let length = usize::from(raw.len);
    let (Some(addresses), Some(behind)) = (octets.get(size_of::<RawRequest>()..length), octets.get(length..)) else {
        return Err(format!("ipsecrequest of {length} octets where {} are left", octets.len()));
    };
    let mode = match raw.mode {
        1 => Mode::Transport,
        2 => Mode::Tunnel,
        other => return Err(format!("mode {other}")),
    };
    let endpoints = if addresses.is_empty() { None } else { Some(pair(addresses)?) };
    Ok((Request { protocol: raw.proto, mode, reqid: Reqid(raw.reqid), endpoints }, behind))
}

fn pair(octets: &[u8]) -> Result<Endpoints, String> {
    let (src, rest) = sockaddr(octets)?;
    let (dst, _) = sockaddr(rest)?;
    if src.is_ipv4() == dst.is_ipv4() { Ok(Endpoints { src, dst }) } else { Err("addresses of different families".to_owned()) }
}

fn sockaddr(octets: &[u8]) -> Result<(IpAddr, &[u8]), String> {
    match take::<u16>(octets, "sockaddr")?.0 {
        AF_INET => take::<SockaddrIn>(octets, "sockaddr_in").map(|(raw, rest)| (Ipv4Addr::from(raw.address).into(), rest)),
        AF_INET6 => take::<SockaddrIn6>(octets, "sockaddr_in6").map(|(raw, rest)| (Ipv6Addr::from(raw.address).into(), rest)),
        other => Err(format!("address family {other}")),
    }
}
