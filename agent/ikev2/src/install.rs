//! From an agreed child SA to one in use, and back: installation in order, failures, removal.
//! Invariant: the response of the responder leaves only after the kernel has taken the SA; what fails is undone on both sides.

use watari_crypto::ChildKeys;
use watari_kernel::{Endpoints, KernelError, KernelReply, KernelRequest, SaId, SaParameters, Spi};
use watari_policies::{Direction, RemoteId};
use watari_sa::{Agreed, Cause, ChildId, ChildSa, ChildState, Context, KeyingEvent, Owner, SaHalf, lifetimes, sa_selector};
use watari_wire::ikev2::{ExchangeType, Notify, NotifyType};

use crate::Ikev2;
use crate::child::{ChildBuild, Step};
use crate::outbox::RequestFor;
use crate::refusal::{Refusal, cause_of};
use crate::task::Task;
use crate::timers::Timer;

/// How long the responder of a rekey waits for the peer to close the old child SA before it sends on the new one.
const SWITCH_AFTER: std::time::Duration = std::time::Duration::from_secs(5);
/// How long packets that are still under way are received on a child SA that was replaced.
const DRAIN: std::time::Duration = std::time::Duration::from_secs(3);

/// What is remembered of a child SA beside the common table.
#[derive(Debug, Default)]
pub(crate) struct Kid {
    /// Its successor, once that stands.
    pub(crate) successor: Option<ChildId>,
    /// The child SA by which the peer is replacing it.
    pub(crate) heir: Option<ChildId>,
}

impl Ikev2 {
    fn agreed(&self, context: &Context<'_>, build: &ChildBuild) -> Option<Agreed> {
        let policy = context.config.policy(build.policy)?;
        let ipsec = context.config.ipsec(policy.ipsec)?;
        let suite = build.suite?;
        let crypt = self.sas.get(&build.ike)?.state.crypt()?;
        let (prf, d) = (crypt.suite.prf, &crypt.keys.d);
        let keys = ChildKeys::derive(context.provider, prf, d, &suite, build.shared.as_ref(), &build.ni, &build.nr).ok()?;
        Some(Agreed {
            protocol: build.protocol,
            mode: build.mode,
            traffic: build.traffic.clone(),
            suite,
            keys,
            initiator: build.initiator,
            inbound_spi: build.spi?,
            outbound_spi: build.peer_spi,
            reqid_in: policy.reqid_in,
            reqid_out: policy.reqid_out,
            replay_window: ipsec.replay_window,
            lifetime: lifetimes::kernel_limits(&ipsec.lifetime),
            encapsulation: None,
        })
    }

    /// Everything is agreed: the inbound half goes into the kernel.
    pub(crate) fn install_inbound(&mut self, context: &mut Context<'_>, child: ChildId) {
        let Some(build) = self.builds.get(&child) else { return };
        let (Some(agreed), Some(addresses)) = (self.agreed(context, build), self.ike_addresses(build.ike)) else {
            return self.child_failed(context, child, &Refusal::Crypto("no keys for the child SA".to_owned()));
        };
        // Read again: the peer or we may have moved since the SPI was reserved.
        let endpoints = context.whereabouts.sa_endpoints(build.policy, addresses);
        let parameters = inbound_half(context, build.remote, &agreed, endpoints);
        let allocated = build.reserved_for == endpoints.reversed();
        if !allocated {
            let id = SaId { dst: build.reserved_for.dst, ..parameters.id };
            self.out.delete_sa(context, id);
        }
        let half = |spi: Spi, endpoints: Endpoints, selector, reqid| SaHalf { spi, endpoints, selector, reqid, installed: false };
        context.children.insert(ChildSa {
            id: child,
            owner: Owner::Ike(build.ike),
            policy: build.policy,
            remote: build.remote,
            protocol: build.protocol,
            mode: build.mode,
            traffic: build.traffic.clone(),
            inbound: half(agreed.inbound_spi, endpoints.reversed(), parameters.selector, agreed.reqid_in),
            outbound: half(
                agreed.outbound_spi,
                endpoints,
                outbound_half(context, build.remote, &agreed, endpoints).selector,
                agreed.reqid_out,
            ),
            suite: agreed.suite,
            encapsulation: agreed.encapsulation,
            created: context.now.boot,
            rekey_at: None,
            expires_at: None,
            state: ChildState::Installing,
        });
        self.kids.insert(child, Kid::default());
        let id = parameters.id;
        let request = KernelRequest::AddSa { parameters: Box::new(parameters), allocated, sequence: 0 };
        self.out.kernel(context, request, RequestFor::Inbound(child, id));
        if let Some(build) = self.builds.get_mut(&child) {
            build.step = Step::InstallInbound;
            build.agreed = Some(agreed);
        }
    }

