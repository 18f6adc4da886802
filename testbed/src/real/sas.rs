//! The SAs of every kernel and every agent in the end: each agent knows what its kernel holds, and both ends hold the same.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::kernel::EspSa;
use super::run::Runner;
use crate::uml::Result;

impl Runner<'_> {
    /// Compares each agent's status with its kernel's dump, and the home agents' dumps with those of their mobile nodes.
    pub(super) fn judge_sas(&mut self) -> Result<()> {
        let mut ends = BTreeMap::new();
        for host in &mut self.hosts {
            let kernel = host.signalling.kernel().esp_sas()?;
            let words: BTreeSet<String> = kernel.iter().map(in_words).collect();
            let status = host.agent.status()?;
            self.guest.write(&format!("{}-status.json", host.space.name), status.to_string())?;
            self.facts.troubles.extend(super::judgement::unread(&host.space.name, &status));
            let agent = recorded(&status);
            let name = &host.space.name;
            self.guest.write(
                &format!("{name}-policies.txt"),
                host.space.exec("ip xfrm policy; ip xfrm state | grep -v 'aead\\|auth\\|enc' || true")?,
            )?;
            let only = |one: &BTreeSet<String>, other: &BTreeSet<String>, who: &str| {
                one.difference(other).map(|sa| format!("{name}: only the {who} knows SA {sa}")).collect::<Vec<_>>()
            };
            self.facts.differences.extend(only(&agent, &words, "agent"));
            self.facts.differences.extend(only(&words, &agent, "kernel"));
            self.facts.sas.insert(name.clone(), words.into_iter().collect());
            ends.insert(name.clone(), kernel);
        }
        let serves = |name: &str| self.scenario.home_agents().any(|home_agent| home_agent == name);
        let (served, serving): (BTreeMap<_, _>, BTreeMap<_, _>) = ends.iter().partition(|(name, _)| !serves(name));
        let held: BTreeSet<(u32, IpAddr, IpAddr)> =
            serving.values().flat_map(|sas| sas.iter()).map(|sa| (sa.spi, sa.source, sa.destination)).collect();
        for (name, sas) in &served {
            let outbound = |sa: &&EspSa| self.is_behind(name, sa.selector.0);
            let count = u32::try_from(sas.iter().filter(outbound).count()).unwrap_or(u32::MAX);
            self.facts.children.insert((*name).clone(), count);
            for sa in sas.iter().filter(|sa| !held.contains(&(sa.spi, sa.source, sa.destination))) {
                self.facts.differences.push(format!("{name}: the home agent's kernel does not hold SA {}", in_words(sa)));
            }
        }
        let all: usize = served.values().map(|sas| sas.len()).sum();
        if held.len() != all {
            self.facts.differences.push(format!("the home agent's kernel holds {} SAs, its mobile nodes' kernels {all}", held.len()));
        }
        Ok(())
    }
}

pub(super) fn in_words(sa: &EspSa) -> String {
    format!("{:08x} {} -> {} reqid {}", sa.spi, sa.source, sa.destination, sa.reqid)
}

/// The SAs that an agent believes to be in its kernel, in the same words.
pub(super) fn recorded(status: &serde_json::Value) -> BTreeSet<String> {
    let rows = |value: &serde_json::Value, key: &str| value.get(key).and_then(serde_json::Value::as_array).cloned().unwrap_or_default();
    let mut records = BTreeSet::new();
    for remote in rows(status, "remotes") {
        let owned =
            rows(&remote, "ike_sas").iter().flat_map(|ike| rows(ike, "children")).chain(rows(&remote, "adopted")).collect::<Vec<_>>();
        for half in owned.iter().flat_map(|child| [child.get("inbound"), child.get("outbound")]).flatten() {
            let word = |key: &str| half.get(key).and_then(serde_json::Value::as_str).unwrap_or_default();
            if half.get("installed").and_then(serde_json::Value::as_bool) == Some(true) {
                let reqid = half.get("reqid").and_then(serde_json::Value::as_u64).unwrap_or_default();
                records.insert(format!("{} {} -> {} reqid {reqid}", word("spi"), word("src"), word("dst")));
            }
        }
    }
    records
}
