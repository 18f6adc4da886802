//! A dump under way, and who wants it.

use std::time::Duration;

use watari_kernel::{PolicyEntry, RequestId, SaInfo};

/// A kernel table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    /// Policies of both sets.
    Policies,
    /// SAs and states.
    Sas,
}

impl Table {
    /// What is asked, in words.
    pub(crate) const fn request(self) -> &'static str {
        match self {
            Self::Policies => "read the policies",
            Self::Sas => "read the SAs",
        }
    }
}

/// Who wants a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A caller.
    Caller(RequestId),
    /// A resynchronisation.
    Resync,
}

/// A whole table.
#[derive(Debug)]
pub(crate) enum Rows {
    /// Policies of both sets.
    Policies(Vec<PolicyEntry>),
    /// SAs and states.
    Sas(Vec<SaInfo>),
}

/// A dump under way.
#[derive(Debug)]
pub(crate) struct Dump {
    pub(crate) seq: u32,
    pub(crate) owner: Owner,
    pub(crate) table: Table,
    /// How often it was started again.
    pub(crate) tries: u32,
    /// Boot time at which it is given up.
    pub(crate) deadline: Duration,
    /// The table changed meanwhile (NLM_F_DUMP_INTR).
    pub(crate) interrupted: bool,
    pub(crate) policies: Vec<PolicyEntry>,
    pub(crate) sas: Vec<SaInfo>,
}

impl Dump {
    pub(crate) const fn new(seq: u32, owner: Owner, table: Table, tries: u32, deadline: Duration) -> Self {
        Self { seq, owner, table, tries, deadline, interrupted: false, policies: Vec::new(), sas: Vec::new() }
    }

    pub(crate) fn into_rows(self) -> (Owner, Rows) {
        let rows = match self.table {
            Table::Policies => Rows::Policies(self.policies),
            Table::Sas => Rows::Sas(self.sas),
        };
        (self.owner, rows)
    }
}
