//! State is read again after lost events: policies, the care-of address, and every child SA against the kernel's own list.
//! Invariant: a record follows the kernel; nothing is concluded from a list older than the last move.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use watari_kernel::{Endpoints, KernelRequest, KmAddress, Now, PolicyEntry, PolicyKind, SaInfo, Spi};
use watari_mip6::{MovedChild, RemoteMove};
use watari_policies::{Direction, MobilityRole, Mode, PolicyId, Protocol, RemoteId, Selector};
use watari_sa::{ChildId, ChildState, Owner, Target, Trigger, Want};

use crate::Event;
use crate::agent::Agent;
use crate::core::{Call, Core, Purpose};
use crate::movement::{QUIET, count, ike_sas_of};
use crate::timers::Timer;

/// Wait before asking again when something moved while the kernel was being read.
const AGAIN: Duration = Duration::from_millis(100);

type BySpi<'a> = BTreeMap<(Protocol, Spi), Vec<&'a SaInfo>>;

impl Agent {
    /// Asks the kernel for everything again.
    pub(crate) fn reconcile(&mut self) {
        let moves = self.core.moves;
        self.core.ask(Purpose::Policies { moves }, KernelRequest::DumpPolicies);
        self.core.ask(Purpose::CompareSas { moves }, KernelRequest::DumpSas);
    }

    /// Events were lost; this is what the kernel holds.
    pub(crate) fn resynchronised(&mut self, now: Now, policies: Vec<PolicyEntry>, sas: &[SaInfo]) {
        count(&mut self.core.counters.resynchronised);
        self.core.unsettled.clear();
        let moves = self.core.moves;
        let mut differences = self.refresh_policies(now, policies, moves);
        differences.extend(self.compare(now, sas, moves));
        self.core.tell(Event::Reconciled { lost: true, differences });
        self.core.read_again_if_unsettled(now, moves);
    }

    /// SAs came that were asked for when `moves` moves were known.
    pub(crate) fn compare_sas(&mut self, now: Now, sas: &[SaInfo], moves: u64) {
        let mut differences = std::mem::take(&mut self.core.differences);
        differences.extend(self.compare(now, sas, moves));
        self.core.tell(Event::Reconciled { lost: false, differences });
        self.core.read_again_if_unsettled(now, moves);
    }

    /// Takes the kernel's whole policy list. Templates of remotes that moved since it was asked for, or just now, are not believed.
    pub(crate) fn refresh_policies(&mut self, now: Now, policies: Vec<PolicyEntry>, asked_at: u64) -> Vec<String> {
        let before = self.core.spd.clear();
        // Entries that stand for no record are not in the image, nor are those for an address of a peer that is about to be left.
        let shape = |entry: &PolicyEntry| entry.templates.iter().map(|it| (it.protocol, it.mode, it.reqid)).collect::<Vec<_>>();
        let main = policies.iter().filter(|entry| entry.kind == PolicyKind::Main);
        let held: BTreeMap<_, _> = main.map(|entry| ((entry.direction, entry.selector), shape(entry))).collect();
        for entry in policies {
            let adopted = self.core.spd.set(&self.core.lookup, entry);
            let Some(tunnel) = adopted.tunnel else { continue };
            for policy in adopted.policies {
                let remote = self.core.config.policy(policy).map(|policy| policy.remote);
                if remote.is_some_and(|remote| self.core.believable(now, remote, asked_at)) {
                    self.core.places.set_template(policy, self.core.with_own_end(policy, tunnel));
                }
            }
        }
        let after = self.core.spd.all_present();
        let mut differences = Vec::new();
        for gone in before.difference(&after) {
            differences.push(format!("policy {} is no longer in the kernel", self.policy_name(*gone)));
            self.core.sleep(now, *gone);
        }
        for come in after.difference(&before) {
            self.appeared(now, *come);
        }
        // What we installed and the kernel lost is installed again.
        let adopted: BTreeSet<_> = self.core.spd.entries().map(|(entry, _)| (entry.direction, entry.selector)).collect();
        let stands = |key: &(Direction, Selector), entry: &PolicyEntry| held.get(key) == Some(&shape(entry));
        self.core.installed.retain(|key, (_, entry)| adopted.contains(key) || stands(key, entry));
        if self.core.ready && !self.core.stopping {
            self.core.install_policies();
        }
        differences
    }

