//! A MIGRATE arrives: judged against its copies, planned, records updated, IKE SAs retargeted, SAs verified once things are quiet.
//! Invariant: an SA that the kernel moved is never moved by us; it is looked for at its new address and made again only if absent.

use std::net::IpAddr;
use std::time::Duration;

use watari_kernel::{Endpoints, KernelRequest, KmAddress, Migrate, MigrateSource, Now, SaId, SaInfo};
use watari_mip6::{Associations, Belief, ChildView, MigrationPlan, MovedChild, Outcome, PolicyQuery, plan_migration};
use watari_policies::{Mode, PolicyId, RemoteId};
use watari_sa::{ChildId, ChildSa, ChildState, IkeId, Keying, Owner, SaHalf, Target};

use crate::Event;
use crate::agent::Agent;
use crate::copies::{GRACE, Verdict};
use crate::core::{Call, Core, Migrated, Movement, Purpose};
use crate::lookup::Wanted;
use crate::timers::Timer;

/// Quiet time after the last move of a child before its SAs are looked for in the kernel; mip6d sends its burst within a millisecond.
pub(crate) const QUIET: Duration = Duration::from_millis(75);
/// Wait before an SA that was not where it belongs is looked for again: a MIGRATE may be on its way on the other socket.
const SECOND_LOOK: Duration = Duration::from_millis(25);
/// Wait before a child is looked at again that is still being installed.
const INSTALLING: Duration = Duration::from_millis(250);
/// An outbound SA older than this has surely been used: it is rekeyed rather than made again, because its sequence numbers are lost.
const UNUSED: Duration = Duration::from_secs(5);

/// The engine's tables as the planner sees them.
pub(crate) struct View<'a> {
    pub(crate) core: &'a Core,
    pub(crate) keying: &'a dyn Keying,
    pub(crate) now: Now,
}

impl Associations for View<'_> {
    type Child = ChildId;
    type Ike = IkeId;

    fn policies(&self, query: &PolicyQuery) -> Vec<PolicyId> {
        let PolicyQuery { direction, reqid, mode, selector, types, .. } = *query;
        self.core.lookup.find(&Wanted { direction, reqid, mode: Some(mode), selector, types })
    }

    fn remote_of(&self, policy: PolicyId) -> Option<RemoteId> {
        self.core.config.policy(policy).map(|policy| policy.remote)
    }

    fn children_of(&self, policy: PolicyId) -> Vec<ChildView<ChildId>> {
        let view = |child: &ChildSa| ChildView {
            id: child.id,
            mode: child.mode,
            inbound: child.inbound.endpoints,
            outbound: child.outbound.endpoints,
        };
        self.core.children.of_policy(policy).map(view).collect()
    }

    fn ike_sas_of(&self, remote: RemoteId) -> Vec<(IkeId, KmAddress)> {
        ike_sas_of(self.keying, remote)
    }

    fn remembered(&self, policy: PolicyId) -> Option<KmAddress> {
        self.core.places.remembered_for(policy)
    }

    fn remembered_of(&self, remote: RemoteId) -> Option<KmAddress> {
        self.core.places.remembered(remote)
    }

    fn tunnel(&self, policy: PolicyId) -> Option<Endpoints> {
        self.core.places.template(policy)
    }

    fn belief(&self, remote: RemoteId, addresses: KmAddress) -> Belief {
        self.core.belief(self.now, remote, addresses)
    }

    fn home_address(&self, remote: RemoteId) -> Option<IpAddr> {
        self.core.config.remote(remote)?.role.home_address()
    }
}

/// IKE SAs with a remote and their addresses.
pub(crate) fn ike_sas_of(keying: &dyn Keying, remote: RemoteId) -> Vec<(IkeId, KmAddress)> {
    let addresses = |ike| {
        let path = keying.path_of(ike)?;
        Some((ike, KmAddress { local: path.local.ip(), remote: path.remote.ip() }))
    };
    keying.ike_sas_of(remote).into_iter().filter_map(addresses).collect()
}

impl Agent {
    /// Takes a MIGRATE from either socket.
    pub(crate) fn migrate(&mut self, now: Now, event: &Migrate) {
        count(&mut self.core.counters.migrate_events);
        match self.core.copies.judge(now.boot, event) {
            Verdict::Act => {}
            Verdict::Copy => {
                count(&mut self.core.counters.migrate_copies);
                return self.core.tell(Event::MigrateIdle { why: "a copy of one already acted on" });
            }
            Verdict::Wait => {
                self.core.timers.set_once(Timer::Copies, now.boot.saturating_add(GRACE));
                return self.core.tell(Event::MigrateIdle { why: "not heard on the deciding socket yet" });
            }
        }
        let event = &with_real_addresses(event);
        let view = View { core: &self.core, keying: self.keying.as_ref(), now };
        match plan_migration(&view, event) {
            Outcome::Idle(idle) => self.core.tell(Event::MigrateIdle { why: idle.why() }),
            Outcome::Plan(plan) => self.apply(now, &plan, event.source),
        }
    }

