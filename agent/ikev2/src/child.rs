//! A child SA being negotiated: what is asked of the kernel and the key keeper, what is offered, what the peer answers or asks for.
//! Invariant: a build lives from the first request for its SPI to its last installed half; whoever ends it early undoes what it holds.

use watari_crypto::KePrivate;
use watari_kernel::{Endpoints, KernelError, KernelReply, KernelRequest, KmAddress, SaId, Spi};
use watari_policies::algorithm::{ChildProposal, ChildSuite, Group};
use watari_policies::{Action, Mode, PolicyId, Protocol, RemoteId, Reqid, Secret, Selector, Traffic};
use watari_sa::negotiate::{self, KeyExchangeRule};
use watari_sa::{Agreed, ChildId, Context, IkeId, Owner, Trigger, Want, Work, WorkDone};
use watari_wire::ikev2::{Notify, NotifyType, Payload};

use crate::init::{NONCE_LEN, nonce_fits};
use crate::outbox::{RequestFor, WorkFor};
use crate::payloads::{Payloads, notify};
use crate::refusal::Refusal;
use crate::state::State;
use crate::{Ikev2, proposals, selectors};

/// How many child SAs a peer may have in one IKE SA, whatever the policies.
const MOST_CHILDREN: usize = 256;
/// How many more for each policy of its remote.
const CHILDREN_PER_POLICY: usize = 4;

/// What we want to negotiate.
#[derive(Clone, Debug)]
pub(crate) struct ChildPlan {
    /// The policy.
    pub(crate) policy: PolicyId,
    /// The packet that asked for it.
    pub(crate) packet: Option<Selector>,
    /// Sequence number of the ACQUIRE.
    pub(crate) sequence: u32,
    /// The child SA it replaces.
    pub(crate) replaces: Option<ChildId>,
    /// Whether it goes into IKE_AUTH.
    pub(crate) in_auth: bool,
    /// The group the peer asked for instead of our first choice.
    pub(crate) group: Option<Group>,
}

impl ChildPlan {
    /// The first child SA of an IKE SA.
    pub(crate) fn first(want: &Want) -> Self {
        Self { in_auth: true, ..Self::new(want) }
    }

    /// A further child SA.
    pub(crate) fn new(want: &Want) -> Self {
        let (packet, sequence) = match &want.trigger {
            Trigger::Acquire { packet, sequence } => (Some(*packet), *sequence),
            _ => (None, 0),
        };
        Self { policy: want.policy, packet, sequence, replaces: None, in_auth: false, group: None }
    }

    /// The successor of a child SA.
    pub(crate) const fn successor(policy: PolicyId, old: ChildId) -> Self {
        Self { policy, packet: None, sequence: 0, replaces: Some(old), in_auth: false, group: None }
    }
}

/// What the peer's request for a child SA brings along from its exchange.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// The initiator's nonce.
    pub(crate) ni: Vec<u8>,
    /// The responder's nonce.
    pub(crate) nr: Vec<u8>,
    /// Whether it came in IKE_AUTH.
    pub(crate) in_auth: bool,
    /// The child SA it replaces.
    pub(crate) replaces: Option<ChildId>,
}

/// How far a build has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Waiting for SPI and key pair (as responder also the shared secret).
    Prepare,
    /// The request is on its way.
    Sent,
    /// Waiting for the shared secret.
    Agree,
    /// Waiting for the kernel to take the inbound half.
    InstallInbound,
    /// Waiting for the kernel to take the outbound half.
    InstallOutbound,
    /// As responder of a rekey: outbound is installed when the peer has closed the old one.
    Deferred,
}

/// The child SA of a crossing exchange about the same thing.
#[derive(Clone, Debug)]
pub(crate) struct Competing {
    /// The child SA the peer asked for.
    pub(crate) child: ChildId,
    /// The lower of that exchange's nonces.
    pub(crate) lowest_nonce: Vec<u8>,
}

