//! Where inputs go: datagrams, ACQUIRE, EXPIRE, refusals, reserved SPIs, one-way traffic.

use super::*;
use watari_kernel::{Acquire, Expire};
use watari_sa::{Datagram, Transmit, TransmitId, Trigger};

fn datagram(port: u16, octets: &[u8]) -> Input {
    Input::Datagram(Datagram { path: Path::between(ip(COA1), ip(HA), port), octets: octets.to_vec() })
}

fn header(version: u8) -> Vec<u8> {
    let mut octets = vec![1; 28];
    octets[17] = version;
    octets
}

#[test]
fn the_marker_goes_off_on_the_way_in_and_on_on_the_way_out() {
    let mut bench = Bench::mobile_node(COA1);
    bench.asked();
    bench.input(1, datagram(4500, &[&[0; 4], header(0x20).as_slice()].concat()));
    bench.input(1, datagram(500, &header(0x20)));
    let asked = bench.asked();
    assert_eq!(asked.len(), 2);
    for (asked, port) in asked.iter().zip([4500, 500]) {
        let path = Path::between(ip(COA1), ip(HA), port);
        assert_eq!(*asked, Asked::Input(format!("{:?}", KeyingInput::Datagram(Datagram { path, octets: header(0x20) }))));
    }
    for (port, length) in [(500, 3), (4500, 7)] {
        let path = Path::between(ip(COA1), ip(HA), port);
        bench.act(2, Action::Transmit(Transmit { id: TransmitId(1), path, octets: vec![9; 3] }));
        let Some(Output::Transmit(sent)) = bench.outputs.pop() else { panic!("nothing sent") };
        assert_eq!(sent.octets.len(), length);
    }
}

#[test]
fn what_is_not_ike_is_counted_and_dropped() {
    let mut bench = Bench::mobile_node(COA1);
    bench.asked();
    bench.input(1, datagram(4500, &[0xff]));
    assert_eq!(bench.told(), [], "keepalives are no event");
    bench.input(1, datagram(4500, &[0, 0, 1, 0, 9, 9]));
    bench.input(1, datagram(500, &[1; 17]));
    bench.input(1, datagram(500, &header(0x10)));
    assert_eq!(bench.asked(), []);
    assert_eq!(bench.told().len(), 3);
    assert_eq!(bench.agent.core.counters.drops.get("IKE-M01"), Some(&3));
}

fn acquire(policy: Selector, index: u32, reqid: u32) -> Acquire {
    let packet = binding_selector(HOA, HA).message_type(5);
    let template = Template::esp(Mode::Transport, Reqid(reqid), ends(HOA, HA));
    let (index, direction) = (PolicyIndex(index), Direction::Out);
    Acquire { sequence: 77, packet, policy, index, direction, template, endpoints: ends(HOA, HA), care_of: None }
}

#[test]
fn an_acquire_finds_its_policy_with_or_without_a_known_index_again_and_again() {
    let mut bench = Bench::mobile_node(COA1);
    bench.asked();
    let wanted = Asked::Want(Want {
        policy: BINDING,
        trigger: Trigger::Acquire { packet: binding_selector(HOA, HA).message_type(5), sequence: 77 },
    });
    for index in [1, 4711, 1] {
        bench.kernel(1, KernelEvent::Acquire(acquire(binding_selector(HOA, HA), index, 1)));
        assert_eq!(bench.asked(), std::slice::from_ref(&wanted));
    }
    bench.told();
    let stranger = binding_selector("2001:db8:9::9", HA);
    bench.kernel(2, KernelEvent::Acquire(Acquire { packet: stranger, ..acquire(stranger, 99, 1) }));
    assert_eq!(bench.told(), [Event::Acquired { policy: None }]);
    assert_eq!(bench.asked(), []);
}

#[test]
fn expiry_rekeys_replaces_or_is_ignored() {
    let mut bench = Bench::mobile_node(COA1);
    bench.asked();
    let expire = |spi, dst: &str, hard| {
        let id = SaId { dst: ip(dst), protocol: Protocol::Esp, spi: Spi(spi) };
        KernelEvent::Expire(Expire { id, src: ip(HA), reqid: Reqid(0), hard })
    };
    bench.kernel(1, expire(0, HA, true));
    bench.kernel(1, expire(0x12, COA2, true));
    assert_eq!(bench.asked(), []);
    bench.kernel(2, expire(0x112, HA, false));
    assert_eq!(bench.asked(), [Asked::Rekey(Target::Child(ChildId(12)))]);
    bench.kernel(3, expire(0x12, COA1, true));
    let expected = [Asked::Close(Target::Child(ChildId(12))), Asked::Want(Want { policy: PAYLOAD, trigger: Trigger::Start })];
    assert_eq!(bench.asked(), expected);
}

#[test]
fn traffic_one_way_only_is_a_reason_to_probe() {
    let mut bench = Bench::mobile_node(COA1);
    bench.event(
        0,
        KeyingEvent::IkeUp {
            ike: IkeId(1),
            remote: RemoteId(0),
            path: Path::between(ip(COA1), ip(HA), 500),
            identity: watari_policies::Identity::Fqdn("ha.example".into()),
        },
    );
    let mut look = |millis, inbound, outbound| {
        bench.input(millis, Input::Timeout);
        for (spi, packets) in [(0x11, 0), (0x111, 0), (0x12, inbound), (0x112, outbound)] {
            let info = SaInfo { packets, ..sa(spi, ends(HA, COA1), Mode::Tunnel, 8, selector("::", HOA)) };
            let fits = |request: &KernelRequest| matches!(request, KernelRequest::QuerySa(id) if id.spi == Spi(spi));
            bench.answer(millis, fits, KernelReply::Sa(Some(info)));
        }
        bench.asked()
    };
    assert_eq!(look(60_000, 5, 5), []);
    assert_eq!(look(120_000, 9, 50), [], "both ways");
    assert_eq!(look(180_000, 9, 50), [], "no traffic at all");
    assert_eq!(look(240_000, 9, 60), [Asked::Probe(IkeId(1))]);
}

#[test]
#[should_panic(expected = "poll until Wait")]
fn the_drain_rule_is_held() {
    let mut bench = Bench::mobile_node(COA1);
    bench.agent.handle(at(1), Input::Timeout);
    bench.agent.handle(at(1), Input::Timeout);
}
