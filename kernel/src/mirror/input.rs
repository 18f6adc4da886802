//! Packets that arrive: Mobile IPv6 headers, ESP, and the check that what was applied is what the policies demand.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use watari_policies::selector::{ICMPV6, MOBILITY_HEADER};
use watari_policies::{Direction, Mode, Reqid};

use crate::mirror::packet::{Body, Esp, Inner, Packet};
use crate::mirror::policies::{Flow, Verdict};
use crate::mirror::states::{HAO, ROUTE2, Standing, State};
use crate::mirror::{Counter, Mirror, Model};
use crate::{Endpoints, Now, SaId, Template};
use watari_policies::Protocol;

/// What became of a packet that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// For this host, in clear, with the addresses that the upper layers see.
    Delivered(Packet),
    /// For another host, in clear: to be sent on with `output`.
    Forward(Packet),
    /// It was dropped.
    Dropped(Counter),
}

/// A state that was applied to the packet, outermost first.
struct Applied {
    ip_protocol: u8,
    mode: Option<Mode>,
    reqid: Reqid,
    endpoints: Endpoints,
    selector: Option<watari_policies::Selector>,
}

impl From<&State> for Applied {
    fn from(state: &State) -> Self {
        Self {
            ip_protocol: state.ip_protocol,
            mode: state.mode,
            reqid: state.reqid,
            endpoints: Endpoints { src: state.src, dst: state.dst },
            selector: state.selector,
        }
    }
}

impl Mirror {
    /// Takes a packet from the wire. Whether it is for this host follows from the local addresses.
    pub fn input(&mut self, now: Now, packet: Packet) -> Arrival {
        crate::Backend::timeout(self, now);
        let arrived = self.open(now, packet).and_then(|(packet, applied, headers)| {
            let local = self.addresses.contains_key(&packet.dst);
            let direction = if local { Direction::In } else { Direction::Forward };
            self.check(direction, &packet, &applied, headers)?;
            Ok(if local { Arrival::Delivered(packet) } else { Arrival::Forward(packet) })
        });
        arrived.unwrap_or_else(|counter| {
            self.counters.count(counter);
            Arrival::Dropped(counter)
        })
    }

    /// Takes every header off; returns the packet in clear, what was applied, and how many extension headers the innermost packet had.
    fn open(&mut self, now: Now, mut packet: Packet) -> Result<(Packet, Vec<Applied>, usize), Counter> {
        let mut applied = Vec::new();
        let mut headers = usize::from(packet.hao.is_some()).saturating_add(usize::from(packet.rt2.is_some()));
        loop {
            self.swap_mobility(&mut packet, &mut applied)?;
            let Packet { src, dst, body, .. } = packet;
            match body {
                Body::Clear(upper) => return Ok((Packet::clear(src, dst, upper), applied, headers)),
                Body::Esp(esp) => {
                    applied.push(self.verify(now, dst, &esp)?);
                    let other = applied.last().is_some_and(|state| state.mode == Some(Mode::Tunnel) && state.endpoints.src != src);
                    if self.compares_outer_source && other {
                        return Err(Counter::XfrmInStateMismatch);
                    }
                    match *esp.inner {
                        Inner::Transport(body) => packet = Packet { src, dst, hao: None, rt2: None, body },
                        Inner::Tunnel(inner) => {
                            headers = usize::from(inner.hao.is_some()).saturating_add(usize::from(inner.rt2.is_some()));
                            packet = inner;
                        }
                    }
                }
            }
        }
    }

    fn swap_mobility(&self, packet: &mut Packet, applied: &mut Vec<Applied>) -> Result<(), Counter> {
        if let Some(home) = packet.rt2.take() {
            let state = self.mobility(ROUTE2, Endpoints { src: packet.src, dst: home }, packet.dst)?;
            applied.push(state);
            packet.dst = home;
        }
        if let Some(home) = packet.hao.take() {
            let state = self.mobility(HAO, Endpoints { src: home, dst: packet.dst }, packet.src)?;
            applied.push(state);
            packet.src = home;
        }
        Ok(())
    }

