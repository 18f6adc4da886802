use super::*;
use crate::selector::{Direction, ICMPV6, PortMask, Selector};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn item(range: &str, protocol: u8, ports: Ports) -> TrafficItem {
    TrafficItem { range: net(range).into(), protocol, ports }
}

const HOA: &str = "2001:db8:1::abcd/128";
const HA: &str = "2001:db8:1::1/128";

/// RFC 4877 7.2.1: BU from the mobile node, BA from the home agent.
fn binding() -> Traffic {
    Traffic::new(item(HOA, 135, Ports::mh_type(5)), item(HA, 135, Ports::mh_type(6)))
}

fn selector(src: &str, dst: &str, protocol: u8, sport: PortMask, dport: PortMask) -> Selector {
    Selector { src: net(src), dst: net(dst), protocol, sport, dport }
}

fn only(traffic: &Traffic, direction: Direction) -> Selector {
    let selectors = traffic.kernel_selectors(direction, true);
    assert_eq!(selectors.policies, [selectors.sa]);
    selectors.sa
}

#[test]
fn any_opaque_and_ranges() {
    let http = Ports::one(80);
    assert_eq!(Ports::ANY.intersect(Ports::OPAQUE), Some(Ports::OPAQUE));
    assert_eq!(Ports::OPAQUE.intersect(Ports::OPAQUE), Some(Ports::OPAQUE));
    assert_eq!(http.intersect(Ports::OPAQUE), None);
    assert_eq!(http.intersect(Ports::ANY), Some(http));
    assert_eq!(Ports { start: 10, end: 90 }.intersect(Ports { start: 80, end: 100 }), Some(Ports { start: 80, end: 90 }));
    assert_eq!(Ports { start: 9, end: 3 }.intersect(Ports::ANY), None);
    assert!(Ports::ANY.covers(Ports::OPAQUE) && !http.covers(Ports::OPAQUE) && !Ports::OPAQUE.covers(http));
    assert!(Ports::ANY.is_any() && !Ports::ANY.is_opaque() && Ports::OPAQUE.is_opaque());
    assert!(Ports::ANY.contains(0) && http.contains(80) && !http.contains(81) && !Ports::OPAQUE.contains(65535));
    assert!(!Ports::ANY.covers(Ports { start: 9, end: 3 }));
}

#[test]
fn wire_values_of_rfc_7296_3_13_1() {
    assert_eq!(Ports::mh_type(5), Ports::one(0x0500));
    assert_eq!(Ports::mh_types(5, 6), Ports { start: 0x0500, end: 0x0600 });
    assert_eq!(Ports::icmp(146, None), Ports { start: 0x9200, end: 0x92ff });
    assert_eq!(Ports::icmp(1, Some(4)), Ports::one(0x0104));
}

#[test]
fn protocol_zero_takes_the_protocol_of_the_other() {
    let any = item("2001:db8::/32", 0, Ports::ANY);
    let bu = item(HOA, 135, Ports::mh_type(5));
    assert_eq!(any.intersect(&bu), Some(bu));
    assert_eq!(bu.intersect(&any), Some(bu));
    assert!(any.covers(&bu) && !bu.covers(&any));
    assert_eq!(bu.intersect(&item(HOA, 58, Ports::ANY)), None);
    assert_eq!(any.intersect(&item("10.0.0.0/8", 0, Ports::ANY)), None);
}

#[test]
fn a_peer_that_fills_the_low_octet_means_the_same_mh_type() {
    let ours = item(HOA, 135, Ports::mh_type(5));
    let theirs = item(HOA, 135, Ports { start: 0x0500, end: 0x05ff });
    assert_eq!(ours.intersect(&theirs), Some(ours));
    assert!(ours.covers(&theirs));
    let range = item(HOA, 135, Ports { start: 0x0500, end: 0x06ff });
    assert_eq!(range.intersect(&item(HOA, 135, Ports::ANY)).map(|both| both.ports), Some(Ports::mh_types(5, 6)));
    // strongSwan's unshifted type is no type at all.
    assert_eq!(ours.intersect(&item(HOA, 135, Ports::one(5))), None);
    assert!(!item(HOA, 135, Ports::ANY).covers(&item(HOA, 135, Ports::one(5))));
}

