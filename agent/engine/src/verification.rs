//! Movements that nothing protected stands behind: the old path is kept while the peer's own answer shows where it is.
//! Invariant: a MIGRATE alone never leads IKE away from a peer whose binding updates are listened to; what the kernel does with its own
//! SAs is the kernel's business.

use watari_kernel::{KmAddress, Now};
use watari_mip6::{Belief, Decision, RemoteMove};
use watari_policies::RemoteId;
use watari_sa::{Cause, IkeId, IkeState, Path};

use crate::Event;
use crate::agent::Agent;
use crate::core::Core;
use crate::doubts::{Doubt, Verdict};
use crate::movement::ike_sas_of;

/// Who moved a peer, where the Mobile IPv6 daemon told.
pub(crate) const TOLD: &str = "the Mobile IPv6 daemon on the control socket";

impl Core {
    /// Whether a peer is believed to be where a MIGRATE says, and what its IKE SAs do then.
    pub(crate) fn belief(&self, now: Now, remote: RemoteId, addresses: KmAddress) -> Belief {
        if self.stands_behind(now, remote, addresses) { Belief::Believed(self.decision(now, remote, addresses)) } else { Belief::Doubted }
    }
}

impl Agent {
    /// Keeps IKE where it is and has the peer asked, over both paths, where it is.
    pub(crate) fn doubt(&mut self, now: Now, moved: &RemoteMove) {
        let RemoteMove { remote, old, new } = *moved;
        let established = |ike: &IkeId| self.keying.status(*ike).is_some_and(|status| status.state == IkeState::Established);
        let newest = ike_sas_of(self.keying.as_ref(), remote).into_iter().map(|(ike, _)| ike).filter(established).last();
        // A question ends with the IKE SA it was asked over; the doubt does not.
        if self.core.mobility.doubts.get(remote).is_some_and(|doubt| doubt.new == new && doubt.asked == newest) {
            return;
        }
        self.core.mobility.doubts.raise(remote, Doubt { old, new, since: now, asked: newest });
        let stays = old.map_or_else(|| "no address is known yet".to_owned(), |old| format!("IKE stays with {}", old.remote));
        let asked = if newest.is_some() { "the peer is asked" } else { "there is no IKE SA to ask it over" };
        let detail = format!("{} at {}: {stays}; {asked}", self.core.name_of(remote), new.remote);
        self.core.tell(Event::Notice { cause: Cause::MOVEMENT_DOUBTED, detail });
        if let Some(ike) = newest {
            self.keying_call(now, |keying, context| keying.prove(context, ike, new));
        }
    }

    /// What was followed of an IKE SA is followed of its successor, and a question that ended with it is asked again.
    pub(crate) fn rekeyed(&mut self, now: Now, old: IkeId, new: IkeId) {
        self.core.mobility.rekeyed(old, new);
        if let Some(doubt) = self.core.mobility.doubts.rekeyed(old, new) {
            self.keying_call(now, |keying, context| keying.prove(context, new, doubt.new));
        }
    }

    /// The peer's answer came from where it was doubted to be.
    pub(crate) fn path_proved(&mut self, now: Now, ike: IkeId, path: Path) {
        if let Some((remote, new)) = self.core.doubted_at(self.remote_of(ike), path) {
            self.accept(now, remote, new, "the peer's answer from there");
        }
    }

    /// The peer's answer came from where it was before.
    pub(crate) fn path_refuted(&mut self, now: Now, ike: IkeId, path: Path) {
        let Some(remote) = self.remote_of(ike) else { return };
        if let Some(doubt) = self.core.mobility.doubts.end(now, remote, Verdict::Refuted) {
            let detail = format!("{} answers from {}, not from {}", self.core.name_of(remote), path.remote.ip(), doubt.new.remote);
            self.core.tell(Event::Notice { cause: Cause::MOVEMENT_REFUTED, detail });
        }
    }

