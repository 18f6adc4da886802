//! Which of several home agents, or addresses of any other peer, is in force, and who may change that: the protocol, the home agent itself
//! (RFC 5142), the Mobile IPv6 daemon by what it sends, an operator. Invariant: the remote and the ids of its policies stay; a switch that
//! leads nowhere changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;
use watari_kernel::{Acquire, Endpoints, KernelRequest, KmAddress, Now, PolicyKind};
use watari_mip6::{MigrationPlan, MovedChild};
use watari_policies::{Config, Direction, Gateway, Installer, MobilityRole, Mode, PolicyId, Remote, RemoteId};
use watari_sa::{Cause, ChildId, ChildState, IkeId, IkeState, KeyingEvent, Owner};

use crate::agent::Agent;
use crate::assign::SETTLED;
use crate::control::failure;
use crate::core::{Core, Purpose};
use crate::key_mobility::Heard;
use crate::lookup::Lookup;
use crate::reload::is_retired;
use crate::timers::Timer;
use crate::vici::Section;
use crate::{CommandId, Event};

/// How long an address that did not serve, or sent us on, is not gone back to because a packet asks for it: the Mobile IPv6 daemon may
/// not know yet.
const UNSERVED: Duration = Duration::from_secs(300);

/// Why an address is left that may serve all the same.
const CHOSEN: [Cause; 2] = [Cause::OPERATOR, Cause::HOME_AGENT_SWITCH];

/// An address in force at which the peer has not proved itself: what is known outside of the agent, and what is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unproved {
    /// The address that policies in the kernel and the Mobile IPv6 daemon have.
    known: IpAddr,
    /// Why another one is in force.
    cause: Cause,
    /// Whether the Mobile IPv6 daemon is to register there.
    register: bool,
    /// Whether the peer has proved itself, and the Mobile IPv6 daemon is told as soon as it can register.
    proved: bool,
}

/// The addresses in force hold in a new configuration too, for the remotes of the same name and the same list.
pub(crate) fn carry_addresses(old: &Config, new: &mut Config) {
    let lookup = Lookup::new(new);
    let kept = |remote: &Remote| {
        let same = |before: &&Remote| before.name == remote.name && before.gateways.addresses == remote.gateways.addresses;
        let address = old.remotes.iter().find(same)?.remote_address?;
        let allowed = remote.gateways.addresses.contains(&address) || remote.gateways.resolve(&Gateway::Address(address)).is_ok();
        allowed.then_some(address)
    };
    let several = (0u32..).zip(&new.remotes).filter(|(_, remote)| !remote.gateways.addresses.is_empty());
    let carried: Vec<_> = several.filter_map(|(id, remote)| Some((RemoteId(id), kept(remote)?))).collect();
    for (id, address) in carried {
        new.set_address(id, address, lookup.policies_of(id));
    }
}

/// A changed record begins with what is known with proof, not with what was being tried.
pub(crate) fn begin_with_known(unproved: &BTreeMap<RemoteId, Unproved>, old: &Config, new: &mut Config, fresh: &BTreeSet<u32>) {
    let lookup = Lookup::new(new);
    for id in fresh.iter().copied().map(RemoteId) {
        let known = new.remote(id).and_then(|record| {
            let mut before = unproved.iter().filter(|(_, unproved)| !unproved.proved);
            let same = |before: &Remote| before.name == record.name && before.remote_address == record.remote_address;
            let (_, unproved) = before.find(|(remote, _)| old.remote(**remote).is_some_and(same))?;
            record.gateways.addresses.contains(&unproved.known).then_some(unproved.known)
        });
        if let Some(known) = known {
            new.set_address(id, known, lookup.policies_of(id));
        }
    }
}

impl Core {
    /// Addresses for IKE of a mobile node with several home agents: its own end is what is learnt, the other one is the home agent in force,
    /// whichever the Mobile IPv6 daemon is still registered with.
    pub(crate) fn with_own_peer(&self, remote: RemoteId, addresses: KmAddress) -> KmAddress {
        self.chosen_home_agent(remote).map_or(addresses, |remote| KmAddress { remote, ..addresses })
    }

