//! What a guest was booted for.

use crate::uml::guest::Guest;
use crate::uml::{Failure, Result, smoke};
use crate::{interop, real};

/// Does the work that the plan names; its exit code.
pub(crate) fn task(guest: &Guest) -> Result<i32> {
    match guest.plan.task.as_str() {
        smoke::TASK => smoke::in_guest(guest),
        real::acts::TASK => real::acts::in_guest(guest),
        real::conformance::TASK => real::conformance::in_guest(guest),
        real::control::TASK => real::control::in_guest(guest),
        real::control::KERNEL_TASK => real::control::kernel_in_guest(guest),
        real::backend::TASK => real::backend::in_guest(guest),
        real::scale::TASK => real::scale::in_guest(guest),
        real::run::TASK => real::run::in_guest(guest),
        name if name.starts_with("interop") => interop::in_guest(guest),
        other => Err(Failure(format!("no task `{other}`"))),
    }
}
