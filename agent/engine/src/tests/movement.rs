//! Movement: what each MIGRATE of a burst, its copies, its repeats and its absence do to records, IKE SAs and kernel.

use super::rereading::{home_agent_policies, sas_at};
use super::*;
use watari_kernel::{Acquire, AddressEvent, AddressFlags};
use watari_sa::Whereabouts as _;

const SECOND_LOOK: u64 = 25;

pub(super) fn heard(bench: &mut Bench, millis: u64, events: Vec<Migrate>) {
    for event in events {
        bench.kernel(millis, KernelEvent::Migrate(event));
    }
}

pub(super) fn is_query(spi: u32) -> impl Fn(&KernelRequest) -> bool {
    move |request| matches!(request, KernelRequest::QuerySa(id) if id.spi == Spi(spi))
}

fn held(spi: u32, endpoints: Endpoints) -> KernelReply {
    KernelReply::Sa(Some(sa(spi, endpoints, Mode::Tunnel, 0, selector("::", "::"))))
}

/// The first look at SAs that are not where they belong, and the time of the second one.
pub(super) fn first_look(bench: &mut Bench, millis: u64, answers: Vec<(u32, KernelReply)>) -> u64 {
    for (spi, reply) in answers {
        bench.answer(millis, is_query(spi), reply);
    }
    assert!(!bench.requests.iter().any(|(_, request)| matches!(request, KernelRequest::AddSa { .. } | KernelRequest::DeleteSa(_))));
    bench.input(millis + SECOND_LOOK, Input::Timeout);
    millis + SECOND_LOOK
}

#[test]
fn a_burst_moves_tunnel_records_and_the_ike_sa_once() {
    let mut bench = Bench::mobile_node(COA1);
    bench.asked();
    heard(&mut bench, 1000, burst(COA1, COA2));
    assert_eq!(bench.asked(), [Asked::Retarget(IkeId(1), km(COA2, HA))], "one retarget for four messages");
    assert_eq!(bench.child_at(11), (ends(HA, HOA), ends(HOA, HA)), "transport SAs stay home");
    assert_eq!(bench.child_at(12), (ends(HA, COA2), ends(COA2, HA)));
    let moved: Vec<_> = bench.told().into_iter().filter(|event| matches!(event, Event::Moved { .. })).collect();
    let expected = Event::Moved {
        remote: RemoteId(0),
        old: Some(km(COA1, HA)),
        new: km(COA2, HA),
        ike: vec![IkeId(1)],
        children: vec![],
        source: MigrateSource::Netlink,
    };
    assert_eq!(moved.first(), Some(&expected));
    assert_eq!(moved.len(), 3, "the binding's first message, and one for each half of the tunnel");
    assert!(bench.requests.is_empty(), "the kernel moved its SAs itself");
    let places = &bench.agent.core.places;
    assert_eq!(places.ike_addresses(RemoteId(0)), Some(km(COA2, HA)));
    assert_eq!(places.sa_endpoints(PAYLOAD, km(COA2, HA)), ends(COA2, HA));
    assert_eq!(places.sa_endpoints(BINDING, km(COA2, HA)), ends(HOA, HA));
}

#[test]
fn repeats_and_messages_without_change_do_nothing() {
    let mut bench = Bench::mobile_node(COA1);
    heard(&mut bench, 1000, burst(COA1, HOA));
    bench.asked();
    bench.told();
    heard(&mut bench, 1001, burst(HOA, HOA));
    heard(&mut bench, 1002, burst(COA1, HOA));
    assert_eq!(bench.asked(), []);
    assert!(bench.told().iter().all(|event| matches!(event, Event::MigrateIdle { .. })));
    assert_eq!(bench.child_at(12), (ends(HA, HOA), ends(HOA, HA)));
}

