//! IKE_AUTH as responder: who calls, may it, its first child SA, our answer (RFC 7296 1.2, 2.21.2; RFC 4301 4.4.3).
//! Invariant: nobody learns anything, and nothing of anybody changes, before the peer's proof is right.

use watari_policies::certificate::OwnProof;
use watari_sa::{Context, IkeId, KeyingEvent};
use watari_wire::ikev2::{NotifyType, Payload};

use crate::auth::{own_proof_work, peer_proof_work};
use crate::certificates;
use crate::child::Asked;
use crate::identity;
use crate::outbox::WorkFor;
use crate::payloads::Payloads;
use crate::refusal::Refusal;
use crate::state::{Answer, State};
use crate::timers::Timer;
use crate::{Ikev2, LINGER};

impl Ikev2 {
    /// The IKE_AUTH request arrived and was opened.
    pub(crate) fn auth_requested(&mut self, context: &mut Context<'_>, ike: IkeId, received: Vec<Payload>) {
        self.directory.ensure(context.config);
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        let Some(answering) = sa.window.answering else { return };
        let State::AwaitAuth(attempt) = &mut sa.state else { return };
        let payloads = Payloads(&received);
        let (Some(id), Some((method, _))) = (payloads.id_initiator(), payloads.authentication()) else {
            // Without AUTH the peer asks for EAP, which this remote is not configured for.
            return self.auth_refused(context, ike, &Refusal::Proof("no identity or no proof (EAP is not configured)".to_owned()));
        };
        let claimed = identity::from_wire(id);
        let expected_of_us = payloads.id_responder().map(identity::from_wire);
        let from = answering.path.remote.ip();
        // Until now whoever calls from this address might have been anybody: from here on everything is read from its own remote.
        let Some(remote) = self.directory.by_identity(context.config, &claimed, expected_of_us.as_ref(), from) else {
            let known = self.directory.knows(&claimed);
            let refusal = if known { Refusal::NotFrom(claimed, from) } else { Refusal::Identity(claimed) };
            return self.auth_refused(context, ike, &refusal);
        };
        let Some(config) = context.config.remote(remote) else { return };
        let suite = attempt.crypt.suite;
        if !config.proposals.iter().any(|proposal| proposal.allows(&suite)) {
            let allowed = config.proposals.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let refusal = Refusal::SuiteOfRemote { who: claimed, suite, remote: (config.name.clone(), allowed) };
            return self.auth_refused(context, ike, &refusal);
        }
        let own_body = identity::to_wire(&config.local_identity).body();
        let peer = certificates::method_fits(config, method).and_then(|()| peer_proof_work(context, config, attempt, false, payloads, id));
        // A signature costs something: only a peer that has proved who it is gets one.
        let own = match config.authentication.ours() {
            Some(OwnProof::Certificate(_)) => Ok(None),
            _ => own_proof_work(context, config, attempt, false, &own_body).map(Some),
        };
        let (peer, own) = match (peer, own) {
            (Ok(peer), Ok(own)) => (peer, own),
            (Err(why), _) | (_, Err(why)) => return self.auth_refused(context, ike, &Refusal::Proof(why)),
        };
        attempt.identity = Some(config.remote_identity.clone());
        attempt.received = Some(received);
        sa.remote = Some(remote);
        sa.name.clone_from(&config.name);
        self.by_remote.insert((remote, ike));
        self.out.work(context, peer, WorkFor::PeerProof(ike));
        if let Some(own) = own {
            self.out.work(context, own, WorkFor::OwnProof(ike));
        }
    }

    /// The peer's proof is right: ours is asked for, unless it was before.
    pub(crate) fn peer_proved(&mut self, context: &mut Context<'_>, ike: IkeId) {
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        let Some(config) = sa.remote.and_then(|id| context.config.remote(id)) else { return self.remote_gone(context, ike) };
        let State::AwaitAuth(attempt) = &mut sa.state else { return };
        attempt.verified = true;
        if !matches!(config.authentication.ours(), Some(OwnProof::Certificate(_))) {
            return self.auth_answer_step(context, ike);
        }
        let own_body = identity::to_wire(&config.local_identity).body();
        match own_proof_work(context, config, attempt, false, &own_body) {
            Ok(own) => self.out.work(context, own, WorkFor::OwnProof(ike)),
            Err(why) => self.auth_refused(context, ike, &Refusal::Proof(why)),
        }
    }

