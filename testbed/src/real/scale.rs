//! Many mobile nodes of one home agent: watarid on a real kernel, and the nodes as engines over in-memory kernels in one process, which
//! talk to it over real sockets from care-of addresses of their own.

mod mobility;
mod nodes;
mod verdict;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use watari_sim::fleet::{HOME_AGENT, home_agent_file, nodes_file};

use self::mobility::Daemon;
use self::nodes::Nodes;
use self::verdict::Standing;
use super::Programs;
use super::agent::Agent;
use crate::uml::boot::{self, Machine};
use crate::uml::guest::Guest;
use crate::uml::hosts::Namespace;
use crate::uml::links::Impairment;
use crate::uml::topology::{HostPlan, InterfacePlan, Topology};
use crate::uml::{Context, Failure, Result};

/// Name of the task in a plan.
pub(crate) const TASK: &str = "real-scale";
/// File with what was seen.
const SIGHTS: &str = "scale.json";
/// All nodes must have moved, and been heard again, within this time.
const MINUTE: Duration = Duration::from_secs(60);
/// The moves of so many nodes a second begin; so do their arrivals.
const RATE: u32 = 8;
/// After the last answer, so that what is wrong may still happen.
const REST: Duration = Duration::from_secs(2);
/// What every datagram meets between the nodes and the home agent, each way.
const ROAD: Impairment = Impairment { delay_ms: 5, jitter_ms: 0, loss_percent: 1.0, duplicate_percent: 0.0 };
const IKE_LIFETIME: u64 = 14_400;

/// What a guest is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Order {
    nodes: u32,
    seed: u64,
    programs: PathBuf,
}

/// What was seen of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sights {
    /// IKE_SA_INIT exchanges that nodes began.
    pub(crate) handshakes: usize,
    /// ESP SAs of the home agent's kernel in the end.
    pub(crate) sas: usize,
    /// From the first arrival until every node had its SAs, in milliseconds.
    pub(crate) arrived_ms: u64,
    /// From the first move until every node had been answered on its new path, in milliseconds.
    pub(crate) moved_ms: u64,
    /// Datagrams that nodes sent, and that came to a care-of address where nobody was any more.
    pub(crate) datagrams: (usize, usize),
    /// Resident octets of watarid per node.
    pub(crate) memory_per_node: Option<u64>,
    /// Whatever should not have been.
    pub(crate) reasons: Vec<String>,
}

/// Boots a guest and lets so many nodes come and move.
pub(crate) fn on(kernel: boot::Kernel, nodes: u32, seed: u64) -> std::result::Result<Sights, String> {
    let run = || -> Result<Sights> {
        let programs = Programs::build()?;
        let mut machine = Machine::on(kernel, format!("scale-{nodes}-{}", super::release(kernel)))?;
        machine.memory = 384;
        machine.init = programs.0.join("testbed");
        machine.timeout = super::MARGIN + 4 * MINUTE;
        let order = Order { nodes, seed, programs: programs.0.clone() };
        machine.result(TASK, serde_json::to_value(order).context("order")?, SIGHTS)
    };
    run().map_err(|failure| failure.to_string())
}

/// The part that runs in the guest.
pub(crate) fn in_guest(guest: &Guest) -> Result<i32> {
    let order: Order = serde_json::from_value(guest.plan.argument.clone()).context("order")?;
    let (home_agent, road) = network(guest)?;
    let file = guest.output.join("nodes");
    guest.write("nodes", nodes_file(order.nodes))?;
    let text = home_agent_file(&file.display().to_string(), "mip6d", IKE_LIFETIME);
    let mut agent = Agent::new(guest, home_agent.clone(), &order.programs, order.seed, &text)?;
    agent.start()?;
    let mut run = Run {
        mobility: home_agent.enter(|| Daemon::open(order.nodes, IKE_LIFETIME))??,
        nodes: road.enter(|| Nodes::open(order.nodes, order.seed))??,
        sights: Sights::default(),
        agent,
    };
    let done = run.come().and_then(|()| run.move_all());
    run.sights.reasons.extend(done.err().map(|failure| failure.to_string()));
    run.agent.kill();
    guest.write(SIGHTS, serde_json::to_string_pretty(&run.sights).context(SIGHTS)?)?;
    Ok(0)
}

