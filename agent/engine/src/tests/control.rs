//! Commands and a new configuration.

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

#[test]
fn status_is_versioned_json_with_everything_in_it() {
    let mut bench = Bench::mobile_node(COA1);
    for event in burst(COA1, COA2) {
        bench.kernel(1000, KernelEvent::Migrate(event));
    }
    bench.outputs.clear();
    bench.input(2000, Input::Command(CommandId(9), Command::Status));
    let Some(Reply::Json(text)) = replies(&mut bench).pop() else { panic!("no JSON") };
    let status: crate::status::Status = serde_json::from_str(&text).expect("our own form");
    assert_eq!((status.version, status.counters.migrate_events), (1, 4));
    let remote = &status.remotes[0];
    assert_eq!(remote.ike_sas[0].children.len(), 2);
    assert_eq!(remote.ike_sas[0].children[1].outbound.src, ip(COA2).to_string());
    let last = remote.last_move.as_ref().expect("a move");
    assert_eq!((last.from.as_ref().map(|pair| pair.local.as_str()), last.to.local.as_str()), (Some(COA1), COA2));
    assert!(remote.policies.iter().all(|policy| policy.present));
}

#[test]
fn lists_speak_as_strongswan_does() {
    let mut bench = Bench::mobile_node(COA1);
    let rows = vici(&mut bench, 10, "list-sas", Section::new());
    let [Reply::Row { event: "list-sa", section }, Reply::End(_)] = rows.as_slice() else { panic!("{rows:?}") };
    let Some(Value::Section(ike)) = section.get("home-agent") else { panic!("{section:?}") };
    assert_eq!((ike.text("state"), ike.text("local-host"), ike.text("initiator")), (Some("ESTABLISHED"), Some(COA1), Some("yes")));
    assert_eq!((ike.text("encr-alg"), ike.text("prf-alg"), ike.text("dh-group")), (Some("aes256gcm16"), Some("prfsha384"), Some("ecp384")));
    let Some(Value::Section(children)) = ike.get("child-sas") else { panic!("{ike:?}") };
    let Some(Value::Section(child)) = children.get("payload-12") else { panic!("{children:?}") };
    assert_eq!((child.text("spi-in"), child.text("mode"), child.text("state")), (Some("00000012"), Some("TUNNEL"), Some("INSTALLED")));
    assert_eq!(vici(&mut bench, 10, "list-sas", Section::new().with("ike", "nobody")).len(), 1);
    assert_eq!(vici(&mut bench, 10, "list-conns", Section::new()).len(), 2);
    assert_eq!(vici(&mut bench, 10, "list-policies", Section::new()).len(), 3);
    assert_eq!(vici(&mut bench, 10, "load-pool", Section::new()), [Reply::Unknown]);
    for name in ["version", "stats", "get-counters"] {
        assert!(matches!(vici(&mut bench, 10, name, Section::new())[..], [Reply::End(_)]), "{name}");
    }
}

#[test]
fn initiate_answers_when_the_outcome_is_known() {
    let mut bench = Bench::mobile_node(COA1);
    bench.asked();
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
fn terminate_waits_for_the_end() {
    let mut bench = Bench::mobile_node(COA1);
    bench.asked();
    assert_eq!(vici(&mut bench, 10, "terminate", Section::new().with("ike", "home-agent")), []);
    assert_eq!(bench.asked(), [Asked::Close(Target::Ike(IkeId(1)))]);
    bench.event(20, KeyingEvent::IkeDown { ike: IkeId(1), remote: None, cause: Cause::OPERATOR, detail: String::new() });
    assert_eq!(success(&replies(&mut bench)), Some("yes"));
    assert_eq!(success(&vici(&mut bench, 30, "terminate", Section::new().with("child-id", 4711))), Some("no"));
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
