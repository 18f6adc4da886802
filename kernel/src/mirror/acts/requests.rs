//! Acts of the key-management daemon: SPIs, SAs, their limits, queries.

use super::*;
use crate::Expire;

pub(super) const ACTS: &[Act] = &[
    Act { name: "allocate-update", sentence: "An SPI is reserved for 30 s and an update puts the SA in its place.", run: allocate_update },
    Act { name: "allocate-expires", sentence: "A reserved SPI that is not used expires hard with its own number.", run: allocate_expires },
    Act {
        name: "add-twice",
        sentence: "Adding an SA twice is EEXIST; one whose SPI was never reserved, or not any more, is added.",
        run: add_twice,
    },
    Act { name: "delete-absent", sentence: "Deleting an absent SA is no error, querying one answers none.", run: delete_absent },
    Act {
        name: "query-moved",
        sentence: "An SA that MIGRATE moved is found under its SPI at the new address and takes packets.",
        run: query_moved,
    },
    Act { name: "lifetime", sentence: "A soft limit warns once, a hard limit removes the SA.", run: lifetime },
    Act {
        name: "policy-replace",
        sentence: "Setting a policy again replaces it; deleting an absent one is no error.",
        run: policy_replace,
    },
];

fn reserve(kernel: &mut dyn KernelUnderTest) -> u32 {
    let request = KernelRequest::AllocateSpi { endpoints: ends(HA, HOA), protocol: Protocol::Esp, mode: Mode::Transport, reqid: Reqid(2) };
    match kernel.request(request) {
        Ok(KernelReply::Spi(spi)) => spi.0,
        _ => 0,
    }
}

fn allocate_update(kernel: &mut dyn KernelUnderTest) -> Vec<String> {
    let mut seen = Differences::default();
    kernel.reset();
    let spi = reserve(kernel);
    seen.expect("an SPI above the reserved range", spi > 255, true);
    let other = reserve(kernel);
    seen.expect("another SPI", other == spi, false);
    seen.expect("larval", query(kernel, spi, HOA).map(|info| info.larval), Some(true));
    let parameters = Box::new(sa(spi, Mode::Transport, 2, ends(HA, HOA), mh(HA, HOA)));
    let updated = kernel.request(KernelRequest::AddSa { parameters, allocated: true, sequence: 0 });
    seen.expect("update", updated.is_ok(), true);
    let found = query(kernel, spi, HOA).map(|info| (info.larval, info.src, info.reqid, info.mode, info.selector));
    seen.expect("installed", found, Some((false, HA, Reqid(2), Some(Mode::Transport), Some(mh(HA, HOA)))));
    seen.0
}

fn allocate_expires(kernel: &mut dyn KernelUnderTest) -> Vec<String> {
    let mut seen = Differences::default();
    kernel.reset();
    let spi = reserve(kernel);
    kernel.wait(kernel.larval_lifetime().saturating_add(Duration::from_secs(2)));
    seen.expect("expiry", expires(&kernel.events()), vec![(Spi(spi), true)]);
    let parameters = Box::new(sa(spi, Mode::Transport, 2, ends(HA, HOA), mh(HA, HOA)));
    let late = kernel.request(KernelRequest::AddSa { parameters, allocated: true, sequence: 0 });
    seen.expect("a late update", late.err().map(|error| error.errno), None);
    seen.0
}

fn expires(events: &[KernelEvent]) -> Vec<(Spi, bool)> {
    let one = |event: &KernelEvent| match event {
        KernelEvent::Expire(Expire { id, hard, .. }) => Some((id.spi, *hard)),
        _ => None,
    };
    events.iter().filter_map(one).collect()
}

fn add_twice(kernel: &mut dyn KernelUnderTest) -> Vec<String> {
    let mut seen = Differences::default();
    kernel.reset();
    let parameters = sa(0x1001, Mode::Transport, 1, ends(HOA, HA), mh(HOA, HA));
    seen.expect("first", install(kernel, parameters.clone()), None);
    seen.expect("second", install(kernel, parameters), Some(crate::mirror::EEXIST));
    let parameters = Box::new(sa(0x1003, Mode::Transport, 1, ends(HOA, HA), mh(HOA, HA)));
    let never = kernel.request(KernelRequest::AddSa { parameters, allocated: true, sequence: 0 });
    seen.expect("never reserved", never.err().map(|error| error.errno), None);
    seen.0
}

