//! Tables in memory, for unit tests of the stages: conditions and prefixes, and faults on demand.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;

use super::{
    Condition, Error, Fetched, Future, Guard, Guarded, Outcome, RowKey, Rows, Scan, Scanned, Table, Tables,
    Written,
};
use crate::change::{Change, Op, Order};
use crate::fault::Fault;
use crate::item::{Attributes, Item, Value};
use crate::key::Key;

/// Tables that exist as soon as they are named.
#[derive(Default)]
pub(crate) struct Memory {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rows: BTreeMap<(String, String, String), Attributes>,
    items: BTreeMap<(String, Vec<u8>), Item>,
    /// Every batch that was tried, as the keys in it.
    batches: Vec<Vec<String>>,
    /// Every item that was put, with its table, in order.
    puts: Vec<(String, Item)>,
    scripted: VecDeque<Scripted>,
    poison: Option<String>,
    description: Option<Table>,
    broken: BTreeSet<String>,
    delays: BTreeMap<String, Duration>,
    rows_broken: bool,
    broken_row: Option<String>,
    lost_row: Option<String>,
    rows_delay: Duration,
    items_delay: Duration,
}

enum Scripted {
    /// The write is done, and the answer lost.
    Lost(Fault),
    /// The write is refused.
    Failed(Fault),
    /// Changes with these indexes are not applied.
    Unprocessed(Vec<usize>),
}

impl Memory {
    /// The next write is done, and fails with `fault` all the same.
    pub(crate) fn lose_next_answer(&self, fault: Fault) {
        self.state().scripted.push_back(Scripted::Lost(fault));
    }

    /// The next write is not done and fails with `fault`.
    pub(crate) fn fail_next(&self, fault: Fault) {
        self.state().scripted.push_back(Scripted::Failed(fault));
    }

    /// The next batch is done but for the changes at `indexes`.
    pub(crate) fn leave_next_unprocessed(&self, indexes: &[usize]) {
        self.state().scripted.push_back(Scripted::Unprocessed(indexes.to_vec()));
    }

    /// A batch with an item that contains `marker` is refused as invalid.
    pub(crate) fn refuse_items_with(&self, marker: &str) {
        self.state().poison = Some(marker.to_owned());
    }

    /// Every table is described like this.
    pub(crate) fn describe_as(&self, table: Table) {
        self.state().description = Some(table);
    }

    /// From now on writes of items to `table` fail, or succeed again.
    pub(crate) fn break_table(&self, table: &str, broken: bool) {
        let mut state = self.state();
        match broken {
            true => drop(state.broken.insert(table.to_owned())),
            false => drop(state.broken.remove(table)),
        }
    }

    /// From now on answers to writes of items to `table`, which are done at once, take this long.
    pub(crate) fn slow_table(&self, table: &str, delay: Duration) {
        self.state().delays.insert(table.to_owned(), delay);
    }

    /// From now on reads and writes of rows fail, or succeed again.
    pub(crate) fn break_rows(&self, broken: bool) {
        self.state().rows_broken = broken;
    }

    /// From now on writes of rows with this sort key fail; those of no row with `None`.
    pub(crate) fn break_row(&self, sort: Option<&str>) {
        self.state().broken_row = sort.map(str::to_owned);
    }

    /// From now on writes of rows with this sort key are done, and fail all the same; those of no row with `None`.
    pub(crate) fn lose_row(&self, sort: Option<&str>) {
        self.state().lost_row = sort.map(str::to_owned);
    }

    /// From now on answers to writes of rows, which are done at once, take this long.
    pub(crate) fn slow_rows(&self, delay: Duration) {
        self.state().rows_delay = delay;
    }

    /// From now on answers to writes of items, which are done at once, take this long.
    pub(crate) fn slow_items(&self, delay: Duration) {
        self.state().items_delay = delay;
    }

    /// No item is poison any more.
    pub(crate) fn accept_all(&self) {
        self.state().poison = None;
    }

    /// The item under a key, as JSON text.
    pub(crate) fn item(&self, table: &str, key: &Key) -> Option<String> {
        let item = self.state().items.get(&(table.to_owned(), key.as_bytes().to_vec())).cloned();
        item.map(|item| format!("{item:?}"))
    }

    /// All items of a table, as JSON text by their keys.
    pub(crate) fn items(&self, table: &str) -> BTreeMap<String, String> {
        let state = self.state();
        let items = state.items.iter().filter(|((of, _), _)| of == table);
        items
            .map(|((_, key), item)| (String::from_utf8_lossy(key).into_owned(), format!("{item:?}")))
            .collect()
    }

    /// Keys of the batches that were tried so far, in order.
    pub(crate) fn batches(&self) -> Vec<Vec<String>> {
        self.state().batches.clone()
    }

