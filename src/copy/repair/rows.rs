//! Repairs as rows of the control table. What is done has rows of its own, so that a look for what is wanted reads
//! nothing else.

use bytes::Bytes;

use super::{Entry, State};
use crate::clock::Clock;
use crate::control::{self, Control, EXPIRES_AT, Row};
use crate::dynamo::{Condition, RowKey};
use crate::item::{Attributes, Value};
use crate::key::Key;

/// Sort keys of what is wanted begin with this.
const WANTED: &str = "wanted/";

/// Sort keys of what is done begin with this.
const DONE: &str = "done/";

/// How long it is told what became of a repair.
const TOLD_MS: i64 = 24 * 60 * 60 * 1000;

/// The repairs of one replica.
#[derive(Clone)]
pub struct Store {
    control: Control,
    partition: String,
    clock: Clock,
}

// === impl Store ===

impl Store {
    /// The repairs of `replica` in `replication`.
    pub fn new(control: Control, replication: &str, replica: &str, clock: Clock) -> Self {
        Self { control, partition: format!("{replication}/repair/{replica}"), clock }
    }

    /// Asks for repairs. A key that was asked for before is asked for anew.
    ///
    /// # Errors
    /// When the control table cannot be written; some keys may have been asked for then.
    pub async fn post(&self, keys: &[Key]) -> Result<(), control::Error> {
        for key in keys {
            let asked_unix_ms = self.clock.unix_ms();
            let entry = Entry {
                id: digest(key),
                key: key.detached(),
                version: format!("{asked_unix_ms:012x}{:08x}", fastrand::u32(..)),
                asked_unix_ms,
                state: State::Wanted { trouble: None },
            };
            self.control.put(&self.row(&entry), &Condition::Always).await?;
        }
        Ok(())
    }

    /// What is not done yet, in order of ids.
    ///
    /// # Errors
    /// When the control table cannot be read, or a row is damaged.
    pub async fn wanted(&self) -> Result<Vec<Entry>, control::Error> {
        self.list(WANTED).await
    }

    /// All repairs, also those of the last day that are done.
    ///
    /// # Errors
    /// When the control table cannot be read, or a row is damaged.
    pub async fn states(&self) -> Result<Vec<Entry>, control::Error> {
        let mut entries = self.wanted().await?;
        entries.extend(self.list(DONE).await?);
        Ok(entries)
    }

    /// Forgets what became of repairs, and gives up those that are not done.
    ///
    /// # Errors
    /// When the control table cannot be used.
    pub async fn clear(&self) -> Result<(), control::Error> {
        for prefix in [WANTED, DONE] {
            for entry in self.list(prefix).await? {
                self.control.delete(&self.key(prefix, &entry.id), &Condition::Always).await?;
            }
        }
        Ok(())
    }

    /// A repair is done; unless it was asked for anew since, nothing is left to do for its key.
    pub(super) async fn done(&self, entry: &Entry, state: State) -> Result<(), control::Error> {
        let done = Entry { state, ..entry.clone() };
        self.control.put(&self.row(&done), &Condition::Always).await?;
        self.control.delete(&self.key(WANTED, &entry.id), &unchanged(entry)).await?;
        Ok(())
    }

    /// Something stands in a repair's way.
    pub(super) async fn troubled(&self, entry: &Entry, trouble: &str) -> Result<(), control::Error> {
        let state = State::Wanted { trouble: Some(trouble.to_owned()) };
        if entry.state != state {
            let row = self.row(&Entry { state, ..entry.clone() });
            self.control.put(&row, &unchanged(entry)).await?;
        }
        Ok(())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, control::Error> {
        let rows = self.control.rows(&self.partition, prefix).await?;
        rows.iter().map(|row| read(&self.control.read(row), prefix)).collect()
    }

    fn key(&self, prefix: &str, id: &str) -> RowKey {
        RowKey { partition: self.partition.clone(), sort: format!("{prefix}{id}") }
    }

    fn row(&self, entry: &Entry) -> Attributes {
        let prefix = if matches!(entry.state, State::Wanted { .. }) { WANTED } else { DONE };
        let mut row = self.key(prefix, &entry.id).attributes();
        let mut set = |name: &str, value: Value| row.insert(name.to_owned(), value);
        set("key", entry.key.to_string().into());
        set("version", entry.version.as_str().into());
        set("asked_ms", Value::integer(entry.asked_unix_ms));
        let outcome = match &entry.state {
            State::Wanted { trouble: None } => return row,
            State::Wanted { trouble: Some(trouble) } => {
                set("trouble", trouble.as_str().into());
                return row;
            }
            State::Put => "put",
            State::Deleted => "deleted",
        };
        set("outcome", outcome.into());
        set(EXPIRES_AT, Value::integer((self.clock.unix_ms() + TOLD_MS) / 1000));
        row
    }
}

fn read(row: &Row<'_>, prefix: &str) -> Result<Entry, control::Error> {
    let text = Bytes::copy_from_slice(row.text("key")?.as_bytes());
    let state = match row.optional_text("outcome") {
        None => State::Wanted { trouble: row.optional_text("trouble").map(str::to_owned) },
        Some("put") => State::Put,
        Some("deleted") => State::Deleted,
        Some(_) => return Err(row.wrong("outcome")),
    };
    Ok(Entry {
        id: row.text("sk")?.trim_start_matches(prefix).to_owned(),
        key: Key::from_json(&text, 0..text.len()).map_err(|_| row.wrong("key"))?,
        version: row.text("version")?.to_owned(),
        asked_unix_ms: row.integer("asked_ms")?,
        state,
    })
}

fn unchanged(entry: &Entry) -> Condition {
    Condition::Equals { attribute: "version", value: entry.version.as_str().into() }
}

/// A short name for a key: 128 bits of it, so that two keys do not meet.
fn digest(key: &Key) -> String {
    use std::hash::BuildHasher;
    let other = foldhash::quality::FixedState::with_seed(0x7265_7061_6972).hash_one(key.as_bytes());
    format!("{:016x}{other:016x}", key.hash64())
}
