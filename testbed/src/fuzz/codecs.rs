//! Fuzz targets for everything that reads octets: decoders must not panic, and what decodes must survive being written and read again.

use std::net::Ipv6Addr;
use std::time::Duration;

use watari_engine::vici::{Packet, Section, Value};
use watari_kernel::{Backend as _, BackendOutput, Channel, KernelRequest, Now, RequestId};
use watari_mip6::{AckFlags, Message as MobilityMessage, UpdateFlags, alternate_care_of};
use watari_pfkey::{Dialect, KeyBackend, KeyListener};
use watari_policies::{Secret, SecretId, config};
use watari_route::RouteMonitor;
use watari_route::rtsock::{Dialect as RoutingDialect, Layout, Query, RtsockMonitor, RtsockOutput};
use watari_wire::ikev2::{Message, decode_chain, describe, encode_chain};
use watari_xfrm::XfrmBackend;

use super::Call;

/// Octets written as hex, spaces and line ends ignored.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter_map(|c| char::from(c).to_digit(16)).filter_map(|d| u8::try_from(d).ok()).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// The octets of a file of recorded kernel messages: lines of hex that are long enough to be nothing else.
fn recorded(text: &str) -> Vec<Vec<u8>> {
    let is_hex = |line: &&str| line.len() >= 32 && line.bytes().all(|c| c.is_ascii_hexdigit());
    text.lines().filter(is_hex).map(hex).collect()
}

/// An IKE_SA_INIT request, an INFORMATIONAL with an SK payload and a bare NOTIFY, as other implementations send them.
const KNOWN_IKE: &[&str] = &[
    "a1b2c3d4e5f60718 0000000000000000 21 20 22 08 00000000 000000a8
     22000034 00000030 01010004 0300000c 0100000c 800e0080 03000008 02000005 03000008 0300000c 00000008 0400001f
     28000028 001f0000 0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20
     29000014 00112233445566778899aabbccddeeff
     2900001c 00004004 0102030405060708090a0b0c0d0e0f1011121314
     00000008 0000402e 00000008 00004014",
    "a1b2c3d4e5f60718 1122334455667788 2e 20 25 08 00000002 00000039 2a00001d 0102030405060708 aabbccddeeff00112233445566778899 77",
    "a1b2c3d4e5f60718 0000000000000000 29 20 22 20 00000000 00000026 0000000a 00000011 0013",
];

/// IKEv2 messages whole, and chains as they stand inside SK.
pub(super) fn ikev2() -> Call {
    let known: Vec<Vec<u8>> = KNOWN_IKE.iter().map(|text| hex(text)).collect();
    Box::new(move |generator| {
        let seed = generator.choice(&known).clone();
        let mut octets = if generator.below(10) == 0 { generator.octets(300) } else { generator.bent(&seed) };
        if let (Ok(length), Some(field)) = (u32::try_from(octets.len()), octets.get_mut(24..28)) {
            // Most inputs shall get past the length check.
            field.copy_from_slice(&length.to_be_bytes());
        }
        if let Ok(message) = Message::decode(&octets) {
            let again = Message::decode(&message.encode()).map_err(|error| format!("its own encoding is refused: {error}"))?;
            if again.payloads != message.payloads {
                return Err(format!("payloads changed when written and read again: {}", describe(&message)));
            }
        }
        if let Some(inner) = octets.get(28..) {
            let first = watari_wire::ikev2::PayloadType(octets[16]);
            if let Ok(payloads) = decode_chain(first, inner, 0) {
                let (first, written) = encode_chain(&payloads);
                let again = decode_chain(first, &written, 0).map_err(|error| format!("its own chain is refused: {error}"))?;
                if again != payloads {
                    return Err("a chain changed when written and read again".to_owned());
                }
            }
        }
        Ok(())
    })
}

