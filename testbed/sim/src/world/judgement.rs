//! Which pings of a mobile node had to be answered, and whether they were. Without loss that is every one sent while the node was
//! registered and had its keys; with loss chance decides, so what is judged is whether more was lost than the links lost.

use std::time::Duration;

use watari_kernel::mirror::Counter;
use watari_policies::model::Retransmit;

use super::World;

/// A ping that finds its keys is answered within so many tries, as good as certainly, where half of them are lost.
const LUCK: Duration = Duration::from_secs(2);

/// What became of the pings of one mobile node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    /// How long it was registered and pinging before the first answer.
    waited: Duration,
    /// Pings sent while everything ought to work, and that nothing cut off.
    due: u32,
    /// Of these, answered.
    answered: u32,
}

impl World<'_> {
    pub(super) fn is_lossy(&self) -> bool {
        self.scenario.conditions.loss > 0
    }

    fn tally(&self, node: usize) -> Tally {
        let mut tally = Tally::default();
        let every = self.flows.iter().filter(|flow| flow.node == node).map(|flow| flow.every).min().unwrap_or_default();
        for ping in self.pings.iter().filter(|ping| ping.node == node) {
            // Where SAs are given up at home the first packets away ask for new ones, and the kernel drops them.
            let asks = self.scenario.dormant.is_some() && ping.dropped == Some(Counter::XfrmOutNoStates);
            let due = ping.counts && !ping.cut && !asks;
            tally.due = tally.due.saturating_add(u32::from(due));
            tally.answered = tally.answered.saturating_add(u32::from(due && ping.answered));
            if ping.registered && !ping.counts {
                tally.waited = tally.waited.saturating_add(every);
            }
        }
        tally
    }

    /// What is wrong with the pings of a mobile node, in words.
    pub(super) fn judge_pings(&self, node: usize) -> Vec<String> {
        let name = self.hosts.get(node).map_or("", |host| host.name);
        let Tally { waited, due, answered } = self.tally(node);
        let mut wrong = Vec::new();
        let least = least_answered(due, self.scenario.conditions.loss);
        if answered < least {
            wrong.push(format!("{name}: {answered} of {due} pings answered that were sent with binding and keys, {least} expected"));
        }
        // Each try at the exchange that brings the keys took at least one lost datagram.
        let tries = tries_within(waited.saturating_sub(LUCK));
        if self.is_lossy() && self.ike_lost < tries {
            wrong.push(format!(
                "{name}: no answer for {waited:?}, {tries} tries at keys were due and only {} datagrams lost",
                self.ike_lost
            ));
        }
        wrong
    }
}

/// Of so many pings, how many are answered at least: all of them, or as many as five standard deviations below what two crossings leave.
fn least_answered(due: u32, loss: u64) -> u32 {
    let through = 1000_u64.saturating_sub(loss);
    let expected = u64::from(due).saturating_mul(through).saturating_mul(through) / 1_000_000;
    // Five deviations of a fair coin, which is the most that any coin has.
    let spread = if loss == 0 { 0 } else { (u64::from(due).saturating_mul(25) / 4).isqrt() };
    u32::try_from(expected.saturating_sub(spread)).unwrap_or(u32::MAX)
}

/// Tries of one request within a time, the first included.
fn tries_within(time: Duration) -> u32 {
    let Retransmit { initial, base_tenths, cap, .. } = Retransmit::default();
    let (mut at, mut wait, mut tries) = (Duration::ZERO, initial, 0_u32);
    while at < time {
        tries = tries.saturating_add(1);
        at = at.saturating_add(wait);
        wait = (wait.saturating_mul(base_tenths) / 10).min(cap).max(initial);
    }
    tries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_loss_every_ping_is_due_and_with_loss_what_chance_leaves() {
        assert_eq!(least_answered(100, 0), 100);
        // Of 400, 196 cross twice at 30 % loss; five deviations of a coin are 50.
        assert_eq!(least_answered(400, 300), 146);
        assert_eq!(least_answered(10, 300), 0);
    }

    #[test]
    fn tries_follow_the_schedule_of_repeats() {
        // At 0, 0.5, 1.4, 3.02, 5.94 s.
        for (millis, tries) in [(0, 0), (1, 1), (600, 2), (1500, 3), (3100, 4), (6000, 5)] {
            assert_eq!(tries_within(Duration::from_millis(millis)), tries, "{millis} ms");
        }
    }
}
