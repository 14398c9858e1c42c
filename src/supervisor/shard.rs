//! One shard from its lease to its end: reads, hands over, keeps the frontier of each replica, and renews.
//!
//! ```text
//!   settle ──> reading ──> end read ──────> all settled ──> end durable ──> children
//!                 │                              ^
//!                 ├── drain, nothing to read ────┘ (lease released, nothing read any more)
//!                 └── lease lost ──> nothing more is written, at once
//! ```
//!
//! All of it is per replica: each may be read for as the replication orders, is on the live cursor or on the catch-up
//! cursor ([`cursors`]), and comes to its own end or gap. So what one of them lacks keeps nothing from the others:
//! children are found and start for a replica as soon as the end is durable in that one. The task ends when nothing
//! may be read for anybody; for whoever still waits for a parent the lease is taken anew.

mod cursors;
mod reading;
mod renewal;
mod room;
mod seek;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::reading::{News, Reading};
use super::feed::{Channel, Feed, Seen};
use super::hold::Hold;
use super::plan::{Order, Orders};
use super::watch;
use crate::clock::Clock;
use crate::fault::{Stage, advice};
use crate::lane::Ack;
use crate::lease::{self, Fence, Leases, Row, State};
use crate::shard::{Position, Shard};
use crate::stream::{self, Describer, GapReason, Page, Quiet, Source, Trouble, gap};
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
    /// All replicas: one that has all of the shard may be sought.
    pub(super) channels: Vec<Channel>,
    /// What may be done for each of them at first.
    pub(super) orders: Orders,
    /// Where to tell of what others wait for while the shard is still being read.
    pub(super) reports: mpsc::UnboundedSender<Report>,
    pub(super) clock: Clock,
    pub(super) metrics: telemetry::Source,
    /// Ends the shard's reading, and knows whom the lease is given up for.
    pub(super) hold: Hold,
    /// How long a drain may take.
    pub(super) grace: Duration,
}

/// A shard that is still being read has ended, or cannot be read on, for some of its replicas.
pub(super) struct Report {
    /// Its row, as the control table holds it.
    pub(super) row: Row,
    /// Its children, as far as they could be found by now.
    pub(super) children: Vec<Shard>,
}

/// What others see of a running shard.
#[derive(Clone)]
pub(super) struct Live {
    /// What is to be seen of each replica, by its name.
    pub(super) feeds: Vec<(String, Arc<Seen>)>,
    /// What may be done for each replica.
    pub(super) orders: watch::Sender<Orders>,
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
    /// Its end is durable in some replica, and nothing may be read for the others now; its children, as far as they
    /// could be found.
    Ended(Row, Vec<Shard>),
    /// Nothing may be read for any replica, and none came to the end.
    Idle(Row),
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
    orders: watch::Receiver<Orders>,
    reports: mpsc::UnboundedSender<Report>,
    /// How many replicas had come to their end or to a gap when that was reported last.
    reported: usize,
    /// Whether a seek was obeyed that is not reported yet.
    is_sought: bool,
    /// When the row is to be written although no renewal is due.
    news_at: Option<Instant>,
    /// The children being listed while some replicas are still read for.
    listing: Tasks<Vec<Shard>>,
    children: Option<Vec<Shard>>,
    clock: Clock,
    metrics: telemetry::Source,
    hold: Hold,
    drain: CancellationToken,
    /// Ends the reading, and nothing else.
    stop: CancellationToken,
    grace: Duration,
    reading: Arc<stream::Metrics>,
    counted: (u64, u64, Duration),
    drain_ends: Option<Instant>,
    trouble: Arc<Mutex<Option<String>>>,
    in_trouble: bool,
}

/// A shard's task before it runs.
pub(super) struct Built {
    task: Task,
    reading: Reading,
    settle: Duration,
    news: mpsc::Receiver<News>,
    troubles: mpsc::Receiver<Trouble>,
}

// === impl Live ===

impl Live {
    /// What is to be seen of one replica.
    pub(super) fn seen(&self, replica: &str) -> Option<&Seen> {
        self.feeds.iter().find(|(name, _)| name == replica).map(|(_, seen)| &**seen)
    }
}

// === impl Built ===

