//! `watari mobility` against live daemons: a Mobile IPv6 daemon that tells K, and what the log says of the kernel.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{HOME_AGENT_HOST, Live, MOBILE_NODE, SETTLE, Standing};
use crate::uml::{Failure, Result};

/// Another address of the mobile node on its link.
const ELSEWHERE: &str = "2001:db8:f1::77";
/// Time for a new IKE SA with all its children.
const PATIENCE: Duration = Duration::from_secs(15);

impl Live<'_> {
    /// K set: IKE SAs follow to the address that is told. K clear: they are given up there, and everything is made anew.
    pub(super) fn mobility(&mut self) -> Result<()> {
        let place = self.runner.hosts.get(MOBILE_NODE).and_then(|host| {
            let mobile = host.mobile.as_ref()?;
            Some((host.space.clone(), mobile.plan.home_address().to_string(), mobile.plan.care_of(mobile.plan.boots_on).to_string()))
        });
        let (space, home, care_of) = place.ok_or_else(|| Failure::new("no mobile node"))?;
        let before = self.standing()?;
        let said = self.say(MOBILE_NODE, &["mobility", "2001:db8:7::1", &care_of, "--k"])?;
        let refused = said.code == Some(1) && said.err.contains("no remote has this home address");
        self.seen.check("mobility: of a home address that nobody has", refused, &said);
        let said = self.say(MOBILE_NODE, &["mobility", &home, ELSEWHERE, "--k", "--status", "130"])?;
        self.seen.check("mobility: a registration that was refused is noted", said.well(), &said);
        let said = self.say(MOBILE_NODE, &["mobility", &home, &care_of, "--k"])?;
        self.seen.check("mobility: where the node is already", said.well(), &said);
        self.wait(SETTLE)?;
        let after = self.standing()?;
        self.seen.check("neither moves anything", before == after, (&before, &after));

        space.ip_batch(&format!("addr add {ELSEWHERE}/64 dev eth0 nodad\n"))?;
        for host in [HOME_AGENT_HOST, MOBILE_NODE] {
            let said = self.say(host, &["mobility", &home, ELSEWHERE, "--k"])?;
            self.seen.check(&format!("mobility: K set, on {}", self.name(host)), said.well(), &said);
        }
        self.wait(SETTLE)?;
        let after = self.standing()?;
        let paths = [self.paths(MOBILE_NODE, "local")?, self.paths(HOME_AGENT_HOST, "remote")?];
        let there = |paths: &Vec<String>| paths.len() == 1 && paths.iter().all(|path| path.contains(ELSEWHERE));
        self.seen.check("K set: the IKE SA is where the daemon said, on both sides", paths.iter().all(there), &paths);
        self.seen.check("K set: the same SAs", before == after, (&before, &after));

        for host in [HOME_AGENT_HOST, MOBILE_NODE] {
            let said = self.say(host, &["mobility", &home, &care_of])?;
            self.seen.check(&format!("mobility: K clear, on {}", self.name(host)), said.well(), &said);
        }
        let after = self.renewed(&before)?;
        let paths = [self.paths(MOBILE_NODE, "local")?, self.paths(HOME_AGENT_HOST, "remote")?];
        let back = |paths: &Vec<String>| paths.len() == 1 && paths.iter().all(|path| path.contains(&care_of));
        self.seen.check("K clear: one IKE SA stands at the address told, on both sides", paths.iter().all(back), &paths);
        self.seen.check(
            "K clear: it is a new one, begun once",
            after.ike != before.ike && after.inits == before.inits + 1,
            (&before, &after),
        );
        space.ip_batch(&format!("addr del {ELSEWHERE}/64 dev eth0\n"))
    }

    /// Waits until both SADs have as many SAs as before and none of the old ones.
    fn renewed(&mut self, before: &Standing) -> Result<Standing> {
        let begin = Instant::now();
        loop {
            self.wait(Duration::from_millis(100))?;
            let now = self.standing()?;
            let mut sads = before.sads.iter().zip(&now.sads);
            let done = sads.all(|(before, now)| now.len() == before.len() && !now.iter().any(|sa| before.contains(sa)));
            if done || begin.elapsed() > PATIENCE {
                self.seen.check("K clear: every child SA has been replaced, on both sides", done, (before, &now));
                return Ok(now);
            }
        }
    }

    /// One end of every IKE SA of a host.
    fn paths(&self, host: usize, end: &str) -> Result<Vec<String>> {
        let status = self.say(host, &["status", "--json"])?.json().unwrap_or_default();
        let rows = |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
        let sas = rows(&status, "remotes").iter().flat_map(|remote| rows(remote, "ike_sas")).collect::<Vec<_>>();
        Ok(sas.iter().filter_map(|ike| ike.get(end).and_then(Value::as_str)).map(str::to_owned).collect())
    }

    /// The log of each daemon says once what this kernel cannot do, and nothing where it can.
    pub(super) fn kernel_in_log(&mut self, reads_types: bool) {
        for host in &self.runner.hosts {
            let log = host.agent.log();
            let says = |line: &&Value| {
                let word = |key: &str| line.get(key).and_then(Value::as_str).unwrap_or_default();
                word("level") == "WARN" && word("msg").contains("does not see the MH type") && word("msg").contains("UseESP")
            };
            let times = log.iter().filter(says).count();
            self.seen.check(&format!("log of {}: the MH type", host.space.name), times == usize::from(!reads_types), (times, log.first()));
        }
    }
}
