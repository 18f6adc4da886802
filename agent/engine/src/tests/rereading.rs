//! Events that were lost: what the kernel's tables say makes good what nobody told.

use super::movement::{first_look, heard, is_query};
use super::*;
use watari_sa::Whereabouts as _;

#[test]
fn lost_events_are_made_good_from_templates() {
    let mut bench = Bench::mobile_node(COA1);
    bench.asked();
    let sas = vec![
        sa(0x11, ends(HA, HOA), Mode::Transport, 2, binding_selector(HA, HOA)),
        sa(0x111, ends(HOA, HA), Mode::Transport, 1, binding_selector(HOA, HA)),
        sa(0x12, ends(HA, COA2), Mode::Tunnel, 8, selector("::", HOA)),
        sa(0x112, ends(COA2, HA), Mode::Tunnel, 7, selector(HOA, "::")),
    ];
    bench.kernel(5000, KernelEvent::Resynchronised { policies: mobile_node_policies(COA2), sas: sas.clone() });
    assert_eq!(bench.asked(), [Asked::Retarget(IkeId(1), km(COA2, HA))]);
    assert_eq!(bench.child_at(12), (ends(HA, COA2), ends(COA2, HA)));
    let told = bench.told();
    let Some(Event::Reconciled { differences, .. }) = told.last() else { panic!("{told:?}") };
    assert_eq!(differences.len(), 3, "{differences:?}");
    bench.kernel(6000, KernelEvent::Resynchronised { policies: mobile_node_policies(COA2), sas });
    assert_eq!(bench.told(), [Event::Reconciled { lost: true, differences: vec![] }], "the second time all is well");
}

#[test]
fn lost_events_are_made_good_from_mobile_ipv6_states() {
    let mut bench = Bench::mobile_node(COA1);
    let transport: Vec<_> = mobile_node_policies(COA1).into_iter().take(2).collect();
    let state = SaInfo {
        protocol: 60,
        spi: Spi(0),
        mode: None,
        care_of: Some(ip(COA2)),
        ..sa(0, ends(HOA, HA), Mode::Transport, 0, selector(HOA, HA))
    };
    bench.asked();
    bench.kernel(5000, KernelEvent::Resynchronised { policies: transport, sas: vec![state] });
    assert_eq!(bench.asked().first(), Some(&Asked::Retarget(IkeId(1), km(COA2, HA))));
    assert_eq!(bench.agent.core.children.get(ChildId(12)).map(|child| child.state), Some(ChildState::Dormant), "its policy is gone");
}

#[test]
fn an_sa_missing_after_lost_events_is_made_again_or_asked_for() {
    let mut bench = Bench::mobile_node(COA1);
    bench.asked();
    bench.kernel(100_000, KernelEvent::Resynchronised { policies: mobile_node_policies(COA1), sas: Vec::new() });
    assert_eq!(bench.asked(), [], "a list may be older than an SA: nothing is concluded from it alone");
    bench.input(100_100, Input::Timeout);
    first_look(&mut bench, 100_101, vec![(0x12, KernelReply::Sa(None)), (0x11, KernelReply::Sa(None))]);
    bench.answer(100_130, is_query(0x12), KernelReply::Sa(None));
    assert!(
        bench
            .requests
            .iter()
            .any(|(_, request)| matches!(request, KernelRequest::AddSa { parameters, .. } if parameters.id.spi == Spi(0x12)))
    );
    bench.agent.core.kept.clear();
    bench.answer(100_101, is_query(0x11), KernelReply::Sa(None));
    let asked = bench.asked();
    assert!(asked.contains(&Asked::Close(Target::Child(ChildId(11)))), "{asked:?}");
    assert!(asked.iter().any(|asked| matches!(asked, Asked::Want(want) if want.policy == BINDING)), "{asked:?}");
}

/// Six messages, as mip6d sends them for binding, prefix discovery and payload.
fn burst_of_six(old: &str, new: &str) -> Vec<Migrate> {
    let mut events = burst(old, new);
    let none = ends("::", "::");
    let prefix = |src, dst| selector(src, dst).protocol(watari_policies::selector::ICMPV6);
    events.insert(2, migrate(prefix(HOA, HA), Direction::Out, (Mode::Transport, 3), (none, ends(new, HA)), km(new, HA)));
    events.insert(3, migrate(prefix(HA, HOA), Direction::In, (Mode::Transport, 4), (none, ends(HA, new)), km(new, HA)));
    events
}