impl Built {
    pub(super) fn new(parts: Parts) -> (Self, Live) {
        let (sender, acks) = mpsc::unbounded_channel();
        let feed = |(index, channel): (usize, Channel)| {
            let from = parts.row.checkpoints[&channel.replica];
            Feed::new(channel, index, parts.row.shard.clone(), from, parts.fence.clone(), sender.clone())
        };
        let feeds: Vec<_> = parts.channels.into_iter().enumerate().map(feed).collect();
        let reported = feeds.iter().filter(|feed| feed.is_decided()).count();
        let reading: Arc<stream::Metrics> = Arc::default();
        let (orders, ordered) = watch::channel(parts.orders);
        let live = Live {
            feeds: feeds.iter().map(|feed| (feed.name().to_owned(), feed.seen())).collect(),
            orders,
            fence: parts.fence.clone(),
            reading: Arc::clone(&reading),
            started_unix_ms: parts.clock.unix_ms(),
            trouble: Arc::default(),
        };
        // A page waits there while the task works on another, so that calls and work overlap, and no more.
        let (tell, news) = mpsc::channel(1);
        let (told, troubles) = mpsc::channel(1);
        let cursors = reading::Parts {
            shard: parts.row.shard.clone(),
            config: parts.reader,
            source: parts.source.clone(),
            clock: parts.clock,
            is_fresh: parts.is_fresh,
            fence: parts.fence.clone(),
            metrics: Arc::clone(&reading),
            troubles: told,
            replicas: feeds.iter().map(to_read).collect(),
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
            orders: ordered,
            reports: parts.reports,
            reported,
            is_sought: false,
            news_at: None,
            listing: Tasks::new(),
            children: None,
            clock: parts.clock,
            metrics: parts.metrics,
            stop: parts.hold.drain().child_token(),
            drain: parts.hold.drain(),
            hold: parts.hold,
            grace: parts.grace,
            reading,
            counted: (0, 0, Duration::ZERO),
            drain_ends: None,
            trouble: Arc::clone(&live.trouble),
            in_trouble: false,
        };
        (Self { task, reading: Reading::new(cursors, tell), settle, news, troubles }, live)
    }

    pub(super) async fn run(self) -> Exit {
        let Self { mut task, reading: cursors, settle, news, troubles } = self;
        let mut reading = Tasks::new();
        let (stop, orders) = (task.stop.clone(), task.orders.clone());
        let settled = Instant::now() + settle;
        reading.spawn(tracing::Span::current(), async move {
            let read = async {
                sleep_until(settled).await;
                cursors.run(orders).await;
            };
            tokio::select! {
                biased;
                // The lease is released then, and who takes a released one writes at once.
                () = stop.cancelled() => sleep_until(settled).await,
                () = read => {}
            }
        });
        let exit = task.follow(reading, news, troubles).await;
        task.fence.revoke();
        exit
    }
}

// === impl Task ===

impl Task {
    async fn follow(
        &mut self,
        mut reading: Tasks<()>,
        mut news: mpsc::Receiver<News>,
        mut troubles: mpsc::Receiver<Trouble>,
    ) -> Exit {
        let mut renew = self.renewals();
        self.obey();
        loop {
            if reading.is_empty() && self.feeds.iter().all(Feed::is_settled) {
                return self.finish().await;
            }
            if self.drain_ends.is_some_and(|at| at <= Instant::now()) {
                return self.give_up().await;
            }
            tokio::select! {
                biased;
                // 1. What is durable makes room and moves the frontier.
                Some(ack) = self.acks.recv() => {
                    // What is given up nobody writes any more, and no checkpoint could ever pass it.
                    if !ack.durable {
                        warn!("changes were given up: read again from the checkpoint");
                        return Exit::Lost;
                    }
                    self.feeds[ack.replica].settle(ack.lot);
                    self.seek();
                    self.look_for_news();
                }
                // 2. The lease must not run out over work.
                _ = renew.tick() => {
                    if !self.renew().await {
                        return Exit::Lost;
                    }
                }
                () = sleep_until(self.news_at.unwrap_or_else(Instant::now)), if self.news_at.is_some() => {
                    self.news_at = None;
                    if !self.renew().await {
                        return Exit::Lost;
                    }
                }
                // 3. A drain stops reading; the reader sees a token of the same.
                () = self.drain.cancelled(), if self.drain_ends.is_none() => {
                    self.drain_ends = Some(Instant::now() + self.grace);
                }
                Ok(()) = self.orders.changed() => self.obey(),
                // 4. What is read, all of it before the reading's end is seen.
                Some(news) = news.recv() => {
                    self.take(news);
                    self.seek();
                }
                Some(()) = reading.next() => {
                    // Something may have come between the look for it and the end.
                    while let Ok(news) = news.try_recv() {
                        self.take(news);
                    }
                }
                Some(trouble) = troubles.recv() => self.meet(&trouble),
                Some(children) = self.listing.next() => self.report(children),
                () = sleep(Duration::from_millis(200)), if self.drain_ends.is_some() => {}
            }
        }
    }

