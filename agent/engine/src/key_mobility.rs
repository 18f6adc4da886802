//! Protected binding messages, and what a Mobile IPv6 daemon tells: kept until a movement asks for them. K = 0 gives IKE SAs up.
//! Invariant: what is kept came under ESP in an SA of the right reqid, or from a privileged local client; it is bounded by the number of
//! configured peers. Nothing here moves anything but by the operator's word.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use watari_kernel::{KmAddress, Now};
use watari_mip6::message::UpdateFlags;
use watari_mip6::{AckFlags, Connections, Decision, Evidence, Known, Message, MigrationPlan, Registration, Role, decide};
use watari_policies::selector::MOBILITY_HEADER;
use watari_policies::{Action, Config, Direction, KeyMobility, MobilityRole, Mode, Movements, Policy, PolicyId, RemoteId, Reqid, Selector};
use watari_sa::{Cause, ChildId, IkeId};

use crate::Event;
use crate::agent::Agent;
use crate::core::Core;
use crate::doubts::Doubts;
use crate::notes::{Note, Notes};
use crate::reload::is_retired;
use crate::verification::TOLD;

/// Lifetimes of bindings are counted in four seconds (RFC 6275 6.1.7).
const UNIT_OF_LIFETIME: Duration = Duration::from_secs(4);
/// How many sockets are opened for typed policies alone: the operator has not asked for them, and each costs a descriptor.
const MOST_UNASKED: usize = 256;

/// A raw Mobility Header socket that admits only what came in an ESP transport SA of this reqid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Listen {
    /// Which end this host is: it decides what may stand beside ESP, and which message is looked for.
    pub role: Role,
    /// Reqid of the inbound binding policy.
    pub reqid: Reqid,
}

impl Listen {
    /// The Mobility Header types of the messages that say something at this end, that of bindings first.
    #[must_use]
    pub const fn message_types(self) -> &'static [u8] {
        use watari_mip6::message_type::{BINDING_ACKNOWLEDGEMENT, BINDING_UPDATE, HOME_AGENT_SWITCH};
        match self.role {
            Role::HomeAgent => &[BINDING_UPDATE],
            Role::MobileNode => &[BINDING_ACKNOWLEDGEMENT, HOME_AGENT_SWITCH],
        }
    }
}

/// A Mobility Header message that came out of a protected socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The socket.
    pub socket: Listen,
    /// Source: on a home agent the home address.
    pub source: IpAddr,
    /// Destination: on a mobile node the home address.
    pub destination: IpAddr,
    /// What the home address option held: where the packet really came from.
    pub came_from: Option<IpAddr>,
    /// What the type 2 routing header held: where the packet was really sent to.
    pub sent_to: Option<IpAddr>,
    /// The message, from its payload-protocol octet on.
    pub octets: Vec<u8>,
}

/// What a runner says about protected Mobility Header sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MobilityInput {
    /// The socket is open now, or could not be opened, or is closed.
    Listening {
        /// The socket.
        socket: Listen,
        /// Whether it is open.
        open: bool,
    },
    /// A message came out of it.
    Heard(Heard),
}

/// A peer that Mobile IPv6 governs, and the policies for its binding messages.
#[derive(Clone, Debug)]
struct Peer {
    role: Role,
    home_address: IpAddr,
    movements: Movements,
    policies: Vec<(PolicyId, Reqid)>,
    /// Whether a policy for its binding messages names their type, so that the kernel may let others' pass without IPsec.
    typed: bool,
}

/// Where a peer is registered, as far as movements show.
#[derive(Clone, Copy, Debug)]
struct Binding {
    care_of: IpAddr,
    registration: Registration,
}

/// IKE SAs that followed before K was known.
#[derive(Clone, Debug)]
struct Followed {
    care_of: IpAddr,
    registration: Registration,
    ikes: Vec<(IkeId, KmAddress)>,
}