    fn mobility(&self, ip_protocol: u8, wanted: Endpoints, wire: IpAddr) -> Result<Applied, Counter> {
        let any = match wanted.src {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let ends = |src, dst| Endpoints { src, dst };
        let pairs = [wanted, ends(any, wanted.dst), ends(wanted.src, any), ends(any, any)];
        let fits = |state: &State| match state.standing {
            Standing::Mobility { care_of } => state.ip_protocol == ip_protocol && (care_of.is_unspecified() || care_of == wire),
            Standing::Larval { .. } | Standing::Valid { .. } => false,
        };
        let found = pairs.into_iter().flat_map(|pair| self.states.between(pair)).filter(|(_, state)| fits(state));
        found.min_by_key(|(at, _)| *at).map(|(_, state)| Applied::from(state)).ok_or(Counter::XfrmInNoStates)
    }

    fn verify(&mut self, now: Now, dst: IpAddr, esp: &Esp) -> Result<Applied, Counter> {
        let id = SaId { dst, protocol: Protocol::Esp, spi: esp.spi };
        let at = self.states.by_id(id).ok_or(Counter::XfrmInNoStates)?;
        let checked = self.states.change(at, |state| accepted(state, now, esp)).ok_or(Counter::XfrmInNoStates)?;
        let (applied, soft, hard) = checked?;
        if (hard || soft)
            && let Some(state) = self.states.get(at).cloned()
        {
            if hard {
                self.states.remove(at);
            }
            self.expire(&state, hard);
        }
        Ok(applied)
    }

    fn check(&self, direction: Direction, packet: &Packet, applied: &[Applied], headers: usize) -> Result<(), Counter> {
        let Body::Clear(upper) = &packet.body else { return Err(Counter::XfrmInTmplMismatch) };
        let mut flow = Flow { src: packet.src, dst: packet.dst, protocol: upper.protocol, sport: upper.sport, dport: upper.dport };
        let type_is_read = self.model.reads_inbound_mh_type() && headers == 1;
        if upper.protocol == MOBILITY_HEADER && !type_is_read {
            flow.sport = 0;
        }
        // Linux 6.1 looks for the ICMPv6 type where a packet without extension headers has it.
        if upper.protocol == ICMPV6 && headers > 0 && self.model == Model::Linux6_1 {
            (flow.sport, flow.dport) = (u16::MAX, u16::MAX);
        }
        if applied.iter().any(|state| state.selector.is_some_and(|selector| !flow.fits(&selector))) {
            return Err(Counter::XfrmInStateMismatch);
        }
        let alters = |state: &Applied| state.mode != Some(Mode::Transport);
        match self.policies.verdict(direction, &flow) {
            Verdict::Nothing if applied.iter().any(alters) => Err(Counter::XfrmInNoPols),
            Verdict::Nothing => Ok(()),
            Verdict::Block => Err(Counter::XfrmInPolBlock),
            Verdict::Apply(templates) => {
                let mut next = 0;
                for (template, _) in templates.iter().rev() {
                    next = satisfied(template, applied, next).ok_or(Counter::XfrmInTmplMismatch)?;
                }
                let rest = applied.get(next..).unwrap_or_default();
                if rest.iter().any(alters) { Err(Counter::XfrmInTmplMismatch) } else { Ok(()) }
            }
        }
    }
}

/// Checks a packet against its SA and counts it; also whether it crossed a soft limit, and a hard one.
fn accepted(state: &mut State, now: Now, esp: &Esp) -> Result<(Applied, bool, bool), Counter> {
    let Standing::Valid { digest, window, .. } = &mut state.standing else { return Err(Counter::XfrmAcquireError) };
    if *digest != esp.digest {
        return Err(Counter::XfrmInStateProtoError);
    }
    if !window.accept(esp.sequence) {
        return Err(Counter::XfrmInStateSeqError);
    }
    if state.mode != Some(esp.inner.mode()) {
        return Err(Counter::XfrmInStateModeError);
    }
    let (soft, hard) = state.count(now, 40);
    Ok((Applied::from(&*state), soft, hard))
}

/// Where to go on after this template was satisfied from `start` on; an optional one may be skipped, a tunnel or Mobile IPv6 state may not.
fn satisfied(template: &Template, applied: &[Applied], start: usize) -> Option<usize> {
    for (at, state) in applied.iter().enumerate().skip(start) {
        if agrees(template, state) {
            return at.checked_add(1);
        }
        if state.mode != Some(Mode::Transport) {
            break;
        }
    }
    template.optional.then_some(start)
}

fn agrees(template: &Template, state: &Applied) -> bool {
    state.ip_protocol == template.ip_protocol
        && (template.reqid == Reqid(0) || state.reqid == template.reqid)
        && state.mode == template.protocol.map(|_| template.mode)
        && (state.mode != Some(Mode::Tunnel) || stands_at(state.endpoints, template.endpoints))
}

/// Linux compares the sources of SA and template, unless the template leaves its own open.
fn stands_at(state: Endpoints, template: Endpoints) -> bool {
    template.src.is_unspecified() || state.src == template.src
}
