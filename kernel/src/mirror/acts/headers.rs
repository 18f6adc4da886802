//! Acts of message types in SA selectors: what a kernel reads of a packet behind extension headers, inside tunnels and on its way through.
//! They are why inbound SAs of a peer that Mobile IPv6 governs, and what a home agent forwards, carry no types in the kernel.

use super::*;
use crate::mirror::{HAO, ROUTE2};

pub(super) const ACTS: &[Act] = &[
    Act {
        name: "probe",
        sentence: "The back end finds by asking whether the kernel can read the type of an inbound Mobility Header message.",
        run: probe,
    },
    Act {
        name: "inbound-sa-type",
        sentence: "An inbound SA that names a Mobility Header type drops what has no extension header in front (at home); Linux 6.1 passes \
                   what has exactly one, 6.12 nothing. An any-type SA passes all.",
        run: inbound_sa_type,
    },
    Act {
        name: "inbound-tunnel-sa-type",
        sentence: "The same inside a tunnel, where the headers of the inner packet count.",
        run: inbound_tunnel_sa_type,
    },
    Act {
        name: "inbound-sa-icmp-type",
        sentence: "An inbound SA that names an ICMPv6 type passes what has no extension header in front; Linux 6.1 drops what has one.",
        run: inbound_sa_icmp_type,
    },
    Act {
        name: "outbound-sa-type",
        sentence: "An outbound SA that names the type which this host's socket sends protects it, in transport and in tunnel mode.",
        run: outbound_sa_type,
    },
    Act {
        name: "forwarded-sa-type",
        sentence: "Of a packet on its way through without extension header no type is read: an SA that names it does not protect, an any-type SA does.",
        run: forwarded_sa_type,
    },
];

const BINDING_UPDATE: u16 = 5;
const BINDING_ACKNOWLEDGEMENT: u16 = 6;
const HOME_TEST_INIT: u16 = 1;
const HOME_TEST: u16 = 3;
const PREFIX_SOLICITATION: u16 = 146;
const ICMPV6: u8 = 58;
const REQID: u32 = 8;
const SPI: u32 = 0x3001;

fn probe(kernel: &mut dyn KernelUnderTest) -> Vec<String> {
    let mut seen = Differences::default();
    let expected = kernel.model().reads_inbound_mh_type();
    seen.expect("inbound MH types", kernel.capability().inbound_mh_type, Some(expected));
    seen.expect("MIGRATE", kernel.capability().migrate, true);
    seen.0
}

/// One message that the peer sends to this host, and the Mobile IPv6 header that goes in front of it.
#[derive(Clone, Copy)]
struct Message {
    src: IpAddr,
    dst: IpAddr,
    protocol: u8,
    message_type: u16,
    header: Option<u8>,
}

impl Message {
    const fn mobility(src: IpAddr, message_type: u16, header: Option<u8>) -> Self {
        Self { src, dst: HOA, protocol: MOBILITY_HEADER, message_type, header }
    }

    fn any_type(&self) -> Selector {
        host_pair(self.src, self.dst).protocol(self.protocol)
    }

    fn typed(&self) -> Selector {
        self.any_type().message_type(u8::try_from(self.message_type).unwrap_or(u8::MAX))
    }

    fn packet(&self) -> Packet {
        match self.protocol {
            MOBILITY_HEADER => mh_packet(self.src, self.dst, self.message_type),
            _ => {
                let upper = Upper { protocol: self.protocol, sport: self.message_type, dport: 0, payload: b"act!".to_vec() };
                Packet::clear(self.src, self.dst, upper)
            }
        }
    }
}

/// Whether the message reaches its socket through an inbound SA with this selector. Policies at both ends fit any type, so that the SA
/// alone decides.
fn delivered(kernel: &mut dyn KernelUnderTest, message: &Message, mode: Mode, selector: Selector) -> bool {
    kernel.reset();
    let any_type = message.any_type();
    let (endpoints, template) = match mode {
        Mode::Transport => (ends(message.src, message.dst), transport(REQID)),
        Mode::Tunnel => (ends(HA, COA1), tunnel(REQID, ends(HA, COA1))),
    };
    let mut inbound = vec![policy(any_type, Direction::In, 5, vec![template])];
    let mut outbound = vec![policy(any_type, Direction::Out, 5, vec![template])];
    let mut states = Vec::new();
    if let Some(ip_protocol) = message.header {
        let mobility = Template { protocol: None, ip_protocol, optional: true, ..transport(0) };
        let sub = |direction| PolicyEntry { kind: PolicyKind::Sub, ..policy(any_type, direction, 2, vec![mobility]) };
        inbound.push(sub(Direction::In));
        outbound.push(sub(Direction::Out));
        let care_of = if ip_protocol == HAO { HA } else { COA1 };
        states.push(MobilityState { ip_protocol, endpoints: ends(message.src, message.dst), care_of });
    }
    for entry in &inbound {
        let _ = kernel.set_policy(entry);
    }
    states.iter().for_each(|state| kernel.set_mobility_state(state));
    let _ = install(kernel, sa(SPI, mode, REQID, endpoints, selector));
    kernel.equip_peer(&outbound, &states, &sa(SPI, mode, REQID, endpoints, any_type));
    kernel.arrive(&message.packet())
}

