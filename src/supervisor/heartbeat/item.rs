//! A heartbeat as an item: its keys, its attributes, and what is read back of it.

use crate::dynamo::KeyAttribute;
use crate::item::{Attributes, Item, Value};
use crate::key::{self, Key};

/// The partition keys of all heartbeats start with this.
pub const PREFIX: &str = "dynamirror-heartbeat#";

/// The sort key of a heartbeat, where it is text.
const SORT: &str = "dynamirror-heartbeat";

const FLEET: &str = "dynamirror_fleet";
const WORKER: &str = "dynamirror_worker";
const INDEX: &str = "dynamirror_key";
const SEQUENCE: &str = "dynamirror_sequence";
const WRITTEN_MS: &str = "dynamirror_written_ms";

/// Where one heartbeat is written, again and again.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    /// Its number, from 0.
    pub(super) index: usize,
    /// Its key.
    pub(super) key: Key,
    attributes: Attributes,
}

/// What tells one heartbeat of a slot from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Beat {
    /// Rises with every write of the slot, whoever writes.
    pub(super) sequence: i64,
    /// When it was written, by the writer's clock, in milliseconds since 1970.
    pub(super) written_unix_ms: i64,
}

/// Why a table has no place for heartbeats.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// A number cannot carry the prefix that tells heartbeats from the table's own items.
    #[error("the partition key `{0}` is a number, which cannot carry the reserved prefix `{PREFIX}`")]
    Number(String),
    /// The table's description has no usable key.
    #[error("make a key of the table's description")]
    Key(#[from] key::Malformed),
}

/// Whether heartbeats fit into a table with this key.
///
/// # Errors
/// When its partition key cannot carry the prefix.
pub fn check(schema: &[KeyAttribute]) -> Result<(), Unfit> {
    match schema.first() {
        Some(partition) if partition.kind == "N" => Err(Unfit::Number(partition.name.clone())),
        _ => Ok(()),
    }
}

/// `count` places for the heartbeats of `fleet` in a table with this key.
pub(super) fn slots(schema: &[KeyAttribute], fleet: &str, count: usize) -> Result<Vec<Slot>, Unfit> {
    check(schema)?;
    (0..count).map(|index| Slot::new(schema, fleet, index)).collect()
}

// === impl Slot ===

impl Slot {
    fn new(schema: &[KeyAttribute], fleet: &str, index: usize) -> Result<Self, Unfit> {
        let mut attributes = Attributes::new();
        let texts = [format!("{PREFIX}{fleet}#{index}"), SORT.to_owned()];
        for (part, text) in schema.iter().zip(texts) {
            let value = match part.kind.as_str() {
                "N" => Value::integer(0),
                "B" => Value::Binary(text.into_bytes()),
                _ => Value::String(text),
            };
            attributes.insert(part.name.clone(), value);
        }
        let text = Item::from_attributes(&attributes);
        let key = Key::from_json(text.bytes(), 0..text.as_bytes().len())?;
        Ok(Self { index, key, attributes })
    }

    /// The item of one heartbeat.
    pub(super) fn item(&self, beat: Beat, fleet: &str, worker: &str) -> Item {
        let mut item = Attributes::from([
            (FLEET.to_owned(), Value::from(fleet)),
            (WORKER.to_owned(), worker.into()),
            (INDEX.to_owned(), Value::integer(self.index as i64)),
            (SEQUENCE.to_owned(), Value::integer(beat.sequence)),
            (WRITTEN_MS.to_owned(), Value::integer(beat.written_unix_ms)),
        ]);
        item.extend(self.attributes.clone());
        Item::from_attributes(&item)
    }
}

// === impl Beat ===

impl Beat {
    /// Reads an item back; `None` when it is no heartbeat.
    pub(super) fn read(item: &Item) -> Option<Self> {
        let attributes = item.attributes().ok()?;
        let integer = |name: &str| attributes.get(name).and_then(Value::as_i64);
        Some(Self { sequence: integer(SEQUENCE)?, written_unix_ms: integer(WRITTEN_MS)? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(name: &str, kind: &str) -> KeyAttribute {
        KeyAttribute { name: name.to_owned(), kind: kind.to_owned() }
    }

    #[test]
    fn there_is_a_place_in_every_key_but_a_number() {
        for sort in ["S", "N", "B"] {
            for partition in ["S", "B"] {
                let schema = [part("id", partition), part("at", sort)];
                let slots = slots(&schema, "fleet", 3).expect("places");
                let keys: Vec<_> = slots.iter().map(|slot| slot.key.to_string()).collect();
                assert!(keys[0] != keys[1] && keys[1] != keys[2], "{keys:?}");
            }
        }
        let alone = slots(&[part("id", "S")], "fleet", 1).expect("a place");
        assert_eq!(alone[0].key.to_string(), r#"{"id":{"S":"dynamirror-heartbeat#fleet#0"}}"#);
        let refused = slots(&[part("id", "N"), part("at", "S")], "fleet", 1).expect_err("a number");
        assert!(refused.to_string().contains("`id` is a number"), "{refused}");
    }

    proptest! {
        #[test]
        fn a_heartbeat_is_read_back_under_its_key(
            sequence in any::<i64>(), written_unix_ms in 0..i64::MAX, name in "\\PC{1,20}", sort in "[SNB]",
        ) {
            let schema = [part(&name, "B"), part("sort", &sort)];
            let names: Vec<_> = schema.iter().map(|part| part.name.clone()).collect();
            prop_assume!(name != "sort");
            let slot = slots(&schema, "fleet", 1).expect("a place").remove(0);
            let beat = Beat { sequence, written_unix_ms };
            let item = slot.item(beat, "fleet", "worker");
            prop_assert_eq!(Beat::read(&item), Some(beat));
            prop_assert_eq!(Key::of_item(item.as_bytes(), &names).expect("a key"), slot.key);
        }
    }
}
