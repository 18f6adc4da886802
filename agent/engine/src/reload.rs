//! A new configuration takes the place of the old one while the agent runs.
//! Invariant: ids keep their meaning. What did not change, or only in how SAs are made (proposals, lifetimes, timers), keeps its id and its
//! SAs, and the next negotiation goes by the new parameters; what went leaves a retired record behind that
//! matches nothing, until nothing names its id any more and a new record takes its place.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Debug;
use std::time::Duration;

use watari_kernel::Now;
use watari_policies::model::{Endpoints, Retransmit};
use watari_policies::profile::Terms;
use watari_policies::{Action, Block, BlockId, Config, Identity, Installer, Ipsec, IpsecId, Lifetime, Policy, PolicyId, Remote, RemoteId};
use watari_sa::{Owner, Target};

use crate::agent::{Agent, sensible};
use crate::assign::Homes;
use crate::core::{Call, Core};
use crate::key_mobility::Mobility;
use crate::lookup::Lookup;
use crate::timers::Timer;
use crate::whereabouts::Places;

/// Name of retired records: no configuration can hold it.
const RETIRED: &str = "\0retired";

/// How long a retired record is left alone: until then exchanges that still name it are over.
const QUARANTINE: Duration = Duration::from_secs(60);

/// When records were retired, boot time. They are given to new ones once nothing names them any more.
#[derive(Debug, Default)]
pub(crate) struct Retired {
    remotes: BTreeMap<RemoteId, Duration>,
    policies: BTreeMap<PolicyId, Duration>,
}

impl Agent {
    /// Changes the configuration; how many records went or came, in words.
    pub(crate) fn reload(&mut self, now: Now, new: Config) -> String {
        let vacant = self.vacant(now);
        let mut new = sensible(new);
        crate::home_agents::carry_addresses(&self.core.config, &mut new);
        carry_homes(&self.core.config, &mut new);
        let mut merged = merge(&self.core.config, new, &vacant);
        crate::home_agents::begin_with_known(&self.core.unproved, &self.core.config, &mut merged.config, &merged.remotes.fresh);
        let gone = merged.remotes.gone.len().saturating_add(merged.policies.gone.len());
        let come = merged.remotes.fresh.len().saturating_add(merged.policies.fresh.len());
        let mut left = BTreeSet::new();
        for policy in merged.policies.gone.iter().copied().map(PolicyId) {
            self.core.uninstall_policies(Some(policy));
            let children: Vec<_> = self.core.children.of_policy(policy).map(|child| (child.id, child.owner)).collect();
            for (child, owner) in children {
                match owner {
                    Owner::None => {
                        left.extend(self.core.children.get(child).map(|child| child.remote));
                        self.core.end_adopted(child);
                    }
                    _ => self.core.calls.push_back(Call::Close(Target::Child(child))),
                }
            }
            self.core.forget_policy(policy);
            self.core.retired.policies.insert(policy, now.boot);
        }
        for remote in merged.remotes.gone.iter().copied().map(RemoteId) {
            let ike = self.keying.ike_sas_of(remote);
            self.core.calls.extend(ike.into_iter().map(|ike| Call::Close(Target::Ike(ike))));
            self.core.forget_remote(remote);
            self.core.retired.remotes.insert(remote, now.boot);
        }
        self.core.retired.remotes.retain(|remote, _| !merged.remotes.fresh.contains(&remote.0));
        self.core.retired.policies.retain(|policy, _| !merged.policies.fresh.contains(&policy.0));
        self.core.config = merged.config;
        self.keying.reconfigured();
        self.core.lookup = Lookup::new(&self.core.config);
        self.core.homes = Homes::new(&self.core.config, std::mem::take(&mut self.core.homes));
        self.core.mobility = Mobility::new(&self.core.config, std::mem::take(&mut self.core.mobility));
        left.extend(self.core.homes.carry(&self.core.config, &merged.remotes.gone, &merged.remotes.fresh));
        let changed = Changed { remotes: merged.remotes.fresh, policies: merged.policies.fresh };
        self.core.places = Places::new(&self.core.config, std::mem::take(&mut self.core.places), &changed);
        for remote in self.core.retired.remotes.keys() {
            self.core.places.forget_remote(*remote);
        }
        for remote in left {
            self.home_may_go(remote);
        }
        // Policies of another daemon that the new records stand for are found by reading the kernel again.
        self.core.read_again(now.boot.saturating_add(Duration::from_millis(1)));
        for remote in (0u32..).zip(&self.core.config.remotes).map(|(id, _)| RemoteId(id)).collect::<Vec<_>>() {
            if !self.keying.ike_sas_of(remote).is_empty() {
                self.watch(now, remote);
            }
        }
        if self.core.ready {
            self.core.install_policies();
            self.start_all();
        }
        format!("{gone} records retired, {come} new")
    }

