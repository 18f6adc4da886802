//! A second home agent on a real kernel: who sends mobile nodes there, and how their Mobile IPv6 daemons hear of it: by the control event
//! `peer-address`, as `watari watch` prints it. Judged in the end: nothing is left of the first one.

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;

use watari_sim::home_agents::SECOND_HOME_AGENT;
use watari_sim::scenario::{HA, HOME_AGENT};
use watari_sim::signalling::Input;

use super::run::Runner;
use super::sas::in_words;
use crate::uml::hosts::Daemon;
use crate::uml::{Context, Result};

/// Hears on one mobile node what its agent says about the home agent in force.
pub(super) struct Ear {
    host: usize,
    watch: Daemon,
    said: File,
    rest: String,
}

impl Ear {
    /// The home agents to register with, in the order in which they were told.
    fn home_agents(&mut self) -> Result<Vec<IpAddr>> {
        self.said.read_to_string(&mut self.rest).context("what watari watch says")?;
        let whole = self.rest.rfind('\n').map_or(0, |end| end + 1);
        let lines: String = self.rest.drain(..whole).collect();
        Ok(lines.lines().filter_map(registration).collect())
    }
}

/// The home agent of `peer-address remote=0 old=ADDRESS new=ADDRESS code=IKE-R01 register=yes`.
fn registration(line: &str) -> Option<IpAddr> {
    let words = line.strip_prefix("peer-address ")?;
    let value = |key: &str| words.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    value("register").filter(|register| *register == "yes")?;
    value("new")?.parse().ok()
}

impl Runner<'_> {
    /// Starts `watari watch` on every mobile node that has two home agents.
    pub(super) fn listen_for_home_agents(&mut self) -> Result<()> {
        let mobile = |(_, host): &(usize, &super::run::Host)| self.scenario.second_home_agent.is_some() && host.mobile.is_some();
        for (index, host) in self.hosts.iter().enumerate().filter(mobile) {
            let watch = host.agent.watch()?;
            let said = File::open(&watch.log).context(watch.log.display())?;
            self.ears.push(Ear { host: index, watch, said, rest: String::new() });
        }
        Ok(())
    }

    /// Tells the Mobile IPv6 daemons which home agent is in force.
    pub(super) fn hear_of_home_agents(&mut self) -> Result<()> {
        let mut told = Vec::new();
        for ear in &mut self.ears {
            told.extend(ear.home_agents()?.into_iter().map(|address| (ear.host, address)));
        }
        told.into_iter().try_for_each(|(host, address)| self.signal(host, Input::HomeAgent(address)))
    }

    /// An operator of the first home agent sends every mobile node on.
    pub(super) fn redirect(&self) -> Result<()> {
        let Some(home_agent) = self.hosts.first() else { return Ok(()) };
        let to = SECOND_HOME_AGENT.to_string();
        self.scenario.mobile_nodes.iter().try_for_each(|plan| home_agent.agent.tell(&["redirect", plan.name, &to]))
    }

    /// The first home agent's Mobile IPv6 daemon tells every mobile node to go.
    pub(super) fn send_away(&mut self) -> Result<()> {
        self.signal(0, Input::SendAway(SECOND_HOME_AGENT))
    }

    /// Every mobile node is with the second home agent, and nothing is left of the first one.
    pub(super) fn judge_home_agents(&mut self) -> Result<()> {
        self.ears.iter_mut().for_each(|ear| ear.watch.kill());
        if self.scenario.second_home_agent.is_none() {
            return Ok(());
        }
        let pings = self.pingers.iter().flat_map(|pinger| &pinger.pings);
        self.facts.troubles.extend(self.scenario.unanswered_after_switch(pings.map(|ping| (ping.sent, ping.answered.is_some()))));
        let moved = self.facts.handovers.last().map(|movement| movement.children_moved);
        self.facts.troubles.extend(self.scenario.badly_moved(moved));
        for host in &mut self.hosts {
            let left = host.signalling.kernel().esp_sas()?;
            for sa in left.iter().filter(|sa| [sa.source, sa.destination].contains(&HOME_AGENT)) {
                self.facts.differences.push(format!("{}: an SA with the first home agent in the end: {}", host.space.name, in_words(sa)));
            }
            let status = host.agent.status()?;
            let standing = super::judgement::ike_paths(&status);
            if host.space.name == HA && !standing.is_empty() {
                self.facts.differences.push(format!("{HA}: IKE SAs in the end: {standing:?}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_to_be_registered_is_told() {
        let line = |register: &str| format!("peer-address remote=0 old=2001:db8:1::1 new=2001:db8:1::2 code=IKE-R01 register={register}");
        assert_eq!(registration(&line("yes")), Some(SECOND_HOME_AGENT));
        assert_eq!(registration(&line("no")), None);
        assert_eq!(registration("child-updown up=yes uniqueid=1"), None);
    }
}