/// A child SA being made.
#[derive(Clone, Debug)]
pub(crate) struct ChildBuild {
    /// Its name.
    pub(crate) id: ChildId,
    /// The IKE SA it is made over.
    pub(crate) ike: IkeId,
    /// The peer.
    pub(crate) remote: RemoteId,
    /// The policy.
    pub(crate) policy: PolicyId,
    /// Whether we began the exchange.
    pub(crate) initiator: bool,
    /// Whether it is the first child SA, in IKE_AUTH.
    pub(crate) in_auth: bool,
    /// IPsec protocol.
    pub(crate) protocol: Protocol,
    /// Mode.
    pub(crate) mode: Mode,
    /// Traffic proposed by us, later agreed.
    pub(crate) traffic: Traffic,
    /// Proposals we offer.
    pub(crate) offer: Vec<ChildProposal>,
    /// Sequence number of the ACQUIRE.
    pub(crate) sequence: u32,
    /// The child SA it replaces, and our inbound SPI of that.
    pub(crate) replaces: Option<(ChildId, Spi)>,
    /// How far it has come.
    pub(crate) step: Step,
    /// Our SPI, once reserved.
    pub(crate) spi: Option<Spi>,
    /// Inbound end points the SPI is reserved for.
    pub(crate) reserved_for: Endpoints,
    /// The peer's SPI.
    pub(crate) peer_spi: Spi,
    /// Number of the chosen proposal.
    pub(crate) number: u8,
    /// Algorithms, once chosen.
    pub(crate) suite: Option<ChildSuite>,
    /// Group of its own key exchange.
    pub(crate) group: Option<Group>,
    /// Our key pair.
    pub(crate) private: Option<KePrivate>,
    /// Our public value.
    pub(crate) public: Option<Vec<u8>>,
    /// Shared secret of its own key exchange.
    pub(crate) shared: Option<Secret>,
    /// The initiator's nonce.
    pub(crate) ni: Vec<u8>,
    /// The responder's nonce.
    pub(crate) nr: Vec<u8>,
    /// What goes into the kernel, keys included, until both halves are there.
    pub(crate) agreed: Option<Agreed>,
    /// The peer's crossing exchange about the same policy or child SA.
    pub(crate) competing: Option<Competing>,
    /// SPIs that the peer deleted while its answer was under way: a delete that overtook the answer.
    pub(crate) withdrawn: Vec<Spi>,
}

impl ChildBuild {
    /// Everything an offer says, from REKEY_SA to TSr.
    pub(crate) fn offer_payloads(&self) -> Vec<Payload> {
        let mut payloads = Vec::new();
        //= rfc7296#1.3.3
        //# REKEY_SA names the SPI that the sender expects in inbound packets
        if let Some((_, spi)) = self.replaces {
            payloads.push(Payload::Notify(Notify::about_child(NotifyType::REKEY_SA, proposals::protocol_id(self.protocol), spi.0)));
        }
        if self.mode == Mode::Transport {
            payloads.push(notify(NotifyType::USE_TRANSPORT_MODE));
        }
        let spi = self.spi.unwrap_or_default().0;
        payloads.push(Payload::SecurityAssociation(proposals::offer_child(&self.offer, self.protocol, spi, !self.in_auth)));
        if !self.in_auth {
            payloads.push(Payload::Nonce(self.ni.clone()));
            payloads.extend(self.key_exchange());
        }
        payloads.push(Payload::TrafficInitiator(selectors::to_wire(&self.traffic.local)));
        payloads.push(Payload::TrafficResponder(selectors::to_wire(&self.traffic.remote)));
        payloads
    }

    /// Everything a response says.
    pub(crate) fn answer_payloads(&self) -> Vec<Payload> {
        let mut payloads = Vec::new();
        if self.mode == Mode::Transport {
            payloads.push(notify(NotifyType::USE_TRANSPORT_MODE));
        }
        let spi = self.spi.unwrap_or_default().0;
        if let Some(suite) = &self.suite {
            payloads.push(Payload::SecurityAssociation(proposals::answer_child(self.number, suite, self.group, self.protocol, spi)));
        }
        if !self.in_auth {
            payloads.push(Payload::Nonce(self.nr.clone()));
            payloads.extend(self.key_exchange());
        }
        payloads.push(Payload::TrafficInitiator(selectors::to_wire(&self.traffic.remote)));
        payloads.push(Payload::TrafficResponder(selectors::to_wire(&self.traffic.local)));
        payloads
    }

