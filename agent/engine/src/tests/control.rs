//! Commands and a new configuration.

use watari_policies::SecretId;
use watari_policies::model::Authentication;

use super::*;
use crate::vici::{Section, Value};
use crate::{Command, CommandId, Reply};
use watari_sa::Cause;

fn vici(bench: &mut Bench, millis: u64, name: &str, arguments: Section) -> Vec<Reply> {
    bench.outputs.clear();
    bench.input(millis, Input::Command(CommandId(9), Command::Vici { name: name.into(), arguments }));
    replies(bench)
}

fn replies(bench: &mut Bench) -> Vec<Reply> {
    let replies = bench.outputs.drain(..).filter_map(|output| match output {
        Output::Reply(CommandId(9), reply) => Some(reply),
        _ => None,
    });
    replies.collect()
}

fn success(replies: &[Reply]) -> Option<&str> {
    match replies.last() {
        Some(Reply::End(section)) => section.text("success"),
        _ => None,
    }
}

/// Answers every question about an SA: as many packets as its SPI says, 256 octets each.
fn count(bench: &mut Bench, millis: u64) {
    let spi = |request: &KernelRequest| match request {
        KernelRequest::QuerySa(id) => Some(*id),
        _ => None,
    };
    while let Some(id) = bench.requests.iter().find_map(|(_, request)| spi(request)) {
        let packets = u64::from(id.spi.0);
        let used = if packets < 0x100 { at(millis).wall.as_secs() - 3 } else { 0 };
        let info = SaInfo {
            packets,
            bytes: packets * 256,
            used,
            ..sa(id.spi.0, Endpoints { src: ip(HA), dst: id.dst }, Mode::Tunnel, 0, selector("::", "::"))
        };
        bench.answer(millis, |request| spi(request) == Some(id), KernelReply::Sa(Some(info)));
    }
}

#[test]
fn status_is_versioned_json_with_everything_in_it() {
    let mut bench = Bench::mobile_node(COA1);
    for event in burst(COA1, COA2) {
        bench.kernel(1000, KernelEvent::Migrate(event));
    }
    bench.outputs.clear();
    bench.requests.clear();
    bench.input(2000, Input::Command(CommandId(9), Command::Status));
    count(&mut bench, 2001);
    let Some(Reply::Json(text)) = replies(&mut bench).pop() else { panic!("no JSON") };
    let status: crate::status::Status = serde_json::from_str(&text).expect("our own form");
    assert_eq!((status.version, status.counters.migrate_events), (1, 4));
    let remote = &status.remotes[0];
    assert_eq!(remote.ike_sas[0].children.len(), 2);
    let child = &remote.ike_sas[0].children[1];
    assert_eq!((child.outbound.src.as_str(), child.outbound.packets, child.outbound.bytes), (COA2, Some(0x112), Some(0x11200)));
    let last = remote.last_move.as_ref().expect("a move");
    assert_eq!((last.from.as_ref().map(|pair| pair.local.as_str()), last.to.local.as_str()), (Some(COA1), COA2));
    assert!(remote.policies.iter().all(|policy| policy.present));
}

