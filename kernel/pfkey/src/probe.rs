//! What a kernel can do, found by asking: REGISTER lists its algorithms, and on Linux a MIGRATE that fits no template of a scratch policy
//! with a Mobility Header type is refused with ENODATA by a kernel whose policy lookup sees the type, with ENOENT by one that does not.

use watari_kernel::probe::Scratch;
use watari_kernel::{MigrateSource, PolicyKind};
use watari_policies::{Direction, Reqid};

use crate::dialect::Dialect;
use crate::extension::{SATYPE_AH, SATYPE_ESP};
use crate::message::{Kind, Outgoing};
use crate::{migrate, policy};

/// What this back end asks with; its reqids are below the ones that Linux renumbers.
pub(crate) const SCRATCH: Scratch = Scratch { site: 1, reqid: Reqid(0x3ffe), source: MigrateSource::PfKey };

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
            Self::Add => policy::set(dialect, &SCRATCH.policy()),
            Self::Migrate => migrate::write(dialect, &SCRATCH.impossible_migrate()),
            Self::Remove => policy::delete(dialect, &SCRATCH.selector(), Direction::Forward, PolicyKind::Main),
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
