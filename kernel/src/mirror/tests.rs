//! Two mirrors, mobile node and home agent, exchange protected packets.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use watari_policies::algorithm::{ChildSuite, Cipher};
use watari_policies::selector::MOBILITY_HEADER;
use watari_policies::{Direction, Mode, Protocol, Reqid, Secret, Selector};

use super::acts::{COA1, HA, HOA};
use super::*;
use crate::{PolicyAction, PolicyIndex, SaKeys, SaLifetime, Template};

const ANY: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
const CN: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0, 0xc));

struct Pair {
    mn: Mirror,
    ha: Mirror,
}

fn between(src: IpAddr, dst: IpAddr) -> Endpoints {
    Endpoints { src, dst }
}

fn any() -> IpNet {
    IpNet::new(ANY, 0).unwrap()
}

fn entry(selector: Selector, direction: Direction, kind: PolicyKind, priority: u32, templates: Vec<Template>) -> PolicyEntry {
    PolicyEntry { selector, direction, kind, index: PolicyIndex(0), priority, action: PolicyAction::Allow, templates }
}

fn route(ip_protocol: u8) -> Template {
    let endpoints = between(ANY, ANY);
    Template { protocol: None, ip_protocol, mode: Mode::Transport, reqid: Reqid(0), endpoints, optional: ip_protocol == ROUTE2 }
}

fn sa(spi: u32, mode: Mode, reqid: u32, endpoints: Endpoints, selector: Selector, key: u8) -> Box<SaParameters> {
    Box::new(SaParameters {
        id: SaId { dst: endpoints.dst, protocol: Protocol::Esp, spi: Spi(spi) },
        src: endpoints.src,
        mode,
        reqid: Reqid(reqid),
        selector,
        keys: SaKeys {
            suite: ChildSuite { cipher: Cipher::AES128GCM16, integrity: None, esn: false },
            encryption: Secret::new(vec![key; 20]),
            integrity: Secret::default(),
        },
        replay_window: 32,
        lifetime: SaLifetime::default(),
        encapsulation: None,
    })
}

/// Mobile node away: BU under transport ESP with HAO, payload in tunnels, as mip6d sets it up; `mh` is the binding update's selector.
fn pair(model: Model, mh: Selector) -> Pair {
    let now = Now::default();
    let (mut mn, mut ha) = (Mirror::new(model, 0x1000), Mirror::new(model, 0x2000));
    let own = |address| AddressEvent { interface: 2, address, prefix_len: 64, present: true, flags: AddressFlags::default() };
    mn.address(own(HOA));
    mn.address(own(COA1));
    ha.address(own(HA));
    let esp = Template::esp(Mode::Transport, Reqid(1), between(ANY, ANY));
    let mh_any = Selector::between(HOA.into(), HA.into()).protocol(MOBILITY_HEADER);
    let payload = Selector::between(HOA.into(), any());
    let tunnel = Template::esp(Mode::Tunnel, Reqid(7), between(COA1, HA));
    mn.set_policy(entry(mh, Direction::Out, PolicyKind::Main, 2, vec![esp]));
    mn.set_policy(entry(mh_any, Direction::Out, PolicyKind::Sub, 2, vec![route(HAO)]));
    mn.set_policy(entry(payload, Direction::Out, PolicyKind::Main, 13, vec![tunnel]));
    mn.set_mobility_state(now, &MobilityState { ip_protocol: HAO, endpoints: between(HOA, HA), care_of: COA1 });
    ha.set_policy(entry(mh, Direction::In, PolicyKind::Main, 2, vec![esp]));
    ha.set_policy(entry(mh_any, Direction::In, PolicyKind::Sub, 9, vec![Template { optional: false, ..route(HAO) }]));
    ha.set_policy(entry(payload, Direction::In, PolicyKind::Main, 13, vec![tunnel]));
    ha.set_policy(entry(payload, Direction::Forward, PolicyKind::Main, 13, vec![tunnel]));
    ha.set_mobility_state(now, &MobilityState { ip_protocol: HAO, endpoints: between(ANY, HA), care_of: ANY });
    for mirror in [&mut mn, &mut ha] {
        mirror.add_sa(now, &sa(0x1, Mode::Transport, 1, between(HOA, HA), mh_any, 1), false, 0).unwrap();
        mirror.add_sa(now, &sa(0x2, Mode::Tunnel, 7, between(COA1, HA), payload, 2), false, 0).unwrap();
    }
    Pair { mn, ha }
}

