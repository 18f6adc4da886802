//! IKE_AUTH as initiator, and the proofs of both roles (RFC 7296 1.2, 2.15, 2.21.2).
//! Invariant: a long-term secret is used by the key keeper only; proofs are compared in constant time.

use std::net::IpAddr;

use watari_crypto::derive::signed_octets;
use watari_crypto::digest::constant_time_eq;
use watari_policies::certificate::{OwnProof, PeerProof};
use watari_policies::{Action, Remote};
use watari_sa::{Cause, Context, IkeId, KeyingEvent, Trigger, Want, Work, WorkDone};
use watari_wire::ikev2::{AuthMethod, Delete, ExchangeType, Identification, NotifyType, Payload};

use crate::Ikev2;
use crate::certificates;
use crate::child::ChildPlan;
use crate::configuration;
use crate::identity;
use crate::outbox::WorkFor;
use crate::payloads::{Payloads, notify};
use crate::state::{AuthAttempt, State};
use crate::timers::Timer;

/// What one side must prove its identity over.
fn octets_of(context: &Context<'_>, attempt: &AuthAttempt, of_initiator: bool, ours: bool, id_body: &[u8]) -> Result<Vec<u8>, String> {
    let first_message = if ours { &attempt.own_init } else { &attempt.peer_init };
    //= rfc7296#2.15
    //# each side signs its first message, the other's nonce and prf(SK_p, its ID body)
    let (other_nonce, sk_p) = if of_initiator { (&attempt.nr, &attempt.crypt.keys.pi) } else { (&attempt.ni, &attempt.crypt.keys.pr) };
    let prf = attempt.crypt.suite.prf;
    signed_octets(context.provider, prf, first_message, other_nonce, sk_p, id_body).map_err(|error| error.to_string())
}

/// Asks the key keeper for our proof.
pub(crate) fn own_proof_work(
    context: &mut Context<'_>,
    config: &Remote,
    attempt: &AuthAttempt,
    we_are_initiator: bool,
    id_body: &[u8],
) -> Result<Work, String> {
    let octets = octets_of(context, attempt, we_are_initiator, true, id_body)?;
    match config.authentication.ours() {
        Some(OwnProof::Psk(secret)) => Ok(Work::PskMac { secret, prf: attempt.crypt.suite.prf, octets }),
        Some(OwnProof::Certificate(own)) => certificates::signature_work(config, &own, &attempt.peer_init, octets, context.rng.secret(32)),
        None => Err("the remote is keyed by hand".to_owned()),
    }
}

/// Asks the key keeper what the peer's proof must be, or whether it is right.
pub(crate) fn peer_proof_work(
    context: &Context<'_>,
    config: &Remote,
    attempt: &AuthAttempt,
    we_are_initiator: bool,
    payloads: Payloads<'_>,
    id: &Identification,
) -> Result<Work, String> {
    let octets = octets_of(context, attempt, !we_are_initiator, false, &id.body())?;
    match config.authentication.theirs() {
        Some(PeerProof::Psk(secret)) => Ok(Work::PskMac { secret, prf: attempt.crypt.suite.prf, octets }),
        Some(PeerProof::Certificate(trust)) => {
            let (identity, wall) = (identity::from_wire(id), context.now.wall);
            Ok(Work::VerifyPeer { trust, identity, claim: certificates::claim(payloads), octets, wall })
        }
        None => Err("the remote is keyed by hand".to_owned()),
    }
}

impl Ikev2 {
    /// Keys are there: our proof and the first child's SPI are asked for.
    pub(crate) fn begin_auth(&mut self, context: &mut Context<'_>, ike: IkeId) {
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        let Some((remote, config)) = sa.remote.and_then(|id| Some((id, context.config.remote(id)?))) else {
            return self.remote_gone(context, ike);
        };
        let State::AwaitAuth(attempt) = &sa.state else { return };
        let id_body = identity::to_wire(&config.local_identity).body();
        let work = match own_proof_work(context, config, attempt, true, &id_body) {
            Ok(work) => work,
            Err(why) => return self.attempt_failed(context, ike, Cause::AUTHENTICATION_FAILED, why),
        };
        // Without a wish the first policy of the remote goes along: IKE_AUTH always makes a child SA (RFC 7296 1.2).
        if sa.wants.is_empty() {
            self.directory.ensure(context.config);
            let first = self.directory.policies(context.config, remote).find(|(_, policy)| policy.action == Action::Protect);
            if let Some((policy, _)) = first {
                sa.wants.push_back(Want { policy, trigger: Trigger::Command });
            }
        }
        let Some(want) = sa.wants.front().cloned() else {
            return self.attempt_failed(context, ike, Cause::TRAFFIC_UNACCEPTABLE, "the remote has no policy that protects".to_owned());
        };
        self.out.work(context, work, WorkFor::OwnProof(ike));
        let child = self.start_child(context, ike, ChildPlan::first(&want));
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        if let State::AwaitAuth(attempt) = &mut sa.state {
            attempt.child = child;
        }
        if child.is_none() {
            self.attempt_failed(context, ike, Cause::UNEXPECTED, "the policy is gone from the configuration".to_owned());
        }
    }

