//! The metrics of a replication's source: reading, leases, checkpoints.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{Counter, Histogram, IntCounter, IntGauge};

use super::metrics::Families;
use super::progress::SourceMoments;

/// Counts for one replication's source. Clones count together.
#[derive(Debug, Clone)]
pub struct Source {
    shared: Arc<Series>,
}

/// Counts of a stream's shards by what is done with them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shards {
    /// Read by this worker.
    pub active: u64,
    /// Waiting for their parents' end, or for a lease.
    pub waiting: u64,
    /// Read and applied to the end, everywhere.
    pub ended: u64,
    /// Ready to be read, and held by no worker.
    pub unowned: u64,
    /// Held by another worker.
    pub elsewhere: u64,
    /// Stopped by a gap.
    pub gap: u64,
}

/// How a lease changed hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseChange {
    /// A free one was taken.
    Acquired,
    /// It was taken from a worker that lives, to spread the load.
    Stolen,
    /// Another worker took it.
    Lost,
    /// It was given back.
    Released,
    /// It was not renewed in time.
    Expired,
}

#[derive(Debug)]
struct Series {
    moments: Arc<SourceMoments>,
    shards: [IntGauge; 6],
    read: IntCounter,
    read_bytes: IntCounter,
    gaps_total: IntCounter,
    gaps: IntGauge,
    leases: IntGauge,
    lease_changes: [IntCounter; 5],
    lease_renew_failures: IntCounter,
    checkpoint_failures: IntCounter,
    checkpoint_duration: Histogram,
    held_back: Counter,
    read_capacity: Counter,
}

// === impl LeaseChange ===

impl LeaseChange {
    /// Their labels, in the order of their discriminants.
    pub(super) const LABELS: [&str; 5] = ["acquired", "stolen", "lost", "released", "expired"];
}

// === impl Shards ===

impl Shards {
    const LABELS: [&str; 6] = ["active", "waiting", "ended", "unowned", "elsewhere", "gap"];

    /// In the order of the labels.
    const fn counts(self) -> [u64; 6] {
        [self.active, self.waiting, self.ended, self.unowned, self.elsewhere, self.gap]
    }
}

// === impl Source ===

impl Source {
    pub(super) fn new(families: &Families, replication: &str, table: &str) -> Self {
        let route = [replication, table];
        let shared = Series {
            moments: families.progress.source(route),
            shards: Shards::LABELS.map(|state| families.shards.with([replication, table, state])),
            read: families.read.with(route),
            read_bytes: families.read_bytes.with(route),
            gaps_total: families.gaps_total.with(route),
            gaps: families.gaps.with(route),
            leases: families.leases.with(route),
            lease_changes: LeaseChange::LABELS.map(|reason| families.lease_changes.with([reason])),
            lease_renew_failures: families.lease_renew_failures.with([]),
            checkpoint_failures: families.checkpoint_failures.with([]),
            checkpoint_duration: families.checkpoint_duration.with([]),
            held_back: families.backpressure.with(["read"]),
            read_capacity: families.capacity.with([replication, table, "", "read"]),
        };
        Self { shared: Arc::new(shared) }
    }

    /// A response of the stream with `records` came, which was so many bytes long.
    pub fn read(&self, records: u64, bytes: u64) {
        self.shared.read.inc_by(records);
        self.shared.read_bytes.inc_by(bytes);
    }

    /// A reader stood still for so long until replicas had room.
    pub fn held_back(&self, elapsed: Duration) {
        self.shared.held_back.inc_by(elapsed.as_secs_f64());
    }

    /// Read units that fetching items from the source table consumed.
    pub fn consumed_read_units(&self, units: f64) {
        add(&self.shared.read_capacity, units);
    }

    /// All shards were listed at this time, in milliseconds since 1970.
    pub fn set_discovered(&self, unix_ms: impl Into<Option<i64>>) {
        self.shared.moments.discovered.set(unix_ms.into());
    }

    /// The oldest of the last successful polls of the shards being read; `None` while none is.
    pub fn set_oldest_poll(&self, unix_ms: impl Into<Option<i64>>) {
        self.shared.moments.oldest_poll.set(unix_ms.into());
    }

    /// What is done with the stream's shards now.
    pub fn set_shards(&self, shards: Shards) {
        for (gauge, count) in self.shared.shards.iter().zip(shards.counts()) {
            set(gauge, count);
        }
    }

    /// Changes turned out to be unreadable.
    pub fn gap_found(&self) {
        self.shared.gaps_total.inc();
    }

    /// Gaps that nobody dealt with yet.
    pub fn set_gaps(&self, gaps: u64) {
        set(&self.shared.gaps, gaps);
    }

    /// Leases that this worker holds now.
    pub fn set_leases_owned(&self, leases: u64) {
        set(&self.shared.leases, leases);
    }

    /// A lease changed hands.
    pub fn lease_changed(&self, change: LeaseChange) {
        self.shared.lease_changes[change as usize].inc();
    }

    /// A lease could not be renewed.
    pub fn lease_renewal_failed(&self) {
        self.shared.lease_renew_failures.inc();
    }

    /// A checkpoint was written at this time, in milliseconds since 1970, and took so long.
    pub fn checkpointed(&self, unix_ms: i64, elapsed: Duration) {
        self.shared.moments.checkpointed.raise(unix_ms);
        self.shared.checkpoint_duration.observe(elapsed.as_secs_f64());
    }

    /// A checkpoint could not be written.
    pub fn checkpoint_failed(&self) {
        self.shared.checkpoint_failures.inc();
    }
}

/// Gauges are signed; a count beyond their range is none that memory could hold.
pub(super) fn set(gauge: &IntGauge, count: u64) {
    gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
}

/// A counter of the library asserts that it never falls; what a server says may be anything.
pub(super) fn add(counter: &Counter, amount: f64) {
    if amount.is_finite() && amount > 0.0 {
        counter.inc_by(amount);
    }
}
