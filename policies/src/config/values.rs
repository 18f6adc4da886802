//! What may stand right of an equals sign: each reader returns the value, or complains and returns nothing.

use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use toml::de::DeValue;

use super::diagnostics::Report;
use super::document::{Section, Value, describe, printable};
use crate::algorithm::nearest;
use crate::model::Retransmit;
use crate::traffic::parse;
use crate::{AddressRange, Lifetime, MobilityRole, Reqid, TrafficItem};

/// Longest time that a configuration may name: ten years of 365 days.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

fn wrong(report: &mut Report<'_>, value: &Value<'_>, expected: &str) {
    let found = describe(value.get_ref());
    report.error(value.span(), format!("this is {found}, where {expected} is needed"));
}

/// A text.
pub(super) fn text<'a>(report: &mut Report<'_>, value: &'a Value<'a>) -> Option<&'a str> {
    let DeValue::String(text) = value.get_ref() else {
        wrong(report, value, "a text in quotes");
        return None;
    };
    Some(text.as_ref())
}

/// The absolute path of a file or socket.
pub(super) fn path<'a>(report: &mut Report<'_>, value: &'a Value<'a>) -> Option<&'a str> {
    let path = text(report, value)?;
    if !path.starts_with('/') || path.chars().any(char::is_control) {
        report
            .error(value.span(), format!("\"{}\" is not an absolute path", printable(path)))
            .help("write a path that begins with /, without control characters");
        return None;
    }
    Some(path)
}

/// A text that names something: not empty, printable, without spaces, at most 64 octets.
pub(super) fn name(report: &mut Report<'_>, value: &Value<'_>) -> Option<String> {
    let name = text(report, value)?;
    if let Some(why) = bad_name(name, LONGEST_NAME) {
        report.error(value.span(), format!("\"{}\" cannot be a name: {why}", printable(name)));
        return None;
    }
    Some(name.to_owned())
}

/// Most characters of a name.
pub(super) const LONGEST_NAME: usize = 64;

/// Why a text cannot be a name of at most `longest` characters.
pub(super) fn bad_name(name: &str, longest: usize) -> Option<&'static str> {
    if name.is_empty() {
        return Some("it is empty");
    }
    if name.len() > longest {
        return Some("it is too long");
    }
    let fits = |octet: u8| octet.is_ascii_graphic() && octet != b'"' && octet != b'\\';
    (!name.bytes().all(fits)).then_some("it may have letters, digits and signs of ASCII, but no space, quote or backslash")
}

/// A text that a type reads.
pub(super) fn parsed<T: FromStr<Err: Display>>(report: &mut Report<'_>, value: &Value<'_>) -> Option<T> {
    match text(report, value)?.parse() {
        Ok(read) => Some(read),
        Err(error) => {
            report.error(value.span(), error.to_string());
            None
        }
    }
}

/// An IP address.
pub(super) fn address(report: &mut Report<'_>, value: &Value<'_>) -> Option<IpAddr> {
    let text = text(report, value)?;
    let read = text.parse().ok();
    if read.is_none() {
        let complaint = report.error(value.span(), format!("\"{}\" is no IP address", printable(text)));
        if text.contains('/') {
            complaint.help("leave out the prefix length: one address is meant here");
        }
    }
    read
}

/// An IPv6 address that a host can have.
pub(super) fn unicast_v6(report: &mut Report<'_>, value: &Value<'_>) -> Option<IpAddr> {
    let read = address(report, value)?;
    let Some(why) = crate::mobility::no_mobile_address(read) else { return Some(read) };
    report
        .error(value.span(), format!("{read} cannot be used here: {why}"))
        .help("write a global IPv6 address, for example \"2001:db8:1::1\"");
    None
}

/// The word for a home address that the home agent assigns.
pub(super) const ASSIGN: &str = "assign";

/// A home address, or the word for one that is assigned at run time, which is read as the unspecified address.
pub(super) fn home_address(report: &mut Report<'_>, value: &Value<'_>) -> Option<IpAddr> {
    match value.get_ref() {
        DeValue::String(text) if text == ASSIGN => Some(MobilityRole::UNKNOWN),
        _ => unicast_v6(report, value),
    }
}