/// Netlink XFRM: recorded messages bent, as answers and as events, with requests under way.
pub(super) fn xfrm() -> Call {
    let known = recorded(include_str!("../../../kernel/xfrm/tests/recorded.txt"));
    let mut backend = XfrmBackend::new(1);
    let mut calls = 0_u64;
    Box::new(move |generator| {
        calls += 1;
        if calls.is_multiple_of(1000) {
            backend = XfrmBackend::new(1);
        }
        if calls % 50 == 1 {
            backend.submit(Now::default(), RequestId(calls), KernelRequest::DumpPolicies);
            backend.submit(Now::default(), RequestId(calls + 1), KernelRequest::DumpSas);
        }
        let seed = generator.choice(&known).clone();
        let octets = generator.bent(&seed);
        let channel = if generator.below(2) == 0 { Channel::XfrmEvent } else { Channel::XfrmRequest };
        backend.received(Now::default(), channel, &octets);
        for _ in 0..10_000 {
            if matches!(backend.poll(), BackendOutput::Wait(_)) {
                return Ok(());
            }
        }
        Err("the back end never waits".to_owned())
    })
}

/// PF_KEY messages, to a mere listener and to the back end in both dialects, now and then as answers to what it asked.
pub(super) fn pfkey() -> Call {
    let mut known = recorded(include_str!("../../../kernel/pfkey/tests/recorded.txt"));
    known.extend(recorded(include_str!("../../../kernel/pfkey/tests/policies.txt")));
    let fresh = || [Dialect::Linux, Dialect::Kame].map(|dialect| (KeyListener::new(dialect), KeyBackend::new(dialect, 1)));
    let mut heard = fresh();
    let mut asked = [1; 8];
    let mut calls = 0_u64;
    Box::new(move |generator| {
        calls += 1;
        if calls.is_multiple_of(1000) {
            heard = fresh();
        }
        let seed = generator.choice(&known).clone();
        let mut octets = generator.bent(&seed);
        if generator.below(3) == 0
            && let Some(numbers) = octets.get_mut(8..16)
        {
            numbers.copy_from_slice(&asked);
        }
        let now = Now { boot: Duration::from_millis(100 * calls), wall: Duration::ZERO };
        for (listener, backend) in &mut heard {
            let _ = listener.received(&octets);
            if calls % 50 == 1 {
                backend.submit(now, RequestId(calls), KernelRequest::DumpPolicies);
                backend.submit(now, RequestId(calls + 1), KernelRequest::DumpSas);
            }
            backend.timeout(now);
            backend.received(now, Channel::Key, &octets);
            let waits = (0..10_000).any(|_| match backend.poll() {
                BackendOutput::Wait(_) => true,
                BackendOutput::Send(_, request) => {
                    asked = request.get(8..16).and_then(|numbers| numbers.try_into().ok()).unwrap_or(asked);
                    false
                }
                _ => false,
            });
            if !waits {
                return Err("the back end never waits".to_owned());
            }
        }
        Ok(())
    })
}

/// rtnetlink messages about addresses, links and routes.
pub(super) fn route() -> Call {
    let mut known = recorded(include_str!("../../../kernel/route/tests/addresses.txt"));
    known.extend(recorded(include_str!("../../../kernel/route/tests/links.txt")));
    let mut monitor = RouteMonitor::new();
    Box::new(move |generator| {
        let seed = generator.choice(&known).clone();
        monitor.received(&generator.bent(&seed));
        for _ in 0..10_000 {
            if matches!(monitor.poll(), BackendOutput::Wait(_)) {
                return Ok(());
            }
        }
        Err("the monitor never waits".to_owned())
    })
}

