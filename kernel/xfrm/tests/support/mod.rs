//! Shared by the tests: time, hexadecimal, text blocks of recorded messages, and outputs of a back end.
#![allow(dead_code, reason = "each test binary uses a part")]

#[path = "../../../tests/support/drained.rs"]
mod drained;

pub(crate) use drained::{Drained, at};
use watari_kernel::{Backend, Channel, KernelEvent};
use watari_xfrm::XfrmBackend;

/// The port in the back end's own requests.
pub(crate) const PORT: u32 = 0x5151;

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    assert_eq!(text.len() % 2, 0, "{text}");
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

/// Blocks of three lines, separated by empty lines, behind a comment.
pub(crate) fn blocks(text: &str) -> Vec<[&str; 3]> {
    let mut lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut blocks = Vec::new();
    while let (Some(a), Some(b), Some(c)) = (lines.next(), lines.next(), lines.next()) {
        blocks.push([a, b, c]);
    }
    blocks
}

pub(crate) fn drain(backend: &mut XfrmBackend) -> Drained {
    Drained::of(backend, Channel::XfrmRequest)
}

/// The event that one multicast datagram causes.
pub(crate) fn events_of(octets: &[u8]) -> Vec<KernelEvent> {
    let mut backend = XfrmBackend::new(PORT);
    backend.received(at(0), Channel::XfrmEvent, octets);
    drain(&mut backend).events
}

/// A netlink message.
pub(crate) fn netlink(kind: u16, flags: u16, seq: u32, pid: u32, body: &[u8]) -> Vec<u8> {
    let mut octets = u32::try_from(16 + body.len()).unwrap().to_ne_bytes().to_vec();
    octets.extend(kind.to_ne_bytes());
    octets.extend(flags.to_ne_bytes());
    octets.extend(seq.to_ne_bytes());
    octets.extend(pid.to_ne_bytes());
    octets.extend(body);
    octets
}

pub(crate) fn word(octets: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(octets[at..at + 4].try_into().unwrap())
}

pub(crate) fn kind(octets: &[u8]) -> u16 {
    u16::from_ne_bytes(octets[4..6].try_into().unwrap())
}

pub(crate) fn flags(octets: &[u8]) -> u16 {
    u16::from_ne_bytes(octets[6..8].try_into().unwrap())
}

pub(crate) fn seq(octets: &[u8]) -> u32 {
    word(octets, 8)
}

/// NLMSG_ERROR for a request, with an extended acknowledgement if there are words.
pub(crate) fn acknowledgement(request: &[u8], errno: i32, words: &str) -> Vec<u8> {
    let mut body = (-errno).to_ne_bytes().to_vec();
    body.extend(&request[..16]);
    let mut flags = 0x100;
    if !words.is_empty() {
        flags |= 0x200;
        body.extend(u16::try_from(words.len() + 5).unwrap().to_ne_bytes());
        body.extend(1u16.to_ne_bytes());
        body.extend(words.as_bytes());
        body.push(0);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    netlink(2, flags, seq(request), PORT, &body)
}
