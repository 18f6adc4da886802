//! watarid on one host of a scenario: its configuration out of the scenario, its life and death, its status, its log.

mod access;
mod bootstrap;
mod home_agents;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use serde_json::Value;
use watari_policies::profile::{BindingSelector, Protected, Reqids};
use watari_policies::{KeyMobility, Lifetime, Secret};
use watari_sim::scenario::{HA, MobilePlan, Scenario};

use super::by_hand;
use crate::uml::guest::{Guest, tool};
use crate::uml::hosts::{Daemon, Namespace};
use crate::uml::{Context, Failure, Result, output_of};

/// Name of a mobile node's remote.
pub(super) const REMOTE: &str = "home-agent";

/// A host's key-management daemon.
pub(super) struct Agent {
    host: Namespace,
    programs: PathBuf,
    output: PathBuf,
    control: String,
    seed: u64,
    /// Put before the daemon's own words.
    wrapper: &'static str,
    starts: u32,
    daemon: Option<Daemon>,
}

impl Agent {
    /// Writes the configuration; nothing runs yet.
    pub(super) fn new(guest: &Guest, host: Namespace, programs: &Path, seed: u64, configuration: &str) -> Result<Self> {
        let name = host.name.clone();
        guest.write(&format!("{name}.toml"), configuration)?;
        Ok(Self {
            host,
            programs: programs.to_path_buf(),
            output: guest.output.clone(),
            control: format!("/tmp/{name}.vici"),
            seed,
            wrapper: "",
            starts: 0,
            daemon: None,
        })
    }

    /// The same without the right to raw sockets.
    pub(super) fn blind(self, blind: bool) -> Self {
        let wrapper = if blind { "setpriv --bounding-set=-net_raw " } else { "" };
        Self { wrapper, ..self }
    }

    /// Writes another configuration and has it read.
    pub(super) fn reload(&self, guest: &Guest, configuration: &str) -> Result<()> {
        guest.write(&format!("{}.toml", self.host.name), configuration)?;
        self.tell(&["reload"])
    }

    /// Starts it and waits until its control socket answers.
    pub(super) fn start(&mut self) -> Result<()> {
        self.starts += 1;
        let _ = fs::remove_file(&self.control);
        let name = format!("watarid-{}", self.starts);
        let words = format!(
            "{}{}/watarid --config {} --control {} --log-level debug --log-json --reveal-keys {} --insecure-seed {}",
            self.wrapper,
            self.programs.display(),
            self.output.join(format!("{}.toml", self.host.name)).display(),
            self.control,
            self.output.join(format!("{}.keys", self.host.name)).display(),
            self.seed.wrapping_mul(1000).wrapping_add(u64::from(self.starts)).wrapping_add(host_number(&self.host.name)),
        );
        let mut daemon = self.host.spawn(&name, &words)?;
        let begin = Instant::now();
        while !Path::new(&self.control).exists() {
            if !daemon.is_running() || begin.elapsed() > Duration::from_secs(10) {
                return Err(Failure(format!(
                    "watarid on {} does not open its control socket:\n{}",
                    self.host.name,
                    crate::uml::boot::last_lines(&daemon.log)
                )));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self.daemon = Some(daemon);
        Ok(())
    }

    /// Starts what prints the control events of the daemon.
    pub(super) fn watch(&self) -> Result<Daemon> {
        let watch = self
            .host
            .spawn(&format!("watch-{}", self.starts), &format!("{}/watari --control {} watch", self.programs.display(), self.control));
        // Nothing says when it has registered for the events; until the first of them there is more time than this.
        std::thread::sleep(Duration::from_millis(300));
        watch
    }

    /// Kills it as a crash would.
    pub(super) fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill();
        }
    }

    /// Its process id while it runs.
    pub(super) fn id(&self) -> Option<u32> {
        self.daemon.as_ref().map(Daemon::id)
    }

    /// Whether it runs, or was told not to.
    pub(super) fn is_well(&mut self) -> bool {
        self.daemon.as_mut().is_none_or(Daemon::is_running)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = tool(&self.programs.join("watari").display().to_string());
        command.arg("--control").arg(&self.control).args(words);
        command
    }

    /// Says something to it without waiting for what comes of it.
    pub(super) fn tell(&self, words: &[&str]) -> Result<()> {
        self.command(words).spawn().map(|_| ()).context(format!("watari {}", words.join(" ")))
    }

    /// Its whole status.
    pub(super) fn status(&self) -> Result<Value> {
        let text = output_of(&mut self.command(&["status", "--json"]))?;
        serde_json::from_str(&text).context("watari status --json")
    }

    /// Every line of its logs, oldest first.
    pub(super) fn log(&self) -> Vec<Value> {
        let mut lines = Vec::new();
        for start in 1..=self.starts {
            let file = self.output.join(format!("{}-watarid-{start}.log", self.host.name));
            let text = fs::read_to_string(file).unwrap_or_default();
            lines.extend(text.lines().filter_map(|line| serde_json::from_str(line).ok()));
        }
        lines
    }
}

