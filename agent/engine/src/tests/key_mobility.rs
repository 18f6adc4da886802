//! The K bit in the engine: what protected binding messages and told outcomes do to IKE SAs, once and no more.

use super::*;
use watari_mip6::message::UpdateFlags;
use watari_mip6::option::alternate_care_of;
use watari_mip6::{AckFlags, Evidence, Message, Role};
use watari_policies::{KeyMobility, MovementSource, Movements};
use watari_sa::{Cause, Trigger};

use crate::vici::Section;
use crate::{Command, CommandId, Heard, Listen, MobilityInput, Reply};

pub(super) const OBSERVE: Movements =
    Movements { key_mobility: KeyMobility::Observe, daemon_echoes_k: true, source: MovementSource::Kernel };
pub(super) const BU_SOCKET: Listen = Listen { role: Role::HomeAgent, reqid: Reqid(1) };
const BA_SOCKET: Listen = Listen { role: Role::MobileNode, reqid: Reqid(2) };

fn v6(text: &str) -> std::net::Ipv6Addr {
    text.parse().expect("address")
}

/// A mobile node away at COA1 whose remote has these settings, listening where it wants to.
fn mobile_node_with(movements: Movements) -> Bench {
    let mut profile = MobileNodeProfile::default();
    profile.terms.movements = movements;
    let mut bench = Bench::started(mobile_node(profile), mobile_node_policies(COA1), Vec::new());
    bench.ike(1, 0, COA1, HA);
    bench.child(11, BINDING, 0x11, Mode::Transport, ends(HOA, HA));
    bench.child(12, PAYLOAD, 0x12, Mode::Tunnel, ends(COA1, HA));
    bench.listen();
    bench
}

/// A home agent whose only mobile node is bound at COA1, with an IKE SA there.
pub(super) fn home_agent_with(movements: Movements) -> Bench {
    let mut profile = HomeAgentProfile { mobile_nodes: vec![ServedNode::default()], ..HomeAgentProfile::default() };
    profile.terms.movements = movements;
    let mut bench = Bench::started(home_agent(profile), home_agent_policies(COA1), Vec::new());
    bench.listen();
    bench.ike(1, 0, HA, COA1);
    bench.child(11, BINDING, 0x11, Mode::Transport, ends(HA, HOA));
    bench.child(12, PAYLOAD, 0x12, Mode::Tunnel, ends(HA, COA1));
    bench.update(100, 1, COA1, true);
    for event in home_burst(HOA, COA1) {
        bench.kernel(101, KernelEvent::Migrate(event));
    }
    bench.asked();
    bench.told();
    bench.requests.clear();
    bench
}

pub(super) fn home_agent_policies(coa: &str) -> Vec<PolicyEntry> {
    let transport = |reqid| Template::esp(Mode::Transport, Reqid(reqid), ends("::", "::"));
    vec![
        entry(binding_selector(HA, HOA), Direction::Out, 1, transport(2)),
        entry(binding_selector(HOA, HA), Direction::In, 2, transport(1)),
        entry(selector("::", HOA), Direction::Out, 3, Template::esp(Mode::Tunnel, Reqid(8), ends(HA, coa))),
        entry(selector(HOA, "::"), Direction::In, 4, Template::esp(Mode::Tunnel, Reqid(7), ends(coa, HA))),
    ]
}

/// The messages mip6d sends on a home agent once it has accepted a binding update.
pub(super) fn home_burst(old: &str, new: &str) -> Vec<Migrate> {
    let (none, km) = (ends("::", "::"), km(HA, new));
    vec![
        migrate(binding_selector(HA, HOA), Direction::Out, (Mode::Transport, 2), (none, ends(HA, new)), km),
        migrate(binding_selector(HOA, HA), Direction::In, (Mode::Transport, 1), (none, ends(new, HA)), km),
        migrate(selector("::", HOA), Direction::Out, (Mode::Tunnel, 8), (ends(HA, old), ends(HA, new)), km),
        migrate(selector(HOA, "::"), Direction::In, (Mode::Tunnel, 7), (ends(old, HA), ends(new, HA)), km),
    ]
}

impl Bench {
    /// Opens every socket the agent has asked for.
    pub(super) fn listen(&mut self) {
        for output in std::mem::take(&mut self.outputs) {
            if let Output::Listen(sockets) = output {
                for socket in sockets {
                    self.input(0, Input::Mobility(MobilityInput::Listening { socket, open: true }));
                }
            }
        }
    }