    fn compare(&mut self, now: Now, sas: &[SaInfo], asked_at: u64) -> Vec<String> {
        let mut differences = self.find_care_of(now, sas, asked_at);
        let mut by_spi: BySpi<'_> = BTreeMap::new();
        for info in sas.iter().filter(|info| !info.larval) {
            if let Some(id) = info.id() {
                by_spi.entry((id.protocol, id.spi)).or_default().push(info);
            }
        }
        let children = self.core.children.iter().filter(|child| !matches!(child.state, ChildState::Installing | ChildState::Closing));
        let children = children.filter(|child| self.core.believable(now, child.remote, asked_at));
        let children: Vec<_> = children.map(|child| child.id).collect();
        for id in children {
            self.compare_child(now, id, &by_spi, &mut differences);
        }
        differences
    }

    fn compare_child(&mut self, now: Now, id: ChildId, by_spi: &BySpi<'_>, differences: &mut Vec<String>) {
        let Some(child) = self.core.children.get(id).cloned() else { return };
        // The kernel's template, where there is one, says where a tunnel belongs.
        let tunnel = self.core.places.template(child.policy).filter(|_| child.mode == Mode::Tunnel && self.core.spd.present(child.policy));
        // With several addresses of a peer each child stays with the one that it was made with.
        let several = self.core.config.remote(child.remote).is_some_and(|remote| !remote.gateways.addresses.is_empty());
        let tunnel = tunnel.map(|tunnel| if several { Endpoints { dst: child.outbound.endpoints.dst, ..tunnel } } else { tunnel });
        let mut moved = MovedChild { id, inbound: None, outbound: None };
        let mut doubtful = false;
        for inbound in [true, false] {
            let half = if inbound { &child.inbound } else { &child.outbound };
            if !half.installed {
                continue;
            }
            let name = if inbound { "inbound" } else { "outbound" };
            let found = by_spi.get(&(child.protocol, half.spi)).map_or(&[][..], Vec::as_slice);
            let wanted = tunnel.map(|outbound| if inbound { outbound.reversed() } else { outbound });
            let wanted = wanted.unwrap_or(half.endpoints);
            let at = |ends: Endpoints| found.iter().any(|info| info.src == ends.src && info.dst == ends.dst);
            if at(wanted) {
                if wanted != half.endpoints {
                    differences.push(format!("{name} SA {} of {} is at {wanted} by now", half.spi, self.policy_name(child.policy)));
                    if inbound { moved.inbound = Some(wanted) } else { moved.outbound = Some(wanted) }
                }
                continue;
            }
            let state = if found.is_empty() { "is not in the kernel".to_owned() } else { format!("was left behind, wanted at {wanted}") };
            differences.push(format!("{name} SA {} of {} {state}", half.spi, self.policy_name(child.policy)));
            if wanted != half.endpoints {
                if inbound { moved.inbound = Some(wanted) } else { moved.outbound = Some(wanted) }
            }
            doubtful = true;
        }
        if moved.inbound.is_some() || moved.outbound.is_some() {
            self.core.move_child(now, &moved);
        } else if doubtful {
            // The list may be older than the SA: the kernel is asked for this very one before anything is done.
            self.core.timers.set_once(Timer::Verify(id), now.boot.saturating_add(AGAIN));
        }
    }