#[test]
fn of_two_bursts_the_last_wins_and_the_kernel_is_asked_when_things_are_quiet() {
    let mut bench = Bench::mobile_node(COA1);
    heard(&mut bench, 1000, burst(COA1, COA2));
    heard(&mut bench, 1050, burst(COA2, COA1));
    bench.input(1000 + QUIET, Input::Timeout);
    assert!(bench.requests.is_empty(), "not quiet yet");
    bench.input(1050 + QUIET, Input::Timeout);
    let asked: Vec<_> = bench.requests.iter().map(|(_, request)| request.clone()).collect();
    let query = |dst: &str, spi| KernelRequest::QuerySa(SaId { dst: ip(dst), protocol: Protocol::Esp, spi: Spi(spi) });
    assert_eq!(asked, [query(COA1, 0x12), query(HA, 0x112)]);
    bench.answer(1130, is_query(0x12), held(0x12, ends(HA, COA1)));
    bench.answer(1130, is_query(0x112), held(0x112, ends(COA1, HA)));
    assert!(bench.requests.is_empty(), "what the kernel moved is left alone: {:?}", bench.requests);
    assert_eq!(bench.agent.core.counters.recreated, 0);
}

#[test]
fn an_sa_left_behind_is_made_again_with_its_keys() {
    let mut bench = Bench::mobile_node(COA1);
    // The successor of a rekey is there: the kernel moves only that one.
    bench.child(13, PAYLOAD, 0x13, Mode::Tunnel, ends(COA1, HA));
    bench.agent.core.children.update(ChildId(12), |child| child.state = ChildState::Replaced);
    heard(&mut bench, 100_000, burst(COA1, COA2));
    assert_eq!(bench.child_at(13), (ends(HA, COA2), ends(COA2, HA)));
    bench.input(100_000 + QUIET, Input::Timeout);
    bench.answer(100_080, is_query(0x13), held(0x13, ends(HA, COA2)));
    bench.answer(100_080, is_query(0x113), held(0x113, ends(COA2, HA)));
    bench.told();
    first_look(&mut bench, 100_080, vec![(0x12, KernelReply::Sa(None)), (0x112, held(0x112, ends(COA1, HA)))]);
    bench.requests.retain(|(_, request)| is_query(0x12)(request) || is_query(0x112)(request));
    // Inbound: another destination, so nothing is there. Outbound: the same destination, still from the old source.
    bench.answer(100_080, is_query(0x12), KernelReply::Sa(None));
    bench.answer(100_080, is_query(0x112), held(0x112, ends(COA1, HA)));
    let [(_, delete), (_, add), (_, delete_out)] = bench.requests.as_slice() else { panic!("{:?}", bench.requests) };
    let at = |dst: &str, spi| SaId { dst: ip(dst), protocol: Protocol::Esp, spi: Spi(spi) };
    assert_eq!(*delete, KernelRequest::DeleteSa(at(COA1, 0x12)));
    assert_eq!(*delete_out, KernelRequest::DeleteSa(at(HA, 0x112)), "a used outbound SA loses its sequence numbers: not made again");
    let KernelRequest::AddSa { parameters, allocated: false, sequence: 0 } = add else { panic!("{add:?}") };
    assert_eq!((parameters.id, parameters.src), (at(COA2, 0x12), ip(HA)));
    assert_eq!(parameters.keys.encryption, Secret::new(vec![0x12; 20]));
    assert_eq!(bench.told(), [], "not before the kernel has it");
    bench.answer(100_111, |request| matches!(request, KernelRequest::AddSa { .. }), KernelReply::Done);
    assert_eq!(bench.told(), [Event::Recreated(ChildId(12))]);
    assert_eq!(bench.asked(), [Asked::Retarget(IkeId(1), km(COA2, HA))], "a replaced child is not rekeyed");
}

#[test]
fn a_used_outbound_sa_that_serves_is_rekeyed_not_repeated() {
    let mut bench = Bench::mobile_node(COA1);
    heard(&mut bench, 100_000, burst(COA1, COA2));
    bench.input(100_000 + QUIET, Input::Timeout);
    bench.asked();
    first_look(&mut bench, 100_080, vec![(0x112, KernelReply::Sa(None))]);
    bench.answer(100_110, is_query(0x112), KernelReply::Sa(None));
    assert_eq!(bench.asked(), [Asked::Rekey(Target::Child(ChildId(12)))]);
    assert!(!bench.requests.iter().any(|(_, request)| matches!(request, KernelRequest::AddSa { .. })));
}

