//! SAs configured by hand (RFC 3776 5.2): installed once the policy's end points are known, kept over movement and return home.
//! Invariant: nothing here negotiates; such an SA is never rekeyed, and one found in the kernel after a restart stays as it is.

use std::collections::BTreeMap;

use watari_kernel::{Endpoints, KernelRequest, Now, SaId, SaKeys, SaLifetime, SaParameters, Spi};
use watari_policies::model::{Endpoints as Source, ManualHalf};
use watari_policies::{Direction, Policy, PolicyId, SecretId};
use watari_sa::{Cause, ChildId, ChildSa, ChildState, KeyingEvent, Owner, SaHalf, Work, WorkDone, WorkId, sa_selector};

use crate::Event;
use crate::Output;
use crate::agent::Agent;
use crate::core::{Core, Purpose};

/// Keys asked of the key keeper for one policy.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    outbound: Option<SaKeys>,
    inbound: Option<SaKeys>,
}

/// What is under way for SAs configured by hand.
#[derive(Debug, Default)]
pub(crate) struct Manual {
    asked: BTreeMap<WorkId, (PolicyId, Direction)>,
    keys: BTreeMap<PolicyId, Keys>,
}

impl Agent {
    /// Whether the SAs of a policy are configured by hand.
    pub(crate) fn by_hand(&self, policy: PolicyId) -> bool {
        self.core.by_hand(policy)
    }

    /// Asks for the keys of a policy's SAs, unless they are in use or under way or the end points are not known yet.
    pub(crate) fn serve_by_hand(&mut self, id: PolicyId) {
        let core = &mut self.core;
        let Some((policy, manual)) = core.config.policy(id).and_then(|policy| Some((policy, *core.config.manual(policy)?))) else { return };
        let known = core.manual_endpoints(id, policy).is_some();
        let served = core
            .children
            .of_policy(id)
            .any(|child| child.inbound.spi == Spi(manual.inbound.spi) && core.kept.contains_key(&child.inbound_id()));
        if !known || served || !core.ready || core.stopping || core.manual.keys.contains_key(&id) {
            return;
        }
        core.manual.keys.insert(id, Keys::default());
        core.ask_key(id, Direction::Out, manual.outbound.key);
        core.ask_key(id, Direction::In, manual.inbound.key);
    }

    /// Takes a key from the key keeper; false if it was asked for by somebody else.
    pub(crate) fn manual_key(&mut self, now: Now, work: WorkId, done: &WorkDone) -> bool {
        let Some((policy, direction)) = self.core.manual.asked.remove(&work) else { return false };
        let keys = match done {
            WorkDone::ManualKeys(keys) => keys.clone(),
            other => {
                let why = if let WorkDone::Failed { why, .. } = other { why.as_str() } else { "the key keeper answered something else" };
                self.core.manual.keys.remove(&policy);
                let line = self.core.config.policy(policy).map_or(0, |policy| policy.line);
                let detail = format!("SA configured by hand for the policy of line {line}: {why}");
                self.core.tell(Event::Notice { cause: Cause::UNEXPECTED, detail });
                return true;
            }
        };
        let Some(known) = self.core.manual.keys.get_mut(&policy) else { return true };
        match direction {
            Direction::Out => known.outbound = Some(keys),
            Direction::In | Direction::Forward => known.inbound = Some(keys),
        }
        if let (Some(outbound), Some(inbound)) = (known.outbound.clone(), known.inbound.clone()) {
            self.core.manual.keys.remove(&policy);
            self.core.install_by_hand(now, policy, (outbound, inbound));
        }
        true
    }

    /// The kernel took, or refused, the last half of an SA pair configured by hand.
    pub(crate) fn installed_by_hand(&mut self, now: Now, child: ChildId, taken: bool) {
        if taken {
            self.keying_event(now, KeyingEvent::ChildUp(child));
        } else if let Some(policy) = self.core.children.get(child).map(|child| child.policy) {
            self.end_without_owner(child);
            self.failed(now, policy);
        }
    }

    /// An SA configured by hand that the kernel lost is made again with the same keys: there are no others.
    pub(crate) fn remake_by_hand(&mut self, now: Now, id: ChildId) {
        let core = &mut self.core;
        let Some(child) = core.children.get(id) else { return };
        for (sa, installed) in [(child.inbound_id(), child.inbound.installed), (child.outbound_id(), child.outbound.installed)] {
            let Some(parameters) = core.kept.get(&sa).filter(|_| !installed).cloned() else { continue };
            let request = KernelRequest::AddSa { parameters: Box::new(parameters), allocated: false, sequence: 0 };
            core.ask(Purpose::Housekeeping("make an SA configured by hand again"), request);
            core.tell(Event::Recreated(id));
        }
        core.children.update(id, |child| (child.inbound.installed, child.outbound.installed) = (true, true));
        core.verify_soon(now, id);
    }
}

