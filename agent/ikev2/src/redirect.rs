//! Redirects (RFC 5685): an initiator is sent on in IKE_SA_INIT, in IKE_AUTH or later, and as responder we send peers on.
//! Invariant: a redirect is followed only with our nonce or under keys of a proved peer, where the configuration lets it, and not in circles.

use std::net::IpAddr;
use std::time::Duration;

use watari_policies::{Gateway, Remote, RemoteId, SendOn};
use watari_sa::{Cause, Context, Datagram, IkeId, KeyingEvent};
use watari_wire::ikev2::{Delete, GatewayIdentity, Notify, NotifyType, Payload, Redirect};

use crate::Ikev2;
use crate::onward::Onward;
use crate::payloads::{Payloads, notify, notify_with};
use crate::state::State;
use crate::task::Task;
use crate::timers::Timer;

//= rfc5685#7
//# no more than MAX_REDIRECTS within REDIRECT_LOOP_DETECT_PERIOD
const MAX_REDIRECTS: usize = 5;
const LOOP_PERIOD: Duration = Duration::from_secs(300);
/// How long a peer that was sent on in IKE_AUTH has to close its IKE SA.
const FAREWELL: Duration = Duration::from_secs(30);

/// What IKE_SA_INIT says about redirects; nothing where none would be followed.
pub(crate) fn announcement(config: &Remote, onward: &Onward, to: IpAddr) -> Option<Payload> {
    //= rfc5685#3
    //# the new gateway is told who redirected us, which announces support too
    match onward.from {
        Some(from) => {
            let redirect = Redirect { gateway: GatewayIdentity::Address(from), nonce: Vec::new() };
            Some(notify_with(NotifyType::REDIRECTED_FROM, redirect.encode()))
        }
        // Sent on once more from here, we would be where we have just been.
        None if onward.unproved.contains(&to) => None,
        None => config.gateways.follows().then(|| notify(NotifyType::REDIRECT_SUPPORTED)),
    }
}

/// Whether an IKE_SA_INIT request says that its sender follows redirects.
pub(crate) fn announced(payloads: Payloads<'_>) -> bool {
    payloads.notify(NotifyType::REDIRECT_SUPPORTED).is_some() || payloads.notify(NotifyType::REDIRECTED_FROM).is_some()
}

fn to_wire(gateway: &Gateway, nonce: &[u8]) -> Payload {
    let gateway = match gateway {
        Gateway::Address(address) => GatewayIdentity::Address(*address),
        Gateway::Name(name) => GatewayIdentity::Fqdn(name.clone()),
    };
    notify_with(NotifyType::REDIRECT, Redirect { gateway, nonce: nonce.to_vec() }.encode())
}

fn from_wire(gateway: &GatewayIdentity) -> Gateway {
    match gateway {
        GatewayIdentity::Address(address) => Gateway::Address(*address),
        GatewayIdentity::Fqdn(name) => Gateway::Name(name.clone()),
    }
}

impl Ikev2 {
    /// Where a redirect leads, if it may be followed.
    fn judge(&mut self, context: &Context<'_>, remote: RemoteId, (notify, here): (&Notify, IpAddr)) -> Result<IpAddr, String> {
        let redirect = Redirect::decode(&notify.data).ok_or("the redirect cannot be read")?;
        let config = context.config.remote(remote).ok_or("the remote is gone from the configuration")?;
        let to = config.gateways.resolve(&from_wire(&redirect.gateway))?;
        if to == here {
            return Err(format!("{to} redirects to itself"));
        }
        if to.is_ipv4() != here.is_ipv4() && config.role != watari_policies::MobilityRole::None {
            return Err(format!("Mobile IPv6 has no use for {to}"));
        }
        let now = context.now.boot;
        let followed = self.redirects.entry(remote).or_default();
        followed.retain(|at| now.saturating_sub(*at) < LOOP_PERIOD);
        if followed.len() >= MAX_REDIRECTS {
            return Err(format!("{MAX_REDIRECTS} redirects were followed within {} s: most likely a loop", LOOP_PERIOD.as_secs()));
        }
        followed.push_back(now);
        Ok(to)
    }

