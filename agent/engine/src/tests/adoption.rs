//! Restart: what is left in the kernel is taken over, serves until it is replaced, then goes.

use super::*;
use watari_policies::Installer;
use watari_policies::profile::{Protected, Terms};
use watari_sa::{Cause, Trigger, Whereabouts as _};

fn left_over() -> Vec<SaInfo> {
    vec![
        sa(0x11, ends(HA, HOA), Mode::Transport, 2, binding_selector(HA, HOA)),
        sa(0x111, ends(HOA, HA), Mode::Transport, 1, binding_selector(HOA, HA)),
        sa(0x12, ends(HA, COA1), Mode::Tunnel, 8, selector("::", HOA)),
        sa(0x112, ends(COA1, HA), Mode::Tunnel, 7, selector(HOA, "::")),
        sa(0x99, ends(HA, "2001:db8:9::9"), Mode::Tunnel, 8, selector("::", "2001:db8:9::9")),
        SaInfo { larval: true, spi: Spi(0), ..sa(0, ends(HOA, HA), Mode::Transport, 1, binding_selector(HOA, HA)) },
    ]
}

#[test]
fn left_over_sas_are_adopted_replaced_and_removed() {
    let mut bench = Bench::started(mobile_node(MobileNodeProfile::default()), mobile_node_policies(COA1), left_over());
    let told = bench.told();
    let Some(Event::Adopted(adopted)) = told.iter().find(|event| matches!(event, Event::Adopted(_))) else { panic!("{told:?}") };
    assert_eq!(adopted.len(), 2, "halves are paired, strangers and larval states left alone");
    assert_eq!(bench.agent.core.places.ike_addresses(RemoteId(0)), Some(km(COA1, HA)), "the care-of address stands in the template");
    let wants: Vec<_> = bench.asked();
    assert_eq!(wants.len(), 3, "what the kernel asked while nobody listened, and a replacement for each child: {wants:?}");
    assert!(matches!(wants[0], Asked::Want(Want { policy: BINDING, trigger: Trigger::Acquire { .. } })), "{wants:?}");
    let Asked::Want(Want { policy: BINDING, trigger: Trigger::Replace(old) }) = wants[1] else { panic!("{wants:?}") };
    let child = bench.agent.core.children.get(old).expect("adopted").clone();
    assert_eq!((child.owner, child.inbound.spi, child.outbound.spi), (Owner::None, Spi(0x11), Spi(0x111)));
    assert!(bench.requests.is_empty());
    bench.ike(1, 0, COA1, HA);
    bench.child(50, BINDING, 0x50, Mode::Transport, ends(HOA, HA));
    bench.event(500, KeyingEvent::ChildUp(ChildId(50)));
    assert!(bench.requests.is_empty(), "packets under way are still served");
    bench.input(1500, Input::Timeout);
    let gone: Vec<_> = bench.requests.iter().map(|(_, request)| request.clone()).collect();
    assert_eq!(gone, [KernelRequest::DeleteSa(child.inbound_id()), KernelRequest::DeleteSa(child.outbound_id())]);
    assert!(bench.agent.core.children.get(old).is_none());
}

#[test]
fn a_failed_replacement_is_tried_again() {
    let mut bench = Bench::started(mobile_node(MobileNodeProfile::default()), mobile_node_policies(COA1), left_over());
    bench.asked();
    bench.event(1000, KeyingEvent::WantFailed { policy: PAYLOAD, cause: Cause::PEER_SILENT, detail: String::new() });
    bench.input(4999, Input::Timeout);
    assert_eq!(bench.asked(), []);
    bench.input(5000, Input::Timeout);
    assert!(matches!(bench.asked()[..], [Asked::Want(Want { policy: PAYLOAD, trigger: Trigger::Replace(_) })]));
    bench.event(6000, KeyingEvent::WantFailed { policy: PAYLOAD, cause: Cause::PEER_SILENT, detail: String::new() });
    bench.input(13_999, Input::Timeout);
    assert_eq!(bench.asked(), [], "twice as long the second time");
}

#[test]
fn a_home_agent_starts_only_where_it_knows_the_care_of_address() {
    let of = |node: u16| (Selector::between("::/0".parse().expect("net"), home_address(node).into()), home_address(node));
    let sas = |node: u16, coa: &str, spi| {
        let (out, home) = of(node);
        let inbound = Selector::between(home.into(), "::/0".parse().expect("net"));
        vec![sa(spi, ends(coa, HA), Mode::Tunnel, 7, inbound), sa(spi + 1, ends(HA, coa), Mode::Tunnel, 8, out)]
    };
    let all = [sas(0, COA1, 0x30), sas(1, COA2, 0x40)].concat();
    let policy = entry(of(0).0, Direction::Out, 9, Template::esp(Mode::Tunnel, Reqid(8), ends(HA, COA1)));
    let mut bench = Bench::started(home_agent_config(2), vec![policy], all);
    let wants: Vec<_> = bench.asked();
    assert!(matches!(wants[..], [Asked::Want(Want { policy: PolicyId(1), trigger: Trigger::Replace(_) })]), "{wants:?}");
    assert_eq!(bench.agent.core.children.len(), 2, "both are kept");
}