    /// The kernel took the inbound half, or did not.
    pub(crate) fn inbound_done(&mut self, context: &mut Context<'_>, child: ChildId, id: SaId, reply: Result<KernelReply, KernelError>) {
        let Some(build) = self.builds.get_mut(&child) else {
            // Gone meanwhile: what was just installed is taken out again.
            if context.children.get(child).is_none() && reply.is_ok() {
                self.out.delete_sa(context, id);
            }
            return;
        };
        if let Err(error) = reply {
            return self.child_refused_here(context, child, error);
        }
        context.children.update(child, |sa| sa.inbound.installed = true);
        //= rfc7296#2.8
        //# the responder of a rekey sends on the old child SA until it knows that the initiator receives on the new one
        if !build.initiator && build.replaces.is_some() {
            build.step = Step::Deferred;
            self.timers.set(Timer::Switch(child), context.now.boot.saturating_add(SWITCH_AFTER));
            return self.child_answer(context, child);
        }
        self.install_outbound(context, child);
    }

    /// The outbound half goes into the kernel.
    pub(crate) fn install_outbound(&mut self, context: &mut Context<'_>, child: ChildId) {
        let Some(build) = self.builds.get_mut(&child) else { return };
        self.timers.clear(Timer::Switch(child));
        let addresses =
            self.sas.get(&build.ike).map(|sa| watari_kernel::KmAddress { local: sa.path.local.ip(), remote: sa.path.remote.ip() });
        // Without an IKE SA its record alone has followed every movement.
        let recorded = context.children.get(child).map(|sa| sa.outbound.endpoints);
        let endpoints = addresses.map(|addresses| context.whereabouts.sa_endpoints(build.policy, addresses)).or(recorded);
        let Some(endpoints) = endpoints else { return };
        let Some(agreed) = &build.agreed else { return };
        let parameters = outbound_half(context, build.remote, agreed, endpoints);
        let id = parameters.id;
        let namesake = |sa: &ChildSa| sa.id != child && sa.outbound.installed;
        if context.children.by_outbound(id).any(namesake) {
            return self.child_refused_here(context, child, spi_in_use());
        }
        build.step = Step::InstallOutbound;
        context.children.update(child, |sa| sa.outbound.endpoints = endpoints);
        let request = KernelRequest::AddSa { parameters: Box::new(parameters), allocated: false, sequence: build.sequence };
        self.out.kernel(context, request, RequestFor::Outbound(child, id));
    }

    /// The kernel took the outbound half, or did not.
    pub(crate) fn outbound_done(&mut self, context: &mut Context<'_>, child: ChildId, id: SaId, reply: Result<KernelReply, KernelError>) {
        let Some(build) = self.builds.get(&child) else {
            // Gone meanwhile, or closed and only receiving.
            if reply.is_ok() {
                self.out.delete_sa(context, id);
            }
            return;
        };
        if let Err(error) = reply {
            return self.child_refused_here(context, child, error);
        }
        context.children.update(child, |sa| sa.outbound.installed = true);
        // The response to a rekey left before.
        if !build.initiator && build.replaces.is_none() {
            self.child_answer(context, child);
        }
        self.child_up(context, child);
    }

    /// The responder's answer leaves.
    fn child_answer(&mut self, context: &mut Context<'_>, child: ChildId) {
        let Some(build) = self.builds.get(&child) else { return };
        let (ike, payloads) = (build.ike, build.answer_payloads());
        if build.in_auth {
            return self.auth_answer(context, ike, payloads, None);
        }
        let (mut told, _) = self.home_told(ike);
        told.extend(payloads);
        self.answer(context, ike, &told);
    }

    /// Both halves are installed: it is in use, and what it replaces goes.
    fn child_up(&mut self, context: &mut Context<'_>, child: ChildId) {
        let Some(build) = self.builds.remove(&child) else { return };
        let policy = context.config.policy(build.policy);
        let lifetime = policy.and_then(|policy| context.config.ipsec(policy.ipsec)).map(|ipsec| ipsec.lifetime);
        let schedule = lifetime.map(|lifetime| lifetimes::schedule(&lifetime, context.now.boot, context.rng)).unwrap_or_default();
        context.children.update(child, |sa| {
            sa.state = ChildState::Installed;
            (sa.rekey_at, sa.expires_at) = (schedule.rekey_at, schedule.expires_at);
        });
        self.timers.set_or_clear(Timer::RekeyChild(child), schedule.rekey_at);
        self.timers.set_or_clear(Timer::ExpireChild(child), schedule.expires_at);
        self.out.event(KeyingEvent::ChildUp(child));
        self.remove_orphans(context, &build);
        if build.initiator {
            self.child_made(context, &build);
        } else if let Some((old, _)) = build.replaces {
            self.child_replaced(context, old, child);
        }
    }