fn any_type() -> Selector {
    Selector::between(HOA.into(), HA.into()).protocol(MOBILITY_HEADER)
}

fn update() -> Packet {
    Packet::clear(HOA, HA, Upper { protocol: MOBILITY_HEADER, sport: 5, dport: 0, payload: vec![1] })
}

fn ping(to: IpAddr) -> Packet {
    Packet::clear(HOA, to, Upper { protocol: 58, sport: 128, dport: 0, payload: vec![2] })
}

fn sent(mirror: &mut Mirror, packet: Packet) -> Packet {
    let departure = mirror.output(Now::default(), packet);
    assert!(matches!(departure, Departure::Protected(_)), "{departure:?}");
    departure.packet().unwrap()
}

#[test]
fn a_binding_update_leaves_from_the_care_of_address_and_arrives_from_the_home_address() {
    let mut hosts = pair(Model::Linux6_12, any_type());
    let wire = sent(&mut hosts.mn, update());
    assert_eq!((wire.src, wire.hao, wire.is_protected()), (COA1, Some(HOA), true));
    assert_eq!(wire.innermost(), update());
    assert_eq!(hosts.ha.input(Now::default(), wire), Arrival::Delivered(update()));
}

#[test]
fn payload_is_tunnelled_and_forwarded() {
    let mut hosts = pair(Model::Linux6_1, any_type());
    let wire = sent(&mut hosts.mn, ping(CN));
    assert_eq!((wire.src, wire.dst), (COA1, HA));
    assert_eq!(hosts.ha.input(Now::default(), wire), Arrival::Forward(ping(CN)));
    let wire = sent(&mut hosts.mn, ping(HA));
    assert_eq!(hosts.ha.input(Now::default(), wire), Arrival::Delivered(ping(HA)));
}

#[test]
fn a_replay_another_key_and_an_unknown_spi_are_dropped() {
    let mut hosts = pair(Model::Linux6_1, any_type());
    let wire = sent(&mut hosts.mn, update());
    assert!(matches!(hosts.ha.input(Now::default(), wire.clone()), Arrival::Delivered(_)));
    assert_eq!(hosts.ha.input(Now::default(), wire), Arrival::Dropped(Counter::XfrmInStateSeqError));
    let id = SaId { dst: HA, protocol: Protocol::Esp, spi: Spi(1) };
    hosts.ha.delete_sa(id);
    let wire = sent(&mut hosts.mn, update());
    assert_eq!(hosts.ha.input(Now::default(), wire), Arrival::Dropped(Counter::XfrmInNoStates));
    hosts.ha.add_sa(Now::default(), &sa(1, Mode::Transport, 1, between(HOA, HA), any_type(), 9), false, 0).unwrap();
    let wire = sent(&mut hosts.mn, update());
    assert_eq!(hosts.ha.input(Now::default(), wire), Arrival::Dropped(Counter::XfrmInStateProtoError));
    assert_eq!(hosts.ha.counters().get(Counter::XfrmInNoStates), 1);
}

#[test]
fn a_forged_binding_update_is_refused_by_an_any_type_policy() {
    for (model, hao) in [(Model::Linux6_1, true), (Model::Linux6_1, false), (Model::Linux6_12, true), (Model::Linux6_12, false)] {
        let mut hosts = pair(model, any_type());
        let mut forged = update();
        if hao {
            forged = Packet { src: CN, hao: Some(HOA), ..forged };
        }
        assert_eq!(hosts.ha.input(Now::default(), forged), Arrival::Dropped(Counter::XfrmInTmplMismatch), "{model:?} {hao}");
    }
}