pub(super) fn sas_at(coa: &str) -> Vec<SaInfo> {
    vec![
        sa(0x11, ends(HA, HOA), Mode::Transport, 2, binding_selector(HA, HOA)),
        sa(0x111, ends(HOA, HA), Mode::Transport, 1, binding_selector(HOA, HA)),
        sa(0x12, ends(HA, coa), Mode::Tunnel, 8, selector("::", HOA)),
        sa(0x112, ends(coa, HA), Mode::Tunnel, 7, selector(HOA, "::")),
    ]
}

/// Events are lost after the second of six messages. The tables were read before the kernel had carried out the rest, in the middle of it
/// (out moved, in not), or after it; the rest of the messages comes behind the tables, or is lost for good.
#[test]
fn events_lost_in_the_middle_of_a_burst_leave_the_right_state() {
    let halfway = || [mobile_node_policies(COA2)[..3].to_vec(), mobile_node_policies(COA1)[3..].to_vec()].concat();
    for (policies, sas) in
        [(mobile_node_policies(COA1), sas_at(COA1)), (halfway(), sas_at(COA1)), (mobile_node_policies(COA2), sas_at(COA2))]
    {
        for rest_comes in [true, false] {
            let mut bench = Bench::mobile_node(COA1);
            bench.asked();
            let mut events = burst_of_six(COA1, COA2);
            let rest = events.split_off(2);
            heard(&mut bench, 1000, events);
            bench.kernel(1001, KernelEvent::Resynchronised { policies: policies.clone(), sas: sas.clone() });
            assert_eq!(bench.asked(), [Asked::Retarget(IkeId(1), km(COA2, HA))], "a table that shows half a move turns nothing back");
            if rest_comes {
                heard(&mut bench, 1002, rest);
            }
            // What was not believed is read again, until it is.
            for millis in (1101..1500).step_by(100) {
                bench.input(millis, Input::Timeout);
                let queries = bench.requests.iter().map(|(_, request)| request.clone());
                for request in queries.collect::<Vec<_>>() {
                    let reply = match &request {
                        KernelRequest::DumpPolicies => KernelReply::Policies(mobile_node_policies(COA2)),
                        KernelRequest::DumpSas => KernelReply::Sas(sas_at(COA2)),
                        KernelRequest::QuerySa(id) => KernelReply::Sa(sas_at(COA2).into_iter().find(|info| info.id() == Some(*id))),
                        other => panic!("{other:?}"),
                    };
                    bench.answer(millis, |other| *other == request, reply);
                }
            }
            assert_eq!(bench.child_at(12), (ends(HA, COA2), ends(COA2, HA)));
            assert_eq!(bench.child_at(11), (ends(HA, HOA), ends(HOA, HA)));
            assert_eq!(bench.agent.core.places.template(PAYLOAD), Some(ends(COA2, HA)));
            assert_eq!(bench.agent.core.places.ike_addresses(RemoteId(0)), Some(km(COA2, HA)));
            assert_eq!(bench.asked(), [], "IKE moved once and stayed");
            assert_eq!(bench.agent.core.counters.recreated, 0);
            assert!(bench.agent.core.unsettled.is_empty() && bench.agent.core.doubted.is_empty());
        }
    }
}

/// A home agent that never rests: what one node missed is found although others move all the time.
#[test]
fn a_busy_home_agent_comes_to_an_end_with_reading_again() {
    let mut bench = Bench::started(home_agent_config(3), Vec::new(), Vec::new());
    let event = |node: u16, old: &str, new: &str| {
        let net = Selector::between("::/0".parse().expect("net"), home_address(node).into());
        KernelEvent::Migrate(migrate(net, Direction::Out, (Mode::Tunnel, 8), (ends(HA, old), ends(HA, new)), km(HA, new)))
    };
    bench.kernel(1000, event(0, COA1, COA2));
    bench.kernel(1001, KernelEvent::Resynchronised { policies: Vec::new(), sas: Vec::new() });
    let mut dumps = 0;
    for round in 0..20u64 {
        let (old, new) = if round % 2 == 0 { (COA1, COA2) } else { (COA2, COA1) };
        bench.kernel(1050 + round * 50, event(1, old, new));
        bench.input(1051 + round * 50, Input::Timeout);
        while let Some((_, request)) = bench.requests.first().cloned() {
            dumps += usize::from(request == KernelRequest::DumpSas);
            let reply = match request {
                KernelRequest::DumpPolicies => KernelReply::Policies(Vec::new()),
                _ => KernelReply::Sas(Vec::new()),
            };
            bench.answer(1052 + round * 50, |_| true, reply);
        }
    }
    assert_eq!(dumps, 1, "one more look at the node that was left out");
}