/// Everything about bindings that is not in the kernel.
#[derive(Debug, Default)]
pub(crate) struct Mobility {
    peers: BTreeMap<RemoteId, Peer>,
    by_home: BTreeMap<IpAddr, Vec<RemoteId>>,
    /// Whether binding messages of any peer are listened to.
    listens: bool,
    wanted: BTreeSet<Listen>,
    open: BTreeSet<Listen>,
    seen_spd: u64,
    /// Whether it was said that movements behind typed policies are not verified.
    unverified: bool,
    notes: BTreeMap<RemoteId, Notes>,
    bindings: BTreeMap<RemoteId, Binding>,
    followed: BTreeMap<RemoteId, Followed>,
    pub(crate) doubts: Doubts,
}

impl Mobility {
    /// Reads the peers of a configuration; what `before` knew of those that stayed is kept.
    pub(crate) fn new(config: &Config, before: Self) -> Self {
        let mut peers: BTreeMap<RemoteId, Peer> = BTreeMap::new();
        let mut by_home: BTreeMap<IpAddr, Vec<RemoteId>> = BTreeMap::new();
        for (remote, id) in config.remotes.iter().zip((0u32..).map(RemoteId)).filter(|(remote, _)| !is_retired(remote)) {
            let (role, home_address) = match remote.role {
                MobilityRole::MobileNode { home_address } => (Role::MobileNode, home_address),
                MobilityRole::HomeAgent { home_address } => (Role::HomeAgent, home_address),
                MobilityRole::None | MobilityRole::RoadWarrior { .. } | MobilityRole::Gateway { .. } => continue,
            };
            if !home_address.is_unspecified() {
                by_home.entry(home_address).or_default().push(id);
            }
            peers.insert(id, Peer { role, home_address, movements: remote.movements, policies: Vec::new(), typed: false });
        }
        for (policy, id) in config.policies.iter().zip((0u32..).map(PolicyId)) {
            if let Some(peer) = peers.get_mut(&policy.remote)
                && is_for_bindings(policy, peer.role)
            {
                peer.policies.push((id, policy.reqid_in));
                peer.typed |= inbound_selectors(policy).any(|selector| covers(&selector, peer.role) && selector.sport.mask != 0);
            }
        }
        let listens = peers.values().any(Peer::listens);
        let mut new = Self { peers, by_home, listens, ..before };
        let peers = &new.peers;
        new.notes.retain(|remote, _| peers.contains_key(remote));
        new.bindings.retain(|remote, _| peers.contains_key(remote));
        new.followed.retain(|remote, _| peers.contains_key(remote));
        new.doubts.retain(|remote| peers.contains_key(remote));
        // The next look at the policies is never skipped.
        new.seen_spd = u64::MAX;
        new
    }

    /// The home address of a peer is another one; unspecified for one that has none.
    pub(crate) fn rehome(&mut self, remote: RemoteId, home_address: IpAddr) {
        let Some(peer) = self.peers.get_mut(&remote) else { return };
        let old = std::mem::replace(&mut peer.home_address, home_address);
        for (address, comes) in [(old, false), (home_address, true)] {
            let of_address = self.by_home.entry(address).or_default();
            of_address.retain(|other| *other != remote);
            // Peers without an address are not looked for by one.
            if comes && !address.is_unspecified() {
                of_address.push(remote);
            }
            if of_address.is_empty() {
                self.by_home.remove(&address);
            }
        }
        self.notes.remove(&remote);
        self.bindings.remove(&remote);
        self.followed.remove(&remote);
        self.doubts.forget(remote);
    }

    /// Whether nothing is believed of this peer's movements that no protected binding update stands behind.
    fn verifies(&self, peer: &Peer) -> bool {
        let open = |reqid: Reqid| self.open.contains(&Listen { role: Role::HomeAgent, reqid });
        peer.role == Role::HomeAgent && peer.listens() && peer.policies.iter().any(|(_, reqid)| open(*reqid))
    }

    fn note(&self, now: Now, remote: RemoteId, care_of: IpAddr) -> Option<&Note> {
        self.notes.get(&remote)?.behind_movement(now.boot, care_of)
    }

