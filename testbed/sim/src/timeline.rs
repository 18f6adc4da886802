//! What happened, in lines that a person likes to read: milliseconds, host, what.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use watari_engine::Event;
use watari_kernel::mirror::Counter;
use watari_policies::{Direction, PolicyId, RemoteId, Selector};
use watari_sa::{ChildId, IkeId, KeyingEvent, Undeliverable};

use crate::home_agents::{SECOND, SECOND_HOME_AGENT};
use crate::scenario::{HA, HOME_AGENT, Link, MobilePlan, Scenario};
use crate::signalling::SignalEvent;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Virtual time, or time since the start.
    pub at: Duration,
    /// The host.
    pub host: String,
    /// What happened there.
    pub what: Happening,
}

/// The MIGRATE messages that came at one moment, and what followed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Burst {
    /// Messages heard.
    pub messages: u32,
    /// From and to, if this host moves itself.
    pub route: Option<(Option<IpAddr>, IpAddr)>,
    /// IKE SAs that follow.
    pub ike: BTreeSet<IkeId>,
    /// Child SAs that follow.
    pub children: BTreeSet<ChildId>,
    /// Whether addresses were remembered for policies without SAs.
    pub remembered: bool,
}

/// Words about an event of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// The words.
    pub text: String,
    /// Whether an IKE SA came up.
    pub up: bool,
    /// Whether only somebody who looks for a fault wants to read it.
    pub detail: bool,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A mobile node lost its link.
    LinkDown {
        /// The link it leaves.
        from: Link,
        /// The link it will come up on.
        to: Link,
    },
    /// A mobile node is on a link and has a tentative address.
    Attached {
        /// The link.
        link: Link,
        /// The address.
        address: IpAddr,
    },
    /// Duplicate address detection is over.
    Usable {
        /// The address.
        address: IpAddr,
    },
    /// The Mobile IPv6 daemon did something.
    Signal(SignalEvent),
    /// MIGRATE messages were heard.
    Migrated(Burst),
    /// The kernel refused a MIGRATE.
    MigrateRefused {
        /// Direction of the policy.
        direction: Direction,
        /// Selector of the policy.
        selector: Selector,
        /// errno.
        errno: i32,
    },
    /// The first IKE packet after a move left.
    FirstIke {
        /// Time the agent thought.
        thought: Duration,
        /// Time since the first MIGRATE.
        wait: Duration,
    },
    /// An IKE packet could not be sent.
    Undeliverable(Undeliverable),
    /// The kernel dropped a packet on its way in.
    Dropped(Counter),
    /// The agent told something.
    Agent(Words),
    /// The key-management daemon was killed.
    DaemonKilled,
    /// The key-management daemon started again.
    DaemonStarted,
    /// Somebody forged a binding update.
    Forged {
        /// In whose name.
        node: String,
    },
    /// The host went down.
    HostDown,
    /// The host booted.
    HostUp,
}

/// Names of an agent's remotes and policies.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Remotes in order of their ids.
    pub remotes: Vec<String>,
    /// Policies in order of their ids.
    pub policies: Vec<String>,
}

impl Names {
    fn remote(&self, id: RemoteId) -> &str {
        usize::try_from(id.0).ok().and_then(|at| self.remotes.get(at)).map_or("?", String::as_str)
    }

    fn policy(&self, id: PolicyId) -> &str {
        usize::try_from(id.0).ok().and_then(|at| self.policies.get(at)).map_or("?", String::as_str)
    }
}

/// Words for an agent's event; `None` for what has its own line or only noise to tell.
pub fn words(event: &Event, names: &Names) -> Option<Words> {
    let plain = |text: String| Some(Words { text, up: false, detail: false });
    let detail = |text: String| Some(Words { text, up: false, detail: true });
    match event {
        Event::Keying(event) => keying_words(event, names),
        Event::HomeAddress { remote, address, held: true } => plain(format!("home address {address} with {}", names.remote(*remote))),
        Event::HomeAddress { remote, address, held: false } => plain(format!("{address} is no longer with {}", names.remote(*remote))),
        Event::PeerAddress { remote, new, cause, .. } => {
            plain(format!("{} is at {} from now on: {}", names.remote(*remote), place(*new), cause.sentence))
        }
        Event::Recreated(child) => plain(format!("child SA {} was left behind by the kernel and is made again", child.0)),
        Event::Acquired { policy: Some(policy) } => plain(format!("kernel asks for SAs: {}", names.policy(*policy))),
        Event::Acquired { policy: None } => detail("kernel asks for SAs of a policy that is not ours".to_owned()),
        Event::Adopted(children) if !children.is_empty() => {
            plain(format!("{} SA pairs found in the kernel serve until replaced", children.len()))
        }
        Event::Reconciled { differences, .. } if !differences.is_empty() => plain(format!("state read again: {}", differences.join("; "))),
        Event::Notice { cause, detail: why } => detail(format!("{cause} {why}")),
        Event::MigrateIdle { why } => detail(format!("MIGRATE changes nothing: {why}")),
        Event::Relocated { remote, new, by, .. } => {
            let moves = if [HOME_AGENT, SECOND_HOME_AGENT].contains(&new.remote) { new.local } else { new.remote };
            plain(format!("IKE with {} goes on at {}: {by}", names.remote(*remote), place(moves)))
        }
        Event::BindingMessage { care_of, evidence, .. } => detail(format!("protected: {evidence:?} for {}", place(*care_of))),
        Event::Moved { .. }
        | Event::Remembered { .. }
        | Event::Adopted(_)
        | Event::Reconciled { .. }
        | Event::Address { .. }
        | Event::FirstPacketAfterMove { .. } => None,
    }
}