    /// Does what a plan says: records first, then the IKE SAs, so that everything read on the way is new.
    pub(crate) fn apply(&mut self, now: Now, plan: &MigrationPlan<ChildId, IkeId>, source: MigrateSource) {
        let plan = &self.with_own_peers(plan);
        count(&mut self.core.counters.migrate_applied);
        self.core.moves = self.core.moves.saturating_add(1);
        self.note_movements(now, plan);
        for (policy, outbound) in &plan.tunnels {
            let outbound = self.core.with_own_end(*policy, *outbound);
            self.core.places.set_template(*policy, outbound);
        }
        let migrated = Migrated { number: self.core.moves, at: now.boot };
        for remote in plan.policies.iter().filter_map(|policy| self.core.config.policy(*policy)).map(|policy| policy.remote) {
            self.core.migrated.insert(remote, migrated);
        }
        for (policy, addresses) in &plan.remember {
            let Some(remote) = self.core.config.policy(*policy).map(|policy| policy.remote) else { continue };
            let addresses = self.core.with_own_peer(remote, *addresses);
            self.core.places.remember(*policy, addresses);
        }
        for moved in &plan.remotes {
            let new = self.core.with_own_peer(moved.remote, moved.new);
            self.core.places.remember_remote(moved.remote, new);
        }
        for child in &plan.children {
            self.core.move_child(now, child);
        }
        self.tell_moves(now, plan, source);
        self.give_up_discarded(now, plan);
        for doubted in &plan.doubted {
            self.doubt(now, doubted);
        }
        for retarget in &plan.retarget {
            let new = self.with_peer_of(retarget.remote, retarget.ike, retarget.new);
            self.keying_call(now, |keying, context| keying.retarget(context, retarget.ike, new));
        }
    }

    fn tell_moves(&mut self, now: Now, plan: &MigrationPlan<ChildId, IkeId>, source: MigrateSource) {
        let remote_of = |core: &Core, child: ChildId| core.children.get(child).map(|child| child.remote);
        let mut remotes: Vec<_> = plan.retarget.iter().map(|retarget| retarget.remote).collect();
        remotes.extend(plan.children.iter().filter_map(|child| remote_of(&self.core, child.id)));
        remotes.sort_unstable();
        remotes.dedup();
        // The kernel moved its SAs; that their peer is there is not believed.
        remotes.retain(|remote| !plan.doubted.iter().any(|doubted| doubted.remote == *remote));
        for remote in &remotes {
            let retargets: Vec<_> = plan.retarget.iter().filter(|retarget| retarget.remote == *remote).collect();
            let children = plan.children.iter().map(|child| child.id).filter(|child| remote_of(&self.core, *child) == Some(*remote));
            let children: Vec<_> = children.collect();
            let before = plan.remotes.iter().find(|moved| moved.remote == *remote).and_then(|moved| moved.old);
            let old = retargets.first().map(|retarget| retarget.old).or(before);
            let Some(new) = self.core.places.remembered(*remote) else { continue };
            if !retargets.is_empty() {
                self.core.moved_to(now, *remote, old, new);
            }
            let ike = retargets.iter().map(|retarget| retarget.ike).collect();
            self.core.tell(Event::Moved { remote: *remote, old, new, ike, children, source });
        }
        for (policy, addresses) in &plan.remember {
            if self.core.config.policy(*policy).is_some_and(|policy| !remotes.contains(&policy.remote)) {
                self.core.tell(Event::Remembered { policy: *policy, addresses: *addresses });
            }
        }
        if remotes.is_empty() && plan.remember.is_empty() && plan.doubted.is_empty() {
            self.core.tell(Event::MigrateIdle { why: "noted for SAs to come" });
        }
    }

