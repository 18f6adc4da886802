//! What a kernel can do, found by asking (`watari_kernel::probe`), and whether it has the xfrm_interface trap.

use watari_kernel::probe::Scratch;
use watari_kernel::{MigrateSource, PolicyKind};
use watari_policies::{Direction, Reqid};

use crate::encode;
use crate::message::Outgoing;

/// What this back end asks with.
pub(crate) const SCRATCH: Scratch = Scratch { site: 0, reqid: Reqid(0x7761_7461), source: MigrateSource::Netlink };

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
            Self::Add => encode::set_policy(&SCRATCH.policy()),
            Self::Migrate => encode::migrate(&SCRATCH.impossible_migrate()),
            Self::Remove => encode::delete_policy(&SCRATCH.selector(), Direction::Forward, PolicyKind::Main),
        }
    }
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
