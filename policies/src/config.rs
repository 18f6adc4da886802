//! From the text of a configuration file to a `Config`, or to every complaint about it at once. No I/O: secret files come through a `SecretSource`.
//! Invariant: what loads is consistent; what does not load leaves nothing behind.

use std::collections::{BTreeMap, BTreeSet};

use toml::de::{DeTable, DeValue};

use crate::{Config, Secret, SecretId};

mod access;
mod checks;
mod credentials;
mod diagnostics;
mod document;
mod expand;
mod gateways;
mod manual;
mod movements;
mod nodes;
mod numbering;
mod profiles;
mod records;
mod settings;
mod values;

pub use diagnostics::{Diagnostic, Diagnostics, Severity};
pub use expand::expand;
pub use settings::backend_name;

use diagnostics::{Report, secret_places};
use document::{Section, Span, printable};

/// Longest configuration, and longest file that one may name, in octets: half a million lines of `mobile_nodes_file` fit.
pub const LONGEST_FILE: usize = 64 << 20;
/// Longest file of one key or of certificates, in octets.
const LONGEST_KEY_FILE: usize = 1 << 20;

/// Gives the loader the secrets that do not stand in the file itself. A closure from path to secret is one.
pub trait SecretSource {
    /// The content of a secret file; one line end behind it is not part of the secret.
    ///
    /// # Errors
    /// Why the file cannot be read, as half a sentence.
    fn file(&self, path: &str) -> Result<Secret, String>;

    /// Whether a key keeper already holds the secret that `secret = N` names.
    fn holds(&self, id: SecretId) -> bool {
        let _ = id;
        false
    }
}

impl<F: Fn(&str) -> Result<Secret, String>> SecretSource for F {
    fn file(&self, path: &str) -> Result<Secret, String> {
        self(path)
    }
}

/// Where a secret came from; the secret itself is elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretOrigin {
    /// `psk_file`, with the path as written.
    File(String),
    /// `psk`, in the configuration file itself.
    Inline,
    /// A line of `mobile_nodes_file`.
    Line {
        /// The path as written.
        path: String,
        /// Line of that file, from 1.
        line: u32,
    },
    /// `secret`, held by a key keeper.
    Held,
}

/// A configuration that loaded.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Secrets that were read, for the key keeper; those it already holds are not among them.
    pub secrets: BTreeMap<SecretId, Secret>,
    /// Where each secret came from.
    pub origins: BTreeMap<SecretId, SecretOrigin>,
    /// What works but deserves a second look.
    pub warnings: Diagnostics,
}

/// Where the records of a configuration under construction stand in the file.
#[derive(Default)]
struct Places {
    remotes: Vec<RemotePlace>,
    policies: Vec<Span>,
    ipsecs: Vec<Span>,
}

/// Where a remote and what is checked of it stand.
#[derive(Clone, Default)]
struct RemotePlace {
    header: Span,
    home_address: Option<Span>,
    identity: Option<Span>,
    /// The home agent's address, on either side.
    home_agent: Option<Span>,
}

impl RemotePlace {
    /// The place of a detail, or of the whole record.
    fn or_header(&self, detail: &Option<Span>) -> Span {
        detail.clone().unwrap_or_else(|| self.header.clone())
    }
}

/// A configuration under construction.
#[derive(Default)]
struct Draft {
    config: Config,
    places: Places,
}

/// Secrets while they are gathered.
struct Secrets<'s> {
    source: &'s dyn SecretSource,
    /// Numbers that `secret = N` names somewhere in the file.
    named: BTreeSet<u32>,
    /// The lowest number that may be free.
    next: u32,
    values: BTreeMap<SecretId, Secret>,
    origins: BTreeMap<SecretId, SecretOrigin>,
}