    /// Looks for the SAs of a moved child in the kernel.
    pub(crate) fn verify(&mut self, now: Now, id: ChildId) {
        let Some(child) = self.core.children.get(id).filter(|child| child.state != ChildState::Closing) else { return };
        let halves = [(true, &child.inbound, child.inbound_id()), (false, &child.outbound, child.outbound_id())];
        let installed = halves.into_iter().filter(|(_, half, _)| half.installed);
        let installed: Vec<_> = installed.map(|(inbound, half, sa)| (inbound, half.endpoints, sa)).collect();
        if child.state == ChildState::Installing {
            // What the kernel has not answered yet may still have gone there with the old address.
            self.core.timers.set(Timer::Verify(id), now.boot.saturating_add(INSTALLING));
        }
        for (inbound, wanted, sa) in installed {
            self.core.ask(Purpose::Verify { child: id, inbound, wanted }, KernelRequest::QuerySa(sa));
        }
    }

    /// The kernel said what it holds where a half of a child belongs.
    pub(crate) fn verified(&mut self, now: Now, id: ChildId, (inbound, wanted): (bool, Endpoints), found: Option<&SaInfo>) {
        let Some(child) = self.core.children.get(id).filter(|child| child.state != ChildState::Closing) else { return };
        let (half, sa) = if inbound { (&child.inbound, child.inbound_id()) } else { (&child.outbound, child.outbound_id()) };
        // An answer about a place the child has left since says nothing; it is looked for again when things are quiet.
        if !half.installed || half.endpoints != wanted {
            return;
        }
        let (endpoints, state, age) = (half.endpoints, child.state, now.boot.saturating_sub(child.created));
        if found.is_some_and(|info| !info.larval && info.dst == endpoints.dst && info.src == endpoints.src) {
            self.core.stale.remove(&(id, inbound));
            self.core.settled(id, inbound);
            return;
        }
        if self.core.doubted.insert((id, inbound)) {
            return self.core.verify_soon(now, id);
        }
        self.core.doubted.remove(&(id, inbound));
        for stale in self.core.stale.remove(&(id, inbound)).into_iter().flatten().chain(found.is_some().then_some(sa)) {
            self.core.ask(Purpose::Housekeeping("remove an SA left behind"), KernelRequest::DeleteSa(stale));
        }
        let parameters = self.core.kept.get(&sa).cloned();
        let used = age > UNUSED || found.is_some_and(|info| info.packets > 0);
        match parameters {
            // Sequence numbers and IVs of a used outbound SA are lost with it: its keys must not serve again.
            Some(_) if !inbound && used => {
                self.core.children.update(id, |child| child.outbound.installed = false);
                if state == ChildState::Installed {
                    self.core.calls.push_back(Call::Rekey(Target::Child(id)));
                }
            }
            Some(parameters) => {
                let request = KernelRequest::AddSa { parameters: Box::new(parameters), allocated: false, sequence: 0 };
                self.core.ask(Purpose::Recreate { child: id, inbound, sa }, request);
            }
            None => self.lost(id),
        }
    }

    /// The kernel took a half again, or did not. A first refusal may come from what stood in the way a moment ago (EEXIST: it moved the SA
    /// after all) or from want of memory: there is another look and another attempt. After a second one the child is given up and made anew.
    pub(crate) fn recreated(&mut self, now: Now, (id, inbound): (ChildId, bool), sa: SaId, taken: bool) {
        match (taken, self.core.children.get(id).is_some()) {
            (true, true) => {
                self.renew_window(now, id, inbound);
                self.core.settled(id, inbound);
                count(&mut self.core.counters.recreated);
                self.core.tell(Event::Recreated(id));
            }
            (true, false) => self.core.ask(Purpose::Housekeeping("remove an SA of a child that ended"), KernelRequest::DeleteSa(sa)),
            (false, _) if self.core.refused.insert((id, inbound)) => {
                self.core.doubted.insert((id, inbound));
                self.core.verify_soon(now, id);
            }
            (false, _) => self.lost(id),
        }
    }

    /// An inbound SA made again begins with an empty anti-replay window: whoever recorded its packets could send them once more. The kernel
    /// shows its window (XFRMA_REPLAY_VAL, XFRMA_REPLAY_ESN_VAL) and takes one with a new SA, but what arrives between reading the old
    /// SA and making the new one would still be lost from it, and a PF_KEY kernel has no words for it at all. So keys that have been in use
    /// serve only until a successor stands; a child that has one already is about to go anyway.
    fn renew_window(&mut self, now: Now, id: ChildId, inbound: bool) {
        let Some(child) = self.core.children.get(id) else { return };
        let used = now.boot.saturating_sub(child.created) > UNUSED;
        if inbound && used && child.state == ChildState::Installed && child.owner != Owner::None {
            self.core.calls.push_back(Call::Rekey(Target::Child(id)));
        }
    }

