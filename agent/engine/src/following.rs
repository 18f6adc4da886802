//! Movement that no MIGRATE tells of: new end points in a tunnel's template (SHISA without MIGRATE), and address events of this host.
//! Invariant: a template of the Mobile IPv6 daemon is believed like a MIGRATE without addresses for key management; address events are
//! followed only where the configuration says so or by a road warrior, never by the end that stays, and never to the lasting address.

use std::net::IpAddr;

use watari_kernel::{Endpoints, KmAddress, Migrate, MigrateStep, Now, PolicyEntry};
use watari_mip6::{Outcome, plan_migration};
use watari_policies::{Installer, MobilityRole, Mode, MovementSource, PolicyId, Remote, RemoteId};

use crate::agent::Agent;
use crate::core::Core;
use crate::movement::{View, ike_sas_of};
use crate::reload::is_retired;

/// Who says that this host has moved, where it says so itself.
const OURSELVES: &str = "this host's own addresses";

impl Agent {
    /// A policy came or changed whose template stands for `tunnel`, outbound. The kernel may have moved the SAs with it, so records follow
    /// and the kernel is looked at; tunnels to the home address only wait for a care-of address.
    pub(crate) fn follow_policy(&mut self, now: Now, entry: &PolicyEntry, policies: &[PolicyId], tunnel: Endpoints) {
        if !policies.iter().any(|policy| self.core.is_away(*policy, tunnel)) {
            return;
        }
        let steps = entry.templates.iter().filter(|template| template.mode == Mode::Tunnel).filter_map(|template| {
            let (mode, reqid, new) = (template.mode, template.reqid, template.endpoints);
            Some(MigrateStep { protocol: template.protocol?, mode, reqid, old: new, new })
        });
        let (selector, direction, source) = (entry.selector, entry.direction, self.core.copies.decider());
        let event = Migrate { selector, direction, steps: steps.collect(), kmaddress: None, source };
        let view = View { core: &self.core, keying: self.keying.as_ref(), now };
        if let Outcome::Plan(plan) = plan_migration(&view, &event) {
            self.apply(now, &plan, source);
        }
    }

    /// A local address came, went or became usable: mobile nodes that follow their addresses go to one that is there.
    pub(crate) fn follow_addresses(&mut self, now: Now) {
        for (remote, new) in self.core.followers() {
            let mut at = ike_sas_of(self.keying.as_ref(), remote).into_iter().map(|(_, at)| at);
            let Some(at) = self.core.places.remembered(remote).or_else(|| at.next_back()) else {
                // A road warrior had no address to begin from.
                for policy in self.core.lookup.policies_of(remote).to_vec() {
                    self.start_policy(policy);
                }
                continue;
            };
            // What is only tentative was told by somebody who knows, and will be usable.
            if at.local != new.local && !at.local.is_unspecified() && !self.core.places.exists(at.local) {
                self.accept(now, remote, KmAddress { local: new.local, remote: at.remote }, OURSELVES);
            }
        }
    }
}

impl Core {
    /// Whether a tunnel of somebody else's policy ends, at the end that moves, at an address that is not the home address.
    fn is_away(&self, policy: PolicyId, tunnel: Endpoints) -> bool {
        let Some(policy) = self.config.policy(policy).filter(|policy| policy.installer == Installer::Other) else { return false };
        let away = |end: IpAddr, home: IpAddr| !end.is_unspecified() && end != home;
        match self.config.remote(policy.remote).map(|remote| remote.role) {
            Some(MobilityRole::MobileNode { home_address }) => away(tunnel.src, home_address),
            Some(MobilityRole::HomeAgent { home_address }) => away(tunnel.dst, home_address),
            Some(MobilityRole::None | MobilityRole::RoadWarrior { .. } | MobilityRole::Gateway { .. }) | None => false,
        }
    }

    /// Home agents of this mobile node, and gateways of this road warrior, that are followed to by address events, and the addresses that would be chosen now.
    fn followers(&self) -> Vec<(RemoteId, KmAddress)> {
        let remotes = (0u32..).map(RemoteId).zip(&self.config.remotes);
        let road_warrior = |remote: &Remote| matches!(remote.role, MobilityRole::RoadWarrior { .. }) && !is_retired(remote);
        let follows = remotes.filter(|(_, remote)| remote.movements.source == MovementSource::Addresses || road_warrior(remote));
        follows.filter_map(|(id, _)| self.places.chosen(id).map(|new| (id, new))).collect()
    }
}
