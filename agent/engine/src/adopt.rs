//! SAs found in the kernel at start-up are taken over as child SAs without owner; they serve until they are replaced.
//! Invariant: an SA is taken over by reqid and selector of a policy of ours, both halves together; others are left alone.

use std::collections::BTreeMap;
use std::time::Duration;

use watari_kernel::{Endpoints, KernelRequest, Now, SaInfo, Spi};
use watari_policies::algorithm::{ChildSuite, Cipher};
use watari_policies::{Direction, Mode, Policy, PolicyId, Protocol, Reqid, Selector};
use watari_sa::{ChildId, ChildSa, ChildState, Owner, SaHalf, Trigger, Want};

use crate::Event;
use crate::agent::Agent;
use crate::core::{Call, Core, Purpose};
use crate::lookup::Wanted;
use crate::timers::Timer;

/// How long a replaced SA without owner still serves the packets that are under way.
const LINGER: Duration = Duration::from_secs(1);

/// The halves found for one policy.
#[derive(Default)]
struct Found<'a> {
    inbound: Vec<&'a SaInfo>,
    outbound: Vec<&'a SaInfo>,
}

impl Agent {
    /// Takes over what the kernel holds for our policies.
    pub(crate) fn adopt(&mut self, now: Now, sas: &[SaInfo]) {
        let mut found: BTreeMap<PolicyId, Found<'_>> = BTreeMap::new();
        for info in sas.iter().filter(|info| !info.larval && info.spi != Spi(0)) {
            match self.core.policy_of(info) {
                Some((policy, Direction::Out)) => found.entry(policy).or_default().outbound.push(info),
                Some((policy, _)) => found.entry(policy).or_default().inbound.push(info),
                None => {}
            }
        }
        let mut adopted = Vec::new();
        for (id, mut halves) in found {
            let Some(policy) = self.core.config.policy(id).cloned() else { continue };
            halves.inbound.sort_by_key(|info| info.added);
            halves.outbound.sort_by_key(|info| info.added);
            while let (inbound, outbound) = (halves.inbound.pop(), halves.outbound.pop())
                && let Some(child) = self.core.adopted_child(now, (id, &policy), inbound, outbound)
            {
                adopted.push(child);
            }
        }
        if !adopted.is_empty() {
            self.core.tell(Event::Adopted(adopted));
        }
        self.asked_before(sas);
    }

    /// The kernel may have asked for an SA while nobody listened: it does not ask again before its state expires (30 s).
    fn asked_before(&mut self, sas: &[SaInfo]) {
        for info in sas.iter().filter(|info| info.larval && info.spi == Spi(0)) {
            let (Some((policy, Direction::Out)), Some(packet)) = (self.core.policy_of(info), info.selector) else { continue };
            self.core.tell(Event::Acquired { policy: Some(policy) });
            self.core.calls.push_back(Call::Want(Want { policy, trigger: Trigger::Acquire { packet, sequence: 0 } }));
        }
    }

    /// Ends the children without owner that a new child of the same policy replaces.
    pub(crate) fn replaced(&mut self, now: Now, new: ChildId) {
        let Some(policy) = self.core.children.get(new).map(|child| child.policy) else { return };
        let old = self.core.children.of_policy(policy).filter(|child| child.owner == Owner::None && child.id != new);
        let old: Vec<_> = old.map(|child| child.id).collect();
        for child in old {
            self.core.children.update(child, |child| child.state = ChildState::Replaced);
            self.core.timers.set_once(Timer::EndAdopted(child), now.boot.saturating_add(LINGER));
        }
    }

    /// Removes a child without owner; nobody else tells of its end, which may be the end of an assignment.
    pub(crate) fn end_without_owner(&mut self, id: ChildId) {
        let remote = self.core.children.get(id).map(|child| child.remote);
        self.core.end_adopted(id);
        if let Some(remote) = remote {
            self.home_may_go(remote);
        }
    }

    /// Wants a replacement for every child without owner.
    pub(crate) fn want_replacements(&mut self) {
        let children = self.core.children.of_owner(Owner::None).filter(|child| child.state != ChildState::Replaced);
        let mut seen = std::collections::BTreeSet::new();
        let wants = children.filter(|child| seen.insert(child.policy)).map(|child| (child.policy, child.id));
        let wants: Vec<_> = wants.collect();
        for (policy, child) in wants {
            if self.core.reachable(policy) {
                self.core.calls.push_back(Call::Want(Want { policy, trigger: Trigger::Replace(child) }));
            }
        }
    }
}

