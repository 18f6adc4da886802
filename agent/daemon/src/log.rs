//! The log: one `Event` enum rendered in one place. State changes are info, what needs a human is a warning with its cause code.

use slog::{Drain, Level, LevelFilter, Logger, debug, info, o, warn};
use slog_async::{Async, AsyncGuard, OverflowStrategy};
use watari_engine::Event;
use watari_sa::KeyingEvent;

/// A logger to standard error; the guard writes what is left when it is dropped.
pub(crate) fn logger(level: Level, json: bool) -> (Logger, AsyncGuard) {
    let (drain, guard) = if json {
        asynchronous(LevelFilter::new(slog_json::Json::default(std::io::stderr()), level).fuse())
    } else {
        let decorator = slog_term::PlainDecorator::new(std::io::stderr());
        asynchronous(LevelFilter::new(slog_term::FullFormat::new(decorator).build(), level).fuse())
    };
    (Logger::root(drain.fuse(), o!()), guard)
}

fn asynchronous<D>(drain: D) -> (Async, AsyncGuard)
where
    D: Drain<Err = slog::Never, Ok = ()> + Send + 'static,
{
    Async::new(drain).overflow_strategy(OverflowStrategy::DropAndReport).build_with_guard()
}

/// Writes one event.
pub(crate) fn log_event(log: &Logger, event: &Event) {
    match event {
        Event::Keying(keying) => log_keying(log, keying),
        Event::Moved { remote, old, new, ike, children, source } => info!(log, "moved";
            "remote" => remote.0, "from" => old.map(|old| format!("{} - {}", old.local, old.remote)),
            "to" => format!("{} - {}", new.local, new.remote), "ike_sas" => ike.len(), "child_sas" => children.len(), "heard_on" => ?source),
        Event::MigrateIdle { why } => debug!(log, "MIGRATE changes nothing"; "why" => why),
        Event::Notice { cause, detail } => warn!(log, "{}", cause.sentence; "code" => cause.code, "detail" => detail, "help" => cause.help),
        Event::Reconciled { lost: true, differences } => {
            warn!(log, "state was read again after lost events"; "differences" => differences.join("; "))
        }
        Event::Reconciled { lost: false, differences } if differences.is_empty() => debug!(log, "state was read again, nothing differs"),
        Event::Reconciled { lost: false, differences } => info!(log, "state was read again"; "differences" => differences.join("; ")),
        Event::Adopted(children) => info!(log, "SAs found in the kernel were taken over"; "child_sas" => children.len()),
        Event::HomeAddress { remote, address, held } => {
            info!(log, "{}", if *held { "home address assigned" } else { "home address released" };
            "remote" => remote.0, "address" => %address)
        }
        Event::PeerAddress { remote, old, new, cause, register } => {
            info!(log, "another address of the peer is in force: {}", cause.sentence;
            "remote" => remote.0, "from" => %old, "to" => %new, "code" => cause.code, "register" => register)
        }
        Event::Recreated(child) => info!(log, "an SA that the kernel left behind was made again"; "child" => child.0),
        Event::Relocated { remote, old, new, ike, by } => info!(log, "moved without MIGRATE";
            "remote" => remote.0, "from" => old.map(|old| format!("{} - {}", old.local, old.remote)),
            "to" => format!("{} - {}", new.local, new.remote), "ike_sas" => ike.len(), "by" => by),
        Event::FirstPacketAfterMove { remote, since_migrate } => info!(log, "first IKE packet after the move";
            "remote" => remote.0, "microseconds_since_migrate" => u64::try_from(since_migrate.as_micros()).unwrap_or(u64::MAX)),
        other => debug!(log, "{:?}", other),
    }
}

fn log_keying(log: &Logger, event: &KeyingEvent) {
    match event {
        KeyingEvent::InitSent { ike, remote, path } => {
            info!(log, "IKE_SA_INIT sent"; "ike" => ike.0, "remote" => remote.0, "path" => %path)
        }
        KeyingEvent::IkeUp { ike, remote, path, identity } => {
            info!(log, "IKE SA up"; "ike" => ike.0, "remote" => remote.0, "path" => %path, "identity" => %identity);
        }
        KeyingEvent::IkeDown { ike, cause, detail, .. } => {
            info!(log, "IKE SA down: {}", cause.sentence; "ike" => ike.0, "code" => cause.code, "detail" => detail, "help" => cause.help);
        }
        KeyingEvent::IkeRekeyed { old, new } => info!(log, "IKE SA rekeyed"; "old" => old.0, "new" => new.0),
        KeyingEvent::IkeMoved { ike, old, new } => info!(log, "IKE SA moved"; "ike" => ike.0, "from" => %old, "to" => %new),
        KeyingEvent::PathConfirmed { ike, path } => info!(log, "the peer answered on the new path"; "ike" => ike.0, "path" => %path),
        KeyingEvent::PathProved { ike, path } => info!(log, "the peer is where MIGRATE said"; "ike" => ike.0, "path" => %path),
        KeyingEvent::PathRefuted { ike, path } => info!(log, "the peer is not where MIGRATE said"; "ike" => ike.0, "path" => %path),
        KeyingEvent::PathUndecided { ike } => info!(log, "where the peer is could not be learnt"; "ike" => ike.0),
        KeyingEvent::ChildUp(child) => info!(log, "child SA up"; "child" => child.0),
        KeyingEvent::ChildDown { child, cause, .. } => {
            info!(log, "child SA down: {}", cause.sentence; "child" => child.0, "code" => cause.code);
        }
        KeyingEvent::ChildRekeyed { old, new } => info!(log, "child SA rekeyed"; "old" => old.0, "new" => new.0),
        KeyingEvent::WantFailed { policy, cause, detail } => {
            warn!(log, "{}", cause.sentence; "policy" => policy.0, "code" => cause.code, "detail" => detail, "help" => cause.help);
        }
        KeyingEvent::Dropped { path, cause, detail } => {
            warn!(log, "{}", cause.sentence; "path" => %path, "code" => cause.code, "detail" => detail);
        }
        KeyingEvent::Redirected { ike, remote, from, to } => {
            info!(log, "redirected"; "ike" => ike.0, "remote" => remote.0, "from" => %from, "to" => %to);
        }
        // Whoever sends a first message causes this one: not for a log that anybody could fill.
        KeyingEvent::SentOn { path, remote: None, to } => {
            debug!(log, "a stranger was sent on"; "path" => %path, "to" => to);
        }
        KeyingEvent::SentOn { path, remote: Some(remote), to } => {
            info!(log, "the peer was sent on"; "path" => %path, "remote" => remote.0, "to" => to);
        }
        KeyingEvent::Keys { .. } => {}
    }
}
