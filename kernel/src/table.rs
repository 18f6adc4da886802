//! The kernel's two tables, policies and SAs: a dump under way, and whose turn comes next. Kernels take one dump at a time.
//! Invariant: a dump that ended is one `Done` for its caller, or a step of a resynchronisation, which reads the policies before the SAs.

use std::collections::VecDeque;
use std::time::Duration;

use crate::resync::Resync;
use crate::{BackendOutput, KernelError, KernelEvent, KernelReply, PolicyEntry, RequestId, SaInfo};

/// A kernel table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Policies, of every set that the back end can dump.
    Policies,
    /// SAs and Mobile IPv6 states.
    Sas,
}

impl Table {
    /// What is asked, in words.
    #[must_use]
    pub const fn request(self) -> &'static str {
        match self {
            Self::Policies => "read the policies",
            Self::Sas => "read the SAs",
        }
    }
}

/// Who wants a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A caller.
    Caller(RequestId),
    /// A resynchronisation.
    Resync,
}

/// A whole table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Policies.
    Policies(Vec<PolicyEntry>),
    /// SAs and states.
    Sas(Vec<SaInfo>),
}

impl From<Rows> for KernelReply {
    fn from(rows: Rows) -> Self {
        match rows {
            Rows::Policies(policies) => Self::Policies(policies),
            Rows::Sas(sas) => Self::Sas(sas),
        }
    }
}

/// A dump under way.
#[derive(Debug)]
pub struct Dump {
    /// Number of its request.
    pub seq: u32,
    /// Who wants it.
    pub owner: Owner,
    /// What is read.
    pub table: Table,
    /// Boot time at which it is given up.
    pub deadline: Duration,
    /// Policies read so far.
    pub policies: Vec<PolicyEntry>,
    /// SAs read so far.
    pub sas: Vec<SaInfo>,
}

impl Dump {
    /// One of which nothing was read yet.
    #[must_use]
    pub const fn new(seq: u32, owner: Owner, table: Table, deadline: Duration) -> Self {
        Self { seq, owner, table, deadline, policies: Vec::new(), sas: Vec::new() }
    }

    /// What was read, and for whom.
    #[must_use]
    pub fn into_rows(self) -> (Owner, Rows) {
        let rows = match self.table {
            Table::Policies => Rows::Policies(self.policies),
            Table::Sas => Rows::Sas(self.sas),
        };
        (self.owner, rows)
    }
}

/// The dumps that wait for their turn, of callers and of resynchronisation.
#[derive(Debug, Default)]
pub struct Dumps {
    waiting: VecDeque<(Owner, Table)>,
    /// What a resynchronisation waits for and holds back; `begin` starts one that is asked for.
    pub resync: Resync,
}

impl Dumps {
    /// Puts a dump behind those that wait.
    pub fn want(&mut self, owner: Owner, table: Table) {
        self.waiting.push_back((owner, table));
    }

    /// The next one to ask for, when none is under way.
    pub fn take_next(&mut self) -> Option<(Owner, Table)> {
        self.waiting.pop_front()
    }

    /// Lets a resynchronisation wait for its turn if one is asked for and due at the boot time `now`, and none is running; whether it did.
    pub fn begin(&mut self, now: Duration) -> bool {
        let begins = self.resync.start(now);
        if begins {
            self.want(Owner::Resync, Table::Policies);
            self.want(Owner::Resync, Table::Sas);
        }
        begins
    }

    /// A dump ended: the caller's answer, or what a resynchronisation tells, behind which the next may begin.
    pub fn ended(&mut self, now: Duration, owner: Owner, result: Result<Rows, KernelError>) -> Vec<BackendOutput> {
        let events: Vec<KernelEvent> = match (owner, result) {
            (Owner::Caller(id), result) => return vec![BackendOutput::Done(id, result.map(KernelReply::from))],
            (Owner::Resync, Ok(rows)) => self.resync.table(rows),
            (Owner::Resync, Err(_)) => {
                self.waiting.retain(|(owner, _)| *owner != Owner::Resync);
                self.resync.failed(now)
            }
        };
        self.begin(now);
        events.into_iter().map(BackendOutput::Event).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SaId, Spi};
    use watari_policies::Protocol;

