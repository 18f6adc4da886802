//! Socket options that the standard library and socket2 do not name.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Sets one option to the given octets (setsockopt(2)).
pub(crate) fn set(socket: &impl AsFd, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let length = libc::socklen_t::try_from(value.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: the descriptor is borrowed for the call, and pointer and length describe one live slice that the kernel only reads.
    let result = unsafe { libc::setsockopt(socket.as_fd().as_raw_fd(), level, name, value.as_ptr().cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets one option to an integer.
pub(crate) fn set_int(socket: &impl AsFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    set(socket, level, name, &value.to_ne_bytes())
}

/// Asks for a receive buffer of `bytes` octets: beyond the system limit with CAP_NET_ADMIN, up to it without.
#[cfg(target_os = "linux")]
pub(crate) fn set_receive_buffer(socket: &impl AsFd, bytes: usize) -> io::Result<()> {
    let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
    set_int(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes).or_else(|_| set_int(socket, libc::SOL_SOCKET, libc::SO_RCVBUF, bytes))
}

/// Asks for a receive buffer of `bytes` octets, or the largest that the system allows (kern.ipc.maxsockbuf refuses, it does not cut).
#[cfg(not(target_os = "linux"))]
pub(crate) fn set_receive_buffer(socket: &impl AsFd, bytes: usize) -> io::Result<()> {
    const LEAST: i32 = 64 * 1024;
    let mut bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
    loop {
        match set_int(socket, libc::SOL_SOCKET, libc::SO_RCVBUF, bytes) {
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) && bytes > LEAST => bytes /= 2,
            result => return result,
        }
    }
}

/// Octets of the receive buffer that are taken, as the kernel counts them, and its size (SO_MEMINFO).
#[cfg(target_os = "linux")]
pub(crate) fn receive_memory(socket: &impl AsFd) -> Option<(u32, u32)> {
    /// SO_MEMINFO of asm-generic/socket.h.
    const MEMORY: i32 = 55;
    let mut counters = [0_u32; 9];
    let mut length = libc::socklen_t::try_from(size_of_val(&counters)).ok()?;
    // SAFETY: the descriptor is borrowed for the call, and pointer and length describe one live array of which the kernel writes at most
    // that many octets; any octets are valid integers.
    let result =
        unsafe { libc::getsockopt(socket.as_fd().as_raw_fd(), libc::SOL_SOCKET, MEMORY, counters.as_mut_ptr().cast(), &raw mut length) };
    // SK_MEMINFO_RMEM_ALLOC and SK_MEMINFO_RCVBUF.
    (result == 0 && length >= 8).then_some((counters[0], counters[1]))
}
