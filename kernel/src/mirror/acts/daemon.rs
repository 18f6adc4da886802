//! Acts of the Mobile IPv6 daemon: MIGRATE and its error table (FACTS 3.1), policies and their broadcasts.

use super::*;

pub(super) const ACTS: &[Act] = &[
    Act {
        name: "migrate-errors",
        sentence: "MIGRATE says ENOENT for no policy, ENODATA for a wrong reqid or old end point, EINVAL for an unspecified new one, and tells nobody.",
        run: migrate_errors,
    },
    Act {
        name: "migrate-tunnel",
        sentence: "MIGRATE of a tunnel policy moves template and SA, keeps SPI and counters, and is broadcast with KMADDRESS.",
        run: migrate_tunnel,
    },
    Act {
        name: "migrate-newest-only",
        sentence: "Of two SAs with one reqid only the newest moves; a second MIGRATE finds the template moved already.",
        run: migrate_newest_only,
    },
    Act {
        name: "migrate-transport",
        sentence: "MIGRATE of a transport policy changes no SA and is broadcast all the same.",
        run: migrate_transport,
    },
    Act { name: "migrate-same", sentence: "MIGRATE to where the policy already is is accepted and broadcast.", run: migrate_same },
    Act {
        name: "migrate-wider",
        sentence: "MIGRATE for one upper protocol of an any-protocol policy is ENOENT on 6.1; 6.12 looks up like a packet and moves the policy.",
        run: migrate_wider,
    },
    Act { name: "migrate-forward", sentence: "A forward policy migrates by itself and is broadcast as such.", run: migrate_forward },
    Act {
        name: "migrate-typed",
        sentence: "MIGRATE finds a policy with a Mobility Header type on 6.1; on 6.12 it says ENOENT.",
        run: migrate_typed,
    },
    Act {
        name: "migrate-larval",
        sentence: "MIGRATE is refused with ENODATA and changes nothing while the newest state that fits has no keys yet.",
        run: migrate_larval,
    },
    Act { name: "migrate-sub", sentence: "A sub policy is not found by a MIGRATE for main.", run: migrate_sub },
    Act {
        name: "policy-broadcast",
        sentence: "Adding and deleting a policy is broadcast; deleting an absent one is ENOENT.",
        run: policy_broadcast,
    },
];

const OUT: Direction = Direction::Out;

fn payload() -> Selector {
    host_pair(HOA, HA)
}

fn tunnel_out(kernel: &mut dyn KernelUnderTest, spi: u32) {
    let policy = policy(payload(), OUT, 13, vec![tunnel(7, ends(COA1, HA))]);
    let _ = kernel.set_policy(&policy);
    let _ = install(kernel, sa(spi, Mode::Tunnel, 7, ends(COA1, HA), payload()));
    let _ = kernel.events();
}

fn migrate_errors(kernel: &mut dyn KernelUnderTest) -> Vec<String> {
    let mut seen = Differences::default();
    kernel.reset();
    tunnel_out(kernel, 0x1001);
    let good = step(Mode::Tunnel, 7, ends(COA1, HA), ends(COA2, HA));
    let cases = [
        ("another selector", migrate(host_pair(HOA, COA1), OUT, good), crate::mirror::ENOENT),
        ("another direction", migrate(payload(), Direction::In, good), crate::mirror::ENOENT),
        ("another reqid", migrate(payload(), OUT, step(Mode::Tunnel, 9, good.old, good.new)), crate::mirror::ENODATA),
        ("another old end point", migrate(payload(), OUT, step(Mode::Tunnel, 7, ends(HOA, HA), good.new)), crate::mirror::ENODATA),
        ("another mode", migrate(payload(), OUT, step(Mode::Transport, 7, UNSPECIFIED, good.new)), crate::mirror::ENODATA),
        ("an unspecified new end point", migrate(payload(), OUT, step(Mode::Tunnel, 7, good.old, UNSPECIFIED)), crate::mirror::EINVAL),
    ];
    for (what, request, errno) in cases {
        seen.expect(what, kernel.migrate(&request), Err(errno));
    }
    let events = kernel.events();
    seen.expect("broadcasts of refused messages", migrates(&events).len(), 0);
    seen.expect("source of the SA", source_of(kernel, 0x1001, HA), Some(COA1));
    seen.0
}

