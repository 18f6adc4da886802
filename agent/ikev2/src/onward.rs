//! Several addresses of one peer: when one does not serve the next one is tried, and what stands moves over make before break
//! (RFC 5026 5.1.2, RFC 5142). Invariant: while another address is tried, an IKE SA that stands keeps its children, and nothing new.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use watari_policies::{MobilityRole, RemoteId};
use watari_sa::{Cause, ChildState, Context, IkeId, KeyingEvent, Owner, Trigger, Want};

use crate::Ikev2;
use crate::session::REDUNDANT_LIFE;
use crate::state::State;
use crate::task::Task;
use crate::timers::Timer;

/// How long the IKE SA with a home agent lives on that has sent its mobile node on in the session: the binding there is protected by its
/// children until a Home Agent Switch message ends it, and so is that message.
const BOUND_LIFE: Duration = Duration::from_secs(300);

/// What redirects and other addresses of the peer mean for one IKE SA.
#[derive(Clone, Debug)]
pub(crate) struct Onward {
    /// Whether its first initiator announced that it follows redirects.
    pub(crate) announced: bool,
    /// Whether that was us.
    pub(crate) ours: bool,
    /// The gateway that redirected us here.
    pub(crate) from: Option<IpAddr>,
    /// Addresses that were tried before this one.
    pub(crate) tried: Vec<IpAddr>,
    /// Addresses to be tried before those of the configuration.
    pub(crate) ahead: Vec<IpAddr>,
    /// Addresses that sent us on before anything was proved: tried once more in the end, and not followed then.
    pub(crate) unproved: Vec<IpAddr>,
    /// Whether an IKE SA at another address is about to take its place.
    pub(crate) leaving: bool,
    /// How long IKE SAs live on whose place it takes.
    pub(crate) outlived: Duration,
}

impl Default for Onward {
    fn default() -> Self {
        Self {
            announced: false,
            ours: false,
            from: None,
            tried: Vec::new(),
            ahead: Vec::new(),
            unproved: Vec::new(),
            leaving: false,
            outlived: REDUNDANT_LIFE,
        }
    }
}

impl Onward {
    /// What a successor of the same IKE SA takes over.
    pub(crate) fn inherited(&self) -> Self {
        Self { announced: self.announced, ours: self.ours, leaving: self.leaving, ..Self::default() }
    }
}

impl Ikev2 {
    /// The address to try next after one that did not serve; none if every one was tried, or the attempt ended for another reason.
    pub(crate) fn another_address(&self, context: &Context<'_>, ike: IkeId, cause: Cause) -> Option<IpAddr> {
        let sa = self.sas.get(&ike).filter(|sa| sa.is_attempt())?;
        if [Cause::OPERATOR, Cause::NO_REMOTE].contains(&cause) {
            return None;
        }
        let here = sa.path.remote.ip();
        let mut tried = sa.onward.tried.clone();
        tried.push(here);
        //= rfc5026#5.1.2
        //# a home agent that does not answer, or with which authentication fails, is followed by the next one of the list
        let ahead = sa.onward.ahead.iter().find(|address| !tried.contains(address)).copied();
        ahead.or_else(|| context.config.remote(sa.remote?)?.next_address(&tried))
    }

    /// Gives up an IKE SA that is being made and makes one at another address instead, for the same wishes.
    pub(crate) fn go_on(&mut self, context: &mut Context<'_>, ike: IkeId, to: (IpAddr, Option<IpAddr>), cause: Cause, detail: String) {
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        let Some(remote) = sa.remote else { return };
        let (wants, supersedes) = (std::mem::take(&mut sa.wants), std::mem::take(&mut sa.supersedes));
        let mut onward = std::mem::take(&mut sa.onward);
        let here = sa.path.remote.ip();
        if matches!(sa.state, State::AwaitInit(_)) && to.1 == Some(here) && !onward.unproved.contains(&here) {
            // Whoever saw our first message can have sent this: the address that we wanted gets its turn after the one named.
            onward.unproved.push(here);
            onward.ahead.push(here);
        } else {
            onward.tried.push(here);
        }
        onward.from = to.1;
        let closing = matches!(sa.state, State::Closing(_));
        self.out.event(KeyingEvent::IkeDown { ike, remote: Some(remote), cause, detail });
        if !closing {
            self.remove(context, ike);
        }
        self.start_towards(context, remote, to.0, cause, (wants, supersedes, onward));
    }

