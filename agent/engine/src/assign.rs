//! Home addresses at run time: who gets which, and what comes into force and goes with it (RFC 4877 7.2.1 and 9, RFC 5026 5.3).
//! Invariant: an address belongs to one remote at a time; what an assignment costs does not depend on how many remotes there are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use ipnet::{IpNet, Ipv6Net};
use watari_kernel::{KernelRequest, Now, PolicyKind};
use watari_policies::{Ask, Block, Config, Direction, Installer, MobilityRole, PolicyId, Remote, RemoteId};
use watari_sa::{Assign, Assignment, Cause, ChildId, Denial, IkeId, KeyingEvent, KeyingInput, Owner, Target, Trigger, Want, Wish};

use crate::Event;
use crate::agent::Agent;
use crate::core::{Call, Core, Purpose};
use crate::reload::is_retired;
use crate::vici::Section;

/// When the kernel's policies are read again after an assignment: the daemon that owns them has had time to make its own.
pub(crate) const SETTLED: Duration = Duration::from_secs(1);
/// Length of an interface identifier's prefix (RFC 4291 2.5.1).
const IDENTIFIER: u8 = 64;
/// How many addresses a node may have left whose SAs are still there, before it gets another one: nobody takes a whole pool by changing.
const MOST_LEFT: usize = 2;

/// Home addresses that nobody else may get.
#[derive(Debug, Default)]
pub(crate) struct Homes {
    /// Whose each address is; `None` for a home agent's own.
    taken: BTreeMap<Ipv6Addr, Option<RemoteId>>,
    /// Addresses that a node has left for another one while SAs for them are still there: nobody else gets them before these are gone.
    left: BTreeMap<Ipv6Addr, (RemoteId, BTreeSet<ChildId>)>,
    /// Records that carry on with an address of ones that were retired: it stays while an SA of those does.
    carried: BTreeMap<RemoteId, BTreeSet<RemoteId>>,
    /// On a mobile node: the home prefix as the home agent told it.
    prefixes: BTreeMap<RemoteId, Ipv6Net>,
    /// On a mobile node: how many addresses it formed, and found taken, before this one.
    formed: BTreeMap<RemoteId, u64>,
}

impl Homes {
    /// What a configuration says; what a mobile node was told is kept for the remotes that stay.
    pub(crate) fn new(config: &Config, before: Self) -> Self {
        let mut taken = BTreeMap::new();
        let ours = |remote: &Remote| remote.role.assigns() && !is_retired(remote);
        for (id, remote) in (0u32..).zip(&config.remotes).filter(|(_, remote)| ours(remote)) {
            let own = config.block_of(remote).map(|block| block.home_agent).or(remote.local_address);
            taken.extend(own.and_then(v6).map(|own| (own, None)));
            taken.extend(remote.role.lasting_address().and_then(v6).map(|home| (home, Some(RemoteId(id)))));
        }
        let mut left = before.left;
        left.retain(|address, (id, _)| *taken.entry(*address).or_insert(Some(*id)) == Some(*id));
        let stays = |id: &RemoteId| config.remote(*id).is_some_and(|remote| !is_retired(remote));
        let (mut prefixes, mut formed) = (before.prefixes, before.formed);
        // A record that changed has another id, but the address it carries on with was formed in the same prefix.
        for (id, remote) in
            (0u32..).map(RemoteId).zip(&config.remotes).filter(|(_, remote)| remote.role.moves() && remote.assigned.is_some())
        {
            let Some(home) = remote.role.lasting_address().and_then(v6).filter(|_| !prefixes.contains_key(&id)) else { continue };
            if let Some((old, prefix)) = prefixes.iter().find(|(_, prefix)| prefix.contains(&home)).map(|(old, prefix)| (*old, *prefix)) {
                prefixes.insert(id, prefix);
                formed.get(&old).copied().map(|tries| formed.insert(id, tries));
            }
        }
        let mut carried = before.carried;
        carried.retain(|_, olds| {
            olds.retain(|old| config.remote(*old).is_some_and(is_retired));
            !olds.is_empty()
        });
        prefixes.retain(|id, _| stays(id));
        formed.retain(|id, _| stays(id));
        Self { taken, left, carried, prefixes, formed }
    }

    /// Claims an address for a remote; whether nobody else has it.
    pub(crate) fn claim(&mut self, id: RemoteId, address: IpAddr) -> bool {
        v6(address).is_none_or(|address| *self.taken.entry(address).or_insert(Some(id)) == Some(id))
    }

