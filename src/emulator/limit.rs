//! A write budget: a token bucket in items per second.

/// Holds at most one second's worth, and at least one item, so a slow table still makes progress.
#[derive(Debug)]
pub(super) struct Bucket {
    items_per_second: f64,
    tokens: f64,
    filled_ms: u64,
}

impl Bucket {
    pub(super) fn new(items_per_second: f64, now_ms: u64) -> Self {
        let items_per_second = items_per_second.max(0.0);
        Self {
            items_per_second,
            tokens: items_per_second.max(1.0),
            filled_ms: now_ms,
        }
    }

    /// Whether one more item fits.
    pub(super) fn take(&mut self, now_ms: u64) -> bool {
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
