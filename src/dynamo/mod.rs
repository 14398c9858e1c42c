//! The one door to DynamoDB: what a replicator asks of it, as three small traits, and the AWS SDK behind them.
//!
//! [`Streams`] reads changes, [`Schemas`] asks about and changes tables themselves in the service's own JSON, [`Tables`]
//! does everything else. Two kinds of implementers exist: the SDK clients
//! (`client`, `streams`, `tables`, `control_plane`) and models in tests. The documentation of the methods states the semantics
//! that both keep: what is ordered, what may happen twice, and what an error proves. Nothing here retries;
//! whoever calls owns the retry, because a retry hidden in a client can land after a newer write.

mod answer;
mod batch;
mod call;
mod classify;
pub mod client;
mod control_plane;
#[cfg(test)]
mod control_plane_tests;
#[cfg(test)]
mod deadline_tests;
mod error;
mod guard;
#[cfg(test)]
pub(crate) mod memory;
mod raw;
mod records;
mod rows;
mod schema;
#[cfg(all(test, feature = "emulator"))]
mod server_tests;
mod streams;
#[cfg(test)]
mod streams_tests;
#[cfg(test)]
mod stub;
mod tables;
#[cfg(test)]
mod tests;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use crate::change::Change;
use crate::item::{Attributes, Item, Value};
use crate::key::Key;
use crate::record::{Record, View};
use crate::shard::{Position, Shard, ShardId};

pub use call::{Call, Observer, until};
pub use client::{AccessKey, Client, Endpoint, connect};
pub use control_plane::{Operation, Schemas, SdkSchemas, Service, ttl_attribute};
pub use error::{Error, ThrottleReason};
pub use guard::{Guard, Guarded};
pub use streams::SdkStreams;
pub use tables::SdkTables;

/// What a call gives, in the end.
pub type Future<'a, T> = Pin<Box<dyn std::future::Future<Output = Result<T, Error>> + Send + 'a>>;

/// Most writes that one [`Tables::write`] takes (`BatchWriteItem`).
pub const WRITE_ITEMS_MAX: usize = 25;

/// Most bytes of a [`Tables::write`] request (`BatchWriteItem`: 16 MB).
pub const WRITE_BYTES_MAX: usize = 16 * 1000 * 1000;

/// Most keys that one [`Tables::fetch`] takes (`BatchGetItem`).
pub const FETCH_KEYS_MAX: usize = 100;

/// Most segments of a scan (`Scan`).
pub const SEGMENTS_MAX: u32 = 1_000_000;

/// Most records in one page (`GetRecords`).
pub const PAGE_RECORDS_MAX: u32 = 1000;

/// The full name of a stream. A table's stream gets a new one whenever it is switched off and on again, and
/// sequence numbers of two streams have nothing to do with each other.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct StreamArn(Arc<str>);

/// A token for the next page of a shard. It expires 15 minutes after it was given out.
#[derive(Clone)]
pub struct Iterator(pub String);

/// What part of a stream's shards to list.
#[derive(Debug, Clone, Default)]
pub struct Describe {
    /// Go on after this shard (exclusive), as the previous listing's `next` says.
    pub after: Option<ShardId>,
    /// Only the direct children of this shard. An endpoint that does not know this filter lists all shards.
    pub children_of: Option<ShardId>,
}

/// One page of a stream's description. Pages are eventually consistent: a shard may be missing from one that
/// was there before, and a parent may look open while its children are already listed.
#[derive(Debug, Clone)]
pub struct Listing {
    /// Shards in no particular order.
    pub shards: Vec<Shard>,
    /// Where the next page starts; `None` on the last.
    pub next: Option<ShardId>,
    /// Whether changes of the table are being written to this stream (`ENABLED` or `ENABLING`).
    pub enabled: bool,
    /// What its records carry.
    pub view: View,
}

/// One page of a shard, oldest record first.
#[derive(Debug)]
pub struct Page {
    /// May be empty although more records follow, and may be non-empty although `next` is absent.
    pub records: Vec<Record>,
    /// Memory that the records keep alive.
    pub bytes: usize,
    /// The next page's iterator; `None` when the shard is closed and this was its last page.
    pub next: Option<Iterator>,
}

