//! Acts of packets: ACQUIRE and its suppression, which policy decides, which SA protects, what an inbound policy refuses.

use super::*;
use crate::{Acquire, Expire};

pub(super) const ACTS: &[Act] = &[
    Act {
        name: "acquire-once",
        sentence: "A packet without SA asks once; further packets are silent until the larval state expires with SPI 0, then the next asks again.",
        run: acquire_once,
    },
    Act { name: "acquire-answered", sentence: "The SA that answers an ACQUIRE takes the larval state's place.", run: acquire_answered },
    Act { name: "acquire-per-reqid", sentence: "Suppression is per template: another reqid asks for itself.", run: acquire_per_reqid },
    Act {
        name: "acquire-withdrawn",
        sentence: "An unanswered ACQUIRE of a tunnel blocks its MIGRATE (ENODATA) until its state got an SPI and was deleted; then the tunnel moves.",
        run: acquire_withdrawn,
    },
    Act { name: "sub-blocks", sentence: "A sub policy that blocks wins over a main policy that allows.", run: sub_blocks },
    Act { name: "sub-and-main", sentence: "A sub policy that allows leaves the main policy's templates in force.", run: sub_and_main },
    Act { name: "priority", sentence: "The lower priority number wins; of equals, the older policy.", run: priority },
    Act { name: "newest-sa", sentence: "Of two SAs that fit a template the newest protects.", run: newest_sa },
    Act {
        name: "sa-selector",
        sentence: "An SA whose selector does not fit the packet is passed over and an ACQUIRE is sent.",
        run: sa_selector,
    },
    Act {
        name: "inbound-policy",
        sentence: "A packet in clear is refused where an inbound policy demands ESP, and accepted where it does not.",
        run: inbound_policy,
    },
    Act {
        name: "inbound-type",
        sentence: "An inbound Mobility Header type behind no extension header is not read: a typed policy does not apply, an any-type policy does.",
        run: inbound_type,
    },
];

const OUT: Direction = Direction::Out;

fn acquires(events: &[KernelEvent]) -> Vec<Acquire> {
    let one = |event: &KernelEvent| match event {
        KernelEvent::Acquire(acquire) => Some(acquire.clone()),
        _ => None,
    };
    events.iter().filter_map(one).collect()
}

fn acquire_once(kernel: &mut dyn KernelUnderTest) -> Vec<String> {
    let mut seen = Differences::default();
    kernel.reset();
    let selector = mh(HOA, HA);
    let _ = kernel.set_policy(&policy(selector, OUT, 2, vec![transport(1)]));
    let _ = kernel.events();
    seen.expect("first packet", kernel.send(&mh_packet(HOA, HA, 5)), Sent::Nothing);
    let asked = acquires(&kernel.events());
    seen.expect("ACQUIREs", asked.len(), 1);
    let told: Option<(Selector, Reqid, Mode, Endpoints, u16)> =
        asked.first().map(|ask| (ask.policy, ask.template.reqid, ask.template.mode, ask.endpoints, ask.packet.sport.value));
    seen.expect("what is asked for", told, Some((selector, Reqid(1), Mode::Transport, ends(HOA, HA), 5)));
    seen.expect("second packet", kernel.send(&mh_packet(HOA, HA, 5)), Sent::Nothing);
    seen.expect("ACQUIREs for it", acquires(&kernel.events()).len(), 0);
    kernel.wait(kernel.larval_lifetime().saturating_add(Duration::from_secs(2)));
    let expired: Vec<(Spi, bool)> = expires(&kernel.events()).iter().map(|expire| (expire.id.spi, expire.hard)).collect();
    seen.expect("expiry of the larval state", expired, vec![(Spi(0), true)]);
    seen.expect("third packet", kernel.send(&mh_packet(HOA, HA, 5)), Sent::Nothing);
    seen.expect("ACQUIREs for the third packet", acquires(&kernel.events()).len(), 1);
    seen.0
}

fn expires(events: &[KernelEvent]) -> Vec<Expire> {
    let one = |event: &KernelEvent| match event {
        KernelEvent::Expire(expire) => Some(*expire),
        _ => None,
    };
    events.iter().filter_map(one).collect()
}

