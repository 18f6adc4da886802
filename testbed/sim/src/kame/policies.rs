//! Policies of a KAME kernel: no priorities and no forward direction; one that is changed is a new one, behind all others.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use watari_kernel::mirror::Mirror;
use watari_kernel::{Endpoints, Migrate, PolicyAction, PolicyEntry, PolicyIndex, PolicyKind, Template};
use watari_policies::{Direction, Mode, PortMask, Protocol, Reqid, Selector};

use super::layout::{Address, EINVAL, Head, IpsecRequest, Part, Request, ext, half, kind, word};
use super::{EEXIST, ENOENT, KameKernel, KeySocket, SOMEBODY, To};

/// IPSEC_MANUAL_REQID_MAX.
const MANUAL_REQIDS: u16 = 0x3fff;
/// The place of a policy that a socket adds: the mirror's priority stands for the place in the list, and setkey.conf was read first.
const LAST: u32 = u32::MAX;
const NOWHERE: Endpoints = Endpoints { src: IpAddr::V6(Ipv6Addr::UNSPECIFIED), dst: IpAddr::V6(Ipv6Addr::UNSPECIFIED) };

/// In which order the kernel puts the parts of a policy.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// As key_setdumpsp(): addresses first.
    Dump,
    /// As the answers to SPDADD and SPDDELETE: the policy first.
    Answer,
}

/// Whether PF_KEY of this kernel has words for a policy: the main set, in and out, of IPsec alone.
fn is_told(policy: &PolicyEntry) -> bool {
    policy.kind == PolicyKind::Main
        && policy.direction != Direction::Forward
        && policy.templates.iter().all(|template| template.protocol.is_some())
}

const fn raw_direction(direction: Direction) -> u8 {
    match direction {
        Direction::In => 1,
        Direction::Out => 2,
        Direction::Forward => 0,
    }
}

pub(super) const fn raw_mode(mode: Option<Mode>) -> u8 {
    match mode {
        None => 0,
        Some(Mode::Transport) => 1,
        Some(Mode::Tunnel) => 2,
    }
}

fn selector_parts(selector: &Selector) -> [Part; 2] {
    let protocol = if selector.protocol == 0 { 255 } else { selector.protocol };
    let address = |net: IpNet, port: PortMask| {
        let port = if port.mask == 0xffff { port.value } else { 0 };
        Address { protocol, prefix: net.prefix_len(), address: net.addr(), port }.octets()
    };
    [(ext::SRC, address(selector.src, selector.sport)), (ext::DST, address(selector.dst, selector.dport))]
}

/// `struct sadb_x_policy` behind its header.
pub(super) fn policy_part(what: u16, direction: Direction, index: PolicyIndex) -> Vec<u8> {
    let mut octets = what.to_ne_bytes().to_vec();
    octets.extend([raw_direction(direction), 0]);
    octets.extend(index.0.to_ne_bytes());
    octets.extend([0; 4]);
    octets
}

fn ipsec_request(template: &Template) -> IpsecRequest {
    let level = if template.optional { 1 } else { 3 - u8::from(template.reqid == Reqid(0)) };
    IpsecRequest {
        protocol: template.ip_protocol.into(),
        mode: raw_mode(Some(template.mode)),
        level,
        reqid: u16::try_from(template.reqid.0).unwrap_or(u16::MAX),
        endpoints: (template.mode == Mode::Tunnel).then_some(template.endpoints),
    }
}

fn parts(policy: &PolicyEntry, order: Order) -> Vec<Part> {
    let what = match (policy.action, policy.templates.is_empty()) {
        (PolicyAction::Block, _) => 0,
        (PolicyAction::Allow, true) => 1,
        (PolicyAction::Allow, false) => 2,
    };
    let mut octets = policy_part(what, policy.direction, policy.index);
    for template in &policy.templates {
        octets.extend(ipsec_request(template).octets());
    }
    let [src, dst] = selector_parts(&policy.selector);
    match order {
        Order::Dump => vec![src, dst, (ext::POLICY, octets)],
        Order::Answer => vec![(ext::POLICY, octets), src, dst],
    }
}

