//! Tasks: closing child SAs and IKE SAs, and what the peer says in INFORMATIONAL (RFC 7296 1.4, 1.4.1, 2.25).

use watari_kernel::Spi;
use watari_policies::Protocol;
use watari_sa::{Cause, ChildId, ChildState, Context, IkeId, KeyingEvent, Owner};
use watari_wire::ikev2::{Delete, NotifyType, Payload, ProtocolId};

use super::Task;
use crate::payloads::Payloads;
use crate::proposals::protocol_id;
use crate::state::State;
use crate::timers::Timer;
use crate::{Ikev2, LINGER};

/// How many unknown SPIs that a peer deletes are remembered while its answer about a child SA is under way.
const MOST_WITHDRAWN: usize = 64;

impl Ikev2 {
    pub(super) fn start_delete_child(&mut self, context: &mut Context<'_>, ike: IkeId, child: ChildId, cause: Cause) {
        let Some(sa) = context.children.get(child).filter(|sa| sa.owner == Owner::Ike(ike)) else { return };
        if self.drains(child) {
            return;
        }
        //= rfc7296#1.4.1
        //# a delete names the SPIs that its sender expects in inbound packets
        let delete = Delete::children(protocol_id(sa.protocol), &[sa.inbound.spi.0]);
        context.children.update(child, |sa| sa.state = ChildState::Closing);
        if let Some(sa) = self.sas.get_mut(&ike) {
            sa.current = Some(Task::DeleteChild { child, cause });
        }
        self.inform(context, ike, &[Payload::Delete(delete)]);
    }

    pub(super) fn start_delete_spi(&mut self, context: &mut Context<'_>, ike: IkeId, protocol: Protocol, spi: Spi) {
        if let Some(sa) = self.sas.get_mut(&ike) {
            sa.current = Some(Task::DeleteSpi { protocol, spi });
        }
        self.inform(context, ike, &[Payload::Delete(Delete::children(protocol_id(protocol), &[spi.0]))]);
    }

    pub(super) fn start_delete_ike(&mut self, context: &mut Context<'_>, ike: IkeId, cause: Cause) {
        if let Some(sa) = self.sas.get_mut(&ike) {
            sa.current = Some(Task::DeleteIke { cause });
        }
        self.inform(context, ike, &[Payload::Delete(Delete::ike_sa())]);
    }

    /// The peer has closed the IKE SA on our request.
    pub(super) fn delete_ike_answered(&mut self, context: &mut Context<'_>, ike: IkeId) {
        let Some(sa) = self.sas.get(&ike) else { return };
        let cause = match &sa.current {
            Some(Task::DeleteIke { cause }) => *cause,
            _ => Cause::OPERATOR,
        };
        self.end(context, ike, cause, String::new());
    }

    /// Ends an IKE SA with its children; told unless a successor has taken over.
    pub(crate) fn end(&mut self, context: &mut Context<'_>, ike: IkeId, cause: Cause, detail: String) {
        let Some(sa) = self.sas.get(&ike) else { return };
        let (told, remote) = (matches!(sa.state, State::Replaced(_)), sa.remote);
        let children: Vec<ChildId> = context.children.of_owner(Owner::Ike(ike)).map(|sa| sa.id).collect();
        for child in children {
            self.remove_child(context, child, cause);
        }
        if !told {
            self.out.event(KeyingEvent::IkeDown { ike, remote, cause, detail });
        }
        self.remove(context, ike);
    }

    /// The peer says something in INFORMATIONAL.
    pub(crate) fn informed(&mut self, context: &mut Context<'_>, ike: IkeId, received: &[Payload]) {
        let payloads = Payloads(received);
        let answering = self.sas.get(&ike).and_then(|sa| sa.window.answering).map(|answering| answering.id);
        let unproven = payloads.notify(NotifyType::AUTHENTICATION_FAILED).is_some()
            && answering == Some(2)
            && self.sas.get(&ike).is_some_and(|sa| !sa.initiator);
        if unproven || payloads.deletes().any(|delete| delete.protocol == ProtocolId::IKE) {
            self.answer(context, ike, &[]);
            let cause = if unproven { Cause::AUTHENTICATION_FAILED } else { Cause::PEER_CLOSED };
            return self.closed_by_peer(context, ike, cause);
        }
        let mut response: Vec<Payload> = if received.is_empty() { self.asked_here(context, ike) } else { Vec::new() };
        for delete in payloads.deletes() {
            let ours = self.children_deleted(context, ike, delete);
            if !ours.is_empty() {
                response.push(Payload::Delete(Delete::children(delete.protocol, &ours)));
            }
        }
        self.answer(context, ike, &response);
        if let Some(redirect) = payloads.notify(NotifyType::REDIRECT) {
            self.redirected(context, ike, redirect);
        }
        self.run_tasks(context, ike);
    }

