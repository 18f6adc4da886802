//! `watari status`, `sas` and `watch`: one screen that says what stands, what moved last and what comes next.

use std::path::Path;

use serde_json::Value;
use watari_engine::status::{Child, DoubtedMove, Ike, Move, Pair, RemoteStatus, Status};
use watari_engine::vici::{Section, Value as ViciValue};

use crate::Trouble;
use crate::client::{Client, json};

/// Events that `watch` registers for.
const WATCHED: &[&str] = &["ike-updown", "ike-rekey", "ike-update", "child-updown", "child-rekey", "home-address", "peer-address", "alert"];

/// Shows the daemon's status.
pub(crate) fn show(control: &Path, as_json: bool) -> Result<(), Trouble> {
    let mut client = Client::connect(control).map_err(Trouble::Unreachable)?;
    let answer = client.command("watari-status", Vec::new()).map_err(Trouble::Refused)?;
    let text = json(&answer.end).ok_or_else(|| Trouble::Refused("the daemon gave no status".to_owned()))?;
    if as_json {
        println!("{text}");
        return Ok(());
    }
    let status: Status =
        serde_json::from_str(&text).map_err(|error| Trouble::Refused(format!("the daemon is of another version: {error}")))?;
    print!("{}", screen(&status));
    Ok(())
}

/// Lists IKE SAs as `list-sas` gives them.
pub(crate) fn sas(control: &Path, as_json: bool) -> Result<(), Trouble> {
    let mut client = Client::connect(control).map_err(Trouble::Unreachable)?;
    client.register("list-sa").map_err(Trouble::Refused)?;
    let answer = client.command("list-sas", Vec::new()).map_err(Trouble::Refused)?;
    for (_, row) in &answer.rows {
        println!("{}", if as_json { object(row).to_string() } else { line(row) });
    }
    Ok(())
}

/// Prints events until the daemon ends.
pub(crate) fn watch(control: &Path) -> Result<(), Trouble> {
    let mut client = Client::connect(control).map_err(Trouble::Unreachable)?;
    for event in WATCHED {
        client.register(event).map_err(Trouble::Refused)?;
    }
    loop {
        let (name, section) = client.event().map_err(Trouble::Unreachable)?;
        println!("{name} {}", line(&section));
    }
}

/// A section as a JSON object.
fn object(section: &Section) -> Value {
    let value = |value: &ViciValue| match value {
        ViciValue::Scalar(octets) => Value::String(String::from_utf8_lossy(octets).into_owned()),
        ViciValue::List(items) => items.iter().map(|item| Value::String(String::from_utf8_lossy(item).into_owned())).collect(),
        ViciValue::Section(inner) => object(inner),
    };
    Value::Object(section.0.iter().map(|(name, content)| (name.clone(), value(content))).collect())
}

/// A section on one line.
fn line(section: &Section) -> String {
    let value = |value: &ViciValue| match value {
        ViciValue::Scalar(octets) => String::from_utf8_lossy(octets).into_owned(),
        ViciValue::List(items) => items.iter().map(|item| String::from_utf8_lossy(item)).collect::<Vec<_>>().join(","),
        ViciValue::Section(inner) => format!("{{ {} }}", line(inner)),
    };
    section.0.iter().map(|(name, content)| format!("{name}={}", value(content))).collect::<Vec<_>>().join(" ")
}

