//! Several addresses of one peer, and being sent from one to another (RFC 5026 5.1.2, RFC 5142, RFC 5685).
//! Invariant: the peer stays the same remote with the same identity and the same policies, whichever of its addresses is in force.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use crate::model::Endpoints;
use crate::{AddressRange, Config, MobilityRole, PolicyId, Remote, RemoteId};

/// Longest name of a gateway, in octets.
const LONGEST_NAME: usize = 255;

/// A gateway as a redirect names it (RFC 5685 9.2).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gateway {
    /// By its address.
    Address(IpAddr),
    /// By its fully qualified domain name, without a dot at the end.
    Name(String),
}

impl fmt::Display for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl FromStr for Gateway {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<IpAddr>() {
            let unusable = address.is_unspecified() || address.is_multicast() || address.is_loopback();
            return if unusable { Err(format!("{address} is no address of a gateway")) } else { Ok(Self::Address(address)) };
        }
        let letter = |octet: u8| octet.is_ascii_alphanumeric() || b"-._".contains(&octet);
        let named =
            !text.is_empty() && text.len() <= LONGEST_NAME && text.bytes().all(letter) && text.contains(|c: char| c.is_alphabetic());
        if named { Ok(Self::Name(text.to_owned())) } else { Err("neither an address nor a domain name".to_owned()) }
    }
}

/// Which redirects of a peer are followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Follow {
    /// None; the peer is not told that any would be.
    Never,
    /// Those to an address that the configuration lists for the same peer.
    #[default]
    Listed,
    /// Those to any address, provided that the same identity is proved there.
    Any,
}

impl Follow {
    /// The word of the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Listed => "listed",
            Self::Any => "any",
        }
    }
}

/// When a peer that calls us is sent on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SendOn {
    /// At its first message, before anything is known of it (RFC 5685 3).
    Init,
    /// Once it has proved who it is (RFC 5685 6), so that a stranger learns nothing.
    #[default]
    Auth,
}

impl SendOn {
    /// The word of the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Auth => "auth",
        }
    }
}

/// Addresses of one peer, and redirects from it and to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Gateways {
    /// Every address of the peer in order of preference; empty where it has one or none.
    pub addresses: Vec<IpAddr>,
    /// Wait once none of them has served, before the list is begun again.
    pub pause: Duration,
    /// Which redirects are followed.
    pub follow: Follow,
    /// Addresses of gateways that a redirect may name: no DNS is asked.
    pub names: BTreeMap<String, IpAddr>,
    /// Where this peer is sent when it calls us, and when.
    pub redirect_to: Option<(Gateway, SendOn)>,
}

impl Default for Gateways {
    /// One address; half a minute between two rounds; redirects to listed addresses are followed; nobody is sent anywhere.
    fn default() -> Self {
        Self { addresses: Vec::new(), pause: Duration::from_secs(30), follow: Follow::default(), names: BTreeMap::new(), redirect_to: None }
    }
}

impl Gateways {
    /// Whether a redirect could be followed at all, so that it is worth announcing.
    pub fn follows(&self) -> bool {
        match self.follow {
            Follow::Never => false,
            Follow::Listed => self.addresses.len() > 1,
            Follow::Any => true,
        }
    }

    /// The address of a gateway that a redirect names, if it may be followed there.
    ///
    /// # Errors
    /// Why it is not followed, in words.
    pub fn resolve(&self, gateway: &Gateway) -> Result<IpAddr, String> {
        let address = match gateway {
            Gateway::Address(address) => *address,
            Gateway::Name(name) => {
                let wanted = name.trim_end_matches('.');
                let known = self.names.iter().find(|(known, _)| known.eq_ignore_ascii_case(wanted)).map(|(_, address)| *address);
                known.ok_or_else(|| format!("no address of {name} is known: no DNS is asked, `gateway_names` would have to say it"))?
            }
        };
        if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
            return Err(format!("{address} is no address of a gateway"));
        }
        match self.follow {
            Follow::Any => Ok(address),
            Follow::Listed if self.addresses.contains(&address) => Ok(address),
            Follow::Listed => Err(format!("{address} is not among the peer's addresses; `follow_redirects = \"any\"` would allow it")),
            Follow::Never => Err("`follow_redirects` is \"never\"".to_owned()),
        }
    }
}

impl Remote {
    /// The next address of the peer after the one in force that is not among `tried`, in the order of the list, round its end.
    pub fn next_address(&self, tried: &[IpAddr]) -> Option<IpAddr> {
        let list = &self.gateways.addresses;
        let here = self.remote_address.and_then(|current| list.iter().position(|address| *address == current));
        let (before, after) = list.split_at_checked(here.map_or(0, |at| at.saturating_add(1))).unwrap_or((list, &[]));
        after.iter().chain(before).find(|address| Some(**address) != self.remote_address && !tried.contains(address)).copied()
    }
}

