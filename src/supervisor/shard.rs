//! One shard from its lease to its end: reads, hands over, keeps the frontier of each replica, and renews.
//!
//! ```text
//!   settle ──> reading ──> end read ──────> all settled ──> end durable ──> children
//!                 │                              ^
//!                 ├── drain, or a gap ───────────┘ (lease released, nothing read any more)
//!                 └── lease lost ──> nothing more is written, at once
//! ```

mod renewal;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::feed::{Channel, Feed, Moment};
use crate::clock::Clock;
use crate::fault::{Stage, advice};
use crate::lane::Ack;
use crate::lease::{self, Fence, Leases, Row, State};
use crate::shard::{Position, Shard};
use crate::stream::{self, Describer, Event, Reader, Source, Stop, gap};
use crate::task::Tasks;
use crate::telemetry;

/// Empty polls in a row, spanning [`QUIET_SPAN`], after which everything made before that span counts as read. One
/// empty page proves nothing, because the service may answer with empty pages although records follow.
const QUIET_POLLS: u32 = 3;

/// See [`QUIET_POLLS`].
const QUIET_SPAN: Duration = Duration::from_secs(10);

/// What a shard's task is built from.
pub(super) struct Parts {
    pub(super) row: Row,
    pub(super) leases: Leases,
    pub(super) lease: lease::Config,
    pub(super) fence: Fence,
    /// Whether the lease was taken from somebody who may still have writes under way.
    pub(super) settles: bool,
    /// Whether the shard's start was decided just now.
    pub(super) is_fresh: bool,
    pub(super) reader: stream::Config,
    pub(super) source: Source,
    pub(super) describer: Arc<Describer>,
    pub(super) channels: Vec<Channel>,
    pub(super) clock: Clock,
    pub(super) metrics: telemetry::Source,
    pub(super) drain: CancellationToken,
    /// How long a drain may take.
    pub(super) grace: Duration,
}

/// What others see of a running shard.
#[derive(Clone)]
pub(super) struct Live {
    /// How far each replica is, by its name.
    pub(super) applied_through: Vec<(String, Arc<Moment>)>,
    /// The right to write what is read.
    pub(super) fence: Fence,
    /// What its reader does.
    pub(super) reading: Arc<stream::Metrics>,
    /// When it was started, in milliseconds since 1970.
    pub(super) started_unix_ms: i64,
    /// Why reading does not succeed at present.
    pub(super) trouble: Arc<Mutex<Option<String>>>,
}

/// Why a shard's task ended.
pub(super) enum Exit {
    /// Its end is durable everywhere; its children, as far as they could be found.
    Ended(Row, Vec<Shard>),
    /// Its records can no longer be read.
    Gap(Row),
    /// It was drained, and the lease given back.
    Released(Row),
    /// The lease is not held any more, or nobody knows.
    Lost,
}

/// A shard that is being read.
pub(super) struct Task {
    row: Row,
    leases: Leases,
    lease: lease::Config,
    fence: Fence,
    source: Source,
    describer: Arc<Describer>,
    feeds: Vec<Feed>,
    acks: mpsc::UnboundedReceiver<Ack>,
    clock: Clock,
    metrics: telemetry::Source,
    drain: CancellationToken,
    grace: Duration,
    reading: Arc<stream::Metrics>,
    counted: (u64, u64, Duration),
    quiet: Option<Quiet>,
    drain_ends: Option<Instant>,
    trouble: Arc<Mutex<Option<String>>>,
    in_trouble: bool,
}

/// Empty polls in a row.
#[derive(Clone, Copy)]
struct Quiet {
    since_unix_ms: i64,
    polls: u32,
}

/// A shard's task before it runs.
pub(super) struct Built {
    task: Task,
    reader: Reader,
    settle: Duration,
    channels: Vec<Channel>,
}

// === impl Built ===

