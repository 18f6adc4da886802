//! What goes wrong between engine and kernel: answers that are late, SAs in the way, messages that contradict themselves, and changes of
//! the configuration in the middle of it.

use super::*;
use crate::vici::Section;
use crate::{Command, CommandId, Reply};
use watari_kernel::{Acquire, AddressEvent, AddressFlags, KernelError};
use watari_sa::{Trigger, Whereabouts as _};

const COA3: &str = "2001:db8:f3::e";
const AGAIN: u64 = 25;

fn heard(bench: &mut Bench, millis: u64, events: Vec<Migrate>) {
    for event in events {
        bench.kernel(millis, KernelEvent::Migrate(event));
    }
}

fn is_query(spi: u32) -> impl Fn(&KernelRequest) -> bool {
    move |request| matches!(request, KernelRequest::QuerySa(id) if id.spi == Spi(spi))
}

fn is_add(request: &KernelRequest) -> bool {
    matches!(request, KernelRequest::AddSa { .. })
}

fn held(spi: u32, endpoints: Endpoints, packets: u64) -> KernelReply {
    KernelReply::Sa(Some(SaInfo { packets, ..sa(spi, endpoints, Mode::Tunnel, 0, selector("::", "::")) }))
}

fn refuse(bench: &mut Bench, millis: u64, fits: impl Fn(&KernelRequest) -> bool, errno: i32) {
    let position = bench.requests.iter().position(|(_, request)| fits(request)).expect("a request that fits");
    let (id, _) = bench.requests.remove(position);
    bench.input(millis, Input::Done(id, Err(KernelError { errno, text: "the kernel's words".into(), request: "add an SA" })));
}

fn notice_with_the_kernels_words(event: &Event) -> bool {
    matches!(event, Event::Notice { cause: watari_sa::Cause::KERNEL_REFUSED, detail } if detail.contains("the kernel's words"))
}

fn reload(bench: &mut Bench, millis: u64, config: Config) {
    bench.input(millis, Input::Command(CommandId(9), Command::Reload(Box::new(config))));
}

#[test]
fn an_answer_about_a_place_the_child_has_left_concludes_nothing() {
    let mut bench = Bench::mobile_node(COA1);
    heard(&mut bench, 100_000, burst(COA1, COA2));
    bench.input(100_000 + QUIET, Input::Timeout);
    // The second move comes between question and answer.
    heard(&mut bench, 100_076, burst(COA2, COA3));
    bench.asked();
    bench.answer(100_077, is_query(0x12), KernelReply::Sa(None));
    bench.answer(100_077, is_query(0x112), held(0x112, ends(COA2, HA), 9));
    assert!(bench.requests.is_empty(), "{:?}", bench.requests);
    assert_eq!(bench.asked(), []);
    bench.input(100_076 + QUIET, Input::Timeout);
    bench.answer(100_160, is_query(0x12), held(0x12, ends(HA, COA3), 9));
    bench.answer(100_160, is_query(0x112), held(0x112, ends(COA3, HA), 9));
    assert!(bench.requests.is_empty(), "the kernel moved both: {:?}", bench.requests);
}

#[test]
fn an_answer_that_overtakes_its_migrate_costs_no_sa() {
    let mut bench = Bench::mobile_node(COA1);
    heard(&mut bench, 100_000, burst(COA1, COA2));
    bench.input(100_000 + QUIET, Input::Timeout);
    bench.asked();
    // The kernel has moved on; the MIGRATE that says so waits on the other socket.
    bench.answer(100_075, is_query(0x12), KernelReply::Sa(None));
    bench.answer(100_075, is_query(0x112), held(0x112, ends(COA3, HA), 9));
    assert!(bench.requests.is_empty(), "not at the first look: {:?}", bench.requests);
    heard(&mut bench, 100_076, burst(COA2, COA3));
    bench.input(100_076 + QUIET, Input::Timeout);
    bench.answer(100_160, is_query(0x12), held(0x12, ends(HA, COA3), 9));
    bench.answer(100_160, is_query(0x112), held(0x112, ends(COA3, HA), 9));
    assert!(bench.requests.is_empty(), "{:?}", bench.requests);
    assert_eq!(bench.asked(), [Asked::Retarget(IkeId(1), km(COA3, HA))]);
}