#[test]
fn intersection_narrows_both_sides_and_drops_repetition() {
    let peer = Traffic {
        local: vec![item(HOA, 135, Ports::mh_type(5)), item(HOA, 135, Ports::ANY), item(HOA, 0, Ports::ANY)],
        remote: vec![item(HA, 135, Ports::ANY), item("::/0", 0, Ports::ANY)],
    };
    let both = binding().intersect(&peer).unwrap();
    assert_eq!(both, binding());
    assert!(peer.covers(&both) && binding().covers(&both) && !binding().covers(&peer));
    assert_eq!(binding().intersect(&binding().reversed()), None);
    // Protocols that never meet in one packet are no traffic.
    let mh = Traffic::new(item(HOA, 135, Ports::ANY), item(HA, 0, Ports::ANY));
    let icmp = Traffic::new(item(HOA, 0, Ports::ANY), item(HA, 58, Ports::ANY));
    assert_eq!(mh.intersect(&icmp), None);
}

#[test]
fn a_hostile_number_of_items_stays_bounded() {
    let many = |count: u16| (0..count).map(|port| item(HOA, 17, Ports::one(port))).collect::<Vec<_>>();
    let ours = Traffic { local: many(400), remote: vec![item(HA, 17, Ports::ANY)] };
    assert_eq!(ours.intersect(&ours).unwrap().local.len(), 255);
    let odd = AddressRange { start: ip("::1"), end: ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe") };
    let item = TrafficItem { range: odd, protocol: 17, ports: Ports { start: 1, end: 65534 } };
    let worst = Traffic { local: vec![item; 255], remote: vec![item; 255] };
    let selectors = worst.kernel_selectors(Direction::Out, true);
    assert_eq!(selectors.policies, [selectors.sa]);
    assert_eq!(selectors.sa, Selector::between(net("::/0"), net("::/0")).protocol(17));
}

#[test]
fn kernel_selectors_are_those_of_mip6d() {
    // FACTS 2.1: out HoA->HA MH type 5, in HA->HoA MH type 6, both in sport, dport masked away.
    assert_eq!(only(&binding(), Direction::Out), Selector::between(net(HOA), net(HA)).protocol(135).message_type(5));
    assert_eq!(only(&binding(), Direction::In), Selector::between(net(HA), net(HOA)).protocol(135).message_type(6));
    let agent = binding().reversed();
    assert_eq!(only(&agent, Direction::In), only(&binding(), Direction::Out));
    let prefix = Traffic::new(item(HOA, ICMPV6, Ports::icmp(146, None)), item(HA, ICMPV6, Ports::icmp(147, None)));
    assert_eq!(only(&prefix, Direction::Out), selector(HOA, HA, 58, PortMask::exact(146), PortMask::ANY));
    assert_eq!(only(&prefix, Direction::In), selector(HA, HOA, 58, PortMask::exact(147), PortMask::ANY));
    let homing = Traffic::new(item(HOA, 135, Ports::mh_type(1)), item("::/0", 135, Ports::mh_type(3)));
    assert_eq!(only(&homing, Direction::Out), Selector::between(net(HOA), net("::/0")).protocol(135).message_type(1));
    assert_eq!(only(&homing, Direction::Forward), Selector::between(net("::/0"), net(HOA)).protocol(135).message_type(3));
    let payload = Traffic::new(item(HOA, 0, Ports::ANY), item("::/0", 0, Ports::ANY));
    assert_eq!(only(&payload, Direction::Out), Selector::between(net(HOA), net("::/0")));
    let any_mh = Traffic::new(item(HOA, 135, Ports::ANY), item(HA, 0, Ports::ANY));
    assert_eq!(only(&any_mh, Direction::In), Selector::between(net(HA), net(HOA)).protocol(135));
}

#[test]
fn icmp_codes_go_to_dport() {
    let unreachable = Traffic::new(item(HOA, 58, Ports::icmp(1, Some(4))), item(HA, 58, Ports::ANY));
    assert_eq!(only(&unreachable, Direction::Out), selector(HOA, HA, 58, PortMask::exact(1), PortMask::exact(4)));
    assert_eq!(only(&unreachable, Direction::In), selector(HA, HOA, 58, PortMask::ANY, PortMask::ANY));
    // Type 1 from code 5, the whole of types 2 and 3, type 4 up to code 0.
    let odd = Traffic::new(item(HOA, 58, Ports { start: 0x01fe, end: 0x0400 }), item(HA, 58, Ports::ANY));
    let policies = odd.kernel_selectors(Direction::Out, true).policies;
    let pairs: Vec<_> = policies.iter().map(|found| (found.sport, found.dport)).collect();
    let two_to_three = PortMask { value: 2, mask: 0xfffe };
    assert_eq!(
        pairs,
        [
            (PortMask::exact(1), PortMask { value: 0xfe, mask: 0xfffe }),
            (two_to_three, PortMask::ANY),
            (PortMask::exact(4), PortMask::exact(0))
        ]
    );
}

#[test]
fn a_kernel_blind_to_mh_types_gets_protocol_only_selectors_inbound() {
    let out = binding().kernel_selectors(Direction::Out, false);
    assert_eq!(out.sa.sport, PortMask::exact(5));
    for direction in [Direction::In, Direction::Forward] {
        let inbound = binding().kernel_selectors(direction, false);
        assert_eq!(inbound.sa, Selector::between(net(HA), net(HOA)).protocol(135));
        assert_eq!(inbound.policies, [inbound.sa]);
    }
    let prefix = Traffic::new(item(HOA, 58, Ports::icmp(146, None)), item(HA, 58, Ports::icmp(147, None)));
    assert_eq!(prefix.kernel_selectors(Direction::In, false).sa.sport, PortMask::exact(147));
}

#[test]
fn a_range_of_types_that_is_no_mask_is_one_policy_per_type() {
    let range = Ports::mh_types(5, 6);
    let both = Traffic::new(item(HOA, 135, range), item(HA, 135, range));
    let out = both.kernel_selectors(Direction::Out, true);
    let base = Selector::between(net(HOA), net(HA)).protocol(135);
    assert_eq!(out.sa, base);
    assert_eq!(out.policies, [base.message_type(5), base.message_type(6)]);
    let mask = Traffic::new(item(HOA, 135, Ports::mh_types(4, 7)), item(HA, 135, range));
    assert_eq!(only(&mask, Direction::Out).sport, PortMask { value: 4, mask: 0xfffc });
}

#[test]
fn opaque_sends_and_does_not_receive() {
    let one_way = Traffic::new(item(HOA, 135, Ports::mh_type(5)), item(HA, 135, Ports::OPAQUE));
    assert_eq!(one_way.kernel_selectors(Direction::Out, true).policies.len(), 1);
    let inbound = one_way.kernel_selectors(Direction::In, true);
    assert_eq!(inbound.sa, Selector::between(net(HA), net(HOA)).protocol(135));
    assert!(inbound.policies.is_empty());
}

#[test]
fn port_ranges_become_masks() {
    let web = Traffic::new(item(HOA, 6, Ports::ANY), item(HA, 6, Ports { start: 8080, end: 8087 }));
    assert_eq!(only(&web, Direction::Out), selector(HOA, HA, 6, PortMask::ANY, PortMask { value: 8080, mask: 0xfff8 }));
    assert_eq!(only(&web, Direction::In), selector(HA, HOA, 6, PortMask { value: 8080, mask: 0xfff8 }, PortMask::ANY));
    let odd = Traffic::new(item(HOA, 17, Ports::ANY), item(HA, 17, Ports { start: 1, end: 65535 }));
    let out = odd.kernel_selectors(Direction::Out, true);
    assert_eq!(out.sa.dport, PortMask::ANY);
    assert_eq!(out.policies.len(), 16);
    for port in 0..=65535u16 {
        let matching = out.policies.iter().filter(|policy| policy.dport.matches(port)).count();
        assert_eq!(matching, usize::from(port >= 1), "port {port}");
    }
}

#[test]
fn address_ranges_become_prefixes_and_one_covering_prefix() {
    let range = AddressRange { start: ip("2001:db8::1"), end: ip("2001:db8::4") };
    let traffic = Traffic::new(TrafficItem::any(range), item(HA, 0, Ports::ANY));
    let out = traffic.kernel_selectors(Direction::Out, true);
    assert_eq!(out.sa.src, net("2001:db8::/125"));
    let sources: Vec<_> = out.policies.iter().map(|policy| policy.src.to_string()).collect();
    assert_eq!(sources, ["2001:db8::1/128", "2001:db8::2/127", "2001:db8::4/128"]);
}

#[test]
fn sa_of_several_items_covers_them_all() {
    let traffic =
        Traffic { local: vec![item(HOA, 0, Ports::ANY)], remote: vec![item(HA, 6, Ports::one(80)), item(HA, 17, Ports::one(80))] };
    let out = traffic.kernel_selectors(Direction::Out, true);
    assert_eq!(out.sa, Selector::between(net(HOA), net(HA)));
    assert_eq!(out.policies.len(), 2);
}

#[test]
fn a_packet_becomes_wire_form() {
    // The ACQUIRE of FACTS 3.3 has dport 0/ffff.
    let packet = selector(HOA, HA, 135, PortMask::exact(5), PortMask::exact(0));
    let traffic = Traffic::from_packet(&packet);
    assert_eq!(traffic, Traffic::new(item(HOA, 135, Ports::mh_type(5)), item(HA, 135, Ports::ANY)));
    assert_eq!(binding().intersect(&traffic), Some(binding()));
    let echo = Traffic::from_packet(&selector(HOA, HA, 58, PortMask::exact(128), PortMask::exact(0)));
    assert_eq!(echo.local, [item(HOA, 58, Ports::icmp(128, Some(0)))]);
    let dns = Traffic::from_packet(&selector(HOA, HA, 17, PortMask::exact(4000), PortMask::exact(53)));
    assert_eq!(dns, Traffic::new(item(HOA, 17, Ports::one(4000)), item(HA, 17, Ports::one(53))));
    let all = Traffic::from_packet(&Selector::between(net(HOA), net("::/0")));
    assert_eq!(all, Traffic::new(item(HOA, 0, Ports::ANY), item("::/0", 0, Ports::ANY)));
    assert_eq!(
        Traffic::from_packet(&selector(HOA, HA, 6, PortMask { value: 5, mask: 0x0f0f }, PortMask::ANY)).local,
        [item(HOA, 6, Ports::ANY)]
    );
}

#[test]
fn display_is_for_people() {
    assert_eq!(binding().to_string(), "2001:db8:1::abcd/128 mobility-header BU <-> 2001:db8:1::1/128 mobility-header BA");
    assert_eq!(item(HA, 58, Ports::icmp(146, None)).to_string(), "2001:db8:1::1/128 icmpv6 MPS");
    assert_eq!(item(HA, 58, Ports::icmp(1, Some(4))).to_string(), "2001:db8:1::1/128 icmpv6 1 code 4");
    assert_eq!(item(HA, 135, Ports::mh_types(5, 6)).to_string(), "2001:db8:1::1/128 mobility-header BU-BA");
    assert_eq!(item("10.0.0.0/8", 6, Ports { start: 80, end: 90 }).to_string(), "10.0.0.0/8 tcp 80-90");
    assert_eq!(item("::/0", 47, Ports::ANY).to_string(), "::/0 protocol 47");
    assert_eq!(item("::/0", 135, Ports::OPAQUE).to_string(), "::/0 mobility-header opaque");
    let range = AddressRange { start: ip("10.0.0.1"), end: ip("10.0.0.4") };
    assert_eq!(TrafficItem::any(range).to_string(), "10.0.0.1-10.0.0.4");
}