#[test]
fn a_used_inbound_sa_made_again_is_rekeyed_because_its_window_is_fresh() {
    let mut bench = Bench::mobile_node(COA1);
    let recreate = |bench: &mut Bench, millis| {
        heard(bench, millis, if millis < 5000 { burst(COA1, COA2) } else { burst(COA2, COA1) });
        bench.input(millis + QUIET, Input::Timeout);
        let again = first_look(bench, millis + QUIET, vec![(0x12, KernelReply::Sa(None))]);
        bench.answer(again, is_query(0x12), KernelReply::Sa(None));
        bench.asked();
        bench.answer(again + 1, |request| matches!(request, KernelRequest::AddSa { .. }), KernelReply::Done);
        bench.requests.clear();
        bench.asked()
    };
    assert_eq!(recreate(&mut bench, 1000), [], "one that has hardly been used");
    assert_eq!(recreate(&mut bench, 100_000), [Asked::Rekey(Target::Child(ChildId(12)))]);
    bench.agent.core.children.update(ChildId(12), |child| child.state = ChildState::Replaced);
    heard(&mut bench, 150_000, burst(COA1, COA2));
    assert_eq!(recreate(&mut bench, 200_000), [], "one that goes anyway");
}

#[test]
fn a_child_being_installed_while_the_tunnel_moves_is_looked_for_afterwards() {
    let mut bench = Bench::mobile_node(COA1);
    heard(&mut bench, 1000, burst(COA1, COA2));
    // Its SAs went to the kernel with the old address before the MIGRATE was heard.
    bench.child(14, PAYLOAD, 0x14, Mode::Tunnel, ends(COA1, HA));
    bench.event(1010, KeyingEvent::ChildUp(ChildId(14)));
    assert_eq!(bench.child_at(14), (ends(HA, COA2), ends(COA2, HA)));
    bench.input(1010 + QUIET, Input::Timeout);
    first_look(&mut bench, 1090, vec![(0x14, KernelReply::Sa(None)), (0x114, held(0x114, ends(COA1, HA)))]);
    bench.answer(1090, is_query(0x14), KernelReply::Sa(None));
    bench.answer(1090, is_query(0x114), held(0x114, ends(COA1, HA)));
    let added = bench.requests.iter().filter(|(_, request)| matches!(request, KernelRequest::AddSa { .. })).count();
    assert_eq!(added, 2, "fresh SAs may be made again in both directions");
}

#[test]
fn a_child_that_ends_before_its_move_is_verified_leaves_nothing_behind() {
    let mut bench = Bench::mobile_node(COA1);
    heard(&mut bench, 1000, burst(COA1, COA2));
    bench.agent.core.children.remove(ChildId(12));
    let cause = watari_sa::Cause::REPLACED;
    bench.event(1010, KeyingEvent::ChildDown { child: ChildId(12), policy: PAYLOAD, cause });
    let stale = SaId { dst: ip(COA1), protocol: Protocol::Esp, spi: Spi(0x12) };
    assert!(bench.requests.iter().any(|(_, request)| *request == KernelRequest::DeleteSa(stale)), "{:?}", bench.requests);
    bench.input(1000 + QUIET, Input::Timeout);
    assert!(!bench.requests.iter().any(|(_, request)| matches!(request, KernelRequest::QuerySa(_))));
}

#[test]
fn addresses_are_remembered_before_anything_exists() {
    let config = mobile_node(MobileNodeProfile::default());
    let mut bench = Bench::started(config, mobile_node_policies(HOA), Vec::new());
    heard(&mut bench, 1000, burst(HOA, COA1));
    assert_eq!(bench.asked(), []);
    let remembered = Event::Remembered { policy: BINDING, addresses: km(COA1, HA) };
    assert!(bench.told().contains(&remembered));
    assert_eq!(bench.agent.core.places.ike_addresses(RemoteId(0)), Some(km(COA1, HA)));
}

