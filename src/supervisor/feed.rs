//! One replica as a shard sees it: where its changes go and how far they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
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
    frontier: Frontier,
    fence: Fence,
    acks: mpsc::UnboundedSender<Ack>,
    applied_through: Arc<Moment>,
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
            router: Router::new(from.position).ordered_by(channel.stream.clone()),
            frontier: Frontier::new(from),
            applied_through: Arc::default(),
            channel,
            index,
            shard,
            fence,
            acks,
        };
        feed.show();
        feed
    }

    /// Where the reader of the shard starts, which feeds other replicas too.
    pub(super) fn read_from(&mut self, start: Position) {
        self.router.read_from(start);
    }

    /// Hands a page's records over, up to `position`.
    pub(super) fn deliver(
        &mut self,
        records: &[Record],
        position: Position,
        reservation: Option<Reservation>,
    ) {
        let changes: Vec<_> = records.iter().filter_map(|record| self.router.change(record)).collect();
        self.channel.gauges.routed(records.len() as u64, (records.len() - changes.len()) as u64);
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

    /// Where the time up to which everything is applied can be read.
    pub(super) fn applied_through(&self) -> Arc<Moment> {
        Arc::clone(&self.applied_through)
    }

    /// The memory that pages for this replica take.
    pub(super) fn budget(&self) -> Budget {
        self.channel.budget.clone()
    }

    fn show(&self) {
        self.applied_through.set(self.frontier.reached().applied_through_unix_ms);
    }
}