impl Core {
    /// The policy an SA serves and the direction it has for this host.
    fn policy_of(&self, info: &SaInfo) -> Option<(PolicyId, Direction)> {
        info.id()?;
        let selector = info.selector.or_else(|| {
            let transport = info.mode == Some(Mode::Transport);
            transport.then(|| Selector::between(info.src.into(), info.dst.into()))
        })?;
        [Direction::Out, Direction::In].into_iter().find_map(|direction| {
            let wanted = Wanted { direction, reqid: info.reqid, mode: info.mode, selector, types: true };
            self.lookup.find(&wanted).first().map(|policy| (*policy, direction))
        })
    }

    fn adopted_child(
        &mut self,
        now: Now,
        (id, policy): (PolicyId, &Policy),
        inbound: Option<&SaInfo>,
        outbound: Option<&SaInfo>,
    ) -> Option<ChildId> {
        let one = inbound.or(outbound)?;
        let there = outbound.map(ends).or_else(|| inbound.map(|info| ends(info).reversed()))?;
        let child = self.ids.child();
        let half = |info: Option<&SaInfo>, direction, endpoints, reqid: Reqid| SaHalf {
            spi: info.map_or(Spi(0), |info| info.spi),
            endpoints: info.map_or(endpoints, ends),
            selector: info.and_then(|info| info.selector).unwrap_or_else(|| policy.traffic.kernel_selectors(direction, true).sa),
            reqid: info.map_or(reqid, |info| info.reqid),
            installed: info.is_some(),
        };
        self.children.insert(ChildSa {
            id: child,
            owner: Owner::None,
            policy: id,
            remote: policy.remote,
            protocol: one.id().map_or(Protocol::Esp, |id| id.protocol),
            mode: policy.mode,
            traffic: policy.traffic.clone(),
            inbound: half(inbound, Direction::In, there.reversed(), policy.reqid_in),
            outbound: half(outbound, Direction::Out, there, policy.reqid_out),
            // A dump shows no algorithms: the policy's first choice stands for what is not known.
            suite: self.first_suite(policy),
            encapsulation: None,
            created: now.boot,
            rekey_at: None,
            expires_at: None,
            state: ChildState::Installed,
        });
        Some(child)
    }

    fn first_suite(&self, policy: &Policy) -> ChildSuite {
        let proposal = self.config.ipsec(policy.ipsec).and_then(|ipsec| ipsec.proposals.first());
        let cipher = proposal.and_then(|proposal| proposal.ciphers.first()).copied().unwrap_or(Cipher::NULL);
        let integrity = proposal.and_then(|proposal| proposal.integrities.first()).copied();
        ChildSuite { cipher, integrity, esn: false }
    }

    /// Removes a child without owner, in the kernel too.
    pub(crate) fn end_adopted(&mut self, id: ChildId) {
        if self.children.get(id).is_none_or(|child| child.owner != Owner::None) {
            return;
        }
        let Some(child) = self.children.remove(id) else { return };
        self.timers.clear(Timer::Verify(id));
        self.traffic.remove(&id);
        self.remove_stale(id);
        let halves = [(child.inbound.installed, child.inbound_id()), (child.outbound.installed, child.outbound_id())];
        for (_, sa) in halves.into_iter().filter(|(installed, _)| *installed) {
            self.kept.remove(&sa);
            self.ask(Purpose::Housekeeping("remove a replaced SA"), KernelRequest::DeleteSa(sa));
        }
    }

    /// Whether an IKE SA with the policy's remote can be begun from here.
    pub(crate) fn reachable(&self, policy: PolicyId) -> bool {
        use watari_sa::Whereabouts as _;
        if self.by_hand(policy) {
            return true;
        }
        let remote = self.config.policy(policy).map(|policy| policy.remote);
        remote.and_then(|remote| self.places.ike_addresses(remote)).is_some_and(|addresses| !addresses.remote.is_unspecified())
    }
}

const fn ends(info: &SaInfo) -> Endpoints {
    Endpoints { src: info.src, dst: info.dst }
}
