//! What pings, counters, logs and statuses say, compared with what the scenario expects; inside the guest, while the daemons run.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use watari_sim::signalling::Personality;

use super::network::{self, COUNTERS};
use super::run::Runner;
use super::timeline::Moment;
use crate::uml::Result;

impl Runner<'_> {
    /// Counts pings without answer, and those among them that were sent while everything ought to have worked.
    pub(super) fn judge_pings(&mut self, now: Duration) {
        // An answer that was under way when the link went is no loss for want of a key.
        let grace = Duration::from_millis(100) + self.scenario.conditions.delay * 4;
        for host in &mut self.hosts {
            let Some(mobile) = &mut host.mobile else { continue };
            mobile.close_window(now + grace);
            for pinger in self.pingers.iter().filter(|pinger| pinger.node == mobile.plan.name) {
                let bootstrap = pinger.pings.iter().filter(|ping| ping.answered.is_some()).map(|ping| ping.sent).min();
                if bootstrap.is_none() && self.scenario.conditions.loss == 0 && !self.scenario.is_refused(&mobile.plan) {
                    self.facts.troubles.push(format!("{}: not one ping was answered ({pinger})", pinger.node));
                }
                for ping in &pinger.pings {
                    self.facts.pings_sent += 1;
                    if ping.answered.is_some() {
                        continue;
                    }
                    self.facts.pings_lost += 1;
                    let within = |(from, to): &(Duration, Duration)| *from <= ping.sent && ping.sent + grace < *to;
                    if bootstrap.is_some_and(|bootstrap| ping.sent > bootstrap) && mobile.windows.iter().any(within) {
                        self.facts.pings_lost_in_window += 1;
                        self.facts.timeline.push(Moment {
                            at_us: u64::try_from(ping.sent.as_micros()).unwrap_or(u64::MAX),
                            host: mobile.plan.name.to_owned(),
                            text: "a ping was not answered".to_owned(),
                            detail: false,
                        });
                    }
                }
            }
        }
    }

    /// Notes the kernels' drop counters, and how they grew since everything worked.
    pub(super) fn judge_counters(&mut self) -> Result<()> {
        for host in &self.hosts {
            let drops = host.space.exec("grep -v '[[:blank:]]0$' /proc/thread-self/net/xfrm_stat || true")?;
            let lines = drops.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
            self.facts.drops.insert(host.space.name.clone(), lines);
        }
        let Some(baseline) = &self.baseline else { return Ok(()) };
        for (host, before) in self.hosts.iter().zip(baseline) {
            let after = network::counters(&host.space)?;
            for ((name, before), after) in COUNTERS.iter().zip(before).zip(after) {
                if after > *before {
                    self.facts.dropped_for_key.insert(format!("{} {name}", host.space.name), after - before);
                }
            }
        }
        Ok(())
    }

    /// Compares the movements that agents did not believe, and that were refuted, with what is expected; and where IKE SAs are after that.
    pub(super) fn judge_doubts(&mut self) -> Result<()> {
        let expected = u64::from(self.scenario.expect.refuted);
        let logs: Vec<_> = self.hosts.iter().flat_map(|host| host.agent.log()).collect();
        for code in ["IKE-V01", "IKE-V02"] {
            let seen = logs.iter().filter(|line| line.get("code").and_then(serde_json::Value::as_str) == Some(code)).count() as u64;
            if seen != expected {
                self.facts.differences.push(format!("{code} was logged {seen} times, {expected} expected"));
            }
        }
        if expected == 0 {
            return Ok(());
        }
        let mut paths = Vec::new();
        for host in &self.hosts {
            paths.push(ike_paths(&host.agent.status()?));
        }
        let Some((home, nodes)) = paths.split_first() else { return Ok(()) };
        for (spis, (local, remote)) in nodes.iter().flatten() {
            if home.get(spis) != Some(&(remote.clone(), local.clone())) {
                self.facts.differences.push(format!("IKE SA {local} - {remote} is at {:?} on the home agent", home.get(spis)));
            }
        }
        Ok(())
    }

    /// Under SHISA an agent hears of movements on PF_KEY, or not at all.
    pub(super) fn judge_sockets(&mut self) {
        if self.scenario.personality == Personality::Mip6d {
            return;
        }
        let word = |line: &Value, key: &str| line.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        for host in &self.hosts {
            let heard = host.agent.log().into_iter().filter(|line| word(line, "msg") == "moved").map(|line| word(&line, "heard_on"));
            if let Some(other) = heard.into_iter().find(|socket| socket != "PfKey") {
                self.facts.differences.push(format!("{}: a movement was heard on {other}", host.space.name));
            }
        }
    }

    /// Agents that want to see binding messages and cannot say so once, others not at all.
    pub(super) fn judge_sight(&mut self) {
        for host in &self.hosts {
            let complaint = |line: &Value| line.get("msg").and_then(Value::as_str).is_some_and(|text| text.contains("cannot be seen"));
            let times = host.agent.log().iter().filter(|line| complaint(line)).count();
            if times != usize::from(self.scenario.blind) {
                self.facts.differences.push(format!("{} says {times} times that it cannot see binding messages", host.space.name));
            }
        }
    }
}

/// Both ends of every IKE SA of an agent, by its SPIs.
pub(super) fn ike_paths(status: &serde_json::Value) -> BTreeMap<String, (String, String)> {
    let rows = |value: &serde_json::Value, key: &str| value.get(key).and_then(serde_json::Value::as_array).cloned().unwrap_or_default();
    let sas = rows(status, "remotes").iter().flat_map(|remote| rows(remote, "ike_sas")).collect::<Vec<_>>();
    let word = |ike: &serde_json::Value, key: &str| ike.get(key).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    let path = |ike| (word(ike, "initiator_spi") + &word(ike, "responder_spi"), (word(ike, "local"), word(ike, "remote")));
    sas.iter().map(path).collect()
}

/// What an agent could not read of what its kernel said.
pub(super) fn unread(host: &str, status: &Value) -> Option<String> {
    let unread = status.pointer("/counters/malformed_kernel_messages").and_then(Value::as_u64).unwrap_or_default();
    (unread > 0).then(|| format!("{host}: the agent could not read {unread} messages of its kernel"))
}
