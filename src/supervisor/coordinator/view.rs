//! How far the whole fleet is, and which shards nobody reads: plain decisions from the rows of the control table.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::checkpoint::Checkpoint;
use crate::lease::{Observer, Row, Rows};
use crate::shard::ShardId;
use crate::telemetry::FleetShards;

/// A replication as its rows show it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct View {
    /// What is done with its shards.
    pub(super) shards: FleetShards,
    /// For each replica asked for, in that order, what is proven to be in it.
    pub(super) watermarks: Vec<Option<Watermark>>,
}

/// Every change of the source made up to here is in a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Watermark {
    pub(super) through_unix_ms: i64,
    /// What shows it, for the shard that is furthest behind.
    pub(super) proof: Proof,
}

/// What shows that nothing older is missing; the weaker first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Proof {
    /// A few empty polls in a row, which the service may answer although records follow.
    EmptyPolls,
    /// A record that was applied, or a silence so long that no record can follow it.
    Records,
}

/// Which holders of leases still renew them, by this worker's own clock.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    seen: Observer<ShardId>,
}

/// What `rows`, all of one replication, say about `replicas`. `silent` are the shards whose holder does not renew.
pub(super) fn view(rows: &[Row], replicas: &[&str], silent: &BTreeSet<ShardId>) -> View {
    let known = Rows::new(rows);
    let mut shards = FleetShards::default();
    for row in rows {
        let is_held = row.owner.is_some() && !silent.contains(&row.shard);
        let count = if replicas.iter().all(|replica| row.is_done_for(replica)) {
            &mut shards.ended
        } else if replicas.iter().any(|replica| row.gap_of(replica).is_some()) {
            &mut shards.gap
        } else if is_held {
            &mut shards.owned
        } else if replicas.iter().any(|replica| known.can_be_read(row, replica)) {
            &mut shards.unowned
        } else {
            &mut shards.waiting
        };
        *count += 1;
    }
    let of = |replica: &str| known.least(replica, |row| row.checkpoints.get(replica).and_then(proven));
    let watermarks = replicas.iter().map(|replica| of(replica)).collect();
    View { shards, watermarks }
}

// === impl Pulse ===

impl Pulse {
    /// The shards of `rows`, as they were read at `now`, whose holder's counter stood still for longer than `duration`.
    pub(super) fn silent(&mut self, rows: &[Row], duration: Duration, now: Instant) -> BTreeSet<ShardId> {
        let held: BTreeMap<_, _> =
            rows.iter().filter(|row| row.owner.is_some()).map(|row| (&row.shard, row.counter)).collect();
        self.seen.retain(|shard| held.contains_key(shard));
        let mut silent = BTreeSet::new();
        for (shard, counter) in held {
            if self.seen.look(shard.clone(), counter, now) > duration {
                silent.insert(shard.clone());
            }
        }
        silent
    }
}

fn proven(checkpoint: &Checkpoint) -> Option<Watermark> {
    let through_unix_ms = checkpoint.applied_through_unix_ms?;
    let proof = match through_unix_ms <= checkpoint.read_through_unix_ms {
        true => Proof::Records,
        false => Proof::EmptyPolls,
    };
    Some(Watermark { through_unix_ms, proof })
}

#[cfg(test)]
mod tests;
