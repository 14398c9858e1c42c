//! One replica as a shard sees it: where its changes go and how far they are.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use crate::budget::{Budget, Reservation};
use crate::checkpoint::{Checkpoint, Frontier};
use crate::lane::{Ack, Delivery, Lot};
use crate::lease::Fence;
use crate::record::Record;
use crate::replica::Gauges;
use crate::route::Router;
use crate::shard::{Position, ShardId};

/// Between two questions for parked keys that could not be answered.
const RELOAD_PAUSE: Duration = Duration::from_secs(1);

/// The way to a replica's writer, shared by all shards.
#[derive(Clone)]
pub(super) struct Channel {
    pub(super) replica: String,
    pub(super) inbox: mpsc::UnboundedSender<Delivery>,
    /// Asks the writer to learn which keys other workers parked.
    pub(super) reloads: mpsc::UnboundedSender<oneshot::Sender<()>>,
    pub(super) budget: Budget,
    pub(super) gauges: Arc<Gauges>,
    /// Open while this worker holds every shard that can be read, and people want the replica to be written to: only
    /// then no other writes to it, and a parked change can be tried again without overtaking a newer one that another
    /// worker has read.
    pub(super) retries: Fence,
    /// The label of the stream, where the replica is written under a guard, which needs the order of changes.
    pub(super) stream: Option<Arc<str>>,
}

/// One shard's way to one replica.
pub(super) struct Feed {
    channel: Channel,
    /// Which replica of the shard this is.
    index: usize,
    shard: ShardId,
    router: Router,
    /// After what was handed over. Where the live cursor is behind this, its records are left out up to here.
    delivered: Position,
    frontier: Frontier,
    fence: Fence,
    acks: mpsc::UnboundedSender<Ack>,
    seen: Arc<Seen>,
    is_started: bool,
    is_over: bool,
    /// Whether its end was read here.
    is_ended: bool,
    /// Nothing is read for it until the seek with this number is obeyed.
    resting: Option<i64>,
}

/// What others see of a feed.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The time up to which everything is applied, in milliseconds since 1970.
    pub(super) applied_through: Moment,
    /// Whether the replica is read for by itself, because it is behind the others or has no room.
    pub(super) detached: AtomicBool,
    /// Where reading begins next, after a seek.
    pub(super) sought: Mutex<Option<Checkpoint>>,
}

/// A time that one task sets and others read; unknown at first.
#[derive(Debug, Default)]
pub(super) struct Moment(AtomicI64);

// === impl Moment ===

impl Moment {
    pub(super) fn set(&self, unix_ms: Option<i64>) {
        self.0.store(unix_ms.unwrap_or(0), Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|unix_ms| *unix_ms != 0)
    }
}

// === impl Channel ===

impl Channel {
    /// Waits until the writer knows every key that was parked before.
    pub(super) async fn know_parked(&self) {
        loop {
            let (asked, known) = oneshot::channel();
            // The writer ends only when all shards have; then nobody is left to ask.
            let _ = self.reloads.send(asked);
            if known.await.is_ok() {
                return;
            }
            sleep(RELOAD_PAUSE).await;
        }
    }
}

// === impl Feed ===

impl Feed {
    pub(super) fn new(
        channel: Channel,
        index: usize,
        shard: ShardId,
        from: Checkpoint,
        fence: Fence,
        acks: mpsc::UnboundedSender<Ack>,
    ) -> Self {
        let feed = Self {
            router: Router::ordered_by(channel.stream.clone()),
            delivered: from.position,
            frontier: Frontier::new(from),
            seen: Arc::default(),
            is_started: false,
            is_over: from.position.is_end(),
            is_ended: false,
            resting: None,
            channel,
            index,
            shard,
            fence,
            acks,
        };
        feed.show();
        feed
    }

    /// May be read for now, by what was reached in the parent. Returns where from, the first time.
    pub(super) fn start(&mut self, parent: Option<&Checkpoint>) -> Option<Checkpoint> {
        if std::mem::replace(&mut self.is_started, true) {
            return None;
        }
        let mut from = *self.frontier.reached();
        if let Some(parent) = parent {
            from.inherit(parent);
        }
        self.frontier = Frontier::new(from);
        self.show();
        Some(from)
    }

