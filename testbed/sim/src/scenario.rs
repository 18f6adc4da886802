//! A scenario as data: hosts, links, what is protected, what happens when, and what must be true in the end.
//! The simulator and the real-kernel runner read the same value; nothing in it belongs to one of them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use ipnet::{IpNet, Ipv6Net};
use watari_kernel::MigrateSource;
use watari_policies::algorithm::{ChildProposal, IkeProposal};
use watari_policies::profile::{
    BindingSelector, HomeAgentProfile, MobileNodeProfile, Protected, Reqids, ServedNode, Terms, home_agent, mobile_node,
};
use watari_policies::{Config, Identity, Lifetime, MovementSource, Movements, Reqid, Secret, SecretId};

use crate::access::Access;
use crate::bootstrap::Bootstrap;
use crate::by_hand;
use crate::home_agents::SecondHomeAgent;
use crate::signalling::home::HomeSettings;
use crate::signalling::mobile::MobileSettings;
use crate::signalling::{self, Agreement, Personality};

/// Name of the home agent.
pub const HA: &str = "ha";
/// Name of the correspondent node.
pub const CN: &str = "cn";
/// Address of the home agent.
pub const HOME_AGENT: IpAddr = address(1, 0, 0, 1);
/// Address of the correspondent node.
pub const CORRESPONDENT: IpAddr = address(0xb, 0, 0, 0xc);

pub(crate) const fn address(site: u16, c: u16, d: u16, e: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, site, 0, 0, c, d, e))
}

/// A link of the fixed topology: every link hangs on one router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Link {
    /// The home link; the home agent lives here.
    Home,
    /// First foreign link.
    F1,
    /// Second foreign link.
    F2,
    /// Third foreign link.
    F3,
    /// Where the correspondent lives; nobody moves here.
    Core,
}

impl Link {
    /// Every link.
    pub const ALL: [Self; 5] = [Self::Home, Self::F1, Self::F2, Self::F3, Self::Core];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Home => "home",
            Self::F1 => "f1",
            Self::F2 => "f2",
            Self::F3 => "f3",
            Self::Core => "core",
        }
    }

    const fn site(self) -> u16 {
        match self {
            Self::Home => 1,
            Self::F1 => 0xf1,
            Self::F2 => 0xf2,
            Self::F3 => 0xf3,
            Self::Core => 0xb,
        }
    }

    /// Its prefix, 64 bits long.
    pub fn prefix(self) -> IpNet {
        let network = Ipv6Addr::new(0x2001, 0xdb8, self.site(), 0, 0, 0, 0, 0);
        Ipv6Net::new(network, 64).map(IpNet::V6).unwrap_or_default()
    }

    /// The link whose prefix holds an address.
    pub fn of(address: IpAddr) -> Option<Self> {
        Self::ALL.into_iter().find(|link| link.prefix().contains(&address))
    }

    /// Whether it is one of the foreign links.
    pub const fn is_foreign(self) -> bool {
        matches!(self, Self::F1 | Self::F2 | Self::F3)
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A mobile node.
#[derive(Clone, Debug, PartialEq)]
pub struct MobilePlan {
    /// Its name.
    pub name: &'static str,
    /// Tells its addresses from those of the others.
    pub number: u16,
    /// Added to the usual reqids; nodes with the same value share reqids.
    pub reqid_offset: u32,
    /// The link it boots on.
    pub boots_on: Link,
}

impl MobilePlan {
    /// The only or first mobile node.
    pub const fn first(boots_on: Link) -> Self {
        Self { name: "mn", number: 0, reqid_offset: 0, boots_on }
    }

    /// Its home address.
    pub const fn home_address(&self) -> IpAddr {
        address(1, 0, 0, 0xabcd_u16.saturating_add(self.number))
    }

    /// The network behind it, in scenarios that have one.
    pub fn network(&self) -> IpNet {
        let site = 0xa000_u16.saturating_add(self.number);
        Ipv6Net::new(Ipv6Addr::new(0x2001, 0xdb8, site, 0, 0, 0, 0, 0), 64).map(IpNet::V6).unwrap_or_default()
    }

    /// Its own address in that network.
    pub const fn network_address(&self) -> IpAddr {
        address(0xa000_u16.saturating_add(self.number), 0, 0, 1)
    }

    /// The address it configures on a link.
    pub const fn care_of(&self, link: Link) -> IpAddr {
        address(link.site(), 0xff, 0xfe00, 0xe_u16.saturating_add(self.number))
    }
}

/// What the foreign links do to packets; the home link and the core only delay by 1 ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// Delay of one crossing.
    pub delay: Duration,
    /// Of a thousand packets, so many are lost at each crossing.
    pub loss: u64,
    /// Of a thousand packets, so many arrive twice.
    pub duplicates: u64,
    /// Of a thousand packets, so many are overtaken by those behind them.
    pub reordered: u64,
}

