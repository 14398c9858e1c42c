//! What is different between two items, attribute by attribute.

use std::fmt;

use bytes::Bytes;
use serde::Serialize;

use super::Digester;
use crate::item::{Attributes, Item, Value};
use crate::key::Key;

/// Most paths that are told of one item: a person reads the first, and an item of 400 kB can have tens of thousands.
const PATHS_MAX: usize = 100;

/// What is wrong with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// The source has an item and the replica none.
    Missing,
    /// The replica has an item and the source none.
    Extra,
    /// Both have one, and they are not equal.
    Different,
    /// The source's item is past its time to live: each table deletes such an item when it comes to it.
    TtlExpired,
    /// It changed whenever it was looked at, or the replica was too far behind: nothing is known.
    Unstable,
}

/// A key with its class and what was seen of it last.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The key.
    pub key: Key,
    /// What is wrong.
    pub class: Class,
    /// Where the items differ, when both are there.
    pub paths: Vec<Path>,
    /// The source's item, where it is kept.
    pub source: Option<Item>,
    /// The replica's item, where it is kept.
    pub replica: Option<Item>,
}

/// A place in an item where two differ.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Path {
    /// As the service writes paths, such as `order.lines[2].price`; names that are more than letters, digits, `_` and `-`
    /// are quoted.
    pub path: String,
    /// How.
    pub what: What,
}

/// How two values differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// The replica lacks it.
    Missing,
    /// The source lacks it.
    Extra,
    /// It has another type.
    Type,
    /// It has another value.
    Value,
}

/// Where two items differ; what `digester` ignores, they do not differ in. A text that is no item differs as a whole,
/// at the path that is empty.
pub fn paths(source: &Item, replica: &Item, digester: &Digester) -> Vec<Path> {
    let mut found = Vec::new();
    match (source.attributes(), replica.attributes()) {
        (Ok(mut source), Ok(mut replica)) => {
            source.retain(|name, _| !digester.ignores(name));
            replica.retain(|name, _| !digester.ignores(name));
            compare_maps("", &source, &replica, &mut found);
        }
        _ => found.push(Path { path: String::new(), what: What::Value }),
    }
    found
}

fn compare_maps(at: &str, source: &Attributes, replica: &Attributes, found: &mut Vec<Path>) {
    for (name, value) in source {
        match replica.get(name) {
            Some(other) if value == other => {}
            Some(other) => compare(&member(at, name), value, other, found),
            None => note(found, member(at, name), What::Missing),
        }
    }
    for name in replica.keys().filter(|name| !source.contains_key(*name)) {
        note(found, member(at, name), What::Extra);
    }
}

fn compare(at: &str, source: &Value, replica: &Value, found: &mut Vec<Path>) {
    match (source, replica) {
        (Value::Map(source), Value::Map(replica)) => compare_maps(at, source, replica, found),
        (Value::List(source), Value::List(replica)) => {
            for (index, (source, replica)) in source.iter().zip(replica).enumerate() {
                if source != replica {
                    compare(&format!("{at}[{index}]"), source, replica, found);
                }
            }
            for index in replica.len()..source.len() {
                note(found, format!("{at}[{index}]"), What::Missing);
            }
            for index in source.len()..replica.len() {
                note(found, format!("{at}[{index}]"), What::Extra);
            }
        }
        _ => {
            let same = std::mem::discriminant(source) == std::mem::discriminant(replica);
            note(found, at.to_owned(), if same { What::Value } else { What::Type });
        }
    }
}

fn note(found: &mut Vec<Path>, path: String, what: What) {
    if found.len() < PATHS_MAX {
        found.push(Path { path, what });
    }
}

fn member(at: &str, name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let dot = if at.is_empty() { "" } else { "." };
    match !name.is_empty() && name.chars().all(is_plain) {
        true => format!("{at}{dot}{name}"),
        false => format!("{at}{dot}{name:?}"),
    }
}

// === impl Class ===

impl Class {
    /// Its name, as reports and metrics spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Different => "different",
            Self::TtlExpired => "ttl-expired",
            Self::Unstable => "unstable",
        }
    }

    /// Whether it is proven that the replica is wrong.
    pub fn is_confirmed(self) -> bool {
        matches!(self, Self::Missing | Self::Extra | Self::Different)
    }
}

// === impl Difference ===

impl Difference {
    /// The same in memory of its own, so that it keeps no answer alive.
    pub(super) fn detached(self) -> Self {
        let copy = |item: Item| Item::from_json(Bytes::copy_from_slice(item.as_bytes()));
        Self {
            key: self.key.detached(),
            source: self.source.map(copy),
            replica: self.replica.map(copy),
            ..self
        }
    }

    /// The key and the class alone.
    pub(super) fn without_items(self) -> Self {
        Self { key: self.key.detached(), class: self.class, paths: Vec::new(), source: None, replica: None }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Type => "another type",
            Self::Value => "another value",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::item::any_value;

    fn found(source: &str, replica: &str) -> Vec<String> {
        let item = |text: &str| Item::from_json(text.as_bytes().to_vec().into());
        let paths = paths(&item(source), &item(replica), &Digester::new(&["seen"]));
        paths.into_iter().map(|path| format!("{} {}", path.path, path.what)).collect()
    }

    #[test]
    fn places_are_named() {
        let source = r#"{"k":{"S":"a"},"seen":{"N":"1"},"n":{"N":"1.0"},"gone":{"S":""},
            "m":{"M":{"x.y":{"S":"1"},"l":{"L":[{"N":"1"},{"N":"2"},{"N":"3"}]}}},"s":{"SS":["a","b"]}}"#;
        let replica = r#"{"k":{"S":"a"},"seen":{"N":"2"},"n":{"N":"1"},"new":{"S":""},
            "m":{"M":{"x.y":{"N":"1"},"l":{"L":[{"N":"1"},{"N":"7"}]}}},"s":{"L":[{"S":"a"},{"S":"b"}]}}"#;
        assert_eq!(
            found(source, replica),
            [
                "gone missing",
                "m.l[1] another value",
                "m.l[2] missing",
                "m.\"x.y\" another type",
                "s another type",
                "new extra",
            ]
        );
        assert_eq!(found("?", "{}"), [" another value"]);
    }

    proptest! {
        #[test]
        fn there_is_a_path_exactly_when_the_digests_differ(
            source in prop::collection::btree_map("[ab]", any_value(), 0..3),
            replica in prop::collection::btree_map("[ab]", any_value(), 0..3),
        ) {
            let (source, replica) = (Item::from_attributes(&source), Item::from_attributes(&replica));
            let mut digester = Digester::new::<&str>(&[]);
            let equal = digester.item(&source) == digester.item(&replica);
            prop_assert_eq!(paths(&source, &replica, &digester).is_empty(), equal);
        }
    }
}
