//! One table: what it holds, and how it is ordered.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Site;
use crate::dynamo::{Condition, KeyAttribute, RowKey};
use crate::item::{Attributes, Item, Value};
use crate::key::Key;

/// A table with all its items.
pub(super) struct Table {
    pub(super) name: String,
    pub(super) site: Site,
    pub(super) key: Vec<KeyAttribute>,
    pub(super) key_names: Vec<String>,
    pub(super) items: BTreeMap<Place, Stored>,
    /// Its newest stream.
    pub(super) stream: Option<usize>,
    /// Shards that a new stream of it begins with.
    pub(super) shards: usize,
    /// What lately changed: when, where, and what was there before; for scans that are not consistent.
    pub(super) undo: VecDeque<(Instant, Place, Option<Stored>)>,
    /// Items with one of these texts in them are refused.
    pub(super) poison: Vec<String>,
}

/// Where an item stands among the others: for a row of ours its two keys' texts, else the key's canonical text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(String, String);

/// An item, and the same as attributes if it came so.
#[derive(Clone)]
pub(super) struct Stored {
    pub(super) key: Key,
    pub(super) item: Item,
    pub(super) row: Option<Arc<Attributes>>,
}

/// The largest item (developer guide, "Item size").
pub(super) const ITEM_BYTES_MAX: usize = 400 * 1024;

// === impl Table ===

impl Table {
    pub(super) fn new(name: &str, site: Site, key: Vec<KeyAttribute>) -> Self {
        Self {
            name: name.to_owned(),
            site,
            key_names: key.iter().map(|attribute| attribute.name.clone()).collect(),
            key,
            items: BTreeMap::new(),
            stream: None,
            shards: 1,
            undo: VecDeque::new(),
            poison: Vec::new(),
        }
    }

    /// The key of a table of ours.
    pub(super) fn row_key() -> Vec<KeyAttribute> {
        ["pk", "sk"].map(|name| KeyAttribute { name: name.to_owned(), kind: "S".to_owned() }).into()
    }

    /// Where the item under a key stands; `None` when it cannot be a key of this table.
    pub(super) fn place(&self, key: &Key) -> Option<Place> {
        if !self.holds_rows() {
            return Some(Place(String::from_utf8_lossy(key.as_bytes()).into_owned(), String::new()));
        }
        let attributes = Item::from_json(bytes::Bytes::copy_from_slice(key.as_bytes())).attributes().ok()?;
        place_of_row(&attributes)
    }

    /// Whether it is keyed as tables of ours are.
    pub(super) fn holds_rows(&self) -> bool {
        let [partition, sort] = &self.key_names[..] else { return false };
        partition == "pk" && sort == "sk"
    }

    /// Whether a put of this item is one that the service accepts.
    pub(super) fn accepts(&self, key: &Key, item: &Item) -> bool {
        let text = item.as_bytes();
        text.len() <= ITEM_BYTES_MAX
            && !self.poison.iter().any(|marker| memchr::memmem::find(text, marker.as_bytes()).is_some())
            && Key::of_item(text, &self.key_names).is_ok_and(|of_item| of_item == *key)
    }

    /// Whether the item at a place is as the condition says.
    pub(super) fn meets(&self, place: &Place, condition: &Condition) -> bool {
        match condition {
            Condition::Always => true,
            Condition::Absent => !self.items.contains_key(place),
            Condition::Equals { attribute, value } => {
                let stored = self.items.get(place);
                stored.is_some_and(|stored| stored.attributes().get(*attribute) == Some(value))
            }
        }
    }

    /// Remembers what was at a place before it changed now, for as long as a scan may be behind.
    pub(super) fn remember(&mut self, place: &Place, old: Option<Stored>, staleness: Duration) {
        let now = Instant::now();
        while self.undo.front().is_some_and(|(at, ..)| now - *at > staleness) {
            self.undo.pop_front();
        }
        if !staleness.is_zero() {
            self.undo.push_back((now, place.clone(), old));
        }
    }

    /// The items as they were so long ago.
    pub(super) fn items_before(&self, age: Duration) -> BTreeMap<Place, Stored> {
        let now = Instant::now();
        let mut items = self.items.clone();
        for (_, place, old) in self.undo.iter().rev().take_while(|(at, ..)| now - *at < age) {
            match old {
                Some(old) => items.insert(place.clone(), old.clone()),
                None => items.remove(place),
            };
        }
        items
    }

    /// The rows of a partition whose sort keys start with a prefix, in order, after a place.
    pub(super) fn rows<'a>(
        &'a self,
        partition: &str,
        prefix: &'a str,
        after: Option<&Place>,
    ) -> impl Iterator<Item = (&'a Place, &'a Stored)> {
        use std::ops::Bound;
        let start = match after {
            Some(after) if after.1.as_str() >= prefix => Bound::Excluded(after.clone()),
            _ => Bound::Included(Place(partition.to_owned(), prefix.to_owned())),
        };
        let partition = partition.to_owned();
        let rows = self.items.range((start, Bound::Unbounded));
        rows.take_while(move |(place, _)| place.0 == partition && place.1.starts_with(prefix))
    }
}

/// Where a row of ours stands.
pub(super) fn place_of_row(row: &Attributes) -> Option<Place> {
    let text = |name: &str| row.get(name).and_then(Value::as_str).map(str::to_owned);
    Some(Place(text("pk")?, text("sk")?))
}

// === impl Place ===

impl From<&RowKey> for Place {
    fn from(key: &RowKey) -> Self {
        Self(key.partition.clone(), key.sort.clone())
    }
}

// === impl Stored ===

impl Stored {
    /// The item's attributes.
    pub(super) fn attributes(&self) -> Arc<Attributes> {
        match &self.row {
            Some(row) => Arc::clone(row),
            None => Arc::new(self.item.attributes().unwrap_or_default()),
        }
    }
}