#[test]
fn an_sa_in_the_way_of_one_made_again_is_looked_at_not_given_up() {
    let mut bench = Bench::mobile_node(COA1);
    heard(&mut bench, 1000, burst(COA1, COA2));
    for look in [1000 + QUIET, 1000 + QUIET + AGAIN] {
        bench.input(look, Input::Timeout);
        bench.answer(look, is_query(0x12), KernelReply::Sa(None));
        bench.answer(look, is_query(0x112), held(0x112, ends(COA2, HA), 0));
    }
    bench.asked();
    bench.told();
    refuse(&mut bench, 1101, is_add, 17);
    assert_eq!(bench.asked(), [], "the child is not closed");
    assert_eq!(bench.told(), [], "nothing for a human");
    bench.requests.clear();
    bench.input(1101 + AGAIN, Input::Timeout);
    bench.answer(1130, is_query(0x12), held(0x12, ends(HA, COA2), 3));
    bench.answer(1130, is_query(0x112), held(0x112, ends(COA2, HA), 3));
    assert!(bench.requests.is_empty(), "{:?}", bench.requests);
}

#[test]
fn an_sa_the_kernel_will_not_take_again_is_told_tried_once_more_and_replaced() {
    for errno in [38, 3, 12, 17] {
        let mut bench = Bench::mobile_node(COA1);
        heard(&mut bench, 1000, burst(COA1, COA2));
        for look in [1000 + QUIET, 1000 + QUIET + AGAIN] {
            bench.input(look, Input::Timeout);
            bench.answer(look, is_query(0x12), KernelReply::Sa(None));
        }
        bench.asked();
        bench.told();
        refuse(&mut bench, 1101, is_add, errno);
        assert_eq!(bench.asked(), [], "the child goes on for another attempt");
        assert_eq!(bench.told().iter().filter(|event| notice_with_the_kernels_words(event)).count(), usize::from(errno != 17));
        bench.input(1101 + AGAIN, Input::Timeout);
        bench.answer(1130, is_query(0x12), KernelReply::Sa(None));
        refuse(&mut bench, 1131, is_add, errno);
        let asked = bench.asked();
        assert_eq!(asked[0], Asked::Close(Target::Child(ChildId(12))));
        assert!(matches!(asked[1], Asked::Want(Want { policy: PAYLOAD, trigger: Trigger::Start })), "{asked:?}");
        assert!(bench.told().iter().any(notice_with_the_kernels_words), "{errno}: a second time even EEXIST is told");
        assert!(!bench.requests.iter().any(|(_, request)| is_add(request)), "no endless attempts");
    }
}

#[test]
fn an_sa_taken_at_the_second_attempt_serves_and_the_next_refusal_counts_anew() {
    let mut bench = Bench::mobile_node(COA1);
    heard(&mut bench, 1000, burst(COA1, COA2));
    for look in [1000 + QUIET, 1000 + QUIET + AGAIN] {
        bench.input(look, Input::Timeout);
        bench.answer(look, is_query(0x12), KernelReply::Sa(None));
    }
    refuse(&mut bench, 1101, is_add, 12);
    bench.input(1101 + AGAIN, Input::Timeout);
    bench.answer(1130, is_query(0x12), KernelReply::Sa(None));
    bench.told();
    bench.asked();
    bench.answer(1131, is_add, KernelReply::Done);
    assert_eq!(bench.told(), [Event::Recreated(ChildId(12))]);
    assert!(bench.agent.core.refused.is_empty());
    assert_eq!((bench.asked(), bench.agent.core.children.len()), (vec![], 2));
}

#[test]
fn an_sa_made_again_for_a_child_that_ended_meanwhile_is_taken_out() {
    let mut bench = Bench::mobile_node(COA1);
    heard(&mut bench, 1000, burst(COA1, COA2));
    for look in [1000 + QUIET, 1000 + QUIET + AGAIN] {
        bench.input(look, Input::Timeout);
        bench.answer(look, is_query(0x12), KernelReply::Sa(None));
    }
    bench.agent.core.children.remove(ChildId(12));
    bench.answer(1101, is_add, KernelReply::Done);
    let id = SaId { dst: ip(COA2), protocol: Protocol::Esp, spi: Spi(0x12) };
    assert!(bench.requests.iter().any(|(_, request)| *request == KernelRequest::DeleteSa(id)), "{:?}", bench.requests);
}