#[test]
fn nodes_that_share_reqids_do_not_move_each_other() {
    let mut bench = Bench::started(home_agent_config(3), Vec::new(), Vec::new());
    for node in 0..2u32 {
        let payload = PolicyId(node * 2 + 1);
        bench.ike(u64::from(node), node, HA, COA1);
        bench.child(20 + u64::from(node), payload, 0x20 + node, Mode::Tunnel, ends(HA, COA1));
    }
    bench.asked();
    let net = Selector::between("::/0".parse().expect("net"), home_address(1).into());
    let event = migrate(net, Direction::Out, (Mode::Tunnel, 8), (ends(HA, COA1), ends(HA, COA2)), km(HA, COA2));
    bench.kernel(10, KernelEvent::Migrate(event.clone()));
    let back = Selector::between(home_address(1).into(), "::/0".parse().expect("net"));
    let forward = migrate(back, Direction::Forward, (Mode::Tunnel, 7), (ends(COA1, HA), ends(COA2, HA)), km(HA, COA2));
    bench.kernel(10, KernelEvent::Migrate(forward));
    assert_eq!(bench.asked(), [Asked::Retarget(IkeId(1), km(HA, COA2))]);
    assert_eq!(bench.child_at(20), (ends(COA1, HA), ends(HA, COA1)));
    assert_eq!(bench.child_at(21), (ends(COA2, HA), ends(HA, COA2)));
}

#[test]
fn copies_from_the_other_socket_are_consumed_and_strangers_only_looked_into() {
    let mut bench = Bench::mobile_node(COA1);
    let copies = |old, new| burst(old, new).into_iter().map(|event| Migrate { source: MigrateSource::PfKey, ..event });
    heard(&mut bench, 1000, burst(COA1, COA2));
    bench.asked();
    bench.told();
    heard(&mut bench, 1001, copies(COA1, COA2).collect());
    assert_eq!(bench.agent.core.counters.migrate_copies, 4);
    // Then home and back, the copies of the first move late: they must not undo anything.
    heard(&mut bench, 1002, burst(COA2, COA1));
    bench.asked();
    heard(&mut bench, 1003, copies(COA1, COA2).collect());
    assert_eq!(bench.asked(), []);
    assert_eq!(bench.child_at(12), (ends(HA, COA1), ends(COA1, HA)));
    bench.requests.clear();
    bench.input(1503, Input::Timeout);
    let dumps = bench.requests.iter().map(|(_, request)| request).collect::<Vec<_>>();
    assert!(dumps.contains(&&KernelRequest::DumpPolicies) && dumps.contains(&&KernelRequest::DumpSas), "{dumps:?}");
}

#[test]
fn a_copy_that_comes_first_is_consumed_by_the_original() {
    let mut bench = Bench::mobile_node(COA1);
    let first = burst(COA1, COA2);
    heard(&mut bench, 1000, first.iter().map(|event| Migrate { source: MigrateSource::PfKey, ..event.clone() }).collect());
    assert_eq!(bench.child_at(12), (ends(HA, COA1), ends(COA1, HA)), "the other socket never changes a record");
    heard(&mut bench, 1001, first);
    assert_eq!(bench.child_at(12), (ends(HA, COA2), ends(COA2, HA)));
    bench.input(1001 + QUIET, Input::Timeout);
    bench.requests.clear();
    bench.input(1600, Input::Timeout);
    assert!(bench.requests.is_empty(), "nothing to look into: {:?}", bench.requests);
}

#[test]
fn pf_key_decides_where_netlink_cannot() {
    let options = AgentOptions { migrate_from: Some(MigrateSource::PfKey), ..AgentOptions::default() };
    let mut bench = Bench::waiting(mobile_node(MobileNodeProfile::default()), options);
    let mut event = burst(COA1, COA2).remove(2);
    event.source = MigrateSource::PfKey;
    bench.kernel(5, KernelEvent::Migrate(event));
    assert_eq!(bench.agent.core.places.ike_addresses(RemoteId(0)), Some(km(COA2, HA)));
}

