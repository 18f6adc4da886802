//! Walks through the steps of one case inside the guest. Every step ends with both programs and both kernels showing the same.

use std::collections::BTreeSet;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use super::case::{Case, Program, Step, Traffic, Who};
use super::end::{self, End, View};
use super::kernel::{sad, spi, spis};
use super::net::{Hosts, LINK, second};
use super::traffic::{Pings, half_open, mobility};
use crate::uml::guest::Guest;
use crate::uml::{Failure, Result};

/// How long a step may take to show its result.
const PATIENCE: Duration = Duration::from_secs(12);
/// Echo requests during a rekey: 1.2 s of them at least.
const PINGS: usize = 60;

/// A case under way.
pub(super) struct Drive<'a> {
    hosts: &'a Hosts,
    case: &'a Case,
    us: Option<Box<dyn End>>,
    peer: Option<Box<dyn End>>,
    starts: usize,
    losing: bool,
}

impl<'a> Drive<'a> {
    /// Runs a case from its first to its last step; returns what went wrong, nothing if it passed.
    pub(super) fn run(guest: &Guest, hosts: &'a Hosts, case: &'a Case) -> Vec<String> {
        let mut drive = Self { hosts, case, us: None, peer: None, starts: 0, losing: false };
        drive.run_captured(guest).unwrap_or_else(|failure| vec![failure.to_string()])
    }

    fn run_captured(&mut self, guest: &Guest) -> Result<Vec<String>> {
        self.hosts.flush(Who::Us)?;
        self.hosts.flush(Who::Peer)?;
        let capture = guest.capture(LINK, &format!("{}.pcap", self.case.name))?;
        let mut complaints = Vec::new();
        if let Err(failure) = self.walk() {
            complaints.push(failure.to_string());
        }
        self.lossy(0)?;
        // What they say to each other while they are stopped one after the other is not part of the case.
        capture.stop()?;
        for who in [Who::Us, Who::Peer] {
            let excused = self.case.excused;
            let end = self.slot(who);
            let said = end.as_ref().map(|end| end.complaints()).unwrap_or_default();
            complaints.extend(said.into_iter().filter(|line| !excused.iter().any(|word| line.contains(word))));
            if let Some(Err(failure)) = end.as_mut().map(|end| end.stop()) {
                complaints.push(failure.to_string());
            }
        }
        Ok(complaints)
    }

    fn walk(&mut self) -> Result<()> {
        let begin = Instant::now();
        self.begin(Who::Peer)?;
        self.begin(Who::Us)?;
        println!("{}: started in {} ms", self.case.name, begin.elapsed().as_millis());
        for (number, step) in self.case.steps.iter().enumerate() {
            let begin = Instant::now();
            self.step(*step).map_err(|failure| Failure(format!("step {} ({step:?}): {failure}", number + 1)))?;
            println!("{}: {step:?} in {} ms", self.case.name, begin.elapsed().as_millis());
        }
        Ok(())
    }

    fn slot(&mut self, who: Who) -> &mut Option<Box<dyn End>> {
        match who {
            Who::Us => &mut self.us,
            Who::Peer => &mut self.peer,
        }
    }

    fn program(&self, who: Who) -> Program {
        match who {
            Who::Us => self.case.left,
            Who::Peer => Program::Strongswan,
        }
    }

    fn begin(&mut self, who: Who) -> Result<()> {
        let program = self.program(who);
        self.starts += 1;
        // A second start must not write over the first one's log.
        let label = match self.starts {
            0..=2 => self.case.name.clone(),
            again => format!("{}-{again}", self.case.name),
        };
        *self.slot(who) = Some(end::start(self.hosts, program, who, &self.case.terms, &label)?);
        Ok(())
    }

    fn end(&self, who: Who) -> Result<&dyn End> {
        let end = match who {
            Who::Us => &self.us,
            Who::Peer => &self.peer,
        };
        end.as_deref().ok_or_else(|| Failure(format!("nothing runs on {}", who.host())))
    }

