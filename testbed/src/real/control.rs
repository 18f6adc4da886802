//! `watari` against a live `watarid` on a real kernel: every command once, `reload` with good and broken files, `check --kernel` on kernels
//! with and without the traps it knows. A mobile node is registered away and its SAs stand meanwhile.

mod mobility;

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use watari_sim::scenario::HOME_AGENT;

use super::backend::Finding;
use super::kernel::EspSa;
use super::network::Network;
use super::run::{Order, Runner};
use super::{Programs, agent::REMOTE, release};
use crate::uml::boot::{Kernel, Machine};
use crate::uml::guest::{Guest, tool};
use crate::uml::hosts::Namespace;
use crate::uml::{Context, Failure, Result};

/// Name of the task in a plan.
pub(crate) const TASK: &str = "real-control";
/// Name of the task that only asks what the kernel can do.
pub(crate) const KERNEL_TASK: &str = "real-control-kernel";
const RESULT: &str = "control.json";
const SCENARIO: &str = "register-away";
const HOME_AGENT_HOST: usize = 0;
const MOBILE_NODE: usize = 1;
/// Long enough for an exchange that must not happen to be seen.
const SETTLE: Duration = Duration::from_millis(1500);
const PATIENCE: Duration = Duration::from_secs(5);

/// What a guest that only looks at its kernel is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Look {
    programs: PathBuf,
    xfrm_interface: bool,
}

/// Runs everything on `kernel`.
pub(super) fn on(kernel: Kernel, programs: &Programs) -> Result<Vec<Finding>> {
    let order = Order { scenario: SCENARIO.to_owned(), seed: 1, programs: programs.0.clone() };
    let mut findings = boot(kernel, programs, TASK, serde_json::to_value(order).context("order")?, false)?;
    if kernel == Kernel::Built612 {
        let look = Look { programs: programs.0.clone(), xfrm_interface: true };
        findings.extend(boot(kernel, programs, KERNEL_TASK, serde_json::to_value(look).context("order")?, true)?);
    }
    Ok(findings)
}

fn boot(kernel: Kernel, programs: &Programs, task: &str, argument: Value, xfrm_interface: bool) -> Result<Vec<Finding>> {
    let mut machine = Machine::on(kernel, format!("{task}-{}", release(kernel)))?;
    machine.init = programs.0.join("testbed");
    machine.xfrm_interface = xfrm_interface;
    machine.result(task, argument, RESULT)
}

/// What a command came to.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Said {
    fn json(&self) -> Option<Value> {
        serde_json::from_str(&self.out).ok()
    }

    fn well(&self) -> bool {
        self.code == Some(0) && self.err.is_empty()
    }
}

/// Runs `watari` on a host, with the daemon of `daemon` or with none.
fn watari(programs: &std::path::Path, host: &Namespace, daemon: Option<&str>, words: &[&str]) -> Result<Said> {
    let control = daemon.map_or_else(|| "/nowhere".to_owned(), |name| format!("/tmp/{name}.vici"));
    let output = host.enter(|| {
        tool(&programs.join("watari").display().to_string()).arg("--control").arg(control).args(words).stdin(Stdio::null()).output()
    })?;
    let output = output.context("watari")?;
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    Ok(Said { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) })
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn check(&mut self, act: &str, good: bool, detail: impl std::fmt::Debug) {
        let complaint = (!good).then(|| format!("{detail:?}"));
        self.0.push(Finding { act: act.to_owned(), complaint });
    }
}

