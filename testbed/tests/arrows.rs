//! Who may import whom: the table of docs/ARCHITECTURE.md against `cargo metadata`. Dev-dependencies are free.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Allowed arrows: a crate and every crate of ours that it may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("watari-policies", &[]),
    ("watari-kernel", &["watari-policies"]),
    ("watari-xfrm", &["watari-policies", "watari-kernel"]),
    ("watari-pfkey", &["watari-policies", "watari-kernel"]),
    ("watari-route", &["watari-policies", "watari-kernel"]),
    ("watari-sys", &[]),
    ("watari-mip6", &["watari-policies", "watari-kernel"]),
    ("watari-wire", &[]),
    ("watari-crypto", &["watari-policies"]),
    ("watari-sa", &["watari-policies", "watari-kernel", "watari-crypto"]),
    ("watari-ikev2", &["watari-wire", "watari-crypto", "watari-sa", "watari-policies", "watari-kernel"]),
    ("watari-engine", &["watari-policies", "watari-kernel", "watari-mip6", "watari-wire", "watari-crypto", "watari-sa", "watari-ikev2"]),
    (
        "watari-daemon",
        &[
            "watari-engine",
            "watari-policies",
            "watari-kernel",
            "watari-crypto",
            "watari-sa",
            "watari-xfrm",
            "watari-pfkey",
            "watari-route",
            "watari-sys",
        ],
    ),
    ("watari-ctl", &["watari-engine", "watari-policies", "watari-wire", "watari-sim"]),
    (
        "watari-sim",
        &["watari-policies", "watari-kernel", "watari-pfkey", "watari-crypto", "watari-sa", "watari-wire", "watari-mip6", "watari-engine"],
    ),
];

#[test]
fn every_arrow_is_allowed() {
    let output =
        Command::new(env!("CARGO")).args(["metadata", "--format-version", "1", "--no-deps", "--locked", "--offline"]).output().unwrap();
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let allowed: BTreeMap<&str, BTreeSet<&str>> = ARROWS.iter().map(|(name, targets)| (*name, targets.iter().copied().collect())).collect();
    let mut seen = 0;
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        for dependency in package["dependencies"].as_array().unwrap() {
            let target = dependency["name"].as_str().unwrap();
            if dependency["kind"].as_str() == Some("dev") || !target.starts_with("watari-") {
                continue;
            }
            seen += 1;
            assert_ne!(target, "watari-testbed", "{name} imports the test bed");
            if name == "watari-testbed" {
                continue;
            }
            let targets = allowed.get(name).unwrap_or_else(|| panic!("{name} is not in the table of arrows: add it on purpose"));
            assert!(targets.contains(target), "forbidden arrow: {name} -> {target}");
        }
    }
    assert!(seen > 30, "only {seen} arrows seen: the test looks at the wrong thing");
}
