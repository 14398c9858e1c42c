//! Compares two tables item by item: both are read whole, sorted by key, and walked side by side.
//!
//! Equality is the service's, of typed attributes: numbers by value whatever their spelling, sets without order.

use std::cmp::Ordering;
use std::fmt;

use crate::dynamo::{self, Scan, Tables};
use crate::item::{self, Attributes};
use crate::key::{self, Key};

/// Differences that are kept to be shown. More of them say nothing new.
pub const EXAMPLES_MAX: usize = 5;

/// Why a table cannot be read whole.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A page of it did not come.
    #[error("scan table `{table}`: {source}")]
    Scan {
        /// The table.
        table: String,
        /// Why.
        source: Box<dynamo::Error>,
    },
    /// An item lacks its key.
    #[error("read the key of an item of table `{table}`")]
    Key {
        /// The table.
        table: String,
        /// Why.
        source: key::Malformed,
    },
    /// An item cannot be read.
    #[error("read an item of table `{table}`")]
    Item {
        /// The table.
        table: String,
        /// Why.
        source: item::Malformed,
    },
}

/// What a comparison found. Two tables are equal when nothing is missing, extra or different.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Items that are the same in both.
    pub equal: u64,
    /// Items that only the source has.
    pub missing: u64,
    /// Items that only the replica has.
    pub extra: u64,
    /// Items that both have with different attributes.
    pub different: u64,
    /// The first differences in order of their keys, [`EXAMPLES_MAX`] at most.
    pub examples: Vec<Example>,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// The item's key.
    pub key: Key,
    /// What is wrong with it.
    pub difference: Difference,
}

/// How an item differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// The replica lacks it.
    Missing,
    /// The source lacks it.
    Extra,
    /// These attributes have different values, or only one side has them.
    Attributes(Vec<String>),
}

/// Reads a whole table whose key attributes are `key`, in any order.
///
/// # Errors
/// When a page does not come, or an item is unreadable.
pub async fn read(tables: &dyn Tables, table: &str, key: &[String]) -> Result<Vec<(Key, Attributes)>, Error> {
    let mut items = Vec::new();
    let mut after = None;
    loop {
        let page = tables.scan(table, Scan { after: after.as_ref(), ..Scan::whole() }).await;
        let page =
            page.map_err(|source| Error::Scan { table: table.to_owned(), source: Box::new(source) })?;
        for item in page.items {
            let named = Key::of_item(item.as_bytes(), key)
                .map_err(|source| Error::Key { table: table.to_owned(), source })?;
            let attributes =
                item.attributes().map_err(|source| Error::Item { table: table.to_owned(), source })?;
            items.push((named, attributes));
        }
        after = page.next;
        if after.is_none() {
            return Ok(items);
        }
    }
}

/// Compares two tables' items, given in any order. A key that one side holds twice counts as missing or extra.
pub fn compare(source: &[(Key, Attributes)], replica: &[(Key, Attributes)]) -> Comparison {
    let mut found = Comparison::default();
    let mut left = by_key(source).into_iter().peekable();
    let mut right = by_key(replica).into_iter().peekable();
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return found,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((ours, _)), Some((theirs, _))) => ours.as_bytes().cmp(theirs.as_bytes()),
        };
        let ours = if order.is_le() { left.next() } else { None };
        let theirs = if order.is_ge() { right.next() } else { None };
        match (ours, theirs) {
            (Some((key, ours)), Some((_, theirs))) => found.count_pair(key, ours, theirs),
            (Some((key, _)), None) => found.count(key, Difference::Missing),
            (None, Some((key, _))) => found.count(key, Difference::Extra),
            (None, None) => return found,
        }
    }
}

fn by_key(items: &[(Key, Attributes)]) -> Vec<&(Key, Attributes)> {
    let mut sorted: Vec<_> = items.iter().collect();
    sorted.sort_unstable_by(|(left, _), (right, _)| left.as_bytes().cmp(right.as_bytes()));
    sorted
}

/// Names of the attributes in which two items differ.
fn differing(ours: &Attributes, theirs: &Attributes) -> Vec<String> {
    let changed = ours.iter().filter(|(name, value)| theirs.get(*name) != Some(*value));
    let added = theirs.iter().filter(|(name, _)| !ours.contains_key(*name));
    changed.chain(added).map(|(name, _)| name.clone()).collect()
}

// === impl Comparison ===

impl Comparison {
    /// Whether the tables hold the same items.
    pub fn is_equal(&self) -> bool {
        self.differences() == 0
    }

    /// How many items are missing, extra or different.
    pub fn differences(&self) -> u64 {
        self.missing + self.extra + self.different
    }

