//! A second home agent: who sends mobile nodes there, who tells their Mobile IPv6 daemons of it, and what must be true of both in the end.

use std::collections::BTreeSet;
use std::net::IpAddr;

use watari_engine::vici::Section;
use watari_kernel::SaInfo;

use super::World;
use super::host::{Host, Role};
use super::verdict::esp;
use crate::home_agents::{SECOND, SECOND_HOME_AGENT};
use crate::report::Report;
use crate::scenario::{HA, HOME_AGENT};
use crate::signalling::Input as Signal;

impl World<'_> {
    /// An operator of the first home agent sends every mobile node on.
    pub(super) fn redirect(&mut self) {
        let Some(host) = self.host_named(HA) else { return };
        for plan in &self.scenario.mobile_nodes {
            let arguments = Section::new().with("ike", plan.name).with("gateway", SECOND_HOME_AGENT.to_string());
            self.command(host, "redirect", arguments);
        }
        self.pump(host);
    }

    /// The first home agent's Mobile IPv6 daemon tells every mobile node to go.
    pub(super) fn send_away(&mut self) {
        if let Some(host) = self.host_named(HA) {
            self.signal(host, Signal::SendAway(SECOND_HOME_AGENT));
        }
    }

    /// An agent says which home agent is to be registered with.
    pub(super) fn home_agent_told(&mut self, host: usize, address: IpAddr) {
        let now = self.now;
        let Some(this) = self.hosts.get_mut(host).filter(|host| matches!(host.role, Role::Mobile(_))) else { return };
        if let Some(node) = &mut this.node {
            node.handle(now, Signal::HomeAgent(address));
        }
        self.drain_node(host);
    }

    /// Every mobile node is with the second home agent, and nothing is left of the first one.
    pub(super) fn judge_home_agents(&self, report: &Report) -> Vec<String> {
        if self.scenario.second_home_agent.is_none() {
            return Vec::new();
        }
        let mut wrong = self.scenario.unanswered_after_switch(self.pings.iter().map(|ping| (ping.sent, ping.answered)));
        wrong.extend(self.scenario.badly_moved(report.handovers.last().map(|handover| handover.children_moved)));
        let named = |name: &str| self.hosts.iter().find(|host| host.name == name);
        let ends = |host: &Host| esp(host).map(|sa| (sa.spi, sa.src, sa.dst)).collect::<BTreeSet<_>>();
        let (Some(first), Some(second)) = (named(HA), named(SECOND)) else { return wrong };
        let old = |sa: &SaInfo| sa.src == HOME_AGENT || sa.dst == HOME_AGENT;
        for host in &self.hosts {
            let left = esp(host).filter(old).count();
            if left > 0 {
                wrong.push(format!("{}: {left} SAs with the first home agent in the end", host.name));
            }
        }
        let status = first.agent.as_ref().map(|agent| agent.status(self.clock()));
        let standing = status.iter().flat_map(|status| &status.remotes).flat_map(|remote| &remote.ike_sas).count();
        if standing > 0 {
            wrong.push(format!("{}: {standing} IKE SAs in the end", first.name));
        }
        let nodes: BTreeSet<_> = self.hosts.iter().filter(|host| matches!(host.role, Role::Mobile(_))).flat_map(ends).collect();
        if nodes != ends(second) {
            wrong.push(format!("{}: {} SAs, its mobile nodes have {}", second.name, ends(second).len(), nodes.len()));
        }
        wrong
    }
}