    fn tell_redirected(&mut self, ike: IkeId, remote: RemoteId, from: IpAddr, to: IpAddr) {
        self.out.event(KeyingEvent::Redirected { ike, remote, from, to });
    }

    /// The response to IKE_SA_INIT is a redirect.
    pub(crate) fn init_redirected(&mut self, context: &mut Context<'_>, ike: IkeId, datagram: &Datagram, notify: &Notify) {
        let Some(sa) = self.sas.get(&ike) else { return };
        let (State::AwaitInit(attempt), Some(remote), here) = (&sa.state, sa.remote, sa.path.remote.ip()) else { return };
        let nonce = Redirect::decode(&notify.data).map(|redirect| redirect.nonce);
        //= rfc5685#3
        //# a redirect without the nonce of the request is discarded, and another response is waited for
        if !sa.onward.announced || nonce.is_none_or(|nonce| nonce != attempt.ni) {
            let why = if sa.onward.announced { "a redirect without our nonce" } else { "a redirect that nobody asked for" };
            return self.drop_message(datagram.path, Cause::UNEXPECTED, why.to_owned());
        }
        match self.judge(context, remote, (notify, here)) {
            Ok(to) => {
                self.tell_redirected(ike, remote, here, to);
                self.go_on(context, ike, (to, Some(here)), Cause::REDIRECTED, format!("to {to}"));
            }
            Err(why) => self.init_refused(ike, Cause::REDIRECT_REFUSED, why, true),
        }
    }

    /// The peer has proved who it is; whether its IKE_AUTH response sends us on instead of making a child SA.
    //= rfc5685#6
    //# the gateway's proof is verified before its redirect is acted on
    pub(crate) fn auth_redirected(&mut self, context: &mut Context<'_>, ike: IkeId) -> bool {
        let Some(sa) = self.sas.get(&ike).filter(|sa| sa.onward.announced) else { return false };
        let (State::AwaitAuth(attempt), Some(remote), here) = (&sa.state, sa.remote, sa.path.remote.ip()) else { return false };
        let received = attempt.received.as_deref().map(Payloads);
        let Some(notify) = received.and_then(|payloads| payloads.notify(NotifyType::REDIRECT)).cloned() else { return false };
        let closing = [Payload::Delete(Delete::ike_sa())];
        match self.judge(context, remote, (&notify, here)) {
            Ok(to) => {
                self.tell_redirected(ike, remote, here, to);
                self.close_unborn(context, ike, &closing, Some((to, Some(here))), Cause::REDIRECTED, format!("to {to}"));
            }
            Err(why) => {
                let another = self.another_address(context, ike, Cause::REDIRECT_REFUSED).map(|to| (to, None));
                self.close_unborn(context, ike, &closing, another, Cause::REDIRECT_REFUSED, why);
            }
        }
        true
    }

    /// The gateway sends us on in the middle of a session; the request has been answered.
    pub(crate) fn redirected(&mut self, context: &mut Context<'_>, ike: IkeId, notify: &Notify) {
        let Some(sa) = self.sas.get(&ike).filter(|sa| sa.is_established()) else { return };
        let (Some(remote), here, path) = (sa.remote, sa.path.remote.ip(), sa.path) else { return };
        //= rfc5685#10
        //# only the original responder redirects the original initiator
        if !(sa.onward.ours && sa.onward.announced) {
            return self.drop_message(path, Cause::UNEXPECTED, "a redirect that nobody asked for".to_owned());
        }
        // Said again, or already on the way.
        if sa.onward.leaving {
            return;
        }
        match self.judge(context, remote, (notify, here)) {
            Ok(to) => {
                self.tell_redirected(ike, remote, here, to);
                self.renew_towards(context, ike, (to, Some(here)), &[], Cause::SESSION_REDIRECTED);
            }
            Err(why) => self.drop_message(path, Cause::REDIRECT_REFUSED, why),
        }
    }

