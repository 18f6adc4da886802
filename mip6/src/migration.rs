//! What a MIGRATE means: which policies, child SAs, IKE SAs and remembered addresses it concerns, and what becomes of each.
//! Pure: a plan is a value. Invariants: addresses always agree, so mobile nodes that share reqids never move each other; a repeated
//! event gives `Idle`; the last event wins; nothing is ever found by old end points.

use std::collections::BTreeMap;
use std::net::IpAddr;

use watari_kernel::{Endpoints, KmAddress, Migrate, MigrateSource, MigrateStep};
use watari_policies::{Direction, Mode, PolicyId, Protocol, RemoteId, Reqid, Selector};

use crate::key_mobility::{Connections, Decision};

/// How a policy is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyQuery {
    /// Out or in; a forward policy stands for the inbound one.
    pub direction: Direction,
    /// Reqid, 0 for the selector alone.
    pub reqid: Reqid,
    /// Mode.
    pub mode: Mode,
    /// IPsec protocol.
    pub protocol: Protocol,
    /// Selector.
    pub selector: Selector,
    /// Whether the selector's types and ports are told (PF_KEY leaves them out).
    pub types: bool,
}

/// A child SA as far as movement concerns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChildView<C> {
    /// Its name.
    pub id: C,
    /// Mode; transport SAs stay between home address and home agent.
    pub mode: Mode,
    /// End points of what arrives.
    pub inbound: Endpoints,
    /// End points of what leaves.
    pub outbound: Endpoints,
}

/// What the agent knows, found through indexes: no call may cost more because there are more mobile nodes.
pub trait Associations {
    /// Names a child SA.
    type Child: Copy + Ord;
    /// Names an IKE SA.
    type Ike: Copy + Ord;

    /// Policies that fit; addresses must agree, and reqid and upper protocol unless the reqid is 0.
    fn policies(&self, query: &PolicyQuery) -> Vec<PolicyId>;
    /// The peer of a policy.
    fn remote_of(&self, policy: PolicyId) -> Option<RemoteId>;
    /// The home address at stake with a remote.
    fn home_address(&self, remote: RemoteId) -> Option<IpAddr>;
    /// Child SAs of a policy, also those being installed or replaced.
    fn children_of(&self, policy: PolicyId) -> Vec<ChildView<Self::Child>>;
    /// IKE SAs with a remote and their addresses, also those in the making or without children.
    fn ike_sas_of(&self, remote: RemoteId) -> Vec<(Self::Ike, KmAddress)>;
    /// Addresses for key management remembered for a policy.
    fn remembered(&self, policy: PolicyId) -> Option<KmAddress>;
    /// Addresses for key management remembered for a remote.
    fn remembered_of(&self, remote: RemoteId) -> Option<KmAddress>;
    /// Tunnel end points known for a policy, this host to peer.
    fn tunnel(&self, policy: PolicyId) -> Option<Endpoints>;
    /// Whether a remote is believed to be at these addresses, and what its IKE SAs do then. Asked only where something would change.
    fn belief(&self, remote: RemoteId, addresses: KmAddress) -> Belief;
}

/// What is thought of a movement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Belief {
    /// It is a fact; the IKE SAs do this.
    Believed(Decision),
    /// Nothing stands behind it: IKE SAs and remembered addresses stay until the new path is proved.
    Doubted,
}

/// A child SA whose records move; the kernel has moved the SA itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MovedChild<C> {
    /// The child SA.
    pub id: C,
    /// New end points of what arrives, if they change.
    pub inbound: Option<Endpoints>,
    /// New end points of what leaves, if they change.
    pub outbound: Option<Endpoints>,
}

/// An IKE SA that follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retarget<I> {
    /// The IKE SA.
    pub ike: I,
    /// Its peer.
    pub remote: RemoteId,
    /// Its addresses before.
    pub old: KmAddress,
    /// Its addresses from now on.
    pub new: KmAddress,
}

/// An IKE SA that is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discard<I> {
    /// The IKE SA.
    pub ike: I,
    /// Its peer.
    pub remote: RemoteId,
    /// Its addresses.
    pub old: KmAddress,
    /// Where the peer is from now on.
    pub new: KmAddress,
}