    /// Places of records that nothing names any more: no SA, no negotiation, and no exchange that might still be under way.
    fn vacant(&self, now: Now) -> Vacant {
        let core = &self.core;
        let negotiated: BTreeSet<PolicyId> = self.keying.statuses().into_iter().flat_map(|ike| ike.negotiating).collect();
        let old = |at: &Duration| now.boot.saturating_sub(*at) >= QUARANTINE;
        let unserved = |policy: &PolicyId| core.children.of_policy(*policy).next().is_none() && !negotiated.contains(policy);
        let policies = core.retired.policies.iter().filter(|(policy, at)| old(at) && unserved(policy)).map(|(policy, _)| policy.0);
        let policies: BTreeSet<u32> = policies.collect();
        let with_children: BTreeSet<RemoteId> = core.children.iter().map(|child| child.remote).collect();
        let unknown = |remote: &RemoteId| self.keying.ike_sas_of(*remote).is_empty() && !with_children.contains(remote);
        let remotes = core.retired.remotes.iter().filter(|(remote, at)| old(at) && unknown(remote)).map(|(remote, _)| remote.0);
        let named = (0u32..).zip(&core.config.policies).filter(|(id, _)| !policies.contains(id)).map(|(_, policy)| policy.ipsec);
        let named: BTreeSet<IpsecId> = named.collect();
        let ipsecs = (0u32..).zip(&core.config.ipsecs).map(|(id, _)| id).filter(|id| !named.contains(&IpsecId(*id)));
        Vacant { remotes: remotes.collect(), ipsecs: ipsecs.collect(), policies }
    }
}

impl Core {
    /// Whether a remote is only kept for its id.
    pub(crate) fn retired(&self, remote: RemoteId) -> bool {
        self.config.remote(remote).is_none_or(is_retired)
    }

    fn forget_remote(&mut self, remote: RemoteId) {
        self.movements.remove(&remote);
        self.awaited.retain(|(_, other)| *other != remote);
        self.sent_after_move.retain(|_, other| *other != remote);
        self.migrated.remove(&remote);
        self.unsettled.remove(&remote);
        self.unserved.retain(|(other, _), _| *other != remote);
        self.unproved.remove(&remote);
        self.unregistered.remove(&remote);
        self.timers.clear(Timer::Liveness(remote));
    }

    fn forget_policy(&mut self, policy: PolicyId) {
        self.acquired.remove(&policy);
        self.asked.remove(&policy);
        self.retries.remove(&policy);
        self.timers.clear(Timer::Retry(policy));
    }
}

/// Records that stand in another's place or at the end since the last configuration.
#[derive(Debug, Default)]
pub(crate) struct Changed {
    /// Remotes.
    pub(crate) remotes: BTreeSet<u32>,
    /// Policies.
    pub(crate) policies: BTreeSet<u32>,
}

struct Vacant {
    remotes: BTreeSet<u32>,
    policies: BTreeSet<u32>,
    ipsecs: BTreeSet<u32>,
}

/// Whether a record only stands for an id that is no longer used.
pub(crate) fn is_retired(remote: &Remote) -> bool {
    remote.name == RETIRED
}

/// Home addresses that are assigned now hold in the new configuration too, where the same identity is served by an equal block
/// and no other remote has the address by now.
fn carry_homes(old: &Config, new: &mut Config) {
    let holders = old.remotes.iter().filter(|remote| remote.assigned.is_some());
    let held: BTreeMap<&Identity, (&Remote, std::net::IpAddr)> =
        holders.filter_map(|remote| Some((&remote.remote_identity, (remote, remote.role.lasting_address()?)))).collect();
    let lookup = Lookup::new(new);
    let carried: Vec<_> = (0u32..)
        .zip(&new.remotes)
        .filter_map(|(id, remote)| {
            let (before, home) = held.get(&remote.remote_identity)?;
            let (was, is) = (old.block_of(before)?, new.block_of(remote)?);
            let role = std::mem::discriminant(&remote.role) == std::mem::discriminant(&before.role);
            (role && shape_of_block(was) == shape_of_block(is)).then_some((RemoteId(id), *home))
        })
        .collect();
    let mut homes = Homes::new(new, Homes::default());
    // A mobile node's own home address stands in several remotes at will.
    let lent = |config: &Config, id| config.remote(id).is_some_and(|remote| remote.role.assigns());
    for (remote, home) in carried {
        if lent(new, remote) && !homes.claim(remote, home) {
            continue;
        }
        new.fill(remote, home, lookup.policies_of(remote));
    }
}

