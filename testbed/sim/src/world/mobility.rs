//! The protected Mobility Header sockets of the hosts: they hear what came in an ESP transport SA of their reqid, and nothing else.
//! Invariant: a message is in the agent's queue before anything the Mobile IPv6 daemon does about it, as one softirq clones it to all sockets.

use std::collections::BTreeSet;
use std::net::IpAddr;

use watari_engine::{Heard, Input, Listen, MobilityInput};
use watari_kernel::mirror::{Body, Inner, Packet};
use watari_policies::Mode;
use watari_policies::selector::MOBILITY_HEADER;

use super::World;

impl World<'_> {
    /// The agent wants exactly these sockets.
    pub(super) fn listen(&mut self, host: usize, sockets: &[Listen]) {
        let Some(this) = self.hosts.get_mut(host) else { return };
        for socket in sockets.iter().filter(|socket| !this.listening.contains(socket)) {
            this.inputs.push_back(Input::Mobility(MobilityInput::Listening { socket: *socket, open: true }));
        }
        this.listening = sockets.iter().copied().collect::<BTreeSet<_>>();
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