    fn step(&mut self, step: Step) -> Result<()> {
        match step {
            Step::Initiate(who) => {
                self.end(who)?.initiate()?;
                self.settle(1, 1).map(|_| ())
            }
            Step::Refused(who, ike_sas) => self.refused(who, ike_sas),
            Step::Acquire(who) => self.acquire(who),
            Step::Ping => self.ping(),
            Step::Mobility(who, kind) => mobility(self.hosts, who, kind, Duration::from_secs(2)),
            Step::RekeyChild(who) => self.rekey(Swap::Child, |ends| ends.of(who)?.rekey_child()),
            Step::RekeyIke(who) => self.rekey(Swap::Ike, |ends| ends.of(who)?.rekey_ike()),
            Step::CollideChild => self.rekey(Swap::Child, |ends| ends.both(|end| end.rekey_child())),
            Step::CollideIke => self.rekey(Swap::Ike, |ends| ends.both(|end| end.rekey_ike())),
            // The judge looks for the exchange in the capture; two idle seconds start it.
            Step::Liveness(_) => {
                sleep(Duration::from_millis(3500));
                self.settle(1, 1).map(|_| ())
            }
            Step::Redirect(who) => self.redirect(who),
            Step::DeleteChild(who) => {
                self.end(who)?.delete_child()?;
                self.settle(1, 0).map(|_| ())
            }
            Step::DeleteIke(who) => {
                self.end(who)?.delete_ike()?;
                self.settle(0, 0).map(|_| ())
            }
            Step::Crash(who) => {
                if let Some(mut end) = self.slot(who).take() {
                    end.crash();
                }
                match self.program(who) {
                    Program::Strongswan => self.hosts.flush(who),
                    Program::Watari | Program::WatariBySwanctl => Ok(()),
                }
            }
            Step::Restart(who) => self.begin(who),
            Step::Recovered => self.settle(1, 1).map(|_| ()),
            Step::NoticeDeath(who) => self.notice_death(who),
            Step::Outlive(time) => self.outlive(time),
            Step::Lossy(percent) => self.lossy(percent),
            Step::Wait(time) => {
                sleep(time);
                Ok(())
            }
            Step::HalfOpen => half_open(self.hosts, &self.case.terms),
        }
    }

    fn refused(&self, who: Who, ike_sas: usize) -> Result<()> {
        match self.end(who)?.initiate() {
            Ok(()) => Err(Failure(format!("{} was not told of a failure", who.host()))),
            Err(_) => self.settle(ike_sas, 0).map(|_| ()),
        }
    }

    fn outlive(&self, time: Duration) -> Result<()> {
        let before = self.settle(1, 1)?;
        let count = usize::try_from(time.as_millis() / 20).unwrap_or(0);
        Pings::start(self.hosts, &self.case.terms, Who::Us, count)?.all_answered()?;
        // There may be no moment in which nothing is being replaced: only what is new counts.
        let after = self.end(Who::Us)?.view()?;
        match before.children != after.children && before.ike_sas != after.ike_sas {
            true => Ok(()),
            false => Err(Failure(format!("nothing was rekeyed in {} s: before {before:?}, after {after:?}", time.as_secs()))),
        }
    }

    fn lossy(&mut self, percent: u32) -> Result<()> {
        for who in [Who::Us, Who::Peer] {
            self.hosts.of(who).exec(&format!("tc qdisc replace dev eth0 root netem loss {percent}%"))?;
        }
        self.losing = percent > 0;
        Ok(())
    }

    /// Waits until both ends and both kernels hold the same SAs, so many of each.
    fn settle(&self, ike_sas: usize, children: usize) -> Result<View> {
        let begin = Instant::now();
        loop {
            let (us, peer) = (self.end(Who::Us)?.view()?, self.end(Who::Peer)?.view()?);
            let (here, there) = (sad(self.hosts.of(Who::Us))?, sad(self.hosts.of(Who::Peer))?);
            let counted = us.ike_sas.len() == ike_sas && us.children.len() == children && us.mirrors(&peer);
            // With lifetimes of seconds something is being replaced all the time.
            let started = self.case.terms.short_lived && children > 0 && !us.children.is_empty();
            if started || (counted && here == there && spis(&here) == view_spis(&us)) {
                return Ok(us);
            }
            let patience = if self.losing { PATIENCE * 3 } else { PATIENCE };
            if begin.elapsed() > patience {
                return Err(Failure(format!(
                    "wanted {ike_sas} IKE SA and {children} child SA at both ends; us {us:?}, kernel {here:#?}; peer {peer:?}, kernel {there:#?}"
                )));
            }
            sleep(Duration::from_millis(50));
        }
    }

    fn ping(&self) -> Result<()> {
        for from in [Who::Us, Who::Peer] {
            Pings::start(self.hosts, &self.case.terms, from, 5)?.all_answered()?;
        }
        Ok(())
    }

