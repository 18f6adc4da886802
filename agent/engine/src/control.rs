//! Commands from the control socket: VICI names and fields as strongSwan's clients expect them, and our own.
//! Invariant: every command is answered exactly once at its end, at the latest when its time is up.

use std::net::IpAddr;
use std::time::Duration;

use watari_kernel::Now;
use watari_mip6::Evidence;
use watari_policies::{PolicyId, RemoteId};
use watari_sa::{Cause, ChildId, ChildSa, ChildState, IkeId, IkeState, KeyingEvent, Owner, Target, Trigger, Want};

use crate::agent::Agent;
use crate::core::Call;
use crate::timers::Timer;
use crate::usage::{Counting, Listing};
use crate::vici::{MAX_PACKET, Section};
use crate::{Command, CommandId, Output, Reply};

/// How long a command that waits for an outcome waits if it does not say.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most octets of JSON in one answer: it goes as one packet, in pieces with a header each.
pub(crate) const MAX_JSON: usize = MAX_PACKET - 16 * 1024;
/// How long peers have to answer our farewell.
const FAREWELL: Duration = Duration::from_secs(2);

/// What a command still waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// A child SA of each of these policies.
    Up(Vec<PolicyId>),
    /// The end of these IKE SAs and children.
    Gone { ike: Vec<IkeId>, children: Vec<ChildId>, count: usize },
    /// The end of every IKE SA.
    Stopped,
    /// What the kernel has counted, for a list.
    Counts(Counting),
}

impl Agent {
    /// Takes a command.
    pub(crate) fn command(&mut self, now: Now, id: CommandId, command: Command) {
        match command {
            Command::Status => self.count_first(now, id, Listing::Status),
            Command::Reload(config) => {
                let changes = self.reload(now, *config);
                self.end(id, Section::new().with("success", "yes").with("changes", changes));
            }
            Command::Shutdown => self.shutdown(now, id),
            Command::Vici { name, arguments } => self.vici(now, id, &name, &arguments),
        }
    }

    pub(crate) fn reply(&mut self, id: CommandId, reply: Reply) {
        self.core.outputs.push_back(Output::Reply(id, reply));
    }

    pub(crate) fn end(&mut self, id: CommandId, section: Section) {
        self.reply(id, Reply::End(section));
    }

    fn vici(&mut self, now: Now, id: CommandId, name: &str, arguments: &Section) {
        match name {
            "version" => self.end(id, version()),
            "stats" => {
                let stats = self.stats(now);
                self.end(id, stats);
            }
            "list-sas" => self.count_first(now, id, Listing::Sas(arguments.text("ike").map(str::to_owned))),
            "list-conns" => self.rows(id, "list-conn", self.list_conns(arguments)),
            "list-policies" => self.rows(id, "list-policy", self.list_policies(arguments)),
            "get-counters" => {
                let counters = self.counters();
                self.end(id, counters);
            }
            "watari-status" => self.count_first(now, id, Listing::Status),
            "initiate" => self.initiate(now, id, arguments),
            "terminate" => self.terminate(now, id, arguments),
            "rekey" => self.rekey(id, arguments),
            "redirect" => self.redirect(now, id, arguments),
            "use-address" => self.use_other_address(now, id, arguments),
            "mobility" => self.registered(now, id, arguments),
            "home-address-taken" => {
                let section = match self.home_taken(now, arguments) {
                    Ok(address) => Section::new().with("success", "yes").with("home-address", address),
                    Err(why) => Section::new().with("success", "no").with("errmsg", why),
                };
                self.end(id, section);
            }
            _ => self.reply(id, Reply::Unknown),
        }
    }

    pub(crate) fn rows(&mut self, id: CommandId, event: &'static str, rows: Vec<Section>) {
        for section in rows {
            self.reply(id, Reply::Row { event, section });
        }
        self.end(id, Section::new());
    }

    /// Policies that `child` and `ike` name; without `child` every policy of that remote.
    fn named_policies(&self, arguments: &Section) -> Vec<PolicyId> {
        let (child, ike) = (arguments.text("child"), arguments.text("ike"));
        if child.is_none() && ike.is_none() {
            return Vec::new();
        }
        let fits = |id: &PolicyId| {
            let Some(policy) = self.core.config.policy(*id) else { return false };
            let remote = self.core.config.remote(policy.remote);
            let remote_fits = ike.is_none_or(|name| remote.is_some_and(|remote| remote.name == name));
            child.is_none_or(|name| policy.name == name) && remote_fits && !self.core.retired(policy.remote)
        };
        (0u32..).zip(&self.core.config.policies).map(|(id, _)| PolicyId(id)).filter(fits).collect()
    }