    /// Ends the children that a delete names; the SPIs of our halves for the response.
    fn children_deleted(&mut self, context: &mut Context<'_>, ike: IkeId, delete: &Delete) -> Vec<u32> {
        let mut ours = Vec::new();
        for spi in delete.child_spis() {
            //= rfc7296#2.25.1
            //# a request to close a child SA that does not exist is answered without a delete payload
            let Some(child) = self.named_by_peer(context, ike, delete.protocol, spi) else {
                self.delete_overtakes(context, ike, Spi(spi));
                continue;
            };
            //= rfc7296#1.4.1
            //# so is one for a child SA that we are closing: both halves are on their way out already
            let closing = self.sas.get(&ike).and_then(|sa| sa.current.as_ref());
            let crossing = matches!(closing, Some(Task::DeleteChild { child: closing, .. }) if *closing == child);
            if !crossing && let Some(inbound) = context.children.get(child).map(|sa| sa.inbound.spi.0) {
                ours.push(inbound);
            }
            self.child_closed_by_peer(context, child);
        }
        ours
    }

    /// A delete for an unknown SPI may be about the child SA that our unanswered request makes.
    fn delete_overtakes(&mut self, context: &mut Context<'_>, ike: IkeId, spi: Spi) {
        let Some(build) = self.in_the_making(ike) else { return };
        let (child, known) = (build.id, build.peer_spi == spi);
        if build.withdrawn.len() < MOST_WITHDRAWN {
            build.withdrawn.push(spi);
        }
        if known {
            self.child_withdrawn(context, child);
        }
    }

    fn child_closed_by_peer(&mut self, context: &mut Context<'_>, child: ChildId) {
        //= rfc7296#2.8
        //# the peer closes the old child SA once it uses the new one: from now on we send on that too
        let heir = self.kids.get(&child).and_then(|kid| kid.heir).filter(|heir| self.builds.contains_key(heir));
        if let Some(new) = heir {
            self.switch_outbound(context, new);
            if let Some(kid) = self.kids.get_mut(&child) {
                kid.successor = Some(new);
            }
        }
        let replaced = self.kids.get(&child).is_some_and(|kid| kid.successor.is_some());
        self.finish_child(context, child, if replaced { Cause::REPLACED } else { Cause::PEER_CLOSED });
    }

    /// The peer has closed the IKE SA: it lingers to answer repeats of that request.
    fn closed_by_peer(&mut self, context: &mut Context<'_>, ike: IkeId, cause: Cause) {
        self.hand_children_back(context, ike);
        let wanted = self.unserved(context, ike);
        let Some(sa) = self.sas.get_mut(&ike) else { return };
        let (replaced, remote) = (matches!(sa.state, State::Replaced(_)), sa.remote);
        let established = sa.session().map_or(sa.created, |session| session.established);
        let crypt = sa.state.crypt().cloned();
        let rival = match &sa.current {
            Some(Task::RekeyIke(task)) => task.competing,
            _ => None,
        };
        let children: Vec<ChildId> = context.children.of_owner(Owner::Ike(ike)).map(|sa| sa.id).collect();
        for child in children {
            self.remove_child(context, child, cause);
        }
        // A rekey of ours that crossed the peer's: its successor stands, so nothing ended for anybody.
        let continued = rival.is_some_and(|rival| self.sas.contains_key(&rival));
        if !replaced && !continued {
            self.out.event(KeyingEvent::IkeDown { ike, remote, cause, detail: String::new() });
        }
        self.linger(context, ike, crypt);
        let Some(remote) = remote else { return };
        if !replaced && !continued {
            self.closed_after(context, remote, ike, established);
        }
        for want in wanted {
            if let Some(want) = self.put_to_rest(context, remote, want) {
                self.want_child(context, want);
            }
        }
    }

    /// Keeps an IKE SA that has ended for a while, only to answer repeats.
    fn linger(&mut self, context: &mut Context<'_>, ike: IkeId, crypt: Option<crate::sk::Crypt>) {
        self.release(context, ike);
        let Some((sa, crypt)) = self.sas.get_mut(&ike).zip(crypt) else { return self.remove(context, ike) };
        sa.state = State::Gone(Box::new(crypt));
        self.timers.set(Timer::Linger(ike), context.now.boot.saturating_add(LINGER));
    }
}
