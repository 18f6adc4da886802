//! Unprotected words about SPIs that one side does not know (RFC 7296 1.5, 2.4): at most hints.
//! Invariant: a hint never touches an IKE SA that stands; it may start another beside it, rarely.

use std::time::Duration;

use watari_sa::{Cause, Context, IkeId, KeyingEvent, Path};
use watari_wire::ikev2::{Flags, Header, Message, NotifyType};

use crate::payloads::{Payloads, notify, notify_with};
use crate::state::State;
use crate::{HALF_OPEN_LIFE, Ikev2};

/// How often one IKE SA may be made to start another beside it.
const HINT_PAUSE: Duration = Duration::from_secs(30);
/// Answers to strangers per second.
const ANSWERS_PER_SECOND: u32 = 10;

/// Limits answers to strangers.
#[derive(Debug, Default)]
pub(crate) struct Limit {
    second: Duration,
    used: u32,
}

impl Limit {
    /// Whether one more may be sent now.
    pub(crate) fn allows(&mut self, now: Duration) -> bool {
        if now.saturating_sub(self.second) >= Duration::from_secs(1) {
            (self.second, self.used) = (now, 0);
        }
        self.used = self.used.saturating_add(1);
        self.used <= ANSWERS_PER_SECOND
    }
}

impl Ikev2 {
    /// A request for an IKE SA that is not ours: at most a hint goes back.
    pub(crate) fn unknown_spi(&mut self, context: &mut Context<'_>, path: Path, header: &Header) {
        let detail = format!("no IKE SA {:016x} {:016x}", header.initiator_spi, header.responder_spi);
        self.drop_message(path, Cause::UNEXPECTED, detail);
        // One that we forgot on purpose is none that was lost: a hint would only make the peer do something about it.
        let ours = if header.flags.initiator() { header.responder_spi } else { header.initiator_spi };
        if self.forgotten.has(ours, context.now.boot) {
            return;
        }
        //= rfc7296#1.5
        //# INVALID_IKE_SPI goes back unprotected, as a response, limited in rate, with SPIs and message id copied
        if !header.flags.response() && self.limit.allows(context.now.boot) {
            self.answer_stranger(context, path, header, notify(NotifyType::INVALID_IKE_SPI));
        }
    }

    /// A request of a higher major version.
    pub(crate) fn unknown_version(&mut self, context: &mut Context<'_>, path: Path, header: &Header) {
        self.drop_message(path, Cause::MALFORMED, format!("major version {}", header.major()));
        //= rfc7296#2.5
        //# a higher major version is answered with INVALID_MAJOR_VERSION and the highest version we speak
        if header.major() > 2 && !header.flags.response() && self.limit.allows(context.now.boot) {
            self.answer_stranger(context, path, header, notify_with(NotifyType::INVALID_MAJOR_VERSION, vec![2]));
        }
    }

    fn answer_stranger(&mut self, context: &mut Context<'_>, path: Path, header: &Header, payload: watari_wire::ikev2::Payload) {
        let flags = Flags::new(!header.flags.initiator(), true);
        let header = Header::new(header.initiator_spi, header.responder_spi, header.exchange, flags, header.message_id);
        let octets = Message { header, payloads: vec![payload] }.encode();
        self.out.transmit(context, path, octets);
    }

    /// An unprotected message about an IKE SA that stands.
    pub(crate) fn hinted(&mut self, context: &mut Context<'_>, ike: IkeId, path: Path, message: &Message) {
        let unknown_there = Payloads(&message.payloads).notify(NotifyType::INVALID_IKE_SPI).is_some();
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        let asked = sa.window.outstanding.as_ref().is_some_and(|request| {
            request.id == message.header.message_id && request.exchange == message.header.exchange && message.header.flags.response()
        });
        let unproven = sa.initiator && matches!(sa.state, State::AwaitAuth(_));
        // A peer that only answers may hear of a new IKE SA after our first request under it; later it has it, or has lost it.
        let settled = context.now.boot.saturating_sub(sa.created) >= HALF_OPEN_LIFE;
        let confirmed = sa.is_established() && (settled || sa.session().is_some_and(|session| session.confirmed));
        if !(unknown_there && asked && (confirmed || unproven)) {
            return self.drop_message(path, Cause::UNEXPECTED, "an unprotected message about an IKE SA with keys".to_owned());
        }
        //= rfc7296#2.4
        //# an unprotected message is no proof of anything: it counts only if it comes again for a repeat of the request,
        //# and even then an IKE SA that was authenticated stays until another one is
        let sends = sa.window.outstanding.as_ref().map_or(0, |request| request.sends);
        let first = *sa.hint.get_or_insert((message.header.message_id, sends));
        let rested = sa.hinted.is_none_or(|since| context.now.boot.saturating_sub(since) >= HINT_PAUSE);
        if first.0 != message.header.message_id {
            sa.hint = Some((message.header.message_id, sends));
        } else if sends > first.1 && rested {
            sa.hinted = Some(context.now.boot);
            let detail = "the peer does not know the IKE SA; another one is tried beside it".to_owned();
            self.drop_message(path, Cause::PEER_RESTARTED, detail);
            if unproven { self.attempt_again(context, ike) } else { self.renew(context, ike, Cause::PEER_RESTARTED) }
        }
    }

    /// IKE_AUTH finds nobody who remembers IKE_SA_INIT: the handshake starts again, or another IKE SA serves the wishes.
    fn attempt_again(&mut self, context: &mut Context<'_>, ike: IkeId) {
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        let (wants, supersedes) = (std::mem::take(&mut sa.wants), std::mem::take(&mut sa.supersedes));
        let Some(remote) = sa.remote else { return };
        let detail = "the peer has forgotten the handshake".to_owned();
        self.out.event(KeyingEvent::IkeDown { ike, remote: Some(remote), cause: Cause::PEER_RESTARTED, detail });
        self.remove(context, ike);
        if supersedes.is_empty() {
            wants.into_iter().for_each(|want| self.want_child(context, want));
        } else {
            self.start_ike(context, remote, wants, supersedes);
        }
    }
}