/// `check --kernel` says in words and in JSON what this kernel is known for, whatever policies stand, and leaves them alone.
fn kernel_report(
    seen: &mut Findings,
    programs: &std::path::Path,
    host: &Namespace,
    daemon: Option<&str>,
    reads_types: bool,
    trap: bool,
) -> Result<()> {
    let ends = "src 2001:db8:7::1/128 dst 2001:db8:7::2/128 proto 135";
    for (policies, kind) in [("typed", " type 5"), ("any-type", "")] {
        let what = |what: &str| format!("check --kernel, {policies} policies, {}: {what}", daemon.unwrap_or("no daemon"));
        host.exec(&format!("ip xfrm policy add {ends}{kind} dir in priority 9 tmpl proto esp reqid 77 mode transport"))?;
        let before = host.exec("ip xfrm policy")?;
        let words = watari(programs, host, daemon, &["check", "--kernel"])?;
        let json = watari(programs, host, daemon, &["check", "--kernel", "--json"])?;
        let types = match reads_types {
            true => words.out.contains("ok       the kernel sees the MH type"),
            false => words.out.contains("warning  the kernel does not see the MH type") && words.out.contains("UseESP"),
        };
        let interface = match trap {
            true => words.out.contains("warning  xfrm_interface is present") && words.out.contains("initcall_blacklist=xfrmi_init"),
            false => words.out.contains("ok       xfrm_interface is absent"),
        };
        let good = words.well() && types && interface && words.out.contains("ok       MIGRATE is heard");
        seen.check(&what("words"), good, &words);
        let report = json.json().unwrap_or_default();
        let flag = |name: &str| report.get(name).and_then(Value::as_bool);
        let good = json.well()
            && flag("inbound_mh_type") == Some(reads_types)
            && flag("xfrm_interface") == Some(trap)
            && flag("migrate") == Some(true);
        seen.check(&what("JSON"), good, &json);
        let after = host.exec("ip xfrm policy")?;
        seen.check(&what("no policy came or went"), before == after, &after);
        host.exec(&format!("ip xfrm policy del {ends}{kind} dir in"))?;
    }
    Ok(())
}

/// A guest that only looks at its kernel, without any daemon.
pub(crate) fn kernel_in_guest(guest: &Guest) -> Result<i32> {
    let look: Look = serde_json::from_value(guest.plan.argument.clone()).context("order")?;
    let host = guest.namespace("host")?;
    let mut seen = Findings::default();
    let reads_types = super::acts::model(guest.plan.kernel).reads_inbound_mh_type();
    let link = host.exec("ip link add ipsec0 type xfrm dev lo if_id 42");
    seen.check("an xfrm link can be made", link.is_ok() == look.xfrm_interface, link);
    kernel_report(&mut seen, &look.programs, &host, None, reads_types, look.xfrm_interface)?;
    guest.write(RESULT, serde_json::to_string_pretty(&seen.0).context(RESULT)?)?;
    Ok(0)
}

/// A guest with a registered mobile node and its home agent.
pub(crate) fn in_guest(guest: &Guest) -> Result<i32> {
    let order: Order = serde_json::from_value(guest.plan.argument.clone()).context("order")?;
    let scenario = watari_sim::scenarios::find(&order.scenario).ok_or_else(|| Failure(format!("no scenario {}", order.scenario)))?;
    let network = Network::build(guest, &scenario)?;
    let mut runner = Runner::new(guest, &scenario, network, &order)?;
    runner.run()?;
    let mut live = Live { guest, programs: order.programs.clone(), runner, seen: Findings::default() };
    let reads_types = super::acts::model(guest.plan.kernel).reads_inbound_mh_type();
    for host in [HOME_AGENT_HOST, MOBILE_NODE] {
        let space = live.runner.hosts.get(host).map(|host| host.space.clone()).ok_or_else(|| Failure::new("no such host"))?;
        kernel_report(&mut live.seen, &order.programs, &space, Some(&space.name), reads_types, false)?;
        kernel_report(&mut live.seen, &order.programs, &space, None, reads_types, false)?;
    }
    live.look()?;
    live.broken_files()?;
    live.good_files()?;
    live.steer()?;
    live.mobility()?;
    live.kernel_in_log(reads_types);
    live.leave()?;
    guest.write(RESULT, serde_json::to_string_pretty(&live.seen.0).context(RESULT)?)?;
    Ok(0)
}

/// What must not change by itself: the SADs, the IKE SAs, how many were begun.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Standing {
    sads: Vec<Vec<EspSa>>,
    ike: Vec<Vec<String>>,
    inits: u64,
}

