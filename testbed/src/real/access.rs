//! What operators do at run time, and where there is no Mobile IPv6: who stands in for the hook that puts an assigned address in place.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;

use super::agent;
use super::run::Runner;
use super::timeline;
use crate::uml::{Failure, Result};

impl Runner<'_> {
    /// An operator brings up what a mobile node has with its home agent.
    pub(super) fn negotiate(&self, node: &str, policy: Option<&str>) -> Result<()> {
        let host = self.hosts.iter().find(|host| host.space.name == node).ok_or_else(|| Failure(format!("no host {node}")))?;
        host.agent.tell(&["up", policy.unwrap_or(agent::REMOTE)])
    }

    /// The home agent's daemon reads its configuration again.
    pub(super) fn reload(&self) -> Result<()> {
        let text = agent::home_configuration_again(self.scenario);
        self.hosts.first().map_or(Ok(()), |host| host.agent.reload(self.guest, &text))
    }

    /// Puts the addresses in place that gateways have assigned to their clients, as a hook does that hears of it.
    pub(super) fn place_assigned(&mut self) -> Result<()> {
        for host in &mut self.hosts {
            let Some(mobile) = host.mobile.as_mut().filter(|mobile| mobile.awaits_address) else { continue };
            let word = |line: &Value, key: &str| line.get(key).and_then(Value::as_str).map(str::to_owned);
            let assigned = |line: &Value| word(line, "msg").as_deref() == Some("home address assigned");
            let address = host.agent.log().iter().filter(|line| assigned(line)).find_map(|line| word(line, "address"));
            if let Some(address) = address.and_then(|address| address.parse::<IpAddr>().ok()) {
                self.network.place_inner_address(&host.space, address)?;
                mobile.awaits_address = false;
            }
        }
        Ok(())
    }

    /// Compares what the agents said with what they must have said.
    pub(super) fn judge_told(&mut self) {
        let mut lines = Vec::new();
        for host in &self.hosts {
            for line in host.agent.log() {
                // The words of the log, or what the simulator's timeline calls the same.
                let told = timeline::logged(&host.space.name, &line, 0).map(|moment| moment.text).unwrap_or_default();
                lines.push((host.space.name.clone(), format!("{line} {told}")));
            }
        }
        lines.extend(self.lines.iter().map(|line| (line.host.clone(), line.what.to_string())));
        let wanted = self.scenario.told.iter();
        let missing = wanted.filter_map(|told| told.missing(lines.iter().map(|(host, line)| (host.as_str(), line.as_str()))));
        self.facts.troubles.extend(missing);
    }

    /// Where nobody registers, everything ought to work from the first attachment until the node leaves.
    pub(super) fn open_window(&mut self, index: usize, now: Duration) {
        if self.scenario.access.is_none() {
            return;
        }
        if let Some(mobile) = self.hosts.get_mut(index).and_then(|host| host.mobile.as_mut()) {
            mobile.idle = false;
            if mobile.moves == 0 {
                mobile.window.get_or_insert(now);
            }
        }
    }
}
