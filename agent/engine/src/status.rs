//! The whole status as versioned JSON: remotes, their IKE SAs, their child SAs, addresses, movements, counters.
//! Invariant: fields are only ever added within one version.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use watari_kernel::{KmAddress, Now};
use watari_policies::{PolicyId, RemoteId};
use watari_sa::{Cause, ChildSa, ChildState, IkeState, IkeStatus, Owner, SaHalf};

use crate::Agent;
use crate::doubts::{Doubt, Ended};
use crate::usage::{Usage, Usages};

/// Version of the JSON form.
pub const STATUS_VERSION: u32 = 1;

/// What has been counted since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// UDP payloads taken.
    pub datagrams_in: u64,
    /// UDP payloads given out.
    pub datagrams_out: u64,
    /// IKE_SA_INIT requests sent, repeats not counted.
    pub ike_sa_init_sent: u64,
    /// MIGRATE events heard, copies included.
    pub migrate_events: u64,
    /// MIGRATE events that changed something.
    pub migrate_applied: u64,
    /// Copies from the other socket, consumed.
    pub migrate_copies: u64,
    /// ACQUIREs heard.
    pub acquires: u64,
    /// SAs made again because the kernel left them behind.
    pub recreated: u64,
    /// Times that state was read again after lost events.
    pub resynchronised: u64,
    /// Peers sent on to another gateway, known or not.
    pub sent_on: u64,
    /// Kernel messages that could not be read.
    pub malformed_kernel_messages: u64,
    /// Messages dropped, by cause code.
    pub drops: BTreeMap<String, u64>,
}

impl Counters {
    /// Counts a drop.
    pub(crate) fn dropped(&mut self, cause: Cause) {
        let count = self.drops.entry(cause.code.to_owned()).or_default();
        *count = count.saturating_add(1);
    }
}

/// The status of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of this form.
    pub version: u32,
    /// Seconds since the first input.
    pub uptime_s: u64,
    /// Every remote of the configuration.
    pub remotes: Vec<RemoteStatus>,
    /// IKE SAs whose peer is not known yet.
    pub unknown_peers: Vec<Ike>,
    /// Remotes left out because the text would not fit an answer on the control socket: those without SAs first, then the last ones.
    #[serde(default)]
    pub omitted: usize,
    /// Local addresses as last reported.
    pub addresses: Vec<Address>,
    /// Counters.
    pub counters: Counters,
    /// The next deadline.
    pub next: Option<Next>,
}

/// A local address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The address.
    pub address: String,
    /// Interface index.
    pub interface: u32,
    /// Flags that are set.
    pub flags: Vec<String>,
}

/// The next deadline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Next {
    /// Milliseconds from now.
    pub in_ms: u64,
    /// Which timer.
    pub timer: String,
    /// Whose.
    pub whose: String,
}

/// A pair of addresses for key management.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// This host's address.
    pub local: String,
    /// The peer's address.
    pub remote: String,
}

impl From<KmAddress> for Pair {
    fn from(addresses: KmAddress) -> Self {
        Self { local: addresses.local.to_string(), remote: addresses.remote.to_string() }
    }
}

/// A remote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteStatus {
    /// Its name.
    pub name: String,
    /// Mobile IPv6 role of this host towards it: none, mobile node, home agent.
    pub role: String,
    /// Home address, if Mobile IPv6 governs it.
    pub home_address: Option<String>,
    /// Addresses for IKE that the Mobile IPv6 daemon named last.
    pub remembered: Option<Pair>,
    /// The last movement.
    pub last_move: Option<Move>,
    /// A movement that is not believed yet.
    #[serde(default)]
    pub doubt: Option<DoubtedMove>,
    /// How the last doubt about a movement ended.
    #[serde(default)]
    pub last_verdict: Option<DoubtedMove>,
    /// Its IKE SAs, oldest first.
    pub ike_sas: Vec<Ike>,
    /// Its child SAs without owner.
    pub adopted: Vec<Child>,
    /// Its policies.
    pub policies: Vec<PolicyStatus>,
}

/// A movement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Seconds since the Unix epoch.
    pub at_s: u64,
    /// Addresses before.
    pub from: Option<Pair>,
    /// Addresses after.
    pub to: Pair,
    /// Microseconds from MIGRATE to the first IKE packet, if one left.
    pub first_packet_us: Option<u64>,
}