    const LATER: Duration = Duration::from_secs(5);

    fn removed(spi: u32) -> KernelEvent {
        KernelEvent::SaRemoved(SaId { dst: [192, 0, 2, 1].into(), protocol: Protocol::Esp, spi: Spi(spi) })
    }

    fn told(policies: Vec<PolicyEntry>, sas: Vec<SaInfo>) -> BackendOutput {
        BackendOutput::Event(KernelEvent::Resynchronised { policies, sas })
    }

    /// Both tables come, empty.
    fn read(dumps: &mut Dumps) -> Vec<BackendOutput> {
        assert_eq!(dumps.take_next(), Some((Owner::Resync, Table::Policies)));
        assert!(dumps.ended(LATER, Owner::Resync, Ok(Rows::Policies(Vec::new()))).is_empty());
        assert_eq!(dumps.take_next(), Some((Owner::Resync, Table::Sas)));
        dumps.ended(LATER, Owner::Resync, Ok(Rows::Sas(Vec::new())))
    }

    #[test]
    fn a_caller_keeps_its_turn_and_is_answered() {
        let mut dumps = Dumps::default();
        dumps.want(Owner::Caller(RequestId(7)), Table::Sas);
        dumps.resync.want();
        assert!(dumps.begin(LATER));
        assert_eq!(dumps.take_next(), Some((Owner::Caller(RequestId(7)), Table::Sas)));
        let answer = dumps.ended(LATER, Owner::Caller(RequestId(7)), Ok(Rows::Sas(Vec::new())));
        assert_eq!(answer, [BackendOutput::Done(RequestId(7), Ok(KernelReply::Sas(Vec::new())))]);
        assert_eq!(read(&mut dumps), [told(Vec::new(), Vec::new())]);
        assert_eq!(dumps.take_next(), None);
    }

    #[test]
    fn what_is_asked_for_decides_what_is_told() {
        type Ask = fn(&mut Resync);
        let flushed = BackendOutput::Event(KernelEvent::Flushed { policies: false });
        let cases: [(Ask, Vec<BackendOutput>); 4] = [
            (Resync::learn, vec![]),
            (Resync::flushed, vec![flushed]),
            (Resync::want, vec![told(Vec::new(), Vec::new())]),
            (Resync::lost, vec![told(Vec::new(), Vec::new())]),
        ];
        for (ask, first) in cases {
            let mut dumps = Dumps::default();
            ask(&mut dumps.resync);
            assert!(dumps.begin(LATER));
            assert_eq!(dumps.resync.hold(removed(1)), None);
            let behind = BackendOutput::Event(removed(1));
            assert_eq!(read(&mut dumps), [first, vec![behind]].concat());
            assert_eq!(dumps.resync.hold(removed(2)), Some(removed(2)));
        }
    }

    #[test]
    fn a_loss_while_reading_reads_everything_again() {
        let mut dumps = Dumps::default();
        dumps.resync.want();
        assert!(dumps.begin(LATER));
        assert_eq!(dumps.resync.hold(removed(1)), None);
        dumps.resync.lost();
        assert_eq!(dumps.resync.hold(removed(2)), None);
        assert_eq!(read(&mut dumps), []);
        assert_eq!(read(&mut dumps), [told(Vec::new(), Vec::new()), BackendOutput::Event(removed(2))]);
    }

    #[test]
    fn a_refused_dump_lets_events_go_and_is_asked_for_again_a_second_later() {
        let mut dumps = Dumps::default();
        dumps.resync.want();
        assert!(dumps.begin(LATER));
        assert_eq!(dumps.resync.hold(removed(1)), None);
        assert_eq!(dumps.take_next(), Some((Owner::Resync, Table::Policies)));
        let refused = KernelError::refused(crate::errno::EBUSY, "", Table::Policies.request());
        assert_eq!(dumps.ended(LATER, Owner::Resync, Err(refused)), [BackendOutput::Event(removed(1))]);
        assert_eq!(dumps.take_next(), None);
        let due = LATER + Duration::from_secs(1);
        assert_eq!(dumps.resync.deadline(), Some(due));
        assert!(!dumps.begin(LATER) && dumps.begin(due));
        assert_eq!(read(&mut dumps), [told(Vec::new(), Vec::new())]);
    }
}