#[test]
fn a_typed_policy_beside_the_payload_tunnel_loses_the_update_sent_at_home() {
    let mut hosts = pair(Model::Linux6_1, any_type().message_type(5));
    let wire = sent(&mut hosts.mn, update());
    assert!(matches!(hosts.ha.input(Now::default(), wire), Arrival::Delivered(_)), "away the type is read");
    hosts.mn.delete_policy(&any_type(), Direction::Out, PolicyKind::Sub).unwrap();
    hosts.mn.delete_mobility_state(&MobilityState { ip_protocol: HAO, endpoints: between(HOA, HA), care_of: COA1 });
    hosts.ha.delete_policy(&any_type(), Direction::In, PolicyKind::Sub).unwrap();
    let wire = sent(&mut hosts.mn, update());
    assert_eq!(hosts.ha.input(Now::default(), wire), Arrival::Dropped(Counter::XfrmInTmplMismatch));
}

#[test]
fn nobody_is_asked_while_nobody_listens() {
    let mut hosts = pair(Model::Linux6_1, any_type());
    hosts.mn.listen(false);
    hosts.mn.flush_sas();
    let departure = hosts.mn.output(Now::default(), ping(CN));
    assert_eq!(departure, Departure::Dropped { counter: Counter::XfrmOutNoStates, acquire: false });
    assert!(matches!(hosts.mn.poll(), BackendOutput::Wait(None)));
}

#[test]
fn a_kame_kernel_moves_every_sa_of_a_tunnel_by_reqid_and_tells_pf_key_alone() {
    let Pair { mut mn, .. } = pair(Model::Linux6_1, any_type());
    let payload = Selector::between(HOA.into(), any());
    let elsewhere = between(super::acts::COA2, HA);
    mn.add_sa(Now::default(), &sa(0x3, Mode::Tunnel, 7, between(HOA, HA), payload, 3), false, 0).unwrap();
    while !matches!(mn.poll(), BackendOutput::Wait(_)) {}
    let step = |mode, reqid, new| crate::MigrateStep { protocol: Protocol::Esp, mode, reqid: Reqid(reqid), old: between(COA1, HA), new };
    let request =
        |selector, step| MigrateRequest { selector, direction: Direction::Out, kind: PolicyKind::Main, steps: vec![step], kmaddress: None };
    mn.rebind(&request(payload, step(Mode::Tunnel, 7, elsewhere)), Rebound::Migrate).unwrap();
    let at = |mirror: &Mirror, spi| mirror.sas().iter().find(|sa| sa.spi == Spi(spi)).map(|sa| (sa.src, sa.dst));
    assert_eq!((at(&mn, 2), at(&mn, 3)), (Some((super::acts::COA2, HA)), Some((super::acts::COA2, HA))), "not by the old address");
    assert_eq!(at(&mn, 1), Some((HOA, HA)));
    let BackendOutput::Event(KernelEvent::Migrate(told)) = mn.poll() else { panic!("MIGRATE") };
    assert_eq!((told.source, told.kmaddress, told.steps[0].new), (crate::MigrateSource::PfKey, None, elsewhere));
    assert!(matches!(mn.poll(), BackendOutput::Wait(_)), "once");
    assert!(mn.rebind(&request(any_type(), step(Mode::Transport, 1, elsewhere)), Rebound::Migrate).is_err(), "transport policies never");
    mn.rebind(&request(payload, step(Mode::Tunnel, 7, between(COA1, HA))), Rebound::PolicyUpdate).unwrap();
    let BackendOutput::Event(KernelEvent::PolicyChanged(entry)) = mn.poll() else { panic!("SPDUPDATE") };
    assert_eq!(entry.templates[0].endpoints, between(COA1, HA));
    mn.quietly(|mirror| mirror.delete_policy(&payload, Direction::Out, PolicyKind::Main)).unwrap();
    assert!(matches!(mn.poll(), BackendOutput::Wait(_)), "nobody is told");
}
