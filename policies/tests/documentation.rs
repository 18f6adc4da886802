//! The reference page says what the loader does: its examples load, and it names every key that an expansion has.

use watari_policies::Secret;
use watari_policies::config::{Loaded, expand, load};

const PAGE: &str = include_str!("../../docs/configuration.md");

fn read(text: &str) -> Result<Loaded, String> {
    let key = |_: &str| Ok(Secret::from(&b"key"[..]));
    load(text, "configuration.md", &key).map_err(|complaints| complaints.to_string())
}

fn examples() -> impl Iterator<Item = &'static str> {
    PAGE.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next())
}

#[test]
fn the_examples_load() {
    assert_eq!(examples().count(), 3);
    for example in examples() {
        assert!(!read(example).unwrap().config.policies.is_empty());
    }
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