    fn acquire(&self, who: Who) -> Result<()> {
        match self.case.terms.traffic {
            Traffic::MobilityHeader => mobility(self.hosts, who, 5, PATIENCE)?,
            Traffic::Any | Traffic::Icmpv6 => {
                let begin = Instant::now();
                while Pings::start(self.hosts, &self.case.terms, who, 1)?.answered()? == 0 {
                    if begin.elapsed() > PATIENCE {
                        return Err(Failure::new("no echo request was answered"));
                    }
                }
            }
        }
        self.settle(1, 1).map(|_| ())
    }

    /// Replaces SAs under traffic: nothing may be lost, and what was to be replaced must be.
    fn rekey(&self, swap: Swap, start: impl FnOnce(&Ends<'_>) -> Result<()>) -> Result<()> {
        let before = self.settle(1, 1)?;
        let pings = match self.case.terms.traffic {
            Traffic::MobilityHeader => None,
            Traffic::Any | Traffic::Icmpv6 => Some(Pings::start(self.hosts, &self.case.terms, Who::Us, PINGS)?),
        };
        sleep(Duration::from_millis(300));
        start(&Ends { us: self.end(Who::Us)?, peer: self.end(Who::Peer)? })?;
        match pings {
            Some(pings) if self.losing => drop(pings.answered()?),
            Some(pings) => pings.all_answered()?,
            None => {}
        }
        let begin = Instant::now();
        loop {
            let after = self.settle(1, 1)?;
            match (swap, before.children != after.children, before.ike_sas != after.ike_sas) {
                (Swap::Child, true, false) | (Swap::Ike, false, true) => return Ok(()),
                // A request that is lost is repeated: until then everything stands as before.
                (_, false, false) if self.losing && begin.elapsed() < PATIENCE * 3 => sleep(Duration::from_millis(100)),
                _ => return Err(Failure(format!("{swap:?} was to be replaced, nothing else: before {before:?}, after {after:?}"))),
            }
        }
    }

    /// One end sends the other on to its second address. Watari goes there make before break, so nothing may be lost then.
    fn redirect(&self, who: Who) -> Result<()> {
        let before = self.settle(1, 1)?;
        let pings = (self.program(who.other()) != Program::Strongswan)
            .then(|| Pings::start(self.hosts, &self.case.terms, Who::Us, 4 * PINGS))
            .transpose()?;
        self.end(who)?.redirect(second(who, self.case.terms.family))?;
        let begin = Instant::now();
        let new = |view: &View| view.children.iter().all(|child| !before.children.contains(child)) && view.ike_sas != before.ike_sas;
        while !new(&self.end(Who::Us)?.view()?) {
            if begin.elapsed() > PATIENCE {
                return Err(Failure(format!("nothing went to the second address: {:?}", self.end(Who::Us)?.view()?)));
            }
            sleep(Duration::from_millis(50));
        }
        // From when the gateway has the new SA until its answer to IKE_AUTH is here, what it sends under it fits nothing yet.
        pings.map_or(Ok(()), |pings| pings.answered_but(PINGS / 5))?;
        self.settle(1, 1).map(|_| ())
    }

    fn notice_death(&self, who: Who) -> Result<()> {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(30) {
            if self.end(who)?.view()? == View::default() && sad(self.hosts.of(who))?.is_empty() {
                return Ok(());
            }
            sleep(Duration::from_millis(200));
        }
        Err(Failure(format!("{} still holds SAs with a dead peer", who.host())))
    }
}

/// What a rekey replaces.
#[derive(Debug, Clone, Copy)]
enum Swap {
    Child,
    Ike,
}

/// Both programs, to be steered at once.
struct Ends<'a> {
    us: &'a dyn End,
    peer: &'a dyn End,
}

impl<'a> Ends<'a> {
    fn of(&self, who: Who) -> Result<&'a dyn End> {
        Ok(match who {
            Who::Us => self.us,
            Who::Peer => self.peer,
        })
    }

    /// Does the same at both ends at the same moment.
    fn both(&self, action: impl Fn(&dyn End) -> Result<()> + Sync) -> Result<()> {
        let (here, there) = thread::scope(|scope| {
            let other = scope.spawn(|| action(self.peer));
            let here = action(self.us);
            (here, other.join().unwrap_or_else(|_| Err(Failure::new("the thread at the peer panicked"))))
        });
        here.and(there)
    }
}

fn view_spis(view: &View) -> BTreeSet<u32> {
    view.children.iter().flat_map(|(inbound, outbound)| [spi(inbound), spi(outbound)]).flatten().collect()
}
