//! What reading a shard costs its worker, as one number that leases are spread by.
//!
//! It is the bytes that were read per second, smoothed, plus what a shard costs on which nothing happens. The holder
//! measures it and writes it into the shard's row with its renewals, so that every worker counts with the same number.

use std::time::Duration;

use tokio::time::Instant;

/// What an idle shard costs, in bytes per second: it is polled all the time. A poll costs a worker about as much as
/// reading and writing a dozen changes of 1 KB (measured: 3 to 4 microseconds for a change, 50 for a call), and a quiet
/// shard is polled about once a second.
pub const IDLE: u64 = 16 * 1024;

/// Time over which the rate is smoothed: shards must not change hands for a burst that is over before the move is.
const SMOOTHED_OVER: Duration = Duration::from_secs(60);

/// Measures one shard.
#[derive(Debug, Clone)]
pub struct Meter {
    bytes_per_second: f64,
    bytes: u64,
    at: Instant,
}

// === impl Meter ===

impl Meter {
    /// A meter that goes on from what the last holder measured.
    pub fn new(before: Option<u64>, now: Instant) -> Self {
        let bytes_per_second = before.unwrap_or(IDLE).saturating_sub(IDLE) as f64;
        Self { bytes_per_second, bytes: 0, at: now }
    }

    /// So many bytes were read since the meter was made. Says what the shard costs.
    pub fn read(&mut self, bytes: u64, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        if elapsed > 0.0 {
            let rate = bytes.saturating_sub(self.bytes) as f64 / elapsed;
            let weight = 1.0 - (-elapsed / SMOOTHED_OVER.as_secs_f64()).exp();
            self.bytes_per_second += (rate - self.bytes_per_second) * weight;
            (self.bytes, self.at) = (bytes, now);
        }
        IDLE + self.bytes_per_second as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_hardly_counts_and_a_lasting_load_does() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut meter = Meter::new(None, start);
        assert_eq!(meter.read(0, at(1)), IDLE);
        let burst = meter.read(1_000_000, at(2));
        assert!((IDLE + 10_000..IDLE + 20_000).contains(&burst), "{burst}");
        let mut load = 0;
        for second in 3..400 {
            load = meter.read(1_000_000 + (second - 2) * 50_000, at(second));
        }
        assert!((IDLE + 49_000..IDLE + 51_000).contains(&load), "{load}");
        // The next holder goes on from there.
        let next = Meter::new(Some(load), at(400)).read(50_000, at(401));
        assert!(next.abs_diff(load) < 100, "{next} after {load}");
    }
}
