//! What configuration files say of a second home agent.

use std::net::IpAddr;

use watari_policies::SendOn;
use watari_sim::home_agents::SECOND_HOME_AGENT;
use watari_sim::scenario::{HOME_AGENT, Scenario};

/// The home agents that a mobile node knows.
pub(super) fn known(scenario: &Scenario) -> String {
    match scenario.second_home_agent {
        Some(_) => format!("[\"{HOME_AGENT}\", \"{SECOND_HOME_AGENT}\"]"),
        None => format!("\"{HOME_AGENT}\""),
    }
}

/// Where the home agent of this name sends whoever calls, and when.
pub(super) fn sends_on(scenario: &Scenario, name: &str) -> String {
    let word = |when| if when == SendOn::Init { "init" } else { "auth" };
    let line = |(to, when): (IpAddr, SendOn)| format!("redirect_to = \"{to}\"\nredirect_in = \"{}\"\n", word(when));
    scenario.sends_on(name).map_or_else(String::new, line)
}
