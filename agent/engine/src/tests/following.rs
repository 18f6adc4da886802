//! Movement without MIGRATE (SHISA), and SAs that rest at home for a set time.

use watari_kernel::{AddressEvent, AddressFlags};
use watari_policies::{MovementSource, Movements};

use super::*;

/// An address comes, tentative or not, or goes.
fn address(bench: &mut Bench, millis: u64, text: &str, present: bool, tentative: bool) {
    let flags = AddressFlags { tentative, ..AddressFlags::default() };
    bench.kernel(millis, KernelEvent::Address(AddressEvent { interface: 2, address: ip(text), prefix_len: 64, present, flags }));
}

fn retargets(bench: &mut Bench) -> Vec<KmAddress> {
    let new = |asked| if let Asked::Retarget(_, new) = asked { Some(new) } else { None };
    bench.asked().into_iter().filter_map(new).collect()
}

fn follower(source: MovementSource) -> Bench {
    let mut config = mobile_node(MobileNodeProfile::default());
    config.remotes[0].movements = Movements { source, ..Movements::default() };
    let mut bench = Bench::started(config, mobile_node_policies(COA1), Vec::new());
    bench.ike(1, 0, COA1, HA);
    address(&mut bench, 1, COA1, true, false);
    bench.asked();
    bench
}

#[test]
fn new_end_points_in_a_template_move_children_and_ike_like_migrate() {
    let mut bench = Bench::mobile_node(COA1);
    bench.asked();
    for entry in payload_policies(COA2) {
        bench.kernel(10, KernelEvent::PolicyChanged(entry));
    }
    assert_eq!(retargets(&mut bench), [km(COA2, HA)], "once for both directions");
    assert_eq!(bench.child_at(12), (ends(HA, COA2), ends(COA2, HA)));
    bench.input(10 + QUIET, Input::Timeout);
    assert!(bench.requests.iter().any(|(_, request)| matches!(request, KernelRequest::QuerySa(id) if id.dst == ip(COA2))), "verified");
    bench.told();
    for entry in payload_policies(COA2) {
        bench.kernel(200, KernelEvent::PolicyChanged(entry));
    }
    assert_eq!((retargets(&mut bench), bench.told()), (vec![], vec![]), "a repeat is no movement");
}

#[test]
fn a_home_agent_follows_the_template_of_one_mobile_node_alone() {
    let mut bench = Bench::started(home_agent_config(2), Vec::new(), Vec::new());
    bench.ike(1, 0, HA, COA1);
    bench.ike(2, 1, HA, "2001:db8:f1::f");
    let node = home_address(0).to_string();
    let template = Template::esp(Mode::Tunnel, Reqid(8), ends(HA, COA2));
    bench.kernel(10, KernelEvent::PolicyChanged(entry(selector("::", &node), Direction::Out, 3, template)));
    assert_eq!(bench.asked(), [Asked::Retarget(IkeId(1), km(HA, COA2))]);
}

#[test]
fn a_template_with_the_home_address_moves_no_ike_sa() {
    let mut bench = Bench::mobile_node(COA1);
    bench.asked();
    bench.kernel(10, KernelEvent::PolicyChanged(payload_policies(HOA).remove(0)));
    assert_eq!(retargets(&mut bench), []);
}

#[test]
fn a_mobile_node_follows_its_own_addresses_where_the_configuration_says_so() {
    for (source, expected) in [(MovementSource::Addresses, vec![km(COA2, HA)]), (MovementSource::Kernel, vec![])] {
        let mut bench = follower(source);
        address(&mut bench, 10, COA2, true, true);
        address(&mut bench, 20, COA1, false, false);
        address(&mut bench, 21, HOA, true, false);
        assert_eq!(retargets(&mut bench), [], "neither to a tentative address nor to the home address");
        address(&mut bench, 30, COA2, true, false);
        assert_eq!(retargets(&mut bench), expected, "{source:?}");
    }
}

#[test]
fn another_address_beside_the_one_in_use_moves_nothing() {
    let mut bench = follower(MovementSource::Addresses);
    address(&mut bench, 10, "2001:db8:1::5", true, false);
    address(&mut bench, 11, COA2, true, false);
    assert_eq!(retargets(&mut bench), []);
    address(&mut bench, 20, COA1, false, false);
    assert_eq!(retargets(&mut bench), [km("2001:db8:1::5", HA)], "the nearest to the home agent of those that are left");
}

fn resting(time: Option<Duration>) -> Bench {
    let mut bench = Bench::mobile_node(COA1);
    for ipsec in &mut bench.agent.core.config.ipsecs {
        ipsec.dormant = time;
    }
    for entry in payload_policies(COA1) {
        bench.kernel(1000, KernelEvent::PolicyRemoved(entry));
    }
    bench.asked();
    bench
}

#[test]
fn what_rests_longer_than_it_may_is_deleted_here_and_at_the_peer() {
    let mut bench = resting(Some(Duration::from_secs(600)));
    bench.input(600_999, Input::Timeout);
    assert_eq!(bench.asked(), []);
    bench.input(601_000, Input::Timeout);
    assert_eq!(bench.asked(), [Asked::Close(Target::Child(ChildId(12)))]);
    let mut forever = resting(None);
    forever.input(3_000_000, Input::Timeout);
    assert_eq!(forever.asked(), []);
}

#[test]
fn what_woke_in_time_is_kept_and_rests_anew() {
    let mut bench = resting(Some(Duration::from_secs(600)));
    for entry in payload_policies(COA1) {
        bench.kernel(300_000, KernelEvent::PolicyChanged(entry));
    }
    bench.input(700_000, Input::Timeout);
    assert_eq!(bench.asked(), []);
    for entry in payload_policies(COA1) {
        bench.kernel(800_000, KernelEvent::PolicyRemoved(entry));
    }
    bench.input(1_399_999, Input::Timeout);
    assert_eq!(bench.asked(), []);
    bench.input(1_400_000, Input::Timeout);
    assert_eq!(bench.asked(), [Asked::Close(Target::Child(ChildId(12)))]);
}

#[test]
fn an_sa_without_ike_sa_that_rested_enough_goes_from_the_kernel() {
    let mut bench = resting(Some(Duration::from_secs(600)));
    bench.agent.core.children.update(ChildId(12), |child| child.owner = Owner::None);
    bench.input(601_000, Input::Timeout);
    let deleted = bench.requests.iter().filter(|(_, request)| matches!(request, KernelRequest::DeleteSa(_))).count();
    assert_eq!((deleted, bench.agent.core.children.of_policy(PAYLOAD).count()), (2, 0));
}
