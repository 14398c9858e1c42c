//! How many write requests a replica is given at once, found by trying: one more after each that succeeds, half
//! as many after a throttle, and pauses that grow while nothing succeeds.

use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;

/// The first pause after a fault. A table that is throttled refills its second's worth of tokens bit by bit, so
/// a twentieth of a second is enough to get some.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause while a replica throttles or fails: it is found up again this soon.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The longest pause while only a person can help: a wrong permission, a missing table.
const LONGEST_STALL: Duration = Duration::from_secs(30);

/// The pace of one replica.
#[derive(Debug)]
pub(super) struct Pace {
    width: f64,
    widest: f64,
    resumes_at: Option<Instant>,
    faults: Backoff,
    stalls: Backoff,
}

// === impl Pace ===

impl Pace {
    /// At most `widest` requests at once, and as many until the first fault.
    pub(super) fn new(widest: usize) -> Self {
        let widest = widest as f64;
        Self {
            width: widest,
            widest,
            resumes_at: None,
            faults: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
            stalls: Backoff::new(FIRST_PAUSE, LONGEST_STALL),
        }
    }

    /// Whether one more request may be sent besides `in_flight` others.
    pub(super) fn has_room(&self, in_flight: usize, now: Instant) -> bool {
        self.resumes_at.is_none_or(|at| at <= now) && in_flight < (self.width as usize).max(1)
    }

    /// When the pause ends; `None` when there is none.
    pub(super) fn resumes_at(&self) -> Option<Instant> {
        self.resumes_at
    }

    /// A request was done as a whole.
    pub(super) fn succeeded(&mut self) {
        self.width = (self.width + 1.0 / self.width).min(self.widest);
        self.resumes_at = None;
        self.faults.reset();
        self.stalls.reset();
    }

    /// The replica is overloaded or failing: fewer at once, after a pause. Gives the pause's end.
    pub(super) fn failed(&mut self, now: Instant) -> Instant {
        let pause = match self.resumes_at {
            // One of several that were sent together and fail together.
            Some(at) if at > now => return at,
            _ => self.faults.pause(),
        };
        self.width = (self.width / 2.0).max(1.0);
        self.pause_until(now + pause)
    }

    /// Nothing succeeds until a person helps: one try at a time, less and less often. Gives the pause's end.
    pub(super) fn stalled(&mut self, now: Instant) -> Instant {
        self.width = 1.0;
        match self.resumes_at {
            Some(at) if at > now => at,
            _ => {
                let pause = self.stalls.pause();
                self.pause_until(now + pause)
            }
        }
    }

    /// A pause for some keys only, while the others go on.
    pub(super) fn aside(&mut self, now: Instant) -> Instant {
        now + self.faults.pause()
    }

    fn pause_until(&mut self, at: Instant) -> Instant {
        self.resumes_at = Some(at);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_of_failures_counts_once_and_success_widens_again() {
        let mut pace = Pace::new(32);
        let now = Instant::now();
        let first = pace.failed(now);
        for _ in 0..31 {
            assert_eq!(pace.failed(now), first);
        }
        assert!(!pace.has_room(0, now) && pace.has_room(15, first) && !pace.has_room(16, first));
        for _ in 0..32 * 32 {
            pace.succeeded();
        }
        assert!(pace.has_room(31, now) && !pace.has_room(32, now));
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_to_their_limits_and_one_try_is_always_left() {
        let mut pace = Pace::new(4);
        let mut now = Instant::now();
        for _ in 0..40 {
            let resumes = pace.failed(now);
            assert!(resumes - now <= LONGEST_PAUSE);
            now = resumes;
            assert!(pace.has_room(0, now));
        }
        for _ in 0..40 {
            let resumes = pace.stalled(now);
            assert!(resumes - now <= LONGEST_STALL);
            now = resumes;
            assert!(pace.has_room(0, now) && !pace.has_room(1, now));
        }
    }
}
