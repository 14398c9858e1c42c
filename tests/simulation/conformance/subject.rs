//! A server under the suite, and what the cases need of it again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use super::means::Means;
use crate::change::{Change, Op};
use crate::dynamo::{Describe, Error, Future, Listing, Page, RowKey, StreamArn, Streams, Tables};
use crate::fault::Fault;
use crate::item::{Attributes, Item, Value};
use crate::key::Key;
use crate::record::Record;
use crate::shard::{Position, SequenceNumber, Shard, ShardId};

/// Why a case was not tried.
pub(super) struct Skipped(pub(super) &'static str);

/// A server.
pub(super) struct Subject {
    pub(super) streams: Arc<dyn Streams>,
    pub(super) tables: Arc<dyn Tables>,
    pub(super) means: Means,
    /// Before the name of every table.
    pub(super) prefix: String,
    /// Cases in which this server is known to be different, and how.
    pub(super) differences: &'static [(&'static str, &'static str)],
    made: AtomicU32,
}

/// A table with a stream.
pub(super) struct Streamed {
    pub(super) table: String,
    pub(super) arn: StreamArn,
}

/// What was read of a shard.
pub(super) struct Drained {
    pub(super) records: Vec<Record>,
    /// Whether the shard's end was reached.
    pub(super) ended: bool,
}

/// Pages without a record in a row after which a shard is taken to hold nothing more for now. A page is empty with a
/// chance of up to 0.4, so that one in 10^8 runs is misled.
const EMPTY_PAGES: u32 = 20;

/// How long one of these waits for the next.
const PAUSE: Duration = Duration::from_millis(3);

/// How often something that takes its time is asked for.
const TRIES: u32 = 400;

// === impl Subject ===

impl Subject {
    pub(super) fn new(
        streams: Arc<dyn Streams>,
        tables: Arc<dyn Tables>,
        means: Means,
        prefix: &str,
        differences: &'static [(&'static str, &'static str)],
    ) -> Self {
        Self { streams, tables, means, prefix: prefix.to_owned(), differences, made: AtomicU32::new(0) }
    }

    pub(super) fn name(&self) -> &'static str {
        match &self.means {
            Means::Model(..) => "the model",
            #[cfg(feature = "emulator")]
            Means::Emulator(_) => "the emulator",
            Means::Server(name) => name,
        }
    }

    /// In what a case is known to find this server different.
    pub(super) fn differs(&self, case: &str) -> Option<&'static str> {
        self.differences.iter().find(|(name, _)| *name == case).map(|(_, reason)| *reason)
    }

    /// A new table of ours.
    pub(super) async fn table(&self) -> String {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-table-{number}", self.prefix);
        self.tables.create(&name).await.expect("a table is created");
        name
    }

    /// A new table of ours with a stream.
    pub(super) async fn streamed(&self) -> Streamed {
        let table = self.table().await;
        self.tables.enable_stream(&table).await.expect("a stream is switched on");
        let described = self.tables.describe(&table).await.expect("a table");
        let arn = described.stream.expect("a stream").arn;
        Streamed { table, arn }
    }

    /// Writes one change.
    pub(super) async fn write(&self, table: &str, change: Change) {
        let written = self.tables.write(table, &[change]).await.expect("it is written");
        assert!(written.unprocessed.is_empty());
    }

    /// One page of a listing, as soon as the limit of calls allows it.
    pub(super) async fn list(&self, arn: &StreamArn, what: &Describe) -> Listing {
        patiently(|| self.streams.describe(arn, what)).await
    }

    /// Every shard of a stream, as one pass over its pages shows them.
    pub(super) async fn pass(&self, arn: &StreamArn) -> Vec<Shard> {
        let mut what = Describe::default();
        let mut shards = Vec::new();
        loop {
            let listing = self.list(arn, &what).await;
            shards.extend(listing.shards);
            if listing.next.is_none() {
                return shards;
            }
            assert_ne!(listing.next, what.after, "a listing goes in circles");
            what.after = listing.next;
        }
    }

    /// The shards of a stream, once they are as `enough` says: listings may be a little late.
    pub(super) async fn shards(&self, arn: &StreamArn, enough: impl Fn(&[Shard]) -> bool) -> Vec<Shard> {
        let mut last = Vec::new();
        for _ in 0..TRIES {
            last = self.pass(arn).await;
            if enough(&last) {
                return last;
            }
            sleep(PAUSE).await;
        }
        panic!("the shards never became as expected: {last:?}");
    }

    /// The name of a new stream's only shard.
    pub(super) async fn only_shard(&self, arn: &StreamArn) -> ShardId {
        let shards = self.shards(arn, |shards| !shards.is_empty()).await;
        assert_eq!(shards.len(), 1, "a new stream of a small table has one shard here");
        shards[0].id.clone()
    }

    /// Reads a shard from a position until it ends or nothing more comes.
    pub(super) async fn drain(&self, arn: &StreamArn, shard: &ShardId, position: &Position) -> Drained {
        self.drain_pages(arn, shard, position, 1000, |_| {}).await
    }

    /// As [`drain`](Self::drain), with a limit for pages, each of which is shown.
    pub(super) async fn drain_pages(
        &self,
        arn: &StreamArn,
        shard: &ShardId,
        position: &Position,
        limit: u32,
        mut seen: impl FnMut(&Page),
    ) -> Drained {
        let mut iterator = self.streams.iterator(arn, shard, position).await.expect("an iterator");
        let mut records = Vec::new();
        let mut empty = 0;
        while empty < EMPTY_PAGES {
            let page = self.streams.records(&iterator, limit).await.expect("a page");
            seen(&page);
            empty = if page.records.is_empty() { empty + 1 } else { 0 };
            records.extend(page.records);
            let Some(next) = page.next else { return Drained { records, ended: true } };
            iterator = next;
            if empty > 0 {
                sleep(PAUSE).await;
            }
        }
        Drained { records, ended: false }
    }

    /// All records of a new stream's only shard.
    pub(super) async fn all(&self, streamed: &Streamed) -> Vec<Record> {
        let shard = self.only_shard(&streamed.arn).await;
        self.drain(&streamed.arn, &shard, &Position::TrimHorizon).await.records
    }
}

