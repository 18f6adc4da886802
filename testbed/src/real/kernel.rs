//! Requests to a real kernel as a Mobile IPv6 daemon makes them: policies of both sets, hao and route2 states, MIGRATE.
//! Written from the uapi headers and sharing no code with the agent's back end, so that it also judges it.

use std::net::IpAddr;

use ipnet::IpNet;
use watari_kernel::mirror::{MigrateRequest, MobilityState};
use watari_kernel::{PolicyAction, PolicyEntry, PolicyKind, Template};
use watari_policies::{Direction, Mode, Protocol, Selector};
use watari_sys::{NetlinkFamily, NetlinkSocket, Received};

use crate::uml::{Context, Failure, Result};

const NEWSA: u16 = 0x10;
const DELSA: u16 = 0x11;
const GETSA: u16 = 0x12;
const DELPOLICY: u16 = 0x14;
const UPDPOLICY: u16 = 0x19;
const UPDSA: u16 = 0x1a;
const FLUSHSA: u16 = 0x1c;
const FLUSHPOLICY: u16 = 0x1d;
const MIGRATE: u16 = 0x21;

const ATTRIBUTE_TEMPLATES: u16 = 5;
const ATTRIBUTE_SOURCE: u16 = 13;
const ATTRIBUTE_CARE_OF: u16 = 14;
const ATTRIBUTE_POLICY_TYPE: u16 = 16;
const ATTRIBUTE_MIGRATE: u16 = 17;
const ATTRIBUTE_KMADDRESS: u16 = 19;

const ROUTE_OPTIMISATION: u8 = 2;
const WILDCARD_RECEIVE: u8 = 8;
const REQUEST_WITH_ACKNOWLEDGEMENT: u16 = 0x5;
const REQUEST_A_DUMP: u16 = 0x301;
const ACKNOWLEDGEMENT: u16 = 2;
const END_OF_DUMP: u16 = 3;
/// Octets of struct xfrm_usersa_info.
const STATE_LENGTH: usize = 224;
/// Attributes that hold keys: XFRMA_ALG_AUTH, XFRMA_ALG_CRYPT, XFRMA_ALG_AEAD, XFRMA_ALG_AUTH_TRUNC.
const KEY_ATTRIBUTES: [u16; 4] = [1, 2, 18, 20];
const ESP: u8 = 50;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// errno ESRCH: the kernel has no such thing.
pub(crate) const ESRCH: i32 = 3;
/// errno ENOENT: the kernel has no such policy.
pub(crate) const ENOENT: i32 = 2;

/// A socket that asks the kernel of the namespace it was opened in.
pub(crate) struct Kernel {
    socket: NetlinkSocket,
    sequence: u32,
}

/// What the kernel answered: 0, or a positive errno.
pub(crate) type Errno = i32;

/// An ESP SA with keys, as the kernel's own dump shows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EspSa {
    /// SPI.
    pub(crate) spi: u32,
    /// Source of its packets.
    pub(crate) source: IpAddr,
    /// Destination of its packets.
    pub(crate) destination: IpAddr,
    /// Reqid.
    pub(crate) reqid: u32,
    /// Tunnel or transport mode.
    pub(crate) tunnel: bool,
    /// Source and destination of the packets it may carry.
    pub(crate) selector: (IpAddr, IpAddr),
}

