//! What is wrong with a configuration, for a person and for a program.
//!
//! All problems are collected and shown together: whoever edits a file wants one list, not one error per
//! run. Nothing is started while there is one, and the process exits with [`EXIT_CODE`].

use std::fmt;

use serde::Serialize;

/// Exit code for a configuration that cannot be used: `EX_CONFIG` of sysexits.h.
pub const EXIT_CODE: u8 = 78;

/// Longest piece of a line that is shown; a longer one would wrap and lose its carets.
const EXCERPT_CHARS: usize = 160;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where it was written.
    pub place: Place,
    /// The setting, for example `replications[0].replicas[1].region`.
    pub path: Option<String>,
    /// What is wrong, a lowercase fragment that can stand alone.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

/// Where a setting was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Place {
    /// A position in a file.
    File {
        /// The file as it was named.
        file: String,
        /// Line, counted from 1.
        line: usize,
        /// Column in characters, counted from 1.
        column: usize,
        /// The line itself; credentials in URLs are masked.
        #[serde(skip)]
        excerpt: Box<Excerpt>,
    },
    /// A file as a whole.
    WholeFile {
        /// The file as it was named.
        file: String,
    },
    /// An environment variable.
    Environment {
        /// Its name.
        variable: String,
    },
    /// A command-line flag.
    Flag {
        /// Its name.
        flag: String,
    },
    /// Nowhere: the setting is missing and so is everything around it.
    Nowhere,
}

/// The part of a line a problem points at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// The line, cut where it is too long.
    text: String,
    /// Number of characters before the carets.
    before: usize,
    /// Number of carets, at least one.
    carets: usize,
}

/// Everything that is wrong; never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Errors {
    problems: Vec<Problem>,
}

impl Problem {
    /// A problem of a setting, whose place is looked up later.
    pub(super) fn of(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place: Place::Nowhere, path: Some(path.into()), message: message.into(), help: None }
    }

    /// A problem of a place that is no setting.
    pub(super) fn at(place: Place, message: impl Into<String>) -> Self {
        Self { place, path: None, message: message.into(), help: None }
    }

    /// Adds what to do.
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl Place {
    /// The place of a byte range of a file's text.
    pub(super) fn in_file(file: &str, text: &str, span: std::ops::Range<usize>) -> Self {
        let start = floor_boundary(text, span.start);
        let end = floor_boundary(text, span.end).max(start);
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
        let before = text[line_start..start].chars().count();
        let whole = mask_userinfo(text[line_start..line_end].trim_end_matches('\r'));
        let carets = text[start..end.min(line_end)].trim_end().chars().count().max(1);
        Place::File {
            file: file.to_owned(),
            line: text[..line_start].matches('\n').count() + 1,
            column: before + 1,
            excerpt: Box::new(Excerpt::cut(&whole, before, carets)),
        }
    }

    /// Order of the report: files as a person reads them, then what overrides them.
    fn rank(&self) -> (u8, usize, usize) {
        match self {
            Place::WholeFile { .. } => (0, 0, 0),
            Place::File { line, column, .. } => (1, *line, *column),
            Place::Environment { .. } => (2, 0, 0),
            Place::Flag { .. } => (3, 0, 0),
            Place::Nowhere => (4, 0, 0),
        }
    }

    fn file(&self) -> &str {
        match self {
            Place::File { file, .. } => file,
            _ => "",
        }
    }
}

impl Excerpt {
    fn cut(line: &str, before: usize, carets: usize) -> Self {
        let skipped = if before >= EXCERPT_CHARS { before - EXCERPT_CHARS / 2 } else { 0 };
        let text: String = line.chars().skip(skipped).take(EXCERPT_CHARS).collect();
        let before = before - skipped;
        Self { text, before, carets: carets.min(EXCERPT_CHARS - before) }
    }

    /// The carets, below the text they point at: a tab stays a tab, so that both are shifted alike.
    fn underline(&self) -> String {
        let blank = |c| if c == '\t' { '\t' } else { ' ' };
        let before = self.text.chars().map(blank).chain(std::iter::repeat(' ')).take(self.before);
        before.chain(std::iter::repeat_n('^', self.carets)).collect()
    }
}

impl Errors {
    /// Sorts the problems by place. `problems` must not be empty.
    pub(super) fn new(mut problems: Vec<Problem>) -> Self {
        debug_assert!(!problems.is_empty(), "an error without a problem");
        problems.sort_by(|a, b| {
            let key = |p: &Problem| (p.place.rank().0, p.place.file().to_owned(), p.place.rank());
            key(a).cmp(&key(b))
        });
        problems.dedup();
        Self { problems }
    }

    /// The problems, in the order of their places.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl std::error::Error for Errors {}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "invalid configuration")?;
        for problem in &self.problems {
            writeln!(f, "{problem}")?;
        }
        match self.problems.len() {
            1 => write!(f, "1 problem found; nothing was started."),
            n => write!(f, "{n} problems found; nothing was started."),
        }
    }
}

/// A block of lines, closed by an empty one.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = &self.message;
        let mut gutter = " ".to_owned();
        match &self.place {
            Place::File { file, line, column, excerpt } => {
                gutter = " ".repeat(line.to_string().len());
                writeln!(f, "{gutter}--> {file}:{line}:{column}\n{gutter} |")?;
                writeln!(f, "{line} | {}", excerpt.text)?;
                writeln!(f, "{gutter} | {} {message}", excerpt.underline())?;
            }
            Place::WholeFile { file } => writeln!(f, "{gutter}--> {file}\n{gutter} | {message}")?,
            Place::Environment { variable } => {
                writeln!(f, "{gutter}--> environment variable {variable}\n{gutter} | {message}")?;
            }
            Place::Flag { flag } => writeln!(f, "{gutter}--> flag {flag}\n{gutter} | {message}")?,
            Place::Nowhere => {
                let path = self.path.as_deref().unwrap_or("configuration");
                writeln!(f, "{gutter}--> {path}\n{gutter} | {message}")?;
            }
        }
        match &self.help {
            Some(help) => writeln!(f, "{gutter} = {help}"),
            None => Ok(()),
        }
    }
}

/// Replaces every character between `://` and the last `@` of a URL by `*`, keeping all positions. A URL
/// ends at the quote it began with; a path with an `@` loses more than it must, which is better than
/// showing a password with a `/`.
pub(super) fn mask_userinfo(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(scheme_end) = rest.find("://").map(|at| at + 3) {
        let quote = rest[..scheme_end].chars().rev().find(|c| matches!(c, '"' | '\''));
        masked.push_str(&rest[..scheme_end]);
        rest = &rest[scheme_end..];
        let url_end = quote.and_then(|quote| rest.find(quote)).unwrap_or(rest.len());
        let userinfo_end = rest[..url_end].rfind('@').unwrap_or(0);
        masked.extend(rest[..userinfo_end].chars().map(|_| '*'));
        rest = &rest[userinfo_end..];
    }
    masked.push_str(rest);
    masked
}

fn floor_boundary(text: &str, mut at: usize) -> usize {
    at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