/// A movement that was not believed at once: no protected binding update stood behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoubtedMove {
    /// When the doubt arose, in seconds since the Unix epoch.
    pub since_s: u64,
    /// Addresses before, where IKE stays.
    pub from: Option<Pair>,
    /// Addresses that MIGRATE named.
    pub to: Pair,
    /// How the doubt ended: proved, refuted, undecided (the peer answered nowhere) or overtaken (by a movement that was believed).
    pub verdict: Option<String>,
    /// When it ended, in seconds since the Unix epoch.
    pub until_s: Option<u64>,
}

impl From<&Doubt> for DoubtedMove {
    fn from(doubt: &Doubt) -> Self {
        let (from, to) = (doubt.old.map(Pair::from), doubt.new.into());
        Self { since_s: doubt.since.wall.as_secs(), from, to, verdict: None, until_s: None }
    }
}

impl From<&Ended> for DoubtedMove {
    fn from(ended: &Ended) -> Self {
        let (verdict, until_s) = (Some(ended.verdict.word().to_owned()), Some(ended.at.wall.as_secs()));
        Self { verdict, until_s, ..Self::from(&ended.doubt) }
    }
}

/// An IKE SA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ike {
    /// Its number.
    pub id: u64,
    /// Where it stands.
    pub state: String,
    /// Whether this host started it.
    pub initiator: bool,
    /// This host's address and port.
    pub local: String,
    /// The peer's address and port.
    pub remote: String,
    /// SPI of the initiator, hexadecimal.
    pub initiator_spi: String,
    /// SPI of the responder, hexadecimal.
    pub responder_spi: String,
    /// Whether a NAT is in front of this host.
    #[serde(default)]
    pub nat_local: bool,
    /// Whether a NAT is in front of the peer.
    #[serde(default)]
    pub nat_remote: bool,
    /// Algorithms.
    pub suite: String,
    /// Seconds since it was made.
    pub age_s: u64,
    /// Seconds until it is rekeyed.
    pub rekey_in_s: Option<u64>,
    /// What it is doing.
    pub tasks: Vec<String>,
    /// Its child SAs.
    pub children: Vec<Child>,
}

/// A child SA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Child {
    /// Its number.
    pub id: u64,
    /// Name of its policy.
    pub policy: String,
    /// Where it stands.
    pub state: String,
    /// IPsec protocol.
    pub protocol: String,
    /// Mode.
    pub mode: String,
    /// Algorithms.
    pub suite: String,
    /// What arrives.
    pub inbound: Half,
    /// What leaves.
    pub outbound: Half,
    /// Seconds since it was made.
    pub age_s: u64,
    /// Seconds until it is replaced.
    pub rekey_in_s: Option<u64>,
}

/// One direction of a child SA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Half {
    /// SPI, hexadecimal.
    pub spi: String,
    /// Source address of its packets.
    pub src: String,
    /// Destination address of its packets.
    pub dst: String,
    /// Reqid.
    pub reqid: u32,
    /// Selector, in words.
    pub selector: String,
    /// Whether the kernel holds it.
    pub installed: bool,
    /// Octets it has carried, if the kernel said so in time.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// Packets it has carried, if the kernel said so in time.
    #[serde(default)]
    pub packets: Option<u64>,
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyStatus {
    /// Its name.
    pub name: String,
    /// Whether the kernel holds its outbound entry.
    pub present: bool,
    /// Addresses for IKE remembered for it.
    pub remembered: Option<Pair>,
    /// Tunnel end points, this host's and the peer's, if the kernel or a MIGRATE named them.
    pub tunnel: Option<Pair>,
}

