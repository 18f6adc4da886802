//! Acts of the outer addresses of tunnels: which of packet, SA and template are compared. They are why a binding update may come through the
//! very tunnel that it moves (RFC 4877 5), and why a home agent can wait for the first one without knowing from where it will come.

use super::*;

pub(super) const ACTS: &[Act] = &[
    Act { name: "outer-source", sentence: "A tunnel SA opens what comes from any outer source, not only from its own.", run: outer_source },
    Act {
        name: "tunnel-template-source",
        sentence: "An inbound tunnel template refuses an SA with another source than its own; with no source it takes any.",
        run: template_source,
    },
    Act {
        name: "migrate-open-template",
        sentence: "MIGRATE finds a tunnel template without the moving end's address by saying so, and moves no SA with it.",
        run: migrate_open_template,
    },
];

const REQID: u32 = 8;
const SPI: u32 = 0x4001;
const ANY: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// Whether a packet is delivered that the peer tunnels from [`HA`], through an SA and under a template with these sources.
fn delivered(kernel: &mut dyn KernelUnderTest, sa_source: IpAddr, template_source: IpAddr) -> bool {
    kernel.reset();
    let (selector, sent) = (host_pair(HA, HOA), ends(HA, COA1));
    let inbound = policy(selector, Direction::In, 13, vec![tunnel(REQID, ends(template_source, COA1))]);
    let _ = kernel.set_policy(&inbound);
    let _ = install(kernel, sa(SPI, Mode::Tunnel, REQID, ends(sa_source, COA1), selector));
    let outbound = policy(selector, Direction::Out, 13, vec![tunnel(REQID, sent)]);
    kernel.equip_peer(&[outbound], &[], &sa(SPI, Mode::Tunnel, REQID, sent, selector));
    kernel.arrive(&udp_packet(HA, HOA, 4000))
}

fn outer_source(kernel: &mut dyn KernelUnderTest) -> Vec<String> {
    let mut seen = Differences::default();
    seen.expect("from the SA's source", delivered(kernel, HA, HA), true);
    seen.expect("from another source", delivered(kernel, HOA2, HOA2), true);
    seen.0
}

fn template_source(kernel: &mut dyn KernelUnderTest) -> Vec<String> {
    let mut seen = Differences::default();
    seen.expect("an SA of another source than the template's", delivered(kernel, HA, HOA2), false);
    seen.expect("a template without source", delivered(kernel, HA, ANY), true);
    seen.0
}

fn migrate_open_template(kernel: &mut dyn KernelUnderTest) -> Vec<String> {
    let mut seen = Differences::default();
    for (direction, old, new) in [
        (Direction::In, ends(ANY, COA1), ends(HA, COA1)),
        (Direction::Forward, ends(ANY, COA1), ends(HA, COA1)),
        (Direction::Out, ends(COA1, ANY), ends(COA1, HA)),
    ] {
        kernel.reset();
        let selector = host_pair(HOA, HA);
        let set = kernel.set_policy(&policy(selector, direction, 13, vec![tunnel(REQID, old)]));
        seen.expect(&format!("{direction:?}: the open template"), set, Ok(()));
        let _ = install(kernel, sa(SPI, Mode::Tunnel, REQID, new, selector));
        let _ = kernel.events();
        let request = migrate(selector, direction, step(Mode::Tunnel, REQID, old, new));
        seen.expect(&format!("{direction:?}: MIGRATE"), kernel.migrate(&request), Ok(()));
        seen.expect(&format!("{direction:?}: what is told"), migrates(&kernel.events()), vec![broadcast(&request)]);
        seen.expect(&format!("{direction:?}: the SA"), source_of(kernel, SPI, new.dst), Some(new.src));
    }
    seen.0
}
