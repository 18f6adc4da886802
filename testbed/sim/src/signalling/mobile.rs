//! The mobile node's half: movement, MIGRATE before the binding update (SHISA: after it), block policies until the acknowledgement, home.

mod home_agents;

use std::net::IpAddr;
use std::time::Duration;

use watari_kernel::mirror::Packet;
use watari_kernel::{PolicyEntry, PolicyKind};
use watari_mip6::Message;
use watari_mip6::message::{AckFlags, UpdateFlags};
use watari_mip6::option::alternate_care_of;
use watari_policies::Mode;
use watari_policies::selector::{ICMPV6, MOBILITY_HEADER};

use super::spd::{self, Bound, End};
use super::{
    Agenda, Agreement, DUPLICATE, HomeAddressAt, Input, Output, PREFIX_ADVERTISEMENT, PREFIX_SOLICITATION, Personality, SignalEvent,
    Tunnels,
};
use super::{icmp_packet, mobility_packet, v6};

/// From the spurious move at start to the recognition of the home link (measured 230 ms).
const RECOGNITION: Duration = Duration::from_millis(230);
/// First wait for an acknowledgement; doubles with every repeat.
const FIRST_REPEAT: Duration = Duration::from_secs(1);
/// Longest wait for an acknowledgement.
const LONGEST_REPEAT: Duration = Duration::from_secs(32);

/// What a mobile node's daemon is told besides the agreement.
#[derive(Clone, Debug, PartialEq)]
pub struct MobileSettings {
    /// What is agreed with the home agent.
    pub agreement: Agreement,
    /// First binding update sequence number.
    pub sequence: u16,
    /// A correspondent to which a Home Test Init goes after each registration away from home.
    pub correspondent: Option<IpAddr>,
    /// Whether to ask for the home prefix after each registration away from home.
    pub prefix_discovery: bool,
    /// mip6d with key-management mobility: movements during the first registration are looked at only after it.
    pub deaf_at_first: bool,
    /// From a new address to the decision to move (measured about 0.2 s).
    pub decision: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timer {
    Decide,
    Recognise,
    Repeat,
    Refresh,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Nowhere,
    Home,
    Away(IpAddr),
}

#[derive(Clone, Copy, Debug)]
struct Update {
    care_of: IpAddr,
    sequence: u16,
    ends: bool,
    repeats: u32,
    wait: Duration,
}

/// The mobile node.
#[derive(Clone, Debug)]
pub struct MobileNode {
    settings: MobileSettings,
    agenda: Agenda<Timer>,
    place: Place,
    /// Whether there is a link: what was still in a queue when it went is not looked at, least of all to let data flow.
    linked: bool,
    /// The address just attached to, and whether its link is home.
    candidate: Option<(IpAddr, bool)>,
    started_once: bool,
    tunnels_at: Option<IpAddr>,
    /// SHISA's tunnels.
    static_tunnels: Tunnels,
    pending: Option<Update>,
    registered: Option<IpAddr>,
    ever_registered: bool,
    blocked: bool,
    sequence: u16,
    /// The home agent has said in this binding that key management does not follow.
    keys_stay: bool,
    /// Whether it ends, or has ended, its binding with a home agent that it leaves.
    leaving: bool,
    /// The home agent to register with next.
    next: Option<IpAddr>,
}

impl MobileNode {
    /// A node that has not started yet.
    pub fn new(settings: MobileSettings) -> Self {
        let sequence = settings.sequence;
        Self {
            settings,
            agenda: Agenda { outputs: std::collections::VecDeque::new(), timers: Vec::new() },
            place: Place::Nowhere,
            linked: false,
            candidate: None,
            started_once: false,
            tunnels_at: None,
            static_tunnels: Tunnels::default(),
            pending: None,
            registered: None,
            ever_registered: false,
            blocked: false,
            sequence,
            keys_stay: false,
            leaving: false,
            next: None,
        }
    }

    /// Whether nothing is under way but perhaps the renewal of a binding.
    pub fn is_settled(&self) -> bool {
        let renews = |update: Update| self.registered == Some(update.care_of);
        self.pending.is_none_or(renews) && self.candidate.is_none() && self.place != Place::Nowhere && !self.leaving && self.next.is_none()
    }

