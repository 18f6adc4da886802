//! Several home agents of one mobile node: what follows the one in force, and who may choose another (RFC 5026 5.1.2, 5142, 5685).

use std::collections::BTreeSet;

use watari_kernel::{Acquire, PolicyIndex};
use watari_mip6::{Message, Role};
use watari_policies::model::Endpoints as Source;
use watari_policies::{Gateways, Installer, KeyMobility, Movements};
use watari_sa::Cause;

use super::*;
use crate::key_mobility::{Heard, Listen, MobilityInput};
use crate::vici::Section;
use crate::{Command, CommandId, Reply};

const HA2: &str = "2001:db8:1::2";
const HA3: &str = "2001:db8:9::3";

fn config(installer: Installer) -> Config {
    let gateways = Gateways { addresses: [HA, HA2, HA3].map(ip).into(), ..Gateways::default() };
    let mut profile = MobileNodeProfile { gateways, ..MobileNodeProfile::default() };
    profile.terms.installer = installer;
    profile.terms.movements = Movements { key_mobility: KeyMobility::Observe, ..Movements::default() };
    mobile_node(profile)
}

/// Away at `COA1` with the first home agent, policies of mip6d.
fn node() -> Bench {
    let mut bench = Bench::started(config(Installer::Other), mobile_node_policies(COA1), Vec::new());
    bench.ike(1, 0, COA1, HA);
    bench.child(11, BINDING, 0x11, Mode::Transport, ends(HOA, HA));
    bench.child(12, PAYLOAD, 0x12, Mode::Tunnel, ends(COA1, HA));
    bench.told();
    bench
}

fn use_address(bench: &mut Bench, millis: u64, address: &str, cause: Cause) {
    bench.act(millis, Action::UseAddress { remote: RemoteId(0), address: ip(address), cause, for_good: true });
}

/// As a redirect does: the address is tried, and not known to others before the peer has proved itself there.
fn tried(bench: &mut Bench, millis: u64, address: &str, cause: Cause) {
    bench.act(millis, Action::UseAddress { remote: RemoteId(0), address: ip(address), cause, for_good: false });
}

/// The peer has proved itself at this address.
fn up(bench: &mut Bench, millis: u64, ike: u64, address: &str) {
    bench.ike(ike, 0, COA1, address);
    came_up(bench, millis, ike, address);
}

fn came_up(bench: &mut Bench, millis: u64, ike: u64, address: &str) {
    let path = Path::between(ip(COA1), ip(address), 500);
    let identity = watari_policies::Identity::Fqdn("ha.example".into());
    bench.event(millis, KeyingEvent::IkeUp { ike: IkeId(ike), remote: RemoteId(0), path, identity });
}

fn ended(bench: &mut Bench, millis: u64, ike: u64) {
    let down = KeyingEvent::IkeDown { ike: IkeId(ike), remote: Some(RemoteId(0)), cause: Cause::REPLACED, detail: String::new() };
    bench.event(millis, down);
}

/// What the Mobile IPv6 daemon was told: from where, to where, and whether it is to register there.
fn told_of(bench: &mut Bench) -> Vec<(IpAddr, IpAddr, bool)> {
    let of = |event| if let Event::PeerAddress { old, new, register, .. } = event { Some((old, new, register)) } else { None };
    bench.told().into_iter().filter_map(of).collect()
}

/// Our own policies, an IKE SA with the first home agent.
fn own() -> Bench {
    let mut bench = Bench::started(config(Installer::Us), Vec::new(), Vec::new());
    bench.ike(1, 0, COA1, HA);
    bench
}

fn own_entries(bench: &Bench) -> Vec<PolicyEntry> {
    bench.agent.core.installed.values().map(|(_, entry)| entry.clone()).collect()
}

fn holds(bench: &Bench, address: &str) -> bool {
    bench.agent.core.installed.contains_key(&(Direction::Out, binding_selector(HOA, address)))
}