    /// Items that were put into `table`, as JSON text, in order.
    pub(crate) fn puts(&self, table: &str) -> Vec<String> {
        let state = self.state();
        let puts = state.puts.iter().filter(|(of, _)| of == table);
        puts.map(|(_, item)| format!("{item:?}")).collect()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while holding it")
    }
}

fn fault(operation: &'static str, fault: Fault) -> Error {
    Error::new(operation, fault, "scripted")
}

fn ready<'a, T: Send + 'a>(result: Result<T, Error>) -> Future<'a, T> {
    Box::pin(std::future::ready(result))
}

fn after<'a, T: Send + 'a>(delay: Duration, result: Result<T, Error>) -> Future<'a, T> {
    Box::pin(async move {
        tokio::time::sleep(delay).await;
        result
    })
}

impl State {
    fn holds(&self, key: &(String, String, String), condition: &Condition) -> bool {
        match condition {
            Condition::Always => true,
            Condition::Absent => !self.rows.contains_key(key),
            Condition::Equals { attribute, value } => {
                self.rows.get(key).and_then(|row| row.get(*attribute)) == Some(value)
            }
        }
    }

    fn change_row(
        &mut self,
        key: (String, String, String),
        row: Option<Attributes>,
        condition: &Condition,
    ) -> Result<Outcome, Error> {
        if self.rows_broken || self.broken_row.as_ref() == Some(&key.2) {
            return Err(fault("PutItem", Fault::Transient));
        }
        let scripted = self.scripted.pop_front();
        if let Some(Scripted::Failed(reason)) = scripted {
            return Err(fault("PutItem", reason));
        }
        if !self.holds(&key, condition) {
            return Ok(Outcome::Refused(self.rows.get(&key).cloned()));
        }
        let is_lost = self.lost_row.as_ref() == Some(&key.2);
        match row {
            Some(row) => drop(self.rows.insert(key, row)),
            None => drop(self.rows.remove(&key)),
        }
        if is_lost {
            return Err(fault("PutItem", Fault::Unanswered));
        }
        match scripted {
            Some(Scripted::Lost(reason)) => Err(fault("PutItem", reason)),
            _ => Ok(Outcome::Done),
        }
    }

    fn write(&mut self, table: &str, changes: &[Change]) -> Result<Written, Error> {
        self.batches.push(changes.iter().map(|change| change.key.to_string()).collect());
        if self.broken.contains(table) {
            return Err(fault("BatchWriteItem", Fault::Transient));
        }
        let scripted = self.scripted.pop_front();
        if let Some(Scripted::Failed(reason)) = scripted {
            return Err(fault("BatchWriteItem", reason));
        }
        let poison = self.poison.clone();
        let is_poison = |change: &Change| match (&change.op, &poison) {
            (Op::Put(item), Some(marker)) => format!("{item:?}").contains(marker),
            _ => false,
        };
        if changes.iter().any(is_poison) {
            return Err(fault("BatchWriteItem", Fault::Invalid));
        }
        let unprocessed = match &scripted {
            Some(Scripted::Unprocessed(indexes)) => indexes.clone(),
            _ => Vec::new(),
        };
        for (index, change) in changes.iter().enumerate().filter(|(index, _)| !unprocessed.contains(index)) {
            let _ = index;
            let key = (table.to_owned(), change.key.as_bytes().to_vec());
            match &change.op {
                Op::Put(item) => {
                    self.puts.push((table.to_owned(), item.clone()));
                    self.items.insert(key, item.clone());
                }
                Op::Delete => drop(self.items.remove(&key)),
            }
        }
        match scripted {
            Some(Scripted::Lost(reason)) => Err(fault("BatchWriteItem", reason)),
            _ => Ok(Written { unprocessed, consumed_units: 0.0 }),
        }
    }

    /// A page, always current, which costs a unit for each item.
    fn scan(&self, table: &str, scan: Scan<'_>) -> Scanned {
        let Scan { segment, segments, after, items_max, .. } = scan;
        let after = after.map(|after| after.as_bytes().to_vec()).unwrap_or_default();
        let most = items_max.map_or(usize::MAX, |most| most as usize);
        let hash = |text: &[u8]| {
            let text = Bytes::copy_from_slice(text);
            Key::from_json(&text, 0..text.len()).expect("tests write keys").hash64()
        };
        let of_table = self.items.iter().filter(|((of, _), _)| of == table);
        let mut rest = of_table
            .filter(|((_, key), _)| hash(key) % u64::from(segments) == u64::from(segment) && *key > after)
            .peekable();
        let mut page = Scanned::default();
        while page.items.len() < most
            && let Some(((_, key), item)) = rest.next()
        {
            page.items.push(item.clone());
            page.bytes += item.as_bytes().len();
            page.consumed_units += 1.0;
            page.next = rest.peek().map(|_| Item::from_json(Bytes::copy_from_slice(key)));
        }
        page
    }