    /// What a registration at this address is to the binding as it was.
    fn registration(&self, remote: RemoteId, home_address: IpAddr, before: Option<IpAddr>, care_of: IpAddr) -> Registration {
        let bound = self.bindings.get(&remote);
        match bound.map(|binding| binding.care_of).or(before) {
            // Every message of one burst says the same.
            Some(at) if at == care_of && bound.is_some() => bound.map_or(Registration::Again, |binding| binding.registration),
            _ if care_of == home_address => Registration::Ended,
            Some(at) if at != home_address => Registration::Again,
            _ => Registration::First,
        }
    }

    /// An IKE SA was replaced: its successor is what followed.
    pub(crate) fn rekeyed(&mut self, old: IkeId, new: IkeId) {
        let ikes = self.followed.values_mut().flat_map(|followed| &mut followed.ikes);
        ikes.filter(|(ike, _)| *ike == old).for_each(|(ike, _)| *ike = new);
    }
}

impl Peer {
    /// Whether protected binding messages of this peer are listened to: because the operator says so, or because typed policies let a
    /// binding update in clear pass, and nothing else shows whether one stood behind a MIGRATE. K is looked at only where the operator says.
    fn listens(&self) -> bool {
        self.movements.listens() || self.unasked()
    }

    /// Whether nobody but the typed policies asks for it.
    fn unasked(&self) -> bool {
        !self.movements.listens() && self.typed && matches!(self.role, Role::HomeAgent)
    }

    /// The end of a pair of addresses that moves.
    const fn care_of(&self, addresses: KmAddress) -> IpAddr {
        match self.role {
            Role::MobileNode => addresses.local,
            Role::HomeAgent => addresses.remote,
        }
    }
}

/// Whether a policy protects the binding messages that this end receives: BU (5) on the home agent, BA (6) on the mobile node.
fn is_for_bindings(policy: &Policy, role: Role) -> bool {
    policy.action == Action::Protect && policy.mode == Mode::Transport && inbound_selectors(policy).any(|selector| covers(&selector, role))
}

fn inbound_selectors(policy: &Policy) -> impl Iterator<Item = Selector> {
    policy.traffic.kernel_selectors(Direction::In, true).policies.into_iter()
}

fn covers(selector: &Selector, role: Role) -> bool {
    let bindings = Listen { role, reqid: Reqid(0) }.message_types().first().copied().map(u16::from);
    selector.protocol == MOBILITY_HEADER && (selector.sport.mask == 0 || Some(selector.sport.value) == bindings)
}

/// Home address of a protected message and what it says of the care-of address and K, if it is one that says something.
fn read(now: Now, heard: &Heard, message: &Message) -> Option<(IpAddr, Note)> {
    let note = |care_of, sequence: u16, lifetime: u16, evidence| Note {
        care_of,
        at: now.boot,
        sequence: Some(sequence),
        lifetime: UNIT_OF_LIFETIME.saturating_mul(u32::from(lifetime)),
        evidence,
    };
    match (heard.socket.role, message) {
        (Role::HomeAgent, Message::Update { sequence, flags, lifetime, .. }) if flags.has(UpdateFlags::HOME) => {
            let home = heard.source;
            let named = message.alternate_care_of().map(IpAddr::V6);
            //= rfc4877#4.3
            //# away from home the care-of address stands in an option under ESP: the outer source address proves nothing
            let care_of = if *lifetime == 0 { home } else { named.or(heard.came_from.is_none().then_some(home))? };
            Some((home, note(care_of, *sequence, *lifetime, Evidence::Update { k: flags.has(UpdateFlags::KEY_MOBILITY) })))
        }
        (Role::MobileNode, Message::Acknowledgement { status, flags, sequence, lifetime, .. }) => {
            let home = heard.destination;
            let evidence = Evidence::Acknowledgement { status: *status, k: flags.has(AckFlags::KEY_MOBILITY) };
            Some((home, note(heard.sent_to.unwrap_or(home), *sequence, *lifetime, evidence)))
        }
        _ => None,
    }
}

