//! What a KAME kernel does by itself when a binding changes, done to a Linux kernel by its Mobile IPv6 daemon (FACTS 3.4).
//! Invariant: agents hear of tunnels what they would hear from a KAME kernel, in the same order; what they hear besides is about selectors
//! of nobody, because Linux neither suspends a policy nor moves an SA without a word.

use std::net::Ipv6Addr;

use ipnet::{IpNet, Ipv6Net};
use watari_kernel::mirror::{MigrateRequest, Rebound};
use watari_kernel::{PolicyAction, PolicyEntry, PolicyIndex, Template};
use watari_policies::Selector;

use super::kernel::{ENOENT, Errno, Kernel};
use crate::uml::Result;

/// The protocol of the helper's selector, one of those for experiments (RFC 3692): no packet has it.
const EXPERIMENT: u8 = 253;

/// The tunnel policies of one host.
#[derive(Default)]
pub(super) struct Kame {
    held: Vec<PolicyEntry>,
}

impl Kame {
    /// The policy has no effect from now on: bypass policies for both halves of what its wide side matches go before it.
    pub(super) fn set_aside(&mut self, kernel: &mut Kernel, policy: PolicyEntry) -> Result<Errno> {
        self.hold(policy.clone());
        let mut answer = 0;
        for bypass in screens(&policy) {
            answer = answer.max(kernel.set_policy(&bypass)?);
        }
        Ok(answer)
    }

    /// The policy has effect again.
    pub(super) fn put_back(&mut self, kernel: &mut Kernel, policy: PolicyEntry) -> Result<Errno> {
        self.hold(policy.clone());
        let mut answer = 0;
        for bypass in screens(&policy) {
            match kernel.delete_policy(&bypass.selector, bypass.direction, bypass.kind)? {
                ENOENT => {}
                errno => answer = answer.max(errno),
            }
        }
        Ok(answer)
    }

    /// The tunnel has new end points, and so have its SAs.
    pub(super) fn rebind(&mut self, kernel: &mut Kernel, request: &MigrateRequest, tells: Rebound) -> Result<Errno> {
        let same = |held: &&mut PolicyEntry| held.selector == request.selector && held.direction == request.direction;
        let Some(held) = self.held.iter_mut().find(same) else { return Ok(ENOENT) };
        let before = held.clone();
        for (template, step) in held.templates.iter_mut().zip(&request.steps) {
            template.endpoints = step.new;
        }
        match tells {
            Rebound::Migrate => kernel.migrate(request),
            Rebound::PolicyUpdate => {
                let errno = move_sas(kernel, &before, request)?;
                if errno != 0 {
                    return Ok(errno);
                }
                kernel.set_policy(held)
            }
        }
    }

    fn hold(&mut self, policy: PolicyEntry) {
        self.held.retain(|held| held.selector != policy.selector || held.direction != policy.direction);
        self.held.push(policy);
    }
}

/// Moves the SAs of a policy and leaves the policy alone: MIGRATE finds SAs by its steps, so that a policy of nobody will do.
fn move_sas(kernel: &mut Kernel, policy: &PolicyEntry, request: &MigrateRequest) -> Result<Errno> {
    let nobody = IpNet::V6(Ipv6Addr::LOCALHOST.into());
    let selector = Selector::between(nobody, nobody).protocol(EXPERIMENT);
    let errno = kernel.set_policy(&PolicyEntry { selector, ..policy.clone() })?;
    if errno != 0 {
        return Ok(errno);
    }
    let errno = kernel.migrate(&MigrateRequest { selector, ..request.clone() })?;
    kernel.delete_policy(&selector, policy.direction, policy.kind)?;
    Ok(errno)
}

/// Bypass policies with other selectors than `policy`, which they would replace with the same one, that match every packet it matches.
fn screens(policy: &PolicyEntry) -> impl Iterator<Item = PolicyEntry> + use<> {
    let halves = |side: IpNet| {
        let whole = side == IpNet::V6(Ipv6Net::default());
        let halves = [Ipv6Addr::UNSPECIFIED, Ipv6Addr::new(0x8000, 0, 0, 0, 0, 0, 0, 0)];
        let narrow = halves.into_iter().filter_map(|half| Ipv6Net::new(half, 1).ok()).map(IpNet::V6);
        if whole { narrow.collect() } else { vec![side] }
    };
    let selector = policy.selector;
    let selectors = halves(selector.src).into_iter().flat_map(move |src| halves(selector.dst).into_iter().map(move |dst| (src, dst)));
    let (templates, index) = (Vec::<Template>::new(), PolicyIndex(0));
    let bypass =
        PolicyEntry { action: PolicyAction::Allow, templates, index, priority: policy.priority.saturating_sub(1), ..policy.clone() };
    selectors.map(move |(src, dst)| PolicyEntry { selector: Selector { src, dst, ..selector }, ..bypass.clone() })
}
