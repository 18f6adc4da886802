//! What a kernel can do, found by asking: REGISTER lists its algorithms, and on Linux a MIGRATE that fits no template of a scratch policy
//! with a Mobility Header type is refused with ENODATA by a kernel whose policy lookup sees the type, with ENOENT by one that does not.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use watari_kernel::{
    Capability, Endpoints, Migrate, MigrateSource, MigrateStep, PolicyAction, PolicyEntry, PolicyIndex, PolicyKind, Template,
};
use watari_policies::{Direction, Mode, Protocol, Reqid, Selector, selector::MOBILITY_HEADER};

use crate::dialect::Dialect;
use crate::errno::{ENODATA, ENOENT, ENOPROTOOPT, EOPNOTSUPP};
use crate::extension::{SATYPE_AH, SATYPE_ESP};
use crate::message::{Kind, Outgoing};
use crate::{migrate, policy};

const BINDING_UPDATE: u8 = 5;
const TEMPLATE_REQID: Reqid = Reqid(0x3ffe);
const OTHER_REQID: Reqid = Reqid(0x3fff);
/// Higher numbers lose, so the scratch policy decides about no packet even of these addresses if any other does.
const LAST_PRIORITY: u32 = u32::MAX;
/// The release in which the flow dissector took over the decoding of inbound packets.
const FIRST_BLIND: (u32, u32) = (6, 7);

/// Where a probe stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The socket is being registered for ESP.
    RegisterEsp,
    /// The socket is being registered for AH.
    RegisterAh,
    /// The scratch policy is being added.
    Add,
    /// The MIGRATE is being tried.
    Migrate,
    /// The scratch policy is being removed.
    Remove,
}

impl Step {
    /// The message of the step.
    pub(crate) fn request(self, dialect: Dialect) -> Result<Outgoing, String> {
        match self {
            Self::RegisterEsp => Ok(Outgoing::new(Kind::Register, SATYPE_ESP)),
            Self::RegisterAh => Ok(Outgoing::new(Kind::Register, SATYPE_AH)),
            Self::Add => policy::set(dialect, &scratch_policy()),
            Self::Migrate => migrate::write(dialect, &impossible_migrate()),
            Self::Remove => policy::delete(dialect, &scratch_selector(), Direction::Forward, PolicyKind::Main),
        }
    }

    /// The step behind this one. KAME takes no MIGRATE from user space, so there is nothing to try.
    pub(crate) const fn next(self, dialect: Dialect) -> Option<Self> {
        match (self, dialect) {
            (Self::RegisterEsp, _) => Some(Self::RegisterAh),
            (Self::RegisterAh, Dialect::Linux) => Some(Self::Add),
            (Self::Add, _) => Some(Self::Migrate),
            (Self::Migrate, _) => Some(Self::Remove),
            (Self::RegisterAh, Dialect::Kame) | (Self::Remove, _) => None,
        }
    }
}

/// The selector of the scratch policy; events about it are kept from the engine.
pub(crate) fn scratch_selector() -> Selector {
    let host = |last| IpNet::from(scratch_address(last));
    Selector::between(host(1), host(2)).protocol(MOBILITY_HEADER).message_type(BINDING_UPDATE)
}

const fn scratch_address(last: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 1, last))
}

const fn ends(src: u16, dst: u16) -> Endpoints {
    Endpoints { src: scratch_address(src), dst: scratch_address(dst) }
}

fn scratch_policy() -> PolicyEntry {
    PolicyEntry {
        selector: scratch_selector(),
        direction: Direction::Forward,
        kind: PolicyKind::Main,
        index: PolicyIndex(0),
        priority: LAST_PRIORITY,
        action: PolicyAction::Allow,
        templates: vec![Template::esp(Mode::Tunnel, TEMPLATE_REQID, ends(3, 4))],
    }
}

fn impossible_migrate() -> Migrate {
    let step = MigrateStep { protocol: Protocol::Esp, mode: Mode::Tunnel, reqid: OTHER_REQID, old: ends(5, 4), new: ends(6, 4) };
    Migrate {
        selector: scratch_selector(),
        direction: Direction::Forward,
        steps: vec![step],
        kmaddress: None,
        source: MigrateSource::PfKey,
    }
}

/// Enters the errno of the impossible MIGRATE into what is known of the kernel. `release` is what `uname -r` prints: kernels from 6.7 on
/// do not see the type of an inbound packet, yet until 6.12 MIGRATE found typed policies, so that there the probe alone would be too hopeful.
pub(crate) fn conclude(capability: &mut Capability, errno: i32, release: &str) {
    match errno {
        ENODATA => capability.inbound_mh_type = Some(kernel_version(release).is_none_or(|version| version < FIRST_BLIND)),
        ENOENT => capability.inbound_mh_type = Some(false),
        ENOPROTOOPT | EOPNOTSUPP => {
            capability.migrate = false;
            capability.inbound_mh_type = kernel_version(release).map(|version| version < FIRST_BLIND);
        }
        _ => {}
    }
}

fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}
