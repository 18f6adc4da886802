//! Where is the peer? Its IKE SA asks on its path and at another address alike, octet for octet; the answer shows by where it comes from.
//! Invariant: the path of the IKE SA stays; only an answer under its keys to a request that both places got decides.

use watari_kernel::KmAddress;
use watari_sa::{Context, IkeId, KeyingEvent, Path};

use crate::Ikev2;

/// An address the peer may have moved to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    path: Path,
    /// The first request whose every transmission goes to both places: an answer to an older one may have left before the peer did.
    first: u32,
}

impl Ikev2 {
    /// Asks at both places from now on until an answer decides.
    pub(crate) fn prove_candidate(&mut self, context: &mut Context<'_>, ike: IkeId, addresses: KmAddress) {
        let Some(sa) = self.sas.get_mut(&ike).filter(|sa| sa.is_established()) else { return };
        let mut path = Path { interface: 0, ..sa.path };
        path.local.set_ip(addresses.local);
        path.remote.set_ip(addresses.remote);
        let first = sa.window.outstanding.as_ref().map_or(sa.window.next_request, |request| request.id.saturating_add(1));
        sa.candidate = Some(Candidate { path, first });
        if sa.window.outstanding.is_some() {
            self.copy_to_candidate(context, ike);
        } else {
            self.check_liveness(context, ike);
        }
    }

    /// The outstanding request was sent: it goes to where the peer may be as well.
    pub(crate) fn copy_to_candidate(&mut self, context: &mut Context<'_>, ike: IkeId) {
        let Some(sa) = self.sas.get(&ike) else { return };
        if let (Some(candidate), Some(request)) = (sa.candidate, &sa.window.outstanding) {
            self.out.transmit(context, candidate.path, request.octets.clone());
        }
    }

    /// A request was answered from this path.
    pub(crate) fn answered_from(&mut self, context: &mut Context<'_>, ike: IkeId, path: Path, request: u32) {
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        let Some(candidate) = sa.candidate else { return };
        let there = path.remote.ip() == candidate.path.remote.ip();
        if !there && request < candidate.first {
            return self.check_liveness(context, ike);
        }
        sa.candidate = None;
        self.out.event(if there { KeyingEvent::PathProved { ike, path } } else { KeyingEvent::PathRefuted { ike, path } });
    }
}