fn heard(source: &str, addresses: &[&str]) -> Input {
    let addresses = addresses.iter().map(|address| address.parse().expect("address")).collect();
    let octets = Message::HomeAgentSwitch { addresses, options: Vec::new() }.encode();
    let socket = Listen { role: Role::MobileNode, reqid: Reqid(2) };
    let heard = Heard { socket, source: ip(source), destination: ip(HOA), came_from: None, sent_to: Some(ip(COA1)), octets };
    Input::Mobility(MobilityInput::Heard(heard))
}

/// A packet between home address and home agent for which there is no SA.
fn acquire(to: &str) -> KernelEvent {
    let template = Template::esp(Mode::Transport, Reqid(1), ends("::", "::"));
    let selector = binding_selector(HOA, to);
    KernelEvent::Acquire(Acquire {
        endpoints: ends(HOA, to),
        packet: selector,
        policy: selector,
        index: PolicyIndex(91),
        direction: Direction::Out,
        template,
        sequence: 5,
        care_of: None,
    })
}

fn switches(bench: &mut Bench) -> Vec<Vec<IpAddr>> {
    bench.asked().into_iter().filter_map(|asked| if let Asked::Switch(_, list) = asked { Some(list) } else { None }).collect()
}

fn ignored(bench: &Bench) -> u64 {
    bench.agent.core.counters.drops.get(Cause::SWITCH_IGNORED.code).copied().unwrap_or_default()
}

fn command(bench: &mut Bench, name: &str, arguments: &[(&str, &str)]) -> Section {
    let arguments = arguments.iter().fold(Section::new(), |section, (name, value)| section.with(name, value));
    bench.input(50, Input::Command(CommandId(1), Command::Vici { name: name.to_owned(), arguments }));
    let mut replies =
        bench.outputs.drain(..).filter_map(|output| if let Output::Reply(_, Reply::End(end)) = output { Some(end) } else { None });
    replies.next_back().expect("an answer")
}

#[test]
fn policies_addresses_and_tunnels_follow_the_home_agent_in_force() {
    let mut bench = node();
    use_address(&mut bench, 10, HA2, Cause::PEER_SILENT);
    let told = bench.told();
    let event = Event::PeerAddress { remote: RemoteId(0), old: ip(HA), new: ip(HA2), cause: Cause::PEER_SILENT, register: true };
    assert!(told.contains(&event), "{told:?}");
    let core = &bench.agent.core;
    use watari_sa::Whereabouts as _;
    assert_eq!(core.places.ike_addresses(RemoteId(0)).map(|addresses| addresses.remote), Some(ip(HA2)));
    let ike = km(COA1, HA2);
    assert_eq!(core.places.sa_endpoints(BINDING, ike), ends(HOA, HA2));
    assert_eq!(core.places.sa_endpoints(PAYLOAD, ike), ends(COA1, HA2), "the template that mip6d still has leads to the old one");
    assert_eq!(core.config.policies[0].endpoints, Source::Selector);
    // A child of the old one stays as it is until the protocol ends it.
    assert_eq!(bench.child_at(12).1, ends(COA1, HA));
    use_address(&mut bench, 20, HA2, Cause::PEER_SILENT);
    assert!(bench.told().is_empty(), "nothing new");
    tried(&mut bench, 30, HA, Cause::SESSION_REDIRECTED);
    assert_eq!(told_of(&mut bench), []);
    up(&mut bench, 35, 2, HA);
    assert!(bench.told().iter().any(|event| matches!(event, Event::PeerAddress { register: false, .. })), "no state of Mobile IPv6");
}

