//! How far a reader is, and whether another one can go on for it.

use crate::shard::Position;

/// How far one reader of a shard is. Two readers of the same shard are compared by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// After what was read; the start while nothing was.
    pub position: Position,
    /// Everything made up to this time, in milliseconds since 1970, is known to be read or was never wanted.
    pub read_through_unix_ms: Option<i64>,
    /// The same, as far as nothing but lasting silence tells it: by this worker's clock alone.
    pub quiet_through_unix_ms: Option<i64>,
    /// When the position last moved, by this worker's clock; the reader's start while it did not.
    pub moved_unix_ms: i64,
    /// Records made before this time are left out still, in milliseconds since 1970: the first that is not has not come.
    pub leaves_out_before_unix_ms: Option<i64>,
}

/// By how much a lasting silence must outlast the time before which a reader leaves records out, for none of those to
/// come to be meant any more: as much as clocks may differ that records' times and silence are told by.
const CLOCKS_DIFFER_MS: i64 = 10_000;

// === impl Place ===

impl Place {
    /// Whether who has read up to here misses nothing when `live` reads on for it, if records up to this position are
    /// left out then. That is so
    ///
    /// - when `live` stands at or before this position, since both are numbers of one shard, whose records are ordered
    ///   by them: what comes next from `live` begins at or before what is missing here;
    /// - when neither has read anything and both want the same: the same start by time, or all that was not trimmed
    ///   since the same moment;
    /// - when this one has read all that was made before `live` moved for the last time: `live` has read nothing since,
    ///   so there is nothing between the two.
    ///
    /// Never while one of them leaves records out by their time that the other does not: it passes over what it leaves
    /// out, so its position says nothing to the other.
    pub fn may_follow(&self, live: &Self) -> bool {
        let leaves_out_the_same = self.leaves_out_before_unix_ms == live.leaves_out_before_unix_ms;
        let reaches = match (live.position, self.position) {
            (Position::After(live), Position::After(own)) => live <= own,
            (Position::TrimHorizon, Position::TrimHorizon) => {
                self.read_through_unix_ms == live.read_through_unix_ms
            }
            (live, own) => live == own,
        };
        let leaves_out_nothing_new = |through: i64| {
            live.leaves_out_before_unix_ms.is_none_or(|before| before + CLOCKS_DIFFER_MS <= through)
        };
        let is_quiet = |through| through >= live.moved_unix_ms && leaves_out_nothing_new(through);
        reaches && leaves_out_the_same || self.quiet_through_unix_ms.is_some_and(is_quiet)
    }

    /// Whether this is further than `other`, or as far; positions that cannot be compared are ordered by their kind.
    pub fn is_as_far_as(&self, other: &Self) -> bool {
        !matches!(self.position.partial_cmp(&other.position), Some(std::cmp::Ordering::Less))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::script::after;

    fn at(position: Position) -> Place {
        Place {
            position,
            read_through_unix_ms: Some(100),
            quiet_through_unix_ms: None,
            moved_unix_ms: 1_000,
            leaves_out_before_unix_ms: None,
        }
    }

    #[test]
    fn who_is_at_or_beyond_a_reader_may_follow_it_and_who_is_behind_may_not() {
        let live = at(after(100));
        assert!(at(after(100)).may_follow(&live) && at(after(101)).may_follow(&live));
        assert!(!at(after(99)).may_follow(&live));
        assert!(!at(Position::TrimHorizon).may_follow(&live));
        assert!(!live.may_follow(&at(Position::Latest { since_unix_ms: 5 })), "it starts somewhere unknown");
    }

    #[test]
    fn starts_are_shared_by_those_who_want_the_same() {
        let horizon = at(Position::TrimHorizon);
        assert!(horizon.may_follow(&horizon));
        let later = Place { read_through_unix_ms: Some(101), ..horizon };
        assert!(!later.may_follow(&horizon), "what was trimmed between the two was wanted by one");
        let latest = |since_unix_ms| at(Position::Latest { since_unix_ms });
        assert!(latest(5).may_follow(&latest(5)) && !latest(5).may_follow(&latest(6)));
    }

    /// Seeds 6577 and 7710 of the simulation: a reader that passes over what is older than its start, at the position of
    /// one that wants all of it.
    #[test]
    fn who_leaves_records_out_is_followed_by_nobody_who_does_not() {
        let filters = |number, before| Place { leaves_out_before_unix_ms: before, ..at(after(number)) };
        assert!(!filters(100, None).may_follow(&filters(100, Some(5_000))));
        assert!(!filters(100, Some(5_000)).may_follow(&filters(100, None)));
        assert!(!filters(100, Some(4_000)).may_follow(&filters(100, Some(5_000))));
        assert!(filters(100, Some(5_000)).may_follow(&filters(100, Some(5_000))));
        let quiet = |through| Place { quiet_through_unix_ms: Some(through), ..filters(100, None) };
        assert!(!quiet(14_999).may_follow(&filters(100, Some(5_000))));
        assert!(quiet(15_000).may_follow(&filters(100, Some(5_000))), "all that comes now is newer");
    }

    #[test]
    fn lasting_silence_tells_that_nothing_lies_between() {
        let live = at(after(100));
        let quiet = |through| Place {
            quiet_through_unix_ms: Some(through),
            ..at(Position::Latest { since_unix_ms: 5 })
        };
        assert!(!quiet(999).may_follow(&live), "the reader may have moved over something new since");
        assert!(quiet(1_000).may_follow(&live));
    }
}