/// SADB_X_MIGRATE of the kernel: old and new of each tunnel.
pub(super) fn migrate_message(mirror: &Mirror, migrate: &Migrate) -> Vec<u8> {
    let moved = |policy: &&PolicyEntry| policy.selector == migrate.selector && policy.direction == migrate.direction && is_told(policy);
    let index = mirror.policies().find(moved).map_or(PolicyIndex(0), |policy| policy.index);
    let mut octets = policy_part(2, migrate.direction, index);
    for step in &migrate.steps {
        for ends in [step.old, step.new] {
            octets.extend(ipsec_request(&Template::esp(step.mode, step.reqid, ends)).octets());
        }
    }
    let [src, dst] = selector_parts(&migrate.selector);
    Head { kind: kind::MIGRATE, ..Head::default() }.message(&[src, dst, (ext::POLICY, octets)])
}

/// Reads the selector and direction of a policy.
fn named(request: &Request) -> Option<(Selector, Direction)> {
    let (src, dst) = request.addresses()?;
    let direction = match request.part(ext::POLICY)?.get(2)? {
        1 => Direction::In,
        2 => Direction::Out,
        _ => return None,
    };
    let port = |number: u16| if number == 0 { PortMask::ANY } else { PortMask::exact(number) };
    let net = |address: &Address| IpNet::new(address.address, address.prefix).ok();
    let protocol = if src.protocol == 255 { 0 } else { src.protocol };
    Some((Selector { src: net(&src)?, dst: net(&dst)?, protocol, sport: port(src.port), dport: port(dst.port) }, direction))
}

impl KameKernel {
    /// Tells of a policy, if it is one that PF_KEY has words for.
    pub(super) fn announce_policy(&mut self, to: To, head: Head, policy: &PolicyEntry, order: Order) {
        if is_told(policy) {
            self.send(to, &head.message(&parts(policy, order)));
        }
    }

    /// Another process added, changed or removed a policy.
    pub(super) fn policy_told(&mut self, kind: u8, policy: &PolicyEntry) {
        let head = Head { kind, pid: SOMEBODY, ..Head::default() };
        self.announce_policy(To::All, head, policy, Order::Answer);
    }

    /// key_msg2sp(): reads what a policy demands. A reqid beyond the manual ones is replaced by one of the kernel's own.
    fn templates(&mut self, request: &Request, selector: &Selector) -> Option<Vec<Template>> {
        let mut rest = request.part(ext::POLICY)?.get(12..)?;
        let mut templates = Vec::new();
        while !rest.is_empty() {
            let (raw, behind) = IpsecRequest::read(rest)?;
            rest = behind;
            let (protocol, ip_protocol) = match raw.protocol {
                50 => (Protocol::Esp, 50),
                51 => (Protocol::Ah, 51),
                _ => return None,
            };
            let mode = match raw.mode {
                1 => Mode::Transport,
                2 => Mode::Tunnel,
                _ => return None,
            };
            let ported = selector.sport != PortMask::ANY || selector.dport != PortMask::ANY;
            if mode == Mode::Tunnel && (ported || raw.endpoints.is_none()) {
                return None;
            }
            let reqid = match (raw.level, raw.reqid) {
                (3, 1..=MANUAL_REQIDS) => raw.reqid,
                (3, _) => {
                    self.next_reqid = self.next_reqid.saturating_add(1);
                    self.next_reqid
                }
                (1 | 2, _) => 0,
                _ => return None,
            };
            templates.push(Template {
                protocol: Some(protocol),
                ip_protocol,
                mode,
                reqid: Reqid(reqid.into()),
                endpoints: raw.endpoints.unwrap_or(NOWHERE),
                optional: raw.level == 1,
            });
        }
        Some(templates)
    }