    fn key_exchange(&self) -> Option<Payload> {
        let (group, public) = (self.group?, self.public.as_ref()?);
        Some(Payload::KeyExchange { group: group.transform_id(), data: public.clone() })
    }

    /// Whether everything is there that the next message, or the installation, needs.
    fn prepared(&self) -> bool {
        self.spi.is_some() && (self.group.is_none() || (self.public.is_some() && (self.initiator || self.shared.is_some())))
    }

    /// The lower of the exchange's nonces.
    pub(crate) fn lowest_nonce(&self) -> Vec<u8> {
        lowest(&self.ni, &self.nr)
    }
}

/// The lower of two nonces, compared octet by octet, a nonce that ends first being the lower one.
pub(crate) fn lowest(one: &[u8], other: &[u8]) -> Vec<u8> {
    //= rfc7296#2.8.1
    //# "lowest" means an octet-by-octet comparison; if one ends, it is the lower one
    one.min(other).to_vec()
}

/// The half of an SA's endpoints for the inbound direction.
fn inbound_endpoints(context: &Context<'_>, policy: PolicyId, ike: KmAddress) -> Endpoints {
    context.whereabouts.sa_endpoints(policy, ike).reversed()
}

impl Ikev2 {
    /// The IKE addresses of an IKE SA.
    pub(crate) fn ike_addresses(&self, ike: IkeId) -> Option<KmAddress> {
        self.sas.get(&ike).map(|sa| KmAddress { local: sa.path.local.ip(), remote: sa.path.remote.ip() })
    }

    /// Begins a child SA of ours: its SPI and, if it has a key exchange of its own, its key pair are asked for.
    pub(crate) fn start_child(&mut self, context: &mut Context<'_>, ike: IkeId, plan: ChildPlan) -> Option<ChildId> {
        let policy = context.config.policy(plan.policy)?;
        let ipsec = context.config.ipsec(policy.ipsec)?;
        let addresses = self.ike_addresses(ike)?;
        let old = plan.replaces.and_then(|old| context.children.get(old));
        //= rfc7296#2.9.2
        //# a rekey proposes what the replaced child SA carries
        let (traffic, mode) = match old {
            Some(old) => (old.traffic.clone(), old.mode),
            None => (selectors::proposal(&policy.traffic, plan.packet.as_ref()), policy.mode),
        };
        let replaces = old.map(|old| (old.id, old.inbound.spi));
        let mut offer = negotiate::installable(&ipsec.proposals, context.capability);
        let group = if plan.in_auth { None } else { plan.group.or_else(|| offer.first().and_then(|first| first.groups.first().copied())) };
        if plan.in_auth {
            //= rfc7296#1.2
            //# the child SA of IKE_AUTH has no key exchange of its own, and none is offered
            offer.iter_mut().for_each(|proposal| proposal.groups.clear());
        }
        let (remote, protocol, reqid_in) = (policy.remote, ipsec.protocol, policy.reqid_in);
        let id = context.ids.child();
        let ni = match self.sas.get(&ike).map(|sa| &sa.state) {
            Some(State::AwaitAuth(attempt)) => attempt.ni.clone(),
            _ => context.rng.octets(NONCE_LEN),
        };
        let reserved_for = inbound_endpoints(context, plan.policy, addresses);
        let build = ChildBuild {
            id,
            ike,
            remote,
            policy: plan.policy,
            initiator: true,
            in_auth: plan.in_auth,
            protocol,
            mode,
            traffic,
            offer,
            sequence: plan.sequence,
            replaces,
            step: Step::Prepare,
            spi: None,
            reserved_for,
            peer_spi: Spi(0),
            number: 0,
            suite: None,
            group,
            private: None,
            public: None,
            shared: None,
            ni,
            nr: Vec::new(),
            agreed: None,
            competing: None,
            withdrawn: Vec::new(),
        };
        self.builds.insert(id, build);
        self.reserve_spi(context, id, reqid_in);
        if let Some(group) = group {
            let seed = context.rng.secret(64);
            self.out.work(context, Work::GenerateKey { group, seed }, WorkFor::ChildKey(id));
        }
        Some(id)
    }

