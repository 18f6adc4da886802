//! The promises of watari-sys that only a kernel with IPsec and Mobile IPv6 can keep, tried in a guest: errno of tentative and
//! blocked addresses, the IPsec bypass, home address option and type 2 routing header on Mobility Header sockets.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::thread::sleep;
use std::time::Duration;

use watari_sys::{
    IkeSocket, IkeSocketOptions, KeySocket, MobilityMessage, MobilitySend, MobilitySocket, NetlinkFamily, NetlinkSocket, Path,
    ProtectedMobility, Received,
};

use super::hosts::Namespace;
use super::{Context, Result};

const LEFT: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const RIGHT: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
const HOME: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0xabcd);
const TENTATIVE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x77);

/// Tries everything between two hosts on one link and returns what did not keep its promise.
pub(super) fn complaints(left: &Namespace, right: &Namespace) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    let mut demand = |kept: bool, promise: &str| {
        if !kept {
            complaints.push(promise.to_owned());
        }
    };
    let groups = [1, 2, 3, 4, 7];
    demand(left.enter(KeySocket::open)?.is_ok(), "PF_KEY opens");
    let netlink = left.enter(|| NetlinkSocket::open(NetlinkFamily::Xfrm, &groups, 65_536))?;
    demand(netlink.is_ok(), "the XFRM groups of movement can be joined");
    tentative(left, &mut demand)?;
    blocked(left, &mut demand)?;
    mobility(left, right, &mut demand)?;
    key(left, &mut demand)?;
    Ok(complaints)
}

/// X_PROMISC (11): with SATYPE 1 it is switched on, and every message of anybody is copied to this socket before the kernel looks at it.
const PROMISCUOUS: [u8; 16] = [2, 11, 0, 1, 2, 0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0];
/// More than any socket of ours holds, in messages of [`LARGE`] octets.
const MANY: usize = 5_000;
/// Octets of a PF_KEY message that fits no buffer of 8 KiB.
const LARGE: usize = 10_000;

/// PF_KEY messages larger than 8 KiB, and more of them than the socket holds.
fn key(left: &Namespace, demand: &mut impl FnMut(bool, &str)) -> Result<()> {
    let listener = left.enter(KeySocket::open)?.context("PF_KEY")?;
    let talker = left.enter(KeySocket::open)?.context("PF_KEY")?;
    listener.send(&PROMISCUOUS).context("X_PROMISC")?;
    // SADB_REGISTER with zeros behind its header: an extension without a length, which the kernel refuses after it has copied it.
    let mut message = vec![2, 7, 0, 3];
    message.extend(u16::try_from(LARGE / 8).unwrap_or_default().to_ne_bytes());
    message.resize(LARGE, 0);
    talker.send(&message).context("a large PF_KEY message")?;
    demand(heard(&listener, &message)?.contains(&Heard::Large), "a PF_KEY message of 10,000 octets is taken whole");
    for _ in 0..MANY {
        talker.send(&message).context("large PF_KEY messages")?;
        // Nobody needs the answers.
        while !matches!(talker.receive().context("PF_KEY")?, Received::WouldBlock) {}
    }
    let heard = heard(&listener, &message)?;
    let count = |what| heard.iter().filter(|heard| **heard == what).count();
    let first = heard.first() == Some(&Heard::Overrun);
    demand(first && count(Heard::Overrun) == 1, "a full PF_KEY buffer is an overrun, told once and first");
    demand((1..MANY).contains(&count(Heard::Large)), "what a full PF_KEY buffer holds is taken, the rest is lost");
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Heard {
    Overrun,
    Large,
    Other,
}

/// What is in a socket, without its octets: a full one holds more than a guest may have twice.
fn heard(socket: &KeySocket, large: &[u8]) -> Result<Vec<Heard>> {
    let mut heard = Vec::new();
    loop {
        heard.push(match socket.receive().context("PF_KEY")? {
            Received::WouldBlock => return Ok(heard),
            Received::Overrun => Heard::Overrun,
            Received::Datagram(octets) if octets == large => Heard::Large,
            Received::Datagram(_) => Heard::Other,
        });
    }
}

fn send(socket: &IkeSocket, source: Ipv6Addr) -> io::Result<()> {
    let remote = SocketAddr::new(IpAddr::V6(RIGHT), 500);
    socket.send(b"probe", &Path { local: Some(source.into()), interface: 0, remote })
}

fn tentative(left: &Namespace, demand: &mut impl FnMut(bool, &str)) -> Result<()> {
    let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 500);
    let socket = left.enter(|| IkeSocket::open(any, IkeSocketOptions::default()))?.context("IKE socket")?;
    left.exec(&format!("ip addr add {TENTATIVE}/64 dev eth0"))?;
    let errno = send(&socket, TENTATIVE).err().and_then(|error| error.raw_os_error());
    demand(matches!(errno, Some(libc::EINVAL | libc::EADDRNOTAVAIL)), "a tentative source address is EINVAL or EADDRNOTAVAIL");
    left.exec(&format!("ip addr del {TENTATIVE}/64 dev eth0"))?;
    Ok(())
}

