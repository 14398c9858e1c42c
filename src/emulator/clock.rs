//! The region's time: milliseconds since the epoch that never go back.

use std::time::Duration;

use tokio::time::Instant;

use crate::clock;

#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    start: Instant,
    start_ms: u64,
}

impl Clock {
    pub(super) fn start() -> Self {
        let start_ms = u64::try_from(clock::Clock::System.unix_ms()).unwrap_or(0);
        Self { start: Instant::now(), start_ms }
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.start_ms + millis(self.start.elapsed())
    }
}

/// A duration in whole milliseconds.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
