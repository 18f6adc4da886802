//! Judges a scenario that ran on a real kernel: what the guest saw, and what the captures of every link show.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use watari_policies::profile::Protected;
use watari_sim::report::{Handover, Report};
use watari_sim::scenario::{Action, Link, MobilePlan, Scenario};

use super::facts::{Facts, Movement};
use super::timeline::Moment;
use crate::judge::clear::Protected as Demand;
use crate::judge::pcap::{Capture, Kind};
use crate::uml::{Context, Result};

/// Octet of the exchange type and of the flags, two exchanges, the message id, and the flag of a response (RFC 7296 3.1).
const EXCHANGE: usize = 18;
const INIT: u8 = 34;
const CREATE_CHILD: u8 = 36;
const MESSAGE_ID: usize = 20;
const RESPONSE: u8 = 0x20;

/// One IKE_SA_INIT request and its repeats.
struct Attempt {
    /// When it crossed a link first, in microseconds since 1970.
    begun: u64,
    /// From where.
    from: IpAddr,
    /// Whether a message of a later exchange followed: the initiator had its answer.
    went_on: bool,
}

/// Attempts that had no answer when their host moved on, so that another one from another address followed: each makes one more
/// IKE_SA_INIT right, because NAT hashes and cookie of the first belong to the address that is gone.
fn cut_off(attempts: &BTreeMap<[u8; 8], Attempt>) -> usize {
    let followed = |attempt: &&Attempt| attempts.values().any(|later| later.begun > attempt.begun && later.from != attempt.from);
    attempts.values().filter(|attempt| !attempt.went_on).filter(followed).count()
}

/// The captures of a run, by link.
pub(super) struct Captures(pub(super) Vec<(Link, Capture)>);

impl Captures {
    /// Reads the file of every link.
    pub(super) fn read(output: &Path) -> Result<Self> {
        let read = |link: Link| Ok((link, Capture::read(&output.join(format!("{link}.pcap")))?));
        Link::ALL.into_iter().map(read).collect::<Result<_>>().map(Self)
    }

    /// The handshakes begun on any link, by initiator SPI.
    fn attempts(&self) -> BTreeMap<[u8; 8], Attempt> {
        let mut attempts: BTreeMap<[u8; 8], Attempt> = BTreeMap::new();
        for (packet, message) in self.0.iter().flat_map(|(_, capture)| capture.ike_messages()) {
            let (Some(spi), Some(exchange), Some(flags)) =
                (message.first_chunk().copied(), message.get(EXCHANGE), message.get(EXCHANGE + 1))
            else {
                continue;
            };
            if *exchange == INIT && flags & RESPONSE == 0 {
                let attempt = attempts.entry(spi).or_insert(Attempt { begun: packet.time_us, from: packet.source, went_on: false });
                attempt.begun = attempt.begun.min(packet.time_us);
            }
        }
        // Captures are read link by link: what went on is only known when all handshakes are.
        for (_, message) in self.0.iter().flat_map(|(_, capture)| capture.ike_messages()) {
            let went_on = message.get(EXCHANGE).is_some_and(|exchange| *exchange != INIT);
            if let Some(attempt) = message.first_chunk().and_then(|spi| attempts.get_mut(spi)).filter(|_| went_on) {
                attempt.went_on = true;
            }
        }
        attempts
    }

    /// Requests for a child SA or a rekey on any link, repeats not counted.
    fn creations(&self) -> usize {
        let requests = self.0.iter().flat_map(|(_, capture)| capture.ike_messages()).filter_map(|(_, message)| {
            let (exchange, flags) = (*message.get(EXCHANGE)?, *message.get(EXCHANGE + 1)?);
            let number: [u8; 4] = *message.get(MESSAGE_ID..)?.first_chunk()?;
            let spi: [u8; 8] = *message.first_chunk()?;
            (exchange == CREATE_CHILD && flags & RESPONSE == 0).then_some((spi, flags, number))
        });
        requests.collect::<BTreeSet<_>>().len()
    }