    fn reserve_spi(&mut self, context: &mut Context<'_>, child: ChildId, reqid: Reqid) {
        let Some(build) = self.builds.get(&child) else { return };
        let (endpoints, protocol, mode) = (build.reserved_for, build.protocol, build.mode);
        let request = KernelRequest::AllocateSpi { endpoints, protocol, mode, reqid };
        self.out.kernel(context, request, RequestFor::Spi { child, endpoints, protocol });
    }

    /// The kernel reserved an SPI, or did not.
    pub(crate) fn spi_reserved(
        &mut self,
        context: &mut Context<'_>,
        child: ChildId,
        endpoints: Endpoints,
        protocol: Protocol,
        reply: Result<KernelReply, KernelError>,
    ) {
        match (self.builds.get_mut(&child), reply) {
            (Some(build), Ok(KernelReply::Spi(spi))) => {
                build.spi = Some(spi);
                self.child_step(context, child);
            }
            // Whoever asked is gone: the SPI is given back.
            (None, Ok(KernelReply::Spi(spi))) => self.out.delete_sa(context, SaId { dst: endpoints.dst, protocol, spi }),
            (Some(_), Ok(_)) => self.child_refused_here(context, child, kernel_gave_nothing()),
            (Some(_), Err(error)) => self.child_refused_here(context, child, error),
            (None, _) => {}
        }
    }

    /// The key keeper made a key pair for a child SA of ours.
    pub(crate) fn child_key_made(&mut self, context: &mut Context<'_>, child: ChildId, done: WorkDone) {
        let Some(build) = self.builds.get_mut(&child) else { return };
        match done {
            WorkDone::Key { private, public } => {
                (build.private, build.public) = (Some(private), Some(public));
                self.child_step(context, child);
            }
            WorkDone::Failed { why, .. } => self.child_failed(context, child, &Refusal::Crypto(why)),
            _ => {}
        }
    }

    /// The shared secret of a child SA's own key exchange is known.
    pub(crate) fn child_shared(&mut self, context: &mut Context<'_>, child: ChildId, done: WorkDone) {
        let Some(build) = self.builds.get_mut(&child) else { return };
        match done {
            WorkDone::Shared(shared) if build.step == Step::Agree => {
                build.shared = Some(shared);
                self.install_inbound(context, child);
            }
            WorkDone::KeyAndShared { public, shared } => {
                (build.public, build.shared) = (Some(public), Some(shared));
                self.child_step(context, child);
            }
            WorkDone::Failed { why, .. } => self.child_failed(context, child, &Refusal::Crypto(why)),
            _ => {}
        }
    }

    /// Goes on with a build that was waiting for SPI or keys.
    fn child_step(&mut self, context: &mut Context<'_>, child: ChildId) {
        let Some(build) = self.builds.get_mut(&child) else { return };
        if build.step != Step::Prepare || !build.prepared() {
            return;
        }
        if !build.initiator {
            return self.install_inbound(context, child);
        }
        let (ike, in_auth) = (build.ike, build.in_auth);
        if !in_auth && self.peer_was_first(child) {
            // Nothing of ours has left: the peer's exchange serves as well.
            self.cancel_build(context, child);
            return self.task_done(context, ike);
        }
        if let Some(build) = self.builds.get_mut(&child) {
            build.step = Step::Sent;
        }
        if in_auth { self.send_auth(context, ike) } else { self.send_create_child(context, child) }
    }