/// The home agent, and the place where all nodes are: every address of both foreign links belongs to it.
fn network(guest: &Guest) -> Result<(Namespace, Namespace)> {
    let interface = |addresses: &[&str]| InterfacePlan {
        name: "eth0".into(),
        link: Some("core".into()),
        addresses: addresses.iter().map(|address| (*address).to_owned()).collect(),
        ..InterfacePlan::default()
    };
    let host = |name: &str, addresses: &[&str], routes: &[&str]| HostPlan {
        name: name.into(),
        interfaces: vec![interface(addresses)],
        routes: routes.iter().map(|route| (*route).to_owned()).collect(),
        ..HostPlan::default()
    };
    let own = format!("{HOME_AGENT}/64");
    let topology = Topology {
        links: vec!["core".into()],
        hosts: vec![
            host("ha", &["2001:db8:c::1/64", &own], &["2001:db8:f1::/64 via 2001:db8:c::fe", "2001:db8:f2::/64 via 2001:db8:c::fe"]),
            host(
                "nodes",
                &["2001:db8:c::fe/64"],
                &["2001:db8:1::/64 via 2001:db8:c::1", "local 2001:db8:f1::/64 dev lo", "local 2001:db8:f2::/64 dev lo"],
            ),
        ],
    };
    topology.build(guest)?;
    let (home_agent, nodes) = (guest.namespace("ha")?, guest.namespace("nodes")?);
    guest.impair(&nodes, "eth0", &ROAD)?;
    Ok((home_agent, nodes))
}

/// A run under way.
struct Run {
    agent: Agent,
    mobility: Daemon,
    nodes: Nodes,
    sights: Sights,
}

impl Run {
    fn amount(&self) -> u32 {
        u32::try_from(self.nodes.amount()).unwrap_or(u32::MAX).max(1)
    }

    /// What each of so many nodes begins at moments spread over this time.
    fn span(&self) -> Duration {
        Duration::from_secs(1) + Duration::from_secs(1) * (self.amount() / RATE)
    }

    /// Every node comes, in any order, gets its SAs and is bound.
    fn come(&mut self) -> Result<()> {
        let (begin, before) = (Instant::now(), self.memory());
        self.nodes.arrive(self.span());
        self.turn_until(begin + self.span() + MINUTE, |run| run.nodes.all_up() && run.nodes.are_bound(&run.mobility))?;
        self.sights.arrived_ms = millis(begin.elapsed());
        self.sights.memory_per_node =
            before.zip(self.memory()).map(|(before, after)| after.saturating_sub(before) / u64::from(self.amount()));
        self.rest()
    }

    /// Every node moves, once, within a minute.
    fn move_all(&mut self) -> Result<()> {
        let before = self.standing()?;
        self.sights.reasons.extend(before.differences(&self.nodes, "before the moves"));
        let begin = Instant::now();
        self.nodes.move_within(self.span());
        self.turn_until(begin + MINUTE, |run| run.nodes.all_moved() && run.nodes.are_bound(&run.mobility))?;
        self.sights.moved_ms = millis(begin.elapsed());
        self.rest()?;
        let after = self.standing()?;
        self.sights.reasons.extend(after.differences(&self.nodes, "after the moves"));
        self.sights.reasons.extend(after.lost_since(&before));
        self.sights.reasons.extend(self.nodes.complaints());
        self.sights.reasons.extend(self.mobility.complaints.iter().take(10).cloned());
        (self.sights.handshakes, self.sights.datagrams) = (self.nodes.handshakes(), self.nodes.datagrams());
        self.sights.sas = after.kernel.len();
        Ok(())
    }

    /// Lets nodes and home agent go on until something is so; a failure if it is not by then.
    fn turn_until(&mut self, end: Instant, done: impl Fn(&Self) -> bool) -> Result<()> {
        while !done(self) {
            if Instant::now() > end {
                return Err(Failure(self.nodes.what_is_missing()));
            }
            self.turn()?;
        }
        Ok(())
    }

    fn rest(&mut self) -> Result<()> {
        let end = Instant::now() + REST;
        while Instant::now() < end {
            self.turn()?;
        }
        Ok(())
    }

    fn turn(&mut self) -> Result<()> {
        for update in self.nodes.turn()? {
            self.mobility.update(&update)?;
        }
        self.mobility.turn()
    }

    fn standing(&mut self) -> Result<Standing> {
        Ok(Standing::of(self.mobility.esp_sas()?, &self.agent.status()?))
    }

    /// Resident octets of watarid.
    fn memory(&self) -> Option<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/statm", self.agent.id()?)).ok()?;
        let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
        Some(pages * 4096)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
