//! The kernel's policies as far as they concern us: which policy of the configuration each one stands for.
//! Invariant: an entry is adopted by direction, reqid, addresses and protocol, never by its number alone.

use std::collections::{BTreeMap, BTreeSet};

use watari_kernel::{Acquire, Endpoints, PolicyAction, PolicyEntry, PolicyIndex, PolicyKind, Template};
use watari_policies::{Direction, Mode, PolicyId, Protocol, Reqid, Selector};

use crate::lookup::{Lookup, Wanted};

type Key = (Direction, Selector);

#[derive(Clone, Debug)]
struct Held {
    policies: Vec<PolicyId>,
    entry: PolicyEntry,
}

/// The image of the kernel's main policy set.
#[derive(Debug, Default)]
pub(crate) struct Spd {
    held: BTreeMap<Key, Held>,
    by_index: BTreeMap<PolicyIndex, Key>,
    outbound: BTreeMap<PolicyId, BTreeSet<Selector>>,
    changes: u64,
}

/// What a change of the kernel's policies means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Adopted {
    /// The policies concerned.
    pub(crate) policies: Vec<PolicyId>,
    /// Tunnel end points of the entry, turned outbound; `None` for transport mode.
    pub(crate) tunnel: Option<Endpoints>,
}

impl Spd {
    /// Takes an entry that is in the kernel now.
    pub(crate) fn set(&mut self, lookup: &Lookup, entry: PolicyEntry) -> Adopted {
        if entry.kind != PolicyKind::Main {
            return Adopted::default();
        }
        let template = entry.templates.iter().find(|template| template.protocol.is_some()).copied();
        let policies = matching(lookup, &entry);
        let tunnel = template.filter(|template| template.mode == Mode::Tunnel).map(|template| outbound(entry.direction, &template));
        self.remove(entry.direction, &entry.selector, entry.kind);
        if policies.is_empty() {
            return Adopted::default();
        }
        let key = (entry.direction, entry.selector);
        if entry.index.0 != 0 {
            self.by_index.insert(entry.index, key);
        }
        if entry.direction == Direction::Out {
            for policy in &policies {
                self.outbound.entry(*policy).or_default().insert(entry.selector);
            }
        }
        self.held.insert(key, Held { policies: policies.clone(), entry });
        self.changes = self.changes.saturating_add(1);
        Adopted { policies, tunnel }
    }

    /// The policies that an entry stands for and whose outbound entry the kernel holds already.
    pub(crate) fn all_present_of(&self, lookup: &Lookup, entry: &PolicyEntry) -> Vec<PolicyId> {
        matching(lookup, entry).into_iter().filter(|policy| self.present(*policy)).collect()
    }

    /// Takes an entry out; the policies it stood for.
    pub(crate) fn remove(&mut self, direction: Direction, selector: &Selector, kind: PolicyKind) -> Vec<PolicyId> {
        if kind != PolicyKind::Main {
            return Vec::new();
        }
        let Some(held) = self.held.remove(&(direction, *selector)) else { return Vec::new() };
        self.changes = self.changes.saturating_add(1);
        self.by_index.remove(&held.entry.index);
        if direction == Direction::Out {
            for policy in &held.policies {
                if let Some(selectors) = self.outbound.get_mut(policy) {
                    selectors.remove(selector);
                    if selectors.is_empty() {
                        self.outbound.remove(policy);
                    }
                }
            }
        }
        held.policies
    }

    /// Forgets everything; the policies that were present.
    pub(crate) fn clear(&mut self) -> BTreeSet<PolicyId> {
        let present = self.all_present();
        *self = Self { changes: self.changes.saturating_add(1), ..Self::default() };
        present
    }

    /// Whether the kernel holds the outbound entry of a policy.
    pub(crate) fn present(&self, policy: PolicyId) -> bool {
        self.outbound.contains_key(&policy)
    }

    /// A number that differs once the image has changed.
    pub(crate) const fn changes(&self) -> u64 {
        self.changes
    }

    /// Whether the kernel holds an entry with this very selector that lets nothing pass without ESP.
    pub(crate) fn requires_esp(&self, direction: Direction, selector: &Selector) -> bool {
        self.held.get(&(direction, *selector)).is_some_and(|held| {
            let esp = |template: &Template| template.protocol == Some(Protocol::Esp) && !template.optional;
            held.entry.action == PolicyAction::Block || held.entry.templates.iter().any(esp)
        })
    }

    /// Policies whose outbound entry the kernel holds.
    pub(crate) fn all_present(&self) -> BTreeSet<PolicyId> {
        self.outbound.keys().copied().collect()
    }

    /// The kernel entries of the image, in order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&PolicyEntry, &[PolicyId])> {
        self.held.values().map(|held| (&held.entry, held.policies.as_slice()))
    }

    /// The policy that an ACQUIRE asks for: by the entry it names, else by selector, reqid and direction, else by the packet itself.
    pub(crate) fn acquired(&self, lookup: &Lookup, acquire: &Acquire) -> Option<PolicyId> {
        let named = self.by_index.get(&acquire.index).filter(|(_, selector)| *selector == acquire.policy);
        if let Some(held) = named.and_then(|key| self.held.get(key))
            && let [policy] = held.policies.as_slice()
        {
            return Some(*policy);
        }
        let wanted = |selector| Wanted {
            direction: acquire.direction,
            reqid: acquire.template.reqid,
            mode: Some(acquire.template.mode),
            selector,
            types: true,
        };
        [acquire.policy, acquire.packet].into_iter().find_map(|selector| lookup.find(&wanted(selector)).first().copied())
    }
}

/// The policies of the configuration that a kernel entry stands for.
fn matching(lookup: &Lookup, entry: &PolicyEntry) -> Vec<PolicyId> {
    let template = entry.templates.iter().find(|template| template.protocol.is_some());
    lookup.find(&Wanted {
        direction: entry.direction,
        reqid: template.map_or(Reqid(0), |template| template.reqid),
        mode: template.map(|template| template.mode),
        selector: entry.selector,
        types: true,
    })
}

/// A template's end points, turned to this host -> peer.
pub(crate) fn outbound(direction: Direction, template: &Template) -> Endpoints {
    if direction == Direction::Out { template.endpoints } else { template.endpoints.reversed() }
}