impl Kernel {
    /// Opens the socket in the calling thread's network namespace.
    pub(crate) fn open() -> Result<Self> {
        let socket = NetlinkSocket::open(NetlinkFamily::Xfrm, &[], 1 << 20).context("opening NETLINK_XFRM")?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Adds a policy or replaces the one with the same selector, direction and set.
    pub(crate) fn set_policy(&mut self, policy: &PolicyEntry) -> Result<Errno> {
        let mut body = selector(&policy.selector, policy_family(policy));
        body.extend_from_slice(&[0xff; 32]);
        body.extend_from_slice(&[0; 32 + 32]);
        push_u32(&mut body, policy.priority);
        push_u32(&mut body, 0);
        let action = match policy.action {
            PolicyAction::Allow => 0,
            PolicyAction::Block => 1,
        };
        body.extend_from_slice(&[direction(policy.direction), action, 0, 0, 0, 0, 0, 0]);
        let mut templates = Vec::new();
        for template in &policy.templates {
            push_template(&mut templates, template);
        }
        if !templates.is_empty() {
            push_attribute(&mut body, ATTRIBUTE_TEMPLATES, &templates);
        }
        push_policy_type(&mut body, policy.kind);
        self.ask(UPDPOLICY, &body)
    }

    /// Removes a policy.
    pub(crate) fn delete_policy(&mut self, chosen: &Selector, at: Direction, kind: PolicyKind) -> Result<Errno> {
        let mut body = policy_id(chosen, at);
        push_policy_type(&mut body, kind);
        self.ask(DELPOLICY, &body)
    }

    /// Adds a Mobile IPv6 state or gives the one with the same addresses a new care-of address.
    pub(crate) fn set_mobility_state(&mut self, state: &MobilityState) -> Result<Errno> {
        let mut body = vec![0; 56];
        push_address(&mut body, state.endpoints.dst);
        push_u32(&mut body, 0);
        body.extend_from_slice(&[state.ip_protocol, 0, 0, 0]);
        push_address(&mut body, state.endpoints.src);
        body.extend_from_slice(&[0xff; 32]);
        body.extend_from_slice(&[0; 32 + 32 + 12]);
        push_u32(&mut body, 0);
        push_u32(&mut body, 0);
        body.extend_from_slice(&AF_INET6.to_ne_bytes());
        // A state without addresses is only looked at for packets that no other one fits, and only with this flag.
        let flags = if state.endpoints.src.is_unspecified() { WILDCARD_RECEIVE } else { 0 };
        body.extend_from_slice(&[ROUTE_OPTIMISATION, 0, flags, 0, 0, 0, 0, 0, 0, 0]);
        let mut care_of = Vec::new();
        push_address(&mut care_of, state.care_of);
        push_attribute(&mut body, ATTRIBUTE_CARE_OF, &care_of);
        match self.ask(UPDSA, &body)? {
            ESRCH => self.ask(NEWSA, &body),
            answer => Ok(answer),
        }
    }

    /// Removes the Mobile IPv6 state with these addresses.
    pub(crate) fn delete_mobility_state(&mut self, state: &MobilityState) -> Result<Errno> {
        let mut body = Vec::new();
        push_address(&mut body, state.endpoints.dst);
        push_u32(&mut body, 0);
        body.extend_from_slice(&AF_INET6.to_ne_bytes());
        body.extend_from_slice(&[state.ip_protocol, 0]);
        let mut source = Vec::new();
        push_address(&mut source, state.endpoints.src);
        push_attribute(&mut body, ATTRIBUTE_SOURCE, &source);
        self.ask(DELSA, &body)
    }

    /// Moves a policy and the newest SA of each template; listeners hear of it if all of it worked.
    pub(crate) fn migrate(&mut self, request: &MigrateRequest) -> Result<Errno> {
        let mut body = policy_id(&request.selector, request.direction);
        if let Some(addresses) = &request.kmaddress {
            let mut value = Vec::new();
            push_address(&mut value, addresses.local);
            push_address(&mut value, addresses.remote);
            push_u32(&mut value, 0);
            value.extend_from_slice(&family(addresses.local).to_ne_bytes());
            value.extend_from_slice(&[0, 0]);
            push_attribute(&mut body, ATTRIBUTE_KMADDRESS, &value);
        }
        push_policy_type(&mut body, request.kind);
        let mut steps = Vec::new();
        for step in &request.steps {
            push_address(&mut steps, step.old.dst);
            push_address(&mut steps, step.old.src);
            push_address(&mut steps, step.new.dst);
            push_address(&mut steps, step.new.src);
            steps.extend_from_slice(&[ip_protocol(step.protocol), mode(step.mode), 0, 0]);
            push_u32(&mut steps, step.reqid.0);
            steps.extend_from_slice(&family(step.old.dst).to_ne_bytes());
            steps.extend_from_slice(&family(step.new.dst).to_ne_bytes());
        }
        push_attribute(&mut body, ATTRIBUTE_MIGRATE, &steps);
        self.ask(MIGRATE, &body)
    }

    /// Flushes every SA and state, and every policy of both sets: what a reboot does.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.ask(FLUSHSA, &[0; 4])?;
        for kind in [PolicyKind::Main, PolicyKind::Sub] {
            let mut body = Vec::new();
            push_policy_type(&mut body, kind);
            self.ask(FLUSHPOLICY, &body)?;
        }
        Ok(())
    }

    /// Every ESP SA that has keys, sorted.
    pub(crate) fn esp_sas(&mut self) -> Result<Vec<EspSa>> {
        self.send(GETSA, REQUEST_A_DUMP, &[])?;
        let mut sas = Vec::new();
        loop {
            match self.socket.receive().context("reading NETLINK_XFRM")? {
                Received::Datagram(octets) => {
                    let mut rest = octets.as_slice();
                    while let Some((kind, body, after)) = message_of(rest) {
                        match kind {
                            NEWSA => sas.extend(esp_sa(body)),
                            END_OF_DUMP | ACKNOWLEDGEMENT => {
                                sas.sort();
                                return Ok(sas);
                            }
                            _ => {}
                        }
                        rest = after;
                    }
                }
                Received::Overrun => {}
                Received::WouldBlock => return Err(Failure::new("the kernel did not finish a dump of its SAs")),
            }
        }
    }

