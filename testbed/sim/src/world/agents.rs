//! Drives the three parts of a host until all of them wait: Mobile IPv6 daemon first, then the kernel's reports, then the agent.

use std::time::Duration;

use watari_engine::vici::Section;
use watari_engine::{Agent, AgentOptions, Command, CommandId, Event as AgentEvent, Input, Output};
use watari_kernel::{AddressEvent, Backend, BackendOutput, KernelEvent};
use watari_sa::{KeyingEvent, Transmit, Undeliverable, Work, WorkDone, WorkId, work};

use super::host::Role;
use super::key::KeyPath;
use super::{Event, World, seed_octets};
use crate::signalling::{Input as Signal, Output as Wish, Personality, SignalEvent};
use crate::timeline::Happening;

/// How long a piece of work takes in virtual time.
const WORK_TIME: Duration = Duration::from_millis(1);

impl World<'_> {
    pub(super) fn start_agent(&mut self, host: usize) {
        let seed = self.seed;
        let now = self.clock();
        let (shisa, tells_packets) = (self.scenario.personality != Personality::Mip6d, self.scenario.acquire_tells_packet);
        let provider = self.setting.provider.clone();
        let options = AgentOptions { reveal_keys: true, migrate_from: Some(self.scenario.migrate_source()) };
        let Some(this) = self.hosts.get_mut(host).filter(|host| host.up && host.agent.is_none()) else { return };
        this.epoch = this.epoch.saturating_add(1);
        let number = u64::try_from(host).unwrap_or(0).saturating_mul(1000).saturating_add(u64::from(this.epoch));
        let first = this.epoch == 1;
        this.mirror.listen(true);
        if shisa {
            this.key = Some(KeyPath::open(now, &mut this.mirror, tells_packets));
        }
        let agent = Agent::new(this.config.clone(), seed_octets(seed, number), provider, this.capability(), options);
        this.agent = Some(agent);
        this.inputs.clear();
        // A daemon reads the addresses that are there when it starts.
        for (address, flags) in this.mirror.addresses() {
            let event = AddressEvent { interface: 2, address, prefix_len: 64, present: true, flags };
            this.inputs.push_back(Input::Kernel(KernelEvent::Address(event)));
        }
        if !first {
            self.say(host, Happening::DaemonStarted);
        }
        self.drain_agent(host);
        self.pump(host);
    }

    pub(super) fn stop_agent(&mut self, host: usize) {
        if let Some(this) = self.hosts.get_mut(host) {
            this.agent = None;
            this.agent_deadline = None;
            this.listening.clear();
            this.inputs.clear();
            this.key = None;
            this.mirror.listen(false);
        }
    }

    pub(super) fn shut_down(&mut self, host: usize) {
        self.stop_agent(host);
        let home_agent = self.hosts.get(host).is_some_and(|host| matches!(host.role, Role::HomeAgent));
        for node in (0..self.hosts.len()).filter(|node| home_agent || *node == host) {
            self.close_window(node);
        }
        if let Some(this) = self.hosts.get_mut(host) {
            this.up = false;
            this.last_link = this.link.or(this.last_link);
            this.link = None;
            this.node = None;
            this.node_deadline = None;
            this.mirror_deadline = None;
            this.moves = this.moves.saturating_add(1);
            this.bootstrapped = false;
            this.mirror = watari_kernel::mirror::Mirror::new(self.setting.model, 0);
        }
    }

    pub(super) fn command(&mut self, host: usize, name: &str, arguments: Section) {
        if let Some(this) = self.hosts.get_mut(host) {
            let command = Command::Vici { name: name.to_owned(), arguments };
            this.inputs.push_back(Input::Command(CommandId(0), command));
        }
    }

    pub(super) fn signal(&mut self, host: usize, input: Signal) {
        let now = self.now;
        if let Some(node) = self.hosts.get_mut(host).and_then(|host| host.node.as_mut()) {
            node.handle(now, input);
        }
        self.drain_node(host);
        self.pump(host);
    }

    /// Calls whatever is due on this host.
    pub(super) fn tick(&mut self, host: usize) {
        let Some((agent, mirror, node)) = self.hosts.get(host).map(|host| host.has_due(self.now)) else { return };
        let now = self.clock();
        if let Some(this) = self.hosts.get_mut(host) {
            if mirror {
                this.mirror.timeout(now);
                if let Some(key) = &mut this.key {
                    key.timeout(now);
                }
            }
            if agent {
                this.agent_deadline = None;
                this.inputs.push_back(Input::Timeout);
            }
        }
        if node {
            self.signal(host, Signal::Timeout);
        }
        if mirror || agent {
            self.pump(host);
        }
    }

    pub(super) fn work_done(&mut self, host: usize, epoch: u32, id: WorkId, done: WorkDone) {
        if let Some(this) = self.hosts.get_mut(host).filter(|host| host.epoch == epoch && host.agent.is_some()) {
            this.inputs.push_back(Input::WorkDone(id, done));
            self.pump(host);
        }
    }

    /// Goes on until the kernel has nothing to report and the agent nothing to take.
    pub(super) fn pump(&mut self, host: usize) {
        loop {
            self.drain_node(host);
            self.drain_mirror(host);
            let Some(input) = self.hosts.get_mut(host).and_then(|host| host.inputs.pop_front()) else { break };
            self.feed(host, input);
        }
        self.tell_burst(host);
    }

    fn drain_mirror(&mut self, host: usize) {
        let now = self.clock();
        let Some(this) = self.hosts.get_mut(host) else { return };
        let told = match &mut this.key {
            Some(key) => {
                let told = key.exchange(now, &mut this.mirror);
                this.mirror_deadline = key.deadline;
                told
            }
            None => std::iter::from_fn(|| match this.mirror.poll() {
                BackendOutput::Wait(deadline) => {
                    this.mirror_deadline = deadline;
                    None
                }
                output => Some(output),
            })
            .collect(),
        };
        for output in told {
            let Some(this) = self.hosts.get_mut(host) else { return };
            match output {
                BackendOutput::Event(event) => {
                    if let KernelEvent::Migrate(migrate) = &event
                        && migrate.source == self.scenario.migrate_source()
                    {
                        this.burst.messages = this.burst.messages.saturating_add(1);
                        self.migrate_heard(host);
                    }
                    if let Some(this) = self.hosts.get_mut(host) {
                        this.inputs.push_back(Input::Kernel(event));
                    }
                }
                BackendOutput::Done(id, result) => this.inputs.push_back(Input::Done(id, result)),
                BackendOutput::Send(..) | BackendOutput::Wait(_) => {}
            }
        }
    }

    fn feed(&mut self, host: usize, input: Input) {
        let now = self.clock();
        let starts_clock = self.starts_clock(host, &input);
        let before = (self.stopwatch)();
        if let Some(agent) = self.hosts.get_mut(host).and_then(|host| host.agent.as_mut()) {
            agent.handle(now, input);
        }
        let spent = (self.stopwatch)().saturating_sub(before);
        self.thought(host, spent, starts_clock);
        self.drain_agent(host);
    }

    fn drain_agent(&mut self, host: usize) {
        loop {
            let before = (self.stopwatch)();
            let Some(output) = self.hosts.get_mut(host).and_then(|host| host.agent.as_mut()).map(Agent::poll) else { return };
            let spent = (self.stopwatch)().saturating_sub(before);
            self.thought(host, spent, false);
            match output {
                Output::Transmit(transmit) => self.transmit(host, transmit),
                Output::Kernel(id, request) => {
                    let now = self.clock();
                    if let Some(this) = self.hosts.get_mut(host) {
                        match &mut this.key {
                            Some(key) => key.submit(now, id, request),
                            None => this.mirror.submit(now, id, request),
                        }
                    }
                }
                Output::Work(id, work) => self.work(host, id, work),
                Output::Event(event) => self.agent_event(host, &event),
                Output::Reply(..) => {}
                Output::Listen(sockets) => self.listen(host, &sockets),
                Output::Wait(deadline) => {
                    if let Some(this) = self.hosts.get_mut(host) {
                        this.agent_deadline = deadline.map(|deadline| deadline.at);
                    }
                    return;
                }
            }
        }
    }

    fn work(&mut self, host: usize, id: WorkId, work: Work) {
        let done = work::perform(self.setting.provider.as_ref(), &self.scenario.secrets(), work);
        let epoch = self.hosts.get(host).map_or(0, |host| host.epoch);
        self.after(WORK_TIME, Event::Work(host, epoch, id, Box::new(done)));
    }

    fn transmit(&mut self, host: usize, transmit: Transmit) {
        let id = transmit.id;
        if let Err(why) = self.send_ike(host, transmit) {
            self.undeliverable(host, why);
            if let Some(this) = self.hosts.get_mut(host) {
                this.inputs.push_back(Input::Undeliverable(id, why));
            }
        }
    }

    /// One line per wait, however often the agent tries.
    fn undeliverable(&mut self, host: usize, why: Undeliverable) {
        let told = self.hosts.get_mut(host).is_some_and(|host| host.waits.replace(why) == Some(why));
        if !told {
            self.say(host, Happening::Undeliverable(why));
        }
    }

    fn agent_event(&mut self, host: usize, event: &AgentEvent) {
        match event {
            AgentEvent::Keying(KeyingEvent::Keys { line }) => {
                self.keys.push(line.clone());
                return;
            }
            AgentEvent::Keying(KeyingEvent::ChildDown { policy, cause, .. }) => self.child_down(host, *policy, *cause),
            AgentEvent::Moved { ike, children, .. } => {
                self.moved(host, children);
                if let Some(this) = self.hosts.get_mut(host) {
                    this.burst.ike.extend(ike.iter().copied());
                    this.burst.children.extend(children.iter().copied());
                }
            }
            AgentEvent::Notice { cause, .. } => self.noticed(*cause),
            AgentEvent::PeerAddress { new, register: true, .. } => self.home_agent_told(host, *new),
            AgentEvent::HomeAddress { remote, address, held } if self.scenario.access.is_none() => {
                self.home_address_told(host, *remote, *address, *held);
            }
            AgentEvent::HomeAddress { .. } | AgentEvent::Keying(KeyingEvent::ChildUp(_)) => self.heard_without_daemon(host, event),
            AgentEvent::Remembered { .. } => {
                if let Some(this) = self.hosts.get_mut(host) {
                    this.burst.remembered = true;
                }
            }
            _ => {}
        }
        let remotes = self.hosts.get(host).map(|host| host.config.remotes.iter().map(|remote| remote.name.clone()).collect::<Vec<_>>());
        let policies = self.hosts.get(host).map(|host| host.config.policies.iter().map(|policy| policy.name.clone()).collect::<Vec<_>>());
        let names = crate::timeline::Names { remotes: remotes.unwrap_or_default(), policies: policies.unwrap_or_default() };
        if let Some(text) = crate::timeline::words(event, &names) {
            self.say(host, Happening::Agent(text));
        }
    }

    fn tell_burst(&mut self, host: usize) {
        let Some(this) = self.hosts.get_mut(host) else { return };
        let burst = std::mem::take(&mut this.burst);
        if burst.messages > 0 {
            self.say(host, Happening::Migrated(burst));
        } else if let Some(this) = self.hosts.get_mut(host) {
            this.burst = burst;
        }
    }

    /// Carries out what the Mobile IPv6 daemon wants, all of it before anybody else is heard.
    pub(super) fn drain_node(&mut self, host: usize) {
        loop {
            let Some(wish) = self.hosts.get_mut(host).and_then(|host| host.node.as_mut()).map(crate::signalling::Node::poll) else {
                return;
            };
            let now = self.clock();
            let Some(this) = self.hosts.get_mut(host) else { return };
            match wish {
                Wish::SetPolicy(policy) => this.mirror.set_policy(policy),
                Wish::DeletePolicy { selector, direction, kind } => {
                    let _ = this.mirror.delete_policy(&selector, direction, kind);
                }
                Wish::SetState(state) => this.mirror.set_mobility_state(now, &state),
                Wish::DeleteState(state) => this.mirror.delete_mobility_state(&state),
                Wish::Migrate(request) => {
                    if let Err(error) = this.mirror.migrate(&request) {
                        self.say(
                            host,
                            Happening::MigrateRefused { direction: request.direction, selector: request.selector, errno: error.errno },
                        );
                    }
                }
                Wish::Rebind(request, tells) => {
                    // What the kernel does by itself needs no answer.
                    match &mut this.key {
                        Some(key) => key.rebind(&mut this.mirror, &request, tells),
                        None => drop(this.mirror.rebind(&request, tells)),
                    }
                }
                Wish::SetAside(policy) => {
                    let _ = this.mirror.quietly(|mirror| mirror.delete_policy(&policy.selector, policy.direction, policy.kind));
                }
                Wish::PutBack(policy) => this.mirror.quietly(|mirror| mirror.set_policy(policy)),
                Wish::Send(packet) => self.send_packet(host, packet),
                Wish::HomeAddress(at) => {
                    if let Role::Mobile(plan) = this.role.clone() {
                        let home = this.homes.last().copied().unwrap_or_else(|| plan.home_address());
                        this.place_home_address(home, at);
                    }
                }
                Wish::Proxy { home_address, on } => {
                    if on {
                        this.proxies.insert(home_address);
                    } else {
                        this.proxies.remove(&home_address);
                    }
                }
                Wish::Event(event) => {
                    if matches!(event, SignalEvent::Acknowledged { .. }) {
                        this.window = true;
                    }
                    if let SignalEvent::Duplicate { home_address } = event {
                        self.told_of_duplicate(host, home_address);
                    }
                    if matches!(event, SignalEvent::Leaving { .. }) {
                        self.close_window(host);
                    }
                    let Some(this) = self.hosts.get_mut(host) else { return };
                    if let SignalEvent::Moving { from, to } = event {
                        this.burst.route = Some((from, to));
                    }
                    self.say(host, Happening::Signal(event));
                }
                Wish::Wait(deadline) => {
                    this.node_deadline = deadline;
                    return;
                }
            }
        }
    }
}