impl Core {
    /// What is known of a movement of this peer to these addresses, taken as a fact.
    fn known(&self, now: Now, remote: RemoteId, addresses: KmAddress) -> Option<Known> {
        let peer = self.mobility.peers.get(&remote)?;
        let care_of = peer.care_of(addresses);
        let before = self.places.remembered(remote).map(|before| peer.care_of(before));
        Some(Known {
            role: peer.role,
            setting: peer.movements.key_mobility,
            echoes_k: peer.movements.daemon_echoes_k,
            evidence: self.mobility.note(now, remote, care_of).map_or(Evidence::None, |note| note.evidence),
            registration: self.mobility.registration(remote, peer.home_address, before, care_of),
            moved: true,
        })
    }

    /// Keeps what was seen or told of a peer; whether it counts.
    fn keep(&mut self, remote: RemoteId, note: Note) -> bool {
        let bound = self.mobility.peers.get(&remote).filter(|peer| peer.role == Role::HomeAgent).and_then(|peer| {
            let binding = self.mobility.bindings.get(&remote).map(|binding| binding.care_of);
            binding.or_else(|| self.places.remembered(remote).map(|before| peer.care_of(before)))
        });
        self.mobility.notes.entry(remote).or_default().keep(note, bound)
    }

    /// What the IKE SAs of a peer do that moved to these addresses.
    pub(crate) fn decision(&self, now: Now, remote: RemoteId, addresses: KmAddress) -> Decision {
        //= rfc7296#2.23
        //# a gateway that sees no NAT does not follow the addresses of a client: without MOBIKE a new IKE SA tells where it is now
        if self.config.remote(remote).is_some_and(|remote| matches!(remote.role, MobilityRole::RoadWarrior { .. })) {
            return Decision::Discard(Connections::WithHomeAgent);
        }
        self.known(now, remote, addresses).map_or(Decision::Follow, |known| decide(&known))
    }

    /// Whether something protected, or a privileged local client, says that the peer is at these addresses; true where nobody listens.
    pub(crate) fn stands_behind(&self, now: Now, remote: RemoteId, addresses: KmAddress) -> bool {
        let Some(peer) = self.mobility.peers.get(&remote).filter(|peer| self.mobility.verifies(peer)) else { return true };
        self.mobility.note(now, remote, peer.care_of(addresses)).is_some()
    }

    /// Whether an IKE SA that is not at the new addresses is among those given up.
    pub(crate) fn concerns(&self, remote: RemoteId, connections: Connections, addresses: KmAddress) -> bool {
        match connections {
            Connections::WithHomeAddress => self.mobility.peers.get(&remote).is_some_and(|peer| peer.home_address == addresses.remote),
            Connections::WithOldCareOf | Connections::WithHomeAgent => true,
        }
    }

    /// A peer has moved: where it is bound now, and which IKE SAs follow before K is known. Comes before the new addresses are remembered.
    pub(crate) fn bound(&mut self, now: Now, remote: RemoteId, new: KmAddress, ikes: Vec<(IkeId, KmAddress)>) {
        let Some(known) = self.known(now, remote, new) else { return };
        let Some(care_of) = self.mobility.peers.get(&remote).map(|peer| peer.care_of(new)) else { return };
        self.mobility.doubts.settled(now, remote, new);
        self.mobility.bindings.insert(remote, Binding { care_of, registration: known.registration });
        if known.role == Role::HomeAgent
            && let Some(notes) = self.mobility.notes.get_mut(&remote)
        {
            notes.moved(now.boot, care_of);
        }
        let unknown = known.evidence == Evidence::None && known.setting != KeyMobility::Never;
        match self.mobility.followed.get_mut(&remote) {
            Some(followed) if followed.care_of == care_of && unknown => followed.ikes.extend(ikes),
            _ => {
                self.mobility.followed.remove(&remote);
                if unknown && !ikes.is_empty() {
                    let registration = known.registration;
                    self.mobility.followed.insert(remote, Followed { care_of, registration, ikes });
                }
            }
        }
    }

