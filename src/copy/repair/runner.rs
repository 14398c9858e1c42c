//! Repairs that are wanted, done a batch at a time.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Entry, State, Store};
use crate::backoff::Backoff;
use crate::change::{Change, Op, Order};
use crate::control;
use crate::copy::image::Images;
use crate::copy::{Parts, Purpose};
use crate::dynamo::{self, FETCH_KEYS_MAX};
use crate::fault::{Stage, advice};
use crate::item::Item;
use crate::key::{self, Key};
use crate::lane::{Delivery, Lot};
use crate::lease::Fence;

/// Between two looks for what is wanted. Every worker looks for every replica, and each look costs a unit.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// Between two looks whether this worker is alone.
const ALONE_INTERVAL: Duration = Duration::from_millis(200);

/// Bytes of a batch, before it is read: `BatchGetItem` answers with up to 16 MB, but items of more than a few KB are rare.
const BATCH_BYTES: usize = 1 << 20;

/// Does the repairs of one replica.
pub struct Runner {
    parts: Parts,
    store: Store,
    failures: Backoff,
    failing: bool,
}

/// Why a batch was not repaired.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// One of the tables cannot be read, or the source not described.
    #[error("read table `{table}` for a repair: {source}")]
    Table { table: String, source: Box<dynamo::Error> },
    /// The control table cannot be used.
    #[error(transparent)]
    Control(#[from] control::Error),
    /// The source's answer holds an item without its key.
    #[error("read an item for a repair")]
    Malformed(#[from] key::Malformed),
}

// === impl Failure ===

impl Failure {
    fn advice(&self) -> &'static str {
        match self {
            Self::Table { source, .. } => advice(source.fault, Stage::Copy),
            Self::Control(control::Error::Call { source, .. }) => advice(source.fault, Stage::Control),
            Self::Control(_) | Self::Malformed(_) => "look at the tables: they hold what they should not",
        }
    }
}

// === impl Runner ===

impl Runner {
    /// A runner that does nothing yet.
    pub fn new(parts: Parts, store: Store) -> Self {
        let failures = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
        Self { parts, store, failures, failing: false }
    }

