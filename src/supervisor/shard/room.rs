//! Room for the next page: of the live cursor in the budget of every replica that it feeds, with how long a replica
//! without room is waited for while others have some; and of the catch-up cursor in the first budget that has some.

use std::time::Duration;

use futures_util::future::select_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Instant, sleep, sleep_until};

use crate::budget::{Budget, Reservation};
use crate::stream::{Metrics, PAGE_RESERVE_BYTES};

/// How long one replica may hold the others up at a time. Writes of a page take tens of milliseconds, and a throttled
/// or repeated one a few hundred: that is no reason to read the shard twice. It is half of what a poll of a quiet shard
/// may take anyway, and far below any lag that somebody is woken for.
const PATIENCE: Duration = Duration::from_millis(500);

/// Of the time that passes, patience regains one part in so many. A replica that is slower than the others by less
/// than this keeps its place; so it slows them by no more than a tenth in the long run.
const REGAINED: u32 = 10;

/// How often waiting for room is counted while it lasts.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);

/// The budgets of a shard's replicas.
pub(super) struct Room {
    budgets: Vec<Budget>,
    patience: Vec<Patience>,
}

/// How long a replica may still be waited for.
#[derive(Debug, Clone, Copy)]
struct Patience {
    left: Duration,
    at: Instant,
}

/// Room that was found.
pub(super) struct Found {
    /// By replica.
    pub(super) reserved: Vec<(usize, Reservation)>,
    /// Replicas that have none, and were waited for long enough.
    pub(super) lacking: Vec<usize>,
    /// Whether it was not there at once.
    pub(super) waited: bool,
}

// === impl Patience ===

impl Patience {
    fn left(&self, now: Instant) -> Duration {
        (self.left + now.saturating_duration_since(self.at) / REGAINED).min(PATIENCE)
    }

    fn charge(&mut self, waited: Duration, now: Instant) {
        *self = Self { left: self.left(now).saturating_sub(waited), at: now };
    }
}

// === impl Room ===

impl Room {
    pub(super) fn new(budgets: Vec<Budget>) -> Self {
        let patience = Patience { left: PATIENCE, at: Instant::now() };
        Self { patience: vec![patience; budgets.len()], budgets }
    }

    /// Whether a page would have room now.
    pub(super) fn is_there(&self, replica: usize) -> bool {
        self.budgets[replica].try_reserve(PAGE_RESERVE_BYTES).is_some()
    }

    /// Finds room for a page for one of `replicas` at least. Waits without end while there is none for anybody, and
    /// then for the others as long as patience lasts.
    pub(super) async fn find(&mut self, replicas: &[usize], metrics: &Metrics) -> Found {
        let mut reserved = Vec::with_capacity(replicas.len());
        let mut lacking = Vec::new();
        for replica in replicas {
            match self.budgets[*replica].try_reserve(PAGE_RESERVE_BYTES) {
                Some(reservation) => reserved.push((*replica, reservation)),
                None => lacking.push(*replica),
            }
        }
        let waited = !lacking.is_empty();
        if waited {
            counted(metrics, self.wait(&mut reserved, &mut lacking)).await;
            reserved.sort_by_key(|(replica, _)| *replica);
        }
        Found { reserved, lacking, waited }
    }

    /// Moves replicas from `lacking` to `reserved` as they get room. Those that are left were waited for enough.
    async fn wait(&mut self, reserved: &mut Vec<(usize, Reservation)>, lacking: &mut Vec<usize>) {
        let (budgets, patience) = (&self.budgets, &mut self.patience);
        let reserve =
            |replica: usize| async move { (replica, budgets[replica].reserve(PAGE_RESERVE_BYTES).await) };
        let mut waits: FuturesUnordered<_> = lacking.iter().map(|replica| reserve(*replica)).collect();
        // Nobody is held up before the first has room.
        let mut since = (!reserved.is_empty()).then(Instant::now);
        let mut open = std::mem::take(lacking);
        while !open.is_empty() {
            let ends = since
                .and_then(|since| open.iter().map(|replica| since + patience[*replica].left(since)).min());
            tokio::select! {
                biased;
                Some((replica, reservation)) = waits.next() => {
                    let now = Instant::now();
                    patience[replica].charge(now - *since.get_or_insert(now), now);
                    // One that was given up meanwhile gives its room back.
                    if let Some(index) = open.iter().position(|it| *it == replica) {
                        open.swap_remove(index);
                        reserved.push((replica, reservation));
                    }
                }
                () = sleep_until(ends.unwrap_or_else(Instant::now)), if ends.is_some() => {
                    let (now, since) = (Instant::now(), since.unwrap_or_else(Instant::now));
                    let is_over = |replica: &usize| since + patience[*replica].left(since) <= now;
                    let (over, left): (Vec<_>, Vec<_>) = open.into_iter().partition(is_over);
                    over.iter().for_each(|replica| patience[*replica].charge(now - since, now));
                    lacking.extend(over);
                    open = left;
                }
            }
        }
    }

