//! Lots are settled in any order; the frontier moves over them in theirs.

use std::collections::VecDeque;

use super::Checkpoint;
use crate::mutation::{self, Mutation};
use crate::shard::Position;

/// The name of a lot within its frontier.
pub type LotNumber = u64;

/// How much earlier than a record's time all changes are known to be applied once it is: the service rounds
/// creation times down to the second, so a record of the same second may still follow.
const ROUNDING_MS: i64 = 1_000;

/// The progress of one replica in one shard.
#[derive(Debug)]
pub struct Frontier {
    reached: Checkpoint,
    open: VecDeque<Lot>,
    first_open: LotNumber,
}

#[derive(Debug)]
struct Lot {
    settled: bool,
    position: Position,
    newest_unix_ms: Option<i64>,
}

// === impl Frontier ===

impl Frontier {
    /// Progress starts from what was reached before.
    pub fn new(reached: Checkpoint) -> Self {
        Self { reached, open: VecDeque::new(), first_open: 0 }
    }

    /// Opens the next lot. When it is settled, everything up to `position` is done; `newest_unix_ms` is the time
    /// of the newest record up to there.
    pub fn admit(&mut self, position: Position, newest_unix_ms: Option<i64>) -> LotNumber {
        if position.is_end() && mutation::is_on(Mutation::EndBeforeSettled) {
            self.reached.position = position;
        }
        self.open.push_back(Lot { settled: false, position, newest_unix_ms });
        self.first_open + self.open.len() as u64 - 1
    }

    /// Every change of the lot is durable. Says whether the frontier moved. A lot that is not open is ignored.
    pub fn settle(&mut self, number: LotNumber) -> bool {
        let lot = number.checked_sub(self.first_open).and_then(|index| self.open.get_mut(index as usize));
        let Some(lot) = lot else { return false };
        lot.settled = true;
        if mutation::is_on(Mutation::CheckpointOutOfOrder) {
            self.reached.position = lot.position;
        }
        let mut moved = false;
        while let Some(lot) = self.open.pop_front_if(|lot| lot.settled) {
            self.first_open += 1;
            let through = lot.newest_unix_ms.map(|newest| newest - ROUNDING_MS);
            self.reached.advance(&Checkpoint {
                position: lot.position,
                applied_through_unix_ms: through,
                read_through_unix_ms: through.unwrap_or(i64::MIN),
                epoch: self.reached.epoch,
            });
            moved = true;
        }
        if let Some(next) = self.open.front().filter(|_| mutation::is_on(Mutation::CheckpointOneTooFar)) {
            self.reached.position = next.position;
        }
        moved
    }

    /// Takes note that every change made up to `unix_ms` has been read, as far as some empty polls can tell; `surely`
    /// when there were so many that nothing old can follow. It counts when all that was read is settled too, and is
    /// ignored otherwise.
    pub fn prove(&mut self, unix_ms: i64, surely: bool) {
        if self.is_settled() {
            self.reached.applied_through_unix_ms = self.reached.applied_through_unix_ms.max(Some(unix_ms));
            if surely {
                self.reached.read_through_unix_ms = self.reached.read_through_unix_ms.max(unix_ms);
            }
        }
    }

    /// Whether everything admitted is settled.
    pub fn is_settled(&self) -> bool {
        self.open.is_empty()
    }

    /// What has been reached.
    pub fn reached(&self) -> &Checkpoint {
        &self.reached
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::shard::SequenceNumber;

    fn after(number: u64) -> Position {
        Position::After(number.to_string().parse::<SequenceNumber>().expect("a sequence number"))
    }

    fn frontier() -> Frontier {
        Frontier::new(Checkpoint::starting(Position::TrimHorizon, 0))
    }

    #[test]
    fn only_the_contiguous_prefix_counts() {
        let mut frontier = frontier();
        let lots: Vec<_> = (1..=3).map(|number| frontier.admit(after(number), Some(5_000))).collect();
        assert!(!frontier.settle(lots[1]));
        assert_eq!(frontier.reached().position, Position::TrimHorizon);
        assert!(frontier.settle(lots[0]));
        assert_eq!(frontier.reached().position, after(2));
        assert_eq!(frontier.reached().applied_through_unix_ms, Some(4_000));
        assert!(frontier.settle(lots[2]) && frontier.is_settled());
        assert!(!frontier.settle(lots[2]), "a lot was settled twice");
    }

    #[test]
    fn idle_time_counts_only_when_nothing_is_open() {
        let mut frontier = frontier();
        let lot = frontier.admit(after(1), Some(5_000));
        frontier.prove(9_000, true);
        assert_eq!(frontier.reached().applied_through_unix_ms, None);
        frontier.settle(lot);
        frontier.prove(9_000, false);
        assert_eq!(frontier.reached().applied_through_unix_ms, Some(9_000));
        assert_eq!(frontier.reached().read_through_unix_ms, 4_000, "a few empty polls are no proof");
        frontier.prove(9_000, true);
        assert_eq!(frontier.reached().read_through_unix_ms, 9_000);
    }

    proptest! {
        /// Against the plainest definition: the frontier stands at the last lot before the first unsettled one.
        #[test]
        fn the_frontier_never_passes_an_unsettled_lot(
            order in (1usize..30).prop_flat_map(|n| Just((0..n).collect::<Vec<_>>()).prop_shuffle()),
        ) {
            let mut frontier = frontier();
            let lots: Vec<_> = (0..order.len()).map(|index| frontier.admit(after(index as u64), None)).collect();
            let mut settled = vec![false; order.len()];
            for index in order {
                frontier.settle(lots[index]);
                settled[index] = true;
                let prefix = settled.iter().take_while(|done| **done).count();
                let expected = if prefix == 0 { Position::TrimHorizon } else { after(prefix as u64 - 1) };
                prop_assert_eq!(frontier.reached().position, expected);
            }
            prop_assert!(frontier.is_settled());
        }
    }
}
