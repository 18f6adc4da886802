//! Home addresses within the exchanges: when the engine is asked, and how the exchange goes on when it has answered (RFC 4877 9, RFC 5026 5.3).
//! Invariant: nobody is asked before the peer has proved who it is, and a child SA waits until the policies say the address.

use std::net::Ipv6Addr;

use watari_policies::Remote;
use watari_sa::{Assignment, Cause, Context, Denial, IkeId, Trigger, Want, Wish};
use watari_wire::ikev2::{Delete, NotifyType, Payload};

use crate::Ikev2;
use crate::configuration;
use crate::payloads::{Payloads, notify};
use crate::refusal::Refusal;
use crate::state::State;
use crate::task::Task;

/// What becomes of the home address of a peer, or of our own, in the exchange under way.
#[derive(Debug)]
pub(crate) enum Home {
    /// The engine was asked.
    Asked {
        /// Whether the peer sent a CFG_REQUEST.
        requested: bool,
        /// The CREATE_CHILD_SA request that waits; `None` in IKE_AUTH.
        waiting: Option<Vec<Payload>>,
    },
    /// It is known what to say, and whether a child SA comes along.
    Decided {
        /// Payloads for the response, before those of the child SA.
        payloads: Vec<Payload>,
        /// Whether the child SA can be made.
        child: bool,
    },
}

/// Whether we are the home agent of a remote whose home address is assigned at run time.
fn we_assign(remote: &Remote) -> bool {
    remote.assigned.is_some() && remote.role.assigns()
}

impl Ikev2 {
    /// As responder of IKE_AUTH, after the peer's proof: whether the child SA's turn has come, which may be one that cannot be made.
    pub(crate) fn home_settled(&mut self, context: &Context<'_>, ike: IkeId) -> bool {
        match self.homes.get(&ike) {
            Some(Home::Asked { .. }) => return false,
            Some(Home::Decided { .. }) => return true,
            None => {}
        }
        let Some(sa) = self.sas.get(&ike) else { return false };
        let Some((id, remote)) = sa.remote.and_then(|id| Some((id, context.config.remote(id)?))) else { return true };
        let State::AwaitAuth(attempt) = &sa.state else { return false };
        let payloads = Payloads(attempt.received.as_deref().unwrap_or_default());
        let requested = configuration::wish(payloads);
        if let (Some(Wish::Address(_)), Some(fixed)) = (requested, configuration::fixed(remote)) {
            let (payloads, child) = configuration::answer(fixed, true);
            self.homes.insert(ike, Home::Decided { payloads, child });
            return true;
        }
        if !we_assign(remote) {
            //= rfc7296#3.15.4
            //# who does not serve configuration payloads ignores them
            return true;
        }
        //= rfc5026#5.3.2
        //# an address that the mobile node formed is named by its traffic selectors
        let Some(wish) = requested.or_else(|| configuration::formed(payloads).map(Wish::Formed)) else {
            //= rfc7296#2.19
            //# a peer that must ask for an address and does not gets no child SA but FAILED_CP_REQUIRED
            self.homes.insert(ike, Home::Decided { payloads: vec![notify(NotifyType::FAILED_CP_REQUIRED)], child: false });
            return true;
        };
        self.homes.insert(ike, Home::Asked { requested: requested.is_some(), waiting: None });
        self.out.assign(ike, id, wish);
        false
    }

    /// What the response says of the home address, and whether a child SA comes with it. Nothing, and yes, where none is at stake.
    pub(crate) fn home_told(&mut self, ike: IkeId) -> (Vec<Payload>, bool) {
        match self.homes.remove(&ike) {
            Some(Home::Decided { payloads, child }) => (payloads, child),
            _ => (Vec::new(), true),
        }
    }

    /// Whether the answer in IKE_AUTH is to come without a child SA.
    pub(crate) fn no_home(&self, ike: IkeId) -> bool {
        matches!(self.homes.get(&ike), Some(Home::Decided { child: false, .. }))
    }

    /// As responder of CREATE_CHILD_SA: whether the request waits until the engine has decided about a home address.
    pub(crate) fn home_requested(&mut self, context: &Context<'_>, ike: IkeId, payloads: Payloads<'_>) -> Result<bool, Refusal> {
        let Some((id, remote)) = self.sas.get(&ike).and_then(|sa| sa.remote).and_then(|id| Some((id, context.config.remote(id)?))) else {
            return Ok(false);
        };
        if !we_assign(remote) {
            return Ok(false);
        }
        let held = remote.role.lasting_address();
        let requested = configuration::wish(payloads);
        self.directory.ensure(context.config);
        // With an address in force a single address may also be of a network behind the node.
        let behind = |address: &Ipv6Addr| {
            let mut policies = self.directory.policies(context.config, id).flat_map(|(_, policy)| &policy.traffic.remote);
            held.is_some() && policies.any(|item| item.range.contains((*address).into()))
        };
        let formed = configuration::formed(payloads).filter(|formed| !behind(formed));
        let Some(wish) = requested.or(formed.map(Wish::Formed)) else {
            return if held.is_some() { Ok(false) } else { Err(Refusal::NoHomeAddress) };
        };
        self.homes.insert(ike, Home::Asked { requested: requested.is_some(), waiting: Some(payloads.0.to_vec()) });
        self.out.assign(ike, id, wish);
        Ok(true)
    }

