//! PF_KEY as a mere listener for SADB_X_MIGRATE, beside another back end. Nothing needs to be registered or sent.

use watari_kernel::{Channel, KernelEvent};

use crate::dialect::Dialect;
use crate::message::{Kind, Message, loggable};
use crate::{LOGGED_OCTETS, migrate};

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
            Ok(message) if message.kind != Kind::Migrate || message.errno != 0 => return None,
            Ok(message) => migrate::read(self.dialect, &message).map(KernelEvent::Migrate),
            Err(why) => Err(why),
        };
        Some(event.unwrap_or_else(|why| malformed(why, octets)))
    }
}

/// The report on a message that could not be read.
pub(crate) fn malformed(why: String, octets: &[u8]) -> KernelEvent {
    KernelEvent::Malformed { channel: Channel::Key, why, octets: loggable(octets, LOGGED_OCTETS) }
}
