//! Sends the generated load to the source at a steady rate, over several connections.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::info_span;

use super::load::{Counts, Generator};
use super::wire::Wire;
use crate::clock::Clock;
use crate::task::Tasks;

/// Requests under way at the same time: enough to keep the source busy while one of them is a large batch.
const SENDERS: u8 = 8;

/// A sender that fell behind by more than this forgets what it owes: a burst would measure only itself.
const DEBT_MAX: Duration = Duration::from_millis(500);

/// The senders.
#[derive(Debug)]
pub(super) struct Load {
    tasks: Tasks<()>,
    tally: Arc<Mutex<Tally>>,
}

/// What became of the load.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    /// Items that the source took.
    pub(super) written: Counts,
    /// The requests they were in.
    pub(super) requests: u64,
    /// Requests that failed.
    pub(super) failed: u64,
    /// Why the first of them did.
    pub(super) first_error: Option<String>,
}

/// When the next request is due.
#[derive(Debug)]
struct Pace {
    per_item: Duration,
    due: Instant,
}

// === impl Load ===

impl Load {
    /// Starts to write `rate` items a second through `wire`, until `stop`.
    pub(super) fn start(wire: &Wire, table: &str, rate: u32, seed: u64, stop: &CancellationToken) -> Self {
        let tally = Arc::new(Mutex::new(Tally::default()));
        let mut tasks = Tasks::new();
        let per_item = Duration::from_secs(u64::from(SENDERS)) / rate;
        for number in 0..SENDERS {
            let generator = Generator::new(seed, number, table);
            let pace = Pace {
                per_item,
                // They begin one after the other, so that the rate is even from the start.
                due: Instant::now() + per_item * u32::from(number) / u32::from(SENDERS),
            };
            let sent = send(generator, wire.clone(), pace, Arc::clone(&tally), stop.clone());
            tasks.spawn(info_span!("load", number), sent);
        }
        Self { tasks, tally }
    }

    /// What has been written by now.
    pub(super) fn tally(&self) -> Tally {
        lock(&self.tally).clone()
    }

    /// Waits until all requests are answered, after the load was stopped.
    pub(super) async fn finished(&mut self) {
        while self.tasks.next().await.is_some() {}
    }
}

async fn send(
    mut generator: Generator,
    wire: Wire,
    mut pace: Pace,
    tally: Arc<Mutex<Tally>>,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = sleep_until(pace.due) => {}
        }
        let request = generator.draw(Clock::System.unix_ms());
        let sent = wire.call(request.operation, request.body).await;
        let mut tally = lock(&tally);
        match sent {
            Ok(_) => {
                tally.written.add(&request.counts);
                tally.requests += 1;
            }
            Err(error) => {
                tally.failed += 1;
                tally.first_error.get_or_insert_with(|| error.to_string());
            }
        }
        drop(tally);
        pace.sent(request.counts.items(), Instant::now());
    }
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Pace ===

impl Pace {
    /// `items` were sent, and it is `now`.
    fn sent(&mut self, items: u64, now: Instant) {
        let items = u32::try_from(items).unwrap_or(u32::MAX);
        let due = self.due + self.per_item * items;
        let earliest = now.checked_sub(DEBT_MAX).unwrap_or(now);
        self.due = due.max(earliest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pace_is_kept_and_a_large_debt_is_forgotten() {
        let start = Instant::now();
        let mut pace = Pace { per_item: Duration::from_millis(10), due: start };
        pace.sent(5, start);
        assert_eq!(pace.due - start, Duration::from_millis(50));
        pace.sent(1, start + Duration::from_millis(100));
        assert_eq!(pace.due - start, Duration::from_millis(60));
        let late = start + Duration::from_secs(9);
        pace.sent(1, late);
        assert_eq!(late - pace.due, DEBT_MAX);
    }
}