impl Config {
    /// Puts another address of a peer into force: policies that name the old one name this one from now on.
    ///
    /// `policies` are the remote's own, as `policies_of` lists them. The address before, if there was one and it was another.
    pub fn set_address(&mut self, id: RemoteId, address: IpAddr, policies: &[PolicyId]) -> Option<IpAddr> {
        let remote = self.remotes.get_mut(id.0 as usize)?;
        let old = remote.remote_address.filter(|old| *old != address)?;
        remote.remote_address = Some(address);
        let home_agent = matches!(remote.role, MobilityRole::MobileNode { .. });
        if let Some(block) = remote.assigned.filter(|_| home_agent).and_then(|assigned| self.blocks.get_mut(assigned.block.0 as usize)) {
            block.home_agent = address;
        }
        let (before, after) = (AddressRange::host(old), AddressRange::host(address));
        for policy in policies {
            let Some(policy) = self.policies.get_mut(policy.0 as usize).filter(|policy| policy.remote == id) else { continue };
            policy.traffic.remote.iter_mut().filter(|item| item.range == before).for_each(|item| item.range = after);
            match &mut policy.endpoints {
                Endpoints::Fixed { remote, .. } if *remote == old => *remote = address,
                _ => {}
            }
        }
        Some(old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{MobileNodeProfile, mobile_node};

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn gateways(addresses: &[&str]) -> Gateways {
        let names = [("ha2.example".to_owned(), ip("2001:db8:1::2"))].into();
        Gateways { addresses: addresses.iter().map(|address| ip(address)).collect(), names, ..Gateways::default() }
    }

    //= rfc5026#5.1.2
    //# if a home agent does not serve, the next one of the list is tried
    #[test]
    fn the_list_is_gone_through_in_order_and_round_its_end() {
        let profile = MobileNodeProfile { gateways: gateways(&["2001:db8:1::1", "2001:db8:1::2", "2001:db8:1::3"]), ..Default::default() };
        let mut config = mobile_node(profile);
        let next = |config: &Config, tried: &[&str]| {
            let tried: Vec<_> = tried.iter().map(|address| ip(address)).collect();
            config.remotes[0].next_address(&tried)
        };
        assert_eq!(next(&config, &[]), Some(ip("2001:db8:1::2")));
        assert_eq!(next(&config, &["2001:db8:1::2"]), Some(ip("2001:db8:1::3")));
        assert_eq!(next(&config, &["2001:db8:1::2", "2001:db8:1::3"]), None);
        let policies: Vec<_> = config.policies_of(RemoteId(0)).map(|(id, _)| id).collect();
        assert_eq!(config.set_address(RemoteId(0), ip("2001:db8:1::3"), &policies), Some(ip("2001:db8:1::1")));
        assert_eq!(next(&config, &[]), Some(ip("2001:db8:1::1")));
        assert_eq!(next(&config, &["2001:db8:1::1"]), Some(ip("2001:db8:1::2")));
    }

    #[test]
    fn policies_name_the_address_in_force_and_nothing_else_changes() {
        let before = mobile_node(MobileNodeProfile { gateways: gateways(&["2001:db8:1::1", "2001:db8:1::2"]), ..Default::default() });
        let mut config = before.clone();
        let policies: Vec<_> = config.policies_of(RemoteId(0)).map(|(id, _)| id).collect();
        config.set_address(RemoteId(0), ip("2001:db8:1::2"), &policies);
        let binding = config.policies.iter().find(|policy| policy.name == "binding").unwrap();
        assert_eq!(binding.traffic.remote[0].range, AddressRange::host(ip("2001:db8:1::2")));
        assert!(config.pad.may_hold(&config.remotes[0].remote_identity, &binding.traffic), "listed addresses are the peer's own");
        assert_eq!(config.set_address(RemoteId(0), ip("2001:db8:1::2"), &policies), None, "nothing to do");
        config.set_address(RemoteId(0), ip("2001:db8:1::1"), &policies);
        assert_eq!(config, before);
    }

    #[test]
    fn redirects_lead_where_the_operator_lets_them() {
        let mut list = gateways(&["2001:db8:1::1", "2001:db8:1::2"]);
        let to = |list: &Gateways, text: &str| list.resolve(&text.parse::<Gateway>().unwrap());
        assert_eq!(to(&list, "2001:db8:1::2"), Ok(ip("2001:db8:1::2")));
        assert_eq!(to(&list, "HA2.example."), Ok(ip("2001:db8:1::2")));
        assert!(to(&list, "2001:db8:1::9").unwrap_err().contains("follow_redirects"));
        assert!(to(&list, "ha9.example").unwrap_err().contains("DNS"));
        list.follow = Follow::Any;
        assert_eq!(to(&list, "2001:db8:1::9"), Ok(ip("2001:db8:1::9")));
        assert!(list.resolve(&Gateway::Address(ip("ff02::1"))).is_err());
        list.follow = Follow::Never;
        assert!(to(&list, "2001:db8:1::2").is_err() && !list.follows());
        assert!(!Gateways::default().follows(), "there is nowhere else to go");
        for wrong in ["", "::", "ff02::1", "a b", "127.0.0.1", "12.34"] {
            assert!(wrong.parse::<Gateway>().is_err(), "{wrong}");
        }
    }
}