impl Conditions {
    /// Ten milliseconds, nothing else.
    pub const GOOD: Self = Self { delay: Duration::from_millis(10), loss: 0, duplicates: 0, reordered: 0 };
}

/// An IKE exchange that can be caught under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// IKE_SA_INIT.
    Init,
    /// IKE_AUTH.
    Auth,
    /// CREATE_CHILD_SA, be it a new child, a child rekey or an IKE rekey.
    CreateChild,
}

impl Exchange {
    /// Exchange type number (RFC 7296 3.1).
    pub const fn number(self) -> u8 {
        match self {
            Self::Init => 34,
            Self::Auth => 35,
            Self::CreateChild => 36,
        }
    }
}

/// What is rekeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rekeyed {
    /// The IKE SA.
    Ike,
    /// The child SA of one kind of traffic.
    Child(Protected),
}

/// Who is pinged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PingTarget {
    /// The mobile node pings the home agent from its home address.
    HomeAgent,
    /// The mobile node pings the correspondent from its home address.
    Correspondent,
    /// The correspondent pings the mobile node's home address.
    FromCorrespondent,
    /// The mobile node pings the correspondent from the network behind it.
    FromNetwork,
}

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A mobile node leaves its link and comes up on another.
    Move {
        /// The mobile node.
        node: &'static str,
        /// The new link.
        to: Link,
    },
    /// A mobile node moves as soon as it has sent its next request of this exchange.
    MoveDuring {
        /// The mobile node.
        node: &'static str,
        /// The new link.
        to: Link,
        /// The exchange.
        exchange: Exchange,
    },
    /// An operator rekeys an SA with the home agent (on a mobile node) or with every mobile node (on the home agent).
    Rekey {
        /// Where.
        host: &'static str,
        /// What.
        what: Rekeyed,
    },
    /// Pings begin and go on until shortly before the end.
    Ping {
        /// The mobile node at one end.
        node: &'static str,
        /// The other end and the way.
        target: PingTarget,
        /// Time between two pings.
        every: Duration,
    },
    /// The key-management daemon is killed and starts again after a while; kernel and Mobile IPv6 daemon go on.
    RestartDaemon {
        /// Where.
        host: &'static str,
        /// How long it is away.
        down: Duration,
    },
    /// Somebody at the correspondent's place sends the home agent a binding update in a mobile node's name, with the correspondent's
    /// address, without IPsec and without any extension header: policies for a Mobility Header type do not see it.
    ForgeUpdate {
        /// The mobile node.
        node: &'static str,
    },
    /// An operator brings up everything that a mobile node has with its home agent, or one policy of it.
    Negotiate {
        /// The mobile node.
        node: &'static str,
        /// Name of the policy; `None` for all.
        policy: Option<&'static str>,
    },
    /// Another host on the home link takes a mobile node's home address, until the node hears of it (status 134).
    Duplicate {
        /// The mobile node.
        node: &'static str,
    },
    /// The key-management daemon of the home agent reads its configuration again, which has changed as the scenario says.
    Reload,
    /// An operator of the first home agent sends every mobile node's IKE SA on to the second one (RFC 5685 5).
    Redirect,
    /// The first home agent's Mobile IPv6 daemon sends every registered mobile node to the second one (RFC 5142).
    Switch,
    /// The whole host goes down and boots again after a while: nothing remains.
    RestartHost {
        /// Where.
        host: &'static str,
        /// How long it is away.
        down: Duration,
    },
}

/// When something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Time since the start.
    pub at: Duration,
    /// What.
    pub action: Action,
}

