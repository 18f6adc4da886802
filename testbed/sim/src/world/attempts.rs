//! Handshakes begun: how many, and which of them a movement cut off before anybody had answered.

use super::World;
use super::network::exchange_of;

/// One IKE_SA_INIT request and its repeats.
pub(super) struct Attempt {
    host: usize,
    spi: u64,
    /// How often its host had moved when it left first.
    moves: u32,
    /// Whether a response reached the host.
    answered: bool,
}

impl World<'_> {
    /// An IKE datagram is handed to a link, or would be if there were one.
    pub(super) fn attempted(&mut self, host: usize, octets: &[u8], port: u16) {
        let Some((spi, false)) = init(octets, port) else { return };
        if !self.attempts.iter().any(|attempt| attempt.spi == spi) {
            let moves = self.hosts.get(host).map_or(0, |host| host.moves);
            self.attempts.push(Attempt { host, spi, moves, answered: false });
        }
    }

    /// Attempts that were unanswered when their host moved, and that another one followed: each makes one more IKE_SA_INIT right,
    /// because NAT hashes and cookie of the first belong to the address that is gone.
    pub fn cut_off(&self) -> u32 {
        let followed = |at: usize, attempt: &Attempt| {
            let next = self.attempts.iter().skip(at.saturating_add(1)).find(|next| next.host == attempt.host);
            !attempt.answered && next.is_some_and(|next| next.moves > attempt.moves)
        };
        let cut = self.attempts.iter().enumerate().filter(|(at, attempt)| followed(*at, attempt)).count();
        u32::try_from(cut).unwrap_or(u32::MAX)
    }
}

/// An IKE datagram reached a host.
pub(super) fn answered(attempts: &mut [Attempt], host: usize, octets: &[u8], port: u16) {
    let Some((spi, true)) = init(octets, port) else { return };
    if let Some(attempt) = attempts.iter_mut().find(|attempt| attempt.host == host && attempt.spi == spi) {
        attempt.answered = true;
    }
}

/// Initiator SPI of an IKE_SA_INIT message, and whether it is a response.
fn init(octets: &[u8], port: u16) -> Option<(u64, bool)> {
    let marker = if port == 4500 { 4 } else { 0 };
    match exchange_of(octets, port)? {
        (34, response) => octets.get(marker..)?.first_chunk().map(|spi| (u64::from_be_bytes(*spi), response)),
        _ => None,
    }
}
