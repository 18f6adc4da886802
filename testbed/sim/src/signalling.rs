//! A Mobile IPv6 signalling node with the personality of mip6d or of SHISA: policies, states, what is told of a movement, binding updates
//! and acknowledgements. A pure state machine: the simulator and the real runner drive the very same node.
//! Invariant: every MIGRATE of a move by mip6d leaves before the binding update (mobile node) or the acknowledgement (home agent) does.

pub mod home;
pub mod mobile;
mod spd;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;
use watari_kernel::mirror::{MigrateRequest, MobilityState, Packet, Rebound, Upper};
use watari_kernel::{PolicyEntry, PolicyKind};
use watari_mip6::Message;
use watari_policies::profile::{BindingSelector, Protected, Reqids};
use watari_policies::selector::{ICMPV6, MOBILITY_HEADER};
use watari_policies::{Direction, Mode, Selector};

pub use home::HomeAgent;
pub use mobile::MobileNode;

/// Status "duplicate address detection failed" (RFC 6275 6.1.8).
const DUPLICATE: u8 = 134;
/// ICMPv6 type of a mobile prefix solicitation (RFC 6275 6.7).
pub const PREFIX_SOLICITATION: u16 = 146;
/// ICMPv6 type of a mobile prefix advertisement (RFC 6275 6.8).
pub const PREFIX_ADVERTISEMENT: u16 = 147;

/// Whose ways a signalling node has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Personality {
    /// mip6d of UMIP on Linux: it migrates transport and tunnel policies itself, before the binding update leaves, and home again.
    #[default]
    Mip6d,
    /// SHISA on KAME: static policies; the kernel moves tunnels when a binding changes and tells so this way, after the acknowledgement
    /// (mobile node) or before it (home agent). It says nothing of transport policies, and nothing at all on return home.
    Shisa(Rebound),
}

/// What mobile node and home agent agree on, as both daemons are configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Agreement {
    /// Home address.
    pub home_address: IpAddr,
    /// Home agent.
    pub home_agent: IpAddr,
    /// What is protected and under which reqids, in the order in which it is migrated.
    pub protect: Vec<(Protected, Reqids)>,
    /// Whether policies for binding messages carry a type.
    pub binding: BindingSelector,
    /// Lifetime of a binding.
    pub lifetime: Duration,
    /// Whether this end's daemon says that key management follows movements (mip6d: KeyMngMobCapability).
    pub moves_keys: bool,
    /// Whose ways this end's daemon has.
    pub personality: Personality,
    /// Networks behind the mobile node, protected like payload.
    pub networks: Vec<IpNet>,
}

impl Agreement {
    //= rfc4877#5
    //# everything that the mobile node sends may go through one tunnel SA for any protocol, Mobile IPv6 signalling included
    /// Whether binding messages are payload like all the rest: no home address option, no routing header, the tunnel's policies alone. The
    /// inbound ones stand at the home agent without binding too, open to any care-of address, because the first update needs them. At home
    /// there is no tunnel and nothing for the update that ends a binding: nodes with this agreement stay away.
    pub fn tunnels_updates(&self) -> bool {
        tunnels_updates(self.protect.iter().map(|(what, _)| what))
    }
}

/// Whether binding messages are payload where this is protected.
pub(crate) fn tunnels_updates<'a>(mut protect: impl Iterator<Item = &'a Protected> + Clone) -> bool {
    !protect.clone().any(|what| *what == Protected::Binding) && protect.any(|what| *what == Protected::Payload)
}

/// What reaches a signalling node.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The node begins; the home agent's links are up.
    Start,
    /// An address was configured on the link just attached, tentative or not.
    Attached {
        /// The address.
        address: IpAddr,
        /// Whether the link is the home link.
        home: bool,
    },
    /// An address is gone, and the link it was on.
    Detached(IpAddr),
    /// A Mobility Header or prefix discovery message arrived, with the addresses the upper layers see.
    Packet(Packet),
    /// On a mobile node: the key manager says which home agent to register with.
    HomeAgent(IpAddr),
    /// On a home agent: every mobile node is to go to another one.
    SendAway(IpAddr),
    /// The time of `Wait` has come.
    Timeout,
}

