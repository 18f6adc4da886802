//! Watching a descriptor for input: the one place that hands a socket of `watari-sys` to the runtime.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use watari_sys::Received;

/// Most messages taken from one descriptor before the others get their turn.
const BATCH: usize = 64;

/// Watches a socket that owns its descriptor.
#[allow(
    deprecated,
    reason = "the other constructor is `unsafe`, which only kernel/sys may use; `AsFd` here asks for the ownership it is about"
)]
pub(crate) fn watch<T: AsFd + AsRawFd>(socket: T) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(socket, Interest::READABLE)
}

/// Reads from a descriptor what waits, up to a batch.
pub(crate) fn read_some<T: AsRawFd>(socket: &AsyncFd<T>, receive: fn(&T) -> io::Result<Received>, mut take: impl FnMut(Received)) {
    for _ in 0..BATCH {
        match receive(socket.get_ref()) {
            Ok(Received::WouldBlock) | Err(_) => {
                // Only now is the descriptor known to be empty: the next readiness is a new one.
                let _ = socket.try_io(Interest::READABLE, |_| Err::<(), _>(io::ErrorKind::WouldBlock.into()));
                return;
            }
            Ok(received) => take(received),
        }
    }
}
