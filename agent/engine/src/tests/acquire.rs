//! ACQUIRE: the care-of address in its packet, and the word to the kernel that nothing came of it.

use watari_kernel::{Acquire, AddressEvent, AddressFlags};
use watari_sa::{Cause, Whereabouts as _};

use super::*;

const NEARER: &str = "2001:db8:1:ff::5";

fn acquire(sequence: u32, care_of: Option<&str>) -> Acquire {
    Acquire {
        sequence,
        packet: binding_selector(HOA, HA).message_type(5),
        policy: binding_selector(HOA, HA),
        index: PolicyIndex(0),
        direction: Direction::Out,
        template: Template::esp(Mode::Transport, Reqid(1), ends(HOA, HA)),
        endpoints: ends(HOA, HA),
        care_of: care_of.map(ip),
    }
}

fn address(text: &str, present: bool) -> KernelEvent {
    let flags = AddressFlags::default();
    KernelEvent::Address(AddressEvent { interface: 2, address: ip(text), prefix_len: 64, present, flags })
}

/// A mobile node with two addresses, of which the second looks better; nobody has told which it uses.
fn node() -> Bench {
    let mut bench = Bench::started(mobile_node(MobileNodeProfile::default()), Vec::new(), Vec::new());
    for text in [COA1, NEARER] {
        bench.kernel(1, address(text, true));
    }
    assert_eq!(bench.agent.core.places.ike_addresses(RemoteId(0)), Some(km(NEARER, HA)));
    bench
}

#[test]
fn ike_leaves_from_where_the_packet_left() {
    let mut bench = node();
    bench.kernel(2, KernelEvent::Acquire(acquire(1, Some(COA1))));
    assert_eq!(bench.agent.core.places.ike_addresses(RemoteId(0)), Some(km(COA1, HA)));
    // What a packet said is nothing beside what the Mobile IPv6 daemon says, and nothing once addresses change.
    bench.agent.core.places.remember_remote(RemoteId(0), km(COA2, HA));
    assert_eq!(bench.agent.core.places.ike_addresses(RemoteId(0)), Some(km(COA2, HA)));
    bench.agent.core.places.forget_remote(RemoteId(0));
    bench.kernel(3, address(COA2, true));
    assert_eq!(bench.agent.core.places.ike_addresses(RemoteId(0)), Some(km(NEARER, HA)));
}

#[test]
fn a_packet_of_no_address_of_ours_or_of_another_home_says_nothing() {
    let mut bench = node();
    bench.kernel(2, KernelEvent::Acquire(acquire(1, Some(COA2))));
    let stranger = binding_selector("2001:db8:9::9", HA);
    bench.kernel(2, KernelEvent::Acquire(Acquire { packet: stranger, ..acquire(2, Some(COA1)) }));
    assert_eq!(bench.agent.core.places.ike_addresses(RemoteId(0)), Some(km(NEARER, HA)));
}

fn refusals(bench: &mut Bench) -> Vec<u32> {
    let refused = |(_, request): &(RequestId, KernelRequest)| match request {
        KernelRequest::RefuseAcquire { sequence } => Some(*sequence),
        _ => None,
    };
    let found = bench.requests.iter().filter_map(refused).collect();
    bench.requests.clear();
    found
}

#[test]
fn the_kernel_is_told_once_that_a_negotiation_failed() {
    let mut bench = node();
    let failed = || KeyingEvent::WantFailed { policy: BINDING, cause: Cause::PEER_SILENT, detail: String::new() };
    bench.event(2, failed());
    assert_eq!(refusals(&mut bench), [0_u32; 0], "nobody had asked");
    for sequence in [7, 8] {
        bench.kernel(3, KernelEvent::Acquire(acquire(sequence, None)));
    }
    bench.event(4, failed());
    bench.event(5, failed());
    assert_eq!(refusals(&mut bench), [8]);
    bench.kernel(6, KernelEvent::Acquire(acquire(9, None)));
    bench.ike(1, 0, COA1, HA);
    bench.child(50, BINDING, 0x50, Mode::Transport, ends(HOA, HA));
    bench.event(7, KeyingEvent::ChildUp(ChildId(50)));
    bench.event(8, failed());
    assert_eq!(refusals(&mut bench), [0_u32; 0], "what was asked for was made");
}