    /// The same for the outbound end points of a tunnel.
    pub(crate) fn with_own_end(&self, policy: PolicyId, outbound: Endpoints) -> Endpoints {
        let remote = self.config.policy(policy).map(|policy| policy.remote);
        remote.and_then(|remote| self.chosen_home_agent(remote)).map_or(outbound, |dst| Endpoints { dst, ..outbound })
    }

    fn chosen_home_agent(&self, remote: RemoteId) -> Option<IpAddr> {
        let record = self.config.remote(remote).filter(|record| !record.gateways.addresses.is_empty())?;
        matches!(record.role, MobilityRole::MobileNode { .. }).then_some(record.remote_address)?
    }

    /// The same movement of a tunnel, in which it stays with its home agent: another one's addresses are no reason to go there.
    pub(crate) fn with_own_home_agent(&self, moved: MovedChild<ChildId>) -> MovedChild<ChildId> {
        let Some(child) = self.children.get(moved.id).filter(|child| self.chosen_home_agent(child.remote).is_some()) else { return moved };
        let (inbound, outbound) = (child.inbound.endpoints, child.outbound.endpoints);
        MovedChild {
            inbound: moved.inbound.map(|new| Endpoints { src: inbound.src, ..new }).filter(|new| *new != inbound),
            outbound: moved.outbound.map(|new| Endpoints { dst: outbound.dst, ..new }).filter(|new| *new != outbound),
            ..moved
        }
    }

    /// The home agent in force with which the Mobile IPv6 daemon is to register, now that the one where it is registered says so as well.
    fn awaits_registration(&self, remote: RemoteId, registered: IpAddr, named: &[Ipv6Addr]) -> Option<IpAddr> {
        let there = self.config.remote(remote)?.remote_address.filter(|_| !self.unproved.contains_key(&remote))?;
        let names = named.is_empty() || named.iter().any(|address| IpAddr::from(*address) == there);
        (self.unregistered.get(&remote) == Some(&registered) && names).then_some(there)
    }

    /// Whether the policies of the Mobile IPv6 daemon are those for another home agent, where it is registered still.
    pub(crate) fn stays_registered(&self, policy: PolicyId) -> bool {
        self.config.policy(policy).is_some_and(|policy| self.unregistered.contains_key(&policy.remote))
    }

    fn is_installing(&self, ike: IkeId) -> bool {
        self.children.of_owner(Owner::Ike(ike)).any(|child| child.state == ChildState::Installing)
    }

    /// Tells of an address at which the peer has proved itself, if that was not told yet.
    pub(crate) fn tell_proved(&mut self, remote: RemoteId) {
        let Some(Unproved { known, cause, register, .. }) = self.unproved.get(&remote).copied().filter(|unproved| unproved.proved) else {
            return;
        };
        self.unproved.remove(&remote);
        let Some(record) = self.config.remote(remote) else { return };
        let mobile = matches!(record.role, MobilityRole::MobileNode { .. });
        let Some(new) = record.remote_address else { return };
        match (mobile, register) {
            (true, false) => drop(self.unregistered.entry(remote).or_insert(known)),
            _ => drop(self.unregistered.remove(&remote)),
        }
        self.tell(Event::PeerAddress { remote, old: known, new, cause, register: mobile && register });
    }

    /// Whether the peer of a policy is tried at an address where it has not proved itself.
    pub(crate) fn is_unproved(&self, remote: RemoteId) -> bool {
        self.unproved.get(&remote).is_some_and(|unproved| !unproved.proved)
    }

    fn tunnel_serves(&self, policy: PolicyId) -> bool {
        self.children.of_policy(policy).any(|child| child.mode == Mode::Tunnel && child.state == ChildState::Installed)
    }