    fn initiate(&mut self, now: Now, id: CommandId, arguments: &Section) {
        let policies = self.named_policies(arguments);
        if policies.is_empty() {
            return self.end(id, failure("no policy of this name; `list-conns` shows them"));
        }
        let up = |policy: &PolicyId| {
            let mut children = self.core.children.of_policy(*policy);
            // Without owner: found in the kernel and serving only until it is replaced, unless that is how it is configured.
            let lasting = |child: &ChildSa| child.owner != Owner::None || self.core.by_hand(*policy);
            children.any(|child| child.state == ChildState::Installed && lasting(child))
        };
        let wanted: Vec<_> = policies.into_iter().filter(|policy| !up(policy)).collect();
        if wanted.is_empty() {
            return self.end(id, Section::new().with("success", "yes").with("message", "already up"));
        }
        if let Some(unreachable) = wanted.iter().find(|policy| !self.core.reachable(**policy)) {
            let why = "the peer's address is not known: it has to call us, or MIGRATE has to name it";
            return self.end(id, failure(&format!("{}: {why}", self.policy_name(*unreachable))));
        }
        let wants = wanted.iter().map(|policy| Call::Want(Want { policy: *policy, trigger: Trigger::Command }));
        self.core.calls.extend(wants);
        self.wait(now, id, Awaited::Up(wanted), arguments);
    }

    fn terminate(&mut self, now: Now, id: CommandId, arguments: &Section) {
        let (ike, children) = self.targets(arguments);
        let count = ike.len().saturating_add(children.len());
        if count == 0 {
            let known = !self.named_policies(arguments).is_empty();
            return self.end(id, failure(if known { DOWN_ALREADY } else { "no SA of this name or number; `list-sas` shows them" }));
        }
        for target in ike.iter().map(|ike| Target::Ike(*ike)).chain(children.iter().map(|child| Target::Child(*child))) {
            self.close(target);
        }
        // Those without owner are gone already, and nobody will tell.
        let children: Vec<_> = children.into_iter().filter(|child| self.core.children.get(*child).is_some()).collect();
        if ike.is_empty() && children.is_empty() {
            return self.end(id, terminated(count));
        }
        self.wait(now, id, Awaited::Gone { ike, children, count }, arguments);
    }

    /// Closes an SA; one without owner simply goes.
    fn close(&mut self, target: Target) {
        match target {
            Target::Child(child) if self.core.children.get(child).is_some_and(|child| child.owner == Owner::None) => {
                self.end_without_owner(child);
            }
            target => self.core.calls.push_back(Call::Close(target)),
        }
    }

    fn rekey(&mut self, id: CommandId, arguments: &Section) {
        let (ike, children) = self.targets(arguments);
        let count = ike.len().saturating_add(children.len());
        if count == 0 {
            return self.end(id, failure("no SA of this name or number; `list-sas` shows them"));
        }
        for target in ike.into_iter().map(Target::Ike).chain(children.into_iter().map(Target::Child)) {
            self.core.calls.push_back(Call::Rekey(target));
        }
        self.end(id, Section::new().with("success", "yes").with("matches", count));
    }

    /// The Mobile IPv6 daemon, or whoever speaks for it, tells the outcome of a registration.
    fn registered(&mut self, now: Now, id: CommandId, arguments: &Section) {
        let outcome = read_registration(arguments).and_then(|(home, care_of, evidence)| self.told(now, home, care_of, evidence));
        let answer = match outcome {
            Ok(0) => failure("no remote has this home address"),
            Ok(matches) => Section::new().with("success", "yes").with("matches", matches),
            Err(why) => failure(&why),
        };
        self.end(id, answer);
    }

    /// The SAs that a command names: `ike`, `child`, `ike-id`, `child-id`.
    pub(crate) fn targets(&self, arguments: &Section) -> (Vec<IkeId>, Vec<ChildId>) {
        let number = |name: &str| arguments.text(name).and_then(|text| text.parse::<u64>().ok());
        let mut children = Vec::new();
        let mut ike = Vec::new();
        if arguments.text("child").is_some() {
            for policy in self.named_policies(arguments) {
                children.extend(self.core.children.of_policy(policy).map(|child| child.id));
            }
        } else if let Some(name) = arguments.text("ike") {
            let remotes = (0u32..).zip(&self.core.config.remotes).filter(|(_, remote)| remote.name == name);
            // One that a successor has replaced only waits for its delete, and nobody is told of its end.
            let replaced = |ike: &IkeId| self.keying.status(*ike).is_some_and(|status| status.state == IkeState::Replaced);
            ike.extend(remotes.flat_map(|(remote, _)| self.keying.ike_sas_of(RemoteId(remote))).filter(|ike| !replaced(ike)));
        }
        children.extend(number("child-id").map(ChildId).filter(|child| self.core.children.get(*child).is_some()));
        ike.extend(number("ike-id").map(IkeId).filter(|ike| self.keying.status(*ike).is_some()));
        (ike, children)
    }

    /// Keeps a command until its outcome is known; `timeout` is in milliseconds, below zero not to wait at all.
    fn wait(&mut self, now: Now, id: CommandId, awaited: Awaited, arguments: &Section) {
        let timeout = arguments.text("timeout").and_then(|text| text.parse::<i64>().ok());
        if timeout.is_some_and(|timeout| timeout < 0) {
            return self.end(id, Section::new().with("success", "yes"));
        }
        let patience = timeout.and_then(|timeout| u64::try_from(timeout).ok()).filter(|timeout| *timeout > 0);
        let patience = patience.map_or(PATIENCE, Duration::from_millis);
        self.core.commands.insert(id, awaited);
        self.core.timers.set(Timer::Command(id.0), now.boot.saturating_add(patience));
    }