    /// The engine has decided: the exchange goes on.
    pub(crate) fn assigned(&mut self, context: &mut Context<'_>, ike: IkeId, assignment: Assignment) {
        let Some(Home::Asked { requested, waiting }) = self.homes.remove(&ike) else { return };
        let Some(sa) = self.sas.get(&ike) else { return };
        if sa.initiator && matches!(sa.state, State::AwaitAuth(_)) {
            let child = matches!(assignment, Assignment::Address(_));
            self.homes.insert(ike, Home::Decided { payloads: Vec::new(), child });
            return self.auth_accepted(context, ike);
        }
        let (payloads, child) = configuration::answer(assignment, requested);
        match waiting {
            None => {
                self.homes.insert(ike, Home::Decided { payloads, child });
                self.auth_answer_step(context, ike);
            }
            Some(_) if !child => self.answer(context, ike, &payloads),
            Some(received) => {
                self.homes.insert(ike, Home::Decided { payloads, child });
                self.create_child_requested(context, ike, &received);
            }
        }
    }

    /// Whether a CREATE_CHILD_SA request of the peer has its home address settled already.
    pub(crate) fn home_is_decided(&self, ike: IkeId) -> bool {
        matches!(self.homes.get(&ike), Some(Home::Decided { .. }))
    }

    /// As initiator, the home agent has proved itself: whether its answer can be used now, or the engine is asked first.
    pub(crate) fn home_given(&mut self, context: &Context<'_>, ike: IkeId) -> bool {
        match self.homes.get(&ike) {
            Some(Home::Asked { .. }) => return false,
            Some(Home::Decided { .. }) => return true,
            None => {}
        }
        let Some(sa) = self.sas.get(&ike) else { return true };
        let Some((id, remote)) = sa.remote.and_then(|id| Some((id, context.config.remote(id)?))) else { return true };
        let State::AwaitAuth(attempt) = &sa.state else { return true };
        if remote.assigned.and_then(|assigned| assigned.ask).is_none() {
            return true;
        }
        let payloads = Payloads(attempt.received.as_deref().unwrap_or_default());
        let refusals = [NotifyType::INTERNAL_ADDRESS_FAILURE, NotifyType::FAILED_CP_REQUIRED];
        let refused = payloads.error().is_some_and(|error| refusals.contains(&error.notify_type));
        match configuration::given(payloads) {
            Some(wish) => {
                self.homes.insert(ike, Home::Asked { requested: true, waiting: None });
                self.out.assign(ike, id, wish);
                false
            }
            // An address that we hold already needs no word, unless it is refused.
            None if remote.role.lasting_address().is_some() && !refused => true,
            None => {
                self.homes.insert(ike, Home::Decided { payloads: Vec::new(), child: false });
                true
            }
        }
    }

    /// As initiator that is given no home address here: the IKE SA ends before it began, and another home agent is asked if there is one.
    //= rfc4877#9
    //# the mobile node ends the exchange and may take another home agent
    //= rfc7296#3.15.4
    //# an initiator that needs the address closes the IKE SA and tries again later
    pub(crate) fn home_sought_elsewhere(&mut self, context: &mut Context<'_>, ike: IkeId) -> bool {
        if !self.no_home(ike) {
            return false;
        }
        let another = self.another_address(context, ike, Cause::HOME_ADDRESS).map(|to| (to, None));
        self.homes.remove(&ike);
        let received = match self.sas.get(&ike).map(|sa| &sa.state) {
            Some(State::AwaitAuth(attempt)) => attempt.received.as_deref().unwrap_or_default(),
            _ => &[],
        };
        let detail = no_home_because(Payloads(received));
        self.close_unborn(context, ike, &[Payload::Delete(Delete::ike_sa())], another, Cause::HOME_ADDRESS, detail);
        true
    }

    /// As initiator, the IKE SA stands: whether the first child SA goes its usual way. It does not if the address came too late for it,
    /// and another child SA is asked for.
    pub(crate) fn first_child_stays(&mut self, context: &mut Context<'_>, ike: IkeId, received: &[Payload]) -> bool {
        let decided = self.homes.remove(&ike).is_some();
        let payloads = Payloads(received);
        if !decided || (payloads.error().is_none() && payloads.proposals().is_some()) {
            return true;
        }
        let Some(first) = self.sas.get_mut(&ike).and_then(|sa| sa.first_child.take()) else { return false };
        let Some(want) = self.builds.get(&first).map(|build| Want { policy: build.policy, trigger: Trigger::Command }) else {
            return false;
        };
        self.cancel_build(context, first);
        //= rfc5026#5.3.2
        //# with the address it formed the mobile node makes its SAs by CREATE_CHILD_SA
        self.push_task(ike, Task::create(want));
        self.run_tasks(context, ike);
        false
    }
}

/// Why there is no home address, in the peer's words where it has any.
fn no_home_because(payloads: Payloads<'_>) -> String {
    let why = payloads.error().map_or_else(|| Denial::NotServed.to_string(), ToString::to_string);
    format!("the home agent gave no home address: {why}")
}