    /// Marks a child SA as replaced by another.
    pub(crate) fn child_replaced(&mut self, context: &mut Context<'_>, old: ChildId, new: ChildId) {
        if let Some(kid) = self.kids.get_mut(&old) {
            kid.successor = Some(new);
        }
        self.timers.clear(Timer::RekeyChild(old));
        context.children.update(old, |sa| {
            if sa.state == ChildState::Installed {
                sa.state = ChildState::Replaced;
            }
        });
        self.out.event(KeyingEvent::ChildRekeyed { old, new });
    }

    /// Child SAs without an owner that served the policy go now that another serves it; what the peer still sends on them is received.
    fn remove_orphans(&mut self, context: &mut Context<'_>, build: &ChildBuild) {
        let left_over = |sa: &&ChildSa| sa.owner == Owner::None && sa.state != ChildState::Closing && sa.id != build.id;
        let orphans: Vec<ChildId> = context.children.of_policy(build.policy).filter(left_over).map(|sa| sa.id).collect();
        for orphan in orphans {
            self.finish_child(context, orphan, Cause::REPLACED);
        }
    }

    /// Our kernel refused a part of a child SA.
    pub(crate) fn child_refused_here(&mut self, context: &mut Context<'_>, child: ChildId, error: KernelError) {
        self.child_failed(context, child, &Refusal::Kernel(error));
    }

    /// A child SA cannot be made for a reason of ours: it is undone, the peer is told, the wish fails.
    pub(crate) fn child_failed(&mut self, context: &mut Context<'_>, child: ChildId, refusal: &Refusal) {
        let Some(build) = self.builds.get(&child).cloned() else { return };
        // The response of a rekey left already: the peer must be asked to delete its part.
        let answered = !build.initiator && self.sas.get(&build.ike).is_none_or(|sa| !sa.answers_child(child));
        self.cancel_build(context, child);
        if build.in_auth && build.step == Step::Prepare && build.initiator {
            return self.attempt_failed(context, build.ike, refusal.cause(), refusal.detail());
        }
        if build.initiator || answered {
            if let Some(spi) = build.spi.filter(|_| build.step != Step::Prepare) {
                self.push_task(build.ike, Task::DeleteSpi { protocol: build.protocol, spi });
            }
            self.out.event(KeyingEvent::WantFailed { policy: build.policy, cause: refusal.cause(), detail: refusal.detail() });
            self.child_task_failed(context, &build);
        } else {
            let path = self.sas.get(&build.ike).map(|sa| sa.path);
            if build.in_auth {
                self.auth_answer(context, build.ike, vec![refusal.notify()], Some(refusal));
            } else {
                if let Some(path) = path {
                    self.drop_message(path, refusal.cause(), refusal.detail());
                }
                self.answer(context, build.ike, &[refusal.notify()]);
            }
        }
    }

    /// The peer refused the child SA.
    pub(crate) fn child_refused_there(&mut self, context: &mut Context<'_>, child: ChildId, error: &Notify) {
        let Some(build) = self.builds.get(&child).cloned() else { return };
        self.cancel_build(context, child);
        if build.in_auth {
            let detail = format!("the peer answered {error}");
            self.out.event(KeyingEvent::WantFailed { policy: build.policy, cause: cause_of(error), detail });
            return;
        }
        self.create_child_refused(context, &build, error);
    }

    /// Undoes what a build holds in the kernel and forgets it; nobody is told.
    pub(crate) fn cancel_build(&mut self, context: &mut Context<'_>, child: ChildId) {
        let Some(build) = self.builds.remove(&child) else { return };
        self.kids.remove(&child);
        self.timers.clear_child(child);
        if let Some(sa) = context.children.remove(child) {
            self.out.delete_sa(context, sa.inbound_id());
            self.delete_outbound(context, &sa);
        } else if let Some(spi) = build.spi {
            self.out.delete_sa(context, SaId { dst: build.reserved_for.dst, protocol: build.protocol, spi });
        }
    }

    /// Removes the outbound half if it is in the kernel. The peer chose its SPI: what stands there otherwise may be another peer's.
    fn delete_outbound(&mut self, context: &mut Context<'_>, sa: &ChildSa) {
        if sa.outbound.installed {
            self.out.delete_sa(context, sa.outbound_id());
        }
    }

