//! Addresses that change: an IKE SA is moved by us, or its peer calls from elsewhere (RFC 7296 2.11, 2.23; DESIGN section 5).
//! Invariant: SPIs, keys and message ids stay; an encrypted request goes out again octet for octet.

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
        self.awaiting.remove(&(old.local.ip(), ike));
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        if let Some(outstanding) = &mut sa.window.outstanding {
            (outstanding.repeats, outstanding.sends, outstanding.failures) = (0, 0, 0);
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
    /// its IKE_AUTH response arrived, and nobody but it can say where to. The repeat of our request goes there.
    pub(crate) fn peer_elsewhere(&mut self, context: &mut Context<'_>, ike: IkeId, path: &Path) {
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        if sa.path.remote.ip() == path.remote.ip() || sa.window.outstanding.is_none() {
            return;
        }
        let old = sa.path;
        sa.path = Path { interface: 0, ..*path };
        sa.moved = Some(context.now.boot);
        let new = sa.path;
        self.awaiting.remove(&(old.local.ip(), ike));
        self.out.event(KeyingEvent::IkeMoved { ike, old, new });
        self.resend(context, ike);
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
            self.repeat_to(context, ike, path);
        }
    }

    /// A peer that Mobile IPv6 governs asks from an address that no MIGRATE has named yet. The address is not stored, but a request of ours
    /// that waits for an answer may be what keeps the peer from being bound again, so one copy goes where the peer surely is.
    fn repeat_to(&mut self, context: &mut Context<'_>, ike: IkeId, path: &Path) {
        let Some(octets) = self.sas.get(&ike).and_then(|sa| sa.window.outstanding.as_ref()).map(|request| request.octets.clone()) else {
            return;
        };
        self.out.transmit(context, *path, octets);
    }
}