    fn count_pair(&mut self, key: &Key, ours: &Attributes, theirs: &Attributes) {
        if ours == theirs {
            self.equal += 1;
        } else {
            self.count(key, Difference::Attributes(differing(ours, theirs)));
        }
    }

    fn count(&mut self, key: &Key, difference: Difference) {
        *match difference {
            Difference::Missing => &mut self.missing,
            Difference::Extra => &mut self.extra,
            Difference::Attributes(_) => &mut self.different,
        } += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(Example { key: key.clone(), difference });
        }
    }
}

// === impl Example ===

impl fmt::Display for Example {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.difference {
            Difference::Missing => write!(f, "missing {}", self.key),
            Difference::Extra => write!(f, "extra {}", self.key),
            Difference::Attributes(names) => write!(f, "different {} in {}", self.key, names.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::item::{Item, Value};

    fn item(number: i64, text: &str) -> (Key, Attributes) {
        let attributes =
            Attributes::from([("pk".to_owned(), Value::integer(number)), ("text".to_owned(), text.into())]);
        let json = Item::from_attributes(&attributes);
        let key = Key::of_item(json.as_bytes(), &["pk".to_owned()]).expect("it has its key");
        (key, attributes)
    }

    fn table(items: &BTreeMap<i64, String>) -> Vec<(Key, Attributes)> {
        items.iter().map(|(number, text)| item(*number, text)).collect()
    }

    #[test]
    fn each_difference_is_named() {
        let source = vec![item(1, "same"), item(2, "missing"), item(3, "old")];
        let replica = vec![item(4, "extra"), item(3, "new"), item(1, "same")];
        let found = compare(&source, &replica);
        assert_eq!((found.equal, found.missing, found.extra, found.different), (1, 1, 1, 1));
        let shown: Vec<_> = found.examples.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                r#"missing {"pk":{"N":"2"}}"#,
                r#"different {"pk":{"N":"3"}} in text"#,
                r#"extra {"pk":{"N":"4"}}"#
            ]
        );
        assert!(!found.is_equal());
    }

    #[test]
    fn an_attribute_that_one_side_lacks_is_a_difference() {
        let (key, mut attributes) = item(1, "x");
        let ours = vec![(key.clone(), attributes.clone())];
        attributes.insert("more".to_owned(), Value::Null);
        let found = compare(&ours, &[(key, attributes)]);
        assert_eq!(found.examples[0].difference, Difference::Attributes(vec!["more".to_owned()]));
    }

    #[test]
    fn numbers_are_compared_by_value_and_sets_without_order() {
        let read = |json: &'static str| {
            let key = Key::of_item(json.as_bytes(), &["pk".to_owned()]).expect("it has its key");
            let item = Item::from_json(json.into());
            vec![(key, item.attributes().expect("it is an item"))]
        };
        let found = compare(
            &read(r#"{"pk":{"N":"1"},"n":{"N":"100"},"s":{"SS":["a","b"]}}"#),
            &read(r#"{"s":{"SS":["b","a"]},"n":{"N":"1E2"},"pk":{"N":"1.0"}}"#),
        );
        assert!(found.is_equal() && found.equal == 1, "{found:?}");
    }

    #[test]
    fn examples_are_few_and_counts_are_whole() {
        let found = compare(&(0..50).map(|number| item(number, "x")).collect::<Vec<_>>(), &[]);
        assert_eq!((found.missing, found.examples.len()), (50, EXAMPLES_MAX));
        assert!(compare(&[], &[]).is_equal());
    }

    #[test]
    fn an_item_that_came_twice_is_not_taken_for_equal() {
        let found = compare(&[item(1, "x")], &[item(1, "x"), item(1, "x")]);
        assert_eq!((found.equal, found.extra), (1, 1));
    }

    proptest! {
        #[test]
        fn it_counts_as_a_map_would(
            source in prop::collection::btree_map(0i64..30, "[ab]", 0..20),
            replica in prop::collection::btree_map(0i64..30, "[ab]", 0..20),
        ) {
            let found = compare(&table(&source), &table(&replica));
            let both = || source.iter().filter_map(|(key, ours)| Some((ours, replica.get(key)?)));
            prop_assert_eq!(found.equal, both().filter(|(ours, theirs)| ours == theirs).count() as u64);
            prop_assert_eq!(found.different, both().filter(|(ours, theirs)| ours != theirs).count() as u64);
            prop_assert_eq!(found.missing, source.keys().filter(|key| !replica.contains_key(key)).count() as u64);
            prop_assert_eq!(found.extra, replica.keys().filter(|key| !source.contains_key(key)).count() as u64);
            prop_assert_eq!(found.is_equal(), source == replica);
        }
    }
}
