//! The metrics of one replica: how far it is, and where changes went.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{Counter, Histogram, IntCounter, IntGauge};

use super::metrics::Families;
use super::progress::{ReplicaMoments, seconds};
use super::source::{add, set};
use crate::fault::Width;

/// Counts for one replica of a replication. Clones count together.
#[derive(Debug, Clone)]
pub struct Replica {
    shared: Arc<Series>,
}

/// What a replica is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing was applied or proven yet.
    Starting,
    /// It is behind and makes progress.
    CatchingUp,
    /// It keeps up.
    Streaming,
    /// Writes to it fail, or changes wait without any being applied.
    Stalled,
    /// Nothing is written to it until it is resumed.
    Paused,
}

#[derive(Debug)]
struct Series {
    moments: Arc<ReplicaMoments>,
    latency: Histogram,
    states: [IntGauge; 5],
    puts: IntCounter,
    deletes: IntCounter,
    coalesced: IntCounter,
    filtered: IntCounter,
    stale: IntCounter,
    abandoned: IntCounter,
    copied_puts: IntCounter,
    copied_deletes: IntCounter,
    superseded: IntCounter,
    parked_total: IntCounter,
    parked: IntGauge,
    inflight: IntGauge,
    buffer: IntGauge,
    buffer_limit: IntGauge,
    held_back: Counter,
    throttles: [IntCounter; 5],
    read_capacity: Counter,
    write_capacity: Counter,
}

/// The labels of [`Width`], in the order of its discriminants.
const WIDTHS: [&str; 5] = ["key_range", "table", "index", "account", "unknown"];

// === impl State ===

impl State {
    /// Their labels, in the order of their discriminants.
    const LABELS: [&str; 5] = ["starting", "catching_up", "streaming", "stalled", "paused"];
}

// === impl Replica ===

impl Replica {
    pub(super) fn new(families: &Families, replication: &str, table: &str, replica: &str) -> Self {
        let route = [replication, table, replica];
        let and = |label: &'static str| [replication, table, replica, label];
        let shared = Series {
            moments: families.progress.replica(route),
            latency: families.apply_latency.with([replica]),
            states: State::LABELS.map(|state| families.route_state.with(and(state))),
            puts: families.applied.with(and("put")),
            deletes: families.applied.with(and("delete")),
            coalesced: families.coalesced.with(route),
            filtered: families.skipped.with(and("filtered")),
            stale: families.skipped.with(and("stale")),
            abandoned: families.abandoned.with(route),
            copied_puts: families.copied.with(and("put")),
            copied_deletes: families.copied.with(and("delete")),
            superseded: families.copied.with(and("superseded")),
            parked_total: families.parked_total.with(route),
            parked: families.parked.with(route),
            inflight: families.inflight.with(route),
            buffer: families.buffer.with(route),
            buffer_limit: families.buffer_limit.with(route),
            held_back: families.backpressure.with(["apply"]),
            throttles: WIDTHS.map(|reason| families.throttles.with(and(reason))),
            read_capacity: families.capacity.with(and("read")),
            write_capacity: families.capacity.with(and("write")),
        };
        Self { shared: Arc::new(shared) }
    }

    /// So many items were put.
    pub fn applied_puts(&self, changes: u64) {
        self.shared.puts.inc_by(changes);
    }

    /// So many items were deleted.
    pub fn applied_deletes(&self, changes: u64) {
        self.shared.deletes.inc_by(changes);
    }

    /// A change that was made at the source at `created_unix_ms` is in the replica since `applied_unix_ms`. This
    /// is only its timing: it is counted by the two above.
    pub fn applied_after(&self, created_unix_ms: i64, applied_unix_ms: i64) {
        let elapsed_ms = applied_unix_ms.saturating_sub(created_unix_ms).max(0);
        self.shared.latency.observe(seconds(elapsed_ms));
        self.shared.moments.last_applied.raise(created_unix_ms);
    }

    /// So many changes were replaced by newer ones of their keys.
    pub fn coalesced(&self, changes: u64) {
        self.shared.coalesced.inc_by(changes);
    }

    /// So many changes were left out by rule.
    pub fn filtered(&self, changes: u64) {
        self.shared.filtered.inc_by(changes);
    }

    /// So many changes were not written, because the replica has them or newer ones by its guard.
    pub fn stale(&self, changes: u64) {
        self.shared.stale.inc_by(changes);
    }

    /// So many changes were given up because their lease was lost.
    pub fn abandoned(&self, changes: u64) {
        self.shared.abandoned.inc_by(changes);
    }

    /// So many copied items were put.
    pub fn copied_puts(&self, items: u64) {
        self.shared.copied_puts.inc_by(items);
    }

    /// So many items were deleted, because a copy did not find them in the source.
    pub fn copied_deletes(&self, items: u64) {
        self.shared.copied_deletes.inc_by(items);
    }

    /// So many copied items were dropped, because the stream brings their keys' final state.
    pub fn superseded(&self, items: u64) {
        self.shared.superseded.inc_by(items);
    }

    /// So many changes were refused and kept with their payload.
    pub fn parked(&self, changes: u64) {
        self.shared.parked_total.inc_by(changes);
    }

    /// Keys that are parked now.
    pub fn set_parked_keys(&self, keys: u64) {
        set(&self.shared.parked, keys);
    }

    /// Every change made at the source up to this time, in milliseconds since 1970, is in the replica and
    /// checkpointed; `None` while that is not known.
    pub fn set_applied_through(&self, unix_ms: impl Into<Option<i64>>) {
        self.shared.moments.applied_through.set(unix_ms.into());
    }

    /// When the newest applied change was made at the source, where that is known otherwise than by
    /// [`Self::applied_after`]; never moves back.
    pub fn set_last_applied(&self, unix_ms: i64) {
        self.shared.moments.last_applied.raise(unix_ms);
    }

    /// What it is doing now.
    pub fn set_state(&self, state: State) {
        for (index, gauge) in self.shared.states.iter().enumerate() {
            gauge.set(i64::from(index == state as usize));
        }
    }

    /// Changes that are read and not settled, the bytes they hold, and how many they may hold.
    pub fn set_buffer(&self, changes: u64, bytes: u64, limit_bytes: u64) {
        set(&self.shared.inflight, changes);
        set(&self.shared.buffer, bytes);
        set(&self.shared.buffer_limit, limit_bytes);
    }

    /// Writes stood still for so long because of the replica's rate.
    pub fn held_back(&self, elapsed: Duration) {
        self.shared.held_back.inc_by(elapsed.as_secs_f64());
    }

    /// The replica throttled a write.
    pub fn throttled(&self, width: Width) {
        let index = match width {
            Width::KeyRange => 0,
            Width::Table => 1,
            Width::Index => 2,
            Width::Account => 3,
            Width::Unknown => 4,
        };
        self.shared.throttles[index].inc();
    }

    /// Read units that calls to the replica consumed.
    pub fn consumed_read_units(&self, units: f64) {
        add(&self.shared.read_capacity, units);
    }

    /// Write units that calls to the replica consumed.
    pub fn consumed_write_units(&self, units: f64) {
        add(&self.shared.write_capacity, units);
    }
}
