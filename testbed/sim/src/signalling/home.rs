//! The home agent's half: bindings, MIGRATE after an accepted binding update, tunnel policies only while a binding stands.

mod switch;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use watari_kernel::PolicyEntry;
use watari_kernel::mirror::Packet;
use watari_mip6::Message;
use watari_mip6::message::{AckFlags, UpdateFlags};
use watari_policies::Mode;
use watari_policies::selector::{ICMPV6, MOBILITY_HEADER};

use super::spd::{self, Bound, End};
use super::{Agenda, Agreement, DUPLICATE, Input, Output, PREFIX_ADVERTISEMENT, PREFIX_SOLICITATION, Personality, SignalEvent, Tunnels};
use super::{icmp_packet, mobility_packet};

/// Duplicate address detection for a home address before its first binding (measured 1.03 s).
const FIRST_BINDING: Duration = Duration::from_millis(1030);

/// What a home agent's daemon is told.
#[derive(Clone, Debug, PartialEq)]
pub struct HomeSettings {
    /// The home agent's address.
    pub address: IpAddr,
    /// Its mobile nodes.
    pub agreements: Vec<Agreement>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timer {
    /// Duplicate address detection of a home address is over.
    Defended(IpAddr),
    /// A binding's lifetime is over.
    Expired(IpAddr),
    /// A mobile node that was told to go has not gone.
    Switch(IpAddr),
}

#[derive(Clone, Copy, Debug)]
struct Request {
    care_of: IpAddr,
    sequence: u16,
    lifetime: u16,
    moves_keys: bool,
}

#[derive(Clone, Debug, Default)]
struct Binding {
    care_of: Option<IpAddr>,
    last_sequence: Option<u16>,
    waiting: Option<Request>,
    /// SHISA's tunnels.
    tunnels: Tunnels,
    /// Time between the last two Home Agent Switch messages.
    farewell: Duration,
}

/// The home agent.
#[derive(Clone, Debug)]
pub struct HomeAgent {
    settings: HomeSettings,
    agenda: Agenda<Timer>,
    bindings: BTreeMap<IpAddr, Binding>,
    /// Home addresses that another host on the home link has.
    duplicates: BTreeSet<IpAddr>,
    /// Where mobile nodes are to go.
    successor: Option<IpAddr>,
}

impl HomeAgent {
    /// A home agent that has not started yet.
    pub fn new(settings: HomeSettings) -> Self {
        let agenda = Agenda { outputs: std::collections::VecDeque::new(), timers: Vec::new() };
        Self { settings, agenda, bindings: BTreeMap::new(), duplicates: BTreeSet::new(), successor: None }
    }

    /// The care-of address of a home address, if it is bound.
    pub fn care_of(&self, home_address: IpAddr) -> Option<IpAddr> {
        self.bindings.get(&home_address).and_then(|binding| binding.care_of)
    }

    /// The sequence number that a binding update for a home address must have to be accepted next.
    pub fn next_sequence(&self, home_address: IpAddr) -> u16 {
        let last = self.bindings.get(&home_address).and_then(|binding| binding.last_sequence);
        last.unwrap_or(0).wrapping_add(1)
    }

    /// One more home address is agreed on.
    pub fn serve(&mut self, agreement: Agreement) {
        for policy in standing(&agreement) {
            self.agenda.put(Output::SetPolicy(policy));
        }
        self.settings.agreements.push(agreement);
    }

    /// A home address is not agreed on any more: binding and policies go, and nobody has come home.
    pub fn dismiss(&mut self, home_address: IpAddr) {
        let Some(agreement) = self.agreement(home_address) else { return };
        self.unbind(&agreement);
        for policy in standing(&agreement) {
            self.delete(&policy);
        }
        self.bindings.remove(&home_address);
        self.duplicates.remove(&home_address);
        self.settings.agreements.retain(|agreement| agreement.home_address != home_address);
    }

    /// Another host on the home link has this home address: the next binding update for it is refused.
    pub fn found_duplicate(&mut self, home_address: IpAddr) {
        self.duplicates.insert(home_address);
    }

    /// Ends a binding where no one has come home: its policies and states go from where they are.
    fn unbind(&mut self, agreement: &Agreement) {
        let home_address = agreement.home_address;
        self.agenda.clear(&Timer::Expired(home_address));
        self.agenda.clear(&Timer::Defended(home_address));
        self.agenda.clear(&Timer::Switch(home_address));
        let Some(old) = self.bindings.get_mut(&home_address).and_then(|binding| binding.care_of.take()) else { return };
        let tunnels = spd::ipsec(agreement, End::HomeAgent, Mode::Tunnel, home_address).into_iter().map(|policy| policy.entry);
        for policy in tunnels.chain(bound(agreement)) {
            self.delete(&policy);
        }
        for state in spd::states(agreement, old) {
            self.agenda.put(Output::DeleteState(state));
        }
        self.agenda.put(Output::Proxy { home_address, on: false });
    }

