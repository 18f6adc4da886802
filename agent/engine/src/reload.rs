//! A new configuration takes the place of the old one while the agent runs.
//! Invariant: ids keep their meaning. What did not change keeps its id and its SAs; what went leaves a retired record behind that
//! matches nothing; what is new comes after.

use std::time::Duration;

use watari_kernel::Now;
use watari_policies::model::Endpoints;
use watari_policies::{Action, Config, Identity, Installer, IpsecId, Policy, PolicyId, Remote, RemoteId};
use watari_sa::{Owner, Target};

use crate::agent::Agent;
use crate::core::{Call, Core};
use crate::lookup::Lookup;
use crate::timers::Timer;
use crate::whereabouts::Places;

/// Name of retired records: no configuration can hold it.
const RETIRED: &str = "\0retired";

impl Agent {
    /// Changes the configuration; how many records went or came, in words.
    pub(crate) fn reload(&mut self, now: Now, new: Config) -> String {
        let merged = merge(&self.core.config, new);
        let (gone, come) = (merged.gone_remotes.len().saturating_add(merged.gone_policies.len()), merged.come);
        for policy in &merged.gone_policies {
            self.core.uninstall_policies(Some(*policy));
            let children: Vec<_> = self.core.children.of_policy(*policy).map(|child| (child.id, child.owner)).collect();
            for (child, owner) in children {
                match owner {
                    Owner::None => self.core.end_adopted(child),
                    _ => self.core.calls.push_back(Call::Close(Target::Child(child))),
                }
            }
        }
        for remote in &merged.gone_remotes {
            let ike = self.keying.ike_sas_of(*remote);
            self.core.calls.extend(ike.into_iter().map(|ike| Call::Close(Target::Ike(ike))));
        }
        self.core.config = merged.config;
        self.keying.reconfigured();
        self.core.lookup = Lookup::new(&self.core.config);
        self.core.places = Places::new(&self.core.config, std::mem::take(&mut self.core.places));
        // Policies of another daemon that the new records stand for are found by reading the kernel again.
        self.core.timers.set(Timer::Reconcile, now.boot.saturating_add(Duration::from_millis(1)));
        if self.core.ready {
            self.core.install_policies();
            self.start_all();
        }
        format!("{gone} records retired, {come} new")
    }
}

impl Core {
    /// Whether a remote is only kept for its id.
    pub(crate) fn retired(&self, remote: RemoteId) -> bool {
        self.config.remote(remote).is_none_or(|remote| remote.name == RETIRED)
    }
}

struct Merged {
    config: Config,
    gone_remotes: Vec<RemoteId>,
    gone_policies: Vec<PolicyId>,
    come: usize,
}

/// Where the records of the new configuration go.
fn merge(old: &Config, new: Config) -> Merged {
    let mut config = Config { pad: new.pad, settings: new.settings, ..old.clone() };
    let ipsecs = place(&mut config.ipsecs, new.ipsecs, |ipsec| ipsec.clone(), |_| {});
    let mut gone_remotes = Vec::new();
    let kept =
        place(&mut config.remotes, new.remotes, |remote: &Remote| Remote { line: 0, ..remote.clone() }, |gone| gone_remotes.push(gone));
    let of = |ids: &[u32], id: u32| ids.get(id as usize).copied().unwrap_or(u32::MAX);
    let policies = new.policies.into_iter().map(|policy| Policy {
        remote: RemoteId(of(&kept.ids, policy.remote.0)),
        ipsec: IpsecId(of(&ipsecs.ids, policy.ipsec.0)),
        ..policy
    });
    let mut gone_policies = Vec::new();
    let strip = |policy: &Policy| Policy { line: 0, ..policy.clone() };
    let placed = place(&mut config.policies, policies.collect(), strip, |gone| gone_policies.push(gone));
    let gone_remotes: Vec<_> =
        gone_remotes.into_iter().map(RemoteId).filter(|id| old.remote(*id).is_some_and(|remote| remote.name != RETIRED)).collect();
    let gone_policies: Vec<_> =
        gone_policies.into_iter().map(PolicyId).filter(|id| old.policy(*id).is_some_and(|policy| policy.name != RETIRED)).collect();
    for remote in &gone_remotes {
        if let Some(remote) = config.remotes.get_mut(remote.0 as usize) {
            retire_remote(remote);
        }
    }
    for policy in &gone_policies {
        if let Some(policy) = config.policies.get_mut(policy.0 as usize) {
            retire_policy(policy);
        }
    }
    Merged { config, gone_remotes, gone_policies, come: kept.come.saturating_add(placed.come) }
}

struct Placed {
    /// Where each new record stands, by its place in the new configuration.
    ids: Vec<u32>,
    come: usize,
}

/// Finds a place for each new record: that of an equal old one, else a new one at the end. Old ones without an equal are `gone`.
fn place<T: PartialEq>(records: &mut Vec<T>, new: Vec<T>, key: impl Fn(&T) -> T, mut gone: impl FnMut(u32)) -> Placed {
    let keys: Vec<T> = records.iter().map(&key).collect();
    let mut used = vec![false; records.len()];
    let mut placed = Placed { ids: Vec::new(), come: 0 };
    for record in new {
        let wanted = key(&record);
        let found = keys.iter().zip(&used).position(|(old, used)| !used && *old == wanted);
        let at = found.unwrap_or(records.len());
        match (found.and_then(|at| used.get_mut(at)), found.and_then(|at| records.get_mut(at))) {
            (Some(used), Some(old)) => {
                *used = true;
                *old = record;
            }
            _ => {
                records.push(record);
                placed.come = placed.come.saturating_add(1);
            }
        }
        placed.ids.push(u32::try_from(at).unwrap_or(u32::MAX));
    }
    for (id, _) in (0u32..).zip(used).filter(|(_, used)| !used) {
        gone(id);
    }
    placed
}

/// Nobody can prove this identity and nothing is begun.
fn retire_remote(remote: &mut Remote) {
    remote.name = RETIRED.to_owned();
    remote.remote_identity = Identity::Other { id_type: 0, data: Vec::new() };
    remote.remote_address = None;
    remote.start = false;
    remote.liveness = None;
}

/// Protects nothing and belongs to nobody who could ask.
fn retire_policy(policy: &mut Policy) {
    policy.name = RETIRED.to_owned();
    policy.action = Action::Bypass;
    policy.installer = Installer::Other;
    policy.endpoints = Endpoints::Ike;
    policy.remote = RemoteId(u32::MAX);
}