    /// Remembers which of the new records carry on with the address of one that was retired now; those.
    pub(crate) fn carry(&mut self, config: &Config, gone: &[u32], fresh: &BTreeSet<u32>) -> Vec<RemoteId> {
        let lent = |id: u32| config.remote(RemoteId(id)).filter(|remote| remote.role.assigns()).and_then(|it| it.role.lasting_address());
        let olds: BTreeMap<IpAddr, RemoteId> = gone.iter().filter_map(|id| Some((lent(*id)?, RemoteId(*id)))).collect();
        let waits = |id: &u32| config.remote(RemoteId(*id)).is_some_and(|remote| remote.assigned.is_some());
        let pairs = fresh.iter().filter(|id| waits(id)).filter_map(|id| Some((RemoteId(*id), *olds.get(&lent(*id)?)?)));
        let pairs: Vec<_> = pairs.collect();
        for (new, old) in &pairs {
            let earlier = self.carried.remove(old).unwrap_or_default();
            self.carried.entry(*new).or_default().extend(earlier.into_iter().chain([*old]));
        }
        pairs.into_iter().map(|(new, _)| new).collect()
    }

    /// The address in a range that this remote gets: the first free one from a place that depends on who it is, so that it usually gets
    /// the same one again.
    fn choose(&self, range: (Ipv6Addr, Ipv6Addr), fingerprint: u64, free: impl Fn(Ipv6Addr) -> bool) -> Option<Ipv6Addr> {
        let (start, end) = (u128::from(range.0), u128::from(range.1));
        let size = end.checked_sub(start)?.saturating_add(1);
        let first = start.saturating_add(u128::from(fingerprint).checked_rem(size)?);
        // Of more addresses than are taken one is free: the search is no longer than a run of taken ones.
        (first..=end).chain(start..first).map(Ipv6Addr::from).take(self.taken.len().saturating_add(3)).find(|address| free(*address))
    }
}

const fn v6(address: IpAddr) -> Option<Ipv6Addr> {
    match address {
        IpAddr::V6(address) => Some(address),
        IpAddr::V4(_) => None,
    }
}

/// An address from a prefix and an interface identifier.
fn form(prefix: Ipv6Net, identifier: u64) -> Ipv6Addr {
    let host = u128::from(identifier) & u128::from(prefix.hostmask());
    Ipv6Addr::from(u128::from(prefix.network()) | host)
}

/// A decision about a wish.
enum Decision {
    Has(Ipv6Addr),
    MayForm,
    MustUse(Ipv6Addr),
    Nothing(Denial),
}

impl Core {
    fn decide(&self, id: RemoteId, remote: &Remote, block: &Block, prefix: Ipv6Net, wish: Wish) -> Decision {
        let held = remote.role.lasting_address().and_then(v6);
        let any = || held.or_else(|| self.any_home(id, remote, block, prefix));
        let fits = |address| self.may_have(id, block, prefix, address);
        let given = |address: Option<Ipv6Addr>| address.map_or(Decision::Nothing(Denial::PoolExhausted), Decision::Has);
        match wish {
            Wish::Address(None) => given(any()),
            Wish::Address(Some(hint)) => {
                //= rfc5026#5.3.2
                //# an address that is not valid is answered with another one, which the mobile node must use
                let whole = complete(prefix, hint);
                if fits(whole).is_ok() && self.in_pool(block, whole) { Decision::Has(whole) } else { given(any()) }
            }
            Wish::Prefix if block.autoconfiguration => Decision::MayForm,
            Wish::Prefix => any().map_or(Decision::Nothing(Denial::PoolExhausted), Decision::MustUse),
            Wish::Formed(address) if held == Some(address) => Decision::Has(address),
            Wish::Formed(_) if !block.autoconfiguration => Decision::Nothing(Denial::NotFormed),
            Wish::Formed(address) => fits(address).map_or_else(Decision::Nothing, |()| Decision::Has(address)),
            Wish::Given(_) | Wish::GivenPrefix(_) => Decision::Nothing(Denial::NotServed),
        }
    }

    /// Whether a node may pick the address: anywhere in the prefix, or only in the pool where addresses are not formed.
    fn in_pool(&self, block: &Block, address: Ipv6Addr) -> bool {
        block.autoconfiguration || block.pool.is_none_or(|pool| pool.contains(address.into()))
    }

    fn any_home(&self, id: RemoteId, remote: &Remote, block: &Block, prefix: Ipv6Net) -> Option<Ipv6Addr> {
        let range = match block.pool {
            Some(pool) => (v6(pool.start)?, v6(pool.end)?),
            None => (prefix.network(), prefix.broadcast()),
        };
        self.homes.choose(range, remote.remote_identity.fingerprint(), |address| self.may_have(id, block, prefix, address).is_ok())
    }