/// Puts a message through a typed and an any-type SA; `typed` is what the typed one is expected to do.
fn compare(seen: &mut Differences, kernel: &mut dyn KernelUnderTest, what: &str, message: &Message, mode: Mode, typed: bool) {
    let found = delivered(kernel, message, mode, message.typed());
    seen.expect(&format!("{what}, typed SA"), found, typed);
    let found = delivered(kernel, message, mode, message.any_type());
    seen.expect(&format!("{what}, any-type SA"), found, true);
}

fn inbound_sa_type(kernel: &mut dyn KernelUnderTest) -> Vec<String> {
    let mut seen = Differences::default();
    let reads = kernel.model().reads_inbound_mh_type();
    for (what, message, typed) in [
        ("a binding update at home", Message::mobility(HOA2, BINDING_UPDATE, None), false),
        ("a binding update away", Message::mobility(HOA2, BINDING_UPDATE, Some(HAO)), reads),
        ("a binding acknowledgement at home", Message::mobility(HA, BINDING_ACKNOWLEDGEMENT, None), false),
        ("a binding acknowledgement away", Message::mobility(HA, BINDING_ACKNOWLEDGEMENT, Some(ROUTE2)), reads),
    ] {
        compare(&mut seen, kernel, what, &message, Mode::Transport, typed);
    }
    seen.0
}

fn inbound_tunnel_sa_type(kernel: &mut dyn KernelUnderTest) -> Vec<String> {
    let mut seen = Differences::default();
    let reads = kernel.model().reads_inbound_mh_type();
    let test = Message::mobility(HA, HOME_TEST, None);
    compare(&mut seen, kernel, "a Home Test in a tunnel", &test, Mode::Tunnel, false);
    let update = Message::mobility(HOA2, BINDING_UPDATE, Some(HAO));
    compare(&mut seen, kernel, "a binding update with an extension header in a tunnel", &update, Mode::Tunnel, reads);
    seen.0
}

fn inbound_sa_icmp_type(kernel: &mut dyn KernelUnderTest) -> Vec<String> {
    let mut seen = Differences::default();
    let solicitation = |header| Message { protocol: ICMPV6, ..Message::mobility(HOA2, PREFIX_SOLICITATION, header) };
    compare(&mut seen, kernel, "a prefix solicitation at home", &solicitation(None), Mode::Transport, true);
    let reads = kernel.model() == Model::Linux6_12;
    compare(&mut seen, kernel, "a prefix solicitation away", &solicitation(Some(HAO)), Mode::Transport, reads);
    seen.0
}

fn outbound_sa_type(kernel: &mut dyn KernelUnderTest) -> Vec<String> {
    let mut seen = Differences::default();
    for (what, mode, endpoints, template) in [
        ("transport", Mode::Transport, ends(HOA, HA), transport(REQID)),
        ("tunnel", Mode::Tunnel, ends(COA1, HA), tunnel(REQID, ends(COA1, HA))),
    ] {
        kernel.reset();
        let typed = mh(HOA, HA).message_type(1);
        let _ = kernel.set_policy(&policy(typed, Direction::Out, 2, vec![template]));
        let _ = install(kernel, sa(SPI, mode, REQID, endpoints, typed));
        seen.expect(what, kernel.send(&mh_packet(HOA, HA, HOME_TEST_INIT)), Sent::Esp(endpoints, Spi(SPI)));
    }
    seen.0
}

fn forwarded_sa_type(kernel: &mut dyn KernelUnderTest) -> Vec<String> {
    let mut seen = Differences::default();
    let (any_type, endpoints) = (mh(HA, FAR), ends(COA1, HA));
    for (what, selector, expected) in
        [("a typed SA", any_type.message_type(3), Sent::Nothing), ("an any-type SA", any_type, Sent::Esp(endpoints, Spi(SPI)))]
    {
        kernel.reset();
        let _ = kernel.set_policy(&policy(any_type, Direction::Out, 2, vec![tunnel(REQID, endpoints)]));
        let _ = install(kernel, sa(SPI, Mode::Tunnel, REQID, endpoints, selector));
        seen.expect(what, kernel.forward(&mh_packet(HA, FAR, HOME_TEST)), expected);
    }
    seen.0
}
