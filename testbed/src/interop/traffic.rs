//! What the cases send through the SAs: echo requests and Mobility Header messages.

use std::net::{IpAddr, Ipv6Addr, UdpSocket};
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
        self.answered_but(0)
    }

    /// The same, with so many answers that may be missing.
    pub(super) fn answered_but(self, lost: usize) -> Result<()> {
        let (sent, from) = (self.sent, self.from);
        match self.answered()? {
            answered if answered + lost >= sent => Ok(()),
            answered => Err(Failure(format!("{answered} of {sent} echo requests from {} were answered", from.host()))),
        }
    }
}

/// Sends an IKE_SA_INIT request that nobody will carry on, from a port that is not IKE's, and waits for the answer.
pub(super) fn half_open(hosts: &Hosts, terms: &Terms) -> Result<()> {
    let peer = super::net::outer(Who::Peer, terms.family).parse::<IpAddr>().context("address")?;
    let us = super::net::outer(Who::Us, terms.family).parse::<IpAddr>().context("address")?;
    let socket = hosts.of(Who::Us).enter(|| UdpSocket::bind((us, 5500)))?.context("binding port 5500")?;
    socket.set_read_timeout(Some(Duration::from_secs(3))).context("timeout")?;
    // SPI, next payload SA, version 2.0, IKE_SA_INIT, initiator, message id 0.
    let mut message = vec![0x5a; 8];
    message.extend([0; 8]);
    message.extend([33, 0x20, 34, 0x08, 0, 0, 0, 0]);
    // AES-GCM-16 with 128 bits, HMAC-SHA2-256, Curve25519.
    let proposal = [0, 0, 0, 36, 1, 1, 0, 3, 3, 0, 0, 12, 1, 0, 0, 20, 0x80, 14, 0, 128, 3, 0, 0, 8, 2, 0, 0, 5, 0, 0, 0, 8, 4, 0, 0, 31];
    let payloads = [[34, 0, 0, 40].as_slice(), &proposal, &[40, 0, 0, 40, 0, 31, 0, 0], &[9; 32], &[0, 0, 0, 36], &[7; 32]].concat();
    let length = u32::try_from(28 + payloads.len()).context("length")?;
    message.extend(length.to_be_bytes());
    message.extend(payloads);
    socket.send_to(&message, (peer, 500)).context("sending to port 500")?;
    socket.recv(&mut [0; 2048]).context("the stranger's IKE_SA_INIT was not answered")?;
    Ok(())
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
