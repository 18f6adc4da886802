//! Requests and responses of an IKE SA: sending, repeating, giving up, caching (RFC 7296 2.1, 2.2, 2.3).
//! Invariant: a repeat is the same octets; at most one request of ours is unanswered.

use std::time::Duration;

use watari_policies::model::Retransmit;
use watari_sa::{Cause, Context, IkeId, KeyingEvent, Path};
use watari_wire::ikev2::{ExchangeType, Flags, Header, Payload};

use crate::Ikev2;
use crate::state::{Outstanding, State};
use crate::timers::Timer;

/// How long after a move repeats are free (DESIGN section 5).
pub(crate) const MOVE_GRACE: Duration = Duration::from_secs(60);
/// How often a source address that is not usable yet is tried.
const ADDRESS_POLL: Duration = Duration::from_millis(100);
/// How long it is tried that often, and before failures count for a peer that Mobile IPv6 does not govern.
const ADDRESS_PATIENCE: u32 = 600;
/// Longest wait between repeats after a move, before the peer has answered.
const MOVE_CAP: Duration = Duration::from_secs(4);

/// How long to wait after sending for the `sends`th time.
fn wait(policy: &Retransmit, sends: u32) -> Duration {
    let mut wait = policy.initial;
    for _ in 1..sends.min(64) {
        //= rfc7296#2.1
        //# the wait grows exponentially from repeat to repeat
        wait = wait.saturating_mul(policy.base_tenths) / 10;
        if wait >= policy.cap {
            break;
        }
    }
    wait.min(policy.cap).max(Duration::from_millis(10))
}

impl Ikev2 {
    /// Seals a request of an IKE SA and sends it.
    pub(crate) fn send_request(&mut self, context: &mut Context<'_>, ike: IkeId, exchange: ExchangeType, payloads: &[Payload]) {
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        let id = sa.window.next_request;
        let header = Header::new(sa.spi_i, sa.spi_r, exchange, Flags::new(sa.initiator, false), id);
        let Some(crypt) = sa.state.crypt_mut() else { return };
        match crypt.seal(context.provider, context.rng, &header, payloads) {
            Ok(octets) => self.launch(context, ike, exchange, id, octets),
            Err(error) => self.drop_message(sa_path(self, ike), Cause::UNEXPECTED, format!("a request could not be sealed: {error}")),
        }
    }

    /// Sends a request for the first time.
    pub(crate) fn launch(&mut self, context: &mut Context<'_>, ike: IkeId, exchange: ExchangeType, id: u32, octets: Vec<u8>) {
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        let transmit = self.out.transmit_request(context, ike, sa.path, octets.clone());
        sa.window.next_request = id;
        let outstanding =
            Outstanding { id, exchange, octets, sends: 1, failures: 0, copied: 0, repeats: 0, transmit, unsent: false, rests: false };
        if let Some(old) = sa.window.outstanding.replace(outstanding) {
            self.out.forget_transmit(old.transmit);
        }
        self.copy_to_candidate(context, ike);
        self.set_retransmit(context, ike);
    }

    /// Sends the outstanding request again, octet for octet, from where the IKE SA is now.
    pub(crate) fn resend(&mut self, context: &mut Context<'_>, ike: IkeId) {
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        let Some(outstanding) = &mut sa.window.outstanding else { return };
        //= rfc7296#2.1
        //# a retransmission is bitwise identical to the original
        self.out.forget_transmit(outstanding.transmit);
        outstanding.transmit = self.out.transmit_request(context, ike, sa.path, outstanding.octets.clone());
        outstanding.sends = outstanding.sends.saturating_add(1);
        (outstanding.unsent, outstanding.rests) = (false, false);
        self.awaiting.remove(&(sa.path.local.ip(), ike));
        self.timers.clear(Timer::AwaitAddress(ike));
        self.copy_to_candidate(context, ike);
        self.set_retransmit(context, ike);
    }

    fn set_retransmit(&mut self, context: &Context<'_>, ike: IkeId) {
        let Some(sa) = self.sas.get(&ike) else { return };
        let Some(outstanding) = &sa.window.outstanding else { return };
        let policy = sa.remote.and_then(|remote| context.config.remote(remote)).map_or(FALLBACK, |remote| remote.retransmit);
        // Attempts that could not leave this host for want of an address do not lengthen the wait.
        let delay = if sa.moved.is_some() {
            wait(&policy, outstanding.sends).min(MOVE_CAP)
        } else {
            wait(&policy, outstanding.repeats.saturating_add(1))
        };
        self.timers.set(Timer::Retransmit(ike), context.now.boot.saturating_add(delay));
    }

