//! Scenarios with a second home agent on the home link: both prove one identity with one key, and a mobile node knows the addresses of both.
//! Invariant: the first home agent is the router of the home link whatever it serves; the home address stays the same.

use std::net::IpAddr;
use std::time::Duration;

use watari_policies::profile::{HomeAgentProfile, MobileNodeProfile};
use watari_policies::{Gateway, Gateways, SendOn};

use crate::scenario::{Action, HA, HOME_AGENT, Scenario, address};
use crate::signalling::Agreement;
use crate::signalling::home::HomeSettings;

/// Name of the second home agent.
pub const SECOND: &str = "ha2";
/// Its address.
pub const SECOND_HOME_AGENT: IpAddr = address(1, 0, 0, 2);
/// So long all pings must be answered once they may be lost no longer.
const PROOF: Duration = Duration::from_secs(1);

/// What is particular about a scenario with a second home agent, with which every mobile node is registered in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecondHomeAgent {
    /// When the first one sends whoever calls on to the second by itself.
    pub sends_on: Option<SendOn>,
    /// Longest time from a Home Agent Switch message until pings to and from the correspondent are answered through the second one.
    pub back_within: Duration,
}

impl Scenario {
    /// The address of a home agent.
    pub fn home_agent_address(name: &str) -> IpAddr {
        if name == SECOND { SECOND_HOME_AGENT } else { HOME_AGENT }
    }

    /// Names of the home agents, the router of the home link first.
    pub fn home_agents(&self) -> impl Iterator<Item = &'static str> + use<> {
        std::iter::once(HA).chain(self.second_home_agent.map(|_| SECOND))
    }

    /// Where and when the home agent of this name sends on whoever calls.
    pub fn sends_on(&self, name: &str) -> Option<(IpAddr, SendOn)> {
        self.second_home_agent.filter(|_| name == HA)?.sends_on.map(|when| (SECOND_HOME_AGENT, when))
    }

    pub(crate) fn knowing_both(&self, profile: MobileNodeProfile) -> MobileNodeProfile {
        let gateways = Gateways { addresses: vec![HOME_AGENT, SECOND_HOME_AGENT], ..Gateways::default() };
        if self.second_home_agent.is_some() { MobileNodeProfile { gateways, ..profile } } else { profile }
    }

    pub(crate) fn sending_on(&self, name: &str, profile: HomeAgentProfile) -> HomeAgentProfile {
        let redirect_to = self.sends_on(name).map(|(to, when)| (Gateway::Address(to), when));
        HomeAgentProfile { redirect_to, ..profile }
    }

    /// The signalling node's settings on the home agent of this name as it boots.
    pub fn home_signalling_of(&self, name: &str) -> HomeSettings {
        let home_agent = Self::home_agent_address(name);
        let HomeSettings { agreements, .. } = self.home_signalling();
        let agreements = agreements.into_iter().map(|agreement| Agreement { home_agent, ..agreement }).collect();
        HomeSettings { address: home_agent, agreements }
    }

    /// Whether SAs between these addresses on this host are to end without successor: those with the home agent that everybody leaves.
    pub fn is_left(&self, host: &str, ends: &[IpAddr]) -> bool {
        self.second_home_agent.is_some() && (host == HA || ends.contains(&HOME_AGENT))
    }

    /// Pings that were not answered although the second home agent had had its time, in words. Each with when it was sent.
    pub fn unanswered_after_switch(&self, pings: impl Iterator<Item = (Duration, bool)>) -> Vec<String> {
        let Some(second) = self.second_home_agent else { return Vec::new() };
        let pings: Vec<_> = pings.collect();
        let mut wrong = Vec::new();
        for step in self.steps.iter().filter(|step| step.action == Action::Switch) {
            let from = step.at.saturating_add(second.back_within);
            let due = || pings.iter().filter(|(sent, _)| (from..from.saturating_add(PROOF)).contains(sent));
            let answered = due().filter(|(_, answered)| *answered).count();
            if answered == 0 || answered != due().count() {
                let within = second.back_within;
                wrong.push(format!("{answered} of {} pings answered {within:?} after the switch at {:?}", due().count(), step.at));
            }
        }
        wrong
    }

    /// What is wrong with the last movement: each moves the payload tunnel, which is with the second home agent by then.
    pub fn badly_moved(&self, children_moved: Option<u32>) -> Option<String> {
        let wrong = self.second_home_agent.is_some() && children_moved != Some(1);
        wrong.then(|| format!("the last movement moved {children_moved:?} child SA pairs, that of payload expected"))
    }
}