/// A remote whose remembered addresses change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteMove {
    /// The remote.
    pub remote: RemoteId,
    /// Remembered before.
    pub old: Option<KmAddress>,
    /// Remembered from now on.
    pub new: KmAddress,
}

/// What is to be done. Applying it twice is the same as once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationPlan<C, I> {
    /// Policies concerned, each once.
    pub policies: Vec<PolicyId>,
    /// Addresses to remember, for policies to which they are news, with or without SAs.
    pub remember: Vec<(PolicyId, KmAddress)>,
    /// Remotes whose addresses change.
    pub remotes: Vec<RemoteMove>,
    /// Tunnel end points (this host to peer) that change.
    pub tunnels: Vec<(PolicyId, Endpoints)>,
    /// Child SAs whose records move. Each is to be verified in the kernel at its new address when things are quiet.
    pub children: Vec<MovedChild<C>>,
    /// IKE SAs that follow.
    pub retarget: Vec<Retarget<I>>,
    /// IKE SAs that are given up.
    pub discard: Vec<Discard<I>>,
    /// Remotes whose movement is not believed; nothing else of the plan speaks of them but tunnels and children, which the kernel moved.
    pub doubted: Vec<RemoteMove>,
}

impl<C, I> Default for MigrationPlan<C, I> {
    fn default() -> Self {
        Self {
            policies: Vec::new(),
            remember: Vec::new(),
            remotes: Vec::new(),
            tunnels: Vec::new(),
            children: Vec::new(),
            retarget: Vec::new(),
            discard: Vec::new(),
            doubted: Vec::new(),
        }
    }
}

impl<C, I> MigrationPlan<C, I> {
    /// Whether there is nothing to do.
    pub const fn is_empty(&self) -> bool {
        self.remember.is_empty()
            && self.remotes.is_empty()
            && self.tunnels.is_empty()
            && self.children.is_empty()
            && self.retarget.is_empty()
            && self.discard.is_empty()
            && self.doubted.is_empty()
    }
}

/// Why a MIGRATE changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// No policy of ours has these addresses, reqid and protocol.
    NotOurs,
    /// Old and new end points are the same, and so are our records.
    NothingMoved,
    /// Everything is there already.
    Repeat,
}

impl Idle {
    /// In words.
    pub const fn why(self) -> &'static str {
        match self {
            Self::NotOurs => "no policy of ours has this selector and reqid",
            Self::NothingMoved => "old and new end points are the same",
            Self::Repeat => "everything is there already: a repeat",
        }
    }
}

/// What a MIGRATE comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<C, I> {
    /// Something is to be done.
    Plan(MigrationPlan<C, I>),
    /// Nothing is.
    Idle(Idle),
}

/// Turns a MIGRATE into what is to be done.
pub fn plan_migration<A: Associations>(associations: &A, event: &Migrate) -> Outcome<A::Child, A::Ike> {
    let mut planner = Planner { associations, plan: MigrationPlan::default(), children: BTreeMap::new(), named: BTreeMap::new() };
    for step in &event.steps {
        planner.step(event, step);
    }
    planner.remotes();
    let Planner { mut plan, children, .. } = planner;
    plan.children = children.into_values().filter(|moved| moved.inbound.is_some() || moved.outbound.is_some()).collect();
    if plan.policies.is_empty() {
        return Outcome::Idle(Idle::NotOurs);
    }
    if !plan.is_empty() {
        return Outcome::Plan(plan);
    }
    let still = event.steps.iter().all(|step| step.old == step.new);
    Outcome::Idle(if still { Idle::NothingMoved } else { Idle::Repeat })
}

struct Planner<'a, A: Associations> {
    associations: &'a A,
    plan: MigrationPlan<A::Child, A::Ike>,
    children: BTreeMap<A::Child, MovedChild<A::Child>>,
    named: BTreeMap<RemoteId, KmAddress>,
}

