//! Child SAs whose policies the Mobile IPv6 daemon has taken away: they rest, serve again when the policy comes back, or go after a set time.
//! Invariant: SAs keyed by hand are kept however long they rest, because nobody can make others.

use watari_kernel::Now;
use watari_policies::PolicyId;
use watari_sa::{ChildId, ChildSa, ChildState, Owner, Target};

use crate::agent::Agent;
use crate::core::{Call, Core};
use crate::timers::Timer;

impl Agent {
    /// A child has rested for as long as the configuration keeps it.
    pub(crate) fn rested(&mut self, id: ChildId) {
        let Some(child) = self.core.children.get(id).filter(|child| child.state == ChildState::Dormant) else { return };
        if child.owner == Owner::None {
            self.end_without_owner(id);
        } else {
            self.core.calls.push_back(Call::Close(Target::Child(id)));
        }
    }
}

impl Core {
    //= rfc4877#4.2
    //# on return home tunnel policies become inactive; their SAs may be kept
    /// A policy left the kernel: its children keep their SAs and rest.
    pub(crate) fn sleep(&mut self, now: Now, policy: PolicyId) {
        let kept = self.config.policy(policy).and_then(|record| self.config.ipsec(record.ipsec)).and_then(|ipsec| ipsec.dormant);
        let limit = kept.filter(|_| !self.by_hand(policy) && !self.stays_registered(policy)).map(|time| now.boot.saturating_add(time));
        for id in self.restate(policy, ChildState::Installed, ChildState::Dormant) {
            if let Some(at) = limit {
                self.timers.set(Timer::Rested(id), at);
            }
        }
    }

    /// A policy is back: its children serve again, at the tunnel end points that it names now. What should have been rekeyed meanwhile is.
    pub(crate) fn wake(&mut self, now: Now, policy: PolicyId) {
        for id in self.restate(policy, ChildState::Dormant, ChildState::Installed) {
            self.timers.clear(Timer::Rested(id));
            self.follow_template(now, id);
            let due = |child: &ChildSa| child.owner != Owner::None && child.rekey_at.is_some_and(|at| at <= now.boot);
            if self.children.get(id).is_some_and(due) {
                self.calls.push_back(Call::Rekey(Target::Child(id)));
            }
        }
    }

    fn restate(&mut self, policy: PolicyId, from: ChildState, to: ChildState) -> Vec<ChildId> {
        let fitting = |child: &&ChildSa| child.state == from;
        let children: Vec<_> = self.children.of_policy(policy).filter(fitting).map(|child| child.id).collect();
        for id in &children {
            self.children.update(*id, |child| child.state = to);
        }
        children
    }
}
