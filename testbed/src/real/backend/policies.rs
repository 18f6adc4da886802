//! What the back end asks of policies: each kind, MIGRATE, and more at once than the event buffer holds.

use std::time::{Duration, Instant};

use watari_kernel::{
    KernelError, KernelEvent, KernelRequest, KmAddress, Migrate, MigrateSource, MigrateStep, PolicyAction, PolicyEntry, PolicyIndex,
    PolicyKind, Template,
};
use watari_policies::algorithm::{Cipher, Integrity};
use watari_policies::{Direction, Mode, Protocol, Reqid};
use watari_sys::{NetlinkFamily, NetlinkSocket};

use super::world::{COA, COA2, HA, HOA, World, add, address, between, ends, host, ip, policy, sa};
use crate::uml::{Context, Result};

/// Policies whose events overrun the socket.
const CROWD: usize = 3000;

pub(super) fn policies(world: &mut World) -> Result<()> {
    let nowhere = ends("::", "::");
    let binding_update = between(&host(HOA), &host(HA)).protocol(135).message_type(5);
    let mut typed = policy(binding_update, Direction::Out, 2, vec![Template::esp(Mode::Transport, Reqid(1), nowhere)]);
    let result = world.ask(KernelRequest::SetPolicy(typed.clone()))?;
    let heard = world.hear(Duration::from_secs(1), |event| matches!(event, KernelEvent::PolicyChanged(_)))?;
    let Some(KernelEvent::PolicyChanged(told)) = heard.iter().find(|event| matches!(event, KernelEvent::PolicyChanged(_))) else {
        world.check("policy added", false, (result, heard));
        return Ok(());
    };
    typed.index = told.index;
    world.check("policy added, told as it was given", result.is_ok() && *told == typed && told.index.0 != 0, (told, &typed));
    typed.priority = 7;
    let replaced = world.ask(KernelRequest::SetPolicy(PolicyEntry { index: PolicyIndex(0), ..typed.clone() }))?;
    let dumped = world.policies()?;
    let good = matches!(dumped.as_slice(), [one] if PolicyEntry { index: typed.index, ..one.clone() } == typed);
    world.check("policy replaced", replaced.is_ok() && good, (replaced, dumped));
    let mut set = vec![
        policy(between("::/0", &host(HOA)), Direction::Forward, 10, vec![Template::esp(Mode::Tunnel, Reqid(6), ends(HA, COA))]),
        policy(
            between("10.0.0.0/8", "10.1.0.0/16"),
            Direction::In,
            11,
            vec![Template::esp(Mode::Transport, Reqid(0), ends("0.0.0.0", "0.0.0.0"))],
        ),
        policy(between("::/0", "::/0").protocol(58).message_type(135), Direction::In, 3, Vec::new()),
    ];
    let mixed = policy(between("10.0.0.0/8", "2001:db8::/32"), Direction::In, 3, Vec::new());
    let mixed = world.ask(KernelRequest::SetPolicy(mixed))?;
    world.check("a policy of two families is refused", matches!(mixed, Err(KernelError { errno: 0, .. })), mixed);
    let block = policy(between(&host(HOA), &host(HA)), Direction::Out, 4, Vec::new());
    set.push(PolicyEntry { kind: PolicyKind::Sub, action: PolicyAction::Block, ..block });
    let hao = Template { protocol: None, ip_protocol: 60, optional: true, ..Template::esp(Mode::Transport, Reqid(0), ends("::", "::")) };
    let mut sub = policy(between(&host(HOA), &host(HA)).protocol(135).message_type(5), Direction::Out, 2, vec![hao]);
    sub.kind = PolicyKind::Sub;
    set.push(sub);
    for one in &set {
        let result = world.ask(KernelRequest::SetPolicy(one.clone()))?;
        world.check(&format!("policy {} {}", one.direction, one.selector), result.is_ok(), result);
    }
    let dumped: Vec<PolicyEntry> = world.policies()?.into_iter().map(|one| PolicyEntry { index: PolicyIndex(0), ..one }).collect();
    let missing: Vec<_> = set.iter().filter(|one| !dumped.contains(one)).collect();
    world.check("policies dumped as given", missing.is_empty() && dumped.len() == set.len() + 1, (&missing, &dumped));
    world.hear(Duration::from_millis(20), |_| false)?;
    set.push(typed);
    for one in &set {
        let removal = KernelRequest::DeletePolicy { selector: one.selector, direction: one.direction, kind: one.kind };
        let (first, second) = (world.ask(removal.clone())?, world.ask(removal)?);
        world.check(&format!("removed, twice: {} {}", one.direction, one.selector), first.is_ok() && second.is_ok(), (first, second));
    }
    let heard = world.hear(Duration::from_millis(50), |_| false)?;
    let removed = heard.iter().filter(|event| matches!(event, KernelEvent::PolicyRemoved(one) if one.priority > 0)).count();
    let left = world.policies()?;
    world.check("removals told whole", removed == set.len() && left.is_empty(), (removed, heard, left));
    Ok(())
}

