//! Rows of the list commands, with the field names that strongSwan's clients print.

use std::net::SocketAddr;

use watari_kernel::Now;
use watari_policies::{AddressRange, Mode, Policy, PolicyId, Remote, RemoteId, TrafficItem};
use watari_sa::{ChildSa, IkeStatus, Owner};

use crate::agent::Agent;
use crate::status::{child_state, ike_state};
use crate::usage::Usages;
use crate::vici::Section;

impl Agent {
    /// One row per IKE SA; orphaned children stand under their remote without an IKE SA.
    pub(crate) fn list_sas(&self, now: Now, wanted: Option<&str>, usages: &Usages) -> Vec<Section> {
        let mut rows = Vec::new();
        for ike in self.keying.statuses() {
            let remote = ike.remote.and_then(|remote| self.core.config.remote(remote));
            let name = remote.map_or("(unknown)", |remote| remote.name.as_str());
            if wanted.is_none_or(|wanted| wanted == name) {
                rows.push(Section::new().with_section(name, self.ike_row(now, &ike, remote, usages)));
            }
        }
        let mut orphans: std::collections::BTreeMap<RemoteId, Section> = std::collections::BTreeMap::new();
        for child in self.core.children.of_owner(Owner::None) {
            let section = orphans.entry(child.remote).or_default();
            let row = self.child_row(now, child, usages);
            *section = std::mem::take(section).with_section(&self.child_name(child), row);
        }
        for (remote, children) in orphans {
            let name = self.core.config.remote(remote).map_or("(unknown)", |remote| remote.name.as_str());
            if wanted.is_none_or(|wanted| wanted == name) {
                let row = Section::new().with("state", "ORPHANED").with("version", 2).with_section("child-sas", children);
                rows.push(Section::new().with_section(name, row));
            }
        }
        rows
    }

    fn child_name(&self, child: &ChildSa) -> String {
        format!("{}-{}", self.policy_name(child.policy), child.id.0)
    }

    fn ike_row(&self, now: Now, ike: &IkeStatus, remote: Option<&Remote>, usages: &Usages) -> Section {
        let address = |socket: SocketAddr| socket.ip().to_string();
        let mut row = Section::new()
            .with("uniqueid", ike.id.0)
            .with("version", 2)
            .with("state", ike_state(ike.state))
            .with("local-host", address(ike.path.local))
            .with("local-port", ike.path.local.port())
            .with("remote-host", address(ike.path.remote))
            .with("remote-port", ike.path.remote.port());
        if let Some(remote) = remote {
            row = row.with("local-id", &remote.local_identity).with("remote-id", &remote.remote_identity);
        }
        if ike.initiator {
            row = row.with("initiator", "yes");
        }
        row = row.with("initiator-spi", format!("{:016x}", ike.initiator_spi)).with("responder-spi", format!("{:016x}", ike.responder_spi));
        let names = ["encr-alg", "prf-alg", "dh-group"];
        let mut parts: Vec<&str> = ike.suite.split('-').filter(|part| !part.is_empty()).collect();
        if parts.len() > names.len() {
            row = row.with("integ-alg", parts.remove(1));
        }
        for (name, part) in names.iter().zip(parts) {
            row = row.with(name, part);
        }
        for (name, seen) in [("nat-local", ike.nat.us), ("nat-remote", ike.nat.peer), ("nat-any", ike.nat.any())] {
            if seen {
                row = row.with(name, "yes");
            }
        }
        if let Some(remote) = ike.remote {
            let doubts = &self.core.mobility.doubts;
            if let Some(doubt) = doubts.get(remote) {
                let since = now.boot.saturating_sub(doubt.since.boot).as_secs();
                row = row.with("doubted-host", doubt.new.remote).with("doubted-since", since);
            }
            if let Some(ended) = doubts.last(remote) {
                row = row.with("last-doubted-host", ended.doubt.new.remote).with("last-verdict", ended.verdict.word());
            }
        }
        row = row.with("established", now.boot.saturating_sub(ike.created).as_secs());
        if let Some(at) = ike.rekey_at {
            row = row.with("rekey-time", at.saturating_sub(now.boot).as_secs());
        }
        if !ike.tasks.is_empty() {
            row = row.with_list("tasks-active", ike.tasks.iter().map(|task| (*task).to_owned()));
        }
        let mut children = Section::new();
        for child in self.core.children.of_owner(Owner::Ike(ike.id)) {
            children = children.with_section(&self.child_name(child), self.child_row(now, child, usages));
        }
        row.with_section("child-sas", children)
    }

    fn child_row(&self, now: Now, child: &ChildSa, usages: &Usages) -> Section {
        let mut row = Section::new()
            .with("name", self.policy_name(child.policy))
            .with("uniqueid", child.id.0)
            .with("reqid", child.outbound.reqid.0)
            .with("reqid-in", child.inbound.reqid.0)
            .with("state", child_state(child.state))
            .with("mode", mode(child.mode))
            .with("protocol", format!("{:?}", child.protocol).to_uppercase());
        if child.encapsulation.is_some() {
            row = row.with("encap", "yes");
        }
        row = row
            .with("spi-in", child.inbound.spi)
            .with("spi-out", child.outbound.spi)
            .with("endpoints-out", child.outbound.endpoints)
            .with("encr-alg", child.suite.cipher.name());
        if let Some(integrity) = child.suite.integrity {
            row = row.with("integ-alg", integrity.name());
        }
        if child.suite.esn {
            row = row.with("esn", 1);
        }
        if let Some(at) = child.rekey_at {
            row = row.with("rekey-time", at.saturating_sub(now.boot).as_secs());
        }
        if let Some(at) = child.expires_at {
            row = row.with("life-time", at.saturating_sub(now.boot).as_secs());
        }
        for (way, sa) in [("in", child.inbound_id()), ("out", child.outbound_id())] {
            if let Some(usage) = usages.get(&sa) {
                row = row.with(&format!("bytes-{way}"), usage.bytes).with(&format!("packets-{way}"), usage.packets);
                if usage.used > 0 {
                    row = row.with(&format!("use-{way}"), now.wall.as_secs().saturating_sub(usage.used));
                }
            }
        }
        row.with("install-time", now.boot.saturating_sub(child.created).as_secs())
            .with_list("local-ts", child.traffic.local.iter().map(traffic))
            .with_list("remote-ts", child.traffic.remote.iter().map(traffic))
    }

