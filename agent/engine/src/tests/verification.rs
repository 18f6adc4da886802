//! Movements that nothing protected stands behind.

use super::key_mobility::{BU_SOCKET, OBSERVE, home_agent_policies, home_agent_with, home_burst};
use super::*;
use crate::MobilityInput;
use watari_policies::{KeyMobility, MovementSource, Movements};
use watari_sa::{Cause, Whereabouts as _};

const CN: &str = "2001:db8:b::c";

fn proved(remote: &str) -> KeyingEvent {
    KeyingEvent::PathProved { ike: IkeId(1), path: Path::between(ip(HA), ip(remote), 500) }
}

fn refuted(remote: &str) -> KeyingEvent {
    KeyingEvent::PathRefuted { ike: IkeId(1), path: Path::between(ip(HA), ip(remote), 500) }
}

fn ike_address(bench: &Bench) -> Option<KmAddress> {
    bench.agent.core.places.ike_addresses(RemoteId(0))
}

#[test]
fn a_forged_movement_leaves_ike_where_it_was_and_the_peer_is_asked_once() {
    let mut bench = home_agent_with(OBSERVE);
    bench.burst(1000, home_burst(COA1, CN));
    assert_eq!(bench.asked(), [Asked::Prove(IkeId(1), km(HA, CN))], "no retarget, one question for four messages");
    assert_eq!(ike_address(&bench), Some(km(HA, COA1)));
    assert_eq!(bench.child_at(11), (ends(HOA, HA), ends(HA, HOA)));
    assert_eq!(bench.child_at(12), (ends(CN, HA), ends(HA, CN)), "the kernel moved its tunnel: the records say where it is");
    let told = bench.told();
    assert!(!told.iter().any(|event| matches!(event, Event::Moved { .. } | Event::Remembered { .. })), "{told:?}");
    let doubts: Vec<_> = told.iter().filter(|event| matches!(event, Event::Notice { cause: Cause::MOVEMENT_DOUBTED, .. })).collect();
    assert_eq!(doubts.len(), 1);
    assert!(Cause::MOVEMENT_DOUBTED.help.contains("any-type"));
    bench.event(1100, refuted(COA1));
    assert_eq!(bench.notices(), [Cause::MOVEMENT_REFUTED]);
    assert_eq!(ike_address(&bench), Some(km(HA, COA1)));
    // The next forgery is doubted afresh.
    bench.burst(2000, home_burst(CN, CN));
    assert_eq!(bench.asked(), [Asked::Prove(IkeId(1), km(HA, CN))]);
}

#[test]
fn reading_the_kernel_again_is_no_proof_of_what_was_refuted() {
    let mut bench = home_agent_with(OBSERVE);
    bench.burst(1000, home_burst(COA1, CN));
    bench.event(1100, refuted(COA1));
    bench.asked();
    bench.told();
    // Lost events have everything read again: the templates say what the forgery made of them.
    bench.kernel(5000, KernelEvent::Resynchronised { policies: home_agent_policies(CN), sas: Vec::new() });
    assert_eq!(ike_address(&bench), Some(km(HA, COA1)));
    let asked = bench.asked();
    assert!(!asked.iter().any(|asked| matches!(asked, Asked::Retarget(..))), "{asked:?}");
    assert!(asked.contains(&Asked::Prove(IkeId(1), km(HA, CN))), "the peer is asked again: {asked:?}");
    // What a protected binding update stands behind is believed as before.
    let mut bench = home_agent_with(OBSERVE);
    bench.update(4000, 2, COA2, true);
    bench.asked();
    bench.kernel(5000, KernelEvent::Resynchronised { policies: home_agent_policies(COA2), sas: Vec::new() });
    assert_eq!(ike_address(&bench), Some(km(HA, COA2)));
}

#[test]
fn the_peers_answer_from_there_proves_the_movement() {
    let mut bench = home_agent_with(OBSERVE);
    bench.burst(1000, home_burst(COA1, COA2));
    bench.asked();
    bench.act(1050, watari_sa::Action::Event(proved(CN)));
    assert_eq!(ike_address(&bench), Some(km(HA, COA1)), "an answer from a third place proves nothing");
    bench.shared.lock().expect("one thread").actions.push_back(watari_sa::Action::Event(proved(COA2)));
    bench.input(1100, Input::WorkDone(watari_sa::WorkId(0), watari_sa::WorkDone::Mac(Vec::new())));
    assert!(bench.asked().contains(&Asked::Retarget(IkeId(1), km(HA, COA2))));
    assert_eq!(ike_address(&bench), Some(km(HA, COA2)));
    assert!(bench.told().iter().any(|event| matches!(event, Event::Relocated { .. })));
    bench.burst(1200, home_burst(COA1, COA2));
    assert_eq!(bench.asked(), [], "a repeat");
}

