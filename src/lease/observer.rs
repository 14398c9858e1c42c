//! Which counters stand still, and so whose leases may be taken: what one worker saw, by its own clock.
//!
//! Whoever lives raises a counter in its row all the time. Nobody compares wall clocks: an [`Observer`] keeps since when,
//! by its own monotonic clock, it has seen each counter where it is. One that was never seen before may have stood there
//! for long, and counts as having moved just now.

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

/// Since when each of some counters has stood still, as one worker saw them.
#[derive(Debug)]
pub struct Observer<K> {
    seen: BTreeMap<K, (i64, Instant)>,
}

/// What one worker has seen of the leases of shards that it does not hold.
#[derive(Debug, Default)]
pub struct Claims {
    held: Observer<ShardId>,
    /// The leases that can be taken.
    claimable: Observer<ShardId>,
}

// === impl Observer ===

impl<K> Default for Observer<K> {
    fn default() -> Self {
        Self { seen: BTreeMap::new() }
    }
}

impl<K: Ord> Observer<K> {
    /// Sees `counter` at `now`. Says how long it has stood there.
    pub fn look(&mut self, key: K, counter: i64, now: Instant) -> Duration {
        let seen = self.seen.entry(key).or_insert((counter, now));
        if seen.0 != counter {
            *seen = (counter, now);
        }
        now.saturating_duration_since(seen.1)
    }

    /// How long a counter has stood still at `now`, as of the last look at it; nothing for one that was never seen.
    pub fn still_for(&self, key: &K, now: Instant) -> Duration {
        self.seen.get(key).map_or(Duration::ZERO, |(_, since)| now.saturating_duration_since(*since))
    }

    /// Forgets a counter that need not be watched any more.
    pub fn forget(&mut self, key: &K) {
        self.seen.remove(key);
    }

    /// Forgets all but those that `is_watched`.
    pub fn retain(&mut self, is_watched: impl Fn(&K) -> bool) {
        self.seen.retain(|key, _| is_watched(key));
    }

    /// Whether `worker` may take the lease of a row, whose owner and counter were read at `now`. What was seen before a
    /// release says nothing about the next holder.
    pub fn claim(
        &mut self,
        key: K,
        (owner, counter): (Option<&str>, i64),
        worker: &str,
        duration: Duration,
        now: Instant,
    ) -> Claim {
        match owner {
            None => {
                self.forget(&key);
                Claim::Free
            }
            // An earlier task of this same worker held it; an attempt of that one may still be under way.
            Some(owner) if owner == worker => Claim::Expired,
            Some(_) => match duration.saturating_sub(self.look(key, counter, now)) {
                Duration::ZERO => Claim::Expired,
                left => Claim::Held(left),
            },
        }
    }
}

// === impl Claims ===

impl Claims {
    /// Whether `worker` may take `row`, as it was read at `now`.
    pub fn claim(&mut self, row: &Row, worker: &str, duration: Duration, now: Instant) -> Claim {
        let owner = row.owner.as_deref();
        let mut claim = self.held.claim(row.shard.clone(), (owner, row.counter), worker, duration, now);
        if mutation::is_on(Mutation::StealHeld) && owner.is_some_and(|owner| owner != worker) {
            claim = Claim::Free;
        }
        if let Claim::Held(_) = claim {
            self.claimable.forget(&row.shard);
        } else {
            self.claimable.look(row.shard.clone(), row.counter, now);
        }
        claim
    }

    /// How long the lease has been free to take without anybody taking it, as of the last look at it.
    pub fn unclaimed_for(&self, shard: &ShardId, now: Instant) -> Duration {
        self.claimable.still_for(shard, now)
    }

    /// Forgets a lease that need not be watched any more.
    pub fn forget(&mut self, shard: &ShardId) {
        self.held.forget(shard);
        self.claimable.forget(shard);
    }
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
        let mut claims = Claims::default();
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        assert_eq!(claims.claim(&held(1), "me", DURATION, at(0)), Claim::Held(DURATION));
        assert_eq!(claims.claim(&held(1), "me", DURATION, at(9)), Claim::Held(Duration::from_secs(1)));
        assert_eq!(claims.claim(&held(2), "me", DURATION, at(9)), Claim::Held(DURATION));
        assert_eq!(claims.claim(&held(2), "me", DURATION, at(18)), Claim::Held(Duration::from_secs(1)));
        assert_eq!(claims.claim(&held(2), "me", DURATION, at(19)), Claim::Expired);
    }

    #[tokio::test(start_paused = true)]
    async fn a_released_lease_is_free_at_once_and_an_own_one_needs_settling() {
        let mut claims = Claims::default();
        let now = Instant::now();
        assert_eq!(claims.claim(&Row { owner: None, ..held(1) }, "me", DURATION, now), Claim::Free);
        assert_eq!(claims.claim(&held(1), "other", DURATION, now), Claim::Expired);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_nobody_takes_is_known_for_how_long() {
        let mut claims = Claims::default();
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let free = |counter| Row { owner: None, ..held(counter) };
        let shard = free(1).shard;
        assert_eq!(claims.unclaimed_for(&shard, at(0)), Duration::ZERO);
        claims.claim(&free(1), "me", DURATION, at(0));
        claims.claim(&free(1), "me", DURATION, at(2));
        assert_eq!(claims.unclaimed_for(&shard, at(3)), Duration::from_secs(3));
        claims.claim(&held(2), "me", DURATION, at(4));
        assert_eq!(claims.unclaimed_for(&shard, at(5)), Duration::ZERO);
        claims.claim(&free(3), "me", DURATION, at(6));
        claims.claim(&free(4), "me", DURATION, at(8));
        assert_eq!(claims.unclaimed_for(&shard, at(9)), Duration::from_secs(1));
    }
}