pub(super) fn migrate(world: &mut World) -> Result<()> {
    let selector = between(&host(HOA), "::/0");
    let tunnel = Template::esp(Mode::Tunnel, Reqid(5), ends(COA, HA));
    world.order(KernelRequest::SetPolicy(policy(selector, Direction::Out, 10, vec![tunnel])))?;
    let mut moving = sa(Cipher::AES128, Some(Integrity::HmacSha1_96), false, Mode::Tunnel, (COA, HA), 0x5005);
    (moving.reqid, moving.selector) = (Reqid(5), selector);
    world.order(add(&moving))?;
    let step = MigrateStep { protocol: Protocol::Esp, mode: Mode::Tunnel, reqid: Reqid(5), old: ends(COA, HA), new: ends(COA2, HA) };
    let mut told = Migrate {
        selector,
        direction: Direction::Out,
        steps: vec![step],
        kmaddress: Some(KmAddress { local: address(COA2), remote: address(HA) }),
        source: MigrateSource::Netlink,
    };
    let daemon = NetlinkSocket::open(NetlinkFamily::Xfrm, &[], 1 << 16).context("opening NETLINK_XFRM")?;
    daemon.send(&watari_xfrm::migrate_request(&told, 77).context("MIGRATE")?).context("sending MIGRATE")?;
    let from = |source| move |event: &KernelEvent| matches!(event, KernelEvent::Migrate(migrate) if migrate.source == source);
    let mut heard = world.hear(Duration::from_secs(1), from(MigrateSource::Netlink))?;
    if !heard.iter().any(from(MigrateSource::PfKey)) {
        heard.extend(world.hear(Duration::from_millis(200), from(MigrateSource::PfKey))?);
    }
    world.check("MIGRATE heard on netlink", heard.contains(&KernelEvent::Migrate(told.clone())), &heard);
    told.source = MigrateSource::PfKey;
    world.check("MIGRATE heard on PF_KEY", heard.contains(&KernelEvent::Migrate(told)), &heard);
    let moved = world.query(moving.id)?;
    world.check("the kernel moved the SA", moved.as_ref().is_some_and(|sa| sa.src == address(COA2)), moved);
    let template = world.policies()?.first().and_then(|policy| policy.templates.first().copied());
    world.check("the kernel moved the template", template.is_some_and(|template| template.endpoints == ends(COA2, HA)), template);
    ip("xfrm state flush")?;
    ip("xfrm policy flush")?;
    let flushed = |policies| move |event: &KernelEvent| *event == KernelEvent::Flushed { policies };
    let heard = world.hear(Duration::from_secs(1), flushed(true))?;
    world.check("flushes heard", heard.iter().any(flushed(true)) && heard.iter().any(flushed(false)), heard);
    Ok(())
}

pub(super) fn crowd(world: &mut World) -> Result<()> {
    let template = Template::esp(Mode::Transport, Reqid(3), ends("::", "::"));
    for i in 0..CROWD {
        let selector = between(&format!("2001:db8:9::{i:x}/128"), &host(HA));
        world.submit(KernelRequest::SetPolicy(policy(selector, Direction::Out, 2, vec![template])))?;
    }
    // Events pile up unread in a buffer far too small for them.
    let begin = Instant::now();
    while world.done.len() < CROWD && begin.elapsed() < Duration::from_secs(30) {
        world.read_answers()?;
    }
    let refused = world.done.iter().filter(|(_, result)| result.is_err()).count();
    let answered = world.done.len();
    world.done.clear();
    world.check("3000 policies at once", refused == 0 && answered == CROWD, (refused, answered));
    let resynchronised = |event: &KernelEvent| matches!(event, KernelEvent::Resynchronised { policies, .. } if policies.len() == CROWD);
    let heard = world.hear(Duration::from_secs(10), resynchronised)?;
    world.check("lost events end in one whole picture", heard.iter().any(resynchronised), heard.len());
    let amount = world.policies()?.len();
    world.check("a dump of them all", amount == CROWD, amount);
    ip("xfrm policy flush")?;
    world.hear(Duration::from_millis(300), |_| false)?;
    Ok(())
}