#[test]
fn a_protected_binding_update_that_comes_late_is_proof_as_well() {
    let mut bench = home_agent_with(OBSERVE);
    bench.burst(1000, home_burst(COA1, COA2));
    bench.asked();
    bench.update(1003, 2, CN, true);
    assert_eq!(bench.asked(), []);
    bench.update(1004, 3, COA2, true);
    assert_eq!(bench.asked(), [Asked::Retarget(IkeId(1), km(HA, COA2))]);
    // And with K clear it proves the movement and gives the IKE SA up.
    let mut bench = home_agent_with(OBSERVE);
    bench.burst(1000, home_burst(COA1, COA2));
    bench.asked();
    bench.update(1004, 2, COA2, false);
    assert_eq!(bench.asked(), [Asked::Forget(IkeId(1))]);
    assert_eq!(ike_address(&bench), Some(km(HA, COA2)));
}

#[test]
fn a_movement_that_is_believed_ends_the_doubt_about_another() {
    let mut bench = home_agent_with(OBSERVE);
    bench.burst(1000, home_burst(COA1, CN));
    bench.update(1100, 2, COA2, true);
    bench.burst(1105, home_burst(CN, COA2));
    assert_eq!(bench.asked(), [Asked::Prove(IkeId(1), km(HA, CN)), Asked::Retarget(IkeId(1), km(HA, COA2))]);
    bench.event(1200, proved(CN));
    assert_eq!(ike_address(&bench), Some(km(HA, COA2)));
}

#[test]
fn an_old_binding_update_stands_behind_nothing() {
    let mut bench = home_agent_with(OBSERVE);
    bench.update(1000, 2, COA2, true);
    bench.burst(1005, home_burst(COA1, COA2));
    bench.asked();
    // Long after: somebody sends the mobile node back to where it was.
    bench.burst(60_000, home_burst(COA2, COA1));
    assert_eq!(bench.asked(), [Asked::Prove(IkeId(1), km(HA, COA1))]);
    assert_eq!(ike_address(&bench), Some(km(HA, COA2)));
}

#[test]
fn without_an_ike_sa_nothing_is_asked_and_one_made_from_there_is_proof() {
    let mut bench = home_agent_with(OBSERVE);
    bench.shared.lock().expect("one thread").ikes.clear();
    bench.burst(1000, home_burst(COA1, COA2));
    assert_eq!(bench.asked(), []);
    assert_eq!(ike_address(&bench), Some(km(HA, COA1)));
    bench.ike(2, 0, HA, COA2);
    let identity = "mn.example".parse().expect("identity");
    let path = Path::between(ip(HA), ip(COA2), 500);
    bench.event(1500, KeyingEvent::IkeUp { ike: IkeId(2), remote: RemoteId(0), path, identity });
    assert_eq!(ike_address(&bench), Some(km(HA, COA2)));
}

#[test]
fn a_question_ends_with_its_ike_sa_and_is_asked_again() {
    let mut bench = home_agent_with(OBSERVE);
    bench.burst(1000, home_burst(COA1, CN));
    assert_eq!(bench.asked(), [Asked::Prove(IkeId(1), km(HA, CN))]);
    bench.shared.lock().expect("one thread").ikes.clear();
    bench.ike(2, 0, HA, COA1);
    bench.burst(2000, home_burst(CN, CN));
    assert_eq!(bench.asked(), [Asked::Prove(IkeId(2), km(HA, CN))]);
    // One that is rekeyed ends it too: nobody has to tell of the movement once more.
    for again in [Some(Asked::Prove(IkeId(3), km(HA, CN))), None] {
        let rekeyed = KeyingEvent::IkeRekeyed { old: IkeId(2), new: IkeId(3) };
        bench.shared.lock().expect("one thread").actions.push_back(watari_sa::Action::Event(rekeyed));
        bench.input(2500, Input::WorkDone(watari_sa::WorkId(0), watari_sa::WorkDone::Mac(Vec::new())));
        let asked = bench.asked().into_iter().find(|asked| matches!(asked, Asked::Prove(..)));
        assert_eq!(asked, again, "once, over the successor");
    }
    bench.shared.lock().expect("one thread").ikes.clear();
    bench.ike(3, 0, HA, COA1);
    // One that is closing answers no question any more.
    bench.shared.lock().expect("one thread").ikes[0].state = IkeState::Closing;
    bench.told();
    bench.burst(3000, home_burst(CN, CN));
    assert_eq!(bench.asked(), []);
    let told = bench.told();
    let said = told.iter().filter(|event| matches!(event, Event::Notice { detail, .. } if detail.contains("no IKE SA to ask")));
    assert_eq!(said.count(), 1, "{told:?}");
}

