//! Network namespaces of the calling thread. The daemon never uses this; the testbed does, to open sockets as one of its hosts.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// Moves the calling thread, and only it, into the network namespace that `file` names
/// (`/run/netns/NAME` or `/proc/PID/ns/net`). Needs CAP_SYS_ADMIN. Threads and processes started afterwards inherit it.
pub fn enter_network_namespace(file: &Path) -> io::Result<()> {
    let namespace = File::open(file)?;
    // SAFETY: setns takes two integers; the descriptor is open for the duration of the call.
    let result = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The file that names the calling thread's network namespace, open so that it can be returned to through `/proc/self/fd`.
pub fn current_network_namespace() -> io::Result<File> {
    File::open("/proc/thread-self/ns/net")
}
