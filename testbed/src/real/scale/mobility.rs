//! The home agent's Mobile IPv6 daemon: for each node the simulator's own state machine of it, carried out by netlink. Binding updates
//! are handed to it as they would arrive; what it answers leaves through the kernel, in ESP.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use watari_kernel::mirror::{Packet, Upper};
use watari_mip6::Message;
use watari_mip6::message::UpdateFlags;
use watari_mip6::option::alternate_care_of;
use watari_policies::profile::{BindingSelector, Protected, Reqids};
use watari_policies::selector::MOBILITY_HEADER;
use watari_policies::{Config, Identity, RemoteId, Secret};
use watari_sim::fleet::{HOME_AGENT, home_agent_file, name, nodes_file};
use watari_sim::signalling::home::HomeSettings;
use watari_sim::signalling::{Agreement, HomeAgent, Input, Output, Personality};
use watari_sys::{MobilitySend, MobilitySocket};

use super::super::kernel::{EspSa, Kernel};
use crate::uml::{Context, Failure, Result};

/// Lifetime of a binding: longer than any run.
const LIFETIME: Duration = Duration::from_secs(3600);

/// What a node asks for: its home address is at a care-of address now.
pub(super) struct Update {
    /// Number of the node.
    pub(super) node: u32,
    /// Home address.
    pub(super) home: IpAddr,
    /// The care-of address.
    pub(super) care_of: IpAddr,
}

/// The daemon, with the sockets of the home agent's host.
pub(super) struct Daemon {
    config: Config,
    kernel: Kernel,
    socket: MobilitySocket,
    begin: Instant,
    bindings: BTreeMap<IpAddr, (HomeAgent, Option<Duration>)>,
    /// What the kernel refused, in words.
    pub(super) complaints: Vec<String>,
}

impl Daemon {
    /// Opens the sockets in the calling thread's network namespace; the daemon knows what the home agent's configuration says of nodes.
    pub(super) fn open(nodes: u32, ike_lifetime: u64) -> Result<Self> {
        let file = nodes_file(nodes);
        let source = move |_: &str| Ok(Secret::from(file.as_bytes()));
        let text = home_agent_file("/nodes", "mip6d", ike_lifetime);
        let loaded = watari_policies::config::load(&text, "ha.toml", &source).context("the home agent's configuration")?;
        Ok(Self {
            config: loaded.config,
            kernel: Kernel::open()?,
            socket: MobilitySocket::open().context("raw MH socket")?,
            begin: Instant::now(),
            bindings: BTreeMap::new(),
            complaints: Vec::new(),
        })
    }

    /// The home agent's kernel, asked for its ESP SAs.
    pub(super) fn esp_sas(&mut self) -> Result<Vec<EspSa>> {
        self.kernel.esp_sas()
    }

    /// Where the daemon believes a home address to be.
    pub(super) fn care_of(&self, home: IpAddr) -> Option<IpAddr> {
        self.bindings.get(&home).and_then(|(daemon, _)| daemon.care_of(home))
    }

    /// A binding update arrives.
    pub(super) fn update(&mut self, Update { node, home, care_of }: &Update) -> Result<()> {
        if !self.bindings.contains_key(home) {
            let agreements = vec![self.agreement(*node, *home)?];
            let daemon = HomeAgent::new(HomeSettings { address: HOME_AGENT, agreements });
            self.bindings.insert(*home, (daemon, None));
            self.tell(*home, Input::Start)?;
        }
        let sequence = self.bindings.get(home).map_or(0, |(daemon, _)| daemon.next_sequence(*home));
        let options = match care_of {
            IpAddr::V6(address) => alternate_care_of(*address),
            IpAddr::V4(_) => Vec::new(),
        };
        let message = Message::Update {
            sequence,
            flags: UpdateFlags(UpdateFlags::ACKNOWLEDGE | UpdateFlags::HOME | UpdateFlags::KEY_MOBILITY),
            lifetime: u16::try_from(LIFETIME.as_secs() / 4).unwrap_or(u16::MAX),
            options,
        };
        let upper = Upper { protocol: MOBILITY_HEADER, sport: u16::from(message.number()), dport: 0, payload: message.encode() };
        self.tell(*home, Input::Packet(Packet::clear(*home, HOME_AGENT, upper)))
    }

