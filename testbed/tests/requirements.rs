//! The tables of docs/requirements against what exists: a row that names a test, a scenario or a kernel act that is gone fails, and so
//! does a row marked shown that names none.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use watari_kernel::mirror::acts;
use watari_sim::scenario::RunsOn;

/// The root of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Folders of the crates whose tests may be named, with their crates' names.
const CRATES: &[(&str, &str)] = &[
    ("policies", "watari_policies"),
    ("kernel", "watari_kernel"),
    ("kernel/sys", "watari_sys"),
    ("kernel/xfrm", "watari_xfrm"),
    ("kernel/pfkey", "watari_pfkey"),
    ("kernel/route", "watari_route"),
    ("mip6", "watari_mip6"),
    ("agent/wire", "watari_wire"),
    ("agent/crypto", "watari_crypto"),
    ("agent/sa", "watari_sa"),
    ("agent/ikev2", "watari_ikev2"),
    ("agent/engine", "watari_engine"),
    ("agent/daemon", "watari_daemon"),
    ("agent/ctl", "watari_ctl"),
    ("testbed/sim", "watari_sim"),
    ("testbed", "watari_testbed"),
];

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            rust_files(&entry, found);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            found.push(entry);
        }
    }
}

/// Module path of a file below `src` or `tests`: `a/b.rs` and `a/b/mod.rs` are `a::b`, `lib.rs` and `main.rs` are the crate itself.
fn module(file: &Path) -> Vec<String> {
    let mut path: Vec<String> = file.with_extension("").iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if path.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
        path.pop();
    }
    path
}

/// Functions marked as tests in a source file that run whenever tests are run: what is ignored shows nothing. One that is indented stands
/// in the file's own module `tests`.
fn tests_of(source: &str, module: &[String]) -> Vec<String> {
    let mut tests = Vec::new();
    let (mut marked, mut ignored) = (false, false);
    for line in source.lines() {
        let code = line.trim_start();
        if code == "#[test]" {
            marked = true;
        } else if code.starts_with("#[ignore") || (code.starts_with("#[cfg_attr(") && code.contains("ignore")) {
            ignored = true;
        } else if let Some(rest) = code.strip_prefix("fn ") {
            if marked && !ignored {
                let name = rest.split(['(', '<']).next().unwrap_or_default().to_owned();
                let inner = (code.len() < line.len()).then(|| "tests".to_owned());
                let path: Vec<String> = module.iter().cloned().chain(inner).chain([name]).collect();
                tests.push(path.join("::"));
            }
            (marked, ignored) = (false, false);
        }
    }
    tests
}

/// Every test of the workspace, as a table names it.
fn every_test() -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    for (folder, name) in CRATES {
        for below in ["src", "tests"] {
            let top = root().join(folder).join(below);
            let mut files = Vec::new();
            rust_files(&top, &mut files);
            for file in files {
                let module = module(file.strip_prefix(&top).unwrap());
                let source = fs::read_to_string(&file).unwrap();
                tests.extend(tests_of(&source, &module).into_iter().map(|test| format!("{name}::{test}")));
            }
        }
    }
    tests
}

struct Row {
    file: String,
    id: String,
    section: String,
    proof: String,
    status: String,
}

/// The rows of every table: id, requirement, where it is decided, what shows it, status.
fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut files: Vec<PathBuf> = fs::read_dir(root().join("docs/requirements")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "md")) {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        for line in fs::read_to_string(file).unwrap().lines().filter(|line| line.starts_with('|')) {
            let cells: Vec<String> = line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
            if cells[0] == "id" || cells[0].starts_with("--") {
                continue;
            }
            assert_eq!(cells.len(), 5, "{name}: five columns: {line}");
            let [id, section, _, proof, status] = <[String; 5]>::try_from(cells).unwrap();
            rows.push(Row { file: name.clone(), id, section, proof, status });
        }
    }
    rows
}