    /// Packets in clear that had to be protected, in words.
    fn in_clear(&self, scenario: &Scenario, homes: &BTreeSet<IpAddr>) -> Vec<String> {
        let protects = |what| scenario.protect.contains(&what);
        let mut wired = Demand::default();
        if protects(Protected::Binding) || scenario.tunnels_updates() {
            wired.mobility_types.extend([5, 6, 12]);
        }
        if protects(Protected::PrefixDiscovery) {
            wired.icmpv6_types.extend([146, 147]);
        }
        // Behind the home agent the home address's payload travels as the Internet sees it.
        let mut foreign = wired.clone();
        if protects(Protected::ReturnRoutability) {
            foreign.mobility_types.extend([1, 3]);
        }
        if protects(Protected::Payload) {
            foreign.payload_addresses = homes.iter().copied().collect();
            let behind = scenario.mobile_nodes.iter().filter(|_| scenario.networks).map(MobilePlan::network_address);
            foreign.payload_addresses.extend(behind);
        }
        let mut found = Vec::new();
        for (link, capture) in &self.0 {
            let demand = if link.is_foreign() { &foreign } else { &wired };
            let say = |packet: &crate::judge::pcap::Packet| {
                format!("{link}.pcap packet {}: {} from {} to {} in clear", packet.number, packet.kind, packet.source, packet.destination)
            };
            let forges = scenario.steps.iter().any(|step| matches!(step.action, Action::ForgeUpdate { .. }));
            // Forged updates start at the correspondent; one of ours in clear would be seen on the foreign link first.
            if forges && !link.is_foreign() {
                continue;
            }
            found.extend(demand.violations(capture).into_iter().map(say));
        }
        found
    }

    /// ESP packets under these SPIs; one that crossed several links counts once.
    fn packets_under(&self, spis: &BTreeSet<u32>) -> usize {
        let packets = self.0.iter().flat_map(|(_, capture)| &capture.packets);
        let numbers = packets.filter_map(|packet| match packet.kind {
            Kind::Esp { spi, sequence, .. } if spis.contains(&spi) => Some((spi, sequence)),
            _ => None,
        });
        numbers.collect::<BTreeSet<_>>().len()
    }

    /// When the first IKE packet from `address` crossed the link `name`, not before `since`; microseconds since 1970.
    fn first_ike(&self, name: &str, address: IpAddr, since: u64) -> Option<u64> {
        let (_, capture) = self.0.iter().find(|(link, _)| link.name() == name)?;
        capture.ike_messages().find(|(packet, _)| packet.source == address && packet.time_us >= since).map(|(packet, _)| packet.time_us)
    }

    fn handover(&self, movement: &Movement) -> Handover {
        // The home address can be used all the time, on the tunnel's interface until the daemon moves it to the link.
        let usable = movement.usable_at.filter(|_| movement.to != Link::Home.name());
        let begin = movement.migrate_at.map(|migrate| migrate.max(usable.unwrap_or_default()));
        // The monitor may tell of the address a moment after the agent has used it.
        let first = movement.migrate_at.and_then(|since| self.first_ike(&movement.to, movement.address, since));
        let wait = usable.zip(movement.migrate_at).map_or(0, |(usable, migrate)| usable.saturating_sub(migrate));
        Handover {
            from: movement.from.clone(),
            to: movement.to.clone(),
            event_to_first_ike_us: first.zip(begin).map(|(first, begin)| first.saturating_sub(begin)),
            address_wait_us: wait,
            migrate_events: movement.migrate_events,
            children_moved: movement.children_moved,
        }
    }
}

/// Lines for the timeline: the first IKE packet after each movement.
pub(super) fn first_packets(movements: &[Movement], report: &Report, begin: u64) -> Vec<Moment> {
    let one = |(movement, handover): (&Movement, &Handover)| {
        let (migrate, thought) = (movement.migrate_at?, handover.event_to_first_ike_us?);
        let at = migrate.saturating_add(handover.address_wait_us).saturating_add(thought);
        let wait = handover.address_wait_us / 1000;
        let text = format!("first IKE packet from the new address: {thought} us after it could be sent, {wait} ms waited for the address");
        Some(Moment { at_us: at.saturating_sub(begin), host: movement.node.clone(), text, detail: false })
    };
    movements.iter().zip(&report.handovers).filter_map(one).collect()
}