/// What the keying module asks the kernel to do with an SA of child 12.
fn ask_add(bench: &mut Bench, id: u64, spi: u32, endpoints: Endpoints, key: u8) {
    let kept = bench.agent.core.kept.values().find(|kept| kept.id.spi == Spi(0x12)).expect("kept").clone();
    let keys = SaKeys { encryption: Secret::new(vec![key; 20]), ..kept.keys };
    let sa = SaId { dst: endpoints.dst, protocol: Protocol::Esp, spi: Spi(spi) };
    let parameters = SaParameters { id: sa, src: endpoints.src, keys, ..kept };
    let request = KernelRequest::AddSa { parameters: Box::new(parameters), allocated: false, sequence: 0 };
    bench.act(900, Action::Kernel(RequestId(id), request));
    bench.requests.clear();
}

#[test]
fn keys_the_kernel_refused_do_not_take_the_place_of_those_it_holds() {
    let mut bench = Bench::mobile_node(COA1);
    ask_add(&mut bench, 77, 0x12, ends(HA, COA1), 0xee);
    let held =
        |bench: &Bench| bench.agent.core.kept.values().find(|kept| kept.id.spi == Spi(0x12)).map(|kept| kept.keys.encryption.clone());
    assert_eq!(held(&bench), Some(Secret::new(vec![0x12; 20])), "nothing is known before the answer");
    bench.input(901, Input::Done(RequestId(77), Err(KernelError { errno: 17, text: String::new(), request: "add an SA" })));
    assert_eq!(held(&bench), Some(Secret::new(vec![0x12; 20])));
    ask_add(&mut bench, 78, 0x12, ends(HA, COA1), 0xee);
    bench.input(902, Input::Done(RequestId(78), Ok(KernelReply::Done)));
    assert_eq!(held(&bench), Some(Secret::new(vec![0xee; 20])));
}

#[test]
fn keys_are_kept_where_the_child_belongs_when_the_kernel_answers() {
    let mut bench = Bench::mobile_node(COA1);
    ask_add(&mut bench, 77, 0x12, ends(HA, COA1), 0x12);
    heard(&mut bench, 950, burst(COA1, COA2));
    bench.input(951, Input::Done(RequestId(77), Ok(KernelReply::Done)));
    let id = SaId { dst: ip(COA2), protocol: Protocol::Esp, spi: Spi(0x12) };
    assert_eq!(bench.agent.core.kept.get(&id).map(|kept| (kept.id, kept.src)), Some((id, ip(HA))));
    // And nothing is kept for a child that is gone by then.
    ask_add(&mut bench, 78, 0x12, ends(HA, COA2), 0x12);
    bench.agent.core.children.remove(ChildId(12));
    bench.agent.core.kept.clear();
    bench.input(952, Input::Done(RequestId(78), Ok(KernelReply::Done)));
    assert!(bench.agent.core.kept.is_empty() && bench.agent.core.forwarded.is_empty());
}

#[test]
fn a_refused_removal_is_told_with_the_kernels_words() {
    let mut bench = Bench::mobile_node(COA1);
    let sa = SaId { dst: ip(COA1), protocol: Protocol::Esp, spi: Spi(0x12) };
    bench.act(1, Action::Kernel(RequestId(77), KernelRequest::DeleteSa(sa)));
    bench.told();
    refuse(&mut bench, 2, |request| *request == KernelRequest::DeleteSa(sa), 1);
    let told = bench.told();
    assert!(matches!(&told[..], [event] if notice_with_the_kernels_words(event)), "{told:?}");
    bench.act(3, Action::Kernel(RequestId(78), KernelRequest::DeleteSa(sa)));
    bench.answer(4, |request| *request == KernelRequest::DeleteSa(sa), KernelReply::Done);
    assert_eq!(bench.told(), []);
}

