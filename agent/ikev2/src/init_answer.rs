//! IKE_SA_INIT as responder: repeats, cookies, limits, choice of a suite, response (RFC 7296 1.2, 2.6, 2.7).
//! Invariant: nothing is kept for a request that is answered with a cookie or a refusal.

use std::net::{IpAddr, Ipv6Addr};

use watari_policies::algorithm::{Group, IkeSuite};
use watari_sa::{Cause, Context, Datagram, IkeId, Path, Work, WorkDone, negotiate};
use watari_wire::ikev2::{ExchangeType, Flags, Header, Message, NotifyType, Payload, ProtocolId};

use crate::certificates;
use crate::init::{NONCE_LEN, initial_keys, nonce_fits, sa_spis};
use crate::nat;
use crate::outbox::WorkFor;
use crate::payloads::{Payloads, notify_with};
use crate::refusal::Refusal;
use crate::sk::Crypt;
use crate::state::{AuthAttempt, IkeSa, InitAnswer, State, Window};
use crate::timers::Timer;
use crate::{HALF_OPEN_LIFE, Ikev2, proposals};

/// What part of the half-open IKE SAs one neighbourhood may take.
const SHARE: usize = 4;
/// How many it may have in any case.
const LEAST_SHARE: usize = 16;

impl Ikev2 {
    /// An IKE_SA_INIT request arrived.
    pub(crate) fn init_requested(&mut self, context: &mut Context<'_>, datagram: &Datagram, message: &Message) {
        let spi_i = message.header.initiator_spi;
        let from = datagram.path.remote.ip();
        if let Some(ike) = self.inits.get(&(from, spi_i)).copied()
            && self.repeat_init(context, ike, datagram)
        {
            return;
        }
        let payloads = Payloads(&message.payloads);
        let (Some(offer), Some((group, value)), Some(ni)) = (payloads.proposals(), payloads.key_exchange(), payloads.nonce()) else {
            return self.drop_message(datagram.path, Cause::MALFORMED, "IKE_SA_INIT without SA, KE or nonce".to_owned());
        };
        if message.header.message_id != 0 {
            return self.drop_message(datagram.path, Cause::UNEXPECTED, "IKE_SA_INIT with a message id that is not 0".to_owned());
        }
        if !self.cookie_shown(context, datagram, spi_i, ni, payloads) {
            return;
        }
        let settings = &context.config.settings;
        if self.half_open.len() >= usize::try_from(settings.half_open_limit).unwrap_or(usize::MAX) {
            let detail = format!("{} half-open IKE SAs", self.half_open.len());
            return self.drop_message(datagram.path, Cause::HALF_OPEN_LIMIT, detail);
        }
        if let Some(share) = self.neighbours_full(context, from) {
            let detail = format!("{share} half-open IKE SAs from the neighbourhood of {from}");
            return self.drop_message(datagram.path, Cause::HALF_OPEN_LIMIT, detail);
        }
        if let Some(redirect) = self.redirect_of_init(context, datagram, payloads) {
            //= rfc5685#3
            //# the response with a redirect has a responder's SPI of zero, and no IKE SA is made
            return self.answer_init_plainly(context, datagram.path, spi_i, redirect);
        }
        match self.choose_suite(context, datagram, offer, Group::from_transform(group)) {
            Err(refusal) => self.refuse_init(context, datagram.path, spi_i, &refusal),
            //= rfc7296#1.2
            //# a public value of another group than the one chosen is answered with the group that is wanted
            Ok((_, suite)) if suite.group.transform_id() != group => {
                self.refuse_init(context, datagram.path, spi_i, &Refusal::Group(suite.group));
            }
            Ok((_, suite)) if !nonce_fits(ni, suite.prf.output_len()) || value.len() != suite.group.public_len() => {
                self.refuse_init(context, datagram.path, spi_i, &Refusal::Syntax("nonce or public value of a wrong length".to_owned()));
            }
            Ok((number, suite)) => self.accept_init(context, datagram, message, (number, suite), (ni, value)),
        }
    }