/// A range of addresses, `START-END` or a prefix.
pub(super) fn range(report: &mut Report<'_>, value: &Value<'_>) -> Option<AddressRange> {
    let item: TrafficItem = parsed(report, value)?;
    if item != TrafficItem::any(item.range) {
        report
            .error(value.span(), "this says more than addresses")
            .help("write \"START-END\" or a prefix, for example \"2001:db8:1::1000-2001:db8:1::1fff\"");
        return None;
    }
    Some(item.range)
}

/// A prefix; an address is a prefix of full length.
pub(super) fn prefix(report: &mut Report<'_>, value: &Value<'_>) -> Option<IpNet> {
    match parse::prefix(text(report, value)?) {
        Ok(prefix) => Some(prefix),
        Err(error) => {
            report.error(value.span(), error.to_string());
            None
        }
    }
}

/// One value or a list of them, at least one.
pub(super) fn list<'a, T>(
    report: &mut Report<'_>,
    value: &'a Value<'a>,
    one: impl Fn(&mut Report<'_>, &'a Value<'a>) -> Option<T>,
) -> Option<Vec<T>> {
    let DeValue::Array(array) = value.get_ref() else { return one(report, value).map(|read| vec![read]) };
    if array.is_empty() {
        report.error(value.span(), "this list is empty, at least one value is needed");
        return None;
    }
    // Every element is looked at, so that every complaint is made.
    let read: Vec<Option<T>> = array.iter().map(|element| one(report, element)).collect();
    read.into_iter().collect()
}

/// true or false.
pub(super) fn flag(report: &mut Report<'_>, value: &Value<'_>) -> Option<bool> {
    let read = value.get_ref().as_bool();
    if read.is_none() {
        wrong(report, value, "true or false");
    }
    read
}

/// A whole number within bounds.
pub(super) fn number(report: &mut Report<'_>, value: &Value<'_>, least: u64, most: u64) -> Option<u64> {
    let DeValue::Integer(integer) = value.get_ref() else {
        wrong(report, value, &format!("a whole number from {least} to {most}"));
        return None;
    };
    let read = u64::from_str_radix(integer.as_str(), integer.radix()).ok().filter(|read| (least..=most).contains(read));
    if read.is_none() {
        report.error(value.span(), format!("{integer} is out of range, a whole number from {least} to {most} is needed"));
    }
    read
}

/// A whole number of 32 bits that is at least `least`.
pub(super) fn number32(least: u32) -> impl Fn(&mut Report<'_>, &Value<'_>) -> Option<u32> {
    move |report, value| number(report, value, least.into(), u32::MAX.into()).and_then(|read| u32::try_from(read).ok())
}

/// A port, from 1.
pub(super) fn port(report: &mut Report<'_>, value: &Value<'_>) -> Option<u16> {
    number(report, value, 1, 65535).and_then(|read| u16::try_from(read).ok())
}