/// Where a home address lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HomeAddressAt {
    /// On the home link's interface.
    Link,
    /// On the tunnel interface, while away.
    Tunnel,
}

/// What a signalling node wants done, in this order and at once.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Add a policy or replace the one with the same selector, direction and kind.
    SetPolicy(PolicyEntry),
    /// Delete a policy.
    DeletePolicy {
        /// Selector.
        selector: Selector,
        /// Direction.
        direction: Direction,
        /// Policy set.
        kind: PolicyKind,
    },
    /// Add a Mobile IPv6 state or change its care-of address.
    SetState(MobilityState),
    /// Delete a Mobile IPv6 state.
    DeleteState(MobilityState),
    /// Migrate a policy.
    Migrate(MigrateRequest),
    /// The kernel itself moves a tunnel policy and its SAs.
    Rebind(MigrateRequest, Rebound),
    /// A policy has no effect from now on, of which nobody is told.
    SetAside(PolicyEntry),
    /// A policy has effect again, of which nobody is told.
    PutBack(PolicyEntry),
    /// Send a packet; its source is the home address or the home agent, policies do the rest.
    Send(Packet),
    /// Put the home address where it belongs.
    HomeAddress(HomeAddressAt),
    /// Answer for a home address on the home link, or stop doing so.
    Proxy {
        /// The home address.
        home_address: IpAddr,
        /// Whether to answer.
        on: bool,
    },
    /// Something worth a line in the timeline.
    Event(SignalEvent),
    /// Nothing more until an input or this time.
    Wait(Option<Duration>),
}

/// Something worth a line in the timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalEvent {
    /// The node has a new place; MIGRATE messages follow.
    Moving {
        /// Care-of address or home address it leaves, if there was one.
        from: Option<IpAddr>,
        /// Care-of address or home address it goes to.
        to: IpAddr,
    },
    /// A binding update was handed to the kernel.
    UpdateSent {
        /// Care-of address.
        care_of: IpAddr,
        /// Sequence number.
        sequence: u16,
        /// Whether it ends the binding.
        ends: bool,
        /// Repeats before this one.
        repeats: u32,
    },
    /// The home agent accepted a binding update.
    Accepted {
        /// Home address.
        home_address: IpAddr,
        /// Care-of address.
        care_of: IpAddr,
    },
    /// The home agent ended a binding.
    Ended {
        /// Home address.
        home_address: IpAddr,
    },
    /// The mobile node got its acknowledgement: data may flow again.
    Acknowledged {
        /// Care-of address, or home address when at home.
        at: IpAddr,
    },
    /// The home agent refused the mobile node's binding update because another host has its home address (status 134).
    Duplicate {
        /// The home address.
        home_address: IpAddr,
    },
    /// The home agent tells a mobile node to go to another one (RFC 5142).
    SendsAway {
        /// Home address.
        home_address: IpAddr,
        /// The other home agent.
        to: IpAddr,
    },
    /// The mobile node uses its home agent no longer, and ends its binding there.
    Leaving {
        /// The home agent it leaves.
        home_agent: IpAddr,
    },
    /// The home agent ended the binding of a mobile node that is still away.
    Gone {
        /// Home address.
        home_address: IpAddr,
    },
    /// A Home Test came back through the tunnel.
    HomeTested,
    /// A prefix advertisement came back.
    PrefixAdvertised,
}

/// Outputs and timers, the same for both roles.
#[derive(Clone, Debug, Default)]
struct Agenda<T> {
    outputs: VecDeque<Output>,
    timers: Vec<(Duration, T)>,
}

