//! Changes that a replica refuses, kept with their payload until a newer change of the key settles them, or a
//! person retries or drops them.
//!
//! Two kinds of rows: one that describes a parked key, and the payload beside it, compressed and split, because an
//! item may be as large as a row.
//!
//! ```text
//!  draft ──> payload, expiring ──> description ──> payload, to stay ──> what the key had parked before is removed
//! ```
//!
//! The payload is written first, under the version of its draft: whoever finds a description finds its whole payload, and
//! an attempt that is made again writes the same rows again. A payload that nobody describes, because its worker died or
//! lost its lease in between, expires; one that is described is made to stay before its change counts as kept. (A worker
//! that dies between these two leaves a description whose payload expires; but then the change was not kept, is read
//! again and parked anew, long before.)

use std::io::{Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use crate::change::{Change, Op, Order};
use crate::clock::Clock;
use crate::control::{self, Control};
use crate::dynamo::{self, Condition, Outcome, RowKey};
use crate::fault::{Directive, Stage, directive};
use crate::item::{Attributes, Item, Value};
use crate::key::{self, Key};
use crate::shard::ShardId;

/// Bytes of compressed payload in one row: a row holds 400 KB with its names and numbers.
const PART_BYTES: usize = 380_000;

/// How long a payload stays that nobody describes: far above the retries of one that keeps a change, and enough to look
/// at what a dead worker left.
const UNDESCRIBED_MS: i64 = 24 * 60 * 60 * 1000;

/// Instead of `order`, the mark that a repair saw in the replica's item.
const SEEN: &str = "seen";

/// The parked keys of one replica.
#[derive(Clone)]
pub struct Parked {
    control: Control,
    replication: String,
    replica: String,
    clock: Clock,
}

/// What is known of one parked key.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its name in lists and commands.
    pub id: String,
    /// The key.
    pub key: Key,
    /// Whether the parked change is a delete.
    pub is_delete: bool,
    /// Names the payload's rows; a newer parked change of the key has another one.
    pub version: String,
    /// Rows of payload.
    pub parts: i64,
    /// Bytes of the item's JSON text.
    pub item_bytes: i64,
    /// What the replica said.
    pub reason: String,
    /// When the change was made at the source, in milliseconds since 1970.
    pub created_unix_ms: i64,
    /// When it was parked.
    pub parked_unix_ms: i64,
    /// Whether somebody asked to try it again.
    pub retry_wanted: bool,
    /// The shard that the change was read from, if that is known.
    pub shard: Option<ShardId>,
    /// Where it stands among the changes of its key, if that is known.
    pub order: Option<Order>,
}

/// A change on its way to be kept.
#[derive(Debug, Clone)]
pub struct Draft {
    entry: Entry,
    /// The compressed item; empty for a delete.
    payload: Vec<u8>,
}

/// Why a parked key cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The control table does not do it.
    #[error(transparent)]
    Control(#[from] control::Error),
    /// The key in the row is none.
    #[error("read the key of parked entry `{id}`")]
    Key {
        /// The entry.
        id: String,
        /// Why.
        source: key::Malformed,
    },
    /// Rows of the payload are missing or damaged.
    #[error("read the payload of parked entry `{id}`: {what}")]
    Payload {
        /// The entry.
        id: String,
        /// What is wrong with it.
        what: String,
    },
}

// === impl Error ===

impl Error {
    /// Whether a write that failed with it may be done all the same, or done later.
    pub fn may_land(&self) -> bool {
        match self {
            Self::Control(control::Error::Call { source, .. }) => {
                directive(source.fault, Stage::Write) == Directive::RetryAfterSettling
            }
            Self::Control(_) | Self::Key { .. } | Self::Payload { .. } => false,
        }
    }
}

/// What became of an entry that was to be removed.
#[derive(Debug, Clone, PartialEq)]
pub enum Removal {
    /// It was removed.
    Removed,
    /// It was not there any more.
    Gone,
    /// This entry of the same key is there instead, and stays.
    Replaced(Box<Entry>),
}

// === impl Parked ===

impl Parked {
    /// The parked keys of `replica` in `replication`.
    pub fn new(control: Control, replication: &str, replica: &str, clock: Clock) -> Self {
        Self { control, replication: replication.to_owned(), replica: replica.to_owned(), clock }
    }