/// One of a few words.
pub(super) fn choice<T: Copy>(report: &mut Report<'_>, value: &Value<'_>, words: &[(&'static str, T)]) -> Option<T> {
    let word = text(report, value)?;
    let found = words.iter().find(|(known, _)| *known == word).map(|(_, meaning)| *meaning);
    if found.is_none() {
        let all: Vec<String> = words.iter().map(|(known, _)| format!("\"{known}\"")).collect();
        let near = nearest(word, words.iter().map(|(known, _)| *known));
        let help = near.map_or_else(
            || format!("write one of {}", all.join(", ")),
            |known| format!("did you mean \"{known}\"? The words are {}", all.join(", ")),
        );
        report.error(value.span(), format!("\"{}\" is not understood here", printable(word))).help(help);
    }
    found
}

/// A time of at least a millisecond, such as `1h30m`, `45s` or `500ms`.
pub(super) fn duration(report: &mut Report<'_>, value: &Value<'_>) -> Option<Duration> {
    time(report, value, "write a time, for example \"30s\"")
}

/// A time that is not zero; `instead` says what to write where zero was meant.
fn time(report: &mut Report<'_>, value: &Value<'_>, instead: &str) -> Option<Duration> {
    let zero = match value.get_ref() {
        DeValue::Integer(integer) => u64::from_str_radix(integer.as_str(), integer.radix()) == Ok(0),
        DeValue::String(text) => !text.trim().is_empty() && parse_duration(text) == Some(Duration::ZERO),
        _ => false,
    };
    if zero {
        report.error(value.span(), "a time of zero is not allowed here").help(instead);
        return None;
    }
    if let DeValue::Integer(integer) = value.get_ref() {
        report
            .error(value.span(), format!("the time {integer} has no unit"))
            .help(format!("write \"{integer}s\", \"{integer}m\" or \"{integer}h\""));
        return None;
    }
    let text = text(report, value)?;
    let read = parse_duration(text).filter(|read| (Duration::from_millis(1)..=LONGEST).contains(read));
    if read.is_none() {
        report
            .error(value.span(), format!("\"{}\" is no time", printable(text)))
            .help("write numbers with the units d, h, m, s or ms, for example \"1h30m\"; not zero and at most ten years");
    }
    read
}

fn parse_duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let (number, tail) = rest.split_at_checked(digits)?;
        let letters = tail.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, after) = tail.split_at_checked(letters)?;
        let millis: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        total = total.checked_add(Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(millis)?))?;
        rest = after.trim_start();
    }
    Some(total)
}