    /// Nothing is read for it any more, until the seek with this number is obeyed.
    pub(super) fn rest(&mut self, epoch: i64) {
        self.resting = Some(epoch);
    }

    /// Whether nothing is under way, so that the seek with this number can be obeyed.
    pub(super) fn is_at_rest(&self, epoch: i64) -> bool {
        self.resting == Some(epoch) && self.is_settled()
    }

    /// Goes on from elsewhere.
    pub(super) fn seek(&mut self, from: Checkpoint) {
        self.delivered = from.position;
        self.frontier = Frontier::new(from);
        (self.is_started, self.is_over, self.is_ended) = (false, from.position.is_end(), false);
        self.resting = None;
        *self.seen.sought.lock().expect("nothing panics while holding it") = Some(from);
        self.show();
    }

    /// Nothing more can be read for it.
    pub(super) fn stop(&mut self) {
        self.is_over = true;
    }

    /// Whether nothing more is to be read for it.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether its end was read here.
    pub(super) fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// Whether all of the shard was handed over and is not durable yet.
    pub(super) fn is_ending(&self) -> bool {
        self.delivered.is_end() && !self.is_settled()
    }

    /// Whether its end is durable, or it is known that it will never come to it.
    pub(super) fn is_decided(&self) -> bool {
        self.is_over && (self.is_settled() || !self.delivered.is_end())
    }

    /// Hands a page's records over, up to `position`.
    pub(super) fn deliver(
        &mut self,
        records: &[Record],
        position: Position,
        reservation: Option<Reservation>,
    ) {
        let new = &records[self.delivered_of(records)..];
        let changes: Vec<_> = new.iter().filter_map(|record| self.router.change(record)).collect();
        self.channel.gauges.routed(new.len() as u64, (new.len() - changes.len()) as u64);
        if position > self.delivered {
            self.delivered = position;
            self.is_over = position.is_end();
            self.is_ended = position.is_end();
        }
        let newest_unix_ms = records.iter().map(|record| record.created_unix_ms).max();
        let number = self.frontier.admit(position, newest_unix_ms);
        if changes.is_empty() {
            return self.settle(number);
        }
        let (fence, acks) = (self.fence.clone(), self.acks.clone());
        let lot = Lot {
            number,
            replica: self.index,
            shard: Some(self.shard.clone()),
            fence,
            acks,
            reservation: reservation.expect("a page with records has room reserved for every replica"),
            page: None,
        };
        // The writer ends only when all shards have; then nobody is left to hand anything over.
        let _ = self.channel.inbox.send(Delivery { changes, lot });
    }

    /// A lot is durable.
    pub(super) fn settle(&mut self, lot: u64) {
        self.frontier.settle(lot);
        self.show();
    }

    /// Everything made up to `unix_ms` has been handed over.
    pub(super) fn prove(&mut self, unix_ms: i64, surely: bool) {
        self.frontier.prove(unix_ms, surely);
        self.show();
    }

    /// Whether all that was handed over is durable.
    pub(super) fn is_settled(&self) -> bool {
        self.frontier.is_settled()
    }

    /// How far the replica is.
    pub(super) fn reached(&self) -> (&str, &Checkpoint) {
        (&self.channel.replica, self.frontier.reached())
    }

    /// The way to its replica's writer.
    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// The replica's name.
    pub(super) fn name(&self) -> &str {
        &self.channel.replica
    }

    /// What others see of it.
    pub(super) fn seen(&self) -> Arc<Seen> {
        Arc::clone(&self.seen)
    }

    /// How many of a page's first records were handed over before. Only a replica that was ahead of the others when it
    /// joined them has any: the first record tells.
    fn delivered_of(&self, records: &[Record]) -> usize {
        let was_delivered = |record: &Record| Position::After(record.sequence) <= self.delivered;
        match records.first() {
            Some(first) if was_delivered(first) => records.partition_point(was_delivered),
            _ => 0,
        }
    }

    fn show(&self) {
        self.seen.applied_through.set(self.frontier.reached().applied_through_unix_ms);
    }
}
