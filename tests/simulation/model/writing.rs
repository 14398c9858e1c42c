//! What calls to tables do when they land.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::fate::{Portion, Verdict};
use super::table::{Place, Stored, Table, place_of_row};
use super::world::{Landing, World};
use super::{Look, Model, Part, TableId};
use crate::change::{Change, Op};
use crate::dynamo::{
    self, Condition, Error, FETCH_KEYS_MAX, Fetched, Outcome, RowKey, Rows, Scan, Scanned, TableStream,
    WRITE_BYTES_MAX, WRITE_ITEMS_MAX, Written,
};
use crate::fault::{Fault, Width};
use crate::item::{Attributes, Item};
use crate::key::Key;
use crate::record::View;

impl World {
    pub(super) fn describe_table(&mut self, landing: &Landing, name: &str) -> Result<dynamo::Table, Error> {
        let id = self.find_table(landing, name)?;
        let arn = self.table_arn(id);
        let table = &self.tables[usize::from(id.0)];
        let now = tokio::time::Instant::now();
        let stream = table.stream.map(|index| &self.streams[index]);
        let stream = stream.filter(|stream| !stream.is_gone(now, self.settings.retention));
        Ok(dynamo::Table {
            arn,
            usable: true,
            key: table.key.clone(),
            stream: stream.map(|stream| TableStream {
                arn: stream.arn.clone(),
                view: stream.view,
                enabled: stream.off_at.is_none(),
            }),
            items: table.items.len() as u64,
            ..dynamo::Table::default()
        })
    }

    pub(super) fn create_table(&mut self, landing: &Landing, name: &str) {
        if self.find_table(landing, name).is_err() {
            self.add_table(Table::new(name, landing.site, Table::row_key()));
        }
    }

    pub(super) fn enable_stream(&mut self, landing: &Landing, name: &str) -> Result<(), Error> {
        let id = self.find_table(landing, name)?;
        let stream = self.table(id).stream;
        if stream.is_none_or(|index| self.streams[index].off_at.is_some()) {
            self.start_stream(id, View::NewAndOldImages);
        }
        Ok(())
    }

    /// `BatchWriteItem`. What is torn off, to land later, is given to `later`.
    pub(super) fn write(
        &mut self,
        landing: &Landing,
        name: &str,
        changes: Vec<Change>,
        later: impl FnOnce(Duration, TableId, Vec<Change>),
    ) -> Result<Written, Error> {
        let id = self.find_table(landing, name)?;
        let invalid = || landing.error(Fault::Invalid);
        if !self.tables[usize::from(id.0)].accepts_batch(&changes) {
            return Err(invalid());
        }
        let mut done = Written::default();
        let mut torn = Vec::new();
        let count = changes.len();
        for (index, change) in changes.into_iter().enumerate() {
            match landing.verdict {
                Verdict::Unprocessed if self.rng.bool() => done.unprocessed.push(index),
                Verdict::Failed(Portion::Some) if self.rng.bool() => {}
                Verdict::Torn(_) if self.rng.bool() => torn.push(change),
                _ => {
                    done.consumed_units += 1.0;
                    self.apply_change(id, change, landing);
                }
            }
        }
        if !torn.is_empty()
            && let Verdict::Torn(apart) = landing.verdict
        {
            done.consumed_units += torn.len() as f64;
            later(apart, id, torn);
        }
        match done.unprocessed.len() == count && count > 0 {
            true => Err(landing.error(Fault::Throttled(Width::Table))),
            false => Ok(done),
        }
    }

    /// One change of a batch that was accepted.
    pub(super) fn apply_change(&mut self, id: TableId, change: Change, landing: &Landing) {
        let Some(place) = self.table(id).place(&change.key) else { return };
        let new = match change.op {
            Op::Put(item) => Some(Stored { key: change.key.clone(), item, row: None }),
            Op::Delete => None,
        };
        self.apply(id, place, &change.key, new, landing.author);
    }

