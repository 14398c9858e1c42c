//! What a writer shows of itself while it runs.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::lane::Tally;

/// Numbers that a writer keeps current and anybody may read. Each is exact; two of them read one after the other
/// may be of different moments.
#[derive(Debug, Default)]
pub struct Gauges {
    read: AtomicU64,
    filtered: AtomicU64,
    put: AtomicU64,
    deleted: AtomicU64,
    stale: AtomicU64,
    coalesced: AtomicU64,
    parked: AtomicU64,
    abandoned: AtomicU64,
    copied: AtomicU64,
    copied_deletes: AtomicU64,
    superseded: AtomicU64,
    pending: AtomicU64,
    live_waiting: AtomicU64,
    batches_in_flight: AtomicU64,
    parked_keys: AtomicU64,
    newest_applied_unix_ms: AtomicI64,
    settled_unix_ms: AtomicI64,
    /// Since when there is always something pending.
    pending_since_unix_ms: AtomicI64,
    trouble: Mutex<Option<Trouble>>,
}

/// Why writes do not succeed at present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What failed, and what to do about it.
    pub text: String,
    /// Since when, in milliseconds since 1970.
    pub since_unix_ms: i64,
}

/// Where changes went since the writer was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Handed over for this replica, by the stream or by a copy.
    pub read: u64,
    /// Left out by rule before they came to the writer.
    pub filtered: u64,
    /// What became of the others; those that are missing are pending.
    pub settled: Tally,
}

// === impl Gauges ===

impl Gauges {
    /// Counts records that the stream handed over for this replica, or items that were copied, and those left out by rule.
    pub fn routed(&self, read: u64, filtered: u64) {
        self.read.fetch_add(read, Ordering::Relaxed);
        self.filtered.fetch_add(filtered, Ordering::Relaxed);
    }

    /// Where changes went.
    pub fn counts(&self) -> Counts {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let settled = Tally {
            put: load(&self.put),
            deleted: load(&self.deleted),
            stale: load(&self.stale),
            coalesced: load(&self.coalesced),
            parked: load(&self.parked),
            abandoned: load(&self.abandoned),
            copied: load(&self.copied),
            copied_deletes: load(&self.copied_deletes),
            superseded: load(&self.superseded),
        };
        Counts { read: load(&self.read), filtered: load(&self.filtered), settled }
    }

    /// Changes that wait or are on their way.
    pub fn pending(&self) -> u64 {
        self.pending.load(Ordering::Relaxed)
    }

    /// The stream's changes that wait to be sent, as far as they are read: those of the same key count once.
    pub fn live_waiting(&self) -> u64 {
        self.live_waiting.load(Ordering::Relaxed)
    }

    /// Write requests under way.
    pub fn batches_in_flight(&self) -> u64 {
        self.batches_in_flight.load(Ordering::Relaxed)
    }

    /// Keys whose newest change the replica refused.
    pub fn parked_keys(&self) -> u64 {
        self.parked_keys.load(Ordering::Relaxed)
    }

    /// When the newest applied change was made; `None` before the first.
    pub fn newest_applied_unix_ms(&self) -> Option<i64> {
        Some(self.newest_applied_unix_ms.load(Ordering::Relaxed)).filter(|at| *at != 0)
    }

    /// Since when changes wait of which none was settled; `None` when none waits.
    pub fn unsettled_since_unix_ms(&self) -> Option<i64> {
        let pending_since = self.pending_since_unix_ms.load(Ordering::Relaxed);
        (self.pending() > 0).then(|| pending_since.max(self.settled_unix_ms.load(Ordering::Relaxed)))
    }

    /// Why writes do not succeed at present.
    pub fn trouble(&self) -> Option<Trouble> {
        self.trouble.lock().expect("nothing panics while holding it").clone()
    }

    pub(super) fn settled(&self, tally: Tally, now_unix_ms: i64) {
        let add = |counter: &AtomicU64, count: u64| counter.fetch_add(count, Ordering::Relaxed);
        add(&self.put, tally.put);
        add(&self.deleted, tally.deleted);
        add(&self.stale, tally.stale);
        add(&self.coalesced, tally.coalesced);
        add(&self.parked, tally.parked);
        add(&self.abandoned, tally.abandoned);
        add(&self.copied, tally.copied);
        add(&self.copied_deletes, tally.copied_deletes);
        add(&self.superseded, tally.superseded);
        self.settled_unix_ms.store(now_unix_ms, Ordering::Relaxed);
    }

    pub(super) fn applied_up_to(&self, created_unix_ms: i64) {
        self.newest_applied_unix_ms.fetch_max(created_unix_ms, Ordering::Relaxed);
    }

    pub(super) fn set_load(&self, pending: u64, batches_in_flight: u64, now_unix_ms: i64) {
        if self.pending() == 0 && pending > 0 {
            self.pending_since_unix_ms.store(now_unix_ms, Ordering::Relaxed);
        }
        self.pending.store(pending, Ordering::Relaxed);
        self.batches_in_flight.store(batches_in_flight, Ordering::Relaxed);
    }

    pub(super) fn set_live_waiting(&self, count: usize) {
        self.live_waiting.store(count as u64, Ordering::Relaxed);
    }

    pub(super) fn set_parked_keys(&self, count: usize) {
        self.parked_keys.store(count as u64, Ordering::Relaxed);
    }

    /// Says whether it is a new trouble, worth a line in the log.
    pub(super) fn set_trouble(&self, text: String, now_unix_ms: i64) -> bool {
        let mut trouble = self.trouble.lock().expect("nothing panics while holding it");
        let since_unix_ms = trouble.as_ref().map_or(now_unix_ms, |known| known.since_unix_ms);
        let is_new = trouble.as_ref().is_none_or(|known| known.text != text);
        *trouble = Some(Trouble { text, since_unix_ms });
        is_new
    }

    /// Says whether there was one.
    pub(super) fn clear_trouble(&self) -> bool {
        self.trouble.lock().expect("nothing panics while holding it").take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_change_after_a_quiet_time_has_not_waited_long() {
        let gauges = Gauges::default();
        gauges.settled(Tally::default(), 1_000);
        assert_eq!(gauges.unsettled_since_unix_ms(), None);
        gauges.set_load(1, 0, 900_000);
        gauges.set_load(2, 1, 950_000);
        assert_eq!(gauges.unsettled_since_unix_ms(), Some(900_000));
        gauges.settled(Tally::default(), 960_000);
        assert_eq!(gauges.unsettled_since_unix_ms(), Some(960_000));
    }
}