    /// Takes an input; `now` is boot time.
    pub fn handle(&mut self, now: Duration, input: Input) {
        match input {
            Input::Start => self.start(),
            Input::SendAway(to) => self.send_away(now, to),
            Input::Attached { .. } | Input::Detached(_) | Input::HomeAgent(_) => {}
            Input::Packet(packet) => self.packet(now, &packet),
            Input::Timeout => {
                while let Some(timer) = self.agenda.due(now) {
                    match timer {
                        Timer::Defended(home_address) => self.defended(now, home_address),
                        Timer::Switch(home_address) => self.tell_to_go(now, home_address),
                        Timer::Expired(home_address) => {
                            if let Some(agreement) = self.agreement(home_address) {
                                self.end(&agreement);
                            }
                        }
                    }
                }
            }
        }
    }

    /// The next thing wanted; call until `Wait`.
    pub fn poll(&mut self) -> Output {
        self.agenda.poll()
    }

    fn agreement(&self, home_address: IpAddr) -> Option<Agreement> {
        self.settings.agreements.iter().find(|agreement| agreement.home_address == home_address).cloned()
    }

    fn start(&mut self) {
        for policy in spd::home_start(self.settings.address) {
            self.agenda.put(Output::SetPolicy(policy));
        }
        self.agenda.put(Output::SetState(spd::any_update(self.settings.address)));
        for agreement in &self.settings.agreements {
            for policy in standing(agreement) {
                self.agenda.put(Output::SetPolicy(policy));
            }
            if let Personality::Shisa(_) = agreement.personality {
                let binding = self.bindings.entry(agreement.home_address).or_default();
                self.agenda.outputs.extend(binding.tunnels.start(agreement, End::HomeAgent));
            }
        }
    }

    fn packet(&mut self, now: Duration, packet: &Packet) {
        let (Some(upper), Some(agreement)) = (packet.upper(), self.agreement(packet.src)) else { return };
        if upper.protocol == ICMPV6 && upper.sport == PREFIX_SOLICITATION {
            self.agenda.put(Output::Send(icmp_packet(agreement.home_agent, agreement.home_address, PREFIX_ADVERTISEMENT)));
        }
        if upper.protocol != MOBILITY_HEADER {
            return;
        }
        let Ok(message) = Message::decode(&upper.payload) else { return };
        let care_of = message.alternate_care_of().map_or(packet.src, IpAddr::V6);
        if let Message::Update { sequence, flags, lifetime, .. } = message
            && flags.has(UpdateFlags::HOME)
        {
            let moves_keys = flags.has(UpdateFlags::KEY_MOBILITY);
            self.update(now, &agreement, Request { care_of, sequence, lifetime, moves_keys });
        }
    }

    fn update(&mut self, now: Duration, agreement: &Agreement, request: Request) {
        /// Status "sequence number out of window" (RFC 6275 6.1.8).
        const OUT_OF_WINDOW: u8 = 135;
        let home_address = agreement.home_address;
        let binding = self.bindings.entry(home_address).or_default();
        if let Some(last) = binding.last_sequence {
            // RFC 6275 9.5.1: not greater, modulo 2^16, than the last one.
            if request.sequence.wrapping_sub(last).wrapping_sub(1) >= 0x8000 {
                let refused = Request { sequence: last, ..request };
                self.acknowledge(agreement, &refused, OUT_OF_WINDOW);
                return;
            }
        }
        binding.last_sequence = Some(request.sequence);
        let bound = binding.care_of.is_some();
        let moves = self.successor.is_some() && request.lifetime > 0;
        if self.is_farewell(agreement, request) {
            self.part(agreement, request);
        } else if moves && request.care_of != home_address {
            self.acknowledge(agreement, &request, switch::PROHIBITED);
        } else if request.lifetime == 0 || request.care_of == home_address {
            self.agenda.clear(&Timer::Defended(home_address));
            self.end(agreement);
            self.acknowledge(agreement, &request, 0);
        } else if bound && self.duplicates.contains(&home_address) {
            // The answer needs the states of the binding; after it nothing is left that would want SAs for this address.
            self.acknowledge(agreement, &request, DUPLICATE);
            self.dismiss(home_address);
        } else if bound {
            self.accept(now, agreement, request);
        } else if self.bindings.entry(home_address).or_default().waiting.replace(request).is_none() {
            self.agenda.set(now.saturating_add(FIRST_BINDING), Timer::Defended(home_address));
        }
    }

    fn defended(&mut self, now: Duration, home_address: IpAddr) {
        let waiting = self.bindings.get_mut(&home_address).and_then(|binding| binding.waiting.take());
        if let (Some(request), Some(agreement)) = (waiting, self.agreement(home_address)) {
            self.accept(now, &agreement, request);
        }
    }