struct Live<'a> {
    guest: &'a Guest,
    programs: PathBuf,
    runner: Runner<'a>,
    seen: Findings,
}

impl Live<'_> {
    fn say(&self, host: usize, words: &[&str]) -> Result<Said> {
        let space = self.runner.hosts.get(host).map(|host| &host.space).ok_or_else(|| Failure::new("no such host"))?;
        watari(&self.programs, space, Some(&space.name), words)
    }

    /// Lets time pass while the Mobile IPv6 daemons go on.
    fn wait(&mut self, time: Duration) -> Result<()> {
        let begin = Instant::now();
        while begin.elapsed() < time {
            self.runner.turn()?;
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn sad(&mut self, host: usize) -> Result<Vec<EspSa>> {
        self.runner.hosts.get_mut(host).map_or(Ok(Vec::new()), |host| host.signalling.kernel().esp_sas())
    }

    fn standing(&mut self) -> Result<Standing> {
        let mut standing = Standing { sads: Vec::new(), ike: Vec::new(), inits: 0 };
        for host in [HOME_AGENT_HOST, MOBILE_NODE] {
            standing.sads.push(self.sad(host)?);
            let status = self.say(host, &["status", "--json"])?.json().unwrap_or_default();
            standing.inits += status.pointer("/counters/ike_sa_init_sent").and_then(Value::as_u64).unwrap_or_default();
            standing.ike.push(ike_spis(&status));
        }
        Ok(standing)
    }

    fn file(&self, host: &str) -> PathBuf {
        self.guest.output.join(format!("{host}.toml"))
    }

    fn name(&self, host: usize) -> String {
        self.runner.hosts.get(host).map(|host| host.space.name.clone()).unwrap_or_default()
    }

    /// Every question once.
    fn look(&mut self) -> Result<()> {
        let status = self.say(MOBILE_NODE, &["status"])?;
        let good =
            status.well() && ["home-agent (", "IKE SA ", "ESTABLISHED", "INSTALLED", "next: "].iter().all(|part| status.out.contains(part));
        self.seen.check("status", good, &status);
        let status = self.say(MOBILE_NODE, &["status", "--json"])?;
        let spis = status.json().map(|status| ike_spis(&status)).unwrap_or_default();
        self.seen.check("status --json", status.well() && spis.len() == 1, &status);
        let sas = self.say(MOBILE_NODE, &["sas"])?;
        self.seen.check("sas", sas.well() && sas.out.lines().count() == 1 && sas.out.contains("ESTABLISHED"), &sas);
        let sas = self.say(HOME_AGENT_HOST, &["sas", "--json"])?;
        let good = sas.well() && sas.json().is_some_and(|row| row.to_string().contains("ESTABLISHED"));
        self.seen.check("sas --json", good, &sas);
        let nowhere = self.say(MOBILE_NODE, &["up", "nonsense"])?;
        self.seen.check("up of a name that nothing has", nowhere.code == Some(1) && nowhere.err.contains("nonsense"), &nowhere);
        Ok(())
    }

    /// A broken file changes nothing and is told with its line.
    fn broken_files(&mut self) -> Result<()> {
        let before = self.standing()?;
        for host in [HOME_AGENT_HOST, MOBILE_NODE] {
            let file = self.file(&self.name(host));
            let good_text = std::fs::read_to_string(&file).context(file.display())?;
            let line = good_text.lines().count() + 2;
            for (what, wrong) in [("not TOML", "\nthis is no TOML ["), ("an unknown record", "\n[polcy.other]\nmode = \"transport\"\n")] {
                std::fs::write(&file, format!("{good_text}{wrong}")).context(file.display())?;
                let said = self.say(host, &["reload"])?;
                let places = [format!("{}:{line}", file.display()), format!("\n{line} |")];
                let named = places.iter().any(|place| said.err.contains(place));
                self.seen.check(
                    &format!("reload of {}, {what}: refused with the line", self.name(host)),
                    said.code == Some(1) && named,
                    &said,
                );
            }
            std::fs::write(&file, good_text).context(file.display())?;
        }
        self.wait(SETTLE)?;
        let after = self.standing()?;
        self.seen.check("a broken file changes nothing", before == after, (&before, &after));
        Ok(())
    }

    fn reload(&mut self, host: usize, what: &str, text: &str) -> Result<()> {
        let file = self.file(&self.name(host));
        std::fs::write(&file, text).context(file.display())?;
        let said = self.say(host, &["reload"])?;
        self.seen.check(&format!("reload: {what}"), said.well(), &said);
        self.wait(SETTLE)
    }

    /// Policies and remotes come and go; what did not change keeps its SAs.
    fn good_files(&mut self) -> Result<()> {
        let before = self.standing()?;
        let (mobile, home) = (self.file(&self.name(MOBILE_NODE)), self.file(&self.name(HOME_AGENT_HOST)));
        let mobile = std::fs::read_to_string(&mobile).context(mobile.display())?;
        let home = std::fs::read_to_string(&home).context(home.display())?;
        let address = self.runner.hosts.get(MOBILE_NODE).and_then(|host| host.mobile.as_ref()).map(|mobile| mobile.plan.home_address());
        let address = address.ok_or_else(|| Failure::new("no mobile node"))?;
        let policy = format!(
            "\n[selector.other]\nlocal = \"{address} udp 7777\"\nremote = \"{HOME_AGENT} udp\"\nreqid_out = 71\nreqid_in = 72\npolicy = \"other\"\n\n\
             [policy.other]\nmode = \"transport\"\ninstalled_by = \"watari\"\nremote = \"other\"\n\n\
             [remote.other]\nremote_address = \"2001:db8:1::99\"\nidentity = \"mn.example\"\nremote_identity = \"other.example\"\npsk = \"x\"\n"
        );
        self.reload(MOBILE_NODE, "a policy and its remote come", &format!("{mobile}{policy}"))?;
        let ours = |policies: &str| policies.contains("sport 7777") && policies.contains("reqid 71");
        let policies = self.policies(MOBILE_NODE)?;
        self.seen.check("the new policy is in the kernel", ours(&policies), &policies);
        let after = self.standing()?;
        self.seen.check("nothing is lost when a policy comes", before == after, (&before, &after));
        self.reload(MOBILE_NODE, "both go", &mobile)?;
        let policies = self.policies(MOBILE_NODE)?;
        self.seen.check("the policy has left the kernel", !ours(&policies), &policies);
        let node = "\n[[home_agent.mobile_node]]\nname = \"other\"\nhome_address = \"2001:db8:1::7777\"\nidentity = \"other.example\"\npsk = \"x\"\n";
        self.reload(HOME_AGENT_HOST, "a remote comes", &format!("{home}{node}"))?;
        let status = self.say(HOME_AGENT_HOST, &["status"])?;
        self.seen.check("the new remote is shown", status.out.contains("other ("), &status);
        self.reload(HOME_AGENT_HOST, "the remote goes", &home)?;
        let status = self.say(HOME_AGENT_HOST, &["status"])?;
        self.seen.check("the remote is no longer shown", !status.out.contains("other ("), &status);
        let after = self.standing()?;
        self.seen.check("nothing is lost by five reloads", before == after, (&before, &after));
        Ok(())
    }

    fn policies(&self, host: usize) -> Result<String> {
        self.runner.hosts.get(host).map_or(Ok(String::new()), |host| host.space.exec("ip xfrm policy"))
    }

    /// `rekey`, `down`, `up`, each watched.
    fn steer(&mut self) -> Result<()> {
        let space = self.runner.hosts.get(MOBILE_NODE).map(|host| host.space.clone()).ok_or_else(|| Failure::new("no mobile node"))?;
        let words = format!("{}/watari --control /tmp/{}.vici watch", self.programs.display(), space.name);
        let mut watch = space.spawn("watch", &words)?;
        self.wait(Duration::from_millis(300))?;
        let before = self.standing()?;
        let done = |before: &[EspSa], now: &[EspSa]| now.len() == before.len() && !now.iter().all(|sa| before.contains(sa));
        let sad = before.sads.get(MOBILE_NODE).cloned().unwrap_or_default();
        let said = self.say(MOBILE_NODE, &["rekey", "binding"])?;
        let renewed = self.until(|sads| done(&sad, sads))?;
        self.seen.check("rekey of a child", said.well() && renewed, &said);
        let ike = self.standing()?.ike;
        let said = self.say(MOBILE_NODE, &["rekey", "--ike", REMOTE])?;
        self.wait(SETTLE)?;
        let now = self.standing()?;
        self.seen.check("rekey of the IKE SA", said.well() && now.ike != ike && now.inits == before.inits, (&said, &now));
        let said = self.say(MOBILE_NODE, &["down", "binding"])?;
        let gone = self.until(|sads| sads.len() + 2 == sad.len())?;
        self.seen.check("down", said.well() && gone, &said);
        let said = self.say(MOBILE_NODE, &["up", "binding"])?;
        let back = self.until(|sads| sads.len() == sad.len())?;
        self.seen.check("up", said.well() && back, &said);
        watch.kill();
        let told = std::fs::read_to_string(&watch.log).context("watch")?;
        let good = ["child-rekey ", "ike-rekey ", "child-updown up=no", "child-updown up=yes"].iter().all(|event| told.contains(event));
        self.seen.check("watch told each", good, told);
        Ok(())
    }

    /// Waits until the mobile node's SAD is as wanted.
    fn until(&mut self, wanted: impl Fn(&[EspSa]) -> bool) -> Result<bool> {
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            if wanted(&self.sad(MOBILE_NODE)?) {
                return Ok(true);
            }
            self.wait(Duration::from_millis(50))?;
        }
        Ok(false)
    }

    /// A remote that goes takes its SAs with it; `stop` ends the daemon, whom nobody reaches afterwards.
    fn leave(&mut self) -> Result<()> {
        let file = self.file(&self.name(HOME_AGENT_HOST));
        let text = std::fs::read_to_string(&file).context(file.display())?;
        let (without, _) = text.split_once("\n[[home_agent.mobile_node]]").unwrap_or((&text, ""));
        let other = "\n[[home_agent.mobile_node]]\nname = \"other\"\nhome_address = \"2001:db8:1::7777\"\nidentity = \"other.example\"\npsk = \"x\"\n";
        self.reload(HOME_AGENT_HOST, "the mobile node's remote goes", &format!("{without}{other}"))?;
        let left = self.sad(HOME_AGENT_HOST)?;
        self.seen.check("its SAs went with it", left.is_empty(), left);
        for host in [MOBILE_NODE, HOME_AGENT_HOST] {
            let said = self.say(host, &["stop"])?;
            let begin = Instant::now();
            while self.runner.hosts.get_mut(host).is_some_and(|host| host.agent.is_well()) && begin.elapsed() < PATIENCE * 2 {
                self.wait(Duration::from_millis(50))?;
            }
            let running = self.runner.hosts.get_mut(host).is_some_and(|host| host.agent.is_well());
            self.seen.check(&format!("stop of {}", self.name(host)), said.well() && !running, &said);
            let said = self.say(host, &["status"])?;
            self.seen.check("nobody answers afterwards", said.code == Some(2) && said.err.contains("cannot reach watarid"), &said);
        }
        Ok(())
    }
}

/// The IKE SAs of a status by their SPIs.
fn ike_spis(status: &Value) -> Vec<String> {
    let remotes = status.get("remotes").and_then(Value::as_array).into_iter().flatten();
    let sas = remotes.filter_map(|remote| remote.get("ike_sas").and_then(Value::as_array)).flatten();
    let mut spis: Vec<String> = sas.filter_map(|sa| sa.get("initiator_spi").and_then(Value::as_str)).map(str::to_owned).collect();
    spis.sort();
    spis
}