    /// Does what is wanted until `stop` is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let looked = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                looked = self.look() => looked,
            };
            let pause = match looked {
                Ok(pause) => {
                    self.failing = false;
                    self.failures.reset();
                    pause
                }
                Err(failure) => {
                    if !std::mem::replace(&mut self.failing, true) {
                        warn!(error = %failure, advice = failure.advice(), "items cannot be repaired");
                    }
                    self.failures.pause()
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = sleep(pause) => {}
            }
        }
        (self.parts.want)(Purpose::Repair, false);
    }

    /// Repairs what is wanted, and says when to look again.
    async fn look(&self) -> Result<Duration, Failure> {
        let wanted = self.store.wanted().await?;
        (self.parts.want)(Purpose::Repair, !wanted.is_empty());
        if wanted.is_empty() {
            return Ok(LOOK_INTERVAL);
        }
        let fence = (self.parts.sole)();
        if !fence.is_open(Instant::now()) {
            return Ok(ALONE_INTERVAL);
        }
        let images = match self.images().await {
            Ok(images) => images,
            Err(failure) => return Err(self.told(&wanted[..1], failure).await),
        };
        for batch in wanted.chunks(FETCH_KEYS_MAX) {
            match self.repair(batch, &images, &fence).await {
                Ok(true) => {}
                Ok(false) => return Ok(ALONE_INTERVAL),
                Err(failure) => return Err(self.told(batch, failure).await),
            }
        }
        // Keys that were left over, or asked for meanwhile.
        Ok(ALONE_INTERVAL)
    }

    /// Notes in the rows what stands in the way, so that it is seen by whoever asked.
    async fn told(&self, batch: &[Entry], failure: Failure) -> Failure {
        if let Failure::Control(_) = failure {
            return failure;
        }
        let text = format!("{failure}: {}", failure.advice());
        for entry in batch {
            if let Err(error) = self.store.troubled(entry, &text).await {
                return error.into();
            }
        }
        failure
    }

    /// Says whether this worker was alone all the while.
    async fn repair(&self, batch: &[Entry], images: &Images, fence: &Fence) -> Result<bool, Failure> {
        let reservation = self.parts.budget.reserve(BATCH_BYTES).await;
        // Reads are strongly consistent, so there is nothing to wait for.
        let armed = self.parts.window.arm(Duration::ZERO);
        armed.room().await;
        let page = armed.page();
        let (changes, done) = self.read(batch, images).await?;
        if changes.is_empty() {
            return Ok(true);
        }
        let (acks, mut acked) = mpsc::unbounded_channel();
        let lot = Lot {
            number: 0,
            replica: 0,
            shard: None,
            fence: fence.clone(),
            acks,
            reservation,
            page: Some(page),
        };
        // The writer ends only when the replication does, and this with it.
        let _ = self.parts.inbox.send(Delivery { changes, lot });
        if !acked.recv().await.is_some_and(|ack| ack.durable) {
            return Ok(false);
        }
        info!(keys = done.len(), "items are repaired");
        for (entry, state) in done {
            let is_put = state == State::Put;
            self.store.done(entry, state).await?;
            self.parts.metrics.repaired(is_put);
        }
        Ok(true)
    }

    /// What the source has of a batch's keys, as changes; keys that were left over are not among them.
    async fn read<'a>(
        &self,
        batch: &'a [Entry],
        images: &Images,
    ) -> Result<(Vec<Change>, Vec<(&'a Entry, State)>), Failure> {
        let Parts { source, source_table, clock, .. } = &self.parts;
        let keys: Vec<_> = batch.iter().map(|entry| entry.key.clone()).collect();
        // Before the source: what is written to the replica after this has another mark, and comes first.
        let seen = self.seen(&keys).await?;
        let read_unix_ms = clock.unix_ms();
        let fetched = source.fetch(source_table, &keys).await;
        let fetched = fetched.map_err(|error| self.table(source_table, error))?;
        let (mut changes, mut done) = (Vec::new(), Vec::new());
        for (index, (entry, seen)) in batch.iter().zip(seen).enumerate() {
            let Some(order) = seen.filter(|_| !fetched.unprocessed.contains(&index)) else { continue };
            let (change, state) = match &fetched.items[index] {
                Some(item) => (images.put(item, read_unix_ms)?, State::Put),
                None => {
                    let (key, created_unix_ms) = (entry.key.clone(), read_unix_ms);
                    (Change { key, op: Op::Delete, created_unix_ms, order: None }, State::Deleted)
                }
            };
            changes.push(Change { order, ..change });
            done.push((entry, state));
        }
        Ok((changes, done))
    }

    /// The orders under which repairs of `keys` are written: by the marks that the replica's items have. `None` for a key
    /// that was not read.
    async fn seen(&self, keys: &[Key]) -> Result<Vec<Option<Option<Order>>>, Failure> {
        let Parts { replica, replica_table, guard, .. } = &self.parts;
        let Some(guard) = guard else { return Ok(vec![Some(None); keys.len()]) };
        let fetched = replica.fetch(replica_table, keys).await;
        let fetched = fetched.map_err(|error| self.table(replica_table, error))?;
        let order = |(index, item): (usize, &Option<Item>)| {
            let is_read = !fetched.unprocessed.contains(&index);
            is_read.then(|| item.as_ref().and_then(|item| guard.seen(item)))
        };
        Ok(fetched.items.iter().enumerate().map(order).collect())
    }

    async fn images(&self) -> Result<Images, Failure> {
        let Parts { source, source_table, .. } = &self.parts;
        let described =
            source.describe(source_table).await.map_err(|error| self.table(source_table, error))?;
        Ok(Images::new(described.key.into_iter().map(|part| part.name).collect(), Vec::new()))
    }

    fn table(&self, table: &str, source: dynamo::Error) -> Failure {
        Failure::Table { table: table.to_owned(), source: Box::new(source) }
    }
}