    /// One change of a batch of its own, under its condition.
    fn write_guarded(&mut self, table: &str, change: &Change, guard: &Guard) -> Result<Guarded, Error> {
        let key = (table.to_owned(), change.key.as_bytes().to_vec());
        let attributes = |item: &Item| item.attributes().expect("tests write items");
        let there = self.items.get(&key).and_then(|item| attributes(item).remove(&guard.attribute));
        let mark = change.order.as_ref().map(Order::mark);
        let is_stale = there.is_some_and(|there| {
            let there = there.as_str().expect("a mark is a string");
            let is_same_table = |order: &Order| there.starts_with(order.table_prefix());
            change.order.as_ref().is_none_or(is_same_table) && mark.as_deref() <= Some(there)
        });
        if is_stale {
            self.batches.push(vec![change.key.to_string()]);
            return Ok(Guarded { is_stale, consumed_units: 0.0 });
        }
        let mut change = change.clone();
        if let Op::Put(item) = &mut change.op {
            let mut marked = attributes(item);
            marked.remove(&guard.attribute);
            marked.extend(mark.map(|mark| (guard.attribute.clone(), Value::from(mark.as_str()))));
            *item = Item::from_attributes(&marked);
        }
        let written = self.write(table, &[change])?;
        match written.unprocessed.is_empty() {
            true => Ok(Guarded { is_stale, consumed_units: written.consumed_units }),
            false => Err(fault("PutItem", Fault::Throttled(crate::fault::Width::KeyRange))),
        }
    }
}

fn row_key(table: &str, row: &Attributes) -> (String, String, String) {
    let part = |name: &str| row.get(name).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
    (table.to_owned(), part("pk"), part("sk"))
}

impl Tables for Memory {
    fn describe<'a>(&'a self, _table: &'a str) -> Future<'a, Table> {
        ready(self.state().description.clone().ok_or_else(|| fault("DescribeTable", Fault::Missing)))
    }

    fn write<'a>(&'a self, table: &'a str, changes: &'a [Change]) -> Future<'a, Written> {
        let mut state = self.state();
        let result = state.write(table, changes);
        let delay = state.delays.get(table).copied().unwrap_or(state.items_delay);
        after(delay, result)
    }

    fn write_guarded<'a>(
        &'a self,
        table: &'a str,
        change: &'a Change,
        guard: &'a Guard,
    ) -> Future<'a, Guarded> {
        let mut state = self.state();
        let result = state.write_guarded(table, change, guard);
        after(state.items_delay, result)
    }

    fn fetch<'a>(&'a self, table: &'a str, keys: &'a [Key]) -> Future<'a, Fetched> {
        let state = self.state();
        let item = |key: &Key| state.items.get(&(table.to_owned(), key.as_bytes().to_vec())).cloned();
        ready(Ok(Fetched { items: keys.iter().map(item).collect(), unprocessed: Vec::new() }))
    }

    fn scan<'a>(&'a self, table: &'a str, scan: Scan<'a>) -> Future<'a, Scanned> {
        ready(Ok(self.state().scan(table, scan)))
    }

    fn put<'a>(
        &'a self,
        table: &'a str,
        row: &'a Attributes,
        condition: &'a Condition,
    ) -> Future<'a, Outcome> {
        let mut state = self.state();
        let result = state.change_row(row_key(table, row), Some(row.clone()), condition);
        after(state.rows_delay, result)
    }

    fn delete<'a>(
        &'a self,
        table: &'a str,
        row: &'a RowKey,
        condition: &'a Condition,
    ) -> Future<'a, Outcome> {
        let key = (table.to_owned(), row.partition.clone(), row.sort.clone());
        ready(self.state().change_row(key, None, condition))
    }

    fn query<'a>(
        &'a self,
        table: &'a str,
        partition: &'a str,
        prefix: &'a str,
        _after: Option<&'a Item>,
    ) -> Future<'a, Rows> {
        let state = self.state();
        if state.rows_broken {
            return ready(Err(fault("Query", Fault::Transient)));
        }
        let wanted = |(of, pk, sk): &(String, String, String)| {
            of == table && pk == partition && sk.starts_with(prefix)
        };
        let rows =
            state.rows.iter().filter(|(key, _)| wanted(key)).map(|(_, row)| Item::from_attributes(row));
        ready(Ok(Rows { rows: rows.collect(), next: None }))
    }

    fn create<'a>(&'a self, _table: &'a str) -> Future<'a, ()> {
        ready(Ok(()))
    }

    fn enable_stream<'a>(&'a self, _table: &'a str) -> Future<'a, ()> {
        ready(Ok(()))
    }
}
