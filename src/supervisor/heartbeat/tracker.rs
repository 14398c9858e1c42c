//! Which heartbeats are under way to one replica: plain decisions, no I/O.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::item::Beat;

/// The heartbeats of all slots on their way to one replica.
#[derive(Debug)]
pub(super) struct Tracker {
    slots: Vec<Watched>,
    /// One that is not in the replica for this long is lost.
    patience: Duration,
}

#[derive(Debug, Default)]
struct Watched {
    /// Oldest first.
    outstanding: VecDeque<Sent>,
    /// The newest that was read in the replica.
    newest: Option<Beat>,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    sequence: i64,
    at: Instant,
}

// === impl Tracker ===

impl Tracker {
    pub(super) fn new(slots: usize, patience: Duration) -> Self {
        Self { slots: (0..slots).map(|_| Watched::default()).collect(), patience }
    }

    /// A heartbeat of `slot` was sent to the source at `at`.
    pub(super) fn sent(&mut self, slot: usize, sequence: i64, at: Instant) {
        self.slots[slot].outstanding.push_back(Sent { sequence, at });
    }

    /// The replica has `beat` in `slot`, so all older ones came too, or were replaced by newer ones on their way. How
    /// long it took, unless it was seen before, was given up, or is another worker's.
    pub(super) fn seen(&mut self, slot: usize, beat: Beat, now: Instant) -> Option<Duration> {
        let slot = &mut self.slots[slot];
        if slot.newest.is_none_or(|newest| newest.sequence < beat.sequence) {
            slot.newest = Some(beat);
        }
        let mut took = None;
        while let Some(sent) = slot.outstanding.pop_front_if(|sent| sent.sequence <= beat.sequence) {
            took = (sent.sequence == beat.sequence).then(|| now.duration_since(sent.at));
        }
        took
    }

    /// Gives up what was sent too long ago. How many those are.
    pub(super) fn give_up(&mut self, now: Instant) -> u64 {
        let mut lost = 0;
        for slot in &mut self.slots {
            let is_old = |sent: &mut Sent| now.duration_since(sent.at) > self.patience;
            while slot.outstanding.pop_front_if(is_old).is_some() {
                lost += 1;
            }
        }
        lost
    }

    /// Whether any is outstanding.
    pub(super) fn waits(&self) -> bool {
        self.slots.iter().any(|slot| !slot.outstanding.is_empty())
    }

    /// When the newest heartbeat that was seen had been written, for the slot that is furthest behind.
    pub(super) fn applied_unix_ms(&self) -> Option<i64> {
        let newest = self.slots.iter().map(|slot| slot.newest.map(|newest| newest.written_unix_ms));
        // `None` is the least: a slot that was never seen leaves nothing proven.
        newest.min().flatten()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(50);

    fn beat(sequence: i64) -> Beat {
        Beat { sequence, written_unix_ms: 1_000 * sequence }
    }

    #[tokio::test(start_paused = true)]
    async fn a_newer_heartbeat_confirms_the_older_ones() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut tracker = Tracker::new(1, PATIENCE);
        for sequence in [1, 2, 3] {
            tracker.sent(0, sequence, at(10 * sequence as u64));
        }
        assert_eq!(tracker.seen(0, beat(2), at(31)), Some(Duration::from_secs(11)));
        assert_eq!(tracker.seen(0, beat(2), at(32)), None, "it was seen before");
        assert!(tracker.waits());
        assert_eq!(tracker.seen(0, beat(3), at(33)), Some(Duration::from_secs(3)));
        assert!(!tracker.waits());
        assert_eq!(tracker.applied_unix_ms(), Some(3_000));
        assert_eq!(tracker.give_up(at(1_000)), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_come_is_lost_once() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut tracker = Tracker::new(2, PATIENCE);
        tracker.sent(0, 1, at(0));
        tracker.sent(1, 1, at(0));
        tracker.sent(0, 2, at(10));
        assert_eq!(tracker.give_up(at(50)), 0);
        assert_eq!(tracker.give_up(at(51)), 2);
        assert_eq!(tracker.give_up(at(60)), 0);
        assert_eq!(tracker.seen(0, beat(1), at(60)), None, "it was given up");
        assert_eq!(tracker.applied_unix_ms(), None, "of the other slot nothing was seen");
        tracker.seen(1, beat(7), at(60));
        assert_eq!(tracker.applied_unix_ms(), Some(1_000));
    }

    proptest! {
        #[test]
        fn every_heartbeat_is_confirmed_or_lost_and_never_both(
            steps in prop::collection::vec((0..3_u8, 0..40_u64, any::<prop::sample::Index>()), 0..60),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let _entered = runtime.enter();
            let mut now = Instant::now();
            let mut tracker = Tracker::new(1, PATIENCE);
            let (mut sent, mut settled) = (0_i64, 0_u64);
            for (step, seconds, which) in steps {
                now += Duration::from_secs(seconds);
                let before = tracker.slots[0].outstanding.len() as u64;
                match step {
                    0 => {
                        sent += 1;
                        tracker.sent(0, sent, now);
                        continue;
                    }
                    1 => {
                        let sequence = which.index(sent as usize + 1) as i64;
                        let took = tracker.seen(0, beat(sequence), now);
                        prop_assert!(took.is_none_or(|took| took <= Duration::from_secs(40 * 60)));
                    }
                    _ => {
                        let lost = tracker.give_up(now);
                        prop_assert_eq!(lost, before - tracker.slots[0].outstanding.len() as u64);
                    }
                }
                settled += before - tracker.slots[0].outstanding.len() as u64;
            }
            prop_assert_eq!(settled + tracker.slots[0].outstanding.len() as u64, sent as u64);
        }
    }
}
