//! Polls one shard from a position to its end.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::dynamo::{self, FETCH_KEYS_MAX, Iterator, PAGE_RECORDS_MAX};
use crate::fault::{Directive, Fault, Stage, directive};
use crate::mutation::{self, Mutation};
use crate::record::Record;
use crate::shard::{Position, ShardId};

use super::cursor::Cursor;
use super::gap::{self, Evidence, Verdict};
use super::hydrate::{Hydrated, hydrate};
use super::pace::{Pace, Seen, jittered};
use super::recovery::Recovery;
use super::{CHANGE_BYTES, Config, Metrics, Page, Place, Polled, Source, Start, Trouble};

/// An iterator older than this is not used. It lives for 15 minutes (API reference, `GetShardIterator`); a new
/// one costs one call, and finding out that it expired costs one that failed.
const ITERATOR_AGE_MAX: Duration = Duration::from_secs(5 * 60);

/// Reads one shard.
pub struct Reader {
    source: Source,
    shard: ShardId,
    clock: Clock,
    metrics: Arc<Metrics>,
    cursor: Cursor,
    evidence: Evidence,
    pace: Pace,
    recovery: Recovery,
    /// The next page's iterator, and when it was given out.
    iterator: Option<(Iterator, Instant)>,
    /// Not before then is the next page to be asked for.
    due: Instant,
    /// When the position last moved, in milliseconds since 1970.
    moved_unix_ms: i64,
    /// Whether it has to be judged yet whether the start can still be read.
    is_unjudged: bool,
}

/// A page as the service gave it, and when it was asked for.
struct Answer {
    page: dynamo::Page,
    polled_unix_ms: i64,
}

// === impl Reader ===

impl Reader {
    /// A reader of `shard` from `start`, which must not be its end. It counts in `metrics`, which others may share, and
    /// tells `troubles` what fails; an owner who is busy hears of it the next time.
    pub fn new(
        config: &Config,
        source: Source,
        shard: ShardId,
        start: Start,
        clock: Clock,
        metrics: Arc<Metrics>,
        troubles: mpsc::Sender<Trouble>,
    ) -> Self {
        Self {
            source,
            shard,
            clock,
            metrics,
            cursor: Cursor::new(start.position, start.fresh),
            evidence: Evidence::new(&start),
            pace: Pace::new(config),
            recovery: Recovery::new(troubles),
            iterator: None,
            due: Instant::now(),
            moved_unix_ms: clock.unix_ms(),
            is_unjudged: true,
        }
    }

    /// Another reader at the same place, with no iterator yet.
    #[must_use]
    pub fn fork(&self) -> Self {
        let mut fork = Self {
            source: self.source.clone(),
            shard: self.shard.clone(),
            clock: self.clock,
            metrics: Arc::clone(&self.metrics),
            cursor: self.cursor.clone(),
            evidence: self.evidence.clone(),
            pace: self.pace.clone(),
            recovery: self.recovery.fork(),
            iterator: None,
            due: Instant::now(),
            moved_unix_ms: self.moved_unix_ms,
            is_unjudged: self.is_unjudged,
        };
        fork.evidence.interrupt();
        fork
    }

    /// How far it is.
    pub fn place(&self) -> Place {
        Place {
            position: self.cursor.position(),
            read_through_unix_ms: self.evidence.through_unix_ms(),
            quiet_through_unix_ms: self.evidence.quiet_through_unix_ms(),
            moved_unix_ms: self.moved_unix_ms,
            leaves_out_before_unix_ms: self.cursor.leaves_out_before_unix_ms(),
        }
    }

    /// When the next page is to be asked for.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Gives its iterator up, because it has to wait for more than its own pause.
    pub fn forget_iterator(&mut self) {
        if self.iterator.take().is_some() {
            self.evidence.interrupt();
        }
    }

    /// Asks for the next page once. Room for it is the caller's business, and so is waiting until it is due. When this
    /// is dropped half way, the reader must be dropped too.
    ///
    /// An iterator may take so long that the right to read has ended meanwhile: the page is asked for only while it
    /// `is_permitted`, and otherwise nothing is read, which is no fault.
    pub async fn poll(&mut self, is_permitted: impl Fn() -> bool) -> Polled {
        if std::mem::take(&mut self.is_unjudged) {
            let now_unix_ms = self.clock.unix_ms();
            let start = self.cursor.position();
            if let Err(reason) = gap::judge_start(&start, self.evidence.through_unix_ms(), now_unix_ms) {
                return Polled::Gap(reason);
            }
        }
        match self.ask(is_permitted).await {
            Ok(Some(answer)) => self.deliver(answer).await,
            Ok(None) => Polled::Failed,
            Err(error) => self.recover(error),
        }
    }