    /// Whether the inbound policy for binding updates from this peer's home address is in the kernel and requires ESP.
    fn kernel_requires_esp(&self, peer: &Peer) -> bool {
        let selectors = peer.policies.iter().filter_map(|(policy, _)| self.config.policy(*policy)).flat_map(inbound_selectors);
        let mut updates = selectors.filter(|selector| covers(selector, Role::HomeAgent)).peekable();
        updates.peek().is_some() && updates.all(|selector| self.spd.requires_esp(Direction::In, &selector))
    }

    /// Whether a protected binding update moves this peer by itself.
    fn moves_by_update(&self, remote: RemoteId) -> bool {
        let (Some(peer), Some(record)) = (self.mobility.peers.get(&remote), self.config.remote(remote)) else { return false };
        let home = watari_policies::AddressRange::host(peer.home_address);
        peer.movements.source == watari_policies::MovementSource::Observe
            && self.kernel_requires_esp(peer)
            && self.config.pad.may_hold_range(&record.remote_identity, &home)
    }

    /// Addresses of IKE with a peer at another care-of address.
    fn addresses_at(&self, remote: RemoteId, care_of: IpAddr) -> Option<KmAddress> {
        use watari_sa::Whereabouts as _;
        let (peer, record) = (self.mobility.peers.get(&remote)?, self.config.remote(remote)?);
        let known = self.places.ike_addresses(remote);
        match peer.role {
            Role::MobileNode => Some(KmAddress { local: care_of, remote: known.map(|known| known.remote).or(record.remote_address)? }),
            Role::HomeAgent => Some(KmAddress { local: known.map(|known| known.local).or(record.local_address)?, remote: care_of }),
        }
    }

    /// Says which protected sockets are wanted, if that has changed: one for each reqid of a binding policy that the kernel holds.
    pub(crate) fn say_what_to_listen_to(&mut self) {
        // Peers are many: where none of them is listened to, none is looked at.
        if self.mobility.seen_spd == self.spd.changes() || (!self.mobility.listens && self.mobility.wanted.is_empty()) {
            return;
        }
        self.mobility.seen_spd = self.spd.changes();
        let sockets = |unasked: bool| -> BTreeSet<Listen> {
            let peers = self.mobility.peers.values().filter(|peer| peer.listens() && peer.unasked() == unasked);
            let sockets =
                peers.flat_map(|peer| peer.policies.iter().map(|(policy, reqid)| (*policy, Listen { role: peer.role, reqid: *reqid })));
            sockets.filter(|(policy, _)| self.spd.present(*policy) || self.stays_registered(*policy)).map(|(_, socket)| socket).collect()
        };
        let (mut wanted, unasked) = (sockets(false), sockets(true));
        if unasked.len() <= MOST_UNASKED {
            wanted.extend(unasked);
            self.mobility.unverified = false;
        } else if !std::mem::replace(&mut self.mobility.unverified, true) {
            let detail = format!("{} reqids would each need a socket", unasked.len());
            self.tell(Event::Notice { cause: Cause::MOVEMENTS_UNVERIFIED, detail });
        }
        if wanted != self.mobility.wanted {
            self.mobility.open.retain(|socket| wanted.contains(socket));
            self.mobility.wanted.clone_from(&wanted);
            self.outputs.push_back(crate::Output::Listen(wanted.into_iter().collect()));
        }
    }
}

impl Agent {
    /// Takes what a runner says about protected Mobility Header sockets.
    pub(crate) fn mobility(&mut self, now: Now, input: MobilityInput) {
        match input {
            MobilityInput::Listening { socket, open } => {
                if open && self.core.mobility.wanted.contains(&socket) {
                    self.core.mobility.open.insert(socket);
                } else {
                    self.core.mobility.open.remove(&socket);
                }
            }
            MobilityInput::Heard(heard) => self.heard(now, &heard),
        }
    }

