//! Where is the peer? Its IKE SA asks on its path and at another address alike, octet for octet; the answer shows by where it comes from
//! and, under its keys, by where the peer says that it was asked.
//! Invariant: the path of the IKE SA stays; only an answer under its keys to a request that both places got decides.

use watari_kernel::KmAddress;
use watari_sa::{Context, IkeId, KeyingEvent, Path};
use watari_wire::ikev2::Payload;

use crate::task::Task;
use crate::{Ikev2, nat};

/// An address the peer may have moved to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    path: Path,
    /// The first request whose every transmission goes to both places: an answer to an older one may have left before the peer did.
    first: u32,
    /// Whether an answer came from one place and said that it was given at the other.
    contradicted: bool,
}

impl Ikev2 {
    /// Asks at both places from now on until an answer decides.
    pub(crate) fn prove_candidate(&mut self, context: &mut Context<'_>, ike: IkeId, addresses: KmAddress) {
        let Some(sa) = self.sas.get_mut(&ike).filter(|sa| sa.is_established()) else { return };
        let mut path = Path { interface: 0, ..sa.path };
        path.local.set_ip(addresses.local);
        path.remote.set_ip(addresses.remote);
        let first = sa.window.outstanding.as_ref().map_or(sa.window.next_request, |request| request.id.saturating_add(1));
        sa.candidate = Some(Candidate { path, first, contradicted: false });
        if sa.window.outstanding.as_ref().is_some_and(|request| !request.rests) {
            self.copy_to_candidate(context, ike);
        }
        self.ask_where(context, ike);
    }

    /// Makes the next request one that every peer answers alike.
    fn ask_where(&mut self, context: &mut Context<'_>, ike: IkeId) {
        let Some(sa) = self.sas.get(&ike) else { return };
        let asks = |task: &Task| matches!(task, Task::Liveness);
        if !sa.current.as_ref().is_some_and(asks) && !sa.tasks.iter().any(|queued| asks(&queued.task)) {
            self.push_task_first(ike, Task::Liveness);
        }
        self.run_tasks(context, ike);
    }

    /// The outstanding request was sent: it goes to where the peer may be as well.
    pub(crate) fn copy_to_candidate(&mut self, context: &mut Context<'_>, ike: IkeId) {
        let Some(sa) = self.sas.get(&ike) else { return };
        if let (Some(candidate), Some(request)) = (sa.candidate, &sa.window.outstanding) {
            self.out.transmit(context, candidate.path, request.octets.clone());
        }
    }

    /// Where the peer's sign of life was asked for, said inside the answer, where nobody on the way can change it. Only peers that Mobile
    /// IPv6 governs are ever asked where they are.
    pub(crate) fn asked_here(&self, context: &Context<'_>, ike: IkeId) -> Vec<Payload> {
        let Some(sa) = self.sas.get(&ike) else { return Vec::new() };
        let governed =
            sa.remote.and_then(|remote| context.config.remote(remote)).is_some_and(|remote| remote.role.home_address().is_some());
        let path = sa.window.answering.map(|answering| answering.path).filter(|path| governed && !path.local.ip().is_unspecified());
        //= rfc4555#3.8
        //# an INFORMATIONAL exchange carries hashes of the addresses it really has, under the protection of the IKE SA
        path.map_or_else(Vec::new, |path| nat::notifies(sa.spi_i, sa.spi_r, &path).into())
    }

    /// A request was answered from this path; `question` says whether it only asked for a sign of life.
    pub(crate) fn answered_from(
        &mut self,
        context: &mut Context<'_>,
        ike: IkeId,
        (path, request): (Path, u32),
        question: bool,
        payloads: &[Payload],
    ) {
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        let Some(candidate) = &mut sa.candidate else { return };
        let there = path.remote.ip() == candidate.path.remote.ip();
        if !question || (!there && request < candidate.first) {
            return self.ask_where(context, ike);
        }
        let mut sender = path.remote;
        sender.set_ip(candidate.path.remote.ip());
        // Whoever carries the question to where the peer really is, and its answer back, cannot change what the answer says. What a peer
        // that says nothing of it is believed by is the address its answer comes from.
        let says_there = nat::said_source(sa.spi_i, sa.spi_r, sender, payloads.iter()).unwrap_or(there);
        if there != says_there && !candidate.contradicted {
            // The answer may be the repeat of one given before the peer moved; the next one is not.
            (candidate.contradicted, candidate.first) = (true, sa.window.next_request);
            return self.ask_where(context, ike);
        }
        sa.candidate = None;
        let here = sa.path;
        self.out.event(match (there, says_there) {
            (true, true) => KeyingEvent::PathProved { ike, path },
            (_, false) => KeyingEvent::PathRefuted { ike, path: here },
            (false, true) => KeyingEvent::PathUndecided { ike },
        });
    }

    /// Nobody answers the question at either place: it rests, and so does the doubt. True if it was one.
    pub(crate) fn unanswered_question(&mut self, ike: IkeId) -> bool {
        let Some(sa) = self.sas.get_mut(&ike).filter(|sa| sa.is_established() && matches!(sa.current, Some(Task::Liveness))) else {
            return false;
        };
        let (Some(request), Some(_)) = (&mut sa.window.outstanding, sa.candidate.take()) else { return false };
        //= rfc7296#2.4
        //# nothing that is not protected, as the reason to ask was, makes an end of an IKE SA
        request.rests = true;
        self.out.event(KeyingEvent::PathUndecided { ike });
        true
    }

    /// A request that rests is sent again, because now there is a reason of our own to hear from the peer. True if it rested.
    pub(crate) fn wake(&mut self, context: &mut Context<'_>, ike: IkeId) -> bool {
        let request = self.sas.get_mut(&ike).and_then(|sa| sa.window.outstanding.as_mut());
        let Some(request) = request.filter(|request| request.rests) else { return false };
        (request.repeats, request.sends, request.copied) = (0, 0, 0);
        //= rfc7296#2.1
        //# a request is repeated as it is until it is answered: its message id is used for no other
        self.resend(context, ike);
        true
    }
}
