//! One table of the file while it is read: typed access with complaints, and at the end a complaint about every key nobody asked for.

use std::collections::BTreeSet;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostics::Report;
use crate::algorithm::nearest;

pub(super) type Span = Range<usize>;
pub(super) type Value<'a> = Spanned<DeValue<'a>>;

/// A key and its value as they stand in the file.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) key: &'a Spanned<toml::de::DeString<'a>>,
    pub(super) value: &'a Value<'a>,
}

/// A value that was read, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Read<T> {
    pub(super) value: T,
    pub(super) span: Span,
}

/// A table being read.
pub(super) struct Section<'a> {
    /// How messages call the table, for example `[remote.ha]`.
    pub(super) title: String,
    /// Where its header stands.
    pub(super) span: Span,
    table: &'a DeTable<'a>,
    asked: Vec<&'static str>,
    /// Keys that do nothing here; nobody is led to them.
    idle: Vec<&'static str>,
}

impl<'a> Section<'a> {
    pub(super) fn new(title: impl Into<String>, span: Span, table: &'a DeTable<'a>) -> Self {
        Self { title: title.into(), span, table, asked: Vec::new(), idle: Vec::new() }
    }

    /// The table that a value is; complains if it is something else.
    pub(super) fn of(report: &mut Report<'_>, title: impl Into<String>, value: &'a Value<'a>) -> Option<Self> {
        let title = title.into();
        match value.get_ref() {
            DeValue::Table(table) => Some(Self::new(title, value.span(), table)),
            other => {
                let found = describe(other);
                report.error(value.span(), format!("{title} is {found}, where a table is needed"));
                None
            }
        }
    }

    /// The entry of a key, which is a known one from now on.
    pub(super) fn entry(&mut self, key: &'static str) -> Option<Entry<'a>> {
        self.asked.push(key);
        self.table.get_key_value(key).map(|(key, value)| Entry { key, value })
    }

    /// Whether the table has a key; does not make it a known one.
    pub(super) fn contains(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Reads the value of a key, if the key is there and the value is right.
    pub(super) fn read<T>(
        &mut self,
        report: &mut Report<'_>,
        key: &'static str,
        parse: impl Fn(&mut Report<'_>, &'a Value<'a>) -> Option<T>,
    ) -> Option<Read<T>> {
        let entry = self.entry(key)?;
        parse(report, entry.value).map(|value| Read { value, span: entry.value.span() })
    }

    /// Reads the value of a key that must be there; `example` is a line that would do.
    pub(super) fn required<T>(
        &mut self,
        report: &mut Report<'_>,
        key: &'static str,
        example: &str,
        parse: impl Fn(&mut Report<'_>, &'a Value<'a>) -> Option<T>,
    ) -> Option<Read<T>> {
        if !self.table.contains_key(key) {
            self.asked.push(key);
            report.error(self.span.clone(), format!("{} has no \"{key}\"", self.title)).help(format!("add for example: {example}"));
            return None;
        }
        self.read(report, key, parse)
    }

    /// Complains about a key that does nothing here.
    pub(super) fn without_effect(&mut self, report: &mut Report<'_>, key: &'static str, why: &str) {
        self.idle.push(key);
        if let Some(entry) = self.entry(key) {
            report.error(entry.key.span(), format!("\"{key}\" has no effect here: {why}")).help(format!("remove \"{key}\""));
        }
    }

    /// The sub-tables in the order in which they stand in the file.
    pub(super) fn children(&self) -> Vec<Entry<'a>> {
        let mut entries: Vec<Entry<'a>> = self.table.iter().map(|(key, value)| Entry { key, value }).collect();
        entries.sort_by_key(|entry| entry.value.span().start);
        entries
    }

    /// Complains about every key that was never asked for.
    pub(super) fn finish(self, report: &mut Report<'_>) {
        // Some are asked for in more than one place.
        let useful: BTreeSet<&str> = self.asked.iter().filter(|key| !self.idle.contains(key)).copied().collect();
        for entry in self.children() {
            let key = entry.key.get_ref();
            if self.asked.iter().any(|known| *known == key.as_ref()) {
                continue;
            }
            let complaint = report.error(entry.key.span(), format!("{} knows no key \"{}\"", self.title, printable(key)));
            match nearest(key, useful.iter().copied()) {
                Some(name) => complaint.help(format!("did you mean \"{name}\"?")),
                None => complaint.help(format!("the keys are: {}", useful.iter().copied().collect::<Vec<_>>().join(", "))),
            };
        }
    }
}

/// The text without control characters, at most a line of it.
pub(super) fn printable(text: &str) -> String {
    text.chars().take(60).map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}

/// A value by its kind, with an article.
pub(super) const fn describe(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