    /// Our proof was made.
    pub(crate) fn own_proof_made(&mut self, context: &mut Context<'_>, ike: IkeId, done: WorkDone) {
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        let State::AwaitAuth(attempt) = &mut sa.state else { return };
        match done {
            WorkDone::Mac(data) => {
                attempt.proof = Some((AuthMethod::SHARED_KEY, data));
                if sa.initiator { self.send_auth(context, ike) } else { self.auth_answer_step(context, ike) }
            }
            WorkDone::Signature { method, data } => {
                attempt.proof = Some((AuthMethod(method), data));
                if sa.initiator { self.send_auth(context, ike) } else { self.auth_answer_step(context, ike) }
            }
            WorkDone::Failed { why, .. } if sa.initiator => self.attempt_failed(context, ike, Cause::AUTHENTICATION_FAILED, why),
            WorkDone::Failed { why, .. } => self.auth_refused(context, ike, &crate::refusal::Refusal::Proof(why)),
            _ => {}
        }
    }

    /// Sends the IKE_AUTH request once the proof and the first child's SPI are there.
    pub(crate) fn send_auth(&mut self, context: &mut Context<'_>, ike: IkeId) {
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        let Some((remote, config)) = sa.remote.and_then(|id| Some((id, context.config.remote(id)?))) else {
            return self.remote_gone(context, ike);
        };
        let State::AwaitAuth(attempt) = &sa.state else { return };
        let (Some((method, proof)), Some(child)) = (&attempt.proof, attempt.child) else { return };
        if sa.window.outstanding.is_some() || attempt.received.is_some() {
            return;
        }
        let Some(build) = self.builds.get(&child).filter(|build| build.spi.is_some()) else { return };
        let mut payloads = vec![Payload::IdInitiator(identity::to_wire(&config.local_identity))];
        payloads.extend(certificates::own_chain(config));
        //= rfc7296#2.4
        //# INITIAL_CONTACT is sent in the first IKE_AUTH after a start, and when this is the only IKE SA there will be
        let mut initial_contact = false;
        let peer_lost_ours = sa.supersedes.iter().any(|(_, polite)| !polite);
        if config.initial_contact && (peer_lost_ours || !self.contacted.contains(&remote)) {
            payloads.push(notify(NotifyType::INITIAL_CONTACT));
            initial_contact = true;
        }
        payloads.extend(certificates::request(config));
        payloads.push(Payload::IdResponder(identity::to_wire(&config.remote_identity)));
        payloads.push(Payload::Authentication { method: *method, data: proof.clone() });
        //= rfc7296#2.19
        //# CP stands before SA
        payloads.extend(configuration::request(config));
        payloads.extend(build.offer_payloads());
        sa.only_one = initial_contact;
        self.send_request(context, ike, ExchangeType::IKE_AUTH, &payloads);
    }

    /// The IKE_AUTH response arrived.
    pub(crate) fn auth_answered(&mut self, context: &mut Context<'_>, ike: IkeId, received: Vec<Payload>) {
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        let Some(config) = sa.remote.and_then(|id| context.config.remote(id)) else { return self.remote_gone(context, ike) };
        let State::AwaitAuth(attempt) = &mut sa.state else { return };
        let payloads = Payloads(&received);
        let (Some(id), Some((method, _))) = (payloads.id_responder(), payloads.authentication()) else {
            let who = format!("{} to us, {}", config.remote_identity, config.local_identity);
            return match payloads.error() {
                Some(error) => self.attempt_failed(context, ike, crate::refusal::cause_of(error), format!("{error} from {who}")),
                // The peer believes that the IKE SA stands: it must be told.
                None => self.peer_unproven(context, ike, Cause::MALFORMED, format!("no proof of identity from {who}")),
            };
        };
        let claimed = identity::from_wire(id);
        if identity::comparable(&claimed) != identity::comparable(&config.remote_identity) {
            let detail = format!("the peer calls itself {claimed}, {} was expected", config.remote_identity);
            return self.peer_unproven(context, ike, Cause::IDENTITY_UNKNOWN, detail);
        }
        let fits = certificates::method_fits(config, method);
        let work = match fits.and_then(|()| peer_proof_work(context, config, attempt, true, payloads, id)) {
            Ok(work) => work,
            Err(why) => return self.peer_unproven(context, ike, Cause::AUTHENTICATION_FAILED, why),
        };
        attempt.identity = Some(config.remote_identity.clone());
        attempt.received = Some(received);
        self.out.work(context, work, WorkFor::PeerProof(ike));
    }

