//! What the back end asks of SAs: the probe, an inbound pair of SPI and SA, every suite.

use std::time::Duration;

use watari_kernel::{Backend, Encapsulation, KernelEvent, KernelReply, KernelRequest, RequestId, SaLifetime};
use watari_policies::algorithm::{Cipher, Integrity};
use watari_policies::{Mode, Protocol, Reqid};

use super::world::{HA, HOA, World, add, between, ends, host, sa};
use crate::uml::Result;

pub(super) fn probe(world: &mut World, reads_types: bool) -> Result<()> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let now = world.now();
    world.backend.probe(now, RequestId(0), release.trim());
    let result = world.wait_for(RequestId(0))?;
    let capability = world.backend.capabilities().clone();
    world.check(
        "the probe finds what this kernel is known for",
        capability.migrate && capability.inbound_mh_type == Some(reads_types),
        capability,
    );
    let left: Vec<_> = world.policies()?;
    world.check("probe ends, leaves nothing", result.is_ok() && left.is_empty(), (result, left));
    let modules = std::fs::read_to_string("/proc/modules").unwrap_or_default();
    let registered = watari_xfrm::xfrm_interface_registered(&modules, "", std::fs::exists("/sys/module/xfrm_interface").unwrap_or(false));
    let symbols = std::fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    let cmdline = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let in_symbols = watari_xfrm::xfrm_interface_in_symbols(&symbols, &cmdline);
    world.check("xfrm_interface is absent", !registered && !in_symbols, (registered, in_symbols));
    let heard = world.hear(Duration::from_millis(50), |_| false)?;
    world.check("probe is not heard of", heard.iter().all(|event| matches!(event, KernelEvent::Address(_) | KernelEvent::Link(_))), heard);
    Ok(())
}

pub(super) fn inbound_pair(world: &mut World) -> Result<()> {
    let request = KernelRequest::AllocateSpi { endpoints: ends(HA, HOA), protocol: Protocol::Esp, mode: Mode::Transport, reqid: Reqid(2) };
    let reply = world.ask(request)?;
    let Ok(KernelReply::Spi(spi)) = reply else {
        world.check("SPI", false, reply);
        return Ok(());
    };
    let mut inbound = sa(Cipher::AES128GCM16, None, false, Mode::Transport, (HA, HOA), spi.0);
    inbound.reqid = Reqid(2);
    inbound.selector = between(&host(HA), &host(HOA)).protocol(135).message_type(6);
    let larval = world.query(inbound.id)?;
    world.check("SPI allocated is larval", spi.0 > 255 && larval.as_ref().is_some_and(|sa| sa.larval), larval);
    let request = KernelRequest::AddSa { parameters: Box::new(inbound.clone()), allocated: true, sequence: 0 };
    let result = world.ask(request)?;
    let installed = world.query(inbound.id)?;
    let good = installed.as_ref().is_some_and(|sa| {
        !sa.larval && sa.selector == Some(inbound.selector) && sa.reqid == Reqid(2) && sa.added > 0 && sa.mode == Some(Mode::Transport)
    });
    world.check("inbound SA took its place", result == Ok(KernelReply::Done) && good, (result, installed));
    let gone = world.ask(KernelRequest::DeleteSa(inbound.id))?;
    let again = world.ask(KernelRequest::DeleteSa(inbound.id))?;
    let query = world.query(inbound.id)?;
    world.check("SA removed, twice", gone.is_ok() && again.is_ok() && query.is_none(), (gone, again, query));
    // A larval state that is not there any more.
    let request = KernelRequest::AddSa { parameters: Box::new(inbound.clone()), allocated: true, sequence: 0 };
    let result = world.ask(request)?;
    let exists = world.ask(add(&inbound))?;
    world.check("installed though its larval state is gone", result.is_ok(), &result);
    let refused = matches!(&exists, Err(error) if error.errno == 17);
    world.check("the same once more is refused", refused, exists);
    world.order(KernelRequest::DeleteSa(inbound.id))?;
    let heard = world.hear(Duration::from_millis(50), |_| false)?;
    world.check("own removals are no news", !heard.iter().any(|event| matches!(event, KernelEvent::SaRemoved(_))), heard);
    Ok(())
}

pub(super) fn suites(world: &mut World) -> Result<()> {
    let v6 = (HOA, HA);
    let cbc = Some(Integrity::HmacSha256_128);
    let mut all = Vec::new();
    let mut spi = 0x2000;
    for cipher in Cipher::all() {
        for esn in [false, true] {
            for window in [0, 32, 64, 4096] {
                let integrity = if cipher.is_aead() { None } else { cbc };
                let mut one = sa(cipher, integrity, esn, if esn { Mode::Tunnel } else { Mode::Transport }, v6, spi);
                one.replay_window = window;
                all.push((format!("{cipher} esn {esn} window {window}"), one));
                spi += 1;
            }
        }
    }
    for integrity in Integrity::ALL {
        all.push((format!("null with {integrity}"), sa(Cipher::NULL, Some(*integrity), false, Mode::Tunnel, v6, spi)));
        let mut ah = sa(Cipher::NULL, Some(*integrity), false, Mode::Transport, v6, spi);
        ah.id.protocol = Protocol::Ah;
        all.push((format!("AH with {integrity}"), ah));
        spi += 1;
    }
    let v4 = ("192.0.2.1", "198.51.100.2");
    let mut udp = sa(Cipher::AES256, cbc, false, Mode::Tunnel, v4, spi);
    udp.encapsulation = Some(Encapsulation { source_port: 4500, destination_port: 4500 });
    udp.selector = between("2001:db8:7::/64", "::/0");
    all.push(("IPv6 in UDP-encapsulated IPv4".to_owned(), udp));
    let mut limits = sa(Cipher::AES256GCM16, None, false, Mode::Tunnel, v4, spi + 1);
    limits.lifetime = SaLifetime {
        soft_seconds: 3000,
        hard_seconds: 3600,
        soft_bytes: 1 << 30,
        hard_bytes: 1 << 31,
        soft_packets: 1 << 30,
        hard_packets: 1 << 31,
    };
    all.push(("limits".to_owned(), limits));
    let before = world.findings.len();
    for (name, parameters) in &all {
        let result = world.ask(add(parameters))?;
        if result.is_err() {
            world.check(name, false, result.map_err(|error| error.to_string()));
        }
    }
    let dumped = world.sas()?;
    let found = all
        .iter()
        .filter(|(_, one)| dumped.iter().any(|sa| sa.id() == Some(one.id) && !sa.larval && sa.selector == Some(one.selector)))
        .count();
    let (all_good, amounts) = (world.findings.len() == before && found == all.len(), (all.len(), found));
    world.check(&format!("{} suites installed and dumped with their selectors", all.len()), all_good, amounts);
    for (_, parameters) in &all {
        world.submit(KernelRequest::DeleteSa(parameters.id))?;
    }
    let left = world.sas()?;
    world.check("all removed", left.is_empty(), left);
    world.hear(Duration::from_millis(50), |_| false)?;
    world.done.clear();
    Ok(())
}