/// Messages of a routing socket, and answers about what they say.
pub(super) fn routing_socket() -> Call {
    let known = [
        // RTM_NEWADDR of 2001:db8:1::5/64, RTM_IFINFO without data, RTM_DELETE of a default route, RTM_IFANNOUNCE; all with sockaddrs of 28 octets.
        hex("5800050c 24000000 00000000 02000000 00000000 1c1c000000000000 ffffffffffffffff0000000000000000 0000000000000000
             1c1c000000000000 20010db8000100000000000000000005 0000000000000000 00000000"),
        hex("2000050e 00000000 43880000 02000000 0600060e02000000 0000000000000000"),
        [hex("d8000502 02000000 03080000 05000000 d2040000 01000000 00000000 00000000"), vec![0; 120], hex(
            "1c1c000000000000 00000000000000000000000000000000 0000000000000000 1c1c000000000000 00000000000000000000000000000000 0000000000000000",
        )]
        .concat(),
        hex("18000511 0200 656d3000000000000000000000000000 0100"),
    ];
    let new = || RtsockMonitor::new(Layout { dialect: RoutingDialect::Kame, long: 8 });
    let mut monitor = new();
    let mut now = Duration::ZERO;
    Box::new(move |generator| {
        now = now.saturating_add(Duration::from_millis(100));
        // A host has not as many addresses as bent messages name.
        if generator.below(1_000) == 0 {
            monitor = new();
        }
        let seed = generator.choice(&known).clone();
        let octets = generator.bent(&seed);
        if generator.below(8) == 0 {
            monitor.interfaces(now, Some(&octets))
        } else {
            monitor.received(now, &octets)
        }
        monitor.timeout(now);
        for _ in 0..10_000 {
            match monitor.poll() {
                RtsockOutput::Ask(Query::Interfaces) => monitor.interfaces(now, None),
                RtsockOutput::Ask(Query::Flags { interface, address }) => {
                    let bits = u32::try_from(generator.below(0x400)).unwrap_or(0);
                    monitor.flags(now, interface, address, (bits != 0).then_some(bits));
                }
                RtsockOutput::Event(_) => {}
                RtsockOutput::Wait(_) => return Ok(()),
            }
        }
        Err("the monitor never waits".to_owned())
    })
}

/// Mobility Headers.
pub(super) fn mobility_header() -> Call {
    let options = alternate_care_of(Ipv6Addr::LOCALHOST);
    let known = [
        MobilityMessage::Update { sequence: 7, flags: UpdateFlags(0xd000), lifetime: 15, options }.encode(),
        MobilityMessage::Acknowledgement { status: 0, flags: AckFlags(0x80), sequence: 7, lifetime: 15, options: Vec::new() }.encode(),
    ];
    Box::new(move |generator| {
        let seed = generator.choice(&known).clone();
        let octets = generator.bent(&seed);
        if let Ok(message) = MobilityMessage::decode(&octets) {
            let again = MobilityMessage::decode(&message.encode()).map_err(|error| format!("its own encoding is refused: {error:?}"))?;
            if again != message {
                return Err(format!("changed when written and read again: {message:?}"));
            }
        }
        Ok(())
    })
}

/// Control packets.
pub(super) fn vici() -> Call {
    let inner = Section(vec![("b".to_owned(), Value::List(vec![b"x".to_vec(), Vec::new()]))]);
    let message = Section(vec![("a".to_owned(), Value::Scalar(b"1".to_vec())), ("s".to_owned(), Value::Section(inner))]);
    let packet = Packet::Request { name: "list-sas".to_owned(), arguments: message };
    let known = packet.encode().unwrap_or_default();
    Box::new(move |generator| {
        let octets = generator.bent(&known);
        if let Ok(packet) = Packet::decode(&octets) {
            let written = packet.encode().map_err(|error| format!("its own packet cannot be written: {error}"))?;
            if Packet::decode(&written).ok().as_ref() != Some(&packet) {
                return Err("a packet changed when written and read again".to_owned());
            }
        }
        Ok(())
    })
}

/// A key keeper that has every secret.
struct Secrets;

impl config::SecretSource for Secrets {
    fn file(&self, _: &str) -> Result<Secret, String> {
        Ok(Secret::new(b"secret".to_vec()))
    }

    fn holds(&self, _: SecretId) -> bool {
        true
    }
}

/// Configuration text.
pub(super) fn configuration() -> Call {
    const KNOWN: &str = "[mobile_node]\nhome_address = \"2001:db8:1::abcd\"\nhome_agent = \"2001:db8:1::1\"\nidentity = \"mn.example\"\n\
        home_agent_identity = \"ha.example\"\npsk = \"a secret for tests\"\nprotect = [\"binding\", \"payload\"]\n\
        reqids = { binding = [1, 2], payload = [7, 8] }\npolicies = \"mip6d\"\nike = [\"aes128-sha256-x25519\"]\n";
    Box::new(|generator| {
        let octets = generator.bent(KNOWN.as_bytes());
        let text = String::from_utf8_lossy(&octets);
        if let Ok(loaded) = config::load(&text, "fuzz.toml", &Secrets) {
            let expanded = config::expand(&loaded.config, &loaded.origins);
            let again = config::load(&expanded, "expanded.toml", &Secrets);
            if let Err(complaints) = again {
                return Err(format!("its own expansion is refused: {complaints}\n{expanded}"));
            }
        }
        Ok(())
    })
}