    /// All of them, in order of their ids.
    ///
    /// # Errors
    /// When the rows cannot be read.
    pub async fn list(&self) -> Result<Vec<Entry>, Error> {
        let rows = self.control.rows(&self.partition(), "").await?;
        rows.iter().map(|row| self.read(row)).collect()
    }

    /// What there is to keep of `change`, which was read from `shard` and which the replica refused with `refusal`.
    pub fn draft(&self, change: &Change, refusal: &dynamo::Error, shard: Option<&ShardId>) -> Draft {
        let parked_unix_ms = self.clock.unix_ms();
        let (payload, item_bytes) = match &change.op {
            Op::Put(item) => (compress(item.as_bytes()), item.as_bytes().len()),
            Op::Delete => (Vec::new(), 0),
        };
        let entry = Entry {
            id: digest(&change.key),
            key: change.key.detached(),
            is_delete: matches!(change.op, Op::Delete),
            version: format!("{parked_unix_ms:012x}{:08x}", fastrand::u32(..)),
            parts: payload.chunks(PART_BYTES).len() as i64,
            item_bytes: item_bytes as i64,
            reason: refusal.to_string(),
            created_unix_ms: change.created_unix_ms,
            parked_unix_ms,
            retry_wanted: false,
            shard: shard.cloned(),
            order: change.order.clone(),
        };
        Draft { entry, payload }
    }

    /// Keeps a drafted change; `earlier` is what the key had parked before. After a failure the same draft may be kept
    /// again.
    ///
    /// # Errors
    /// When the control table cannot be written; nothing that was parked before is lost then.
    pub async fn keep(&self, draft: &Draft, earlier: Option<&Entry>) -> Result<Entry, Error> {
        self.write_payload(draft, Some(draft.entry.parked_unix_ms + UNDESCRIBED_MS)).await?;
        self.control.put(&self.row(&draft.entry), &Condition::Always).await?;
        self.write_payload(draft, None).await?;
        if let Some(earlier) = earlier {
            self.delete_payload(earlier).await?;
        }
        Ok(draft.entry.clone())
    }

    /// Removes an entry and its payload, unless its key was parked anew since.
    ///
    /// # Errors
    /// When the control table cannot be written, or the other entry is unreadable.
    pub async fn remove(&self, entry: &Entry) -> Result<Removal, Error> {
        let unchanged = Condition::Equals { attribute: "version", value: entry.version.as_str().into() };
        let outcome = self.control.delete(&self.key(&entry.id), &unchanged).await?;
        self.delete_payload(entry).await?;
        match outcome {
            Outcome::Done => Ok(Removal::Removed),
            Outcome::Refused(None) => Ok(Removal::Gone),
            Outcome::Refused(Some(other)) => Ok(Removal::Replaced(Box::new(self.read(&other)?))),
        }
    }

    /// Asks whoever writes to the replica to try the entry again. Says whether it was still there.
    ///
    /// # Errors
    /// When the control table cannot be written.
    pub async fn ask_retry(&self, entry: &Entry) -> Result<bool, Error> {
        let unchanged = Condition::Equals { attribute: "version", value: entry.version.as_str().into() };
        let row = self.row(&Entry { retry_wanted: true, ..entry.clone() });
        Ok(self.control.put(&row, &unchanged).await? == Outcome::Done)
    }

    /// The parked change with its whole item.
    ///
    /// # Errors
    /// When rows of it are missing or damaged, or cannot be read.
    pub async fn change(&self, entry: &Entry) -> Result<Change, Error> {
        let op = if entry.is_delete { Op::Delete } else { Op::Put(self.payload(entry).await?) };
        Ok(Change {
            key: entry.key.clone(),
            op,
            created_unix_ms: entry.created_unix_ms,
            order: entry.order.clone(),
        })
    }

    async fn payload(&self, entry: &Entry) -> Result<Item, Error> {
        let damaged = |what: String| Error::Payload { id: entry.id.clone(), what };
        let prefix = format!("{}/{}/", entry.id, entry.version);
        let rows = self.control.rows(&self.payload_partition(), &prefix).await?;
        if rows.len() as i64 != entry.parts {
            return Err(damaged(format!("{} of {} rows are there", rows.len(), entry.parts)));
        }
        let mut compressed = Vec::new();
        for row in &rows {
            match row.get("data") {
                Some(Value::Binary(data)) => compressed.extend_from_slice(data),
                _ => return Err(damaged("a row has no data".to_owned())),
            }
        }
        let mut text = Vec::new();
        GzDecoder::new(&compressed[..]).read_to_end(&mut text).map_err(|error| damaged(error.to_string()))?;
        Ok(Item::from_json(Bytes::from(text)))
    }

