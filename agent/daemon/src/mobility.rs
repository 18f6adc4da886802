//! The protected Mobility Header sockets: one for each reqid that the agent names, admitting only what came in an ESP SA of that reqid.
//! A socket that cannot be opened is said once in words; K is then taken to be set, and MIGRATE is believed.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::task::Poll;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use watari_engine::{Heard, Input, Listen, MobilityInput, Role};
use watari_sys::{MobilityMessage, MobilitySocket, ProtectedMobility};

use crate::descriptor::watch;

/// Most messages taken from one socket before others get their turn.
const BATCH: usize = 64;

/// Every protected socket by what it listens to.
#[derive(Default)]
pub(crate) struct MobilitySockets {
    open: BTreeMap<Listen, AsyncFd<MobilitySocket>>,
    /// The most sockets that were ever said to be missing.
    complained: usize,
}

impl MobilitySockets {
    /// Opens what is wanted and closes what is not; what is open now, for the agent.
    pub(crate) fn listen(&mut self, wanted: &[Listen], warn: &mut dyn FnMut(String)) -> Vec<Input> {
        self.open.retain(|socket, _| wanted.contains(socket));
        let new: Vec<Listen> = wanted.iter().filter(|socket| !self.open.contains_key(socket)).copied().collect();
        let mut inputs = Vec::new();
        let mut failures = Vec::new();
        for socket in new {
            let opened = open(socket);
            inputs.push(Input::Mobility(MobilityInput::Listening { socket, open: opened.is_ok() }));
            match opened {
                Ok(descriptor) => {
                    self.open.insert(socket, descriptor);
                }
                Err(error) => failures.push(error),
            }
        }
        if let Some(first) = failures.first().filter(|_| failures.len() > self.complained) {
            warn(complaint(failures.len(), wanted.len(), first));
            self.complained = failures.len();
        }
        inputs
    }

    /// Waits until a socket can be read; for ever if there is none.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        poll_fn(|context| {
            for descriptor in self.open.values() {
                if let Poll::Ready(ready) = descriptor.poll_read_ready(context) {
                    return Poll::Ready(ready.map(|_| ()));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Takes what waits in any socket.
    pub(crate) fn read(&self) -> Vec<Input> {
        let mut inputs = Vec::new();
        for (socket, descriptor) in &self.open {
            for _ in 0..BATCH {
                match descriptor.get_ref().receive() {
                    Ok(Some(message)) => inputs.push(Input::Mobility(MobilityInput::Heard(heard(*socket, message)))),
                    Ok(None) | Err(_) => {
                        // Only now is the descriptor known to be empty: the next readiness is a new one.
                        let _ = descriptor.try_io(Interest::READABLE, |_| Err::<(), _>(io::ErrorKind::WouldBlock.into()));
                        break;
                    }
                }
            }
        }
        inputs
    }
}

/// What to say of sockets that could not be opened.
fn complaint(missing: usize, wanted: usize, error: &io::Error) -> String {
    use rustix::io::Errno;

    let remedy = match Errno::from_io_error(error) {
        Some(Errno::PERM | Errno::ACCESS) => "; CAP_NET_RAW and CAP_NET_ADMIN are needed",
        Some(Errno::MFILE | Errno::NFILE) => "; raise the limit of open files (LimitNOFILE=, `ulimit -Hn`)",
        _ => "",
    };
    format!(
        "binding messages of {missing} of {wanted} sockets cannot be seen ({error}{remedy}): for them K is taken to be set and every \
         MIGRATE is believed; what closes that hole are any-type policies, `IPsecPolicy Mh` in mip6d.conf and binding_selector = \"any\" here"
    )
}

fn open(socket: Listen) -> io::Result<AsyncFd<MobilitySocket>> {
    let beside = match socket.role {
        Role::HomeAgent => ProtectedMobility::HomeAddressOption,
        Role::MobileNode => ProtectedMobility::RoutingHeader,
    };
    watch(MobilitySocket::protected(socket.reqid.0, beside, socket.message_types())?)
}

fn heard(socket: Listen, message: MobilityMessage) -> Heard {
    Heard {
        socket,
        source: message.source.into(),
        destination: message.destination.into(),
        came_from: message.came_from.map(Into::into),
        sent_to: message.sent_to.map(Into::into),
        octets: message.bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_complaint_says_what_failed_and_what_helps() {
        let of = |errno: i32| complaint(3, 9000, &io::Error::from_raw_os_error(errno));
        let (refused, full, other) = (of(1), of(24), of(92));
        assert!(refused.contains("any-type policies"), "{refused}");
        assert!(refused.contains("3 of 9000") && refused.contains("CAP_NET_RAW"), "{refused}");
        assert!(full.contains("os error 24") && full.contains("LimitNOFILE") && !full.contains("CAP_"), "{full}");
        assert!(other.contains("os error 92") && !other.contains("CAP_"), "{other}");
    }
}