#[test]
fn a_young_outbound_sa_that_carried_packets_is_not_made_again() {
    let mut bench = Bench::mobile_node(COA1);
    heard(&mut bench, 1000, burst(COA1, COA2));
    for look in [1000 + QUIET, 1000 + QUIET + AGAIN] {
        bench.input(look, Input::Timeout);
        bench.asked();
        bench.answer(look, is_query(0x112), held(0x112, ends(COA1, HA), 1));
    }
    assert!(!bench.requests.iter().any(|(_, request)| is_add(request)), "its sequence numbers and IVs would repeat");
    assert_eq!(bench.asked(), [Asked::Rekey(Target::Child(ChildId(12)))]);
}

#[test]
fn a_hard_expire_at_an_old_address_ends_nothing() {
    let mut bench = Bench::mobile_node(COA1);
    heard(&mut bench, 1000, burst(COA1, COA2));
    bench.asked();
    let id = SaId { dst: ip(COA1), protocol: Protocol::Esp, spi: Spi(0x12) };
    bench.kernel(1001, KernelEvent::Expire(watari_kernel::Expire { id, src: ip(HA), reqid: Reqid(8), hard: true }));
    assert_eq!(bench.asked(), []);
    assert_eq!(bench.agent.core.children.len(), 2);
}

#[test]
fn six_steps_of_mixed_modes_move_what_fits_and_nothing_else() {
    let mut bench = Bench::mobile_node(COA1);
    bench.asked();
    let mut event = burst(COA1, COA2).remove(2);
    let fitting = event.steps[0];
    let other = |mode, reqid| MigrateStep { mode, reqid: Reqid(reqid), ..fitting };
    event.steps = vec![
        other(Mode::Transport, 7),
        other(Mode::Tunnel, 99),
        MigrateStep { new: ends("::", "::"), ..fitting },
        MigrateStep { new: ends(COA3, HA), ..fitting },
        fitting,
        other(Mode::Transport, 0),
    ];
    bench.kernel(1000, KernelEvent::Migrate(event));
    assert_eq!(bench.child_at(12), (ends(HA, COA1), ends(COA2, HA)), "the outbound half, to where the last fitting step says");
    assert_eq!(bench.child_at(11), (ends(HA, HOA), ends(HOA, HA)));
    assert_eq!(bench.asked(), [Asked::Retarget(IkeId(1), km(COA2, HA))]);
}

#[test]
fn flapping_between_two_addresses_ends_where_it_ends_and_asks_once() {
    let mut bench = Bench::mobile_node(COA1);
    for number in 0..50u64 {
        let (from, to) = if number % 2 == 0 { (COA1, COA2) } else { (COA2, COA1) };
        heard(&mut bench, 1000 + number, burst(from, to));
    }
    assert_eq!(bench.child_at(12), (ends(HA, COA1), ends(COA1, HA)));
    assert!(bench.requests.is_empty());
    bench.input(1049 + QUIET, Input::Timeout);
    assert_eq!(bench.requests.len(), 2);
    bench.answer(1130, is_query(0x12), held(0x12, ends(HA, COA1), 0));
    bench.answer(1130, is_query(0x112), held(0x112, ends(COA1, HA), 0));
    assert!(bench.requests.is_empty());
    assert!(bench.agent.core.stale.is_empty() && bench.agent.core.doubted.is_empty(), "nothing is kept about it");
    assert!(bench.agent.core.awaited.len() <= 1 && bench.agent.core.sent_after_move.len() <= 1);
}

fn acquire(index: u32) -> Acquire {
    Acquire {
        sequence: index,
        packet: selector(HOA, HA),
        policy: selector(HOA, "::"),
        index: PolicyIndex(3),
        direction: Direction::Out,
        template: Template::esp(Mode::Tunnel, Reqid(7), ends(COA1, HA)),
        endpoints: ends(COA1, HA),
        care_of: None,
    }
}

#[test]
fn acquires_of_strangers_and_storms_leave_nothing_behind() {
    let mut bench = Bench::mobile_node(COA1);
    bench.asked();
    for number in 0..1000u32 {
        let text = format!("2001:db8:77::{number:x}");
        let stranger = Acquire {
            policy: selector(&text, "2001:db8:78::1"),
            packet: selector(&text, "2001:db8:78::1"),
            index: PolicyIndex(9),
            ..acquire(number)
        };
        bench.kernel(1, KernelEvent::Acquire(stranger));
    }
    assert_eq!(bench.asked(), []);
    assert!(bench.agent.core.purposes.is_empty() && bench.agent.core.timers.deadline().is_none() && bench.agent.core.calls.is_empty());
}

