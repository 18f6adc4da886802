//! Indexes over the configuration: a remote by identity, candidates by address, policies by remote.
//! Invariant: nothing here is looked at for longer than one configuration; `Ikev2` rebuilds it when told of a new one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use watari_policies::certificate::PeerProof;
use watari_policies::model::Authentication;
use watari_policies::{Config, Gateway, Identity, Policy, PolicyId, Remote, RemoteId, SendOn};

use crate::certificates;
use crate::identity::comparable;

/// The indexes.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    size: Option<(usize, usize)>,
    by_identity: BTreeMap<Identity, Vec<RemoteId>>,
    by_prefix: BTreeMap<IpNet, Vec<RemoteId>>,
    lengths: BTreeSet<u8>,
    from_anywhere: Vec<RemoteId>,
    policies: BTreeMap<RemoteId, Vec<PolicyId>>,
    /// Where all remotes that may call from a prefix (`None`: anywhere) to an address of ours (`None`: any) are sent by their first
    /// message; `None` if they differ, or are not.
    sent_on: BTreeMap<(Option<IpNet>, Option<IpAddr>), Option<Gateway>>,
    /// Whether either side of any remote signs.
    signs: bool,
    /// Hashes of every CA that any remote trusts; `None` if no peer has a certificate.
    authorities: Option<BTreeSet<[u8; 20]>>,
}

/// Most CAs that IKE_SA_INIT names.
const MOST_AUTHORITIES: usize = 32;

impl Directory {
    /// Builds the indexes unless they stand for a configuration of this size.
    pub(crate) fn ensure(&mut self, config: &Config) {
        let size = (config.remotes.len(), config.policies.len());
        if self.size == Some(size) {
            return;
        }
        *self = Self { size: Some(size), ..Self::default() };
        // A record that is only kept for its number is nobody's, whatever secret it still names.
        let negotiating =
            |(remote, _): &(&Remote, u32)| remote.authentication != Authentication::Manual && !remote.remote_identity.is_nobody();
        for (remote, id) in config.remotes.iter().zip(0u32..).filter(negotiating) {
            self.add(config, remote, RemoteId(id));
        }
        for (policy, id) in config.policies.iter().zip(0u32..).filter(|(policy, _)| config.manual(policy).is_none()) {
            self.policies.entry(policy.remote).or_default().push(PolicyId(id));
        }
    }

    /// Forgets everything: the configuration has changed.
    pub(crate) fn clear(&mut self) {
        self.size = None;
    }

    fn add(&mut self, config: &Config, remote: &Remote, id: RemoteId) {
        self.signs |= certificates::signs(remote);
        if let Some(PeerProof::Certificate(trust)) = remote.authentication.theirs() {
            let known = self.authorities.get_or_insert_default();
            known.extend(certificates::hashes(&trust));
        }
        self.by_identity.entry(comparable(&remote.remote_identity)).or_default().push(id);
        // Before the identity is known only the proposals matter: one remote stands for all with the same ones.
        let add_distinct = |list: &mut Vec<RemoteId>| {
            if !list.iter().any(|known| config.remote(*known).is_some_and(|known| known.proposals == remote.proposals)) {
                list.push(id);
            }
        };
        let at_init = remote.gateways.redirect_to.as_ref().filter(|(_, when)| *when == SendOn::Init).map(|(gateway, _)| gateway);
        let mut agree = |prefix: Option<IpNet>| {
            let known = self.sent_on.entry((prefix, remote.local_address)).or_insert_with(|| at_init.cloned());
            if known.as_ref() != at_init {
                *known = None;
            }
        };
        if remote.allowed_from.is_empty() {
            agree(None);
            add_distinct(&mut self.from_anywhere);
        }
        for prefix in &remote.allowed_from {
            self.lengths.insert(prefix.prefix_len());
            agree(Some(prefix.trunc()));
            add_distinct(self.by_prefix.entry(prefix.trunc()).or_default());
        }
    }

    /// Remotes that may call from an address, the most specific first, one for each list of IKE proposals.
    pub(crate) fn candidates(&self, address: IpAddr) -> Vec<RemoteId> {
        let mut found = Vec::new();
        for length in self.lengths.iter().rev() {
            let Ok(net) = IpNet::new(address, *length) else { continue };
            found.extend(self.by_prefix.get(&net.trunc()).into_iter().flatten().copied());
        }
        found.extend(self.from_anywhere.iter().copied());
        found
    }

    /// Where whoever calls from an address to one of ours is sent by its first message: only if every remote that may call so says the
    /// same, for which of them it is nobody knows yet.
    pub(crate) fn sent_on(&self, from: IpAddr, to: IpAddr) -> Option<&Gateway> {
        let nets = self.lengths.iter().filter_map(|length| IpNet::new(from, *length).ok()).map(|net| Some(net.trunc()));
        let places = nets.chain([None]).flat_map(|net| [(net, None), (net, Some(to))]);
        let mut rules = places.filter_map(|place| self.sent_on.get(&place));
        let first = rules.next()?;
        first.as_ref().filter(|_| rules.all(|rule| rule == first))
    }

    /// The remote that proves this identity from this address and, if the peer named one, expects our identity `ours`.
    pub(crate) fn by_identity(&self, config: &Config, peer: &Identity, ours: Option<&Identity>, from: IpAddr) -> Option<RemoteId> {
        let fits = |id: &&RemoteId| config.remote(**id).is_some_and(|remote| allows(remote, from));
        let list = self.by_identity.get(&comparable(peer))?;
        let wanted = ours.map(comparable);
        let named = |id: &&RemoteId| {
            wanted.as_ref().is_some_and(|ours| config.remote(**id).is_some_and(|remote| comparable(&remote.local_identity) == *ours))
        };
        list.iter().filter(fits).find(named).or_else(|| list.iter().find(fits)).copied()
    }

    /// Whether either side of any remote signs.
    pub(crate) const fn signs(&self) -> bool {
        self.signs
    }

    /// What a responder asks for before it knows who calls: a certificate of any CA that some remote trusts.
    pub(crate) fn authorities(&self) -> Option<Vec<u8>> {
        self.authorities.as_ref().map(|known| known.iter().take(MOST_AUTHORITIES).flatten().copied().collect())
    }

    /// Whether any remote proves this identity, wherever it may call from.
    pub(crate) fn knows(&self, peer: &Identity) -> bool {
        self.by_identity.contains_key(&comparable(peer))
    }

    /// Policies of a remote in configuration order.
    pub(crate) fn policies<'a>(&'a self, config: &'a Config, remote: RemoteId) -> impl Iterator<Item = (PolicyId, &'a Policy)> {
        self.policies.get(&remote).into_iter().flatten().filter_map(|id| Some((*id, config.policy(*id)?)))
    }
}

/// Whether a remote may call from an address.
fn allows(remote: &Remote, from: IpAddr) -> bool {
    remote.allowed_from.is_empty() || remote.allowed_from.iter().any(|net| net.contains(&from))
}