impl Secrets<'_> {
    /// The lowest number that is free.
    fn keep(&mut self, secret: Secret, origin: SecretOrigin) -> SecretId {
        let free = |number: &u32| !self.named.contains(number) && !self.values.contains_key(&SecretId(*number));
        let id = SecretId((self.next..).find(free).unwrap_or(u32::MAX));
        self.next = id.0;
        self.values.insert(id, secret);
        self.origins.insert(id, origin);
        id
    }

    /// Keeps a secret under a number that depends on whose it is, so that it stays the same when others come and go.
    fn keep_for(&mut self, fingerprint: u64, secret: Secret, origin: SecretOrigin) -> SecretId {
        let taken = |id: &SecretId| self.named.contains(&id.0) || self.values.contains_key(id);
        let id = numbering::free(fingerprint, taken);
        self.values.insert(id, secret);
        self.origins.insert(id, origin);
        id
    }

    /// Reads the one of `psk`, `psk_file` and `secret` that a table has.
    fn read(&mut self, report: &mut Report<'_>, section: &mut Section<'_>) -> Option<SecretId> {
        let entries = ["psk_file", "psk", "secret"].map(|key| section.entry(key));
        let mut present = entries.iter().flatten();
        let Some(first) = present.next() else {
            report
                .error(section.span.clone(), format!("{} has no pre-shared key", section.title))
                .help("add for example: psk_file = \"/etc/watari/peer.psk\"");
            return None;
        };
        if let Some(second) = present.next() {
            let (first_name, second_name) = (first.key.get_ref(), second.key.get_ref());
            report
                .error(second.key.span(), format!("\"{second_name}\" and \"{first_name}\" are two keys for one peer"))
                .related(first.key.span(), "the other one")
                .help("keep one of them");
            return None;
        }
        match first.key.get_ref().as_ref() {
            "psk_file" => self.read_file(report, first.value),
            "psk" => {
                let text = values::text(report, first.value)?;
                self.keep_checked(report, first.value.span(), Secret::from(text.as_bytes()), SecretOrigin::Inline)
            }
            _ => self.held(report, first.value),
        }
    }

    /// A secret that a key keeper holds already.
    fn held(&mut self, report: &mut Report<'_>, value: &document::Value<'_>) -> Option<SecretId> {
        let id = values::number32(0)(report, value).map(SecretId)?;
        if !self.source.holds(id) {
            report.error(value.span(), format!("no key keeper holds {id}")).help("write psk_file = \"/path/of/the/key\" instead");
            return None;
        }
        self.origins.insert(id, SecretOrigin::Held);
        Some(id)
    }

    fn read_file(&mut self, report: &mut Report<'_>, value: &document::Value<'_>) -> Option<SecretId> {
        let (path, content) = self.content(report, value)?;
        let key = content.expose();
        let key = key.strip_suffix(b"\n").map_or(key, |line| line.strip_suffix(b"\r").unwrap_or(line));
        self.keep_checked(report, value.span(), Secret::from(key), SecretOrigin::File(path))
    }

    /// Path and content of a secret file that holds one key.
    fn content(&self, report: &mut Report<'_>, value: &document::Value<'_>) -> Option<(String, Secret)> {
        let found = self.open(report, value, "the file holds the key, with or without a line end, and must be readable for the agent")?;
        of_a_key(report, value, found)
    }

    /// Path and content of a secret file; `help` says what should be in it.
    fn open(&self, report: &mut Report<'_>, value: &document::Value<'_>, help: &str) -> Option<(String, Secret)> {
        let path = values::path(report, value)?;
        match self.source.file(path) {
            Ok(content) => Some((path.to_owned(), content)),
            Err(why) => {
                report
                    .error(value.span(), format!("the secret file \"{}\" cannot be read: {}", printable(path), printable(&why)))
                    .help(help);
                None
            }
        }
    }

    fn keep_checked(&mut self, report: &mut Report<'_>, span: Span, secret: Secret, origin: SecretOrigin) -> Option<SecretId> {
        if secret.is_empty() {
            report.error(span, "the pre-shared key is empty, so everybody would know it");
            return None;
        }
        Some(self.keep(secret, origin))
    }
}

/// Path and content of a file, unless it is too long for a key or certificates.
fn of_a_key(report: &mut Report<'_>, value: &document::Value<'_>, (path, content): (String, Secret)) -> Option<(String, Secret)> {
    if content.len() > LONGEST_KEY_FILE {
        let message = format!("the file \"{}\" has {} octets, more than a key or certificates need", printable(&path), content.len());
        report.error(value.span(), message).help(format!("name another file; this one may have {LONGEST_KEY_FILE} octets"));
        return None;
    }
    Some((path, content))
}

