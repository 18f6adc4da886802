//! The node's messages against what mip6d was measured to send (FACTS 2.3).

use super::home::HomeSettings;
use super::mobile::MobileSettings;
use super::*;
use watari_kernel::{Endpoints, KmAddress};
use watari_policies::{Mode, Reqid};

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

const T0: Duration = Duration::from_secs(10);

fn agreement(protect: &[Protected], binding: BindingSelector) -> Agreement {
    Agreement {
        home_address: address("2001:db8:1::abcd"),
        home_agent: address("2001:db8:1::1"),
        protect: protect.iter().map(|what| (*what, what.usual_reqids())).collect(),
        binding,
        lifetime: Duration::from_secs(60),
        moves_keys: true,
        personality: Personality::Mip6d,
        networks: Vec::new(),
    }
}

fn typed() -> Agreement {
    agreement(&[Protected::Binding, Protected::PrefixDiscovery, Protected::ReturnRoutability], BindingSelector::Typed)
}

fn node(agreement: Agreement) -> Node {
    Node::Mobile(Box::new(MobileNode::new(MobileSettings {
        agreement,
        sequence: 100,
        correspondent: None,
        prefix_discovery: false,
        deaf_at_first: false,
        decision: Duration::from_millis(200),
    })))
}

fn outputs(node: &mut Node) -> Vec<Output> {
    let mut outputs = Vec::new();
    loop {
        match node.poll() {
            Output::Wait(_) => return outputs,
            output => outputs.push(output),
        }
    }
}

fn migrates(outputs: &[Output]) -> Vec<MigrateRequest> {
    outputs.iter().filter_map(|output| if let Output::Migrate(request) = output { Some(request.clone()) } else { None }).collect()
}

/// Direction, MH or ICMPv6 type, reqid, mode, old and new end points, KMADDRESS.
type Row = (Direction, u16, u32, Mode, String, String, String);

fn row(request: &MigrateRequest) -> Row {
    let step = request.steps[0];
    let km: KmAddress = request.kmaddress.unwrap();
    let text = |ends: Endpoints| ends.to_string();
    (
        request.direction,
        request.selector.sport.value,
        step.reqid.0,
        step.mode,
        text(step.old),
        text(step.new),
        format!("{} {}", km.local, km.remote),
    )
}

const COA1: &str = "2001:db8:f1::ff:fe00:e";
const COA2: &str = "2001:db8:f2::ff:fe00:e";
const HOA: &str = "2001:db8:1::abcd";
const HA: &str = "2001:db8:1::1";

fn expected(direction: Direction, number: u16, reqid: u32, old: (&str, &str), new: (&str, &str), km: (&str, &str)) -> Row {
    let mode = if reqid < 5 { Mode::Transport } else { Mode::Tunnel };
    let pair = |(src, dst): (&str, &str)| format!("{src} -> {dst}");
    (direction, number, reqid, mode, pair(old), pair(new), format!("{} {}", km.0, km.1))
}

fn move_to(node: &mut Node, at: Duration, care_of: &str, home: bool) -> Vec<Output> {
    node.handle(at, Input::Attached { address: address(care_of), home });
    node.handle(at + Duration::from_millis(200), Input::Timeout);
    outputs(node)
}