    /// `BatchGetItem`.
    pub(super) fn fetch(&mut self, landing: &Landing, name: &str, keys: &[Key]) -> Result<Fetched, Error> {
        let id = self.find_table(landing, name)?;
        let repeated = |index: usize, key: &Key| keys[..index].contains(key);
        if keys.len() > FETCH_KEYS_MAX || keys.iter().enumerate().any(|(index, key)| repeated(index, key)) {
            return Err(landing.error(Fault::Invalid));
        }
        let mut fetched = Fetched::default();
        for (index, key) in keys.iter().enumerate() {
            if matches!(landing.verdict, Verdict::Unprocessed) && self.rng.bool() {
                fetched.unprocessed.push(index);
                fetched.items.push(None);
                continue;
            }
            let table = self.table(id);
            let place = table.place(key).ok_or_else(|| landing.error(Fault::Invalid))?;
            fetched.items.push(table.items.get(&place).map(|stored| stored.item.clone()));
        }
        let items = fetched.items.iter().flatten().cloned().collect();
        self.shown(landing, id, None, items);
        Ok(fetched)
    }

    pub(super) fn put(
        &mut self,
        landing: &Landing,
        name: &str,
        row: Attributes,
        condition: &Condition,
    ) -> Result<Outcome, Error> {
        let id = self.find_table(landing, name)?;
        let item = Item::from_attributes(&row);
        let table = self.table(id);
        let key = Key::of_item(item.as_bytes(), &table.key_names);
        let key = key.map_err(|_| landing.error(Fault::Invalid))?;
        let place = if table.holds_rows() { place_of_row(&row) } else { table.place(&key) };
        let place = place.ok_or_else(|| landing.error(Fault::Invalid))?;
        if !table.accepts(&key, &item) {
            return Err(landing.error(Fault::Invalid));
        }
        if !table.meets(&place, condition) {
            return Ok(refused(table, &place));
        }
        if self.fails_before(landing) {
            return Err(landing.error(Fault::Transient));
        }
        let stored = Stored { key: key.clone(), item, row: Some(Arc::new(row)) };
        self.apply(id, place, &key, Some(stored), landing.author);
        Ok(Outcome::Done)
    }

    pub(super) fn delete(
        &mut self,
        landing: &Landing,
        name: &str,
        row: &RowKey,
        condition: &Condition,
    ) -> Result<Outcome, Error> {
        let id = self.find_table(landing, name)?;
        let table = self.table(id);
        if !table.holds_rows() {
            return Err(landing.error(Fault::Invalid));
        }
        let place = Place::from(row);
        if !table.meets(&place, condition) {
            return Ok(refused(table, &place));
        }
        if self.fails_before(landing) {
            return Err(landing.error(Fault::Transient));
        }
        let key = Item::from_attributes(&row.attributes());
        let key = Key::from_json(key.bytes(), 0..key.as_bytes().len());
        let key = key.map_err(|_| landing.error(Fault::Invalid))?;
        self.apply(id, place, &key, None, landing.author);
        Ok(Outcome::Done)
    }

    pub(super) fn query(
        &mut self,
        landing: &Landing,
        name: &str,
        partition: &str,
        prefix: &str,
        after: Option<&Item>,
    ) -> Result<Rows, Error> {
        let id = self.find_table(landing, name)?;
        let limit = self.rng.usize(1..=self.quirks(landing.site).rows_page);
        let invalid = || landing.error(Fault::Invalid);
        let after = after.map(|after| after.attributes().map_err(|_| invalid())).transpose()?;
        let after = after.map(|after| place_of_row(&after).ok_or_else(invalid)).transpose()?;
        let table = self.table(id);
        if !table.holds_rows() {
            return Err(invalid());
        }
        Ok(page(table.rows(partition, prefix, after.as_ref()), limit))
    }

