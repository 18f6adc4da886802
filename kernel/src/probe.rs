//! The question by which a back end finds what MIGRATE and inbound policies can do, instead of by the kernel's version (FACTS A3: K1, K2, K4).
//! A scratch policy with a Mobility Header type in the documentation prefix is added, a MIGRATE that fits none of its templates is sent,
//! the policy is removed: a kernel whose policy lookup sees the type answers "no template" (ENODATA), one that does not, "no policy" (ENOENT).

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use watari_policies::{Direction, Mode, Protocol, Reqid, Selector, selector::MOBILITY_HEADER};

use crate::errno::{ENODATA, ENOENT, ENOPROTOOPT, EOPNOTSUPP};
use crate::{Capability, Endpoints, Migrate, MigrateSource, MigrateStep, PolicyAction, PolicyEntry, PolicyIndex, PolicyKind, Template};

const BINDING_UPDATE: u8 = 5;
/// Higher numbers lose, so the scratch policy decides about no packet even of these addresses if any other does.
const LAST_PRIORITY: u32 = u32::MAX;

/// What one back end asks with; two that probe at once do not meet.
#[derive(Clone, Copy, Debug)]
pub struct Scratch {
    /// Tells the addresses of back ends apart.
    pub site: u16,
    /// Reqid of the policy's template; the MIGRATE names the next one.
    pub reqid: Reqid,
    /// The socket that the MIGRATE is sent on.
    pub source: MigrateSource,
}

impl Scratch {
    /// The selector of the scratch policy; events about it are kept from the engine.
    pub fn selector(self) -> Selector {
        let host = |last| IpNet::from(self.address(last));
        Selector::between(host(1), host(2)).protocol(MOBILITY_HEADER).message_type(BINDING_UPDATE)
    }

    /// The scratch policy.
    pub fn policy(self) -> PolicyEntry {
        PolicyEntry {
            selector: self.selector(),
            direction: Direction::Forward,
            kind: PolicyKind::Main,
            index: PolicyIndex(0),
            priority: LAST_PRIORITY,
            action: PolicyAction::Allow,
            templates: vec![Template::esp(Mode::Tunnel, self.reqid, self.ends(3, 4))],
        }
    }

    /// A MIGRATE of the scratch policy that fits none of its templates.
    pub fn impossible_migrate(self) -> Migrate {
        let reqid = Reqid(self.reqid.0.saturating_add(1));
        let (old, new) = (self.ends(5, 4), self.ends(6, 4));
        let step = MigrateStep { protocol: Protocol::Esp, mode: Mode::Tunnel, reqid, old, new };
        Migrate { selector: self.selector(), direction: Direction::Forward, steps: vec![step], kmaddress: None, source: self.source }
    }

    const fn address(self, last: u16) -> IpAddr {
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, self.site, last))
    }

    const fn ends(self, src: u16, dst: u16) -> Endpoints {
        Endpoints { src: self.address(src), dst: self.address(dst) }
    }
}

/// Enters the errno of the impossible MIGRATE into what is known of the kernel. `release` is what `uname -r` prints: kernels from 6.7 on
/// do not see the type of an inbound packet, yet until 6.12 MIGRATE found typed policies, so that there the probe alone would be too hopeful.
pub fn conclude(capability: &mut Capability, errno: i32, release: &str) {
    match errno {
        ENODATA => capability.inbound_mh_type = Some(!blind_release(release)),
        ENOENT => capability.inbound_mh_type = Some(false),
        ENOPROTOOPT | EOPNOTSUPP => {
            capability.migrate = false;
            capability.inbound_mh_type = kernel_version(release).map(|version| version < FIRST_BLIND);
        }
        _ => {}
    }
}

/// The release in which the flow dissector took over the decoding of inbound packets.
const FIRST_BLIND: (u32, u32) = (6, 7);

fn blind_release(release: &str) -> bool {
    kernel_version(release).is_some_and(|version| version >= FIRST_BLIND)
}

fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn concluded(errno: i32, release: &str) -> (bool, Option<bool>) {
        let mut capability = Capability::default();
        conclude(&mut capability, errno, release);
        (capability.migrate, capability.inbound_mh_type)
    }

    #[test]
    fn answers_of_measured_kernels() {
        assert_eq!(concluded(ENODATA, "6.1.0-32-uml"), (true, Some(true)));
        assert_eq!(concluded(ENODATA, ""), (true, Some(true)));
        assert_eq!(concluded(ENOENT, "6.12.94"), (true, Some(false)));
        assert_eq!(concluded(ENODATA, "6.8.0-45-generic"), (true, Some(false)));
        assert_eq!(concluded(ENOPROTOOPT, "6.1.0"), (false, Some(true)));
        assert_eq!(concluded(ENOPROTOOPT, "?"), (false, None));
        assert_eq!(concluded(1, "6.1.0"), (true, None));
    }
}