    fn send(&mut self, kind: u16, flags: u16, body: &[u8]) -> Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = Vec::with_capacity(16 + body.len());
        push_u32(&mut message, u32::try_from(16 + body.len()).unwrap_or_default());
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&flags.to_ne_bytes());
        push_u32(&mut message, self.sequence);
        push_u32(&mut message, 0);
        message.extend_from_slice(body);
        self.socket.send(&message).context("sending to NETLINK_XFRM")
    }

    fn ask(&mut self, kind: u16, body: &[u8]) -> Result<Errno> {
        self.send(kind, REQUEST_WITH_ACKNOWLEDGEMENT, body)?;
        // The kernel works a request off inside send(2): its answer is in the queue by now.
        loop {
            match self.socket.receive().context("reading NETLINK_XFRM")? {
                Received::Datagram(answer) => {
                    if let Some(errno) = acknowledgement(&answer, self.sequence) {
                        return Ok(errno);
                    }
                }
                Received::Overrun => {}
                Received::WouldBlock => return Err(Failure(format!("the kernel did not answer XFRM request {kind:#x}"))),
            }
        }
    }
}

/// Takes an interface of the calling thread's namespace down (RTM_NEWLINK).
pub(crate) fn set_link_down(index: i32) -> Result<()> {
    const NEWLINK: u16 = 16;
    const UP: u32 = 1;
    let socket = NetlinkSocket::open(NetlinkFamily::Route, &[], 1 << 16).context("opening NETLINK_ROUTE")?;
    let mut message = Vec::new();
    push_u32(&mut message, 32);
    message.extend_from_slice(&NEWLINK.to_ne_bytes());
    message.extend_from_slice(&REQUEST_WITH_ACKNOWLEDGEMENT.to_ne_bytes());
    push_u32(&mut message, 1);
    push_u32(&mut message, 0);
    // struct ifinfomsg: family, type, index, flags (not up), which flags count.
    push_u32(&mut message, 0);
    message.extend_from_slice(&index.to_ne_bytes());
    push_u32(&mut message, 0);
    push_u32(&mut message, UP);
    socket.send(&message).context("sending to NETLINK_ROUTE")?;
    match socket.receive().context("reading NETLINK_ROUTE")? {
        Received::Datagram(answer) if acknowledgement(&answer, 1) == Some(0) => Ok(()),
        other => Err(Failure(format!("taking a link down: {other:?}"))),
    }
}

fn acknowledgement(answer: &[u8], sequence: u32) -> Option<Errno> {
    let kind = u16::from_ne_bytes(*answer.get(4..)?.first_chunk()?);
    let answered = u32::from_ne_bytes(*answer.get(8..)?.first_chunk()?);
    let errno = i32::from_ne_bytes(*answer.get(16..)?.first_chunk()?);
    (kind == ACKNOWLEDGEMENT && answered == sequence).then_some(errno.saturating_neg())
}

