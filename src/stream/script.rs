//! A stream and a table that answer what a test wrote down, and remember what they were asked.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::change::Change;
use crate::dynamo::{
    Condition, Describe, Error, Fetched, Future, Guard, Guarded, Iterator, Listing, Outcome, Page, RowKey,
    Rows, Scan, Scanned, StreamArn, Streams, Table, Tables, Written,
};
use crate::fault::Fault;
use crate::item::{Attributes, Item};
use crate::key::Key;
use crate::record::{Kind, Record, View};
use crate::shard::{Position, SequenceNumber, Shard, ShardId};

/// One call, as it was made.
#[derive(Debug, Clone)]
pub(super) enum Call {
    Describe(Describe),
    Iterator(Position),
    /// With the iterator's token and the limit.
    Records(String, u32),
    /// With the keys' names.
    Fetch(Vec<String>),
}

#[derive(Debug)]
enum Answer<T> {
    Give(T),
    Fail(Fault),
}

/// Scripted [`Streams`] and [`Tables`]. A call for which nothing is written down gets no answer, except for
/// iterators, which are given out freely, and items, which come from a shelf.
#[derive(Debug, Default)]
pub(super) struct Script {
    state: Mutex<State>,
    called: Notify,
}

#[derive(Debug, Default)]
struct State {
    calls: Vec<(Instant, Call)>,
    listings: VecDeque<Answer<Listing>>,
    iterators: VecDeque<Fault>,
    pages: VecDeque<Answer<Page>>,
    fetches: VecDeque<Answer<Vec<usize>>>,
    items: HashMap<Key, Item>,
    /// Whether `GetShardIterator` gets no answer.
    iterators_hang: bool,
    fetches_hang: bool,
}

// === impl Script ===

impl Script {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(super) fn lists(&self, listing: Listing) {
        self.state().listings.push_back(Answer::Give(listing));
    }

    pub(super) fn fails_to_list(&self, fault: Fault) {
        self.state().listings.push_back(Answer::Fail(fault));
    }

    /// The next `GetShardIterator` not spoken for fails.
    pub(super) fn refuses_iterator(&self, fault: Fault) {
        self.state().iterators.push_back(fault);
    }

    pub(super) fn hangs_on_iterators(&self) {
        self.state().iterators_hang = true;
    }

    pub(super) fn hangs_on_fetches(&self) {
        self.state().fetches_hang = true;
    }

    /// A page after which more follow.
    pub(super) fn page(&self, records: Vec<Record>) {
        self.add_page(records, true);
    }

    /// The last page of the shard.
    pub(super) fn last_page(&self, records: Vec<Record>) {
        self.add_page(records, false);
    }

    pub(super) fn fails_to_read(&self, fault: Fault) {
        self.state().pages.push_back(Answer::Fail(fault));
    }

    /// The next fetch leaves these indexes unprocessed.
    pub(super) fn leaves_unprocessed(&self, indexes: Vec<usize>) {
        self.state().fetches.push_back(Answer::Give(indexes));
    }

    pub(super) fn fails_to_fetch(&self, fault: Fault) {
        self.state().fetches.push_back(Answer::Fail(fault));
    }

    /// Puts an item on the shelf under `key(name)`.
    pub(super) fn has_item(&self, name: &str, json: &'static str) {
        let item = Item::from_json(Bytes::from_static(json.as_bytes()));
        self.state().items.insert(key(name), item);
    }

    pub(super) fn calls(&self) -> Vec<(Instant, Call)> {
        self.state().calls.clone()
    }

    /// The positions at which iterators were asked for.
    pub(super) fn asked(&self) -> Vec<Position> {
        let calls = self.calls();
        calls
            .into_iter()
            .filter_map(|(_, call)| match call {
                Call::Iterator(position) => Some(position),
                _ => None,
            })
            .collect()
    }

    /// Waits until `count` calls were made.
    pub(super) async fn called(&self, count: usize) {
        let made = async {
            loop {
                let called = self.called.notified();
                if self.state().calls.len() >= count {
                    return;
                }
                called.await;
            }
        };
        let soon = Duration::from_secs(120);
        tokio::time::timeout(soon, made).await.expect("the calls are made");
    }

    fn add_page(&self, records: Vec<Record>, more: bool) {
        let mut state = self.state();
        let token = format!("next-{}", state.pages.len());
        let page =
            Page { bytes: records.len() * RECORD_BYTES, records, next: more.then_some(Iterator(token)) };
        state.pages.push_back(Answer::Give(page));
    }

    fn note(&self, call: Call) -> MutexGuard<'_, State> {
        let mut state = self.state();
        state.calls.push((Instant::now(), call));
        self.called.notify_waiters();
        state
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds this")
    }
}