    /// A command's time is up.
    pub(crate) fn command_timeout(&mut self, now: Now, id: CommandId) {
        match self.core.commands.remove(&id) {
            Some(Awaited::Stopped) => self.end(id, Section::new().with("success", "yes")),
            Some(Awaited::Counts(counting)) => self.counted(now, id, &counting),
            Some(_) => self.end(id, failure("no outcome in time; it goes on")),
            None => {}
        }
    }

    /// Sees whether what happened is what a command waits for.
    pub(crate) fn outcome(&mut self, event: &KeyingEvent) {
        let ids: Vec<_> = self.core.commands.keys().copied().collect();
        for id in ids {
            let Some(awaited) = self.core.commands.get_mut(&id) else { continue };
            let Some(section) = outcome_of(awaited, event, &self.core.children) else { continue };
            self.finish(id, section);
        }
    }

    fn finish(&mut self, id: CommandId, section: Section) {
        self.core.commands.remove(&id);
        self.core.timers.clear(Timer::Command(id.0));
        self.end(id, section);
    }

    /// Says farewell to every peer and takes our policies out; answered when every IKE SA is gone or the peers' time is up.
    fn shutdown(&mut self, now: Now, id: CommandId) {
        self.core.stopping = true;
        for ike in self.keying.statuses() {
            self.core.calls.push_back(Call::Close(Target::Ike(ike.id)));
        }
        let orphans: Vec<_> = self.core.children.of_owner(Owner::None).map(|child| child.id).collect();
        for child in orphans {
            self.core.end_adopted(child);
        }
        self.core.uninstall_policies(None);
        self.core.commands.insert(id, Awaited::Stopped);
        self.core.timers.set(Timer::Command(id.0), now.boot.saturating_add(FAREWELL));
    }

    /// Once the last IKE SA is gone a shutdown is over.
    pub(crate) fn check_stopped(&mut self) {
        if !self.core.stopping || !self.keying.statuses().is_empty() {
            return;
        }
        let ids = self.core.commands.iter().filter(|(_, awaited)| **awaited == Awaited::Stopped).map(|(id, _)| *id);
        for id in ids.collect::<Vec<_>>() {
            self.finish(id, Section::new().with("success", "yes"));
        }
    }
}

fn outcome_of(awaited: &mut Awaited, event: &KeyingEvent, children: &watari_sa::SaTable) -> Option<Section> {
    let success = || Section::new().with("success", "yes");
    match (awaited, event) {
        (Awaited::Up(policies), KeyingEvent::ChildUp(child)) => {
            let up = children.get(*child).map(|child| child.policy);
            policies.retain(|policy| Some(*policy) != up);
            policies.is_empty().then(success)
        }
        (Awaited::Up(policies), KeyingEvent::WantFailed { policy, cause, detail }) => {
            policies.contains(policy).then(|| failure(&describe(*cause, detail)))
        }
        (Awaited::Gone { ike, children, count }, KeyingEvent::IkeDown { ike: down, .. }) => {
            ike.retain(|waited| waited != down);
            (ike.is_empty() && children.is_empty()).then(|| terminated(*count))
        }
        (Awaited::Gone { ike, children, count }, KeyingEvent::ChildDown { child, .. }) => {
            children.retain(|waited| waited != child);
            (ike.is_empty() && children.is_empty()).then(|| terminated(*count))
        }
        _ => None,
    }
}

/// Reads `home-address`, `care-of-address` (the home address at the end of a binding), `k` and `status` (0 if not given).
fn read_registration(arguments: &Section) -> Result<(IpAddr, IpAddr, Evidence), String> {
    let address = |name: &str| {
        let text = arguments.text(name).ok_or_else(|| format!("\"{name}\" is missing"))?;
        text.parse::<IpAddr>().map_err(|_| format!("\"{name}\" is no address: {text}"))
    };
    let k = match arguments.text("k") {
        Some("yes" | "1") => true,
        Some("no" | "0") => false,
        _ => return Err("\"k\" is \"yes\" or \"no\"".to_owned()),
    };
    let status =
        arguments.text("status").map_or(Ok(0), |text| text.parse::<u8>().map_err(|_| format!("\"status\" is 0 to 255, not {text}")))?;
    Ok((address("home-address")?, address("care-of-address")?, Evidence::Told { status, k }))
}

fn describe(cause: Cause, detail: &str) -> String {
    if detail.is_empty() { format!("{cause} {}", cause.help) } else { format!("{cause} {detail} {}", cause.help) }
}

/// Why nothing can be ended of what stands in the configuration.
pub const DOWN_ALREADY: &str = "already down: no SA of it stands";

fn terminated(count: usize) -> Section {
    Section::new().with("success", "yes").with("matches", count).with("terminated", count)
}

pub(crate) fn failure(message: &str) -> Section {
    Section::new().with("success", "no").with("errmsg", message)
}

fn version() -> Section {
    Section::new().with("daemon", "watarid").with("version", env!("CARGO_PKG_VERSION"))
}