#[test]
fn lists_speak_as_strongswan_does() {
    let mut bench = Bench::mobile_node(COA1);
    assert_eq!(vici(&mut bench, 10, "list-sas", Section::new()), [], "the kernel is asked first");
    count(&mut bench, 11);
    let rows = replies(&mut bench);
    let [Reply::Row { event: "list-sa", section }, Reply::End(_)] = rows.as_slice() else { panic!("{rows:?}") };
    let Some(Value::Section(ike)) = section.get("home-agent") else { panic!("{section:?}") };
    assert_eq!((ike.text("state"), ike.text("local-host"), ike.text("initiator")), (Some("ESTABLISHED"), Some(COA1), Some("yes")));
    assert_eq!((ike.text("encr-alg"), ike.text("prf-alg"), ike.text("dh-group")), (Some("aes256gcm16"), Some("prfsha384"), Some("ecp384")));
    let Some(Value::Section(children)) = ike.get("child-sas") else { panic!("{ike:?}") };
    let Some(Value::Section(child)) = children.get("payload-12") else { panic!("{children:?}") };
    assert_eq!((child.text("spi-in"), child.text("mode"), child.text("state")), (Some("00000012"), Some("TUNNEL"), Some("INSTALLED")));
    assert_eq!((child.text("packets-in"), child.text("bytes-in")), (Some("18"), Some("4608")));
    assert_eq!((child.text("packets-out"), child.text("bytes-out")), (Some("274"), Some("70144")));
    assert_eq!((child.text("use-in"), child.text("use-out")), (Some("3"), None), "seconds since the last packet, if there was one");
    assert_eq!(vici(&mut bench, 10, "list-sas", Section::new().with("ike", "nobody")).len(), 1);
    assert_eq!(vici(&mut bench, 10, "list-conns", Section::new()).len(), 2);
    assert_eq!(vici(&mut bench, 10, "list-policies", Section::new()).len(), 3);
    assert_eq!(vici(&mut bench, 10, "load-pool", Section::new()), [Reply::Unknown]);
    for name in ["version", "stats", "get-counters"] {
        assert!(matches!(vici(&mut bench, 10, name, Section::new())[..], [Reply::End(_)]), "{name}");
    }
}

#[test]
fn a_list_does_not_wait_longer_than_it_may_and_many_sas_are_read_at_once() {
    let mut bench = Bench::mobile_node(COA1);
    assert_eq!(vici(&mut bench, 10, "list-sas", Section::new()), []);
    let (id, _) = bench.requests.remove(0);
    let error = watari_kernel::KernelError { errno: 1, text: String::new(), request: "look for an SA" };
    bench.input(11, Input::Done(id, Err(error)));
    assert_eq!(replies(&mut bench), [], "three answers to come");
    bench.input(510, Input::Timeout);
    let rows = replies(&mut bench);
    assert!(matches!(rows.as_slice(), [Reply::Row { .. }, Reply::End(_)]), "{rows:?}");
    count(&mut bench, 511);
    assert_eq!(replies(&mut bench), [], "answered once");
    for child in 100..140u32 {
        bench.child(child.into(), PAYLOAD, 0x1000 + child, Mode::Tunnel, ends(COA1, HA));
    }
    bench.requests.clear();
    assert_eq!(vici(&mut bench, 600, "watari-status", Section::new()), []);
    assert_eq!(bench.requests.iter().map(|(_, request)| request.clone()).collect::<Vec<_>>(), [KernelRequest::DumpSas]);
    let sas = vec![SaInfo { packets: 7, ..sa(0x12, ends(HA, COA1), Mode::Tunnel, 8, selector("::", HOA)) }];
    bench.answer(601, |_| true, KernelReply::Sas(sas));
    let replies = replies(&mut bench);
    let [Reply::Json(text)] = replies.as_slice() else { panic!("{replies:?}") };
    let status: crate::status::Status = serde_json::from_str(text).expect("our own form");
    let children = &status.remotes[0].ike_sas[0].children;
    assert_eq!((children[1].inbound.packets, children[1].outbound.packets), (Some(7), None), "what the kernel shows, and nothing else");
}

#[test]
fn initiate_answers_when_the_outcome_is_known() {
    let mut bench = Bench::mobile_node(COA1);
    bench.asked();
    bench.agent.core.children.update(ChildId(12), |child| child.state = ChildState::Installing);
    let arguments = || Section::new().with("child", "payload").with("timeout", 5000);
    assert_eq!(vici(&mut bench, 10, "initiate", arguments()), []);
    assert!(matches!(bench.asked()[..], [Asked::Want(Want { policy: PAYLOAD, .. })]));
    bench.event(20, KeyingEvent::ChildUp(ChildId(11)));
    assert_eq!(replies(&mut bench), [], "another policy's child");
    bench.event(20, KeyingEvent::ChildUp(ChildId(12)));
    assert_eq!(success(&replies(&mut bench)), Some("yes"));
    vici(&mut bench, 30, "initiate", arguments());
    bench.event(40, KeyingEvent::WantFailed { policy: PAYLOAD, cause: Cause::PEER_SILENT, detail: String::new() });
    assert_eq!(success(&replies(&mut bench)), Some("no"));
    vici(&mut bench, 50, "initiate", arguments());
    bench.input(5050, Input::Timeout);
    assert_eq!(success(&replies(&mut bench)), Some("no"), "its time is up");
    assert_eq!(success(&vici(&mut bench, 6000, "initiate", Section::new().with("child", "nothing"))), Some("no"));
}

