//! Two sockets bring the same MIGRATE: one decides, the other's copies are consumed in order.
//! Invariant: what the other socket brings never changes a record; what only it brought asks for a look at the kernel.

use std::collections::VecDeque;
use std::time::Duration;

use ipnet::IpNet;
use watari_kernel::{KmAddress, Migrate, MigrateSource, MigrateStep};
use watari_policies::Direction;

/// Most events remembered for their copies.
const MAX_REMEMBERED: usize = 256;
/// How long one socket may lag behind the other.
pub(crate) const GRACE: Duration = Duration::from_millis(500);

/// What PF_KEY and netlink both tell of an event: everything but types and ports.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Signature {
    direction: Direction,
    src: IpNet,
    dst: IpNet,
    protocol: u8,
    steps: Vec<MigrateStep>,
    kmaddress: Option<KmAddress>,
}

impl Signature {
    fn of(event: &Migrate) -> Self {
        let selector = event.selector;
        Self {
            direction: event.direction,
            src: selector.src,
            dst: selector.dst,
            protocol: selector.protocol,
            steps: event.steps.clone(),
            kmaddress: event.kmaddress,
        }
    }
}

/// What to do with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It decides.
    Act,
    /// A copy of one that was acted on.
    Copy,
    /// Not seen on the deciding socket yet; worth a look at the kernel if that stays so.
    Wait,
}

/// The queue.
#[derive(Debug)]
pub(crate) struct Copies {
    decider: MigrateSource,
    acted: VecDeque<(Duration, Signature)>,
    early: VecDeque<(Duration, Signature)>,
}

impl Copies {
    /// A queue for which `decider` decides; netlink does from its first event on.
    pub(crate) const fn new(decider: MigrateSource) -> Self {
        Self { decider, acted: VecDeque::new(), early: VecDeque::new() }
    }

    /// The socket that decides.
    pub(crate) const fn decider(&self) -> MigrateSource {
        self.decider
    }

    /// Judges an event.
    pub(crate) fn judge(&mut self, boot: Duration, event: &Migrate) -> Verdict {
        let signature = Signature::of(event);
        if event.source == MigrateSource::Netlink {
            self.decider = MigrateSource::Netlink;
        }
        if event.source == self.decider {
            if let Some(position) = self.early.iter().position(|(_, early)| *early == signature) {
                self.early.remove(position);
            } else {
                push(&mut self.acted, boot, signature);
            }
            return Verdict::Act;
        }
        match self.acted.iter().position(|(_, acted)| *acted == signature) {
            Some(position) => {
                // Copies come in order: what stands before this one has lost its copy.
                self.acted.drain(..=position);
                Verdict::Copy
            }
            None => {
                push(&mut self.early, boot, signature);
                Verdict::Wait
            }
        }
    }

    /// Forgets what is older than the grace; whether the deciding socket missed something, and when to look again.
    pub(crate) fn expire(&mut self, boot: Duration) -> (bool, Option<Duration>) {
        let old = |at: Duration| boot.saturating_sub(at) >= GRACE;
        let before = self.early.len();
        self.early.retain(|(at, _)| !old(*at));
        self.acted.retain(|(at, _)| boot.saturating_sub(*at) < GRACE * 10);
        (self.early.len() < before, self.early.front().map(|(at, _)| at.saturating_add(GRACE)))
    }
}

fn push(queue: &mut VecDeque<(Duration, Signature)>, boot: Duration, signature: Signature) {
    if queue.len() >= MAX_REMEMBERED {
        queue.pop_front();
    }
    queue.push_back((boot, signature));
}