impl Streams for Script {
    fn describe<'a>(&'a self, _stream: &'a StreamArn, what: &'a Describe) -> Future<'a, Listing> {
        Box::pin(async move {
            let answer = self.note(Call::Describe(what.clone())).listings.pop_front();
            give("DescribeStream", Some(answer.expect("a listing is written down"))).await
        })
    }

    fn iterator<'a>(
        &'a self,
        _stream: &'a StreamArn,
        _shard: &'a ShardId,
        position: &'a Position,
    ) -> Future<'a, Iterator> {
        Box::pin(async move {
            let answer = {
                let mut state = self.note(Call::Iterator(*position));
                let token = Iterator(format!("at-{}", state.calls.len()));
                match state.iterators.pop_front() {
                    Some(fault) => Some(Answer::Fail(fault)),
                    None if state.iterators_hang => None,
                    None => Some(Answer::Give(token)),
                }
            };
            give("GetShardIterator", answer).await
        })
    }

    fn records<'a>(&'a self, iterator: &'a Iterator, limit: u32) -> Future<'a, Page> {
        Box::pin(async move {
            let call = Call::Records(iterator.0.clone(), limit);
            let answer = self.note(call).pages.pop_front();
            give("GetRecords", answer).await
        })
    }
}

impl Tables for Script {
    fn write_guarded<'a>(
        &'a self,
        _table: &'a str,
        _change: &'a Change,
        _guard: &'a Guard,
    ) -> Future<'a, Guarded> {
        unimplemented!("no reader asks for it")
    }

    fn fetch<'a>(&'a self, _table: &'a str, keys: &'a [Key]) -> Future<'a, Fetched> {
        Box::pin(async move {
            let answer = {
                let mut state = self.note(Call::Fetch(keys.iter().map(name).collect()));
                match state.fetches.pop_front() {
                    Some(Answer::Fail(fault)) => Some(Answer::Fail(fault)),
                    None if state.fetches_hang => None,
                    given => {
                        let unprocessed = match given {
                            Some(Answer::Give(indexes)) => indexes,
                            _ => Vec::new(),
                        };
                        let items = keys.iter().enumerate().map(|(at, key)| {
                            if unprocessed.contains(&at) {
                                // Nobody may look at it.
                                return Some(Item::from_json(Bytes::from_static(b"{}")));
                            }
                            state.items.get(key).cloned()
                        });
                        let items = items.collect();
                        Some(Answer::Give(Fetched { items, unprocessed }))
                    }
                }
            };
            give("BatchGetItem", answer).await
        })
    }

    fn describe<'a>(&'a self, _table: &'a str) -> Future<'a, Table> {
        unimplemented!("no reader asks for it")
    }

    fn write<'a>(&'a self, _table: &'a str, _changes: &'a [Change]) -> Future<'a, Written> {
        unimplemented!("no reader asks for it")
    }

    fn scan<'a>(&'a self, _: &'a str, _: Scan<'a>) -> Future<'a, Scanned> {
        unimplemented!("no reader asks for it")
    }

    fn put<'a>(&'a self, _: &'a str, _: &'a Attributes, _: &'a Condition) -> Future<'a, Outcome> {
        unimplemented!("no reader asks for it")
    }

    fn delete<'a>(&'a self, _: &'a str, _: &'a RowKey, _: &'a Condition) -> Future<'a, Outcome> {
        unimplemented!("no reader asks for it")
    }

    fn query<'a>(&'a self, _: &'a str, _: &'a str, _: &'a str, _: Option<&'a Item>) -> Future<'a, Rows> {
        unimplemented!("no reader asks for it")
    }

    fn create<'a>(&'a self, _: &'a str) -> Future<'a, ()> {
        unimplemented!("no reader asks for it")
    }

    fn enable_stream<'a>(&'a self, _: &'a str) -> Future<'a, ()> {
        unimplemented!("no reader asks for it")
    }
}

async fn give<T>(operation: &'static str, answer: Option<Answer<T>>) -> Result<T, Error> {
    match answer {
        Some(Answer::Give(given)) => Ok(given),
        Some(Answer::Fail(fault)) => Err(Error::new(operation, fault, "as the script says")),
        None => std::future::pending().await,
    }
}

/// What a scripted record adds to its page's bytes.
pub(super) const RECORD_BYTES: usize = 1000;

pub(super) fn after(number: u64) -> Position {
    Position::After(sequence(number))
}

/// A record of an item of its own.
pub(super) fn record(number: u64, created_unix_ms: i64) -> Record {
    record_of(&format!("item-{number}"), number, created_unix_ms)
}

/// A record of the item `key(name)`.
pub(super) fn record_of(name: &str, number: u64, created_unix_ms: i64) -> Record {
    Record {
        kind: Kind::Insert,
        key: key(name),
        sequence: sequence(number),
        created_unix_ms,
        image: None,
        by_ttl: false,
    }
}

pub(super) fn key(name: &str) -> Key {
    let text = Bytes::from(format!(r#"{{"id":{{"S":"{name}"}}}}"#));
    let len = text.len();
    Key::from_json(&text, 0..len).expect("a name without quotes")
}

pub(super) fn open_shard(id: &str, parent: Option<&str>) -> Shard {
    Shard { id: id.into(), parent: parent.map(ShardId::from), closed: false }
}

pub(super) fn shard_names<'a>(shards: impl IntoIterator<Item = &'a Shard>) -> Vec<String> {
    shards.into_iter().map(|shard| shard.id.to_string()).collect()
}

pub(super) fn listing(shards: Vec<Shard>, next: Option<&str>) -> Listing {
    Listing { shards, next: next.map(ShardId::from), enabled: true, view: View::NewImage }
}

fn sequence(number: u64) -> SequenceNumber {
    number.to_string().parse().expect("a number")
}

fn name(key: &Key) -> String {
    let text = key.to_string();
    text.split('"').nth(5).expect("a key made by `key`").to_owned()
}
