//! Polls one shard from a position to its end.

#[cfg(test)]
mod tests;

use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::budget::{Budget, Reservation};
use crate::clock::Clock;
use crate::dynamo::{self, FETCH_KEYS_MAX, Iterator, PAGE_RECORDS_MAX, Page};
use crate::fault::{Directive, Fault, Stage, directive};
use crate::record::Record;
use crate::shard::{Position, ShardId};

use super::cursor::Cursor;
use super::gap::{self, Evidence, Verdict};
use super::hydrate::{Hydrated, hydrate};
use super::pace::{Pace, Seen, jittered};
use super::recovery::Recovery;
use super::{CHANGE_BYTES, Config, Event, Metrics, PAGE_RESERVE_BYTES, Source, Start, Stop};

/// An iterator older than this is not used. It lives for 15 minutes (API reference, `GetShardIterator`); a new
/// one costs one call, and finding out that it expired costs one that failed.
const ITERATOR_AGE_MAX: Duration = Duration::from_secs(5 * 60);

/// How often waiting for room is counted while it lasts.
const BACKPRESSURE_INTERVAL: Duration = Duration::from_secs(1);

/// Reads one shard.
pub struct Reader {
    source: Source,
    shard: ShardId,
    budgets: Vec<Budget>,
    clock: Clock,
    cancel: CancellationToken,
    metrics: Arc<Metrics>,
    cursor: Cursor,
    evidence: Evidence,
    pace: Pace,
    recovery: Recovery,
    /// The next page's iterator, and when it was given out.
    iterator: Option<(Iterator, Instant)>,
}

/// A page and when it was asked for.
struct Polled {
    page: Page,
    polled_unix_ms: i64,
}

// === impl Reader ===

impl Reader {
    /// A reader of `shard` from `start`. It feeds the replicas that own `budgets`; readers that share several
    /// budgets must name them in the same order, because each waits for them one after the other.
    pub fn new(
        config: &Config,
        source: Source,
        shard: ShardId,
        start: Start,
        budgets: Vec<Budget>,
        clock: Clock,
        cancel: CancellationToken,
    ) -> Self {
        Self {
            source,
            shard,
            budgets,
            clock,
            cancel,
            metrics: Arc::default(),
            cursor: Cursor::new(start.position, start.fresh),
            evidence: Evidence::new(&start),
            pace: Pace::new(config),
            recovery: Recovery::new(),
            iterator: None,
        }
    }

    /// Counts in `metrics`, which others may share.
    #[must_use]
    pub fn with_metrics(mut self, metrics: Arc<Metrics>) -> Self {
        self.metrics = metrics;
        self
    }

    /// Reads until the shard's end, a gap, or the owner's wish, and sends what happens to `events` (see
    /// [`super::events`]). Every page sent counts as read: a page that was asked for and not sent when this
    /// stops is as if it had never been.
    pub async fn run(mut self, events: mpsc::Sender<Event>) -> Stop {
        let cancel = self.cancel.clone();
        tokio::select! {
            biased;
            () = cancel.cancelled() => Stop::Cancelled,
            stop = self.read(&events) => stop,
            () = events.closed() => Stop::Cancelled,
        }
    }

    async fn read(&mut self, events: &mpsc::Sender<Event>) -> Stop {
        let start = self.cursor.position();
        if start.is_end() {
            return Stop::End;
        }
        let now_unix_ms = self.clock.unix_ms();
        if let Err(reason) = gap::judge_start(&start, self.evidence.through_unix_ms(), now_unix_ms) {
            return Stop::Gap(reason);
        }
        loop {
            if let ControlFlow::Break(stop) = self.turn(events).await {
                return stop;
            }
        }
    }

    async fn turn(&mut self, events: &mpsc::Sender<Event>) -> ControlFlow<Stop> {
        let reservations = self.room().await;
        match self.poll().await {
            Ok(polled) => self.deliver(polled, reservations, events).await,
            Err(error) => {
                // Others may use the room while this one waits.
                drop(reservations);
                self.recover(error, events).await
            }
        }
    }

    /// Room for a page in every budget.
    async fn room(&mut self) -> Vec<Reservation> {
        let at_once: Option<Vec<_>> =
            self.budgets.iter().map(|budget| budget.try_reserve(PAGE_RESERVE_BYTES)).collect();
        if let Some(reservations) = at_once {
            return reservations;
        }
        self.iterator = None;
        let mut room = pin!(reserve_all(&self.budgets));
        loop {
            let since = Instant::now();
            let found = tokio::select! {
                reservations = &mut room => Some(reservations),
                () = sleep(BACKPRESSURE_INTERVAL) => None,
            };
            self.metrics.held_back(since.elapsed());
            if let Some(reservations) = found {
                return reservations;
            }
        }
    }

    async fn poll(&mut self) -> Result<Polled, dynamo::Error> {
        let held = self.iterator.take_if(|(_, given)| given.elapsed() <= ITERATOR_AGE_MAX);
        let (iterator, given) = match held {
            Some(held) => held,
            None => (self.new_iterator().await?, Instant::now()),
        };
        let polled_unix_ms = self.clock.unix_ms();
        match self.source.streams.records(&iterator, self.limit()).await {
            Ok(page) => Ok(Polled { page, polled_unix_ms }),
            Err(error) => {
                // It can be used again, unless the fault says otherwise.
                self.iterator = Some((iterator, given));
                Err(error)
            }
        }
    }

