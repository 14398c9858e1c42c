//! The loop around the queue: batches go out, answers come in.

mod guarded;
mod refused;

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracing::{info, warn};

use super::parked::{self, Entry, Parked};
use super::{Config, Gauges, pace::Pace};
use crate::clock::Clock;
use crate::dynamo::{self, Guarded, Tables, WRITE_ITEMS_MAX, Written};
use crate::fault::{Directive, Fault, Stage, Width, advice, directive};
use crate::key::Key;
use crate::lane::{Batch, Delivery, Lot, Queue, Window};
use crate::mutation::{self, Mutation};
use crate::shard::ShardId;
use crate::telemetry;

/// Bytes of one request, well below the service's 16 MB: a request of this size is through in a fraction of an
/// attempt's time even over a slow line.
const BATCH_BYTES: usize = 4 << 20;

/// With fewer requests than this under way a batch is sent although it is not full.
const EAGER_BATCHES: usize = 2;

/// How often somebody's wish to retry or drop a parked key is looked for.
const PARKED_SCAN: Duration = Duration::from_secs(5);

/// Where a parked change belongs when it is tried again, by the shard that it was read from (if that is known): the lot
/// whose fence is open only while no other worker may write to its key. That is so for a worker that holds every shard
/// which descends from that one, because the key's later changes are in one of them. A lot of that shard's own is
/// settled before the shard is given up, as its pages' lots are. A guard does not replace the fence: an item that another
/// worker deleted remembers nothing.
///
/// `None` when the change may not be written now; it is asked for again some seconds later.
pub type RetryLot = Arc<dyn Fn(Option<&ShardId>) -> Option<Lot> + Send + Sync>;

/// What a writer is built from.
pub struct Parts {
    /// How to write.
    pub config: Config,
    /// The replica's tables.
    pub tables: Arc<dyn Tables>,
    /// Where refused changes are kept.
    pub parked: Parked,
    /// What waits to be written comes from here; the writer ends when it is closed and all is settled.
    pub inbox: mpsc::UnboundedReceiver<Delivery>,
    /// Who asks here is told when the writer knows all keys that were parked before, by other workers too. A shard
    /// that came from another worker is not read before.
    pub reloads: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
    /// Gives each parked change that is tried again its lot.
    pub retry_lot: RetryLot,
    /// Keeps copied items from undoing the stream's changes. Who copies arms it, and hands over pages by the inbox.
    pub window: Window,
    /// What the writer shows.
    pub gauges: Arc<Gauges>,
    /// The time of day.
    pub clock: Clock,
    /// Where numbers go.
    pub metrics: telemetry::Replica,
}

/// Writes to one replica.
pub struct Writer {
    parts: Parts,
    queue: Queue,
    pace: Pace,
    under_way: FuturesUnordered<Pin<Box<dyn Future<Output = Done> + Send>>>,
    batches_in_flight: usize,
    keys: HashMap<Key, Entry>,
    /// Keys on their way to be parked.
    parking: usize,
    scanning: bool,
    /// Looks at all parked keys under way: the scan, and reloads.
    looks: usize,
    /// Keys parked since the first look under way began; it may not have seen them.
    parked_meanwhile: HashSet<Key>,
}

/// Something that was under way and has ended.
enum Done {
    Wrote {
        batch: Batch,
        result: Result<Written, dynamo::Error>,
    },
    /// With a result for each change.
    Tried {
        batch: Batch,
        results: Vec<Result<Guarded, dynamo::Error>>,
    },
    Parked {
        batch: Batch,
        entry: Entry,
    },
    Cleared {
        batch: Batch,
    },
    /// The right to write it ended while the control table did not take what had to be kept or cleared first.
    GivenUp {
        batch: Batch,
        parking: bool,
    },
    Scanned {
        result: Result<Vec<Entry>, parked::Error>,
    },
    Reloaded {
        asked: oneshot::Sender<()>,
        result: Result<Vec<Entry>, parked::Error>,
    },
    Loaded {
        entry: Entry,
        result: Result<crate::change::Change, parked::Error>,
    },
}

// === impl Writer ===

impl Writer {
    /// A writer that knows which keys are parked.
    ///
    /// # Errors
    /// When the parked keys cannot be read.
    pub async fn build(parts: Parts) -> Result<Self, parked::Error> {
        let keys: HashMap<_, _> =
            parts.parked.list().await?.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
        parts.gauges.set_parked_keys(keys.len());
        Ok(Self {
            pace: Pace::new(parts.config.batches_in_flight),
            queue: Queue::new(parts.window.clone()),
            parts,
            under_way: FuturesUnordered::new(),
            batches_in_flight: 0,
            keys,
            parking: 0,
            scanning: false,
            looks: 0,
            parked_meanwhile: HashSet::new(),
        })
    }

