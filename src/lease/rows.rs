//! All rows of one stream together: which shards can be read, and how far a replica is in all of them.
//!
//! A replica's *watermark* is the time up to which every change of the source is in it. Each shard proves one of its own;
//! the least of those that [bound](Rows::bounding) the replica holds for the whole stream. That is every shard that the
//! replica does not have all of, whoever holds it, but for those that wait for their parents, whose changes all come
//! after what their parents still lack. A shard that ended bounds as well until its child has a row, because what the
//! child holds comes after it.
//!
//! The answer is from the rows alone, so a shard that nobody reads freezes it, and one of which nothing is proven leaves
//! nothing proven of all.

use std::collections::{BTreeMap, BTreeSet};

use super::row::Row;
use crate::shard::ShardId;

/// Rows of one stream, with the means to find parents and children.
#[derive(Debug)]
pub struct Rows<'a> {
    by_shard: BTreeMap<&'a ShardId, &'a Row>,
    with_children: BTreeSet<&'a ShardId>,
}

// === impl Rows ===

impl<'a> Rows<'a> {
    /// `rows`, which are all that there are of a stream.
    pub fn new(rows: impl IntoIterator<Item = &'a Row>) -> Self {
        let by_shard: BTreeMap<_, _> = rows.into_iter().map(|row| (&row.shard, row)).collect();
        let with_children = by_shard.values().filter_map(|row| row.parent.as_ref()).collect();
        Self { by_shard, with_children }
    }

    /// Whether `replica` needs the row's shard, and has all of its parent. A parent without a row was never tracked.
    pub fn can_be_read(&self, row: &Row, replica: &str) -> bool {
        !row.is_done_for(replica) && self.parent(row).is_none_or(|parent| parent.is_done_for(replica))
    }

    /// Every change of the source that was made up to this time, in milliseconds since 1970, is in `replica`; `None` when
    /// no time is proven.
    pub fn watermark_unix_ms(&self, replica: &str) -> Option<i64> {
        self.least(replica, applied_through(replica))
    }

    /// What all shards together have reached, where `of` says what a row proves by itself: more than nothing where it
    /// has a time at all.
    pub fn least<T: Ord>(&self, replica: &str, of: impl Fn(&Row) -> Option<T>) -> Option<T> {
        // `None` is the least: one shard of which nothing is known leaves nothing proven.
        self.bounding(replica).map(|row| self.reached(row, replica, &of)).min().flatten()
    }

    /// The rows of the shards that say how far `replica` is, in the order of their ids.
    pub fn bounding<'b>(&'b self, replica: &'b str) -> impl Iterator<Item = &'a Row> + 'b {
        // A shard that ended before the replica's start has no time, and nothing that the replica wants.
        let has_time = |row: &Row| self.reached(row, replica, applied_through(replica)).is_some();
        let bounds = move |row: &&Row| match row.is_done_for(replica) {
            true => self.is_last(row) && has_time(row),
            false => self.can_be_read(row, replica),
        };
        self.by_shard.values().copied().filter(bounds)
    }

    /// What a row proves by itself, as `of` says, or by its parent's end: all of its records are newer than that.
    pub fn reached<T: Ord>(&self, row: &Row, replica: &str, of: impl Fn(&Row) -> Option<T>) -> Option<T> {
        let inherited = self.parent(row).filter(|parent| parent.is_done_for(replica)).and_then(&of);
        of(row).max(inherited)
    }

    /// Whether what comes after the row's shard is not known yet. A row that expires has had children, whose rows may be
    /// gone before it.
    fn is_last(&self, row: &Row) -> bool {
        row.expires_unix_s.is_none() && !self.with_children.contains(&row.shard)
    }

    fn parent(&self, row: &Row) -> Option<&'a Row> {
        self.by_shard.get(row.parent.as_ref()?).copied()
    }
}

