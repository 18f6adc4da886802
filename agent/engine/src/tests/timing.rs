//! What a move costs: the time to the first packet after it, and how much of the agent it touches.

use super::movement::heard;
use super::*;
use watari_kernel::{AddressEvent, AddressFlags};
use watari_sa::{Transmit, TransmitId, Undeliverable};

/// A message of the IKE SA with this initiator SPI.
fn transmit(id: u64, spi: u64, from: &str) -> Action {
    let octets = [spi.to_be_bytes().as_slice(), &[0; 20]].concat();
    Action::Transmit(Transmit { id: TransmitId(id), path: Path::between(ip(from), ip(HA), 500), octets })
}

fn address(text: &str, present: bool, tentative: bool) -> KernelEvent {
    let flags = AddressFlags { tentative, ..AddressFlags::default() };
    KernelEvent::Address(AddressEvent { interface: 2, address: ip(text), prefix_len: 64, present, flags })
}

fn first_packet(remote: u32, millis: u64) -> Event {
    Event::FirstPacketAfterMove { remote: RemoteId(remote), since_migrate: Duration::from_millis(millis) }
}

#[test]
fn the_first_packet_after_a_move_is_timed_again_if_it_could_not_leave_and_told_once_per_wait() {
    let mut bench = Bench::mobile_node(COA1);
    heard(&mut bench, 1000, burst(COA1, COA2));
    bench.told();
    bench.act(1002, transmit(1, 1, COA2));
    assert_eq!(bench.told(), [first_packet(0, 2)]);
    bench.act(1003, transmit(2, 1, COA2));
    assert_eq!(bench.told(), [], "only the first");
    bench.input(1004, Input::Undeliverable(TransmitId(1), Undeliverable::Tentative));
    for retry in 0..15 {
        bench.act(1100 + retry * 100, transmit(10 + retry, 1, COA2));
        bench.input(1101 + retry * 100, Input::Undeliverable(TransmitId(10 + retry), Undeliverable::Tentative));
    }
    assert_eq!(bench.told(), [], "an attempt while the address is not usable is no news");
    bench.kernel(2690, address(COA2, true, false));
    bench.told();
    bench.act(2700, transmit(3, 1, COA2));
    assert_eq!(bench.told(), [first_packet(0, 1700)]);
}

#[test]
fn nothing_is_timed_from_an_address_that_is_known_to_be_tentative() {
    let mut bench = Bench::mobile_node(COA1);
    bench.kernel(900, address(COA2, true, true));
    heard(&mut bench, 1000, burst(COA1, COA2));
    bench.told();
    bench.act(1002, transmit(1, 1, COA2));
    assert_eq!(bench.told(), []);
    bench.kernel(2600, address(COA2, true, false));
    bench.told();
    bench.act(2601, transmit(2, 1, COA2));
    assert_eq!(bench.told(), [first_packet(0, 1601)]);
}

#[test]
fn remotes_that_share_a_path_are_each_timed_by_their_own_packet() {
    let mut bench = Bench::started(home_agent_config(2), Vec::new(), Vec::new());
    // Two home addresses of one host, both behind one care-of address.
    for node in 0..2u16 {
        bench.ike(u64::from(node) + 1, node.into(), HA, COA1);
        let net = Selector::between("::/0".parse().expect("net"), home_address(node).into());
        let event = migrate(net, Direction::Out, (Mode::Tunnel, 8), (ends(HA, COA1), ends(HA, COA2)), km(HA, COA2));
        bench.kernel(1000, KernelEvent::Migrate(event));
    }
    bench.told();
    let to_node = |id, spi: u64| {
        let octets = [spi.to_be_bytes().as_slice(), &[0; 20]].concat();
        Action::Transmit(Transmit { id: TransmitId(id), path: Path::between(ip(HA), ip(COA2), 500), octets })
    };
    bench.act(1001, to_node(1, 99));
    assert_eq!(bench.told(), [], "a third IKE SA on the same path");
    bench.act(1002, to_node(2, 2));
    bench.act(1005, to_node(3, 1));
    assert_eq!(bench.told(), [first_packet(1, 2), first_packet(0, 5)]);
}

/// The cost of one event must not depend on how many nodes there are: ten thousand against one.
#[test]
fn a_move_touches_only_its_own_node() {
    let lookups = |nodes: u16| {
        let mut bench = Bench::started(home_agent_config(nodes), Vec::new(), Vec::new());
        bench.ike(0, 0, HA, COA1);
        let net = Selector::between("::/0".parse().expect("net"), home_address(0).into());
        let event = migrate(net, Direction::Out, (Mode::Tunnel, 8), (ends(HA, COA1), ends(HA, COA2)), km(HA, COA2));
        bench.kernel(10, KernelEvent::Migrate(event));
        (bench.asked(), bench.told().len())
    };
    assert_eq!(lookups(1), lookups(2000));
}

#[test]
fn a_move_asks_for_paths_not_for_whole_statuses() {
    let mut bench = Bench::mobile_node(COA1);
    heard(&mut bench, 1000, burst(COA1, COA2));
    assert_eq!(bench.shared.lock().expect("one thread").whole_statuses, 0);
}
