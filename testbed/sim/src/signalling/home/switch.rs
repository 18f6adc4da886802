//! A home agent that sends its mobile nodes away (RFC 5142): the message, its repeats, and the end of a binding whose node is not at home.

use std::net::IpAddr;
use std::time::Duration;

use watari_mip6::Message;

use super::super::{Agreement, Output, SignalEvent, mobility_packet, v6};
use super::{HomeAgent, Request, Timer};

/// INITIAL-HA-SWITCH-TIMEOUT and MAX-HA-SWITCH-TIMEOUT (RFC 5142 8).
const FIRST_WAIT: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// Status "administratively prohibited" (RFC 6275 6.1.8).
pub(super) const PROHIBITED: u8 = 129;

impl HomeAgent {
    pub(super) fn send_away(&mut self, now: Duration, to: IpAddr) {
        self.successor = Some(to);
        let bound: Vec<IpAddr> =
            self.bindings.iter().filter(|(_, binding)| binding.care_of.is_some()).map(|(home_address, _)| *home_address).collect();
        for home_address in bound {
            self.tell_to_go(now, home_address);
        }
    }

    //= rfc5142#5.2
    //# the message is repeated, with growing time between, until the binding is deleted
    pub(super) fn tell_to_go(&mut self, now: Duration, home_address: IpAddr) {
        let (Some(to), Some(agreement)) = (self.successor, self.agreement(home_address)) else { return };
        let Some(binding) = self.bindings.get_mut(&home_address).filter(|binding| binding.care_of.is_some()) else { return };
        binding.farewell = binding.farewell.saturating_mul(2).clamp(FIRST_WAIT, LONGEST_WAIT);
        let wait = binding.farewell;
        self.agenda.event(SignalEvent::SendsAway { home_address, to });
        let message = Message::HomeAgentSwitch { addresses: v6(to).into_iter().collect(), options: Vec::new() };
        self.agenda.put(Output::Send(mobility_packet(agreement.home_agent, home_address, &message)));
        self.agenda.set(now.saturating_add(wait), Timer::Switch(home_address));
    }

    /// Whether a binding update ends a binding from away.
    pub(super) fn is_farewell(&self, agreement: &Agreement, request: Request) -> bool {
        request.lifetime == 0 && request.care_of != agreement.home_address && self.care_of(agreement.home_address).is_some()
    }

    /// The answer needs the states of the binding; after it they go.
    pub(super) fn part(&mut self, agreement: &Agreement, request: Request) {
        self.acknowledge(agreement, &request, 0);
        self.unbind(agreement);
        self.agenda.event(SignalEvent::Gone { home_address: agreement.home_address });
    }
}
