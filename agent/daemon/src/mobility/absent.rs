//! Systems without per-socket IPsec policies for raw Mobility Header sockets: nothing can be listened to, which is said once.

use std::io;

use watari_engine::{Input, Listen, MobilityInput};

/// No socket at all.
#[derive(Default)]
pub(crate) struct MobilitySockets {
    complained: bool,
}

impl MobilitySockets {
    /// Says that nothing is open.
    pub(crate) fn listen(&mut self, wanted: &[Listen], warn: &mut dyn FnMut(String)) -> Vec<Input> {
        if !wanted.is_empty() && !self.complained {
            self.complained = true;
            warn(
                "binding messages cannot be seen on this system: K is taken to be set and every MIGRATE is believed; what closes that \
                  hole are any-type policies for the Mobility Header: binding_selector = \"any\""
                    .to_owned(),
            );
        }
        wanted.iter().map(|socket| Input::Mobility(MobilityInput::Listening { socket: *socket, open: false })).collect()
    }

    /// Never ready.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        std::future::pending().await
    }

    /// Nothing.
    pub(crate) fn read(&self) -> Vec<Input> {
        Vec::new()
    }
}