//= rfc5685#8
//# what a response to IKE_SA_INIT says, which anybody can have sent, updates nothing that was known with proof
#[test]
fn the_daemon_and_the_policies_hear_of_a_home_agent_once_it_has_proved_itself() {
    let set = |bench: &mut Bench| {
        let requests = std::mem::take(&mut bench.requests);
        requests.iter().filter(|(_, request)| matches!(request, KernelRequest::SetPolicy(_) | KernelRequest::DeletePolicy { .. })).count()
    };
    let mut bench = Bench::started(config(Installer::Us), Vec::new(), Vec::new());
    bench.ike(1, 0, COA1, HA);
    bench.requests.clear();
    tried(&mut bench, 10, HA2, Cause::REDIRECTED);
    tried(&mut bench, 20, HA3, Cause::PEER_SILENT);
    // The IKE SA with the home agent before ends meanwhile: its policies still are all there is.
    let down = KeyingEvent::IkeDown { ike: IkeId(1), remote: Some(RemoteId(0)), cause: Cause::REPLACED, detail: String::new() };
    bench.event(25, down);
    assert_eq!((told_of(&mut bench), set(&mut bench)), (vec![], 0), "nobody has proved anything");
    up(&mut bench, 27, 2, HA2);
    assert_eq!((told_of(&mut bench), set(&mut bench)), (vec![], 0), "it is not the one in force any more");
    // Back where it was: there is nothing to tell.
    tried(&mut bench, 30, HA, Cause::PEER_SILENT);
    up(&mut bench, 40, 3, HA);
    assert_eq!((told_of(&mut bench), set(&mut bench)), (vec![], 0));
    tried(&mut bench, 50, HA2, Cause::REDIRECTED);
    // With its first SAs it can be registered with: then the daemon is told.
    let being_made = |bench: &Bench, policies: &[PolicyId]| {
        let mut shared = bench.shared.lock().expect("one thread");
        shared.ikes.iter_mut().for_each(|ike| ike.negotiating = policies.to_vec());
    };
    bench.ike(4, 0, COA1, HA2);
    being_made(&bench, &[BINDING]);
    up(&mut bench, 60, 5, HA3);
    assert_eq!((told_of(&mut bench), set(&mut bench)), (vec![], 0));
    came_up(&mut bench, 62, 4, HA2);
    assert_eq!(told_of(&mut bench), []);
    assert!(set(&mut bench) > 0);
    bench.child(41, BINDING, 0x41, Mode::Transport, ends(HOA, HA2));
    bench.agent.core.children.update(ChildId(41), |child| child.owner = Owner::Ike(IkeId(4)));
    being_made(&bench, &[]);
    bench.event(64, KeyingEvent::ChildUp(ChildId(41)));
    assert_eq!(told_of(&mut bench), [(ip(HA), ip(HA2), true)]);
    // One that is tried because a redirect in the session led nowhere is no better than where that led.
    tried(&mut bench, 70, HA3, Cause::SESSION_REDIRECTED);
    tried(&mut bench, 80, HA, Cause::PEER_SILENT);
    up(&mut bench, 90, 5, HA);
    assert_eq!(told_of(&mut bench), [(ip(HA2), ip(HA), false)]);
}

/// IKE went on in the session, the binding did not: the Home Agent Switch message of the one where it stands tells the daemon to follow.
#[test]
fn a_binding_follows_ike_once_its_home_agent_says_so() {
    let mut bench = node();
    bench.ike(2, 0, COA1, HA2);
    use_address(&mut bench, 10, HA2, Cause::SESSION_REDIRECTED);
    bench.told();
    bench.asked();
    // Not where IKE is by now: it is another home agent that is named.
    bench.input(15, heard(COA2, &[HA2]));
    assert_eq!((bench.told().len(), switches(&mut bench).len()), (1, 0), "from anybody else it is ignored");
    bench.input(20, heard(HA, &[HA3, HA2]));
    let event = Event::PeerAddress { remote: RemoteId(0), old: ip(HA), new: ip(HA2), cause: Cause::HOME_AGENT_SWITCH, register: true };
    assert!(bench.told().contains(&event));
    assert_eq!(switches(&mut bench), [vec![ip(HA2)]], "which ends what was kept for the binding");
    bench.input(30, heard(HA, &[HA3, HA2]));
    assert_eq!(switches(&mut bench), Vec::<Vec<IpAddr>>::new(), "it is nobody any more");
}

