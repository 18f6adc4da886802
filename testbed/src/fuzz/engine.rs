//! The whole engine under generated input: bent datagrams, forged kernel events, answers nobody asked for, time that jumps.
//! Checks: no panic, bounded output for one input, and no established SA lost to unauthenticated datagrams.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use watari_crypto::{FakeProvider, Provider};
use watari_engine::{Command, CommandId, Input, Output, vici};
use watari_kernel::{
    AddressEvent, AddressFlags, Endpoints, Expire, KernelError, KernelEvent, KernelReply, KmAddress, Migrate, MigrateSource, MigrateStep,
    Now, RequestId, SaId, Spi,
};
use watari_policies::{Direction, Mode, PortMask, Protocol, Reqid, Selector};
use watari_sa::{Datagram, Path, TransmitId, Undeliverable, WorkDone, WorkId};

use super::Call;
use super::generator::Generator;
use crate::instant::{HOME_AGENT, Host, acquire, arrived, care_of, exchange, home_address, home_agent_of, mobile_node_of, now, register};

/// Inputs after which a fresh pair of agents is made.
const LIFE: u32 = 400;
/// More outputs than this for one input is a flood.
const FLOOD: usize = 2_000;

/// Two agents with established SAs.
struct Pair {
    home_agent: Host,
    node: Host,
    at: u64,
    inputs: u32,
    /// Whether only unauthenticated datagrams are fed: then nothing may be lost.
    datagrams_only: bool,
}

impl Pair {
    fn new(datagrams_only: bool) -> Result<Self, String> {
        let provider: Arc<dyn Provider> = Arc::new(FakeProvider);
        let mut home_agent = home_agent_of(2, Arc::clone(&provider));
        let mut node = mobile_node_of(0, provider);
        (home_agent.keep_history, node.keep_history) = (true, true);
        register(&mut home_agent, &mut node, 0, 3)?;
        Ok(Self { home_agent, node, at: 1, inputs: 0, datagrams_only })
    }
}

/// The target.
pub(super) fn sequences() -> Call {
    let mut pair = None;
    Box::new(move |generator| {
        if pair.as_ref().is_none_or(|pair: &Pair| pair.inputs >= LIFE) {
            if let Some(pair) = pair.take() {
                last_look(pair)?;
            }
            pair = Some(Pair::new(generator.below(2) == 0)?);
        }
        let Some(pair) = &mut pair else { return Ok(()) };
        pair.inputs += 1;
        let input = if pair.datagrams_only || generator.below(3) == 0 { datagram(generator, pair) } else { anything(generator, pair) };
        feed(pair, input)
    })
}

fn feed(pair: &mut Pair, input: Input) -> Result<(), String> {
    let at = Now { boot: now(0).boot + Duration::from_millis(pair.at), ..now(0) };
    let mut outputs = std::collections::VecDeque::new();
    pair.home_agent.agent.handle(at, input);
    loop {
        match pair.home_agent.agent.poll() {
            Output::Wait(_) => break,
            output => outputs.push_back(output),
        }
        if outputs.len() > FLOOD {
            return Err(format!("more than {FLOOD} outputs for one input"));
        }
    }
    pair.home_agent.settle(at, outputs);
    pair.home_agent.sent.clear();
    Ok(())
}

/// After unauthenticated datagrams alone the node must still be answered on its IKE SA.
fn last_look(mut pair: Pair) -> Result<(), String> {
    if !pair.datagrams_only {
        return Ok(());
    }
    let policy = pair.node.config.policies.first().cloned().ok_or("no policy")?;
    let before = pair.home_agent.children;
    let arguments = vici::Section(vec![("child".to_owned(), vici::Value::Scalar(policy.name.clone().into_bytes()))]);
    pair.node.feed(now(pair.at), Input::Command(CommandId(1), Command::Vici { name: "rekey".to_owned(), arguments }));
    exchange(&mut pair.home_agent, &mut pair.node, care_of(0, 1));
    if pair.home_agent.children == before + 1 {
        Ok(())
    } else {
        Err("after unauthenticated datagrams the established IKE SA no longer answers".to_owned())
    }
}

fn datagram(generator: &mut Generator, pair: &Pair) -> Input {
    let all: Vec<_> = pair.node.history.iter().chain(&pair.home_agent.history).collect();
    let known = (*generator.choice(&all)).clone();
    let mut datagram = arrived(known, Some(care_of(0, 1)));
    datagram.path.local.set_ip(HOME_AGENT);
    datagram.octets = generator.bent(&datagram.octets);
    if generator.below(4) > 0
        && let (Ok(length), Some(field)) = (u32::try_from(datagram.octets.len()), datagram.octets.get_mut(24..28))
    {
        field.copy_from_slice(&length.to_be_bytes());
    }
    if generator.below(3) == 0 {
        datagram.path.remote = SocketAddr::new(address(generator), u16::try_from(generator.below(65536)).unwrap_or(500));
    }
    Input::Datagram(datagram)
}

