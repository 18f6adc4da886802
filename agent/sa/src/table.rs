//! Every child SA, found by id, by policy, by owner and by SPI.
//! Invariant: the indexes agree with the records; a record changes only through `update`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use watari_kernel::SaId;
use watari_policies::PolicyId;

use crate::{ChildId, ChildSa, Owner};

/// The table of child SAs.
#[derive(Debug, Default)]
pub struct SaTable {
    children: BTreeMap<ChildId, ChildSa>,
    by_policy: BTreeSet<(PolicyId, ChildId)>,
    by_owner: BTreeSet<(Owner, ChildId)>,
    by_inbound: BTreeSet<(SaId, ChildId)>,
    by_outbound: BTreeSet<(SaId, ChildId)>,
}

impl SaTable {
    /// Adds a child SA, replacing one of the same id.
    pub fn insert(&mut self, child: ChildSa) {
        self.remove(child.id);
        self.index(&child);
        self.children.insert(child.id, child);
    }

    /// Takes a child SA out.
    pub fn remove(&mut self, id: ChildId) -> Option<ChildSa> {
        let child = self.children.remove(&id)?;
        self.by_policy.remove(&(child.policy, id));
        self.by_owner.remove(&(child.owner, id));
        self.by_inbound.remove(&(child.inbound_id(), id));
        self.by_outbound.remove(&(child.outbound_id(), id));
        Some(child)
    }

    /// Changes a child SA and keeps the indexes true; `None` if there is no such child.
    pub fn update<T>(&mut self, id: ChildId, change: impl FnOnce(&mut ChildSa) -> T) -> Option<T> {
        let mut child = self.remove(id)?;
        let result = change(&mut child);
        self.index(&child);
        self.children.insert(id, child);
        Some(result)
    }

    fn index(&mut self, child: &ChildSa) {
        self.by_policy.insert((child.policy, child.id));
        self.by_owner.insert((child.owner, child.id));
        self.by_inbound.insert((child.inbound_id(), child.id));
        self.by_outbound.insert((child.outbound_id(), child.id));
    }

    /// The child SA with this id.
    pub fn get(&self, id: ChildId) -> Option<&ChildSa> {
        self.children.get(&id)
    }

    /// Every child SA, in the order they were made.
    pub fn iter(&self) -> impl Iterator<Item = &ChildSa> {
        self.children.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.children.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.children.is_empty()
    }

    /// Child SAs of a policy, oldest first.
    pub fn of_policy(&self, policy: PolicyId) -> impl Iterator<Item = &ChildSa> {
        Self::range(&self.by_policy, policy).filter_map(|id| self.children.get(&id))
    }

    /// Child SAs of an owner, oldest first.
    pub fn of_owner(&self, owner: Owner) -> impl Iterator<Item = &ChildSa> {
        Self::range(&self.by_owner, owner).filter_map(|id| self.children.get(&id))
    }

    /// The child SA whose inbound half has this id.
    pub fn by_inbound(&self, id: SaId) -> Option<&ChildSa> {
        Self::range(&self.by_inbound, id).find_map(|child| self.children.get(&child))
    }

    /// Child SAs whose outbound half has this id, oldest first. Peers choose these SPIs: many may have the same one, each at its own address.
    pub fn by_outbound(&self, id: SaId) -> impl Iterator<Item = &ChildSa> {
        Self::range(&self.by_outbound, id).filter_map(|child| self.children.get(&child))
    }

    fn range<K: Copy + Ord>(index: &BTreeSet<(K, ChildId)>, key: K) -> impl Iterator<Item = ChildId> {
        index.range((Bound::Included((key, ChildId(0))), Bound::Included((key, ChildId(u64::MAX))))).map(|(_, id)| *id)
    }
}
