//! The time of day. Durations are always measured on tokio's monotonic clock; this is only for what leaves the
//! process: creation times, checkpoints, logs.

use tokio::time::Instant;

/// Tells the time of day.
#[derive(Debug, Clone, Copy)]
pub enum Clock {
    /// The system's.
    System,
    /// One that moves with tokio's clock, which tests stop and turn.
    Simulated {
        /// Its time at `start`, in milliseconds since 1970.
        start_unix_ms: i64,
        /// When it was started.
        start: Instant,
    },
}

impl Clock {
    /// Now, in milliseconds since 1970.
    pub fn unix_ms(&self) -> i64 {
        match self {
            Self::System => system_unix_ms(),
            Self::Simulated { start_unix_ms, start } => {
                start_unix_ms + i64::try_from(start.elapsed().as_millis()).unwrap_or(i64::MAX)
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
fn system_unix_ms() -> i64 {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since_1970.map_or(0, |elapsed| i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX))
}
