//! One host: kernel, agent, Mobile IPv6 daemon, addresses and where it is plugged in.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use watari_engine::{Agent, Input, Listen};
use watari_kernel::mirror::{Mirror, Model};
use watari_kernel::{AddressEvent, AddressFlags, Backend};
use watari_policies::Config;
use watari_sa::Undeliverable;

use super::key::KeyPath;
use super::network::Wire;
use crate::scenario::{CORRESPONDENT, Exchange, Link, MobilePlan, Scenario};
use crate::signalling::{HomeAddressAt, HomeAgent, MobileNode, Node};
use crate::timeline::Burst;

/// What a host is.
#[derive(Clone, Debug)]
pub(super) enum Role {
    HomeAgent,
    Correspondent,
    Mobile(MobilePlan),
}

/// Interface index of the Ethernet interface.
const ETHERNET: u32 = 2;
/// Interface index of the tunnel interface of a mobile node.
const TUNNEL: u32 = 4;
/// Interface index of a link that leads nowhere.
const SPARE: u32 = 3;
/// An address on it that looks nearer to the home agent than any care-of address.
const SPARE_ADDRESS: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 1, 0xff, 0, 0, 0, 5));
/// Interface index of the network behind a mobile node.
const INNER: u32 = 5;

pub(super) struct Host {
    pub(super) name: &'static str,
    pub(super) role: Role,
    pub(super) config: Config,
    pub(super) agent: Option<Agent>,
    pub(super) agent_deadline: Option<Duration>,
    /// Counts agents, so that work of a dead one is not given to its successor.
    pub(super) epoch: u32,
    pub(super) inputs: VecDeque<Input>,
    pub(super) mirror: Mirror,
    pub(super) mirror_deadline: Option<Duration>,
    /// How the agent reaches the kernel where that is KAME's.
    pub(super) key: Option<KeyPath>,
    /// Protected Mobility Header sockets that the agent has open.
    pub(super) listening: BTreeSet<Listen>,
    pub(super) node: Option<Node>,
    pub(super) node_deadline: Option<Duration>,
    pub(super) link: Option<Link>,
    pub(super) last_link: Option<Link>,
    /// Counts movements, so that what belongs to a link already left is forgotten.
    pub(super) moves: u32,
    pub(super) boots: u32,
    pub(super) proxies: BTreeSet<IpAddr>,
    pub(super) ambush: Option<(Exchange, Link)>,
    /// Packets that wait for neighbour discovery to find a tentative address.
    pub(super) held: Vec<Wire>,
    /// Whether a binding is acknowledged and the link has been there since.
    pub(super) window: bool,
    /// Whether its first protected ping was answered.
    pub(super) bootstrapped: bool,
    pub(super) burst: Burst,
    /// Why IKE could not be sent last, until it could.
    pub(super) waits: Option<Undeliverable>,
    /// Whether the Mobile IPv6 daemon has put the home address on the tunnel: it is away and knows it.
    pub(super) away: bool,
    /// Home addresses it was given, the one in force last.
    pub(super) homes: Vec<IpAddr>,
    /// On a home agent: the home address given to each mobile node.
    pub(super) serves: BTreeMap<&'static str, IpAddr>,
    /// Whether the host runs.
    pub(super) up: bool,
}

impl Host {
    pub(super) fn new(name: &'static str, role: Role) -> Self {
        Self {
            name,
            role,
            config: Config::default(),
            agent: None,
            agent_deadline: None,
            epoch: 0,
            inputs: VecDeque::new(),
            mirror: Mirror::new(Model::default(), 0),
            mirror_deadline: None,
            key: None,
            listening: BTreeSet::new(),
            node: None,
            node_deadline: None,
            link: None,
            last_link: None,
            moves: 0,
            boots: 0,
            proxies: BTreeSet::new(),
            ambush: None,
            held: Vec::new(),
            window: false,
            bootstrapped: false,
            burst: Burst::default(),
            waits: None,
            away: false,
            homes: Vec::new(),
            serves: BTreeMap::new(),
            up: false,
        }
    }

