//! The mirror put through every act, as 6.1 and as 6.12.

use super::*;
use crate::mirror::{Arrival, Mirror};
use crate::{AddressEvent, AddressFlags, Backend, BackendOutput, Now, RequestId};

struct MirrorUnderTest {
    mirror: Mirror,
    peer: Mirror,
    model: Model,
    now: Now,
    events: Vec<KernelEvent>,
    done: Vec<Result<KernelReply, KernelError>>,
}

impl MirrorUnderTest {
    fn new(model: Model) -> Self {
        let (mirror, peer) = (Mirror::new(model, 0x100), Mirror::new(model, 0x100));
        let mut kernel = Self { mirror, peer, model, now: Now::default(), events: Vec::new(), done: Vec::new() };
        kernel.reset();
        kernel
    }

    fn drain(&mut self) {
        loop {
            match self.mirror.poll() {
                BackendOutput::Event(KernelEvent::Migrate(Migrate { source: MigrateSource::PfKey, .. }) | KernelEvent::Address(_)) => {}
                BackendOutput::Event(event) => self.events.push(event),
                BackendOutput::Done(_, result) => self.done.push(result),
                BackendOutput::Send(..) => panic!("the mirror sends no octets"),
                BackendOutput::Wait(_) => return,
            }
        }
    }
}

impl KernelUnderTest for MirrorUnderTest {
    fn model(&self) -> Model {
        self.model
    }
    fn capability(&self) -> Capability {
        self.mirror.capabilities().clone()
    }
    fn larval_lifetime(&self) -> Duration {
        crate::mirror::LARVAL_LIFETIME
    }
    fn reset(&mut self) {
        self.mirror = Mirror::new(self.model, 0x100);
        self.peer = Mirror::new(self.model, 0x100);
        let event = |address| AddressEvent { interface: 2, address, prefix_len: 64, present: true, flags: AddressFlags::default() };
        [HOA, COA1, COA2].into_iter().for_each(|address| self.mirror.address(event(address)));
        [HA, HOA2].into_iter().for_each(|address| self.peer.address(event(address)));
        self.events();
    }
    fn wait(&mut self, time: Duration) {
        self.now.boot += time;
        self.mirror.timeout(self.now);
    }
    fn events(&mut self) -> Vec<KernelEvent> {
        self.drain();
        std::mem::take(&mut self.events)
    }
    fn request(&mut self, request: KernelRequest) -> Result<KernelReply, KernelError> {
        self.mirror.submit(self.now, RequestId(1), request);
        self.drain();
        self.done.pop().unwrap()
    }
    fn set_policy(&mut self, policy: &PolicyEntry) -> Result<(), i32> {
        self.mirror.set_policy(policy.clone());
        Ok(())
    }
    fn delete_policy(&mut self, selector: &Selector, direction: Direction, kind: PolicyKind) -> Result<(), i32> {
        self.mirror.delete_policy(selector, direction, kind).map_err(|error| error.errno)
    }
    fn set_mobility_state(&mut self, state: &MobilityState) {
        self.mirror.set_mobility_state(self.now, state);
    }
    fn migrate(&mut self, request: &MigrateRequest) -> Result<(), i32> {
        self.mirror.migrate(request).map_err(|error| error.errno)
    }
    fn send(&mut self, packet: &Packet) -> Sent {
        self.mirror.output(self.now, packet.clone()).into()
    }
    fn equip_peer(&mut self, policies: &[PolicyEntry], states: &[MobilityState], sa: &SaParameters) {
        policies.iter().for_each(|policy| self.peer.set_policy(policy.clone()));
        states.iter().for_each(|state| self.peer.set_mobility_state(self.now, state));
        let request = KernelRequest::AddSa { parameters: Box::new(sa.clone()), allocated: false, sequence: 0 };
        self.peer.submit(self.now, RequestId(1), request);
    }
    fn arrive(&mut self, packet: &Packet) -> bool {
        let Some(packet) = self.peer.output(self.now, packet.clone()).packet() else { return false };
        matches!(self.mirror.input(self.now, packet), Arrival::Delivered(_))
    }
    fn forward(&mut self, packet: &Packet) -> Sent {
        match self.mirror.input(self.now, packet.clone()) {
            Arrival::Forward(packet) => self.mirror.output(self.now, packet).into(),
            Arrival::Delivered(_) | Arrival::Dropped(_) => Sent::Nothing,
        }
    }
}

#[test]
fn the_mirror_does_every_act_like_linux() {
    for model in [Model::Linux6_1, Model::Linux6_12] {
        let mut kernel = MirrorUnderTest::new(model);
        for act in all() {
            let differences = (act.run)(&mut kernel);
            assert!(differences.is_empty(), "{} as {model:?}: {differences:#?}", act.name);
        }
    }
}

#[test]
fn act_names_are_unique() {
    let mut names: Vec<&str> = all().iter().map(|act| act.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all().len());
}
