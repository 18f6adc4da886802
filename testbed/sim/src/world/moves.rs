//! Movement of mobile nodes: the order of address events (FACTS D12), and what each hand-over cost.

use std::collections::BTreeSet;
use std::time::Duration;

use watari_engine::Input;
use watari_kernel::{AddressFlags, KernelEvent};
use watari_sa::ChildId;

use super::host::Role;
use super::{Event, World};
use crate::report::Handover;
use crate::scenario::Link;
use crate::signalling::{Input as Signal, Personality};
use crate::timeline::Happening;

/// A hand-over being measured.
pub(super) struct Track {
    pub(super) host: usize,
    from: Link,
    to: Link,
    migrates: u32,
    first_migrate: Option<Duration>,
    usable: Option<Duration>,
    children: BTreeSet<ChildId>,
    /// Time the agent has thought since the later of MIGRATE and the address.
    thought: Duration,
    running: bool,
    first_ike: Option<Duration>,
}

impl Track {
    pub(super) fn handover(&self) -> Handover {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let wait = match (self.first_migrate, self.usable) {
            (Some(migrate), Some(usable)) => usable.saturating_sub(migrate),
            _ => Duration::ZERO,
        };
        Handover {
            from: self.from.name().to_owned(),
            to: self.to.name().to_owned(),
            event_to_first_ike_us: self.first_ike.map(micros),
            address_wait_us: micros(wait),
            migrate_events: self.migrates,
            children_moved: u32::try_from(self.children.len()).unwrap_or(u32::MAX),
        }
    }
}

impl World<'_> {
    /// The link goes down; the address on it is gone at once.
    pub(super) fn leave(&mut self, host: usize, to: Link) {
        let attach = self.scenario.attach;
        let Some(this) = self.hosts.get_mut(host) else { return };
        let Role::Mobile(plan) = this.role.clone() else { return };
        if !this.up {
            // Carried away while it is down: it boots there.
            this.last_link = Some(to);
            return;
        }
        let from = this.link.take().or(this.last_link);
        this.last_link = Some(to);
        this.moves = this.moves.saturating_add(1);
        this.held.clear();
        let moves = this.moves;
        self.close_window(host);
        let Some(this) = self.hosts.get_mut(host) else { return };
        if let Some(from) = from {
            let old = plan.care_of(from);
            if this.mirror.address_flags(old).is_some() {
                this.remove_address(old);
            }
            self.tracks.push(Track {
                host,
                from,
                to,
                migrates: 0,
                first_migrate: None,
                usable: None,
                children: BTreeSet::new(),
                thought: Duration::ZERO,
                running: false,
                first_ike: None,
            });
            self.say(host, Happening::LinkDown { from, to });
            self.signal(host, Signal::Detached(old));
        }
        self.after(attach, Event::Attach(host, to, moves));
        self.pump(host);
    }

    /// The new link is up and a router was heard: a tentative address.
    pub(super) fn attach(&mut self, host: usize, link: Link, moves: u32) {
        let dad = self.scenario.dad;
        let Some(this) = self.hosts.get_mut(host).filter(|host| host.moves == moves) else { return };
        let Role::Mobile(plan) = this.role.clone() else { return };
        this.link = Some(link);
        this.last_link = Some(link);
        let address = plan.care_of(link);
        this.set_address(address, AddressFlags { tentative: true, ..AddressFlags::default() });
        self.say(host, Happening::Attached { link, address });
        self.after(dad, Event::Dad(host, link, moves));
        if self.scenario.personality == Personality::Mip6d {
            self.signal(host, Signal::Attached { address, home: link == Link::Home });
        } else {
            // SHISA's mnd takes no care-of address before it is usable.
            self.pump(host);
        }
    }

    /// Duplicate address detection is over.
    pub(super) fn address_usable(&mut self, host: usize, link: Link, moves: u32) {
        let now = self.now;
        let Some(this) = self.hosts.get_mut(host).filter(|host| host.moves == moves) else { return };
        let Role::Mobile(plan) = this.role.clone() else { return };
        let address = plan.care_of(link);
        this.set_address(address, AddressFlags::default());
        let held = std::mem::take(&mut this.held);
        if let Some(track) = self.track(host).filter(|track| track.to == link && link.is_foreign()) {
            track.usable = Some(now);
        }
        self.say(host, Happening::Usable { address });
        self.pump(host);
        if self.scenario.personality != Personality::Mip6d {
            self.signal(host, Signal::Attached { address, home: link == Link::Home });
        }
        for wire in held {
            self.arrive(link, wire);
        }
    }

    fn track(&mut self, host: usize) -> Option<&mut Track> {
        self.tracks.iter_mut().rev().find(|track| track.host == host)
    }

    pub(super) fn migrate_heard(&mut self, host: usize) {
        let now = self.now;
        if let Some(track) = self.track(host) {
            track.migrates = track.migrates.saturating_add(1);
            track.first_migrate.get_or_insert(now);
        }
    }

    pub(super) fn moved(&mut self, host: usize, children: &[ChildId]) {
        if let Some(track) = self.track(host) {
            track.children.extend(children);
        }
    }

    /// Whether this input is the first MIGRATE of a hand-over, or the new address becoming usable: the clock of the agent's thinking starts.
    pub(super) fn starts_clock(&mut self, host: usize, input: &Input) -> bool {
        let source = self.scenario.migrate_source();
        let Some(track) = self.tracks.iter_mut().rev().find(|track| track.host == host) else { return false };
        if track.first_ike.is_some() {
            return false;
        }
        match input {
            Input::Kernel(KernelEvent::Migrate(migrate)) => !track.running && migrate.source == source,
            Input::Kernel(KernelEvent::Address(event)) => {
                track.running && event.present && !event.flags.tentative && track.to.prefix().contains(&event.address) && !event.flags.home
            }
            _ => false,
        }
    }

    /// The agent thought for so long.
    pub(super) fn thought(&mut self, host: usize, spent: Duration, starts_clock: bool) {
        if let Some(track) = self.track(host).filter(|track| track.first_ike.is_none()) {
            if starts_clock {
                track.running = true;
                track.thought = Duration::ZERO;
            }
            if track.running {
                track.thought = track.thought.saturating_add(spent);
            }
        }
    }

    /// An IKE datagram really left this host.
    pub(super) fn ike_left(&mut self, host: usize) {
        if let Some(this) = self.hosts.get_mut(host) {
            this.waits = None;
        }
        if let Some(track) = self.track(host).filter(|track| track.running && track.first_ike.is_none()) {
            track.first_ike = Some(track.thought);
            let thought = track.thought;
            let since = track.first_migrate;
            let wait = since.map_or(Duration::ZERO, |since| self.now.saturating_sub(since));
            self.say(host, Happening::FirstIke { thought, wait });
        }
    }
}