    fn may_have(&self, id: RemoteId, block: &Block, prefix: Ipv6Net, address: Ipv6Addr) -> Result<(), Denial> {
        // The all-zeroes identifier is every router of the link (RFC 4291 2.6.1).
        let routers = prefix.prefix_len() < 128 && address == prefix.network();
        let reserved = routers || address.is_multicast() || address.is_loopback() || address.is_unicast_link_local();
        if reserved || !prefix.contains(&address) || IpAddr::V6(address) == block.home_agent {
            return Err(Denial::Outside(address));
        }
        match self.homes.taken.get(&address) {
            Some(holder) if *holder != Some(id) => Err(Denial::Taken(address)),
            _ => Ok(()),
        }
    }

    /// Whether a node would leave one address more than it may before the SAs for those that it left are gone.
    fn leaves_too_many(&self, id: RemoteId, remote: &Remote, home: Ipv6Addr) -> bool {
        let changes = remote.role.lasting_address().is_some_and(|held| held != home);
        let left = self.homes.left.iter().filter(|(address, (holder, _))| *holder == id && **address != home);
        changes && left.count() >= MOST_LEFT
    }

    /// Puts a home address into force for a remote, or takes it out of force with `None`.
    fn set_home(&mut self, id: RemoteId, home: Option<Ipv6Addr>) {
        let policies = self.lookup.policies_of(id).to_vec();
        let Some(old) = self.config.remote(id).map(|remote| remote.role.lasting_address()) else { return };
        let new = home.map(IpAddr::V6);
        if old == new {
            return;
        }
        if let Some(old) = old {
            self.uninstall(&policies);
            self.lookup.forget(&self.config, &policies);
            if let Some(old) = v6(old).filter(|old| self.homes.taken.get(old) == Some(&Some(id))) {
                let all = policies.iter().flat_map(|policy| self.children.of_policy(*policy));
                let served = all.filter(|child| child.traffic.remote.iter().any(|item| item.range.contains(old.into())));
                self.homes.left.insert(old, (id, served.map(|child| child.id).collect()));
            }
        }
        let filled = match new {
            Some(new) => self.config.fill(id, new, &policies),
            None => self.config.withdraw(id, &policies),
        };
        if !filled {
            return;
        }
        if let Some(home) = home {
            self.homes.taken.insert(home, Some(id));
            self.homes.left.remove(&home);
            self.lookup.learn(&self.config, &policies);
        }
        self.free_left();
        self.places.rehome(&self.config, id, &policies);
        self.mobility.rehome(id, new.unwrap_or(MobilityRole::UNKNOWN));
        let (home_address, held) = match (new, old) {
            (Some(new), _) => (new, true),
            (None, Some(old)) => (old, false),
            (None, None) => return,
        };
        self.tell(Event::HomeAddress { remote: id, address: home_address, held });
    }

    /// Frees the addresses that a node has left and for which it has no SA any more.
    fn free_left(&mut self) {
        let Homes { left, taken, .. } = &mut self.homes;
        left.retain(|address, (holder, children)| {
            children.retain(|child| self.children.get(*child).is_some());
            let stays = !children.is_empty();
            if !stays && taken.get(address) == Some(&Some(*holder)) {
                taken.remove(address);
            }
            stays
        });
    }

    /// Takes our policies of some records out of the kernel, by the selectors they have now.
    fn uninstall(&mut self, policies: &[PolicyId]) {
        let visible = self.capability.inbound_mh_type != Some(false);
        for id in policies {
            let Some(policy) = self.config.policy(*id).filter(|policy| policy.installer == Installer::Us) else { continue };
            let entries = [Direction::Out, Direction::In, Direction::Forward].into_iter().flat_map(|direction| {
                policy.traffic.kernel_selectors(direction, visible).policies.into_iter().map(move |it| (direction, it))
            });
            let held: Vec<_> = entries.filter(|entry| self.installed.get(entry).is_some_and(|(holder, _)| holder == id)).collect();
            for (direction, selector) in held {
                self.installed.remove(&(direction, selector));
                self.spd.remove(direction, &selector, PolicyKind::Main);
                let request = KernelRequest::DeletePolicy { selector, direction, kind: PolicyKind::Main };
                self.ask(Purpose::Housekeeping("remove a policy"), request);
            }
        }
    }