    /// Reads care-of addresses from tunnel templates, else from Mobile IPv6 states, and moves what still stands elsewhere.
    pub(crate) fn find_care_of(&mut self, now: Now, sas: &[SaInfo], asked_at: u64) -> Vec<String> {
        let mut states = BTreeMap::new();
        for info in sas {
            if let (Some(care_of), 43 | 60) = (info.care_of, info.protocol) {
                states.insert((info.src, info.dst), care_of);
                states.insert((info.dst, info.src), care_of);
            }
        }
        let governed = (0u32..).zip(&self.core.config.remotes).filter(|(_, remote)| remote.role.is_mobile_ipv6());
        let governed: Vec<_> = governed.map(|(id, _)| RemoteId(id)).collect();
        let mut differences = Vec::new();
        for remote in governed.into_iter().filter(|remote| self.core.believable(now, *remote, asked_at)).collect::<Vec<_>>() {
            let found = self.core.tunnel_addresses(remote).or_else(|| self.core.state_addresses(remote, &states));
            let found = found.or_else(|| self.core.home_addresses(remote));
            let name = self.core.config.remote(remote).map(|remote| remote.name.clone()).unwrap_or_default();
            if found.is_none() && self.core.binding_gone(remote) {
                differences.push(format!("{name}: no tunnel and no binding are left in the kernel, its care-of address is forgotten"));
                self.core.forget_care_of(remote);
            }
            let Some(addresses) = found.filter(|found| self.core.places.remembered(remote) != Some(*found)) else { continue };
            let before = self.core.places.remembered(remote);
            // The kernel's tables followed the MIGRATE that was not believed: reading them again proves nothing.
            if before.is_some() && !self.core.stands_behind(now, remote, addresses) {
                self.doubt(now, &RemoteMove { remote, old: before, new: addresses });
                continue;
            }
            differences.push(format!("{name}: IKE is between {} and {}, read from the kernel", addresses.local, addresses.remote));
            self.core.places.remember_remote(remote, addresses);
            let ikes = ike_sas_of(self.keying.as_ref(), remote).into_iter();
            let stale = ikes.filter(|(ike, at)| *at != self.with_peer_of(remote, *ike, addresses));
            let stale: Vec<_> = stale.collect();
            if let Some((_, at)) = stale.first() {
                self.core.moved_to(now, remote, before.or(Some(*at)), addresses);
            }
            for (ike, _) in stale {
                let to = self.with_peer_of(remote, ike, addresses);
                self.keying_call(now, |keying, context| keying.retarget(context, ike, to));
            }
        }
        differences
    }

    /// A child's SAs are gone from the kernel and cannot be made again.
    pub(crate) fn lost(&mut self, id: ChildId) {
        let Some(child) = self.core.children.get(id) else { return };
        let (policy, owner, state) = (child.policy, child.owner, child.state);
        if owner == Owner::None {
            self.end_without_owner(id);
        } else {
            self.core.calls.push_back(Call::Close(Target::Child(id)));
        }
        if state == ChildState::Installed && self.core.spd.present(policy) && self.core.reachable(policy) && !self.core.stopping {
            self.core.calls.push_back(Call::Want(Want { policy, trigger: Trigger::Start }));
        }
    }
}

impl Core {
    /// Whether what the kernel was asked when `asked_at` moves were known is the last word about a remote. A list read in the middle of a
    /// burst of MIGRATE shows half a move, so for a moment after each the messages themselves are believed.
    fn believable(&self, now: Now, remote: RemoteId, asked_at: u64) -> bool {
        self.migrated.get(&remote).is_none_or(|last| last.number <= asked_at && now.boot.saturating_sub(last.at) >= QUIET)
    }

    /// Remotes that were left out are looked at again when things are quiet; those that moved for the first time meanwhile are not, because
    /// nothing about them was lost.
    pub(crate) fn read_again_if_unsettled(&mut self, now: Now, asked_at: u64) {
        let left_out = self.migrated.keys().filter(|remote| !self.believable(now, **remote, asked_at)).copied();
        let left_out: BTreeSet<_> = left_out.filter(|remote| self.unsettled.is_empty() || self.unsettled.contains(remote)).collect();
        self.unsettled = left_out;
        if !self.unsettled.is_empty() {
            self.timers.set_once(Timer::Reconcile, now.boot.saturating_add(AGAIN));
        }
    }

