//! What stands at the home agent against what its nodes hold: every SA, both ways, and every IKE SA.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use serde_json::Value;
use watari_kernel::SaInfo;
use watari_policies::Mode;

use super::super::judgement::ike_paths;
use super::super::kernel::EspSa;
use super::super::sas::{in_words, recorded};
use super::nodes::Nodes;

/// What a home agent has at a moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Standing {
    /// SAs in the kernel's own dump.
    pub(super) kernel: Vec<EspSa>,
    /// The same as the agent's status has them, in words.
    agent: BTreeSet<String>,
    /// Both ends of each IKE SA by its SPIs.
    ike: BTreeMap<String, (String, String)>,
}

/// SPI, source, destination, whether it is a tunnel, and the packets it is for: what both ends say of one SA.
type Sa = (u32, IpAddr, IpAddr, bool, Option<(IpAddr, IpAddr)>);

impl Standing {
    /// Out of a dump and a status.
    pub(super) fn of(kernel: Vec<EspSa>, status: &Value) -> Self {
        Self { kernel, agent: recorded(status), ike: ike_paths(status) }
    }

    /// What differs between kernel, agent and the nodes.
    pub(super) fn differences(&self, nodes: &Nodes, when: &str) -> Vec<String> {
        let nodes: Vec<_> = nodes.each().collect();
        self.against(&nodes).into_iter().map(|difference| format!("{when}: {difference}")).collect()
    }

    fn against(&self, nodes: &[(String, IpAddr, Vec<SaInfo>)]) -> Vec<String> {
        let words: BTreeSet<String> = self.kernel.iter().map(in_words).collect();
        let mut differences: Vec<String> =
            words.difference(&self.agent).map(|sa| format!("the agent does not know the kernel's SA {sa}")).collect();
        differences.extend(self.agent.difference(&words).map(|sa| format!("the kernel does not hold the agent's SA {sa}")));
        let mut at_home: BTreeSet<Sa> = self.kernel.iter().map(of_kernel).collect();
        let mut callers: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for (_, remote) in self.ike.values() {
            if let Ok(remote) = remote.parse::<SocketAddr>() {
                *callers.entry(remote.ip()).or_default() += 1;
            }
        }
        for (name, care_of, sas) in nodes {
            let own: BTreeSet<Sa> = sas.iter().filter(|sa| !sa.larval && sa.protocol == 50).map(of_mirror).collect();
            let missing = own.iter().filter(|sa| !at_home.remove(sa)).map(|sa| format!("{name} has SA {sa:x?}, the home agent has not"));
            differences.extend(missing.collect::<Vec<_>>());
            if own.is_empty() {
                differences.push(format!("{name} has no SA"));
            }
            match callers.remove(care_of).unwrap_or_default() {
                1 => {}
                count => differences.push(format!("{name} is at {care_of}, to which the home agent has {count} IKE SAs")),
            }
        }
        differences.extend(at_home.iter().map(|sa| format!("the home agent has SA {sa:x?} of no node")));
        differences.extend(callers.keys().map(|address| format!("the home agent has an IKE SA to {address}, where nobody is")));
        differences
    }

    /// SAs and IKE SAs of a former moment that are gone, and those that are new: a move makes none and ends none.
    pub(super) fn lost_since(&self, before: &Self) -> Vec<String> {
        let spis = |standing: &Self| standing.kernel.iter().map(|sa| sa.spi).fold(BTreeMap::new(), counted);
        let keys = |standing: &Self| standing.ike.keys().cloned().collect::<BTreeSet<_>>();
        let mut changes = Vec::new();
        if spis(before) != spis(self) {
            changes.push(format!(
                "{} SAs before the moves, {} after them, not under the same SPIs",
                before.kernel.len(),
                self.kernel.len()
            ));
        }
        let (old, new) = (keys(before), keys(self));
        changes.extend(old.difference(&new).map(|spis| format!("IKE SA {spis} was lost")));
        changes.extend(new.difference(&old).map(|spis| format!("IKE SA {spis} was made")));
        changes
    }
}

fn counted(mut counts: BTreeMap<u32, usize>, spi: u32) -> BTreeMap<u32, usize> {
    *counts.entry(spi).or_default() += 1;
    counts
}

fn of_kernel(sa: &EspSa) -> Sa {
    (sa.spi, sa.source, sa.destination, sa.tunnel, Some(sa.selector))
}

