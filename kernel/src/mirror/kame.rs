//! A binding that changes in a KAME kernel (FACTS 3.4): the kernel moves tunnel policies and their SAs itself, found by reqid and never
//! by the old care-of address, and tells PF_KEY sockets alone. Invariant: transport policies and SAs are never touched nor spoken of.

use watari_policies::{Mode, Reqid};

use crate::mirror::states::{Standing, State, ip_protocol};
use crate::mirror::{ENOENT, LARVAL_LIFETIME, MigrateRequest, Mirror, error};
use crate::{Endpoints, KernelError, KernelEvent, Migrate, MigrateSource, Now};

/// How the kernel tells of a tunnel that it has moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rebound {
    /// SADB_X_MIGRATE without addresses for key management (net.inet6.mip6.use_migrate=1).
    Migrate,
    /// SADB_X_SPDUPDATE with the new end points (use_migrate=0, the default).
    PolicyUpdate,
}

impl Mirror {
    /// Moves a tunnel policy and every SA of its reqid, as a change of the binding in this kernel does.
    ///
    /// # Errors
    /// ENOENT if there is no such policy, or its template is not a tunnel with a reqid: then nothing happens.
    pub fn rebind(&mut self, request: &MigrateRequest, tells: Rebound) -> Result<(), KernelError> {
        let refuse = || error(ENOENT, "rebind a tunnel");
        let steps: Vec<_> = request.steps.iter().filter(|step| step.mode == Mode::Tunnel && step.reqid != Reqid(0)).copied().collect();
        let policy = self.policies.find_mut(&request.selector, request.direction, request.kind).ok_or_else(refuse)?;
        let mut moved = false;
        for template in &mut policy.templates {
            if let Some(step) = steps.iter().find(|step| template.mode == Mode::Tunnel && template.reqid == step.reqid) {
                template.endpoints = step.new;
                moved = true;
            }
        }
        if !moved {
            return Err(refuse());
        }
        let policy = policy.clone();
        for step in &steps {
            for at in self.states.of_reqid(step.reqid) {
                self.states.change(at, |state| {
                    if state.mode == Some(Mode::Tunnel) && state.ip_protocol == ip_protocol(step.protocol) {
                        (state.src, state.dst) = (step.new.src, step.new.dst);
                    }
                });
            }
        }
        self.report(match tells {
            Rebound::Migrate => {
                let (selector, direction) = (request.selector, request.direction);
                KernelEvent::Migrate(Migrate { selector, direction, steps, kmaddress: None, source: MigrateSource::PfKey })
            }
            Rebound::PolicyUpdate => KernelEvent::PolicyChanged(policy),
        });
        Ok(())
    }

    /// The key manager says that what this ACQUIRE asked for will not be (RFC 2367 3.1.6): as in KAME, where the entry that blocks the next
    /// ACQUIRE lives on from now and is not told of when it goes.
    pub fn forget_acquire(&mut self, now: Now, asked: u32) {
        let answered = |state: &State| matches!(state.standing, Standing::Larval { sequence, .. } if sequence == asked && asked != 0);
        let ends = self.states.iter().find(|state| answered(state)).map(|state| Endpoints { src: state.src, dst: state.dst });
        let place = ends.and_then(|ends| self.states.between(ends).find(|(_, state)| answered(state)).map(|(at, _)| at));
        if let Some(at) = place {
            let standing = Standing::Larval { until: now.boot.saturating_add(LARVAL_LIFETIME), sequence: asked };
            self.states.change(at, |state| state.standing = standing);
        }
    }

    /// Does something of which nobody is told.
    pub fn quietly<T>(&mut self, act: impl FnOnce(&mut Self) -> T) -> T {
        let listening = std::mem::replace(&mut self.listening, false);
        let done = act(self);
        self.listening = listening;
        done
    }
}
