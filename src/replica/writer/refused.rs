//! What becomes of changes that the replica refuses: kept, cleared by newer ones, tried again on demand.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::super::parked::{self, Entry, Removal};
use super::super::{Config, Gauges};
use super::{Done, Writer};
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::dynamo;
use crate::key::Key;
use crate::lane::{Batch, Delivery};
use crate::lease::Fence;

impl Writer {
    /// Keeps a refused change; it is settled when it is kept.
    pub(super) fn park(&mut self, batch: Batch, refusal: dynamo::Error) {
        self.batches_in_flight += 1;
        self.parking += 1;
        let change = &batch.changes[0];
        warn!(table = self.parts.config.table, key = %change.key, error = %refusal, "replica refuses an item: its key is parked");
        let earlier = self.keys.get(&change.key).cloned();
        let (parked, gauges, clock) =
            (self.parts.parked.clone(), Arc::clone(&self.parts.gauges), self.parts.clock);
        let fence = self.queue.fence(&batch).cloned();
        let draft = parked.draft(change, &refusal, self.queue.shard(&batch));
        let mut attempts = Attempts::new(&self.parts.config, fence, gauges, clock);
        self.under_way.push(Box::pin(async move {
            loop {
                let attempt = timeout(attempts.longest, parked.keep(&draft, earlier.as_ref())).await;
                match attempts.judge(attempt).await {
                    ControlFlow::Continue(()) => {}
                    ControlFlow::Break(Some(entry)) => return Done::Parked { batch, entry },
                    ControlFlow::Break(None) => return Done::GivenUp { batch, parking: true },
                }
            }
        }));
    }

    /// Removes what was parked under a key before its newer, applied change is settled: otherwise a crash in
    /// between would leave the older payload there to be tried again. Whatever is parked there is older, also where it was
    /// given up before this writer could know that it is: no other writes under the key while the fence is open.
    pub(super) fn clear(&mut self, batch: Batch) {
        self.batches_in_flight += 1;
        let mut entry = self.keys[&batch.changes[0].key].clone();
        let (parked, gauges, clock) =
            (self.parts.parked.clone(), Arc::clone(&self.parts.gauges), self.parts.clock);
        info!(table = self.parts.config.table, key = %entry.key, "a newer change of a parked key applies");
        let fence = self.queue.fence(&batch).cloned();
        let mut attempts = Attempts::new(&self.parts.config, fence, gauges, clock);
        self.under_way.push(Box::pin(async move {
            loop {
                let attempt = timeout(attempts.longest, parked.remove(&entry)).await;
                match attempts.judge(attempt).await {
                    ControlFlow::Continue(()) => {}
                    ControlFlow::Break(Some(Removal::Replaced(other))) if attempts.may_go_on() => {
                        entry = *other
                    }
                    ControlFlow::Break(Some(Removal::Removed | Removal::Gone)) => {
                        return Done::Cleared { batch };
                    }
                    ControlFlow::Break(_) => return Done::GivenUp { batch, parking: false },
                }
            }
        }));
    }

    pub(super) fn scan(&mut self) {
        if self.keys.is_empty() || self.scanning {
            return;
        }
        self.scanning = true;
        self.begin_look();
        let parked = self.parts.parked.clone();
        self.under_way.push(Box::pin(async move { Done::Scanned { result: parked.list().await } }));
    }

    pub(super) fn begin_look(&mut self) {
        if self.looks == 0 {
            self.changed_meanwhile.clear();
        }
        self.looks += 1;
    }

    /// What a key has parked is another now.
    pub(super) fn changed(&mut self, key: &Key) {
        if self.looks > 0 {
            self.changed_meanwhile.insert(key.clone());
        }
    }

    pub(super) fn reload(&mut self, asked: oneshot::Sender<()>) {
        self.begin_look();
        let parked = self.parts.parked.clone();
        self.under_way.push(Box::pin(async move {
            let result = parked.list().await;
            Done::Reloaded { asked, result }
        }));
    }