impl Core {
    /// Whether the SAs of a policy are configured by hand.
    pub(crate) fn by_hand(&self, policy: PolicyId) -> bool {
        self.config.policy(policy).is_some_and(|policy| self.config.manual(policy).is_some())
    }

    fn ask_key(&mut self, policy: PolicyId, direction: Direction, secret: SecretId) {
        let Some(suite) = self.config.policy(policy).and_then(|policy| Some(self.config.manual(policy)?.suite)) else { return };
        let work = self.ids.work();
        self.manual.asked.insert(work, (policy, direction));
        self.outputs.push_back(Output::Work(work, Work::ManualKeys { secret, suite }));
    }

    /// Outbound end points of the SAs; `None` until a tunnel's template is known.
    fn manual_endpoints(&self, id: PolicyId, policy: &Policy) -> Option<Endpoints> {
        match policy.endpoints {
            Source::Selector | Source::Ike => self.places.hosts(id),
            Source::Fixed { local, remote } => Some(Endpoints { src: local, dst: remote }),
            Source::Template => self.places.template(id),
        }
    }

    fn install_by_hand(&mut self, now: Now, id: PolicyId, (outbound, inbound): (SaKeys, SaKeys)) {
        let Some(policy) = self.config.policy(id).cloned() else { return };
        let Some(manual) = self.config.manual(&policy).copied() else { return };
        let Some(there) = self.manual_endpoints(id, &policy) else { return };
        let outbound = self.manual_half(&policy, Direction::Out, manual.outbound, (there, outbound));
        let inbound = self.manual_half(&policy, Direction::In, manual.inbound, (there.reversed(), inbound));
        self.kept.insert(outbound.id, outbound.clone());
        self.kept.insert(inbound.id, inbound.clone());
        let found = self.children.of_policy(id).find(|child| {
            (child.inbound.spi, child.outbound.spi) == (inbound.id.spi, outbound.id.spi)
                && child.inbound.installed
                && child.outbound.installed
        });
        if let Some(child) = found.map(|child| child.id) {
            // Left by an earlier run: its sequence numbers go on. Only the algorithms were not known.
            self.children.update(child, |child| child.suite = manual.suite);
            return;
        }
        let child = self.ids.child();
        let half = |parameters: &SaParameters| SaHalf {
            spi: parameters.id.spi,
            endpoints: parameters.endpoints(),
            selector: parameters.selector,
            reqid: parameters.reqid,
            installed: true,
        };
        self.children.insert(ChildSa {
            id: child,
            owner: Owner::None,
            policy: id,
            remote: policy.remote,
            protocol: inbound.id.protocol,
            mode: policy.mode,
            traffic: policy.traffic.clone(),
            inbound: half(&inbound),
            outbound: half(&outbound),
            suite: manual.suite,
            encapsulation: None,
            created: now.boot,
            rekey_at: None,
            expires_at: None,
            state: ChildState::Installed,
        });
        for (purpose, parameters) in [(Purpose::ByHand(child, Direction::In), inbound), (Purpose::ByHand(child, Direction::Out), outbound)]
        {
            self.ask(purpose, KernelRequest::AddSa { parameters: Box::new(parameters), allocated: false, sequence: 0 });
        }
    }

    fn manual_half(&self, policy: &Policy, direction: Direction, half: ManualHalf, (ends, keys): (Endpoints, SaKeys)) -> SaParameters {
        let mobile = self.config.remote(policy.remote).is_some_and(|remote| remote.role.is_mobile_ipv6());
        let visible = self.capability.inbound_mh_type != Some(false);
        let protocol = self.config.ipsec(policy.ipsec).map_or(watari_policies::Protocol::Esp, |ipsec| ipsec.protocol);
        SaParameters {
            id: SaId { dst: ends.dst, protocol, spi: Spi(half.spi) },
            src: ends.src,
            mode: policy.mode,
            reqid: if direction == Direction::Out { policy.reqid_out } else { policy.reqid_in },
            selector: sa_selector(&policy.traffic, direction, policy.mode, mobile, visible),
            keys,
            //= rfc4303#3.4.3
            //# no anti-replay for SAs keyed by hand
            replay_window: 0,
            lifetime: SaLifetime::default(),
            encapsulation: None,
        }
    }
}
