//! The table `[watari]`: settings of the agent as a whole.

use super::diagnostics::Report;
use super::document::{Section, Value};
use super::values;
use crate::model::{KernelInterface, Settings};

/// The words of `backend`.
pub(super) const BACKENDS: [(&str, KernelInterface); 2] = [("xfrm", KernelInterface::Xfrm), ("pfkey", KernelInterface::PfKey)];

/// The word of `backend` for an interface.
#[must_use]
pub fn backend_name(backend: KernelInterface) -> &'static str {
    BACKENDS.iter().find(|(_, known)| *known == backend).map_or("", |(word, _)| word)
}

/// Reads `[watari]` into `settings`; what is not named keeps its default.
pub(super) fn read(report: &mut Report<'_>, value: &Value<'_>, settings: &mut Settings) {
    let Some(mut section) = Section::of(report, "[watari]", value) else { return };
    let port = section.read(report, "port", values::port);
    let natt_port = section.read(report, "natt_port", values::port);
    let cookie = section.read(report, "cookie_threshold", values::number32(0));
    let limit = section.read(report, "half_open_limit", values::number32(1));
    let control = section.read(report, "control", values::path);
    let backend = section.read(report, "backend", |report, value| values::choice(report, value, &BACKENDS));
    section.finish(report);
    settings.backend = backend.map_or(settings.backend, |read| read.value);
    settings.port = port.map_or(settings.port, |read| read.value);
    let natt_span = natt_port.as_ref().map_or_else(|| value.span(), |read| read.span.clone());
    settings.natt_port = natt_port.map_or(settings.natt_port, |read| read.value);
    if settings.port == settings.natt_port {
        report
            .error(natt_span, format!("port and natt_port are both {}, but messages are framed differently on the two", settings.port))
            .help("leave them at 500 and 4500, or give each its own number");
    }
    settings.half_open_limit = limit.map_or(settings.half_open_limit, |read| read.value);
    if let Some(cookie) = cookie {
        if cookie.value >= settings.half_open_limit {
            report
                .error(
                    cookie.span,
                    format!("no cookie would ever be asked for: only {} half-open IKE SAs are kept", settings.half_open_limit),
                )
                .help("make \"cookie_threshold\" less than \"half_open_limit\"");
        }
        settings.cookie_threshold = cookie.value;
    }
    if let Some(control) = control {
        settings.control = Some(control.value.to_owned());
    }
}