#[test]
fn return_home_rests_the_tunnel_and_leaving_wakes_it() {
    let mut bench = Bench::mobile_node(COA1);
    bench.asked();
    let state = |bench: &Bench| bench.agent.core.children.get(ChildId(12)).map(|child| child.state);
    for entry in payload_policies(HOA) {
        bench.kernel(10, KernelEvent::PolicyRemoved(entry));
    }
    assert_eq!(state(&bench), Some(ChildState::Dormant));
    assert!(bench.requests.is_empty(), "no SA is removed");
    for entry in payload_policies(HOA) {
        bench.kernel(20, KernelEvent::PolicyChanged(entry));
    }
    assert_eq!(state(&bench), Some(ChildState::Installed));
    assert_eq!(bench.asked(), []);
}

#[test]
fn an_address_that_vanishes_ends_nothing() {
    let mut bench = Bench::mobile_node(COA1);
    bench.asked();
    let event = |present, tentative| watari_kernel::AddressEvent {
        interface: 2,
        address: ip(COA1),
        prefix_len: 64,
        present,
        flags: watari_kernel::AddressFlags { tentative, ..Default::default() },
    };
    bench.kernel(1, KernelEvent::Address(event(true, true)));
    assert_eq!(bench.told(), [], "tentative: not usable yet, nothing changed");
    bench.kernel(2, KernelEvent::Address(event(true, false)));
    assert_eq!(bench.asked(), [Asked::Input(format!("AddressUsable({COA1})"))]);
    bench.kernel(3, KernelEvent::Address(event(false, false)));
    assert_eq!(bench.asked(), []);
    assert_eq!(bench.agent.core.children.len(), 2);
}

#[test]
fn the_home_address_is_not_chosen_for_ike_while_nothing_is_told() {
    let mut bench = Bench::started(mobile_node(MobileNodeProfile::default()), Vec::new(), Vec::new());
    let mut address = |text: &str, home, temporary| {
        let flags = watari_kernel::AddressFlags { home, temporary, ..Default::default() };
        let event = watari_kernel::AddressEvent { interface: 2, address: ip(text), prefix_len: 64, present: true, flags };
        bench.kernel(1, KernelEvent::Address(event));
        bench.agent.core.places.ike_addresses(RemoteId(0))
    };
    assert_eq!(address(HOA, true, false), Some(km("::", HA)));
    assert_eq!(address("fe80::1", false, false), Some(km("::", HA)));
    assert_eq!(address(COA2, false, true), Some(km(COA2, HA)));
    assert_eq!(address(COA1, false, false), Some(km(COA1, HA)));
}

#[test]
fn an_unanswered_acquire_of_a_tunnel_is_withdrawn_when_its_address_vanishes() {
    let mut bench = Bench::mobile_node(COA1);
    bench.requests.clear();
    let template = Template::esp(Mode::Tunnel, Reqid(7), ends(COA1, HA));
    let acquire = Acquire {
        sequence: 9,
        packet: selector(HOA, HA),
        policy: selector(HOA, "::"),
        index: PolicyIndex(0),
        direction: Direction::Out,
        template,
        endpoints: ends(COA1, HA),
        care_of: None,
    };
    bench.kernel(1, KernelEvent::Acquire(acquire));
    let address = |text: &str, present| {
        let flags = AddressFlags::default();
        KernelEvent::Address(AddressEvent { interface: 2, address: ip(text), prefix_len: 64, present, flags })
    };
    for text in [COA1, COA2] {
        bench.kernel(2, address(text, true));
    }
    bench.kernel(3, address(COA2, false));
    assert!(bench.requests.is_empty(), "another address: {:?}", bench.requests);
    bench.kernel(4, address(COA1, false));
    let reserve = |request: &KernelRequest| {
        *request == KernelRequest::AllocateSpi { endpoints: ends(COA1, HA), protocol: Protocol::Esp, mode: Mode::Tunnel, reqid: Reqid(7) }
    };
    bench.answer(4, reserve, KernelReply::Spi(Spi(0x777)));
    let id = SaId { dst: ip(HA), protocol: Protocol::Esp, spi: Spi(0x777) };
    assert!(bench.requests.iter().any(|(_, request)| *request == KernelRequest::DeleteSa(id)));
    bench.requests.clear();
    bench.kernel(5, address(COA1, true));
    bench.kernel(6, address(COA1, false));
    assert!(bench.requests.is_empty(), "withdrawn once");
}

