//! What the back end hears: ACQUIRE and EXPIRE, what strangers do to SAs and policies, addresses.

use std::net::UdpSocket;
use std::thread::sleep;
use std::time::Duration;

use watari_kernel::{AddressEvent, KernelEvent, KernelRequest, Migrate, MigrateSource, MigrateStep, SaLifetime, Spi, Template};
use watari_pfkey::Dialect;
use watari_policies::algorithm::Cipher;
use watari_policies::{Direction, Mode, Protocol, Reqid};
use watari_sys::{NetlinkFamily, NetlinkSocket};

use super::world::{COA, COA2, HA, HOA, World, add, address, between, ends, host, ip, policy, sa};
use crate::uml::{Context, Result};

pub(super) fn acquire_and_expire(world: &mut World) -> Result<()> {
    std::fs::write("/proc/sys/net/core/xfrm_acq_expires", "2").context("xfrm_acq_expires")?;
    for words in ["link set eth0 up", "address add 2001:db8:1::abcd/64 dev eth0 nodad"] {
        ip(words)?;
    }
    let selector = between(&host(HOA), &host(HA)).protocol(17);
    let template = Template::esp(Mode::Transport, Reqid(3), ends("::", "::"));
    world.order(KernelRequest::SetPolicy(policy(selector, Direction::Out, 2, vec![template])))?;
    let socket = UdpSocket::bind((address(HOA), 4000)).context("binding")?;
    let is_acquire = |event: &KernelEvent| matches!(event, KernelEvent::Acquire(_));
    let _ = socket.send_to(b"x", (address(HA), 5000));
    let heard = world.hear(Duration::from_secs(1), is_acquire)?;
    let Some(KernelEvent::Acquire(acquire)) = heard.iter().find(|event| is_acquire(event)) else {
        world.check("ACQUIRE", false, heard);
        return Ok(());
    };
    let packet = acquire.packet.matches(address(HOA), address(HA), 17, 4000, 5000)
        && !acquire.packet.matches(address(HOA), address(HA), 17, 4001, 5000);
    let good =
        packet && acquire.policy == selector && acquire.endpoints == ends(HOA, HA) && acquire.template == template && acquire.sequence != 0;
    world.check("ACQUIRE with packet, policy, template", good, acquire);
    let larval = world.sas()?;
    world.check("larval state in the dump", matches!(larval.as_slice(), [one] if one.larval && one.spi == Spi(0)), &larval);
    let mut outbound = sa(Cipher::AES128GCM16, None, false, Mode::Transport, (HOA, HA), 0x6006);
    (outbound.reqid, outbound.selector) = (Reqid(3), selector);
    outbound.replay_window = 0;
    outbound.lifetime = SaLifetime { soft_seconds: 1, hard_seconds: 2, ..SaLifetime::default() };
    let request = KernelRequest::AddSa { parameters: Box::new(outbound.clone()), allocated: false, sequence: acquire.sequence };
    let result = world.ask(request)?;
    let left = world.sas()?;
    world.check(
        "outbound SA replaces the larval state",
        result.is_ok() && matches!(left.as_slice(), [one] if one.id() == Some(outbound.id)),
        (result, left),
    );
    let _ = socket.send_to(b"x", (address(HA), 5000));
    sleep(Duration::from_millis(100));
    let used = world.query(outbound.id)?;
    world.check("counters and first use", used.as_ref().is_some_and(|sa| sa.packets == 1 && sa.bytes > 0 && sa.used > 0), used);
    let expires = |hard| move |event: &KernelEvent| matches!(event, KernelEvent::Expire(expire) if expire.hard == hard && expire.id.spi == Spi(0x6006));
    let soft = world.hear(Duration::from_secs(3), expires(false))?;
    world.check("soft EXPIRE", soft.iter().any(expires(false)), soft);
    let hard = world.hear(Duration::from_secs(3), expires(true))?;
    world.check("hard EXPIRE", hard.iter().any(expires(true)), hard);
    let _ = socket.send_to(b"x", (address(HA), 5000));
    let dead = |event: &KernelEvent| matches!(event, KernelEvent::Expire(expire) if expire.hard && expire.id.spi == Spi(0));
    let heard = world.hear(Duration::from_secs(5), dead)?;
    world.check("ACQUIRE again, then EXPIRE with SPI 0", heard.iter().any(is_acquire) && heard.iter().any(dead), heard);
    Ok(())
}

