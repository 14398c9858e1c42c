//! One page: reserved for, read, and made into changes.

use std::sync::Arc;

use tokio::time::Instant;

use crate::budget::{Budget, Reservation};
use crate::capacity::{Bucket, read_units};
use crate::change::Change;
use crate::clock::Clock;
use crate::copy::image::Images;
use crate::copy::rota::Read;
use crate::dynamo::{self, Scan, Tables};
use crate::fault::Fault;
use crate::item::Item;
use crate::lane;
use crate::lease::Fence;

/// Bytes of a page, before it is read: the service stops at 1 MB.
const PAGE_BYTES: usize = 1 << 20;

/// All that it takes to read a page.
#[derive(Clone)]
pub(super) struct Reader {
    pub(super) source: Arc<dyn Tables>,
    pub(super) table: Arc<str>,
    pub(super) budget: Budget,
    pub(super) bucket: Bucket,
    pub(super) armed: Arc<lane::Armed>,
    pub(super) fence: Fence,
    pub(super) images: Arc<Images>,
    pub(super) segments: u32,
    pub(super) consistent: bool,
    pub(super) clock: Clock,
}

/// A page, ready to be handed over.
pub(super) struct Page {
    pub(super) changes: Vec<Change>,
    pub(super) read: Read,
    pub(super) units: f64,
    pub(super) misfits: u64,
    /// The first of them.
    pub(super) misfit: Option<String>,
    pub(super) page: lane::Page,
    pub(super) reservation: Reservation,
}

/// Why there is none.
pub(super) enum Missed {
    /// The right to write ended while room was waited for.
    Closed,
    /// The call failed.
    Failed(dynamo::Error),
}

// === impl Reader ===

impl Reader {
    /// Reads the page of `segment` after `after`, when there is room for it.
    ///
    /// Few items are asked for at once when the budget is low; each has cost `item_units` so far.
    pub(super) async fn read(
        self,
        segment: u32,
        after: Option<Item>,
        item_units: f64,
    ) -> Result<Page, Missed> {
        let mut reservation = self.budget.reserve(PAGE_BYTES).await;
        self.armed.room().await;
        let charge = self.bucket.reserve(self.bucket.predicted()).await;
        if !self.fence.is_open(Instant::now()) {
            charge.refund();
            return Err(Missed::Closed);
        }
        // From here on the stream's writes count against what the page shows.
        let page = self.armed.page();
        let scan = Scan {
            segment,
            segments: self.segments,
            after: after.as_ref(),
            items_max: self.bucket.items_max(item_units),
            consistent: self.consistent,
        };
        let read_unix_ms = self.clock.unix_ms();
        let scanned = match self.source.scan(&self.table, scan).await {
            Ok(scanned) => scanned,
            Err(error) => {
                // A read that was refused cost nothing; of one that nobody answered it is not known.
                if !matches!(error.fault, Fault::Unanswered | Fault::Protocol) {
                    charge.refund();
                }
                return Err(Missed::Failed(error));
            }
        };
        let units = match scanned.consumed_units {
            told if told > 0.0 => told,
            _ => read_units(scanned.bytes, self.consistent),
        };
        charge.settle(units);
        reservation.resize(scanned.bytes);
        self.page(scanned, units, read_unix_ms, page, reservation)
    }

    fn page(
        &self,
        scanned: dynamo::Scanned,
        units: f64,
        read_unix_ms: i64,
        page: lane::Page,
        reservation: Reservation,
    ) -> Result<Page, Missed> {
        let mut changes = Vec::with_capacity(scanned.items.len());
        let (mut misfits, mut misfit) = (0, None);
        for item in &scanned.items {
            let change = self.images.put(item, read_unix_ms).map_err(|malformed| {
                let message = format!("the answer holds an item that cannot be read: {malformed}");
                Missed::Failed(dynamo::Error::new("Scan", Fault::Protocol, message))
            })?;
            if let Some(found) = self.images.misfit(item) {
                misfits += 1;
                misfit.get_or_insert_with(|| found.text(&change.key));
            }
            changes.push(change);
        }
        let read = Read {
            items: scanned.items.len() as u64,
            bytes: scanned.bytes as u64,
            next: scanned.next.map(detached),
        };
        Ok(Page { changes, read, units, misfits, misfit, page, reservation })
    }
}

/// The key in memory of its own, so that it does not keep the page alive.
fn detached(key: Item) -> Item {
    Item::from_json(bytes::Bytes::copy_from_slice(key.as_bytes()))
}