    /// As responder: the redirect that answers an IKE_SA_INIT request, if the remotes of this address are sent on at once.
    pub(crate) fn redirect_of_init(&mut self, context: &Context<'_>, datagram: &Datagram, payloads: Payloads<'_>) -> Option<Payload> {
        //= rfc5685#3
        //# whoever did not announce support is not redirected
        let ni = payloads.nonce().filter(|_| announced(payloads))?;
        self.directory.ensure(context.config);
        let gateway = self.directory.sent_on(datagram.path.remote.ip(), datagram.path.local.ip())?;
        // One that the new gateway has sent back, or that is there already, is served here rather than sent in a circle.
        let from = payloads.notify(NotifyType::REDIRECTED_FROM).and_then(|notify| Redirect::decode(&notify.data));
        let circle =
            from.is_some_and(|from| from_wire(&from.gateway) == *gateway) || *gateway == Gateway::Address(datagram.path.local.ip());
        if circle {
            return None;
        }
        self.out.event(KeyingEvent::SentOn { path: datagram.path, remote: None, to: gateway.to_string() });
        Some(to_wire(gateway, ni))
    }

    /// As responder: whether the peer, which has proved who it is, is sent on instead of getting a child SA.
    pub(crate) fn redirect_of_auth(&mut self, context: &mut Context<'_>, ike: IkeId) -> bool {
        let Some(sa) = self.sas.get(&ike).filter(|sa| sa.onward.announced) else { return false };
        let (Some(remote), path) = (sa.remote, sa.path) else { return false };
        let Some(config) = context.config.remote(remote) else { return false };
        let Some((gateway, SendOn::Auth)) = config.gateways.redirect_to.clone() else { return false };
        let circle = |address: IpAddr| gateway == Gateway::Address(address);
        if sa.onward.from.is_some_and(circle) || circle(sa.path.local.ip()) {
            return false;
        }
        self.out.event(KeyingEvent::SentOn { path, remote: Some(remote), to: gateway.to_string() });
        self.auth_answer(context, ike, vec![to_wire(&gateway, &[])], None);
        if self.sas.get(&ike).is_some_and(|sa| sa.is_established()) {
            // It closes the IKE SA itself, or it is closed.
            self.timers.set(Timer::CloseRedundant(ike), context.now.boot.saturating_add(FAREWELL));
        }
        true
    }

    /// As responder: what an IKE_SA_INIT request says about redirects.
    pub(crate) fn onward_of(payloads: Payloads<'_>) -> Onward {
        let from = payloads.notify(NotifyType::REDIRECTED_FROM).and_then(|notify| Redirect::decode(&notify.data));
        let from = from.and_then(|from| if let GatewayIdentity::Address(address) = from.gateway { Some(address) } else { None });
        Onward { announced: announced(payloads), from, ..Onward::default() }
    }

    /// As responder: sends the peer of an IKE SA on.
    pub(crate) fn redirect_peer(&mut self, context: &mut Context<'_>, ike: IkeId, gateway: &Gateway) -> Result<(), String> {
        let Some(sa) = self.sas.get(&ike).filter(|sa| sa.is_established()) else { return Err("the IKE SA does not stand".to_owned()) };
        if sa.onward.ours {
            return Err("this host began the IKE SA: only its responder can redirect".to_owned());
        }
        if !sa.onward.announced {
            return Err("the peer does not follow redirects".to_owned());
        }
        self.push_task(ike, Task::Redirect { to: gateway.clone() });
        self.run_tasks(context, ike);
        Ok(())
    }

    /// Task: the peer is told where to go.
    pub(crate) fn start_redirect(&mut self, context: &mut Context<'_>, ike: IkeId, to: Gateway) {
        //= rfc5685#5
        //# there is no nonce in the redirect of an IKE SA that stands
        let payload = to_wire(&to, &[]);
        if let Some(sa) = self.sas.get_mut(&ike) {
            let event = KeyingEvent::SentOn { path: sa.path, remote: sa.remote, to: to.to_string() };
            sa.current = Some(Task::Redirect { to });
            self.out.event(event);
        }
        self.inform(context, ike, &[payload]);
    }
}