#[test]
fn without_addresses_for_key_management_the_new_tunnel_end_points_do_and_unspecified_ones_are_none() {
    for named in [None, Some(km("::", "::")), Some(km("::", HA)), Some(km(COA2, "::"))] {
        let mut bench = Bench::mobile_node(COA1);
        bench.asked();
        let events: Vec<_> = burst(COA1, COA2).into_iter().map(|event| Migrate { kmaddress: named, ..event }).collect();
        heard(&mut bench, 1000, events[..2].to_vec());
        assert_eq!(bench.asked(), [], "a transport step names nothing else to go by");
        assert_eq!(bench.agent.core.places.remembered(RemoteId(0)), Some(km(COA1, HA)));
        heard(&mut bench, 1000, events[2..].to_vec());
        assert_eq!(bench.asked(), [Asked::Retarget(IkeId(1), km(COA2, HA))], "the tunnel's end points do");
        assert_eq!(bench.agent.core.places.ike_addresses(RemoteId(0)), Some(km(COA2, HA)));
    }
}

/// Home and away again while IKE_AUTH is under way: the tunnel's policies go and come back, at another address.
#[test]
fn a_policy_that_goes_and_comes_back_while_it_is_negotiated_gets_its_child() {
    let mut bench = Bench::started(mobile_node(MobileNodeProfile::default()), mobile_node_policies(COA1), Vec::new());
    bench.ike(1, 0, COA1, HA);
    {
        let mut shared = bench.shared.lock().expect("one thread");
        shared.ikes[0].state = IkeState::AwaitAuth;
        shared.ikes[0].negotiating = vec![PAYLOAD];
    }
    bench.asked();
    let tunnel = |old, new| burst(old, new).split_off(2);
    let binding = |new| burst(COA1, new).into_iter().take(2).collect();
    heard(&mut bench, 1000, tunnel(COA1, HOA));
    for entry in payload_policies(HOA) {
        bench.kernel(1001, KernelEvent::PolicyRemoved(entry));
    }
    heard(&mut bench, 1001, binding(HOA));
    assert_eq!(bench.asked(), [Asked::Retarget(IkeId(1), km(HOA, HA))]);
    // Its SAs are handed to the kernel at home, where its policy is not.
    bench.child(14, PAYLOAD, 0x14, Mode::Tunnel, ends(HOA, HA));
    bench.agent.core.children.update(ChildId(14), |child| child.state = ChildState::Installing);
    for entry in payload_policies(COA2) {
        bench.kernel(1300, KernelEvent::PolicyChanged(entry));
    }
    heard(&mut bench, 1300, binding(COA2));
    assert_eq!(bench.asked(), [Asked::Retarget(IkeId(1), km(COA2, HA))], "one negotiation all the while");
    bench.agent.core.children.update(ChildId(14), |child| child.state = ChildState::Installed);
    bench.event(1310, KeyingEvent::ChildUp(ChildId(14)));
    assert_eq!(bench.child_at(14), (ends(HA, COA2), ends(COA2, HA)));
    bench.input(1310 + QUIET, Input::Timeout);
    first_look(&mut bench, 1390, vec![(0x14, KernelReply::Sa(None)), (0x114, KernelReply::Sa(None))]);
    bench.answer(1420, is_query(0x14), KernelReply::Sa(None));
    bench.answer(1420, is_query(0x114), KernelReply::Sa(None));
    let added = bench.requests.iter().filter_map(|(_, request)| match request {
        KernelRequest::AddSa { parameters, .. } => Some(parameters.endpoints()),
        _ => None,
    });
    assert_eq!(added.collect::<Vec<_>>(), [ends(HA, COA2), ends(COA2, HA)], "made at home, made again where they belong");
}