/// What must be true in the end, besides: nothing in clear, no key missing for a ping, agent and kernel of one mind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// IKE_SA_INIT requests in all, repeats not counted. Where links lose packets each one that was still unanswered when its sender
    /// moved comes on top, because it is begun afresh from the new address.
    pub ike_sa_init: u32,
    /// IKE SAs made although the mobile node had had one already.
    pub reauthentications: u32,
    /// Child SA pairs of each mobile node in the end.
    pub children: u32,
    /// Whether child SAs may go without successor for a while (a host that restarts loses them).
    pub may_lose_sas: bool,
    /// Most pings that may be lost for want of a key on a real kernel. In the simulator none may but those that ask for SAs given up
    /// at home (`dormant`): without loss every ping is answered
    /// that was sent with binding and keys, with loss as many as chance leaves.
    pub lost_for_key: u32,
    /// Least pings that must be answered; where links lose packets only a real kernel is held to it.
    pub answered: u32,
    /// Whether no binding update may cross a link.
    pub no_update: bool,
    /// Home Tests that must come back.
    pub home_tests: u32,
    /// Prefix advertisements that must come back.
    pub prefix_advertisements: u32,
    /// Returns home too short for the Mobile IPv6 daemon to see.
    pub unseen_returns: usize,
    /// From this time on nothing but liveness may be exchanged by IKE, in the simulator; a real machine takes its time.
    pub quiet_after: Option<Duration>,
    /// CREATE_CHILD_SA requests in all, repeats not counted: nothing is made twice.
    pub creations: Option<u32>,
    /// Binding updates that must come to the home agent through a tunnel SA from another address than the SA has there.
    pub updates_from_elsewhere: usize,
    /// Movements that the home agent must not believe, and that the mobile node's answer refutes; IKE is then still where the node is.
    pub refuted: u32,
}

impl Expectation {
    /// One handshake, binding and payload SAs, every ping has its key.
    pub const USUAL: Self = Self {
        ike_sa_init: 1,
        reauthentications: 0,
        children: 2,
        may_lose_sas: false,
        lost_for_key: 0,
        answered: 1,
        no_update: false,
        home_tests: 0,
        prefix_advertisements: 0,
        refuted: 0,
        updates_from_elsewhere: 0,
        quiet_after: None,
        creations: None,
        unseen_returns: 0,
    };
}

/// What an agent must have said: so many lines at least, each with all the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Where.
    pub host: &'static str,
    /// Words of one line, in any order.
    pub words: &'static [&'static str],
    /// Least number of such lines.
    pub least: usize,
}

impl Told {
    /// How many of these lines are too few, in words.
    pub fn missing<'a>(&self, lines: impl Iterator<Item = (&'a str, &'a str)>) -> Option<String> {
        let fits = |(host, line): &(&str, &str)| *host == self.host && self.words.iter().all(|word| line.contains(word));
        let found = lines.filter(fits).count();
        (found < self.least).then(|| format!("{} said {:?} {found} times, {} expected", self.host, self.words, self.least))
    }
}

/// Where a scenario can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunsOn {
    /// In the simulator and on every real kernel.
    Everywhere,
    /// Not on a real kernel newer than 6.1, which cannot migrate typed policies (FACTS A3 K4).
    NotOnNewer,
    /// Only in the simulator, and why.
    SimulatorOnly(&'static str),
}