/// The words in backticks.
fn named(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

#[test]
fn everything_named_exists() {
    let tests = every_test();
    assert!(tests.len() > 400, "only {} tests found: this looks at the wrong places", tests.len());
    let scenarios: BTreeSet<String> = watari_sim::scenarios::all().iter().map(|scenario| scenario.name.to_owned()).collect();
    let acts: BTreeSet<String> = acts::all().iter().map(|act| act.name.to_owned()).collect();
    let interop = fs::read_to_string(root().join("testbed/src/interop/cases.rs")).unwrap();
    let stages = fs::read_to_string(root().join("testbed/src/check.rs")).unwrap();
    let scales = fs::read_to_string(root().join("testbed/src/scale.rs")).unwrap();
    let mut missing = Vec::new();
    for row in rows() {
        for name in named(&row.proof) {
            let there = match name.split_once(' ') {
                Some(("scenario", name)) => scenarios.contains(name) || scales.contains(&format!("name: \"{name}\"")),
                Some(("act", name)) => acts.contains(name),
                Some(("interop", name)) => interop.contains(&format!("\"{name}\"")),
                Some(("stage", name)) => stages.contains(&format!("name: \"{name}\"")),
                Some(_) => false,
                None => tests.contains(name),
            };
            if !there {
                missing.push(format!("{} {}: `{name}`", row.file, row.id));
            }
        }
    }
    assert!(missing.is_empty(), "named, but there is no such thing:\n{}", missing.join("\n"));
}

#[test]
fn every_row_is_honest() {
    let rows = rows();
    let mut wrong = Vec::new();
    let mut ids = BTreeSet::new();
    for row in &rows {
        let place = format!("{} {}", row.file, row.id);
        if !ids.insert((row.file.clone(), row.id.clone())) {
            wrong.push(format!("{place}: stands twice"));
        }
        let (word, why) = row.status.split_once(':').map_or((row.status.as_str(), ""), |(word, why)| (word, why.trim()));
        let names = named(&row.proof).len();
        match word {
            "shown" if names == 0 => wrong.push(format!("{place}: shown, but by nothing")),
            "partly" if names == 0 => wrong.push(format!("{place}: partly shown, but by nothing")),
            "partly" | "not yet" | "not ours" if why.len() < 10 => wrong.push(format!("{place}: {word}, but why?")),
            "shown" | "partly" | "not yet" | "not ours" => {}
            other => wrong.push(format!("{place}: no such status: {other}")),
        }
        if row.section.len() < 20 {
            wrong.push(format!("{place}: the requirement is missing"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(rows.len() > 100, "only {} rows read", rows.len());
}

#[test]
fn the_forty_requirements_of_mobility_are_all_there() {
    let numbered = |letter: char, last: u32| (1..=last).map(move |number| format!("{letter}{number}"));
    let wanted: BTreeSet<String> = numbered('Q', 27).chain(numbered('D', 13)).collect();
    let there: BTreeSet<String> = rows().into_iter().filter(|row| row.file == "mobility").map(|row| row.id).collect();
    assert_eq!(there, wanted);
}

#[test]
fn an_ignored_test_shows_nothing() {
    let source = "#[test]\n#[ignore]\nfn one() {}\n#[ignore = \"slow\"]\n#[test]\nfn two() {}\n#[test]\nfn three() {}\n";
    assert_eq!(tests_of(source, &["a".to_owned()]), ["a::three"]);
}

/// What the scenarios of Mobile IPv6 must be found by: a word of a name, and whether Linux can run one.
const WORDS: &[(&str, bool)] = &[
    ("pfkey", true),
    ("shisa", true),
    ("kbit", true),
    ("forged", true),
    ("proxy", true),
    ("home", true),
    ("bootstrap", true),
    ("scale", true),
    ("road-warrior", true),
    ("nemo", true),
    ("prefix", true),
    // No Linux kernel puts the packet into an ACQUIRE.
    ("packet", false),
    ("manual", true),
];

#[test]
fn every_subject_has_a_scenario_of_its_name_and_runs_on_the_real_kernel_where_linux_can() {
    let scenarios = watari_sim::scenarios::all();
    let on_real = |runs_on: &RunsOn| !matches!(runs_on, RunsOn::SimulatorOnly(_));
    let mut names: Vec<(String, bool)> = scenarios.iter().map(|scenario| (scenario.name.to_owned(), on_real(&scenario.runs_on))).collect();
    // Runs at scale have both halves, in the simulator and on a real kernel.
    let scales = fs::read_to_string(root().join("testbed/src/scale.rs")).unwrap();
    let quoted = |line: &str| Some(line.trim().strip_prefix("name: \"")?.split('"').next()?.to_owned());
    names.extend(scales.lines().filter_map(quoted).map(|name| (name, true)));
    for (word, real) in WORDS {
        // Whole words between hyphens: `home` is not found in `homeless`.
        let holds = |name: &str| format!("-{name}-").contains(&format!("-{word}-"));
        let of_word: Vec<_> = names.iter().filter(|(name, _)| holds(name)).collect();
        assert!(!of_word.is_empty(), "no scenario has \"{word}\" in its name");
        assert_eq!(of_word.iter().any(|(_, on_real)| *on_real), *real, "{word}: on the real kernel? {of_word:?}");
    }
}

#[test]
fn a_test_is_found_where_it_stands() {
    let source = "#[test]\nfn one() {}\nfn none() {}\nmod tests {\n    #[test]\n    fn two() {}\n}\n";
    assert_eq!(tests_of(source, &["a".to_owned()]), ["a::one", "a::tests::two"]);
    assert_eq!(module(Path::new("a/mod.rs")), ["a"]);
    assert_eq!(module(Path::new("lib.rs")), Vec::<String>::new());
}