#[test]
fn what_is_up_is_not_made_a_second_time() {
    let mut bench = Bench::mobile_node(COA1);
    bench.asked();
    let replies = vici(&mut bench, 10, "initiate", Section::new().with("child", "payload"));
    let [Reply::End(section)] = replies.as_slice() else { panic!("{replies:?}") };
    assert_eq!((section.text("success"), section.text("message")), (Some("yes"), Some("already up")));
    assert_eq!(bench.asked(), []);
    // Of a whole remote only what is missing is made, and the answer waits for all of it.
    bench.agent.core.children.remove(ChildId(12));
    assert_eq!(vici(&mut bench, 20, "initiate", Section::new().with("ike", "home-agent")).len(), 0);
    let wanted: Vec<_> = bench.asked();
    assert!(wanted.iter().all(|asked| matches!(asked, Asked::Want(want) if want.policy != BINDING)), "{wanted:?}");
    assert!(wanted.iter().any(|asked| matches!(asked, Asked::Want(want) if want.policy == PAYLOAD)), "{wanted:?}");
    // One that was found in the kernel and only serves until it is replaced is no reason not to make one.
    let mut bench = Bench::mobile_node(COA1);
    bench.agent.core.children.update(ChildId(12), |child| child.owner = Owner::None);
    bench.asked();
    assert_eq!(vici(&mut bench, 20, "initiate", Section::new().with("child", "payload")), []);
    assert!(matches!(bench.asked()[..], [Asked::Want(Want { policy: PAYLOAD, .. })]));
}

#[test]
fn initiate_queues_nothing_before_it_fails() {
    // Only one of two nodes of this name can be reached.
    let config = home_agent_config(2);
    let names: Vec<_> = config.policies.iter().map(|policy| policy.name.clone()).collect();
    let mut bench = Bench::started(config, Vec::new(), Vec::new());
    bench.agent.core.places.remember_remote(RemoteId(0), km(HA, COA1));
    let replies = vici(&mut bench, 10, "initiate", Section::new().with("child", &names[1]));
    assert_eq!(success(&replies), Some("no"), "{replies:?}");
    assert_eq!(bench.asked(), [], "nothing was begun");
    assert!(bench.agent.core.calls.is_empty() && bench.agent.core.commands.is_empty());
}

#[test]
fn terminate_waits_for_the_end() {
    let mut bench = Bench::mobile_node(COA1);
    bench.asked();
    assert_eq!(vici(&mut bench, 10, "terminate", Section::new().with("ike", "home-agent")), []);
    assert_eq!(bench.asked(), [Asked::Close(Target::Ike(IkeId(1)))]);
    bench.event(20, KeyingEvent::IkeDown { ike: IkeId(1), remote: None, cause: Cause::OPERATOR, detail: String::new() });
    assert_eq!(success(&replies(&mut bench)), Some("yes"));
    assert_eq!(success(&vici(&mut bench, 30, "terminate", Section::new().with("child-id", 4711))), Some("no"));
    // Twice is told from a name that nobody has: for VICI both fail, as with strongSwan, and `watari down` is content with the first.
    let mut bench = Bench::started(home_agent_config(1), Vec::new(), Vec::new());
    let why = |bench: &mut Bench, arguments| match vici(bench, 40, "terminate", arguments).as_slice() {
        [Reply::End(section)] => section.text("errmsg").map(str::to_owned),
        other => panic!("{other:?}"),
    };
    let name = bench.agent.core.config.remotes[0].name.clone();
    assert_eq!(why(&mut bench, Section::new().with("ike", name)).as_deref(), Some(crate::DOWN_ALREADY));
    assert!(why(&mut bench, Section::new().with("ike", "nobody")).is_some_and(|why| why.contains("of this name")));
}

