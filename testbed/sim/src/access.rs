//! Scenarios without Mobile IPv6: every mobile node is a road warrior and the home agent is its gateway; nobody signals anything.
//! Invariant: the address inside the tunnel is the one that the node has as home address elsewhere, so that everybody knows whom to ping.

use std::time::Duration;

use watari_policies::access::{Client, GatewayProfile, RoadWarriorProfile, gateway, road_warrior};
use watari_policies::profile::{Protected, Reqids, Terms};
use watari_policies::{AddressRange, Config, Identity, Lifetime, MobilityRole, Reqid, Secret, SecretId};

use crate::scenario::{HA, HOME_AGENT, Link, MobilePlan, Scenario};

/// First number of the keys that only one side has.
const WRONG: u32 = 1000;

/// What the clients of a gateway are like.
#[derive(Clone, Debug, PartialEq)]
pub struct Access {
    /// Clients that ask the gateway for their address.
    pub assigned: &'static [&'static str],
    /// Clients whose key is not the gateway's; they begin when an operator tells them to.
    pub wrong_key: &'static [&'static str],
    /// Lifetime of child SAs that the gateway's configuration gives to one client once it is read again.
    pub reloaded: Option<(&'static str, Lifetime)>,
}

/// The addresses that the gateway hands out: those of every node a scenario can have.
pub fn pool() -> AddressRange {
    let mut end = MobilePlan::first(Link::F1);
    let start = end.home_address();
    end.number = 0xff;
    AddressRange { start, end: end.home_address() }
}

impl Scenario {
    /// Whether a client is to be refused.
    pub fn is_refused(&self, plan: &MobilePlan) -> bool {
        self.access.as_ref().is_some_and(|access| access.wrong_key.contains(&plan.name))
    }

    /// Whether a client asks for its address.
    pub fn is_assigned(&self, plan: &MobilePlan) -> bool {
        self.access.as_ref().is_some_and(|access| access.assigned.contains(&plan.name))
    }

    /// The number of a client's key on its own side.
    pub fn key_of(&self, plan: &MobilePlan) -> SecretId {
        SecretId(u32::from(plan.number).saturating_add(if self.is_refused(plan) { WRONG } else { 0 }))
    }

    /// Keys that nobody else has.
    pub(crate) fn wrong_keys(&self) -> impl Iterator<Item = (SecretId, Secret)> {
        let wrong = self.mobile_nodes.iter().filter(|plan| self.is_refused(plan));
        wrong.map(|plan| (self.key_of(plan), Secret::new(format!("what {} believes the secret to be", plan.name).into_bytes())))
    }

    /// Lifetime of a client's child SAs as the gateway's configuration says it, before or after it is read again.
    pub fn lifetime_at_gateway(&self, plan: &MobilePlan, again: bool) -> Lifetime {
        let reloaded = self.access.as_ref().and_then(|access| access.reloaded).filter(|(name, _)| again && *name == plan.name);
        reloaded.map_or(self.child_lifetime, |(_, lifetime)| lifetime)
    }

    /// Reqids of a client's tunnel, to the gateway and from it.
    pub fn tunnel_reqids(&self, plan: &MobilePlan) -> Reqids {
        let Reqids { to_home_agent, to_mobile_node } = Protected::Payload.usual_reqids();
        let shifted = |reqid: Reqid| Reqid(reqid.0.saturating_add(plan.reqid_offset));
        Reqids { to_home_agent: shifted(to_home_agent), to_mobile_node: shifted(to_mobile_node) }
    }

    fn access_terms(&self, plan: &MobilePlan, child_lifetime: Lifetime, start: bool, liveness: Option<Duration>) -> Terms {
        let Terms { ike, esp, .. } = self.terms(self.binding);
        let protect = [(Protected::Payload, self.tunnel_reqids(plan))].into();
        Terms { protect, ike, esp, ike_lifetime: self.ike_lifetime, child_lifetime, liveness, start, ..watari_policies::access::terms() }
    }

    pub(crate) fn road_warrior_config(&self, plan: &MobilePlan) -> Config {
        let assigned = self.is_assigned(plan);
        road_warrior(&RoadWarriorProfile {
            name: "home-agent".into(),
            inner_address: if assigned { MobilityRole::UNKNOWN } else { plan.home_address() },
            hint: assigned.then(|| plan.home_address()),
            gateway: HOME_AGENT,
            identity: Self::identity(plan.name),
            gateway_identity: Self::identity(HA),
            secret: self.key_of(plan),
            networks: vec![Link::Core.prefix()],
            terms: self.access_terms(plan, self.child_lifetime, !self.is_refused(plan), Some(self.liveness)),
            line: 0,
        })
    }

    pub(crate) fn gateway_config(&self, again: bool) -> Config {
        let client = |plan: &MobilePlan| Client {
            name: plan.name.to_owned(),
            inner_address: if self.is_assigned(plan) { MobilityRole::UNKNOWN } else { plan.home_address() },
            identity: Self::identity(plan.name),
            secret: SecretId(u32::from(plan.number)),
            networks: vec![Link::Core.prefix()],
            terms: self.access_terms(plan, self.lifetime_at_gateway(plan, again), false, Some(self.liveness)),
            line: 0,
        };
        gateway(&GatewayProfile {
            address: HOME_AGENT,
            identity: Identity::Fqdn(format!("{HA}.example")),
            clients: self.mobile_nodes.iter().map(client).collect(),
            pool: Some(pool()),
            line: 0,
        })
    }
}