    /// The outstanding request was answered: the window moves on.
    pub(crate) fn request_answered(&mut self, ike: IkeId) {
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        if let Some(outstanding) = sa.window.outstanding.take() {
            self.out.forget_transmit(outstanding.transmit);
            self.awaiting.remove(&(sa.path.local.ip(), ike));
            //= rfc7296#2.2
            //# each request has the next message id
            sa.window.next_request = outstanding.id.saturating_add(1);
        }
        self.timers.clear(Timer::Retransmit(ike));
        self.timers.clear(Timer::AwaitAddress(ike));
    }

    /// Stops repeating the outstanding request without an answer.
    pub(crate) fn forget_request(&mut self, ike: IkeId) {
        self.request_answered(ike);
    }

    /// A repeat is due.
    pub(crate) fn retransmit_due(&mut self, context: &mut Context<'_>, ike: IkeId) {
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        if let State::AwaitInit(attempt) = &mut sa.state {
            if attempt.answered.is_some() {
                return self.set_retransmit(context, ike);
            }
            if let Some(refusal) = attempt.refusal.take_if(|refusal| refusal.last_word) {
                return self.attempt_failed(context, ike, refusal.cause, refusal.detail);
            }
        }
        let policy = sa.remote.and_then(|remote| context.config.remote(remote)).map_or(FALLBACK, |remote| remote.retransmit);
        // Between a move and the peer's first answer repeats are free: the registration may still be under way.
        let free = sa.moved.is_some_and(|since| context.now.boot < since.saturating_add(MOVE_GRACE));
        let Some(outstanding) = &mut sa.window.outstanding else { return };
        if !free {
            outstanding.repeats = outstanding.repeats.saturating_add(1);
        }
        //= rfc7296#2.4
        //# an endpoint gives up only after repeated attempts over a time, never because of unprotected messages
        if outstanding.repeats > policy.tries {
            if self.unanswered_question(ike) {
                return;
            }
            return self.peer_silent(context, ike);
        }
        self.resend(context, ike);
    }

    /// A transmission could not leave because its source address is not usable yet.
    pub(crate) fn address_not_usable(&mut self, context: &mut Context<'_>, ike: IkeId) {
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        let mobile = sa.remote.and_then(|remote| context.config.remote(remote)).is_some_and(|remote| remote.role.home_address().is_some());
        let Some(outstanding) = &mut sa.window.outstanding else { return };
        outstanding.unsent = true;
        // What did not leave neither counts nor makes the next wait longer.
        outstanding.sends = outstanding.sends.saturating_sub(1);
        outstanding.failures = outstanding.failures.saturating_add(1);
        self.awaiting.insert((sa.path.local.ip(), ike));
        if !mobile && outstanding.failures > ADDRESS_PATIENCE {
            return;
        }
        // Slower after a minute: the address may be gone for good.
        let slow = if outstanding.failures > ADDRESS_PATIENCE { 10 } else { 1 };
        self.timers.clear(Timer::Retransmit(ike));
        self.timers.set(Timer::AwaitAddress(ike), context.now.boot.saturating_add(ADDRESS_POLL.saturating_mul(slow)));
    }

    /// Answers the request being worked on, where it came from, and keeps the response for repeats.
    pub(crate) fn answer(&mut self, context: &mut Context<'_>, ike: IkeId, payloads: &[Payload]) {
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        let Some(answering) = sa.window.answering.take() else { return };
        sa.answer = None;
        //= rfc7296#2.2
        //# a response has the message id of its request
        let header = Header::new(sa.spi_i, sa.spi_r, answering.exchange, Flags::new(sa.initiator, true), answering.id);
        let Some(crypt) = sa.state.crypt_mut() else { return };
        match crypt.seal(context.provider, context.rng, &header, payloads) {
            Ok(octets) => {
                sa.window.answered = Some(octets.clone());
                //= rfc7296#2.11
                //# responses go to the address and port the request came from, from where it arrived
                self.out.transmit(context, answering.path, octets);
            }
            Err(error) => self.drop_message(answering.path, Cause::UNEXPECTED, format!("a response could not be sealed: {error}")),
        }
    }

    /// Tells that a message was dropped.
    pub(crate) fn drop_message(&mut self, path: Path, cause: Cause, detail: String) {
        self.out.event(KeyingEvent::Dropped { path, cause, detail });
    }
}

fn sa_path(endpoint: &Ikev2, ike: IkeId) -> Path {
    let nowhere = std::net::IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED);
    endpoint.sas.get(&ike).map_or(Path::between(nowhere, nowhere, 0), |sa| sa.path)
}

/// For an IKE SA whose remote is gone from the configuration.
const FALLBACK: Retransmit = Retransmit { initial: Duration::from_secs(2), base_tenths: 18, cap: Duration::from_secs(30), tries: 5 };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_the_cap() {
        let waits: Vec<u64> = (1..7).map(|sends| wait(&FALLBACK, sends).as_millis() as u64).collect();
        assert_eq!(waits, [2000, 3600, 6480, 11664, 20995, 30000]);
        assert_eq!(wait(&FALLBACK, u32::MAX), FALLBACK.cap);
    }
}