#[test]
fn where_nobody_listens_migrate_is_believed() {
    let mut bench = home_agent_with(Movements::default());
    bench.burst(1000, home_burst(COA1, CN));
    assert_eq!(bench.asked(), [Asked::Retarget(IkeId(1), km(HA, CN))]);
    // The socket could not be opened, or was closed.
    let mut bench = home_agent_with(OBSERVE);
    bench.input(900, Input::Mobility(MobilityInput::Listening { socket: BU_SOCKET, open: false }));
    bench.burst(1000, home_burst(COA1, CN));
    assert_eq!(bench.asked(), [Asked::Retarget(IkeId(1), km(HA, CN))]);
}

#[test]
fn a_binding_update_moves_by_itself_only_where_the_operator_the_kernel_and_the_pad_allow_it() {
    let alone = Movements { key_mobility: KeyMobility::Assume, source: MovementSource::Observe, ..Movements::default() };
    let mut bench = home_agent_with(alone);
    bench.update(1000, 2, COA2, true);
    assert_eq!(bench.asked(), [Asked::Retarget(IkeId(1), km(HA, COA2))]);
    assert_eq!(bench.child_at(12), (ends(COA1, HA), ends(HA, COA1)), "the kernel's tunnels wait for MIGRATE");
    bench.burst(1005, home_burst(COA1, COA2));
    assert_eq!(bench.asked(), []);
    assert_eq!(bench.child_at(12), (ends(COA2, HA), ends(HA, COA2)));
    let mut bench = home_agent_with(OBSERVE);
    bench.update(1000, 2, COA2, true);
    assert_eq!(bench.asked(), [], "not the operator's wish");
    // The kernel lets binding updates pass without ESP.
    let mut bench = home_agent_with(alone);
    let optional = Template { optional: true, ..Template::esp(Mode::Transport, Reqid(1), ends("::", "::")) };
    bench.kernel(900, KernelEvent::PolicyChanged(entry(binding_selector(HOA, HA), Direction::In, 2, optional)));
    bench.update(1000, 2, COA2, true);
    assert_eq!(bench.asked(), []);
    // The identity may not hold this home address.
    let mut bench = home_agent_with(alone);
    bench.agent.core.config.pad = watari_policies::Pad::default();
    bench.update(1000, 2, COA2, true);
    assert_eq!(bench.asked(), []);
}

#[test]
fn a_doubt_is_shown_while_it_lasts_and_so_is_its_verdict() {
    let mut bench = home_agent_with(OBSERVE);
    bench.burst(1000, home_burst(COA1, CN));
    let shown = |bench: &Bench| bench.agent.status(at(1100)).remotes[0].clone();
    let doubt = shown(&bench).doubt.expect("a doubt");
    assert_eq!((doubt.to.remote.as_str(), doubt.from.expect("an old place").remote.as_str()), (CN, COA1));
    assert_eq!((doubt.since_s, doubt.verdict), (at(1000).wall.as_secs(), None));
    let row = format!("{:?}", bench.agent.list_sas(at(1100), None, &Default::default()));
    assert!(row.contains("doubted-host") && !row.contains("last-verdict"), "{row}");
    bench.event(1200, refuted(COA1));
    assert_eq!(shown(&bench).doubt, None);
    assert_eq!(shown(&bench).last_verdict.and_then(|last| last.verdict).as_deref(), Some("refuted"));
    bench.burst(2000, home_burst(CN, CN));
    bench.event(2100, KeyingEvent::PathUndecided { ike: IkeId(1) });
    assert_eq!(bench.notices().last(), Some(&Cause::MOVEMENT_UNDECIDED));
    assert_eq!(shown(&bench).last_verdict.and_then(|last| last.verdict).as_deref(), Some("undecided"));
    assert_eq!(ike_address(&bench), Some(km(HA, COA1)));
    bench.burst(3000, home_burst(CN, CN));
    bench.update(3001, 2, COA2, true);
    bench.burst(3005, home_burst(CN, COA2));
    assert_eq!(shown(&bench).last_verdict.and_then(|last| last.verdict).as_deref(), Some("overtaken"));
    let row = format!("{:?}", bench.agent.list_sas(at(3100), None, &Default::default()));
    assert!(row.contains("last-verdict"), "{row}");
}