    async fn new_iterator(&mut self) -> Result<Iterator, dynamo::Error> {
        loop {
            let asked = self.cursor.ask(self.clock.unix_ms());
            let Source { streams, stream, .. } = &self.source;
            match streams.iterator(stream, &self.shard, &asked).await {
                // Either it cannot start at a time, or its clock has not reached it.
                Err(error) if error.fault == Fault::Invalid && matches!(asked, Position::At { .. }) => {
                    tracing::info!(%error, "the endpoint cannot start at a time: reading what it has and skipping what is older");
                    self.cursor.go_to_trim_horizon();
                }
                outcome => return outcome,
            }
        }
    }

    async fn deliver(
        &mut self,
        polled: Polled,
        mut reservations: Vec<Reservation>,
        events: &mpsc::Sender<Event>,
    ) -> ControlFlow<Stop> {
        let Polled { page, polled_unix_ms } = polled;
        let Page { mut records, mut bytes, next } = page;
        let seen = self.note(&records, bytes, polled_unix_ms);
        let is_last = next.is_none();
        self.iterator = next.map(|iterator| (iterator, Instant::now()));
        let mut skipped = self.cursor.admit(&mut records);
        if !self.source.view.has_new_image() {
            match hydrate(&self.source, &mut records, &mut self.recovery, events).await {
                Ok(Hydrated { superseded, bytes: fetched_bytes }) => {
                    skipped += superseded;
                    bytes += fetched_bytes;
                }
                Err(reason) => return ControlFlow::Break(Stop::Gap(reason)),
            }
        }
        fit(&mut reservations, records.len(), bytes);
        let event =
            Event::Page { records, position: self.cursor.position(), polled_unix_ms, reservations, skipped };
        if events.send(event).await.is_err() {
            return ControlFlow::Break(Stop::Cancelled);
        }
        if is_last {
            return ControlFlow::Break(Stop::End);
        }
        let pause = self.pace.after(&seen);
        if !pause.is_zero() {
            sleep(jittered(pause, fastrand::f64())).await;
        }
        ControlFlow::Continue(())
    }

    /// Takes a page that came into account, before anything is left out of it.
    fn note(&mut self, records: &[Record], bytes: usize, polled_unix_ms: i64) -> Seen {
        self.recovery.succeeded();
        self.metrics.polled(records.len(), bytes, polled_unix_ms);
        let newest_unix_ms = records.last().map(|record| record.created_unix_ms);
        self.evidence.page(newest_unix_ms, polled_unix_ms);
        let age_ms = polled_unix_ms - newest_unix_ms.unwrap_or(polled_unix_ms);
        Seen {
            records: records.len(),
            limit: self.limit() as usize,
            bytes,
            newest_age: Duration::from_millis(u64::try_from(age_ms).unwrap_or(0)),
        }
    }

    async fn recover(&mut self, error: dynamo::Error, events: &mpsc::Sender<Event>) -> ControlFlow<Stop> {
        let directive = directive(error.fault, Stage::Read);
        match directive {
            Directive::Gap => {
                let through = self.evidence.through_unix_ms();
                match gap::judge(error.fault, through, self.clock.unix_ms()) {
                    Verdict::Gap(reason) => return ControlFlow::Break(Stop::Gap(reason)),
                    Verdict::TrimHorizon => {
                        tracing::warn!(
                            shard = %self.shard,
                            position = ?self.cursor.position(),
                            read_through_unix_ms = through,
                            "the position was trimmed and nothing was lost: going on at the oldest record"
                        );
                        self.cursor.go_to_trim_horizon();
                    }
                }
                self.iterator = None;
                self.recovery.reacquire(error, events).await;
            }
            Directive::Reacquire => {
                self.iterator = None;
                self.recovery.reacquire(error, events).await;
            }
            Directive::SlowDown => {
                self.pace.slow_down();
                self.recovery.wait(error, directive, events).await;
            }
            _ => self.recovery.wait(error, directive, events).await,
        }
        ControlFlow::Continue(())
    }

    /// How many records to ask for: with keys alone, as many as one fetch can look up, because a page's items
    /// are in memory together.
    fn limit(&self) -> u32 {
        if self.source.view.has_new_image() { PAGE_RECORDS_MAX } else { FETCH_KEYS_MAX as u32 }
    }
}

/// One budget after the other, each in its line. What was taken is held while waiting for the next: giving it
/// back would let readers take turns in finding one of two budgets full.
async fn reserve_all(budgets: &[Budget]) -> Vec<Reservation> {
    let mut reservations = Vec::with_capacity(budgets.len());
    for budget in budgets {
        reservations.push(budget.reserve(PAGE_RESERVE_BYTES).await);
    }
    reservations
}

/// Makes reservations for a whole page those of what came.
fn fit(reservations: &mut Vec<Reservation>, records: usize, bytes: usize) {
    if records == 0 {
        reservations.clear();
    }
    for reservation in reservations {
        reservation.resize(bytes + records * CHANGE_BYTES);
    }
}