    /// The address that a mobile node forms in this prefix: its first choice, or the next one after each that was taken.
    fn form_home(&self, id: RemoteId, remote: &Remote, prefix: Ipv6Net) -> Ipv6Addr {
        let tries = self.homes.formed.get(&id).copied().unwrap_or_default();
        let first = match remote.assigned.and_then(|assigned| assigned.ask) {
            Some(Ask::Prefix(identifier)) => identifier,
            _ => remote.local_identity.fingerprint(),
        };
        // A golden-ratio step spreads the next choices over the whole prefix.
        form(prefix, first.wrapping_add(tries.wrapping_mul(0x9e37_79b9_7f4a_7c15)).max(1))
    }

    fn given(&mut self, id: RemoteId, home: Ipv6Addr, prefix: Ipv6Net) -> Assignment {
        self.homes.prefixes.insert(id, prefix.trunc());
        self.set_home(id, Some(home));
        Ipv6Net::new(home, prefix.prefix_len()).map_or(Assignment::Refused(Denial::NotServed), Assignment::Address)
    }
}

/// The whole address that a hint means: an interface identifier alone is completed.
fn complete(prefix: Ipv6Net, hint: Ipv6Addr) -> Ipv6Addr {
    //= rfc5026#5.3.2
    //# a mobile node may send its interface identifier alone, which needs a home prefix of 64 bits
    let bare = u128::from(hint) >> IDENTIFIER == 0 && prefix.prefix_len() <= IDENTIFIER;
    if bare { Ipv6Addr::from(u128::from(prefix.network()) | u128::from(hint)) } else { hint }
}

impl Assign for Core {
    fn assign(&mut self, id: RemoteId, wish: Wish) -> Assignment {
        let refused = Assignment::Refused(Denial::NotServed);
        let Some(remote) = self.config.remote(id) else { return refused };
        let Some(block) = self.config.block_of(remote) else { return refused };
        match (remote.role, wish) {
            (role, Wish::Given(held)) if role.moves() => self.given(id, held.addr(), held),
            (role, Wish::GivenPrefix(prefix)) if role.moves() => {
                let home = remote.role.lasting_address().and_then(v6).filter(|home| prefix.contains(home));
                let home = home.unwrap_or_else(|| self.form_home(id, remote, prefix));
                self.given(id, home, prefix)
            }
            (role, _) if role.assigns() => {
                let Some(IpNet::V6(prefix)) = block.home_prefix else { return refused };
                let with_length = |home| Ipv6Net::new(home, prefix.prefix_len());
                match self.decide(id, remote, block, prefix, wish) {
                    Decision::Has(home) | Decision::MustUse(home) if self.leaves_too_many(id, remote, home) => {
                        Assignment::Refused(Denial::TooManyLeft)
                    }
                    Decision::Has(home) => {
                        self.set_home(id, Some(home));
                        with_length(home).map_or(refused, Assignment::Address)
                    }
                    Decision::MustUse(home) => {
                        self.set_home(id, Some(home));
                        with_length(home).map_or(refused, Assignment::UseAssigned)
                    }
                    Decision::MayForm => Assignment::Prefix(prefix.trunc()),
                    Decision::Nothing(denial) => Assignment::Refused(denial),
                }
            }
            _ => refused,
        }
    }

    fn release(&mut self, id: RemoteId) {
        self.set_home(id, None);
        self.places.forget_remote(id);
    }
}

impl Agent {
    /// A protocol wants a home address decided on. What served an earlier address of the remote is closed.
    pub(crate) fn home_wish(&mut self, now: Now, ike: IkeId, remote: RemoteId, wish: Wish) {
        let before = self.core.config.remote(remote).and_then(|remote| remote.role.lasting_address());
        let old = self.children_of(remote);
        let assignment = self.core.assign(remote, wish);
        if let Assignment::Refused(denial) = assignment {
            let name = self.core.config.remote(remote).map_or_else(String::new, |remote| remote.remote_identity.to_string());
            self.core.tell(Event::Notice { cause: Cause::HOME_ADDRESS, detail: format!("for {name}: {denial}") });
        }
        self.keying.handle(&mut self.core.context(now), KeyingInput::Assigned(ike, assignment));
        self.home_changed(now, remote, before, old);
        self.home_may_go(remote);
    }

    fn children_of(&self, remote: RemoteId) -> Vec<ChildId> {
        let policies = self.core.lookup.policies_of(remote);
        policies.iter().flat_map(|policy| self.core.children.of_policy(*policy)).map(|child| child.id).collect()
    }

