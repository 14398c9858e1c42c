//! The strict pass over one file: what the layering crate would let pass or report without a line.
//!
//! The text is parsed into a tree with spans and walked along the schema. Unknown keys and values of the
//! wrong TOML type become problems at their line and column; everything else goes into a clean table for
//! the merge, and its place is remembered for problems that are only seen later.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::kind::Kind;
use super::problem::{Place, Problem};
use super::schema::{ROOT, Shape, Table};

/// Shorter guesses than this match everything.
const MIN_PREFIX_CHARS: usize = 4;

/// What one file contributes.
#[derive(Debug, Default)]
pub(super) struct Layer {
    /// Known keys with values of the right type.
    pub table: toml::Table,
    /// Where each table and value was written, by path.
    pub places: BTreeMap<String, Place>,
    /// Settings that were written but cannot be used, so that they are not called missing as well.
    pub spoiled: BTreeSet<String>,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// The text is no TOML: nothing can be said about what it leaves out.
    pub unreadable: bool,
}

/// Reads a file's text; `file` is its name for problems.
pub(super) fn read(file: &str, text: &str) -> Layer {
    let mut walk = Walk { file, text, layer: Layer::default() };
    match DeTable::parse(text) {
        Ok(root) => walk.layer.table = walk.table(root.get_ref(), &ROOT, ""),
        Err(error) => {
            let place = walk.place(error.span().unwrap_or(0..0));
            walk.layer.problems.push(Problem::at(place, error.message().trim()));
            walk.layer.unreadable = true;
        }
    }
    walk.layer
}

/// The problem of an unknown key of `table`, without its place; the sibling that was probably meant.
pub(super) fn unknown(key: &str, table: &Table, path: &str) -> (Problem, Option<&'static str>) {
    let within = if path.is_empty() { "at the top level".to_owned() } else { format!("in `{path}`") };
    let suggestion = suggest(key, table);
    let mut message = format!("unknown key `{key}` {within}");
    if let Some(name) = suggestion {
        message.push_str(&format!("; did you mean `{name}`?"));
    } else if let Some(home) = home(key, &ROOT, "") {
        message.push_str(&format!("; it is a key of `{home}`"));
    }
    (Problem::of(path, message).help(format!("allowed: {}", table.allowed())), suggestion)
}

struct Walk<'t> {
    file: &'t str,
    text: &'t str,
    layer: Layer,
}

impl Walk<'_> {
    fn table(&mut self, found: &DeTable<'_>, table: &'static Table, path: &str) -> toml::Table {
        let mut clean = toml::Table::new();
        for (key, value) in found {
            let name = key.get_ref().as_ref();
            let inner = join(path, name);
            let Some(entry) = table.entry(name) else {
                let sibling = self.unknown(name, key.span(), table, path);
                let is_written = |sibling: &&str| found.keys().any(|key| key.get_ref().as_ref() == *sibling);
                if let Some(missing) = sibling.filter(|sibling| !is_written(sibling)) {
                    self.layer.spoiled.insert(join(path, missing));
                }
                continue;
            };
            // A header such as `[replications.source]` stands at its key, a value at itself.
            let is_table = matches!(entry.shape, Shape::Table(_) | Shape::List(_));
            let place = self.place(if is_table { key.span() } else { value.span() });
            self.layer.places.insert(inner.clone(), place);
            if let Some(value) = self.value(value, &entry.shape, &inner) {
                clean.insert(name.to_owned(), value);
            }
        }
        clean
    }

    fn value(
        &mut self,
        found: &Spanned<DeValue<'_>>,
        shape: &'static Shape,
        path: &str,
    ) -> Option<toml::Value> {
        match (shape, found.get_ref()) {
            (Shape::Table(table), DeValue::Table(inner)) => {
                Some(toml::Value::Table(self.table(inner, table, path)))
            }
            (Shape::List(table), DeValue::Array(elements)) => Some(self.list(elements, table, path)),
            (Shape::Value(kind, _), value) => {
                let clean = scalar(kind, value);
                if clean.is_none() {
                    self.wrong_type(found, kind.expected(), hint(kind, value), path);
                }
                clean
            }
            (Shape::Table(_), DeValue::Array(_)) => {
                let hint = format!("there is one `{path}`: write it with single brackets");
                self.wrong_type(found, "a table", Some(hint), path);
                None
            }
            (Shape::Table(_), _) => {
                self.wrong_type(found, "a table", None, path);
                None
            }
            (Shape::List(_), _) => {
                let hint = "there can be many: write each with double brackets, [[...]]".to_owned();
                self.wrong_type(found, "a list of tables", Some(hint), path);
                None
            }
        }
    }

    fn list(&mut self, elements: &DeArray<'_>, table: &'static Table, path: &str) -> toml::Value {
        let mut clean = Vec::new();
        for (index, element) in elements.iter().enumerate() {
            let inner = format!("{path}[{index}]");
            let place = self.place(first_line(self.text, element.span()));
            self.layer.places.insert(inner.clone(), place);
            // An element that is no table leaves an empty one behind, so that the others keep their index.
            clean.push(toml::Value::Table(match element.get_ref() {
                DeValue::Table(found) => self.table(found, table, &inner),
                _ => {
                    self.wrong_type(element, "a table", None, &inner);
                    toml::Table::new()
                }
            }));
        }
        toml::Value::Array(clean)
    }

    /// Reports an unknown key; returns the one that was probably meant.
    fn unknown(&mut self, name: &str, span: Range<usize>, table: &Table, path: &str) -> Option<&'static str> {
        let (mut problem, suggestion) = unknown(name, table, path);
        problem.place = self.place(span);
        problem.path = Some(join(path, name));
        self.layer.problems.push(problem);
        suggestion
    }

    fn wrong_type(&mut self, found: &Spanned<DeValue<'_>>, expected: &str, hint: Option<String>, path: &str) {
        let message = format!("expected {expected}, found {}", described(found.get_ref()));
        let mut problem = Problem::of(path, message);
        problem.place = self.place(first_line(self.text, found.span()));
        problem.help = hint;
        self.layer.problems.push(problem);
        self.layer.spoiled.insert(path.to_owned());
    }

    fn place(&self, span: Range<usize>) -> Place {
        Place::in_file(self.file, self.text, span)
    }
}