    pub(super) fn scan(&mut self, landing: &Landing, name: &str, scan: Scan<'_>) -> Result<Scanned, Error> {
        let id = self.find_table(landing, name)?;
        let limit = self.rng.usize(1..=self.quirks(landing.site).rows_page);
        let limit = scan.items_max.map_or(limit, |most| limit.min(most as usize));
        let staleness = self.quirks(landing.site).scan_staleness;
        let age = match scan.consistent || staleness.is_zero() {
            true => Duration::ZERO,
            false => staleness.mul_f64(self.rng.f64()),
        };
        let invalid = || landing.error(Fault::Invalid);
        if scan.segment >= scan.segments || limit == 0 {
            return Err(invalid());
        }
        let table = self.table(id);
        let after = scan.after.map(|after| Key::of_item(after.as_bytes(), &table.key_names));
        let after = after.transpose().map_err(|_| invalid())?;
        let after = after.map(|after| table.place(&after).ok_or_else(invalid)).transpose()?;
        let scanned = match age.is_zero() {
            true => scanned(&table.items, scan, after, limit),
            false => scanned(&table.items_before(age), scan, after, limit),
        };
        let text = |key: &Item| String::from_utf8_lossy(key.as_bytes()).into_owned();
        let part = Part {
            segment: (scan.segment, scan.segments),
            after: scan.after.map(text).unwrap_or_default(),
            to: scanned.next.as_ref().map(text),
        };
        self.shown(landing, id, Some(part), scanned.items.clone());
        Ok(scanned)
    }

    /// Takes note of what somebody was shown of a table.
    fn shown(&mut self, landing: &Landing, table: TableId, part: Option<Part>, items: Vec<Item>) {
        let at = self.began.elapsed();
        self.history.looks.push(Look { at, node: landing.node, table, part, items });
    }

    /// Whether a single write that fails did so before its effect.
    pub(super) fn fails_before(&mut self, landing: &Landing) -> bool {
        matches!(landing.verdict, Verdict::Failed(Portion::Some)) && self.rng.bool()
    }
}

impl Table {
    /// Whether the service takes this batch; it takes all of it or nothing.
    fn accepts_batch(&self, changes: &[Change]) -> bool {
        let bytes: usize = changes.iter().map(Change::request_bytes).sum();
        let accepted = |change: &Change| match &change.op {
            Op::Put(item) => self.accepts(&change.key, item),
            Op::Delete => self.place(&change.key).is_some(),
        };
        let repeated = |(index, change): (usize, &Change)| {
            changes[..index].iter().any(|earlier| earlier.key == change.key)
        };
        changes.len() <= WRITE_ITEMS_MAX
            && bytes <= WRITE_BYTES_MAX
            && !changes.iter().enumerate().any(repeated)
            && changes.iter().all(accepted)
    }
}

impl Model {
    /// Lets the rest of a batch land later.
    pub(super) fn land_later(&self, apart: Duration, id: TableId, rest: Vec<Change>, landing: Landing) {
        let model = self.clone();
        super::handle::at_the_server(async move {
            tokio::time::sleep(apart).await;
            let mut world = model.world();
            for change in rest {
                world.apply_change(id, change, &landing);
            }
        });
    }
}

fn refused(table: &Table, place: &Place) -> Outcome {
    let row = table.items.get(place).map(|stored| Attributes::clone(&stored.attributes()));
    Outcome::Refused(row)
}

fn scanned(items: &BTreeMap<Place, Stored>, scan: Scan<'_>, after: Option<Place>, limit: usize) -> Scanned {
    use std::ops::Bound;
    /// A consistent read of so many bytes is one unit, any other half of one (developer guide, "Read consistency").
    const UNIT_BYTES: usize = 4096;
    let start = after.map_or(Bound::Unbounded, Bound::Excluded);
    let (segment, segments) = (u64::from(scan.segment), u64::from(scan.segments));
    let items = items.range((start, Bound::Unbounded));
    let Rows { rows: items, next } =
        page(items.filter(|(_, stored)| stored.key.hash64() % segments == segment), limit);
    let bytes: usize = items.iter().map(|item| item.as_bytes().len()).sum();
    let units = bytes.div_ceil(UNIT_BYTES).max(1) as f64;
    let consumed_units = if scan.consistent { units } else { units / 2.0 };
    Scanned { items, next, bytes, consumed_units }
}

fn page<'a>(rows: impl Iterator<Item = (&'a Place, &'a Stored)>, limit: usize) -> Rows {
    let mut rows = rows.map(|(_, stored)| stored).peekable();
    let mut page = Rows::default();
    let mut last = None;
    while page.rows.len() < limit {
        let Some(stored) = rows.next() else { break };
        page.rows.push(stored.item.clone());
        last = Some(stored);
    }
    let more = rows.peek().is_some();
    let next = last.filter(|_| more);
    page.next = next.map(|stored| Item::from_json(bytes::Bytes::copy_from_slice(stored.key.as_bytes())));
    page
}
