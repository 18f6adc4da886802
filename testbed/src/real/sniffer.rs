//! An ear on one host's interfaces (AF_PACKET): what comes and goes, as soon as it does, in the judge's words.

use std::io::Read;

use socket2::{Domain, Protocol, Socket, Type};

use crate::judge::pcap::{Capture, Packet};
use crate::uml::{Context, Result};

/// ETH_P_ALL: an ear for one ethertype would not hear what its own host sends.
const EVERY_ETHERTYPE: u16 = 3;
const LINK_TYPE_ETHERNET: u32 = 1;
const LARGEST_FRAME: usize = 65_536;

/// A socket that hears every frame its host sends or receives.
pub(crate) struct Sniffer(Socket);

impl Sniffer {
    /// Opens it in the calling thread's network namespace.
    pub(crate) fn open() -> Result<Self> {
        let protocol = Protocol::from(i32::from(EVERY_ETHERTYPE.to_be()));
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol)).context("AF_PACKET socket")?;
        socket.set_nonblocking(true).context("AF_PACKET socket")?;
        Ok(Self(socket))
    }

    /// Forgets what was heard so far.
    pub(crate) fn skip(&mut self) {
        while self.frame().is_some() {}
    }

    /// What was heard since the last call.
    pub(crate) fn packets(&mut self) -> Vec<Packet> {
        let mut file = Vec::new();
        for word in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 0xffff, LINK_TYPE_ETHERNET] {
            file.extend_from_slice(&u32::to_le_bytes(word));
        }
        while let Some(frame) = self.frame() {
            let length = u32::try_from(frame.len()).unwrap_or_default();
            for word in [0, 0, length, length] {
                file.extend_from_slice(&u32::to_le_bytes(word));
            }
            file.extend_from_slice(&frame);
        }
        Capture::parse(&file).map(|capture| capture.packets).unwrap_or_default()
    }

    fn frame(&mut self) -> Option<Vec<u8>> {
        let mut frame = vec![0; LARGEST_FRAME];
        let length = self.0.read(&mut frame).ok()?;
        frame.truncate(length);
        Some(frame)
    }
}