fn host_number(name: &str) -> u64 {
    name.bytes().fold(0, |number, octet| number * 31 + u64::from(octet)) % 977 * 1_000_000
}

fn word(what: BindingSelector) -> &'static str {
    match what {
        BindingSelector::Any => "any",
        BindingSelector::Typed => "typed",
        BindingSelector::Range => "range",
    }
}

fn millis(duration: Duration) -> String {
    match duration.as_millis() {
        0 => "0s".to_owned(),
        some => format!("{some}ms"),
    }
}

fn lifetime(key: &str, lifetime: &Lifetime) -> String {
    let (hard, soft, jitter) = (millis(lifetime.hard), millis(lifetime.soft), millis(lifetime.jitter));
    let mut text = format!("{key} = {{ hard = \"{hard}\", soft = \"{soft}\", jitter = \"{jitter}\"");
    for (name, value) in [("bytes", lifetime.bytes), ("packets", lifetime.packets)] {
        if value > 0 {
            text += &format!(", {name} = {value}");
        }
    }
    text + " }\n"
}

fn reqids(protect: &[(Protected, Reqids)]) -> String {
    let one = |(what, reqids): &(Protected, Reqids)| format!("{} = [{}, {}]", what.name(), reqids.to_home_agent.0, reqids.to_mobile_node.0);
    format!("reqids = {{ {} }}\n", protect.iter().map(one).collect::<Vec<_>>().join(", "))
}

fn terms(scenario: &Scenario, binding: BindingSelector) -> String {
    let names: Vec<String> = scenario.protect.iter().map(|what| format!("\"{}\"", what.name())).collect();
    let mut text = format!("protect = [{}]\npolicies = \"mip6d\"\n", names.join(", "));
    if scenario.protect.contains(&Protected::Binding) {
        text += &format!("binding_selector = \"{}\"\n", word(binding));
    }
    text += &format!("ike = [\"aes128gcm16-prfsha256-x25519\"]\nesp = [\"{}\"]\n", scenario.esp());
    text += &scenario.dormant.map_or_else(String::new, |time| format!("dormant = \"{}\"\n", millis(time)));
    text + &lifetime("ike_lifetime", &scenario.ike_lifetime) + &lifetime("child_lifetime", &scenario.child_lifetime)
}

/// The networks behind a mobile node.
fn networks(networks: &[IpNet]) -> String {
    let all = networks.iter().map(|network| format!("\"{network}\"")).collect::<Vec<_>>().join(", ");
    if all.is_empty() { all } else { format!("networks = [{all}]\n") }
}

fn secret(scenario: &Scenario, plan: &MobilePlan) -> String {
    secret_text(scenario, watari_policies::SecretId(u32::from(plan.number)))
}

fn secret_text(scenario: &Scenario, id: watari_policies::SecretId) -> String {
    let secrets = scenario.secrets();
    String::from_utf8_lossy(secrets.get(&id).map(Secret::expose).unwrap_or_default()).into_owned()
}

/// How the agent of a host talks to its kernel.
fn backend(scenario: &Scenario, host: &str) -> &'static str {
    if scenario.pf_key.contains(&host) { "[watari]\nbackend = \"pfkey\"\n\n" } else { "" }
}

/// What the agents believe of movements; a mobile node has only the first of the settings.
fn movements(scenario: &Scenario, home_agent: bool) -> String {
    let settings = scenario.movements;
    let mut text = format!("key_mobility = \"{}\"\n", settings.key_mobility.name());
    if home_agent && settings.key_mobility == KeyMobility::Observe {
        text += &format!("daemon_echoes_k = {}\n", settings.daemon_echoes_k);
    }
    let source = if home_agent { settings.source } else { scenario.node_source() };
    text + &format!("movement = \"{}\"\n", source.name())
}

/// The configuration file of a mobile node.
pub(super) fn mobile_configuration(scenario: &Scenario, plan: &MobilePlan) -> String {
    if scenario.access.is_some() {
        return access::road_warrior(scenario, plan);
    }
    if scenario.by_hand {
        return by_hand::configuration(scenario, plan.name, scenario.mobile_config(plan));
    }
    let agreement = scenario.mobile_signalling(plan).agreement;
    let claimed = scenario.claimed_by(plan).map(IpNet::from);
    let behind: Vec<IpNet> = agreement.networks.iter().copied().chain(claimed).collect();
    format!(
        "{}[mobile_node]\n{}home_agent = {}\nidentity = \"{}.example\"\nhome_agent_identity = \"{HA}.example\"\n\
         psk = \"{}\"\nliveness = \"{}\"\n{}{}{}{}",
        backend(scenario, plan.name),
        bootstrap::own_home(scenario, plan),
        home_agents::known(scenario),
        plan.name,
        secret(scenario, plan),
        millis(scenario.liveness),
        reqids(&agreement.protect),
        networks(&behind),
        terms(scenario, scenario.binding),
        movements(scenario, false),
    )
}