    /// Takes a child SA out of the kernel and the table.
    pub(crate) fn remove_child(&mut self, context: &mut Context<'_>, child: ChildId, cause: Cause) {
        self.builds.remove(&child);
        self.kids.remove(&child);
        self.timers.clear_child(child);
        let Some(sa) = context.children.remove(child) else { return };
        self.delete_outbound(context, &sa);
        self.out.delete_sa(context, sa.inbound_id());
        self.out.event(KeyingEvent::ChildDown { child, policy: sa.policy, cause });
    }

    /// Ends a child SA whose delete exchange is over: what was replaced goes on receiving for a moment.
    pub(crate) fn finish_child(&mut self, context: &mut Context<'_>, child: ChildId, cause: Cause) {
        let successor = self.kids.get(&child).and_then(|kid| kid.successor).is_some_and(|new| context.children.get(new).is_some());
        // The redundant one of two from crossing exchanges has no successor, but packets on it may still be under way all the same.
        let twin = context.children.get(child).is_some_and(|sa| {
            let serves = |other: &ChildSa| other.id != sa.id && other.state == ChildState::Installed && other.outbound.installed;
            context.children.of_policy(sa.policy).any(serves)
        });
        if !(successor || twin) {
            return self.remove_child(context, child, cause);
        }
        self.builds.remove(&child);
        self.timers.clear_child(child);
        let closing = context.children.update(child, |sa| {
            sa.state = ChildState::Closing;
            let before = sa.clone();
            sa.outbound.installed = false;
            before
        });
        if let Some(sa) = closing {
            self.delete_outbound(context, &sa);
            self.timers.set(Timer::Drain(child), context.now.boot.saturating_add(DRAIN));
        }
    }

    /// The deferred outbound half of a successor is installed now.
    pub(crate) fn switch_outbound(&mut self, context: &mut Context<'_>, child: ChildId) {
        if self.builds.get(&child).is_some_and(|build| build.step == Step::Deferred) {
            self.install_outbound(context, child);
        }
    }

    /// Whether a child SA that the peer asked for as a successor has been answered: the peer may use it.
    pub(crate) fn serves_peer_already(&self, child: ChildId) -> bool {
        let answered = |build: &ChildBuild| matches!(build.step, Step::Deferred | Step::InstallOutbound);
        self.builds.get(&child).is_some_and(|build| !build.initiator && build.replaces.is_some() && answered(build))
    }

    /// A child SA without owner reaches its end: the one that was to replace it takes over.
    pub(crate) fn orphan_expired(&mut self, context: &mut Context<'_>, child: ChildId) {
        if let Some(heir) = self.kids.get(&child).and_then(|kid| kid.heir) {
            self.switch_outbound(context, heir);
        }
        self.remove_child(context, child, Cause::EXPIRED);
    }

    /// Sends the CREATE_CHILD_SA request of a child SA that has all it needs.
    pub(crate) fn send_create_child(&mut self, context: &mut Context<'_>, child: ChildId) {
        let Some(build) = self.builds.get(&child) else { return };
        let (ike, payloads) = (build.ike, build.offer_payloads());
        self.send_request(context, ike, ExchangeType::CREATE_CHILD_SA, &payloads);
    }
}

/// The SPI that the peer chose belongs to an SA to the same address already, perhaps another peer's: nothing of it may be touched.
fn spi_in_use() -> KernelError {
    KernelError { errno: 17, text: "the SPI that the peer chose is in use".to_owned(), request: "install an SA" }
}

fn governed(context: &Context<'_>, remote: RemoteId) -> bool {
    context.config.remote(remote).is_some_and(|remote| remote.role.is_mobile_ipv6())
}

/// The inbound SA with the selector that the kernel can check.
fn inbound_half(context: &Context<'_>, remote: RemoteId, agreed: &Agreed, endpoints: Endpoints) -> SaParameters {
    let visible = context.capability.inbound_mh_type != Some(false);
    let selector = sa_selector(&agreed.traffic, Direction::In, agreed.mode, governed(context, remote), visible);
    SaParameters { selector, ..agreed.inbound(endpoints, visible) }
}

/// The outbound SA with the selector that the kernel can check.
fn outbound_half(context: &Context<'_>, remote: RemoteId, agreed: &Agreed, endpoints: Endpoints) -> SaParameters {
    let selector = sa_selector(&agreed.traffic, Direction::Out, agreed.mode, governed(context, remote), true);
    SaParameters { selector, ..agreed.outbound(endpoints) }
}

/// Whether a notify says that no further child SA can be made over this IKE SA.
pub(crate) const fn no_more_children(error: &Notify) -> bool {
    error.notify_type.0 == NotifyType::NO_ADDITIONAL_SAS.0
}
