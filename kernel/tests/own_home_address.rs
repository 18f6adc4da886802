//! An SA protects the home address it was made for and no other, though its holder may put any address into a packet
//! (RFC 4877 4.2, RFC 6275 5.1).
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::net::IpAddr;

use watari_kernel::mirror::{Arrival, Counter, Departure, Mirror, Model, Packet, Upper};
use watari_kernel::{
    AddressEvent, AddressFlags, Backend, BackendOutput, Endpoints, KernelRequest, Now, PolicyAction, PolicyEntry, PolicyIndex, PolicyKind,
    RequestId, SaId, SaKeys, SaLifetime, SaParameters, Spi, Template,
};
use watari_policies::algorithm::{ChildSuite, Cipher};
use watari_policies::selector::MOBILITY_HEADER;
use watari_policies::{Direction, Mode, Protocol, Reqid, Secret, Selector};

const HA: &str = "2001:db8:1::1";
const VICTIM: &str = "2001:db8:1::abcd";
const ATTACKER: &str = "2001:db8:1::beef";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Mobility Header messages of one home address, or of every address.
fn signalling(home: Option<&str>) -> Selector {
    let home = home.map_or_else(|| "::/0".parse().unwrap(), |home| ip(home).into());
    Selector::between(home, ip(HA).into()).protocol(MOBILITY_HEADER)
}

fn policy(selector: Selector, direction: Direction) -> PolicyEntry {
    let none = Endpoints { src: ip("::"), dst: ip("::") };
    let templates = vec![Template::esp(Mode::Transport, Reqid(1), none)];
    PolicyEntry { selector, direction, kind: PolicyKind::Main, index: PolicyIndex(0), priority: 2, action: PolicyAction::Allow, templates }
}

/// The attacker's own SA with the home agent, with the selector that this end gave it.
fn sa(mirror: &mut Mirror, home: &str, selector: Selector) {
    let parameters = SaParameters {
        id: SaId { dst: ip(HA), protocol: Protocol::Esp, spi: Spi(0x1001) },
        src: ip(home),
        mode: Mode::Transport,
        reqid: Reqid(1),
        selector,
        keys: SaKeys {
            suite: ChildSuite { cipher: Cipher::AES128GCM16, integrity: None, esn: false },
            encryption: Secret::new(vec![7; 20]),
            integrity: Secret::default(),
        },
        replay_window: 32,
        lifetime: SaLifetime::default(),
        encapsulation: None,
    };
    let request = KernelRequest::AddSa { parameters: Box::new(parameters), allocated: false, sequence: 0 };
    mirror.submit(Now::default(), RequestId(1), request);
    while !matches!(mirror.poll(), BackendOutput::Wait(_)) {}
}

/// What the home agent makes of a binding update for a home address, sent under the attacker's SA; both nodes have the same reqids.
fn update_for(home: &str, model: Model) -> Arrival {
    let (mut node, mut agent) = (Mirror::new(model, 1), Mirror::new(model, 2));
    for (mirror, address) in [(&mut node, home), (&mut agent, HA)] {
        let flags = AddressFlags::default();
        mirror.address(AddressEvent { interface: 2, address: ip(address), prefix_len: 64, present: true, flags });
    }
    // The attacker's own kernel does what the attacker likes.
    node.set_policy(policy(signalling(None), Direction::Out));
    sa(&mut node, home, signalling(None));
    for served in [VICTIM, ATTACKER] {
        agent.set_policy(policy(signalling(Some(served)), Direction::In));
    }
    sa(&mut agent, ATTACKER, signalling(Some(ATTACKER)));
    let update = Packet::clear(ip(home), ip(HA), Upper { protocol: MOBILITY_HEADER, sport: 5, dport: 0, payload: vec![1] });
    let departure = node.output(Now::default(), update);
    assert!(matches!(departure, Departure::Protected(_)), "{departure:?}");
    agent.input(Now::default(), departure.packet().unwrap())
}

#[test]
fn a_binding_update_for_another_under_the_own_sa_is_dropped() {
    for model in [Model::Linux6_1, Model::Linux6_12] {
        let own = update_for(ATTACKER, model);
        assert!(matches!(own, Arrival::Delivered(_)), "{model:?}: the own home address: {own:?}");
        assert_eq!(update_for(VICTIM, model), Arrival::Dropped(Counter::XfrmInStateMismatch), "{model:?}");
    }
}
