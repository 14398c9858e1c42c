//! Counters of one or more readers.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// What readers did, as numbers that only grow. Several readers may share one.
#[derive(Debug, Default)]
pub struct Metrics {
    records: AtomicU64,
    bytes: AtomicU64,
    polls: AtomicU64,
    backpressure_nanos: AtomicU64,
    last_poll_unix_ms: AtomicI64,
}

// === impl Metrics ===

impl Metrics {
    /// Records that `GetRecords` gave, skipped ones included.
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// Memory that those records took.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// `GetRecords` calls that succeeded.
    pub fn polls(&self) -> u64 {
        self.polls.load(Ordering::Relaxed)
    }

    /// Time spent waiting for room, up to a second ago while the waiting lasts.
    pub fn backpressure(&self) -> Duration {
        Duration::from_nanos(self.backpressure_nanos.load(Ordering::Relaxed))
    }

    /// When the latest call that succeeded was sent, in milliseconds since 1970; `None` before the first.
    pub fn last_poll_unix_ms(&self) -> Option<i64> {
        match self.last_poll_unix_ms.load(Ordering::Relaxed) {
            0 => None,
            unix_ms => Some(unix_ms),
        }
    }

    pub(super) fn polled(&self, records: usize, bytes: usize, polled_unix_ms: i64) {
        self.polls.fetch_add(1, Ordering::Relaxed);
        self.records.fetch_add(records as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.last_poll_unix_ms.fetch_max(polled_unix_ms, Ordering::Relaxed);
    }

    /// Counts time that was spent waiting for room.
    pub fn held_back(&self, waited: Duration) {
        let nanos = u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX);
        self.backpressure_nanos.fetch_add(nanos, Ordering::Relaxed);
    }
}
