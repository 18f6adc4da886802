//! The agent's face: takes inputs, gives outputs.
//! Invariant: every input is answered completely before the next one; outputs leave in the order they were decided.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use watari_crypto::Provider;
use watari_ikev2::Ikev2;
use watari_kernel::{Capability, MigrateSource, Now};
use watari_policies::Config;
use watari_sa::{Context, Deadline, Ids, Keying, Rng, SaTable, Target};

use crate::assign::Homes;
use crate::copies::Copies;
use crate::core::{Call, Core};
use crate::key_mobility::Mobility;
use crate::lookup::Lookup;
use crate::manual::Manual;
use crate::reload::{Changed, Retired};
use crate::spd::Spd;
use crate::status::Counters;
use crate::timers::Timers;
use crate::whereabouts::Places;
use crate::{Input, Output};

/// How an agent runs, apart from its configuration.
#[derive(Clone, Debug, Default)]
pub struct AgentOptions {
    /// Tell the keys of IKE SAs as events, for the decryption table of a capture. For tests only.
    pub reveal_keys: bool,
    /// The socket whose MIGRATE messages decide; `None` for netlink. A runner whose kernel has no MIGRATE group says PF_KEY.
    pub migrate_from: Option<MigrateSource>,
}

/// A key-management agent. Sans-IO: time, randomness and every message are arguments and results.
pub struct Agent {
    pub(crate) core: Core,
    pub(crate) keying: Box<dyn Keying + Send>,
    drained: bool,
}

impl Agent {
    /// An agent with a configuration. Poll it once before the first input: it asks the kernel for its policies and SAs.
    pub fn new(config: Config, seed: [u8; 32], provider: Arc<dyn Provider>, capability: Capability, options: AgentOptions) -> Self {
        let keying = Box::new(Ikev2::new(options.reveal_keys));
        Self::with_keying(config, seed, provider, capability, options, keying)
    }

    /// An agent whose key-management protocol is given.
    pub(crate) fn with_keying(
        config: Config,
        seed: [u8; 32],
        provider: Arc<dyn Provider>,
        capability: Capability,
        options: AgentOptions,
        keying: Box<dyn Keying + Send>,
    ) -> Self {
        let config = sensible(config);
        let core = Core {
            places: Places::new(&config, Places::default(), &Changed::default()),
            lookup: Lookup::new(&config),
            homes: Homes::new(&config, Homes::default()),
            mobility: Mobility::new(&config, Mobility::default()),
            config,
            provider,
            capability,
            copies: Copies::new(options.migrate_from.unwrap_or(MigrateSource::Netlink)),
            children: SaTable::default(),
            rng: Rng::new(seed),
            ids: Ids::default(),
            spd: Spd::default(),
            timers: Timers::default(),
            outputs: VecDeque::new(),
            calls: VecDeque::new(),
            purposes: BTreeMap::new(),
            acquired: BTreeMap::new(),
            asked: BTreeMap::new(),
            kept: BTreeMap::new(),
            forwarded: BTreeMap::new(),
            movements: BTreeMap::new(),
            awaited: BTreeSet::new(),
            sent_after_move: BTreeMap::new(),
            moves: 0,
            migrated: BTreeMap::new(),
            unsettled: BTreeSet::new(),
            stale: BTreeMap::new(),
            doubted: BTreeSet::new(),
            refused: BTreeSet::new(),
            installed: BTreeMap::new(),
            differences: Vec::new(),
            traffic: BTreeMap::new(),
            commands: BTreeMap::new(),
            manual: Manual::default(),
            retries: BTreeMap::new(),
            unserved: BTreeMap::new(),
            unproved: BTreeMap::new(),
            unregistered: BTreeMap::new(),
            retired: Retired::default(),
            ready: false,
            counters: Counters::default(),
            started: None,
            stopping: false,
        };
        let mut agent = Self { core, keying, drained: true };
        agent.begin();
        agent
    }

    /// Takes an input that arrived at `now`.
    pub fn handle(&mut self, now: Now, input: Input) {
        debug_assert!(self.drained, "poll until Wait before the next input");
        self.drained = false;
        self.core.started.get_or_insert(now);
        self.route(now, input);
        while let Some(call) = self.core.calls.pop_front() {
            self.call(now, call);
        }
        self.core.say_what_to_listen_to();
        self.check_stopped();
    }

    /// Makes a call that waited; what is configured by hand is nothing to negotiate.
    fn call(&mut self, now: Now, call: Call) {
        let by_hand = |child| self.core.children.get(child).is_some_and(|child| self.by_hand(child.policy));
        match call {
            Call::Want(want) if self.by_hand(want.policy) => self.serve_by_hand(want.policy),
            Call::Rekey(Target::Child(child)) if by_hand(child) => self.remake_by_hand(now, child),
            Call::Want(want) => self.keying_call(now, |keying, context| keying.want(context, want)),
            Call::Rekey(target) => self.keying_call(now, |keying, context| keying.rekey(context, target)),
            Call::Close(target) => self.keying_call(now, |keying, context| keying.close(context, target)),
        }
    }

    /// The next output; call until `Wait`.
    pub fn poll(&mut self) -> Output {
        if let Some(output) = self.core.outputs.pop_front() {
            return output;
        }
        self.drained = true;
        Output::Wait(self.deadline())
    }

    /// The next time the agent wants to be called, and why.
    pub fn deadline(&self) -> Option<Deadline> {
        [self.core.timers.deadline(), self.keying.deadline()].into_iter().flatten().min()
    }

    /// Calls into the protocol module and collects what it wants.
    pub(crate) fn keying_call(&mut self, now: Now, call: impl FnOnce(&mut dyn Keying, &mut Context<'_>)) {
        call(self.keying.as_mut(), &mut self.core.context(now));
        while let Some(action) = self.keying.poll() {
            self.action(now, action);
        }
    }
}

/// A configuration without what would keep the agent busy for nothing: liveness checks after no time at all are none.
pub(crate) fn sensible(mut config: Config) -> Config {
    for remote in &mut config.remotes {
        remote.liveness = remote.liveness.filter(|idle| !idle.is_zero());
    }
    config
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent").field("children", &self.core.children.len()).field("counters", &self.core.counters).finish_non_exhaustive()
    }
}
