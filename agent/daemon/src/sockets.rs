//! The IKE sockets: both ports in both families, exempt from IPsec, the source of every datagram chosen by the engine.
//! Bound to the wildcard, so that addresses may come and go without a new socket.

use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::Poll;

use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use watari_policies::model::Settings;
use watari_sa::{Datagram, Path, Transmit, Undeliverable};
use watari_sys::{IkeSocket, IkeSocketOptions};

use crate::descriptor::watch;

/// One descriptor and its port.
pub(crate) struct Bound {
    socket: AsyncFd<IkeSocket>,
    port: u16,
    ipv6: bool,
}

/// Every IKE descriptor.
pub(crate) struct IkeSockets(Vec<Bound>);

impl IkeSockets {
    /// Opens the four sockets. IPv4 is optional: a host without it still runs.
    pub(crate) fn open(settings: &Settings, warn: &mut dyn FnMut(String)) -> io::Result<Self> {
        let mut sockets = Vec::new();
        for port in [settings.port, settings.natt_port] {
            for ipv6 in [true, false] {
                let any = if ipv6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
                match open_one(SocketAddr::new(any, port), warn) {
                    Ok(socket) => sockets.push(Bound { socket: watch(socket)?, port, ipv6 }),
                    Err(error) if ipv6 => return Err(io::Error::new(error.kind(), format!("UDP port {port}: {error}"))),
                    Err(error) => warn(format!("no IPv4 on UDP port {port}: {error}")),
                }
            }
        }
        Ok(Self(sockets))
    }

    /// Sends a datagram from the address and port its path names.
    pub(crate) fn send(&self, transmit: &Transmit) -> Result<(), (Undeliverable, io::Error)> {
        let Path { local, remote, interface } = transmit.path;
        let Some(bound) = self.0.iter().find(|bound| bound.port == local.port() && bound.ipv6 == remote.is_ipv6()) else {
            return Err((Undeliverable::NoRoute, io::Error::other(format!("no socket for port {}", local.port()))));
        };
        let source = (!local.ip().is_unspecified()).then(|| local.ip());
        let path = watari_sys::Path { local: source, interface, remote };
        bound.socket.get_ref().send(&transmit.octets, &path).map_err(|error| (classify(&error), error))
    }

    /// Waits for a datagram on any socket.
    pub(crate) async fn receive(&self) -> io::Result<Datagram> {
        let mut waits: Vec<_> = self.0.iter().map(|bound| Box::pin(receive_one(bound))).collect();
        poll_fn(|context| {
            for wait in &mut waits {
                if let Poll::Ready(result) = wait.as_mut().poll(context) {
                    return Poll::Ready(result);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Takes a datagram that already waits on any socket.
    pub(crate) fn receive_ready(&self) -> Option<Datagram> {
        self.0.iter().find_map(|bound| match bound.socket.get_ref().receive() {
            Ok(Some(datagram)) => Some(with_path(bound, datagram)),
            _ => None,
        })
    }
}

async fn receive_one(bound: &Bound) -> io::Result<Datagram> {
    loop {
        let mut guard = bound.socket.readable().await?;
        match bound.socket.get_ref().receive() {
            Ok(Some(datagram)) => return Ok(with_path(bound, datagram)),
            Ok(None) => guard.clear_ready(),
            // An ICMP error queued on the socket: not evidence of anything (RFC 7296 2.4).
            Err(_) => {}
        }
    }
}

fn with_path(bound: &Bound, datagram: watari_sys::IkeDatagram) -> Datagram {
    // A global address may move to another interface; only a link-local one means nothing without it.
    let link_local = matches!(datagram.remote.ip(), IpAddr::V6(address) if address.is_unicast_link_local());
    let interface = if link_local { datagram.interface } else { 0 };
    let path = Path { local: SocketAddr::new(datagram.local, bound.port), remote: datagram.remote, interface };
    Datagram { path, octets: datagram.bytes }
}

fn open_one(address: SocketAddr, warn: &mut dyn FnMut(String)) -> io::Result<IkeSocket> {
    let options = IkeSocketOptions { bypass_ipsec: true, udp_encapsulation: false, free_bind: false };
    IkeSocket::open(address, options).or_else(|error| {
        warn(format!("the IPsec bypass of {address} was refused ({error}): block policies of mip6d will stop IKE during moves"));
        IkeSocket::open(address, IkeSocketOptions { bypass_ipsec: false, ..options })
    })
}

fn classify(error: &io::Error) -> Undeliverable {
    match Errno::from_io_error(error) {
        // Linux says EINVAL for a source address that is still tentative or absent.
        Some(Errno::INVAL | Errno::ADDRNOTAVAIL) => Undeliverable::Tentative,
        Some(Errno::PERM | Errno::ACCESS) => Undeliverable::Denied,
        Some(Errno::MSGSIZE) => Undeliverable::TooBig,
        _ => Undeliverable::NoRoute,
    }
}

#[cfg(test)]
mod tests;