    /// Policies of ours whose record names another address by now.
    fn left_policies(&self, remote: RemoteId) -> Vec<(Direction, watari_policies::Selector)> {
        let visible = self.capability.inbound_mh_type != Some(false);
        let stands = |(direction, selector): (Direction, watari_policies::Selector), id: PolicyId| {
            self.config.policy(id).is_some_and(|policy| policy.traffic.kernel_selectors(direction, visible).policies.contains(&selector))
        };
        let of_remote = self.lookup.policies_of(remote);
        let held = self.installed.iter().filter(|(_, (holder, _))| of_remote.contains(holder));
        held.filter(|(entry, (holder, _))| !stands(**entry, *holder)).map(|(entry, _)| *entry).collect()
    }
}

impl Agent {
    /// Puts another address of a peer into force in records, indexes and addresses; what others see of it follows at once where it is
    /// chosen for good, else with the peer's proof.
    pub(crate) fn use_address(&mut self, now: Now, remote: RemoteId, (address, for_good): (IpAddr, bool), cause: Cause) {
        let core = &mut self.core;
        core.tell_proved(remote);
        let policies = core.lookup.policies_of(remote).to_vec();
        core.lookup.forget(&core.config, &policies);
        let old = core.config.set_address(remote, address, &policies);
        core.lookup.learn(&core.config, &policies);
        if let Some(old) = old {
            if !CHOSEN.contains(&cause) {
                core.unserved.insert((remote, old), now.boot);
            }
            core.places.readdress(&core.config, remote, (old, address), &policies);
        }
        let before = core.unproved.remove(&remote);
        let Some(known) = before.map(|before| before.known).or(old) else { return };
        if known == address {
            // Back where it was: what the kernel lost meanwhile was not installed again, and what others changed was not understood.
            let registered = !core.unregistered.contains_key(&remote);
            return self.policies_follow(now, remote, registered);
        }
        let chosen = cause;
        let cause = before.filter(|_| old.is_none()).map_or(cause, |before| before.cause);
        //= rfc5685#8
        //# a redirect in the middle of a session updates no state of Mobile IPv6
        let inherited = before.is_none_or(|before| before.register) && cause != Cause::SESSION_REDIRECTED;
        // Who chooses a home agent of its own accord does so for Mobile IPv6, wherever a redirect led before.
        let register = inherited || CHOSEN.contains(&chosen);
        core.unproved.insert(remote, Unproved { known, cause, register, proved: false });
        if for_good {
            self.peer_proved(now, remote, address);
        }
    }

    //= rfc5685#8
    //# a redirect without proof changes nothing that was known with proof
    /// The peer has proved who it is at this address: if that is the one in force now, policies in the kernel and the Mobile IPv6 daemon
    /// follow.
    pub(crate) fn peer_proved(&mut self, now: Now, remote: RemoteId, address: IpAddr) {
        let core = &mut self.core;
        if core.config.remote(remote).and_then(|record| record.remote_address) != Some(address) {
            return;
        }
        let Some(unproved) = core.unproved.get_mut(&remote).filter(|unproved| !unproved.proved) else { return };
        unproved.proved = true;
        let register = unproved.register;
        self.tell_settled(remote);
        self.policies_follow(now, remote, register);
    }

    /// Tells of an address at which the peer has proved itself, unless SAs are being made there: what the Mobile IPv6 daemon sends to
    /// register would be lost without them.
    fn tell_settled(&mut self, remote: RemoteId) {
        let core = &mut self.core;
        let Some(address) = core.config.remote(remote).and_then(|record| record.remote_address) else { return };
        let ikes = self.keying.ike_sas_of(remote);
        let mut there = ikes.iter().filter_map(|ike| self.keying.status(*ike)).filter(|status| status.path.remote.ip() == address);
        if !there.any(|status| !status.negotiating.is_empty() || core.is_installing(status.id)) {
            core.tell_proved(remote);
        }
    }

