//! `watari check`: configurations offline, and what the kernel can do.

use std::fmt::Display;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use watari_engine::status::Status;
use watari_policies::{Secret, config};

use crate::Trouble;
use crate::client::{self, Client};
use crate::mip6d;

/// Reads a configuration as the daemon would and says what is wrong with it.
pub(crate) fn file(file: &Path, expand: bool, as_json: bool) -> Result<(), Trouble> {
    match load(file)? {
        Err(diagnostics) if as_json => {
            println!("{}", json!({ "file": file, "valid": false, "complaints": complaints(&diagnostics) }));
            Err(Trouble::Refused(format!("{} is wrong", file.display())))
        }
        Err(diagnostics) => Err(Trouble::Refused(format!("{} is wrong\n{diagnostics}", file.display()))),
        Ok(loaded) if as_json => {
            let (remotes, policies) = (loaded.config.remotes.len(), loaded.config.policies.len());
            let warnings = complaints(&loaded.warnings);
            println!("{}", json!({ "file": file, "valid": true, "remotes": remotes, "policies": policies, "complaints": warnings }));
            Ok(())
        }
        Ok(loaded) => {
            if expand {
                print!("{}", config::expand(&loaded.config, &loaded.origins));
            } else {
                println!(
                    "{}: {} remotes, {} policies, nothing wrong",
                    file.display(),
                    loaded.config.remotes.len(),
                    loaded.config.policies.len()
                );
            }
            if !loaded.warnings.is_empty() {
                eprintln!("{}", loaded.warnings);
            }
            Ok(())
        }
    }
}

/// The text of a file; nothing is waited for.
fn text(file: &Path) -> Result<String, Trouble> {
    let unread = |error: &dyn Display| Trouble::Unreachable(format!("cannot read {}: {error}", file.display()));
    let octets = crate::file::read(file, config::LONGEST_FILE).map_err(|error| unread(&error))?;
    String::from_utf8(octets).map_err(|error| unread(&error.utf8_error()))
}

/// A configuration with the files it names, or every complaint about it.
fn load(file: &Path) -> Result<Result<config::Loaded, config::Diagnostics>, Trouble> {
    let directory = file.parent().unwrap_or_else(|| Path::new(""));
    let read = |name: &str| crate::file::read(&directory.join(name), config::LONGEST_FILE);
    let read_secret = |name: &str| read(name).map(Secret::new).map_err(|error| error.to_string());
    Ok(config::load(&text(file)?, &file.display().to_string(), &read_secret))
}

/// Compares the policies that mip6d is to install with those of its own configuration file.
pub(crate) fn mip6d_conf(file: &Path, conf: &Path) -> Result<(), Trouble> {
    let (ours, theirs) = (file.display().to_string(), conf.display().to_string());
    let loaded = load(file)?.map_err(|diagnostics| Trouble::Refused(format!("{ours} is wrong\n{diagnostics}")))?;
    let differences = mip6d::differences(&loaded.config, &ours, &text(conf)?, &theirs);
    if differences.is_empty() {
        println!("{ours} and {theirs} agree");
        return Ok(());
    }
    Err(Trouble::Refused(format!("{ours} and {theirs} differ:\n{}", differences.join("\n"))))
}

fn complaints(diagnostics: &config::Diagnostics) -> Vec<Value> {
    let one = |diagnostic: &config::Diagnostic| {
        let severity = if diagnostic.severity == config::Severity::Error { "error" } else { "warning" };
        json!({ "severity": severity, "line": diagnostic.line, "message": diagnostic.message, "help": diagnostic.help })
    };
    diagnostics.iter().map(one).collect()
}

/// What the kernel can do: asked of the running daemon, else of `watarid --probe-kernel`.
pub(crate) fn kernel(control: &Path, as_json: bool) -> Result<(), Trouble> {
    let report = from_daemon(control).or_else(|| from_probe().ok()).ok_or_else(|| {
        Trouble::Unreachable(format!(
            "no daemon answers at {} and `watarid --probe-kernel` could not be run (it needs CAP_NET_ADMIN)",
            control.display()
        ))
    })?;
    if as_json {
        println!("{report}");
        return Ok(());
    }
    for line in findings(&report).into_iter().chain(status(control).as_ref().map(installed)) {
        println!("{line}");
    }
    Ok(())
}

/// The status of the running daemon, if one answers.
fn status(control: &Path) -> Option<Status> {
    let answer = Client::connect(control).ok()?.command("watari-status", Vec::new()).ok()?;
    serde_json::from_str(&client::json(&answer.end)?).ok()
}

/// Which policies of mobile remotes the kernel does not hold, the first few by name.
fn installed(status: &Status) -> String {
    const MOST: usize = 10;
    let mobile = status.remotes.iter().filter(|remote| remote.home_address.is_some());
    let absent: Vec<String> = mobile
        .flat_map(|remote| {
            remote.policies.iter().filter(|policy| !policy.present).map(|policy| format!("{} of {}", policy.name, remote.name))
        })
        .collect();
    let more = absent.len().saturating_sub(MOST);
    match absent.len() {
        0 => "ok       the kernel holds every policy of every mobile remote".to_owned(),
        _ => format!(
            "note     not in the kernel, as configured: {}{}. Either the Mobile IPv6 daemon has no binding for it, or its policies differ:\n\
            \u{20}        compare with `watari check FILE --mip6d-conf FILE`",
            absent.iter().take(MOST).cloned().collect::<Vec<_>>().join(", "),
            if more > 0 { format!(" and {more} more") } else { String::new() },
        ),
    }
}

