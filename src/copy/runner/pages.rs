//! The pages of one time of being alone: read in turn, handed over, and checkpointed when they are durable.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::page::{Missed, Page, Reader};
use crate::backoff::Backoff;
use crate::capacity::Bucket;
use crate::control;
use crate::copy::Parts;
use crate::copy::image::Images;
use crate::copy::plan::READS_AT_ONCE;
use crate::copy::rota::{Rota, Segment};
use crate::copy::run::{Run, State};
use crate::copy::store::{Saved, Segments};
use crate::dynamo;
use crate::fault::{Directive, Fault, Stage, Width, advice, directive};
use crate::lane::{self, Ack, Delivery, Lot};
use crate::lease::Fence;

/// Between two looks at what changes without a message: fences, pauses, live changes that wait.
const TICK: Duration = Duration::from_millis(100);

/// Between two writes of the run's row, which is what people see of it.
const SAVE_INTERVAL: Duration = Duration::from_secs(5);

/// The first pause after a fault; a throttled table has some units again after a twentieth of a second.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause after a fault: when what was wrong is mended, the copy goes on within this.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Live changes that may wait for the writer while pages are read: two pages of a stream. More means that the replica
/// falls behind, and then it is given what it can take.
const LIVE_MAX: u64 = 2_000;

/// How long pages under way may take to settle when the worker stops. What is not settled then is read again.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// What an item costs before any was read: as little as one of 4 KB, so that the first page of a low budget is small.
const FIRST_ITEM_UNITS: f64 = 1.0;

/// The weight of the newest page in what an item costs: sizes differ, and a single page says little.
const NEWEST_WEIGHT: f64 = 0.3;

/// Pages of one time of being alone.
pub(super) struct Pages<'a> {
    parts: &'a Parts,
    run: Run,
    reader: Reader,
    rota: Rota,
    places: Segments,
    acks: (mpsc::UnboundedSender<Ack>, mpsc::UnboundedReceiver<Ack>),
    calls: FuturesUnordered<Pin<Box<dyn Future<Output = Done> + Send>>>,
    reading: usize,
    /// What an item has cost lately.
    item_units: f64,
    /// Segments that are being written.
    saving: BTreeSet<u32>,
    /// What is to be written of segments.
    unsaved: BTreeMap<u32, Segment>,
    saving_run: bool,
    saved_at: Instant,
    /// Pauses of segments whose keys are hot.
    hot: BTreeMap<u32, Backoff>,
    faults: Backoff,
    paused_until: Option<Instant>,
    /// Why the source cannot be read.
    trouble: Option<String>,
    lost: bool,
    changed: bool,
}

/// How it ended.
pub(super) enum Ended {
    /// Every segment is durable to its end.
    Finished(Box<Run>),
    /// This worker is not alone any more.
    Lost,
    /// The run is not what it was.
    Changed,
    /// Told to stop.
    Stopped,
}

enum Done {
    Read { segment: u32, result: Result<Page, Missed> },
    SavedSegment { id: u32, segment: Segment, result: Result<bool, control::Error> },
    SavedRun { run: Box<Run>, result: Result<Saved, control::Error> },
}

// === impl Pages ===

impl<'a> Pages<'a> {
    pub(super) fn new(
        parts: &'a Parts,
        run: Run,
        segments: Vec<Segment>,
        (places, images, bucket, armed, fence): (Segments, Images, Bucket, lane::Armed, Fence),
    ) -> Self {
        let reader = Reader {
            source: Arc::clone(&parts.source),
            table: parts.source_table.as_str().into(),
            budget: parts.budget.clone(),
            bucket,
            armed: Arc::new(armed),
            fence,
            images: Arc::new(images),
            segments: run.segments,
            consistent: run.request.consistent,
            clock: parts.clock,
        };
        Self {
            parts,
            run,
            reader,
            rota: Rota::new(segments),
            places,
            acks: mpsc::unbounded_channel(),
            calls: FuturesUnordered::new(),
            reading: 0,
            item_units: FIRST_ITEM_UNITS,
            saving: BTreeSet::new(),
            unsaved: BTreeMap::new(),
            saving_run: false,
            saved_at: Instant::now(),
            hot: BTreeMap::new(),
            faults: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
            paused_until: None,
            trouble: None,
            lost: false,
            changed: false,
        }
    }

