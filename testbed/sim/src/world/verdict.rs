//! The end of a run: numbers, expectations, reasons.

use std::collections::BTreeSet;

use watari_kernel::mirror::Counter;
use watari_kernel::{PolicyEntry, SaInfo};
use watari_policies::{Direction, PolicyId, Selector};
use watari_sa::Cause;

use super::host::Role;
use super::{World, host::Host};
use crate::report::Report;
use crate::signalling::SignalEvent;
use crate::timeline::Happening;

impl World<'_> {
    //= rfc4877#4.2
    //# tunnel SAs that IKE made may end with their lifetime while the mobile node is at home and their policies are inactive
    /// A child SA ended: lost, unless another stands for the same traffic, if only one way because the kernel left the other way behind
    /// in a MIGRATE and it is being made again, or unless the Mobile IPv6 daemon has taken the policy away.
    pub(super) fn child_down(&mut self, host: usize, policy: PolicyId, cause: Cause) {
        let Some(this) = self.hosts.get(host) else { return };
        let Some(policy) = this.config.policy(policy) else { return };
        let home = this.config.remote(policy.remote).and_then(|remote| remote.role.lasting_address());
        let ours = |selector: &Selector| home.is_none_or(|home| selector.src.contains(&home) || selector.dst.contains(&home));
        let reqids = [policy.reqid_out, policy.reqid_in];
        let serves = |sa: &SaInfo| !sa.larval && reqids.contains(&sa.reqid) && sa.selector.as_ref().is_none_or(ours);
        let asks = |entry: &PolicyEntry| {
            let reqid = entry.templates.iter().any(|template| template.reqid == policy.reqid_out);
            entry.direction == Direction::Out && reqid && ours(&entry.selector)
        };
        let wanted = this.mirror.policies().any(asks);
        if wanted && !self.scenario.is_left(this.name, &[]) && !this.mirror.sas().iter().any(serves) && cause != Cause::OPERATOR {
            self.lost.push(format!("{} had no SA for {} at {:?} ({cause})", this.name, policy.name, self.now));
        }
    }

    pub(super) fn judge(&mut self) -> Report {
        let established = self.established();
        let welcome = self.scenario.mobile_nodes.iter().filter(|plan| !self.scenario.is_refused(plan)).count();
        let mobile_nodes = u32::try_from(welcome).unwrap_or(u32::MAX);
        let count =
            |fits: &dyn Fn(&super::Ping) -> bool| u32::try_from(self.pings.iter().filter(|ping| fits(ping)).count()).unwrap_or(u32::MAX);
        let key = |counter: Option<Counter>| counter.is_some_and(|counter| counter != Counter::XfrmOutPolBlock);
        let mut report = Report {
            scenario: self.scenario.name.to_owned(),
            backend: "sim".to_owned(),
            seed: self.seed,
            passed: false,
            ike_sa_init: u32::try_from(self.attempts.len()).unwrap_or(u32::MAX),
            reauthentications: established.saturating_sub(mobile_nodes),
            sas_lost: u32::try_from(self.lost.len()).unwrap_or(u32::MAX),
            cleartext_packets: self.cleartext,
            pings_sent: count(&|_| true),
            pings_lost: count(&|ping| !ping.answered),
            pings_lost_for_key: count(&|ping| !ping.answered && ping.counts && key(ping.dropped)),
            sad_matches_kernel: true,
            handovers: self.tracks.iter().map(super::Track::handover).collect(),
            reasons: Vec::new(),
        };
        let mut reasons = std::mem::take(&mut self.reasons);
        reasons.dedup();
        for host in &self.hosts {
            let differences = self.differences(host);
            report.sad_matches_kernel &= differences.is_empty();
            reasons.extend(differences);
            reasons.extend(self.unread(host));
        }
        reasons.extend(self.silent_flows());
        self.compare(&report, &mut reasons);
        report.passed = reasons.is_empty();
        report.reasons = reasons;
        report
    }

    /// IKE SAs that came up on mobile nodes' and home agent's word, each once.
    fn established(&self) -> u32 {
        let ups = self
            .lines
            .iter()
            .filter(|line| matches!(&line.what, Happening::Agent(text) if text.up) && self.scenario.mobile_node(&line.host).is_some());
        u32::try_from(ups.count()).unwrap_or(u32::MAX)
    }

    fn compare(&self, report: &Report, reasons: &mut Vec<String>) {
        let expect = self.scenario.expect;
        let mut must = |fine: bool, words: String| {
            if !fine {
                reasons.push(words);
            }
        };
        // Where packets are lost a move may cut off a handshake that nobody has answered yet; elsewhere the scenario knows whether it does.
        let inits = expect.ike_sa_init.saturating_add(if self.is_lossy() { self.cut_off() } else { 0 });
        must(report.ike_sa_init == inits, format!("{} IKE_SA_INIT sent, {inits} expected", report.ike_sa_init));
        let again = report.reauthentications;
        must(again == expect.reauthentications, format!("{again} re-authentications, {} expected", expect.reauthentications));
        must(expect.may_lose_sas || report.sas_lost == 0, format!("child SAs ended without successor: {}", self.lost.join("; ")));
        must(report.cleartext_packets == 0, format!("{} packets in clear that must be protected", report.cleartext_packets));
        let lost = report.pings_lost_for_key;
        must(lost <= expect.lost_for_key, format!("{lost} pings lost for want of a key, at most {} allowed", expect.lost_for_key));
        let answered = report.pings_sent.saturating_sub(report.pings_lost);
        let enough = report.pings_sent == 0 || self.is_lossy() || answered >= expect.answered;
        must(enough, format!("{answered} pings answered, {} expected", expect.answered));
        must(
            !expect.no_update || self.updates_on_links == 0,
            format!("{} binding updates crossed a link, none expected", self.updates_on_links),
        );
        let seen = |event: SignalEvent| {
            let same = |what: &Happening| matches!(what, Happening::Signal(other) if *other == event);
            u32::try_from(self.lines.iter().filter(|line| same(&line.what)).count()).unwrap_or(u32::MAX)
        };
        let tests = seen(SignalEvent::HomeTested);
        must(tests >= expect.home_tests, format!("{tests} Home Tests came back, {} expected", expect.home_tests));
        let prefixes = seen(SignalEvent::PrefixAdvertised);
        must(
            prefixes >= expect.prefix_advertisements,
            format!("{prefixes} prefix advertisements, {} expected", expect.prefix_advertisements),
        );
        let returns = report.handovers.iter().filter(|handover| handover.to == crate::scenario::Link::Home.name()).count();
        let ends = self.lines.iter().filter(|line| matches!(line.what, Happening::Signal(SignalEvent::Ended { .. }))).count();
        // Where packets are lost a node may come home before the home agent has heard of it.
        let seen = returns.saturating_sub(expect.unseen_returns);
        must(self.is_lossy() || ends >= seen, format!("{ends} bindings ended, {seen} returns home that the daemon saw"));
        for host in &self.hosts {
            let Role::Mobile(plan) = &host.role else { continue };
            let settled = host.node.is_none() || matches!(&host.node, Some(crate::signalling::Node::Mobile(node)) if node.is_settled());
            // Where packets are lost a registration may take any time; that is not the agent's doing.
            must(settled || self.is_lossy(), format!("{}: a registration is still under way", host.name));
            let outbound =
                u32::try_from(esp(host).filter(|sa| host.config.policies.iter().any(|policy| policy.reqid_out == sa.reqid)).count());
            let outbound = outbound.unwrap_or(u32::MAX);
            let wanted = if self.scenario.is_refused(plan) { 0 } else { expect.children };
            let children = if self.is_lossy() && !host.bootstrapped { outbound.min(wanted) } else { wanted };
            must(outbound == children, format!("{}: {outbound} child SAs in the end, {children} expected", host.name));
        }
        let lines: Vec<(&str, String)> = self.lines.iter().map(|line| (line.host.as_str(), line.what.to_string())).collect();
        let wanted = self.scenario.told.iter();
        reasons.extend(wanted.filter_map(|told| told.missing(lines.iter().map(|(host, text)| (*host, text.as_str())))));
        reasons.extend(self.left_behind());
        reasons.extend(self.not_quiet());
        reasons.extend(self.miscreated());
        reasons.extend(self.judge_doubts());
        reasons.extend(self.judge_elsewhere());
        reasons.extend(self.judge_home_agents(report));
        for node in 0..self.hosts.len() {
            reasons.extend(self.judge_pings(node));
        }
    }

    /// IKE SAs of mobile nodes at addresses that are no longer there.
    fn left_behind(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for host in self.hosts.iter().filter(|host| matches!(host.role, Role::Mobile(_)) && !self.is_lossy()) {
            let status = host.agent.as_ref().map(|agent| agent.status(self.clock()));
            for ike in status.into_iter().flat_map(|status| status.remotes).flat_map(|remote| remote.ike_sas) {
                let local = ike.local.parse::<std::net::SocketAddr>().ok().map(|local| local.ip());
                if local.is_some_and(|local| host.mirror.address_flags(local).is_none()) {
                    wrong.push(format!("{}: IKE is at {}, which is not there any more", host.name, ike.local));
                }
            }
        }
        wrong
    }

    /// IKE exchanges other than liveness at a time when there must be none.
    fn not_quiet(&self) -> Option<String> {
        let after = self.scenario.expect.quiet_after?;
        let exchange = |datagram: &super::IkeDatagram| super::network::exchange_of(&datagram.octets, datagram.src.port());
        let begins = |datagram: &&super::IkeDatagram| matches!(exchange(datagram), Some((34..=36, false)));
        let noise = self.datagrams.iter().filter(|datagram| datagram.at > after).find(begins)?;
        Some(format!("exchange {:?} from {} at {:?}, nothing but liveness expected after {after:?}", exchange(noise), noise.src, noise.at))
    }

    /// CREATE_CHILD_SA requests other than those expected, repeats not counted.
    fn miscreated(&self) -> Option<String> {
        let expected = self.scenario.expect.creations?;
        let requests = self.datagrams.iter().filter_map(|datagram| super::network::creation_of(&datagram.octets, datagram.src.port()));
        let made = requests.collect::<BTreeSet<_>>().len();
        (u32::try_from(made) != Ok(expected)).then(|| format!("{made} CREATE_CHILD_SA requests, {expected} expected"))
    }

    /// Whether the agent could read everything that its kernel said.
    fn unread(&self, host: &Host) -> Option<String> {
        let unread = host.agent.as_ref()?.status(self.clock()).counters.malformed_kernel_messages;
        (unread > 0).then(|| format!("{}: the agent could not read {unread} messages of its kernel", host.name))
    }

    /// Differences between an agent's records and its kernel, both ways.
    fn differences(&self, host: &Host) -> Vec<String> {
        let Some(agent) = &host.agent else { return Vec::new() };
        let status = agent.status(self.clock());
        let mut records = BTreeSet::new();
        for remote in &status.remotes {
            let owned = remote.ike_sas.iter().flat_map(|ike| &ike.children).chain(&remote.adopted);
            for half in owned.flat_map(|child| [&child.inbound, &child.outbound]).filter(|half| half.installed) {
                records.insert(format!("{} {} -> {} reqid {}", half.spi, half.src, half.dst, half.reqid));
            }
        }
        let kernel: BTreeSet<String> = esp(host).map(|sa| format!("{} {} -> {} reqid {}", sa.spi, sa.src, sa.dst, sa.reqid.0)).collect();
        let only_agent = records.difference(&kernel).map(|sa| format!("{}: only the agent knows SA {sa}", host.name));
        let only_kernel = kernel.difference(&records).map(|sa| format!("{}: only the kernel knows SA {sa}", host.name));
        only_agent.chain(only_kernel).collect()
    }
}

pub(super) fn esp(host: &Host) -> impl Iterator<Item = SaInfo> {
    host.mirror.sas().into_iter().filter(|sa| sa.protocol == 50 && !sa.larval)
}
