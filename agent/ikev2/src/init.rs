//! IKE_SA_INIT as initiator: request, cookie and group retries, response, keys (RFC 7296 1.2, 2.6, 2.7).
//! Invariant: nothing unprotected ends an attempt at once; a retry changes only what was asked for.

use std::collections::VecDeque;

use watari_crypto::{IkeInputs, IkeKeys};
use watari_kernel::KmAddress;
use watari_policies::algorithm::Group;
use watari_policies::{RemoteId, Secret};
use watari_sa::{Cause, Context, Datagram, IkeId, KeyingEvent, Path, Want, Work, WorkDone};
use watari_wire::ikev2::{ExchangeType, Flags, Header, Message, NotifyType, Payload};

use crate::certificates;
use crate::nat;
use crate::onward::Onward;
use crate::outbox::WorkFor;
use crate::payloads::{Payloads, notify_with};
use crate::sk::Crypt;
use crate::state::{AuthAttempt, IkeSa, InitAnswered, InitAttempt, InitRefusal, State, Window};
use crate::timers::Timer;
use crate::{Ikev2, keys, proposals, redirect};

/// Octets of our nonces: enough for every PRF we know (RFC 7296 2.10).
pub(crate) const NONCE_LEN: usize = 32;
/// How often a cookie or another group may be asked for before the attempt ends.
const MOST_RESTARTS: u8 = 5;

/// Whether a nonce is long enough for a PRF.
pub(crate) fn nonce_fits(nonce: &[u8], prf_key_len: usize) -> bool {
    //= rfc7296#2.10
    //# nonces are at least half the key size of the negotiated PRF
    nonce.len().saturating_mul(2) >= prf_key_len
}

impl Ikev2 {
    /// Starts an IKE SA with a remote for some wishes; `None` if the peer's address is not known.
    pub(crate) fn start_ike(
        &mut self,
        context: &mut Context<'_>,
        remote: RemoteId,
        wants: VecDeque<Want>,
        supersedes: Vec<(IkeId, bool)>,
    ) -> Option<IkeId> {
        let addresses = context.whereabouts.ike_addresses(remote);
        self.start_ike_at(context, (remote, addresses), wants, supersedes, Onward::default())
    }

    /// Starts an IKE SA with a remote at these addresses.
    pub(crate) fn start_ike_at(
        &mut self,
        context: &mut Context<'_>,
        (remote, addresses): (RemoteId, Option<KmAddress>),
        wants: VecDeque<Want>,
        supersedes: Vec<(IkeId, bool)>,
        onward: Onward,
    ) -> Option<IkeId> {
        let config = context.config.remote(remote)?;
        let addresses = addresses.filter(|addresses| !addresses.remote.is_unspecified());
        let Some(KmAddress { local, remote: peer }) = addresses else {
            for want in wants {
                let detail = format!("the address of {} is not known", config.name);
                self.out.event(KeyingEvent::WantFailed { policy: want.policy, cause: Cause::NO_REMOTE, detail });
            }
            return None;
        };
        let group = config.proposals.iter().find_map(|proposal| proposal.groups.first().copied())?;
        let id = context.ids.ike();
        let spi_i = self.fresh_spi(context);
        let attempt = InitAttempt {
            ni: context.rng.octets(NONCE_LEN),
            group,
            key: None,
            cookie: None,
            restarts: 0,
            request: Vec::new(),
            announced: false,
            refusal: None,
            answered: None,
        };
        let path = Path::between(local, peer, context.config.settings.port);
        let onward = Onward { announced: redirect::announcement(config, &onward, peer).is_some(), ours: true, ..onward };
        let begun = IkeSa::new(id, true, (spi_i, 0), path, context.now.boot, State::AwaitInit(Box::new(attempt)));
        let sa = IkeSa { name: config.name.clone(), remote: Some(remote), wants, supersedes, onward, ..begun };
        self.add(sa);
        self.make_init_key(context, id, group);
        Some(id)
    }

    fn make_init_key(&mut self, context: &mut Context<'_>, ike: IkeId, group: Group) {
        let seed = context.rng.secret(64);
        self.out.work(context, Work::GenerateKey { group, seed }, WorkFor::InitKey(ike));
    }

    /// Our key pair for IKE_SA_INIT was made.
    pub(crate) fn init_key_made(&mut self, context: &mut Context<'_>, ike: IkeId, done: WorkDone) {
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        let State::AwaitInit(attempt) = &mut sa.state else { return };
        match done {
            WorkDone::Key { private, public } if private.group() == attempt.group => {
                attempt.key = Some((private, public));
                self.send_init(context, ike);
            }
            // The group was changed meanwhile: the key pair for the new one is still under way.
            WorkDone::Key { .. } => {}
            WorkDone::Failed { why, .. } => self.attempt_failed(context, ike, Cause::UNEXPECTED, why),
            _ => {}
        }
    }