#[test]
fn reload_leaves_what_did_not_change_alone() {
    let mut bench = Bench::started(home_agent_config(3), Vec::new(), Vec::new());
    for node in 0..3u32 {
        bench.ike(u64::from(node), node, HA, COA1);
        bench.child(20 + u64::from(node), PolicyId(node * 2 + 1), 0x20 + node, Mode::Tunnel, ends(HA, COA1));
    }
    bench.asked();
    let reload = |bench: &mut Bench, config: Config| {
        bench.outputs.clear();
        bench.input(100, Input::Command(CommandId(9), Command::Reload(Box::new(config))));
        assert_eq!(success(&replies(bench)), Some("yes"));
        bench.asked()
    };
    assert_eq!(reload(&mut bench, home_agent_config(3)), [], "nothing changed");
    let mut renumbered = home_agent_config(3);
    for (number, remote) in (7..).zip(&mut renumbered.remotes) {
        remote.authentication = Authentication::Psk(SecretId(number));
    }
    assert_eq!(reload(&mut bench, renumbered), [], "another peer's secret came before theirs in the file");
    let numbers: Vec<_> = bench.agent.core.config.remotes.iter().map(|remote| remote.authentication.clone()).collect();
    assert_eq!(numbers, [7, 8, 9].map(|number| Authentication::Psk(SecretId(number))), "the new numbers count");
    assert_eq!(reload(&mut bench, home_agent_config(3)), [], "and the old ones again");
    let mut changed = home_agent_config(3);
    changed.remotes.remove(1);
    changed.policies.retain(|policy| policy.remote != RemoteId(1));
    for policy in changed.policies.iter_mut().filter(|policy| policy.remote == RemoteId(2)) {
        policy.remote = RemoteId(1);
    }
    let asked = reload(&mut bench, changed.clone());
    assert_eq!(asked, [Asked::Close(Target::Child(ChildId(21))), Asked::Close(Target::Ike(IkeId(1)))]);
    let core = &bench.agent.core;
    assert_eq!(core.config.remote(RemoteId(2)).map(|remote| remote.name.as_str()), Some("mn2"), "ids keep their meaning");
    assert!(core.retired(RemoteId(1)));
    assert_eq!(
        core.children.get(ChildId(22)).and_then(|child| core.config.policy(child.policy)).map(|policy| policy.remote),
        Some(RemoteId(2))
    );
    assert_eq!(reload(&mut bench, changed), [], "the same again changes nothing");
    assert_eq!(reload(&mut bench, home_agent_config(3)), [], "the node that comes back gets new ids");
    assert_eq!(bench.agent.core.config.remotes.len(), 4);
    assert_eq!(vici(&mut bench, 200, "list-conns", Section::new()).len(), 4, "three nodes and the end");
}