fn delete_absent(kernel: &mut dyn KernelUnderTest) -> Vec<String> {
    let mut seen = Differences::default();
    kernel.reset();
    let id = SaId { dst: HA, protocol: Protocol::Esp, spi: Spi(0x1001) };
    seen.expect("delete", kernel.request(KernelRequest::DeleteSa(id)).ok(), Some(KernelReply::Done));
    seen.expect("query", kernel.request(KernelRequest::QuerySa(id)).ok(), Some(KernelReply::Sa(None)));
    seen.0
}

fn query_moved(kernel: &mut dyn KernelUnderTest) -> Vec<String> {
    let mut seen = Differences::default();
    kernel.reset();
    let selector = host_pair(HA, HOA);
    let _ = kernel.set_policy(&policy(selector, Direction::In, 13, vec![tunnel(8, ends(HA, COA1))]));
    let spi = {
        let request =
            KernelRequest::AllocateSpi { endpoints: ends(HA, COA1), protocol: Protocol::Esp, mode: Mode::Tunnel, reqid: Reqid(8) };
        match kernel.request(request) {
            Ok(KernelReply::Spi(spi)) => spi.0,
            _ => 0,
        }
    };
    let parameters = Box::new(sa(spi, Mode::Tunnel, 8, ends(HA, COA1), selector));
    let _ = kernel.request(KernelRequest::AddSa { parameters, allocated: true, sequence: 0 });
    let request = migrate(selector, Direction::In, step(Mode::Tunnel, 8, ends(HA, COA1), ends(HA, COA2)));
    seen.expect("answer", kernel.migrate(&request), Ok(()));
    seen.expect("old address", query(kernel, spi, COA1).is_some(), false);
    let found = query(kernel, spi, COA2).map(|info| (info.src, info.reqid, info.larval, info.selector));
    seen.expect("new address", found, Some((HA, Reqid(8), false, Some(selector))));
    let old = SaId { dst: COA1, protocol: Protocol::Esp, spi: Spi(spi) };
    seen.expect("delete at the old address", kernel.request(KernelRequest::DeleteSa(old)).is_ok(), true);
    seen.expect("still there", query(kernel, spi, COA2).is_some(), true);
    seen.0
}

fn lifetime(kernel: &mut dyn KernelUnderTest) -> Vec<String> {
    let mut seen = Differences::default();
    kernel.reset();
    let mut parameters = sa(0x1001, Mode::Transport, 1, ends(HOA, HA), mh(HOA, HA));
    parameters.lifetime.soft_seconds = 2;
    parameters.lifetime.hard_seconds = 4;
    let _ = install(kernel, parameters);
    kernel.wait(Duration::from_secs(3));
    seen.expect("after the soft limit", expires(&kernel.events()), vec![(Spi(0x1001), false)]);
    seen.expect("still there", query(kernel, 0x1001, HA).is_some(), true);
    kernel.wait(Duration::from_secs(3));
    seen.expect("after the hard limit", expires(&kernel.events()), vec![(Spi(0x1001), true)]);
    seen.expect("gone", query(kernel, 0x1001, HA).is_some(), false);
    seen.0
}

fn policy_replace(kernel: &mut dyn KernelUnderTest) -> Vec<String> {
    let mut seen = Differences::default();
    kernel.reset();
    let selector = host_pair(HOA, HA);
    let entry = policy(selector, Direction::Out, 13, vec![tunnel(7, ends(COA1, HA))]);
    for priority in [13, 14] {
        let replaced = kernel.request(KernelRequest::SetPolicy(PolicyEntry { priority, ..entry.clone() }));
        seen.expect("set", replaced.is_ok(), true);
    }
    let held = match kernel.request(KernelRequest::DumpPolicies) {
        Ok(KernelReply::Policies(held)) => held.iter().map(|entry| (entry.selector, entry.priority)).collect(),
        _ => Vec::new(),
    };
    seen.expect("held", held, vec![(selector, 14)]);
    for _ in 0..2 {
        let request = KernelRequest::DeletePolicy { selector, direction: Direction::Out, kind: PolicyKind::Main };
        seen.expect("delete", kernel.request(request).is_ok(), true);
    }
    seen.0
}