impl Built {
    pub(super) fn new(parts: Parts) -> (Self, Live) {
        let (sender, acks) = mpsc::unbounded_channel();
        let channels = parts.channels.clone();
        let mut feeds: Vec<_> = parts
            .channels
            .into_iter()
            .enumerate()
            .map(|(index, channel)| {
                let from = parts.row.checkpoints[&channel.replica];
                Feed::new(channel, index, parts.row.shard.clone(), from, parts.fence.clone(), sender.clone())
            })
            .collect();
        let start = start(&feeds, parts.is_fresh);
        for feed in &mut feeds {
            feed.read_from(start.position);
        }
        let reading: Arc<stream::Metrics> = Arc::default();
        let reader = Reader::new(
            &parts.reader,
            parts.source.clone(),
            parts.row.shard.clone(),
            start,
            feeds.iter().map(Feed::budget).collect(),
            parts.clock,
            parts.drain.child_token(),
        )
        .with_metrics(Arc::clone(&reading));
        let live = Live {
            applied_through: feeds
                .iter()
                .map(|feed| (feed.reached().0.to_owned(), feed.applied_through()))
                .collect(),
            fence: parts.fence.clone(),
            reading: Arc::clone(&reading),
            started_unix_ms: parts.clock.unix_ms(),
            trouble: Arc::default(),
        };
        let settle = if parts.settles { parts.lease.settle() } else { Duration::ZERO };
        let task = Task {
            row: parts.row,
            leases: parts.leases,
            lease: parts.lease,
            fence: parts.fence,
            source: parts.source,
            describer: parts.describer,
            feeds,
            acks,
            clock: parts.clock,
            metrics: parts.metrics,
            drain: parts.drain,
            grace: parts.grace,
            reading,
            counted: (0, 0, Duration::ZERO),
            quiet: None,
            drain_ends: None,
            trouble: Arc::clone(&live.trouble),
            in_trouble: false,
        };
        (Self { task, reader, settle, channels }, live)
    }

    pub(super) async fn run(self) -> Exit {
        let Self { mut task, reader, settle, channels } = self;
        let (sender, events) = stream::events();
        let mut reading = Tasks::new();
        let drain = task.drain.clone();
        reading.spawn(tracing::Span::current(), async move {
            let prepared = async {
                sleep(settle).await;
                for channel in &channels {
                    channel.know_parked().await;
                }
            };
            tokio::select! {
                biased;
                () = drain.cancelled() => Stop::Cancelled,
                () = prepared => reader.run(sender).await,
            }
        });
        let exit = task.follow(reading, events).await;
        task.fence.revoke();
        exit
    }
}

/// Where the one reader of all feeds begins. Positions of different kinds cannot be compared without asking the
/// service; the shard is read from its oldest record then, and each feed leaves out what it has.
fn start(feeds: &[Feed], fresh: bool) -> stream::Start {
    let unfinished: Vec<_> =
        feeds.iter().map(|feed| *feed.reached().1).filter(|reached| !reached.position.is_end()).collect();
    let earliest = |left, right| match (left, right) {
        (Position::After(left), Position::After(right)) => Position::After(left.min(right)),
        _ if left == right => left,
        _ => Position::TrimHorizon,
    };
    let positions = unfinished.iter().map(|reached| reached.position);
    let through = unfinished.iter().map(|reached| reached.read_through_unix_ms).min();
    stream::Start {
        position: positions.reduce(earliest).unwrap_or(Position::End),
        fresh,
        read_through_unix_ms: through,
    }
}

// === impl Task ===

impl Task {
    async fn follow(&mut self, mut reading: Tasks<Stop>, mut events: mpsc::Receiver<Event>) -> Exit {
        let mut renew = self.renewals();
        let mut stopped = None;
        loop {
            if let Some(stop) = stopped
                && self.feeds.iter().all(Feed::is_settled)
            {
                return self.finish(stop).await;
            }
            if self.drain_ends.is_some_and(|at| at <= Instant::now()) {
                return self.give_up().await;
            }
            tokio::select! {
                biased;
                // 1. What is durable makes room and moves the frontier.
                Some(ack) = self.acks.recv() => match ack.durable {
                    true => self.feeds[ack.replica].settle(ack.lot),
                    // Nobody writes it any more, and no checkpoint could ever pass it.
                    false => {
                        warn!("changes were given up: read again from the checkpoint");
                        return Exit::Lost;
                    }
                },
                // 2. The lease must not run out over work.
                _ = renew.tick() => {
                    if !self.renew().await {
                        return Exit::Lost;
                    }
                }
                // 3. A drain stops reading; the reader sees the same token.
                () = self.drain.cancelled(), if self.drain_ends.is_none() => {
                    self.drain_ends = Some(Instant::now() + self.grace);
                }
                // 4. Pages, all of them before the reader's last word.
                Some(event) = events.recv() => self.take(event),
                Some(stop) = reading.next() => {
                    // A page may have come between the look for one and the reader's last word.
                    while let Ok(event) = events.try_recv() {
                        self.take(event);
                    }
                    stopped = Some(stop);
                    self.stopped(stop).await;
                }
                () = sleep(Duration::from_millis(200)), if self.drain_ends.is_some() => {}
            }
        }
    }