    fn heard(&mut self, now: Now, heard: &Heard) {
        let message = match Message::decode(&heard.octets) {
            Ok(message) => message,
            Err(malformed) => {
                let detail = format!("from {} under ESP: {malformed}", heard.source);
                return self.core.tell(Event::Notice { cause: Cause::MALFORMED, detail });
            }
        };
        if let (Role::MobileNode, Message::HomeAgentSwitch { addresses, .. }) = (heard.socket.role, &message) {
            return self.home_agent_switch(now, heard, addresses);
        }
        let Some((home, note)) = read(now, heard, &message) else { return };
        let Note { care_of, evidence, .. } = note;
        for remote in self.core.peers_of(home, heard) {
            if let Some(why) = self.core.no_care_of_address(remote, heard.socket.role, care_of) {
                self.core.counters.dropped(Cause::MALFORMED);
                let detail = format!("{} cannot be at {care_of}, as its protected binding message says: {why}", self.core.name_of(remote));
                self.core.tell(Event::Notice { cause: Cause::MALFORMED, detail });
                continue;
            }
            if !self.core.keep(remote, note) {
                continue;
            }
            self.core.tell(Event::BindingMessage { remote, care_of, evidence });
            let doubted = self.core.mobility.doubts.get(remote).is_some_and(|doubt| doubt.new.remote == care_of);
            if let Some(addresses) = self.core.addresses_at(remote, care_of)
                && heard.socket.role == Role::HomeAgent
                && (doubted || self.core.moves_by_update(remote))
            {
                self.accept(now, remote, addresses, "a protected binding update");
            }
            self.learnt(now, remote, care_of);
        }
    }

    /// A privileged local client tells the outcome of a registration; how many peers it concerns, or why nobody can be at this address.
    pub(crate) fn told(&mut self, now: Now, home: IpAddr, care_of: IpAddr, evidence: Evidence) -> Result<usize, String> {
        let remotes = self.core.mobility.by_home.get(&home).cloned().unwrap_or_default();
        for remote in &remotes {
            let role = self.core.mobility.peers.get(remote).map(|peer| peer.role);
            if let Some(why) = role.and_then(|role| self.core.no_care_of_address(*remote, role, care_of)) {
                return Err(format!("{care_of} cannot be the care-of address of {home}: {why}"));
            }
        }
        for remote in &remotes {
            self.core.keep(*remote, Note { care_of, at: now.boot, sequence: None, lifetime: Duration::ZERO, evidence });
            self.core.tell(Event::BindingMessage { remote: *remote, care_of, evidence });
            let accepted = matches!(evidence, Evidence::Told { status, .. } if status < watari_mip6::key_mobility::REFUSED);
            if !accepted {
                continue;
            }
            //= rfc4877#4.3
            //# only IPsec-protected binding updates and the Mobile IPv6 implementation itself may change addresses
            if let Some(addresses) = self.core.addresses_at(*remote, care_of) {
                self.accept(now, *remote, addresses, TOLD);
            }
            self.learnt(now, *remote, care_of);
        }
        Ok(remotes.len())
    }

    /// K became known for an address to which IKE SAs have followed already: it may take that back, once.
    fn learnt(&mut self, now: Now, remote: RemoteId, care_of: IpAddr) {
        let core = &mut self.core;
        let Some(followed) = core.mobility.followed.get(&remote).filter(|followed| followed.care_of == care_of) else { return };
        let Some(addresses) = core.addresses_at(remote, care_of) else { return };
        let Some(known) = core.known(now, remote, addresses).map(|known| Known { registration: followed.registration, ..known }) else {
            return;
        };
        if watari_mip6::key_mobility::k_bit(&Known { setting: KeyMobility::Observe, ..known }).is_none() {
            return;
        }
        let Some(followed) = core.mobility.followed.remove(&remote) else { return };
        if let Decision::Discard(connections) = decide(&known) {
            let given_up = followed.ikes.into_iter().filter(|(_, old)| self.core.concerns(remote, connections, *old));
            let given_up: Vec<_> = given_up.map(|(ike, _)| ike).collect();
            self.give_up(now, remote, &given_up);
        }
    }