#[test]
fn start_waits_for_the_policies_of_the_other_daemon() {
    let terms = Terms { start: true, ..Terms::default() };
    let mut bench = Bench::started(mobile_node(MobileNodeProfile { terms, ..MobileNodeProfile::default() }), Vec::new(), Vec::new());
    assert_eq!(bench.asked(), []);
    for entry in mobile_node_policies(COA1).into_iter().take(2) {
        bench.kernel(5, KernelEvent::PolicyChanged(entry));
    }
    assert_eq!(bench.asked(), [Asked::Want(Want { policy: BINDING, trigger: Trigger::Start })]);
}

#[test]
fn policies_of_ours_are_installed_in_every_direction_and_removed_at_the_end() {
    let terms = Terms { installer: Installer::Us, ..Terms::default() };
    let mut bench = Bench::started(mobile_node(MobileNodeProfile { terms, ..MobileNodeProfile::default() }), Vec::new(), Vec::new());
    let set = |bench: &Bench| {
        let entries = bench.requests.iter().filter_map(|(_, request)| match request {
            KernelRequest::SetPolicy(entry) => {
                entry.templates.first().map(|template| (entry.direction, template.reqid.0, template.endpoints))
            }
            _ => None,
        });
        entries.collect::<Vec<_>>()
    };
    let none = ends("::", "::");
    let expected = [
        (Direction::Out, 1, none),
        (Direction::In, 2, none),
        (Direction::Out, 7, ends("::", HA)),
        (Direction::In, 8, ends(HA, "::")),
        (Direction::Forward, 8, ends(HA, "::")),
    ];
    assert_eq!(set(&bench), expected);
    bench.requests.clear();
    bench.input(10, Input::Command(crate::CommandId(1), crate::Command::Shutdown));
    let removed = bench.requests.iter().filter(|(_, request)| matches!(request, KernelRequest::DeletePolicy { .. })).count();
    assert_eq!(removed, 5 + 10, "with the bypasses for Neighbour Discovery, which come in front");
    assert!(bench.outputs.iter().any(|output| matches!(output, Output::Reply(crate::CommandId(1), crate::Reply::End(_)))));
}

#[test]
fn bypasses_for_neighbour_discovery_are_kept_made_again_and_go_with_the_policies_that_need_them() {
    let with =
        |installer| mobile_node(MobileNodeProfile { terms: Terms { installer, ..Terms::default() }, ..MobileNodeProfile::default() });
    let mut bench = Bench::started(with(Installer::Us), Vec::new(), Vec::new());
    let sent: Vec<_> = bench
        .requests
        .drain(..)
        .filter_map(|(_, request)| if let KernelRequest::SetPolicy(entry) = request { Some(entry) } else { None })
        .collect();
    assert_eq!(sent.len(), 5 + 10);
    let mut read = |held: &[PolicyEntry]| {
        bench.agent.refresh_policies(at(1000), held.to_vec(), 0);
        bench.input(1000, Input::Timeout);
        bench.requests.drain(..).map(|(_, request)| request).collect::<Vec<_>>()
    };
    assert_eq!(read(&sent), [], "all of it stands");
    let (lost, rest) = sent.iter().cloned().partition::<Vec<_>, _>(|entry| entry.templates.is_empty());
    assert_eq!(read(&rest), lost.iter().cloned().map(KernelRequest::SetPolicy).collect::<Vec<_>>(), "what the kernel lost");
    bench.input(2000, Input::Command(crate::CommandId(1), crate::Command::Reload(Box::new(with(Installer::Other)))));
    let removed = bench.requests.iter().filter(|(_, request)| matches!(request, KernelRequest::DeletePolicy { .. })).count();
    assert_eq!(removed, 5 + 10);
    assert!(bench.agent.core.installed.is_empty());
}

#[test]
fn neighbour_and_listener_discovery_pass_in_front_of_policies_of_ours_that_would_catch_them() {
    let terms = Terms { installer: Installer::Us, ..Terms::default() };
    let payload = mobile_node(MobileNodeProfile { terms: terms.clone(), ..MobileNodeProfile::default() });
    let first = payload.policies.iter().filter(|policy| policy.name == "payload").map(|policy| policy.priority).min().expect("payload");
    let bench = Bench::started(payload, Vec::new(), Vec::new());
    let spared = |bench: &Bench, direction, message_type: u16| {
        bench.requests.iter().any(|(_, request)| match request {
            KernelRequest::SetPolicy(entry) if entry.direction == direction && entry.templates.is_empty() => {
                let fits = entry.selector.matches(ip(HOA), ip("ff02::1:ff00:1"), 58, message_type, 0);
                fits && entry.action == PolicyAction::Allow && entry.priority < first
            }
            _ => false,
        })
    };
    for direction in [Direction::Out, Direction::In] {
        let passing: Vec<u16> = (0..256).filter(|message_type| spared(&bench, direction, *message_type)).collect();
        assert_eq!(passing, [130, 131, 132, 133, 134, 135, 136, 137, 143]);
    }
    // Binding messages alone catch no neighbour.
    let terms = Terms { protect: [(Protected::Binding, Protected::Binding.usual_reqids())].into(), ..terms };
    let bench = Bench::started(mobile_node(MobileNodeProfile { terms, ..MobileNodeProfile::default() }), Vec::new(), Vec::new());
    assert!(!spared(&bench, Direction::Out, 135));
}
