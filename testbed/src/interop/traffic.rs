//! What the cases send through the SAs: echo requests and Mobility Header messages.

use std::net::Ipv6Addr;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use watari_sys::{MobilitySend, MobilitySocket};

use super::case::{Family, Terms, Who};
use super::net::{Hosts, protected};
use crate::uml::guest::tool;
use crate::uml::{Context as _, Failure, Result};

/// Echo requests between the protected addresses, under way.
pub(super) struct Pings {
    sent: usize,
    from: Who,
    process: Child,
}

impl Pings {
    /// Starts `count` echo requests, one each 20 ms.
    pub(super) fn start(hosts: &Hosts, terms: &Terms, from: Who, count: usize) -> Result<Self> {
        let family = match terms.family {
            Family::V6 => "-6",
            Family::V4 => "-4",
        };
        let mut command = tool("ping");
        command
            .args([family, "-n", "-i", "0.02", "-W", "2", "-c", &count.to_string()])
            .args(["-I", protected(from, terms), protected(from.other(), terms)])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        Ok(Self { sent: count, from, process: hosts.of(from).start(&mut command)? })
    }

    /// Waits for the last one; how many were answered.
    pub(super) fn answered(self) -> Result<usize> {
        let output = self.process.wait_with_output().context("ping")?;
        Ok(String::from_utf8_lossy(&output.stdout).matches("bytes from").count())
    }

    /// Waits for the last one; a missing answer is a failure.
    pub(super) fn all_answered(self) -> Result<()> {
        let (sent, from) = (self.sent, self.from);
        match self.answered()? {
            answered if answered == sent => Ok(()),
            answered => Err(Failure(format!("{answered} of {sent} echo requests from {} were answered", from.host()))),
        }
    }
}

/// Sends Mobility Header messages of one type from one host until one arrives at the other.
pub(super) fn mobility(hosts: &Hosts, from: Who, kind: u8, patience: Duration) -> Result<()> {
    let address = |who| super::net::outer(who, Family::V6).parse::<Ipv6Addr>().context("address");
    let (source, destination) = (address(from)?, address(from.other())?);
    let receiver = hosts.of(from.other()).enter(MobilitySocket::open)?.context("Mobility Header socket")?;
    receiver.bind(destination).context("binding the receiver")?;
    let sender = hosts.of(from).enter(MobilitySocket::open)?.context("Mobility Header socket")?;
    sender.bind(source).context("binding the sender")?;
    // No next header, length 16, type, reserved, checksum left to the kernel, and a body long enough for every type.
    let bytes = [59, 1, kind, 0, 0, 0, 0, 1, 0, 0, 0, 60, 1, 2, 0, 0];
    let begin = Instant::now();
    while begin.elapsed() < patience {
        let message = MobilitySend { bytes: &bytes, source, destination, interface: 0, home_address: None, routing: None };
        // Refused while an SA is being made; the next one will do.
        let _ = sender.send(&message);
        for _ in 0..10 {
            while let Some(message) = receiver.receive().context("receiving")? {
                if message.bytes.get(2) == Some(&kind) {
                    return Ok(());
                }
            }
            sleep(Duration::from_millis(10));
        }
    }
    Err(Failure(format!("no Mobility Header message of type {kind} from {} arrived", from.host())))
}