fn anything(generator: &mut Generator, pair: &mut Pair) -> Input {
    match generator.below(12) {
        0 => Input::Undeliverable(
            TransmitId(generator.number() % 64),
            *generator.choice(&[Undeliverable::Tentative, Undeliverable::NoRoute, Undeliverable::TooBig]),
        ),
        1 => Input::Done(RequestId(generator.number() % 256), Ok(KernelReply::Spi(Spi(7)))),
        2 => Input::Done(
            RequestId(generator.number() % 256),
            Err(KernelError { errno: 22, text: "fuzz".to_owned(), request: "do anything" }),
        ),
        3 => Input::WorkDone(
            WorkId(generator.number() % 256),
            WorkDone::Failed { why: "fuzz".to_owned(), peer_at_fault: generator.below(2) == 0 },
        ),
        4 => {
            pair.at += generator.number() % 100_000;
            Input::Timeout
        }
        5 => Input::Command(CommandId(generator.number()), Command::Status),
        6 => Input::Command(CommandId(generator.number()), vici_command(generator)),
        7 | 8 => Input::Kernel(KernelEvent::Migrate(migrate(generator))),
        9 => {
            let policy = generator.choice(&pair.node.config.policies).clone();
            Input::Kernel(KernelEvent::Acquire(acquire(&policy, address(generator))))
        }
        10 => Input::Kernel(kernel_event(generator)),
        _ => {
            let path = Path::between(HOME_AGENT, address(generator), *generator.choice(&[500, 4500]));
            Input::Datagram(Datagram { path, octets: generator.octets(200) })
        }
    }
}

fn vici_command(generator: &mut Generator) -> Command {
    let name =
        *generator.choice(&["version", "stats", "list-sas", "list-conns", "list-policies", "initiate", "terminate", "rekey", "nonsense"]);
    let key = *generator.choice(&["child", "ike", "child-id", "ike-id", "x"]);
    let value = generator.choice(&["binding", "payload", "mn0", "1", "999999999999999999999", ""]).as_bytes().to_vec();
    Command::Vici { name: name.to_owned(), arguments: vici::Section(vec![(key.to_owned(), vici::Value::Scalar(value))]) }
}

fn address(generator: &mut Generator) -> IpAddr {
    match generator.below(6) {
        0 => home_address(0),
        1 => HOME_AGENT,
        2 => care_of(0, 1),
        3 => care_of(0, 2),
        4 => IpAddr::from([0_u8; 16]),
        _ => IpAddr::from([192, 0, 2, 1]),
    }
}

fn selector(generator: &mut Generator) -> Selector {
    let net = |address: IpAddr| IpNet::from(address);
    let ports = [PortMask::ANY, PortMask::exact(5), PortMask::exact(6)];
    Selector {
        src: net(address(generator)),
        dst: net(address(generator)),
        protocol: *generator.choice(&[0, 58, 135]),
        sport: *generator.choice(&ports),
        dport: PortMask::ANY,
    }
}

fn migrate(generator: &mut Generator) -> Migrate {
    let mode = *generator.choice(&[Mode::Transport, Mode::Tunnel]);
    let steps = (0..generator.below(7))
        .map(|_| MigrateStep {
            protocol: Protocol::Esp,
            mode,
            reqid: Reqid(u32::try_from(generator.below(9)).unwrap_or(0)),
            old: Endpoints { src: address(generator), dst: address(generator) },
            new: Endpoints { src: address(generator), dst: address(generator) },
        })
        .collect();
    let kmaddress = (generator.below(2) == 0).then(|| KmAddress { local: address(generator), remote: address(generator) });
    let direction = *generator.choice(&[Direction::In, Direction::Out, Direction::Forward]);
    let source = *generator.choice(&[MigrateSource::Netlink, MigrateSource::PfKey]);
    Migrate { selector: selector(generator), direction, steps, kmaddress, source }
}

fn kernel_event(generator: &mut Generator) -> KernelEvent {
    let id = SaId { dst: address(generator), protocol: Protocol::Esp, spi: Spi(u32::try_from(generator.below(0x1010)).unwrap_or(0)) };
    match generator.below(6) {
        0 => KernelEvent::Expire(Expire { id, src: address(generator), reqid: Reqid(1), hard: generator.below(2) == 0 }),
        1 => KernelEvent::SaRemoved(id),
        2 => KernelEvent::Flushed { policies: generator.below(2) == 0 },
        3 => KernelEvent::Resynchronised { policies: Vec::new(), sas: Vec::new() },
        4 => KernelEvent::Malformed { channel: watari_kernel::Channel::Key, why: "fuzz".to_owned(), octets: generator.octets(20) },
        _ => KernelEvent::Address(AddressEvent {
            interface: 2,
            address: address(generator),
            prefix_len: 64,
            present: generator.below(2) == 0,
            flags: AddressFlags { tentative: generator.below(2) == 0, home: generator.below(4) == 0, ..AddressFlags::default() },
        }),
    }
}