    /// Writes until the inbox is closed and everything is settled.
    pub async fn run(mut self) {
        let mut scan = interval(PARKED_SCAN);
        scan.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut received = Vec::new();
        let mut open = true;
        while open || !self.queue.is_empty() || self.batches_in_flight > 0 {
            self.send_ready();
            if !open {
                // The last shard is gone, and with it most rights to write what waits.
                self.queue.abandon_closed(Instant::now());
            }
            let wake = self.next_wake();
            tokio::select! {
                biased;
                // 1. Answers make room and settle lots.
                Some(done) = self.under_way.next(), if !self.under_way.is_empty() => self.finish(done),
                // 2. New changes may replace waiting ones.
                count = self.parts.inbox.recv_many(&mut received, 64), if open => {
                    open = count > 0;
                    received.drain(..).for_each(|delivery| self.receive(delivery));
                }
                // 3. A pause is over.
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
                Some(asked) = self.parts.reloads.recv(), if open => self.reload(asked),
                // 4. Somebody may have asked for a parked key.
                _ = scan.tick() => self.scan(),
            }
        }
    }

    fn receive(&mut self, delivery: Delivery) {
        if delivery.lot.page.is_some() {
            // Whoever reads the stream has counted the others.
            self.parts.gauges.routed(delivery.changes.len() as u64, 0);
        }
        self.queue.push(delivery);
    }

    fn send_ready(&mut self) {
        let now = Instant::now();
        self.queue.wake(now);
        while self.pace.has_room(self.batches_in_flight, now)
            && (self.queue.ready_len() >= WRITE_ITEMS_MAX || self.batches_in_flight < EAGER_BATCHES)
        {
            let Some(batch) = self.queue.next_batch(WRITE_ITEMS_MAX, BATCH_BYTES, now) else {
                break;
            };
            self.send(batch, now);
        }
        if !self.pace.has_room(0, now) {
            // Nothing is sent in a pause, and so nothing would notice that a lease was lost.
            self.queue.abandon_closed(now);
        }
        self.show();
    }

    /// Sends what may be sent at `now`. The attempt's time counts from then, whenever its first step is made.
    fn send(&mut self, batch: Batch, now: Instant) {
        self.batches_in_flight += 1;
        let deadline = now + self.parts.config.attempt_timeout;
        if self.parts.config.guard.is_some() {
            return self.send_guarded(batch, deadline);
        }
        let tables = Arc::clone(&self.parts.tables);
        let table = self.parts.config.table.clone();
        self.under_way.push(Box::pin(async move {
            let write = async {
                let first = tables.write(&table, &batch.changes);
                match mutation::is_on(Mutation::HiddenRetry) {
                    true => futures_util::future::join(first, tables.write(&table, &batch.changes)).await.0,
                    false => first.await,
                }
            };
            let result = dynamo::until(deadline, "BatchWriteItem", Box::pin(write)).await;
            Done::Wrote { batch, result }
        }));
    }

    fn next_wake(&self) -> Option<Instant> {
        let now = Instant::now();
        match self.pace.resumes_at() {
            Some(at) if at > now => Some(at),
            _ => self.queue.next_wake(),
        }
    }

    fn finish(&mut self, done: Done) {
        match done {
            Done::Wrote { batch, result } => {
                self.batches_in_flight -= 1;
                match result {
                    Ok(written) => self.wrote(batch, &written),
                    Err(error) => self.failed(batch, error),
                }
            }
            Done::Tried { batch, results } => {
                self.batches_in_flight -= 1;
                self.tried(batch, results);
            }
            Done::Parked { batch, entry } => {
                self.batches_in_flight -= 1;
                self.parking -= 1;
                if self.looks > 0 {
                    self.parked_meanwhile.insert(entry.key.clone());
                }
                self.keys.insert(entry.key.clone(), entry);
                self.queue.parked(batch);
            }
            Done::Cleared { batch } => {
                self.batches_in_flight -= 1;
                for change in &batch.changes {
                    self.keys.remove(&change.key);
                }
                self.queue.applied(batch);
            }
            Done::GivenUp { batch, parking } => {
                self.batches_in_flight -= 1;
                self.parking -= usize::from(parking);
                self.queue.abandoned(batch);
            }
            Done::Scanned { result } => self.scanned(result),
            Done::Reloaded { asked, result } => self.reloaded(asked, result),
            Done::Loaded { entry, result } => self.loaded(&entry, result),
        }
    }

