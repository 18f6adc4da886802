//! What a kernel was measured to do, as a list of acts that any kernel can be put through: the mirror in a unit test, Linux in UML.
//! An act says what it does and expects; it returns the differences it saw. The mirror is right as long as no act tells it from Linux.

mod daemon;
mod headers;
mod outer;
mod packets;
mod requests;

use std::fmt::Debug;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use watari_policies::algorithm::{ChildSuite, Cipher, Integrity};
use watari_policies::selector::MOBILITY_HEADER;
use watari_policies::{Direction, Mode, Protocol, Reqid, Secret, Selector};

use crate::mirror::{Body, Departure, MigrateRequest, MobilityState, Model, Packet, Upper};
use crate::{
    Capability, Endpoints, KernelError, KernelEvent, KernelReply, KernelRequest, KmAddress, Migrate, MigrateSource, MigrateStep,
    PolicyAction, PolicyEntry, PolicyIndex, PolicyKind, SaId, SaInfo, SaKeys, SaLifetime, SaParameters, Spi, Template,
};

/// A kernel that can be put through the acts, seen by three: the key-management daemon, the Mobile IPv6 daemon and the network.
/// It is the kernel of the mobile node: [`HOA`], [`COA1`] and [`COA2`] are its own usable addresses; on the link is one peer, [`HA`].
pub trait KernelUnderTest {
    /// Which kernel's answers are expected where they differ.
    fn model(&self) -> Model;
    /// What the key-management daemon's back end found out about it.
    fn capability(&self) -> Capability;
    /// How long an unanswered ACQUIRE blocks the next one (xfrm_acq_expires); 30 s unless shortened for the test.
    fn larval_lifetime(&self) -> Duration;
    /// Empties the SAD and the SPD, the peer's as well, and forgets events.
    fn reset(&mut self);
    /// Lets time pass.
    fn wait(&mut self, time: Duration);
    /// What was reported since the last call, in order, as netlink tells it (copies from PF_KEY left out).
    fn events(&mut self) -> Vec<KernelEvent>;
    /// A request of the key-management daemon, through its back end.
    ///
    /// # Errors
    /// What the kernel or the back end refuses.
    fn request(&mut self, request: KernelRequest) -> Result<KernelReply, KernelError>;
    /// The Mobile IPv6 daemon adds a policy.
    ///
    /// # Errors
    /// errno.
    fn set_policy(&mut self, policy: &PolicyEntry) -> Result<(), i32>;
    /// The Mobile IPv6 daemon deletes a policy.
    ///
    /// # Errors
    /// errno.
    fn delete_policy(&mut self, selector: &Selector, direction: Direction, kind: PolicyKind) -> Result<(), i32>;
    /// The Mobile IPv6 daemon adds a state.
    fn set_mobility_state(&mut self, state: &MobilityState);
    /// The Mobile IPv6 daemon migrates a policy.
    ///
    /// # Errors
    /// errno.
    fn migrate(&mut self, request: &MigrateRequest) -> Result<(), i32>;
    /// This host sends a packet in clear; tells what left.
    fn send(&mut self, packet: &Packet) -> Sent;
    /// Gives the peer at [`HA`] policies, Mobile IPv6 states and an SA for what it sends from now on.
    fn equip_peer(&mut self, policies: &[PolicyEntry], states: &[MobilityState], sa: &SaParameters);
    /// The peer sends a packet, given in clear; whether it reached its socket here.
    fn arrive(&mut self, packet: &Packet) -> bool;
    /// The peer sends a packet for [`FAR`] through this host; tells what left towards it.
    fn forward(&mut self, packet: &Packet) -> Sent;
}

/// What was seen on the link after a packet was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Nothing.
    Nothing,
    /// The packet in clear.
    Clear,
    /// ESP between these outer addresses under this SPI.
    Esp(Endpoints, Spi),
}

impl From<Departure> for Sent {
    fn from(departure: Departure) -> Self {
        match departure {
            Departure::Protected(Packet { src, dst, body: Body::Esp(esp), .. }) => Self::Esp(Endpoints { src, dst }, esp.spi),
            Departure::Pass(_) | Departure::Protected(_) => Self::Clear,
            Departure::Dropped { .. } => Self::Nothing,
        }
    }
}

/// One act.
#[derive(Clone, Copy)]
pub struct Act {
    /// Its name on the command line and in reports.
    pub name: &'static str,
    /// What the kernel is expected to do.
    pub sentence: &'static str,
    /// Puts a kernel through it and returns what was not as expected.
    pub run: fn(&mut dyn KernelUnderTest) -> Vec<String>,
}

/// Every act.
pub fn all() -> Vec<Act> {
    daemon::ACTS.iter().chain(packets::ACTS).chain(headers::ACTS).chain(outer::ACTS).chain(requests::ACTS).copied().collect()
}

const fn address(site: u16, host: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, site, 0, 0, 0, 0, host))
}

/// The mobile node's home address.
pub const HOA: IpAddr = address(1, 0xabcd);
/// The home agent.
pub const HA: IpAddr = address(1, 1);
/// The mobile node's first care-of address.
pub const COA1: IpAddr = address(0xf1, 0xe);
/// The mobile node's second care-of address.
pub const COA2: IpAddr = address(0xf2, 0xe);