    /// Forgets IKE SAs without a word; their children go on until the next IKE SA has replaced them.
    pub(crate) fn give_up(&mut self, now: Now, remote: RemoteId, ikes: &[IkeId]) {
        let there: Vec<_> = ikes.iter().copied().filter(|ike| self.keying.path_of(*ike).is_some()).collect();
        if there.is_empty() {
            return;
        }
        let record = self.core.config.remote(remote);
        let road_warrior = record.is_some_and(|remote| matches!(remote.role, MobilityRole::RoadWarrior { .. }));
        if !road_warrior {
            let name = record.map_or("a peer", |remote| remote.name.as_str());
            let detail =
                format!("{} with {name}", if there.len() == 1 { "one IKE SA".to_owned() } else { format!("{} IKE SAs", there.len()) });
            self.core.tell(Event::Notice { cause: Cause::KEY_MOBILITY_OFF, detail });
        }
        for ike in there {
            self.keying_call(now, |keying, context| keying.forget(context, ike));
        }
        //= rfc6275#11.7.3
        //# the mobile node may begin a new key management connection; the home agent waits for it
        if road_warrior || self.core.mobility.peers.get(&remote).is_some_and(|peer| peer.role == Role::MobileNode) {
            self.want_replacements();
        }
        // Nobody tells of the end of what was forgotten.
        self.home_may_go(remote);
    }

    /// What a plan means for bindings. Comes before the plan is applied.
    pub(crate) fn note_movements(&mut self, now: Now, plan: &MigrationPlan<ChildId, IkeId>) {
        let mut moved: BTreeMap<RemoteId, (KmAddress, Vec<(IkeId, KmAddress)>)> = BTreeMap::new();
        for remote in &plan.remotes {
            moved.insert(remote.remote, (remote.new, Vec::new()));
        }
        for retarget in &plan.retarget {
            let (_, ikes) = moved.entry(retarget.remote).or_insert((retarget.new, Vec::new()));
            if self.keying.stands(retarget.ike) {
                ikes.push((retarget.ike, retarget.old));
            }
        }
        for (remote, (new, ikes)) in moved {
            self.core.bound(now, remote, new, ikes);
        }
    }

    /// Gives up what a plan says is given up.
    pub(crate) fn give_up_discarded(&mut self, now: Now, plan: &MigrationPlan<ChildId, IkeId>) {
        let mut given_up: BTreeMap<RemoteId, Vec<IkeId>> = BTreeMap::new();
        for discard in &plan.discard {
            // What is only being made has promised nothing yet: it starts afresh or goes on from the new address.
            if self.keying.stands(discard.ike) {
                given_up.entry(discard.remote).or_default().push(discard.ike);
            } else {
                self.keying_call(now, |keying, context| keying.retarget(context, discard.ike, discard.new));
            }
        }
        for (remote, ikes) in given_up {
            self.give_up(now, remote, &ikes);
        }
    }
}

impl Core {
    /// Peers that a message on a protected socket is of, which names this home address.
    pub(crate) fn peers_of(&self, home: IpAddr, heard: &Heard) -> Vec<RemoteId> {
        let fits = |remote: &&RemoteId| {
            let Some(peer) = self.mobility.peers.get(remote) else { return false };
            let socket = peer.role == heard.socket.role && peer.policies.iter().any(|(_, reqid)| *reqid == heard.socket.reqid);
            let sender = self.is_home_agent_of(**remote, heard) || self.unregistered.get(remote) == Some(&heard.source);
            socket && peer.listens() && sender
        };
        self.mobility.by_home.get(&home).into_iter().flatten().filter(fits).copied().collect()
    }

    /// Whether a message is between a home agent and its mobile node: its other end is the one of the record, where it names one.
    fn is_home_agent_of(&self, remote: RemoteId, heard: &Heard) -> bool {
        let Some(record) = self.config.remote(remote) else { return false };
        match heard.socket.role {
            Role::HomeAgent => record.local_address.is_none_or(|address| address == heard.destination),
            Role::MobileNode => record.remote_address.is_none_or(|address| address == heard.source),
        }
    }
}