    /// A binding update out of the protected socket, home address exchanged with the care-of address as the kernel does.
    pub(super) fn update(&mut self, millis: u64, sequence: u16, care_of: &str, k: bool) {
        let k = if k { UpdateFlags::KEY_MOBILITY } else { 0 };
        let ends = care_of == HOA;
        let message = Message::Update {
            sequence,
            flags: UpdateFlags(UpdateFlags::ACKNOWLEDGE | UpdateFlags::HOME | k),
            lifetime: if ends { 0 } else { 15 },
            options: alternate_care_of(v6(care_of)),
        };
        let heard = Heard {
            socket: BU_SOCKET,
            source: ip(HOA),
            destination: ip(HA),
            came_from: (!ends).then(|| ip(care_of)),
            sent_to: None,
            octets: message.encode(),
        };
        self.input(millis, Input::Mobility(MobilityInput::Heard(heard)));
    }

    fn acknowledgement(&mut self, millis: u64, sequence: u16, care_of: &str, status: u8, k: bool) {
        let flags = AckFlags(if k { AckFlags::KEY_MOBILITY } else { 0 });
        let message = Message::Acknowledgement { status, flags, sequence, lifetime: 15, options: Vec::new() };
        let heard = Heard {
            socket: BA_SOCKET,
            source: ip(HA),
            destination: ip(HOA),
            came_from: None,
            sent_to: (care_of != HOA).then(|| ip(care_of)),
            octets: message.encode(),
        };
        self.input(millis, Input::Mobility(MobilityInput::Heard(heard)));
    }

    pub(super) fn burst(&mut self, millis: u64, events: Vec<Migrate>) {
        for event in events {
            self.kernel(millis, KernelEvent::Migrate(event));
        }
    }