#[test]
fn a_resting_child_whose_policy_returns_elsewhere_follows_it_and_is_rekeyed_if_that_is_due() {
    let mut bench = Bench::mobile_node(COA1);
    for entry in payload_policies(COA1) {
        bench.kernel(10, KernelEvent::PolicyRemoved(entry));
    }
    bench.agent.core.children.update(ChildId(12), |child| child.rekey_at = Some(Duration::from_secs(50)));
    bench.asked();
    for entry in payload_policies(COA2) {
        bench.kernel(60_000, KernelEvent::PolicyChanged(entry));
    }
    assert_eq!(bench.child_at(12), (ends(HA, COA2), ends(COA2, HA)));
    assert_eq!(bench.asked(), [Asked::Retarget(IkeId(1), km(COA2, HA)), Asked::Rekey(Target::Child(ChildId(12)))]);
    bench.input(60_000 + QUIET, Input::Timeout);
    assert!(bench.requests.iter().any(|(_, request)| is_query(0x12)(request)), "and looked for");
}

/// Q2, D7: binding messages are protected between home address and home agent, wherever IKE is.
#[test]
fn sas_for_binding_messages_stand_between_home_address_and_home_agent_wherever_ike_is() {
    let mut bench = Bench::mobile_node(COA1);
    for coa in [COA2, HOA, COA1] {
        let places = &bench.agent.core.places;
        assert_eq!(places.sa_endpoints(BINDING, km(coa, HA)), ends(HOA, HA));
        heard(&mut bench, 1000, burst(COA1, coa));
        assert_eq!(bench.agent.core.places.sa_endpoints(BINDING, km(coa, HA)), ends(HOA, HA));
        assert_eq!(bench.agent.core.places.sa_endpoints(PAYLOAD, km(coa, HA)), ends(coa, HA));
    }
    let traffic = &bench.agent.core.config.policy(BINDING).expect("policy").traffic;
    assert_eq!((traffic.local[0].range.start, traffic.local[0].range.end), (ip(HOA), ip(HOA)), "TSi is the home address");
}

/// Q24: the SA that a binding update arrives on is not so much as looked at when its own movement is told.
#[test]
fn the_sa_that_brings_the_binding_update_is_left_alone_by_its_movement() {
    let mut bench = Bench::started(home_agent_config(1), home_agent_policies(COA1), Vec::new());
    let home = home_address(0).to_string();
    bench.ike(1, 0, HA, COA1);
    bench.child(21, BINDING, 0x21, Mode::Transport, ends(HA, &home));
    bench.child(22, PAYLOAD, 0x22, Mode::Tunnel, ends(HA, COA1));
    let mh = |src: &str, dst: &str| binding_selector(src, dst);
    let (none, step) = (ends("::", "::"), |src: &str, dst: &str| ends(src, dst));
    let events = vec![
        migrate(mh(&home, HA), Direction::In, (Mode::Transport, 1), (none, step(COA2, HA)), km(HA, COA2)),
        migrate(mh(HA, &home), Direction::Out, (Mode::Transport, 2), (none, step(HA, COA2)), km(HA, COA2)),
        migrate(selector(&home, "::"), Direction::In, (Mode::Tunnel, 7), (ends(COA1, HA), ends(COA2, HA)), km(HA, COA2)),
        migrate(selector(&home, "::"), Direction::Forward, (Mode::Tunnel, 7), (ends(COA1, HA), ends(COA2, HA)), km(HA, COA2)),
        migrate(selector("::", &home), Direction::Out, (Mode::Tunnel, 8), (ends(HA, COA1), ends(HA, COA2)), km(HA, COA2)),
    ];
    heard(&mut bench, 1000, events);
    bench.input(1000 + QUIET, Input::Timeout);
    assert_eq!(bench.child_at(21), (ends(&home, HA), ends(HA, &home)));
    assert_eq!(bench.child_at(22), (ends(COA2, HA), ends(HA, COA2)));
    let touched = bench.requests.iter().filter_map(|(_, request)| match request {
        KernelRequest::QuerySa(id) | KernelRequest::DeleteSa(id) => Some(id.spi.0),
        KernelRequest::AddSa { parameters, .. } => Some(parameters.id.spi.0),
        _ => None,
    });
    assert_eq!(touched.collect::<Vec<_>>(), [0x22, 0x122], "only the tunnel's");
}