/// A scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it shows.
    pub sentence: &'static str,
    /// Where it can run.
    pub runs_on: RunsOn,
    /// The mobile nodes; there is always one home agent and one correspondent.
    pub mobile_nodes: Vec<MobilePlan>,
    /// Hosts whose agents talk PF_KEY instead of netlink XFRM to their Linux; the simulator's kernels know no difference. (Under SHISA it is
    /// always PF_KEY, in the simulator in KAME's octets.)
    pub pf_key: &'static [&'static str],
    /// Whose ways the Mobile IPv6 daemons have.
    pub personality: Personality,
    /// Whether the kernels under SHISA put the packet into an ACQUIRE (kernel option PFKEYV2_SADB_X_EXT_PACKET).
    pub acquire_tells_packet: bool,
    /// Whether mobile nodes have one more address, on a link that leads nowhere, which looks better than their care-of address.
    pub spare_address: bool,
    /// Whether mobile nodes follow their own addresses where the daemon does not tell everything (SHISA).
    pub follows_addresses: bool,
    /// No Mobile IPv6 anywhere: mobile nodes are road warriors, the home agent is their gateway.
    pub access: Option<Access>,
    /// No home address in the configuration of mobile nodes.
    pub bootstrap: Option<Bootstrap>,
    /// A home agent beside the first one.
    pub second_home_agent: Option<SecondHomeAgent>,
    /// A mobile node that asks for SAs for another one's home address as if it were a network of its own, and that other one.
    pub claims: Option<(&'static str, &'static str)>,
    /// What must be in the logs.
    pub told: Vec<Told>,
    /// Whether SAs are keyed by hand, without IKE.
    pub by_hand: bool,
    /// Whether there is a network behind each mobile node.
    pub networks: bool,
    /// What is protected.
    pub protect: Vec<Protected>,
    /// How narrow the mobile nodes' binding selectors are.
    pub binding: BindingSelector,
    /// How narrow the home agent's are, where they differ.
    pub peer_binding: Option<BindingSelector>,
    /// Whether Home Tests are made after a registration.
    pub home_test: bool,
    /// What the foreign links do to packets.
    pub conditions: Conditions,
    /// From leaving a link to an address on the next one.
    pub attach: Duration,
    /// From the new address to the Mobile IPv6 daemon's decision to move.
    pub decision: Duration,
    /// Duplicate address detection of a new address.
    pub dad: Duration,
    /// Lifetime of IKE SAs.
    pub ike_lifetime: Lifetime,
    /// Lifetime of child SAs.
    pub child_lifetime: Lifetime,
    /// How long tunnel SAs are kept at home; none for as long as they live.
    pub dormant: Option<Duration>,
    /// Lifetime of a binding.
    pub binding_lifetime: Duration,
    /// What the agents believe of movements.
    pub movements: Movements,
    /// Whether the agents lack CAP_NET_RAW, so that they see no binding message.
    pub blind: bool,
    /// Whether the Mobile IPv6 daemon of the mobile nodes, and that of the home agent, has the K bit.
    pub daemons_move_keys: (bool, bool),
    /// Idle time after which mobile nodes check the home agent's liveness.
    pub liveness: Duration,
    /// What happens.
    pub steps: Vec<Step>,
    /// When it ends.
    pub duration: Duration,
    /// What must be true then.
    pub expect: Expectation,
}

/// When mobile nodes boot, after everybody else.
pub const BOOT: Duration = Duration::from_millis(200);

impl Scenario {
    /// A scenario with one mobile node that boots on the first foreign link, with any-type binding policies beside the payload tunnel.
    pub fn new(name: &'static str, sentence: &'static str) -> Self {
        Self {
            name,
            sentence,
            runs_on: RunsOn::Everywhere,
            mobile_nodes: vec![MobilePlan::first(Link::F1)],
            pf_key: &[],
            personality: Personality::Mip6d,
            acquire_tells_packet: true,
            spare_address: false,
            follows_addresses: true,
            access: None,
            bootstrap: None,
            second_home_agent: None,
            claims: None,
            told: Vec::new(),
            by_hand: false,
            networks: false,
            protect: vec![Protected::Binding, Protected::Payload],
            binding: BindingSelector::Any,
            peer_binding: None,
            home_test: false,
            conditions: Conditions::GOOD,
            attach: Duration::from_millis(500),
            decision: Duration::from_millis(200),
            dad: Duration::from_millis(1900),
            ike_lifetime: Lifetime::of(Duration::from_secs(4 * 3600)),
            child_lifetime: Lifetime::of(Duration::from_secs(3600)),
            dormant: None,
            binding_lifetime: Duration::from_secs(60),
            movements: Movements::default(),
            blind: false,
            daemons_move_keys: (true, true),
            liveness: Duration::from_secs(60),
            steps: Vec::new(),
            duration: Duration::from_secs(12),
            expect: Expectation::USUAL,
        }
    }

    /// The same scenario with one more step.
    pub fn then(mut self, at_ms: u64, action: Action) -> Self {
        self.steps.push(Step { at: Duration::from_millis(at_ms), action });
        self
    }