fn migrate_wider(kernel: &mut dyn KernelUnderTest) -> Vec<String> {
    let mut seen = Differences::default();
    kernel.reset();
    tunnel_out(kernel, 0x1001);
    let request = migrate(mh(HOA, HA), OUT, step(Mode::Tunnel, 7, ends(COA1, HA), ends(COA2, HA)));
    let (answer, source) = match kernel.model() {
        Model::Linux6_1 => (Err(crate::mirror::ENOENT), COA1),
        Model::Linux6_12 => (Ok(()), COA2),
    };
    seen.expect("answer", kernel.migrate(&request), answer);
    seen.expect("source of the SA", source_of(kernel, 0x1001, HA), Some(source));
    seen.0
}

fn migrate_tunnel(kernel: &mut dyn KernelUnderTest) -> Vec<String> {
    let mut seen = Differences::default();
    kernel.reset();
    tunnel_out(kernel, 0x1001);
    let inbound = host_pair(HA, HOA);
    let _ = kernel.set_policy(&policy(inbound, Direction::In, 13, vec![tunnel(8, ends(HA, COA1))]));
    let _ = install(kernel, sa(0x1002, Mode::Tunnel, 8, ends(HA, COA1), inbound));
    let before = kernel.send(&udp_packet(HOA, HA, 4000));
    seen.expect("before the move", before, Sent::Esp(ends(COA1, HA), Spi(0x1001)));
    let _ = kernel.events();
    let out = migrate(payload(), OUT, step(Mode::Tunnel, 7, ends(COA1, HA), ends(COA2, HA)));
    let back = migrate(inbound, Direction::In, step(Mode::Tunnel, 8, ends(HA, COA1), ends(HA, COA2)));
    seen.expect("outbound", kernel.migrate(&out), Ok(()));
    seen.expect("inbound", kernel.migrate(&back), Ok(()));
    let events = kernel.events();
    seen.expect("broadcasts", migrates(&events), vec![broadcast(&out), broadcast(&back)]);
    seen.expect("other events", events.len(), 2);
    seen.expect("outbound source", source_of(kernel, 0x1001, HA), Some(COA2));
    seen.expect("outbound packets", query(kernel, 0x1001, HA).map(|info| info.packets), Some(1));
    seen.expect("inbound at the old address", query(kernel, 0x1002, COA1).is_some(), false);
    seen.expect("inbound at the new address", source_of(kernel, 0x1002, COA2), Some(HA));
    seen.expect("after the move", kernel.send(&udp_packet(HOA, HA, 4000)), Sent::Esp(ends(COA2, HA), Spi(0x1001)));
    seen.0
}

fn migrate_newest_only(kernel: &mut dyn KernelUnderTest) -> Vec<String> {
    let mut seen = Differences::default();
    kernel.reset();
    tunnel_out(kernel, 0x1001);
    let _ = install(kernel, sa(0x1002, Mode::Tunnel, 7, ends(COA1, HA), payload()));
    let request = migrate(payload(), OUT, step(Mode::Tunnel, 7, ends(COA1, HA), ends(COA2, HA)));
    seen.expect("first", kernel.migrate(&request), Ok(()));
    seen.expect("newest", source_of(kernel, 0x1002, HA), Some(COA2));
    seen.expect("older", source_of(kernel, 0x1001, HA), Some(COA1));
    seen.expect("second", kernel.migrate(&request), Err(crate::mirror::ENODATA));
    seen.expect("older after the second", source_of(kernel, 0x1001, HA), Some(COA1));
    seen.0
}

fn migrate_transport(kernel: &mut dyn KernelUnderTest) -> Vec<String> {
    let mut seen = Differences::default();
    kernel.reset();
    let _ = kernel.set_policy(&policy(mh(HOA, HA), OUT, 2, vec![transport(1)]));
    let _ = install(kernel, sa(0x1001, Mode::Transport, 1, ends(HOA, HA), mh(HOA, HA)));
    let _ = kernel.events();
    let request = migrate(mh(HOA, HA), OUT, step(Mode::Transport, 1, UNSPECIFIED, ends(COA1, HA)));
    seen.expect("answer", kernel.migrate(&request), Ok(()));
    let events = kernel.events();
    seen.expect("broadcasts", migrates(&events), vec![broadcast(&request)]);
    seen.expect("source of the SA", source_of(kernel, 0x1001, HA), Some(HOA));
    seen.0
}