    async fn write_payload(&self, draft: &Draft, expires_unix_ms: Option<i64>) -> Result<(), Error> {
        for (part, data) in (0..).zip(draft.payload.chunks(PART_BYTES)) {
            let mut row = self.payload_key(&draft.entry, part).attributes();
            row.insert("data".to_owned(), Value::Binary(data.to_vec()));
            if let Some(unix_ms) = expires_unix_ms {
                row.insert("expires_at".to_owned(), Value::integer(unix_ms / 1000));
            }
            self.control.put(&row, &Condition::Always).await?;
        }
        Ok(())
    }

    async fn delete_payload(&self, entry: &Entry) -> Result<(), Error> {
        for part in 0..entry.parts {
            self.control.delete(&self.payload_key(entry, part), &Condition::Always).await?;
        }
        Ok(())
    }

    fn partition(&self) -> String {
        format!("{}/parked/{}", self.replication, self.replica)
    }

    fn payload_partition(&self) -> String {
        format!("{}/payload/{}", self.replication, self.replica)
    }

    fn key(&self, id: &str) -> RowKey {
        RowKey { partition: self.partition(), sort: id.to_owned() }
    }

    fn payload_key(&self, entry: &Entry, part: i64) -> RowKey {
        let sort = format!("{}/{}/{part:04}", entry.id, entry.version);
        RowKey { partition: self.payload_partition(), sort }
    }

    fn row(&self, entry: &Entry) -> Attributes {
        let mut row = self.key(&entry.id).attributes();
        let mut set = |name: &str, value: Value| row.insert(name.to_owned(), value);
        set("key", entry.key.to_string().into());
        set("op", if entry.is_delete { "delete" } else { "put" }.into());
        set("version", entry.version.as_str().into());
        set("parts", Value::integer(entry.parts));
        set("item_bytes", Value::integer(entry.item_bytes));
        set("reason", entry.reason.as_str().into());
        set("created_ms", Value::integer(entry.created_unix_ms));
        set("parked_ms", Value::integer(entry.parked_unix_ms));
        if let Some(shard) = &entry.shard {
            set("shard", shard.as_str().into());
        }
        if let Some(order) = &entry.order {
            set(if order.seen { SEEN } else { "order" }, order.mark().as_str().into());
        }
        if entry.retry_wanted {
            set("wanted", "retry".into());
        }
        row
    }

    fn read(&self, attributes: &Attributes) -> Result<Entry, Error> {
        let row = self.control.read(attributes);
        let id = row.text("sk")?.to_owned();
        let text = Bytes::copy_from_slice(row.text("key")?.as_bytes());
        let key = Key::from_json(&text, 0..text.len());
        Ok(Entry {
            key: key.map_err(|source| Error::Key { id: id.clone(), source })?,
            is_delete: row.text("op")? == "delete",
            version: row.text("version")?.to_owned(),
            parts: row.integer("parts")?,
            item_bytes: row.integer("item_bytes")?,
            reason: row.text("reason")?.to_owned(),
            created_unix_ms: row.integer("created_ms")?,
            parked_unix_ms: row.integer("parked_ms")?,
            retry_wanted: row.optional_text("wanted") == Some("retry"),
            shard: row.optional_text("shard").map(ShardId::from),
            order: match row.optional_text(SEEN) {
                Some(mark) => Order::from_mark(mark).map(|order| Order { seen: true, ..order }),
                None => row.optional_text("order").and_then(Order::from_mark),
            },
            id,
        })
    }
}

/// A short name for a key: 128 bits of it, so that two keys do not meet.
fn digest(key: &Key) -> String {
    use std::hash::BuildHasher;
    let other = foldhash::quality::FixedState::with_seed(0x7061_726b).hash_one(key.as_bytes());
    format!("{:016x}{other:016x}", key.hash64())
}

fn compress(item: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let written = encoder.write_all(item).and_then(|()| encoder.finish());
    written.expect("memory takes all that is written to it")
}

#[cfg(test)]
#[path = "parked_tests.rs"]
mod tests;