    fn wrote(&mut self, mut batch: Batch, written: &Written) {
        let now = Instant::now();
        if written.unprocessed.is_empty() || mutation::is_on(Mutation::LoseUnprocessed) {
            self.succeeded();
        } else {
            let left = batch.take(&written.unprocessed);
            self.parts.metrics.throttled(Width::Unknown);
            // Most of a batch left over is the table's limit, a few are some hot keys'.
            let not_before = match left.changes.len() > batch.changes.len() {
                true => self.pace.failed(now),
                false => self.pace.aside(now),
            };
            self.queue.retry(left, not_before);
        }
        self.parts.metrics.consumed_write_units(written.consumed_units);
        self.count_applied(&batch);
        if !mutation::is_on(Mutation::ParkedStays) {
            self.clear_parked(&mut batch);
        }
        self.queue.applied(batch);
    }

    /// All of a batch is in the replica.
    fn succeeded(&mut self) {
        self.pace.succeeded();
        if self.parts.gauges.clear_trouble() {
            info!(table = self.parts.config.table, "replica takes writes again");
        }
    }

    /// Takes the changes out of a settled batch whose keys were parked: they are settled when nothing is parked there.
    fn clear_parked(&mut self, batch: &mut Batch) {
        if self.keys.is_empty() {
            return;
        }
        let parked =
            (0..batch.changes.len()).filter(|index| self.keys.contains_key(&batch.changes[*index].key));
        for index in parked.collect::<Vec<_>>().into_iter().rev() {
            let single = batch.take(&[index]);
            self.clear(single);
        }
    }

    fn count_applied(&self, batch: &Batch) {
        let now_unix_ms = self.parts.clock.unix_ms();
        let mut newest_unix_ms = i64::MIN;
        // When a copied item was made is not known.
        for change in batch.live() {
            newest_unix_ms = newest_unix_ms.max(change.created_unix_ms);
            self.parts.metrics.applied_after(change.created_unix_ms, now_unix_ms);
        }
        if newest_unix_ms > i64::MIN {
            self.parts.gauges.applied_up_to(newest_unix_ms);
            self.parts.metrics.set_last_applied(newest_unix_ms);
        }
    }

    fn failed(&mut self, mut batch: Batch, error: dynamo::Error) {
        let now = Instant::now();
        if let Fault::Throttled(width) = error.fault {
            self.parts.metrics.throttled(width);
        }
        let directive = directive(error.fault, Stage::Write);
        if directive == Directive::Park {
            // What comes next bypasses the queue, which would have asked.
            self.queue.abandon_closed_of(&mut batch, now);
            if batch.changes.is_empty() {
                return;
            }
        }
        let not_before = match directive {
            Directive::Park if batch.changes.len() > 1 => {
                let half = batch.split();
                self.send(batch, now);
                return self.send(half, now);
            }
            Directive::Park
                if self.keys.len() + self.parking < self.parts.config.park_limit
                    || self.keys.contains_key(&batch.changes[0].key) =>
            {
                return self.park(batch, error);
            }
            Directive::SlowDown if error.fault == Fault::Throttled(Width::KeyRange) => self.pace.aside(now),
            Directive::RetryAfterSettling if mutation::is_on(Mutation::RetryWithoutSettling) => now,
            Directive::RetryAfterSettling => self.pace.failed(now).max(now + self.parts.config.settle),
            Directive::Park | Directive::Stall | Directive::Gap => self.pace.stalled(now),
            Directive::SlowDown | Directive::Retry | Directive::Reacquire => self.pace.failed(now),
        };
        self.report(&error);
        self.queue.retry(batch, not_before);
    }

    fn report(&self, error: &dynamo::Error) {
        let advice = match error.fault {
            Fault::Invalid => {
                "too many keys are parked: the table is wrong, not the items; see `dynamirror dead-letters list`"
            }
            fault => advice(fault, Stage::Write),
        };
        let is_new = self.parts.gauges.set_trouble(format!("{error}: {advice}"), self.parts.clock.unix_ms());
        if is_new {
            warn!(table = self.parts.config.table, %error, advice, "replica does not take writes");
        }
    }

    fn show(&mut self) {
        let tally = self.queue.take_tally();
        if tally != Default::default() {
            self.parts.gauges.settled(tally, self.parts.clock.unix_ms());
            self.parts.metrics.applied_puts(tally.put);
            self.parts.metrics.applied_deletes(tally.deleted);
            self.parts.metrics.stale(tally.stale);
            self.parts.metrics.coalesced(tally.coalesced);
            self.parts.metrics.parked(tally.parked);
            self.parts.metrics.abandoned(tally.abandoned);
            self.parts.metrics.copied_puts(tally.copied);
            self.parts.metrics.copied_deletes(tally.copied_deletes);
            self.parts.metrics.superseded(tally.superseded);
        }
        self.parts.gauges.set_live_waiting(self.queue.live_len());
        self.parts.gauges.set_load(
            self.queue.pending(),
            self.batches_in_flight as u64,
            self.parts.clock.unix_ms(),
        );
        self.parts.gauges.set_parked_keys(self.keys.len());
    }
}