fn away_home_agent() -> Bench {
    let mut bench = Bench::started(home_agent_config(1), home_agent_policies(COA1), Vec::new());
    bench.ike(1, 0, HA, COA1);
    bench.asked();
    assert_eq!(bench.agent.core.places.remembered(RemoteId(0)), Some(km(HA, COA1)));
    bench
}

pub(super) fn home_agent_policies(coa: &str) -> Vec<PolicyEntry> {
    let (any, home) = ("::/0".parse().expect("net"), home_address(0));
    let entry = |selector, direction, reqid, endpoints| entry(selector, direction, 9, Template::esp(Mode::Tunnel, Reqid(reqid), endpoints));
    vec![
        entry(Selector::between(any, home.into()), Direction::Out, 8, ends(HA, coa)),
        entry(Selector::between(home.into(), any), Direction::In, 7, ends(coa, HA)),
    ]
}

#[test]
fn a_missed_deregistration_leaves_no_stale_care_of_address() {
    let mut bench = away_home_agent();
    bench.kernel(5000, KernelEvent::Resynchronised { policies: Vec::new(), sas: Vec::new() });
    assert_eq!(bench.agent.core.places.ike_addresses(RemoteId(0)), None, "nobody knows where the node is");
    assert_eq!(bench.agent.core.places.template(PolicyId(1)), None);
    assert_eq!(bench.asked(), [], "its IKE SA stays where it was heard last");
    let told = bench.told();
    assert!(
        matches!(told.last(), Some(Event::Reconciled { differences, .. }) if differences.iter().any(|text| text.contains("forgotten"))),
        "{told:?}"
    );
    // It registers from where it was before: news again.
    bench.told();
    let net = Selector::between("::/0".parse().expect("net"), home_address(0).into());
    bench.kernel(
        6000,
        KernelEvent::Migrate(migrate(net, Direction::Out, (Mode::Tunnel, 8), (ends(HA, COA2), ends(HA, COA1)), km(HA, COA1))),
    );
    assert_eq!(bench.agent.core.places.ike_addresses(RemoteId(0)), Some(km(HA, COA1)));
}

#[test]
fn a_care_of_address_is_not_forgotten_while_a_binding_or_a_tunnel_shows_it_or_none_ever_did() {
    let mut bench = away_home_agent();
    let state = SaInfo { protocol: 43, spi: Spi(0), mode: None, care_of: Some(ip(COA1)), ..sas_at(COA1)[0].clone() };
    let state = SaInfo { src: ip(HA), dst: home_address(0), ..state };
    bench.kernel(5000, KernelEvent::Resynchronised { policies: Vec::new(), sas: vec![state] });
    assert_eq!(bench.agent.core.places.ike_addresses(RemoteId(0)), Some(km(HA, COA1)));
    bench.kernel(6000, KernelEvent::Resynchronised { policies: home_agent_policies(COA1), sas: Vec::new() });
    assert_eq!(bench.agent.core.places.ike_addresses(RemoteId(0)), Some(km(HA, COA1)));
    // Transport policies alone: there is no tunnel whose absence would say something.
    let mut bench = Bench::started(home_agent_config(1), Vec::new(), Vec::new());
    let mh = Selector::between(home_address(0).into(), ip(HA).into()).protocol(MOBILITY_HEADER);
    let step = (ends("::", "::"), ends(COA1, HA));
    bench.kernel(10, KernelEvent::Migrate(migrate(mh, Direction::In, (Mode::Transport, 1), step, km(HA, COA1))));
    bench.kernel(5000, KernelEvent::Resynchronised { policies: Vec::new(), sas: Vec::new() });
    assert_eq!(bench.agent.core.places.ike_addresses(RemoteId(0)), Some(km(HA, COA1)));
}