/// The value for the merge, if it has the TOML type its kind is written in.
fn scalar(kind: &Kind, found: &DeValue<'_>) -> Option<toml::Value> {
    match (kind, found) {
        (Kind::Integer(_), DeValue::Integer(number)) => {
            // Beyond 64 bits the text goes on and is refused by its range.
            Some(match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(value) => toml::Value::Integer(value),
                Err(_too_large) => toml::Value::String(number.as_str().to_owned()),
            })
        }
        (Kind::Flag, DeValue::Boolean(value)) => Some(toml::Value::Boolean(*value)),
        (Kind::Start, DeValue::Datetime(time)) => Some(toml::Value::String(time.to_string())),
        (Kind::Integer(_) | Kind::Flag, _) => None,
        (_, DeValue::String(text)) => Some(toml::Value::String(text.clone().into_owned())),
        _ => None,
    }
}

fn described(found: &DeValue<'_>) -> String {
    match found {
        DeValue::String(text) => format!("{:?}", super::problem::mask_userinfo(text)),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(time) => format!("the time {time}"),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

fn hint(kind: &Kind, found: &DeValue<'_>) -> Option<String> {
    match (kind, found) {
        (Kind::Duration(_), DeValue::Integer(number)) => {
            Some(format!("add a unit and quotes: \"{number}s\" or \"{number}ms\""))
        }
        (Kind::Size(_), DeValue::Integer(number)) => {
            Some(format!("add a unit and quotes: \"{number}MiB\" or \"{number}B\""))
        }
        (Kind::Integer(_), DeValue::String(text)) if text.parse::<u64>().is_ok() => {
            Some(format!("remove the quotes: {text}"))
        }
        (Kind::Flag, DeValue::String(text)) if text.parse::<bool>().is_ok() => {
            Some(format!("remove the quotes: {text}"))
        }
        (Kind::Integer(_) | Kind::Flag, _) => None,
        (_, DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_)) => {
            Some("write it in quotes".to_owned())
        }
        _ => None,
    }
}

/// The key of `table` that `key` most likely was to be: one slip per three characters, or a beginning.
fn suggest(key: &str, table: &Table) -> Option<&'static str> {
    let written = key.to_ascii_lowercase().replace('-', "_");
    let distance = |name: &str| strsim::damerau_levenshtein(&written, name);
    let begins = |name: &str| {
        written.len().min(name.len()) >= MIN_PREFIX_CHARS
            && (name.starts_with(&written) || written.starts_with(name))
    };
    table
        .entries
        .iter()
        .map(|entry| entry.name)
        .filter(|name| distance(name) <= written.len().max(3) / 3 || begins(name))
        .min_by_key(|name| distance(name))
}

/// The table elsewhere in the configuration that has this very key.
fn home(key: &str, table: &Table, path: &str) -> Option<String> {
    table.entries.iter().find_map(|entry| match &entry.shape {
        Shape::Value(..) => None,
        Shape::Table(inner) | Shape::List(inner) => {
            let path = join(path, entry.name);
            if inner.entry(key).is_some() { Some(path) } else { home(key, inner, &path) }
        }
    })
}

fn first_line(text: &str, span: Range<usize>) -> Range<usize> {
    let end = text[span.start..span.end].find('\n').map_or(span.end, |newline| span.start + newline);
    span.start..end
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