    fn accept(&mut self, now: Duration, agreement: &Agreement, request: Request) {
        let home_address = agreement.home_address;
        let old = self.bindings.get_mut(&home_address).and_then(|binding| binding.care_of.replace(request.care_of));
        self.agenda.event(SignalEvent::Accepted { home_address, care_of: request.care_of });
        let mip6d = agreement.personality == Personality::Mip6d;
        // The tunnel that brought the first binding update waits for it at no address at all.
        let before = if agreement.tunnels_updates() { spd::ANY } else { home_address };
        if old.is_none() {
            for policy in spd::ipsec(agreement, End::HomeAgent, Mode::Tunnel, before).into_iter().filter(|_| mip6d) {
                self.agenda.put(Output::SetPolicy(policy.entry));
            }
            for policy in bound(agreement) {
                self.agenda.put(Output::SetPolicy(policy));
            }
            self.agenda.put(Output::Proxy { home_address, on: true });
        }
        if old != Some(request.care_of) {
            let old = old.unwrap_or(before);
            for state in spd::states(agreement, request.care_of) {
                self.agenda.put(Output::SetState(state));
            }
            for mode in [Mode::Transport, Mode::Tunnel].into_iter().filter(|_| mip6d) {
                self.migrate(agreement, mode, old, request.care_of);
            }
            if let Personality::Shisa(tells) = agreement.personality {
                let tunnels = &mut self.bindings.entry(home_address).or_default().tunnels;
                self.agenda.outputs.extend(tunnels.rebind(agreement, End::HomeAgent, request.care_of, tells));
            }
        }
        let lifetime = Duration::from_secs(u64::from(request.lifetime).saturating_mul(4));
        self.agenda.set(now.saturating_add(lifetime), Timer::Expired(home_address));
        self.acknowledge(agreement, &request, 0);
    }

    fn end(&mut self, agreement: &Agreement) {
        let home_address = agreement.home_address;
        self.agenda.clear(&Timer::Expired(home_address));
        let binding = self.bindings.entry(home_address).or_default();
        binding.waiting = None;
        let Some(old) = binding.care_of.take() else { return };
        self.agenda.event(SignalEvent::Ended { home_address });
        if agreement.personality == Personality::Mip6d {
            for (mode, old) in [(Mode::Transport, old), (Mode::Tunnel, old), (Mode::Tunnel, home_address)] {
                self.migrate(agreement, mode, old, home_address);
            }
            for policy in spd::ipsec(agreement, End::HomeAgent, Mode::Tunnel, home_address) {
                self.delete(&policy.entry);
            }
            self.agenda.outputs.extend(spd::awaiting(agreement).into_iter().map(Output::SetPolicy));
        } else {
            let tunnels = &mut self.bindings.entry(home_address).or_default().tunnels;
            self.agenda.outputs.extend(tunnels.rest(agreement, End::HomeAgent));
        }
        for policy in bound(agreement) {
            self.delete(&policy);
        }
        for state in spd::states(agreement, old) {
            self.agenda.put(Output::DeleteState(state));
        }
        self.agenda.put(Output::Proxy { home_address, on: false });
    }

    fn migrate(&mut self, agreement: &Agreement, mode: Mode, old: IpAddr, new: IpAddr) {
        for request in spd::migrates(agreement, End::HomeAgent, mode, old, new) {
            self.agenda.put(Output::Migrate(request));
        }
    }

    fn delete(&mut self, policy: &PolicyEntry) {
        let PolicyEntry { selector, direction, kind, .. } = *policy;
        self.agenda.put(Output::DeletePolicy { selector, direction, kind });
    }

    fn acknowledge(&mut self, agreement: &Agreement, request: &Request, status: u8) {
        //= rfc6275#10.3.1
        //# K comes back if it was asked for and this end can do it
        let keys = status < 128 && request.moves_keys && agreement.moves_keys;
        let message = Message::Acknowledgement {
            status,
            flags: AckFlags(if keys { AckFlags::KEY_MOBILITY } else { 0 }),
            sequence: request.sequence,
            lifetime: request.lifetime,
            options: vec![watari_mip6::MobilityOption::PadN(2)],
        };
        self.agenda.put(Output::Send(mobility_packet(agreement.home_agent, agreement.home_address, &message)));
    }
}

/// What stands whether there is a binding or not.
fn standing(agreement: &Agreement) -> impl Iterator<Item = PolicyEntry> + use<> {
    let transport = spd::ipsec(agreement, End::HomeAgent, Mode::Transport, agreement.home_address);
    transport.into_iter().map(|policy| policy.entry).chain(spd::awaiting(agreement))
}

fn bound(agreement: &Agreement) -> impl Iterator<Item = PolicyEntry> + use<> {
    [Bound::Signalling, Bound::Data].map(|what| spd::bound(agreement, End::HomeAgent, what)).into_iter().flatten()
}
