//! The right to write, which ends by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::mutation::{self, Mutation};

/// Whether a holder of a lease may still send a write (I5). Shared by whoever renews and whoever writes.
///
/// It opens by a renewal, counted from *before* the renewal was sent, and closes early enough that an attempt
/// begun in time has ended when the lease runs out.
#[derive(Debug, Clone)]
pub struct Fence {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    epoch: Instant,
    /// Nanoseconds after `epoch` from which on no write may be sent.
    closes_at: AtomicU64,
}

// === impl Fence ===

impl Fence {
    /// A fence that lets nothing pass yet.
    pub fn closed() -> Self {
        Self { shared: Arc::new(Shared { epoch: Instant::now(), closes_at: AtomicU64::new(0) }) }
    }

    /// Opens it until `closes_at`, or leaves it open if it closes later already.
    pub fn open_until(&self, closes_at: Instant) {
        let offset = closes_at.saturating_duration_since(self.shared.epoch);
        self.shared.closes_at.fetch_max(nanos(offset), Ordering::AcqRel);
    }

    /// When it closes by itself, or did; `None` while it was never opened, or after it was closed for good.
    pub fn closes_at(&self) -> Option<Instant> {
        let nanos = self.shared.closes_at.load(Ordering::Acquire);
        (nanos > 0).then(|| self.shared.epoch + Duration::from_nanos(nanos))
    }

    /// Closes it for good.
    pub fn revoke(&self) {
        self.shared.closes_at.store(0, Ordering::Release);
    }

    /// Whether a write may be sent at `now`.
    pub fn is_open(&self, now: Instant) -> bool {
        nanos(now.saturating_duration_since(self.shared.epoch))
            < self.shared.closes_at.load(Ordering::Acquire)
            || mutation::is_on(Mutation::NoCutOff)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_closes_by_itself_and_never_earlier_by_a_late_renewal() {
        let fence = Fence::closed();
        let start = Instant::now();
        assert!(!fence.is_open(start));
        fence.open_until(start + Duration::from_secs(10));
        fence.open_until(start + Duration::from_secs(5));
        assert!(fence.is_open(start + Duration::from_secs(9)));
        assert!(!fence.is_open(start + Duration::from_secs(10)));
        assert_eq!(fence.closes_at(), Some(start + Duration::from_secs(10)));
        fence.revoke();
        assert_eq!(fence.closes_at(), None);
        assert!(!fence.is_open(start));
    }
}
