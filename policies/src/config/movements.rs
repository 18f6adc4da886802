//! The keys about movement: `key_mobility`, `daemon_echoes_k` and `movement`, the same in profiles and in remotes.

use std::fmt::{self, Write};

use super::diagnostics::Report;
use super::document::Section;
use super::values;
use crate::{KeyMobility, MobilityRole, MovementSource, Movements};

/// Which of the keys have an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    MobileNode,
    HomeAgent,
    /// None of them, and why.
    Neither(&'static str),
}

const KEY_MOBILITY: &[(&str, KeyMobility)] = &[
    (KeyMobility::Assume.name(), KeyMobility::Assume),
    (KeyMobility::Never.name(), KeyMobility::Never),
    (KeyMobility::Observe.name(), KeyMobility::Observe),
];

const KERNEL: (&str, MovementSource) = (MovementSource::Kernel.name(), MovementSource::Kernel);
const HOME_AGENT_SOURCES: &[(&str, MovementSource)] = &[KERNEL, (MovementSource::Observe.name(), MovementSource::Observe)];
const MOBILE_NODE_SOURCES: &[(&str, MovementSource)] = &[KERNEL, (MovementSource::Addresses.name(), MovementSource::Addresses)];

/// Reads the keys; what is not named keeps its default.
pub(super) fn read(report: &mut Report<'_>, section: &mut Section<'_>, side: Side) -> Movements {
    let usual = Movements::default();
    if let Side::Neither(why) = side {
        for key in ["key_mobility", "daemon_echoes_k", "movement"] {
            section.without_effect(report, key, why);
        }
        return usual;
    }
    let key_mobility = section.read(report, "key_mobility", |report, value| values::choice(report, value, KEY_MOBILITY));
    let key_mobility = key_mobility.map_or(usual.key_mobility, |read| read.value);
    if side == Side::MobileNode {
        section.without_effect(report, "daemon_echoes_k", "the home agent's daemon answers; its acknowledgement holds the outcome");
        let source = section.read(report, "movement", |report, value| values::choice(report, value, MOBILE_NODE_SOURCES));
        return Movements { key_mobility, source: source.map_or(usual.source, |read| read.value), ..usual };
    }
    let mut echoes = usual.daemon_echoes_k;
    if key_mobility == KeyMobility::Observe {
        echoes = section.read(report, "daemon_echoes_k", values::flag).map_or(echoes, |read| read.value);
    } else {
        section.without_effect(report, "daemon_echoes_k", "no K bit is looked at unless key_mobility is \"observe\"");
    }
    let source = section.read(report, "movement", |report, value| values::choice(report, value, HOME_AGENT_SOURCES));
    Movements { key_mobility, daemon_echoes_k: echoes, source: source.map_or(usual.source, |read| read.value) }
}

/// Writes the keys that have an effect.
pub(super) fn write(out: &mut String, movements: &Movements, role: MobilityRole) -> fmt::Result {
    if !role.is_mobile_ipv6() {
        return Ok(());
    }
    writeln!(out, "key_mobility = \"{}\"", movements.key_mobility.name())?;
    if matches!(role, MobilityRole::HomeAgent { .. }) && movements.key_mobility == KeyMobility::Observe {
        writeln!(out, "daemon_echoes_k = {}", movements.daemon_echoes_k)?;
    }
    writeln!(out, "movement = \"{}\"", movements.source.name())
}