fn keying_words(event: &KeyingEvent, names: &Names) -> Option<Words> {
    let line = |text: String, up: bool, detail: bool| Some(Words { text, up, detail });
    let plain = |text: String| line(text, false, false);
    match event {
        KeyingEvent::InitSent { remote, path, .. } => {
            plain(format!("IKE_SA_INIT to {} from {}", names.remote(*remote), place(path.local.ip())))
        }
        KeyingEvent::IkeUp { identity, path, .. } => {
            line(format!("IKE SA with {identity} is up, {} - {}", place(path.local.ip()), place(path.remote.ip())), true, false)
        }
        KeyingEvent::IkeDown { remote, cause, detail, .. } => {
            let name = remote.map_or("a peer", |remote| names.remote(remote));
            plain(format!("IKE SA with {name} ended: {cause} {detail}"))
        }
        KeyingEvent::IkeRekeyed { .. } => plain("IKE SA rekeyed, its children live on".to_owned()),
        KeyingEvent::IkeMoved { old, new, .. } => {
            line(format!("IKE SA goes on at {} - {} (was {} - {})", new.local, new.remote, old.local, old.remote), false, true)
        }
        KeyingEvent::PathConfirmed { path, .. } => {
            plain(format!("the peer answers on {} - {}", place(path.local.ip()), place(path.remote.ip())))
        }
        KeyingEvent::PathProved { path, .. } => plain(format!("the peer answers from {}, as MIGRATE said", place(path.remote.ip()))),
        KeyingEvent::PathRefuted { path, .. } => plain(format!("the peer answers from {}, whatever MIGRATE said", place(path.remote.ip()))),
        KeyingEvent::PathUndecided { .. } => plain("the peer answers neither where it was nor where MIGRATE said".to_owned()),
        KeyingEvent::ChildUp(child) => plain(format!("child SA {} is up", child.0)),
        KeyingEvent::ChildDown { policy, cause, child } => {
            plain(format!("child SA {} ({}) ended: {cause}", child.0, names.policy(*policy)))
        }
        KeyingEvent::ChildRekeyed { old, new } => plain(format!("child SA {} replaces {}", new.0, old.0)),
        KeyingEvent::WantFailed { policy, cause, detail } => plain(format!("no SA for {}: {cause} {detail}", names.policy(*policy))),
        KeyingEvent::Dropped { cause, detail, .. } => line(format!("message dropped: {cause} {detail}"), false, true),
        KeyingEvent::Redirected { remote, to, .. } => plain(format!("{} sends us on to {}", names.remote(*remote), place(*to))),
        KeyingEvent::SentOn { path, remote, to } => {
            let who = if remote.is_some() { "the peer" } else { "a stranger" };
            plain(format!("{who} was sent on to {to} from {}", place(path.remote.ip())))
        }
        KeyingEvent::Keys { .. } => None,
    }
}

/// The name of the link an address belongs to, or the address itself.
pub fn place(address: IpAddr) -> String {
    let home_agent = [HA, SECOND].into_iter().find(|name| address == Scenario::home_agent_address(name));
    if let Some(name) = home_agent {
        return name.to_owned();
    }
    Link::of(address).map_or_else(|| address.to_string(), |link| link.name().to_owned())
}