fn blocked(left: &Namespace, demand: &mut impl FnMut(bool, &str)) -> Result<()> {
    let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0);
    let bypassing = IkeSocketOptions { bypass_ipsec: true, ..IkeSocketOptions::default() };
    let plain = left.enter(|| IkeSocket::open(any, IkeSocketOptions::default()))?.context("IKE socket")?;
    let bypass = left.enter(|| IkeSocket::open(any, bypassing))?.context("IKE socket with bypass")?;
    left.exec("ip xfrm policy add src ::/0 dst ::/0 dir out action block priority 4 ptype sub")?;
    let errno = send(&plain, LEFT).err().and_then(|error| error.raw_os_error());
    demand(errno == Some(libc::EPERM), "a block policy is EPERM to an ordinary socket");
    demand(send(&bypass, LEFT).is_ok(), "the bypass passes a block policy");
    left.exec("ip xfrm policy del src ::/0 dst ::/0 dir out ptype sub")?;
    Ok(())
}

fn mobility(left: &Namespace, right: &Namespace, demand: &mut impl FnMut(bool, &str)) -> Result<()> {
    left.exec(&format!("ip addr add {HOME}/128 dev eth0 nodad home"))?;
    left.ip_batch(&optimised(RIGHT, HOME, "route2"))?;
    right.ip_batch(&(format!("route add 2001:db8:1::/64 via {LEFT}\n") + &optimised(HOME, RIGHT, "hao")))?;
    let node = left.enter(MobilitySocket::open)?.context("Mobility Header socket")?;
    let agent = right.enter(MobilitySocket::open)?.context("Mobility Header socket")?;
    let mut update = [59, 1, 5, 0, 0, 0, 0, 1, 0xd0, 0, 0, 15, 1, 2, 0, 0];
    fill_checksum(HOME, RIGHT, &mut update);
    node.set_kernel_checksum(false).context("switching the checksum off")?;
    let unfilled = MobilitySend { bytes: &update, source: LEFT, destination: RIGHT, interface: 0, home_address: Some(HOME), routing: None };
    node.send(&unfilled).context("sending a binding update")?;
    let got = wait(&agent)?.map(|message| (message.source, message.came_from));
    demand(got == Some((HOME, Some(LEFT))), "a home address option arrives as source and care-of address");
    node.set_kernel_checksum(true).context("switching the checksum on")?;
    let answer = [59, 1, 6, 0, 0, 0, 0, 0x80, 0, 1, 0, 15, 1, 2, 0, 0];
    let routed = MobilitySend { bytes: &answer, source: RIGHT, destination: HOME, interface: 0, home_address: None, routing: Some(LEFT) };
    agent.send(&routed).context("sending a binding acknowledgement")?;
    let got = wait(&node)?.map(|message| (message.destination, message.sent_to));
    demand(got == Some((HOME, Some(LEFT))), "a type 2 routing header arrives as destination and care-of address");
    agent.require_esp(0, ProtectedMobility::HomeAddressOption).context("protecting the Mobility Header socket")?;
    node.set_kernel_checksum(false).context("switching the checksum off")?;
    node.send(&unfilled).context("sending a binding update")?;
    demand(wait(&agent)?.is_none(), "a protected Mobility Header socket hears nothing unprotected");
    Ok(())
}

/// What mip6d installs so that packets with a home address option or a type 2 routing header are taken.
fn optimised(source: Ipv6Addr, destination: Ipv6Addr, protocol: &str) -> String {
    let ends = format!("src {source} dst {destination}");
    format!(
        "xfrm state add {ends} proto {protocol} mode ro coa {LEFT} sel {ends}\n\
         xfrm policy add {ends} proto 135 dir in ptype sub tmpl {ends} proto {protocol} mode ro level use\n"
    )
}

fn wait(socket: &MobilitySocket) -> Result<Option<MobilityMessage>> {
    for _ in 0..60 {
        if let Some(message) = socket.receive().context("Mobility Header socket")? {
            return Ok(Some(message));
        }
        sleep(Duration::from_millis(5));
    }
    Ok(None)
}

/// Fills the checksum of a Mobility Header message (RFC 6275 section 6.1.1).
fn fill_checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &mut [u8; 16]) {
    let mut octets = [source.octets(), destination.octets()].concat();
    octets.extend([0, 0, 0, 16, 0, 0, 0, 135]);
    octets.extend(*message);
    let words = octets.as_chunks::<2>().0.iter().map(|word| u32::from(u16::from_be_bytes(*word)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let [high, low] = (!(sum as u16)).to_be_bytes();
    (message[4], message[5]) = (high, low);
}
