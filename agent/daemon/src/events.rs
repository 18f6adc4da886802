//! The agent's events as control events, under the names that strongSwan's clients register for; SAs are named by number.

use watari_engine::Event;
use watari_engine::vici::Section;
use watari_sa::KeyingEvent;

/// The control event for what happened; `None` for what nobody registers for.
pub(crate) fn control_event(event: &Event) -> Option<(&'static str, Section)> {
    let section = Section::new;
    Some(match event {
        Event::Keying(keying) => return of_keying(keying),
        Event::Moved { remote, new, ike, children, .. } => (
            "ike-update",
            section()
                .with("remote", remote.0)
                .with("local-host", new.local)
                .with("remote-host", new.remote)
                .with_list("ike-sas", ike.iter().map(|ike| ike.0.to_string()))
                .with_list("child-sas", children.iter().map(|child| child.0.to_string())),
        ),
        Event::HomeAddress { remote, address, held } => (
            "home-address",
            section().with("remote", remote.0).with("home-address", address).with("held", if *held { "yes" } else { "no" }),
        ),
        Event::PeerAddress { remote, old, new, cause, register } => (
            "peer-address",
            section()
                .with("remote", remote.0)
                .with("old", old)
                .with("new", new)
                .with("code", cause.code)
                .with("register", if *register { "yes" } else { "no" }),
        ),
        Event::Notice { cause, detail } => {
            ("alert", section().with("code", cause.code).with("sentence", cause.sentence).with("detail", detail))
        }
        _ => return None,
    })
}

fn of_keying(event: &KeyingEvent) -> Option<(&'static str, Section)> {
    let section = Section::new;
    Some(match event {
        KeyingEvent::IkeUp { ike, path, identity, .. } => {
            ("ike-updown", section().with("up", "yes").with("uniqueid", ike.0).with("path", path).with("remote-id", identity))
        }
        KeyingEvent::IkeDown { ike, cause, detail, .. } => {
            ("ike-updown", section().with("up", "no").with("uniqueid", ike.0).with("code", cause.code).with("detail", detail))
        }
        KeyingEvent::IkeRekeyed { old, new } => ("ike-rekey", section().with("old", old.0).with("new", new.0)),
        KeyingEvent::IkeMoved { ike, old, new } => ("ike-update", section().with("uniqueid", ike.0).with("old", old).with("new", new)),
        KeyingEvent::ChildUp(child) => ("child-updown", section().with("up", "yes").with("uniqueid", child.0)),
        KeyingEvent::ChildDown { child, cause, .. } => {
            ("child-updown", section().with("up", "no").with("uniqueid", child.0).with("code", cause.code))
        }
        KeyingEvent::ChildRekeyed { old, new } => ("child-rekey", section().with("old", old.0).with("new", new.0)),
        KeyingEvent::WantFailed { policy, cause, detail } => {
            ("alert", section().with("policy", policy.0).with("code", cause.code).with("sentence", cause.sentence).with("detail", detail))
        }
        _ => return None,
    })
}
