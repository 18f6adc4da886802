//! A whole network as one value (JSON in a plan): links, hosts, addresses, routes. Built in one go before a scenario starts.

use serde::{Deserialize, Serialize};

use super::Result;
use super::guest::Guest;
use super::links::Impairment;

/// Links and hosts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Topology {
    /// Names of the links.
    pub(crate) links: Vec<String>,
    /// The hosts on them.
    pub(crate) hosts: Vec<HostPlan>,
}

/// One host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct HostPlan {
    /// Its name.
    pub(crate) name: String,
    /// Whether it forwards packets.
    pub(crate) router: bool,
    /// Its interfaces.
    pub(crate) interfaces: Vec<InterfacePlan>,
    /// Routes in the words of `ip route add`; the family is taken from an address in them.
    pub(crate) routes: Vec<String>,
}

/// One interface.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct InterfacePlan {
    /// Its name, two characters at least.
    pub(crate) name: String,
    /// The link it is plugged into.
    pub(crate) link: Option<String>,
    /// Addresses with prefix length; usable at once, without duplicate address detection.
    pub(crate) addresses: Vec<String>,
    /// Loss and delay.
    pub(crate) impairment: Option<Impairment>,
}

impl Topology {
    /// Builds it in the guest.
    pub(crate) fn build(&self, guest: &Guest) -> Result<()> {
        for link in &self.links {
            guest.link(link)?;
        }
        for plan in &self.hosts {
            let host = guest.namespace(&plan.name)?;
            if plan.router {
                host.sysctl("net.ipv6.conf.all.forwarding", "1")?;
                host.sysctl("net.ipv4.ip_forward", "1")?;
            }
            for interface in &plan.interfaces {
                guest.attach(&host, &interface.name, interface.link.as_deref())?;
                if let Some(impairment) = &interface.impairment {
                    guest.impair(&host, &interface.name, impairment)?;
                }
            }
            host.ip_batch(&plan.commands())?;
        }
        Ok(())
    }
}

impl HostPlan {
    /// Addresses first, then routes, as `ip -batch` takes them.
    fn commands(&self) -> String {
        let mut lines = String::new();
        for interface in &self.interfaces {
            for address in &interface.addresses {
                // Only IPv6 knows duplicate address detection.
                let nodad = if address.contains(':') { " nodad" } else { "" };
                lines += &format!("addr add {address} dev {}{nodad}\n", interface.name);
            }
        }
        for route in &self.routes {
            lines += &format!("route add {route}\n");
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topology_is_read_from_json() {
        let text = r#"{"links": ["f1"], "hosts": [{"name": "mn", "interfaces": [
            {"name": "eth0", "link": "f1", "addresses": ["2001:db8:f1::5/64"], "impairment": {"loss_percent": 30}}],
            "routes": ["default via 2001:db8:f1::1"]}]}"#;
        let topology: Topology = serde_json::from_str(text).unwrap();
        assert_eq!(topology.hosts[0].commands(), "addr add 2001:db8:f1::5/64 dev eth0 nodad\nroute add default via 2001:db8:f1::1\n");
        assert!(serde_json::from_str::<Topology>(r#"{"links": [], "hosts": [], "x": 1}"#).is_err());
    }
}
