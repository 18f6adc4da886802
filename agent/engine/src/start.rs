//! Start-up: the kernel's policies and SAs are read, policies adopted or installed, SAs taken over, negotiations begun.
//! Also where answers to the engine's own requests arrive.

use std::time::Duration;

use watari_kernel::{KernelError, KernelReply, KernelRequest, Now, SaId};
use watari_policies::{Action, Direction, Installer, PolicyId};
use watari_sa::{Cause, Trigger, Want};

use crate::Event;
use crate::agent::Agent;
use crate::core::{Call, Core, Purpose};
use crate::timers::Timer;

/// errno: there is such an SA already.
const EEXIST: i32 = 17;
/// First wait before a failed wish is tried again; doubled each time.
const RETRY: Duration = Duration::from_secs(4);
/// Most doublings of that wait.
const MAX_DOUBLINGS: u32 = 5;

impl Agent {
    /// Asks the kernel for what it holds.
    pub(crate) fn begin(&mut self) {
        self.core.ask(Purpose::Policies { moves: 0 }, KernelRequest::DumpPolicies);
        self.core.ask(Purpose::AdoptSas, KernelRequest::DumpSas);
    }

    /// Takes the answer to a request of the engine itself.
    pub(crate) fn answered(&mut self, now: Now, purpose: Purpose, result: Result<KernelReply, KernelError>) {
        if let Err(error) = &result
            && !matches!(purpose, Purpose::Counts(_))
            && !self.core.in_the_way(&purpose, error)
        {
            self.refused(&purpose, error);
        }
        match (purpose, result) {
            (Purpose::Policies { moves }, Ok(KernelReply::Policies(policies))) => {
                let differences = self.refresh_policies(now, policies, moves);
                if self.core.ready {
                    self.core.differences.extend(differences);
                }
            }
            (Purpose::AdoptSas, reply) => {
                if let Ok(KernelReply::Sas(sas)) = reply {
                    self.find_care_of(now, &sas, 0);
                    self.adopt(now, &sas);
                }
                self.ready();
                self.core.read_again_if_unsettled(now, 0);
            }
            (Purpose::CompareSas { moves }, Ok(KernelReply::Sas(sas))) => self.compare_sas(now, &sas, moves),
            (Purpose::Verify { child, inbound, wanted }, Ok(KernelReply::Sa(found))) => {
                self.verified(now, child, (inbound, wanted), found.as_ref());
            }
            (Purpose::Traffic { child, inbound }, Ok(KernelReply::Sa(found))) => {
                self.traffic(now, child, inbound, found.map_or(0, |info| info.packets));
            }
            (Purpose::Counts(command), reply) => match reply {
                Ok(KernelReply::Sa(found)) => self.count(now, command, found.as_slice()),
                Ok(KernelReply::Sas(sas)) => self.count(now, command, &sas),
                _ => self.count(now, command, &[]),
            },
            (Purpose::Withdraw(endpoints, protocol), Ok(KernelReply::Spi(spi))) => {
                let id = SaId { dst: endpoints.dst, protocol, spi };
                self.core.ask(Purpose::Housekeeping("withdraw an unanswered ACQUIRE"), KernelRequest::DeleteSa(id));
            }
            (Purpose::Recreate { child, inbound, sa }, result) => self.recreated(now, (child, inbound), sa, result.is_ok()),
            (Purpose::ByHand(child, _), Err(_)) => self.installed_by_hand(now, child, false),
            (Purpose::ByHand(child, Direction::Out), Ok(_)) => self.installed_by_hand(now, child, true),
            _ => {}
        }
    }

    /// Tells what the kernel refused.
    fn refused(&mut self, purpose: &Purpose, error: &KernelError) {
        let what = match purpose {
            Purpose::Policies { .. } => "read policies",
            Purpose::AdoptSas | Purpose::CompareSas { .. } => "read SAs",
            Purpose::Verify { .. } | Purpose::Traffic { .. } | Purpose::Counts(_) => "look for an SA",
            Purpose::Withdraw(..) => "withdraw an unanswered ACQUIRE",
            Purpose::Recreate { .. } => "make an SA again that was left behind",
            Purpose::ByHand(..) => "install an SA configured by hand",
            Purpose::Housekeeping(what) => what,
        };
        self.core.tell(Event::Notice { cause: Cause::KERNEL_REFUSED, detail: format!("to {what}: {error}") });
    }