/// D1, Q26: reqid, direction and addresses of the traffic find a policy; its old end points neither find it nor hinder.
#[test]
fn old_end_points_find_nothing_and_hinder_nothing() {
    let stranger = "2001:db8:f9::e";
    let mut bench = Bench::mobile_node(COA1);
    bench.asked();
    heard(&mut bench, 1000, burst(stranger, COA2));
    assert_eq!(bench.child_at(12), (ends(HA, COA2), ends(COA2, HA)));
    assert_eq!(bench.asked(), [Asked::Retarget(IkeId(1), km(COA2, HA))]);
    bench.told();
    // The reqid of the other direction, a reqid of nobody, other addresses: all with the right old end points.
    let back = (ends(COA2, HA), ends(COA1, HA));
    for (selector, reqid) in [(selector(HOA, "::"), 8), (selector(HOA, "::"), 99), (selector("2001:db8:1::eeee", "::"), 7)] {
        heard(&mut bench, 1001, vec![migrate(selector, Direction::Out, (Mode::Tunnel, reqid), back, km(COA1, HA))]);
    }
    assert_eq!(bench.child_at(12), (ends(HA, COA2), ends(COA2, HA)));
    assert_eq!(bench.asked(), []);
    assert!(bench.told().iter().all(|event| matches!(event, Event::MigrateIdle { why } if why.contains("no policy of ours"))));
}

/// D8, Q27: the Mobile IPv6 daemon owns its policies; the agent reads them, and no more (moving them it has not even a request for).
#[test]
fn policies_of_the_other_daemon_are_never_touched() {
    let mut bench = Bench::mobile_node(COA1);
    let mut seen = Vec::new();
    let mut note = |bench: &mut Bench| seen.extend(bench.requests.drain(..).map(|(_, request)| request));
    heard(&mut bench, 1000, burst(COA1, HOA));
    for entry in payload_policies(HOA) {
        bench.kernel(1001, KernelEvent::PolicyRemoved(entry));
    }
    for entry in payload_policies(COA2) {
        bench.kernel(1300, KernelEvent::PolicyChanged(entry));
    }
    bench.input(1300 + QUIET, Input::Timeout);
    note(&mut bench);
    bench.kernel(2000, KernelEvent::Flushed { policies: true });
    bench.input(2000, Input::Timeout);
    bench.kernel(3000, KernelEvent::Resynchronised { policies: mobile_node_policies(COA2), sas: sas_at(COA2) });
    let mut other = mobile_node(MobileNodeProfile::default());
    other.policies.pop();
    bench.input(4000, Input::Command(crate::CommandId(1), crate::Command::Reload(Box::new(other))));
    bench.input(5000, Input::Command(crate::CommandId(2), crate::Command::Shutdown));
    note(&mut bench);
    assert!(seen.len() > 3, "{seen:?}");
    assert!(!seen.iter().any(|request| matches!(request, KernelRequest::SetPolicy(_) | KernelRequest::DeletePolicy { .. })), "{seen:?}");
}

/// Q22: only the kernel tells of movement. Whatever a datagram says and wherever it comes from, addresses stay.
#[test]
fn nothing_that_comes_by_network_moves_anything() {
    let mut bench = Bench::mobile_node(COA1);
    let before = (bench.child_at(12), bench.agent.core.places.ike_addresses(RemoteId(0)));
    let mut octets = vec![0; 200];
    octets[17] = 0x20;
    for source in [COA2, "2001:db8:b::c", HA] {
        let path = Path::between(ip(HOA), ip(source), 500);
        bench.input(10, Input::Datagram(watari_sa::Datagram { path, octets: octets.clone() }));
    }
    assert_eq!((bench.child_at(12), bench.agent.core.places.ike_addresses(RemoteId(0))), before);
    assert!(bench.asked().iter().all(|asked| matches!(asked, Asked::Input(_))));
    assert_eq!(bench.agent.core.counters.migrate_events, 0);
}