/// The home address of the peer where it plays a mobile node, [`HA`] being its care-of address then.
pub const HOA2: IpAddr = address(2, 0xabcd);
/// A host behind this one, as the peer sees it.
pub const FAR: IpAddr = address(9, 9);

/// Collects differences between what was expected and what was seen.
#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn expect<T: PartialEq + Debug>(&mut self, what: &str, found: T, expected: T) {
        if found != expected {
            self.0.push(format!("{what}: expected {expected:?}, found {found:?}"));
        }
    }
}

const fn ends(src: IpAddr, dst: IpAddr) -> Endpoints {
    Endpoints { src, dst }
}

const UNSPECIFIED: Endpoints = ends(IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED));

fn host_pair(src: IpAddr, dst: IpAddr) -> Selector {
    Selector::between(src.into(), dst.into())
}

fn mh(src: IpAddr, dst: IpAddr) -> Selector {
    host_pair(src, dst).protocol(MOBILITY_HEADER)
}

fn policy(selector: Selector, direction: Direction, priority: u32, templates: Vec<Template>) -> PolicyEntry {
    PolicyEntry { selector, direction, kind: PolicyKind::Main, index: PolicyIndex(0), priority, action: PolicyAction::Allow, templates }
}

fn block(selector: Selector, direction: Direction, priority: u32, kind: PolicyKind) -> PolicyEntry {
    PolicyEntry { kind, action: PolicyAction::Block, ..policy(selector, direction, priority, Vec::new()) }
}

fn transport(reqid: u32) -> Template {
    Template::esp(Mode::Transport, Reqid(reqid), UNSPECIFIED)
}

fn tunnel(reqid: u32, endpoints: Endpoints) -> Template {
    Template::esp(Mode::Tunnel, Reqid(reqid), endpoints)
}

/// An SA with AES-CBC and HMAC-SHA-256 under keys that follow from its SPI.
fn sa(spi: u32, mode: Mode, reqid: u32, endpoints: Endpoints, selector: Selector) -> SaParameters {
    let octet = spi.to_be_bytes().iter().fold(7_u8, |sum, octet| sum.wrapping_add(*octet));
    SaParameters {
        id: SaId { dst: endpoints.dst, protocol: Protocol::Esp, spi: Spi(spi) },
        src: endpoints.src,
        mode,
        reqid: Reqid(reqid),
        selector,
        keys: SaKeys {
            suite: ChildSuite { cipher: Cipher::AES128, integrity: Some(Integrity::HmacSha256_128), esn: false },
            encryption: Secret::new(vec![octet; 16]),
            integrity: Secret::new(vec![octet; 32]),
        },
        replay_window: 32,
        lifetime: SaLifetime::default(),
        encapsulation: None,
    }
}

fn step(mode: Mode, reqid: u32, old: Endpoints, new: Endpoints) -> MigrateStep {
    MigrateStep { protocol: Protocol::Esp, mode, reqid: Reqid(reqid), old, new }
}

fn migrate(selector: Selector, direction: Direction, step: MigrateStep) -> MigrateRequest {
    let kmaddress = Some(KmAddress { local: COA2, remote: HA });
    MigrateRequest { selector, direction, kind: PolicyKind::Main, steps: vec![step], kmaddress }
}

fn broadcast(request: &MigrateRequest) -> Migrate {
    Migrate {
        selector: request.selector,
        direction: request.direction,
        steps: request.steps.clone(),
        kmaddress: request.kmaddress,
        source: MigrateSource::Netlink,
    }
}

fn mh_packet(src: IpAddr, dst: IpAddr, message_type: u16) -> Packet {
    // Next header 59, further 8-octet units (Linux drops less as malformed: a test carries a token), the type, reserved, checksum, data.
    let units = if matches!(message_type, 3 | 4) { 2 } else { 1 };
    let mut payload = vec![59, units, message_type.to_be_bytes()[1]];
    payload.resize(usize::from(units).saturating_add(1).saturating_mul(8), 0);
    Packet::clear(src, dst, Upper { protocol: MOBILITY_HEADER, sport: message_type, dport: 0, payload })
}

fn udp_packet(src: IpAddr, dst: IpAddr, port: u16) -> Packet {
    Packet::clear(src, dst, Upper { protocol: 17, sport: port, dport: port, payload: b"act".to_vec() })
}

fn install(kernel: &mut dyn KernelUnderTest, parameters: SaParameters) -> Option<i32> {
    kernel.request(KernelRequest::AddSa { parameters: Box::new(parameters), allocated: false, sequence: 0 }).err().map(|error| error.errno)
}

fn query(kernel: &mut dyn KernelUnderTest, spi: u32, dst: IpAddr) -> Option<SaInfo> {
    match kernel.request(KernelRequest::QuerySa(SaId { dst, protocol: Protocol::Esp, spi: Spi(spi) })) {
        Ok(KernelReply::Sa(info)) => info,
        _ => None,
    }
}

fn source_of(kernel: &mut dyn KernelUnderTest, spi: u32, dst: IpAddr) -> Option<IpAddr> {
    query(kernel, spi, dst).map(|info| info.src)
}

fn migrates(events: &[KernelEvent]) -> Vec<Migrate> {
    let one = |event: &KernelEvent| match event {
        KernelEvent::Migrate(migrate) => Some(migrate.clone()),
        _ => None,
    };
    events.iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests;