    /// Takes an input; `now` is boot time.
    pub fn handle(&mut self, now: Duration, input: Input) {
        match input {
            Input::Start => self.start(),
            Input::Attached { address, home } => {
                self.linked = true;
                self.candidate = Some((address, home));
                self.agenda.set(now.saturating_add(self.settings.decision), Timer::Decide);
            }
            Input::Detached(address) => {
                self.linked = false;
                if self.candidate.is_some_and(|(candidate, _)| candidate == address) {
                    self.candidate = None;
                    self.agenda.clear(&Timer::Decide);
                    self.agenda.clear(&Timer::Recognise);
                }
                if self.place != Place::Nowhere {
                    self.block(true);
                }
            }
            Input::Packet(packet) if self.linked => self.packet(now, &packet),
            Input::HomeAgent(address) => self.home_agent_is(now, address),
            Input::Packet(_) | Input::SendAway(_) => {}
            Input::Timeout => {
                while let Some(timer) = self.agenda.due(now) {
                    self.timer(now, timer);
                }
            }
        }
    }

    /// The next thing wanted; call until `Wait`.
    pub fn poll(&mut self) -> Output {
        self.agenda.poll()
    }

    fn start(&mut self) {
        let agreement = &self.settings.agreement;
        for policy in spd::ipsec(agreement, End::MobileNode, Mode::Transport, agreement.home_address) {
            self.agenda.put(Output::SetPolicy(policy.entry));
        }
        for policy in spd::mobile_start(agreement) {
            self.agenda.put(Output::SetPolicy(policy));
        }
        if let Personality::Shisa(_) = agreement.personality {
            let outputs = self.static_tunnels.start(agreement, End::MobileNode);
            self.agenda.outputs.extend(outputs);
        }
    }

    fn timer(&mut self, now: Duration, timer: Timer) {
        match timer {
            Timer::Decide => self.decide(now),
            Timer::Recognise => {
                self.candidate = None;
                self.return_home(now);
            }
            Timer::Repeat => self.repeat(now),
            Timer::Refresh => {
                if let Some(care_of) = self.registered.filter(|_| self.pending.is_none()) {
                    self.update(now, care_of, false);
                }
            }
        }
    }

    fn decide(&mut self, now: Duration) {
        let Some((address, home)) = self.candidate else { return };
        if self.settings.deaf_at_first && !self.ever_registered && self.pending.is_some() {
            return;
        }
        if home && !self.started_once {
            // The router is seen before the home link is recognised: a move to a care-of address on the home prefix, and back.
            self.started_once = true;
            self.agenda.set(now.saturating_add(RECOGNITION), Timer::Recognise);
            self.move_away(now, address);
            return;
        }
        self.started_once = true;
        self.candidate = None;
        if home {
            self.return_home(now);
        } else if self.place != Place::Away(address) || self.registered != Some(address) {
            self.move_away(now, address);
        } else {
            self.block(false);
        }
    }

    fn move_away(&mut self, now: Duration, care_of: IpAddr) {
        let agreement = self.settings.agreement.clone();
        self.agenda.event(SignalEvent::Moving { from: self.here(), to: care_of });
        self.agenda.put(Output::HomeAddress(HomeAddressAt::Tunnel));
        let mip6d = agreement.personality == Personality::Mip6d;
        let old = match self.tunnels_at {
            Some(old) => old,
            None => {
                for policy in spd::ipsec(&agreement, End::MobileNode, Mode::Tunnel, agreement.home_address).into_iter().filter(|_| mip6d) {
                    self.agenda.put(Output::SetPolicy(policy.entry));
                }
                agreement.home_address
            }
        };
        self.block(true);
        for policy in spd::bound(&agreement, End::MobileNode, Bound::Signalling) {
            self.agenda.put(Output::SetPolicy(policy));
        }
        for state in spd::states(&agreement, care_of) {
            self.agenda.put(Output::SetState(state));
        }
        if mip6d {
            self.migrate(&agreement, Mode::Transport, old, care_of);
            self.migrate(&agreement, Mode::Tunnel, old, care_of);
        }
        self.tunnels_at = Some(care_of);
        self.place = Place::Away(care_of);
        self.update(now, care_of, self.leaving);
    }

