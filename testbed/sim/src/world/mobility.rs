//! The protected Mobility Header sockets of the hosts: they hear what came in an ESP transport SA of their reqid, and nothing else.
//! Invariant: a message is in the agent's queue before anything the Mobile IPv6 daemon does about it, as one softirq clones it to all sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use watari_engine::{Heard, Input, Listen, MobilityInput};
use watari_kernel::mirror::{Body, Inner, Packet, Upper};
use watari_mip6::Message;
use watari_mip6::message::UpdateFlags;
use watari_mip6::option::alternate_care_of;
use watari_policies::Mode;
use watari_policies::selector::MOBILITY_HEADER;
use watari_sa::Cause;

use super::host::{Host, Role};
use super::network::Wire;
use super::{Event, World};
use crate::scenario::{CN, CORRESPONDENT, HOME_AGENT, Link, MobilePlan};
use crate::signalling::Node;
use crate::timeline::Happening;

impl World<'_> {
    /// The agent wants exactly these sockets.
    pub(super) fn listen(&mut self, host: usize, sockets: &[Listen]) {
        let open = !self.scenario.blind;
        let Some(this) = self.hosts.get_mut(host) else { return };
        for socket in sockets.iter().filter(|socket| !this.listening.contains(socket)) {
            this.inputs.push_back(Input::Mobility(MobilityInput::Listening { socket: *socket, open }));
        }
        this.listening = sockets.iter().filter(|_| open).copied().collect::<BTreeSet<_>>();
    }

    /// A packet arrived on the wire and was delivered: the sockets that admit it hear it.
    pub(super) fn overhear(&mut self, host: usize, wire: &Packet, delivered: &Packet) {
        let Some(this) = self.hosts.get_mut(host).filter(|host| host.agent.is_some()) else { return };
        let (Some(upper), Body::Esp(esp)) = (delivered.upper(), &wire.body) else { return };
        if upper.protocol != MOBILITY_HEADER || !matches!(*esp.inner, Inner::Transport(_)) {
            return;
        }
        let sas = this.mirror.sas();
        let Some(sa) = sas.iter().find(|sa| sa.spi == esp.spi && sa.dst == delivered.dst && sa.mode == Some(Mode::Transport)) else {
            return;
        };
        for socket in this.listening.iter().filter(|socket| socket.reqid == sa.reqid || socket.reqid.0 == 0) {
            let heard = Heard {
                socket: *socket,
                source: delivered.src,
                destination: delivered.dst,
                // The kernel has exchanged header and option: what it leaves there is the address that was on the wire.
                came_from: wire.hao.map(|_: IpAddr| wire.src),
                sent_to: wire.rt2.map(|_: IpAddr| wire.dst),
                octets: upper.payload.clone(),
            };
            this.inputs.push_back(Input::Mobility(MobilityInput::Heard(heard)));
        }
    }
}

impl World<'_> {
    /// A binding update in a mobile node's name reaches the home agent, in clear and without extension header.
    pub(super) fn forge_update(&mut self, node: &str) {
        let Some(home_address) = self.scenario.mobile_node(node).map(MobilePlan::home_address) else { return };
        let sequence = self.hosts.iter().find_map(|host| match &host.node {
            Some(Node::Home(home)) => Some(home.next_sequence(home_address)),
            _ => None,
        });
        let packet = forged_update(home_address, sequence.unwrap_or_default(), self.scenario.binding_lifetime);
        if let Some(host) = self.host_named(CN) {
            self.say(host, Happening::Forged { node: node.to_owned() });
        }
        // Not judged as a packet of ours that went in clear: it starts on the home link.
        self.schedule(self.now, Event::Arrive(Link::Home, Wire::Packet(packet)));
    }

    pub(super) fn noticed(&mut self, cause: Cause) {
        let (doubted, refuted) = &mut self.doubts;
        match cause {
            Cause::MOVEMENT_DOUBTED => *doubted = doubted.saturating_add(1),
            Cause::MOVEMENT_REFUTED => *refuted = refuted.saturating_add(1),
            _ => {}
        }
    }

    /// What is wrong about movements that were not believed, and with where IKE SAs are after that.
    pub(super) fn judge_doubts(&self) -> Vec<String> {
        let expected = self.scenario.expect.refuted;
        let (doubted, refuted) = self.doubts;
        let mut wrong = Vec::new();
        if (doubted, refuted) != (expected, expected) {
            wrong.push(format!("{doubted} movements doubted and {refuted} refuted, {expected} expected"));
        }
        if expected == 0 {
            return wrong;
        }
        let paths = |host: &Host| -> BTreeMap<String, (String, String)> {
            let status = host.agent.as_ref().map(|agent| agent.status(self.clock()));
            let sas = status.into_iter().flat_map(|status| status.remotes).flat_map(|remote| remote.ike_sas);
            sas.map(|ike| (format!("{}-{}", ike.initiator_spi, ike.responder_spi), (ike.local, ike.remote))).collect()
        };
        let Some(home) = self.hosts.iter().find(|host| matches!(host.role, Role::HomeAgent)).map(paths) else { return wrong };
        for host in self.hosts.iter().filter(|host| matches!(host.role, Role::Mobile(_))) {
            for (spis, (local, remote)) in paths(host) {
                if home.get(&spis) != Some(&(remote.clone(), local.clone())) {
                    wrong.push(format!("{}: IKE SA {local} - {remote} is at {:?} on the home agent", host.name, home.get(&spis)));
                }
            }
        }
        wrong
    }
}

/// The binding update that was measured to slip past policies for a Mobility Header type.
pub fn forged_update(home_address: IpAddr, sequence: u16, lifetime: Duration) -> Packet {
    let message = Message::Update {
        sequence,
        flags: UpdateFlags(UpdateFlags::ACKNOWLEDGE | UpdateFlags::HOME | UpdateFlags::KEY_MOBILITY),
        lifetime: u16::try_from(lifetime.as_secs() / 4).unwrap_or(u16::MAX),
        options: match CORRESPONDENT {
            IpAddr::V6(address) => alternate_care_of(address),
            IpAddr::V4(_) => Vec::new(),
        },
    };
    let upper = Upper { protocol: MOBILITY_HEADER, sport: u16::from(message.number()), dport: 0, payload: message.encode() };
    Packet::clear(home_address, HOME_AGENT, upper)
}