    /// Reads and hands over until the end of all segments, or of the right to write.
    pub(super) async fn run(mut self, stop: &CancellationToken) -> Ended {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if let Some(ended) = self.ended() {
                return ended;
            }
            self.read_ready();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ack) = self.acks.1.recv() => self.settle(ack),
                Some(done) = self.calls.next(), if !self.calls.is_empty() => self.done(done),
                _ = tick.tick() => self.save_run(),
            }
        }
        // A cut is as good as an end: what is not saved is read again.
        let _ = timeout(STOP_WITHIN, self.wind_up()).await;
        Ended::Stopped
    }

    /// Why there is nothing left to do here.
    fn ended(&mut self) -> Option<Ended> {
        if self.lost || !self.reader.fence.is_open(Instant::now()) {
            return Some(Ended::Lost);
        }
        if self.changed {
            return Some(Ended::Changed);
        }
        let all = self.rota.is_finished() && self.unsaved.is_empty() && self.saving.is_empty();
        if !all || self.saving_run {
            return None;
        }
        self.count();
        Some(Ended::Finished(Box::new(self.run.clone())))
    }

    /// Lets what is under way settle, and saves it.
    async fn wind_up(&mut self) {
        // Nothing was handed over of what is being read.
        self.reading = 0;
        while !self.lost && (self.rota.under_way() > 0 || !self.saving.is_empty() || !self.unsaved.is_empty())
        {
            tokio::select! {
                biased;
                Some(ack) = self.acks.1.recv() => self.settle(ack),
                Some(done) = self.calls.next(), if !self.calls.is_empty() => match done {
                    Done::Read { .. } => {}
                    done => self.done(done),
                },
            }
        }
    }

    fn read_ready(&mut self) {
        let now = Instant::now();
        if self.paused_until.is_some_and(|until| until > now) || self.yields() {
            return;
        }
        while self.reading < READS_AT_ONCE {
            let Some((segment, after)) = self.rota.take(now) else { return };
            self.reading += 1;
            let read = self.reader.clone().read(segment, after, self.item_units);
            self.calls.push(Box::pin(async move { Done::Read { segment, result: read.await } }));
        }
    }

    /// Whether the stream's changes need all that the replica takes.
    fn yields(&self) -> bool {
        self.parts.gauges.live_waiting() > LIVE_MAX || self.parts.gauges.trouble().is_some()
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Read { segment, result } => {
                self.reading -= 1;
                match result {
                    Ok(page) => self.hand_over(segment, page),
                    Err(Missed::Closed) => self.lost = true,
                    Err(Missed::Failed(error)) => self.failed(segment, &error),
                }
            }
            Done::SavedSegment { id, segment, result } => self.saved_segment(id, segment, result),
            Done::SavedRun { run, result } => self.saved_run(*run, result),
        }
    }

    fn hand_over(&mut self, segment: u32, page: Page) {
        self.faults.reset();
        self.hot.remove(&segment);
        if self.trouble.take().is_some() {
            info!("source can be read again");
        }
        let Page { changes, read, units, misfits, misfit, page, reservation } = page;
        self.run.progress.read_units += units;
        self.run.progress.misfits += misfits;
        if let Some(misfit) = misfit {
            if self.run.progress.misfit.is_none() {
                warn!(misfit, "an index of the replica cannot hold an item");
            }
            self.run.progress.misfit.get_or_insert(misfit);
        }
        if read.items > 0 {
            self.item_units += (units / read.items as f64 - self.item_units) * NEWEST_WEIGHT;
        }
        self.parts.metrics.read(read.items, read.bytes, units);
        let number = self.rota.admit(segment, read);
        if changes.is_empty() {
            return self.settle(Ack { replica: 0, lot: number, durable: true });
        }
        let (fence, acks) = (self.reader.fence.clone(), self.acks.0.clone());
        let lot = Lot { number, replica: 0, shard: None, fence, acks, reservation, page: Some(page) };
        // The writer ends only when the replication does, and this with it.
        let _ = self.parts.inbox.send(Delivery { changes, lot });
    }

    /// A page could not be read; its segment has another turn.
    fn failed(&mut self, segment: u32, error: &dynamo::Error) {
        let now = Instant::now();
        if let Fault::Throttled(Width::KeyRange) = error.fault {
            let backoff = self.hot.entry(segment).or_insert_with(|| Backoff::new(FIRST_PAUSE, LONGEST_PAUSE));
            return self.rota.delay(segment, now + backoff.pause());
        }
        self.rota.delay(segment, now);
        if let Fault::Throttled(width) = error.fault {
            self.reader.bucket.throttled(width);
        }
        // Several that were sent together fail together.
        if self.paused_until.is_none_or(|until| until <= now) {
            self.paused_until = Some(now + self.faults.pause());
        }
        if !matches!(directive(error.fault, Stage::Copy), Directive::SlowDown) {
            let text = format!(
                "source table `{}`: {error}: {}",
                self.parts.source_table,
                advice(error.fault, Stage::Copy)
            );
            if self.trouble.as_ref() != Some(&text) {
                warn!(%error, advice = advice(error.fault, Stage::Copy), "source cannot be read");
                self.trouble = Some(text);
                self.saved_at = now - SAVE_INTERVAL;
            }
        }
    }

    /// A page is done with.
    fn settle(&mut self, ack: Ack) {
        if !ack.durable {
            self.lost = true;
            return;
        }
        if let Some((id, reached)) = self.rota.settle(ack.lot) {
            self.unsaved.insert(id, reached);
            self.save_segment(id);
        }
    }

    fn save_segment(&mut self, id: u32) {
        if self.saving.contains(&id) {
            return;
        }
        let Some(segment) = self.unsaved.remove(&id) else { return };
        self.saving.insert(id);
        let (store, place) = (self.parts.store.clone(), self.places.place(id));
        self.calls.push(Box::pin(async move {
            let result = store.save_segment(place, &segment).await;
            Done::SavedSegment { id, segment, result }
        }));
    }

    fn saved_segment(&mut self, id: u32, segment: Segment, result: Result<bool, control::Error>) {
        self.saving.remove(&id);
        match result {
            Ok(true) => self.places.written(id),
            Ok(false) => self.changed = true,
            Err(error) => {
                // A newer position says more.
                self.unsaved.entry(id).or_insert(segment);
                return self.control_failed(&error);
            }
        }
        self.save_segment(id);
    }

    /// Saves what people see, now and then; and what could not be saved before.
    fn save_run(&mut self) {
        let now = Instant::now();
        if self.paused_until.is_none_or(|until| until <= now) {
            for id in self.unsaved.keys().copied().collect::<Vec<_>>() {
                self.save_segment(id);
            }
        }
        if self.saving_run || now.duration_since(self.saved_at) < SAVE_INTERVAL {
            return;
        }
        (self.saving_run, self.saved_at) = (true, now);
        self.count();
        let (store, mut run) = (self.parts.store.clone(), Box::new(self.run.clone()));
        self.calls.push(Box::pin(async move {
            let result = store.save(&mut run).await;
            Done::SavedRun { run, result }
        }));
    }

    fn saved_run(&mut self, written: Run, result: Result<Saved, control::Error>) {
        self.saving_run = false;
        match result {
            Ok(Saved::Done) => self.run.version = written.version,
            // Somebody changed what is wanted of it, or an earlier attempt was done after all.
            Ok(Saved::Changed(Some(found))) if found.id == self.run.id && found.state == State::Copying => {
                self.run.version = found.version;
                if found.request != self.run.request {
                    // The budget: it is looked at anew.
                    self.changed = true;
                }
            }
            Ok(Saved::Changed(_)) => self.changed = true,
            Err(error) => self.control_failed(&error),
        }
    }

    fn control_failed(&mut self, error: &control::Error) {
        let now = Instant::now();
        if self.paused_until.is_none_or(|until| until <= now) {
            warn!(%error, "copy cannot be checkpointed");
            self.paused_until = Some(now + self.faults.pause());
        }
    }

    fn count(&mut self) {
        let (items, bytes) = self.rota.durable();
        let progress = &mut self.run.progress;
        (progress.items, progress.bytes) = (items, bytes);
        progress.segments_finished = self.rota.finished();
        let replica = || self.parts.gauges.trouble().map(|trouble| format!("replica: {}", trouble.text));
        self.run.trouble = self.trouble.clone().or_else(replica);
        self.run.updated_unix_ms = self.parts.clock.unix_ms();
        super::show(self.parts, &self.run);
    }
}