struct Merged {
    config: Config,
    remotes: Placed,
    policies: Placed,
}

/// Where the records of the new configuration go.
fn merge(old: &Config, new: Config, vacant: &Vacant) -> Merged {
    let mut config = Config { pad: new.pad, settings: new.settings, ..old.clone() };
    let ipsecs = place(&mut config.ipsecs, new.ipsecs, shape_of_ipsec, |_| false, &vacant.ipsecs);
    let named: BTreeSet<u32> = old.remotes.iter().filter_map(|remote| Some(remote.assigned?.block.0)).collect();
    let unused = (0u32..).zip(&old.blocks).map(|(id, _)| id).filter(|id| !named.contains(id)).collect();
    let blocks = place(&mut config.blocks, new.blocks, shape_of_block, |_| false, &unused);
    let mut remotes = new.remotes;
    for assigned in remotes.iter_mut().filter_map(|remote| remote.assigned.as_mut()) {
        assigned.block = BlockId(blocks.ids.get(assigned.block.0 as usize).copied().unwrap_or(u32::MAX));
    }
    let remotes = place(&mut config.remotes, remotes, shape_of_remote, |remote| remote.name == RETIRED, &vacant.remotes);
    let of = |ids: &[u32], id: u32| ids.get(id as usize).copied().unwrap_or(u32::MAX);
    let policies = new.policies.into_iter().map(|policy| Policy {
        remote: RemoteId(of(&remotes.ids, policy.remote.0)),
        ipsec: IpsecId(of(&ipsecs.ids, policy.ipsec.0)),
        ..policy
    });
    // Which record the parameters stand in says as little as they do; SAs by hand are what is in force.
    let by_hand: BTreeSet<u32> = (0u32..).zip(&config.ipsecs).filter(|(_, ipsec)| ipsec.manual.is_some()).map(|(id, _)| id).collect();
    let strip = |policy: &Policy| {
        let ipsec = if by_hand.contains(&policy.ipsec.0) { policy.ipsec } else { IpsecId(u32::MAX) };
        Policy { line: 0, ipsec, ..policy.clone() }
    };
    let policies = place(&mut config.policies, policies.collect(), strip, |policy| policy.name == RETIRED, &vacant.policies);
    for remote in &remotes.gone {
        if let Some(remote) = config.remotes.get_mut(*remote as usize) {
            retire_remote(remote);
        }
    }
    for policy in &policies.gone {
        if let Some(policy) = config.policies.get_mut(*policy as usize) {
            retire_policy(policy);
        }
    }
    Merged { config, remotes, policies }
}

/// A remote without what only the next negotiation, or the next timer, looks at.
fn shape_of_remote(remote: &Remote) -> Remote {
    let life = Lifetime::of(Duration::ZERO);
    Remote {
        line: 0,
        // The number of a secret depends on what else stands in the file: a remote is the same under another, and takes it over.
        authentication: remote.authentication.without_numbers(),
        proposals: Vec::new(),
        lifetime: life,
        retransmit: Retransmit::default(),
        liveness: None,
        initial_contact: true,
        start: false,
        ..remote.clone()
    }
}

/// An ipsec record without what only the next negotiation looks at; what stands by hand is in force as it is written.
fn shape_of_ipsec(ipsec: &Ipsec) -> Ipsec {
    if ipsec.manual.is_some() {
        return ipsec.clone();
    }
    Ipsec { proposals: Vec::new(), lifetime: Lifetime::of(Duration::ZERO), replay_window: 0, dormant: None, ..ipsec.clone() }
}

/// A block without what says nothing of addresses and traffic.
fn shape_of_block(block: &Block) -> Block {
    let Terms { protect, binding_selector, installer, .. } = &block.terms;
    let terms = Terms { protect: protect.clone(), binding_selector: *binding_selector, installer: *installer, ..Terms::default() };
    Block { line: 0, terms, ..block.clone() }
}