#[test]
fn after_a_reload_the_new_record_serves_not_the_retired_one() {
    let mut bench = Bench::mobile_node(COA1);
    heard(&mut bench, 1000, burst(COA1, COA2));
    bench.input(1000 + QUIET, Input::Timeout);
    let mut config = mobile_node(MobileNodeProfile::default());
    config.remotes[0].allowed_from.push("2001:db8:99::/48".parse().expect("prefix"));
    reload(&mut bench, 2000, config);
    let core = &bench.agent.core;
    let new = core.config.policies.iter().position(|policy| policy.name == "payload").expect("payload") as u32;
    assert_ne!(new, PAYLOAD.0);
    assert_eq!(core.places.ike_addresses(core.config.policies[new as usize].remote), Some(km(COA2, HA)), "the node has not moved");
    bench.asked();
    bench.answer(2001, |request| matches!(request, KernelRequest::QuerySa(id) if id.spi == Spi(0x112)), KernelReply::Sa(None));
    bench.requests.clear();
    bench.input(2002, Input::Timeout);
    bench.answer(2003, |request| matches!(request, KernelRequest::DumpPolicies), KernelReply::Policies(mobile_node_policies(COA2)));
    bench.asked();
    bench.kernel(2004, KernelEvent::Acquire(acquire(1)));
    let asked = bench.asked();
    assert!(matches!(asked[..], [Asked::Want(Want { policy, .. })] if policy == PolicyId(new)), "{asked:?}");
}

#[test]
fn a_new_configuration_is_told_to_the_keying_module() {
    let mut bench = Bench::started(home_agent_config(2), Vec::new(), Vec::new());
    reload(&mut bench, 10, home_agent_config(1));
    assert_eq!(bench.shared.lock().expect("one thread").reconfigured, 1, "else a node that was taken out could still prove its identity");
}

#[test]
fn a_reload_in_the_middle_of_a_move_loses_nothing() {
    let mut bench = Bench::mobile_node(COA1);
    let events = burst(COA1, COA2);
    heard(&mut bench, 1000, events[..3].to_vec());
    reload(&mut bench, 1000, mobile_node(MobileNodeProfile::default()));
    heard(&mut bench, 1001, events[3..].to_vec());
    assert_eq!(bench.child_at(12), (ends(HA, COA2), ends(COA2, HA)));
    assert_eq!(bench.agent.core.places.ike_addresses(RemoteId(0)), Some(km(COA2, HA)));
}

#[test]
fn an_adopted_child_is_terminated_without_waiting() {
    let inbound_only = vec![sa(0x12, ends(HA, COA1), Mode::Tunnel, 8, selector("::", HOA))];
    let mut bench = Bench::started(mobile_node(MobileNodeProfile::default()), mobile_node_policies(COA1), inbound_only);
    assert_eq!(bench.agent.core.children.len(), 1, "half a child is taken over too");
    bench.requests.clear();
    bench.outputs.clear();
    let arguments = Section::new().with("child", "payload");
    bench.input(10, Input::Command(CommandId(9), Command::Vici { name: "terminate".into(), arguments }));
    let [Output::Reply(CommandId(9), Reply::End(end))] = bench.outputs.as_slice() else { panic!("{:?}", bench.outputs) };
    assert_eq!(end.text("success"), Some("yes"));
    let inbound = SaId { dst: ip(COA1), protocol: Protocol::Esp, spi: Spi(0x12) };
    assert_eq!(bench.requests.iter().map(|(_, request)| request.clone()).collect::<Vec<_>>(), [KernelRequest::DeleteSa(inbound)]);
}

