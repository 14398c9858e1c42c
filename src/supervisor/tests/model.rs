//! A stream in memory whose shards a test closes, splits and forgets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;

use crate::change::Change;
use crate::dynamo::{
    self, Condition, Describe, Fetched, Future, Guard, Guarded, Iterator, KeyAttribute, Listing, Outcome,
    Page, RowKey, Rows, Scan, Scanned, StreamArn, Streams, Table, TableStream, Tables, Written,
};
use crate::fault::Fault;
use crate::item::{Attributes, Item};
use crate::key::Key;
use crate::record::{Kind, Record, View};
use crate::shard::{Position, Shard, ShardId};

/// A table with a stream, as a source sees it.
#[derive(Default)]
pub(super) struct Model {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    shards: BTreeMap<ShardId, Held>,
    hidden: BTreeSet<ShardId>,
    /// Shards in a page of a listing; all of them if it is zero.
    list_page: usize,
    /// What the table holds, by key, each with the key's hash.
    items: BTreeMap<Vec<u8>, (u64, Item)>,
    sequence: u64,
    generation: u32,
    /// Who read which record, in order.
    read: Vec<(ShardId, u64)>,
    /// Memory that each record takes.
    record_bytes: usize,
    iterators: u64,
    /// Of each shard, by chain of iterators: its first and its last poll, counted from the first of all.
    chains: BTreeMap<(ShardId, u64), (u64, u64)>,
    polls: u64,
}

#[derive(Default)]
struct Held {
    parent: Option<ShardId>,
    closed: bool,
    records: Vec<Record>,
    /// So many of the oldest records are gone.
    trimmed: usize,
}

/// Records in one page: small, so that a shard has several.
const PAGE: usize = 10;

/// Items in one page of a scan.
const SCANNED: usize = 3;

/// How long the answer to a scan takes: long enough for much to be written meanwhile.
const SCAN_TAKES: Duration = Duration::from_millis(300);

impl State {
    fn record(&mut self, kind: Kind, key: Key, image: Option<Item>, created_unix_ms: i64) -> Record {
        self.sequence += 1;
        let sequence = (1_000 + self.sequence).to_string().parse().expect("a number");
        Record { kind, key, sequence, created_unix_ms, image, by_ttl: false }
    }

    fn append(&mut self, shard: &str, record: Record) {
        let held = self.shards.get_mut(&shard.into()).expect("a shard of the model");
        assert!(!held.closed, "a closed shard was written to");
        held.records.push(record);
    }
}

impl Model {
    pub(super) fn new(shards: &[&str]) -> Arc<Self> {
        let model = Self::default();
        model.state().record_bytes = 100;
        for shard in shards {
            model.state().shards.insert((*shard).into(), Held::default());
        }
        Arc::new(model)
    }

    /// Writes one version of a key, as the next record of `shard`.
    pub(super) fn put(&self, shard: &str, key: &str, version: u64) {
        self.put_at(shard, key, version, super::START_UNIX_MS);
    }