fn acquire_answered(kernel: &mut dyn KernelUnderTest) -> Vec<String> {
    let mut seen = Differences::default();
    kernel.reset();
    let _ = kernel.set_policy(&policy(mh(HOA, HA), OUT, 2, vec![transport(1)]));
    let _ = kernel.send(&mh_packet(HOA, HA, 5));
    let sequence = acquires(&kernel.events()).first().map_or(0, |acquire| acquire.sequence);
    let parameters = Box::new(sa(0x1001, Mode::Transport, 1, ends(HOA, HA), mh(HOA, HA)));
    let added = kernel.request(KernelRequest::AddSa { parameters, allocated: false, sequence });
    seen.expect("add", added.is_ok(), true);
    seen.expect("next packet", kernel.send(&mh_packet(HOA, HA, 5)), Sent::Esp(ends(HOA, HA), Spi(0x1001)));
    let left = match kernel.request(KernelRequest::DumpSas) {
        Ok(KernelReply::Sas(sas)) => sas.iter().map(|info| (info.spi, info.larval)).collect(),
        _ => Vec::new(),
    };
    seen.expect("states left", left, vec![(Spi(0x1001), false)]);
    kernel.wait(kernel.larval_lifetime().saturating_add(Duration::from_secs(2)));
    seen.expect("expiries", expires(&kernel.events()).len(), 0);
    seen.0
}

fn acquire_per_reqid(kernel: &mut dyn KernelUnderTest) -> Vec<String> {
    let mut seen = Differences::default();
    kernel.reset();
    let _ = kernel.set_policy(&policy(mh(HOA, HA), OUT, 2, vec![transport(1)]));
    let _ = kernel.set_policy(&policy(host_pair(HOA, HA).protocol(17), OUT, 5, vec![transport(3)]));
    let _ = kernel.events();
    let _ = kernel.send(&mh_packet(HOA, HA, 5));
    let _ = kernel.send(&udp_packet(HOA, HA, 4000));
    let asked: Vec<Reqid> = acquires(&kernel.events()).iter().map(|acquire| acquire.template.reqid).collect();
    seen.expect("ACQUIREs", asked, vec![Reqid(1), Reqid(3)]);
    seen.0
}

fn acquire_withdrawn(kernel: &mut dyn KernelUnderTest) -> Vec<String> {
    let mut seen = Differences::default();
    kernel.reset();
    let (selector, old, new) = (host_pair(HOA, HA), ends(COA1, HA), ends(COA2, HA));
    let _ = kernel.set_policy(&policy(selector, OUT, 13, vec![tunnel(7, old)]));
    let _ = kernel.send(&udp_packet(HOA, HA, 4000));
    seen.expect("ACQUIREs", acquires(&kernel.events()).len(), 1);
    let request = migrate(selector, OUT, step(Mode::Tunnel, 7, old, new));
    seen.expect("under the larval state", kernel.migrate(&request), Err(crate::mirror::ENODATA));
    let reserve = KernelRequest::AllocateSpi { endpoints: old, protocol: Protocol::Esp, mode: Mode::Tunnel, reqid: Reqid(7) };
    if let Ok(KernelReply::Spi(spi)) = kernel.request(reserve) {
        let _ = kernel.request(KernelRequest::DeleteSa(SaId { dst: HA, protocol: Protocol::Esp, spi }));
    }
    seen.expect("after it was deleted", kernel.migrate(&request), Ok(()));
    let _ = kernel.events();
    let _ = kernel.send(&udp_packet(HOA, HA, 4000));
    let asked: Vec<Endpoints> = acquires(&kernel.events()).iter().map(|acquire| acquire.endpoints).collect();
    seen.expect("the next ACQUIRE", asked, vec![new]);
    seen.0
}

fn sub_blocks(kernel: &mut dyn KernelUnderTest) -> Vec<String> {
    let mut seen = Differences::default();
    kernel.reset();
    let _ = kernel.set_policy(&policy(host_pair(HOA, HA), OUT, 1, Vec::new()));
    let _ = kernel.set_policy(&block(host_pair(HOA, HA), OUT, 4, PolicyKind::Sub));
    seen.expect("under the block", kernel.send(&udp_packet(HOA, HA, 4000)), Sent::Nothing);
    let _ = kernel.delete_policy(&host_pair(HOA, HA), OUT, PolicyKind::Sub);
    seen.expect("after it", kernel.send(&udp_packet(HOA, HA, 4000)), Sent::Clear);
    seen.0
}

fn sub_and_main(kernel: &mut dyn KernelUnderTest) -> Vec<String> {
    let mut seen = Differences::default();
    kernel.reset();
    let allow = PolicyEntry { kind: PolicyKind::Sub, ..policy(host_pair(HOA, HA), OUT, 12, Vec::new()) };
    let _ = kernel.set_policy(&allow);
    seen.expect("sub alone", kernel.send(&udp_packet(HOA, HA, 4000)), Sent::Clear);
    let _ = kernel.set_policy(&policy(host_pair(HOA, HA), OUT, 13, vec![tunnel(7, ends(COA1, HA))]));
    let _ = install(kernel, sa(0x1001, Mode::Tunnel, 7, ends(COA1, HA), host_pair(HOA, HA)));
    seen.expect("sub and main", kernel.send(&udp_packet(HOA, HA, 4000)), Sent::Esp(ends(COA1, HA), Spi(0x1001)));
    seen.0
}