    pub(super) fn tell_registration(&mut self, millis: u64, arguments: Section) -> Section {
        self.input(millis, Input::Command(CommandId(9), Command::Vici { name: "mobility".to_owned(), arguments }));
        match self.outputs.pop() {
            Some(Output::Reply(CommandId(9), Reply::End(section))) => section,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn notices(&mut self) -> Vec<Cause> {
        let cause = |event: Event| if let Event::Notice { cause, .. } = event { Some(cause) } else { None };
        self.told().into_iter().filter_map(cause).collect()
    }
}

fn replacement(policy: PolicyId, child: u64) -> Asked {
    Asked::Want(Want { policy, trigger: Trigger::Replace(ChildId(child)) })
}

#[test]
fn one_socket_for_each_reqid_of_binding_policies_while_they_are_there() {
    let mut profile = HomeAgentProfile { mobile_nodes: vec![ServedNode::default()], ..HomeAgentProfile::default() };
    let mut bench = Bench::started(home_agent(profile.clone()), home_agent_policies(COA1), Vec::new());
    assert!(!bench.outputs.iter().any(|output| matches!(output, Output::Listen(_))), "nobody listens by default");
    profile.terms.movements = OBSERVE;
    bench = Bench::started(home_agent(profile), home_agent_policies(COA1), Vec::new());
    assert!(matches!(bench.outputs.as_slice(), [Output::Listen(sockets)] if *sockets == [BU_SOCKET]), "{:?}", bench.outputs);
    bench.outputs.clear();
    let out = home_agent_policies(COA1).swap_remove(0);
    bench.kernel(10, KernelEvent::PolicyRemoved(out.clone()));
    assert!(matches!(bench.outputs.as_slice(), [Output::Listen(sockets)] if sockets.is_empty()), "{:?}", bench.outputs);
    bench.kernel(20, KernelEvent::PolicyChanged(out));
    assert!(matches!(bench.outputs.last(), Some(Output::Listen(sockets)) if *sockets == [BU_SOCKET]));
}

#[test]
fn with_k_set_on_both_sides_ike_sas_follow() {
    let mut bench = home_agent_with(OBSERVE);
    bench.update(1000, 2, COA2, true);
    assert_eq!(bench.asked(), [], "not accepted yet");
    bench.burst(1005, home_burst(COA1, COA2));
    assert_eq!(bench.asked(), [Asked::Retarget(IkeId(1), km(HA, COA2))]);
    // Repeats of both, and K clear from now on, take nothing back: the IKE SA stands at the new address.
    bench.update(1100, 3, COA2, false);
    bench.burst(1105, home_burst(COA1, COA2));
    assert_eq!(bench.asked(), []);
}

#[test]
fn k_clear_at_the_home_agent_gives_the_ike_sa_up_when_migrate_shows_acceptance() {
    for (echoes, k) in [(true, false), (false, true)] {
        let mut bench = home_agent_with(Movements { daemon_echoes_k: echoes, ..OBSERVE });
        bench.update(1000, 2, COA2, k);
        bench.update(1001, 3, COA2, k);
        assert_eq!(bench.asked(), []);
        bench.burst(1005, home_burst(COA1, COA2));
        assert_eq!(bench.asked(), [Asked::Forget(IkeId(1))], "once for four messages, and the mobile node begins anew");
        assert_eq!(bench.notices(), [Cause::KEY_MOBILITY_OFF]);
        let owners: Vec<_> = [11, 12].map(|id| bench.agent.core.children.get(ChildId(id)).map(|child| child.owner)).into();
        assert_eq!(owners, [Some(Owner::None); 2], "the children go on");
        assert_eq!(bench.child_at(12), (ends(COA2, HA), ends(HA, COA2)));
        // The successor is made from the new address: repeats do not touch it.
        bench.ike(2, 0, HA, COA2);
        bench.update(1200, 4, COA2, k);
        bench.burst(1205, home_burst(COA1, COA2));
        assert_eq!(bench.asked(), []);
    }
}

#[test]
fn on_a_first_registration_only_ike_sas_with_the_home_address_go() {
    let mut profile = HomeAgentProfile { mobile_nodes: vec![ServedNode::default()], ..HomeAgentProfile::default() };
    profile.terms.movements = OBSERVE;
    let mut bench = Bench::started(home_agent(profile), home_agent_policies(HOA), Vec::new());
    bench.listen();
    bench.ike(1, 0, HA, HOA);
    bench.ike(2, 0, HA, COA1);
    bench.update(1000, 2, COA1, false);
    bench.burst(2030, home_burst(HOA, COA1));
    assert_eq!(bench.asked(), [Asked::Forget(IkeId(1))], "not the one with the care-of address");
}

#[test]
fn at_the_end_of_a_binding_the_home_address_takes_the_place_of_the_care_of_address() {
    let mut bench = home_agent_with(OBSERVE);
    bench.update(1000, 2, HOA, false);
    bench.burst(1005, home_burst(COA1, HOA));
    assert_eq!(bench.asked(), [Asked::Forget(IkeId(1))]);
    let mut bench = home_agent_with(OBSERVE);
    bench.update(1000, 2, HOA, true);
    bench.burst(1005, home_burst(COA1, HOA));
    assert_eq!(bench.asked(), [Asked::Retarget(IkeId(1), km(HA, HOA))]);
}

#[test]
fn the_last_word_about_k_counts_and_an_overtaken_one_does_not() {
    let mut bench = home_agent_with(OBSERVE);
    bench.update(1000, 2, COA2, true);
    bench.update(1500, 4, COA2, false);
    bench.update(1501, 3, COA2, true);
    bench.burst(2030, home_burst(COA1, COA2));
    assert_eq!(bench.asked(), [Asked::Forget(IkeId(1))]);
}

#[test]
fn a_mobile_node_moves_at_once_and_gives_up_when_the_acknowledgement_says_so() {
    let mut bench = mobile_node_with(OBSERVE);
    bench.burst(1000, burst(COA1, COA2));
    assert_eq!(bench.asked(), [Asked::Retarget(IkeId(1), km(COA2, HA))], "K is not known yet");
    bench.acknowledgement(1500, 7, COA2, 135, false);
    bench.acknowledgement(1600, 7, COA1, 0, false);
    assert_eq!(bench.asked(), [], "a refusal and another address say nothing");
    bench.event(2000, KeyingEvent::IkeRekeyed { old: IkeId(1), new: IkeId(5) });
    bench.ike(5, 0, COA2, HA);
    for child in [11, 12] {
        bench.agent.core.children.update(ChildId(child), |child| child.owner = Owner::Ike(IkeId(5)));
    }
    bench.acknowledgement(3000, 8, COA2, 0, false);
    assert_eq!(bench.asked(), [Asked::Forget(IkeId(5)), replacement(BINDING, 11), replacement(PAYLOAD, 12)]);
    assert_eq!(bench.notices(), [Cause::KEY_MOBILITY_OFF]);
    bench.ike(6, 0, COA2, HA);
    bench.acknowledgement(3001, 8, COA2, 0, false);
    bench.acknowledgement(9000, 9, COA2, 0, false);
    bench.burst(9001, burst(COA1, COA2));
    assert_eq!(bench.asked(), [], "its successor stays: it was made at the present address");
}

#[test]
fn k_set_in_the_acknowledgement_is_the_last_word_about_this_movement() {
    let mut bench = mobile_node_with(OBSERVE);
    bench.burst(1000, burst(COA1, COA2));
    bench.asked();
    bench.acknowledgement(3000, 8, COA2, 0, true);
    bench.acknowledgement(60_000, 9, COA2, 0, false);
    assert_eq!(bench.asked(), [], "a refresh at the same address ends nothing");
    bench.burst(70_000, burst(COA2, COA1));
    assert_eq!(bench.asked(), [Asked::Retarget(IkeId(1), km(COA1, HA))]);
    bench.acknowledgement(72_000, 10, COA1, 0, false);
    assert_eq!(bench.asked().first(), Some(&Asked::Forget(IkeId(1))));
}

#[test]
fn never_gives_up_at_once_and_a_handshake_under_way_goes_on_from_the_new_address() {
    let mut bench = mobile_node_with(Movements { key_mobility: KeyMobility::Never, ..Movements::default() });
    bench.ike(2, 0, COA1, HA);
    bench.shared.lock().expect("one thread").ikes[1].state = IkeState::AwaitInit;
    bench.burst(1000, burst(COA1, COA2));
    let asked = bench.asked();
    assert_eq!(asked[..2], [Asked::Retarget(IkeId(2), km(COA2, HA)), Asked::Forget(IkeId(1))]);
    assert_eq!(asked[2..], [replacement(BINDING, 11), replacement(PAYLOAD, 12)]);
}

#[test]
fn a_daemon_may_tell_the_outcome() {
    let told =
        |k: &str, status: u8| Section::new().with("home-address", HOA).with("care-of-address", COA2).with("k", k).with("status", status);
    let mut bench = mobile_node_with(Movements::default());
    bench.burst(1000, burst(COA1, COA2));
    bench.asked();
    assert_eq!(bench.tell_registration(2000, told("no", 135)).text("success"), Some("yes"));
    assert_eq!(bench.asked(), [], "refused");
    bench.tell_registration(3000, told("no", 0));
    assert_eq!(bench.asked().first(), Some(&Asked::Forget(IkeId(1))), "although K is assumed otherwise");
    // Without any MIGRATE the word of the daemon moves.
    let mut bench = home_agent_with(Movements::default());
    assert_eq!(bench.tell_registration(1000, told("yes", 0)).text("matches"), Some("1"));
    assert_eq!(bench.asked(), [Asked::Retarget(IkeId(1), km(HA, COA2))]);
    for wrong in [
        told("maybe", 0),
        Section::new().with("home-address", HOA).with("k", "yes"),
        Section::new().with("home-address", "here").with("care-of-address", COA2).with("k", "yes"),
        Section::new().with("home-address", COA1).with("care-of-address", COA2).with("k", "1"),
    ] {
        let answer = bench.tell_registration(2000, wrong);
        assert!(answer.text("success") == Some("no") && answer.text("errmsg").is_some());
    }
    assert_eq!(bench.asked(), []);
}

#[test]
fn what_does_not_come_from_where_it_should_is_no_evidence() {
    let update = |flags: u16, options| Message::Update { sequence: 9, flags: UpdateFlags(flags), lifetime: 15, options };
    let home = UpdateFlags::ACKNOWLEDGE | UpdateFlags::HOME;
    let good = Heard {
        socket: BU_SOCKET,
        source: ip(HOA),
        destination: ip(HA),
        came_from: Some(ip(COA2)),
        sent_to: None,
        octets: update(home, alternate_care_of(v6(COA2))).encode(),
    };
    let cases = [
        Heard { socket: Listen { reqid: Reqid(3), ..BU_SOCKET }, ..good.clone() },
        Heard { socket: Listen { role: Role::MobileNode, ..BU_SOCKET }, ..good.clone() },
        Heard { source: ip(COA2), ..good.clone() },
        Heard { destination: ip(COA1), ..good.clone() },
        // To a correspondent node; and a care-of address that ESP does not cover.
        Heard { octets: update(UpdateFlags::ACKNOWLEDGE, alternate_care_of(v6(COA2))).encode(), ..good.clone() },
        Heard { octets: update(home, Vec::new()).encode(), ..good.clone() },
        Heard { octets: vec![59, 0, 5], ..good.clone() },
    ];
    for heard in cases {
        let mut bench = home_agent_with(OBSERVE);
        bench.input(1000, Input::Mobility(MobilityInput::Heard(heard.clone())));
        assert!(!bench.told().iter().any(|event| matches!(event, Event::BindingMessage { .. })), "{heard:?}");
    }
    let mut bench = home_agent_with(OBSERVE);
    bench.input(1000, Input::Mobility(MobilityInput::Heard(good)));
    let expected = Event::BindingMessage { remote: RemoteId(0), care_of: ip(COA2), evidence: Evidence::Update { k: false } };
    assert_eq!(bench.told(), [expected]);
}

#[test]
fn a_new_configuration_keeps_what_is_known_of_peers_that_stay() {
    let mut bench = home_agent_with(OBSERVE);
    bench.update(1000, 2, COA2, false);
    let config = bench.agent.core.config.clone();
    bench.input(1001, Input::Command(CommandId(1), Command::Reload(Box::new(config))));
    bench.asked();
    bench.burst(1005, home_burst(COA1, COA2));
    assert_eq!(bench.asked(), [Asked::Forget(IkeId(1))]);
}