    /// Answers a repeat of a request; false if it is another request under the same SPI.
    fn repeat_init(&mut self, context: &mut Context<'_>, ike: IkeId, datagram: &Datagram) -> bool {
        let Some(sa) = self.sas.get(&ike) else { return false };
        match &sa.state {
            State::Answering(answer) => answer.request == datagram.octets,
            State::AwaitAuth(attempt) if attempt.peer_init == datagram.octets => {
                //= rfc7296#2.1
                //# a repeated request is answered with the very same response
                let octets = attempt.own_init.clone();
                self.out.transmit(context, datagram.path, octets);
                true
            }
            _ => false,
        }
    }

    /// Whether an IPv4 address, or an IPv6 /64, has its share of the half-open IKE SAs: a cookie does not stop one host from taking all.
    fn neighbours_full(&self, context: &Context<'_>, from: IpAddr) -> Option<usize> {
        let limit = usize::try_from(context.config.settings.half_open_limit).unwrap_or(usize::MAX);
        let share = (limit / SHARE).max(LEAST_SHARE);
        let (first, last) = match from {
            IpAddr::V4(_) => (from, from),
            IpAddr::V6(address) => {
                let network = address.to_bits() & !u128::from(u64::MAX);
                (Ipv6Addr::from_bits(network).into(), Ipv6Addr::from_bits(network | u128::from(u64::MAX)).into())
            }
        };
        let full = self.half_open.len() >= share
            && self.half_open_from.range((first, IkeId(0))..=(last, IkeId(u64::MAX))).take(share).count() >= share;
        full.then_some(share)
    }

    /// Whether the request may go on; if not, a cookie was asked for.
    fn cookie_shown(&mut self, context: &mut Context<'_>, datagram: &Datagram, spi_i: u64, ni: &[u8], payloads: Payloads<'_>) -> bool {
        let threshold = usize::try_from(context.config.settings.cookie_threshold).unwrap_or(usize::MAX);
        if self.half_open.len() < threshold {
            return true;
        }
        let (now, from) = (context.now.boot, datagram.path.remote.ip());
        //= rfc7296#2.6
        //# a wrong cookie is treated as if there were none
        if let Some(sent) = payloads.notify(NotifyType::COOKIE)
            && self.cookies.check(now, context.rng, context.provider, &sent.data, (from, spi_i, ni))
        {
            return true;
        }
        let cookie = self.cookies.make(now, context.rng, context.provider, from, spi_i, ni);
        self.answer_init_plainly(context, datagram.path, spi_i, notify_with(NotifyType::COOKIE, cookie));
        false
    }

    fn choose_suite(
        &mut self,
        context: &Context<'_>,
        datagram: &Datagram,
        offer: &[watari_wire::ikev2::Proposal],
        sent: Option<Group>,
    ) -> Result<(u8, IkeSuite), Refusal> {
        self.directory.ensure(context.config);
        let offered = proposals::offered(offer, ProtocolId::IKE, 0);
        let mut refusal = Refusal::NoRemote;
        for remote in self.directory.candidates(datagram.path.remote.ip()) {
            let Some(remote) = context.config.remote(remote) else { continue };
            match negotiate::choose_ike(&remote.proposals, &offered, sent) {
                Ok((number, suite)) if context.provider.supports(&suite) => return Ok((number, suite)),
                Ok(_) => {}
                Err(mismatch) => refusal = Refusal::Suites(mismatch),
            }
        }
        Err(refusal)
    }

    fn refuse_init(&mut self, context: &mut Context<'_>, path: Path, spi_i: u64, refusal: &Refusal) {
        if refusal.worth_telling() {
            self.drop_message(path, refusal.cause(), refusal.detail());
        }
        self.answer_init_plainly(context, path, spi_i, refusal.notify());
    }

    fn answer_init_plainly(&mut self, context: &mut Context<'_>, path: Path, spi_i: u64, payload: Payload) {
        //= rfc7296#2.6
        //# the response with a cookie or an error has a responder's SPI of zero, and no state is kept
        let header = Header::new(spi_i, 0, ExchangeType::IKE_SA_INIT, Flags::new(false, true), 0);
        let octets = Message { header, payloads: vec![payload] }.encode();
        self.out.transmit(context, path, octets);
    }

