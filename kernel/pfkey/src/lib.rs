//! PF_KEY version 2 (RFC 2367) with the SADB_X extensions as a kernel back end, sans-IO, and alone as a listener for SADB_X_MIGRATE.
//! Invariant: whatever arrives becomes an answer, an event, nothing, or `Malformed` with the offset; never a panic.

mod algorithm;
mod backend;
mod convert;
mod dialect;
mod event;
mod extension;
mod job;
mod listener;
mod message;
mod migrate;
mod packet;
mod policies;
mod policy;
mod probe;
mod sa;
mod sources;

pub use backend::KeyBackend;
pub use dialect::Dialect;
pub use listener::KeyListener;
pub use packet::TriggeringPacket;

/// Octets of a malformed message that are kept.
const LOGGED_OCTETS: usize = 512;

/// SADB_X_MIGRATE of a main policy as a Mobile IPv6 daemon sends it to Linux, or as the kernel of the dialect announces it: octets for a
/// PF_KEY socket, or why the values make no such message. Linux answers a refusal with `seq` and `pid`, and a success not at all.
///
/// # Errors
/// In words, if the selector, the number of steps or their addresses cannot be said in PF_KEY.
pub fn migrate_request(dialect: Dialect, migrate: &watari_kernel::Migrate, seq: u32, pid: u32) -> Result<Vec<u8>, String> {
    migrate::write(dialect, migrate)?.into_octets(seq, pid)
}

/// SADB_ACQUIRE with an error, the answer to the ACQUIRE with number `seq` whose SA could not be negotiated: octets for a PF_KEY socket.
///
/// # Errors
/// Never for this message; the type is that of every writer.
pub fn refuse_acquire(dialect: Dialect, seq: u32, pid: u32) -> Result<Vec<u8>, String> {
    sa::refuse_acquire(dialect).into_octets(seq, pid)
}

/// SADB_FLUSH of every SA, or SADB_X_SPDFLUSH of every policy of the main set: octets for a PF_KEY socket.
///
/// # Errors
/// Never for these messages; the type is that of every writer.
pub fn flush_request(policies: bool, seq: u32, pid: u32) -> Result<Vec<u8>, String> {
    let kind = if policies { message::Kind::SpdFlush } else { message::Kind::Flush };
    message::Outgoing::new(kind, extension::SATYPE_UNSPEC).into_octets(seq, pid)
}
