//! Configuration files of road warriors and their gateway.

use watari_policies::Lifetime;
use watari_policies::profile::Reqids;
use watari_sim::scenario::{HA, HOME_AGENT, Link, MobilePlan, Scenario};

use super::{REMOTE, backend, lifetime, millis, secret, secret_text};

fn parameters(scenario: &Scenario, child_lifetime: &Lifetime) -> String {
    format!(
        "networks = [\"{}\"]\nike = [\"aes128gcm16-prfsha256-x25519\"]\nesp = [\"{}\"]\nliveness = \"{}\"\n{}{}",
        Link::Core.prefix(),
        scenario.esp(),
        millis(scenario.liveness),
        lifetime("ike_lifetime", &scenario.ike_lifetime),
        lifetime("child_lifetime", child_lifetime),
    )
}

fn address(scenario: &Scenario, plan: &MobilePlan) -> String {
    if scenario.is_assigned(plan) { "assign".to_owned() } else { plan.home_address().to_string() }
}

fn reqids(scenario: &Scenario, plan: &MobilePlan) -> String {
    let Reqids { to_home_agent, to_mobile_node } = scenario.tunnel_reqids(plan);
    format!("reqids = [{}, {}]\n", to_home_agent.0, to_mobile_node.0)
}

/// The file of a client.
pub(super) fn road_warrior(scenario: &Scenario, plan: &MobilePlan) -> String {
    let hint = if scenario.is_assigned(plan) { format!("address_hint = \"{}\"\n", plan.home_address()) } else { String::new() };
    format!(
        "{}[road_warrior]\nname = \"{REMOTE}\"\naddress = \"{}\"\n{hint}gateway = \"{HOME_AGENT}\"\nidentity = \"{}.example\"\n\
         gateway_identity = \"{HA}.example\"\npsk = \"{}\"\nstart = {}\n{}{}",
        backend(scenario, plan.name),
        address(scenario, plan),
        plan.name,
        secret_text(scenario, scenario.key_of(plan)),
        !scenario.is_refused(plan),
        reqids(scenario, plan),
        parameters(scenario, &scenario.child_lifetime),
    )
}

/// The file of the gateway, as it is first or when it is read again.
pub(in crate::real) fn gateway(scenario: &Scenario, again: bool) -> String {
    let pool = watari_sim::access::pool();
    let mut text = format!(
        "{}[gateway]\naddress = \"{HOME_AGENT}\"\nidentity = \"{HA}.example\"\npool = \"{}-{}\"\n{}",
        backend(scenario, HA),
        pool.start,
        pool.end,
        parameters(scenario, &scenario.child_lifetime),
    );
    for plan in &scenario.mobile_nodes {
        text += &format!(
            "\n[[gateway.client]]\nname = \"{}\"\naddress = \"{}\"\nidentity = \"{}.example\"\npsk = \"{}\"\n{}",
            plan.name,
            address(scenario, plan),
            plan.name,
            secret(scenario, plan),
            reqids(scenario, plan),
        );
        let own = scenario.lifetime_at_gateway(plan, again);
        if own != scenario.child_lifetime {
            text += &lifetime("child_lifetime", &own);
        }
    }
    text
}
