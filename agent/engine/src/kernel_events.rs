//! What the kernel reports and what it means for policies, addresses and SAs.

use std::net::IpAddr;

use watari_kernel::{Acquire, AddressEvent, Expire, KernelEvent, KernelRequest, Now, PolicyEntry, SaId, Spi};
use watari_policies::{Mode, PolicyId};
use watari_sa::{Cause, ChildId, ChildState, KeyingInput, Owner, Target, Trigger, Want};

use crate::Event;
use crate::agent::Agent;
use crate::core::{Call, Purpose};
use crate::movement::count;
use crate::timers::Timer;

impl Agent {
    /// Takes a report of the kernel.
    pub(crate) fn kernel_event(&mut self, now: Now, event: KernelEvent) {
        match event {
            KernelEvent::Acquire(acquire) => self.acquire(now, &acquire),
            KernelEvent::Expire(expire) => self.expire(&expire),
            KernelEvent::Migrate(event) => self.migrate(now, &event),
            KernelEvent::PolicyChanged(entry) => self.policy_changed(now, entry),
            KernelEvent::PolicyRemoved(entry) => self.policy_removed(now, &entry),
            KernelEvent::SaRemoved(id) => self.sa_removed(now, id),
            KernelEvent::Flushed { policies } => self.flushed(now, policies),
            KernelEvent::Address(event) => self.address(now, &event),
            KernelEvent::Link(event) => self.core.places.link(&event),
            // A path that broke shows itself: a datagram is refused, or liveness finds the peer silent.
            KernelEvent::Route(_) => {}
            KernelEvent::Resynchronised { policies, sas } => self.resynchronised(now, policies, &sas),
            KernelEvent::Malformed { channel, why, octets } => {
                count(&mut self.core.counters.malformed_kernel_messages);
                let hex: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
                self.core.tell(Event::Notice { cause: Cause::MALFORMED, detail: format!("from the kernel on {channel:?}: {why}: {hex}") });
            }
        }
    }

    fn acquire(&mut self, now: Now, acquire: &Acquire) {
        count(&mut self.core.counters.acquires);
        self.follow_home_agent(now, acquire);
        let policy = self.core.spd.acquired(&self.core.lookup, acquire);
        self.core.tell(Event::Acquired { policy });
        if let Some(policy) = policy.filter(|_| acquire.template.mode == Mode::Tunnel) {
            self.core.acquired.insert(policy, (acquire.endpoints, acquire.template));
        }
        if let Some(policy) = policy {
            self.core.asked.insert(policy, acquire.sequence);
            let remote = self.core.config.policy(policy).map(|policy| policy.remote);
            if let (Some(remote), Some(care_of)) = (remote, acquire.care_of) {
                self.core.places.left_from(remote, acquire.packet.src.addr(), care_of);
            }
        }
        match policy {
            Some(policy) if !self.core.stopping => {
                let trigger = Trigger::Acquire { packet: acquire.packet, sequence: acquire.sequence };
                self.core.calls.push_back(Call::Want(Want { policy, trigger }));
            }
            _ => {}
        }
    }

    fn expire(&mut self, expire: &Expire) {
        // SPI 0 is the larval state of an ACQUIRE that nobody answered in time: the kernel asks again with the next packet.
        if expire.id.spi == Spi(0) {
            return;
        }
        let Some(child) = self.child_of(expire.id) else { return };
        let Some((owner, state)) = self.core.children.get(child).map(|child| (child.owner, child.state)) else { return };
        match (expire.hard, owner, state) {
            (_, _, ChildState::Closing | ChildState::Installing) | (false, _, ChildState::Replaced) => {}
            (true, ..) => self.lost(child),
            (false, Owner::None, _) => self.want_replacements(),
            (false, ..) => self.core.calls.push_back(Call::Rekey(Target::Child(child))),
        }
    }

    /// The child SA one of whose halves has this id.
    fn child_of(&self, id: SaId) -> Option<ChildId> {
        self.core.half_of(id).map(|(child, _)| child)
    }

    fn policy_changed(&mut self, now: Now, entry: PolicyEntry) {
        let present = self.core.spd.all_present_of(&self.core.lookup, &entry);
        let adopted = self.core.spd.set(&self.core.lookup, entry.clone());
        for policy in adopted.policies.iter().copied() {
            if let Some(tunnel) = adopted.tunnel {
                self.core.places.set_template(policy, self.core.with_own_end(policy, tunnel));
            }
            if !present.contains(&policy) && self.core.spd.present(policy) {
                self.appeared(now, policy);
            }
        }
        if let Some(tunnel) = adopted.tunnel {
            self.follow_policy(now, &entry, &adopted.policies, tunnel);
        }
    }

    fn policy_removed(&mut self, now: Now, entry: &PolicyEntry) {
        for policy in self.core.spd.remove(entry.direction, &entry.selector, entry.kind) {
            if !self.core.spd.present(policy) {
                self.core.sleep(now, policy);
            }
        }
    }

    /// Somebody removed an SA. It may be one that MIGRATE just moved, so it is looked for before anything is concluded.
    fn sa_removed(&mut self, now: Now, id: SaId) {
        if let Some(child) = self.child_of(id) {
            self.core.timers.set_once(Timer::Verify(child), now.boot);
        }
    }

    fn flushed(&mut self, now: Now, policies: bool) {
        if policies {
            let gone: Vec<PolicyId> = self.core.spd.clear().into_iter().collect();
            for policy in gone {
                self.core.sleep(now, policy);
            }
            self.core.installed.clear();
        }
        self.core.read_again(now.boot);
    }

    /// An address that went away ends nothing: for peers that Mobile IPv6 governs MIGRATE decides, unless the mobile node follows its own
    /// addresses; for others liveness does.
    fn address(&mut self, now: Now, event: &AddressEvent) {
        let address = event.address;
        let changed = self.core.places.address(event);
        if !event.present && !self.core.places.usable(address) {
            self.withdraw(address);
        }
        let Some(usable) = changed else { return };
        self.core.tell(Event::Address { address, usable });
        self.follow_addresses(now);
        if usable {
            self.keying_call(now, |keying, context| keying.handle(context, KeyingInput::AddressUsable(address)));
        }
    }

    /// The kernel's state for an unanswered ACQUIRE is the newest that fits its tunnel policy: it has no keys, so MIGRATE would fail on it
    /// (ENODATA) and the policy would stay at the old address for good. Before the Mobile IPv6 daemon moves the policy from an address that
    /// vanished, that state is given an SPI, the only handle there is, and deleted. The negotiation itself goes on.
    fn withdraw(&mut self, vanished: IpAddr) {
        let core = &mut self.core;
        let mut states = Vec::new();
        core.acquired.retain(|_, state| {
            let stays = state.0.src != vanished;
            if !stays {
                states.push(*state);
            }
            stays
        });
        for (endpoints, template) in states {
            let Some(protocol) = template.protocol else { continue };
            let request = KernelRequest::AllocateSpi { endpoints, protocol, mode: template.mode, reqid: template.reqid };
            core.ask(Purpose::Withdraw(endpoints, protocol), request);
        }
    }
}

impl crate::core::Core {
    /// Tells the kernel that what it asked for could not be negotiated.
    pub(crate) fn refuse_acquire(&mut self, policy: PolicyId) {
        if let Some(sequence) = self.asked.remove(&policy) {
            self.ask(Purpose::Housekeeping("refuse an ACQUIRE"), KernelRequest::RefuseAcquire { sequence });
        }
    }
}