#[test]
fn six_messages_leave_before_the_binding_update() {
    let mut node = node(typed());
    node.handle(T0, Input::Start);
    assert!(outputs(&mut node).iter().all(|output| matches!(output, Output::SetPolicy(_))));
    let made = move_to(&mut node, T0, COA1, false);
    let km = (COA1, HA);
    let (none, out, back) = (("::", "::"), (COA1, HA), (HA, COA1));
    let rows = vec![
        expected(Direction::Out, 5, 1, none, out, km),
        expected(Direction::In, 6, 2, none, back, km),
        expected(Direction::Out, 146, 3, none, out, km),
        expected(Direction::In, 147, 4, none, back, km),
        expected(Direction::Out, 1, 5, (HOA, HA), out, km),
        expected(Direction::In, 3, 6, (HA, HOA), back, km),
    ];
    assert_eq!(migrates(&made).iter().map(row).collect::<Vec<_>>(), rows);
    let last_migrate = made.iter().rposition(|output| matches!(output, Output::Migrate(_))).unwrap();
    let update = made.iter().position(|output| matches!(output, Output::Send(_))).unwrap();
    assert!(last_migrate < update);
    let blocks = |output: &&Output| matches!(output, Output::SetPolicy(policy) if policy.action == watari_kernel::PolicyAction::Block);
    assert_eq!(made.iter().filter(blocks).count(), 2);

    let made = move_to(&mut node, T0 + Duration::from_secs(5), COA2, false);
    let rows: Vec<Row> = migrates(&made).iter().map(row).collect();
    assert_eq!(rows.len(), 6);
    assert_eq!(rows[4], expected(Direction::Out, 1, 5, (COA1, HA), (COA2, HA), (COA2, HA)));
}

#[test]
fn return_home_moves_tunnels_first_and_deletes_them_before_the_transport_messages() {
    let mut node = node(typed());
    move_to(&mut node, T0, COA1, false);
    let sequence = 101;
    acknowledge(&mut node, T0 + Duration::from_secs(1), sequence);
    let made = move_to(&mut node, T0 + Duration::from_secs(5), "2001:db8:1::ff:fe00:e", true);
    let reqids: Vec<u32> = migrates(&made).iter().map(|request| request.steps[0].reqid.0).collect();
    assert_eq!(reqids, [5, 6, 1, 2, 3, 4]);
    assert!(migrates(&made).iter().all(|request| request.kmaddress.unwrap().local == address(HOA)));
    let position = |fits: &dyn Fn(&Output) -> bool| made.iter().position(fits).unwrap();
    let deleted = position(&|output| matches!(output, Output::DeletePolicy { kind: PolicyKind::Main, .. }));
    let transport = position(&|output| matches!(output, Output::Migrate(request) if request.steps[0].reqid == Reqid(1)));
    assert!(deleted < transport);
    let Some(Output::Send(packet)) = made.last() else { panic!("{made:?}") };
    let Ok(Message::Update { lifetime, .. }) = Message::decode(&packet.upper().unwrap().payload) else { panic!() };
    assert_eq!(lifetime, 0);
}

fn acknowledge(node: &mut Node, at: Duration, sequence: u16) {
    acknowledgement(node, at, sequence);
}

fn acknowledgement(node: &mut Node, at: Duration, sequence: u16) -> Vec<Output> {
    let message = Message::Acknowledgement {
        status: 0,
        flags: watari_mip6::AckFlags(0x80),
        sequence,
        lifetime: 15,
        options: vec![watari_mip6::MobilityOption::PadN(2)],
    };
    node.handle(at, Input::Packet(mobility_packet(address(HA), address(HOA), &message)));
    let made = outputs(node);
    assert!(made.iter().any(|output| matches!(output, Output::Event(SignalEvent::Acknowledged { .. }))));
    made
}

#[test]
fn a_start_at_home_moves_away_and_back_without_ending_a_binding() {
    let mut node = node(agreement(&[Protected::Binding, Protected::Payload], BindingSelector::Any));
    let made = move_to(&mut node, T0, "2001:db8:1::ff:fe00:e", true);
    assert_eq!(migrates(&made).len(), 4);
    node.handle(T0 + Duration::from_millis(430), Input::Timeout);
    let made = outputs(&mut node);
    assert_eq!(migrates(&made).len(), 4);
    assert!(!made.iter().any(|output| matches!(output, Output::Send(_))));
}