#[derive(Debug, Default)]
struct Placed {
    /// Where each new record stands, by its place in the new configuration.
    ids: Vec<u32>,
    /// Those without an equal before.
    fresh: BTreeSet<u32>,
    /// Old ones without an equal now that were not retired already.
    gone: Vec<u32>,
}

/// Finds a place for each new record: that of an equal old one, else a vacant one, else one at the end. Equals have equal texts, so that
/// each record is compared with few others however many there are.
fn place<T: PartialEq + Debug>(
    records: &mut Vec<T>,
    new: Vec<T>,
    key: impl Fn(&T) -> T,
    retired: impl Fn(&T) -> bool,
    vacant: &BTreeSet<u32>,
) -> Placed {
    let mut old: BTreeMap<String, VecDeque<(u32, T)>> = BTreeMap::new();
    for (id, record) in (0u32..).zip(records.iter()).filter(|(_, record)| !retired(record)) {
        let key = key(record);
        old.entry(format!("{key:?}")).or_default().push_back((id, key));
    }
    let mut placed = Placed::default();
    let mut homeless = Vec::new();
    let mut vacant = vacant.clone();
    for record in new {
        let wanted = key(&record);
        let equals = old.get_mut(&format!("{wanted:?}"));
        let found = equals.and_then(|equals| equals.remove(equals.iter().position(|(_, equal)| *equal == wanted)?));
        let at = found.map_or(u32::MAX, |(id, _)| id);
        match records.get_mut(at as usize) {
            Some(old) => {
                *old = record;
                vacant.remove(&at);
            }
            None => homeless.push((placed.ids.len(), record)),
        }
        placed.ids.push(at);
    }
    for (number, record) in homeless {
        let end = u32::try_from(records.len()).unwrap_or(u32::MAX);
        let at = vacant.pop_first().unwrap_or(end);
        match records.get_mut(at as usize) {
            Some(old) => *old = record,
            None => records.push(record),
        }
        placed.fresh.insert(at);
        if let Some(id) = placed.ids.get_mut(number) {
            *id = at;
        }
    }
    let left = old.into_values().flatten().map(|(id, _)| id);
    placed.gone = left.filter(|id| !placed.fresh.contains(id)).collect();
    placed.gone.sort_unstable();
    placed
}

/// Nobody can prove this identity and nothing is begun.
fn retire_remote(remote: &mut Remote) {
    remote.name = RETIRED.to_owned();
    remote.remote_identity = Identity::nobody();
    remote.remote_address = None;
    remote.start = false;
    remote.liveness = None;
    remote.assigned = None;
}

/// Protects nothing and belongs to nobody who could ask.
fn retire_policy(policy: &mut Policy) {
    policy.name = RETIRED.to_owned();
    policy.action = Action::Bypass;
    policy.installer = Installer::Other;
    policy.endpoints = Endpoints::Ike;
    policy.remote = RemoteId(u32::MAX);
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        static COMPARED: Cell<usize> = const { Cell::new(0) };
    }

    #[derive(Clone, Debug)]
    struct Record(u32);

    impl PartialEq for Record {
        fn eq(&self, other: &Self) -> bool {
            COMPARED.set(COMPARED.get() + 1);
            self.0 == other.0
        }
    }

    #[test]
    fn every_record_is_compared_with_few_others() {
        let mut records: Vec<_> = (0..10_000).map(Record).collect();
        // All in reverse order, every tenth one changed, and one hundred that are all the same.
        let mut new: Vec<_> = (0..10_000).rev().map(|number| Record(if number % 10 == 0 { number + 100_000 } else { number })).collect();
        new.extend((0..100).map(|_| Record(5)));
        let placed = place(&mut records, new, Record::clone, |_| false, &BTreeSet::new());
        assert_eq!((placed.gone.len(), placed.fresh.len()), (1000, 1100));
        assert_eq!(placed.ids[9999 - 4321], 4321, "ids keep their meaning");
        assert_eq!(records.len(), 11_100);
        assert!(COMPARED.get() <= 20_000, "{}", COMPARED.get());
    }

    #[test]
    fn a_vacant_place_is_taken_before_the_end_but_not_from_an_equal() {
        let mut records = vec![Record(1), Record(2), Record(3)];
        let vacant = BTreeSet::from([0, 2]);
        let placed = place(&mut records, vec![Record(9), Record(3), Record(2), Record(8)], Record::clone, |_| false, &vacant);
        assert_eq!(placed.ids, [0, 2, 1, 3]);
        assert_eq!((placed.gone, placed.fresh), (vec![], BTreeSet::from([0, 3])));
    }
}