    /// One row per remote.
    pub(crate) fn list_conns(&self, arguments: &Section) -> Vec<Section> {
        let wanted = arguments.text("ike");
        let remotes = (0u32..).zip(&self.core.config.remotes).map(|(id, remote)| (RemoteId(id), remote));
        let remotes = remotes.filter(|(id, remote)| !self.core.retired(*id) && wanted.is_none_or(|wanted| wanted == remote.name));
        remotes.map(|(id, remote)| Section::new().with_section(&remote.name, self.conn_row(id, remote))).collect()
    }

    fn conn_row(&self, id: RemoteId, remote: &Remote) -> Section {
        let mut children = Section::new();
        for policy in self.policies_of(id) {
            let row = Section::new()
                .with("mode", mode(policy.mode))
                .with_list("local-ts", policy.traffic.local.iter().map(traffic))
                .with_list("remote-ts", policy.traffic.remote.iter().map(traffic));
            children = children.with_section(&policy.name, row);
        }
        let any = || "%any".to_owned();
        Section::new()
            .with_list("local_addrs", [remote.local_address.map_or_else(any, |address| address.to_string())])
            .with_list("remote_addrs", [remote.remote_address.map_or_else(any, |address| address.to_string())])
            .with("version", "IKEv2")
            .with("rekey_time", remote.lifetime.soft.as_secs())
            .with_section("local-1", Section::new().with("class", "pre-shared key").with("id", &remote.local_identity))
            .with_section("remote-1", Section::new().with("class", "pre-shared key").with("id", &remote.remote_identity))
            .with_section("children", children)
    }

    fn policies_of(&self, remote: RemoteId) -> impl Iterator<Item = &Policy> {
        self.core.lookup.policies_of(remote).iter().filter_map(|policy| self.core.config.policy(*policy))
    }

    /// One row per policy that the kernel holds.
    pub(crate) fn list_policies(&self, arguments: &Section) -> Vec<Section> {
        let wanted = (arguments.text("child"), arguments.text("ike"));
        let mut rows = Vec::new();
        for id in self.core.spd.all_present() {
            let Some(row) = self.policy_row(id, wanted) else { continue };
            rows.push(row);
        }
        rows
    }

    fn policy_row(&self, id: PolicyId, (child, ike): (Option<&str>, Option<&str>)) -> Option<Section> {
        let policy = self.core.config.policy(id)?;
        let remote = self.core.config.remote(policy.remote)?;
        let fits = child.is_none_or(|name| name == policy.name) && ike.is_none_or(|name| name == remote.name);
        let row = Section::new()
            .with("child", &policy.name)
            .with("ike", &remote.name)
            .with("mode", mode(policy.mode))
            .with_list("local-ts", policy.traffic.local.iter().map(traffic))
            .with_list("remote-ts", policy.traffic.remote.iter().map(traffic));
        fits.then(|| Section::new().with_section(&format!("{}/{}", remote.name, policy.name), row))
    }

    /// Uptime and numbers of SAs.
    pub(crate) fn stats(&self, now: Now) -> Section {
        let statuses = self.keying.statuses();
        let half_open = statuses.iter().filter(|ike| ike_state(ike.state) == "CONNECTING").count();
        let uptime = self.core.started.map_or(0, |started| now.boot.saturating_sub(started.boot).as_secs());
        Section::new()
            .with_section("uptime", Section::new().with("running", format!("{uptime} seconds")))
            .with_section("ikesas", Section::new().with("total", statuses.len()).with("half-open", half_open))
            .with("childsas", self.core.children.len())
    }

    /// Counters since the start.
    pub(crate) fn counters(&self) -> Section {
        let counters = &self.core.counters;
        let mut section = Section::new()
            .with("ike-init-out", counters.ike_sa_init_sent)
            .with("datagrams-in", counters.datagrams_in)
            .with("datagrams-out", counters.datagrams_out)
            .with("migrate-events", counters.migrate_events)
            .with("migrate-applied", counters.migrate_applied)
            .with("migrate-copies", counters.migrate_copies)
            .with("acquires", counters.acquires)
            .with("recreated", counters.recreated)
            .with("resynchronised", counters.resynchronised)
            .with("sent-on", counters.sent_on)
            .with("malformed-kernel-messages", counters.malformed_kernel_messages);
        for (code, count) in &counters.drops {
            section = section.with(&format!("dropped-{code}"), count);
        }
        Section::new().with_section("counters", Section::new().with_section("", section)).with("success", "yes")
    }
}

const fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Transport => "TRANSPORT",
        Mode::Tunnel => "TUNNEL",
    }
}

fn traffic(item: &TrafficItem) -> String {
    let range: AddressRange = item.range;
    match (item.protocol, item.ports.start, item.ports.end) {
        (0, 0, 65535) => range.to_string(),
        (protocol, 0, 65535) => format!("{range}[{protocol}]"),
        (protocol, start, end) if start == end => format!("{range}[{protocol}/{start}]"),
        (protocol, start, end) => format!("{range}[{protocol}/{start}-{end}]"),
    }
}
