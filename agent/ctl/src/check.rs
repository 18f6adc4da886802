//! `watari check`: configurations offline, and what the kernel can do.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use watari_policies::{Secret, config};

use crate::Trouble;
use crate::client::Client;

/// Reads a configuration as the daemon would and says what is wrong with it.
pub(crate) fn file(file: &Path, expand: bool, as_json: bool) -> Result<(), Trouble> {
    let contents = fs::read_to_string(file).map_err(|error| Trouble::Unreachable(format!("cannot read {}: {error}", file.display())))?;
    let directory = file.parent().unwrap_or_else(|| Path::new(""));
    let read_secret = |name: &str| fs::read(directory.join(name)).map(Secret::new).map_err(|error| error.to_string());
    match config::load(&contents, &file.display().to_string(), &read_secret) {
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
    for line in findings(&report) {
        println!("{line}");
    }
    Ok(())
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
        Some("all") => "ok       every ESP algorithm can be installed".to_owned(),
        Some(some) => format!("note     ESP is only offered with what the kernel can install exactly: {some}"),
    };
    vec![types, interface, migrate, algorithms]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_hides_types_is_told_with_its_remedy() {
        let lines = findings(&json!({ "inbound_mh_type": false, "xfrm_interface": true, "migrate": true })).join("\n");
        assert!(lines.contains("UseESP") && lines.contains("modprobe -r xfrm_interface"), "{lines}");
    }

    #[test]
    fn an_old_kernel_is_all_right() {
        let lines = findings(&json!({ "inbound_mh_type": true, "xfrm_interface": false, "migrate": true, "esp": "all" }));
        assert!(lines.iter().all(|line| line.starts_with("ok")), "{lines:?}");
    }

    #[test]
    fn what_pf_key_cannot_install_is_said() {
        let lines = findings(&json!({ "esp": "aes128 null with sha1 sha512, no extended sequence numbers" })).join("\n");
        assert!(lines.contains("only offered") && lines.contains("aes128 null with sha1"), "{lines}");
    }
}