fn of_mirror(sa: &SaInfo) -> Sa {
    let selector = sa.selector.map(|selector| (selector.src.addr(), selector.dst.addr()));
    (sa.spi.0, sa.src, sa.dst, sa.mode == Some(Mode::Tunnel), selector)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use watari_kernel::Spi;
    use watari_policies::{Reqid, Selector};

    use super::*;

    fn address(site: u16, host: u16) -> IpAddr {
        IpAddr::from([0x2001, 0xdb8, site, 0, 0, 0, 0, host])
    }

    fn home_agent() -> IpAddr {
        address(1, 1)
    }

    /// One SA of a node, as its own kernel has it.
    fn held(spi: u32, source: IpAddr, destination: IpAddr, mode: Mode) -> SaInfo {
        SaInfo {
            dst: destination,
            src: source,
            protocol: 50,
            spi: Spi(spi),
            mode: Some(mode),
            reqid: Reqid(7),
            selector: Some(Selector::between(source.into(), destination.into())),
            care_of: None,
            larval: false,
            bytes: 0,
            packets: 0,
            added: 0,
            used: 0,
        }
    }

    /// The node's SAs, both ways; its place; what the home agent's kernel dumps; the agent's status.
    fn sound() -> (SaInfo, SaInfo, Standing) {
        let there = held(0x1001, address(0xf2, 5), home_agent(), Mode::Tunnel);
        let back = held(0x1002, home_agent(), address(0xf2, 5), Mode::Tunnel);
        let dumped = |sa: &SaInfo| EspSa {
            spi: sa.spi.0,
            source: sa.src,
            destination: sa.dst,
            reqid: 30_001,
            tunnel: true,
            selector: (sa.src, sa.dst),
        };
        let half = |sa: &SaInfo| {
            let spi = format!("{:08x}", sa.spi.0);
            json!({"spi": spi, "src": sa.src.to_string(), "dst": sa.dst.to_string(), "reqid": 30_001, "installed": true})
        };
        let status = json!({"remotes": [{"ike_sas": [{
            "initiator_spi": "01", "responder_spi": "02", "local": "[2001:db8:1::1]:500", "remote": "[2001:db8:f2::5]:500",
            "children": [{"inbound": half(&there), "outbound": half(&back)}],
        }]}]});
        let standing = Standing::of(vec![dumped(&there), dumped(&back)], &status);
        (there, back, standing)
    }

    fn compared(standing: &Standing, sas: &[SaInfo]) -> Vec<String> {
        standing.against(&[("mn5.example".to_owned(), address(0xf2, 5), sas.to_vec())])
    }

    #[test]
    fn what_agrees_is_found_to_agree() {
        let (there, back, standing) = sound();
        assert_eq!(compared(&standing, &[there, back]), Vec::<String>::new());
        assert_eq!(standing.lost_since(&standing), Vec::<String>::new());
    }

    #[test]
    fn a_removed_sa_is_missed_wherever_it_was_removed() {
        let (there, back, standing) = sound();
        let at_node = compared(&standing, std::slice::from_ref(&there));
        assert!(at_node.iter().any(|line| line.contains("of no node")), "{at_node:?}");
        let mut kernel = standing.clone();
        kernel.kernel.pop();
        let at_kernel = compared(&kernel, &[there.clone(), back.clone()]);
        assert!(at_kernel.iter().any(|line| line.contains("the kernel does not hold the agent's SA 00001002")), "{at_kernel:?}");
        assert!(at_kernel.iter().any(|line| line.contains("mn5.example has SA")), "{at_kernel:?}");
        assert_eq!(kernel.lost_since(&standing).len(), 1);
        let mut agent = standing.clone();
        agent.agent.clear();
        let at_agent = compared(&agent, &[there.clone(), back.clone()]);
        assert_eq!(at_agent.len(), 2, "{at_agent:?}");
        let nothing = compared(&standing, &[]);
        assert!(nothing.iter().any(|line| line == "mn5.example has no SA"), "{nothing:?}");
    }

    #[test]
    fn an_sa_that_stayed_behind_is_found() {
        let (there, mut back, standing) = sound();
        back.dst = address(0xf1, 5);
        let differences = compared(&standing, &[there.clone(), back]);
        assert_eq!(differences.len(), 2, "{differences:?}");
        let (.., mut transport) = sound();
        transport.kernel[1].tunnel = false;
        assert_eq!(compared(&transport, &[there, sound().1]).len(), 2);
    }

    #[test]
    fn an_ike_sa_that_stayed_behind_or_was_made_again_is_found() {
        let (there, back, mut standing) = sound();
        let before = standing.clone();
        standing.ike = BTreeMap::from([("0103".to_owned(), ("[2001:db8:1::1]:500".to_owned(), "[2001:db8:f1::5]:500".to_owned()))]);
        let differences = compared(&standing, &[there, back]);
        assert_eq!(differences.len(), 2, "{differences:?}");
        assert_eq!(standing.lost_since(&before), ["IKE SA 0102 was lost", "IKE SA 0103 was made"]);
    }
}