#[test]
fn the_home_agent_sends_seven_messages_and_three_again_at_the_end() {
    let mut home = Node::Home(HomeAgent::new(HomeSettings { address: address(HA), agreements: vec![typed()] }));
    let mut mobile = node(typed());
    home.handle(T0, Input::Start);
    outputs(&mut home);
    let Some(Output::Send(update)) = move_to(&mut mobile, T0, COA1, false).pop() else { panic!() };
    home.handle(T0, Input::Packet(update));
    assert_eq!(outputs(&mut home), Vec::new());
    home.handle(T0 + Duration::from_millis(1030), Input::Timeout);
    let made = outputs(&mut home);
    let rows: Vec<Row> = migrates(&made).iter().map(row).collect();
    let directions: Vec<(Direction, u32)> = rows.iter().map(|row| (row.0, row.2)).collect();
    let seven = [
        (Direction::In, 1),
        (Direction::Out, 2),
        (Direction::In, 3),
        (Direction::Out, 4),
        (Direction::In, 5),
        (Direction::Forward, 5),
        (Direction::Out, 6),
    ];
    assert_eq!(directions, seven);
    assert_eq!(rows[5], expected(Direction::Forward, 1, 5, (HOA, HA), (COA1, HA), (HA, COA1)));
    assert!(matches!(made.last(), Some(Output::Send(_))), "the acknowledgement comes last");
    acknowledge(&mut mobile, T0 + Duration::from_secs(2), 101);
    let Some(Output::Send(update)) = move_to(&mut mobile, T0 + Duration::from_secs(5), "2001:db8:1::ff:fe00:e", true).pop() else {
        panic!()
    };
    home.handle(T0 + Duration::from_secs(6), Input::Packet(update));
    let made = outputs(&mut home);
    let requests = migrates(&made);
    assert_eq!(requests.len(), 10);
    assert!(requests[7..].iter().all(|request| request.steps[0].old == request.steps[0].new));
}

#[test]
fn an_unanswered_update_is_repeated_after_one_second_and_then_two() {
    let mut node = node(typed());
    move_to(&mut node, T0, COA1, false);
    let sent = T0 + Duration::from_millis(200);
    for (after, updates) in [(999, 0), (1000, 1), (2999, 0), (3000, 1)] {
        node.handle(sent + Duration::from_millis(after), Input::Timeout);
        let made = outputs(&mut node);
        assert_eq!(made.iter().filter(|output| matches!(output, Output::Send(_))).count(), updates, "{after} ms");
    }
}

/// The measured table of KeyMngMobCapability on both sides: K of the first binding update, of its acknowledgement, of the next update.
#[test]
fn the_k_bit_is_echoed_only_where_both_daemons_have_it() {
    for (mobile_keys, home_keys, expected) in [
        (true, true, [true, true, true]),
        (true, false, [true, false, false]),
        (false, true, [false, false, false]),
        (false, false, [false, false, false]),
    ] {
        let mut home =
            HomeAgent::new(HomeSettings { address: address(HA), agreements: vec![Agreement { moves_keys: home_keys, ..typed() }] });
        let mut mobile = node(Agreement { moves_keys: mobile_keys, ..typed() });
        let k = |output: Option<Output>| {
            let Some(Output::Send(packet)) = output else { panic!("{output:?}") };
            match Message::decode(&packet.upper().unwrap().payload).unwrap() {
                Message::Update { flags, .. } => (flags.has(watari_mip6::UpdateFlags::KEY_MOBILITY), packet),
                Message::Acknowledgement { flags, .. } => (flags.has(watari_mip6::AckFlags::KEY_MOBILITY), packet),
                other => panic!("{other:?}"),
            }
        };
        let (first, update) = k(move_to(&mut mobile, T0, COA1, false).pop());
        assert_eq!(home.next_sequence(address(HOA)), 1);
        home.handle(T0, Input::Packet(update));
        assert_eq!(home.next_sequence(address(HOA)), 102);
        home.handle(T0 + Duration::from_millis(1030), Input::Timeout);
        let mut answers = Vec::new();
        loop {
            match home.poll() {
                Output::Wait(_) => break,
                output => answers.push(output),
            }
        }
        let (echoed, answer) = k(answers.pop());
        mobile.handle(T0 + Duration::from_secs(2), Input::Packet(answer));
        outputs(&mut mobile);
        let (next, _) = k(move_to(&mut mobile, T0 + Duration::from_secs(5), COA2, false).pop());
        assert_eq!([first, echoed, next], expected, "{mobile_keys} {home_keys}");
    }
}

