//! How long to wait before the next poll.

use std::time::Duration;

use super::Config;

/// Five polls a second is what a shard is known to bear; the service documents no figure.
const SHORTEST: Duration = Duration::from_millis(200);

/// Pages whose newest record is older than this are behind. Creation times are rounded down to the second and
/// a poll takes some time, so that one second is normal.
const BEHIND: Duration = Duration::from_secs(3);

/// Fewer records than this say nothing about being behind: where the clocks disagree by a few seconds every
/// page looks old, and polling without a pause for a handful of records would only provoke throttling.
const BEHIND_RECORDS: usize = 50;

/// Older than any clock is wrong: behind, however few records.
const FAR_BEHIND: Duration = Duration::from_secs(60);

/// A page of so many bytes was cut off by the service, which gives at most 1 MB.
const FULL_BYTES: usize = 900_000;

/// Longest pause that throttling alone adds.
const SLOWEST: Duration = Duration::from_secs(5);

/// The pause after each page: none while behind, `active` while fresh records come, growing to `idle` while
/// none do, and longer for a while after throttling.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    active: Duration,
    idle: Duration,
    /// The pause after the previous page that was not behind.
    current: Duration,
    /// What throttling adds; halved by every page that comes.
    penalty: Duration,
}

/// What a page says about the pace.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) records: usize,
    /// As many records as one call may give.
    pub(super) limit: usize,
    pub(super) bytes: usize,
    /// From the creation of its newest record to the call.
    pub(super) newest_age: Duration,
}

// === impl Pace ===

impl Pace {
    pub(super) fn new(config: &Config) -> Self {
        let active = config.active_pause.max(SHORTEST);
        Self { active, idle: config.idle_pause.max(active), current: active, penalty: Duration::ZERO }
    }

    /// The pause after a page.
    pub(super) fn after(&mut self, seen: &Seen) -> Duration {
        let penalty = self.penalty;
        // Halving ends in microseconds, which are no pause.
        self.penalty = Some(penalty / 2).filter(|half| *half > SHORTEST / 4).unwrap_or_default();
        if seen.is_behind() {
            self.current = self.active;
            return penalty;
        }
        self.current = if seen.records > 0 { self.active } else { (self.current * 5 / 4).min(self.idle) };
        self.current + penalty
    }

    /// The service asked for fewer calls.
    pub(super) fn slow_down(&mut self) {
        self.penalty = (self.penalty * 2).clamp(SHORTEST, SLOWEST);
    }
}

// === impl Seen ===

impl Seen {
    fn is_behind(&self) -> bool {
        let full = self.records > 0 && (self.records >= self.limit || self.bytes >= FULL_BYTES);
        let old = self.records >= BEHIND_RECORDS && self.newest_age > BEHIND;
        let very_old = self.records > 0 && self.newest_age > FAR_BEHIND;
        full || old || very_old
    }
}

/// Makes a pause up to a tenth longer, by `unit` from 0 to 1, so that shards do not stay in step.
pub(super) fn jittered(pause: Duration, unit: f64) -> Duration {
    pause.mul_f64(1.0 + unit / 10.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seen(records: usize, age_ms: u64) -> Seen {
        Seen { records, limit: 1000, bytes: records * 100, newest_age: Duration::from_millis(age_ms) }
    }

    fn pace() -> Pace {
        Pace::new(&Config::default())
    }

    #[test]
    fn a_reader_that_is_behind_does_not_pause() {
        for page in
            [seen(50, 3_001), seen(1, 60_001), seen(1000, 0), Seen { bytes: FULL_BYTES, ..seen(3, 0) }]
        {
            assert_eq!(pace().after(&page), Duration::ZERO, "{page:?}");
        }
    }

    #[test]
    fn a_few_records_that_look_old_by_a_wrong_clock_do_not_make_it_hurry() {
        assert_eq!(pace().after(&seen(49, 30_000)), Config::default().active_pause);
    }

    #[test]
    fn silence_slows_it_smoothly_and_a_fresh_record_wakes_it() {
        let mut pace = pace();
        let pauses: Vec<_> = (0..12).map(|_| pace.after(&seen(0, 0))).collect();
        assert!(pauses.is_sorted() && pauses[0] < pauses[11], "{pauses:?}");
        assert_eq!(pauses[11], Config::default().idle_pause);
        assert_eq!(pace.after(&seen(1, 0)), Config::default().active_pause);
    }

    #[test]
    fn throttling_slows_even_a_reader_that_is_behind_and_wears_off() {
        let mut pace = pace();
        pace.slow_down();
        pace.slow_down();
        assert_eq!(pace.after(&seen(1000, 0)), SHORTEST * 2);
        assert_eq!(pace.after(&seen(1000, 0)), SHORTEST);
        for _ in 0..3 {
            pace.after(&seen(1000, 0));
        }
        assert_eq!(pace.after(&seen(1000, 0)), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn pauses_stay_in_their_bounds(
            active_ms in 0u64..5_000,
            idle_ms in 0u64..5_000,
            pages in prop::collection::vec((0usize..1001, 0u64..100_000, any::<bool>()), 1..50),
            unit in 0.0f64..1.0,
        ) {
            let config = Config {
                active_pause: Duration::from_millis(active_ms),
                idle_pause: Duration::from_millis(idle_ms),
            };
            let mut pace = Pace::new(&config);
            let longest = config.idle_pause.max(config.active_pause).max(SHORTEST);
            for (records, age_ms, throttled) in pages {
                if throttled {
                    pace.slow_down();
                }
                let page = seen(records, age_ms);
                let pause = jittered(pace.after(&page), unit);
                prop_assert!(page.is_behind() || pause >= SHORTEST);
                prop_assert!(pause <= jittered(longest + SLOWEST, unit));
            }
        }
    }
}