    /// key_spdadd(): SPDUPDATE takes away what has the same selector and adds anew, under another number and behind all others.
    pub(super) fn spdadd(&mut self, mirror: &mut Mirror, request: &Request) -> Result<(), u8> {
        let (selector, direction) = named(request).ok_or(EINVAL)?;
        let what = request.part(ext::POLICY).and_then(|part| half(part, 0)).ok_or(EINVAL)?;
        let templates = self.templates(request, &selector).ok_or(EINVAL)?;
        if what > 2 || (what == 2) == templates.is_empty() {
            return Err(EINVAL);
        }
        let old = find(mirror, &selector, direction);
        if old.is_some() && request.kind == kind::SPDADD {
            return Err(EEXIST);
        }
        let action = if what == 0 { PolicyAction::Block } else { PolicyAction::Allow };
        let (index, priority) = (PolicyIndex(0), LAST);
        mirror.quietly(|mirror| {
            let _ = mirror.delete_policy(&selector, direction, PolicyKind::Main);
            mirror.set_policy(PolicyEntry { selector, direction, kind: PolicyKind::Main, index, priority, action, templates });
        });
        let number = find(mirror, &selector, direction).ok_or(EINVAL)?.index;
        self.answer_policy(request, number);
        Ok(())
    }

    /// What was asked, with the number of the policy.
    fn answer_policy(&mut self, request: &Request, number: PolicyIndex) {
        let mut parts = request.gather(&[ext::POLICY, ext::LIFETIME_HARD, ext::SRC, ext::DST]);
        let id = parts.iter_mut().find(|(kind, _)| *kind == ext::POLICY).and_then(|(_, part)| part.get_mut(4..8));
        if let Some(id) = id {
            id.copy_from_slice(&number.0.to_ne_bytes());
        }
        self.send(To::All, &Head::answer(request).message(&parts));
    }

    /// key_spddelete(): what is not there is EINVAL.
    pub(super) fn spddelete(&mut self, mirror: &mut Mirror, request: &Request) -> Result<(), u8> {
        let (selector, direction) = named(request).ok_or(EINVAL)?;
        let number = find(mirror, &selector, direction).ok_or(EINVAL)?.index;
        let _ = mirror.quietly(|mirror| mirror.delete_policy(&selector, direction, PolicyKind::Main));
        self.answer_policy(request, number);
        Ok(())
    }

    /// key_spdget(): the answer has the number 0, whatever the request's was.
    pub(super) fn spdget(&mut self, mirror: &Mirror, socket: KeySocket, request: &Request) -> Result<(), u8> {
        let id = request.part(ext::POLICY).and_then(|part| word(part, 4)).ok_or(EINVAL)?;
        let policy = mirror.policies().find(|policy| policy.index.0 == id && is_told(policy)).cloned().ok_or(ENOENT)?;
        let head = Head { seq: 0, ..Head::answer(request) };
        self.announce_policy(To::One(socket), head, &policy, Order::Dump);
        Ok(())
    }

    /// key_spddump(): rows are numbered down to 0.
    pub(super) fn spddump(&mut self, mirror: &Mirror, socket: KeySocket, request: &Request) -> Result<(), u8> {
        let told: Vec<PolicyEntry> = mirror.policies().filter(|policy| is_told(policy)).cloned().collect();
        if told.is_empty() {
            return Err(ENOENT);
        }
        for (left, policy) in (0..told.len()).rev().zip(&told) {
            let head = Head { seq: u32::try_from(left).unwrap_or(u32::MAX), ..Head::answer(request) };
            self.announce_policy(To::One(socket), head, policy, Order::Dump);
        }
        Ok(())
    }
}

fn find<'a>(mirror: &'a Mirror, selector: &Selector, direction: Direction) -> Option<&'a PolicyEntry> {
    let same = |policy: &&PolicyEntry| policy.kind == PolicyKind::Main && policy.selector == *selector && policy.direction == direction;
    mirror.policies().find(same)
}