impl Status {
    /// The status as JSON text of at most `limit` octets, with as many remotes as fit.
    pub(crate) fn into_json_within(mut self, limit: usize) -> String {
        let whole = self.to_json();
        if whole.len() <= limit {
            return whole;
        }
        let all = std::mem::take(&mut self.remotes);
        // The number of those left out takes a few octets too.
        let mut room = limit.saturating_sub(self.to_json().len()).saturating_sub(32);
        let idle = |remote: &RemoteStatus| remote.ike_sas.is_empty() && remote.adopted.is_empty();
        let mut chosen: Vec<(usize, RemoteStatus)> = all.into_iter().enumerate().collect();
        let total = chosen.len();
        chosen.sort_by_key(|(place, remote)| (idle(remote), *place));
        chosen.retain(|(_, remote)| {
            let length = serde_json::to_string(remote).map_or(usize::MAX, |text| text.len().saturating_add(1));
            let fits = length <= room;
            room = if fits { room.saturating_sub(length) } else { 0 };
            fits
        });
        chosen.sort_by_key(|(place, _)| *place);
        self.omitted = total.saturating_sub(chosen.len());
        self.remotes = chosen.into_iter().map(|(_, remote)| remote).collect();
        let text = self.to_json();
        if text.len() <= limit { text } else { Self { unknown_peers: Vec::new(), addresses: Vec::new(), ..self }.to_json() }
    }

    /// The status as JSON text.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| format!("{{\"version\":{STATUS_VERSION},\"error\":\"{error}\"}}"))
    }
}

const fn seconds_until(at: Duration, now: Now) -> u64 {
    at.saturating_sub(now.boot).as_secs()
}

/// An IKE SA's state, as strongSwan's clients know it.
pub(crate) const fn ike_state(state: IkeState) -> &'static str {
    match state {
        IkeState::AwaitInit | IkeState::AwaitAuth => "CONNECTING",
        IkeState::Established => "ESTABLISHED",
        IkeState::Replaced => "REKEYED",
        IkeState::Closing => "DELETING",
    }
}

/// A child SA's state, as strongSwan's clients know it.
pub(crate) const fn child_state(state: ChildState) -> &'static str {
    match state {
        ChildState::Installing => "INSTALLING",
        ChildState::Installed => "INSTALLED",
        ChildState::Replaced => "REKEYED",
        ChildState::Closing => "DELETING",
        ChildState::Dormant => "DORMANT",
    }
}

impl Agent {
    /// The status at `now`, without what only the kernel can tell.
    pub fn status(&self, now: Now) -> Status {
        self.status_with(now, &Usages::new())
    }

    /// The status at `now`, with what SAs have carried.
    pub(crate) fn status_with(&self, now: Now, usages: &Usages) -> Status {
        let remotes = (0u32..).zip(&self.core.config.remotes).map(|(id, _)| RemoteId(id));
        let remotes = remotes.filter(|id| !self.core.retired(*id)).map(|id| self.remote_status(now, id, usages));
        let unknown = self.keying.statuses().into_iter().filter(|ike| ike.remote.is_none());
        Status {
            version: STATUS_VERSION,
            uptime_s: self.core.started.map_or(0, |started| now.boot.saturating_sub(started.boot).as_secs()),
            remotes: remotes.flatten().collect(),
            unknown_peers: unknown.map(|ike| self.ike_status(now, &ike, usages)).collect(),
            omitted: 0,
            addresses: self.addresses(),
            counters: self.core.counters.clone(),
            next: self.deadline().map(|next| Next {
                in_ms: u64::try_from(next.at.saturating_sub(now.boot).as_millis()).unwrap_or(u64::MAX),
                timer: next.timer.to_owned(),
                whose: next.whose,
            }),
        }
    }

    fn addresses(&self) -> Vec<Address> {
        let rows = self.core.places.addresses().map(|event| {
            let flags = event.flags;
            let named = [
                (flags.tentative, "tentative"),
                (flags.dad_failed, "dadfailed"),
                (flags.deprecated, "deprecated"),
                (flags.temporary, "temporary"),
                (flags.home, "home"),
            ];
            let flags = named.into_iter().filter(|(set, _)| *set).map(|(_, name)| name.to_owned()).collect();
            Address { address: event.address.to_string(), interface: event.interface, flags }
        });
        rows.collect()
    }