    /// The peer's answer to our offer of a child SA. `nr` is the responder's nonce.
    pub(crate) fn child_answered(&mut self, context: &mut Context<'_>, child: ChildId, payloads: Payloads<'_>, nr: &[u8]) {
        let Some(build) = self.builds.get_mut(&child) else { return };
        if let Some(error) = payloads.error() {
            let error = error.clone();
            return self.child_refused_there(context, child, &error);
        }
        build.nr = nr.to_vec();
        let prf_key_len = self.sas.get(&build.ike).and_then(|sa| sa.state.crypt()).map_or(0, |crypt| crypt.suite.prf.output_len());
        if !build.in_auth && (nr.is_empty() || !nonce_fits(nr, prf_key_len)) {
            return self.child_failed(context, child, &Refusal::Syntax("the answer's nonce is missing or too short".to_owned()));
        }
        if let Err(refusal) = read_answer(build, payloads) {
            return self.child_failed(context, child, &refusal);
        }
        if build.withdrawn.contains(&build.peer_spi) {
            return self.child_withdrawn(context, child);
        }
        let (ike, traffic) = (build.ike, build.traffic.clone());
        //= rfc7296#2.9
        //# what the peer may have on its side depends on who it proved to be, whichever of the two asked (RFC 4301 4.4.3)
        let identity = self.peer_of(ike).map(|(_, identity, _)| identity);
        if let Some(identity) = identity.filter(|identity| !context.config.pad.may_hold(identity, &traffic)) {
            let held = context.config.pad.held_by(&identity);
            return self.child_failed(context, child, &Refusal::NotAuthorised { who: identity, traffic, held });
        }
        let Some(build) = self.builds.get_mut(&child) else { return };
        match (build.group, &build.private, payloads.key_exchange()) {
            (None, ..) => self.install_inbound(context, child),
            (Some(group), Some(private), Some((sent, value))) if sent == group.transform_id() => {
                build.step = Step::Agree;
                let work = Work::Agree { group, private: private.clone(), peer: value.to_vec() };
                self.out.work(context, work, WorkFor::ChildShared(child));
            }
            _ => self.child_failed(context, child, &Refusal::Syntax("the key exchange of the child SA is missing".to_owned())),
        }
    }

    /// The peer asks for a child SA; what it needs is begun.
    pub(crate) fn child_requested(
        &mut self,
        context: &mut Context<'_>,
        ike: IkeId,
        payloads: Payloads<'_>,
        asked: Asked,
    ) -> Result<ChildId, Refusal> {
        self.room_for_child(context, ike)?;
        let chosen = self.choose_child(context, ike, payloads, &asked)?;
        let addresses = self.ike_addresses(ike).ok_or(Refusal::Temporary("the IKE SA is gone"))?;
        let policy = context.config.policy(chosen.policy).ok_or(Refusal::Temporary("the policy is gone"))?;
        let (remote, reqid_in) = (policy.remote, policy.reqid_in);
        let id = context.ids.child();
        let replaces = asked.replaces.and_then(|old| context.children.get(old)).map(|old| (old.id, old.inbound.spi));
        let build = ChildBuild {
            id,
            ike,
            remote,
            policy: chosen.policy,
            initiator: false,
            in_auth: asked.in_auth,
            protocol: chosen.protocol,
            mode: chosen.mode,
            traffic: chosen.traffic,
            offer: Vec::new(),
            sequence: 0,
            replaces,
            step: Step::Prepare,
            spi: None,
            reserved_for: inbound_endpoints(context, chosen.policy, addresses),
            peer_spi: chosen.peer_spi,
            number: chosen.number,
            suite: Some(chosen.suite),
            group: chosen.group,
            private: None,
            public: None,
            shared: None,
            ni: asked.ni,
            nr: asked.nr,
            agreed: None,
            competing: None,
            withdrawn: Vec::new(),
        };
        self.builds.insert(id, build);
        self.reserve_spi(context, id, reqid_in);
        if let (Some(group), Some((_, value))) = (chosen.group, payloads.key_exchange()) {
            let seed = context.rng.secret(64);
            self.out.work(context, Work::GenerateAndAgree { group, seed, peer: value.to_vec() }, WorkFor::ChildShared(id));
        }
        Ok(id)
    }

