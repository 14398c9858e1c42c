//! Parked changes as they are printed.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::cli::exit::{Code, Failure};
use crate::cli::output::{Format, print, print_json, rfc3339};
use crate::replica::parked::Entry;

/// A parked change as it is printed.
#[derive(Debug, Serialize)]
pub(super) struct Letter {
    pub(super) id: String,
    pub(super) key: Box<RawValue>,
    pub(super) change: &'static str,
    pub(super) item_bytes: i64,
    pub(super) reason: String,
    pub(super) created: Option<String>,
    pub(super) parked: Option<String>,
    pub(super) retry_requested: bool,
}

/// The parked changes of a replica.
#[derive(Debug, Serialize)]
pub(super) struct Letters {
    pub(super) schema_version: u32,
    pub(super) replication: String,
    pub(super) replica: String,
    pub(super) dead_letters: Vec<Letter>,
}

/// One with its item.
#[derive(Debug, Serialize)]
pub(super) struct Whole {
    pub(super) schema_version: u32,
    #[serde(flatten)]
    pub(super) letter: Letter,
    /// In DynamoDB's JSON; absent for a delete.
    pub(super) item: Option<Box<RawValue>>,
}

/// What became of those that something was asked for.
#[derive(Debug, Serialize)]
pub(super) struct Changed {
    pub(super) schema_version: u32,
    /// Those it was done for.
    pub(super) ids: Vec<String>,
    /// Those that were settled or parked anew in the meantime.
    pub(super) changed_meanwhile: Vec<String>,
}

// === impl Letter ===

impl Letter {
    /// As it is printed.
    pub(super) fn new(entry: &Entry) -> Result<Self, Failure> {
        Ok(Self {
            id: entry.id.clone(),
            key: raw(entry.key.as_bytes())?,
            change: if entry.is_delete { "delete" } else { "put" },
            item_bytes: entry.item_bytes,
            reason: entry.reason.clone(),
            created: rfc3339(entry.created_unix_ms),
            parked: rfc3339(entry.parked_unix_ms),
            retry_requested: entry.retry_wanted,
        })
    }
}

// === impl Changed ===

impl Changed {
    /// None yet.
    pub(super) const fn new() -> Self {
        Self { schema_version: 1, ids: Vec::new(), changed_meanwhile: Vec::new() }
    }

    /// Adds one, for which it was `done`, or which had changed before.
    pub(super) fn note(&mut self, entry: &Entry, done: bool) {
        let list = if done { &mut self.ids } else { &mut self.changed_meanwhile };
        list.push(entry.id.clone());
    }

    /// Prints it; `done` says in text what was done.
    pub(super) fn print(&self, format: Format, done: &str) -> Result<Code, Failure> {
        if format == Format::Json {
            print_json(self)?;
        } else {
            print(format!("{}: {done}", count(self.ids.len())))?;
            for id in &self.changed_meanwhile {
                print(format!("{id}: settled or parked anew in the meantime; left as it is"))?;
            }
        }
        Ok(if self.changed_meanwhile.is_empty() { Code::Success } else { Code::Negative })
    }
}

/// JSON text as it is.
pub(super) fn raw(text: &[u8]) -> Result<Box<RawValue>, Failure> {
    serde_json::from_slice(text).map_err(|error| Failure::Stream(error.into()))
}

/// The same words on one line.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// So many keys.
pub(super) fn count(keys: usize) -> String {
    match keys {
        1 => "1 key".to_owned(),
        keys => format!("{keys} keys"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::key::Key;

    pub(crate) fn entry(id: &str) -> Entry {
        let key = Bytes::from_static(br#"{"k":{"S":"a"}}"#);
        Entry {
            id: id.to_owned(),
            key: Key::from_json(&key, 0..key.len()).expect("a key"),
            is_delete: false,
            version: "1".to_owned(),
            parts: 1,
            item_bytes: 17,
            reason: "too\n  large".to_owned(),
            created_unix_ms: 0,
            parked_unix_ms: 1_000,
            retry_wanted: false,
            shard: None,
            order: None,
        }
    }

    #[test]
    fn a_letter_shows_the_key_as_json() {
        let letter = Letter::new(&entry("abc")).expect("a good entry");
        let json = serde_json::to_value(&letter).expect("plain data");
        assert_eq!(json["key"]["k"]["S"], "a");
        assert_eq!(json["parked"], "1970-01-01T00:00:01Z");
        assert_eq!(one_line(&letter.reason), "too large");
    }
}