/// A time as `duration` reads it.
pub(super) fn duration_text(duration: Duration) -> String {
    let mut millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
        if millis >= size {
            text.push_str(&format!("{}{unit}", millis / size));
            millis %= size;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// A time, or "off" for never.
pub(super) fn duration_or_off(report: &mut Report<'_>, value: &Value<'_>) -> Option<Option<Duration>> {
    match value.get_ref() {
        DeValue::String(text) if text == "off" => Some(None),
        _ => time(report, value, "write \"off\" for never, or a time, for example \"60s\"").map(Some),
    }
}

/// Whose lifetime it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum LifetimeOf {
    Ike,
    Child,
}

/// A lifetime: a time, or a table of `hard`, `soft`, `jitter`, `bytes` and `packets`.
pub(super) fn lifetime(of: LifetimeOf) -> impl Fn(&mut Report<'_>, &Value<'_>) -> Option<Lifetime> {
    move |report, value| match value.get_ref() {
        DeValue::Table(table) => lifetime_table(report, Section::new("the lifetime", value.span(), table), of),
        _ => duration(report, value).map(Lifetime::of),
    }
}

fn lifetime_table(report: &mut Report<'_>, mut section: Section<'_>, of: LifetimeOf) -> Option<Lifetime> {
    let zero_or_time = |report: &mut Report<'_>, value: &Value<'_>| match value.get_ref() {
        DeValue::String(text) if text == "0s" => Some(Duration::ZERO),
        _ => time(report, value, "write \"0s\" for none"),
    };
    let any_number = |report: &mut Report<'_>, value: &Value<'_>| number(report, value, 0, i64::MAX.unsigned_abs());
    let hard = section.required(report, "hard", "hard = \"1h\"", duration);
    let soft = section.read(report, "soft", duration);
    let jitter = section.read(report, "jitter", zero_or_time);
    let mut counters = (None, None);
    if of == LifetimeOf::Child {
        counters = (section.read(report, "bytes", any_number), section.read(report, "packets", any_number));
    } else {
        section.without_effect(report, "bytes", "an IKE SA counts no octets");
        section.without_effect(report, "packets", "an IKE SA counts no packets");
    }
    section.finish(report);
    let hard = hard?;
    let mut life = Lifetime::of(hard.value);
    if let Some(soft) = &soft {
        if soft.value >= hard.value {
            report
                .error(
                    soft.span.clone(),
                    "the soft lifetime is not shorter than the hard one, so the SA would end before its replacement starts",
                )
                .related(hard.span.clone(), "the hard lifetime")
                .help(format!("write a shorter time, for example soft = \"{}\"", duration_text(life.soft)));
            return None;
        }
        life.soft = soft.value;
        life.jitter = life.jitter.min(soft.value / 2);
    }
    if let Some(jitter) = jitter {
        if jitter.value >= life.soft {
            report
                .error(jitter.span, "the jitter is not shorter than the soft lifetime, so an SA could be replaced as soon as it is made")
                .help(format!("write a shorter time, for example jitter = \"{}\"", duration_text(life.soft / 20)));
            return None;
        }
        life.jitter = jitter.value;
    }
    life.bytes = counters.0.map_or(0, |bytes| bytes.value);
    life.packets = counters.1.map_or(0, |packets| packets.value);
    Some(life)
}

/// A table of `initial`, `factor`, `cap` and `tries`.
pub(super) fn retransmit(report: &mut Report<'_>, value: &Value<'_>) -> Option<Retransmit> {
    let mut section = Section::of(report, "retransmit", value)?;
    let usual = Retransmit::default();
    let initial = section.read(report, "initial", duration);
    let factor = section.read(report, "factor", tenths);
    let cap = section.read(report, "cap", duration);
    let tries = section.read(report, "tries", |report, value| number(report, value, 1, 100).and_then(|read| u32::try_from(read).ok()));
    section.finish(report);
    let made = Retransmit {
        initial: initial.as_ref().map_or(usual.initial, |read| read.value),
        base_tenths: factor.map_or(usual.base_tenths, |read| read.value),
        cap: cap.as_ref().map_or(usual.cap, |read| read.value),
        tries: tries.map_or(usual.tries, |read| read.value),
    };
    if made.initial > made.cap {
        let span = initial.or(cap).map_or_else(|| value.span(), |read| read.span);
        report
            .error(
                span,
                format!("the first wait of {} is longer than the longest one, {}", duration_text(made.initial), duration_text(made.cap)),
            )
            .help("make \"cap\" longer or \"initial\" shorter");
        return None;
    }
    Some(made)
}

/// A factor from 1.0 to 10.0 with one decimal, in tenths.
fn tenths(report: &mut Report<'_>, value: &Value<'_>) -> Option<u32> {
    let text = match value.get_ref() {
        DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str(),
        DeValue::Float(float) => float.as_str(),
        _ => {
            wrong(report, value, "a number such as 1.8");
            return None;
        }
    };
    let (whole, decimal) = text.split_once('.').unwrap_or((text, "0"));
    let one_digit = decimal.len() == 1;
    let read =
        whole.parse::<u32>().ok().zip(decimal.parse::<u32>().ok()).and_then(|(whole, tenth)| whole.checked_mul(10)?.checked_add(tenth));
    let read = read.filter(|tenths| one_digit && (10..=100).contains(tenths));
    if read.is_none() {
        report
            .error(value.span(), format!("the factor {} is out of range", printable(text)))
            .help("write a number from 1.0 to 10.0 with one decimal, for example 1.8");
    }
    read
}

/// Two reqids, or one for both directions.
pub(super) fn reqid_pair(report: &mut Report<'_>, value: &Value<'_>) -> Option<(Reqid, Reqid)> {
    let one = number32(0);
    match value.get_ref() {
        DeValue::Array(array) => match array.iter().collect::<Vec<_>>().as_slice() {
            [first, second] => {
                let (first, second) = (one(report, first), one(report, second));
                Some((Reqid(first?), Reqid(second?)))
            }
            other => {
                report
                    .error(value.span(), format!("{} reqids stand here, where two are needed", other.len()))
                    .help("write [to home agent, to mobile node], for example [1, 2]");
                None
            }
        },
        _ => one(report, value).map(|both| (Reqid(both), Reqid(both))),
    }
}

/// Anti-replay window in packets: none, or up to what Linux keeps.
pub(super) fn replay_window(report: &mut Report<'_>, value: &Value<'_>) -> Option<u32> {
    number(report, value, 0, 4096).and_then(|read| u32::try_from(read).ok())
}
