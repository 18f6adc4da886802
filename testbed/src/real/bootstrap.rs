//! Home addresses that come over IKE: an agent says on its control socket which one is in force, and the stand-in of the Mobile IPv6
//! daemon beside it takes it up; one that finds it taken tells the agent. Invariant: nothing of a home address is on a mobile node before.

use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use watari_engine::Event;
use watari_policies::RemoteId;
use watari_sim::scenario::{HA, Link, MobilePlan};
use watari_sim::signalling::{Input, MobileNode, Node};
use watari_sim::timeline::{Happening, Names, words};

use super::run::{Mobile, Runner};
use super::signalling::Signalling;
use crate::uml::hosts::{Daemon, Namespace};
use crate::uml::{Context, Failure, Result};

/// A home address is in force with a remote, or not any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    remote: RemoteId,
    address: IpAddr,
    held: bool,
}

/// The control events `home-address` of an agent, as `watari watch` prints them.
pub(super) struct HomeNews {
    watch: Daemon,
    /// Octets of its words that were read.
    read: usize,
}

impl HomeNews {
    /// What was told since the last time.
    fn read(&mut self) -> Result<Vec<Told>> {
        let text = fs::read_to_string(&self.watch.log).context(self.watch.log.display())?;
        let new = text.get(self.read..).unwrap_or_default();
        let whole = new.rfind('\n').map_or(0, |end| end + 1);
        self.read += whole;
        Ok(new.get(..whole).unwrap_or_default().lines().filter_map(told).collect())
    }
}

/// `home-address remote=0 home-address=2001:db8:1::1000 held=yes`.
fn told(line: &str) -> Option<Told> {
    let mut words = line.strip_prefix("home-address ")?.split_whitespace();
    let mut value = |name: &str| words.next()?.strip_prefix(name)?.strip_prefix('=');
    let remote = RemoteId(value("remote")?.parse().ok()?);
    let address = value("home-address")?.parse().ok()?;
    Some(Told { remote, address, held: value("held")? == "yes" })
}

/// The last SA of a reqid and selector that went, and where.
pub(super) struct Lost {
    pub(super) at: Duration,
    pub(super) host: String,
    pub(super) key: (u32, IpAddr, IpAddr),
}