    /// Policies in the kernel are those for the address that is known now, those of the Mobile IPv6 daemon if it registers there.
    fn policies_follow(&mut self, now: Now, remote: RemoteId, register: bool) {
        let core = &mut self.core;
        if !core.ready || core.stopping {
            return;
        }
        let policies = core.lookup.policies_of(remote).to_vec();
        for id in &policies {
            // The tunnel that serves is left its template until its successor is there: until then nothing would fit another one.
            let stands = core.installed.values().any(|(holder, _)| holder == id);
            if !(stands && core.tunnel_serves(*id)) {
                core.install_policy(*id, None);
            }
        }
        if register && policies.iter().filter_map(|id| core.config.policy(*id)).any(|policy| policy.installer == Installer::Other) {
            // Policies that their owner has made for the new address already are found by reading the kernel again.
            core.timers.set_once(Timer::Reconcile, now.boot.saturating_add(SETTLED));
        }
        self.drop_left_policies(remote);
    }

    /// The first SAs with the peer at another address stand, or will not: the Mobile IPv6 daemon may register there.
    pub(crate) fn told_to_register(&mut self, event: &KeyingEvent) {
        match event {
            KeyingEvent::ChildUp(child) => {
                let Some(child) = self.core.children.get(*child) else { return };
                let (remote, owner) = (child.remote, child.owner);
                let there = match owner {
                    Owner::Ike(ike) => self.keying.path_of(ike).map(|path| path.remote.ip()),
                    _ => None,
                };
                if there.is_some() && there == self.core.config.remote(remote).and_then(|record| record.remote_address) {
                    self.core.tell_proved(remote);
                }
            }
            KeyingEvent::ChildDown { policy, .. } | KeyingEvent::WantFailed { policy, .. } => {
                if let Some(remote) = self.core.config.policy(*policy).map(|policy| policy.remote) {
                    self.tell_settled(remote);
                }
            }
            _ => {}
        }
    }

    /// The end of an IKE SA: policies of ours for an address that is left go with the last IKE SA there.
    pub(crate) fn drop_left_policies(&mut self, remote: RemoteId) {
        let Some(record) = self.core.config.remote(remote).filter(|record| !record.gateways.addresses.is_empty()) else { return };
        if self.core.is_unproved(remote) {
            return;
        }
        let current = record.remote_address;
        let statuses = self.keying.ike_sas_of(remote).into_iter().filter_map(|ike| self.keying.status(ike));
        if statuses.into_iter().any(|ike| Some(ike.path.remote.ip()) != current && ike.state != IkeState::Closing) {
            return;
        }
        for (direction, selector) in self.core.left_policies(remote) {
            self.core.installed.remove(&(direction, selector));
            self.core.spd.remove(direction, &selector, PolicyKind::Main);
            let request = KernelRequest::DeletePolicy { selector, direction, kind: PolicyKind::Main };
            self.core.ask(Purpose::Housekeeping("remove a policy"), request);
        }
    }

    /// Where an IKE SA goes that moves: its own end is what was told, its peer stays the one it is with.
    pub(crate) fn with_peer_of(&self, remote: RemoteId, ike: IkeId, addresses: KmAddress) -> KmAddress {
        let with = self.core.chosen_home_agent(remote).and_then(|_| self.keying.path_of(ike)).map(|path| path.remote.ip());
        with.map_or(addresses, |remote| KmAddress { remote, ..addresses })
    }

    /// The same plan, in which each tunnel and each IKE SA of a mobile node stays with its home agent while one hands over to another.
    pub(crate) fn with_own_peers(&self, plan: &MigrationPlan<ChildId, IkeId>) -> MigrationPlan<ChildId, IkeId> {
        let mut plan = plan.clone();
        for moved in &mut plan.children {
            *moved = self.core.with_own_home_agent(*moved);
        }
        plan.children.retain(|moved| moved.inbound.is_some() || moved.outbound.is_some());
        plan.retarget.retain(|moved| self.with_peer_of(moved.remote, moved.ike, moved.new) != moved.old);
        plan
    }