    /// Does what is due.
    pub(super) fn turn(&mut self) -> Result<()> {
        let now = self.begin.elapsed();
        let due = |(home, (_, deadline)): (&IpAddr, &(HomeAgent, Option<Duration>))| deadline.filter(|at| *at <= now).map(|_| *home);
        let due: Vec<IpAddr> = self.bindings.iter().filter_map(due).collect();
        due.into_iter().try_for_each(|home| self.tell(home, Input::Timeout))
    }

    /// What the configuration says of a node's protection, under the reqids that it was allotted.
    fn agreement(&self, node: u32, home: IpAddr) -> Result<Agreement> {
        let identity = Identity::Fqdn(name(node));
        let remote = self.config.remotes.iter().position(|remote| remote.remote_identity == identity);
        let remote = remote.and_then(|at| u32::try_from(at).ok()).map(RemoteId);
        let remote = remote.ok_or_else(|| Failure(format!("the home agent knows no {}", name(node))))?;
        let reqids = |what: &Protected| {
            let policy = self.config.policies.iter().find(|policy| policy.remote == remote && policy.name == what.name())?;
            Some((*what, Reqids { to_home_agent: policy.reqid_in, to_mobile_node: policy.reqid_out }))
        };
        Ok(Agreement {
            home_address: home,
            home_agent: HOME_AGENT,
            protect: Protected::ALL.iter().filter_map(reqids).collect(),
            binding: BindingSelector::Any,
            lifetime: LIFETIME,
            moves_keys: true,
            personality: Personality::Mip6d,
            networks: Vec::new(),
        })
    }

    fn tell(&mut self, home: IpAddr, input: Input) -> Result<()> {
        let now = self.begin.elapsed();
        let Some((daemon, deadline)) = self.bindings.get_mut(&home) else { return Ok(()) };
        daemon.handle(now, input);
        let mut wanted = Vec::new();
        loop {
            match daemon.poll() {
                Output::Wait(next) => {
                    *deadline = next;
                    break;
                }
                output => wanted.push(output),
            }
        }
        wanted.iter().try_for_each(|output| self.carry_out(output))
    }

    fn carry_out(&mut self, output: &Output) -> Result<()> {
        let errno = match output {
            Output::SetPolicy(policy) => self.kernel.set_policy(policy)?,
            Output::DeletePolicy { selector, direction, kind } => self.kernel.delete_policy(selector, *direction, *kind)?,
            Output::SetState(state) => self.kernel.set_mobility_state(state)?,
            Output::DeleteState(state) => self.kernel.delete_mobility_state(state)?,
            Output::Migrate(request) => self.kernel.migrate(request)?,
            Output::Send(packet) => self.send(packet),
            // Nobody is on the home link to be answered for a home address, and this kernel is not KAME's.
            Output::Proxy { .. } | Output::HomeAddress(_) | Output::Rebind(..) | Output::SetAside(_) | Output::PutBack(_) => 0,
            Output::Event(_) | Output::Wait(_) => 0,
        };
        if errno != 0 {
            self.complaints.push(format!("the home agent's kernel refuses with errno {errno}: {output:?}"));
        }
        Ok(())
    }

    /// Hands a binding acknowledgement to the kernel; 0 or why it did not want it.
    fn send(&self, packet: &Packet) -> i32 {
        let (Some(upper), IpAddr::V6(source), IpAddr::V6(destination)) = (packet.upper(), packet.src, packet.dst) else { return 0 };
        let message = MobilitySend { bytes: &upper.payload, source, destination, interface: 0, home_address: None, routing: None };
        self.socket.send(&message).err().and_then(|error| error.raw_os_error()).unwrap_or(0)
    }
}