/// One screen: remote, its IKE SAs, their children.
fn screen(status: &Status) -> String {
    let mut lines: Vec<String> = status.remotes.iter().flat_map(remote_lines).collect();
    if status.omitted > 0 {
        lines.push(format!("{} more remotes: too many for one answer", status.omitted));
    }
    let drops: Vec<String> = status.counters.drops.iter().map(|(code, count)| format!("{code} {count}")).collect();
    if !drops.is_empty() {
        lines.push(format!("dropped: {}", drops.join(", ")));
    }
    lines.extend(status.next.iter().map(|next| format!("next: {} of {} in {:.1} s", next.timer, next.whose, next.in_ms as f64 / 1000.0)));
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn remote_lines(remote: &RemoteStatus) -> Vec<String> {
    let home = remote.home_address.as_ref().map_or_else(String::new, |home| format!(", home address {home}"));
    let mut lines = vec![format!("{} ({}{home})", remote.name, remote.role)];
    lines.extend(remote.last_move.iter().map(|last| format!("  {}", last_move(last))));
    lines.extend([&remote.doubt, &remote.last_verdict].into_iter().flatten().map(|doubted| format!("  {}", doubted_move(doubted))));
    if remote.ike_sas.is_empty() {
        lines.push("  no IKE SA".to_owned());
    }
    lines.extend(remote.ike_sas.iter().flat_map(ike_lines));
    lines.extend(remote.adopted.iter().map(|child| format!("  {} (found in the kernel, until it is replaced)", child_line(child))));
    let absent = remote.policies.iter().filter(|policy| !policy.present).map(|policy| policy.name.as_str()).collect::<Vec<_>>();
    if !absent.is_empty() {
        lines.push(format!("  not in the kernel now: {}", absent.join(", ")));
    }
    lines
}

fn pair(pair: &Pair) -> String {
    format!("{} - {}", pair.local, pair.remote)
}

fn doubted_move(doubted: &DoubtedMove) -> String {
    let from = doubted.from.as_ref().map_or_else(|| "nowhere".to_owned(), pair);
    let (to, since) = (pair(&doubted.to), utc(doubted.since_s));
    match (&doubted.verdict, doubted.until_s) {
        (Some(verdict), until) => {
            let until = until.map_or_else(String::new, |until| format!(", {}", utc(until)));
            format!("last doubt: {from} -> {to} of {since}: {verdict}{until}")
        }
        (None, _) => format!("doubted since {since}: {from} -> {to}; IKE stays until the peer has shown where it is"),
    }
}

/// Time of day of a number of seconds since the Unix epoch.
fn utc(seconds: u64) -> String {
    let of_day = seconds % 86_400;
    format!("{:02}:{:02}:{:02} UTC", of_day / 3600, of_day / 60 % 60, of_day % 60)
}

fn last_move(last: &Move) -> String {
    let from = last.from.as_ref().map_or_else(|| "nowhere".to_owned(), pair);
    let first = last.first_packet_us.map_or_else(String::new, |us| format!(", first IKE packet after {us} us"));
    format!("moved {from} -> {}{first}", pair(&last.to))
}

fn ike_lines(ike: &Ike) -> Vec<String> {
    let tasks = if ike.tasks.is_empty() { String::new() } else { format!(", doing {}", ike.tasks.join(", ")) };
    let nat = match (ike.nat_local, ike.nat_remote) {
        (false, false) => "",
        (true, false) => ", NAT in front of this host",
        (false, true) => ", NAT in front of the peer",
        (true, true) => ", NAT in front of both",
    };
    let head =
        format!("  IKE SA {} {} {} - {} {}{nat}{}{tasks}", ike.id, ike.state, ike.local, ike.remote, ike.suite, rekey(ike.rekey_in_s));
    std::iter::once(head).chain(ike.children.iter().map(|child| format!("    {}", child_line(child)))).collect()
}

fn child_line(child: &Child) -> String {
    format!(
        "{} {} {} {} in {} out {} at {} - {}{}",
        child.policy,
        child.state,
        child.mode,
        child.suite,
        child.inbound.spi,
        child.outbound.spi,
        child.outbound.src,
        child.outbound.dst,
        rekey(child.rekey_in_s)
    )
}

fn rekey(seconds: Option<u64>) -> String {
    seconds.map_or_else(String::new, |seconds| format!(", rekey in {seconds} s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a mobile node's daemon answered on a real kernel after a move, shortened to one child.
    const ANSWER: &str = include_str!("../tests/status.json");

    #[test]
    fn a_real_answer_is_shown_with_its_move_its_sas_and_what_comes_next() {
        let status: Status = serde_json::from_str(ANSWER).unwrap();
        let text = screen(&status);
        for part in [
            "home-agent (",
            "home address 2001:db8:1::abcd",
            "moved ",
            "IKE SA ",
            "ESTABLISHED",
            "binding INSTALLED TRANSPORT",
            "next: liveness",
        ] {
            assert!(text.contains(part), "`{part}` is missing:\n{text}");
        }
    }

    #[test]
    fn a_remote_without_ike_sa_says_so() {
        let mut status: Status = serde_json::from_str(ANSWER).unwrap();
        status.remotes.iter_mut().for_each(|remote| remote.ike_sas.clear());
        assert!(screen(&status).contains("no IKE SA"));
    }

    #[test]
    fn a_doubt_its_verdict_and_a_nat_are_shown() {
        let mut status: Status = serde_json::from_str(ANSWER).unwrap();
        let at = |local: &str, remote: &str| Pair { local: local.to_owned(), remote: remote.to_owned() };
        let doubt = DoubtedMove { since_s: 86_400 + 3_725, from: Some(at("h", "old")), to: at("h", "new"), verdict: None, until_s: None };
        let last = DoubtedMove { verdict: Some("refuted".to_owned()), until_s: Some(3_726), ..doubt.clone() };
        let remote = &mut status.remotes[0];
        (remote.doubt, remote.last_verdict) = (Some(doubt), Some(last));
        remote.ike_sas[0].nat_remote = true;
        let text = screen(&status);
        for part in [
            "doubted since 01:02:05 UTC: h - old -> h - new",
            "last doubt: h - old -> h - new of 01:02:05 UTC: refuted, 01:02:06 UTC",
            ", NAT in front of the peer",
        ] {
            assert!(text.contains(part), "`{part}` is missing:\n{text}");
        }
        let back: Status = serde_json::from_str(&status.to_json()).unwrap();
        assert_eq!(back, status);
    }

    #[test]
    fn nested_sections_become_nested_objects() {
        let section = Section::new().with("a", 1).with_section("b", Section::new().with_list("c", ["x".to_owned()]));
        assert_eq!(object(&section).to_string(), r#"{"a":"1","b":{"c":["x"]}}"#);
        assert_eq!(line(&section), "a=1 b={ c=x }");
    }
}