/// Calls until the answer is no throttle.
pub(super) async fn patiently<'a, T>(mut call: impl FnMut() -> Future<'a, T>) -> T {
    for _ in 0..TRIES {
        match call().await {
            Ok(answer) => return answer,
            Err(Error { fault: Fault::Throttled(_), .. }) => sleep(Duration::from_millis(150)).await,
            Err(error) => panic!("failed to {error}"),
        }
    }
    panic!("it is throttled for ever");
}

// Rows and changes.

/// A row of partition `p`.
pub(super) fn row(sort: &str, count: i64) -> Attributes {
    Attributes::from([
        ("pk".to_owned(), Value::from("p")),
        ("sk".to_owned(), Value::from(sort)),
        ("count".to_owned(), Value::integer(count)),
    ])
}

/// The key of [`row`].
pub(super) fn row_key(sort: &str) -> RowKey {
    RowKey { partition: "p".to_owned(), sort: sort.to_owned() }
}

/// The same as an item's key.
pub(super) fn key(sort: &str) -> Key {
    let key = Item::from_attributes(&row_key(sort).attributes());
    Key::from_json(key.bytes(), 0..key.as_bytes().len()).expect("a key")
}

/// The change that puts [`row`].
pub(super) fn put(sort: &str, count: i64) -> Change {
    Change {
        key: key(sort),
        op: Op::Put(Item::from_attributes(&row(sort, count))),
        created_unix_ms: 0,
        order: None,
    }
}

/// The change that deletes it.
pub(super) fn delete(sort: &str) -> Change {
    Change { key: key(sort), op: Op::Delete, created_unix_ms: 0, order: None }
}

/// A record's key's text and its image's count.
pub(super) fn told(record: &Record) -> (String, Option<i64>) {
    let count = record.image.as_ref().map(|image| {
        let attributes = image.attributes().expect("an image is an item");
        attributes["count"].as_i64().expect("a number")
    });
    let key = Item::from_json(bytes::Bytes::copy_from_slice(record.key.as_bytes()));
    let key = key.attributes().expect("a key is an item");
    (key["sk"].as_str().expect("a text").to_owned(), count)
}

/// The numbers of records.
pub(super) fn numbers(records: &[Record]) -> Vec<SequenceNumber> {
    records.iter().map(|record| record.sequence).collect()
}
