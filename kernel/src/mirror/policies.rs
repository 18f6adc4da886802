//! The mirror's SPD: main and sub policies in priority order, and what both together demand of a packet.
//! Invariant: of two policies that fit, the lower priority number wins, then the older one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
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

/// A set and a direction of it.
type Half = (PolicyKind, Direction);
/// Which policy in the order they were added.
type Place = u64;

#[derive(Clone, Debug, Default)]
pub(crate) struct Policies {
    entries: BTreeMap<Place, PolicyEntry>,
    last: Place,
    last_index: u32,
    names: BTreeMap<(Half, Selector), Place>,
    /// By source and destination prefix.
    nets: BTreeSet<(Half, IpNet, IpNet, Place)>,
    /// How many policies have source and destination prefixes of these lengths: what a packet has to be looked up by.
    lengths: BTreeMap<(Half, u8, u8), usize>,
    /// By source and by destination prefix.
    either: BTreeSet<(IpNet, Place)>,
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
        self.last = self.last.saturating_add(1);
        let (half, at) = ((policy.kind, policy.direction), self.last);
        let Selector { src, dst, .. } = policy.selector;
        self.names.insert((half, policy.selector), at);
        self.nets.insert((half, src.trunc(), dst.trunc(), at));
        let count = self.lengths.entry((half, src.prefix_len(), dst.prefix_len())).or_default();
        *count = count.saturating_add(1);
        self.either.extend([(src, at), (dst, at)]);
        self.entries.insert(at, policy.clone());
        policy
    }

    pub(crate) fn remove(&mut self, selector: &Selector, direction: Direction, kind: PolicyKind) -> Option<PolicyEntry> {
        let half = (kind, direction);
        let at = self.names.remove(&(half, *selector))?;
        let Selector { src, dst, .. } = *selector;
        self.nets.remove(&(half, src.trunc(), dst.trunc(), at));
        let lengths = (half, src.prefix_len(), dst.prefix_len());
        match self.lengths.get_mut(&lengths) {
            Some(count) if *count > 1 => *count = count.saturating_sub(1),
            _ => drop(self.lengths.remove(&lengths)),
        }
        self.either.remove(&(src, at));
        self.either.remove(&(dst, at));
        self.entries.remove(&at)
    }

    /// The policy with this very selector. What is changed of it may be templates, action and priority.
    pub(crate) fn find_mut(&mut self, selector: &Selector, direction: Direction, kind: PolicyKind) -> Option<&mut PolicyEntry> {
        let at = self.names.get(&((kind, direction), *selector))?;
        self.entries.get_mut(at)
    }

    /// The policy that a packet with the selector's addresses, protocol and ports meets first; of it may be changed what `find_mut` says.
    pub(crate) fn met_by_mut(&mut self, selector: &Selector, direction: Direction, kind: PolicyKind) -> Option<&mut PolicyEntry> {
        let flow = Flow {
            src: selector.src.addr(),
            dst: selector.dst.addr(),
            protocol: selector.protocol,
            sport: selector.sport.value,
            dport: selector.dport.value,
        };
        let (at, _) = self.lookup(kind, direction, &flow)?;
        self.entries.get_mut(&at)
    }

    /// In the order they were added.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &PolicyEntry> {
        self.entries.values()
    }

    /// Those whose source or destination is this prefix, in the order they were added.
    pub(crate) fn of(&self, net: IpNet) -> impl Iterator<Item = &PolicyEntry> {
        self.either.range((net, Place::MIN)..=(net, Place::MAX)).filter_map(|(_, at)| self.entries.get(at))
    }

    pub(crate) fn clear(&mut self) {
        *self = Self { last: self.last, last_index: self.last_index, ..Self::default() };
    }

    fn lookup(&self, kind: PolicyKind, direction: Direction, flow: &Flow) -> Option<(Place, &PolicyEntry)> {
        let half = (kind, direction);
        let net = |address, length| IpNet::new(address, length).ok().map(|net| net.trunc());
        let lengths = self.lengths.range((half, 0, 0)..=(half, u8::MAX, u8::MAX));
        let nets = lengths.filter_map(|((_, src, dst), _)| Some((net(flow.src, *src)?, net(flow.dst, *dst)?)));
        let places = nets.flat_map(|(src, dst)| self.nets.range((half, src, dst, Place::MIN)..=(half, src, dst, Place::MAX)));
        let candidates = places.filter_map(|(.., at)| Some((*at, self.entries.get(at)?)));
        candidates.filter(|(_, entry)| flow.fits(&entry.selector)).min_by_key(|(at, entry)| (entry.priority, *at))
    }

    /// Sub policies first; a sub policy that allows is completed by a main policy, one that blocks decides alone.
    pub(crate) fn verdict(&self, direction: Direction, flow: &Flow) -> Verdict {
        let found = |kind| self.lookup(kind, direction, flow).map(|(_, policy)| policy);
        let sub = found(PolicyKind::Sub);
        let main = match sub {
            Some(policy) if policy.action == PolicyAction::Block => None,
            _ => found(PolicyKind::Main),
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
