//! The reference page says what the loader does: its examples load, and it names every key that an expansion has.

use watari_policies::Secret;
use watari_policies::config::{Loaded, expand, load};

const PAGE: &str = include_str!("../../docs/configuration.md");

fn read(text: &str) -> Result<Loaded, String> {
    let content = |path: &str| match path.rsplit(['/', '.']).next() {
        Some("nodes") => nodes().into_bytes(),
        Some("clients") => b"laptop.example assign key".to_vec(),
        // A key of an SA by hand: as many digits as the example's algorithms need.
        Some("key") => b"0f".repeat(48),
        Some("pem") if path.ends_with("mn.pem") => include_bytes!("certificates/mn.pem").to_vec(),
        Some("pem") => include_bytes!("certificates/root.pem").to_vec(),
        Some("private") => include_bytes!("certificates/mn.key").to_vec(),
        _ => b"key".to_vec(),
    };
    let key = |path: &str| Ok(Secret::from(content(path)));
    load(text, "configuration.md", &key).map_err(|complaints| complaints.to_string())
}

fn examples() -> impl Iterator<Item = &'static str> {
    PAGE.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next())
}

/// The example of `mobile_nodes_file`.
fn nodes() -> String {
    PAGE.lines().filter_map(|line| line.strip_prefix("    ")).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_examples_load() {
    assert_eq!(examples().count(), 9);
    assert_eq!(nodes().lines().count(), 3);
    // The one of an SA alone has no policy.
    let with_policies = examples().filter(|example| !read(example).unwrap().config.policies.is_empty());
    assert_eq!(with_policies.count(), 8);
}

#[test]
fn every_key_of_an_expansion_is_described() {
    for example in examples() {
        let loaded = read(example).unwrap();
        for line in expand(&loaded.config, &loaded.origins).lines() {
            if let Some((key, _)) = line.split_once(" = ") {
                assert!(PAGE.contains(&format!("`{key}`")), "\"{key}\" is not in the page");
            }
        }
    }
}
