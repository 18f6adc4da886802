//! The kernel's policies by number, as dumps and broadcasts tell of them: what completes an ACQUIRE, which names only the number,
//! and a MIGRATE, which names no type.
//! Invariant: an entry is what the kernel last said of that number; end points follow each MIGRATE.

use std::collections::{BTreeMap, BTreeSet};

use watari_kernel::{Acquire, Endpoints, Migrate, PolicyEntry, PolicyIndex, SaInfo, Template};
use watari_policies::{Direction, Mode, Selector};

use crate::event::Wanted;

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    known: BTreeMap<PolicyIndex, PolicyEntry>,
    /// The numbers of the known ones by what they select.
    places: BTreeMap<(Direction, Selector), PolicyIndex>,
    /// Whether a dump is under way.
    dumping: bool,
    /// What broadcasts told since the dump under way began: they are younger than its rows. Empty without a dump.
    told: BTreeSet<PolicyIndex>,
    flushed: bool,
}

impl Policies {
    /// A dump begins.
    pub(crate) fn begin(&mut self) {
        self.told.clear();
        self.flushed = false;
        self.dumping = true;
    }

    /// A dump failed.
    pub(crate) fn give_up(&mut self) {
        self.told.clear();
        self.dumping = false;
    }

    fn tell(&mut self, index: PolicyIndex) {
        if self.dumping {
            self.told.insert(index);
        }
    }

    /// Takes the whole dump.
    pub(crate) fn replace(&mut self, entries: &[PolicyEntry]) {
        self.dumping = false;
        let told = std::mem::take(&mut self.told);
        if self.flushed {
            return;
        }
        self.known.retain(|index, _| told.contains(index));
        for entry in entries.iter().filter(|entry| !told.contains(&entry.index)) {
            self.known.insert(entry.index, entry.clone());
        }
        self.places = self.known.values().map(|entry| ((entry.direction, entry.selector), entry.index)).collect();
    }

    /// A policy was added or changed.
    pub(crate) fn set(&mut self, entry: &PolicyEntry) {
        // KAME gives a changed policy a new number and says nothing of the old one.
        let place = (entry.direction, entry.selector);
        if let Some(before) = self.places.get(&place).copied().filter(|before| *before != entry.index) {
            self.remove(before);
        }
        self.tell(entry.index);
        if let Some(before) = self.known.insert(entry.index, entry.clone()) {
            self.places.remove(&(before.direction, before.selector));
        }
        self.places.insert(place, entry.index);
    }

    /// The tunnels of a policy as it is told now that had other end points before.
    pub(crate) fn moved<'a>(&'a self, entry: &'a PolicyEntry) -> impl Iterator<Item = &'a Template> {
        let same = || self.known.get(self.places.get(&(entry.direction, entry.selector))?);
        let before = self.known.get(&entry.index).or_else(same).map_or(&[][..], |policy| &policy.templates);
        entry.templates.iter().filter(|template| {
            let same = |old: &&Template| old.mode == template.mode && old.reqid == template.reqid && old.protocol == template.protocol;
            template.mode == Mode::Tunnel && before.iter().find(same).is_some_and(|old| old.endpoints != template.endpoints)
        })
    }

    /// A policy is gone.
    pub(crate) fn remove(&mut self, index: PolicyIndex) {
        self.tell(index);
        let gone = self.known.remove(&index).map(|gone| (gone.direction, gone.selector));
        if let Some(place) = gone.filter(|place| self.places.get(place) == Some(&index)) {
            self.places.remove(&place);
        }
    }

    /// Every policy is gone.
    pub(crate) fn clear(&mut self) {
        self.known.clear();
        self.places.clear();
        self.flushed = true;
    }

    /// The ACQUIRE with what its policy knows; `None` while the policy is unknown.
    pub(crate) fn complete(&self, wanted: &Wanted) -> Option<Acquire> {
        let policy = self.known.get(&wanted.index)?;
        let template = *policy.templates.iter().find(|template| lacks(template, wanted))?;
        Some(Acquire {
            sequence: wanted.sequence,
            packet: wanted.packet.map_or(policy.selector, |packet| packet.selector()),
            policy: policy.selector,
            index: policy.index,
            direction: policy.direction,
            template,
            endpoints: wanted.endpoints,
            care_of: wanted.packet.and_then(|packet| packet.care_of()),
        })
    }

