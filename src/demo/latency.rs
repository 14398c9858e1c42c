//! How long changes were on their way: a histogram of milliseconds, and what it held lately.

/// Values below this have a bucket each.
const EXACT: u64 = 64;

/// Buckets for each doubling above: a value is told to 3 %.
const PER_DOUBLING: u64 = 32;

/// Doublings above `EXACT` that are told apart, up to 2^31 ms.
const DOUBLINGS: u64 = 25;

const BUCKETS: usize = (EXACT + DOUBLINGS * PER_DOUBLING) as usize;

/// Counts of values by their size.
#[derive(Debug, Clone)]
pub(super) struct Histogram {
    counts: Vec<u32>,
    count: u64,
    max_ms: u64,
}

/// What is told of some values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub(super) struct Quantiles {
    pub(super) p50_ms: u64,
    pub(super) p99_ms: u64,
    pub(super) max_ms: u64,
}

/// All values, and those of the last seconds.
#[derive(Debug)]
pub(super) struct Latency {
    all: Histogram,
    /// One for each of the last seconds, by the second modulo their number, with the second it is of.
    recent: [(i64, Histogram); Latency::WINDOW_S],
}

// === impl Histogram ===

impl Histogram {
    pub(super) fn new() -> Self {
        Self { counts: vec![0; BUCKETS], count: 0, max_ms: 0 }
    }

    pub(super) fn record(&mut self, ms: u64) {
        self.counts[bucket(ms)] += 1;
        self.count += 1;
        self.max_ms = self.max_ms.max(ms);
    }

    /// Adds what another holds.
    pub(super) fn add(&mut self, other: &Self) {
        for (ours, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *ours += theirs;
        }
        self.count += other.count;
        self.max_ms = self.max_ms.max(other.max_ms);
    }

    /// The value that `share` of all are not above, told from above by at most 3 %; `None` without values.
    pub(super) fn quantile(&self, share: f64) -> Option<u64> {
        let rank = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let found = self.counts.iter().position(|count| {
            seen += u64::from(*count);
            seen >= rank
        });
        found.map(|bucket| highest(bucket).min(self.max_ms))
    }

    pub(super) fn quantiles(&self) -> Option<Quantiles> {
        Some(Quantiles { p50_ms: self.quantile(0.5)?, p99_ms: self.quantile(0.99)?, max_ms: self.max_ms })
    }
}

/// The bucket that `ms` falls into.
fn bucket(ms: u64) -> usize {
    if ms < EXACT {
        return ms as usize;
    }
    let doubling = u64::from(ms.ilog2() - EXACT.ilog2());
    let within = (ms >> (u64::from(ms.ilog2()) - u64::from(PER_DOUBLING.ilog2()))) - PER_DOUBLING;
    ((EXACT + doubling * PER_DOUBLING + within) as usize).min(BUCKETS - 1)
}

/// The highest value of a bucket.
fn highest(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < EXACT {
        return bucket;
    }
    let (doubling, within) = ((bucket - EXACT) / PER_DOUBLING, (bucket - EXACT) % PER_DOUBLING);
    let width = (EXACT << doubling) / PER_DOUBLING;
    (EXACT << doubling) + (within + 1) * width - 1
}

// === impl Latency ===

impl Latency {
    /// Seconds that "lately" means: long enough for a steady number, short enough to see a split go by.
    const WINDOW_S: usize = 5;

    pub(super) fn new() -> Self {
        Self { all: Histogram::new(), recent: std::array::from_fn(|_| (i64::MIN, Histogram::new())) }
    }

    /// A change made at `made_unix_ms` arrived at `now_unix_ms`.
    pub(super) fn record(&mut self, made_unix_ms: i64, now_unix_ms: i64) {
        let ms = u64::try_from(now_unix_ms - made_unix_ms).unwrap_or(0);
        let second = now_unix_ms.div_euclid(1000);
        let slot = &mut self.recent[second.rem_euclid(Self::WINDOW_S as i64) as usize];
        if slot.0 != second {
            *slot = (second, Histogram::new());
        }
        slot.1.record(ms);
        self.all.record(ms);
    }

    /// Of all values.
    pub(super) fn all(&self) -> Option<Quantiles> {
        self.all.quantiles()
    }

    /// Of the values of the last seconds.
    pub(super) fn recent(&self, now_unix_ms: i64) -> Option<Quantiles> {
        let oldest = now_unix_ms.div_euclid(1000) - Self::WINDOW_S as i64 + 1;
        let mut recent = Histogram::new();
        for (_, histogram) in self.recent.iter().filter(|(second, _)| *second >= oldest) {
            recent.add(histogram);
        }
        recent.quantiles()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_has_no_quantile() {
        assert_eq!(Histogram::new().quantiles(), None);
        assert_eq!(Latency::new().recent(0), None);
    }

    #[test]
    fn small_values_are_exact() {
        let mut histogram = Histogram::new();
        (1..=50).for_each(|ms| histogram.record(ms));
        assert_eq!(histogram.quantile(0.5), Some(25));
        assert_eq!(histogram.quantile(0.99), Some(50));
        assert_eq!(histogram.quantile(0.0), Some(1));
    }

    #[test]
    fn old_values_leave_the_window_and_stay_in_all() {
        let mut latency = Latency::new();
        latency.record(0, 1_000);
        latency.record(7_990, 8_000);
        let recent = latency.recent(8_500).expect("one value is recent");
        assert_eq!((recent.p50_ms, recent.max_ms), (10, 10));
        assert_eq!(latency.all().map(|all| all.max_ms), Some(1_000));
        assert_eq!(latency.recent(60_000), None);
    }

    #[test]
    fn a_clock_that_went_back_counts_as_no_time() {
        let mut latency = Latency::new();
        latency.record(1_000, 990);
        assert_eq!(latency.all().map(|all| all.max_ms), Some(0));
    }

    proptest! {
        #[test]
        fn a_bucket_holds_its_values_to_3_percent(ms in 0u64..(1 << 31)) {
            let top = highest(bucket(ms));
            prop_assert!(top >= ms && top - ms <= ms / 32, "{ms} is told as {top}");
            prop_assert!(ms == 0 || highest(bucket(ms - 1)) <= top);
        }

        #[test]
        fn quantiles_are_those_of_the_sorted_values(mut values in prop::collection::vec(0u64..100_000, 1..200)) {
            let mut histogram = Histogram::new();
            values.iter().for_each(|ms| histogram.record(*ms));
            values.sort_unstable();
            let exact = values[values.len().div_ceil(2) - 1];
            let told = histogram.quantile(0.5).expect("there are values");
            prop_assert!(told >= exact && told - exact <= exact / 32);
            prop_assert_eq!(histogram.quantile(1.0), values.last().copied());
        }
    }
}
