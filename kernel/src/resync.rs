//! Resynchronisation: both tables are read again while events are held back, then told as one event with the held ones behind it.
//! Invariant: an event that the tables do not yet show is told after them, so that the listener ends where the kernel is.

use std::time::Duration;

use crate::table::Rows;
use crate::{KernelEvent, PolicyEntry};

/// After a dump that the kernel refused.
const RETRY: Duration = Duration::from_secs(1);
/// Events held back at most; more of them count as lost, and everything is read again.
const HELD: usize = 65_536;

/// What is told when both tables have been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Telling {
    /// Nothing: the tables were only read to know them.
    #[default]
    Nothing,
    /// That the SAs were flushed, if there are none left, else everything.
    Flush,
    /// Everything.
    Everything,
}

/// State of resynchronisation.
#[derive(Debug, Default)]
pub struct Resync {
    running: Option<Telling>,
    wanted: Option<Telling>,
    not_before: Duration,
    policies: Option<Vec<PolicyEntry>>,
    held: Vec<KernelEvent>,
}

impl Resync {
    /// Asks for one that tells nothing.
    pub fn learn(&mut self) {
        self.wanted = self.wanted.max(Some(Telling::Nothing));
    }

    /// Asks for one that tells everything.
    pub fn want(&mut self) {
        self.wanted = Some(Telling::Everything);
    }

    /// Asks for one because SAs were flushed, and the kernel does not say exactly which.
    pub fn flushed(&mut self) {
        self.wanted = self.wanted.max(Some(Telling::Flush));
    }

    /// Events were lost: those held are not the whole story any more.
    pub fn lost(&mut self) {
        self.held.clear();
        self.want();
        self.not_before = Duration::ZERO;
    }

    /// Whether to begin reading now.
    pub(crate) fn start(&mut self, now: Duration) -> bool {
        if self.running.is_some() || self.wanted.is_none() || now < self.not_before {
            return false;
        }
        self.running = self.wanted.take();
        self.policies = None;
        true
    }

    /// The boot time at which one will begin that is asked for.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        (self.wanted.is_some() && self.running.is_none()).then_some(self.not_before)
    }

    /// Gives the event back to be told, unless it has to wait for the tables.
    pub fn hold(&mut self, event: KernelEvent) -> Option<KernelEvent> {
        if self.running.is_none() {
            return Some(event);
        }
        if self.held.len() >= HELD {
            self.lost();
        }
        self.held.push(event);
        None
    }

    /// A table was read; the events to tell, if it was the last one and nothing was lost meanwhile.
    pub(crate) fn table(&mut self, rows: Rows) -> Vec<KernelEvent> {
        match rows {
            Rows::Policies(policies) => {
                self.policies = Some(policies);
                Vec::new()
            }
            Rows::Sas(sas) => {
                let telling = self.running.take().unwrap_or_default();
                if self.wanted == Some(Telling::Everything) {
                    return Vec::new();
                }
                let policies = self.policies.take().unwrap_or_default();
                let first = match telling {
                    Telling::Nothing => None,
                    Telling::Flush if sas.is_empty() => Some(KernelEvent::Flushed { policies: false }),
                    Telling::Flush | Telling::Everything => Some(KernelEvent::Resynchronised { policies, sas }),
                };
                first.into_iter().chain(self.held.drain(..)).collect()
            }
        }
    }

    /// The kernel refused: what was held is told, and a new attempt is due a little later.
    pub(crate) fn failed(&mut self, now: Duration) -> Vec<KernelEvent> {
        self.wanted = self.wanted.max(self.running.take());
        self.not_before = now.saturating_add(RETRY);
        std::mem::take(&mut self.held)
    }
}
