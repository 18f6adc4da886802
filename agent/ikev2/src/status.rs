//! What an IKE SA looks like from outside.

use watari_sa::{IkeId, IkeStatus};

use crate::Ikev2;
use crate::state::State;

impl Ikev2 {
    /// One IKE SA; `None` for one that has ended.
    pub(crate) fn status_of(&self, ike: IkeId) -> Option<IkeStatus> {
        let sa = self.sas.get(&ike)?;
        let suite = match &sa.state {
            State::Answering(answer) => Some(answer.suite),
            state => state.crypt().map(|crypt| crypt.suite),
        };
        let mut tasks: Vec<&'static str> = match &sa.state {
            State::AwaitInit(_) | State::Answering(_) => vec!["IKE_SA_INIT"],
            State::AwaitAuth(_) => vec!["IKE_AUTH"],
            _ => Vec::new(),
        };
        tasks.extend(sa.current.iter().map(|task| task.name()));
        tasks.extend(sa.tasks.iter().map(|queued| queued.task.name()));
        Some(IkeStatus {
            id: ike,
            remote: sa.remote,
            state: sa.visible_state()?,
            initiator: sa.initiator,
            initiator_spi: sa.spi_i,
            responder_spi: sa.spi_r,
            path: sa.path,
            suite: suite.map(|suite| suite.to_string()).unwrap_or_default(),
            created: sa.created,
            rekey_at: sa.session().and_then(|session| session.rekey_at),
            nat: sa.nat,
            tasks,
            negotiating: self.negotiating(ike),
        })
    }
}
