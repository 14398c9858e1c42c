//! One of the two tables: pages of a parallel scan, and consistent reads of single keys, all within a budget.
//!
//! A scan reads pages that may be stale, which cost half: what is missing from one is suspect like anything else, and
//! nothing is called a difference before it was read consistently.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep};

use super::Error;
use crate::backoff::Backoff;
use crate::budget::{Budget, Reservation};
use crate::capacity::{Bucket, read_units};
use crate::dynamo::{self, FETCH_KEYS_MAX, Fetched, Scan, Scanned, Tables};
use crate::fault::{Directive, Fault, Stage, directive};
use crate::item::Item;
use crate::key::Key;

/// How long a read is tried again before the verification gives up: longer than any failure that heals by itself, short
/// enough for a person to learn of one that does not.
const PATIENCE: Duration = Duration::from_secs(300);

/// Memory that a page of 1 MB may take as JSON, in the usual case.
const PAGE_BYTES: usize = 2 << 20;

/// What an item of a scan costs until one was read: that of 4 kB.
const ITEM_UNITS: f64 = 0.5;

/// Bytes of a table for each segment: so few that no segment is the last one for long.
const SEGMENT_BYTES: u64 = 64 << 20;

/// Fewest and most segments of a scan.
const SEGMENTS: std::ops::RangeInclusive<u64> = 8..=4096;

/// A table that is compared.
#[derive(Clone)]
pub struct Table {
    /// Where it is.
    pub tables: Arc<dyn Tables>,
    /// Its name or ARN.
    pub name: String,
    /// The names of its key attributes.
    pub key: Vec<String>,
    /// Into how many segments its scan is divided.
    pub segments: u32,
    /// Pages that are read at once.
    pub pages: usize,
    /// Read capacity that may be used.
    pub units: Bucket,
}

/// A segment's next page.
struct Cursor {
    segment: u32,
    after: Option<Item>,
}

/// A page that was read.
struct Page {
    cursor: Cursor,
    scanned: Scanned,
    /// Given back when the page was looked at.
    _memory: Reservation,
}

/// The scan of a whole table.
pub(super) struct Pages<'a> {
    table: &'a Table,
    memory: &'a Budget,
    /// Each in its turn, one page at a time, so that the load is spread over all partitions.
    waiting: VecDeque<Cursor>,
    reading: FuturesUnordered<BoxFuture<'a, Result<Page, Error>>>,
    /// What an item of the last page cost.
    item_units: f64,
}

/// Some items and what reading them cost.
pub(super) struct Read {
    pub(super) items: Vec<Item>,
    pub(super) units: f64,
    _memory: Reservation,
}

/// The number of segments for a table of so many bytes.
pub fn segments(bytes: u64) -> u32 {
    let wanted = (bytes / SEGMENT_BYTES).clamp(*SEGMENTS.start(), *SEGMENTS.end());
    u32::try_from(wanted.next_power_of_two()).unwrap_or(u32::MAX)
}

// === impl Table ===

impl Table {
    /// All pages, in no order.
    pub(super) fn scan<'a>(&'a self, memory: &'a Budget) -> Pages<'a> {
        let mut waiting: Vec<_> =
            (0..self.segments.max(1)).map(|segment| Cursor { segment, after: None }).collect();
        fastrand::shuffle(&mut waiting);
        Pages {
            table: self,
            memory,
            waiting: waiting.into(),
            reading: FuturesUnordered::new(),
            item_units: ITEM_UNITS,
        }
    }