/// The home agent that sends nodes away is called again by nothing that its daemon still sends it.
#[test]
fn the_end_of_a_binding_calls_nobody_back() {
    for cause in [Cause::REDIRECTED, Cause::SESSION_REDIRECTED, Cause::HOME_AGENT_SWITCH] {
        let mut bench = node();
        if cause == Cause::HOME_AGENT_SWITCH {
            bench.input(10, heard(HA, &[HA2]));
            assert_eq!(switches(&mut bench).len(), 1);
        } else {
            tried(&mut bench, 10, HA2, cause);
            up(&mut bench, 15, 2, HA2);
        }
        bench.kernel(20, acquire(HA));
        assert_eq!(switches(&mut bench), Vec::<Vec<IpAddr>>::new(), "{cause}");
        bench.kernel(400_000, acquire(HA));
        assert_eq!(switches(&mut bench), [vec![ip(HA)]], "{cause}");
    }
}

/// The daemon is still registered with the old home agent and moves: both IKE SAs move their own end, each stays with its home agent.
#[test]
fn a_movement_changes_the_own_end_alone() {
    let mut bench = node();
    use_address(&mut bench, 10, HA2, Cause::HOME_AGENT_SWITCH);
    bench.ike(2, 0, COA1, HA2);
    for (number, event) in (0u64..).zip(burst(COA1, COA2)) {
        bench.kernel(20 + number, KernelEvent::Migrate(event));
    }
    let moved: BTreeSet<_> = bench
        .asked()
        .into_iter()
        .filter_map(|it| if let Asked::Retarget(ike, to) = it { Some((ike, to.local, to.remote)) } else { None })
        .collect();
    assert_eq!(moved, [(IkeId(1), ip(COA2), ip(HA)), (IkeId(2), ip(COA2), ip(HA2))].into());
    assert_eq!(bench.agent.core.places.remembered(RemoteId(0)), Some(km(COA2, HA2)));
}

/// Tunnels with both home agents stand: a MIGRATE that names one of them moves the own end of all, and the peer's end of none.
#[test]
fn a_migrate_leaves_each_tunnel_with_its_home_agent() {
    let mut bench = node();
    use_address(&mut bench, 10, HA2, Cause::HOME_AGENT_SWITCH);
    bench.ike(2, 0, COA1, HA2);
    bench.child(13, PAYLOAD, 0x13, Mode::Tunnel, ends(COA1, HA2));
    bench.asked();
    // mip6d begins with the second home agent: from the home address, where the tunnels never were.
    let mut begins = burst(COA1, COA1);
    for event in &mut begins {
        let there = |end: &mut IpAddr| *end = if *end == ip(HA) { ip(HA2) } else { *end };
        event.kmaddress.iter_mut().for_each(|addresses| there(&mut addresses.remote));
        for step in &mut event.steps {
            [&mut step.old.src, &mut step.old.dst, &mut step.new.src, &mut step.new.dst].into_iter().for_each(there);
        }
    }
    for (number, event) in (0u64..).zip(begins) {
        bench.kernel(20 + number, KernelEvent::Migrate(event));
    }
    assert_eq!((bench.child_at(12), bench.child_at(13)), ((ends(HA, COA1), ends(COA1, HA)), (ends(HA2, COA1), ends(COA1, HA2))));
    assert!(!bench.asked().iter().any(|asked| matches!(asked, Asked::Retarget(..))), "everything is where it was");
    for (number, event) in (0u64..).zip(burst(COA1, COA2)) {
        bench.kernel(30 + number, KernelEvent::Migrate(event));
    }
    assert_eq!((bench.child_at(12), bench.child_at(13)), ((ends(HA, COA2), ends(COA2, HA)), (ends(HA2, COA2), ends(COA2, HA2))));
}