#[test]
fn a_nat_in_front_of_somebody_is_shown_under_strongswans_names() {
    let bench = home_agent_with(OBSERVE);
    bench.shared.lock().expect("one thread").ikes[0].nat.peer = true;
    let ike = bench.agent.status(at(1100)).remotes[0].ike_sas[0].clone();
    assert_eq!((ike.nat_local, ike.nat_remote), (false, true));
    let row = format!("{:?}", bench.agent.list_sas(at(1100), None, &Default::default()));
    assert!(row.contains("nat-remote") && row.contains("nat-any") && !row.contains("nat-local"), "{row}");
}

#[test]
fn a_handshake_whose_source_address_was_changed_on_the_way_is_no_proof() {
    let mut bench = home_agent_with(OBSERVE);
    bench.shared.lock().expect("one thread").ikes.clear();
    bench.burst(1000, home_burst(COA1, CN));
    bench.ike(2, 0, HA, CN);
    bench.shared.lock().expect("one thread").ikes[0].nat.peer = true;
    let path = Path::between(ip(HA), ip(CN), 500);
    bench.event(1500, KeyingEvent::IkeUp { ike: IkeId(2), remote: RemoteId(0), path, identity: "mn.example".parse().expect("identity") });
    assert_eq!(ike_address(&bench), Some(km(HA, COA1)));
}

/// A home agent with typed policies for binding messages and settings that ask for nothing, its only mobile node bound at COA1.
fn typed(movements: Movements) -> Bench {
    let mut profile = HomeAgentProfile { mobile_nodes: vec![ServedNode::default()], ..HomeAgentProfile::default() };
    profile.terms.movements = movements;
    profile.terms.binding_selector = watari_policies::profile::BindingSelector::Typed;
    let config = home_agent(profile);
    let mut policies = home_agent_policies(COA1);
    policies.retain(|entry| entry.selector.protocol != MOBILITY_HEADER);
    let transport = |reqid| Template::esp(Mode::Transport, Reqid(reqid), ends("::", "::"));
    let binding = config.policies.iter().find(|policy| policy.mode == Mode::Transport).expect("binding").traffic.clone();
    for (direction, reqid, index) in [(Direction::Out, 2, 1), (Direction::In, 1, 2)] {
        for selector in binding.kernel_selectors(direction, true).policies {
            policies.push(entry(selector, direction, index, transport(reqid)));
        }
    }
    let mut bench = Bench::started(config, policies, Vec::new());
    bench.ike(1, 0, HA, COA1);
    bench.child(12, PAYLOAD, 0x12, Mode::Tunnel, ends(HA, COA1));
    bench
}

#[test]
fn behind_typed_policies_movements_are_verified_without_being_asked() {
    let mut bench = typed(Movements::default());
    assert!(bench.outputs.iter().any(|output| matches!(output, Output::Listen(sockets) if *sockets == [BU_SOCKET])), "{:?}", bench.outputs);
    bench.listen();
    bench.update(100, 1, COA1, true);
    bench.burst(101, home_burst(HOA, COA1));
    bench.asked();
    bench.told();
    bench.burst(1000, home_burst(COA1, CN));
    assert_eq!(bench.asked(), [Asked::Prove(IkeId(1), km(HA, CN))]);
    assert_eq!(ike_address(&bench), Some(km(HA, COA1)));
    bench.event(1100, refuted(COA1));
    // K is not looked at: it is as if it were 1.
    bench.update(2000, 2, COA2, false);
    bench.burst(2005, home_burst(CN, COA2));
    assert_eq!(bench.asked(), [Asked::Retarget(IkeId(1), km(HA, COA2))]);
    // Where the socket cannot be opened, MIGRATE is believed.
    let mut bench = typed(Movements::default());
    bench.input(900, Input::Mobility(MobilityInput::Listening { socket: BU_SOCKET, open: false }));
    bench.burst(1000, home_burst(COA1, CN));
    assert_eq!(bench.asked(), [Asked::Retarget(IkeId(1), km(HA, CN))]);
    // A policy for the whole Mobility Header leaves no hole, and nothing to listen to.
    let bench = home_agent_with(Movements::default());
    assert!(!bench.outputs.iter().any(|output| matches!(output, Output::Listen(_))));
}