#[test]
fn shisa_tells_of_tunnels_after_the_acknowledgement_and_of_nothing_else() {
    let terms = agreement(&[Protected::Binding, Protected::Payload], BindingSelector::Any);
    let mut node = node(Agreement { personality: Personality::Shisa(Rebound::Migrate), ..terms });
    let told = |made: &[Output]| made.iter().filter(|output| matches!(output, Output::Rebind(..))).count();
    let made = move_to(&mut node, T0, COA1, false);
    assert_eq!((migrates(&made).len(), told(&made)), (0, 0));
    let made = acknowledgement(&mut node, T0 + Duration::from_secs(1), 101);
    let rebound: Vec<_> =
        made.iter().filter_map(|output| if let Output::Rebind(request, _) = output { Some(request) } else { None }).collect();
    assert_eq!(rebound.iter().map(|request| request.steps[0].reqid.0).collect::<Vec<_>>(), [7, 8], "tunnels only");
    assert!(rebound.iter().all(|request| request.kmaddress.is_none()));
    let made = move_to(&mut node, T0 + Duration::from_secs(5), "2001:db8:1::ff:fe00:e", true);
    let aside = made.iter().filter(|output| matches!(output, Output::SetAside(_))).count();
    let main = |output: &&Output| matches!(output, Output::DeletePolicy { kind: PolicyKind::Main, .. });
    assert_eq!((migrates(&made).len(), told(&made), aside, made.iter().filter(main).count()), (0, 0, 2, 0));
}

#[test]
fn updates_in_the_tunnel_need_nothing_of_mobile_ipv6_and_a_tunnel_open_to_any_care_of_address() {
    let terms = agreement(&[Protected::Payload], BindingSelector::Any);
    let mut home = Node::Home(HomeAgent::new(HomeSettings { address: address(HA), agreements: vec![terms.clone()] }));
    let mut mobile = node(terms);
    home.handle(T0, Input::Start);
    let main = |made: &[Output]| -> Vec<(Direction, String)> {
        let policies = made.iter().filter_map(|output| if let Output::SetPolicy(policy) = output { Some(policy) } else { None });
        policies
            .filter_map(|policy| {
                Some((policy.direction, policy.templates.iter().find(|one| one.protocol.is_some())?.endpoints.to_string()))
            })
            .collect()
    };
    let open = format!(":: -> {HA}");
    assert_eq!(main(&outputs(&mut home)), [(Direction::In, open.clone()), (Direction::Forward, open)], "before any binding");
    let made = move_to(&mut mobile, T0, COA1, false);
    let extension = |output: &Output| match output {
        Output::SetState(_) => true,
        Output::SetPolicy(policy) => policy.templates.iter().any(|template| template.protocol.is_none()),
        _ => false,
    };
    assert!(!made.iter().any(extension), "no home address option, no routing header: {made:?}");
    let Some(Output::Send(update)) = made.last().cloned() else { panic!("{made:?}") };
    home.handle(T0, Input::Packet(update));
    home.handle(T0 + Duration::from_millis(1030), Input::Timeout);
    let km = (HA, COA1);
    let rows = |old: &'static str, new: &'static str, km: (&str, &str)| {
        let there = |direction| expected(direction, 0, 7, (old, HA), (new, HA), km);
        vec![there(Direction::In), there(Direction::Forward), expected(Direction::Out, 0, 8, (HA, old), (HA, new), km)]
    };
    let told = |made: Vec<Output>| migrates(&made).iter().map(row).collect::<Vec<_>>();
    assert_eq!(told(outputs(&mut home)), rows("::", COA1, km));
    acknowledge(&mut mobile, T0 + Duration::from_secs(2), 101);
    let Some(Output::Send(update)) = move_to(&mut mobile, T0 + Duration::from_secs(5), COA2, false).pop() else { panic!() };
    home.handle(T0 + Duration::from_secs(6), Input::Packet(update));
    assert_eq!(told(outputs(&mut home)), rows(COA1, COA2, (HA, COA2)));
}