    /// Empty kernel, fresh Mobile IPv6 daemon, fixed addresses.
    pub(super) fn boot(&mut self, scenario: &Scenario, model: Model, first_spi: u32) {
        self.boots = self.boots.saturating_add(1);
        self.up = true;
        self.away = false;
        self.ambush = None;
        self.bootstrapped = false;
        self.mirror = Mirror::new(model, first_spi);
        self.mirror.listen(false);
        self.proxies.clear();
        self.held.clear();
        match self.role.clone() {
            Role::HomeAgent => {
                self.config = scenario.home_config_of(self.name);
                self.node = scenario.access.is_none().then(|| Node::Home(HomeAgent::new(scenario.home_signalling_of(self.name))));
                for address in super::access::fixed_addresses(scenario) {
                    self.answer_for(address, true);
                }
                self.link = Some(Link::Home);
                self.set_address(Scenario::home_agent_address(self.name), AddressFlags::default());
            }
            Role::Correspondent => {
                self.link = Some(Link::Core);
                self.set_address(CORRESPONDENT, AddressFlags::default());
            }
            Role::Mobile(plan) => {
                self.config = scenario.mobile_config(&plan);
                let mut settings = scenario.mobile_signalling(&plan);
                settings.sequence = settings.sequence.saturating_add(u16::try_from(self.boots.saturating_mul(1000)).unwrap_or(u16::MAX));
                self.node =
                    (scenario.access.is_none() && scenario.bootstrap.is_none()).then(|| Node::Mobile(Box::new(MobileNode::new(settings))));
                if scenario.access.is_some() && !scenario.is_assigned(&plan) {
                    self.place_inner_address(plan.home_address(), true);
                }
                self.link = None;
                if scenario.spare_address {
                    let event = AddressEvent {
                        interface: SPARE,
                        address: SPARE_ADDRESS,
                        prefix_len: 64,
                        present: true,
                        flags: AddressFlags::default(),
                    };
                    self.mirror.address(event);
                }
                if scenario.networks {
                    let (address, flags) = (plan.network_address(), AddressFlags::default());
                    self.mirror.address(AddressEvent { interface: INNER, address, prefix_len: 64, present: true, flags });
                }
            }
        }
    }

    /// Earliest time at which anything on this host wants to be called.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let agent = self.agent_deadline.filter(|_| self.agent.is_some());
        let node = self.node_deadline.filter(|_| self.node.is_some());
        [agent, self.mirror_deadline, node].into_iter().flatten().min()
    }

    pub(super) fn set_address(&mut self, address: IpAddr, flags: AddressFlags) {
        self.mirror.address(AddressEvent { interface: ETHERNET, address, prefix_len: 64, present: true, flags });
    }

    pub(super) fn remove_address(&mut self, address: IpAddr) {
        let flags = AddressFlags::default();
        self.mirror.address(AddressEvent { interface: ETHERNET, address, prefix_len: 64, present: false, flags });
    }

    /// The home address goes from one interface to the other: never both, never without a word.
    pub(super) fn place_home_address(&mut self, address: IpAddr, at: HomeAddressAt) {
        let (old, new) = match at {
            HomeAddressAt::Link => (TUNNEL, ETHERNET),
            HomeAddressAt::Tunnel => (ETHERNET, TUNNEL),
        };
        let event = |interface, present| AddressEvent {
            interface,
            address,
            prefix_len: 128,
            present,
            flags: AddressFlags { home: true, ..AddressFlags::default() },
        };
        self.away = at == HomeAddressAt::Tunnel;
        if self.mirror.address_flags(address).is_some() {
            self.mirror.address(event(old, false));
        }
        self.mirror.address(event(new, true));
    }

    /// An address inside a tunnel comes or goes on an interface that is no link.
    pub(super) fn place_inner_address(&mut self, address: IpAddr, present: bool) {
        self.away = present;
        let flags = AddressFlags::default();
        self.mirror.address(AddressEvent { interface: TUNNEL, address, prefix_len: 128, present, flags });
    }

    /// Whether a gateway takes what is sent to the address of a client.
    pub(super) fn answer_for(&mut self, address: IpAddr, on: bool) {
        if on {
            self.proxies.insert(address);
        } else {
            self.proxies.remove(&address);
        }
    }

    /// Whether a packet to this address on this link reaches the host itself.
    pub(super) fn answers(&self, link: Link, address: IpAddr) -> bool {
        self.link == Some(link) && link.prefix().contains(&address) && self.mirror.address_flags(address).is_some()
    }

    pub(super) fn is_tentative(&self, address: IpAddr) -> bool {
        self.mirror.address_flags(address).is_some_and(|flags| flags.tentative)
    }

    /// The address that the kernel takes as source when the agent leaves the choice to it: a home address goes first.
    pub(super) fn source(&self) -> Option<IpAddr> {
        let usable = || self.mirror.addresses().filter(|(_, flags)| !flags.tentative);
        usable().find(|(_, flags)| flags.home).or_else(|| usable().next()).map(|(address, _)| address)
    }

    pub(super) fn has_due(&self, now: Duration) -> (bool, bool, bool) {
        let due = |at: Option<Duration>| at.is_some_and(|at| at <= now);
        (due(self.agent_deadline) && self.agent.is_some(), due(self.mirror_deadline), due(self.node_deadline) && self.node.is_some())
    }

    pub(super) fn capability(&self) -> watari_kernel::Capability {
        self.key.as_ref().map_or_else(|| self.mirror.capabilities().clone(), KeyPath::capability)
    }
}
