//! A dump under way, and who wants it. PF_KEY's rows carry no number of the request, so there is one dump at a time.

use std::time::Duration;

use watari_kernel::{PolicyEntry, RequestId, SaInfo};

use crate::message::Kind;

/// A kernel table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    /// Main policies.
    Policies,
    /// SAs.
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

    /// The type of the request and of its rows.
    pub(crate) const fn kind(self) -> Kind {
        match self {
            Self::Policies => Kind::SpdDump,
            Self::Sas => Kind::Dump,
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
    /// Main policies.
    Policies(Vec<PolicyEntry>),
    /// SAs.
    Sas(Vec<SaInfo>),
}

/// A dump under way.
#[derive(Debug)]
pub(crate) struct Dump {
    pub(crate) seq: u32,
    pub(crate) owner: Owner,
    pub(crate) table: Table,
    /// Boot time at which it is given up.
    pub(crate) deadline: Duration,
    pub(crate) policies: Vec<PolicyEntry>,
    pub(crate) sas: Vec<SaInfo>,
}

impl Dump {
    pub(crate) const fn new(seq: u32, owner: Owner, table: Table, deadline: Duration) -> Self {
        Self { seq, owner, table, deadline, policies: Vec::new(), sas: Vec::new() }
    }

    pub(crate) fn into_rows(self) -> (Owner, Rows) {
        let rows = match self.table {
            Table::Policies => Rows::Policies(self.policies),
            Table::Sas => Rows::Sas(self.sas),
        };
        (self.owner, rows)
    }
}
