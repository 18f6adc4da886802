//! Octets and packets of child SAs, as the kernel counts them: asked for when somebody wants a list, which waits for the answers.
//! Invariant: a list is given in bounded time, with what is known by then.

use std::collections::BTreeMap;
use std::time::Duration;

use watari_kernel::{KernelRequest, Now, SaId, SaInfo};
use watari_sa::ChildSa;

use crate::agent::Agent;
use crate::control::{Awaited, MAX_JSON};
use crate::core::Purpose;
use crate::timers::Timer;
use crate::{CommandId, Reply};

/// How long a list waits for the kernel.
const PATIENCE: Duration = Duration::from_millis(500);
/// Most SAs that are asked for one by one; more are cheaper to read all at once.
const ONE_BY_ONE: usize = 64;

/// What is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Listing {
    /// The whole status.
    Status,
    /// IKE SAs and their children, of the remote of this name or all.
    Sas(Option<String>),
}

/// What an SA has carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Octets.
    pub(crate) bytes: u64,
    /// Packets.
    pub(crate) packets: u64,
    /// Seconds since the Unix epoch of the last use; 0 for never.
    pub(crate) used: u64,
}

/// What SAs have carried, by id.
pub(crate) type Usages = BTreeMap<SaId, Usage>;

/// A list that waits for the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counting {
    listing: Listing,
    /// Answers still to come.
    left: usize,
    usages: Usages,
}

impl Agent {
    /// Asks the kernel what it has counted before a list is given.
    pub(crate) fn count_first(&mut self, now: Now, id: CommandId, listing: Listing) {
        let wanted = |child: &&ChildSa| match &listing {
            Listing::Sas(Some(name)) => self.core.config.remote(child.remote).is_some_and(|remote| remote.name == *name),
            Listing::Sas(None) | Listing::Status => true,
        };
        let halves = |child: &ChildSa| [(child.inbound.installed, child.inbound_id()), (child.outbound.installed, child.outbound_id())];
        let sas = self.core.children.iter().filter(wanted).flat_map(halves).filter(|(installed, _)| *installed).map(|(_, sa)| sa);
        let sas: Vec<SaId> = sas.collect();
        let requests: Vec<_> = match sas.len() {
            0..=ONE_BY_ONE => sas.into_iter().map(KernelRequest::QuerySa).collect(),
            _ => vec![KernelRequest::DumpSas],
        };
        let counting = Counting { listing, left: requests.len(), usages: Usages::new() };
        if requests.is_empty() {
            return self.counted(now, id, &counting);
        }
        self.core.commands.insert(id, Awaited::Counts(counting));
        self.core.timers.set(Timer::Command(id.0), now.boot.saturating_add(PATIENCE));
        for request in requests {
            self.core.ask(Purpose::Counts(id), request);
        }
    }

    /// The kernel answered, or refused to.
    pub(crate) fn count(&mut self, now: Now, id: CommandId, sas: &[SaInfo]) {
        let Some(Awaited::Counts(counting)) = self.core.commands.get_mut(&id) else { return };
        let usages = sas.iter().filter_map(|info| Some((info.id()?, Usage { bytes: info.bytes, packets: info.packets, used: info.used })));
        counting.usages.extend(usages);
        counting.left = counting.left.saturating_sub(1);
        if counting.left == 0
            && let Some(Awaited::Counts(counting)) = self.core.commands.remove(&id)
        {
            self.core.timers.clear(Timer::Command(id.0));
            self.counted(now, id, &counting);
        }
    }

    /// Gives the list with what is known.
    pub(crate) fn counted(&mut self, now: Now, id: CommandId, counting: &Counting) {
        match &counting.listing {
            Listing::Status => {
                let json = self.status_with(now, &counting.usages).into_json_within(MAX_JSON);
                self.reply(id, Reply::Json(json));
            }
            Listing::Sas(remote) => {
                let rows = self.list_sas(now, remote.as_deref(), &counting.usages);
                self.rows(id, "list-sa", rows);
            }
        }
    }
}
