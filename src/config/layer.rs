//! The layers: files in their order, then the environment, then flags, merged by the `config` crate.
//!
//! Values from outside files stay text until their kind is known, so an account id keeps its zeros and
//! `1e5` stays `1e5`. A list in a later file replaces the earlier one; tables merge key by key. Every
//! setting remembers where its winning value was written.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

use ::config::{Environment, FileFormat};

use super::problem::{Place, Problem};
use super::schema::{ROOT, Shape, Table};
use super::strict::{self, Layer};

/// Variables with this prefix are settings; anything else in the environment is left alone.
pub const ENVIRONMENT_PREFIX: &str = "DYNAMIRROR__";

/// A list element beyond this is a slip; believing it would allocate all the elements before it.
const MAX_INDEX: usize = 999;

/// A configuration file that was read.
#[derive(Debug, Clone)]
pub struct File {
    /// Its name for messages.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// A command-line flag that sets a value.
#[derive(Debug, Clone)]
pub struct Override {
    /// The flag as the person wrote it, for messages: `--listen`.
    pub flag: String,
    /// The setting it stands for: `http.listen`, `replications[0].start`.
    pub path: String,
    /// The value as text.
    pub value: String,
}

/// All layers on top of each other.
#[derive(Debug)]
pub(super) struct Merged {
    /// The merged tree. Numbers and booleans of the environment are still text.
    pub tree: serde_json::Value,
    /// Where the values come from.
    pub origins: Origins,
    /// What is wrong so far.
    pub problems: Vec<Problem>,
    /// Part of the input could not be read, so nothing can be called missing.
    pub incomplete: bool,
}

/// Where each setting was written.
#[derive(Debug, Default)]
pub(super) struct Origins {
    places: BTreeMap<String, Place>,
    spoiled: BTreeSet<String>,
}

impl Origins {
    /// The place of a setting; where it was not written, of what stands in it or nearest around it.
    pub(super) fn place(&self, path: &str) -> Place {
        let mut outer = path;
        while !outer.is_empty() {
            let within =
                || self.places.iter().find(|(inner, _)| is_within(inner, outer)).map(|(_, place)| place);
            if let Some(place) = self.places.get(outer).or_else(within) {
                return place.clone();
            }
            outer = outer.rfind(['.', '[']).map_or("", |end| &outer[..end]);
        }
        Place::Nowhere
    }

    /// Whether the setting, or what stands around it, was written but cannot be used.
    pub(super) fn is_spoiled(&self, path: &str) -> bool {
        self.spoiled.iter().any(|spoiled| spoiled == path || is_within(path, spoiled))
    }

    /// Takes over a file's places. A list that is written again replaces the old one entirely.
    fn lay(&mut self, layer: &mut Layer) {
        for list in layer.table.iter().filter(|(_, value)| value.is_array()).map(|(key, _)| key) {
            self.places.retain(|path, _| !is_within(path, list));
            self.spoiled.retain(|path| !is_within(path, list));
        }
        for path in layer.places.keys() {
            self.spoiled.remove(path);
        }
        self.places.append(&mut layer.places);
        self.spoiled.append(&mut layer.spoiled);
    }