/// Reads a stream.
pub trait Streams: Send + Sync {
    /// Lists shards, one page (at most 100).
    fn describe<'a>(&'a self, stream: &'a StreamArn, what: &'a Describe) -> Future<'a, Listing>;

    /// Gets an iterator at a position, which must not be [`Position::End`]. A fault `Trimmed` or `Missing`
    /// proves that the position can no longer be read. `Position::At` is refused as `Invalid` by an endpoint
    /// that cannot start at a time.
    fn iterator<'a>(
        &'a self,
        stream: &'a StreamArn,
        shard: &'a ShardId,
        position: &'a Position,
    ) -> Future<'a, Iterator>;

    /// Reads one page of at most `limit` records.
    fn records<'a>(&'a self, iterator: &'a Iterator, limit: u32) -> Future<'a, Page>;
}

/// A key attribute's name and type letter (`S`, `N` or `B`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyAttribute {
    /// The attribute's name.
    pub name: String,
    /// `S`, `N` or `B`.
    pub kind: String,
}

/// A table's stream, if it has one now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableStream {
    /// The stream's name.
    pub arn: StreamArn,
    /// What its records carry.
    pub view: View,
    /// Whether changes are written to it now; a stream that was switched off can still be read for 24 hours.
    pub enabled: bool,
}

/// The key of a secondary index. An item whose attributes have other types than these is refused, one that lacks them is
/// not in the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexKey {
    /// The index's name.
    pub index: String,
    /// Its partition key attributes, then its sort key attributes.
    pub key: Vec<KeyAttribute>,
}

/// A table as its description shows it.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// Its full name.
    pub arn: String,
    /// Whether it can be used now (`ACTIVE` or `UPDATING`).
    pub usable: bool,
    /// The partition key, then the sort key if there is one.
    pub key: Vec<KeyAttribute>,
    /// Its newest stream.
    pub stream: Option<TableStream>,
    /// Items, as the service last counted them (every six hours).
    pub items: u64,
    /// Bytes of all items, as the service last counted them (every six hours).
    pub bytes: u64,
    /// The keys of its secondary indexes, global and local.
    pub index_keys: Vec<IndexKey>,
    /// Units per second that it is provisioned for, of reads and of writes; `None` when it is billed on demand.
    pub provisioned: Option<(u64, u64)>,
    /// Units per second that it is held to on demand, of reads and of writes, where somebody set them.
    pub on_demand_max: (Option<u64>, Option<u64>),
}

/// What part of a table to read, and how.
#[derive(Debug, Clone, Copy)]
pub struct Scan<'a> {
    /// Which segment, from 0; each item belongs to exactly one.
    pub segment: u32,
    /// How many segments there are, at least 1 and at most [`SEGMENTS_MAX`].
    pub segments: u32,
    /// Go on after this key (exclusive), as the `next` of the page before says, which was of the same segment of as many.
    pub after: Option<&'a Item>,
    /// Most items in the page; `None` leaves only the service's own limit (1 MB).
    pub items_max: Option<u32>,
    /// Whether the page shows all writes that were done before it was asked for. Otherwise it costs half, and some of
    /// them may be missing from it; the service gives no bound for how recent they are, and usually it is a second.
    pub consistent: bool,
}

/// One page of a scan. Its items were read one after the other: there is no moment in which the table was as the page
/// shows it.
#[derive(Debug, Default)]
pub struct Scanned {
    /// Whole items, slices of the answer. May be empty although more follow.
    pub items: Vec<Item>,
    /// The key after which the next page starts; `None` on the last.
    pub next: Option<Item>,
    /// Memory that the items keep alive.
    pub bytes: usize,
    /// Read capacity units that were consumed; 0 where the server does not tell.
    pub consumed_units: f64,
}

/// What became of a batch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Written {
    /// Indexes into the batch of the changes that were not applied, because of throttling.
    pub unprocessed: Vec<usize>,
    /// Write capacity units that were consumed, where the server tells.
    pub consumed_units: f64,
}

/// What became of a read of several keys.
#[derive(Debug, Default)]
pub struct Fetched {
    /// One entry per key asked for: the item, or `None` when there is none.
    pub items: Vec<Option<Item>>,
    /// Indexes of keys that were not read and must be asked for again; their `items` entry means nothing.
    pub unprocessed: Vec<usize>,
}

/// What must hold for a row to be written or deleted.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// Nothing.
    Always,
    /// There is no row under its key.
    Absent,
    /// The row's attribute has exactly this value.
    Equals {
        /// The attribute's name, one that needs no escaping.
        attribute: &'static str,
        /// Its value.
        value: Value,
    },
}

/// What became of a conditional write.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// The condition did not hold; the row that was there instead, if there was one.
    Refused(Option<Attributes>),
}

/// Some rows of one partition in order of their sort keys.
#[derive(Debug, Default)]
pub struct Rows {
    /// The rows.
    pub rows: Vec<Item>,
    /// Where the next page starts (exclusive); `None` on the last.
    pub next: Option<Item>,
}

