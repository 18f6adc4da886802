//! Whole datagrams from kernel sockets, whatever their size.

use std::io;

use socket2::Socket;

use crate::Received;

/// Sorts the errors that are news into [`Received`].
pub(crate) fn without_data(error: io::Error) -> io::Result<Received> {
    match error.raw_os_error() {
        Some(libc::ENOBUFS) => Ok(Received::Overrun),
        Some(libc::EAGAIN | libc::EINTR) => Ok(Received::WouldBlock),
        _ => Err(error),
    }
}

/// Takes the next datagram of a connectionless kernel socket.
#[cfg(target_os = "linux")]
pub(crate) fn whole(socket: &Socket) -> io::Result<Received> {
    use std::mem::MaybeUninit;

    // Linux tells the length of a datagram beforehand.
    let flags = libc::MSG_DONTWAIT | libc::MSG_PEEK | libc::MSG_TRUNC;
    let size = match socket.recv_with_flags(&mut [MaybeUninit::uninit(); 16], flags) {
        Ok(size) => size,
        Err(error) => return without_data(error),
    };
    read(socket, size)
}

/// Takes the next datagram of a connectionless kernel socket.
#[cfg(not(target_os = "linux"))]
pub(crate) fn whole(socket: &Socket) -> io::Result<Received> {
    // Neither PF_KEY nor PF_ROUTE has longer messages: their lengths are 16 bits of octets or of little more than them.
    read(socket, crate::MAX_DATAGRAM)
}

fn read(socket: &Socket, size: usize) -> io::Result<Received> {
    let mut bytes: Vec<u8> = Vec::with_capacity(size);
    match socket.recv_with_flags(bytes.spare_capacity_mut(), libc::MSG_DONTWAIT) {
        Ok(length) => {
            // SAFETY: recv wrote `length` octets into the spare capacity and, without MSG_TRUNC, never reports more than it wrote.
            unsafe { bytes.set_len(length.min(bytes.capacity())) };
            Ok(Received::Datagram(bytes))
        }
        Err(error) => without_data(error),
    }
}
