//! The mirror's SPD: main and sub policies in priority order, and what both together demand of a packet.
//! Invariant: of two policies that fit, the lower priority number wins, then the older one.

use std::net::IpAddr;

use watari_policies::{Direction, Mode, Protocol, Selector};

use crate::{PolicyAction, PolicyEntry, PolicyIndex, PolicyKind, Template};

/// The fields of a packet that policies and SA selectors look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) protocol: u8,
    pub(crate) sport: u16,
    pub(crate) dport: u16,
}

impl Flow {
    pub(crate) fn fits(&self, selector: &Selector) -> bool {
        selector.matches(self.src, self.dst, self.protocol, self.sport, self.dport)
    }

    /// The packet as a selector: exact types or ports where the protocol has them, as ACQUIRE reports it.
    pub(crate) fn selector(&self) -> Selector {
        let mut selector = Selector::between(self.src.into(), self.dst.into()).protocol(self.protocol);
        selector.sport = watari_policies::PortMask::exact(self.sport);
        selector.dport = watari_policies::PortMask::exact(self.dport);
        selector
    }
}

/// What the policies say about a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// No policy.
    Nothing,
    /// Drop.
    Block,
    /// Apply these templates (perhaps none), innermost first; each with the policy it comes from.
    Apply(Vec<(Template, PolicyEntry)>),
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Policies {
    entries: Vec<PolicyEntry>,
    last_index: u32,
}

impl Policies {
    /// Adds a policy or replaces the one with the same selector, direction and kind; returns it with its index.
    pub(crate) fn set(&mut self, mut policy: PolicyEntry) -> PolicyEntry {
        if let Some(entry) = self.find_mut(&policy.selector, policy.direction, policy.kind) {
            policy.index = entry.index;
            *entry = policy.clone();
            return policy;
        }
        self.last_index = self.last_index.saturating_add(8);
        let direction = match policy.direction {
            Direction::In => 0,
            Direction::Out => 1,
            Direction::Forward => 2,
        };
        policy.index = PolicyIndex(self.last_index | direction);
        self.entries.push(policy.clone());
        policy
    }

    pub(crate) fn remove(&mut self, selector: &Selector, direction: Direction, kind: PolicyKind) -> Option<PolicyEntry> {
        let at = self.entries.iter().position(|entry| same(entry, selector, direction, kind))?;
        Some(self.entries.remove(at))
    }

    pub(crate) fn find_mut(&mut self, selector: &Selector, direction: Direction, kind: PolicyKind) -> Option<&mut PolicyEntry> {
        self.entries.iter_mut().filter(|entry| same(entry, selector, direction, kind)).min_by_key(|entry| entry.priority)
    }

    /// The policy that a packet with the selector's addresses, protocol and ports meets first.
    pub(crate) fn met_by_mut(&mut self, selector: &Selector, direction: Direction, kind: PolicyKind) -> Option<&mut PolicyEntry> {
        let flow = Flow {
            src: selector.src.addr(),
            dst: selector.dst.addr(),
            protocol: selector.protocol,
            sport: selector.sport.value,
            dport: selector.dport.value,
        };
        self.entries
            .iter_mut()
            .filter(|entry| entry.kind == kind && entry.direction == direction && flow.fits(&entry.selector))
            .min_by_key(|entry| entry.priority)
    }

    pub(crate) fn entries(&self) -> &[PolicyEntry] {
        &self.entries
    }

    pub(crate) fn clear(&mut self) -> Vec<PolicyEntry> {
        std::mem::take(&mut self.entries)
    }

    fn lookup(&self, kind: PolicyKind, direction: Direction, flow: &Flow) -> Option<&PolicyEntry> {
        self.entries
            .iter()
            .filter(|entry| entry.kind == kind && entry.direction == direction && flow.fits(&entry.selector))
            .min_by_key(|entry| entry.priority)
    }

    /// Sub policies first; a sub policy that allows is completed by a main policy, one that blocks decides alone.
    pub(crate) fn verdict(&self, direction: Direction, flow: &Flow) -> Verdict {
        let sub = self.lookup(PolicyKind::Sub, direction, flow);
        let main = match sub {
            Some(policy) if policy.action == PolicyAction::Block => None,
            _ => self.lookup(PolicyKind::Main, direction, flow),
        };
        let found: Vec<&PolicyEntry> = sub.into_iter().chain(main).collect();
        if found.is_empty() {
            return Verdict::Nothing;
        }
        if found.iter().any(|policy| policy.action == PolicyAction::Block) {
            return Verdict::Block;
        }
        let mut templates: Vec<(Template, PolicyEntry)> =
            found.iter().flat_map(|policy| policy.templates.iter().map(|template| (*template, (*policy).clone()))).collect();
        if found.len() > 1 {
            templates.sort_by_key(|(template, _)| rank(template));
        }
        Verdict::Apply(templates)
    }
}

/// The kernel's order of templates from two policy sets: transport ESP, Mobile IPv6 states, transport AH, tunnels.
const fn rank(template: &Template) -> u8 {
    match (template.protocol, template.mode) {
        (None, _) => 2,
        (Some(_), Mode::Tunnel) => 4,
        (Some(Protocol::Ah), Mode::Transport) => 3,
        (Some(Protocol::Esp), Mode::Transport) => 1,
    }
}

fn same(entry: &PolicyEntry, selector: &Selector, direction: Direction, kind: PolicyKind) -> bool {
    entry.selector == *selector && entry.direction == direction && entry.kind == kind
}