    pub(super) fn reloaded(&mut self, asked: oneshot::Sender<()>, result: Result<Vec<Entry>, parked::Error>) {
        self.looks -= 1;
        match result {
            Ok(entries) => {
                for entry in entries {
                    if !self.changed_meanwhile.contains(&entry.key) {
                        self.keys.insert(entry.key.clone(), entry);
                    }
                }
                // Nobody waits any more when the shard was stopped.
                let _ = asked.send(());
            }
            // Who asked finds the question dropped, and asks again.
            Err(error) => warn!(%error, "look for keys that another worker parked"),
        }
    }

    pub(super) fn scanned(&mut self, result: Result<Vec<Entry>, parked::Error>) {
        self.scanning = false;
        self.looks -= 1;
        let entries = match result {
            Ok(entries) => entries,
            Err(error) => return warn!(%error, "look for wishes about parked keys"),
        };
        let listed: HashMap<_, _> = entries.iter().map(|entry| (&entry.key, &entry.version)).collect();
        let meanwhile = &self.changed_meanwhile;
        self.keys.retain(|key, _| meanwhile.contains(key) || listed.contains_key(key));
        for entry in entries {
            if self.changed_meanwhile.contains(&entry.key) || self.queue.holds(&entry.key) {
                continue;
            }
            // One that was given up while it was parked may have been kept all the same.
            self.keys.insert(entry.key.clone(), entry.clone());
            if entry.retry_wanted {
                let parked = self.parts.parked.clone();
                self.under_way.push(Box::pin(async move {
                    let result = parked.change(&entry).await;
                    Done::Loaded { entry, result }
                }));
            }
        }
    }

    /// A parked change goes through the queue like any other, so that it can never overtake a newer one.
    pub(super) fn loaded(&mut self, entry: &Entry, result: Result<crate::change::Change, parked::Error>) {
        let change = match result {
            Ok(change) => change,
            Err(error) => return warn!(%error, "load a parked change to try it again"),
        };
        let is_newest = self.keys.get(&entry.key).is_some_and(|known| known.version == entry.version);
        if !is_newest || self.queue.holds(&entry.key) {
            return;
        }
        let Some(lot) = (self.parts.retry_lot)(entry.shard.as_ref()) else { return };
        self.parts.gauges.routed(1, 0);
        self.queue.push(Delivery { changes: vec![change], lot });
    }
}

/// Attempts to write to the control table on behalf of a change that cannot be settled without. Under a lost lease
/// nothing is tried: the next holder may have parked a newer change of the key. Like a write to the replica, an attempt
/// ends in time for that, and one that was not answered may land until it has settled: nothing else is written under its
/// key before.
struct Attempts {
    fence: Option<Fence>,
    longest: Duration,
    settle: Duration,
    backoff: Backoff,
    gauges: Arc<Gauges>,
    clock: Clock,
}

impl Attempts {
    fn new(config: &Config, fence: Option<Fence>, gauges: Arc<Gauges>, clock: Clock) -> Self {
        Self {
            fence,
            longest: config.attempt_timeout,
            settle: config.settle,
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(10)),
            gauges,
            clock,
        }
    }

    /// What came of an attempt: that it is done, `None` when no other may be made, or that the next may be made now.
    async fn judge<T>(
        &mut self,
        attempt: Result<Result<T, parked::Error>, Elapsed>,
    ) -> ControlFlow<Option<T>> {
        let (error, may_land) = match attempt {
            Ok(Ok(done)) => return ControlFlow::Break(Some(done)),
            Ok(Err(error)) => (error.to_string(), error.may_land()),
            Err(_) => ("no answer in time".to_owned(), true),
        };
        if self.gauges.set_trouble(format!("keep a refused change: {error}"), self.clock.unix_ms()) {
            warn!(error, "a refused change cannot be kept or cleared yet");
        }
        let settle = if may_land { self.settle } else { Duration::ZERO };
        sleep(self.backoff.pause().max(settle)).await;
        match self.may_go_on() {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(None),
        }
    }

    fn may_go_on(&self) -> bool {
        self.fence.as_ref().is_some_and(|fence| fence.is_open(Instant::now()))
    }
}
