//! Which input goes where, and what the protocol modules' wishes become.
//! Invariant: the non-ESP marker exists only between this file and the runner; a module sees bare IKE messages.

use watari_kernel::{KernelError, KernelReply, KernelRequest, KmAddress, Now, RequestId, SaId};
use watari_policies::{Installer, PolicyId, RemoteId, Reqid};
use watari_sa::{Action, Cause, ChildId, Datagram, KeyingEvent, KeyingInput, Transmit, TransmitId, Undeliverable};
use watari_wire::{NotIke, strip_non_esp_marker, with_non_esp_marker};

use crate::agent::Agent;
use crate::core::{Core, Forwarded};
use crate::movement::count;
use crate::timers::Timer;
use crate::{CommandId, Event, Input, Output};

impl Agent {
    /// Sends an input to where it belongs.
    pub(crate) fn route(&mut self, now: Now, input: Input) {
        match input {
            Input::Datagram(datagram) => self.datagram(now, datagram),
            Input::Undeliverable(id, why) => self.undeliverable(now, id, why),
            Input::Kernel(event) => self.kernel_event(now, event),
            Input::Done(id, result) => self.done(now, id, result),
            Input::Command(id, command) => self.command(now, id, command),
            Input::WorkDone(id, done) => {
                if !self.manual_key(now, id, &done) {
                    self.keying_input(now, KeyingInput::WorkDone(id, done));
                }
            }
            Input::Mobility(input) => self.mobility(now, input),
            Input::Timeout => self.timeout(now),
        }
    }

    fn keying_input(&mut self, now: Now, input: KeyingInput) {
        self.keying_call(now, |keying, context| keying.handle(context, input));
    }

    fn datagram(&mut self, now: Now, mut datagram: Datagram) {
        count(&mut self.core.counters.datagrams_in);
        if datagram.path.local.port() == self.core.config.settings.natt_port {
            match strip_non_esp_marker(&datagram.octets) {
                Ok(message) => datagram.octets = message.to_vec(),
                //= rfc3948#2.3
                //# keepalives are ignored by the receiver
                Err(NotIke::Keepalive) => return,
                Err(why) => return self.dropped(&datagram, why.to_string()),
            }
        }
        // The major version stands in the high half of octet 17 of the header common to IKEv1 and IKEv2.
        match datagram.octets.get(17).map(|version| version >> 4) {
            Some(1) => self.dropped(&datagram, "IKE version 1 is not spoken".to_owned()),
            Some(_) => self.keying_input(now, KeyingInput::Datagram(datagram)),
            None => self.dropped(&datagram, format!("{} octets are too few for an IKE header", datagram.octets.len())),
        }
    }

    fn dropped(&mut self, datagram: &Datagram, detail: String) {
        self.core.counters.dropped(Cause::MALFORMED);
        let event = KeyingEvent::Dropped { path: datagram.path, cause: Cause::MALFORMED, detail };
        self.core.tell(Event::Keying(event));
    }

    fn undeliverable(&mut self, now: Now, id: TransmitId, why: Undeliverable) {
        // The first packet after a move did not leave: the next one counts.
        if let Some(remote) = self.core.sent_after_move.remove(&id)
            && let Some(movement) = self.core.movements.get_mut(&remote)
        {
            movement.first_packet = None;
            movement.waiting = true;
            self.core.awaited.insert((movement.to, remote));
        }
        self.keying_input(now, KeyingInput::Undeliverable(id, why));
    }

    fn done(&mut self, now: Now, id: RequestId, result: Result<KernelReply, KernelError>) {
        if let Some(purpose) = self.core.purposes.remove(&id) {
            return self.answered(now, purpose, result);
        }
        if let Some(forwarded) = self.core.forwarded.remove(&id) {
            self.core.acknowledged(forwarded, &result);
        }
        self.keying_input(now, KeyingInput::Done(id, result));
    }

    fn timeout(&mut self, now: Now) {
        while let Some(timer) = self.core.timers.due(now.boot) {
            self.fire(now, timer);
        }
        if self.keying.deadline().is_some_and(|deadline| deadline.at <= now.boot) {
            self.keying_input(now, KeyingInput::Timeout);
        }
    }