fn from_daemon(control: &Path) -> Option<Value> {
    let answer = Client::connect(control).ok()?.command("watari-kernel", Vec::new()).ok()?;
    let flag = |name: &str| match answer.end.text(name) {
        Some("yes") => Value::Bool(true),
        Some("no") => Value::Bool(false),
        _ => Value::Null,
    };
    Some(json!({
        "migrate": flag("migrate"),
        "inbound_mh_type": flag("inbound-mh-type"),
        "esn": flag("esn"),
        "aead": flag("aead"),
        "esp": answer.end.text("esp"),
        "xfrm_interface": flag("xfrm-interface"),
    }))
}

fn from_probe() -> Result<Value, String> {
    let beside = std::env::current_exe().ok().and_then(|path| path.parent().map(|parent| parent.join("watarid")));
    let program = beside.filter(|path| path.exists()).unwrap_or_else(|| "watarid".into());
    let output = Command::new(program).arg("--probe-kernel").output().map_err(|error| error.to_string())?;
    serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())
}

/// The report in words: what is so, and what to change where it matters.
fn findings(report: &Value) -> Vec<String> {
    let types = match report.get("inbound_mh_type").and_then(Value::as_bool) {
        Some(true) => "ok       the kernel sees the MH type of inbound packets: typed policies work".to_owned(),
        Some(false) => "warning  the kernel does not see the MH type of inbound packets (Linux 6.7 and later). Typed policies match nothing inbound:\n\
            \u{20}        give the Mobile IPv6 daemon any-type policies (UMIP: `IPsecPolicy Mh UseESP`). Ours are installed without the type by themselves."
            .to_owned(),
        None => "unknown  whether the kernel sees the MH type of inbound packets: the probe got no answer".to_owned(),
    };
    let interface = match report.get("xfrm_interface").and_then(Value::as_bool) {
        Some(true) => "warning  xfrm_interface is present: binding updates and acknowledgements in ESP are dropped before decryption.\n\
            \u{20}        Unload it (`modprobe -r xfrm_interface`), or boot with initcall_blacklist=xfrmi_init where it is built in."
            .to_owned(),
        _ => "ok       xfrm_interface is absent".to_owned(),
    };
    let migrate = match report.get("migrate").and_then(Value::as_bool) {
        Some(true) => "ok       MIGRATE is heard".to_owned(),
        _ => "warning  MIGRATE is not heard: the kernel needs CONFIG_XFRM_MIGRATE".to_owned(),
    };
    let algorithms = match report.get("esp").and_then(Value::as_str) {
        None => "unknown  which ESP algorithms the kernel can install".to_owned(),
        Some("all, assumed") => "unknown  which ESP algorithms the kernel can install: it is not asked, every one is offered. If SAs are refused with\n\
            \u{20}        \"Function not implemented\", load the modules of ESP and of the cipher (esp4, esp6, CONFIG_CRYPTO_...), or write others in `esp`."
            .to_owned(),
        Some(some) => format!("note     ESP is only offered with what the kernel can install exactly: {some}"),
    };
    vec![types, interface, migrate, algorithms]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_an_end_is_not_read() {
        for read in [text(Path::new("/dev/zero")).err(), load(Path::new("/dev/zero")).err()] {
            let Some(Trouble::Unreachable(why)) = read else { panic!("it was read") };
            assert!(why.contains("not a regular file"), "{why}");
        }
    }

    #[test]
    fn a_kernel_that_hides_types_is_told_with_its_remedy() {
        let lines = findings(&json!({ "inbound_mh_type": false, "xfrm_interface": true, "migrate": true })).join("\n");
        assert!(lines.contains("UseESP") && lines.contains("modprobe -r xfrm_interface"), "{lines}");
    }

    #[test]
    fn an_old_kernel_is_all_right() {
        let lines = findings(&json!({ "inbound_mh_type": true, "xfrm_interface": false, "migrate": true, "esp": "all, assumed" }));
        let (esp, others) = lines.split_last().unwrap();
        assert!(others.iter().all(|line| line.starts_with("ok")), "{lines:?}");
        assert!(esp.starts_with("unknown") && esp.contains("not asked"), "what nobody probed is not called good: {esp}");
    }

    #[test]
    fn policies_that_the_daemon_did_not_install_are_named() {
        let policy = |name: &str, present: bool| json!({ "name": name, "present": present, "remembered": null, "tunnel": null });
        let status = |present: bool| -> Status {
            let remote = json!({ "name": "ha", "role": "mobile node", "home_address": "2001:db8:1::7", "remembered": null, "last_move": null,
                "ike_sas": [], "adopted": [], "policies": [policy("binding", true), policy("payload", present)] });
            let counters = serde_json::to_value(watari_engine::status::Counters::default()).unwrap();
            let whole = json!({ "version": 1, "uptime_s": 0, "remotes": [remote], "unknown_peers": [], "omitted": 0, "addresses": [],
                "counters": counters, "next": null });
            serde_json::from_value(whole).unwrap()
        };
        assert!(installed(&status(true)).starts_with("ok"));
        let said = installed(&status(false));
        assert!(said.contains("payload of ha") && !said.contains("binding of"), "{said}");
    }

    #[test]
    fn what_pf_key_cannot_install_is_said() {
        let lines = findings(&json!({ "esp": "aes128 null with sha1 sha512, no extended sequence numbers" })).join("\n");
        assert!(lines.contains("only offered") && lines.contains("aes128 null with sha1"), "{lines}");
    }
}
