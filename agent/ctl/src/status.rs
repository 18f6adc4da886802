//! `watari status` and `watari watch`: one screen that says what stands, what moved last and what comes next.

use std::path::Path;

use serde_json::Value;
use watari_engine::vici::{Section, Value as ViciValue};

use crate::Trouble;
use crate::client::{Client, json};

/// Events that `watch` registers for.
const WATCHED: &[&str] = &["ike-updown", "ike-rekey", "ike-update", "child-updown", "child-rekey", "alert"];

/// Shows the daemon's status.
pub(crate) fn show(control: &Path, as_json: bool) -> Result<(), Trouble> {
    let mut client = Client::connect(control).map_err(Trouble::Unreachable)?;
    let answer = client.command("watari-status", Vec::new()).map_err(Trouble::Refused)?;
    let text = json(&answer.end).ok_or_else(|| Trouble::Refused("the daemon gave no status".to_owned()))?;
    if as_json {
        println!("{text}");
        return Ok(());
    }
    let status: Value = serde_json::from_str(&text).map_err(|error| Trouble::Refused(format!("the status is not JSON: {error}")))?;
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
fn screen(status: &Value) -> String {
    let mut lines = Vec::new();
    for remote in rows(status, "remotes") {
        lines.push(format!("{}  ({}){}", word(remote, "name"), word(remote, "role"), last_move(remote)));
        let ike_sas = rows(remote, "ike_sas");
        if ike_sas.is_empty() {
            lines.push("  no IKE SA".to_owned());
        }
        for ike in ike_sas {
            lines.push(format!(
                "  IKE SA {}  {}  {}  {}{}",
                word(ike, "id"),
                word(ike, "state"),
                word(ike, "path"),
                word(ike, "suite"),
                seconds(ike, "rekey_in_seconds", "rekey in")
            ));
        }
        for child in rows(remote, "children") {
            lines.push(format!(
                "    {}  {}  {}  in {} out {}  {}{}",
                word(child, "policy"),
                word(child, "state"),
                word(child, "mode"),
                word(child, "spi_in"),
                word(child, "spi_out"),
                word(child, "endpoints"),
                seconds(child, "rekey_in_seconds", "rekey in")
            ));
        }
    }
    if let Some(next) = status.get("next_deadline").filter(|next| !next.is_null()) {
        lines.push(format!("next: {} of {}{}", word(next, "timer"), word(next, "whose"), seconds(next, "in_seconds", "in")));
    }
    lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn last_move(remote: &Value) -> String {
    remote.get("last_move").filter(|last| !last.is_null()).map_or_else(String::new, |last| {
        format!("  last move {} -> {}, first IKE packet after {} us", word(last, "from"), word(last, "to"), word(last, "first_ike_us"))
    })
}

fn rows<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn word(value: &Value, key: &str) -> String {
    match value.get(key) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn seconds(value: &Value, key: &str, label: &str) -> String {
    value.get(key).and_then(Value::as_f64).map_or_else(String::new, |seconds| format!("  {label} {seconds:.0} s"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_screen_names_remote_ike_sa_child_and_last_move() {
        let status = json!({ "remotes": [{
            "name": "ha", "role": "mobile-node",
            "last_move": { "from": "2001:db8:f1::e", "to": "2001:db8:f2::e", "first_ike_us": 212 },
            "ike_sas": [{ "id": 1, "state": "established", "path": "a -> b", "suite": "aes128gcm16" }],
            "children": [{ "policy": "binding", "state": "installed", "mode": "transport", "spi_in": "c1", "spi_out": "c2", "endpoints": "h -> a", "rekey_in_seconds": 99.6 }],
        }]});
        let text = screen(&status);
        assert!(
            text.contains("first IKE packet after 212 us") && text.contains("IKE SA 1  established") && text.contains("rekey in 100 s"),
            "{text}"
        );
    }

    #[test]
    fn a_remote_without_ike_sa_says_so() {
        assert!(screen(&json!({ "remotes": [{ "name": "ha", "role": "none" }] })).contains("no IKE SA"));
    }
}