    fn fire(&mut self, now: Now, timer: Timer) {
        match timer {
            Timer::Verify(child) => self.verify(now, child),
            Timer::EndAdopted(child) => self.end_without_owner(child),
            Timer::Rested(child) => self.rested(child),
            Timer::Retry(policy) => self.retry(now, policy),
            Timer::Liveness(remote) => self.look_at_traffic(now, remote),
            Timer::Copies => self.expire_copies(now),
            Timer::Reconcile => self.reconcile(),
            Timer::Command(id) => self.command_timeout(now, CommandId(id)),
        }
    }

    /// Does what a module wants.
    pub(crate) fn action(&mut self, now: Now, action: Action) {
        match action {
            Action::Transmit(transmit) => self.transmit(now, transmit),
            Action::Kernel(id, request) => self.forward(id, request),
            Action::Work(id, work) => self.core.outputs.push_back(Output::Work(id, work)),
            Action::Assign { ike, remote, wish } => self.home_wish(now, ike, remote, wish),
            Action::UseAddress { remote, address, cause, for_good } => self.use_address(now, remote, (address, for_good), cause),
            Action::Event(event) => self.keying_event(now, event),
        }
    }

    fn transmit(&mut self, now: Now, mut transmit: Transmit) {
        let addresses = KmAddress { local: transmit.path.local.ip(), remote: transmit.path.remote.ip() };
        let first_of = self.awaited_by(addresses, &transmit.octets);
        if transmit.path.local.port() == self.core.config.settings.natt_port {
            transmit.octets = with_non_esp_marker(&transmit.octets);
        }
        count(&mut self.core.counters.datagrams_out);
        let id = transmit.id;
        self.core.outputs.push_back(Output::Transmit(transmit));
        let Some((remote, movement)) = first_of.and_then(|remote| Some((remote, self.core.movements.get_mut(&remote)?))) else { return };
        self.core.awaited.remove(&(addresses, remote));
        let since_migrate = now.boot.saturating_sub(movement.at.boot);
        movement.first_packet = Some(since_migrate);
        self.core.sent_after_move.insert(id, remote);
        if let Some(before) = movement.transmit.replace(id) {
            self.core.sent_after_move.remove(&before);
        }
        self.core.tell(Event::FirstPacketAfterMove { remote, since_migrate });
    }

    /// The remote whose first packet after a move this is: remotes may share a path, so the initiator's SPI at the head of the message
    /// decides. From an address that is known not to be usable yet nothing leaves, and a packet that waits is told once, when it can.
    fn awaited_by(&self, addresses: KmAddress, octets: &[u8]) -> Option<RemoteId> {
        let (core, local) = (&self.core, addresses.local);
        let spi = u64::from_be_bytes(*octets.first_chunk()?);
        let mut awaited = core.awaited.range((addresses, RemoteId(0))..=(addresses, RemoteId(u32::MAX))).map(|(_, remote)| *remote);
        awaited.find(|remote| {
            let mut ikes = self.keying.ike_sas_of(*remote).into_iter().filter_map(|ike| self.keying.status(ike));
            let waits = core.movements.get(remote).is_some_and(|movement| movement.waiting);
            (core.places.usable(local) || !(waits || core.places.exists(local))) && ikes.any(|ike| ike.initiator_spi == spi)
        })
    }

    /// Passes a module's request on.
    fn forward(&mut self, id: RequestId, mut request: KernelRequest) {
        match &mut request {
            // A reserved SPI is a state without keys. Under its policy's reqid MIGRATE would find it as the newest SA, fail to clone it
            // and leave policy and SAs at the old address (ENODATA). The reqid comes with the SA itself.
            KernelRequest::AllocateSpi { reqid, .. } => *reqid = Reqid(0),
            KernelRequest::AddSa { parameters, .. } => {
                if let Some((child, inbound)) = self.core.half_of(parameters.id) {
                    let parameters = parameters.as_ref().clone();
                    self.core.forwarded.insert(id, Forwarded::Add { child, inbound, parameters });
                }
            }
            KernelRequest::DeleteSa(sa) => {
                self.core.kept.remove(sa);
                self.core.forwarded.insert(id, Forwarded::Delete(*sa));
            }
            _ => {}
        }
        self.core.outputs.push_back(Output::Kernel(id, request));
    }