    /// Lets feeds start that may, and stops reading when nothing may be read for anybody.
    fn obey(&mut self) {
        let orders = self.orders.borrow_and_update().clone();
        for feed in &mut self.feeds {
            if let Some(Order::Run { parent }) = orders.get(feed.name())
                && let Some(from) = feed.start(parent.as_ref())
            {
                self.row.checkpoints.insert(feed.name().to_owned(), from);
            }
        }
        let goes_on = |feed: &Feed| match orders.get(feed.name()) {
            Some(Order::Run { .. } | Order::Pause) => !feed.is_over(),
            Some(Order::Seek(_)) => true,
            Some(Order::Hold) | None => false,
        };
        if !self.feeds.iter().any(goes_on) {
            self.stop.cancel();
        }
    }

    fn renewals(&self) -> Interval {
        let mut renew = interval_at(Instant::now() + self.lease.renew_interval, self.lease.renew_interval);
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        renew
    }

    fn take(&mut self, news: News) {
        match news {
            News::Page { page, to } => {
                self.count();
                if self.in_trouble {
                    self.show_trouble(None);
                }
                let Page { records, position, quiet, .. } = page;
                for (replica, reservation) in to {
                    let feed = &mut self.feeds[replica];
                    feed.deliver(&records, position, reservation);
                    if let Some(quiet) = quiet {
                        prove(feed, &quiet);
                    }
                }
            }
            News::End(replicas) => {
                for replica in replicas {
                    self.feeds[replica].deliver(&[], Position::End, None);
                }
                self.look_for_news();
                self.obey();
            }
            News::Rest(replica, epoch) => self.feeds[replica].rest(epoch),
            News::Gap(replicas, reason) => {
                self.miss(&replicas, reason);
                self.look_for_news();
                self.obey();
            }
        }
    }

    fn meet(&mut self, trouble: &Trouble) {
        let Trouble { error, directive } = trouble;
        let advice = advice(error.fault, Stage::Read);
        warn!(%error, ?directive, advice, "reading does not succeed");
        self.show_trouble(Some(format!("{error}: {advice}")));
    }

    fn miss(&mut self, replicas: &[usize], reason: GapReason) {
        let found_unix_ms = self.clock.unix_ms();
        for replica in replicas {
            let feed = &mut self.feeds[*replica];
            let replica = feed.name();
            error!(%reason, replica, "shard cannot be read on: replica misses changes and must be copied anew");
            self.row
                .gaps
                .insert(replica.to_owned(), lease::Gap { reason: reason.to_string(), found_unix_ms });
            feed.stop();
        }
        self.metrics.gap_found();
    }

    fn show_trouble(&mut self, text: Option<String>) {
        self.in_trouble = text.is_some();
        *self.trouble.lock().expect("nothing panics while holding it") = text;
    }

    fn count(&mut self) {
        let now = (self.reading.records(), self.reading.bytes(), self.reading.backpressure());
        let before = std::mem::replace(&mut self.counted, now);
        self.metrics.read(now.0 - before.0, now.1 - before.1);
        self.metrics.held_back(now.2.saturating_sub(before.2));
    }

    /// All that was read is durable, and nothing more is read.
    async fn finish(&mut self) -> Exit {
        let is_drained = self.drain.is_cancelled();
        if !self.write_last().await {
            return Exit::Lost;
        }
        let row = self.row.clone();
        if !self.feeds.iter().any(Feed::is_ended) {
            return if is_drained { Exit::Released(row) } else { Exit::Idle(row) };
        }
        if row.state == State::Ended {
            info!("shard ended");
        }
        let children = match self.children.take() {
            Some(children) => children,
            // A drain does not wait for them; whoever comes next lists them.
            None => tokio::select! {
                biased;
                () = self.drain.cancelled() => Vec::new(),
                children = self.describer.children(&self.source.stream, &row.shard) => children,
            },
        };
        Exit::Ended(row, children)
    }
}

fn to_read(feed: &Feed) -> reading::Replica {
    reading::Replica { channel: feed.channel().clone(), from: *feed.reached().1, seen: feed.seen() }
}

/// What a lasting silence proves to a replica to which all before it was handed over.
fn prove(feed: &mut Feed, quiet: &Quiet) {
    let (likely, sure) = (quiet.proves(QUIET_POLLS, QUIET_SPAN), quiet.proves(gap::QUIET_PAGES, gap::QUIET));
    for (through, surely) in [(likely, false), (sure, true)] {
        if let Some(unix_ms) = through {
            feed.prove(unix_ms, surely);
        }
    }
}
