//! The wishes for one replication, seen together with its rows.

use std::collections::{BTreeMap, BTreeSet};

use super::{Sought, Wish, is_behind, may_run, obey, sought};
use crate::lease::Row;
use crate::shard::ShardId;
use crate::stream::Lineage;

/// What people want of the replicas of one replication, and which of them may be read for.
#[derive(Debug, Clone, Default)]
pub(in crate::supervisor) struct Wanted {
    /// Each wish, and whether the replica may be read for; none as long as nobody knows.
    by_replica: BTreeMap<String, (Wish, bool)>,
    /// Shards that no listing shows, and that were found to be gone.
    vanished: BTreeSet<ShardId>,
}

/// Full listings in a row that a shard must be missing from to count as gone: one may be inconsistent.
pub(in crate::supervisor) const ABSENT_LISTINGS: u32 = 2;

// === impl Wanted ===

impl Wanted {
    /// `wishes` are for all replicas, or for none while they are not known.
    pub(in crate::supervisor) fn new(wishes: BTreeMap<String, Wish>, rows: &BTreeMap<ShardId, Row>) -> Self {
        let judge = |(replica, wish): (String, Wish)| {
            let runs = may_run(&wish, &replica, rows.values());
            (replica, (wish, runs))
        };
        Self { by_replica: wishes.into_iter().map(judge).collect(), vanished: BTreeSet::new() }
    }

    /// With shards that no listing shows, and that were found to be gone.
    pub(in crate::supervisor) fn without(self, vanished: &BTreeSet<ShardId>) -> Self {
        Self { vanished: vanished.clone(), ..self }
    }

    /// Whether `replica` may be read for, as far as people are concerned.
    pub(in crate::supervisor) fn runs(&self, replica: &str) -> bool {
        self.by_replica.get(replica).is_some_and(|(_, runs)| *runs)
    }

    /// What seeks of `replica` ask of `row`'s shard; `None` too while it is not known whether the stream has the shard. A
    /// worker may take the lease of one that its listings have not shown yet, and must not leave it where it is.
    pub(in crate::supervisor) fn sought(
        &self,
        row: &Row,
        replica: &str,
        rows: &BTreeMap<ShardId, Row>,
        lineage: &Lineage,
    ) -> Option<Sought> {
        let (wish, _) = self.by_replica.get(replica)?;
        let is_listed = is_listed(&row.shard, lineage);
        if !is_listed && !self.vanished.contains(&row.shard) {
            return None;
        }
        sought(row, replica, wish, rows, is_listed)
    }

    /// Whether `row` has not obeyed a seek yet.
    pub(in crate::supervisor) fn is_behind(&self, row: &Row) -> bool {
        self.by_replica.iter().any(|(replica, (wish, _))| is_behind(row, replica, wish))
    }

    /// `row` as the newest seeks make it.
    pub(in crate::supervisor) fn obeyed(
        &self,
        row: &Row,
        rows: &BTreeMap<ShardId, Row>,
        is_listed: bool,
    ) -> Option<Row> {
        let wishes = self.by_replica.iter().map(|(replica, (wish, _))| (replica.as_str(), wish));
        obey(row, wishes, rows, is_listed)
    }

    /// Whether every replica was sought since `row`, which is of a stream that is gone, was written.
    pub(in crate::supervisor) fn leave_behind(&self, row: &Row) -> bool {
        let follows = |(replica, (wish, _)): (&String, &(Wish, bool))| is_behind(row, replica, wish);
        !self.by_replica.is_empty() && self.by_replica.iter().all(follows)
    }

    /// Whether a replica is not read for, because some row of its has not obeyed a seek that others know of.
    pub(in crate::supervisor) fn waits(&self) -> bool {
        self.by_replica.values().any(|(wish, runs)| !runs && !wish.is_paused())
    }
}

/// Whether the stream still shows a shard.
pub(in crate::supervisor) fn is_listed(shard: &ShardId, lineage: &Lineage) -> bool {
    lineage.get(shard).is_some() && lineage.absences(shard) < ABSENT_LISTINGS
}
