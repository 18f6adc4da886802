//! What a kernel can do, found by asking instead of by its version (FACTS A3: K1, K2, K4).
//! A scratch policy with a Mobility Header type in the documentation prefix is added, a MIGRATE that fits none of its templates is sent,
//! the policy is removed: a kernel whose policy lookup sees the type answers "no template" (ENODATA), one that does not, "no policy" (ENOENT).

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use watari_kernel::{
    Capability, Endpoints, Migrate, MigrateSource, MigrateStep, PolicyAction, PolicyEntry, PolicyIndex, PolicyKind, Template,
};
use watari_policies::{Direction, Mode, Protocol, Reqid, Selector, selector::MOBILITY_HEADER};

use crate::encode;
use crate::errno::{ENODATA, ENOENT, ENOPROTOOPT, EOPNOTSUPP};
use crate::message::Outgoing;

const BINDING_UPDATE: u8 = 5;
const TEMPLATE_REQID: Reqid = Reqid(0x7761_7461);
const OTHER_REQID: Reqid = Reqid(0x7761_7462);
/// Higher numbers lose, so the scratch policy decides about no packet even of these addresses if any other does.
const LAST_PRIORITY: u32 = u32::MAX;

/// Where a probe stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The scratch policy is being added.
    Add,
    /// The MIGRATE is being tried.
    Migrate,
    /// The scratch policy is being removed.
    Remove,
}

impl Step {
    /// The message of the step.
    pub(crate) fn request(self) -> Result<Outgoing, String> {
        match self {
            Self::Add => encode::set_policy(&scratch_policy()),
            Self::Migrate => encode::migrate(&impossible_migrate()),
            Self::Remove => encode::delete_policy(&scratch_selector(), Direction::Forward, PolicyKind::Main),
        }
    }
}

/// The selector of the scratch policy; events about it are kept from the engine.
pub(crate) fn scratch_selector() -> Selector {
    let host = |last| IpNet::from(scratch_address(last));
    Selector::between(host(1), host(2)).protocol(MOBILITY_HEADER).message_type(BINDING_UPDATE)
}

const fn scratch_address(last: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, last))
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
        source: MigrateSource::Netlink,
    }
}

/// Enters the errno of the impossible MIGRATE into what is known of the kernel. `release` is what `uname -r` prints: kernels from 6.7 on
/// do not see the type of an inbound packet, yet until 6.12 MIGRATE found typed policies, so that there the probe alone would be too hopeful.
pub(crate) fn conclude(capability: &mut Capability, errno: i32, release: &str) {
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

/// Whether the module `xfrm_interface` is in the kernel, from the text of /proc/modules, the text of
/// /lib/modules/RELEASE/modules.builtin (empty if unreadable) and whether /sys/module/xfrm_interface exists. Where it is, packets
/// with both a home address option or routing header and ESP are dropped before decryption, so that no protected binding update arrives.
#[must_use]
pub fn xfrm_interface_registered(proc_modules: &str, modules_builtin: &str, sys_module_exists: bool) -> bool {
    let loaded = proc_modules.lines().filter_map(|line| line.split_whitespace().next()).any(|name| name == "xfrm_interface");
    let builtin =
        modules_builtin.lines().any(|path| path.trim().rsplit('/').next().is_some_and(|file| file.starts_with("xfrm_interface.ko")));
    loaded || builtin || sys_module_exists
}

/// The same question for a kernel that has it built in and ships no list of such modules: from the text of /proc/kallsyms (symbol names
/// are readable without privileges) and of /proc/cmdline, where `initcall_blacklist=xfrmi_init` keeps it from being registered.
#[must_use]
pub fn xfrm_interface_in_symbols(kallsyms: &str, cmdline: &str) -> bool {
    let kept_out = cmdline
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("initcall_blacklist="))
        .any(|list| list.split(',').any(|initcall| initcall == "xfrmi_init"));
    let present = kallsyms
        .lines()
        .filter_map(|line| line.split_whitespace().nth(2))
        .any(|symbol| symbol == "xfrmi_input" || symbol == "xfrmi_rcv_cb");
    present && !kept_out
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

    #[test]
    fn xfrm_interface_is_found_wherever_it_hides() {
        let modules = "xfrm_user 49152 2 - Live 0x0000000000000000\nxfrm_interface 20480 0 - Live 0x0000000000000000\n";
        assert!(xfrm_interface_registered(modules, "", false));
        assert!(!xfrm_interface_registered("xfrm_user 49152 1 xfrm_interface_compat, Live 0x0\n", "", false));
        assert!(xfrm_interface_registered("", "kernel/net/xfrm/xfrm_interface.ko\nkernel/net/xfrm/xfrm_user.ko\n", false));
        assert!(xfrm_interface_registered("", "", true));
        assert!(!xfrm_interface_registered("", "", false));
    }

    #[test]
    fn a_built_in_xfrm_interface_shows_in_the_symbols_unless_it_was_kept_out() {
        let symbols = "0000000000000000 t xfrm_input_unregister_afinfo\n0000000000000000 t xfrmi_rcv_cb\n";
        assert!(xfrm_interface_in_symbols(symbols, "root=/dev/root ro"));
        assert!(!xfrm_interface_in_symbols(symbols, "ro initcall_blacklist=jent_mod_init,xfrmi_init quiet"));
        assert!(!xfrm_interface_in_symbols("0000000000000000 T xfrm_input\n", ""));
    }
}