#[test]
fn own_policies_stand_for_both_until_the_old_ike_sa_is_gone() {
    let mut bench = Bench::started(config(Installer::Us), Vec::new(), Vec::new());
    bench.ike(1, 0, COA1, HA);
    bench.requests.clear();
    tried(&mut bench, 10, HA2, Cause::REDIRECTED);
    assert!(bench.requests.is_empty(), "{:?}", bench.requests);
    up(&mut bench, 15, 2, HA2);
    let set = |bench: &Bench| -> BTreeSet<Selector> {
        let entries =
            bench.requests.iter().filter_map(|(_, request)| if let KernelRequest::SetPolicy(entry) = request { Some(entry) } else { None });
        entries.map(|entry| entry.selector).collect()
    };
    assert!(set(&bench).contains(&binding_selector(HOA, HA2)) && set(&bench).contains(&binding_selector(HA2, HOA)), "{:?}", bench.requests);
    let gone = |bench: &Bench| -> BTreeSet<Selector> {
        let deleted =
            |request: &KernelRequest| if let KernelRequest::DeletePolicy { selector, .. } = request { Some(*selector) } else { None };
        bench.requests.iter().filter_map(|(_, request)| deleted(request)).collect()
    };
    let down = |ike| KeyingEvent::IkeDown { ike: IkeId(ike), remote: Some(RemoteId(0)), cause: Cause::REPLACED, detail: String::new() };
    bench.event(20, down(7));
    assert!(gone(&bench).is_empty(), "the old home agent still has an IKE SA");
    bench.shared.lock().expect("one thread").ikes.retain(|ike| ike.id == IkeId(2));
    bench.event(30, down(1));
    assert_eq!(gone(&bench), [binding_selector(HOA, HA), binding_selector(HA, HOA)].into());
}

/// What is sent between a redirect and the SAs with the new gateway still has a tunnel that fits.
#[test]
fn a_tunnel_of_ours_keeps_its_template_until_its_successor_is_there() {
    let mut bench = Bench::started(config(Installer::Us), Vec::new(), Vec::new());
    bench.ike(1, 0, COA1, HA);
    bench.child(12, PAYLOAD, 0x12, Mode::Tunnel, ends(COA1, HA));
    bench.event(5, KeyingEvent::ChildUp(ChildId(12)));
    let out = |bench: &mut Bench| -> Vec<Endpoints> {
        let requests = std::mem::take(&mut bench.requests).into_iter();
        let set = requests.filter_map(|(_, request)| if let KernelRequest::SetPolicy(entry) = request { Some(entry) } else { None });
        let tunnels = set.filter(|entry| entry.direction == Direction::Out && entry.selector == selector(HOA, "::"));
        tunnels.flat_map(|entry| entry.templates).map(|template| template.endpoints).collect()
    };
    out(&mut bench);
    tried(&mut bench, 10, HA2, Cause::SESSION_REDIRECTED);
    up(&mut bench, 15, 2, HA2);
    assert_eq!(out(&mut bench), [], "the old tunnel serves");
    bench.child(13, PAYLOAD, 0x13, Mode::Tunnel, ends(COA1, HA2));
    bench.event(20, KeyingEvent::ChildUp(ChildId(13)));
    assert_eq!(out(&mut bench), [ends(COA1, HA2)]);
}

//= rfc5142#6.1
//# the message is covered by the SA between home agent and mobile node
#[test]
fn a_home_agent_switch_begins_ike_with_the_home_agents_it_names() {
    let mut bench = node();
    let listens = bench
        .outputs
        .iter()
        .any(|output| matches!(output, Output::Listen(sockets) if sockets.contains(&Listen { role: Role::MobileNode, reqid: Reqid(2) })));
    assert!(listens && Listen { role: Role::MobileNode, reqid: Reqid(2) }.message_types().contains(&12));
    // Those of the home link come first (6.2).
    bench.input(10, heard(HA, &[HA3, HA2]));
    assert_eq!(switches(&mut bench), [vec![ip(HA2), ip(HA3)]]);
    // It is the home agent now, and the old one says it again.
    bench.input(20, heard(HA, &[HA3, HA2]));
    assert_eq!((switches(&mut bench).len(), ignored(&bench)), (0, 1));
    // No address: the next one of the list.
    bench.input(30, heard(HA2, &[]));
    assert_eq!(switches(&mut bench), [vec![ip(HA3)]]);
}