    /// Reads the items under `keys`, strongly consistent, in the same order.
    ///
    /// # Errors
    /// When the table cannot be read any more.
    pub async fn fetch(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, Error> {
        let mut found = Vec::with_capacity(keys.len());
        for keys in keys.chunks(FETCH_KEYS_MAX) {
            found.extend(self.fetch_some(keys).await?);
        }
        Ok(found)
    }

    /// Items, as the service last counted them.
    pub(super) async fn items(&self) -> Result<u64, Error> {
        let described = self.tables.describe(&self.name).await;
        described.map(|table| table.items).map_err(|source| self.failed(source))
    }

    /// One page of at most `items_max` items.
    pub(super) async fn read(
        &self,
        segment: u32,
        segments: u32,
        after: Option<&Item>,
        items_max: usize,
    ) -> Result<Scanned, Error> {
        let items_max = u32::try_from(items_max).ok();
        self.scan_page(Scan { segment, segments, after, items_max, consistent: false }, ITEM_UNITS).await
    }

    async fn fetch_some(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, Error> {
        let mut found = vec![None; keys.len()];
        let mut open: Vec<usize> = (0..keys.len()).collect();
        let mut attempts = Attempts::new(self);
        while !open.is_empty() {
            let asked: Vec<_> = open.iter().map(|index| keys[*index].clone()).collect();
            let charge = self.units.reserve(asked.len() as f64).await;
            match self.tables.fetch(&self.name, &asked).await {
                Ok(Fetched { items, unprocessed }) => {
                    let bytes = |item: &Option<Item>| item.as_ref().map_or(0, |item| item.as_bytes().len());
                    charge.settle(items.iter().map(|item| read_units(bytes(item), true)).sum());
                    for (place, item) in items.into_iter().enumerate() {
                        if !unprocessed.contains(&place) {
                            found[open[place]] = item;
                        }
                    }
                    if unprocessed.len() < open.len() {
                        attempts = Attempts::new(self);
                    }
                    open = unprocessed.into_iter().map(|place| open[place]).collect();
                    if !open.is_empty() {
                        attempts.pause().await;
                    }
                }
                Err(error) => {
                    charge.refund();
                    attempts.failed(error).await?;
                }
            }
        }
        Ok(found)
    }

    async fn page(&self, cursor: Cursor, item_units: f64, memory: &Budget) -> Result<Page, Error> {
        let mut memory = memory.reserve(PAGE_BYTES).await;
        let scan = Scan {
            segment: cursor.segment,
            segments: self.segments.max(1),
            after: cursor.after.as_ref(),
            items_max: None,
            consistent: false,
        };
        let scanned = self.scan_page(scan, item_units).await?;
        memory.resize(scanned.bytes);
        Ok(Page { cursor, scanned, _memory: memory })
    }

    /// Reads a page, once there are units for it, as short as these demand. Its units are known.
    async fn scan_page(&self, scan: Scan<'_>, item_units: f64) -> Result<Scanned, Error> {
        let mut attempts = Attempts::new(self);
        loop {
            let limits = [scan.items_max, self.units.items_max(item_units)];
            let items_max = limits.into_iter().flatten().min();
            let most = items_max.map_or(f64::INFINITY, |items| f64::from(items) * item_units);
            let charge = self.units.reserve(self.units.predicted().min(most)).await;
            match self.tables.scan(&self.name, Scan { items_max, ..scan }).await {
                Ok(scanned) => {
                    let consumed_units = match scanned.consumed_units {
                        // The server does not tell.
                        0.0 => read_units(scanned.bytes, false),
                        told => told,
                    };
                    charge.settle(consumed_units);
                    return Ok(Scanned { consumed_units, ..scanned });
                }
                Err(error) => {
                    charge.refund();
                    attempts.failed(error).await?;
                }
            }
        }
    }

    fn failed(&self, source: dynamo::Error) -> Error {
        Error::Read { table: self.name.clone(), source: Box::new(source) }
    }
}

// === impl Pages ===

impl<'a> Pages<'a> {
    /// The next page; `None` when all were read.
    pub(super) async fn next(&mut self) -> Result<Option<Read>, Error> {
        while self.reading.len() < self.table.pages.max(1) {
            let Some(cursor) = self.waiting.pop_front() else { break };
            let (table, item_units, memory) = (self.table, self.item_units, self.memory);
            self.reading.push(Box::pin(table.page(cursor, item_units, memory)));
        }
        let Some(page) = self.reading.next().await else { return Ok(None) };
        let Page { cursor, scanned: Scanned { items, next, consumed_units, .. }, _memory } = page?;
        if !items.is_empty() {
            self.item_units = consumed_units / items.len() as f64;
        }
        if let Some(next) = next {
            // In memory of its own, so that it does not keep the page.
            let after = Item::from_json(Bytes::copy_from_slice(next.as_bytes()));
            self.waiting.push_back(Cursor { after: Some(after), ..cursor });
        }
        Ok(Some(Read { items, units: consumed_units, _memory }))
    }
}

/// Attempts of one read.
struct Attempts<'a> {
    table: &'a Table,
    backoff: Backoff,
    began: Instant,
}

// === impl Attempts ===

impl<'a> Attempts<'a> {
    fn new(table: &'a Table) -> Self {
        let backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(10));
        Self { table, backoff, began: Instant::now() }
    }

    async fn pause(&mut self) {
        sleep(self.backoff.pause()).await;
    }

    /// Waits for another attempt, unless none will do better.
    async fn failed(&mut self, error: dynamo::Error) -> Result<(), Error> {
        if let Fault::Throttled(width) = error.fault {
            self.table.units.throttled(width);
        }
        match directive(error.fault, Stage::Read) {
            Directive::Retry | Directive::SlowDown if self.began.elapsed() < PATIENCE => {
                self.pause().await;
                Ok(())
            }
            _ => Err(self.table.failed(error)),
        }
    }
}
