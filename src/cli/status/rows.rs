//! The rows of one replication, to ask about: what waits, what is proven, which seeks are obeyed.

use std::collections::{BTreeMap, BTreeSet};

use super::report::Shards;
use crate::lease::Row;
use crate::shard::ShardId;
use crate::supervisor::desired::{self, Wish};

/// A replication's shards and the names of its replicas.
pub(in crate::cli) struct Rows<'a> {
    rows: &'a [Row],
    replicas: Vec<&'a str>,
    by_shard: BTreeMap<&'a ShardId, &'a Row>,
}

/// How far workers are with a seek.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) struct Followed {
    /// Shards that have not followed yet.
    pub(in crate::cli) behind: u64,
    /// All shards.
    pub(in crate::cli) shards: u64,
}

// === impl Rows ===

impl<'a> Rows<'a> {
    /// `rows` of a replication with these `replicas`.
    pub(in crate::cli) fn new(rows: &'a [Row], replicas: impl Iterator<Item = &'a str>) -> Self {
        let by_shard = rows.iter().map(|row| (&row.shard, row)).collect();
        Self { rows, replicas: replicas.collect(), by_shard }
    }

    /// How many shards there are of each kind.
    pub(super) fn shards(&self) -> Shards {
        let mut shards = Shards::default();
        for row in self.rows {
            let count = if self.is_done(row) {
                &mut shards.ended
            } else if row.is_gap() {
                &mut shards.gap
            } else if row.owner.is_some() {
                &mut shards.active
            } else if self.waits(row) {
                &mut shards.waiting
            } else {
                &mut shards.unowned
            };
            *count += 1;
        }
        shards
    }

    /// The least of all shards that the replica does not have all of, but for those that wait for their parents. A shard
    /// that ended counts until its child has a row, because what the child holds comes after it; one whose row expires
    /// has had children. With none of all these, the newest that any shard has proven.
    pub(in crate::cli) fn applied_through_unix_ms(&self, replica: &str) -> Option<i64> {
        let through = |row: &Row| row.checkpoints.get(replica)?.applied_through_unix_ms;
        let with_children: BTreeSet<_> = self.rows.iter().filter_map(|row| row.parent.as_ref()).collect();
        let counts = |row: &&Row| match row.is_done_for(replica) {
            true => {
                let is_last = !with_children.contains(&row.shard) && row.expires_unix_s.is_none();
                is_last && through(row).is_some()
            }
            false => !self.waits_for(row, replica),
        };
        // `None` is the least: one shard that proves nothing leaves nothing proven.
        let least = self.rows.iter().filter(counts).map(through).min();
        least.unwrap_or_else(|| self.rows.iter().filter_map(through).max())
    }

    /// How far the last seek of a replica is obeyed.
    pub(in crate::cli) fn followed(&self, replica: &str, wish: &Wish) -> Followed {
        let behind = self.rows.iter().filter(|row| desired::is_behind(row, replica, wish));
        Followed { behind: behind.count() as u64, shards: self.rows.len() as u64 }
    }

    /// Whether a shard can no longer be read for a replica.
    pub(super) fn has_gap(&self, replica: &str) -> bool {
        self.rows.iter().any(|row| row.gap_of(replica).is_some())
    }

    fn is_done(&self, row: &Row) -> bool {
        self.replicas.iter().all(|replica| row.is_done_for(replica))
    }

    fn waits(&self, row: &Row) -> bool {
        let unfinished = |replica: &&&str| !row.is_done_for(replica);
        self.replicas.iter().filter(unfinished).all(|replica| self.waits_for(row, replica))
    }

    fn waits_for(&self, row: &Row, replica: &str) -> bool {
        let parent = row.parent.as_ref().and_then(|parent| self.by_shard.get(parent));
        parent.is_some_and(|parent| !parent.is_done_for(replica))
    }
}