#[test]
fn whoever_is_not_the_home_agent_switches_nothing() {
    let mut bench = node();
    bench.input(10, heard(COA2, &[HA2]));
    bench.input(20, heard(HA, &["2001:db8:1::66"]));
    let Input::Mobility(MobilityInput::Heard(good)) = heard(HA, &[HA2]) else { panic!() };
    let strangers = [
        Heard { destination: ip(COA1), ..good.clone() },
        Heard { socket: Listen { role: Role::MobileNode, reqid: Reqid(9) }, ..good.clone() },
    ];
    for stranger in strangers {
        bench.input(30, Input::Mobility(MobilityInput::Heard(stranger)));
    }
    assert_eq!((switches(&mut bench).len(), ignored(&bench)), (0, 4));
    let mut cut = good;
    cut.octets.truncate(16);
    bench.input(40, Input::Mobility(MobilityInput::Heard(cut)));
    assert_eq!((switches(&mut bench).len(), ignored(&bench)), (0, 4), "malformed, and told as such");
}

/// The Mobile IPv6 daemon owns the policies and chose another home agent of the list.
#[test]
fn a_packet_to_another_home_agent_of_the_list_is_followed() {
    let mut bench = node();
    bench.kernel(10, acquire("2001:db8:1::66"));
    assert_eq!(switches(&mut bench).len(), 0);
    use_address(&mut bench, 15, HA3, Cause::PEER_SILENT);
    bench.kernel(17, acquire(HA));
    assert_eq!(switches(&mut bench).len(), 0, "it has just not served, and the daemon does not know");
    bench.kernel(20, acquire(HA2));
    let asked = bench.asked();
    assert!(asked.contains(&Asked::Switch(RemoteId(0), vec![ip(HA2)])), "{asked:?}");
    assert!(asked.iter().any(|asked| matches!(asked, Asked::Want(want) if want.policy == BINDING)), "{asked:?}");
}

#[test]
fn commands_redirect_peers_and_choose_addresses() {
    let mut bench = node();
    assert_eq!(command(&mut bench, "use-address", &[("ike", "home-agent"), ("address", HA3)]).text("address"), Some(HA3));
    assert_eq!(command(&mut bench, "use-address", &[("ike", "home-agent")]).text("address"), Some(HA));
    assert!(command(&mut bench, "use-address", &[("ike", "home-agent"), ("address", "::5")]).text("errmsg").is_some());
    assert!(command(&mut bench, "use-address", &[("ike", "nobody")]).text("errmsg").is_some());
    bench.asked();
    for (name, value) in [("ike", "home-agent"), ("ike-id", "1"), ("peer-ip", "2001:db8:1::/64"), ("peer-id", "ha.example")] {
        let end = command(&mut bench, "redirect", &[(name, value), ("gateway", "ha9.example")]);
        assert_eq!((end.text("success"), end.text("matches")), (Some("yes"), Some("1")), "{name}");
        assert_eq!(bench.asked(), [Asked::Redirect(IkeId(1), "ha9.example".into())], "{name}");
    }
    for arguments in
        [[("ike", "nobody"), ("gateway", HA2)], [("ike", "home-agent"), ("gateway", "ff02::1")], [("ike", "home-agent"), ("to", HA2)]]
    {
        assert_eq!(command(&mut bench, "redirect", &arguments).text("success"), Some("no"));
    }
}

#[test]
fn a_new_configuration_keeps_the_address_in_force() {
    let mut bench = node();
    use_address(&mut bench, 10, HA2, Cause::PEER_SILENT);
    bench.input(20, Input::Command(CommandId(1), Command::Reload(Box::new(config(Installer::Other)))));
    assert_eq!(bench.agent.core.config.remotes.len(), 1, "the record is the same");
    assert_eq!(bench.agent.core.config.remotes[0].remote_address, Some(ip(HA2)));
    assert_eq!(bench.asked(), [], "no SA is closed");
}

/// Two IKE SAs while one home agent hands over to another: whoever tells of a movement, each stays with its own.
#[test]
fn other_evidence_than_migrate_moves_the_own_end_alone_too() {
    let mut bench = node();
    use_address(&mut bench, 10, HA2, Cause::HOME_AGENT_SWITCH);
    bench.ike(2, 0, COA1, HA2);
    bench.asked();
    let told = [("home-address", HOA), ("care-of-address", COA2), ("k", "yes")];
    assert_eq!(command(&mut bench, "mobility", &told).text("success"), Some("yes"));
    let moved: BTreeSet<_> = bench
        .asked()
        .into_iter()
        .filter_map(|it| if let Asked::Retarget(ike, to) = it { Some((ike, to.local, to.remote)) } else { None })
        .collect();
    assert_eq!(moved, [(IkeId(1), ip(COA2), ip(HA)), (IkeId(2), ip(COA2), ip(HA2))].into());
}