    /// Starts an IKE SA with a peer at this address, which is the one in force from now on, if the peer proves there who it is.
    fn start_towards(
        &mut self,
        context: &mut Context<'_>,
        remote: RemoteId,
        to: IpAddr,
        cause: Cause,
        (wants, supersedes, onward): (VecDeque<Want>, Vec<(IkeId, bool)>, Onward),
    ) {
        self.out.use_address(remote, to, cause, false);
        let addresses = context.whereabouts.ike_addresses_to(remote, to);
        self.start_ike_at(context, (remote, addresses), wants, supersedes, onward);
    }

    /// Starts an IKE SA at another address beside one that stands, with replacements for all its children; when it stands, the old one
    /// is closed.
    pub(crate) fn renew_towards(
        &mut self,
        context: &mut Context<'_>,
        old: IkeId,
        to: (IpAddr, Option<IpAddr>),
        ahead: &[IpAddr],
        cause: Cause,
    ) {
        if let Some(next) = self.superseding(old) {
            if self.sas.get(&next).is_some_and(|sa| sa.path.remote.ip() != to.0) {
                self.go_on(context, next, to, cause, String::new());
            }
            return;
        }
        let Some(sa) = self.sas.get_mut(&old) else { return };
        let Some(remote) = sa.remote else { return };
        sa.onward.leaving = true;
        let mobile = context.config.remote(remote).is_some_and(|config| matches!(config.role, MobilityRole::MobileNode { .. }));
        //= rfc5685#8
        //# a redirect in the middle of a session updates no state of Mobile IPv6: what protects the binding stays
        let outlived = if mobile && cause == Cause::SESSION_REDIRECTED { BOUND_LIFE } else { REDUNDANT_LIFE };
        let onward = Onward { from: to.1, tried: vec![sa.path.remote.ip()], ahead: ahead.to_vec(), outlived, ..Onward::default() };
        let wants = self.replacements(context, old, remote);
        self.start_towards(context, remote, to.0, cause, (wants, vec![(old, true)], onward));
    }

    /// The peer is to be reached at the first of these addresses that serves.
    pub(crate) fn switch_address(&mut self, context: &mut Context<'_>, remote: RemoteId, list: &[IpAddr], cause: Cause) {
        let Some((first, ahead)) = list.split_first() else { return };
        let ids = self.ike_ids(remote);
        let attempt = ids.iter().rev().copied().find(|ike| self.sas.get(ike).is_some_and(|sa| sa.is_attempt()));
        if let Some(ike) = attempt {
            let Some(sa) = self.sas.get_mut(&ike).filter(|sa| sa.path.remote.ip() != *first) else { return };
            sa.onward = Onward { ahead: ahead.to_vec(), ..Onward::default() };
            return self.go_on(context, ike, (*first, None), cause, String::new());
        }
        let stands =
            |ike: &IkeId| self.timers.get(Timer::CloseRedundant(*ike)).is_none() && self.sas.get(ike).is_some_and(|sa| sa.is_established());
        if let Some(ike) = ids.iter().rev().copied().find(stands) {
            if self.sas.get(&ike).is_some_and(|sa| sa.path.remote.ip() != *first) {
                return self.renew_towards(context, ike, (*first, None), ahead, cause);
            }
            return self.hasten(context, &ids);
        }
        let orphans = context.children.of_owner(Owner::None).filter(|sa| sa.remote == remote);
        let wants: VecDeque<Want> = orphans.map(|sa| Want { policy: sa.policy, trigger: Trigger::Replace(sa.id) }).collect();
        if wants.is_empty() {
            return self.out.use_address(remote, *first, cause, true);
        }
        let onward = Onward { ahead: ahead.to_vec(), ..Onward::default() };
        self.start_towards(context, remote, *first, cause, (wants, Vec::new(), onward));
    }