/// The key of a row in a table of ours: both attributes are strings.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RowKey {
    /// Attribute `pk`.
    pub partition: String,
    /// Attribute `sk`.
    pub sort: String,
}

/// Reads and writes tables. Reads are strongly consistent but for a scan that asks for less. A write with a fault `Unanswered` may have been
/// applied, and may still be applied for as long as the service works on it.
pub trait Tables: Send + Sync {
    /// Describes a table (a name or an ARN).
    fn describe<'a>(&'a self, table: &'a str) -> Future<'a, Table>;

    /// Applies at most [`WRITE_ITEMS_MAX`] changes with different keys, in any order, each wholly or not at
    /// all. `Invalid` means that none was applied because at least one cannot be.
    fn write<'a>(&'a self, table: &'a str, changes: &'a [Change]) -> Future<'a, Written>;

    /// Applies one change, wholly or not at all, unless the item has this change or a newer one by the mark that
    /// `guard` keeps in it; an item without a mark, or with that of another source table, is older than any change. Whatever is replayed, and however late it
    /// lands, an item never goes back, except that a deleted one remembers nothing. `Invalid` means that it was not
    /// applied and never can be.
    ///
    /// A change whose order was [seen](crate::change::Order::seen) is applied only while the item has that very mark, and
    /// leaves it there.
    fn write_guarded<'a>(
        &'a self,
        table: &'a str,
        change: &'a Change,
        guard: &'a Guard,
    ) -> Future<'a, Guarded>;

    /// Reads at most [`FETCH_KEYS_MAX`] items by their keys.
    fn fetch<'a>(&'a self, table: &'a str, keys: &'a [Key]) -> Future<'a, Fetched>;

    /// Reads one page of a table's items.
    fn scan<'a>(&'a self, table: &'a str, scan: Scan<'a>) -> Future<'a, Scanned>;

    /// Writes one whole row of a table of ours.
    fn put<'a>(
        &'a self,
        table: &'a str,
        row: &'a Attributes,
        condition: &'a Condition,
    ) -> Future<'a, Outcome>;

    /// Deletes one row of a table of ours.
    fn delete<'a>(&'a self, table: &'a str, row: &'a RowKey, condition: &'a Condition)
    -> Future<'a, Outcome>;

    /// Reads one page of the rows of `partition` whose sort keys start with `prefix`.
    fn query<'a>(
        &'a self,
        table: &'a str,
        partition: &'a str,
        prefix: &'a str,
        after: Option<&'a Item>,
    ) -> Future<'a, Rows>;

    /// Creates a table of ours, keyed by `pk` and `sk`, on demand, its rows expiring by the attribute
    /// `expires_at`, and waits until it can be used. A table that is there already is left as it is.
    fn create<'a>(&'a self, table: &'a str) -> Future<'a, ()>;

    /// Switches a table's stream on, with both images, and waits until it is.
    fn enable_stream<'a>(&'a self, table: &'a str) -> Future<'a, ()>;
}

// === impl StreamArn ===

impl StreamArn {
    /// The ARN as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The stream as an [`Order`](crate::change::Order) names it: a hash of its table's ARN, `/`, and its label, which
    /// is the time at which it was switched on (ISO 8601), so that a table's newer stream has the greater name.
    pub fn order(&self) -> Arc<str> {
        let (table, label) = self.0.rsplit_once('/').unwrap_or(("", &self.0));
        let table = table.strip_suffix("/stream").unwrap_or(table);
        // FNV-1a: it is kept in tables, so it must never change.
        let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        let hash = table.bytes().fold(0x811c_9dc5, step);
        format!("{hash:08x}/{label}").into()
    }
}

impl From<&str> for StreamArn {
    fn from(arn: &str) -> Self {
        Self(arn.into())
    }
}

impl fmt::Display for StreamArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StreamArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl Scan ===

impl Scan<'_> {
    /// The whole table, from its beginning and strongly consistent, in pages as large as the service makes them.
    pub const fn whole() -> Self {
        Self { segment: 0, segments: 1, after: None, items_max: None, consistent: true }
    }
}

// === impl Iterator ===

impl fmt::Debug for Iterator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A token of several hundred characters that tells a reader nothing.
        f.write_str("Iterator(…)")
    }
}

// === impl RowKey ===

impl RowKey {
    /// The key attributes as a row holds them.
    pub fn attributes(&self) -> Attributes {
        Attributes::from([
            ("pk".to_owned(), Value::from(self.partition.as_str())),
            ("sk".to_owned(), Value::from(self.sort.as_str())),
        ])
    }
}