    /// A packet that is protected between home address and home agent asks for SAs with another home agent of the list: the Mobile IPv6
    /// daemon, which owns the policies, goes there, and so do we, unless that one has just not served.
    pub(crate) fn follow_home_agent(&mut self, now: Now, acquire: &Acquire) {
        let whole = |net: IpNet| (net.prefix_len() == net.max_prefix_len()).then_some(net.addr());
        let (Some(home), Some(wanted)) = (whole(acquire.packet.src), whole(acquire.packet.dst)) else { return };
        // What goes through the tunnel may have any address.
        if acquire.template.mode != Mode::Transport || self.core.stopping {
            return;
        }
        let goes = |remote: &Remote| {
            let ours = matches!(remote.role, MobilityRole::MobileNode { home_address } if home_address == home);
            ours && remote.gateways.addresses.contains(&wanted) && remote.remote_address != Some(wanted) && !is_retired(remote)
        };
        let mut remotes = (0u32..).zip(&self.core.config.remotes).filter(|(_, remote)| goes(remote)).map(|(id, _)| RemoteId(id));
        // Until the one that is asked has proved itself the daemon cannot know of it.
        let Some(remote) = remotes.next().filter(|remote| !self.core.unproved.contains_key(remote)) else { return };
        self.core.unserved.retain(|_, at| now.boot.saturating_sub(*at) < UNSERVED);
        if !self.core.unserved.contains_key(&(remote, wanted)) {
            self.switch(now, remote, &[wanted], Cause::HOME_AGENT_SWITCH);
        }
    }

    fn switch(&mut self, now: Now, remote: RemoteId, addresses: &[IpAddr], cause: Cause) {
        self.keying_call(now, |keying, context| keying.switch(context, remote, addresses, cause));
    }

    /// A Home Agent Switch message came under ESP. The home agent is registered with by the Mobile IPv6 daemon; here the SAs are made that
    /// it will need there.
    //= rfc5142#6.1
    //# the message is covered by the SA between home agent and mobile node, and comes from the home agent
    pub(crate) fn home_agent_switch(&mut self, now: Now, heard: &Heard, named: &[Ipv6Addr]) {
        let remotes = self.core.peers_of(heard.destination, heard);
        if remotes.is_empty() {
            return self.switch_ignored(format!("{} is not the home agent of {}", heard.source, heard.destination));
        }
        for remote in remotes {
            let Some(record) = self.core.config.remote(remote) else { continue };
            if let Some(there) = self.core.awaits_registration(remote, heard.source, named) {
                self.core.unregistered.remove(&remote);
                let (old, cause) = (heard.source, Cause::HOME_AGENT_SWITCH);
                self.core.tell(Event::PeerAddress { remote, old, new: there, cause, register: true });
                self.switch(now, remote, &[there], cause);
                continue;
            }
            let allowed = |address: &Ipv6Addr| record.gateways.resolve(&Gateway::Address((*address).into())).ok();
            let mut list: Vec<IpAddr> =
                named.iter().filter_map(allowed).filter(|address| Some(*address) != record.remote_address).collect();
            //= rfc5142#6.2
            //# home agents with the home network prefix are chosen first, in the order of the list
            list.sort_by_key(|address| !same_network(*address, heard.destination));
            if named.is_empty() {
                //= rfc5142#4
                //# no address means that the mobile node finds a home agent itself
                list.extend(record.next_address(&[]));
            }
            match list.as_slice() {
                [] if named.is_empty() => self.switch_ignored("no other home agent is known here".to_owned()),
                [] => {
                    let named: Vec<_> = named.iter().map(ToString::to_string).collect();
                    self.switch_ignored(format!("none of {} may be gone to: `follow_redirects` decides", named.join(", ")));
                }
                list => {
                    // What the daemon still sends to the one that sends it away, the end of its binding above all, calls nobody back.
                    self.core.unserved.extend(record.remote_address.map(|left| ((remote, left), now.boot)));
                    self.switch(now, remote, list, Cause::HOME_AGENT_SWITCH);
                }
            }
        }
    }