    async fn ask(&mut self, is_permitted: impl Fn() -> bool) -> Result<Option<Answer>, dynamo::Error> {
        let held = self.iterator.take_if(|(_, given)| given.elapsed() <= ITERATOR_AGE_MAX);
        let (iterator, given) = match held {
            Some(held) => held,
            None => (self.new_iterator().await?, Instant::now()),
        };
        if !is_permitted() {
            self.iterator = Some((iterator, given));
            return Ok(None);
        }
        let polled_unix_ms = self.clock.unix_ms();
        match self.source.streams.records(&iterator, self.limit()).await {
            Ok(page) => Ok(Some(Answer { page, polled_unix_ms })),
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

    async fn deliver(&mut self, answer: Answer) -> Polled {
        let Answer { page, polled_unix_ms } = answer;
        let dynamo::Page { mut records, mut bytes, next } = page;
        let seen = self.note(&records, bytes, polled_unix_ms);
        let is_last = next.is_none();
        if is_last && mutation::is_on(Mutation::DropLastPage) {
            records.clear();
        }
        self.iterator = next.map(|iterator| (iterator, Instant::now()));
        let mut skipped = self.cursor.admit(&mut records);
        if !self.source.view.has_new_image() {
            match hydrate(&self.source, &mut records, &mut self.recovery).await {
                Ok(Hydrated { superseded, bytes: fetched_bytes }) => {
                    skipped += superseded;
                    bytes += fetched_bytes;
                }
                Err(reason) => return Polled::Gap(reason),
            }
        }
        let pause = self.pace.after(&seen);
        self.due = Instant::now();
        if !pause.is_zero() {
            self.due += jittered(pause, fastrand::f64());
        }
        Polled::Page(Page {
            held_bytes: if records.is_empty() { 0 } else { bytes + records.len() * CHANGE_BYTES },
            records,
            position: self.cursor.position(),
            skipped,
            quiet: self.evidence.quiet(),
            is_last,
        })
    }

    /// Takes a page that came into account, before anything is left out of it.
    fn note(&mut self, records: &[Record], bytes: usize, polled_unix_ms: i64) -> Seen {
        self.recovery.succeeded();
        self.metrics.polled(records.len(), bytes, polled_unix_ms);
        let newest_unix_ms = records.last().map(|record| record.created_unix_ms);
        self.evidence.page(newest_unix_ms, polled_unix_ms);
        if !records.is_empty() {
            self.moved_unix_ms = self.clock.unix_ms();
        }
        let age_ms = polled_unix_ms - newest_unix_ms.unwrap_or(polled_unix_ms);
        Seen {
            records: records.len(),
            limit: self.limit() as usize,
            bytes,
            newest_age: Duration::from_millis(u64::try_from(age_ms).unwrap_or(0)),
        }
    }

    fn recover(&mut self, error: dynamo::Error) -> Polled {
        let directive = directive(error.fault, Stage::Read);
        let pause = match directive {
            Directive::Gap
                if error.fault == Fault::Missing && mutation::is_on(Mutation::VanishedIsFinished) =>
            {
                let position = self.cursor.position();
                let (records, held_bytes, skipped, quiet) = Default::default();
                return Polled::Page(Page { records, position, skipped, quiet, held_bytes, is_last: true });
            }
            Directive::Gap => {
                let through = self.evidence.through_unix_ms();
                match gap::judge(error.fault, through, self.clock.unix_ms()) {
                    Verdict::Gap(reason) => return Polled::Gap(reason),
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
                self.recovery.reacquire(error)
            }
            Directive::Reacquire => {
                self.iterator = None;
                self.recovery.reacquire(error)
            }
            Directive::SlowDown => {
                self.pace.slow_down();
                self.recovery.failed(error, directive)
            }
            _ => self.recovery.failed(error, directive),
        };
        self.due = Instant::now() + pause;
        Polled::Failed
    }

    /// How many records to ask for: with keys alone, as many as one fetch can look up, because a page's items
    /// are in memory together.
    fn limit(&self) -> u32 {
        if self.source.view.has_new_image() { PAGE_RECORDS_MAX } else { FETCH_KEYS_MAX as u32 }
    }
}