fn priority(kernel: &mut dyn KernelUnderTest) -> Vec<String> {
    let mut seen = Differences::default();
    kernel.reset();
    let wide = Selector::between(HOA.into(), HA.into());
    let narrow = wide.protocol(17);
    let _ = kernel.set_policy(&policy(narrow, OUT, 10, Vec::new()));
    let _ = kernel.set_policy(&block(wide, OUT, 10, PolicyKind::Main));
    seen.expect("equal: the older allows", kernel.send(&udp_packet(HOA, HA, 4000)), Sent::Clear);
    let _ = kernel.delete_policy(&wide, OUT, PolicyKind::Main);
    let _ = kernel.set_policy(&block(wide, OUT, 9, PolicyKind::Main));
    seen.expect("lower: the newer blocks", kernel.send(&udp_packet(HOA, HA, 4000)), Sent::Nothing);
    seen.0
}

fn newest_sa(kernel: &mut dyn KernelUnderTest) -> Vec<String> {
    let mut seen = Differences::default();
    kernel.reset();
    let _ = kernel.set_policy(&policy(mh(HOA, HA), OUT, 2, vec![transport(1)]));
    let _ = install(kernel, sa(0x1001, Mode::Transport, 1, ends(HOA, HA), mh(HOA, HA)));
    // The kernel compares ages in whole seconds.
    kernel.wait(Duration::from_millis(1100));
    let _ = install(kernel, sa(0x1002, Mode::Transport, 1, ends(HOA, HA), mh(HOA, HA)));
    seen.expect("two SAs", kernel.send(&mh_packet(HOA, HA, 5)), Sent::Esp(ends(HOA, HA), Spi(0x1002)));
    let _ = kernel.request(KernelRequest::DeleteSa(SaId { dst: HA, protocol: Protocol::Esp, spi: Spi(0x1002) }));
    seen.expect("the older again", kernel.send(&mh_packet(HOA, HA, 5)), Sent::Esp(ends(HOA, HA), Spi(0x1001)));
    seen.0
}

fn sa_selector(kernel: &mut dyn KernelUnderTest) -> Vec<String> {
    let mut seen = Differences::default();
    kernel.reset();
    let _ = kernel.set_policy(&policy(mh(HOA, HA), OUT, 2, vec![transport(1)]));
    let _ = install(kernel, sa(0x1001, Mode::Transport, 1, ends(HOA, HA), mh(HOA, HA).message_type(5)));
    let _ = kernel.events();
    seen.expect("the SA's type", kernel.send(&mh_packet(HOA, HA, 5)), Sent::Esp(ends(HOA, HA), Spi(0x1001)));
    seen.expect("another type", kernel.send(&mh_packet(HOA, HA, 1)), Sent::Nothing);
    seen.expect("ACQUIREs", acquires(&kernel.events()).len(), 1);
    seen.0
}

fn inbound_policy(kernel: &mut dyn KernelUnderTest) -> Vec<String> {
    let mut seen = Differences::default();
    kernel.reset();
    let packet = udp_packet(HA, HOA, 4000);
    seen.expect("no policy", kernel.arrive(&packet), true);
    let forward = policy(host_pair(HA, HOA), Direction::Forward, 13, vec![tunnel(8, ends(HA, COA1))]);
    let _ = kernel.set_policy(&forward);
    seen.expect("a forward policy is not for us", kernel.arrive(&packet), true);
    let _ = kernel.set_policy(&policy(host_pair(HA, HOA), Direction::In, 13, vec![tunnel(8, ends(HA, COA1))]));
    seen.expect("a policy that demands ESP", kernel.arrive(&packet), false);
    let _ = kernel.set_policy(&policy(host_pair(HA, HOA).protocol(17), Direction::In, 3, Vec::new()));
    seen.expect("an exemption before it", kernel.arrive(&packet), true);
    seen.0
}

fn inbound_type(kernel: &mut dyn KernelUnderTest) -> Vec<String> {
    let mut seen = Differences::default();
    kernel.reset();
    let typed = mh(HA, HOA).message_type(6);
    let _ = kernel.set_policy(&policy(typed, Direction::In, 2, vec![transport(2)]));
    seen.expect("a typed policy", kernel.arrive(&mh_packet(HA, HOA, 6)), true);
    let _ = kernel.set_policy(&policy(mh(HA, HOA), Direction::In, 2, vec![transport(2)]));
    seen.expect("an any-type policy", kernel.arrive(&mh_packet(HA, HOA, 6)), false);
    seen.0
}
