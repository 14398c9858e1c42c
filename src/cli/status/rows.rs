//! The rows of one replication, to ask about: what waits, what is proven, which seeks are obeyed.

use super::report::Shards;
use crate::lease::{self, Row};
use crate::supervisor::desired::{self, Wish};

/// A replication's shards and the names of its replicas.
pub(in crate::cli) struct Rows<'a> {
    rows: &'a [Row],
    replicas: Vec<&'a str>,
    known: lease::Rows<'a>,
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
        Self { rows, replicas: replicas.collect(), known: lease::Rows::new(rows) }
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

    /// Every change of the source that was made up to this time is in a replica; `None` when no time is proven.
    pub(in crate::cli) fn applied_through_unix_ms(&self, replica: &str) -> Option<i64> {
        self.known.watermark_unix_ms(replica)
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
        !self.replicas.iter().any(|replica| self.known.can_be_read(row, replica))
    }
}