    /// The first of `replicas`, each from its own time on, that has room for a page; earlier ones go first. Says
    /// whether it had to be waited for.
    pub(super) async fn first(&self, replicas: &[(usize, Instant)]) -> (usize, Reservation, bool) {
        let reserve = |(replica, due): &(usize, Instant)| {
            let (replica, due, budget) = (*replica, *due, &self.budgets[*replica]);
            Box::pin(async move {
                if due > Instant::now() {
                    sleep_until(due).await;
                }
                match budget.try_reserve(PAGE_RESERVE_BYTES) {
                    Some(reservation) => (replica, reservation, false),
                    None => (replica, budget.reserve(PAGE_RESERVE_BYTES).await, true),
                }
            })
        };
        select_all(replicas.iter().map(reserve)).await.0
    }
}

/// Counts how long `wait` takes, while it lasts.
async fn counted<T>(metrics: &Metrics, wait: impl Future<Output = T>) -> T {
    let mut wait = std::pin::pin!(wait);
    loop {
        let since = Instant::now();
        let found = tokio::select! {
            biased;
            found = &mut wait => Some(found),
            () = sleep(COUNT_INTERVAL) => None,
        };
        metrics.held_back(since.elapsed());
        if let Some(found) = found {
            return found;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Room for a page each, of which the replicas in `full` have none.
    fn room(count: usize, full: &[usize]) -> (Room, Vec<Reservation>) {
        let budgets: Vec<_> = (0..count).map(|_| Budget::new(PAGE_RESERVE_BYTES)).collect();
        let taken =
            full.iter().map(|replica| budgets[*replica].try_reserve(1).expect("it is empty")).collect();
        (Room::new(budgets), taken)
    }

    fn names(found: &Found) -> (Vec<usize>, Vec<usize>) {
        (found.reserved.iter().map(|(replica, _)| *replica).collect(), found.lacking.clone())
    }

    #[tokio::test(start_paused = true)]
    async fn one_without_room_is_waited_for_while_patience_lasts_and_then_no_longer() {
        let (mut room, _taken) = room(3, &[1]);
        for expected in [PATIENCE, Duration::ZERO] {
            let since = Instant::now();
            let found = room.find(&[0, 1, 2], &Metrics::default()).await;
            assert_eq!(names(&found), (vec![0, 2], vec![1]));
            assert!(
                found.waited && since.elapsed() <= expected + Duration::from_millis(2),
                "{:?}",
                since.elapsed()
            );
        }
        tokio::time::sleep(PATIENCE * REGAINED).await;
        let since = Instant::now();
        room.find(&[0, 1, 2], &Metrics::default()).await;
        assert!(since.elapsed() >= PATIENCE, "patience comes back with the time");
    }

    #[tokio::test(start_paused = true)]
    async fn while_nobody_has_room_the_first_is_waited_for_and_nobody_is_charged() {
        let (mut room, mut taken) = room(2, &[0, 1]);
        let metrics = Metrics::default();
        {
            let mut find = std::pin::pin!(room.find(&[0, 1], &metrics));
            let long = Duration::from_secs(60);
            assert!(tokio::time::timeout(long, &mut find).await.is_err());
            drop(taken.remove(1));
            let since = Instant::now();
            let found = find.await;
            assert_eq!(names(&found), (vec![1], vec![0]));
            assert!(since.elapsed() >= PATIENCE && metrics.backpressure() >= long);
        }
        drop(taken);
        assert!(room.is_there(0) && room.is_there(1), "room is kept for nobody");
        let found = room.find(&[0, 1], &metrics).await;
        assert!(!found.waited && found.lacking.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_with_room_is_served_in_the_order_that_is_given() {
        let (room, _taken) = room(3, &[0]);
        let now = Instant::now();
        assert_eq!(room.first(&[(0, now), (2, now), (1, now)]).await.0, 2);
        let later = now + Duration::from_secs(1);
        assert_eq!(room.first(&[(2, later), (1, now)]).await.0, 1);
        let (replica, _, waited) = room.first(&[(0, now), (2, later)]).await;
        assert!(replica == 2 && !waited && Instant::now() >= later);
    }
}