    /// Builds IKE_SA_INIT from the attempt as it stands and sends it.
    pub(crate) fn send_init(&mut self, context: &mut Context<'_>, ike: IkeId) {
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        let State::AwaitInit(attempt) = &mut sa.state else { return };
        let Some(config) = sa.remote.and_then(|remote| context.config.remote(remote)) else { return self.remote_gone(context, ike) };
        let Some((_, public)) = &attempt.key else { return };
        //= rfc7296#2.6
        //# with a cookie the request is repeated unchanged but for the cookie, which comes first
        let mut payloads: Vec<Payload> = attempt.cookie.iter().map(|cookie| notify_with(NotifyType::COOKIE, cookie.clone())).collect();
        payloads.push(Payload::SecurityAssociation(proposals::offer_ike(&config.proposals, &[])));
        payloads.push(Payload::KeyExchange { group: attempt.group.transform_id(), data: public.clone() });
        payloads.push(Payload::Nonce(attempt.ni.clone()));
        if !sa.path.local.ip().is_unspecified() {
            payloads.extend(nat::notifies(sa.spi_i, 0, &sa.path));
        }
        //= rfc7427#4
        //# the hashes that are accepted in signatures are told in IKE_SA_INIT
        payloads.extend(certificates::signs(config).then(certificates::hash_algorithms));
        payloads.extend(redirect::announcement(config, &sa.onward, sa.path.remote.ip()).filter(|_| sa.onward.announced));
        let header = Header::new(sa.spi_i, 0, ExchangeType::IKE_SA_INIT, Flags::new(true, false), 0);
        let octets = Message { header, payloads }.encode();
        attempt.request.clone_from(&octets);
        if !std::mem::replace(&mut attempt.announced, true)
            && let Some(remote) = sa.remote
        {
            self.out.event(KeyingEvent::InitSent { ike, remote, path: sa.path });
        }
        self.launch(context, ike, ExchangeType::IKE_SA_INIT, 0, octets);
    }

