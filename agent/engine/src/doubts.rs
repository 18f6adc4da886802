//! Movements that are not believed yet, and how the last doubt about each peer ended.
//! Invariant: one doubt per peer, about one pair of addresses; each ends with one verdict.

use std::collections::BTreeMap;

use watari_kernel::{KmAddress, Now};
use watari_policies::RemoteId;
use watari_sa::IkeId;

/// A movement that is not believed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Doubt {
    /// Where the peer was thought to be.
    pub(crate) old: Option<KmAddress>,
    /// Where MIGRATE says the peer is.
    pub(crate) new: KmAddress,
    /// When the doubt arose.
    pub(crate) since: Now,
    /// Over which IKE SA the peer was asked.
    pub(crate) asked: Option<IkeId>,
}

/// How a doubt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The peer is at the new addresses.
    Proved,
    /// The peer is where it was.
    Refuted,
    /// The peer answered nowhere.
    Undecided,
    /// Another movement was believed meanwhile.
    Overtaken,
}

impl Verdict {
    /// Its word in a status.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Proved => "proved",
            Self::Refuted => "refuted",
            Self::Undecided => "undecided",
            Self::Overtaken => "overtaken",
        }
    }
}

/// A doubt that is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    /// What was doubted.
    pub(crate) doubt: Doubt,
    /// How it ended.
    pub(crate) verdict: Verdict,
    /// When.
    pub(crate) at: Now,
}

/// Doubts by peer.
#[derive(Debug, Default)]
pub(crate) struct Doubts {
    open: BTreeMap<RemoteId, Doubt>,
    ended: BTreeMap<RemoteId, Ended>,
}

impl Doubts {
    /// The doubt about a peer.
    pub(crate) fn get(&self, remote: RemoteId) -> Option<&Doubt> {
        self.open.get(&remote)
    }

    /// How the last doubt about a peer ended.
    pub(crate) fn last(&self, remote: RemoteId) -> Option<&Ended> {
        self.ended.get(&remote)
    }

    /// A movement is doubted; a doubt about the same addresses keeps its beginning.
    pub(crate) fn raise(&mut self, remote: RemoteId, doubt: Doubt) {
        let before = self.open.get(&remote).copied().filter(|before| before.new == doubt.new);
        self.open.insert(remote, before.map_or(doubt, |before| Doubt { old: before.old, since: before.since, ..doubt }));
    }

    /// An IKE SA was replaced by another one: the doubt about whose question ended with it.
    pub(crate) fn rekeyed(&mut self, old: IkeId, new: IkeId) -> Option<Doubt> {
        let doubt = self.open.values_mut().find(|doubt| doubt.asked == Some(old))?;
        doubt.asked = Some(new);
        Some(*doubt)
    }

    /// The doubt about a peer ends, if there was one.
    pub(crate) fn end(&mut self, now: Now, remote: RemoteId, verdict: Verdict) -> Option<Doubt> {
        let doubt = self.open.remove(&remote)?;
        self.ended.insert(remote, Ended { doubt, verdict, at: now });
        Some(doubt)
    }

    /// A peer is believed to be at these addresses: that ends every doubt about it.
    pub(crate) fn settled(&mut self, now: Now, remote: RemoteId, at: KmAddress) {
        let here = self.get(remote).is_some_and(|doubt| doubt.new == at);
        self.end(now, remote, if here { Verdict::Proved } else { Verdict::Overtaken });
    }

    /// Nothing that was thought of a peer's places counts any more.
    pub(crate) fn forget(&mut self, remote: RemoteId) {
        self.open.remove(&remote);
        self.ended.remove(&remote);
    }

    /// Keeps what is about peers that there still are.
    pub(crate) fn retain(&mut self, stays: impl Fn(&RemoteId) -> bool) {
        self.open.retain(|remote, _| stays(remote));
        self.ended.retain(|remote, _| stays(remote));
    }
}