    /// Whether the peer may have one more child SA in this IKE SA: enough for every policy, narrowed and rekeyed, not endlessly many.
    fn room_for_child(&mut self, context: &Context<'_>, ike: IkeId) -> Result<(), Refusal> {
        self.directory.ensure(context.config);
        let remote = self.sas.get(&ike).and_then(|sa| sa.remote).ok_or(Refusal::NoRemote)?;
        let policies = self.directory.policies(context.config, remote).count();
        let most = policies.saturating_mul(CHILDREN_PER_POLICY).saturating_add(MOST_CHILDREN);
        //= rfc7296#1.3
        //# a responder that accepts no more child SAs in an IKE SA answers NO_ADDITIONAL_SAS
        if context.children.of_owner(Owner::Ike(ike)).take(most).count() >= most { Err(Refusal::NoMore(most)) } else { Ok(()) }
    }

    /// Policy, traffic, mode, algorithms and group for the peer's request, or why not.
    fn choose_child(&mut self, context: &Context<'_>, ike: IkeId, payloads: Payloads<'_>, asked: &Asked) -> Result<Chosen, Refusal> {
        let lacks = |what: &str| Refusal::Syntax(format!("a request for a child SA without {what}"));
        let offer = payloads.proposals().ok_or_else(|| lacks("SA"))?;
        let (tsi, tsr) = (payloads.traffic_initiator(), payloads.traffic_responder());
        let (tsi, tsr) = tsi.zip(tsr).ok_or_else(|| lacks("traffic selectors"))?;
        let proposed = Traffic { local: selectors::from_wire(tsr), remote: selectors::from_wire(tsi) };
        let (remote, identity, suite) = self.peer_of(ike).ok_or(Refusal::Temporary("the IKE SA is not authenticated"))?;
        let transport = payloads.notify(NotifyType::USE_TRANSPORT_MODE).is_some();
        let may_hold = |traffic: &Traffic| {
            let pad = &context.config.pad;
            let refuse = || Refusal::NotAuthorised { who: identity.clone(), traffic: traffic.clone(), held: pad.held_by(&identity) };
            if pad.may_hold(&identity, traffic) { Ok(()) } else { Err(refuse()) }
        };
        let chosen = self.choose_policy(context, remote, &proposed, transport, asked.replaces);
        let (policy_id, traffic, mode) = chosen.map_err(|refusal| match refusal {
            // Another node's home address has policies too, only not with this peer: who asks matters more than what is missing.
            Refusal::Traffic { proposed, policies, .. } => match may_hold(&proposed) {
                Err(refusal) => refusal,
                Ok(()) => Refusal::Traffic { who: Some(identity.clone()), proposed, policies },
            },
            refusal => refusal,
        })?;
        //= rfc7296#2.9
        //# what a peer may have depends on who it proved to be (RFC 4301 4.4.3)
        //= rfc4877#4.2
        //# a mobile node gets SAs for its own home address only, whatever it asks for
        may_hold(&traffic)?;
        let policy = context.config.policy(policy_id).ok_or(Refusal::Temporary("the policy is gone"))?;
        let ipsec = context.config.ipsec(policy.ipsec).ok_or(Refusal::Temporary("the policy is gone"))?;
        let offered = proposals::offered(offer, proposals::protocol_id(ipsec.protocol), 4);
        let ours = negotiate::installable(&ipsec.proposals, context.capability);
        let sent = payloads.key_exchange().map(|(group, _)| group);
        let rule = if asked.in_auth {
            KeyExchangeRule::Never
        } else {
            KeyExchangeRule::AsProposed { ike: suite.group, sent: sent.and_then(Group::from_transform) }
        };
        let (number, chosen, group) = negotiate::choose_child(&ours, &offered, rule).map_err(Refusal::ChildSuites)?;
        if let Some(group) = group
            && sent != Some(group.transform_id())
        {
            return Err(Refusal::Group(group));
        }
        if !asked.in_auth && !nonce_fits(&asked.ni, suite.prf.output_len()) {
            return Err(Refusal::Syntax("the nonce is too short".to_owned()));
        }
        let peer_spi = proposals::child_spi(offer, number, ipsec.protocol).ok_or_else(|| lacks("an SPI"))?;
        Ok(Chosen { policy: policy_id, traffic, mode, protocol: ipsec.protocol, number, suite: chosen, group, peer_spi: Spi(peer_spi) })
    }

