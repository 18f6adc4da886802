//! MIGRATE as Linux does it: one policy's templates and, per template, the newest SA move; listeners are told only if all of it worked.

use watari_policies::selector::{ICMPV6, MOBILITY_HEADER};
use watari_policies::{Direction, Mode, Reqid, Selector};

use crate::mirror::sad::Place;
use crate::mirror::states::{State, ip_protocol};
use crate::mirror::{EINVAL, ENODATA, ENOENT, Mirror, Model, error};
use crate::{KernelError, KernelEvent, KmAddress, Migrate, MigrateSource, MigrateStep, PolicyEntry, PolicyKind, Template};

/// What the Mobile IPv6 daemon sends: XFRM_MSG_MIGRATE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrateRequest {
    /// The policy's selector.
    pub selector: Selector,
    /// The policy's direction.
    pub direction: Direction,
    /// The policy's set.
    pub kind: PolicyKind,
    /// Old and new end points per template, 1 to 6.
    pub steps: Vec<MigrateStep>,
    /// Addresses for key management.
    pub kmaddress: Option<KmAddress>,
}

impl Mirror {
    /// Moves a policy and its SAs, as a process with the right to may.
    ///
    /// # Errors
    /// EINVAL (a new end point is unspecified, no step, more than six), ENOENT (no such policy), ENODATA (no template fits reqid and old end
    /// points, or the SA to move has no keys yet). Nothing has changed then and nobody is told.
    pub fn migrate(&mut self, request: &MigrateRequest) -> Result<(), KernelError> {
        let refuse = |errno| error(errno, "migrate a policy");
        let unspecified = |step: &MigrateStep| step.new.src.is_unspecified() || step.new.dst.is_unspecified();
        if request.steps.is_empty() || request.steps.len() > 6 || request.steps.iter().any(unspecified) {
            return Err(refuse(EINVAL));
        }
        let typed = matches!(request.selector.protocol, MOBILITY_HEADER | ICMPV6) && request.selector.sport.mask != 0;
        if self.model == Model::Linux6_12 && typed {
            return Err(refuse(ENOENT));
        }
        let Some(policy) = self.policy_to_migrate(request) else {
            return Err(refuse(ENOENT));
        };
        let mut templates = policy.templates.clone();
        let moved = templates.iter_mut().map(|template| follow(template, &request.steps)).fold(false, |any, one| any | one);
        if !moved {
            return Err(refuse(ENODATA));
        }
        let found: Vec<(Place, MigrateStep)> = request.steps.iter().filter_map(|step| Some((self.newest(step)?, *step))).collect();
        if found.iter().any(|(at, _)| self.states.get(*at).is_some_and(State::is_larval)) {
            return Err(refuse(ENODATA));
        }
        if let Some(policy) = self.policy_to_migrate(request) {
            policy.templates = templates;
        }
        for step in found.iter().map(|(_, step)| step) {
            if let Some(mut state) = self.newest(step).and_then(|at| self.states.remove(at)) {
                (state.src, state.dst) = (step.new.src, step.new.dst);
                self.states.insert(state);
            }
        }
        self.announce(request);
        Ok(())
    }

    /// Linux 6.1 compares selectors; 6.12 looks the policy up as a packet with the selector's fields would.
    fn policy_to_migrate(&mut self, request: &MigrateRequest) -> Option<&mut PolicyEntry> {
        match self.model {
            Model::Linux6_1 => self.policies.find_mut(&request.selector, request.direction, request.kind),
            Model::Linux6_12 => self.policies.met_by_mut(&request.selector, request.direction, request.kind),
        }
    }

    /// The newest state that a step moves.
    fn newest(&self, step: &MigrateStep) -> Option<Place> {
        self.states.between(step.old).rfind(|(_, state)| moves(state, step)).map(|(at, _)| at)
    }

    fn announce(&mut self, request: &MigrateRequest) {
        if request.kind != PolicyKind::Main {
            return;
        }
        let migrate = |selector, source| {
            KernelEvent::Migrate(Migrate {
                selector,
                direction: request.direction,
                steps: request.steps.clone(),
                kmaddress: request.kmaddress,
                source,
            })
        };
        let bare = Selector::between(request.selector.src, request.selector.dst).protocol(request.selector.protocol);
        self.report(migrate(request.selector, MigrateSource::Netlink));
        self.report(migrate(bare, MigrateSource::PfKey));
    }
}

/// Whether a step names this template; a tunnel's end points then follow, a transport template has none.
fn follow(template: &mut Template, steps: &[MigrateStep]) -> bool {
    let named = |step: &&MigrateStep| {
        template.protocol == Some(step.protocol)
            && template.mode == step.mode
            && (step.reqid == Reqid(0) || template.reqid == step.reqid)
            && (step.mode == Mode::Transport || template.endpoints == step.old)
    };
    let Some(step) = steps.iter().find(named) else { return false };
    if template.mode == Mode::Tunnel {
        template.endpoints = step.new;
    }
    true
}

fn moves(state: &State, step: &MigrateStep) -> bool {
    state.ip_protocol == ip_protocol(step.protocol)
        && state.mode == Some(step.mode)
        && (step.reqid == Reqid(0) || state.reqid == step.reqid)
}