    /// IKE SAs whose place has been taken are not needed any longer.
    fn hasten(&mut self, context: &Context<'_>, ids: &[IkeId]) {
        let soon = context.now.boot.saturating_add(REDUNDANT_LIFE);
        for ike in ids {
            if self.timers.get(Timer::CloseRedundant(*ike)).is_some_and(|at| at > soon) {
                self.timers.set(Timer::CloseRedundant(*ike), soon);
            }
        }
    }

    /// An IKE SA has got new keys: whatever is to take its place takes that of its successor.
    pub(crate) fn supersede_instead(&mut self, old: IkeId, new: IkeId) {
        let Some(remote) = self.sas.get(&new).and_then(|sa| sa.remote) else { return };
        for other in self.ike_ids(remote).into_iter().filter(|other| *other != new) {
            let Some(sa) = self.sas.get_mut(&other) else { continue };
            for (superseded, _) in sa.supersedes.iter_mut().filter(|(superseded, _)| *superseded == old) {
                *superseded = new;
            }
        }
    }

    /// The IKE SA at another address has had its time: whether the one that it was to replace goes on instead, because no child SA came up
    /// there.
    pub(crate) fn stays_after_all(&mut self, context: &mut Context<'_>, ike: IkeId) -> bool {
        let Some(sa) = self.sas.get(&ike).filter(|sa| sa.onward.leaving && sa.is_established()) else { return false };
        let (Some(remote), here) = (sa.remote, sa.path.remote.ip()) else { return false };
        let serves = |ike: IkeId| context.children.of_owner(Owner::Ike(ike)).any(|child| child.state == ChildState::Installed);
        let lasts = |other: &IkeId| *other != ike && self.timers.get(Timer::CloseRedundant(*other)).is_none();
        let mut others: Vec<IkeId> = self.ike_ids(remote).into_iter().filter(lasts).collect();
        let stands = |other: &IkeId| self.sas.get(other).is_some_and(|sa| sa.is_established());
        if !serves(ike) || others.iter().any(|other| stands(other) && serves(*other)) {
            return false;
        }
        if others.iter().any(|other| !self.negotiating(*other).is_empty()) {
            self.timers.set(Timer::CloseRedundant(ike), context.now.boot.saturating_add(REDUNDANT_LIFE));
            return true;
        }
        if let Some(sa) = self.sas.get_mut(&ike) {
            sa.onward.leaving = false;
        }
        self.out.use_address(remote, here, Cause::PEER_REFUSED, true);
        others.retain(|other| self.sas.get(other).is_some_and(|sa| sa.is_established() && sa.path.remote.ip() != here));
        for other in others {
            self.push_task_first(other, Task::DeleteIke { cause: Cause::PEER_REFUSED });
            self.run_tasks(context, other);
        }
        true
    }

    /// Nothing is left to try: the IKE SA that stands goes on, or the list is begun again after a pause.
    pub(crate) fn nowhere_left(&mut self, context: &Context<'_>, ike: IkeId, cause: Cause) {
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        let (supersedes, remote) = (std::mem::take(&mut sa.supersedes), sa.remote);
        let Some((remote, config)) = remote.and_then(|remote| Some((remote, context.config.remote(remote)?))) else { return };
        let (mut standing, mut doubted) = (None, false);
        for (old, polite) in supersedes {
            if let Some(old) = self.sas.get_mut(&old).filter(|old| old.is_established()) {
                old.onward.leaving = false;
                standing = Some(old.path.remote.ip());
                doubted |= !polite;
            }
        }
        // The peer may have restarted meanwhile and called us itself.
        let stands = |ike: &IkeId| {
            let lasts = self.timers.get(Timer::CloseRedundant(*ike)).is_none();
            self.sas.get(ike).filter(|sa| lasts && sa.is_established()).map(|sa| sa.path.remote.ip())
        };
        let standing = standing.or_else(|| self.ike_ids(remote).iter().rev().find_map(stands));
        let Some(address) = standing.or_else(|| config.gateways.addresses.first().copied()) else { return };
        self.out.use_address(remote, address, cause, standing.is_some());
        if standing.is_some() && !doubted {
            return;
        }
        if cause != Cause::OPERATOR && config.gateways.addresses.len() > 1 {
            //= rfc5026#5.1.2
            //# when all home agents have been tried the mobile node waits before it begins again
            self.rest(context, remote, config.gateways.pause);
        }
    }
}
