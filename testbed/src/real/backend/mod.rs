//! The agent's back ends (XFRM, PF_KEY, rtnetlink) against a real Linux kernel: what they ask is taken as it was meant, what the kernel
//! tells is understood, an overrun ends in one whole picture.

mod events;
mod policies;
mod refusals;
mod security;
mod world;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::world::World;
use crate::uml::boot::{Kernel, Machine};
use crate::uml::guest::Guest;
use crate::uml::{Context, Result};

/// Name of the task in a plan.
pub(crate) const TASK: &str = "real-backend";
const RESULT: &str = "backend.json";

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Finding {
    /// What had to be so.
    pub(crate) act: String,
    /// What was seen instead.
    pub(crate) complaint: Option<String>,
}

/// Boots `kernel` and puts the back ends to it.
pub(crate) fn on(kernel: Kernel) -> Result<Vec<Finding>> {
    Machine::on(kernel, format!("backend-{}", super::release(kernel)))?.result(TASK, serde_json::Value::Null, RESULT)
}

/// The part that runs in the guest.
pub(crate) fn in_guest(guest: &Guest) -> Result<i32> {
    guest.link("wire")?;
    let host = guest.namespace("host")?;
    guest.attach(&host, "eth0", Some("wire"))?;
    let reads_types = super::acts::model(guest.plan.kernel).reads_inbound_mh_type();
    let findings = host.enter(|| every_act(reads_types))??;
    guest.write(RESULT, serde_json::to_string_pretty(&findings).context(RESULT)?)?;
    Ok(0)
}

fn every_act(reads_types: bool) -> Result<Vec<Finding>> {
    let mut world = World::open()?;
    world.hear(Duration::from_millis(100), |_| false)?;
    security::probe(&mut world, reads_types)?;
    security::inbound_pair(&mut world)?;
    security::suites(&mut world)?;
    refusals::words(&mut world)?;
    policies::policies(&mut world)?;
    policies::migrate(&mut world)?;
    events::acquire_and_expire(&mut world)?;
    events::strangers(&mut world)?;
    events::refused_acquire(&mut world)?;
    policies::crowd(&mut world)?;
    events::addresses(&mut world)?;
    Ok(world.findings)
}
