//! PF_KEY (RFC 2367 and its extensions) as a listener for SADB_X_MIGRATE, sans-IO: octets in, kernel events out.
//! Invariant: whatever arrives becomes an event, nothing, or `Malformed`; never a panic. Nothing needs to be registered or sent.

mod linux;
mod message;

use watari_kernel::{Channel, KernelEvent, Migrate};

use message::Message;

/// SADB_X_MIGRATE, the same number in every dialect.
const X_MIGRATE: u8 = 24;
/// Octets of a malformed message that are kept.
const LOGGED_OCTETS: usize = 512;

/// What a kernel's extensions look like beyond RFC 2367.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// Linux net/key/af_key.c.
    #[default]
    Linux,
}

impl Dialect {
    fn migrate(self, message: &Message<'_>) -> Result<Migrate, String> {
        match self {
            Self::Linux => linux::migrate(message),
        }
    }
}

/// Reads what a PF_KEY socket delivers.
#[derive(Clone, Debug, Default)]
pub struct KeyListener {
    dialect: Dialect,
}

impl KeyListener {
    /// A listener for one kernel's dialect.
    #[must_use]
    pub const fn new(dialect: Dialect) -> Self {
        Self { dialect }
    }

    /// Takes one datagram, which PF_KEY makes one message; `None` if it is no announcement of a MIGRATE.
    #[must_use]
    pub fn received(&self, octets: &[u8]) -> Option<KernelEvent> {
        let event = match Message::read(octets) {
            // An error goes to whoever sent the request that failed: nothing moved.
            Ok(message) if message.kind != X_MIGRATE || message.errno != 0 => return None,
            Ok(message) => self.dialect.migrate(&message).map(KernelEvent::Migrate),
            Err(why) => Err(why),
        };
        Some(event.unwrap_or_else(|why| malformed(why, octets)))
    }
}

fn malformed(why: String, octets: &[u8]) -> KernelEvent {
    KernelEvent::Malformed { channel: Channel::Key, why, octets: octets.get(..LOGGED_OCTETS).unwrap_or(octets).to_vec() }
}