    pub(crate) fn keying_event(&mut self, now: Now, event: KeyingEvent) {
        match &event {
            KeyingEvent::InitSent { .. } => count(&mut self.core.counters.ike_sa_init_sent),
            KeyingEvent::SentOn { .. } => count(&mut self.core.counters.sent_on),
            KeyingEvent::Dropped { cause, .. } => self.core.counters.dropped(*cause),
            KeyingEvent::IkeUp { ike, remote, path, .. } => {
                self.peer_proved(now, *remote, path.remote.ip());
                self.watch(now, *remote);
                self.came_up(now, *ike, *remote, *path);
            }
            KeyingEvent::IkeDown { remote: Some(remote), .. } => {
                self.core.tell_proved(*remote);
                self.drop_left_policies(*remote);
            }
            KeyingEvent::IkeRekeyed { old, new } => self.rekeyed(now, *old, *new),
            KeyingEvent::PathProved { ike, path } => self.path_proved(now, *ike, *path),
            KeyingEvent::PathRefuted { ike, path } => self.path_refuted(now, *ike, *path),
            KeyingEvent::PathUndecided { ike } => self.path_undecided(now, *ike),
            KeyingEvent::ChildUp(child) => self.child_up(now, *child),
            KeyingEvent::ChildDown { child, policy, cause } => self.child_down(now, *child, *policy, *cause),
            KeyingEvent::WantFailed { policy, .. } => {
                self.core.refuse_acquire(*policy);
                self.failed(now, *policy);
            }
            _ => {}
        }
        self.outcome(&event);
        self.home_after(&event);
        self.core.tell(Event::Keying(event.clone()));
        self.told_to_register(&event);
    }

    fn child_up(&mut self, now: Now, id: ChildId) {
        self.replaced(now, id);
        let Some(child) = self.core.children.get(id) else { return };
        let (policy, endpoints, installer) =
            (child.policy, child.outbound.endpoints, self.core.config.policy(child.policy).map(|policy| policy.installer));
        self.core.asked.remove(&policy);
        self.core.retries.remove(&policy);
        self.core.timers.clear(Timer::Retry(policy));
        match installer {
            Some(Installer::Us) => self.core.install_policy(policy, Some(endpoints)),
            _ => self.core.follow_template(now, id),
        }
    }

    fn child_down(&mut self, now: Now, id: ChildId, policy: PolicyId, cause: Cause) {
        self.core.timers.clear(Timer::Verify(id));
        self.core.traffic.remove(&id);
        self.core.remove_stale(id);
        let served = self.core.children.of_policy(policy).any(|child| child.id != id);
        let unwanted = [Cause::PEER_SILENT, Cause::PEER_RESTARTED, Cause::EXPIRED];
        if unwanted.contains(&cause) && !served && self.core.spd.present(policy) {
            self.failed(now, policy);
        }
    }
}

impl Core {
    /// The child and half that an SA is.
    pub(crate) fn half_of(&self, id: SaId) -> Option<(ChildId, bool)> {
        let outbound = || self.children.by_outbound(id).next();
        match self.children.by_inbound(id) {
            Some(child) => Some((child.id, true)),
            None => outbound().map(|child| (child.id, false)),
        }
    }

    /// The kernel answered a module's request. What it holds now is kept under the address where the child belongs by now, so that an SA
    /// it leaves behind can be made again; what it refused to take says nothing about an older SA of the same name.
    fn acknowledged(&mut self, forwarded: Forwarded, result: &Result<KernelReply, KernelError>) {
        match (forwarded, result) {
            (Forwarded::Add { child, inbound, mut parameters }, Ok(_)) => {
                let Some(child) = self.children.get(child) else { return };
                let (half, id) = if inbound { (&child.inbound, child.inbound_id()) } else { (&child.outbound, child.outbound_id()) };
                (parameters.id, parameters.src) = (id, half.endpoints.src);
                self.kept.insert(id, parameters);
            }
            (Forwarded::Delete(sa), Err(error)) => {
                let detail = format!("to remove SA {} at {}: {error}", sa.spi, sa.dst);
                self.tell(Event::Notice { cause: Cause::KERNEL_REFUSED, detail });
            }
            (Forwarded::Add { .. }, Err(_)) | (Forwarded::Delete(_), Ok(_)) => {}
        }
    }
}