    /// Gives an SA the selector of the policy whose template it fits, if there is one such: PF_KEY does not tell an SA's own.
    pub(crate) fn select(&self, sa: &mut SaInfo) {
        let ends = Endpoints { src: sa.src, dst: sa.dst };
        let named =
            |template: &&Template| template.ip_protocol == sa.protocol && Some(template.mode) == sa.mode && template.reqid == sa.reqid;
        let fits = |policy: &PolicyEntry, template: &Template| match template.mode {
            Mode::Transport => policy.selector.src.contains(&ends.src) && policy.selector.dst.contains(&ends.dst),
            Mode::Tunnel => template.endpoints == ends,
        };
        let candidates = self.known.values().filter(|policy| policy.direction != Direction::Forward).filter_map(|policy| {
            let template = policy.templates.iter().find(named)?;
            Some((fits(policy, template), policy.selector))
        });
        let candidates: BTreeSet<(bool, Selector)> = candidates.collect();
        let of = |fitting: bool| candidates.iter().filter(move |(fits, _)| *fits || !fitting).map(|(_, selector)| *selector);
        // The end points decide only where reqids do not: an SA that a MIGRATE left behind has old ones.
        let only = |fitting: bool| of(fitting).next().filter(|first| of(fitting).all(|other| other == *first));
        if let Some(selector) = only(false).or_else(|| only(true)) {
            sa.selector = Some(selector);
        }
    }

    /// Moves the end points of the policies that a MIGRATE is about, and gives it the types and ports of their selector, if they agree.
    pub(crate) fn migrate(&mut self, migrate: &mut Migrate) {
        let mut selector: Option<Selector> = None;
        let mut agree = true;
        for policy in self.known.values_mut().filter(|policy| concerns(policy, migrate)) {
            agree &= selector.is_none_or(|known| known == policy.selector);
            if self.dumping {
                self.told.insert(policy.index);
            }
            selector = Some(policy.selector);
            for template in &mut policy.templates {
                let step = migrate.steps.iter().find(|step| Some(step.protocol) == template.protocol && step.reqid == template.reqid);
                if let Some(step) = step.filter(|step| template.mode == Mode::Tunnel && template.endpoints == step.old) {
                    template.endpoints = step.new;
                }
            }
        }
        if let Some(selector) = selector.filter(|_| agree) {
            migrate.selector = selector;
        }
    }
}

/// Whether a template of the policy is the one that lacks an SA: a policy may name several.
fn lacks(template: &Template, wanted: &Wanted) -> bool {
    let dst = template.endpoints.dst;
    template.protocol == Some(wanted.protocol) && (template.mode != Mode::Tunnel || dst.is_unspecified() || dst == wanted.endpoints.dst)
}

/// Whether a MIGRATE is about a policy: same addresses, protocol and direction, whatever type it says, and every step names a template.
fn concerns(policy: &PolicyEntry, migrate: &Migrate) -> bool {
    let (ours, theirs) = (&policy.selector, &migrate.selector);
    let said = |mask: watari_policies::PortMask, known: watari_policies::PortMask| mask.mask == 0 || mask == known;
    policy.direction == migrate.direction
        && (ours.src, ours.dst, ours.protocol) == (theirs.src, theirs.dst, theirs.protocol)
        && said(theirs.sport, ours.sport)
        && said(theirs.dport, ours.dport)
        && migrate.steps.iter().all(|step| {
            let named = |template: &Template| {
                Some(step.protocol) == template.protocol && step.reqid == template.reqid && step.mode == template.mode
            };
            let stands =
                |template: &Template| template.mode != Mode::Tunnel || template.endpoints == step.old || template.endpoints == step.new;
            policy.templates.iter().any(|template| named(template) && stands(template))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_remembered_only_while_a_dump_is_read() {
        let mut policies = Policies::default();
        policies.remove(PolicyIndex(1));
        assert!(policies.told.is_empty());
        policies.begin();
        policies.remove(PolicyIndex(2));
        assert_eq!(policies.told.len(), 1);
        policies.replace(&[]);
        policies.remove(PolicyIndex(3));
        assert!(policies.told.is_empty());
        policies.begin();
        policies.remove(PolicyIndex(4));
        policies.give_up();
        policies.remove(PolicyIndex(5));
        assert!(policies.told.is_empty());
    }
}
