//! Write budgets: a token bucket in items per second for each table that has one.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// The budgets of one region.
#[derive(Debug, Default)]
pub(super) struct Limits {
    buckets: Mutex<HashMap<String, Bucket>>,
    /// Whether there is any, so that a region without limits does not look inside its requests.
    any: AtomicBool,
}

impl Limits {
    pub(super) fn set(&self, table: &str, items_per_second: f64, now_ms: u64) {
        self.buckets().insert(table.to_owned(), Bucket::new(items_per_second, now_ms));
        self.any.store(true, Ordering::Relaxed);
    }

    pub(super) fn remove(&self, table: &str) {
        let mut buckets = self.buckets();
        buckets.remove(table);
        self.any.store(!buckets.is_empty(), Ordering::Relaxed);
    }

    pub(super) fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// Whether one more item may be written to a table; a table without a limit takes any.
    pub(super) fn admit(&self, table: &str, now_ms: u64) -> bool {
        self.buckets().get_mut(table).is_none_or(|bucket| bucket.take(now_ms))
    }

    fn buckets(&self) -> MutexGuard<'_, HashMap<String, Bucket>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Holds at most one second's worth, and at least one item, so a slow table still makes progress.
#[derive(Debug)]
struct Bucket {
    items_per_second: f64,
    tokens: f64,
    filled_ms: u64,
}

impl Bucket {
    fn new(items_per_second: f64, now_ms: u64) -> Self {
        let items_per_second = items_per_second.max(0.0);
        Self { items_per_second, tokens: items_per_second.max(1.0), filled_ms: now_ms }
    }

    /// Whether one more item fits.
    fn take(&mut self, now_ms: u64) -> bool {
        let elapsed_s = now_ms.saturating_sub(self.filled_ms) as f64 / 1000.0;
        self.filled_ms = self.filled_ms.max(now_ms);
        self.tokens = (self.tokens + elapsed_s * self.items_per_second).min(self.items_per_second.max(1.0));
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_more_passes_than_the_burst_and_the_rate_allow(
            rate in 1_u32..200, waits_ms in prop::collection::vec(0_u64..50, 1..500),
        ) {
            let mut bucket = Bucket::new(f64::from(rate), 0);
            let mut now_ms = 0;
            let mut passed = 0_u32;
            for wait_ms in waits_ms {
                now_ms += wait_ms;
                passed += u32::from(bucket.take(now_ms));
            }
            let allowed = f64::from(rate) * (1.0 + now_ms as f64 / 1000.0);
            prop_assert!(f64::from(passed) <= allowed + 1e-6);
        }
    }

    #[test]
    fn an_empty_bucket_refills() {
        let mut bucket = Bucket::new(2.0, 0);
        assert!(bucket.take(0) && bucket.take(0));
        assert!(!bucket.take(0));
        assert!(!bucket.take(499));
        assert!(bucket.take(500));
    }
}