#[test]
fn retired_records_make_room_once_nothing_names_them() {
    let mut bench = Bench::started(home_agent_config(2), Vec::new(), Vec::new());
    bench.ike(1, 1, HA, COA1);
    bench.child(21, PolicyId(3), 0x21, Mode::Tunnel, ends(HA, COA1));
    bench.agent.core.places.remember_remote(RemoteId(1), km(HA, COA1));
    let with_prefix = |number: u32| {
        let mut config = home_agent_config(2);
        config.remotes[1].allowed_from = vec![format!("2001:db8:{number:x}::/48").parse().expect("prefix")];
        config
    };
    let reload = |bench: &mut Bench, millis, number| {
        bench.outputs.clear();
        bench.input(millis, Input::Command(CommandId(9), Command::Reload(Box::new(with_prefix(number)))));
        assert_eq!(success(&replies(bench)), Some("yes"));
        (bench.agent.core.config.remotes.len(), bench.agent.core.config.policies.len())
    };
    assert_eq!(reload(&mut bench, 1000, 7), (3, 6), "the changed node comes after");
    assert_eq!(bench.agent.core.places.remembered(RemoteId(2)), Some(km(HA, COA1)), "it has not moved");
    assert_eq!(bench.agent.core.places.remembered(RemoteId(1)), None);
    assert_eq!(reload(&mut bench, 120_000, 8), (4, 6), "an IKE SA still names the retired remote, nothing its policies");
    bench.shared.lock().expect("one thread").ikes.clear();
    bench.agent.core.children.remove(ChildId(21));
    assert_eq!(reload(&mut bench, 130_000, 9), (4, 8), "now its place is free");
    assert_eq!(bench.agent.core.config.remote(RemoteId(1)).map(|remote| remote.name.as_str()), Some("mn1"));
    assert_eq!(bench.agent.core.places.remembered(RemoteId(1)), Some(km(HA, COA1)));
    assert_eq!(bench.agent.core.lookup.policies_of(RemoteId(1)).len(), 2);
    for round in 0..20 {
        assert_eq!(reload(&mut bench, 200_000 + round * 100_000, 10 + u32::try_from(round).expect("small")).0, 4, "round {round}");
    }
    assert!(bench.agent.core.config.ipsecs.len() <= 8, "{}", bench.agent.core.config.ipsecs.len());
}

#[test]
fn a_reload_of_parameters_alone_keeps_what_stands() {
    let mut bench = Bench::started(home_agent_config(2), Vec::new(), Vec::new());
    bench.ike(1, 1, HA, COA1);
    bench.child(21, PolicyId(3), 0x21, Mode::Tunnel, ends(HA, COA1));
    let mut changed = home_agent_config(2);
    changed.remotes[1].lifetime = watari_policies::Lifetime::of(Duration::from_secs(77));
    changed.remotes[1].proposals.truncate(1);
    changed.remotes[1].liveness = Some(Duration::from_secs(9));
    let ipsec = changed.policies[3].ipsec;
    changed.ipsecs[ipsec.0 as usize].lifetime = watari_policies::Lifetime::of(Duration::from_secs(33));
    bench.asked();
    bench.outputs.clear();
    bench.input(1000, Input::Command(CommandId(9), Command::Reload(Box::new(changed.clone()))));
    assert_eq!(success(&replies(&mut bench)), Some("yes"));
    assert_eq!(bench.asked(), [], "nothing is closed and nothing begun");
    let core = &bench.agent.core;
    assert_eq!((core.config.remotes.len(), core.config.policies.len()), (2, 4), "ids keep their meaning");
    assert_eq!(core.config.remotes[1], changed.remotes[1], "and the next negotiation finds the new parameters");
    let policy = core.config.policy(PolicyId(3)).expect("policy");
    assert_eq!(core.config.ipsec(policy.ipsec).expect("ipsec").lifetime.hard, Duration::from_secs(33));
    assert!(core.children.get(ChildId(21)).is_some());
}

#[test]
fn a_liveness_of_no_time_at_all_is_off() {
    let mut config = mobile_node(MobileNodeProfile::default());
    config.remotes[0].liveness = Some(Duration::ZERO);
    let mut bench = Bench::started(config.clone(), mobile_node_policies(COA1), Vec::new());
    let identity = watari_policies::Identity::Fqdn("ha.example".into());
    let up = KeyingEvent::IkeUp { ike: IkeId(1), remote: RemoteId(0), path: Path::between(ip(COA1), ip(HA), 500), identity };
    bench.event(10, up.clone());
    assert_eq!(bench.agent.deadline(), None, "no timer that is due at once and for ever");
    bench.input(20, Input::Command(CommandId(9), Command::Reload(Box::new(config))));
    assert_eq!(bench.agent.core.config.remotes.len(), 1, "and a new configuration says the same");
    assert_eq!(bench.agent.core.config.remotes[0].liveness, None);
}