    /// Follows a change of a remote's home address: policies come into the kernel, SAs for the old address go.
    fn home_changed(&mut self, now: Now, remote: RemoteId, before: Option<IpAddr>, old: Vec<ChildId>) {
        let Some(record) = self.core.config.remote(remote) else { return };
        let after = record.role.lasting_address();
        if after == before || after.is_none() {
            return;
        }
        let policies = self.core.lookup.policies_of(remote).to_vec();
        if before.is_some() {
            self.core.calls.extend(old.into_iter().map(|child| Call::Close(Target::Child(child))));
        }
        if policies.iter().filter_map(|id| self.core.config.policy(*id)).any(|policy| policy.installer == Installer::Other) {
            // Policies of another daemon that the new records stand for are found by reading the kernel again, once for many nodes.
            self.core.timers.set_once(crate::timers::Timer::Reconcile, now.boot.saturating_add(SETTLED));
        }
        for policy in policies {
            if self.core.ready {
                self.core.install_policy(policy, None);
            }
            self.start_policy(policy);
        }
    }

    /// Takes the address back from a mobile node that has neither IKE SA nor child SA left.
    //= rfc7296#2.19
    //# an assigned address persists at least until the IKE SA is deleted
    pub(crate) fn home_may_go(&mut self, remote: RemoteId) {
        self.core.free_left();
        let Some(record) = self.core.config.remote(remote) else { return };
        // Who was retired left its address to the record that stands for it now.
        let address = record.role.lasting_address().and_then(v6).filter(|_| is_retired(record));
        let remote = address.and_then(|address| self.core.homes.taken.get(&address).copied().flatten()).unwrap_or(remote);
        let Some(record) = self.core.config.remote(remote) else { return };
        let lent = record.assigned.is_some() && record.role.assigns();
        if !lent || record.role.lasting_address().is_none() {
            return;
        }
        let olds = self.core.homes.carried.get(&remote);
        let orphans = || self.core.children.of_owner(Owner::None);
        let serves = |old: &RemoteId| !self.keying.ike_sas_of(*old).is_empty() || orphans().any(|child| child.remote == *old);
        if olds.is_some_and(|olds| olds.iter().any(serves)) {
            return;
        }
        if self.keying.ike_sas_of(remote).is_empty() && self.children_of(remote).is_empty() {
            self.core.homes.carried.remove(&remote);
            self.core.release(remote);
        }
    }

    /// The end of an SA may be the end of an assignment.
    pub(crate) fn home_after(&mut self, event: &KeyingEvent) {
        let remote = match event {
            KeyingEvent::IkeDown { remote, .. } => *remote,
            KeyingEvent::ChildDown { policy, .. } => self.core.config.policy(*policy).map(|policy| policy.remote),
            _ => None,
        };
        if let Some(remote) = remote {
            self.home_may_go(remote);
        }
    }

    /// The Mobile IPv6 daemon found the home address of this mobile node taken: another one is formed, and its SAs are made over the
    /// IKE SA that stands. The new address in words, or why there is none.
    //= rfc5026#5.3.2
    //# after status 134 the mobile node configures a new home address and runs CREATE_CHILD_SA, not IKE_SA_INIT and IKE_AUTH
    pub(crate) fn home_taken(&mut self, now: Now, arguments: &Section) -> Result<String, String> {
        let wanted = arguments.text("home-address").ok_or("\"home-address\" is missing")?;
        let address: IpAddr = wanted.parse().map_err(|_| format!("\"{wanted}\" is no address"))?;
        let ours = |remote: &Remote| remote.role.moves() && remote.role.lasting_address() == Some(address) && !is_retired(remote);
        let found = (0u32..).zip(&self.core.config.remotes).find(|(_, remote)| ours(remote));
        let (id, record) = found.ok_or_else(|| format!("{address} is no home address of this host"))?;
        let id = RemoteId(id);
        if record.assigned.is_none() {
            return Err(format!("{address} stands in the configuration: another one is to be written there"));
        }
        let prefix = self.core.homes.prefixes.get(&id).copied().ok_or("the home prefix is not known")?;
        let old = self.children_of(id);
        let tries = self.core.homes.formed.entry(id).or_default();
        *tries = tries.saturating_add(1);
        let Some(record) = self.core.config.remote(id) else { return Err("the remote is gone".to_owned()) };
        let home = self.core.form_home(id, record, prefix);
        self.core.given(id, home, prefix);
        let wants: Vec<_> = self.core.lookup.policies_of(id).to_vec();
        self.home_changed(now, id, Some(address), old);
        self.core.calls.extend(wants.into_iter().map(|policy| Call::Want(Want { policy, trigger: Trigger::Command })));
        Ok(home.to_string())
    }
}