    fn set(&mut self, path: &str, place: Place) {
        self.spoiled.remove(path);
        self.places.insert(path.to_owned(), place);
    }
}

/// The settings among the variables of a process, for [`load`](super::load): pass `std::env::vars_os()`.
/// Text that is not Unicode is kept with replacement characters, for the checks to refuse.
pub fn environment(variables: impl Iterator<Item = (OsString, OsString)>) -> Vec<(String, String)> {
    let text = |text: OsString| text.to_string_lossy().into_owned();
    variables
        .map(|(name, value)| (text(name), text(value)))
        .filter(|(name, _)| setting_of(name).is_some())
        .collect()
}

/// Merges everything. `env` is the environment as name and value; names without the prefix are ignored.
pub(super) fn merge(files: &[File], env: &[(String, String)], overrides: &[Override]) -> Merged {
    let mut origins = Origins::default();
    let mut problems = Vec::new();
    let mut incomplete = false;
    let mut builder = ::config::Config::builder();
    for file in files {
        let mut layer = strict::read(&file.name, &file.text);
        incomplete |= layer.unreadable;
        problems.append(&mut layer.problems);
        origins.lay(&mut layer);
        builder = builder.add_source(::config::File::from_str(&layer.table.to_string(), FileFormat::Toml));
    }
    let variables = variables(env, &mut origins, &mut problems);
    let flags = flags(overrides, &mut origins, &mut problems);
    builder = builder.add_source(as_source(variables)).add_source(as_source(flags));
    let merged = builder.build().and_then(|merged| merged.try_deserialize());
    let tree = merged.unwrap_or_else(|error| {
        incomplete = true;
        problems.push(Problem::at(Place::Nowhere, format!("the layers do not fit together: {error}")));
        serde_json::Value::Null
    });
    Merged { tree, origins, problems, incomplete }
}

/// Settings by path, in the form in which the `config` crate lays text over a tree without parsing it.
fn as_source(settings: BTreeMap<String, String>) -> Environment {
    let named = settings.into_iter().map(|(path, value)| (path.replace('.', "__"), value)).collect();
    Environment::default().separator("__").try_parsing(false).source(Some(named))
}

/// The settings of the environment, by path.
fn variables(
    env: &[(String, String)],
    origins: &mut Origins,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    let mut set_by: BTreeMap<String, &str> = BTreeMap::new();
    for (name, value) in env {
        let lower = name.to_ascii_lowercase();
        let Some(path) = lower.strip_prefix(&ENVIRONMENT_PREFIX.to_ascii_lowercase()) else {
            continue;
        };
        let place = Place::Environment { variable: name.clone() };
        match locate(&path.split("__").collect::<Vec<_>>()) {
            Err(problem) => problems.push(Problem { place, ..problem }),
            // Compose files and charts pass unset variables as empty ones.
            Ok(_) if value.is_empty() => {}
            Ok(path) => match set_by.insert(path.clone(), name) {
                Some(other) => {
                    let problem = Problem::of(&path, format!("`{path}` is also set by {other}"));
                    problems.push(Problem { place, ..problem });
                }
                None => {
                    origins.set(&path, place);
                    settings.insert(path, value.clone());
                }
            },
        }
    }
    settings
}

/// The settings of flags, by path.
fn flags(
    overrides: &[Override],
    origins: &mut Origins,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    for Override { flag, path, value } in overrides {
        let place = Place::Flag { flag: flag.clone() };
        match locate(&path.split('.').collect::<Vec<_>>()) {
            Err(problem) => problems.push(Problem { place, ..problem }),
            Ok(path) => {
                origins.set(&path, place);
                settings.insert(path, value.clone());
            }
        }
    }
    settings
}

/// The part of a variable's name that says which setting it is, in lower case.
fn setting_of(variable: &str) -> Option<String> {
    let prefix = variable.get(..ENVIRONMENT_PREFIX.len())?;
    prefix.eq_ignore_ascii_case(ENVIRONMENT_PREFIX).then(|| variable[prefix.len()..].to_ascii_lowercase())
}

/// The canonical path of a value, from its segments. Indexes are taken as `name[0]` and as `name`, `0`.
fn locate(segments: &[&str]) -> Result<String, Problem> {
    let mut table: &'static Table = &ROOT;
    let mut path = String::new();
    let mut rest = segments.iter().copied();
    while let Some(segment) = rest.next() {
        let (name, bracket) = match segment.split_once('[') {
            Some((name, index)) => (name, Some(index.strip_suffix(']').unwrap_or(index))),
            None => (segment, None),
        };
        let entry = table.entry(name).ok_or_else(|| strict::unknown(name, table, &path).0)?;
        let outer = path.clone();
        path = if outer.is_empty() { name.to_owned() } else { format!("{outer}.{name}") };
        match (&entry.shape, bracket) {
            (Shape::Value(..), None) => {
                return match rest.next() {
                    None => Ok(path),
                    Some(_) => {
                        Err(Problem::of(&path, format!("`{path}` is a value and has no settings inside")))
                    }
                };
            }
            (Shape::Table(inner), None) => table = inner,
            (Shape::List(inner), bracket) => {
                let index = bracket.or_else(|| rest.next()).unwrap_or_default();
                path = format!("{path}[{}]", list_index(index, &path)?);
                table = inner;
            }
            (_, Some(_)) => return Err(Problem::of(&path, format!("`{path}` is not a list"))),
        }
    }
    Err(Problem::of(&path, format!("`{path}` is a table, not a value"))
        .help(format!("inside: {}", table.allowed())))
}

fn list_index(text: &str, path: &str) -> Result<usize, Problem> {
    text.parse().ok().filter(|index| *index <= MAX_INDEX).ok_or_else(|| {
        Problem::of(
            path,
            format!("`{path}` is a list: expected an index from 0 to {MAX_INDEX}, found {text:?}"),
        )
        .help(format!("the first element is `{path}[0]`; in a variable's name, {}__0", path.to_uppercase()))
    })
}

fn is_within(inner: &str, outer: &str) -> bool {
    !outer.is_empty() && inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with(['.', '[']))
}
