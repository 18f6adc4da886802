//! Local addresses, links and default routes: the descriptor that tells of them with the monitor that reads it.
//! On Linux rtnetlink; on FreeBSD the routing socket and the questions its messages leave open.

use std::io;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use watari_engine::Input;
use watari_kernel::Now;
use watari_sys::Received;

use crate::descriptor::{read_some, watch};

/// Room for what an interface with hundreds of addresses says when it goes down.
const RECEIVE_BUFFER: usize = 1024 * 1024;

/// The source of address events.
#[cfg(target_os = "linux")]
pub(crate) struct Addresses {
    monitor: watari_route::RouteMonitor,
    socket: AsyncFd<watari_sys::NetlinkSocket>,
}

#[cfg(target_os = "linux")]
impl Addresses {
    /// Opens the descriptor; the first `drain` asks for everything that is there.
    pub(crate) fn open() -> io::Result<Self> {
        let socket = watari_sys::NetlinkSocket::open(watari_sys::NetlinkFamily::Route, &watari_route::GROUPS, RECEIVE_BUFFER)?;
        Ok(Self { monitor: watari_route::RouteMonitor::new(), socket: watch(socket)? })
    }

    /// Reads what waits.
    pub(crate) fn read(&mut self, _now: Now) {
        read_some(&self.socket, watari_sys::NetlinkSocket::receive, |received| match received {
            Received::Datagram(octets) => self.monitor.received(&octets),
            _ => self.monitor.overrun(),
        });
    }

    /// Asks what is to be asked and hands over what was told; the next time it wants to be called.
    pub(crate) fn drain(&mut self, _now: Now, inputs: &mut Vec<Input>) -> Option<Duration> {
        use watari_kernel::BackendOutput;

        loop {
            match self.monitor.poll() {
                BackendOutput::Send(_, octets) => {
                    if self.socket.get_ref().send(&octets).is_err() {
                        return None;
                    }
                }
                BackendOutput::Event(event) => inputs.push(Input::Kernel(event)),
                BackendOutput::Done(..) => {}
                BackendOutput::Wait(_) => return None,
            }
        }
    }

    /// The time that `drain` gave has come.
    pub(crate) fn timeout(&mut self, _now: Now) {}
}

/// The source of address events.
#[cfg(target_os = "freebsd")]
pub(crate) struct Addresses {
    monitor: watari_route::rtsock::RtsockMonitor,
    socket: AsyncFd<watari_sys::RouteSocket>,
}

#[cfg(target_os = "freebsd")]
impl Addresses {
    /// Opens the descriptor; the first `drain` asks for everything that is there.
    pub(crate) fn open() -> io::Result<Self> {
        let socket = watari_sys::RouteSocket::open(RECEIVE_BUFFER)?;
        let layout = watari_route::rtsock::Layout::NATIVE;
        Ok(Self { monitor: watari_route::rtsock::RtsockMonitor::new(layout), socket: watch(socket)? })
    }

    /// Reads what waits.
    pub(crate) fn read(&mut self, now: Now) {
        read_some(&self.socket, watari_sys::RouteSocket::receive, |received| match received {
            Received::Datagram(octets) => self.monitor.received(now.boot, &octets),
            _ => self.monitor.overrun(),
        });
    }

    /// Asks what is to be asked and hands over what was told; the next time it wants to be called.
    pub(crate) fn drain(&mut self, now: Now, inputs: &mut Vec<Input>) -> Option<Duration> {
        use watari_route::rtsock::{Query, RtsockOutput};

        loop {
            match self.monitor.poll() {
                RtsockOutput::Ask(Query::Interfaces) => self.monitor.interfaces(now.boot, watari_sys::interface_list().ok().as_deref()),
                RtsockOutput::Ask(Query::Flags { interface, address }) => {
                    // A question that could not be put leaves the address as it was told.
                    if let Ok(flags) = watari_sys::address_flags(interface, address) {
                        self.monitor.flags(now.boot, interface, address, flags);
                    }
                }
                RtsockOutput::Event(event) => inputs.push(Input::Kernel(event)),
                RtsockOutput::Wait(deadline) => return deadline,
            }
        }
    }

    /// The time that `drain` gave has come.
    pub(crate) fn timeout(&mut self, now: Now) {
        self.monitor.timeout(now.boot);
    }
}

impl Addresses {
    /// Waits until the descriptor can be read.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await.map(|mut guard| guard.retain_ready())
    }
}