/// Why a failed negotiation is not told to Linux: after the error that RFC 2367 3.1.6 has for it, the larval state stands in the way of
/// MIGRATE as before, and an SA no longer takes its place.
pub(super) fn refused_acquire(world: &mut World) -> Result<()> {
    std::fs::write("/proc/sys/net/core/xfrm_acq_expires", "4").context("xfrm_acq_expires")?;
    let selector = between(&host(HOA), &host(HA)).protocol(17);
    let template = Template::esp(Mode::Tunnel, Reqid(7), ends(COA, HA));
    world.order(KernelRequest::SetPolicy(policy(selector, Direction::Out, 2, vec![template])))?;
    let socket = UdpSocket::bind((address(HOA), 4000)).context("binding")?;
    let send = || socket.send_to(b"x", (address(HA), 5000)).map_err(|error| error.raw_os_error().unwrap_or(0));
    let is_acquire = |event: &KernelEvent| matches!(event, KernelEvent::Acquire(_));
    let before = send();
    let heard = world.hear(Duration::from_secs(1), is_acquire)?;
    let Some(KernelEvent::Acquire(acquire)) = heard.iter().find(|event| is_acquire(event)) else {
        world.check("ACQUIRE to be refused", false, heard);
        return Ok(());
    };
    let octets = watari_pfkey::refuse_acquire(Dialect::Linux, acquire.sequence, std::process::id()).context("SADB_ACQUIRE")?;
    world.write_key(&octets)?;
    let after = send();
    world.check("before and after a refusal packets are dropped in silence", (before, after) == (Ok(1), Ok(1)), (before, after));
    let asked = world.hear(Duration::from_millis(200), is_acquire)?;
    world.check("nobody is asked again", !asked.iter().any(is_acquire), asked);
    let left = world.sas()?;
    world.check("the state is still there", left.len() == 1 && left.iter().all(|sa| sa.spi == Spi(0)), &left);
    let step = MigrateStep { protocol: Protocol::Esp, mode: Mode::Tunnel, reqid: Reqid(7), old: ends(COA, HA), new: ends(COA2, HA) };
    let migrate = Migrate { selector, direction: Direction::Out, steps: vec![step], kmaddress: None, source: MigrateSource::Netlink };
    let daemon = NetlinkSocket::open(NetlinkFamily::Xfrm, &[], 1 << 16).context("opening NETLINK_XFRM")?;
    daemon.send(&watari_xfrm::migrate_request(&migrate, 78).context("MIGRATE")?).context("sending MIGRATE")?;
    let moved = |event: &KernelEvent| matches!(event, KernelEvent::Migrate(_));
    let heard = world.hear(Duration::from_millis(300), moved)?;
    world.check("and MIGRATE does not get past it", !heard.iter().any(moved), heard);
    let mut outbound = sa(Cipher::AES128GCM16, None, false, Mode::Tunnel, (COA, HA), 0x6106);
    (outbound.reqid, outbound.selector, outbound.replay_window) = (Reqid(7), selector, 0);
    let request = KernelRequest::AddSa { parameters: Box::new(outbound.clone()), allocated: false, sequence: acquire.sequence };
    let result = world.ask(request)?;
    let left = world.sas()?;
    let both = left.iter().any(|sa| sa.spi == Spi(0)) && left.iter().any(|sa| sa.id() == Some(outbound.id));
    world.check("nor does an SA take its place", result.is_ok() && both, (result, left));
    let dead = |event: &KernelEvent| matches!(event, KernelEvent::Expire(expire) if expire.hard && expire.id.spi == Spi(0));
    let heard = world.hear(Duration::from_secs(6), dead)?;
    let left = world.sas()?;
    world.check("until its time is over", left.iter().all(|sa| sa.spi != Spi(0)), (heard, left));
    ip("xfrm state flush")?;
    ip("xfrm policy flush")?;
    world.hear(Duration::from_millis(100), |_| false)?;
    Ok(())
}

pub(super) fn strangers(world: &mut World) -> Result<()> {
    let one = sa(Cipher::AES128GCM16, None, false, Mode::Transport, (HOA, HA), 0x7007);
    world.order(add(&one))?;
    ip("xfrm state delete src 2001:db8:1::abcd dst 2001:db8:1::1 proto esp spi 0x7007")?;
    let heard = world.hear(Duration::from_secs(1), |event| matches!(event, KernelEvent::SaRemoved(_)))?;
    world.check("a stranger's removal is news", heard.contains(&KernelEvent::SaRemoved(one.id)), heard);
    for (state, spi) in [("proto route2 mode ro coa 2001:db8:f1::e", 43), ("proto hao mode ro coa 2001:db8:f1::e", 60)] {
        ip(&format!("xfrm state add src 2001:db8:1::1 dst 2001:db8:1::abcd {state}"))?;
        let sas = world.sas()?;
        let state = sas.iter().find(|sa| sa.protocol == spi);
        let good = state.is_some_and(|sa| sa.care_of == Some(address(COA)) && sa.mode.is_none() && !sa.larval && sa.id().is_none());
        world.check(&format!("Mobile IPv6 state {spi} shows its care-of address"), good, sas);
    }
    ip("xfrm policy add src ::/0 dst ::/0 dir out action block ptype sub")?;
    ip("xfrm policy flush ptype sub")?;
    let heard = world.hear(Duration::from_secs(1), |event| matches!(event, KernelEvent::Resynchronised { .. }))?;
    let good = heard.iter().any(|event| matches!(event, KernelEvent::Resynchronised { sas, .. } if sas.len() == 2));
    world.check("a flush of sub policies makes us look again", good, heard);
    ip("xfrm state flush")?;
    ip("xfrm policy flush")?;
    world.hear(Duration::from_millis(100), |_| false)?;
    Ok(())
}

pub(super) fn addresses(world: &mut World) -> Result<()> {
    ip("address add 2001:db8:2::7/64 dev eth0")?;
    let there = |event: &KernelEvent| matches!(event, KernelEvent::Address(AddressEvent { address, present: true, .. }) if *address == super::world::address("2001:db8:2::7"));
    let heard = world.hear(Duration::from_secs(2), there)?;
    world.check("address heard", heard.iter().any(there), heard);
    ip("address delete 2001:db8:2::7/64 dev eth0")?;
    let gone = |event: &KernelEvent| matches!(event, KernelEvent::Address(AddressEvent { present: false, .. }));
    let heard = world.hear(Duration::from_secs(2), gone)?;
    world.check("address gone", heard.iter().any(gone), heard);
    world.monitor.overrun();
    let heard = world.hear(Duration::from_millis(200), |_| false)?;
    world.check("a new dump repeats nothing", heard.is_empty(), heard);
    Ok(())
}
