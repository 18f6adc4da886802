//! The configuration file of a host whose SAs are keyed by hand: profiles have no such keys, so the five records are written.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use watari_policies::config::expand;
use watari_policies::{Config, KernelInterface};
use watari_sim::scenario::Scenario;

/// The records that mean `config`, with every key in them.
pub(super) fn configuration(scenario: &Scenario, host: &str, mut config: Config) -> String {
    if scenario.pf_key.contains(&host) {
        config.settings.backend = KernelInterface::PfKey;
    }
    let mut text = expand(&config, &BTreeMap::new());
    for (secret, value) in scenario.secrets() {
        let mut digits = String::new();
        for octet in value.expose() {
            // Writing to a string does not fail.
            let _ = write!(digits, "{octet:02x}");
        }
        text = text.replace(&format!("secret = {} }}", secret.0), &format!("key = \"{digits}\" }}"));
    }
    text
}