#[test]
fn commands_with_strange_arguments_are_answered() {
    let strange = ["", "\0retired", "-1", "99999999999999999999", "💥", "unknown"];
    for name in ["list-sas", "list-conns", "list-policies", "initiate", "terminate", "rekey", "stats", "no-such"] {
        for key in ["ike", "child", "ike-id", "child-id", "timeout"] {
            for value in strange {
                let mut bench = Bench::mobile_node(COA1);
                bench.outputs.clear();
                let arguments = Section::new().with(key, value).with_list("child-id", [value.to_owned()]);
                bench.input(10, Input::Command(CommandId(9), Command::Vici { name: name.into(), arguments }));
                if name == "list-sas" {
                    // The kernel does not say what it has counted.
                    bench.input(600, Input::Timeout);
                }
                let ends = bench.outputs.iter().filter(|output| matches!(output, Output::Reply(_, Reply::End(_) | Reply::Unknown)));
                assert_eq!(ends.count(), 1, "{name} {key}={value}");
                assert!(!bench.asked().iter().any(|asked| matches!(asked, Asked::Close(_) | Asked::Rekey(_))), "{name} {key}={value}");
            }
        }
    }
}

#[test]
fn the_status_of_many_nodes_fits_a_packet_and_says_what_is_missing() {
    let mut bench = Bench::started(home_agent_config(2000), Vec::new(), Vec::new());
    bench.ike(1900, 1900, HA, COA1);
    bench.outputs.clear();
    bench.input(10, Input::Command(CommandId(9), Command::Status));
    let [Output::Reply(_, Reply::Json(text))] = bench.outputs.as_slice() else { panic!("{:?}", bench.outputs) };
    let pieces = text.as_bytes().chunks(65_535).map(<[u8]>::to_vec).collect();
    let packet = crate::vici::Packet::Response(Section(vec![("json".to_owned(), crate::vici::Value::List(pieces))]));
    assert!(packet.encode_frame().is_ok(), "{} octets", text.len());
    let status: crate::status::Status = serde_json::from_str(text).expect("our own form");
    assert!(status.omitted > 0 && status.remotes.len() > 100);
    assert_eq!(status.remotes.len() + status.omitted, bench.agent.core.config.remotes.len());
    assert!(status.remotes.iter().any(|remote| remote.name == "mn1900"), "those with SAs come first");
}

#[test]
fn a_return_home_that_was_missed_is_seen_by_what_is_gone() {
    let mut bench = Bench::mobile_node(COA1);
    heard(&mut bench, 1000, burst(COA1, COA2));
    let address = |bench: &mut Bench, text: &str, present, home| {
        let flags = AddressFlags { home, ..Default::default() };
        bench.kernel(1001, KernelEvent::Address(AddressEvent { interface: 2, address: ip(text), prefix_len: 64, present, flags }));
    };
    address(&mut bench, HOA, true, true);
    address(&mut bench, COA2, true, false);
    bench.asked();
    let transport: Vec<_> = mobile_node_policies(HOA).into_iter().take(2).collect();
    let resync = |policies| KernelEvent::Resynchronised { policies, sas: Vec::new() };
    bench.kernel(2000, resync(transport.clone()));
    assert_eq!(bench.asked(), [], "the care-of address is still there");
    address(&mut bench, COA2, false, false);
    bench.kernel(3000, resync(mobile_node_policies(COA2)));
    assert_eq!(bench.asked(), [], "a tunnel still names it");
    bench.kernel(4000, resync(transport));
    assert_eq!(bench.asked().first(), Some(&Asked::Retarget(IkeId(1), km(HOA, HA))));
}

#[test]
fn a_deadline_that_passed_is_no_busy_loop() {
    let mut bench = Bench::mobile_node(COA1);
    let copy = |event: Migrate| Migrate { source: MigrateSource::PfKey, ..event };
    heard(&mut bench, 1000, burst(COA1, COA2).into_iter().map(copy).collect());
    for number in 0..2000u32 {
        let mut event = copy(burst(COA1, COA2).remove(0));
        event.kmaddress = Some(km(&format!("2001:db8:f4::{number:x}"), HA));
        bench.kernel(1000, KernelEvent::Migrate(event));
    }
    bench.kernel(1001, KernelEvent::Flushed { policies: false });
    bench.input(500_000, Input::Timeout);
    let next = bench.agent.deadline().map(|deadline| deadline.at);
    assert!(next.is_none_or(|at| at > at_boot(500_000)), "{next:?}");
}

fn at_boot(millis: u64) -> Duration {
    at(millis).boot
}