/// The first message of a datagram: its type, its body, and what follows it.
fn message_of(octets: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(*octets.first_chunk()?)).ok()?;
    let kind = u16::from_ne_bytes(*octets.get(4..)?.first_chunk()?);
    let body = octets.get(16..length)?;
    Some((kind, body, octets.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// Reads struct xfrm_usersa_info with its attributes; nothing for other protocols and for states without keys.
fn esp_sa(body: &[u8]) -> Option<EspSa> {
    let family = u16::from_ne_bytes(*body.get(212..)?.first_chunk()?);
    let selector_family = u16::from_ne_bytes(*body.get(40..)?.first_chunk()?);
    let address = |at: usize, family: u16| -> Option<IpAddr> {
        let octets: [u8; 16] = *body.get(at..)?.first_chunk()?;
        match family {
            AF_INET => Some(IpAddr::from(*octets.first_chunk::<4>()?)),
            _ => Some(IpAddr::from(octets)),
        }
    };
    let mut attributes = body.get(STATE_LENGTH..)?;
    let mut has_keys = false;
    while let (Some(length), Some(kind)) = (attributes.first_chunk(), attributes.get(2..).and_then(|rest| rest.first_chunk())) {
        has_keys |= KEY_ATTRIBUTES.contains(&u16::from_ne_bytes(*kind));
        let length = usize::from(u16::from_ne_bytes(*length)).max(4).next_multiple_of(4);
        attributes = attributes.get(length..).unwrap_or_default();
    }
    (*body.get(76)? == ESP && has_keys).then_some(())?;
    Some(EspSa {
        spi: u32::from_be_bytes(*body.get(72..)?.first_chunk()?),
        source: address(80, family)?,
        destination: address(56, family)?,
        reqid: u32::from_ne_bytes(*body.get(208..)?.first_chunk()?),
        tunnel: *body.get(214)? == 1,
        selector: (address(16, selector_family)?, address(0, selector_family)?),
    })
}

fn push_u32(to: &mut Vec<u8>, value: u32) {
    to.extend_from_slice(&value.to_ne_bytes());
}

fn push_address(to: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V6(address) => to.extend_from_slice(&address.octets()),
        IpAddr::V4(address) => {
            to.extend_from_slice(&address.octets());
            to.extend_from_slice(&[0; 12]);
        }
    }
}

fn push_attribute(to: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    to.extend_from_slice(&length.to_ne_bytes());
    to.extend_from_slice(&kind.to_ne_bytes());
    to.extend_from_slice(value);
    to.resize(to.len().next_multiple_of(4), 0);
}

fn push_policy_type(to: &mut Vec<u8>, kind: PolicyKind) {
    let kind = match kind {
        PolicyKind::Main => 0,
        PolicyKind::Sub => 1,
    };
    push_attribute(to, ATTRIBUTE_POLICY_TYPE, &[kind, 0, 0, 0, 0, 0]);
}

fn push_template(to: &mut Vec<u8>, template: &Template) {
    push_address(to, template.endpoints.dst);
    push_u32(to, 0);
    to.extend_from_slice(&[template.ip_protocol, 0, 0, 0]);
    to.extend_from_slice(&family(template.endpoints.dst).to_ne_bytes());
    to.extend_from_slice(&[0, 0]);
    push_address(to, template.endpoints.src);
    push_u32(to, template.reqid.0);
    let mode = match template.protocol {
        Some(_) => mode(template.mode),
        None => ROUTE_OPTIMISATION,
    };
    to.extend_from_slice(&[mode, 0, u8::from(template.optional), 0]);
    to.extend_from_slice(&[0xff; 12]);
}

fn policy_id(chosen: &Selector, at: Direction) -> Vec<u8> {
    let mut body = selector(chosen, family(chosen.src.addr()));
    push_u32(&mut body, 0);
    body.extend_from_slice(&[direction(at), 0, 0, 0]);
    body
}

fn selector(chosen: &Selector, family: u16) -> Vec<u8> {
    let mut octets = Vec::with_capacity(56);
    push_address(&mut octets, chosen.dst.addr());
    push_address(&mut octets, chosen.src.addr());
    for port in [chosen.dport, chosen.sport] {
        octets.extend_from_slice(&port.value.to_be_bytes());
        octets.extend_from_slice(&port.mask.to_be_bytes());
    }
    octets.extend_from_slice(&family.to_ne_bytes());
    octets.extend_from_slice(&[prefix(chosen.dst), prefix(chosen.src), chosen.protocol, 0, 0, 0]);
    octets.extend_from_slice(&[0; 8]);
    octets
}

fn prefix(net: IpNet) -> u8 {
    net.prefix_len()
}

fn policy_family(policy: &PolicyEntry) -> u16 {
    family(policy.selector.src.addr())
}

fn family(address: IpAddr) -> u16 {
    match address {
        IpAddr::V4(_) => AF_INET,
        IpAddr::V6(_) => AF_INET6,
    }
}

fn direction(direction: Direction) -> u8 {
    match direction {
        Direction::In => 0,
        Direction::Out => 1,
        Direction::Forward => 2,
    }
}

fn mode(mode: Mode) -> u8 {
    match mode {
        Mode::Transport => 0,
        Mode::Tunnel => 1,
    }
}

fn ip_protocol(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Esp => 50,
        Protocol::Ah => 51,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_has_the_layout_of_the_uapi_header() {
        let host = |text: &str| IpNet::from(text.parse::<IpAddr>().unwrap());
        let chosen = Selector::between(host("2001:db8:1::abcd"), host("2001:db8:1::1")).protocol(135).message_type(5);
        let octets = selector(&chosen, AF_INET6);
        assert_eq!(octets.len(), 56);
        // Destination first, then source, dport 0/0, sport 5/ffff, family 10, prefixes, protocol.
        assert_eq!(octets[15], 1);
        assert_eq!(octets[30..32], [0xab, 0xcd]);
        assert_eq!(octets[32..40], [0, 0, 0, 0, 0, 5, 0xff, 0xff]);
        assert_eq!(octets[42..45], [128, 128, 135]);
    }

    #[test]
    fn an_acknowledgement_is_matched_by_sequence() {
        let mut answer = vec![0; 36];
        answer[4..6].copy_from_slice(&2u16.to_ne_bytes());
        answer[8..12].copy_from_slice(&7u32.to_ne_bytes());
        answer[16..20].copy_from_slice(&(-61i32).to_ne_bytes());
        assert_eq!(acknowledgement(&answer, 7), Some(61));
        assert_eq!(acknowledgement(&answer, 8), None);
    }
}
