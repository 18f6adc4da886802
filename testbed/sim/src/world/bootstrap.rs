//! Home addresses that come at run time: the agent says which, and the Mobile IPv6 daemon beside it takes it up; a daemon that finds it
//! taken says so to the agent.

use std::net::IpAddr;

use watari_engine::vici::Section;
use watari_policies::RemoteId;

use super::World;
use super::host::Role;
use crate::scenario::{HA, Link, MobilePlan};
use crate::signalling::{Input as Signal, MobileNode, Node};

impl World<'_> {
    /// The home address of a mobile node as it is now.
    pub(super) fn home_of(&self, plan: &MobilePlan) -> Option<IpAddr> {
        if self.scenario.bootstrap.is_none() {
            return Some(plan.home_address());
        }
        self.host_named(plan.name).and_then(|host| self.hosts.get(host)).and_then(|host| host.homes.last().copied())
    }

    /// Whether an address is or was a mobile node's home address.
    pub(super) fn is_home(&self, address: IpAddr) -> bool {
        self.scenario.mobile_nodes.iter().any(|plan| plan.home_address() == address)
            || self.hosts.iter().any(|host| host.homes.contains(&address))
    }

    /// An agent says that a home address is in force from now on, or not any more.
    pub(super) fn home_address_told(&mut self, host: usize, remote: RemoteId, address: IpAddr, held: bool) {
        if self.scenario.bootstrap.is_none() {
            return;
        }
        match self.hosts.get(host).map(|host| host.role.clone()) {
            Some(Role::HomeAgent) => self.home_agent_serves(host, remote, address, held),
            Some(Role::Mobile(plan)) => self.mobile_node_takes(host, &plan, address, held),
            _ => {}
        }
    }

    fn home_agent_serves(&mut self, host: usize, remote: RemoteId, address: IpAddr, held: bool) {
        let scenario = self.scenario;
        let Some(this) = self.hosts.get_mut(host) else { return };
        let name = this.config.remote(remote).map(|remote| remote.name.clone()).unwrap_or_default();
        let Some(plan) = scenario.mobile_node(&name) else { return };
        let before = this.serves.remove(plan.name);
        if held {
            this.serves.insert(plan.name, address);
        }
        if let Some(Node::Home(home)) = &mut this.node {
            if let Some(before) = before {
                home.dismiss(before);
            }
            if let Some(agreement) = scenario.given_agreement(plan, address).filter(|_| held) {
                home.serve(agreement);
            }
        }
        self.drain_node(host);
    }

    /// The daemon gives up what it has for the address before, and begins with the new one where the node is.
    fn mobile_node_takes(&mut self, host: usize, plan: &MobilePlan, address: IpAddr, held: bool) {
        if let Some(Node::Mobile(node)) = self.hosts.get_mut(host).and_then(|host| host.node.as_mut()) {
            node.withdraw();
        }
        self.drain_node(host);
        self.close_window(host);
        let scenario = self.scenario;
        let now = self.now;
        let Some(this) = self.hosts.get_mut(host) else { return };
        (this.node, this.node_deadline) = (None, None);
        if let Some(before) = this.homes.last().copied() {
            this.place_inner_address(before, false);
        }
        if !held {
            return;
        }
        this.homes.push(address);
        let mut node = MobileNode::new(scenario.given_signalling(plan, address));
        node.handle(now, Signal::Start);
        if let Some(link) = this.link {
            node.handle(now, Signal::Attached { address: plan.care_of(link), home: link == Link::Home });
        }
        this.node = Some(Node::Mobile(Box::new(node)));
        self.drain_node(host);
    }

    /// Somebody on the home link takes a mobile node's home address, until the node hears of it.
    pub(super) fn duplicate(&mut self, node: &str) {
        let address = self.scenario.mobile_node(node).and_then(|plan| self.home_of(plan));
        let home_agent = self.host_named(HA).and_then(|host| self.hosts.get_mut(host));
        if let (Some(address), Some(Node::Home(home))) = (address, home_agent.and_then(|host| host.node.as_mut())) {
            home.found_duplicate(address);
        }
    }

    /// The daemon's binding update was refused for a duplicate: it leaves the address, and its agent is told.
    pub(super) fn told_of_duplicate(&mut self, host: usize, home_address: IpAddr) {
        self.close_window(host);
        self.command(host, "home-address-taken", Section::new().with("home-address", home_address.to_string()));
    }
}
