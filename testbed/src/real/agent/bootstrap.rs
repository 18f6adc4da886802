//! What stands in the configuration files where home addresses are given at run time.

use watari_sim::scenario::{Link, MobilePlan, Scenario};

/// A mobile node's lines about its own home address.
pub(super) fn own_home(scenario: &Scenario, plan: &MobilePlan) -> String {
    match scenario.bootstrap {
        Some(bootstrap) => {
            let how = if bootstrap.forms.contains(&plan.name) { "autoconfigure" } else { "assign" };
            format!("home_address = \"{how}\"\nstart = {}\n", !bootstrap.waits.contains(&plan.name))
        }
        None => format!("home_address = \"{}\"\n", plan.home_address()),
    }
}

/// What the home agent calls the home address of a mobile node.
pub(super) fn served_home(scenario: &Scenario, plan: &MobilePlan) -> String {
    scenario.bootstrap.map_or_else(|| plan.home_address().to_string(), |_| "assign".to_owned())
}

/// The home agent's lines about what it gives.
pub(super) fn given(scenario: &Scenario) -> String {
    scenario.bootstrap.map_or_else(String::new, |bootstrap| {
        let (prefix, pool) = (Link::Home.prefix(), bootstrap.pool);
        format!("home_prefix = \"{prefix}\"\npool = \"{}-{}\"\nautoconfiguration = true\n", pool.start, pool.end)
    })
}
