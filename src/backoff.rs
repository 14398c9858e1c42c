//! Pauses between attempts: doubling up to a limit, each shortened at random so that many who failed together
//! do not come back together.

use std::time::Duration;

/// The pauses of one sequence of attempts.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    /// Pauses from `first`, which must not be zero, to `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        debug_assert!(!first.is_zero() && first <= longest);
        Self { first, longest, failures: 0 }
    }

    /// The pause after one more failure: between half and all of the doubled one.
    pub fn pause(&mut self) -> Duration {
        let doublings = self.failures.min(31);
        self.failures = self.failures.saturating_add(1);
        let full = self.first.saturating_mul(1 << doublings).min(self.longest);
        full.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// Starts over after a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit_and_start_over() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(300));
        for full_ms in [100, 200, 300, 300] {
            let pause = backoff.pause();
            let full = Duration::from_millis(full_ms);
            assert!(pause >= full / 2 && pause <= full, "{pause:?} for {full:?}");
        }
        backoff.reset();
        assert!(backoff.pause() <= Duration::from_millis(100));
    }

    #[test]
    fn endless_failure_does_not_overflow() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        let longest = (0..100).map(|_| backoff.pause()).max();
        assert!(longest <= Some(Duration::from_secs(60)));
    }
}
