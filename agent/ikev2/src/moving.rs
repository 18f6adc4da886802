//! Addresses that change: an IKE SA is moved by us, or its peer calls from elsewhere (RFC 7296 2.11, 2.23; DESIGN section 5).
//! Invariant: SPIs, keys and message ids stay; an encrypted request goes out again octet for octet. Where a peer that Mobile IPv6
//! governs is, is never learnt from the peer.

use std::net::IpAddr;

use watari_kernel::KmAddress;
use watari_sa::{Context, IkeId, KeyingEvent, Path};

use crate::Ikev2;
use crate::state::State;

impl Ikev2 {
    /// Moves an IKE SA to other addresses; the ports stay.
    pub(crate) fn move_ike(&mut self, context: &mut Context<'_>, ike: IkeId, addresses: KmAddress) {
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        let old = sa.path;
        if (old.local.ip(), old.remote.ip()) == (addresses.local, addresses.remote) || sa.visible_state().is_none() {
            return;
        }
        let mut new = Path { interface: 0, ..old };
        new.local.set_ip(addresses.local);
        new.remote.set_ip(addresses.remote);
        sa.path = new;
        sa.moved = Some(context.now.boot);
        sa.candidate = None;
        self.awaiting.remove(&(old.local.ip(), ike));
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        if let Some(outstanding) = &mut sa.window.outstanding {
            (outstanding.repeats, outstanding.sends, outstanding.copied, outstanding.failures) = (0, 0, 0, 0);
        }
        let unanswered_init = matches!(&sa.state, State::AwaitInit(attempt) if attempt.answered.is_none());
        let encrypted = sa.window.outstanding.is_some() && sa.state.crypt().is_some();
        self.out.event(KeyingEvent::IkeMoved { ike, old, new });
        if unanswered_init {
            self.init_afresh(context, ike);
        } else if encrypted {
            self.resend(context, ike);
        } else {
            self.check_liveness(context, ike);
        }
    }

    /// An address can be sent from now: what waited for it goes out.
    pub(crate) fn address_usable(&mut self, context: &mut Context<'_>, address: IpAddr) {
        let unspecified =
            if address.is_ipv4() { IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED) };
        for local in [address, unspecified] {
            let waiting: Vec<IkeId> = self.awaiting.range((local, IkeId(0))..=(local, IkeId(u64::MAX))).map(|(_, ike)| *ike).collect();
            for ike in waiting {
                self.resend(context, ike);
            }
        }
    }

    /// The responder of an unfinished handshake asks for something under its keys from another address: it has finished and moved before
    /// its IKE_AUTH response arrived, and nobody but it can say where to. Nobody has proved anything yet, so less than ever is the address
    /// stored: the IKE SA stays where it was told to be, and one copy of IKE_AUTH goes where the peer asks from.
    pub(crate) fn peer_elsewhere(&mut self, context: &mut Context<'_>, ike: IkeId, path: &Path) {
        if self.sas.get(&ike).is_some_and(|sa| sa.path.remote.ip() != path.remote.ip()) {
            self.copy_to(context, ike, path);
        }
    }

    /// An authenticated message came from the peer: it lives, and it is where we think, or tells where it is.
    pub(crate) fn heard_from(&mut self, context: &mut Context<'_>, ike: IkeId, path: &Path, response: bool) {
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        let governed =
            sa.remote.and_then(|remote| context.config.remote(remote)).is_some_and(|remote| remote.role.home_address().is_some());
        sa.hint = None;
        if let Some(session) = sa.session_mut() {
            session.heard = context.now.boot;
            session.confirmed = true;
        }
        let same_peer = path.remote.ip() == sa.path.remote.ip();
        if !response && sa.is_established() {
            //= rfc7296#2.23
            //# a side that is not behind a NAT follows the address and port of the last valid, authenticated packet
            let follows = sa.nat.peer && !sa.nat.us && !governed;
            if same_peer && path.local.ip() == sa.path.local.ip() {
                // The peer went over to another port: MOBIKE or NAT traversal.
                (sa.path.local, sa.path.remote) = (path.local, path.remote);
            } else if follows {
                sa.path = *path;
            }
        }
        if response && sa.moved.take().is_some() {
            let path = sa.path;
            self.out.event(KeyingEvent::PathConfirmed { ike, path });
        }
        if !response && governed && !same_peer {
            self.copy_to(context, ike, path);
        }
    }

    /// The peer asks, under the keys of the IKE SA, from an address that no MIGRATE has named. May that address be sent to? The response goes
    /// there (RFC 7296 2.11), and one copy of the request of ours that waits may be what lets the peer be bound again, so it goes there too:
    /// it is encrypted, octet for octet what was sent before, and tells an eavesdropper nothing new. The address is not stored: for a peer
    /// that Mobile IPv6 governs only privileged local sources say where it is (RFC 4877 4.3), never the peer, so SAs and later requests stay
    /// with the address they were told. Nothing unauthenticated gets here: whoever repeats, from an address of its own, a message that it
    /// caught on the way can draw at most as many copies as we make repeats, and no answer but the peer's moves anything.
    fn copy_to(&mut self, context: &mut Context<'_>, ike: IkeId, path: &Path) {
        let Some(request) = self.sas.get_mut(&ike).and_then(|sa| sa.window.outstanding.as_mut()) else { return };
        if request.copied >= request.sends {
            return;
        }
        request.copied = request.sends;
        let octets = request.octets.clone();
        self.out.transmit(context, *path, octets);
    }
}