    fn return_home(&mut self, now: Duration) {
        let agreement = self.settings.agreement.clone();
        let home = agreement.home_address;
        self.agenda.event(SignalEvent::Moving { from: self.here(), to: home });
        if let Some(old) = self.tunnels_at.take() {
            if agreement.personality == Personality::Mip6d {
                self.migrate(&agreement, Mode::Tunnel, old, home);
                for policy in spd::ipsec(&agreement, End::MobileNode, Mode::Tunnel, home) {
                    self.delete(&policy.entry);
                }
                self.migrate(&agreement, Mode::Transport, old, home);
            } else {
                let outputs = self.static_tunnels.rest(&agreement, End::MobileNode);
                self.agenda.outputs.extend(outputs);
            }
            // The block policy has the selector of the data policy.
            self.block(false);
            for policy in [Bound::Signalling, Bound::Data].map(|what| spd::bound(&agreement, End::MobileNode, what)).as_flattened() {
                self.delete(policy);
            }
            for state in spd::states(&agreement, old) {
                self.agenda.put(Output::DeleteState(state));
            }
        }
        self.agenda.put(Output::HomeAddress(HomeAddressAt::Link));
        self.place = Place::Home;
        // A first update that was never answered nor repeated left no binding to end.
        let bound = self.registered.is_some() || self.pending.is_some_and(|update| update.repeats > 0);
        self.pending = None;
        self.agenda.clear(&Timer::Repeat);
        // At home nothing is blocked: without the policy for binding messages the update itself would be.
        self.block(false);
        if bound {
            self.update(now, home, true);
        }
    }

    const fn here(&self) -> Option<IpAddr> {
        match self.place {
            Place::Nowhere => None,
            Place::Home => Some(self.settings.agreement.home_address),
            Place::Away(care_of) => Some(care_of),
        }
    }

    fn migrate(&mut self, agreement: &Agreement, mode: Mode, old: IpAddr, new: IpAddr) {
        for request in spd::migrates(agreement, End::MobileNode, mode, old, new) {
            self.agenda.put(Output::Migrate(request));
        }
    }

    fn delete(&mut self, policy: &PolicyEntry) {
        let PolicyEntry { selector, direction, kind, .. } = *policy;
        self.agenda.put(Output::DeletePolicy { selector, direction, kind });
    }

    /// Blocks everything but signalling, or lets data flow again. The block towards the home agent has the selector of the policy for
    /// data with home address option: one takes the other's place.
    fn block(&mut self, on: bool) {
        if self.blocked == on {
            return;
        }
        self.blocked = on;
        for policy in spd::blocks(&self.settings.agreement) {
            if on {
                self.agenda.put(Output::SetPolicy(policy));
            } else {
                self.agenda.put(Output::DeletePolicy { selector: policy.selector, direction: policy.direction, kind: PolicyKind::Sub });
            }
        }
        if !on && matches!(self.place, Place::Away(_)) {
            for policy in spd::bound(&self.settings.agreement, End::MobileNode, Bound::Data) {
                self.agenda.put(Output::SetPolicy(policy));
            }
        }
    }

    fn update(&mut self, now: Duration, care_of: IpAddr, ends: bool) {
        self.sequence = self.sequence.wrapping_add(1);
        self.pending = Some(Update { care_of, sequence: self.sequence, ends, repeats: 0, wait: FIRST_REPEAT });
        self.transmit(now);
    }

    fn repeat(&mut self, now: Duration) {
        if self.gives_up_farewell() {
            return self.left(now);
        }
        let Some(update) = &mut self.pending else { return };
        self.sequence = self.sequence.wrapping_add(1);
        update.sequence = self.sequence;
        update.repeats = update.repeats.saturating_add(1);
        update.wait = update.wait.saturating_mul(2).min(LONGEST_REPEAT);
        self.transmit(now);
    }

    fn transmit(&mut self, now: Duration) {
        let Some(Update { care_of, sequence, ends, repeats, wait }) = self.pending else { return };
        let agreement = &self.settings.agreement;
        let units = u16::try_from(agreement.lifetime.as_secs() / 4).unwrap_or(u16::MAX);
        // mip6d clears its K for the rest of a binding once the home agent has not returned it.
        let keys = if agreement.moves_keys && !self.keys_stay { UpdateFlags::KEY_MOBILITY } else { 0 };
        let message = Message::Update {
            sequence,
            flags: UpdateFlags(UpdateFlags::ACKNOWLEDGE | UpdateFlags::HOME | keys),
            lifetime: if ends { 0 } else { units },
            options: v6(care_of).map(alternate_care_of).unwrap_or_default(),
        };
        let packet = mobility_packet(agreement.home_address, agreement.home_agent, &message);
        self.agenda.event(SignalEvent::UpdateSent { care_of, sequence, ends, repeats });
        self.agenda.put(Output::Send(packet));
        self.agenda.set(now.saturating_add(wait), Timer::Repeat);
    }

