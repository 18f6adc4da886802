//! Task: does the peer live? An empty INFORMATIONAL exchange like any other (RFC 7296 1.4, 2.4).

use watari_sa::{Context, IkeId};

use super::Task;
use crate::Ikev2;
use crate::timers::Timer;

impl Ikev2 {
    pub(super) fn start_liveness(&mut self, context: &mut Context<'_>, ike: IkeId) {
        if let Some(sa) = self.sas.get_mut(&ike) {
            sa.current = Some(Task::Liveness);
        }
        //= rfc7296#1.4
        //# an INFORMATIONAL request without payloads asks for a sign of life
        self.inform(context, ike, &[]);
    }

    /// Checks that the peer lives unless a request is under way that shows it anyway.
    pub(crate) fn check_liveness(&mut self, context: &mut Context<'_>, ike: IkeId) {
        let Some(sa) = self.sas.get(&ike) else { return };
        let under_way = sa.window.outstanding.is_some() || sa.tasks.iter().any(|queued| matches!(queued.task, Task::Liveness));
        if !sa.is_established() || self.wake(context, ike) || under_way {
            return;
        }
        self.push_task_first(ike, Task::Liveness);
        self.run_tasks(context, ike);
    }

    /// The peer has been silent for as long as its remote allows, or perhaps not.
    pub(crate) fn liveness_due(&mut self, context: &mut Context<'_>, ike: IkeId) {
        let Some(sa) = self.sas.get(&ike) else { return };
        let Some(session) = sa.session() else { return };
        let Some(idle) = context.config.remote(session.remote).and_then(|remote| remote.liveness) else { return };
        //= rfc7296#2.4
        //# a fresh, protected message proves liveness; only silence is checked
        let due = session.heard.saturating_add(idle);
        if due > context.now.boot {
            return self.timers.set(Timer::Liveness(ike), due);
        }
        self.timers.set(Timer::Liveness(ike), context.now.boot.saturating_add(idle));
        self.check_liveness(context, ike);
    }
}