    /// The kernel is read again for a reason of its own: every remote is looked at.
    pub(crate) fn read_again(&mut self, at: Duration) {
        self.unsettled.clear();
        self.timers.set(Timer::Reconcile, at);
    }

    /// Whether a mobile node we serve was away and the kernel holds nothing of that any more: its de-registration was missed, or its binding
    /// ended. Where it is now only the node itself can tell, through IKE.
    fn binding_gone(&self, remote: RemoteId) -> bool {
        let Some(MobilityRole::HomeAgent { home_address }) = self.config.remote(remote).map(|remote| remote.role) else { return false };
        let away = self.places.remembered(remote).is_some_and(|known| known.remote != home_address);
        // A kernel that never showed a tunnel does not show by its absence that one is gone.
        let tunnel = |policy: &PolicyId| self.config.policy(*policy).is_some_and(|policy| policy.mode == Mode::Tunnel);
        away && self.lookup.policies_of(remote).iter().any(|policy| tunnel(policy) && self.places.template(*policy).is_some())
    }

    fn forget_care_of(&mut self, remote: RemoteId) {
        self.places.forget_remote(remote);
        for policy in self.lookup.policies_of(remote) {
            self.places.forget_policy(*policy, !self.spd.present(*policy));
        }
    }

    /// Addresses for IKE from the tunnel templates that the kernel holds for a remote; none while they name the home address.
    fn tunnel_addresses(&self, remote: RemoteId) -> Option<KmAddress> {
        let home = self.config.remote(remote)?.role.home_address()?;
        let present = self.lookup.policies_of(remote).iter().filter(|policy| self.spd.present(**policy));
        let mut tunnels = present.filter_map(|policy| self.places.template(*policy));
        let tunnel = tunnels.find(|tunnel| tunnel.src != home && tunnel.dst != home)?;
        Some(self.with_own_peer(remote, KmAddress { local: tunnel.src, remote: tunnel.dst }))
    }

    /// Addresses for IKE from the kernel's destination-option or routing states between home address and peer.
    fn state_addresses(
        &self,
        remote: RemoteId,
        states: &BTreeMap<(std::net::IpAddr, std::net::IpAddr), std::net::IpAddr>,
    ) -> Option<KmAddress> {
        let record = self.config.remote(remote)?;
        let (home, fixed) = match record.role {
            MobilityRole::MobileNode { home_address } => (home_address, record.remote_address?),
            MobilityRole::HomeAgent { home_address } => (home_address, record.local_address?),
            MobilityRole::None | MobilityRole::RoadWarrior { .. } | MobilityRole::Gateway { .. } => return None,
        };
        let care_of = *states.get(&(home, fixed))?;
        Some(match record.role {
            MobilityRole::HomeAgent { .. } => KmAddress { local: fixed, remote: care_of },
            _ => KmAddress { local: care_of, remote: fixed },
        })
    }

    /// Addresses for IKE of a mobile node whose care-of address is gone while the kernel holds neither tunnel nor Mobile IPv6 state for it
    /// any more: it is at home.
    fn home_addresses(&self, remote: RemoteId) -> Option<KmAddress> {
        let MobilityRole::MobileNode { home_address } = self.config.remote(remote)?.role else { return None };
        let known = self.places.remembered(remote)?;
        let gone = known.local != home_address && !self.places.exists(known.local);
        let mut tunnels = self.lookup.policies_of(remote).iter().filter(|policy| self.spd.present(**policy));
        let away = tunnels.any(|policy| self.places.template(*policy).is_some_and(|tunnel| tunnel.src != home_address));
        (gone && !away && self.places.usable(home_address)).then_some(KmAddress { local: home_address, remote: known.remote })
    }
}