fn applied_through(replica: &str) -> impl Fn(&Row) -> Option<i64> {
    move |row| row.checkpoints.get(replica)?.applied_through_unix_ms
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::row::State;
    use super::*;
    use crate::checkpoint::Checkpoint;
    use crate::shard::Position;

    fn checkpoint(position: Position, through: Option<i64>) -> Checkpoint {
        Checkpoint { position, applied_through_unix_ms: through, read_through_unix_ms: 0, epoch: 0 }
    }

    fn row(shard: &str, parent: Option<&str>, checkpoint: Option<Checkpoint>) -> Row {
        Row {
            shard: shard.into(),
            stream: "arn".into(),
            parent: parent.map(ShardId::from),
            owner: None,
            handed_to: None,
            load: None,
            counter: 1,
            state: State::Open,
            checkpoints: checkpoint.map(|it| ("a".to_owned(), it)).into_iter().collect(),
            gaps: BTreeMap::new(),
            expires_unix_s: None,
        }
    }

    fn open(shard: &str, parent: Option<&str>, through: Option<i64>) -> Row {
        row(shard, parent, Some(checkpoint(Position::TrimHorizon, through)))
    }

    fn ended(shard: &str, parent: Option<&str>, through: Option<i64>) -> Row {
        row(shard, parent, Some(checkpoint(Position::End, through)))
    }

    fn watermark(rows: &[Row]) -> Option<i64> {
        Rows::new(rows).watermark_unix_ms("a")
    }

    #[test]
    fn the_shard_that_is_furthest_behind_says_how_far_all_are() {
        assert_eq!(watermark(&[]), None);
        assert_eq!(watermark(&[open("s", None, Some(900)), open("t", None, Some(100))]), Some(100));
        assert_eq!(watermark(&[open("s", None, Some(900)), open("t", None, None)]), None);
        assert_eq!(watermark(&[open("s", None, Some(900)), row("t", None, None)]), None, "not begun");
    }

    #[test]
    fn what_waits_for_its_parent_does_not_count_and_then_has_what_its_parent_proves() {
        let child = open("c", Some("p"), None);
        assert_eq!(watermark(&[open("p", None, Some(500)), child.clone()]), Some(500));
        assert_eq!(watermark(&[ended("p", None, Some(700)), child]), Some(700));
        assert_eq!(watermark(&[ended("p", None, Some(700)), open("c", Some("p"), Some(800))]), Some(800));
        assert_eq!(watermark(&[open("c", Some("never tracked"), Some(5))]), Some(5));
    }

    #[test]
    fn a_shard_that_ended_counts_until_its_child_has_a_row() {
        let other = open("t", None, Some(900));
        assert_eq!(watermark(&[ended("p", None, Some(100)), other.clone()]), Some(100));
        let child = open("c", Some("p"), Some(800));
        assert_eq!(watermark(&[ended("p", None, Some(100)), child, other.clone()]), Some(800));
        assert_eq!(watermark(&[ended("old", None, None), other.clone()]), Some(900), "before the start");
        let expiring = Row { expires_unix_s: Some(1), ..ended("p", None, Some(100)) };
        assert_eq!(watermark(&[expiring, other]), Some(900), "its child's row expired before its own");
    }

    prop_compose! {
        /// Rows of a forest: each one's parent is an earlier one, or never tracked.
        fn any_rows()(
            rows in prop::collection::vec(
                (prop::option::of(0..12_usize), prop::option::of(0..1_000_i64), any::<bool>()),
                0..12,
            ),
        ) -> Vec<Row> {
            let made = rows.into_iter().enumerate().map(|(number, (parent, through, is_done))| {
                let parent = parent.filter(|parent| *parent != number).map(|parent| match parent < number {
                    true => format!("s{parent}"),
                    false => format!("never tracked {parent}"),
                });
                let make = if is_done { ended } else { open };
                make(&format!("s{number}"), parent.as_deref(), through)
            });
            made.collect()
        }
    }

    proptest! {
        #[test]
        fn no_shard_that_can_be_read_is_behind_the_watermark(rows in any_rows()) {
            let known = Rows::new(&rows);
            let watermark = known.watermark_unix_ms("a");
            for row in rows.iter().filter(|row| known.can_be_read(row, "a")) {
                prop_assert!(watermark <= known.reached(row, "a", applied_through("a")));
            }
        }

        #[test]
        fn every_shard_that_is_not_done_waits_for_one_that_bounds(rows in any_rows()) {
            let known = Rows::new(&rows);
            let bounding: BTreeSet<_> = known.bounding("a").map(|row| &row.shard).collect();
            for row in rows.iter().filter(|row| !row.is_done_for("a")) {
                let mut line = std::iter::successors(Some(row), |row| known.parent(row));
                prop_assert!(line.any(|row| bounding.contains(&row.shard)), "{}", row.shard);
            }
        }

        #[test]
        fn the_end_of_a_shard_never_lowers_the_watermark(rows in any_rows(), ending in any::<prop::sample::Index>()) {
            prop_assume!(!rows.is_empty());
            let before = watermark(&rows);
            let mut after = rows;
            let ending = ending.index(after.len());
            prop_assume!(Rows::new(&after).can_be_read(&after[ending], "a"));
            after[ending].checkpoints.get_mut("a").expect("every row has one").position = Position::End;
            // Its children have what it proves, or it says so itself until they are there.
            prop_assert!(watermark(&after) >= before, "{before:?} became {:?}", watermark(&after));
        }
    }
}