    fn switch_ignored(&mut self, detail: String) {
        self.core.counters.dropped(Cause::SWITCH_IGNORED);
        self.core.tell(Event::Notice { cause: Cause::SWITCH_IGNORED, detail });
    }

    /// The command `redirect`, with strongSwan's arguments: sends the peers of IKE SAs on to `gateway`.
    pub(crate) fn redirect(&mut self, now: Now, id: CommandId, arguments: &Section) {
        let Some(gateway) = arguments.text("gateway") else { return self.end(id, failure("\"gateway\" is missing")) };
        let gateway: Gateway = match gateway.parse() {
            Ok(gateway) => gateway,
            Err(why) => return self.end(id, failure(&format!("\"{gateway}\" is no gateway: {why}"))),
        };
        let (mut ikes, _) = self.targets(arguments);
        ikes.extend(self.ikes_of_peers(arguments));
        ikes.sort_unstable();
        ikes.dedup();
        if ikes.is_empty() {
            return self.end(id, failure("no IKE SA of this name, number or peer; `list-sas` shows them"));
        }
        let mut refusals = Vec::new();
        for ike in &ikes {
            let mut outcome = Ok(());
            self.keying_call(now, |keying, context| outcome = keying.redirect(context, *ike, &gateway));
            refusals.extend(outcome.err().map(|why| format!("IKE SA {}: {why}", ike.0)));
        }
        let answer = if refusals.len() < ikes.len() { Section::new().with("success", "yes") } else { failure(&refusals.join("; ")) };
        self.end(id, answer.with("matches", ikes.len()));
    }

    /// IKE SAs that stand with the peer of an address or prefix, or of an identity.
    fn ikes_of_peers(&self, arguments: &Section) -> Vec<IkeId> {
        let net = |text: &str| text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        let address = arguments.text("peer-ip").and_then(net);
        let identity = arguments.text("peer-id");
        let standing = self.keying.statuses().into_iter().filter(|status| status.state == IkeState::Established);
        let fits = |status: &watari_sa::IkeStatus| {
            let named = identity.is_some_and(|wanted| {
                let record = status.remote.and_then(|remote| self.core.config.remote(remote));
                record.is_some_and(|record| record.remote_identity.to_string() == wanted)
            });
            named || address.is_some_and(|net| net.contains(&status.path.remote.ip()))
        };
        standing.filter(fits).map(|status| status.id).collect()
    }

    /// The command `use-address`: goes over to another address of a peer, `address`, or without it to the next one of the list.
    pub(crate) fn use_other_address(&mut self, now: Now, id: CommandId, arguments: &Section) {
        let name = arguments.text("ike").unwrap_or_default();
        let found = (0u32..).zip(&self.core.config.remotes).find(|(_, remote)| remote.name == name && !is_retired(remote));
        let Some((remote, record)) = found else { return self.end(id, failure("no remote of this name; `list-conns` shows them")) };
        let wanted = match arguments.text("address").map(str::parse::<IpAddr>) {
            Some(Ok(address)) if record.gateways.addresses.contains(&address) => Ok(address),
            Some(Ok(address)) => Err(format!("{address} is not among the addresses of {name}")),
            Some(Err(_)) => Err("\"address\" is no address".to_owned()),
            None => record.next_address(&[]).ok_or_else(|| format!("{name} has one address")),
        };
        match wanted {
            Ok(address) => {
                self.switch(now, RemoteId(remote), &[address], Cause::OPERATOR);
                self.end(id, Section::new().with("success", "yes").with("address", address));
            }
            Err(why) => self.end(id, failure(&why)),
        }
    }
}

/// Whether two addresses have the prefix of one link, of 64 bits.
const fn same_network(one: IpAddr, other: IpAddr) -> bool {
    match (one, other) {
        (IpAddr::V6(one), IpAddr::V6(other)) => one.to_bits() >> 64 == other.to_bits() >> 64,
        _ => false,
    }
}
