//! What people want of replicas while workers run: that they pause, and that they go on from elsewhere.
//!
//! ```text
//!  dynamirror pause | resume | seek ──> row of a replica ──> every worker, within seconds ──> shards hold, or are reset
//!                                       (control table)      (`watch`)          (`obey`)
//! ```
//!
//! A [`Wish`] is kept as one row per replica, so it survives every restart. All workers read all rows every second or
//! two; before a worker has read them once it writes to no replica.
//!
//! A *pause* holds a replica: what was read is applied and checkpointed, nothing more is read for it, leases are kept,
//! and its lag grows.
//!
//! A *seek* has an epoch, and each checkpoint names the epoch that it belongs to. Whoever holds the lease of a shard
//! settles what is under way for the replica, and writes the checkpoint that the seek asks for; rows that nobody
//! holds are written by any worker. A replica is read again, anywhere, only when *all* rows of its replication have its
//! newest epoch ([`may_run`]): nobody replays while another still writes what is newer. From then on the rule that a
//! child waits for its parent's end keeps the order, as it does at a first start.
//!
//! A seek may follow another that some rows have obeyed and others have not. The wish keeps both, and every row obeys
//! them in their order ([`Wish::with_seek`]): nothing was read between the two, so all rows come to where they would be
//! if the second had been asked for after everybody had obeyed the first. Were the first forgotten, a shard that had
//! ended before the second's time would stay ended, while its parent and its children, which had obeyed the first, are
//! replayed around it.
//!
//! A worker that has not heard of a seek yet may make the row of a new shard meanwhile, with an older epoch. That
//! holds everybody again until the row has followed; what was written from it is replayed in its place.

mod obey;
mod row;
mod wanted;
mod watch;

use std::collections::BTreeMap;

use crate::shard::{SequenceNumber, ShardId};

pub use obey::{
    Change, Effect, Relation, Sought, Step, is_behind, may_run, obey, obeyed_epoch, relation, sought,
};
pub use row::Store;
pub(super) use wanted::{ABSENT_LISTINGS, Wanted, is_listed};
pub(super) use watch::{Known, watch};

/// What people want of one replica.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// Since when it is to pause, in milliseconds since 1970; `None` when it is to run.
    pub paused_unix_ms: Option<i64>,
    /// The last seek.
    pub seek: Option<Seek>,
    /// Seeks before it that some row may not have obeyed, oldest first.
    pub earlier: Vec<Seek>,
    /// How often the row was written; zero when there is none.
    pub version: i64,
}

/// That a replica goes on from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seek {
    /// Its number: when it was asked for, in milliseconds since 1970, and more than that of every seek before.
    pub epoch: i64,
    /// Where to.
    pub target: Target,
    /// Whether changes that are not applied yet may be passed over. Where this is not so, a checkpoint that lies
    /// before the target stays where it is.
    pub may_skip: bool,
}

/// Where a seek goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// To the oldest change that the stream holds.
    TrimHorizon,
    /// To the first change made at this time or later.
    Time {
        /// The time, in milliseconds since 1970.
        unix_ms: i64,
    },
    /// In one shard, to the change after this one, and in all that came from it to the beginning. Others stay where
    /// they are.
    After {
        /// The shard.
        shard: ShardId,
        /// The last change that is not wanted again.
        sequence: SequenceNumber,
    },
}

/// What people want of all replicas.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    by_replica: BTreeMap<(String, String), Wish>,
}

// === impl Wish ===

impl Wish {
    /// The number of the last seek; zero when there was none.
    pub fn epoch(&self) -> i64 {
        self.seek.as_ref().map_or(0, |seek| seek.epoch)
    }

    /// The wish with one more seek. Those before it are kept for the rows that have not obeyed them, unless all rows have
    /// (those up to `obeyed_epoch`), or the new one leaves nothing of them: it takes every shard to its beginning.
    #[must_use]
    pub fn with_seek(self, seek: Seek, obeyed_epoch: i64) -> Self {
        let mut earlier = self.earlier;
        earlier.extend(self.seek);
        earlier.retain(|before| before.epoch > obeyed_epoch && seek.target != Target::TrimHorizon);
        Self { seek: Some(seek), earlier, ..self }
    }

    /// Seeks with a greater number than `epoch`, oldest first.
    pub fn seeks_after(&self, epoch: i64) -> impl Iterator<Item = &Seek> {
        self.earlier.iter().chain(&self.seek).filter(move |seek| seek.epoch > epoch)
    }

    /// Whether the replica is to pause.
    pub fn is_paused(&self) -> bool {
        self.paused_unix_ms.is_some()
    }
}

// === impl Wishes ===

impl Wishes {
    /// What is wanted of a replica; without a row of it, that it runs.
    pub fn of(&self, replication: &str, replica: &str) -> Wish {
        let key = (replication.to_owned(), replica.to_owned());
        self.by_replica.get(&key).cloned().unwrap_or_default()
    }

    /// Takes note of a wish.
    pub fn insert(&mut self, replication: &str, replica: &str, wish: Wish) {
        self.by_replica.insert((replication.to_owned(), replica.to_owned()), wish);
    }
}

#[cfg(test)]
mod tests;
