//! A source table that remembers its past, so that a read may be behind.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use crate::change::Change;
use crate::dynamo::{
    Condition, Error, Fetched, Future, Guard, Guarded, KeyAttribute, Outcome, RowKey, Rows, Scan, Scanned,
    Table, Tables, Written,
};
use crate::fault::Fault;
use crate::item::{Attributes, Item};
use crate::key::Key;

/// Items of a page.
pub(in crate::copy) const PAGE_ITEMS: u32 = 5;

/// A table of items under a string key `k`.
pub(in crate::copy) struct Model {
    state: Mutex<State>,
    /// By how much reads are behind that are not strongly consistent.
    staleness: Duration,
}

#[derive(Default)]
struct State {
    /// Every write, in order.
    log: Vec<(Instant, Vec<u8>, Option<Item>)>,
    faults: VecDeque<Fault>,
    fault: Option<Fault>,
    latency: Duration,
    scans: Vec<Instant>,
    under_way: usize,
    under_way_most: usize,
    description: Option<Table>,
}

impl Model {
    pub(in crate::copy) fn new(staleness: Duration) -> Self {
        Self { state: Mutex::default(), staleness }
    }

    /// Puts an item, or deletes it.
    pub(in crate::copy) fn write(&self, key: &Key, item: Option<&Item>) {
        self.state().log.push((Instant::now(), key.as_bytes().to_vec(), item.cloned()));
    }

    /// All items, as text by key.
    pub(in crate::copy) fn items(&self) -> BTreeMap<String, String> {
        let items = self.state().at(Instant::now());
        items.into_iter().map(|(key, item)| (text(&key), format!("{item:?}"))).collect()
    }

    /// The next scans fail, one each.
    pub(in crate::copy) fn fail_next(&self, faults: &[Fault]) {
        self.state().faults.extend(faults);
    }

    /// All scans fail from now on, or succeed again.
    pub(in crate::copy) fn fail(&self, fault: Option<Fault>) {
        self.state().fault = fault;
    }

    /// Every page takes so long.
    pub(in crate::copy) fn slow(&self, latency: Duration) {
        self.state().latency = latency;
    }

    pub(in crate::copy) fn describe_as(&self, table: Table) {
        self.state().description = Some(table);
    }

    /// When pages were asked for.
    pub(in crate::copy) fn scans(&self) -> Vec<Instant> {
        self.state().scans.clone()
    }

    /// Most pages that were being read at once.
    pub(in crate::copy) fn scans_at_once(&self) -> usize {
        self.state().under_way_most
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while holding it")
    }

    fn page(&self, scan: Scan<'_>) -> Scanned {
        let behind = if scan.consistent { Duration::ZERO } else { self.staleness };
        let now = Instant::now();
        let items = self.state().at(now.checked_sub(behind).unwrap_or(now));
        let after = scan.after.map(|after| after.as_bytes().to_vec()).unwrap_or_default();
        let most = scan.items_max.unwrap_or(PAGE_ITEMS).min(PAGE_ITEMS) as usize;
        let of_segment = |key: &[u8]| segment(key, scan.segments) == scan.segment;
        let mut rest = items.iter().filter(|(key, _)| of_segment(key) && **key > after).peekable();
        let mut page = Scanned::default();
        while page.items.len() < most
            && let Some((key, item)) = rest.next()
        {
            page.items.push(item.clone());
            page.bytes += item.as_bytes().len();
            page.consumed_units += 1.0;
            page.next = rest.peek().map(|_| Item::from_json(Bytes::copy_from_slice(key)));
        }
        page
    }
}

/// The segment of `segments` that a key is in.
pub(in crate::copy) fn segment(key: &[u8], segments: u32) -> u32 {
    let text = Bytes::copy_from_slice(key);
    let key = Key::from_json(&text, 0..text.len()).expect("tests write keys");
    (key.hash64() % u64::from(segments)) as u32
}

/// A usable table of so many items and bytes.
pub(in crate::copy) fn table() -> Table {
    Table {
        arn: "arn".to_owned(),
        usable: true,
        key: vec![KeyAttribute { name: "k".to_owned(), kind: "S".to_owned() }],
        stream: None,
        items: 100,
        bytes: 10_000,
        index_keys: Vec::new(),
        provisioned: None,
        on_demand_max: (None, None),
    }
}

fn text(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}

fn refused<'a, T: Send + 'a>() -> Future<'a, T> {
    Box::pin(async { Err(Error::new("Any", Fault::Invalid, "a source is only read")) })
}

impl State {
    /// The table as it was.
    fn at(&self, at: Instant) -> BTreeMap<Vec<u8>, Item> {
        let mut items = BTreeMap::new();
        for (_, key, item) in self.log.iter().take_while(|(written, ..)| *written <= at) {
            match item {
                Some(item) => drop(items.insert(key.clone(), item.clone())),
                None => drop(items.remove(key)),
            }
        }
        items
    }
}

impl Tables for Model {
    fn describe<'a>(&'a self, _table: &'a str) -> Future<'a, Table> {
        let described = self.state().description.clone().unwrap_or_else(table);
        Box::pin(async { Ok(described) })
    }

    fn write<'a>(&'a self, _table: &'a str, _changes: &'a [Change]) -> Future<'a, Written> {
        refused()
    }

    fn write_guarded<'a>(
        &'a self,
        _table: &'a str,
        _change: &'a Change,
        _guard: &'a Guard,
    ) -> Future<'a, Guarded> {
        refused()
    }

    fn fetch<'a>(&'a self, _table: &'a str, keys: &'a [Key]) -> Future<'a, Fetched> {
        let mut state = self.state();
        let fault = state.fault.or_else(|| state.faults.pop_front());
        let items = state.at(Instant::now());
        let items = keys.iter().map(|key| items.get(key.as_bytes()).cloned()).collect();
        Box::pin(async move {
            match fault {
                Some(fault) => Err(Error::new("BatchGetItem", fault, "scripted")),
                None => Ok(Fetched { items, unprocessed: Vec::new() }),
            }
        })
    }

    /// The page shows the table as it is when it was asked for, and comes later.
    fn scan<'a>(&'a self, _table: &'a str, scan: Scan<'a>) -> Future<'a, Scanned> {
        Box::pin(async move {
            let (fault, latency) = {
                let mut state = self.state();
                state.scans.push(Instant::now());
                state.under_way += 1;
                state.under_way_most = state.under_way_most.max(state.under_way);
                (state.fault.or_else(|| state.faults.pop_front()), state.latency)
            };
            let page = self.page(scan);
            sleep(latency).await;
            self.state().under_way -= 1;
            match fault {
                Some(fault) => Err(Error::new("Scan", fault, "scripted")),
                None => Ok(page),
            }
        })
    }

    fn put<'a>(&'a self, _: &'a str, _: &'a Attributes, _: &'a Condition) -> Future<'a, Outcome> {
        refused()
    }

    fn delete<'a>(&'a self, _: &'a str, _: &'a RowKey, _: &'a Condition) -> Future<'a, Outcome> {
        refused()
    }

    fn query<'a>(&'a self, _: &'a str, _: &'a str, _: &'a str, _: Option<&'a Item>) -> Future<'a, Rows> {
        refused()
    }

    fn create<'a>(&'a self, _: &'a str) -> Future<'a, ()> {
        refused()
    }

    fn enable_stream<'a>(&'a self, _: &'a str) -> Future<'a, ()> {
        refused()
    }
}
