//! Shared by the tests: time, hexadecimal, messages laid out octet by octet, and outputs of a back end.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "each test binary uses a part"
)]

#[path = "../../../tests/support/drained.rs"]
mod drained;

pub(crate) use drained::{Drained, at};
use watari_kernel::{Backend, Channel};
use watari_pfkey::{Dialect, KeyBackend};

/// The process id in the back end's own requests.
pub(crate) const PID: u32 = 0x5151;

/// Hexadecimal digits, whatever stands between them but `/` and what follows it on a line.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digits: String =
        text.lines().filter_map(|line| line.split('/').next()).flat_map(str::chars).filter(char::is_ascii_hexdigit).collect();
    assert_eq!(digits.len() % 2, 0, "{text}");
    (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap()).collect()
}

pub(crate) fn drain(backend: &mut KeyBackend) -> Drained {
    Drained::of(backend, Channel::Key)
}

pub(crate) fn backend() -> KeyBackend {
    KeyBackend::new(Dialect::Linux, PID)
}

pub(crate) fn hear(backend: &mut KeyBackend, octets: &[u8]) -> Drained {
    backend.received(at(1), Channel::Key, octets);
    drain(backend)
}

fn word(octets: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(octets[at..at + 4].try_into().unwrap())
}

pub(crate) fn kind(octets: &[u8]) -> u8 {
    octets[1]
}

pub(crate) fn seq(octets: &[u8]) -> u32 {
    word(octets, 8)
}

pub(crate) fn pid(octets: &[u8]) -> u32 {
    word(octets, 12)
}

/// A message of this type with these extensions, for whoever sent `request`.
pub(crate) fn message(kind: u8, satype: u8, seq: u32, pid: u32, extensions: &[u8]) -> Vec<u8> {
    let mut octets = vec![2, kind, 0, satype];
    octets.extend(u16::try_from((16 + extensions.len()) / 8).unwrap().to_ne_bytes());
    octets.extend([0, 0]);
    octets.extend(seq.to_ne_bytes());
    octets.extend(pid.to_ne_bytes());
    octets.extend(extensions);
    octets
}

/// What Linux answers to a request it refuses: the header alone, with the error.
pub(crate) fn refused(request: &[u8], errno: u8) -> Vec<u8> {
    let mut octets = message(request[1], request[3], seq(request), pid(request), &[]);
    octets[2] = errno;
    octets
}

/// What Linux broadcasts of a request that it did: here the request itself.
pub(crate) fn echo(request: &[u8]) -> Vec<u8> {
    request.to_vec()
}

/// A recorded message as the answer to a request: type, number and process id of the request.
pub(crate) fn row(request: &[u8], recorded: &[u8], left: u32) -> Vec<u8> {
    let mut octets = recorded.to_vec();
    octets[1] = request[1];
    octets[8..12].copy_from_slice(&left.to_ne_bytes());
    octets[12..16].copy_from_slice(&request[12..16]);
    octets
}