    /// A response to IKE_SA_INIT arrived.
    pub(crate) fn init_answered(&mut self, context: &mut Context<'_>, ike: IkeId, datagram: &Datagram, message: &Message) {
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        let State::AwaitInit(attempt) = &mut sa.state else { return };
        if attempt.answered.is_some() || sa.window.outstanding.is_none() || message.header.message_id != 0 {
            return;
        }
        let payloads = Payloads(&message.payloads);
        if let Some(cookie) = payloads.notify(NotifyType::COOKIE) {
            let cookie = cookie.data.clone();
            return self.restart_init(context, ike, |attempt| attempt.cookie = Some(cookie), "cookie");
        }
        if let Some(wanted) = payloads.notify(NotifyType::INVALID_KE_PAYLOAD) {
            return self.other_group_wanted(context, ike, wanted.wanted_group());
        }
        if let Some(redirect) = payloads.notify(NotifyType::REDIRECT).filter(|_| payloads.proposals().is_none()) {
            return self.init_redirected(context, ike, datagram, redirect);
        }
        if let Some(error) = payloads.error() {
            //= rfc7296#2.21.1
            //# an unprotected error may be forged: better answers are waited for
            let incompatible = error.notify_type == NotifyType::NO_PROPOSAL_CHOSEN;
            let cause = if incompatible { Cause::SUITES_DIFFER } else { Cause::PEER_REFUSED };
            let offer = sa.remote.and_then(|remote| context.config.remote(remote));
            let offer =
                offer.map_or_else(String::new, |remote| remote.proposals.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
            return self.init_refused(ike, cause, format!("the peer answered {error}; we offered {offer}"), incompatible);
        }
        self.init_accepted(context, ike, datagram, message);
    }

    /// Something unprotected speaks against the request: it is remembered as the reason, should nothing better come before the attempt is
    /// given up. What the peer cannot change its mind about ends the attempt sooner, once a repeat has been answered alike: whoever only
    /// sees the request, and cannot hold the peer's own answer back, has lost by then.
    pub(crate) fn init_refused(&mut self, ike: IkeId, cause: Cause, detail: String, incompatible: bool) {
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        let (path, sends) = (sa.path, sa.window.outstanding.as_ref().map_or(0, |request| request.sends));
        let State::AwaitInit(attempt) = &mut sa.state else { return };
        let first = attempt.refusal.as_ref().map_or(sends, |known| known.first);
        let news = attempt.refusal.as_ref().is_none_or(|known| known.detail != detail);
        attempt.refusal = Some(InitRefusal { cause, detail: detail.clone(), first, last_word: incompatible && sends > first });
        if news {
            self.drop_message(path, cause, detail);
        }
    }

    fn restart_init(&mut self, context: &mut Context<'_>, ike: IkeId, change: impl FnOnce(&mut InitAttempt), why: &str) {
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        let State::AwaitInit(attempt) = &mut sa.state else { return };
        //= rfc7296#2.6.1
        //# repeated demands for cookies and groups are cut off
        if attempt.restarts >= MOST_RESTARTS {
            return self.init_refused(ike, Cause::PEER_REFUSED, format!("the peer asked for another {why} {MOST_RESTARTS} times"), true);
        }
        attempt.restarts = attempt.restarts.saturating_add(1);
        attempt.refusal = None;
        change(attempt);
        self.send_init(context, ike);
    }

    fn other_group_wanted(&mut self, context: &mut Context<'_>, ike: IkeId, wanted: Option<u16>) {
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        let State::AwaitInit(attempt) = &mut sa.state else { return };
        let offered = sa.remote.and_then(|remote| context.config.remote(remote)).map(|remote| &remote.proposals);
        let group = wanted.and_then(Group::from_transform);
        //= rfc7296#2.7
        //# the retry uses the group that was asked for, but only if it is one of those offered
        let usable = group.filter(|group| {
            *group != attempt.group && offered.is_some_and(|proposals| proposals.iter().any(|proposal| proposal.groups.contains(group)))
        });
        let Some(group) = usable else {
            let name = group.map_or_else(|| format!("number {}", wanted.unwrap_or(0)), |group| group.name().to_owned());
            let detail = format!("the peer wants key exchange group {name}, which we do not offer");
            return self.init_refused(ike, Cause::SUITES_DIFFER, detail, true);
        };
        if attempt.restarts >= MOST_RESTARTS {
            return self.init_refused(ike, Cause::PEER_REFUSED, format!("the peer asked for another group {MOST_RESTARTS} times"), true);
        }
        attempt.restarts = attempt.restarts.saturating_add(1);
        attempt.refusal = None;
        attempt.group = group;
        attempt.key = None;
        self.forget_request(ike);
        self.make_init_key(context, ike, group);
    }

    fn init_accepted(&mut self, context: &mut Context<'_>, ike: IkeId, datagram: &Datagram, message: &Message) {
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        let State::AwaitInit(attempt) = &mut sa.state else { return };
        let Some(config) = sa.remote.and_then(|remote| context.config.remote(remote)) else { return self.remote_gone(context, ike) };
        let payloads = Payloads(&message.payloads);
        let spi_r = message.header.responder_spi;
        let accepted = || {
            let (suite, _) = proposals::chosen_ike(&config.proposals, payloads.proposals()?, 0)?;
            let (group, value) = payloads.key_exchange()?;
            let nonce = payloads.nonce()?;
            let fits = group == suite.group.transform_id()
                && suite.group == attempt.group
                && value.len() == suite.group.public_len()
                && nonce_fits(nonce, suite.prf.output_len())
                && context.provider.supports(&suite);
            (spi_r != 0 && fits).then(|| (suite, value.to_vec(), nonce.to_vec()))
        };
        let Some((suite, value, nr)) = accepted() else {
            let detail = "an IKE_SA_INIT response that does not answer our offer".to_owned();
            return self.init_refused(ike, Cause::UNEXPECTED, detail, false);
        };
        let Some((private, _)) = attempt.key.clone() else { return };
        let seen = nat::evaluate(sa.spi_i, spi_r, &datagram.path, message.payloads.iter());
        attempt.answered =
            Some(InitAnswered { suite, spi_r, nr, response: datagram.octets.clone(), nat: seen, here: datagram.path.local.ip() });
        // The request stays outstanding until the answer has proved to be of use.
        self.out.work(context, Work::Agree { group: suite.group, private, peer: value }, WorkFor::InitShared(ike));
    }

    /// The shared secret of IKE_SA_INIT is known.
    pub(crate) fn init_shared(&mut self, context: &mut Context<'_>, ike: IkeId, done: WorkDone) {
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        let State::AwaitInit(attempt) = &mut sa.state else { return };
        let Some(answered) = attempt.answered.take() else { return };
        let WorkDone::Shared(shared) = done else {
            // A bad public value: whoever sent it, the real peer may still answer this request or its next repeat.
            let detail = "the peer's public value must not be used".to_owned();
            return self.init_refused(ike, Cause::MALFORMED, detail, false);
        };
        let crypt = match initial_keys(context, &shared, (&attempt.ni, &answered.nr), (sa.spi_i, answered.spi_r), &answered.suite) {
            Ok(keys) => Crypt::new(answered.suite, keys, true),
            Err(error) => return self.attempt_failed(context, ike, Cause::UNEXPECTED, error),
        };
        self.request_answered(ike);
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        let State::AwaitInit(attempt) = &mut sa.state else { return };
        sa.spi_r = answered.spi_r;
        sa.nat = answered.nat;
        // The kernel chose what the request left from; SAs and whatever follows need to know it.
        if sa.path.local.ip().is_unspecified() {
            sa.path.local.set_ip(answered.here);
        }
        if answered.nat.any() {
            //= rfc7296#2.23
            //# behind a NAT the initiator goes on from port 4500 to port 4500
            let settings = &context.config.settings;
            sa.path.local.set_port(settings.natt_port);
            sa.path.remote.set_port(settings.natt_port);
        }
        let ni = std::mem::take(&mut attempt.ni);
        let own_init = std::mem::take(&mut attempt.request);
        let attempt = AuthAttempt {
            crypt,
            own_init,
            peer_init: answered.response,
            ni,
            nr: answered.nr,
            received: None,
            identity: None,
            proof: None,
            verified: false,
            child: None,
        };
        let spis = sa_spis(sa);
        let crypt = attempt.crypt.clone();
        sa.state = State::AwaitAuth(Box::new(attempt));
        self.tell_keys(spis, &crypt);
        self.begin_auth(context, ike);
    }

    /// Puts the keys of an IKE SA into an event, if the test bed asked for them.
    pub(crate) fn tell_keys(&mut self, (spi_i, spi_r): (u64, u64), crypt: &Crypt) {
        if self.reveal_keys {
            self.out.event(KeyingEvent::Keys { line: keys::decryption_line(spi_i, spi_r, crypt) });
        }
    }

    /// Gives an IKE SA that is being made by us up: its wishes fail.
    pub(crate) fn attempt_failed(&mut self, context: &mut Context<'_>, ike: IkeId, cause: Cause, detail: String) {
        if let Some(to) = self.another_address(context, ike, cause) {
            return self.go_on(context, ike, (to, None), cause, detail);
        }
        self.nowhere_left(context, ike, cause);
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        let wants = std::mem::take(&mut sa.wants);
        let remote = sa.remote;
        for want in wants {
            self.out.event(KeyingEvent::WantFailed { policy: want.policy, cause, detail: detail.clone() });
        }
        self.out.event(KeyingEvent::IkeDown { ike, remote, cause, detail });
        self.remove(context, ike);
    }

    /// Starts an unanswered IKE_SA_INIT afresh after a move: its NAT hashes and its cookie belong to the old address.
    pub(crate) fn init_afresh(&mut self, context: &mut Context<'_>, ike: IkeId) {
        let spi = self.fresh_spi(context);
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        let State::AwaitInit(attempt) = &mut sa.state else { return };
        // What never left this host is no handshake that was given up.
        let never_left = sa.window.outstanding.as_ref().is_some_and(|outstanding| outstanding.unsent);
        attempt.announced &= never_left;
        attempt.ni = context.rng.octets(NONCE_LEN);
        attempt.cookie = None;
        attempt.restarts = 0;
        attempt.refusal = None;
        let old = std::mem::replace(&mut sa.spi_i, spi);
        sa.created = context.now.boot;
        let ready = attempt.key.is_some();
        self.by_spi.remove(&old);
        self.by_spi.insert(spi, ike);
        self.forget_request(ike);
        if let Some(sa) = self.sas.get_mut(&ike) {
            sa.window = Window::default();
        }
        self.timers.clear(Timer::AwaitAddress(ike));
        if ready {
            self.send_init(context, ike);
        }
    }
}

/// SPIs of an IKE SA in the order of the header.
pub(crate) const fn sa_spis(sa: &IkeSa) -> (u64, u64) {
    (sa.spi_i, sa.spi_r)
}

/// Keys after IKE_SA_INIT.
pub(crate) fn initial_keys(
    context: &Context<'_>,
    shared: &Secret,
    (ni, nr): (&[u8], &[u8]),
    (spi_i, spi_r): (u64, u64),
    suite: &watari_policies::algorithm::IkeSuite,
) -> Result<IkeKeys, String> {
    let inputs = IkeInputs { ni, nr, spi_i: spi_i.to_be_bytes(), spi_r: spi_r.to_be_bytes() };
    IkeKeys::initial(context.provider, suite, shared, &inputs).map_err(|error| error.to_string())
}
