//! Complaints about a configuration: where, what is wrong, what would be right, drawn under the line they are about.
//! Invariant: no rendered line shows a pre-shared key, whatever is wrong with it.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration is not applied.
    Error,
    /// The configuration works, but not everywhere or not as the writer may think.
    Warning,
}

/// One complaint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// Line, from 1.
    pub line: u32,
    /// Octets of the file that the complaint is about.
    pub span: Range<usize>,
    /// What is wrong, one sentence.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
    /// Another place that matters, with a word about it.
    pub related: Option<(Range<usize>, String)>,
}

impl Diagnostic {
    /// Adds what would be right.
    pub(super) fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }

    /// Points at another place.
    pub(super) fn related(&mut self, span: Range<usize>, label: impl Into<String>) -> &mut Self {
        self.related = Some((span, label.into()));
        self
    }
}

/// All complaints about one file; displays as text for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics {
    file: String,
    /// The file's text with secrets blotted out.
    source: String,
    list: Vec<Diagnostic>,
}

impl Diagnostics {
    /// The complaints in the order of their lines.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.list.iter()
    }

    /// Whether there is nothing to complain about.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many complaints are errors.
    pub fn error_count(&self) -> usize {
        self.list.iter().filter(|one| one.severity == Severity::Error).count()
    }

    fn group<'a>(&'a self, one: &'a Diagnostic) -> Group<'a> {
        let level = match one.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(one.message.as_str());
        let mut snippet = Snippet::source(self.source.as_str()).path(self.file.as_str());
        snippet = snippet.annotation(AnnotationKind::Primary.span(self.within(&one.span)));
        if let Some((span, label)) = &one.related {
            snippet = snippet.annotation(AnnotationKind::Context.span(self.within(span)).label(label.as_str()));
        }
        let group = title.element(snippet);
        match &one.help {
            Some(help) => group.element(Level::HELP.message(help.as_str())),
            None => group,
        }
    }

    /// The part of a span that the source really has, from and to whole characters.
    fn within(&self, span: &Range<usize>) -> Range<usize> {
        let whole = |mut at: usize| {
            at = at.min(self.source.len());
            while !self.source.is_char_boundary(at) {
                at = at.saturating_sub(1);
            }
            at
        };
        let start = whole(span.start);
        start..whole(span.end).max(start)
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let renderer = Renderer::plain();
        for one in &self.list {
            if self.source.trim().is_empty() {
                writeln!(f, "{}: {}", self.file, one.message)?;
                one.help.iter().try_for_each(|help| writeln!(f, "  help: {help}"))?;
            } else {
                writeln!(f, "{}\n", renderer.render(&[self.group(one)]))?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

/// Gathers complaints while a file is read.
pub(super) struct Report<'a> {
    source: &'a str,
    line_ends: Vec<usize>,
    list: Vec<Diagnostic>,
}

impl<'a> Report<'a> {
    pub(super) fn new(source: &'a str) -> Self {
        Self { source, line_ends: source.match_indices('\n').map(|(at, _)| at).collect(), list: Vec::new() }
    }

    /// Line of a position, from 1.
    pub(super) fn line(&self, at: usize) -> u32 {
        u32::try_from(self.line_ends.partition_point(|end| *end < at)).unwrap_or(u32::MAX).saturating_add(1)
    }

    pub(super) fn error(&mut self, span: Range<usize>, message: impl Into<String>) -> &mut Diagnostic {
        self.add(Severity::Error, span, message.into())
    }

    pub(super) fn warn(&mut self, span: Range<usize>, message: impl Into<String>) -> &mut Diagnostic {
        self.add(Severity::Warning, span, message.into())
    }

    fn add(&mut self, severity: Severity, span: Range<usize>, message: String) -> &mut Diagnostic {
        let one = Diagnostic { severity, line: self.line(span.start), span, message, help: None, related: None };
        let at = self.list.len();
        self.list.push(one);
        // `at` is the element just pushed.
        #[allow(clippy::indexing_slicing)]
        &mut self.list[at]
    }

    pub(super) fn has_errors(&self) -> bool {
        self.list.iter().any(|one| one.severity == Severity::Error)
    }

    /// The complaints with the text they are about; `secrets` are the places of the file that must not be shown.
    pub(super) fn finish(mut self, file: &str, secrets: &[Range<usize>]) -> Diagnostics {
        self.list.sort_by_key(|one| (one.span.start, one.severity));
        self.list.dedup();
        Diagnostics { file: file.to_owned(), source: blot(self.source, secrets), list: self.list }
    }
}

/// The text with every octet of the secret places replaced by an asterisk, line ends kept.
fn blot(source: &str, secrets: &[Range<usize>]) -> String {
    let mut secrets = secrets.to_vec();
    secrets.sort_by_key(|secret| secret.start);
    let mut next = secrets.iter().peekable();
    let mut hidden_to = 0;
    let mut text = String::with_capacity(source.len());
    for (at, letter) in source.char_indices() {
        while let Some(secret) = next.next_if(|secret| secret.start <= at) {
            hidden_to = secret.end.max(hidden_to);
        }
        if at < hidden_to && letter != '\n' && letter != '\r' {
            text.extend(std::iter::repeat_n('*', letter.len_utf8()));
        } else {
            text.push(letter);
        }
    }
    text
}

/// Where the values of `psk` and `key` may stand in a text, well-formed or not, in tables of their own or on one line: from the equals sign
/// (a colon or a quotation mark in its place) to the next line that begins a table or an entry, and to the end of a multi-line string.
pub(super) fn secret_places(source: &str) -> Vec<Range<usize>> {
    let mut places = Vec::new();
    for (at, name) in source.match_indices("psk").chain(source.match_indices("key")) {
        let before = source.get(..at).unwrap_or_default();
        // `monkey` is no key; whatever ends in `psk` may be meant for one.
        if name == "key" && before.ends_with(|letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-') {
            continue;
        }
        let Some(after) = source.get(at.saturating_add(name.len())..) else { continue };
        let value = after.trim_start_matches([' ', '\t', '"', '\'']);
        let gap = after.strip_suffix(value).unwrap_or_default();
        // The equals sign may be what is wrong with the file.
        let lacks_sign = gap.starts_with([' ', '\t']) && gap.ends_with(['"', '\'']);
        if !value.starts_with(['=', ':']) && !lacks_sign {
            continue;
        }
        let start = source.len().saturating_sub(value.len()).saturating_add(usize::from(!lacks_sign));
        let mut end = start;
        for (number, line) in source.get(start..).unwrap_or_default().split_inclusive('\n').enumerate() {
            if number > 0 && begins_something(line) {
                break;
            }
            end = end.saturating_add(line.len());
        }
        places.push(start..end.max(multi_line_end(source, start)));
    }
    places
}

/// Where a multi-line string that opens at `start` closes: at the end of the text if never, at `start` if none opens.
fn multi_line_end(source: &str, start: usize) -> usize {
    let value = source.get(start..).unwrap_or_default().trim_start_matches([' ', '\t']);
    let opened = source.len().saturating_sub(value.len()).saturating_add(3);
    let Some(quotes) = ["\"\"\"", "'''"].into_iter().find(|quotes| value.starts_with(quotes)) else { return start };
    source.get(opened..).and_then(|rest| rest.find(quotes)).map_or(source.len(), |length| opened.saturating_add(length))
}

/// Whether a line looks like a table header or like `key = value`.
fn begins_something(line: &str) -> bool {
    let bare = |octet: u8| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet);
    let line = line.trim_start();
    line.starts_with('[') || line.split_once(" =").is_some_and(|(key, _)| !key.is_empty() && key.bytes().all(bare))
}