/// mip6d is with the old home agent still when the kernel is read again: its tunnel is no reason to move SAs to either.
#[test]
fn reading_the_kernel_again_leaves_each_tunnel_with_its_home_agent() {
    let mut bench = node();
    use_address(&mut bench, 10, HA2, Cause::HOME_AGENT_SWITCH);
    let sas = vec![
        sa(0x12, ends(HA, COA1), Mode::Tunnel, 8, selector("::", HOA)),
        sa(0x112, ends(COA1, HA), Mode::Tunnel, 7, selector(HOA, "::")),
    ];
    bench.kernel(5000, KernelEvent::Resynchronised { policies: mobile_node_policies(COA1), sas });
    assert_eq!(bench.child_at(12), (ends(HA, COA1), ends(COA1, HA)));
    use watari_sa::Whereabouts as _;
    assert_eq!(bench.agent.core.places.sa_endpoints(PAYLOAD, km(COA1, HA2)), ends(COA1, HA2), "the next one goes to the one in force");
}

/// A new configuration names another address for the peer: what was learnt of our own end holds, the old address of the peer does not.
#[test]
fn a_changed_address_of_the_peer_is_called_although_the_old_one_was_remembered() {
    let mut bench = Bench::started(mobile_node(MobileNodeProfile::default()), mobile_node_policies(COA1), Vec::new());
    for (number, event) in (0u64..).zip(burst(COA1, COA2)) {
        bench.kernel(20 + number, KernelEvent::Migrate(event));
    }
    assert_eq!(bench.agent.core.places.remembered(RemoteId(0)), Some(km(COA2, HA)));
    let profile = MobileNodeProfile { home_agent: ip(HA3), ..MobileNodeProfile::default() };
    bench.input(100, Input::Command(CommandId(1), Command::Reload(mobile_node(profile).into())));
    let core = &bench.agent.core;
    let current = (0u32..).zip(&core.config.remotes).find(|(_, remote)| remote.remote_address == Some(ip(HA3))).expect("the new record");
    assert_eq!(core.places.remembered(RemoteId(current.0)), Some(km(COA2, HA3)));
}

#[test]
fn strangers_sent_on_are_counted() {
    let mut bench = node();
    for remote in [None, Some(RemoteId(0))] {
        let path = Path::between(ip(HA), ip(COA2), 500);
        bench.event(1000, KeyingEvent::SentOn { path, remote, to: "ha2.example".to_owned() });
    }
    assert_eq!(bench.agent.status(at(2000)).counters.sent_on, 2);
}

/// The kernel is read again while another home agent is tried, which leads nowhere: what stands there counts again.
#[test]
fn policies_are_known_again_after_an_address_that_did_not_serve() {
    let mut bench = node();
    tried(&mut bench, 10, HA2, Cause::PEER_SILENT);
    bench.kernel(20, KernelEvent::Resynchronised { policies: mobile_node_policies(COA1), sas: vec![] });
    use_address(&mut bench, 30, HA, Cause::PEER_SILENT);
    bench.requests.clear();
    bench.input(300_000, Input::Timeout);
    assert!(bench.requests.iter().any(|(_, request)| *request == KernelRequest::DumpPolicies), "{:?}", bench.requests);
    assert_eq!(told_of(&mut bench), []);
}

/// The same with policies of ours, which the kernel has, or has lost.
#[test]
fn own_policies_are_those_of_an_address_with_proof() {
    for lost in [false, true] {
        let mut bench = own();
        let entries = if lost { Vec::new() } else { own_entries(&bench) };
        tried(&mut bench, 10, HA2, Cause::REDIRECTED);
        bench.kernel(20, KernelEvent::Resynchronised { policies: entries, sas: vec![] });
        assert!(!holds(&bench, HA2), "nobody has proved anything there");
        use_address(&mut bench, 30, HA, Cause::PEER_SILENT);
        assert!(holds(&bench, HA) && !holds(&bench, HA2), "lost {lost}");
    }
}