    /// The peer answered nowhere: the doubt ends, the IKE SA stays where it is.
    pub(crate) fn path_undecided(&mut self, now: Now, ike: IkeId) {
        let Some(remote) = self.remote_of(ike) else { return };
        if let Some(doubt) = self.core.mobility.doubts.end(now, remote, Verdict::Undecided) {
            let detail = format!("{} answers neither where it was nor from {}", self.core.name_of(remote), doubt.new.remote);
            self.core.tell(Event::Notice { cause: Cause::MOVEMENT_UNDECIDED, detail });
        }
    }

    /// An IKE SA came up from where its peer was doubted to be: it has proved itself there, unless what it proved itself with says that
    /// somebody changed the source address on the way (RFC 7296 2.23), as whoever relays a handshake does.
    pub(crate) fn came_up(&mut self, now: Now, ike: IkeId, remote: RemoteId, path: Path) {
        if self.keying.status(ike).is_some_and(|status| status.nat.peer) {
            return;
        }
        if let Some((remote, new)) = self.core.doubted_at(Some(remote), path) {
            self.accept(now, remote, new, "an IKE SA made from there");
        } else if let Some(doubt) = self.core.mobility.doubts.get(remote).filter(|doubt| doubt.asked.is_none()) {
            // There was nobody to ask when the movement was told.
            let moved = RemoteMove { remote, old: doubt.old, new: doubt.new };
            self.doubt(now, &moved);
        }
    }

    fn remote_of(&self, ike: IkeId) -> Option<RemoteId> {
        self.keying.status(ike)?.remote
    }

    /// A peer is at these addresses by other evidence than MIGRATE: records and IKE SAs go there, or IKE SAs are given up.
    pub(crate) fn accept(&mut self, now: Now, remote: RemoteId, new: KmAddress, by: &'static str) {
        self.core.mobility.doubts.settled(now, remote, new);
        let old = self.core.places.remembered(remote);
        let ikes = ike_sas_of(self.keying.as_ref(), remote).into_iter();
        let stale: Vec<_> = ikes.filter(|(ike, addresses)| *addresses != self.with_peer_of(remote, *ike, new)).collect();
        if stale.is_empty() && old == Some(new) {
            return;
        }
        let decision = self.core.decision(now, remote, new);
        let (mut moving, mut given_up) = (Vec::new(), Vec::new());
        for (ike, addresses) in stale {
            match decision {
                Decision::Discard(connections) if self.keying.stands(ike) => {
                    if self.core.concerns(remote, connections, addresses) {
                        given_up.push(ike);
                    }
                }
                _ => moving.push((ike, addresses)),
            }
        }
        let old = moving.first().map(|(_, old)| *old).or(old);
        let standing = moving.iter().copied().filter(|(ike, _)| self.keying.stands(*ike)).collect();
        self.core.bound(now, remote, new, standing);
        for policy in self.core.lookup.policies_of(remote).to_vec() {
            self.core.places.remember(policy, new);
        }
        self.core.places.remember_remote(remote, new);
        self.core.tell(Event::Relocated { remote, old, new, ike: moving.iter().map(|(ike, _)| *ike).collect(), by });
        if !moving.is_empty() {
            self.core.moved_to(now, remote, old, new);
        }
        self.give_up(now, remote, &given_up);
        for (ike, _) in moving {
            let to = self.with_peer_of(remote, ike, new);
            self.keying_call(now, |keying, context| keying.retarget(context, ike, to));
        }
    }
}

impl Core {
    fn doubted_at(&self, remote: Option<RemoteId>, path: Path) -> Option<(RemoteId, KmAddress)> {
        let remote = remote?;
        let doubt = self.mobility.doubts.get(remote)?;
        (doubt.new.remote == path.remote.ip()).then_some((remote, doubt.new))
    }

    pub(crate) fn name_of(&self, remote: RemoteId) -> &str {
        self.config.remote(remote).map_or("a peer", |remote| remote.name.as_str())
    }
}
