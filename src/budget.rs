//! Memory as something that is reserved before it is used.
//!
//! A replica may hold so many bytes of changes. Whoever wants to fetch more reserves room first and waits while
//! there is none; that is how a slow replica holds back the calls that read its source for it, and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Mutex, Notify};

use crate::mutation::{self, Mutation};

/// So many bytes, shared by clones.
#[derive(Debug, Clone)]
pub struct Budget {
    shared: Arc<Shared>,
}

/// Bytes of a [`Budget`] that are taken until this is dropped.
#[derive(Debug)]
pub struct Reservation {
    shared: Arc<Shared>,
    bytes: usize,
}

#[derive(Debug)]
struct Shared {
    limit_bytes: usize,
    used_bytes: AtomicUsize,
    /// Held by the one who waits first, so that the others stand in line behind.
    turn: Mutex<()>,
    /// At most one waits for it, the holder of `turn`.
    freed: Notify,
}

// === impl Budget ===

impl Budget {
    /// A budget of `limit_bytes`, all free.
    pub fn new(limit_bytes: usize) -> Self {
        let shared = Shared {
            limit_bytes,
            used_bytes: AtomicUsize::new(0),
            turn: Mutex::new(()),
            freed: Notify::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Takes `bytes`, waiting in line until they are free. A reservation larger than the whole budget is given
    /// when nothing else is taken, so that every reservation is given in the end.
    pub async fn reserve(&self, bytes: usize) -> Reservation {
        let _turn = self.shared.turn.lock().await;
        loop {
            if let Some(reservation) = self.take(bytes) {
                return reservation;
            }
            self.shared.freed.notified().await;
        }
    }

    /// Takes `bytes` if they are free and nobody waits.
    pub fn try_reserve(&self, bytes: usize) -> Option<Reservation> {
        let _turn = self.shared.turn.try_lock().ok()?;
        self.take(bytes)
    }

    /// Bytes that are taken now.
    pub fn used_bytes(&self) -> usize {
        self.shared.used_bytes.load(Ordering::Relaxed)
    }

    /// Bytes that may be taken together.
    pub fn limit_bytes(&self) -> usize {
        self.shared.limit_bytes
    }

    /// Only called with the turn, and so the only one that adds besides [`Reservation::resize`].
    fn take(&self, bytes: usize) -> Option<Reservation> {
        let room = |used: usize| used == 0 || used + bytes <= self.shared.limit_bytes;
        let fits = |used| (room(used) || mutation::is_on(Mutation::BudgetIgnored)).then_some(used + bytes);
        self.shared.used_bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).ok()?;
        Some(Reservation { shared: Arc::clone(&self.shared), bytes })
    }
}

// === impl Reservation ===

impl Reservation {
    /// Makes it `bytes`: gives back what was taken too much, or counts what came on top, even beyond the limit,
    /// because it is in memory already.
    pub fn resize(&mut self, bytes: usize) {
        if bytes >= self.bytes {
            self.shared.used_bytes.fetch_add(bytes - self.bytes, Ordering::AcqRel);
        } else {
            self.shared.used_bytes.fetch_sub(self.bytes - bytes, Ordering::AcqRel);
            self.shared.freed.notify_one();
        }
        self.bytes = bytes;
    }

    /// Bytes taken.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.resize(0);
        self.shared.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_in_line_is_served_first_whatever_it_asks() {
        let budget = Budget::new(10);
        let first = budget.reserve(6).await;
        let second = budget.reserve(4).await;
        let mut tasks = crate::task::Tasks::new();
        let waiter = budget.clone();
        tasks.spawn(tracing::Span::none(), async move { waiter.reserve(8).await.bytes() });
        tokio::task::yield_now().await;
        drop(second);
        tokio::task::yield_now().await;
        assert!(budget.try_reserve(1).is_none(), "somebody jumped the line");
        drop(first);
        assert_eq!(tasks.next().await, Some(8));
        assert_eq!(budget.used_bytes(), 0);
    }

    #[tokio::test]
    async fn a_reservation_larger_than_all_is_given_alone() {
        let budget = Budget::new(10);
        let small = budget.reserve(1).await;
        assert!(budget.try_reserve(11).is_none());
        drop(small);
        let large = budget.reserve(11).await;
        assert!(budget.try_reserve(1).is_none());
        drop(large);
    }

    #[tokio::test]
    async fn resizing_counts_beyond_the_limit() {
        let budget = Budget::new(10);
        let mut reservation = budget.reserve(10).await;
        reservation.resize(25);
        assert_eq!(budget.used_bytes(), 25);
        reservation.resize(2);
        assert_eq!(budget.try_reserve(8).expect("room was given back").bytes(), 8);
    }
}