    fn packet(&mut self, now: Duration, packet: &Packet) {
        let Some(upper) = packet.upper() else { return };
        match (upper.protocol, upper.sport) {
            (MOBILITY_HEADER, _) => match Message::decode(&upper.payload) {
                Ok(Message::Acknowledgement { status, sequence, flags, .. }) => {
                    self.keys_stay |= status < 128 && !flags.has(AckFlags::KEY_MOBILITY);
                    self.acknowledged(now, status, sequence);
                }
                Ok(Message::HomeAgentSwitch { .. }) => self.sent_away(now, packet.src),
                Ok(Message::Test { home: true, .. }) => self.agenda.event(SignalEvent::HomeTested),
                _ => {}
            },
            (ICMPV6, PREFIX_ADVERTISEMENT) => self.agenda.event(SignalEvent::PrefixAdvertised),
            _ => {}
        }
    }

    fn acknowledged(&mut self, now: Duration, status: u8, sequence: u16) {
        /// Status "sequence number out of window" (RFC 6275 6.1.8).
        const OUT_OF_WINDOW: u8 = 135;
        let Some(update) = self.pending else { return };
        if status == OUT_OF_WINDOW {
            self.sequence = sequence;
            self.update(now, update.care_of, update.ends);
            return;
        }
        if sequence != update.sequence {
            return;
        }
        if status == DUPLICATE {
            self.refused();
        }
        if status >= 128 {
            return;
        }
        self.pending = None;
        self.agenda.clear(&Timer::Repeat);
        if update.ends && self.leaving {
            return self.left(now);
        }
        let agreement = &self.settings.agreement;
        if let (Personality::Shisa(tells), false) = (agreement.personality, update.ends) {
            let outputs = self.static_tunnels.rebind(agreement, End::MobileNode, update.care_of, tells);
            self.agenda.outputs.extend(outputs);
        }
        self.block(false);
        self.ever_registered = true;
        self.agenda.event(SignalEvent::Acknowledged { at: update.care_of });
        if update.ends {
            self.registered = None;
            self.keys_stay = false;
            self.agenda.clear(&Timer::Refresh);
        } else {
            let renewed = self.registered == Some(update.care_of);
            self.registered = Some(update.care_of);
            let refresh = self.settings.agreement.lifetime.saturating_mul(4) / 5;
            self.agenda.set(now.saturating_add(refresh), Timer::Refresh);
            if !renewed {
                self.after_registration();
            }
        }
        if self.candidate.is_some() && self.settings.deaf_at_first {
            self.decide(now);
        }
    }

    //= rfc6275#11.7.3
    //# a home address that the home agent found to be somebody else's is not used
    fn refused(&mut self) {
        self.pending = None;
        self.registered = None;
        self.agenda.timers.clear();
        self.block(true);
        self.agenda.event(SignalEvent::Duplicate { home_address: self.settings.agreement.home_address });
    }

    /// The home address is not this node's any more: everything that stands for it goes.
    pub fn withdraw(&mut self) {
        let agreement = self.settings.agreement.clone();
        self.agenda.timers.clear();
        (self.pending, self.candidate) = (None, None);
        self.block(false);
        let at = self.tunnels_at.take();
        let bound = [Bound::Signalling, Bound::Data].map(|what| spd::bound(&agreement, End::MobileNode, what));
        let modes = [Mode::Transport, Mode::Tunnel].map(|mode| spd::ipsec(&agreement, End::MobileNode, mode, agreement.home_address));
        let ipsec = modes.into_iter().flatten().map(|policy| policy.entry);
        for policy in bound.into_iter().flatten().filter(|_| at.is_some()).chain(spd::mobile_start(&agreement)).chain(ipsec) {
            self.delete(&policy);
        }
        for state in at.into_iter().flat_map(|at| spd::states(&agreement, at)) {
            self.agenda.put(Output::DeleteState(state));
        }
        self.place = Place::Nowhere;
    }

    fn after_registration(&mut self) {
        let agreement = &self.settings.agreement;
        let (home, agent) = (agreement.home_address, agreement.home_agent);
        if let Some(correspondent) = self.settings.correspondent {
            let cookie = self.sequence.to_be_bytes();
            let message = Message::TestInit { home: true, cookie: [0, 0, 0, 0, 0, 0, cookie[0], cookie[1]], options: Vec::new() };
            self.agenda.put(Output::Send(mobility_packet(home, correspondent, &message)));
        }
        if self.settings.prefix_discovery {
            self.agenda.put(Output::Send(icmp_packet(home, agent, PREFIX_SOLICITATION)));
        }
    }
}
