//! What operators do at run time, and where there is no Mobile IPv6: who stands in for the hook that puts an assigned address in place.

use std::net::IpAddr;

use watari_engine::vici::Section;
use watari_engine::{Command, CommandId, Event as AgentEvent, Input};
use watari_sa::KeyingEvent;

use super::World;
use super::host::Role;
use crate::scenario::{HA, Scenario};

impl World<'_> {
    /// An operator brings up what a mobile node has with its home agent.
    pub(super) fn negotiate(&mut self, node: &str, policy: Option<&str>) {
        let Some(host) = self.host_named(node) else { return };
        let arguments = Section::new().with("ike", "home-agent");
        let arguments = policy.map_or(arguments.clone(), |policy| arguments.with("child", policy));
        self.command(host, "initiate", arguments);
        self.pump(host);
    }

    /// The home agent's daemon reads its configuration again.
    pub(super) fn reload(&mut self) {
        let config = self.scenario.home_config_again();
        let Some(host) = self.host_named(HA) else { return };
        if let Some(this) = self.hosts.get_mut(host) {
            this.inputs.push_back(Input::Command(CommandId(0), Command::Reload(Box::new(config))));
        }
        self.pump(host);
    }

    /// What an agent says where no Mobile IPv6 daemon takes care of addresses and of who is registered.
    pub(super) fn heard_without_daemon(&mut self, host: usize, event: &AgentEvent) {
        if self.scenario.access.is_none() {
            return;
        }
        let Some(this) = self.hosts.get_mut(host) else { return };
        match event {
            AgentEvent::HomeAddress { address, held, .. } => {
                if matches!(this.role, Role::HomeAgent) {
                    this.answer_for(*address, *held);
                } else {
                    this.place_inner_address(*address, *held);
                }
            }
            AgentEvent::Keying(KeyingEvent::ChildUp(_)) if matches!(this.role, Role::Mobile(_)) && this.link.is_some() => {
                this.window = true
            }
            _ => {}
        }
    }
}

/// The addresses inside tunnels that stand in the configuration.
pub(super) fn fixed_addresses(scenario: &Scenario) -> impl Iterator<Item = IpAddr> {
    scenario.mobile_nodes.iter().filter(|plan| scenario.access.is_some() && !scenario.is_assigned(plan)).map(|plan| plan.home_address())
}