    fn renewals(&self) -> Interval {
        let mut renew = interval_at(Instant::now() + self.lease.renew_interval, self.lease.renew_interval);
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        renew
    }

    fn take(&mut self, event: Event) {
        let (records, position, polled_unix_ms, mut reservations) = match event {
            Event::Page { records, position, polled_unix_ms, reservations, .. } => {
                (records, position, polled_unix_ms, reservations.into_iter())
            }
            Event::Trouble(error, directive) => {
                let advice = advice(error.fault, Stage::Read);
                warn!(%error, ?directive, advice, "reading does not succeed");
                return self.show_trouble(Some(format!("{error}: {advice}")));
            }
        };
        self.count();
        if self.in_trouble {
            self.show_trouble(None);
        }
        if records.is_empty() {
            self.quiet(polled_unix_ms);
        } else {
            self.quiet = None;
        }
        for feed in &mut self.feeds {
            feed.deliver(&records, position, reservations.next());
        }
    }

    fn show_trouble(&mut self, text: Option<String>) {
        self.in_trouble = text.is_some();
        *self.trouble.lock().expect("nothing panics while holding it") = text;
    }

    fn quiet(&mut self, polled_unix_ms: i64) {
        let quiet = self.quiet.get_or_insert(Quiet { since_unix_ms: polled_unix_ms, polls: 0 });
        quiet.polls += 1;
        let quiet = *quiet;
        let lasts = |polls, span: Duration| {
            let span_ms = span.as_millis() as i64;
            let long_enough = quiet.polls >= polls && polled_unix_ms - quiet.since_unix_ms >= span_ms;
            long_enough.then_some(polled_unix_ms - span_ms)
        };
        let (likely, sure) = (lasts(QUIET_POLLS, QUIET_SPAN), lasts(gap::QUIET_PAGES, gap::QUIET));
        for feed in &mut self.feeds {
            for (through, surely) in [(likely, false), (sure, true)] {
                if let Some(unix_ms) = through {
                    feed.prove(unix_ms, surely);
                }
            }
        }
    }

    fn count(&mut self) {
        let now = (self.reading.records(), self.reading.bytes(), self.reading.backpressure());
        let before = std::mem::replace(&mut self.counted, now);
        self.metrics.read(now.0 - before.0, now.1 - before.1);
        self.metrics.held_back(now.2.saturating_sub(before.2));
    }

    /// What the reader's last word changes at once, before all is settled.
    async fn stopped(&mut self, stop: Stop) {
        match stop {
            Stop::End => {
                for feed in &mut self.feeds {
                    feed.deliver(&[], Position::End, None);
                }
            }
            Stop::Gap(reason) => {
                error!(
                    %reason,
                    "shard cannot be read on: replicas miss changes and must be copied anew"
                );
                self.metrics.gap_found();
                self.row.state =
                    State::Gap { reason: reason.to_string(), found_unix_ms: self.clock.unix_ms() };
                // Known to everybody at once; if this fails, the next renewal writes it.
                self.renew().await;
            }
            Stop::Cancelled => {}
        }
    }

    /// All that was read is durable, and nothing more is read.
    async fn finish(&mut self, stop: Stop) -> Exit {
        if !self.write_last().await {
            return Exit::Lost;
        }
        let row = self.row.clone();
        match stop {
            Stop::End => {
                info!("shard ended");
                // A drain does not wait for them; whoever comes next lists them.
                let children = tokio::select! {
                    children = self.describer.children(&self.source.stream, &row.shard) => children,
                    () = self.drain.cancelled() => Vec::new(),
                };
                Exit::Ended(row, children)
            }
            Stop::Gap(_) => Exit::Gap(row),
            Stop::Cancelled => Exit::Released(row),
        }
    }
}
