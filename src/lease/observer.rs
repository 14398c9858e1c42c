//! Whether a lease may be taken: what one worker saw of its counter, by its own clock.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::row::Row;
use crate::mutation::{self, Mutation};
use crate::shard::ShardId;

/// How a lease may be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// It was released, or never held: its new holder may write at once.
    Free,
    /// Its holder was silent for a whole duration: the new holder waits before its first write.
    Expired,
    /// It is held; look again after this time.
    Held(Duration),
}

/// What one worker has seen of the counters of leases that others hold.
#[derive(Debug, Default)]
pub struct Observer {
    seen: BTreeMap<ShardId, (i64, Instant)>,
    /// Since when a lease can be taken, with its counter.
    claimable: BTreeMap<ShardId, (i64, Instant)>,
}

// === impl Observer ===

impl Observer {
    /// Whether `worker` may take `row`, as it was read at `now`.
    pub fn claim(&mut self, row: &Row, worker: &str, duration: Duration, now: Instant) -> Claim {
        let claim = self.judge(row, worker, duration, now);
        if let Claim::Held(_) = claim {
            self.claimable.remove(&row.shard);
        } else {
            keep_while_still(&mut self.claimable, row, now);
        }
        claim
    }

    /// How long the lease has been free to take without anybody taking it, as of the last look at it.
    pub fn unclaimed_for(&self, shard: &ShardId, now: Instant) -> Duration {
        self.claimable.get(shard).map_or(Duration::ZERO, |(_, since)| now.saturating_duration_since(*since))
    }

    /// Forgets a lease that need not be watched any more.
    pub fn forget(&mut self, shard: &ShardId) {
        self.seen.remove(shard);
        self.claimable.remove(shard);
    }

    fn judge(&mut self, row: &Row, worker: &str, duration: Duration, now: Instant) -> Claim {
        match &row.owner {
            None => return Claim::Free,
            // An earlier task of this same worker held it; an attempt of that one may still be under way.
            Some(owner) if owner == worker => return Claim::Expired,
            Some(_) => {}
        }
        let since = keep_while_still(&mut self.seen, row, now);
        match (since + duration).checked_duration_since(now) {
            _ if mutation::is_on(Mutation::StealHeld) => Claim::Free,
            Some(left) if !left.is_zero() => Claim::Held(left),
            _ => Claim::Expired,
        }
    }
}

/// Since when a row has had its counter.
fn keep_while_still(seen: &mut BTreeMap<ShardId, (i64, Instant)>, row: &Row, now: Instant) -> Instant {
    let seen = seen.entry(row.shard.clone()).or_insert((row.counter, now));
    if seen.0 != row.counter {
        *seen = (row.counter, now);
    }
    seen.1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    use super::super::row::tests::any_row;
    use super::*;

    const DURATION: Duration = Duration::from_secs(10);

    fn held(counter: i64) -> Row {
        let row = any_row().new_tree(&mut TestRunner::deterministic()).expect("a row").current();
        Row { owner: Some("other".to_owned()), counter, ..row }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_expires_when_its_counter_stands_still_for_a_whole_duration() {
        let mut observer = Observer::default();
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        assert_eq!(observer.claim(&held(1), "me", DURATION, at(0)), Claim::Held(DURATION));
        assert_eq!(observer.claim(&held(1), "me", DURATION, at(9)), Claim::Held(Duration::from_secs(1)));
        assert_eq!(observer.claim(&held(2), "me", DURATION, at(9)), Claim::Held(DURATION));
        assert_eq!(observer.claim(&held(2), "me", DURATION, at(18)), Claim::Held(Duration::from_secs(1)));
        assert_eq!(observer.claim(&held(2), "me", DURATION, at(19)), Claim::Expired);
    }

    #[tokio::test(start_paused = true)]
    async fn a_released_lease_is_free_at_once_and_an_own_one_needs_settling() {
        let mut observer = Observer::default();
        let now = Instant::now();
        assert_eq!(observer.claim(&Row { owner: None, ..held(1) }, "me", DURATION, now), Claim::Free);
        assert_eq!(observer.claim(&held(1), "other", DURATION, now), Claim::Expired);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_nobody_takes_is_known_for_how_long() {
        let mut observer = Observer::default();
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let free = |counter| Row { owner: None, ..held(counter) };
        let shard = free(1).shard;
        assert_eq!(observer.unclaimed_for(&shard, at(0)), Duration::ZERO);
        observer.claim(&free(1), "me", DURATION, at(0));
        observer.claim(&free(1), "me", DURATION, at(2));
        assert_eq!(observer.unclaimed_for(&shard, at(3)), Duration::from_secs(3));
        observer.claim(&held(2), "me", DURATION, at(4));
        assert_eq!(observer.unclaimed_for(&shard, at(5)), Duration::ZERO);
        observer.claim(&free(3), "me", DURATION, at(6));
        observer.claim(&free(4), "me", DURATION, at(8));
        assert_eq!(observer.unclaimed_for(&shard, at(9)), Duration::from_secs(1));
    }
}