fn migrate_same(kernel: &mut dyn KernelUnderTest) -> Vec<String> {
    let mut seen = Differences::default();
    kernel.reset();
    tunnel_out(kernel, 0x1001);
    let request = migrate(payload(), OUT, step(Mode::Tunnel, 7, ends(COA1, HA), ends(COA1, HA)));
    seen.expect("answer", kernel.migrate(&request), Ok(()));
    let events = kernel.events();
    seen.expect("broadcasts", migrates(&events), vec![broadcast(&request)]);
    seen.expect("source of the SA", source_of(kernel, 0x1001, HA), Some(COA1));
    seen.0
}

fn migrate_forward(kernel: &mut dyn KernelUnderTest) -> Vec<String> {
    let mut seen = Differences::default();
    kernel.reset();
    let _ = kernel.set_policy(&policy(host_pair(HA, HOA), Direction::Forward, 13, vec![tunnel(8, ends(HA, COA1))]));
    let _ = kernel.events();
    let request = migrate(host_pair(HA, HOA), Direction::Forward, step(Mode::Tunnel, 8, ends(HA, COA1), ends(HA, COA2)));
    seen.expect("answer", kernel.migrate(&request), Ok(()));
    let events = kernel.events();
    seen.expect("broadcasts", migrates(&events), vec![broadcast(&request)]);
    seen.0
}

fn migrate_typed(kernel: &mut dyn KernelUnderTest) -> Vec<String> {
    let mut seen = Differences::default();
    kernel.reset();
    let selector = mh(HOA, HA).message_type(5);
    let _ = kernel.set_policy(&policy(selector, OUT, 2, vec![transport(1)]));
    let _ = kernel.events();
    let move_to = step(Mode::Transport, 1, UNSPECIFIED, ends(COA1, HA));
    let expected = match kernel.model() {
        Model::Linux6_1 => Ok(()),
        Model::Linux6_12 => Err(crate::mirror::ENOENT),
    };
    seen.expect("with its type", kernel.migrate(&migrate(selector, OUT, move_to)), expected);
    seen.expect("without", kernel.migrate(&migrate(mh(HOA, HA), OUT, move_to)), Err(crate::mirror::ENOENT));
    seen.0
}

fn migrate_larval(kernel: &mut dyn KernelUnderTest) -> Vec<String> {
    let mut seen = Differences::default();
    kernel.reset();
    tunnel_out(kernel, 0x1001);
    let endpoints = ends(COA1, HA);
    let _ = kernel.request(KernelRequest::AllocateSpi { endpoints, protocol: Protocol::Esp, mode: Mode::Tunnel, reqid: Reqid(7) });
    let request = migrate(payload(), OUT, step(Mode::Tunnel, 7, endpoints, ends(COA2, HA)));
    seen.expect("answer", kernel.migrate(&request), Err(crate::mirror::ENODATA));
    seen.expect("source of the SA", source_of(kernel, 0x1001, HA), Some(COA1));
    let events = kernel.events();
    seen.expect("broadcasts", migrates(&events).len(), 0);
    seen.0
}

fn migrate_sub(kernel: &mut dyn KernelUnderTest) -> Vec<String> {
    let mut seen = Differences::default();
    kernel.reset();
    let _ = kernel.set_policy(&PolicyEntry { kind: PolicyKind::Sub, ..policy(payload(), OUT, 13, vec![tunnel(7, ends(COA1, HA))]) });
    let request = migrate(payload(), OUT, step(Mode::Tunnel, 7, ends(COA1, HA), ends(COA2, HA)));
    seen.expect("answer", kernel.migrate(&request), Err(crate::mirror::ENOENT));
    seen.0
}

fn policy_broadcast(kernel: &mut dyn KernelUnderTest) -> Vec<String> {
    let mut seen = Differences::default();
    kernel.reset();
    let entry = policy(payload(), OUT, 13, vec![tunnel(7, ends(COA1, HA))]);
    let _ = kernel.set_policy(&entry);
    seen.expect("delete", kernel.delete_policy(&payload(), OUT, PolicyKind::Main), Ok(()));
    seen.expect("delete again", kernel.delete_policy(&payload(), OUT, PolicyKind::Main), Err(crate::mirror::ENOENT));
    let told: Vec<(bool, Selector, u32, Vec<Template>)> = kernel
        .events()
        .into_iter()
        .filter_map(|event| match event {
            KernelEvent::PolicyChanged(entry) => Some((true, entry.selector, entry.priority, entry.templates)),
            KernelEvent::PolicyRemoved(entry) => Some((false, entry.selector, entry.priority, Vec::new())),
            _ => None,
        })
        .collect();
    let expected = vec![(true, payload(), 13, entry.templates), (false, payload(), 13, Vec::new())];
    seen.expect("broadcasts", told, expected);
    seen.0
}
