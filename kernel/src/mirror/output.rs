//! Packets that leave: policies, SA lookup by template, ACQUIRE, ESP and Mobile IPv6 headers.

use watari_policies::Mode;
use watari_policies::selector::MOBILITY_HEADER;

use crate::mirror::packet::{Body, Esp, Inner, Packet};
use crate::mirror::policies::{Flow, Verdict};
use crate::mirror::sad::Place;
use crate::mirror::states::{HAO, ROUTE2, Standing, State};
use crate::mirror::{Counter, LARVAL_LIFETIME, Mirror};
use crate::{Acquire, Endpoints, KernelEvent, Now, PolicyEntry, PolicyKind, Spi, Template};

/// What became of a packet on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Departure {
    /// No policy applies: it leaves as it is.
    Pass(Packet),
    /// It leaves with what the policies demand.
    Protected(Packet),
    /// It was dropped.
    Dropped {
        /// Why.
        counter: Counter,
        /// Whether an ACQUIRE was sent for it.
        acquire: bool,
    },
}

impl Departure {
    /// The packet on the wire, if there is one.
    pub fn packet(self) -> Option<Packet> {
        match self {
            Self::Pass(packet) | Self::Protected(packet) => Some(packet),
            Self::Dropped { .. } => None,
        }
    }
}

/// What the SA lookup for one template found.
enum Lookup {
    Found(Place),
    /// Somebody asked already and waits.
    Waiting,
    Missing,
}

impl Mirror {
    /// Takes a packet in clear that this host sends or forwards.
    pub fn output(&mut self, now: Now, packet: Packet) -> Departure {
        crate::Backend::timeout(self, now);
        let Body::Clear(upper) = &packet.body else { return Departure::Pass(packet) };
        let mut flow = Flow { src: packet.src, dst: packet.dst, protocol: upper.protocol, sport: upper.sport, dport: upper.dport };
        // A socket of this host names the type it sends; of a packet on its way through it is not read.
        if upper.protocol == MOBILITY_HEADER && !self.addresses.contains_key(&packet.src) {
            flow.sport = 0;
        }
        let templates = match self.policies.verdict(watari_policies::Direction::Out, &flow) {
            Verdict::Nothing => return Departure::Pass(packet),
            Verdict::Block => return self.dropped(Counter::XfrmOutPolBlock, false),
            Verdict::Apply(templates) if templates.is_empty() => return Departure::Pass(packet),
            Verdict::Apply(templates) => templates,
        };
        let octets = octets_of(&packet);
        let mut outer = Endpoints { src: packet.src, dst: packet.dst };
        let mut found = Vec::new();
        for (template, policy) in &templates {
            let wanted = if template.mode == Mode::Tunnel && template.protocol.is_some() { template.endpoints } else { outer };
            match self.lookup(template, wanted, &flow) {
                Lookup::Found(at) => found.push((at, *template)),
                _ if template.optional => continue,
                Lookup::Waiting => return self.dropped(Counter::XfrmOutNoStates, false),
                Lookup::Missing => {
                    let acquire = self.acquire(now, &flow, template, policy, wanted);
                    return self.dropped(Counter::XfrmOutNoStates, acquire);
                }
            }
            outer = wanted;
        }
        let mut spent = Vec::new();
        let mut packet = packet;
        for (at, template) in found {
            packet = self.wrap(now, packet, at, &template, octets, &mut spent);
        }
        // A template may still need a state that reached its hard limit: those go last, the newest first.
        spent.sort_unstable();
        for at in spent.into_iter().rev() {
            if let Some(state) = self.states.remove(at) {
                self.expire(&state, true);
            }
        }
        Departure::Protected(packet)
    }

    fn dropped(&mut self, counter: Counter, acquire: bool) -> Departure {
        self.counters.count(counter);
        Departure::Dropped { counter, acquire }
    }

    fn lookup(&self, template: &Template, wanted: Endpoints, flow: &Flow) -> Lookup {
        let named = |state: &State| {
            let mode = template.protocol.map(|_| template.mode);
            state.ip_protocol == template.ip_protocol && state.mode == mode && state.reqid == template.reqid
        };
        let usable = |state: &State| !state.is_larval() && state.selector.is_none_or(|selector| flow.fits(&selector));
        let candidates: Vec<(Place, &State)> = self.states.between(wanted).filter(|(_, state)| named(state)).collect();
        if let Some((at, _)) = candidates.iter().rfind(|(_, state)| usable(state)) {
            return Lookup::Found(*at);
        }
        if candidates.iter().any(|(_, state)| state.is_larval()) { Lookup::Waiting } else { Lookup::Missing }
    }

    /// Reports that an SA is missing and remembers it for 30 s, so that it is asked for once; false if nobody listens.
    fn acquire(&mut self, now: Now, flow: &Flow, template: &Template, policy: &PolicyEntry, wanted: Endpoints) -> bool {
        let Some(protocol) = template.protocol else { return false };
        if !self.listening || policy.kind != PolicyKind::Main {
            return false;
        }
        self.acquire_sequence = self.acquire_sequence.saturating_add(1);
        let sequence = self.acquire_sequence;
        let until = now.boot.saturating_add(LARVAL_LIFETIME);
        let mut state = State::larval(wanted, protocol, template.mode, template.reqid, until, now);
        state.standing = Standing::Larval { until, sequence };
        state.spi = Spi(0);
        state.selector = Some(flow.selector());
        self.states.insert(state);
        self.report(KernelEvent::Acquire(Acquire {
            sequence,
            packet: flow.selector(),
            policy: policy.selector,
            index: policy.index,
            direction: policy.direction,
            template: *template,
            endpoints: wanted,
            care_of: None,
        }));
        true
    }

    fn wrap(&mut self, now: Now, packet: Packet, at: Place, template: &Template, octets: u64, spent: &mut Vec<Place>) -> Packet {
        let wrapped = self.states.change(at, |state| (state.count(now, octets), wrapped(state, packet.clone(), template)));
        let Some(((soft, hard), packet)) = wrapped else { return packet };
        if hard {
            spent.push(at);
        } else if soft && let Some(state) = self.states.get(at).cloned() {
            self.expire(&state, false);
        }
        packet
    }
}

/// The packet as it leaves under a state.
fn wrapped(state: &mut State, mut packet: Packet, template: &Template) -> Packet {
    match &state.standing {
        Standing::Mobility { care_of } if template.ip_protocol == HAO => {
            packet.hao = Some(packet.src);
            packet.src = *care_of;
        }
        Standing::Mobility { care_of } if template.ip_protocol == ROUTE2 => {
            packet.rt2 = Some(packet.dst);
            packet.dst = *care_of;
        }
        Standing::Valid { digest, .. } => {
            let digest = *digest;
            state.sent = state.sent.saturating_add(1);
            let esp = |inner| Body::Esp(Esp { spi: state.spi, sequence: state.sent, digest, inner: Box::new(inner) });
            packet = match template.mode {
                Mode::Transport => {
                    let Packet { src, dst, hao, rt2, body } = packet;
                    Packet { src, dst, hao, rt2, body: esp(Inner::Transport(body)) }
                }
                Mode::Tunnel => Packet { src: state.src, dst: state.dst, hao: None, rt2: None, body: esp(Inner::Tunnel(packet)) },
            };
        }
        Standing::Mobility { .. } | Standing::Larval { .. } => {}
    }
    packet
}

fn octets_of(packet: &Packet) -> u64 {
    let payload = packet.upper().map_or(0, |upper| upper.payload.len());
    u64::try_from(payload).unwrap_or(u64::MAX).saturating_add(40)
}
