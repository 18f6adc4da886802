//! Watching a descriptor for input: the one place that hands a socket of `watari-sys` to the runtime.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches a socket that owns its descriptor.
#[allow(
    deprecated,
    reason = "the other constructor is `unsafe`, which only kernel/sys may use; `AsFd` here asks for the ownership it is about"
)]
pub(crate) fn watch<T: AsFd + AsRawFd>(socket: T) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(socket, Interest::READABLE)
}