/// Read from the kernel again in the middle of a switch, the policies of the home agent that is left still go with its IKE SA.
#[test]
fn own_policies_of_the_old_home_agent_go_although_the_kernel_was_read_again() {
    let mut bench = own();
    let entries = own_entries(&bench);
    tried(&mut bench, 10, HA2, Cause::OPERATOR);
    bench.kernel(20, KernelEvent::Resynchronised { policies: entries, sas: vec![] });
    up(&mut bench, 30, 2, HA2);
    bench.shared.lock().expect("one thread").ikes.retain(|ike| ike.id == IkeId(2));
    bench.requests.clear();
    ended(&mut bench, 40, 1);
    let gone = bench.requests.iter().filter(|(_, request)| matches!(request, KernelRequest::DeletePolicy { .. })).count();
    assert_eq!((gone, holds(&bench, HA), holds(&bench, HA2)), (2, false, true));
}

/// A new configuration while an address is tried without proof: the same record goes on trying, a changed one begins with what is known.
#[test]
fn a_new_configuration_takes_over_no_address_without_proof() {
    for changed in [false, true] {
        let mut bench = own();
        tried(&mut bench, 10, HA2, Cause::REDIRECTED);
        let mut new = config(Installer::Us);
        if changed {
            new.remotes[0].local_identity = watari_policies::Identity::Fqdn("other.example".into());
        }
        bench.input(20, Input::Command(CommandId(1), Command::Reload(Box::new(new))));
        bench.input(21, Input::Timeout);
        assert!(!holds(&bench, HA2), "changed {changed}");
        let core = &bench.agent.core;
        let current = core.config.remotes.iter().rfind(|remote| !crate::reload::is_retired(remote)).expect("the record");
        assert_eq!(current.remote_address, Some(ip(if changed { HA } else { HA2 })));
        assert_eq!(core.is_unproved(RemoteId(0)), !changed);
        assert!(holds(&bench, HA), "changed {changed}");
    }
}

/// An operator, or the home agent by a message of Mobile IPv6, chooses for Mobile IPv6 although a redirect in the session came before.
#[test]
fn a_choice_after_a_redirect_in_the_session_is_registered() {
    for cause in [Cause::OPERATOR, Cause::HOME_AGENT_SWITCH] {
        let mut bench = node();
        tried(&mut bench, 10, HA2, Cause::SESSION_REDIRECTED);
        tried(&mut bench, 20, HA3, cause);
        up(&mut bench, 30, 5, HA3);
        assert_eq!(told_of(&mut bench), [(ip(HA), ip(HA3), true)], "{cause}");
    }
}

/// What ends with the old home agent says nothing of whether the new one can be registered with.
#[test]
fn the_daemon_is_told_by_sas_with_the_home_agent_in_force_alone() {
    let mut bench = node();
    tried(&mut bench, 10, HA2, Cause::OPERATOR);
    bench.ike(5, 0, COA1, HA2);
    let being_made = |bench: &Bench, policies: &[PolicyId]| {
        let mut shared = bench.shared.lock().expect("one thread");
        shared.ikes.iter_mut().filter(|ike| ike.id == IkeId(5)).for_each(|ike| ike.negotiating = policies.to_vec());
    };
    being_made(&bench, &[BINDING]);
    came_up(&mut bench, 30, 5, HA2);
    bench.event(31, KeyingEvent::ChildDown { child: ChildId(12), policy: PAYLOAD, cause: Cause::EXPIRED });
    bench.event(32, KeyingEvent::ChildUp(ChildId(11)));
    assert_eq!(told_of(&mut bench), []);
    being_made(&bench, &[]);
    bench.event(33, KeyingEvent::WantFailed { policy: BINDING, cause: Cause::TRAFFIC_UNACCEPTABLE, detail: String::new() });
    assert_eq!(told_of(&mut bench), [(ip(HA), ip(HA2), true)], "none will come");
}