    /// What the peer's proof must be is known.
    pub(crate) fn peer_proof_known(&mut self, context: &mut Context<'_>, ike: IkeId, done: WorkDone) {
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        let initiator = sa.initiator;
        let State::AwaitAuth(attempt) = &mut sa.state else { return };
        let Some(received) = &attempt.received else { return };
        let sent = Payloads(received).authentication().map(|(_, data)| data).unwrap_or_default();
        let verdict = match done {
            WorkDone::Mac(expected) if constant_time_eq(&expected, sent) => Ok(()),
            WorkDone::Verified => Ok(()),
            WorkDone::Mac(_) => Err("the proof is wrong: the pre-shared keys differ".to_owned()),
            WorkDone::Failed { why, .. } => Err(why),
            _ => Err("the key keeper gave no answer".to_owned()),
        };
        match (verdict, initiator) {
            (Ok(()), true) => self.auth_accepted(context, ike),
            (Ok(()), false) => self.peer_proved(context, ike),
            (Err(why), true) => self.peer_unproven(context, ike, Cause::AUTHENTICATION_FAILED, why),
            (Err(why), false) => self.auth_refused(context, ike, &crate::refusal::Refusal::Proof(why)),
        }
    }

    pub(crate) fn auth_accepted(&mut self, context: &mut Context<'_>, ike: IkeId) {
        if self.auth_redirected(context, ike) || !self.home_given(context, ike) || self.home_sought_elsewhere(context, ike) {
            return;
        }
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        let State::AwaitAuth(attempt) = &mut sa.state else { return };
        let (Some(received), Some(child)) = (attempt.received.take(), attempt.child) else { return };
        let nr = attempt.nr.clone();
        sa.first_child = Some(child);
        sa.wants.pop_front();
        self.establish(context, ike);
        if !self.first_child_stays(context, ike, &received) {
            return;
        }
        //= rfc7296#2.21.2
        //# failure of the child SA does not take the IKE SA with it
        self.child_answered(context, child, Payloads(&received), &nr);
    }

    /// The remote of a handshake has left the configuration meanwhile.
    pub(crate) fn remote_gone(&mut self, context: &mut Context<'_>, ike: IkeId) {
        self.attempt_failed(context, ike, Cause::NO_REMOTE, "the remote is gone from the configuration".to_owned());
    }

    /// The peer could not prove who it is: the IKE SA that stands on its side is closed.
    fn peer_unproven(&mut self, context: &mut Context<'_>, ike: IkeId, cause: Cause, detail: String) {
        //= rfc7296#2.21.2
        //# the responder learns of it by AUTHENTICATION_FAILED in an INFORMATIONAL exchange of its own
        let payloads = [notify(NotifyType::AUTHENTICATION_FAILED), Payload::Delete(Delete::ike_sa())];
        let another = self.another_address(context, ike, cause).map(|to| (to, None));
        self.close_unborn(context, ike, &payloads, another, cause, detail);
    }

    /// Closes an IKE SA that stands on the peer's side only; its wishes fail, or are served at another address (and who sent us there).
    pub(crate) fn close_unborn(
        &mut self,
        context: &mut Context<'_>,
        ike: IkeId,
        payloads: &[Payload],
        another: Option<(IpAddr, Option<IpAddr>)>,
        cause: Cause,
        detail: String,
    ) {
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        let State::AwaitAuth(attempt) = &sa.state else { return };
        let crypt = attempt.crypt.clone();
        let child = attempt.child;
        let remote = sa.remote;
        sa.state = State::Closing(Box::new(crypt));
        if let Some(child) = child {
            self.cancel_build(context, child);
        }
        self.send_request(context, ike, ExchangeType::INFORMATIONAL, payloads);
        self.timers.clear(Timer::HalfOpen(ike));
        if let Some(to) = another {
            return self.go_on(context, ike, to, cause, detail);
        }
        self.nowhere_left(context, ike, cause);
        let wants = self.sas.get_mut(&ike).map(|sa| std::mem::take(&mut sa.wants)).unwrap_or_default();
        for want in wants {
            self.out.event(KeyingEvent::WantFailed { policy: want.policy, cause, detail: detail.clone() });
        }
        self.out.event(KeyingEvent::IkeDown { ike, remote, cause, detail });
    }
}