    /// Copies that only one socket brought.
    pub(crate) fn expire_copies(&mut self, now: Now) {
        let (missed, next) = self.core.copies.expire(now.boot);
        if missed {
            self.core.read_again(now.boot);
        }
        if let Some(at) = next {
            self.core.timers.set(Timer::Copies, at);
        }
    }
}

impl Core {
    /// A remote's IKE has moved: the first packet on the new path is awaited.
    pub(crate) fn moved_to(&mut self, now: Now, remote: RemoteId, from: Option<KmAddress>, to: KmAddress) {
        let movement = Movement { from, to, at: now, first_packet: None, transmit: None, waiting: false };
        if let Some(before) = self.movements.insert(remote, movement) {
            self.awaited.remove(&(before.to, remote));
            if let Some(transmit) = before.transmit {
                self.sent_after_move.remove(&transmit);
            }
        }
        self.awaited.insert((to, remote));
    }

    /// Moves the records of a child; the kernel is looked at later.
    pub(crate) fn move_child(&mut self, now: Now, moved: &MovedChild<ChildId>) {
        let Some(child) = self.children.get(moved.id) else { return };
        for (inbound, endpoints, sa) in [(true, moved.inbound, child.inbound_id()), (false, moved.outbound, child.outbound_id())] {
            let Some(endpoints) = endpoints else { continue };
            let new = SaId { dst: endpoints.dst, ..sa };
            if let Some(mut parameters) = self.kept.remove(&sa) {
                parameters.id = new;
                parameters.src = endpoints.src;
                self.kept.insert(new, parameters);
            }
            if new != sa {
                self.stale.entry((moved.id, inbound)).or_default().insert(sa);
            }
        }
        let set = |half: &mut SaHalf, endpoints: Option<Endpoints>| half.endpoints = endpoints.unwrap_or(half.endpoints);
        self.children.update(moved.id, |child| {
            set(&mut child.inbound, moved.inbound);
            set(&mut child.outbound, moved.outbound);
        });
        self.no_longer_doubted(moved.id);
        self.timers.set(Timer::Verify(moved.id), now.boot.saturating_add(QUIET));
    }

    /// Looks for the SAs of a child again in a moment.
    pub(crate) fn verify_soon(&mut self, now: Now, id: ChildId) {
        self.timers.set_once(Timer::Verify(id), now.boot.saturating_add(SECOND_LOOK));
    }

    fn no_longer_doubted(&mut self, id: ChildId) {
        for inbound in [true, false] {
            self.settled(id, inbound);
        }
    }

    /// A half is where it belongs, or belongs elsewhere now.
    fn settled(&mut self, id: ChildId, inbound: bool) {
        self.doubted.remove(&(id, inbound));
        self.refused.remove(&(id, inbound));
    }

    /// A child that was being installed while its tunnel moved: its records follow, and the kernel is looked at.
    pub(crate) fn follow_template(&mut self, now: Now, id: ChildId) {
        let Some(child) = self.children.get(id).filter(|child| child.mode == Mode::Tunnel) else { return };
        let Some(wanted) = self.places.template_of_sas(child.policy) else { return };
        let inbound = (child.inbound.endpoints != wanted.reversed()).then_some(wanted.reversed());
        let outbound = (child.outbound.endpoints != wanted).then_some(wanted);
        let moved = self.with_own_home_agent(MovedChild { id, inbound, outbound });
        if moved.inbound.is_some() || moved.outbound.is_some() {
            self.move_child(now, &moved);
        }
    }

    /// A child ended before its move was verified: what the kernel may have left behind goes too.
    pub(crate) fn remove_stale(&mut self, id: ChildId) {
        self.no_longer_doubted(id);
        for stale in [true, false].into_iter().filter_map(|inbound| self.stale.remove(&(id, inbound))).flatten().collect::<Vec<_>>() {
            self.ask(Purpose::Housekeeping("remove an SA left behind"), KernelRequest::DeleteSa(stale));
        }
    }
}

/// A MIGRATE whose addresses for key management are addresses: `::` says nothing about where a peer is, and then the new tunnel end
/// points do, as if nothing had been said.
fn with_real_addresses(event: &Migrate) -> Migrate {
    let real = |named: &KmAddress| !named.local.is_unspecified() && !named.remote.is_unspecified();
    Migrate { kmaddress: event.kmaddress.filter(real), ..event.clone() }
}

/// Counts one more.
pub(crate) const fn count(counter: &mut u64) {
    *counter = counter.saturating_add(1);
}