/// The report of a run.
pub(super) fn report(scenario: &Scenario, backend: &str, seed: u64, facts: &Facts, output: &Path) -> Result<Report> {
    let captures = Captures::read(output).context(output.display())?;
    let clear = captures.in_clear(scenario, &facts.homes);
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let mobile_nodes = number(scenario.mobile_nodes.iter().filter(|plan| !scenario.is_refused(plan)).count());
    // Where links lose packets a ping is lost for want of a key only if a kernel says so.
    let kernels_say = u32::try_from(facts.dropped_for_key.values().sum::<u64>()).unwrap_or(u32::MAX);
    let lossy = scenario.conditions.loss > 0;
    let attempts = captures.attempts();
    let cut_off = if lossy { number(cut_off(&attempts)) } else { 0 };
    let mut report = Report {
        scenario: scenario.name.to_owned(),
        backend: backend.to_owned(),
        seed,
        passed: false,
        ike_sa_init: number(attempts.len()),
        reauthentications: facts.established.saturating_sub(mobile_nodes),
        sas_lost: number(facts.lost_sas.len()),
        cleartext_packets: number(clear.len()),
        pings_sent: facts.pings_sent,
        pings_lost: facts.pings_lost,
        pings_lost_for_key: if lossy { facts.pings_lost_in_window.min(kernels_say) } else { facts.pings_lost_in_window },
        sad_matches_kernel: facts.differences.is_empty(),
        handovers: facts.handovers.iter().map(|movement| captures.handover(movement)).collect(),
        reasons: Vec::new(),
    };
    let mut reasons = facts.troubles.clone();
    reasons.extend(facts.differences.iter().cloned());
    reasons.extend(clear.into_iter().take(10));
    let made = number(captures.creations());
    if let Some(expected) = scenario.expect.creations.filter(|expected| *expected != made) {
        reasons.push(format!("{made} CREATE_CHILD_SA requests, {expected} expected"));
    }
    reasons.extend(captures.judge_elsewhere(scenario, facts));
    compare((scenario, cut_off), &report, facts, captures.packets_under(&facts.update_spis), &mut reasons);
    report.passed = reasons.is_empty();
    report.reasons = reasons;
    Ok(report)
}

fn compare((scenario, cut_off): (&Scenario, u32), report: &Report, facts: &Facts, updates: usize, reasons: &mut Vec<String>) {
    let expect = scenario.expect;
    let mut must = |fine: bool, words: String| {
        if !fine {
            reasons.push(words);
        }
    };
    let inits = expect.ike_sa_init.saturating_add(cut_off);
    must(report.ike_sa_init == inits, format!("{} IKE_SA_INIT sent, {inits} expected", report.ike_sa_init));
    let again = report.reauthentications;
    must(again == expect.reauthentications, format!("{again} re-authentications, {} expected", expect.reauthentications));
    must(expect.may_lose_sas || report.sas_lost == 0, facts.lost_sas.join("; "));
    let lost = report.pings_lost_for_key;
    must(lost <= expect.lost_for_key, format!("{lost} pings lost for want of a key, at most {} allowed", expect.lost_for_key));
    let answered = report.pings_sent.saturating_sub(report.pings_lost);
    // A real machine's daemons, links and duplicate address detection take their time; during it pings are lost for want of a place.
    let least = expect.answered / 3 * 2;
    must(report.pings_sent == 0 || answered >= least, format!("{answered} pings answered, {least} expected"));
    // A host that lost its SAs drops what still comes under the old ones; otherwise no counter may move.
    let may_drop = expect.may_lose_sas || expect.lost_for_key > 0;
    let counters: Vec<String> = facts.dropped_for_key.iter().map(|(name, count)| format!("{name} {count}")).collect();
    must(
        may_drop || counters.is_empty(),
        format!("kernels dropped packets for want of a key after the bootstrap: {}", counters.join(", ")),
    );
    must(!expect.no_update || updates == 0, format!("{updates} binding updates crossed a link, none expected"));
    let tests = facts.home_tests;
    must(tests >= expect.home_tests, format!("{tests} Home Tests came back, {} expected", expect.home_tests));
    let prefixes = facts.prefix_advertisements;
    must(prefixes >= expect.prefix_advertisements, format!("{prefixes} prefix advertisements, {} expected", expect.prefix_advertisements));
    for (node, children) in &facts.children {
        let refused = scenario.mobile_node(node).is_some_and(|plan| scenario.is_refused(plan));
        let wanted = if refused { 0 } else { expect.children };
        must(*children == wanted, format!("{node}: {children} child SAs in the end, {wanted} expected"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(begun: u64, from: &str, went_on: bool) -> Attempt {
        Attempt { begun, from: from.parse().expect("address"), went_on }
    }

    #[test]
    fn only_what_a_move_cut_off_makes_another_handshake_right() {
        let count = |list: Vec<Attempt>| {
            let spis = (0u8..).map(|number| [number; 8]);
            cut_off(&spis.zip(list).collect())
        };
        assert_eq!(count(vec![attempt(1, "2001:db8:f1::e", false), attempt(2, "2001:db8:f2::e", true)]), 1);
        assert_eq!(count(vec![attempt(1, "2001:db8:f1::e", true), attempt(2, "2001:db8:f2::e", true)]), 0, "it had its answer");
        assert_eq!(count(vec![attempt(1, "2001:db8:f1::e", false), attempt(2, "2001:db8:f1::e", true)]), 0, "nobody moved");
        assert_eq!(count(vec![attempt(1, "2001:db8:f1::e", false)]), 0, "nothing followed");
    }
}