impl<T: PartialEq> Agenda<T> {
    fn put(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    fn event(&mut self, event: SignalEvent) {
        self.put(Output::Event(event));
    }

    /// Sets a timer; an earlier one of the same kind is forgotten.
    fn set(&mut self, at: Duration, timer: T) {
        self.clear(&timer);
        self.timers.push((at, timer));
    }

    fn clear(&mut self, timer: &T) {
        self.timers.retain(|(_, other)| other != timer);
    }

    fn due(&mut self, now: Duration) -> Option<T> {
        let next = self.timers.iter().enumerate().filter(|(_, (at, _))| *at <= now).min_by_key(|(_, (at, _))| *at)?.0;
        Some(self.timers.remove(next).1)
    }

    fn poll(&mut self) -> Output {
        self.outputs.pop_front().unwrap_or_else(|| Output::Wait(self.timers.iter().map(|(at, _)| *at).min()))
    }
}

/// The tunnels of a KAME kernel: static policies that have an effect only while a binding stands.
#[derive(Clone, Copy, Debug, Default)]
struct Tunnels {
    /// The care-of address they lead to; none until the first binding.
    at: Option<IpAddr>,
    standing: bool,
}

impl Tunnels {
    fn policies(self, agreement: &Agreement, end: spd::End) -> impl Iterator<Item = PolicyEntry> + use<> {
        let at = self.at.unwrap_or(agreement.home_address);
        spd::ipsec(agreement, end, Mode::Tunnel, at).into_iter().map(|policy| policy.entry)
    }

    /// The binding is at this care-of address now.
    fn rebind(&mut self, agreement: &Agreement, end: spd::End, care_of: IpAddr, tells: Rebound) -> Vec<Output> {
        let back: Vec<_> = if self.standing { Vec::new() } else { self.policies(agreement, end).map(Output::PutBack).collect() };
        self.standing = true;
        let old = self.at.replace(care_of).unwrap_or(agreement.home_address);
        let moves = if old == care_of { Vec::new() } else { spd::migrates(agreement, end, Mode::Tunnel, old, care_of) };
        back.into_iter().chain(moves.into_iter().map(|request| Output::Rebind(request, tells))).collect()
    }

    /// The binding is gone: the policies stay where they lead, and have no effect.
    fn rest(&mut self, agreement: &Agreement, end: spd::End) -> Vec<Output> {
        self.standing = false;
        self.policies(agreement, end).map(Output::SetAside).collect()
    }

    /// What stands from the start without effect.
    fn start(&mut self, agreement: &Agreement, end: spd::End) -> Vec<Output> {
        let told = self.policies(agreement, end).map(Output::SetPolicy).collect::<Vec<_>>();
        told.into_iter().chain(self.rest(agreement, end)).collect()
    }
}

/// Either role.
#[derive(Clone, Debug)]
pub enum Node {
    /// A mobile node.
    Mobile(Box<MobileNode>),
    /// A home agent.
    Home(HomeAgent),
}

impl Node {
    /// Takes an input; `now` is boot time.
    pub fn handle(&mut self, now: Duration, input: Input) {
        match self {
            Self::Mobile(node) => node.handle(now, input),
            Self::Home(node) => node.handle(now, input),
        }
    }

    /// The next thing wanted; call until `Wait`.
    pub fn poll(&mut self) -> Output {
        match self {
            Self::Mobile(node) => node.poll(),
            Self::Home(node) => node.poll(),
        }
    }
}

/// A Mobility Header packet; the checksum is left to whoever puts it on a real wire.
fn mobility_packet(src: IpAddr, dst: IpAddr, message: &Message) -> Packet {
    let upper = Upper { protocol: MOBILITY_HEADER, sport: u16::from(message.number()), dport: 0, payload: message.encode() };
    Packet::clear(src, dst, upper)
}

fn icmp_packet(src: IpAddr, dst: IpAddr, message_type: u16) -> Packet {
    // Identifier and reserved octets of RFC 6275 6.7; nothing reads them here.
    Packet::clear(src, dst, Upper { protocol: ICMPV6, sport: message_type, dport: 0, payload: vec![0; 4] })
}

const fn v6(address: IpAddr) -> Option<Ipv6Addr> {
    match address {
        IpAddr::V6(address) => Some(address),
        IpAddr::V4(_) => None,
    }
}

#[cfg(test)]
mod tests;