    /// The same, made at this time.
    pub(super) fn put_at(&self, shard: &str, key: &str, version: u64, created_unix_ms: i64) {
        let item = format!(r#"{{"k":{{"S":"{key}"}},"v":{{"N":"{version}"}}}}"#);
        self.push(shard, self::key(key), Item::from_json(Bytes::from(item)), created_unix_ms);
    }

    /// Writes one version of a key, which the stream never shows: it was there before.
    pub(super) fn had(&self, key: &str, version: u64) {
        let item = format!(r#"{{"k":{{"S":"{key}"}},"v":{{"N":"{version}"}}}}"#);
        let key = self::key(key);
        let entry = (key.hash64(), Item::from_json(Bytes::from(item)));
        self.state().items.insert(key.as_bytes().to_vec(), entry);
    }

    /// What the table holds of a key, as text.
    pub(super) fn item(&self, key: &str) -> Option<String> {
        let key = self::key(key);
        self.state().items.get(key.as_bytes()).map(|(_, item)| format!("{item:?}"))
    }

    /// Removes a key, as the next record of `shard`.
    pub(super) fn remove(&self, shard: &str, key: &str, created_unix_ms: i64) {
        let mut state = self.state();
        let key = self::key(key);
        state.items.remove(key.as_bytes());
        let record = state.record(Kind::Remove, key, None, created_unix_ms);
        state.append(shard, record);
    }

    /// Writes an item, as the next record of `shard`.
    pub(super) fn push(&self, shard: &str, key: Key, item: Item, created_unix_ms: i64) {
        let mut state = self.state();
        state.items.insert(key.as_bytes().to_vec(), (key.hash64(), item.clone()));
        let record = state.record(Kind::Modify, key, Some(item), created_unix_ms);
        state.append(shard, record);
    }

    /// From now on shards are listed one by one.
    pub(super) fn list_singly(&self) {
        self.state().list_page = 1;
    }

    /// A shard without a parent is there from now on.
    pub(super) fn open(&self, shard: &str) {
        self.state().shards.insert(shard.into(), Held::default());
    }

    /// Closes a shard; its children, if any, are listed from now on.
    pub(super) fn close(&self, shard: &str, children: &[&str]) {
        let mut state = self.state();
        state.shards.get_mut(&shard.into()).expect("a shard of the model").closed = true;
        for child in children {
            let held = Held { parent: Some(shard.into()), ..Held::default() };
            state.shards.insert((*child).into(), held);
        }
    }

    /// The oldest records of a shard, so many, are gone.
    pub(super) fn trim(&self, shard: &str, count: usize) {
        self.state().shards.get_mut(&shard.into()).expect("a shard of the model").trimmed = count;
    }

    /// From now on a page of records takes as much memory as is reserved for it at most.
    pub(super) fn make_records_bulky(&self) {
        self.state().record_bytes = 100_000;
    }

    /// The most readers that one shard had at once. A reader is one chain of iterators, and two are there at once when
    /// their polls interleave.
    pub(super) fn most_readers(&self) -> usize {
        let state = self.state();
        let at = |shard: &ShardId, poll: u64| {
            let spans = state.chains.iter().filter(|((of, _), _)| of == shard);
            spans.filter(|(_, (first, last))| (*first..=*last).contains(&poll)).count()
        };
        state.chains.iter().map(|((shard, _), (first, _))| at(shard, *first)).max().unwrap_or(0)
    }

    /// Counts readers anew from now on.
    pub(super) fn forget_readers(&self) {
        self.state().chains.clear();
    }

    /// A shard is gone, read or not.
    pub(super) fn forget(&self, shard: &str) {
        self.state().shards.remove(&shard.into());
    }

    /// No listing shows a shard, although it can be read.
    pub(super) fn hide(&self, shard: &str) {
        self.state().hidden.insert(shard.into());
    }

    /// The table has a new stream from now on.
    pub(super) fn replace_stream(&self) {
        self.state().generation += 1;
    }

    /// Shards in the order in which records of theirs were read, each once for every run of reads.
    pub(super) fn read_order(&self) -> Vec<String> {
        let mut order: Vec<_> = self.state().read.iter().map(|(shard, _)| shard.to_string()).collect();
        order.dedup();
        order
    }

    /// How many records were handed out, repeated ones included.
    pub(super) fn reads(&self) -> usize {
        self.state().read.len()
    }

    fn arn(state: &State) -> StreamArn {
        StreamArn::from(format!("arn:stream/{}", state.generation).as_str())
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while holding it")
    }
}

/// The key of the model's table.
pub(super) fn key(name: &str) -> Key {
    let text = Bytes::from(format!(r#"{{"k":{{"S":"{name}"}}}}"#));
    Key::from_json(&text, 0..text.len()).expect("a key")
}

/// The description of a table with that key.
pub(super) fn table(stream: Option<TableStream>) -> Table {
    let key = vec![KeyAttribute { name: "k".to_owned(), kind: "S".to_owned() }];
    Table { arn: "arn:table".to_owned(), usable: true, key, stream, ..Table::default() }
}

fn ready<'a, T: Send + 'a>(result: Result<T, dynamo::Error>) -> Future<'a, T> {
    Box::pin(std::future::ready(result))
}

fn missing<T>(operation: &'static str) -> Result<T, dynamo::Error> {
    Err(dynamo::Error::new(operation, Fault::Missing, "there is no such shard"))
}

impl Streams for Model {
    fn describe<'a>(&'a self, _stream: &'a StreamArn, what: &'a Describe) -> Future<'a, Listing> {
        let state = self.state();
        let wanted = |held: &Held| what.children_of.is_none() || held.parent == what.children_of;
        let shown = state.shards.iter().filter(|(id, held)| wanted(held) && !state.hidden.contains(id));
        let shards = shown.map(|(id, held)| Shard {
            id: id.clone(),
            parent: held.parent.clone(),
            closed: held.closed,
        });
        let mut shards =
            shards.skip_while(|shard| what.after.as_ref().is_some_and(|after| shard.id <= *after));
        let page = if state.list_page == 0 { usize::MAX } else { state.list_page };
        let listed: Vec<_> = shards.by_ref().take(page).collect();
        let next = listed.last().filter(|_| shards.next().is_some()).map(|last| last.id.clone());
        ready(Ok(Listing { shards: listed, next, enabled: true, view: View::NewAndOldImages }))
    }

    fn iterator<'a>(
        &'a self,
        _stream: &'a StreamArn,
        shard: &'a ShardId,
        position: &'a Position,
    ) -> Future<'a, Iterator> {
        let mut state = self.state();
        state.iterators += 1;
        let chain = state.iterators;
        let Some(held) = state.shards.get(shard) else {
            return ready(missing("GetShardIterator"));
        };
        let index = match position {
            Position::TrimHorizon | Position::At { .. } => held.trimmed,
            Position::Latest { .. } => held.records.len(),
            Position::After(sequence) => {
                held.records.iter().take_while(|record| record.sequence <= *sequence).count()
            }
            Position::End => unreachable!("the end is never asked for"),
        };
        if index < held.trimmed {
            return ready(Err(dynamo::Error::new("GetShardIterator", Fault::Trimmed, "it is trimmed")));
        }
        ready(Ok(Iterator(format!("{shard} {index} {chain}"))))
    }

    fn records<'a>(&'a self, iterator: &'a Iterator, _limit: u32) -> Future<'a, Page> {
        let mut state = self.state();
        let mut token = iterator.0.split(' ');
        let mut next = || token.next().expect("our own token");
        let shard: ShardId = next().into();
        let index: usize = next().parse().expect("our own token");
        let chain: u64 = next().parse().expect("our own token");
        state.polls += 1;
        let poll = state.polls;
        state.chains.entry((shard.clone(), chain)).or_insert((poll, poll)).1 = poll;
        let Some(held) = state.shards.get(&shard) else {
            return ready(missing("GetRecords"));
        };
        let records: Vec<_> = held.records[index..].iter().take(PAGE).cloned().collect();
        let end = index + records.len();
        // The page that reaches the end of a closed shard carries its records and no iterator.
        let next =
            (!held.closed || end < held.records.len()).then(|| Iterator(format!("{shard} {end} {chain}")));
        for index in index..end {
            state.read.push((shard.clone(), index as u64));
        }
        ready(Ok(Page { bytes: state.record_bytes * records.len(), records, next }))
    }
}