/// The configuration file of the home agent when it is read again.
pub(super) fn home_configuration_again(scenario: &Scenario) -> String {
    if scenario.access.is_some() { access::gateway(scenario, true) } else { home_configuration(scenario) }
}

/// The configuration file of the home agent.
pub(super) fn home_configuration(scenario: &Scenario) -> String {
    home_configuration_of(scenario, HA)
}

/// The configuration file of the home agent of this name.
pub(super) fn home_configuration_of(scenario: &Scenario, name: &str) -> String {
    if scenario.access.is_some() {
        return access::gateway(scenario, false);
    }
    if scenario.by_hand {
        return by_hand::configuration(scenario, HA, scenario.home_config());
    }
    let binding = scenario.peer_binding.unwrap_or(scenario.binding);
    let mut text = format!(
        "{}[home_agent]\naddress = \"{}\"\nidentity = \"{HA}.example\"\n{}{}{}{}",
        backend(scenario, name),
        Scenario::home_agent_address(name),
        home_agents::sends_on(scenario, name),
        bootstrap::given(scenario),
        terms(scenario, binding),
        movements(scenario, true),
    );
    for plan in &scenario.mobile_nodes {
        // Reqids and networks are the same at both ends.
        let agreement = scenario.mobile_signalling(plan).agreement;
        text += &format!(
            "\n[[home_agent.mobile_node]]\nname = \"{}\"\nhome_address = \"{}\"\nidentity = \"{}.example\"\npsk = \"{}\"\n{}{}",
            plan.name,
            bootstrap::served_home(scenario, plan),
            plan.name,
            secret(scenario, plan),
            reqids(&agreement.protect),
            networks(&agreement.networks),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use watari_policies::config::SecretSource;
    use watari_policies::{AddressRange, Ask, Config, Gateways, Movements, Policy, Remote, SecretId};

    use super::*;

    struct NoFiles;

    impl SecretSource for NoFiles {
        fn file(&self, path: &str) -> std::result::Result<Secret, String> {
            Err(format!("{path} is not there"))
        }

        fn holds(&self, _: SecretId) -> bool {
            false
        }
    }

    fn loaded(text: &str) -> Config {
        match watari_policies::config::load(text, "scenario.toml", &NoFiles) {
            Ok(loaded) => loaded.config,
            Err(complaints) => panic!("{complaints}\n{text}"),
        }
    }

    /// Name, lifetime, liveness, belief in movements and other addresses of a remote, whether it is called unasked and what home address
    /// is asked for.
    type Peer = (String, Lifetime, Option<Duration>, Movements, Gateways, (bool, Option<Ask>));
    /// Prefix, pool and freedom of what home addresses are given from.
    type Given = (Option<IpNet>, Option<AddressRange>, bool);

    /// What decides behaviour; source lines differ between a file and a program.
    fn essence(config: Config) -> (Vec<Policy>, Vec<Option<Duration>>, Vec<Peer>, Vec<Given>) {
        let dormant = config.ipsecs.iter().map(|ipsec| ipsec.dormant).collect();
        let policies = config.policies.into_iter().map(|policy| Policy { line: 0, ..policy }).collect();
        let asks = |remote: &Remote| (remote.start, remote.assigned.and_then(|assigned| assigned.ask));
        let peer = |remote: Remote| {
            let asks = asks(&remote);
            (remote.name, remote.lifetime, remote.liveness, remote.movements, remote.gateways, asks)
        };
        let given = config.blocks.iter().map(|block| (block.home_prefix, block.pool, block.autoconfiguration)).collect();
        (policies, dormant, config.remotes.into_iter().map(peer).collect(), given)
    }

    #[test]
    fn the_files_mean_what_the_simulator_configures() {
        let simulated = |scenario: &Scenario| matches!(scenario.runs_on, watari_sim::scenario::RunsOn::SimulatorOnly(_));
        for scenario in watari_sim::scenarios::all().into_iter().filter(|scenario| !simulated(scenario)) {
            for plan in &scenario.mobile_nodes {
                let file = loaded(&mobile_configuration(&scenario, plan));
                assert_eq!(essence(file), essence(scenario.mobile_config(plan)), "{}", scenario.name);
            }
            for name in scenario.home_agents() {
                let file = loaded(&home_configuration_of(&scenario, name));
                assert_eq!(essence(file), essence(scenario.home_config_of(name)), "{}", scenario.name);
            }
            let again = loaded(&home_configuration_again(&scenario));
            assert_eq!(essence(again), essence(scenario.home_config_again()), "{}", scenario.name);
        }
    }
}
