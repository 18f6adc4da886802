//! Scenarios in which no mobile node has a home address in its configuration: each asks its home agent for one when it gets there.
//! Invariant: what a node is called by in the configurations does not depend on the address that it is given.

use watari_policies::profile::{HomeAgentProfile, MobileNodeProfile, ServedNode};
use watari_policies::{AddressRange, Ask, Config, Identity, MobilityRole};

use crate::scenario::{Link, MobilePlan, Scenario};
use crate::signalling::Agreement;
use crate::signalling::home::HomeSettings;
use crate::signalling::mobile::MobileSettings;

/// How home addresses are given away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    /// What the home agent gives from; mobile nodes may form any other address of the home link.
    pub pool: AddressRange,
    /// Mobile nodes that ask when an operator tells them to.
    pub waits: &'static [&'static str],
    /// Mobile nodes that ask for the home prefix and form their address in it; the others ask for an address.
    pub forms: &'static [&'static str],
}

impl Scenario {
    pub(crate) fn without_home(&self, profile: MobileNodeProfile) -> MobileNodeProfile {
        match self.bootstrap {
            Some(_) => {
                let forms = self.forms_home(&profile.identity);
                let ask = if forms { Ask::Prefix(profile.identity.fingerprint()) } else { Ask::Address(None) };
                MobileNodeProfile { home_address: MobilityRole::UNKNOWN, ask, ..profile }
            }
            None => profile,
        }
    }

    fn forms_home(&self, identity: &Identity) -> bool {
        let names = self.bootstrap.map_or(&[][..], |bootstrap| bootstrap.forms);
        names.iter().any(|name| Self::identity(name) == *identity)
    }

    pub(crate) fn begins(&self, plan: &MobilePlan, config: &mut Config) {
        if self.bootstrap.is_some_and(|bootstrap| bootstrap.waits.contains(&plan.name)) {
            config.remotes.iter_mut().for_each(|remote| remote.start = false);
        }
    }

    pub(crate) fn served_without_home(&self, served: ServedNode) -> ServedNode {
        match self.bootstrap {
            Some(_) => ServedNode { home_address: MobilityRole::UNKNOWN, ..served },
            None => served,
        }
    }

    pub(crate) fn gives(&self, profile: HomeAgentProfile) -> HomeAgentProfile {
        match self.bootstrap {
            Some(Bootstrap { pool, .. }) => {
                HomeAgentProfile { home_prefix: Some(Link::Home.prefix()), pool: Some(pool), autoconfiguration: true, ..profile }
            }
            None => profile,
        }
    }

    /// The signalling node's settings on a mobile node that has been given this home address.
    pub fn given_signalling(&self, plan: &MobilePlan, home_address: std::net::IpAddr) -> MobileSettings {
        let settings = self.mobile_signalling(plan);
        MobileSettings { agreement: Agreement { home_address, ..settings.agreement }, ..settings }
    }

    /// What the home agent's daemon agrees on with a node that has been given this home address.
    pub fn given_agreement(&self, plan: &MobilePlan, home_address: std::net::IpAddr) -> Option<Agreement> {
        let HomeSettings { agreements, .. } = self.every_home_signalling();
        let of = self.mobile_nodes.iter().position(|other| other.name == plan.name)?;
        agreements.into_iter().nth(of).map(|agreement| Agreement { home_address, ..agreement })
    }
}
