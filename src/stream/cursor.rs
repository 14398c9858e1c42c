//! Where a shard is read: what was read, how to ask for what comes next, and what to leave out.

use crate::mutation::{self, Mutation};
use crate::record::Record;
use crate::shard::Position;

/// How old the decision to start at the latest record may be for it to be asked for as such: what starting a
/// process takes. Later it would skip what was written while the reader waited for room or for an answer.
const LATEST_AGE_MAX_MS: i64 = 5_000;

/// A reader's place in its shard.
#[derive(Debug, Clone)]
pub(super) struct Cursor {
    /// After what was read; the start while nothing was.
    position: Position,
    /// How the next iterator is asked for.
    ask: Position,
    /// Records created before this second are left out, until the first that is not.
    from_unix_s: Option<i64>,
}

// === impl Cursor ===

impl Cursor {
    pub(super) fn new(start: Position, fresh: bool) -> Self {
        let ask = match start {
            Position::Latest { .. } if fresh => start,
            other => by_time(other),
        };
        Self { position: start, ask, from_unix_s: None }
    }

    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// Records created before this time, in milliseconds since 1970, would be left out now.
    pub(super) fn leaves_out_before_unix_ms(&self) -> Option<i64> {
        self.from_unix_s.map(|from| from * 1000)
    }

    /// The position to get an iterator at. `Latest` is given once, and soon: asked for again it would skip what
    /// was written since.
    pub(super) fn ask(&mut self, now_unix_ms: i64) -> Position {
        if let Position::Latest { since_unix_ms } = self.ask {
            let asked = self.ask;
            if !mutation::is_on(Mutation::LatestAgain) {
                self.ask = by_time(asked);
            }
            if now_unix_ms - since_unix_ms <= LATEST_AGE_MAX_MS || mutation::is_on(Mutation::LatestAgain) {
                return asked;
            }
        }
        if let Position::At { unix_ms } = self.ask {
            self.from_unix_s = Some(second(unix_ms));
        }
        self.ask
    }

    /// From the oldest record on, leaving out what is older than the start: where the endpoint cannot start at a
    /// time, or the position was trimmed and nothing was lost.
    pub(super) fn go_to_trim_horizon(&mut self) {
        self.ask = Position::TrimHorizon;
        if let Some(from_unix_ms) = self.position.from_unix_ms() {
            self.from_unix_s = Some(second(from_unix_ms));
        }
    }

    /// Moves over a page, takes out what is to be left out and returns how much that was.
    pub(super) fn admit(&mut self, records: &mut Vec<Record>) -> u64 {
        let Some(last) = records.last().map(|record| Position::After(record.sequence)) else {
            return 0;
        };
        let before = self.position;
        let given = records.len();
        records.retain(|record| {
            let new = before < Position::After(record.sequence);
            let in_time = self.from_unix_s.is_none_or(|from| second(record.created_unix_ms) >= from);
            if new && in_time {
                // The start is the first record in time; times are approximate and order is not.
                self.from_unix_s = None;
            }
            new && in_time
        });
        if before < last {
            self.position = last;
            self.ask = last;
        }
        (given - records.len()) as u64
    }
}

/// A start by time, at the whole second: a record made half a second after it carries its second's beginning.
fn by_time(start: Position) -> Position {
    let at_second = |unix_ms| Position::At { unix_ms: second(unix_ms) * 1000 };
    start.from_unix_ms().map_or(start, at_second)
}

fn second(unix_ms: i64) -> i64 {
    unix_ms.div_euclid(1000)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stream::script::{after, record};

    const NOW: i64 = 10_000;

    fn numbers(records: &[Record]) -> Vec<String> {
        records.iter().map(|record| record.sequence.as_str().to_owned()).collect()
    }

    #[test]
    fn latest_is_asked_for_once_and_only_by_who_decided_it() {
        let start = Position::Latest { since_unix_ms: 5_700 };
        let mut fresh = Cursor::new(start, true);
        // Ten seconds earlier than decided, for clocks that differ.
        let by_time = Position::At { unix_ms: -5_000 };
        assert_eq!(fresh.ask(5_800), start);
        assert_eq!(fresh.ask(5_900), by_time);
        assert_eq!(fresh.position(), start, "nothing was read");
        assert_eq!(Cursor::new(start, false).ask(5_800), by_time);
        assert_eq!(Cursor::new(start, true).ask(10_701), by_time, "it waited too long");
    }

    #[test]
    fn what_is_older_than_the_starting_second_is_left_out_until_the_first_that_is_not() {
        let mut cursor = Cursor::new(Position::At { unix_ms: 5_999 }, false);
        cursor.ask(NOW);
        let mut records = vec![record(1, 4_000), record(2, 5_000), record(3, 4_000)];
        assert_eq!(cursor.admit(&mut records), 1);
        assert_eq!(numbers(&records), ["2", "3"]);
        assert_eq!(cursor.position(), after(3));
    }

    #[test]
    fn the_position_moves_over_what_is_left_out() {
        let mut cursor = Cursor::new(Position::At { unix_ms: 9_000 }, false);
        cursor.ask(NOW);
        cursor.go_to_trim_horizon();
        let mut records = vec![record(1, 4_000), record(2, 5_000)];
        assert_eq!(cursor.admit(&mut records), 2);
        assert_eq!(cursor.ask(NOW), after(2));
        let mut records = vec![record(3, 8_000), record(4, 9_000)];
        assert_eq!(cursor.admit(&mut records), 1, "the start is still to come");
    }

    #[test]
    fn a_latest_start_that_goes_to_the_trim_horizon_does_not_bring_the_past() {
        let mut cursor = Cursor::new(Position::Latest { since_unix_ms: 19_000 }, true);
        cursor.ask(NOW);
        cursor.go_to_trim_horizon();
        assert_eq!(cursor.admit(&mut vec![record(1, 8_000), record(2, 9_000)]), 1);
    }

    #[test]
    fn records_through_a_latest_iterator_are_kept_whatever_the_clocks_say() {
        let mut cursor = Cursor::new(Position::Latest { since_unix_ms: 9_000 }, true);
        cursor.ask(NOW);
        assert_eq!(cursor.admit(&mut vec![record(1, 4_000)]), 0);
    }

    proptest! {
        #[test]
        fn each_record_comes_out_once_however_often_pages_overlap(
            pages in prop::collection::vec((0u64..40, 0u64..20), 1..20),
        ) {
            let mut cursor = Cursor::new(Position::TrimHorizon, false);
            let mut next = 0;
            for (back, more) in pages {
                let from = u64::saturating_sub(next, back);
                let mut records: Vec<_> = (from..next + more).map(|number| record(number, 0)).collect();
                let given = records.len() as u64;
                let skipped = cursor.admit(&mut records);
                prop_assert_eq!(skipped + records.len() as u64, given);
                let expected: Vec<_> = (next..next + more).map(|number| number.to_string()).collect();
                prop_assert_eq!(numbers(&records), expected);
                next += more;
                if next > 0 {
                    prop_assert_eq!(cursor.position(), after(next - 1));
                }
            }
        }
    }
}