impl Runner<'_> {
    /// The home address of a mobile node as it is now.
    pub(super) fn home_of(&self, node: &str) -> Option<IpAddr> {
        self.mobile(node).and_then(|mobile| mobile.home)
    }

    fn mobile(&self, node: &str) -> Option<&Mobile> {
        self.hosts.iter().filter_map(|host| host.mobile.as_ref()).find(|mobile| mobile.plan.name == node)
    }

    /// Whether an address is or was a mobile node's home address, or is in the network behind it.
    pub(super) fn is_behind(&self, node: &str, address: IpAddr) -> bool {
        let network = |plan: &MobilePlan| self.scenario.networks && plan.network().contains(&address);
        self.mobile(node).is_some_and(|mobile| mobile.homes.contains_key(&address) || network(&mobile.plan))
    }

    /// A daemon beside an agent that has just started listens to it.
    pub(super) fn listen_for_homes(&mut self, host: usize) -> Result<()> {
        if let (Some(_), Some(host)) = (self.scenario.bootstrap, self.hosts.get_mut(host)) {
            host.home_news = Some(HomeNews { watch: host.agent.watch()?, read: 0 });
        }
        Ok(())
    }

    /// Does what agents have told of home addresses.
    pub(super) fn hear_of_homes(&mut self) -> Result<()> {
        for index in 0..self.hosts.len() {
            let news = self.hosts.get_mut(index).and_then(|host| host.home_news.as_mut());
            for told in news.map_or(Ok(Vec::new()), HomeNews::read)? {
                self.home_address_told(index, told)?;
            }
        }
        Ok(())
    }

    fn home_address_told(&mut self, index: usize, told: Told) -> Result<()> {
        let Told { remote, address, held } = told;
        let plan = self.hosts.get(index).and_then(|host| host.mobile.as_ref()).map(|mobile| mobile.plan.clone());
        let config = plan.as_ref().map_or_else(|| self.scenario.home_config(), |plan| self.scenario.mobile_config(plan));
        let name = config.remote(remote).map(|remote| remote.name.clone()).unwrap_or_default();
        let names = Names { remotes: config.remotes.into_iter().map(|remote| remote.name).collect(), policies: Vec::new() };
        if let Some(text) = words(&Event::HomeAddress { remote, address, held }, &names) {
            self.say(index, Happening::Agent(text));
        }
        match plan {
            Some(plan) => self.mobile_node_takes(index, &plan, address, held),
            None => self.home_agent_serves(index, &name, address, held),
        }
    }

    fn home_agent_serves(&mut self, index: usize, node: &str, address: IpAddr, held: bool) -> Result<()> {
        let plan = self.scenario.mobile_node(node).ok_or_else(|| Failure(format!("{HA} gives {address} to {node}, which nobody is")))?;
        let agreement = self.scenario.given_agreement(plan, address).filter(|_| held);
        let before = if held { self.serves.insert(plan.name, address) } else { self.serves.remove(plan.name) };
        let Some(host) = self.hosts.get_mut(index) else { return Ok(()) };
        let news = host.signalling.serve(&self.network, before, agreement)?;
        self.heard(index, news);
        Ok(())
    }

    /// The daemon gives up what it has for the address before, and begins with the new one where the node is.
    fn mobile_node_takes(&mut self, index: usize, plan: &MobilePlan, address: IpAddr, held: bool) -> Result<()> {
        let now = self.now();
        let Some(host) = self.hosts.get_mut(index) else { return Ok(()) };
        let Some(mobile) = &mut host.mobile else { return Ok(()) };
        let news = host.signalling.withdraw(&self.network)?;
        mobile.close_window(now);
        // Applications have nothing to send from until the daemon has put the new address into its policies.
        mobile.idle = true;
        if let Some(before) = mobile.home.take() {
            self.network.take_home_address(&host.space, before)?;
        }
        if let Some(early) = home_addresses(&host.space, plan)?.first() {
            self.facts.troubles.push(format!("{}: {early} was there before {address} was told", plan.name));
        }
        let daemon = held.then(|| Node::Mobile(Box::new(MobileNode::new(self.scenario.given_signalling(plan, address)))));
        host.signalling = Signalling::new(&host.space, daemon, held.then_some(address))?;
        let link = mobile.link.filter(|_| held);
        if held {
            mobile.home = Some(address);
            mobile.homes.insert(address, None);
            self.network.give_home_address(&host.space, address)?;
            for pinger in self.pingers.iter_mut().filter(|pinger| pinger.node == plan.name) {
                pinger.rehome(&host.space, |end| mobile.homes.contains_key(&end), address)?;
            }
        }
        self.heard(index, news);
        self.signal(index, Input::Start)?;
        match link {
            Some(link) => self.signal(index, Input::Attached { address: plan.care_of(link), home: link == Link::Home }),
            None => Ok(()),
        }
    }

    /// Somebody on the home link takes a mobile node's home address: the home agent's daemon finds it there.
    pub(super) fn duplicate(&mut self, node: &str) {
        if let (Some(address), Some(home_agent)) = (self.home_of(node), self.hosts.first_mut()) {
            home_agent.signalling.found_duplicate(address);
        }
    }

    /// The daemon's binding update was refused for a duplicate: its agent is told.
    pub(super) fn told_of_duplicate(&mut self, index: usize, home_address: IpAddr) {
        let now = self.now();
        let Some(host) = self.hosts.get_mut(index) else { return };
        if let Some(mobile) = &mut host.mobile {
            mobile.close_window(now);
            mobile.homes.insert(home_address, Some(now));
        }
        if let Err(failure) = host.agent.tell(&["home-address-taken", &home_address.to_string()]) {
            self.facts.troubles.push(failure.to_string());
        }
    }

    /// SAs that went without successor, but for those of a home address that its node had found taken.
    pub(super) fn judge_lost(&mut self) {
        let mobiles = || self.hosts.iter().filter_map(|host| host.mobile.as_ref());
        self.facts.homes = mobiles().flat_map(|mobile| mobile.homes.keys().copied()).collect();
        let given_up = |lost: &&Lost| {
            let (reqid, source, destination) = lost.key;
            let of_node = |mobile: &&Mobile| {
                let protect = self.scenario.mobile_signalling(&mobile.plan).agreement.protect;
                protect.iter().any(|(_, reqids)| [reqids.to_home_agent.0, reqids.to_mobile_node.0].contains(&reqid))
            };
            let since = |mobile: &Mobile| [source, destination].iter().find_map(|end| mobile.homes.get(end).copied().flatten());
            mobiles().filter(of_node).filter_map(since).any(|since| lost.at >= since)
        };
        let words = |lost: &Lost| {
            let (reqid, source, destination) = lost.key;
            let at = lost.at.as_secs_f64();
            format!("{at:.3} s, {}: the last SA of reqid {reqid}, {source} -> {destination}, is gone", lost.host)
        };
        self.facts.lost_sas = self.lost.iter().filter(|lost| !given_up(lost)).map(words).collect();
    }
}

/// Addresses of the home link on a mobile node, but for the care-of address that it would have there.
fn home_addresses(node: &Namespace, plan: &MobilePlan) -> Result<Vec<IpAddr>> {
    let shown = node.exec("ip -o -6 addr show scope global")?;
    let address = |line: &str| line.split_whitespace().skip_while(|word| *word != "inet6").nth(1)?.split('/').next()?.parse().ok();
    let home = |address: &IpAddr| Link::Home.prefix().contains(address) && *address != plan.care_of(Link::Home);
    Ok(shown.lines().filter_map(address).filter(home).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_watari_watch_prints_is_understood() {
        let said = |line| told(line).map(|told| (told.remote.0, told.address.to_string(), told.held));
        let is = |address: &str, held| Some((1, address.to_owned(), held));
        assert_eq!(said("home-address remote=1 home-address=2001:db8:1::1000 held=yes"), is("2001:db8:1::1000", true));
        assert_eq!(said("home-address remote=1 home-address=2001:db8:1::1000 held=no"), is("2001:db8:1::1000", false));
        assert_eq!(said("home-address remote=1 home-address=nowhere held=no"), None);
        assert_eq!(said("ike-updown remote=1 up=yes"), None);
    }
}