impl Line {
    /// Whether only somebody who looks for a fault wants to read it.
    pub const fn is_detail(&self) -> bool {
        match &self.what {
            Happening::Agent(words) => words.detail,
            Happening::Dropped(_) => true,
            _ => false,
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.at.subsec_millis();
        write!(f, "{:>5}.{millis:03}  {:<4} {}", self.at.as_secs(), self.host, self.what)
    }
}

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LinkDown { from, to } => write!(f, "leaves {from} for {to}"),
            Self::Attached { link, address } => write!(f, "is on {link}, address {address} (tentative)"),
            Self::Usable { address } => write!(f, "address {address} is usable"),
            Self::Signal(event) => write_signal(f, event),
            Self::Migrated(burst) => write_burst(f, burst),
            Self::MigrateRefused { direction, selector, errno } => write!(f, "MIGRATE of {direction} {selector} refused: error {errno}"),
            Self::FirstIke { thought, wait } => write!(
                f,
                "first IKE packet from the new address: {} us of thinking, {} ms after MIGRATE",
                thought.as_micros(),
                wait.as_millis()
            ),
            Self::Undeliverable(Undeliverable::Tentative) => f.write_str("IKE waits for the address"),
            Self::Undeliverable(Undeliverable::NoRoute) => f.write_str("IKE has no route"),
            Self::Undeliverable(other) => write!(f, "IKE cannot be sent: {other:?}"),
            Self::Dropped(counter) => write!(f, "packet dropped: {counter}"),
            Self::Agent(words) => f.write_str(&words.text),
            Self::DaemonKilled => f.write_str("watarid is killed; the kernel keeps its SAs"),
            Self::DaemonStarted => f.write_str("watarid starts again"),
            Self::Forged { node } => write!(f, "sends a binding update in the name of {node}, without IPsec and without extension header"),
            Self::HostDown => f.write_str("host goes down; nothing remains"),
            Self::HostUp => f.write_str("host boots"),
        }
    }
}

fn write_signal(f: &mut fmt::Formatter<'_>, event: &SignalEvent) -> fmt::Result {
    match event {
        SignalEvent::Moving { from: Some(from), to } => write!(f, "mip6 moves {} -> {}", place(*from), place(*to)),
        SignalEvent::Moving { from: None, to } => write!(f, "mip6 finds itself on {}", place(*to)),
        SignalEvent::UpdateSent { care_of, sequence, ends, repeats } => {
            let what = if *ends { "BU (end of binding)" } else { "BU" };
            let again = if *repeats > 0 { format!(", repeat {repeats}") } else { String::new() };
            write!(f, "{what} {sequence} for {}{again}", place(*care_of))
        }
        SignalEvent::Accepted { home_address, care_of } => write!(f, "binding: {home_address} is at {}", place(*care_of)),
        SignalEvent::Ended { home_address } => write!(f, "binding: {home_address} is at home"),
        SignalEvent::Acknowledged { at } => write!(f, "BA: registered at {}", place(*at)),
        SignalEvent::Duplicate { home_address } => write!(f, "BA: another host has {home_address}"),
        SignalEvent::SendsAway { home_address, to } => write!(f, "Home Agent Switch: {home_address} is to go to {}", place(*to)),
        SignalEvent::Leaving { home_agent } => write!(f, "mip6 leaves {}", place(*home_agent)),
        SignalEvent::Gone { home_address } => write!(f, "binding: {home_address} goes to another home agent"),
        SignalEvent::HomeTested => f.write_str("HoT came back through the tunnel"),
        SignalEvent::PrefixAdvertised => f.write_str("MPA came back"),
    }
}

fn write_burst(f: &mut fmt::Formatter<'_>, burst: &Burst) -> fmt::Result {
    f.write_str("MIGRATE")?;
    if let Some((from, to)) = burst.route {
        write!(f, " {} -> {}", from.map_or_else(|| "boot".to_owned(), place), place(to))?;
    }
    let ike = match burst.ike.len() {
        0 => None,
        1 => Some("IKE SA".to_owned()),
        several => Some(format!("{several} IKE SAs")),
    };
    let children = match burst.children.len() {
        0 => None,
        1 => Some("1 child SA".to_owned()),
        several => Some(format!("{several} child SAs")),
    };
    let follow: Vec<String> = ike.into_iter().chain(children).collect();
    if !follow.is_empty() {
        let verb = if follow.len() == 1 && burst.ike.len() + burst.children.len() == 1 { "follows" } else { "follow" };
        write!(f, ": {} {verb}", follow.join(" and "))?;
    } else if burst.remembered {
        f.write_str(": addresses remembered for SAs to come")?;
    } else {
        f.write_str(": nothing to follow")?;
    }
    write!(f, " ({} messages)", burst.messages)
}

/// Names a mobile node's addresses in words, for a legend.
pub fn legend(plan: &MobilePlan) -> String {
    format!("{}: home address {}, on f1 {}", plan.name, plan.home_address(), plan.care_of(Link::F1))
}
