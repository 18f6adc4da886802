//! The timeline of a run on a real kernel, in the simulator's form: what the runner did, what watarid logged, what the captures show.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use watari_sim::scenario::Link;
use watari_sim::timeline::place;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Moment {
    /// Microseconds since the scenario began.
    pub(super) at_us: u64,
    /// The host.
    pub(super) host: String,
    /// What happened there.
    pub(super) text: String,
    /// Whether only somebody who looks for a fault wants to read it.
    pub(super) detail: bool,
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>5}.{:03}  {:<4} {}", self.at_us / 1_000_000, self.at_us / 1000 % 1000, self.host, self.text)
    }
}

/// What a line of watarid's log tells a person, if it was written after `begin` (microseconds since 1970).
pub(super) fn logged(host: &str, line: &Value, begin: u64) -> Option<Moment> {
    let word = |key: &str| line.get(key).and_then(Value::as_str).unwrap_or_default();
    let number = |key: &str| line.get(key).and_then(Value::as_u64).unwrap_or_default();
    let at_us = stamp_micros(word("ts"))?.checked_sub(begin)?;
    let message = word("msg");
    let text = match message {
        "IKE_SA_INIT sent" => format!("IKE_SA_INIT from {}", path(word("path"))),
        "IKE SA up" => format!("IKE SA with {} is up, {}", word("identity"), path(word("path"))),
        "IKE SA moved" => format!("IKE SA goes on at {} (was {})", path(word("to")), path(word("from"))),
        "IKE SA rekeyed" => "IKE SA rekeyed, its children live on".to_owned(),
        "child SA up" => format!("child SA {} is up", number("child")),
        "child SA rekeyed" => format!("child SA {} replaces {}", number("new"), number("old")),
        "the peer answered on the new path" => format!("the peer answers on {}", path(word("path"))),
        "SAs found in the kernel were taken over" => format!("{} SA pairs found in the kernel serve until replaced", number("child_sas")),
        "an SA that the kernel left behind was made again" => {
            format!("child SA {} was left behind by the kernel and is made again", number("child"))
        }
        other if other.starts_with("IKE SA down") || other.starts_with("child SA down") => other.to_owned(),
        other => usable(other)?,
    };
    let detail = message == "IKE SA moved" || message == "child SA down: A newer SA took its place.";
    Some(Moment { at_us, host: host.to_owned(), text, detail })
}

/// `Address { address: 2001:db8:f1::e, usable: true }`, for the addresses of a scenario.
fn usable(message: &str) -> Option<String> {
    let address = message.strip_prefix("Address { address: ")?.strip_suffix(", usable: true }")?;
    Link::of(address.parse().ok()?)?;
    Some(format!("address {address} is usable"))
}

/// `[2001:db8:f1::e]:500 -> [2001:db8:1::1]:500` as the names of two links.
fn path(text: &str) -> String {
    let name = |end: &str| end.parse().map(|end: SocketAddr| place(end.ip())).or_else(|_| end.parse::<IpAddr>().map(place));
    match text.split_once(" -> ").map(|(from, to)| (name(from), name(to))) {
        Some((Ok(from), Ok(to))) => format!("{from} - {to}"),
        _ => text.to_owned(),
    }
}

/// A UTC time stamp, `2026-11-21T13:42:23.123456`, with any number of decimals, in microseconds since 1970.
pub(super) fn stamp_micros(stamp: &str) -> Option<u64> {
    let (date, time) = stamp.trim_end_matches('Z').split_once('T')?;
    let number = |text: &str| text.parse::<u64>().ok();
    let mut date = date.split('-').map(number);
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut clock = clock.split(':').map(number);
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    // Days since 1970 in the proleptic Gregorian calendar, years counted from March.
    let (shifted_year, shifted_month) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let days = shifted_year * 365 + shifted_year / 4 - shifted_year / 100 + shifted_year / 400 + (shifted_month * 153 + 2) / 5 + day;
    let days = days.checked_sub(719_469)?;
    let micros = number(format!("{fraction:0<6}").get(..6)?)?;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000 + micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_as_utc() {
        assert_eq!(stamp_micros("1970-01-01T00:00:01.000002"), Some(1_000_002));
        assert_eq!(stamp_micros("2026-11-21T13:42:23.123456789Z"), Some(1_795_268_543_123_456));
        assert_eq!(stamp_micros("2024-02-29T00:00:00.5Z"), Some(1_709_164_800_500_000));
        assert_eq!(stamp_micros("2: eth0"), None);
    }

    #[test]
    fn a_logged_path_is_told_by_the_names_of_links() {
        let line = serde_json::json!({ "msg": "IKE SA up", "ts": "1970-01-01T00:00:02.5Z", "identity": "ha.example",
            "path": "[2001:db8:f1::ff:fe00:e]:500 -> [2001:db8:1::1]:500" });
        let moment = logged("mn", &line, 1_000_000).unwrap();
        assert_eq!(moment.to_string(), "    1.500  mn   IKE SA with ha.example is up, f1 - ha");
    }
}