/// Reads a configuration; `file_name` is what complaints call it.
///
/// # Errors
/// Every complaint about the text, warnings among them, if at least one is an error.
pub fn load(text: &str, file_name: &str, source: &dyn SecretSource) -> Result<Loaded, Diagnostics> {
    let mut report = Report::new(text);
    let (root, syntax) = DeTable::parse_recoverable(text);
    for error in &syntax {
        complain_about_syntax(&mut report, text, error);
    }
    if report.has_errors() {
        // What a broken file seems to lack may well be in the part that could not be read.
        return Err(report.finish(file_name, &secret_places(text)));
    }
    let mut hidden = secret_places(text);
    let mut named = BTreeSet::new();
    survey(root.get_ref(), &mut hidden, &mut named);
    let mut secrets = Secrets { source, named, next: 0, values: BTreeMap::new(), origins: BTreeMap::new() };
    let draft = read_tables(&mut report, root.get_ref(), &mut secrets);
    checks::check(&mut report, &draft, &secrets.values);
    let complete = !report.has_errors();
    let complaints = report.finish(file_name, &hidden);
    if !complete {
        return Err(complaints);
    }
    Ok(Loaded { config: draft.config, secrets: secrets.values, origins: secrets.origins, warnings: complaints })
}

/// Reads every table of the file, the five records first, so that their ids do not depend on the profiles.
fn read_tables<'a>(report: &mut Report<'_>, root: &'a DeTable<'a>, secrets: &mut Secrets<'_>) -> Draft {
    let mut draft = Draft::default();
    let mut root = Section::new("this file", 0..0, root);
    if let Some(entry) = root.entry("watari") {
        settings::read(report, entry.value, &mut draft.config.settings);
    }
    records::read(report, &mut root, secrets, &mut draft);
    profiles::read(report, &mut root, secrets, &mut draft);
    access::read(report, &mut root, secrets, &mut draft);
    root.finish(report);
    draft
}

/// Finds the places of secrets and the numbers of secrets that are named.
fn survey(table: &DeTable<'_>, hidden: &mut Vec<Span>, named: &mut BTreeSet<u32>) {
    for (key, value) in table.iter() {
        match value.get_ref() {
            _ if key.get_ref() == "psk" || key.get_ref() == "key" => hidden.push(value.span()),
            // A key where the path of its file should be.
            DeValue::String(text) if key.get_ref() == "private_key" && !text.starts_with('/') => hidden.push(value.span()),
            DeValue::Integer(integer) if key.get_ref() == "secret" => {
                named.extend(u32::from_str_radix(integer.as_str(), integer.radix()).ok());
            }
            DeValue::Table(inner) => survey(inner, hidden, named),
            DeValue::Array(elements) => {
                for inner in elements.iter().filter_map(|element| element.get_ref().as_table()) {
                    survey(inner, hidden, named);
                }
            }
            _ => {}
        }
    }
}

/// Reports what the TOML reader found, with a hint where the usual slip is likely: a value without quotes.
fn complain_about_syntax(report: &mut Report<'_>, text: &str, error: &toml::de::Error) {
    let span = error.span().unwrap_or(0..0);
    let before = text.get(..span.start).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |at| at.saturating_add(1));
    let line = text.get(line_start..).unwrap_or_default().lines().next().unwrap_or_default();
    let bare = line.split_once('=').is_some_and(|(_, value)| {
        let value = value.trim();
        let quoted = value.starts_with(['"', '\'', '[', '{']);
        !quoted && value.chars().any(|letter| letter.is_ascii_alphabetic() || letter == ':')
    });
    let duplicate = error.message().contains("duplicate key");
    let complaint = report.error(span, error.message().to_owned());
    if duplicate {
        complaint.help("each name may stand once; keep one of them");
    } else if bare {
        complaint.help("addresses, names and times are written in quotes: key = \"value\"");
    }
}

#[cfg(test)]
mod tests;