    fn accept_init(
        &mut self,
        context: &mut Context<'_>,
        datagram: &Datagram,
        message: &Message,
        (number, suite): (u8, IkeSuite),
        (ni, value): (&[u8], &[u8]),
    ) {
        let spi_i = message.header.initiator_spi;
        let id = context.ids.ike();
        let seen = nat::evaluate(spi_i, message.header.responder_spi, &datagram.path, message.payloads.iter());
        let answer = InitAnswer { request: datagram.octets.clone(), ni: ni.to_vec(), number, suite };
        let spis = (spi_i, self.fresh_spi(context));
        let begun = IkeSa::new(id, false, spis, datagram.path, context.now.boot, State::Answering(Box::new(answer)));
        let onward = Self::onward_of(Payloads(&message.payloads));
        let sa = IkeSa { window: Window { expected: 1, ..Window::default() }, nat: seen, onward, ..begun };
        self.add(sa);
        self.half_open.insert(id, (datagram.path.remote.ip(), spi_i));
        self.half_open_from.insert((datagram.path.remote.ip(), id));
        self.inits.insert((datagram.path.remote.ip(), spi_i), id);
        self.timers.set(Timer::HalfOpen(id), context.now.boot.saturating_add(HALF_OPEN_LIFE));
        let seed = context.rng.secret(64);
        self.out.work(context, Work::GenerateAndAgree { group: suite.group, seed, peer: value.to_vec() }, WorkFor::InitAnswer(id));
    }

    /// Key pair and shared secret of IKE_SA_INIT are there: the response leaves.
    pub(crate) fn init_answer_ready(&mut self, context: &mut Context<'_>, ike: IkeId, done: WorkDone) {
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        let State::Answering(answer) = &mut sa.state else { return };
        let (public, shared) = match done {
            WorkDone::KeyAndShared { public, shared } => (public, shared),
            WorkDone::Failed { why, .. } => {
                let (path, spi_i) = (sa.path, sa.spi_i);
                self.remove(context, ike);
                return self.refuse_init(context, path, spi_i, &Refusal::Crypto(why));
            }
            _ => return,
        };
        let nr = context.rng.octets(NONCE_LEN);
        let suite = answer.suite;
        let keys = match initial_keys(context, &shared, (&answer.ni, &nr), (sa.spi_i, sa.spi_r), &suite) {
            Ok(keys) => keys,
            Err(why) => {
                let path = sa.path;
                self.remove(context, ike);
                return self.drop_message(path, Cause::UNEXPECTED, why);
            }
        };
        let mut payloads = vec![
            Payload::SecurityAssociation(proposals::answer_ike(answer.number, &suite, &[])),
            Payload::KeyExchange { group: suite.group.transform_id(), data: public },
            Payload::Nonce(nr.clone()),
        ];
        payloads.extend(nat::notifies(sa.spi_i, sa.spi_r, &sa.path));
        let asked = self.directory.signs() && certificates::accepted_by(&answer.request).is_some();
        payloads.extend(asked.then(certificates::hash_algorithms));
        payloads.extend(self.directory.authorities().map(certificates::request_for));
        let header = Header::new(sa.spi_i, sa.spi_r, ExchangeType::IKE_SA_INIT, Flags::new(false, true), 0);
        let octets = Message { header, payloads }.encode();
        let attempt = AuthAttempt {
            crypt: Crypt::new(suite, keys, false),
            own_init: octets.clone(),
            peer_init: std::mem::take(&mut answer.request),
            ni: std::mem::take(&mut answer.ni),
            nr,
            received: None,
            identity: None,
            proof: None,
            verified: false,
            child: None,
        };
        let (spis, path) = (sa_spis(sa), sa.path);
        self.tell_keys(spis, &attempt.crypt);
        if let Some(sa) = self.sas.get_mut(&ike) {
            sa.state = State::AwaitAuth(Box::new(attempt));
        }
        self.out.transmit(context, path, octets);
    }
}
