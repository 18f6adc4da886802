//! How many lines about dropped packets are written: anybody can send packets, so a flood must not fill the log.
//! Invariant: every drop is either written or in the count of a later line.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// Time after which lines are allowed again and what went unwritten is told.
const WINDOW: Duration = Duration::from_secs(60);
/// Lines about one sender and reason within a window.
const PER_SENDER: u32 = 3;
/// Lines about drops altogether within a window; also the most senders that are remembered.
const ALTOGETHER: u32 = 30;

/// What was written, and what was not, in the present window.
#[derive(Debug, Default)]
pub(crate) struct Drops {
    began: Duration,
    written: BTreeMap<(&'static str, IpAddr), u32>,
    lines: u32,
    unwritten: BTreeMap<&'static str, u64>,
}

impl Drops {
    /// Whether a drop for the reason of this code gets a line of its own; counted if not.
    pub(crate) fn write(&mut self, now: Duration, code: &'static str, from: IpAddr) -> bool {
        if self.lines == 0 {
            self.began = now;
        }
        let known = self.written.get(&(code, from)).copied().unwrap_or(0);
        if self.lines < ALTOGETHER && known < PER_SENDER {
            self.lines = self.lines.saturating_add(1);
            self.written.insert((code, from), known.saturating_add(1));
            return true;
        }
        let unwritten = self.unwritten.entry(code).or_default();
        *unwritten = unwritten.saturating_add(1);
        false
    }

    /// What went unwritten, by code, once its window is over.
    pub(crate) fn summary(&mut self, now: Duration) -> BTreeMap<&'static str, u64> {
        if self.lines == 0 || now.saturating_sub(self.began) < WINDOW {
            return BTreeMap::new();
        }
        std::mem::take(self).unwritten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(number: u16) -> IpAddr {
        [0x2001, 0xdb8, 0, 0, 0, 0, 0, number].into()
    }

    #[test]
    fn a_sender_gets_three_lines_a_minute_and_nothing_is_uncounted() {
        let mut drops = Drops::default();
        let written = (0..100).filter(|second| drops.write(Duration::from_millis(second * 100), "IKE-M01", sender(1))).count();
        assert_eq!(written, 3);
        assert!(drops.write(Duration::from_secs(11), "IKE-M01", sender(2)), "another sender");
        assert!(drops.write(Duration::from_secs(11), "IKE-A01", sender(1)), "another reason");
        assert!(drops.summary(Duration::from_secs(59)).is_empty(), "not yet");
        assert_eq!(drops.summary(Duration::from_secs(60)), BTreeMap::from([("IKE-M01", 97)]));
        assert!(drops.summary(Duration::from_secs(200)).is_empty(), "once");
        assert!(drops.write(Duration::from_secs(61), "IKE-M01", sender(1)), "a new window");
    }

    #[test]
    fn many_senders_fill_neither_the_log_nor_the_memory() {
        let mut drops = Drops::default();
        let written = (0..10_000).filter(|number| drops.write(Duration::ZERO, "IKE-M01", sender(*number))).count();
        assert_eq!((written, drops.written.len()), (30, 30));
        assert_eq!(drops.summary(WINDOW), BTreeMap::from([("IKE-M01", 9970)]));
    }
}
