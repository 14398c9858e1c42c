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
    /// A right that this one is part of.
    outer: Option<Arc<Shared>>,
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
        Self { shared: Shared::new(0), outer: None }
    }

    /// A fence that is open while this one is, until it is revoked itself.
    pub fn within(&self) -> Self {
        debug_assert!(self.outer.is_none(), "there is one within another, and no third");
        Self { shared: Shared::new(u64::MAX), outer: Some(Arc::clone(&self.shared)) }
    }

    /// Whether this one was made [within](Self::within) `outer`.
    pub fn is_within(&self, outer: &Self) -> bool {
        self.outer.as_ref().is_some_and(|shared| Arc::ptr_eq(shared, &outer.shared))
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
        let is_open = |shared: &Arc<Shared>| shared.is_open(now) || mutation::is_on(Mutation::NoCutOff);
        is_open(&self.shared) && self.outer.as_ref().is_none_or(is_open)
    }
}

// === impl Shared ===

impl Shared {
    fn new(closes_at: u64) -> Arc<Self> {
        Arc::new(Self { epoch: Instant::now(), closes_at: AtomicU64::new(closes_at) })
    }

    fn is_open(&self, now: Instant) -> bool {
        nanos(now.saturating_duration_since(self.epoch)) < self.closes_at.load(Ordering::Acquire)
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

    #[tokio::test(start_paused = true)]
    async fn one_within_another_is_open_while_both_are() {
        let (outer, start) = (Fence::closed(), Instant::now());
        outer.open_until(start + Duration::from_secs(10));
        let (inner, revoked) = (outer.within(), outer.within());
        revoked.revoke();
        assert!(inner.is_within(&outer) && !inner.is_within(&Fence::closed()));
        assert!(inner.is_open(start) && !revoked.is_open(start) && outer.is_open(start));
        assert!(!inner.is_open(start + Duration::from_secs(10)));
        outer.revoke();
        assert!(!inner.is_open(start));
    }
}