impl<A: Associations> Planner<'_, A> {
    fn step(&mut self, event: &Migrate, step: &MigrateStep) {
        // A forwarded packet is decapsulated by the inbound SA: the forward policy has no SA of its own.
        let direction = if event.direction == Direction::Out { Direction::Out } else { Direction::In };
        let query = PolicyQuery {
            direction,
            reqid: step.reqid,
            mode: step.mode,
            protocol: step.protocol,
            selector: event.selector,
            types: event.source == MigrateSource::Netlink,
        };
        let tunnel = (step.mode == Mode::Tunnel && !step.new.src.is_unspecified() && !step.new.dst.is_unspecified())
            .then(|| if direction == Direction::Out { step.new } else { step.new.reversed() });
        // Without KMADDRESS (KAME, old kernels) the new tunnel end points are where the peers are.
        let addresses = event.kmaddress.or_else(|| tunnel.map(|outbound| KmAddress { local: outbound.src, remote: outbound.dst }));
        for policy in self.associations.policies(&query) {
            if !self.plan.policies.contains(&policy) {
                self.plan.policies.push(policy);
            }
            if let Some(outbound) = tunnel {
                self.tunnel(policy, direction, outbound);
            }
            if let Some(addresses) = addresses {
                self.remember(policy, addresses);
            }
        }
    }

    /// Transport steps never come here: those SAs stay between home address and home agent.
    fn tunnel(&mut self, policy: PolicyId, direction: Direction, outbound: Endpoints) {
        self.plan.tunnels.retain(|(other, _)| *other != policy);
        if self.associations.tunnel(policy) != Some(outbound) {
            self.plan.tunnels.push((policy, outbound));
        }
        for child in self.associations.children_of(policy).into_iter().filter(|child| child.mode == Mode::Tunnel) {
            let (before, now) = match direction {
                Direction::Out => (child.outbound, outbound),
                Direction::In | Direction::Forward => (child.inbound, outbound.reversed()),
            };
            // A later step of the same event may take back what an earlier one planned.
            let news = (before != now).then_some(now);
            let moved = self.children.entry(child.id).or_insert(MovedChild { id: child.id, inbound: None, outbound: None });
            match direction {
                Direction::Out => moved.outbound = news,
                Direction::In | Direction::Forward => moved.inbound = news,
            }
        }
    }

    fn remember(&mut self, policy: PolicyId, addresses: KmAddress) {
        self.plan.remember.retain(|(other, _)| *other != policy);
        if self.associations.remembered(policy) != Some(addresses) {
            self.plan.remember.push((policy, addresses));
        }
        if let Some(remote) = self.associations.remote_of(policy) {
            self.named.insert(remote, addresses);
        }
    }

    /// IKE SAs of the remotes that own the policies, also without a living child or still in the making.
    fn remotes(&mut self) {
        for (remote, new) in std::mem::take(&mut self.named) {
            let old = self.associations.remembered_of(remote);
            let all = self.associations.ike_sas_of(remote);
            let stale: Vec<_> = all.iter().copied().filter(|(_, addresses)| *addresses != new).collect();
            // A peer that has made an IKE SA from there is there, and no other one is left to be moved.
            let nothing_to_ask = stale.is_empty() && (old == Some(new) || !all.is_empty());
            let belief = if nothing_to_ask { Belief::Believed(Decision::Follow) } else { self.associations.belief(remote, new) };
            let Belief::Believed(decision) = belief else {
                self.doubted(RemoteMove { remote, old, new });
                continue;
            };
            if old != Some(new) {
                self.plan.remotes.push(RemoteMove { remote, old, new });
            }
            for (ike, old) in stale {
                match decision {
                    Decision::Follow | Decision::Wait => self.plan.retarget.push(Retarget { ike, remote, old, new }),
                    Decision::Discard(connections) if self.concerns(remote, connections, old) => {
                        self.plan.discard.push(Discard { ike, remote, old, new });
                    }
                    Decision::Discard(_) => {}
                }
            }
        }
    }

    fn doubted(&mut self, moved: RemoteMove) {
        let associations = self.associations;
        self.plan.remember.retain(|(policy, _)| associations.remote_of(*policy) != Some(moved.remote));
        self.plan.doubted.push(moved);
    }

    /// Whether an IKE SA that is not at the new addresses is among those given up.
    fn concerns(&self, remote: RemoteId, connections: Connections, addresses: KmAddress) -> bool {
        match connections {
            Connections::WithHomeAddress => self.associations.home_address(remote) == Some(addresses.remote),
            Connections::WithOldCareOf | Connections::WithHomeAgent => true,
        }
    }
}

#[cfg(test)]
mod tests;