    /// The mobile node of a name.
    pub fn mobile_node(&self, name: &str) -> Option<&MobilePlan> {
        self.mobile_nodes.iter().find(|plan| plan.name == name)
    }

    /// Whether binding messages go through the payload tunnel (RFC 4877 5, third case).
    pub fn tunnels_updates(&self) -> bool {
        self.access.is_none() && signalling::tunnels_updates(self.protect.iter())
    }

    fn reqids(&self, plan: &MobilePlan) -> BTreeMap<Protected, Reqids> {
        let shifted = |reqid: Reqid| Reqid(reqid.0.saturating_add(plan.reqid_offset));
        let pair = |what: &Protected| {
            let usual = what.usual_reqids();
            (*what, Reqids { to_home_agent: shifted(usual.to_home_agent), to_mobile_node: shifted(usual.to_mobile_node) })
        };
        self.protect.iter().map(pair).collect()
    }

    /// The one suite of child SAs: the scenarios are about movement, and a thousand runs must not take an hour. PF_KEY has no AEAD.
    pub const fn esp(&self) -> &'static str {
        match self.personality {
            // The one integrity algorithm whose length is the same in every KAME.
            Personality::Shisa(_) => "aes128-sha1",
            Personality::Mip6d if self.pf_key.is_empty() => "aes128gcm16",
            Personality::Mip6d => "aes128-sha512",
        }
    }

    pub(crate) fn terms(&self, binding: BindingSelector) -> Terms {
        let ike = IkeProposal::parse("aes128gcm16-prfsha256-x25519").into_iter().collect();
        let esp = ChildProposal::parse(self.esp()).into_iter().collect();
        Terms {
            binding_selector: binding,
            protect: self.protect.iter().map(|what| (*what, what.usual_reqids())).collect(),
            ike,
            esp,
            ike_lifetime: self.ike_lifetime,
            child_lifetime: self.child_lifetime,
            dormant: self.dormant,
            movements: self.movements,
            ..Terms::default()
        }
    }

    pub(crate) fn identity(name: &str) -> Identity {
        Identity::Fqdn(format!("{name}.example"))
    }

    /// The agent's configuration on a mobile node; its remote is called `home-agent`.
    pub fn mobile_config(&self, plan: &MobilePlan) -> Config {
        if self.access.is_some() {
            return self.road_warrior_config(plan);
        }
        // The other settings are the home agent's.
        let movements = Movements { key_mobility: self.movements.key_mobility, source: self.node_source(), ..Movements::default() };
        let terms = Terms { protect: self.reqids(plan), liveness: Some(self.liveness), movements, ..self.terms(self.binding) };
        let mut config = mobile_node(self.knowing_both(self.without_home(MobileNodeProfile {
            home_address: plan.home_address(),
            home_agent: HOME_AGENT,
            identity: Self::identity(plan.name),
            home_agent_identity: Self::identity(HA),
            secret: SecretId(u32::from(plan.number)),
            networks: self.networks_of(plan).into_iter().chain(self.claimed_by(plan).map(IpNet::from)).collect(),
            terms,
            ..MobileNodeProfile::default()
        })));
        self.begins(plan, &mut config);
        if self.by_hand {
            by_hand::replace(&mut config, &[plan.number], true);
        }
        config
    }

    /// What moves IKE on the mobile nodes.
    pub const fn node_source(&self) -> MovementSource {
        match self.personality {
            Personality::Shisa(_) if self.follows_addresses => MovementSource::Addresses,
            Personality::Mip6d | Personality::Shisa(_) => MovementSource::Kernel,
        }
    }

    /// The home address of another node that this one asks for.
    pub fn claimed_by(&self, plan: &MobilePlan) -> Option<IpAddr> {
        let (_, other) = self.claims.filter(|(who, _)| *who == plan.name)?;
        self.mobile_node(other).map(MobilePlan::home_address)
    }

    fn networks_of(&self, plan: &MobilePlan) -> Vec<IpNet> {
        self.networks.then(|| plan.network()).into_iter().collect()
    }

    /// The mobile node behind which an address is.
    pub fn network_of(&self, address: IpAddr) -> Option<&MobilePlan> {
        self.mobile_nodes.iter().find(|plan| self.networks && plan.network().contains(&address))
    }

    /// The socket on which the agents hear MIGRATE.
    pub const fn migrate_source(&self) -> MigrateSource {
        match self.personality {
            Personality::Mip6d => MigrateSource::Netlink,
            Personality::Shisa(_) => MigrateSource::PfKey,
        }
    }

    /// The agent's configuration on the home agent.
    pub fn home_config(&self) -> Config {
        self.home_config_of(HA)
    }

    /// The agent's configuration on the home agent of this name; its remotes are called like the mobile nodes.
    pub fn home_config_of(&self, name: &str) -> Config {
        if self.access.is_some() {
            return self.gateway_config(false);
        }
        let served = |plan: &MobilePlan| {
            self.served_without_home(ServedNode {
                name: plan.name.to_owned(),
                home_address: plan.home_address(),
                identity: Self::identity(plan.name),
                secret: SecretId(u32::from(plan.number)),
                reqids: self.reqids(plan),
                networks: self.networks_of(plan),
                ..ServedNode::default()
            })
        };
        let mut config = home_agent(self.sending_on(
            name,
            self.gives(HomeAgentProfile {
                home_agent: Self::home_agent_address(name),
                identity: Self::identity(HA),
                mobile_nodes: self.mobile_nodes.iter().map(served).collect(),
                terms: self.terms(self.peer_binding.unwrap_or(self.binding)),
                ..HomeAgentProfile::default()
            }),
        ));
        if self.by_hand {
            let numbers: Vec<u16> = self.mobile_nodes.iter().map(|plan| plan.number).collect();
            by_hand::replace(&mut config, &numbers, false);
        }
        config
    }

    /// The agent's configuration on the home agent as it is when it is read again.
    pub fn home_config_again(&self) -> Config {
        if self.access.is_some() { self.gateway_config(true) } else { self.home_config() }
    }

    /// The secrets of every pair; each mobile node knows only its own.
    pub fn secrets(&self) -> BTreeMap<SecretId, Secret> {
        let secret = |plan: &MobilePlan| (SecretId(u32::from(plan.number)), Secret::new(format!("secret of {}", plan.name).into_bytes()));
        let shared = self.mobile_nodes.iter().map(secret);
        let by_hand = self.mobile_nodes.iter().filter(|_| self.by_hand).flat_map(|plan| by_hand::keys(plan.number));
        shared.chain(by_hand).chain(self.wrong_keys()).collect()
    }

    fn agreement(&self, plan: &MobilePlan, binding: BindingSelector, moves_keys: bool) -> Agreement {
        let reqids = self.reqids(plan);
        Agreement {
            home_address: plan.home_address(),
            home_agent: HOME_AGENT,
            protect: self.protect.iter().filter_map(|what| Some((*what, *reqids.get(what)?))).collect(),
            binding,
            lifetime: self.binding_lifetime,
            moves_keys,
            personality: self.personality,
            networks: self.networks_of(plan),
        }
    }

    /// The signalling node's settings on a mobile node.
    pub fn mobile_signalling(&self, plan: &MobilePlan) -> MobileSettings {
        MobileSettings {
            agreement: self.agreement(plan, self.binding, self.daemons_move_keys.0),
            sequence: 47_000_u16.saturating_add(plan.number.saturating_mul(100)),
            correspondent: self.home_test.then_some(CORRESPONDENT),
            prefix_discovery: self.protect.contains(&Protected::PrefixDiscovery),
            deaf_at_first: false,
            decision: self.decision,
        }
    }

    /// The signalling node's settings on the home agent as it boots.
    pub fn home_signalling(&self) -> HomeSettings {
        match self.bootstrap {
            Some(_) => HomeSettings { address: HOME_AGENT, agreements: Vec::new() },
            None => self.every_home_signalling(),
        }
    }

    pub(crate) fn every_home_signalling(&self) -> HomeSettings {
        let binding = self.peer_binding.unwrap_or(self.binding);
        let agreement = |plan: &MobilePlan| self.agreement(plan, binding, self.daemons_move_keys.1);
        HomeSettings { address: HOME_AGENT, agreements: self.mobile_nodes.iter().map(agreement).collect() }
    }
}