    fn choose_policy(
        &mut self,
        context: &Context<'_>,
        remote: RemoteId,
        proposed: &Traffic,
        transport: bool,
        replaces: Option<ChildId>,
    ) -> Result<(PolicyId, Traffic, Mode), Refusal> {
        if let Some(old) = replaces.and_then(|old| context.children.get(old)) {
            let traffic = old.traffic.intersect(proposed);
            let mode_fits = (old.mode == Mode::Transport) == transport;
            if let Some(traffic) = traffic.filter(|_| mode_fits) {
                return Ok((old.policy, traffic, old.mode));
            }
        }
        self.directory.ensure(context.config);
        let of_mode = |mode: Mode| {
            let policies = self.directory.policies(context.config, remote);
            policies.filter(move |(_, policy)| policy.action == Action::Protect && policy.mode == mode)
        };
        let wanted = if transport { Mode::Transport } else { Mode::Tunnel };
        if let Some((id, traffic)) = selectors::best_policy(of_mode(wanted), proposed) {
            return Ok((id, traffic, wanted));
        }
        //= rfc7296#1.3.1
        //# a responder that declines transport mode answers without USE_TRANSPORT_MODE, in tunnel mode
        match (transport, selectors::best_policy(of_mode(if transport { Mode::Tunnel } else { Mode::Transport }), proposed)) {
            (true, Some((id, traffic))) => Ok((id, traffic, Mode::Tunnel)),
            (false, Some(_)) => Err(Refusal::Mode),
            (_, None) => {
                let names = self.directory.policies(context.config, remote).map(|(_, policy)| policy.name.clone()).take(20).collect();
                Err(Refusal::Traffic { who: None, proposed: proposed.clone(), policies: names })
            }
        }
    }
}

/// What we choose out of the peer's request.
struct Chosen {
    policy: PolicyId,
    traffic: Traffic,
    mode: Mode,
    protocol: Protocol,
    number: u8,
    suite: ChildSuite,
    group: Option<Group>,
    peer_spi: Spi,
}

/// Checks the peer's answer against what was offered and takes it over.
fn read_answer(build: &mut ChildBuild, payloads: Payloads<'_>) -> Result<(), Refusal> {
    let lacks = |what: &str| Refusal::Syntax(format!("an answer about a child SA without {what}"));
    let answer = payloads.proposals().ok_or_else(|| lacks("SA"))?;
    let (suite, group, spi) = proposals::chosen_child(&build.offer, answer, build.protocol)
        .ok_or_else(|| Refusal::Syntax("the peer chose what was not offered".to_owned()))?;
    let (tsi, tsr) = payloads.traffic_initiator().zip(payloads.traffic_responder()).ok_or_else(|| lacks("traffic selectors"))?;
    let answered = Traffic { local: selectors::from_wire(tsi), remote: selectors::from_wire(tsr) };
    let traffic = selectors::narrowed(&build.traffic, &answered);
    let traffic = traffic.ok_or_else(|| Refusal::Traffic { who: None, proposed: answered, policies: Vec::new() })?;
    //= rfc7296#1.3.1
    //# an answer in tunnel mode where transport was asked for is accepted or the child SA is deleted; here it is deleted
    if (build.mode == Mode::Transport) != payloads.notify(NotifyType::USE_TRANSPORT_MODE).is_some() {
        return Err(Refusal::Mode);
    }
    if build.group.is_some() && group.is_none() && payloads.key_exchange().is_none() {
        // The peer chose a proposal without a key exchange although we sent a public value.
        build.group = None;
    }
    if build.group != group && group.is_some() {
        return Err(Refusal::Syntax("the peer chose a group without saying so".to_owned()));
    }
    (build.suite, build.peer_spi, build.traffic) = (Some(suite), Spi(spi), traffic);
    Ok(())
}

/// The back end broke its contract.
fn kernel_gave_nothing() -> KernelError {
    KernelError { errno: 0, text: "no SPI in the answer".to_owned(), request: "reserve an SPI" }
}