    /// Everything that was there is known: install our policies, begin negotiations.
    fn ready(&mut self) {
        self.core.ready = true;
        self.core.install_policies();
        self.want_replacements();
        self.start_all();
    }

    /// Begins what the configuration wants begun at start-up.
    pub(crate) fn start_all(&mut self) {
        for id in (0u32..).zip(&self.core.config.policies).map(|(id, _)| PolicyId(id)).collect::<Vec<_>>() {
            self.start_policy(id);
        }
    }

    /// Wants a child for a policy that is to be negotiated at start-up, if nothing serves it yet and the kernel has the policy.
    pub(crate) fn start_policy(&mut self, id: PolicyId) {
        let core = &mut self.core;
        let Some(policy) = core.config.policy(id) else { return };
        let by_hand = core.by_hand(id);
        let start = by_hand || core.config.remote(policy.remote).is_some_and(|remote| remote.start);
        // The home agent is asked for a home address by whichever policy comes first; the others wait for the answer.
        let waits = !core.config.in_force(policy);
        let asks = core.config.remote(policy.remote).is_some_and(|remote| remote.assigned.is_some_and(|assigned| assigned.ask.is_some()));
        if waits && !(asks && core.lookup.policies_of(policy.remote).first() == Some(&id)) {
            return;
        }
        let there = policy.installer == Installer::Us || core.spd.present(id) || waits;
        let served = !by_hand && core.children.of_policy(id).next().is_some();
        if core.ready && !core.stopping && start && there && !served && policy.action == Action::Protect && core.reachable(id) {
            core.calls.push_back(Call::Want(Want { policy: id, trigger: Trigger::Start }));
        }
    }

    /// A policy appeared in the kernel: dormant children serve again, or a negotiation begins if the configuration says so.
    pub(crate) fn appeared(&mut self, now: Now, id: PolicyId) {
        self.core.wake(now, id);
        self.start_policy(id);
    }

    /// A wish failed: it is tried again later where nothing else would bring it back.
    pub(crate) fn failed(&mut self, now: Now, id: PolicyId) {
        let core = &mut self.core;
        let Some(policy) = core.config.policy(id) else { return };
        let start = core.config.remote(policy.remote).is_some_and(|remote| remote.start);
        let orphan = core.children.of_policy(id).any(|child| child.owner == watari_sa::Owner::None);
        if !(start || orphan || core.by_hand(id)) || core.stopping {
            return;
        }
        let doublings = core.retries.entry(id).or_default();
        let wait = RETRY.saturating_mul(1u32.checked_shl((*doublings).min(MAX_DOUBLINGS)).unwrap_or(1));
        *doublings = doublings.saturating_add(1);
        core.timers.set_once(Timer::Retry(id), now.boot.saturating_add(wait));
    }

    /// Tries a policy again.
    pub(crate) fn retry(&mut self, now: Now, id: PolicyId) {
        let orphan = self.core.children.of_policy(id).find(|child| child.owner == watari_sa::Owner::None).map(|child| child.id);
        match orphan {
            Some(child) if self.core.reachable(id) => {
                self.core.calls.push_back(Call::Want(Want { policy: id, trigger: Trigger::Replace(child) }));
            }
            Some(_) => self.failed(now, id),
            None => self.start_policy(id),
        }
    }
}

impl Core {
    /// Whether the kernel refuses an SA made again because something stands there: it may have moved the SA after all.
    fn in_the_way(&self, purpose: &Purpose, error: &KernelError) -> bool {
        let first = |child, inbound| !self.refused.contains(&(child, inbound));
        matches!(purpose, Purpose::Recreate { child, inbound, .. } if error.errno == EEXIST && first(*child, *inbound))
    }
}