    /// Goes on once both proofs are there: the first child SA, or the answer without one.
    pub(crate) fn auth_answer_step(&mut self, context: &mut Context<'_>, ike: IkeId) {
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        let State::AwaitAuth(attempt) = &mut sa.state else { return };
        if !attempt.verified || attempt.proof.is_none() || attempt.child.is_some() {
            return;
        }
        let Some(received) = attempt.received.clone() else { return };
        // The path of the authenticated request is the peer's, whatever IKE_SA_INIT came from.
        if let Some(answering) = sa.window.answering {
            sa.path = answering.path;
        }
        if self.redirect_of_auth(context, ike) {
            return;
        }
        if !self.home_settled(context, ike) {
            return;
        }
        if self.no_home(ike) {
            return self.auth_answer(context, ike, Vec::new(), None);
        }
        let Some(State::AwaitAuth(attempt)) = self.sas.get(&ike).map(|sa| &sa.state) else { return };
        let asked = Asked { ni: attempt.ni.clone(), nr: attempt.nr.clone(), in_auth: true, replaces: None };
        match self.child_requested(context, ike, Payloads(&received), asked) {
            Ok(child) => {
                let Some(sa) = self.sas.get_mut(&ike) else { return };
                if let State::AwaitAuth(attempt) = &mut sa.state {
                    attempt.child = Some(child);
                }
                sa.answer = Some(Answer::Child(child));
            }
            Err(refusal) => self.auth_answer(context, ike, vec![refusal.notify()], Some(&refusal)),
        }
    }

    /// Sends the IKE_AUTH response with what there is to say of the child SA: the IKE SA stands.
    pub(crate) fn auth_answer(&mut self, context: &mut Context<'_>, ike: IkeId, of_child: Vec<Payload>, refusal: Option<&Refusal>) {
        let (told, _) = self.home_told(ike);
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        let Some(config) = sa.remote.and_then(|id| context.config.remote(id)) else { return self.remote_gone(context, ike) };
        let State::AwaitAuth(attempt) = &mut sa.state else { return };
        let (Some((method, data)), Some(received)) = (attempt.proof.take(), attempt.received.take()) else { return };
        let mut payloads = vec![Payload::IdResponder(identity::to_wire(&config.local_identity))];
        payloads.extend(certificates::own_chain(config));
        payloads.push(Payload::Authentication { method, data });
        payloads.extend(told);
        payloads.extend(of_child);
        if let Some(refusal) = refusal.filter(|refusal| refusal.worth_telling()) {
            let path = sa.path;
            self.drop_message(path, refusal.cause(), refusal.detail());
        }
        self.answer(context, ike, &payloads);
        if let Some(sa) = self.sas.get_mut(&ike) {
            sa.only_one = Payloads(&received).notify(NotifyType::INITIAL_CONTACT).is_some();
        }
        self.establish(context, ike);
    }

    /// Refuses the peer: it could not prove who it is, or nobody here knows it.
    pub(crate) fn auth_refused(&mut self, context: &mut Context<'_>, ike: IkeId, refusal: &Refusal) {
        let Some(sa) = self.sas.get(&ike) else { return };
        if !matches!(sa.state, State::AwaitAuth(_)) {
            return;
        }
        let remote = sa.remote;
        //= rfc7296#2.21.2
        //# a failed authentication is answered with AUTHENTICATION_FAILED, protected
        self.answer(context, ike, &[refusal.notify()]);
        self.out.event(KeyingEvent::IkeDown { ike, remote, cause: refusal.cause(), detail: refusal.detail() });
        // Kept, and counted as half-open, to answer repeats of the request.
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        let Some(crypt) = sa.state.crypt().cloned() else { return };
        sa.state = State::Gone(Box::new(crypt));
        self.timers.set(Timer::HalfOpen(ike), context.now.boot.saturating_add(LINGER));
    }
}