    fn remote_status(&self, now: Now, id: RemoteId, usages: &Usages) -> Option<RemoteStatus> {
        let remote = self.core.config.remote(id)?;
        let ike_sas = self.keying.ike_sas_of(id).into_iter().filter_map(|ike| self.keying.status(ike));
        let movement = self.core.movements.get(&id).map(|movement| Move {
            at_s: movement.at.wall.as_secs(),
            from: movement.from.map(Pair::from),
            to: movement.to.into(),
            first_packet_us: movement.first_packet.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
        });
        let policies = self.core.lookup.policies_of(id);
        let adopted = policies.iter().flat_map(|policy| self.core.children.of_policy(*policy));
        let adopted = adopted.filter(|child| child.owner == Owner::None);
        Some(RemoteStatus {
            name: remote.name.clone(),
            role: match remote.role {
                watari_policies::MobilityRole::None => "none",
                watari_policies::MobilityRole::MobileNode { .. } => "mobile node",
                watari_policies::MobilityRole::HomeAgent { .. } => "home agent",
                watari_policies::MobilityRole::RoadWarrior { .. } => "road warrior",
                watari_policies::MobilityRole::Gateway { .. } => "gateway",
            }
            .to_owned(),
            home_address: remote.role.lasting_address().map(|address| address.to_string()),
            remembered: self.core.places.remembered(id).map(Pair::from),
            last_move: movement,
            doubt: self.core.mobility.doubts.get(id).map(DoubtedMove::from),
            last_verdict: self.core.mobility.doubts.last(id).map(DoubtedMove::from),
            ike_sas: ike_sas.map(|ike| self.ike_status(now, &ike, usages)).collect(),
            adopted: adopted.map(|child| self.child_status(now, child, usages)).collect(),
            policies: policies.iter().map(|policy| self.policy_status(*policy)).collect(),
        })
    }

    fn policy_status(&self, id: PolicyId) -> PolicyStatus {
        let tunnel = self.core.places.template(id);
        PolicyStatus {
            name: self.policy_name(id),
            present: self.core.spd.present(id),
            remembered: self.core.places.remembered_for(id).map(Pair::from),
            tunnel: tunnel.map(|tunnel| Pair { local: tunnel.src.to_string(), remote: tunnel.dst.to_string() }),
        }
    }

    /// The name of a policy.
    pub(crate) fn policy_name(&self, id: PolicyId) -> String {
        self.core.config.policy(id).map(|policy| policy.name.clone()).unwrap_or_default()
    }

    fn ike_status(&self, now: Now, ike: &IkeStatus, usages: &Usages) -> Ike {
        let children = self.core.children.of_owner(Owner::Ike(ike.id));
        Ike {
            id: ike.id.0,
            state: ike_state(ike.state).to_owned(),
            initiator: ike.initiator,
            local: ike.path.local.to_string(),
            remote: ike.path.remote.to_string(),
            initiator_spi: format!("{:016x}", ike.initiator_spi),
            responder_spi: format!("{:016x}", ike.responder_spi),
            nat_local: ike.nat.us,
            nat_remote: ike.nat.peer,
            suite: ike.suite.clone(),
            age_s: now.boot.saturating_sub(ike.created).as_secs(),
            rekey_in_s: ike.rekey_at.map(|at| seconds_until(at, now)),
            tasks: ike.tasks.iter().map(|task| (*task).to_owned()).collect(),
            children: children.map(|child| self.child_status(now, child, usages)).collect(),
        }
    }

    fn child_status(&self, now: Now, child: &ChildSa, usages: &Usages) -> Child {
        Child {
            id: child.id.0,
            policy: self.policy_name(child.policy),
            state: child_state(child.state).to_owned(),
            protocol: format!("{:?}", child.protocol).to_uppercase(),
            mode: format!("{:?}", child.mode).to_uppercase(),
            suite: child.suite.to_string(),
            inbound: half(&child.inbound, usages.get(&child.inbound_id())),
            outbound: half(&child.outbound, usages.get(&child.outbound_id())),
            age_s: now.boot.saturating_sub(child.created).as_secs(),
            rekey_in_s: child.rekey_at.map(|at| seconds_until(at, now)),
        }
    }
}

fn half(half: &SaHalf, usage: Option<&Usage>) -> Half {
    Half {
        spi: half.spi.to_string(),
        src: half.endpoints.src.to_string(),
        dst: half.endpoints.dst.to_string(),
        reqid: half.reqid.0,
        selector: half.selector.to_string(),
        installed: half.installed,
        bytes: usage.map(|usage| usage.bytes),
        packets: usage.map(|usage| usage.packets),
    }
}