impl Tables for Model {
    fn describe<'a>(&'a self, _table: &'a str) -> Future<'a, Table> {
        let arn = Self::arn(&self.state());
        ready(Ok(table(Some(TableStream { arn, view: View::NewAndOldImages, enabled: true }))))
    }

    fn write<'a>(&'a self, _table: &'a str, _changes: &'a [Change]) -> Future<'a, Written> {
        unreachable!("a source is never written to")
    }

    fn write_guarded<'a>(
        &'a self,
        _table: &'a str,
        _change: &'a Change,
        _guard: &'a Guard,
    ) -> Future<'a, Guarded> {
        unreachable!("a source is never written to")
    }

    /// Nothing is kept but the stream.
    fn fetch<'a>(&'a self, _table: &'a str, keys: &'a [Key]) -> Future<'a, Fetched> {
        ready(Ok(Fetched { items: vec![None; keys.len()], unprocessed: Vec::new() }))
    }

    fn scan<'a>(&'a self, _table: &'a str, scan: Scan<'a>) -> Future<'a, Scanned> {
        let state = self.state();
        let after = scan.after.map(|after| after.as_bytes().to_vec());
        let wanted = |(key, (hash, _)): &(&Vec<u8>, &(u64, Item))| {
            hash % u64::from(scan.segments) == u64::from(scan.segment)
                && after.as_ref().is_none_or(|after| *key > after)
        };
        let mut found = state.items.iter().filter(wanted);
        let page: Vec<_> = found.by_ref().take(SCANNED).collect();
        let last = page.last().filter(|_| found.next().is_some());
        let next = last.map(|(key, _)| Item::from_json(Bytes::from((*key).clone())));
        let items: Vec<_> = page.into_iter().map(|(_, (_, item))| item.clone()).collect();
        let scanned = Scanned { bytes: 100 * items.len(), items, next, consumed_units: 1.0 };
        Box::pin(async move {
            tokio::time::sleep(SCAN_TAKES).await;
            Ok(scanned)
        })
    }

    fn put<'a>(
        &'a self,
        _table: &'a str,
        _row: &'a Attributes,
        _condition: &'a Condition,
    ) -> Future<'a, Outcome> {
        unreachable!("a source holds no rows")
    }

    fn delete<'a>(
        &'a self,
        _table: &'a str,
        _row: &'a RowKey,
        _condition: &'a Condition,
    ) -> Future<'a, Outcome> {
        unreachable!("a source holds no rows")
    }

    fn query<'a>(
        &'a self,
        _table: &'a str,
        _partition: &'a str,
        _prefix: &'a str,
        _after: Option<&'a Item>,
    ) -> Future<'a, Rows> {
        unreachable!("a source holds no rows")
    }

    fn create<'a>(&'a self, _table: &'a str) -> Future<'a, ()> {
        unreachable!("a source is not created")
    }

    fn enable_stream<'a>(&'a self, _table: &'a str) -> Future<'a, ()> {
        unreachable!("its stream is on")
    }
}
